// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_order.c - a device that knows, for each sector of the one below, whether its newest content
 * is durable: the part of the order checker that knows no format. See kvp_user.h.
 *
 * States of a sector, a byte each:
 *
 *	DURABLE --write, grow--> DIRTY --flush begins--> FLUSHING --flush ends well--> DURABLE
 *	  any   --write----> DIRTY  (at its begin and at its end: a flush that begins between
 *	                             does not cover it)
 *	  any   --FUA------> DIRTY at its begin, DURABLE at its end
 *	  any   --window store, discard--> LOOSE, which only a write leaves
 *
 * Flushes take turns: one that ends would otherwise call durable what began to flush in another.
 */
#include "port.h"

#include <stdlib.h>

enum { DURABLE = 0, DIRTY = 1, FLUSHING = 2, LOOSE = 3 };

struct order_dev {
	struct kvp_dev dev;
	struct kvp_dev *inner;
	kvp_order_check check;
	void *arg;
	pthread_mutex_t flush_lock; /* over a whole flush; before lock */
	pthread_mutex_t lock;	    /* for all below; nothing is called with it held */
	u8 *state;
	u64 nr;
	u64 window_off;
	u32 window_len;
};

static struct order_dev *order_of(struct kvp_dev *dev)
{
	return (struct order_dev *)dev;
}

/*
 * The table follows the size; what is new is dirty. Lock held. On the plain heap: tests count the
 * allocations of the engine.
 */
static void order_follow(struct order_dev *d)
{
	u64 size = kvp_load(&d->inner->size), nr = (size + KVP_SECTOR - 1) / KVP_SECTOR;

	if (nr > d->nr) {
		d->state = realloc(d->state, nr);
		KVP_ASSERT(d->state);
		memset(d->state + d->nr, DIRTY, nr - d->nr);
	}
	d->nr = nr; /* when it grows again the sectors are new */
	kvp_store(&d->dev.size, size);
}

static void order_mark(struct order_dev *d, u64 off, u64 len, u8 state)
{
	u64 i, end;

	pthread_mutex_lock(&d->lock);
	order_follow(d);
	end = (off + len + KVP_SECTOR - 1) / KVP_SECTOR;
	for (i = off / KVP_SECTOR; i < end && i < d->nr; i++)
		d->state[i] = state;
	pthread_mutex_unlock(&d->lock);
}

bool kvp_order_durable(struct kvp_dev *dev, u64 off, u64 len)
{
	struct order_dev *d = order_of(dev);
	u64 i, end = (off + len + KVP_SECTOR - 1) / KVP_SECTOR;
	bool durable = true;

	pthread_mutex_lock(&d->lock);
	if (end > d->nr)
		durable = false;
	for (i = off / KVP_SECTOR; i < end && durable; i++)
		durable = d->state[i] == DURABLE;
	pthread_mutex_unlock(&d->lock);
	return durable;
}

static int order_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	int err = kvp_dev_read(order_of(dev)->inner, off, buf, len);

	if (!err)
		kvp_dev_count(dev, KVP_IO_READ, len);
	return err;
}

static int order_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	struct order_dev *d = order_of(dev);
	bool fua = flags & KVP_FUA;
	int err;

	if (d->check)
		d->check(d->arg, dev, fua ? KVP_TRACE_FUA : KVP_TRACE_WRITE, off, buf, len);
	order_mark(d, off, len, DIRTY);
	err = kvp_dev_write(d->inner, off, buf, len, flags);
	order_mark(d, off, len, fua && !err ? DURABLE : DIRTY);
	if (!err)
		kvp_dev_count(dev, KVP_IO_WRITE, len);
	return err;
}

static int order_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	struct order_dev *d = order_of(dev);
	unsigned int i;
	int err;

	for (i = 0; i < n; i++) {
		if (ios[i].op != KVP_IO_WRITE)
			continue;
		if (d->check)
			d->check(d->arg, dev, KVP_TRACE_WRITE, ios[i].off, ios[i].buf, ios[i].len);
		order_mark(d, ios[i].off, ios[i].len, DIRTY);
	}
	err = kvp_dev_batch(d->inner, ios, n);
	for (i = 0; i < n; i++) {
		if (ios[i].op == KVP_IO_WRITE)
			order_mark(d, ios[i].off, ios[i].len, DIRTY);
		if (!ios[i].result)
			kvp_dev_count(dev, ios[i].op, ios[i].len);
	}
	return err;
}

static void order_turn(struct order_dev *d, u8 from, u8 to)
{
	u64 i;

	pthread_mutex_lock(&d->lock);
	order_follow(d);
	for (i = 0; i < d->nr; i++)
		if (d->state[i] == from)
			d->state[i] = to;
	pthread_mutex_unlock(&d->lock);
}

static int order_flush(struct kvp_dev *dev)
{
	struct order_dev *d = order_of(dev);
	int err;

	pthread_mutex_lock(&d->flush_lock);
	order_turn(d, DIRTY, FLUSHING);
	err = kvp_dev_flush(d->inner);
	order_turn(d, FLUSHING, err ? DIRTY : DURABLE);
	pthread_mutex_unlock(&d->flush_lock);
	if (!err)
		kvp_add(&dev->flushes, 1);
	return err;
}

static int order_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	struct order_dev *d = order_of(dev);
	int err = kvp_dev_allocate(d->inner, off, len, flags);

	order_mark(d, 0, 0, DIRTY);
	return err;
}

static int order_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	struct order_dev *d = order_of(dev);

	order_mark(d, off, len, LOOSE);
	return kvp_dev_discard(d->inner, off, len);
}

static int order_resize(struct kvp_dev *dev, u64 size)
{
	struct order_dev *d = order_of(dev);
	int err = kvp_dev_resize(d->inner, size);

	order_mark(d, 0, 0, DIRTY);
	return err;
}

static int order_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct order_dev *d = order_of(dev);
	int err = kvp_dev_window_map(d->inner, off, len);

	if (!err) {
		d->window_off = off;
		d->window_len = len;
	}
	return err;
}

static int order_window_back(struct kvp_dev *dev, u32 upto)
{
	return kvp_dev_window_back(order_of(dev)->inner, upto);
}

static int order_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct order_dev *d = order_of(dev);
	u64 at = d->window_off + off;

	if (off <= d->window_len && len <= d->window_len - off) {
		if (d->check)
			d->check(d->arg, dev, KVP_TRACE_WINDOW, at, buf, len);
		order_mark(d, at, len, LOOSE);
	}
	return kvp_dev_window_store(d->inner, off, buf, len);
}

static u64 order_allocated(struct kvp_dev *dev)
{
	struct kvp_dev *inner = order_of(dev)->inner;

	return inner->ops->allocated(inner);
}

static void order_close(struct kvp_dev *dev)
{
	struct order_dev *d = order_of(dev);

	kvp_dev_close(d->inner);
	free(d->state);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->flush_lock);
	kvp_free(d);
}

static const struct kvp_dev_ops order_ops = {
	.read = order_read,
	.write = order_write,
	.batch = order_batch,
	.flush = order_flush,
	.allocate = order_allocate,
	.discard = order_discard,
	.resize = order_resize,
	.window_map = order_window_map,
	.window_back = order_window_back,
	.window_store = order_window_store,
	.allocated = order_allocated,
	.close = order_close,
};

int kvp_order_open(struct kvp_dev **out, struct kvp_dev *inner, kvp_order_check check, void *arg)
{
	struct order_dev *d = kvp_alloc(sizeof(*d), KVP_ZERO);

	if (!d)
		return -KVE_no_memory;
	d->nr = (inner->size + KVP_SECTOR - 1) / KVP_SECTOR;
	d->state = calloc(1, d->nr ? d->nr : 1);
	if (!d->state) {
		kvp_free(d);
		return -KVE_no_memory;
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->flush_lock, NULL);
	d->inner = inner;
	d->check = check;
	d->arg = arg;
	d->dev.ops = &order_ops;
	kvp_dev_copy_shape(&d->dev, inner);
	*out = &d->dev;
	return 0;
}
