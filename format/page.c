/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * page.c - pages of trees and the refs between them: seal, verify, read.
 *
 * kvf_page_verify judges a page alone and against what its parent says; after it, every offset in the
 * page is in bounds, every item whole, and the items together are exactly the heap less its holes, so
 * that code which compacts or moves items can trust the page's own accounts. A frame in memory has the
 * same layout (kvf_page_layout_verify), but for hints and holes, which are zero on the medium. Leaves
 * may have another form there (leaf.c).
 */
#include "page.h"

#define UNIT KVF_HEAP_UNIT

/* ---- access ---------------------------------------------------------------------------------- */

static const u8 *suffix_of(const void *page, u32 len, u32 i)
{
	return (const u8 *)(kvf_page_item(page, len, i) + 1);
}

u32 kvf_page_key(const void *page, u32 len, u32 i, void *buf)
{
	const struct kvf_page *p = page;
	u32 prefix_len = le16_to_cpu(p->prefix_len), flen;
	u32 suffix_len = le16_to_cpu(kvf_page_slots(page)[i].suffix_len);

	if (prefix_len)
		memcpy(buf, kvf_page_lower(page, len, &flen), prefix_len);
	memcpy((u8 *)buf + prefix_len, suffix_of(page, len, i), suffix_len);
	return prefix_len + suffix_len;
}

const u8 *kvf_page_lower(const void *page, u32 len, u32 *flen)
{
	const struct kvf_page *p = page;
	u32 off = le16_to_cpu(p->lower_off) * UNIT;

	*flen = le16_to_cpu(p->lower_len);
	return off ? (const u8 *)page + len - off : NULL;
}

const u8 *kvf_page_upper(const void *page, u32 len, u32 *flen)
{
	const struct kvf_page *p = page;
	u32 off = le16_to_cpu(p->upper_off) * UNIT;

	*flen = le16_to_cpu(p->upper_len);
	return off ? (const u8 *)page + len - off : NULL;
}

/* ---- refs and cells -------------------------------------------------------------------------- */

/* One address: in a segment that may hold pages, behind its header, not across its end. */
static bool address_is_legal(u64 block, u32 blocks, const struct kvf_geometry *g, u64 segments)
{
	u8 shift = g->segment_shift - g->block_shift;
	u32 at = (u32)(block & (g->seg_blocks - 1));

	return block >> shift >= KVF_SEG_FIRST && block >> shift < segments && at >= 1 &&
	       at + blocks <= g->seg_blocks;
}

int kvf_ref_verify(const struct kvf_ref *ref, const struct kvf_geometry *g, u64 segments)
{
	u64 block0 = le64_to_cpu(ref->block0), block1 = le64_to_cpu(ref->block1);
	u32 blocks = le32_to_cpu(ref->blocks);

	if (kvf_is_zero(ref, sizeof(*ref)))
		return KVF_F_ref_zero;
	if (!blocks || blocks > g->frame >> g->block_shift || ref->reserved != cpu_to_le32(0))
		return KVF_F_ref_bounds;
	if (!address_is_legal(block0, blocks, g, segments))
		return KVF_F_ref_bounds;
	if (!block1)
		return 0;
	if (!address_is_legal(block1, blocks, g, segments))
		return KVF_F_ref_bounds;
	/* two copies that share a block are one copy */
	return block0 < block1 + blocks && block1 < block0 + blocks ? KVF_F_ref_bounds : 0;
}

static bool value_ref_is_legal(const u8 *cell, const struct kvf_geometry *g)
{
	struct kvf_value_ref v;
	u32 segment, offset, head_len;

	memcpy(&v, cell, sizeof(v));
	segment = le32_to_cpu(v.segment);
	offset = le32_to_cpu(v.offset);
	head_len = le16_to_cpu(v.head_len);
	if (segment < KVF_SEG_FIRST || segment >= KVF_SEGMENTS_MAX || v.reserved != cpu_to_le16(0))
		return false;
	if (!le64_to_cpu(v.lsn) || offset % KVF_RECORD_ALIGN || offset < g->block)
		return false;
	/* a key of at least a byte stands before the payload */
	if (head_len <= sizeof(struct kvf_record) ||
	    head_len > sizeof(struct kvf_record) + 64 + g->key_max)
		return false;
	return KVF_ROUND_UP((u64)offset + head_len + le32_to_cpu(v.payload_len),
			    KVF_RECORD_ALIGN) <= g->segment;
}

static bool object_is_legal(const u8 *cell, const struct kvf_geometry *g)
{
	struct kvf_object o;

	memcpy(&o, cell, sizeof(o));
	return o.chunk_bytes != cpu_to_le32(0) && le32_to_cpu(o.chunk_bytes) <= g->record_max &&
	       o.reserved == cpu_to_le32(0);
}

int kvf_cell_verify(u8 flags, const u8 *cell, u32 cell_len, const struct kvf_geometry *g)
{
	u32 ext_len = 0;
	bool ok;

	if (flags & ~KVF_CELL_FLAGS)
		return KVF_F_page_cell;
	if (flags & KVF_CELL_EXT && kvf_ext_verify(cell, cell_len, &ext_len))
		return KVF_F_page_cell;
	cell += ext_len;
	cell_len -= ext_len;
	switch (flags & KVF_CELL_KIND) {
	case KVF_CELL_INLINE:
		ok = cell_len <= g->item_max;
		break;
	case KVF_CELL_REF:
		ok = cell_len == sizeof(struct kvf_value_ref) && value_ref_is_legal(cell, g);
		break;
	case KVF_CELL_OBJECT:
		ok = cell_len == sizeof(struct kvf_object) && object_is_legal(cell, g);
		break;
	default:
		ok = false;
	}
	return ok ? 0 : KVF_F_page_cell;
}

/* The cell of an inner page. How many segments there are is not known here: whoever follows asks. */
static int child_verify(u8 flags, const u8 *cell, u32 cell_len, const struct kvf_geometry *g)
{
	struct kvf_ref ref;

	if (flags || cell_len != sizeof(ref))
		return KVF_F_page_cell;
	memcpy(&ref, cell, sizeof(ref));
	return kvf_ref_verify(&ref, g, KVF_SEGMENTS_MAX) ? KVF_F_page_cell : 0;
}

/* ---- layout ---------------------------------------------------------------------------------- */

static bool fence_is_legal(const struct kvf_geometry *g, u32 heap, u32 off, u32 len)
{
	if (!off)
		return !len;
	return len && len <= g->key_max && off * UNIT <= heap && len <= off * UNIT;
}

int kvf_page_fences_verify(const u8 *lower, u32 lower_len, const u8 *upper, u32 upper_len, u32 prefix_len)
{
	if (prefix_len && (!lower || !upper || prefix_len > lower_len || prefix_len > upper_len ||
			   memcmp(lower, upper, prefix_len)))
		return KVF_F_page_layout;
	if (lower && upper && kvf_key_compare(lower, lower_len, upper, upper_len) >= 0)
		return KVF_F_page_fence;
	return 0;
}

/* Bounds of heap, slots and fences; *used = bytes of heap that the fences take. */
static int bounds_verify(const struct kvf_page *p, u32 len, const struct kvf_geometry *g, u32 *used)
{
	u32 heap = le32_to_cpu(p->heap), nr = le16_to_cpu(p->nr);
	u32 prefix_len = le16_to_cpu(p->prefix_len);
	u32 lower_len, upper_len;
	const u8 *lower, *upper;
	int finding;

	if (len < sizeof(*p) || len > g->frame || len % UNIT)
		return KVF_F_page_size;
	if (heap % UNIT || heap > len || le32_to_cpu(p->holes) > heap ||
	    sizeof(*p) + nr * sizeof(struct kvf_slot) + heap > len)
		return KVF_F_page_layout;
	if (!fence_is_legal(g, heap, le16_to_cpu(p->lower_off), le16_to_cpu(p->lower_len)) ||
	    !fence_is_legal(g, heap, le16_to_cpu(p->upper_off), le16_to_cpu(p->upper_len)))
		return KVF_F_page_layout;
	lower = kvf_page_lower(p, len, &lower_len);
	upper = kvf_page_upper(p, len, &upper_len);
	*used = (u32)(KVF_ROUND_UP(lower_len, UNIT) + KVF_ROUND_UP(upper_len, UNIT));
	finding = kvf_page_fences_verify(lower, lower_len, upper, upper_len, prefix_len);
	if (finding)
		return finding;
	if (!kvf_is_zero(lower ? lower + lower_len : NULL, -lower_len % UNIT) ||
	    !kvf_is_zero(upper ? upper + upper_len : NULL, -upper_len % UNIT))
		return KVF_F_page_reserved;
	return 0;
}

/* Slot and item i in bounds, key not too long, cell well formed; adds the item's bytes to *used. */
static int item_verify(const struct kvf_page *p, u32 len, u32 i, const struct kvf_geometry *g,
		       u32 *used)
{
	const struct kvf_slot *slot = kvf_page_slots(p) + i;
	u32 off = le16_to_cpu(slot->off) * UNIT, suffix_len = le16_to_cpu(slot->suffix_len);
	u32 key_len = le16_to_cpu(p->prefix_len) + suffix_len;
	const struct kvf_item *item;
	u32 cell_len, bytes;
	const u8 *cell;
	u8 flags;

	if (off < sizeof(*item) || off > le32_to_cpu(p->heap))
		return KVF_F_page_layout;
	item = kvf_page_item(p, len, i);
	cell_len = le16_to_cpu(item->cell_len);
	bytes = (u32)sizeof(*item) + suffix_len + cell_len;
	if (KVF_ROUND_UP(bytes, UNIT) > off)
		return KVF_F_page_layout;
	if (key_len > g->key_max || suffix_len + cell_len > g->item_max || (!p->level && !key_len))
		return KVF_F_page_layout;
	*used += (u32)KVF_ROUND_UP(bytes, UNIT);
	if (le32_to_cpu(slot->head) != kvf_key_head(suffix_of(p, len, i), suffix_len))
		return KVF_F_page_order;
	if (item->reserved)
		return KVF_F_page_cell;
	if (!kvf_is_zero((const u8 *)item + bytes, -bytes % UNIT))
		return KVF_F_page_reserved;
	cell = kvf_page_cell(p, len, i, &cell_len, &flags);
	return p->level ? child_verify(flags, cell, cell_len, g)
			: kvf_cell_verify(flags, cell, cell_len, g);
}

/*
 * Keys between the fences. As the prefix is common to fences and keys, the rest is compared. Slot 0 of
 * an inner page may stand below the lower fence: it stands for all that is below slot 1.
 */
static int fences_verify(const struct kvf_page *p, u32 len)
{
	u32 nr = le16_to_cpu(p->nr), prefix_len = le16_to_cpu(p->prefix_len), flen;
	u32 first = p->level ? 1 : 0;
	const u8 *fence;

	fence = kvf_page_lower(p, len, &flen);
	if (fence && nr > first &&
	    kvf_key_compare(suffix_of(p, len, first), le16_to_cpu(kvf_page_slots(p)[first].suffix_len),
		    fence + prefix_len, flen - prefix_len) < 0)
		return KVF_F_page_fence;
	fence = kvf_page_upper(p, len, &flen);
	if (fence && nr > 0 &&
	    kvf_key_compare(suffix_of(p, len, nr - 1), le16_to_cpu(kvf_page_slots(p)[nr - 1].suffix_len),
		    fence + prefix_len, flen - prefix_len) >= 0)
		return KVF_F_page_fence;
	return 0;
}

static int order_verify(const struct kvf_page *p, u32 len)
{
	const struct kvf_slot *slots = kvf_page_slots(p);
	u32 i, nr = le16_to_cpu(p->nr);

	/* Heads are those of the suffixes by now: where they rise, the keys do. */
	for (i = 1; i < nr; i++)
		if (le32_to_cpu(slots[i - 1].head) >= le32_to_cpu(slots[i].head) &&
		    kvf_key_compare(suffix_of(p, len, i - 1), le16_to_cpu(slots[i - 1].suffix_len),
			    suffix_of(p, len, i), le16_to_cpu(slots[i].suffix_len)) >= 0)
			return KVF_F_page_order;
	return 0;
}

int kvf_page_layout_verify(const void *page, u32 len, const struct kvf_geometry *g)
{
	const struct kvf_page *p = page;
	u32 i, nr, used = 0;
	int finding;

	if (len < sizeof(*p))
		return KVF_F_page_size;
	if (p->level >= KVF_DEPTH_MAX)
		return KVF_F_page_level;
	if (!kvf_is_zero(p->reserved, sizeof(p->reserved)))
		return KVF_F_page_reserved;
	nr = le16_to_cpu(p->nr);
	finding = bounds_verify(p, len, g, &used);
	if (finding)
		return finding;
	/* an inner page without children leads nowhere */
	if (p->level && !nr)
		return KVF_F_page_layout;
	for (i = 0; i < nr; i++) {
		finding = item_verify(p, len, i, g, &used);
		if (finding)
			return finding;
	}
	if (used != le32_to_cpu(p->heap) - le32_to_cpu(p->holes))
		return KVF_F_page_layout;
	finding = order_verify(p, len);
	return finding ? finding : fences_verify(p, len);
}

/* ---- whole pages ------------------------------------------------------------------------------- */

/*
 * Header from body_sum on: what names the page, with the sum of the rest. What stands before the sum
 * (magic, level, flags, number of slots) is the seed, so that no byte of a page is without a sum.
 */
static u64 head_sum(const struct kvf_page *p)
{
	return kvp_xxh64(&p->body_sum, sizeof(*p) - __builtin_offsetof(struct kvf_page, body_sum),
			 kvf_get64(p));
}

static u64 body_sum(const struct kvf_page *p, u32 len)
{
	return kvp_xxh64(p + 1, len - sizeof(*p), 0);
}

void kvf_page_seal(void *page, u32 len)
{
	struct kvf_page *p = page;

	p->magic = cpu_to_le32(KVF_PAGE_MAGIC);
	p->bytes = cpu_to_le32(len);
	p->body_sum = cpu_to_le64(body_sum(p, len));
	p->head_sum = cpu_to_le64(head_sum(p));
}

static int sums_verify(const struct kvf_page *p, u32 len, const struct kvf_geometry *g)
{
	if (len < sizeof(*p) || len > g->frame || len % g->block)
		return KVF_F_page_size;
	if (le32_to_cpu(p->magic) != KVF_PAGE_MAGIC)
		return KVF_F_page_magic;
	if (le64_to_cpu(p->head_sum) != head_sum(p))
		return KVF_F_page_head_sum;
	if (le32_to_cpu(p->bytes) != len)
		return KVF_F_page_size;
	if (le64_to_cpu(p->body_sum) != body_sum(p, len))
		return KVF_F_page_body_sum;
	return 0;
}

/* Is it the page that was asked for? */
static int identity_verify(const struct kvf_page *p, u32 len, u64 addr,
			   const struct kvf_page_expect *e, const struct kvf_geometry *g)
{
	u64 block0 = le64_to_cpu(p->block0), block1 = le64_to_cpu(p->block1);
	const struct kvf_ref *ref = e->ref;

	if (e->uuid && memcmp(p->uuid, e->uuid, sizeof(p->uuid)))
		return KVF_F_page_foreign;
	if (addr && addr != block0 && addr != block1)
		return KVF_F_page_address;
	if (!block0 || !block1 == !!(p->flags & KVF_PAGE_TWIN))
		return KVF_F_page_address;
	if (ref && (p->block0 != ref->block0 || p->block1 != ref->block1))
		return KVF_F_page_address;
	if (ref && (u64)le32_to_cpu(ref->blocks) << g->block_shift != len)
		return KVF_F_page_size;
	if (ref && p->generation != ref->birth)
		return KVF_F_page_generation;
	if (e->tree && le32_to_cpu(p->tree) != e->tree)
		return KVF_F_page_tree;
	if (e->level >= 0 && p->level != e->level)
		return KVF_F_page_level;
	if (ref && p->head_sum != ref->sum)
		return KVF_F_page_stale;
	return 0;
}

/* What is zero on the medium: unknown flags, hints, holes, the gap that slots, heap or entries leave. */
static int reserved_verify(const struct kvf_page *p, u32 len)
{
	bool compact = p->flags & KVF_PAGE_COMPACT;
	size_t taken = compact ? 0 : le16_to_cpu(p->nr) * sizeof(struct kvf_slot);
	size_t heap = le32_to_cpu(p->heap);

	if (p->flags & ~(KVF_PAGE_TWIN | KVF_PAGE_COMPACT) || p->holes != cpu_to_le32(0) ||
	    !kvf_is_zero(p->hints, sizeof(p->hints)))
		return KVF_F_page_reserved;
	if (!kvf_is_zero((const u8 *)(p + 1) + (compact ? heap : taken), len - sizeof(*p) - heap - taken))
		return KVF_F_page_reserved;
	return 0;
}

/* A leaf that is stored once may be compact. */
static bool form_is_legal(const struct kvf_page *p)
{
	return !(p->flags & KVF_PAGE_COMPACT) || (!p->level && !(p->flags & KVF_PAGE_TWIN));
}

/*
 * A packed heap is in canonical order from the end: lower fence, upper fence, items in the order of their
 * slots, no gaps. So items cannot overlap, and a change of one in memory cannot reach another.
 */
static int canonical_verify(const void *page, u32 len)
{
	const struct kvf_page *p = page;
	const struct kvf_slot *slot = kvf_page_slots(page);
	u32 at = 0, i, nr = le16_to_cpu(p->nr);
	const struct kvf_item *it;

	if (p->lower_off != cpu_to_le16(0)) {
		at += (u32)KVF_ROUND_UP(le16_to_cpu(p->lower_len), 4);
		if (le16_to_cpu(p->lower_off) * 4u != at)
			return KVF_F_page_layout;
	}
	if (p->upper_off != cpu_to_le16(0)) {
		at += (u32)KVF_ROUND_UP(le16_to_cpu(p->upper_len), 4);
		if (le16_to_cpu(p->upper_off) * 4u != at)
			return KVF_F_page_layout;
	}
	for (i = 0; i < nr; i++) {
		it = kvf_page_item(page, len, i);
		at += (u32)KVF_ROUND_UP((u32)sizeof(*it) + le16_to_cpu(slot[i].suffix_len) +
					le16_to_cpu(it->cell_len), 4);
		if (le16_to_cpu(slot[i].off) * 4u != at)
			return KVF_F_page_layout;
	}
	return 0;
}

int kvf_page_sealed_verify(const void *page, u32 len, u64 addr, const struct kvf_page_expect *e,
			   const struct kvf_geometry *g)
{
	const struct kvf_page *p = page;
	int finding = identity_verify(page, len, addr, e, g);

	if (!finding && !form_is_legal(p))
		finding = KVF_F_page_reserved;
	if (!finding && p->flags & KVF_PAGE_COMPACT) {
		finding = kvf_leaf_verify(page, len, g);
	} else if (!finding) {
		finding = kvf_page_layout_verify(page, len, g);
		if (!finding)
			finding = canonical_verify(page, len);
	}
	if (!finding)
		finding = reserved_verify(page, len);
	return finding;
}

int kvf_page_verify(const void *page, u32 len, u64 addr, const struct kvf_page_expect *e,
		    const struct kvf_geometry *g)
{
	int finding = sums_verify(page, len, g);

	return finding ? finding : kvf_page_sealed_verify(page, len, addr, e, g);
}
