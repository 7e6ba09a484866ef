// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_record.c - a device that keeps a trace of all that was asked of the one below, for crash
 * replay.
 *
 * A mutex is held over each call below, so calls take place one at a time and the trace is the
 * order in which they did: what stands before a flush in the trace had returned when the flush
 * began. The trace lives on the plain heap, so that tests that count or fail allocations see only
 * the engine's.
 */
#include "port.h"

#include <stdlib.h>

struct record_dev {
	struct kvp_dev dev;
	struct kvp_dev *inner;
	pthread_mutex_t lock; /* for all below, and over calls of inner */
	struct kvp_trace *trace;
	size_t nr, max;
	bool window;
	u64 window_off;
	u32 window_len;
	u8 *sector; /* one aligned unit, for window stores */
};

static struct record_dev *record_of(struct kvp_dev *dev)
{
	return (struct record_dev *)dev;
}

/* Lock held. A test without memory is at its end. */
static void record(struct record_dev *r, enum kvp_trace_op op, u64 off, u64 len, const void *bytes)
{
	struct kvp_trace *t;

	if (r->nr == r->max) {
		r->max = r->max ? r->max * 2 : 256;
		r->trace = realloc(r->trace, r->max * sizeof(*r->trace));
		KVP_ASSERT(r->trace);
	}
	t = &r->trace[r->nr++];
	t->op = op;
	t->off = off;
	t->len = len;
	t->bytes = NULL;
	if (bytes) {
		t->bytes = malloc(len ? len : 1);
		KVP_ASSERT(t->bytes);
		memcpy(t->bytes, bytes, len);
	}
}

static int record_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	int err = kvp_dev_read(record_of(dev)->inner, off, buf, len);

	if (!err)
		kvp_dev_count(dev, KVP_IO_READ, len);
	return err;
}

static int record_write_locked(struct record_dev *r, u64 off, const void *buf, u32 len,
			       unsigned int flags)
{
	int err = kvp_dev_check(&r->dev, KVP_IO_WRITE, off, buf, len);

	if (err) /* nothing was tried: no trace */
		return err;
	err = kvp_dev_write(r->inner, off, buf, len, flags);
	record(r, flags & KVP_FUA && !err ? KVP_TRACE_FUA : KVP_TRACE_WRITE, off, len, buf);
	if (!err)
		kvp_dev_count(&r->dev, KVP_IO_WRITE, len);
	kvp_store(&r->dev.size, kvp_load(&r->inner->size));
	return err;
}

static int record_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	struct record_dev *r = record_of(dev);
	int err;

	pthread_mutex_lock(&r->lock);
	err = record_write_locked(r, off, buf, len, flags);
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	struct record_dev *r = record_of(dev);
	unsigned int i;
	int err;

	pthread_mutex_lock(&r->lock);
	err = kvp_dev_batch(r->inner, ios, n);
	for (i = 0; i < n; i++) {
		if (ios[i].op == KVP_IO_WRITE &&
		    (!ios[i].result ||
		     kvp_dev_check(dev, KVP_IO_WRITE, ios[i].off, ios[i].buf, ios[i].len) == 0))
			record(r, KVP_TRACE_WRITE, ios[i].off, ios[i].len, ios[i].buf);
		if (!ios[i].result)
			kvp_dev_count(dev, ios[i].op, ios[i].len);
	}
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_flush(struct kvp_dev *dev)
{
	struct record_dev *r = record_of(dev);
	int err;

	pthread_mutex_lock(&r->lock);
	err = kvp_dev_flush(r->inner);
	if (!err) {
		record(r, KVP_TRACE_FLUSH, 0, 0, NULL);
		kvp_add(&dev->flushes, 1);
	}
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	struct record_dev *r = record_of(dev);
	int err;

	pthread_mutex_lock(&r->lock);
	err = kvp_dev_allocate(r->inner, off, len, flags);
	if (!err)
		record(r, KVP_TRACE_ALLOCATE, off, len, NULL);
	kvp_store(&dev->size, kvp_load(&r->inner->size));
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	struct record_dev *r = record_of(dev);
	int err;

	pthread_mutex_lock(&r->lock);
	err = kvp_dev_discard(r->inner, off, len);
	if (!err)
		record(r, KVP_TRACE_DISCARD, off, len, NULL);
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_resize(struct kvp_dev *dev, u64 size)
{
	struct record_dev *r = record_of(dev);
	int err;

	pthread_mutex_lock(&r->lock);
	err = kvp_dev_resize(r->inner, size);
	if (!err)
		record(r, KVP_TRACE_RESIZE, 0, size, NULL);
	kvp_store(&dev->size, kvp_load(&r->inner->size));
	pthread_mutex_unlock(&r->lock);
	return err;
}

static int record_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct record_dev *r = record_of(dev);

	if (!r->window || dev->read_only)
		return kvp_fail(-KVE_unsupported, "%s: no window on this device", dev->name);
	if (len == 0 || off > dev->size || len > dev->size - off || r->window_len)
		return kvp_fail(-KVE_invalid,
				"%s: a window of %u bytes at offset %llu is not possible",
				dev->name, len, off);
	r->window_off = off;
	r->window_len = len;
	return 0;
}

/* Read, change and write each unit of inner that the store touches. Lock held. */
static int store_by_write(struct record_dev *r, u64 off, const u8 *from, u32 len)
{
	u32 align = r->dev.align, part, at;
	int err = 0;

	for (; len && !err; off += part, from += part, len -= part) {
		at = (u32)(off & (align - 1));
		part = len < align - at ? len : align - at;
		err = kvp_dev_read(r->inner, off - at, r->sector, align);
		if (err)
			break;
		memcpy(r->sector + at, from, part);
		err = kvp_dev_write(r->inner, off - at, r->sector, align, 0);
	}
	return err;
}

static int record_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct record_dev *r = record_of(dev);
	int err;

	if (off > r->window_len || len > r->window_len - off)
		return kvp_fail(-KVE_invalid, "%s: %u bytes at %u are outside the window",
				dev->name, len, off);
	pthread_mutex_lock(&r->lock);
	err = store_by_write(r, r->window_off + off, buf, len);
	record(r, KVP_TRACE_WINDOW, r->window_off + off, len, buf);
	pthread_mutex_unlock(&r->lock);
	return err;
}

static u64 record_allocated(struct kvp_dev *dev)
{
	struct kvp_dev *inner = record_of(dev)->inner;

	return inner->ops->allocated(inner);
}

static void trace_free(struct record_dev *r)
{
	size_t i;

	for (i = 0; i < r->nr; i++)
		free(r->trace[i].bytes);
	r->nr = 0;
}

static void record_close(struct kvp_dev *dev)
{
	struct record_dev *r = record_of(dev);

	kvp_dev_close(r->inner);
	trace_free(r);
	free(r->trace);
	free(r->sector);
	pthread_mutex_destroy(&r->lock);
	kvp_free(r);
}

static const struct kvp_dev_ops record_ops = {
	.read = record_read,
	.write = record_write,
	.batch = record_batch,
	.flush = record_flush,
	.allocate = record_allocate,
	.discard = record_discard,
	.resize = record_resize,
	.window_map = record_window_map,
	.window_store = record_window_store,
	.allocated = record_allocated,
	.close = record_close,
};

int kvp_record_open(struct kvp_dev **out, struct kvp_dev *inner, bool window)
{
	struct record_dev *r = kvp_alloc(sizeof(*r), KVP_ZERO);

	if (!r)
		return -KVE_no_memory;
	r->sector = aligned_alloc(KVP_IO_ALIGN, KVP_IO_ALIGN);
	if (!r->sector) {
		kvp_free(r);
		return -KVE_no_memory;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->inner = inner;
	r->window = window;
	r->dev.ops = &record_ops;
	kvp_dev_copy_shape(&r->dev, inner);
	*out = &r->dev;
	return 0;
}

void kvp_record_mark(struct kvp_dev *dev, u64 number)
{
	struct record_dev *r = record_of(dev);

	KVP_ASSERT(dev->ops == &record_ops);
	pthread_mutex_lock(&r->lock);
	record(r, KVP_TRACE_MARK, number, 0, NULL);
	pthread_mutex_unlock(&r->lock);
}

const struct kvp_trace *kvp_record_trace(struct kvp_dev *dev, size_t *nr)
{
	struct record_dev *r = record_of(dev);
	const struct kvp_trace *trace;

	KVP_ASSERT(dev->ops == &record_ops);
	pthread_mutex_lock(&r->lock);
	*nr = r->nr;
	trace = r->trace;
	pthread_mutex_unlock(&r->lock);
	return trace;
}

void kvp_record_reset(struct kvp_dev *dev)
{
	struct record_dev *r = record_of(dev);

	KVP_ASSERT(dev->ops == &record_ops);
	pthread_mutex_lock(&r->lock);
	trace_free(r);
	pthread_mutex_unlock(&r->lock);
}
