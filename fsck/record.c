/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.c - find a record of the log wherever its bytes are.
 *
 * A record has one home position. Until the log has been written there, its blocks may stand elsewhere:
 * the last, unfinished one in a tail place; those behind some block in the window. The sums are seeded
 * with the home position: a wrong mixture never passes, and the first that passes is right. Mixtures
 * other than "all at home" are tried only when that fails, which is at the end of the log or on damage.
 */
#include "ck.h"

struct mix {
	u32 window;	/* bytes from this offset on come from the window, */
	u32 window_end; /* up to this one */
	u32 tail_at;	/* the block that begins here comes from a tail place */
	u8 tail;	/* KVSCK_TAIL0 or KVSCK_TAIL1; KVSCK_HOME: none does */
};

/* Blocks that [off, off + len) touches. */
static u32 blocks_of(const struct kvsck *ck, u32 off, u32 len)
{
	if (!len)
		return 1;
	return ((off + len - 1) >> ck->g.block_shift) - (off >> ck->g.block_shift) + 1;
}

static int window_read(struct kvsck *ck, u64 base, u32 off, u8 *buf, u32 len)
{
	u32 at, n;
	int err;

	while (len) {
		at = off & (ck->g.window - 1);
		n = KVF_MIN(len, ck->g.window - at);
		err = kvsck_read(ck, base + ck->g.window_offset + at, buf, n);
		if (err)
			return err;
		off += n;
		buf += n;
		len -= n;
	}
	return 0;
}

int kvsck_source_read(struct kvsck *ck, enum kvsck_source src, u32 segment, u32 off, void *buf, u32 len)
{
	u64 base = (u64)KVF_SEG_TAIL << ck->g.segment_shift;

	if (src == KVSCK_HOME)
		return kvsck_read(ck, ((u64)segment << ck->g.segment_shift) + off, buf, len);
	if (src == KVSCK_WINDOW)
		return window_read(ck, base, off, buf, len);
	base += ck->g.tail_offset;
	if (src == KVSCK_TAIL1)
		base += ck->g.block;
	return kvsck_read(ck, base + (off & (ck->g.block - 1)), buf, len);
}

static int mix_read(struct kvsck *ck, const struct mix *m, u32 segment, u32 off, u8 *buf, u32 len)
{
	u32 end = off + len, until;
	enum kvsck_source src;
	int err = 0;

	while (!err && off < end) {
		src = off >= m->window && off < m->window_end ? KVSCK_WINDOW : KVSCK_HOME;
		until = KVF_MIN(end, src == KVSCK_WINDOW ? m->window_end :
				     off < m->window ? m->window : end);
		if (m->tail && off < m->tail_at) {
			until = KVF_MIN(until, m->tail_at);
		} else if (m->tail && off < m->tail_at + ck->g.block) {
			src = (enum kvsck_source)m->tail;
			until = KVF_MIN(end, m->tail_at + ck->g.block);
		}
		err = kvsck_source_read(ck, src, segment, off, buf, until - off);
		buf += until - off;
		off = until;
	}
	return err;
}

/*
 * The i-th mixture for the stretch [off, off + len): all at home; then for each block, the last first,
 * what begins with it, or it alone, in the window; that block in a tail place, and what follows at home
 * or in the window. False: no more.
 */
static bool mix_nth(const struct kvsck *ck, u32 i, u32 off, u32 len, struct mix *m)
{
	u32 per_block = ck->g.window ? 6 : 2, n = blocks_of(ck, off, len), block;

	m->window = m->window_end = m->tail_at = KVSCK_AT_HOME;
	m->tail = KVSCK_HOME;
	if (!i--)
		return true;
	if (i / per_block >= n)
		return false;
	block = (u32)KVF_ROUND_DOWN(off, ck->g.block) + (n - 1 - i / per_block) * ck->g.block;
	switch (i % per_block) {
	case 0:
	case 1:
		m->tail_at = block;
		m->tail = i % per_block ? KVSCK_TAIL1 : KVSCK_TAIL0;
		break;
	case 2:
		m->window = block;
		break;
	case 3:
		m->window = block;
		m->window_end = block + ck->g.block;
		break;
	default:
		m->tail_at = block;
		m->tail = i % per_block == 4 ? KVSCK_TAIL0 : KVSCK_TAIL1;
		m->window = block + ck->g.block;
	}
	return true;
}

/* Header, extension and key by one mixture. Finding, or negative. */
static int head_try(struct kvsck *ck, const struct kvf_identity *id, u32 off, const struct mix *m)
{
	const struct kvf_record *r;
	u32 have, need = sizeof(*r);
	int err, finding;

	for (;;) {
		err = kvsck_buf_reserve(&ck->head, need);
		if (err)
			return err;
		err = mix_read(ck, m, id->segment, off, ck->head.p, need);
		if (err)
			return err == -KVE_truncated ? KVF_F_volume_short : KVF_F_io_error;
		r = (const struct kvf_record *)ck->head.p;
		have = need;
		finding = kvf_record_verify(r, have, id, off, &ck->g, &need);
		if (finding != KVF_F_record_size || need <= have || need > ck->g.segment - off)
			return finding;
	}
}

int kvsck_record_at(struct kvsck *ck, enum kvsck_source src, const struct kvf_identity *id, u32 off)
{
	struct mix m = { .window = src == KVSCK_WINDOW ? 0 : KVSCK_AT_HOME,
			 .window_end = KVSCK_AT_HOME, .tail_at = KVSCK_AT_HOME };

	if (src == KVSCK_TAIL0 || src == KVSCK_TAIL1) {
		m.tail = (u8)src;
		m.tail_at = (u32)KVF_ROUND_DOWN(off, ck->g.block);
	}
	return head_try(ck, id, off, &m);
}

/* The first block of the record that was not taken from home. */
static void note_elsewhere(struct kvsck *ck, const struct mix *m)
{
	ck->elsewhere = KVF_MIN(ck->elsewhere, KVF_MIN(m->window, m->tail_at));
}

static int head_find(struct kvsck *ck, const struct kvf_identity *id, u32 off)
{
	u32 i, len = sizeof(struct kvf_record) + 64 + ck->g.key_max; /* the longest that it can be */
	int finding, first = 0;
	struct mix m;

	len = KVF_MIN(len, ck->g.segment - off);
	for (i = 0; mix_nth(ck, i, off, len, &m); i++) {
		finding = head_try(ck, id, off, &m);
		if (finding <= 0) {
			note_elsewhere(ck, &m);
			return finding;
		}
		if (!i)
			first = finding;
	}
	return first;
}

static int payload_find(struct kvsck *ck, const struct kvf_identity *id, u32 off)
{
	const struct kvf_record *r = kvsck_record(ck);
	u32 i, home = off, len = le32_to_cpu(r->payload_len);
	struct mix m;
	int err, finding = KVF_F_record_payload;

	off += (u32)sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len);
	err = kvsck_buf_reserve(&ck->payload, len);
	for (i = 0; !err && mix_nth(ck, i, off, len, &m); i++) {
		err = mix_read(ck, &m, id->segment, off, ck->payload.p, len);
		if (!err && !kvf_record_payload_verify(r, ck->payload.p, id, home)) {
			note_elsewhere(ck, &m);
			return 0;
		}
		if (err && !i)
			finding = err == -KVE_truncated ? KVF_F_volume_short : KVF_F_io_error;
		err = kvsck_cancelled(ck);
	}
	return err ? err : finding;
}

int kvsck_record_find(struct kvsck *ck, const struct kvf_identity *id, u32 off, bool want_payload,
		      int *payload)
{
	int err;

	*payload = 0;
	ck->elsewhere = KVSCK_AT_HOME;
	if (off > ck->g.segment - sizeof(struct kvf_record))
		return KVF_F_record_none;
	err = head_find(ck, id, off);
	if (err || !want_payload)
		return err;
	err = payload_find(ck, id, off);
	if (err < 0)
		return err;
	*payload = err;
	return 0;
}
