/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node_split.c - split, merge, pack and unpack of one B+tree page. See node.h for the contract and
 * node_internal.h for the invariants.
 *
 * Why an entry fits after a split. Let F be the frame less its header, K = key_max, M the most that
 * slot and item of one entry take: 8 + 4 + item_max rounded up to 4, so M <= K + 103; the geometry
 * has 10 K + 800 <= F, so K <= F/10 - 80 and M <= F/10 + 23. S: bytes of all entries of the page,
 * S <= F - fences. Prefixes only grow in a split, so no suffix gets longer.
 *
 *  - Middle. The cut is the boundary nearest to S/2, or one within S/16 of it: each half has at most
 *    S/2 + max(M/2, S/16) bytes of entries, one old fence f <= K and the separator <= K (rounded up
 *    to 4 each, 6 bytes in all). S <= F - f, so half and new entry need at most
 *    F/2 + K/2 + K + max(M/2, F/16) + M + 6. With M/2: F/2 + 1.5 K + 1.5 M + 6 <= 0.8 F - 79; with
 *    F/16: F/2 + F/16 + 1.5 K + M + 6 <= 0.8125 F - 91. Both are less than F, so it fits on either
 *    side of the separator.
 *  - End. The right page gets one entry, the new one, two fences: 2 M + 2 K + 6 <= 0.4 F, fits. Left
 *    only swaps its upper fence for the separator, which is never longer than the key of the entry
 *    that leaves: prefix (part of the upper fence, or empty) and suffix (part of what leaves).
 */
#include "node_internal.h"

/* Bytes that the keys of slots at-1 and at share behind the prefix. */
static u32 suffix_common(const void *page, u32 frame, u32 at)
{
	const struct kvf_slot *a = kvf_page_slots(page) + at - 1, *b = a + 1;
	u32 alen = le16_to_cpu(a->suffix_len), blen = le16_to_cpu(b->suffix_len);

	return kve_node_common((const u8 *)(kve_node_item(page, frame, a) + 1), alen,
			       (const u8 *)(kve_node_item(page, frame, b) + 1), blen);
}

/* Bytes of the separator behind the prefix: see kve_node_separator. */
static u32 separator_suffix(const void *page, u32 frame, u32 at)
{
	if (((const struct kvf_page *)page)->level)
		return le16_to_cpu(kvf_page_slots(page)[at].suffix_len);
	return suffix_common(page, frame, at) + 1;
}

u32 kve_node_split_point(const void *page, u32 frame, const void *key, u32 len)
{
	u32 nr = kve_node_nr(page), total = 0, left = 0, at, best_sep = ~0u, best_off = ~0u;
	u32 nearest = 1, nearest_off = ~0u, best = 0;
	bool exact;

	KVP_ASSERT(nr >= 2);
	if (kve_node_search(page, frame, key, len, &exact) == nr)
		return nr - 1;
	for (at = 0; at < nr; at++)
		total += kve_node_entry_bytes(page, frame, at);
	for (at = 1; at < nr; at++) {
		u32 off, sep;

		left += kve_node_entry_bytes(page, frame, at - 1);
		off = left > total / 2 ? left - total / 2 : total / 2 - left;
		if (off < nearest_off) {
			nearest = at;
			nearest_off = off;
		}
		if (off > total / 16)
			continue;
		sep = separator_suffix(page, frame, at);
		if (sep < best_sep || (sep == best_sep && off < best_off)) {
			best = at;
			best_sep = sep;
			best_off = off;
		}
	}
	return best ? best : nearest;
}

u32 kve_node_separator(const void *page, u32 frame, u32 at, void *buf)
{
	const struct kvf_slot *s = kvf_page_slots(page) + at;
	u32 lower_len, prefix_len = le16_to_cpu(((const struct kvf_page *)page)->prefix_len);
	u32 len = separator_suffix(page, frame, at);
	const u8 *lower = kve_node_lower(page, frame, &lower_len);

	KVP_ASSERT(at && at < kve_node_nr(page));
	/* a leaf's is one byte longer than what the keys share; the greater key always has that byte */
	if (prefix_len)
		memcpy(buf, lower, prefix_len);
	memcpy((u8 *)buf + prefix_len, kve_node_item(page, frame, s) + 1, len);
	return prefix_len + len;
}

void kve_node_split(void *left, void *right, u32 frame, u32 at, const void *sep, u32 sep_len,
		    void *scratch)
{
	u32 i, lower_len, upper_len, nr = kve_node_nr(left);
	const u8 *lower, *upper;

	KVP_ASSERT(at && at < nr);
	kve_node_copy(scratch, left, frame);
	lower = kve_node_lower(scratch, frame, &lower_len);
	upper = kve_node_upper(scratch, frame, &upper_len);
	kve_node_reset(left, frame, lower, lower_len, sep, sep_len);
	for (i = 0; i < at; i++)
		kve_node_append(left, frame, scratch, frame, i);
	kve_node_hints_make(left);

	/* right is a new page: it has no address yet, but what it holds is as old as before */
	memcpy(right, scratch, KVE_NODE_HEADER);
	((struct kvf_page *)right)->block0 = cpu_to_le64(0);
	((struct kvf_page *)right)->block1 = cpu_to_le64(0);
	((struct kvf_page *)right)->generation = cpu_to_le64(0);
	((struct kvf_page *)right)->head_sum = cpu_to_le64(0);
	((struct kvf_page *)right)->body_sum = cpu_to_le64(0);
	kve_node_reset(right, frame, sep, sep_len, upper, upper_len);
	for (; i < nr; i++)
		kve_node_append(right, frame, scratch, frame, i);
	kve_node_hints_make(right);
}

/* ---- merge ----------------------------------------------------------------------------------- */

/* Bytes of all entries of page if its prefix were the first prefix_len bytes of lower. */
static u32 entries_bytes(const void *page, u32 frame, const u8 *lower, u32 prefix_len)
{
	u32 i, sum = 0, nr = kve_node_nr(page);

	for (i = 0; i < nr; i++) {
		const struct kvf_slot *s = kvf_page_slots(page) + i;
		u32 cell_len = le16_to_cpu(kve_node_item(page, frame, s)->cell_len);
		u32 len = kve_node_suffix_under(page, frame, i, lower, prefix_len);

		sum += (u32)sizeof(*s) + kve_node_item_bytes(len, cell_len);
	}
	return sum;
}

/*
 * In an inner page slot 0 holds everything below slot 1, whatever its own key; behind other slots it
 * must begin at the fence. Is the key of slot 0 of right another one than right's lower fence?
 */
static bool first_key_differs(const void *right, u32 frame)
{
	const struct kvf_page *p = right;
	u32 lower_len;

	if (!p->level || !p->nr)
		return false;
	kve_node_lower(right, frame, &lower_len);
	/* key and fence share the page's prefix */
	return le16_to_cpu(kvf_page_slots(right)->suffix_len) + le16_to_cpu(p->prefix_len) != lower_len ||
	       memcmp(kve_node_item(right, frame, kvf_page_slots(right)) + 1,
		      (const u8 *)right + frame - le16_to_cpu(p->lower_off) * 4u +
			      le16_to_cpu(p->prefix_len),
		      lower_len - le16_to_cpu(p->prefix_len)) != 0;
}

bool kve_node_merge_fits(const void *left, const void *right, u32 frame)
{
	u32 lower_len, upper_len, fence_len, prefix_len, sum;
	const u8 *lower = kve_node_lower(left, frame, &lower_len);
	const u8 *upper = kve_node_upper(right, frame, &upper_len);

	/* what the outermost of three sorted fences share, the middle one shares as well */
	prefix_len = kve_node_prefix_of(lower, lower_len, upper, upper_len);
	sum = KVE_NODE_HEADER + kve_round4(lower_len) + kve_round4(upper_len) +
	      entries_bytes(left, frame, lower, prefix_len) +
	      entries_bytes(right, frame, lower, prefix_len);
	if (first_key_differs(right, frame)) {
		const struct kvf_slot *s = kvf_page_slots(right);
		u32 cell_len = le16_to_cpu(kve_node_item(right, frame, s)->cell_len);
		u32 len = kve_node_suffix_under(right, frame, 0, lower, prefix_len);

		kve_node_lower(right, frame, &fence_len);
		sum -= kve_node_item_bytes(len, cell_len);
		sum += kve_node_item_bytes(fence_len - prefix_len, cell_len);
	}
	return sum <= frame;
}

/* Append the child of slot 0 of right with right's lower fence as its key. */
static void append_at_fence(void *left, const void *right, u32 frame)
{
	const struct kvf_slot *s = kvf_page_slots(right);
	const struct kvf_item *item = kve_node_item(right, frame, s);
	u32 fence_len, nr = kve_node_nr(left);
	const u8 *fence = kve_node_lower(right, frame, &fence_len);
	struct kve_cell cell = { .flags = item->flags, .nr = 1 };

	cell.part[0].data = (const u8 *)(item + 1) + le16_to_cpu(s->suffix_len);
	cell.part[0].len = le16_to_cpu(item->cell_len);
	/* left has no holes here, so that no scratch is needed; kve_node_merge_fits counted it */
	if (kve_node_insert(left, frame, nr, fence, fence_len, &cell, NULL))
		KVP_ASSERT(!"kve_node_merge without kve_node_merge_fits");
}

void kve_node_merge(void *left, const void *right, u32 frame, void *scratch)
{
	u32 i, lower_len, upper_len, nr = kve_node_nr(left);
	const u8 *lower, *upper;

	KVP_ASSERT(kve_node_merge_fits(left, right, frame));
	kve_node_copy(scratch, left, frame);
	lower = kve_node_lower(scratch, frame, &lower_len);
	upper = kve_node_upper(right, frame, &upper_len);
	kve_node_reset(left, frame, lower, lower_len, upper, upper_len);
	for (i = 0; i < nr; i++)
		kve_node_append(left, frame, scratch, frame, i);
	nr = kve_node_nr(right);
	i = 0;
	if (first_key_differs(right, frame)) {
		append_at_fence(left, right, frame);
		i = 1;
	}
	for (; i < nr; i++)
		kve_node_append(left, frame, right, frame, i);
	kve_node_hints_make(left);
}

/* ---- the form on the medium -------------------------------------------------------------------- */

/*
 * Always built anew, in the order of the slots: equal contents give equal bytes whatever happened to
 * the frame before, a reader that walks the slots walks the heap, and that items do not overlap is
 * seen from their offsets. A leaf that is stored once is compact where that saves a block: one that
 * does not is read without being made into a frame first.
 */
static bool may_be_compact(const struct kvf_page *p)
{
	u32 tree = le32_to_cpu(p->tree);

	return !p->level && tree != KVF_TREE_FOREST && tree != KVF_TREE_SEGTAB;
}

u32 kve_node_pack(const void *page, u32 frame, void *dst, u32 block)
{
	const struct kvf_page *p = page;
	struct kvf_page *to = dst;
	u32 i, lower_len, upper_len, nr = le16_to_cpu(p->nr);
	u32 used = KVE_NODE_HEADER + nr * (u32)sizeof(struct kvf_slot);
	u32 heap = le32_to_cpu(p->heap) - le32_to_cpu(p->holes);
	u32 len = (u32)KVF_ROUND_UP(used + heap, block);
	const u8 *lower = kve_node_lower(page, frame, &lower_len);
	const u8 *upper = kve_node_upper(page, frame, &upper_len);
	u32 compact = may_be_compact(p) ? kvf_leaf_pack(page, frame, dst, len - block) : 0;

	if (compact) {
		len = (u32)KVF_ROUND_UP(compact, block);
		memset((u8 *)dst + compact, 0, len - compact);
		to->bytes = cpu_to_le32(len);
		return len;
	}
	memcpy(dst, page, KVE_NODE_HEADER);
	kve_node_reset(dst, len, lower, lower_len, upper, upper_len);
	to->prefix_len = p->prefix_len;
	for (i = 0; i < nr; i++)
		kve_node_append(dst, len, page, frame, i);
	memset((u8 *)dst + used, 0, len - used - heap);
	to->bytes = cpu_to_le32(len);
	return len;
}

void kve_node_unpack(void *page, u32 frame, u32 len)
{
	struct kvf_page *p = page;
	u32 heap = le32_to_cpu(p->heap);

	if (p->flags & KVF_PAGE_COMPACT)
		kvf_leaf_unpack(page, frame);
	else
		memmove((u8 *)page + frame - heap, (u8 *)page + len - heap, heap);
	p->bytes = cpu_to_le32(frame);
	kve_node_hints_make(page);
}

u32 kve_node_pack_to(void *page, u32 len, u32 want)
{
	struct kvf_page *h = page;
	u32 heap = le32_to_cpu(h->heap);

	memmove((u8 *)page + want - heap, (u8 *)page + len - heap, heap);
	memset((u8 *)page + len - heap, 0, want - len);
	h->bytes = cpu_to_le32(want);
	return want;
}
