/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * port.h - private to engine/user/, included first by each of its files: it asks the C library for
 * the Linux calls that the port needs. Also what the files of the port share among themselves.
 */
#ifndef KVP_PORT_H
#define KVP_PORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "kvp_user.h"

#define KVP_IO_ALIGN 4096u
#define KVP_SECTOR 512u

/* Put the message into kvp_error_text() and return err. */
int kvp_fail(int err, const char *fmt, ...) KVP_PRINTF(2, 3);
/* The same, for a failed system call: name of the device, what was tried, text of errno_. */
int kvp_fail_errno(int err, const char *name, const char *what, u64 off, u64 len, int errno_);

/*
 * Common to all devices: may this thread ask for it? Alignment and limits of the request; a read
 * past the end is -KVE_truncated. Sizes come from the medium too, so this is an error and no
 * assertion.
 */
int kvp_dev_check(struct kvp_dev *dev, enum kvp_io_op op, u64 off, const void *buf, u32 len);
/* For allocate, discard: aligned and without overflow. */
int kvp_dev_check_range(struct kvp_dev *dev, const char *what, u64 off, u64 len);
/* Batch for a device without a better one: one after the other. */
int kvp_dev_batch_serial(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n);
/* Carry what callers read from inner to outer: size and properties. */
void kvp_dev_copy_shape(struct kvp_dev *outer, const struct kvp_dev *inner);

static inline void kvp_dev_count(struct kvp_dev *dev, enum kvp_io_op op, u32 len)
{
	if (op == KVP_IO_READ) {
		kvp_add(&dev->reads, 1);
		kvp_add(&dev->read_bytes, len);
	} else {
		kvp_add(&dev->writes, 1);
		kvp_add(&dev->write_bytes, len);
	}
}

/* dev_aio.c: in a child that has been forked. */
void kvp_file_forked(void);

/* Debug builds: this thread holds no lock. */
void kvp_lock_assert_none(void);

#endif
