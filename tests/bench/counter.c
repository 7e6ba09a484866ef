/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * counter.c - counters for engines that have no increment: a value of 8 bytes, read and written under
 * one of a few locks, chosen by the key, so that different counters do not wait for each other.
 */
#include <pthread.h>

#include "bench.h"

#define STRIPE_BITS 6

static pthread_mutex_t locks[1 << STRIPE_BITS] = {
	[0 ... (1 << STRIPE_BITS) - 1] = PTHREAD_MUTEX_INITIALIZER
};

static pthread_mutex_t *lock_of(const void *key)
{
	uint64_t tail;

	memcpy(&tail, (const char *)key + BENCH_KEY_LEN - 8, 8);
	return &locks[(tail * 0x9e3779b97f4a7c15ull) >> (64 - STRIPE_BITS)];
}

static void put_count(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len,
		      uint64_t count)
{
	struct bench_pair p = { key, &count, key_len, sizeof(count) };

	ops->put(ctx, &p);
}

void bench_counter_zero(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len)
{
	if (ops->counter_zero)
		ops->counter_zero(ctx, key, key_len);
	else
		put_count(ops, ctx, key, key_len, 0);
}

uint64_t bench_counter_get(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len)
{
	uint64_t count;

	if (ops->counter_get)
		return ops->counter_get(ctx, key, key_len);
	if (ops->get(ctx, key, key_len, &count, sizeof(count)) != sizeof(count))
		bench_die("%s: the counter has gone", ops->name);
	return count;
}

void bench_counter_inc(const struct bench_ops *ops, void *ctx, const void *key, uint32_t key_len)
{
	pthread_mutex_t *lock = lock_of(key);

	if (ops->counter_inc) {
		ops->counter_inc(ctx, key, key_len);
		return;
	}
	pthread_mutex_lock(lock);
	put_count(ops, ctx, key, key_len, bench_counter_get(ops, ctx, key, key_len) + 1);
	pthread_mutex_unlock(lock);
}
