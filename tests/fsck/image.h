/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * image.h - a small volume made by hand, from the decoders' counterparts in format/ and the packer of
 * pages alone: what kvs-fsck is tested with must not come from the engine that it judges.
 *
 * 512-byte blocks, 8 KiB segments, 2 KiB frames, a window of 4 KiB:
 *   0 superblocks A   1 TAIL   2 superblocks B
 *   3 LOG, the head: one value below the replay position, then a put and a transaction of two puts
 *   4 LOG, sealed, with footer: a value, two chunks of a large value
 *   5, 6 TREE, the first and the second copies of the pages   7 FREE
 * Trees: "main", an inner page over two leaves, 8 entries: inline values, two separated ones, a large
 * one; the objects tree; a free batch with one freed page.
 */
#ifndef TESTS_FSCK_IMAGE_H
#define TESTS_FSCK_IMAGE_H

#include "../../format/kvf.h"

#define IMAGE_SEGMENTS 8u
#define IMAGE_SEGMENT 8192u
#define IMAGE_BLOCK 512u
#define IMAGE_FRAME 2048u
#define IMAGE_BYTES (IMAGE_SEGMENTS * IMAGE_SEGMENT + IMAGE_BLOCK)

/* Things that a builder can do wrong, with every checksum right. */
enum image_fault {
	IMAGE_GOOD,
	IMAGE_COUNT,	     /* the head of main has one entry too many */
	IMAGE_ID_TWICE,	     /* a second tree with the id of main */
	IMAGE_ID_NEXT,	     /* a second tree with an id that is not given out yet */
	IMAGE_FOREST_KEY,    /* a row of an unknown class in the forest */
	IMAGE_HEAD,	     /* reserved bits in a tree head */
	IMAGE_FENCES,	     /* the second leaf begins later than its parent says */
	IMAGE_LEVEL,	     /* main's root: level 12 */
	IMAGE_SHARED,	     /* both slots of the inner page lead to the same leaf */
	IMAGE_FUTURE,	     /* a leaf born after the checkpoint */
	IMAGE_ONE_COPY,	     /* the inner page is stored once */
	IMAGE_REF_BOUNDS,    /* a child outside of the volume */
	IMAGE_ROOT_LOOP,     /* main's root is the forest's root */
	IMAGE_VALUE_BOUNDS,  /* a value in segment 100 */
	IMAGE_VALUE_KIND,    /* a value in a TREE segment */
	IMAGE_VALUE_GEN,     /* a value in another generation of its segment */
	IMAGE_VALUE_KEY,     /* the ref of another key */
	IMAGE_VALUE_LSN,     /* a ref with another LSN */
	IMAGE_VALUE_SUM,     /* a ref with another sum32 */
	IMAGE_VALUE_DELETE,  /* a ref to a DELETE record is impossible: to the SEAL record */
	IMAGE_VALUE_TAIL,    /* a value in the block where replay begins, in tail place 0 only: good */
	IMAGE_VALUE_RESCUE,  /* a value damaged at home, whole in tail place 0: not where it belongs */
	IMAGE_POISON,	     /* a poisoned entry */
	IMAGE_CHUNK_MISSING, /* the second chunk has no row */
	IMAGE_CHUNK_SIZE,    /* the head says one byte more */
	IMAGE_CHUNK_ORPHAN,  /* the head is an ordinary value instead */
	IMAGE_CHUNK_PENDING, /* the same, with a row that says pending: good */
	IMAGE_CHUNK_MARKED,  /* a head, and a row that says pending */
	IMAGE_CHUNK_MORE,    /* a third chunk behind the end */
	IMAGE_OBJECT_TWICE,  /* two heads of one object */
	IMAGE_OBJECT_KEY,    /* a row of an unknown class in the objects tree */
	IMAGE_TABLE_MISSING, /* no entry for segment 7 */
	IMAGE_TABLE_ENTRY,   /* kind 9 */
	IMAGE_TABLE_KEY,     /* a row of an unknown class in the segment table */
	IMAGE_TABLE_BITMAP,  /* a block in use is marked free */
	IMAGE_TABLE_LEAK,    /* a free block is marked used */
	IMAGE_TABLE_LIVE,    /* live bytes of segment 4 */
	IMAGE_TABLE_KIND,    /* segment 5 is TREE, its header says LOG */
	IMAGE_TABLE_GEN,     /* segment 4: another generation in the header */
	IMAGE_TABLE_LOG,     /* the table says that segment 6, full of pages, is LOG */
	IMAGE_BATCH_SHAPE,   /* a batch of 23 bytes */
	IMAGE_BATCH_BOUNDS,  /* a freed block beyond its segment */
	IMAGE_BATCH_USED,    /* a batch frees a leaf that is in use */
	IMAGE_BATCH_TWICE,   /* a block is freed twice */
	IMAGE_BATCH_FREE,    /* a freed block is marked free already */
	IMAGE_BATCH_WHOLE,   /* a TREE segment freed as a whole */
	IMAGE_FOOTER,	     /* the footer's last LSN differs from the table */
	IMAGE_LOG_LSN,	     /* the second record behind the replay position skips an LSN */
	IMAGE_LOG_TXN,	     /* the transaction's second record says 2 of 3 */
	IMAGE_LOG_TORN,	     /* the transaction lacks its second record: a note */
	IMAGE_LOG_PAYLOAD,   /* bad payload of an attested record */
	IMAGE_LOG_PAYLOAD_TAIL, /* bad payload of the last record, not attested: a note */
	IMAGE_LOG_GAP,	     /* the superblock attests more than the log holds */
	IMAGE_LOG_SHORT,     /* the head's successor is behind the end of the file */
	IMAGE_LOG_GAP_LATER, /* a bad record, and a later one attests it */
	IMAGE_LOG_CUT,	     /* cut and attested behind the end of the log */
	IMAGE_LOG_CUT_GOOD,  /* cut in the middle: good */
	IMAGE_LOG_TAIL0,     /* the block of the last records stands in tail place 0 only: good */
	IMAGE_LOG_TAIL1,     /* in tail place 1: good */
	IMAGE_LOG_WINDOW,    /* in the window: good */
	IMAGE_LOG_CLEAN,     /* marked clean with records to replay */
	IMAGE_TAIL_GEN,	     /* the TAIL segment's header has another generation */
	IMAGE_ROOT_BAD,	     /* the newest superblock's forest is bad: the one before is chosen */
	IMAGE_SNAPSHOT,	     /* a snapshot of this checkpoint: good */
	IMAGE_SNAPSHOT_ROW,  /* its reserved bytes are not zero */
	IMAGE_SNAPSHOT_OLD,  /* it is older, and its forest does not say where it is */
	IMAGE_LIST_USED,     /* its dead list names a page in use */
	IMAGE_LIST_TWICE,    /* one that the free batch names, too */
	IMAGE_LIST_SHAPE,    /* half an entry */
	IMAGE_LIST_PINNED,   /* records that the table does not know as pinned */
	IMAGE_TABLE_PINNED,  /* records that no snapshot has */
	IMAGE_RANGE,	     /* a pending range delete: good */
	IMAGE_RANGE_PART,    /* one that lacks its cursor */
	IMAGE_RANGE_LENGTHS, /* one whose rows say different lengths */
	IMAGE_RANGE_TREE,    /* one of a tree that is not there */
	IMAGE_RANGE_ORDER,   /* one that ends before it begins */
	IMAGE_RANGE_FUTURE,  /* one with an LSN that is not given yet */
	IMAGE_FAULTS,
};

/* Where things stand, as byte offsets in the volume. */
struct image {
	u8 *bytes; /* IMAGE_BYTES */
	struct kvf_geometry g;
	u64 slot[KVF_SLOTS]; /* superblock slots: A 0..3, B 0..3; 1 and 2 are filled */
	u64 copy;
	u64 inner[2], leaf[2], objects_leaf, forest[2], segtab[2];
	u64 value[2];	     /* payloads of the separated values in segments 4 and 3 */
	u64 value_record[2]; /* their records */
	u64 chunk[2];	     /* payloads of the chunks */
	u64 footer;	     /* its last 96 bytes */
	u64 record[4];	     /* records from the replay position on; [3]: the end */
	u64 first_lsn, end_lsn;
};

void image_build(struct image *im, enum image_fault fault);
void image_free(struct image *im);

#endif
