/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kve_tree.h - the part of kve.h for trees: looking up, changing, and the forest that names them.
 */
#ifndef KVE_TREE_H
#define KVE_TREE_H

#include "kve.h"

/* ---- tree.c, tree_change.c, tree_split.c --------------------------------------------------------- */

/* Image of a frame, or head of a tree, at a generation. */
struct kve_image {
	u8 *page;
	struct kve_frame **kids;
	bool live;
};
bool kve_image_at(struct kve_frame *f, u64 gen, struct kve_image *im);
/* The same of a leaf, too, which stays as it is until kve_image_drop(). Tree lock. */
bool kve_image_hold(struct kve_frame *f, u64 gen, struct kve_image *im);
void kve_image_drop(struct kve_frame *f, const struct kve_image *im);
struct kve_head *kve_head_at(struct kv_tree *t, u64 gen);

/*
 * Leaf of the key in the live state, pinned; loads what is missing. Tree lock not held. *leaf NULL: the
 * tree is empty.
 */
int kve_tree_leaf(struct kv_tree *t, const void *key, u32 len, struct kve_frame **leaf);
static inline void kve_frame_unpin(struct kve_frame *f)
{
	kvp_sub(&f->pins, 1u);
}

/* Where a lookup goes: exact key, or the leaf for a cursor. */
enum kve_seek { KVE_SEEK_KEY, KVE_SEEK_BEFORE, KVE_SEEK_LAST };
/*
 * Copy the leaf of generation gen that key belongs to (BEFORE: that holds the keys just below key; LAST:
 * the last leaf) into page. -KVE_not_found: the tree is empty. leaves: of a scan, how many are read at once
 * when this one is missing; below 0: it goes downwards.
 */
int kve_leaf_copy(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		  int leaves);
/*
 * The same, and *beside: the leaf that comes next in the direction of leaves, NULL: not known. A hint, to be
 * prefetched: what it is when it is looked at nobody knows.
 */
int kve_leaf_scan(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		  int leaves, struct kve_frame **beside);

/* Bring in what a descent to key lacked. Tree lock not held. */
int kve_tree_bring(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
		   const struct kve_need *need);
/* What slot i of an inner page refers to. */
void kve_child_ref(struct kvf_ref *ref, const u8 *page, u32 frame, u32 i);
static inline bool kve_ref_same(const struct kvf_ref *a, const struct kvf_ref *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* The same, with what pending range deletes hide. */
int kve_leaf_copy_raw(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		      int leaves);

/* Does a leaf hold the keys that are looked for? */
bool kve_leaf_fits(const u8 *page, u32 frame, enum kve_seek seek, const void *key, u32 len);

/* fn for each entry with key >= from, until it returns non-zero, which is passed on. page: a frame's
 * bytes for use in between; fn may change the tree. */
int kve_tree_each(struct kv_tree *t, u64 gen, const void *from, u32 len, u8 *page,
		  int (*fn)(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len),
		  void *arg);

/* The leaf for key cannot be read: where the next one begins. *out_len 0: it is the last. */
int kve_damage_end(struct kv_tree *t, u64 gen, const void *key, u32 len, u8 *out, u32 *out_len);

/* What a leaf says of a key: the cell, copied. */
struct kve_entry {
	u8 flags;
	u32 len;	   /* bytes of cell */
	u64 value_len;	   /* bytes of the value */
	u32 inline_len;
	struct kvf_value_ref ref;
	struct kvf_object object;
};
/* Decode a verified leaf cell. value: the inline value, pointing into the cell. */
void kve_entry_decode(struct kve_entry *e, u8 flags, const u8 *cell, u32 len, const u8 **value);

/* ---- api.c, get_many.c ---- */

/* The value of a key into the caller's buffer: what kv_get_into does. */
int kve_get_into(struct kv_db *db, struct kv_tree *t, u64 gen, const void *key, u32 len, void *buf,
		 size_t cap, size_t *value_len);

/* ---- tree_get.c ---- */

/* A leaf without a lock, as it was at some version. */
struct kve_spot {
	struct kv_db *db;
	struct kve_frame *frame;
	u64 version;
	u64 applied; /* of the volume */
	u64 range_lsn; /* of the tree */
	const u8 *page;
};
/*
 * The leaf that key belongs to now. Between kvp_reader_enter and kvp_reader_exit. -KVE_restart: changed
 * meanwhile; -KVE_need_page: not all of the way is in memory.
 */
int kve_spot_find(struct kv_tree *t, const void *key, u32 len, struct kve_spot *s);
/* Nothing has changed since: what was read is true. */
bool kve_spot_valid(const struct kve_spot *s);
/* For those that share the writer lock, and those that look at the image of a leaf under the tree lock. */
void kve_leaf_lock(struct kve_frame *leaf);
bool kve_leaf_trylock(struct kve_frame *leaf);
void kve_leaf_unlock(struct kve_frame *leaf);
/* Look up; an inline value of at most cap bytes goes to buf. */
int kve_tree_get_locked(struct kv_tree *t, u64 gen, const void *key, u32 len, struct kve_entry *e,
			void *buf, size_t cap);
int kve_tree_get(struct kv_tree *t, u64 gen, const void *key, u32 len, struct kve_entry *e, void *buf,
		 size_t cap);
/* One of many: err is set to -KVE_need_page before and to what kve_tree_get gives; else it is left out. */
struct kve_lookup {
	const void *key;
	u32 key_len;
	int err;
	void *buf;
	size_t cap;
	struct kve_entry e;
};
void kve_tree_get_many(struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n);
/* Under the tree lock; reads what is missing. */
void kve_tree_get_many_locked(struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n);

/* One change: a record of the log and what it does to its tree. */
struct kve_op {
	struct kv_tree *tree;
	const void *key, *value;
	u32 key_len, value_len;
	u8 kind;  /* KVF_RECORD_* */
	u8 flags; /* KVF_RECORD_OBJECT */
	bool separated; /* the leaf gets a ref */
	bool poison;
	bool existed;   /* set by kve_op_prepare: the key was there */
	u64 old_object; /* and held this large value, so long */
	u64 old_bytes;
	u64 lsn;
	struct kvf_value_ref ref;
	struct kve_frame *leaf; /* pinned while being prepared */
	/*
	 * Sets value from what the key holds, NULL: nothing; or fails. -KVE_restart: it must be asked without
	 * the lock of a leaf.
	 */
	int (*compute)(struct kve_op *op, const struct kve_entry *e, const u8 *value);
	void *arg; /* of compute; RANGE_DELETE: struct kve_range, NULL once it is in its tree's list */
	const struct kve_entry *only; /* while the key holds this ref or large value, else -KVE_restart */
	u64 seen; /* slot and existed are right while the leaf's version is one less; 0: never */
	u32 slot;
};
static inline bool kve_op_on_entry(const struct kve_op *op)
{
	return op->kind == KVF_RECORD_PUT || op->kind == KVF_RECORD_DELETE ||
	       op->kind == KVF_RECORD_EXTENT;
}
/* May it use the reserve: does it free space? */
static inline bool kve_op_frees(const struct kve_op *op)
{
	return op->kind == KVF_RECORD_DELETE || op->kind == KVF_RECORD_TREE_DROP ||
	       op->kind == KVF_RECORD_RANGE_DELETE ||
	       (op->tree->id == KVF_TREE_OBJECTS && op->kind == KVF_RECORD_PUT &&
		*(const u8 *)op->key == KVF_OBJECT_DOOMED);
}

/*
 * The leaves of the first operations, pinned: those in memory are looked for side by side, the pages that
 * the others lack are read together. Some may get none. Returns how many were not pinned before. Writer lock
 * closed.
 */
#define KVE_LEAVES 64u /* so many at most */
u32 kve_tree_leaves(struct kv_db *db, struct kve_op *ops, u32 n);
/* Under the tree lock; reads what is missing, a level at a time. */
u32 kve_tree_leaves_read(struct kv_db *db, struct kve_op *ops, u32 n);
/* The leaf is that of op: true if it was not pinned before. Tree lock, shared at least. */
bool kve_op_pin(struct kve_op *op, struct kve_frame *leaf);
/*
 * The leaf of operation i: where keys are in order that of the one before, else it is looked for together
 * with those of the next ones. Returns how many leaves have come to those that are pinned. *ahead, 0 at
 * first: up to where they have been looked for. Writer lock closed.
 */
u32 kve_op_find(struct kv_db *db, struct kve_op *ops, u32 i, u32 nr, u32 *ahead);
void kve_ops_unpin(struct kve_op *ops, u32 nr);
/* Everything that may fail: leaf in memory (op may have it), shadows, frames to split. Writer lock. */
struct kve_reserve {
	struct kve_frame *inner, *leaf; /* spare frames, linked by next */
	u32 inner_nr, leaf_nr;
	struct kve_frame *last; /* applying: where what no longer belonged to its leaf went */
};
int kve_op_prepare(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs);
int kve_reserve_fill(struct kv_db *db, struct kve_reserve *rs, u32 leaves, u32 inners);
void kve_reserve_drop(struct kv_db *db, struct kve_reserve *rs);
/* It is the turn of prepared operation i: what one of the next will change is asked for. */
void kve_op_expect(const struct kv_db *db, const struct kve_op *ops, u32 i, u32 nr);
#define KVE_AHEAD 8u /* so many before */
/* Cannot fail after a successful prepare. Tree lock exclusive. */
void kve_op_apply(struct kv_db *db, struct kve_op *op, struct kve_reserve *rs);
/* The value that slot i of a leaf of t refers to is dead, unless it is shared. */
void kve_cell_dead(struct kv_tree *t, const u8 *page, u32 i);
/* The value of an entry has another place from now on. */
void kve_cell_moved(struct kv_tree *t, const u8 *page, u32 i);
/* The cell that op stores. */
void kve_op_cell(const struct kve_op *op, struct kve_cell *cell);
/* Outside of a transaction: system trees in a checkpoint, replay. In this order, all of them; or none. */
int kve_tree_apply(struct kv_db *db, struct kve_op *ops, u32 nr);
int kve_tree_put(struct kv_tree *t, const void *key, u32 key_len, const void *value, u32 len);
int kve_tree_remove(struct kv_tree *t, const void *key, u32 key_len);
/* Tree lock exclusive: forget what frozen generations below gen needed. */
void kve_shadows_drop(struct kv_db *db);
void kve_frame_unref(struct kv_db *db, struct kve_frame *f);
/* Checkpoint, writer and tree lock: pages of frames merged away go to the batch. */
int kve_zombies_reap(struct kv_db *db, struct kve_batch_items *list);
void kve_mark_dirty(struct kv_db *db, struct kve_frame *f);
/* Has it changes of this generation or an older one? Then nobody but a checkpoint takes the mark away. */
static inline bool kve_dirty_by(const struct kve_frame *f, u64 gen)
{
	return kvp_load_acquire(&f->dirty) && kvp_load(&f->dirty_since) <= gen;
}
/*
 * The state is no longer that of the last freeze, so a reader that begins from here on needs another. Before
 * anybody can see the change. Gate closed.
 */
static inline void kve_gen_changed(struct kv_db *db)
{
	kvp_store_release(&db->changed_gen, db->open_gen);
}
/* Must the live image be kept when f changes, for a reader or a checkpoint? Gate shared at least. */
bool kve_image_needed(const struct kv_db *db, const struct kve_frame *f);
/* A prepared leaf has changed: marks, and single changes are let in. Tree lock exclusive. */
void kve_leaf_changed(struct kv_db *db, struct kve_frame *f, u64 lsn);
/* Keep the tree's head, a frame's image for frozen generations before they change. Writer lock. */
int kve_head_prepare(struct kv_db *db, struct kv_tree *t);
int kve_frame_prepare(struct kv_db *db, struct kve_frame *f);
/*
 * May leaves be made ready? What a generation needs once, its first transaction has seen to: the mark in the
 * superblock, the heads of the trees that it changes, that there is something to checkpoint. With the gate
 * shared none of this changes.
 */
bool kve_first_allowed(const struct kv_db *db, const struct kv_tree *t);
/*
 * The same of a leaf beside others, and all its marks: from here on it is ready. -KVE_restart: no memory to
 * be had at once. Gate shared, leaf's lock; something in the tree has been changed in this generation.
 */
int kve_leaf_first(struct kv_db *db, struct kve_frame *leaf);
/* Make room in the parent and split f so that an entry with this key fits. Tree lock exclusive. */
void kve_tree_split(struct kv_db *db, struct kve_frame *f, const void *key, u32 len,
		    struct kve_reserve *rs);
/* f has become sparse: merge with a neighbour if that is in memory and prepared. */
void kve_tree_merge(struct kv_db *db, struct kve_frame *f);
/* The first child of an inner page goes, with what is in memory of it; then p may be empty. */
void kve_tree_prune(struct kv_db *db, struct kve_frame *p);
/* A tree that is empty, or pruned, gives up its root. Tree lock exclusive. */
void kve_tree_uproot(struct kv_db *db, struct kv_tree *t);
u32 kve_kid_index(const struct kve_frame *parent, const struct kve_frame *f);
/* A leaf has lost entries outside of a transaction: join it with a neighbour if it is sparse. Writer lock. */
int kve_leaf_shrunk(struct kv_db *db, struct kve_frame *f);
/* Around each change of what readers without lock look at: see tree_get.c. */
static inline void kve_odd(u64 *version)
{
	KVP_ASSERT(!(*version & 1));
	kvp_store(version, *version + 1);
	kvp_fence_release();
}
static inline void kve_even(u64 *version)
{
	kvp_store_release(version, *version + 1);
}
static inline void kve_change_begin(struct kve_frame *f)
{
	kve_odd(&f->version);
}
static inline void kve_change_end(struct kve_frame *f)
{
	kve_even(&f->version);
}

/* ---- clone.c ---- */

/* What a row says of its origin, which has to be there. State lock not held. */
int kve_origin_load(struct kv_db *db, const struct kvf_tree_head *h, struct kve_origin *out);
/* The tree that has the chunks of a large value of t, and the snapshot that is kept for it. */
struct kve_chunks {
	struct kv_tree *tree;
	struct kve_snapshot *held; /* or NULL */
};
int kve_chunks_get(struct kv_tree *t, const struct kvf_object *o, struct kve_chunks *c);
void kve_chunks_put(struct kv_db *db, struct kve_chunks *c);
/* No tree, now or in a later snapshot, starts from it; else an error that names them. Checkpoint lock. */
int kve_clones_none(struct kv_db *db, const struct kve_snapshot *s);
/* Some (of that snapshot; NULL: of any) are still being dropped. No lock held. */
bool kve_clones_dropped(struct kv_db *db, const char *snapshot);
/* A step of dropping one: gone_gen is set when it is done. No lock held. */
int kve_clone_prune(struct kv_db *db, struct kv_tree *t);

/* ---- detach.c ---- */

/* NULL is fine. */
void kve_detach_free(struct kve_detach *d);
/* The tree was dropped: no other call will go on with it. State lock not held. */
void kve_detach_forget(struct kv_tree *t);
/* Does a leaf's entry refer to something of the origin? */
static inline bool kve_shared_entry(const struct kv_tree *t, const struct kve_entry *e)
{
	u8 kind = e->flags & KVF_CELL_KIND;

	return (kind == KVF_CELL_REF && kve_shared_value(t, &e->ref)) ||
	       (kind == KVF_CELL_OBJECT && kve_shared_object(t, &e->object));
}

/* Tree registry: forest.c */
int kve_tree_row(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 cell_len,
		 struct kvf_tree_head *h);
/* create: of a new one. */
int kve_tree_name_check(struct kv_db *db, const char *name, bool create);
/* Byte order, as the forest has it. */
int kve_name_compare(const char *a, const char *b);
struct kv_tree *kve_tree_find(struct kv_db *db, const char *name);
struct kv_tree *kve_tree_by_id(struct kv_db *db, u32 id);
struct kv_tree *kve_tree_add(struct kv_db *db, u32 id, const char *name, u32 name_len);
int kve_forest_load(struct kv_db *db);
int kve_forest_write(struct kv_db *db, u64 gen);
int kve_tree_create(struct kv_db *db, const char *name, struct kv_tree **out);
void kve_tree_create_apply(struct kv_db *db, struct kv_tree *t);
void kve_tree_drop_apply(struct kv_db *db, struct kv_tree *t);
/* The last entry of a dropped tree has been deleted: a step on the way to give up its pages. */
int kve_tree_gone(struct kv_db *db, struct kv_tree *t);

#endif
