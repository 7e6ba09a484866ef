/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kve_snapshot.h - the part of kve.h for named snapshots: what snapshot.c and deadlist.c offer the rest.
 */
#ifndef KVE_SNAPSHOT_H
#define KVE_SNAPSHOT_H

#include "kve.h"

/* A named snapshot. State lock; its trees: checkpoint lock to make them. */
struct kve_snapshot {
	struct kve_snapshot *next; /* newer */
	u64 gen, lsn, created;
	struct kvf_ref forest;
	u32 uses;	/* read transactions */
	bool durable;	/* else nobody is told of it */
	bool gone;	/* deleted, or never made: its row has to go */
	bool row;	/* it has a row in the forest */
	bool row_dirty; /* that must be written */
	kv_origin origin; /* generation 0: made here */
	struct kv_tree *trees; /* once it has been read */
	bool loaded;	       /* atomic: all of them are there */
	bool no_clones;	       /* its forest names no clones; checkpoint lock */
	char name[KVF_TREE_NAME_MAX + 1];
};

#define KVE_LIST_KEY 21u /* of a row 'L' */

/* ---- deadlist.c ------------------------------------------------------------------------------- */

/* Does the newest snapshot refer to a record that is alive? Space lock. */
bool kve_snapshot_sees(const struct kve_space *sp, u64 lsn);
static inline bool kve_space_has_snapshots(const struct kv_db *db)
{
	return kvp_load(&db->space.sights);
}
/* Of the newest snapshot, 0: there is none. */
u64 kve_snapshot_lsn(struct kv_db *db);
/* Will there be room for so many values that die and are pinned: before a change. Then the promise ends. */
int kve_dead_promise(struct kv_db *db, u32 n);
void kve_dead_done(struct kv_db *db, u32 n);
/* A live record has died that snapshots refer to. Space lock; was promised. */
void kve_dead_pin(struct kv_db *db, u32 segment, u64 lsn, u32 bytes);
/* Writer lock closed: what has died belongs to the generation being frozen. */
int kve_dead_freeze(struct kv_db *db);
/* Checkpoint: of what died the parts that snapshots need get rows; what none needs any more is freed. */
int kve_deadlist_write(struct kv_db *db, struct kve_free_batch *batch);
/* A row of the segment table, when it is loaded. */
int kve_deadlist_load(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len);
/* What each snapshot alone holds: bytes[i] of sight i. Checkpoint lock. */
int kve_deadlist_sizes(struct kv_db *db, u64 *bytes);
void kve_deadlist_exit(struct kv_db *db);

/* ---- pins.c ----------------------------------------------------------------------------------- */

/* Does a named snapshot see a page that was born in this generation? Space lock. */
bool kve_pins_page(const struct kve_space *sp, u64 birth);

/* ---- snapshot.c ------------------------------------------------------------------------------- */

/* Writer lock closed: the snapshot that is to be made shows this generation. */
void kve_snapshot_freeze(struct kv_db *db, u64 gen, u64 lsn);
/* The checkpoint has come to its end. Writer lock. */
void kve_snapshot_settle(struct kv_db *db, u64 gen, int err, const struct kvf_ref *forest);
/* A row of the forest, when it is loaded; all of them are there. */
int kve_snapshot_load(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len);
int kve_snapshots_loaded(struct kv_db *db);
/* Rows of the forest. Checkpoint. */
int kve_snapshots_write(struct kv_db *db, u64 gen);
void kve_snapshots_exit(struct kv_db *db);
/* What deleted ones held is not all free, and no thread goes on in the background. No lock held. */
bool kve_orphans_left(struct kv_db *db);
int kve_snapshot_name_check(struct kv_db *db, const char *name);
/* NULL: there is none. Checkpoint lock: so long it stays. */
struct kve_snapshot *kve_snapshot_find(struct kv_db *db, const char *name);
int kve_no_snapshot(struct kv_db *db, const char *name);
/* Handles for all of its trees, once. Checkpoint lock. */
int kve_snapshot_trees(struct kv_db *db, struct kve_snapshot *s);
/* Once they are loaded. NULL: there is none. */
struct kv_tree *kve_snapshot_tree(const struct kve_snapshot *s, u32 id);
/* fn for each row of the forest that the snapshot shows. Checkpoint lock. */
typedef int kve_row_fn(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len);
int kve_snapshot_rows(struct kv_db *db, struct kve_snapshot *s, kve_row_fn *fn, void *arg);
/*
 * The forest that `to` shows becomes the volume's: later snapshots are gone. stale: snapshots that have rows
 * there and were deleted since. Checkpoint lock, writer lock closed.
 */
void kve_snapshots_roll(struct kv_db *db, struct kve_snapshot *to, struct kve_snapshot *stale);
/* The tree that a read transaction (or NULL) shows for a handle; NULL: it has none. */
struct kv_tree *kve_read_tree(struct kv_db *db, struct kv_read *r, kv_tree *t);
/* The tree of that name (NULL: the default one) in the state that r shows, NULL: it has none. */
int kve_read_tree_find(struct kv_read *r, const char *name, kv_tree **out);
void kve_snapshot_read_end(struct kv_read *r);

#endif
