/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_load.c - loads into an empty store, one commit per put (b1) or per 1000 puts (b1000).
 *
 * Not synced, but the time counts until everything is on the medium: the engine's sync, then
 * fdatasync of each of its files. Loads with one commit per put end after five seconds at the
 * latest; the rate is that of what was loaded then. Afterwards, outside the measured time, all of
 * it is read back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define CAP_NS 5000000000ull
#define CAP_CHECK_EVERY 1024
#define PARTS 20 /* of a load whose course is told */

struct batch {
	struct bench_pair pairs[BENCH_BATCH_MAX];
	char keys[BENCH_BATCH_MAX][BENCH_KEY_LEN];
	char *vals;
};

/* A number, and where its key stands among all. */
struct placed {
	uint64_t place, id;
};

static struct batch *batch_new(unsigned int nr, uint32_t val_len)
{
	struct batch *b = calloc(1, sizeof(*b));
	unsigned int i;

	if (b)
		b->vals = malloc((size_t)nr * val_len);
	if (!b || !b->vals)
		bench_die("out of memory");
	/* Touched, so that it counts as ours; not zero, which gcc makes a calloc() of. */
	memset(b->vals, 1, (size_t)nr * val_len);
	for (i = 0; i < nr; i++)
		b->pairs[i] = (struct bench_pair){ b->keys[i], b->vals + (size_t)i * val_len,
						   BENCH_KEY_LEN, val_len };
	return b;
}

static void batch_free(struct batch *b)
{
	free(b->vals);
	free(b);
}

/* Entry i of the batch gets the number ids[i], or first + i without ids. */
static void batch_generate(struct batch *b, unsigned int nr, uint64_t first, const struct placed *ids,
			   uint32_t val_len, bool hashed)
{
	unsigned int i;
	uint64_t id;

	for (i = 0; i < nr; i++) {
		id = ids ? ids[first + i].id : first + i;
		bench_key(b->keys[i], id, hashed);
		bench_value(b->vals + (size_t)i * val_len, val_len, id, 0);
	}
}

static unsigned int next_batch(uint64_t left, unsigned int batch)
{
	return left < batch ? (unsigned int)left : batch;
}

static void fill(void *ctx, const struct bench_ops *ops, uint64_t first, const struct placed *ids,
		 uint64_t nr, uint32_t val_len)
{
	struct batch *b = batch_new(BENCH_BATCH_MAX, val_len);
	unsigned int n;

	for (; nr; nr -= n, first += n) {
		n = next_batch(nr, BENCH_BATCH_MAX);
		batch_generate(b, n, first, ids, val_len, true);
		ops->put_batch(ctx, b->pairs, n);
	}
	batch_free(b);
}

void bench_fill(void *ctx, const struct bench_ops *ops, uint64_t first, uint64_t nr, uint32_t val_len)
{
	fill(ctx, ops, first, NULL, nr, val_len);
}

static int compare_places(const void *a, const void *b)
{
	uint64_t x = ((const struct placed *)a)->place, y = ((const struct placed *)b)->place;

	return x < y ? -1 : x > y;
}

void bench_fill_in_order(void *ctx, const struct bench_ops *ops, uint64_t nr, uint32_t val_len)
{
	struct placed *ids = malloc(nr * sizeof(*ids));
	uint64_t i;

	if (!ids)
		bench_die("out of memory");
	for (i = 0; i < nr; i++)
		ids[i] = (struct placed){ bench_key_order(i), i };
	qsort(ids, nr, sizeof(*ids), compare_places);
	fill(ctx, ops, 0, ids, nr, val_len);
	free(ids);
}

/* The rate of each part of a load, as it goes; the first's and the last's are metrics. */
struct course {
	uint64_t since, part;
};

static void course_tell(struct course *c, struct bench_run *run, uint64_t done, uint64_t now)
{
	uint64_t size = run->entries / PARTS;
	double rate;

	if (!run->wl->tight || done < (c->part + 1) * size)
		return;
	rate = (double)size * 1e9 / (double)(now - c->since);
	if (!c->part)
		run->metrics[BENCH_FIRST_PER_S] = rate;
	run->metrics[BENCH_LAST_PER_S] = rate;
	c->part++;
	c->since = now;
	fprintf(stderr, "%8lu %% %-22s %-10s %12.0f ops/s\n", c->part * 100 / PARTS, run->wl->name,
		run->ops->name, rate);
}

/* The measured part. Returns how many entries went in. */
static uint64_t load(struct bench_run *run, void *ctx, struct batch *b, struct bench_hist *h)
{
	const struct bench_workload *wl = run->wl;
	uint64_t start = bench_now_ns(), before, after, done = 0;
	struct course course = { .since = start };
	unsigned int n;

	while (done < run->entries) {
		n = next_batch(run->entries - done, wl->batch);
		batch_generate(b, n, done, NULL, wl->val_len, wl->hashed);
		before = bench_now_ns();
		if (wl->batch == 1)
			run->ops->put(ctx, b->pairs);
		else
			run->ops->put_batch(ctx, b->pairs, n);
		after = bench_now_ns();
		bench_hist_add(h, after - before);
		done += n;
		course_tell(&course, run, done, after);
		if (wl->batch == 1 && done % CAP_CHECK_EVERY == 0 && after - start > CAP_NS)
			break;
	}
	return done;
}

void bench_load(struct bench_run *run)
{
	struct bench_scan scan = { .val_len = run->wl->val_len };
	struct batch *b = batch_new(run->wl->batch, run->wl->val_len);
	struct bench_hist *h = calloc(1, sizeof(*h));
	struct bench_mark mark;
	uint64_t done;
	void *db, *ctx;

	if (!h)
		bench_die("out of memory");
	bench_remove_dir(run->dir);
	bench_make_dir(run->dir);
	run->private_before = bench_private_bytes();
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	bench_begin(run, db, &mark);
	done = load(run, ctx, b, h);
	run->ops->sync(db);
	bench_disk_bytes(run->dir, true);
	run->live_bytes = done * (BENCH_KEY_LEN + run->wl->val_len);
	bench_finish(run, db, &mark, done, 0, h);

	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != done || scan.bad || scan.id_sum != done * (done - 1) / 2)
		bench_die("%s: loaded %lu entries, read back %lu, %lu of them wrong", run->ops->name,
			  done, scan.nr, scan.bad);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	batch_free(b);
	free(h);
}
