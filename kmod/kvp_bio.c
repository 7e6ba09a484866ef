// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kvp_bio.c - the block device of a mount.
 *
 * Private buffers and bios, no page cache: what was verified cannot change under us, and nothing is
 * written before we say so. A flush is a flush of the drive's cache; FUA writes one piece through it
 * and covers nothing written earlier. There is no window here: its bytes would have to outlive the
 * kernel. What a user-space writer left in one is read like everything else.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "port.h"

struct bdev_dev {
	struct kvp_dev dev;
	struct block_device *bdev;
};

static struct block_device *bdev_of(struct kvp_dev *dev)
{
	return container_of(dev, struct bdev_dev, dev)->bdev;
}

/* Several bios of one call; the last to end wakes the caller. */
struct io_group {
	atomic_t left;
	int status; /* of the first that failed: an errno */
	struct completion done;
};

static void group_init(struct io_group *g)
{
	atomic_set(&g->left, 1);
	g->status = 0;
	init_completion(&g->done);
}

static void group_put(struct io_group *g)
{
	if (atomic_dec_and_test(&g->left))
		complete(&g->done);
}

static void group_end_io(struct bio *bio)
{
	struct io_group *g = bio->bi_private;

	if (bio->bi_status)
		cmpxchg(&g->status, 0, blk_status_to_errno(bio->bi_status));
	bio_put(bio);
	group_put(g);
}

/* Waits for all that was submitted: 0 or a negative errno. */
static int group_wait(struct io_group *g)
{
	group_put(g);
	wait_for_completion_io(&g->done);
	return g->status;
}

static struct page *page_of(const void *buf)
{
	return is_vmalloc_addr(buf) ? vmalloc_to_page(buf) : virt_to_page(buf);
}

static void group_submit(struct io_group *g, struct block_device *bdev, blk_opf_t op, u64 off, void *buf,
			 u32 len)
{
	struct bio *bio;
	unsigned int n;

	while (len) {
		n = min_t(unsigned int, DIV_ROUND_UP(len, PAGE_SIZE) + 1, BIO_MAX_VECS);
		bio = bio_alloc(bdev, n, op, GFP_NOIO); /* from a reserve: does not fail */
		bio->bi_iter.bi_sector = off >> SECTOR_SHIFT;
		bio->bi_private = g;
		bio->bi_end_io = group_end_io;
		while (len) {
			n = min_t(unsigned int, len, PAGE_SIZE - offset_in_page(buf));
			if (bio_add_page(bio, page_of(buf), n, offset_in_page(buf)) != n)
				break;
			buf += n;
			off += n;
			len -= n;
		}
		atomic_inc(&g->left);
		submit_bio(bio);
	}
}

static int io_error(struct kvp_dev *dev, enum kvp_io_op op, u64 off, u32 len, int err)
{
	pr_err_ratelimited("kvfs: %s: %s, %u bytes at offset %llu: error %d\n", dev->name,
			   op == KVP_IO_READ ? "read" : "write", len, off, err);
	if (err == -ENOMEM)
		return -KVE_no_memory;
	if (op == KVP_IO_READ)
		return -KVE_io_read;
	return err == -ENOSPC ? -KVE_no_space : -KVE_io_write;
}

static int bdev_check(struct kvp_dev *dev, enum kvp_io_op op, u64 off, u32 len)
{
	if (!len || off % dev->align || len % dev->align)
		return -KVE_invalid;
	if (op == KVP_IO_WRITE && dev->read_only)
		return -KVE_read_only;
	if (off > dev->size || len > dev->size - off)
		return op == KVP_IO_READ ? -KVE_truncated : -KVE_io_write;
	return 0;
}

static void count(struct kvp_dev *dev, enum kvp_io_op op, u32 len)
{
	if (op == KVP_IO_READ) {
		kvp_add(&dev->reads, 1);
		kvp_add(&dev->read_bytes, len);
	} else {
		kvp_add(&dev->writes, 1);
		kvp_add(&dev->write_bytes, len);
	}
}

static int transfer(struct kvp_dev *dev, enum kvp_io_op op, u64 off, void *buf, u32 len, blk_opf_t opf)
{
	struct io_group g;
	int err = bdev_check(dev, op, off, len);

	if (err)
		return err;
	if (is_vmalloc_addr(buf) && op == KVP_IO_WRITE)
		flush_kernel_vmap_range(buf, len);
	group_init(&g);
	group_submit(&g, bdev_of(dev), opf, off, buf, len);
	err = group_wait(&g);
	if (is_vmalloc_addr(buf) && op == KVP_IO_READ)
		invalidate_kernel_vmap_range(buf, len);
	count(dev, op, len);
	return err ? io_error(dev, op, off, len, err) : 0;
}

static int bdev_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	return transfer(dev, KVP_IO_READ, off, buf, len, REQ_OP_READ | REQ_SYNC);
}

static int bdev_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;

	if (flags & KVP_FUA)
		opf |= REQ_FUA;
	return transfer(dev, KVP_IO_WRITE, off, (void *)buf, len, opf);
}

/* One group an I/O, so that each has a result of its own; what is on its way at once is bounded. */
#define BATCH 128u

static void batch_submit(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n, struct io_group *groups)
{
	struct blk_plug plug;
	unsigned int i;

	blk_start_plug(&plug);
	for (i = 0; i < n; i++) {
		struct kvp_io *io = &ios[i];

		group_init(&groups[i]);
		io->result = bdev_check(dev, io->op, io->off, io->len);
		if (io->result)
			continue;
		if (is_vmalloc_addr(io->buf) && io->op == KVP_IO_WRITE)
			flush_kernel_vmap_range(io->buf, (int)io->len);
		group_submit(&groups[i], bdev_of(dev),
			     (io->op == KVP_IO_READ ? REQ_OP_READ : REQ_OP_WRITE | REQ_IDLE) | REQ_SYNC,
			     io->off, io->buf, io->len);
	}
	blk_finish_plug(&plug);
}

static void batch_wait(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n, struct io_group *groups)
{
	unsigned int i;
	int err;

	for (i = 0; i < n; i++) {
		struct kvp_io *io = &ios[i];

		err = group_wait(&groups[i]);
		if (io->result)
			continue;
		if (is_vmalloc_addr(io->buf) && io->op == KVP_IO_READ)
			invalidate_kernel_vmap_range(io->buf, (int)io->len);
		count(dev, io->op, io->len);
		if (err)
			io->result = io_error(dev, io->op, io->off, io->len, err);
	}
}

/* Where the last part of n begins: what goes before it is waited for by start. */
static unsigned int last_part(unsigned int n)
{
	return (n - 1) / BATCH * BATCH;
}

static void bdev_start(struct kvp_dev *dev, struct kvp_batch *b)
{
	struct io_group *groups = b->n ? kvp_alloc_array(min(b->n, BATCH), sizeof(*groups), 0) : NULL;
	unsigned int at, last;

	if (!groups)
		return;
	last = last_part(b->n);
	for (at = 0; at < last; at += BATCH) {
		batch_submit(dev, b->ios + at, BATCH, groups);
		batch_wait(dev, b->ios + at, BATCH, groups);
	}
	batch_submit(dev, b->ios + last, b->n - last, groups);
	b->own = groups;
}

static int first_error(const struct kvp_io *ios, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n && !ios[i].result; i++)
		;
	return i < n ? ios[i].result : 0;
}

static int bdev_finish(struct kvp_dev *dev, struct kvp_batch *b)
{
	unsigned int last = last_part(b->n);

	batch_wait(dev, b->ios + last, b->n - last, b->own);
	kvp_free(b->own);
	return first_error(b->ios, b->n);
}

static int bdev_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	struct kvp_batch b = { .ios = ios, .n = n };
	struct io_group one;
	unsigned int i;

	bdev_start(dev, &b);
	if (b.own)
		return bdev_finish(dev, &b);
	/* Without memory one by one. */
	for (i = 0; i < n; i++) {
		batch_submit(dev, ios + i, 1, &one);
		batch_wait(dev, ios + i, 1, &one);
	}
	return first_error(ios, n);
}

static int bdev_flush(struct kvp_dev *dev)
{
	int err;

	kvp_add(&dev->flushes, 1);
	if (dev->read_only)
		return -KVE_read_only;
	err = blkdev_issue_flush(bdev_of(dev));
	if (!err)
		return 0;
	pr_err_ratelimited("kvfs: %s: flush: error %d\n", dev->name, err);
	return -KVE_io_flush;
}

/* A device has all its blocks. */
static int bdev_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	return off > dev->size || len > dev->size - off ? -KVE_no_space : 0;
}

/* A hint: a drive may not know it, or fail at it. */
static int bdev_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	struct block_device *bdev = bdev_of(dev);

	if (!dev->read_only && bdev_max_discard_sectors(bdev) && off <= dev->size && len <= dev->size - off)
		(void)blkdev_issue_discard(bdev, off >> SECTOR_SHIFT, len >> SECTOR_SHIFT, GFP_NOIO);
	return 0;
}

static int bdev_resize(struct kvp_dev *dev, u64 size)
{
	return -KVE_invalid;
}

static int bdev_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	return -KVE_unsupported;
}

static int bdev_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	return -KVE_unsupported;
}

static void bdev_close(struct kvp_dev *dev)
{
	/* Readers of the block device must not be served what the page cache had before. */
	invalidate_bdev(bdev_of(dev));
	kvp_free(container_of(dev, struct bdev_dev, dev));
}

static const struct kvp_dev_ops bdev_ops = {
	.read = bdev_read,
	.write = bdev_write,
	.batch = bdev_batch,
	.start = bdev_start,
	.finish = bdev_finish,
	.flush = bdev_flush,
	.allocate = bdev_allocate,
	.discard = bdev_discard,
	.resize = bdev_resize,
	.window_map = bdev_window_map,
	.window_store = bdev_window_store,
	.close = bdev_close,
};

int kvp_bdev_open(struct kvp_dev **out, struct block_device *bdev, bool read_only)
{
	struct bdev_dev *d = kvp_alloc(sizeof(*d), KVP_ZERO);
	int err;

	if (!d)
		return -KVE_no_memory;
	/* A killed writer of user space may have left its window there. */
	err = sync_blockdev(bdev);
	if (err) {
		kvp_free(d);
		return -KVE_io_write;
	}
	invalidate_bdev(bdev);
	d->bdev = bdev;
	d->dev.ops = &bdev_ops;
	d->dev.size = bdev_nr_bytes(bdev);
	d->dev.align = bdev_logical_block_size(bdev);
	d->dev.physical = clamp_t(u32, bdev_physical_block_size(bdev), d->dev.align, 4096);
	d->dev.read_only = read_only;
	snprintf(d->dev.name, sizeof(d->dev.name), "%pg", bdev);
	*out = &d->dev;
	return 0;
}
