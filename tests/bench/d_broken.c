/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * d_broken.c - kvs with a fault, in the test build of kvbench alone: bench.sh proves with it that a
 * wrong value ends a run. BENCH_FAULT chooses the fault:
 *
 *  flip     a bit of a value that get or multi-get gives is turned
 *  swap     get gives another key's value, whole
 *  miss     get finds nothing
 *  stale    a put is not done
 *  short    a batch lacks its last put
 *  skip     a scan lacks its last entry
 *  tear     a scan gives a value whose last byte is wrong
 *  inc      an increment is not done
 *  hog      open takes HOG_BYTES of memory
 *  bloat    open takes BLOAT_BYTES of the disk for a moment
 *
 * Unset: no fault. Scans and opens have it always; of other operations the first and then one
 * in FAULT_EVERY.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define FAULT_EVERY 7
#define HOG_BYTES ((size_t)128 << 20)
#define BLOAT_BYTES ((off_t)256 << 20)
#define BLOAT_US 350000

static bool chosen(const char *name)
{
	const char *fault = getenv("BENCH_FAULT");

	return fault && !strcmp(fault, name);
}

/* Is it this operation's turn to have the fault? */
static bool fault(const char *name)
{
	static uint64_t nr;

	return chosen(name) && __atomic_fetch_add(&nr, 1, __ATOMIC_RELAXED) % FAULT_EVERY == 0;
}

static void put(void *ctx, const struct bench_pair *p)
{
	if (!fault("stale"))
		bench_kvs.put(ctx, p);
}

static void put_batch(void *ctx, const struct bench_pair *p, unsigned int nr)
{
	bench_kvs.put_batch(ctx, p, fault("short") ? nr - 1 : nr);
}

static int64_t get(void *ctx, const void *key, uint32_t key_len, void *buf, uint32_t cap)
{
	char other[BENCH_KEY_LEN];
	int64_t len;

	if (fault("miss"))
		return -1;
	if (fault("swap")) {
		bench_key(other, 1, true);
		return bench_kvs.get(ctx, other, sizeof(other), buf, cap);
	}
	len = bench_kvs.get(ctx, key, key_len, buf, cap);
	if (len > 0 && fault("flip"))
		((char *)buf)[len / 2] ^= 0x10;
	return len;
}

static void mget(void *ctx, const char *keys, unsigned int nr, char *bufs, uint32_t cap, int64_t *lens)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		lens[i] = get(ctx, keys + (size_t)i * BENCH_KEY_LEN, BENCH_KEY_LEN,
			      bufs + (size_t)i * cap, cap);
}

/* The first entry of a scan, with a wrong last byte. */
static uint64_t give_torn(void *ctx, const void *from, uint32_t from_len, struct bench_scan *s)
{
	struct bench_scan first = { .val_len = s->val_len, .reverse = s->reverse };
	char key[BENCH_KEY_LEN], val[BENCH_VALUE_MAX];

	if (!bench_kvs.scan(ctx, from, from_len, 1, &first))
		return 0;
	bench_key(key, first.first_id, true);
	bench_value(val, s->val_len, first.first_id, 0);
	val[s->val_len - 1] ^= 1;
	bench_visit(s, key, sizeof(key), val, s->val_len);
	return 1;
}

static uint64_t scan(void *ctx, const void *from, uint32_t from_len, uint64_t max,
		     struct bench_scan *s)
{
	struct bench_scan whole = *s;

	if (chosen("tear"))
		return give_torn(ctx, from, from_len, s);
	if (chosen("skip"))
		max = bench_kvs.scan(ctx, from, from_len, max, &whole) - 1;
	return bench_kvs.scan(ctx, from, from_len, max, s);
}

static void counter_zero(void *ctx, const void *key, uint32_t key_len)
{
	bench_kvs.counter_zero(ctx, key, key_len);
}

static void counter_inc(void *ctx, const void *key, uint32_t key_len)
{
	if (!fault("inc"))
		bench_kvs.counter_inc(ctx, key, key_len);
}

static uint64_t counter_get(void *ctx, const void *key, uint32_t key_len)
{
	return bench_kvs.counter_get(ctx, key, key_len);
}

static void take_memory(void)
{
	static char *volatile taken; /* or gcc leaves it all out */

	taken = malloc(HOG_BYTES);
	if (!taken)
		bench_die("broken: out of memory");
	memset(taken, 1, HOG_BYTES);
}

static void take_disk(const char *dir)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/bloat", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	if (fd < 0 || posix_fallocate(fd, 0, BLOAT_BYTES))
		bench_die("broken: %s cannot be made", path);
	usleep(BLOAT_US);
	close(fd);
	unlink(path);
}

static void *d_open(const char *dir, const struct bench_opts *opts)
{
	if (chosen("hog"))
		take_memory();
	if (chosen("bloat"))
		take_disk(dir);
	return bench_kvs.open(dir, opts);
}

/* ---- without faults ---------------------------------------------------------------------------- */

static const char *version(void)
{
	return bench_kvs.version();
}

static void d_close(void *db)
{
	bench_kvs.close(db);
}

static void *ctx_open(void *db)
{
	return bench_kvs.ctx_open(db);
}

static void ctx_close(void *ctx)
{
	bench_kvs.ctx_close(ctx);
}

static void d_sync(void *db)
{
	bench_kvs.sync(db);
}

static uint64_t syncs(void *db)
{
	return bench_kvs.syncs(db);
}

const struct bench_ops bench_broken = {
	.name = "broken",
	.config = "kvs with a fault, for the test of kvbench",
	.version = version,
	.open = d_open,
	.close = d_close,
	.ctx_open = ctx_open,
	.ctx_close = ctx_close,
	.put = put,
	.put_batch = put_batch,
	.get = get,
	.mget = mget,
	.scan = scan,
	.counter_zero = counter_zero,
	.counter_inc = counter_inc,
	.counter_get = counter_get,
	.sync = d_sync,
	.syncs = syncs,
};
