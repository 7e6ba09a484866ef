/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * workload.c - the table of workloads, and what all of them do at both ends of the measured part.
 *
 * Names are fixed: they stand in CSV files that are compared over years.
 */
#include "bench.h"

const char *const bench_metric_names[BENCH_METRICS_NR] = {
	[BENCH_OPS_PER_S] = "ops_per_s",
	[BENCH_CPU_US_PER_OP] = "cpu_us_per_op",
	[BENCH_P50_US] = "p50_us",
	[BENCH_P99_US] = "p99_us",
	[BENCH_P999_US] = "p999_us",
	[BENCH_MAX_US] = "max_us",
	[BENCH_OPS_PER_SYNC] = "ops_per_sync",
	[BENCH_DISK_BYTES] = "disk_bytes",
	[BENCH_SPACE_AMP_PEAK] = "space_amp_peak",
	[BENCH_RSS_BYTES] = "rss_bytes",
	[BENCH_WRITE_AMP] = "write_amp",
	[BENCH_GET_P50_US] = "get_p50_us",
	[BENCH_GET_P99_US] = "get_p99_us",
	[BENCH_GET_P999_US] = "get_p999_us",
	[BENCH_GET_MAX_US] = "get_max_us",
	[BENCH_FIRST_PER_S] = "first_per_s",
	[BENCH_LAST_PER_S] = "last_per_s",
};

#define M 1000000
/* clang-format off */
#define LOAD(nr, len, per, h, text) \
	.fn = bench_load, .floor = bench_floor_load, .entries = nr, .val_len = len, .batch = per, \
	.hashed = h, .what = text
/* A cache of 1 GiB, and what an engine needs besides. */
#define GROW(bound, h, text) \
	.fn = bench_load, .floor = bound, .tight = true, .memory = (uint64_t)1044 << 20, \
	.entries = 100 * M, .val_len = 100, .batch = 1000, .hashed = h, .apart = true, .what = text
#define DPUT(len, per, th, sec, text) \
	.fn = bench_timed_dput, .floor = bench_floor_durable, .entries = M, .val_len = len, \
	.batch = per, .threads = th, .seconds = sec, .what = text
#define READ(f, th, bound, text) \
	.fn = f, .floor = bound, .data = BENCH_DATA_100, .entries = M, .val_len = 100, \
	.threads = th, .seconds = 1.2, .what = text
#define ON_1000 .data = BENCH_DATA_1000, .entries = 300000, .val_len = 1000
#define YCSB(rd, up, in, sc, th, how, text) \
	.fn = bench_ycsb, ON_1000, .changes = true, .threads = th, .seconds = 1.2, .pick = how, \
	.mix = { rd, up, in, sc }, .what = text
#define TIGHT(set, nr, len, th, text) TIGHT_BY(bench_tight_get, set, nr, len, th, text)
#define TIGHT_BY(f, set, nr, len, th, text) \
	.fn = f, .floor = bench_floor_device, .data = set, .tight = true, \
	.entries = nr, .val_len = len, .threads = th, .seconds = 1.8, .what = text
#define INCR(th, one, text) \
	.fn = bench_timed_incr, .entries = 100000, .val_len = 100, .threads = th, .same = one, \
	.seconds = 0.8, .what = text

const struct bench_workload bench_workloads[] = {
	{ "load-seq-100-b1", LOAD(M, 100, 1, false, "load, ascending keys, a commit per put") },
	{ "load-seq-100-b1000", LOAD(M, 100, 1000, false, "the same, a commit per 1000 puts") },
	{ "load-rand-100-b1", LOAD(M, 100, 1, true, "load, random keys, a commit per put") },
	{ "load-rand-100-b1000", LOAD(M, 100, 1000, true, "the same, a commit per 1000 puts") },
	{ "load-rand-1000-b1", LOAD(200000, 1000, 1, true, "load, values of 1000 bytes") },
	{ "load-rand-1000-b1000", LOAD(200000, 1000, 1000, true, "the same, 1000 puts a commit") },
	{ "load-rand-4096-b1", LOAD(100000, 4096, 1, true, "load, values of 4096 bytes") },
	{ "load-rand-4096-b1000", LOAD(100000, 4096, 1000, true, "the same, 1000 puts a commit") },
	{ "dput-100-1t", DPUT(100, 1, 1, 1.2, "durable puts, one thread") },
	{ "dput-100-8t", DPUT(100, 1, 8, 1.2, "durable puts, eight threads") },
	{ "dput-100-flight64", DPUT(100, 1, 1, 1.2, "one thread, 64 puts on their way"),
	  .flight = true },
	{ "dput-100-batch100", DPUT(100, 100, 1, 1.2, "durable commits of 100 puts") },
	{ "dput-1000-1t", DPUT(1000, 1, 1, 0.9, "durable puts, values of 1000 bytes") },
	{ "get-uniform-1t", READ(bench_timed_get, 1, bench_floor_get, "gets, uniform") },
	{ "get-uniform-2t", READ(bench_timed_get, 2, bench_floor_get, "gets, two threads") },
	{ "get-zipf-1t", READ(bench_timed_get, 1, bench_floor_get, "gets, Zipf 0.99"),
	  .pick = BENCH_ZIPF },
	{ "get-zipf-2t", READ(bench_timed_get, 2, bench_floor_get, "Zipf, two threads"),
	  .pick = BENCH_ZIPF },
	{ "get-1000-1t", .fn = bench_timed_get, .floor = bench_floor_get, ON_1000, .threads = 1,
	  .seconds = 1.2, .what = "gets, values of 1000 bytes" },
	{ "mget-32", READ(bench_timed_mget, 1, bench_floor_mget, "multi-gets of 32 keys, uniform") },
	{ "scan-fwd", READ(bench_full_scan, 1, bench_floor_scan, "all entries, ascending") },
	{ "scan-rev", READ(bench_full_scan, 1, bench_floor_scan, "all entries, descending"),
	  .reverse = true },
	{ "scan-100", READ(bench_timed_scan, 1, NULL, "100 entries from a random key") },
	{ "ycsb-a-1t", YCSB(50, 50, 0, 0, 1, BENCH_ZIPF, "half gets, half updates") },
	{ "ycsb-a-2t", YCSB(50, 50, 0, 0, 2, BENCH_ZIPF, "the same, two threads") },
	{ "ycsb-b-1t", YCSB(95, 5, 0, 0, 1, BENCH_ZIPF, "95 % gets, 5 % updates") },
	{ "ycsb-b-2t", YCSB(95, 5, 0, 0, 2, BENCH_ZIPF, "the same, two threads") },
	{ "ycsb-c-1t", YCSB(100, 0, 0, 0, 1, BENCH_ZIPF, "gets") },
	{ "ycsb-c-2t", YCSB(100, 0, 0, 0, 2, BENCH_ZIPF, "the same, two threads") },
	{ "ycsb-d-1t", YCSB(95, 0, 5, 0, 1, BENCH_LATEST, "95 % gets of the latest, 5 % inserts") },
	{ "ycsb-d-2t", YCSB(95, 0, 5, 0, 2, BENCH_LATEST, "the same, two threads") },
	{ "ycsb-e-1t", YCSB(0, 0, 5, 95, 1, BENCH_ZIPF, "95 % scans of 1 to 100, 5 % inserts") },
	{ "ycsb-e-2t", YCSB(0, 0, 5, 95, 2, BENCH_ZIPF, "the same, two threads") },
	{ "ycsb-f-1t", YCSB(50, 0, 0, 0, 1, BENCH_ZIPF, "half gets, half read-modify-writes") },
	{ "ycsb-f-2t", YCSB(50, 0, 0, 0, 2, BENCH_ZIPF, "the same, two threads") },
	{ "churn", .fn = bench_churn, ON_1000, .changes = true, .times = 5, .seconds = 15,
	  .what = "each entry overwritten five times" },
	{ "ltm-get-1t", TIGHT(BENCH_DATA_TIGHT_1000, M, 1000, 1, "gets, 1 GB in 256 MiB of memory") },
	{ "ltm-get-8t", TIGHT(BENCH_DATA_TIGHT_1000, M, 1000, 8, "the same, eight threads") },
	{ "ltm-mget-32", TIGHT_BY(bench_tight_mget, BENCH_DATA_TIGHT_1000, M, 1000, 1,
				  "multi-gets of 32 keys, one thread") },
	{ "ltm-get-100", TIGHT(BENCH_DATA_TIGHT_100, 9 * M, 100, 1, "1 GB of values of 100 bytes"),
	  .in_order = true },
	{ "reopen", .fn = bench_reopen, .entries = M, .val_len = 100,
	  .what = "open and one get after kill -9" },
	{ "incr-1t", INCR(1, true, "increments of one counter") },
	{ "incr-2t-same", INCR(2, true, "the same counter, two threads") },
	{ "incr-2t-diff", INCR(2, false, "two threads, a counter each") },
	{ "cold-get", READ(bench_cold_get, 1, NULL, "new process: open, one get, exit") },
	{ "overwrite-uniform", .fn = bench_churn, ON_1000, .changes = true, .times = 10, .apart = true,
	  .what = "each entry overwritten ten times" },
	{ "overwrite-zipf", .fn = bench_churn, ON_1000, .changes = true, .times = 10, .apart = true,
	  .pick = BENCH_ZIPF, .what = "as many overwrites by Zipf 0.99" },
	{ "grow-seq-100", GROW(bench_floor_load, false, "load, ascending keys, 12 GB in 1 GiB of memory") },
	{ "grow-rand-100", GROW(bench_floor_update, true, "the same, random keys") },
};
/* clang-format on */

const unsigned int bench_workloads_nr = sizeof(bench_workloads) / sizeof(bench_workloads[0]);

const struct bench_workload *bench_workload_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < bench_workloads_nr; i++)
		if (!strcmp(bench_workloads[i].name, name))
			return &bench_workloads[i];
	return NULL;
}

#define ENTRIES_MIN 1000
/* Of the cgroup: full scale, and the least with which every engine opens. */
#define MEMORY_BYTES ((uint64_t)256 << 20)
#define MEMORY_MIN ((uint64_t)64 << 20)

uint64_t bench_entries(const struct bench_workload *wl, double scale)
{
	uint64_t n = (uint64_t)((double)wl->entries * scale);

	return n < ENTRIES_MIN ? ENTRIES_MIN : n;
}

double bench_seconds(const struct bench_workload *wl, double scale)
{
	return wl->seconds * scale;
}

/* As much smaller than the data as at full scale. */
uint64_t bench_memory(const struct bench_workload *wl, double scale)
{
	uint64_t most = wl->memory ? wl->memory : MEMORY_BYTES;
	uint64_t bytes = (uint64_t)((double)most * scale);

	if (!wl->tight)
		return 0;
	if (bytes > most)
		return most;
	return bytes < MEMORY_MIN ? MEMORY_MIN : bytes;
}

static uint64_t syncs(const struct bench_run *run, void *db)
{
	if (!run->ops->syncs)
		return bench_sync_calls();
	return db ? run->ops->syncs(db) : 0;
}

void bench_begin(struct bench_run *run, void *db, struct bench_mark *mark)
{
	mark->syncs = syncs(run, db);
	mark->cpu = bench_cpu_seconds();
	mark->ns = bench_now_ns();
}

void bench_latencies(double *metrics, const struct bench_hist *h)
{
	metrics[0] = bench_hist_us(h, 0.5);
	metrics[1] = bench_hist_us(h, 0.99);
	metrics[2] = bench_hist_us(h, 0.999);
	metrics[3] = (double)h->max / 1000;
}

void bench_finish(struct bench_run *run, void *db, const struct bench_mark *mark, uint64_t ops,
		  double rate, const struct bench_hist *h)
{
	uint64_t ns = bench_now_ns() - mark->ns, private_now = bench_private_bytes();
	double cpu = bench_cpu_seconds() - mark->cpu, *m = run->metrics;
	uint64_t syncs_nr = syncs(run, db) - mark->syncs;

	m[BENCH_OPS_PER_S] = rate > 0 ? rate : (double)ops * 1e9 / (double)ns;
	m[BENCH_CPU_US_PER_OP] = cpu * 1e6 / (double)ops;
	bench_latencies(m + BENCH_P50_US, h);
	m[BENCH_OPS_PER_SYNC] = syncs_nr ? (double)ops / (double)syncs_nr : 0;
	m[BENCH_DISK_BYTES] = (double)bench_disk_bytes(run->dir, false);
	m[BENCH_RSS_BYTES] = private_now > run->private_before ?
				     (double)(private_now - run->private_before) : 0;
}
