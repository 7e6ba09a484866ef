/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain.h - what the judge sees, for people to look at: the way from the superblock to the value of
 * a key (explain.c), and what stands at a byte of the volume (survey.c, stretch.c, owner.c). For 'kvs
 * explain' and 'kvs map'.
 *
 * The trees and the table are those of the last checkpoint. The log behind it is not applied; what it does
 * to the key at hand is told. Nothing is written. Thread safety: as kvsck.h.
 */
#ifndef KVSCK_EXPLAIN_H
#define KVSCK_EXPLAIN_H

#include "kvsck.h"

/* All pointers in steps and stretches are valid during the call that shows them. */
struct kvsck_bytes {
	const u8 *p; /* NULL: none */
	u32 len;
};

/* A record of the log. finding and payload: 0 good, else what is wrong with header and key, and payload. */
struct kvsck_record_info {
	u32 segment, segment_gen, incarnation, offset; /* home; offset in the segment */
	u32 bytes, tree, txn_index, txn_count;
	u8 kind, flags;
	u64 lsn, payload_len;
	struct kvsck_bytes key;
	int finding, payload;
	u32 elsewhere; /* first byte, in the segment, that is in a tail place or the window */
};
#define KVSCK_HOME_ALL 0xffffffffu /* elsewhere: all is at home */

struct kvsck_page_info {
	u32 tree;
	const char *tree_name; /* "" if it has none */
	u8 level;
	u32 slots, bytes, copies;
	u64 generation, lsn, sum;
	u64 offset[2]; /* of each copy, bytes on the volume */
	int finding[2];
	bool good;     /* a copy is good; else slots, level, lsn and fences are not known */
	struct kvsck_bytes lower, upper;
};

/* ---- a key ----------------------------------------------------------------------------------- */

enum kvsck_step_kind {
	KVSCK_STEP_SUPER,  /* the superblock that was chosen */
	KVSCK_STEP_PAGE,   /* a page on the way, the forest's first */
	KVSCK_STEP_TREE,   /* the row of the tree in the forest */
	KVSCK_STEP_ENTRY,  /* the slot of the key in its leaf */
	KVSCK_STEP_NONE,   /* no slot: the leaf's neighbours of where it would be */
	KVSCK_STEP_RECORD, /* the record that a slot refers to */
	KVSCK_STEP_CHUNK,  /* the slot of a chunk of a large value */
	KVSCK_STEP_MORE,   /* chunks that were not shown */
	KVSCK_STEP_LOGGED, /* a change of the key in the log behind the checkpoint */
};

struct kvsck_entry_info {
	u64 page; /* byte offset of the leaf's copy that was read */
	u32 slot;
	u8 flags; /* KVF_CELL_* */
	u64 length;		    /* of the value */
	struct kvsck_bytes value;   /* what stands in the leaf */
	struct kvf_value_ref ref;   /* KVF_CELL_REF */
	struct kvf_object object;   /* KVF_CELL_OBJECT */
	u64 chunk, chunks;	    /* number of this one, and of all, of a large value */
};

struct kvsck_step {
	enum kvsck_step_kind kind;
	const struct kvf_super *super;		/* SUPER */
	struct kvsck_page_info page;		/* PAGE */
	const struct kvf_tree_head *tree;	/* TREE */
	struct kvsck_entry_info entry;		/* ENTRY, CHUNK */
	struct kvsck_bytes before, after;	/* NONE: keys, if there are */
	struct kvsck_record_info record;	/* RECORD, LOGGED */
	u64 more;				/* MORE: chunks */
};

enum kvsck_answer {
	KVSCK_ANSWER_NONE,    /* no such key */
	KVSCK_ANSWER_NO_TREE, /* no such tree */
	KVSCK_ANSWER_THERE,
};

struct kvsck_explain {
	const void *tree, *key; /* name of the tree, and the key */
	u32 tree_len, key_len;
	u64 chunks_max; /* of a large value that are shown and read; ~0: all */
	void (*step)(void *arg, const struct kvsck_step *s);
	void *arg;
	/* the answer */
	enum kvsck_answer at_checkpoint, now; /* now: as the log behind it leaves it */
	u64 logged;    /* changes of the key in the log */
	u64 damage;    /* problems found on the way, in the log, or in the value */
	u64 elsewhere; /* problems of superblocks and the segment table */
	bool unknown;  /* damage hides whether the key is there */
};

/*
 * Show the way to a key. Problems go to opt->found in between. 0, or as kvsck_run();
 * -KVE_key_too_long, -KVE_corrupt_super: there is no state that could be read.
 */
int kvsck_explain(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_explain *x,
		  struct kvsck_report *rep);

/* ---- the whole volume ------------------------------------------------------------------------ */

struct kvsck_survey;

/*
 * Runs all passes on this state and the one before it. rep, and what io and opt lead to, must stay until
 * kvsck_survey_free(). Memory: 40 bytes a page more than kvsck_run().
 */
int kvsck_survey_new(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_report *rep,
		     struct kvsck_survey **out);
void kvsck_survey_free(struct kvsck_survey *s);
const struct kvf_geometry *kvsck_survey_geometry(const struct kvsck_survey *s);
const struct kvf_super *kvsck_survey_super(const struct kvsck_survey *s);
u64 kvsck_survey_segments(const struct kvsck_survey *s);

enum kvsck_seg_use {
	KVSCK_USE_SUPER,
	KVSCK_USE_TAIL,
	KVSCK_USE_FREE,
	KVSCK_USE_LOG,
	KVSCK_USE_TREE,
	KVSCK_USE_UNKNOWN, /* the table has no row of it that could be read */
};

struct kvsck_segment_info {
	enum kvsck_seg_use use;
	u32 number, gen, incarnation;
	u8 flags;	      /* KVF_SEGMENT_* */
	bool replayed;	      /* the log behind the checkpoint runs through it */
	bool head;	      /* and ends there */
	bool freed;	      /* a free batch names it as a whole */
	u64 live, pinned;     /* LOG: of values; TREE: of pages that are reachable */
	u64 pending;	      /* TREE: freed, not yet reusable */
	u64 first_lsn, last_lsn; /* LOG; 0: not known, or the head */
	u64 pages;	      /* TREE: copies of pages that are reachable */
};

void kvsck_survey_segment(struct kvsck_survey *s, u32 number, struct kvsck_segment_info *out);

enum kvsck_stretch_kind {
	KVSCK_STRETCH_SUPER,   /* a slot, or the copy at the end */
	KVSCK_STRETCH_HEADER,  /* first block of a segment in use */
	KVSCK_STRETCH_TAIL,    /* a tail place */
	KVSCK_STRETCH_WINDOW,
	KVSCK_STRETCH_UNUSED,  /* belongs to the segment, and to nothing in it */
	KVSCK_STRETCH_PAGE,
	KVSCK_STRETCH_SLACK,   /* the rest of a page's last unit */
	KVSCK_STRETCH_BATCH,   /* pages that a free batch names; not readable any more */
	KVSCK_STRETCH_USED,    /* blocks that the table calls used, and nothing reaches */
	KVSCK_STRETCH_FREE,    /* free blocks, or a free segment */
	KVSCK_STRETCH_RECORD,
	KVSCK_STRETCH_LOG,     /* log without a record: behind its end, or damaged */
	KVSCK_STRETCH_ENTRIES, /* footer: its entries */
	KVSCK_STRETCH_FOOTER,
	KVSCK_STRETCH_UNKNOWN, /* of a segment without a row */
	KVSCK_STRETCH_BEYOND,  /* behind the last segment and the copy */
};

/* Who needs a page. */
#define KVSCK_OF_LIVE 1u
#define KVSCK_OF_PREVIOUS 2u
#define KVSCK_OF_BATCH 4u /* of neither, in a free batch */
#define KVSCK_OF_SNAPSHOT 16u /* of a snapshot alone */
#define KVSCK_OF_TABLE 8u /* of none of these, but its blocks are called used; 0: left over */

enum kvsck_fate {
	KVSCK_FATE_NONE,     /* no value of its own: SEAL, PAD, a change of the forest */
	KVSCK_FATE_LIVE,     /* its key refers to it */
	KVSCK_FATE_DEAD,     /* its key does not */
	KVSCK_FATE_DOOMED,   /* its key does, in a tree that was dropped and is being worked off */
	KVSCK_FATE_LOGGED,   /* behind the checkpoint: opening will apply it */
	KVSCK_FATE_BEYOND,   /* behind the end of the log: it does not count */
	KVSCK_FATE_DAMAGED,  /* the way to its key is damaged */
};

struct kvsck_stretch {
	enum kvsck_stretch_kind kind;
	u64 from, to; /* bytes of the volume, from <= k < to */
	struct kvsck_segment_info segment; /* not for BEYOND and the copy */
	int finding;			   /* what is wrong with it, 0: nothing */
	u32 index;			   /* SUPER: slot (4 in B; 8: the copy); TAIL: place; PAGE: copy */
	const struct kvf_super *super;	   /* SUPER, if whole */
	bool chosen;			   /* SUPER */
	const struct kvf_segment_header *header; /* HEADER, if whole */
	const struct kvf_footer *footer;	 /* FOOTER, if whole */
	struct kvsck_page_info page;		 /* PAGE */
	u32 roots;				 /* PAGE: KVSCK_OF_* */
	struct kvsck_record_info record;	 /* RECORD */
	enum kvsck_fate fate;
	const char *tree_name;			 /* RECORD: "" if not known */
	bool chunk;				 /* RECORD: of a large value; owner is its key if known */
	struct kvsck_bytes owner;
	const char *owner_tree;
};

/* What stands at a byte of the volume. Any offset has an answer; from and to tile the volume. */
int kvsck_survey_at(struct kvsck_survey *s, u64 off, struct kvsck_stretch *out);

/* ---- the medium (file.c) --------------------------------------------------------------------- */

struct kvsck_file {
	int fd;
	u64 size;
};

/*
 * An image or a device, for reading, locked against writers. 0, or -KVE_io_system (errno says why),
 * -KVE_not_volume (neither file nor device), -KVE_busy; *what is a phrase about it.
 */
int kvsck_file_open(struct kvsck_file *f, const char *path, const char **what);
/* For kvsck_io.read; arg is the struct kvsck_file. */
int kvsck_file_read(void *arg, u64 off, void *buf, u32 len);
void kvsck_file_close(struct kvsck_file *f);

#endif
