/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ioctl.h - what ioctl.c and scan.c share.
 */
#ifndef KVFS_KERNEL_IOCTL_H
#define KVFS_KERNEL_IOCTL_H

#include "kvfs_kernel.h"
#include "kvfs_ioctl.h"

/* What an ioctl was called on, and so acts on. */
struct ioctl_on {
	struct file *file;
	struct inode *dir; /* stays while the ioctl runs */
	kv_tree *tree;	   /* its tree */
};

/* Copies a key of 1 to key_max bytes; kfree() it. */
int kvfs_key_from_user(struct kvfs *fs, u64 from, u32 len, void **out);
/* dir_mask on the directory, and reading on the keys. */
int kvfs_may_read(const struct ioctl_on *on, int dir_mask);
int kvfs_ioctl_scan(const struct ioctl_on *on, void __user *arg);

#endif
