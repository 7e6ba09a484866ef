/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_swap.c - leaves get the refs of the copies, if they still hold those of the originals.
 *
 * Leaves are brought in and pinned while nothing is held. Then a ref that is still the old one is
 * overwritten in place, by the same shadows, marks and versions as any change: beside others, under the lock
 * of its leaf, as single changes are made (txn_single.c); what cannot be done so, with the gate closed. That
 * is not logged: a crash before the next checkpoint leaves the old ref, and its segment is not used again
 * before that checkpoint is durable. Key, value and LSN stay the same.
 *
 * The gate is closed for the first swaps of a generation, and seldom otherwise: whoever finds it closed
 * sleeps, and finds it closed again when it is closed for one step after the other.
 */
#include "gc.h"

#define LEAVES 16u /* of a step: each may need a copy of its old image */
#define CELL_MAX 128u

static const u8 *key_of(const struct kve_gc *gc, const struct kve_gc_record *r, u32 *len)
{
	const struct kvf_record *rec = (const struct kvf_record *)(gc->memory.buf + r->at);

	*len = le16_to_cpu(rec->key_len);
	return kvf_record_key(rec);
}

static bool covers(const struct kve_gc *gc, const struct kve_gc_record *r, const struct kve_frame *leaf)
{
	u32 len;
	const u8 *key = key_of(gc, r, &len);

	return leaf->tree == r->tree && !leaf->zombie &&
	       kve_leaf_fits(leaf->page, r->tree->db->geo.frame, KVE_SEEK_KEY, key, len);
}

/* The cell of a slot with the new ref, if it has that of the original still. */
static bool cell_make(const struct kve_gc_record *r, const u8 *page, u32 frame, u32 slot, u8 *cell,
		      u32 *cell_len)
{
	const u8 *found;
	u32 head;
	u8 flags;

	found = kvf_page_cell(page, frame, slot, cell_len, &flags);
	if ((flags & KVF_CELL_KIND) != KVF_CELL_REF || *cell_len < sizeof(r->old) || *cell_len > CELL_MAX)
		return false;
	memcpy(cell, found, *cell_len);
	head = *cell_len - (u32)sizeof(r->old);
	if (memcmp(cell + head, &r->old, sizeof(r->old)) && !KVP_BUG("gc-unconditional-swap"))
		return false;
	memcpy(cell + head, &r->new, sizeof(r->new));
	return true;
}

/* The slot of the record's key, if that refers to the original still. */
static bool slot_find(const struct kve_gc *gc, const struct kve_gc_record *r, const u8 *page, u32 frame,
		      u16 *slot)
{
	u8 cell[CELL_MAX];
	const u8 *key;
	bool exact;
	u32 len;

	key = key_of(gc, r, &len);
	*slot = (u16)kve_node_search(page, frame, key, len, &exact);
	return exact && cell_make(r, page, frame, *slot, cell, &len);
}

/* Leaves of the next records, in memory and pinned. No lock held. */
static int leaves_pin(struct kve_gc_swaps *st)
{
	u32 i, len, leaves = 0, left = st->gc->nr - st->first;
	struct kve_gc_record *r;
	const u8 *key;
	int err;

	for (i = 0; i < KVF_MIN(left, KVE_GC_SWAPS) && leaves < LEAVES; i++) {
		r = kve_gc_nth(st->gc, st->first + i);
		key = key_of(st->gc, r, &len);
		err = kve_tree_leaf(r->tree, key, len, &st->leaf[i]);
		/* A page that cannot be read keeps its ref: its record stays where it is. */
		if (err == -KVE_no_memory)
			return err;
		if (err)
			st->leaf[i] = NULL;
		st->nr = i + 1;
		if (!i || st->leaf[i] != st->leaf[i - 1])
			leaves++;
	}
	return 0;
}

static void leaves_unpin(struct kve_gc_swaps *st)
{
	u32 i;

	for (i = 0; i < st->nr; i++)
		if (st->leaf[i])
			kve_frame_unpin(st->leaf[i]);
}

/* The leaf as it is now: it may have been split or merged since it was pinned. Writer lock. */
static int leaf_renew(const struct kve_gc_swaps *st, const struct kve_gc_record *r, struct kve_frame **leaf)
{
	const u8 *key;
	u32 len;
	int err;

	if (covers(st->gc, r, *leaf))
		return 0;
	kve_frame_unpin(*leaf);
	key = key_of(st->gc, r, &len);
	err = kve_tree_leaf(r->tree, key, len, leaf);
	if (err)
		*leaf = NULL;
	return err == -KVE_no_memory ? err : 0;
}

/* What may fail: images for frozen generations. Writer lock. */
static int prepare(struct kv_db *db, struct kve_gc_swaps *st)
{
	u32 i;
	int err = 0;

	for (i = 0; i < st->nr && !err; i++) {
		struct kve_gc_record *r = kve_gc_nth(st->gc, st->first + i);

		if (st->leaf[i])
			err = leaf_renew(st, r, &st->leaf[i]);
		if (err || !st->leaf[i])
			continue;
		if (kvp_load(&r->tree->dropped) ||
		    !slot_find(st->gc, r, st->leaf[i]->page, db->geo.frame, &st->slot[i])) {
			kve_frame_unpin(st->leaf[i]);
			st->leaf[i] = NULL;
			continue;
		}
		err = kve_head_prepare(db, r->tree);
		if (!err)
			err = kve_frame_prepare(db, st->leaf[i]);
	}
	return err;
}

/* The leaf is prepared, and nobody else changes it. */
static void cell_swap(struct kv_db *db, const struct kve_gc_record *r, struct kve_frame *leaf, u32 slot)
{
	u8 cell[CELL_MAX];
	u32 len;

	if (!cell_make(r, leaf->page, db->geo.frame, slot, cell, &len))
		return;
	kve_change_begin(leaf);
	kve_cell_moved(r->tree, leaf->page, slot);
	kve_node_cell_set(leaf->page, db->geo.frame, slot, cell, len);
	kve_change_end(leaf);
	kve_value_live(db, &r->new);
}

/* ---- with the gate closed ------------------------------------------------------------------------ */

/* Tree lock exclusive. */
static void apply(struct kv_db *db, struct kve_gc_swaps *st)
{
	u32 i;

	for (i = 0; i < st->nr; i++) {
		struct kve_gc_record *r = kve_gc_nth(st->gc, st->first + i);

		if (!st->leaf[i])
			continue;
		r->tree->head.gen = db->open_gen;
		kve_leaf_changed(db, st->leaf[i], 0);
		cell_swap(db, r, st->leaf[i], st->slot[i]);
		db->changed = true;
		kve_gen_changed(db);
	}
}

static int swap_alone(struct kv_db *db, struct kve_gc_swaps *st)
{
	int err;

	kvp_gate_close(&db->writer);
	err = kvp_load(&db->degraded) ? -KVE_degraded : kve_super_mark(db);
	if (!err)
		err = prepare(db, st);
	if (!err)
		err = kve_dead_promise(db, st->nr);
	if (!err) {
		kvp_rwsem_down_write(&db->tree_lock);
		apply(db, st);
		kvp_rwsem_up_write(&db->tree_lock);
		kve_dead_done(db, st->nr);
	}
	kvp_gate_open(&db->writer);
	return err;
}

/* ---- beside others -------------------------------------------------------------------------------- */

/*
 * Records from i on, of the same leaf, which is neither split nor merged while the gate is shared. What is
 * done is pinned no more.
 */
static void leaf_swap(struct kv_db *db, struct kve_gc_swaps *st, u32 i, u32 end)
{
	struct kve_frame *leaf = st->leaf[i];
	struct kve_gc_record *r;
	int err = 0;

	if (!KVP_BUG("gc-swap-unlocked"))
		kve_leaf_lock(leaf);
	for (; i < end; i++) {
		r = kve_gc_nth(st->gc, st->first + i);
		if (!covers(st->gc, r, leaf))
			continue;
		if (!kvp_load(&r->tree->dropped) &&
		    slot_find(st->gc, r, leaf->page, db->geo.frame, &st->slot[i])) {
			if (leaf->ready != db->open_gen && !KVP_BUG("gc-swap-not-first"))
				err = kve_leaf_first(db, leaf);
			if (err)
				break;
			cell_swap(db, r, leaf, st->slot[i]);
		}
		st->leaf[i] = NULL;
		kve_frame_unpin(leaf);
	}
	if (!KVP_BUG("gc-swap-unlocked"))
		kve_leaf_unlock(leaf);
}

/* What is left has its leaf still. */
static int swap_beside(struct kv_db *db, struct kve_gc_swaps *st)
{
	u32 i, end;
	int err;

	if (kvp_load(&db->pinned))
		kve_cache_room(db, LEAVES);
	kvp_gate_enter(&db->writer);
	err = kve_dead_promise(db, st->nr);
	for (i = 0; i < st->nr && !err; i = end) {
		for (end = i + 1; end < st->nr && st->leaf[end] == st->leaf[i]; end++)
			;
		if (st->leaf[i] && !kvp_load(&db->degraded) && kve_first_allowed(db, st->leaf[i]->tree))
			leaf_swap(db, st, i, end);
	}
	if (!err)
		kve_dead_done(db, st->nr);
	kvp_gate_leave(&db->writer);
	return err;
}

static bool left(const struct kve_gc_swaps *st)
{
	u32 i;

	for (i = 0; i < st->nr && !st->leaf[i]; i++)
		;
	return i < st->nr;
}

int kve_gc_swap(struct kv_db *db, struct kve_gc *gc)
{
	struct kve_gc_swaps *st = &gc->swaps;
	int err;

	st->gc = gc;
	st->first = gc->swapped;
	st->nr = 0;
	err = leaves_pin(st);
	if (!err)
		err = swap_beside(db, st);
	if (!err && left(st))
		err = swap_alone(db, st);
	leaves_unpin(st);
	if (!err)
		gc->swapped += st->nr;
	return err;
}
