/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * checkpoint.c - freeze a generation, write it, make it the volume's state.
 *
 * Order (DESIGN, invariant 1): the log up to the replay position is synced; pages of user trees, of the
 * forest, of the segment table; flush; superblock in group A, flush, in group B, flush. Nobody waits for
 * it but writers that outrun the cache. What a checkpoint frees is recorded with it as a batch, and used
 * again when the next one is durable: the newest two states stay intact, unless space is short.
 *
 * A checkpoint that fails for lack of space or memory leaves everything as it was but for places taken;
 * the next one goes on from there. One that fails by I/O degrades the volume.
 */
#include "range.h"
#include "kve_open.h"

struct round {
	struct kv_db *db;
	u64 gen;
	struct kve_logpos pos;
	struct kvf_super sb;
	struct kve_free_batch *batch;
	struct kve_pageout *po;
	bool pressed; /* what it frees is free at once */
};

u64 kve_freeze(struct kv_db *db)
{
	u64 gen = db->open_gen;

	kvp_store(&db->open_gen, gen + 1);
	return gen;
}

static void batch_append(struct kv_db *db, struct kve_free_batch *b)
{
	struct kve_free_batch **link = &db->space.batches;

	while (*link)
		link = &(*link)->next;
	*link = b;
}

/* Rolling back has closed it already, from before a checkpoint until after the next. */
static void writers_stop(struct kv_db *db) KVP_ACQUIRE(db->writer) KVP_NO_LOCK_ANALYSIS;
static void writers_stop(struct kv_db *db)
{
	if (!db->alone)
		kvp_gate_close(&db->writer);
}

static void writers_go(struct kv_db *db) KVP_RELEASE(db->writer) KVP_NO_LOCK_ANALYSIS;
static void writers_go(struct kv_db *db)
{
	if (!db->alone)
		kvp_gate_open(&db->writer);
}

/* The instant that all of the checkpoint shows. */
static int round_freeze(struct round *r, const struct kve_logpos *at)
{
	struct kv_db *db = r->db;
	u64 oldest = kve_readers_oldest(db); /* who comes later sees this generation, or younger ones */
	int err;

	r->batch = kvp_alloc(sizeof(*r->batch), KVP_ZERO);
	if (!r->batch)
		return -KVE_no_memory;
	writers_stop(db);
	/* A snapshot's state hides nothing: its leaves are read as they are. */
	if (db->snap_new && kve_ranges_any(db))
		err = -KVE_restart;
	else
		err = at ? 0 : kve_log_pad(db);
	if (!err)
		err = kve_dead_freeze(db);
	kvp_rwsem_down_write(&db->tree_lock);
	if (!err)
		err = kve_zombies_reap(db, &db->space.open);
	kvp_rwsem_up_write(&db->tree_lock);
	if (err) {
		writers_go(db);
		kvp_free(r->batch);
		return err;
	}
	if (at)
		r->pos = *at;
	else
		kve_log_pos(db, &r->pos);
	r->gen = kve_freeze(db);
	if (!KVP_BUG("range-cursor-late"))
		kve_ranges_freeze(db);
	kvp_mutex_lock(&db->state);
	kvp_store(&db->ckpt_gen, r->gen);
	if (db->pinned < r->gen + 1)
		kvp_store(&db->pinned, r->gen + 1);
	kvp_mutex_unlock(&db->state);
	if (!KVP_BUG("live-after-freeze"))
		kve_space_freeze(db);
	kvp_mutex_lock(&db->space.lock);
	r->batch->gen = r->gen;
	db->ckpt_frees = &r->batch->list;
	db->space.replacing = r->pressed && oldest >= r->gen;
	db->space.replaced_bytes = 0;
	r->batch->list = db->space.open;
	memset(&db->space.open, 0, sizeof(db->space.open));
	kvp_mutex_unlock(&db->space.lock);
	kve_snapshot_freeze(db, r->gen, r->pos.lsn - 1);
	r->sb = db->sb;
	r->sb.next_tree = cpu_to_le32(db->next_tree);
	r->sb.next_object = cpu_to_le64(db->next_object);
	db->changed = false;
	kvp_store(&db->last_ckpt_pos, 0ull);
	if (kvp_load(&db->pace_at) != KVE_LIVE)
		kvp_store(&db->pace_at, 0ull);
	writers_go(db);
	return 0;
}

static bool tree_due(const struct kv_tree *t, u64 gen)
{
	bool due;

	kvp_rwsem_down_read(&t->db->tree_lock);
	due = !t->system && t->created_gen <= gen && kvp_load_acquire(&t->dirty) &&
	      kvp_load(&t->dirty_since) <= gen;
	kvp_rwsem_up_read(&t->db->tree_lock);
	return due;
}

/* Pages of all trees, then the forest that names their roots. */
static int round_trees(struct round *r)
{
	struct kv_db *db = r->db;
	struct kvf_ref root;
	struct kv_tree *t;
	int err = 0;

	for (t = kvp_load_acquire(&db->trees); t && !err; t = t->next) {
		if (!tree_due(t, r->gen))
			continue;
		err = kve_pageout_tree(r->po, t, false, &root);
		kvp_rwsem_down_write(&db->tree_lock);
		t->row_dirty = true;
		kvp_rwsem_up_write(&db->tree_lock);
	}
	if (KVP_BUG("range-cursor-late"))
		kve_ranges_freeze(db);
	if (!err)
		err = kve_emptying_system(db, db->forest);
	if (!err)
		err = kve_forest_write(db, r->gen);
	if (!err)
		err = kve_pageout_tree(r->po, db->forest, false, &r->sb.forest);
	return err;
}

static int round_table(struct round *r)
{
	struct kv_db *db = r->db;
	int err;

	if (KVP_BUG("live-after-freeze"))
		kve_space_freeze(db);
	err = kve_deadlist_write(db, r->batch);
	if (!err)
		err = kve_space_reap(db, r->pos.lsn, &r->batch->list);
	if (!err)
		err = kve_emptying_system(db, db->segtab);
	if (!err)
		err = kve_segtab_write(db, r->batch, r->gen);
	if (!err)
		err = kve_pageout_tree(r->po, db->segtab, true, &r->sb.segtab);
	if (!err)
		err = kve_pageout_flush(r->po);
	return err;
}

static int round_super(struct round *r, bool clean)
{
	struct kv_db *db = r->db;
	struct kvf_super *sb = &r->sb;
	struct kve_logpos now;
	int err;

	if (!KVP_BUG("skip-sync-before-super")) {
		err = kvp_dev_flush(db->dev);
		if (err)
			return kve_degrade(db, KVE_indeterminate, "flush of a checkpoint failed");
	}
	sb->prev_generation = db->sb.generation;
	sb->prev_forest = db->sb.forest;
	sb->prev_segtab = db->sb.segtab;
	/* The log goes on from here: it must never be replayed over what was before. */
	if (db->rolled) {
		sb->prev_generation = cpu_to_le64(0);
		memset(&sb->prev_forest, 0, sizeof(sb->prev_forest));
		memset(&sb->prev_segtab, 0, sizeof(sb->prev_segtab));
	}
	/* The state before this one stays intact, unless there was none, or space is short. */
	sb->oldest_intact = db->sb.generation && !r->pressed ? db->sb.generation : cpu_to_le64(r->gen);
	sb->generation = cpu_to_le64(r->gen);
	sb->segments = cpu_to_le64(db->space.listed);
	sb->bytes_max = cpu_to_le64(kvp_load(&db->bytes_max));
	sb->replay_lsn = cpu_to_le64(r->pos.lsn);
	sb->replay_segment = cpu_to_le32(r->pos.segment);
	sb->replay_segment_gen = cpu_to_le32(r->pos.gen);
	sb->replay_offset = cpu_to_le32(r->pos.offset);
	sb->replay_incarnation = cpu_to_le32(r->pos.incarnation);
	sb->attested_lsn = cpu_to_le64(KVF_MAX(kvp_load_acquire(&db->log.durable_lsn), r->pos.lsn - 1));
	kve_log_pos(db, &now);
	sb->next_lsn = cpu_to_le64(KVF_MAX(r->pos.lsn, now.lsn));
	if (clean)
		sb->flags = cpu_to_le32(le32_to_cpu(sb->flags) | KVF_SUPER_CLEAN);
	kvp_mutex_lock(&db->state);
	memcpy(sb->errors, db->sb.errors, sizeof(sb->errors));
	sb->errors_nr = db->sb.errors_nr;
	kvp_mutex_unlock(&db->state);
	db->segments_before = le64_to_cpu(db->sb.segments);
	return kve_super_write(db, sb);
}

static void round_end(struct round *r, int err)
{
	struct kv_db *db = r->db;

	if (r->po)
		kve_pageout_free(r->po);
	writers_stop(db);
	kvp_rwsem_down_write(&db->tree_lock);
	kvp_store(&db->ckpt_gen, 0ull);
	kvp_mutex_lock(&db->space.lock);
	db->ckpt_frees = NULL;
	db->space.replacing = false;
	db->space.replaced_bytes = 0;
	kvp_mutex_unlock(&db->space.lock);
	kve_shadows_drop(db);
	kvp_rwsem_up_write(&db->tree_lock);
	kve_pinned_update(db);
	kve_snapshot_settle(db, r->gen, err, &r->sb.forest);
	if (err)
		db->changed = true;
	writers_go(db);
}

static int round_steps(struct round *r, const struct kve_logpos *at, bool clean)
{
	struct kv_db *db = r->db;
	int err;

	kve_readers_expire(db);
	r->pressed = kve_space_pressed(db) || (db->rolled && !KVP_BUG("rollback-old-intact"));
	err = round_freeze(r, at);
	if (err)
		return err;
	batch_append(db, r->batch);
	kve_space_apply(db, le64_to_cpu(db->sb.oldest_intact), kve_readers_oldest(db));
	err = kve_pageout_new(db, r->gen, &r->batch->list, &r->po);
	if (!err)
		err = round_trees(r);
	if (!err && !at)
		err = kve_log_sync(db, r->pos.lsn - 1);
	if (!err)
		err = round_table(r);
	if (!err)
		err = round_super(r, clean);
	round_end(r, err);
	if (!err)
		kve_space_apply(db, le64_to_cpu(db->sb.oldest_intact), kve_readers_oldest(db));
	return err;
}

static int round_run(struct kv_db *db, const struct kve_logpos *at, bool clean)
{
	struct round *r = kvp_alloc(sizeof(*r), KVP_ZERO);
	int err;

	if (!r)
		return -KVE_no_memory;
	r->db = db;
	err = round_steps(r, at, clean);
	kvp_free(r);
	return err;
}

/* Writer lock open. */
static bool unchanged(struct kv_db *db)
{
	bool yes;

	kvp_gate_close(&db->writer);
	yes = !db->changed;
	kvp_gate_open(&db->writer);
	return yes;
}

int kve_checkpoint_locked(struct kv_db *db, const struct kve_logpos *at, bool clean, bool force)
{
	int err = kvp_load(&db->degraded) ? -KVE_degraded : 0;
	bool full;

	if (err || (!force && unchanged(db)))
		return err;
	/* It may have been full for a moment only. */
	if (kve_space_is_host_full(db))
		kve_space_reserve(db);
	full = kve_space_is_host_full(db);
	/* Replay may still need what the log of the last state names. */
	if (!at)
		kve_tail_drop(db);
	err = round_run(db, at, clean);
	/* The file system is full: once more, with what is backed already. Or it was full, and is no more. */
	if (err == -KVE_no_space && db->dev->growable) {
		kve_space_host_full(db, !full);
		err = round_run(db, at, clean);
		if (err == -KVE_no_space)
			kve_space_host_full(db, true);
	}
	if (!err) {
		kvp_add(&db->checkpoints, 1u);
		kve_space_trim(db);
		err = kve_tail_cut(db);
	}
	return err;
}

int kve_checkpoint(struct kv_db *db, const struct kve_logpos *at, bool clean, bool force)
{
	int err;

	kvp_mutex_lock(&db->ckpt_lock);
	err = kve_checkpoint_locked(db, at, clean, force);
	/* More was freed by deleting snapshots than one checkpoint takes on. */
	if (!err && db->worker && db->space.orphans_from < db->space.orphans_to)
		kve_worker_kick(db);
	kvp_mutex_unlock(&db->ckpt_lock);
	return err;
}

/* ---- the worker ------------------------------------------------------------------------------- */

/* Of what waits, one step each. State lock, dropped meanwhile. */
static void worker_step(struct kv_db *db, bool *more) KVP_REQUIRES(db->state);
static void worker_step(struct kv_db *db, bool *more)
{
	bool gc = db->gc_wanted, works;

	db->gc_wanted = false;
	/* Under the lock: whoever helps looks there. */
	kvp_store(&db->stepping, true);
	kvp_mutex_unlock(&db->state);
	if (kvp_load(&db->doomed) && *more && kve_doomed_step(db, more))
		*more = false;
	works = kvp_load(&db->doomed) && *more;
	/* It is told of the end of what it waits for. */
	if (gc || (db->spare.on && !works))
		gc = kve_gc_background(db, works);
	kvp_mutex_lock(&db->state);
	kvp_store(&db->stepping, false);
	db->gc_wanted |= gc;
}

/* For something to do. When a second has passed without, space that waits for more of its kind goes back. */
static void worker_wait(struct kv_db *db) KVP_REQUIRES(db->state);
static void worker_wait(struct kv_db *db)
{
	bool quiet = !kvp_cond_wait_us(&db->wake, &db->state, 1000000) && !db->paused && !db->stop;

	if (!quiet) {
		kvp_store(&db->gc_quiet, false);
		return;
	}
	db->working = true;
	kvp_mutex_unlock(&db->state);
	quiet = kve_gc_quiet(db);
	kvp_mutex_lock(&db->state);
	db->gc_wanted |= quiet;
}

static void worker(void *arg)
{
	struct kv_db *db = arg;
	bool more = true;
	int err;

	kvp_mutex_lock(&db->state);
	while (!db->stop) {
		if (kvp_load(&db->cache.wanted)) {
			kvp_mutex_unlock(&db->state);
			kve_cache_reclaim(db);
			kvp_mutex_lock(&db->state);
		}
		if (db->working) {
			db->working = false;
			if (db->paused)
				kvp_cond_broadcast(&db->done);
		}
		/* A step of somebody else: it wakes. */
		if (db->paused || (!db->want_ckpt && (db->stepping || (!db->gc_wanted &&
		    !(kvp_load(&db->doomed) && more))))) {
			/* Whoever dooms something wakes; what failed is tried again after the wait. */
			worker_wait(db);
			more = true;
			continue;
		}
		db->working = true;
		if (db->want_ckpt) {
			db->want_ckpt = false;
			kvp_mutex_unlock(&db->state);
			err = kve_checkpoint(db, NULL, false, true);
			kvp_mutex_lock(&db->state);
			db->ckpt_rounds++;
			db->ckpt_error = err;
			kvp_cond_broadcast(&db->done);
			continue;
		}
		worker_step(db, &more);
	}
	db->working = false;
	kvp_cond_broadcast(&db->done);
	kvp_mutex_unlock(&db->state);
}

int kve_worker_start(struct kv_db *db)
{
	int err;

	if (db->no_thread || db->read_only)
		return 0;
	/* Before the worker, which may log at once. */
	err = kve_log_writer_start(db);
	if (err)
		return err;
	/* It waits for the lock, and so knows that it is the worker. */
	kvp_mutex_lock(&db->state);
	err = kvp_thread_start(&db->worker, "kvs-worker", worker, db);
	db->stop = err != 0;
	kvp_mutex_unlock(&db->state);
	if (err)
		kve_log_writer_stop(db);
	return err ? err : kve_cache_reclaim_start(db);
}

void kve_worker_stop(struct kv_db *db)
{
	if (!db->worker)
		return;
	kve_cache_reclaim_stop(db);
	kvp_mutex_lock(&db->state);
	db->stop = true;
	kvp_cond_broadcast(&db->wake);
	kvp_mutex_unlock(&db->state);
	kvp_thread_join(db->worker);
	db->worker = NULL;
	kve_log_writer_stop(db);
}

void kve_worker_pause(struct kv_db *db)
{
	kvp_mutex_lock(&db->state);
	db->paused = true;
	while (db->working || db->log.writing)
		kvp_cond_wait(&db->done, &db->state);
	kvp_mutex_unlock(&db->state);
}

void kve_worker_resume(struct kv_db *db)
{
	kvp_mutex_lock(&db->state);
	db->paused = false;
	kvp_cond_broadcast(&db->wake);
	kvp_cond_broadcast(&db->log.wake);
	kvp_mutex_unlock(&db->state);
}

void kve_doom(struct kv_db *db, u64 bytes)
{
	if (bytes) {
		kvp_mutex_lock(&db->space.lock);
		kvp_store(&db->space.doomed_bytes, db->space.doomed_bytes + bytes);
		kvp_mutex_unlock(&db->space.lock);
	}
	kvp_mutex_lock(&db->state);
	kvp_store(&db->doomed, true);
	kvp_cond_broadcast(&db->wake);
	kvp_mutex_unlock(&db->state);
}

void kve_worker_kick(struct kv_db *db)
{
	kvp_mutex_lock(&db->state);
	db->want_ckpt = true;
	kvp_cond_broadcast(&db->wake);
	kvp_mutex_unlock(&db->state);
}
