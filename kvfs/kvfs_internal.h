/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvfs_internal.h - what the files of kvfs/ offer one another.
 *
 * Errors are negative errno values throughout; those of the engine are turned by kvfs_errno() at the
 * call, because the two sets of numbers overlap.
 */
#ifndef KVFS_INTERNAL_H
#define KVFS_INTERNAL_H

#include "kvfs.h"

#define KVFS_TREE_NAME_MAX 64u
#define KVFS_SMALL 256u /* values up to here are read without an allocation */
#define KVFS_SIZE_MAX 0x7fffffffffffffffull /* of a file: loff_t */

static inline u64 kvfs_least(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Is it the control file of that number? KVFS_CONTROLS: none. */
enum kvfs_control kvfs_control_of(const void *name, u32 len);
bool kvfs_is_root(const kv_tree *tree);
/* Name of a tree's directory; as kvfs_name_from_key(). */
u32 kvfs_name_from_tree(kv_tree *tree, char *name);
/* What the directory of that name is called as a tree, in raw; -ENOENT, -ENAMETOOLONG. */
int kvfs_tree_name(const char *name, u32 name_len, char raw[KVFS_TREE_NAME_MAX + 1]);
/* The tree whose directory has that name; -ENOENT. */
int kvfs_tree_from_name(struct kvfs *fs, const char *name, u32 name_len, kv_tree **out);

/* Flags of a change, without conditions. */
static inline u32 kvfs_durability(const struct kvfs *fs, unsigned int open_flags)
{
	return open_flags & KVFS_O_SYNC ? (u32)KV_SYNCED : (u32)fs->durability;
}

/*
 * A change of the value: begin locks the node (-ESTALE: gone, not locked), end unlocks it and returns
 * err, or -ESTALE and marks the node as gone when err is -ENOENT: the change was conditional on the key.
 */
int kvfs_change_begin(struct kvfs_node *n);
int kvfs_change_end(struct kvfs_node *n, int err);
/* Between the two, when the change has succeeded: the value has this size now. */
void kvfs_size_becomes(struct kvfs_node *n, u64 size);

/* Is that its key? lock or naming held. */
bool kvfs_node_is(const struct kvfs_node *n, const kv_tree *tree, const void *key, u32 key_len);

/* bytes from a reader's position, which has them, to a writer; piece has KVFS_PIECE bytes. */
int kvfs_copy(kv_reader *rd, kv_writer *w, u64 bytes, u8 *piece);
int kvfs_zeros(kv_writer *w, u64 bytes, u8 *piece);
/* A value that is being written through one open file (stream.c). All: file lock. */
struct kvfs_stage {
	kv_writer *writer; /* NULL: nothing is staged */
	u64 pos;	   /* where the next byte goes */
	bool cut;	   /* nothing of the old value comes behind */
};

struct kvfs_file {
	struct kvfs *fs;
	struct kvfs_node *node;
	struct kvp_mutex lock; /* rank FILE: all below */
	unsigned int flags;
	bool cut;  /* truncation is pending */
	int error; /* what was staged is lost: the next flush says so */
	struct kvfs_stage stage;
	/* The pass: the version of the value that is being read. */
	bool reading;	   /* there is one: value or reader has it */
	bool has_read;	   /* seen and length are of the newest pass, which may have ended */
	u8 *value;	   /* up to KVFS_PIECE bytes; room for value_room; small, or kvp_alloc()ed */
	u32 value_room;
	kv_reader *reader; /* longer ones */
	u64 length;
	u64 seen; /* node->version then */
	bool ended;	   /* the last read was told that there is no more */
	u64 left; /* where the last read or write left off */
	u8 small[KVFS_SMALL];
};

/* stream.c; file lock held. */
long kvfs_stage_write(struct kvfs_file *f, u64 pos, struct kvfs_source *src, size_t len);
int kvfs_stage_commit(struct kvfs_file *f);
void kvfs_stage_drop(struct kvfs_file *f);

#endif
