/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segment.c - headers and footers of segments, entries of the segment table: seal and verify.
 *
 * A header names its segment and generation, so that a block from the segment's former life, from
 * another place or another volume never passes for it. A footer is an extract: where it contradicts
 * the records, the records are right, and it counts only at or below the attested LSN.
 */
#include "kvf.h"

#define LOG_FLAGS (KVF_SEGMENT_SEALED | KVF_SEGMENT_COLD | KVF_SEGMENT_FOOTER)
#define RECORD_BYTES_MIN 64u /* a SEAL, padding included */

/* ---- header ---------------------------------------------------------------------------------- */

static u64 header_sum(const struct kvf_segment_header *h)
{
	struct kvf_segment_header copy = *h;

	copy.sum = cpu_to_le64(0);
	return kvp_xxh64(&copy, sizeof(copy), 0);
}

void kvf_segment_header_seal(struct kvf_segment_header *h, const struct kvf_identity *id)
{
	bool log = h->kind == KVF_KIND_LOG;

	h->magic = cpu_to_le32(KVF_SEGMENT_MAGIC);
	memcpy(h->uuid, id->uuid, sizeof(h->uuid));
	h->segment = cpu_to_le32(id->segment);
	h->gen = cpu_to_le32(id->segment_gen);
	h->incarnation = cpu_to_le32(log ? id->incarnation : 0);
	/* fields of LOG segments alone: zero in the others, whatever the caller has left there */
	if (!log) {
		h->next_segment = cpu_to_le32(0);
		h->next_gen = cpu_to_le32(0);
		h->first_lsn = cpu_to_le64(0);
	}
	h->sum = cpu_to_le64(header_sum(h));
}

static bool successor_is_legal(const struct kvf_segment_header *h)
{
	u32 next = le32_to_cpu(h->next_segment);

	if (h->kind != KVF_KIND_LOG)
		return !next && !le32_to_cpu(h->next_gen) && !le64_to_cpu(h->first_lsn) &&
		       !le32_to_cpu(h->incarnation);
	if (!le64_to_cpu(h->first_lsn) || !le32_to_cpu(h->incarnation))
		return false;
	if (next == KVF_NO_SEGMENT)
		return !le32_to_cpu(h->next_gen);
	return next >= KVF_SEG_FIRST && next < KVF_SEGMENTS_MAX && next != le32_to_cpu(h->segment);
}

int kvf_segment_header_verify(const struct kvf_segment_header *h, const struct kvf_identity *id,
			      u8 kind)
{
	if (le32_to_cpu(h->magic) != KVF_SEGMENT_MAGIC)
		return KVF_F_segment_magic;
	if (le64_to_cpu(h->sum) != header_sum(h))
		return KVF_F_segment_sum;
	if (memcmp(h->uuid, id->uuid, sizeof(h->uuid)))
		return KVF_F_segment_foreign;
	if (le32_to_cpu(h->segment) != id->segment || le32_to_cpu(h->gen) != id->segment_gen)
		return KVF_F_segment_identity;
	if (h->kind != KVF_KIND_LOG && h->kind != KVF_KIND_TREE && h->kind != KVF_KIND_TAIL)
		return KVF_F_segment_kind;
	if (kind && h->kind != kind)
		return KVF_F_segment_kind;
	if (h->kind == KVF_KIND_LOG && id->incarnation &&
	    le32_to_cpu(h->incarnation) != id->incarnation)
		return KVF_F_segment_identity;
	if (!kvf_is_zero(h->reserved0, sizeof(h->reserved0)) || h->reserved1 != cpu_to_le32(0) ||
	    !kvf_is_zero(h->reserved2, sizeof(h->reserved2)))
		return KVF_F_segment_reserved;
	if (!successor_is_legal(h))
		return KVF_F_segment_next;
	return 0;
}

/* ---- footer ---------------------------------------------------------------------------------- */

static const struct kvf_footer_entry *footer_entries(const struct kvf_footer *f)
{
	return (const struct kvf_footer_entry *)f - le32_to_cpu(f->entries);
}

/* Chained, so that neither part needs to be copied: the sum of the entries seeds that of the head. */
static u64 footer_sum(const struct kvf_footer *f)
{
	size_t bytes = le32_to_cpu(f->entries) * sizeof(struct kvf_footer_entry);
	struct kvf_footer copy = *f;

	copy.sum = cpu_to_le64(0);
	return kvp_xxh64(&copy, sizeof(copy), kvp_xxh64(footer_entries(f), bytes, 0));
}

void kvf_footer_seal(struct kvf_footer *f, const struct kvf_identity *id)
{
	f->magic = cpu_to_le32(KVF_FOOTER_MAGIC);
	memcpy(f->uuid, id->uuid, sizeof(f->uuid));
	f->segment = cpu_to_le32(id->segment);
	f->gen = cpu_to_le32(id->segment_gen);
	f->incarnation = cpu_to_le32(id->incarnation);
	f->sum = cpu_to_le64(footer_sum(f));
}

int kvf_footer_head_verify(const struct kvf_footer *f, const struct kvf_identity *id,
			   const struct kvf_geometry *g)
{
	u32 end = le32_to_cpu(f->end);
	u32 entries = le32_to_cpu(f->entries);
	u32 records = le32_to_cpu(f->records);

	if (le32_to_cpu(f->magic) != KVF_FOOTER_MAGIC)
		return KVF_F_footer_magic;
	if (memcmp(f->uuid, id->uuid, sizeof(f->uuid)) || le32_to_cpu(f->segment) != id->segment ||
	    le32_to_cpu(f->gen) != id->segment_gen ||
	    (id->incarnation && le32_to_cpu(f->incarnation) != id->incarnation))
		return KVF_F_footer_identity;
	if (f->reserved0 != cpu_to_le32(0) || !kvf_is_zero(f->reserved1, sizeof(f->reserved1)))
		return KVF_F_footer_fields;
	if (end % KVF_RECORD_ALIGN || end < g->block + RECORD_BYTES_MIN || end > g->segment ||
	    end + kvf_footer_bytes(entries) > g->segment)
		return KVF_F_footer_fields;
	/* every record has a place, and the SEAL is no entry */
	if (records <= entries || records > (end - g->block) / RECORD_BYTES_MIN)
		return KVF_F_footer_fields;
	if (!le64_to_cpu(f->first_lsn) || le64_to_cpu(f->first_lsn) > le64_to_cpu(f->last_lsn))
		return KVF_F_footer_fields;
	if (le64_to_cpu(f->value_bytes) > end)
		return KVF_F_footer_fields;
	return 0;
}

int kvf_footer_verify(const struct kvf_footer *f, const struct kvf_identity *id,
		      const struct kvf_geometry *g)
{
	int finding = kvf_footer_head_verify(f, id, g);
	const struct kvf_footer_entry *e;
	u32 i, n = le32_to_cpu(f->entries);
	u64 total = 0, from = g->block;

	if (finding)
		return finding;
	if (le64_to_cpu(f->sum) != footer_sum(f))
		return KVF_F_footer_sum;
	e = footer_entries(f);
	for (i = 0; i < n; i++) {
		u32 offset = le32_to_cpu(e[i].offset), bytes = le32_to_cpu(e[i].bytes);

		if (offset % KVF_RECORD_ALIGN || bytes % KVF_RECORD_ALIGN ||
		    bytes < RECORD_BYTES_MIN || offset < from)
			return KVF_F_footer_fields;
		from = (u64)offset + bytes;
		total += bytes;
		if (from + RECORD_BYTES_MIN > le32_to_cpu(f->end))
			return KVF_F_footer_fields;
	}
	return total == le64_to_cpu(f->value_bytes) ? 0 : KVF_F_footer_fields;
}

/* ---- entry of the segment table ---------------------------------------------------------------- */

int kvf_segment_entry_verify(const void *entry, u32 len, const struct kvf_geometry *g)
{
	struct kvf_segment_entry e;
	u32 bitmap_len;

	if (len < sizeof(e))
		return KVF_F_table_entry;
	memcpy(&e, entry, sizeof(e));
	bitmap_len = le16_to_cpu(e.bitmap_len);
	if (e.kind > KVF_KIND_SUPER || len != sizeof(e) + bitmap_len ||
	    bitmap_len != (e.kind == KVF_KIND_TREE ? g->bitmap_len : 0))
		return KVF_F_table_entry;
	if (e.flags & ~(LOG_FLAGS | KVF_SEGMENT_QUARANTINE) || e.reserved != cpu_to_le32(0))
		return KVF_F_table_entry;
	if (le64_to_cpu(e.live) > g->segment || le64_to_cpu(e.pinned) > g->segment - le64_to_cpu(e.live))
		return KVF_F_table_entry;
	/* bit 0 is the header's */
	if (e.kind == KVF_KIND_TREE && !(((const u8 *)entry)[sizeof(e)] & 1))
		return KVF_F_table_entry;
	if (e.kind != KVF_KIND_LOG &&
	    (le64_to_cpu(e.live) || le64_to_cpu(e.pinned) || le64_to_cpu(e.last_lsn) || e.flags & LOG_FLAGS))
		return KVF_F_table_entry;
	/* a FREE segment may keep that of its last life */
	if (e.kind != KVF_KIND_LOG && e.kind != KVF_KIND_FREE && le32_to_cpu(e.incarnation))
		return KVF_F_table_entry;
	return 0;
}
