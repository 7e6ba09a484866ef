/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc.h - what gc.c, gc_read.c, gc_copy.c and gc_swap.c share: a round of garbage collection.
 */
#ifndef KVE_GC_H
#define KVE_GC_H

#include "kve.h"

#define KVE_GC_VICTIMS 64u
#define KVE_GC_GROUP 64u /* records of a victim that are looked up together */
#define KVE_GC_SWAPS 64u /* refs that are exchanged in a step */
#define KVE_GC_ABREAST 4u /* lanes, at most */

/* A live value: its record as the victim has it, header to padding, stands in the round's buffer. */
struct kve_gc_record {
	struct kv_tree *tree;
	u32 at, bytes; /* in buf */
	struct kvf_value_ref old, new;
};

/* Place of a record in the order of (tree, key). */
struct kve_gc_order {
	u64 head; /* eight bytes of the key behind what all have in common, big end first */
	u32 tree, record;
};

/* Separated values of a victim, until a lookup says which of them live. */
struct kve_gc_group {
	struct kve_lookup l[KVE_GC_GROUP];
	struct kve_gc_record record[KVE_GC_GROUP]; /* at: in the victim */
	u32 tree, nr;
};

/* A step of gc_swap.c. */
struct kve_gc_swaps {
	struct kve_gc *gc;
	struct kve_frame *leaf[KVE_GC_SWAPS]; /* pinned; NULL: nothing to swap */
	u16 slot[KVE_GC_SWAPS];		      /* of the key, once the writer lock is held */
	u32 first, nr;			      /* of the round's records */
};

/* A victim on its way into memory, or a cold segment on its way out; the next one takes the next lane. */
struct kve_gc_lane {
	u8 *buf; /* a segment */
	struct kvp_io *io;
	u32 ios;
	struct kvp_batch batch;
	bool under_way;
};

struct kve_gc_candidate {
	u64 score; /* gc_score.h */
	u32 nr;
};

enum kve_gc_phase { KVE_GC_IDLE, KVE_GC_READ, KVE_GC_WRITE, KVE_GC_SWAP };

/* GC lock. */
struct kve_gc {
	enum kve_gc_phase phase;
	struct kve_gc_candidate candidate[KVE_GC_VICTIMS]; /* the best first */
	u32 candidates;
	u32 victim[KVE_GC_VICTIMS];
	u32 victims, asked, read; /* of them on their way to be read, read */
	struct kve_gc_memory memory;
	u32 abreast; /* lanes */
	u32 used;    /* bytes of its live records */
	struct kve_gc_group *group;
	struct kve_gc_record *record;
	struct kve_gc_order *order;
	u32 nr, cap, swapped;
	struct kve_gc_swaps swaps;
	u32 cold[KVE_GC_VICTIMS];
	u32 colds, colds_written;
	struct kve_gc_lane lane[KVE_GC_ABREAST];
	struct kvp_io *io; /* of all lanes */
	bool partial; /* the last victim fits only in part */
	bool above; /* a victim stands where nothing is to stay */
	bool cut; /* space ran out: not all of the victims' records have copies */
};

/* The i-th in the order of (tree, key). */
static inline struct kve_gc_record *kve_gc_nth(const struct kve_gc *gc, u32 i)
{
	return &gc->record[gc->order[i].record];
}

/* What rounds keep for the next one. GC lock. */
void kve_gc_memory_drop(struct kv_db *db);
/* One step; *more: there is more to do. GC lock. */
int kve_gc_step(struct kv_db *db, bool *more);
/*
 * The same, of the log alone. spared: no round begins with segments that end below this LSN, as they are
 * about to die; 0: with any.
 */
int kve_gc_log_step(struct kv_db *db, u64 spared, bool *more);

/* ---- emptying.c: TREE segments; GC lock ---- */

/* A round. above: of all that stands above the ceiling. -KVE_end: nothing to win. */
int kve_emptying_begin(struct kv_db *db, bool above);
/* db->emptying is NULL when it is over. */
int kve_emptying_step(struct kv_db *db);
void kve_emptying_stop(struct kv_db *db);

/* ---- pins.c ---- */

#define KVE_PINS_NAMES 160u
struct kve_pins {
	u32 from; /* names: of snapshots that refer to something in segments from here on */
	u32 end;  /* behind the last segment that a snapshot refers to something in; 0: there is none */
	char names[KVE_PINS_NAMES];
};
/*
 * Which segments are fixed: all inner pages are looked at, if there are snapshots. report may be NULL: then
 * it is not needed where space.surveyed says that it is known. GC lock; no other.
 */
int kve_pins_survey(struct kv_db *db, struct kve_pins *report);

/* ---- gc_read.c ---- */

/* The live records of the next victims go to the round's buffer. */
int kve_gc_read(struct kv_db *db, struct kve_gc *gc);
/* The ref to a record that stands there. */
void kve_gc_ref(struct kvf_value_ref *ref, const struct kvf_record *r, const struct kvf_identity *id,
		u32 offset);

/* ---- gc_copy.c ---- */

/* Transfers that a segment can take. */
u32 kve_gc_ios(const struct kv_db *db);
/* [from, to) of a segment, with the next start. */
void kve_gc_io_add(struct kv_db *db, struct kve_gc_lane *lane, u8 op, u32 segment, u32 from, u32 to);
void kve_gc_io_start(struct kv_db *db, struct kve_gc_lane *lane);
/* 0 at once if nothing is under way. */
int kve_gc_io_wait(struct kv_db *db, struct kve_gc_lane *lane);
/* The order of the records, and how many cold segments they need. */
int kve_gc_plan(struct kv_db *db, struct kve_gc *gc, u32 *segments);
/* All of them written to cold segments; new refs are set. */
int kve_gc_write(struct kv_db *db, struct kve_gc *gc);

/* ---- gc_swap.c ---- */

/* One step: some refs of leaves. Nothing held but the GC lock. */
int kve_gc_swap(struct kv_db *db, struct kve_gc *gc);

/* ---- resize.c ---- */

/*
 * The end of an image, when little stands there: it moves down, and the file becomes shorter. What is in
 * the way stays. GC lock not held.
 */
int kve_resize_pack(struct kv_db *db, u64 budget, bool *more);
/* What was under way is given up; the volume is as long as it was. */
void kve_resize_stop(struct kv_db *db);

#endif
