/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_segtab.c - the segment table: entries, used blocks and free batches, checked row by row and kept
 * for the space pass.
 */
#include "ck.h"

static const struct kvsck_tree segtab = { .id = KVF_TREE_SEGTAB };

static void bad_key(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e, const char *what)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);

	kvsck_problem(ck, KVF_F_table_key, &at, "%s", what);
}

/* Set bits of a TREE segment's bitmap count for all blocks of their units. */
static void take_bitmap(struct kvsck *ck, u32 segment, const u8 *map, u32 len)
{
	u64 first = (u64)segment << (ck->g.segment_shift - ck->g.block_shift);
	u32 i, k, unit = 1u << ck->g.unit_shift;

	for (i = 0; i < len * 8 && (i + 1) * unit <= ck->g.seg_blocks; i++)
		for (k = 0; k < unit && kvsck_bit(map, i); k++)
			kvsck_bit_set(ck->marked, first + (u64)i * unit + k);
}

static bool kind_fits(u32 segment, u8 kind)
{
	switch (segment) {
	case KVF_SEG_SUPER_A:
	case KVF_SEG_SUPER_B:
		return kind == KVF_KIND_SUPER;
	case KVF_SEG_TAIL:
		return kind == KVF_KIND_TAIL;
	}
	return kind == KVF_KIND_FREE || kind == KVF_KIND_LOG || kind == KVF_KIND_TREE;
}

static void take_segment(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_segment_entry se;
	struct kvsck_seg *s;
	u32 segment;
	int finding;

	if (e->key_len != 5) {
		bad_key(ck, w, e, "a segment's key has 5 bytes");
		return;
	}
	segment = kvf_get_be32(e->key + 1);
	if (segment >= le64_to_cpu(ck->sb.segments)) {
		bad_key(ck, w, e, "a segment outside of the volume");
		return;
	}
	finding = kvf_segment_entry_verify(e->body, e->body_len, &ck->g);
	if (!finding)
		memcpy(&se, e->body, sizeof(se));
	if (finding || !kind_fits(segment, se.kind)) {
		kvsck_problem(ck, KVF_F_table_entry, &at, "segment %u", segment);
		return;
	}
	if (segment >= ck->segments) /* the volume is shorter than it should be: said already */
		return;
	s = &ck->seg[segment];
	s->state |= KVSCK_SEG_ENTRY;
	s->gen = le32_to_cpu(se.gen);
	s->kind = se.kind;
	s->flags = se.flags;
	s->live = le64_to_cpu(se.live);
	s->pinned = le64_to_cpu(se.pinned);
	s->last_lsn = le64_to_cpu(se.last_lsn);
	s->incarnation = le32_to_cpu(se.incarnation);
	take_bitmap(ck, segment, e->body + sizeof(se), le16_to_cpu(se.bitmap_len));
}

static bool free_fits(struct kvsck *ck, const struct kvf_free *f, u64 gen)
{
	u32 segment = le32_to_cpu(f->segment), block = le32_to_cpu(f->block);
	u32 blocks = le32_to_cpu(f->blocks);

	if (segment < KVF_SEG_FIRST || segment >= le64_to_cpu(ck->sb.segments) ||
	    f->reserved != cpu_to_le32(0) || le64_to_cpu(f->birth) > gen)
		return false;
	if (blocks == KVF_FREE_WHOLE)
		return !block;
	return block && blocks && block < ck->g.seg_blocks && blocks <= ck->g.seg_blocks - block &&
	       !(block & ((1u << ck->g.unit_shift) - 1));
}

/* Whether the places are marked used, and by nobody in use, is for the space pass to say. */
static void take_free(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e,
		      const struct kvf_free *f, u64 gen)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	u32 segment = le32_to_cpu(f->segment), i, blocks = le32_to_cpu(f->blocks);
	u64 first = ((u64)segment << (ck->g.segment_shift - ck->g.block_shift)) + le32_to_cpu(f->block);

	if (!free_fits(ck, f, gen)) {
		kvsck_problem(ck, KVF_F_batch_entry, &at, "segment %u, block %u, %u blocks, born in %llu",
			      segment, le32_to_cpu(f->block), blocks, le64_to_cpu(f->birth));
		return;
	}
	if (segment >= ck->segments)
		return;
	if (blocks == KVF_FREE_WHOLE) {
		if (ck->seg[segment].state & KVSCK_SEG_WHOLE)
			kvsck_problem(ck, KVF_F_batch_entry, &at, "segment %u is freed twice", segment);
		ck->seg[segment].state |= KVSCK_SEG_WHOLE;
		return;
	}
	/* whole units are taken and freed */
	blocks = (u32)KVF_ROUND_UP(blocks, 1u << ck->g.unit_shift);
	for (i = 0; i < blocks; i++) {
		if (kvsck_bit(ck->batched, first + i)) {
			kvsck_problem(ck, KVF_F_batch_entry, &at, "segment %u, block %u is freed twice",
				      segment, le32_to_cpu(f->block) + i);
			return;
		}
		kvsck_bit_set(ck->batched, first + i);
	}
}

static void take_batch(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_free f;
	u64 gen;
	u32 i;

	if (e->key_len != 13) {
		bad_key(ck, w, e, "a free batch's key has 13 bytes");
		return;
	}
	gen = kvf_get_be64(e->key + 1);
	if (gen > le64_to_cpu(ck->sb.generation) || !e->body_len || e->body_len % sizeof(f)) {
		kvsck_problem(ck, KVF_F_batch_entry, &at, "generation %llu, %u bytes", gen, e->body_len);
		return;
	}
	for (i = 0; i < e->body_len; i += sizeof(f)) {
		memcpy(&f, e->body + i, sizeof(f));
		take_free(ck, w, e, &f, gen);
	}
}

/* Is there a snapshot that needs what is in the list? */
static bool is_needed(const struct kvsck *ck, u64 list, u64 oldest)
{
	const struct kvsck_snap *s = ck->snaps.p;
	size_t i;

	for (i = 0; i < ck->snaps.nr; i++)
		if (s[i].generation >= oldest && s[i].generation <= list)
			return true;
	return false;
}

/* A page, or with block 0 bytes of records. False: impossible. */
static bool take_listed(struct kvsck *ck, const struct kvf_free *f, u64 oldest, bool needed)
{
	u32 segment = le32_to_cpu(f->segment), blocks = le32_to_cpu(f->blocks), i;
	u64 first = ((u64)segment << (ck->g.segment_shift - ck->g.block_shift)) + le32_to_cpu(f->block);

	if (f->block == cpu_to_le32(0)) {
		if (segment < KVF_SEG_FIRST || segment >= le64_to_cpu(ck->sb.segments) || !blocks ||
		    blocks > ck->g.segment || f->reserved != cpu_to_le32(0) || f->birth != cpu_to_le64(0))
			return false;
		if (segment < ck->segments) {
			ck->seg[segment].listed += blocks;
			ck->seg[segment].orphaned += needed ? 0 : blocks;
		}
		return true;
	}
	if (!free_fits(ck, f, oldest) || blocks == KVF_FREE_WHOLE || f->birth == cpu_to_le64(0))
		return false;
	if (segment >= ck->segments)
		return true;
	blocks = (u32)KVF_ROUND_UP(blocks, 1u << ck->g.unit_shift);
	for (i = 0; i < blocks; i++) {
		if (kvsck_bit(ck->batched, first + i) || kvsck_bit(ck->listed, first + i))
			return false;
		/* what nobody needs is about to be freed */
		kvsck_bit_set(needed ? ck->listed : ck->batched, first + i);
	}
	return true;
}

static void take_list(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_free f;
	u64 list, oldest;
	bool needed;
	u32 i;

	if (e->key_len != 21) {
		bad_key(ck, w, e, "a dead list's key has 21 bytes");
		return;
	}
	list = kvf_get_be64(e->key + 1);
	oldest = kvf_get_be64(e->key + 9);
	if (!oldest || oldest > list || list > le64_to_cpu(ck->sb.generation) || !e->body_len ||
	    e->body_len % sizeof(f)) {
		kvsck_problem(ck, KVF_F_list_entry, &at, "generations %llu and %llu, %u bytes", list, oldest,
			      e->body_len);
		return;
	}
	needed = is_needed(ck, list, oldest);
	for (i = 0; i < e->body_len; i += sizeof(f)) {
		memcpy(&f, e->body + i, sizeof(f));
		if (!take_listed(ck, &f, oldest, needed))
			kvsck_problem(ck, KVF_F_list_entry, &at,
				      "segment %u, block %u, %u blocks, born in %llu, or named twice",
				      le32_to_cpu(f.segment), le32_to_cpu(f.block), le32_to_cpu(f.blocks),
				      le64_to_cpu(f.birth));
	}
}

static void check_dead(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	u32 chunk = KVF_MIN(KVF_DEAD_CHUNK_BYTES, ck->g.frame / 16);
	u32 chunks = (ck->g.segment / KVF_DEAD_GRANULE / 8 + chunk - 1) / chunk;

	if (e->key_len != 9 || kvf_get_be32(e->key + 1) < KVF_SEG_FIRST ||
	    kvf_get_be32(e->key + 1) >= le64_to_cpu(ck->sb.segments) ||
	    kvf_get_be32(e->key + 5) >= chunks || !e->body_len || e->body_len > chunk)
		bad_key(ck, w, e, "malformed bitmap of dead records");
}

static int segtab_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);

	if (e->flags != KVF_CELL_INLINE) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "a row of the table stands in its leaf, plainly");
		return 0;
	}
	switch (e->key[0]) {
	case KVF_SEGTAB_SEGMENT:
		take_segment(ck, w, e);
		return 0;
	case KVF_SEGTAB_BATCH:
		take_batch(ck, w, e);
		return 0;
	case KVF_SEGTAB_DEAD:
		check_dead(ck, w, e);
		return 0;
	case KVF_SEGTAB_LIST:
		take_list(ck, w, e);
		return 0;
	}
	bad_key(ck, w, e, "unknown class");
	return 0;
}

int kvsck_pass_segtab(struct kvsck *ck)
{
	struct kvsck_walk w = { .tree = &segtab, .twin_leaves = true, .entry = segtab_entry };
	struct kvsck_where at = KVSCK_NOWHERE;
	int err = kvsck_walk_tree(ck, &w, &ck->sb.segtab);
	u32 i;

	if (err)
		return err;
	at.tree_id = KVF_TREE_SEGTAB;
	for (i = KVF_SEG_FIRST; i < ck->segments && !w.lost; i++) {
		at.segment = i;
		if (!(ck->seg[i].state & KVSCK_SEG_ENTRY))
			kvsck_problem(ck, KVF_F_table_missing, &at, "%s", "");
	}
	return 0;
}
