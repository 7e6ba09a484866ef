/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * load_model.h - what a volume may hold after a power cut during the load of load.h.
 *
 * The changes of one thread have an order, so a volume shows a prefix of them or it is wrong (CONTRACT
 * C1, C4): the digest of the thread's keys must be one of those that the model has computed. Between
 * threads, the order of commits shows in two ways: "sum" is the number of additions in all prefixes
 * together; and where a thread has written that j's operation m had returned, j's prefix has it.
 */
#ifndef TESTS_LOAD_MODEL_H
#define TESTS_LOAD_MODEL_H

#include "engine/user/kve_test.h"
#include "tests/kmod/load.h"

/* What was found of each thread: states lo..hi have this digest (a change may change nothing). */
struct load_found {
	u64 lo[LOAD_THREADS], hi[LOAD_THREADS];
	u64 synced[LOAD_THREADS]; /* commits of each that tT-durable, of any T, says to be durable */
	u64 sum;
};

void load_model_init(u64 seed, u64 operations);
/* Commits of a thread altogether. */
u64 load_model_commits(unsigned int thread);
u64 load_model_operations(unsigned int thread, u64 commits);
/* The disk before the load, with the keys that exist then. False: said why. */
bool load_model_make(const char *path, u64 size);
/* What db holds; false: something that never was, see why. */
bool load_model_find(kv_db *db, struct load_found *f, char *why, size_t why_len);

#endif
