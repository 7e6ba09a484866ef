/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * geometry.c - every size of a volume follows from four shifts and two thresholds of the superblock.
 *
 * Nothing here is stored: engine, fsck and readers derive the same numbers from the same bytes. The
 * formulas stand in kvf.h and docs/FORMAT.md; tests/unit/test_format.c checks what they promise for
 * every legal combination of shifts.
 */
#include "kvf.h"

/* What a longest entry takes in a page beside its key: slot, item head, cell (extension and ref). */
#define EXT_BYTES_MAX (sizeof(struct kvf_ext) + 6 * 8)
#define CELL_BYTES_MAX (EXT_BYTES_MAX + sizeof(struct kvf_value_ref))
#define ENTRY_BYTES_MAX (sizeof(struct kvf_slot) + sizeof(struct kvf_item) + CELL_BYTES_MAX)
#define ENTRIES_MIN 8u

#define WINDOW_ALIGN 4096u
#define CHUNK_BYTES_MAX (256u << 10)
#define SMALL_SEGMENT_BYTES (64u << 10)
#define SEAL_BYTES 64u

KVP_BUILD_BUG_ON(CELL_BYTES_MAX != 88);
KVP_BUILD_BUG_ON(ENTRY_BYTES_MAX != 100);

static bool shifts_are_legal(u8 block, u8 segment, u8 frame, u8 window)
{
	if (block < 9 || block > 12)
		return false;
	if (segment < block + 3 || segment > 26)
		return false;
	if (frame < 11 || frame > 16 || frame < block)
		return false;
	/* powers of two: frame <= segment - 2 blocks is frame <= segment / 2 */
	if ((1u << frame) > (1u << segment) - 2 * (1u << block))
		return false;
	if (!window)
		return true;
	return window >= 9 && window <= 24 && window >= block + 2;
}

static u32 default_chunk(const struct kvf_geometry *g)
{
	u32 room = g->segment - 4 * g->block;
	u32 chunk;

	if (g->segment < SMALL_SEGMENT_BYTES)
		return room / 2;
	chunk = (u32)KVF_ROUND_DOWN(room / 8, g->block);
	chunk = KVF_MIN(chunk - g->block, CHUNK_BYTES_MAX);
	return KVF_MAX(chunk, g->block);
}

/* unit_shift: the least for which the bitmap of a TREE segment fits into a leaf entry. */
static void derive_bitmap(struct kvf_geometry *g)
{
	u32 bits = 8 * KVF_MIN(KVF_BITMAP_BYTES_MAX, g->frame / 16);

	g->unit_shift = 0;
	while (g->seg_blocks >> g->unit_shift > bits)
		g->unit_shift++;
	g->bitmap_len = (g->seg_blocks >> g->unit_shift) / 8;
}

int kvf_geometry_derive(struct kvf_geometry *g, u8 block_shift, u8 segment_shift, u8 frame_shift,
			u8 window_shift, u32 inline_max, u32 chunk_bytes)
{
	u32 longest;

	memset(g, 0, sizeof(*g));
	if (!shifts_are_legal(block_shift, segment_shift, frame_shift, window_shift))
		return KVF_F_super_geometry;
	g->block_shift = block_shift;
	g->segment_shift = segment_shift;
	g->frame_shift = frame_shift;
	g->block = 1u << block_shift;
	g->segment = 1u << segment_shift;
	g->frame = 1u << frame_shift;
	g->window = window_shift ? 1u << window_shift : 0;
	g->slot = g->block;
	g->seg_blocks = g->segment >> block_shift;
	derive_bitmap(g);

	g->tail_offset = g->block;
	g->window_offset = (u32)KVF_ROUND_UP(3 * g->block, WINDOW_ALIGN);
	if (g->window && (u64)g->window_offset + g->window > g->segment)
		return KVF_F_super_geometry;

	/* a multiple of 4, so that the padding of the eight entries and two fences is nil */
	g->key_max =
		(g->frame - (u32)sizeof(struct kvf_page) - ENTRIES_MIN * (u32)ENTRY_BYTES_MAX) /
		(ENTRIES_MIN + 2);
	g->key_max = (u32)KVF_ROUND_DOWN(g->key_max, 4);
	g->item_max = g->key_max + (u32)CELL_BYTES_MAX;
	g->record_max = (u32)KVF_ROUND_DOWN(
		g->segment - g->block - SEAL_BYTES - kvf_footer_bytes(1), KVF_RECORD_ALIGN);

	g->inline_max = inline_max ? inline_max : g->frame / 32;
	g->chunk_bytes = chunk_bytes ? chunk_bytes : default_chunk(g);
	if (g->inline_max > g->item_max / 2 || g->inline_max > g->chunk_bytes)
		return KVF_F_super_geometry;
	if (g->chunk_bytes < g->block || g->chunk_bytes > CHUNK_BYTES_MAX)
		return KVF_F_super_geometry;
	/* the longest key with a whole chunk is one record */
	longest = (u32)kvf_record_bytes(EXT_BYTES_MAX, g->key_max, g->chunk_bytes);
	if (longest > g->record_max)
		return KVF_F_super_geometry;
	return 0;
}

int kvf_geometry_from_super(struct kvf_geometry *g, const struct kvf_super *sb)
{
	u32 inline_max = le32_to_cpu(sb->inline_max);
	u32 chunk_bytes = le32_to_cpu(sb->chunk_bytes);

	/* a superblock states both; zero would mean "default" below */
	if (!inline_max || !chunk_bytes) {
		memset(g, 0, sizeof(*g));
		return KVF_F_super_geometry;
	}
	return kvf_geometry_derive(g, sb->block_shift, sb->segment_shift, sb->frame_shift,
				   sb->window_shift, inline_max, chunk_bytes);
}

u64 kvf_super_offset(const struct kvf_geometry *g, u64 seq, unsigned int group)
{
	u64 base = (u64)(group ? KVF_SEG_SUPER_B : KVF_SEG_SUPER_A) << g->segment_shift;

	return base + (seq % KVF_GROUP_SLOTS) * g->slot;
}
