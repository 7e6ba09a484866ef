/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * logscan.c - reading the log record by record, as replay does.
 *
 * The bytes of a block may stand at home, in one of the two tail places, or in the window. At each
 * position the home blocks are tried first, then home with one block taken from a tail place, then home
 * with all blocks from some block on taken from the window. Seeds and LSNs make sure that only the record
 * that belongs at this very position of this timeline passes.
 *
 * In a segment whose footer is at or below the attested LSN, payloads of separated values are not
 * verified here: reading the value does that.
 */
#include "kve.h"

#define PIECE_MIN (64u << 10) /* is read at first, and twice as much each time */
#define PIECE_MAX (512u << 10)
#define BEYOND_SEGMENTS 16u

struct kve_scan {
	struct kv_db *db;
	struct kve_logpos pos;
	u64 attested;
	u32 next_segment, next_gen;
	u8 *img;	 /* the segment */
	u32 have_from, have; /* bytes [from, have) of it have been read */
	u32 piece;	     /* so many are next */
	u8 *place;	 /* two blocks */
	u8 *window;
	u8 *save;	 /* what a trial replaced */
	u8 *home;	 /* a block read again */
	u8 *patched;	 /* per block: not as at home */
	bool tail_read, want_patches;
	bool asked, sealed; /* its footer has been looked at, and says that all of it is durable */
	u32 visited;
	int broken; /* the segment after a SEAL record could not be entered: why */
	int patch_error;
	struct kvf_record seal; /* the last one: img holds the next segment */
};

static bool scan_alloc(struct kve_scan *sc, const struct kvf_geometry *g)
{
	sc->img = kvp_iobuf_alloc(g->segment);
	sc->place = kvp_iobuf_alloc(2 * g->block);
	sc->window = kvp_iobuf_alloc(KVF_MAX(g->window, g->block));
	sc->save = kvp_iobuf_alloc(KVF_MAX(g->window, g->block));
	sc->home = kvp_iobuf_alloc(g->block);
	sc->patched = kvp_alloc(g->seg_blocks, KVP_ZERO);
	return sc->img && sc->place && sc->window && sc->save && sc->home && sc->patched;
}

static void scan_free(struct kve_scan *sc)
{
	const struct kvf_geometry *g = &sc->db->geo;

	kvp_iobuf_free(sc->img, g->segment);
	kvp_iobuf_free(sc->place, 2 * g->block);
	kvp_iobuf_free(sc->window, KVF_MAX(g->window, g->block));
	kvp_iobuf_free(sc->save, KVF_MAX(g->window, g->block));
	kvp_iobuf_free(sc->home, g->block);
	kvp_free(sc->patched);
	kvp_free(sc);
}

/* Bytes of the segment that the file has. */
static u32 segment_bytes(const struct kve_scan *sc)
{
	u64 off = kve_segment_offset(sc->db, sc->pos.segment), size = sc->db->dev->size;

	return size <= off ? 0 : (u32)KVF_MIN(size - off, (u64)sc->db->geo.segment);
}

/* [pos, upto) of the segment is in img. */
static int scan_read(struct kve_scan *sc, u32 upto)
{
	struct kv_db *db = sc->db;
	u32 end = segment_bytes(sc), len;
	int err;

	if (upto > end)
		return -KVE_end;
	while (sc->have < upto) {
		len = KVF_MIN(sc->piece, end - sc->have);
		len = (u32)KVF_ROUND_DOWN(len, db->geo.block);
		if (!len)
			return -KVE_end;
		err = kvp_dev_read(db->dev, kve_segment_offset(db, sc->pos.segment) + sc->have,
				   sc->img + sc->have, len);
		if (err)
			return err;
		sc->have += len;
		sc->piece = KVF_MIN(sc->piece * 2, PIECE_MAX);
	}
	return 0;
}

static int tail_read(struct kve_scan *sc)
{
	struct kv_db *db = sc->db;
	u64 base = kve_segment_offset(db, KVF_SEG_TAIL);
	int err;

	if (sc->tail_read)
		return 0;
	err = kvp_dev_read(db->dev, base + db->geo.tail_offset, sc->place, 2 * db->geo.block);
	if (!err && db->geo.window)
		err = kvp_dev_read(db->dev, base + db->geo.window_offset, sc->window, db->geo.window);
	sc->tail_read = !err;
	return err;
}

static void scan_identity(const struct kve_scan *sc, struct kvf_identity *id)
{
	kve_identity(sc->db, sc->pos.segment, sc->pos.gen, sc->pos.incarnation, id);
}

/*
 * A footer at or below the attested LSN says that all of the segment is at home and durable: payloads of
 * separated values need not be read. Without it they are: a block whose beginning is at home may have its
 * durable copy in a tail place. Only who meets such a payload asks.
 */
static int footer_ask(struct kve_scan *sc)
{
	const struct kvf_geometry *g = &sc->db->geo;
	u64 base = kve_segment_offset(sc->db, sc->pos.segment);
	struct kvf_identity id;
	struct kvf_footer *f;
	u64 bytes;
	u8 *buf;

	if (sc->asked || segment_bytes(sc) < g->segment)
		return 0;
	sc->asked = true;
	/* The scan of a record may be using the other buffers. */
	f = (struct kvf_footer *)(sc->home + g->block - sizeof(*f));
	scan_identity(sc, &id);
	if (kvp_dev_read(sc->db->dev, base + g->segment - g->block, sc->home, g->block) ||
	    kvf_footer_head_verify(f, &id, g))
		return 0;
	bytes = KVF_ROUND_UP(kvf_footer_bytes(le32_to_cpu(f->entries)), g->block);
	buf = kvp_iobuf_alloc((size_t)bytes);
	if (!buf)
		return -KVE_no_memory;
	f = (struct kvf_footer *)(buf + bytes - sizeof(*f));
	if (!kvp_dev_read(sc->db->dev, base + g->segment - bytes, buf, (u32)bytes) &&
	    !kvf_footer_verify(f, &id, g))
		sc->sealed = le64_to_cpu(f->last_lsn) <= sc->attested || KVP_BUG("footer-trust");
	kvp_iobuf_free(buf, (size_t)bytes);
	return 0;
}

/* Header of the segment at pos: 0, -KVE_end (it is not what the log wants there), or an I/O error. */
static int segment_enter(struct kve_scan *sc)
{
	struct kv_db *db = sc->db;
	const struct kvf_segment_header *h = (const struct kvf_segment_header *)sc->img;
	struct kvf_identity id;
	int err;

	if (sc->pos.segment < KVF_SEG_FIRST || sc->pos.segment == KVF_NO_SEGMENT)
		return -KVE_end;
	err = segment_bytes(sc) < db->geo.segment ?
	      kve_cut_short(db, kve_segment_offset(db, sc->pos.segment + 1)) : 0;
	if (err)
		return err;
	if (segment_bytes(sc) < db->geo.block)
		return -KVE_end;
	err = kvp_dev_read(db->dev, kve_segment_offset(db, sc->pos.segment), sc->img, db->geo.block);
	if (err)
		return err;
	scan_identity(sc, &id);
	if (kvf_segment_header_verify(h, &id, KVF_KIND_LOG))
		return -KVE_end;
	sc->next_segment = le32_to_cpu(h->next_segment);
	sc->next_gen = le32_to_cpu(h->next_gen);
	sc->have_from = sc->have = (u32)KVF_ROUND_DOWN(sc->pos.offset, db->geo.block);
	memset(sc->patched, 0, db->geo.seg_blocks);
	sc->asked = sc->sealed = false;
	return 0;
}

/* ---- one record at the position ----------------------------------------------------------------- */

/* Header at the position in img: 0, a finding, or negative. */
static int header_at(struct kve_scan *sc)
{
	const struct kvf_record *r = (const struct kvf_record *)(sc->img + sc->pos.offset);
	u32 off = sc->pos.offset, avail, need = sizeof(*r);
	struct kvf_identity id;
	int err, finding;

	scan_identity(sc, &id);
	do {
		if ((u64)off + need > sc->db->geo.segment)
			return KVF_F_record_size;
		err = scan_read(sc, off + need);
		if (err)
			return err;
		avail = need;
		finding = kvf_record_verify(r, avail, &id, off, &sc->db->geo, &need);
	} while (finding == KVF_F_record_size && need > avail);
	if (finding)
		return finding;
	if (le64_to_cpu(r->lsn) != sc->pos.lsn)
		return KVF_F_record_lsn;
	return 0;
}

static u32 record_bytes(const struct kvf_record *r)
{
	return (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
				     le32_to_cpu(r->payload_len));
}

static int payload_at(struct kve_scan *sc)
{
	const struct kvf_record *r = (const struct kvf_record *)(sc->img + sc->pos.offset);
	u32 head = (u32)sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len);
	struct kvf_identity id;
	int err;

	err = kve_record_separated(sc->db, r) ? footer_ask(sc) : 0;
	if (!err && kve_record_separated(sc->db, r) && sc->sealed)
		return 0;
	if (!err)
		err = scan_read(sc, sc->pos.offset + record_bytes(r));
	if (err)
		return err;
	scan_identity(sc, &id);
	return kvf_record_payload_verify(r, (const u8 *)r + head, &id, sc->pos.offset);
}

/* What precedes the position has been verified: it stays. */
static void keep_verified(struct kve_scan *sc, u32 off)
{
	if (off < sc->pos.offset)
		memcpy(sc->img + off, sc->save, sc->pos.offset - off);
}

/* Put len bytes of other at offset off of img, keeping what was there. */
static void swap_in(struct kve_scan *sc, u32 off, const u8 *other, u32 len)
{
	memcpy(sc->save, sc->img + off, len);
	memcpy(sc->img + off, other, len);
	keep_verified(sc, off);
}

/* Blocks [from, from + len) of the window as the segment's. */
static void window_in(struct kve_scan *sc, u32 off, u32 len)
{
	u32 w = sc->db->geo.window, at = off & (w - 1), part = KVF_MIN(len, w - at);

	memcpy(sc->save, sc->img + off, len);
	memcpy(sc->img + off, sc->window + at, part);
	memcpy(sc->img + off + part, sc->window, len - part);
	keep_verified(sc, off);
}

/* A trial at [off, off + len) succeeded: keep it up to the record's end. */
static void keep(struct kve_scan *sc, u32 off, u32 len)
{
	const struct kvf_record *r = (const struct kvf_record *)(sc->img + sc->pos.offset);
	u32 block = sc->db->geo.block, end, b;

	end = (u32)KVF_ROUND_UP(sc->pos.offset + record_bytes(r), block);
	if (end < off + len)
		memcpy(sc->img + end, sc->save + (end - off), off + len - end);
	end = KVF_MIN(end, off + len);
	for (b = off; b < end; b += block)
		sc->patched[b / block] |= memcmp(sc->img + b, sc->save + (b - off), block) != 0;
}

/* Record from home with the blocks at [off, off + len) as they are in img now. 0: whole. */
static int trial(struct kve_scan *sc, u32 off, u32 len)
{
	u32 have = sc->have;
	int res;

	/* What a trial needs beyond is at home. */
	res = header_at(sc);
	if (!res)
		res = payload_at(sc);
	if (res || have < off)
		memcpy(sc->img + off, sc->save, len);
	else
		keep(sc, off, len);
	return res;
}

/* What stands at home where an earlier record's block was taken from elsewhere. */
static int home_read(struct kve_scan *sc, u32 off)
{
	const struct kvf_geometry *g = &sc->db->geo;

	if (!sc->patched[off >> g->block_shift])
		return -KVE_end;
	return kvp_dev_read(sc->db->dev, kve_segment_offset(sc->db, sc->pos.segment) + off, sc->home,
			    g->block);
}

/* Each source of the block at b in turn: 0 when one of them makes the record whole. */
static int block_elsewhere(struct kve_scan *sc, u32 b, u32 most, int *best)
{
	const struct kvf_geometry *g = &sc->db->geo;
	int res, i;

	for (i = 0; i < 5; i++) {
		if (i < 2) {
			swap_in(sc, b, sc->place + (u32)i * g->block, g->block);
		} else if (i == 2 && !home_read(sc, b)) {
			swap_in(sc, b, sc->home, g->block);
		} else if (i > 2 && g->window) {
			/* From here on, or one block alone: the rest may have been brought home. */
			window_in(sc, b, i == 3 ? KVF_MIN(most - b, g->window) : g->block);
		} else {
			continue;
		}
		res = trial(sc, b, i == 3 ? KVF_MIN(most - b, g->window) : g->block);
		if (res <= 0 && res != -KVE_end)
			return res;
		if (res == KVF_F_record_payload)
			*best = res;
	}
	return -KVE_end;
}

/* The record at the position with help of tail places and window. 0, a finding, or negative. */
static int find_elsewhere(struct kve_scan *sc, int first)
{
	const struct kvf_geometry *g = &sc->db->geo;
	u32 start = (u32)KVF_ROUND_DOWN(sc->pos.offset, g->block), b, most;
	u32 span = KVF_MAX(g->window, g->block * 8);
	int res, best = first;

	res = tail_read(sc);
	if (res)
		return res;
	most = start + span;
	/* The header is at home: only the end of a long record can be elsewhere. */
	if (first == KVF_F_record_payload) {
		b = sc->pos.offset + record_bytes((const struct kvf_record *)(sc->img + sc->pos.offset));
		most = KVF_MAX(most, (u32)KVF_ROUND_UP(b, g->block));
		start = most - span;
	}
	most = (u32)KVF_MIN((u64)most, (u64)KVF_ROUND_DOWN(segment_bytes(sc), g->block));
	res = scan_read(sc, most);
	if (res)
		return res == -KVE_end ? first : res;
	for (b = start; b < most; b += g->block) {
		res = block_elsewhere(sc, b, most, &best);
		if (res != -KVE_end)
			return res;
		/* Later blocks do not change a header that ends before them. */
		if (b > start + g->block && header_at(sc) && sc->pos.offset + sizeof(struct kvf_record) +
		    g->key_max <= b)
			break;
	}
	return best;
}

static int scan_seal(struct kve_scan *sc)
{
	struct kve_logpos old = sc->pos;
	int err;

	if (sc->visited++ > sc->db->dev->size >> sc->db->geo.segment_shift)
		return -KVE_end;
	kve_scan_patches(sc, sc->pos.offset);
	sc->pos.segment = sc->next_segment;
	sc->pos.gen = sc->next_gen;
	sc->pos.offset = sc->db->geo.block;
	err = segment_enter(sc);
	if (err == -KVE_end) {
		/* Where the successor should begin: nothing comes after it. */
		sc->have_from = sc->have = old.offset;
		sc->pos.offset = sc->db->geo.block;
	}
	return err;
}

int kve_scan_next(struct kve_scan *sc, u64 until, struct kve_scan_record *out)
{
	const struct kvf_record *r;
	int res;

	if (until && sc->pos.lsn >= until)
		return -KVE_end;
	if (sc->broken)
		return sc->broken;
	res = header_at(sc);
	if (!res)
		res = payload_at(sc);
	out->elsewhere = res > 0 || res == -KVE_end;
	if (out->elsewhere)
		res = find_elsewhere(sc, res);
	if (res < 0)
		return res;
	out->poison = res == KVF_F_record_payload;
	if (res && (!out->poison || header_at(sc)))
		return -KVE_end;
	r = (const struct kvf_record *)(sc->img + sc->pos.offset);
	out->r = r;
	out->key = kvf_record_key(r);
	out->payload = out->key + le16_to_cpu(r->key_len);
	out->offset = sc->pos.offset;
	out->segment = sc->pos.segment;
	out->gen = sc->pos.gen;
	sc->attested = KVF_MAX(sc->attested, le64_to_cpu(r->attested));
	sc->pos.offset += record_bytes(r);
	sc->pos.lsn++;
	if (r->kind != KVF_RECORD_SEAL)
		return 0;
	memcpy(&sc->seal, r, sizeof(*r));
	out->r = &sc->seal;
	res = scan_seal(sc);
	/* The SEAL record counts; what follows it is the next call's affair. */
	sc->broken = res;
	return 0;
}

/* ---- beyond the end ----------------------------------------------------------------------------- */

static void attest(struct kve_scan *sc, const u8 *at, u32 avail, const struct kvf_identity *id, u32 offset)
{
	const struct kvf_record *r = (const struct kvf_record *)at;
	u64 lsn = le64_to_cpu(r->lsn);
	u32 need;

	if (le32_to_cpu(r->incarnation) != id->incarnation || lsn < sc->pos.lsn ||
	    lsn - sc->pos.lsn >= 1ull << 32 || le64_to_cpu(r->attested) >= lsn)
		return;
	if (!kvf_record_verify(r, avail, id, offset, &sc->db->geo, &need))
		sc->attested = KVF_MAX(sc->attested, le64_to_cpu(r->attested));
}

/* Every place of a segment at which a block of other could stand. */
static void attest_block(struct kve_scan *sc, const u8 *block, const struct kvf_identity *id)
{
	const struct kvf_geometry *g = &sc->db->geo;
	u32 at, b;

	for (at = 0; at + sizeof(struct kvf_record) <= g->block; at += KVF_RECORD_ALIGN) {
		if (kvf_get32(block + at + __builtin_offsetof(struct kvf_record, incarnation)) !=
		    id->incarnation)
			continue;
		for (b = g->block; b < g->segment; b += g->block)
			attest(sc, block + at, g->block - at, id, b + at);
	}
}

static void attest_window(struct kve_scan *sc, const struct kvf_identity *id)
{
	const struct kvf_geometry *g = &sc->db->geo;
	u32 at, off;

	for (at = 0; g->window && at + sizeof(struct kvf_record) <= g->window; at += KVF_RECORD_ALIGN) {
		if (kvf_get32(sc->window + at + __builtin_offsetof(struct kvf_record, incarnation)) !=
		    id->incarnation)
			continue;
		for (off = at; off < g->segment; off += g->window)
			if (off >= g->block)
				attest(sc, sc->window + at, g->window - at, id, off);
	}
}

int kve_scan_beyond(struct kve_scan *sc)
{
	struct kv_db *db = sc->db;
	struct kve_logpos at = sc->pos;
	struct kvf_identity id;
	u32 i, off;
	int err = tail_read(sc);

	for (i = 0; !err && i < BEYOND_SEGMENTS; i++) {
		scan_identity(sc, &id);
		for (off = 0; off < 2; off++)
			attest_block(sc, sc->place + off * db->geo.block, &id);
		attest_window(sc, &id);
		if (sc->broken && !i)
			break;
		err = scan_read(sc, (u32)KVF_ROUND_DOWN(segment_bytes(sc), db->geo.block));
		for (off = sc->pos.offset; !err && off + sizeof(struct kvf_record) <= sc->have;
		     off += KVF_RECORD_ALIGN)
			attest(sc, sc->img + off, sc->have - off, &id, off);
		sc->pos.segment = sc->next_segment;
		sc->pos.gen = sc->next_gen;
		sc->pos.offset = db->geo.block;
		if (!err)
			err = segment_enter(sc);
	}
	sc->pos = at;
	return err == -KVE_end ? 0 : err;
}

/* ---- opening and closing ------------------------------------------------------------------------- */

int kve_scan_open(struct kv_db *db, const struct kve_logpos *from, u64 attested, bool patches,
		  struct kve_scan **out)
{
	struct kve_scan *sc = kvp_alloc(sizeof(*sc), KVP_ZERO);
	int err;

	if (!sc)
		return -KVE_no_memory;
	sc->db = db;
	sc->want_patches = patches;
	sc->pos = *from;
	sc->attested = attested;
	sc->piece = PIECE_MIN;
	err = scan_alloc(sc, &db->geo) ? segment_enter(sc) : -KVE_no_memory;
	/* The first header was durable before the superblock that names it. */
	if (err == -KVE_end)
		err = kve_fail(db, KVE_corrupt_log, "segment %u, where the log begins: bad header; run "
			       "'kvs-fsck -n %s'", from->segment, db->dev->name);
	if (err) {
		scan_free(sc);
		return err;
	}
	*out = sc;
	return 0;
}

void kve_scan_pos(const struct kve_scan *sc, struct kve_logpos *pos)
{
	*pos = sc->pos;
}

u64 kve_scan_attested(const struct kve_scan *sc)
{
	return sc->attested;
}

/* Blocks below end that are not at home go to db->patches; behind end their bytes are zero. */
int kve_scan_patches(struct kve_scan *sc, u32 end)
{
	struct kv_db *db = sc->db;
	u32 b, off, valid;
	struct kve_patch *p;

	for (b = 0; sc->want_patches && b < db->geo.seg_blocks; b++) {
		off = b << db->geo.block_shift;
		if (!sc->patched[b] || off >= end)
			continue;
		p = kvp_alloc(sizeof(*p), 0);
		if (p)
			p->block = kvp_iobuf_alloc(db->geo.block);
		if (!p || !p->block) {
			kvp_free(p);
			return sc->patch_error = -KVE_no_memory;
		}
		valid = KVF_MIN(end - off, db->geo.block);
		memcpy(p->block, sc->img + off, valid);
		memset(p->block + valid, 0, db->geo.block - valid);
		p->segment = sc->pos.segment;
		p->offset = off;
		p->next = db->patches;
		db->patches = p;
	}
	return 0;
}

int kve_scan_close(struct kve_scan *sc)
{
	int err;

	if (!sc->broken)
		kve_scan_patches(sc, sc->pos.offset);
	err = sc->patch_error;
	scan_free(sc);
	return err;
}
