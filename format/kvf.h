/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvf.h - what format/ does: derive the geometry; encode, decode, verify and print each structure.
 *
 * Pure functions on bytes: no I/O, no allocation, no locks, no floating point; thread-safe. Nothing
 * that is verified is trusted before: every function may be given arbitrary bytes. Verifiers return
 * a finding (kv_finding.h), 0 for fine.
 */
#ifndef KVF_H
#define KVF_H

#include "kv_format.h"
#include "kv_ondisk.h"
#include "kv_errcode.h"
#include "kv_finding.h"

/* ---- geometry.c ------------------------------------------------------------------------------ */

/*
 * All sizes that follow from the shifts and the two stored thresholds of a superblock. With inline_max
 * or chunk_bytes 0 the defaults are chosen. Returns 0 or KVF_F_super_geometry.
 *
 * frame <= segment - 2 blocks and >= block; key_max = (frame - 168 - 800) / 10 rounded down to 4, so
 * that a page holds two fences and eight of the longest entries (slot 8, item 4, key, 88 of cell with
 * extension); item_max = key_max + 88; unit_shift is the least with seg_blocks >> unit_shift <= 8 *
 * min(1024, frame / 16); inline_max defaults to frame / 32 and is at most item_max / 2; chunk_bytes
 * defaults to round_down((segment - 4 blocks) / 8, block) - block, at most 256 KiB, at least one block;
 * for segments below 64 KiB (segment - 4 blocks) / 2; record_max = segment - block - 64 (SEAL) - 96 - 8
 * (footer), rounded down to 16; tail_offset = block; window_offset = round_up(3 blocks, 4096); a window
 * is at least a block and must fit in segment 1. inline_max <= chunk_bytes <= 256 KiB, and the record
 * of a chunk with the longest key is at most record_max.
 */
int kvf_geometry_derive(struct kvf_geometry *g, u8 block_shift, u8 segment_shift, u8 frame_shift,
			u8 window_shift, u32 inline_max, u32 chunk_bytes);
int kvf_geometry_from_super(struct kvf_geometry *g, const struct kvf_super *sb);
/* Byte offset of the slot for superblock seq in group 0 (A) or 1 (B). */
u64 kvf_super_offset(const struct kvf_geometry *g, u64 seq, unsigned int group);

/* ---- super.c --------------------------------------------------------------------------------- */

/* Set magic, version, size, position and sum; the caller has filled the rest. */
void kvf_super_seal(struct kvf_super *sb, u64 position);
/*
 * Is this a superblock that belongs at byte offset position? Order: magic, size, sum, version,
 * incompat, geometry, position, fields, reserved; so "not a volume", "damaged" and "newer" differ.
 */
int kvf_super_verify(const struct kvf_super *sb, u64 position);
/* Feature bits that this version knows. */
#define KVF_COMPAT_KNOWN 0ull
#define KVF_RO_COMPAT_KNOWN 0ull
#define KVF_INCOMPAT_KNOWN 0ull

/* ---- segment.c ------------------------------------------------------------------------------- */

/* Set magic, identity and sum; the caller has filled kind, next and first_lsn and zeroed the rest. */
void kvf_segment_header_seal(struct kvf_segment_header *h, const struct kvf_identity *id);
/* incarnation is compared for LOG only; id->incarnation 0: any. kind 0: any. */
int kvf_segment_header_verify(const struct kvf_segment_header *h, const struct kvf_identity *id, u8 kind);
/* entries stand right before f. Sets magic, identity, sum; the caller has filled the rest. */
void kvf_footer_seal(struct kvf_footer *f, const struct kvf_identity *id);
/* Bytes of a footer with n entries. */
static inline u64 kvf_footer_bytes(u64 n)
{
	return sizeof(struct kvf_footer) + n * sizeof(struct kvf_footer_entry);
}
/* Header alone (magic, identity, sizes): then the caller reads the entries, if any. */
int kvf_footer_head_verify(const struct kvf_footer *f, const struct kvf_identity *id,
			   const struct kvf_geometry *g);
/* All of it: entries stand right before f. */
int kvf_footer_verify(const struct kvf_footer *f, const struct kvf_identity *id,
		      const struct kvf_geometry *g);
int kvf_segment_entry_verify(const void *entry, u32 len, const struct kvf_geometry *g);

/* ---- record.c -------------------------------------------------------------------------------- */

u64 kvf_record_seed(const struct kvf_identity *id, u32 offset);
/* Bytes of a record in the log, padding included. */
static inline u64 kvf_record_bytes(u32 ext_len, u32 key_len, u64 payload_len)
{
	return KVF_ROUND_UP((u64)sizeof(struct kvf_record) + ext_len + key_len + payload_len,
			    KVF_RECORD_ALIGN);
}
/*
 * Header, extension and key stand at r in order; the payload is anywhere. Sets incarnation,
 * payload_sum and sum.
 */
void kvf_record_seal(struct kvf_record *r, const struct kvf_identity *id, u32 offset, u32 ext_len,
		     const void *payload, u32 payload_len);
/*
 * Header, extension and key of the record at home offset; avail: bytes that can be read at r (at
 * least 56). Says KVF_F_record_size when more than avail would be needed for header and key (*need is
 * then the number of bytes, at most the rest of the segment) or when the record would leave the
 * segment (*need = 0).
 */
int kvf_record_verify(const struct kvf_record *r, u32 avail, const struct kvf_identity *id, u32 offset,
		      const struct kvf_geometry *g, u32 *need);
int kvf_record_payload_verify(const struct kvf_record *r, const void *payload,
			      const struct kvf_identity *id, u32 offset);
/* The zeros behind the payload, up to a multiple of 16 bytes: padding points right behind the payload. */
int kvf_record_padding_verify(const struct kvf_record *r, const void *padding);
/* Bytes of the extension (0: none); never more than 64 after kvf_record_verify. */
u32 kvf_record_ext_len(const struct kvf_record *r);
static inline const u8 *kvf_record_key(const struct kvf_record *r)
{
	return (const u8 *)(r + 1) + kvf_record_ext_len(r);
}
/* Checks head and length of an extension of at most avail bytes; *len = its bytes. */
int kvf_ext_verify(const void *ext, u32 avail, u32 *len);

/* ---- page.c ---------------------------------------------------------------------------------- */

struct kvf_page_expect {
	const u8 *uuid;
	const struct kvf_ref *ref; /* NULL: only what the page says of itself */
	u32 tree;                  /* 0: any */
	int level;                 /* -1: any */
};
/*
 * A page of len bytes as read from block addr (0: not known): magic, sums, identity, ref's sum, layout
 * bounds, order of keys, fences, cells. After 0 all kvf_page_* accessors below are safe on it, or, if it
 * is a compact leaf, those of leaf.c.
 */
int kvf_page_verify(const void *page, u32 len, u64 addr, const struct kvf_page_expect *e,
		    const struct kvf_geometry *g);
/* All but the sums: of a page that has just been sealed. */
int kvf_page_sealed_verify(const void *page, u32 len, u64 addr, const struct kvf_page_expect *e,
			   const struct kvf_geometry *g);
/* Layout, order, fences and cells alone; for a frame in memory (len = frame) before it is written. */
int kvf_page_layout_verify(const void *page, u32 len, const struct kvf_geometry *g);
/* Compute body_sum and head_sum. All other fields are set, hints and holes are zero. */
void kvf_page_seal(void *page, u32 len);
int kvf_ref_verify(const struct kvf_ref *ref, const struct kvf_geometry *g, u64 segments);

static inline const struct kvf_slot *kvf_page_slots(const void *page)
{
	return (const struct kvf_slot *)((const u8 *)page + sizeof(struct kvf_page));
}
/* Item of slot i in a page (or frame) of len bytes. */
#define KVF_HEAP_UNIT 4u /* of offsets in the heap */
static inline const struct kvf_item *kvf_page_item(const void *page, u32 len, u32 i)
{
	u32 off = le16_to_cpu(kvf_page_slots(page)[i].off) * KVF_HEAP_UNIT;

	return (const struct kvf_item *)((const u8 *)page + len - off);
}
/* Cell bytes of slot i, *cell_len, *flags. */
static inline const u8 *kvf_page_cell(const void *page, u32 len, u32 i, u32 *cell_len, u8 *flags)
{
	const struct kvf_item *item = kvf_page_item(page, len, i);

	*cell_len = le16_to_cpu(item->cell_len);
	*flags = item->flags;
	return (const u8 *)(item + 1) + le16_to_cpu(kvf_page_slots(page)[i].suffix_len);
}
/* Order of keys: that of their bytes. */
static inline int kvf_key_compare(const void *a, u32 a_len, const void *b, u32 b_len)
{
	int cmp = memcmp(a, b, KVF_MIN(a_len, b_len));

	return cmp ? cmp : (a_len > b_len) - (a_len < b_len);
}
/* First 4 bytes of a suffix as a big-endian number, zero padded. */
static inline u32 kvf_key_head(const u8 *suffix, u32 len)
{
	if (len >= 4)
		return kvf_get_be32(suffix);
	return (len > 0 ? (u32)suffix[0] << 24 : 0) | (len > 1 ? (u32)suffix[1] << 16 : 0) |
	       (len > 2 ? (u32)suffix[2] << 8 : 0);
}
/* Full key of slot i into buf (key_max bytes); returns its length. */
u32 kvf_page_key(const void *page, u32 len, u32 i, void *buf);
/* Fences: pointer into the page, *flen; NULL for none. */
const u8 *kvf_page_lower(const void *page, u32 len, u32 *flen);
const u8 *kvf_page_upper(const void *page, u32 len, u32 *flen);
/* A leaf cell: flags, cell bytes -> extension length, kind, body. Returns a finding. */
int kvf_cell_verify(u8 flags, const u8 *cell, u32 cell_len, const struct kvf_geometry *g);

/* ---- leaf.c ---------------------------------------------------------------------------------- */

struct kvf_leaf_entry {
	const u8 *suffix, *cell; /* cell: in the page, or ref below */
	u32 suffix_len, cell_len;
	struct kvf_value_ref ref;
	u8 flags;
};
/* Byte offset of the first entry; the last one ends at sizeof(struct kvf_page) + heap. */
u32 kvf_leaf_start(const struct kvf_page *p);
/* The entry at byte offset at, up to end. Its bytes; 0: there is none. Any bytes may stand there. */
u32 kvf_leaf_entry(const void *page, u32 at, u32 end, struct kvf_leaf_entry *e);
#define KVF_LEAF_SLACK 80u /* bytes; less than any block */
/*
 * The leaf in a frame as a compact one in dst, of at most room bytes; KVF_LEAF_SLACK bytes behind them are
 * scratch. Its bytes, without the zeros up to whole blocks; 0: it needs more, or an entry would get longer
 * than it is. Addresses, generation, bytes and sums are the caller's.
 */
u32 kvf_leaf_pack(const void *page, u32 frame, void *dst, u32 room);
/* The reverse of a verified compact leaf, in place, in a buffer of frame bytes; but for hints and bytes. */
void kvf_leaf_unpack(void *page, u32 frame);

/* Does a snapshot's row name all of where it comes from, or nothing? */
static inline bool kvf_snapshot_origin_fits(const struct kvf_snapshot *row)
{
	return row->origin_generation ||
	       (!row->origin_part && kvf_is_zero(row->origin_uuid, sizeof(row->origin_uuid)));
}

/* ---- name.c ---------------------------------------------------------------------------------- */

/* Name of a tree: 1 to KVF_TREE_NAME_MAX bytes of UTF-8 without control characters. Returns a finding. */
int kvf_tree_name_verify(const void *name, u32 len);

/* ---- to_text.c ------------------------------------------------------------------------------- */

/* One structure as readable lines "name: value" into buf (always terminated). Returns the length that
 * it would have had, as snprintf. */
size_t kvf_super_to_text(char *buf, size_t len, const struct kvf_super *sb);
size_t kvf_segment_header_to_text(char *buf, size_t len, const struct kvf_segment_header *h);
size_t kvf_segment_entry_to_text(char *buf, size_t len, const void *entry, u32 entry_len);
size_t kvf_footer_to_text(char *buf, size_t len, const struct kvf_footer *f);
size_t kvf_record_to_text(char *buf, size_t len, const struct kvf_record *r);
size_t kvf_page_to_text(char *buf, size_t len, const void *page, u32 page_len);
size_t kvf_ref_to_text(char *buf, size_t len, const struct kvf_ref *ref);
size_t kvf_tree_head_to_text(char *buf, size_t len, const struct kvf_tree_head *h);
/* Key bytes for messages: printable ASCII as is, else \xNN; cut with "..." */
size_t kvf_key_to_text(char *buf, size_t len, const void *key, u32 key_len);

#endif
