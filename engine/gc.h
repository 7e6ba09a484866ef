/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc.h - what gc.c, gc_copy.c and gc_swap.c share: a round of garbage collection.
 */
#ifndef KVE_GC_H
#define KVE_GC_H

#include "kve.h"

#define KVE_GC_VICTIMS 64u

/* A live value: its record as the victim has it, header to padding, stands in the round's buffer. */
struct kve_gc_record {
	struct kv_tree *tree;
	u32 at, bytes; /* in buf */
	struct kvf_value_ref old, new;
};

enum kve_gc_phase { KVE_GC_IDLE, KVE_GC_READ, KVE_GC_WRITE, KVE_GC_SWAP };

/* GC lock. */
struct kve_gc {
	enum kve_gc_phase phase;
	u32 victim[KVE_GC_VICTIMS];
	u32 victims, read; /* of them read */
	u8 *segment;	   /* one victim, or the cold segment that is being made */
	u8 *buf;	   /* live records */
	u32 room, used;	   /* bytes of buf */
	struct kve_gc_record *record; /* in the order of their keys once all are there */
	u32 nr, cap, swapped;
	u32 cold[KVE_GC_VICTIMS];
	u32 colds;
	bool partial; /* the last victim fits only in part */
	bool cut; /* space ran out: not all of the victims' records have copies */
};

/* One step; *more: there is more to do. GC lock. */
int kve_gc_step(struct kv_db *db, bool *more);

/* ---- gc_copy.c ---- */

/* The live records of one victim go to the round's buffer. */
int kve_gc_read(struct kv_db *db, struct kve_gc *gc, u32 segment);
/* Cold segments that the records need. They are in order then. */
u32 kve_gc_plan(struct kv_db *db, struct kve_gc *gc);
/* All of them written to cold segments; new refs are set. */
int kve_gc_write(struct kv_db *db, struct kve_gc *gc);

/* ---- gc_swap.c ---- */

/* One step: some refs of leaves. Nothing held but the GC lock. */
int kve_gc_swap(struct kv_db *db, struct kve_gc *gc);

#endif
