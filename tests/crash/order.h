/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * order.h - M0, the order checker: reads a trace of device operations with the eyes of format/ alone
 * and asserts on each write that nothing durable which may still be needed is harmed.
 */
#ifndef TESTS_ORDER_H
#define TESTS_ORDER_H

#include "tests/crash/simdev.h"

/*
 * base: the medium before the first event of the trace, all durable. 0, or the number of the event
 * (from 1) that breaks a rule, explained in why.
 */
size_t order_check(const struct sim *trace, const u8 *base, u64 base_size, char *why, size_t why_len);

#endif
