/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_pace.c - when GC runs by itself, when a checkpoint follows it, and how long writers wait for both.
 *
 * The promise: what the volume takes of the medium is at most 1.3 times what is alive, and 64 MiB, and, where
 * values stand in leaves, what is dirty. Three lines lie below it. Above the first the background thread
 * empties segments, makes a checkpoint when enough of them are waiting for one, and keeps no state older than
 * the newest. Above the second writers wait a little for every PACE_BYTES of log, the longer the nearer they
 * come to the third, where they wait until something is free. They wait only while GC gets on: what readers
 * pin nobody can free.
 *
 * Without a background thread nothing of this happens: GC runs when it is asked for, or the volume is full.
 */
#include "gc.h"

#define PACE_BYTES (64u << 10)
#define SPARED_MAX (64ull << 20) /* that a checkpoint frees at once while GC leaves it to others */
#define WAIT_US 20000u
#define WAITS_MAX 50u /* of these: however slow the medium, a writer goes on */
#define SPARED_WAITS 4u /* there is much to free then, and that takes its time whether writers wait or not */
/* A writer waits for so many bytes: above the second line, and most below the third. */
#define PACE_LEAST_US 100u
#define PACE_MOST_US 4000u

struct lines {
	u64 used, target, soft, limit;
	u64 due;   /* used, without what comes back when the deleting that GC waits for is done */
	u32 waits; /* most of a writer */
	u64 twice; /* room for what is dirty, where values stand in leaves */
};

/*
 * Bytes of TREE segments that the next checkpoint will take. While one is under way old and new pages stand
 * side by side, but the old ones will be free by then. pages: of the newest state. Space lock.
 */
static u64 checkpoint_grows(const struct kv_db *db, u64 pages)
{
	u64 needs = KVF_MIN((u64)kvp_load(&db->cache.dirty) * db->geo.frame, pages);
	u64 room = (u64)db->space.tree_nr * db->geo.segment + db->space.replaced_bytes;

	return needs - KVF_MIN(needs, room - KVF_MIN(room, db->space.tree_bytes));
}

/* Counts alone. writing: as long as there will be other checkpoints. */
static void lines_take(struct kv_db *db, struct lines *l, bool writing)
{
	struct kve_space *sp = &db->space;
	u64 dirty = (u64)db->cache.limit / 2 * db->geo.frame, alive, live, pages;
	bool in_leaves;

	kvp_mutex_lock(&sp->lock);
	l->used = (u64)(sp->log_nr + sp->tree_nr) * db->geo.segment;
	l->waits = db->spare.lsn ? SPARED_WAITS : WAITS_MAX;
	l->due = l->used - KVF_MIN(l->used, db->spare.bytes + db->spare.objects);
	pages = sp->pending_bytes - (u64)sp->dying_nr * db->geo.segment;
	pages = sp->tree_bytes - KVF_MIN(sp->tree_bytes, pages + sp->held_bytes);
	/*
	 * What is dirty is written beside what it replaces, while the log goes on: the promise has room for
	 * half of the cache above the lines, of which this is the part that a checkpoint may need. It is not
	 * there to be won, but when no checkpoint will come.
	 */
	in_leaves = sp->live_bytes <= pages;
	l->twice = in_leaves && writing ? KVF_MIN(dirty, pages + db->checkpoint_bytes) : 0;
	/* Large values that wait for being deleted are alive no more. */
	alive = sp->live_bytes - KVF_MIN(sp->live_bytes, sp->doomed_bytes);
	/* Less the headers of records, and what of pages are refs, or unused parts of blocks. */
	live = alive - alive / 16 + (in_leaves ? pages - pages / 4 : pages / 2);
	/* What snapshots hold is not there to be freed. */
	live += sp->pinned_bytes + sp->held_bytes;
	l->target = live + live * 21 / 100 + (38u << 20) + l->twice;
	l->limit = live + live * 27 / 100 + (50u << 20) + l->twice;
	/* Elsewhere there is no such room in the promise. */
	if (!in_leaves)
		l->limit -= KVF_MIN(checkpoint_grows(db, pages), l->limit - l->target);
	l->soft = l->target + (l->limit - l->target) * 3 / 4;
	kvp_mutex_unlock(&sp->lock);
}

bool kve_space_pressed(struct kv_db *db)
{
	struct lines l;

	if (kve_space_scarce(db, kve_space_need(db, true)))
		return true;
	if (!db->worker)
		return false;
	lines_take(db, &l, false);
	return l.used > l.target;
}

/*
 * As long as somebody writes what a checkpoint frees is soon taken again, and a hole in the file stops all
 * that write to it; so what the promise allows stays, and, where values stand in leaves, what the log of two
 * checkpoints takes: that much was in use until now, and will be. Afterwards a tenth is enough.
 */
u32 kve_space_pool(struct kv_db *db, u32 segments)
{
	struct lines l;
	u64 pool;

	lines_take(db, &l, true);
	pool = l.used < l.limit ? l.limit - l.used : 0;
	if (db->worker && !kvp_load(&db->gc_quiet))
		pool = KVF_MAX(pool, KVF_MIN(2 * db->checkpoint_bytes, l.twice));
	else
		pool = KVF_MIN(pool, (u64)(segments / 10) << db->geo.segment_shift);
	return (u32)(pool >> db->geo.segment_shift);
}

/* Bytes of LOG segments that the next checkpoint frees, or has to free yet. */
static u64 reclaim_bytes(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	u64 replay_lsn;
	u32 i, n = 0;

	kvp_mutex_lock(&db->state);
	replay_lsn = le64_to_cpu(db->sb.replay_lsn);
	kvp_mutex_unlock(&db->state);
	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind != KVF_KIND_LOG)
			continue;
		n += s->dying || (s->flags & KVF_SEGMENT_SEALED && !s->live && !s->pinned && !s->busy &&
				  s->last_lsn < replay_lsn);
	}
	kvp_mutex_unlock(&sp->lock);
	return (u64)n * db->geo.segment;
}

static void progress(struct kv_db *db, bool idle)
{
	kvp_store(&db->gc_idle, idle);
	if (!idle)
		return;
	if (kvp_mutex_trylock(&db->gc_lock)) {
		kve_gc_memory_drop(db);
		kvp_mutex_unlock(&db->gc_lock);
	}
	kvp_mutex_lock(&db->state);
	kvp_cond_broadcast(&db->done);
	kvp_mutex_unlock(&db->state);
}

/* Writers do not wait for what does not come; it is tried again when more has died. */
static void vain(struct kv_db *db)
{
	db->gc_idle_freed = kvp_load(&db->space.freed_total);
	progress(db, true);
}

/* A checkpoint for what waits for one. Where readers hold it, another one has to wait for them. */
static bool release(struct kv_db *db, u64 reclaim)
{
	u64 oldest = kve_readers_oldest(db);

	if (oldest != KVE_LIVE && oldest == db->gc_reader) {
		/* Writers need not. */
		vain(db);
		return false;
	}
	db->spare.calls = ~0u; /* much is free now that was dead */
	if (kve_checkpoint(db, NULL, false, true))
		return false;
	db->gc_reader = reclaim_bytes(db) > reclaim / 2 ? oldest : KVE_LIVE;
	return true;
}

/* A step of GC, of what is not spared. */
static bool collect(struct kv_db *db, u64 spared)
{
	bool more = false;
	int err;

	if (kvp_mutex_trylock(&db->gc_lock)) {
		err = spared ? kve_gc_log_step(db, spared, &more) : kve_gc_step(db, &more);
		kvp_mutex_unlock(&db->gc_lock);
		more = more && !err;
	}
	kve_spare_turn(db, !more && !spared);
	if (more)
		progress(db, false);
	else
		vain(db);
	return more;
}

/* Nothing is under way: what now? */
static bool begin(struct kv_db *db, u64 spared)
{
	bool quiet = kvp_load(&db->gc_quiet);
	u64 reclaim, quantum;
	struct lines l;

	lines_take(db, &l, !quiet);
	if (l.used <= l.target) {
		kve_spare_turn(db, true);
		progress(db, true);
		return false;
	}
	reclaim = reclaim_bytes(db);
	quantum = KVF_MAX((l.limit - l.target) * 2 / 5, 2ull * db->geo.segment);
	/* The last deletes of a tree bring segments back one by one: more of them at once. */
	if (spared)
		quantum = KVF_MAX(quantum, KVF_MIN((l.used - l.due) / 4, SPARED_MAX));
	/* Nobody writes: no more will come to it. */
	if (quiet && reclaim)
		return release(db, reclaim);
	if (reclaim >= quantum || (l.used >= l.limit && reclaim >= quantum / 2))
		return release(db, reclaim);
	/* Enough is on its way. */
	if (KVF_MIN(l.due, l.used - KVF_MIN(l.used, reclaim)) <= l.target)
		return false;
	/* What the log has taken since the last checkpoint counts, too. */
	if (l.due >= l.limit && kvp_load(&db->last_ckpt_pos) >= KVF_MAX(quantum, 16ull << 20))
		return release(db, reclaim);
	/* There was nothing to win, and little has changed since. */
	if (kvp_load(&db->gc_idle) &&
	    kvp_load(&db->space.freed_total) - db->gc_idle_freed < 4ull * db->geo.segment)
		return false;
	return collect(db, spared);
}

bool kve_gc_background(struct kv_db *db, bool works)
{
	bool more = true;
	u64 spared;
	int err = 0;

	if (kvp_load(&db->degraded) || !kvp_mutex_trylock(&db->gc_lock))
		return false;
	if (db->gc || db->emptying) {
		err = kve_gc_step(db, &more);
		kvp_mutex_unlock(&db->gc_lock);
		/* A round in vain: what was read would not have fitted into fewer segments. */
		if (err || !more)
			vain(db);
		return !err && more;
	}
	kvp_mutex_unlock(&db->gc_lock);
	spared = kve_spare(db, works);
	/* While it waits for the deleting it is asked again after each step of that. */
	return begin(db, spared) || spared;
}

bool kve_gc_quiet(struct kv_db *db)
{
	u64 freed = kvp_load(&db->space.freed_total), oldest = kve_readers_oldest(db);
	bool released = oldest > db->gc_quiet_reader;

	/* What was begun a second ago is done, or was in vain. */
	if (kvp_load(&db->gc_quiet)) {
		(void)kve_tail_settle(db); /* a failure shows in the checkpoint of somebody who asks */
		kvp_store(&db->gc_quiet, false);
		return false;
	}
	db->gc_quiet_reader = oldest;
	if ((freed == db->gc_quiet_freed && !released) || kvp_load(&db->degraded))
		return false;
	db->gc_quiet_freed = freed;
	kvp_store(&db->gc_quiet, true);
	kvp_store(&db->gc_idle, false);
	return true;
}

/* Will there be more room without the writers' help? */
static bool gets_on(struct kv_db *db)
{
	return !kvp_load(&db->gc_idle) || kvp_load(&db->space.doomed_bytes);
}

void kve_gc_wake(struct kv_db *db)
{
	struct lines l;

	if (!db->worker)
		return;
	lines_take(db, &l, true);
	if (l.used <= l.target)
		return;
	if (l.due > l.soft && gets_on(db))
		kvp_store(&db->pace_at, 0ull);
	kvp_mutex_lock(&db->state);
	db->gc_wanted = true;
	kvp_cond_broadcast(&db->wake);
	kvp_mutex_unlock(&db->state);
}

/* State lock. */
static bool must_wait(struct kv_db *db)
{
	return gets_on(db) && !db->degraded && !db->stop && !db->paused;
}

/* With the square of how far it is: where writers are a little too fast, a little is enough. */
static unsigned int pace_us(const struct lines *l)
{
	u64 over = ((l->due - l->soft) << 10) / (l->limit - l->soft);

	return PACE_LEAST_US + (unsigned int)((PACE_MOST_US - PACE_LEAST_US) * over * over >> 20);
}

void kve_pace(struct kv_db *db)
{
	struct lines l;
	u32 waits;

	if (kvp_load(&db->pace_at) == KVE_LIVE)
		return;
	lines_take(db, &l, true);
	if (l.due <= l.soft || !gets_on(db)) {
		kvp_store(&db->pace_at, KVE_LIVE);
		return;
	}
	if (kvp_load(&db->last_ckpt_pos) <= kvp_load(&db->pace_at))
		return;
	kvp_mutex_lock(&db->state);
	db->gc_wanted = true;
	kvp_cond_broadcast(&db->wake);
	if (l.due < l.limit && must_wait(db))
		kvp_cond_wait_us(&db->done, &db->state, pace_us(&l));
	for (waits = 0; l.due >= l.limit && must_wait(db) && waits < l.waits; waits++) {
		kvp_cond_wait_us(&db->done, &db->state, WAIT_US);
		kvp_mutex_unlock(&db->state);
		lines_take(db, &l, true);
		kvp_mutex_lock(&db->state);
	}
	kvp_mutex_unlock(&db->state);
	kvp_store(&db->pace_at, kvp_load(&db->last_ckpt_pos) + PACE_BYTES);
}
