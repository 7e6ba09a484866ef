/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvfs_kernel.h - what the files of the VFS side share. The meaning of names, reads and writes is in
 * kvfs/; here are inodes, open files, users and system calls.
 *
 * Locks, in the order in which they are taken: i_rwsem of a directory, i_rwsem of a key, then those of
 * kvfs/ and of the engine. Rules that hold everywhere:
 *
 * - A key appears, disappears or is renamed only while i_rwsem of the directory of its tree is held
 *   exclusively, and the inode cache is asked for a key only while it is held at all. So a key that
 *   exists has at most one inode, an inode in the hash belongs to a key that exists, and comparing
 *   keys there never meets a rename. Inodes of another tree are told apart before their key is read.
 * - The value of a key changes through its open files and through setattr, or, from elsewhere, between
 *   kvfs_alter_begin() and kvfs_alter_end().
 * - A negative dentry is never left behind, so that keys made by control files and ioctls are seen.
 * - The size of a value is asked of the engine when somebody wants it; i_size is a hint.
 */
#ifndef KVFS_KERNEL_H
#define KVFS_KERNEL_H

#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/kobject.h>

#include "compat.h"
#include "port.h"
#include "../engine/kve_open.h"
#include "../kvfs/kvfs.h"

#define KVFS_BLOCK 4096u	 /* f_bsize: what statfs counts in */
#define KVFS_IO_BYTES (1u << 20) /* st_blksize, so that tools write a value at once; a read in one piece */

struct kvfs_options {
	kuid_t uid;
	kgid_t gid;
	umode_t fmode, dmode;
	u64 cache_bytes; /* 0: the engine's default */
	int durability;
	bool stream;
	bool strip_nl;
};

/* One mount: sb->s_fs_info. */
struct kvfs_super {
	struct kvfs fs;
	struct super_block *sb;
	struct kvp_dev *dev;
	const struct kvp_dev_ops *dev_ops; /* as opened, while dev->ops are those of a dead device */
	struct mutex down_lock;		   /* the change to down */
	bool down;			   /* shut down: READ_ONCE() */
	bool opened_read_only;
	struct kvfs_options opt; /* but for what is in fs */
	struct kobject kobj;	 /* /sys/fs/kvfs/<dev> */
	struct completion kobj_gone;
};

enum kvfs_effect { KVFS_NOTHING, KVFS_CHANGED, KVFS_DELETED };

/* A key, the directory of a tree, or a control file of one. */
struct kvfs_inode {
	enum kvfs_kind kind;
	enum kvfs_control control; /* of a control file */
	kv_tree *tree;		   /* of a directory or control file; NULL: main */
	struct kvfs_node *node;	   /* of a key: its own, else NULL */
	/* While somebody alters keys from elsewhere; i_rwsem of the directory. */
	enum kvfs_effect effect;
	struct kvfs_inode *altered_next;
	struct inode vfs;
};

static inline struct kvfs_super *kvfs_super_of(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct kvfs_inode *kvfs_inode_of(struct inode *inode)
{
	return container_of(inode, struct kvfs_inode, vfs);
}

static inline struct kvfs *kvfs_of(const struct inode *inode)
{
	return &kvfs_super_of(inode->i_sb)->fs;
}

static inline struct kvfs_node *kvfs_node_of(struct inode *inode)
{
	return kvfs_inode_of(inode)->node;
}

static inline bool kvfs_is_key(struct inode *inode)
{
	return kvfs_inode_of(inode)->kind == KVFS_KEY;
}

/* 0, or -EIO: the first question of every operation. */
static inline int kvfs_alive(const struct super_block *sb)
{
	return unlikely(READ_ONCE(kvfs_super_of(sb)->down)) ? -EIO : 0;
}

/* ---- super.c ---------------------------------------------------------------------------------------- */

int kvfs_fill_super(struct super_block *sb, struct fs_context *fc);
void kvfs_kill_sb(struct super_block *sb);
int kvfs_remount(struct super_block *sb, struct fs_context *fc, const struct kvfs_options *opt);
/* Nothing is written any more and every operation fails. sync: first what was acknowledged. */
int kvfs_shutdown(struct super_block *sb, bool sync);

/* ---- inode.c ---------------------------------------------------------------------------------------- */

int kvfs_inodes_init(void);
void kvfs_inodes_exit(void);
struct inode *kvfs_inode_alloc(struct super_block *sb);
void kvfs_inode_free(struct inode *inode);
struct inode *kvfs_root(struct super_block *sb);
/* What was found in the directory dir, which is locked. */
struct inode *kvfs_inode_get(struct inode *dir, const struct kvfs_found *found);
/* The inode of a key if it is in memory; dir is locked. */
struct inode *kvfs_inode_find(struct inode *dir, const void *key, u32 key_len);
/* It is nowhere any more but in open files. */
void kvfs_inode_dead(struct inode *inode);
void kvfs_size_refresh(struct inode *inode);
int kvfs_op_setattr(kvfs_idmap *idmap, struct dentry *dentry, struct iattr *attr);
int kvfs_op_getattr(kvfs_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		    unsigned int flags);

/* ---- alter.c ---------------------------------------------------------------------------------------- */

/*
 * A change of keys of one tree that does not come through their inodes. From begin to end dir, the
 * directory of the tree, is locked: no name changes. alter_key() locks the node of a key that will be
 * changed, if it has one; the same key may come again, the last effect counts. end tells the inodes.
 */
struct kvfs_alter {
	struct inode *dir;
	struct kvfs_inode *first;
};

void kvfs_alter_begin(struct kvfs_alter *a, struct inode *dir);
void kvfs_alter_key(struct kvfs_alter *a, const void *key, u32 key_len, enum kvfs_effect effect);
/* err: what the engine said, as errno. names: keys may have come or gone. */
void kvfs_alter_end(struct kvfs_alter *a, int err, bool names);

/* The key was deleted from beside: so its inode is dead and its name is nobody's; dir is locked. */
void kvfs_inode_unname(struct inode *inode);

/* The directory whose tree an open file is of; dput() it. */
struct dentry *kvfs_dir_of(struct file *file);
/* May the caller make and delete keys there; read or write those of the mount (MAY_READ, MAY_WRITE)? */
int kvfs_may_change(struct file *file, struct inode *dir);
int kvfs_may_access(struct file *file, struct inode *dir, int mask);

/* ---- namei.c, file.c, control.c, dir.c, ioctl.c --------------------------------------------------- */

extern const struct dentry_operations kvfs_dentry_operations;
extern const struct inode_operations kvfs_dir_inode_operations, kvfs_file_inode_operations;
extern const struct file_operations kvfs_key_operations, kvfs_control_operations, kvfs_dir_operations;
/* O_TRUNC of an open(2) that is under way. */
void kvfs_truncate_at_open(struct file *file);
int kvfs_op_fsync(struct file *file, loff_t start, loff_t end, int datasync);
long kvfs_op_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* ---- sysfs.c ---------------------------------------------------------------------------------------- */

int kvfs_sysfs_init(void);
void kvfs_sysfs_exit(void);
int kvfs_sysfs_add(struct kvfs_super *s);
void kvfs_sysfs_remove(struct kvfs_super *s);

#endif
