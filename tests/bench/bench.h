/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.h - what the files of kvbench share: the table that an engine's driver fills, the table of
 * workloads, the measured result, and the generator of keys and values.
 *
 * Decisions:
 *  - One run = one engine, one workload, one child process: its memory and CPU time are its own.
 *  - Drivers do not return errors: whatever fails ends the child with a message (bench_die), and
 *    kvbench with it. A figure from a run that met an error would mean nothing.
 *  - Keys are 16 bytes, values incompressible and computed from the key's number and a salt, so that
 *    every value that is read can be verified without keeping a copy. The salt can be computed back
 *    from a value: of a value that another thread may have changed, all but its age is verified.
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
#define BENCH_MGET_MAX 32
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
	uint32_t page_bytes; /* of kvs; 0: its default */
	uint32_t val_len; /* typical value, for engines that want to know */
	/* The store is larger than the memory there is, and read at random. */
	bool tight;
};

struct bench_scan;

#define BENCH_FLIGHT 64 /* commits on their way, at most */

/*
 * A driver. open makes the store when there is none. A ctx belongs to one thread; db may be shared.
 * get copies the value out and returns its length, or -1 when there is no such key. scan starts at
 * the first key >= from (reverse: last <= from), at the first (last) when from is NULL, gives at
 * most max entries to bench_visit() and returns their number.
 */
struct bench_ops {
	const char *name;
	const char *config; /* one line for the reader of the figures */
	/* What is not synced is lost by kill -9: such an engine is never the best peer. */
	bool loses_on_kill;
	bool apart; /* measured only when it is named */
	bool reads_direct; /* past the page cache: its own cache is all it has */
	const char *(*version)(void);
	/* Once in a process, before any open is measured; all but cold-get profits. May be NULL. */
	void (*prepare)(void);
	void *(*open)(const char *dir, const struct bench_opts *opts);
	void (*close)(void *db);
	void *(*ctx_open)(void *db);
	void (*ctx_close)(void *ctx);
	void (*put)(void *ctx, const struct bench_pair *pair); /* one commit */
	void (*put_batch)(void *ctx, const struct bench_pair *pairs, unsigned int nr); /* one commit */
	/*
	 * One commit; returns when the one BENCH_FLIGHT calls before is durable. ctx_close waits for the last
	 * ones. NULL: the engine's best is put.
	 */
	void (*put_flight)(void *ctx, const struct bench_pair *pair);
	int64_t (*get)(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap);
	/*
	 * nr <= BENCH_MGET_MAX keys of BENCH_KEY_LEN, one after the other; lens[i] as get returns it,
	 * values at bufs + i * cap. NULL: the engine's best is a loop of gets.
	 */
	void (*mget)(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap,
		     int64_t *lens);
	uint64_t (*scan)(void *ctx, const void *from, uint32_t from_len, uint64_t max,
			 struct bench_scan *scan);
	/*
	 * A counter: add 1 atomically, in one commit. NULL: the engine's best is a get and a put under a
	 * lock of the application.
	 */
	void (*counter_inc)(void *ctx, const void *key, uint32_t key_len);
	/* Set to 0 and read; NULL: the counter is a uint64_t that put writes and get reads. */
	void (*counter_zero)(void *ctx, const void *key, uint32_t key_len);
	uint64_t (*counter_get)(void *ctx, const void *key, uint32_t key_len);
	void (*sync)(void *db);		 /* all of it survives a power cut */
	uint64_t (*syncs)(void *db);	 /* NULL: calls of fsync, fdatasync and msync are counted */
};

extern const struct bench_ops bench_kvs, bench_lmdb, bench_rocksdb, bench_leveldb, bench_bdb,
	bench_sqlite, bench_tkrzw, bench_wiredtiger, bench_rocksdb_blob, bench_broken;

/* A counter through whatever the driver offers (counter.c). */
void bench_counter_zero(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len);
void bench_counter_inc(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len);
uint64_t bench_counter_get(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len);

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

/* The salt of a value by its last word; any number when the value is wrong. */
uint64_t bench_salt_of(const void *val, uint32_t len, uint64_t id);
/* A whole value that belongs to this hashed key, whatever its salt. */
bool bench_entry_ok(const void *key, const void *val, uint32_t len);

/* Key of number id: 16 hexadecimal digits; hashed: in no relation to the order of numbers. */
void bench_key(void *key, uint64_t id, bool hashed);
/* Hashed keys are in the order of these. */
uint64_t bench_key_order(uint64_t id);
/* len >= 16. salt tells apart the values that a key has had. */
void bench_value(void *val, uint32_t len, uint64_t id, uint64_t salt);
bool bench_value_ok(const void *val, uint32_t len, uint64_t id, uint64_t salt);
/* picks.c: BENCH_PICKS random numbers below nr. NULL when memory is short. */
uint32_t *bench_picks_uniform(uint64_t nr);
/*
 * Zipf with theta 0.99, as YCSB draws it; spread: the popular ones over all numbers, else the small
 * numbers are the popular ones.
 */
uint32_t *bench_picks_zipf(uint64_t nr, bool spread);

/* State of one scan: every entry is checked for length, order, head and tail word. */
struct bench_scan {
	uint32_t val_len;
	bool reverse;
	/* [id]: the salt of each value; NULL: 0. Not read for ids >= salts_nr, whose salt is 0. */
	const uint32_t *salts;
	uint64_t salts_nr;
	/* Any salt will do: values that several threads have written. */
	bool any_salt;
	/* Verify hashed keys and values in full. */
	bool whole;
	uint64_t nr, bad, id_sum, first_id;
	uint64_t hi, lo; /* previous key */
};

static inline void bench_visit(struct bench_scan *s, const void *key, size_t key_len,
			       const void *val, size_t val_len)
{
	uint64_t hi, lo, id, tail, salt = 0;
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
	if (s->salts && id < s->salts_nr)
		salt = s->salts[id];
	s->bad += (tail != bench_tail(id, salt) && !s->any_salt) || (s->nr && after == s->reverse) ||
		  (s->whole && !bench_entry_ok(key, val, (uint32_t)val_len));
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
void bench_hist_sub(struct bench_hist *h, uint64_t ns); /* takes one out that was added; max stays */
void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from);
uint64_t bench_hist_above(const struct bench_hist *h, uint64_t ns); /* how many took longer */
/* 0 when empty; share in 0..1 */
double bench_hist_us(const struct bench_hist *h, double share);

/* ---- the process and its files (probe.c) ----------------------------------------------------- */

uint64_t bench_now_ns(void);
double bench_cpu_seconds(void); /* user and system time of this process */
/* Anonymous and shared memory in use; mapped files are not counted. */
uint64_t bench_private_bytes(void);
/*
 * See to it that so much of the free memory is really there. A virtual machine may have given it back to
 * its host (free page reporting); it returns page by page, at many times the price of a page fault, and
 * whichever run comes first would pay for those after it.
 */
void bench_memory_ready(uint64_t bytes);
uint64_t bench_sync_calls(void);
uint64_t bench_written_bytes(void); /* to files, by this process: what reached the medium, or will */
/* Every mapping of a file from now on is advised that it is read at random. */
void bench_advise_random(void);
/* Bytes allocated to the files in dir, 0 if there is none; with sync each is first written out. */
uint64_t bench_disk_bytes(const char *dir, bool sync);
void bench_remove_dir(const char *dir); /* files, then dir; no error when missing */
void bench_make_dir(const char *dir);
/* A synced copy of the files in from, holes kept, in a new directory. */
void bench_copy_dir(const char *from, const char *to);
/* What the page cache holds of the files in dir is written out and forgotten. */
void bench_drop_cache(const char *dir);
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
	BENCH_SPACE_AMP_PEAK, /* filled by run.c, which watches the files */
	BENCH_RSS_BYTES,
	/* Those from here on are of some workloads alone; 0 elsewhere. */
	BENCH_WRITE_AMP,
	BENCH_GET_P50_US,
	BENCH_GET_P99_US,
	BENCH_GET_P999_US,
	BENCH_GET_MAX_US,
	BENCH_FIRST_PER_S, /* of the first and the last twentieth of a load */
	BENCH_LAST_PER_S,
	BENCH_METRICS_NR
};
#define BENCH_METRICS_ALWAYS BENCH_WRITE_AMP

extern const char *const bench_metric_names[BENCH_METRICS_NR];

/* What workloads find in the store: loaded once per engine, kept as long as a workload needs it. */
enum bench_data {
	BENCH_DATA_NONE,
	BENCH_DATA_100,
	BENCH_DATA_1000,
	BENCH_DATA_TIGHT_1000,
	BENCH_DATA_TIGHT_100,
	BENCH_DATA_NR
};

enum bench_pick { BENCH_UNIFORM, BENCH_ZIPF, BENCH_LATEST };

/* Percent of operations; what is missing of 100 are read-modify-writes. */
struct bench_mix {
	uint8_t read, update, insert, scan;
};

struct bench_run;

struct bench_workload {
	const char *name;
	void (*fn)(struct bench_run *run);
	/* A bound without any engine: it sets ops_per_s alone, to 0 when it cannot be measured. */
	void (*floor)(struct bench_run *run);
	enum bench_data data;
	bool changes; /* works on a copy of the data */
	bool tight;   /* in a memory cgroup smaller than the data */
	uint64_t memory; /* that cgroup's limit at scale 1; 0: 256 MiB */
	uint64_t entries; /* at scale 1 */
	uint32_t val_len;
	unsigned int batch, threads;
	bool hashed, reverse, same;
	bool flight;   /* commits are waited for BENCH_FLIGHT later */
	bool in_order; /* the data set is loaded in the order of its keys */
	bool apart;    /* run only when it is named */
	unsigned int times; /* that all is overwritten */
	enum bench_pick pick;
	struct bench_mix mix;
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
	uint64_t memory_bytes; /* limit of the memory cgroup; 0: none */
	const uint32_t *picks;
	char dir[512];
	char data_dir[512]; /* is copied to dir first; empty: no */
	/* filled by the workload */
	uint64_t private_before; /* of the process without a store */
	uint64_t live_bytes;	 /* keys and values at the end; 0: all entries */
	double metrics[BENCH_METRICS_NR];
};

/* Counters at the start of the measured part, for bench_finish(). */
struct bench_mark {
	uint64_t ns, syncs;
	double cpu;
};

void bench_begin(struct bench_run *run, void *db, struct bench_mark *mark);
/* rate 0: ops by the time since the mark. Call before the store is closed. */
void bench_latencies(double *metrics, const struct bench_hist *h); /* four of them */
void bench_finish(struct bench_run *run, void *db, const struct bench_mark *mark, uint64_t ops,
		  double rate, const struct bench_hist *h);

/* ---- threads that repeat one operation for a time (workers.c) ---------------------------------- */

struct bench_worker {
	struct bench_run *run;
	void *db, *ctx;
	unsigned int id;
	uint64_t (*op)(struct bench_worker *w); /* returns operations done */
	unsigned int sample;			/* one in so many is timed */
	uint32_t pick;
	struct bench_rng rng;
	uint64_t ops, writes;
	double seconds;
	char buf[BENCH_VALUE_MAX];
	struct bench_hist hist;
};

/*
 * Runs op on so many threads for so many seconds and finishes the run with what they did. The caller
 * frees the array. Called twice in a run, the second call's figures stand.
 */
struct bench_worker *bench_work(struct bench_run *run, void *db,
				uint64_t (*op)(struct bench_worker *w), unsigned int sample,
				unsigned int threads, double seconds);
/* The next number of the run's table. */
uint64_t bench_next_pick(struct bench_worker *w);
/* So many zeros, touched, so that they do not count as the engine's memory. free() them. */
uint32_t *bench_zeros(uint64_t nr);
/* One verified get of a loaded value. */
void bench_get_one(struct bench_run *run, void *ctx, uint64_t id, char *buf);
/* Opens the kept data set, reads all of it once and a part of it at random, and pauses. */
void *bench_open_warm(struct bench_run *run);
/* All entries as they were loaded, or the run dies. */
void bench_scan_all(struct bench_run *run, void *ctx, bool reverse);

/* ---- workloads: wl_*.c ------------------------------------------------------------------------- */

void bench_load(struct bench_run *run);
void bench_timed_get(struct bench_run *run);
void bench_timed_dput(struct bench_run *run);
void bench_timed_incr(struct bench_run *run);
void bench_timed_scan(struct bench_run *run);
void bench_full_scan(struct bench_run *run);
void bench_reopen(struct bench_run *run);
void bench_cold_get(struct bench_run *run);
void bench_timed_mget(struct bench_run *run);
uint64_t bench_op_mget(struct bench_worker *w);
void bench_ycsb(struct bench_run *run);
void bench_churn(struct bench_run *run);
void bench_tight_get(struct bench_run *run);
void bench_tight_mget(struct bench_run *run);
/* Entries first .. first + nr - 1 through an open store, hashed keys, batches of 1000. */
void bench_fill(void *ctx, const struct bench_ops *ops, uint64_t first, uint64_t nr, uint32_t val_len);
/* Entries 0 .. nr - 1 in the order of their keys. */
void bench_fill_in_order(void *ctx, const struct bench_ops *ops, uint64_t nr, uint32_t val_len);

/* ---- floors (floor.c): no store can be faster, on this machine, in this run -------------------- */

void bench_floor_load(struct bench_run *run);
void bench_floor_durable(struct bench_run *run);
void bench_floor_get(struct bench_run *run);
void bench_floor_mget(struct bench_run *run);
void bench_floor_scan(struct bench_run *run);
void bench_floor_device(struct bench_run *run);
void bench_floor_update(struct bench_run *run);

/* ---- one run in a process of its own (run.c) --------------------------------------------------- */

/* From now on a signal that ends kvbench ends the run, and bench_run_child() returns -1. */
void bench_catch_signals(void);
/* fn in a child; fills the metrics. 0, or -1 after a message. */
int bench_run_child(struct bench_run *run, void (*fn)(struct bench_run *run));

/* ---- memory cgroup (group.c) ------------------------------------------------------------------- */

/* Makes a group with that limit, of version 1 or 2, whichever is there. Its path in path, or -1. */
int bench_group_make(char *path, size_t size, uint64_t bytes);
void bench_group_enter(const char *path); /* this process, or it dies */
void bench_group_remove(const char *path);

/* ---- report (report.c, chart.c) ---------------------------------------------------------------- */

struct bench_table {
	const struct bench_ops **engines;
	const struct bench_workload **workloads;
	unsigned int engines_nr, workloads_nr, rounds;
	double scale;
	double *values; /* [workload][engine][metric][round] */
	double *floors; /* [workload][round]; 0: none */
};

double *bench_cell(const struct bench_table *t, unsigned int workload, unsigned int engine,
		   unsigned int metric);
double bench_median(const struct bench_table *t, unsigned int workload, unsigned int engine,
		    unsigned int metric);
double bench_floor_median(const struct bench_table *t, unsigned int workload);
/* Index of the best engine other than kvs that survives kill -9; -1 when none was measured. */
int bench_best_peer(const struct bench_table *t, unsigned int workload, enum bench_metric metric,
		    bool higher);
int bench_kvs_index(const struct bench_table *t);
/* Number of entries, seconds and memory limit at the table's scale. */
uint64_t bench_entries(const struct bench_workload *wl, double scale);
double bench_seconds(const struct bench_workload *wl, double scale);
uint64_t bench_memory(const struct bench_workload *wl, double scale);
/* 0 or -1 with errno */
int bench_write_csv(const struct bench_table *t, const char *path);
void bench_print_markdown(const struct bench_table *t);
/* Is gnuplot there? */
bool bench_can_draw(void);
/* Operations per second of all, as shares of the best peer's. 0 or -1 after a message. */
int bench_draw_svg(const struct bench_table *t, const char *path);

#endif
