/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * txn.c - a transaction from its operations to its acknowledgement.
 *
 * A single change is first tried beside others: txn_single.c. Credits (nothing held, may wait) -> writer
 * lock closed -> prepare every operation (may fail) -> append to the
 * log -> apply under the tree lock (cannot fail) -> out of the process's memory (kill-safe) -> writer lock
 * dropped -> sync if asked for, together with whoever else waits.
 */
#include "range.h"

#define PINS_MIN 1024u
#define FULL_TRIES 24 /* checkpoints for a change, when the volume is full */

bool kve_separate(const struct kv_db *db, u32 key_len, u32 value_len)
{
	return value_len > db->geo.inline_max || key_len + value_len > db->geo.item_max;
}

int kve_key_check(struct kv_db *db, const void *key, size_t len)
{
	if (!key || !len)
		return -KVE_bad_key;
	if (len > db->geo.key_max)
		return kve_fail(db, KVE_key_too_long, "%zu bytes, at most %u", len, db->geo.key_max);
	return 0;
}

int kve_flags_check(struct kv_db *db, u32 flags, u32 allowed)
{
	if ((flags & 0xf) > KV_SYNCED || flags & ~(0xf | allowed) ||
	    !(~flags & (KV_PUT_NEW | KV_PUT_REPLACE)))
		return kve_fail(db, KVE_invalid, "flags 0x%x", flags);
	return 0;
}

/* ---- credits --------------------------------------------------------------------------------- */

/* Run a checkpoint, or wait for the worker's next one. */
static int checkpoint_wait(struct kv_db *db)
{
	u64 round;
	int err = 0;

	/* The worker does not wait for itself: its own steps run what they need. */
	if (!db->worker || kvp_load(&db->stepping))
		return kve_checkpoint(db, NULL, false, true);
	kvp_mutex_lock(&db->state);
	round = db->ckpt_rounds;
	db->want_ckpt = true;
	kvp_cond_broadcast(&db->wake);
	while (db->ckpt_rounds == round && !db->degraded && !db->stop)
		kvp_cond_wait(&db->done, &db->state);
	err = db->degraded ? -KVE_degraded : db->ckpt_error;
	kvp_mutex_unlock(&db->state);
	return err;
}

/* What the next checkpoint may need to write, with room for what one more change adds. */
u64 kve_space_need(const struct kv_db *db, bool privileged)
{
	u64 frames = kvp_load(&db->cache.dirty);

	frames += frames / 8 + KVF_DEPTH_MAX;
	/* What frees space may go closer to the end. */
	if (!privileged)
		frames += KVF_DEPTH_MAX;
	/* No change dirties the segment table, the checkpoint does; it counts where segments are tiny. */
	return frames * db->geo.frame + kve_table_bytes(db, kvp_load(&db->space.nr));
}

/* A volume with a limit has little room left: empty segments while there is some to do it with. */
static int room_make(struct kv_db *db, bool wait)
{
	u64 freed = kvp_load(&db->space.freed_total);
	int err;

	/* There was nothing to win, and nothing has changed since. */
	if (freed - kvp_load(&db->gc_vain) < 2ull * db->geo.segment)
		return 0;
	err = kve_gc_rescue(db, wait);
	if (err) {
		kvp_store(&db->gc_vain, freed);
		return err == -KVE_no_space ? 0 : err;
	}
	err = checkpoint_wait(db);
	if (!err)
		err = checkpoint_wait(db);
	return err == -KVE_no_space ? 0 : err;
}

/* One thread at a time, and not from within a step. */
static bool step_begin(struct kv_db *db)
{
	bool mine;

	kvp_mutex_lock(&db->state);
	mine = !kvp_load(&db->stepping);
	kvp_store(&db->stepping, true);
	kvp_mutex_unlock(&db->state);
	return mine;
}

static void step_end(struct kv_db *db)
{
	kvp_mutex_lock(&db->state);
	kvp_store(&db->stepping, false);
	kvp_cond_broadcast(&db->wake);
	kvp_mutex_unlock(&db->state);
}

void kve_steps_stop(struct kv_db *db)
{
	kvp_mutex_lock(&db->state);
	/* The worker tells nobody when its step is over. */
	while (kvp_load(&db->stepping))
		kvp_cond_wait_us(&db->wake, &db->state, 10000);
	kvp_store(&db->stepping, true);
	kvp_mutex_unlock(&db->state);
}

void kve_steps_go(struct kv_db *db)
{
	step_end(db);
}

#define HELP_STEPS 64u

/* Never from within a step: a step may use the reserve. */
bool kve_doomed_help(struct kv_db *db)
{
	bool more = true;
	u32 i;
	int err = 0;

	/* The flag is down while a step looks, and up again before that ends. */
	if (!kvp_load_acquire(&db->doomed) && !kvp_load_acquire(&db->dooming) && !kvp_load(&db->doomed))
		return false;
	/* The worker is at it: a checkpoint comes between two steps. */
	if (!step_begin(db))
		return !checkpoint_wait(db);
	for (i = 0; i < HELP_STEPS && more && !err; i++)
		err = kve_doomed_step(db, &more);
	step_end(db);
	/* What the first one frees is free for those after it. */
	if (!err)
		err = checkpoint_wait(db);
	return !err;
}

static int space_look(struct kv_db *db, bool privileged)
{
	int i, err = 0;
	bool full;

	if (!privileged && kve_space_scarce(db, kve_space_need(db, true)))
		err = room_make(db, true);

	/* Pages freed by one checkpoint are free for the second after it. */
	for (i = 0; i < 3 && !err; i++) {
		if (!kve_space_reclaim_due(db, privileged) &&
		    kve_space_avail(db, privileged) >= kve_space_need(db, privileged))
			return 0;
		err = checkpoint_wait(db);
	}
	/* As long as what is dirty and a few pages more can be written, deleting goes on. */
	if (!err && privileged &&
	    kve_space_avail(db, true) >= kve_space_need(db, true) - (KVF_DEPTH_MAX - 4) * db->geo.frame)
		return 0;
	full = !err && kve_space_avail(db, privileged) < kve_space_need(db, privileged);
	if ((full || err == -KVE_no_space) && !privileged && kve_resize_yield(db))
		return 0;
	return full ? kve_fail(db, KVE_no_space, "the volume is full; delete something, or enlarge it") : err;
}

static int space_credit(struct kv_db *db, bool privileged)
{
	int err;

	do
		err = space_look(db, privileged);
	while (err == -KVE_no_space && !privileged && kve_doomed_help(db));
	return err;
}

int kve_credits(struct kv_db *db, bool privileged)
{
	u64 dirty = kvp_load(&db->cache.dirty), log = kvp_load(&db->last_ckpt_pos);
	bool more;
	int err;

	if (!privileged)
		kve_pace(db);
	if (dirty > db->cache.limit / 2 || log > 2 * db->checkpoint_bytes) {
		err = checkpoint_wait(db);
		if (err)
			return err;
	} else if (dirty > db->cache.limit / 4 || log > db->checkpoint_bytes) {
		if (db->worker)
			kve_worker_kick(db);
		else if ((err = kve_checkpoint(db, NULL, false, true)) && err != -KVE_no_space)
			return err;
	}
	if (!db->worker && kvp_load(&db->doomed) && step_begin(db)) {
		err = kve_doomed_step(db, &more);
		step_end(db);
		if (err && err != -KVE_no_space)
			return err;
	}
	return space_credit(db, privileged);
}

/* ---- commit: writer lock ----------------------------------------------------------------------- */

static int prepare_all(struct kv_db *db, struct kve_op *ops, u32 nr, struct kve_reserve *rs, u32 *doomed)
{
	u64 most = KVF_MAX(db->cache.limit / 2, PINS_MIN);
	u32 i, pins = 0, ahead = 0;
	bool had;
	int err = 0;

	for (i = 0; i < nr && !err; i++) {
		/* Of a dropped tree entries are still deleted, until it is gone. */
		if (ops[i].tree->dropped &&
		    (ops[i].kind != KVF_RECORD_DELETE || ops[i].tree->gone_gen))
			return -KVE_no_tree;
		if (!kve_op_on_entry(&ops[i]))
			continue;
		if (ops[i].kind != KVF_RECORD_DELETE && !(ops[i].flags & KVF_RECORD_OBJECT))
			ops[i].separated = kve_separate(db, ops[i].key_len, ops[i].value_len);
		pins += kve_op_find(db, ops, i, nr, &ahead);
		had = ops[i].leaf != NULL;
		err = kve_op_prepare(db, &ops[i], rs);
		/* Leaves count, not operations: those pinned before have more pins. */
		pins += !err && !had && kvp_load(&ops[i].leaf->pins) == 1;
		if (!err && pins > most)
			err = -KVE_txn_too_big;
		if (!err && ops[i].old_object)
			(*doomed)++;
	}
	return err;
}

/* Large values that go with their key: their chunks are deleted later, step by step. */
static int doom_objects(struct kv_db *db, const struct kve_op *ops, u32 nr, struct kve_op *out, u8 *keys,
			struct kve_reserve *rs)
{
	u32 i, n = 0;
	int err = 0;

	for (i = 0; i < nr && !err; i++) {
		if (!ops[i].old_object)
			continue;
		kve_object_key(keys, KVF_OBJECT_DOOMED, ops[i].old_object, 0);
		memset(&out[n], 0, sizeof(out[n]));
		out[n].tree = db->objects;
		out[n].kind = KVF_RECORD_PUT;
		out[n].key = keys;
		out[n].key_len = KVE_OBJECT_ROW_BYTES;
		out[n].value = keys;
		keys += KVE_OBJECT_KEY_BYTES;
		err = kve_op_prepare(db, &out[n], rs);
		n++;
	}
	return err;
}

static void range_apply(struct kve_op *op)
{
	kve_range_apply(op->tree, op->arg, op->lsn);
	op->arg = NULL;
}

static void apply_all(struct kv_db *db, struct kve_op *ops, u32 nr, struct kve_reserve *rs)
{
	u32 i;

	kvp_rwsem_down_write(&db->tree_lock);
	kve_odd(&db->applied);
	for (i = 0; i < nr; i++) {
		kve_op_expect(db, ops, i, nr);
		if (kve_op_on_entry(&ops[i]))
			kve_op_apply(db, &ops[i], rs);
		else if (ops[i].kind == KVF_RECORD_TREE_CREATE)
			kve_tree_create_apply(db, ops[i].tree);
		else if (ops[i].kind == KVF_RECORD_TREE_DROP)
			kve_tree_drop_apply(db, ops[i].tree);
		else if (ops[i].kind == KVF_RECORD_RANGE_DELETE)
			range_apply(&ops[i]);
	}
	kve_gen_changed(db);
	kve_even(&db->applied);
	kvp_rwsem_up_write(&db->tree_lock);
	db->changed = true;
}

/* What has just been written is likely to be read. */
static void values_keep(struct kv_db *db, const struct kve_op *ops, u32 nr)
{
	const struct kve_op *op, *next;

	for (op = ops; op < ops + nr; op++) {
		next = op + KVE_AHEAD;
		if (next < ops + nr && next->separated)
			kve_values_expect(db, kve_value_hash(next->tree, next->key, next->key_len));
		if (op->separated && op->kind == KVF_RECORD_PUT)
			kve_values_put(db, kve_value_hash(op->tree, op->key, op->key_len), &op->ref,
				       op->value, true);
	}
}

static int log_and_apply(struct kv_db *db, struct kve_op *ops, u32 nr, struct kve_reserve *rs, u64 *lsn)
{
	int err = kve_dead_promise(db, nr);

	if (err)
		return err;

	/* Frees of this transaction are recorded without fail. */
	kvp_mutex_lock(&db->space.lock);
	err = kve_items_reserve(&db->space.open, 64);
	kvp_mutex_unlock(&db->space.lock);
	if (!err)
		err = kve_log_append(db, ops, nr);
	if (!err)
		apply_all(db, ops, nr, rs);
	kve_dead_done(db, nr);
	if (err)
		return err;
	values_keep(db, ops, nr);
	*lsn = ops[nr - 1].lsn;
	kvp_count_add(&db->commits, 1);
	return 0;
}

static int with_doomed(struct kv_db *db, struct kve_op *ops, u32 nr, u32 doomed, struct kve_reserve *rs,
		       u64 *lsn)
{
	struct kve_op *all = kvp_alloc_array(nr + doomed, sizeof(*all), KVP_ZERO);
	u8 *keys = kvp_alloc_array(doomed, KVE_OBJECT_KEY_BYTES, 0);
	int err = all && keys ? 0 : -KVE_no_memory;
	u64 bytes = 0;
	u32 i;

	if (!err) {
		memcpy(all, ops, nr * sizeof(*ops));
		err = doom_objects(db, ops, nr, all + nr, keys, rs);
		if (!err)
			err = log_and_apply(db, all, nr + doomed, rs, lsn);
		kve_ops_unpin(all + nr, doomed);
		memcpy(ops, all, nr * sizeof(*ops));
	}
	for (i = 0; i < nr; i++)
		bytes += ops[i].old_object ? ops[i].old_bytes : 0;
	if (!err)
		kve_doom(db, bytes);
	kvp_free(all);
	kvp_free(keys);
	return err;
}

static int conditions(struct kve_op *ops, u32 nr, u32 flags)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		/* The rows that go with a large value. */
		if (ops[i].tree->id == KVF_TREE_OBJECTS)
			continue;
		if ((flags & KV_PUT_NEW) && ops[i].existed)
			return -KVE_exists;
		if ((flags & KV_PUT_REPLACE) && !ops[i].existed)
			return -KVE_not_found;
	}
	return 0;
}

int kve_commit_locked(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags, u64 *lsn)
{
	struct kve_reserve rs = { .leaf = NULL };
	u32 doomed = 0;
	int err;

	if (kvp_load_acquire(&db->degraded))
		return kve_fail(db, KVE_degraded, "%s", db->reason);
	err = kve_super_mark(db);
	if (!err)
		err = prepare_all(db, ops, nr, &rs, &doomed);
	if (!err)
		err = conditions(ops, nr, flags);
	if (!err)
		err = doomed ? with_doomed(db, ops, nr, doomed, &rs, lsn) :
			       log_and_apply(db, ops, nr, &rs, lsn);
	kve_ops_unpin(ops, nr);
	kve_reserve_drop(db, &rs);
	return err;
}

/* What frees space may be a part of GC's own work, or of a step: it does not wait for it. */
static int commit_credits(struct kv_db *db, bool frees)
{
	int err = 0;

	if (frees && kve_space_scarce(db, kve_space_need(db, true)))
		err = room_make(db, false);
	return err ? err : kve_credits(db, frees);
}

/*
 * With a worker credits are asked for when a change needs them. Without one always: then checkpoints come at
 * the same places whichever way changes go.
 */
int kve_commit_beside(struct kv_db *db, struct kve_op *op, u32 flags)
{
	bool kill_safe = kve_durability(db, flags) == KV_KILL_SAFE;
	int err = db->worker ? kve_commit_single(db, op, flags, kill_safe, false) : -KVE_restart;

	if (err != -KVE_restart)
		return err;
	err = commit_credits(db, kve_op_frees(op));
	if (err)
		return err;
	/* For the older image of a leaf: evicting needs the tree lock. */
	if (kvp_load(&db->pinned))
		kve_cache_room(db, 1);
	return kve_commit_single(db, op, flags, kill_safe, true);
}

static int commit_once(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags, u64 *lsn)
{
	int err;

	if (nr == 1) {
		err = kve_commit_beside(db, ops, flags);
		*lsn = ops->lsn;
		if (err != -KVE_restart)
			return err;
	} else {
		err = commit_credits(db, nr && kve_op_frees(&ops[0]));
		if (err)
			return err;
	}
	kvp_gate_close(&db->writer);
	err = kve_commit_locked(db, ops, nr, flags, lsn);
	if (!err && kve_durability(db, flags) == KV_KILL_SAFE)
		err = kve_log_kill_safe(db);
	kvp_gate_open(&db->writer);
	return err;
}

int kve_commit(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags)
{
	return kve_commit_ticket(db, ops, nr, flags, NULL);
}

int kve_commit_ticket(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags, kv_ticket *ticket)
{
	int err, i, k;
	u64 lsn = 0;

	err = commit_once(db, ops, nr, flags, &lsn);
	/* What has been freed is free after the second checkpoint; and there may be more to free. */
	for (i = k = 0; i < FULL_TRIES && k < 3 && nr && err == -KVE_no_space; i++, k++) {
		if (kve_resize_yield(db)) {
			k = -1;
		} else if (!kve_op_frees(ops) && kve_doomed_help(db)) {
			i = k = -1; /* that has an end of its own */
		} else if (!kve_space_reclaimable(db)) {
			if (kve_gc_rescue(db, !kve_op_frees(ops)))
				break;
			k = 0;
		}
		err = checkpoint_wait(db);
		if (!err)
			err = commit_once(db, ops, nr, flags, &lsn);
	}
	if (!err && ticket) {
		*ticket = lsn;
		kve_ticket_ask(db, lsn);
	} else if (!err && kve_durability(db, flags) == KV_SYNCED) {
		err = kve_log_sync(db, lsn);
	}
	return err;
}
