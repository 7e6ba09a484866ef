/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_rollback.c - going back to a named snapshot: all is what it was then, nothing of what came later is
 * left or comes back, and kvs-fsck counts every block and every byte.
 */
#include <pthread.h>

#include "format/kvf.h"
#include "tests/unit/faulty.h"
#include "tests/unit/history.h"

/* ---- any history, with trees that come and go --------------------------------------------------- */

#define TREES 4u

/* Which trees there are: what their pairs are made of, 0: it is not there. */
struct trees {
	uint32_t salt[TREES];
};

struct forest {
	struct history h;
	struct trees now, at[SNAPS];
};

static void tree_name(char *name, uint32_t i)
{
	sprintf(name, "tree %u", i);
}

static uint32_t tree_pairs(uint32_t salt)
{
	return salt % 60;
}

static void tree_make(struct forest *f, uint32_t i)
{
	struct history *h = &f->h;
	uint32_t n, salt = ++h->next;
	uint8_t value[300];
	char name[32];
	kv_tree *t;

	tree_name(name, i);
	if (f->now.salt[i]) {
		ok(kv_tree_drop(h->v.db, name));
		f->now.salt[i] = 0;
		return;
	}
	ok(kv_tree_open(h->v.db, name, KV_TREE_CREATE, &t));
	for (n = 0; n < tree_pairs(salt); n++) {
		pattern(value, sizeof(value), salt + n);
		ok(kv_put(h->v.db, t, &n, sizeof(n), value, salt % sizeof(value), 0));
	}
	f->now.salt[i] = salt;
}

static void verify_trees(struct forest *f)
{
	struct history *h = &f->h;
	uint8_t value[300], got[300];
	uint32_t i, n, salt;
	char name[32];
	uint64_t nr;
	kv_tree *t;
	size_t len;

	for (i = 0; i < TREES; i++) {
		tree_name(name, i);
		salt = f->now.salt[i];
		must_be(kv_tree_open(h->v.db, name, 0, &t), salt ? KV_OK : KV_E_NOTFOUND);
		if (!salt)
			continue;
		ok(kv_count(h->v.db, t, &nr));
		must(nr == tree_pairs(salt));
		for (n = 0; n < nr; n++) {
			pattern(value, sizeof(value), salt + n);
			ok(kv_get_into(h->v.db, t, &n, sizeof(n), got, sizeof(got), &len));
			must(len == salt % sizeof(value) && !memcmp(got, value, len));
		}
	}
}

static void forest_snap(struct forest *f)
{
	if (f->h.snaps < SNAPS)
		f->at[f->h.snaps] = f->now;
	snap_create(&f->h);
}

static void forest_rollback(struct forest *f, uint32_t nr)
{
	kv_read *r;
	uint64_t n;

	if (nr == SNAPS)
		return;
	ok(kv_read_begin(f->h.v.db, &r));
	snap_rollback(&f->h, nr);
	f->now = f->at[nr];
	must_be(kv_read_get_into(r, NULL, "key", 3, &n, sizeof(n), &n), KV_E_TOOOLD);
	kv_read_end(r);
	count_snaps(&f->h);
}

static void forest_step(struct forest *f)
{
	struct history *h = &f->h;
	uint32_t nr;

	switch (roll(h, 20)) {
	case 0: case 1:
		forest_snap(f);
		break;
	case 2:
		snap_delete(h, snap_any(h));
		break;
	case 3: case 4:
		forest_rollback(f, snap_any(h));
		if (roll(h, 2))
			judged(&h->v);
		break;
	case 5:
		volume_crash(&h->v);
		count_snaps(h);
		break;
	case 6:
		judged_reopen(&h->v);
		break;
	case 7:
		ok(kv_gc(h->v.db, 1 + roll(h, 20000), NULL));
		break;
	case 8:
		nr = snap_any(h);
		if (nr < SNAPS)
			verify_snap(h, nr);
		break;
	case 9:
		unset_range(h);
		break;
	case 10: case 11: case 12:
		tree_make(f, roll(h, TREES));
		break;
	case 13:
		ok(kv_checkpoint(h->v.db));
		break;
	default:
		changes(h, 1 + roll(h, 40));
	}
}

static void any_order(int world, void (*tweak)(kv_options *opt), u64 seed)
{
	uint32_t steps = getenv("KV_TEST_QUICK") ? 150 : 600, i;
	static struct forest f;
	struct history *h = &f.h;

	memset(&f, 0, sizeof(f));
	begin(h, world, tweak, seed);
	changes(h, KEYS);
	for (i = 0; i < steps; i++) {
		forest_step(&f);
		if (i % 20 == 0) {
			verify_live(h);
			verify_trees(&f);
		}
	}
	for (i = 0; i < h->snaps; i++)
		if (h->there[i])
			verify_snap(h, i);
	while (h->there_nr)
		snap_delete(h, snap_any(h));
	verify_live(h);
	verify_trees(&f);
	end(h);
}

START_TEST(any_order_alone)
{
	any_order(_i, no_thread, 5);
}
END_TEST

START_TEST(any_order_with_a_worker)
{
	any_order(_i, NULL, 77);
}
END_TEST

/* All that was there comes and goes with it; in the end as much is in use as without any of it. */
START_TEST(nothing_is_left)
{
	kv_stat_info before, after;
	static struct history h;
	uint32_t i;

	begin(&h, _i, no_thread, 21);
	changes(&h, 3 * KEYS);
	ok(kv_gc(h.v.db, 0, NULL));
	snap_create(&h);
	ok(kv_checkpoint(h.v.db));
	ok(kv_stat(h.v.db, &before));
	for (i = 0; i < 10; i++) {
		changes(&h, 2 * KEYS);
		snap_create(&h);
		changes(&h, KEYS);
		snap_rollback(&h, 0);
	}
	ok(kv_checkpoint(h.v.db));
	ok(kv_checkpoint(h.v.db));
	ok(kv_stat(h.v.db, &after));
	must(after.live_bytes == before.live_bytes);
	must(after.snapshots == 1 && !after.snapshot_value_bytes);
	must(after.tree_bytes <= before.tree_bytes + 8 * before.segment_bytes);
	must(after.segments_log <= before.segments_log + 2);
	verify_live(&h);
	snap_delete(&h, 0);
	nothing_left(&h);
	end(&h);
}
END_TEST

/* ---- what is refused, and what handles of before are good for ----------------------------------- */

static void begin_small(struct history *h, int world)
{
	begin(h, world, no_thread, 1);
	changes(h, 50);
	snap_create(h);
	changes(h, 50);
}

START_TEST(refused)
{
	static struct history h;
	kv_writer *w;
	kv_read *r;

	begin_small(&h, _i);
	must_be(kv_snapshot_rollback(h.v.db, "none", 0), KV_E_NOTFOUND);
	must_be(kv_snapshot_rollback(h.v.db, "", 0), KV_E_INVALID);
	must_be(kv_snapshot_rollback(h.v.db, "snap 0", 2), KV_E_INVALID);
	snap_create(&h);
	must_be(kv_snapshot_rollback(h.v.db, "snap 0", 0), KV_E_BUSY);
	must(strstr(kv_last_error(), "1 later snapshot would be deleted, the first is 'snap 1'"));
	ok(kv_snapshot_read(h.v.db, "snap 1", &r));
	must_be(kv_snapshot_rollback(h.v.db, "snap 0", KV_ROLLBACK_NEWER), KV_E_BUSY);
	must(strstr(kv_last_error(), "'snap 1' is being read"));
	verify_read(&h, r, &h.at[1]);
	/* The one that is gone back to may be read. */
	ok(kv_snapshot_rollback(h.v.db, "snap 1", 0));
	verify_read(&h, r, &h.at[1]);
	kv_read_end(r);
	pattern(h.value, 3 * (size_t)h.v.st.chunk_bytes, 7);
	ok(kv_writer_open(h.v.db, NULL, "stream", 6, &w));
	ok(kv_writer_write(w, h.value, 3 * (size_t)h.v.st.chunk_bytes));
	must_be(kv_snapshot_rollback(h.v.db, "snap 1", 0), KV_E_BUSY);
	ok(kv_writer_commit(w, 0));
	expect_bytes(&h.v, NULL, "stream", 6, h.value, 3 * (size_t)h.v.st.chunk_bytes);
	verify_snap(&h, 1);
	ok(kv_snapshot_rollback(h.v.db, "snap 1", 0));
	expect_none(&h.v, NULL, "stream");
	h.now = h.at[1];
	count_snaps(&h);
	verify_live(&h);
	volume_close(&h.v);
	h.v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&h.v);
	must_be(kv_snapshot_rollback(h.v.db, "snap 0", 1), KV_E_READONLY);
	volume_close(&h.v);
	h.v.opt.flags &= ~KV_OPEN_READONLY;
	volume_open(&h.v);
	end(&h);
}
END_TEST

/* A stream that is half way when the snapshot is made: nothing of it is left when that is gone back to. */
START_TEST(a_stream_of_then)
{
	size_t len = 0;
	static struct history h;
	kv_writer *w;

	begin_small(&h, _i);
	len = 3 * (size_t)h.v.st.chunk_bytes;
	pattern(h.value, len, 9);
	ok(kv_writer_open(h.v.db, NULL, "stream", 6, &w));
	ok(kv_writer_write(w, h.value, len));
	snap_create(&h);
	ok(kv_writer_write(w, h.value, 10));
	ok(kv_writer_commit(w, 0));
	snap_rollback(&h, 1);
	expect_none(&h.v, NULL, "stream");
	verify_live(&h);
	snap_delete(&h, 1);
	snap_delete(&h, 0);
	nothing_left(&h);
	judged_reopen(&h.v);
	end(&h);
}
END_TEST

/* What is open while the volume goes back. */
struct open_before {
	kv_tree *old, *late, *gone, *again; /* there then and now; new; of before, and one of its name */
	kv_cursor *c, *snap_c;
	kv_read *r, *snap;
	kv_batch *b;
	kv_diff *d;
};

static void open_all(struct history *h, struct open_before *o)
{
	ok(kv_tree_open(h->v.db, "old", KV_TREE_CREATE, &o->old));
	ok(kv_put(h->v.db, o->old, "a", 1, "then", 4, 0));
	ok(kv_tree_open(h->v.db, "gone", KV_TREE_CREATE, &o->gone));
	ok(kv_put(h->v.db, o->gone, "b", 1, "then", 4, 0));
	snap_create(h);
	ok(kv_put(h->v.db, o->old, "a", 1, "now", 3, 0));
	ok(kv_tree_drop(h->v.db, "gone"));
	ok(kv_tree_open(h->v.db, "gone", KV_TREE_CREATE, &o->again));
	ok(kv_tree_open(h->v.db, "late", KV_TREE_CREATE, &o->late));
	ok(kv_put(h->v.db, o->late, "c", 1, "now", 3, 0));
	changes(h, 50);
	ok(kv_read_begin(h->v.db, &o->r));
	ok(kv_cursor_open(h->v.db, NULL, o->old, &o->c));
	ok(kv_cursor_first(o->c));
	ok(kv_snapshot_read(h->v.db, "snap 0", &o->snap));
	ok(kv_cursor_open(h->v.db, o->snap, NULL, &o->snap_c));
	ok(kv_cursor_first(o->snap_c));
	ok(kv_batch_new(h->v.db, &o->b));
	ok(kv_batch_put(o->b, o->late, "d", 1, "now", 3));
	ok(kv_diff_open(o->snap, o->r, "old", &o->d));
	ok(kv_diff_next(o->d));
}

/* Frozen states of before are too old; the snapshot's is not. */
static void states_of_before(struct history *h, struct open_before *o)
{
	uint64_t n;
	size_t len;

	must_be(kv_diff_next(o->d), KV_E_TOOOLD);
	kv_diff_close(o->d);
	must_be(kv_read_get_into(o->r, o->old, "a", 1, &n, sizeof(n), &len), KV_E_TOOOLD);
	must_be(kv_cursor_seek(o->c, "a", 1), KV_E_TOOOLD);
	kv_cursor_close(o->c);
	kv_read_end(o->r);
	ok(kv_cursor_next(o->snap_c));
	kv_cursor_close(o->snap_c);
	verify_read(h, o->snap, &h->at[0]);
	kv_read_end(o->snap);
}

/* The same, one that came since, one that went. */
static void trees_of_before(struct history *h, struct open_before *o)
{
	kv_tree *t;
	uint64_t n;
	size_t len;

	expect_bytes(&h->v, o->old, "a", 1, "then", 4);
	expect_bytes(&h->v, o->gone, "b", 1, "then", 4);
	must_be(kv_put(h->v.db, o->late, "c", 1, "x", 1, 0), KV_E_NOTFOUND);
	must_be(kv_get_into(h->v.db, o->late, "c", 1, &n, sizeof(n), &len), KV_E_NOTFOUND);
	must_be(kv_count(h->v.db, o->late, &n), KV_E_NOTFOUND);
	must_be(kv_put(h->v.db, o->again, "c", 1, "x", 1, 0), KV_E_NOTFOUND);
	must_be(kv_batch_commit(o->b, 0), KV_E_NOTFOUND);
	kv_batch_free(o->b);
	must_be(kv_tree_open(h->v.db, "late", 0, &t), KV_E_NOTFOUND);
	must_be(kv_tree_drop(h->v.db, "late"), KV_E_NOTFOUND);
}

START_TEST(handles_of_before)
{
	static struct history h;
	struct open_before o;
	kv_tree *t;

	begin(&h, _i, NULL, 2);
	changes(&h, 50);
	open_all(&h, &o);
	snap_rollback(&h, 0);
	states_of_before(&h, &o);
	trees_of_before(&h, &o);
	/* The name is free for another, and its tree may go. */
	ok(kv_tree_open(h.v.db, "late", KV_TREE_CREATE, &t));
	must(t != o.late);
	ok(kv_put(h.v.db, t, "e", 1, "new", 3, 0));
	ok(kv_tree_drop(h.v.db, "gone"));
	volume_crash(&h.v);
	must_be(kv_tree_open(h.v.db, "gone", 0, &t), KV_E_NOTFOUND);
	ok(kv_tree_open(h.v.db, "late", 0, &t));
	expect_bytes(&h.v, t, "e", 1, "new", 3);
	verify_live(&h);
	judged_reopen(&h.v);
	end(&h);
}
END_TEST

/* The checkpoint before going back merges pages of the forest that the snapshot has. */
START_TEST(many_trees)
{
	static struct history h;
	char name[80];
	uint32_t i;
	kv_tree *t;

	begin(&h, _i, no_thread, 4);
	for (i = 0; i < 120; i++) {
		sprintf(name, "%03u: a tree with a name that fills the pages of the forest", i);
		ok(kv_tree_open(h.v.db, name, KV_TREE_CREATE, &t));
	}
	snap_create(&h);
	for (i = 0; i < 120; i++) {
		sprintf(name, "%03u: a tree with a name that fills the pages of the forest", i);
		ok(kv_tree_drop(h.v.db, name));
		changes(&h, 2);
	}
	snap_rollback(&h, 0);
	judged(&h.v);
	for (i = 0; i < 120; i++) {
		sprintf(name, "%03u: a tree with a name that fills the pages of the forest", i);
		ok(kv_tree_open(h.v.db, name, 0, &t));
		ok(kv_put(h.v.db, t, "key", 3, "value", 5, 0));
	}
	verify_live(&h);
	judged_reopen(&h.v);
	snap_rollback(&h, 0);
	snap_delete(&h, 0);
	verify_live(&h);
	nothing_left(&h);
	end(&h);
}
END_TEST

/* ---- an older superblock leads to another state ------------------------------------------------- */

/* Of the newest superblock, both copies. */
static void forest_damage(struct history *h)
{
	struct kvf_super sb, best = { .seq = cpu_to_le64(0) };
	uint8_t *bytes = volume_bytes(&h->v);
	uint32_t i;
	u64 off;

	for (i = 0; i < 4; i++) {
		off = i << 9;
		memcpy(&sb, bytes + off, sizeof(sb));
		if (!kvf_super_verify(&sb, off) && le64_to_cpu(sb.seq) > le64_to_cpu(best.seq))
			best = sb;
	}
	must(best.seq);
	bytes[le64_to_cpu(best.forest.block0) * 512 + 100] ^= 1;
	bytes[le64_to_cpu(best.forest.block1) * 512 + 100] ^= 1;
}

/* Records of afterwards must not meet the state of before. */
START_TEST(no_way_around_it)
{
	static struct history h;
	kv_db *db;

	begin_small(&h, MEM_TINY);
	ok(kv_checkpoint(h.v.db));
	snap_rollback(&h, 0);
	ok(kv_put(h.v.db, NULL, "after", 5, "x", 1, KV_SYNCED));
	kve_crash(h.v.db);
	forest_damage(&h);
	h.v.opt.log = volume_silent;
	must_be(kve_open_dev(h.v.dev, &h.v.opt, &db), KV_E_CORRUPT);
	h.v.dev->ops = h.v.own;
	h.v.dev->ops->close(h.v.dev);
	free(h.value);
	free(h.got);
}
END_TEST

/* ---- when memory or the device fails ------------------------------------------------------------ */

static void faulty_fill(struct volume *v)
{
	uint8_t value[1500];
	char key[16];
	uint32_t i;

	for (i = 0; i < 120; i++) {
		if (i == 60) {
			ok(kv_snapshot_create(v->db, "here"));
			ok(kv_put(v->db, NULL, "late", 4, "x", 1, 0));
		}
		if (i == 90)
			ok(kv_snapshot_create(v->db, "later"));
		pattern(value, sizeof(value), i);
		ok(kv_put(v->db, NULL, key, (size_t)sprintf(key, "k%u", i % 60), value,
			  i % 3 ? 20 : sizeof(value), 0));
	}
}

/* Before it or after it, and only after it when it says so. */
static void faulty_verify(struct volume *v, kv_db *db, int err)
{
	uint8_t got[1500], want[1500];
	kv_snapshot_info info;
	bool rolled, later;
	char key[16];
	uint32_t i, nr;
	size_t len;

	rolled = kv_get_into(db, NULL, "late", 4, got, sizeof(got), &len) == KV_E_NOTFOUND;
	later = !kv_snapshot_stat(db, "later", &info);
	must(err || rolled);
	must(rolled != later);
	for (i = 0; i < 60; i++) {
		nr = rolled ? i : i + 60;
		pattern(want, sizeof(want), nr);
		ok(kv_get_into(db, NULL, key, (size_t)sprintf(key, "k%u", i), got, sizeof(got), &len));
		must(len == (nr % 3 ? 20u : 1500u) && !memcmp(got, want, len));
	}
	(void)v;
}

static void faulty_round(enum faulty_what what)
{
	struct faulty f;
	uint32_t n, failed = 0;
	bool hit = true;
	int err;

	faulty_begin(&f, MEM_TINY, what);
	faulty_fill(&f.v);
	volume_close(&f.v);
	for (n = 1; hit; n++) {
		faulty_open(&f);
		faulty_arm(&f, n, n % 2);
		err = kv_snapshot_rollback(f.db, "here", KV_ROLLBACK_NEWER);
		hit = faulty_disarm(&f);
		must(hit || !err);
		failed += err != 0;
		if (err && kv_checkpoint(f.db) == KV_OK)
			faulty_verify(&f.v, f.db, err);
		else if (!err)
			faulty_verify(&f.v, f.db, err);
		kv_close(f.db);
	}
	printf("%u faults, %u rollbacks failed\n", n - 2, failed);
	must(failed);
	volume_open(&f.v);
	volume_end(&f.v);
}

START_TEST(failures)
{
	faulty_round(_i ? FAULTY_MEMORY : FAULTY_READ);
}
END_TEST

/* ---- beside writers and readers ----------------------------------------------------------------- */

#define WRITERS 2u

struct writer {
	pthread_t thread;
	kv_db *db;
	uint32_t nr, tooold;
	bool stop;
	int err;
};

static size_t pair_key(char *key, uint32_t writer, uint32_t i, char which)
{
	return (size_t)sprintf(key, "%u-%02u-%c", writer, i, which);
}

/* Two keys change together, and a third right after. */
static void *write_pairs(void *arg)
{
	struct writer *w = arg;
	uint8_t value[700];
	uint32_t n = 0, len;
	kv_batch *b;
	char key[32];
	int err;

	err = kv_batch_new(w->db, &b);
	for (; !err && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); n++) {
		memset(value, (int)n, sizeof(value));
		memcpy(value, &n, sizeof(n));
		len = n % 2 ? sizeof(value) : 30;
		err = kv_batch_put(b, NULL, key, pair_key(key, w->nr, n % 16, 'a'), value, len);
		if (!err)
			err = kv_batch_put(b, NULL, key, pair_key(key, w->nr, n % 16, 'b'), value,
					   sizeof(value) + 30 - len);
		if (!err)
			err = kv_batch_commit(b, 0);
		if (!err)
			err = kv_put(w->db, NULL, key, (size_t)sprintf(key, "%u-c", w->nr), value, 30, 0);
		kv_batch_clear(b);
	}
	kv_batch_free(b);
	w->err = err;
	return NULL;
}

/* Each read transaction sees pairs, or is too old. */
static void *read_pairs(void *arg)
{
	struct writer *w = arg;
	uint8_t a[700], b[700];
	char key[32];
	uint32_t n = 0;
	size_t len;
	kv_read *r;
	int err = 0, two;

	while (!err && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		err = kv_read_begin(w->db, &r);
		if (err)
			break;
		for (n = 0; n < 32 && !err; n++) {
			err = kv_read_get_into(r, NULL, key, pair_key(key, n % WRITERS, n / 2, 'a'),
					       a, sizeof(a), &len);
			two = kv_read_get_into(r, NULL, key, pair_key(key, n % WRITERS, n / 2, 'b'),
					       b, sizeof(b), &len);
			if (err == KV_E_TOOOLD || two == KV_E_TOOOLD) {
				err = KV_E_TOOOLD;
				break;
			}
			if (err != two || (!err && memcmp(a, b, 4)))
				err = KV_E_CORRUPT;
			else if (err == KV_E_NOTFOUND)
				err = 0;
			(void)kv_get_into(w->db, NULL, key, strlen(key), b, sizeof(b), &len);
		}
		kv_read_end(r);
		w->tooold += err == KV_E_TOOOLD;
		err = err == KV_E_TOOOLD ? 0 : err;
	}
	w->err = err;
	return NULL;
}

START_TEST(beside_others)
{
	static struct writer w[WRITERS + 1];
	uint32_t i, rounds = getenv("KV_TEST_QUICK") ? 15 : 60;
	struct volume v;
	char name[32];

	volume_make(&v, _i, NULL);
	memset(w, 0, sizeof(w));
	for (i = 0; i <= WRITERS; i++) {
		w[i].db = v.db;
		w[i].nr = i;
		must(!pthread_create(&w[i].thread, NULL, i < WRITERS ? write_pairs : read_pairs, &w[i]));
	}
	for (i = 0; i < rounds; i++) {
		name_make(name, i);
		ok(kv_snapshot_create(v.db, name));
		if (i % 4 == 3)
			ok(kv_gc(v.db, 100000, NULL));
		name_make(name, i - i % 3);
		ok(kv_snapshot_rollback(v.db, name, KV_ROLLBACK_NEWER));
		if (i % 3 == 2)
			ok(kv_snapshot_delete(v.db, name));
	}
	for (i = 0; i <= WRITERS; i++) {
		__atomic_store_n(&w[i].stop, true, __ATOMIC_RELAXED);
		must(!pthread_join(w[i].thread, NULL));
		must_be(w[i].err, 0);
	}
	volume_crash(&v);
	volume_reopen(&v);
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rollback");
	TCase *t = tcase_create("rollback");

	tcase_set_timeout(t, 300); /* a watchdog */
	tcase_add_loop_test(t, beside_others, 0, worlds());
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, any_order_alone, 0, worlds());
		tcase_add_loop_test(t, any_order_with_a_worker, 0, worlds());
		tcase_add_loop_test(t, nothing_is_left, 0, worlds());
		tcase_add_loop_test(t, refused, 0, worlds());
		tcase_add_loop_test(t, a_stream_of_then, 0, worlds());
		tcase_add_loop_test(t, handles_of_before, 0, worlds());
		tcase_add_loop_test(t, many_trees, 0, worlds());
		tcase_add_test(t, no_way_around_it);
		tcase_add_loop_test(t, failures, 0, 2);
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
