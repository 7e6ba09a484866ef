// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dir.c - open directories. Which entry stands at which position is in kvfs/; the VFS lets one caller
 * at a time read through one open file.
 */
#include <linux/module.h>

#include "kvfs_kernel.h"

/* Positions are consecutive numbers; dir_emit() takes that of the entry from the context. */
static bool emit(void *arg, const char *name, u32 name_len, u64 ino, enum kvfs_kind kind)
{
	struct dir_context *ctx = arg;

	if (!dir_emit(ctx, name, (int)name_len, ino, kind == KVFS_TREE ? DT_DIR : DT_REG))
		return false;
	ctx->pos++;
	return true;
}

/* Opened when it is first read: most directories are opened for something else. */
static int cursor_of(struct file *file, struct kvfs_dir **out)
{
	struct inode *inode = file_inode(file);
	int err;

	if (!file->private_data) {
		err = kvfs_dir_open(kvfs_of(inode), kvfs_inode_of(inode)->tree, out);
		if (err)
			return err;
		file->private_data = *out;
	}
	*out = file->private_data;
	return 0;
}

static int kvfs_op_iterate(struct file *file, struct dir_context *ctx)
{
	struct kvfs_dir *d;
	u64 pos;
	int err = kvfs_alive(file_inode(file)->i_sb);

	if (err)
		return err;
	if (!dir_emit_dots(file, ctx))
		return 0;
	err = cursor_of(file, &d);
	if (err)
		return err;
	pos = (u64)ctx->pos;
	err = kvfs_dir_read(d, &pos, emit, ctx);
	ctx->pos = (loff_t)pos;
	return err;
}

static int kvfs_op_dir_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		kvfs_dir_close(file->private_data);
	return 0;
}

const struct file_operations kvfs_dir_operations = {
	.owner = THIS_MODULE,
	.release = kvfs_op_dir_release,
	.read = generic_read_dir,
	.iterate_shared = kvfs_op_iterate,
	.llseek = generic_file_llseek,
	.fsync = kvfs_op_fsync,
	.unlocked_ioctl = kvfs_op_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
