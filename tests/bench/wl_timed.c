/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_timed.c - workloads that run for a time on one or more threads: gets, scans, durable puts,
 * increments.
 *
 * Gets are timed one in eight, since the clock costs a twentieth of one; everything else each time.
 */
#include <stdlib.h>

#include "bench.h"

#define PRELOAD 20000
#define GET_SAMPLE 8
#define SCAN_LEN 100
#define BATCH_KEYS 100

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t op_get(struct bench_worker *w)
{
	bench_get_one(w->run, w->ctx, bench_next_pick(w), w->buf);
	return 1;
}

void bench_timed_get(struct bench_run *run)
{
	void *db = bench_open_warm(run);

	free(bench_work(run, db, op_get, GET_SAMPLE, run->wl->threads, run->seconds));
	run->ops->close(db);
}

uint64_t bench_op_mget(struct bench_worker *w)
{
	static _Thread_local char keys[BENCH_MGET_MAX][BENCH_KEY_LEN];
	static _Thread_local char bufs[BENCH_MGET_MAX][BENCH_VALUE_MAX];
	const struct bench_ops *ops = w->run->ops;
	uint32_t val_len = w->run->wl->val_len;
	int64_t lens[BENCH_MGET_MAX];
	uint64_t ids[BENCH_MGET_MAX];
	unsigned int i;

	for (i = 0; i < BENCH_MGET_MAX; i++) {
		ids[i] = bench_next_pick(w);
		bench_key(keys[i], ids[i], true);
	}
	if (ops->mget)
		ops->mget(w->ctx, keys[0], BENCH_MGET_MAX, bufs[0], val_len, lens);
	else
		for (i = 0; i < BENCH_MGET_MAX; i++)
			lens[i] = ops->get(w->ctx, keys[i], BENCH_KEY_LEN,
					   bufs[0] + (size_t)i * val_len, val_len);
	for (i = 0; i < BENCH_MGET_MAX; i++)
		if (lens[i] != val_len ||
		    !bench_value_ok(bufs[0] + (size_t)i * val_len, val_len, ids[i], 0))
			bench_die("%s: multi-get, key number %lu: wrong value or none (length %ld)",
				  ops->name, ids[i], lens[i]);
	return BENCH_MGET_MAX;
}

void bench_timed_mget(struct bench_run *run)
{
	void *db = bench_open_warm(run);

	free(bench_work(run, db, bench_op_mget, 1, run->wl->threads, run->seconds));
	run->ops->close(db);
}

static uint64_t op_scan(struct bench_worker *w)
{
	struct bench_scan scan = { .val_len = w->run->wl->val_len };
	uint64_t id = bench_next_pick(w);
	char key[BENCH_KEY_LEN];

	bench_key(key, id, true);
	w->run->ops->scan(w->ctx, key, sizeof(key), SCAN_LEN, &scan);
	if (scan.bad || !scan.nr || scan.first_id != id)
		bench_die("%s: scan from key number %lu: wrong entries", w->run->ops->name, id);
	return scan.nr;
}

void bench_timed_scan(struct bench_run *run)
{
	void *db = bench_open_warm(run);

	free(bench_work(run, db, op_scan, 1, run->wl->threads, run->seconds));
	run->ops->close(db);
}

void bench_full_scan(struct bench_run *run)
{
	struct bench_hist *h = calloc(1, sizeof(*h));
	struct bench_mark mark;
	void *db = bench_open_warm(run), *ctx = run->ops->ctx_open(db);
	uint64_t ops = 0, before, now;

	if (!h)
		bench_die("out of memory");
	bench_begin(run, db, &mark);
	do {
		before = bench_now_ns();
		bench_scan_all(run, ctx, run->wl->reverse);
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
	bench_fill(ctx, run->ops, 0, preload, run->wl->val_len);
	run->ops->ctx_close(ctx);
	run->ops->sync(db);
	return db;
}

/* Of the last value of each key; a key belongs to one worker. Preloaded values have 0. */
static uint32_t *salts;

/* The next key of this worker and none other, with a value it never had. */
static void next_write(struct bench_worker *w, char *key, char *val)
{
	unsigned int threads = w->run->wl->threads;
	uint64_t id = bench_random(&w->rng) % (w->run->entries / threads) * threads + w->id;

	salts[id] = (uint32_t)++w->writes;
	bench_key(key, id, true);
	bench_value(val, w->run->wl->val_len, id, salts[id]);
}

static uint64_t op_put(struct bench_worker *w)
{
	char key[BENCH_KEY_LEN];
	struct bench_pair p = { key, w->buf, sizeof(key), w->run->wl->val_len };

	next_write(w, key, w->buf);
	w->run->ops->put(w->ctx, &p);
	return 1;
}

static uint64_t op_put_flight(struct bench_worker *w)
{
	char key[BENCH_KEY_LEN];
	struct bench_pair p = { key, w->buf, sizeof(key), w->run->wl->val_len };

	next_write(w, key, w->buf);
	w->run->ops->put_flight(w->ctx, &p);
	return 1;
}

static uint64_t op_put_batch(struct bench_worker *w)
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

/* After reopening, every key has its last value, and there is no other. */
static void verify_writes(struct bench_run *run, void *ctx, uint64_t preload)
{
	struct bench_scan scan = { .val_len = run->wl->val_len, .salts = salts,
				   .salts_nr = run->entries, .whole = true };
	uint64_t id, nr = 0, id_sum = 0;

	for (id = 0; id < run->entries; id++) {
		if (id >= preload && !salts[id])
			continue;
		nr++;
		id_sum += id;
	}
	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != nr || scan.bad || scan.id_sum != id_sum)
		bench_die("%s: of %lu entries %lu are there after reopening, %lu of them wrong",
			  run->ops->name, nr, scan.nr, scan.bad);
	run->live_bytes = nr * (BENCH_KEY_LEN + run->wl->val_len);
}

void bench_timed_dput(struct bench_run *run)
{
	uint64_t preload = run->entries < PRELOAD ? run->entries : PRELOAD;
	uint64_t (*op)(struct bench_worker *w) = op_put;
	void *db, *ctx;

	if (run->wl->batch == BATCH_KEYS)
		op = op_put_batch;
	else if (run->wl->flight && run->ops->put_flight)
		op = op_put_flight;
	salts = bench_zeros(run->entries);
	run->opts.synced = true;
	db = open_fresh(run, preload);
	free(bench_work(run, db, op, 1, run->wl->threads, run->seconds));
	run->ops->close(db);

	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	verify_writes(run, ctx, preload);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(salts);
}

/* One counter for all workers, or one for each. */
static void counter_key(const struct bench_run *run, char *key, unsigned int worker)
{
	bench_key(key, UINT32_MAX + (uint64_t)(run->wl->same ? 0 : worker), true);
}

static uint64_t op_inc(struct bench_worker *w)
{
	char key[BENCH_KEY_LEN];

	counter_key(w->run, key, w->id);
	bench_counter_inc(w->run->ops, w->ctx, key, sizeof(key));
	return 1;
}

void bench_timed_incr(struct bench_run *run)
{
	void *db = open_fresh(run, run->entries), *ctx = run->ops->ctx_open(db);
	unsigned int i, counters = run->wl->same ? 1 : run->wl->threads;
	struct bench_worker *workers;
	char key[BENCH_KEY_LEN];
	uint64_t count, want = 0;

	for (i = 0; i < counters; i++) {
		counter_key(run, key, i);
		bench_counter_zero(run->ops, ctx, key, sizeof(key));
	}
	workers = bench_work(run, db, op_inc, 1, run->wl->threads, run->seconds);
	for (i = 0; i < run->wl->threads; i++) {
		want += workers[i].ops;
		if (run->wl->same && i + 1 < run->wl->threads)
			continue;
		counter_key(run, key, i);
		count = bench_counter_get(run->ops, ctx, key, sizeof(key));
		if (count != want)
			bench_die("%s: %lu increments gave %lu", run->ops->name, want, count);
		want = 0;
	}
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(workers);
}
