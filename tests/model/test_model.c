/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_model.c - M3: long random histories, the engine against the oracle.
 *
 * Every kind of call of kvengine.h, over several geometries, with caches down to the smallest, read
 * transactions that are held while commits go on, reopening with and without an orderly close. Every
 * answer is compared at once, everything is compared now and then. Rows S1 S3 S4 S16 K6 K10 H8; CONTRACT
 * C4 C18 C19.
 *
 *	test_model                            all configurations, several seeds
 *	test_model --config N --seed N --ops N   one history
 */
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/crash/workload.h"
#include "tests/tap.h"

#define TREES 4u
#define READS 3u
#define KEY_MAX 4096u

struct config {
	const char *name;
	u32 block, segment, frame, window;
	u64 cache, cap;
	u32 keys;	 /* different keys of a tree */
	u32 value, huge; /* common and largest sizes of values */
	u32 checkpoint;
	bool file; /* a real file, with a background thread */
	unsigned int ops;
};

static const struct config configs[] = {
	{ "tiny", 512, 4096, 2048, 1, 1 << 20, 8u << 20, 400, 120, 3000, 16384, false, 3000 },
	{ "tiny-window", 512, 16384, 2048, 2048, 1 << 20, 16u << 20, 600, 200, 9000, 65536, false, 3000 },
	{ "small-cache", 4096, 262144, 16384, 65536, 1 << 20, 192u << 20, 6000, 600, 400000, 262144, false,
	  6000 },
	{ "default", 0, 0, 0, 0, 0, 384u << 20, 6000, 300, 3000000, 0, false, 4000 },
	{ "default-file", 0, 0, 0, 0, 4 << 20, 0, 3000, 300, 1000000, 1 << 20, true, 3000 },
};
#define CONFIGS (sizeof(configs) / sizeof(configs[0]))

struct model {
	const struct config *c;
	struct sim *sim;
	char path[256];
	kv_db *db;
	kv_tree *tree[TREES]; /* 0: main; NULL: does not exist */
	struct oracle o;
	struct {
		kv_read *r;
		u64 at;
	} read[READS];
	u64 rnd;
	u32 key_max;
	u8 *buf, *buf2;
	char why[ORACLE_WHY + 128];
	unsigned int done;
	u64 compares;
};

static const char *const tree_names[TREES] = { "main", "a second tree", "b", "zzz-last" };

static u64 dice(struct model *m, u64 n)
{
	return (rnd_next(&m->rnd) >> 20) % n;
}

static bool bad(struct model *m, const char *what, int err)
{
	snprintf(m->why, sizeof(m->why), "%s: %s: %s", what, kv_strerror(err),
		 err ? kv_last_error() : "wrong answer");
	return false;
}

/* Key number i, of many shapes: numbers, names with long common prefixes, binary, the longest. */
static size_t make_key(struct model *m, u32 i, u8 *key)
{
	u64 state = i * 0x9e3779b97f4a7c15ull + 99;
	size_t len, k;

	rnd_next(&state);
	switch (i % 6) {
	case 0:
		key[0] = i >> 24;
		key[1] = i >> 16;
		key[2] = i >> 8;
		key[3] = i;
		return 4;
	case 1:
		return sprintf((char *)key, "user/%u", i);
	case 2:
		return sprintf((char *)key, "/usr/share/doc/a-rather-long-common-prefix/%08x/file", i);
	case 3:
		len = 1 + rnd_next(&state) % 24;
		break;
	case 4:
		len = i % 36 == 4 ? m->key_max : 20 + rnd_next(&state) % 60;
		break;
	default:
		len = sprintf((char *)key, "%u", i);
		return len;
	}
	if (len > m->key_max)
		len = m->key_max;
	for (k = 0; k < len; k++)
		key[k] = k < len / 2 ? 'p' + i % 2 : rnd_next(&state) >> 50;
	return len;
}

static size_t pick_key(struct model *m, u8 *key)
{
	return make_key(m, dice(m, m->c->keys), key);
}

static unsigned int pick_tree(struct model *m)
{
	unsigned int t = dice(m, 8) < 5 ? 0 : dice(m, TREES);

	return m->tree[t] ? t : 0;
}

static size_t pick_value(struct model *m)
{
	size_t len;

	switch (dice(m, 16)) {
	case 0:
		len = 0;
		break;
	case 1:
		len = dice(m, m->c->huge / 4);
		break;
	case 2:
	case 3:
		len = dice(m, m->c->value * 8);
		break;
	default:
		len = dice(m, m->c->value);
	}
	fill_value(m->buf, len, m->o.commit + 1);
	return len;
}

/* ---- changes: the oracle first, taken back when the engine says no ----------------------------- */

static bool settle(struct model *m, int err, const char *what)
{
	if (!err)
		return true;
	oracle_rewind(&m->o, m->o.commit - 1);
	return bad(m, what, err);
}

static u32 durability(struct model *m)
{
	u64 d = dice(m, 12);

	return d == 0 ? KV_SYNCED : d < 3 ? KV_MEMORY : 0;
}

static bool do_put(struct model *m)
{
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key), len = pick_value(m);
	unsigned int t = pick_tree(m);
	bool there = oracle_get(&m->o, m->o.commit, tree_names[t], key, klen, NULL);
	u32 flags = durability(m);
	int err;

	switch (dice(m, 10)) {
	case 0:
		err = kv_put(m->db, m->tree[t], key, klen, m->buf, len, flags | KV_PUT_NEW);
		if (there)
			return err == KV_E_EXISTS || bad(m, "put new over an old key", err);
		break;
	case 1:
		err = kv_put(m->db, m->tree[t], key, klen, m->buf, len, flags | KV_PUT_REPLACE);
		if (!there)
			return err == KV_E_NOTFOUND || bad(m, "replace of no key", err);
		break;
	default:
		err = kv_put(m->db, m->tree[t], key, klen, m->buf, len, flags);
	}
	if (err)
		return bad(m, "put", err);
	oracle_next(&m->o);
	oracle_put(&m->o, tree_names[t], key, klen, m->buf, len);
	return true;
}

static bool do_del(struct model *m)
{
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key);
	unsigned int t = pick_tree(m);
	bool there = oracle_get(&m->o, m->o.commit, tree_names[t], key, klen, NULL);
	int err = kv_del(m->db, m->tree[t], key, klen, durability(m));

	if (!there)
		return err == KV_E_NOTFOUND || bad(m, "delete of a missing key", err);
	if (err)
		return bad(m, "delete", err);
	oracle_next(&m->o);
	oracle_del(&m->o, tree_names[t], key, klen);
	return true;
}

/* A run of neighbours goes at once: pages become empty and are merged. */
static bool do_del_run(struct model *m)
{
	unsigned int t = pick_tree(m), i, n = 5 + dice(m, 60);
	const struct oracle_key *k;
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key);

	for (i = 0; i < n; i++) {
		int err;

		k = oracle_above(&m->o, m->o.commit, tree_names[t], key, klen, false);
		if (!k)
			return true;
		memcpy(key, k->key, k->key_len);
		klen = k->key_len;
		err = kv_del(m->db, m->tree[t], key, klen, KV_MEMORY);
		if (err)
			return bad(m, "delete in a run", err);
		oracle_next(&m->o);
		oracle_del(&m->o, tree_names[t], key, klen);
	}
	return true;
}

/* From a key to one that stands a while behind it; now and then to the end, or from the beginning. */
static bool do_del_range(struct model *m)
{
	unsigned int t = pick_tree(m), i, n = 1 + dice(m, 250);
	const struct oracle_key *k = NULL;
	u8 from[KEY_MAX], to[KEY_MAX];
	size_t from_len = pick_key(m, from), to_len = from_len;
	int err;

	memcpy(to, from, from_len);
	for (i = 0; i < n; i++) {
		k = oracle_above(&m->o, m->o.commit, tree_names[t], to, to_len, true);
		if (!k)
			break;
		memcpy(to, k->key, k->key_len);
		to_len = k->key_len;
	}
	if (!k && dice(m, 4))
		return true;
	if (!k || !dice(m, 40))
		to_len = 0;
	if (!dice(m, 40))
		from_len = 0;
	err = kv_delete_range(m->db, m->tree[t], from_len ? from : NULL, from_len, to, to_len, durability(m));
	if (err)
		return bad(m, "delete range", err);
	oracle_next(&m->o);
	oracle_del_range(&m->o, tree_names[t], from, from_len, to, to_len);
	return true;
}

static bool do_batch(struct model *m)
{
	unsigned int i, n = 1 + dice(m, 12), t;
	u8 key[KEY_MAX];
	size_t klen, len;
	kv_batch *b;
	int err;

	err = kv_batch_new(m->db, &b);
	if (err)
		return bad(m, "batch", err);
	oracle_next(&m->o);
	for (i = 0; !err && i < n; i++) {
		klen = pick_key(m, key);
		t = pick_tree(m);
		if (dice(m, 4)) {
			len = dice(m, m->c->value * 2);
			fill_value(m->buf, len, m->o.commit * 16 + i);
			err = kv_batch_put(b, m->tree[t], key, klen, m->buf, len);
			oracle_put(&m->o, tree_names[t], key, klen, m->buf, len);
		} else {
			err = kv_batch_del(b, m->tree[t], key, klen);
			oracle_del(&m->o, tree_names[t], key, klen);
		}
	}
	if (!err && kv_batch_count(b) != n)
		err = KV_E_INVALID;
	if (!err && dice(m, 10) == 0) { /* never mind */
		oracle_rewind(&m->o, m->o.commit - 1);
		kv_batch_free(b);
		return true;
	}
	if (!err)
		err = kv_batch_commit(b, durability(m));
	kv_batch_free(b);
	return settle(m, err, "batch");
}

static bool do_inc(struct model *m)
{
	char key[16], text[32] = "";
	int64_t delta = (int64_t)dice(m, 2000) - 1000, got = 0;
	size_t len;
	const u8 *old;
	int err;

	sprintf(key, "counter%u", (unsigned int)dice(m, 3));
	old = oracle_get(&m->o, m->o.commit, "main", key, strlen(key), &len);
	err = kv_inc(m->db, NULL, key, strlen(key), delta, &got, durability(m));
	if (!old) {
		if (err != KV_E_NOTFOUND)
			return bad(m, "inc of a missing key", err);
		sprintf(text, "%s", dice(m, 2) ? "0x2a" : "-17");
		err = kv_put(m->db, NULL, key, strlen(key), text, strlen(text), 0);
	} else {
		memcpy(text, old, len);
		text[len] = '\0';
		delta += strtoll(text, NULL, 0);
		if (err || got != delta)
			return bad(m, "inc", err);
		sprintf(text, "%lld", (long long)delta);
	}
	if (err)
		return bad(m, "inc", err);
	oracle_next(&m->o);
	oracle_put(&m->o, "main", key, strlen(key), text, strlen(text));
	return true;
}

static bool do_stream(struct model *m)
{
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key), len = dice(m, m->c->huge), done = 0, n;
	unsigned int t = pick_tree(m);
	kv_writer *w;
	int err;

	fill_value(m->buf, len, m->o.commit + 1);
	err = kv_writer_open(m->db, m->tree[t], key, klen, &w);
	if (err)
		return bad(m, "writer", err);
	while (!err && done < len) {
		n = 1 + dice(m, m->c->huge / 3);
		if (n > len - done)
			n = len - done;
		err = kv_writer_write(w, m->buf + done, n);
		done += n;
	}
	if (err || dice(m, 6) == 0) {
		kv_writer_abort(w);
		return !err || bad(m, "writer write", err);
	}
	err = kv_writer_commit(w, durability(m));
	if (err)
		return bad(m, "writer commit", err);
	oracle_next(&m->o);
	oracle_put(&m->o, tree_names[t], key, klen, m->buf, len);
	return true;
}

static bool do_tree(struct model *m)
{
	unsigned int t = 1 + dice(m, TREES - 1), i;
	int err;

	if (m->tree[t] && dice(m, 3))
		return true;
	if (!m->tree[t]) {
		err = kv_tree_open(m->db, tree_names[t], 0, &m->tree[t]);
		if (err != KV_E_NOTFOUND)
			return bad(m, "open of a missing tree", err);
		err = kv_tree_open(m->db, tree_names[t], KV_TREE_CREATE | KV_TREE_NEW, &m->tree[t]);
		if (err)
			return bad(m, "tree create", err);
		oracle_next(&m->o);
		oracle_tree_create(&m->o, tree_names[t]);
		return true;
	}
	for (i = 0; i < READS; i++) /* a read cannot name a dropped tree: see oracle_compare */
		if (m->read[i].r)
			return true;
	err = kv_tree_drop(m->db, tree_names[t]);
	if (err)
		return bad(m, "tree drop", err);
	oracle_next(&m->o);
	oracle_tree_drop(&m->o, tree_names[t]);
	err = kv_put(m->db, m->tree[t], "k", 1, "v", 1, 0);
	m->tree[t] = NULL;
	return err == KV_E_NOTFOUND || bad(m, "put by the handle of a dropped tree", err);
}

/* ---- questions ------------------------------------------------------------------------------- */

static bool do_get(struct model *m)
{
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key), want, got = 0;
	unsigned int t = pick_tree(m), r = dice(m, READS);
	kv_read *read = dice(m, 2) ? m->read[r].r : NULL;
	u64 at = read ? m->read[r].at : m->o.commit;
	const u8 *v = oracle_get(&m->o, at, tree_names[t], key, klen, &want);
	size_t cap = dice(m, 3) ? m->c->huge : dice(m, m->c->value + 1);
	uint64_t len = 0;
	int err;

	err = read ? kv_read_get_into(read, m->tree[t], key, klen, m->buf2, cap, &got)
		   : kv_get_into(m->db, m->tree[t], key, klen, m->buf2, cap, &got);
	if (!v)
		return err == KV_E_NOTFOUND || bad(m, "get of a missing key", err);
	if (want > cap)
		return (err == KV_E_TOOBIG && got == want) || bad(m, "get into a small buffer", err);
	if (err || got != want || memcmp(m->buf2, v, want))
		return bad(m, "get", err);
	if (read)
		return true;
	err = kv_exists(m->db, m->tree[t], key, klen, &len);
	return (!err && len == want) || bad(m, "exists", err);
}

/* Is the cursor at k (NULL: nowhere)? */
static bool cursor_at(struct model *m, kv_cursor *c, int err, const struct oracle_key *k, u64 at)
{
	const struct oracle_version *v;
	const void *key;
	uint64_t len;
	size_t klen;

	if (!k)
		return err == KV_E_NOTFOUND || bad(m, "cursor finds more than there is", err);
	if (err)
		return bad(m, "cursor", err);
	err = kv_cursor_key(c, &key, &klen);
	if (err || klen != k->key_len || memcmp(key, k->key, klen))
		return bad(m, "cursor stands at a wrong key", err);
	v = oracle_version(k, at);
	err = kv_cursor_value_len(c, &len);
	if (err || len != v->len)
		return bad(m, "cursor: length of value", err);
	if (len <= m->c->value * 8) {
		const void *value;

		err = kv_cursor_value(c, &value, &klen);
		if (err || klen != v->len || memcmp(value, v->value, klen))
			return bad(m, "cursor: value", err);
	}
	return true;
}

struct bounds {
	u8 from[KEY_MAX], to[KEY_MAX];
	size_t from_len, to_len;
	bool has_from, has_to;
};

static int key_cmp(const void *a, size_t alen, const void *b, size_t blen)
{
	int c = memcmp(a, b, alen < blen ? alen : blen);

	return c ? c : (alen > blen) - (alen < blen);
}

/* k, or NULL when it lies outside of the bounds. */
static const struct oracle_key *within(const struct bounds *b, const struct oracle_key *k)
{
	if (k && b->has_from && key_cmp(k->key, k->key_len, b->from, b->from_len) < 0)
		return NULL;
	if (k && b->has_to && key_cmp(k->key, k->key_len, b->to, b->to_len) >= 0)
		return NULL;
	return k;
}

/* First or last of the bounds, or a seek within them. */
static bool cursor_start(struct model *m, kv_cursor *c, const struct bounds *b, const char *name, u64 at,
			 const struct oracle_key **out)
{
	const struct oracle_key *k;
	u8 key[KEY_MAX];
	size_t klen = pick_key(m, key);
	int err;

	switch (dice(m, 4)) {
	case 0:
		err = kv_cursor_first(c);
		k = oracle_above(&m->o, at, name, b->has_from ? b->from : NULL, b->from_len, false);
		break;
	case 1:
		err = kv_cursor_last(c);
		k = oracle_below(&m->o, at, name, b->has_to ? b->to : NULL, b->to_len);
		break;
	case 2:
		err = kv_cursor_seek(c, key, klen);
		k = oracle_above(&m->o, at, name, key, klen, false);
		if (k && b->has_from && key_cmp(k->key, k->key_len, b->from, b->from_len) < 0)
			k = oracle_above(&m->o, at, name, b->from, b->from_len, false);
		break;
	default:
		err = kv_cursor_seek_le(c, key, klen);
		k = oracle_get(&m->o, at, name, key, klen, NULL)
			    ? oracle_above(&m->o, at, name, key, klen, false)
			    : oracle_below(&m->o, at, name, key, klen);
		if (k && b->has_to && key_cmp(k->key, k->key_len, b->to, b->to_len) >= 0)
			k = oracle_below(&m->o, at, name, b->to, b->to_len);
		break;
	}
	*out = within(b, k);
	return cursor_at(m, c, err, *out, at);
}

static bool do_cursor(struct model *m)
{
	unsigned int t = pick_tree(m), r = dice(m, READS), i, n = dice(m, 80);
	kv_read *read = dice(m, 2) ? m->read[r].r : NULL;
	u64 at = read ? m->read[r].at : m->o.commit;
	const struct oracle_key *k;
	struct bounds *b;
	bool good, forward = dice(m, 2);
	kv_cursor *c;
	int err;

	if (read && !oracle_tree_exists(&m->o, at, tree_names[t]))
		return true;
	err = kv_cursor_open(m->db, read, m->tree[t], &c);
	if (err)
		return bad(m, "cursor open", err);
	b = malloc(sizeof(*b));
	if (!b)
		abort();
	b->has_from = dice(m, 2);
	b->has_to = dice(m, 2);
	b->from_len = pick_key(m, b->from);
	b->to_len = pick_key(m, b->to);
	if (b->has_from && b->has_to && key_cmp(b->from, b->from_len, b->to, b->to_len) > 0)
		b->has_to = false;
	err = kv_cursor_bounds(c, b->has_from ? b->from : NULL, b->from_len, b->has_to ? b->to : NULL,
			       b->to_len);
	good = !err && cursor_start(m, c, b, tree_names[t], at, &k);
	for (i = 0; good && k && i < n; i++) {
		if (dice(m, 12) == 0)
			forward = !forward;
		if (!read && dice(m, 8) == 0) /* its state is frozen: commits must not show */
			good = do_put(m);
		err = forward ? kv_cursor_next(c) : kv_cursor_prev(c);
		k = within(b, forward ? oracle_above(&m->o, at, tree_names[t], k->key, k->key_len, true)
				      : oracle_below(&m->o, at, tree_names[t], k->key, k->key_len));
		good = good && cursor_at(m, c, err, k, at);
	}
	kv_cursor_close(c);
	free(b);
	return good || m->why[0] || bad(m, "cursor bounds", err);
}

static bool do_read(struct model *m)
{
	unsigned int r = dice(m, READS);
	int err;

	if (m->read[r].r) {
		if (dice(m, 3) == 0 &&
		    oracle_compare(&m->o, m->read[r].at, m->db, m->read[r].r, m->why))
			return false;
		kv_read_end(m->read[r].r);
		m->read[r].r = NULL;
		return true;
	}
	err = kv_read_begin(m->db, &m->read[r].r);
	m->read[r].at = m->o.commit;
	return !err || bad(m, "read begin", err);
}

/* ---- the whole volume ----------------------------------------------------------------------- */

static void ignore(void *arg, int level, const char *message)
{
	(void)arg;
	if (level == KV_LOG_ERROR || getenv("KV_TEST_LOG"))
		fprintf(stderr, "# log: %s\n", message);
}

static void options(const struct config *c, kv_options *opt, u32 flags)
{
	*opt = (kv_options)KV_OPTIONS_INIT;
	opt->flags = flags | (c->file ? 0 : KV_OPEN_NOTHREAD);
	opt->cache_bytes = c->cache;
	opt->log = ignore;
	opt->checkpoint_bytes = c->checkpoint;
	opt->block_bytes = c->block;
	opt->segment_bytes = c->segment;
	opt->frame_bytes = c->frame;
	opt->window_bytes = c->window;
}

static bool open_volume(struct model *m, u32 flags)
{
	kv_stat_info st;
	kv_options opt;
	unsigned int t;
	int err;

	options(m->c, &opt, flags);
	err = m->c->file ? kv_open(m->path, &opt, &m->db) : kve_open_dev(&m->sim->dev, &opt, &m->db);
	if (err) {
		m->db = NULL;
		return bad(m, "open", err);
	}
	for (t = 0; t < TREES; t++) {
		m->tree[t] = NULL;
		err = kv_tree_open(m->db, tree_names[t], 0, &m->tree[t]);
		if (err != (oracle_tree_exists(&m->o, m->o.commit, tree_names[t]) ? 0 : KV_E_NOTFOUND))
			return bad(m, "tree open", err);
	}
	err = kv_stat(m->db, &st);
	m->key_max = st.key_max < KEY_MAX ? st.key_max : KEY_MAX;
	return !err || bad(m, "stat", err);
}

static void end_reads(struct model *m)
{
	unsigned int i;

	for (i = 0; i < READS; i++) {
		if (m->read[i].r)
			kv_read_end(m->read[i].r);
		m->read[i].r = NULL;
	}
}

static void found(void *arg, int finding, const char *text)
{
	struct model *m = arg;

	if (!m->why[0])
		snprintf(m->why, sizeof(m->why), "kv_check: %d: %s", finding, text);
}

static bool compare_all(struct model *m)
{
	uint64_t problems = 0;
	int err;

	m->compares++;
	if (oracle_compare(&m->o, m->o.commit, m->db, NULL, m->why))
		return false;
	err = kv_check(m->db, KV_CHECK_VALUES, found, m, &problems);
	return (!err && !problems && !m->why[0]) || m->why[0] || bad(m, "kv_check", err);
}

static bool reopen(struct model *m, bool crash)
{
	bool held = false;
	unsigned int i;
	int err;

	for (i = 0; i < READS; i++)
		held |= m->read[i].r != NULL;
	if (held && !crash) {
		err = kv_close(m->db);
		if (err != KV_E_BUSY)
			return bad(m, "close with open reads", err);
	}
	end_reads(m);
	if (crash) {
		err = kv_sync(m->db); /* changes with KV_MEMORY may be lost otherwise */
		if (err)
			return bad(m, "sync", err);
		kve_crash(m->db);
	} else {
		err = kv_close(m->db);
		if (err)
			return bad(m, "close", err);
	}
	m->db = NULL;
	if (dice(m, 3) == 0) {
		if (!open_volume(m, KV_OPEN_READONLY) || !compare_all(m))
			return false;
		err = kv_put(m->db, NULL, "k", 1, "v", 1, 0);
		if (err != KV_E_READONLY)
			return bad(m, "put into a volume opened read-only", err);
		err = kv_close(m->db);
		m->db = NULL;
		if (err)
			return bad(m, "close read-only", err);
	}
	return open_volume(m, 0) && compare_all(m);
}

static bool step(struct model *m)
{
	u64 d = dice(m, 1000);
	int err;

	if (d < 330)
		return do_put(m);
	if (d < 450)
		return do_del(m);
	if (d < 460)
		return do_del_run(m);
	if (d < 472)
		return do_del_range(m);
	if (d < 540)
		return do_batch(m);
	if (d < 570)
		return do_inc(m);
	if (d < 600)
		return do_stream(m);
	if (d < 615)
		return do_tree(m);
	if (d < 860)
		return do_get(m);
	if (d < 940)
		return do_cursor(m);
	if (d < 970)
		return do_read(m);
	if (d < 975) {
		err = kv_gc(m->db, 1 + dice(m, 1u << 20), NULL);
		return !err || bad(m, "gc", err);
	}
	if (d < 985) {
		err = kv_sync(m->db);
		return !err || bad(m, "sync", err);
	}
	if (d < 992) {
		err = kv_checkpoint(m->db);
		return !err || bad(m, "checkpoint", err);
	}
	if (d < 998)
		return reopen(m, d & 1);
	return compare_all(m);
}

static bool begin(struct model *m, const struct config *c, u64 seed)
{
	const char *dir = getenv("TMPDIR");
	kv_options opt;
	int err, fd;

	memset(m, 0, sizeof(*m));
	m->c = c;
	m->rnd = seed * 0x9e3779b97f4a7c15ull + 3;
	rnd_next(&m->rnd);
	oracle_init(&m->o);
	m->buf = malloc(c->huge + c->value * 16);
	m->buf2 = malloc(c->huge + c->value * 16);
	if (!m->buf || !m->buf2)
		abort();
	options(c, &opt, KV_OPEN_FORCE);
	if (c->file) {
		snprintf(m->path, sizeof(m->path), "%s/kvs-model-XXXXXX", dir ? dir : "/tmp");
		fd = mkstemp(m->path);
		if (fd < 0)
			return bad(m, "temporary file", KV_E_IO);
		close(fd);
		err = kv_create(m->path, &opt);
	} else {
		m->sim = sim_new(0, c->cap, c->window != 1);
		err = kve_create_dev(&m->sim->dev, &opt);
	}
	return err ? bad(m, "create", err) : open_volume(m, 0);
}

static bool history(const struct config *c, u64 seed, unsigned int ops, char *why, size_t why_len)
{
	struct model *m = malloc(sizeof(*m));
	bool good;
	int err;

	if (!m)
		abort();
	good = begin(m, c, seed);
	for (m->done = 0; good && m->done < ops; m->done++)
		good = step(m);
	end_reads(m);
	good = good && compare_all(m) && reopen(m, false) && compare_all(m);
	if (m->db && good) {
		err = kv_close(m->db);
		good = !err || bad(m, "last close", err);
	} else if (m->db) {
		kve_crash(m->db);
	}
	snprintf(why, why_len, "%s (operation %u)", m->why, m->done);
	sim_free(m->sim);
	if (m->path[0])
		unlink(m->path);
	oracle_free(&m->o);
	free(m->buf);
	free(m->buf2);
	free(m);
	return good;
}

static bool one(unsigned int config, u64 seed, unsigned int ops)
{
	const struct config *c = &configs[config];
	char why[1024];
	bool good = history(c, seed, ops, why, sizeof(why));

	if (!good)
		tap_diag("%s\n# repeat: test_model --config %u --seed %llu --ops %u", why, config, seed, ops);
	return tap_ok(good, "CONTRACT C4, rows S1 S3 S16 K6 H8: %s, seed %llu, %u operations", c->name, seed,
		      ops);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "config", 1, NULL, 'c' }, { "seed", 1, NULL, 's' }, { "ops", 1, NULL, 'o' },
		{ "seeds", 1, NULL, 'n' },  { NULL, 0, NULL, 0 },
	};
	unsigned int config = CONFIGS, ops = 0, i;
	u64 seed = 0, seeds = tap_quick() ? 1 : 6, s;
	int opt;

	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 10) : 0;

		if (opt == 'c')
			config = n % CONFIGS;
		else if (opt == 's')
			seed = n;
		else if (opt == 'o')
			ops = n;
		else if (opt == 'n')
			seeds = n;
		else
			return 2;
	}
	for (i = 0; i < CONFIGS; i++) {
		if (config < CONFIGS && i != config)
			continue;
		for (s = 1; s <= (seed ? 1 : seeds); s++)
			if (!one(i, seed ? seed : s, ops ? ops : configs[i].ops))
				break;
	}
	return tap_done();
}
