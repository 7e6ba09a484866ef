/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * value.c - a separated value: does the log hold what the leaf says?
 *
 * Two leaves of one tree cannot hold the same key, and a record names its tree and key, so that each
 * record is read once at most; a forged volume whose records overlap is stopped by the sum of the
 * lengths in a segment.
 *
 * All whole blocks below the replay position were home before the superblock was written. Only the block
 * in which replay begins may stand in a tail place or in the window alone, if it was not full then. What
 * is found there of any other block is a rescue, not where it belongs.
 */
#include "ck.h"

static bool bounds_fit(const struct kvsck *ck, const struct kvf_value_ref *ref, u64 bytes)
{
	u32 segment = le32_to_cpu(ref->segment), off = le32_to_cpu(ref->offset);

	return segment >= KVF_SEG_FIRST && segment < ck->segments && off >= ck->g.block &&
	       off % KVF_RECORD_ALIGN == 0 && off < ck->g.segment && off + bytes <= ck->g.segment &&
	       le16_to_cpu(ref->head_len) > sizeof(struct kvf_record);
}

/* Does the segment hold what a ref of this generation points to? Sets the incarnation. */
static int segment_fits(struct kvsck *ck, const struct kvf_value_ref *ref, u32 *incarnation)
{
	struct kvsck_seg *s = kvsck_seg_header(ck, le32_to_cpu(ref->segment));
	u32 gen = le32_to_cpu(ref->segment_gen);

	if (s->state & KVSCK_SEG_ENTRY) {
		*incarnation = s->incarnation;
		if (s->kind != KVF_KIND_LOG)
			return KVF_F_ref_kind;
		return s->gen == gen ? 0 : KVF_F_value_mismatch;
	}
	*incarnation = s->hdr_incarnation;
	if (s->hdr_finding)
		return s->hdr_finding;
	if (s->hdr_kind != KVF_KIND_LOG)
		return KVF_F_ref_kind;
	return s->hdr_gen == gen ? 0 : KVF_F_value_mismatch;
}

static void record_matches(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e,
			   const struct kvf_value_ref *ref, const struct kvsck_where *at)
{
	const struct kvf_record *r = kvsck_record(ck);
	u32 head = (u32)sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len);
	bool chunk = w->tree->id == KVF_TREE_OBJECTS;

	if (r->kind != KVF_RECORD_PUT && (r->kind != KVF_RECORD_EXTENT || !chunk))
		kvsck_problem(ck, KVF_F_value_mismatch, at, "a record of kind %u", r->kind);
	else if (r->lsn != ref->lsn || r->payload_len != ref->payload_len ||
		 head != le16_to_cpu(ref->head_len) || r->flags & KVF_RECORD_OBJECT ||
		 (u32)le64_to_cpu(r->payload_sum) != le32_to_cpu(ref->sum32))
		kvsck_problem(ck, KVF_F_value_mismatch, at, "LSN %llu with %u bytes, record has %llu with %u",
			      le64_to_cpu(ref->lsn), le32_to_cpu(ref->payload_len), le64_to_cpu(r->lsn),
			      le32_to_cpu(r->payload_len));
	else if (le16_to_cpu(r->key_len) != e->key_len || memcmp(kvf_record_key(r), e->key, e->key_len) ||
		 (le32_to_cpu(r->tree) != w->tree->id && w->tree->head.origin == cpu_to_le64(0)))
		kvsck_problem(ck, KVF_F_value_key, at, "of tree %u", le32_to_cpu(r->tree));
}

/* Bytes of the record come from elsewhere than its home. */
static void check_home(struct kvsck *ck, const struct kvf_value_ref *ref, struct kvsck_where at)
{
	u32 block = (u32)KVF_ROUND_DOWN(le32_to_cpu(ck->sb.replay_offset), ck->g.block);

	if (ck->elsewhere == KVSCK_AT_HOME)
		return;
	if (ref->segment == ck->sb.replay_segment && ref->segment_gen == ck->sb.replay_segment_gen &&
	    ck->elsewhere == block)
		return;
	at.repairable = true;
	kvsck_problem(ck, KVF_F_record_payload, &at, "damaged at home, whole with the log's tail");
}

static int read_value(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e,
		      const struct kvf_value_ref *ref, u32 incarnation)
{
	struct kvf_identity id = { .segment = le32_to_cpu(ref->segment),
				   .segment_gen = le32_to_cpu(ref->segment_gen),
				   .incarnation = incarnation };
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	int err, payload;

	memcpy(id.uuid, ck->sb.uuid, sizeof(id.uuid));
	at.segment = id.segment;
	at.offset = ((u64)id.segment << ck->g.segment_shift) + le32_to_cpu(ref->offset);
	err = kvsck_record_find(ck, &id, le32_to_cpu(ref->offset), true, &payload);
	if (err < 0)
		return err;
	if (err || payload) {
		kvsck_problem(ck, err ? err : payload, &at, "the value of this key is lost");
	} else {
		check_home(ck, ref, at);
		record_matches(ck, w, e, ref, &at);
	}
	if (ck->hooks && ck->hooks->value)
		return ck->hooks->value(ck, w, e, &id, le32_to_cpu(ref->offset), err, payload);
	return 0;
}

static u64 record_place(const struct kvsck *ck, const struct kvf_value_ref *ref)
{
	u64 at = ((u64)le32_to_cpu(ref->segment) << ck->g.segment_shift) + le32_to_cpu(ref->offset);

	return at / KVF_RECORD_ALIGN;
}

/* A clone has it from its origin, where it counts. Walks about some keys want to see it. */
static int shared_value(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e,
			const struct kvf_value_ref *ref)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	u64 place = record_place(ck, ref);
	u32 incarnation;

	if (!ck->snap && !w->from)
		return kvsck_share_value(ck, w, place, e->leaf->addr);
	if (ck->snap && ck->records && !kvsck_bit(ck->records, place) && !ck->leaks_unknown)
		kvsck_problem(ck, KVF_F_clone_ref, &at, "value at byte %llu of the volume",
			      place * KVF_RECORD_ALIGN);
	if (ck->snap || segment_fits(ck, ref, &incarnation))
		return 0;
	return read_value(ck, w, e, ref, incarnation);
}

/* Does a snapshot refer to a record that counts already, of the live state or of an older one? */
static bool seen_before(struct kvsck *ck, const struct kvf_value_ref *ref)
{
	u64 at = record_place(ck, ref);

	if (!ck->records)
		return false;
	if (ck->snap && kvsck_bit(ck->records, at))
		return true;
	kvsck_bit_set(ck->records, at);
	return false;
}

int kvsck_value(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_value_ref ref;
	struct kvsck_seg *s;
	u32 incarnation;
	u64 bytes;
	int finding;

	if (e->body_len != sizeof(ref)) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "a value ref of %u bytes", e->body_len);
		return 0;
	}
	memcpy(&ref, e->body, sizeof(ref));
	bytes = KVF_ROUND_UP((u64)le16_to_cpu(ref.head_len) + le32_to_cpu(ref.payload_len),
			     KVF_RECORD_ALIGN);
	if (!bounds_fit(ck, &ref, bytes)) {
		kvsck_problem(ck, KVF_F_value_bounds, &at, "segment %u, offset %u, %llu bytes",
			      le32_to_cpu(ref.segment), le32_to_cpu(ref.offset), bytes);
		return 0;
	}
	if (kvsck_shared_value(w->tree, &ref))
		return shared_value(ck, w, e, &ref);
	if (seen_before(ck, &ref))
		return 0;
	ck->rep->values++;
	ck->rep->value_bytes += le32_to_cpu(ref.payload_len);
	s = &ck->seg[le32_to_cpu(ref.segment)];
	if (ck->snap)
		s->pinned_seen += bytes;
	else
		s->live_seen += bytes;
	finding = segment_fits(ck, &ref, &incarnation);
	if (finding) {
		kvsck_problem(ck, finding, &at, "segment %u, generation %u: the value of this key is lost",
			      le32_to_cpu(ref.segment), le32_to_cpu(ref.segment_gen));
		return 0;
	}
	if (s->live_seen + s->pinned_seen > ck->g.segment) {
		if (!(s->state & KVSCK_SEG_OVERLAP))
			kvsck_problem(ck, KVF_F_ref_shared, &at,
				      "more bytes of values than segment %u can hold: they overlap",
				      le32_to_cpu(ref.segment));
		s->state |= KVSCK_SEG_OVERLAP;
		return 0;
	}
	if (ck->opt->flags & KVSCK_NO_VALUES)
		return 0;
	return read_value(ck, w, e, &ref, incarnation);
}
