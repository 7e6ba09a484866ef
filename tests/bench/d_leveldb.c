/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_leveldb.c - kvbench's driver of LevelDB, through its C API.
 *
 * The log is always written by each commit: without sync it survives kill -9. There is no atomic add.
 */
#include <leveldb/c.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define MEMTABLE_BYTES (64u << 20)
#define TABLE_BYTES (8u << 20)
#define OPEN_FILES 2000
#define BLOOM_BITS_PER_KEY 10

struct db {
	leveldb_t *db;
	leveldb_options_t *options;
	leveldb_cache_t *cache;
	leveldb_filterpolicy_t *filter;
	leveldb_writeoptions_t *write, *write_synced;
	leveldb_readoptions_t *read;
};

static void check(char *err, const char *call)
{
	if (err)
		bench_die("leveldb: %s: %s", call, err);
}

static const char *version(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "%d.%d", leveldb_major_version(), leveldb_minor_version());
	return text;
}

static void set_options(struct db *db, const struct bench_opts *opts)
{
	leveldb_options_t *o = leveldb_options_create();

	db->options = o;
	db->cache = leveldb_cache_create_lru(opts->cache_bytes);
	db->filter = leveldb_filterpolicy_create_bloom(BLOOM_BITS_PER_KEY);
	leveldb_options_set_create_if_missing(o, 1);
	leveldb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
	leveldb_options_set_max_file_size(o, TABLE_BYTES);
	leveldb_options_set_max_open_files(o, OPEN_FILES);
	leveldb_options_set_compression(o, leveldb_snappy_compression);
	leveldb_options_set_cache(o, db->cache);
	leveldb_options_set_filter_policy(o, db->filter);
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	struct db *db = calloc(1, sizeof(*db));
	char *err = NULL;

	if (!db)
		bench_die("leveldb: out of memory");
	set_options(db, opts);
	db->db = leveldb_open(db->options, dir, &err);
	check(err, "leveldb_open");
	db->write = leveldb_writeoptions_create();
	leveldb_writeoptions_set_sync(db->write, opts->synced);
	db->write_synced = leveldb_writeoptions_create();
	leveldb_writeoptions_set_sync(db->write_synced, 1);
	db->read = leveldb_readoptions_create();
	return db;
}

static void d_close(void *p)
{
	struct db *db = p;

	leveldb_readoptions_destroy(db->read);
	leveldb_writeoptions_destroy(db->write);
	leveldb_writeoptions_destroy(db->write_synced);
	leveldb_close(db->db);
	leveldb_options_destroy(db->options);
	leveldb_cache_destroy(db->cache);
	leveldb_filterpolicy_destroy(db->filter);
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

static void put(void *ctx, const struct bench_pair *p)
{
	struct db *db = ctx;
	char *err = NULL;

	leveldb_put(db->db, db->write, p->key, p->key_len, p->val, p->val_len, &err);
	check(err, "leveldb_put");
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	leveldb_writebatch_t *batch = leveldb_writebatch_create();
	struct db *db = ctx;
	char *err = NULL;
	unsigned int i;

	for (i = 0; i < nr; i++)
		leveldb_writebatch_put(batch, p[i].key, p[i].key_len, p[i].val, p[i].val_len);
	leveldb_write(db->db, db->write, batch, &err);
	check(err, "leveldb_write");
	leveldb_writebatch_destroy(batch);
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	struct db *db = ctx;
	char *err = NULL, *val;
	size_t len;

	val = leveldb_get(db->db, db->read, key, key_len, &len, &err);
	check(err, "leveldb_get");
	if (!val)
		return -1;
	memcpy(buf, val, len < cap ? len : cap);
	leveldb_free(val);
	return (int64_t)len;
}

static void position(leveldb_iterator_t *it, const void *from, uint32_t from_len, bool reverse)
{
	const char *key;
	size_t len;

	if (!from && reverse) {
		leveldb_iter_seek_to_last(it);
	} else if (!from) {
		leveldb_iter_seek_to_first(it);
	} else {
		leveldb_iter_seek(it, from, from_len);
		if (!reverse)
			return;
		/* There is no seek to the last key <= from. */
		if (!leveldb_iter_valid(it)) {
			leveldb_iter_seek_to_last(it);
			return;
		}
		key = leveldb_iter_key(it, &len);
		if (len != from_len || memcmp(key, from, len))
			leveldb_iter_prev(it);
	}
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	void (*step)(leveldb_iterator_t *it) = s->reverse ? leveldb_iter_prev : leveldb_iter_next;
	struct db *db = ctx;
	leveldb_iterator_t *it = leveldb_create_iterator(db->db, db->read);
	size_t key_len, val_len;
	const char *key, *val;
	char *err = NULL;
	uint64_t nr = 0;

	for (position(it, from, from_len, s->reverse); leveldb_iter_valid(it); step(it)) {
		key = leveldb_iter_key(it, &key_len);
		val = leveldb_iter_value(it, &val_len);
		bench_visit(s, key, key_len, val, val_len);
		if (++nr == max)
			break;
	}
	leveldb_iter_get_error(it, &err);
	check(err, "leveldb_iter_next");
	leveldb_iter_destroy(it);
	return nr;
}

/* A synced commit takes all before it along: the removal of a key that is not there. */
static void d_sync(void *p)
{
	struct db *db = p;
	char *err = NULL;

	leveldb_delete(db->db, db->write_synced, "~", 1, &err);
	check(err, "leveldb_delete");
}

const struct bench_ops bench_leveldb = {
	.name = "leveldb",
	.config = "memtable 64 MiB, files of 8 MiB, LRU block cache, Bloom 10 bits, snappy",
	.version = version,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.get = get,
	.scan = scan,
	.sync = d_sync,
};
