/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tree_split.c - splits, merges and the height of a tree, in memory. Tree lock exclusive throughout.
 *
 * A page that is split stays where it is and keeps the left part. A page that is merged away becomes a
 * zombie: frozen generations may still show it, the next checkpoint frees its place on the medium.
 */
#include "range.h"

static struct kve_frame *spare_take(struct kv_db *db, struct kv_tree *t, struct kve_reserve *rs,
				    u8 level)
{
	struct kve_frame **list = level ? &rs->inner : &rs->leaf, *f = *list;

	if (f) {
		*list = f->next;
		f->next = NULL;
		if (level)
			rs->inner_nr--;
		else
			rs->leaf_nr--;
	} else {
		/* Preparing counts generously, the arena goes beyond the cache's limit. */
		f = kve_frame_direct(db, level);
		KVP_ASSERT(f);
	}
	kvp_store(&f->level, level);
	f->tree = t;
	f->gen = kve_gen_now(t);
	return f;
}

static void kid_insert(struct kve_frame *p, u32 nr, u32 i, struct kve_frame *kid)
{
	for (; nr > i; nr--)
		kve_kid_set(p, nr, p->kids[nr - 1]);
	kve_kid_set(p, i, kid);
	p->kids_nr++;
	kid->parent = p;
}

static void kid_remove(struct kve_frame *p, u32 nr, u32 i)
{
	for (; i + 1 < nr; i++)
		kve_kid_set(p, i, p->kids[i + 1]);
	kve_kid_set(p, i, NULL);
	p->kids_nr--;
}

static void ref_cell(struct kve_cell *cell, const struct kvf_ref *ref)
{
	cell->flags = 0;
	cell->nr = 1;
	cell->part[0].data = ref;
	cell->part[0].len = sizeof(*ref);
}

/* The tree becomes a level higher. */
static void root_grow(struct kv_db *db, struct kve_frame *f, struct kve_reserve *rs)
{
	struct kve_frame *root = spare_take(db, f->tree, rs, (u8)(f->level + 1));
	struct kve_cell cell;
	int err;

	kve_node_init(root->page, db->geo.frame, db->uuid, f->tree->id, root->level, NULL, 0, NULL, 0);
	ref_cell(&cell, &f->ref);
	err = kve_node_insert(root->page, db->geo.frame, 0, NULL, 0, &cell, db->scratch);
	KVP_ASSERT(!err);
	kid_insert(root, 0, 0, f);
	kvp_store_release(&f->tree->head.root, root);
	kve_frame_insert(db, root);
	kve_mark_dirty(db, root);
}

/* Children from slot at on go with the right half. */
static void kids_move(struct kve_frame *f, struct kve_frame *right, u32 at, u32 nr)
{
	u32 i;

	for (i = at; i < nr; i++) {
		kve_kid_set(right, i - at, f->kids[i]);
		kve_kid_set(f, i, NULL);
		if (!right->kids[i - at])
			continue;
		right->kids[i - at]->parent = right;
		right->kids_nr++;
		f->kids_nr--;
	}
}

/* Split f; its parent has room. Returns the right half. */
static void split_below(struct kv_db *db, struct kve_frame *f, const void *key, u32 len,
			struct kve_reserve *rs)
{
	u32 frame = db->geo.frame, nr = kve_node_nr(f->page), at, sep_len, i;
	struct kve_frame *right = spare_take(db, f->tree, rs, f->level), *p = f->parent;
	struct kve_cell cell;
	u8 *sep = db->sep;
	int err;

	at = kve_node_split_point(f->page, frame, key, len);
	sep_len = kve_node_separator(f->page, frame, at, sep);
	/* The parent first: no reader comes to the left half for a key that has gone to the right one. */
	kve_change_begin(p);
	kve_change_begin(f);
	kve_node_split(f->page, right->page, frame, at, sep, sep_len, db->scratch);
	if (f->level)
		kids_move(f, right, at, nr);
	f->gen = kve_gen_now(f->tree);
	f->cut = true;
	kve_change_end(f);
	ref_cell(&cell, &right->ref);
	i = kve_kid_index(p, f) + 1;
	nr = kve_node_nr(p->page);
	err = kve_node_insert(p->page, frame, i, sep, sep_len, &cell, db->scratch);
	KVP_ASSERT(!err);
	kid_insert(p, nr, i, right);
	p->gen = kve_gen_now(p->tree);
	kve_change_end(p);
	kve_frame_insert(db, right);
	kve_mark_dirty(db, f);
	kve_mark_dirty(db, right);
	kvp_store(&right->ready, f->tree->system ? 0 : right->gen);
}

/* The highest page on the way up from f that must be split, because the one above it has room. */
static struct kve_frame *split_top(struct kv_db *db, struct kve_frame *f)
{
	u32 frame = db->geo.frame;

	while (f->parent && kve_node_free(f->parent->page, frame) <
			    kve_node_need(f->parent->page, db->geo.key_max, sizeof(struct kvf_ref)))
		f = f->parent;
	return f;
}

void kve_tree_split(struct kv_db *db, struct kve_frame *f, const void *key, u32 len,
		    struct kve_reserve *rs)
{
	struct kve_frame *top;

	do {
		top = split_top(db, f);
		if (!top->parent)
			root_grow(db, top, rs);
		split_below(db, top, key, len, rs);
	} while (top != f);
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Only what preparing has copied for frozen generations may change now. */
static bool may_change(const struct kv_db *db, const struct kve_frame *f)
{
	return !kve_image_needed(db, f);
}

/*
 * A page of a system tree goes with the checkpoint that changes the tree: to its batch, or, if it got its
 * place in this very checkpoint and was never written, at once. Without memory it waits for the next one.
 */
static void system_page_free(struct kv_db *db, struct kve_frame *f)
{
	if (f->ref.block0 && le64_to_cpu(f->ref.birth) == db->ckpt_gen)
		kve_ref_drop(db, &f->ref);
	else if (kve_free_page(db, db->ckpt_frees, &f->ref))
		return;
	memset(&f->ref, 0, sizeof(f->ref));
}

static void bury(struct kv_db *db, struct kve_frame *f)
{
	u32 i, nr = f->level ? db->cache.kids_max : 0;

	/* Frozen images that show f still hold its children as well. */
	for (i = 0; i < nr; i++)
		if (f->kids[i])
			f->kids[i]->refs++;
	kve_change_begin(f);
	kvp_store(&f->ready, 0ull);
	kve_change_end(f);
	if (f->tree->system)
		system_page_free(db, f);
	kve_frame_unlink(db, f);
	f->zombie = true;
	f->parent = NULL;
	f->refs--;
	f->next = db->zombies;
	db->zombies = f;
}

/* With all that is in memory below it. */
static void bury_all(struct kv_db *db, struct kve_frame *f)
{
	u32 i, nr = f->level ? kve_node_nr(f->page) : 0;

	bury(db, f);
	for (i = 0; i < nr; i++)
		if (f->kids[i])
			bury_all(db, f->kids[i]);
}

void kve_tree_prune(struct kv_db *db, struct kve_frame *p)
{
	struct kve_frame *kid = p->kids[0];
	u32 nr = kve_node_nr(p->page);

	kve_change_begin(p);
	kve_node_remove(p->page, db->geo.frame, 0);
	kid_remove(p, nr, 0);
	/* It counts those that are in memory. */
	p->kids_nr += !kid;
	p->gen = kve_gen_now(p->tree);
	kve_change_end(p);
	kve_mark_dirty(db, p);
	if (kid)
		bury_all(db, kid);
}

/* Of a page made of two. What is empty has nothing that a range delete could hide, however old it is. */
static u64 merged_lsn(const u8 *left, const u8 *right)
{
	u64 a = le64_to_cpu(((const struct kvf_page *)left)->lsn);
	u64 b = le64_to_cpu(((const struct kvf_page *)right)->lsn);

	if (!kve_node_nr(left))
		return b;
	return kve_node_nr(right) ? KVF_MAX(a, b) : a;
}

static void merge_pair(struct kv_db *db, struct kve_frame *p, u32 i)
{
	struct kve_frame *left = p->kids[i], *right = p->kids[i + 1];
	u32 frame = db->geo.frame, nr = kve_node_nr(left->page), right_nr = kve_node_nr(right->page), k;
	u64 lsn = merged_lsn(left->page, right->page);

	kve_change_begin(p);
	kve_change_begin(left);
	kve_node_merge(left->page, right->page, frame, db->scratch);
	((struct kvf_page *)left->page)->lsn = cpu_to_le64(lsn);
	for (k = 0; left->level && k < right_nr; k++) {
		kve_kid_set(left, nr + k, right->kids[k]);
		if (!right->kids[k])
			continue;
		/* The slot's ref is as old as right's; the child's own is newer. */
		right->kids[k]->parent = left;
		left->kids_nr++;
	}
	left->gen = kve_gen_now(left->tree);
	kve_change_end(left);
	kve_node_remove(p->page, frame, i + 1);
	kid_remove(p, kve_node_nr(p->page) + 1, i + 1);
	p->gen = kve_gen_now(p->tree);
	kve_change_end(p);
	kve_mark_dirty(db, left);
	bury(db, right);
}

/* A root with one child in memory gives its place to it. */
static bool root_shrink(struct kv_db *db, struct kve_frame *root)
{
	struct kve_frame *kid;

	if (root->parent || !root->level || kve_node_nr(root->page) != 1 || !root->kids[0])
		return false;
	kid = root->kids[0];
	bury(db, root);
	kid->parent = NULL;
	kvp_store_release(&root->tree->head.root, kid);
	kve_mark_dirty(db, kid);
	return true;
}

static bool pair_fits(struct kv_db *db, struct kve_frame *p, u32 i)
{
	struct kve_frame *left = p->kids[i], *right = p->kids[i + 1];

	return left && right && may_change(db, left) && may_change(db, p) &&
	       (left->level || kve_range_joins(p->tree, left->page, right->page)) &&
	       kve_node_merge_fits(left->page, right->page, db->geo.frame);
}

void kve_tree_merge(struct kv_db *db, struct kve_frame *f)
{
	struct kve_frame *p;
	u32 i, nr;

	while ((p = f->parent)) {
		if (!kve_node_sparse(f->page, db->geo.frame, 0))
			return;
		nr = kve_node_nr(p->page);
		i = kve_kid_index(p, f);
		/* Ranges are worked off upwards: what lies below is done, and goes first. */
		if (i + 1 < nr && !(p->tree->ranges && i && pair_fits(db, p, i - 1)) && pair_fits(db, p, i))
			merge_pair(db, p, i);
		else if (i && pair_fits(db, p, i - 1))
			merge_pair(db, p, i - 1);
		else if (nr > 1)
			return;
		/* An only child stays; its parent may have neighbours. */
		if (may_change(db, p) && root_shrink(db, p))
			return;
		f = p;
	}
}

void kve_tree_uproot(struct kv_db *db, struct kv_tree *t)
{
	struct kve_frame *root = t->head.root;

	kvp_store_release(&t->head.root, NULL);
	memset(&t->head.ref, 0, sizeof(t->head.ref));
	if (root)
		bury_all(db, root);
}
