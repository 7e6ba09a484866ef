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
	[BENCH_RSS_BYTES] = "rss_bytes",
};

#define M 1000000
/* clang-format off */
#define LOAD(nr, len, per, h, text) \
	.fn = bench_load, .entries = nr, .val_len = len, .batch = per, .hashed = h, .what = text
#define DPUT(len, per, th, sec, text) \
	.fn = bench_timed_dput, .entries = M, .val_len = len, .batch = per, .threads = th, \
	.seconds = sec, .what = text
#define READ(f, set, nr, len, th, text) \
	.fn = f, .data = set, .entries = nr, .val_len = len, .threads = th, .seconds = 1.2, \
	.what = text

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
	{ "dput-100-batch100", DPUT(100, 100, 1, 1.2, "durable commits of 100 puts") },
	{ "dput-1000-1t", DPUT(1000, 1, 1, 0.9, "durable puts, values of 1000 bytes") },
	{ "get-uniform-1t", READ(bench_timed_get, BENCH_DATA_100, M, 100, 1, "gets, uniform") },
	{ "get-uniform-2t", READ(bench_timed_get, BENCH_DATA_100, M, 100, 2, "gets, two threads") },
	{ "get-zipf-1t", READ(bench_timed_get, BENCH_DATA_100, M, 100, 1, "gets, Zipf 0.99"),
	  .zipf = true },
	{ "get-zipf-2t", READ(bench_timed_get, BENCH_DATA_100, M, 100, 2, "Zipf, two threads"),
	  .zipf = true },
	{ "get-1000-1t", READ(bench_timed_get, BENCH_DATA_1000, 300000, 1000, 1,
			      "gets, values of 1000 bytes") },
	{ "scan-fwd", READ(bench_full_scan, BENCH_DATA_100, M, 100, 1, "all entries, ascending") },
	{ "scan-rev", READ(bench_full_scan, BENCH_DATA_100, M, 100, 1, "all entries, descending"),
	  .reverse = true },
	{ "scan-100", READ(bench_timed_scan, BENCH_DATA_100, M, 100, 1,
			   "100 entries from a random key") },
	{ "reopen", .fn = bench_reopen, .entries = M, .val_len = 100,
	  .what = "open and one get after kill -9" },
	{ "cold-get", READ(bench_cold_get, BENCH_DATA_100, M, 100, 1,
			   "new process: open, one get, exit") },
	{ "incr-1t", .fn = bench_timed_incr, .entries = 100000, .val_len = 100, .threads = 1,
	  .seconds = 0.8, .what = "increments of one counter" },
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

void bench_finish(struct bench_run *run, void *db, const struct bench_mark *mark, uint64_t ops,
		  double rate, const struct bench_hist *h)
{
	uint64_t ns = bench_now_ns() - mark->ns, private_now = bench_private_bytes();
	double cpu = bench_cpu_seconds() - mark->cpu, *m = run->metrics;
	uint64_t syncs_nr = syncs(run, db) - mark->syncs;

	m[BENCH_OPS_PER_S] = rate > 0 ? rate : (double)ops * 1e9 / (double)ns;
	m[BENCH_CPU_US_PER_OP] = cpu * 1e6 / (double)ops;
	m[BENCH_P50_US] = bench_hist_us(h, 0.5);
	m[BENCH_P99_US] = bench_hist_us(h, 0.99);
	m[BENCH_P999_US] = bench_hist_us(h, 0.999);
	m[BENCH_MAX_US] = (double)h->max / 1000;
	m[BENCH_OPS_PER_SYNC] = syncs_nr ? (double)ops / (double)syncs_nr : 0;
	m[BENCH_DISK_BYTES] = (double)bench_disk_bytes(run->dir, false);
	m[BENCH_RSS_BYTES] = private_now > run->private_before ?
				     (double)(private_now - run->private_before) : 0;
}
