/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node_internal.h - what node.c (search, insert, replace, remove) and node_split.c (split, merge, pack)
 * share: the geometry of slots and heap, and building a page item by item. For these two files only.
 *
 * Invariants of a frame between two calls:
 *  N1  heap - holes == bytes of both fences and of all items, each rounded up to 4. Compaction therefore
 *      always fits, and kve_node_free is exact. (kvf_page_verify makes sure of it for pages read.)
 *  N2  header + 8 * nr + heap <= frame.
 *  N3  padding behind fences and items is zero, so that equal pages pack to equal bytes.
 *  N4  hints[h] is the head of slot (h + 1) * (nr / 17) when nr > 32, else all hints are zero.
 *  N5  prefix_len is the number of bytes that both fences share; 0 unless both exist. A verified page of
 *      another writer may have chosen less.
 *  N6  All keys lie between the fences, but for slot 0 of an inner page of another writer, which may
 *      stand below: it stands for all that is below slot 1, and its key is never looked at closely.
 */
#ifndef KVE_NODE_INTERNAL_H
#define KVE_NODE_INTERNAL_H

#include "node.h"
#include "racy.h"

#define KVE_NODE_HEADER ((u32)sizeof(struct kvf_page))
/* Below this number of slots, hints cost more than they save. */
#define KVE_NODE_HINTED (2 * KVF_HINTS)
#define KVE_NODE_NO_SLOT 0xffffffffu

/*
 * Heap bytes at offset off (units of 4 from the end), clamped to the frame; *avail: how many may be
 * read there.
 */
static inline const u8 *kve_node_heap_clamped(const void *page, u32 frame, u32 off, u32 *avail)
{
	*avail = KVF_MIN(off * 4, frame - KVE_NODE_HEADER);
	return (const u8 *)page + frame - *avail;
}

/* ---- parts of a page; the caller holds a lock that keeps writers out ---------------------------- */

static inline u32 kve_round4(u32 n)
{
	return (n + 3) & ~3u;
}

static inline struct kvf_slot *kve_node_slots(void *page)
{
	return (struct kvf_slot *)((u8 *)page + KVE_NODE_HEADER);
}

static inline u8 *kve_node_heap(void *page, u32 frame, u32 off)
{
	return (u8 *)page + frame - off * 4;
}

static inline const struct kvf_item *kve_node_item(const void *page, u32 frame, const struct kvf_slot *s)
{
	return (const struct kvf_item *)((const u8 *)page + frame - le16_to_cpu(s->off) * 4u);
}

/* Bytes of an item in the heap. */
static inline u32 kve_node_item_bytes(u32 suffix_len, u32 cell_len)
{
	return kve_round4((u32)sizeof(struct kvf_item) + suffix_len + cell_len);
}

/* Bytes of slot and item of an entry that is there. */
static inline u32 kve_node_entry_bytes(const void *page, u32 frame, u32 i)
{
	const struct kvf_slot *s = kvf_page_slots(page) + i;

	return (u32)sizeof(*s) + kve_node_item_bytes(le16_to_cpu(s->suffix_len),
						     le16_to_cpu(kve_node_item(page, frame, s)->cell_len));
}

static inline const u8 *kve_node_lower(const void *page, u32 frame, u32 *len)
{
	const struct kvf_page *p = page;

	*len = p->lower_off ? le16_to_cpu(p->lower_len) : 0;
	return p->lower_off ? (const u8 *)page + frame - le16_to_cpu(p->lower_off) * 4u : NULL;
}

static inline const u8 *kve_node_upper(const void *page, u32 frame, u32 *len)
{
	const struct kvf_page *p = page;

	*len = p->upper_off ? le16_to_cpu(p->upper_len) : 0;
	return p->upper_off ? (const u8 *)page + frame - le16_to_cpu(p->upper_off) * 4u : NULL;
}

/* Bytes between the last slot and the heap. */
static inline u32 kve_node_gap(const void *page, u32 frame)
{
	const struct kvf_page *p = page;

	return frame - KVE_NODE_HEADER - le16_to_cpu(p->nr) * (u32)sizeof(struct kvf_slot) -
	       le32_to_cpu(p->heap);
}

/* Number of bytes that a and b have in common at the beginning. */
static inline u32 kve_node_common(const u8 *a, u32 alen, const u8 *b, u32 blen)
{
	u32 i, n = KVF_MIN(alen, blen);

	for (i = 0; i < n && a[i] == b[i]; i++)
		;
	return i;
}

/* prefix_len for these fences. */
static inline u32 kve_node_prefix_of(const u8 *lower, u32 lower_len, const u8 *upper, u32 upper_len)
{
	return lower && upper ? kve_node_common(lower, lower_len, upper, upper_len) : 0;
}

/* ---- node.c ---------------------------------------------------------------------------------- */

/* All hints anew. */
void kve_node_hints_make(void *page);
/*
 * Forget all slots and the heap and set the fences, which must not lie in the page. size: bytes of the
 * page, a frame or, for the packed form, less. Header fields beside these stay.
 */
void kve_node_reset(void *page, u32 size, const void *lower, u32 lower_len, const void *upper,
		    u32 upper_len);
/* Take bytes from the heap (there is room); returns the offset for a slot. */
u32 kve_node_heap_take(void *page, u32 bytes);
/*
 * Bytes of the suffix of slot i once the page's prefix is replaced by the first has bytes of lower, a
 * fence that agrees with the page's own as far as they overlap.
 */
u32 kve_node_suffix_under(const void *page, u32 frame, u32 i, const u8 *lower, u32 has);
/*
 * Append slot i of src (frame bytes) to page (size bytes), suffix adapted to the prefix of page. There
 * is room. Hints are left alone.
 */
void kve_node_append(void *page, u32 size, const void *src, u32 frame, u32 i);

#endif
