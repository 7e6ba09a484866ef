/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.c - headers of segments, read once each when first asked for.
 *
 * Whether a bad header matters depends on what is to be found in the segment, so nothing is reported
 * here.
 */
#include "ck.h"

struct kvsck_seg *kvsck_seg_header(struct kvsck *ck, u32 segment)
{
	struct kvsck_seg *s = &ck->seg[segment];
	struct kvf_segment_header h;
	struct kvf_identity id;

	if (s->state & KVSCK_SEG_HEADER)
		return s;
	s->state |= KVSCK_SEG_HEADER;
	if (kvsck_read(ck, (u64)segment << ck->g.segment_shift, &h, sizeof(h))) {
		s->hdr_finding = KVF_F_io_error;
		return s;
	}
	memcpy(id.uuid, ck->sb.uuid, sizeof(id.uuid));
	id.segment = segment;
	id.segment_gen = le32_to_cpu(h.gen);
	id.incarnation = 0;
	s->hdr_finding = kvf_segment_header_verify(&h, &id, 0);
	if (s->hdr_finding)
		return s;
	s->hdr_kind = h.kind;
	s->hdr_gen = le32_to_cpu(h.gen);
	s->hdr_incarnation = le32_to_cpu(h.incarnation);
	s->hdr_next = le32_to_cpu(h.next_segment);
	s->hdr_next_gen = le32_to_cpu(h.next_gen);
	s->hdr_first_lsn = le64_to_cpu(h.first_lsn);
	return s;
}
