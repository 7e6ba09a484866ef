/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * super.c - the superblock: seal and verify.
 *
 * A superblock that verifies is consistent in itself. Whether the roots that it names verify, and
 * which of several superblocks counts, is for recovery to find out (docs/FORMAT.md, Recovery).
 */
#include "kvf.h"

/* The structure is copied to the stack to count its own sum as zero: 512 bytes, within the limit. */
static u64 super_sum(const struct kvf_super *sb)
{
	return kvp_xxh64_zeroed(sb, sizeof(*sb), __builtin_offsetof(struct kvf_super, sum));
}

void kvf_super_seal(struct kvf_super *sb, u64 position)
{
	memcpy(sb->magic, KVF_SUPER_MAGIC, sizeof(sb->magic));
	sb->version = cpu_to_le32(KVF_VERSION);
	sb->size = cpu_to_le32(sizeof(*sb));
	sb->position = cpu_to_le64(position);
	sb->sum = cpu_to_le64(super_sum(sb));
}

/* Its slot in one of the groups, or the block after the last segment. */
static bool position_is_legal(const struct kvf_super *sb, const struct kvf_geometry *g)
{
	u64 position = le64_to_cpu(sb->position);
	u64 seq = le64_to_cpu(sb->seq);

	return position == kvf_super_offset(g, seq, 0) || position == kvf_super_offset(g, seq, 1) ||
	       position == le64_to_cpu(sb->segments) << g->segment_shift;
}

static bool root_is_legal(const struct kvf_ref *ref, const struct kvf_geometry *g, u64 segments,
			  u64 generation)
{
	return !kvf_ref_verify(ref, g, segments) && ref->block1 != cpu_to_le64(0) &&
	       le64_to_cpu(ref->birth) <= generation;
}

static bool roots_are_legal(const struct kvf_super *sb, const struct kvf_geometry *g)
{
	u64 segments = le64_to_cpu(sb->segments);
	u64 gen = le64_to_cpu(sb->generation);
	u64 prev = le64_to_cpu(sb->prev_generation);

	if (!root_is_legal(&sb->forest, g, segments, gen) ||
	    !root_is_legal(&sb->segtab, g, segments, gen))
		return false;
	if (le64_to_cpu(sb->oldest_intact) > gen)
		return false;
	if (kvf_is_zero(&sb->prev_forest, sizeof(sb->prev_forest)) &&
	    kvf_is_zero(&sb->prev_segtab, sizeof(sb->prev_segtab)))
		return !prev;
	return prev < gen && root_is_legal(&sb->prev_forest, g, segments, prev) &&
	       root_is_legal(&sb->prev_segtab, g, segments, prev);
}

static bool log_is_legal(const struct kvf_super *sb, const struct kvf_geometry *g)
{
	u32 incarnation = le32_to_cpu(sb->incarnation);
	u32 replay_incarnation = le32_to_cpu(sb->replay_incarnation);
	u32 segment = le32_to_cpu(sb->replay_segment);
	u32 offset = le32_to_cpu(sb->replay_offset);
	u64 replay = le64_to_cpu(sb->replay_lsn);
	u64 next = le64_to_cpu(sb->next_lsn);

	if (!replay_incarnation || replay_incarnation > incarnation)
		return false;
	if (segment < KVF_SEG_FIRST || segment >= le64_to_cpu(sb->segments))
		return false;
	if (offset % KVF_RECORD_ALIGN || offset < g->block ||
	    offset > g->segment - sizeof(struct kvf_record))
		return false;
	if (!replay || replay > next || le64_to_cpu(sb->attested_lsn) >= next)
		return false;
	if (incarnation != replay_incarnation &&
	    (le64_to_cpu(sb->cut_lsn) < replay || le64_to_cpu(sb->cut_lsn) > next))
		return false;
	return true;
}

/* After the first zero byte only zeros. */
static bool label_is_legal(const struct kvf_super *sb)
{
	u32 i = 0;

	while (i < KVF_LABEL_BYTES && sb->label[i])
		i++;
	return kvf_is_zero(sb->label + i, KVF_LABEL_BYTES - i);
}

static bool errors_are_legal(const struct kvf_super *sb)
{
	u32 n = le32_to_cpu(sb->errors_nr);

	n = KVF_MIN(n, KVF_ERRORS);
	return kvf_is_zero(sb->errors + n, (KVF_ERRORS - n) * sizeof(sb->errors[0]));
}

static bool fields_are_legal(const struct kvf_super *sb, const struct kvf_geometry *g)
{
	u64 segments = le64_to_cpu(sb->segments);
	u64 bytes_max = le64_to_cpu(sb->bytes_max);

	if (le32_to_cpu(sb->flags) & ~KVF_SUPER_CLEAN)
		return false;
	if (kvf_is_zero(sb->uuid, sizeof(sb->uuid)) || !label_is_legal(sb) || !errors_are_legal(sb))
		return false;
	if (segments <= KVF_SEG_FIRST || segments > KVF_SEGMENTS_MAX || !le64_to_cpu(sb->seq))
		return false;
	if (bytes_max && bytes_max < segments << g->segment_shift)
		return false;
	if (le32_to_cpu(sb->next_tree) <= KVF_TREE_USER)
		return false;
	return roots_are_legal(sb, g) && log_is_legal(sb, g);
}

int kvf_super_verify(const struct kvf_super *sb, u64 position)
{
	struct kvf_geometry g;

	if (memcmp(sb->magic, KVF_SUPER_MAGIC, sizeof(sb->magic)))
		return KVF_F_super_magic;
	if (le32_to_cpu(sb->size) != sizeof(*sb))
		return KVF_F_super_size;
	if (le64_to_cpu(sb->sum) != super_sum(sb))
		return KVF_F_super_sum;
	if (le32_to_cpu(sb->version) != KVF_VERSION)
		return KVF_F_super_version;
	if (le64_to_cpu(sb->incompat) & ~KVF_INCOMPAT_KNOWN)
		return KVF_F_super_incompat;
	if (kvf_geometry_from_super(&g, sb))
		return KVF_F_super_geometry;
	if (le64_to_cpu(sb->position) != position)
		return KVF_F_super_position;
	if (!fields_are_legal(sb, &g))
		return KVF_F_super_fields;
	if (!position_is_legal(sb, &g))
		return KVF_F_super_position;
	if (!kvf_is_zero(sb->reserved, sizeof(sb->reserved)))
		return KVF_F_super_reserved;
	return 0;
}
