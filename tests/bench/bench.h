/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.h - what the files of kvbench share: the table that an engine's driver fills, the table of
 * workloads, the measured result, and the generator of keys and values.
 *
 * Decisions:
 *  - One run = one engine, one workload, one child process: its memory and CPU time are its own.
 *  - Drivers do not return errors: whatever fails ends the child with a message (bench_die), and
 *    kvbench with it. A figure from a run that met an error would mean nothing.
 *  - Keys are 16 bytes, values incompressible and computed from the key's number, so that every
 *  value
 *    that is read can be verified without keeping a copy.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_KEY_LEN 16
#define BENCH_VALUE_MAX 4096
#define BENCH_BATCH_MAX 1000
#define BENCH_THREADS_MAX 8
/* Entries of the precomputed tables of random key numbers; a power of two. */
#define BENCH_PICKS (1u << 20)

/* ---- engines --------------------------------------------------------------------------------- */

struct bench_pair {
	const void *key, *val;
	uint32_t key_len, val_len;
};

struct bench_opts {
	bool synced; /* each commit survives a power cut; else each survives kill -9 */
	size_t cache_bytes;
	size_t map_bytes; /* address space for engines that map their file */
	uint32_t val_len; /* typical value, for engines that want to know */
};

struct bench_scan;

/*
 * A driver. open makes the store when there is none. A ctx belongs to one thread; db may be shared.
 * get copies the value out and returns its length, or -1 when there is no such key. scan starts at
 * the first key >= from (reverse: last <= from), at the first (last) when from is NULL, gives at
 * most max entries to bench_visit() and returns their number.
 */
struct bench_ops {
	const char *name;
	const char *config; /* one line for the reader of the figures */
	const char *(*version)(void);
	void *(*open)(const char *dir, const struct bench_opts *opts);
	void (*close)(void *db);
	void *(*ctx_open)(void *db);
	void (*ctx_close)(void *ctx);
	void (*put)(void *ctx, const struct bench_pair *pair); /* one commit */
	void (*put_batch)(void *ctx, const struct bench_pair *pairs, unsigned int nr); /* one commit */
	int64_t (*get)(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap);
	uint64_t (*scan)(void *ctx, const void *from, uint32_t from_len, uint64_t max,
			 struct bench_scan *scan);
	/* A counter: set to 0, add 1 atomically (one commit), read. */
	void (*counter_zero)(void *ctx, const void *key, uint32_t key_len);
	void (*counter_inc)(void *ctx, const void *key, uint32_t key_len);
	uint64_t (*counter_get)(void *ctx, const void *key, uint32_t key_len);
	void (*sync)(void *db);		 /* all of it survives a power cut */
	uint64_t (*syncs)(void *db);	 /* NULL: calls of fsync, fdatasync and msync are counted */
};

extern const struct bench_ops bench_kvs, bench_lmdb, bench_rocksdb, bench_sqlite;

/* ---- keys and values (gen.c) ----------------------------------------------------------------- */

struct bench_rng {
	uint64_t state;
};

static inline uint64_t bench_random(struct bench_rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* The last 8 bytes of a value; the first 8 are its key's number. */
static inline uint64_t bench_tail(uint64_t id, uint64_t salt)
{
	return ((id + 1) * 0xd6e8feb86659fd93ull) ^ (salt * 0xff51afd7ed558ccdull) ^ 0x5bd1e995ull;
}

/* Key of number id: 16 hexadecimal digits; hashed: in no relation to the order of numbers. */
void bench_key(void *key, uint64_t id, bool hashed);
/* len >= 16. salt tells apart the values that a key has had. */
void bench_value(void *val, uint32_t len, uint64_t id, uint64_t salt);
bool bench_value_ok(const void *val, uint32_t len, uint64_t id, uint64_t salt);
/* picks.c: BENCH_PICKS random numbers below nr. NULL when memory is short. */
uint32_t *bench_picks_uniform(uint64_t nr);
/* Zipf with theta 0.99, as YCSB draws it, the popular ones spread over all numbers. */
uint32_t *bench_picks_zipf(uint64_t nr);

/* State of one scan: every entry is checked for length, order, head and tail word. */
struct bench_scan {
	uint32_t val_len;
	bool reverse;
	uint64_t nr, bad, id_sum, first_id;
	uint64_t hi, lo; /* previous key */
};

static inline void bench_visit(struct bench_scan *s, const void *key, size_t key_len,
			       const void *val, size_t val_len)
{
	uint64_t hi, lo, id, tail;
	bool after;

	if (key_len != BENCH_KEY_LEN || val_len != s->val_len) {
		s->bad++;
		return;
	}
	memcpy(&hi, key, 8);
	memcpy(&lo, (const char *)key + 8, 8);
	hi = __builtin_bswap64(hi);
	lo = __builtin_bswap64(lo);
	memcpy(&id, val, 8);
	memcpy(&tail, (const char *)val + val_len - 8, 8);
	after = hi > s->hi || (hi == s->hi && lo > s->lo);
	s->bad += (tail != bench_tail(id, 0)) | (s->nr && after == s->reverse);
	if (!s->nr)
		s->first_id = id;
	s->hi = hi;
	s->lo = lo;
	s->id_sum += id;
	s->nr++;
}

/* ---- latencies (hist.c) ---------------------------------------------------------------------- */

#define BENCH_HIST_SUB 64
#define BENCH_HIST_SLOTS (BENCH_HIST_SUB * 40)

/* Log-linear: 64 slots per power of two, so a percentile is exact to 1.6 %. Nanoseconds. */
struct bench_hist {
	uint64_t nr, max;
	uint64_t slots[BENCH_HIST_SLOTS];
};

void bench_hist_add(struct bench_hist *h, uint64_t ns);
void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from);
/* 0 when empty; share in 0..1 */
double bench_hist_us(const struct bench_hist *h, double share);

/* ---- the process and its files (probe.c) ----------------------------------------------------- */

uint64_t bench_now_ns(void);
double bench_cpu_seconds(void); /* user and system time of this process */
/* Anonymous and shared memory in use; mapped files are not counted. */
uint64_t bench_private_bytes(void);
uint64_t bench_sync_calls(void);
/* Bytes allocated to the files in dir; with sync each is first written out. */
uint64_t bench_disk_bytes(const char *dir, bool sync);
void bench_remove_dir(const char *dir); /* files, then dir; no error when missing */
void bench_make_dir(const char *dir);
void bench_short_slice(void);
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- runs ------------------------------------------------------------------------------------ */

enum bench_metric {
	BENCH_OPS_PER_S,
	BENCH_CPU_US_PER_OP,
	BENCH_P50_US,
	BENCH_P99_US,
	BENCH_P999_US,
	BENCH_MAX_US,
	BENCH_OPS_PER_SYNC,
	BENCH_DISK_BYTES,
	BENCH_RSS_BYTES,
	BENCH_METRICS_NR
};

extern const char *const bench_metric_names[BENCH_METRICS_NR];

/* What the read workloads find in the store: loaded once per engine, kept for all rounds. */
enum bench_data { BENCH_DATA_NONE, BENCH_DATA_100, BENCH_DATA_1000, BENCH_DATA_NR };

struct bench_run;

struct bench_workload {
	const char *name;
	void (*fn)(struct bench_run *run);
	enum bench_data data;
	uint64_t entries; /* at scale 1 */
	uint32_t val_len;
	unsigned int batch, threads;
	bool hashed, zipf, reverse;
	double seconds; /* at scale 1; 0: as long as it takes */
	const char *what;
};

extern const struct bench_workload bench_workloads[];
extern const unsigned int bench_workloads_nr;
/* NULL: no such name */
const struct bench_workload *bench_workload_find(const char *name);

struct bench_run {
	const struct bench_ops *ops;
	const struct bench_workload *wl;
	struct bench_opts opts;
	uint64_t entries; /* scaled */
	double seconds;	  /* scaled */
	const uint32_t *picks;
	char dir[512];
	/* filled by the workload */
	uint64_t private_before; /* of the process without a store */
	double metrics[BENCH_METRICS_NR];
};

/* Counters at the start of the measured part, for bench_finish(). */
struct bench_mark {
	uint64_t ns, syncs;
	double cpu;
};

void bench_begin(struct bench_run *run, void *db, struct bench_mark *mark);
/* rate 0: ops by the time since the mark. Call before the store is closed. */
void bench_finish(struct bench_run *run, void *db, const struct bench_mark *mark, uint64_t ops,
		  double rate, const struct bench_hist *h);

/* workloads: wl_load.c, wl_timed.c, wl_open.c */
void bench_load(struct bench_run *run);
void bench_timed_get(struct bench_run *run);
void bench_timed_dput(struct bench_run *run);
void bench_timed_incr(struct bench_run *run);
void bench_timed_scan(struct bench_run *run);
void bench_full_scan(struct bench_run *run);
void bench_reopen(struct bench_run *run);
void bench_cold_get(struct bench_run *run);
/* Entries first .. first + nr - 1 through an open store, batches of 1000. */
void bench_fill(void *ctx, const struct bench_ops *ops, uint64_t first, uint64_t nr,
		uint32_t val_len, bool hashed);

/* ---- report (report.c) ----------------------------------------------------------------------- */

struct bench_table {
	const struct bench_ops **engines;
	const struct bench_workload **workloads;
	unsigned int engines_nr, workloads_nr, rounds;
	double *values; /* [workload][engine][metric][round] */
};

double *bench_cell(const struct bench_table *t, unsigned int workload, unsigned int engine,
		   unsigned int metric);
/* 0 or -1 with errno */
int bench_write_csv(const struct bench_table *t, const char *path);
void bench_print_markdown(const struct bench_table *t);

#endif
