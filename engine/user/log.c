// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * log.c - messages: the log callback, the last error of each thread, and the end of a failed
 * assertion.
 */
#include "port.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char error_text[KVP_ERROR_BYTES];

char *kvp_error_text(void)
{
	return error_text;
}

static const char *level_name(int level)
{
	switch (level) {
	case KVP_LOG_ERROR:
		return "error";
	case KVP_LOG_WARN:
		return "warning";
	case KVP_LOG_INFO:
		return "info";
	default:
		return "debug";
	}
}

void kvp_log(const struct kvp_log *log, int level, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	if (level > (log ? log->level : KVP_LOG_WARN))
		return;
	if ((!log || !log->fn) && level > KVP_LOG_WARN)
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (log && log->fn)
		log->fn(log->arg, level, message);
	else
		fprintf(stderr, "kvengine: %s: %s\n", level_name(level), message);
}

int kvp_vsnprintf(char *buf, size_t len, const char *fmt, va_list ap)
{
	return vsnprintf(buf, len, fmt, ap);
}

int kvp_snprintf(char *buf, size_t len, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, len, fmt, ap);
	va_end(ap);
	return n;
}

int kvp_fail(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, ap);
	va_end(ap);
	return err;
}

int kvp_fail_errno(int err, const char *name, const char *what, u64 off, u64 len, int errno_)
{
	char buf[128];
	const char *text = strerror_r(errno_, buf, sizeof(buf)); /* the GNU one: returns the text */

	if (len)
		return kvp_fail(err, "%s: %s, %llu bytes at offset %llu: %s", name, what, len, off,
				text);
	return kvp_fail(err, "%s: %s: %s", name, what, text);
}

_Noreturn void kvp_assert_failed(const char *file, int line, const char *cond)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
	abort();
}
