/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_snaps.c - what named snapshots have that the live state does not: pages, cells, values.
 *
 * Of each snapshot, oldest first, only those subtrees are walked that were not met before: pages never
 * change, so the rest has been judged. Chunks and heads of large values are matched in the live state alone.
 */
#include "ck.h"

static const struct kvsck_tree forest = { .id = KVF_TREE_FOREST };

static int snap_forest_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_tree_head h;
	struct kvsck_tree *t;

	if (e->key[0] != KVF_FOREST_TREE && e->key[0] != KVF_FOREST_DOOMED)
		return 0;
	if (e->flags == KVF_CELL_INLINE && e->body_len == sizeof(h))
		memcpy(&h, e->body, sizeof(h));
	if (e->flags != KVF_CELL_INLINE || e->body_len != sizeof(h) || h.flags != cpu_to_le32(0) ||
	    (!kvf_is_zero(&h.root, sizeof(h.root)) && kvf_ref_verify(&h.root, &ck->g, ck->segments))) {
		kvsck_problem(ck, KVF_F_tree_head, &at, "of snapshot '%s'", ck->snap->name);
		w->lost++;
		return 0;
	}
	t = kvsck_array_add(&ck->snap_trees, sizeof(*t));
	if (!t)
		return -KVE_no_memory;
	t->head = h;
	t->id = le32_to_cpu(h.id);
	t->doomed = e->key[0] == KVF_FOREST_DOOMED;
	if (!t->doomed && e->key_len > 1)
		kvf_key_to_text(t->name, sizeof(t->name), e->key + 1, e->key_len - 1);
	return 0;
}

static int snap_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	if (e->flags & KVF_CELL_POISON || (e->flags & KVF_CELL_KIND) != KVF_CELL_REF)
		return 0;
	return kvsck_value(ck, w, e);
}

static int snap_walk(struct kvsck *ck)
{
	struct kvsck_walk w = { .tree = &forest, .twin_leaves = true, .entry = snap_forest_entry };
	struct kvsck_tree *t;
	int err;
	size_t i;

	ck->snap_trees.nr = 0;
	err = kvsck_walk_tree(ck, &w, &ck->snap->forest);
	/* The forest may be shared as a whole: with nothing changed in between. Then so are its trees. */
	t = ck->snap_trees.p;
	for (i = 0; i < ck->snap_trees.nr && !err; i++) {
		kvsck_origin(ck, &t[i]);
		memset(&w, 0, sizeof(w));
		w.tree = &t[i];
		w.twin_leaves = t[i].head.redundancy != 0;
		w.entry = snap_entry;
		err = kvsck_walk_tree(ck, &w, &t[i].head.root);
		if (!err && !t[i].doomed)
			kvsck_check_count(ck, &w);
	}
	return err;
}

int kvsck_pass_snaps(struct kvsck *ck)
{
	const struct kvsck_snap *s = ck->snaps.p;
	int err = 0;
	size_t i;

	for (i = 0; i < ck->snaps.nr && !err; i++) {
		ck->snap = &s[i];
		/* The newest may be what the live state is. */
		if (!kvf_is_zero(&s[i].forest, sizeof(s[i].forest)))
			err = snap_walk(ck);
	}
	ck->snap = NULL;
	if (!err)
		kvsck_shares_check(ck);
	return err;
}
