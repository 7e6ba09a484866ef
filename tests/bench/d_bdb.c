/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_bdb.c - kvbench's driver of Berkeley DB: a B-tree in a transactional environment of this process.
 *
 * Not synced: DB_TXN_WRITE_NOSYNC, each commit written to the log file, safe from kill -9. Synced: the
 * default. Each open runs recovery, which does nothing after an orderly close. Locks are on pages, so
 * that threads may deadlock: the one that is told so tries again.
 */
#include <db.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define LOG_BUFFER_BYTES (8u << 20)
/* Recovery writes zeros to the end of the last one. */
#define LOG_FILE_BYTES (32u << 20)
/* Of written keys and values per thread, between checkpoints. */
#define CHECKPOINT_BYTES (128u << 20)
#define CHECKPOINT_KIB 65536
#define ENTRY_OVERHEAD 64
#define LOCKS 100000
#define LOCKERS 1000
#define TRANSACTIONS 200

struct db {
	DB_ENV *env;
	DB *db;
};

struct ctx {
	struct db *db;
	uint64_t written; /* since the checkpoint */
	/* of scans */
	char key[BENCH_KEY_LEN];
	char val[BENCH_VALUE_MAX];
};

static void check(int err, const char *call)
{
	if (err)
		bench_die("bdb: %s: %s", call, db_strerror(err));
}

static bool try_again(int err)
{
	return err == DB_LOCK_DEADLOCK || err == DB_LOCK_NOTGRANTED;
}

static const char *version(void)
{
	static char text[32];
	int major, minor, patch;

	db_version(&major, &minor, &patch);
	snprintf(text, sizeof(text), "%d.%d.%d", major, minor, patch);
	return text;
}

static DB_ENV *env_open(const char *dir, const struct bench_opts *opts)
{
	const uint32_t flags = DB_CREATE | DB_INIT_MPOOL | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_LOCK |
			       DB_THREAD | DB_PRIVATE | DB_RECOVER;
	DB_ENV *env;

	check(db_env_create(&env, 0), "db_env_create");
	env->set_errfile(env, stderr);
	check(env->set_cachesize(env, (uint32_t)(opts->cache_bytes >> 30),
				 (uint32_t)(opts->cache_bytes & ((1u << 30) - 1)), 1), "set_cachesize");
	check(env->set_lg_bsize(env, LOG_BUFFER_BYTES), "set_lg_bsize");
	check(env->set_lg_max(env, LOG_FILE_BYTES), "set_lg_max");
	check(env->set_lk_detect(env, DB_LOCK_DEFAULT), "set_lk_detect");
	check(env->set_lk_max_locks(env, LOCKS), "set_lk_max_locks");
	check(env->set_lk_max_objects(env, LOCKS), "set_lk_max_objects");
	check(env->set_lk_max_lockers(env, LOCKERS), "set_lk_max_lockers");
	check(env->set_tx_max(env, TRANSACTIONS), "set_tx_max");
	check(env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1), "log_set_config");
	if (!opts->synced)
		check(env->set_flags(env, DB_TXN_WRITE_NOSYNC, 1), "set_flags");
	check(env->open(env, dir, flags, 0644), "DB_ENV->open");
	return env;
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	struct db *db = calloc(1, sizeof(*db));
	uint32_t page = opts->val_len > 2000 ? 16384 : opts->val_len > 500 ? 8192 : 4096;

	if (!db)
		bench_die("bdb: out of memory");
	db->env = env_open(dir, opts);
	check(db_create(&db->db, db->env, 0), "db_create");
	check(db->db->set_pagesize(db->db, page), "set_pagesize");
	check(db->db->open(db->db, NULL, "bench.bdb", NULL, DB_BTREE,
			   DB_CREATE | DB_AUTO_COMMIT | DB_THREAD, 0644), "DB->open");
	return db;
}

static void d_close(void *p)
{
	struct db *db = p;

	check(db->db->close(db->db, 0), "DB->close");
	check(db->env->txn_checkpoint(db->env, 0, 0, 0), "txn_checkpoint");
	check(db->env->close(db->env, 0), "DB_ENV->close");
	free(db);
}

static void *ctx_open(void *db)
{
	struct ctx *c = calloc(1, sizeof(*c));

	if (!c)
		bench_die("bdb: out of memory");
	c->db = db;
	return c;
}

static void ctx_close(void *ctx)
{
	free(ctx);
}

static void count_written(struct ctx *c, uint64_t bytes)
{
	DB_ENV *env = c->db->env;

	c->written += bytes;
	if (c->written < CHECKPOINT_BYTES)
		return;
	c->written = 0;
	check(env->txn_checkpoint(env, CHECKPOINT_KIB, 0, 0), "txn_checkpoint");
}

static DBT in(const void *p, uint32_t len)
{
	return (DBT){ .data = (void *)p, .size = len };
}

static DBT into(void *p, uint32_t cap)
{
	return (DBT){ .data = p, .ulen = cap, .flags = DB_DBT_USERMEM };
}

static int try_batch(struct ctx *c, const struct bench_pair *p, unsigned int nr)
{
	DB_TXN *txn;
	unsigned int i;
	DBT key, val;
	int err = 0;

	check(c->db->env->txn_begin(c->db->env, NULL, &txn, 0), "txn_begin");
	for (i = 0; i < nr && !err; i++) {
		key = in(p[i].key, p[i].key_len);
		val = in(p[i].val, p[i].val_len);
		err = c->db->db->put(c->db->db, txn, &key, &val, 0);
	}
	if (!err)
		return txn->commit(txn, 0);
	check(txn->abort(txn), "txn_abort");
	return err;
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	struct ctx *c = ctx;
	uint64_t bytes = 0;
	unsigned int i;
	int err;

	do
		err = try_batch(c, p, nr);
	while (try_again(err));
	check(err, "DB->put");
	for (i = 0; i < nr; i++)
		bytes += p[i].key_len + p[i].val_len + ENTRY_OVERHEAD;
	count_written(c, bytes);
}

static void put(void *ctx, const struct bench_pair *p)
{
	put_batch(ctx, p, 1);
}

static int64_t get(void *ctx, const void *k, uint32_t key_len, void *buf, uint32_t cap)
{
	DBT key = in(k, key_len), val = into(buf, cap);
	struct ctx *c = ctx;
	int err;

	do
		err = c->db->db->get(c->db->db, NULL, &key, &val, 0);
	while (try_again(err));
	if (err == DB_NOTFOUND)
		return -1;
	check(err, "DB->get");
	return val.size;
}

/* *key holds from and is overwritten. */
static int position(DBC *cursor, DBT *key, DBT *val, bool from, bool reverse)
{
	char want[BENCH_KEY_LEN];
	uint32_t len = key->size;
	int err;

	if (!from)
		return cursor->get(cursor, key, val, reverse ? DB_LAST : DB_FIRST);
	memcpy(want, key->data, len);
	err = cursor->get(cursor, key, val, DB_SET_RANGE);
	if (!reverse)
		return err;
	if (err == DB_NOTFOUND)
		return cursor->get(cursor, key, val, DB_LAST);
	if (!err && (key->size != len || memcmp(key->data, want, len)))
		return cursor->get(cursor, key, val, DB_PREV);
	return err;
}

/*
 * One pass from *key, which is left at the last key that was visited. again: that one was visited by a
 * pass that ended in a deadlock.
 */
static int scan_pass(struct ctx *c, DBT *key, bool from, bool again, uint64_t max, uint64_t *nr,
		     struct bench_scan *s)
{
	DB *db = c->db->db;
	DBT found = into(c->key, sizeof(c->key)), val = into(c->val, sizeof(c->val));
	DBC *cursor;
	int err;

	if (from) {
		memcpy(c->key, key->data, key->size);
		found.size = key->size;
	}
	check(db->cursor(db, NULL, &cursor, 0), "DB->cursor");
	err = position(cursor, &found, &val, from, s->reverse);
	while (!err) {
		if (!again || found.size != key->size || memcmp(found.data, key->data, key->size)) {
			bench_visit(s, found.data, found.size, val.data, val.size);
			memcpy(key->data, found.data, found.size);
			key->size = found.size;
			++*nr;
		}
		again = false;
		if (*nr == max)
			break;
		err = cursor->get(cursor, &found, &val, s->reverse ? DB_PREV : DB_NEXT);
	}
	check(cursor->close(cursor), "DBC->close");
	return err;
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	char last[BENCH_KEY_LEN];
	DBT key = { .data = last };
	uint64_t nr = 0;
	int err;

	if (from) {
		memcpy(last, from, from_len);
		key.size = from_len;
	}
	do
		err = scan_pass(ctx, &key, from || nr, nr > 0, max, &nr, s);
	while (try_again(err));
	if (err != DB_NOTFOUND)
		check(err, "DBC->get");
	return nr;
}

static int try_inc(struct ctx *c, const void *k, uint32_t key_len)
{
	DB *db = c->db->db;
	uint64_t count;
	DBT key = in(k, key_len), val = into(&count, sizeof(count));
	DB_TXN *txn;
	int err;

	check(c->db->env->txn_begin(c->db->env, NULL, &txn, 0), "txn_begin");
	err = db->get(db, txn, &key, &val, DB_RMW);
	if (!err) {
		count++;
		err = db->put(db, txn, &key, &val, 0);
	}
	if (!err)
		return txn->commit(txn, 0);
	check(txn->abort(txn), "txn_abort");
	return err;
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	struct ctx *c = ctx;
	int err;

	do
		err = try_inc(c, key, key_len);
	while (try_again(err));
	check(err, "increment");
	count_written(c, key_len + sizeof(uint64_t) + ENTRY_OVERHEAD);
}

static void d_sync(void *p)
{
	struct db *db = p;

	check(db->env->log_flush(db->env, NULL), "log_flush");
}

const struct bench_ops bench_bdb = {
	.name = "bdb",
	.config = "transactions, private environment, log buffer 8 MiB, checkpoint each 128 MiB, "
		  "TXN_WRITE_NOSYNC, synced: default; pages of 4, 8, 16 KiB by value",
	.version = version,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.get = get,
	.scan = scan,
	.counter_inc = counter_inc,
	.sync = d_sync,
};
