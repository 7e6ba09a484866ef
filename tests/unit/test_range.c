/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_range.c - deleting ranges, trees and large values: what it costs at once, what is seen from then on,
 * and how it is worked off. Crashes in every state of it: tests/crash, tests/model.
 */
#include <pthread.h>

#include "format/kvf.h"
#include "tests/unit/judged.h"

#define KEYS 1500u
#define VALUE_MAX 300000u

/* What each key holds: the number of the change that wrote it; 0: nothing. */
struct content {
	uint32_t salt[KEYS];
	uint32_t next;
};

static size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%05u", i);
}

/* Most stand in their leaf, some in the log, a few in chunks. */
static size_t value_make(struct volume *v, uint8_t *buf, uint32_t salt)
{
	size_t len = salt % 40 + 1;

	if (salt % 7 == 3)
		len = v->st.inline_max + salt % 200 + 1;
	if (salt % 97 == 5)
		len = v->st.chunk_bytes + salt % 1000 + 1;
	must(len <= VALUE_MAX);
	pattern(buf, len, salt);
	return len;
}

static uint8_t bytes[VALUE_MAX];

static void set(struct volume *v, struct content *c, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i), len = value_make(v, bytes, ++c->next);

	ok(kv_put(v->db, NULL, key, key_len, bytes, len, 0));
	c->salt[i] = c->next;
}

static void fill(struct volume *v, struct content *c)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++)
		set(v, c, i);
}

/* [from, to); KEYS: no bound */
static void unset_range(struct volume *v, struct content *c, uint32_t from, uint32_t to, uint32_t flags)
{
	char a[32], b[32];
	size_t a_len = key_make(a, from), b_len = key_make(b, to);

	ok(kv_delete_range(v->db, NULL, a, a_len, to < KEYS ? b : NULL, to < KEYS ? b_len : 0, flags));
	for (; from < to; from++)
		c->salt[from] = 0;
}

static uint32_t next_there(const struct content *c, uint32_t i)
{
	while (i < KEYS && !c->salt[i])
		i++;
	return i;
}

static void verify_scan(struct volume *v, kv_read *r, const struct content *c)
{
	const void *key, *value;
	size_t key_len, len, want;
	kv_cursor *cur;
	char name[32];
	uint32_t i;
	int err;

	ok(kv_cursor_open(v->db, r, NULL, &cur));
	i = next_there(c, 0);
	for (err = kv_cursor_first(cur); !err; err = kv_cursor_next(cur)) {
		must(i < KEYS);
		ok(kv_cursor_key(cur, &key, &key_len));
		must(key_len == key_make(name, i) && !memcmp(key, name, key_len));
		ok(kv_cursor_value(cur, &value, &len));
		want = value_make(v, bytes, c->salt[i]);
		must(len == want && !memcmp(value, bytes, len));
		i = next_there(c, i + 1);
	}
	must_be(err, KV_E_NOTFOUND);
	must(i == KEYS);
	for (err = kv_cursor_last(cur); !err; err = kv_cursor_prev(cur)) {
		ok(kv_cursor_key(cur, &key, &key_len));
		while (i && !c->salt[--i])
			;
		must(key_len == key_make(name, i) && !memcmp(key, name, key_len));
	}
	must_be(err, KV_E_NOTFOUND);
	must(next_there(c, 0) >= i);
	kv_cursor_close(cur);
}

static void verify_gets(struct volume *v, kv_read *r, const struct content *c)
{
	static char names[KEYS][16];
	static kv_item items[KEYS];
	uint8_t *buf = malloc(VALUE_MAX);
	size_t len, want;
	uint32_t i;
	int err;

	must(buf);
	for (i = 0; i < KEYS; i++) {
		items[i] = (kv_item){ .key = names[i], .key_len = key_make(names[i], i) };
		err = r ? kv_read_get_into(r, NULL, names[i], items[i].key_len, buf, VALUE_MAX, &len) :
			  kv_get_into(v->db, NULL, names[i], items[i].key_len, buf, VALUE_MAX, &len);
		must_be(err, c->salt[i] ? 0 : KV_E_NOTFOUND);
		if (err)
			continue;
		want = value_make(v, bytes, c->salt[i]);
		must(len == want && !memcmp(buf, bytes, len));
	}
	ok(r ? kv_read_get_many(r, NULL, KEYS, items) : kv_get_many(v->db, NULL, KEYS, items));
	for (i = 0; i < KEYS; i++)
		must_be(items[i].err, c->salt[i] ? KV_E_TOOBIG : KV_E_NOTFOUND);
	free(buf);
}

static int count_main(void *arg, const char *name, uint64_t n)
{
	if (!strcmp(name, "main"))
		*(uint64_t *)arg = n;
	return 0;
}

static void verify(struct volume *v, const struct content *c)
{
	uint64_t n = 0, listed = 0;
	uint32_t i;

	verify_gets(v, NULL, c);
	verify_scan(v, NULL, c);
	for (i = 0; i < KEYS; i++)
		n += c->salt[i] != 0;
	must(count(v, NULL) == n);
	ok(kv_tree_list(v->db, count_main, &listed));
	must(listed == n);
}

/* Steps come with changes alone, and so what is pending stays so until then. */
static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->log_level = KV_LOG_ERROR;
}

static void work_off(struct volume *v)
{
	kv_tree *other;
	uint32_t i;

	ok(kv_tree_open(v->db, "other", KV_TREE_CREATE, &other));
	for (i = 0; i < 4000; i++)
		ok(kv_put(v->db, other, "k", 1, "v", 1, 0));
}

/* Row S13: from the call on it is gone for all that read, however far the work is, over crashes. */
START_TEST(nobody_sees_it)
{
	static struct content c;
	struct volume v;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	fill(&v, &c);
	unset_range(&v, &c, 200, 900, 0);
	verify(&v, &c);
	ok(kv_checkpoint(v.db));
	verify(&v, &c);
	volume_check(&v);
	volume_reopen(&v);
	verify(&v, &c);
	volume_crash(&v);
	verify(&v, &c);
	unset_range(&v, &c, 1400, KEYS, KV_SYNCED);
	volume_crash(&v);
	verify(&v, &c);
	volume_close(&v);
	judged(&v);
	v.opt.flags |= KV_OPEN_READONLY;
	volume_open(&v);
	verify(&v, &c);
	volume_close(&v);
	v.opt.flags &= ~(uint32_t)KV_OPEN_READONLY;
	volume_open(&v);
	work_off(&v);
	verify(&v, &c);
	volume_reopen(&v);
	verify(&v, &c);
	unset_range(&v, &c, 0, KEYS, 0);
	verify(&v, &c);
	judged_end(&v);
}
END_TEST

/* A leaf that a batch empties, and puts into again: what is beside it hides something still. */
static void empty_and_put(struct volume *v, struct content *c, uint32_t i)
{
	char a[32], b[32];
	size_t a_len = key_make(a, i), b_len = key_make(b, i + 1), len;
	kv_batch *batch;

	set(v, c, i);
	len = value_make(v, bytes, ++c->next);
	ok(kv_batch_new(v->db, &batch));
	ok(kv_batch_del(batch, NULL, a, a_len));
	ok(kv_batch_put(batch, NULL, b, b_len, bytes, len));
	ok(kv_batch_commit(batch, 0));
	kv_batch_free(batch);
	c->salt[i] = 0;
	c->salt[i + 1] = c->next;
}

/* Row S13: whoever writes into the range finds nothing old there, is seen, and brings nothing back. */
START_TEST(new_ones_are_seen)
{
	static struct content c;
	struct volume v;
	uint64_t len;
	uint32_t i;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	fill(&v, &c);
	ok(put(&v, NULL, "key-00500", "17"));
	ok(kv_checkpoint(v.db));
	unset_range(&v, &c, 100, 1300, 0);
	must_be(kv_inc(v.db, NULL, "key-00500", 9, 1, NULL, 0), KV_E_NOTFOUND);
	must_be(del(&v, NULL, "key-00501"), KV_E_NOTFOUND);
	must_be(kv_put(v.db, NULL, "key-00502", 9, "x", 1, KV_PUT_REPLACE), KV_E_NOTFOUND);
	must_be(kv_exists(v.db, NULL, "key-00503", 9, &len), KV_E_NOTFOUND);
	ok(kv_put(v.db, NULL, "key-00502", 9, "x", 1, KV_PUT_NEW));
	expect(&v, NULL, "key-00502", "x");
	ok(del(&v, NULL, "key-00502"));
	for (i = 130; i < 200; i += 9)
		empty_and_put(&v, &c, 1000 + i);
	verify(&v, &c);
	for (i = 100; i < 1300; i += 7)
		set(&v, &c, i);
	verify(&v, &c);
	/* Deleted again, in part, while the first is pending still. */
	unset_range(&v, &c, 50, 600, 0);
	for (i = 90; i < 1300; i += 31)
		set(&v, &c, i);
	verify(&v, &c);
	volume_crash(&v);
	verify(&v, &c);
	judged_reopen(&v);
	work_off(&v);
	verify(&v, &c);
	volume_end(&v);
}
END_TEST

/* Row S13: a state that is older than the range keeps what it holds, also when all is worked off. */
START_TEST(older_states_keep_it)
{
	static struct content c, before;
	struct volume v;
	kv_read *old, *between;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	fill(&v, &c);
	before = c;
	ok(kv_read_begin(v.db, &old));
	unset_range(&v, &c, 300, 1200, 0);
	ok(kv_read_begin(v.db, &between));
	verify_gets(&v, old, &before);
	verify_gets(&v, between, &c);
	work_off(&v);
	ok(kv_checkpoint(v.db));
	verify_gets(&v, old, &before);
	verify_scan(&v, old, &before);
	verify_gets(&v, between, &c);
	verify_scan(&v, between, &c);
	kv_read_end(old);
	ok(kv_checkpoint(v.db));
	verify_scan(&v, between, &c);
	kv_read_end(between);
	verify(&v, &c);
	volume_end(&v);
}
END_TEST

struct cost {
	uint64_t reads, writes, flushes, bytes;
};

static struct cost spent(struct volume *v, const kv_stat_info *since)
{
	kv_stat_info now;

	ok(kv_stat(v->db, &now));
	return (struct cost){ now.device_reads - since->device_reads,
			      now.device_writes - since->device_writes,
			      now.device_flushes - since->device_flushes,
			      now.device_write_bytes - since->device_write_bytes };
}

/* What deleting n keys, a tree of n keys, a value of n chunks costs at once, with nothing in memory. */
static void costs(int world, uint32_t n, struct cost out[3])
{
	kv_stat_info st;
	struct volume v;
	kv_tree *tree;
	kv_writer *w;
	char key[32];
	uint32_t i;

	volume_make(&v, world, no_thread);
	ok(kv_tree_open(v.db, "dropped", KV_TREE_CREATE, &tree));
	ok(kv_writer_open(v.db, NULL, "large", 5, &w));
	for (i = 0; i < n; i++) {
		size_t len = key_make(key, i);

		ok(kv_put(v.db, NULL, key, len, bytes, 100, KV_MEMORY));
		ok(kv_put(v.db, tree, key, len, bytes, 100, KV_MEMORY));
		ok(kv_writer_write(w, bytes, v.st.chunk_bytes < 4096 ? v.st.chunk_bytes : 4096));
	}
	ok(kv_writer_commit(w, 0));
	volume_reopen(&v);
	/* The first change marks the volume as open. */
	ok(kv_put(v.db, NULL, "a", 1, "b", 1, KV_SYNCED));
	ok(kv_stat(v.db, &st));
	ok(kv_delete_range(v.db, NULL, "key", 3, "kez", 3, KV_SYNCED));
	out[0] = spent(&v, &st);
	expect_none(&v, NULL, "key-00000");
	/* Its leaf is brought in; its chunks are not. */
	ok(kv_exists(v.db, NULL, "large", 5, NULL));
	ok(kv_stat(v.db, &st));
	ok(kv_tree_drop(v.db, "dropped"));
	ok(kv_sync(v.db));
	out[1] = spent(&v, &st);
	volume_end(&v);

	/* By itself, as nothing else is in the work then. */
	volume_make(&v, world, no_thread);
	ok(kv_writer_open(v.db, NULL, "large", 5, &w));
	for (i = 0; i < n; i++)
		ok(kv_writer_write(w, bytes, v.st.chunk_bytes));
	ok(kv_writer_commit(w, 0));
	volume_reopen(&v);
	ok(kv_put(v.db, NULL, "a", 1, "b", 1, KV_SYNCED));
	ok(kv_stat(v.db, &st));
	ok(kv_del(v.db, NULL, "large", 5, KV_SYNCED));
	out[2] = spent(&v, &st);
	expect_none(&v, NULL, "large");
	volume_end(&v);
}

/* Row S13: constant I/O in the call, for a range, a tree, a large value. */
START_TEST(cost_does_not_depend_on_size)
{
	struct cost small[3], large[3];
	int i;

	costs(_i, 100, small);
	costs(_i, 5000, large);
	must(!large[0].reads);
	for (i = 0; i < 3; i++) {
		/* A value: the way to its doomed row, in a higher tree. */
		must(large[i].reads <= small[i].reads + (i == 0 ? 0 : KVF_DEPTH_MAX));
		must(large[i].writes <= small[i].writes + 1);
		must(large[i].flushes <= small[i].flushes);
	}
}
END_TEST

/* Row S13: a bounded step with each change; at the end it is as if there had never been anything. */
START_TEST(space_comes_back)
{
	static struct content c;
	kv_stat_info full, empty, end;
	struct volume v;
	uint32_t i;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &empty));
	fill(&v, &c);
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &full));
	must(full.live_bytes > empty.live_bytes);
	unset_range(&v, &c, 0, KEYS, 0);
	/* Never more than a leaf and a chunk group at once: it takes several. */
	ok(put(&v, NULL, "a", "b"));
	ok(kv_stat(v.db, &end));
	must(end.live_bytes > empty.live_bytes);
	for (i = 0; i < 3; i++) {
		work_off(&v);
		volume_reopen(&v);
	}
	ok(kv_checkpoint(v.db));
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &end));
	must(end.live_bytes == empty.live_bytes);
	/* Of tiny volumes the segment table is most. */
	if (v.st.segment_bytes > 4096)
		must(end.tree_bytes < full.tree_bytes / 2);
	must(count(&v, NULL) == 1);
	verify_gets(&v, NULL, &c);
	judged_end(&v);
}
END_TEST

/* A step deletes chunks of many values: there are not as many steps as values. */
START_TEST(many_large_values)
{
	kv_stat_info empty, full, st;
	struct volume v;
	kv_batch *b;
	char key[32];
	uint8_t *value;
	uint32_t i, steps;

	volume_make(&v, _i, no_thread);
	value = calloc(1, v.st.chunk_bytes + 100);
	ok(put(&v, NULL, "a", "b"));
	ok(kv_checkpoint(v.db));
	ok(kv_stat(v.db, &empty));
	ok(kv_batch_new(v.db, &b));
	for (i = 0; i < 48; i++) {
		size_t len = key_make(key, i);

		ok(kv_put(v.db, NULL, key, len, value, v.st.chunk_bytes + 100, 0));
		ok(kv_batch_del(b, NULL, key, len));
	}
	ok(kv_stat(v.db, &full));
	must(full.live_bytes > empty.live_bytes);
	ok(kv_batch_commit(b, 0));
	for (steps = 0; steps < 6; steps++)
		ok(put(&v, NULL, "a", "b"));
	ok(kv_stat(v.db, &st));
	must(st.live_bytes == empty.live_bytes);
	kv_batch_free(b);
	free(value);
	judged_end(&v);
}
END_TEST

/* A leaf that cannot be read: its range hides what may be there, and the next opening goes on. */
START_TEST(damage_leaves_it_pending)
{
	struct kvp_fault fault = { .kinds = 0 };
	static struct content c;
	struct kvp_dev *dev;
	struct volume v;
	kv_tree *other;
	uint32_t i;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	v.opt.log = volume_silent;
	fill(&v, &c);
	volume_close(&v);
	must(!kvp_fault_open(&dev, v.dev, &fault));
	ok(kve_open_dev(dev, &v.opt, &v.db));
	ok(kv_tree_open(v.db, "other", KV_TREE_CREATE, &other));
	ok(put(&v, other, "a", "b"));
	unset_range(&v, &c, 100, KEYS - 100, 0);
	fault = (struct kvp_fault){ .kinds = KVP_FAULT_READ, .error = -KVE_io_read, .nth = 1,
				    .persistent = true };
	ok(put(&v, other, "a", "b"));
	must(fault.failed);
	fault.nth = 0;
	for (i = 0; i < 100; i++)
		ok(put(&v, other, "a", "b"));
	must_be(kv_snapshot_create(v.db, "s"), KV_E_BUSY);
	error_names("range delete", "kvs-fsck");
	verify(&v, &c);
	judged_reopen(&v);
	verify(&v, &c);
	/* It waits for the work, and gets on with it. */
	ok(kv_snapshot_create(v.db, "s"));
	verify(&v, &c);
	ok(kv_snapshot_delete(v.db, "s"));
	judged_end(&v);
}
END_TEST

/* Many ranges, one beside and over the other, of several trees, some dropped while it is pending. */
START_TEST(many_at_once)
{
	static struct content c;
	kv_tree *gone;
	struct volume v;
	uint32_t i, k;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, no_thread);
	ok(kv_tree_open(v.db, "gone", KV_TREE_CREATE, &gone));
	for (i = 0; i < 500; i++)
		ok(kv_put(v.db, gone, &i, 4, bytes, 200, 0));
	fill(&v, &c);
	ok(kv_delete_range(v.db, gone, NULL, 0, NULL, 0, 0));
	for (i = 0; i < 200; i++) {
		unset_range(&v, &c, i * 7, i * 7 + i % 9, 0);
		if (i % 50 == 9)
			volume_crash(&v);
		if (i % 60 == 3)
			ok(kv_checkpoint(v.db));
		for (k = 0; k < 3; k++)
			set(&v, &c, (i * 131 + k * 17) % KEYS);
	}
	verify(&v, &c);
	ok(kv_tree_drop(v.db, "gone"));
	must_be(kv_delete_range(v.db, NULL, "b", 1, "a", 1, 0), 0);
	must_be(kv_delete_range(v.db, NULL, "b", 1, "b", 1, 0), 0);
	volume_crash(&v);
	verify(&v, &c);
	work_off(&v);
	verify(&v, &c);
	judged_end(&v);
}
END_TEST

START_TEST(misuse)
{
	static char long_key[70000];
	struct volume v;
	kv_tree *tree;

	volume_make(&v, _i, NULL);
	must_be(kv_delete_range(v.db, NULL, NULL, 3, NULL, 0, 0), KV_E_INVALID);
	must_be(kv_delete_range(v.db, NULL, NULL, 0, NULL, 3, 0), KV_E_INVALID);
	must_be(kv_delete_range(v.db, NULL, long_key, sizeof(long_key), NULL, 0, 0), KV_E_TOOBIG);
	must_be(kv_delete_range(v.db, NULL, "a", 1, long_key, sizeof(long_key), 0), KV_E_TOOBIG);
	must_be(kv_delete_range(v.db, NULL, "a", 1, NULL, 0, KV_PUT_NEW), KV_E_INVALID);
	ok(kv_tree_open(v.db, "t", KV_TREE_CREATE, &tree));
	ok(kv_tree_drop(v.db, "t"));
	must_be(kv_delete_range(v.db, tree, "a", 1, NULL, 0, 0), KV_E_NOTFOUND);
	ok(kv_delete_range(v.db, NULL, NULL, 0, NULL, 0, 0));
	volume_end(&v);
}
END_TEST

/* Row S13: what waits to be deleted is space, for whoever needs it now. */
static void limited(kv_options *opt)
{
	opt->max_bytes = opt->segment_bytes ? 256u * opt->segment_bytes : 48u << 20;
	opt->log_level = KV_LOG_ERROR;
}

START_TEST(full_volume_has_room_again)
{
	struct volume v;
	char key[32];
	uint32_t i, n, turn;
	int err;

	volume_make(&v, _i, limited);
	for (turn = 0; turn < 3; turn++) {
		for (n = 0;; n++) {
			size_t len = key_make(key, n);

			err = kv_put(v.db, NULL, key, len, bytes, turn == 1 ? 40 : v.st.inline_max + 900, 0);
			if (err)
				break;
		}
		must_be(err, KV_E_NOSPACE);
		must(n > 100);
		ok(kv_delete_range(v.db, NULL, "key-", 4, "key.", 4, 0));
		must(count(&v, NULL) == 0);
		for (i = 0; i < n / 2; i++) {
			size_t len = key_make(key, i);

			ok(kv_put(v.db, NULL, key, len, bytes, turn == 1 ? 40 : v.st.inline_max + 900, 0));
		}
		must(count(&v, NULL) == n / 2);
		ok(kv_delete_range(v.db, NULL, NULL, 0, NULL, 0, 0));
	}
	volume_end(&v);
}
END_TEST

struct job {
	pthread_t thread;
	struct volume *v;
	int err, stop;
};

/* Ten keys come in one batch, and go as one range: nobody sees some of them. */
static void *look(void *arg)
{
	struct job *j = arg;
	uint32_t n, i;
	kv_cursor *c;
	kv_item it[10];
	char key[10][8], buf[8];
	int err;

	while (!j->err && !kvp_load(&j->stop)) {
		err = kv_cursor_open(j->v->db, NULL, NULL, &c);
		if (err) {
			j->err = err;
			break;
		}
		ok(kv_cursor_bounds(c, "ten", 3, "teo", 3));
		for (n = 0, err = kv_cursor_first(c); !err; err = kv_cursor_next(c))
			n++;
		kv_cursor_close(c);
		if (err != KV_E_NOTFOUND || (n && n != 10))
			j->err = 1;
		for (i = 0; i < 10; i++)
			it[i] = (kv_item){ .key = key[i], .key_len = (size_t)sprintf(key[i], "ten%u", i),
					   .buf = buf, .cap = sizeof(buf) };
		if (kv_get_many(j->v->db, NULL, 10, it))
			j->err = 2;
	}
	return NULL;
}

START_TEST(beside_readers)
{
	struct job jobs[3];
	struct volume v;
	kv_batch *b;
	char key[32];
	uint32_t i, k;

	volume_make(&v, _i, NULL);
	for (i = 0; i < 2000; i++)
		ok(kv_put(v.db, NULL, key, (size_t)sprintf(key, "s%u", i), bytes, 50, 0));
	memset(jobs, 0, sizeof(jobs));
	for (i = 0; i < 3; i++) {
		jobs[i].v = &v;
		must(!pthread_create(&jobs[i].thread, NULL, look, &jobs[i]));
	}
	ok(kv_batch_new(v.db, &b));
	for (k = 0; k < 300; k++) {
		for (i = 0; i < 10; i++)
			ok(kv_batch_put(b, NULL, key, (size_t)sprintf(key, "ten%u", i), "v", 1));
		ok(kv_batch_commit(b, 0));
		ok(kv_delete_range(v.db, NULL, "ten", 3, "teo", 3, 0));
		expect_none(&v, NULL, "ten3");
		ok(kv_put(v.db, NULL, "tf", 2, "v", 1, 0));
		if (k % 16 == 0)
			ok(kv_checkpoint(v.db));
	}
	kv_batch_free(b);
	for (i = 0; i < 3; i++) {
		kvp_store(&jobs[i].stop, 1);
		must(!pthread_join(jobs[i].thread, NULL));
		must_be(jobs[i].err, 0);
	}
	must(count(&v, NULL) == 2001);
	volume_reopen(&v);
	must(count(&v, NULL) == 2001);
	volume_end(&v);
}
END_TEST

/* A checkpoint that runs beside the work shows both as of one instant, and a crash goes on from there. */
START_TEST(checkpoints_in_the_middle)
{
	static struct content c;
	kv_stat_info st;
	struct volume v;
	uint32_t turn, i;

	memset(&c, 0, sizeof(c));
	volume_make(&v, _i, NULL);
	for (turn = 0; turn < 12; turn++) {
		fill(&v, &c);
		ok(kv_checkpoint(v.db));
		unset_range(&v, &c, turn, KEYS - turn, 0);
		for (i = 0; i <= turn % 4; i++)
			ok(kv_checkpoint(v.db));
		volume_crash(&v);
		for (i = 0; i < 3000; i++) {
			ok(kv_stat(v.db, &st));
			if (st.entries == 2 * turn)
				break;
			usleep(1000);
		}
		must(count(&v, NULL) == 2 * turn);
		verify_scan(&v, NULL, &c);
	}
	judged_end(&v);
}
END_TEST

static struct {
	kv_db *db;
	kv_tree *other;
	int (*batch)(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n);
	uint32_t calls;
} between;

/* Pages are on their way to the medium, and ten steps come in between. */
static int batch_and_steps(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	kv_db *db = between.db;
	uint32_t i;

	between.db = NULL;
	for (i = 0; db && i < 10; i++)
		ok(kv_put(db, between.other, "k", 1, &i, 4, 0));
	between.calls += db != NULL;
	return between.batch(dev, ios, n);
}

/* The cursor that a checkpoint writes is that of its pages. */
START_TEST(cursor_is_of_the_freeze)
{
	static struct content c;
	struct volume v;
	uint32_t i;

	memset(&c, 0, sizeof(c));
	memset(&between, 0, sizeof(between));
	volume_make(&v, MEM_TINY, no_thread);
	between.batch = v.kept.batch;
	v.kept.batch = batch_and_steps;
	ok(kv_tree_open(v.db, "between", KV_TREE_CREATE, &between.other));
	for (i = 0; i < 2 * KEYS; i++) {
		char key[32];

		/* All in their leaves: more pages than two buffers of a checkpoint have. */
		ok(kv_put(v.db, NULL, key, key_make(key, i), bytes, 60, 0));
	}
	unset_range(&v, &c, 10, KEYS, 0);
	between.db = v.db;
	ok(kv_checkpoint(v.db));
	must(between.calls == 1);
	volume_crash(&v);
	work_off(&v);
	must(count(&v, NULL) == 10);
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("range");
	TCase *t = tcase_create("range");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, beside_readers, RACE_FIRST, RACE_END);
	tcase_add_loop_test(t, checkpoints_in_the_middle, RACE_FIRST, RACE_END);
	tcase_add_loop_test(t, full_volume_has_room_again, FILE_DEFAULT, RACE_END);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, nobody_sees_it, 0, worlds());
		tcase_add_loop_test(t, new_ones_are_seen, 0, worlds());
		tcase_add_loop_test(t, older_states_keep_it, 0, worlds());
		tcase_add_loop_test(t, cost_does_not_depend_on_size, 0, worlds());
		tcase_add_loop_test(t, space_comes_back, 0, worlds());
		tcase_add_loop_test(t, many_large_values, 0, worlds());
		tcase_add_loop_test(t, damage_leaves_it_pending, 0, FILE_DEFAULT);
		tcase_add_loop_test(t, many_at_once, 0, worlds());
		tcase_add_loop_test(t, misuse, 0, worlds());
		tcase_add_test(t, cursor_is_of_the_freeze);
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
