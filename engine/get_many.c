/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * get_many.c - the values of many keys in one call.
 *
 * Keys are worked off in groups. All descents of a group go side by side (tree_get.c); pages that are missing
 * are read in batches, a level at a time (tree.c); then the separated values, sorted by their places
 * (log_read.c). Whatever fails or cannot be done in common goes the way of a single get.
 */
#include "kve.h"

#define GROUP 64u

/* Keys of a group that can be asked for; others have their error. */
static void group_begin(struct kv_db *db, struct kve_lookup *l, const kv_item *items, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		l[i].key = items[i].key;
		l[i].key_len = (u32)items[i].key_len;
		l[i].buf = items[i].buf;
		l[i].cap = items[i].cap;
		l[i].err = kve_key_check(db, items[i].key, items[i].key_len);
		if (!l[i].err)
			l[i].err = -KVE_need_page;
	}
}

static bool separated(const struct kve_lookup *l)
{
	return !l->err && (l->e.flags & (KVF_CELL_KIND | KVF_CELL_POISON)) == KVF_CELL_REF &&
	       l->e.value_len <= l->cap;
}

/*
 * Separated values, all of them at once. Those that are read have no need of anything else: their flags say
 * inline from then on.
 */
static void group_values(struct kv_db *db, struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n)
{
	struct kve_value_want *w;
	u32 i, nr = 0;

	for (i = 0; i < n; i++)
		nr += separated(&l[i]);
	w = nr > 1 ? kvp_alloc_array(nr, sizeof(*w), 0) : NULL;
	if (!w)
		return;
	for (i = 0, nr = 0; i < n; i++) {
		if (!separated(&l[i]))
			continue;
		w[nr].ref = l[i].e.ref;
		w[nr].key = l[i].key;
		w[nr].key_len = l[i].key_len;
		w[nr].out = l[i].buf;
		w[nr++].item = i;
	}
	kve_values_read(db, t, w, nr, gen == KVE_LIVE);
	for (i = 0; i < nr; i++)
		if (!w[i].err)
			l[w[i].item].e.flags = KVF_CELL_INLINE;
	kvp_free(w);
}

/*
 * What stands in the buffer is done. Values in chunks, and those that could not be read, go the way of a
 * single get: it looks the key up again, as its value may have moved meanwhile.
 */
static int value_end(struct kv_db *db, struct kv_tree *t, u64 gen, struct kve_lookup *l, size_t *value_len)
{
	*value_len = (size_t)l->e.value_len;
	if (!(l->e.flags & KVF_CELL_POISON) && l->e.value_len > l->cap)
		return -KVE_buffer_too_small;
	if (!(l->e.flags & (KVF_CELL_KIND | KVF_CELL_POISON)))
		return 0;
	return kve_get_into(db, t, gen, l->key, l->key_len, l->buf, l->cap, value_len);
}

static void group_get(struct kv_db *db, struct kv_tree *t, u64 gen, struct kve_lookup *l, kv_item *items,
		      u32 n)
{
	u32 i;
	int err;

	group_begin(db, l, items, n);
	kve_tree_get_many(t, gen, l, n);
	group_values(db, t, gen, l, n);
	for (i = 0; i < n; i++) {
		err = l[i].err;
		if (!err)
			err = value_end(db, t, gen, &l[i], &items[i].value_len);
		items[i].err = kve_return(db, err);
	}
}

static void get_many(struct kv_db *db, struct kv_tree *t, u64 gen, kv_item *items, size_t n)
{
	u32 most = (u32)KVF_MIN(n, (size_t)GROUP), part;
	struct kve_lookup one, *l = kvp_alloc_array(most, sizeof(*l), 0);

	/* Without memory one by one. */
	if (!l)
		most = 1;
	for (; n; n -= part, items += part) {
		part = (u32)KVF_MIN(n, (size_t)most);
		group_get(db, t, gen, l ? l : &one, items, part);
	}
	kvp_free(l);
}

int kv_get_many(kv_db *db, kv_tree *tree, size_t n, kv_item *items)
{
	struct kv_tree *t = kve_tree_of(db, tree);
	int err = kve_enter(db, false);

	if (!err && !items && n)
		err = -KVE_invalid;
	if (!err && kvp_load(&t->dropped))
		err = -KVE_no_tree;
	if (!err && n) {
		kvp_count_add(&db->gets, n);
		get_many(db, t, KVE_LIVE, items, n);
	}
	return kve_return(db, err);
}

int kv_read_get_many(kv_read *r, kv_tree *tree, size_t n, kv_item *items)
{
	struct kv_tree *t = kve_read_tree(r->db, r, tree);
	int err = kve_enter(r->db, false);

	if (!err && !items && n)
		err = -KVE_invalid;
	if (!err && !t)
		err = -KVE_no_tree;
	if (!err)
		err = kve_read_check(r);
	if (!err && n) {
		get_many(r->db, t, r->gen, items, n);
		err = kve_read_done(r, 0);
	}
	return kve_return(r->db, err);
}
