/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_ycsb.c - the mixes A to F of YCSB, on a copy of the kept data set.
 *
 * Updates write a value with a salt that names its writer and how many values that one had written,
 * so that a value which nobody wrote is noticed. With one thread the last salt of each key is known
 * and demanded; with two, a value must be one that some thread has written to that key. Inserts write
 * salt 0. Numbers are given to inserts one by one; a read goes only to numbers whose insert is done,
 * so it must find them. At the end all entries are read and counted.
 *
 * Latencies: one operation in eight is timed, whatever it was.
 */
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define SAMPLE 8
#define SCAN_MAX 100
#define NOT_INSERTING UINT64_MAX

static uint64_t next_id;			/* of the next insert */
static uint64_t inserting[BENCH_THREADS_MAX];	/* lower bound of the number it is busy with */
static uint64_t written[BENCH_THREADS_MAX];	/* values written by each thread */
static uint32_t *salts;				/* of each key's value; one thread only */

/* All numbers below are inserted. A thread announces its insert before it takes a number. */
static uint64_t inserted(void)
{
	uint64_t n = __atomic_load_n(&next_id, __ATOMIC_SEQ_CST), busy;
	unsigned int i;

	for (i = 0; i < BENCH_THREADS_MAX; i++) {
		busy = __atomic_load_n(&inserting[i], __ATOMIC_SEQ_CST);
		if (busy < n)
			n = busy;
	}
	return n;
}

static uint64_t choose(struct bench_worker *w)
{
	uint64_t pick = bench_next_pick(w);

	if (w->run->wl->pick == BENCH_LATEST)
		return inserted() - 1 - pick;
	return pick;
}

static bool salt_ok(const struct bench_run *run, uint64_t id, uint64_t salt)
{
	if (salts)
		return salt == (id < run->entries ? salts[id] : 0);
	return salt / BENCH_THREADS_MAX <=
	       __atomic_load_n(&written[salt % BENCH_THREADS_MAX], __ATOMIC_ACQUIRE);
}

static void read_one(struct bench_worker *w, uint64_t id)
{
	uint32_t val_len = w->run->wl->val_len;
	char key[BENCH_KEY_LEN];
	uint64_t salt;
	int64_t len;

	bench_key(key, id, true);
	len = w->run->ops->get(w->ctx, key, sizeof(key), w->buf, sizeof(w->buf));
	salt = len == val_len ? bench_salt_of(w->buf, val_len, id) : 0;
	if (len != val_len || !bench_value_ok(w->buf, val_len, id, salt) || !salt_ok(w->run, id, salt))
		bench_die("%s: key number %lu: wrong value or none (length %ld)", w->run->ops->name, id,
			  len);
}

static void put_one(struct bench_worker *w, uint64_t id, uint64_t salt)
{
	uint32_t val_len = w->run->wl->val_len;
	char key[BENCH_KEY_LEN];
	struct bench_pair p = { key, w->buf, sizeof(key), val_len };

	bench_key(key, id, true);
	bench_value(w->buf, val_len, id, salt);
	w->run->ops->put(w->ctx, &p);
}

static void update_one(struct bench_worker *w, uint64_t id)
{
	uint64_t salt = ++w->writes * BENCH_THREADS_MAX + w->id;

	__atomic_store_n(&written[w->id], w->writes, __ATOMIC_RELEASE);
	put_one(w, id, salt);
	if (salts)
		salts[id] = (uint32_t)salt;
}

static void insert_one(struct bench_worker *w)
{
	__atomic_store_n(&inserting[w->id], __atomic_load_n(&next_id, __ATOMIC_SEQ_CST),
			 __ATOMIC_SEQ_CST);
	put_one(w, __atomic_fetch_add(&next_id, 1, __ATOMIC_SEQ_CST), 0);
	__atomic_store_n(&inserting[w->id], NOT_INSERTING, __ATOMIC_SEQ_CST);
}

static void scan_some(struct bench_worker *w, uint64_t id)
{
	struct bench_scan scan = { .val_len = w->run->wl->val_len };
	char key[BENCH_KEY_LEN];

	bench_key(key, id, true);
	w->run->ops->scan(w->ctx, key, sizeof(key), 1 + bench_random(&w->rng) % SCAN_MAX, &scan);
	if (scan.bad || !scan.nr || scan.first_id != id)
		bench_die("%s: scan from key number %lu: wrong entries", w->run->ops->name, id);
}

static uint64_t op_mixed(struct bench_worker *w)
{
	const struct bench_mix *mix = &w->run->wl->mix;
	uint64_t dice = bench_random(&w->rng) % 100, id;

	if (dice < mix->insert) {
		insert_one(w);
		return 1;
	}
	dice -= mix->insert;
	id = choose(w);
	if (dice < mix->read) {
		read_one(w, id);
		return 1;
	}
	dice -= mix->read;
	if (dice < mix->update) {
		update_one(w, id);
		return 1;
	}
	dice -= mix->update;
	if (dice < mix->scan) {
		scan_some(w, id);
	} else {
		read_one(w, id);
		update_one(w, id);
	}
	return 1;
}

static void verify(struct bench_run *run, void *db)
{
	struct bench_scan scan = { .val_len = run->wl->val_len, .salts = salts,
				   .salts_nr = run->entries, .any_salt = !salts,
				   .whole = true };
	void *ctx = run->ops->ctx_open(db);
	uint64_t nr = next_id;

	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (scan.nr != nr || scan.bad || scan.id_sum != nr * (nr - 1) / 2)
		bench_die("%s: of %lu entries %lu are there at the end, %lu of them wrong",
			  run->ops->name, nr, scan.nr, scan.bad);
	run->ops->ctx_close(ctx);
}

void bench_ycsb(struct bench_run *run)
{
	unsigned int i;
	void *db;

	next_id = run->entries;
	for (i = 0; i < BENCH_THREADS_MAX; i++)
		inserting[i] = NOT_INSERTING;
	if (run->wl->threads == 1)
		salts = bench_zeros(run->entries);
	db = bench_open_warm(run);
	free(bench_work(run, db, op_mixed, SAMPLE, run->wl->threads, run->seconds));
	run->live_bytes = next_id * (BENCH_KEY_LEN + run->wl->val_len);
	verify(run, db);
	run->ops->close(db);
	free(salts);
}
