// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_file_io.c - the file device: single transfers, flush, and space.
 *
 * Reads are coherent with stores into the window, by this process or one that was killed: those lie
 * in the page cache, and Linux writes back the dirty pages of a range before it reads the range
 * with O_DIRECT (kiocb_write_and_wait: all file systems that use the generic or the iomap path, and
 * block devices). tests/unit/test_port.c shows it.
 *
 * A failed flush is final. The kernel reports a failed write-back once and then calls the pages
 * clean, so a second flush would succeed and mean nothing.
 */
#include "dev_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZERO_PIECE (256u << 10)
#define PUNCH_PIECE (1u << 20)
#define FIRST_BYTES (64u << 10) /* of a first read */

/* Never written. In .bss: it costs no memory until it is read, and then one page of zeros each. */
static u8 zeros[ZERO_PIECE] __attribute__((aligned(4096)));

int kvp_file_check_alive(struct file_dev *f)
{
	if (kvp_unlikely(kvp_load(&f->flush_failed)))
		return kvp_fail(-KVE_io_flush,
				"%s: an earlier flush failed; close and open it again",
				f->dev.name);
	return 0;
}

int kvp_file_read_error(struct file_dev *f, u64 off, u32 len, int errno_)
{
	return kvp_fail_errno(-KVE_io_read, f->dev.name, "read", off, len, errno_);
}

int kvp_file_write_error(struct file_dev *f, const char *what, u64 off, u64 len, int errno_)
{
	switch (errno_) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return kvp_fail_errno(-KVE_no_space, f->dev.name, what, off, len, errno_);
	default:
		return kvp_fail_errno(-KVE_io_write, f->dev.name, what, off, len, errno_);
	}
}

/*
 * EINVAL where everything is aligned: this file system took O_DIRECT at open and has none. Through
 * the page cache from here on; align stays as it is. Threads that get here together all do the
 * same.
 */
static void file_fall_back(struct file_dev *f)
{
	(void)fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_DIRECT);
	kvp_store_release(&f->direct, false);
}

int kvp_file_read_raw(struct file_dev *f, u64 off, void *buf, u32 len, u32 done)
{
	bool direct = kvp_load(&f->direct);
	ssize_t n;

	while (done < len) {
		n = pread(f->fd, (u8 *)buf + done, len - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && direct) {
			file_fall_back(f);
			direct = false;
			continue;
		}
		if (n < 0)
			return kvp_file_read_error(f, off, len, errno);
		/* The file was cut behind our back; its new end need not be aligned. */
		if (n == 0 || (n & (f->dev.align - 1) && done + (u32)n < len))
			return kvp_fail(-KVE_truncated,
					"%s: read of %u bytes at offset %llu: the file ends before",
					f->dev.name, len, off);
		done += (u32)n;
	}
	return 0;
}

/*
 * Programs that open a volume for one get read the same few pages, one after the other: so the first
 * reads of a file go through the page cache, which has them mostly. O_DIRECT writes keep it coherent.
 * A volume that stays open has a cache of its own. What fails here is tried once more without it.
 */
static bool first_read(struct file_dev *f, u64 off, void *buf, u32 len)
{
	if (f->cached_fd < 0 || len > FIRST_BYTES || kvp_load(&f->first_reads) >= FIRST_READS)
		return false;
	kvp_add(&f->first_reads, 1u);
	return pread(f->cached_fd, buf, len, (off_t)off) == (ssize_t)len;
}

int kvp_file_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	int err = kvp_dev_check(dev, KVP_IO_READ, off, buf, len);

	if (err)
		return err;
	if (!first_read(file_of(dev), off, buf, len))
		err = kvp_file_read_raw(file_of(dev), off, buf, len, 0);
	if (!err)
		kvp_dev_count(dev, KVP_IO_READ, len);
	return err;
}

/* rwf: 0 or RWF_DSYNC. Returns 0 or an errno; *done counts up. */
static int write_loop(struct file_dev *f, u64 off, const void *buf, u32 len, u32 *done, int rwf)
{
	bool direct = kvp_load(&f->direct);
	struct iovec iov;
	ssize_t n;

	while (*done < len) {
		iov.iov_base = (u8 *)(uintptr_t)buf + *done; /* iovec is for both directions */
		iov.iov_len = len - *done;
		n = pwritev2(f->fd, &iov, 1, (off_t)(off + *done), rwf);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && direct) {
			file_fall_back(f);
			direct = false;
			continue;
		}
		if (n < 0)
			return errno;
		if (n == 0)
			return EIO;
		*done += (u32)n;
		/* A medium that is full, or a size limit, cuts a write: the rest tells which. */
		if (*done < len && n & (f->dev.align - 1))
			return ENOSPC;
	}
	return 0;
}

int kvp_file_write_raw(struct file_dev *f, u64 off, const void *buf, u32 len, u32 done)
{
	int rc = write_loop(f, off, buf, len, &done, 0);

	return rc ? kvp_file_write_error(f, "write", off, len, rc) : 0;
}

static int flush_raw(struct file_dev *f)
{
	int rc;

	do {
		rc = fdatasync(f->fd);
	} while (rc && errno == EINTR);
	if (rc == 0)
		return 0;
	kvp_store(&f->flush_failed, true);
	return kvp_fail_errno(-KVE_io_flush, f->dev.name, "flush", 0, 0, errno);
}

static int write_fua(struct file_dev *f, u64 off, const void *buf, u32 len)
{
	u32 done = 0;
	int rc, err;

	if (!kvp_load(&f->no_dsync)) {
		rc = write_loop(f, off, buf, len, &done, RWF_DSYNC);
		if (rc == 0)
			return 0;
		if (rc != EOPNOTSUPP && rc != ENOSYS) {
			err = kvp_file_write_error(f, "durable write", off, len, rc);
			if (err == -KVE_no_space && kvp_load(&f->direct))
				return err;
			/* Was it the write, or its flush, and of whose bytes? Take the worse. */
			kvp_store(&f->flush_failed, true);
			return err;
		}
		kvp_store(&f->no_dsync, true);
		done = 0;
	}
	err = kvp_file_write_raw(f, off, buf, len, 0);
	return err ? err : flush_raw(f);
}

int kvp_file_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	struct file_dev *f = file_of(dev);
	int err = kvp_dev_check(dev, KVP_IO_WRITE, off, buf, len);

	if (!err)
		err = kvp_file_check_alive(f);
	if (err)
		return err;
	err = flags & KVP_FUA ? write_fua(f, off, buf, len) : kvp_file_write_raw(f, off, buf, len, 0);
	if (!err)
		kvp_dev_count(dev, KVP_IO_WRITE, len);
	return err;
}

int kvp_file_flush(struct kvp_dev *dev)
{
	struct file_dev *f = file_of(dev);
	int err;

	if (dev->read_only)
		return 0;
	err = kvp_file_check_alive(f);
	if (err)
		return err;
	kvp_add(&dev->flushes, 1);
	return flush_raw(f);
}

/* ---- space --------------------------------------------------------------------------------- */

static int write_zeros(struct file_dev *f, u64 off, u64 end)
{
	u32 piece;
	int err;

	for (; off < end; off += piece) {
		piece = end - off < ZERO_PIECE ? (u32)(end - off) : ZERO_PIECE;
		err = kvp_file_write_raw(f, off, zeros, piece, 0);
		if (err)
			return err;
		kvp_dev_count(&f->dev, KVP_IO_WRITE, piece);
	}
	return 0;
}

/*
 * Write zeros where [off, end) has no bytes of its own yet: behind old_size, and in holes and
 * extents that were allocated but never written (both are holes to SEEK_DATA, which may also take
 * zeroed data for one: no harm). Where the file system cannot tell, it says that all is data; then
 * only what lies behind old_size is known to be new.
 */
static int zero_unwritten(struct file_dev *f, u64 off, u64 end, u64 old_size)
{
	u64 within = end < old_size ? end : old_size;
	off_t data, hole;
	int err;

	while (off < within) {
		data = lseek(f->fd, (off_t)off, SEEK_DATA);
		/* There may be records. */
		if (data < 0 && errno != ENXIO) {
			off = within;
			break;
		}
		/* ENXIO: no more data up to the end */
		if (data < 0 || (u64)data >= within)
			break;
		data &= ~(off_t)(f->dev.align - 1);
		if ((u64)data > off) {
			err = write_zeros(f, off, (u64)data);
			if (err)
				return err;
		}
		hole = lseek(f->fd, data, SEEK_HOLE);
		if (hole < 0)
			return kvp_fail_errno(-KVE_io_system, f->dev.name, "search for holes", off,
					      end - off, errno);
		off = ((u64)hole + f->dev.align - 1) & ~(u64)(f->dev.align - 1);
	}
	return off < end ? write_zeros(f, off, end) : 0;
}

static int fallocate_range(struct file_dev *f, u64 off, u64 len)
{
	int rc;

	if (f->no_fallocate)
		return 0;
	do {
		rc = fallocate(f->fd, 0, (off_t)off, (off_t)len);
	} while (rc && errno == EINTR);
	if (rc == 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == ENOSYS) {
		f->no_fallocate = true;
		return 0;
	}
	return kvp_file_write_error(f, "allocate", off, len, errno);
}

static int file_allocate_locked(struct file_dev *f, u64 off, u64 len, unsigned int flags)
{
	u64 size = kvp_load(&f->dev.size), end = off + len;
	int err;

	err = fallocate_range(f, off, len);
	/* Zeros are all that backs it where the file system cannot allocate. */
	if (!err && (flags & KVP_WRITTEN || f->no_fallocate))
		err = zero_unwritten(f, off, end, size);
	if (err) {
		/* Give back what did come: the volume goes on with the size that it had. */
		if (end > size && ftruncate(f->fd, (off_t)size))
			kvp_log(NULL, KVP_LOG_WARN, "%s: cannot be cut back to %llu bytes",
				f->dev.name, size);
		return err;
	}
	if (end > size)
		kvp_store(&f->dev.size, end);
	return 0;
}

int kvp_file_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	struct file_dev *f = file_of(dev);
	int err = kvp_dev_check_range(dev, "allocate", off, len);

	if (!err)
		err = kvp_file_check_alive(f);
	if (err)
		return err;
	if (f->is_block) {
		if (off + len <= dev->size)
			return 0;
		return kvp_fail(-KVE_no_space, "%s: the device ends at %llu bytes, %llu are needed",
				dev->name, dev->size, off + len);
	}
	pthread_mutex_lock(&f->grow);
	err = file_allocate_locked(f, off, len, flags);
	pthread_mutex_unlock(&f->grow);
	return err;
}

static int punch(struct file_dev *f, u64 off, u64 len)
{
	u64 range[2] = { off, len };
	int rc;

	do {
		if (f->is_block)
			rc = ioctl(f->fd, BLKDISCARD, range);
		else
			rc = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       (off_t)off, (off_t)len);
	} while (rc && errno == EINTR);
	if (rc == 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOTTY || errno == EINVAL) {
		kvp_store(&f->no_punch, true); /* it was a wish only */
		return 0;
	}
	return kvp_file_write_error(f, "discard", off, len, errno);
}

int kvp_file_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	struct file_dev *f = file_of(dev);
	u64 size = kvp_load(&dev->size), piece, end = off + len;
	int err = kvp_dev_check_range(dev, "discard", off, len);

	if (!err)
		err = kvp_file_check_alive(f);
	if (err)
		return err;
	if (end > size)
		end = size & ~(u64)(dev->align - 1);
	for (; off < end && !kvp_load(&f->no_punch); off += piece) {
		piece = end - off < PUNCH_PIECE ? end - off : PUNCH_PIECE;
		err = punch(f, off, piece);
		if (err)
			return err;
	}
	return 0;
}

int kvp_file_resize(struct kvp_dev *dev, u64 size)
{
	struct file_dev *f = file_of(dev);
	int rc, err;

	if (dev->read_only)
		return kvp_fail(-KVE_read_only, "%s: resize: opened read-only", dev->name);
	if (f->is_block || size & (dev->align - 1) || size > INT64_MAX)
		return kvp_fail(-KVE_invalid, "%s: cannot be resized to %llu bytes", dev->name,
				size);
	err = kvp_file_check_alive(f);
	if (err)
		return err;
	pthread_mutex_lock(&f->grow);
	do {
		rc = ftruncate(f->fd, (off_t)size);
	} while (rc && errno == EINTR);
	if (rc)
		err = kvp_file_write_error(f, "resize", 0, size, errno);
	else
		kvp_store(&dev->size, size);
	pthread_mutex_unlock(&f->grow);
	return err;
}

u64 kvp_file_allocated(struct kvp_dev *dev)
{
	struct file_dev *f = file_of(dev);
	struct stat st;

	if (f->is_block || fstat(f->fd, &st))
		return 0;
	return (u64)st.st_blocks * 512;
}
