// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_fault.c - a device that fails on demand. Calls of the chosen kinds are counted from 1; the
 * n-th fails, once or from then on. In a batch each transfer is a call.
 *
 * A flush that fails once does not spoil the device here, other than in dev_file.c: that a later
 * one succeeds, and means nothing, is just what an engine that retries would fall for.
 */
#include "port.h"

#include <stdlib.h>

struct fault_dev {
	struct kvp_dev dev;
	struct kvp_dev *inner;
	pthread_mutex_t lock; /* for *fault */
	struct kvp_fault *fault;
};

static struct fault_dev *fault_of(struct kvp_dev *dev)
{
	return (struct fault_dev *)dev;
}

static const char *fault_name(enum kvp_fault_kind kind)
{
	switch (kind) {
	case KVP_FAULT_READ:
		return "read";
	case KVP_FAULT_WRITE:
		return "write";
	case KVP_FAULT_FLUSH:
		return "flush";
	case KVP_FAULT_ALLOCATE:
		return "allocate";
	case KVP_FAULT_WINDOW:
		return "window";
	}
	return "?";
}

/* Count this call; 0, or the error that it shall have. */
static int fault_next(struct fault_dev *d, enum kvp_fault_kind kind, u64 off, bool *short_write)
{
	struct kvp_fault *f = d->fault;
	int err = 0;
	u64 call = 0;

	pthread_mutex_lock(&d->lock);
	if (f->kinds & (unsigned int)kind) {
		call = ++f->calls;
		if (f->nth && (call == f->nth || (f->persistent && call > f->nth))) {
			err = f->error;
			f->failed++;
			if (short_write)
				*short_write = f->short_write;
		}
	}
	pthread_mutex_unlock(&d->lock);
	if (!err)
		return 0;
	return kvp_fail(err, "%s: %s at offset %llu: injected fault (call %llu)", d->dev.name,
			fault_name(kind), off, call);
}

/*
 * The first half reaches the medium, in the middle of a sector if it must. What goes wrong here is
 * part of the fault.
 */
static void write_half(struct fault_dev *d, u64 off, const void *buf, u32 len)
{
	u32 align = d->dev.align, half = len / 2, whole = half & ~(align - 1);
	u8 *unit;

	if (whole)
		(void)kvp_dev_write(d->inner, off, buf, whole, 0);
	if (whole == half)
		return;
	unit = aligned_alloc(KVP_IO_ALIGN, KVP_IO_ALIGN);
	if (!unit)
		return;
	if (kvp_dev_read(d->inner, off + whole, unit, align) == 0) {
		memcpy(unit, (const u8 *)buf + whole, half - whole);
		(void)kvp_dev_write(d->inner, off + whole, unit, align, 0);
	}
	free(unit);
}

static int fault_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_READ, off, NULL);

	if (!err)
		err = kvp_dev_read(d->inner, off, buf, len);
	if (!err)
		kvp_dev_count(dev, KVP_IO_READ, len);
	return err;
}

/* The fault of a write, with what it leaves behind; 0: none. */
static int fault_of_write(struct fault_dev *d, u64 off, const void *buf, u32 len)
{
	bool short_write = false;
	int err = fault_next(d, KVP_FAULT_WRITE, off, &short_write);

	if (err && short_write && kvp_dev_check(d->inner, KVP_IO_WRITE, off, buf, len) == 0)
		write_half(d, off, buf, len);
	return err;
}

static int fault_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_of_write(d, off, buf, len);

	if (!err)
		err = kvp_dev_write(d->inner, off, buf, len, flags);
	if (!err)
		kvp_dev_count(dev, KVP_IO_WRITE, len);
	kvp_store(&dev->size, kvp_load(&d->inner->size));
	return err;
}

/* The runs between the transfers that fail go down as batches. */
static int fault_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	struct fault_dev *d = fault_of(dev);
	unsigned int i, from = 0;
	int first = 0;

	for (i = 0; i < n; i++) {
		struct kvp_io *io = &ios[i];

		io->result = io->op == KVP_IO_READ ? fault_next(d, KVP_FAULT_READ, io->off, NULL) :
						     fault_of_write(d, io->off, io->buf, io->len);
		if (!io->result)
			continue;
		if (from < i)
			(void)kvp_dev_batch(d->inner, ios + from, i - from);
		from = i + 1;
	}
	if (from < n)
		(void)kvp_dev_batch(d->inner, ios + from, n - from);
	for (i = 0; i < n; i++) {
		if (!ios[i].result)
			kvp_dev_count(dev, ios[i].op, ios[i].len);
		else if (!first)
			first = ios[i].result;
	}
	return first;
}

static int fault_flush(struct kvp_dev *dev)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_FLUSH, 0, NULL);

	if (!err)
		err = kvp_dev_flush(d->inner);
	if (!err)
		kvp_add(&dev->flushes, 1);
	return err;
}

static int fault_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_ALLOCATE, off, NULL);

	if (!err)
		err = kvp_dev_allocate(d->inner, off, len, flags);
	kvp_store(&dev->size, kvp_load(&d->inner->size));
	return err;
}

static int fault_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	return kvp_dev_discard(fault_of(dev)->inner, off, len);
}

static int fault_resize(struct kvp_dev *dev, u64 size)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_ALLOCATE, size, NULL);

	if (!err)
		err = kvp_dev_resize(d->inner, size);
	kvp_store(&dev->size, kvp_load(&d->inner->size));
	return err;
}

static int fault_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_WINDOW, off, NULL);

	return err ? err : kvp_dev_window_map(d->inner, off, len);
}

static int fault_window_back(struct kvp_dev *dev, u32 upto)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_ALLOCATE, upto, NULL);

	return err ? err : kvp_dev_window_back(d->inner, upto);
}

static int fault_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct fault_dev *d = fault_of(dev);
	int err = fault_next(d, KVP_FAULT_WINDOW, off, NULL);

	return err ? err : kvp_dev_window_store(d->inner, off, buf, len);
}

static u64 fault_allocated(struct kvp_dev *dev)
{
	struct kvp_dev *inner = fault_of(dev)->inner;

	return inner->ops->allocated(inner);
}

static void fault_close(struct kvp_dev *dev)
{
	struct fault_dev *d = fault_of(dev);

	kvp_dev_close(d->inner);
	pthread_mutex_destroy(&d->lock);
	kvp_free(d);
}

static const struct kvp_dev_ops fault_ops = {
	.read = fault_read,
	.write = fault_write,
	.batch = fault_batch,
	.flush = fault_flush,
	.allocate = fault_allocate,
	.discard = fault_discard,
	.resize = fault_resize,
	.window_map = fault_window_map,
	.window_back = fault_window_back,
	.window_store = fault_window_store,
	.allocated = fault_allocated,
	.close = fault_close,
};

int kvp_fault_open(struct kvp_dev **out, struct kvp_dev *inner, struct kvp_fault *fault)
{
	struct fault_dev *d = kvp_alloc(sizeof(*d), KVP_ZERO);

	if (!d)
		return -KVE_no_memory;
	pthread_mutex_init(&d->lock, NULL);
	d->inner = inner;
	d->fault = fault;
	d->dev.ops = &fault_ops;
	kvp_dev_copy_shape(&d->dev, inner);
	*out = &d->dev;
	return 0;
}
