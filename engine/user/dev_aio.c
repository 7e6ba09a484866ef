// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_aio.c - the file device: many transfers at once, by libaio.
 *
 * Without O_DIRECT libaio works one by one inside io_submit, and a single transfer is cheaper by
 * pread (measured: up to 10 %), so both go the plain way. A context serves one batch at a time; idle
 * ones wait in the device's pool, and when it is closed for the next device that is opened: the system
 * takes tens of milliseconds to take one back. It gives out contexts up to fs.aio-max-nr: without one, the
 * plain way.
 *
 * Neither batch nor finish may return while the kernel may still touch the caller's buffers, whatever fails.
 */
#include "dev_file.h"

#include <errno.h>
#include <libaio.h>

#define AIO_DEPTH 128u
#define SPARE_MAX 16u

struct aio_pool {
	struct aio_pool *next;
	io_context_t ctx;
	struct iocb iocb[AIO_DEPTH];
	struct iocb *ptr[AIO_DEPTH];
	struct io_event event[AIO_DEPTH];
	unsigned int sent; /* in flight: the first so many transfers of the last part of a batch */
};

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static io_context_t spare[SPARE_MAX];
static unsigned int spares;

/* A child has none of its parent's contexts, and nobody who could open the lock. */
void kvp_file_forked(void)
{
	pthread_mutex_init(&spare_lock, NULL);
	spares = 0;
}

static bool context_get(io_context_t *ctx)
{
	bool found;

	pthread_mutex_lock(&spare_lock);
	found = spares > 0;
	if (found)
		*ctx = spare[--spares];
	pthread_mutex_unlock(&spare_lock);
	/* From now on forking is noticed. */
	(void)kvp_process_id();
	return found || !io_setup(AIO_DEPTH, ctx);
}

/* Nothing is under way in it. */
static void context_put(io_context_t ctx)
{
	bool kept;

	pthread_mutex_lock(&spare_lock);
	kept = spares < SPARE_MAX;
	if (kept)
		spare[spares++] = ctx;
	pthread_mutex_unlock(&spare_lock);
	if (!kept)
		io_destroy(ctx);
}

static struct aio_pool *aio_get(struct file_dev *f)
{
	struct aio_pool *a;

	pthread_mutex_lock(&f->idle);
	a = f->pool;
	if (a)
		f->pool = a->next;
	pthread_mutex_unlock(&f->idle);
	if (a)
		return a;
	a = kvp_alloc(sizeof(*a), KVP_ZERO);
	if (!a)
		return NULL;
	if (!context_get(&a->ctx)) {
		kvp_free(a);
		return NULL;
	}
	return a;
}

static void aio_put(struct file_dev *f, struct aio_pool *a)
{
	pthread_mutex_lock(&f->idle);
	a->next = f->pool;
	f->pool = a;
	pthread_mutex_unlock(&f->idle);
}

void kvp_file_batch_exit(struct file_dev *f)
{
	struct aio_pool *a;

	while ((a = f->pool)) {
		f->pool = a->next;
		context_put(a->ctx);
		kvp_free(a);
	}
}

static int io_plain(struct file_dev *f, struct kvp_io *io, u32 done)
{
	if (io->op == KVP_IO_READ)
		return kvp_file_read_raw(f, io->off, io->buf, io->len, done);
	return kvp_file_write_raw(f, io->off, io->buf, io->len, done);
}

/* res: bytes, or a negative errno, as the kernel reports it. */
static int io_finish(struct file_dev *f, struct kvp_io *io, long res)
{
	if (res == (long)io->len)
		return 0;
	if (res > 0 && res < (long)io->len && (res & (f->dev.align - 1)) == 0)
		return io_plain(f, io, (u32)res);
	/* What the plain loop knows how to treat: odd ends, EINTR, no O_DIRECT after all. */
	if (res >= 0 || res == -EINTR || res == -EAGAIN || res == -EINVAL)
		return io_plain(f, io, 0);
	return io->op == KVP_IO_READ ? kvp_file_read_error(f, io->off, io->len, (int)-res) :
				       kvp_file_write_error(f, "write", io->off, io->len, (int)-res);
}

/* Up to AIO_DEPTH of them are on their way. */
static void aio_send(struct file_dev *f, struct aio_pool *a, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;
	int rc;

	for (i = 0; i < n; i++) {
		struct kvp_io *io = &ios[i];

		if (io->op == KVP_IO_READ)
			io_prep_pread(&a->iocb[i], f->fd, io->buf, io->len, (long long)io->off);
		else
			io_prep_pwrite(&a->iocb[i], f->fd, io->buf, io->len, (long long)io->off);
		a->ptr[i] = &a->iocb[i];
		io->result = -KVE_io;
	}
	a->sent = 0;
	while (a->sent < n) {
		rc = io_submit(a->ctx, (long)(n - a->sent), a->ptr + a->sent);
		if (rc == -EINTR)
			continue;
		if (rc <= 0)
			break;
		a->sent += (unsigned int)rc;
	}
	for (i = a->sent; i < n; i++) /* refused: no room in the system's queue, or not for aio */
		ios[i].result = io_plain(f, &ios[i], 0);
}

/* Wait for all that is in flight. False: the context broke and is gone, the results are not known. */
static bool aio_reap(struct file_dev *f, struct aio_pool *a, struct kvp_io *ios)
{
	unsigned int left = a->sent;
	int n, i;

	while (left) {
		n = io_getevents(a->ctx, (long)left, (long)left, a->event, NULL); /* one wake-up */
		if (n == -EINTR)
			continue;
		if (n <= 0) {
			io_destroy(a->ctx); /* waits for all */
			kvp_free(a);
			kvp_fail_errno(-KVE_io, f->dev.name, "wait for a batch", 0, 0, EIO);
			return false;
		}
		for (i = 0; i < n; i++) {
			struct kvp_io *io = &ios[(size_t)(a->event[i].obj - a->iocb)];

			io->result = io_finish(f, io, (long)a->event[i].res);
		}
		left -= (unsigned int)n;
	}
	return true;
}

static int batch_check(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < n && !err; i++) {
		err = kvp_dev_check(dev, ios[i].op, ios[i].off, ios[i].buf, ios[i].len);
		if (!err && ios[i].op == KVP_IO_WRITE)
			err = kvp_file_check_alive(file_of(dev));
	}
	/* One bad request is no reason to lose the others: they go one by one. */
	return err;
}

static int batch_result(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;
	int first = 0;

	for (i = 0; i < n; i++) {
		if (ios[i].result == 0)
			kvp_dev_count(dev, ios[i].op, ios[i].len);
		else if (!first)
			first = ios[i].result;
	}
	return first;
}

/* Where the last part of n begins: what goes before it is waited for by start. */
static unsigned int last_part(unsigned int n)
{
	return (n - 1) / AIO_DEPTH * AIO_DEPTH;
}

void kvp_file_start(struct kvp_dev *dev, struct kvp_batch *b)
{
	struct file_dev *f = file_of(dev);
	unsigned int at, last;
	struct aio_pool *a;

	if (!b->n || !kvp_load(&f->direct) || batch_check(dev, b->ios, b->n))
		return;
	a = aio_get(f);
	last = last_part(b->n);
	for (at = 0; a && at < last; at += AIO_DEPTH) {
		aio_send(f, a, b->ios + at, AIO_DEPTH);
		/* Writing all of it once more does no harm. */
		if (!aio_reap(f, a, b->ios + at))
			a = NULL;
	}
	if (a)
		aio_send(f, a, b->ios + last, b->n - last);
	b->own = a;
}

int kvp_file_finish(struct kvp_dev *dev, struct kvp_batch *b)
{
	struct file_dev *f = file_of(dev);
	struct aio_pool *a = b->own;

	if (aio_reap(f, a, b->ios + last_part(b->n)))
		aio_put(f, a);
	return batch_result(dev, b->ios, b->n);
}

int kvp_file_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	struct kvp_batch b = { .ios = ios, .n = n };

	if (n > 1)
		kvp_file_start(dev, &b);
	return b.own ? kvp_file_finish(dev, &b) : kvp_dev_batch_serial(dev, ios, n);
}
