/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * simdev.c - the device in memory of the crash machines; see simdev.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/simdev.h"

#define MAX(a, b) ((a) > (b) ? (a) : (b))

static void *grow(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p) {
		fprintf(stderr, "simdev: out of memory\n");
		abort();
	}
	return p;
}

static struct sim *sim_of(struct kvp_dev *dev)
{
	return (struct sim *)dev;
}

static void record(struct sim *s, enum kvp_trace_op op, u64 off, u64 len, const void *bytes)
{
	struct sim_event *e;

	if (!s->tracing)
		return;
	if (s->nr == s->events_cap) {
		s->events_cap = s->events_cap * 2 + 64;
		s->events = grow(s->events, s->events_cap * sizeof(*s->events));
	}
	e = &s->events[s->nr++];
	e->op = op;
	e->off = off;
	e->len = len;
	e->at = s->heap_len;
	if (!bytes)
		return;
	if (s->heap_len + len > s->heap_cap) {
		s->heap_cap = (s->heap_len + len) * 2;
		s->heap = grow(s->heap, s->heap_cap);
	}
	memcpy(s->heap + s->heap_len, bytes, len);
	s->heap_len += len;
}

static int sim_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	struct sim *s = sim_of(dev);

	dev->reads++;
	dev->read_bytes += len;
	if (off > dev->size || len > dev->size - off)
		return -KVE_truncated;
	memcpy(buf, s->bytes + off, len);
	return 0;
}

static int sim_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	struct sim *s = sim_of(dev);

	if (dev->read_only || (off | len) % dev->align)
		return -KVE_io_write;
	if (off > dev->size || len > dev->size - off)
		return -KVE_no_space;
	dev->writes++;
	dev->write_bytes += len;
	record(s, flags & KVP_FUA ? KVP_TRACE_FUA : KVP_TRACE_WRITE, off, len, buf);
	memcpy(s->bytes + off, buf, len);
	s->high = MAX(s->high, off + len);
	return 0;
}

static int sim_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < n; i++) {
		if (ios[i].op == KVP_IO_READ)
			ios[i].result = sim_read(dev, ios[i].off, ios[i].buf, ios[i].len);
		else
			ios[i].result = sim_write(dev, ios[i].off, ios[i].buf, ios[i].len, 0);
		if (ios[i].result && !err)
			err = ios[i].result;
	}
	return err;
}

static int sim_flush(struct kvp_dev *dev)
{
	dev->flushes++;
	record(sim_of(dev), KVP_TRACE_FLUSH, 0, 0, NULL);
	return 0;
}

static int sim_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	struct sim *s = sim_of(dev);

	(void)flags;
	if (dev->read_only)
		return -KVE_io_write;
	if (off + len > s->cap)
		return -KVE_no_space;
	record(s, KVP_TRACE_ALLOCATE, off, len, NULL);
	dev->size = MAX(dev->size, off + len);
	return 0;
}

static int sim_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	struct sim *s = sim_of(dev);

	if (dev->read_only)
		return -KVE_io_write;
	if (off > dev->size || len > dev->size - off)
		return -KVE_invalid;
	record(s, KVP_TRACE_DISCARD, off, len, NULL);
	memset(s->bytes + off, 0, len);
	return 0;
}

static int sim_resize(struct kvp_dev *dev, u64 size)
{
	struct sim *s = sim_of(dev);

	if (dev->read_only)
		return -KVE_io_write;
	if (size > s->cap)
		return -KVE_no_space;
	record(s, KVP_TRACE_RESIZE, size, 0, NULL);
	if (size < s->high) {
		memset(s->bytes + size, 0, s->high - size);
		s->high = size;
	}
	dev->size = size;
	return 0;
}

static int sim_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct sim *s = sim_of(dev);

	if (!s->window)
		return -KVE_unsupported;
	if (off > dev->size || len > dev->size - off)
		return -KVE_invalid;
	s->window_off = off;
	s->window_len = len;
	return 0;
}

static int sim_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct sim *s = sim_of(dev);

	if (!s->window_len || off > s->window_len || len > s->window_len - off || dev->read_only)
		return -KVE_invalid;
	record(s, KVP_TRACE_WINDOW, s->window_off + off, len, buf);
	memcpy(s->bytes + s->window_off + off, buf, len);
	s->high = MAX(s->high, s->window_off + off + len);
	return 0;
}

static u64 sim_allocated(struct kvp_dev *dev)
{
	(void)dev;
	return 0;
}

static void sim_close(struct kvp_dev *dev)
{
	struct sim *s = sim_of(dev);

	s->window_len = 0;
	s->opens++;
}

static const struct kvp_dev_ops sim_ops = {
	.read = sim_read,
	.write = sim_write,
	.batch = sim_batch,
	.flush = sim_flush,
	.allocate = sim_allocate,
	.discard = sim_discard,
	.resize = sim_resize,
	.window_map = sim_window_map,
	.window_store = sim_window_store,
	.allocated = sim_allocated,
	.close = sim_close,
};

struct sim *sim_new(u64 size, u64 cap, bool window)
{
	struct sim *s = grow(NULL, sizeof(*s));

	memset(s, 0, sizeof(*s));
	s->dev.ops = &sim_ops;
	s->dev.size = size;
	s->dev.align = 512;
	s->dev.physical = 512;
	s->dev.growable = true;
	snprintf(s->dev.name, sizeof(s->dev.name), "sim");
	s->bytes = calloc(1, cap);
	if (!s->bytes)
		abort();
	s->cap = cap;
	s->window = window;
	return s;
}

void sim_free(struct sim *s)
{
	if (!s)
		return;
	free(s->bytes);
	free(s->events);
	free(s->heap);
	free(s);
}

void sim_fill(struct sim *s, const u8 *image, u64 size)
{
	if (size > s->cap)
		abort();
	if (size)
		memcpy(s->bytes, image, size);
	if (s->high > size)
		memset(s->bytes + size, 0, s->high - size);
	s->high = size;
	s->dev.size = size;
	s->dev.read_only = false;
	s->dev.reads = s->dev.writes = s->dev.flushes = 0;
	s->dev.read_bytes = s->dev.write_bytes = 0;
	s->window_len = 0;
	sim_trace(s, false);
}

void sim_trace(struct sim *s, bool on)
{
	s->tracing = on;
	s->nr = 0;
	s->heap_len = 0;
}

void sim_mark(struct sim *s, u64 number)
{
	record(s, KVP_TRACE_MARK, number, 0, NULL);
}
