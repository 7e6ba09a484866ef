/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dev_file.h - private to the file device: dev_file.c (open, lock, close), dev_file_io.c (read,
 * write, flush, space), dev_aio.c (batches) and dev_window.c (the mapped window).
 */
#ifndef KVP_DEV_FILE_H
#define KVP_DEV_FILE_H

#include "port.h"

#include <sys/types.h>

struct aio_pool;
struct window;

#define FIRST_READS 64u /* more than it takes to open a volume that was closed, and to get one value */

struct file_dev {
	struct kvp_dev dev;
	int fd;
	int cached_fd; /* through the page cache, for the first reads; -1: there is none */
	u32 first_reads;
	bool is_block;
	bool direct;	   /* O_DIRECT is on; may go off, not on again */
	bool no_dsync;	   /* RWF_DSYNC is not known here: write, then fdatasync */
	bool no_fallocate; /* not known here: zeros are written instead */
	bool no_punch;
	bool flush_failed; /* final: see dev_file_io.c */
	bool listed;	   /* in the table of open files */
	bool writer;
	dev_t id_dev;	   /* of the file, or of the device that a special file stands for */
	ino_t id_ino;
	struct file_dev *next; /* table of open files, under its lock */
	pthread_mutex_t grow;  /* for changes of the size */
	pthread_mutex_t idle;  /* for pool: who has transferred something does not wait for space */
	struct aio_pool *pool; /* idle contexts */
	struct window *window;
};

static inline struct file_dev *file_of(struct kvp_dev *dev)
{
	return (struct file_dev *)dev;
}

/* dev_file_io.c */
int kvp_file_read(struct kvp_dev *dev, u64 off, void *buf, u32 len);
int kvp_file_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags);
int kvp_file_flush(struct kvp_dev *dev);
int kvp_file_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags);
int kvp_file_discard(struct kvp_dev *dev, u64 off, u64 len);
int kvp_file_resize(struct kvp_dev *dev, u64 size);
u64 kvp_file_allocated(struct kvp_dev *dev);
/* The requests after their check; not counted. done: bytes that were transferred already. */
int kvp_file_read_raw(struct file_dev *f, u64 off, void *buf, u32 len, u32 done);
int kvp_file_write_raw(struct file_dev *f, u64 off, const void *buf, u32 len, u32 done);
int kvp_file_read_error(struct file_dev *f, u64 off, u32 len, int errno_);
int kvp_file_write_error(struct file_dev *f, const char *what, u64 off, u64 len, int errno_);
/* -KVE_io_flush when an earlier flush failed. */
int kvp_file_check_alive(struct file_dev *f);

/* dev_aio.c */
int kvp_file_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n);
void kvp_file_start(struct kvp_dev *dev, struct kvp_batch *b);
int kvp_file_finish(struct kvp_dev *dev, struct kvp_batch *b);
void kvp_file_batch_exit(struct file_dev *f);

/* dev_window.c */
/* A buffered descriptor of the same file, whatever its name is by now: O_RDWR or O_RDONLY; -1: none. */
int kvp_file_reopen(struct file_dev *f, int mode);
int kvp_file_window_back(struct kvp_dev *dev, u32 upto);
int kvp_file_window_map(struct kvp_dev *dev, u64 off, u32 len);
int kvp_file_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len);
void kvp_file_window_unmap(struct file_dev *f);

#endif
