/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stretch.c - what stands at a byte of the volume.
 *
 * A segment is cut into tiles, in order and without gap or overlap, by what the table, the walks and its own
 * bytes say; the last one that was asked for is kept. What a tile holds is read when it is asked for.
 */
#include "survey.h"

#define PIECE (64u << 10) /* of log that is looked through at once */
#define HEAD 64u /* more than a record's header, a multiple of KVF_RECORD_ALIGN */

/* Stretches of one kind become one, but for those that stand for something. */
static int add(struct kvsck_survey *s, struct kvsck_tile tile)
{
	struct kvsck_tile *t = s->tiles.p, *last = s->tiles.nr ? &t[s->tiles.nr - 1] : NULL;
	bool single = tile.kind == KVSCK_STRETCH_SUPER || tile.kind == KVSCK_STRETCH_TAIL ||
		      tile.kind == KVSCK_STRETCH_PAGE || tile.kind == KVSCK_STRETCH_RECORD;

	if (tile.from >= tile.to)
		return 0;
	if (last && last->kind == tile.kind && !single) {
		last->to = tile.to;
		return 0;
	}
	t = kvsck_array_add(&s->tiles, sizeof(*t));
	if (!t)
		return -KVE_no_memory;
	*t = tile;
	return 0;
}

static int add_plain(struct kvsck_survey *s, enum kvsck_stretch_kind kind, u32 from, u32 to)
{
	return add(s, (struct kvsck_tile){ .kind = kind, .from = from, .to = to });
}

static int add_indexed(struct kvsck_survey *s, enum kvsck_stretch_kind kind, u32 from, u32 to, u32 index)
{
	return add(s, (struct kvsck_tile){ .kind = kind, .from = from, .to = to, .index = index });
}

/* ---- segments that every volume has ---------------------------------------------------------- */

static int tile_super(struct kvsck_survey *s, u32 segment)
{
	const struct kvf_geometry *g = &s->ck->g;
	u32 i, group = segment == KVF_SEG_SUPER_B ? KVF_GROUP_SLOTS : 0;
	int err = 0;

	for (i = 0; i < KVF_GROUP_SLOTS && !err; i++)
		err = add_indexed(s, KVSCK_STRETCH_SUPER, i * g->block, (i + 1) * g->block, group + i);
	return err ? err : add_plain(s, KVSCK_STRETCH_UNUSED, i * g->block, g->segment);
}

static int tile_tail(struct kvsck_survey *s)
{
	const struct kvf_geometry *g = &s->ck->g;
	u32 at = g->tail_offset, behind = at + 2 * g->block;
	int err = add_plain(s, KVSCK_STRETCH_HEADER, 0, at);

	if (!err)
		err = add_indexed(s, KVSCK_STRETCH_TAIL, at, at + g->block, 0);
	if (!err)
		err = add_indexed(s, KVSCK_STRETCH_TAIL, at + g->block, behind, 1);
	if (!err && g->window) {
		err = add_plain(s, KVSCK_STRETCH_UNUSED, behind, g->window_offset);
		behind = g->window_offset + g->window;
		if (!err)
			err = add_plain(s, KVSCK_STRETCH_WINDOW, g->window_offset, behind);
	}
	return err ? err : add_plain(s, KVSCK_STRETCH_UNUSED, behind, g->segment);
}

/* ---- the log --------------------------------------------------------------------------------- */

void kvsck_survey_identity(struct kvsck_survey *s, u32 segment, struct kvf_identity *id)
{
	struct kvsck_segment_info info;
	const struct kvsck_seg *seg = kvsck_seg_header(s->ck, segment);

	kvsck_survey_segment(s, segment, &info);
	memcpy(id->uuid, s->ck->sb.uuid, sizeof(id->uuid));
	id->segment = segment;
	/* freed, and taken again since: what stands there is of its new life */
	id->segment_gen = seg->hdr_finding ? info.gen : seg->hdr_gen;
	id->incarnation = seg->hdr_finding ? info.incarnation : seg->hdr_incarnation;
}

/* Where a record verifies at home, from off on; limit: nowhere. Negative: stop. */
static s64 next_record(struct kvsck_survey *s, const struct kvf_identity *id, u32 off, u32 limit)
{
	struct kvf_record r;
	u32 at, n;
	int err;

	for (; off + sizeof(r) <= limit; off += n - HEAD) {
		n = KVF_MIN(PIECE, limit - off);
		err = kvsck_buf_reserve(&s->buf, PIECE);
		if (!err)
			err = kvsck_cancelled(s->ck);
		if (err)
			return err;
		if (kvsck_source_read(s->ck, KVSCK_HOME, id->segment, off, s->buf.p, n))
			return limit;
		for (at = 0; at + sizeof(r) <= n; at += KVF_RECORD_ALIGN) {
			memcpy(&r, s->buf.p + at, sizeof(r));
			if (!r.kind || r.kind > KVF_RECORD_PAD ||
			    le32_to_cpu(r.incarnation) != id->incarnation)
				continue;
			err = kvsck_record_at(s->ck, KVSCK_HOME, id, off + at);
			if (err <= 0)
				return err ? err : (s64)off + at;
		}
		if (n < PIECE)
			break;
	}
	return limit;
}

static int tile_records(struct kvsck_survey *s, u32 segment, u32 limit)
{
	const struct kvf_record *r;
	struct kvf_identity id;
	u32 off = s->ck->g.block;
	int err = 0, payload;
	u64 bytes;
	s64 next;

	kvsck_survey_identity(s, segment, &id);
	while (!err && off + sizeof(*r) <= limit) {
		err = kvsck_record_find(s->ck, &id, off, false, &payload);
		if (err < 0)
			return err;
		r = kvsck_record(s->ck);
		bytes = err ? 0
			    : kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					       le32_to_cpu(r->payload_len));
		if (err || bytes > limit - off) {
			next = next_record(s, &id, off + KVF_RECORD_ALIGN, limit);
			if (next < 0)
				return (int)next;
			err = add_plain(s, KVSCK_STRETCH_LOG, off, (u32)next);
			off = (u32)next;
			continue;
		}
		err = add_indexed(s, KVSCK_STRETCH_RECORD, off, off + (u32)bytes, 0);
		off += (u32)bytes;
		if (!err && r->kind == KVF_RECORD_SEAL)
			break;
	}
	return err ? err : add_plain(s, KVSCK_STRETCH_LOG, off, limit);
}

/* 0: there is one, all of it verifies, in s->buf; *bytes of it. */
static int read_footer(struct kvsck_survey *s, u32 segment, u32 *bytes)
{
	u64 end = ((u64)segment + 1) << s->ck->g.segment_shift, len;
	struct kvf_footer *f = &s->footer;
	struct kvf_identity id;
	int finding;

	*bytes = sizeof(*f);
	kvsck_survey_identity(s, segment, &id);
	if (kvsck_read(s->ck, end - sizeof(*f), f, sizeof(*f)))
		return KVF_F_io_error;
	finding = kvf_footer_head_verify(f, &id, &s->ck->g);
	if (finding)
		return finding;
	len = kvf_footer_bytes(le32_to_cpu(f->entries));
	if (kvsck_buf_reserve(&s->buf, (size_t)len))
		return -KVE_no_memory;
	if (kvsck_read(s->ck, end - len, s->buf.p, (u32)len))
		return KVF_F_io_error;
	finding = kvf_footer_verify((struct kvf_footer *)(s->buf.p + len - sizeof(*f)), &id, &s->ck->g);
	*bytes = (u32)len;
	return finding;
}

/* Must it end in a footer? Not what has been taken again since the table was written. */
static bool footer_due(struct kvsck_survey *s, u32 segment)
{
	const struct kvsck_seg *seg = kvsck_seg_header(s->ck, segment);

	return seg->state & KVSCK_SEG_ENTRY && seg->flags & KVF_SEGMENT_FOOTER &&
	       !(seg->state & KVSCK_SEG_WHOLE) && !seg->hdr_finding && seg->hdr_gen == seg->gen;
}

static int tile_log(struct kvsck_survey *s, u32 segment)
{
	const struct kvf_geometry *g = &s->ck->g;
	u32 bytes, limit = g->segment, foot = sizeof(struct kvf_footer);
	int finding = read_footer(s, segment, &bytes), err;

	if (finding < 0)
		return finding;
	if (finding && !footer_due(s, segment))
		bytes = foot = 0;
	if (bytes > g->segment - g->block)
		bytes = foot;
	limit -= bytes;
	err = add_plain(s, KVSCK_STRETCH_HEADER, 0, g->block);
	if (!err)
		err = tile_records(s, segment, limit);
	if (!err)
		err = add_plain(s, KVSCK_STRETCH_ENTRIES, limit, g->segment - foot);
	if (!err)
		err = add(s, (struct kvsck_tile){ .kind = KVSCK_STRETCH_FOOTER,
						 .from = g->segment - foot,
						 .to = g->segment,
						 .finding = finding });
	return err;
}

/* ---- trees ----------------------------------------------------------------------------------- */

/* A page that nothing refers to any more, but which is whole: its blocks, 0: none. */
static u32 left_over(struct kvsck_survey *s, u64 block, u32 room)
{
	struct kvf_page_expect e = { .uuid = s->ck->sb.uuid, .level = -1 };
	struct kvf_page p;
	u32 len;

	if (kvsck_read(s->ck, block << s->ck->g.block_shift, &p, sizeof(p)) ||
	    le32_to_cpu(p.magic) != KVF_PAGE_MAGIC)
		return 0;
	len = le32_to_cpu(p.bytes);
	if (!len || len > s->ck->g.frame || len > (u64)room << s->ck->g.block_shift ||
	    len & (s->ck->g.block - 1) || kvsck_buf_reserve(&s->buf, s->ck->g.frame) ||
	    kvsck_read(s->ck, block << s->ck->g.block_shift, s->buf.p, len) ||
	    kvf_page_verify(s->buf.p, len, block, &e, &s->ck->g))
		return 0;
	return len >> s->ck->g.block_shift;
}

/* Blocks of a TREE segment that no state reaches: [from, to), up to the next page. */
static int tile_unowned(struct kvsck_survey *s, u64 first, u32 from, u32 to)
{
	const struct kvsck *ck = s->ck;
	u32 unit = 1u << ck->g.unit_shift, n, shift = ck->g.block_shift, roots;
	bool there = (first + to - 1) < ck->blocks, marked, batched;
	int err = 0;

	for (; from < to && !err; from += n) {
		marked = there && kvsck_bit(ck->marked, first + from);
		batched = there && kvsck_bit(ck->batched, first + from);
		roots = batched ? KVSCK_OF_BATCH : marked ? KVSCK_OF_TABLE : 0;
		n = from % unit ? 0 : left_over(s, first + from, to - from);
		if (n) {
			err = add(s, (struct kvsck_tile){ .kind = KVSCK_STRETCH_PAGE,
							 .from = from << shift,
							 .to = (from + n) << shift,
							 .roots = roots });
			continue;
		}
		n = KVF_MIN(unit - from % unit, to - from);
		err = add_plain(s,
				batched	 ? KVSCK_STRETCH_BATCH
				: marked ? KVSCK_STRETCH_USED
					 : KVSCK_STRETCH_FREE,
				from << shift, (from + n) << shift);
	}
	return err;
}

static int tile_tree(struct kvsck_survey *s, u32 segment)
{
	const struct kvf_geometry *g = &s->ck->g;
	const struct kvsck_owned *o = s->pages.p;
	u64 first = (u64)segment * g->seg_blocks;
	u32 at = 1, unit = 1u << g->unit_shift, next, end, shift = g->block_shift;
	size_t i = kvsck_survey_page(s, first);
	int err = add_plain(s, KVSCK_STRETCH_HEADER, 0, g->block);

	while (!err && at < g->seg_blocks) {
		for (; i < s->pages.nr && o[i].block < first + at; i++)
			;
		next = i < s->pages.nr && o[i].block < first + g->seg_blocks ? (u32)(o[i].block - first)
									     : g->seg_blocks;
		if (next > at) {
			err = tile_unowned(s, first, at, next);
			at = next;
			continue;
		}
		end = KVF_MIN(at + o[i].blocks, g->seg_blocks);
		err = add(s, (struct kvsck_tile){ .kind = KVSCK_STRETCH_PAGE,
						 .from = at << shift,
						 .to = end << shift,
						 .owned = i + 1,
						 .roots = o[i].roots,
						 .index = o[i].copy,
						 .finding = o[i].finding });
		if (err)
			break;
		next = KVF_MIN((u32)KVF_ROUND_UP(end, unit), g->seg_blocks);
		if (i + 1 < s->pages.nr && o[i + 1].block < first + next)
			next = KVF_MAX((u32)(o[i + 1].block - first), end);
		err = add_plain(s, KVSCK_STRETCH_SLACK, end << shift, next << shift);
		at = next;
	}
	return err;
}

int kvsck_survey_tiles(struct kvsck_survey *s, u32 segment)
{
	struct kvsck_segment_info info;
	int err = 0;

	if (s->cached == segment)
		return 0;
	s->cached = KVF_NO_SEGMENT;
	s->tiles.nr = 0;
	kvsck_survey_segment(s, segment, &info);
	switch (info.use) {
	case KVSCK_USE_SUPER:
		err = tile_super(s, segment);
		break;
	case KVSCK_USE_TAIL:
		err = tile_tail(s);
		break;
	case KVSCK_USE_LOG:
		err = tile_log(s, segment);
		break;
	case KVSCK_USE_TREE:
		err = tile_tree(s, segment);
		break;
	case KVSCK_USE_FREE:
	case KVSCK_USE_UNKNOWN:
		err = add_plain(s, info.use == KVSCK_USE_FREE ? KVSCK_STRETCH_FREE : KVSCK_STRETCH_UNKNOWN,
				0, s->ck->g.segment);
		break;
	}
	if (!err)
		s->cached = segment;
	return err;
}
