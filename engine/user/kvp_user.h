/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvp_user.h - what the user-space port offers beyond kvp.h: devices and their test doubles,
 * failure injection. Not for the core.
 */
#ifndef KVP_USER_H
#define KVP_USER_H

#include "../kvp.h"

/* ---- devices ------------------------------------------------------------------------------- */

#define KVP_OPEN_WRITE 0x1u
#define KVP_OPEN_CREATE 0x2u   /* make an image file when there is none */
#define KVP_OPEN_BUFFERED 0x4u /* no O_DIRECT */

/*
 * An image file or block device, by O_DIRECT and libaio, by pread and pwrite where the file system
 * has no O_DIRECT (then without window). Takes an OFD lock (write: exclusive, read: shared), and
 * O_EXCL on a device for writing: -KVE_busy when another opener has it, in this process too.
 *
 * align is what O_DIRECT wants there, 512 when buffered: who needs smaller blocks than align opens
 * with KVP_OPEN_BUFFERED. physical is 4096 for files, since the page cache writes back whole pages.
 * A process that may meet a file size limit ignores SIGXFSZ to get -KVE_no_space.
 */
int kvp_file_open(struct kvp_dev **out, const char *path, unsigned int flags);

/* In memory, size bytes of zeros, grows up to max (0: fixed size). Sparse where not written. */
int kvp_mem_open(struct kvp_dev **out, u64 size, u64 max);
/* In memory, a copy of len bytes. */
int kvp_mem_open_copy(struct kvp_dev **out, const void *image, u64 len, u64 max);
u8 *kvp_mem_bytes(struct kvp_dev *dev);
void kvp_mem_window(struct kvp_dev *dev, bool on); /* offer a window; off at first */

/*
 * Recorder: passes everything on to inner (closed with it) and keeps a trace. The window is offered
 * if window is true; stores are recorded as un-synced writes and applied to inner by write.
 *
 * Calls are recorded one at a time, so the order of the trace is the order in which they took
 * place. A failed write is in it (some of it may be on the medium), a failed FUA write as plain
 * WRITE, a failed flush, allocate, discard or resize not. The trace is on the plain heap:
 * kvp_alloc_fail() does not see it.
 */
enum kvp_trace_op { KVP_TRACE_WRITE, KVP_TRACE_FUA, KVP_TRACE_FLUSH, KVP_TRACE_WINDOW,
		    KVP_TRACE_ALLOCATE, KVP_TRACE_DISCARD, KVP_TRACE_RESIZE, KVP_TRACE_MARK };
struct kvp_trace {
	enum kvp_trace_op op;
	u64 off, len; /* in the device, WINDOW too; MARK: off is the number of kvp_record_mark;
		       * RESIZE: len is the new size */
	u8 *bytes;    /* WRITE, FUA, WINDOW: a copy; else NULL */
};
int kvp_record_open(struct kvp_dev **out, struct kvp_dev *inner, bool window);
void kvp_record_mark(struct kvp_dev *dev, u64 number);
const struct kvp_trace *kvp_record_trace(struct kvp_dev *dev, size_t *nr);
void kvp_record_reset(struct kvp_dev *dev); /* forget the trace so far */

/* Fault injection around inner: the n-th call (from 1) of a kind fails, once or from then on. */
enum kvp_fault_kind {
	KVP_FAULT_READ = 1,
	KVP_FAULT_WRITE = 2,
	KVP_FAULT_FLUSH = 4,
	KVP_FAULT_ALLOCATE = 8, /* and resize */
	KVP_FAULT_WINDOW = 16,	/* map and store */
};
struct kvp_fault {
	unsigned int kinds; /* which calls count */
	u64 nth;	    /* 0: none fails */
	bool persistent;
	bool short_write;   /* the failing write leaves its first half on the medium */
	int error;	    /* -KVE_io_read, -KVE_no_space ... */
	u64 calls, failed;  /* counted */
};
/* fault stays the caller's and may be changed between calls. inner is closed with it. */
int kvp_fault_open(struct kvp_dev **out, struct kvp_dev *inner, struct kvp_fault *fault);

/*
 * Order checker, the part that knows no format: passes everything on to inner (closed with it) and
 * keeps for each sector of 512 bytes whether its newest content is durable. A flush covers the
 * writes that had returned when it began; FUA covers its own bytes only; a window store is never
 * durable (its place becomes so by a write and a flush); a discarded place is not durable until it
 * is written. What is there at the start is durable.
 *
 * check, when not NULL, is called before each write is passed on, with the bytes (for a window
 * store too: op WINDOW); it may call kvp_order_durable() and read the device, and what it finds is
 * its own affair: it has nothing to return.
 */
typedef void (*kvp_order_check)(void *arg, struct kvp_dev *dev, enum kvp_trace_op op, u64 off,
				const void *buf, u32 len);
int kvp_order_open(struct kvp_dev **out, struct kvp_dev *inner, kvp_order_check check, void *arg);
bool kvp_order_durable(struct kvp_dev *dev, u64 off, u64 len);

/* ---- memory -------------------------------------------------------------------------------- */

/* Fail the nth allocation from now (0: none), once or from then on; of all threads. */
void kvp_alloc_fail(u64 nth, bool persistent);
u64 kvp_alloc_calls(void);  /* since the last kvp_alloc_fail */
u64 kvp_alloc_in_use(void); /* allocations (all kinds) not freed: leak check */
/* What the kernel does when memory is short: up to nr frames; returns how many were promised. */
u64 kvp_reclaim_run(u64 nr);

/* Fixed clock and seeded chance, for images that repeat; 0 ends it. */
void kvp_fix_time(u64 ns);
void kvp_fix_random(u64 seed);

#endif
