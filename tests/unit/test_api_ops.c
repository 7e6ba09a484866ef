/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_api_ops.c - kvengine.h: single operations with keys and values of every size, numbers, batches.
 */
#include "tests/unit/volume.h"

/* ---- single operations --------------------------------------------------------------------------- */

START_TEST(keys_of_every_length) /* row K9 row K10 */
{
	struct volume v;
	uint8_t key[8192], buf[16];
	size_t n, len;

	volume_make(&v, _i, NULL);
	must(v.st.key_max < sizeof(key));
	for (n = 0; n < sizeof(key); n++)
		key[n] = (uint8_t)(n * 7);
	for (n = 1; n <= v.st.key_max; n += n < 300 || n > v.st.key_max - 10 ? 1 : 9)
		ok(kv_put(v.db, NULL, key, n, &n, sizeof(n), KV_PUT_NEW));
	must_be(kv_put(v.db, NULL, key, 0, "", 0, 0), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, NULL, 4, "", 0, 0), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, key, v.st.key_max + 1, "", 0, 0), KV_E_TOOBIG);
	error_names("key", NULL);
	must_be(kv_get_into(v.db, NULL, key, v.st.key_max + 1, buf, 16, &len), KV_E_TOOBIG);
	must_be(kv_del(v.db, NULL, key, 0, 0), KV_E_INVALID);
	must_be(kv_exists(v.db, NULL, key, 0, NULL), KV_E_INVALID);
	must_be(kv_put(v.db, NULL, "x", 1, NULL, 4, 0), KV_E_INVALID);
	volume_reopen(&v);
	for (n = 1; n <= v.st.key_max; n += n < 300 || n > v.st.key_max - 10 ? 1 : 9) {
		ok(kv_get_into(v.db, NULL, key, n, buf, 16, &len));
		must(len == sizeof(n) && !memcmp(buf, &n, len));
	}
	volume_end(&v);
}
END_TEST

/* Around each place where the way of storing changes. row H6 row H18 row K10 */
START_TEST(values_of_every_size)
{
	struct volume v;
	size_t at[16], nr = 0, i, j, n;
	uint8_t *bytes, *buf;
	char key[32];

	volume_make(&v, _i, NULL);
	at[nr++] = 0;
	at[nr++] = 1;
	at[nr++] = v.st.inline_max;
	at[nr++] = v.st.key_max;
	at[nr++] = v.st.block_bytes;
	at[nr++] = v.st.chunk_bytes;
	at[nr++] = 2 * (size_t)v.st.chunk_bytes;
	at[nr++] = v.st.segment_bytes;
	at[nr++] = 7 * (size_t)v.st.chunk_bytes + 5;
	bytes = malloc(at[nr - 1] + v.st.segment_bytes + 4);
	buf = malloc(at[nr - 1] + v.st.segment_bytes + 4);
	for (j = 0; j < 2; j++) {
		for (i = 0; i < nr; i++) {
			for (n = at[i] ? at[i] - 1 : 0; n <= at[i] + 1; n++) {
				size_t len = 99;
				uint64_t elen = 99;

				snprintf(key, sizeof(key), "v%zu", n);
				pattern(bytes, n, n + 1);
				if (!j)
					ok(kv_put(v.db, NULL, key, strlen(key), bytes, n, 0));
				expect_bytes(&v, NULL, key, strlen(key), bytes, n);
				ok(kv_exists(v.db, NULL, key, strlen(key), &elen));
				must(elen == n);
				ok(kv_get_into(v.db, NULL, key, strlen(key), buf, n, &len));
				must(len == n && !memcmp(buf, bytes, n));
				if (!n)
					continue;
				len = 0;
				must_be(kv_get_into(v.db, NULL, key, strlen(key), buf, n - 1, &len),
					KV_E_TOOBIG);
				must(len == n);
			}
		}
		volume_reopen(&v);
	}
	free(bytes);
	free(buf);
	volume_end(&v);
}
END_TEST

/* Each way of storing a value, replaced by each other. */
START_TEST(values_change_their_kind)
{
	struct volume v;
	size_t size[4], from, to;
	uint8_t *bytes;

	volume_make(&v, _i, NULL);
	size[0] = 0;
	size[1] = v.st.inline_max;
	size[2] = v.st.inline_max + 1;
	size[3] = 2 * (size_t)v.st.chunk_bytes;
	bytes = malloc(size[3]);
	for (from = 0; from < 4; from++)
		for (to = 0; to < 5; to++) {
			pattern(bytes, size[from], from + 1);
			ok(kv_put(v.db, NULL, "key", 3, bytes, size[from], 0));
			if (to == 4) {
				ok(del(&v, NULL, "key"));
				expect_none(&v, NULL, "key");
				must(count(&v, NULL) == 0);
			} else {
				pattern(bytes, size[to], to + 77);
				ok(kv_put(v.db, NULL, "key", 3, bytes, size[to], 0));
				expect_bytes(&v, NULL, "key", 3, bytes, size[to]);
				must(count(&v, NULL) == 1);
			}
			if (to == 1)
				ok(kv_checkpoint(v.db));
			if (to == 2)
				volume_crash(&v);
		}
	free(bytes);
	volume_end(&v);
}
END_TEST

START_TEST(put_new_put_replace_del) /* row L11 */
{
	struct volume v;
	uint8_t *big;
	size_t n;

	volume_make(&v, _i, NULL);
	n = 2 * (size_t)v.st.chunk_bytes;
	big = calloc(1, n);
	must_be(kv_put(v.db, NULL, "k", 1, "1", 1, KV_PUT_REPLACE), KV_E_NOTFOUND);
	error_names(v.dev ? v.dev->name : v.path, "no such key");
	ok(kv_put(v.db, NULL, "k", 1, "1", 1, KV_PUT_NEW));
	must_be(kv_put(v.db, NULL, "k", 1, "2", 1, KV_PUT_NEW), KV_E_EXISTS);
	error_names("exists", NULL);
	expect(&v, NULL, "k", "1");
	ok(kv_put(v.db, NULL, "k", 1, "3", 1, KV_PUT_REPLACE | KV_SYNCED));
	expect(&v, NULL, "k", "3");
	must_be(kv_put(v.db, NULL, "k", 1, big, n, KV_PUT_NEW), KV_E_EXISTS);
	expect(&v, NULL, "k", "3");
	must_be(kv_put(v.db, NULL, "b", 1, big, n, KV_PUT_REPLACE), KV_E_NOTFOUND);
	ok(kv_put(v.db, NULL, "b", 1, big, n, KV_PUT_NEW | KV_MEMORY));
	ok(kv_put(v.db, NULL, "b", 1, "small", 5, KV_PUT_REPLACE));
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, 7), KV_E_INVALID);	    /* no such durability */
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, 0x1000), KV_E_INVALID); /* no such flag */
	must_be(kv_put(v.db, NULL, "k", 1, "4", 1, KV_PUT_NEW | KV_PUT_REPLACE), KV_E_INVALID);
	must_be(kv_del(v.db, NULL, "k", 1, 9), KV_E_INVALID);
	expect(&v, NULL, "k", "3");
	ok(kv_del(v.db, NULL, "k", 1, KV_SYNCED));
	must_be(del(&v, NULL, "k"), KV_E_NOTFOUND);
	must_be(kv_exists(v.db, NULL, "k", 1, NULL), KV_E_NOTFOUND);
	must(count(&v, NULL) == 1);
	free(big);
	volume_end(&v);
}
END_TEST

/* Each durability after a death of the process; syncing after it. row H9 row Y9 CONTRACT C2 */
START_TEST(durabilities)
{
	struct volume v;
	kv_stat_info st;
	char key[16];
	int i;

	volume_make(&v, _i, NULL);
	for (i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		ok(kv_put(v.db, NULL, key, strlen(key), key, strlen(key), 0));
		if (i % 50 == 7)
			ok(kv_put(v.db, NULL, "s", 1, key, strlen(key), KV_SYNCED));
	}
	ok(kv_stat(v.db, &st));
	must(st.durable_lsn <= st.lsn && st.syncs >= 6);
	volume_crash(&v);
	for (i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		expect(&v, NULL, key, key);
	}
	expect(&v, NULL, "s", "k257");
	ok(kv_put(v.db, NULL, "m", 1, "1", 1, KV_MEMORY));
	expect(&v, NULL, "m", "1");
	ok(kv_sync(v.db));
	ok(kv_stat(v.db, &st));
	ck_assert_uint_eq(st.durable_lsn, st.lsn);
	volume_crash(&v);
	expect(&v, NULL, "m", "1");
	ok(kv_checkpoint(v.db));
	volume_end(&v);
}
END_TEST

/* ---- numbers: row K6 ----------------------------------------------------------------------------- */

static const struct number {
	const char *text;
	int64_t delta;
	int err;
	int64_t result;
} numbers[] = {
	{ "0", 1, 0, 1 },
	{ "42", 1, 0, 43 },
	{ "42", -1, 0, 41 },
	{ "-1", 1, 0, 0 },
	{ "+7", 0, 0, 7 },
	{ "-0", 0, 0, 0 },
	{ "0b101", 1, 0, 6 },
	{ "-0b101", 0, 0, -5 },
	{ "0B1", 0, 0, 1 },
	{ "017", 1, 0, 16 },
	{ "-017", 0, 0, -15 },
	{ "00", 0, 0, 0 },
	{ "5\n", 1, 0, 6 }, /* as echo writes it */
	{ "5\n\n", 1, KV_E_NUMBER, 0 },
	{ "\n", 1, KV_E_NUMBER, 0 },
	{ "0x2a", 1, 0, 43 },
	{ "0X2A", 0, 0, 42 },
	{ "+0xff", 0, 0, 255 },
	{ "-0xFf", 0, 0, -255 },
	{ "9223372036854775807", 0, 0, INT64_MAX },
	{ "9223372036854775806", 1, 0, INT64_MAX },
	{ "9223372036854775807", 1, KV_E_NUMBER, 0 },
	{ "9223372036854775808", 0, KV_E_NUMBER, 0 },
	{ "9223372036854775808", -1, KV_E_NUMBER, 0 },
	{ "99999999999999999999999", 0, KV_E_NUMBER, 0 },
	{ "-9223372036854775808", 0, 0, INT64_MIN },
	{ "-9223372036854775808", -1, KV_E_NUMBER, 0 },
	{ "-9223372036854775809", 0, KV_E_NUMBER, 0 },
	{ "-9223372036854775807", -1, 0, INT64_MIN },
	{ "-9223372036854775808", INT64_MAX, 0, -1 },
	{ "9223372036854775807", INT64_MIN, 0, -1 },
	{ "-1", INT64_MIN, KV_E_NUMBER, 0 },
	{ "0x7fffffffffffffff", 0, 0, INT64_MAX },
	{ "0x8000000000000000", 0, KV_E_NUMBER, 0 },
	{ "-0x8000000000000000", 0, 0, INT64_MIN },
	{ "0777777777777777777777", 0, 0, INT64_MAX },
	{ "01000000000000000000000", 0, KV_E_NUMBER, 0 },
	{ "0b111111111111111111111111111111111111111111111111111111111111111", 0, 0, INT64_MAX },
	{ "-0b1000000000000000000000000000000000000000000000000000000000000000", 0, 0, INT64_MIN },
	{ "0b1000000000000000000000000000000000000000000000000000000000000000", 0, KV_E_NUMBER, 0 },
	{ "", 1, KV_E_NUMBER, 0 },
	{ " 1", 1, KV_E_NUMBER, 0 },
	{ "1 ", 1, KV_E_NUMBER, 0 },
	{ "1\n", 1, 0, 2 },
	{ "-", 1, KV_E_NUMBER, 0 },
	{ "+", 1, KV_E_NUMBER, 0 },
	{ "+-1", 1, KV_E_NUMBER, 0 },
	{ "0x", 1, KV_E_NUMBER, 0 },
	{ "0b", 1, KV_E_NUMBER, 0 },
	{ "0b2", 1, KV_E_NUMBER, 0 },
	{ "08", 1, KV_E_NUMBER, 0 },
	{ "0xg", 1, KV_E_NUMBER, 0 },
	{ "1a", 1, KV_E_NUMBER, 0 },
	{ "1.5", 1, KV_E_NUMBER, 0 },
	{ "abc", 1, KV_E_NUMBER, 0 },
	{ "1_000", 1, KV_E_NUMBER, 0 },
};

START_TEST(inc_number_rules)
{
	struct volume v;
	const struct number *n;
	int64_t result;
	char want[32];
	size_t i;

	volume_make(&v, _i, NULL);
	must_be(kv_inc(v.db, NULL, "k", 1, 1, &result, 0), KV_E_NOTFOUND);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		n = &numbers[i];
		ok(put(&v, NULL, "k", n->text));
		result = 4711;
		if (kv_inc(v.db, NULL, "k", 1, n->delta, &result, 0) != n->err)
			ck_abort_msg("'%s' + %lld: not %d, %s", n->text, (long long)n->delta, n->err,
				     kv_last_error());
		if (n->err) {
			expect(&v, NULL, "k", n->text); /* unchanged */
			must(result == 4711);
			continue;
		}
		ck_assert_msg(result == n->result, "'%s' + %lld gave %lld", n->text,
			      (long long)n->delta, (long long)result);
		snprintf(want, sizeof(want), "%lld", (long long)n->result);
		expect(&v, NULL, "k", want);
	}
	ok(kv_put(v.db, NULL, "k", 1, "1\0002", 3, 0));
	must_be(kv_inc(v.db, NULL, "k", 1, 1, NULL, 0), KV_E_NUMBER);
	volume_end(&v);
}
END_TEST

/* A number among many digits, in a separated and a large value; durable as asked for. */
START_TEST(inc_long_values)
{
	struct volume v;
	int64_t result = 0;
	char *text;
	size_t n;
	int i;

	volume_make(&v, _i, NULL);
	n = 3 * (size_t)v.st.chunk_bytes;
	text = malloc(n);
	memset(text, '7', n);
	ok(kv_put(v.db, NULL, "big", 3, text, n, 0));
	must_be(kv_inc(v.db, NULL, "big", 3, 1, &result, 0), KV_E_NUMBER);
	ok(kv_put(v.db, NULL, "sep", 3, text, v.st.inline_max + 1, 0));
	must_be(kv_inc(v.db, NULL, "sep", 3, 1, &result, 0), KV_E_NUMBER);
	/* With the tiny geometry this is a separated value. */
	memset(text, '0', n);
	text[89] = '5';
	ok(kv_put(v.db, NULL, "zeros", 5, text, 90, 0));
	ok(kv_inc(v.db, NULL, "zeros", 5, 1, &result, 0));
	must(result == 6);
	ok(put(&v, NULL, "n", "0"));
	for (i = 0; i < 1000; i++)
		ok(kv_inc(v.db, NULL, "n", 1, i % 2 ? 3 : -1, NULL, i % 100 ? KV_MEMORY : KV_SYNCED));
	expect(&v, NULL, "n", "1000");
	must_be(kv_inc(v.db, NULL, "n", 1, 1, NULL, 5), KV_E_INVALID);
	must_be(kv_inc(v.db, NULL, "", 0, 1, NULL, 0), KV_E_INVALID);
	volume_crash(&v);
	ok(kv_inc(v.db, NULL, "zeros", 5, 0, &result, 0));
	must(result == 6);
	free(text);
	volume_end(&v);
}
END_TEST

/* ---- batches ------------------------------------------------------------------------------------- */

START_TEST(batch_is_all_or_nothing_across_trees) /* row S4 */
{
	struct volume v;
	kv_tree *users, *names, *gone;
	kv_batch *b;
	int i;
	char k[16], n[16];

	volume_make(&v, _i, NULL);
	ok(kv_tree_open(v.db, "users", KV_TREE_CREATE, &users));
	ok(kv_tree_open(v.db, "names", KV_TREE_CREATE, &names));
	ok(kv_tree_open(v.db, "gone", KV_TREE_CREATE, &gone));
	ok(kv_batch_new(v.db, &b));
	ok(kv_batch_commit(b, 0)); /* empty */
	for (i = 0; i < 100; i++) {
		snprintf(k, sizeof(k), "%03d", i);
		snprintf(n, sizeof(n), "n%d", 99 - i);
		ok(kv_batch_put(b, users, k, 3, n, strlen(n)));
		ok(kv_batch_put(b, names, n, strlen(n), k, 3));
	}
	must(kv_batch_count(b) == 200);
	must(count(&v, users) == 0);
	ok(kv_batch_commit(b, KV_SYNCED));
	must(kv_batch_count(b) == 0);
	must(count(&v, users) == 100 && count(&v, names) == 100);
	/* rename: both trees or none */
	ok(kv_batch_del(b, names, "n99", 3));
	ok(kv_batch_put(b, names, "root", 4, "000", 3));
	ok(kv_batch_put(b, users, "000", 3, "root", 4));
	kv_batch_clear(b);
	must(kv_batch_count(b) == 0);
	ok(kv_batch_commit(b, 0));
	expect(&v, users, "000", "n99");
	/* one operation that cannot be: nothing of the rest */
	ok(kv_batch_put(b, users, "000", 3, "broken", 6));
	ok(kv_batch_put(b, gone, "x", 1, "y", 1));
	ok(kv_tree_drop(v.db, "gone"));
	must_be(kv_batch_commit(b, 0), KV_E_NOTFOUND);
	must(kv_batch_count(b) == 2);
	expect(&v, users, "000", "n99");
	kv_batch_clear(b);
	ok(kv_batch_put(b, users, "000", 3, "broken", 6));
	ok(kv_batch_del(b, gone, "x", 1));
	must_be(kv_batch_commit(b, 0), KV_E_NOTFOUND);
	expect(&v, users, "000", "n99");
	kv_batch_free(b);
	volume_crash(&v);
	ok(kv_tree_open(v.db, "names", 0, &names));
	must(count(&v, names) == 100);
	expect(&v, names, "n99", "000");
	volume_end(&v);
}
END_TEST

START_TEST(batch_order_and_repeated_keys)
{
	struct volume v;
	kv_batch *b;
	uint8_t *big;
	int i;

	volume_make(&v, _i, NULL);
	big = malloc(v.st.chunk_bytes + 1);
	pattern(big, v.st.chunk_bytes + 1, 9);
	ok(kv_batch_new(v.db, &b));
	ok(kv_batch_del(b, NULL, "missing", 7)); /* no error */
	ok(kv_batch_put(b, NULL, "a", 1, "1", 1));
	ok(kv_batch_put(b, NULL, "a", 1, "2", 1));
	ok(kv_batch_put(b, NULL, "b", 1, "1", 1));
	ok(kv_batch_del(b, NULL, "b", 1));
	ok(kv_batch_del(b, NULL, "c", 1));
	ok(kv_batch_put(b, NULL, "c", 1, big, v.st.chunk_bytes));
	for (i = 0; i < 50; i++)
		ok(kv_batch_put(b, NULL, "r", 1, big, (size_t)(v.st.inline_max - 20 + (uint32_t)i)));
	ok(kv_batch_put(b, NULL, "e", 1, NULL, 0));
	ok(kv_batch_commit(b, 0));
	for (i = 0; i < 2; i++) {
		expect(&v, NULL, "a", "2");
		expect_none(&v, NULL, "b");
		expect_bytes(&v, NULL, "c", 1, big, v.st.chunk_bytes);
		expect_bytes(&v, NULL, "r", 1, big, v.st.inline_max + 29);
		expect(&v, NULL, "e", "");
		must(count(&v, NULL) == 4);
		kv_batch_free(b);
		volume_crash(&v);
		ok(kv_batch_new(v.db, &b));
	}
	must_be(kv_batch_put(b, NULL, "", 0, "", 0), KV_E_INVALID);
	must_be(kv_batch_put(b, NULL, "k", 1, NULL, 5), KV_E_INVALID);
	must_be(kv_batch_put(b, NULL, big, v.st.key_max + 1, "", 0), KV_E_TOOBIG);
	must_be(kv_batch_put(b, NULL, "k", 1, big, v.st.chunk_bytes + 1), KV_E_TOOBIG);
	must_be(kv_batch_commit(b, KV_PUT_NEW), KV_E_INVALID);
	must_be(kv_batch_commit(b, 4), KV_E_INVALID);
	must(kv_batch_count(b) == 0);
	kv_batch_free(b);
	free(big);
	volume_end(&v);
}
END_TEST

static void small_cache(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
}

START_TEST(batch_too_big)
{
	struct volume v;
	kv_batch *b;
	uint8_t value[200] = { 0 };
	uint32_t i;
	int err = 0;

	volume_make(&v, _i, small_cache);
	ok(kv_batch_new(v.db, &b));
	for (i = 0; !err && i < 100000; i++)
		err = kv_batch_put(b, NULL, &i, sizeof(i), value, sizeof(value));
	must_be(err, KV_E_TOOBIG);
	error_names("parts", NULL);
	must(kv_batch_count(b) == i - 1 && i > 1000);
	/* What was accepted fits, or is refused as a whole. */
	err = kv_batch_commit(b, 0);
	must(err == 0 || err == KV_E_TOOBIG);
	must(count(&v, NULL) == (err ? 0 : i - 1));
	kv_batch_free(b);
	volume_end(&v);
}
END_TEST

/* A batch of random keys that splits many leaves at once, over a tree that exists. */
START_TEST(batch_splits_many_leaves)
{
	struct volume v;
	uint8_t key[16], value[64];
	kv_batch *b;
	uint64_t round, i, n = _i % 2 ? 400 : 4000;

	volume_make(&v, _i, NULL);
	ok(kv_batch_new(v.db, &b));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < n; i++) {
			pattern(key, sizeof(key), i * 3 + round);
			pattern(value, sizeof(value), i);
			ok(kv_batch_put(b, NULL, key, sizeof(key), value, i % 64));
		}
		ok(kv_batch_commit(b, KV_MEMORY));
		must(count(&v, NULL) == (round + 1) * n);
		volume_check(&v);
	}
	for (i = 0; i < 3 * n; i++) {
		pattern(key, sizeof(key), i);
		ok(kv_batch_del(b, NULL, key, sizeof(key)));
	}
	ok(kv_batch_commit(b, 0));
	must(count(&v, NULL) == 0);
	kv_batch_free(b);
	volume_reopen(&v);
	must(count(&v, NULL) == 0);
	volume_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_ops");
	TCase *t = tcase_create("operations");

	tcase_add_loop_test(t, keys_of_every_length, 0, WORLDS);
	tcase_add_loop_test(t, values_of_every_size, 0, WORLDS);
	tcase_add_loop_test(t, values_change_their_kind, 0, WORLDS);
	tcase_add_loop_test(t, put_new_put_replace_del, 0, WORLDS);
	tcase_add_loop_test(t, durabilities, 0, WORLDS);
	tcase_add_loop_test(t, inc_number_rules, 0, WORLDS);
	tcase_add_loop_test(t, inc_long_values, 0, WORLDS);
	suite_add_tcase(s, t);
	t = tcase_create("batches");
	tcase_add_loop_test(t, batch_is_all_or_nothing_across_trees, 0, WORLDS);
	tcase_add_loop_test(t, batch_order_and_repeated_keys, 0, WORLDS);
	tcase_add_loop_test(t, batch_too_big, 0, WORLDS);
	tcase_add_loop_test(t, batch_splits_many_leaves, 0, WORLDS);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
