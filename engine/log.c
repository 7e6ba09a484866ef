/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log.c - the log: its ring and the way home. log_head.c goes from segment to segment, log_append.c puts
 * records in, log_sync.c makes them safe.
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
 *  L5 the end of the segment before the head may be on its way home: until that is settled its part of the
 *     ring is not reused, and no flush counts.
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

	kve_log_ending_exit(db);
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

u32 kve_log_ring_room(const struct kve_log *log)
{
	u32 room = log->limit - (log->pos.offset - log->written);

	if (KVP_BUG("window-reuse"))
		return log->limit;
	if (log->ending.under_way && !KVP_BUG("ending-overrun"))
		room = KVF_MIN(room, log->ending.stop - log->pos.offset);
	return room;
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
	u32 at = off & (log->ring_bytes - 1), part = KVF_MIN(len, log->ring_bytes - at);

	if (!len)
		return;
	memcpy(log->ring + at, data, part);
	memcpy(log->ring, (const u8 *)data + part, len - part);
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
	int err = kve_log_settle(db);

	if (err)
		return err;
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
