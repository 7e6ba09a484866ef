/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log.c - the log: its ring, the way home, segments. log_append.c puts records into it, log_sync.c makes
 * them safe.
 *
 * Log bytes that are not yet at home stand in a ring in memory, at offset modulo its size. The window
 * (kill-safe memory of the medium) mirrors them; without a window, or when much is pending, an
 * acknowledgement waits for the write. Whole blocks are written home; the partial tail block goes to
 * the tail place that does not hold the newest durable tail.
 *
 * Invariants:
 *  L1 off - written <= limit: a byte of ring and window is reused only after its write has completed.
 *  L2 nothing is acknowledged or named durable beyond filled_lsn.
 *  L3 FUA alone makes a commit durable only if no plain write is pending (unsynced is false).
 *  L4 the newest durable tail place is never written to.
 *
 * Records are put into the ring under the append lock: single ones by those that share the writer lock,
 * transactions and changes of segment by whoever has it alone. Writing, sealing, syncing: flush lock.
 */
#include "log_internal.h"

#define RING_MAX (256u << 10)

void kve_log_init(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	kvp_mutex_init(&log->sync, "sync", KVE_RANK_SYNC);
	kvp_cond_init(&log->done[0]);
	kvp_cond_init(&log->done[1]);
	kvp_mutex_init(&log->flush, "flush", KVE_RANK_FLUSH);
	kvp_mutex_init(&log->append, "append", KVE_RANK_APPEND);
	kvp_mutex_init(&log->backing, "backing", KVE_RANK_BACKING);
	kvp_cond_init(&log->wake);
	log->place = -1;
	log->pos.segment = KVF_NO_SEGMENT;
}

int kve_log_buffers(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	if (db->read_only)
		return 0;
	log->ring_bytes = db->geo.window ? db->geo.window : KVF_MIN(RING_MAX, db->geo.segment);
	log->limit = log->ring_bytes;
	log->ring = kvp_iobuf_alloc(log->ring_bytes);
	log->tail = kvp_iobuf_alloc(db->geo.block);
	log->out = kvp_iobuf_alloc(db->geo.block);
	log->pad = kvp_alloc(2 * (size_t)db->geo.block, KVP_ZERO);
	log->head = kvp_alloc(sizeof(struct kvf_record) + db->geo.key_max, 0);
	return log->ring && log->tail && log->out && log->pad && log->head ? 0 : -KVE_no_memory;
}

void kve_log_exit(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	kvp_iobuf_free(log->ring, log->ring_bytes);
	kvp_iobuf_free(log->tail, db->geo.block);
	kvp_iobuf_free(log->out, db->geo.block);
	kvp_free(log->entries);
	kvp_free(log->head);
	kvp_free(log->pad);
	kvp_cond_destroy(&log->wake);
	kvp_mutex_destroy(&log->backing);
	kvp_mutex_destroy(&log->append);
	kvp_mutex_destroy(&log->flush);
	kvp_cond_destroy(&log->done[1]);
	kvp_cond_destroy(&log->done[0]);
	kvp_mutex_destroy(&log->sync);
}

void kve_log_pos(struct kv_db *db, struct kve_logpos *pos)
{
	kvp_mutex_lock(&db->log.append);
	*pos = db->log.pos;
	kvp_mutex_unlock(&db->log.append);
}

void kve_log_identity(struct kv_db *db, struct kvf_identity *id)
{
	const struct kve_logpos *pos = &db->log.pos;

	kve_identity(db, pos->segment, pos->gen, pos->incarnation, id);
}

/* ---- writing home: flush lock ----------------------------------------------------------------- */

/* Space was allocated before, and the records may be applied already: no error here is a mild one. */
int kve_log_write_error(struct kv_db *db, const char *what)
{
	return kve_degrade(db, KVE_io_write, "log segment %u: %s", db->log.pos.segment, what);
}

void kve_log_io_add(struct kvp_io *io, unsigned int *n, u64 off, void *buf, u32 len)
{
	memset(&io[*n], 0, sizeof(*io));
	io[*n].op = KVP_IO_WRITE;
	io[*n].off = off;
	io[*n].buf = buf;
	io[*n].len = len;
	*n += len > 0;
}

unsigned int kve_log_ring_ios(struct kv_db *db, u32 from, u32 to, struct kvp_io *io)
{
	struct kve_log *log = &db->log;
	u64 off = kve_segment_offset(db, log->pos.segment) + from;
	u32 at = from & (log->ring_bytes - 1), len = to - KVF_MIN(to, from);
	u32 part = KVF_MIN(len, log->ring_bytes - at);
	unsigned int n = 0;

	kve_log_io_add(io, &n, off, log->ring + at, part);
	kve_log_io_add(io, &n, off + part, log->ring, len - part);
	return n;
}

/* All whole blocks below off go home. */
int kve_log_write_home(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kvp_io io[2];
	u32 from, to;
	int err;

	kvp_mutex_lock(&log->append);
	from = log->written;
	to = (u32)KVF_ROUND_DOWN(log->pos.offset, db->geo.block);
	kvp_mutex_unlock(&log->append);
	if (from >= to)
		return 0;
	log->unsynced = true;
	err = kvp_dev_batch(db->dev, io, kve_log_ring_ios(db, from, to, io));
	if (err)
		return kve_log_write_error(db, "write failed");
	kvp_mutex_lock(&log->append);
	log->written = to;
	kvp_mutex_unlock(&log->append);
	return 0;
}

/* ---- segments: flush lock ---------------------------------------------------------------------- */

/* The segment that will follow the head. */
static int take_next(struct kv_db *db, enum kve_share share, u32 *segment, u32 *gen)
{
	int err = kve_segment_take(db, KVF_KIND_LOG, share, segment);

	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock); /* the array moves when it grows */
	*gen = db->space.seg[*segment].gen;
	kvp_mutex_unlock(&db->space.lock);
	return 0;
}

/* Of a segment that is to be the head, in log->out. */
static void header_make(struct kv_db *db, const struct kve_logpos *head, u32 next_segment, u32 next_gen)
{
	struct kve_log *log = &db->log;
	struct kvf_segment_header *h = (struct kvf_segment_header *)log->out;
	struct kvf_identity id;

	memset(log->out, 0, db->geo.block);
	h->kind = KVF_KIND_LOG;
	h->next_segment = cpu_to_le32(next_segment);
	h->next_gen = cpu_to_le32(next_gen);
	h->first_lsn = cpu_to_le64(head->lsn);
	kve_identity(db, head->segment, head->gen, head->incarnation, &id);
	kvf_segment_header_seal(h, &id);
}

/* Its header is at home: a killed process must leave it behind. */
static void head_set(struct kv_db *db, const struct kve_logpos *head, u32 next_segment, u32 next_gen)
{
	struct kve_log *log = &db->log;
	struct kve_segment *s;
	u32 backed;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[head->segment];
	s->incarnation = head->incarnation;
	s->row_dirty = true;
	backed = s->backed;
	kvp_mutex_unlock(&db->space.lock);
	kvp_mutex_lock(&log->append);
	log->pos = *head;
	log->pos.offset = log->filled = log->written = log->windowed = db->geo.block;
	log->next_segment = next_segment;
	log->next_gen = next_gen;
	log->backed = backed;
	log->entries_nr = log->records = 0;
	log->first_lsn = head->lsn;
	log->value_bytes = 0;
	log->resumed = 0;
	kvp_mutex_unlock(&log->append);
}

int kve_log_start(struct kv_db *db, u64 lsn)
{
	struct kve_logpos head = { .lsn = lsn, .incarnation = le32_to_cpu(db->sb.incarnation) };
	struct kve_log *log = &db->log;
	u32 next, next_gen;
	int err;

	kvp_mutex_lock(&log->flush);
	err = take_next(db, KVE_SHARE_ALL, &head.segment, &head.gen);
	if (!err)
		err = take_next(db, KVE_SHARE_ALL, &next, &next_gen);
	if (!err)
		err = kve_log_back(db, head.segment, db->geo.block);
	if (!err) {
		header_make(db, &head, next, next_gen);
		log->unsynced = true;
		err = kvp_dev_write(db->dev, kve_segment_offset(db, head.segment), log->out, db->geo.block,
				    0);
		if (err)
			err = kve_log_write_error(db, "header: write failed");
	}
	if (!err) {
		head_set(db, &head, next, next_gen);
		log->filled_lsn = lsn - 1;
		log->durable_lsn = lsn - 1;
		log->place = -1;
	}
	kvp_mutex_unlock(&log->flush);
	return err;
}

/*
 * Room that must stay behind a record: SEAL record and footer with its entries. Those of a head that was
 * resumed are read when it is sealed; until then the most that it can have count.
 */
u32 kve_log_seal_room(const struct kv_db *db, u32 more)
{
	const struct kve_log *log = &db->log;

	if (log->resumed)
		more += (log->resumed - db->geo.block) /
			(u32)kvf_record_bytes(0, 1, (u64)db->geo.inline_max + 1);
	return (u32)(kvf_record_bytes(0, 0, 0) + kvf_footer_bytes(log->entries_nr + more));
}

/* Bytes of the blocks that the footer of the head takes. */
static u32 footer_room(const struct kv_db *db)
{
	return (u32)KVF_ROUND_UP((u32)kvf_footer_bytes(db->log.entries_nr), db->geo.block);
}

/* In buf, footer_room() bytes. */
static void footer_make(struct kv_db *db, u8 *buf)
{
	struct kve_log *log = &db->log;
	u32 room = footer_room(db), start = db->geo.segment - room;
	u32 tail = (u32)KVF_ROUND_UP(log->pos.offset, db->geo.block);
	struct kvf_identity id;
	struct kvf_footer *f;

	memset(buf, 0, room);
	/* The last block of records may be the first of the footer. */
	if (tail > start)
		memcpy(buf, log->ring + (start & (log->ring_bytes - 1)), log->pos.offset - start);
	f = (struct kvf_footer *)(buf + room - sizeof(*f));
	if (log->entries_nr)
		memcpy((u8 *)f - log->entries_nr * sizeof(*log->entries), log->entries,
		       log->entries_nr * sizeof(*log->entries));
	f->entries = cpu_to_le32(log->entries_nr);
	f->end = cpu_to_le32(log->pos.offset);
	f->first_lsn = cpu_to_le64(log->first_lsn);
	f->last_lsn = cpu_to_le64(log->pos.lsn - 1);
	f->records = cpu_to_le32(log->records);
	f->value_bytes = cpu_to_le64(log->value_bytes);
	kve_log_identity(db, &id);
	kvf_footer_seal(f, &id);
}

static void seal_record(struct kv_db *db, struct kvf_record *r)
{
	struct kve_log *log = &db->log;
	struct kvf_identity id;

	memset(r, 0, (size_t)kvf_record_bytes(0, 0, 0));
	r->kind = KVF_RECORD_SEAL;
	r->lsn = cpu_to_le64(log->pos.lsn);
	r->attested = cpu_to_le64(kvp_load_acquire(&log->durable_lsn));
	r->txn_count = cpu_to_le32(1);
	kve_log_identity(db, &id);
	kvf_record_seal(r, &id, log->pos.offset, 0, NULL, 0);
}

void kve_log_ring_put(struct kve_log *log, u32 off, const void *data, u32 len)
{
	u32 at = off & (log->ring_bytes - 1), part = KVF_MIN(len, log->ring_bytes - at);

	if (!len)
		return;
	memcpy(log->ring + at, data, part);
	memcpy(log->ring, (const u8 *)data + part, len - part);
}

#define SEAL_BYTES ((u32)kvf_record_bytes(0, 0, 0))

/*
 * Everything that may run out of space or memory, before the first byte of the SEAL record: the segment
 * behind the next head, and a buffer for the footer.
 */
static int switch_prepare(struct kv_db *db, enum kve_share share, u32 *segment, u32 *gen, u8 **footer)
{
	struct kve_log *log = &db->log;
	int err = take_next(db, share, segment, gen);

	if (err)
		return err;
	err = kve_log_back(db, log->pos.segment, db->geo.segment);
	if (!err)
		err = kve_log_back(db, log->next_segment, db->geo.block);
	if (!err)
		err = kve_log_entries_complete(db);
	*footer = err ? NULL : kvp_iobuf_alloc(footer_room(db));
	if (!err && !*footer)
		err = -KVE_no_memory;
	/* What the ring still has goes with the rest, if it has room. */
	if (!err && log->limit - (log->pos.offset - log->written) < SEAL_BYTES + db->geo.block)
		err = kve_log_write_home(db);
	if (err) {
		kvp_iobuf_free(*footer, footer_room(db));
		kve_segment_drop(db, *segment);
	}
	return err;
}

/* SEAL record into the ring; its block is final: zeros up to its end, unless the footer is there. */
static u32 seal_append(struct kv_db *db)
{
	u8 buf[sizeof(struct kvf_record) + KVF_RECORD_ALIGN] __attribute__((aligned(8)));
	struct kve_log *log = &db->log;
	u32 pad;

	KVP_BUILD_BUG_ON(sizeof(buf) < 64);
	seal_record(db, (struct kvf_record *)buf);
	kvp_mutex_lock(&log->append);
	kve_log_ring_put(log, log->pos.offset, buf, SEAL_BYTES);
	log->pos.offset += SEAL_BYTES;
	log->pos.lsn++;
	log->records++;
	pad = (u32)KVF_ROUND_UP(log->pos.offset, db->geo.block) - log->pos.offset;
	memset(log->ring + (log->pos.offset & (log->ring_bytes - 1)), 0, pad);
	kvp_mutex_unlock(&log->append);
	return log->pos.offset + pad;
}

/* What is left of the old head, up to end, its footer, and the header of the new one: at once. */
static int switch_write(struct kv_db *db, u32 end, u8 *footer, const struct kve_logpos *head)
{
	struct kve_log *log = &db->log;
	u64 base = kve_segment_offset(db, log->pos.segment);
	u32 room = footer_room(db), start = db->geo.segment - room;
	struct kvp_io io[4];
	unsigned int n;
	int err;

	/* A block that has both is the footer's. */
	n = kve_log_ring_ios(db, log->written, KVF_MIN(end, start), io);
	kve_log_io_add(io, &n, base + start, footer, room);
	kve_log_io_add(io, &n, kve_segment_offset(db, head->segment), log->out, db->geo.block);
	log->unsynced = true;
	err = kvp_dev_batch(db->dev, io, n);
	return err ? kve_log_write_error(db, "could not be sealed") : 0;
}

static void sealed(struct kv_db *db, u32 segment, u64 last_lsn)
{
	struct kve_segment *s;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	s->last_lsn = last_lsn;
	s->flags |= KVF_SEGMENT_SEALED | KVF_SEGMENT_FOOTER;
	s->row_dirty = true;
	kvp_mutex_unlock(&db->space.lock);
}

int kve_log_switch(struct kv_db *db, enum kve_share share)
{
	struct kve_log *log = &db->log;
	u32 segment, gen, end, room;
	struct kve_logpos head;
	u8 *footer;
	int err;

	kvp_mutex_lock(&log->flush);
	err = switch_prepare(db, share, &segment, &gen, &footer);
	if (err)
		goto out;
	room = footer_room(db);
	end = seal_append(db);
	footer_make(db, footer);
	head = log->pos;
	head.segment = log->next_segment;
	head.gen = log->next_gen;
	header_make(db, &head, segment, gen);
	err = switch_write(db, end, footer, &head);
	kvp_iobuf_free(footer, room);
	if (!err) {
		sealed(db, log->pos.segment, head.lsn - 1);
		kvp_store(&log->switched, true);
		head_set(db, &head, segment, gen);
		kve_gc_wake(db);
	}
out:
	kvp_mutex_unlock(&log->flush);
	return err;
}

int kve_log_resume(struct kv_db *db)
{
	const struct kvf_super *sb = &db->sb;
	struct kve_log *log = &db->log;
	struct kvf_segment_header *h = (struct kvf_segment_header *)log->out;
	struct kvf_identity id;
	int err;

	log->pos.segment = le32_to_cpu(sb->replay_segment);
	log->pos.gen = le32_to_cpu(sb->replay_segment_gen);
	log->pos.incarnation = le32_to_cpu(sb->replay_incarnation);
	log->pos.offset = log->filled = log->written = log->windowed = le32_to_cpu(sb->replay_offset);
	log->pos.lsn = le64_to_cpu(sb->replay_lsn);
	log->resumed = log->pos.offset;
	log->filled_lsn = log->durable_lsn = log->pos.lsn - 1;
	err = kvp_dev_read(db->dev, kve_segment_offset(db, log->pos.segment), h, db->geo.block);
	if (err)
		return err;
	kve_log_identity(db, &id);
	err = kvf_segment_header_verify(h, &id, KVF_KIND_LOG);
	if (err)
		return kve_fail(db, KVE_corrupt_log, "head segment %u: %s; run 'kvs-fsck -n %s'",
				log->pos.segment, kvf_finding_text(err), db->dev->name);
	log->first_lsn = le64_to_cpu(h->first_lsn);
	log->next_segment = le32_to_cpu(h->next_segment);
	log->next_gen = le32_to_cpu(h->next_gen);
	if (log->next_segment >= db->space.nr ||
	    db->space.seg[log->next_segment].kind != KVF_KIND_LOG ||
	    db->space.seg[log->next_segment].gen != log->next_gen)
		return kve_fail(db, KVE_corrupt_log, "head segment %u: its successor %u is not free",
				log->pos.segment, log->next_segment);
	return 0;
}
