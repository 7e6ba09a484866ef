/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_tkrzw.c - kvbench's driver of Tkrzw's TreeDBM, through its C interface.
 *
 * It has no log: pages in its cache are lost by kill -9, so it is never the best peer. Synced: each
 * commit writes its pages and syncs the file. A batch is not atomic.
 */
#include <stdio.h>
#include <stdlib.h>
#include <tkrzw_langc.h>

#include "bench.h"

#define PAGE_BYTES 8130
#define CACHED_PAGES_PER_MIB 128
#define BUCKETS 400000

struct db {
	TkrzwDBM *dbm;
	bool synced;
};

static void check(bool ok, const char *call)
{
	if (!ok)
		bench_die("tkrzw: %s: %s", call, tkrzw_get_last_status_message());
}

static const char *version(void)
{
	return TKRZW_PACKAGE_VERSION;
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	struct db *db = calloc(1, sizeof(*db));
	char path[600], params[512];

	if (!db)
		bench_die("tkrzw: out of memory");
	db->synced = opts->synced;
	snprintf(path, sizeof(path), "%s/bench.tkt", dir);
	/* Read at random in tight memory, its mapping would be read ahead. */
	snprintf(params, sizeof(params),
		 "restore_mode=RESTORE_SYNC,file=%s,num_buckets=%d,cache_buckets=true,"
		 "max_cached_pages=%zu,max_page_size=%d%s",
		 opts->tight ? "PositionalParallelFile" : "MemoryMapParallelFile", BUCKETS,
		 opts->cache_bytes / 1048576 * CACHED_PAGES_PER_MIB, PAGE_BYTES,
		 opts->synced ? ",page_update_mode=PAGE_UPDATE_WRITE" : "");
	db->dbm = tkrzw_dbm_open(path, true, params);
	check(db->dbm, "open");
	return db;
}

static void d_close(void *p)
{
	struct db *db = p;

	check(tkrzw_dbm_close(db->dbm), "close");
	free(db);
}

static void *ctx_open(void *db)
{
	return db;
}

static void ctx_close(void *ctx)
{
	(void)ctx;
}

static void d_sync(void *p)
{
	struct db *db = p;

	check(tkrzw_dbm_synchronize(db->dbm, true, NULL, NULL, ""), "synchronize");
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	struct db *db = ctx;
	unsigned int i;

	for (i = 0; i < nr; i++)
		check(tkrzw_dbm_set(db->dbm, p[i].key, (int32_t)p[i].key_len, p[i].val,
				    (int32_t)p[i].val_len, true), "set");
	if (db->synced)
		d_sync(db);
}

static void put(void *ctx, const struct bench_pair *p)
{
	put_batch(ctx, p, 1);
}

struct copy {
	void *buf;
	uint32_t cap;
	int64_t len;
};

static const char *copy_value(void *arg, const char *key, int32_t key_len, const char *val,
			      int32_t val_len, int32_t *new_len)
{
	struct copy *c = arg;

	(void)key;
	(void)key_len;
	(void)new_len;
	if (val) {
		c->len = val_len;
		memcpy(c->buf, val, (uint32_t)val_len < c->cap ? (uint32_t)val_len : c->cap);
	}
	return TKRZW_REC_PROC_NOOP;
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct copy c = { buf, cap, -1 };
	struct db *db = ctx;

	check(tkrzw_dbm_process(db->dbm, key, (int32_t)key_len, copy_value, &c, false), "process");
	return c.len;
}

static const char *visit(void *arg, const char *key, int32_t key_len, const char *val,
			 int32_t val_len, int32_t *new_len)
{
	(void)new_len;
	bench_visit(arg, key, (size_t)key_len, val, (size_t)val_len);
	return TKRZW_REC_PROC_NOOP;
}

/* Forward from the key, or from the first; returns the number of entries that fn was given. */
static uint64_t forward(struct db *db, const void *from, uint32_t from_len, uint64_t max,
			tkrzw_record_processor fn, void *arg)
{
	TkrzwDBMIter *it = tkrzw_dbm_make_iterator(db->dbm);
	uint64_t nr = 0;

	check(from ? tkrzw_dbm_iter_jump(it, from, (int32_t)from_len) : tkrzw_dbm_iter_first(it),
	      "jump or first");
	while (nr < max && tkrzw_dbm_iter_process(it, fn, arg, false))
		if (++nr < max)
			check(tkrzw_dbm_iter_next(it), "next");
	if (nr < max)
		check(tkrzw_get_last_status_code() == TKRZW_STATUS_NOT_FOUND_ERROR, "iterate");
	tkrzw_dbm_iter_free(it);
	return nr;
}

/* Copies of entries: key, value. */
struct copies {
	char *bytes;
	size_t nr, cap, entry;
};

static const char *collect(void *arg, const char *key, int32_t key_len, const char *val,
			   int32_t val_len, int32_t *new_len)
{
	struct copies *c = arg;

	(void)new_len;
	if ((size_t)key_len + (size_t)val_len != c->entry)
		bench_die("tkrzw: an entry of another length than all");
	if (c->nr == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 1024;
		c->bytes = realloc(c->bytes, c->cap * c->entry);
		if (!c->bytes)
			bench_die("tkrzw: out of memory");
	}
	memcpy(c->bytes + c->nr * c->entry, key, (size_t)key_len);
	memcpy(c->bytes + c->nr * c->entry + key_len, val, (size_t)val_len);
	c->nr++;
	return TKRZW_REC_PROC_NOOP;
}

/*
 * In a file that was closed before, the iterator's previous ends at the first leaf (1.0.25). So all
 * entries are collected going forward.
 */
static uint64_t backward(struct db *db, const void *from, uint32_t from_len, uint64_t max,
			 struct bench_scan *s)
{
	struct copies c = { .entry = BENCH_KEY_LEN + s->val_len };
	uint64_t nr = 0;
	size_t i;

	forward(db, NULL, 0, UINT64_MAX, collect, &c);
	for (i = c.nr; i-- && nr < max;) {
		const char *key = c.bytes + i * c.entry;

		if (from && memcmp(key, from, from_len) > 0)
			continue;
		bench_visit(s, key, BENCH_KEY_LEN, key + BENCH_KEY_LEN, s->val_len);
		nr++;
	}
	free(c.bytes);
	return nr;
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	if (s->reverse)
		return backward(ctx, from, from_len, max, s);
	return forward(ctx, from, from_len, max, visit, s);
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	struct db *db = ctx;

	check(tkrzw_dbm_increment(db->dbm, key, (int32_t)key_len, 1, 0) != INT64_MIN, "increment");
	if (db->synced)
		d_sync(db);
}

/* The engine keeps the bytes of a counter in big-endian order. */
static uint64_t counter_get(void *ctx, const void *key, uint32_t key_len)
{
	uint64_t count;

	if (get(ctx, key, key_len, &count, sizeof(count)) != sizeof(count))
		bench_die("tkrzw: the counter has gone");
	return __builtin_bswap64(count);
}

const struct bench_ops bench_tkrzw = {
	.name = "tkrzw",
	.config = "TreeDBM, parallel mmap (tight memory: pread), reverse scans "
		  "collected forward, pages of 8130 bytes, cache as pages, "
		  "400 k buckets; synced: PAGE_UPDATE_WRITE and a hard synchronize per commit",
	.loses_on_kill = true,
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
	.counter_get = counter_get,
	.sync = d_sync,
};
