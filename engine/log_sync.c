/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_sync.c - acknowledgement: the window for what survives the process, groups that share a sync for what
 * survives the machine.
 */
#include "log_internal.h"

/* ---- the tail block: flush lock --------------------------------------------------------------- */

static u64 place_offset(const struct kv_db *db, int place)
{
	return kve_segment_offset(db, KVF_SEG_TAIL) + db->geo.tail_offset + (u64)place * db->geo.block;
}

static int write_place(struct kv_db *db, int place, unsigned int flags)
{
	int err = kvp_dev_write(db->dev, place_offset(db, place), db->log.tail, db->geo.block, flags);

	return err ? kve_log_write_error(db, "tail place: write failed") : 0;
}

/* The place that does not hold the newest durable tail: L4. */
static int spare_place(const struct kve_log *log)
{
	if (KVP_BUG("tail-overwrite"))
		return log->place < 0 ? 0 : log->place;
	return log->place == 0 ? 1 : 0;
}

/* Copy the partial tail block of the ring; returns its bytes. Append lock. */
static u32 tail_copy(struct kv_db *db, u32 *start)
{
	struct kve_log *log = &db->log;
	u32 at = (u32)KVF_ROUND_DOWN(log->filled, db->geo.block), len = log->filled - at;

	memcpy(log->tail, log->ring + kve_log_ring_at(log, log->base, at), len);
	memset(log->tail + len, 0, db->geo.block - len);
	*start = at;
	return len;
}

/* ---- kill-safe ---------------------------------------------------------------------------------- */

bool kve_log_window_fits(const struct kv_db *db, u32 upto)
{
	const struct kve_log *log = &db->log;
	const struct kve_log_flight *f = kve_log_flight_before(log);
	u32 bytes = upto - log->written;

	/* Segments are multiples of the window. */
	if (f)
		bytes = db->geo.segment - f->from + upto;
	return bytes <= db->geo.window || KVP_BUG("window-reuse");
}

int kve_log_window_store(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	u32 from, to, at, place, part;
	int err = 0;

	from = KVF_MAX(log->windowed, log->written);
	to = log->filled;
	while (!err && from < to && !KVP_BUG("skip-window")) {
		at = kve_log_ring_at(log, log->base, from);
		place = from & (db->geo.window - 1);
		part = KVF_MIN(to - from, KVF_MIN(log->ring_bytes - at, db->geo.window - place));
		err = kvp_dev_window_store(db->dev, place, log->ring + at, part);
		from += part;
	}
	if (!err)
		log->windowed = to;
	return err ? kve_degrade(db, KVE_io_write, "the log's window is gone (file truncated?)") : 0;
}

/* All that is complete goes to the window, the oldest of it home first as long as it is too much. */
static int window_update(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	bool fits;
	int err;

	do {
		err = 0;
		kvp_mutex_lock(&log->append);
		fits = kve_log_window_fits(db, log->filled);
		if (fits)
			err = kve_log_window_store(db);
		kvp_mutex_unlock(&log->append);
		if (!fits) {
			kvp_mutex_lock(&log->flush);
			err = kve_log_room_make(db);
			kvp_mutex_unlock(&log->flush);
		}
	} while (!fits && !err);
	return err;
}

int kve_log_kill_safe(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	u32 start, len;
	int err;

	if (db->window)
		return window_update(db);
	kvp_mutex_lock(&log->flush);
	err = kve_log_write_home(db);
	if (!err) {
		kvp_mutex_lock(&log->append);
		len = tail_copy(db, &start);
		kvp_mutex_unlock(&log->append);
		if (len)
			log->unsynced = true;
		if (len && !KVP_BUG("skip-window"))
			err = write_place(db, spare_place(log), 0);
	}
	kvp_mutex_unlock(&log->flush);
	return err;
}

/*
 * What is whole goes home, [from, start), and the len bytes behind it to a tail place: at once, since none of
 * it counts before the flush. Flush lock.
 */
static int group_write(struct kv_db *db, u32 from, u32 start, u32 len, int place)
{
	struct kve_log *log = &db->log;
	struct kvp_io io[3];
	unsigned int n = kve_log_ring_ios(db, from, start, io);
	int err;

	kve_log_io_add(io, &n, place_offset(db, place), log->tail, len ? db->geo.block : 0);
	if (!n)
		return 0;
	log->unsynced = true;
	err = kvp_dev_batch(db->dev, io, n);
	if (err)
		return kve_log_write_error(db, "group: write failed");
	kvp_mutex_lock(&log->append);
	log->sent = log->written = KVF_MAX(log->written, start);
	kvp_mutex_unlock(&log->append);
	return 0;
}

/* One group: everything complete now becomes durable. Flush lock. */
static int sync_group(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	int err = KVP_BUG("ending-forgotten") ? 0 : kve_log_land_all(db), place = spare_place(log);
	u32 start, len, from = log->sent;
	u64 lsn;
	bool fua;

	if (err)
		return err;
	kvp_mutex_lock(&log->append);
	lsn = log->filled_lsn;
	len = tail_copy(db, &start);
	if (KVP_BUG("ack-unfilled"))
		lsn++;
	kvp_mutex_unlock(&log->append);
	/* L3 */
	fua = len && start <= from && !log->unsynced;
	err = fua ? write_place(db, place, KVP_FUA) : group_write(db, from, start, len, place);
	if (err)
		return err;
	if (!fua && !KVP_BUG("close-no-sync") && !(len && KVP_BUG("fua-as-flush"))) {
		err = kvp_dev_flush(db->dev);
		if (err && KVP_BUG("retry-flush"))
			err = kvp_dev_flush(db->dev);
		if (err)
			return kve_degrade(db, KVE_indeterminate, "flush of the log failed");
	}
	log->unsynced = false;
	if (len)
		log->place = place;
	kvp_add(&log->syncs, 1u);
	kvp_store_release(&log->durable_lsn, lsn);
	return 0;
}

/* ---- groups: sync lock ------------------------------------------------------------------------- */

/* However slow the medium: a leader that waits keeps a processor busy. */
#define PATIENCE_NS 500000u

/*
 * The threads of the last group are on their way back: together with those here they make one large group,
 * where two that alternate would need twice the syncs. A lone thread never waits.
 */
static void crew_wait(struct kve_log *log) KVP_REQUIRES(log->sync);
static void crew_wait(struct kve_log *log)
{
	u64 start = kvp_monotonic_ns(), patience = KVF_MIN(log->sync_ns, (u64)PATIENCE_NS);

	while (log->joined < log->crew && kvp_monotonic_ns() - start < patience) {
		kvp_mutex_unlock(&log->sync);
		kvp_yield();
		kvp_mutex_lock(&log->sync);
	}
}

/* Close the group that is open, write for it, wake it. */
static int lead(struct kv_db *db, struct kve_log *log) KVP_REQUIRES(log->sync);
static int lead(struct kv_db *db, struct kve_log *log)
{
	u32 crew, group = log->group;
	u64 start;
	int err;

	log->leading = true;
	crew_wait(log);
	crew = log->joined;
	log->joined = 0;
	log->group++;
	kvp_mutex_unlock(&log->sync);
	start = kvp_monotonic_ns();
	kvp_mutex_lock(&log->flush);
	err = kvp_load(&db->degraded) ? -KVE_indeterminate : sync_group(db);
	kvp_mutex_unlock(&log->flush);
	kvp_mutex_lock(&log->sync);
	log->sync_ns = (7 * log->sync_ns + kvp_monotonic_ns() - start) / 8;
	log->crew = log->joined + crew;
	log->leading = false;
	kvp_cond_broadcast(&log->done[group % 2]);
	if (log->joined && !KVP_BUG("lost-leader"))
		kvp_cond_signal(&log->done[(group + 1) % 2]);
	return err;
}

/*
 * Whoever comes while nobody leads writes for all that have joined until then; who comes later joins the
 * next group. A group is durable when its leader is done: its records were complete before it joined.
 */
int kve_log_sync(struct kv_db *db, u64 lsn)
{
	struct kve_log *log = &db->log;
	u32 group;
	int err = 0;

	if (kvp_load_acquire(&log->durable_lsn) >= lsn)
		return 0;
	kvp_mutex_lock(&log->sync);
	group = log->group;
	log->joined++;
	while (!err && kvp_load_acquire(&log->durable_lsn) < lsn) {
		if (kvp_load(&db->degraded))
			err = -KVE_indeterminate;
		else if (log->leading)
			kvp_cond_wait(&log->done[group % 2], &log->sync);
		else
			err = lead(db, log);
	}
	if (group == log->group) {
		/* The sync of the group before was enough: another one has to lead. */
		log->joined--;
		if (log->joined && !log->leading && !KVP_BUG("lost-leader"))
			kvp_cond_signal(&log->done[group % 2]);
	}
	kvp_mutex_unlock(&log->sync);
	return err;
}
