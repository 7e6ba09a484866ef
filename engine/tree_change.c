/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tree_change.c - changing a leaf: prepare what may fail, then apply what may not.
 *
 * Preparing (writer lock, no other lock held) brings the leaf in and pins it, copies images that frozen
 * generations need to shadows, and fills a reserve of frames for splits. Applying (tree lock exclusive)
 * changes slots and cannot fail. Between the two stands the log.
 *
 * Invariant: an image of a generation that is pinned never changes; a live frame never moves.
 */
#include "range.h"

/* ---- shadows --------------------------------------------------------------------------------- */

/*
 * A checkpoint needs the images that it has yet to write: what was not dirty when it froze stands on the
 * medium already, and nobody but a reader would look at it. A mark that goes meanwhile costs a copy too many;
 * none of that generation comes, as freezing closes the gate.
 */
bool kve_image_needed(const struct kv_db *db, const struct kve_frame *f)
{
	if (f->tree->system || f->gen >= db->open_gen)
		return false;
	if (kvp_load(&db->read_pinned) > f->gen && !KVP_BUG("image-lost-to-readers"))
		return true;
	return db->ckpt_gen && kve_dirty_by(f, db->ckpt_gen) && !KVP_BUG("image-lost-to-checkpoint");
}

static bool head_needed(const struct kv_db *db, const struct kv_tree *t)
{
	return !t->system && t->head.gen < db->open_gen && kvp_load(&db->pinned) > t->head.gen;
}

static struct kve_shadow *shadow_new(struct kv_db *db, u8 level)
{
	struct kve_shadow *sh = kvp_alloc(sizeof(*sh), KVP_ZERO);

	if (!sh)
		return NULL;
	sh->page = kve_image_alloc(db);
	if (sh->page && level)
		sh->kids = kve_kids_alloc(db);
	if (!sh->page || (level && !sh->kids)) {
		kve_image_free(db, sh->page);
		kvp_free(sh);
		return NULL;
	}
	return sh;
}

/* The image as it is now becomes one. Tree lock exclusive and gate closed, or a leaf's own lock. */
static void shadow_take(struct kv_db *db, struct kve_frame *f, struct kve_shadow *sh)
{
	u32 i, nr;

	kve_node_copy(sh->page, f->page, db->geo.frame);
	nr = f->level ? kve_node_nr(f->page) : 0;
	for (i = 0; i < nr; i++) {
		kvp_store(&sh->kids[i], f->kids[i]);
		if (sh->kids[i])
			sh->kids[i]->refs++;
	}
	sh->gen = f->gen;
	sh->next = f->shadow;
	kvp_store(&f->shadow, sh);
	f->gen = db->open_gen;
	kvp_add(&db->cache.shadows, 1u);
	kvp_mutex_lock(&db->marks);
	if (!f->shadow_listed) {
		f->shadow_listed = true;
		f->shadow_next = db->shadowed;
		kvp_store(&db->shadowed, f);
	}
	kvp_mutex_unlock(&db->marks);
}

int kve_frame_prepare(struct kv_db *db, struct kve_frame *f)
{
	struct kve_shadow *sh;

	if (!kve_image_needed(db, f))
		return 0;
	kve_cache_room(db, 1);
	sh = shadow_new(db, f->level);
	if (!sh)
		return -KVE_no_memory;
	/* Even if no change follows: a reader that begins now needs a freeze to find this image. */
	kve_gen_changed(db);
	if (f->level) {
		kvp_rwsem_down_write(&db->tree_lock);
		shadow_take(db, f, sh);
		kvp_rwsem_up_write(&db->tree_lock);
	} else {
		/* Not the tree lock, which a checkpoint holds while it packs a leaf: any other one. */
		kve_leaf_lock(f);
		shadow_take(db, f, sh);
		kve_leaf_unlock(f);
	}
	return 0;
}

int kve_leaf_first(struct kv_db *db, struct kve_frame *leaf)
{
	struct kve_shadow *sh;

	if (kve_image_needed(db, leaf) && !KVP_BUG("first-no-shadow")) {
		if (kve_cache_full(db))
			return -KVE_restart;
		sh = shadow_new(db, 0);
		if (!sh)
			return -KVE_restart;
		shadow_take(db, leaf, sh);
	}
	leaf->gen = db->open_gen;
	if (!KVP_BUG("first-not-marked"))
		kve_mark_dirty(db, leaf);
	kvp_store(&leaf->ready, db->open_gen);
	return 0;
}

int kve_head_prepare(struct kv_db *db, struct kv_tree *t)
{
	struct kve_head *h;

	if (!head_needed(db, t))
		return 0;
	h = kvp_alloc(sizeof(*h), 0);
	if (!h)
		return -KVE_no_memory;
	kvp_rwsem_down_write(&db->tree_lock);
	*h = t->head;
	h->next = t->shadow;
	t->shadow = h;
	if (h->root)
		h->root->refs++;
	t->head.gen = db->open_gen;
	kve_gen_changed(db);
	kvp_rwsem_up_write(&db->tree_lock);
	return 0;
}

void kve_frame_unref(struct kv_db *db, struct kve_frame *f)
{
	u32 i;

	KVP_ASSERT(f->refs);
	/* What is in the list of shadowed frames is freed from there. */
	if (--f->refs || !f->zombie || !f->reaped || f->shadow_listed)
		return;
	/* A zombie that nothing needs; depth is bounded by that of a tree. */
	for (i = 0; f->kids && i < db->cache.kids_max; i++)
		if (f->kids[i])
			kve_frame_unref(db, f->kids[i]);
	kve_frame_free(db, f);
}

static void shadow_free(struct kv_db *db, struct kve_shadow *sh)
{
	u32 i, nr = sh->kids ? kve_node_nr(sh->page) : 0;

	for (i = 0; i < nr; i++)
		if (sh->kids[i])
			kve_frame_unref(db, sh->kids[i]);
	kve_image_free(db, sh->page);
	kve_kids_free(db, sh->kids);
	kvp_free(sh);
	kvp_sub(&db->cache.shadows, 1u);
}

/* Is a generation in [from, to) pinned? */
static bool range_pinned(struct kv_db *db, u64 from, u64 to)
{
	struct kv_read *r;
	bool yes = db->ckpt_gen && db->ckpt_gen >= from && db->ckpt_gen < to;

	kvp_mutex_lock(&db->state);
	for (r = db->readers; r && !yes; r = r->next)
		yes = !r->expired && r->gen >= from && r->gen < to;
	kvp_mutex_unlock(&db->state);
	return yes;
}

/* Drop the images of f that no pinned generation sees. Returns whether any is left. */
static bool frame_shadows_drop(struct kv_db *db, struct kve_frame *f)
{
	struct kve_shadow **link = &f->shadow, *sh;
	u64 newer = f->gen;

	while ((sh = *link)) {
		if (range_pinned(db, sh->gen, newer)) {
			newer = sh->gen;
			link = &sh->next;
			continue;
		}
		newer = sh->gen;
		*link = sh->next;
		shadow_free(db, sh);
	}
	return f->shadow != NULL;
}

static void heads_drop(struct kv_db *db, struct kv_tree *t)
{
	struct kve_head **link = &t->shadow, *h;
	u64 newer = t->head.gen;

	while ((h = *link)) {
		if (range_pinned(db, h->gen, newer)) {
			newer = h->gen;
			link = &h->next;
			continue;
		}
		newer = h->gen;
		*link = h->next;
		if (h->root)
			kve_frame_unref(db, h->root);
		kvp_free(h);
	}
}

void kve_shadows_drop(struct kv_db *db)
{
	struct kve_frame *f, *next, *keep = NULL;
	struct kv_tree *t;

	for (f = db->shadowed; f; f = next) {
		next = f->shadow_next;
		/* Not freed under us: unref of a zombie that is listed waits for this. */
		f->refs++;
		if (frame_shadows_drop(db, f)) {
			f->shadow_next = keep;
			keep = f;
		} else {
			f->shadow_listed = false;
		}
		kve_frame_unref(db, f);
	}
	kvp_store(&db->shadowed, keep);
	for (t = db->trees; t; t = t->next) {
		heads_drop(db, t);
		kve_ranges_drop(t, range_pinned);
	}
}

int kve_zombies_reap(struct kv_db *db, struct kve_batch_items *list)
{
	struct kve_frame *f;
	int err;

	while ((f = db->zombies)) {
		/* Of the segment table, which no snapshot shows: for deadlist.c it was never born. */
		if (f->tree == db->segtab)
			f->ref.birth = cpu_to_le64(0);
		err = kve_page_dead(f->tree, list, &f->ref);
		if (err)
			return err;
		memset(&f->ref, 0, sizeof(f->ref));
		db->zombies = f->next;
		f->next = NULL;
		f->reaped = true;
		f->refs++;
		kve_frame_unref(db, f);
	}
	return 0;
}

/* ---- dirty marks ------------------------------------------------------------------------------ */

/*
 * Marks of user trees are of the open generation, which checkpoints leave alone: what is marked already stays
 * so until the next freeze, and so does all above it.
 */
void kve_mark_dirty(struct kv_db *db, struct kve_frame *f)
{
	struct kv_tree *t = f->tree;
	u64 gen = kve_gen_now(t);

	if (kvp_load(&f->dirty) && kvp_load(&f->dirty_last) == gen && kvp_load(&t->dirty) &&
	    kvp_load(&t->dirty_last) == gen)
		return;
	kvp_mutex_lock(&db->marks);
	for (; f && !(f->dirty && f->dirty_last == gen); f = f->parent) {
		kvp_store(&f->dirty_last, gen);
		if (f->dirty)
			continue;
		/* In this order for those who look without the lock. */
		kvp_store(&f->dirty_since, gen);
		kvp_store_release(&f->dirty, true);
		kvp_add(&db->cache.dirty, 1u);
	}
	kvp_store(&t->dirty_last, gen);
	if (!t->dirty) {
		kvp_store(&t->dirty_since, gen);
		kvp_store_release(&t->dirty, true);
	}
	kvp_mutex_unlock(&db->marks);
}

/* ---- preparing: writer lock -------------------------------------------------------------------- */

int kve_reserve_fill(struct kv_db *db, struct kve_reserve *rs, u32 leaves, u32 inners)
{
	struct kve_frame *f;

	for (; rs->leaf_nr < leaves; rs->leaf_nr++) {
		f = kve_frame_new(db, 0);
		if (!f)
			return -KVE_no_memory;
		f->next = rs->leaf;
		rs->leaf = f;
	}
	for (; rs->inner_nr < inners; rs->inner_nr++) {
		f = kve_frame_new(db, 1);
		if (!f)
			return -KVE_no_memory;
		f->next = rs->inner;
		rs->inner = f;
	}
	return 0;
}

static void spare_free(struct kv_db *db, struct kve_frame *f)
{
	struct kve_frame *next;

	for (; f; f = next) {
		next = f->next;
		f->next = NULL;
		kve_frame_free(db, f);
	}
}

void kve_reserve_drop(struct kv_db *db, struct kve_reserve *rs)
{
	spare_free(db, rs->leaf);
	spare_free(db, rs->inner);
	memset(rs, 0, sizeof(*rs));
}

/* An empty tree gets its root leaf. */
static int root_make(struct kv_db *db, struct kv_tree *t)
{
	struct kve_frame *f = kve_frame_new(db, 0);

	if (!f)
		return -KVE_no_memory;
	f->tree = t;
	f->gen = kve_gen_now(t);
	kve_node_init(f->page, db->geo.frame, db->uuid, t->id, 0, NULL, 0, NULL, 0);
	kvp_rwsem_down_write(&db->tree_lock);
	kvp_store_release(&t->head.root, f);
	kve_frame_insert(db, f);
	kve_mark_dirty(db, f);
	kvp_rwsem_up_write(&db->tree_lock);
	return 0;
}

static bool sparse(const struct kv_db *db, const u8 *page)
{
	return kve_node_sparse(page, db->geo.frame, 0);
}

u32 kve_kid_index(const struct kve_frame *parent, const struct kve_frame *f)
{
	u32 i, nr = kve_node_nr(parent->page);

	for (i = 0; i < nr; i++)
		if (parent->kids[i] == f)
			return i;
	KVP_ASSERT(!"a frame's parent knows it");
	return 0;
}

/* A key of the neighbour that f could merge with, if that is not in memory. 0: none to bring. Shared lock. */
static bool neighbour_key(struct kv_db *db, const struct kve_frame *f, u8 *key, u32 *len)
{
	const struct kve_frame *p = f->parent;
	const u8 *lower;
	u32 i, nr = kve_node_nr(p->page);

	if (nr < 2)
		return false;
	i = kve_kid_index(p, f);
	i = i + 1 < nr ? i + 1 : i - 1;
	if (p->kids[i])
		return false;
	*len = kvf_page_key(p->page, db->geo.frame, i, key);
	if (i)
		return true;
	/* The first slot has no key: what is below begins where the page itself does. */
	lower = kvf_page_lower(p->page, db->geo.frame, len);
	if (lower)
		memcpy(key, lower, *len);
	else
		*len = 0;
	return true;
}

/* Bring in the neighbours that a sparse leaf, and sparse pages above it, could merge with. Best effort. */
static void neighbour_bring(struct kv_db *db, struct kve_frame *f)
{
	u8 *key = kvp_alloc(db->geo.key_max, 0);
	struct kve_frame *leaf;
	bool missing;
	u32 len;

	for (; key && f->parent && sparse(db, f->page); f = f->parent) {
		kvp_rwsem_down_read(&db->tree_lock);
		missing = neighbour_key(db, f, key, &len);
		kvp_rwsem_up_read(&db->tree_lock);
		if (missing && !kve_tree_leaf(f->tree, key, len, &leaf) && leaf)
			kve_frame_unpin(leaf);
	}
	kvp_free(key);
}

/* Frames that a merge of f would change, up the path. */
static int merge_prepare(struct kv_db *db, struct kve_frame *f)
{
	struct kve_frame *p, *side[2];
	u32 i, nr, k;
	int err = 0;

	for (; !err && (p = f->parent); f = p) {
		if (!sparse(db, f->page))
			break;
		nr = kve_node_nr(p->page);
		i = kve_kid_index(p, f);
		side[0] = i + 1 < nr ? p->kids[i + 1] : NULL;
		side[1] = i ? p->kids[i - 1] : NULL;
		for (k = 0; k < 2; k++)
			if (side[k])
				kvp_add(&side[k]->pins, 1u);
		err = kve_frame_prepare(db, p);
		for (k = 0; k < 2; k++) {
			if (!side[k])
				continue;
			if (!err)
				err = kve_frame_prepare(db, side[k]);
			kve_frame_unpin(side[k]);
		}
	}
	return err;
}

static int path_prepare(struct kv_db *db, struct kve_frame *f)
{
	int err = 0;

	for (; f && !err; f = f->parent)
		err = kve_frame_prepare(db, f);
	return err;
}

/*
 * Spare frames for the splits that need more bytes in a leaf may cause. Two pages that come from a split
 * are each filled by at least a quarter before they split again: a frame for each quarter, two at first.
 */
static int room_prepare(struct kv_db *db, struct kve_frame *leaf, u32 need, struct kve_reserve *rs)
{
	u32 free = kve_node_free(leaf->page, db->geo.frame), levels = 1, before, after;
	u32 quarter = (db->geo.frame - (u32)sizeof(struct kvf_page)) / 4;
	struct kve_frame *p;
	int err;

	before = leaf->wanted;
	leaf->wanted += need;
	after = leaf->wanted;
	if (after <= free)
		return 0;
	after = 2 + (after - free) / quarter;
	before = before <= free ? 0 : 2 + (before - free) / quarter;
	if (after == before)
		return 0;
	err = path_prepare(db, leaf);
	for (p = leaf->parent; p; p = p->parent, levels++)
		if (kve_node_free(p->page, db->geo.frame) >=
		    2 * kve_node_need(p->page, db->geo.key_max, sizeof(struct kvf_ref)))
			break;
	if (!err)
		err = kve_reserve_fill(db, rs, rs->leaf_nr + after - before, rs->inner_nr + levels);
	return err;
}

/* Is a pinned leaf still the one for the key? Fences tell, as long as it is part of the tree. */
static bool leaf_covers(const struct kve_frame *leaf, const struct kve_op *op)
{
	return leaf->tree == op->tree && !leaf->zombie &&
	       kve_leaf_fits(leaf->page, op->tree->db->geo.frame, KVE_SEEK_KEY, op->key, op->key_len);
}

/* Where the key of op stands in the leaf, or belongs to: as it was seen, if nothing has changed there. */
static u32 slot_find(const struct kve_op *op, const struct kve_frame *leaf, bool *exact)
{
	if (leaf == op->leaf && (op->seen == leaf->version + 1 || (op->seen && KVP_BUG("stale-slot")))) {
		*exact = op->existed;
		return op->slot;
	}
	return kve_node_search(leaf->page, op->tree->db->geo.frame, op->key, op->key_len, exact);
}

/* Does the key hold what it has to? e NULL: nothing. */
static int only_check(const struct kve_op *op, const struct kve_entry *e)
{
	const struct kve_entry *only = op->only;
	u8 kind = only ? only->flags & KVF_CELL_KIND : 0;

	if (!only)
		return 0;
	if (!e || (e->flags & KVF_CELL_KIND) != kind)
		return -KVE_restart;
	if (kind == KVF_CELL_REF)
		return memcmp(&e->ref, &only->ref, sizeof(e->ref)) ? -KVE_restart : 0;
	return memcmp(&e->object, &only->object, sizeof(e->object)) ? -KVE_restart : 0;
}

/* What the key holds now: for conditions, and for a large value that must be deleted with it. */
static int old_state(struct kv_db *db, struct kve_op *op)
{
	const u8 *page = op->leaf->page, *cell, *value;
	struct kve_entry e;
	u32 len;
	u8 flags;

	op->slot = slot_find(op, op->leaf, &op->existed);
	op->seen = op->leaf->version + 1;
	op->old_object = 0;
	if (!op->existed)
		return only_check(op, NULL);
	cell = kvf_page_cell(page, db->geo.frame, op->slot, &len, &flags);
	if ((flags & KVF_CELL_KIND) != KVF_CELL_OBJECT && !op->only)
		return 0;
	kve_entry_decode(&e, flags, cell, len, &value);
	if ((flags & KVF_CELL_KIND) == KVF_CELL_OBJECT && !kve_shared_object(op->tree, &e.object)) {
		op->old_object = le64_to_cpu(e.object.object);
		op->old_bytes = e.value_len;
	}
	return only_check(op, &e);
}

bool kve_op_pin(struct kve_op *op, struct kve_frame *leaf)
{
	op->leaf = leaf;
	op->seen = 0;
	if (kvp_add(&leaf->pins, 1u) != 1)
		return false;
	leaf->cut = false;
	return true;
}

u32 kve_op_find(struct kv_db *db, struct kve_op *ops, u32 i, u32 nr, u32 *ahead)
{
	if (ops[i].leaf || !i)
		return 0;
	if (ops[i - 1].leaf && leaf_covers(ops[i - 1].leaf, &ops[i]))
		return kve_op_pin(&ops[i], ops[i - 1].leaf);
	if (i < *ahead)
		return 0;
	*ahead = i + KVE_LEAVES;
	return kve_tree_leaves(db, ops + i, nr - i);
}

void kve_ops_unpin(struct kve_op *ops, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (!ops[i].leaf)
			continue;
		ops[i].leaf->wanted = 0;
		kve_frame_unpin(ops[i].leaf);
		ops[i].leaf = NULL;
	}
}

/* The leaf of an operation, pinned. */
static int leaf_bring(struct kv_db *db, struct kve_op *op)
{
	int err;

	/* Purging may have joined it with another one since it was found. */
	if (op->leaf && (!op->tree->ranges || leaf_covers(op->leaf, op)))
		return 0;
	if (op->leaf)
		kve_frame_unpin(op->leaf);
	op->leaf = NULL;
	op->seen = 0;
	err = kve_tree_leaf(op->tree, op->key, op->key_len, &op->leaf);
	if (!err && !op->leaf) {
		err = root_make(db, op->tree);
		if (!err)
			err = kve_tree_leaf(op->tree, op->key, op->key_len, &op->leaf);
	}
	if (!err && kvp_load(&op->leaf->pins) == 1)
		op->leaf->cut = false;
	return err;
}

int kve_op_prepare(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs)
{
	struct kve_frame *leaf;
	struct kve_cell cell;
	u32 need;
	int err;

	err = kve_head_prepare(db, op->tree);
	if (!err)
		err = leaf_bring(db, op);
	if (err)
		return err;
	leaf = op->leaf;
	/* Before anything becomes newer than what hides entries here. */
	if (kvp_unlikely(op->tree->ranges != NULL) && !KVP_BUG("range-resurrects"))
		err = kve_range_purge(db, op->tree, leaf);
	if (err)
		return err;
	err = old_state(db, op);
	if (!err)
		err = kve_frame_prepare(db, leaf);
	if (err)
		return err;
	if (op->kind == KVF_RECORD_DELETE) {
		if (!sparse(db, leaf->page))
			return 0;
		neighbour_bring(db, leaf);
		return merge_prepare(db, leaf);
	}
	kve_op_cell(op, &cell);
	need = kve_node_need(leaf->page, op->key_len, kve_cell_len(&cell));
	return room_prepare(db, leaf, need, rs);
}

int kve_leaf_shrunk(struct kv_db *db, struct kve_frame *f)
{
	int err;

	if (!sparse(db, f->page))
		return 0;
	neighbour_bring(db, f);
	err = merge_prepare(db, f);
	if (err)
		return err;
	kvp_rwsem_down_write(&db->tree_lock);
	kve_tree_merge(db, f);
	kvp_rwsem_up_write(&db->tree_lock);
	return 0;
}

/* ---- applying: tree lock exclusive ------------------------------------------------------------- */

void kve_op_cell(const struct kve_op *op, struct kve_cell *cell)
{
	cell->nr = 1;
	if (op->separated) {
		cell->flags = KVF_CELL_REF;
		cell->part[0].data = &op->ref;
		cell->part[0].len = sizeof(op->ref);
	} else {
		cell->flags = op->flags & KVF_RECORD_OBJECT ? KVF_CELL_OBJECT : KVF_CELL_INLINE;
		cell->part[0].data = op->value;
		cell->part[0].len = op->value_len;
	}
	if (op->poison)
		cell->flags |= KVF_CELL_POISON;
}

/*
 * The leaf of an operation; all of its path is in memory. It was found before, unless that has been split:
 * then the operation before may have gone to the same place.
 */
static struct kve_frame *leaf_resident(const struct kve_op *op, struct kve_reserve *rs)
{
	const struct kv_tree *t = op->tree;
	struct kve_frame *f = t->head.root;

	if (op->leaf && !op->leaf->zombie && (!op->leaf->cut || KVP_BUG("cut-unseen")))
		return op->leaf;
	if (rs->last && leaf_covers(rs->last, op))
		return rs->last;
	while (f && f->level)
		f = f->kids[kve_node_child(f->page, t->db->geo.frame, op->key, op->key_len)];
	KVP_ASSERT(f);
	rs->last = f;
	return f;
}

/* The place of the value that an entry refers to is dead, unless others share it, or it has none. */
static bool cell_dead(struct kv_tree *t, const u8 *page, u32 i, struct kvf_value_ref *ref)
{
	struct kve_entry e;
	const u8 *cell, *value;
	u32 len;
	u8 flags;

	cell = kvf_page_cell(page, t->db->geo.frame, i, &len, &flags);
	if ((flags & KVF_CELL_KIND) != KVF_CELL_REF)
		return false;
	kve_entry_decode(&e, flags, cell, len, &value);
	if (kve_shared_value(t, &e.ref) && !KVP_BUG("clone-value-dies"))
		return false;
	*ref = e.ref;
	kve_value_dead(t->db, ref);
	if (KVP_BUG("double-free"))
		kve_value_dead(t->db, ref);
	return true;
}

void kve_cell_moved(struct kv_tree *t, const u8 *page, u32 i)
{
	struct kvf_value_ref ref;

	(void)cell_dead(t, page, i, &ref);
}

void kve_cell_dead(struct kv_tree *t, const u8 *page, u32 i)
{
	struct kvf_value_ref ref;

	if (cell_dead(t, page, i, &ref))
		kve_values_forget(t->db, kve_value_hash_at(t, page, i), &ref);
}

void kve_leaf_changed(struct kv_db *db, struct kve_frame *f, u64 lsn)
{
	struct kvf_page *page = (struct kvf_page *)f->page;

	f->gen = kve_gen_now(f->tree);
	kvp_store(&f->ready, f->tree->system ? 0 : f->gen);
	if (lsn > le64_to_cpu(page->lsn))
		page->lsn = cpu_to_le64(lsn);
	kve_mark_dirty(db, f);
}

void kve_op_expect(const struct kv_db *db, const struct kve_op *ops, u32 i, u32 nr)
{
	const struct kve_op *op = &ops[i + KVE_AHEAD];
	const u8 *page, *at, *end;

	if (i + KVE_AHEAD >= nr || !op->leaf)
		return;
	page = op->leaf->page;
	at = (const u8 *)(kvf_page_slots(page) + op->slot);
	end = (const u8 *)(kvf_page_slots(page) + kve_node_nr(page));
	for (; at < end; at += KVE_LINE)
		kvp_prefetch(at);
	/* Where the next item will stand. */
	at = page + db->geo.frame - le32_to_cpu(((const struct kvf_page *)page)->heap);
	kvp_prefetch(at - 1);
	kvp_prefetch(at - 1 - KVE_LINE);
}

static void apply_put(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs)
{
	u32 frame = db->geo.frame, i, tries;
	struct kve_frame *f;
	struct kve_cell cell;
	bool exact;
	int err;

	kve_op_cell(op, &cell);
	for (tries = 0; tries < 4; tries++) {
		f = leaf_resident(op, rs);
		i = slot_find(op, f, &exact);
		kve_change_begin(f);
		if (exact) {
			kve_cell_dead(f->tree, f->page, i);
			err = kve_node_replace(f->page, frame, i, &cell, db->scratch);
			/* It will be inserted anew in a page with room. */
			if (err) {
				kve_node_remove(f->page, frame, i);
				op->tree->head.count--;
			}
		} else {
			err = kve_node_insert(f->page, frame, i, op->key, op->key_len, &cell, db->scratch);
			if (!err)
				op->tree->head.count++;
		}
		kve_leaf_changed(db, f, op->lsn);
		kve_change_end(f);
		if (!err)
			break;
		if (!exact)
			kve_tree_split(db, f, op->key, op->key_len, rs);
	}
	KVP_ASSERT(tries < 4);
	if (op->separated)
		kve_value_live(db, &op->ref);
}

static void apply_delete(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs)
{
	struct kve_frame *f = leaf_resident(op, rs);
	bool exact;
	u32 i = slot_find(op, f, &exact);

	if (KVP_BUG("drop-delete"))
		return;
	if (exact) {
		kve_change_begin(f);
		kve_cell_dead(f->tree, f->page, i);
		kve_node_remove(f->page, db->geo.frame, i);
		op->tree->head.count--;
		kve_leaf_changed(db, f, op->lsn);
		kve_change_end(f);
	}
	if (sparse(db, f->page))
		kve_tree_merge(db, f);
}

void kve_op_apply(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs)
{
	if (!op->tree->system && op->tree->head.gen != db->open_gen)
		op->tree->head.gen = db->open_gen;
	if (op->kind == KVF_RECORD_DELETE)
		apply_delete(db, op, rs);
	else
		apply_put(db, op, rs);
	if (op->leaf) {
		op->leaf->wanted = 0;
		kve_frame_unpin(op->leaf);
		op->leaf = NULL;
	}
}

int kve_tree_apply(struct kv_db *db, struct kve_op *ops, u32 nr)
{
	struct kve_reserve rs = { .leaf = NULL };
	u32 i, ahead = 0;
	int err = 0;

	for (i = 0; i < nr && !err; i++) {
		kve_op_find(db, ops, i, nr, &ahead);
		err = kve_op_prepare(db, &ops[i], &rs);
	}
	if (!err)
		err = kve_dead_promise(db, nr);
	if (!err) {
		kvp_rwsem_down_write(&db->tree_lock);
		for (i = 0; i < nr; i++) {
			kve_op_expect(db, ops, i, nr);
			kve_op_apply(db, &ops[i], &rs);
		}
		kvp_rwsem_up_write(&db->tree_lock);
		kve_dead_done(db, nr);
	}
	kve_ops_unpin(ops, nr);
	kve_reserve_drop(db, &rs);
	return err;
}

int kve_tree_put(struct kv_tree *t, const void *key, u32 key_len, const void *value, u32 len)
{
	struct kve_op op = { .tree = t, .key = key, .key_len = key_len, .value = value,
			     .value_len = len, .kind = KVF_RECORD_PUT };

	return kve_tree_apply(t->db, &op, 1);
}

int kve_tree_remove(struct kv_tree *t, const void *key, u32 key_len)
{
	struct kve_op op = { .tree = t, .key = key, .key_len = key_len, .kind = KVF_RECORD_DELETE };

	return kve_tree_apply(t->db, &op, 1);
}
