/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_snapshot.c - named snapshots: each shows what it showed, beside changes, GC, readers, deaths and
 * reopening, until it is deleted; then nothing is left of it. kvs-fsck counts every block and every byte.
 */
#include <pthread.h>

#include "format/kvf.h"
#include "tests/crash/judge.h"
#include "tests/unit/volume.h"

#define KEYS 160u
#define SNAPS 420u
#define LARGE 3u /* chunks of the longest value */

/* What each key holds: the number of the change that wrote it; 0: nothing. */
struct content {
	uint32_t salt[KEYS];
};

struct history {
	struct volume v;
	struct content now;
	struct content at[SNAPS];
	bool there[SNAPS];
	uint32_t next, snaps; /* numbers given so far */
	uint32_t there_nr;
	uint64_t rnd;
	uint8_t *value, *got;
};

static uint32_t roll(struct history *h, uint32_t n)
{
	return volume_chance(&h->rnd, n);
}

static size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%05u", i * 7919u % 100000u);
}

/* In the leaf, in the log, in chunks. */
static size_t value_make(struct history *h, uint32_t salt)
{
	const kv_stat_info *st = &h->v.st;
	size_t len = salt % 8 < 3 ? salt % (st->inline_max + 1) :
		     salt % 32 < 31 ? st->inline_max + 1 + salt % 7 * 90 :
				      st->chunk_bytes + 1 + salt % (LARGE - 1) * st->chunk_bytes;

	pattern(h->value, len, salt);
	return len;
}

static void begin(struct history *h, int world, void (*tweak)(kv_options *opt), u64 seed)
{
	memset(h, 0, sizeof(*h));
	volume_make(&h->v, world, tweak);
	h->rnd = seed;
	h->value = malloc((LARGE + 1) * (size_t)h->v.st.chunk_bytes);
	h->got = malloc((LARGE + 1) * (size_t)h->v.st.chunk_bytes);
	must(h->value && h->got);
}

static void set(struct history *h, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i), len = value_make(h, ++h->next);

	ok(kv_put(h->v.db, NULL, key, key_len, h->value, len, 0));
	h->now.salt[i] = h->next;
}

static void unset(struct history *h, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i);

	must_be(kv_del(h->v.db, NULL, key, key_len, 0), h->now.salt[i] ? KV_OK : KV_E_NOTFOUND);
	h->now.salt[i] = 0;
}

/* A tenth of the keys, in their order, at once. */
static void unset_range(struct history *h)
{
	char from[32], to[32], key[32];
	uint32_t at = roll(h, 100000), i;

	sprintf(from, "key-%05u", at);
	sprintf(to, "key-%05u", at + 10000);
	ok(kv_delete_range(h->v.db, NULL, from, strlen(from), to, strlen(to), 0));
	for (i = 0; i < KEYS; i++) {
		key_make(key, i);
		if (strcmp(key, from) >= 0 && strcmp(key, to) < 0)
			h->now.salt[i] = 0;
	}
}

static void verify_live(struct history *h)
{
	char key[32];
	size_t len;
	uint32_t i;

	for (i = 0; i < KEYS; i++) {
		key_make(key, i);
		if (!h->now.salt[i]) {
			expect_none(&h->v, NULL, key);
			continue;
		}
		len = value_make(h, h->now.salt[i]);
		expect_bytes(&h->v, NULL, key, strlen(key), h->value, len);
	}
}

static void name_make(char *name, uint32_t nr)
{
	sprintf(name, "snap %u", nr);
}

/* One by one, all at once, and by a cursor. */
static void verify_read(struct history *h, kv_read *r, const struct content *c)
{
	char keys[KEYS][32];
	kv_item items[KEYS];
	uint32_t i, n = 0, seen = 0;
	const void *key, *value;
	size_t len, key_len;
	kv_cursor *cur;
	int err;

	memset(items, 0, sizeof(items));
	for (i = 0; i < KEYS; i++) {
		items[i].key = keys[i];
		items[i].key_len = key_make(keys[i], i);
		must_be(kv_read_get_into(r, NULL, keys[i], items[i].key_len, h->got,
					 (LARGE + 1) * (size_t)h->v.st.chunk_bytes, &len),
			c->salt[i] ? KV_OK : KV_E_NOTFOUND);
		if (!c->salt[i])
			continue;
		n++;
		must(len == value_make(h, c->salt[i]) && !memcmp(h->got, h->value, len));
	}
	ok(kv_read_get_many(r, NULL, KEYS, items));
	for (i = 0; i < KEYS; i++)
		must_be(items[i].err, !c->salt[i] ? KV_E_NOTFOUND :
				      value_make(h, c->salt[i]) ? KV_E_TOOBIG : KV_OK);
	ok(kv_cursor_open(h->v.db, r, NULL, &cur));
	for (err = kv_cursor_first(cur); !err; err = kv_cursor_next(cur)) {
		ok(kv_cursor_key(cur, &key, &key_len));
		ok(kv_cursor_value(cur, &value, &len));
		for (i = 0; i < KEYS; i++)
			if (items[i].key_len == key_len && !memcmp(keys[i], key, key_len))
				break;
		must(i < KEYS && c->salt[i]);
		must(len == value_make(h, c->salt[i]) && !memcmp(value, h->value, len));
		seen++;
	}
	must_be(err, KV_E_NOTFOUND);
	must(seen == n);
	kv_cursor_close(cur);
}

static void verify_snap(struct history *h, uint32_t nr)
{
	char name[32];
	kv_read *r;

	name_make(name, nr);
	ok(kv_snapshot_read(h->v.db, name, &r));
	must_be(kv_snapshot_delete(h->v.db, name),
		h->v.opt.flags & KV_OPEN_READONLY ? KV_E_READONLY : KV_E_BUSY);
	verify_read(h, r, &h->at[nr]);
	kv_read_end(r);
}

static void snap_create(struct history *h)
{
	char name[32];

	if (h->snaps == SNAPS)
		return;
	name_make(name, h->snaps);
	ok(kv_snapshot_create(h->v.db, name));
	h->at[h->snaps] = h->now;
	h->there[h->snaps++] = true;
	h->there_nr++;
}

/* One that is there, or SNAPS. */
static uint32_t snap_any(struct history *h)
{
	uint32_t nr = h->there_nr ? roll(h, h->there_nr) : 0, i;

	for (i = 0; i < h->snaps; i++)
		if (h->there[i] && !nr--)
			return i;
	return SNAPS;
}

static void snap_delete(struct history *h, uint32_t nr)
{
	char name[32];

	if (nr == SNAPS)
		return;
	name_make(name, nr);
	ok(kv_snapshot_delete(h->v.db, name));
	h->there[nr] = false;
	h->there_nr--;
}

static void fsck(struct history *h)
{
	char why[512];

	if (h->v.dev && judge_fsck(volume_bytes(&h->v), h->v.dev->size, why, sizeof(why)))
		ck_abort_msg("kvs-fsck: %s", why);
}

static void fsck_closed(struct history *h)
{
	volume_close(&h->v);
	fsck(h);
	volume_open(&h->v);
}

static int count_snap(void *arg, const kv_snapshot_info *info)
{
	must(info->name[0] && info->generation && info->created);
	++*(uint32_t *)arg;
	return 0;
}

static void count_snaps(struct history *h)
{
	uint32_t n = 0;

	ok(kv_snapshot_list(h->v.db, count_snap, &n));
	must(n == h->there_nr);
}

/* Nothing is held any more. */
static void nothing_left(struct history *h)
{
	kv_stat_info st;

	ok(kv_checkpoint(h->v.db));
	ok(kv_stat(h->v.db, &st));
	must(!st.snapshots && !st.snapshot_value_bytes && !st.snapshot_page_bytes);
	count_snaps(h);
}

static void end(struct history *h)
{
	volume_close(&h->v);
	fsck(h);
	volume_open(&h->v);
	volume_end(&h->v);
	free(h->value);
	free(h->got);
}

static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->log_level = KV_LOG_ERROR;
}

static void changes(struct history *h, uint32_t n)
{
	while (n--) {
		if (roll(h, 5))
			set(h, roll(h, KEYS));
		else
			unset(h, roll(h, KEYS));
	}
}

static void any_step(struct history *h)
{
	uint32_t nr;

	switch (roll(h, 24)) {
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
		fsck_closed(h);
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

/* The same changes, with snapshots in between or without. */
static void many(struct history *h, int world, bool with, kv_stat_info *st)
{
	uint32_t i, nr;

	begin(h, world, no_thread, 9);
	for (i = 0; i < 300; i++) {
		changes(h, 12);
		if (with)
			snap_create(h);
		else
			ok(kv_checkpoint(h->v.db));
	}
	if (with)
		fsck_closed(h);
	for (i = 0; h->there_nr; i++) {
		nr = snap_any(h);
		verify_snap(h, nr);
		snap_delete(h, nr);
		if (i % 40 == 20)
			fsck_closed(h);
	}
	nothing_left(h);
	ok(kv_gc(h->v.db, 0, NULL));
	ok(kv_checkpoint(h->v.db));
	ok(kv_checkpoint(h->v.db));
	ok(kv_stat(h->v.db, st));
	verify_live(h);
	end(h);
}

static uint64_t in_use(const kv_stat_info *st)
{
	return st->segments_log * st->segment_bytes + st->tree_bytes;
}

/* Free segments have rows in the segment table, too: it is stored twice, its pages are half full at least. */
static uint64_t rows(uint64_t segments)
{
	return 2 * 2 * segments *
	       (5 + sizeof(struct kvf_slot) + sizeof(struct kvf_item) + sizeof(struct kvf_segment_entry));
}

START_TEST(hundreds_deleted_in_any_order)
{
	static struct history h;
	kv_stat_info with, without;
	u64 a, b;

	many(&h, _i, true, &with);
	many(&h, _i, false, &without);
	a = in_use(&with);
	b = in_use(&without);
	printf("world %d: %llu bytes in use after 300 snapshots, %llu without\n", _i, (unsigned long long)a,
	       (unsigned long long)b);
	must(with.live_bytes == without.live_bytes);
	must(with.segments_log <= without.segments_log + 1);
	must(a <= b + b / 100 + with.segment_bytes + rows(with.segments - without.segments));
}
END_TEST

/* With the background thread, readers of both kinds and trees that come and go. */
START_TEST(beside_readers_and_trees)
{
	static struct history h;
	struct content then;
	kv_tree *t, *old;
	kv_read *r, *snap;
	uint64_t n;
	size_t len;
	uint32_t i;

	begin(&h, _i, NULL, 3);
	changes(&h, KEYS);
	ok(kv_tree_open(h.v.db, "other", KV_TREE_CREATE, &t));
	for (i = 0; i < 50; i++)
		ok(kv_put(h.v.db, t, &i, sizeof(i), &i, sizeof(i), 0));
	ok(kv_read_begin(h.v.db, &r));
	then = h.now;
	snap_create(&h);
	must_be(kv_snapshot_create(h.v.db, "snap 0"), KV_E_EXISTS);
	must_be(kv_snapshot_create(h.v.db, ""), KV_E_INVALID);
	must_be(kv_snapshot_delete(h.v.db, "none"), KV_E_NOTFOUND);
	must_be(kv_snapshot_read(h.v.db, "none", &snap), KV_E_NOTFOUND);
	changes(&h, 2 * KEYS);
	ok(kv_tree_drop(h.v.db, "other"));
	ok(kv_tree_open(h.v.db, "later", KV_TREE_CREATE, &t));
	for (i = 0; i < 5; i++)
		ok(kv_checkpoint(h.v.db));
	ok(kv_snapshot_read(h.v.db, "snap 0", &snap));
	ok(kv_read_tree(snap, "other", &old));
	ok(kv_count(h.v.db, old, &n));
	must(n == 50);
	for (i = 0; i < 50; i++) {
		uint32_t got;

		ok(kv_read_get_into(snap, old, &i, sizeof(i), &got, sizeof(got), &len));
		must(len == sizeof(got) && got == i);
	}
	/* It cannot be changed, nor read without the transaction; and what is not in it is not there. */
	must_be(kv_put(h.v.db, old, "a", 1, "b", 1, 0), KV_E_NOTFOUND);
	must_be(kv_del(h.v.db, old, &n, 4, 0), KV_E_NOTFOUND);
	must_be(kv_get_into(h.v.db, old, &n, 4, &n, 8, &len), KV_E_NOTFOUND);
	must_be(kv_read_tree(snap, "later", &old), KV_E_NOTFOUND);
	must_be(kv_read_get_into(snap, t, "a", 1, &n, 8, &len), KV_E_NOTFOUND);
	verify_read(&h, snap, &then);
	verify_read(&h, r, &then);
	must_be(kv_close(h.v.db), KV_E_BUSY);
	kv_read_end(r);
	must_be(kv_close(h.v.db), KV_E_BUSY);
	kv_read_end(snap);
	verify_live(&h);
	fsck_closed(&h);
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
	tcase_add_loop_test(t, beside_writers, 0, WORLDS);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, any_order_of_steps, 0, WORLDS);
		tcase_add_loop_test(t, hundreds_deleted_in_any_order, 0, WORLDS);
		tcase_add_loop_test(t, beside_readers_and_trees, 0, WORLDS);
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
