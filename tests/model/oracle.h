/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * oracle.h - the simplest thing that is right: sorted arrays of keys with every version that each had.
 *
 * The oracle (machine M3) is told every commit that a volume acknowledges, in order, and can then say
 * what the volume must hold after any number of them. Commits count from 1; state 0 has the empty tree
 * "main". Nothing is forgotten until oracle_rewind() or oracle_free(). It shares no code with the
 * engine. Out of memory ends the process: it is a test.
 *
 * CONTRACT C1, C4: the comparisons below are what "exactly a committed state" means in all machines.
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <stdbool.h>
#include <xxhash.h>

#include "engine/include/kvengine.h"

#define ORACLE_NAME_MAX 64

struct oracle_version {
	uint64_t commit;
	uint8_t *value; /* NULL: the key is gone from this commit on */
	uint32_t len;
};

struct oracle_key {
	uint8_t *key;
	uint32_t key_len;
	uint32_t nr, cap;
	struct oracle_version *versions;
};

struct oracle_tree {
	char name[ORACLE_NAME_MAX + 1];
	struct oracle_key **keys; /* in order */
	uint32_t nr, cap;
	/* commits at which the tree came and went, in turns; an odd number of entries: it is there */
	uint64_t *turns;
	uint32_t turns_nr, turns_cap;
};

struct oracle {
	struct oracle_tree **trees; /* in order of names */
	uint32_t nr, cap;
	uint64_t commit; /* the last one; also the one that changes go to */
};

void oracle_init(struct oracle *o);
void oracle_free(struct oracle *o);
/* Forget all commits after at. */
void oracle_rewind(struct oracle *o, uint64_t at);

/* Changes after this call belong to the commit that is returned. */
uint64_t oracle_next(struct oracle *o);
void oracle_put(struct oracle *o, const char *tree, const void *key, size_t key_len, const void *value,
		size_t len);
void oracle_del(struct oracle *o, const char *tree, const void *key, size_t key_len);
/* from <= key < to; no bytes: no bound */
void oracle_del_range(struct oracle *o, const char *tree, const void *from, size_t from_len, const void *to,
		      size_t to_len);
void oracle_tree_create(struct oracle *o, const char *tree); /* nothing when it is there */
void oracle_tree_drop(struct oracle *o, const char *tree);
/* A new tree with what another one had at commit at. */
void oracle_tree_clone(struct oracle *o, const char *tree, const char *from, uint64_t at);
/* All is as it was at commit `to` again. */
void oracle_revert(struct oracle *o, uint64_t to);

bool oracle_tree_exists(const struct oracle *o, uint64_t at, const char *tree);
/* The value as of commit at, or NULL. A value of no bytes gives a pointer too. */
const uint8_t *oracle_get(const struct oracle *o, uint64_t at, const char *tree, const void *key,
			  size_t key_len, size_t *len);
uint64_t oracle_count(const struct oracle *o, uint64_t at, const char *tree);
/* Was this ever the value of the key, up to the last commit? */
bool oracle_ever(const struct oracle *o, const char *tree, const void *key, size_t key_len,
		 const void *value, size_t len);
/* First key >= key (above: > key) at commit at, or the last one < key (key NULL: the last of all). */
const struct oracle_key *oracle_above(const struct oracle *o, uint64_t at, const char *tree,
				      const void *key, size_t key_len, bool above);
const struct oracle_key *oracle_below(const struct oracle *o, uint64_t at, const char *tree,
				      const void *key, size_t key_len);
const struct oracle_version *oracle_version(const struct oracle_key *k, uint64_t at);

/*
 * Digest of a whole state: the sum of a digest of each tree's name and of each pair, so that a known
 * change turns a known digest into the next. Equal states have equal digests.
 */
uint64_t oracle_hash(const struct oracle *o, uint64_t at);
uint64_t oracle_hash_name(const char *tree);
uint64_t oracle_hash_pair(const char *tree, const void *key, size_t key_len, const void *value,
			  size_t len);
/* A pair whose value (len bytes) is passed on by XXH64_update in pieces. */
XXH64_state_t *oracle_hash_begin(const char *tree, const void *key, size_t key_len, uint64_t len);
uint64_t oracle_hash_end(XXH64_state_t *s);
/*
 * The same digest of an open volume, by one forward scan of each tree; keys must ascend, else
 * KV_E_CORRUPT. Returns 0 or the engine's error. *entries (may be NULL): pairs seen.
 */
int oracle_hash_volume(kv_db *db, uint64_t *hash, uint64_t *entries);
/* Of the state that a read transaction on a snapshot shows. */
int oracle_hash_read(kv_db *db, kv_read *r, uint64_t *hash, uint64_t *entries);

/*
 * Compare all of the volume with state at: trees and their counts, forward and backward scans, gets of
 * every key that the oracle ever knew. r: a read transaction, or NULL. Returns 0, or -1 with the first
 * difference in why.
 */
#define ORACLE_WHY 512
int oracle_compare(const struct oracle *o, uint64_t at, kv_db *db, kv_read *r, char *why);
/* Key bytes for messages, in a static buffer of four turns. */
const char *oracle_key_text(const void *key, size_t len);

#endif
