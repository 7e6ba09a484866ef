/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume_mount_batch.c - batches on a mount: records in order, as the ioctl BATCH takes them. One call is
 * about one tree and at most KVFS_IOC_BATCH_MAX bytes; what goes beyond is the next call.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "volume_mount.h"

/* A run of records for one call. */
struct run {
	int dir;
	size_t begin, bytes;
	uint32_t count;
};

struct mounted_batch {
	kv_db *db;
	uint8_t *buf;
	size_t used, cap;
	struct run *runs;
	size_t runs_nr, count;
};

static struct mounted_batch *batch_of(kv_batch *b)
{
	return (struct mounted_batch *)b;
}

int mounted_batch_new(kv_db *db, kv_batch **out)
{
	struct mounted_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return mounted_fail("no batch");
	b->db = db;
	*out = (kv_batch *)b;
	return 0;
}

static bool reserve(struct mounted_batch *b, size_t bytes)
{
	size_t cap = b->cap ? b->cap : 64u << 10;
	uint8_t *p;

	while (cap - b->used < bytes)
		cap *= 2;
	if (cap == b->cap)
		return true;
	p = realloc(b->buf, cap);
	if (!p)
		return false;
	b->buf = p;
	b->cap = cap;
	return true;
}

/* The run that takes a record of so many bytes. */
static struct run *run_for(struct mounted_batch *b, int dir, size_t bytes)
{
	struct run *r = b->runs_nr ? &b->runs[b->runs_nr - 1] : NULL;

	if (r && r->dir == dir && r->bytes + bytes <= KVFS_IOC_BATCH_MAX)
		return r;
	r = reallocarray(b->runs, b->runs_nr + 1, sizeof(*r));
	if (!r)
		return NULL;
	b->runs = r;
	r += b->runs_nr++;
	*r = (struct run){ .dir = dir, .begin = b->used };
	return r;
}

static int add(struct mounted_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
	       uint64_t value_len)
{
	size_t bytes = value_len == KVFS_REC_DELETE ? 0 : (size_t)value_len, whole;
	struct kvfs_rec rec = { .value_len = value_len, .key_len = (uint32_t)key_len };
	struct run *r;
	uint8_t *to;

	if (bytes > KVFS_IOC_BATCH_MAX || key_len > KVFS_IOC_BATCH_MAX)
		return mounted_say(KV_E_TOOBIG, "key and value are too long for a batch");
	whole = (sizeof(rec) + key_len + bytes + 7) & ~(size_t)7;
	if (whole > KVFS_IOC_BATCH_MAX)
		return mounted_say(KV_E_TOOBIG, "key and value are too long for a batch");
	r = reserve(b, whole) ? run_for(b, mounted_dir(b->db, tree), whole) : NULL;
	if (!r) {
		errno = ENOMEM;
		return mounted_fail("the batch could not grow");
	}
	to = b->buf + b->used;
	memcpy(to, &rec, sizeof(rec));
	memcpy(to + sizeof(rec), key, key_len);
	if (bytes)
		memcpy(to + sizeof(rec) + key_len, value, bytes);
	memset(to + sizeof(rec) + key_len + bytes, 0, whole - sizeof(rec) - key_len - bytes);
	b->used += whole;
	b->count++;
	r->bytes += whole;
	r->count++;
	return 0;
}

int mounted_batch_put(kv_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
		      size_t value_len)
{
	return add(batch_of(b), tree, key, key_len, value, value_len);
}

int mounted_batch_del(kv_batch *b, kv_tree *tree, const void *key, size_t key_len)
{
	return add(batch_of(b), tree, key, key_len, NULL, KVFS_REC_DELETE);
}

size_t mounted_batch_count(const kv_batch *b)
{
	return ((const struct mounted_batch *)b)->count;
}

int mounted_batch_commit(kv_batch *b, uint32_t flags)
{
	struct mounted_batch *batch = batch_of(b);
	size_t i;

	for (i = 0; i < batch->runs_nr; i++) {
		const struct run *r = &batch->runs[i];
		struct kvfs_batch a = { .size = sizeof(a), .flags = mounted_flags(flags) & KVFS_PUT_SYNC,
					.buf = mounted_pointer(batch->buf + r->begin), .buf_len = r->bytes,
					.count = r->count };

		if (ioctl(r->dir, KVFS_IOC_BATCH, &a))
			return mounted_fail("the batch could not be stored");
	}
	mounted_batch_clear(b);
	return 0;
}

void mounted_batch_clear(kv_batch *b)
{
	struct mounted_batch *batch = batch_of(b);

	batch->used = 0;
	batch->count = 0;
	batch->runs_nr = 0;
}

void mounted_batch_free(kv_batch *b)
{
	struct mounted_batch *batch = batch_of(b);

	if (!batch)
		return;
	free(batch->buf);
	free(batch->runs);
	free(batch);
}
