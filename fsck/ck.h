/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ck.h - what the passes share: the state of one check, the table of passes, the helpers.
 *
 * Functions that may stop the whole check return 0 or -KVE_no_memory / -KVE_cancelled; what is wrong
 * with the volume is never an error but a finding, and the check goes on with what it can still read.
 */
#ifndef KVSCK_CK_H
#define KVSCK_CK_H

#include "kvsck.h"

struct kvsck;

/* clang-format off */
/* x(id, function, passes that must have succeeded, what it does) */
#define KVSCK_PASSES(x) \
	x(super,   kvsck_pass_super,   0, \
	  "read all superblock slots and the copy, choose the newest whose roots verify") \
	x(log,     kvsck_pass_log,     KVSCK_P(super), \
	  "follow the log from the replay position to its end and judge the end by the tail rule") \
	x(forest,  kvsck_pass_forest,  KVSCK_P(super), \
	  "walk the forest, collect the heads of all trees") \
	x(segtab,  kvsck_pass_segtab,  KVSCK_P(super), \
	  "walk the segment table, collect entries, bitmaps and free batches") \
	x(trees,   kvsck_pass_trees,   KVSCK_P(forest) | KVSCK_P(segtab), \
	  "walk every tree of users, follow every separated value, collect large values") \
	x(objects, kvsck_pass_objects, KVSCK_P(forest) | KVSCK_P(segtab) | KVSCK_P(trees), \
	  "walk the tree of chunks and match it with the large values found before") \
	x(snaps,   kvsck_pass_snaps,   KVSCK_P(forest) | KVSCK_P(segtab) | KVSCK_P(objects), \
	  "walk what each snapshot has that the live state, and older snapshots, do not have") \
	x(space,   kvsck_pass_space,   KVSCK_P(segtab) | KVSCK_P(objects) | KVSCK_P(snaps), \
	  "compare what is reachable with the segment table and the segments' own headers")
/* clang-format on */

#define KVSCK_PASS_ENUM(id, fn, needs, text) KVSCK_PASS_##id,
enum kvsck_pass_id { KVSCK_PASSES(KVSCK_PASS_ENUM) KVSCK_PASS_NR };
#undef KVSCK_PASS_ENUM
#define KVSCK_P(id) (1u << KVSCK_PASS_##id)

#define KVSCK_PASS_PROTO(id, fn, needs, text) int fn(struct kvsck *ck);
KVSCK_PASSES(KVSCK_PASS_PROTO)
#undef KVSCK_PASS_PROTO

/* ---- state ----------------------------------------------------------------------------------- */

/* state of a segment */
#define KVSCK_SEG_ENTRY 0x01u	/* the table has a valid entry for it */
#define KVSCK_SEG_HEADER 0x02u	/* the header was read; hdr_finding, hdr_* are set */
#define KVSCK_SEG_LOG 0x04u	/* the replayed log runs through it */
#define KVSCK_SEG_PAGES 0x08u	/* pages that are reachable stand in it */
#define KVSCK_SEG_WHOLE 0x10u	/* a free batch names it as a whole */
#define KVSCK_SEG_OVERLAP 0x20u /* more value bytes than it can hold: payloads are not read any more */

struct kvsck_seg {
	/* from the segment table */
	u64 live, pinned, last_lsn;
	u32 gen, incarnation;
	u8 kind, flags;
	u8 state; /* KVSCK_SEG_* */
	u8 hdr_kind;
	/* bytes of records in dead lists; of them what no snapshot needs any more */
	u64 listed, orphaned;
	/* found by walking: the live state, and what snapshots alone refer to */
	u64 live_seen, pinned_seen;
	/* from its own header */
	u64 hdr_first_lsn;
	u32 hdr_gen, hdr_incarnation, hdr_next, hdr_next_gen;
	s32 hdr_finding;
};

struct kvsck_buf {
	u8 *p;
	size_t cap;
};

/* A tree found in the forest. */
struct kvsck_tree {
	struct kvf_tree_head head;
	u64 origin_lsn; /* clone: of the snapshot that it starts from */
	u32 id;
	bool doomed;
	char name[64];
};

/* A page, or a value, that a clone of the live state has from its origin: some snapshot must have it. */
struct kvsck_share {
	u64 at;	    /* first block; or place of the record, in units of KVF_RECORD_ALIGN */
	u64 leaf;   /* block of the page that refers to it */
	u32 digest; /* of the page's ref; 0: a value */
	u32 tree;
};

/* A named snapshot. */
struct kvsck_snap {
	struct kvf_ref forest; /* all zero: the live one */
	u64 generation, lsn;
	char name[64];
};

/* Head of a large value, and the leaf slot that it stands in. */
struct kvsck_head {
	u64 object, length, leaf_block;
	u32 chunk_bytes, tree;
	u32 leaf_bytes, slot;
};

/* An object id with a row of its own. */
struct kvsck_mark {
	u64 object;
};

/* A range delete that is not worked off. */
struct kvsck_range {
	u64 lsn;
	u32 tree, parts; /* parts: a bit for each row */
	struct kvf_range_delete rd;
	u8 *from, *to; /* one allocation */
	u32 from_len, to_len;
};

struct kvsck_array {
	void *p;
	size_t nr, cap;
};

struct kvsck_hooks;

struct kvsck {
	const struct kvsck_io *io;
	const struct kvsck_options *opt;
	const struct kvsck_hooks *hooks; /* NULL: none */
	struct kvsck_report *rep;
	bool previous; /* judge the state before the newest one */
	u32 done;  /* passes that succeeded */
	bool pass_failed; /* set by a pass whose results are of no use to others */
	bool leaks_unknown; /* pages were lost: what is unreachable proves nothing */

	struct kvf_geometry g;
	struct kvf_super sb; /* the chosen one */
	u64 attested;	     /* highest over superblocks and records */
	u64 segments;	     /* of the checkpoint, as far as they are there: trees and table */
	u64 log_segments;    /* that are there: the log may have grown the volume since */
	u64 blocks;	     /* segments * seg_blocks */
	struct kvsck_seg *seg;
	u8 *owned, *marked, *batched; /* a bit for each block: reachable; used by table; in a batch */
	u8 *held, *listed;	      /* reachable from snapshots alone; in a dead list */
	u32 *page_at;		      /* of a page's first block: digest of its ref; else 0 */
	u8 *records;		      /* a bit for each place of a record that was seen; with snapshots */
	const struct kvsck_snap *snap; /* whose trees are walked; NULL: the live ones */

	struct kvsck_buf page[KVF_DEPTH_MAX]; /* the path of the walk */
	struct kvsck_buf twin;		      /* second copy of a page */
	struct kvsck_buf key, from, to;	      /* key of an entry; expected fences */
	struct kvsck_buf head;		      /* header and key of a record */
	u32 elsewhere; /* kvsck_record_find: first block of the record that is not at home */
	struct kvsck_buf payload;	      /* payload of a record; footers; scanned log */
	struct kvsck_array trees;	      /* struct kvsck_tree */
	struct kvsck_array ranges;	      /* struct kvsck_range */
	struct kvsck_array heads;	      /* struct kvsck_head */
	struct kvsck_array snaps;	      /* struct kvsck_snap, oldest first */
	struct kvsck_array shares;	      /* struct kvsck_share */
	struct kvsck_array snap_trees;	      /* struct kvsck_tree, of one of them */
	struct kvsck_array marks;	      /* struct kvsck_mark */
};

/* ---- run.c ----------------------------------------------------------------------------------- */

/* 0, -KVE_io_read, -KVE_truncated when part of it lies beyond the end. */
int kvsck_read(struct kvsck *ck, u64 off, void *buf, u32 len);
/* NULL: no memory. */
struct kvsck *kvsck_new(const struct kvsck_io *io, const struct kvsck_options *opt,
			struct kvsck_report *rep);
/* Those of which has a bit (KVSCK_P) and whose needs are met, in order. */
int kvsck_passes(struct kvsck *ck, u32 which);
void kvsck_free(struct kvsck *ck);
/* At least len bytes; contents may be lost. */
int kvsck_buf_reserve(struct kvsck_buf *b, size_t len);
/* A new zeroed element at the end, NULL: no memory. */
void *kvsck_array_add(struct kvsck_array *a, size_t size);
/* Index of the first element whose number is at or above nr, in an array sorted by it; a->nr: none. */
size_t kvsck_array_find(const struct kvsck_array *a, size_t size, u64 (*number)(const void *), u64 nr);
int kvsck_cancelled(struct kvsck *ck);

static inline bool kvsck_bit(const u8 *map, u64 i)
{
	return map[i >> 3] >> (i & 7) & 1;
}

static inline void kvsck_bit_set(u8 *map, u64 i)
{
	map[i >> 3] |= (u8)(1u << (i & 7));
}

/* Bytes lo..lo+len of the volume as segment number. */
static inline u32 kvsck_segment_of(const struct kvsck *ck, u64 off)
{
	return (u32)(off >> ck->g.segment_shift);
}

/* ---- report.c -------------------------------------------------------------------------------- */

/* Where a finding is; start with KVSCK_NOWHERE or kvsck_at(). */
struct kvsck_where {
	u32 segment;
	u64 offset;
	const struct kvsck_tree *tree;
	u32 tree_id;
	bool range, single, repairable;
	const u8 *from, *to;
	u32 from_len, to_len;
};

#define KVSCK_NOWHERE ((struct kvsck_where){ .segment = KVF_NO_SEGMENT, .offset = KVSCK_NO_OFFSET })

struct kvsck_where kvsck_at(const struct kvsck *ck, u64 off);
void kvsck_found(struct kvsck *ck, enum kvsck_severity sev, int code, const struct kvsck_where *w,
		 const char *fmt, ...) KVP_PRINTF(5, 6);
/* Name of a tree that no user has named, or NULL. */
const char *kvsck_system_tree(u32 id);
#define kvsck_problem(ck, code, w, ...) kvsck_found(ck, KVSCK_PROBLEM, code, w, __VA_ARGS__)
#define kvsck_note(ck, code, w, ...) kvsck_found(ck, KVSCK_NOTE, code, w, __VA_ARGS__)

/* ---- page.c ---------------------------------------------------------------------------------- */

struct kvsck_page {
	u8 *p;	   /* verified; no compact leaf any more */
	u32 len;
	u32 bytes; /* on the medium */
	u64 addr;  /* block of the copy that was used */
};

/* A verified page of len bytes in a buffer for a frame: makes it one that has slots. Its bytes in memory. */
u32 kvsck_page_open(const struct kvsck *ck, u8 *page, u32 len);
/*
 * Read and verify all copies of a page into buf. 0: *out is good; findings[0..1] say what is wrong
 * with each copy (0: fine). 1: none is good. Negative: stop.
 */
int kvsck_page_load(struct kvsck *ck, const struct kvf_ref *ref, u32 tree, int level,
		    struct kvsck_buf *buf, struct kvsck_page *out, int findings[2]);

/* ---- range.c --------------------------------------------------------------------------------- */

struct kvsck_walk;
struct kvsck_entry;
/* A row of the forest; then, when all trees are known, all of them. */
int kvsck_range_row(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e);
void kvsck_ranges_check(struct kvsck *ck);
void kvsck_ranges_free(struct kvsck *ck);
/* Is the entry of a leaf deleted, and waits to be taken out? */
bool kvsck_hidden(const struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e);

/* ---- walk.c ---------------------------------------------------------------------------------- */

/* An entry of a leaf, in order of keys. */
struct kvsck_entry {
	const u8 *key;
	u32 key_len;
	u8 flags; /* KVF_CELL_* */
	const u8 *cell, *body; /* whole cell; what follows its extension */
	u32 cell_len, body_len;
	const struct kvsck_page *leaf;
	u32 slot;
};

struct kvsck_walk {
	const struct kvsck_tree *tree; /* id and name for findings */
	bool twin_leaves;	       /* leaves are stored twice as well */
	int (*entry)(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e);
	void *arg;
	const u8 *from, *to; /* down to leaves with keys from <= k < to only; from NULL: to all */
	u32 from_len, to_len;
	bool sorted; /* for the callback */
	u64 entries; /* seen */
	u64 lost;    /* subtrees that could not be read */
	u64 shared;  /* subtrees of a snapshot that were walked before */
};

/*
 * Every block is owned once: a second walk over the same pages needs kvsck_walk_again() before it, which
 * forgets who owns what.
 */
int kvsck_walk_tree(struct kvsck *ck, struct kvsck_walk *w, const struct kvf_ref *root);
void kvsck_walk_again(struct kvsck *ck);
/* As its sum names all of a page, so does this of its ref, nearly. Never 0. */
u32 kvsck_digest(const struct kvf_ref *ref);
/* Entries seen against the tree's head. */
void kvsck_check_count(struct kvsck *ck, const struct kvsck_walk *w);
/* Where of an entry. */
struct kvsck_where kvsck_at_entry(const struct kvsck *ck, const struct kvsck_walk *w,
				  const struct kvsck_entry *e);

/* ---- hooks: for those who show what the passes see (explain.c, survey.c) ---------------------- */

/* A page that the walk has come to, good or not. */
struct kvsck_visit {
	const struct kvf_ref *ref;
	const struct kvsck_page *page; /* NULL: no copy is good */
	int finding[2];		       /* of each copy */
	const u8 *lower, *upper;       /* fences by the parent, NULL: none */
	u32 lower_len, upper_len;
};

/* Each may be NULL. Negative: stop. */
struct kvsck_hooks {
	int (*page)(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_visit *v);
	/* A record behind the checkpoint, in ck->head; its payload in ck->payload if that was read. */
	int (*logged)(struct kvsck *ck, const struct kvf_identity *id, u32 off, int payload);
	/* The record of a separated value, in ck->head if head is 0. */
	int (*value)(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e,
		     const struct kvf_identity *id, u32 off, int head, int payload);
	void *arg;
};

/* ---- segment.c ------------------------------------------------------------------------------- */

/* Read the segment's header once; s->hdr_* afterwards. */
struct kvsck_seg *kvsck_seg_header(struct kvsck *ck, u32 segment);

/* ---- record.c -------------------------------------------------------------------------------- */

#define KVSCK_AT_HOME 0xffffffffu

/*
 * Find the record at home position id->segment, off: at home, in the tail places, in the window, or
 * partly here and there. 0: header and key stand in ck->head, verified. *payload: 0 verified or not
 * asked for, else a finding. Positive: the finding of the copy at home. Negative: stop. ck->elsewhere is
 * the byte offset in the segment of its first block that is not at home, or KVSCK_AT_HOME.
 */
int kvsck_record_find(struct kvsck *ck, const struct kvf_identity *id, u32 off, bool want_payload,
		      int *payload);
/* Header and key from one source alone. 0, a finding, or negative: stop. */
enum kvsck_source { KVSCK_HOME, KVSCK_TAIL0, KVSCK_TAIL1, KVSCK_WINDOW, KVSCK_SOURCES };
int kvsck_record_at(struct kvsck *ck, enum kvsck_source src, const struct kvf_identity *id, u32 off);
static inline const struct kvf_record *kvsck_record(const struct kvsck *ck)
{
	return (const struct kvf_record *)ck->head.p;
}

/* Bytes of a log position as they stand in one of the four places where they may be. */
int kvsck_source_read(struct kvsck *ck, enum kvsck_source src, u32 segment, u32 off, void *buf,
		      u32 len);

/* ---- scan.c ---------------------------------------------------------------------------------- */

/*
 * The log seems to end at id->segment, off, where lsn is expected. Raise ck->attested to what valid
 * records that stand behind that place, or in tail places or window, name as durable.
 */
int kvsck_scan_attested(struct kvsck *ck, const struct kvf_identity *id, u32 off, u64 lsn);

/* ---- pass_objects.c -------------------------------------------------------------------------- */

const struct kvsck_tree *kvsck_tree_by_id(const struct kvsck *ck, u32 id);
/* After the pass. NULL: no key heads this object. */
const struct kvsck_head *kvsck_head_of(const struct kvsck *ck, u64 object);
/* Its key into ck->from; returns the length, 0: not readable any more. */
u32 kvsck_head_key(struct kvsck *ck, const struct kvsck_head *h);
static inline u64 kvsck_head_chunks(const struct kvsck_head *h)
{
	return h->length / h->chunk_bytes + (h->length % h->chunk_bytes != 0);
}

/* ---- clone.c ------------------------------------------------------------------------------------ */

/* A row of the forest, when all snapshots are known: is its origin there? Sets origin_lsn. */
void kvsck_origin(struct kvsck *ck, struct kvsck_tree *t);
/* Born before its clone: the origin's. */
static inline bool kvsck_shared_page(const struct kvsck_tree *t, const struct kvf_ref *ref)
{
	return t->head.origin != cpu_to_le64(0) && le64_to_cpu(ref->birth) <= le64_to_cpu(t->head.origin);
}
static inline bool kvsck_shared_value(const struct kvsck_tree *t, const struct kvf_value_ref *ref)
{
	return le64_to_cpu(ref->lsn) <= t->origin_lsn;
}
/* Met in the live state: to be looked for in the snapshots. */
int kvsck_share_page(struct kvsck *ck, const struct kvsck_walk *w, const struct kvf_ref *ref, u64 parent);
int kvsck_share_value(struct kvsck *ck, const struct kvsck_walk *w, u64 at, u64 leaf);
/* When all snapshots have been walked. */
void kvsck_shares_check(struct kvsck *ck);

/* ---- value.c --------------------------------------------------------------------------------- */

/* A separated value: bounds, the record's identity, key and payload. */
int kvsck_value(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e);

#endif
