/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * compare.c - hold an open volume against a state of the oracle; see oracle.h.
 *
 * Values beyond a mebibyte are read in pieces through a reader, so that the comparison works with the
 * smallest cache. Every way to reach a pair is used: scans in both directions, get, exists, count.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/oracle.h"

#define PIECE 65536u
#define NAMES_MAX 64u
#define KEY_MAX 8192u
#define KVMIN(a, b) ((a) < (b) ? (a) : (b))
#define WHOLE_MAX 65536u /* values up to here are asked for in one piece */

const char *oracle_key_text(const void *key, size_t len)
{
	static char text[4][96];
	static unsigned int turn;
	char *out = text[turn++ % 4];
	const uint8_t *k = key;
	size_t i, n = 0;

	for (i = 0; i < len && n < sizeof(text[0]) - 8; i++) {
		if (k[i] > ' ' && k[i] < 0x7f && k[i] != '\\')
			out[n++] = k[i];
		else
			n += sprintf(out + n, "\\x%02x", k[i]);
	}
	sprintf(out + n, i < len ? "..." : "");
	return out;
}

struct name_list {
	char name[NAMES_MAX][ORACLE_NAME_MAX + 1];
	unsigned int nr;
};

static int collect(void *arg, const char *name, uint64_t count)
{
	struct name_list *l = arg;

	(void)count;
	if (l->nr == NAMES_MAX)
		return 1;
	snprintf(l->name[l->nr], sizeof(l->name[0]), "%s", name);
	l->nr++;
	return 0;
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Names of all trees, sorted as the oracle sorts them. The caller frees. */
static int trees_of(kv_db *db, kv_read *r, struct name_list **out)
{
	struct name_list *l = malloc(sizeof(*l));
	int err;

	if (!l)
		abort();
	l->nr = 0;
	err = r ? kv_read_trees(r, collect, l) : kv_tree_list(db, collect, l);
	if (err) {
		free(l);
		return err;
	}
	qsort(l->name, l->nr, sizeof(l->name[0]), name_cmp);
	*out = l;
	return 0;
}

/* Add the digest of the pair at the cursor, in pieces when its value is large. */
static int hash_entry(kv_cursor *c, const char *name, const void *key, size_t klen, uint64_t *hash)
{
	uint64_t len, done = 0;
	XXH64_state_t *s;
	const void *v;
	kv_reader *rd;
	size_t got;
	int err;

	err = kv_cursor_value_len(c, &len);
	if (err)
		return err;
	if (len <= WHOLE_MAX) {
		err = kv_cursor_value(c, &v, &got);
		if (!err)
			*hash += oracle_hash_pair(name, key, klen, v, got);
		return err ? err : (got == len ? 0 : KV_E_CORRUPT);
	}
	err = kv_cursor_reader(c, &rd, &len);
	if (err)
		return err;
	s = oracle_hash_begin(name, key, klen, len);
	while (!err && done < len) {
		uint8_t buf[4096];

		err = kv_reader_read(rd, buf, sizeof(buf), &got);
		if (!err && !got)
			err = KV_E_CORRUPT;
		if (!err)
			XXH64_update(s, buf, got);
		done += got;
	}
	*hash += oracle_hash_end(s);
	kv_reader_close(rd);
	return err;
}

static int hash_tree(kv_db *db, kv_read *r, const char *name, uint64_t *hash, uint64_t *entries)
{
	uint8_t last[KEY_MAX];
	size_t klen, last_len = 0;
	const void *key;
	kv_tree *tree;
	kv_cursor *c;
	int err;

	err = r ? kv_read_tree(r, name, &tree) : kv_tree_open(db, name, 0, &tree);
	if (err)
		return err;
	*hash += oracle_hash_name(name);
	err = kv_cursor_open(db, r, tree, &c);
	if (err)
		return err;
	for (err = kv_cursor_first(c); !err; err = kv_cursor_next(c)) {
		err = kv_cursor_key(c, &key, &klen);
		if (err)
			break;
		if (klen > KEY_MAX || (last_len && memcmp(last, key, KVMIN(last_len, klen)) > 0) ||
		    (last_len == klen && !memcmp(last, key, klen))) {
			err = KV_E_CORRUPT;
			break;
		}
		memcpy(last, key, klen);
		last_len = klen;
		err = hash_entry(c, name, key, klen, hash);
		if (err)
			break;
		++*entries;
	}
	kv_cursor_close(c);
	return err == KV_E_NOTFOUND ? 0 : err;
}

int oracle_hash_volume(kv_db *db, uint64_t *hash, uint64_t *entries)
{
	return oracle_hash_read(db, NULL, hash, entries);
}

int oracle_hash_read(kv_db *db, kv_read *r, uint64_t *hash, uint64_t *entries)
{
	struct name_list *l;
	uint64_t n = 0;
	unsigned int i;
	int err;

	err = trees_of(db, r, &l);
	if (err)
		return err;
	*hash = 0;
	for (i = 0; !err && i < l->nr; i++)
		err = hash_tree(db, r, l->name[i], hash, &n);
	if (entries)
		*entries = n;
	free(l);
	return err;
}

/* ---- comparison ------------------------------------------------------------------------------ */

struct compare {
	const struct oracle *o;
	uint64_t at;
	kv_db *db;
	kv_read *r;
	kv_tree *tree;
	const char *name;
	char *why;
};

static int differ(struct compare *x, const char *what, const void *key, size_t klen, int err)
{
	snprintf(x->why, ORACLE_WHY, "tree '%s', state %llu%s: %s at key '%s' (%s: %s)", x->name,
		 (unsigned long long)x->at, x->r ? " (frozen)" : "", what,
		 key ? oracle_key_text(key, klen) : "(none)", kv_strerror(err),
		 err ? kv_last_error() : "");
	return -1;
}

/* The stream behind rd is exactly the bytes of v. Closes rd. */
static int compare_reader(struct compare *x, kv_reader *rd, const struct oracle_key *k,
			  const struct oracle_version *v)
{
	uint8_t *buf = malloc(PIECE);
	uint64_t done = 0;
	size_t got = 1;
	int err = 0;

	if (!buf)
		abort();
	while (!err && got) {
		err = kv_reader_read(rd, buf, PIECE, &got);
		if (err || !got)
			break;
		if (done + got > v->len || memcmp(buf, v->value + done, got))
			err = 1;
		done += got;
	}
	free(buf);
	kv_reader_close(rd);
	if (err < 0)
		return differ(x, "streamed value cannot be read", k->key, k->key_len, err);
	if (err || done != v->len)
		return differ(x, "streamed value differs", k->key, k->key_len, 0);
	return 0;
}

static int compare_at_cursor(struct compare *x, kv_cursor *c, const struct oracle_key *k)
{
	const struct oracle_version *v = oracle_version(k, x->at);
	const void *key, *value;
	size_t klen, vlen;
	uint64_t len;
	kv_reader *rd;
	int err;

	err = kv_cursor_key(c, &key, &klen);
	if (err || klen != k->key_len || memcmp(key, k->key, klen))
		return differ(x, "scan stands at another key than expected", k->key, k->key_len, err);
	err = kv_cursor_value_len(c, &len);
	if (err || len != v->len)
		return differ(x, "wrong length of value", k->key, k->key_len, err);
	if (len <= WHOLE_MAX) {
		err = kv_cursor_value(c, &value, &vlen);
		if (err || vlen != v->len || memcmp(value, v->value, vlen))
			return differ(x, "wrong value in scan", k->key, k->key_len, err);
		return 0;
	}
	err = kv_cursor_reader(c, &rd, &len);
	if (err || len != v->len)
		return differ(x, "no reader for a large value", k->key, k->key_len, err);
	return compare_reader(x, rd, k, v);
}

static int compare_scan(struct compare *x, bool forward)
{
	const struct oracle_key *k;
	kv_cursor *c;
	const void *key;
	size_t klen;
	int err, ret = 0;

	err = kv_cursor_open(x->db, x->r, x->tree, &c);
	if (err)
		return differ(x, "no cursor", NULL, 0, err);
	err = forward ? kv_cursor_first(c) : kv_cursor_last(c);
	k = forward ? oracle_above(x->o, x->at, x->name, NULL, 0, false)
		    : oracle_below(x->o, x->at, x->name, NULL, 0);
	while (!err && k && !ret) {
		ret = compare_at_cursor(x, c, k);
		if (ret)
			break;
		k = forward ? oracle_above(x->o, x->at, x->name, k->key, k->key_len, true)
			    : oracle_below(x->o, x->at, x->name, k->key, k->key_len);
		err = forward ? kv_cursor_next(c) : kv_cursor_prev(c);
	}
	if (!ret && k)
		ret = differ(x, forward ? "scan misses" : "backward scan misses", k->key, k->key_len,
			     err);
	else if (!ret && !err && !kv_cursor_key(c, &key, &klen))
		ret = differ(x, forward ? "scan has too much" : "backward scan has too much", key, klen,
			     0);
	else if (!ret && err != KV_E_NOTFOUND)
		ret = differ(x, "scan fails", NULL, 0, err);
	kv_cursor_close(c);
	return ret;
}

static int compare_key(struct compare *x, const struct oracle_key *k)
{
	const struct oracle_version *v = oracle_version(k, x->at);
	void *value = NULL;
	size_t vlen = 0;
	uint64_t len;
	kv_reader *rd;
	int err;

	if (v && v->len > WHOLE_MAX) {
		err = kv_reader_open(x->db, x->r, x->tree, k->key, k->key_len, &rd, &len);
		if (err || len != v->len)
			return differ(x, "no reader for a key", k->key, k->key_len, err);
		return compare_reader(x, rd, k, v);
	}
	err = x->r ? kv_read_get(x->r, x->tree, k->key, k->key_len, &value, &vlen)
		   : kv_get(x->db, x->tree, k->key, k->key_len, &value, &vlen);
	if (!v) {
		kv_free(err ? NULL : value);
		return err == KV_E_NOTFOUND
			       ? 0
			       : differ(x, "get finds a deleted key", k->key, k->key_len, err);
	}
	if (err)
		return differ(x, "get fails", k->key, k->key_len, err);
	err = vlen != v->len || (vlen && memcmp(value, v->value, vlen));
	kv_free(value);
	return err ? differ(x, "wrong value", k->key, k->key_len, 0) : 0;
}

static int compare_tree(struct compare *x, const struct oracle_tree *t)
{
	uint64_t count = 0, want = oracle_count(x->o, x->at, t->name);
	uint32_t i;
	int err;

	x->name = t->name;
	err = kv_tree_open(x->db, t->name, 0, &x->tree);
	if (err)
		return differ(x, "tree cannot be opened", NULL, 0, err);
	if (!x->r) {
		err = kv_count(x->db, x->tree, &count);
		if (err || count != want) {
			snprintf(x->why, ORACLE_WHY, "tree '%s', state %llu: count %llu, expected %llu",
				 t->name, (unsigned long long)x->at, (unsigned long long)count,
				 (unsigned long long)want);
			return -1;
		}
	}
	if (compare_scan(x, true) || compare_scan(x, false))
		return -1;
	for (i = 0; i < t->nr; i++)
		if (compare_key(x, t->keys[i]))
			return -1;
	return 0;
}

/* The volume's list of trees is the oracle's. */
static int compare_names(struct compare *x)
{
	struct name_list *l;
	uint32_t i, n = 0;
	int err, ret = 0;

	x->name = "";
	err = trees_of(x->db, NULL, &l);
	if (err)
		return differ(x, "trees cannot be listed", NULL, 0, err);
	for (i = 0; !ret && i < x->o->nr; i++) {
		const struct oracle_tree *t = x->o->trees[i];

		if (!oracle_tree_exists(x->o, x->at, t->name))
			continue;
		x->name = t->name;
		if (n >= l->nr || strcmp(l->name[n], t->name))
			ret = differ(x, "tree is missing, or another one is there", NULL, 0, 0);
		n++;
	}
	if (!ret && n != l->nr) {
		x->name = l->name[n];
		ret = differ(x, "tree should not exist", NULL, 0, 0);
	}
	free(l);
	return ret;
}

int oracle_compare(const struct oracle *o, uint64_t at, kv_db *db, kv_read *r, char *why)
{
	struct compare x = { .o = o, .at = at, .db = db, .r = r, .why = why };
	uint32_t i;

	/* names of trees as of a read transaction cannot be listed: compare only the present ones */
	if (!r && compare_names(&x))
		return -1;
	for (i = 0; i < o->nr; i++) {
		if (!oracle_tree_exists(o, at, o->trees[i]->name) ||
		    (r && !oracle_tree_exists(o, o->commit, o->trees[i]->name)))
			continue;
		if (compare_tree(&x, o->trees[i]))
			return -1;
	}
	return 0;
}
