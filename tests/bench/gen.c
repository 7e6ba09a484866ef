/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gen.c - keys and values, the same for every engine and round.
 *
 * A value is computed word by word from its key's number with one multiplication each:
 * incompressible for any packer that does not know the formula, and cheap enough (about 1 ns a
 * word, no table in the processor's cache) that every value read is verified in full.
 */
#include "bench.h"

#define WORD_STEP 0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	x ^= x >> 33;
	return x;
}

uint64_t bench_key_order(uint64_t id)
{
	return mix(id + 1);
}

void bench_key(void *key, uint64_t id, bool hashed)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t x = hashed ? bench_key_order(id) : id;
	char *k = key;
	int i;

	for (i = BENCH_KEY_LEN - 1; i >= 0; i--) {
		k[i] = digits[x & 15];
		x >>= 4;
	}
}

static inline uint64_t word(uint64_t seed, uint32_t offset)
{
	uint64_t w = seed + offset * WORD_STEP;

	w = (w ^ (w >> 32)) * 0xd6e8feb86659fd93ull;
	return w ^ (w >> 32);
}

void bench_value(void *val, uint32_t len, uint64_t id, uint64_t salt)
{
	uint64_t seed = mix(id ^ mix(salt)), w = bench_tail(id, salt);
	char *v = val;
	uint32_t o;

	memcpy(v, &id, 8);
	memcpy(v + len - 8, &w, 8);
	for (o = 8; o + 8 <= len - 8; o += 8) {
		w = word(seed, o);
		memcpy(v + o, &w, 8);
	}
	w = word(seed, o);
	memcpy(v + o, &w, len - 8 - o);
}

bool bench_value_ok(const void *val, uint32_t len, uint64_t id, uint64_t salt)
{
	uint64_t seed = mix(id ^ mix(salt)), diff, w;
	const char *v = val;
	uint32_t o;

	memcpy(&w, v, 8);
	diff = w ^ id;
	memcpy(&w, v + len - 8, 8);
	diff |= w ^ bench_tail(id, salt);
	for (o = 8; o + 8 <= len - 8; o += 8) {
		memcpy(&w, v + o, 8);
		diff |= w ^ word(seed, o);
	}
	w = word(seed, o);
	return !diff && !memcmp(v + o, &w, len - 8 - o);
}

/* The inverse of bench_tail()'s odd factor, by Newton's iteration: each step doubles the right bits. */
static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;
	int i;

	for (i = 0; i < 5; i++)
		x *= 2 - odd * x;
	return x;
}

uint64_t bench_salt_of(const void *val, uint32_t len, uint64_t id)
{
	static uint64_t factor;
	uint64_t w;

	if (!__atomic_load_n(&factor, __ATOMIC_RELAXED))
		__atomic_store_n(&factor, inverse(0xff51afd7ed558ccdull), __ATOMIC_RELAXED);
	memcpy(&w, (const char *)val + len - 8, 8);
	return (w ^ bench_tail(id, 0)) * __atomic_load_n(&factor, __ATOMIC_RELAXED);
}

bool bench_entry_ok(const void *key, const void *val, uint32_t len)
{
	char want[BENCH_KEY_LEN];
	uint64_t id;

	memcpy(&id, val, 8);
	bench_key(want, id, true);
	return !memcmp(key, want, BENCH_KEY_LEN) &&
	       bench_value_ok(val, len, id, bench_salt_of(val, len, id));
}
