/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_rocksdb.c - kvbench's driver of RocksDB, through its C API: leveled, and with blob files.
 *
 * The write-ahead log is always on: without sync it survives kill -9. RocksDB has no atomic add
 * without a merge operator of one's own; a lock of the application around a get and a put costs less
 * than its transactions.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <rocksdb/c.h>
#include <stdlib.h>

#include "bench.h"

#define MEMTABLE_BYTES (64u << 20)
#define TIGHT_SHARE 8 /* of the cache, for a memtable in tight memory */
#define BLOOM_BITS_PER_KEY 10
#define BLOB_BYTES_MIN 512
#define BLOB_DEAD_SHARE 0.25

struct db {
	rocksdb_t *db;
	rocksdb_writeoptions_t *write;
	rocksdb_readoptions_t *read;
};

#define LSM(name) rocksdb_##name
#include "tests/bench/lsm.h"

/* The C API does not tell; the name of the library's file does: librocksdb.so.7.8.3. */
static const char *version(void)
{
	static char path[PATH_MAX];
	char *number;
	Dl_info info;

	if (!dladdr((void *)rocksdb_open, &info) || !realpath(info.dli_fname, path))
		return "unknown";
	number = strstr(path, ".so.");
	return number ? number + 4 : "unknown";
}

static void set_table(rocksdb_options_t *o, size_t cache_bytes)
{
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	rocksdb_cache_t *cache = rocksdb_cache_create_lru(cache_bytes);

	rocksdb_block_based_options_set_filter_policy(
		table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
	rocksdb_block_based_options_set_block_cache(table, cache);
	rocksdb_block_based_options_set_format_version(table, 5);
	rocksdb_options_set_block_based_table_factory(o, table);
	rocksdb_cache_destroy(cache);
	rocksdb_block_based_options_destroy(table);
}

/* BlobDB: values in files of their own, collected as soon as a quarter of a file is dead. */
static void set_blobs(rocksdb_options_t *o)
{
	rocksdb_options_set_enable_blob_files(o, 1);
	rocksdb_options_set_min_blob_size(o, BLOB_BYTES_MIN);
	rocksdb_options_set_blob_compression_type(o, rocksdb_lz4_compression);
	rocksdb_options_set_enable_blob_gc(o, 1);
	rocksdb_options_set_blob_gc_age_cutoff(o, 1);
	rocksdb_options_set_blob_gc_force_threshold(o, BLOB_DEAD_SHARE);
}

static void *open_as(const char *dir, const struct bench_opts *opts, bool blobs)
{
	rocksdb_options_t *o = rocksdb_options_create();
	struct db *db = calloc(1, sizeof(*db));
	char *err = NULL;

	if (!db)
		bench_die("rocksdb: out of memory");
	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_increase_parallelism(o, 2);
	rocksdb_options_set_max_background_jobs(o, 2);
	/* Opening fills one from the log. */
	rocksdb_options_set_write_buffer_size(o, opts->tight ? opts->cache_bytes / TIGHT_SHARE :
									 MEMTABLE_BYTES);
	rocksdb_options_set_max_write_buffer_number(o, 3);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
	rocksdb_options_set_compression(o, rocksdb_lz4_compression);
	rocksdb_options_set_bytes_per_sync(o, 1 << 20);
	rocksdb_options_set_max_open_files(o, -1);
	rocksdb_options_set_keep_log_file_num(o, 2);
	set_table(o, opts->cache_bytes);
	if (blobs)
		set_blobs(o);
	db->db = rocksdb_open(o, dir, &err);
	check(err, "rocksdb_open");
	rocksdb_options_destroy(o);
	db->write = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(db->write, opts->synced);
	db->read = rocksdb_readoptions_create();
	return db;
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	return open_as(dir, opts, false);
}

static void *d_open_blob(const char *dir, const struct bench_opts *opts)
{
	return open_as(dir, opts, true);
}

static void d_close(void *p)
{
	struct db *db = p;

	rocksdb_readoptions_destroy(db->read);
	rocksdb_writeoptions_destroy(db->write);
	rocksdb_close(db->db);
	free(db);
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	rocksdb_pinnableslice_t *slice;
	struct db *db = ctx;
	char *err = NULL;
	const char *val;
	size_t len;

	slice = rocksdb_get_pinned(db->db, db->read, key, key_len, &err);
	check(err, "rocksdb_get_pinned");
	if (!slice)
		return -1;
	val = rocksdb_pinnableslice_value(slice, &len);
	memcpy(buf, val, len < cap ? len : cap);
	rocksdb_pinnableslice_destroy(slice);
	return (int64_t)len;
}

static void mget(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap, int64_t *lens)
{
	const char *key_list[BENCH_MGET_MAX] = { NULL };
	char *vals[BENCH_MGET_MAX], *errs[BENCH_MGET_MAX];
	size_t key_lens[BENCH_MGET_MAX] = { 0 }, val_lens[BENCH_MGET_MAX];
	struct db *db = ctx;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		key_list[i] = keys + (size_t)i * BENCH_KEY_LEN;
		key_lens[i] = BENCH_KEY_LEN;
	}
	rocksdb_multi_get(db->db, db->read, nr, key_list, key_lens, vals, val_lens, errs);
	for (i = 0; i < nr; i++) {
		check(errs[i], "rocksdb_multi_get");
		lens[i] = vals[i] ? (int64_t)val_lens[i] : -1;
		if (vals[i])
			memcpy(bufs + (size_t)i * cap, vals[i], val_lens[i] < cap ? val_lens[i] : cap);
		rocksdb_free(vals[i]);
	}
}

static void seek_back(iterator *it, const void *from, uint32_t from_len)
{
	rocksdb_iter_seek_for_prev(it, from, from_len);
}

static void d_sync(void *p)
{
	struct db *db = p;
	char *err = NULL;

	rocksdb_flush_wal(db->db, 1, &err);
	check(err, "rocksdb_flush_wal");
}

#define CONFIG \
	"WAL on, memtables 3 x 64 MiB (tight memory: 1/8 of the cache each), LRU block cache, " \
	"Bloom 10 bits, LZ4, dynamic levels, 2 background jobs"
/* clang-format off */
#define CALLS \
	.version = version, .close = d_close, .ctx_open = ctx_open, .ctx_close = ctx_close, .put = put, \
	.put_batch = put_batch, .get = get, .mget = mget, .scan = scan, .sync = d_sync
/* clang-format on */

const struct bench_ops bench_rocksdb = {
	.name = "rocksdb",
	.config = CONFIG,
	.open = d_open,
	CALLS,
};

const struct bench_ops bench_rocksdb_blob = {
	.name = "rocksdb-blob",
	.config = CONFIG ", values from 512 bytes on in blob files, collected when a quarter is dead",
	.apart = true,
	.open = d_open_blob,
	CALLS,
};
