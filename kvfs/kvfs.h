/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvfs.h - KVFS: a volume seen as a file system. What the kernel module and the FUSE server share, so
 * that both show the same files: names, control files, the meaning of read and write.
 *
 * Only the engine's public API (kvengine.h) and its port (kvp.h) are used here; whoever is above
 * (kmod/, cli/mount*.c) brings inodes, users and requests. All functions may sleep and must be called
 * without locks of the caller that a page fault could need. They return 0 or a count, or a negative
 * errno; errno values are the same in both worlds.
 *
 * The view: the root is the tree "main"; every other tree is a directory in the root. A directory has
 * one regular file per key, and the four control files. Names: see name.c.
 */
#ifndef KVFS_H
#define KVFS_H

#include <errno.h>

#include "../engine/kvp.h"
#include "../engine/include/kvengine.h"

#define KVFS_MAGIC 0x4b564653 /* "KVFS": statfs */
#define KVFS_NAME_MAX 255u
#define KVFS_ROOT_INO 1u
#define KVFS_INO_FIRST 16u /* below: root and control files of the root */
#define KVFS_PIECE 65536u  /* values up to here are buffered whole, longer ones streamed in pieces */

/* Lock ranks: below all of the engine's (enum kve_rank). */
enum kvfs_rank {
	KVFS_RANK_TABLE = 1, /* FUSE: the table of nodes */
	KVFS_RANK_FILE = 2,  /* state of one open file */
	KVFS_RANK_NODE = 3,  /* one change of a key at a time */
	KVFS_RANK_KEY = 4,   /* the name of a node, held over one call of the engine */
};

/* One mount. Constant while it is mounted, but for the options that a remount changes. */
struct kvfs {
	kv_db *db;
	u32 key_max;	/* kv_stat.key_max */
	bool stream;	/* write=stream: POSIX offsets; else each write SETs the whole value */
	bool strip_nl;	/* one newline at the end of a write to a control file is not part of the key */
	int durability; /* of every change: KV_MEMORY, KV_KILL_SAFE, KV_SYNCED; 0: the volume's */
};

/* Class of the engine (KV_E_*, negative) -> negative errno; 0 stays 0. */
int kvfs_errno(int err);

/* ---- names (name.c) ---------------------------------------------------------------------------- */

enum kvfs_control { KVFS_MK, KVFS_DEL, KVFS_INC, KVFS_DEC, KVFS_CONTROLS };
extern const char *const kvfs_control_name[KVFS_CONTROLS];

/* tree NULL: main, the root. Writes 1 to KVFS_NAME_MAX bytes and a NUL; returns the length. */
u32 kvfs_name_from_key(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len, char *name);
/*
 * The key of a name; key has room for fs->key_max. Returns its length; -ENOENT when the name is that of
 * no key (not canonical, or an alias that no key has); -ENAMETOOLONG; -ELOOP when too many keys share
 * the beginning of an alias. Whether the key exists is only looked at for aliases.
 */
int kvfs_key_from_name(struct kvfs *fs, kv_tree *tree, const char *name, u32 name_len, void *key);
u64 kvfs_ino(kv_tree *tree, const void *key, u32 key_len); /* >= KVFS_INO_FIRST, stable over mounts */
u64 kvfs_tree_ino(kv_tree *tree);			   /* the root's for main */
u64 kvfs_control_ino(kv_tree *tree, enum kvfs_control which);

/* ---- nodes: keys that the caller has an inode of (node.c) --------------------------------------- */

struct kvfs_node {
	kv_tree *tree; /* NULL: main */
	u8 *key;       /* kvp_alloc()ed; it and tree change at rename, with lock and naming held */
	u32 key_len;
	struct kvp_mutex lock; /* rank NODE: read-modify-write of the value, and its key */
	struct kvp_rwsem naming; /* rank KEY: shared, key and tree stay: readers need no more than that */
	u32 staged;	       /* lock: streams of open files that are bound to the key */
	u64 version;	       /* changes with each change through this mount, odd during one; kvp_load() */
	u64 size;	       /* of the value of size_version; see node.c */
	u64 size_version;
	bool gone;	       /* the key was deleted: -ESTALE; kvp_load() */
};

int kvfs_node_init(struct kvfs_node *n, kv_tree *tree, const void *key, u32 key_len);
void kvfs_node_exit(struct kvfs_node *n);
/* Length of the value; -ESTALE when the key is gone. */
int kvfs_node_size(struct kvfs *fs, struct kvfs_node *n, u64 *size);
/* truncate(2): cut or extend with zeros; atomic. */
int kvfs_node_truncate(struct kvfs *fs, struct kvfs_node *n, u64 size);
/* Somebody changed the value otherwise (ioctl), or deleted it. */
void kvfs_node_changed(struct kvfs_node *n);
void kvfs_node_gone(struct kvfs_node *n);

/* ---- directories (dir.c) ------------------------------------------------------------------------ */

enum kvfs_kind { KVFS_KEY, KVFS_TREE, KVFS_CONTROL };

struct kvfs_found {
	enum kvfs_kind kind;
	enum kvfs_control control; /* KVFS_CONTROL */
	kv_tree *tree;		   /* KVFS_TREE: that tree */
	u8 *key;		   /* KVFS_KEY: kvp_alloc()ed, the caller frees it */
	u32 key_len;
	u64 size; /* KVFS_KEY: length of the value */
};

/* dir: the tree whose directory it is, NULL: the root. -ENOENT when there is nothing. */
int kvfs_lookup(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len, struct kvfs_found *out);
/* A new empty key; -EEXIST; -EINVAL when the name is no key's. *out as from kvfs_lookup(). */
int kvfs_create(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len, struct kvfs_found *out);
/* Deletes the key and marks the node as gone; -ESTALE. */
int kvfs_unlink(struct kvfs *fs, struct kvfs_node *n);
/*
 * Atomic. victim: node of what has the new name, or NULL; marked as gone. no_replace: -EEXIST when the
 * name is taken; the caller keeps others from making it meanwhile. -EXDEV, and mv copies, when the
 * value is too large for one batch; without stream -EFBIG, since mv would copy in pieces. -EBUSY while a
 * stream for the key is staged. -EISDIR, -EPERM when the name is that of a tree or of a control file.
 */
int kvfs_rename(struct kvfs *fs, struct kvfs_node *n, kv_tree *dir, const char *name, u32 name_len,
		struct kvfs_node *victim, bool no_replace);
/* Trees, in the root only. rmdir: -ENOTEMPTY unless the tree is empty; the caller keeps others from
 * making keys in it meanwhile. */
int kvfs_mkdir(struct kvfs *fs, const char *name, u32 name_len, kv_tree **out);
int kvfs_rmdir(struct kvfs *fs, kv_tree *tree);

/* An open directory. Positions: 0 and 1 are the caller's (. and ..), 2 to 5 control files, then trees
 * (in the root) and keys, in order. A position that was given stays good while the directory is open. */
struct kvfs_dir;
/* Returns true when the entry was taken, false when there is no room. Called without any lock. */
typedef bool (*kvfs_emit)(void *arg, const char *name, u32 name_len, u64 ino, enum kvfs_kind kind);
int kvfs_dir_open(struct kvfs *fs, kv_tree *tree, struct kvfs_dir **out);
/* From *pos (>= 2) on; *pos becomes that of the first entry not taken. One caller at a time. */
int kvfs_dir_read(struct kvfs_dir *d, u64 *pos, kvfs_emit emit, void *arg);
void kvfs_dir_close(struct kvfs_dir *d);

/* ---- control files (control.c) ------------------------------------------------------------------- */

/* Length of the key in what was written: 0 bytes or more than key_max are errors (-EINVAL, -ENAMETOOLONG). */
int kvfs_control_key(struct kvfs *fs, const void *data, size_t len);
/*
 * node: that of the key if the caller has one, else NULL; it is marked. MK: -EEXIST. DEL, INC, DEC:
 * -ENOENT. INC, DEC: -EINVAL no number, -ERANGE overflow.
 */
int kvfs_control(struct kvfs *fs, kv_tree *tree, enum kvfs_control which, const void *key, u32 key_len,
		 struct kvfs_node *node);

/* kv_inc() with the errors of the control files; flags as there. result: NULL or where the sum goes. */
int kvfs_inc(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len, s64 delta, s64 *result, u32 flags);

/* ---- open key files (file.c, stream.c) ----------------------------------------------------------- */

#define KVFS_O_APPEND 0x1u
#define KVFS_O_SYNC 0x2u  /* O_SYNC, O_DSYNC: each write is synced */
#define KVFS_O_TRUNC 0x4u /* deferred: the next write replaces, flush without a write empties */

struct kvfs_file;
/* Where the bytes of a write come from. Copies the next len bytes: 0, or a negative errno. */
struct kvfs_source {
	int (*copy)(struct kvfs_source *s, void *to, size_t len);
};

/* The node outlives the file. */
int kvfs_file_open(struct kvfs *fs, struct kvfs_node *n, unsigned int flags, struct kvfs_file **out);
/* truncate(2) on an open(2) that is under way: same as KVFS_O_TRUNC. */
void kvfs_file_truncate_later(struct kvfs_file *f);
/*
 * Up to len bytes from *pos on (fewer only at the end); *pos moves behind them. A pass over a value sees one
 * version of it. At the end of a value that was changed since it was read, reading starts again: *pos
 * is then counted from 0. -ESTALE: deleted, or the version is not kept any longer.
 */
long kvfs_file_read(struct kvfs_file *f, u64 *pos, void *buf, size_t len);
/*
 * SET: the whole value becomes these bytes, atomically, whatever pos is; APPEND: they are added
 * atomically. Stream: at pos, visible after flush, sync, close or a read through the same file.
 * Returns len.
 */
long kvfs_file_write(struct kvfs_file *f, u64 pos, struct kvfs_source *src, size_t len);
/* What close(2) reports: what was deferred or staged takes effect. */
int kvfs_file_flush(struct kvfs_file *f);
/* fsync(2): flush, then everything so far is durable. */
int kvfs_file_sync(struct kvfs_file *f);
/* Also gives up what was never flushed. */
void kvfs_file_close(struct kvfs_file *f);

#endif
