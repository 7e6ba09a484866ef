/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_lmdb.c - kvbench's driver of LMDB.
 *
 * Not synced: NOSYNC with WRITEMAP, so that a commit is in the page cache, safe from kill -9,
 * without a write call. Synced: LMDB's default. A thread keeps one read transaction and renews it
 * for each get: the fastest correct way.
 */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

struct db {
	MDB_env *env;
	MDB_dbi dbi;
};

struct ctx {
	struct db *db;
	MDB_txn *read;
	MDB_cursor *cursor;
};

static void check(int err, const char *call)
{
	if (err)
		bench_die("lmdb: %s: %s", call, mdb_strerror(err));
}

static const char *version(void)
{
	static char text[32];
	int major, minor, patch;

	mdb_version(&major, &minor, &patch);
	snprintf(text, sizeof(text), "%d.%d.%d", major, minor, patch);
	return text;
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	unsigned int flags = MDB_NOTLS | (opts->synced ? 0 : MDB_NOSYNC | MDB_WRITEMAP) |
			     (opts->tight ? MDB_NORDAHEAD : 0);
	struct db *db = calloc(1, sizeof(*db));
	MDB_txn *txn;

	if (!db)
		bench_die("lmdb: out of memory");
	check(mdb_env_create(&db->env), "mdb_env_create");
	check(mdb_env_set_mapsize(db->env, opts->map_bytes), "mdb_env_set_mapsize");
	check(mdb_env_set_maxreaders(db->env, 64), "mdb_env_set_maxreaders");
	check(mdb_env_open(db->env, dir, flags, 0644), "mdb_env_open");
	check(mdb_txn_begin(db->env, NULL, 0, &txn), "mdb_txn_begin");
	check(mdb_dbi_open(txn, NULL, MDB_CREATE, &db->dbi), "mdb_dbi_open");
	check(mdb_txn_commit(txn), "mdb_txn_commit");
	return db;
}

static void d_close(void *p)
{
	struct db *db = p;

	mdb_env_close(db->env);
	free(db);
}

static void *ctx_open(void *db)
{
	struct ctx *c = calloc(1, sizeof(*c));

	if (!c)
		bench_die("lmdb: out of memory");
	c->db = db;
	check(mdb_txn_begin(c->db->env, NULL, MDB_RDONLY, &c->read), "mdb_txn_begin");
	check(mdb_cursor_open(c->read, c->db->dbi, &c->cursor), "mdb_cursor_open");
	mdb_txn_reset(c->read);
	return c;
}

static void ctx_close(void *ctx)
{
	struct ctx *c = ctx;

	mdb_cursor_close(c->cursor);
	mdb_txn_abort(c->read);
	free(c);
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	struct ctx *c = ctx;
	MDB_val key, val;
	MDB_txn *txn;
	unsigned int i;

	check(mdb_txn_begin(c->db->env, NULL, 0, &txn), "mdb_txn_begin");
	for (i = 0; i < nr; i++) {
		key = (MDB_val){ p[i].key_len, (void *)p[i].key };
		val = (MDB_val){ p[i].val_len, (void *)p[i].val };
		check(mdb_put(txn, c->db->dbi, &key, &val, 0), "mdb_put");
	}
	check(mdb_txn_commit(txn), "mdb_txn_commit");
}

static void put(void *ctx, const struct bench_pair *p)
{
	put_batch(ctx, p, 1);
}

static int64_t get_in_txn(struct ctx *c, const void *k, uint32_t key_len, void *buf, uint32_t cap)
{
	MDB_val key = { key_len, (void *)k }, val;
	int err = mdb_get(c->read, c->db->dbi, &key, &val);

	if (err == MDB_NOTFOUND)
		return -1;
	check(err, "mdb_get");
	memcpy(buf, val.mv_data, val.mv_size < cap ? val.mv_size : cap);
	return (int64_t)val.mv_size;
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct ctx *c = ctx;
	int64_t len;

	check(mdb_txn_renew(c->read), "mdb_txn_renew");
	len = get_in_txn(c, key, key_len, buf, cap);
	mdb_txn_reset(c->read);
	return len;
}

/* One read transaction for all. */
static void mget(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap, int64_t *lens)
{
	struct ctx *c = ctx;
	unsigned int i;

	check(mdb_txn_renew(c->read), "mdb_txn_renew");
	for (i = 0; i < nr; i++)
		lens[i] = get_in_txn(c, keys + (size_t)i * BENCH_KEY_LEN, BENCH_KEY_LEN,
				     bufs + (size_t)i * cap, cap);
	mdb_txn_reset(c->read);
}

static int position(MDB_cursor *cursor, MDB_val *key, MDB_val *val, bool reverse)
{
	MDB_val want = *key;
	int err;

	if (!want.mv_data)
		return mdb_cursor_get(cursor, key, val, reverse ? MDB_LAST : MDB_FIRST);
	err = mdb_cursor_get(cursor, key, val, MDB_SET_RANGE);
	if (!reverse)
		return err;
	if (err == MDB_NOTFOUND)
		return mdb_cursor_get(cursor, key, val, MDB_LAST);
	if (!err && (key->mv_size != want.mv_size ||
		     memcmp(key->mv_data, want.mv_data, want.mv_size)))
		return mdb_cursor_get(cursor, key, val, MDB_PREV);
	return err;
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	MDB_val key = { from_len, (void *)from }, val;
	struct ctx *c = ctx;
	uint64_t nr = 0;
	int err;

	check(mdb_txn_renew(c->read), "mdb_txn_renew");
	check(mdb_cursor_renew(c->read, c->cursor), "mdb_cursor_renew");
	err = position(c->cursor, &key, &val, s->reverse);
	while (!err) {
		bench_visit(s, key.mv_data, key.mv_size, val.mv_data, val.mv_size);
		if (++nr == max)
			break;
		err = mdb_cursor_get(c->cursor, &key, &val, s->reverse ? MDB_PREV : MDB_NEXT);
	}
	if (err != MDB_NOTFOUND)
		check(err, "mdb_cursor_get");
	mdb_txn_reset(c->read);
	return nr;
}

static void counter_inc(void *ctx, const void *k, uint32_t key_len)
{
	MDB_val key = { key_len, (void *)k }, val;
	struct ctx *c = ctx;
	uint64_t count;
	MDB_txn *txn;

	check(mdb_txn_begin(c->db->env, NULL, 0, &txn), "mdb_txn_begin");
	check(mdb_get(txn, c->db->dbi, &key, &val), "mdb_get");
	memcpy(&count, val.mv_data, sizeof(count));
	count++;
	val = (MDB_val){ sizeof(count), &count };
	check(mdb_put(txn, c->db->dbi, &key, &val, 0), "mdb_put");
	check(mdb_txn_commit(txn), "mdb_txn_commit");
}

static void d_sync(void *p)
{
	struct db *db = p;

	check(mdb_env_sync(db->env, 1), "mdb_env_sync");
}

const struct bench_ops bench_lmdb = {
	.name = "lmdb",
	.config = "NOSYNC|WRITEMAP, synced: default; NOTLS, read transaction renewed for each get "
		  "or multi-get; NORDAHEAD in tight memory",
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
