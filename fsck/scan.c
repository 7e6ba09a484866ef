/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * scan.c - is the end of the log its true end? Look for records beyond it that say otherwise.
 *
 * A valid record behind a bad one proves nothing about the bad one: un-synced writes persist in any
 * order. But what it names as durable (attested) was durable when it was made. If that covers the place
 * where the log seems to end, then the end is damage, not a torn tail.
 *
 * Looked at: the rest of the segment, its successors as far as their headers verify, both tail places
 * and the window. The home of a record found in the latter is not known, only its offset modulo block
 * or window; each home that is possible is tried, for a bounded number of candidates.
 */
#include "ck.h"

#define CHUNK (64u << 10)
#define OVERLAP 128u	   /* header and a short key; longer ones are read again */
#define CANDIDATES_MAX 64u /* places looked at closely in tail places and window */

/* Could these bytes be a record that proves the end wrong? Cheap, before any sum. */
static bool plausible(const u8 *p, u32 incarnation, u64 lsn)
{
	struct kvf_record r;

	memcpy(&r, p, sizeof(r));
	return r.kind >= KVF_RECORD_PUT && r.kind <= KVF_RECORD_PAD &&
	       !(r.flags & ~KVF_RECORD_FLAGS) && le32_to_cpu(r.incarnation) == incarnation &&
	       le64_to_cpu(r.attested) >= lsn && le64_to_cpu(r.lsn) > lsn;
}

/* 0, or negative: stop. */
static int take(struct kvsck *ck, enum kvsck_source src, const struct kvf_identity *id, u32 off,
		bool *valid)
{
	int err = kvsck_record_at(ck, src, id, off);

	*valid = false;
	if (err)
		return err < 0 ? err : 0;
	*valid = true;
	ck->attested = KVF_MAX(ck->attested, le64_to_cpu(kvsck_record(ck)->attested));
	return 0;
}

static int scan_segment(struct kvsck *ck, const struct kvf_identity *id, u32 off, u64 lsn)
{
	u32 n, at, want = sizeof(struct kvf_record);
	bool valid;
	int err;

	for (; off + want <= ck->g.segment; off += n - OVERLAP) {
		n = KVF_MIN(CHUNK, ck->g.segment - off);
		err = kvsck_buf_reserve(&ck->payload, KVF_MIN(CHUNK, ck->g.segment));
		if (!err)
			err = kvsck_cancelled(ck);
		if (err)
			return err;
		if (kvsck_source_read(ck, KVSCK_HOME, id->segment, off, ck->payload.p, n))
			return 0;
		for (at = 0; at + want <= n; at += KVF_RECORD_ALIGN) {
			if (!plausible(ck->payload.p + at, id->incarnation, lsn))
				continue;
			err = take(ck, KVSCK_HOME, id, off + at, &valid);
			if (err || valid)
				return err;
		}
		if (n < CHUNK || n <= OVERLAP)
			break;
	}
	return 0;
}

/* A candidate at byte at of a stretch of len bytes whose homes are at + k * len. */
static int try_homes(struct kvsck *ck, enum kvsck_source src, u32 at, u32 len,
		     const struct kvf_identity *id, bool *valid)
{
	u32 off;
	int err = 0;

	*valid = false;
	for (off = at; !err && !*valid && off + sizeof(struct kvf_record) <= ck->g.segment; off += len)
		if (off >= ck->g.block)
			err = take(ck, src, id, off, valid);
	return err;
}

/* A tail place or the window. In the window, a ring, a header may go on at its begin. */
static int scan_folded(struct kvsck *ck, enum kvsck_source src, u32 len, const struct kvf_identity *id,
		       u64 lsn)
{
	u32 at, i, n, more, left = CANDIDATES_MAX, want = sizeof(struct kvf_record);
	bool valid;
	int err;

	for (at = 0; at < len; at += n) {
		n = KVF_MIN(CHUNK, len - at);
		more = src == KVSCK_WINDOW || at + n < len ? want : 0;
		err = kvsck_buf_reserve(&ck->payload, n + more);
		if (err)
			return err;
		if (kvsck_source_read(ck, src, id->segment, at, ck->payload.p, n + more))
			return 0;
		for (i = 0; i < n && i + want <= n + more && left; i += KVF_RECORD_ALIGN) {
			if (!plausible(ck->payload.p + i, id->incarnation, lsn))
				continue;
			left--;
			err = try_homes(ck, src, at + i, len, id, &valid);
			if (err || valid)
				return err;
		}
	}
	return 0;
}

int kvsck_scan_attested(struct kvsck *ck, const struct kvf_identity *id, u32 off, u64 lsn)
{
	struct kvf_identity next = *id;
	struct kvsck_seg *s;
	u64 left;
	int err = 0;

	for (left = ck->log_segments; left && !err; left--) {
		err = scan_segment(ck, &next, off, lsn);
		if (!err)
			err = scan_folded(ck, KVSCK_TAIL0, ck->g.block, &next, lsn);
		if (!err)
			err = scan_folded(ck, KVSCK_TAIL1, ck->g.block, &next, lsn);
		if (!err && ck->g.window)
			err = scan_folded(ck, KVSCK_WINDOW, ck->g.window, &next, lsn);
		s = kvsck_seg_header(ck, next.segment);
		if (err || ck->attested >= lsn || s->hdr_finding || s->hdr_next >= ck->log_segments)
			return err;
		next.segment = s->hdr_next;
		next.segment_gen = s->hdr_next_gen;
		s = kvsck_seg_header(ck, next.segment);
		if (s->hdr_finding || s->hdr_kind != KVF_KIND_LOG || s->hdr_gen != next.segment_gen ||
		    s->hdr_incarnation != next.incarnation)
			return 0;
		off = ck->g.block;
	}
	return err;
}
