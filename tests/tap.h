/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tap.h - TAP output for test programs that are not libcheck suites: machines that judge millions of
 * states and report a few results. Header only; one thread prints.
 *
 *	tap_ok(violations == 0, "C2: %llu crash states, %llu violations", states, violations);
 *	return tap_done();
 *
 * A program that ends before tap_done() has printed no plan, and so has failed.
 */
#ifndef KV_TESTS_TAP_H
#define KV_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count;
static int tap_failed;

/* One check; returns ok. The text names the row or clause that it shows. */
__attribute__((format(printf, 2, 3), unused)) static bool tap_ok(bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", ok ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	if (!ok)
		tap_failed++;
	return ok;
}

/* A remark that is no check: figures, seeds, how to repeat a failure. */
__attribute__((format(printf, 1, 2), unused)) static void tap_diag(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

/* Less work asked for: sanitizer builds and 'make distcheck'. The full figures come without it. */
__attribute__((unused)) static bool tap_quick(void)
{
	const char *quick = getenv("KV_TEST_QUICK");

	return quick && strcmp(quick, "0") != 0;
}

/* The plan, and the exit code of the program. */
__attribute__((unused)) static int tap_done(void)
{
	printf("1..%d\n", tap_count);
	fflush(stdout);
	return tap_failed || !tap_count ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
