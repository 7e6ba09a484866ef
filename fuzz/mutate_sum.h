/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mutate_sum.h - what AFL++ calls in mutate_sum.c (custom_mutators.md; AFL++ has no header of its own for
 * this), for programs that make mutated images without AFL++.
 */
#ifndef KV_FUZZ_MUTATE_SUM_H
#define KV_FUZZ_MUTATE_SUM_H

#include <stddef.h>

#include "../format/kvf.h"

void *afl_custom_init(void *afl, unsigned int seed);
/* *out is the mutator's until the next call. */
size_t afl_custom_fuzz(void *data, u8 *buf, size_t len, u8 **out, u8 *add, size_t add_len, size_t max);
size_t afl_custom_post_process(void *data, u8 *buf, size_t len, u8 **out);
void afl_custom_deinit(void *data);

#endif
