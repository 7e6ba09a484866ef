// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * control.c - the control files of a directory: one write(2) is one command, its bytes are the key.
 * They have no content, may be opened with O_TRUNC, as shells do, and reading one is an error.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "kvfs_kernel.h"

static bool about_names(enum kvfs_control which)
{
	return which == KVFS_MK || which == KVFS_DEL;
}

/* dir is locked. */
static int command_locked(struct inode *dir, enum kvfs_control which, const void *key, u32 key_len)
{
	struct inode *inode = kvfs_inode_find(dir, key, key_len);
	int err = kvfs_control(kvfs_of(dir), kvfs_inode_of(dir)->tree, which, key, key_len,
			       inode ? kvfs_node_of(inode) : NULL);

	if (!err && about_names(which))
		kvfs_touch(dir);
	if (!inode)
		return err;
	if (!err && which == KVFS_DEL) {
		kvfs_inode_unname(inode);
	} else if (!err) {
		kvfs_size_refresh(inode);
		kvfs_touch(inode);
	}
	iput(inode);
	return err;
}

static int command(struct file *file, enum kvfs_control which, const void *key, u32 key_len)
{
	struct dentry *parent = kvfs_dir_of(file);
	struct inode *dir = d_inode(parent);
	int err = 0;

	if (about_names(which))
		err = kvfs_may_change(file, dir);
	if (!err) {
		inode_lock(dir);
		err = command_locked(dir, which, key, key_len);
		inode_unlock(dir);
	}
	dput(parent);
	return err;
}

static ssize_t kvfs_op_control_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct inode *inode = file_inode(file);
	struct kvfs *fs = kvfs_of(inode);
	void *key;
	int err = kvfs_alive(inode->i_sb);

	if (err)
		return err;
	if (!len)
		return -EINVAL;
	/* One more for a newline. */
	if (len > (size_t)fs->key_max + 1)
		return -ENAMETOOLONG;
	key = memdup_user(from, len);
	if (IS_ERR(key))
		return PTR_ERR(key);
	err = kvfs_control_key(fs, key, len);
	if (err > 0)
		err = command(file, kvfs_inode_of(inode)->control, key, (u32)err);
	kfree(key);
	return err ? err : (ssize_t)len;
}

static ssize_t kvfs_op_control_read(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	return -ENXIO;
}

const struct file_operations kvfs_control_operations = {
	.owner = THIS_MODULE,
	.read = kvfs_op_control_read,
	.write = kvfs_op_control_write,
	.llseek = noop_llseek,
	.fsync = kvfs_op_fsync,
	.unlocked_ioctl = kvfs_op_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
