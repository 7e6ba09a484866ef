/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_tight.c - gets from a store that is larger than the memory there is (ltm-*).
 *
 * The run is in a memory cgroup, which counts the page cache too. What the loading process left in
 * the page cache is dropped first, or it would be memory beyond the limit. Then eight threads fill
 * the caches with other numbers than those that are measured.
 */
#include <stdlib.h>

#include "bench.h"

#define WARM_FACTOR 2.0 /* of the measured time */

static uint64_t op_warm(struct bench_worker *w)
{
	bench_get_one(w->run, w->ctx, bench_random(&w->rng) % w->run->entries, w->buf);
	return 1;
}

static uint64_t op_get(struct bench_worker *w)
{
	bench_get_one(w->run, w->ctx, bench_next_pick(w), w->buf);
	return 1;
}

static void tight(struct bench_run *run, uint64_t (*op)(struct bench_worker *w))
{
	void *db;

	bench_drop_cache(run->dir);
	bench_advise_random();
	run->private_before = bench_private_bytes();
	db = run->ops->open(run->dir, &run->opts);
	free(bench_work(run, db, op_warm, 1, BENCH_THREADS_MAX, run->seconds * WARM_FACTOR));
	free(bench_work(run, db, op, 1, run->wl->threads, run->seconds));
	run->ops->close(db);
}

void bench_tight_get(struct bench_run *run)
{
	tight(run, op_get);
}

void bench_tight_mget(struct bench_run *run)
{
	tight(run, bench_op_mget);
}
