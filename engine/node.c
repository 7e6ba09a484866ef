/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node.c - search, insert, replace and remove in one B+tree page. See node.h for the contract and
 * node_internal.h for the invariants.
 *
 * Decisions:
 *  - The 4-byte heads are compared as numbers; only a tie looks at the item. A suffix shorter than 4
 *    bytes is zero padded in its head, so a tie says no more than that the first min(4, both lengths)
 *    bytes agree: the rest and then the lengths decide.
 *  - The hints are counted without branches (they are sorted, so the count is the position), which
 *    leaves nr / 17 slots for a branchy binary search: the processor predicts it well enough, and it
 *    lets the loads of the next step start early.
 *  - The last page of a level has no upper fence, so its keys share no prefix and their heads are often
 *    equal. Ascending keys go there: its last slot is looked at first.
 *  - Space is given back lazily: removing and shrinking leave holes; an insert that does not find
 *    room in the gap compacts the page if that makes room.
 */
#include "node_internal.h"

#define SLOTS_AHEAD 256u /* bytes of slots, of an item that a search in steps asks for */
#define ITEM_AHEAD 192u

/* ---- building -------------------------------------------------------------------------------- */

u32 kve_node_heap_take(void *page, u32 bytes)
{
	struct kvf_page *p = page;
	u32 heap = le32_to_cpu(p->heap) + bytes;

	p->heap = cpu_to_le32(heap);
	return heap / 4;
}

static u32 fence_put(void *page, u32 size, const void *fence, u32 len)
{
	u32 bytes = kve_round4(len), off;
	u8 *to;

	if (!fence)
		return 0;
	off = kve_node_heap_take(page, bytes);
	to = kve_node_heap(page, size, off);
	memcpy(to, fence, len);
	memset(to + len, 0, bytes - len);
	return off;
}

void kve_node_reset(void *page, u32 size, const void *lower, u32 lower_len, const void *upper,
		    u32 upper_len)
{
	struct kvf_page *p = page;

	/* offset 0 means none, so an empty fence cannot be stored: below everything is no fence */
	if (!lower_len)
		lower = NULL;
	KVP_ASSERT(!upper || upper_len);
	p->nr = cpu_to_le16(0);
	p->heap = cpu_to_le32(0);
	p->holes = cpu_to_le32(0);
	p->lower_off = cpu_to_le16(fence_put(page, size, lower, lower_len));
	p->lower_len = cpu_to_le16(lower ? lower_len : 0);
	p->upper_off = cpu_to_le16(fence_put(page, size, upper, upper_len));
	p->upper_len = cpu_to_le16(upper ? upper_len : 0);
	p->prefix_len = cpu_to_le16(kve_node_prefix_of(lower, lower_len, upper, upper_len));
	memset(p->hints, 0, sizeof(p->hints));
}

void kve_node_init(void *page, u32 frame, const u8 *uuid, u32 tree, u8 level, const void *lower,
		   u32 lower_len, const void *upper, u32 upper_len)
{
	struct kvf_page *p = page;

	memset(p, 0, sizeof(*p));
	p->magic = cpu_to_le32(KVF_PAGE_MAGIC);
	p->level = level;
	memcpy(p->uuid, uuid, sizeof(p->uuid));
	p->tree = cpu_to_le32(tree);
	p->bytes = cpu_to_le32(frame);
	kve_node_reset(page, frame, lower, lower_len, upper, upper_len);
}

u32 kve_node_suffix_under(const void *page, u32 frame, u32 i, const u8 *lower, u32 has)
{
	const struct kvf_page *p = page;
	const struct kvf_slot *s = kvf_page_slots(page) + i;
	u32 had = le16_to_cpu(p->prefix_len), len = le16_to_cpu(s->suffix_len);

	/* N6: a key that lacks the longer prefix becomes the least that has it */
	if (has > had && p->level && !i &&
	    (len < has - had || memcmp(kve_node_item(page, frame, s) + 1, lower + had, has - had)))
		return 0;
	return len + had - has;
}

/* Item of slot i of src to heap, suffix (new_len bytes) adapted from prefix had to has. */
static void item_adapt(u8 *heap, const void *src, u32 frame, u32 i, u32 new_len, u32 has)
{
	const struct kvf_slot *s = kvf_page_slots(src) + i;
	const struct kvf_item *item = kve_node_item(src, frame, s);
	u32 had = le16_to_cpu(((const struct kvf_page *)src)->prefix_len), lower_len;
	u32 len = le16_to_cpu(s->suffix_len), cell_len = le16_to_cpu(item->cell_len);
	u32 bytes = kve_node_item_bytes(new_len, cell_len), back = has < had ? had - has : 0;
	const u8 *suffix = (const u8 *)(item + 1);

	memcpy(heap, item, sizeof(*item));
	heap += sizeof(*item);
	if (back)
		memcpy(heap, kve_node_lower(src, frame, &lower_len) + has, back);
	memcpy(heap + back, suffix + len - (new_len - back), new_len - back);
	memcpy(heap + new_len, suffix + len, cell_len);
	memset(heap + new_len + cell_len, 0, bytes - sizeof(*item) - new_len - cell_len);
}

void kve_node_append(void *page, u32 size, const void *src, u32 frame, u32 i)
{
	struct kvf_page *p = page;
	const struct kvf_slot *s = kvf_page_slots(src) + i;
	const struct kvf_item *item = kve_node_item(src, frame, s);
	u32 had = le16_to_cpu(((const struct kvf_page *)src)->prefix_len), fence_len;
	u32 has = le16_to_cpu(p->prefix_len), nr = le16_to_cpu(p->nr), bytes, off, len;
	struct kvf_slot *to = kve_node_slots(page) + nr;
	u8 *heap;

	len = kve_node_suffix_under(src, frame, i, kve_node_lower(page, size, &fence_len), has);
	bytes = kve_node_item_bytes(len, le16_to_cpu(item->cell_len));
	off = kve_node_heap_take(page, bytes);
	heap = kve_node_heap(page, size, off);
	if (had == has) {
		memcpy(heap, item, bytes);
		to->head = s->head;
	} else {
		item_adapt(heap, src, frame, i, len, has);
		to->head = cpu_to_le32(kvf_key_head(heap + sizeof(*item), len));
	}
	to->off = cpu_to_le16(off);
	to->suffix_len = cpu_to_le16(len);
	p->nr = cpu_to_le16(nr + 1);
}

/*
 * Rewrite the heap without holes. Slot skip loses its item: it keeps head and suffix_len, off is
 * for the caller to set. scratch has the page as it was.
 */
static void compact(void *page, u32 frame, void *scratch, u32 skip)
{
	struct kvf_page *p = page;
	u32 i, lower_len, upper_len, nr = le16_to_cpu(p->nr), heap = le32_to_cpu(p->heap);
	const u8 *lower, *upper;
	__le32 hints[KVF_HINTS];

	memcpy(scratch, page, KVE_NODE_HEADER + nr * sizeof(struct kvf_slot));
	memcpy((u8 *)scratch + frame - heap, (u8 *)page + frame - heap, heap);
	memcpy(hints, p->hints, sizeof(hints));
	lower = kve_node_lower(scratch, frame, &lower_len);
	upper = kve_node_upper(scratch, frame, &upper_len);
	kve_node_reset(page, frame, lower, lower_len, upper, upper_len);
	/* suffixes stay as they are */
	p->prefix_len = ((struct kvf_page *)scratch)->prefix_len;
	for (i = 0; i < nr; i++) {
		if (i == skip)
			p->nr = cpu_to_le16(i + 1);
		else
			kve_node_append(page, frame, scratch, frame, i);
	}
	/* slots have not moved */
	memcpy(p->hints, hints, sizeof(hints));
}

/* ---- hints ----------------------------------------------------------------------------------- */

static void hints_from(void *page, u32 first, u32 dist)
{
	struct kvf_page *p = page;
	const struct kvf_slot *s = kvf_page_slots(page);
	u32 h;

	for (h = first; h < KVF_HINTS; h++)
		p->hints[h] = s[dist * (h + 1)].head;
}

void kve_node_hints_make(void *page)
{
	struct kvf_page *p = page;
	u32 nr = le16_to_cpu(p->nr);

	if (nr > KVE_NODE_HINTED)
		hints_from(page, 0, nr / (KVF_HINTS + 1));
	else
		memset(p->hints, 0, sizeof(p->hints));
}

/* After slot i came or went, was: the number of slots before. Hints below i stay when they can. */
static void hints_update(void *page, u32 i, u32 was)
{
	u32 nr = kve_node_nr(page), dist = nr / (KVF_HINTS + 1);

	if (KVP_BUG("stale-hints"))
		return;
	if (nr > KVE_NODE_HINTED && was > KVE_NODE_HINTED && was / (KVF_HINTS + 1) == dist)
		hints_from(page, i / dist > 0 ? i / dist - 1 : 0, dist);
	else if (nr > KVE_NODE_HINTED || was > KVE_NODE_HINTED)
		kve_node_hints_make(page);
}

/* ---- search ---------------------------------------------------------------------------------- */

/* The key against the page's prefix: < 0 below every key of the page, > 0 above; *n: prefix bytes. */
KVP_INLINE int prefix_cmp(const void *page, u32 frame, const u8 *key, u32 len, u32 *n)
{
	const struct kvf_page *p = page;
	u32 avail, prefix_len = kve_racy_16(&p->prefix_len);
	const u8 *prefix;
	int c;

	if (!prefix_len) {
		*n = 0;
		return 0;
	}
	prefix = kve_node_heap_clamped(page, frame, kve_racy_16(&p->lower_off), &avail);
	*n = KVF_MIN(prefix_len, avail);
	c = kve_racy_cmp(prefix, key, KVF_MIN(*n, len));
	if (c)
		return -c;
	return len < *n ? -1 : 0;
}

/* Suffix of a slot against the key's, when their heads are equal: < 0: the slot's is less. */
KVP_INLINE int tie_cmp(const void *page, u32 frame, const struct kvf_slot *s, const u8 *suffix, u32 len)
{
	u32 avail, n, equal, slot_len = kve_racy_16(&s->suffix_len);
	const u8 *item = kve_node_heap_clamped(page, frame, kve_racy_16(&s->off), &avail);
	int c;

	/* The value follows; how long it is only the first line says. */
	kvp_prefetch(item + KVE_LINE);
	kvp_prefetch(item + 2 * KVE_LINE);
	avail -= KVF_MIN(avail, (u32)sizeof(struct kvf_item));
	slot_len = KVF_MIN(slot_len, avail);
	n = KVF_MIN(slot_len, len);
	equal = KVF_MIN(n, 4u);
	c = kve_racy_cmp(item + sizeof(struct kvf_item) + equal, suffix + equal, n - equal);
	if (c)
		return c;
	return slot_len < len ? -1 : slot_len > len;
}

/* Narrow [*lo, *hi] to where a suffix with this head belongs. */
KVP_INLINE void hints_search(const void *page, u32 nr, u32 head, u32 *lo, u32 *hi)
{
	const struct kvf_page *p = page;
	u32 h, below = 0, upto = 0, dist = nr / (KVF_HINTS + 1);
	__le32 hints[KVF_HINTS];

	kve_racy_copy(hints, p->hints, sizeof(hints));
	for (h = 0; h < KVF_HINTS; h++) {
		u32 v = le32_to_cpu(hints[h]);

		below += v < head;
		upto += v <= head;
	}
	*lo = below * dist;
	if (upto < KVF_HINTS)
		*hi = (upto + 1) * dist;
}

/* Slot against a suffix with this head: < 0: the slot's is less. */
KVP_INLINE int slot_cmp(const void *page, u32 frame, const struct kvf_slot *s, u32 head, const u8 *suffix,
			u32 len)
{
	u32 at = kve_racy_32(&s->head);

	if (at == head)
		return tie_cmp(page, frame, s, suffix, len);
	return at < head ? -1 : 1;
}

/* Inlined, so that a single search keeps its state in registers. */
KVP_INLINE void search_begin(struct kve_search *s, const void *page, u32 frame, const void *key, u32 len)
{
	const struct kvf_page *p = page;
	u32 nr = kve_racy_16(&p->nr), most, n;
	int c;

	most = (frame - KVE_NODE_HEADER) / (u32)sizeof(struct kvf_slot);
	nr = KVF_MIN(nr, most);
	c = prefix_cmp(page, frame, key, len, &n);
	if (kvp_unlikely(c)) {
		s->lo = s->hi = c < 0 ? 0 : nr;
		return;
	}
	s->suffix = (const u8 *)key + n;
	s->len = len - n;
	s->head = kvf_key_head(s->suffix, s->len);
	s->lo = 0;
	s->hi = nr;
	if (!kve_racy_16(&p->upper_off) && nr &&
	    slot_cmp(page, frame, kvf_page_slots(page) + nr - 1, s->head, s->suffix, s->len) < 0) {
		s->lo = nr;
		return;
	}
	if (nr > KVE_NODE_HINTED)
		hints_search(page, nr, s->head, &s->lo, &s->hi);
	/* The search begins in the middle. */
	kvp_prefetch(kvf_page_slots(page) + s->lo);
	kvp_prefetch(kvf_page_slots(page) + s->hi - 1);
}

KVP_INLINE u32 search_end(const struct kve_search *s, const void *page, u32 frame, bool *exact)
{
	const struct kvf_slot *slots = kvf_page_slots(page);
	u32 lo = s->lo, hi = s->hi;
	int c;

	*exact = false;
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		c = slot_cmp(page, frame, slots + mid, s->head, s->suffix, s->len);
		if (!c) {
			*exact = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

u32 kve_node_search(const void *page, u32 frame, const void *key, u32 len, bool *exact)
{
	struct kve_search s;

	search_begin(&s, page, frame, key, len);
	return search_end(&s, page, frame, exact);
}

static void prefetch_bytes(const void *from, u32 bytes)
{
	u32 at;

	for (at = 0; at < bytes; at += KVE_LINE)
		kvp_prefetch((const u8 *)from + at);
}

void kve_node_search_begin(struct kve_search *s, const void *page, u32 frame, const void *key, u32 len)
{
	search_begin(s, page, frame, key, len);
	if (s->lo < s->hi)
		prefetch_bytes(kvf_page_slots(page) + s->lo,
			       KVF_MIN((s->hi - s->lo) * (u32)sizeof(struct kvf_slot), SLOTS_AHEAD));
}

/* By heads alone, up to the first tie: the item of that slot is what the rest will look at. */
void kve_node_search_near(struct kve_search *s, const void *page, u32 frame)
{
	const struct kvf_slot *slots = kvf_page_slots(page);
	u32 avail;

	while (s->lo < s->hi) {
		u32 mid = s->lo + (s->hi - s->lo) / 2;
		u32 at = kve_racy_32(&slots[mid].head);

		if (at == s->head) {
			const u8 *item = kve_node_heap_clamped(page, frame, kve_racy_16(&slots[mid].off),
							       &avail);

			prefetch_bytes(item, KVF_MIN(avail, ITEM_AHEAD));
			return;
		}
		if (at < s->head)
			s->lo = mid + 1;
		else
			s->hi = mid;
	}
}

u32 kve_node_search_end(const struct kve_search *s, const void *page, u32 frame, bool *exact)
{
	return search_end(s, page, frame, exact);
}

u32 kve_node_child(const void *page, u32 frame, const void *key, u32 len)
{
	bool exact;
	u32 i = kve_node_search(page, frame, key, len, &exact);

	return exact || !i ? i : i - 1;
}

void kve_node_fetch(const void *page, u32 frame, u32 i, struct kve_fetch *out, void *buf, size_t cap)
{
	u32 avail, skip, most = (frame - KVE_NODE_HEADER) / (u32)sizeof(struct kvf_slot);
	const struct kvf_slot *s = kvf_page_slots(page) + KVF_MIN(i, most - 1);
	const u8 *item = kve_node_heap_clamped(page, frame, kve_racy_16(&s->off), &avail);
	struct kvf_item it;

	if (avail < sizeof(it)) {
		memset(out, 0, sizeof(*out));
		return;
	}
	kve_racy_copy(&it, item, sizeof(it));
	skip = KVF_MIN((u32)sizeof(it) + kve_racy_16(&s->suffix_len), avail);
	out->flags = it.flags;
	out->len = KVF_MIN((u32)le16_to_cpu(it.cell_len), avail - skip);
	if ((it.flags & (KVF_CELL_KIND | KVF_CELL_EXT)) == KVF_CELL_INLINE) {
		if (out->len && out->len <= cap)
			kve_racy_copy(buf, item + skip, out->len);
	} else {
		kve_racy_copy(out->cell, item + skip, KVF_MIN(out->len, (u32)sizeof(out->cell)));
	}
}

/* ---- change ---------------------------------------------------------------------------------- */

u32 kve_node_free(const void *page, u32 frame)
{
	return kve_node_gap(page, frame) + le32_to_cpu(((const struct kvf_page *)page)->holes);
}

void kve_node_copy(void *dst, const void *page, u32 frame)
{
	u32 low = (u32)sizeof(struct kvf_page) + kve_node_nr(page) * (u32)sizeof(struct kvf_slot);
	u32 heap = le32_to_cpu(((const struct kvf_page *)page)->heap);

	KVP_ASSERT(low + heap <= frame);
	memcpy(dst, page, low);
	memcpy((u8 *)dst + frame - heap, (const u8 *)page + frame - heap, heap);
}

u32 kve_node_need(const void *page, u32 key_len, u32 cell_len)
{
	u32 prefix_len = le16_to_cpu(((const struct kvf_page *)page)->prefix_len);

	return (u32)sizeof(struct kvf_slot) +
	       kve_node_item_bytes(key_len - KVF_MIN(key_len, prefix_len), cell_len);
}

bool kve_node_sparse(const void *page, u32 frame, u32 gone)
{
	u32 bytes = frame - KVE_NODE_HEADER;

	return bytes - kve_node_free(page, frame) - gone < bytes / 4;
}

u32 kve_node_entry_bytes_at(const void *page, u32 frame, u32 i)
{
	return kve_node_entry_bytes(page, frame, i);
}

bool kve_node_fits(const void *page, u32 frame, u32 i, bool exact, u32 key_len, u32 cell_len)
{
	u32 had, suffix_len = key_len - le16_to_cpu(((const struct kvf_page *)page)->prefix_len);
	u32 bytes = kve_node_item_bytes(suffix_len, cell_len);

	if (!exact)
		return kve_node_gap(page, frame) >= sizeof(struct kvf_slot) + bytes;
	had = kve_node_entry_bytes(page, frame, i) - (u32)sizeof(struct kvf_slot);
	return bytes <= had || kve_node_gap(page, frame) >= bytes;
}

/* Flags, cell and padding of an item of bytes bytes whose suffix stands or will stand in place. */
static void cell_put(struct kvf_item *item, u32 bytes, u32 suffix_len, const struct kve_cell *cell)
{
	u8 *to = (u8 *)(item + 1) + suffix_len;
	u32 i, len = kve_cell_len(cell);

	item->cell_len = cpu_to_le16(len);
	item->flags = cell->flags;
	item->reserved = 0;
	for (i = 0; i < cell->nr; i++) {
		if (!cell->part[i].len)
			continue;
		memcpy(to, cell->part[i].data, cell->part[i].len);
		to += cell->part[i].len;
	}
	memset(to, 0, bytes - sizeof(*item) - suffix_len - len);
}

static void holes_add(struct kvf_page *p, u32 bytes)
{
	p->holes = cpu_to_le32(le32_to_cpu(p->holes) + bytes);
}

int kve_node_insert(void *page, u32 frame, u32 i, const void *key, u32 len, const struct kve_cell *cell,
		    void *scratch)
{
	struct kvf_page *p = page;
	u32 nr = le16_to_cpu(p->nr), prefix_len = le16_to_cpu(p->prefix_len);
	u32 suffix_len = len - prefix_len, bytes, off;
	/* slot 0 of an inner page may have no key at all */
	const u8 *suffix = prefix_len ? (const u8 *)key + prefix_len : key;
	struct kvf_slot *s = kve_node_slots(page) + i;
	struct kvf_item *item;

	KVP_ASSERT(i <= nr && len >= prefix_len);
	bytes = kve_node_item_bytes(suffix_len, kve_cell_len(cell));
	if (kve_node_gap(page, frame) < sizeof(*s) + bytes) {
		if (kve_node_free(page, frame) < sizeof(*s) + bytes)
			return -KVE_no_room;
		compact(page, frame, scratch, KVE_NODE_NO_SLOT);
	}
	off = kve_node_heap_take(page, bytes);
	item = (struct kvf_item *)kve_node_heap(page, frame, off);
	if (suffix_len)
		memcpy(item + 1, suffix, suffix_len);
	cell_put(item, bytes, suffix_len, cell);
	memmove(s + 1, s, (nr - i) * sizeof(*s));
	s->head = cpu_to_le32(kvf_key_head(suffix, suffix_len));
	s->off = cpu_to_le16(off);
	s->suffix_len = cpu_to_le16(suffix_len);
	p->nr = cpu_to_le16(nr + 1);
	hints_update(page, i, nr);
	return 0;
}

int kve_node_replace(void *page, u32 frame, u32 i, const struct kve_cell *cell, void *scratch)
{
	struct kvf_slot *s = kve_node_slots(page) + i;
	struct kvf_item *item = (struct kvf_item *)kve_node_heap(page, frame, le16_to_cpu(s->off));
	u32 suffix_len = le16_to_cpu(s->suffix_len), off;
	u32 had = kve_node_item_bytes(suffix_len, le16_to_cpu(item->cell_len));
	u32 bytes = kve_node_item_bytes(suffix_len, kve_cell_len(cell));
	const void *suffix = item + 1;

	KVP_ASSERT(i < kve_node_nr(page));
	if (bytes <= had) {
		cell_put(item, bytes, suffix_len, cell);
		holes_add(page, had - bytes);
		return 0;
	}
	if (kve_node_gap(page, frame) < bytes) {
		if (kve_node_free(page, frame) + had < bytes)
			return -KVE_no_room;
		compact(page, frame, scratch, i);
		suffix = (const u8 *)scratch + ((const u8 *)suffix - (const u8 *)page);
	} else {
		holes_add(page, had);
	}
	off = kve_node_heap_take(page, bytes);
	item = (struct kvf_item *)kve_node_heap(page, frame, off);
	memcpy(item + 1, suffix, suffix_len);
	cell_put(item, bytes, suffix_len, cell);
	s->off = cpu_to_le16(off);
	return 0;
}

void kve_node_remove(void *page, u32 frame, u32 i)
{
	struct kvf_page *p = page;
	struct kvf_slot *s = kve_node_slots(page) + i;
	u32 nr = le16_to_cpu(p->nr), heap = le32_to_cpu(p->heap);
	u32 bytes = kve_node_entry_bytes(page, frame, i) - (u32)sizeof(*s);

	KVP_ASSERT(i < nr);
	/* the item at the edge of the heap goes back to the gap; others become holes */
	if (le16_to_cpu(s->off) * 4u == heap)
		p->heap = cpu_to_le32(heap - bytes);
	else
		holes_add(p, bytes);
	memmove(s, s + 1, (nr - i - 1) * sizeof(*s));
	p->nr = cpu_to_le16(nr - 1);
	hints_update(page, i, nr);
}

void kve_node_cell_set(void *page, u32 frame, u32 i, const void *cell, u32 len)
{
	struct kvf_slot *s = kve_node_slots(page) + i;
	struct kvf_item *item = (struct kvf_item *)kve_node_heap(page, frame, le16_to_cpu(s->off));

	KVP_ASSERT(i < kve_node_nr(page) && len == le16_to_cpu(item->cell_len));
	memcpy((u8 *)(item + 1) + le16_to_cpu(s->suffix_len), cell, len);
}

/* ---- fences ------------------------------------------------------------------------------------- */

static bool same_bytes(const u8 *a, u32 a_len, const u8 *b, u32 b_len)
{
	return (!a && !b) || (a && b && a_len == b_len && !memcmp(a, b, a_len));
}

static bool slot_has_key(const void *page, u32 frame, u32 i, const u8 *key, u32 len)
{
	const struct kvf_page *p = page;
	u32 prefix_len = le16_to_cpu(p->prefix_len), lower_len;
	u32 suffix_len = le16_to_cpu(kvf_page_slots(page)[i].suffix_len);

	return key && len == prefix_len + suffix_len &&
	       (!prefix_len || !memcmp(key, kvf_page_lower(page, frame, &lower_len), prefix_len)) &&
	       !memcmp(key + prefix_len, kvf_page_item(page, frame, i) + 1, suffix_len);
}

bool kve_node_child_fits(const void *parent, u32 frame, u32 i, const void *child)
{
	u32 lower_len, upper_len, len;
	const u8 *lower = kvf_page_lower(child, frame, &lower_len);
	const u8 *upper = kvf_page_upper(child, frame, &upper_len);
	const u8 *fence;

	if (!parent)
		return !lower && !upper;
	fence = kvf_page_lower(parent, frame, &len);
	if (i ? !slot_has_key(parent, frame, i, lower, lower_len) : !same_bytes(lower, lower_len, fence, len))
		return false;
	fence = kvf_page_upper(parent, frame, &len);
	if (i + 1 < kve_node_nr(parent))
		return slot_has_key(parent, frame, i + 1, upper, upper_len);
	return same_bytes(upper, upper_len, fence, len);
}
