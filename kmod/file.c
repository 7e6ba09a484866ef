// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * file.c - open key files. What a read or write means is in kvfs/; here are users' buffers, positions
 * and what the kernel asks of a file.
 *
 * There is no page cache and no mapping: each read(2) and write(2) is one or more calls of the engine.
 * A write of any size comes straight from the user's memory, in the pieces that kvfs/ asks for. A page
 * fault there needs no lock of ours.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "kvfs_kernel.h"

#define READ_SMALL 256u /* read through the stack */
#define READ_LEAST 4096u

/* file->private_data */
struct open_key {
	struct kvfs_file *file;
	bool append; /* as opened: that is what the file does, whatever fcntl(2) says later */
	bool pending; /* something may be deferred or staged; i_rwsem to change */
};

static struct open_key *open_of(struct file *file)
{
	return file->private_data;
}

static int kvfs_op_open(struct inode *inode, struct file *file)
{
	unsigned int flags = 0;
	struct open_key *o;
	int err = kvfs_alive(inode->i_sb);

	if (err)
		return err;
	if (file->f_flags & O_DIRECT)
		return -EINVAL;
	o = kmalloc(sizeof(*o), GFP_KERNEL_ACCOUNT);
	if (!o)
		return -ENOMEM;
	o->append = file->f_flags & O_APPEND;
	o->pending = false;
	if (o->append)
		flags |= KVFS_O_APPEND;
	if (file->f_flags & O_DSYNC) /* O_SYNC has it, too */
		flags |= KVFS_O_SYNC;
	err = kvfs_file_open(kvfs_of(inode), kvfs_node_of(inode), flags, &o->file);
	if (err) {
		kfree(o);
		return err;
	}
	file->private_data = o;
	return 0;
}

void kvfs_truncate_at_open(struct file *file)
{
	struct open_key *o = open_of(file);

	WRITE_ONCE(o->pending, true);
	kvfs_file_truncate_later(o->file);
}

/* What was deferred or staged takes effect: a change, so it waits for a frozen file system. */
static int apply(struct file *file)
{
	struct inode *inode = file_inode(file);
	struct open_key *o = open_of(file);
	int err = kvfs_alive(inode->i_sb);

	if (err || !READ_ONCE(o->pending))
		return err;
	sb_start_write(inode->i_sb);
	inode_lock(inode);
	err = kvfs_file_flush(o->file);
	WRITE_ONCE(o->pending, err && err != -ESTALE);
	kvfs_size_refresh(inode);
	inode_unlock(inode);
	sb_end_write(inode->i_sb);
	return err;
}

/*
 * close(2) of the last descriptor. A shell opens, duplicates and closes before it runs the command: an
 * emptying that was put off must not happen then.
 */
static int kvfs_op_flush(struct file *file, fl_owner_t id)
{
	return file_count(file) > 1 ? 0 : apply(file);
}

static int kvfs_op_release(struct inode *inode, struct file *file)
{
	struct open_key *o = open_of(file);

	/* When somebody else still used the file as its last descriptor was closed. */
	(void)apply(file);
	kvfs_file_close(o->file);
	kfree(o);
	return 0;
}

int kvfs_op_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);
	int err = kvfs_alive(inode->i_sb);

	if (err)
		return err;
	if (!kvfs_is_key(inode))
		return sb_rdonly(inode->i_sb) ? 0 : kvfs_errno(kv_sync(kvfs_of(inode)->db));
	err = apply(file);
	/* Others may write the key while the device is busy. */
	return err ? err : kvfs_file_sync(open_of(file)->file);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

/* Small values take a small buffer, and one more byte than they have, so that the first call sees the end. */
static size_t read_room(struct inode *inode, struct iov_iter *to)
{
	u64 most = (u64)i_size_read(inode) + 1;

	if (most <= READ_SMALL)
		most = READ_SMALL;
	else if (most < READ_LEAST)
		most = READ_LEAST;
	return min_t(u64, min_t(u64, most, KVFS_IO_BYTES), iov_iter_count(to));
}

/*
 * One piece: bytes that the user got, or an error. *end: no more of this value. A value that was changed
 * meanwhile starts again, but a read(2) that has given bytes of one version gives none of another: it
 * ends, and the next one begins with the new version.
 */
static ssize_t read_piece(struct kiocb *iocb, struct iov_iter *to, void *buf, size_t room, bool first,
			  bool *end)
{
	struct open_key *o = open_of(iocb->ki_filp);
	size_t want = min(room, iov_iter_count(to)), copied;
	u64 pos = (u64)iocb->ki_pos;
	long n = kvfs_file_read(o->file, &pos, buf, want);

	*end = n < 0 || (size_t)n < want;
	if (n <= 0)
		return n;
	if (!first && pos != (u64)iocb->ki_pos + (u64)n) {
		iocb->ki_pos = 0;
		*end = true;
		return 0;
	}
	copied = copy_to_iter(buf, (size_t)n, to);
	if (!copied)
		return -EFAULT;
	if (copied < (size_t)n)
		*end = true;
	iocb->ki_pos = (loff_t)(pos - (u64)n + copied);
	return (ssize_t)copied;
}

static ssize_t kvfs_op_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	size_t room = read_room(inode, to);
	ssize_t done = 0, n;
	u8 small[READ_SMALL];
	bool end = false;
	void *buf = small;
	int err = kvfs_alive(inode->i_sb);

	if (err)
		return err;
	if (iocb->ki_flags & IOCB_DIRECT)
		return -EINVAL;
	if (iocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;
	if (!room)
		return 0;
	if (room > sizeof(small))
		buf = kvmalloc(room, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	do {
		n = read_piece(iocb, to, buf, room, !done, &end);
		if (n > 0)
			done += n;
		else if (n < 0 && !done)
			done = n;
		if (n < 0)
			break;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	} while (!end && iov_iter_count(to));
	if (buf != small)
		kvfree(buf);
	return done;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

struct user_source {
	struct kvfs_source source;
	struct iov_iter *from;
};

static int copy_from_user_source(struct kvfs_source *source, void *to, size_t len)
{
	struct user_source *s = container_of(source, struct user_source, source);

	if (fatal_signal_pending(current))
		return -EINTR;
	return copy_from_iter_full(to, len, s->from) ? 0 : -EFAULT;
}

static int write_checks(struct kiocb *iocb, const struct open_key *o)
{
	if (iocb->ki_flags & IOCB_DIRECT)
		return -EINVAL;
	if (iocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;
	/* Appending is settled at open(2). */
	return !(iocb->ki_flags & IOCB_APPEND) == !o->append ? 0 : -EOPNOTSUPP;
}

/* A SET neither uses nor moves the position; a stream does both. */
static void write_moved(struct kiocb *iocb, const struct open_key *o, long n)
{
	struct inode *inode = file_inode(iocb->ki_filp);

	if (!READ_ONCE(kvfs_of(inode)->stream))
		return;
	iocb->ki_pos = o->append ? i_size_read(inode) : iocb->ki_pos + n;
}

static ssize_t kvfs_op_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct user_source s = { .source = { .copy = copy_from_user_source }, .from = from };
	struct inode *inode = file_inode(iocb->ki_filp);
	struct open_key *o = open_of(iocb->ki_filp);
	long n;
	int err = kvfs_alive(inode->i_sb);

	if (!err)
		err = write_checks(iocb, o);
	if (err)
		return err;
	inode_lock(inode);
	if (READ_ONCE(kvfs_of(inode)->stream))
		WRITE_ONCE(o->pending, true);
	n = kvfs_file_write(o->file, (u64)iocb->ki_pos, &s.source, iov_iter_count(from));
	if (n >= 0) {
		kvfs_size_refresh(inode);
		kvfs_touch(inode);
		write_moved(iocb, o, n);
	}
	inode_unlock(inode);
	/* -o sync, RWF_DSYNC; a file opened with O_SYNC has done it already. */
	if (n >= 0 && iocb_is_dsync(iocb) && !(iocb->ki_filp->f_flags & O_DSYNC)) {
		err = kvfs_file_sync(o->file);
		if (err)
			return err;
	}
	return n;
}

static loff_t kvfs_op_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	u64 size = 0;
	int err = kvfs_alive(inode->i_sb);

	if (!err && whence != SEEK_SET && whence != SEEK_CUR)
		err = kvfs_node_size(kvfs_of(inode), kvfs_node_of(inode), &size);
	if (err)
		return err;
	return generic_file_llseek_size(file, offset, whence, inode->i_sb->s_maxbytes, (loff_t)size);
}

const struct file_operations kvfs_key_operations = {
	.owner = THIS_MODULE,
	.open = kvfs_op_open,
	.flush = kvfs_op_flush,
	.release = kvfs_op_release,
	.read_iter = kvfs_op_read_iter,
	.write_iter = kvfs_op_write_iter,
	.llseek = kvfs_op_llseek,
	.fsync = kvfs_op_fsync,
	.unlocked_ioctl = kvfs_op_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
