/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_refill.c - a volume of 64 MiB is filled until there is no space, emptied, and filled again, many
 * times: values that cannot be compressed, of random lengths. Each time everything can be deleted, the space
 * comes back, and as much fits as before; with named snapshots it comes back when they go. In memory, in a
 * file, on a loop device.
 *
 * KV_TEST_LONG=1 ('make long-refill'): 50 times; a few otherwise.
 */
#include "tests/unit/judged.h"

#define LIMIT (64ull << 20)
#define KEYS_MAX 20000u
#define ROUNDS 50u
#define ROUNDS_SHORT 3u

static const int places[] = { MEM_DEFAULT, FILE_DEFAULT, DEVICE_DEFAULT };

static u64 seed;

static void limited(kv_options *opt)
{
	opt->max_bytes = LIMIT;
	opt->log_level = KV_LOG_ERROR;
}

static void limited_quiet(kv_options *opt)
{
	limited(opt);
	opt->flags |= KV_OPEN_NOTHREAD;
}

static u64 value_len(u32 round, u32 i)
{
	u64 rnd = seed + round * 1000003ull + i;

	/* Mostly small, some of up to 64 KiB. */
	rnd = rnd_next(&rnd) >> 20;
	return 1 + rnd % (i % 8 ? 3000 : 65536);
}

/* Keys from first on, until there is no space. Returns how many; *bytes: of their values. */
static u32 fill_up(struct volume *v, u32 round, u64 *bytes)
{
	static uint8_t value[65536];
	char key[32];
	size_t len, key_len;
	u32 i;
	int err = 0;

	*bytes = 0;
	for (i = 0; i < KEYS_MAX; i++) {
		len = value_len(round, i);
		fill_value(value, len, round * KEYS_MAX + i);
		key_len = (size_t)sprintf(key, "%u-%u", i * 7919 % 1000, i);
		err = kv_put(v->db, NULL, key, key_len, value, len, 0);
		if (err)
			break;
		*bytes += len;
	}
	must_be(err, KV_E_NOSPACE);
	return i;
}

static void expect_all(struct volume *v, u32 round, u32 nr)
{
	static uint8_t want[65536];
	char key[32];
	size_t len, key_len;
	u32 i;

	for (i = 0; i < nr; i += 1 + nr / 200) {
		len = value_len(round, i);
		fill_value(want, len, round * KEYS_MAX + i);
		key_len = (size_t)sprintf(key, "%u-%u", i * 7919 % 1000, i);
		expect_bytes(v, NULL, key, key_len, want, len);
	}
}

/* One by one, or all at once. A snapshot of a full volume may have to go before anything else can. */
static void delete_all(struct volume *v, u32 round, u32 nr, bool snapshot)
{
	char key[32];
	size_t len;
	u32 i;
	int err;

	if (round % 3 == 2 && !snapshot) {
		ok(kv_delete_range(v->db, NULL, NULL, 0, NULL, 0, 0));
		return;
	}
	for (i = 0; i < nr; i++) {
		len = (size_t)sprintf(key, "%u-%u", i * 7919 % 1000, i);
		err = kv_del(v->db, NULL, key, len, 0);
		if (err == KV_E_NOSPACE && snapshot) {
			ok(kv_snapshot_delete(v->db, "full"));
			snapshot = false;
			err = kv_del(v->db, NULL, key, len, 0);
		}
		ok(err);
	}
	if (snapshot)
		ok(kv_snapshot_delete(v->db, "full"));
}

/* What is free after everything that is waiting to be freed is. */
static u64 free_bytes(struct volume *v)
{
	kv_gc_info info;
	kv_stat_info st;

	do
		ok(kv_gc(v->db, 0, &info));
	while (info.more);
	ok(kv_stat(v->db, &st));
	return LIMIT - (st.segments_log + st.segments_tree) * st.segment_bytes;
}

static u32 rounds(void)
{
	return getenv("KV_TEST_LONG") ? ROUNDS : ROUNDS_SHORT;
}

static void refill(struct volume *v, bool snapshots)
{
	u64 bytes, first = 0, least = ~0ull;
	uint64_t count;
	bool snapshot;
	u32 round, nr;

	for (round = 0; round < rounds(); round++) {
		nr = fill_up(v, round, &bytes);
		first = first ? first : bytes;
		/* Lengths differ, and so does how full the last segments are. */
		must(bytes > LIMIT / 2 && bytes > first - first / 8);
		expect_all(v, round, nr);
		snapshot = snapshots && round % 2;
		if (snapshot)
			ok(kv_snapshot_create(v->db, "full"));
		delete_all(v, round, nr, snapshot);
		ok(kv_count(v->db, NULL, &count));
		must(!count);
		bytes = free_bytes(v);
		least = bytes < least ? bytes : least;
		must(bytes > LIMIT * 9 / 10);
		if (round % 10 == 1)
			volume_reopen(v);
	}
	if (getenv("KV_TEST_LONG"))
		printf("world %d, %s, %s: %u times, %llu bytes of values at first, then at least %llu of "
		       "%llu free\n", v->world, v->opt.flags & KV_OPEN_NOTHREAD ? "no thread" : "thread",
		       snapshots ? "snapshots" : "no snapshots", round, first, least, LIMIT);
	judged_end(v);
}

START_TEST(fill_empty_refill)
{
	struct volume v;

	seed = 1 + (u64)_i;
	volume_make(&v, places[_i / 2], _i % 2 ? limited_quiet : limited);
	refill(&v, false);
}
END_TEST

START_TEST(with_snapshots)
{
	struct volume v;

	seed = 11 + (u64)_i;
	volume_make(&v, places[_i], _i % 2 ? limited_quiet : limited);
	refill(&v, true);
}
END_TEST

int main(void)
{
	static const char *const names[] = { "memory", "file", "device" };
	Suite *s = suite_create("refill");
	TCase *tc;
	int i;

	for (i = 0; i < 3; i++) {
		tc = tcase_create(names[i]);
		tcase_set_timeout(tc, getenv("KV_TEST_LONG") ? 3600 : 600); /* a watchdog */
		tcase_add_loop_test(tc, fill_empty_refill, 2 * i, 2 * i + 2);
		tcase_add_loop_test(tc, with_snapshots, i, i + 1);
		suite_add_tcase(s, tc);
	}
	return suite_run(s);
}
