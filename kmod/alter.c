// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * alter.c - changes that reach a key from beside its file, by control files and ioctls, and how its
 * inode, open files and names learn of them.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mutex.h>

#include "kvfs_kernel.h"

void kvfs_alter_begin(struct kvfs_alter *a, struct inode *dir)
{
	a->dir = dir;
	a->first = NULL;
	inode_lock(dir);
}

/*
 * Several nodes may be locked at once, in any order: whoever wants more than one holds the directory.
 * The version is odd from here on, which tells readers that a change is under way.
 */
void kvfs_alter_key(struct kvfs_alter *a, const void *key, u32 key_len, enum kvfs_effect effect)
{
	struct inode *inode = kvfs_inode_find(a->dir, key, key_len);
	struct kvfs_inode *ki;

	if (!inode)
		return;
	ki = kvfs_inode_of(inode);
	if (ki->effect == KVFS_NOTHING) {
		mutex_lock_nest_lock(&ki->node->lock.m, &a->dir->i_rwsem);
		kvp_add(&ki->node->version, 1u);
		ki->altered_next = a->first;
		a->first = ki;
	} else {
		iput(inode);
	}
	ki->effect = effect;
}

/* After a failure of the medium nobody knows what the value is now. */
static void node_done(struct kvfs_node *node, enum kvfs_effect effect, int err)
{
	if (!err && effect == KVFS_DELETED)
		kvp_store(&node->gone, true);
	if (err && err != -EIO)
		kvp_sub(&node->version, 1u);
	else
		kvp_add(&node->version, 1u);
	kvp_mutex_unlock(&node->lock);
}

void kvfs_inode_unname(struct inode *inode)
{
	struct dentry *alias;

	kvfs_inode_dead(inode);
	while ((alias = d_find_alias(inode))) {
		d_invalidate(alias);
		dput(alias);
	}
}

void kvfs_alter_end(struct kvfs_alter *a, int err, bool names)
{
	enum kvfs_effect effect;
	struct kvfs_inode *ki;

	while ((ki = a->first)) {
		a->first = ki->altered_next;
		effect = ki->effect;
		ki->effect = KVFS_NOTHING;
		node_done(ki->node, effect, err);
		if (!err && effect == KVFS_DELETED) {
			kvfs_inode_unname(&ki->vfs);
		} else if (!err) {
			kvfs_size_refresh(&ki->vfs);
			kvfs_touch(&ki->vfs);
		}
		iput(&ki->vfs);
	}
	if (!err && names)
		kvfs_touch(a->dir);
	inode_unlock(a->dir);
}

struct dentry *kvfs_dir_of(struct file *file)
{
	struct dentry *dentry = file->f_path.dentry;

	return S_ISDIR(file_inode(file)->i_mode) ? dget(dentry) : dget_parent(dentry);
}

int kvfs_may_change(struct file *file, struct inode *dir)
{
	return inode_permission(kvfs_file_idmap(file), dir, MAY_WRITE | MAY_EXEC);
}

/* All keys of a mount have one owner and mode, so no inode is needed to answer. */
int kvfs_may_access(struct file *file, struct inode *dir, int mask)
{
	const struct kvfs_options *opt = &kvfs_super_of(dir->i_sb)->opt;
	unsigned int mode = opt->fmode;

	if (uid_eq(current_fsuid(), opt->uid))
		mode >>= 6;
	else if (in_group_p(opt->gid))
		mode >>= 3;
	if (!((unsigned int)mask & ~mode & (MAY_READ | MAY_WRITE)))
		return 0;
	if (mask == MAY_READ && capable_wrt_inode_uidgid(kvfs_file_idmap(file), dir, CAP_DAC_READ_SEARCH))
		return 0;
	return capable_wrt_inode_uidgid(kvfs_file_idmap(file), dir, CAP_DAC_OVERRIDE) ? 0 : -EACCES;
}
