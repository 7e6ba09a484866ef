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
#define TIGHT_SHARE 8 /* of the cache, for a memtable in tight memory */
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

#define LSM(name) leveldb_##name
#include "tests/bench/lsm.h"

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
	/* Opening fills one from the log. */
	leveldb_options_set_write_buffer_size(o, opts->tight ? opts->cache_bytes / TIGHT_SHARE :
									 MEMTABLE_BYTES);
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

/* There is no such seek. */
static void seek_back(iterator *it, const void *from, uint32_t from_len)
{
	const char *key;
	size_t len;

	leveldb_iter_seek(it, from, from_len);
	if (!leveldb_iter_valid(it)) {
		leveldb_iter_seek_to_last(it);
		return;
	}
	key = leveldb_iter_key(it, &len);
	if (len != from_len || memcmp(key, from, len))
		leveldb_iter_prev(it);
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
	.config = "memtable 64 MiB (tight memory: 1/8 of the cache), files of 8 MiB, "
		  "LRU block cache, Bloom 10 bits, snappy",
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
