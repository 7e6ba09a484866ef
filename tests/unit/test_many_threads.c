/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_many_threads.c - kv_get_many and kv_read_get_many beside writers that change, replace, delete, split,
 * merge and evict, in a small cache. A value says its number and all of its bytes follow from that, so a
 * mixture of two is seen, and so is one that is older than what was acknowledged. CONTRACT C1 C4.
 */
#include "tests/unit/volume.h"

#include <pthread.h>
#include <time.h>

#define GROUPS 4u
#define GROUP_KEYS 48u
#define SINGLES 32u
#define ASKED 48u

struct world {
	struct volume v;
	uint64_t stop_ns;
	uint64_t acked[GROUPS], issued[GROUPS];
	uint64_t single_acked[SINGLES], single_issued[SINGLES];
	uint64_t reads;
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

/* A value says its number, and all of its bytes follow from that and from the key's place. */
static size_t numbered(uint8_t *value, uint32_t place, uint64_t number, uint32_t inline_max)
{
	/* single keys keep their length: such a value is replaced where it stands */
	size_t len = place >= GROUPS * GROUP_KEYS ? inline_max : place % 4 == 0 ? inline_max + 40 :
		     20 + (place * 7 + number) % 80;

	memcpy(value, &number, 8);
	pattern(value + 8, len - 8, number * 1000 + place);
	return len;
}

static size_t place_key(char *key, uint32_t place)
{
	return (size_t)sprintf(key, "p/%05u", place * 37 % 1000);
}

static uint64_t number_of(struct world *w, const kv_item *it, uint32_t place)
{
	uint8_t want[1024];
	uint64_t number;

	must_be(it->err, 0);
	must(it->value_len >= 20);
	memcpy(&number, it->buf, 8);
	must(it->value_len == numbered(want, place, number, w->v.st.inline_max));
	must(!memcmp(it->buf, want, it->value_len));
	return number;
}

static void *putter(void *arg)
{
	struct world *w = arg;
	uint64_t number = 1;
	uint8_t value[1024];
	uint32_t g, place;
	char key[16];
	kv_batch *b;

	ok(kv_batch_new(w->v.db, &b));
	while (running(w)) {
		number++;
		for (g = 0; g < GROUPS; g++) {
			__atomic_store_n(&w->issued[g], number, __ATOMIC_SEQ_CST);
			for (place = g; place < GROUPS * GROUP_KEYS; place += GROUPS) {
				if (number % 5 == 0)
					ok(kv_batch_del(b, NULL, key, place_key(key, place)));
				ok(kv_batch_put(b, NULL, key, place_key(key, place), value,
						numbered(value, place, number, w->v.st.inline_max)));
			}
			ok(kv_batch_commit(b, KV_MEMORY));
			__atomic_store_n(&w->acked[g], number, __ATOMIC_SEQ_CST);
		}
	}
	kv_batch_free(b);
	return NULL;
}

static void *single_putter(void *arg)
{
	struct world *w = arg;
	uint64_t number = 1;
	uint8_t value[1024];
	uint32_t i, place;
	char key[16];

	while (running(w)) {
		number++;
		for (i = 0; i < SINGLES; i++) {
			place = GROUPS * GROUP_KEYS + i;
			__atomic_store_n(&w->single_issued[i], number, __ATOMIC_SEQ_CST);
			ok(kv_put(w->v.db, NULL, key, place_key(key, place), value,
				  numbered(value, place, number, w->v.st.inline_max), KV_MEMORY));
			__atomic_store_n(&w->single_acked[i], number, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

/* Between the others' keys: their leaves split, merge and leave the cache. */
static void *filler(void *arg)
{
	struct world *w = arg;
	uint8_t value[700];
	uint32_t i, round = 0;
	char key[24];
	size_t len;
	int err;

	while (running(w)) {
		round++;
		for (i = 0; i < 6000 && running(w); i++) {
			len = (size_t)sprintf(key, "p/%05u/%03u", i % 1000, i / 1000);
			pattern(value, sizeof(value), i);
			if (round % 2) {
				ok(kv_put(w->v.db, NULL, key, len, value, i * 13 % 600, KV_MEMORY));
				continue;
			}
			err = kv_del(w->v.db, NULL, key, len, KV_MEMORY);
			must(!err || err == KV_E_NOTFOUND);
		}
		ok(kv_checkpoint(w->v.db));
	}
	return NULL;
}

/* Never older than what was acknowledged before, and never a mixture. */
static void *getter(void *arg)
{
	struct world *w = arg;
	uint64_t n = 0, before[GROUPS * GROUP_KEYS + SINGLES], number, *from;
	uint8_t buf[ASKED][1024];
	char keys[ASKED][16];
	kv_item items[ASKED];
	uint32_t place[ASKED], i;

	while (running(w)) {
		for (i = 0; i < GROUPS * GROUP_KEYS + SINGLES; i++)
			before[i] = __atomic_load_n(i < GROUPS * GROUP_KEYS ? &w->acked[i % GROUPS] :
						    &w->single_acked[i - GROUPS * GROUP_KEYS],
						    __ATOMIC_SEQ_CST);
		for (i = 0; i < ASKED; i++) {
			place[i] = (uint32_t)(n * 5 + i * 11) % (GROUPS * GROUP_KEYS);
			if (i % 2)
				place[i] = GROUPS * GROUP_KEYS + (uint32_t)(n + i) % SINGLES;
			items[i] = (kv_item){ .key = keys[i], .key_len = place_key(keys[i], place[i]),
					      .buf = buf[i], .cap = sizeof(buf[i]) };
		}
		ok(kv_get_many(w->v.db, NULL, ASKED, items));
		for (i = 0; i < ASKED; i++) {
			number = number_of(w, &items[i], place[i]);
			must(number >= before[place[i]]);
			from = i % 2 ? &w->single_issued[place[i] - GROUPS * GROUP_KEYS] :
				       &w->issued[place[i] % GROUPS];
			must(number <= __atomic_load_n(from, __ATOMIC_SEQ_CST));
		}
		n++;
	}
	__atomic_add_fetch(&w->reads, n, __ATOMIC_RELAXED);
	return NULL;
}

/* A group in a frozen state has one number. */
static void *frozen_getter(void *arg)
{
	struct world *w = arg;
	uint8_t buf[GROUP_KEYS][1024];
	char keys[GROUP_KEYS][16];
	kv_item items[GROUP_KEYS];
	uint64_t number, before;
	uint32_t i, g = 0;
	kv_read *r;

	while (running(w)) {
		g = (g + 1) % GROUPS;
		before = __atomic_load_n(&w->acked[g], __ATOMIC_SEQ_CST);
		ok(kv_read_begin(w->v.db, &r));
		for (i = 0; i < GROUP_KEYS; i++)
			items[i] = (kv_item){ .key = keys[i], .key_len = place_key(keys[i], g + i * GROUPS),
					      .buf = buf[i], .cap = sizeof(buf[i]) };
		ok(kv_read_get_many(r, NULL, GROUP_KEYS, items));
		number = number_of(w, &items[0], g);
		must(number >= before);
		for (i = 1; i < GROUP_KEYS; i++)
			must(number_of(w, &items[i], g + i * GROUPS) == number);
		kv_read_end(r);
	}
	return NULL;
}

START_TEST(beside_writers)
{
	static void *(*const jobs[])(void *) = { putter, single_putter, filler, getter, getter,
						 frozen_getter };
	pthread_t threads[sizeof(jobs) / sizeof(jobs[0])];
	struct world *w = calloc(1, sizeof(*w));
	uint8_t value[1024];
	char key[16];
	uint32_t i;

	volume_make(&w->v, _i, volume_tight);
	for (i = 0; i < GROUPS * GROUP_KEYS + SINGLES; i++)
		ok(kv_put(w->v.db, NULL, key, place_key(key, i), value,
			  numbered(value, i, 1, w->v.st.inline_max), KV_MEMORY));
	for (i = 0; i < GROUPS; i++)
		w->issued[i] = 1;
	for (i = 0; i < SINGLES; i++)
		w->single_issued[i] = 1;
	w->stop_ns = now_ns() + (getenv("KV_TEST_QUICK") ? 700 : 2500) * 1000000ull;
	for (i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		must(!pthread_create(&threads[i], NULL, jobs[i], w));
	for (i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		must(!pthread_join(threads[i], NULL));
	must(w->reads > 10);
	volume_end(&w->v);
	free(w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("many_threads");
	TCase *t = tcase_create("threads");

	tcase_set_timeout(t, 300); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, beside_writers, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
