/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * workload.c - operations on engine and oracle side by side; see workload.h.
 *
 * Every change is entered in the oracle as the next commit and marked as issued before the engine is
 * called, and marked as acknowledged when it returns. An error means that nothing changed (the commit is
 * taken back), unless it is one after which the volume is read-only: then the change may or may not be
 * there, as CONTRACT C9 says, and stays in the oracle as issued.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/workload.h"

#define KEYS 12u
#define VALUE_MAX 65536u

const struct workload_geometry workload_geometries[WORKLOAD_GEOMETRIES] = {
	{ "tiny", 512, 4096, 2048, 1, 8192, 1u << 20, 20, 200, 2600 },
	{ "window", 512, 16384, 2048, 2048, 16384, 2u << 20, 24, 300, 5000 },
};

static const char *const op_names[OP_NR] = {
	"put-small", "put-big",	   "put-object", "overwrite", "delete",	    "batch", "sync",
	"checkpoint", "tree",	   "reopen",	 "put-synced", "inc",	    "tree-drop", "crash",
	"gc", "snapshot", "range", "resize",
};

const char *op_name(unsigned int kind)
{
	return kind < OP_NR ? op_names[kind] : "?";
}

void workload_fix(u64 seed)
{
	kvp_fix_time(1700000000000000000ull);
	kvp_fix_random(seed + 1);
}

void fill_value(u8 *buf, size_t len, u64 seed)
{
	u64 state = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
	size_t i;

	rnd_next(&state);
	for (i = 0; i < len; i++)
		buf[i] = i % 8 ? buf[i - 1] * 5 + 13 : (u8)(rnd_next(&state) >> 56);
}

void workload_sequence(struct workload *w, unsigned int geo, const u8 *kinds, unsigned int nr)
{
	unsigned int i, n;

	memset(w, 0, sizeof(*w));
	w->geo = geo;
	w->nr = nr;
	n = snprintf(w->text, sizeof(w->text), "--geo %u --seq ", geo);
	for (i = 0; i < nr; i++) {
		w->ops[i].kind = kinds[i];
		w->ops[i].key = i;
		w->ops[i].size = i % 3;
		w->bulk |= kinds[i] == OP_RESIZE;
		n += snprintf(w->text + n, sizeof(w->text) - n, "%s%u", i ? "," : "", kinds[i]);
	}
}

void workload_random(struct workload *w, unsigned int geo, u64 seed, unsigned int nr)
{
	static const u8 table[] = {
		OP_PUT_SMALL, OP_PUT_SMALL,  OP_PUT_SMALL,  OP_PUT_SMALL, OP_PUT_BIG,	OP_PUT_BIG,
		OP_PUT_OBJECT, OP_OVERWRITE, OP_OVERWRITE,  OP_OVERWRITE, OP_DELETE,	OP_DELETE,
		OP_BATCH,     OP_BATCH,	     OP_SYNC,	    OP_SYNC,	  OP_PUT_SYNCED, OP_PUT_SYNCED,
		OP_CHECKPOINT, OP_TREE,	     OP_REOPEN,	    OP_INC,	  OP_TREE_DROP, OP_CRASH,
		OP_GC,	      OP_GC,	     OP_SNAPSHOT,   OP_SNAPSHOT,  OP_SNAPSHOT, OP_RANGE, OP_RANGE,
		OP_RESIZE,
	};
	u64 state = seed * 0x9e3779b97f4a7c15ull + 77;
	unsigned int i;

	memset(w, 0, sizeof(*w));
	w->geo = geo;
	w->seed = seed;
	w->nr = nr > WORKLOAD_OPS_MAX ? WORKLOAD_OPS_MAX : nr;
	snprintf(w->text, sizeof(w->text), "--geo %u --seed %llu --ops %u", geo, seed, w->nr);
	for (i = 0; i < w->nr; i++) {
		w->ops[i].kind = table[(rnd_next(&state) >> 33) % sizeof(table)];
		/* Snapshots keep GC from most of the log, and range deletes leave it little. */
		if (seed % 4 && (w->ops[i].kind == OP_SNAPSHOT || w->ops[i].kind == OP_RANGE))
			w->ops[i].kind = seed % 4 == 1 ? OP_GC : seed % 4 == 2 ? OP_OVERWRITE : OP_RANGE;
		w->ops[i].key = (rnd_next(&state) >> 33) % KEYS;
		w->ops[i].size = (rnd_next(&state) >> 33) % 4;
	}
}

static void quiet(void *arg, int level, const char *message)
{
	if (getenv("KV_TEST_LOG"))
		fprintf(stderr, "kv log %d: %s\n", level, message);
	(void)arg;
}

void workload_options(kv_options *opt, unsigned int geo, u32 flags)
{
	const struct workload_geometry *g = &workload_geometries[geo];

	*opt = (kv_options)KV_OPTIONS_INIT;
	opt->flags = flags | KV_OPEN_NOTHREAD;
	opt->cache_bytes = 1u << 20;
	opt->log = quiet;
	opt->checkpoint_bytes = g->checkpoint;
	opt->block_bytes = g->block;
	opt->segment_bytes = g->segment;
	opt->frame_bytes = g->frame;
	opt->window_bytes = g->window;
}

/* ---- the run ---------------------------------------------------------------------------------- */

static bool wrong(struct run *r, const char *what, const char *detail, int err)
{
	if (!r->why[0])
		snprintf(r->why, sizeof(r->why), "%s (%s): %s: %s", what, detail, kv_strerror(err),
			 err ? kv_last_error() : "");
	return false;
}

static u64 issue(struct run *r)
{
	u64 n = oracle_next(&r->o);

	sim_mark(r->sim, MARK(MARK_ISSUED, n));
	return n;
}

static void synced(struct run *r)
{
	r->synced = r->acked;
	sim_mark(r->sim, MARK(MARK_SYNCED, r->synced));
}

/* Errors that a caller may meet under injected faults, and the promise that goes with each. */
static bool excused(struct run *r, int err)
{
	r->errors++;
	if (!r->faults)
		return false;
	switch (err) {
	case KV_E_NOMEM:
	case KV_E_NOSPACE:
	case KV_E_IO:
	case KV_E_INDETERMINATE:
	case KV_E_READONLY:
	case KV_E_CORRUPT:
		return true;
	default:
		return false;
	}
}

/* The engine has answered the change that was issued last. */
static bool settle(struct run *r, int err, bool sync, const char *what, const char *key)
{
	kv_health_info h;

	if (!err) {
		r->acked = r->o.commit;
		sim_mark(r->sim, MARK(MARK_ACKED, r->acked));
		if (sync)
			synced(r);
		return true;
	}
	if (kv_health(r->db, &h))
		return wrong(r, "health", what, KV_E_INVALID);
	if (h.writable || (err != KV_E_IO && err != KV_E_INDETERMINATE && err != KV_E_CORRUPT))
		oracle_rewind(&r->o, r->o.commit - 1);
	return excused(r, err) || wrong(r, what, key, err);
}

static void key_name(char *buf, size_t len, unsigned int key)
{
	/* some long ones, so that pages fill and split */
	if (key % 4 == 3)
		snprintf(buf, len, "key%02u-a-somewhat-longer-name-of-a-key-%u", key, key * 7919);
	else
		snprintf(buf, len, "key%02u", key);
}

/* The first tree beside "main", if any: where some changes go. */
static const char *other_tree(const struct run *r)
{
	u32 i;

	for (i = 0; i < r->o.nr; i++)
		if (strcmp(r->o.trees[i]->name, "main") &&
		    oracle_tree_exists(&r->o, r->o.commit, r->o.trees[i]->name))
			return r->o.trees[i]->name;
	return NULL;
}

static u32 value_size(const struct run *r, unsigned int size)
{
	const struct workload_geometry *g = &workload_geometries[r->w->geo];

	switch (size) {
	case 0:
		return g->small;
	case 1:
		return g->big;
	case 2:
		return g->object;
	default:
		return 0;
	}
}

static bool op_put(struct run *r, const char *key, u32 len, u32 flags)
{
	u8 *value = malloc(VALUE_MAX);
	int err;

	if (!value)
		abort();
	fill_value(value, len, r->o.commit + 1);
	issue(r);
	oracle_put(&r->o, "main", key, strlen(key), value, len);
	err = kv_put(r->db, NULL, key, strlen(key), value, len, flags);
	free(value);
	return settle(r, err, flags == KV_SYNCED, "put", key);
}

/*
 * Two changes that are not waited for, then the ticket of the first: that one is durable, the second may be.
 * Without a thread of its own the volume makes it durable in the call.
 */
static bool op_put_async(struct run *r, const char *key, u32 len)
{
	u8 *value = malloc(VALUE_MAX);
	kv_ticket t[2] = { 0 };
	u64 first = 0;
	int err, i, durable = 1;

	if (!value)
		abort();
	for (i = 0, err = 0; i < 2 && !err; i++) {
		fill_value(value, len, r->o.commit + 1);
		issue(r);
		first = i ? first : r->o.commit;
		oracle_put(&r->o, "main", key, strlen(key), value, len);
		err = kv_put_async(r->db, NULL, key, strlen(key), value, len, 0, &t[i]);
		if (!settle(r, err, false, "put async", key)) {
			free(value);
			return false;
		}
	}
	free(value);
	if (err)
		return true;
	err = first % 2 ? kv_durable(r->db, t[0], &durable) : kv_wait(r->db, t[0]);
	if (err || !durable)
		return (err && excused(r, err)) || wrong(r, "ticket", key, err);
	if (r->synced < first) {
		r->synced = first;
		sim_mark(r->sim, MARK(MARK_SYNCED, first));
	}
	return true;
}

static bool op_stream(struct run *r, const char *key, u32 len)
{
	u8 *value = malloc(VALUE_MAX);
	kv_writer *w = NULL;
	u32 done, n;
	int err;

	if (!value)
		abort();
	fill_value(value, len, r->o.commit + 1);
	issue(r);
	oracle_put(&r->o, "main", key, strlen(key), value, len);
	err = kv_writer_open(r->db, NULL, key, strlen(key), &w);
	for (done = 0; !err && done < len; done += n) {
		n = len - done < 700 ? len - done : 700;
		err = kv_writer_write(w, value + done, n);
	}
	if (!err)
		err = kv_writer_commit(w, 0);
	else if (w)
		kv_writer_abort(w);
	free(value);
	return settle(r, err, false, "stream", key);
}

static bool op_delete(struct run *r, const char *key)
{
	bool there = oracle_get(&r->o, r->o.commit, "main", key, strlen(key), NULL);
	int err;

	if (!there) {
		err = kv_del(r->db, NULL, key, strlen(key), 0);
		if (err == KV_E_NOTFOUND)
			return true;
		return (err && excused(r, err)) || wrong(r, "delete of a missing key", key, err);
	}
	issue(r);
	oracle_del(&r->o, "main", key, strlen(key));
	err = kv_del(r->db, NULL, key, strlen(key), 0);
	return settle(r, err, false, "delete", key);
}

/* Keys from one on: up to the next two, all that have the prefix, to the end, or everything. */
static bool op_range(struct run *r, const struct op *op)
{
	char from[64], to[64];
	int err;

	key_name(from, sizeof(from), op->key % KEYS);
	if (op->size == 2)
		snprintf(to, sizeof(to), "kez");
	else
		snprintf(to, sizeof(to), "key%02u", op->key % KEYS + 3);
	if (op->size == 3)
		to[0] = '\0';
	if (op->size == 3 && op->key % 2)
		from[0] = '\0';
	issue(r);
	oracle_del_range(&r->o, "main", from, strlen(from), to, strlen(to));
	err = kv_delete_range(r->db, NULL, from, strlen(from), to, strlen(to), 0);
	return settle(r, err, false, "delete range", from);
}

/* Two puts and a delete; one of the puts in another tree if there is one. */
static bool op_batch(struct run *r, const struct op *op)
{
	const char *other = other_tree(r);
	kv_tree *tree = NULL;
	char key[3][64];
	u8 value[3][400];
	u32 i, len = value_size(r, op->size % 2);
	kv_batch *b;
	int err;

	err = other ? kv_tree_open(r->db, other, 0, &tree) : 0;
	if (!err)
		err = kv_batch_new(r->db, &b);
	if (err)
		return excused(r, err) || wrong(r, "batch", "new", err);
	issue(r);
	for (i = 0; i < 3; i++) {
		key_name(key[i], sizeof(key[i]), (op->key + i * 5) % KEYS);
		fill_value(value[i], len, r->o.commit * 3 + i);
	}
	oracle_put(&r->o, "main", key[0], strlen(key[0]), value[0], len);
	oracle_put(&r->o, other ? other : "main", key[1], strlen(key[1]), value[1], len);
	oracle_del(&r->o, "main", key[2], strlen(key[2]));
	err = kv_batch_put(b, NULL, key[0], strlen(key[0]), value[0], len);
	if (!err)
		err = kv_batch_put(b, tree, key[1], strlen(key[1]), value[1], len);
	if (!err)
		err = kv_batch_del(b, NULL, key[2], strlen(key[2]));
	if (!err)
		err = kv_batch_commit(b, 0);
	kv_batch_free(b);
	return settle(r, err, false, "batch", key[0]);
}

static bool op_tree(struct run *r, const struct op *op)
{
	char name[16], key[64];
	u8 value[400];
	u32 len = value_size(r, op->size % 2);
	kv_tree *tree;
	int err;

	snprintf(name, sizeof(name), "tree%u", op->key % 3);
	key_name(key, sizeof(key), op->key);
	if (!oracle_tree_exists(&r->o, r->o.commit, name)) {
		issue(r);
		oracle_tree_create(&r->o, name);
		err = kv_tree_open(r->db, name, KV_TREE_CREATE, &tree);
		if (!settle(r, err, false, "tree create", name))
			return false;
	} else {
		err = kv_tree_open(r->db, name, KV_TREE_CREATE, &tree);
		if (err)
			return excused(r, err) || wrong(r, "tree open", name, err);
	}
	if (err)
		return true;
	fill_value(value, len, r->o.commit + 1);
	issue(r);
	oracle_put(&r->o, name, key, strlen(key), value, len);
	err = kv_put(r->db, tree, key, strlen(key), value, len, 0);
	return settle(r, err, false, "put into a tree", name);
}

static bool op_tree_drop(struct run *r)
{
	const char *name = other_tree(r);
	char copy[ORACLE_NAME_MAX + 1];
	int err;

	if (!name)
		return true;
	snprintf(copy, sizeof(copy), "%s", name);
	issue(r);
	oracle_tree_drop(&r->o, copy);
	err = kv_tree_drop(r->db, copy);
	return settle(r, err, false, "tree drop", copy);
}

static bool op_inc(struct run *r, const struct op *op)
{
	char key[32], text[32];
	const u8 *old;
	long long n = 0;
	size_t len;
	int64_t result = 0;
	int err;

	snprintf(key, sizeof(key), "number%u", op->key % 2);
	old = oracle_get(&r->o, r->o.commit, "main", key, strlen(key), &len);
	issue(r);
	if (old) {
		snprintf(text, sizeof(text), "%.*s", (int)len, (const char *)old);
		n = atoll(text) + op->key;
	}
	snprintf(text, sizeof(text), "%lld", n);
	oracle_put(&r->o, "main", key, strlen(key), text, strlen(text));
	if (old)
		err = kv_inc(r->db, NULL, key, strlen(key), op->key, &result, 0);
	else
		err = kv_put(r->db, NULL, key, strlen(key), text, strlen(text), 0);
	if (!err && result != n)
		return wrong(r, "inc gave another number", key, 0);
	return settle(r, err, false, "inc", key);
}

static int plain_device(struct run *r, struct kvp_dev **out)
{
	*out = &r->sim->dev;
	return 0;
}

bool run_open(struct run *r)
{
	struct kvp_dev *dev;
	uint64_t hash = 0, k, want;
	kv_options opt;
	int err;

	workload_options(&opt, r->w->geo, 0);
	err = kvf_err_class(r->device(r, &dev));
	if (!err)
		err = kve_open_dev(dev, &opt, &r->db);
	if (err) {
		r->db = NULL;
		return excused(r, err) || wrong(r, "open", "volume", err);
	}
	err = oracle_hash_volume(r->db, &hash, NULL);
	if (err) {
		/* which state it is remains open: no history can go on from here */
		bool good = excused(r, err) || wrong(r, "scan after open", "volume", err);

		run_drop(r);
		return good;
	}
	for (k = r->o.commit;; k--) {
		want = oracle_hash(&r->o, k);
		if (want == hash || k <= r->acked)
			break;
	}
	if (want != hash)
		return wrong(r, "state after open is not what was acknowledged", "volume", 0);
	oracle_rewind(&r->o, k);
	r->acked = k;
	synced(r); /* recovery has made durable what it serves */
	return true;
}

static bool op_reopen(struct run *r)
{
	int err = kv_close(r->db);

	r->db = NULL;
	if (!err)
		synced(r);
	else if (!excused(r, err))
		return wrong(r, "close", "volume", err);
	return run_open(r);
}

/* What is synced does not change: a checkpoint may be part of it, or not. */
static bool op_gc(struct run *r, const struct op *op)
{
	static const u64 budget[] = { 1, 1000, 4000, 0 };
	int err = kv_gc(r->db, budget[op->size % 4], NULL);

	return !err || excused(r, err) || wrong(r, "gc", "volume", err);
}

/* ---- snapshots ------------------------------------------------------------------------------------ */

/*
 * The name of a snapshot is the number of the commit whose state it shows. A key "is-NAME" says that it is
 * there: it is put after the snapshot was made, and deleted before it is. "was-NAME" says that it is gone.
 */
static int snapshot_name(void *arg, const kv_snapshot_info *info)
{
	snprintf(arg, 32, "%.31s", info->name);
	return 0;
}

static int snapshot_first(void *arg, const kv_snapshot_info *info)
{
	snapshot_name(arg, info);
	return 1;
}

static bool snapshot_create(struct run *r)
{
	char name[32], key[40];
	int err;

	snprintf(name, sizeof(name), "%llu", (u64)r->o.commit);
	snprintf(key, sizeof(key), "is-%s", name);
	err = kv_snapshot_create(r->db, name);
	/* The same state again, or one whose making was not told of. */
	if (err == KV_E_EXISTS)
		return true;
	if (err)
		return excused(r, err) || wrong(r, "snapshot", name, err);
	synced(r);
	return op_put(r, key, 1, 0);
}

static bool snapshot_delete(struct run *r, const char *name)
{
	char key[40];
	int err;

	snprintf(key, sizeof(key), "is-%s", name);
	if (!op_delete(r, key))
		return false;
	err = kv_snapshot_delete(r->db, name);
	/* It has clones. */
	if (err == KV_E_BUSY) {
		snprintf(key, sizeof(key), "is-%s", name);
		return op_put(r, key, 1, 0);
	}
	if (err)
		return excused(r, err) || wrong(r, "snapshot delete", name, err);
	synced(r);
	snprintf(key, sizeof(key), "was-%s", name);
	return op_put(r, key, 1, 0);
}

/* Does its state have a key that speaks of a snapshot that was deleted since? */
static bool snapshot_outdated(struct run *r, u64 state)
{
	const struct oracle_key *k = oracle_above(&r->o, state, "main", "is-", 3, false);
	kv_snapshot_info info;
	char name[32];

	for (; k && k->key_len > 3 && !memcmp(k->key, "is-", 3);
	     k = oracle_above(&r->o, state, "main", k->key, k->key_len, true)) {
		snprintf(name, sizeof(name), "%.*s", (int)k->key_len - 3, (const char *)k->key + 3);
		if (kv_snapshot_stat(r->db, name, &info))
			return true;
	}
	return false;
}

/* Later ones go with it, and so do the keys that speak of them: the two never contradict one another. */
static bool snapshot_rollback(struct run *r, const char *name)
{
	u64 state = strtoull(name, NULL, 10);
	int err;

	if (snapshot_outdated(r, state))
		return snapshot_delete(r, name);
	issue(r);
	oracle_revert(&r->o, state);
	err = kv_snapshot_rollback(r->db, name, KV_ROLLBACK_NEWER);
	return settle(r, err, true, "rollback", name);
}

/* A piece, or all; nothing that it shows changes. */
static bool clone_detach(struct run *r, const struct op *op, const char *name)
{
	int err = kv_tree_detach(r->db, name, op->key % 4 == 1, NULL);

	return !err || excused(r, err) || wrong(r, "detach", name, err);
}

/* A tree that OP_TREE writes to, and OP_TREE_DROP drops. */
static bool snapshot_clone(struct run *r, const struct op *op, const char *snap)
{
	kv_tree_origin_info origin;
	char name[16];
	int err;

	snprintf(name, sizeof(name), "tree%u", op->key % 3);
	if (oracle_tree_exists(&r->o, r->o.commit, name)) {
		if (kv_tree_origin(r->db, name, &origin) || !origin.snapshot[0])
			return op_tree(r, op);
		return clone_detach(r, op, name);
	}
	issue(r);
	oracle_tree_clone(&r->o, name, "main", strtoull(snap, NULL, 10));
	err = kv_tree_clone(r->db, snap, "main", name);
	return settle(r, err, true, "clone", name);
}

static bool op_snapshot(struct run *r, const struct op *op)
{
	char name[32] = "";

	if (op->size % 8 == 1) {
		kv_snapshot_list(r->db, op->key % 2 ? snapshot_first : snapshot_name, name);
		if (name[0])
			return snapshot_clone(r, op, name);
	}
	if (op->size % 4 < 2)
		return snapshot_create(r);
	kv_snapshot_list(r->db, op->size % 4 == 2 ? snapshot_first : snapshot_name, name);
	if (name[0] && op->key % 2)
		return snapshot_rollback(r, name);
	return name[0] ? snapshot_delete(r, name) : snapshot_create(r);
}

struct snapshots {
	char name[256][32];
	u32 nr;
};

static int snapshot_collect(void *arg, const kv_snapshot_info *info)
{
	struct snapshots *s = arg;

	if (s->nr == 256)
		return 1;
	snprintf(s->name[s->nr++], 32, "%.31s", info->name);
	return 0;
}

static bool snapshot_good(kv_db *db, const char *name, const u64 *hash, u64 last, char *why, size_t why_len)
{
	u64 k = strtoull(name, NULL, 10);
	uint64_t got = 0;
	kv_read *r;
	int err;

	if (k > last) {
		snprintf(why, why_len, "snapshot %s of a state that never was", name);
		return false;
	}
	err = kv_snapshot_read(db, name, &r);
	if (!err) {
		err = oracle_hash_read(db, r, &got, NULL);
		kv_read_end(r);
	}
	if (err)
		snprintf(why, why_len, "snapshot %s: %s", name, kv_last_error());
	else if (got != hash[k])
		snprintf(why, why_len, "snapshot %s shows another state", name);
	return !err && got == hash[k];
}

/* What the keys say. */
static bool snapshots_told(kv_db *db, char *why, size_t why_len)
{
	kv_snapshot_info info;
	const void *key;
	char name[40];
	kv_cursor *c;
	bool there, due;
	size_t len;
	int skip, err = kv_cursor_open(db, NULL, NULL, &c);

	if (err)
		return true; /* said elsewhere */
	for (err = kv_cursor_first(c); !err; err = kv_cursor_next(c)) {
		if (kv_cursor_key(c, &key, &len) || len < 4 || len >= sizeof(name))
			continue;
		due = !memcmp(key, "is-", 3);
		if (!due && memcmp(key, "was-", 4))
			continue;
		skip = due ? 3 : 4;
		snprintf(name, sizeof(name), "%.*s", (int)len - skip, (const char *)key + skip);
		there = !kv_snapshot_stat(db, name, &info);
		if (there == due)
			continue;
		snprintf(why, why_len, "snapshot %s is %s", name, due ? "lost" : "there again");
		kv_cursor_close(c);
		return false;
	}
	kv_cursor_close(c);
	return true;
}

bool workload_snapshots(kv_db *db, const u64 *hash, u64 last, char *why, size_t why_len)
{
	struct snapshots *s = calloc(1, sizeof(*s));
	bool good = true;
	u32 i;

	if (!s)
		abort();
	if (!kv_snapshot_list(db, snapshot_collect, s))
		for (i = 0; i < s->nr && good; i++)
			good = snapshot_good(db, s->name[i], hash, last, why, why_len);
	if (good)
		good = snapshots_told(db, why, why_len);
	free(s);
	return good;
}

#define BULK 60000u

static const char *const bulk_keys[] = { "bulk0", "bulk1", "bulk2", "bulk3", "bulk4", "bulk5", "bulk6" };

static u32 bulk_nr(const struct run *r)
{
	return r->w->geo ? 7 : 4;
}

static bool bulk_put(struct run *r)
{
	u32 i;

	for (i = 0; i < bulk_nr(r); i++)
		if (!op_stream(r, bulk_keys[i], BULK))
			return false;
	return true;
}

/* Large values come and go, with all steps of their deletion: the end of the volume is free. */
static bool bulk(struct run *r)
{
	u32 i;

	if (!r->w->bulk && !bulk_put(r))
		return false;
	for (i = 0; i < bulk_nr(r); i++)
		if (!op_delete(r, bulk_keys[i]))
			return false;
	for (i = 0; i < 8; i++)
		if (!op_put(r, "base1", value_size(r, 0), 0))
			return false;
	return true;
}

/* As gc: nothing that is stored changes. Later operations need room, so it does not stay short. */
static bool op_resize(struct run *r, const struct op *op)
{
	kv_resize_info info = { .more = 1 };
	u64 bytes;
	u32 calls;
	int err;

	if (op->size % 2 && !bulk(r))
		return false;
	err = kv_resize(r->db, 0, 0, &info);
	bytes = info.min_bytes;
	for (calls = 0, info.more = !err; !err && info.more && (op->size % 2 || calls < 6u); calls++)
		err = kv_resize(r->db, bytes, op->size % 4 == 1 ? 0 : 1, &info);
	if (!err)
		err = kv_resize(r->db, KV_RESIZE_MOST, 0, NULL);
	return !err || excused(r, err) || wrong(r, "resize", "volume", err);
}

static bool op_simple(struct run *r, int err, const char *what)
{
	if (err)
		return excused(r, err) || wrong(r, what, "volume", err);
	synced(r);
	return true;
}

bool run_op(struct run *r, const struct op *op)
{
	char key[64];

	if (!r->db)
		return true;
	key_name(key, sizeof(key), op->key % KEYS);
	switch (op->kind) {
	case OP_PUT_SMALL:
		return op_put(r, key, value_size(r, 0), 0);
	case OP_PUT_SYNCED:
		if (op->size % 2)
			return op_put_async(r, key, value_size(r, op->size));
		return op_put(r, key, value_size(r, op->size), KV_SYNCED);
	case OP_PUT_BIG:
		return op_put(r, key, value_size(r, 1), 0);
	case OP_PUT_OBJECT:
		return op_stream(r, key, value_size(r, 2));
	case OP_OVERWRITE:
		return op_put(r, "base1", value_size(r, op->size), 0);
	case OP_DELETE:
		return op_delete(r, op->key % 2 ? key : "base2");
	case OP_BATCH:
		return op_batch(r, op);
	case OP_SYNC:
		return op_simple(r, kv_sync(r->db), "sync");
	case OP_CHECKPOINT:
		return op_simple(r, kv_checkpoint(r->db), "checkpoint");
	case OP_TREE:
		return op_tree(r, op);
	case OP_TREE_DROP:
		return op_tree_drop(r);
	case OP_INC:
		return op_inc(r, op);
	case OP_REOPEN:
		return op_reopen(r);
	case OP_GC:
		return op_gc(r, op);
	case OP_SNAPSHOT:
		return op_snapshot(r, op);
	case OP_RANGE:
		return op_range(r, op);
	case OP_RESIZE:
		return op_resize(r, op);
	case OP_CRASH:
		run_drop(r);
		return run_open(r);
	default:
		abort();
	}
}

bool run_ops(struct run *r)
{
	unsigned int i;

	for (i = 0; i < r->w->nr; i++) {
		if (!run_op(r, &r->w->ops[i])) {
			size_t n = strlen(r->why);

			snprintf(r->why + n, sizeof(r->why) - n, " [operation %u: %s]", i,
				 op_name(r->w->ops[i].kind));
			return false;
		}
	}
	return true;
}

void run_drop(struct run *r)
{
	if (r->db)
		kve_crash(r->db);
	r->db = NULL;
}

bool run_create(struct run *r, const struct workload *w, struct sim *sim)
{
	struct op op = { .kind = OP_PUT_SMALL };
	kv_options opt;
	char key[16];
	unsigned int i;
	int err;

	memset(r, 0, sizeof(*r));
	r->w = w;
	r->sim = sim;
	r->device = plain_device;
	oracle_init(&r->o);
	workload_fix(1);
	workload_options(&opt, w->geo, 0);
	sim_fill(sim, NULL, 0);
	err = kve_create_dev(&sim->dev, &opt);
	if (err)
		return wrong(r, "create", "volume", err);
	if (!run_open(r))
		return false;
	for (i = 0; i < 4; i++) {
		snprintf(key, sizeof(key), "base%u", i);
		if (!op_put(r, key, value_size(r, i), 0))
			return false;
	}
	op.key = KEYS - 1;
	if (!run_op(r, &op) || (w->bulk && !bulk_put(r)))
		return false;
	err = kv_close(r->db);
	r->db = NULL;
	if (err)
		return wrong(r, "close", "volume", err);
	synced(r);
	return true;
}

void run_free(struct run *r)
{
	run_drop(r);
	oracle_free(&r->o);
}
