/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * workers.c - threads that repeat one operation until told to stop, and what reading workloads share.
 *
 * Reading workloads open the kept data set, read all of it once and a part of it at random, pause,
 * and only then are measured.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define WARM_GETS 200000

static pthread_barrier_t barrier;
static int stop;

static void *work(void *arg)
{
	struct bench_worker *w = arg;
	uint64_t n = 0, start, before;

	w->ctx = w->run->ops->ctx_open(w->db);
	pthread_barrier_wait(&barrier);
	start = bench_now_ns();
	do {
		if (n++ % w->sample) {
			w->ops += w->op(w);
		} else {
			before = bench_now_ns();
			w->ops += w->op(w);
			bench_hist_add(&w->hist, bench_now_ns() - before);
		}
	} while (!__atomic_load_n(&stop, __ATOMIC_RELAXED));
	/* What is in flight has not been done. */
	if (w->run->wl->flight && w->run->ops->put_flight)
		w->run->ops->sync(w->db);
	w->seconds = (double)(bench_now_ns() - start) / 1e9;
	return NULL;
}

struct bench_worker *bench_work(struct bench_run *run, void *db,
				uint64_t (*op)(struct bench_worker *w), unsigned int sample,
				unsigned int threads, double seconds)
{
	struct bench_worker *workers = calloc(threads, sizeof(*workers));
	pthread_t ids[BENCH_THREADS_MAX];
	struct bench_mark mark;
	uint64_t ops = 0;
	double rate = 0;
	unsigned int i;

	if (!workers || pthread_barrier_init(&barrier, NULL, threads + 1))
		bench_die("out of memory");
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	for (i = 0; i < threads; i++) {
		struct bench_worker *w = &workers[i];

		w->run = run;
		w->db = db;
		w->id = i;
		w->op = op;
		w->sample = sample;
		w->pick = i * (BENCH_PICKS / BENCH_THREADS_MAX + 1);
		w->rng.state = 1000003ull * (i + 1);
		if (pthread_create(&ids[i], NULL, work, w))
			bench_die("pthread_create failed");
	}
	bench_begin(run, db, &mark);
	pthread_barrier_wait(&barrier);
	usleep((useconds_t)(seconds * 1e6));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		ops += workers[i].ops;
		rate += (double)workers[i].ops / workers[i].seconds;
		if (i)
			bench_hist_merge(&workers[0].hist, &workers[i].hist);
	}
	bench_finish(run, db, &mark, ops, rate, &workers[0].hist);
	for (i = 0; i < threads; i++)
		run->ops->ctx_close(workers[i].ctx);
	pthread_barrier_destroy(&barrier);
	return workers;
}

uint64_t bench_next_pick(struct bench_worker *w)
{
	return w->run->picks[w->pick++ % BENCH_PICKS];
}

void bench_get_one(struct bench_run *run, void *ctx, uint64_t id, char *buf)
{
	char key[BENCH_KEY_LEN];
	int64_t len;

	bench_key(key, id, true);
	len = run->ops->get(ctx, key, sizeof(key), buf, BENCH_VALUE_MAX);
	if (len != run->wl->val_len || !bench_value_ok(buf, run->wl->val_len, id, 0))
		bench_die("%s: key number %lu: wrong value or none (length %ld)", run->ops->name, id,
			  len);
}

void bench_scan_all(struct bench_run *run, void *ctx, bool reverse)
{
	struct bench_scan scan = { .val_len = run->wl->val_len, .reverse = reverse };
	uint64_t nr = run->entries;

	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != nr || scan.bad || scan.id_sum != nr * (nr - 1) / 2)
		bench_die("%s: a scan of %lu entries gave %lu, %lu of them wrong", run->ops->name, nr,
			  scan.nr, scan.bad);
}

void *bench_open_warm(struct bench_run *run)
{
	char buf[BENCH_VALUE_MAX];
	void *db, *ctx;
	uint32_t i;

	run->private_before = bench_private_bytes();
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	bench_scan_all(run, ctx, false);
	for (i = 0; i < WARM_GETS && i < run->entries; i++)
		bench_get_one(run, ctx, run->picks[BENCH_PICKS - 1 - i], buf);
	run->ops->ctx_close(ctx);
	usleep((useconds_t)(run->seconds * 0.4e6));
	return db;
}

uint32_t *bench_zeros(uint64_t nr)
{
	uint32_t *p = malloc(nr * sizeof(*p));

	if (!p)
		bench_die("out of memory");
	/* Two steps: gcc would make a calloc() of one, whose pages are not there yet. */
	memset(p, 1, nr * sizeof(*p));
	__asm__ volatile("" : : "r"(p) : "memory");
	memset(p, 0, nr * sizeof(*p));
	return p;
}
