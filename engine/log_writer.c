/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_writer.c - a thread that keeps ring and window from filling up and space ahead of the log backed, so
 * that who appends seldom waits for the medium.
 *
 * It is woken when a quarter of the window is neither at home nor on its way there, or when the log comes
 * near the end of what is backed. It sends what is whole, as anybody with the flush lock may, and waits for
 * what was sent the time before, which has mostly landed by then. Then it backs what comes next: half a
 * segment more, into the next one if need be; in the first segment as much again as there is. All it does
 * is ahead of need: without it (no thread, read-only) the same happens later, by whoever needs it.
 */
#include "log_internal.h"

#define PIECE (256u << 10) /* others wait for one at most */

static void writer_kick(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	kvp_mutex_lock(&db->state);
	kvp_store(&log->kicked, true);
	kvp_mutex_unlock(&db->state);
	/* It needs the lock. */
	kvp_cond_signal(&log->wake);
}

static u32 ahead_bytes(const struct kv_db *db)
{
	return KVF_MIN(db->geo.segment / 2, PIECE);
}

/* The first step is for small volumes, which will not need the second. */
static bool backing_due(const struct kv_db *db)
{
	const struct kve_log *log = &db->log;
	u32 near = log->pos.offset + ahead_bytes(db) / 2;

	if (!db->dev->growable || (!kvp_load(&log->switched) && log->backed <= KVE_LOG_STEP))
		return false;
	if (log->backed < db->geo.segment)
		return near > log->backed;
	return near > db->geo.segment && near - db->geo.segment > log->next_backed;
}

static bool home_due(const struct kv_db *db)
{
	const struct kve_log *log = &db->log;

	return log->pos.offset - log->sent >= (db->geo.window ? db->geo.window : log->ring_bytes) / 4;
}

void kve_log_writer_poke(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	if (!log->writer || kvp_load(&log->kicked))
		return;
	if (home_due(db) || backing_due(db))
		writer_kick(db);
}

/*
 * A sync of what lies in space that was never written changes metadata of the file, and takes twice as long.
 * Writing zeros first pays where syncs are frequent, which shows each time that more than a header's space is
 * asked for; loads are better off without. Backing lock.
 */
static unsigned int syncs_matter(struct kv_db *db, u32 bytes)
{
	struct kve_log *log = &db->log;
	u64 syncs = kvp_load(&log->syncs);

	if (bytes > db->geo.block) {
		log->syncs_frequent = syncs - log->syncs_seen > 1;
		log->syncs_seen = syncs;
	}
	return log->syncs_frequent || !kvp_load(&log->switched) ? KVP_WRITTEN : 0;
}

/* Bytes up to there that nobody has asked for. */
static u32 unasked(struct kv_db *db, u32 segment, u32 upto)
{
	u32 asked;

	kvp_mutex_lock(&db->space.lock);
	asked = db->space.seg[segment].asked;
	kvp_mutex_unlock(&db->space.lock);
	return upto - KVF_MIN(asked, upto);
}

/* Backing lock. */
static int back(struct kv_db *db, u32 segment, u32 upto, unsigned int flags)
{
	struct kve_log *log = &db->log;
	int err;

	/* What is no file has all it will ever have. */
	if (!db->dev->growable)
		upto = db->geo.segment;
	err = kve_segment_back(db, segment, upto, flags);
	if (!err && db->window)
		err = kvp_dev_window_back(db->dev, KVF_MIN(upto, db->geo.window));
	if (!err) {
		kvp_mutex_lock(&log->append);
		if (log->pos.segment == segment)
			kvp_store(&log->backed, KVF_MAX(log->backed, upto));
		if (log->next_segment == segment)
			log->next_backed = KVF_MAX(log->next_backed, upto);
		kvp_mutex_unlock(&log->append);
	}
	return err;
}

int kve_log_back(struct kv_db *db, u32 segment, u32 upto)
{
	int err;

	/* Zeros must not come behind records: one at a time. */
	kvp_mutex_lock(&db->log.backing);
	err = back(db, segment, upto, syncs_matter(db, unasked(db, segment, upto)));
	kvp_mutex_unlock(&db->log.backing);
	return err;
}

/*
 * The same, if it is still the head or the one behind it: it stays so while the lock is held, as going on to
 * another segment needs the lock. Zeros must not come to what is a page by now.
 */
static int back_ours(struct kv_db *db, u32 segment, u32 upto, unsigned int flags)
{
	struct kve_log *log = &db->log;
	bool ours;
	int err = 0;

	kvp_mutex_lock(&log->backing);
	kvp_mutex_lock(&log->append);
	ours = segment == log->pos.segment || segment == log->next_segment;
	kvp_mutex_unlock(&log->append);
	if (ours)
		err = back(db, segment, upto, flags);
	kvp_mutex_unlock(&log->backing);
	return err;
}

/* How far the head, and the one behind it, are to be backed. */
static void ahead_of(struct kv_db *db, struct kve_logpos *pos, u32 *next, u32 *head_end, u32 *next_end)
{
	struct kve_log *log = &db->log;
	u32 end;

	kvp_mutex_lock(&log->append);
	*pos = log->pos;
	*next = log->next_segment;
	end = pos->offset +
	      (kvp_load(&log->switched) ? ahead_bytes(db) : KVF_MIN(pos->offset, ahead_bytes(db)));
	kvp_mutex_unlock(&log->append);
	end = (u32)KVF_ROUND_UP(end, KVE_LOG_STEP);
	*head_end = KVF_MIN(end, db->geo.segment);
	*next_end = end > db->geo.segment ? KVF_MIN(end - db->geo.segment, ahead_bytes(db)) : 0;
}

/* Best effort: who needs the space asks again, and gets the error. */
static void back_ahead(struct kv_db *db)
{
	u32 next, head_end, next_end, at, bytes;
	struct kve_logpos pos;
	unsigned int flags;

	if (!db->dev->growable)
		return;
	ahead_of(db, &pos, &next, &head_end, &next_end);
	if (pos.segment == KVF_NO_SEGMENT)
		return;
	bytes = unasked(db, pos.segment, head_end) + (next_end ? unasked(db, next, next_end) : 0);
	kvp_mutex_lock(&db->log.backing);
	flags = syncs_matter(db, bytes);
	kvp_mutex_unlock(&db->log.backing);
	for (at = pos.offset; at < head_end;) {
		at = (u32)KVF_MIN(KVF_ROUND_UP((u64)at + 1, PIECE), (u64)head_end);
		if (back_ours(db, pos.segment, at, flags))
			return;
	}
	if (next_end)
		(void)back_ours(db, next, next_end, flags);
}

/* What fails here fails the volume; the next commit says so. */
static void send(struct kv_db *db)
{
	int err;

	kvp_mutex_lock(&db->log.flush);
	err = kve_log_send(db);
	while (!err && db->log.flights > 1)
		err = kve_log_land(db);
	kvp_mutex_unlock(&db->log.flush);
}

static void writer(void *arg)
{
	struct kv_db *db = arg;
	struct kve_log *log = &db->log;

	kvp_mutex_lock(&db->state);
	while (!db->stop) {
		if (!log->kicked || db->paused || db->degraded) {
			kvp_cond_wait(&log->wake, &db->state);
			continue;
		}
		log->writing = true;
		kvp_mutex_unlock(&db->state);
		send(db);
		back_ahead(db);
		kvp_mutex_lock(&db->state);
		kvp_store(&log->kicked, false);
		log->writing = false;
		if (db->paused)
			kvp_cond_broadcast(&db->done);
	}
	kvp_mutex_unlock(&db->state);
}

int kve_log_writer_start(struct kv_db *db)
{
	int err;

	/* It waits for the lock, and so finds all in place. */
	kvp_mutex_lock(&db->state);
	err = kvp_thread_start(&db->log.writer, "kvs-log", writer, db);
	kvp_mutex_unlock(&db->state);
	return err;
}

void kve_log_writer_stop(struct kv_db *db)
{
	struct kve_log *log = &db->log;

	if (!log->writer)
		return;
	kvp_mutex_lock(&db->state);
	kvp_cond_broadcast(&log->wake);
	kvp_mutex_unlock(&db->state);
	kvp_thread_join(log->writer);
	log->writer = NULL;
}
