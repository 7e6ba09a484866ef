/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_resize.c - space goes back: TREE segments with few pages are emptied, the end of an image is cut, and
 * a volume becomes as long as one asks. Rows H12, L9. Crashes in the middle: tests/crash.
 */
#include <pthread.h>

#include "engine/gc.h"
#include "format/kvf.h"

#define KEYS 5000u
#define VALUE_MAX 3000u
#include "tests/unit/salted.h"

static size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%06u", i);
}

static size_t value_make(struct volume *v, const struct content *c, uint8_t *buf, uint32_t salt)
{
	size_t len = salt % 100 < c->inline_share ? v->st.inline_max : v->st.inline_max + 1 + salt % 2000;

	len = len > v->st.chunk_bytes ? v->st.chunk_bytes : len;
	fill_value(buf, len, salt);
	return len;
}

static void fill(struct volume *v, struct content *c)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		set(v, c, i);
}

/* Of each hundred keys so many stay, at random. */
static void thin(struct volume *v, struct content *c, uint32_t stay)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		if (roll(c, 100) >= stay)
			unset(v, c, i);
}

/* Neighbours go, and leave others alone: whole leaves, a few of which stay in each segment. */
static void clear_ranges(struct volume *v, struct content *c)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		if (i / 100 % 6)
			unset(v, c, i);
}

static void quiet(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->log_level = KV_LOG_ERROR;
}

static void quiet_small(kv_options *opt)
{
	quiet(opt);
	if (opt->segment_bytes)
		return;
	opt->segment_bytes = 64 << 10;
	opt->frame_bytes = 4096;
	opt->window_bytes = 1;
}

/* Closed, judged, opened again, as before. */
static void proof(struct volume *v, const struct content *c)
{
	verify(v, c);
	volume_check(v);
	judged_reopen(v);
	verify(v, c);
	volume_crash(v);
	verify(v, c);
	judged_reopen(v);
}

static uint64_t file_bytes(struct volume *v)
{
	FILE *f;
	long n;

	if (v->dev)
		return kvp_load(&v->dev->size);
	f = fopen(v->path, "r");
	must(f && !fseek(f, 0, SEEK_END));
	n = ftell(f);
	fclose(f);
	return (uint64_t)n;
}

static void gc(struct volume *v)
{
	kv_gc_info info;
	uint32_t calls = 0;

	do {
		ok(kv_gc(v->db, 1 << 20, &info));
		must(++calls < 100000);
	} while (info.more);
}

static kv_resize_info resize_to(struct volume *v, uint64_t bytes, uint64_t budget)
{
	kv_resize_info info;
	uint32_t calls = 0;

	do {
		ok(kv_resize(v->db, bytes, budget, &info));
		must(++calls < 100000);
	} while (info.more);
	return info;
}

static uint64_t minimum(struct volume *v)
{
	kv_resize_info info;

	ok(kv_resize(v->db, 0, 0, &info));
	must(!info.more && info.min_bytes >= 8ull * v->st.segment_bytes);
	return info.min_bytes;
}

/* What is known of segments that get nothing new is what one finds there. */
static void shut_counts(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	uint32_t nr, units;

	kvp_mutex_lock(&sp->lock);
	nr = sp->shut_nr;
	units = sp->shut_units;
	kve_space_shut_count(sp);
	must(nr == sp->shut_nr && units == sp->shut_units);
	kvp_mutex_unlock(&sp->lock);
}

/* Collecting alone: the end of the image is not packed. */
static void gc_steps(struct volume *v)
{
	uint32_t steps = 0;
	bool more = true;

	kvp_mutex_lock(&v->db->gc_lock);
	while (more) {
		must(!kve_gc_step(v->db, &more));
		shut_counts(v->db);
		must(++steps < 100000);
	}
	kvp_mutex_unlock(&v->db->gc_lock);
}

/* Pages that were full are sparse: their segments come back. */
START_TEST(tree_segments_are_emptied)
{
	struct content c = { .rnd = 1, .inline_share = 100 };
	kv_stat_info before, after;
	struct volume v;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	ok(kv_checkpoint(v.db));
	clear_ranges(&v, &c);
	ok(kv_checkpoint(v.db));
	ok(kv_checkpoint(v.db));
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	gc_steps(&v);
	ok(kv_stat(v.db, &after));
	must(before.segments_tree > 6);
	/* Both streams have one that is not full; of tiny segments pages fill little more than a half. */
	must(after.segments_tree * (uint64_t)after.segment_bytes / 2 <=
	     after.tree_bytes + 2ull * after.segment_bytes);
	must(after.segments_tree < before.segments_tree);
	gc(&v);
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

/* Frozen states keep their pages, and nothing is begun in vain. */
START_TEST(readers_hold_tree_segments)
{
	struct content c = { .rnd = 2, .inline_share = 100 }, then;
	kv_stat_info before, after;
	struct volume v;
	kv_read *r;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	then = c;
	ok(kv_checkpoint(v.db));
	ok(kv_read_begin(v.db, &r));
	clear_ranges(&v, &c);
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	gc(&v);
	ok(kv_stat(v.db, &after));
	verify_in(&v, r, &then);
	kv_read_end(r);
	gc(&v);
	ok(kv_stat(v.db, &after));
	must(after.segments_tree < before.segments_tree);
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

/* An image whose end is free gives it back, and does not take it again at once. */
START_TEST(the_end_is_cut)
{
	struct content c = { .rnd = 3, .inline_share = 20 };
	uint64_t full, less;
	struct volume v;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	volume_reopen(&v);
	full = file_bytes(&v);
	thin(&v, &c, 0);
	gc(&v);
	proof(&v, &c);
	less = file_bytes(&v);
	must(less < full / 2);
	ok(kv_stat(v.db, &v.st));
	must(v.st.volume_bytes == less);
	set(&v, &c, 1);
	volume_reopen(&v);
	must(file_bytes(&v) == less);
	fill(&v, &c);
	proof(&v, &c);
	must(file_bytes(&v) > less);
	volume_end(&v);
}
END_TEST

/* Whoever writes while the end is being cut, a step at a time, gets what he needs: nobody has set a limit. */
START_TEST(a_pack_half_way_is_no_limit)
{
	struct content c = { .rnd = 3, .inline_share = 20 };
	kv_gc_info info = { .more = 1 };
	struct volume v;
	uint32_t steps;

	volume_make(&v, _i, quiet_small);
	for (steps = 1; steps < 60; steps++) {
		uint32_t i;

		fill(&v, &c);
		thin(&v, &c, 20);
		info.more = 1;
		for (i = 0; i < steps && info.more; i++)
			ok(kv_gc(v.db, 1, &info));
		fill(&v, &c);
		if (!info.more)
			break;
	}
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

/* Shorter, down to the least; longer again; in pieces. */
START_TEST(shorter_and_longer)
{
	struct content c = { .rnd = 4, .inline_share = 50 };
	kv_resize_info info;
	struct volume v;
	uint32_t round;
	uint64_t min;

	volume_make(&v, _i, quiet_small);
	for (round = 0; round < 4; round++) {
		fill(&v, &c);
		thin(&v, &c, round == 3 ? 90 : 60 - round * 25);
		min = minimum(&v);
		info = resize_to(&v, min, round % 2 ? 20000 : 0);
		must(info.volume_bytes <= min);
		must(file_bytes(&v) <= min);
		verify(&v, &c);
		proof(&v, &c);
		must(v.st.max_bytes == min && file_bytes(&v) <= min);
		/* It can be used: changes, deletions. */
		set(&v, &c, round);
		thin(&v, &c, 90);
		must_be(kv_resize(v.db, 5 * v.st.segment_bytes, 0, &info), KV_E_NOSPACE);
		error_names("at least", NULL);
		resize_to(&v, KV_RESIZE_MOST, 0);
		proof(&v, &c);
		must(!v.st.max_bytes);
	}
	volume_end(&v);
}
END_TEST

/* Leaves below an inner page. */
#define LEAVES_KEYS 100u

static void leaves_make(struct volume *v, uint32_t tree)
{
	uint8_t value[100];
	char name[32], key[32];
	kv_tree *t;
	uint32_t i;

	sprintf(name, "tree-%u", tree);
	ok(kv_tree_open(v->db, name, KV_TREE_CREATE, &t));
	for (i = 0; i < LEAVES_KEYS; i++) {
		fill_value(value, sizeof(value), tree + i);
		ok(kv_put(v->db, t, key, key_make(key, i), value, sizeof(value), 0));
	}
}

static void leaves_verify(struct volume *v, uint32_t tree)
{
	uint8_t want[100], got[100];
	char name[32], key[32];
	kv_tree *t;
	size_t len;
	uint32_t i;

	sprintf(name, "tree-%u", tree);
	ok(kv_tree_open(v->db, name, 0, &t));
	for (i = 0; i < LEAVES_KEYS; i++) {
		fill_value(want, sizeof(want), tree + i);
		ok(kv_get_into(v->db, t, key, key_make(key, i), got, sizeof(got), &len));
		must(len == sizeof(want) && !memcmp(got, want, len));
	}
}

/*
 * Trees that nobody changes any more, written while the volume grew: of some an inner page has its first copy
 * where it may stay, with the leaves below, and only the second in what goes.
 */
START_TEST(second_copies_are_in_the_way)
{
	struct content c = { .rnd = 12, .inline_share = 0 };
	struct volume v;
	uint32_t tree, i;

	volume_make(&v, _i, quiet_small);
	for (tree = 0; tree < 20; tree++) {
		leaves_make(&v, tree);
		ok(kv_checkpoint(v.db));
		for (i = 0; i < KEYS / 20; i++)
			set(&v, &c, tree * (KEYS / 20) + i);
	}
	for (i = 0; i < KEYS; i++)
		unset(&v, &c, i);
	resize_to(&v, minimum(&v), 0);
	proof(&v, &c);
	for (tree = 0; tree < 20; tree++)
		leaves_verify(&v, tree);
	volume_end(&v);
}
END_TEST

/* What is in the way has a name; when it is gone the same call succeeds. */
START_TEST(a_reader_is_in_the_way)
{
	struct content c = { .rnd = 5, .inline_share = 50 };
	kv_resize_info info;
	struct volume v;
	kv_read *r;
	uint64_t min;
	int err;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	ok(kv_checkpoint(v.db));
	ok(kv_read_begin(v.db, &r));
	thin(&v, &c, 20);
	ok(kv_checkpoint(v.db));
	min = minimum(&v);
	do
		err = kv_resize(v.db, min, 0, &info);
	while (!err && info.more);
	must_be(err, KV_E_BUSY);
	error_names("read transaction", NULL);
	kv_read_end(r);
	fill(&v, &c);
	thin(&v, &c, 20);
	resize_to(&v, minimum(&v) + v.st.segment_bytes, 0);
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

/* Half way: given up by a crash, by closing, by another size. */
START_TEST(half_way)
{
	struct content c = { .rnd = 6, .inline_share = 50 };
	kv_resize_info info;
	struct volume v;
	uint32_t i, calls;
	uint64_t min;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	thin(&v, &c, 40);
	min = minimum(&v) + 4 * v.st.segment_bytes;
	for (i = 0; i < 60; i++) {
		calls = 1 + i / 4;
		do
			ok(kv_resize(v.db, min, 1, &info));
		while (info.more && --calls);
		if (!info.more)
			break;
		if (i % 4 == 0)
			volume_crash(&v);
		else if (i % 4 == 1)
			volume_reopen(&v);
		else if (i % 4 == 2)
			resize_to(&v, KV_RESIZE_MOST, 0);
		set(&v, &c, roll(&c, KEYS));
	}
	resize_to(&v, min, 0);
	proof(&v, &c);
	must(file_bytes(&v) <= min);
	volume_end(&v);
}
END_TEST

/* ---- named snapshots ---- */

static void verify_snapshot(struct volume *v, const char *name, const struct content *c)
{
	kv_read *r;

	ok(kv_snapshot_read(v->db, name, &r));
	verify_in(v, r, c);
	kv_read_end(r);
}

static void proof_snapshots(struct volume *v, const struct content *c, const struct content *one,
			    const struct content *two)
{
	proof(v, c);
	if (one)
		verify_snapshot(v, "one", one);
	if (two)
		verify_snapshot(v, "two", two);
}

/* Down to the least as often as it falls. */
static uint64_t to_the_least(struct volume *v)
{
	kv_resize_info info;
	uint64_t min;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		min = minimum(v);
		info = resize_to(v, min, i ? 30000 : 0);
		must(info.volume_bytes <= min && file_bytes(v) <= min);
	}
	return min;
}

/*
 * What snapshots see stays where it is, and the least size says so, with their names; less is refused. When
 * they go, one by one, so does what they held.
 */
START_TEST(snapshots_are_in_the_way)
{
	struct content c = { .rnd = 8, .inline_share = 60 }, one, two;
	kv_resize_info info;
	uint64_t least, both;
	struct volume v;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	one = c;
	ok(kv_snapshot_create(v.db, "one"));
	fill(&v, &c);
	clear_ranges(&v, &c);
	two = c;
	ok(kv_snapshot_create(v.db, "two"));
	fill(&v, &c);
	thin(&v, &c, 10);
	gc(&v);
	proof_snapshots(&v, &c, &one, &two);
	ok(kv_resize(v.db, 0, 0, &info));
	must(info.min_unpinned_bytes < info.min_bytes && strstr(info.pinned_by, "'two'"));
	must_be(kv_resize(v.db, info.min_unpinned_bytes, 0, &info), KV_E_NOSPACE);
	error_names("'two'", NULL);
	both = to_the_least(&v);
	proof_snapshots(&v, &c, &one, &two);
	ok(kv_snapshot_delete(v.db, "two"));
	least = to_the_least(&v);
	must(least <= both);
	proof_snapshots(&v, &c, &one, NULL);
	ok(kv_snapshot_delete(v.db, "one"));
	least = to_the_least(&v);
	must(least < both / 2);
	ok(kv_resize(v.db, 0, 0, &info));
	must(info.min_unpinned_bytes == info.min_bytes && !info.pinned_by[0]);
	resize_to(&v, KV_RESIZE_MOST, 0);
	fill(&v, &c);
	proof_snapshots(&v, &c, NULL, NULL);
	volume_end(&v);
}
END_TEST

/* Live pages that a snapshot sees are in the way as well, though nothing has died. */
START_TEST(a_snapshot_of_what_lives)
{
	struct content c = { .rnd = 12, .inline_share = 100 }, one;
	kv_resize_info info;
	struct volume v;
	uint32_t i;

	volume_make(&v, _i, quiet_small);
	for (i = 0; i < 6; i++) {
		fill(&v, &c);
		ok(kv_checkpoint(v.db));
	}
	one = c;
	ok(kv_snapshot_create(v.db, "one"));
	ok(kv_checkpoint(v.db));
	ok(kv_resize(v.db, 0, 0, &info));
	to_the_least(&v);
	if (info.pinned_by[0]) {
		must_be(kv_resize(v.db, info.min_unpinned_bytes, 0, &info), KV_E_NOSPACE);
		error_names("'one'", NULL);
	}
	proof_snapshots(&v, &c, &one, NULL);
	ok(kv_snapshot_delete(v.db, "one"));
	to_the_least(&v);
	proof_snapshots(&v, &c, NULL, NULL);
	volume_end(&v);
}
END_TEST

/* Sparse TREE segments that a snapshot sees are left alone; younger ones are emptied beside them. */
START_TEST(snapshots_hold_tree_segments)
{
	struct content c = { .rnd = 9, .inline_share = 100 }, one;
	kv_stat_info before, after;
	struct volume v;
	uint32_t i;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	one = c;
	ok(kv_snapshot_create(v.db, "one"));
	clear_ranges(&v, &c);
	for (i = 0; i < 3; i++)
		ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	gc(&v);
	ok(kv_stat(v.db, &after));
	must(after.segments_tree <= before.segments_tree + 1);
	proof_snapshots(&v, &c, &one, NULL);
	/* Written after it, and sparse again. */
	fill(&v, &c);
	ok(kv_checkpoint(v.db));
	clear_ranges(&v, &c);
	for (i = 0; i < 3; i++)
		ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	gc(&v);
	ok(kv_stat(v.db, &after));
	must(after.segments_tree < before.segments_tree);
	proof_snapshots(&v, &c, &one, NULL);
	before = after;
	ok(kv_snapshot_delete(v.db, "one"));
	gc(&v);
	ok(kv_stat(v.db, &after));
	must(after.segments_tree < before.segments_tree / 2);
	proof_snapshots(&v, &c, NULL, NULL);
	volume_end(&v);
}
END_TEST

/* One that is made half way sees all that has not moved yet: nothing is moved any more, and it is named. */
START_TEST(a_snapshot_half_way)
{
	struct content c = { .rnd = 10, .inline_share = 50 }, one;
	kv_resize_info info;
	uint64_t min, moved = 0;
	struct volume v;
	int err;

	volume_make(&v, _i, quiet_small);
	fill(&v, &c);
	thin(&v, &c, 40);
	min = minimum(&v) + 4 * v.st.segment_bytes;
	do
		ok(kv_resize(v.db, min, 1, &info));
	while (info.more && !(info.moved_bytes && info.left_bytes));
	must(info.more);
	one = c;
	ok(kv_snapshot_create(v.db, "one"));
	do {
		err = kv_resize(v.db, min, 1, &info);
		moved += info.moved_bytes;
	} while (!err && info.more);
	must_be(err, KV_E_BUSY);
	error_names("'one'", NULL);
	must(!moved);
	proof_snapshots(&v, &c, &one, NULL);
	ok(kv_snapshot_delete(v.db, "one"));
	resize_to(&v, min, 0);
	proof_snapshots(&v, &c, NULL, NULL);
	volume_end(&v);
}
END_TEST

/* ---- beside others ---- */

/*
 * The end of an image that nobody writes to is cut without being asked for: by two checkpoints at most, and
 * then nothing more is done.
 */
START_TEST(a_quiet_volume_is_cut)
{
	struct content c = { .rnd = 11, .inline_share = 20 };
	kv_stat_info before, after;
	struct volume v;
	uint64_t full, bytes;
	uint32_t i;

	volume_make(&v, _i ? FILE_DEFAULT : MEM_DEFAULT, NULL);
	for (i = 0; i < 4; i++)
		fill(&v, &c);
	thin(&v, &c, 0);
	ok(kv_checkpoint(v.db));
	ok(kv_checkpoint(v.db));
	/* The log goes on where there is room, at the beginning. */
	for (bytes = 0; bytes < 3ull * v.st.segment_bytes; bytes += 1000)
		set(&v, &c, 1 + (uint32_t)(bytes / 1000 % 10));
	ok(kv_checkpoint(v.db));
	/* This frees what the one before it found dead. */
	ok(kv_checkpoint(v.db));
	full = file_bytes(&v);
	ok(kv_stat(v.db, &before));
	for (i = 0; i < 1000 && file_bytes(&v) == full; i++)
		usleep(100000);
	must(file_bytes(&v) < full / 2);
	sleep(4);
	ok(kv_stat(v.db, &after));
	must(after.checkpoints <= before.checkpoints + 2);
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

struct beside {
	struct volume *v;
	int stop, failed;
	uint32_t changes;
};

static void *change(void *arg)
{
	struct beside *b = arg;
	uint8_t value[1500];
	char key[32];
	uint32_t i = 0;
	size_t len;
	int err;

	while (!__atomic_load_n(&b->stop, __ATOMIC_RELAXED)) {
		fill_value(value, sizeof(value), i);
		len = (size_t)sprintf(key, "beside-%u", i++ % 50);
		err = i % 3 ? kv_put(b->v->db, NULL, key, len, value, i % 2 ? 40 : sizeof(value), 0) :
			      kv_del(b->v->db, NULL, key, len, 0);
		if (err && err != KV_E_NOSPACE && err != KV_E_NOTFOUND)
			b->failed = err;
		b->changes += !err;
	}
	return NULL;
}

/* Others write and read meanwhile. */
START_TEST(beside_writers)
{
	struct content c = { .rnd = 7, .inline_share = 50 };
	struct beside b = { .stop = 0 };
	struct volume v;
	pthread_t thread;
	uint32_t round;
	uint64_t min;

	volume_make(&v, _i, NULL);
	b.v = &v;
	fill(&v, &c);
	thin(&v, &c, 60);
	must(!pthread_create(&thread, NULL, change, &b));
	for (round = 0; round < 3; round++) {
		min = minimum(&v);
		/* They take room, too. */
		resize_to(&v, min + min / 2, 200000);
		verify(&v, &c);
		resize_to(&v, KV_RESIZE_MOST, 0);
		gc(&v);
		/* What it sees is looked for while they change it. */
		ok(kv_snapshot_create(v.db, "beside"));
		minimum(&v);
		gc(&v);
		ok(kv_snapshot_delete(v.db, "beside"));
	}
	__atomic_store_n(&b.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	must(!b.failed && b.changes);
	proof(&v, &c);
	volume_end(&v);
}
END_TEST

static void add(Suite *s, const char *name, const TTest *test, int worlds)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 120); /* a watchdog */
	tcase_add_loop_test(tc, test, 0, worlds);
	suite_add_tcase(s, tc);
}

int main(void)
{
	Suite *s = suite_create("resize");

	add(s, "beside", beside_writers, worlds());
	add(s, "quiet", a_quiet_volume_is_cut, 2);
	if (!SUITE_THREADS_ONLY) {
		/* Most of them in three worlds: there is no fourth that it takes. */
		add(s, "emptied", tree_segments_are_emptied, FILE_TINY);
		add(s, "held", readers_hold_tree_segments, FILE_TINY);
		add(s, "cut", the_end_is_cut, FILE_TINY);
		add(s, "pack", a_pack_half_way_is_no_limit, FILE_DEFAULT);
		add(s, "both", shorter_and_longer, worlds());
		add(s, "copies", second_copies_are_in_the_way, FILE_TINY);
		add(s, "obstacle", a_reader_is_in_the_way, FILE_TINY);
		add(s, "half", half_way, worlds());
		add(s, "snapshots", snapshots_are_in_the_way, FILE_TINY);
		add(s, "snapshots", snapshots_hold_tree_segments, FILE_TINY);
		add(s, "snapshots", a_snapshot_half_way, FILE_TINY);
		add(s, "snapshots", a_snapshot_of_what_lives, FILE_TINY);
	}
	return suite_run(s);
}
