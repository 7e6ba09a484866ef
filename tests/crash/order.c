/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * order.c - M0, the order checker; see order.h. Knows format/ and the rules, nothing of the engine.
 *
 * Two shadows of the medium are kept: now, with every write, and durable, with what a flush has covered
 * (a FUA write makes its own bytes durable and nothing else; window stores are un-synced writes).
 * Superblocks are live when they are, or may any moment become, the one that recovery takes: all of
 * those whose generation is at least oldest_intact of the newest one that is durable in both groups.
 *
 * Rules (DESIGN invariants 1 and 4, CONTRACT C3), checked on every write:
 *  R1 no block is changed that a page reachable from a live superblock occupies;
 *  R2 no block is changed that holds a durable record at or above the replay position of a live
 *     superblock, or the record of a value that a live leaf refers to;
 *  R3 the tail place without which the log would end below the attested LSN is not changed;
 *  R4 a superblock is written only when all pages it reaches, both copies, all values that its leaves
 *     refer to, and the log from its replay position to its attested LSN are durable;
 *  R5 the second group gets a superblock only when the first one's is durable; the slot of the newest
 *     durable superblock is not overwritten;
 *  R6 a file is not cut below what a live superblock says is its size.
 * Writing the same bytes again breaks no rule: that is how twins are healed. Nor does writing a log block
 * home whose records tail places and window hold as well: that is how recovery repairs a torn block.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/kvf.h"
#include "tests/crash/order.h"

#define SECTOR 512u
#define PROTECT_PAGE 1u
#define PROTECT_LOG 2u   /* at or above a replay position */
#define PROTECT_VALUE 4u /* a live leaf refers to it */
/* Where log blocks may stand beside home, as bits. */
#define FROM_PLACE(p) (1u << (p))
#define FROM_WINDOW 4u
#define FROM_ALL 7u
#define SUPERS 8u

struct super_seen {
	struct kvf_super sb;
	bool durable[2]; /* in group A, B */
	bool here;	 /* in either shadow */
};

struct order {
	const struct sim *trace;
	u8 *now, *durable, *segment, *save; /* segment, save: scratch */
	u8 leaf[KVF_FRAME_MAX]; /* a compact one, made into a frame */
	u64 now_size, durable_size, cap;
	u8 *protect; /* one byte for each sector */
	struct kvf_geometry g;
	bool known; /* geometry */
	struct super_seen supers[SUPERS];
	unsigned int supers_nr;
	char *why;
	size_t why_len;
	bool broken;
};

static void breaks(struct order *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void breaks(struct order *o, const char *fmt, ...)
{
	va_list ap;

	if (o->broken)
		return;
	o->broken = true;
	va_start(ap, fmt);
	vsnprintf(o->why, o->why_len, fmt, ap);
	va_end(ap);
}

/* ---- superblocks -------------------------------------------------------------------------------- */

static bool find_geometry(struct order *o)
{
	u64 off;

	for (off = 0; !o->known && off + sizeof(struct kvf_super) <= 4 * KVF_BLOCK_MAX &&
		      off + sizeof(struct kvf_super) <= o->durable_size;
	     off += SECTOR) {
		const struct kvf_super *sb = (const void *)(o->durable + off);

		if (!kvf_super_verify(sb, off) && !kvf_geometry_from_super(&o->g, sb))
			o->known = true;
	}
	return o->known;
}

static struct super_seen *super_entry(struct order *o, const struct kvf_super *sb)
{
	unsigned int i;

	for (i = 0; i < o->supers_nr; i++)
		if (o->supers[i].sb.seq == sb->seq)
			return &o->supers[i];
	if (o->supers_nr == SUPERS)
		return NULL;
	memset(&o->supers[o->supers_nr], 0, sizeof(o->supers[0]));
	o->supers[o->supers_nr].sb = *sb;
	return &o->supers[o->supers_nr++];
}

static void find_supers(struct order *o)
{
	unsigned int slot, group;

	o->supers_nr = 0;
	for (slot = 0; slot < KVF_GROUP_SLOTS; slot++) {
		for (group = 0; group < 2; group++) {
			u64 off = kvf_super_offset(&o->g, slot, group);
			const struct kvf_super *d = (const void *)(o->durable + off);
			const struct kvf_super *n = (const void *)(o->now + off);
			struct super_seen *s;

			if (off + SECTOR <= o->durable_size && !kvf_super_verify(d, off)) {
				s = super_entry(o, d);
				if (s)
					s->durable[group] = s->here = true;
			}
			if (off + SECTOR <= o->now_size && !kvf_super_verify(n, off)) {
				s = super_entry(o, n);
				if (s)
					s->here = true;
			}
		}
	}
}

/* Newest superblock that is durable in both groups (both: false: in one at least); NULL: none. */
static const struct super_seen *newest(const struct order *o, bool both)
{
	const struct super_seen *best = NULL;
	unsigned int i;

	for (i = 0; i < o->supers_nr; i++) {
		const struct super_seen *s = &o->supers[i];

		if (both ? !(s->durable[0] && s->durable[1]) : !(s->durable[0] || s->durable[1]))
			continue;
		if (!best || le64_to_cpu(s->sb.seq) > le64_to_cpu(best->sb.seq))
			best = s;
	}
	return best;
}

/* ---- the log ------------------------------------------------------------------------------------ */

struct log_end {
	u64 lsn;	/* of the last record, 0: none */
	u64 attested;	/* highest that a record names */
	u32 segment, offset;
};

static const struct kvf_segment_header *segment_header(const struct order *o, const u8 *image, u64 size,
						       const struct kvf_super *sb, u32 segment, u32 gen)
{
	u64 off = (u64)segment << o->g.segment_shift;
	const struct kvf_segment_header *h = (const void *)(image + off);
	struct kvf_identity id = { .segment = segment, .segment_gen = gen };

	memcpy(id.uuid, sb->uuid, 16);
	if (off + o->g.segment > size || kvf_segment_header_verify(h, &id, KVF_KIND_LOG))
		return NULL;
	return h;
}

/* Bytes of the valid record at offset of o->segment, payload too; 0: none. */
static u32 record_at(const struct order *o, const struct kvf_identity *id, u32 offset)
{
	const struct kvf_record *r = (const void *)(o->segment + offset);
	u32 need, ext, bytes;

	if (offset + sizeof(*r) > o->g.segment ||
	    kvf_record_verify(r, o->g.segment - offset, id, offset, &o->g, &need))
		return 0;
	ext = kvf_record_ext_len(r);
	bytes = kvf_record_bytes(ext, le16_to_cpu(r->key_len), le32_to_cpu(r->payload_len));
	if (offset + bytes > o->g.segment ||
	    kvf_record_payload_verify(r, kvf_record_key(r) + le16_to_cpu(r->key_len), id, offset))
		return 0;
	return bytes;
}

/* Lay what a tail place or the window has over block b of o->segment, the window over what follows too. */
static void overlay(struct order *o, const u8 *image, u32 b, unsigned int from, bool alone)
{
	const u8 *tail = image + o->g.segment, *window = tail + o->g.window_offset;
	u32 off = b * o->g.block, end = alone ? off + o->g.block : off + o->g.window;

	if (from != FROM_WINDOW) {
		memcpy(o->segment + off, tail + o->g.tail_offset + (from >> 1) * o->g.block, o->g.block);
		return;
	}
	for (; off < end && off < o->g.segment; off += o->g.block)
		memcpy(o->segment + off, window + (off & (o->g.window - 1)), o->g.block);
}

/*
 * The record at offset with the help of other places; its bytes are put into o->segment, so that the next
 * one may go on in the same block. 0: none.
 */
static u32 record_elsewhere(struct order *o, const u8 *image, const struct kvf_identity *id, u32 offset,
			    unsigned int sources)
{
	unsigned int from, alone;
	u32 b, bytes;

	for (b = offset / o->g.block; b < o->g.seg_blocks; b++) {
		for (from = 1; from <= FROM_WINDOW; from *= 2) {
			if (!(sources & from) || (from == FROM_WINDOW && !o->g.window))
				continue;
			for (alone = 0; alone < (from == FROM_WINDOW ? 2 : 1); alone++) {
				memcpy(o->save, o->segment, o->g.segment);
				overlay(o, image, b, from, alone);
				bytes = record_at(o, id, offset);
				if (bytes)
					memcpy(o->save + offset, o->segment + offset, bytes);
				memcpy(o->segment, o->save, o->g.segment);
				if (bytes)
					return bytes;
			}
		}
	}
	return 0;
}

static void protect(struct order *o, u64 off, u64 len, u8 what)
{
	u64 s;

	for (s = off / SECTOR; s * SECTOR < off + len && s * SECTOR < o->cap; s++)
		o->protect[s] |= what;
}

/* Records of one segment from *offset on; true at a SEAL record. mark: protect those that are at home. */
static bool walk_segment(struct order *o, const u8 *image, const struct kvf_super *sb,
			 const struct kvf_identity *id, u32 *offset, unsigned int sources, bool mark,
			 struct log_end *end)
{
	u32 replay_inc = le32_to_cpu(sb->replay_incarnation), bytes;
	bool cut = le32_to_cpu(sb->incarnation) != replay_inc && id->incarnation == replay_inc, home;

	for (;;) {
		const struct kvf_record *r = (const void *)(o->segment + *offset);
		u64 lsn;

		bytes = record_at(o, id, *offset);
		home = bytes != 0;
		if (!bytes && sources)
			bytes = record_elsewhere(o, image, id, *offset, sources);
		lsn = bytes ? le64_to_cpu(r->lsn) : 0;
		if (!bytes ||
		    (cut && r->kind != KVF_RECORD_SEAL && lsn >= le64_to_cpu(sb->cut_lsn)))
			return false;
		if (mark && home)
			protect(o, ((u64)id->segment << o->g.segment_shift) + *offset, bytes,
				PROTECT_LOG);
		*offset += bytes;
		end->lsn = lsn;
		end->segment = id->segment;
		end->offset = *offset;
		if (le64_to_cpu(r->attested) > end->attested)
			end->attested = le64_to_cpu(r->attested);
		if (r->kind == KVF_RECORD_SEAL)
			return true;
	}
}

/* Walk the log that sb names, from home and the other sources (FROM_*; 0: none). */
static void walk_log(struct order *o, const u8 *image, u64 size, const struct kvf_super *sb,
		     unsigned int sources, bool mark, struct log_end *end)
{
	u32 segment = le32_to_cpu(sb->replay_segment), gen = le32_to_cpu(sb->replay_segment_gen);
	u32 offset = le32_to_cpu(sb->replay_offset), guard;
	const struct kvf_segment_header *h;
	struct kvf_identity id = { 0 };

	memset(end, 0, sizeof(*end));
	end->attested = le64_to_cpu(sb->attested_lsn);
	end->lsn = le64_to_cpu(sb->replay_lsn) - 1; /* what precedes is in the pages */
	memcpy(id.uuid, sb->uuid, 16);
	for (guard = 0; guard < 100000; guard++) {
		h = segment_header(o, image, size, sb, segment, gen);
		if (!h)
			return;
		id.segment = segment;
		id.segment_gen = gen;
		id.incarnation = le32_to_cpu(h->incarnation);
		memcpy(o->segment, image + ((u64)segment << o->g.segment_shift), o->g.segment);
		if (!walk_segment(o, image, sb, &id, &offset, sources, mark, end))
			return;
		segment = le32_to_cpu(h->next_segment);
		gen = le32_to_cpu(h->next_gen);
		offset = o->g.block;
	}
}

/* ---- pages -------------------------------------------------------------------------------------- */

struct walk {
	struct order *o;
	const u8 *image;
	u64 size;
	const struct kvf_super *sb;
	bool mark; /* protect what is found; else complain of what is not there */
	bool snapshot; /* in the forest of one: what it says of others counts no more */
	u64 origin;    /* of the tree, a clone: pages born up to then are of others */
};

static void walk_page(struct walk *w, const struct kvf_ref *ref, u32 tree, unsigned int depth);

static bool page_good(struct walk *w, u64 block, const struct kvf_ref *ref, u32 tree)
{
	struct kvf_page_expect e = { .uuid = w->sb->uuid, .ref = ref, .tree = tree, .level = -1 };
	u64 off = block << w->o->g.block_shift;
	u32 len = le32_to_cpu(ref->blocks) << w->o->g.block_shift;

	if (le64_to_cpu(ref->birth) <= w->origin)
		e.tree = 0;
	return off + len <= w->size && !kvf_page_verify(w->image + off, len, block, &e, &w->o->g);
}

/* Is the record of the value wholly there, at home or elsewhere? *home: bytes of it, if all at home. */
static bool value_there(struct walk *w, const struct kvf_value_ref *v, u32 *home)
{
	u32 segment = le32_to_cpu(v->segment), offset = le32_to_cpu(v->offset);
	struct kvf_identity id = { .segment = segment, .segment_gen = le32_to_cpu(v->segment_gen) };
	const struct kvf_segment_header *h;
	struct order *o = w->o;

	memcpy(id.uuid, w->sb->uuid, 16);
	h = segment_header(o, w->image, w->size, w->sb, segment, id.segment_gen);
	if (!h || offset >= o->g.segment)
		return false;
	id.incarnation = le32_to_cpu(h->incarnation);
	memcpy(o->segment, w->image + ((u64)segment << o->g.segment_shift), o->g.segment);
	*home = record_at(o, &id, offset);
	return *home || record_elsewhere(o, w->image, &id, offset, FROM_ALL);
}

static void walk_value(struct walk *w, const u8 *cell, u32 len, u8 flags)
{
	struct kvf_value_ref v;
	u32 skip = 0, home = 0;
	bool there;

	if (flags & KVF_CELL_EXT)
		skip = cell[0] * 8u;
	if ((flags & KVF_CELL_KIND) != KVF_CELL_REF || flags & KVF_CELL_POISON || skip + sizeof(v) > len)
		return;
	memcpy(&v, cell + skip, sizeof(v));
	there = value_there(w, &v, &home);
	if (w->mark && home)
		protect(w->o, ((u64)le32_to_cpu(v.segment) << w->o->g.segment_shift) +
				      le32_to_cpu(v.offset), home, PROTECT_VALUE);
	else if (!w->mark && !there)
		breaks(w->o,
		       "R4: superblock %llu refers to a value at segment %u offset %u that is not "
		       "durable",
		       (u64)le64_to_cpu(w->sb->seq), le32_to_cpu(v.segment), le32_to_cpu(v.offset));
}

static void walk_snapshot(struct walk *w, const u8 *cell, u32 len)
{
	struct kvf_snapshot s;

	if (w->snapshot || len != sizeof(s))
		return;
	memcpy(&s, cell, sizeof(s));
	w->snapshot = true;
	walk_page(w, &s.forest, KVF_TREE_FOREST, 0);
	w->snapshot = false;
}

static void walk_page(struct walk *w, const struct kvf_ref *ref, u32 tree, unsigned int depth)
{
	u64 blocks[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u32 len = le32_to_cpu(ref->blocks) << w->o->g.block_shift, i;
	const u8 *page = NULL;

	if (!blocks[0] || w->o->broken)
		return;
	for (i = 0; i < 2; i++) {
		if (!blocks[i])
			continue;
		if (w->mark)
			protect(w->o, blocks[i] << w->o->g.block_shift, len, PROTECT_PAGE);
		if (page_good(w, blocks[i], ref, tree))
			page = w->image + (blocks[i] << w->o->g.block_shift);
		else if (!w->mark)
			breaks(w->o,
			       "R4: superblock %llu refers to a page of tree %u at block %llu that "
			       "is not durable",
			       (u64)le64_to_cpu(w->sb->seq), tree, blocks[i]);
	}
	if (!page || depth >= KVF_DEPTH_MAX)
		return;
	if (((const struct kvf_page *)page)->flags & KVF_PAGE_COMPACT) {
		/* Of a user's tree or chunks: nothing below it. */
		memcpy(w->o->leaf, page, len);
		kvf_leaf_unpack(w->o->leaf, w->o->g.frame);
		page = w->o->leaf;
		len = w->o->g.frame;
	}
	for (i = 0; i < le16_to_cpu(((const struct kvf_page *)page)->nr); i++) {
		u32 cell_len;
		u8 flags, key[KVF_FRAME_MAX / 8];
		const u8 *cell = kvf_page_cell(page, len, i, &cell_len, &flags);

		if (((const struct kvf_page *)page)->level) {
			struct kvf_ref child;

			memcpy(&child, cell, sizeof(child));
			walk_page(w, &child, tree, depth + 1);
		} else if (tree == KVF_TREE_FOREST) {
			struct kvf_tree_head head;

			kvf_page_key(page, len, i, key);
			if (key[0] == KVF_FOREST_SNAPSHOT)
				walk_snapshot(w, cell, cell_len);
			if ((key[0] != KVF_FOREST_TREE && key[0] != KVF_FOREST_DOOMED) ||
			    cell_len < sizeof(head))
				continue;
			memcpy(&head, cell + cell_len - sizeof(head), sizeof(head));
			w->origin = le64_to_cpu(head.origin);
			walk_page(w, &head.root, le32_to_cpu(head.id), depth + 1);
			w->origin = 0;
		} else if (tree != KVF_TREE_SEGTAB) {
			walk_value(w, cell, cell_len, flags);
		}
	}
}

static void walk_super(struct walk *w)
{
	walk_page(w, &w->sb->forest, KVF_TREE_FOREST, 0);
	walk_page(w, &w->sb->segtab, KVF_TREE_SEGTAB, 0);
}

/* ---- rules -------------------------------------------------------------------------------------- */

/* A newer superblock that is durable says that this one's state is not kept. */
static bool given_up(const struct super_seen *s, const struct super_seen *both)
{
	return both && le64_to_cpu(s->sb.seq) < le64_to_cpu(both->sb.seq) &&
	       le64_to_cpu(s->sb.generation) < le64_to_cpu(both->sb.oldest_intact);
}

static void check_cut(struct order *o, u64 size)
{
	const struct super_seen *both = newest(o, true), *s;
	unsigned int i;

	for (i = 0; i < o->supers_nr; i++) {
		s = &o->supers[i];
		if (!given_up(s, both) && size < le64_to_cpu(s->sb.segments) << o->g.segment_shift)
			breaks(o, "R6: cut to %llu bytes, superblock %llu says %llu segments", size,
			       (u64)le64_to_cpu(s->sb.seq), (u64)le64_to_cpu(s->sb.segments));
	}
}

/* What may not be changed from now on. */
static void protect_all(struct order *o)
{
	const struct super_seen *both;
	unsigned int i;

	memset(o->protect, 0, o->cap / SECTOR + 1);
	if (!o->known && !find_geometry(o))
		return;
	find_supers(o);
	both = newest(o, true);
	for (i = 0; i < o->supers_nr; i++) {
		const struct super_seen *s = &o->supers[i];
		bool durable = s->durable[0] || s->durable[1];
		struct walk w = {
			.o = o,
			.image = durable ? o->durable : o->now,
			.size = durable ? o->durable_size : o->now_size,
			.sb = &s->sb,
			.mark = true,
		};
		struct log_end end;

		if (given_up(s, both))
			continue;
		walk_super(&w);
		walk_log(o, o->durable, o->durable_size, &s->sb, 0, true, &end);
	}
}

static bool same_bytes(const struct order *o, u64 off, const u8 *data, u64 len)
{
	return off + len <= o->now_size && !memcmp(o->now + off, data, len);
}

/*
 * Would the log reach as far if this sector were lost, because tail places and window hold the same? Then
 * a recovery may write it home again.
 */
static bool redundant(struct order *o, u64 off)
{
	const struct super_seen *sb = newest(o, false);
	struct log_end whole, without;
	u8 sector[SECTOR];

	if (!sb)
		return false;
	walk_log(o, o->durable, o->durable_size, &sb->sb, FROM_ALL, false, &whole);
	memcpy(sector, o->durable + off, SECTOR);
	memset(o->durable + off, 0x5a, SECTOR);
	walk_log(o, o->durable, o->durable_size, &sb->sb, FROM_ALL, false, &without);
	memcpy(o->durable + off, sector, SECTOR);
	return without.lsn >= whole.lsn;
}

static void check_protected(struct order *o, u64 off, u64 len, const u8 *data)
{
	u64 s;

	for (s = off / SECTOR; s * SECTOR < off + len; s++) {
		u64 from = s * SECTOR < off ? off : s * SECTOR;
		u64 to = (s + 1) * SECTOR > off + len ? off + len : (s + 1) * SECTOR;

		if (!o->protect[s] || (data && same_bytes(o, from, data + (from - off), to - from)) ||
		    (o->protect[s] == PROTECT_LOG && redundant(o, s * SECTOR)))
			continue;
		breaks(o, "%s: write of %llu bytes at %llu changes sector %llu (segment %llu offset %llu)",
		       o->protect[s] & PROTECT_PAGE ? "R1 page in use" : "R2 durable log", len, off, s,
		       s * SECTOR >> o->g.segment_shift, s * SECTOR & (o->g.segment - 1));
		return;
	}
}

static void check_tail(struct order *o, u64 off, u64 len, const u8 *data)
{
	const struct super_seen *sb = newest(o, false);
	u64 places = o->g.segment + o->g.tail_offset, at;
	struct log_end all, without;
	int place;

	if (!sb || off >= places + 2 * o->g.block || off + len <= places)
		return;
	for (place = 0; place < 2; place++) {
		at = places + place * o->g.block;
		if (off + len <= at || off >= at + o->g.block || same_bytes(o, off, data, len))
			continue;
		walk_log(o, o->durable, o->durable_size, &sb->sb, FROM_ALL, false, &all);
		walk_log(o, o->durable, o->durable_size, &sb->sb, FROM_ALL & ~FROM_PLACE(place), false,
			 &without);
		if (all.lsn >= all.attested && without.lsn < all.attested)
			breaks(o,
			       "R3: tail place %d is overwritten: the log then ends at LSN %llu, "
			       "below attested %llu",
			       place, without.lsn, all.attested);
	}
}

/* Everything that sb refers to is durable. */
static void check_references(struct order *o, const struct kvf_super *sb)
{
	struct walk w = { .o = o, .image = o->durable, .size = o->durable_size, .sb = sb };
	struct log_end end;

	walk_super(&w);
	if (le64_to_cpu(sb->attested_lsn) < le64_to_cpu(sb->replay_lsn) ||
	    le32_to_cpu(sb->flags) & KVF_SUPER_CLEAN)
		return;
	walk_log(o, o->durable, o->durable_size, sb, FROM_ALL, false, &end);
	if (end.lsn < le64_to_cpu(sb->attested_lsn))
		breaks(o, "R4: superblock %llu attests LSN %llu, the durable log ends at %llu",
		       (u64)le64_to_cpu(sb->seq), (u64)le64_to_cpu(sb->attested_lsn), end.lsn);
}

static void check_super(struct order *o, u64 off, u64 len, const u8 *data)
{
	const struct super_seen *top = newest(o, false);
	struct super_seen *s = NULL;
	const struct kvf_super *sb = (const void *)data;
	unsigned int slot, group, i;

	for (slot = 0; slot < KVF_GROUP_SLOTS; slot++) {
		for (group = 0; group < 2; group++) {
			if (off != kvf_super_offset(&o->g, slot, group) || len < sizeof(*sb) ||
			    kvf_super_verify(sb, off) || same_bytes(o, off, data, sizeof(*sb)))
				continue;
			check_references(o, sb);
			for (i = 0; i < o->supers_nr; i++)
				if (o->supers[i].sb.seq == sb->seq)
					s = &o->supers[i];
			if (s && s->here && !s->durable[!group])
				breaks(o,
				       "R5: superblock %llu goes to group %c before that of group "
				       "%c is durable",
				       (u64)le64_to_cpu(sb->seq), 'A' + group, 'A' + !group);
			if (top && !top->durable[!group] &&
			    kvf_super_offset(&o->g, le64_to_cpu(top->sb.seq), group) == off)
				breaks(o,
				       "R5: the only durable copy of the newest superblock %llu is "
				       "overwritten",
				       (u64)le64_to_cpu(top->sb.seq));
		}
	}
}

static void on_write(struct order *o, const struct sim_event *ev, const u8 *data)
{
	bool window = ev->op == KVP_TRACE_WINDOW;

	if (o->known && !window) {
		check_protected(o, ev->off, ev->len, data);
		if (ev->op != KVP_TRACE_DISCARD) {
			check_tail(o, ev->off, ev->len, data);
			check_super(o, ev->off, ev->len, data);
		}
	}
	if (data)
		memcpy(o->now + ev->off, data, ev->len);
	else
		memset(o->now + ev->off, 0, ev->len);
	if (ev->op == KVP_TRACE_FUA)
		memcpy(o->durable + ev->off, data, ev->len);
	if (ev->off < 4 * o->g.segment || ev->op == KVP_TRACE_FUA)
		protect_all(o);
}

static void on_event(struct order *o, const struct sim_event *ev)
{
	u64 end = ev->off + ev->len;

	switch (ev->op) {
	case KVP_TRACE_MARK:
		break;
	case KVP_TRACE_WRITE:
	case KVP_TRACE_FUA:
	case KVP_TRACE_WINDOW:
		on_write(o, ev, o->trace->heap + ev->at);
		break;
	case KVP_TRACE_DISCARD:
		on_write(o, ev, NULL);
		break;
	case KVP_TRACE_FLUSH:
		memcpy(o->durable, o->now, o->cap);
		o->durable_size = o->now_size;
		protect_all(o);
		break;
	case KVP_TRACE_ALLOCATE:
		o->now_size = end > o->now_size ? end : o->now_size;
		break;
	case KVP_TRACE_RESIZE:
		if (ev->off < o->now_size) {
			check_protected(o, ev->off, o->now_size - ev->off, NULL);
			check_cut(o, ev->off);
		}
		memset(o->now + ev->off, 0, o->cap - ev->off);
		o->now_size = ev->off;
		break;
	}
}

size_t order_check(const struct sim *trace, const u8 *base, u64 base_size, char *why, size_t why_len)
{
	struct order o = {
		.trace = trace,
		.now_size = base_size,
		.durable_size = base_size,
		.cap = trace->cap,
		.why = why,
		.why_len = why_len,
	};
	size_t i;

	o.now = calloc(1, o.cap);
	o.durable = calloc(1, o.cap);
	o.segment = malloc(o.cap);
	o.save = malloc(o.cap);
	o.protect = calloc(1, o.cap / SECTOR + 1);
	if (!o.now || !o.durable || !o.segment || !o.save || !o.protect)
		abort();
	memcpy(o.now, base, base_size);
	memcpy(o.durable, base, base_size);
	protect_all(&o);
	for (i = 0; i < trace->nr && !o.broken; i++)
		on_event(&o, &trace->events[i]);
	free(o.now);
	free(o.durable);
	free(o.segment);
	free(o.save);
	free(o.protect);
	return o.broken ? i : 0;
}
