/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * range.h - pending range deletes. What they are: range.c.
 */
#ifndef KVE_RANGE_H
#define KVE_RANGE_H

#include "kve.h"

/*
 * A range delete that is not worked off: in the list of its tree, newest first. To change the list: writer
 * and tree lock exclusive; to walk it: one of them.
 */
struct kve_range {
	struct kve_range *next; /* older */
	u64 lsn;
	u64 gen, done_gen;  /* in which it came; in which it was worked off, 0: not yet */
	u32 tree, parts;    /* of rows that are being loaded */
	bool rows;	    /* the forest has rows of it */
	bool stuck;	    /* something in its way cannot be read: not tried again */
	u32 from_len, to_len; /* 0: no bound */
	u32 cursor_len, frozen_len;
	u8 *from, *to;	    /* behind the structure */
	u8 *cursor, *frozen; /* worked off up to here, now; when the last checkpoint froze the trees */
};

/* ---- range.c: pending range deletes ------------------------------------------------------------- */

struct kve_range *kve_range_new(struct kv_db *db, const void *from, u32 from_len, const void *to, u32 to_len);
/* Is a key of this leaf hidden? Tree lock. */
bool kve_range_hides(const struct kv_tree *t, u64 gen, const u8 *page, const void *key, u32 len);
/* Take what is hidden out of a copy of a leaf. Tree lock. */
void kve_range_strip(const struct kv_tree *t, u64 gen, u8 *page);
/* The range after r (NULL: the first) that hides slots [*lo, *hi) of the leaf; NULL: none. Tree lock. */
const struct kve_range *kve_range_next(const struct kv_tree *t, const struct kve_range *r, u64 gen,
				       const u8 *page, u32 *lo, u32 *hi);
/* Can anything from key up to another (no bytes: to the last) be hidden? Tree lock. */
bool kve_range_between(const struct kv_tree *t, u64 gen, const void *from, u32 from_len, const void *to,
		       u32 to_len);
/* May these leaves become one? Tree lock. */
bool kve_range_joins(const struct kv_tree *t, const u8 *left, const u8 *right);
/* A new one, from its record; worked off; all of a tree, which is dropped. Writer and tree lock exclusive. */
void kve_range_apply(struct kv_tree *t, struct kve_range *r, u64 lsn);
void kve_range_done(struct kv_tree *t, struct kve_range *r);
void kve_ranges_end(struct kv_tree *t);
u32 kve_ranges_pending(struct kv_tree *t);
bool kve_ranges_any(struct kv_db *db);
/* Is one of them, up to this LSN, still to be worked off? What is stuck never will be. */
bool kve_ranges_left(struct kv_db *db, u64 lsn);
/* Free what is worked off, has no rows, and is seen by no pinned state. Writer and tree lock exclusive. */
void kve_ranges_drop(struct kv_tree *t, bool (*pinned)(struct kv_db *db, u64 from, u64 to));
void kve_ranges_free(struct kv_tree *t);
/* A checkpoint freezes: cursors of this instant go to its rows. Writer lock. */
void kve_ranges_freeze(struct kv_db *db);
int kve_ranges_write(struct kv_tree *t, u64 gen);
/* Opening: a row, in order; then all of them, when their trees are known. */
int kve_range_row(struct kv_db *db, struct kve_range **list, const u8 *key, u32 key_len, const u8 *value,
		  u32 value_len);
int kve_ranges_adopt(struct kv_db *db, struct kve_range **list);

/* ---- range_work.c: working them off --------------------------------------------------------------- */

/* The large value in slot i of a leaf, if any: its chunks are to go, unless they are shared. Writer lock. */
int kve_object_doom(struct kv_tree *t, const u8 *page, u32 i);
/* Before a change of a pinned leaf: take out what is hidden there. Writer lock. */
int kve_range_purge(struct kv_db *db, struct kv_tree *t, struct kve_frame *leaf);
/* A leaf of the oldest one. No lock held. */
int kve_range_step(struct kv_db *db, bool *more);
/* Entries that are hidden in a state; gen: of a reader. */
int kve_ranges_hidden(struct kv_tree *t, u64 gen, u64 *hidden);
/* Entries that can be seen now. */
int kve_tree_count(struct kv_tree *t, u64 *count);

#endif
