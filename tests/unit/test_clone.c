/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_clone.c - clones of trees of named snapshots: each shows what a model says, whatever happens to the
 * tree that it was, to the snapshots, and to other clones; nothing of it leaks, and nothing is freed too
 * early.
 */
#include "format/kvf.h"
#include "fsck/kvsck.h"
#include "tests/unit/faulty.h"
#include "tests/unit/history.h"

/* ---- the model: trees, and snapshots that show them ------------------------------------------------- */

#define TREES 6u /* the first is the default one */
#define MOST 10u /* snapshots */

struct tree {
	bool there;
	uint32_t origin; /* number of the snapshot, from 1; 0: no clone */
	struct content c;
};

struct world {
	struct history h;
	struct tree tree[TREES];
	struct {
		uint32_t nr; /* 0: none */
		struct tree tree[TREES];
	} snap[MOST]; /* oldest first */
	uint32_t snaps, refused, cloned, detached;
};

static void tree_name(char *name, uint32_t i)
{
	sprintf(name, i ? "clone %u" : "main", i);
}

static kv_tree *handle(struct world *w, uint32_t i)
{
	char name[32];
	kv_tree *t;

	tree_name(name, i);
	ok(kv_tree_open(w->h.v.db, name, 0, &t));
	return t;
}

static uint32_t any_tree(struct world *w)
{
	uint32_t i;

	do
		i = roll(&w->h, TREES);
	while (!w->tree[i].there);
	return i;
}

static void change(struct world *w)
{
	uint32_t i = any_tree(w), k = roll(&w->h, KEYS);
	struct content *c = &w->tree[i].c;
	struct history *h = &w->h;
	char key[32];
	size_t key_len = key_make(key, k), len;

	if (roll(h, 4)) {
		len = value_make(h, ++h->next);
		ok(kv_put(h->v.db, handle(w, i), key, key_len, h->value, len, 0));
		c->salt[k] = h->next;
	} else {
		must_be(kv_del(h->v.db, handle(w, i), key, key_len, 0), c->salt[k] ? KV_OK : KV_E_NOTFOUND);
		c->salt[k] = 0;
	}
}

static void change_range(struct world *w)
{
	uint32_t i = any_tree(w), at = roll(&w->h, 100000), k;
	char from[32], to[32], key[32];

	sprintf(from, "key-%05u", at);
	sprintf(to, "key-%05u", at + 15000);
	ok(kv_delete_range(w->h.v.db, handle(w, i), from, strlen(from), to, strlen(to), 0));
	for (k = 0; k < KEYS; k++) {
		key_make(key, k);
		if (strcmp(key, from) >= 0 && strcmp(key, to) < 0)
			w->tree[i].c.salt[k] = 0;
	}
}

/* All pairs, one by one and by a cursor; r NULL: now. */
static void verify_tree(struct world *w, kv_read *r, kv_tree *t, const struct content *c)
{
	size_t room = (LARGE + 1) * (size_t)w->h.v.st.chunk_bytes, len;
	struct history *h = &w->h;
	uint32_t k, n = 0;
	uint64_t nr;
	char key[32];
	kv_cursor *cur;
	int err;

	for (k = 0; k < KEYS; k++) {
		key_make(key, k);
		err = r ? kv_read_get_into(r, t, key, strlen(key), h->got, room, &len) :
			  kv_get_into(h->v.db, t, key, strlen(key), h->got, room, &len);
		must_be(err, c->salt[k] ? KV_OK : KV_E_NOTFOUND);
		if (err)
			continue;
		n++;
		must(len == value_make(h, c->salt[k]) && !memcmp(h->got, h->value, len));
	}
	ok(kv_cursor_open(h->v.db, r, t, &cur));
	for (nr = 0, err = kv_cursor_first(cur); !err; err = kv_cursor_next(cur))
		nr++;
	must(err == KV_E_NOTFOUND && nr == n);
	kv_cursor_close(cur);
	ok(kv_count(h->v.db, t, &nr));
	must(nr == n);
}

static void verify_now(struct world *w)
{
	kv_tree_origin_info info;
	char name[32], snap[32];
	uint32_t i;
	kv_tree *t;

	for (i = 0; i < TREES; i++) {
		tree_name(name, i);
		must_be(kv_tree_open(w->h.v.db, name, 0, &t), w->tree[i].there ? KV_OK : KV_E_NOTFOUND);
		if (!w->tree[i].there)
			continue;
		verify_tree(w, NULL, t, &w->tree[i].c);
		ok(kv_tree_origin(w->h.v.db, name, &info));
		name_make(snap, w->tree[i].origin);
		must(!strcmp(info.snapshot, w->tree[i].origin ? snap : ""));
	}
}

static void verify_snap_at(struct world *w, uint32_t s)
{
	char name[32];
	kv_tree *t;
	kv_read *r;
	uint32_t i;

	name_make(name, w->snap[s].nr);
	ok(kv_snapshot_read(w->h.v.db, name, &r));
	for (i = 0; i < TREES; i++) {
		tree_name(name, i);
		must_be(kv_read_tree(r, name, &t), w->snap[s].tree[i].there ? KV_OK : KV_E_NOTFOUND);
		if (w->snap[s].tree[i].there)
			verify_tree(w, r, t, &w->snap[s].tree[i].c);
	}
	kv_read_end(r);
}

/* Place of one that is there, or MOST. */
static uint32_t any_snap(struct world *w)
{
	return w->snaps ? roll(&w->h, w->snaps) : MOST;
}

static void snap_take(struct world *w)
{
	static uint32_t given;
	char name[32];

	if (w->snaps == MOST)
		return;
	name_make(name, ++given);
	ok(kv_snapshot_create(w->h.v.db, name));
	w->snap[w->snaps].nr = given;
	memcpy(w->snap[w->snaps++].tree, w->tree, sizeof(w->tree));
	w->h.there_nr++;
}

static void clone_make(struct world *w)
{
	uint32_t s = any_snap(w), i = 1 + roll(&w->h, TREES - 1);
	uint32_t from = roll(&w->h, 2) ? roll(&w->h, TREES) : 0;
	char snap[32], tree[32], name[32];

	if (s == MOST)
		return;
	name_make(snap, w->snap[s].nr);
	tree_name(tree, from);
	tree_name(name, i);
	must_be(kv_tree_clone(w->h.v.db, snap, from ? tree : NULL, name),
		!w->snap[s].tree[from].there ? KV_E_NOTFOUND : w->tree[i].there ? KV_E_EXISTS : KV_OK);
	if (!w->snap[s].tree[from].there || w->tree[i].there)
		return;
	w->tree[i] = w->snap[s].tree[from];
	w->tree[i].origin = w->snap[s].nr;
	w->cloned++;
}

static void clone_drop(struct world *w, uint32_t i)
{
	char name[32];

	if (!i || !w->tree[i].there)
		return;
	tree_name(name, i);
	ok(kv_tree_drop(w->h.v.db, name));
	w->tree[i].there = false;
}

static void clone_detach(struct world *w, uint32_t i)
{
	char name[32];

	tree_name(name, i);
	must_be(kv_tree_detach(w->h.v.db, name, 0, NULL), w->tree[i].there ? KV_OK : KV_E_NOTFOUND);
	w->detached += w->tree[i].there && w->tree[i].origin;
	w->tree[i].origin = 0;
}

static bool names(const struct tree *t, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < TREES; i++)
		if (t[i].there && t[i].origin == nr)
			return true;
	return false;
}

/* Refused just when a tree now, or in a later snapshot, starts from it. True: it is gone. */
static bool snap_give(struct world *w, uint32_t s)
{
	uint32_t i;
	bool kept;
	char name[32];

	if (s == MOST)
		return false;
	kept = names(w->tree, w->snap[s].nr);
	for (i = s + 1; i < w->snaps; i++)
		kept |= names(w->snap[i].tree, w->snap[s].nr);
	name_make(name, w->snap[s].nr);
	must_be(kv_snapshot_delete(w->h.v.db, name), kept ? KV_E_BUSY : KV_OK);
	w->refused += kept;
	if (kept) {
		error_names(name, "clone");
		return false;
	}
	for (w->snaps--, i = s; i < w->snaps; i++)
		w->snap[i] = w->snap[i + 1];
	w->h.there_nr--;
	return true;
}

static void go_back(struct world *w)
{
	uint32_t s = any_snap(w);
	char name[32];

	if (s == MOST)
		return;
	name_make(name, w->snap[s].nr);
	ok(kv_snapshot_rollback(w->h.v.db, name, KV_ROLLBACK_NEWER));
	memcpy(w->tree, w->snap[s].tree, sizeof(w->tree));
	w->snaps = s + 1;
	w->h.there_nr = w->snaps;
}

static void act(struct world *w)
{
	uint32_t what = roll(&w->h, 100);
	kv_gc_info info;

	if (what < 6)
		snap_take(w);
	else if (what < 22)
		clone_make(w);
	else if (what < 27)
		clone_drop(w, roll(&w->h, TREES));
	else if (what < 33)
		snap_give(w, any_snap(w));
	else if (what < 34)
		go_back(w);
	else if (what < 38)
		change_range(w);
	else if (what < 42)
		judged_reopen(&w->h.v);
	else if (what < 44 && w->h.v.dev)
		volume_crash(&w->h.v);
	else if (what < 48)
		ok(kv_gc(w->h.v.db, 0, &info));
	else if (what < 52)
		ok(kv_checkpoint(w->h.v.db));
	else if (what < 56)
		clone_detach(w, roll(&w->h, TREES));
	else
		for (what = roll(&w->h, 40); what; what--)
			change(w);
}

/* Clones first, then snapshots as they come free: nothing is held in the end. */
static void world_end(struct world *w)
{
	uint32_t i, before;

	for (i = 1; i < TREES; i++)
		clone_drop(w, i);
	for (before = ~0u; w->snaps && w->snaps < before;) {
		before = w->snaps;
		for (i = w->snaps; i; i--)
			snap_give(w, roll(&w->h, w->snaps) < w->snaps ? i - 1 : 0);
	}
	must(!w->snaps);
	judged_reopen(&w->h.v);
	nothing_left(&w->h);
	verify_now(w);
	end(&w->h);
}

static void tight_no_thread(kv_options *opt)
{
	volume_tight(opt);
	no_thread(opt);
}

START_TEST(any_history)
{
	uint32_t steps = getenv("KV_TEST_LONG") ? 2000 : 300, i, n;
	struct world *w = calloc(1, sizeof(*w));

	must(w);
	begin(&w->h, _i % WORLDS, _i / WORLDS % 2 ? volume_tight : tight_no_thread,
	      _i + (getenv("KV_TEST_SEED") ? strtoull(getenv("KV_TEST_SEED"), NULL, 10) : 0) * 1000);
	w->tree[0].there = true;
	for (n = 0; n < 100; n++)
		change(w);
	for (n = 0; n < steps; n++) {
		act(w);
		if (n % 8)
			continue;
		verify_now(w);
		i = any_snap(w);
		if (i != MOST)
			verify_snap_at(w, i);
		volume_check(&w->h.v);
	}
	printf("%u clones, %u detached, %u deletions refused\n", w->cloned, w->detached, w->refused);
	world_end(w);
	free(w);
}
END_TEST

/* ---- what it costs, and what it says ------------------------------------------------------------- */

#define MANY 20000u

static void fill(struct volume *v, kv_tree *t, uint32_t n)
{
	uint8_t value[700];
	uint32_t i, key;

	for (i = 0; i < n; i++) {
		key = i * 2654435761u;
		pattern(value, sizeof(value), i);
		ok(kv_put(v->db, t, &key, sizeof(key), value, i % 3 ? 60 : 700, KV_MEMORY));
	}
}

/* Making one, and dropping it, writes as little as for a small tree. */
START_TEST(costs_nothing)
{
	kv_stat_info before, after;
	struct volume v;
	kv_tree *t;

	volume_make(&v, MEM_DEFAULT, no_thread);
	fill(&v, NULL, MANY);
	ok(kv_snapshot_create(v.db, "s"));
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &before));
	ok(kv_tree_clone(v.db, "s", "main", "c"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	must(count(&v, t) == MANY);
	ok(put(&v, t, "one", "more"));
	ok(kv_tree_drop(v.db, "c"));
	ok(kv_snapshot_delete(v.db, "s"));
	ok(kv_stat(v.db, &after));
	must(after.device_write_bytes - before.device_write_bytes < 4u << 20);
	must(after.live_bytes == before.live_bytes);
	must(before.live_bytes > 4u << 20);
	judged_end(&v);
}
END_TEST

START_TEST(says_why)
{
	struct volume v;
	kv_tree *t;

	volume_make(&v, MEM_DEFAULT, no_thread);
	ok(put(&v, NULL, "key", "then"));
	ok(kv_snapshot_create(v.db, "first"));
	ok(put(&v, NULL, "key", "now"));
	must_be(kv_tree_clone(v.db, "none", "main", "c"), KV_E_NOTFOUND);
	must_be(kv_tree_clone(v.db, "first", "none", "c"), KV_E_NOTFOUND);
	must_be(kv_tree_clone(v.db, "first", "main", "main"), KV_E_EXISTS);
	must_be(kv_tree_clone(v.db, "first", "main", ""), KV_E_INVALID);
	must_be(kv_tree_clone(v.db, "first", "main", NULL), KV_E_INVALID);
	ok(kv_tree_clone(v.db, "first", NULL, "c"));
	ok(kv_tree_clone(v.db, "first", "main", "d"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	expect(&v, t, "key", "then");
	must_be(kv_snapshot_delete(v.db, "first"), KV_E_BUSY);
	error_names("'c'", "'d'");
	error_names("'first'", "drop or detach them first");
	ok(kv_snapshot_create(v.db, "second"));
	ok(kv_tree_drop(v.db, "c"));
	ok(kv_tree_drop(v.db, "d"));
	must_be(kv_snapshot_delete(v.db, "first"), KV_E_BUSY);
	error_names("'second'", "delete it first");
	judged_reopen(&v);
	must_be(kv_snapshot_delete(v.db, "first"), KV_E_BUSY);
	ok(kv_snapshot_delete(v.db, "second"));
	ok(kv_snapshot_delete(v.db, "first"));
	expect(&v, NULL, "key", "now");
	judged_end(&v);
}
END_TEST

/* A reader of a large value that only the origin has goes on, whatever becomes of the clone. */
START_TEST(large_values)
{
	size_t len, got, at;
	uint8_t *big, *out;
	struct volume v;
	kv_reader *rd;
	kv_writer *wr;
	uint64_t all;
	kv_tree *t;

	volume_make(&v, _i ? MEM_TINY : MEM_DEFAULT, no_thread);
	len = 5 * v.st.chunk_bytes + 7;
	big = malloc(len);
	out = malloc(len);
	must(big && out);
	pattern(big, len, 5);
	ok(kv_put(v.db, NULL, "big", 3, big, len, 0));
	ok(kv_put(v.db, NULL, "old", 3, big, len, 0));
	ok(kv_snapshot_create(v.db, "s"));
	ok(del(&v, NULL, "big"));
	ok(del(&v, NULL, "old"));
	ok(kv_checkpoint(v.db));
	ok(kv_tree_clone(v.db, "s", "main", "c"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	judged_reopen(&v);
	ok(kv_tree_open(v.db, "c", 0, &t));
	expect_bytes(&v, t, "big", 3, big, len);
	/* Written anew under its key, in pieces: the snapshot's stays. */
	ok(kv_writer_open(v.db, t, "old", 3, &wr));
	for (at = 0; at < len; at += got) {
		got = len - at < 1000 ? len - at : 1000;
		ok(kv_writer_write(wr, big + len - at - got, got));
	}
	ok(kv_writer_commit(wr, 0));
	ok(kv_reader_open(v.db, NULL, t, "big", 3, &rd, &all));
	must(all == len);
	ok(kv_reader_read(rd, out, v.st.chunk_bytes, &got));
	ok(del(&v, t, "big"));
	ok(kv_tree_drop(v.db, "c"));
	must_be(kv_snapshot_delete(v.db, "s"), KV_E_BUSY);
	for (at = got; at < len; at += got) {
		ok(kv_reader_read(rd, out + at, len, &got));
		must(got);
	}
	must(!memcmp(out, big, len));
	kv_reader_close(rd);
	ok(kv_snapshot_delete(v.db, "s"));
	judged_end(&v);
	free(big);
	free(out);
}
END_TEST

/* The log names a clone as soon as it is there: an older state is not fallen back to. */
START_TEST(crash_after)
{
	struct volume v;
	kv_tree *t;

	volume_make(&v, MEM_DEFAULT, no_thread);
	fill(&v, NULL, 500);
	ok(kv_snapshot_create(v.db, "s"));
	ok(kv_tree_clone(v.db, "s", "main", "c"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	ok(put(&v, t, "a", "b"));
	volume_crash(&v);
	ok(kv_tree_open(v.db, "c", 0, &t));
	expect(&v, t, "a", "b");
	must(count(&v, t) == 501);
	ok(kv_tree_drop(v.db, "c"));
	volume_crash(&v);
	must_be(kv_tree_open(v.db, "c", 0, &t), KV_E_NOTFOUND);
	ok(kv_snapshot_delete(v.db, "s"));
	judged_end(&v);
}
END_TEST

/* Back to a time before the origin: what the clone shares, and is younger, is freed once. */
START_TEST(back_before)
{
	struct volume v;
	static const uint8_t before[900];
	uint32_t i;
	kv_tree *t;

	volume_make(&v, _i ? MEM_TINY : MEM_DEFAULT, no_thread);
	fill(&v, NULL, 100);
	ok(kv_put(v.db, NULL, "\xff", 1, before, sizeof(before), 0));
	ok(kv_snapshot_create(v.db, "before"));
	fill(&v, NULL, 300);
	ok(kv_snapshot_create(v.db, "origin"));
	ok(kv_tree_clone(v.db, "origin", "main", "c"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	ok(put(&v, t, "one", "more"));
	ok(put(&v, NULL, "one", "here"));
	ok(kv_checkpoint(v.db));
	must_be(kv_snapshot_rollback(v.db, "before", 0), KV_E_BUSY);
	ok(kv_snapshot_rollback(v.db, "before", KV_ROLLBACK_NEWER));
	must_be(kv_tree_open(v.db, "c", 0, &t), KV_E_NOTFOUND);
	must(count(&v, NULL) == 101);
	/* Places that count as free twice would be given away while they are in use. */
	for (i = 0; i < 6; i++) {
		fill(&v, NULL, 100 + 50 * i);
		ok(kv_checkpoint(v.db));
	}
	volume_check(&v);
	judged_reopen(&v);
	ok(kv_snapshot_delete(v.db, "before"));
	judged_end(&v);
}
END_TEST

static int image_read(void *arg, u64 off, void *buf, u32 len)
{
	memcpy(buf, (const uint8_t *)arg + off, len);
	return 0;
}

/* The snapshot deleted beneath its clone: the judge misses it, and what the clone shared; nobody opens it. */
START_TEST(origin_lost)
{
	struct kvsck_options opt = { .flags = 0 };
	struct kvsck_io io = { .read = image_read };
	struct kvsck_report *rep = calloc(1, sizeof(*rep));
	struct volume v;
	kv_tree *t;

	must(rep);
	volume_make(&v, MEM_DEFAULT, no_thread);
	v.opt.log = volume_silent;
	fill(&v, NULL, 3000);
	ok(kv_snapshot_create(v.db, "s"));
	ok(kv_tree_clone(v.db, "s", "main", "c"));
	ok(kv_tree_open(v.db, "c", 0, &t));
	ok(put(&v, t, "one", "more"));
	ok(kv_delete_range(v.db, NULL, NULL, 0, NULL, 0, 0));
	ok(kv_gc(v.db, 0, NULL)); /* works it off */
	kvp_bug_set("clone-origin-deleted");
	ok(kv_snapshot_delete(v.db, "s"));
	kvp_bug_set(NULL);
	volume_close(&v);
	io.arg = volume_bytes(&v);
	io.size = v.dev->size;
	ok(kvsck_run(&io, &opt, rep));
	must(rep->by_code[KVF_F_tree_origin] == 1);
	must(rep->by_code[KVF_F_clone_ref] > 1);
	free(rep);
	must_be(kve_open_dev(v.dev, &v.opt, &v.db), KV_E_CORRUPT);
	error_names("clone", "kvs-fsck");
	v.db = NULL;
	volume_end(&v);
}
END_TEST

/* ---- when something fails ---------------------------------------------------------------------------- */

static void faulty_round(enum faulty_what what)
{
	bool hit = true, there;
	struct faulty f;
	uint32_t n, failed = 0;
	uint64_t nr;
	kv_tree *t;
	int err;

	faulty_begin(&f, MEM_TINY, what);
	fill(&f.v, NULL, 60);
	ok(kv_snapshot_create(f.v.db, "s"));
	fill(&f.v, NULL, 20);
	volume_close(&f.v);
	for (n = 1; hit; n++) {
		faulty_open(&f);
		faulty_arm(&f, n, n % 2);
		err = kv_tree_clone(f.db, "s", "main", "c");
		hit = faulty_disarm(&f);
		failed += err != 0;
		must(hit || !err);
		there = !kv_tree_open(f.db, "c", 0, &t);
		must(there == !err);
		if (there) {
			ok(kv_count(f.db, t, &nr));
			must(nr == 60);
		} else {
			ok(kv_tree_clone(f.db, "s", "main", "c"));
		}
		ok(kv_tree_drop(f.db, "c"));
		ok(kv_snapshot_delete(f.db, "s"));
		ok(kv_close(f.db));
	}
	printf("%u faults, %u clones failed\n", n - 2, failed);
	volume_open(&f.v);
	volume_end(&f.v);
}

START_TEST(faults)
{
	faulty_round(_i ? FAULTY_MEMORY : FAULTY_READ);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("clone");
	TCase *t = tcase_create("clone");

	tcase_add_loop_test(t, any_history, 0, getenv("KV_TEST_LONG") ? 64 : 8);
	tcase_add_test(t, says_why);
	tcase_add_loop_test(t, large_values, 0, 2);
	tcase_add_test(t, crash_after);
	tcase_add_loop_test(t, back_before, 0, 2);
	tcase_add_test(t, origin_lost);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_test(t, costs_nothing);
		tcase_add_loop_test(t, faults, 0, 2);
	}
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
