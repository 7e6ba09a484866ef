/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* explain.h - for targets: explain and map on any bytes; aborts at an answer that makes no sense. */
#ifndef FUZZ_EXPLAIN_H
#define FUZZ_EXPLAIN_H

#include "../format/kv_types.h"

void fuzz_explain(const u8 *image, size_t len);

#endif
