/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_churn.c - overwriting: every entry of a copy of the kept data set about so many times, at random,
 * with a verified get after each fourth put. It ends after the workload's seconds at the latest, if it has
 * any; the time counts until all of it is synced. Operations and latencies are those of the puts. What
 * the store takes on the disk meanwhile is space_amp_peak. Those apart tell more: what was written by what
 * was put, and the latencies of the gets.
 */
#include <math.h>
#include <stdlib.h>

#include "bench.h"

#define GET_EVERY 4
#define CAP_CHECK_EVERY 1024

static void put_next(struct bench_run *run, void *ctx, uint64_t id, uint32_t salt, struct bench_hist *h)
{
	char key[BENCH_KEY_LEN], val[BENCH_VALUE_MAX];
	struct bench_pair p = { key, val, sizeof(key), run->wl->val_len };
	uint64_t before;

	bench_key(key, id, true);
	bench_value(val, run->wl->val_len, id, salt);
	before = bench_now_ns();
	run->ops->put(ctx, &p);
	bench_hist_add(h, bench_now_ns() - before);
}

static void get_last(struct bench_run *run, void *ctx, uint64_t id, uint32_t salt, struct bench_hist *h)
{
	char key[BENCH_KEY_LEN], val[BENCH_VALUE_MAX];
	uint64_t before;
	int64_t len;

	bench_key(key, id, true);
	before = bench_now_ns();
	len = run->ops->get(ctx, key, sizeof(key), val, sizeof(val));
	bench_hist_add(h, bench_now_ns() - before);
	if (len != run->wl->val_len || !bench_value_ok(val, run->wl->val_len, id, salt))
		bench_die("%s: key number %lu has lost its last value (length %ld)", run->ops->name, id,
			  len);
}

/* Returns the number of puts. */
static uint64_t churn(struct bench_run *run, void *ctx, uint32_t *salts, struct bench_hist *puts,
		      struct bench_hist *gets)
{
	uint64_t start = bench_now_ns(), nr = run->entries * run->wl->times, i, id;
	double cap = run->wl->seconds > 0 ? run->wl->seconds * 1e9 : HUGE_VAL;
	struct bench_rng rng = { 99 };

	for (i = 0; i < nr; i++) {
		if (i % CAP_CHECK_EVERY == 0 && (double)(bench_now_ns() - start) > cap)
			break;
		id = bench_random(&rng);
		id = run->wl->pick == BENCH_UNIFORM ? id % run->entries : run->picks[id % BENCH_PICKS];
		put_next(run, ctx, id, ++salts[id], puts);
		if (i % GET_EVERY == GET_EVERY - 1) {
			id = run->picks[i / GET_EVERY % BENCH_PICKS];
			get_last(run, ctx, id, salts[id], gets);
		}
	}
	return i;
}

static void tell_more(struct bench_run *run, uint64_t puts, uint64_t written, const struct bench_hist *gets)
{
	double bytes = (double)puts * (BENCH_KEY_LEN + run->wl->val_len);

	run->metrics[BENCH_WRITE_AMP] = (double)written / bytes;
	bench_latencies(run->metrics + BENCH_GET_P50_US, gets);
}

void bench_churn(struct bench_run *run)
{
	struct bench_scan scan = { .val_len = run->wl->val_len, .salts_nr = run->entries,
				   .whole = true };
	struct bench_hist *h = calloc(2, sizeof(*h)); /* puts, gets */
	uint64_t nr = run->entries, done, written;
	uint32_t *salts = bench_zeros(nr);
	struct bench_mark mark;
	void *db, *ctx;

	if (!h)
		bench_die("out of memory");
	db = bench_open_warm(run);
	ctx = run->ops->ctx_open(db);
	written = bench_written_bytes();
	bench_begin(run, db, &mark);
	done = churn(run, ctx, salts, h, h + 1);
	run->ops->sync(db);
	bench_disk_bytes(run->dir, true);
	bench_finish(run, db, &mark, done, 0, h);
	if (run->wl->apart)
		tell_more(run, done, bench_written_bytes() - written, h + 1);

	scan.salts = salts;
	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != nr || scan.bad || scan.id_sum != nr * (nr - 1) / 2)
		bench_die("%s: of %lu entries %lu are there at the end, %lu of them wrong",
			  run->ops->name, nr, scan.nr, scan.bad);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(salts);
	free(h);
}
