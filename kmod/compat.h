/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * compat.h - the VFS of kernels from 6.1 on, under one set of names.
 *
 * What a kernel offers is found by compiling probes against its headers when the module is configured
 * (KV_HAVE_*), never by its version: stable and distribution kernels carry later interfaces back. All
 * names are our own, so that a kernel which gains the upstream one still compiles.
 */
#ifndef KVFS_COMPAT_H
#define KVFS_COMPAT_H

#include <linux/fs.h>
#include <linux/dcache.h>
#include <linux/mount.h>

/* ---- whose users and groups an operation speaks of -------------------------------------------------- */

#ifdef KV_HAVE_MNT_IDMAP
typedef struct mnt_idmap kvfs_idmap;

static inline kvfs_idmap *kvfs_file_idmap(struct file *file)
{
	return file_mnt_idmap(file);
}
#else
typedef struct user_namespace kvfs_idmap;

static inline kvfs_idmap *kvfs_file_idmap(struct file *file)
{
	return file_mnt_user_ns(file);
}
#endif

static inline void kvfs_fillattr(kvfs_idmap *idmap, u32 mask, struct inode *inode, struct kstat *stat)
{
#ifdef KV_HAVE_FILLATTR_MASK
	generic_fillattr(idmap, mask, inode, stat);
#else
	generic_fillattr(idmap, inode, stat);
#endif
}

/* ---- inodes ------------------------------------------------------------------------------------- */

/* The content changed now. */
static inline void kvfs_touch(struct inode *inode)
{
#ifdef KV_HAVE_SET_CTIME_CURRENT
	struct timespec64 now = inode_set_ctime_current(inode);
#else
	struct timespec64 now = inode->i_ctime = current_time(inode);
#endif
#ifdef KV_HAVE_MTIME_ACCESSORS
	inode_set_mtime_to_ts(inode, now);
#else
	inode->i_mtime = now;
#endif
}

static inline void kvfs_times_init(struct inode *inode)
{
	kvfs_touch(inode);
#ifdef KV_HAVE_MTIME_ACCESSORS
	inode_set_atime_to_ts(inode, inode_get_mtime(inode));
#else
	inode->i_atime = inode->i_mtime;
#endif
}

static inline bool kvfs_inode_is_new(struct inode *inode)
{
#ifdef KV_HAVE_INODE_STATE_READ
	return inode_state_read_once(inode) & I_NEW;
#else
	return READ_ONCE(inode->i_state) & I_NEW;
#endif
}

/* ---- dentries and superblocks ----------------------------------------------------------------------- */

static inline void kvfs_dentries_init(struct super_block *sb, const struct dentry_operations *ops)
{
#ifdef KV_HAVE_SET_DEFAULT_D_OP
	set_default_d_op(sb, ops);
#else
	sb->s_d_op = ops;
#endif
}

/* ->mkdir() gives the dentry, or nothing but an error. */
#ifdef KV_HAVE_MKDIR_DENTRY
typedef struct dentry *kvfs_mkdir_result;

static inline kvfs_mkdir_result kvfs_mkdir_return(int err)
{
	return ERR_PTR(err);
}
#else
typedef int kvfs_mkdir_result;

static inline kvfs_mkdir_result kvfs_mkdir_return(int err)
{
	return err;
}
#endif

/* The end of the arguments of ->create(). */
#ifdef KV_HAVE_CREATE_EXCL
#define KVFS_CREATE_EXCL , bool excl
#else
#define KVFS_CREATE_EXCL
#endif

#endif
