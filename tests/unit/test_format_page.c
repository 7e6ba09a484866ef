/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_format_page.c - pages, cells and refs.
 *
 * Pages are laid out by a builder of this file from docs/FORMAT.md alone, not by the engine. One row for
 * each way to be wrong expects the very finding; every flipped bit is found; pages changed at random and
 * sealed again either fail or can be walked, read and printed in a buffer of exactly their size (run with
 * sanitizers). Rows C7, C16 (docs/CONTRACT.md).
 */
#include <stdlib.h>
#include <string.h>

#include "../../format/kvf.h"
#include "tests/unit/suite.h"

#define BYTES 1024u
#define ADDR 81u /* block 1 of segment 10 */
#define TWIN 89u
#define SEGMENTS 40u

static u64 rng = 0xda3e39cb94b95bdbull;

static u32 rnd(u32 n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (u32)((rng >> 11) % n);
}

static struct kvf_geometry tiny;
static const u8 uuid[16] = "0123456789abcde";

static void setup(void)
{
	ck_assert_int_eq(kvf_geometry_derive(&tiny, 9, 12, 11, 0, 0, 0), 0);
}

static void assert_finding(const char *row, int got, int want)
{
	ck_assert_msg(got == want, "%s: %d (%s), expected %d (%s)", row, got, kvf_finding_name(got), want,
		      kvf_finding_name(want));
}

/* ---- builder ---------------------------------------------------------------------------------- */

struct made {
	u8 *page; /* BYTES, exactly */
	struct kvf_page *p;
	struct kvf_slot *slot;
	struct kvf_ref ref; /* what the parent would say */
};

static u16 heap_put(struct made *m, const void *bytes, u32 len)
{
	u32 heap = le32_to_cpu(m->p->heap) + (u32)KVF_ROUND_UP(len, 4);

	m->p->heap = cpu_to_le32(heap);
	memcpy(m->page + BYTES - heap, bytes, len);
	return (u16)(heap / 4);
}

static void add(struct made *m, const char *suffix, u8 flags, const void *cell, u32 cell_len)
{
	u32 i = le16_to_cpu(m->p->nr), len = (u32)strlen(suffix);
	u8 item[256] = { 0 }, head[4] = { 0 };

	item[0] = (u8)cell_len;
	item[1] = (u8)(cell_len >> 8);
	item[2] = flags;
	memcpy(item + 4, suffix, len);
	memcpy(item + 4 + len, cell, cell_len);
	memcpy(head, suffix, len < 4 ? len : 4);
	m->slot[i].head = cpu_to_le32(kvf_get_be32(head));
	m->slot[i].off = cpu_to_le16(heap_put(m, item, 4 + len + cell_len));
	m->slot[i].suffix_len = cpu_to_le16((u16)len);
	m->p->nr = cpu_to_le16((u16)(i + 1));
}

static struct kvf_ref child(u64 block)
{
	struct kvf_ref r = { .block0 = cpu_to_le64(block), .blocks = cpu_to_le32(1),
			     .birth = cpu_to_le64(3), .sum = cpu_to_le64(77) };

	return r;
}

static void seal(struct made *m)
{
	kvf_page_seal(m->page, BYTES);
	m->ref.sum = m->p->head_sum;
}

static void start(struct made *m, u8 level, const char *lower, const char *upper, u32 prefix)
{
	memset(m, 0, sizeof(*m));
	m->page = calloc(1, BYTES);
	ck_assert_ptr_nonnull(m->page);
	m->p = (struct kvf_page *)m->page;
	m->slot = (struct kvf_slot *)(m->p + 1);
	memcpy(m->p->uuid, uuid, sizeof(uuid));
	m->p->level = level;
	m->p->flags = KVF_PAGE_TWIN;
	m->p->block0 = cpu_to_le64(ADDR);
	m->p->block1 = cpu_to_le64(TWIN);
	m->p->generation = cpu_to_le64(4);
	m->p->lsn = cpu_to_le64(60);
	m->p->tree = cpu_to_le32(KVF_TREE_USER);
	m->ref = child(ADDR);
	m->ref.block1 = m->p->block1;
	m->ref.blocks = cpu_to_le32(2);
	m->ref.birth = m->p->generation;
	if (lower) {
		m->p->lower_off = cpu_to_le16(heap_put(m, lower, (u32)strlen(lower)));
		m->p->lower_len = cpu_to_le16((u16)strlen(lower));
	}
	if (upper) {
		m->p->upper_off = cpu_to_le16(heap_put(m, upper, (u32)strlen(upper)));
		m->p->upper_len = cpu_to_le16((u16)strlen(upper));
	}
	m->p->prefix_len = cpu_to_le16((u16)prefix);
}

static const struct kvf_value_ref value_ref = {
	.segment = 9, .segment_gen = 2, .offset = 1024, .payload_len = 300, .lsn = 44, .head_len = 62
};
static const struct kvf_object object = { .object = 5, .length = 5000, .chunk_bytes = 1024 };

/* Keys user:1, user:12, user:2, user:30 between "user:1" and "user:4"; a cell of each kind. */
static void good_leaf(struct made *m)
{
	static const u8 ext[16 + 3] = { 2, KVF_TYPE_STRING, KVF_EXT_EXPIRY, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5,
					6, 7, 8, 'o', 'n', 'e' };

	start(m, 0, "user:1", "user:4", 5);
	add(m, "1", KVF_CELL_EXT, ext, sizeof(ext));
	add(m, "12", KVF_CELL_REF, &value_ref, sizeof(value_ref));
	add(m, "2", KVF_CELL_OBJECT, &object, sizeof(object));
	add(m, "30", KVF_CELL_INLINE | KVF_CELL_POISON, "abcde", 5);
	seal(m);
}

static void good_inner(struct made *m)
{
	struct kvf_ref a = child(ADDR + 2), b = child(ADDR + 3), c = child(ADDR + 4);

	start(m, 1, "dd", NULL, 0);
	add(m, "", 0, &a, sizeof(a));
	add(m, "k", 0, &b, sizeof(b));
	add(m, "longer", 0, &c, sizeof(c));
	seal(m);
}

/* Bytes behind what there is; heap is what has been put. */
static void put(struct made *m, const void *bytes, u32 len)
{
	u32 heap = le32_to_cpu(m->p->heap);

	memcpy((u8 *)(m->p + 1) + heap, bytes, len);
	m->p->heap = cpu_to_le32(heap + len);
}

#define PUT(m, ...) put(m, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* What good_leaf has. value_ref in numbers: the page's lsn is 60. */
static void good_compact(struct made *m)
{
	start(m, 0, NULL, NULL, 5);
	m->p->flags = KVF_PAGE_COMPACT;
	m->p->block1 = m->ref.block1 = cpu_to_le64(0);
	m->p->lower_len = m->p->upper_len = cpu_to_le16(6);
	put(m, "user:1user:4", 12);
	PUT(m, 1 << 4 | KVF_CELL_EXT, 19, '1', 2, KVF_TYPE_STRING, KVF_EXT_EXPIRY, 0, 0, 0, 0, 0);
	PUT(m, 1, 2, 3, 4, 5, 6, 7, 8, 'o', 'n', 'e');
	PUT(m, 2 << 4 | KVF_CELL_REF, '1', '2', 0, 0, 0, 0, 9, 2, 64, 0xac, 2, 16, 62);
	PUT(m, 1 << 4 | KVF_CELL_OBJECT, 24, '2');
	put(m, &object, sizeof(object));
	PUT(m, 2 << 4 | KVF_CELL_POISON, 5, '3', '0', 'a', 'b', 'c', 'd', 'e');
	m->p->nr = cpu_to_le16(4);
	seal(m);
}

/* Bytes of good_compact from the end of the header on. */
enum { LOWER = 0, UPPER = 6, FIRST = 12, SECOND = 34, THIRD = 48, FOURTH = 75, COMPACT_END = 84 };

static struct kvf_page_expect expect(const struct made *m)
{
	struct kvf_page_expect e = { .uuid = uuid, .ref = &m->ref, .tree = KVF_TREE_USER,
				     .level = m->p->level };

	return e;
}

static int verify(const struct made *m)
{
	struct kvf_page_expect e = expect(m);

	return kvf_page_verify(m->page, BYTES, ADDR, &e, &tiny);
}

/* ---- what is right ------------------------------------------------------------------------------ */

START_TEST(leaf_round_trip)
{
	static const char *const keys[] = { "user:1", "user:12", "user:2", "user:30" };
	struct kvf_page_expect alone = { .level = -1 };
	char key[256], text[4096];
	struct made m;
	const u8 *cell;
	u32 i, len;
	u8 flags;

	good_leaf(&m);
	assert_finding("leaf", verify(&m), 0);
	assert_finding("alone", kvf_page_verify(m.page, BYTES, 0, &alone, &tiny), 0);
	assert_finding("twin", kvf_page_verify(m.page, BYTES, TWIN, &alone, &tiny), 0);
	for (i = 0; i < 4; i++) {
		len = kvf_page_key(m.page, BYTES, i, key);
		ck_assert_uint_eq(len, strlen(keys[i]));
		ck_assert_int_eq(memcmp(key, keys[i], len), 0);
	}
	cell = kvf_page_cell(m.page, BYTES, 3, &len, &flags);
	ck_assert_uint_eq(len, 5);
	ck_assert_int_eq(memcmp(cell, "abcde", 5), 0);
	ck_assert_uint_eq(flags, KVF_CELL_POISON);
	ck_assert_int_eq(memcmp(kvf_page_lower(m.page, BYTES, &len), "user:1", 6), 0);
	ck_assert_uint_eq(len, 6);
	ck_assert_int_eq(memcmp(kvf_page_upper(m.page, BYTES, &len), "user:4", 6), 0);
	ck_assert_uint_lt(kvf_page_to_text(text, sizeof(text), m.page, BYTES), sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "slot 1: user:12 -> segment 9 gen 2 offset 1024 bytes 300"));
	ck_assert_ptr_nonnull(strstr(text, "slot 0: user:1 -> type string inline of 3 bytes"));
	free(m.page);
}
END_TEST

START_TEST(inner_round_trip)
{
	struct made m;
	char text[4096];
	u32 len;

	good_inner(&m);
	assert_finding("inner", verify(&m), 0);
	ck_assert_ptr_null(kvf_page_upper(m.page, BYTES, &len));
	ck_assert_uint_eq(len, 0);
	kvf_page_to_text(text, sizeof(text), m.page, BYTES);
	ck_assert_ptr_nonnull(strstr(text, "slot 2: longer -> block 85+1 birth 3 sum 000000000000004d"));
	free(m.page);
	/* an empty leaf without fences: a tree that has lost its last key */
	start(&m, 0, NULL, NULL, 0);
	seal(&m);
	assert_finding("empty", verify(&m), 0);
	free(m.page);
}
END_TEST

START_TEST(compact_round_trip)
{
	u8 *frame = calloc(1, tiny.frame), *again = calloc(1, tiny.frame);
	struct kvf_page *p = (struct kvf_page *)frame;
	u32 i, len, other_len, end = sizeof(struct kvf_page) + COMPACT_END;
	struct made m, plain;
	u8 key[256], other[256], flags, other_flags;
	char text[4096];
	const u8 *cell;

	good_compact(&m);
	good_leaf(&plain);
	ck_assert_uint_eq(le32_to_cpu(m.p->heap), COMPACT_END);
	assert_finding("compact", verify(&m), 0);
	ck_assert_uint_lt(kvf_page_to_text(text, sizeof(text), m.page, BYTES), sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "entry 1: user:12 -> segment 9 gen 2 offset 1024"));
	memcpy(frame, m.page, BYTES);
	/* damaged ones are printed as far as they go */
	m.p->heap = cpu_to_le32(~0u);
	kvf_page_to_text(text, sizeof(text), m.page, BYTES);
	ck_assert_ptr_nonnull(strstr(text, "fences out of bounds"));
	m.p->heap = cpu_to_le32(COMPACT_END - 1);
	kvf_page_to_text(text, sizeof(text), m.page, BYTES);
	ck_assert_ptr_nonnull(strstr(text, "entry 1: user:12"));
	ck_assert_ptr_nonnull(strstr(text, "entries out of bounds"));
	memcpy(m.page, frame, BYTES);
	kvf_leaf_unpack(frame, tiny.frame);
	assert_finding("frame", kvf_page_layout_verify(frame, tiny.frame, &tiny), 0);
	for (i = 0; i < 4; i++) {
		len = kvf_page_key(frame, tiny.frame, i, key);
		other_len = kvf_page_key(plain.page, BYTES, i, other);
		ck_assert_uint_eq(len, other_len);
		ck_assert_int_eq(memcmp(key, other, len), 0);
		cell = kvf_page_cell(frame, tiny.frame, i, &len, &flags);
		ck_assert_int_eq(memcmp(cell, kvf_page_cell(plain.page, BYTES, i, &other_len, &other_flags),
					len), 0);
		ck_assert_uint_eq(len, other_len);
		ck_assert_uint_eq(flags, other_flags);
	}
	ck_assert_int_eq(memcmp(kvf_page_lower(frame, tiny.frame, &len), "user:1", 6), 0);
	ck_assert_int_eq(memcmp(kvf_page_upper(frame, tiny.frame, &len), "user:4", 6), 0);
	/* and back: the same bytes, in so much room and no less */
	ck_assert_uint_eq(kvf_leaf_pack(frame, tiny.frame, again, end - 1), 0);
	ck_assert_uint_eq(kvf_leaf_pack(frame, tiny.frame, again, end), end);
	p = (struct kvf_page *)again;
	ck_assert_uint_eq(le64_to_cpu(p->head_sum), le64_to_cpu(m.p->head_sum));
	ck_assert_int_eq(memcmp(again, m.page, end), 0);
	free(frame);
	free(again);
	free(m.page);
	free(plain.page);
}
END_TEST

/* A frame in memory has hints and holes, and is whole otherwise. */
START_TEST(frame_in_memory)
{
	struct made m;

	good_leaf(&m);
	m.p->hints[3] = cpu_to_le32(7);
	/* the item of slot 3 goes: 4 + 2 + 5 bytes, rounded up */
	m.p->nr = cpu_to_le16(3);
	m.p->holes = cpu_to_le32(12);
	assert_finding("holes", kvf_page_layout_verify(m.page, BYTES, &tiny), 0);
	m.p->holes = cpu_to_le32(8);
	assert_finding("accounts", kvf_page_layout_verify(m.page, BYTES, &tiny), KVF_F_page_layout);
	free(m.page);
}
END_TEST

/* ---- what is wrong ------------------------------------------------------------------------------ */

enum { RAW, SUM, REF }; /* seal nothing; the sums; the sums and what the parent says of them */

static struct kvf_item *item(struct made *m, u32 i)
{
	return (struct kvf_item *)(m->page + BYTES - 4 * le16_to_cpu(m->slot[i].off));
}

/* x(row, what is sealed, finding, leaf or inner, change). FORMAT I-401 to I-416 */
#define CASES(x) \
	x(magic, RAW, page_magic, leaf, m->page[0] ^= 1) \
	x(head_sum, RAW, page_head_sum, leaf, m->p->lsn = cpu_to_le64(61)) \
	x(body_sum, RAW, page_body_sum, leaf, m->page[BYTES - 1] ^= 1) \
	x(uuid, REF, page_foreign, leaf, m->p->uuid[15] = 1) \
	x(addr, REF, page_address, leaf, m->p->block0 = m->ref.block0 = cpu_to_le64(ADDR + 1)) \
	x(addr_ref, REF, page_address, leaf, m->ref.block1 = cpu_to_le64(TWIN + 1)) \
	x(addr_twin, REF, page_address, leaf, m->p->flags = 0) \
	x(addr_once, REF, page_address, leaf, m->p->block1 = m->ref.block1 = cpu_to_le64(0)) \
	x(generation, REF, page_generation, leaf, m->p->generation = cpu_to_le64(3)) \
	x(tree, REF, page_tree, leaf, m->p->tree = cpu_to_le32(17)) \
	x(level, REF, page_level, leaf, m->p->level = 1) \
	x(level_deep, REF, page_level, inner, m->p->level = KVF_DEPTH_MAX) \
	x(stale, SUM, page_stale, leaf, m->p->lsn = cpu_to_le64(59)) \
	x(size_ref, REF, page_size, leaf, m->ref.blocks = cpu_to_le32(1)) \
	x(heap, REF, page_layout, leaf, m->p->heap = cpu_to_le32(BYTES)) \
	x(heap_huge, REF, page_layout, leaf, m->p->heap = cpu_to_le32(0xfffffffcu)) \
	x(heap_align, REF, page_layout, leaf, m->p->heap = cpu_to_le32(le32_to_cpu(m->p->heap) + 1)) \
	x(heap_account, REF, page_layout, leaf, m->p->heap = cpu_to_le32(le32_to_cpu(m->p->heap) + 4)) \
	x(nr, REF, page_layout, leaf, m->p->nr = cpu_to_le16(0xffff)) \
	x(nr_inner, REF, page_layout, inner, m->p->nr = cpu_to_le16(0)) \
	x(lower_off, REF, page_layout, leaf, m->p->lower_off = cpu_to_le16(0x4000)) \
	x(lower_len, REF, page_layout, leaf, m->p->lower_len = cpu_to_le16(9)) \
	x(lower_none, REF, page_layout, leaf, m->p->lower_off = cpu_to_le16(0)) \
	x(upper_empty, REF, page_layout, leaf, m->p->upper_len = cpu_to_le16(0)) \
	x(upper_far, REF, page_layout, leaf, m->p->upper_off = cpu_to_le16(0xffff)) \
	x(prefix, REF, page_layout, leaf, m->p->prefix_len = cpu_to_le16(6)) \
	x(prefix_long, REF, page_layout, leaf, m->p->prefix_len = cpu_to_le16(7)) \
	x(prefix_inner, REF, page_layout, inner, m->p->prefix_len = cpu_to_le16(1)) \
	x(slot_off, REF, page_layout, leaf, m->slot[1].off = cpu_to_le16(0)) \
	x(slot_far, REF, page_layout, leaf, m->slot[1].off = cpu_to_le16(0xffff)) \
	x(suffix_long, REF, page_layout, leaf, m->slot[1].suffix_len = cpu_to_le16(0xffff)) \
	x(cell_long, REF, page_layout, leaf, item(m, 0)->cell_len = cpu_to_le16(0xffff)) \
	x(key_none, REF, page_layout, leaf, none(m)) \
	x(head, REF, page_order, leaf, m->slot[1].head = cpu_to_le32(0x31330000u)) \
	x(order, REF, page_order, leaf, swap(m, 1, 2)) \
	x(twice, REF, page_order, leaf, same(m)) \
	x(below, REF, page_fence, leaf, fence(m, 0, '2')) \
	x(above, REF, page_fence, leaf, fence(m, 1, '3')) \
	x(crossed, REF, page_fence, leaf, fence(m, 1, '1')) \
	x(below_inner, REF, page_fence, inner, m->page[BYTES - 4] = 'z') \
	x(item_reserved, REF, page_cell, leaf, item(m, 1)->reserved = 1) \
	x(cell_flags, REF, page_cell, leaf, item(m, 3)->flags = 0x10) \
	x(cell_ref_len, REF, page_cell, leaf, item(m, 2)->flags = KVF_CELL_REF) \
	x(inner_flags, REF, page_cell, inner, item(m, 1)->flags = 1) \
	x(inner_zero, REF, page_cell, inner, memset((u8 *)item(m, 1) + 5, 0, 40)) \
	x(flag, REF, page_reserved, leaf, m->p->flags |= 0x04) \
	x(hints, REF, page_reserved, leaf, m->p->hints[15] = cpu_to_le32(1)) \
	x(gap, REF, page_reserved, leaf, m->page[sizeof(*m->p) + 4 * 8] = 1) \
	x(reserved, REF, page_reserved, leaf, m->p->reserved[5] = 1) \
	x(padding, REF, page_reserved, leaf, ((u8 *)item(m, 3))[11] = 1) \
	x(fence_padding, REF, page_reserved, leaf, m->page[BYTES - 1] = 1) \
	x(compact_inner, REF, page_reserved, inner, m->p->flags |= KVF_PAGE_COMPACT) \
	x(compact_twin, REF, page_reserved, leaf, m->p->flags |= KVF_PAGE_COMPACT) \
	x(compact_not, REF, page_layout, compact, m->p->flags = 0) \
	x(compact_reserved, REF, page_reserved, compact, m->p->reserved[0] = 1) \
	x(compact_hints, REF, page_reserved, compact, m->p->hints[0] = cpu_to_le32(1)) \
	x(compact_holes, REF, page_reserved, compact, m->p->holes = cpu_to_le32(4)) \
	x(compact_rest, REF, page_reserved, compact, at(m, COMPACT_END)[0] = 1) \
	x(compact_heap, REF, page_layout, compact, m->p->heap = cpu_to_le32(COMPACT_END + 1)) \
	x(compact_short, REF, page_layout, compact, m->p->heap = cpu_to_le32(COMPACT_END - 1)) \
	x(compact_huge, REF, page_layout, compact, m->p->heap = cpu_to_le32(BYTES - 167)) \
	x(compact_fences, REF, page_layout, compact, m->p->heap = cpu_to_le32(11)) \
	x(compact_nr, REF, page_layout, compact, m->p->nr = cpu_to_le16(5)) \
	x(compact_fewer, REF, page_layout, compact, m->p->nr = cpu_to_le16(3)) \
	x(compact_lower_off, REF, page_layout, compact, m->p->lower_off = cpu_to_le16(2)) \
	x(compact_upper_off, REF, page_layout, compact, m->p->upper_off = cpu_to_le16(4)) \
	x(compact_lower_len, REF, page_layout, compact, m->p->lower_len = cpu_to_le16(109)) \
	x(compact_upper_len, REF, page_layout, compact, m->p->upper_len = cpu_to_le16(109)) \
	x(compact_prefix, REF, page_layout, compact, m->p->prefix_len = cpu_to_le16(6)) \
	x(compact_crossed, REF, page_fence, compact, at(m, UPPER)[5] = '1') \
	x(compact_below, REF, page_fence, compact, at(m, LOWER)[5] = '2') \
	x(compact_above, REF, page_fence, compact, at(m, UPPER)[5] = '3') \
	x(compact_order, REF, page_order, compact, at(m, THIRD)[2] = '1') \
	x(compact_key_none, REF, page_layout, compact, unnamed(m)) \
	x(compact_key_long, REF, page_layout, compact, too_long(m)) \
	x(compact_cell_long, REF, page_layout, compact, at(m, FOURTH)[1] = 6) \
	x(compact_flags, REF, page_cell, compact, at(m, FOURTH)[0] = 2 << 4 | KVF_CELL_EXT) \
	x(compact_object, REF, page_cell, compact, at(m, THIRD)[0] = 1 << 4 | 3) \
	x(compact_ref, REF, page_cell, compact, at(m, SECOND)[7] = 2) \
	x(compact_not_shortest, REF, page_layout, compact, at(m, SECOND)[11] = 0) \
	x(compact_no_end, REF, page_layout, compact, at(m, FOURTH)[1] = 0x80) \
	x(compact_longer, REF, page_layout, compact, longer(m)) \
	x(compact_beyond_frame, REF, page_layout, compact, beyond_frame(m))

static void none(struct made *m)
{
	/* a leaf without prefix and fences whose first key is empty: bytes of the key join the cell */
	m->p->prefix_len = cpu_to_le16(0);
	m->slot[0].suffix_len = cpu_to_le16(0);
}

static void swap(struct made *m, u32 a, u32 b)
{
	struct kvf_slot s = m->slot[a];

	m->slot[a] = m->slot[b];
	m->slot[b] = s;
}

/* Key user:2 once more in place of user:30 (same item size needed for the page's accounts). */
static void same(struct made *m)
{
	m->p->heap = cpu_to_le32(le32_to_cpu(m->p->heap) - 12);
	m->p->nr = cpu_to_le16(3);
	memset(&m->slot[3], 0, sizeof(m->slot[3]));
	memset(m->page + BYTES - le32_to_cpu(m->p->heap) - 12, 0, 12);
	add(m, "2", 0, "abcdef", 6);
}

/* Last byte of the lower (0) or upper (1) fence. */
static void fence(struct made *m, int which, char last)
{
	u32 len;
	u8 *f = (u8 *)(which ? kvf_page_upper(m->page, BYTES, &len) : kvf_page_lower(m->page, BYTES, &len));

	f[len - 1] = (u8)last;
}

/* Byte i behind the header. */
static u8 *at(struct made *m, u32 i)
{
	return (u8 *)(m->p + 1) + i;
}

/* A compact leaf without prefix and fences, whose first key is empty. */
static void unnamed(struct made *m)
{
	memset(m->p + 1, 0, COMPACT_END);
	m->p->prefix_len = m->p->lower_len = m->p->upper_len = cpu_to_le16(0);
	m->p->heap = cpu_to_le32(0);
	m->p->nr = cpu_to_le16(1);
	PUT(m, 0, 1, 'v');
}

static void too_long(struct made *m)
{
	u8 key[109] = { 1 };

	unnamed(m);
	m->p->heap = cpu_to_le32(0);
	PUT(m, 0x80 | (109 << 4 & 0x7f), 109 << 4 >> 7, 0);
	put(m, key, sizeof(key));
}

/* A ref with numbers so large that it would be shorter in a frame. */
static void longer(struct made *m)
{
	unnamed(m);
	m->p->heap = cpu_to_le32(0);
	PUT(m, 4 << 4 | KVF_CELL_REF, 'l', 'o', 'n', 'g', 0, 0, 0, 0);
	PUT(m, 0xff, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x7f);
	PUT(m, 0xff, 0xff, 0xff, 0xff, 0x0f);
	PUT(m, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 3);
}

/* 170 keys of two bytes: 12 bytes and a slot each in a frame. */
static void beyond_frame(struct made *m)
{
	u32 i;

	unnamed(m);
	m->p->heap = cpu_to_le32(0);
	m->p->nr = cpu_to_le16(170);
	for (i = 0; i < 170; i++)
		PUT(m, 2 << 4, 0, (u8)('a' + i / 20), (u8)('a' + i % 20));
}

#define CASE_FN(row, seal, finding, kind, change) \
	static void case_##row(struct made *m) { change; }
CASES(CASE_FN)

static const struct {
	const char *row;
	int seal, finding;
	void (*make)(struct made *m), (*change)(struct made *m);
} cases[] = {
#define CASE_ROW(row, seal, finding, kind, change) \
	{ #row, seal, KVF_F_##finding, good_##kind, case_##row },
	CASES(CASE_ROW)
};

START_TEST(page_findings)
{
	struct kvf_page_expect e;
	struct made m;

	cases[_i].make(&m);
	e = expect(&m);
	cases[_i].change(&m);
	if (cases[_i].seal != RAW)
		kvf_page_seal(m.page, BYTES);
	if (cases[_i].seal == REF)
		m.ref.sum = m.p->head_sum;
	/* what the parent knows of the level is the number before the change, if there may be one */
	if (cases[_i].finding == KVF_F_page_level && m.p->level == KVF_DEPTH_MAX)
		e.level = -1;
	assert_finding(cases[_i].row, kvf_page_verify(m.page, BYTES, ADDR, &e, &tiny), cases[_i].finding);
	free(m.page);
}
END_TEST

/* FORMAT I-409 */
START_TEST(page_sizes)
{
	struct kvf_page_expect e = { .level = -1 };
	u8 *page = calloc(1, 8192);
	struct made m;

	good_leaf(&m);
	memcpy(page, m.page, BYTES);
	assert_finding("nothing", kvf_page_verify(page, 0, 0, &e, &tiny), KVF_F_page_size);
	assert_finding("no header", kvf_page_verify(page, 167, 0, &e, &tiny), KVF_F_page_size);
	assert_finding("half a block", kvf_page_verify(page, 768, 0, &e, &tiny), KVF_F_page_size);
	assert_finding("other", kvf_page_verify(page, 512, 0, &e, &tiny), KVF_F_page_size);
	assert_finding("beyond a frame", kvf_page_verify(page, 4096, 0, &e, &tiny), KVF_F_page_size);
	assert_finding("layout", kvf_page_layout_verify(page, 100, &tiny), KVF_F_page_size);
	free(page);
	free(m.page);
}
END_TEST

START_TEST(page_flipped_bits)
{
	struct made m;
	size_t bit;

	if (_i)
		good_compact(&m);
	else
		good_leaf(&m);
	for (bit = 0; bit < 8 * BYTES; bit++) {
		m.page[bit / 8] ^= (u8)(1u << bit % 8);
		ck_assert_msg(verify(&m), "bit %zu", bit);
		m.page[bit / 8] ^= (u8)(1u << bit % 8);
	}
	ck_assert_int_eq(verify(&m), 0);
	free(m.page);
}
END_TEST

/* After a good verdict everything can be read, whatever the bytes are. */
static void walk(const u8 *page, u32 bytes)
{
	u8 key[512];
	const struct kvf_page *p = (const struct kvf_page *)page;
	u32 i, len, ext_len, sum = 0;
	const u8 *cell;
	u8 flags;

	for (i = 0; i < le16_to_cpu(p->nr); i++) {
		len = kvf_page_key(page, bytes, i, key);
		ck_assert_uint_le(len, tiny.key_max);
		cell = kvf_page_cell(page, bytes, i, &len, &flags);
		ck_assert(cell >= page && cell + len <= page + bytes);
		while (len--)
			sum += *cell++;
		if (flags & KVF_CELL_EXT)
			ck_assert(p->level || !kvf_ext_verify(kvf_page_cell(page, bytes, i, &len, &flags),
							      len, &ext_len));
	}
	cell = kvf_page_lower(page, bytes, &len);
	for (i = 0; cell && i < len; i++)
		sum += cell[i];
	cell = kvf_page_upper(page, bytes, &len);
	for (i = 0; cell && i < len; i++)
		sum += cell[i];
	ck_assert_uint_ne(sum, 0xffffffffu);
}

/* As it is on the medium, or in a frame of exactly its size. */
static void walk_either(const struct made *m)
{
	u8 *frame;

	if (!(m->p->flags & KVF_PAGE_COMPACT)) {
		walk(m->page, BYTES);
		return;
	}
	frame = malloc(tiny.frame);
	ck_assert_ptr_nonnull(frame);
	memcpy(frame, m->page, BYTES);
	kvf_leaf_unpack(frame, tiny.frame);
	assert_finding("unpacked", kvf_page_layout_verify(frame, tiny.frame, &tiny), 0);
	walk(frame, tiny.frame);
	free(frame);
}

START_TEST(page_random)
{
	struct kvf_page_expect e = { .level = -1 };
	u32 i, k, at, good = 0;
	static char text[1 << 20];
	struct made m;

	for (i = 0; i < 60000; i++) {
		if (i % 3 == 0)
			good_compact(&m);
		else if (i % 3 == 1)
			good_leaf(&m);
		else
			good_inner(&m);
		for (k = rnd(4); k; k--) {
			/* in the header, the slots, the heap: where it hurts */
			at = rnd(3);
			at = at == 0 ? 4 + rnd(0x64) : at == 1 ? 0xa8 + rnd(40) : BYTES - 1 - rnd(160);
			m.page[at] = rnd(2) ? (u8)rnd(256) : (u8)(m.page[at] + rnd(9) - 4);
		}
		if (i % 64 == 0)
			for (k = sizeof(*m.p); k < BYTES; k++)
				m.page[k] = (u8)rnd(256);
		if (i % 8)
			kvf_page_seal(m.page, BYTES);
		if (!kvf_page_verify(m.page, BYTES, 0, &e, &tiny)) {
			walk_either(&m);
			good++;
		}
		if (!kvf_page_layout_verify(m.page, BYTES, &tiny))
			walk(m.page, BYTES);
		ck_assert_uint_lt(kvf_page_to_text(text, sizeof(text), m.page, BYTES), sizeof(text));
		free(m.page);
	}
	ck_assert_uint_gt(good, 1000);
}
END_TEST

/* ---- refs and cells ----------------------------------------------------------------------------- */

/* FORMAT I-501, I-502 */
START_TEST(refs)
{
	struct kvf_ref r = child(ADDR);

	assert_finding("good", kvf_ref_verify(&r, &tiny, SEGMENTS), 0);
	r.blocks = cpu_to_le32(4);
	r.block1 = cpu_to_le64(TWIN + 3);
	assert_finding("twin", kvf_ref_verify(&r, &tiny, SEGMENTS), 0);
	r.block1 = cpu_to_le64(TWIN + 4);
	assert_finding("twin across", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r.block1 = cpu_to_le64(ADDR + 3);
	assert_finding("twin overlaps", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r.block1 = cpu_to_le64(0);
	r.blocks = cpu_to_le32(5);
	assert_finding("beyond a frame", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r.blocks = cpu_to_le32(0);
	assert_finding("no blocks", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(8 * SEGMENTS + 1);
	assert_finding("beyond", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(80);
	assert_finding("header", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(8 * KVF_SEG_SUPER_B + 5);
	assert_finding("system", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(~0ull);
	assert_finding("huge", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(ADDR);
	r.reserved = cpu_to_le32(1);
	assert_finding("reserved", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	r = child(0);
	assert_finding("half empty", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_bounds);
	memset(&r, 0, sizeof(r));
	assert_finding("empty", kvf_ref_verify(&r, &tiny, SEGMENTS), KVF_F_ref_zero);
}
END_TEST

static int cell_of(u8 flags, const void *bytes, u32 len)
{
	u8 *exact = calloc(1, len + 1);
	int finding;

	/* cells stand at any alignment */
	memcpy(exact + 1, bytes, len);
	finding = kvf_cell_verify(flags, exact + 1, len, &tiny);
	free(exact);
	return finding;
}

START_TEST(cells)
{
	struct kvf_value_ref v = value_ref;
	struct kvf_object o = object;
	u8 buf[256] = { 0 };

	assert_finding("empty", cell_of(0, buf, 0), 0);
	assert_finding("kind 3", cell_of(3, buf, 32), KVF_F_page_cell);
	assert_finding("ref", cell_of(KVF_CELL_REF, &v, 32), 0);
	assert_finding("ref short", cell_of(KVF_CELL_REF, &v, 31), KVF_F_page_cell);
	assert_finding("object", cell_of(KVF_CELL_OBJECT, &o, 24), 0);
	assert_finding("object long", cell_of(KVF_CELL_OBJECT, buf, 32), KVF_F_page_cell);
	assert_finding("ext", cell_of(KVF_CELL_EXT, buf, 8), KVF_F_page_cell);
#define BAD(s, flag, change) \
	s = s##_good; \
	change; \
	assert_finding(#change, cell_of(flag, &s, sizeof(s)), KVF_F_page_cell)
	{
		const struct kvf_value_ref v_good = value_ref;
		const struct kvf_object o_good = object;

		BAD(v, KVF_CELL_REF, v.segment = cpu_to_le32(2));
		BAD(v, KVF_CELL_REF, v.segment = cpu_to_le32(~0u));
		BAD(v, KVF_CELL_REF, v.offset = cpu_to_le32(1028));
		BAD(v, KVF_CELL_REF, v.offset = cpu_to_le32(496));
		BAD(v, KVF_CELL_REF, v.offset = cpu_to_le32(3744));
		BAD(v, KVF_CELL_REF, v.payload_len = cpu_to_le32(~0u));
		BAD(v, KVF_CELL_REF, v.lsn = cpu_to_le64(0));
		BAD(v, KVF_CELL_REF, v.head_len = cpu_to_le16(56));
		BAD(v, KVF_CELL_REF, v.head_len = cpu_to_le16(56 + 64 + 109));
		BAD(v, KVF_CELL_REF, v.reserved = cpu_to_le16(1));
		BAD(o, KVF_CELL_OBJECT, o.chunk_bytes = cpu_to_le32(0));
		BAD(o, KVF_CELL_OBJECT, o.chunk_bytes = cpu_to_le32(3409));
		BAD(o, KVF_CELL_OBJECT, o.reserved = cpu_to_le32(1));
	}
}
END_TEST

START_TEST(cells_random)
{
	u32 i, k, len;
	u8 buf[200];

	for (i = 0; i < 40000; i++) {
		len = rnd(sizeof(buf));
		for (k = 0; k < len; k++)
			buf[k] = (u8)rnd(rnd(2) ? 4 : 256);
		cell_of((u8)rnd(20), buf, len);
	}
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("format_page");
	TCase *t = tcase_create("page");

	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, leaf_round_trip);
	tcase_add_test(t, inner_round_trip);
	tcase_add_test(t, compact_round_trip);
	tcase_add_test(t, frame_in_memory);
	tcase_add_loop_test(t, page_findings, 0, COUNT(cases));
	tcase_add_test(t, page_sizes);
	tcase_add_loop_test(t, page_flipped_bits, 0, 2);
	tcase_add_test(t, page_random);
	tcase_add_test(t, refs);
	tcase_add_test(t, cells);
	tcase_add_test(t, cells_random);
	suite_add_tcase(s, t);
	return suite_run(s);
}
