/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_space.c - the segment table against what was found: blocks, live bytes, kinds, footers.
 *
 * The table is that of the checkpoint. What it calls free, or what a free batch names, may have been
 * taken again since: then the segment's own header says something newer, and nothing here minds.
 */
#include "ck.h"

static struct kvsck_where where_segment(const struct kvsck *ck, u32 segment)
{
	return kvsck_at(ck, (u64)segment << ck->g.segment_shift);
}

/* Runs of blocks with one fault make one finding. */
struct run {
	u32 from, nr;
};

static void report_run(struct kvsck *ck, u32 segment, int code, struct run *r)
{
	struct kvsck_where at = kvsck_at(ck, ((u64)segment << ck->g.segment_shift) +
						     ((u64)r->from << ck->g.block_shift));

	if (r->nr)
		kvsck_problem(ck, code, &at, "blocks %u to %u of the segment", r->from,
			      r->from + r->nr - 1);
	r->nr = 0;
}

static void extend_run(struct kvsck *ck, u32 segment, int code, struct run *r, u32 block, u32 nr, bool bad)
{
	if (!bad) {
		report_run(ck, segment, code, r);
		return;
	}
	if (!r->nr)
		r->from = block;
	r->nr += nr;
}

/* Any bit of [from, from + nr)? */
static bool any(const u8 *map, u64 from, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (kvsck_bit(map, from + i))
			return true;
	return false;
}

static void check_blocks(struct kvsck *ck, u32 segment)
{
	u64 first = (u64)segment << (ck->g.segment_shift - ck->g.block_shift);
	struct run free = { 0, 0 }, leak = { 0, 0 }, batch = { 0, 0 }, list = { 0, 0 };
	u32 i, unit = 1u << ck->g.unit_shift;
	bool owned, marked, batched, held, listed;

	for (i = 0; i < ck->g.seg_blocks; i += unit) {
		owned = any(ck->owned, first + i, unit);
		marked = kvsck_bit(ck->marked, first + i);
		batched = kvsck_bit(ck->batched, first + i);
		held = any(ck->held, first + i, unit);
		listed = kvsck_bit(ck->listed, first + i);
		extend_run(ck, segment, KVF_F_table_bitmap, &free, i, unit, owned && !marked);
		/* a batch must not name what is in use, nor what is free already */
		extend_run(ck, segment, KVF_F_batch_entry, &batch, i, unit, batched && (owned || !marked));
		extend_run(ck, segment, KVF_F_table_leak, &leak, i, unit,
			   i && marked && !owned && !batched && !listed && !ck->leaks_unknown);
		/* a dead list names what snapshots alone have, and all of it */
		extend_run(ck, segment, KVF_F_list_entry, &list, i, unit,
			   ck->leaks_unknown ? listed && owned && !held : listed != held);
	}
	report_run(ck, segment, KVF_F_list_entry, &list);
	report_run(ck, segment, KVF_F_table_bitmap, &free);
	report_run(ck, segment, KVF_F_batch_entry, &batch);
	report_run(ck, segment, KVF_F_table_leak, &leak);
}

/* Must the header be what the table says? Only while something of that generation is needed. */
static bool header_needed(const struct kvsck_seg *s)
{
	if (s->state & KVSCK_SEG_PAGES)
		return true;
	return s->kind == KVF_KIND_LOG && (s->live_seen || s->pinned_seen) && !(s->state & KVSCK_SEG_WHOLE);
}

static bool check_header(struct kvsck *ck, u32 segment)
{
	struct kvsck_seg *s = kvsck_seg_header(ck, segment);
	struct kvsck_where at = where_segment(ck, segment);
	int finding = s->hdr_finding;

	if (!finding && s->hdr_kind != s->kind)
		finding = KVF_F_table_kind;
	else if (!finding && (s->hdr_gen != s->gen ||
			      (s->kind == KVF_KIND_LOG && s->hdr_incarnation != s->incarnation)))
		finding = KVF_F_segment_identity;
	if (finding && header_needed(s))
		kvsck_problem(ck, finding, &at, "the table says kind %u, generation %u", s->kind, s->gen);
	return !finding;
}

static int check_footer(struct kvsck *ck, u32 segment)
{
	const struct kvsck_seg *s = &ck->seg[segment];
	struct kvf_identity id = { .segment = segment, .segment_gen = s->gen,
				   .incarnation = s->incarnation };
	u64 end = ((u64)segment + 1) << ck->g.segment_shift;
	struct kvsck_where at;
	const struct kvf_footer *f;
	struct kvf_footer head;
	u64 bytes;
	int err, finding;

	memcpy(id.uuid, ck->sb.uuid, sizeof(id.uuid));
	at = kvsck_at(ck, end - sizeof(head));
	if (kvsck_read(ck, end - sizeof(head), &head, sizeof(head))) {
		kvsck_problem(ck, KVF_F_io_error, &at, "footer of segment %u", segment);
		return 0;
	}
	finding = kvf_footer_head_verify(&head, &id, &ck->g);
	if (finding) {
		kvsck_problem(ck, finding, &at, "%s", "");
		return 0;
	}
	bytes = kvf_footer_bytes(le32_to_cpu(head.entries));
	err = kvsck_buf_reserve(&ck->payload, (size_t)bytes);
	if (err)
		return err;
	if (kvsck_read(ck, end - bytes, ck->payload.p, (u32)bytes)) {
		kvsck_problem(ck, KVF_F_io_error, &at, "footer of segment %u", segment);
		return 0;
	}
	f = (const struct kvf_footer *)(ck->payload.p + bytes - sizeof(head));
	finding = kvf_footer_verify(f, &id, &ck->g);
	if (!finding && (le64_to_cpu(f->last_lsn) != s->last_lsn ||
			 le64_to_cpu(f->first_lsn) != s->hdr_first_lsn ||
			 (s->live == s->live_seen && le64_to_cpu(f->value_bytes) < s->live + s->pinned_seen)))
		finding = KVF_F_footer_fields;
	if (finding)
		kvsck_problem(ck, finding, &at, "%s", "");
	return 0;
}

static int check_log(struct kvsck *ck, u32 segment)
{
	const struct kvsck_seg *s = &ck->seg[segment];
	struct kvsck_where at = where_segment(ck, segment);
	bool header = check_header(ck, segment);

	if (s->live != s->live_seen && !ck->leaks_unknown)
		kvsck_problem(ck, KVF_F_table_live, &at, "%llu bytes of live values, the table says %llu",
			      s->live_seen, s->live);
	if (s->pinned != s->listed)
		kvsck_problem(ck, KVF_F_list_entry, &at, "%llu bytes of records in dead lists, the table "
			      "says %llu", s->listed, s->pinned);
	if (s->pinned - KVF_MIN(s->pinned, s->orphaned) != s->pinned_seen && !ck->leaks_unknown)
		kvsck_problem(ck, KVF_F_table_pinned, &at, "%llu bytes of values of snapshots alone, the "
			      "table says %llu", s->pinned_seen, s->pinned - KVF_MIN(s->pinned, s->orphaned));
	if ((s->live_seen || s->pinned_seen) && s->state & KVSCK_SEG_WHOLE)
		kvsck_problem(ck, KVF_F_batch_entry, &at, "it holds live values and is named as free");
	/* What a batch names as a whole may be in use again already. */
	if (header && !(s->state & KVSCK_SEG_WHOLE) && s->flags & KVF_SEGMENT_SEALED &&
	    s->flags & KVF_SEGMENT_FOOTER)
		return check_footer(ck, segment);
	return 0;
}

static int check_segment(struct kvsck *ck, u32 segment)
{
	const struct kvsck_seg *s = &ck->seg[segment];
	struct kvsck_where at = where_segment(ck, segment);

	if (!(s->state & KVSCK_SEG_ENTRY)) {
		if (s->state & KVSCK_SEG_PAGES) {
			kvsck_seg_header(ck, segment);
			if (s->hdr_finding || s->hdr_kind != KVF_KIND_TREE)
				kvsck_problem(ck, KVF_F_ref_kind, &at, "pages are in use here");
		}
		return 0;
	}
	if (s->state & KVSCK_SEG_PAGES && s->kind != KVF_KIND_TREE) {
		kvsck_problem(ck, KVF_F_ref_kind, &at, "pages are in use here, the table says kind %u",
			      s->kind);
		return 0;
	}
	if (s->state & KVSCK_SEG_WHOLE && s->kind != KVF_KIND_LOG)
		kvsck_problem(ck, KVF_F_batch_entry, &at, "named as free as a whole, but is no LOG segment");
	if (s->state & KVSCK_SEG_LOG && s->state & KVSCK_SEG_PAGES)
		kvsck_problem(ck, KVF_F_ref_shared, &at, "the log and pages share the segment");
	if (s->kind == KVF_KIND_LOG)
		return check_log(ck, segment);
	if (s->kind == KVF_KIND_TREE) {
		check_header(ck, segment);
		check_blocks(ck, segment);
	} else if (any(ck->batched, (u64)segment * ck->g.seg_blocks, ck->g.seg_blocks)) {
		kvsck_problem(ck, KVF_F_batch_entry, &at, "its blocks are named as free, the table says "
			      "kind %u", s->kind);
	}
	return 0;
}

static void check_tail(struct kvsck *ck)
{
	struct kvsck_seg *s = kvsck_seg_header(ck, KVF_SEG_TAIL);
	struct kvsck_where at = where_segment(ck, KVF_SEG_TAIL);

	if (s->hdr_finding)
		kvsck_problem(ck, s->hdr_finding, &at, "the TAIL segment");
	else if (s->hdr_kind != KVF_KIND_TAIL)
		kvsck_problem(ck, KVF_F_segment_kind, &at, "not TAIL but %u", s->hdr_kind);
	else if (s->hdr_gen != le32_to_cpu(ck->sb.tail_gen))
		kvsck_problem(ck, KVF_F_segment_identity, &at, "generation %u, the superblock says %u",
			      s->hdr_gen, le32_to_cpu(ck->sb.tail_gen));
}

int kvsck_pass_space(struct kvsck *ck)
{
	int err = 0;
	u32 i;

	if (ck->segments > KVF_SEG_TAIL)
		check_tail(ck); /* pages below KVF_SEG_FIRST: kvf_ref_verify has refused them */
	for (i = KVF_SEG_FIRST; i < ck->segments && !err; i++) {
		err = kvsck_cancelled(ck);
		if (!err)
			err = check_segment(ck, i);
	}
	return err;
}
