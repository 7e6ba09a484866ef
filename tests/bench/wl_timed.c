/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_timed.c - workloads that run for a time on one or more threads: gets, scans, durable puts,
 * increments.
 *
 * A worker repeats one operation until told to stop. Reading workloads open the kept data set, read
 * all of it once and a part of it at random, pause, and only then are measured. Gets are timed one
 * in eight, since the clock costs a twentieth of one; everything else each time.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define WARM_GETS 200000
#define PRELOAD 20000
#define GET_SAMPLE 8
#define SCAN_LEN 100
#define BATCH_KEYS 100
#define KEPT 256 /* last writes of a worker, verified at the end */

struct worker {
	struct bench_run *run;
	void *db, *ctx;
	unsigned int id;
	uint64_t (*op)(struct worker *w); /* returns operations done */
	unsigned int sample;		  /* one in so many is timed */
	uint32_t pick;
	struct bench_rng rng;
	uint64_t ops;
	double seconds;
	struct {
		uint64_t id, salt;
	} kept[KEPT];
	uint64_t writes;
	char buf[BENCH_VALUE_MAX];
	struct bench_hist hist;
};

static pthread_barrier_t barrier;
static int stop;

static void *work(void *arg)
{
	struct worker *w = arg;
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
	w->seconds = (double)(bench_now_ns() - start) / 1e9;
	return NULL;
}

/* Runs op on all threads for the time of the run and finishes it. The caller frees the workers. */
static struct worker *run_workers(struct bench_run *run, void *db,
				  uint64_t (*op)(struct worker *w), unsigned int sample)
{
	unsigned int threads = run->wl->threads, i;
	struct worker *workers = calloc(threads, sizeof(*workers));
	pthread_t ids[BENCH_THREADS_MAX];
	struct bench_mark mark;
	uint64_t ops = 0;
	double rate = 0;

	if (!workers || pthread_barrier_init(&barrier, NULL, threads + 1))
		bench_die("out of memory");
	for (i = 0; i < threads; i++) {
		struct worker *w = &workers[i];

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
	usleep((useconds_t)(run->seconds * 1e6));
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
	return workers;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void get_one(struct bench_run *run, void *ctx, uint64_t id, char *buf)
{
	char key[BENCH_KEY_LEN];
	int64_t len;

	bench_key(key, id, true);
	len = run->ops->get(ctx, key, sizeof(key), buf, BENCH_VALUE_MAX);
	if (len != run->wl->val_len || !bench_value_ok(buf, run->wl->val_len, id, 0))
		bench_die("%s: key number %lu: wrong value or none (length %ld)", run->ops->name, id,
			  len);
}

static void scan_all(struct bench_run *run, void *ctx, bool reverse)
{
	struct bench_scan scan = { .val_len = run->wl->val_len, .reverse = reverse };
	uint64_t nr = run->entries;

	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != nr || scan.bad || scan.id_sum != nr * (nr - 1) / 2)
		bench_die("%s: a scan of %lu entries gave %lu, %lu of them wrong", run->ops->name, nr,
			  scan.nr, scan.bad);
}

static void *open_warm(struct bench_run *run)
{
	char buf[BENCH_VALUE_MAX];
	void *db, *ctx;
	uint32_t i;

	run->private_before = bench_private_bytes();
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	scan_all(run, ctx, false);
	for (i = 0; i < WARM_GETS && i < run->entries; i++)
		get_one(run, ctx, run->picks[BENCH_PICKS - 1 - i], buf);
	run->ops->ctx_close(ctx);
	usleep((useconds_t)(run->seconds * 0.4e6));
	return db;
}

static uint64_t op_get(struct worker *w)
{
	get_one(w->run, w->ctx, w->run->picks[w->pick++ % BENCH_PICKS], w->buf);
	return 1;
}

void bench_timed_get(struct bench_run *run)
{
	void *db = open_warm(run);

	free(run_workers(run, db, op_get, GET_SAMPLE));
	run->ops->close(db);
}

static uint64_t op_scan(struct worker *w)
{
	struct bench_scan scan = { .val_len = w->run->wl->val_len };
	uint64_t id = w->run->picks[w->pick++ % BENCH_PICKS];
	char key[BENCH_KEY_LEN];

	bench_key(key, id, true);
	w->run->ops->scan(w->ctx, key, sizeof(key), SCAN_LEN, &scan);
	if (scan.bad || !scan.nr || scan.first_id != id)
		bench_die("%s: scan from key number %lu: wrong entries", w->run->ops->name, id);
	return scan.nr;
}

void bench_timed_scan(struct bench_run *run)
{
	void *db = open_warm(run);

	free(run_workers(run, db, op_scan, 1));
	run->ops->close(db);
}

void bench_full_scan(struct bench_run *run)
{
	struct bench_hist *h = calloc(1, sizeof(*h));
	struct bench_mark mark;
	void *db = open_warm(run), *ctx = run->ops->ctx_open(db);
	uint64_t ops = 0, before, now;

	if (!h)
		bench_die("out of memory");
	bench_begin(run, db, &mark);
	do {
		before = bench_now_ns();
		scan_all(run, ctx, run->wl->reverse);
		now = bench_now_ns();
		bench_hist_add(h, now - before);
		ops += run->entries;
	} while ((double)(now - mark.ns) < run->seconds * 1e9);
	bench_finish(run, db, &mark, ops, 0, h);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(h);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void *open_fresh(struct bench_run *run, uint64_t preload)
{
	void *db, *ctx;

	bench_remove_dir(run->dir);
	bench_make_dir(run->dir);
	run->private_before = bench_private_bytes();
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	bench_fill(ctx, run->ops, 0, preload, run->wl->val_len, true);
	run->ops->ctx_close(ctx);
	run->ops->sync(db);
	return db;
}

/* The next key of this worker and none other, with a value it never had. */
static void next_write(struct worker *w, char *key, char *val)
{
	unsigned int threads = w->run->wl->threads;
	uint64_t id = bench_random(&w->rng) % w->run->entries / threads * threads + w->id;
	uint64_t salt = ++w->writes;

	bench_key(key, id, true);
	bench_value(val, w->run->wl->val_len, id, salt);
	w->kept[salt % KEPT].id = id;
	w->kept[salt % KEPT].salt = salt;
}

static uint64_t op_put(struct worker *w)
{
	char key[BENCH_KEY_LEN];
	struct bench_pair p = { key, w->buf, sizeof(key), w->run->wl->val_len };

	next_write(w, key, w->buf);
	w->run->ops->put(w->ctx, &p);
	return 1;
}

static uint64_t op_put_batch(struct worker *w)
{
	static _Thread_local char keys[BATCH_KEYS][BENCH_KEY_LEN];
	static _Thread_local char vals[BATCH_KEYS][BENCH_VALUE_MAX];
	struct bench_pair pairs[BATCH_KEYS];
	unsigned int i;

	for (i = 0; i < BATCH_KEYS; i++) {
		next_write(w, keys[i], vals[i]);
		pairs[i] = (struct bench_pair){ keys[i], vals[i], BENCH_KEY_LEN,
						w->run->wl->val_len };
	}
	w->run->ops->put_batch(w->ctx, pairs, BATCH_KEYS);
	return BATCH_KEYS;
}

/* The last writes of a worker; where one key occurs twice the later write counts. */
static void verify_writes(struct bench_run *run, void *ctx, struct worker *w)
{
	uint64_t n = w->writes < KEPT ? w->writes : KEPT, i, j;
	char key[BENCH_KEY_LEN];

	for (i = 0; i < n; i++) {
		uint64_t salt = w->writes - i, id = w->kept[salt % KEPT].id;
		bool later = false;

		for (j = 0; j < i; j++)
			later |= w->kept[(w->writes - j) % KEPT].id == id;
		if (later)
			continue;
		bench_key(key, id, true);
		if (run->ops->get(ctx, key, sizeof(key), w->buf, sizeof(w->buf)) !=
			    run->wl->val_len ||
		    !bench_value_ok(w->buf, run->wl->val_len, id, salt))
			bench_die("%s: key number %lu has lost its last value", run->ops->name, id);
	}
}

void bench_timed_dput(struct bench_run *run)
{
	struct worker *workers;
	void *db, *ctx;
	unsigned int i;

	run->opts.synced = true;
	db = open_fresh(run, run->entries < PRELOAD ? run->entries : PRELOAD);
	workers = run_workers(run, db, run->wl->batch == BATCH_KEYS ? op_put_batch : op_put, 1);
	run->ops->close(db);

	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	for (i = 0; i < run->wl->threads; i++)
		verify_writes(run, ctx, &workers[i]);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(workers);
}

static void counter_key(char *key, unsigned int worker)
{
	bench_key(key, UINT32_MAX + (uint64_t)worker, true);
}

static uint64_t op_inc(struct worker *w)
{
	char key[BENCH_KEY_LEN];

	counter_key(key, w->id);
	w->run->ops->counter_inc(w->ctx, key, sizeof(key));
	return 1;
}

void bench_timed_incr(struct bench_run *run)
{
	void *db = open_fresh(run, run->entries), *ctx = run->ops->ctx_open(db);
	struct worker *workers;
	char key[BENCH_KEY_LEN];
	unsigned int i;
	uint64_t count;

	for (i = 0; i < run->wl->threads; i++) {
		counter_key(key, i);
		run->ops->counter_zero(ctx, key, sizeof(key));
	}
	workers = run_workers(run, db, op_inc, 1);
	for (i = 0; i < run->wl->threads; i++) {
		counter_key(key, i);
		count = run->ops->counter_get(ctx, key, sizeof(key));
		if (count != workers[i].ops)
			bench_die("%s: %lu increments gave %lu", run->ops->name, workers[i].ops, count);
	}
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(workers);
}
