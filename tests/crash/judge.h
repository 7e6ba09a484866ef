/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.h - is what a crash left behind a volume that keeps the contract?
 *
 * For one image: it opens; holds exactly one of the acceptable states (C1, C2); takes a further synced
 * change; survives another death of the process with it, or closes; then kvs-fsck and the engine's own
 * check find nothing. Of a sample of the images the writes of recovery itself are recorded and crashed
 * in turn: before recovery was over any acceptable state may come out, afterwards the one that had
 * been served (C1, C8: what was cut never returns).
 */
#ifndef TESTS_JUDGE_H
#define TESTS_JUDGE_H

#include "tests/crash/replay.h"

struct judge_counts { /* in memory that processes share */
	u64 states;	  /* unique ones judged */
	u64 second;	  /* of these: crashes during recovery or right after it */
	u64 generated;	  /* with duplicates */
	u64 violations;
	u64 fsck, orders, readonly; /* runs of kvsck, of the order checker, of read-only opens */
};

struct judge {
	const struct workload *w;
	struct sim *sim; /* the image is opened here */
	struct seen *seen;
	struct judge_counts *counts;
	const u64 *hash; /* digests of the oracle's states */
	u64 last;	 /* state that a snapshot in the image may show at most */
	struct judge *inner; /* for crashes during recovery; NULL in the inner one */
	const struct crash_state *outer; /* inner: the state whose recovery is crashed */
	unsigned int second_every;	 /* one image of so many is crashed again; 0: none */
	bool all;			 /* every optional check on every image */
	size_t second_boundary;		 /* inner: only this one; REPLAY_ALL */
	u64 second_variant;
	u64 *hashes;  /* inner: states of the outer trace and those after it */
	u8 *copy;     /* of the image */
	u64 stop_s;   /* monotonic second after which nothing more is judged, 0: none */
	char why[1024];
};

struct judge *judge_new(const struct workload_geometry *g, struct seen *seen,
			struct judge_counts *counts, bool inner);
void judge_free(struct judge *j);
/* The next images belong to w; hash[0..nr] are the states. */
void judge_workload(struct judge *j, const struct workload *w, const u64 *hash);
/* For struct replay: arg is the judge. Prints a violation; false when there were enough. */
bool judge_state(void *arg, const struct crash_state *st);

/*
 * kvs-fsck's verdict on an image in memory: number of problems, the first in why. A negative -KVE_*
 * when it could not judge.
 */
int judge_fsck(const u8 *image, u64 size, char *why, size_t why_len);
/* Engine's own check of an open volume; the same. */
int judge_check(kv_db *db, char *why, size_t why_len);
/* Put an image into a file for looking at it later; prints its name. */
void judge_dump(const u8 *image, u64 size);

#endif
