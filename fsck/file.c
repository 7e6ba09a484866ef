/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file.c - the medium for the judge: opened for reading only, so that nothing here can write to it. A lock
 * keeps out a writer that would change it underneath; a process that has it open is answered with "busy".
 */
#define _GNU_SOURCE /* open file description locks */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "explain.h"

int kvsck_file_read(void *arg, u64 off, void *buf, u32 len)
{
	const struct kvsck_file *f = arg;
	u8 *p = buf;
	ssize_t n;

	while (len) {
		n = pread(f->fd, p, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -KVE_io_read;
		p += n;
		off += (u64)n;
		len -= (u32)n;
	}
	return 0;
}

static int size_of(struct kvsck_file *f, const struct stat *st, const char **what)
{
	uint64_t bytes;

	if (S_ISREG(st->st_mode)) {
		f->size = (u64)st->st_size;
		return 0;
	}
	*what = "the size of the device is not known";
	if (ioctl(f->fd, BLKGETSIZE64, &bytes))
		return -KVE_io_system;
	f->size = bytes;
	return 0;
}

/* Opened already; what is it? */
static int examine(struct kvsck_file *f, const char **what)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	struct stat st;

	*what = "its size is not known";
	if (fstat(f->fd, &st))
		return -KVE_io_system;
	*what = "neither a file nor a block device";
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -KVE_not_volume;
	*what = "cannot be locked";
	if (!fcntl(f->fd, F_OFD_SETLK, &lock))
		return size_of(f, &st, what);
	if (errno != EAGAIN && errno != EACCES)
		return -KVE_io_system;
	*what = "in use by another process; close it there first";
	return -KVE_busy;
}

int kvsck_file_open(struct kvsck_file *f, const char *path, const char **what)
{
	int err, saved;

	*what = "cannot be opened";
	/* without waiting for the other end, should it be a pipe */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return -KVE_io_system;
	err = examine(f, what);
	if (err) {
		saved = errno;
		kvsck_file_close(f);
		errno = saved;
	}
	return err;
}

void kvsck_file_close(struct kvsck_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
