/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * picks.c - tables of random key numbers, drawn before anything is measured: the same for every
 * engine, and no logarithms between two operations.
 */
#include <math.h>
#include <stdlib.h>

#include "bench.h"

static uint64_t spread_rank(uint64_t rank)
{
	struct bench_rng r = { rank };

	return bench_random(&r);
}

uint32_t *bench_picks_uniform(uint64_t nr)
{
	uint32_t *picks = malloc(BENCH_PICKS * sizeof(*picks));
	struct bench_rng r = { 7 };
	uint32_t i;

	for (i = 0; picks && i < BENCH_PICKS; i++)
		picks[i] = (uint32_t)(bench_random(&r) % nr);
	return picks;
}

/* J. Gray et al., "Quickly generating billion-record synthetic databases" (1994), as in YCSB. */
uint32_t *bench_picks_zipf(uint64_t nr, bool spread)
{
	uint32_t *picks = malloc(BENCH_PICKS * sizeof(*picks));
	const double theta = 0.99, two = 1 + pow(0.5, theta);
	const double alpha = 1 / (1 - theta);
	struct bench_rng r = { 8 };
	double zeta = 0, eta;
	uint64_t rank;
	uint32_t i;

	for (rank = 1; rank <= nr; rank++)
		zeta += 1 / pow((double)rank, theta);
	eta = (1 - pow(2.0 / (double)nr, 1 - theta)) / (1 - two / zeta);
	for (i = 0; picks && i < BENCH_PICKS; i++) {
		double u = (double)(bench_random(&r) >> 11) / 9007199254740992.0, uz = u * zeta;

		if (uz < 1)
			rank = 0;
		else if (uz < two)
			rank = 1;
		else
			rank = (uint64_t)((double)nr * pow(eta * u - eta + 1, alpha));
		picks[i] = (uint32_t)((spread ? spread_rank(rank) : rank) % nr);
	}
	return picks;
}
