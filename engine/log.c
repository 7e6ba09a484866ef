/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log.c - the log: its ring and the way home. log_head.c goes from segment to segment, log_append.c puts
 * records in, log_sync.c makes them safe.
 *
 * Log bytes that are not yet at home stand in a ring in memory, one segment's behind the other's. The
 * window (kill-safe memory of the medium) mirrors the last of them; without a window, or as long as it is
 * too small, an acknowledgement waits for the write. Whole blocks are written home, in flights: begun by
 * whoever finds enough of them, waited for by who needs the room, or syncs; in their order. The partial
 * tail block goes to the tail place that does not hold the newest durable tail. A process that is killed
 * leaves its flights to the system, which ends them before it gives back the process's locks: the next
 * opening finds all of it at home.
 *
 * Invariants:
 *  L1 a byte of ring or window is reused only after its flight has landed.
 *  L2 nothing is acknowledged or named durable beyond filled_lsn.
 *  L3 FUA alone makes a commit durable only if no plain write is pending (unsynced is false).
 *  L4 the newest durable tail place is never written to.
 *  L5 no flush counts for what is under way when it begins.
 *
 * Records are put into the ring under the append lock: single ones by those that share the writer lock,
 * transactions and changes of segment by whoever has it alone. Writing, sealing, syncing: flush lock.
 */
#include "log_internal.h"

#define RING_MAX (1024u << 10)

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
	log->ring_bytes = KVF_MAX(db->geo.window, KVF_MIN(RING_MAX, 2 * db->geo.segment));
	log->ring = kvp_iobuf_alloc(log->ring_bytes);
	log->tail = kvp_iobuf_alloc(db->geo.block);
	log->out = kvp_iobuf_alloc(db->geo.block);
	log->pad = kvp_alloc(2 * (size_t)db->geo.block, KVP_ZERO);
	log->head = kvp_alloc(sizeof(struct kvf_record) + db->geo.key_max, 0);
	return log->ring && log->tail && log->out && log->pad && log->head ? 0 : -KVE_no_memory;
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

static struct kve_log_flight *flight_oldest(struct kve_log *log)
{
	return &log->flight[log->first_flight];
}

static bool of_head(const struct kve_log *log, const struct kve_log_flight *f)
{
	return f->segment == log->pos.segment && f->gen == log->pos.gen;
}

const struct kve_log_flight *kve_log_flight_before(const struct kve_log *log)
{
	const struct kve_log_flight *f = &log->flight[log->first_flight];

	return log->flights && !of_head(log, f) ? f : NULL;
}

u32 kve_log_ring_room(const struct kve_log *log)
{
	const struct kve_log_flight *f = kve_log_flight_before(log);
	u32 tail = log->base + log->written;

	if (KVP_BUG("ring-reuse"))
		return log->ring_bytes;
	if (f && !KVP_BUG("ending-overrun"))
		tail = f->base + f->from;
	return log->ring_bytes - (log->base + log->pos.offset - tail);
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

void kve_log_ring_put(struct kve_log *log, u32 off, const void *data, u32 len)
{
	u32 at = kve_log_ring_at(log, log->base, off), part = KVF_MIN(len, log->ring_bytes - at);

	if (!len)
		return;
	memcpy(log->ring + at, data, part);
	memcpy(log->ring, (const u8 *)data + part, len - part);
}

unsigned int kve_log_ring_ios(struct kv_db *db, u32 from, u32 to, struct kvp_io *io)
{
	struct kve_log *log = &db->log;
	u64 off = kve_segment_offset(db, log->pos.segment) + from;
	u32 at = kve_log_ring_at(log, log->base, from), len = to - KVF_MIN(to, from);
	u32 part = KVF_MIN(len, log->ring_bytes - at);
	unsigned int n = 0;

	kve_log_io_add(io, &n, off, log->ring + at, part);
	kve_log_io_add(io, &n, off + part, log->ring, len - part);
	return n;
}

/* ---- flights: flush lock ------------------------------------------------------------------------ */

static void footer_free(struct kve_log_flight *f)
{
	kvp_iobuf_free(f->footer, f->footer_bytes);
	f->footer = NULL;
}

/* What the medium has not begun stays with a process that is gone. */
static void flights_end(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kve_log_flight *f;
	u32 i;

	for (i = 0; i < log->flights; i++) {
		f = &log->flight[(log->first_flight + i) % KVE_LOG_FLIGHTS];
		if (f->batch.own)
			(void)kvp_dev_finish(db->dev, &f->batch);
		f->batch.own = NULL;
		footer_free(f);
	}
}

int kve_log_land(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kve_log_flight *f = flight_oldest(log);
	int err;

	if (!log->flights)
		return 0;
	err = log->lost ? -KVE_io_write : kvp_dev_finish(db->dev, &f->batch);
	if (err && !log->lost) {
		/* It stays readable, in the ring. */
		f->batch.own = NULL;
		flights_end(db);
		log->lost = true;
	}
	if (err)
		return kve_degrade(db, KVE_io_write, "log segment %u: could not be written", f->segment);
	footer_free(f);
	kvp_mutex_lock(&log->append);
	if (of_head(log, f))
		log->written = KVF_MAX(log->written, f->to);
	log->first_flight = (log->first_flight + 1) % KVE_LOG_FLIGHTS;
	log->flights--;
	kvp_mutex_unlock(&log->append);
	return 0;
}

int kve_log_land_before(struct kv_db *db)
{
	int err = 0;

	while (!err && kve_log_flight_before(&db->log))
		err = kve_log_land(db);
	return err;
}

int kve_log_land_all(struct kv_db *db)
{
	int err = 0;

	while (!err && db->log.flights)
		err = kve_log_land(db);
	return err;
}

int kve_log_flight_new(struct kv_db *db, struct kve_log_flight **out)
{
	struct kve_log *log = &db->log;
	int err = log->flights == KVE_LOG_FLIGHTS || log->lost ? kve_log_land(db) : 0;

	*out = &log->flight[(log->first_flight + log->flights) % KVE_LOG_FLIGHTS];
	return err;
}

int kve_log_flight_start(struct kv_db *db, struct kve_log_flight *f, unsigned int n, u32 to)
{
	struct kve_log *log = &db->log;

	log->unsynced = true;
	kvp_dev_start(db->dev, &f->batch, f->io, n);
	kvp_mutex_lock(&log->append);
	f->segment = log->pos.segment;
	f->gen = log->pos.gen;
	f->base = log->base;
	f->from = log->sent;
	f->to = to;
	log->sent = to;
	log->flights++;
	kvp_mutex_unlock(&log->append);
	/* What was not begun would be lost with this process. */
	return f->batch.own || KVP_BUG("ending-not-begun") ? 0 : kve_log_land_all(db);
}

int kve_log_send(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kve_log_flight *f;
	u32 to;
	int err;

	kvp_mutex_lock(&log->append);
	to = (u32)KVF_ROUND_DOWN(log->pos.offset, db->geo.block);
	kvp_mutex_unlock(&log->append);
	if (log->sent >= to)
		return 0;
	err = kve_log_flight_new(db, &f);
	return err ? err : kve_log_flight_start(db, f, kve_log_ring_ios(db, log->sent, to, f->io), to);
}

int kve_log_write_home(struct kv_db *db)
{
	int err = kve_log_send(db);

	return err ? err : kve_log_land_all(db);
}

int kve_log_room_make(struct kv_db *db)
{
	int err = kve_log_send(db);

	return err ? err : kve_log_land(db);
}

void kve_log_exit(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	if (!log->lost)
		flights_end(db);
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
