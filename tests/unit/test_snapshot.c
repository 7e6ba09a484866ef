/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_snapshot.c - named snapshots: each shows what it showed, beside changes, GC, readers, deaths and
 * reopening, until it is deleted; then nothing is left of it. kvs-fsck counts every block and every byte.
 */
#include <pthread.h>

#include "tests/unit/history.h"

static void any_step(struct history *h)
{
	uint32_t nr;

	switch (roll(h, 26)) {
	case 0: case 1: case 2: case 3:
		snap_create(h);
		break;
	case 4: case 5: case 6:
		snap_delete(h, snap_any(h));
		break;
	case 7:
		volume_crash(&h->v);
		count_snaps(h);
		break;
	case 8:
		judged_reopen(&h->v);
		count_snaps(h);
		break;
	case 9: case 10:
		ok(kv_gc(h->v.db, 1 + roll(h, 20000), NULL));
		break;
	case 11:
		ok(kv_checkpoint(h->v.db));
		break;
	case 12: case 13:
		nr = snap_any(h);
		if (nr < SNAPS)
			verify_snap(h, nr);
		break;
	case 14: case 15:
		unset_range(h);
		if (roll(h, 2))
			snap_create(h);
		break;
	case 16: case 17:
		snap_rollback(h, snap_any(h));
		verify_live(h);
		break;
	default:
		changes(h, 1 + roll(h, 40));
	}
}

START_TEST(any_order_of_steps)
{
	uint32_t steps = getenv("KV_TEST_QUICK") ? 300 : 1000, i;
	static struct history h;

	begin(&h, _i, no_thread, 5);
	changes(&h, KEYS);
	for (i = 0; i < steps; i++) {
		any_step(&h);
		if (i % 50 == 0)
			verify_live(&h);
	}
	verify_live(&h);
	for (i = 0; i < h.snaps; i++)
		if (h.there[i])
			verify_snap(&h, i);
	while (h.there_nr)
		snap_delete(&h, snap_any(&h));
	verify_live(&h);
	nothing_left(&h);
	end(&h);
}
END_TEST

static void misuse(struct history *h)
{
	kv_read *snap;

	must_be(kv_snapshot_create(h->v.db, "snap 0"), KV_E_EXISTS);
	must_be(kv_snapshot_create(h->v.db, ""), KV_E_INVALID);
	must_be(kv_snapshot_delete(h->v.db, "none"), KV_E_NOTFOUND);
	error_names("none", "'kvs snap ");
	must_be(kv_snapshot_read(h->v.db, "none", &snap), KV_E_NOTFOUND);
}

/* A tree of a snapshot cannot be changed, nor read without it; and what is not in it is not there. */
static void verify_dropped(struct history *h, kv_read *snap, kv_tree *later)
{
	kv_tree *old, *none;
	uint64_t n;
	uint32_t i, got;
	size_t len;

	ok(kv_read_tree(snap, "other", &old));
	ok(kv_count(h->v.db, old, &n));
	must(n == 50);
	for (i = 0; i < 50; i++) {
		ok(kv_read_get_into(snap, old, &i, sizeof(i), &got, sizeof(got), &len));
		must(len == sizeof(got) && got == i);
	}
	must_be(kv_put(h->v.db, old, "a", 1, "b", 1, 0), KV_E_NOTFOUND);
	must_be(kv_del(h->v.db, old, &n, 4, 0), KV_E_NOTFOUND);
	must_be(kv_get_into(h->v.db, old, &n, 4, &n, 8, &len), KV_E_NOTFOUND);
	must_be(kv_read_tree(snap, "later", &none), KV_E_NOTFOUND);
	must_be(kv_read_get_into(snap, later, "a", 1, &n, 8, &len), KV_E_NOTFOUND);
}

/* With the background thread, readers of both kinds and trees that come and go. */
START_TEST(beside_readers_and_trees)
{
	static struct history h;
	struct content then;
	kv_read *r, *snap;
	kv_tree *t;
	uint32_t i;

	begin(&h, _i, NULL, 3);
	changes(&h, KEYS);
	ok(kv_tree_open(h.v.db, "other", KV_TREE_CREATE, &t));
	for (i = 0; i < 50; i++)
		ok(kv_put(h.v.db, t, &i, sizeof(i), &i, sizeof(i), 0));
	ok(kv_read_begin(h.v.db, &r));
	then = h.now;
	snap_create(&h);
	misuse(&h);
	changes(&h, 2 * KEYS);
	ok(kv_tree_drop(h.v.db, "other"));
	ok(kv_tree_open(h.v.db, "later", KV_TREE_CREATE, &t));
	for (i = 0; i < 5; i++)
		ok(kv_checkpoint(h.v.db));
	ok(kv_snapshot_read(h.v.db, "snap 0", &snap));
	verify_dropped(&h, snap, t);
	verify_read(&h, snap, &then);
	verify_read(&h, r, &then);
	must_be(kv_close(h.v.db), KV_E_BUSY);
	kv_read_end(r);
	must_be(kv_close(h.v.db), KV_E_BUSY);
	kv_read_end(snap);
	verify_live(&h);
	judged_reopen(&h.v);
	verify_snap(&h, 0);
	/* Read-only, after a death, too. */
	changes(&h, 20);
	kve_crash(h.v.db);
	h.v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&h.v);
	verify_snap(&h, 0);
	count_snaps(&h);
	must_be(kv_snapshot_create(h.v.db, "more"), KV_E_READONLY);
	volume_close(&h.v);
	h.v.opt.flags &= ~KV_OPEN_READONLY;
	volume_open(&h.v);
	verify_snap(&h, 0);
	snap_delete(&h, 0);
	nothing_left(&h);
	end(&h);
}
END_TEST

/* ---- beside writers: the two keys of each thread change together ------------------------------------ */

#define WRITERS 2
#define PAIR_BYTES 900u

struct writer {
	pthread_t thread;
	kv_db *db;
	uint32_t nr;
	bool stop;
	int err;
};

static size_t pair_key(char *key, uint32_t writer, uint32_t i, char which)
{
	return (size_t)sprintf(key, "w%u-%02u-%c", writer, i, which);
}

static void *write_pairs(void *arg)
{
	struct writer *w = arg;
	uint8_t value[PAIR_BYTES];
	uint32_t n = 0, i;
	kv_batch *b;
	char key[32];
	int err;

	err = kv_batch_new(w->db, &b);
	for (; !err && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); n++) {
		i = n % 16;
		memset(value, (int)n, sizeof(value));
		memcpy(value, &n, sizeof(n));
		err = kv_batch_put(b, NULL, key, pair_key(key, w->nr, i, 'a'), value, sizeof(value));
		if (!err)
			err = kv_batch_put(b, NULL, key, pair_key(key, w->nr, i, 'b'), value,
					   n % 2 ? 20 : 900);
		if (!err)
			err = kv_batch_commit(b, 0);
		if (!err)
			err = kv_put(w->db, NULL, key, pair_key(key, w->nr, i, 'c'), value, sizeof(value),
				     0);
		kv_batch_clear(b);
	}
	kv_batch_free(b);
	w->err = err;
	return NULL;
}

/* Both keys of each pair have the same number, and the one beside them is not newer. */
static void verify_pairs(struct volume *v, const char *name)
{
	uint32_t w, i, a, b;
	uint8_t value[PAIR_BYTES];
	kv_read *r;
	char key[32];
	size_t len;
	int err;

	ok(kv_snapshot_read(v->db, name, &r));
	for (w = 0; w < WRITERS; w++)
		for (i = 0; i < 16; i++) {
			err = kv_read_get_into(r, NULL, key, pair_key(key, w, i, 'a'), value, sizeof(value),
					       &len);
			must(!err || err == KV_E_NOTFOUND);
			memcpy(&a, value, sizeof(a));
			must_be(kv_read_get_into(r, NULL, key, pair_key(key, w, i, 'b'), value,
						 sizeof(value), &len),
				err);
			memcpy(&b, value, sizeof(b));
			must(err || a == b);
			must(err || value[PAIR_BYTES / 90] == (uint8_t)a);
			err = kv_read_get_into(r, NULL, key, pair_key(key, w, i, 'c'), value, sizeof(value),
					       &len);
			memcpy(&b, value, sizeof(b));
			must(err || a - b <= 16);
		}
	kv_read_end(r);
}

START_TEST(beside_writers)
{
	static struct writer w[WRITERS];
	struct volume v;
	char name[32];
	uint32_t i;

	volume_make(&v, _i, NULL);
	for (i = 0; i < WRITERS; i++) {
		w[i].db = v.db;
		w[i].nr = i;
		must(!pthread_create(&w[i].thread, NULL, write_pairs, &w[i]));
	}
	for (i = 0; i < 60; i++) {
		name_make(name, i);
		ok(kv_snapshot_create(v.db, name));
		verify_pairs(&v, name);
		name_make(name, i / 2);
		verify_pairs(&v, name);
		if (i % 2)
			ok(kv_snapshot_delete(v.db, name));
		if (i % 5 == 0)
			ok(kv_gc(v.db, 100000, NULL));
	}
	for (i = 0; i < WRITERS; i++) {
		__atomic_store_n(&w[i].stop, true, __ATOMIC_RELAXED);
		must(!pthread_join(w[i].thread, NULL));
		must_be(w[i].err, 0);
	}
	volume_crash(&v);
	for (i = 30; i < 60; i++) {
		name_make(name, i);
		verify_pairs(&v, name);
		ok(kv_snapshot_delete(v.db, name));
	}
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("snapshots");
	TCase *t = tcase_create("snapshots");

	tcase_set_timeout(t, 300); /* a watchdog */
	tcase_add_loop_test(t, beside_writers, RACE_FIRST, RACE_END);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, any_order_of_steps, 0, worlds());
		tcase_add_loop_test(t, beside_readers_and_trees, 0, worlds());
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
