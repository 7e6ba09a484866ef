/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * suite.h - the main function of a libcheck program. The environment decides on output and timeouts
 * (CK_VERBOSITY, CK_TAP_LOG_FILE_NAME, CK_DEFAULT_TIMEOUT, CK_RUN_CASE).
 */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <check.h>
#include <stdlib.h>

/* ThreadSanitizer is slow, and has nothing to say of tests with one thread. */
#ifdef __SANITIZE_THREAD__
#define SUITE_THREADS_ONLY 1
#else
#define SUITE_THREADS_ONLY 0
#endif

/* Runs the suite, which is freed then. Returns what main() returns. */
static inline int suite_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
