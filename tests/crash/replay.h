/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * replay.h - from the trace of a run to every state that a crash may leave behind (CONTRACT C3).
 *
 * The model. What was written before the last flush is durable. A write with FUA is durable, alone,
 * when it returns. Everything else is in flight: split into sectors of 512 bytes, each of which may be
 * on the medium or not, or be torn; window stores and discards likewise. The size of the file is
 * anything between the durable one and the newest.
 *
 * At each boundary of the trace the states are: with up to 10 sectors in flight every subset; with more,
 * every prefix, all but one, only one, and random subsets; and always the newest sectors torn (half,
 * zero, garbage), and other file lengths. A subset that has nothing of the newest write was a state of
 * an earlier boundary already and is left out.
 *
 * Marks of the trace carry what may be found: states lo..hi of the oracle. When all that was issued is
 * on the medium, as after the death of the process alone, lo is what was acknowledged (CONTRACT C2).
 */
#ifndef TESTS_REPLAY_H
#define TESTS_REPLAY_H

#include "tests/crash/simdev.h"
#include "tests/crash/workload.h"

#define REPLAY_SUBSETS_MAX 10u

struct crash_state {
	const u8 *image;
	u64 size;
	u64 lo, hi;	   /* acceptable states */
	size_t boundary;   /* events of the trace that had been issued */
	u64 variant;	   /* which of the states at that boundary */
};

struct replay {
	const u8 *base; /* the medium before the first event: all of it durable */
	u64 base_size;
	u64 cap;	/* bytes that the image may have */
	const struct sim *trace;
	u64 lo, hi, acked; /* before the first mark */
	unsigned int random; /* random subsets at each boundary with many sectors */
	bool sparse;	/* only some of the states: for crashes in recovery */
	size_t from;	/* boundaries before this one are passed over */
	u64 seed;
	size_t only_boundary; /* not REPLAY_ALL: nothing else is passed on */
	u64 only_variant;
	/* Return false to stop. */
	bool (*state)(void *arg, const struct crash_state *st);
	void *arg;
};
#define REPLAY_ALL ((size_t)-1)

/* False when a callback stopped it. */
bool replay_run(const struct replay *r);

/* A set of 64-bit digests that forked processes share. */
struct seen;
struct seen *seen_new(size_t entries);
/* True when it was not there yet. */
bool seen_add(struct seen *s, u64 digest);
u64 seen_count(const struct seen *s);

#endif
