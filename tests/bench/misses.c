/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * misses.c - what a get of a key costs that is not there, beside one that is; and what a Bloom filter in
 * front of the tree would make of both. Row S18.
 *
 *	misses IMAGE [ENTRIES [GETS]]
 *
 * For values of 100 bytes (in the leaves) and of 1000 bytes (in the log), for a cache that holds everything
 * and one of a tenth of the tree: CPU time, transfers and leaves of a get of a random key. The filter is a
 * plain array of 10 bits a key, 7 of them looked at; its memory is taken from the cache, where that is what
 * there is least of.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "bench.h"
#include "kvengine.h"

#define PROBES 7u
#define BITS_PER_KEY 10u
#define ROUNDS 3

static const char *path;
static uint64_t entries = 1000000, gets = 300000, filter_bits;
static uint8_t *filter;

static void must(int err, const char *what)
{
	if (err)
		bench_die("%s: %s: %s", what, kv_strerror(err), kv_last_error());
}

/* ---- the filter ---------------------------------------------------------------------------------- */

/* Are all its bits set? With add they are. */
static bool filter_look(const void *key, bool add)
{
	XXH128_hash_t h = XXH3_128bits(key, BENCH_KEY_LEN);
	uint64_t bit;
	uint32_t i;

	for (i = 0; i < PROBES; i++) {
		bit = (h.low64 + i * h.high64) % filter_bits;
		if (add)
			filter[bit / 8] |= (uint8_t)(1u << bit % 8);
		else if (!(filter[bit / 8] >> bit % 8 & 1))
			return false;
	}
	return true;
}

static void filter_make(void)
{
	char key[BENCH_KEY_LEN];
	uint64_t id;

	filter_bits = entries * BITS_PER_KEY;
	filter = calloc(1, filter_bits / 8 + 1);
	if (!filter)
		bench_die("out of memory");
	for (id = 0; id < entries; id++) {
		bench_key(key, id, true);
		filter_look(key, true);
	}
}

/* ---- gets ---------------------------------------------------------------------------------------- */

struct cost {
	double cpu_us, reads, misses;
};

/* Keys that are there have the numbers below entries; hashed, the others lie between them. */
static void get(kv_db *db, bool there, bool filtered, struct bench_rng *rnd, uint32_t len)
{
	uint64_t id = bench_random(rnd) % entries + (there ? 0 : entries);
	char key[BENCH_KEY_LEN], value[1000];
	size_t got;
	int err;

	bench_key(key, id, true);
	if (filtered && !filter_look(key, false)) {
		if (there)
			bench_die("the filter has lost a key");
		return;
	}
	err = kv_get_into(db, NULL, key, sizeof(key), value, sizeof(value), &got);
	if (!there && err == KV_E_NOTFOUND)
		return;
	must(err, "get");
	if (!there || got != len || !bench_value_ok(value, len, id, 0))
		bench_die("a wrong answer");
}

static struct cost measure(kv_db *db, bool there, bool filtered, uint32_t len)
{
	static uint64_t seed;
	struct bench_rng rnd = { ++seed };
	kv_stat_info before, after;
	struct cost c;
	double cpu;
	uint64_t i;

	must(kv_stat(db, &before), "stat");
	cpu = bench_cpu_seconds();
	for (i = 0; i < gets; i++)
		get(db, there, filtered, &rnd, len);
	cpu = bench_cpu_seconds() - cpu;
	must(kv_stat(db, &after), "stat");
	c.cpu_us = cpu * 1e6 / (double)gets;
	c.reads = (double)(after.device_reads - before.device_reads) / (double)gets;
	c.misses = (double)(after.cache_misses - before.cache_misses) / (double)gets;
	return c;
}

/* The cache holds what it can of all keys, and then what these gets leave in it. */
static void warm(kv_db *db, bool there, bool filtered, uint32_t len)
{
	char key[BENCH_KEY_LEN], value[1000];
	uint64_t id;
	size_t got;

	for (id = 0; id < entries; id++) {
		bench_key(key, id, true);
		must(kv_get_into(db, NULL, key, sizeof(key), value, sizeof(value), &got), "get");
	}
	measure(db, there, filtered, len);
}

static int by_cpu(const void *a, const void *b)
{
	const struct cost *x = a, *y = b;

	return (x->cpu_us > y->cpu_us) - (x->cpu_us < y->cpu_us);
}

static kv_db *volume_open(uint64_t cache)
{
	kv_options opt = KV_OPTIONS_INIT;
	kv_db *db;

	opt.flags = KV_OPEN_READONLY;
	opt.cache_bytes = cache;
	must(kv_open(path, &opt, &db), "open");
	return db;
}

static void table_rows(uint32_t len, const char *what, uint64_t cache)
{
	uint64_t left = cache - filter_bits / 8;
	struct cost c[ROUNDS];
	bool there, filtered;
	kv_db *db;
	int i, n;

	for (i = 0; i < 4; i++) {
		there = i % 2;
		filtered = i / 2;
		db = volume_open(filtered ? left : cache);
		warm(db, there, filtered, len);
		for (n = 0; n < ROUNDS; n++)
			c[n] = measure(db, there, filtered, len);
		qsort(c, ROUNDS, sizeof(c[0]), by_cpu);
		printf("| %u | %s, %.1f MB | %s | %s | %.2f | %.3f | %.3f |\n", len, what,
		       (double)(filtered ? left : cache) / 1e6, filtered ? "yes" : "no",
		       there ? "hit" : "miss", c[ROUNDS / 2].cpu_us, c[ROUNDS / 2].reads,
		       c[ROUNDS / 2].misses);
		fflush(stdout);
		must(kv_close(db), "close");
	}
}

static void values(uint32_t len)
{
	kv_options opt = KV_OPTIONS_INIT;
	char key[BENCH_KEY_LEN], value[1000];
	kv_stat_info st;
	uint64_t id;
	kv_db *db;

	if (unlink(path) && errno != ENOENT)
		bench_die("%s: %s", path, strerror(errno));
	opt.flags = KV_OPEN_CREATE;
	must(kv_open(path, &opt, &db), "open");
	for (id = 0; id < entries; id++) {
		bench_key(key, id, true);
		bench_value(value, len, id, 0);
		must(kv_put(db, NULL, key, sizeof(key), value, len, KV_MEMORY), "put");
	}
	must(kv_checkpoint(db), "checkpoint");
	must(kv_stat(db, &st), "stat");
	must(kv_close(db), "close");
	printf("\n%llu entries of %u bytes: a tree of %.1f MB, %.1f MB of separated values, a filter of "
	       "%.2f MB\n\n",
	       (unsigned long long)entries, len, (double)st.tree_bytes / 1e6, (double)st.live_bytes / 1e6,
	       (double)filter_bits / 8e6);
	printf("| bytes | cache | filter | get | CPU, us | transfers | pages and values missing |\n"
	       "|--:|---|---|---|--:|--:|--:|\n");
	table_rows(len, "all", 2 * (st.tree_bytes + st.live_bytes) + (64u << 20));
	table_rows(len, "1/10 of the tree", st.tree_bytes / 10);
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: misses IMAGE [ENTRIES [GETS]]\n");
		return 2;
	}
	path = argv[1];
	if (argc > 2)
		entries = strtoull(argv[2], NULL, 10);
	if (argc > 3)
		gets = strtoull(argv[3], NULL, 10);
	if (entries < 1000 || !gets)
		return 2;
	filter_make();
	values(100);
	values(1000);
	free(filter);
	unlink(path);
	return 0;
}
