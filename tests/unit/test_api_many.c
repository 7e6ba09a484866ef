/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api_many.c - kv_get_many and kv_read_get_many: the same answers as single gets, for inline, separated
 * and large values, in memory and cold; damage and failures, which are those of their items alone; what it
 * costs the device. Beside writers: test_many_threads.c. CONTRACT C4 C11 C19.
 */
#include "tests/unit/faulty.h"
#include "tests/unit/late.h"

#define KEYS 1500u
#define MANY_MAX 300u
#define ROOM 9000u
#define GUARD 0xa5

static uint64_t chance_state;

static uint32_t chance(uint32_t below)
{
	return volume_chance(&chance_state, below);
}

static size_t key_of(char *key, uint32_t id)
{
	size_t len = (size_t)sprintf(key, "%s%05u", id % 3 ? "a/long/prefix/that/many/share/" : "k", id);

	memset(key + len, 'x', id % 23);
	return len + id % 23;
}

/* Inline, separated by little, separated, and a few in chunks. */
static size_t value_len_of(const struct volume *v, uint32_t id)
{
	switch (id % 8) {
	case 0:
		return id % 5;
	case 1:
		return v->st.inline_max - id % 3;
	case 2:
		return v->st.inline_max + id % 3;
	case 3:
		return v->st.inline_max + 50 + id % 300;
	case 4:
		return (v->st.chunk_bytes < 4000 ? v->st.chunk_bytes : 4000) - id % 50;
	case 5:
		return id % 200 == 5 ? v->st.chunk_bytes + 1 + id % 500 : id % 90;
	default:
		return 10 + id % 90;
	}
}

struct many {
	kv_item items[MANY_MAX];
	uint32_t id[MANY_MAX];
	char keys[MANY_MAX][80];
	uint8_t *room;
	size_t room_bytes;
};

static struct many *many_new(const struct volume *v)
{
	struct many *m = calloc(1, sizeof(*m));

	m->room_bytes = v->st.chunk_bytes + ROOM;
	m->room = malloc(MANY_MAX * m->room_bytes);
	must(m->room);
	return m;
}

static void many_free(struct many *m)
{
	free(m->room);
	free(m);
}

/* Item i asks for key id, with room for cap bytes. */
static void ask(struct many *m, size_t i, uint32_t id, size_t cap)
{
	m->id[i] = id;
	m->items[i] = (kv_item){ .key = m->keys[i], .key_len = key_of(m->keys[i], id),
				 .buf = m->room + i * m->room_bytes, .cap = cap, .value_len = 1u << 30,
				 .err = 12345 };
	memset(m->items[i].buf, GUARD, cap < ROOM ? cap + 64 : cap);
}

static void store(struct volume *v, kv_tree *t, uint32_t id, uint64_t seed, uint32_t flags)
{
	size_t len = value_len_of(v, id);
	uint8_t *value = malloc(len + 1);
	char key[80];

	pattern(value, len, id + seed);
	ok(kv_put(v->db, t, key, key_of(key, id), value, len, flags));
	free(value);
}

/* Every third key is missing. */
static void store_all(struct volume *v, kv_tree *t, uint64_t seed)
{
	uint32_t i, id;

	for (i = 0; i < KEYS; i++) {
		id = i * 7919 % KEYS;
		if (id % 3 != 2)
			store(v, t, id, seed, KV_MEMORY);
	}
}

static void must_hold(const struct volume *v, const kv_item *it, uint32_t id, uint64_t seed)
{
	size_t len = value_len_of(v, id);
	uint8_t *want = malloc(len + 1);

	must(it->value_len == len);
	pattern(want, len, id + seed);
	if (memcmp(it->buf, want, len))
		ck_abort_msg("key %u: a wrong value of %zu bytes", id, len);
	free(want);
}

/* What single gets give, item by item. */
static void compare(struct volume *v, kv_tree *t, kv_read *r, struct many *m, size_t n)
{
	uint8_t *buf = malloc(m->room_bytes);
	size_t i, len = 0;
	int err;

	ok(r ? kv_read_get_many(r, t, n, m->items) : kv_get_many(v->db, t, n, m->items));
	for (i = 0; i < n; i++) {
		kv_item *it = &m->items[i];

		err = r ? kv_read_get_into(r, t, it->key, it->key_len, buf, it->cap, &len) :
			  kv_get_into(v->db, t, it->key, it->key_len, buf, it->cap, &len);
		if (it->err != err)
			ck_abort_msg("key %u, room for %zu: %d alone, %d with others", m->id[i], it->cap, err,
				     it->err);
		must(err == (m->id[i] % 3 == 2 ? KV_E_NOTFOUND : it->value_len > it->cap ? KV_E_TOOBIG : 0));
		if (!err || err == KV_E_TOOBIG)
			must(it->value_len == len);
		must(err || !memcmp(it->buf, buf, len));
		if (it->cap < ROOM)
			must(((uint8_t *)it->buf)[it->cap] == GUARD);
	}
	free(buf);
}

/* Random sets: any size and order, with repetitions, enough room or not. */
static void random_sets(struct volume *v, kv_tree *t, kv_read *r, unsigned int rounds)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 128, MANY_MAX };
	struct many *m = many_new(v);
	size_t i, n;

	while (rounds--) {
		n = sizes[rounds % (sizeof(sizes) / sizeof(sizes[0]))];
		for (i = 0; i < n; i++) {
			uint32_t id = i && chance(10) == 0 ? m->id[i - 1] : chance(KEYS);
			size_t len = value_len_of(v, id), cap = m->room_bytes - 64;

			if (chance(4) == 0)
				cap = len > 1 && chance(2) ? len - 1 : len;
			ask(m, i, id, cap);
		}
		compare(v, t, r, m, n);
	}
	many_free(m);
}

START_TEST(same_as_single_gets)
{
	struct volume v;
	kv_tree *t;

	chance_state = 11;
	volume_make(&v, _i, volume_tight);
	ok(kv_tree_open(v.db, "other", KV_TREE_CREATE, &t));
	random_sets(&v, t, NULL, 0);
	store_all(&v, NULL, 0);
	random_sets(&v, NULL, NULL, 40);
	store_all(&v, t, 0);
	random_sets(&v, t, NULL, 20);
	ok(kv_checkpoint(v.db));
	random_sets(&v, NULL, NULL, 20);
	volume_reopen(&v); /* nothing is in memory, and the cache is small */
	random_sets(&v, NULL, NULL, 60);
	volume_crash(&v);
	ok(kv_tree_open(v.db, "other", 0, &t));
	random_sets(&v, t, NULL, 20);
	v.opt.flags |= KV_OPEN_READONLY;
	kve_crash(v.db);
	volume_open(&v);
	random_sets(&v, NULL, NULL, 20);
	v.opt.flags &= ~KV_OPEN_READONLY;
	volume_reopen(&v);
	volume_end(&v);
}
END_TEST

START_TEST(an_empty_tree_and_one_leaf)
{
	struct volume v;
	struct many *m;

	volume_make(&v, _i, NULL);
	m = many_new(&v);
	ask(m, 0, 2, 10);
	ask(m, 1, 5, 10);
	ok(kv_get_many(v.db, NULL, 2, m->items));
	must(m->items[0].err == KV_E_NOTFOUND && m->items[1].err == KV_E_NOTFOUND);
	store(&v, NULL, 6, 0, 0);
	ask(m, 2, 6, 200);
	ok(kv_get_many(v.db, NULL, 3, m->items));
	must(m->items[0].err == KV_E_NOTFOUND && !m->items[2].err);
	must_hold(&v, &m->items[2], 6, 0);
	many_free(m);
	volume_end(&v);
}
END_TEST

/* What is wrong with an item is its own affair; what is wrong with the call is not. */
START_TEST(bad_items_and_bad_calls)
{
	struct volume v;
	struct many *m;
	uint8_t *long_key;
	kv_tree *t;

	volume_make(&v, _i, NULL);
	m = many_new(&v);
	store(&v, NULL, 6, 0, 0);
	ask(m, 0, 6, 200);
	ask(m, 1, 6, 200);
	ask(m, 2, 6, 0);
	ask(m, 3, 6, 200);
	m->items[1].key_len = 0;
	m->items[2].buf = NULL;
	long_key = calloc(1, v.st.key_max + 1);
	m->items[3].key = long_key;
	m->items[3].key_len = v.st.key_max + 1;
	ok(kv_get_many(v.db, NULL, 4, m->items));
	must(!m->items[0].err && m->items[1].err == KV_E_INVALID);
	must(m->items[2].err == KV_E_TOOBIG && m->items[2].value_len == value_len_of(&v, 6));
	must(m->items[3].err == kv_exists(v.db, NULL, long_key, v.st.key_max + 1, NULL));
	must(m->items[3].err < 0);
	m->items[0].key = NULL;
	ok(kv_get_many(v.db, NULL, 1, m->items));
	must(m->items[0].err == KV_E_INVALID);
	ok(kv_get_many(v.db, NULL, 0, NULL));
	must_be(kv_get_many(v.db, NULL, 1, NULL), KV_E_INVALID);
	ok(kv_tree_open(v.db, "gone", KV_TREE_CREATE, &t));
	ok(kv_tree_drop(v.db, "gone"));
	must_be(kv_get_many(v.db, t, 1, m->items), KV_E_NOTFOUND);
	free(long_key);
	many_free(m);
	volume_end(&v);
}
END_TEST

/* A read transaction shows what was, whatever has come since. */
START_TEST(of_a_frozen_state)
{
	struct volume v;
	struct many *m;
	kv_read *r, *empty;
	uint32_t i;

	chance_state = 5;
	volume_make(&v, _i, volume_tight);
	m = many_new(&v);
	ok(kv_read_begin(v.db, &empty));
	store_all(&v, NULL, 0);
	ok(kv_checkpoint(v.db));
	ok(kv_read_begin(v.db, &r));
	random_sets(&v, NULL, r, 13);
	store_all(&v, NULL, 77);
	for (i = 0; i < KEYS; i += 7)
		store(&v, NULL, i, 77, KV_MEMORY); /* also what was missing */
	ok(kv_checkpoint(v.db));
	random_sets(&v, NULL, r, 26);
	for (i = 0; i < 64; i++)
		ask(m, i, 3 * i, m->room_bytes - 64);
	ok(kv_read_get_many(r, NULL, 64, m->items));
	for (i = 0; i < 64; i++)
		must_hold(&v, &m->items[i], 3 * i, 0);
	ok(kv_get_many(v.db, NULL, 64, m->items));
	for (i = 0; i < 64; i++)
		must_hold(&v, &m->items[i], 3 * i, 77);
	ok(kv_read_get_many(empty, NULL, 64, m->items));
	for (i = 0; i < 64; i++)
		must(m->items[i].err == KV_E_NOTFOUND);
	must_be(kv_read_get_many(r, NULL, 1, NULL), KV_E_INVALID);
	ok(kv_read_get_many(r, NULL, 0, NULL));
	kv_read_end(r);
	kv_read_end(empty);
	many_free(m);
	volume_end(&v);
}
END_TEST

static void pins_little(kv_options *opt)
{
	volume_tight(opt);
	opt->read_pin_bytes = 1 << 20;
}

START_TEST(of_a_state_that_is_too_old)
{
	struct volume v;
	struct many *m;
	kv_read *r;
	unsigned int round;
	int err = 0;

	volume_make(&v, MEM_DEFAULT, pins_little);
	m = many_new(&v);
	store_all(&v, NULL, 0);
	ok(kv_read_begin(v.db, &r));
	ask(m, 0, 6, 200);
	for (round = 1; round < 60 && !err; round++) {
		store_all(&v, NULL, round);
		ok(kv_checkpoint(v.db));
		err = kv_read_get_many(r, NULL, 1, m->items);
		must(err || !m->items[0].err);
	}
	must_be(err, KV_E_TOOOLD);
	error_names("too old", NULL);
	kv_read_end(r);
	many_free(m);
	volume_end(&v);
}
END_TEST

/* ---- damage ------------------------------------------------------------------------------------- */

/* The value of key id, wherever it stands. */
static unsigned int spoil(struct volume *v, uint32_t id)
{
	size_t len = value_len_of(v, id);
	uint8_t *want = malloc(len);
	unsigned int hits;

	pattern(want, len, id);
	hits = volume_spoil(v, want, len);
	free(want);
	return hits;
}

/* Cold and warm: the same items fail, by damage, and no other. */
static void damage_found(struct volume *v, uint32_t least, uint32_t most)
{
	struct many *m = many_new(v);
	uint32_t i, round, bad;

	for (round = 0; round < 3; round++) {
		for (bad = 0, i = 0; i < MANY_MAX; i++)
			ask(m, i, i * 3, m->room_bytes - 64);
		ok(kv_get_many(v->db, NULL, MANY_MAX, m->items));
		for (i = 0; i < MANY_MAX; i++)
			if (m->items[i].err) {
				must_be(m->items[i].err, KV_E_CORRUPT);
				error_names("kvs-fsck", NULL);
				bad++;
			} else {
				must_hold(v, &m->items[i], i * 3, 0);
			}
		if (bad < least || bad > most)
			ck_abort_msg("%u items are damaged, not %u to %u", bad, least, most);
	}
	many_free(m);
}

static void damage_begin(struct volume *v, int world)
{
	volume_make(v, world, volume_tight);
	v->opt.log = volume_silent;
	store_all(v, NULL, 0);
	volume_close(v);
}

/* Its record is not what the leaf says: no volume_check() at the end. */
static void damage_end(struct volume *v)
{
	volume_close(v);
	volume_end(v);
}

START_TEST(damaged_values)
{
	struct volume v;

	damage_begin(&v, _i);
	must(spoil(&v, 3) && spoil(&v, 12) && spoil(&v, 27));
	volume_open(&v);
	damage_found(&v, 3, 3);
	damage_end(&v);
}
END_TEST

/* The leaf of one inline value: all of its keys, but none of its neighbours. */
START_TEST(damaged_leaf)
{
	struct volume v;

	damage_begin(&v, _i);
	must(spoil(&v, 6 * 3));
	volume_open(&v);
	damage_found(&v, 1, _i ? 30 : 250);
	damage_end(&v);
}
END_TEST

/* ---- failures ----------------------------------------------------------------------------------- */

/* Each item is right, or has this error. Returns how many have it. */
static uint32_t right_or(struct faulty *f, struct many *m, uint32_t n, int want)
{
	uint32_t i, failed = 0;

	for (i = 0; i < n; i++)
		ask(m, i, i * 37 % KEYS, m->room_bytes - 64);
	ok(kv_get_many(f->db, NULL, n, m->items));
	for (i = 0; i < n; i++) {
		if (m->items[i].err == want)
			failed++;
		else if (m->items[i].err != (m->id[i] % 3 == 2 ? KV_E_NOTFOUND : 0))
			ck_abort_msg("key %u: %d", m->id[i], m->items[i].err);
		else if (!m->items[i].err)
			must_hold(&f->v, &m->items[i], m->id[i], 0);
	}
	return failed;
}

/* From a cold start the n-th fails, once or from then on: right or an error, and nothing of it stays. */
static void each_failure(int world, enum faulty_what what, bool persistent)
{
	uint32_t n, failed = 0, nr = 90;
	struct faulty f;
	struct many *m;
	bool hit = true;

	faulty_begin(&f, world, what);
	store_all(&f.v, NULL, 0);
	volume_close(&f.v);
	m = many_new(&f.v);
	for (n = 1; hit; n += 1 + n / 20) {
		faulty_open(&f);
		faulty_arm(&f, n, persistent);
		failed += right_or(&f, m, nr, faulty_error(&f));
		hit = faulty_disarm(&f);
		must(right_or(&f, m, nr, faulty_error(&f)) == 0);
		ok(kv_close(f.db));
	}
	must(n > 10);
	must(!persistent || failed > 0);
	many_free(m);
	volume_end(&f.v);
}

START_TEST(reads_that_fail)
{
	each_failure(_i % 2 ? MEM_TINY : MEM_DEFAULT, FAULTY_READ, _i >= 2);
}
END_TEST

START_TEST(memory_that_is_missing)
{
	each_failure(_i % 2 ? MEM_TINY : MEM_DEFAULT, FAULTY_MEMORY, _i >= 2);
}
END_TEST

/* ---- what it costs ------------------------------------------------------------------------------- */

static uint64_t device_reads(struct volume *v)
{
	kv_stat_info st;

	ok(kv_stat(v->db, &st));
	return st.device_reads;
}

/* Cold: each page is read once, and values that stand side by side come together. */
START_TEST(few_transfers)
{
	uint64_t alone, together;
	struct volume v;
	struct many *m;
	uint8_t value[700];
	char key[16];
	uint32_t i;

	volume_make(&v, MEM_DEFAULT, NULL);
	m = many_new(&v);
	for (i = 0; i < MANY_MAX; i++) {
		pattern(value, sizeof(value), i);
		ok(kv_put(v.db, NULL, key, (size_t)sprintf(key, "key%05u", i), value, sizeof(value), 0));
	}
	for (i = 0; i < MANY_MAX; i++)
		m->items[i] = (kv_item){ .key = m->keys[i], .buf = m->room + i * m->room_bytes, .cap = 1000,
					 .key_len = (size_t)sprintf(m->keys[i], "key%05u",
								    i * 7 % MANY_MAX) };
	volume_reopen(&v);
	alone = device_reads(&v);
	for (i = 0; i < MANY_MAX; i++)
		ok(kv_get_into(v.db, NULL, m->items[i].key, m->items[i].key_len, value, sizeof(value),
			       &m->items[i].value_len));
	alone = device_reads(&v) - alone;
	volume_reopen(&v);
	together = device_reads(&v);
	ok(kv_get_many(v.db, NULL, MANY_MAX, m->items));
	together = device_reads(&v) - together;
	for (i = 0; i < MANY_MAX; i++) {
		pattern(value, sizeof(value), i * 7 % MANY_MAX);
		must(!m->items[i].err && m->items[i].value_len == sizeof(value));
		must(!memcmp(m->items[i].buf, value, sizeof(value)));
	}
	ck_assert_uint_ge(alone, MANY_MAX);
	ck_assert_uint_le(together, MANY_MAX / 10);
	many_free(m);
	volume_end(&v);
}
END_TEST

static void alone(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
}

/* Pages of a level come in two transfers, and what the first one brings is looked at beside the second. */
START_TEST(both_halves_are_awaited)
{
	uint32_t i, begun, misses;
	uint8_t value[100];
	kv_stat_info st;
	struct volume v;
	struct many *m;
	char key[80];

	late_make(&v, alone);
	m = many_new(&v);
	for (i = 0; i < MANY_MAX * 100; i++) {
		pattern(value, sizeof(value), i);
		ok(kv_put(v.db, NULL, key, (size_t)sprintf(key, "%08u", i), value, sizeof(value), KV_MEMORY));
	}
	volume_reopen(&v);
	for (i = 0; i < MANY_MAX; i++) {
		ask(m, i, 0, ROOM);
		m->items[i].key_len = (size_t)sprintf(m->keys[i], "%08u", i * 100);
	}
	begun = late.begun;
	ok(kv_stat(v.db, &st));
	misses = (uint32_t)st.cache_misses;
	ok(kv_get_many(v.db, NULL, MANY_MAX, m->items));
	for (i = 0; i < MANY_MAX; i++) {
		pattern(value, sizeof(value), i * 100);
		must(!m->items[i].err && m->items[i].value_len == sizeof(value));
		must(!memcmp(m->items[i].buf, value, sizeof(value)));
	}
	ok(kv_stat(v.db, &st));
	must(!late.under_way && late.begun >= begun + 4);
	/* None was read again, alone. */
	must(st.cache_misses - misses <= MANY_MAX + 16);
	many_free(m);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_many");
	TCase *t = tcase_create("many");

	tcase_set_timeout(t, 300); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, same_as_single_gets, 0, WORLDS);
	tcase_add_loop_test(t, an_empty_tree_and_one_leaf, 0, WORLDS);
	tcase_add_loop_test(t, bad_items_and_bad_calls, 0, WORLDS);
	tcase_add_loop_test(t, of_a_frozen_state, 0, WORLDS);
	tcase_add_test(t, of_a_state_that_is_too_old);
	tcase_add_loop_test(t, damaged_values, 0, 2);
	tcase_add_loop_test(t, damaged_leaf, 0, 2);
	tcase_add_loop_test(t, reads_that_fail, 0, 4);
	tcase_add_loop_test(t, memory_that_is_missing, 0, 4);
	tcase_add_test(t, few_transfers);
	tcase_add_test(t, both_halves_are_awaited);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
