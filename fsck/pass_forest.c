/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_forest.c - the forest maps names to trees. Its rows are collected for the passes that walk them.
 */
#include <stdlib.h>

#include "ck.h"

/* The forest itself, and the segment table, have no head of their own. */
static const struct kvsck_tree forest = { .id = KVF_TREE_FOREST };

static void bad_key(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e, const char *what)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);

	kvsck_problem(ck, KVF_F_forest_key, &at, "%s", what);
}

static bool root_fits(struct kvsck *ck, const struct kvf_tree_head *h)
{
	if (kvf_is_zero(&h->root, sizeof(h->root)))
		return h->count == cpu_to_le64(0);
	return !kvf_ref_verify(&h->root, &ck->g, ck->segments);
}

static int add_tree(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e, bool doomed)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_tree_head h;
	struct kvsck_tree *t;
	u32 id;

	if (e->body_len != sizeof(h)) {
		kvsck_problem(ck, KVF_F_tree_head, &at, "%u bytes", e->body_len);
		w->lost++;
		return 0;
	}
	memcpy(&h, e->body, sizeof(h));
	id = le32_to_cpu(h.id);
	if (id >= le32_to_cpu(ck->sb.next_tree))
		kvsck_problem(ck, KVF_F_tree_id, &at, "id %u, the next that is free is %u", id,
			      le32_to_cpu(ck->sb.next_tree));
	if ((id < KVF_TREE_USER && id != KVF_TREE_OBJECTS) ||
	    (id == KVF_TREE_OBJECTS) != (e->key_len == 1) || h.flags != cpu_to_le32(0) ||
	    h.reserved0 != cpu_to_le16(0) || !kvf_is_zero(h.reserved1, sizeof(h.reserved1)) ||
	    (doomed && (e->key_len != 5 || kvf_get_be32(e->key + 1) != id)))
		kvsck_problem(ck, KVF_F_tree_head, &at, "tree id %u", id);
	if (!root_fits(ck, &h)) {
		kvsck_problem(ck, KVF_F_tree_head, &at, "tree id %u: impossible root or count", id);
		w->lost++;
		return 0;
	}
	t = kvsck_array_add(&ck->trees, sizeof(*t));
	if (!t)
		return -KVE_no_memory;
	t->head = h;
	t->id = id;
	t->doomed = doomed;
	if (!doomed && id != KVF_TREE_OBJECTS && kvf_tree_name_verify(e->key + 1, e->key_len - 1))
		bad_key(ck, w, e, "the name is too long or not text");
	if (!doomed && e->key_len > 1)
		kvf_key_to_text(t->name, sizeof(t->name), e->key + 1, e->key_len - 1);
	return 0;
}

static int add_snapshot(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	u64 gen = le64_to_cpu(ck->sb.generation);
	struct kvf_snapshot row;
	struct kvsck_snap *s;
	bool here;

	if (e->key_len < 2 || kvf_tree_name_verify(e->key + 1, e->key_len - 1))
		bad_key(ck, w, e, "the name is too long or not text");
	if (e->body_len != sizeof(row)) {
		kvsck_problem(ck, KVF_F_snapshot_row, &at, "%u bytes", e->body_len);
		w->lost++;
		return 0;
	}
	memcpy(&row, e->body, sizeof(row));
	here = kvf_is_zero(&row.forest, sizeof(row.forest));
	if (!le64_to_cpu(row.generation) || le64_to_cpu(row.generation) > gen ||
	    here != (le64_to_cpu(row.generation) == gen) ||
	    le64_to_cpu(row.lsn) >= le64_to_cpu(ck->sb.replay_lsn) ||
	    !kvf_snapshot_origin_fits(&row) ||
	    (!here && kvf_ref_verify(&row.forest, &ck->g, ck->segments))) {
		kvsck_problem(ck, KVF_F_snapshot_row, &at, "generation %llu", le64_to_cpu(row.generation));
		w->lost++;
		return 0;
	}
	s = kvsck_array_add(&ck->snaps, sizeof(*s));
	if (!s)
		return -KVE_no_memory;
	s->forest = row.forest;
	s->generation = le64_to_cpu(row.generation);
	s->lsn = le64_to_cpu(row.lsn);
	kvf_key_to_text(s->name, sizeof(s->name), e->key + 1, e->key_len - 1);
	return 0;
}

static int forest_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);

	if (e->flags != KVF_CELL_INLINE) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "a row of the forest stands in its leaf, plainly");
		return 0;
	}
	switch (e->key[0]) {
	case KVF_FOREST_TREE:
		return add_tree(ck, w, e, false);
	case KVF_FOREST_DOOMED:
		return add_tree(ck, w, e, true);
	case KVF_FOREST_RANGE:
		return kvsck_range_row(ck, w, e);
	case KVF_FOREST_SNAPSHOT:
		return add_snapshot(ck, w, e);
	}
	bad_key(ck, w, e, "unknown class");
	return 0;
}

static int by_id(const void *a, const void *b)
{
	u32 x = ((const struct kvsck_tree *)a)->id, y = ((const struct kvsck_tree *)b)->id;

	return x < y ? -1 : x > y;
}

/* Sorts the trees by id: the objects tree, whose chunks are matched with the heads, comes first. */
static void check_ids(struct kvsck *ck)
{
	struct kvsck_tree *t = ck->trees.p;
	struct kvsck_where at = KVSCK_NOWHERE;
	size_t i;

	if (!ck->trees.nr)
		return;
	qsort(t, ck->trees.nr, sizeof(*t), by_id);
	for (i = 1; i < ck->trees.nr; i++) {
		if (t[i].id != t[i - 1].id)
			continue;
		at.tree = &t[i];
		kvsck_problem(ck, KVF_F_tree_id, &at, "'%s' and '%s' have id %u", t[i - 1].name, t[i].name,
			      t[i].id);
	}
}

static int by_generation(const void *a, const void *b)
{
	u64 x = ((const struct kvsck_snap *)a)->generation, y = ((const struct kvsck_snap *)b)->generation;

	return x < y ? -1 : x > y;
}

/* Sorts them; from now on places of records are kept apart. */
static int check_snapshots(struct kvsck *ck)
{
	struct kvsck_where at = KVSCK_NOWHERE;
	struct kvsck_snap *s = ck->snaps.p;
	size_t i;

	if (!ck->snaps.nr)
		return 0;
	qsort(s, ck->snaps.nr, sizeof(*s), by_generation);
	for (i = 1; i < ck->snaps.nr; i++)
		if (s[i].generation == s[i - 1].generation || s[i].lsn < s[i - 1].lsn)
			kvsck_problem(ck, KVF_F_snapshot_row, &at, "'%s' and '%s' contradict one another",
				      s[i - 1].name, s[i].name);
	ck->records = calloc(1, (size_t)((ck->segments << ck->g.segment_shift) / KVF_RECORD_ALIGN / 8 + 1));
	return ck->records ? 0 : -KVE_no_memory;
}

int kvsck_pass_forest(struct kvsck *ck)
{
	struct kvsck_walk w = { .tree = &forest, .twin_leaves = true, .entry = forest_entry };
	int err = kvsck_walk_tree(ck, &w, &ck->sb.forest);
	struct kvsck_tree *t = ck->trees.p;
	size_t i;

	check_ids(ck);
	if (!err)
		kvsck_ranges_check(ck);
	if (!err)
		err = check_snapshots(ck);
	for (i = 0; i < ck->trees.nr && !err; i++)
		kvsck_origin(ck, &t[i]);
	return err;
}
