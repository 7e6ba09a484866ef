/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * oracle.c - keep every version of every key; see oracle.h. Comparison with a volume: compare.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/model/oracle.h"

static void *grow(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p) {
		fprintf(stderr, "oracle: out of memory\n");
		abort();
	}
	return p;
}

static void *copy(const void *data, size_t len)
{
	void *p = grow(NULL, len ? len : 1);

	if (len)
		memcpy(p, data, len);
	return p;
}

static int key_cmp(const void *a, size_t alen, const void *b, size_t blen)
{
	size_t n = alen < blen ? alen : blen;
	int c = n ? memcmp(a, b, n) : 0;

	if (c)
		return c;
	return alen < blen ? -1 : alen > blen;
}

/* Index of the first tree with a name >= name; *found: equal. */
static uint32_t tree_at(const struct oracle *o, const char *name, bool *found)
{
	uint32_t i;

	*found = false;
	for (i = 0; i < o->nr; i++) {
		int c = strcmp(o->trees[i]->name, name);

		if (c >= 0) {
			*found = !c;
			break;
		}
	}
	return i;
}

static struct oracle_tree *tree_find(const struct oracle *o, const char *name)
{
	bool found;
	uint32_t i = tree_at(o, name, &found);

	return found ? o->trees[i] : NULL;
}

/* Index of the first key >= key; *found: equal. */
static uint32_t key_at(const struct oracle_tree *t, const void *key, size_t len, bool *found)
{
	uint32_t lo = 0, hi = t->nr;

	*found = false;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = key_cmp(t->keys[mid]->key, t->keys[mid]->key_len, key, len);

		if (c < 0) {
			lo = mid + 1;
		} else {
			if (!c)
				*found = true;
			hi = mid;
		}
	}
	return lo;
}

static bool tree_alive(const struct oracle_tree *t, uint64_t at)
{
	uint32_t i;

	for (i = t->turns_nr; i > 0 && t->turns[i - 1] > at; i--)
		;
	return i & 1;
}

static void tree_turn(struct oracle_tree *t, uint64_t commit)
{
	if (t->turns_nr == t->turns_cap) {
		t->turns_cap = t->turns_cap * 2 + 4;
		t->turns = grow(t->turns, t->turns_cap * sizeof(*t->turns));
	}
	t->turns[t->turns_nr++] = commit;
}

void oracle_init(struct oracle *o)
{
	memset(o, 0, sizeof(*o));
	oracle_tree_create(o, "main");
}

static void tree_free(struct oracle_tree *t)
{
	uint32_t i, v;

	for (i = 0; i < t->nr; i++) {
		for (v = 0; v < t->keys[i]->nr; v++)
			free(t->keys[i]->versions[v].value);
		free(t->keys[i]->versions);
		free(t->keys[i]->key);
		free(t->keys[i]);
	}
	free(t->keys);
	free(t->turns);
	free(t);
}

void oracle_free(struct oracle *o)
{
	uint32_t i;

	for (i = 0; i < o->nr; i++)
		tree_free(o->trees[i]);
	free(o->trees);
	memset(o, 0, sizeof(*o));
}

void oracle_rewind(struct oracle *o, uint64_t at)
{
	uint32_t i, k;

	for (i = 0; i < o->nr; i++) {
		struct oracle_tree *t = o->trees[i];

		while (t->turns_nr && t->turns[t->turns_nr - 1] > at)
			t->turns_nr--;
		for (k = 0; k < t->nr; k++) {
			struct oracle_key *key = t->keys[k];

			while (key->nr && key->versions[key->nr - 1].commit > at)
				free(key->versions[--key->nr].value);
		}
	}
	if (o->commit > at)
		o->commit = at;
}

uint64_t oracle_next(struct oracle *o)
{
	return ++o->commit;
}

void oracle_tree_create(struct oracle *o, const char *name)
{
	bool found;
	uint32_t i = tree_at(o, name, &found);
	struct oracle_tree *t;

	if (!found) {
		t = grow(NULL, sizeof(*t));
		memset(t, 0, sizeof(*t));
		snprintf(t->name, sizeof(t->name), "%s", name);
		if (o->nr == o->cap) {
			o->cap = o->cap * 2 + 4;
			o->trees = grow(o->trees, o->cap * sizeof(*o->trees));
		}
		memmove(&o->trees[i + 1], &o->trees[i], (o->nr - i) * sizeof(*o->trees));
		o->trees[i] = t;
		o->nr++;
	}
	t = o->trees[i];
	if (!tree_alive(t, o->commit))
		tree_turn(t, o->commit);
}

/* Add a version to key k; a second one of the same commit replaces the first. */
static void key_version(struct oracle_key *k, uint64_t commit, const void *value, size_t len)
{
	struct oracle_version *v;

	if (k->nr && k->versions[k->nr - 1].commit == commit) {
		v = &k->versions[k->nr - 1];
		free(v->value);
	} else {
		if (k->nr == k->cap) {
			k->cap = k->cap * 2 + 2;
			k->versions = grow(k->versions, k->cap * sizeof(*k->versions));
		}
		v = &k->versions[k->nr++];
	}
	v->commit = commit;
	v->value = value ? copy(value, len) : NULL;
	v->len = value ? len : 0;
}

void oracle_put(struct oracle *o, const char *tree, const void *key, size_t key_len, const void *value,
		size_t len)
{
	struct oracle_tree *t = tree_find(o, tree);
	struct oracle_key *k;
	uint32_t i;
	bool found;

	if (!t)
		abort(); /* the test named a tree that it never made */
	i = key_at(t, key, key_len, &found);
	if (!found) {
		k = grow(NULL, sizeof(*k));
		memset(k, 0, sizeof(*k));
		k->key = copy(key, key_len);
		k->key_len = key_len;
		if (t->nr == t->cap) {
			t->cap = t->cap * 2 + 16;
			t->keys = grow(t->keys, t->cap * sizeof(*t->keys));
		}
		memmove(&t->keys[i + 1], &t->keys[i], (t->nr - i) * sizeof(*t->keys));
		t->keys[i] = k;
		t->nr++;
	}
	key_version(t->keys[i], o->commit, value ? value : "", len);
}

void oracle_del(struct oracle *o, const char *tree, const void *key, size_t key_len)
{
	struct oracle_tree *t = tree_find(o, tree);
	uint32_t i;
	bool found;

	if (!t)
		return;
	i = key_at(t, key, key_len, &found);
	if (found && oracle_version(t->keys[i], o->commit))
		key_version(t->keys[i], o->commit, NULL, 0);
}

void oracle_del_range(struct oracle *o, const char *tree, const void *from, size_t from_len, const void *to,
		      size_t to_len)
{
	struct oracle_tree *t = tree_find(o, tree);
	uint32_t i, end;
	bool found;

	if (!t)
		return;
	i = from_len ? key_at(t, from, from_len, &found) : 0;
	end = to_len ? key_at(t, to, to_len, &found) : t->nr;
	for (; i < end; i++)
		if (oracle_version(t->keys[i], o->commit))
			key_version(t->keys[i], o->commit, NULL, 0);
}

void oracle_tree_drop(struct oracle *o, const char *name)
{
	struct oracle_tree *t = tree_find(o, name);
	uint32_t i;

	if (!t || !tree_alive(t, o->commit))
		return;
	for (i = 0; i < t->nr; i++)
		if (oracle_version(t->keys[i], o->commit))
			key_version(t->keys[i], o->commit, NULL, 0);
	tree_turn(t, o->commit);
}

const struct oracle_version *oracle_version(const struct oracle_key *k, uint64_t at)
{
	uint32_t i;

	for (i = k->nr; i > 0 && k->versions[i - 1].commit > at; i--)
		;
	if (!i || !k->versions[i - 1].value)
		return NULL;
	return &k->versions[i - 1];
}

void oracle_tree_clone(struct oracle *o, const char *tree, const char *from, uint64_t at)
{
	const struct oracle_tree *t = tree_find(o, from);
	const struct oracle_version *v;
	uint32_t k;

	oracle_tree_create(o, tree);
	for (k = 0; t && k < t->nr; k++) {
		v = oracle_version(t->keys[k], at);
		if (v)
			oracle_put(o, tree, t->keys[k]->key, t->keys[k]->key_len, v->value, v->len);
	}
}

void oracle_revert(struct oracle *o, uint64_t to)
{
	const struct oracle_version *was, *now;
	struct oracle_tree *t;
	uint32_t i, k;

	for (i = 0; i < o->nr; i++) {
		t = o->trees[i];
		if (tree_alive(t, to) != tree_alive(t, o->commit))
			tree_turn(t, o->commit);
		for (k = 0; k < t->nr; k++) {
			was = oracle_version(t->keys[k], to);
			now = oracle_version(t->keys[k], o->commit);
			if (was != now)
				key_version(t->keys[k], o->commit, was ? was->value : NULL,
					    was ? was->len : 0);
		}
	}
}

bool oracle_tree_exists(const struct oracle *o, uint64_t at, const char *tree)
{
	const struct oracle_tree *t = tree_find(o, tree);

	return t && tree_alive(t, at);
}

const uint8_t *oracle_get(const struct oracle *o, uint64_t at, const char *tree, const void *key,
			  size_t key_len, size_t *len)
{
	const struct oracle_tree *t = tree_find(o, tree);
	const struct oracle_version *v = NULL;
	bool found = false;
	uint32_t i;

	if (t) {
		i = key_at(t, key, key_len, &found);
		if (found)
			v = oracle_version(t->keys[i], at);
	}
	if (len)
		*len = v ? v->len : 0;
	return v ? v->value : NULL;
}

uint64_t oracle_count(const struct oracle *o, uint64_t at, const char *tree)
{
	const struct oracle_tree *t = tree_find(o, tree);
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; t && i < t->nr; i++)
		n += oracle_version(t->keys[i], at) != NULL;
	return n;
}

bool oracle_ever(const struct oracle *o, const char *tree, const void *key, size_t key_len,
		 const void *value, size_t len)
{
	const struct oracle_tree *t = tree_find(o, tree);
	uint32_t i, v;
	bool found;

	if (!t)
		return false;
	i = key_at(t, key, key_len, &found);
	if (!found)
		return false;
	for (v = 0; v < t->keys[i]->nr; v++) {
		const struct oracle_version *ver = &t->keys[i]->versions[v];

		if (ver->value && ver->len == len && !memcmp(ver->value, value, len))
			return true;
	}
	return false;
}

const struct oracle_key *oracle_above(const struct oracle *o, uint64_t at, const char *tree,
				      const void *key, size_t key_len, bool above)
{
	const struct oracle_tree *t = tree_find(o, tree);
	uint32_t i = 0;
	bool found = false;

	if (!t)
		return NULL;
	if (key)
		i = key_at(t, key, key_len, &found);
	if (found && above)
		i++;
	for (; i < t->nr; i++)
		if (oracle_version(t->keys[i], at))
			return t->keys[i];
	return NULL;
}

const struct oracle_key *oracle_below(const struct oracle *o, uint64_t at, const char *tree,
				      const void *key, size_t key_len)
{
	const struct oracle_tree *t = tree_find(o, tree);
	uint32_t i;
	bool found;

	if (!t)
		return NULL;
	i = key ? key_at(t, key, key_len, &found) : t->nr;
	for (; i > 0; i--)
		if (oracle_version(t->keys[i - 1], at))
			return t->keys[i - 1];
	return NULL;
}

uint64_t oracle_hash_pair(const char *tree, const void *key, size_t key_len, const void *value,
			  size_t len)
{
	XXH64_state_t *s = oracle_hash_begin(tree, key, key_len, len);

	XXH64_update(s, value, len);
	return oracle_hash_end(s);
}

XXH64_state_t *oracle_hash_begin(const char *tree, const void *key, size_t key_len, uint64_t len)
{
	XXH64_state_t *s = XXH64_createState();
	uint64_t lens[2] = { key_len, len };

	if (!s)
		abort();
	XXH64_reset(s, oracle_hash_name(tree));
	XXH64_update(s, lens, sizeof(lens));
	XXH64_update(s, key, key_len);
	return s;
}

uint64_t oracle_hash_end(XXH64_state_t *s)
{
	uint64_t h = XXH64_digest(s);

	XXH64_freeState(s);
	return h;
}

uint64_t oracle_hash_name(const char *tree)
{
	return XXH64(tree, strlen(tree), 1);
}

uint64_t oracle_hash(const struct oracle *o, uint64_t at)
{
	uint32_t i, k;
	uint64_t h = 0;

	for (i = 0; i < o->nr; i++) {
		const struct oracle_tree *t = o->trees[i];

		if (!tree_alive(t, at))
			continue;
		h += oracle_hash_name(t->name);
		for (k = 0; k < t->nr; k++) {
			const struct oracle_version *v = oracle_version(t->keys[k], at);

			if (v)
				h += oracle_hash_pair(t->name, t->keys[k]->key, t->keys[k]->key_len,
						      v->value, v->len);
		}
	}
	return h;
}
