/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_diff.c - what differs between two states: against what the test knows of both, for states of all kinds
 * in any order; what it reads of the medium; with every allocation and read failing; beside writers.
 */
#include <pthread.h>

#include "tests/unit/faulty.h"

#define KEYS 160u
#define TREES 2u
#define STATES 8u
#define LARGE 3u /* chunks of the longest value */

/* What each key holds: the number of the change that wrote it; 0: nothing. */
struct content {
	uint32_t salt[TREES][KEYS];
	uint32_t tree[TREES]; /* the number of the change that made it; 0: there is none */
};

struct state {
	bool there, named;
	kv_read *r; /* while it is read */
	struct content c;
	char name[16];
};

struct history {
	struct volume v;
	struct content now;
	struct state state[STATES];
	uint32_t next, named;
	uint64_t rnd, told;
	uint8_t *value, *got, *other;
	uint32_t order[KEYS]; /* of keys as the tree has them */
};

static const char *const tree_name[TREES] = { NULL, "comes and goes" };

static uint32_t roll(struct history *h, uint32_t n)
{
	return volume_chance(&h->rnd, n);
}

static size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%05u", i * 7919u % 100000u);
}

static int key_order(const void *a, const void *b)
{
	char ka[32], kb[32];

	key_make(ka, *(const uint32_t *)a);
	key_make(kb, *(const uint32_t *)b);
	return strcmp(ka, kb);
}

/* In the leaf, in the log, in chunks. Short ones are equal now and then. */
static size_t value_make(struct history *h, uint8_t *buf, uint32_t salt)
{
	const kv_stat_info *st = &h->v.st;
	size_t len = salt % 8 < 3 ? salt % (st->inline_max + 1) :
		     salt % 32 < 31 ? st->inline_max + 1 + salt % 7 * 90 :
				      st->chunk_bytes + 1 + salt % (LARGE - 1) * st->chunk_bytes;

	if (salt % 16 == 1)
		pattern(buf, len = 5, salt % 3);
	else
		pattern(buf, len, salt);
	return len;
}

static bool differs(struct history *h, uint32_t a, uint32_t b)
{
	size_t len;

	if (a == b)
		return false;
	if (!a || !b)
		return true;
	len = value_make(h, h->value, a);
	return len != value_make(h, h->other, b) || memcmp(h->value, h->other, len);
}

static void begin(struct history *h, int world, void (*tweak)(kv_options *opt), u64 seed)
{
	size_t room;
	uint32_t i;

	memset(h, 0, sizeof(*h));
	volume_make(&h->v, world, tweak);
	room = (LARGE + 1) * (size_t)h->v.st.chunk_bytes;
	h->rnd = seed;
	h->value = malloc(room);
	h->other = malloc(room);
	h->got = malloc(room);
	must(h->value && h->other && h->got);
	h->now.tree[0] = 1;
	for (i = 0; i < KEYS; i++)
		h->order[i] = i;
	qsort(h->order, KEYS, sizeof(h->order[0]), key_order);
}

static kv_tree *tree_of(struct history *h, uint32_t t)
{
	kv_tree *tree;

	ok(kv_tree_open(h->v.db, tree_name[t], KV_TREE_CREATE, &tree));
	if (!h->now.tree[t])
		h->now.tree[t] = ++h->next;
	return tree;
}

static void set(struct history *h, uint32_t t, uint32_t i)
{
	kv_tree *tree = tree_of(h, t);
	char key[32];
	size_t key_len = key_make(key, i), len = value_make(h, h->value, ++h->next);

	ok(kv_put(h->v.db, tree, key, key_len, h->value, len, 0));
	h->now.salt[t][i] = h->next;
}

static void unset(struct history *h, uint32_t t, uint32_t i)
{
	kv_tree *tree = tree_of(h, t);
	char key[32];
	size_t key_len = key_make(key, i);

	must_be(kv_del(h->v.db, tree, key, key_len, 0), h->now.salt[t][i] ? KV_OK : KV_E_NOTFOUND);
	h->now.salt[t][i] = 0;
}

static void unset_range(struct history *h, uint32_t t)
{
	uint32_t at = roll(h, 100000), i;
	kv_tree *tree = tree_of(h, t);
	char from[32], to[32], key[32];

	sprintf(from, "key-%05u", at);
	sprintf(to, "key-%05u", at + 1000 + roll(h, 30000));
	ok(kv_delete_range(h->v.db, tree, from, strlen(from), to, strlen(to), 0));
	for (i = 0; i < KEYS; i++) {
		key_make(key, i);
		if (strcmp(key, from) >= 0 && strcmp(key, to) < 0)
			h->now.salt[t][i] = 0;
	}
}

static void drop(struct history *h, uint32_t t)
{
	tree_of(h, t);
	ok(kv_tree_drop(h->v.db, tree_name[t]));
	memset(h->now.salt[t], 0, sizeof(h->now.salt[t]));
	h->now.tree[t] = 0;
}

/* ---- states ----------------------------------------------------------------------------------------- */

static void state_take(struct history *h)
{
	struct state *s = &h->state[roll(h, STATES)];

	if (s->there)
		return;
	memset(s, 0, sizeof(*s));
	s->there = true;
	s->c = h->now;
	s->named = roll(h, 2);
	if (s->named) {
		sprintf(s->name, "s%u", ++h->named);
		ok(kv_snapshot_create(h->v.db, s->name));
	} else {
		ok(kv_read_begin(h->v.db, &s->r));
	}
}

static void state_drop(struct history *h, struct state *s)
{
	if (!s->there)
		return;
	if (s->named)
		ok(kv_snapshot_delete(h->v.db, s->name));
	else
		kv_read_end(s->r);
	s->there = false;
}

/* Those without a name do not outlive the handle. */
static void reads_end(struct history *h)
{
	uint32_t i;

	for (i = 0; i < STATES; i++)
		if (!h->state[i].named)
			state_drop(h, &h->state[i]);
}

static void value_verify(struct history *h, kv_cursor *c, uint32_t salt)
{
	size_t len = value_make(h, h->value, salt), got;
	const void *value;
	kv_reader *rd;
	uint64_t n;

	ok(kv_cursor_value_len(c, &n));
	must(n == len);
	if (roll(h, 2)) {
		ok(kv_cursor_value(c, &value, &got));
		must(got == len && !memcmp(value, h->value, len));
		return;
	}
	ok(kv_cursor_reader(c, &rd, &n));
	ok(kv_reader_read(rd, h->got, len + 1, &got));
	must(n == len && got == len && !memcmp(h->got, h->value, len));
	kv_reader_close(rd);
}

static void side_verify(struct history *h, kv_cursor *c, const char *key, size_t len, uint32_t salt)
{
	const void *got;
	size_t got_len;

	must(!c == !salt);
	if (!c)
		return;
	ok(kv_cursor_key(c, &got, &got_len));
	must(got_len == len && !memcmp(got, key, len));
	value_verify(h, c, salt);
}

/* From key nr `from` of the order on. */
static void diff_walk(struct history *h, kv_diff *d, const uint32_t *a, const uint32_t *b, uint32_t from,
		      uint32_t most)
{
	uint32_t i, k;
	char key[32];
	size_t len;

	for (i = from; i < KEYS && most; i++) {
		k = h->order[i];
		if (!differs(h, a[k], b[k]))
			continue;
		len = key_make(key, k);
		ok(kv_diff_next(d));
		side_verify(h, kv_diff_from(d), key, len, a[k]);
		side_verify(h, kv_diff_to(d), key, len, b[k]);
		h->told++;
		most--;
	}
	if (!most)
		return;
	must_be(kv_diff_next(d), KV_E_NOTFOUND);
	must(!kv_diff_from(d) && !kv_diff_to(d));
	must_be(kv_diff_next(d), KV_E_NOTFOUND);
}

static void diff_tree(struct history *h, const struct state *s, const struct state *to, uint32_t t)
{
	const uint32_t *a = s->c.salt[t], *b = to->c.salt[t];
	uint32_t times, from;
	char key[32];
	kv_diff *d;
	int err;

	/* Without a snapshot a state is asked for the tree that has the name now. */
	if ((!s->named && s->c.tree[t] != h->now.tree[t]) || (!to->named && to->c.tree[t] != h->now.tree[t]))
		return;
	err = kv_diff_open(s->r, to->r, tree_name[t], &d);
	must_be(err, s->c.tree[t] || to->c.tree[t] ? KV_OK : KV_E_NOTFOUND);
	if (err)
		return;
	diff_walk(h, d, a, b, 0, ~0u);
	for (times = roll(h, 3); times; times--) {
		from = roll(h, KEYS);
		ok(kv_diff_seek(d, key, key_make(key, h->order[from])));
		diff_walk(h, d, a, b, from, 1 + roll(h, 20));
	}
	kv_diff_close(d);
}

static void diff_any(struct history *h)
{
	struct state now = { .there = true, .c = h->now }, *s[2], *other = &h->state[roll(h, STATES)];
	uint32_t t, i;

	ok(kv_read_begin(h->v.db, &now.r));
	s[0] = &h->state[roll(h, STATES)];
	s[1] = other->there ? other : &now;
	if (roll(h, 4) == 0)
		s[1] = &now;
	if (s[0]->there) {
		for (i = 0; i < 2; i++)
			if (s[i]->named && (i == 0 || s[0] != s[1]))
				ok(kv_snapshot_read(h->v.db, s[i]->name, &s[i]->r));
		for (t = 0; t < TREES; t++) {
			diff_tree(h, s[0], s[1], t);
			diff_tree(h, s[1], s[0], t);
		}
		for (i = 0; i < 2; i++)
			if (s[i]->named && (i == 0 || s[0] != s[1]))
				kv_read_end(s[i]->r);
	}
	kv_read_end(now.r);
}

/* ---- any order -------------------------------------------------------------------------------------- */

static void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->read_pin_bytes = 4ull << 30;
	opt->log_level = KV_LOG_ERROR;
}

static void changes(struct history *h, uint32_t n)
{
	uint32_t t = roll(h, TREES);

	while (n--) {
		if (roll(h, 5))
			set(h, t, roll(h, KEYS));
		else
			unset(h, t, roll(h, KEYS));
	}
}

static void any_step(struct history *h)
{
	switch (roll(h, 26)) {
	case 0: case 1: case 2: case 3:
		state_take(h);
		break;
	case 4:
		state_drop(h, &h->state[roll(h, STATES)]);
		break;
	case 5:
		if (roll(h, 3))
			break;
		reads_end(h);
		volume_crash(&h->v);
		break;
	case 6:
		if (roll(h, 3))
			break;
		reads_end(h);
		volume_reopen(&h->v);
		break;
	case 7: case 8:
		ok(kv_gc(h->v.db, 1 + roll(h, 50000), NULL));
		break;
	case 9: case 10:
		ok(kv_checkpoint(h->v.db));
		break;
	case 11: case 12:
		unset_range(h, roll(h, TREES));
		break;
	case 13:
		if (!roll(h, 4))
			drop(h, 1);
		break;
	case 14: case 15: case 16: case 17:
		changes(h, 1 + roll(h, 40));
		break;
	default:
		diff_any(h);
	}
}

START_TEST(any_order_of_steps)
{
	uint32_t steps = in_world(_i, getenv("KV_TEST_QUICK") ? 600 : 3000), i;
	static struct history h;

	begin(&h, _i, no_thread, 7);
	for (i = 0; i < KEYS; i++)
		set(&h, 0, i);
	for (i = 0; i < steps; i++)
		any_step(&h);
	printf("world %d: %llu differences\n", _i, (unsigned long long)h.told);
	must(h.told > steps);
	for (i = 0; i < STATES; i++)
		state_drop(&h, &h.state[i]);
	volume_end(&h.v);
	free(h.value);
	free(h.other);
	free(h.got);
}
END_TEST

/* GC gives what it moves another place, and no other content. */
START_TEST(values_that_move)
{
	static struct history h;
	struct state a = { .there = true }, b = { .there = true };
	kv_gc_info info;
	uint32_t i;

	begin(&h, _i, no_thread, 3);
	for (i = 0; i < 4 * KEYS; i++)
		set(&h, 0, i % KEYS);
	for (i = 0; i < KEYS; i += 2)
		set(&h, 0, i);
	ok(kv_read_begin(h.v.db, &a.r));
	a.c = h.now;
	/* What it sees is moved when nobody needs the places: then it sees it elsewhere. */
	for (i = 0; i < KEYS; i += 3)
		set(&h, 0, i);
	ok(kv_checkpoint(h.v.db));
	ok(kv_gc(h.v.db, 0, &info));
	must(info.moved_bytes > 0);
	b.c = h.now;
	ok(kv_read_begin(h.v.db, &b.r));
	diff_tree(&h, &a, &b, 0);
	diff_tree(&h, &b, &a, 0);
	must(h.told);
	kv_read_end(a.r);
	kv_read_end(b.r);
	volume_end(&h.v);
	free(h.value);
	free(h.other);
	free(h.got);
}
END_TEST

/* ---- what it costs ------------------------------------------------------------------------------------ */

#define MANY 60000u

static size_t many_key(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%08u", i);
}

static void many_put(struct volume *v, uint32_t i, uint32_t salt)
{
	uint8_t value[60];
	char key[32];

	pattern(value, sizeof(value), salt);
	ok(kv_put(v->db, NULL, key, many_key(key, i), value, sizeof(value), KV_MEMORY));
}

/* Reads of the device by a walk from one snapshot to another, or to now. */
static uint64_t reads_of(struct volume *v, const char *from, const char *to, uint32_t want)
{
	kv_stat_info before, after;
	uint32_t n = 0;
	kv_read *a, *b;
	kv_diff *d;
	int err;

	volume_reopen(v);
	ok(kv_snapshot_read(v->db, from, &a));
	ok(to ? kv_snapshot_read(v->db, to, &b) : kv_read_begin(v->db, &b));
	ok(kv_stat(v->db, &before));
	ok(kv_diff_open(a, b, NULL, &d));
	while (!(err = kv_diff_next(d)))
		n++;
	must_be(err, KV_E_NOTFOUND);
	ok(kv_stat(v->db, &after));
	must(n == want);
	kv_diff_close(d);
	kv_read_end(a);
	kv_read_end(b);
	return after.device_reads - before.device_reads;
}

START_TEST(costs_what_differs)
{
	uint32_t n = _i == MEM_TINY || _i == FILE_TINY ? MANY / 4 : MANY, i;
	uint64_t none, some, all, now, leaves;
	struct volume v;

	volume_make(&v, _i, no_thread);
	for (i = 0; i < n; i++)
		many_put(&v, i, i);
	ok(kv_snapshot_create(v.db, "base"));
	ok(kv_snapshot_create(v.db, "same"));
	for (i = 0; i < 10; i++)
		many_put(&v, i * (n / 10), ~i);
	ok(kv_snapshot_create(v.db, "ten"));
	for (i = 0; i < n; i += 2)
		many_put(&v, i, n + i);
	ok(kv_snapshot_create(v.db, "half"));
	leaves = n * 80ull / v.st.frame_bytes;
	none = reads_of(&v, "base", "same", 0);
	some = reads_of(&v, "base", "ten", 10);
	now = reads_of(&v, "half", NULL, 0);
	all = reads_of(&v, "ten", "half", n / 2);
	printf("world %d, %u keys, %llu leaves or more: %llu reads for nothing, %llu for ten keys, "
	       "%llu for half\n", _i, n, (unsigned long long)leaves, (unsigned long long)none,
	       (unsigned long long)some, (unsigned long long)all);
	must(none == 0 && now == 0);
	/* Both roots, and for each key the way down on both sides. */
	must(some <= 2 + 10 * 2 * 4);
	must(all >= leaves / 4);
	volume_end(&v);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------------------ */

/* All of it, as often as it takes. *failed: how often it did not go. */
static void diff_faulty(struct faulty *f, uint32_t want, uint32_t *failed)
{
	kv_read *a = NULL, *b = NULL;
	const void *value, *key;
	kv_cursor *c[2];
	kv_diff *d = NULL;
	uint32_t n = 0, i;
	size_t len;
	int err;

	*failed = 0;
	while ((err = kv_snapshot_read(f->db, "one", &a)))
		must(err == faulty_error(f) && ++*failed < 5);
	while ((err = kv_read_begin(f->db, &b)))
		must(err == faulty_error(f) && ++*failed < 5);
	while ((err = kv_diff_open(a, b, NULL, &d)))
		must(err == faulty_error(f) && ++*failed < 5);
	while ((err = kv_diff_next(d)) != KV_E_NOTFOUND) {
		if (err) {
			must(err == faulty_error(f) && ++*failed < 5);
			must(!kv_diff_from(d) && !kv_diff_to(d));
			continue;
		}
		c[0] = kv_diff_from(d);
		c[1] = kv_diff_to(d);
		for (i = 0; i < 2; i++) {
			if (!c[i])
				continue;
			ok(kv_cursor_key(c[i], &key, &len));
			while ((err = kv_cursor_value(c[i], &value, &len)))
				must(err == faulty_error(f) && ++*failed < 5);
		}
		n++;
	}
	must(n == want);
	kv_diff_close(d);
	kv_read_end(a);
	kv_read_end(b);
}

START_TEST(everything_may_fail)
{
	uint8_t value[1000];
	struct faulty f;
	uint32_t n, i, failed, failures = 0;
	bool hit = true;
	char key[32];

	faulty_begin(&f, MEM_TINY, (enum faulty_what)_i);
	for (i = 0; i < 300; i++) {
		pattern(value, sizeof(value), i);
		ok(kv_put(f.v.db, NULL, key, many_key(key, i), value, i % 3 ? 50 : sizeof(value), 0));
	}
	ok(kv_snapshot_create(f.v.db, "one"));
	for (i = 0; i < 300; i += 30) {
		pattern(value, sizeof(value), ~i);
		ok(kv_put(f.v.db, NULL, key, many_key(key, i), value, i % 4 ? 50 : sizeof(value), 0));
	}
	volume_close(&f.v);
	for (n = 1; hit; n++) {
		faulty_open(&f);
		faulty_arm(&f, n, false);
		diff_faulty(&f, 10, &failed);
		hit = faulty_disarm(&f);
		failures += failed;
		ok(kv_close(f.db));
	}
	printf("%s: %u failures in %u runs\n", _i == FAULTY_READ ? "reads" : "allocations", failures, n - 1);
	must(failures > 5);
	volume_end(&f.v);
}
END_TEST

START_TEST(misuse)
{
	struct volume v, w;
	kv_read *a, *b, *far;
	kv_diff *d;

	volume_make(&w, MEM_TINY, no_thread);
	ok(kv_read_begin(w.db, &far));
	volume_make(&v, _i, no_thread);
	ok(put(&v, NULL, "a", "1"));
	ok(kv_read_begin(v.db, &a));
	ok(put(&v, NULL, "b", "1"));
	ok(kv_read_begin(v.db, &b));
	must_be(kv_diff_open(a, far, NULL, &d), KV_E_INVALID);
	must_be(kv_diff_open(a, b, "none", &d), KV_E_NOTFOUND);
	error_names("none", NULL);
	ok(kv_diff_open(a, b, NULL, &d));
	must(!kv_diff_from(d) && !kv_diff_to(d));
	must_be(kv_diff_seek(d, "x", 100000), KV_E_TOOBIG);
	ok(kv_diff_seek(d, "bb", 2));
	must_be(kv_diff_next(d), KV_E_NOTFOUND);
	ok(kv_diff_seek(d, "", 0));
	ok(kv_diff_next(d));
	must(!kv_diff_from(d) && kv_diff_to(d));
	must_be(kv_diff_next(d), KV_E_NOTFOUND);
	must_be(kv_close(v.db), KV_E_BUSY);
	kv_diff_close(d);
	kv_diff_close(NULL);
	kv_read_end(a);
	kv_read_end(b);
	volume_end(&v);
	kv_read_end(far);
	volume_end(&w);
}
END_TEST

/* ---- beside writers ----------------------------------------------------------------------------------- */

#define SPREAD 4000u

struct writer {
	pthread_t thread;
	kv_db *db;
	uint32_t nr;
	bool stop;
	int err;
};

static void *write_all(void *arg)
{
	struct writer *w = arg;
	uint64_t rnd = w->nr;
	uint8_t value[900];
	char key[32];
	uint32_t n;
	int err = 0;

	for (n = 1; !err && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); n++) {
		size_t len = many_key(key, volume_chance(&rnd, SPREAD));

		pattern(value, sizeof(value), n * 2 + w->nr);
		if (volume_chance(&rnd, 4))
			err = kv_put(w->db, NULL, key, len, value, n % 3 ? 30 : sizeof(value), 0);
		else
			err = kv_del(w->db, NULL, key, len, 0);
		if (err == KV_E_NOTFOUND)
			err = 0;
	}
	w->err = err;
	return NULL;
}

/* The same by two cursors. */
static void verify_by_cursors(kv_db *db, kv_read *from, kv_read *to)
{
	const void *key[2] = { NULL, NULL }, *value[2];
	size_t len[2] = { 0, 0 }, value_len[2];
	int err[2], i, order;
	kv_cursor *c[2];
	kv_diff *d;

	ok(kv_cursor_open(db, from, NULL, &c[0]));
	ok(kv_cursor_open(db, to, NULL, &c[1]));
	ok(kv_diff_open(from, to, NULL, &d));
	for (i = 0; i < 2; i++)
		err[i] = kv_cursor_first(c[i]);
	while (!err[0] || !err[1]) {
		for (i = 0; i < 2; i++)
			if (!err[i]) {
				ok(kv_cursor_key(c[i], &key[i], &len[i]));
				ok(kv_cursor_value(c[i], &value[i], &value_len[i]));
			}
		order = err[0] ? 1 : err[1] ? -1 : memcmp(key[0], key[1], len[0]);
		if (order || value_len[0] != value_len[1] || memcmp(value[0], value[1], value_len[0])) {
			ok(kv_diff_next(d));
			must(!kv_diff_from(d) == (order > 0) && !kv_diff_to(d) == (order < 0));
			ok(kv_cursor_key(order > 0 ? kv_diff_to(d) : kv_diff_from(d), &value[0],
					 &value_len[0]));
			i = order > 0;
			must(value_len[0] == len[i] && !memcmp(value[0], key[i], len[i]));
		}
		if (order <= 0)
			err[0] = kv_cursor_next(c[0]);
		if (order >= 0)
			err[1] = kv_cursor_next(c[1]);
	}
	must_be(kv_diff_next(d), KV_E_NOTFOUND);
	kv_diff_close(d);
	kv_cursor_close(c[0]);
	kv_cursor_close(c[1]);
}

static void tight(kv_options *opt)
{
	volume_tight(opt);
	opt->checkpoint_bytes = 256 << 10;
}

START_TEST(beside_writers)
{
	static struct writer w[2];
	kv_read *snap[2], *r;
	struct volume v;
	char name[32];
	uint32_t i;

	volume_make(&v, _i, tight);
	memset(w, 0, sizeof(w));
	for (i = 0; i < 2; i++) {
		w[i].db = v.db;
		w[i].nr = i;
		must(!pthread_create(&w[i].thread, NULL, write_all, &w[i]));
	}
	ok(kv_snapshot_create(v.db, "0"));
	for (i = 1; i < 20; i++) {
		sprintf(name, "%u", i - 1);
		ok(kv_snapshot_read(v.db, name, &snap[0]));
		ok(kv_read_begin(v.db, &r));
		sprintf(name, "%u", i);
		ok(kv_snapshot_create(v.db, name));
		ok(kv_snapshot_read(v.db, name, &snap[1]));
		verify_by_cursors(v.db, snap[0], r);
		verify_by_cursors(v.db, r, snap[1]);
		verify_by_cursors(v.db, snap[1], snap[0]);
		kv_read_end(r);
		kv_read_end(snap[0]);
		kv_read_end(snap[1]);
		if (i % 4 == 0)
			ok(kv_gc(v.db, 100000, NULL));
	}
	for (i = 0; i < 2; i++) {
		__atomic_store_n(&w[i].stop, true, __ATOMIC_RELAXED);
		must(!pthread_join(w[i].thread, NULL));
		must_be(w[i].err, 0);
	}
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("differences");
	TCase *t = tcase_create("differences");

	tcase_set_timeout(t, 300); /* a watchdog */
	tcase_add_loop_test(t, beside_writers, RACE_FIRST, RACE_END);
	if (!SUITE_THREADS_ONLY) {
		tcase_add_loop_test(t, any_order_of_steps, 0, worlds());
		tcase_add_loop_test(t, values_that_move, 0, worlds());
		tcase_add_loop_test(t, costs_what_differs, 0, worlds());
		tcase_add_loop_test(t, everything_may_fail, FAULTY_READ, FAULTY_MEMORY + 1);
		tcase_add_loop_test(t, misuse, 0, worlds());
	}
	suite_add_tcase(s, t);
	return suite_run(s);
}
