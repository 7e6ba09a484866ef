/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_replay.c - replay applies changes of entries in groups: the log's order counts all the same, whatever
 * stands between them; pages that a group lacks are read together; failures are those of single reads.
 * CONTRACT C2 C4 C11 C19.
 */
#include "tests/unit/faulty.h"

#define KEYS 300u
#define TREES 3u

static uint64_t chance_state;

static uint32_t chance(uint32_t below)
{
	return volume_chance(&chance_state, below);
}

/* ---- in the order of the log --------------------------------------------------------------------- */

/* What a key holds is a number, 0: nothing. */
struct model {
	uint32_t tree[TREES][KEYS];
	uint32_t last;
	kv_tree *handle[TREES]; /* [0] NULL: the default one */
};

static size_t key_of(char *key, uint32_t id)
{
	return (size_t)sprintf(key, "a/prefix/%05u", id);
}

/* Some are separated. */
static size_t value_of(const struct volume *v, uint8_t *buf, uint32_t seed)
{
	size_t len = seed % 9 ? seed % 60 : v->st.inline_max + seed % 100;

	pattern(buf, len, seed);
	return len;
}

static void trees_open(struct volume *v, struct model *m)
{
	char name[8];
	uint32_t t;

	for (t = 1; t < TREES; t++) {
		sprintf(name, "t%u", t);
		ok(kv_tree_open(v->db, name, KV_TREE_CREATE, &m->handle[t]));
	}
}

static void model_check(struct volume *v, struct model *m)
{
	uint8_t want[4096], got[4096];
	uint32_t t, id, nr;
	size_t len;
	char key[40];
	int err;

	for (t = 0; t < TREES; t++) {
		for (id = nr = 0; id < KEYS; id++) {
			err = kv_get_into(v->db, m->handle[t], key, key_of(key, id), got, sizeof(got), &len);
			must_be(err, m->tree[t][id] ? KV_OK : KV_E_NOTFOUND);
			if (err)
				continue;
			nr++;
			if (len != value_of(v, want, m->tree[t][id]) || memcmp(got, want, len))
				ck_abort_msg("tree %u, key %u: a wrong value", t, id);
		}
		must(count(v, m->handle[t]) == nr);
	}
}

/* A few keys more often than the others. */
static uint32_t any_key(void)
{
	return chance(3) ? chance(8) : chance(KEYS);
}

static void change(struct volume *v, struct model *m, kv_batch *b)
{
	uint32_t t = chance(TREES), id = any_key(), *at = &m->tree[t][id];
	uint8_t value[4096];
	size_t len, value_len;
	char key[40];

	len = key_of(key, id);
	if (chance(3)) {
		*at = ++m->last;
		value_len = value_of(v, value, *at);
		ok(b ? kv_batch_put(b, m->handle[t], key, len, value, value_len) :
		       kv_put(v->db, m->handle[t], key, len, value, value_len, 0));
	} else if (b) {
		*at = 0;
		ok(kv_batch_del(b, m->handle[t], key, len));
	} else {
		must_be(kv_del(v->db, m->handle[t], key, len, 0), *at ? KV_OK : KV_E_NOTFOUND);
		*at = 0;
	}
}

static void change_many(struct volume *v, struct model *m)
{
	uint32_t n = 1 + chance(100);
	kv_batch *b;

	ok(kv_batch_new(v->db, &b));
	while (n--)
		change(v, m, b);
	ok(kv_batch_commit(b, 0));
	kv_batch_free(b);
}

static void range_delete(struct volume *v, struct model *m)
{
	uint32_t t = chance(TREES), from = chance(KEYS), to = from + chance(KEYS - from);
	char a[40], b[40];

	ok(kv_delete_range(v->db, m->handle[t], a, key_of(a, from), b, key_of(b, to), 0));
	for (; from < to; from++)
		m->tree[t][from] = 0;
}

static void tree_anew(struct volume *v, struct model *m)
{
	ok(kv_tree_drop(v->db, "t2"));
	memset(m->tree[2], 0, sizeof(m->tree[2]));
	trees_open(v, m);
}

static void history(struct volume *v, struct model *m, uint32_t steps)
{
	while (steps--) {
		switch (chance(40)) {
		case 0:
			range_delete(v, m);
			break;
		case 1:
			tree_anew(v, m);
			break;
		case 2:
		case 3:
			change_many(v, m);
			break;
		default:
			change(v, m, NULL);
		}
	}
}

/* As after kill -9; first read-only, which replays in memory. */
static void crash_and_check(struct volume *v, struct model *m)
{
	kve_crash(v->db);
	v->opt.flags |= KV_OPEN_READONLY;
	volume_open(v);
	trees_open(v, m);
	model_check(v, m);
	volume_close(v);
	v->opt.flags &= ~(uint32_t)KV_OPEN_READONLY;
	volume_open(v);
	trees_open(v, m);
	model_check(v, m);
	volume_check(v);
}

START_TEST(order_of_the_log)
{
	struct model *m = calloc(1, sizeof(*m));
	struct volume v;
	uint32_t round;

	chance_state = 1 + (uint64_t)_i;
	volume_make(&v, _i, _i == MEM_TINY ? volume_tight : NULL);
	trees_open(&v, m);
	for (round = 0; round < 4; round++) {
		history(&v, m, in_world(_i, 500));
		if (round == 2)
			ok(kv_checkpoint(v.db));
		history(&v, m, in_world(_i, 60));
		crash_and_check(&v, m);
	}
	volume_end(&v);
	free(m);
}
END_TEST

/* ---- what is not in memory ----------------------------------------------------------------------- */

#define ENTRIES 6000u
#define CHANGES 200u
#define VALUE 200u /* many leaves: the checkpoint of an opening needs new segments */

static uint32_t pages_together; /* read by calls for several */
static struct volume *counted;

static int batch_counted(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n && n > 1; i++)
		pages_together += ios[i].op == KVP_IO_READ;
	return counted->own->batch(dev, ios, n);
}

static void entry_put(struct volume *v, uint32_t id, uint32_t seed)
{
	uint8_t value[VALUE];
	char key[40];

	pattern(value, sizeof(value), seed);
	ok(kv_put(v->db, NULL, key, key_of(key, id), value, sizeof(value), 0));
}

static void entries_check(struct volume *v)
{
	uint8_t want[VALUE];
	uint32_t id;
	char key[40];

	for (id = 0; id < ENTRIES; id++) {
		pattern(want, sizeof(want), id);
		expect_bytes(v, NULL, key, key_of(key, id), want, sizeof(want));
	}
	must(count(v, NULL) == ENTRIES);
}

/* A tree on the medium, and a log with changes all over it. */
static void cold_make(struct volume *v)
{
	uint32_t i;

	for (i = 0; i < ENTRIES; i++)
		entry_put(v, i, i < CHANGES ? i * 13 : i);
	volume_reopen(v);
	for (i = 0; i < ENTRIES; i++)
		if (i < CHANGES || i % 7 == 3)
			entry_put(v, i * 1009 % ENTRIES, i * 1009 % ENTRIES);
	for (i = 0; i < CHANGES; i++)
		entry_put(v, i, i);
}

/* No checkpoint takes away what is to be replayed, however slow the machine. */
static void no_checkpoint(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
}

START_TEST(pages_of_a_group)
{
	struct volume v;

	volume_make(&v, MEM_TINY, no_checkpoint);
	cold_make(&v);
	v.kept.batch = batch_counted;
	counted = &v;
	pages_together = 0;
	volume_crash(&v);
	/* A leaf has 20 entries and more. */
	must(pages_together > ENTRIES / 40 / 2);
	v.kept.batch = v.own->batch;
	entries_check(&v);
	volume_end(&v);
}
END_TEST

/* The n-th read, or allocation, of an opening fails: a documented error, or nobody notices. */
static void opening_fails(struct faulty *f, uint32_t n)
{
	struct kvp_dev *inner, *dev;
	int err;

	memset(&f->fault, 0, sizeof(f->fault));
	must(!kvp_mem_open_copy(&inner, volume_bytes(&f->v), f->v.dev->size, MEM_BYTES_MAX));
	must(!kvp_fault_open(&dev, inner, &f->fault));
	faulty_arm(f, n, false);
	err = kve_open_dev(dev, &f->v.opt, &f->db);
	if (faulty_disarm(f) && err) {
		must_be(err, faulty_error(f));
		return;
	}
	ok(err);
	ok(kv_close(f->db));
}

START_TEST(openings_that_fail)
{
	uint32_t n, calls = 0;
	struct faulty f;

	faulty_begin(&f, MEM_TINY, _i ? FAULTY_MEMORY : FAULTY_READ);
	cold_make(&f.v);
	kve_crash(f.v.db);
	/* How many there are; then some of them. */
	opening_fails(&f, 1000000);
	calls = (uint32_t)(_i ? kvp_alloc_calls() : f.fault.calls);
	must(calls > 50);
	for (n = 1; n <= calls; n += 1 + calls / 25)
		opening_fails(&f, n);
	volume_open(&f.v);
	entries_check(&f.v);
	volume_end(&f.v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("replay");
	TCase *c = tcase_create("replay");

	tcase_add_loop_test(c, order_of_the_log, 0, WORLDS);
	tcase_add_test(c, pages_of_a_group);
	tcase_add_loop_test(c, openings_that_fail, 0, 2);
	suite_add_tcase(s, c);
	return suite_run(s);
}
