/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * history.h - a random history of a volume with snapshots, and what each of them has to show.
 */
#ifndef TESTS_UNIT_HISTORY_H
#define TESTS_UNIT_HISTORY_H

#include "tests/unit/judged.h"

#ifndef KEYS
#define KEYS 160u
#define SNAPS 420u
#endif
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

static inline uint32_t roll(struct history *h, uint32_t n)
{
	return volume_chance(&h->rnd, n);
}

static inline size_t key_make(char *key, uint32_t i)
{
	return (size_t)sprintf(key, "key-%05u", i * 7919u % 100000u);
}

/* In the leaf, in the log, in chunks. */
static inline size_t value_make(struct history *h, uint32_t salt)
{
	const kv_stat_info *st = &h->v.st;
	size_t len = salt % 8 < 3 ? salt % (st->inline_max + 1) :
		     salt % 32 < 31 ? st->inline_max + 1 + salt % 7 * 90 :
				      st->chunk_bytes + 1 + salt % (LARGE - 1) * st->chunk_bytes;

	pattern(h->value, len, salt);
	return len;
}

static inline void begin(struct history *h, int world, void (*tweak)(kv_options *opt), u64 seed)
{
	memset(h, 0, sizeof(*h));
	volume_make(&h->v, world, tweak);
	h->rnd = seed;
	h->value = malloc((LARGE + 1) * (size_t)h->v.st.chunk_bytes);
	h->got = malloc((LARGE + 1) * (size_t)h->v.st.chunk_bytes);
	must(h->value && h->got);
}

static inline void set(struct history *h, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i), len = value_make(h, ++h->next);

	ok(kv_put(h->v.db, NULL, key, key_len, h->value, len, 0));
	h->now.salt[i] = h->next;
}

static inline void unset(struct history *h, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i);

	must_be(kv_del(h->v.db, NULL, key, key_len, 0), h->now.salt[i] ? KV_OK : KV_E_NOTFOUND);
	h->now.salt[i] = 0;
}

/* A tenth of the keys, in their order, at once. */
static inline void unset_range(struct history *h)
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

static inline void verify_live(struct history *h)
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

static inline void name_make(char *name, uint32_t nr)
{
	sprintf(name, "snap %u", nr);
}

/* One by one, all at once, and by a cursor. */
static inline void verify_read(struct history *h, kv_read *r, const struct content *c)
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

static inline void verify_snap(struct history *h, uint32_t nr)
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

static inline void snap_create(struct history *h)
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
static inline uint32_t snap_any(struct history *h)
{
	uint32_t nr = h->there_nr ? roll(h, h->there_nr) : 0, i;

	for (i = 0; i < h->snaps; i++)
		if (h->there[i] && !nr--)
			return i;
	return SNAPS;
}

static inline void snap_delete(struct history *h, uint32_t nr)
{
	char name[32];

	if (nr == SNAPS)
		return;
	name_make(name, nr);
	ok(kv_snapshot_delete(h->v.db, name));
	h->there[nr] = false;
	h->there_nr--;
}

/* Back to it; later ones are gone. */
static inline void snap_rollback(struct history *h, uint32_t nr)
{
	char name[32];

	if (nr == SNAPS)
		return;
	name_make(name, nr);
	ok(kv_snapshot_rollback(h->v.db, name, KV_ROLLBACK_NEWER));
	h->now = h->at[nr];
	while (++nr < h->snaps) {
		h->there_nr -= h->there[nr];
		h->there[nr] = false;
	}
}

static inline int count_snap(void *arg, const kv_snapshot_info *info)
{
	must(info->name[0] && info->generation && info->created);
	++*(uint32_t *)arg;
	return 0;
}

static inline void count_snaps(struct history *h)
{
	uint32_t n = 0;

	ok(kv_snapshot_list(h->v.db, count_snap, &n));
	must(n == h->there_nr);
}

/* Nothing is held any more. */
static inline void nothing_left(struct history *h)
{
	kv_stat_info st;

	ok(kv_checkpoint(h->v.db));
	ok(kv_stat(h->v.db, &st));
	must(!st.snapshots && !st.snapshot_value_bytes && !st.snapshot_page_bytes);
	count_snaps(h);
}

static inline void end(struct history *h)
{
	judged_end(&h->v);
	free(h->value);
	free(h->got);
}

static inline void no_thread(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->log_level = KV_LOG_ERROR;
}

static inline void changes(struct history *h, uint32_t n)
{
	while (n--) {
		if (roll(h, 5))
			set(h, roll(h, KEYS));
		else
			unset(h, roll(h, KEYS));
	}
}

#endif
