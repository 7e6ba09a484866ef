// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * load_model.c - see load_model.h.
 *
 * The digest of a thread's state is the sum of the digests of its pairs, so each change costs one pair.
 * Of a clock only the number of its operation counts in it: the rest depends on the other threads.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/crash/simdev.h"
#include "tests/kmod/load_model.h"

enum { SLOT_N = LOAD_KEYS, SLOT_X, SLOT_Y, SLOT_P, SLOT_CLOCK, SLOT_DURABLE, SLOTS };
static const char *const slot_names[] = { "n", "x", "y", "p", "clock", "durable" };
#define SLOT_IS_CLOCK(s) ((s) == SLOT_CLOCK || (s) == SLOT_DURABLE)

struct history {
	u64 nr;		/* commits */
	u64 *digest;	/* [0..nr] */
	u64 (*pairs)[SLOTS]; /* [0..nr]: of each pair, 0: not there */
	u64 *sums;	/* additions to "sum" among the first k commits */
	u64 *ops;	/* operations that are complete after k commits */
	u64 *commits;	/* [n]: commits of the first n operations */
	u64 operations;
};

/* While a history is being made. */
struct maker {
	struct load_thread t;
	struct history *h;
	u8 *value[SLOTS];
	size_t len[SLOTS];
	u64 pair[SLOTS]; /* digest; 0: not there */
	u64 digest, sums;
};

static struct history histories[LOAD_THREADS];

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

static u64 pair_digest(unsigned int thread, unsigned int slot, const void *value, size_t len)
{
	u64 d = XXH64(value, len, thread * 1000 + slot + 1);

	return d + !d;
}

static void change(struct maker *m, unsigned int slot, const void *value, size_t len)
{
	m->digest -= m->pair[slot];
	m->pair[slot] = value ? pair_digest(m->t.me, slot, value, len) : 0;
	m->digest += m->pair[slot];
	m->len[slot] = value ? len : 0;
	if (value)
		memmove(m->value[slot], value, len);
}

static void commit(struct maker *m)
{
	struct history *h = m->h;

	h->nr++;
	h->digest[h->nr] = m->digest;
	memcpy(h->pairs[h->nr], m->pair, sizeof(m->pair));
	h->sums[h->nr] = m->sums;
	h->ops[h->nr] = m->t.n - 1;
}

static void change_number(struct maker *m, unsigned int slot, u64 n)
{
	char text[24];

	change(m, slot, text, (size_t)snprintf(text, sizeof(text), "%llu", n));
}

static void make_sync(struct maker *m, const struct load_op *op, const u8 *buf, u64 n)
{
	if (op->how == SYNC_PUT || op->how == SYNC_WRITE) {
		change(m, SLOT_P, buf, op->len);
		commit(m);
	}
	change_number(m, SLOT_DURABLE, n);
	commit(m);
}

static void make_value(struct maker *m, const struct load_op *op, const u8 *buf)
{
	if (op->creates) {
		change(m, op->key, "", 0);
		commit(m);
	}
	if (op->kind == LOAD_SET) {
		change(m, op->key, buf, op->len);
	} else {
		memcpy(m->value[op->key] + m->len[op->key], buf, op->len);
		change(m, op->key, m->value[op->key], m->len[op->key] + op->len);
	}
	commit(m);
}

static void make_counters(struct maker *m, const struct load_op *op)
{
	char text[24];

	if (op->kind == LOAD_SUM) {
		m->sums++;
		commit(m);
	}
	memcpy(text, m->value[SLOT_N], m->len[SLOT_N]);
	text[m->len[SLOT_N]] = '\0';
	change_number(m, SLOT_N, strtoull(text, NULL, 10) + 1);
	commit(m);
}

static void make(struct maker *m, const struct load_op *op, u8 *buf, u64 n)
{
	load_value(buf, op->len, &m->t, n);
	switch (op->kind) {
	case LOAD_SET:
	case LOAD_APPEND:
		make_value(m, op, buf);
		return;
	case LOAD_SUM:
	case LOAD_INC:
		make_counters(m, op);
		return;
	case LOAD_SYNC:
		make_sync(m, op, buf, n);
		return;
	case LOAD_UNLINK:
		change(m, op->key, NULL, 0);
		break;
	case LOAD_RENAME:
		change(m, op->to, m->value[op->key], m->len[op->key]);
		change(m, op->key, NULL, 0);
		break;
	case LOAD_BATCH:
		change(m, SLOT_X, buf, op->len);
		change(m, SLOT_Y, buf, op->len);
		break;
	case LOAD_CLOCK:
		change_number(m, SLOT_CLOCK, n);
		break;
	}
	commit(m);
}

/* The keys from before the load: counters at 0, empty values, clocks of nothing. */
static void make_first(struct maker *m)
{
	unsigned int slot;

	for (slot = 0; slot < SLOTS; slot++)
		m->value[slot] = need(malloc(2 * LOAD_VALUE_MAX));
	change(m, SLOT_N, "0", 1);
	change(m, SLOT_X, "", 0);
	change(m, SLOT_Y, "", 0);
	change(m, SLOT_P, "", 0);
	change(m, SLOT_CLOCK, "0", 1);
	change(m, SLOT_DURABLE, "0", 1);
	m->h->digest[0] = m->digest;
	memcpy(m->h->pairs[0], m->pair, sizeof(m->pair));
}

void load_model_init(u64 seed, u64 operations)
{
	u8 *buf = need(malloc(LOAD_VALUE_MAX));
	unsigned int thread, slot;

	for (thread = 0; thread < LOAD_THREADS; thread++) {
		struct history *h = &histories[thread];
		struct maker m = { .t = { .me = thread, .seed = seed }, .h = h };

		*h = (struct history){ .operations = operations };
		h->digest = need(calloc(2 * operations + 1, sizeof(u64)));
		h->pairs = need(calloc(2 * operations + 1, sizeof(*h->pairs)));
		h->sums = need(calloc(2 * operations + 1, sizeof(u64)));
		h->ops = need(calloc(2 * operations + 1, sizeof(u64)));
		h->commits = need(calloc(operations + 1, sizeof(u64)));
		make_first(&m);
		while (m.t.n < operations) {
			struct load_op op = load_op_next(&m.t);

			make(&m, &op, buf, m.t.n - 1);
			h->ops[h->nr] = m.t.n;
			h->commits[m.t.n] = h->nr;
		}
		for (slot = 0; slot < SLOTS; slot++)
			free(m.value[slot]);
	}
	free(buf);
}

u64 load_model_commits(unsigned int thread)
{
	return histories[thread].nr;
}

u64 load_model_operations(unsigned int thread, u64 commits)
{
	return histories[thread].ops[commits];
}

/* Puts the keys that exist before the load begins. */
static int prepare(kv_db *db)
{
	static const char *const first[] = { "0", "", "", "", "0 0 0 0", "0 0 0 0" };
	char name[LOAD_NAME_MAX];
	unsigned int thread, i;
	int err = kv_put(db, NULL, "sum", 3, "0", 1, 0), len;

	for (thread = 0; thread < LOAD_THREADS; thread++) {
		for (i = 0; !err && i < SLOTS - LOAD_KEYS; i++) {
			len = snprintf(name, sizeof(name), "t%u-%s", thread, slot_names[i]);
			err = kv_put(db, NULL, name, (size_t)len, first[i], strlen(first[i]), 0);
		}
	}
	return err;
}

bool load_model_make(const char *path, u64 size)
{
	struct sim *sim = sim_new(size, size, false);
	kv_options opt = KV_OPTIONS_INIT;
	kv_db *db;
	FILE *f;
	int err;

	sim->dev.growable = false;
	opt.window_bytes = 1;
	opt.segment_bytes = 256 << 10;
	err = kve_create_dev(&sim->dev, &opt);
	if (!err)
		err = kve_open_dev(&sim->dev, &opt, &db);
	if (!err) {
		err = prepare(db);
		if (!err)
			err = kv_close(db);
	}
	if (err) {
		fprintf(stderr, "replay_log: %s\n", kv_last_error());
		return false;
	}
	f = fopen(path, "wb");
	if (!f || fwrite(sim->bytes, 1, size, f) != size || fclose(f)) {
		perror(path);
		return false;
	}
	sim_free(sim);
	return true;
}

/* ---- what was found --------------------------------------------------------------------------------- */

/* The pairs and the clocks of all threads, as found. */
struct clocks {
	u64 m[LOAD_THREADS][2][LOAD_THREADS];
	u64 pair[LOAD_THREADS][SLOTS];
};

static bool slot_of(const char *key, size_t len, unsigned int *thread, unsigned int *slot)
{
	char text[LOAD_NAME_MAX], *end;

	if (len < 4 || len >= sizeof(text))
		return false;
	memcpy(text, key, len);
	text[len] = '\0';
	*thread = (unsigned int)(text[1] - '0');
	if (text[0] != 't' || *thread >= LOAD_THREADS || text[2] != '-')
		return false;
	for (*slot = SLOT_N; *slot < SLOTS; ++*slot)
		if (!strcmp(text + 3, slot_names[*slot - SLOT_N]))
			return true;
	*slot = (unsigned int)strtoul(text + 3, &end, 10);
	return !*end && *slot < LOAD_KEYS;
}

/* A clock counts for its digest as the number of its operation alone. */
static size_t read_clock(const void *value, size_t len, u64 *m, char *text, size_t room)
{
	char copy[128];
	u64 n;

	if (len >= sizeof(copy))
		return 0;
	memcpy(copy, value, len);
	copy[len] = '\0';
	if (sscanf(copy, "%llu %llu %llu %llu", &n, &m[0], &m[1], &m[2]) != 4)
		return 0;
	return (size_t)snprintf(text, room, "%llu", n);
}

static bool read_pair(struct load_found *f, struct clocks *c, u64 *digest, const char *key, size_t key_len,
		      const void *value, size_t len)
{
	unsigned int thread, slot;
	char text[24];

	if (key_len == 3 && !memcmp(key, "sum", 3)) {
		if (!len || len >= sizeof(text))
			return false;
		memcpy(text, value, len);
		text[len] = '\0';
		f->sum = strtoull(text, NULL, 10);
		return true;
	}
	if (!slot_of(key, key_len, &thread, &slot))
		return false;
	if (SLOT_IS_CLOCK(slot)) {
		len = read_clock(value, len, c->m[thread][slot - SLOT_CLOCK], text, sizeof(text));
		value = text;
	}
	c->pair[thread][slot] = pair_digest(thread, slot, value, len);
	digest[thread] += c->pair[thread][slot];
	return true;
}

static bool read_volume(kv_db *db, struct load_found *f, struct clocks *c, u64 *digest, char *why,
			size_t why_len)
{
	const void *key, *value;
	size_t klen, vlen;
	kv_cursor *cur;
	bool known = true;
	int err = kv_cursor_open(db, NULL, NULL, &cur);

	if (err) {
		snprintf(why, why_len, "cursor: %s", kv_last_error());
		return false;
	}
	for (err = kv_cursor_first(cur); !err && known; err = kv_cursor_next(cur)) {
		err = kv_cursor_key(cur, &key, &klen);
		if (!err)
			err = kv_cursor_value(cur, &value, &vlen);
		if (err)
			break;
		known = read_pair(f, c, digest, key, klen, value, vlen);
		if (!known)
			snprintf(why, why_len, "the pair '%.*s' never was", (int)klen, (const char *)key);
	}
	kv_cursor_close(cur);
	if (known && err != KV_E_NOTFOUND)
		snprintf(why, why_len, "scan: %s", kv_last_error());
	return known && err == KV_E_NOTFOUND;
}

static bool match(unsigned int thread, u64 digest, u64 *lo, u64 *hi)
{
	const struct history *h = &histories[thread];
	bool found = false;
	u64 k;

	for (k = 0; k <= h->nr; k++) {
		if (h->digest[k] != digest)
			continue;
		if (!found)
			*lo = k;
		*hi = k;
		found = true;
	}
	return found;
}

/* No state of thread is what was found: which comes nearest, and what is different? */
static void explain(unsigned int thread, const struct clocks *c, char *why, size_t why_len)
{
	const struct history *h = &histories[thread];
	u64 k, best = 0, least = SLOTS + 1, n;
	unsigned int slot;
	int len;

	for (k = 0; k <= h->nr; k++) {
		for (n = 0, slot = 0; slot < SLOTS; slot++)
			n += h->pairs[k][slot] != c->pair[thread][slot];
		if (n < least) {
			least = n;
			best = k;
		}
	}
	len = snprintf(why, why_len, "thread %u: no prefix of its changes; nearest: commit %llu "
		       "(operation %llu), not", thread, best, h->ops[best]);
	for (slot = 0; slot < SLOTS; slot++)
		if (h->pairs[best][slot] != c->pair[thread][slot] && len < (int)why_len)
			len += snprintf(why + len, why_len - (size_t)len, " %s%u%s",
					slot < LOAD_KEYS ? "" : slot_names[slot - LOAD_KEYS],
					slot < LOAD_KEYS ? slot : thread,
					!c->pair[thread][slot] ? " (missing)" :
					!h->pairs[best][slot] ? " (should not be there)" : "");
}

/* What thread has written in a clock had happened before. */
static bool check_clock(struct load_found *f, unsigned int thread, bool durable, const u64 *m, char *why,
			size_t why_len)
{
	unsigned int j;
	u64 k;

	for (j = 0; j < LOAD_THREADS; j++) {
		if (m[j] > histories[j].operations) {
			snprintf(why, why_len, "a clock of thread %u is impossible", thread);
			return false;
		}
		k = histories[j].commits[m[j]];
		if (f->hi[j] < k) {
			snprintf(why, why_len,
				 "order: thread %u has written that %llu operations of thread %u had "
				 "returned (commit %llu), but only %llu commits of it are there",
				 thread, m[j], j, k, f->hi[j]);
			return false;
		}
		if (durable && k > f->synced[j])
			f->synced[j] = k;
	}
	return true;
}

bool load_model_find(kv_db *db, struct load_found *f, char *why, size_t why_len)
{
	u64 digest[LOAD_THREADS] = { 0 }, least = 0, most = 0;
	struct clocks c = { 0 };
	unsigned int i;

	*f = (struct load_found){ 0 };
	if (!read_volume(db, f, &c, digest, why, why_len))
		return false;
	for (i = 0; i < LOAD_THREADS; i++) {
		if (!match(i, digest[i], &f->lo[i], &f->hi[i])) {
			explain(i, &c, why, why_len);
			return false;
		}
		least += histories[i].sums[f->lo[i]];
		most += histories[i].sums[f->hi[i]];
	}
	if (f->sum < least || f->sum > most) {
		snprintf(why, why_len, "order: sum is %llu, but the threads have added %llu..%llu", f->sum,
			 least, most);
		return false;
	}
	for (i = 0; i < LOAD_THREADS; i++)
		if (!check_clock(f, i, false, c.m[i][0], why, why_len) ||
		    !check_clock(f, i, true, c.m[i][1], why, why_len))
			return false;
	return true;
}
