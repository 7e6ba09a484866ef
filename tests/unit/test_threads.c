/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_threads.c - many threads on one volume: putters, getters, scanners, syncers, checkpointers,
 * streamers, makers of trees, in a cache so small that pages are evicted all the time. Meant for
 * -fsanitize=thread as well; lock ranks are checked by -DKV_DEBUG.
 *
 * The rule that makes wrong states visible: a commit number lives in every value. Each group of keys is
 * always written by one batch with one number, so in every state that a reader may see all keys of a
 * group hold the same number, each number is at least what was acknowledged before the read began, and
 * the sum over counters that move amounts between each other never changes. CONTRACT C1 C4, row S16.
 */
#include "tests/unit/volume.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#define GROUPS 12u
#define GROUP_KEYS 40u
#define COUNTERS 10u
#define AMOUNT 1000
#define FILLER 3000u

struct world {
	struct volume v;
	kv_tree *index; /* every group has half of its keys here */
	uint64_t stop_ns;
	uint64_t acked[GROUPS];	 /* newest number that was acknowledged */
	uint64_t synced[GROUPS]; /* and that a sync covers */
	uint64_t issued[GROUPS];
	uint64_t incs, reads, scans, syncs;
	int fast; /* few steps: a sanitizer is slow */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool running(struct world *w)
{
	return now_ns() < w->stop_ns;
}

struct job {
	struct world *w;
	void (*fn)(struct world *w, unsigned int id);
	unsigned int id;
	pthread_t thread;
};

static void *job_run(void *arg)
{
	struct job *j = arg;

	j->fn(j->w, j->id);
	return NULL;
}

static size_t group_key(char *key, unsigned int group, unsigned int i)
{
	return (size_t)sprintf(key, "g%02u/%03u", group, i);
}

/* Number, group, then bytes that follow from both; the length makes some separated. */
static size_t group_value(uint8_t *value, unsigned int group, unsigned int i, uint64_t number,
			  uint32_t inline_max)
{
	size_t len = 24 + (i % 5 == 0 ? inline_max : (i * 7) % 90);

	memcpy(value, &number, 8);
	value[8] = (uint8_t)group;
	value[9] = (uint8_t)i;
	pattern(value + 10, len - 10, number * 100 + i);
	return len;
}

static uint64_t value_check(const void *bytes, size_t len, unsigned int group, unsigned int i,
			    uint32_t inline_max)
{
	uint8_t want[4096];
	uint64_t number;

	must(len >= 24);
	memcpy(&number, bytes, 8);
	must(len == group_value(want, group, i, number, inline_max));
	must(!memcmp(bytes, want, len));
	return number;
}

static kv_tree *tree_of(struct world *w, unsigned int i)
{
	return i % 2 ? w->index : NULL;
}

/* ---- jobs ---------------------------------------------------------------------------------------- */

/* One writer a group. */
static void putter(struct world *w, unsigned int group)
{
	uint64_t number = w->acked[group];
	uint8_t value[4096];
	char key[16];
	unsigned int i;
	kv_batch *b;
	size_t len, klen;

	ok(kv_batch_new(w->v.db, &b));
	while (running(w)) {
		number++;
		__atomic_store_n(&w->issued[group], number, __ATOMIC_SEQ_CST);
		for (i = 0; i < GROUP_KEYS; i++) {
			klen = group_key(key, group, i);
			len = group_value(value, group, i, number, w->v.st.inline_max);
			/* Now and then all of them go and come back. */
			if (number % 7 == 0)
				ok(kv_batch_del(b, tree_of(w, i), key, klen));
			ok(kv_batch_put(b, tree_of(w, i), key, klen, value, len));
		}
		ok(kv_batch_commit(b, number % 10 == 3 ? KV_SYNCED : number % 3 ? KV_MEMORY : 0));
		__atomic_store_n(&w->acked[group], number, __ATOMIC_SEQ_CST);
		if (number % 10 == 3)
			__atomic_store_n(&w->synced[group], number, __ATOMIC_SEQ_CST);
	}
	kv_batch_free(b);
}

/* What grows, is replaced and shrinks, so that leaves split and merge and pages are evicted. */
static void filler(struct world *w, unsigned int id)
{
	uint8_t value[700];
	uint64_t round = 0;
	uint32_t key[2] = { id };

	while (running(w)) {
		round++;
		for (key[1] = 0; key[1] < FILLER && running(w); key[1] += 1 + (uint32_t)(round % 3)) {
			pattern(value, sizeof(value), key[1] + round);
			if (round % 3 == 2)
				must(kv_del(w->v.db, NULL, key, 8, KV_MEMORY) <= 0);
			else
				ok(kv_put(w->v.db, NULL, key, 8, value, (key[1] * 13) % 700, KV_MEMORY));
		}
	}
}

/* Single reads: never older than what was acknowledged before. */
static void getter(struct world *w, unsigned int id)
{
	uint64_t before, number, n = 0;
	uint8_t buf[4096];
	unsigned int group, i;
	char key[16];
	size_t len;

	while (running(w)) {
		group = (unsigned int)(n * 5 + id) % GROUPS;
		i = (unsigned int)(n * 11 + id) % GROUP_KEYS;
		n++;
		before = __atomic_load_n(&w->acked[group], __ATOMIC_SEQ_CST);
		ok(kv_get_into(w->v.db, tree_of(w, i), key, group_key(key, group, i), buf, sizeof(buf),
			       &len));
		number = value_check(buf, len, group, i, w->v.st.inline_max);
		must(number >= before);
		must(number <= __atomic_load_n(&w->issued[group], __ATOMIC_SEQ_CST));
	}
	__atomic_add_fetch(&w->reads, n, __ATOMIC_RELAXED);
}

static int64_t counter_of(kv_read *r, unsigned int i)
{
	char key[16], text[32] = { 0 };
	size_t len;

	ok(kv_read_get_into(r, NULL, key, (size_t)sprintf(key, "c%u", i), text, sizeof(text) - 1, &len));
	return atoll(text);
}

/* All of a group has one number in a frozen state, by gets and by cursors in both directions. */
static void group_scan(struct world *w, kv_read *r, unsigned int group, uint64_t before)
{
	char from[16], to[16];
	const void *value;
	uint64_t number = 0, got;
	unsigned int i, half;
	kv_cursor *c;
	size_t len;

	for (half = 0; half < 2; half++) {
		ok(kv_cursor_open(w->v.db, r, half ? w->index : NULL, &c));
		ok(kv_cursor_bounds(c, from, group_key(from, group, 0), to, group_key(to, group, 999)));
		if (before % 2)
			ok(kv_cursor_last(c));
		else
			ok(kv_cursor_first(c));
		for (i = 0; i < GROUP_KEYS / 2; i++) {
			ok(kv_cursor_value(c, &value, &len));
			got = value_check(value, len, group,
					  (before % 2 ? GROUP_KEYS - 2 - 2 * i : 2 * i) + half,
					  w->v.st.inline_max);
			if (!number)
				number = got;
			must(got == number);
			must_be(before % 2 ? kv_cursor_prev(c) : kv_cursor_next(c),
				i + 1 < GROUP_KEYS / 2 ? KV_OK : KV_E_NOTFOUND);
		}
		kv_cursor_close(c);
	}
	must(number >= before);
}

static void scanner(struct world *w, unsigned int id)
{
	uint64_t before[GROUPS], n = 0;
	unsigned int group, i;
	int64_t sum;
	kv_read *r;

	while (running(w)) {
		for (group = 0; group < GROUPS; group++)
			before[group] = __atomic_load_n(&w->acked[group], __ATOMIC_SEQ_CST);
		ok(kv_read_begin(w->v.db, &r));
		for (group = id % 3; group < GROUPS; group += 3)
			group_scan(w, r, group, before[group]);
		for (sum = 0, i = 0; i < COUNTERS; i++)
			sum += counter_of(r, i);
		/* Between the two halves of a move one may be missing, of each mover. */
		must(sum <= (int64_t)COUNTERS * AMOUNT && sum >= (int64_t)COUNTERS * AMOUNT - 2);
		for (group = id % 3; group < GROUPS; group += 6)
			group_scan(w, r, group, before[group]); /* still the same state */
		kv_read_end(r);
		n++;
	}
	__atomic_add_fetch(&w->scans, n, __ATOMIC_RELAXED);
}

/* Takes one from a counter, gives one to another. row K6 row K12 */
static void mover(struct world *w, unsigned int id)
{
	char key[16];
	uint64_t n = 0;
	size_t len;

	while (running(w)) {
		len = (size_t)sprintf(key, "c%u", (unsigned int)(n * 3 + id) % COUNTERS);
		ok(kv_inc(w->v.db, NULL, key, len, -1, NULL, KV_MEMORY));
		len = (size_t)sprintf(key, "c%u", (unsigned int)(n * 7 + id) % COUNTERS);
		ok(kv_inc(w->v.db, NULL, key, len, 1, NULL, n % 16 ? KV_MEMORY : 0));
		n++;
	}
	__atomic_add_fetch(&w->incs, 2 * n, __ATOMIC_RELAXED);
}

/* Group commit: what was acknowledged before a sync is durable after it. */
static void syncer(struct world *w, unsigned int id)
{
	uint64_t before[GROUPS], old, n = 0;
	unsigned int group;

	(void)id;
	while (running(w)) {
		for (group = 0; group < GROUPS; group++)
			before[group] = __atomic_load_n(&w->acked[group], __ATOMIC_SEQ_CST);
		ok(kv_sync(w->v.db));
		for (group = 0; group < GROUPS; group++) {
			old = __atomic_load_n(&w->synced[group], __ATOMIC_SEQ_CST);
			while (old < before[group] &&
			       !__atomic_compare_exchange_n(&w->synced[group], &old, before[group], false,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				;
		}
		n++;
	}
	__atomic_add_fetch(&w->syncs, n, __ATOMIC_RELAXED);
}

static void checkpointer(struct world *w, unsigned int id)
{
	kv_stat_info st;
	kv_health_info h;

	(void)id;
	while (running(w)) {
		ok(kv_checkpoint(w->v.db));
		ok(kv_stat(w->v.db, &st));
		ok(kv_health(w->v.db, &h));
		must(h.writable && !h.error);
		must(st.durable_lsn <= st.lsn || st.durable_lsn - st.lsn < 1000000);
	}
}

/* Large values: put, read through a stream while they are replaced, deleted. */
static void streamer(struct world *w, unsigned int id)
{
	size_t len = 3 * (size_t)w->v.st.chunk_bytes + 100, got, i;
	uint8_t *bytes = malloc(len), *want = malloc(len);
	uint64_t n = 0, vlen;
	kv_reader *rd;
	char key[16];
	int err;

	while (running(w)) {
		sprintf(key, "s%u", id % 2); /* two threads share a key */
		pattern(bytes, len, n + id);
		memcpy(bytes, &n, 8);
		memset(bytes + 8, (int)id, 8);
		ok(kv_put(w->v.db, NULL, key, 2, bytes, len, KV_MEMORY));
		err = kv_reader_open(w->v.db, NULL, NULL, key, 2, &rd, &vlen);
		if (!err) {
			uint64_t number;

			must(vlen == len);
			for (i = 0; i < len; i += got) {
				ok(kv_reader_read(rd, bytes + i, len - i < 7000 ? len - i : 7000, &got));
				must(got > 0);
			}
			kv_reader_close(rd);
			memcpy(&number, bytes, 8);
			pattern(want, len, number + bytes[8]);
			must(!memcmp(bytes + 16, want + 16, len - 16));
		} else {
			must(err == KV_E_NOTFOUND);
		}
		if (n++ % 3 == 0) {
			err = kv_del(w->v.db, NULL, key, 2, KV_MEMORY);
			must(!err || err == KV_E_NOTFOUND);
		}
	}
	free(bytes);
	free(want);
}

/* Trees come and go; another thread may drop what this one fills. */
static void planter(struct world *w, unsigned int id)
{
	uint64_t n = 0, count;
	kv_tree *t;
	char name[16];
	uint32_t i;
	int err;

	while (running(w)) {
		sprintf(name, "tree%u", (unsigned int)(n % 3));
		err = kv_tree_open(w->v.db, name, KV_TREE_CREATE, &t);
		must(!err);
		for (i = 0; i < 60 && !err; i++) {
			uint32_t key[2] = { id, i };

			err = kv_put(w->v.db, t, key, 8, name, 5, KV_MEMORY);
			must(!err || err == KV_E_NOTFOUND);
		}
		err = kv_count(w->v.db, t, &count);
		must(!err || err == KV_E_NOTFOUND);
		if (n % 2 == id % 2) {
			err = kv_tree_drop(w->v.db, name);
			must(!err || err == KV_E_NOTFOUND);
		}
		n++;
	}
}

static int count_trees(void *arg, const char *name, uint64_t count)
{
	must(strlen(name) > 0);
	*(uint64_t *)arg += 1 + 0 * count;
	return 0;
}

static void lister(struct world *w, unsigned int id)
{
	uint64_t n, problems;

	(void)id;
	while (running(w)) {
		n = 0;
		ok(kv_tree_list(w->v.db, count_trees, &n));
		must(n >= 2 && n <= 5);
		if (!w->fast)
			ok(kv_check(w->v.db, KV_CHECK_VALUES, no_problem, NULL, &problems));
	}
}

/* ---- the test ------------------------------------------------------------------------------------ */

static void small(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
	opt->checkpoint_bytes = 1 << 20;
	opt->read_pin_bytes = 4ull << 30;
}

static void start_state(struct world *w)
{
	uint8_t value[4096];
	unsigned int g, i;
	char key[16];
	size_t len;

	ok(kv_tree_open(w->v.db, "index", KV_TREE_CREATE, &w->index));
	for (g = 0; g < GROUPS; g++) {
		w->acked[g] = w->issued[g] = 1;
		for (i = 0; i < GROUP_KEYS; i++) {
			len = group_value(value, g, i, 1, w->v.st.inline_max);
			ok(kv_put(w->v.db, tree_of(w, i), key, group_key(key, g, i), value, len, KV_MEMORY));
		}
	}
	for (i = 0; i < COUNTERS; i++)
		ok(kv_put(w->v.db, NULL, key, (size_t)sprintf(key, "c%u", i), "1000", 4, KV_MEMORY));
	ok(kv_sync(w->v.db));
	for (g = 0; g < GROUPS; g++)
		w->synced[g] = 1;
}

static void run_jobs(struct world *w, struct job *jobs, unsigned int nr, unsigned int ms)
{
	unsigned int i;

	w->stop_ns = now_ns() + ms * 1000000ull;
	for (i = 0; i < nr; i++) {
		jobs[i].w = w;
		must(!pthread_create(&jobs[i].thread, NULL, job_run, &jobs[i]));
	}
	for (i = 0; i < nr; i++)
		must(!pthread_join(jobs[i].thread, NULL));
}

/* All groups are whole, and exactly or at least as new as promised. */
static void end_state(struct world *w, bool exact)
{
	unsigned int g, i;
	int64_t sum = 0;
	kv_read *r;

	ok(kv_tree_open(w->v.db, "index", 0, &w->index));
	ok(kv_read_begin(w->v.db, &r));
	for (g = 0; g < GROUPS; g++)
		group_scan(w, r, g, exact ? w->acked[g] : w->synced[g]);
	for (i = 0; i < COUNTERS; i++)
		sum += counter_of(r, i);
	must(sum <= (int64_t)COUNTERS * AMOUNT && sum >= (int64_t)COUNTERS * AMOUNT - 2);
	must(!exact || sum == (int64_t)COUNTERS * AMOUNT);
	kv_read_end(r);
	volume_check(&w->v);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW 1
#else
#define SLOW 0
#endif

static unsigned int round_ms(void)
{
	return getenv("KV_TEST_QUICK") ? 700 : 2500;
}

static struct job everything[] = {
	{ .fn = putter, .id = 0 }, { .fn = putter, .id = 1 }, { .fn = putter, .id = 2 },
	{ .fn = filler, .id = 0 }, { .fn = filler, .id = 1 }, { .fn = getter, .id = 0 },
	{ .fn = getter, .id = 1 }, { .fn = scanner, .id = 0 }, { .fn = scanner, .id = 1 },
	{ .fn = mover, .id = 0 }, { .fn = mover, .id = 1 }, { .fn = syncer, .id = 0 },
	{ .fn = syncer, .id = 1 }, { .fn = checkpointer, .id = 0 }, { .fn = streamer, .id = 0 },
	{ .fn = streamer, .id = 2 }, { .fn = planter, .id = 0 }, { .fn = planter, .id = 1 },
	{ .fn = lister, .id = 0 },
};

static void whole_test(int world)
{
	struct world *w = calloc(1, sizeof(*w));
	int round;

	w->fast = SLOW;
	volume_make(&w->v, world, small);
	start_state(w);
	for (round = 0; round < 3; round++) {
		run_jobs(w, everything, sizeof(everything) / sizeof(everything[0]), round_ms());
		end_state(w, true);
		if (round == 1)
			volume_crash(&w->v);
		else
			volume_reopen(&w->v);
		end_state(w, round != 1);
		/* What a crash lost is written anew from there. */
		if (round == 1)
			start_state(w);
	}
	/* Each job had a turn; on a busy machine not in every round. */
	must(w->reads && w->scans && w->syncs && w->incs);
	volume_end(&w->v);
	free(w);
}

START_TEST(everything_at_once)
{
	whole_test(_i);
}
END_TEST

/* Exactly one of many wins each key, each tree; increments are exact. row K6 row K12 */
static void racer(struct world *w, unsigned int id)
{
	uint32_t i, won = 0, trees = 0, gone = 0;
	kv_tree *t;
	char name[16];
	int err;

	(void)id;
	for (i = 0; i < 400; i++) {
		err = kv_put(w->v.db, NULL, &i, 4, "x", 1, KV_PUT_NEW | KV_MEMORY);
		must(!err || err == KV_E_EXISTS);
		won += !err;
		ok(kv_inc(w->v.db, NULL, "sum", 3, 1, NULL, KV_MEMORY));
		if (i % 10)
			continue;
		sprintf(name, "t%u", i);
		err = kv_tree_open(w->v.db, name, KV_TREE_CREATE | KV_TREE_NEW, &t);
		must(!err || err == KV_E_EXISTS);
		trees += !err;
	}
	for (i = 0; i < 400; i++) {
		err = kv_del(w->v.db, NULL, &i, 4, KV_MEMORY);
		must(!err || err == KV_E_NOTFOUND);
		gone += !err;
	}
	__atomic_add_fetch(&w->reads, won, __ATOMIC_RELAXED);
	__atomic_add_fetch(&w->scans, trees, __ATOMIC_RELAXED);
	__atomic_add_fetch(&w->syncs, gone, __ATOMIC_RELAXED);
}

static void dropper(struct world *w, unsigned int id)
{
	char name[16];
	uint32_t i;
	int err;

	(void)id;
	for (i = 0; i < 400; i += 10) {
		sprintf(name, "t%u", i);
		err = kv_tree_drop(w->v.db, name);
		must(!err || err == KV_E_NOTFOUND);
		if (!err)
			__atomic_add_fetch(&w->incs, 1, __ATOMIC_RELAXED);
	}
}

START_TEST(one_wins)
{
	struct world *w = calloc(1, sizeof(*w));
	struct job jobs[6];
	uint32_t i;

	volume_make(&w->v, _i, small);
	ok(put(&w->v, NULL, "sum", "0"));
	for (i = 0; i < 6; i++)
		jobs[i] = (struct job){ .fn = racer, .id = i };
	run_jobs(w, jobs, 6, 0);
	ck_assert_uint_ge(w->reads, 400);
	ck_assert_uint_eq(w->reads, w->syncs); /* as many created as deleted */
	ck_assert_uint_eq(w->scans, 40);
	expect(&w->v, NULL, "sum", "2400");
	must(count(&w->v, NULL) == 1);
	for (i = 0; i < 6; i++)
		jobs[i].fn = dropper;
	run_jobs(w, jobs, 6, 0);
	ck_assert_uint_eq(w->incs, 40);
	volume_crash(&w->v);
	expect(&w->v, NULL, "sum", "2400");
	must(w->v.st.trees == 1 && w->v.st.entries == 1);
	volume_end(&w->v);
	free(w);
}
END_TEST

#define REPLACED 150u

static size_t large_of(const struct world *w, uint32_t salt)
{
	return w->v.st.chunk_bytes * (1 + salt % 2) + 1 + salt % 97;
}

static void replacer(struct world *w, unsigned int id)
{
	size_t len, most = w->v.st.chunk_bytes * 2 + 100;
	uint8_t *value = malloc(most);
	uint32_t n;

	must(value);
	/* All of it takes less than a thread may need to begin. */
	while (!__atomic_load_n(&w->reads, __ATOMIC_RELAXED))
		sched_yield();
	for (n = 1; n <= REPLACED; n++) {
		len = large_of(w, n * 2 + id);
		pattern(value, len, n * 2 + id);
		ok(kv_put(w->v.db, NULL, "large", 5, value, len, KV_MEMORY));
		if (n % 16 == id)
			ok(kv_checkpoint(w->v.db));
	}
	free(value);
	__atomic_add_fetch(&w->syncs, 1, __ATOMIC_RELAXED);
}

/* Whole, and one that somebody has put: what was replaced while it is read is read again. */
static void reader_of_large(struct world *w, unsigned int id)
{
	uint8_t *want = malloc(w->v.st.chunk_bytes * 2 + 100);
	uint32_t n, salt;
	size_t len;
	void *got;

	(void)id;
	must(want);
	while (__atomic_load_n(&w->syncs, __ATOMIC_RELAXED) < 2) {
		ok(kv_get(w->v.db, NULL, "large", 5, &got, &len));
		/* pattern() is of the salt: which one, the length and the first bytes say. */
		for (salt = 0, n = 0; n <= 2 * REPLACED + 1 && !salt; n++) {
			if (len != large_of(w, n))
				continue;
			pattern(want, len, n);
			if (!memcmp(want, got, 16))
				salt = n;
		}
		must(salt && !memcmp(want, got, len));
		kv_free(got);
		__atomic_add_fetch(&w->reads, 1, __ATOMIC_RELAXED);
	}
	free(want);
}

START_TEST(large_ones_are_replaced)
{
	struct world *w = calloc(1, sizeof(*w));
	struct job jobs[4] = {
		{ .fn = replacer, .id = 0 }, { .fn = replacer, .id = 1 },
		{ .fn = reader_of_large }, { .fn = reader_of_large },
	};
	uint8_t *value;

	volume_make(&w->v, _i, small);
	value = malloc(large_of(w, 1));
	must(value);
	pattern(value, large_of(w, 1), 1);
	ok(kv_put(w->v.db, NULL, "large", 5, value, large_of(w, 1), KV_MEMORY));
	run_jobs(w, jobs, 4, 0);
	must(w->reads);
	volume_end(&w->v);
	free(value);
	free(w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("threads");
	TCase *t = tcase_create("threads");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, one_wins, 0, WORLDS);
	tcase_add_loop_test(t, large_ones_are_replaced, 0, WORLDS);
	tcase_add_loop_test(t, everything_at_once, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
