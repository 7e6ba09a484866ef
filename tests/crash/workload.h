/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * workload.h - short histories of a volume: operations that run on the engine and on the oracle side by
 * side, with marks in the trace of the device about what was issued, acknowledged and synced.
 *
 * A workload is a geometry and a list of operations; it is made from a sequence of kinds or from a
 * seed, so that a line of text repeats it. Used by crash replay (M1), failure sweeps (M7) and the
 * corruption sweep (M5, for its image). One thread.
 */
#ifndef TESTS_WORKLOAD_H
#define TESTS_WORKLOAD_H

#include "engine/user/kve_test.h"
#include "tests/crash/simdev.h"
#include "tests/model/oracle.h"

enum op_kind {
	/* the ten kinds of the exhaustive sequences */
	OP_PUT_SMALL,
	OP_PUT_BIG,    /* separated from its leaf */
	OP_PUT_OBJECT, /* large value of several chunks, streamed */
	OP_OVERWRITE,
	OP_DELETE,
	OP_BATCH, /* three changes, two trees if there are */
	OP_SYNC,
	OP_CHECKPOINT,
	OP_TREE, /* create a tree, put into it */
	OP_REOPEN,
	OP_BASIC_NR,
	/* more, for random histories */
	OP_PUT_SYNCED = OP_BASIC_NR, /* half of them by tickets, see workload.c */
	OP_INC,
	OP_TREE_DROP,
	OP_CRASH, /* the process dies, the device lives */
	OP_GC,	  /* some steps of garbage collection */
	OP_SNAPSHOT, /* create one; clone a tree of, delete, or roll back to, one; detach the clone */
	OP_RANGE, /* delete a few neighbours at once, or all there is */
	OP_RESIZE, /* shorter, or some steps on the way there; then as long as it likes again */
	OP_NR
};

struct op {
	u8 kind;
	u8 key;	 /* which key; several of a batch follow from it */
	u8 size; /* which size of value, 0..3 */
};

#define WORKLOAD_OPS_MAX 512u
struct workload {
	unsigned int geo; /* index into workload_geometries */
	u64 seed;	  /* random: as given; sequence: 0 */
	unsigned int nr;
	bool bulk;	  /* large values are there from the start, for OP_RESIZE */
	struct op ops[WORKLOAD_OPS_MAX];
	char text[64]; /* options that repeat it */
};

struct workload_geometry {
	const char *name;
	u32 block, segment, frame, window; /* window 1: none */
	u32 checkpoint;			   /* log bytes between checkpoints */
	u64 cap;			   /* bytes that the device may have */
	u32 small, big, object;		   /* sizes of values */
};
#define WORKLOAD_GEOMETRIES 2u
extern const struct workload_geometry workload_geometries[WORKLOAD_GEOMETRIES];

void workload_sequence(struct workload *w, unsigned int geo, const u8 *kinds, unsigned int nr);
void workload_random(struct workload *w, unsigned int geo, u64 seed, unsigned int nr);
const char *op_name(unsigned int kind);

/* Marks in the trace: kind in the high half, commit in the low one. */
enum mark_kind { MARK_ISSUED = 1, MARK_ACKED = 2, MARK_SYNCED = 3 };
#define MARK(kind, n) ((u64)(kind) << 32 | (n))
#define MARK_KIND(m) ((unsigned int)((m) >> 32))
#define MARK_NUMBER(m) ((m)&0xffffffffu)

#define RUN_WHY 1024
struct run {
	const struct workload *w;
	struct sim *sim;
	/* What the volume is opened on: the simulated device itself, or a fault injector around it. */
	int (*device)(struct run *r, struct kvp_dev **out);
	void *arg;
	struct oracle o;
	kv_db *db; /* NULL: could not be opened (again) */
	u64 acked, synced;
	bool faults;	/* errors are expected */
	unsigned int errors; /* seen */
	char why[RUN_WHY]; /* the first thing that is wrong; "" */
};

/* Options of every volume of a geometry. flags: KV_OPEN_*. */
void workload_options(kv_options *opt, unsigned int geo, u32 flags);
/* Fresh volume with a few pairs, closed; the oracle knows them as synced. False: see why. */
bool run_create(struct run *r, const struct workload *w, struct sim *sim);
/* Opens; then each operation in turn. False: something is wrong, see why (r->faults: and not excused). */
bool run_open(struct run *r);
bool run_op(struct run *r, const struct op *op);
bool run_ops(struct run *r);
/*
 * Each snapshot shows the state that its name says (hash[0..last]); those that keys speak of are there, or
 * are not. False: see why.
 */
bool workload_snapshots(kv_db *db, const u64 *hash, u64 last, char *why, size_t why_len);
/* Drop the handle as a crash would. */
void run_drop(struct run *r);
void run_free(struct run *r);
/* Deterministic bytes. */
void fill_value(u8 *buf, size_t len, u64 seed);

/* Fixed clock and chance, so that equal histories give equal images. */
void workload_fix(u64 seed);

/* Number generator of the machines (xorshift64*). */
static inline u64 rnd_next(u64 *state)
{
	u64 x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 2685821657736338717ull;
}

#endif
