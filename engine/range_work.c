/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * range_work.c - deleting ranges: the call, and working them off leaf by leaf.
 *
 * A leaf is purged in memory: what is hidden goes, its page LSN becomes that of the newest range, and values
 * in the log die as with any delete. That is not logged: a crash before the next checkpoint leaves the leaf
 * as it was, older than the range, which replay or the forest still knows. Large values get their doomed
 * rows in the same way. So the log of a range delete is one record whatever it covers.
 *
 * In the background a step takes the leaf at the cursor, purges it, joins it with its neighbour, and moves
 * the cursor. Each leaf is visited once, as nothing above it says whether it refers to values in the log,
 * whose segments are counted to the byte. If a leaf cannot be read the work on its range ends: it stays
 * pending, and hides what may be there; the next opening tries again.
 */
#include "range.h"

#define PENDING_MAX 64u /* of a tree: all of them are looked at for each key of an older leaf */

/* ---- purging a leaf ------------------------------------------------------------------------------- */

int kve_object_doom(struct kv_tree *t, const u8 *page, u32 i)
{
	struct kv_db *db = t->db;
	u8 key[KVE_OBJECT_KEY_BYTES];
	struct kve_entry e;
	const u8 *cell, *value;
	u32 len;
	u8 flags;

	cell = kvf_page_cell(page, db->geo.frame, i, &len, &flags);
	if ((flags & KVF_CELL_KIND) != KVF_CELL_OBJECT)
		return 0;
	kve_entry_decode(&e, flags, cell, len, &value);
	if (kve_shared_object(t, &e.object))
		return 0;
	kve_object_key(key, KVF_OBJECT_DOOMED, le64_to_cpu(e.object.object), 0);
	kve_doom(db, e.value_len);
	return kve_tree_put(db->objects, key, KVE_OBJECT_ROW_BYTES, key, 0);
}

/* All that may fail. What is doomed twice is so once. */
static int purge_prepare(struct kv_db *db, struct kv_tree *t, struct kve_frame *leaf)
{
	const struct kve_range *r = NULL;
	u32 lo, hi;
	int err = kve_head_prepare(db, t);

	if (!err)
		err = kve_frame_prepare(db, leaf);
	while (!err && (r = kve_range_next(t, r, KVE_LIVE, leaf->page, &lo, &hi)))
		for (; lo < hi && !err; lo++)
			err = kve_object_doom(t, leaf->page, lo);
	return err;
}

int kve_range_purge(struct kv_db *db, struct kv_tree *t, struct kve_frame *leaf)
{
	const struct kve_range *r;
	u32 lo, hi, nr = kve_node_nr(leaf->page);
	int err;

	if (!kve_range_next(t, NULL, KVE_LIVE, leaf->page, &lo, &hi))
		return 0;
	err = kve_dead_promise(db, nr);
	if (err)
		return err;
	err = purge_prepare(db, t, leaf);
	if (err) {
		kve_dead_done(db, nr);
		return err;
	}
	kvp_rwsem_down_write(&db->tree_lock);
	t->head.gen = db->open_gen;
	kve_change_begin(leaf);
	for (r = NULL; (r = kve_range_next(t, r, KVE_LIVE, leaf->page, &lo, &hi));) {
		for (; hi > lo; t->head.count--) {
			kve_cell_dead(t, leaf->page, --hi);
			kve_node_remove(leaf->page, db->geo.frame, hi);
		}
	}
	kve_leaf_changed(db, leaf, t->range_lsn);
	kve_change_end(leaf);
	kvp_rwsem_up_write(&db->tree_lock);
	kve_dead_done(db, nr);
	db->changed = true;
	kve_gen_changed(db);
	return 0;
}

/* ---- in the background ----------------------------------------------------------------------------- */

/* Where a range is: found anew by its LSN whenever no lock was held. */
struct work {
	struct kv_tree *tree;
	u64 lsn;
	u8 *key; /* the cursor */
	u32 key_len;
	u8 *next; /* where the leaf behind begins */
	u32 next_len;
};

/* The oldest of the first tree that has any. */
static bool work_find(struct kv_db *db, struct work *w)
{
	const struct kve_range *r;
	struct kv_tree *t;

	w->lsn = 0;
	kvp_rwsem_down_read(&db->tree_lock);
	for (t = db->trees; t && !w->lsn; t = t->next)
		for (r = t->ranges; r; r = r->next)
			if (!r->done_gen && !r->stuck) {
				w->tree = t;
				w->lsn = r->lsn;
			}
	kvp_rwsem_up_read(&db->tree_lock);
	return w->lsn;
}

static struct kve_range *range_at(const struct work *w)
{
	struct kve_range *r;

	for (r = w->tree->ranges; r; r = r->next)
		if (r->lsn == w->lsn && !r->done_gen)
			return r;
	return NULL;
}

static const u8 *cursor_of(const struct kve_range *r, u32 *len)
{
	*len = r->cursor_len ? r->cursor_len : r->from_len;
	return r->cursor_len ? r->cursor : r->from;
}

static void cursor_read(struct kv_db *db, struct work *w)
{
	const struct kve_range *r;
	const u8 *key;

	kvp_rwsem_down_read(&db->tree_lock);
	r = range_at(w);
	w->key_len = 0;
	if (r) {
		key = cursor_of(r, &w->key_len);
		memcpy(w->key, key, w->key_len);
	}
	kvp_rwsem_up_read(&db->tree_lock);
}

/* The leaf behind this one is needed soon, and to join them: read while nothing is held. Best effort. */
static void neighbour_bring(struct kv_db *db, struct work *w, struct kve_frame *leaf)
{
	struct kve_frame *next = NULL;
	const u8 *upper;

	kvp_rwsem_down_read(&db->tree_lock);
	upper = leaf->zombie ? NULL : kvf_page_upper(leaf->page, db->geo.frame, &w->next_len);
	if (upper)
		memcpy(w->next, upper, w->next_len);
	kvp_rwsem_up_read(&db->tree_lock);
	if (upper && !kve_tree_leaf(w->tree, w->next, w->next_len, &next) && next)
		kve_frame_unpin(next);
}

/* The cursor goes to the end of the leaf; leaf NULL: the tree is empty. Writer lock. */
static void cursor_move(struct kv_db *db, struct kve_range *r, struct kv_tree *t,
			const struct kve_frame *leaf)
{
	const u8 *upper;
	u32 len = 0;

	kvp_rwsem_down_write(&db->tree_lock);
	upper = leaf ? kvf_page_upper(leaf->page, db->geo.frame, &len) : NULL;
	if (!upper || (r->to_len && kvf_key_compare(upper, len, r->to, r->to_len) >= 0)) {
		kve_range_done(t, r);
	} else {
		memcpy(r->cursor, upper, len);
		r->cursor_len = len;
		db->changed = true;
		kve_gen_changed(db);
	}
	kvp_rwsem_up_write(&db->tree_lock);
}

/* Is it still the leaf at the cursor? */
static bool leaf_is(const struct work *w, const struct kve_range *r, const struct kve_frame *leaf)
{
	u32 len;
	const u8 *key = cursor_of(r, &len);

	if (!leaf)
		return !w->tree->head.root && !w->tree->head.ref.block0;
	return leaf->tree == w->tree && !leaf->zombie &&
	       kve_leaf_fits(leaf->page, w->tree->db->geo.frame, KVE_SEEK_KEY, key, len);
}

/* Writer lock closed. */
static int leaf_work(struct kv_db *db, struct work *w, struct kve_frame *leaf)
{
	struct kve_range *r = range_at(w);
	int err = kvp_load(&db->degraded) ? -KVE_degraded : kve_super_mark(db);

	if (err || !r || !leaf_is(w, r, leaf))
		return err;
	if (leaf && !KVP_BUG("range-skips"))
		err = kve_range_purge(db, w->tree, leaf);
	if (err)
		return err;
	cursor_move(db, r, w->tree, leaf);
	return leaf ? kve_leaf_shrunk(db, leaf) : 0;
}

/* A leaf is damaged: the range stays as it is. */
static void work_stuck(struct kv_db *db, const struct work *w)
{
	struct kve_range *r;

	kvp_rwsem_down_write(&db->tree_lock);
	r = range_at(w);
	if (r)
		r->stuck = true;
	kvp_rwsem_up_write(&db->tree_lock);
}

static int step(struct kv_db *db, struct work *w)
{
	struct kve_frame *leaf;
	int err = kve_credits(db, true);

	if (err)
		return err;
	cursor_read(db, w);
	err = kve_tree_leaf(w->tree, w->key, w->key_len, &leaf);
	if (err && err != -KVE_no_memory) {
		work_stuck(db, w);
		return 0;
	}
	if (err)
		return err;
	if (leaf)
		neighbour_bring(db, w, leaf);
	kvp_gate_close(&db->writer);
	err = leaf_work(db, w, leaf);
	kvp_gate_open(&db->writer);
	if (leaf)
		kve_frame_unpin(leaf);
	return err;
}

int kve_range_step(struct kv_db *db, bool *more)
{
	struct work w;
	int err;

	if (!work_find(db, &w))
		return 0;
	*more = true;
	w.key = kvp_alloc_array(2, db->geo.key_max, 0);
	if (!w.key)
		return -KVE_no_memory;
	w.next = w.key + db->geo.key_max;
	err = step(db, &w);
	kvp_free(w.key);
	return err;
}

/* ---- counting ---------------------------------------------------------------------------------------- */

struct count {
	struct kv_tree *tree;
	u64 gen, hidden;
	u8 *page, *key;
	u32 len;
};

/* To the first key from c->key on that a range of the generation may cover. */
static bool count_seek(struct count *c)
{
	const struct kve_range *r;
	const u8 *best = NULL;
	u32 len = 0, from_len;
	bool found = false;

	kvp_rwsem_down_read(&c->tree->db->tree_lock);
	for (r = c->tree->ranges; r; r = r->next) {
		if (r->gen > c->gen || (r->done_gen && r->done_gen <= c->gen) ||
		    (r->to_len && kvf_key_compare(c->key, c->len, r->to, r->to_len) >= 0))
			continue;
		from_len = kvf_key_compare(r->from, r->from_len, c->key, c->len) > 0 ? r->from_len : 0;
		if (!found || !from_len || (len && kvf_key_compare(r->from, from_len, best, len) < 0)) {
			best = r->from;
			len = from_len;
		}
		found = true;
		if (!len)
			break;
	}
	if (len) {
		memcpy(c->key, best, len);
		c->len = len;
	}
	kvp_rwsem_up_read(&c->tree->db->tree_lock);
	return found;
}

/* A leaf: what is gone once it is stripped was hidden. False: it was the last. */
static bool count_leaf(struct count *c)
{
	u32 nr = kve_node_nr(c->page), len;
	const u8 *upper;

	kvp_rwsem_down_read(&c->tree->db->tree_lock);
	kve_range_strip(c->tree, c->gen, c->page);
	kvp_rwsem_up_read(&c->tree->db->tree_lock);
	c->hidden += nr - kve_node_nr(c->page);
	upper = kvf_page_upper(c->page, c->tree->db->geo.frame, &len);
	if (!upper)
		return false;
	memcpy(c->key, upper, len);
	c->len = len;
	return true;
}

int kve_ranges_hidden(struct kv_tree *t, u64 gen, u64 *hidden)
{
	struct count c = { .tree = t, .gen = gen };
	int err = 0;

	*hidden = 0;
	if (!kvp_load(&t->ranges))
		return 0;
	c.page = kvp_iobuf_alloc(t->db->geo.frame);
	c.key = kvp_alloc(t->db->geo.key_max, 0);
	if (!c.page || !c.key)
		err = -KVE_no_memory;
	while (!err && count_seek(&c)) {
		err = kve_leaf_copy_raw(t, gen, KVE_SEEK_KEY, c.key, c.len, c.page, 8);
		if (!err && !count_leaf(&c))
			break;
		kvp_resched();
	}
	*hidden = c.hidden;
	kvp_iobuf_free(c.page, t->db->geo.frame);
	kvp_free(c.key);
	return err == -KVE_not_found ? 0 : err;
}

int kve_tree_count(struct kv_tree *t, u64 *count)
{
	struct kv_db *db = t->db;
	struct kve_head *h;
	struct kv_read *r;
	u64 hidden = 0;
	int err;

	if (!kvp_load(&t->range_lsn)) {
		kvp_rwsem_down_read(&db->tree_lock);
		*count = kvp_load(&t->head.count);
		kvp_rwsem_up_read(&db->tree_lock);
		return 0;
	}
	err = kve_read_begin(db, true, &r);
	if (err)
		return err;
	kvp_rwsem_down_read(&db->tree_lock);
	h = kve_head_at(t, r->gen);
	*count = h ? h->count : 0;
	kvp_rwsem_up_read(&db->tree_lock);
	err = kve_read_done(r, kve_ranges_hidden(t, r->gen, &hidden));
	kve_read_end(r);
	*count -= KVF_MIN(hidden, *count);
	return err;
}

/* ---- the call ---------------------------------------------------------------------------------------- */

static int range_check(struct kv_db *db, const void *from, size_t from_len, const void *to, size_t to_len)
{
	size_t len = KVF_MAX(from_len, to_len);

	if ((!from && from_len) || (!to && to_len))
		return -KVE_invalid;
	if (len > db->geo.key_max)
		return kve_fail(db, KVE_key_too_long, "%zu bytes, at most %u", len, db->geo.key_max);
	return 0;
}

/* So many are pending that they would slow down reading: the oldest go first. */
static int pending_bound(struct kv_db *db, struct kv_tree *t)
{
	bool more = true;
	int err = 0;

	while (!err && more && kve_ranges_pending(t) >= PENDING_MAX) {
		more = false;
		err = kve_range_step(db, &more);
	}
	return err;
}

int kv_delete_range(kv_db *db, kv_tree *tree, const void *from, size_t from_len, const void *to,
		    size_t to_len, uint32_t flags)
{
	struct kve_op op = { .kind = KVF_RECORD_RANGE_DELETE, .key = "", .value = "" };
	int err = kve_enter(db, true);

	if (!err)
		err = range_check(db, from, from_len, to, to_len);
	if (!err)
		err = kve_flags_check(db, flags, 0);
	op.tree = kve_tree_of(db, tree);
	if (!err && kvp_load(&op.tree->dropped))
		err = -KVE_no_tree;
	if (from_len)
		op.key = from;
	if (to_len)
		op.value = to;
	op.key_len = (u32)from_len;
	op.value_len = (u32)to_len;
	/* Nothing lies between them. */
	if (err || (to_len && kvf_key_compare(op.key, op.key_len, op.value, op.value_len) >= 0))
		return kve_return(db, err);
	err = pending_bound(db, op.tree);
	if (err)
		return kve_return(db, err);
	op.arg = kve_range_new(db, op.key, op.key_len, op.value, op.value_len);
	err = op.arg ? kve_commit(db, &op, 1, flags) : -KVE_no_memory;
	kvp_free(op.arg);
	/* What an image holds in reserve for that is not known as such any more once it has been closed. */
	while (!err && kve_space_is_host_full(db) && kve_doomed_help(db))
		;
	kvp_count_add(&db->dels, 1);
	return kve_return(db, err);
}
