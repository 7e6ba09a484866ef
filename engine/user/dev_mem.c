// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_mem.c - a device in memory, for tests, fuzzing and fsck of copies.
 *
 * The whole range up to the maximum is mapped at once and never moves, so reads and writes need no
 * lock and kvp_mem_bytes() stays valid; pages that were not written cost nothing. Small ones come
 * from the heap instead: crash tests open millions of them, and there address sanitizer sees beyond
 * the end.
 */
#include "port.h"
#include "../racy.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SMALL_MAX (1u << 20)

struct mem_dev {
	struct kvp_dev dev;
	pthread_mutex_t lock; /* for size while it changes */
	u8 *bytes;
	u64 max;	/* growth ends here */
	u64 capacity;	/* of bytes: max, rounded up */
	bool mapped;
	bool window_on;
	u64 window_off;
	u32 window_len;
};

static struct mem_dev *mem_of(struct kvp_dev *dev)
{
	return (struct mem_dev *)dev;
}

static int mem_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	int err = kvp_dev_check(dev, KVP_IO_READ, off, buf, len);

	if (err)
		return err;
	/* As of a medium, bytes that are being written come in any mixture: who reads them verifies. */
	kve_racy_copy(buf, mem_of(dev)->bytes + off, len);
	kvp_dev_count(dev, KVP_IO_READ, len);
	return 0;
}

static int mem_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	int err = kvp_dev_check(dev, KVP_IO_WRITE, off, buf, len);

	(void)flags; /* memory is as durable as it gets */
	if (err)
		return err;
	memcpy(mem_of(dev)->bytes + off, buf, len);
	kvp_dev_count(dev, KVP_IO_WRITE, len);
	return 0;
}

static int mem_flush(struct kvp_dev *dev)
{
	kvp_add(&dev->flushes, 1);
	return 0;
}

static int mem_grow(struct mem_dev *m, u64 end)
{
	int err = 0;

	pthread_mutex_lock(&m->lock);
	if (end > m->max)
		err = kvp_fail(-KVE_no_space,
			       "%s: %llu bytes are more than the device may have (%llu)",
			       m->dev.name, end, m->max);
	else if (end > m->dev.size)
		kvp_store(&m->dev.size, end);
	pthread_mutex_unlock(&m->lock);
	return err;
}

static int mem_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	int err = kvp_dev_check_range(dev, "allocate", off, len);

	(void)flags;
	return err ? err : mem_grow(mem_of(dev), off + len);
}

/* Zero [off, off + len): whole pages of a mapping go back to the system. */
static void mem_zero(struct mem_dev *m, u64 off, u64 len)
{
	u64 from = (off + KVP_IO_ALIGN - 1) & ~(u64)(KVP_IO_ALIGN - 1);
	u64 to = (off + len) & ~(u64)(KVP_IO_ALIGN - 1);

	if (!m->mapped || from >= to || madvise(m->bytes + from, to - from, MADV_DONTNEED)) {
		memset(m->bytes + off, 0, len);
		return;
	}
	memset(m->bytes + off, 0, from - off);
	memset(m->bytes + to, 0, off + len - to);
}

static int mem_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	u64 size = kvp_load(&dev->size);
	int err = kvp_dev_check_range(dev, "discard", off, len);

	if (err || off >= size)
		return err;
	mem_zero(mem_of(dev), off, len < size - off ? len : size - off);
	return 0;
}

static int mem_resize(struct kvp_dev *dev, u64 size)
{
	struct mem_dev *m = mem_of(dev);
	int err = 0;

	if (dev->read_only)
		return kvp_fail(-KVE_read_only, "%s: resize: opened read-only", dev->name);
	if (!dev->growable || size & (dev->align - 1))
		return kvp_fail(-KVE_invalid, "%s: cannot be resized to %llu bytes", dev->name,
				size);
	pthread_mutex_lock(&m->lock);
	if (size > m->max) {
		err = kvp_fail(-KVE_no_space,
			       "%s: %llu bytes are more than the device may have (%llu)",
			       dev->name, size, m->max);
	} else {
		if (size < dev->size)
			mem_zero(m, size, dev->size - size); /* zero when it grows again */
		kvp_store(&dev->size, size);
	}
	pthread_mutex_unlock(&m->lock);
	return err;
}

static int mem_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct mem_dev *m = mem_of(dev);

	if (!m->window_on || dev->read_only)
		return kvp_fail(-KVE_unsupported, "%s: no window on this device", dev->name);
	if (off > dev->size || len > dev->size - off)
		return kvp_fail(-KVE_invalid,
				"%s: the window of %u bytes at offset %llu is past the end",
				dev->name, len, off);
	m->window_off = off;
	m->window_len = len;
	return 0;
}

static int mem_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct mem_dev *m = mem_of(dev);

	if (off > m->window_len || len > m->window_len - off)
		return kvp_fail(-KVE_invalid, "%s: %u bytes at %u are outside the window",
				dev->name, len, off);
	memcpy(m->bytes + m->window_off + off, buf, len);
	return 0;
}

static u64 mem_allocated(struct kvp_dev *dev)
{
	(void)dev;
	return 0;
}

static void mem_close(struct kvp_dev *dev)
{
	struct mem_dev *m = mem_of(dev);

	if (m->mapped)
		munmap(m->bytes, m->capacity);
	else
		free(m->bytes);
	pthread_mutex_destroy(&m->lock);
	kvp_free(m);
}

static const struct kvp_dev_ops mem_ops = {
	.read = mem_read,
	.write = mem_write,
	.batch = kvp_dev_batch_serial,
	.flush = mem_flush,
	.allocate = mem_allocate,
	.discard = mem_discard,
	.resize = mem_resize,
	.window_map = mem_window_map,
	.window_store = mem_window_store,
	.allocated = mem_allocated,
	.close = mem_close,
};

int kvp_mem_open(struct kvp_dev **out, u64 size, u64 max)
{
	u64 capacity = max > size ? max : size;
	struct mem_dev *m;
	void *p;

	if (capacity > INT64_MAX - KVP_IO_ALIGN)
		return -KVE_no_memory;
	m = kvp_alloc(sizeof(*m), KVP_ZERO);
	if (!m)
		return -KVE_no_memory;
	m->max = capacity;
	m->capacity = (capacity + KVP_IO_ALIGN) & ~(u64)(KVP_IO_ALIGN - 1);
	m->mapped = m->capacity > SMALL_MAX;
	if (m->mapped) {
		p = mmap(NULL, m->capacity, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		m->bytes = p == MAP_FAILED ? NULL : p;
	} else {
		m->bytes = calloc(1, m->capacity);
	}
	if (!m->bytes) {
		kvp_free(m);
		return -KVE_no_memory;
	}
	pthread_mutex_init(&m->lock, NULL);
	m->dev.ops = &mem_ops;
	m->dev.size = size;
	m->dev.align = KVP_SECTOR;
	m->dev.physical = KVP_SECTOR;
	m->dev.growable = max != 0;
	memcpy(m->dev.name, "memory", sizeof("memory"));
	*out = &m->dev;
	return 0;
}

int kvp_mem_open_copy(struct kvp_dev **out, const void *image, u64 len, u64 max)
{
	int err = kvp_mem_open(out, len, max);

	if (!err && len)
		memcpy(mem_of(*out)->bytes, image, len);
	return err;
}

u8 *kvp_mem_bytes(struct kvp_dev *dev)
{
	KVP_ASSERT(dev->ops == &mem_ops);
	return mem_of(dev)->bytes;
}

void kvp_mem_window(struct kvp_dev *dev, bool on)
{
	KVP_ASSERT(dev->ops == &mem_ops);
	mem_of(dev)->window_on = on;
}
