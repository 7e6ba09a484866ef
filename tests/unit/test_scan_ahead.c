/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_scan_ahead.c - cursors that read ahead: separated values and leaves, upwards, downwards, turning,
 * within bounds, in a cache that is too small; damage and failures, which are those of their entries alone;
 * how few transfers a scan takes. CONTRACT C4 C11 C19.
 */
#include "tests/unit/faulty.h"

#define KEYS 3000u

static uint64_t chance_state;

static uint32_t chance(uint32_t below)
{
	return volume_chance(&chance_state, below);
}

static size_t key_of(char *key, uint32_t id)
{
	return (size_t)sprintf(key, "a/prefix/%05u", id);
}

/* All separated, but for those between. */
static size_t value_len_of(const struct volume *v, uint32_t id)
{
	if (id % 7 == 3)
		return id % 60;
	if (id % 500 == 499)
		return v->st.chunk_bytes - id % 10;
	return v->st.inline_max + 1 + id % 150;
}

static void store(struct volume *v, uint32_t id, uint64_t seed)
{
	size_t len = value_len_of(v, id);
	uint8_t *value = malloc(len + 1);
	char key[40];

	pattern(value, len, id + seed);
	ok(kv_put(v->db, NULL, key, key_of(key, id), value, len, KV_MEMORY));
	free(value);
}

/* In the order of keys, or in any. */
static void store_all(struct volume *v, bool any, uint64_t seed)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		store(v, any ? i * 1009 % KEYS : i, seed);
}

/* The cursor stands on this entry, and says so twice. */
static void at_entry(struct volume *v, kv_cursor *c, uint32_t id, bool value_too)
{
	const void *key, *value, *again;
	size_t len, want_len = value_len_of(v, id);
	uint8_t *want;
	char name[40];

	ok(kv_cursor_key(c, &key, &len));
	must(len == key_of(name, id) && !memcmp(key, name, len));
	if (!value_too)
		return;
	ok(kv_cursor_value(c, &value, &len));
	must(len == want_len);
	want = malloc(want_len + 1);
	pattern(want, want_len, id);
	if (memcmp(value, want, len))
		ck_abort_msg("key %u: a wrong value of %zu bytes", id, len);
	if (chance(10) == 0) {
		ok(kv_cursor_value(c, &again, &len));
		must(len == want_len && !memcmp(again, want, len));
	}
	free(want);
}

/* Up and down, all of it. */
static void whole_scans(struct volume *v)
{
	kv_cursor *c;
	uint32_t i;

	ok(kv_cursor_open(v->db, NULL, NULL, &c));
	ok(kv_cursor_first(c));
	for (i = 0; i < KEYS; i++) {
		at_entry(v, c, i, true);
		must_be(kv_cursor_next(c), i + 1 < KEYS ? KV_OK : KV_E_NOTFOUND);
	}
	ok(kv_cursor_last(c));
	for (i = KEYS; i-- > 0;) {
		at_entry(v, c, i, true);
		must_be(kv_cursor_prev(c), i ? KV_OK : KV_E_NOTFOUND);
	}
	kv_cursor_close(c);
}

/* Runs of any length in both directions, with jumps, within bounds; not every value is asked for. */
static void random_walks(struct volume *v, unsigned int runs)
{
	uint32_t from = chance(KEYS / 2), to = from + 1 + chance(KEYS / 2), at, steps, skip;
	char a[40], b[40];
	kv_cursor *c;
	bool up;

	ok(kv_cursor_open(v->db, NULL, NULL, &c));
	ok(kv_cursor_bounds(c, a, key_of(a, from), b, key_of(b, to)));
	ok(kv_cursor_first(c));
	for (at = from; runs--;) {
		if (chance(5) == 0) {
			at = from + chance(to - from);
			ok(chance(2) ? kv_cursor_seek(c, a, key_of(a, at)) :
				       kv_cursor_seek_le(c, a, key_of(a, at)));
		}
		up = chance(2);
		skip = 1 + chance(4) * chance(4);
		for (steps = chance(300); steps; steps--) {
			at_entry(v, c, at, steps % skip == 0);
			if (at == (up ? to - 1 : from))
				break;
			at += up ? 1u : -1u;
			ok(up ? kv_cursor_next(c) : kv_cursor_prev(c));
		}
		at_entry(v, c, at, true);
	}
	kv_cursor_close(c);
}

START_TEST(what_was_stored)
{
	struct volume v;
	uint32_t i;

	chance_state = 3;
	volume_make(&v, _i % WORLDS, volume_tight);
	store_all(&v, _i >= WORLDS, 0);
	whole_scans(&v);
	ok(kv_checkpoint(v.db));
	for (i = 0; i < 10; i++)
		random_walks(&v, 10);
	volume_reopen(&v);
	whole_scans(&v);
	volume_crash(&v);
	for (i = 0; i < 20; i++)
		random_walks(&v, 10);
	volume_end(&v);
}
END_TEST

/* What a cursor has read ahead is of its state; writers and cleaners do what they like meanwhile. */
START_TEST(of_a_frozen_state)
{
	struct volume v;
	kv_cursor *c;
	uint32_t i;

	volume_make(&v, _i, volume_tight);
	store_all(&v, true, 0);
	ok(kv_cursor_open(v.db, NULL, NULL, &c));
	ok(kv_cursor_first(c));
	for (i = 0; i < KEYS; i++) {
		at_entry(&v, c, i, true);
		if (i % 500 == 20) {
			store_all(&v, true, 1 + i);
			ok(kv_checkpoint(v.db));
		}
		must_be(kv_cursor_next(c), i + 1 < KEYS ? KV_OK : KV_E_NOTFOUND);
	}
	kv_cursor_close(c);
	volume_end(&v);
}
END_TEST

/* ---- damage and failures ------------------------------------------------------------------------ */

/* The value of key id, wherever it stands. */
static void spoil(struct volume *v, uint32_t id)
{
	size_t len = value_len_of(v, id);
	uint8_t *want = malloc(len);

	pattern(want, len, id);
	must(volume_spoil(v, want, len) > 0);
	free(want);
}

START_TEST(damaged_values)
{
	static const uint32_t bad[] = { 0, 40, 41, 700, 1500, 2998 };
	const void *value;
	struct volume v;
	kv_cursor *c;
	uint32_t i, k, found;
	size_t len;
	int down;

	volume_make(&v, _i ? MEM_TINY : MEM_DEFAULT, volume_tight);
	v.opt.log = volume_silent;
	store_all(&v, false, 0);
	volume_close(&v);
	for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		spoil(&v, bad[k]);
	for (down = 0; down < 2; down++) {
		volume_open(&v);
		ok(kv_cursor_open(v.db, NULL, NULL, &c));
		ok(down ? kv_cursor_last(c) : kv_cursor_first(c));
		for (found = 0, i = 0; i < KEYS; i++) {
			uint32_t id = down ? KEYS - 1 - i : i, is = 0;

			for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
				is |= bad[k] == id;
			found += is;
			if (is) {
				must_be(kv_cursor_value(c, &value, &len), KV_E_CORRUPT);
				error_names("kvs-fsck", NULL);
			} else {
				at_entry(&v, c, id, true);
			}
			must_be(down ? kv_cursor_prev(c) : kv_cursor_next(c),
				i + 1 < KEYS ? KV_OK : KV_E_NOTFOUND);
		}
		must(found == sizeof(bad) / sizeof(bad[0]));
		kv_cursor_close(c);
		volume_close(&v);
	}
	volume_end(&v);
}
END_TEST

/* A scan of 200 entries. Each step succeeds or fails with this error, and then succeeds when asked again. */
static uint32_t scan_or(struct volume *v, kv_db *db, int want)
{
	uint32_t i, failed = 0;
	const void *value;
	kv_cursor *c;
	char key[40];
	size_t len;
	int err;

	while ((err = kv_cursor_open(db, NULL, NULL, &c))) {
		must_be(err, want);
		failed++;
	}
	for (i = 1000; i < 1200; i++) {
		while ((err = i > 1000 ? kv_cursor_next(c) : kv_cursor_seek(c, key, key_of(key, i)))) {
			must_be(err, want);
			failed++;
			must(failed < 100);
			/* A scan goes on behind a leaf that cannot be read. This one wants it. */
			err = kv_cursor_seek(c, key, key_of(key, i));
			if (!err)
				break;
			must_be(err, want);
		}
		while ((err = kv_cursor_value(c, &value, &len))) {
			must_be(err, want);
			failed++;
			must(failed < 100);
		}
		at_entry(v, c, i, true);
	}
	kv_cursor_close(c);
	return failed;
}

/* Every n-th read, allocation; once. */
START_TEST(failures_pass)
{
	struct faulty f;
	bool hit = true;
	uint32_t n;

	faulty_begin(&f, _i % 2 ? MEM_TINY : MEM_DEFAULT, _i < 2 ? FAULTY_READ : FAULTY_MEMORY);
	store_all(&f.v, true, 0);
	volume_close(&f.v);
	for (n = 1; hit; n += 1 + n / 30) {
		faulty_open(&f);
		faulty_arm(&f, n, false);
		scan_or(&f.v, f.db, faulty_error(&f));
		hit = faulty_disarm(&f);
		ok(kv_close(f.db));
	}
	must(n > 10);
	volume_end(&f.v);
}
END_TEST

/* ---- what it costs ------------------------------------------------------------------------------- */

static struct volume *counted;
static u64 batches, most; /* atomic: the log's writer sends some, too */

static int count_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	kvp_add(&batches, 1ull);
	if (n > kvp_load(&most))
		kvp_store(&most, (u64)n);
	return counted->own->batch(dev, ios, n);
}

static uint64_t reads(struct volume *v)
{
	kv_stat_info st;

	ok(kv_stat(v->db, &st));
	return st.device_reads;
}

static uint64_t scan_reads(struct volume *v, bool down, bool values)
{
	uint64_t before;
	kv_cursor *c;
	uint32_t i;

	volume_reopen(v);
	kvp_store(&batches, 0ull);
	kvp_store(&most, 0ull);
	before = reads(v);
	ok(kv_cursor_open(v->db, NULL, NULL, &c));
	ok(down ? kv_cursor_last(c) : kv_cursor_first(c));
	for (i = 0; i < KEYS; i++) {
		at_entry(v, c, down ? KEYS - 1 - i : i, values);
		must_be(down ? kv_cursor_prev(c) : kv_cursor_next(c), i + 1 < KEYS ? KV_OK : KV_E_NOTFOUND);
	}
	kv_cursor_close(c);
	return reads(v) - before;
}

/* Values that stand in the order of keys come many in a transfer; of any order, many transfers at once. */
START_TEST(few_transfers)
{
	uint64_t keys_only, n;
	struct volume v;
	int any, down;

	for (any = 0; any < 2; any++) {
		volume_make(&v, MEM_DEFAULT, volume_tight);
		counted = &v;
		v.kept.batch = count_batch;
		store_all(&v, any, 0);
		for (down = 0; down < 2; down++) {
			keys_only = scan_reads(&v, down, false);
			ck_assert_uint_ge(keys_only, 8); /* leaves */
			ck_assert_uint_gt(kvp_load(&batches), 0);
			ck_assert_uint_gt(kvp_load(&most), 2);
			n = scan_reads(&v, down, true) - keys_only;
			ck_assert_uint_lt(n, any ? KEYS / 2 : KEYS / 20);
			ck_assert_uint_gt(kvp_load(&batches), any ? KEYS / 200 : 10);
		}
		volume_end(&v);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("scan_ahead");
	TCase *t = tcase_create("scan");

	tcase_set_timeout(t, 300); /* a sanitizer on a busy machine */
	tcase_add_loop_test(t, what_was_stored, 0, 2 * WORLDS);
	tcase_add_loop_test(t, of_a_frozen_state, 0, WORLDS);
	tcase_add_loop_test(t, damaged_values, 0, 2);
	tcase_add_loop_test(t, failures_pass, 0, 4);
	tcase_add_test(t, few_transfers);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
