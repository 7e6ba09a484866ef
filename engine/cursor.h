/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cursor.h - what a cursor is, and how a difference (diff.c) moves one: leaf by leaf.
 */
#ifndef KVE_CURSOR_H
#define KVE_CURSOR_H

#include "kve.h"

#define KVE_HASHED 16u /* more than a scan looks ahead */

struct kv_cursor {
	struct kv_db *db;
	struct kv_tree *tree;
	struct kv_read *read;
	bool own_read;
	u8 *page; /* copy of the leaf */
	u32 frame;
	bool valid;
	bool damaged; /* a leaf could not be read; resume is where the next one begins */
	u32 resume_len;
	u32 nr, slot;
	struct kve_frame *beside; /* the next leaf, to be prefetched, or NULL */
	u32 low, high;		  /* where the gap of a page begins and ends, about */
	u32 asked, pace;	  /* what is prefetched next; lines with each step */
	bool from_inside, to_inside; /* all keys of the page are on the right side of the bound */
	u32 prefix_len;		     /* bytes of key that all keys of the page share */
	u8 *key; /* of the position */
	u32 key_len;
	const u8 *cell; /* of the position, in page */
	u32 cell_len;
	u8 cell_flags;
	u8 *from, *to;
	u32 from_len, to_len;
	u8 *value;
	size_t value_cap;
	struct {
		u32 slot;
		u64 hash;
	} hashed[KVE_HASHED]; /* of slots of page, each in its number modulo the size; ~0: none */
	u32 pin; /* where in the cache of values the last one stands */
	const void *pinned; /* of the position: it stays where it is until the cursor moves */
	struct kve_scan_at scan; /* separated values that are asked for */
	int run; /* leaves passed in one direction, below 0: downwards */
	bool down; /* where the next leaf is expected */
};

/*
 * To the first entry of key's leaf from key on; follows: it is the leaf behind the one where the cursor is.
 * No entry: the slot is the number of entries. -KVE_not_found: the tree is empty.
 */
int kve_cursor_leaf(kv_cursor *c, const void *key, u32 len, bool follows);
/* Is there an entry at the slot? Then it is the position. */
bool kve_cursor_settle(kv_cursor *c);

#endif
