/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_copy.c - the live records of a round in the order of their keys, written to cold segments.
 *
 * Copies stand in the order of (tree, key), with the LSNs of the originals, in segments that replay never
 * sees: no successor, and no superblock begins there. A cold segment is written once, whole, while
 * the next one is made. It is not flushed here: a checkpoint that shows the new refs flushes before it writes
 * its superblock.
 */
#include "gc.h"

#define PIECE (256u << 10)

/* ---- transfers --------------------------------------------------------------------------------- */

u32 kve_gc_ios(const struct kv_db *db)
{
	return db->geo.segment / PIECE + 3;
}

void kve_gc_io_add(struct kv_db *db, struct kve_gc_lane *lane, u8 op, u32 segment, u32 from, u32 to)
{
	u64 base = kve_segment_offset(db, segment);
	struct kvp_io *io;

	for (; from < to; from += io->len) {
		io = &lane->io[lane->ios++];
		memset(io, 0, sizeof(*io));
		io->op = op;
		io->off = base + from;
		io->buf = lane->buf + from;
		io->len = KVF_MIN(to - from, PIECE);
	}
}

void kve_gc_io_start(struct kv_db *db, struct kve_gc_lane *lane)
{
	kvp_dev_start(db->dev, &lane->batch, lane->io, lane->ios);
	lane->under_way = true;
}

int kve_gc_io_wait(struct kv_db *db, struct kve_gc_lane *lane)
{
	int err = lane->under_way ? kvp_dev_finish(db->dev, &lane->batch) : 0;

	lane->under_way = false;
	lane->ios = 0;
	return err;
}

/* ---- order: heap sort of places ------------------------------------------------------------------ */

static const u8 *key_of(const struct kve_gc *gc, u32 record, u32 *len, u32 *tree)
{
	const struct kvf_record *r = (const struct kvf_record *)(gc->memory.buf + gc->record[record].at);

	*len = le16_to_cpu(r->key_len);
	*tree = le32_to_cpu(r->tree);
	return kvf_record_key(r);
}

/* Bytes that all keys begin with. */
static u32 prefix_common(const struct kve_gc *gc)
{
	u32 len, tree, n, i, k;
	const u8 *first = key_of(gc, 0, &n, &tree), *key;

	for (i = 1; i < gc->nr && n; i++) {
		key = key_of(gc, i, &len, &tree);
		for (k = 0; k < n && k < len && key[k] == first[k]; k++)
			;
		n = k;
	}
	return n;
}

static int order_make(struct kve_gc *gc)
{
	u32 i, k, len, prefix = prefix_common(gc);
	struct kve_gc_order *o;
	const u8 *key;

	gc->order = kvp_alloc_array(gc->nr, sizeof(*gc->order), KVP_ZERO);
	if (!gc->order)
		return -KVE_no_memory;
	for (i = 0; i < gc->nr; i++) {
		o = &gc->order[i];
		key = key_of(gc, i, &len, &o->tree);
		o->record = i;
		for (k = 0; k < sizeof(o->head); k++)
			o->head = o->head << 8 | (prefix + k < len ? key[prefix + k] : 0);
	}
	return 0;
}

static int compare(const struct kve_gc *gc, const struct kve_gc_order *a, const struct kve_gc_order *b)
{
	u32 tree, len_a, len_b;
	const u8 *key_a, *key_b;

	if (a->tree != b->tree)
		return a->tree < b->tree ? -1 : 1;
	if (a->head != b->head)
		return a->head < b->head ? -1 : 1;
	key_a = key_of(gc, a->record, &len_a, &tree);
	key_b = key_of(gc, b->record, &len_b, &tree);
	return kvf_key_compare(key_a, len_a, key_b, len_b);
}

static void order_swap(struct kve_gc_order *a, struct kve_gc_order *b)
{
	struct kve_gc_order tmp = *a;

	*a = *b;
	*b = tmp;
}

static void sift(struct kve_gc *gc, u32 at, u32 nr)
{
	struct kve_gc_order *o = gc->order;
	u32 kid;

	for (; (kid = 2 * at + 1) < nr; at = kid) {
		if (kid + 1 < nr && compare(gc, &o[kid], &o[kid + 1]) < 0)
			kid++;
		if (compare(gc, &o[at], &o[kid]) >= 0)
			return;
		order_swap(&o[at], &o[kid]);
	}
}

static void order_sort(struct kve_gc *gc)
{
	u32 i;

	for (i = gc->nr / 2; i-- > 0;)
		sift(gc, i, gc->nr);
	for (i = gc->nr; i-- > 1;) {
		order_swap(&gc->order[0], &gc->order[i]);
		sift(gc, 0, i);
	}
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Records from first on that one cold segment takes. */
static u32 segment_fill(const struct kv_db *db, const struct kve_gc *gc, u32 first)
{
	u32 off = db->geo.block, i;

	for (i = first; i < gc->nr; i++) {
		off += kve_gc_nth(gc, i)->bytes;
		if (off + kvf_record_bytes(0, 0, 0) + kvf_footer_bytes(i + 1 - first) > db->geo.segment)
			break;
	}
	return i - first;
}

int kve_gc_plan(struct kv_db *db, struct kve_gc *gc, u32 *segments)
{
	u32 first;
	int err = gc->nr ? order_make(gc) : 0;

	*segments = 0;
	if (err)
		return err;
	order_sort(gc);
	for (first = 0; first < gc->nr; (*segments)++)
		first += segment_fill(db, gc, first);
	return 0;
}

/* A cold segment in memory: the records [first, first + nr). */
struct cold {
	struct kvf_identity id;
	u8 *buf;
	u32 first, nr;
	u64 last; /* highest LSN */
};

/* A record at its new home; its LSN stays. */
static void copy_make(struct kv_db *db, struct kve_gc *gc, struct cold *c, struct kve_gc_record *gr, u32 off)
{
	struct kvf_record *r = (struct kvf_record *)(c->buf + off);
	u32 ext;

	memcpy(r, gc->memory.buf + gr->at, gr->bytes);
	ext = kvf_record_ext_len(r);
	r->flags |= KVF_RECORD_COPY;
	r->attested = cpu_to_le64(0);
	r->txn_index = cpu_to_le32(0);
	r->txn_count = cpu_to_le32(1);
	if (KVP_BUG("gc-new-lsn"))
		r->lsn = cpu_to_le64(kvp_load(&db->log.filled_lsn) + 1);
	kvf_record_seal(r, &c->id, off, ext, kvf_record_key(r) + le16_to_cpu(r->key_len),
			le32_to_cpu(r->payload_len));
	kve_gc_ref(&gr->new, r, &c->id, off);
	c->last = KVF_MAX(c->last, le64_to_cpu(r->lsn));
}

static u32 seal_make(const struct cold *c, u32 off)
{
	struct kvf_record *r = (struct kvf_record *)(c->buf + off);

	r->kind = KVF_RECORD_SEAL;
	r->lsn = cpu_to_le64(c->last);
	r->txn_count = cpu_to_le32(1);
	kvf_record_seal(r, &c->id, off, 0, NULL, 0);
	return off + (u32)kvf_record_bytes(0, 0, 0);
}

/* Returns its first byte. */
static u32 footer_make(struct kv_db *db, const struct kve_gc *gc, const struct cold *c, u32 end)
{
	struct kvf_footer *f = (struct kvf_footer *)(c->buf + db->geo.segment - sizeof(*f));
	struct kvf_footer_entry *e = (struct kvf_footer_entry *)f - c->nr;
	const struct kve_gc_record *gr;
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < c->nr; i++) {
		gr = kve_gc_nth(gc, c->first + i);
		e[i].offset = gr->new.offset;
		e[i].bytes = cpu_to_le32(gr->bytes);
		bytes += gr->bytes;
	}
	f->entries = cpu_to_le32(c->nr);
	f->end = cpu_to_le32(end);
	f->first_lsn = kve_gc_nth(gc, c->first)->new.lsn;
	f->last_lsn = cpu_to_le64(c->last);
	f->records = cpu_to_le32(c->nr + 1);
	f->value_bytes = cpu_to_le64(bytes);
	kvf_footer_seal(f, &c->id);
	return db->geo.segment - (u32)kvf_footer_bytes(c->nr);
}

/* All of it in memory; its transfers are added. What is between records and footer is not written. */
static void segment_make(struct kv_db *db, struct kve_gc *gc, struct cold *c, struct kve_gc_lane *lane)
{
	struct kvf_segment_header *h = (struct kvf_segment_header *)c->buf;
	u32 off = db->geo.block, footer, i;

	memset(c->buf, 0, off);
	for (i = c->first; i < c->first + c->nr; i++) {
		copy_make(db, gc, c, kve_gc_nth(gc, i), off);
		off += kve_gc_nth(gc, i)->bytes;
	}
	memset(c->buf + off, 0, db->geo.segment - off);
	h->kind = KVF_KIND_LOG;
	h->next_segment = cpu_to_le32(KVF_NO_SEGMENT);
	h->first_lsn = kve_gc_nth(gc, c->first)->new.lsn;
	kvf_segment_header_seal(h, &c->id);
	off = seal_make(c, off);
	footer = (u32)KVF_ROUND_DOWN(footer_make(db, gc, c, off), db->geo.block);
	off = (u32)KVF_MIN(KVF_ROUND_UP(off, db->geo.block), footer);
	kve_gc_io_add(db, lane, KVP_IO_WRITE, c->id.segment, 0, off);
	kve_gc_io_add(db, lane, KVP_IO_WRITE, c->id.segment, footer, db->geo.segment);
}

/* A segment for the records from first on, taken, made and on its way. */
static int segment_begin(struct kv_db *db, struct kve_gc *gc, u32 first, u32 nr)
{
	struct kve_gc_lane *lane = &gc->lane[gc->colds % gc->abreast];
	struct cold c = { .first = first, .nr = nr, .buf = lane->buf };
	u32 segment, gen;
	struct kve_logpos pos;
	int err = kve_segment_take(db, KVF_KIND_LOG, KVE_SHARE_FREEING, &segment);

	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	gen = db->space.seg[segment].gen;
	kvp_mutex_unlock(&db->space.lock);
	err = kve_segment_back(db, segment, db->geo.segment, 0);
	if (err) {
		kve_segment_drop(db, segment);
		return err;
	}
	kve_log_pos(db, &pos);
	kve_identity(db, segment, gen, pos.incarnation, &c.id);
	segment_make(db, gc, &c, lane);
	kvp_mutex_lock(&db->space.lock);
	db->space.seg[segment].incarnation = pos.incarnation;
	db->space.seg[segment].last_lsn = c.last;
	kvp_mutex_unlock(&db->space.lock);
	gc->cold[gc->colds++] = segment;
	kve_gc_io_start(db, lane);
	return 0;
}

/* The oldest of those that are on their way is written, and sealed. */
static int segment_end(struct kv_db *db, struct kve_gc *gc)
{
	int err = kve_gc_io_wait(db, &gc->lane[gc->colds_written % gc->abreast]);
	struct kve_segment *s;

	if (err && err != -KVE_no_memory)
		err = kve_degrade(db, KVE_io_write, "copies of values could not be written");
	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[gc->cold[gc->colds_written++]];
	s->busy = true;
	s->flags |= KVF_SEGMENT_SEALED | KVF_SEGMENT_COLD | KVF_SEGMENT_FOOTER;
	kvp_mutex_unlock(&db->space.lock);
	return 0;
}

static void segments_drop(struct kv_db *db, struct kve_gc *gc)
{
	u32 i;

	for (i = 0; i < gc->abreast; i++)
		(void)kve_gc_io_wait(db, &gc->lane[i]);
	while (gc->colds > gc->colds_written)
		kve_segment_drop(db, gc->cold[--gc->colds]);
}

static int segments_make(struct kv_db *db, struct kve_gc *gc)
{
	u32 first, nr;
	int err = 0;

	for (first = 0; first < gc->nr && !err; first += nr) {
		nr = segment_fill(db, gc, first);
		if (gc->colds - gc->colds_written == gc->abreast && !KVP_BUG("gc-lane-reused"))
			err = segment_end(db, gc);
		if (!err)
			err = segment_begin(db, gc, first, nr);
		/* What has a copy can go. */
		if (err == -KVE_no_space && first) {
			gc->nr = first;
			gc->cut = true;
			err = 0;
			break;
		}
	}
	while (!err && gc->colds > gc->colds_written)
		err = segment_end(db, gc);
	if (err)
		segments_drop(db, gc);
	return err;
}

/* Checkpoint lock: no table shows a segment half done. */
int kve_gc_write(struct kv_db *db, struct kve_gc *gc)
{
	int err;

	kvp_mutex_lock(&db->ckpt_lock);
	err = segments_make(db, gc);
	kvp_mutex_unlock(&db->ckpt_lock);
	if (!err)
		kvp_add(&db->gc_moved, (u64)gc->used);
	return err;
}
