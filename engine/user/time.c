// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * time.c - clocks and chance; both can be fixed, so that tests and worked examples get the same
 * image each time. The monotonic clock is never fixed: it measures waits, and a wait must end.
 */
#include "port.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static u64 fixed_ns;
static pthread_mutex_t seeded_lock = PTHREAD_MUTEX_INITIALIZER;
static u64 seeded_state; /* under seeded_lock */
static bool seeded;	 /* changed under seeded_lock */

void kvp_fix_time(u64 ns)
{
	kvp_store(&fixed_ns, ns);
}

void kvp_fix_random(u64 seed)
{
	pthread_mutex_lock(&seeded_lock);
	seeded_state = seed;
	kvp_store(&seeded, seed != 0);
	pthread_mutex_unlock(&seeded_lock);
}

static u64 clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

u64 kvp_now_ns(void)
{
	u64 ns = kvp_load(&fixed_ns);

	return ns ? ns : clock_ns(CLOCK_REALTIME);
}

u64 kvp_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void fill_random(u64 *state, u8 *to, size_t bytes)
{
	size_t part;
	u64 z;

	for (; bytes; to += part, bytes -= part) {
		z = next_random(state);
		part = bytes < sizeof(z) ? bytes : sizeof(z);
		memcpy(to, &z, part);
	}
}

void kvp_random(void *buf, size_t bytes)
{
	u8 *to = buf;
	u64 state;
	ssize_t n;

	if (kvp_load(&seeded)) {
		pthread_mutex_lock(&seeded_lock);
		fill_random(&seeded_state, to, bytes);
		pthread_mutex_unlock(&seeded_lock);
		return;
	}
	while (bytes) {
		n = getrandom(to, bytes, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		to += n;
		bytes -= (size_t)n;
	}
	if (bytes == 0)
		return;
	/*
	 * A sandbox forbids the call. What is made of chance here (UUIDs, incarnations) has to be
	 * different, not secret.
	 */
	state = clock_ns(CLOCK_REALTIME) ^ clock_ns(CLOCK_MONOTONIC) << 20 ^ (u64)getpid() << 40 ^
		(u64)(uintptr_t)&state;
	fill_random(&state, to, bytes);
}
