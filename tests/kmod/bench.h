/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.h - what bench.c and bench_latency.c share.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>

#define BENCH_VALUE_BYTES ((size_t)100)

/* Sorts; share 0.5 is the median. */
double bench_quantile(double *values, size_t nr, double share);

/* Latency of calls on the KVFS mount at path, with each of these numbers of keys. Prints a table. */
void bench_latency(const char *path, char *const *counts, int nr);

#endif
