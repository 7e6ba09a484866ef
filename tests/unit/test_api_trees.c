/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api_trees.c - kvengine.h: named trees, cursors, read transactions; what they keep through
 * checkpoints, merges, drops and eviction, and what comes back when nobody needs it any more.
 */
#include "tests/unit/volume.h"

/* ---- trees --------------------------------------------------------------------------------------- */

struct names {
	char name[16][65];
	uint64_t count[16];
	int nr, stop_at;
};

static int name_add(void *arg, const char *name, uint64_t n)
{
	struct names *l = arg;

	must(l->nr < 16);
	strcpy(l->name[l->nr], name);
	l->count[l->nr++] = n;
	return l->nr == l->stop_at ? 77 : 0;
}

START_TEST(trees_are_named_listed_and_apart) /* row S3 row S12 */
{
	struct volume v;
	struct names l = { .nr = 0 };
	kv_tree *a, *b, *again, *none;

	volume_make(&v, _i, NULL);
	must_be(kv_tree_open(v.db, "a", 0, &none), KV_E_NOTFOUND);
	error_names(v.dev ? v.dev->name : v.path, "'a'");
	must_be(kv_tree_find(v.db, "a", &none), KV_E_NOTFOUND);
	must(!none && !*kv_last_error());
	must_be(kv_tree_find(v.db, "", &none), KV_E_NOTFOUND);
	memset(l.name[0], 'a', 64);
	must_be(kv_tree_find(v.db, l.name[0], &none), KV_E_NOTFOUND);
	ok(kv_tree_open(v.db, "b", KV_TREE_CREATE, &b));
	ok(kv_tree_open(v.db, "a", KV_TREE_CREATE | KV_TREE_NEW, &a));
	must_be(kv_tree_open(v.db, "a", KV_TREE_CREATE | KV_TREE_NEW, &again), KV_E_EXISTS);
	ok(kv_tree_open(v.db, "a", KV_TREE_CREATE, &again));
	must(again == a);
	ok(kv_tree_find(v.db, "a", &again));
	must(again == a);
	ok(kv_tree_find(v.db, "main", &again));
	ok(kv_tree_open(v.db, NULL, 0, &again));
	ck_assert_str_eq(kv_tree_name(again), "main");
	ck_assert_str_eq(kv_tree_name(a), "a");
	ok(put(&v, a, "k", "in a"));
	ok(put(&v, b, "k", "in b"));
	ok(put(&v, b, "l", "in b"));
	ok(put(&v, NULL, "k", "in main"));
	expect(&v, again, "k", "in main");
	volume_crash(&v);
	ok(kv_tree_open(v.db, "a", 0, &a));
	ok(kv_tree_open(v.db, "b", 0, &b));
	expect(&v, a, "k", "in a");
	expect(&v, b, "k", "in b");
	ok(kv_tree_list(v.db, name_add, &l));
	must(l.nr == 3 && !strcmp(l.name[0], "a") && !strcmp(l.name[1], "b") && !strcmp(l.name[2], "main"));
	must(l.count[0] == 1 && l.count[1] == 2 && l.count[2] == 1);
	l.nr = 0;
	l.stop_at = 2;
	must_be(kv_tree_list(v.db, name_add, &l), 77);
	must(l.nr == 2);
	volume_end(&v);
}
END_TEST

START_TEST(tree_names_are_checked)
{
	static const char *const bad[] = { "", "a\nb", "\x7f", "\x1f", "\xff", "\xc3", "a\xc0\xaf",
					   "\xed\xa0\x80", "\xf4\x90\x80\x80", "x\xe2\x82" };
	static const char *const good[] = { "a", " ", "\xc3\xa9t\xc3\xa9", "\xf0\x9f\x8c\xb2", "a/b", "main2",
					    "\"" };
	struct volume v;
	char name[80];
	kv_tree *t;
	size_t i, most;

	volume_make(&v, _i, NULL);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		must_be(kv_tree_open(v.db, bad[i], KV_TREE_CREATE, &t), KV_E_INVALID);
		error_names("name", NULL);
		must_be(kv_tree_drop(v.db, bad[i]), KV_E_INVALID);
	}
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(kv_tree_open(v.db, good[i], KV_TREE_CREATE, &t));
	for (most = 64; most; most--) {
		memset(name, 'n', most);
		name[most] = 0;
		if (!kv_tree_open(v.db, name, KV_TREE_CREATE, &t))
			break;
	}
	ck_assert_uint_eq(most, 64);
	memset(name, 'n', 65);
	name[65] = 0;
	must_be(kv_tree_open(v.db, name, KV_TREE_CREATE, &t), KV_E_INVALID);
	must_be(kv_tree_drop(v.db, "main"), KV_E_INVALID);
	must_be(kv_tree_drop(v.db, NULL), KV_E_INVALID);
	must_be(kv_tree_drop(v.db, "none"), KV_E_NOTFOUND);
	volume_reopen(&v);
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(kv_tree_open(v.db, good[i], 0, &t));
	volume_end(&v);
}
END_TEST

static void fill(struct volume *v, kv_tree *t, uint32_t n, uint32_t seed)
{
	uint8_t value[300];
	uint32_t i, key;

	for (i = 0; i < n; i++) {
		key = __builtin_bswap32(i);
		pattern(value, sizeof(value), i + seed);
		ok(kv_put(v->db, t, &key, 4, value, i % 300, KV_MEMORY));
	}
}

static void verify(struct volume *v, kv_tree *t, uint32_t n, uint32_t seed)
{
	uint8_t value[300];
	uint32_t i, key;

	for (i = 0; i < n; i++) {
		key = __builtin_bswap32(i);
		pattern(value, sizeof(value), i + seed);
		expect_bytes(v, t, &key, 4, value, i % 300);
	}
}

/* Every call with a handle to a dropped tree; a new tree of the name has nothing of the old. row L14 */
START_TEST(drop_and_make_again)
{
	struct volume v;
	kv_tree *t, *new;
	kv_cursor *c;
	kv_reader *rd;
	kv_writer *w;
	uint64_t n;
	void *value;
	size_t len;
	uint32_t round, many = _i % 2 ? 100 : 1500;

	volume_make(&v, _i, NULL);
	for (round = 0; round < 4; round++) {
		ok(kv_tree_open(v.db, "t", KV_TREE_CREATE | KV_TREE_NEW, &t));
		fill(&v, t, many, round);
		if (round % 2)
			volume_crash(&v);
		ok(kv_tree_open(v.db, "t", 0, &t));
		if (round == 2)
			ok(kv_checkpoint(v.db));
		ok(kv_tree_drop(v.db, "t"));
		must_be(kv_tree_drop(v.db, "t"), KV_E_NOTFOUND);
		must_be(kv_tree_open(v.db, "t", 0, &new), KV_E_NOTFOUND);
		must_be(put(&v, t, "k", "v"), KV_E_NOTFOUND);
		must_be(del(&v, t, "k"), KV_E_NOTFOUND);
		must_be(kv_get(v.db, t, "k", 1, &value, &len), KV_E_NOTFOUND);
		must_be(kv_exists(v.db, t, "k", 1, NULL), KV_E_NOTFOUND);
		must_be(kv_inc(v.db, t, "k", 1, 1, NULL, 0), KV_E_NOTFOUND);
		must_be(kv_count(v.db, t, &n), KV_E_NOTFOUND);
		error_names("tree", NULL);
		must_be(kv_cursor_open(v.db, NULL, t, &c), KV_E_NOTFOUND);
		must_be(kv_reader_open(v.db, NULL, t, "\0\0\0\1", 4, &rd, NULL), KV_E_NOTFOUND);
		must_be(kv_writer_open(v.db, t, "k", 1, &w), KV_E_NOTFOUND);
		if (round == 3)
			volume_crash(&v);
		ok(kv_tree_open(v.db, "t", KV_TREE_CREATE | KV_TREE_NEW, &new));
		must(count(&v, new) == 0);
		ok(put(&v, new, "k", "new"));
		expect(&v, new, "k", "new");
		if (round)
			volume_reopen(&v);
		volume_check(&v);
		ok(kv_tree_open(v.db, "t", 0, &new));
		must(count(&v, new) == 1);
		expect(&v, new, "k", "new");
		ok(kv_tree_drop(v.db, "t"));
	}
	volume_end(&v);
}
END_TEST

/* What was replaced before closing is free, and no list of it is left for each opening to read. */
START_TEST(closing_frees_what_was_replaced)
{
	uint32_t i, key, many = 120000;
	struct volume v;

	volume_make(&v, _i, NULL);
	fill(&v, NULL, many, 1);
	for (i = 0; i < 4; i++)
		ok(kv_checkpoint(v.db));
	/* Every other leaf or so. */
	for (i = 0; i < many; i += 200) {
		key = __builtin_bswap32(i);
		ok(kv_put(v.db, NULL, &key, 4, "new", 3, KV_MEMORY));
	}
	volume_close(&v);
	v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&v);
	must(v.st.pending_free_bytes < v.st.tree_bytes / 16);
	volume_end(&v);
}
END_TEST

static bool came_back(const kv_stat_info *st, const kv_stat_info *full, const kv_stat_info *base)
{
	return st->tree_bytes <= base->tree_bytes + (full->tree_bytes - base->tree_bytes) / 3 +
					 16 * st->frame_bytes &&
	       st->live_bytes == base->live_bytes && st->segments_log <= base->segments_log + 8 &&
	       st->pending_free_bytes <= base->pending_free_bytes + 8 * st->segment_bytes;
}

/*
 * Deleted from the volume in steps, with checkpoints; in some rounds the process dies at once, in others on
 * the way. The space comes back. row S13
 */
START_TEST(space_of_a_dropped_tree_comes_back)
{
	struct volume v;
	kv_stat_info st, full, base;
	uint32_t i, round, many = _i % 2 ? 300 : 20000;
	uint64_t allocated[6];
	bool dies;
	kv_tree *t;

	volume_make(&v, _i, NULL);
	fill(&v, NULL, 50, 1);
	for (i = 0; i < 4; i++)
		ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &base));
	for (round = 0; round < 6; round++) {
		ok(kv_tree_open(v.db, "t", KV_TREE_CREATE | KV_TREE_NEW, &t));
		fill(&v, t, many, round);
		ok(kv_checkpoint(v.db));
		ok(kv_stat(v.db, &full));
		must(full.entries == many + 50);
		ok(kv_tree_drop(v.db, "t"));
		if (round % 3 == 1)
			volume_crash(&v);
		dies = round % 3 == 2;
		/* The worker takes it away; checkpoints make it free. */
		for (i = 0; i < 3000; i++) {
			ok(kv_checkpoint(v.db));
			ok(kv_stat(v.db, &st));
			if (dies && st.tree_bytes < full.tree_bytes) {
				dies = false;
				volume_crash(&v);
				continue;
			}
			allocated[round] = st.segments - st.segments_free;
			/* What is pending, and the log, may be half as much again; that comes back, too. */
			if (came_back(&st, &full, &base) &&
			    (round < 5 || allocated[5] <= allocated[1] + allocated[1] / 2))
				break;
			usleep(3000);
		}
		if (i == 3000)
			ck_abort_msg("tree bytes %llu of %llu, live %llu of %llu, pending %llu",
				     (unsigned long long)st.tree_bytes, (unsigned long long)full.tree_bytes,
				     (unsigned long long)st.live_bytes, (unsigned long long)full.live_bytes,
				     (unsigned long long)st.pending_free_bytes);
		must(!dies && st.entries == 50 && st.trees == 1);
		volume_check(&v);
		volume_reopen(&v);
		verify(&v, NULL, 50, 1);
	}
	/* The volume does not grow any more. */
	ck_assert_uint_le(allocated[5], allocated[1] + allocated[1] / 2);
	volume_end(&v);
}
END_TEST

/* ---- cursors: row S1 row S2 row H7 --------------------------------------------------------------- */

#define KEYS 2000u

/* Key of number i: big endian, every second number; so that seeks fall between, too. */
static void number_key(uint8_t *key, uint32_t i)
{
	uint32_t be = __builtin_bswap32(2 * i + 1);

	memcpy(key, &be, 4);
}

static uint32_t keys_nr(int world)
{
	return world % 2 ? 200 : KEYS;
}

static void numbers_make(struct volume *v, int world)
{
	uint8_t key[4];
	uint32_t i, n = keys_nr(world), at;

	volume_make(v, world, NULL);
	for (i = 0; i < n; i++) {
		at = (uint32_t)(((uint64_t)i * 7919 + 13) % n);
		number_key(key, at);
		ok(kv_put(v->db, NULL, key, 4, &at, 4, KV_MEMORY | KV_PUT_NEW));
	}
}

/* The cursor stands on number i. */
static void stands_on(kv_cursor *c, uint32_t i)
{
	const void *key, *value;
	uint8_t want[4];
	uint64_t vlen = 0;
	size_t len;

	number_key(want, i);
	ok(kv_cursor_key(c, &key, &len));
	must(len == 4 && !memcmp(key, want, 4));
	ok(kv_cursor_value(c, &value, &len));
	must(len == 4 && !memcmp(value, &i, 4));
	ok(kv_cursor_value_len(c, &vlen));
	must(vlen == 4);
}

static void walk(kv_cursor *c, uint32_t from, uint32_t to)
{
	uint32_t i;

	if (from == to) {
		must_be(kv_cursor_first(c), KV_E_NOTFOUND);
		must_be(kv_cursor_last(c), KV_E_NOTFOUND);
		return;
	}
	ok(kv_cursor_first(c));
	for (i = from; i < to; i++) {
		stands_on(c, i);
		must_be(kv_cursor_next(c), i + 1 < to ? KV_OK : KV_E_NOTFOUND);
	}
	ok(kv_cursor_last(c));
	for (i = to; i-- > from;) {
		stands_on(c, i);
		must_be(kv_cursor_prev(c), i > from ? KV_OK : KV_E_NOTFOUND);
	}
}

START_TEST(cursor_walks_and_seeks)
{
	struct volume v;
	kv_cursor *c;
	uint32_t i, n = keys_nr(_i), be;
	uint8_t key[4];
	const void *p;
	size_t len;

	numbers_make(&v, _i);
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	must_be(kv_cursor_key(c, &p, &len), KV_E_INVALID);
	must_be(kv_cursor_value(c, &p, &len), KV_E_INVALID);
	must_be(kv_cursor_next(c), KV_E_INVALID);
	must_be(kv_cursor_prev(c), KV_E_INVALID);
	error_names("position", NULL);
	walk(c, 0, n);
	for (i = 0; i < n; i++) {
		number_key(key, i);
		ok(kv_cursor_seek(c, key, 4));
		stands_on(c, i);
		ok(kv_cursor_seek_le(c, key, 4));
		stands_on(c, i);
		must_be(kv_cursor_next(c), i + 1 < n ? KV_OK : KV_E_NOTFOUND);
		be = __builtin_bswap32(2 * i); /* just below */
		ok(kv_cursor_seek(c, &be, 4));
		stands_on(c, i);
		must_be(kv_cursor_seek_le(c, &be, 4), i ? KV_OK : KV_E_NOTFOUND);
		if (i)
			stands_on(c, i - 1);
		ok(kv_cursor_seek_le(c, "\xff", 1));
		stands_on(c, n - 1);
	}
	must_be(kv_cursor_seek(c, "\xff", 1), KV_E_NOTFOUND);
	must_be(kv_cursor_key(c, &p, &len), KV_E_INVALID);
	ok(kv_cursor_seek(c, "", 0));
	stands_on(c, 0);
	ok(kv_cursor_next(c));
	ok(kv_cursor_prev(c));
	stands_on(c, 0);
	/* A cursor's own key is a good argument. */
	ok(kv_cursor_last(c));
	ok(kv_cursor_key(c, &p, &len));
	ok(kv_cursor_seek(c, p, len));
	stands_on(c, n - 1);
	kv_cursor_close(c);
	volume_end(&v);
}
END_TEST

START_TEST(cursor_bounds) /* row Y2 row Y5 */
{
	struct volume v;
	kv_cursor *c;
	uint32_t n = keys_nr(_i), from, to, step = _i % 2 ? 7 : 97;
	uint8_t a[4], b[4], long_key[8192] = { 0 };

	numbers_make(&v, _i);
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	for (from = 0; from < n; from += step)
		for (to = from; to < n; to += step * 3) {
			number_key(a, from);
			number_key(b, to);
			ok(kv_cursor_bounds(c, a, 4, b, 4));
			walk(c, from, to);
			if (from == to)
				continue;
			ok(kv_cursor_seek(c, "\0", 1));
			stands_on(c, from);
			ok(kv_cursor_seek_le(c, "\xff", 1));
			stands_on(c, to - 1);
			must_be(kv_cursor_seek(c, b, 4), KV_E_NOTFOUND);
			must_be(kv_cursor_seek_le(c, "\0", 1), KV_E_NOTFOUND);
		}
	number_key(a, n / 2);
	ok(kv_cursor_bounds(c, a, 4, NULL, 0));
	walk(c, n / 2, n);
	ok(kv_cursor_bounds(c, NULL, 0, a, 4));
	walk(c, 0, n / 2);
	ok(kv_cursor_first(c));
	must_be(kv_cursor_bounds(c, long_key, v.st.key_max + 1, NULL, 0), KV_E_TOOBIG);
	error_names("key", NULL);
	stands_on(c, 0); /* an error changes nothing */
	ok(kv_cursor_bounds(c, NULL, 0, NULL, 0)); /* resets the position */
	must_be(kv_cursor_next(c), KV_E_INVALID);
	walk(c, 0, n);
	number_key(b, 3);
	ok(kv_cursor_bounds(c, a, 4, b, 4)); /* upside down: nothing */
	walk(c, 0, 0);
	kv_cursor_close(c);
	volume_end(&v);
}
END_TEST

START_TEST(cursor_on_nothing)
{
	struct volume v;
	kv_cursor *c;
	kv_tree *t;
	int round;

	volume_make(&v, _i, NULL);
	ok(kv_tree_open(v.db, "t", KV_TREE_CREATE, &t));
	for (round = 0; round < 2; round++) { /* never filled; filled and emptied */
		ok(kv_cursor_open(v.db, NULL, t, &c));
		walk(c, 0, 0);
		must_be(kv_cursor_seek(c, "a", 1), KV_E_NOTFOUND);
		must_be(kv_cursor_seek_le(c, "a", 1), KV_E_NOTFOUND);
		ok(put(&v, t, "a", "1"));
		walk(c, 0, 0); /* frozen */
		kv_cursor_close(c);
		ok(del(&v, t, "a"));
	}
	volume_end(&v);
}
END_TEST

/* Values of each kind through a cursor; too big ones are refused, not cut. */
START_TEST(cursor_values)
{
	struct volume v;
	kv_cursor *c;
	uint8_t *bytes;
	const void *p;
	size_t len, size[4], i;
	uint64_t vlen;
	char key[8];

	volume_make(&v, _i, NULL);
	size[0] = 0;
	size[1] = v.st.inline_max;
	size[2] = v.st.chunk_bytes;
	size[3] = 2 * (size_t)v.st.chunk_bytes + 1;
	bytes = malloc((17 << 20) + size[3]);
	for (i = 0; i < 4; i++) {
		snprintf(key, sizeof(key), "k%zu", i);
		pattern(bytes, size[i], i + 5);
		ok(kv_put(v.db, NULL, key, 2, bytes, size[i], 0));
	}
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	ok(kv_cursor_first(c));
	for (i = 0; i < 4; i++) {
		pattern(bytes, size[i], i + 5);
		ok(kv_cursor_value_len(c, &vlen));
		must(vlen == size[i]);
		ok(kv_cursor_value(c, &p, &len));
		must(len == size[i] && !memcmp(p, bytes, len));
		must_be(kv_cursor_next(c), i < 3 ? KV_OK : KV_E_NOTFOUND);
	}
	kv_cursor_close(c);
	if (_i == MEM_DEFAULT) {
		memset(bytes, 7, 17 << 20);
		ok(kv_put(v.db, NULL, "huge", 4, bytes, 17 << 20, 0));
		ok(kv_cursor_open(v.db, NULL, NULL, &c));
		ok(kv_cursor_first(c));
		must_be(kv_cursor_value(c, &p, &len), KV_E_TOOBIG);
		error_names("stream", NULL);
		ok(kv_cursor_value_len(c, &vlen));
		must(vlen == 17 << 20);
		kv_cursor_close(c);
	}
	free(bytes);
	volume_end(&v);
}
END_TEST

/* ---- read transactions: row S16 CONTRACT C4 ------------------------------------------------------- */

static void read_verify(kv_read *r, kv_tree *t, uint32_t n, uint32_t seed)
{
	uint8_t value[300], buf[300];
	uint32_t i, key;
	void *got;
	size_t len;

	for (i = 0; i < n; i++) {
		key = __builtin_bswap32(i);
		pattern(value, sizeof(value), i + seed);
		if (i % 2) {
			ok(kv_read_get_into(r, t, &key, 4, buf, sizeof(buf), &len));
			must(len == i % 300 && !memcmp(buf, value, len));
		} else {
			ok(kv_read_get(r, t, &key, 4, &got, &len));
			must(len == i % 300 && !memcmp(got, value, len));
			kv_free(got);
		}
	}
}

static void read_walk(struct volume *v, kv_read *r, kv_tree *t, uint32_t n)
{
	const void *key;
	uint32_t i, be;
	kv_cursor *c;
	size_t len;
	int err;

	ok(kv_cursor_open(v->db, r, t, &c));
	err = kv_cursor_first(c);
	for (i = 0; !err; i++) {
		be = __builtin_bswap32(i);
		ok(kv_cursor_key(c, &key, &len));
		must(len == 4 && !memcmp(key, &be, 4));
		err = kv_cursor_next(c);
	}
	must(err == KV_E_NOTFOUND && i == n);
	kv_cursor_close(c);
}

static void tight(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
	opt->checkpoint_bytes = 256 << 10;
	opt->read_pin_bytes = 16ull << 30;
}

START_TEST(a_read_sees_its_state_through_everything)
{
	struct volume v;
	kv_tree *t, *other;
	kv_read *r[3];
	uint32_t i, key, n = _i % 2 ? 150 : 1000;
	size_t len;

	volume_make(&v, _i, tight);
	ok(kv_tree_open(v.db, "t", KV_TREE_CREATE, &t));
	fill(&v, t, n, 1);
	ok(kv_read_begin(v.db, &r[0]));
	fill(&v, t, n, 2);
	ok(kv_read_begin(v.db, &r[1]));
	ok(kv_checkpoint(v.db));
	read_verify(r[0], t, n, 1);
	/* leaves merge */
	for (i = 0; i < n; i++) {
		key = __builtin_bswap32(i);
		if (i % 16)
			ok(kv_del(v.db, t, &key, 4, KV_MEMORY));
	}
	ok(kv_read_begin(v.db, &r[2]));
	read_verify(r[1], t, n, 2);
	ok(kv_tree_open(v.db, "later", KV_TREE_CREATE, &other));
	fill(&v, other, n, 9); /* evicts */
	ok(kv_checkpoint(v.db));
	must_be(kv_read_get_into(r[2], other, "\0\0\0\1", 4, &key, 4, &len), KV_E_NOTFOUND);
	ok(kv_tree_drop(v.db, "t"));
	for (i = 0; i < 20; i++) {
		ok(kv_checkpoint(v.db));
		usleep(2000);
	}
	fill(&v, other, n, 10);
	read_verify(r[0], t, n, 1);
	read_verify(r[1], t, n, 2);
	read_walk(&v, r[0], t, n);
	kv_read_end(r[0]);
	ok(kv_checkpoint(v.db));
	fill(&v, other, n, 11);
	read_verify(r[1], t, n, 2);
	read_walk(&v, r[1], t, n);
	kv_read_end(r[1]);
	for (i = 0; i < n; i += 16) {
		key = __builtin_bswap32(i);
		must_be(kv_read_get_into(r[2], t, &key, 4, &key, 0, &len),
			i % 300 ? KV_E_TOOBIG : KV_OK);
	}
	kv_read_end(r[2]);
	for (i = 0; i < 6; i++)
		ok(kv_checkpoint(v.db));
	verify(&v, other, n, 11);
	volume_end(&v);
}
END_TEST

static void pinned_little(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
	opt->read_pin_bytes = 100000;
}

START_TEST(a_read_that_holds_too_much_is_too_old)
{
	struct volume v;
	kv_read *r, *young;
	kv_cursor *c, *own;
	kv_reader *rd;
	uint8_t *big, buf[300];
	uint32_t i, n = _i % 2 ? 150 : 3000, round;
	size_t len, big_len;
	const void *key;

	volume_make(&v, _i, pinned_little);
	big_len = 3 * (size_t)v.st.chunk_bytes;
	big = calloc(1, big_len);
	ok(kv_put(v.db, NULL, "zbig", 4, big, big_len, 0));
	fill(&v, NULL, n, 0);
	ok(kv_read_begin(v.db, &r));
	ok(kv_cursor_open(v.db, r, NULL, &c));
	ok(kv_cursor_open(v.db, NULL, NULL, &own));
	ok(kv_cursor_first(c));
	ok(kv_cursor_first(own));
	ok(kv_reader_open(v.db, r, NULL, "zbig", 4, &rd, NULL));
	ok(kv_reader_read(rd, buf, 10, &len));
	for (round = 0; round < 40; round++) {
		fill(&v, NULL, n, round + 1);
		ok(kv_checkpoint(v.db));
		if (kv_read_get_into(r, NULL, "\0\0\0\1", 4, buf, sizeof(buf), &len) == KV_E_TOOOLD)
			break;
	}
	must(round < 40);
	error_names("too old", NULL);
	must_be(kv_read_get(r, NULL, "\0\0\0\1", 4, (void **)&key, &len), KV_E_TOOOLD);
	must_be(kv_cursor_first(c), KV_E_TOOOLD);
	must_be(kv_cursor_next(own), KV_E_TOOOLD);
	must_be(kv_reader_seek(rd, v.st.chunk_bytes), KV_OK);
	must_be(kv_reader_read(rd, buf, 10, &len), KV_E_TOOOLD);
	ok(kv_read_begin(v.db, &young));
	for (i = 1; i < 100; i++) {
		uint32_t be = __builtin_bswap32(i);

		ok(kv_read_get_into(young, NULL, &be, 4, buf, sizeof(buf), &len));
	}
	kv_read_end(young);
	kv_reader_close(rd);
	kv_cursor_close(c);
	kv_cursor_close(own);
	kv_read_end(r);
	verify(&v, NULL, n, round + 1);
	free(big);
	volume_end(&v);
}
END_TEST

/* Nothing is held when nobody reads: each read begun and ended leaves the volume small. */
START_TEST(reads_come_and_go)
{
	struct volume v;
	kv_read *r;
	kv_stat_info st;
	uint32_t i, n = _i % 2 ? 60 : 600;

	volume_make(&v, _i, tight);
	for (i = 0; i < 60; i++) {
		fill(&v, NULL, n, i);
		ok(kv_read_begin(v.db, &r));
		fill(&v, NULL, n, i + 1);
		read_verify(r, NULL, n, i);
		kv_read_end(r);
		if (i % 5 == 0)
			ok(kv_checkpoint(v.db));
		ok(kv_stat(v.db, &st));
		must(st.readers == 0);
	}
	for (i = 0; i < 4; i++)
		ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &st));
	/* Besides the log between checkpoints. */
	ck_assert_uint_le(st.live_bytes + st.tree_bytes, 400 * (uint64_t)n + 40 * st.frame_bytes);
	volume_end(&v);
}
END_TEST

/* ---- eviction and merging ------------------------------------------------------------------------- */

/* 30 MiB of inline values in a cache of 1 MiB. row H11 */
START_TEST(much_data_in_a_small_cache)
{
	struct volume v;
	uint8_t value[300];
	kv_stat_info st;
	uint32_t i, at, n = 110000;

	volume_make(&v, _i, tight);
	for (i = 0; i < n; i++) {
		at = (uint32_t)(((uint64_t)i * 48271) % 2147483647 % n);
		pattern(value, sizeof(value), at);
		ok(kv_put(v.db, NULL, &at, 4, value, 240 + at % 60, KV_MEMORY));
	}
	for (i = 0; i < n; i++) {
		at = (uint32_t)(((uint64_t)i * 48271) % 2147483647 % n);
		pattern(value, sizeof(value), at);
		expect_bytes(&v, NULL, &at, 4, value, 240 + at % 60);
		if (i % 10000 == 0) {
			ok(kv_stat(v.db, &st));
			ck_assert_uint_le(st.cache_used_bytes, 2 << 20);
		}
	}
	ok(kv_stat(v.db, &st));
	must(st.cache_misses > 1000);
	volume_reopen(&v);
	volume_end(&v);
}
END_TEST

/*
 * When the system asks, clean pages and values go, but for the index of these, a word for 512 bytes of the
 * cache; nothing is lost. Waits for the worker, which must come.
 */
START_TEST(memory_is_given_back)
{
	struct volume v;
	kv_stat_info before, st;
	uint32_t n = _i % 2 ? 300 : 20000;
	uint64_t index, least;
	int tries;

	volume_make(&v, _i, NULL);
	fill(&v, NULL, n, 1);
	ok(kv_checkpoint(v.db));
	volume_check(&v);
	ok(kv_stat(v.db, &before));
	index = before.cache_bytes / 64;
	must(before.cache_used_bytes > index);
	least = (before.cache_used_bytes - index) / 4 + index;
	must(kvp_reclaim_run(1 << 20) > 0);
	for (tries = 0; tries < 6000; tries++) {
		ok(kv_stat(v.db, &st));
		if (st.cache_used_bytes <= least)
			break;
		usleep(10000);
	}
	ck_assert_uint_le(st.cache_used_bytes, least);
	must(count(&v, NULL) == n);
	volume_check(&v);
	volume_end(&v);
}
END_TEST

/* Deleting in several orders shrinks the tree; it grows again. row L9 */
START_TEST(trees_shrink_and_grow)
{
	struct volume v;
	kv_stat_info full, st;
	uint32_t i, key, order, n = _i % 2 ? 300 : 8000;
	int j;

	volume_make(&v, _i, NULL);
	for (order = 0; order < 4; order++) {
		fill(&v, NULL, n, order);
		ok(kv_checkpoint(v.db));
		ok(kv_stat(v.db, &full));
		for (i = 0; i < n; i++) {
			key = order == 0 ? i : order == 1 ? n - 1 - i :
			      order == 2 ? (uint32_t)(((uint64_t)i * 7919) % n) :
			      i % 2 ? i / 2 : n - 1 - i / 2;
			key = __builtin_bswap32(key);
			ok(kv_del(v.db, NULL, &key, 4, KV_MEMORY));
			if (i == n / 2)
				volume_check(&v);
		}
		must(count(&v, NULL) == 0);
		for (j = 0; j < 4; j++) {
			fill(&v, NULL, 1, (uint32_t)j);
			ok(kv_checkpoint(v.db));
		}
		ok(kv_stat(v.db, &st));
		ck_assert_uint_le(st.tree_bytes, full.tree_bytes / 2 + 16 * st.frame_bytes);
		must(st.live_bytes < 1000);
	}
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_trees");
	TCase *t = tcase_create("trees");

	tcase_set_timeout(t, 400); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, trees_are_named_listed_and_apart, 0, WORLDS);
	tcase_add_loop_test(t, tree_names_are_checked, 0, WORLDS);
	tcase_add_loop_test(t, drop_and_make_again, 0, WORLDS);
	tcase_add_loop_test(t, closing_frees_what_was_replaced, FILE_DEFAULT, FILE_TINY);
	tcase_add_loop_test(t, space_of_a_dropped_tree_comes_back, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("cursors");
	tcase_add_loop_test(t, cursor_walks_and_seeks, 0, WORLDS);
	tcase_add_loop_test(t, cursor_bounds, 0, WORLDS);
	tcase_add_loop_test(t, cursor_on_nothing, 0, WORLDS);
	tcase_add_loop_test(t, cursor_values, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("reads");
	tcase_set_timeout(t, 400);
	tcase_add_loop_test(t, a_read_sees_its_state_through_everything, 0, WORLDS);
	tcase_add_loop_test(t, a_read_that_holds_too_much_is_too_old, 0, WORLDS);
	tcase_add_loop_test(t, reads_come_and_go, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("size");
	tcase_set_timeout(t, 400);
	tcase_add_loop_test(t, much_data_in_a_small_cache, 0, 1);
	tcase_add_loop_test(t, much_data_in_a_small_cache, 2, 3);
	tcase_add_loop_test(t, memory_is_given_back, 0, WORLDS);
	tcase_add_loop_test(t, trees_shrink_and_grow, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
