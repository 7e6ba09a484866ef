/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_sqlite.c - kvbench's driver of SQLite: one table WITHOUT ROWID in WAL mode.
 *
 * Not synced: synchronous=OFF, each commit written to the WAL file, safe from kill -9. Synced:
 * synchronous=FULL. A thread has its own connection and prepared statements; writers take a lock of
 * the application, which is faster than SQLite's busy handler.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define BUSY_MS 10000
#define AUTOCHECKPOINT_PAGES 4000

enum stmt { PUT, GET, BEGIN, BEGIN_READ, COMMIT, FROM, DOWN_FROM, ALL, DOWN_ALL, STMTS_NR };

static const char *const sql[STMTS_NR] = {
	[PUT] = "INSERT OR REPLACE INTO kv VALUES(?,?)",
	[GET] = "SELECT v FROM kv WHERE k=?",
	[BEGIN] = "BEGIN IMMEDIATE",
	[BEGIN_READ] = "BEGIN",
	[COMMIT] = "COMMIT",
	[FROM] = "SELECT k,v FROM kv WHERE k>=? ORDER BY k LIMIT ?",
	[DOWN_FROM] = "SELECT k,v FROM kv WHERE k<=? ORDER BY k DESC LIMIT ?",
	[ALL] = "SELECT k,v FROM kv ORDER BY k",
	[DOWN_ALL] = "SELECT k,v FROM kv ORDER BY k DESC",
};

struct db {
	char path[600];
	struct bench_opts opts;
	pthread_mutex_t write_lock;
};

struct ctx {
	struct db *db;
	sqlite3 *conn;
	sqlite3_stmt *stmts[STMTS_NR];
};

static void check(int err, const char *call)
{
	if (err)
		bench_die("sqlite: %s: %s", call, sqlite3_errstr(err));
}

static const char *version(void)
{
	return sqlite3_libversion();
}

static sqlite3 *connect_to(struct db *db)
{
	const struct bench_opts *o = &db->opts;
	char setup[512];
	sqlite3 *conn;

	check(sqlite3_open_v2(db->path, &conn,
			      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL),
	      "sqlite3_open_v2");
	sqlite3_busy_timeout(conn, BUSY_MS);
	/* Pages that hold a few values each: found best for each length. */
	snprintf(setup, sizeof(setup),
		 "PRAGMA page_size=%d; PRAGMA journal_mode=WAL; PRAGMA synchronous=%s;"
		 "PRAGMA cache_size=-%zu; PRAGMA mmap_size=%zu; PRAGMA wal_autocheckpoint=%d;"
		 "PRAGMA temp_store=MEMORY",
		 o->val_len > 2000 ? 32768 : o->val_len > 500 ? 8192 : 4096,
		 o->synced ? "FULL" : "OFF",
		 o->cache_bytes / (o->tight ? BENCH_THREADS_MAX : 4) / 1024,
		 o->tight ? (size_t)0 : o->map_bytes, AUTOCHECKPOINT_PAGES);
	check(sqlite3_exec(conn, setup, NULL, NULL, NULL), setup);
	return conn;
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	struct db *db = calloc(1, sizeof(*db));
	sqlite3 *conn;

	if (!db)
		bench_die("sqlite: out of memory");
	db->opts = *opts;
	snprintf(db->path, sizeof(db->path), "%s/bench.sqlite", dir);
	pthread_mutex_init(&db->write_lock, NULL);
	conn = connect_to(db);
	check(sqlite3_exec(conn,
			   "CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID",
			   NULL, NULL, NULL),
	      "CREATE TABLE");
	check(sqlite3_close(conn), "sqlite3_close");
	return db;
}

static void d_close(void *db)
{
	free(db);
}

static void *ctx_open(void *db)
{
	struct ctx *c = calloc(1, sizeof(*c));
	unsigned int i;

	if (!c)
		bench_die("sqlite: out of memory");
	c->db = db;
	c->conn = connect_to(db);
	for (i = 0; i < STMTS_NR; i++)
		check(sqlite3_prepare_v3(c->conn, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
					 &c->stmts[i], NULL), sql[i]);
	return c;
}

static void ctx_close(void *ctx)
{
	struct ctx *c = ctx;
	unsigned int i;

	for (i = 0; i < STMTS_NR; i++)
		sqlite3_finalize(c->stmts[i]);
	check(sqlite3_close(c->conn), "sqlite3_close");
	free(c);
}

static void run(struct ctx *c, enum stmt stmt)
{
	if (sqlite3_step(c->stmts[stmt]) != SQLITE_DONE)
		bench_die("sqlite: %s: %s", sql[stmt], sqlite3_errmsg(c->conn));
	sqlite3_reset(c->stmts[stmt]);
}

static void put_one(struct ctx *c, const struct bench_pair *p)
{
	sqlite3_bind_blob(c->stmts[PUT], 1, p->key, (int)p->key_len, SQLITE_STATIC);
	sqlite3_bind_blob(c->stmts[PUT], 2, p->val, (int)p->val_len, SQLITE_STATIC);
	run(c, PUT);
}

static void put(void *ctx, const struct bench_pair *p)
{
	struct ctx *c = ctx;

	pthread_mutex_lock(&c->db->write_lock);
	put_one(c, p);
	pthread_mutex_unlock(&c->db->write_lock);
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	struct ctx *c = ctx;
	unsigned int i;

	pthread_mutex_lock(&c->db->write_lock);
	run(c, BEGIN);
	for (i = 0; i < nr; i++)
		put_one(c, p + i);
	run(c, COMMIT);
	pthread_mutex_unlock(&c->db->write_lock);
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct ctx *c = ctx;
	sqlite3_stmt *s = c->stmts[GET];
	const void *val;
	int64_t len = -1;
	int err;

	sqlite3_bind_blob(s, 1, key, (int)key_len, SQLITE_STATIC);
	err = sqlite3_step(s);
	if (err == SQLITE_ROW) {
		val = sqlite3_column_blob(s, 0);
		len = sqlite3_column_bytes(s, 0);
		memcpy(buf, val, len < cap ? (size_t)len : cap);
	} else if (err != SQLITE_DONE) {
		bench_die("sqlite: %s: %s", sql[GET], sqlite3_errmsg(c->conn));
	}
	sqlite3_reset(s);
	return len;
}

/* One read transaction for all. */
static void mget(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap, int64_t *lens)
{
	struct ctx *c = ctx;
	unsigned int i;

	run(c, BEGIN_READ);
	for (i = 0; i < nr; i++)
		lens[i] = get(c, keys + (size_t)i * BENCH_KEY_LEN, BENCH_KEY_LEN,
			      bufs + (size_t)i * cap, cap);
	run(c, COMMIT);
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *scan)
{
	struct ctx *c = ctx;
	sqlite3_stmt *s;
	uint64_t nr = 0;
	const void *val;
	int err;

	if (from) {
		s = c->stmts[scan->reverse ? DOWN_FROM : FROM];
		sqlite3_bind_blob(s, 1, from, (int)from_len, SQLITE_STATIC);
		sqlite3_bind_int64(s, 2, max > INT64_MAX ? INT64_MAX : (int64_t)max);
	} else {
		s = c->stmts[scan->reverse ? DOWN_ALL : ALL];
	}
	while ((err = sqlite3_step(s)) == SQLITE_ROW) {
		const void *key = sqlite3_column_blob(s, 0);

		val = sqlite3_column_blob(s, 1);
		bench_visit(scan, key, (size_t)sqlite3_column_bytes(s, 0), val,
			    (size_t)sqlite3_column_bytes(s, 1));
		if (++nr == max)
			break;
	}
	if (err != SQLITE_ROW && err != SQLITE_DONE)
		bench_die("sqlite: scan: %s", sqlite3_errmsg(c->conn));
	sqlite3_reset(s);
	return nr;
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	struct ctx *c = ctx;
	struct bench_pair p;
	uint64_t count;

	pthread_mutex_lock(&c->db->write_lock);
	run(c, BEGIN);
	count = bench_counter_get(&bench_sqlite, ctx, key, key_len) + 1;
	p = (struct bench_pair){ key, &count, key_len, sizeof(count) };
	put_one(c, &p);
	run(c, COMMIT);
	pthread_mutex_unlock(&c->db->write_lock);
}

/* Moves the WAL into the database; the caller of the driver syncs the files themselves. */
static void d_sync(void *p)
{
	struct db *db = p;
	sqlite3 *conn = connect_to(db);

	check(sqlite3_exec(conn, "PRAGMA synchronous=FULL", NULL, NULL, NULL), "synchronous=FULL");
	check(sqlite3_wal_checkpoint_v2(conn, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
	      "sqlite3_wal_checkpoint_v2");
	check(sqlite3_close(conn), "sqlite3_close");
}

const struct bench_ops bench_sqlite = {
	.name = "sqlite",
	.config = "WITHOUT ROWID, WAL, synchronous=OFF, synced: FULL; mmap, cache 1/4 per connection (tight "
		  "memory: no mmap, 1/8), checkpoint at 4000 pages; writers under one lock",
	.version = version,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.get = get,
	.mget = mget,
	.scan = scan,
	.counter_inc = counter_inc,
	.sync = d_sync,
};
