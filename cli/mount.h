/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount.h - kvs mount: the FUSE server over the shared view (kvfs/kvfs.h). What its files share.
 *
 * Decisions
 * - The kernel caches nothing: no names, no attributes, no content. Every call arrives here, so that the
 *   control files need not invalidate anything.
 * - A node is what the kernel knows a number of: a key, a tree or a control file. Its number is its
 *   address; the root is 1. For each key there is at most one node that is not gone.
 * - Lock order: moves or the lock of one open file (never both), then the view's locks, then nodes_lock.
 *   moves is held exclusively while a key changes its name and shared by whoever goes from a name or a
 *   key to a node; so under moves the keys of all nodes stand still.
 */
#ifndef MOUNT_H
#define MOUNT_H

#define FUSE_USE_VERSION 35

#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "kvfs/kvfs.h"
#include "kvs.h"

#define MOUNT_BLKSIZE (1u << 20) /* st_blksize: what cat and cp write at once */

enum mount_rank {
	MOUNT_RANK_MOVES = KVFS_RANK_TABLE,
	MOUNT_RANK_FILE = KVFS_RANK_TABLE,
	MOUNT_RANK_NODES = KVFS_RANK_KEY + 1, /* nothing is taken while it is held */
};

struct mount_options {
	bool readonly, allow_other, stream, strip_nl;
	uid_t uid;
	gid_t gid;
	mode_t fmode, dmode;
	int durability; /* 0: the volume's */
	uint64_t cache_bytes;
};

/* One that the kernel knows, or that is in use here. */
struct mount_node {
	struct mount_node *next, **at; /* in its chain, or among the detached; nodes_lock */
	bool hashed;		       /* nodes_lock */
	enum kvfs_kind kind;
	enum kvfs_control control;
	kv_tree *tree;	      /* TREE: itself; CONTROL: that of its directory */
	struct kvfs_node key; /* KEY */
	u64 ino;	      /* st_ino, and the hash; moves */
	u64 lookups;	      /* references of the kernel; nodes_lock */
	u32 refs;	      /* of open files and calls that are under way; nodes_lock */
	u32 opens;	      /* open files; nodes_lock */
	struct timespec mtime; /* nodes_lock; forgotten with the node */
};

struct mount_file;
struct mount_dir;

/* One mount: one process. */
struct mount {
	struct kvs *kvs;
	struct mount_options opt;
	const char *dir;  /* where, absolute */
	char *image;	  /* absolute */
	struct kvfs fs;
	struct kvfs staging; /* the same volume with stream set: see mount_file.c */
	u32 piece_bytes;     /* a request of the kernel to write has at most these */
	struct timespec began;
	struct fuse_session *session;

	struct kvp_rwsem moves;
	struct kvp_mutex nodes_lock;
	struct mount_node root;
	struct mount_node **chains;
	size_t chains_nr, nodes_nr;
	struct mount_node *detached; /* gone, but the kernel has not forgotten them */
	struct mount_file *files; /* open ones; nodes_lock */
	struct mount_dir *dirs;	  /* nodes_lock */
};

/* ---- options (mount_options.c) --------------------------------------------------------------- */

/* The list behind -o, or NULL. Exit code; has told why. */
int mount_options_parse(struct kvs *k, const char *list, struct mount_options *opt);

/* ---- the background (mount_daemon.c) --------------------------------------------------------- */

/*
 * Forks. In the parent it returns when the child is ready or has failed, *rc is then the exit code; true
 * in the child. Before the volume is opened: it cannot be used in a child of fork.
 */
bool mount_daemon_fork(int *rc);
/* Mounted: the parent may go, and messages go to the system's log. */
void mount_daemon_ready(void);

/* ---- nodes (mount_node.c) -------------------------------------------------------------------- */

int mount_nodes_init(struct mount *m);
void mount_nodes_exit(struct mount *m);
static inline struct mount_node *mount_node_of(struct mount *m, fuse_ino_t number)
{
	return number == FUSE_ROOT_ID ? &m->root : (struct mount_node *)(uintptr_t)number;
}
static inline fuse_ino_t mount_number_of(const struct mount *m, const struct mount_node *n)
{
	return n == &m->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}
/* The tree of a directory; NULL: the root, main. */
static inline kv_tree *mount_tree_of(const struct mount_node *dir)
{
	return dir->tree;
}
/* With moves held. The node of a key, there or not: one that is gone is not found. A reference. */
int mount_node_key(struct mount *m, kv_tree *tree, const void *key, u32 key_len, struct mount_node **out);
/* With moves held. The node of what a lookup found; *found is used up. */
int mount_node_found(struct mount *m, kv_tree *dir, struct kvfs_found *found, struct mount_node **out);
void mount_node_ref(struct mount *m, struct mount_node *n);
void mount_node_put(struct mount *m, struct mount_node *n);
/* A reference becomes one of the kernel's. */
void mount_node_known(struct mount *m, struct mount_node *n);
void mount_node_forget(struct mount *m, struct mount_node *n, u64 lookups);
/* Its key or tree is gone: not found any more. */
void mount_node_detach(struct mount *m, struct mount_node *n);
/* With moves held exclusively, after the key of the node has changed. */
void mount_node_moved(struct mount *m, struct mount_node *n);
/* 0, or a negative errno. */
int mount_node_attr(struct mount *m, struct mount_node *n, struct stat *st);
u64 mount_node_ino(struct mount *m, struct mount_node *n);
/* NULL: now */
void mount_node_touch(struct mount *m, struct mount_node *n, const struct timespec *mtime);

/* ---- open key files (mount_file.c) ----------------------------------------------------------- */

/* flags: of open(2). */
int mount_file_open(struct mount *m, struct mount_node *n, int flags, struct mount_file **out);
long mount_file_read(struct mount *m, struct mount_file *f, u64 off, void *buf, size_t len);
long mount_file_write(struct mount *m, struct mount_file *f, u64 off, const void *buf, size_t len);
/* pid: of who closes one of perhaps several descriptors; 0: all are closed. */
int mount_file_flush(struct mount *m, struct mount_file *f, pid_t pid);
int mount_file_sync(struct mount *m, struct mount_file *f);
int mount_file_truncate(struct mount *m, struct mount_file *f, u64 size);
void mount_file_close(struct mount *m, struct mount_file *f);
/* At the end of the mount: what is still open is flushed and closed. 0 or the first error. */
int mount_files_close(struct mount *m);

/* ---- descriptors (mount_fds.c) --------------------------------------------------------------- */

/* Has the process a descriptor of a file with that inode number and the access mode of these flags? */
bool mount_fds_has(pid_t pid, u64 ino, int flags);

/* ---- requests (mount_names.c, mount_dir.c, mount_ops.c) --------------------------------------- */

static inline struct mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
void mount_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *fi);
void mount_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev);
void mount_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void mount_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		     const char *new_name, unsigned int flags);
/* One command to a control file: 0 or a negative errno. */
int mount_command(struct mount *m, struct mount_node *n, const void *data, size_t len);

void mount_op_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi);
void mount_op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t off,
		      struct fuse_file_info *fi);
void mount_op_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi);
void mount_dirs_close(struct mount *m);

extern const struct fuse_lowlevel_ops mount_ops;

#endif
