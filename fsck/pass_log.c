/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_log.c - follow the log from the replay position to its end.
 *
 * The tail rule: a record that cannot be read at or below the attested LSN is damage; above it the first
 * one ends the log, torn by a crash, which is no fault. A bad payload at or below the attested LSN costs
 * its own key only. A read error is never the end of the log. After an unclean opening (incarnation !=
 * replay_incarnation) the log is cut: it must reach just below cut_lsn, and what lies behind that is an
 * abandoned timeline.
 */
#include "ck.h"

struct log {
	struct kvf_identity id;
	u32 off;
	u64 lsn;      /* of the record expected here */
	u64 cut;      /* 0: none */
	u32 txn_left; /* records that the open transaction lacks */
	u32 txn_count;
	bool end;
};

static struct kvsck_where where_log(const struct kvsck *ck, const struct log *lg)
{
	return kvsck_at(ck, ((u64)lg->id.segment << ck->g.segment_shift) + lg->off);
}

/* Nothing that can be read stands at the position. Is that the end of the log? */
static int at_end(struct kvsck *ck, struct log *lg, int finding)
{
	struct kvsck_where w = where_log(ck, lg);
	int err;

	lg->end = true;
	/* The end of the file is an end as any other: growth that was not synced. pass_super judges its
	 * size. */
	if (finding == KVF_F_io_error) {
		kvsck_problem(ck, finding, &w, "LSN %llu: whether the log ends here cannot be told", lg->lsn);
		return 0;
	}
	/* A recovery that was cut short may have torn what it was bringing home: nothing of it was synced. */
	if (lg->cut) {
		kvsck_found(ck, ck->attested < lg->lsn ? KVSCK_NOTE : KVSCK_PROBLEM, KVF_F_log_gap, &w,
			    "LSN %llu: %s; the log was cut before LSN %llu", lg->lsn,
			    kvf_finding_text(finding), lg->cut);
		return 0;
	}
	if (ck->attested < lg->lsn) {
		err = kvsck_scan_attested(ck, &lg->id, lg->off, lg->lsn);
		if (err)
			return err;
	}
	if (ck->attested >= lg->lsn)
		kvsck_problem(ck, KVF_F_log_gap, &w,
			      "LSN %llu: %s; all up to LSN %llu was durable and is lost from here on",
			      lg->lsn, kvf_finding_text(finding), ck->attested);
	else if (finding != KVF_F_record_none)
		kvsck_note(ck, finding, &w, "LSN %llu: the log ends here, torn by a crash", lg->lsn);
	return 0;
}

/* The header is good, the payload is not. */
static int bad_payload(struct kvsck *ck, struct log *lg, int finding)
{
	const struct kvf_record *r = kvsck_record(ck);
	struct kvsck_where w = where_log(ck, lg);
	u64 lsn = le64_to_cpu(r->lsn);
	int err;

	if (ck->attested < lsn && !lg->cut && finding == KVF_F_record_payload) {
		/* it uses ck->head: fetch the record again */
		err = kvsck_scan_attested(ck, &lg->id, lg->off, lsn);
		if (err)
			return err;
		err = kvsck_record_find(ck, &lg->id, lg->off, false, &finding);
		if (err < 0)
			return err;
		finding = KVF_F_record_payload;
		r = kvsck_record(ck);
	}
	if (ck->attested < lsn && !lg->cut) {
		lg->end = true;
		kvsck_found(ck, finding == KVF_F_record_payload ? KVSCK_NOTE : KVSCK_PROBLEM, finding, &w,
			    "LSN %llu: the log ends here", lsn);
		return 0;
	}
	w.tree_id = le32_to_cpu(r->tree);
	w.range = w.single = true;
	w.from = kvf_record_key(r);
	w.from_len = le16_to_cpu(r->key_len);
	kvsck_problem(ck, finding, &w, "LSN %llu: the value of this key is lost", lsn);
	return 0;
}

/*
 * A transaction's records are consecutive but for a SEAL between them. One that lacks its end, because
 * there was no space for the rest, is dropped when the next begins.
 */
static void check_txn(struct kvsck *ck, struct log *lg, const struct kvf_record *r)
{
	u32 index = le32_to_cpu(r->txn_index), count = le32_to_cpu(r->txn_count);
	u32 due = lg->txn_left ? lg->txn_count - lg->txn_left : 0;
	struct kvsck_where w = where_log(ck, lg);

	if (r->kind == KVF_RECORD_SEAL)
		return;
	if (index ? !lg->txn_left || count != lg->txn_count || index != due : lg->txn_left != 0)
		kvsck_found(ck, index ? KVSCK_PROBLEM : KVSCK_NOTE, KVF_F_record_txn, &w,
			    "LSN %llu: place %u of %u where %u of %u is due", lg->lsn, index, count, due,
			    lg->txn_left ? lg->txn_count : count);
	lg->txn_count = count;
	lg->txn_left = count - index - 1;
}

/* The size that holds the successor was durable before the header that names it. */
static void check_successor(struct kvsck *ck, u32 segment)
{
	u32 next = kvsck_seg_header(ck, segment)->hdr_next;
	struct kvsck_where w = kvsck_at(ck, (u64)segment << ck->g.segment_shift);

	if (next != KVF_NO_SEGMENT && next >= ck->io->size >> ck->g.segment_shift)
		kvsck_problem(ck, KVF_F_volume_short, &w,
			      "segment %u, which comes after this one in the log, is missing", next);
}

/* Behind a SEAL: the successor that the segment's header names. */
static int go_on(struct kvsck *ck, struct log *lg)
{
	struct kvsck_seg *s = kvsck_seg_header(ck, lg->id.segment), *next;
	struct kvsck_where w = kvsck_at(ck, (u64)lg->id.segment << ck->g.segment_shift);
	int finding;

	if (s->hdr_finding || (s->hdr_next < ck->log_segments &&
			       ck->seg[s->hdr_next].state & KVSCK_SEG_LOG)) {
		kvsck_problem(ck, s->hdr_finding ? s->hdr_finding : KVF_F_segment_next, &w,
			      "the log's segment after this one (%u) cannot be followed", s->hdr_next);
		lg->end = true;
		return 0;
	}
	/* none chosen, or cut off */
	if (s->hdr_next >= ck->log_segments)
		return at_end(ck, lg, KVF_F_segment_next);
	lg->id.segment = s->hdr_next;
	lg->id.segment_gen = s->hdr_next_gen;
	lg->off = ck->g.block;
	if (lg->cut && lg->lsn >= lg->cut)
		return 0;
	next = kvsck_seg_header(ck, lg->id.segment);
	finding = next->hdr_finding;
	if (!finding && next->hdr_kind != KVF_KIND_LOG)
		finding = KVF_F_segment_kind;
	else if (!finding && (next->hdr_gen != lg->id.segment_gen ||
			      next->hdr_incarnation != lg->id.incarnation ||
			      next->hdr_first_lsn != lg->lsn))
		finding = KVF_F_segment_identity;
	if (finding)
		return at_end(ck, lg, finding);
	next->state |= KVSCK_SEG_LOG;
	check_successor(ck, lg->id.segment);
	return 0;
}

static int one_record(struct kvsck *ck, struct log *lg)
{
	bool want = !(ck->opt->flags & KVSCK_NO_VALUES) || lg->lsn > ck->attested;
	const struct kvf_record *r;
	struct kvsck_where w;
	int err, payload;

	err = kvsck_record_find(ck, &lg->id, lg->off, want, &payload);
	if (err < 0)
		return err;
	if (err)
		return at_end(ck, lg, err);
	r = kvsck_record(ck);
	if (le64_to_cpu(r->lsn) != lg->lsn) {
		w = where_log(ck, lg);
		kvsck_problem(ck, KVF_F_record_lsn, &w, "LSN %llu where %llu is due", le64_to_cpu(r->lsn),
			      lg->lsn);
		return at_end(ck, lg, KVF_F_record_lsn);
	}
	ck->attested = KVF_MAX(ck->attested, le64_to_cpu(r->attested));
	if (payload) {
		err = bad_payload(ck, lg, payload);
		if (err || lg->end)
			return err;
		r = kvsck_record(ck);
	}
	check_txn(ck, lg, r);
	if (ck->hooks && ck->hooks->logged) {
		err = ck->hooks->logged(ck, &lg->id, lg->off, payload);
		if (err)
			return err;
	}
	ck->rep->log_records++;
	lg->off += (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					 le32_to_cpu(r->payload_len));
	lg->lsn++;
	return r->kind == KVF_RECORD_SEAL ? go_on(ck, lg) : 0;
}

/* The header of the segment in which replay begins. */
static void check_first(struct kvsck *ck, const struct log *lg)
{
	struct kvsck_seg *s = kvsck_seg_header(ck, lg->id.segment);
	struct kvsck_where w = kvsck_at(ck, (u64)lg->id.segment << ck->g.segment_shift);
	int finding = s->hdr_finding;

	if (!finding && s->hdr_kind != KVF_KIND_LOG)
		finding = KVF_F_segment_kind;
	else if (!finding &&
		 (s->hdr_gen != lg->id.segment_gen || s->hdr_incarnation != lg->id.incarnation))
		finding = KVF_F_segment_identity;
	if (finding)
		kvsck_problem(ck, finding, &w, "the log is replayed from this segment, generation %u",
			      lg->id.segment_gen);
	else
		check_successor(ck, lg->id.segment);
	s->state |= KVSCK_SEG_LOG;
}

int kvsck_pass_log(struct kvsck *ck)
{
	const struct kvf_super *sb = &ck->sb;
	struct kvsck_where w = KVSCK_NOWHERE;
	struct log lg;
	int err = 0;

	memset(&lg, 0, sizeof(lg));
	memcpy(lg.id.uuid, sb->uuid, sizeof(lg.id.uuid));
	lg.id.segment = le32_to_cpu(sb->replay_segment);
	lg.id.segment_gen = le32_to_cpu(sb->replay_segment_gen);
	lg.id.incarnation = le32_to_cpu(sb->replay_incarnation);
	lg.off = le32_to_cpu(sb->replay_offset);
	lg.lsn = le64_to_cpu(sb->replay_lsn);
	if (sb->incarnation != sb->replay_incarnation)
		lg.cut = le64_to_cpu(sb->cut_lsn);
	if (lg.id.segment >= ck->log_segments) {
		kvsck_problem(ck, KVF_F_volume_short, &w, "the log's segment %u is missing",
			      lg.id.segment);
		return 0;
	}
	check_first(ck, &lg);
	while (!err && !lg.end && !(lg.cut && lg.lsn >= lg.cut)) {
		err = kvsck_cancelled(ck);
		if (!err)
			err = one_record(ck, &lg);
	}
	if (err)
		return err;
	ck->rep->end_lsn = lg.lsn;
	w = where_log(ck, &lg);
	if (lg.txn_left)
		kvsck_note(ck, KVF_F_record_txn, &w, "the last transaction lacks %u of %u records",
			   lg.txn_left, lg.txn_count);
	if (ck->rep->clean && ck->rep->log_records)
		kvsck_problem(ck, KVF_F_super_fields, &w,
			      "the superblock says clean, but the log holds %llu records behind its replay "
			      "position", ck->rep->log_records);
	return 0;
}
