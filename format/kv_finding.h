/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kv_finding.h - every way in which bytes from the medium can be wrong. Verifiers return one of
 * these numbers, 0 for fine. Numbers are permanent. docs/FORMAT.md ties each to an invariant.
 */
#ifndef KV_FINDING_H
#define KV_FINDING_H

/* clang-format off */
/* x(name, number, sentence) */
#define KVF_FINDINGS(x) \
	x(super_magic,		101, "superblock: wrong magic") \
	x(super_sum,		102, "superblock: checksum mismatch") \
	x(super_version,	103, "superblock: the version is newer, or too old") \
	x(super_size,		104, "superblock: wrong size") \
	x(super_geometry,	105, "superblock: impossible geometry") \
	x(super_position,	106, "superblock: stands at another place than it says") \
	x(super_fields,		107, "superblock: contradictory fields") \
	x(super_reserved,	108, "superblock: reserved bytes are not zero") \
	x(super_incompat,	109, "superblock: unknown incompatible feature") \
	x(super_stale,		110, "superblock: one group lacks the newest superblock") \
	x(super_ro_compat,	111, "superblock: unknown read-only compatible feature") \
	x(segment_magic,	201, "segment header: wrong magic") \
	x(segment_sum,		202, "segment header: checksum mismatch") \
	x(segment_foreign,	203, "segment header: of another volume") \
	x(segment_identity,	204, "segment header: of another segment or generation") \
	x(segment_kind,		205, "segment header: wrong kind") \
	x(segment_reserved,	206, "segment header: reserved bytes are not zero") \
	x(segment_next,		207, "segment header: impossible successor") \
	x(footer_magic,		211, "segment footer: wrong magic") \
	x(footer_sum,		212, "segment footer: checksum mismatch") \
	x(footer_identity,	213, "segment footer: of another segment or generation") \
	x(footer_fields,	214, "segment footer: contradicts itself or the records") \
	x(record_none,		301, "record: none here (zeros)") \
	x(record_sum,		302, "record: header checksum mismatch") \
	x(record_kind,		303, "record: unknown kind or flags") \
	x(record_size,		304, "record: longer than its segment") \
	x(record_incarnation,	305, "record: of another incarnation") \
	x(record_txn,		306, "record: impossible transaction fields") \
	x(record_payload,	307, "record: payload checksum mismatch") \
	x(record_lsn,		308, "record: LSN out of order") \
	x(record_ext,		309, "record: malformed extension") \
	x(record_padding,	310, "record: padding is not zero") \
	x(page_magic,		401, "page: wrong magic") \
	x(page_head_sum,	402, "page: header checksum mismatch") \
	x(page_body_sum,	403, "page: body checksum mismatch") \
	x(page_foreign,		404, "page: of another volume") \
	x(page_address,		405, "page: stands at another place than it says") \
	x(page_generation,	406, "page: of another generation than its parent says") \
	x(page_tree,		407, "page: of another tree") \
	x(page_level,		408, "page: of another level than its parent says") \
	x(page_size,		409, "page: wrong size") \
	x(page_layout,		410, "page: slots or heap out of bounds") \
	x(page_order,		411, "page: keys out of order") \
	x(page_fence,		412, "page: key outside of the fences") \
	x(page_fences,		413, "page: fences differ from what the parent says") \
	x(page_cell,		414, "page: malformed cell") \
	x(page_reserved,	415, "page: reserved bytes are not zero") \
	x(page_stale,		416, "page: checksum differs from its parent's (lost or stale write)") \
	x(page_twin,		417, "page: one of two copies is damaged") \
	x(ref_bounds,		501, "ref: outside of the volume or across segments") \
	x(ref_zero,		502, "ref: empty") \
	x(ref_kind,		503, "ref: points into a segment of another kind") \
	x(ref_shared,		504, "ref: blocks belong to two owners") \
	x(value_bounds,		511, "value ref: outside of the volume") \
	x(value_mismatch,	512, "value ref: record differs from what the leaf says") \
	x(value_key,		513, "value ref: record of another key") \
	x(object_missing,	514, "large value: a chunk is missing") \
	x(object_size,		515, "large value: a chunk has the wrong size") \
	x(object_orphan,	516, "large value: chunks without owner") \
	x(value_poison,		517, "value was found damaged earlier") \
	x(tree_head,		601, "forest: malformed tree head") \
	x(tree_count,		602, "forest: number of entries is wrong") \
	x(tree_id,		603, "forest: two trees share an id") \
	x(forest_key,		604, "forest: malformed key") \
	x(snapshot_row,		605, "forest: malformed snapshot") \
	x(forest_range,		606, "forest: rows of a range delete contradict one another") \
	x(tree_origin,		607, "forest: a clone of a snapshot that is not there") \
	x(clone_ref,		608, "a clone refers to what no snapshot has") \
	x(table_entry,		701, "segment table: malformed entry") \
	x(table_missing,	702, "segment table: no entry for a segment") \
	x(table_bitmap,		703, "segment table: a block in use is marked free") \
	x(table_leak,		704, "segment table: a block not in use is marked used") \
	x(table_live,		705, "segment table: live bytes are wrong") \
	x(table_kind,		706, "segment table: kind differs from the segment's header") \
	x(table_key,		707, "segment table: malformed key") \
	x(batch_entry,		708, "free batch: malformed entry") \
	x(list_entry,		709, "dead list: malformed entry, or not what only snapshots need") \
	x(table_pinned,		710, "segment table: pinned bytes are wrong") \
	x(volume_short,		801, "volume: shorter than the superblock says") \
	x(volume_copy,		802, "volume: no superblock copy at the end") \
	x(log_gap,		803, "log: ends before the attested LSN") \
	x(volume_long,		804, "volume: longer than the superblock says") \
	x(io_error,		805, "volume: read error")
/* clang-format on */

#define KVF_FINDING_ENUM(name, number, sentence) KVF_F_##name = (number),
enum kvf_finding { KVF_F_ok = 0, KVF_FINDINGS(KVF_FINDING_ENUM) };
#undef KVF_FINDING_ENUM

/* Name ("page_head_sum") and sentence of a finding; "?" when unknown. Static strings. */
const char *kvf_finding_name(int finding);
const char *kvf_finding_text(int finding);

#endif
