/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_copy.c - reading the live records of a LOG segment, writing them to cold segments.
 *
 * A record is live if its key still refers to it: a lookup says so. What does not verify stays where it is,
 * with its key's ref, and keeps its segment from being freed; nothing else suffers. Copies stand in the order
 * of (tree, key), with the LSNs of the originals, in segments that replay never sees: no successor, and no
 * superblock begins there. A cold segment is written once, whole. It is not flushed here: a checkpoint that
 * shows the new refs flushes before it writes its superblock.
 */
#include "gc.h"

#define PIECE (256u << 10)
#define PIECES 256u
#define NAME_BYTES 80u

/* ---- reading ----------------------------------------------------------------------------------- */

/* [from, to) of a segment, in pieces at once. */
static int segment_io(struct kv_db *db, u8 op, u32 segment, u8 *buf, u32 from, u32 to)
{
	struct kvp_io *io = kvp_alloc_array(PIECES, sizeof(*io), KVP_ZERO);
	u64 base = kve_segment_offset(db, segment);
	u32 n, at;
	int err;

	if (!io)
		return -KVE_no_memory;
	for (n = 0, at = from; at < to; n++) {
		io[n].op = op;
		io[n].off = base + at;
		io[n].buf = buf + at;
		io[n].len = KVF_MIN(to - at, PIECE);
		at += io[n].len;
	}
	err = n ? kvp_dev_batch(db->dev, io, n) : 0;
	kvp_free(io);
	return err;
}

static int record_add(struct kve_gc *gc)
{
	struct kve_gc_record *r;
	u32 cap;

	if (gc->nr < gc->cap)
		return 0;
	cap = gc->cap * 2 + 256;
	r = kvp_alloc_array(cap, sizeof(*r), 0);
	if (!r)
		return -KVE_no_memory;
	if (gc->nr)
		memcpy(r, gc->record, gc->nr * sizeof(*r));
	kvp_free(gc->record);
	gc->record = r;
	gc->cap = cap;
	return 0;
}

static void ref_make(struct kvf_value_ref *ref, const struct kvf_record *r, const struct kvf_identity *id,
		     u32 offset)
{
	memset(ref, 0, sizeof(*ref));
	ref->segment = cpu_to_le32(id->segment);
	ref->segment_gen = cpu_to_le32(id->segment_gen);
	ref->offset = cpu_to_le32(offset);
	ref->payload_len = r->payload_len;
	ref->lsn = r->lsn;
	ref->sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
	ref->head_len = cpu_to_le16((u16)(sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len)));
}

/* The tree, if the record's key refers to it there. */
static int tree_of(struct kv_db *db, const struct kvf_record *r, const struct kvf_value_ref *ref,
		   struct kv_tree **out)
{
	struct kve_entry e;
	struct kv_tree *t;
	int err;

	*out = NULL;
	kvp_rwsem_down_read(&db->tree_lock);
	t = kve_tree_by_id(db, le32_to_cpu(r->tree));
	kvp_rwsem_up_read(&db->tree_lock);
	if (!t || t->system || kvp_load(&t->dropped))
		return 0;
	err = kve_tree_get(t, KVE_LIVE, kvf_record_key(r), le16_to_cpu(r->key_len), &e, NULL, 0);
	if (!err && (e.flags & KVF_CELL_KIND) == KVF_CELL_REF && !(e.flags & KVF_CELL_POISON) &&
	    !memcmp(&e.ref, ref, sizeof(*ref)))
		*out = t;
	/* A leaf that cannot be read keeps what it refers to. */
	return err == -KVE_no_memory ? err : 0;
}

static int payload_bad(struct kv_db *db, const struct kvf_record *r, const struct kvf_value_ref *ref)
{
	char name[NAME_BYTES];

	kvf_key_to_text(name, sizeof(name), kvf_record_key(r), le16_to_cpu(r->key_len));
	return kve_fail(db, KVE_corrupt_value, "key '%s': segment %u offset %u: %s; run 'kvs-fsck -n %s'",
			name, le32_to_cpu(ref->segment), le32_to_cpu(ref->offset),
			kvf_finding_text(KVF_F_record_payload), db->dev->name);
}

/* A separated value stands at offset. */
static int record_take(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, u32 offset,
		       u32 bytes)
{
	const struct kvf_record *r = (const struct kvf_record *)(gc->segment + offset);
	struct kvf_value_ref ref;
	struct kv_tree *tree;
	int err;

	ref_make(&ref, r, id, offset);
	err = tree_of(db, r, &ref, &tree);
	if (err || !tree)
		return err;
	if (kvf_record_payload_verify(r, kvf_record_key(r) + le16_to_cpu(r->key_len), id, offset)) {
		payload_bad(db, r, &ref);
		return 0;
	}
	/* More than the counts said: another round's. */
	if (bytes > gc->room - gc->used)
		return 0;
	err = record_add(gc);
	if (err)
		return err;
	memcpy(gc->buf + gc->used, r, bytes);
	gc->record[gc->nr].tree = tree;
	gc->record[gc->nr].old = ref;
	gc->record[gc->nr].at = gc->used;
	gc->record[gc->nr++].bytes = bytes;
	gc->used += bytes;
	return 0;
}

/* Record by record; behind a damaged one the walk goes on at the next that verifies. */
static int segment_walk(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id)
{
	u32 at = db->geo.block, end = db->geo.segment, bytes, need;
	const struct kvf_record *r;
	int err = 0;

	while (!err && at + sizeof(*r) <= end) {
		r = (const struct kvf_record *)(gc->segment + at);
		if (le32_to_cpu(r->incarnation) != id->incarnation ||
		    kvf_record_verify(r, end - at, id, at, &db->geo, &need)) {
			at += KVF_RECORD_ALIGN;
			continue;
		}
		if (r->kind == KVF_RECORD_SEAL)
			break;
		bytes = (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					      le32_to_cpu(r->payload_len));
		if (kve_record_separated(db, r))
			err = record_take(db, gc, id, at, bytes);
		at += bytes;
	}
	return err;
}

int kve_gc_read(struct kv_db *db, struct kve_gc *gc, u32 segment)
{
	struct kvf_identity id;
	u32 gen, incarnation;
	int err;

	kvp_mutex_lock(&db->space.lock);
	gen = db->space.seg[segment].gen;
	incarnation = db->space.seg[segment].incarnation;
	kvp_mutex_unlock(&db->space.lock);
	kve_identity(db, segment, gen, incarnation, &id);
	err = segment_io(db, KVP_IO_READ, segment, gc->segment, 0, db->geo.segment);
	if (err == -KVE_no_memory)
		return err;
	/* What cannot be read stays. */
	if (err) {
		kve_fail(db, KVE_io_read, "log segment %u: its values are not moved", segment);
		return 0;
	}
	return segment_walk(db, gc, &id);
}

/* ---- order: heap sort ---------------------------------------------------------------------------- */

static int compare(const struct kve_gc *gc, const struct kve_gc_record *a, const struct kve_gc_record *b)
{
	const struct kvf_record *x = (const struct kvf_record *)(gc->buf + a->at);
	const struct kvf_record *y = (const struct kvf_record *)(gc->buf + b->at);

	if (x->tree != y->tree)
		return le32_to_cpu(x->tree) < le32_to_cpu(y->tree) ? -1 : 1;
	return kvf_key_compare(kvf_record_key(x), le16_to_cpu(x->key_len), kvf_record_key(y),
			       le16_to_cpu(y->key_len));
}

static void record_swap(struct kve_gc_record *a, struct kve_gc_record *b)
{
	struct kve_gc_record tmp = *a;

	*a = *b;
	*b = tmp;
}

static void sift(struct kve_gc *gc, u32 at, u32 nr)
{
	u32 kid;

	for (; (kid = 2 * at + 1) < nr; at = kid) {
		if (kid + 1 < nr && compare(gc, &gc->record[kid], &gc->record[kid + 1]) < 0)
			kid++;
		if (compare(gc, &gc->record[at], &gc->record[kid]) >= 0)
			return;
		record_swap(&gc->record[at], &gc->record[kid]);
	}
}

static void records_sort(struct kve_gc *gc)
{
	u32 i;

	for (i = gc->nr / 2; i-- > 0;)
		sift(gc, i, gc->nr);
	for (i = gc->nr; i-- > 1;) {
		record_swap(&gc->record[0], &gc->record[i]);
		sift(gc, 0, i);
	}
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Records from first on that one cold segment takes. */
static u32 segment_fill(const struct kv_db *db, const struct kve_gc *gc, u32 first)
{
	u32 off = db->geo.block, i;

	for (i = first; i < gc->nr; i++) {
		off += gc->record[i].bytes;
		if (off + kvf_record_bytes(0, 0, 0) + kvf_footer_bytes(i + 1 - first) > db->geo.segment)
			break;
	}
	return i - first;
}

u32 kve_gc_plan(struct kv_db *db, struct kve_gc *gc)
{
	u32 first, n = 0;

	records_sort(gc);
	for (first = 0; first < gc->nr; n++)
		first += segment_fill(db, gc, first);
	return n;
}

/* A record at its new home; its LSN stays. Returns that. */
static u64 copy_make(struct kv_db *db, struct kve_gc *gc, struct kve_gc_record *gr,
		     const struct kvf_identity *id, u32 off)
{
	struct kvf_record *r = (struct kvf_record *)(gc->segment + off);
	u32 ext;

	memcpy(r, gc->buf + gr->at, gr->bytes);
	ext = kvf_record_ext_len(r);
	r->flags |= KVF_RECORD_COPY;
	r->attested = cpu_to_le64(0);
	r->txn_index = cpu_to_le32(0);
	r->txn_count = cpu_to_le32(1);
	if (KVP_BUG("gc-new-lsn"))
		r->lsn = cpu_to_le64(kvp_load(&db->log.filled_lsn) + 1);
	kvf_record_seal(r, id, off, ext, kvf_record_key(r) + le16_to_cpu(r->key_len),
			le32_to_cpu(r->payload_len));
	ref_make(&gr->new, r, id, off);
	return le64_to_cpu(r->lsn);
}

static u32 seal_make(struct kve_gc *gc, const struct kvf_identity *id, u32 off, u64 lsn)
{
	struct kvf_record *r = (struct kvf_record *)(gc->segment + off);

	r->kind = KVF_RECORD_SEAL;
	r->lsn = cpu_to_le64(lsn);
	r->txn_count = cpu_to_le32(1);
	kvf_record_seal(r, id, off, 0, NULL, 0);
	return off + (u32)kvf_record_bytes(0, 0, 0);
}

/* Of the copies [first, first + nr), whose last LSN is last. Returns its first byte. */
static u32 footer_make(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, u32 first, u32 nr,
		       u32 end, u64 last)
{
	struct kvf_footer *f = (struct kvf_footer *)(gc->segment + db->geo.segment - sizeof(*f));
	struct kvf_footer_entry *e = (struct kvf_footer_entry *)f - nr;
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		e[i].offset = gc->record[first + i].new.offset;
		e[i].bytes = cpu_to_le32(gc->record[first + i].bytes);
		bytes += gc->record[first + i].bytes;
	}
	f->entries = cpu_to_le32(nr);
	f->end = cpu_to_le32(end);
	f->first_lsn = gc->record[first].new.lsn;
	f->last_lsn = cpu_to_le64(last);
	f->records = cpu_to_le32(nr + 1);
	f->value_bytes = cpu_to_le64(bytes);
	kvf_footer_seal(f, id);
	return db->geo.segment - (u32)kvf_footer_bytes(nr);
}

/* Copies [first, first + nr) as a segment in memory, and home with it. *last: the highest LSN. */
static int segment_make(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, u32 first, u32 nr,
			u64 *last)
{
	struct kvf_segment_header *h = (struct kvf_segment_header *)gc->segment;
	u32 off = db->geo.block, end, footer, i;
	int err;

	memset(gc->segment, 0, db->geo.segment);
	*last = 0;
	for (i = first; i < first + nr; i++) {
		*last = KVF_MAX(*last, copy_make(db, gc, &gc->record[i], id, off));
		off += gc->record[i].bytes;
	}
	h->kind = KVF_KIND_LOG;
	h->next_segment = cpu_to_le32(KVF_NO_SEGMENT);
	h->first_lsn = gc->record[first].new.lsn;
	kvf_segment_header_seal(h, id);
	off = seal_make(gc, id, off, *last);
	footer = footer_make(db, gc, id, first, nr, off, *last);
	end = (u32)KVF_ROUND_UP(off, db->geo.block);
	footer = (u32)KVF_ROUND_DOWN(footer, db->geo.block);
	if (footer <= end)
		return segment_io(db, KVP_IO_WRITE, id->segment, gc->segment, 0, db->geo.segment);
	err = segment_io(db, KVP_IO_WRITE, id->segment, gc->segment, 0, end);
	if (!err)
		err = segment_io(db, KVP_IO_WRITE, id->segment, gc->segment, footer, db->geo.segment);
	return err;
}

/* One cold segment: taken, written, sealed. Checkpoint lock: no table shows it half done. */
static int segment_write(struct kv_db *db, struct kve_gc *gc, u32 first, u32 nr)
{
	struct kve_logpos pos;
	struct kvf_identity id;
	struct kve_segment *s;
	u32 segment, gen;
	u64 last;
	int err = kve_segment_take(db, KVF_KIND_LOG, true, &segment);

	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	gen = db->space.seg[segment].gen;
	kvp_mutex_unlock(&db->space.lock);
	kve_log_pos(db, &pos);
	kve_identity(db, segment, gen, pos.incarnation, &id);
	err = kve_segment_back(db, segment, db->geo.segment, 0);
	if (err) {
		kve_segment_drop(db, segment);
		return err;
	}
	err = segment_make(db, gc, &id, first, nr, &last);
	if (err) {
		kve_segment_drop(db, segment);
		return err == -KVE_no_memory ? err :
		       kve_degrade(db, KVE_io_write, "log segment %u: copies could not be written", segment);
	}
	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	s->busy = true;
	s->incarnation = pos.incarnation;
	s->last_lsn = last;
	s->flags |= KVF_SEGMENT_SEALED | KVF_SEGMENT_COLD | KVF_SEGMENT_FOOTER;
	kvp_mutex_unlock(&db->space.lock);
	gc->cold[gc->colds++] = segment;
	return 0;
}

int kve_gc_write(struct kv_db *db, struct kve_gc *gc)
{
	u32 first, nr;
	int err = 0;

	kvp_mutex_lock(&db->ckpt_lock);
	for (first = 0; first < gc->nr && !err; first += nr) {
		nr = segment_fill(db, gc, first);
		err = segment_write(db, gc, first, nr);
		/* What has a copy can go. */
		if (err == -KVE_no_space && first) {
			gc->nr = first;
			gc->cut = true;
			err = 0;
			break;
		}
	}
	kvp_mutex_unlock(&db->ckpt_lock);
	if (!err)
		kvp_add(&db->gc_moved, (u64)gc->used);
	return err;
}
