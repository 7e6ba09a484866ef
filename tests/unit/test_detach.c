/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_detach.c - clones that are detached: they keep what they had without their snapshot, whatever happens
 * beside that, or fails. Any history of clones, detached ones among them, is that of test_clone.
 */
#include <pthread.h>

#include "tests/unit/faulty.h"
#include "tests/unit/history.h"

/* ---- a tree of which each value is known ---------------------------------------------------------- */

#define PAIRS (SUITE_THREADS_ONLY ? 1000u : 3000u)

/* In the leaf, in the log, now and then in chunks; salt 0: the key is not there. */
static size_t make(const struct volume *v, uint8_t *value, uint32_t salt, bool large)
{
	size_t len = salt % 3 ? salt % 61 : v->st.inline_max + 1 + salt % 500;

	if (large && salt % 499 == 0)
		len = 2 * (size_t)v->st.chunk_bytes + salt % 700;
	pattern(value, len, salt);
	return len;
}

struct tree {
	kv_tree *t;
	bool large;
	uint32_t salt[PAIRS];
};

static uint8_t *buffer(const struct volume *v)
{
	uint8_t *b = malloc(2 * (size_t)v->st.chunk_bytes + 1000);

	must(b);
	return b;
}

static uint32_t key_of(uint32_t i)
{
	return i * 2654435761u;
}

/* Every step-th key from i on gets another value. */
static void write_some(struct volume *v, struct tree *t, uint32_t i, uint32_t step, uint32_t salt)
{
	uint8_t *value = buffer(v);
	uint32_t key;

	for (; i < PAIRS; i += step) {
		key = key_of(i);
		t->salt[i] = salt + i;
		ok(kv_put(v->db, t->t, &key, sizeof(key), value, make(v, value, salt + i, t->large),
			  KV_MEMORY));
	}
	free(value);
}

/* r NULL: now; then large values are read as well. */
static void verify(struct volume *v, kv_read *r, const struct tree *t)
{
	uint8_t *value = buffer(v), *got = buffer(v);
	size_t room = 2 * (size_t)v->st.chunk_bytes + 1000, len;
	uint32_t i, key;
	int err;

	for (i = 0; i < PAIRS; i++) {
		key = key_of(i);
		err = r ? kv_read_get_into(r, t->t, &key, sizeof(key), got, room, &len) :
			  kv_get_into(v->db, t->t, &key, sizeof(key), got, room, &len);
		if (r && err == KV_E_TOOOLD && t->salt[i] % 499 == 0)
			continue;
		must_be(err, t->salt[i] ? KV_OK : KV_E_NOTFOUND);
		if (!err)
			must(len == make(v, value, t->salt[i], t->large) && !memcmp(got, value, len));
	}
	free(value);
	free(got);
}

static void open_tree(struct volume *v, struct tree *t, const char *name)
{
	ok(kv_tree_open(v->db, name, KV_TREE_CREATE, &t->t));
}

static bool is_clone(struct volume *v, const char *name)
{
	kv_tree_origin_info info;

	ok(kv_tree_origin(v->db, name, &info));
	return info.snapshot[0];
}

/* Places that count as free twice, or too early, are given away. */
static void churn(struct volume *v)
{
	static struct tree other;
	uint32_t n;

	open_tree(v, &other, "other");
	for (n = 0; n < 4; n++) {
		write_some(v, &other, 0, 2, 7 + n);
		ok(kv_checkpoint(v->db));
	}
	ok(kv_tree_drop(v->db, "other"));
}

static void clone_make(struct volume *v, struct tree *from, struct tree *c, bool large)
{
	open_tree(v, from, "from");
	from->large = large;
	write_some(v, from, 0, 1, 1);
	ok(kv_snapshot_create(v->db, "s"));
	ok(kv_tree_clone(v->db, "s", "from", "c"));
	*c = *from;
	open_tree(v, c, "c");
}

/* Nothing but the clone is left, if that is. */
static void clone_alone(struct volume *v, const struct tree *c)
{
	ok(kv_snapshot_delete(v->db, "s"));
	ok(kv_tree_drop(v->db, "from"));
	churn(v);
	if (c)
		verify(v, NULL, c);
	judged_end(v);
}

/* ---- by itself ------------------------------------------------------------------------------------- */

/* All small, or with what stands in the log and in chunks; nothing of it is written again, or some is. */
START_TEST(stands_alone)
{
	static struct tree from, c, then;
	struct volume v;
	uint32_t i, key, end = 0x40000000;
	kv_read *r;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i % 2 ? MEM_TINY : MEM_DEFAULT, _i / 2 % 2 ? volume_tight : NULL);
	open_tree(&v, &from, "from");
	from.large = _i / 4;
	write_some(&v, &from, 0, 1, from.large ? 1 : 0);
	for (i = 0; !from.large && i < PAIRS; i++)
		if (i % 3 == 0) {
			key = key_of(i);
			from.salt[i] = 0;
			(void)kv_del(v.db, from.t, &key, sizeof(key), KV_MEMORY);
		}
	ok(kv_snapshot_create(v.db, "s"));
	ok(kv_tree_clone(v.db, "s", "from", "c"));
	c = from;
	open_tree(&v, &c, "c");
	ok(kv_read_begin(v.db, &r));
	then = c;
	if (from.large) {
		write_some(&v, &c, 0, 50, 11);
		/* A big-endian number would be in order; this one is a few keys anywhere. */
		ok(kv_delete_range(v.db, c.t, &end, 1, "\x20", 1, 0));
		for (i = 0; i < PAIRS; i++) {
			key = key_of(i);
			if (memcmp(&key, &end, 1) >= 0 && memcmp(&key, "\x20", 1) < 0)
				c.salt[i] = 0;
		}
	}
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	must(!is_clone(&v, "c"));
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	verify(&v, NULL, &c);
	ok(kv_snapshot_delete(v.db, "s"));
	ok(kv_tree_drop(v.db, "from"));
	churn(&v);
	verify(&v, r, &then);
	kv_read_end(r);
	volume_check(&v);
	judged_reopen(&v);
	open_tree(&v, &c, "c");
	must(!is_clone(&v, "c"));
	churn(&v);
	verify(&v, NULL, &c);
	write_some(&v, &c, 0, 7, 3);
	judged_reopen(&v);
	open_tree(&v, &c, "c");
	verify(&v, NULL, &c);
	ok(kv_tree_drop(v.db, "c"));
	judged_end(&v);
}
END_TEST

/* In pieces, of which each goes on where the last one ended; given up half way, it is a clone. */
START_TEST(in_pieces)
{
	kv_detach_info info = { .more = 1 };
	kv_tree_origin_info origin;
	static struct tree from, c;
	uint64_t left = PAIRS;
	struct volume v;
	uint32_t n;

	volume_make(&v, MEM_TINY, no_thread);
	clone_make(&v, &from, &c, true);
	for (n = 0; info.more; n++) {
		ok(kv_tree_detach(v.db, "c", 10000, &info));
		must(info.left_entries <= left && (info.copied_bytes >= 10000 || !info.more));
		left = info.left_entries;
		ok(kv_tree_origin(v.db, "c", &origin));
		must(origin.detaching == info.more);
		must(kv_snapshot_delete(v.db, "s") == (info.more ? KV_E_BUSY : KV_OK));
	}
	must(n > 10 && !left);
	ok(kv_snapshot_create(v.db, "s"));
	ok(kv_tree_clone(v.db, "s", "c", "d"));
	ok(kv_tree_detach(v.db, "d", 10000, &info));
	must(info.more);
	ok(kv_tree_clone(v.db, "s", "c", "e"));
	ok(kv_tree_detach(v.db, "e", 10000, &info));
	ok(kv_tree_drop(v.db, "d"));
	judged_reopen(&v);
	must(is_clone(&v, "e"));
	ok(kv_tree_drop(v.db, "e"));
	open_tree(&v, &c, "c");
	clone_alone(&v, &c);
}
END_TEST

/* Snapshots that show it as a clone keep its origin; going back to one makes it a clone again. */
START_TEST(back_to_a_clone)
{
	struct volume v;
	kv_tree *t;

	volume_make(&v, MEM_DEFAULT, NULL);
	must_be(kv_tree_detach(v.db, "none", 0, NULL), KV_E_NOTFOUND);
	must_be(kv_tree_detach(v.db, "", 0, NULL), KV_E_INVALID);
	ok(put(&v, NULL, "key", "then"));
	ok(kv_tree_detach(v.db, NULL, 0, NULL));
	ok(kv_snapshot_create(v.db, "first"));
	ok(kv_tree_clone(v.db, "first", "main", "c"));
	ok(kv_snapshot_create(v.db, "second"));
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	must_be(kv_snapshot_delete(v.db, "first"), KV_E_BUSY);
	error_names("'second'", "delete it first");
	ok(kv_snapshot_create(v.db, "third"));
	ok(kv_snapshot_rollback(v.db, "second", KV_ROLLBACK_NEWER));
	must(is_clone(&v, "c"));
	must_be(kv_snapshot_delete(v.db, "first"), KV_E_BUSY);
	error_names("'c'", "'first'");
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	ok(kv_snapshot_delete(v.db, "second"));
	ok(kv_snapshot_delete(v.db, "first"));
	judged_reopen(&v);
	ok(kv_tree_open(v.db, "c", 0, &t));
	expect(&v, t, "key", "then");
	judged_end(&v);
}
END_TEST

static uint64_t limit;

static void limited(kv_options *opt)
{
	opt->max_bytes = limit;
	no_thread(opt);
}

/*
 * There is no room for a copy: what was copied stays so, and all else is as it was. What is left is enough to
 * get rid of both.
 */
START_TEST(full)
{
	static struct tree from, c;
	struct volume v;
	uint32_t i;

	limit = (440 + 40 * (uint32_t)_i) * 4096;
	volume_make(&v, MEM_TINY, limited);
	clone_make(&v, &from, &c, false);
	for (i = 0; i < 2; i++) {
		must_be(kv_tree_detach(v.db, "c", 0, NULL), KV_E_NOSPACE);
		must(is_clone(&v, "c"));
		verify(&v, NULL, &c);
		judged_reopen(&v);
		open_tree(&v, &from, "from");
		open_tree(&v, &c, "c");
	}
	verify(&v, NULL, &from);
	/* Of what the snapshot has nothing is freed by that. */
	ok(kv_tree_drop(v.db, "from"));
	must_be(kv_snapshot_delete(v.db, "s"), KV_E_BUSY);
	ok(kv_tree_drop(v.db, "c"));
	/* It is taken apart first, by a step with each of these. */
	for (i = 0; i < 1000 && kv_snapshot_delete(v.db, "s") == KV_E_BUSY; i++)
		ok(put(&v, NULL, "one", "more"));
	must_be(kv_snapshot_delete(v.db, "s"), KV_E_NOTFOUND);
	ok(put(&v, NULL, "one", "more"));
	judged_end(&v);
}
END_TEST

/* ---- beside others --------------------------------------------------------------------------------- */

#define ROLLS 2u

struct worker {
	pthread_t thread;
	struct volume *v;
	struct tree *t;
	uint32_t nr;
	int err;
};

/* Its share of the keys, again and again. */
static void *writes(void *arg)
{
	struct worker *w = arg;
	uint32_t n;

	for (n = 1; n < 4; n++)
		write_some(w->v, w->t, w->nr * 4 + n, 40, n * 1000);
	return NULL;
}

static void *detaches(void *arg)
{
	struct worker *w = arg;

	kv_detach_info info = { .more = 1 };

	while (!w->err && info.more)
		w->err = kv_tree_detach(w->v->db, "c", w->nr ? 20000 : 0, &info);
	return NULL;
}

static void start(struct worker *w, void *(*fn)(void *arg), struct volume *v, struct tree *t, uint32_t nr)
{
	*w = (struct worker){ .v = v, .t = t, .nr = nr };
	must(!pthread_create(&w->thread, NULL, fn, w));
}

static int finish(struct worker *w)
{
	must(!pthread_join(w->thread, NULL));
	return w->err;
}

/* Two that detach, and two that write; or it is dropped. */
START_TEST(beside_others)
{
	static struct tree from, c;
	struct worker d[2], w[2];
	bool drop = _i % 2;
	struct volume v;
	uint32_t i;
	int err;

	volume_make(&v, _i / 2 ? MEM_TINY : MEM_DEFAULT, NULL);
	clone_make(&v, &from, &c, true);
	for (i = 0; i < 2; i++) {
		start(&d[i], detaches, &v, &c, i);
		start(&w[i], writes, &v, drop ? &from : &c, i);
	}
	if (drop)
		ok(kv_tree_drop(v.db, "c"));
	for (i = 0; i < 2; i++) {
		ok(finish(&w[i]));
		err = finish(&d[i]);
		must(!err || err == KV_E_BUSY || (drop && err == KV_E_NOTFOUND));
	}
	must_be(kv_tree_detach(v.db, "c", 0, NULL), drop ? KV_E_NOTFOUND : KV_OK);
	clone_alone(&v, drop ? NULL : &c);
}
END_TEST

/* The volume goes back meanwhile, to where nothing was copied. Streams would forbid it. */
START_TEST(beside_rollback)
{
	static struct tree from, c;
	struct worker d;
	struct volume v;
	uint32_t i;

	volume_make(&v, _i ? MEM_TINY : MEM_DEFAULT, NULL);
	clone_make(&v, &from, &c, false);
	ok(kv_snapshot_create(v.db, "with"));
	for (i = 0; i < ROLLS; i++) {
		start(&d, detaches, &v, &c, i);
		ok(kv_snapshot_rollback(v.db, "with", 0));
		ok(finish(&d));
		judged_reopen(&v);
		open_tree(&v, &c, "c");
		verify(&v, NULL, &c);
	}
	ok(kv_snapshot_delete(v.db, "with"));
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	clone_alone(&v, &c);
}
END_TEST

/* In the middle of a read, which is made with no lock held, the volume goes back. */
static struct hook {
	struct volume *v;
	uint32_t nth; /* read from now on; 0: none */
} hook;

static void hook_call(void)
{
	if (hook.nth && !--hook.nth)
		ok(kv_snapshot_rollback(hook.v->db, "with", 0));
}

static int hook_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	hook_call();
	return hook.v->own->read(dev, off, buf, len);
}

static int hook_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	if (ios->op == KVP_IO_READ)
		hook_call();
	return hook.v->own->batch(dev, ios, n);
}

START_TEST(back_meanwhile)
{
	static struct tree from, c;
	struct volume v;
	uint32_t nth;

	volume_make(&v, MEM_TINY, NULL);
	clone_make(&v, &from, &c, false);
	ok(kv_snapshot_create(v.db, "with"));
	hook.v = &v;
	v.kept.read = hook_read;
	v.kept.batch = hook_batch;
	v.opt.flags |= KV_OPEN_NOTHREAD;
	for (nth = 1; nth < 30; nth += 7) {
		judged_reopen(&v);
		hook.nth = nth;
		ok(kv_tree_detach(v.db, "c", 0, NULL));
		must(!hook.nth && !is_clone(&v, "c"));
		judged_reopen(&v);
		open_tree(&v, &c, "c");
		verify(&v, NULL, &c);
		ok(kv_snapshot_rollback(v.db, "with", 0));
	}
	ok(kv_snapshot_delete(v.db, "with"));
	ok(kv_tree_detach(v.db, "c", 0, NULL));
	clone_alone(&v, &c);
}
END_TEST

/* ---- when something fails -------------------------------------------------------------------------- */

static void fail_fill(struct faulty *f, struct tree *t)
{
	uint8_t *value = buffer(&f->v);
	uint32_t i, key;

	for (i = 0; i < 120; i++) {
		key = key_of(i);
		t->salt[i] = i == 60 ? 499 : 1 + i;
		ok(kv_put(f->v.db, NULL, &key, sizeof(key), value, make(&f->v, value, t->salt[i], true), 0));
	}
	free(value);
}

/* It is a clone still, or no more; nothing else is to be seen of it. */
START_TEST(faults)
{
	static struct tree c;
	bool hit = true;
	struct faulty f;
	uint32_t n, failed = 0;
	struct volume v;
	int err;

	memset(&c, 0, sizeof(c));
	c.large = true;
	faulty_begin(&f, MEM_TINY, _i ? FAULTY_MEMORY : FAULTY_READ);
	fail_fill(&f, &c);
	ok(kv_snapshot_create(f.v.db, "s"));
	ok(kv_tree_clone(f.v.db, "s", NULL, "c"));
	volume_close(&f.v);
	for (n = 1; hit; n += n < 40 ? 1 : 7) {
		faulty_open(&f);
		v = f.v;
		v.db = f.db;
		faulty_arm(&f, n, n % 2);
		err = kv_tree_detach(f.db, "c", 0, NULL);
		hit = faulty_disarm(&f);
		failed += err != 0;
		must(hit || !err);
		must(is_clone(&v, "c") == (err != 0));
		ok(kv_tree_detach(f.db, "c", 0, NULL));
		ok(kv_snapshot_delete(f.db, "s"));
		open_tree(&v, &c, "c");
		verify(&v, NULL, &c);
		volume_check(&v);
		ok(kv_close(f.db));
	}
	printf("%u faults at most, %u calls failed\n", n, failed);
	volume_open(&f.v);
	volume_end(&f.v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("detach");
	TCase *t = tcase_create("detach");

	tcase_add_loop_test(t, beside_others, SUITE_THREADS_ONLY ? 2 : 0, 4);
	tcase_add_loop_test(t, beside_rollback, SUITE_THREADS_ONLY, 2);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, stands_alone, 0, 8);
		tcase_add_test(t, in_pieces);
		tcase_add_loop_test(t, full, 0, 4);
		tcase_add_test(t, back_to_a_clone);
		tcase_add_test(t, back_meanwhile);
		tcase_add_loop_test(t, faults, 0, 2);
	}
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
