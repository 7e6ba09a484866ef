/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_format.c - format/ but for records and pages (test_format_record.c, test_format_page.c): geometry,
 * superblock, segments, errors, printers.
 *
 * For each structure: what is sealed verifies; one row for each way to be wrong, which changes a field,
 * seals again where the sum is not the point, and expects the very finding; every flipped bit is found;
 * random bytes, with and without right sums, do no harm (run with sanitizers to see it). Buffers have
 * exactly the size that the verifier is told. Row C16 (docs/CONTRACT.md): hostile bytes.
 *
 * The invariants of docs/FORMAT.md have the numbers of their findings; the rows name both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../format/kvf.h"
#include "tests/unit/suite.h"

static u64 rng = 0x9e3779b97f4a7c15ull;

static u32 rnd(u32 n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (u32)((rng >> 11) % n);
}

static void fill(void *p, size_t len)
{
	u8 *b = p;

	while (len--)
		*b++ = (u8)rnd(256);
}

static void *copy_of(const void *p, size_t len)
{
	void *c = malloc(len ? len : 1);

	ck_assert_ptr_nonnull(c);
	memcpy(c, p, len);
	return c;
}

static void flip(void *p, size_t bit)
{
	((u8 *)p)[bit / 8] ^= (u8)(1u << (bit % 8));
}

static void assert_finding(const char *row, int got, int want)
{
	ck_assert_msg(got == want, "%s: %d (%s), expected %d (%s)", row, got, kvf_finding_name(got), want,
		      kvf_finding_name(want));
}

static struct kvf_geometry tiny;
static const struct kvf_identity id = {
	.uuid = "0123456789abcde", .segment = 5, .segment_gen = 7, .incarnation = 3
};

static void setup(void)
{
	ck_assert_int_eq(kvf_geometry_derive(&tiny, 9, 12, 11, 0, 0, 0), 0);
}

/* ---- geometry -------------------------------------------------------------------------------- */

/* What the format promises for a geometry that it accepts. */
static void check_limits(const struct kvf_geometry *g)
{
	u32 entry = 8 + (u32)KVF_ROUND_UP(4 + g->item_max, 4);
	u32 fences = 2 * (u32)KVF_ROUND_UP(g->key_max, 4);
	u32 name = KVF_MIN(KVF_TREE_NAME_MAX, g->key_max - 1);
	u32 records = g->segment - g->block;

	/* eight of the longest entries and two fences in a page */
	ck_assert_uint_le(sizeof(struct kvf_page) + fences + 8 * entry, g->frame);
	ck_assert_uint_ge(g->key_max, 64);
	ck_assert_uint_eq(g->item_max, g->key_max + 88);
	/* heap offsets are 16 bits in units of 4 */
	ck_assert_uint_le(g->frame / 4, 0xffff);
	/* tree head: a name of at least 64 bytes, and of 128 where keys are not tiny */
	name = KVF_MIN(name, g->item_max - 1 - (u32)sizeof(struct kvf_tree_head));
	ck_assert_uint_ge(name, g->frame > 2048 ? KVF_TREE_NAME_MAX : 64);
	/* segment entry with its bitmap, and every other value of a system tree */
	ck_assert_uint_le(5 + sizeof(struct kvf_segment_entry) + g->bitmap_len, g->item_max);
	ck_assert_uint_le(9 + KVF_MIN(KVF_DEAD_CHUNK_BYTES, g->frame / 16), g->item_max);
	ck_assert_uint_le(1 + 64 + sizeof(struct kvf_snapshot), g->item_max);
	ck_assert_uint_le(14 + sizeof(struct kvf_range_delete) + g->key_max, g->item_max);
	ck_assert_uint_ge((g->item_max - 21) / sizeof(struct kvf_free), 1);
	/* the bitmap has a bit for each unit, whole bytes */
	ck_assert_uint_ge(g->bitmap_len, 1);
	ck_assert_uint_eq(8u * g->bitmap_len << g->unit_shift, g->seg_blocks);
	ck_assert(g->unit_shift == 0 ||
		  g->seg_blocks >> (g->unit_shift - 1) > 8 * KVF_MIN(KVF_BITMAP_BYTES_MAX, g->frame / 16));
	/* the largest page fits behind the header's unit */
	ck_assert_uint_le(g->frame + (g->block << g->unit_shift), g->segment);
	/* a segment holds its longest record, SEAL, and footer with that one entry */
	ck_assert_uint_le(g->record_max + 64 + kvf_footer_bytes(1), records);
	ck_assert_uint_le(kvf_record_bytes(56, g->key_max, g->chunk_bytes), g->record_max);
	ck_assert_uint_le(kvf_record_bytes(56, g->key_max, g->inline_max), g->record_max);
	ck_assert_uint_le(g->inline_max, g->item_max / 2);
	ck_assert_uint_le(g->inline_max, g->chunk_bytes);
	ck_assert_uint_ge(g->chunk_bytes, g->block);
	/* superblock slots, tail places and window in their segments, apart from each other */
	ck_assert_uint_ge(g->slot, sizeof(struct kvf_super));
	ck_assert_uint_le(KVF_GROUP_SLOTS * g->slot, g->segment);
	ck_assert_uint_ge(g->window_offset, g->tail_offset + 2 * g->block);
	ck_assert(!g->window || g->window_offset + g->window <= g->segment);
	ck_assert_uint_eq(g->window_offset % 4096, 0);
}

START_TEST(geometry_every_combination)
{
	u32 block, segment, frame, window, legal = 0;
	struct kvf_geometry g;

	for (block = 0; block < 32; block++)
		for (segment = 0; segment < 32; segment++)
			for (frame = 0; frame < 32; frame++)
				for (window = 0; window < 32; window++) {
					if (kvf_geometry_derive(&g, block, segment, frame, window, 0, 0))
						continue;
					legal++;
					check_limits(&g);
					ck_assert(block >= 9 && block <= 12 && segment <= 26);
					ck_assert(frame >= 11 && frame <= 16 && frame >= block);
				}
	/* without window: every frame of at most half a segment, for each block */
	ck_assert_uint_ge(legal, 4 * 12 * 5);
}
END_TEST

START_TEST(geometry_default_and_tiny)
{
	struct kvf_geometry g;

	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 19, 14, 16, 0, 0), 0);
	ck_assert_uint_eq(g.key_max, 1540);
	ck_assert_uint_ge(g.key_max, 1024);
	ck_assert_uint_eq(g.item_max, 1628);
	ck_assert_uint_eq(g.inline_max, 512);
	ck_assert_uint_eq(g.chunk_bytes, 57344);
	ck_assert_uint_eq(g.record_max, 520016);
	ck_assert_uint_eq(g.bitmap_len, 16);
	ck_assert_uint_eq(g.unit_shift, 0);
	ck_assert_uint_eq(g.tail_offset, 4096);
	ck_assert_uint_eq(g.window_offset, 12288);
	ck_assert_uint_eq(kvf_super_offset(&g, 6, 0), 2 * 4096);
	ck_assert_uint_eq(kvf_super_offset(&g, 7, 1), 2 * 524288 + 3 * 4096);
	ck_assert_uint_eq(tiny.key_max, 108);
	ck_assert_uint_eq(tiny.record_max, 3408);
	ck_assert_uint_eq(tiny.chunk_bytes, 1024);
	ck_assert_uint_eq(tiny.window, 0);
	/* the largest of all: the last row of the table in docs/FORMAT.md */
	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 26, 16, 24, 0, 0), 0);
	ck_assert_uint_eq(g.key_max, 6456);
	ck_assert_uint_eq(g.inline_max, 2048);
	ck_assert_uint_eq(g.chunk_bytes, 262144);
	ck_assert_uint_eq(g.record_max, 67104592);
	/* 64 KiB frames: keys of 4 KiB and more */
	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 19, 16, 0, 0, 0), 0);
	ck_assert_uint_ge(g.key_max, 4096);
}
END_TEST

START_TEST(geometry_thresholds)
{
	struct kvf_geometry g;

	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 12, 11, 0, 98, 512), 0);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 12, 11, 0, 99, 512), KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 12, 11, 0, 64, 511), KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 12, 11, 0, 64, 3200), KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 26, 16, 0, 0, 256 << 10), 0);
	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 26, 16, 0, 0, (256 << 10) + 1),
			 KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 17, 16, 0, 513, 512), KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 17, 16, 0, 512, 512), 0);
	/* a window that would leave segment 1, one smaller than a block */
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 13, 11, 13, 0, 0), KVF_F_super_geometry);
	ck_assert_int_eq(kvf_geometry_derive(&g, 9, 13, 11, 12, 0, 0), 0);
	ck_assert_int_eq(kvf_geometry_derive(&g, 12, 19, 14, 11, 0, 0), KVF_F_super_geometry);
}
END_TEST

/* ---- superblock ------------------------------------------------------------------------------- */

#define SEGMENTS 40u

static u64 slot_of(const struct kvf_super *sb, unsigned int group)
{
	return kvf_super_offset(&tiny, le64_to_cpu(sb->seq), group);
}

static void set_ref(struct kvf_ref *r, u64 block0, u64 block1, u64 birth)
{
	r->block0 = cpu_to_le64(block0);
	r->block1 = cpu_to_le64(block1);
	r->blocks = cpu_to_le32(2);
	r->birth = cpu_to_le64(birth);
	r->sum = cpu_to_le64(0x1122334455667788ull);
}

static void good_super(struct kvf_super *sb)
{
	memset(sb, 0, sizeof(*sb));
	memcpy(sb->uuid, id.uuid, sizeof(sb->uuid));
	memcpy(sb->label, "test", 4);
	sb->block_shift = 9;
	sb->segment_shift = 12;
	sb->frame_shift = 11;
	sb->inline_max = cpu_to_le32(64);
	sb->chunk_bytes = cpu_to_le32(1024);
	sb->seq = cpu_to_le64(6);
	sb->generation = cpu_to_le64(4);
	sb->oldest_intact = cpu_to_le64(3);
	sb->segments = cpu_to_le64(SEGMENTS);
	sb->incarnation = cpu_to_le32(2);
	sb->replay_incarnation = cpu_to_le32(1);
	sb->cut_lsn = cpu_to_le64(90);
	sb->replay_lsn = cpu_to_le64(70);
	sb->replay_segment = cpu_to_le32(9);
	sb->replay_segment_gen = cpu_to_le32(1);
	sb->replay_offset = cpu_to_le32(512);
	sb->attested_lsn = cpu_to_le64(80);
	sb->next_lsn = cpu_to_le64(100);
	sb->next_tree = cpu_to_le32(17);
	set_ref(&sb->forest, 8 * 10 + 1, 8 * 11 + 1, 4);
	set_ref(&sb->segtab, 8 * 10 + 3, 8 * 11 + 3, 4);
	sb->prev_generation = cpu_to_le64(3);
	set_ref(&sb->prev_forest, 8 * 10 + 5, 8 * 11 + 5, 3);
	set_ref(&sb->prev_segtab, 8 * 12 + 1, 8 * 13 + 6, 2);
	sb->errors[0].time = cpu_to_le64(1700000000);
	sb->errors[0].code = cpu_to_le32(KVE_io_read);
	sb->errors[0].segment = cpu_to_le32(12);
	sb->errors_nr = cpu_to_le32(1);
	kvf_super_seal(sb, slot_of(sb, 0));
}

START_TEST(super_round_trip)
{
	struct kvf_super sb;
	struct kvf_geometry g;

	good_super(&sb);
	ck_assert_int_eq(kvf_super_verify(&sb, slot_of(&sb, 0)), 0);
	ck_assert_int_eq(memcmp(&sb, "\x89KVS\r\n\x1a\n", 8), 0);
	ck_assert_int_eq(kvf_geometry_from_super(&g, &sb), 0);
	ck_assert_int_eq(memcmp(&g, &tiny, sizeof(g)), 0);
	kvf_super_seal(&sb, slot_of(&sb, 1));
	ck_assert_int_eq(kvf_super_verify(&sb, slot_of(&sb, 1)), 0);
	kvf_super_seal(&sb, SEGMENTS * 4096);
	ck_assert_int_eq(kvf_super_verify(&sb, SEGMENTS * 4096), 0);
	/* a first checkpoint has no predecessor */
	sb.prev_generation = cpu_to_le64(0);
	memset(&sb.prev_forest, 0, sizeof(sb.prev_forest));
	memset(&sb.prev_segtab, 0, sizeof(sb.prev_segtab));
	kvf_super_seal(&sb, slot_of(&sb, 0));
	ck_assert_int_eq(kvf_super_verify(&sb, slot_of(&sb, 0)), 0);
	/* known to be readable: who may write is decided by the opener */
	sb.ro_compat = cpu_to_le64(1);
	sb.compat = cpu_to_le64(1ull << 63);
	kvf_super_seal(&sb, slot_of(&sb, 0));
	ck_assert_int_eq(kvf_super_verify(&sb, slot_of(&sb, 0)), 0);
}
END_TEST

/* x(row, seal again, finding, change). s: the superblock. FORMAT I-101 to I-109 */
#define SUPER_CASES(x) \
	x(magic, 0, super_magic, s->magic[1] = 'k') \
	x(sum, 0, super_sum, s->generation = cpu_to_le64(5)) \
	x(size, 1, super_size, s->size = cpu_to_le32(513)) \
	x(version, 1, super_version, s->version = cpu_to_le32(KVF_VERSION + 1)) \
	x(version_1, 1, super_version, s->version = cpu_to_le32(KVF_VERSION - 1)) \
	x(version_0, 1, super_version, s->version = cpu_to_le32(0)) \
	x(incompat, 1, super_incompat, s->incompat = cpu_to_le64(1ull << 40)) \
	x(block, 1, super_geometry, s->block_shift = 13) \
	x(segment, 1, super_geometry, s->segment_shift = 11) \
	x(frame, 1, super_geometry, s->frame_shift = 12) \
	x(window, 1, super_geometry, s->window_shift = 12) \
	x(no_inline, 1, super_geometry, s->inline_max = cpu_to_le32(0)) \
	x(no_chunk, 1, super_geometry, s->chunk_bytes = cpu_to_le32(0)) \
	x(elsewhere, 1, super_position, s->position = cpu_to_le64(512)) \
	x(flags, 1, super_fields, s->flags = cpu_to_le32(2)) \
	x(uuid, 1, super_fields, memset(s->uuid, 0, 16)) \
	x(label, 1, super_fields, s->label[9] = 'x') \
	x(seq, 1, super_fields, s->seq = cpu_to_le64(0)) \
	x(oldest, 1, super_fields, s->oldest_intact = cpu_to_le64(5)) \
	x(segments, 1, super_fields, s->segments = cpu_to_le64(3)) \
	x(segments_max, 1, super_fields, s->segments = cpu_to_le64(1ull << 31)) \
	x(bytes_max, 1, super_fields, s->bytes_max = cpu_to_le64(SEGMENTS * 4096 - 1)) \
	x(incarnation, 1, super_fields, s->incarnation = cpu_to_le32(0)) \
	x(replay_inc_0, 1, super_fields, s->replay_incarnation = cpu_to_le32(0)) \
	x(replay_inc, 1, super_fields, s->replay_incarnation = cpu_to_le32(3)) \
	x(cut, 1, super_fields, s->cut_lsn = cpu_to_le64(69)) \
	x(cut_beyond, 1, super_fields, s->cut_lsn = cpu_to_le64(101)) \
	x(replay_lsn, 1, super_fields, s->replay_lsn = cpu_to_le64(0)) \
	x(replay_beyond, 1, super_fields, s->replay_lsn = cpu_to_le64(101)) \
	x(replay_segment, 1, super_fields, s->replay_segment = cpu_to_le32(SEGMENTS)) \
	x(replay_system, 1, super_fields, s->replay_segment = cpu_to_le32(2)) \
	x(replay_align, 1, super_fields, s->replay_offset = cpu_to_le32(520)) \
	x(replay_header, 1, super_fields, s->replay_offset = cpu_to_le32(496)) \
	x(replay_end, 1, super_fields, s->replay_offset = cpu_to_le32(4048)) \
	x(attested, 1, super_fields, s->attested_lsn = cpu_to_le64(100)) \
	x(forest, 1, super_fields, s->forest.block0 = cpu_to_le64(8 * 2 + 1)) \
	x(forest_none, 1, super_fields, memset(&s->forest, 0, sizeof(s->forest))) \
	x(forest_once, 1, super_fields, s->forest.block1 = cpu_to_le64(0)) \
	x(forest_birth, 1, super_fields, s->forest.birth = cpu_to_le64(5)) \
	x(segtab, 1, super_fields, s->segtab.blocks = cpu_to_le32(5)) \
	x(prev, 1, super_fields, s->prev_generation = cpu_to_le64(4)) \
	x(prev_birth, 1, super_fields, s->prev_forest.birth = cpu_to_le64(4)) \
	x(prev_half, 1, super_fields, memset(&s->prev_segtab, 0, sizeof(s->prev_segtab))) \
	x(errors, 1, super_fields, s->errors_nr = cpu_to_le32(0)) \
	x(next_tree, 1, super_fields, s->next_tree = cpu_to_le32(16)) \
	x(reserved, 1, super_reserved, s->reserved[39] = 1)

#define SUPER_FN(row, seal, finding, change) \
	static void super_##row(struct kvf_super *s) { change; }
SUPER_CASES(SUPER_FN)

static const struct {
	const char *row;
	bool seal;
	int finding;
	void (*change)(struct kvf_super *s);
} super_cases[] = {
#define SUPER_ROW(row, seal, finding, change) { #row, seal, KVF_F_##finding, super_##row },
	SUPER_CASES(SUPER_ROW)
};

/* A changed structure of the right sum: position, version and size as changed. */
static void super_resum(struct kvf_super *sb)
{
	sb->sum = cpu_to_le64(0);
	sb->sum = cpu_to_le64(kvp_xxh64(sb, sizeof(*sb), 0));
}

START_TEST(super_findings)
{
	struct kvf_super *sb = malloc(sizeof(*sb));

	good_super(sb);
	super_cases[_i].change(sb);
	if (super_cases[_i].seal)
		super_resum(sb);
	assert_finding(super_cases[_i].row, kvf_super_verify(sb, 1024), super_cases[_i].finding);
	free(sb);
}
END_TEST

START_TEST(super_wrong_slot)
{
	struct kvf_super sb;

	/* FORMAT I-106: a slot that is not that of its number, and one that was copied elsewhere */
	good_super(&sb);
	kvf_super_seal(&sb, 512);
	assert_finding("slot", kvf_super_verify(&sb, 512), KVF_F_super_position);
	good_super(&sb);
	assert_finding("moved", kvf_super_verify(&sb, slot_of(&sb, 1)), KVF_F_super_position);
}
END_TEST

START_TEST(super_flipped_bits)
{
	struct kvf_super sb;
	size_t bit;

	good_super(&sb);
	for (bit = 0; bit < 8 * sizeof(sb); bit++) {
		flip(&sb, bit);
		ck_assert_msg(kvf_super_verify(&sb, slot_of(&sb, 0)), "bit %zu", bit);
		flip(&sb, bit);
	}
}
END_TEST

START_TEST(super_random)
{
	struct kvf_super *sb = malloc(sizeof(*sb));
	char text[4096];
	u32 i, k;

	for (i = 0; i < 20000; i++) {
		good_super(sb);
		if (i % 4 == 0)
			fill(sb, sizeof(*sb));
		for (k = rnd(6); k; k--)
			((u8 *)sb)[rnd(sizeof(*sb))] = (u8)rnd(256);
		if (i % 2)
			super_resum(sb);
		kvf_super_verify(sb, 1024);
		ck_assert_uint_lt(kvf_super_to_text(text, sizeof(text), sb), sizeof(text));
	}
	free(sb);
}
END_TEST

/* ---- segment header -------------------------------------------------------------------------- */

static void good_header(struct kvf_segment_header *h)
{
	memset(h, 0, sizeof(*h));
	h->kind = KVF_KIND_LOG;
	h->next_segment = cpu_to_le32(6);
	h->next_gen = cpu_to_le32(2);
	h->first_lsn = cpu_to_le64(31);
	kvf_segment_header_seal(h, &id);
}

START_TEST(header_round_trip)
{
	struct kvf_identity any = id;
	struct kvf_segment_header h;

	good_header(&h);
	ck_assert_int_eq(kvf_segment_header_verify(&h, &id, KVF_KIND_LOG), 0);
	any.incarnation = 0;
	ck_assert_int_eq(kvf_segment_header_verify(&h, &any, 0), 0);
	h.next_segment = cpu_to_le32(KVF_NO_SEGMENT);
	h.next_gen = cpu_to_le32(0);
	kvf_segment_header_seal(&h, &id);
	ck_assert_int_eq(kvf_segment_header_verify(&h, &id, KVF_KIND_LOG), 0);
	/* fields of LOG alone: cleared by the seal of other kinds */
	good_header(&h);
	h.kind = KVF_KIND_TREE;
	kvf_segment_header_seal(&h, &id);
	ck_assert_int_eq(kvf_segment_header_verify(&h, &id, KVF_KIND_TREE), 0);
	ck_assert_uint_eq(le32_to_cpu(h.incarnation), 0);
}
END_TEST

/* FORMAT I-201 to I-207 */
#define HEADER_CASES(x) \
	x(magic, 0, segment_magic, h->magic = cpu_to_le32(1)) \
	x(sum, 0, segment_sum, h->first_lsn = cpu_to_le64(32)) \
	x(foreign, 1, segment_foreign, h->uuid[3] ^= 1) \
	x(segment, 1, segment_identity, h->segment = cpu_to_le32(6)) \
	x(gen, 1, segment_identity, h->gen = cpu_to_le32(6)) \
	x(incarnation, 1, segment_identity, h->incarnation = cpu_to_le32(2)) \
	x(kind, 1, segment_kind, h->kind = KVF_KIND_TREE) \
	x(kind_unknown, 1, segment_kind, h->kind = 9) \
	x(kind_free, 1, segment_kind, h->kind = KVF_KIND_FREE) \
	x(reserved0, 1, segment_reserved, h->reserved0[2] = 1) \
	x(reserved1, 1, segment_reserved, h->reserved1 = cpu_to_le32(1)) \
	x(reserved2, 1, segment_reserved, h->reserved2[31] = 1) \
	x(next_self, 1, segment_next, h->next_segment = cpu_to_le32(5)) \
	x(next_system, 1, segment_next, h->next_segment = cpu_to_le32(1)) \
	x(next_beyond, 1, segment_next, h->next_segment = cpu_to_le32(0x80000000u)) \
	x(next_none, 1, segment_next, h->next_segment = cpu_to_le32(KVF_NO_SEGMENT)) \
	x(first_lsn, 1, segment_next, h->first_lsn = cpu_to_le64(0))

#define HEADER_FN(row, seal, finding, change) \
	static void header_##row(struct kvf_segment_header *h) { change; }
HEADER_CASES(HEADER_FN)

static const struct {
	const char *row;
	bool seal;
	int finding;
	void (*change)(struct kvf_segment_header *h);
} header_cases[] = {
#define HEADER_ROW(row, seal, finding, change) { #row, seal, KVF_F_##finding, header_##row },
	HEADER_CASES(HEADER_ROW)
};

static void header_resum(struct kvf_segment_header *h)
{
	h->sum = cpu_to_le64(0);
	h->sum = cpu_to_le64(kvp_xxh64(h, sizeof(*h), 0));
}

START_TEST(header_findings)
{
	struct kvf_segment_header h;

	good_header(&h);
	header_cases[_i].change(&h);
	if (header_cases[_i].seal)
		header_resum(&h);
	assert_finding(header_cases[_i].row, kvf_segment_header_verify(&h, &id, KVF_KIND_LOG),
		       header_cases[_i].finding);
}
END_TEST

START_TEST(header_tree_with_successor)
{
	struct kvf_segment_header h;

	good_header(&h);
	h.kind = KVF_KIND_TREE;
	header_resum(&h);
	assert_finding("tree", kvf_segment_header_verify(&h, &id, KVF_KIND_TREE), KVF_F_segment_next);
}
END_TEST

START_TEST(header_flipped_and_random)
{
	struct kvf_segment_header h;
	char text[1024];
	size_t bit;
	u32 i;

	good_header(&h);
	for (bit = 0; bit < 8 * sizeof(h); bit++) {
		flip(&h, bit);
		ck_assert_msg(kvf_segment_header_verify(&h, &id, KVF_KIND_LOG), "bit %zu", bit);
		flip(&h, bit);
	}
	for (i = 0; i < 10000; i++) {
		fill(&h, sizeof(h));
		if (i % 2)
			kvf_segment_header_seal(&h, &id);
		kvf_segment_header_verify(&h, &id, 0);
		ck_assert_uint_lt(kvf_segment_header_to_text(text, sizeof(text), &h), sizeof(text));
	}
}
END_TEST

/* ---- footer ---------------------------------------------------------------------------------- */

#define ENTRIES 2u

struct whole_footer {
	struct kvf_footer_entry e[ENTRIES];
	struct kvf_footer f;
};

static void good_footer(struct whole_footer *w)
{
	memset(w, 0, sizeof(*w));
	w->e[0].offset = cpu_to_le32(512);
	w->e[0].bytes = cpu_to_le32(128);
	w->e[1].offset = cpu_to_le32(768);
	w->e[1].bytes = cpu_to_le32(1024);
	w->f.entries = cpu_to_le32(ENTRIES);
	w->f.end = cpu_to_le32(2048);
	w->f.first_lsn = cpu_to_le64(31);
	w->f.last_lsn = cpu_to_le64(37);
	w->f.records = cpu_to_le32(7);
	w->f.value_bytes = cpu_to_le64(1152);
	kvf_footer_seal(&w->f, &id);
}

/* FORMAT I-211 to I-214 */
#define FOOTER_CASES(x) \
	x(magic, 0, footer_magic, w->f.magic = cpu_to_le32(1)) \
	x(sum, 0, footer_sum, w->f.last_lsn = cpu_to_le64(38)) \
	x(sum_entry, 0, footer_sum, w->e[0].offset = cpu_to_le32(528)) \
	x(uuid, 1, footer_identity, w->f.uuid[15] ^= 1) \
	x(segment, 1, footer_identity, w->f.segment = cpu_to_le32(6)) \
	x(gen, 1, footer_identity, w->f.gen = cpu_to_le32(6)) \
	x(incarnation, 1, footer_identity, w->f.incarnation = cpu_to_le32(2)) \
	x(too_many, 0, footer_fields, w->f.entries = cpu_to_le32(1000000)) \
	x(as_records, 0, footer_fields, w->f.entries = cpu_to_le32(7)) \
	x(end_align, 1, footer_fields, w->f.end = cpu_to_le32(2056)) \
	x(end_low, 1, footer_fields, w->f.end = cpu_to_le32(560)) \
	x(end_high, 1, footer_fields, w->f.end = cpu_to_le32(4000)) \
	x(end_huge, 1, footer_fields, w->f.end = cpu_to_le32(0xfffffff0u)) \
	x(records, 1, footer_fields, w->f.records = cpu_to_le32(25)) \
	x(lsn_0, 1, footer_fields, w->f.first_lsn = cpu_to_le64(0)) \
	x(lsn_order, 1, footer_fields, w->f.first_lsn = cpu_to_le64(38)) \
	x(bytes, 1, footer_fields, w->f.value_bytes = cpu_to_le64(1136)) \
	x(bytes_huge, 1, footer_fields, w->f.value_bytes = cpu_to_le64(1ull << 60)) \
	x(reserved0, 1, footer_fields, w->f.reserved0 = cpu_to_le32(1)) \
	x(reserved1, 1, footer_fields, w->f.reserved1[15] = 1) \
	x(entry_low, 1, footer_fields, w->e[0].offset = cpu_to_le32(496)) \
	x(entry_align, 1, footer_fields, w->e[0].offset = cpu_to_le32(520)) \
	x(entry_order, 1, footer_fields, w->e[1].offset = cpu_to_le32(624)) \
	x(entry_small, 1, footer_fields, w->e[0].bytes = cpu_to_le32(48)) \
	x(entry_bytes, 1, footer_fields, w->e[0].bytes = cpu_to_le32(120)) \
	x(entry_end, 1, footer_fields, w->e[1].bytes = cpu_to_le32(1280)) \
	x(entry_wrap, 1, footer_fields, w->e[1].bytes = cpu_to_le32(0xfffffff0u))

#define FOOTER_FN(row, seal, finding, change) \
	static void footer_##row(struct whole_footer *w) { change; }
FOOTER_CASES(FOOTER_FN)

static const struct {
	const char *row;
	bool seal;
	int finding;
	void (*change)(struct whole_footer *w);
} footer_cases[] = {
#define FOOTER_ROW(row, seal, finding, change) { #row, seal, KVF_F_##finding, footer_##row },
	FOOTER_CASES(FOOTER_ROW)
};

/* The sum as docs/FORMAT.md says: that of the entries is the seed of that of the footer. */
static void footer_resum(struct whole_footer *w)
{
	w->f.sum = cpu_to_le64(0);
	w->f.sum = cpu_to_le64(kvp_xxh64(&w->f, sizeof(w->f), kvp_xxh64(w->e, sizeof(w->e), 0)));
}

START_TEST(footer_findings)
{
	struct whole_footer *w = malloc(sizeof(*w));

	good_footer(w);
	footer_cases[_i].change(w);
	if (footer_cases[_i].seal)
		footer_resum(w);
	assert_finding(footer_cases[_i].row, kvf_footer_verify(&w->f, &id, &tiny),
		       footer_cases[_i].finding);
	free(w);
}
END_TEST

START_TEST(footer_round_trip)
{
	struct whole_footer w;
	char text[1024];
	size_t bit;
	u32 i;

	good_footer(&w);
	ck_assert_int_eq(kvf_footer_head_verify(&w.f, &id, &tiny), 0);
	ck_assert_int_eq(kvf_footer_verify(&w.f, &id, &tiny), 0);
	for (bit = 0; bit < 8 * sizeof(w); bit++) {
		flip(&w, bit);
		/* an entry count that lies must not read before the entries: only the head is judged */
		if (bit / 8 >= sizeof(w.e) + 4 && bit / 8 < sizeof(w.e) + 8)
			kvf_footer_head_verify(&w.f, &id, &tiny);
		else
			ck_assert_msg(kvf_footer_verify(&w.f, &id, &tiny), "bit %zu", bit);
		flip(&w, bit);
	}
	for (i = 0; i < 10000; i++) {
		good_footer(&w);
		for (bit = rnd(4); bit; bit--)
			((u8 *)&w)[rnd(sizeof(w))] = (u8)rnd(256);
		w.f.entries = cpu_to_le32(ENTRIES);
		footer_resum(&w);
		kvf_footer_verify(&w.f, &id, &tiny);
		ck_assert_uint_lt(kvf_footer_to_text(text, sizeof(text), &w.f), sizeof(text));
	}
}
END_TEST

/* ---- entry of the segment table ----------------------------------------------------------------- */

struct whole_entry {
	struct kvf_segment_entry e;
	u8 bitmap[1];
};

/* x(row, length, change); the entry is of a LOG segment unless the change says otherwise. I-701 */
#define ENTRY_CASES(x) \
	x(short_, 39, (void)w) \
	x(long_, 41, (void)w) \
	x(kind, 40, w->e.kind = 5) \
	x(flags, 40, w->e.flags = 0x10) \
	x(reserved, 40, w->e.reserved = cpu_to_le32(1)) \
	x(live, 40, w->e.live = cpu_to_le64(4097)) \
	x(pinned, 40, w->e.pinned = cpu_to_le64(4097)) \
	x(live_and_pinned, 40, w->e.pinned = cpu_to_le64(3457)) \
	x(bitmap, 41, w->e.bitmap_len = cpu_to_le16(1)) \
	x(no_bitmap, 40, w->e.kind = KVF_KIND_TREE) \
	x(tree_live, 41, w->e.kind = KVF_KIND_TREE; w->e.bitmap_len = cpu_to_le16(1)) \
	x(tree_bit_0, 41, as_tree(w); w->bitmap[0] = 2) \
	x(tree_lsn, 41, as_tree(w); w->e.last_lsn = cpu_to_le64(1)) \
	x(tree_pinned, 41, as_tree(w); w->e.pinned = cpu_to_le64(1)) \
	x(tree_incarnation, 41, as_tree(w); w->e.incarnation = cpu_to_le32(1)) \
	x(tree_sealed, 41, as_tree(w); w->e.flags = KVF_SEGMENT_SEALED) \
	x(tree_footer, 41, as_tree(w); w->e.flags = KVF_SEGMENT_FOOTER)

static void as_tree(struct whole_entry *w)
{
	memset(w, 0, sizeof(*w));
	w->e.kind = KVF_KIND_TREE;
	w->e.bitmap_len = cpu_to_le16(1);
	w->bitmap[0] = 3;
}

static void good_entry(struct whole_entry *w)
{
	memset(w, 0, sizeof(*w));
	w->e.gen = cpu_to_le32(4);
	w->e.kind = KVF_KIND_LOG;
	w->e.flags = KVF_SEGMENT_SEALED;
	w->e.live = cpu_to_le64(640);
	w->e.last_lsn = cpu_to_le64(37);
	w->e.incarnation = cpu_to_le32(3);
}

#define ENTRY_FN(row, len, change) \
	static void entry_##row(struct whole_entry *w) { change; }
ENTRY_CASES(ENTRY_FN)

static const struct {
	const char *row;
	u32 len;
	void (*change)(struct whole_entry *w);
} entry_cases[] = {
#define ENTRY_ROW(row, len, change) { #row, len, entry_##row },
	ENTRY_CASES(ENTRY_ROW)
};

START_TEST(entry_findings)
{
	struct whole_entry w;
	void *bytes;

	good_entry(&w);
	entry_cases[_i].change(&w);
	bytes = copy_of(&w, entry_cases[_i].len);
	assert_finding(entry_cases[_i].row,
		       kvf_segment_entry_verify(bytes, entry_cases[_i].len, &tiny), KVF_F_table_entry);
	free(bytes);
}
END_TEST

START_TEST(entry_round_trip)
{
	u8 bytes[64], *exact;
	struct whole_entry w;
	char text[1024];
	u32 i, len;

	good_entry(&w);
	ck_assert_int_eq(kvf_segment_entry_verify(&w, 40, &tiny), 0);
	w.e.kind = KVF_KIND_FREE;
	w.e.flags = KVF_SEGMENT_QUARANTINE;
	w.e.live = w.e.last_lsn = cpu_to_le64(0);
	ck_assert_int_eq(kvf_segment_entry_verify(&w, 40, &tiny), 0);
	as_tree(&w);
	/* values stand at any alignment in a leaf */
	memcpy(bytes + 3, &w, 41);
	ck_assert_int_eq(kvf_segment_entry_verify(bytes + 3, 41, &tiny), 0);
	for (i = 0; i < 10000; i++) {
		len = rnd(sizeof(bytes));
		fill(bytes, sizeof(bytes));
		bytes[4] &= 7;
		exact = copy_of(bytes, len);
		kvf_segment_entry_verify(exact, len, &tiny);
		kvf_segment_entry_to_text(text, sizeof(text), exact, len);
		free(exact);
	}
}
END_TEST

/* ---- names, printers ---------------------------------------------------------------------------- */

START_TEST(errors_and_findings)
{
	ck_assert_str_eq(kvf_err_name(-KVE_no_tree), "no_tree");
	ck_assert_str_eq(kvf_err_name(KVE_no_tree), "no_tree");
	ck_assert_str_eq(kvf_err_text(-KVE_no_space), "no space left on the volume");
	ck_assert_str_eq(kvf_err_name(-12345), "?");
	ck_assert_str_eq(kvf_err_text(7), "?");
	ck_assert_int_eq(kvf_err_class(0), 0);
	ck_assert_int_eq(kvf_err_class(5), 5);
	ck_assert_int_eq(kvf_err_class(-KVE_no_tree), -1);
	ck_assert_int_eq(kvf_err_class(-KVE_cancelled), -16);
	ck_assert_int_eq(kvf_err_class(-3), -3);
	ck_assert_str_eq(kvf_finding_name(KVF_F_page_head_sum), "page_head_sum");
	ck_assert_str_eq(kvf_finding_text(KVF_F_volume_short),
			 "volume: shorter than the superblock says");
	ck_assert_str_eq(kvf_finding_name(0), "?");
	ck_assert_str_eq(kvf_finding_text(9999), "?");
#define SAME(name, number, sentence) \
	ck_assert_str_eq(kvf_finding_name(number), #name); \
	ck_assert_str_eq(kvf_finding_text(number), sentence);
	KVF_FINDINGS(SAME)
#undef SAME
#define SAME(name, number, errno_, sentence) \
	ck_assert_str_eq(kvf_err_name(-(number)), #name); \
	ck_assert_str_eq(kvf_err_text(number), sentence); \
	ck_assert_int_eq(kvf_err_class(-(number)), -((number) / 100));
	KVE_ERRORS(SAME)
#undef SAME
}
END_TEST

START_TEST(text_is_bounded)
{
	struct kvf_super sb;
	char whole[4096], cut[4096];
	size_t len, i;

	good_super(&sb);
	len = kvf_super_to_text(whole, sizeof(whole), &sb);
	ck_assert_uint_eq(len, strlen(whole));
	ck_assert_ptr_nonnull(strstr(whole, "uuid: 30313233-3435-3637-3839-616263646500\n"));
	ck_assert_ptr_nonnull(strstr(whole, "label: test\n"));
	ck_assert_ptr_nonnull(strstr(whole, "replay_lsn: 70\n"));
	ck_assert_ptr_nonnull(strstr(whole, "forest: block 81+2 twin 89 birth 4 sum 1122334455667788\n"));
	ck_assert_ptr_nonnull(strstr(whole, "error: 802 (io_read) time 1700000000 segment 12\n"));
	for (i = 0; i < 200; i++) {
		memset(cut, 'x', sizeof(cut));
		ck_assert_uint_eq(kvf_super_to_text(cut, i, &sb), len);
		ck_assert_int_eq(cut[i], 'x');
		if (i) {
			ck_assert_uint_eq(strlen(cut), i - 1);
			ck_assert_int_eq(memcmp(cut, whole, i - 1), 0);
		}
	}
}
END_TEST

START_TEST(text_of_tree_heads_and_refs)
{
	struct kvf_tree_head h = { .id = cpu_to_le32(16), .count = cpu_to_le64(42) };
	struct kvf_ref none = { .birth = cpu_to_le64(0) };
	char text[1024];

	ck_assert_uint_lt(kvf_tree_head_to_text(text, sizeof(text), &h), sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "id: 16\n"));
	ck_assert_ptr_nonnull(strstr(text, "count: 42\n"));
	ck_assert_ptr_nonnull(strstr(text, "root: none\n"));
	ck_assert_uint_eq(kvf_ref_to_text(text, sizeof(text), &none), 4);
	ck_assert_str_eq(text, "none");
}
END_TEST

START_TEST(text_of_keys)
{
	static const u8 key[] = { 'a', '\\', 0, 0x7f, 'z' };
	char buf[64];

	ck_assert_uint_eq(kvf_key_to_text(buf, sizeof(buf), key, sizeof(key)), 12);
	ck_assert_str_eq(buf, "a\\\\\\x00\\x7fz");
	ck_assert_uint_eq(kvf_key_to_text(buf, 12, key, sizeof(key)), 12);
	ck_assert_str_eq(buf, "a\\\\\\x00...");
	kvf_key_to_text(buf, 13, key, sizeof(key));
	ck_assert_str_eq(buf, "a\\\\\\x00\\x7fz");
	ck_assert_uint_eq(kvf_key_to_text(NULL, 0, key, sizeof(key)), 12);
	ck_assert_uint_eq(kvf_key_to_text(buf, sizeof(buf), key, 0), 0);
	ck_assert_str_eq(buf, "");
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("format");
	TCase *t = tcase_create("format");

	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, geometry_every_combination);
	tcase_add_test(t, geometry_default_and_tiny);
	tcase_add_test(t, geometry_thresholds);
	tcase_add_test(t, super_round_trip);
	tcase_add_loop_test(t, super_findings, 0, COUNT(super_cases));
	tcase_add_test(t, super_wrong_slot);
	tcase_add_test(t, super_flipped_bits);
	tcase_add_test(t, super_random);
	tcase_add_test(t, header_round_trip);
	tcase_add_loop_test(t, header_findings, 0, COUNT(header_cases));
	tcase_add_test(t, header_tree_with_successor);
	tcase_add_test(t, header_flipped_and_random);
	tcase_add_test(t, footer_round_trip);
	tcase_add_loop_test(t, footer_findings, 0, COUNT(footer_cases));
	tcase_add_test(t, entry_round_trip);
	tcase_add_loop_test(t, entry_findings, 0, COUNT(entry_cases));
	tcase_add_test(t, errors_and_findings);
	tcase_add_test(t, text_is_bounded);
	tcase_add_test(t, text_of_tree_heads_and_refs);
	tcase_add_test(t, text_of_keys);
	suite_add_tcase(s, t);
	return suite_run(s);
}
