// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_file.c - a device that is an image file or a block device: open, lock, close.
 *
 * One opener may write, or several may read. Three guards, from near to far: a table of what this
 * process has open; an OFD lock on the file, which ends with the process and leaves no stale lock
 * behind; and O_EXCL on a block device, which mounts and other tools respect too.
 *
 * O_DIRECT is turned on after opening, so that a file system without it needs no second open. One
 * may accept it and refuse the first transfer all the same: a trial read at open finds that, and
 * where the file is still empty, the first transfer does (file_fall_back).
 */
#include "dev_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what this process has open ------------------------------------------------------------ */

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct file_dev *table; /* under table_lock */

static int table_add(struct file_dev *f)
{
	struct file_dev *o;
	int err = 0;

	pthread_mutex_lock(&table_lock);
	for (o = table; o && !err; o = o->next)
		if (o->id_dev == f->id_dev && o->id_ino == f->id_ino && (o->writer || f->writer))
			err = -KVE_busy;
	if (!err) {
		f->next = table;
		table = f;
		f->listed = true;
	}
	pthread_mutex_unlock(&table_lock);
	if (err)
		kvp_fail(err, "%s: this process has it open already; close that first",
			 f->dev.name);
	return err;
}

static void table_remove(struct file_dev *f)
{
	struct file_dev **p;

	if (!f->listed)
		return;
	pthread_mutex_lock(&table_lock);
	for (p = &table; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	pthread_mutex_unlock(&table_lock);
	f->listed = false;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int open_error(struct file_dev *f, int errno_)
{
	switch (errno_) {
	case EBUSY:
		return kvp_fail(-KVE_busy, "%s: the device is mounted or in use by another program",
				f->dev.name);
	case ENOSPC:
	case EDQUOT:
		return kvp_fail_errno(-KVE_no_space, f->dev.name, "open", 0, 0, errno_);
	case ENOMEM:
		return kvp_fail_errno(-KVE_no_memory, f->dev.name, "open", 0, 0, errno_);
	default:
		return kvp_fail_errno(-KVE_io_system, f->dev.name, "open", 0, 0, errno_);
	}
}

static const char *kind_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	default:
		return "of unknown kind";
	}
}

static int check_kind(struct file_dev *f, mode_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return kvp_fail(-KVE_invalid, "%s: is %s; a volume is a file or a block device",
			f->dev.name, kind_name(mode));
}

/* The name of a new file is durable only when its directory is. */
static int sync_directory(struct file_dev *f, const char *path)
{
	char dir[PATH_MAX];
	int fd, rc;

	if (strlen(path) >= sizeof(dir))
		return open_error(f, ENAMETOOLONG);
	strcpy(dir, path);
	fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : open_error(f, errno); /* one may write, but not list */
	rc = fsync(fd);
	if (rc && errno != EINVAL) /* EINVAL: the file system knows no such thing */
		rc = kvp_fail_errno(-KVE_io_flush, f->dev.name, "flush of its directory", 0, 0,
				    errno);
	else
		rc = 0;
	close(fd);
	return rc;
}

/*
 * Look before opening: opening a pipe or a device may have effects, and O_EXCL has its meaning on
 * existing block devices only. *created tells whether there was no file before.
 */
static int open_path(struct file_dev *f, const char *path, unsigned int flags, bool *created)
{
	int oflags = (flags & KVP_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY |
		     O_NONBLOCK;
	struct stat st;
	int err;

	if (stat(path, &st) == 0) {
		err = check_kind(f, st.st_mode);
		if (err)
			return err;
		if (S_ISBLK(st.st_mode) && flags & KVP_OPEN_WRITE)
			oflags |= O_EXCL;
	} else if (errno == ENOENT && flags & KVP_OPEN_CREATE) {
		f->fd = open(path, oflags | O_CREAT | O_EXCL, 0666);
		if (f->fd >= 0) {
			*created = true;
			return 0;
		}
		if (errno != EEXIST) /* else somebody was faster: open what he made */
			return open_error(f, errno);
	} else if (errno == ENOENT) {
		return kvp_fail(-KVE_no_file, "%s: no such file", f->dev.name);
	} else {
		return open_error(f, errno);
	}
	f->fd = open(path, oflags);
	return f->fd < 0 ? open_error(f, errno) : 0;
}

static int lock_file(struct file_dev *f)
{
	struct flock l = { .l_type = f->writer ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
	int rc;

	do {
		rc = fcntl(f->fd, F_OFD_SETLK, &l);
	} while (rc && errno == EINTR);
	if (rc == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return kvp_fail(-KVE_busy, "%s: another process has it open; wait until it is done",
				f->dev.name);
	return kvp_fail_errno(-KVE_io_system, f->dev.name, "lock", 0, 0, errno);
}

/* Identity, size, kind. */
static int examine(struct file_dev *f)
{
	struct stat st;
	u64 size;

	if (fstat(f->fd, &st))
		return open_error(f, errno);
	if (check_kind(f, st.st_mode))
		return -KVE_invalid; /* it was changed between stat and open */
	f->is_block = S_ISBLK(st.st_mode);
	if (f->is_block) {
		f->id_dev = st.st_rdev;
		f->id_ino = 0; /* no file has this number */
		if (ioctl(f->fd, BLKGETSIZE64, &size))
			return open_error(f, errno);
		f->dev.size = size;
	} else {
		f->id_dev = st.st_dev;
		f->id_ino = st.st_ino;
		f->dev.size = (u64)st.st_size;
	}
	f->dev.growable = !f->is_block;
	return 0;
}

static u32 clamp_sector(unsigned int bytes)
{
	if (bytes & (bytes - 1) || bytes < KVP_SECTOR)
		return KVP_SECTOR;
	return bytes > KVP_IO_ALIGN ? KVP_IO_ALIGN : bytes;
}

/* What O_DIRECT wants offsets to be multiples of; 0: it is not for this file. */
static u32 direct_align(struct file_dev *f)
{
	int logical;
#ifdef STATX_DIOALIGN
	struct statx sx;
#endif

	if (f->is_block)
		return ioctl(f->fd, BLKSSZGET, &logical) ? KVP_IO_ALIGN :
							   clamp_sector((u32)logical);
#ifdef STATX_DIOALIGN
	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    sx.stx_mask & STATX_DIOALIGN) {
		if (sx.stx_dio_offset_align > KVP_IO_ALIGN || sx.stx_dio_mem_align > KVP_IO_ALIGN)
			return 0;
		return sx.stx_dio_offset_align ? clamp_sector(sx.stx_dio_offset_align) : 0;
	}
#endif
	return KVP_IO_ALIGN; /* good everywhere */
}

/* Does a read go through? An empty file cannot tell. */
static bool direct_works(struct file_dev *f, u32 align)
{
	void *buf;
	ssize_t n;

	if (f->dev.size < align)
		return true;
	buf = aligned_alloc(KVP_IO_ALIGN, KVP_IO_ALIGN);
	if (!buf)
		return true; /* the first transfer will tell */
	do {
		n = pread(f->fd, buf, align, 0);
	} while (n < 0 && errno == EINTR);
	n = n < 0 ? -errno : n;
	free(buf);
	return n != -EINVAL;
}

static void set_up_io(struct file_dev *f, unsigned int flags)
{
	int fl = fcntl(f->fd, F_GETFL) & ~O_NONBLOCK;
	u32 align = flags & KVP_OPEN_BUFFERED ? 0 : direct_align(f);
	unsigned int physical;

	if (align && fcntl(f->fd, F_SETFL, fl | O_DIRECT) == 0)
		f->direct = direct_works(f, align);
	if (!f->direct)
		(void)fcntl(f->fd, F_SETFL, fl); /* takes flags away: cannot fail */
	else if (!f->is_block)
		f->cached_fd = kvp_file_reopen(f, O_RDONLY);
	f->dev.align = f->direct ? align : KVP_SECTOR;
	f->dev.physical = KVP_IO_ALIGN;
	if (f->is_block && ioctl(f->fd, BLKPBSZGET, &physical) == 0)
		f->dev.physical = clamp_sector(physical);
	if (f->dev.physical < f->dev.align)
		f->dev.physical = f->dev.align;
}

static void file_close(struct kvp_dev *dev)
{
	struct file_dev *f = file_of(dev);

	kvp_file_window_unmap(f);
	kvp_file_batch_exit(f);
	if (f->cached_fd >= 0)
		close(f->cached_fd);
	if (f->fd >= 0)
		close(f->fd); /* and with it the lock */
	table_remove(f);
	pthread_mutex_destroy(&f->idle);
	pthread_mutex_destroy(&f->grow);
	kvp_free(f);
}

static const struct kvp_dev_ops file_ops = {
	.read = kvp_file_read,
	.write = kvp_file_write,
	.batch = kvp_file_batch,
	.start = kvp_file_start,
	.finish = kvp_file_finish,
	.flush = kvp_file_flush,
	.allocate = kvp_file_allocate,
	.discard = kvp_file_discard,
	.resize = kvp_file_resize,
	.window_map = kvp_file_window_map,
	.window_back = kvp_file_window_back,
	.window_store = kvp_file_window_store,
	.allocated = kvp_file_allocated,
	.close = file_close,
};

int kvp_file_open(struct kvp_dev **out, const char *path, unsigned int flags)
{
	bool created = false;
	struct file_dev *f;
	int err;

	if (flags & KVP_OPEN_CREATE && !(flags & KVP_OPEN_WRITE))
		return kvp_fail(-KVE_invalid, "%s: cannot be created read-only", path);
	f = kvp_alloc(sizeof(*f), KVP_ZERO);
	if (!f)
		return kvp_fail(-KVE_no_memory, "%s: open: out of memory", path);
	f->fd = f->cached_fd = -1;
	f->writer = flags & KVP_OPEN_WRITE;
	f->dev.ops = &file_ops;
	f->dev.read_only = !f->writer;
	kvp_snprintf(f->dev.name, sizeof(f->dev.name), "%s", path);
	pthread_mutex_init(&f->grow, NULL);
	pthread_mutex_init(&f->idle, NULL);

	err = open_path(f, path, flags, &created);
	if (!err)
		err = examine(f);
	if (!err)
		err = table_add(f);
	if (!err)
		err = lock_file(f);
	if (!err && f->writer && examine(f)) /* the size may have changed before we had the lock */
		err = -KVE_io_system;
	if (!err && created)
		err = sync_directory(f, path);
	if (err) {
		/* Who takes the lock of a new file before us keeps the file. */
		if (created && err != -KVE_busy)
			(void)unlink(path);
		file_close(&f->dev);
		return err;
	}
	set_up_io(f, flags);
	*out = &f->dev;
	return 0;
}
