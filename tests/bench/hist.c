/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* hist.c - latencies in log-linear slots: constant memory, a few instructions to add. */
#include "bench.h"

/* Slot i < 64 holds i ns; above, 64 slots share each power of two. */
static unsigned int slot_of(uint64_t ns)
{
	unsigned int shift, i;

	if (ns < BENCH_HIST_SUB)
		return (unsigned int)ns;
	shift = 63 - __builtin_clzll(ns) - 6;
	i = (shift + 1) * BENCH_HIST_SUB + (unsigned int)((ns >> shift) - BENCH_HIST_SUB);
	return i < BENCH_HIST_SLOTS ? i : BENCH_HIST_SLOTS - 1;
}

static uint64_t slot_ns(unsigned int i)
{
	unsigned int shift = i / BENCH_HIST_SUB;

	if (!shift)
		return i;
	return (uint64_t)(i % BENCH_HIST_SUB + BENCH_HIST_SUB) << (shift - 1);
}

void bench_hist_add(struct bench_hist *h, uint64_t ns)
{
	h->slots[slot_of(ns)]++;
	h->nr++;
	if (ns > h->max)
		h->max = ns;
}

void bench_hist_sub(struct bench_hist *h, uint64_t ns)
{
	h->slots[slot_of(ns)]--;
	h->nr--;
}

void bench_hist_merge(struct bench_hist *to, const struct bench_hist *from)
{
	unsigned int i;

	for (i = 0; i < BENCH_HIST_SLOTS; i++)
		to->slots[i] += from->slots[i];
	to->nr += from->nr;
	if (from->max > to->max)
		to->max = from->max;
}

double bench_hist_us(const struct bench_hist *h, double share)
{
	uint64_t below = (uint64_t)(share * (double)h->nr), seen = 0;
	unsigned int i;

	for (i = 0; i < BENCH_HIST_SLOTS; i++) {
		seen += h->slots[i];
		if (seen > below)
			return (double)slot_ns(i) / 1000;
	}
	return (double)h->max / 1000;
}

uint64_t bench_hist_above(const struct bench_hist *h, uint64_t ns)
{
	unsigned int i = slot_of(ns) + 1;
	uint64_t nr = 0;

	for (; i < BENCH_HIST_SLOTS; i++)
		nr += h->slots[i];
	return nr;
}
