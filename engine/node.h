/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node.h - one B+tree page in memory: search, insert, remove, split, pack.
 *
 * Pure functions on the bytes of a frame (struct kvf_page, format/kv_format.h): slots grow upwards
 * behind the header, the heap grows down from the end of the frame, offsets count from the end in
 * units of 4. Prefix truncation from the fences, 4-byte heads in the slots, 16 hints (Leis et al.,
 * "B-Trees Are Back", 2024). A frame that came from the medium has passed kvf_page_verify. Searches
 * clamp every offset to the frame, so that a reader that races with a writer reads garbage at worst,
 * never out of bounds, and finds out when it validates the frame's version.
 *
 * The caller holds the lock that the function needs: readers for kve_node_search and const functions,
 * writers for the others.
 */
#ifndef KVE_NODE_H
#define KVE_NODE_H

#include "kvp.h"
#include "../format/kvf.h"

/* A cell to be stored, in up to three parts that are concatenated. */
struct kve_cell {
	u8 flags; /* KVF_CELL_* for a leaf, 0 for an inner page */
	u32 nr;
	struct {
		const void *data;
		u32 len;
	} part[3];
};

static inline u32 kve_cell_len(const struct kve_cell *c)
{
	u32 i, len = 0;

	for (i = 0; i < c->nr; i++)
		len += c->part[i].len;
	return len;
}

/*
 * An empty page. Fences may be NULL (none). uuid, tree and level are set; addresses, generation, lsn
 * are zero; bytes = frame.
 */
void kve_node_init(void *page, u32 frame, const u8 *uuid, u32 tree, u8 level, const void *lower,
		   u32 lower_len, const void *upper, u32 upper_len);
/*
 * First slot whose key is >= key, 0..nr; *exact says whether it is equal. The key lies between the
 * fences, or the answer is 0 or nr.
 */
u32 kve_node_search(const void *page, u32 frame, const void *key, u32 len, bool *exact);
/*
 * The same search in steps, for several pages side by side: before a step, the one before it has asked the
 * processor for the memory that it looks at. (First of all: kve_node_prefetch.)
 */
struct kve_search {
	const u8 *suffix; /* of the key, behind the page's prefix */
	u32 len, head;
	u32 lo, hi; /* slots among which the answer is */
};
void kve_node_search_begin(struct kve_search *s, const void *page, u32 frame, const void *key, u32 len);
void kve_node_search_near(struct kve_search *s, const void *page, u32 frame);
u32 kve_node_search_end(const struct kve_search *s, const void *page, u32 frame, bool *exact);
#define KVE_LINE 64u
static inline void kve_node_prefetch(const void *page, u32 frame)
{
	const u8 *p = page;
	u32 at;

	for (at = 0; at < (u32)sizeof(struct kvf_page); at += KVE_LINE)
		kvp_prefetch(p + at);
	kvp_prefetch(p + frame - KVE_LINE); /* the lower fence, for the prefix */
}
/*
 * The cell of slot i, while a writer may change the page: means nothing unless the frame's version is found
 * unchanged afterwards. An inline value goes to buf if it fits cap, any other cell to cell[].
 */
struct kve_fetch {
	u8 flags;
	u32 len; /* of the whole cell */
	u8 cell[64] __attribute__((aligned(8)));
};
void kve_node_fetch(const void *page, u32 frame, u32 i, struct kve_fetch *out, void *buf, size_t cap);
/* Inner page: slot of the child that key belongs to: the last slot with key <= key, else 0. */
u32 kve_node_child(const void *page, u32 frame, const void *key, u32 len);
/* Are the fences of child, a frame too, the keys beside slot i of parent? parent NULL: none. */
bool kve_node_child_fits(const void *parent, u32 frame, u32 i, const void *child);
static inline u32 kve_node_nr(const void *page)
{
	return le16_to_cpu(((const struct kvf_page *)page)->nr);
}
/* Less than a quarter full once so many bytes more are gone: to be merged with a neighbour. */
bool kve_node_sparse(const void *page, u32 frame, u32 gone);
/* Bytes of slot i and its item. */
u32 kve_node_entry_bytes_at(const void *page, u32 frame, u32 i);
/* Would kve_node_replace (exact) or kve_node_insert at slot i do without compaction? */
bool kve_node_fits(const void *page, u32 frame, u32 i, bool exact, u32 key_len, u32 cell_len);
/* Bytes that an insert could still take, holes included. */
u32 kve_node_free(const void *page, u32 frame);
/* Bytes that slot and item of an entry take: for kve_node_free. The whole key counts as suffix less
 * the page's prefix. */
u32 kve_node_need(const void *page, u32 key_len, u32 cell_len);
/* All of a page but the gap between slots and heap, which a page three quarters full is a quarter of. */
void kve_node_copy(void *dst, const void *page, u32 frame);
/*
 * Insert at slot i (from kve_node_search, not exact). -KVE_no_room when it does not fit; compacts
 * the heap with scratch (frame bytes) if that helps. Nothing else fails.
 */
int kve_node_insert(void *page, u32 frame, u32 i, const void *key, u32 len, const struct kve_cell *cell,
		    void *scratch);
/* Replace the cell of slot i; the key stays. -KVE_no_room as above, the page unchanged. */
int kve_node_replace(void *page, u32 frame, u32 i, const struct kve_cell *cell, void *scratch);
void kve_node_remove(void *page, u32 frame, u32 i);
/* Overwrite the cell of slot i, same length and flags, in place (refs of inner pages, heads). */
void kve_node_cell_set(void *page, u32 frame, u32 i, const void *cell, u32 len);
/*
 * Where to split a page so that an entry with this key fits afterwards: number of slots that stay in the
 * left page, 1..nr-1 (nr >= 2). In the middle by bytes; at the end when ascending inserts are seen (the
 * key goes behind the last slot: then left keeps nearly all), and near the middle the place with the
 * shortest separator.
 */
u32 kve_node_split_point(const void *page, u32 frame, const void *key, u32 len);
/*
 * Shortest separator between the slots at-1 and at (leaf), or the key of slot at (inner): left < sep <=
 * right. Into buf (key_max bytes); returns its length.
 */
u32 kve_node_separator(const void *page, u32 frame, u32 at, void *buf);
/*
 * left keeps slots [0, at), right (uninitialised frame) gets the rest. New fences: left's upper =
 * right's lower = sep. scratch: frame bytes.
 */
void kve_node_split(void *left, void *right, u32 frame, u32 at, const void *sep, u32 sep_len,
		    void *scratch);
/* Would all of right fit behind left (prefix and fences recomputed)? */
bool kve_node_merge_fits(const void *left, const void *right, u32 frame);
/* left := left + right, upper fence of right. */
void kve_node_merge(void *left, const void *right, u32 frame, void *scratch);
/*
 * Packed copy for the medium: whole blocks, no holes, hints zero, bytes set. dst has frame bytes.
 * Returns the number of bytes. Addresses, generation and sums are the caller's.
 */
u32 kve_node_pack(const void *page, u32 frame, void *dst, u32 block);
/* Widen a packed page from len to want bytes (whole blocks) in place. Returns want. */
u32 kve_node_pack_to(void *page, u32 len, u32 want);
/* The reverse, in place: page holds len verified bytes from the medium, becomes a frame. Hints are
 * made. */
void kve_node_unpack(void *page, u32 frame, u32 len);

#endif
