/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_swap.c - leaves get the refs of the copies, if they still hold those of the originals.
 *
 * Leaves are brought in and pinned while nothing is held. Then the writer lock is closed for a few of them:
 * a ref that is still the old one is overwritten in place, by the same shadows, marks and versions as any
 * change. That is not logged: a crash before the next checkpoint leaves the old ref, and its segment is not
 * used again before that checkpoint is durable. Key, value and LSN stay the same.
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

/* Tree lock exclusive. */
static void apply(struct kv_db *db, struct kve_gc_swaps *st)
{
	u8 cell[CELL_MAX];
	u32 i, len;

	for (i = 0; i < st->nr; i++) {
		struct kve_gc_record *r = kve_gc_nth(st->gc, st->first + i);
		struct kve_frame *leaf = st->leaf[i];

		if (!leaf || !cell_make(r, leaf->page, db->geo.frame, st->slot[i], cell, &len))
			continue;
		r->tree->head.gen = db->open_gen;
		kve_change_begin(leaf);
		kve_cell_moved(r->tree, leaf->page, st->slot[i]);
		kve_node_cell_set(leaf->page, db->geo.frame, st->slot[i], cell, len);
		kve_leaf_changed(db, leaf, 0);
		kve_change_end(leaf);
		kve_value_live(db, &r->new);
		db->changed = true;
		db->changed_gen = db->open_gen;
	}
}

int kve_gc_swap(struct kv_db *db, struct kve_gc *gc)
{
	struct kve_gc_swaps *st = &gc->swaps;
	int err;

	st->gc = gc;
	st->first = gc->swapped;
	st->nr = 0;
	err = leaves_pin(st);
	if (!err) {
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
	}
	leaves_unpin(st);
	if (!err)
		gc->swapped += st->nr;
	return err;
}
