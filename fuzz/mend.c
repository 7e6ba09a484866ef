/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mend.c - see mend.h. Decisions:
 *  - What a mutation did to a structure's identity (own address, segment, version) stays, so that those
 *    checks are fuzzed too; only sums are recomputed.
 *  - Nothing that was dead comes to life: a record is mended only where the log goes on (its LSN follows
 *    the one before), a page only if most of its header says that it is the one the ref means.
 *  - Of two copies of a page the first is mended. The second keeps its bytes: then the twins differ,
 *    which is a case of its own.
 *  - The log's last bytes may stand in a tail place or in the window alone. A record is looked for in
 *    each of these views, and mended in the one where it was found.
 */
#include "mend.h"

enum { UNSEEN, OPEN, DONE };
enum view { HOME, PLACE0, PLACE1, WINDOW, VIEWS };

#define DEPTH_MAX (3 * KVF_DEPTH_MAX) /* snapshot's forest, tree, pages */
#define LSN_STEP 64u

static void area_add(struct mend *m, const void *p, u32 len)
{
	if (m->areas_nr < MEND_AREAS_MAX && len)
		m->areas[m->areas_nr++] =
			(struct mend_area){ (u32)((const u8 *)p - m->image), len };
}

/* ---- log ------------------------------------------------------------------------------------- */

static struct kvf_identity identity(const struct mend *m, u32 segment, u32 gen, u32 incarnation)
{
	struct kvf_identity id = { .segment = segment, .segment_gen = gen,
				   .incarnation = incarnation };

	memcpy(id.uuid, m->uuid, sizeof(id.uuid));
	return id;
}

/* Where byte at of a log segment stands in a view whose bytes from cut on come from elsewhere. */
static u8 *view_byte(struct mend *m, u32 segment, enum view v, u32 cut, u32 at)
{
	u8 *tail = m->image + (size_t)KVF_SEG_TAIL * m->g.segment;

	if (at >= cut && v == WINDOW)
		return tail + m->g.window_offset + (at & (m->g.window - 1));
	if (at >= cut && at < cut + m->g.block && v != HOME && v != WINDOW)
		return tail + m->g.tail_offset + (v - PLACE0) * m->g.block + (at - cut);
	return m->image + (size_t)segment * m->g.segment + at;
}

static void view_get(struct mend *m, u32 segment, enum view v, u32 cut, u32 at, u32 len)
{
	u32 i;

	for (i = 0; i < len; i++)
		m->record[i] = *view_byte(m, segment, v, cut, at + i);
}

static void view_put(struct mend *m, u32 segment, enum view v, u32 cut, u32 at, u32 len)
{
	u32 i;

	for (i = 0; i < len; i++)
		*view_byte(m, segment, v, cut, at + i) = m->record[i];
}

/* Bytes of what may be a record with room bytes left in its segment; 0: none. */
static u32 record_bytes(const struct kvf_record *r, u32 room)
{
	u64 bytes;

	if (r->kind < KVF_RECORD_PUT || r->kind > KVF_RECORD_SNAPSHOT ||
	    r->flags & ~KVF_RECORD_FLAGS || !le64_to_cpu(r->lsn))
		return 0;
	bytes = kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
				 le32_to_cpu(r->payload_len));
	return bytes <= room ? (u32)bytes : 0;
}

struct log_walk {
	u32 segment;
	struct kvf_identity id;
	u64 lsn; /* of the record before */
};

/* The record at the offset as a view has it, into m->record. Its bytes, 0: none. */
static u32 record_get(struct mend *m, struct log_walk *w, enum view v, u32 cut, u32 at)
{
	u32 bytes, room = m->g.segment - at;

	view_get(m, w->segment, v, cut, at, KVF_MIN(room, (u32)sizeof(struct kvf_record) + 8));
	bytes = record_bytes((const struct kvf_record *)m->record, room);
	if (bytes)
		view_get(m, w->segment, v, cut, at, bytes);
	return bytes;
}

static bool record_is_right(struct mend *m, struct log_walk *w, u32 at, u32 bytes)
{
	const struct kvf_record *r = (const struct kvf_record *)m->record;
	u32 need;

	if (kvf_record_verify(r, bytes, &w->id, at, &m->g, &need))
		return false;
	return !kvf_record_payload_verify(r, kvf_record_key(r) + le16_to_cpu(r->key_len), &w->id, at);
}

static bool record_follows(struct mend *m, struct log_walk *w)
{
	const struct kvf_record *r = (const struct kvf_record *)m->record;
	u64 lsn = le64_to_cpu(r->lsn);

	return r->flags & KVF_RECORD_COPY || (lsn > w->lsn && lsn - w->lsn <= LSN_STEP);
}

static void record_seen(struct mend *m, struct log_walk *w, enum view v, u32 cut, u32 at, u32 bytes)
{
	const struct kvf_record *r = (const struct kvf_record *)m->record;
	u32 head = (u32)sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len);

	if (!(r->flags & KVF_RECORD_COPY))
		w->lsn = le64_to_cpu(r->lsn);
	/* a record across the border of home and view: the first part will do */
	bytes = KVF_MIN(bytes, head + 16);
	if (at < cut && at + bytes > cut && v != HOME)
		bytes = cut - at;
	area_add(m, view_byte(m, w->segment, v, cut, at), bytes);
}

/* The record at the offset, right already or made so; its bytes, 0: the log does not go on here. */
static u32 record_mend(struct mend *m, struct log_walk *w, u32 at)
{
	u32 first = (u32)KVF_ROUND_DOWN(at, m->g.block), cut, bytes, v;
	u32 views = m->g.window ? VIEWS : WINDOW;
	struct kvf_record *r = (struct kvf_record *)m->record;

	for (v = HOME; v < views; v++) {
		for (cut = first; cut < m->g.segment; cut += m->g.block) {
			bytes = record_get(m, w, v, cut, at);
			if (bytes && record_is_right(m, w, at, bytes)) {
				record_seen(m, w, v, cut, at, bytes);
				return bytes;
			}
			/* the header may stand at home, and only what follows in the view */
			if (v == HOME || (cut > first && cut >= at + bytes))
				break;
		}
	}
	for (v = HOME; v < views; v++) {
		bytes = record_get(m, w, v, first, at);
		if (!bytes || !record_follows(m, w))
			continue;
		kvf_record_seal(r, &w->id, at, kvf_record_ext_len(r),
				kvf_record_key(r) + le16_to_cpu(r->key_len),
				le32_to_cpu(r->payload_len));
		view_put(m, w->segment, v, first, at, bytes);
		record_seen(m, w, v, first, at, bytes);
		return bytes;
	}
	return 0;
}

static void footer_mend(struct mend *m, u8 *segment)
{
	struct kvf_footer *f = (struct kvf_footer *)(segment + m->g.segment - sizeof(*f));
	struct kvf_identity id = identity(m, le32_to_cpu(f->segment), le32_to_cpu(f->gen),
					  le32_to_cpu(f->incarnation));
	u32 most = (m->g.segment - m->g.block - (u32)sizeof(*f)) / sizeof(struct kvf_footer_entry);

	if (le32_to_cpu(f->magic) != KVF_FOOTER_MAGIC || le32_to_cpu(f->entries) > most)
		return;
	memcpy(id.uuid, f->uuid, sizeof(id.uuid));
	kvf_footer_seal(f, &id);
	area_add(m, f, sizeof(*f));
}

static void segment_mend(struct mend *m, u32 segment)
{
	u8 *at = m->image + (size_t)segment * m->g.segment;
	struct kvf_segment_header *h = (struct kvf_segment_header *)at;
	struct kvf_identity id = identity(m, le32_to_cpu(h->segment), le32_to_cpu(h->gen),
					  le32_to_cpu(h->incarnation));
	struct log_walk w = { .segment = segment };
	u32 off, bytes;

	if (le32_to_cpu(h->magic) != KVF_SEGMENT_MAGIC)
		return;
	memcpy(id.uuid, h->uuid, sizeof(id.uuid));
	kvf_segment_header_seal(h, &id);
	area_add(m, h, sizeof(*h));
	if (h->kind != KVF_KIND_LOG)
		return;
	w.id = identity(m, segment, le32_to_cpu(h->gen), le32_to_cpu(h->incarnation));
	w.lsn = le64_to_cpu(h->first_lsn) - 1;
	for (off = m->g.block; off + sizeof(struct kvf_record) <= m->g.segment; off += bytes) {
		bytes = record_mend(m, &w, off);
		/* zeros lead to the next block: the log was resumed there */
		if (!bytes)
			bytes = (u32)KVF_ROUND_UP(off + 1, m->g.block) - off;
	}
	footer_mend(m, at);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void ref_mend(struct mend *m, u8 *at, u32 depth);

/* A value in the log: the leaf holds half of its record's checksum. */
static void value_mend(struct mend *m, u8 *cell)
{
	const struct kvf_record *r;
	struct kvf_value_ref v;
	u64 at;

	memcpy(&v, cell, sizeof(v));
	at = (u64)le32_to_cpu(v.segment) * m->g.segment + le32_to_cpu(v.offset);
	if (at % KVF_RECORD_ALIGN || at + sizeof(*r) > m->len)
		return;
	r = (const struct kvf_record *)(m->image + at);
	if (r->lsn != v.lsn)
		return;
	v.sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
	memcpy(cell, &v, sizeof(v));
}

static void leaf_cell_mend(struct mend *m, const struct kvf_page *p, u8 first, u8 flags, u8 *cell,
			   u32 cell_len, u32 depth)
{
	if (flags & KVF_CELL_EXT) {
		u32 ext = cell_len ? cell[0] * 8u : 0;

		if (ext > cell_len)
			return;
		cell += ext;
		cell_len -= ext;
	}
	if ((flags & KVF_CELL_KIND) == KVF_CELL_REF && cell_len == sizeof(struct kvf_value_ref))
		value_mend(m, cell);
	if (le32_to_cpu(p->tree) != KVF_TREE_FOREST)
		return;
	if ((first == KVF_FOREST_TREE || first == KVF_FOREST_DOOMED) &&
	    cell_len == sizeof(struct kvf_tree_head))
		ref_mend(m, cell + __builtin_offsetof(struct kvf_tree_head, root), depth);
	if (first == KVF_FOREST_SNAPSHOT && cell_len == sizeof(struct kvf_snapshot))
		ref_mend(m, cell + __builtin_offsetof(struct kvf_snapshot, forest), depth);
}

/* Sums of values in the log, which stand in front of the other numbers of a ref. */
static void compact_mend(struct mend *m, u8 *page, u32 len)
{
	const struct kvf_page *p = (const struct kvf_page *)page;
	u32 i, n, at = kvf_leaf_start(p), nr = le16_to_cpu(p->nr), heap = le32_to_cpu(p->heap);
	struct kvf_leaf_entry e;

	if (heap > len - sizeof(*p) || at > len)
		return;
	area_add(m, p, __builtin_offsetof(struct kvf_page, hints));
	area_add(m, p + 1, heap);
	for (i = 0; i < nr; i++) {
		n = kvf_leaf_entry(page, at, (u32)sizeof(*p) + heap, &e);
		if (!n)
			return;
		if (e.cell == (const u8 *)&e.ref) {
			value_mend(m, (u8 *)&e.ref);
			memcpy(page + (e.suffix - page) + e.suffix_len, &e.ref.sum32, sizeof(e.ref.sum32));
		}
		at += n;
	}
}

/* What the cells of a page refer to. Nothing in it has been verified. */
static void cells_mend(struct mend *m, u8 *page, u32 len, u32 depth)
{
	const struct kvf_page *p = (const struct kvf_page *)page;
	u32 i, nr = le16_to_cpu(p->nr), room = (len - (u32)sizeof(*p)) / sizeof(struct kvf_slot);
	u32 lower = le16_to_cpu(p->lower_off) * 4u, heap = le32_to_cpu(p->heap);

	nr = KVF_MIN(nr, room);
	area_add(m, p, __builtin_offsetof(struct kvf_page, hints));
	area_add(m, page + sizeof(*p), nr * (u32)sizeof(struct kvf_slot));
	if (heap <= len)
		area_add(m, page + len - heap, heap);
	for (i = 0; i < nr; i++) {
		const struct kvf_slot *s = kvf_page_slots(page) + i;
		u32 off = le16_to_cpu(s->off) * 4u, suffix_len = le16_to_cpu(s->suffix_len), cell_len;
		u8 *item = page + len - off, first;

		if (off < sizeof(struct kvf_item) || off > len - sizeof(*p))
			continue;
		cell_len = kvf_get16(item);
		if (sizeof(struct kvf_item) + suffix_len + cell_len > off)
			continue;
		first = suffix_len ? item[sizeof(struct kvf_item)] : 0;
		if (p->prefix_len != cpu_to_le16(0) && lower && lower <= len)
			first = page[len - lower];
		if (!p->level)
			leaf_cell_mend(m, p, first, item[2], item + sizeof(struct kvf_item) + suffix_len,
				       cell_len, depth);
		else if (cell_len == sizeof(struct kvf_ref))
			ref_mend(m, item + sizeof(struct kvf_item) + suffix_len, depth);
	}
}

/* Does most of the header say that this is the page the ref means? */
static bool page_is_meant(const struct mend *m, const u8 *page, u32 len, const struct kvf_ref *ref)
{
	const struct kvf_page *p = (const struct kvf_page *)page;
	struct kvf_page_expect self = { .level = -1 };

	/* whole, but of another generation: the place has been reused since */
	if (p->generation != ref->birth && !kvf_page_verify(page, len, 0, &self, &m->g))
		return false;
	return (le32_to_cpu(p->magic) == KVF_PAGE_MAGIC) + (p->block0 == ref->block0) +
	       (p->generation == ref->birth) + (le32_to_cpu(p->bytes) == len) +
	       !memcmp(p->uuid, m->uuid, sizeof(m->uuid)) >= 4;
}

/* at: a struct kvf_ref at any alignment. Mends the page, then the sum that the ref holds. */
static void ref_mend(struct mend *m, u8 *at, u32 depth)
{
	struct kvf_ref ref;
	u64 block, off;
	u32 len;
	u8 *page;

	memcpy(&ref, at, sizeof(ref));
	block = le64_to_cpu(ref.block0);
	if (!block || block >= m->len / m->g.block || !le32_to_cpu(ref.blocks) ||
	    le32_to_cpu(ref.blocks) > m->g.frame / m->g.block || depth >= DEPTH_MAX)
		return;
	off = block * m->g.block;
	len = le32_to_cpu(ref.blocks) * m->g.block;
	page = m->image + off;
	if (off + len > m->len || !page_is_meant(m, page, len, &ref) || m->state[block] == OPEN)
		return;
	if (m->state[block] == UNSEEN) {
		m->state[block] = OPEN;
		if (((const struct kvf_page *)page)->flags & KVF_PAGE_COMPACT)
			compact_mend(m, page, len);
		else
			cells_mend(m, page, len, depth + 1);
		kvf_page_seal(page, len);
		m->state[block] = DONE;
	}
	ref.sum = ((const struct kvf_page *)page)->head_sum;
	memcpy(at, &ref, sizeof(ref));
}

/* ---- superblocks ----------------------------------------------------------------------------- */

static struct kvf_super *super_at(const struct mend *m, u32 off)
{
	struct kvf_super *sb = (struct kvf_super *)(m->image + off);

	return memcmp(sb->magic, KVF_SUPER_MAGIC, sizeof(sb->magic)) ? NULL : sb;
}

/* Geometry and UUID of most of them. */
static bool super_choose(struct mend *m)
{
	u32 a, b, votes, best = 0;

	for (a = 0; a + sizeof(struct kvf_super) <= m->len; a += KVF_BLOCK_MIN) {
		const struct kvf_super *sb = super_at(m, a), *other;
		struct kvf_geometry g;

		if (!sb || kvf_geometry_from_super(&g, sb))
			continue;
		for (b = 0, votes = 0; b + sizeof(*sb) <= m->len; b += KVF_BLOCK_MIN) {
			other = super_at(m, b);
			votes += other && !memcmp(&other->block_shift, &sb->block_shift, 12) &&
				 !memcmp(other->uuid, sb->uuid, sizeof(sb->uuid));
		}
		if (votes <= best)
			continue;
		best = votes;
		m->g = g;
		memcpy(m->uuid, sb->uuid, sizeof(m->uuid));
	}
	return best;
}

static void super_mend(struct mend *m, struct kvf_super *sb)
{
	__le32 version = sb->version, size = sb->size;

	ref_mend(m, (u8 *)&sb->forest, 0);
	ref_mend(m, (u8 *)&sb->segtab, 0);
	ref_mend(m, (u8 *)&sb->prev_forest, 0);
	ref_mend(m, (u8 *)&sb->prev_segtab, 0);
	kvf_super_seal(sb, le64_to_cpu(sb->position));
	if (sb->version != version || sb->size != size) {
		sb->version = version;
		sb->size = size;
		sb->sum = cpu_to_le64(0);
		sb->sum = cpu_to_le64(kvp_xxh64(sb, sizeof(*sb), 0));
	}
	area_add(m, sb, sizeof(*sb));
}

void mend_image(struct mend *m)
{
	struct kvf_super *sb;
	u32 at;

	m->areas_nr = 0;
	if (m->len > MEND_BYTES_MAX || m->len < sizeof(*sb))
		return;
	memset(m->state, UNSEEN, sizeof(m->state));
	if (super_choose(m)) {
		for (at = KVF_SEG_TAIL; (u64)(at + 1) * m->g.segment <= m->len; at++)
			segment_mend(m, at);
	} else {
		/* impossible geometries in all of them: their sums are still made right */
		memset(&m->g, 0, sizeof(m->g));
		m->g.block = m->g.frame = m->g.segment = KVF_BLOCK_MIN;
	}
	for (at = 0; at + sizeof(*sb) <= m->len; at += KVF_BLOCK_MIN) {
		sb = super_at(m, at);
		if (sb)
			super_mend(m, sb);
	}
}
