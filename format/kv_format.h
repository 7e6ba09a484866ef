/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kv_format.h - every structure on the medium. docs/FORMAT.md is the specification; this file, its
 * static asserts (kv_ondisk.h), the printers, kvs-fsck and the test images change in the same commit.
 *
 * All integers are little-endian, reserved bytes are written as zero and checked. Keys of system
 * trees hold big-endian numbers so that they sort. A checksum is XXH64; its field counts as zero
 * while it is computed, or lies outside of the bytes that it covers, as each structure says.
 *
 * Volume:  segment 0         superblock group A: slots at blocks 0..3
 *          segment 1         TAIL: header block, tail places 0 and 1 (a block each), window
 *          segment 2         superblock group B: slots at blocks 0..3
 *          segment 3...      FREE, LOG or TREE
 *          after the last    one block: copy of the superblock of creation, resize or clean close
 */
#ifndef KV_FORMAT_H
#define KV_FORMAT_H

#include "kv_types.h"

#define KVF_VERSION 3u

/* ---- limits ---------------------------------------------------------------------------------- */

#define KVF_BLOCK_MIN 512u
#define KVF_BLOCK_MAX 4096u
#define KVF_SEGMENT_MIN 4096u
#define KVF_SEGMENT_MAX (64u << 20)
#define KVF_SEGMENT_BLOCKS_MIN 8u
#define KVF_FRAME_MIN 2048u
#define KVF_FRAME_MAX 65536u
#define KVF_SLOTS 8u       /* superblock slots: KVF_GROUP_SLOTS in each of two groups */
#define KVF_GROUP_SLOTS 4u
#define KVF_DEPTH_MAX 12u  /* levels of a tree */
#define KVF_LABEL_BYTES 32u
#define KVF_TREE_NAME_MAX 128u /* bytes; and never more than the longest key of the geometry */
#define KVF_SEGMENTS_MAX 0x7fffffffu

#define KVF_SEG_SUPER_A 0u
#define KVF_SEG_TAIL 1u
#define KVF_SEG_SUPER_B 2u
#define KVF_SEG_FIRST 3u

/* ---- superblock ------------------------------------------------------------------------------ */

/* PNG style: 8-bit, then text that a reader recognises, then line ends that text mode would damage */
#define KVF_SUPER_MAGIC "\x89KVS\r\n\x1a\n"

#define KVF_SUPER_CLEAN 0x1u /* flags: nothing to replay */

/* A child: where a page is, when it was written and what it must contain. All zero: no page. */
struct kvf_ref {
	/* +0x00: byte offset / block size of the first copy; 0: no page */
	__le64 block0;
	/* +0x08: second copy, 0: the page is stored once */
	__le64 block1;
	/* +0x10: length in blocks */
	__le32 blocks;
	/* +0x14: zero */
	__le32 reserved;
	/* +0x18: generation in which this page was written */
	__le64 birth;
	/* +0x20: head_sum of the page */
	__le64 sum;
	/* +0x28 */
};

/* One entry of the superblock's ring of the last errors. All zero: unused. */
struct kvf_error_entry {
	/* +0x00: seconds since 1970 */
	__le64 time;
	/* +0x08: error number of kv_errcode.h */
	__le32 code;
	/* +0x0c: segment concerned, 0xffffffff: none */
	__le32 segment;
	/* +0x10 */
};

#define KVF_ERRORS 4u

struct kvf_super {
	/* +0x000 */
	u8 magic[8];
	/* +0x008: XXH64 of the 512 bytes with this field zero, seed 0 */
	__le64 sum;
	/* +0x010: format version */
	__le32 version;
	/* +0x014: bytes of this structure, 512 */
	__le32 size;
	/* +0x018: unknown bits here may be ignored */
	__le64 compat;
	/* +0x020: with unknown bits here the volume may only be read */
	__le64 ro_compat;
	/* +0x028: with unknown bits here the volume may not be opened */
	__le64 incompat;
	/* +0x030 */
	u8 uuid[16];
	/* +0x040: UTF-8, zero padded */
	u8 label[KVF_LABEL_BYTES];
	/* +0x060: log2 of bytes: block 9..12, segment 12..26, frame 11..16, window 0 (none) or 11..24 */
	u8 block_shift;
	u8 segment_shift;
	u8 frame_shift;
	u8 window_shift;
	/* +0x064: bytes; values of at most this many stand in the leaf */
	__le32 inline_max;
	/* +0x068: bytes of payload in a chunk of a large value */
	__le32 chunk_bytes;
	/* +0x06c */
	__le32 flags;
	/* +0x070: number of this superblock; goes to slot seq % 4 of both groups */
	__le64 seq;
	/* +0x078: own byte offset (copy at the end of the volume: its own offset too) */
	__le64 position;
	/* +0x080: checkpoint that the roots belong to */
	__le64 generation;
	/* +0x088: nothing that generations from this one on need has been reused */
	__le64 oldest_intact;
	/* +0x090: segments in the volume now */
	__le64 segments;
	/* +0x098: bytes that the volume may grow to, 0: no limit */
	__le64 bytes_max;
	/* +0x0a0: number of unclean openings, from 1 */
	__le32 incarnation;
	/* +0x0a4: incarnation of the records at the replay position */
	__le32 replay_incarnation;
	/* +0x0a8: when incarnation != replay_incarnation: the log to replay ends before this LSN */
	__le64 cut_lsn;
	/* +0x0b0: first LSN to replay, and where its record stands or will stand */
	__le64 replay_lsn;
	/* +0x0b8 */
	__le32 replay_segment;
	__le32 replay_segment_gen;
	/* +0x0c0 */
	__le32 replay_offset;
	/* +0x0c4: generation of the TAIL segment */
	__le32 tail_gen;
	/* +0x0c8: highest LSN known to be durable when this was written */
	__le64 attested_lsn;
	/* +0x0d0 */
	struct kvf_ref forest;
	/* +0x0f8 */
	struct kvf_ref segtab;
	/* +0x120: the roots of the checkpoint before this one */
	__le64 prev_generation;
	struct kvf_ref prev_forest;
	struct kvf_ref prev_segtab;
	/* +0x178: the newest is at (errors_nr - 1) % KVF_ERRORS */
	struct kvf_error_entry errors[KVF_ERRORS];
	/* +0x1b8: errors ever entered */
	__le32 errors_nr;
	/* +0x1bc: next free tree id */
	__le32 next_tree;
	/* +0x1c0: next free object id */
	__le64 next_object;
	/* +0x1c8: seconds since 1970 of creation */
	__le64 created;
	/* +0x1d0: lowest LSN that a new incarnation may use; LSNs are never reused */
	__le64 next_lsn;
	/* +0x1d8 */
	u8 reserved[40];
	/* +0x200 */
};

/* ---- segments -------------------------------------------------------------------------------- */

#define KVF_SEGMENT_MAGIC 0x4745534bu /* "KSEG" */
#define KVF_FOOTER_MAGIC 0x544f464bu  /* "KFOT" */
#define KVF_NO_SEGMENT 0xffffffffu

enum kvf_segment_kind {
	KVF_KIND_FREE = 0,
	KVF_KIND_LOG = 1,
	KVF_KIND_TREE = 2,
	KVF_KIND_TAIL = 3,
	KVF_KIND_SUPER = 4,
};

/* First block of every LOG, TREE and TAIL segment; the rest of the block is zero. */
struct kvf_segment_header {
	/* +0x00 */
	__le32 magic;
	/* +0x04: enum kvf_segment_kind */
	u8 kind;
	u8 reserved0[3];
	/* +0x08: XXH64 of these 96 bytes with this field zero, seed 0 */
	__le64 sum;
	/* +0x10 */
	u8 uuid[16];
	/* +0x20 */
	__le32 segment;
	/* +0x24: bumped at each reuse of the segment */
	__le32 gen;
	/* +0x28: LOG: incarnation of every record in the segment */
	__le32 incarnation;
	/* +0x2c: LOG: the segment that follows in the log and the generation that it will have */
	__le32 next_segment;
	/* +0x30 */
	__le32 next_gen;
	__le32 reserved1;
	/* +0x38: LOG: LSN of the first record */
	__le64 first_lsn;
	/* +0x40 */
	u8 reserved2[32];
	/* +0x60 */
};

/* One separated value of a sealed LOG segment. */
struct kvf_footer_entry {
	/* +0x00: byte offset of the record in the segment */
	__le32 offset;
	/* +0x04: bytes of the record, padding included */
	__le32 bytes;
	/* +0x08 */
};

/*
 * The last 96 bytes of a sealed LOG segment; its entries stand right before it, in ascending order of
 * offset. An extract of the records: where they contradict it, the records are right.
 */
struct kvf_footer {
	/* +0x00 */
	__le32 magic;
	/* +0x04: number of entries */
	__le32 entries;
	/* +0x08: XXH64 of these 96 bytes with this field zero, seeded by the XXH64 (seed 0) of the
	 * entries */
	__le64 sum;
	/* +0x10 */
	u8 uuid[16];
	/* +0x20 */
	__le32 segment;
	__le32 gen;
	/* +0x28 */
	__le32 incarnation;
	/* +0x2c: offset just after the SEAL record */
	__le32 end;
	/* +0x30: LSN of the first record and of the SEAL record */
	__le64 first_lsn;
	__le64 last_lsn;
	/* +0x40: number of records, the SEAL record included */
	__le32 records;
	__le32 reserved0;
	/* +0x48: bytes of the entries' records */
	__le64 value_bytes;
	/* +0x50 */
	u8 reserved1[16];
	/* +0x60 */
};

/* ---- records --------------------------------------------------------------------------------- */

/*
 * header (56 bytes) | extension (8 * n bytes, if KVF_RECORD_EXT) | key | payload | zeros to 16 bytes
 *
 * sum covers header (from +0x08), extension and key; payload_sum covers the payload. Both are seeded
 * by kvf_record_seed(): volume UUID, incarnation, segment, segment generation and home offset, so
 * that a stale record, a record of an abandoned timeline and log bytes inside a value never pass.
 */
#define KVF_RECORD_ALIGN 16u

enum kvf_record_kind {
	KVF_RECORD_PUT = 1,          /* key := payload */
	KVF_RECORD_DELETE = 2,       /* key is gone */
	KVF_RECORD_EXTENT = 3,       /* chunk of a large value: key of the objects tree := payload */
	KVF_RECORD_TREE_CREATE = 4,  /* key = name, tree = id, payload = options */
	KVF_RECORD_TREE_DROP = 5,    /* key = name, tree = id */
	KVF_RECORD_RANGE_DELETE = 6, /* key = from (inclusive), payload = to (exclusive, empty: no end) */
	KVF_RECORD_SEAL = 7,         /* the log goes on in the next segment */
	KVF_RECORD_SNAPSHOT = 8,     /* key = name; payload = struct kvf_snapshot_op */
	KVF_RECORD_PAD = 9,          /* payload of zeros up to the end of a block */
};

#define KVF_RECORD_EXT 0x01u    /* flags: an extension follows the header */
#define KVF_RECORD_OBJECT 0x02u /* PUT: the payload is a struct kvf_object, not the value itself */
#define KVF_RECORD_COPY 0x04u   /* copied by GC with its old LSN: replay skips it */
#define KVF_RECORD_FLAGS 0x07u

struct kvf_record {
	/* +0x00: XXH64 of bytes 0x08 to the end of the key, seeded */
	__le64 sum;
	/* +0x08 */
	u8 kind;
	u8 flags;
	/* +0x0a: bytes */
	__le16 key_len;
	/* +0x0c: bytes */
	__le32 payload_len;
	/* +0x10 */
	__le64 lsn;
	/* +0x18: highest LSN known to be durable when the record was made */
	__le64 attested;
	/* +0x20 */
	__le32 tree;
	/* +0x24 */
	__le32 incarnation;
	/* +0x28: place in its transaction, from 0; LSNs in it are consecutive but for a SEAL. A
	 * transaction that is not complete when the next begins was given up */
	__le32 txn_index;
	/* +0x2c: records of the transaction, at least 1 */
	__le32 txn_count;
	/* +0x30: XXH64 of the payload, seeded */
	__le64 payload_sum;
	/* +0x38 */
};

/*
 * Extension of a record and of a leaf entry: this head, then 8 bytes for each bit that is set in
 * fields, lowest bit first. Absent when no attribute is in use.
 */
struct kvf_ext {
	/* +0x00: length of head and fields in units of 8 bytes, at least 1 */
	u8 units;
	/* +0x01: enum kvf_value_type */
	u8 type;
	/* +0x02: KVF_EXT_* */
	__le16 fields;
	/* +0x04 */
	__le32 reserved;
	/* +0x08 */
};

#define KVF_EXT_VERSION 0x01u  /* version of the entry, counts its changes */
#define KVF_EXT_CREATED 0x02u  /* ns since 1970 */
#define KVF_EXT_MODIFIED 0x04u /* ns since 1970 */
#define KVF_EXT_EXPIRY 0x08u   /* ns since 1970 */
#define KVF_EXT_DIGEST 0x10u   /* XXH64 of the whole value, seed 0 */
#define KVF_EXT_OBJECT 0x20u   /* id of the list or stream object that the entry heads */
#define KVF_EXT_FIELDS 0x3fu

enum kvf_value_type {
	KVF_TYPE_BYTES = 0,
	KVF_TYPE_STRING = 1,
	KVF_TYPE_INT32 = 2,
	KVF_TYPE_UINT32 = 3,
	KVF_TYPE_INT64 = 4,
	KVF_TYPE_UINT64 = 5,
	KVF_TYPE_FLOAT = 6,
	KVF_TYPE_DOUBLE = 7,
	KVF_TYPE_LIST = 8,
	KVF_TYPE_STREAM = 9,
	KVF_TYPES = 10,
};

/* Where a separated value stands in the log. */
struct kvf_value_ref {
	/* +0x00 */
	__le32 segment;
	/* +0x04 */
	__le32 segment_gen;
	/* +0x08: byte offset of the record in the segment */
	__le32 offset;
	/* +0x0c: bytes of the payload */
	__le32 payload_len;
	/* +0x10 */
	__le64 lsn;
	/* +0x18: low half of the record's payload_sum */
	__le32 sum32;
	/* +0x1c: bytes of header, extension and key before the payload */
	__le16 head_len;
	/* +0x1e */
	__le16 reserved;
	/* +0x20 */
};

/* Head of a large value. Its chunks are entries of the objects tree. */
struct kvf_object {
	/* +0x00 */
	__le64 object;
	/* +0x08: bytes of the whole value */
	__le64 length;
	/* +0x10: bytes of every chunk but the last */
	__le32 chunk_bytes;
	/* +0x14 */
	__le32 reserved;
	/* +0x18 */
};

/* ---- pages ----------------------------------------------------------------------------------- */

#define KVF_PAGE_MAGIC 0x47504b50u /* "PKPG" */
#define KVF_HINTS 16u

#define KVF_PAGE_TWIN 0x01u    /* stored twice: block1 is used */
#define KVF_PAGE_COMPACT 0x02u /* a leaf without slots */

/*
 * header | slots, ascending | free | heap of items, from the end downwards
 *
 * Offsets into the heap count from the end of the page in units of 4 bytes, so that a page packed to
 * whole blocks and a frame in memory share them. Item: struct kvf_item, key suffix, cell, zeros to 4
 * bytes. The key of a slot is prefix + suffix; the prefix is the first prefix_len bytes of the lower
 * fence and is common to all keys that may stand in the page.
 *
 * head_sum covers the header from +0x10, and the 8 bytes at +0x00 by way of its seed; body_sum covers
 * from the end of the header to the end of the page. A parent's ref holds head_sum, so it commits to
 * the body as well.
 */
struct kvf_page {
	/* +0x00 */
	__le32 magic;
	/* +0x04: 0 for a leaf */
	u8 level;
	/* +0x05: KVF_PAGE_* */
	u8 flags;
	/* +0x06: slots */
	__le16 nr;
	/* +0x08 */
	__le64 head_sum;
	/* +0x10 */
	__le64 body_sum;
	/* +0x18 */
	u8 uuid[16];
	/* +0x28: own addresses in blocks, as in the ref */
	__le64 block0;
	__le64 block1;
	/* +0x38: generation in which it was written */
	__le64 generation;
	/* +0x40: newest change in it */
	__le64 lsn;
	/* +0x48 */
	__le32 tree;
	/* +0x4c: bytes of the page */
	__le32 bytes;
	/* +0x50: bytes of heap in use, holes included */
	__le32 heap;
	/* +0x54: bytes of holes in the heap; 0 on the medium */
	__le32 holes;
	/* +0x58: fences: offset in the heap (units of 4 from the end, 0: none) and length. No lower fence:
	 * from the first key. No upper fence (offset 0): to the last. lower <= keys < upper */
	__le16 lower_off;
	__le16 lower_len;
	__le16 upper_off;
	__le16 upper_len;
	/* +0x60 */
	__le16 prefix_len;
	u8 reserved[6];
	/* +0x68: heads of 16 slots spread evenly; rebuilt in memory, zero on the medium */
	__le32 hints[KVF_HINTS];
	/* +0xa8 */
};

struct kvf_slot {
	/* +0x00: first 4 bytes of the suffix as a big-endian number, zero padded */
	__le32 head;
	/* +0x04: of the item, units of 4 bytes from the end of the page */
	__le16 off;
	/* +0x06: bytes */
	__le16 suffix_len;
	/* +0x08 */
};

struct kvf_item {
	/* +0x00: bytes */
	__le16 cell_len;
	/* +0x02: leaf: KVF_CELL_*; inner: 0 */
	u8 flags;
	u8 reserved;
	/* +0x04: suffix, cell */
};

/*
 * Cell of an inner page: struct kvf_ref. Slot 0 holds the child of everything below slot 1.
 * Cell of a leaf: extension (if KVF_CELL_EXT), then by kind: the value; struct kvf_value_ref; struct
 * kvf_object.
 */
#define KVF_CELL_INLINE 0x00u
#define KVF_CELL_REF 0x01u
#define KVF_CELL_OBJECT 0x02u
#define KVF_CELL_KIND 0x03u
#define KVF_CELL_EXT 0x04u
#define KVF_CELL_POISON 0x08u /* the value was found damaged: it is an error, never data */
#define KVF_CELL_FLAGS 0x0fu

/* ---- trees ----------------------------------------------------------------------------------- */

/* Tree ids. System trees and the forest are stored twice, leaves too; objects like a user's tree. */
#define KVF_TREE_FOREST 1u
#define KVF_TREE_SEGTAB 2u
#define KVF_TREE_OBJECTS 3u
#define KVF_TREE_USER 16u /* "main", the default tree; others follow */
#define KVF_TREE_DEFAULT_NAME "main"

/* Keys of the forest: a class byte, then as said. */
#define KVF_FOREST_TREE 'T'     /* name -> struct kvf_tree_head; the objects tree has the empty name */
#define KVF_FOREST_DOOMED 'X'   /* tree id BE32 -> struct kvf_tree_head of a dropped tree */
/* tree id BE32, LSN BE64, part (0 from, 1 to, 2 cursor) -> struct kvf_range_delete, the part's key */
#define KVF_FOREST_RANGE 'R'
#define KVF_FOREST_SNAPSHOT 'N' /* name -> struct kvf_snapshot */

struct kvf_tree_head {
	/* +0x00 */
	__le32 id;
	/* +0x04: KVF_TREE_FLAG_*; none yet */
	__le32 flags;
	/* +0x08: entries */
	__le64 count;
	/* +0x10 */
	struct kvf_ref root;
	/* +0x38: generation and time (ns since 1970) of creation */
	__le64 created_gen;
	__le64 created;
	/* +0x48: options: inline threshold in bytes (0: the volume's), compression, redundancy */
	__le32 inline_max;
	u8 compression;
	u8 redundancy;
	__le16 reserved0;
	/* +0x50: index of this tree: id of the tree that it is derived from; 0: a tree of its own */
	__le32 index_of;
	__le32 index_kind;
	/* +0x58: counter for the user (next row, sequence) */
	__le64 counter;
	/* +0x60: clone: generation of the snapshot that it starts from; 0: none, and zeros up to 0x74 */
	__le64 origin;
	/* +0x68: large values with ids below this are those of the snapshot */
	__le64 origin_object;
	/* +0x70: id of the tree there */
	__le32 origin_tree;
	/* +0x74 */
	u8 reserved1[12];
	/* +0x80 */
};

struct kvf_range_delete {
	/* +0x00: bytes of each of the three keys; the same in all parts */
	__le16 from_len;
	__le16 to_len;
	__le16 cursor_len;
	__le16 reserved;
	/* +0x08 */
};

struct kvf_snapshot {
	/* +0x00: of the checkpoint whose state it is */
	__le64 generation;
	/* +0x08: newest change in it */
	__le64 lsn;
	/* +0x10: ns since 1970 */
	__le64 created;
	/* +0x18: its forest; all zero in that very forest, which cannot name itself */
	struct kvf_ref forest;
	/* +0x40: received from elsewhere: volume whose state it is, and its generation there; else zero */
	u8 origin_uuid[16];
	__le64 origin_generation;
	/* +0x58: 0: all of that state; else the state is partly here, and this says how far */
	__le64 origin_part;
	/* +0x60 */
};

struct kvf_snapshot_op {
	/* +0x00: 1 create, 2 delete, 3 roll back, 4 clone */
	__le32 op;
	__le32 tree;
	/* +0x08 */
};

/* Keys of the segment table: a class byte, then as said. */
#define KVF_SEGTAB_SEGMENT 'S' /* segment BE32 -> struct kvf_segment_entry */
#define KVF_SEGTAB_BATCH 'F'   /* generation BE64, number BE32 -> array of struct kvf_free */
#define KVF_SEGTAB_DEAD 'D'    /* segment BE32, chunk BE32 -> bitmap: record at 32 * bit is dead */
/*
 * Generations BE64 of the newest snapshot when this died, and of the oldest one that refers to it, number
 * BE32 -> struct kvf_free[]: pages, and with block 0 a number of bytes of records of a LOG segment
 */
#define KVF_SEGTAB_LIST 'L'

#define KVF_BITMAP_BYTES_MAX 1024u
#define KVF_DEAD_CHUNK_BYTES 256u /* and at most frame / 16 */
#define KVF_DEAD_GRANULE 32u

struct kvf_segment_entry {
	/* +0x00 */
	__le32 gen;
	/* +0x04: enum kvf_segment_kind */
	u8 kind;
	/* +0x05: KVF_SEGMENT_* */
	u8 flags;
	/* +0x06: bytes of the bitmap that follows; 0 but for TREE */
	__le16 bitmap_len;
	/* +0x08: LOG: bytes of records whose values are live; TREE: zero */
	__le64 live;
	/* +0x10: LOG: bytes of records that snapshots refer to, and the live state does not */
	__le64 pinned;
	/* +0x18: LOG: LSN of the last record, 0 while it is the head */
	__le64 last_lsn;
	/* +0x20: LOG; FREE: anything */
	__le32 incarnation;
	/* +0x24: zero */
	__le32 reserved;
	/* +0x28: TREE: a bit for each unit of (1 << kvf_geometry.unit_shift) blocks, set = used or not
	 * yet reusable; bit 0 (the header) is set */
};

#define KVF_SEGMENT_SEALED 0x01u     /* LOG: not the head */
#define KVF_SEGMENT_QUARANTINE 0x02u /* unreadable: never reused */
#define KVF_SEGMENT_COLD 0x04u       /* LOG: survivors of GC */
#define KVF_SEGMENT_FOOTER 0x08u     /* LOG: ends in a footer (not when a crash cut it) */

/* A part of a segment that is free once every intact superblock is at least of the batch's generation */
struct kvf_free {
	/* +0x00 */
	__le32 segment;
	/* +0x04: block in the segment */
	__le32 block;
	/* +0x08: blocks; KVF_FREE_WHOLE: the whole (LOG) segment */
	__le32 blocks;
	/* +0x0c */
	__le32 reserved;
	/* +0x10: generation in which it was written */
	__le64 birth;
	/* +0x18 */
};

#define KVF_FREE_WHOLE 0xffffffffu

/* Keys of the objects tree: a class byte, object id BE64, then as said. */
#define KVF_OBJECT_PENDING 0x00 /* nothing more; empty: a stream not yet committed */
#define KVF_OBJECT_DOOMED 0x01  /* nothing more; empty: chunks are being deleted */
#define KVF_OBJECT_CHUNK 0x02   /* chunk number BE64 -> the chunk */

/* ---- geometry: what follows from the shifts; never stored ------------------------------------- */

struct kvf_geometry {
	u32 block;     /* bytes */
	u32 segment;   /* bytes */
	u32 frame;     /* bytes of a page in memory, the most that one has on the medium */
	u32 window;    /* bytes, 0: none */
	u32 slot;      /* bytes between superblock slots: the block size, at least 512 */
	u32 seg_blocks;
	u8 block_shift, segment_shift, frame_shift, unit_shift;
	u32 bitmap_len;    /* bytes of a TREE segment's bitmap */
	u32 tail_offset;   /* byte offset of tail place 0 in segment 1; place 1 follows */
	u32 window_offset; /* byte offset of the window in segment 1 */
	u32 key_max;       /* bytes of the longest key */
	u32 item_max;      /* bytes of suffix and cell of the largest item */
	u32 inline_max;    /* bytes of the largest value that stands in a leaf */
	u32 chunk_bytes;   /* bytes of a chunk of a large value; larger values become objects */
	u32 record_max;    /* bytes of the longest record */
};

/* Where bytes belong: what a record, page or segment is checked against. */
struct kvf_identity {
	u8 uuid[16];
	u32 segment;
	u32 segment_gen;
	u32 incarnation;
};

#endif
