/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * out.c - the one writer to standard output: bytes, text, JSON, and records described once and
 * printed as either.
 *
 * Invariants
 * - The first failure of write() is kept; later output is dropped; out_finish() tells it. So
 * commands ask out_failed() once an entry and need no check per call.
 * - Names in JSON are part of the interface (man page, section JSON).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvs.h"

static char out_buf[256 << 10];
static size_t out_used;
static int out_errno;

static void out_flush(void)
{
	size_t done = 0;

	while (done < out_used && !out_errno) {
		ssize_t n = write(STDOUT_FILENO, out_buf + done, out_used - done);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno != EINTR)
			out_errno = errno;
	}
	out_used = 0;
}

void out_bytes(const void *p, size_t n)
{
	const char *from = p;

	while (n && !out_errno) {
		size_t room = sizeof(out_buf) - out_used;
		size_t now = n < room ? n : room;

		memcpy(out_buf + out_used, from, now);
		out_used += now;
		from += now;
		n -= now;
		if (out_used == sizeof(out_buf))
			out_flush();
	}
}

void out_text(const char *s)
{
	out_bytes(s, strlen(s));
}

void out_fmt(const char *fmt, ...)
{
	char text[1024];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n > 0)
		out_bytes(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void out_line(void)
{
	static int terminal = -1;

	out_bytes("\n", 1);
	if (terminal < 0)
		terminal = isatty(STDOUT_FILENO);
	if (terminal)
		out_flush();
}

bool out_failed(void)
{
	return out_errno != 0;
}

int out_finish(int rc)
{
	out_flush();
	if (!out_errno)
		return rc;
	if (out_errno == EPIPE) /* the reader has seen enough */
		return rc;
	return kvs_complain(EXIT_SYSTEM, "standard output: %s; the output is incomplete",
			    strerror(out_errno));
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* The letter after the backslash; 'u' for \u00NN; 0: as it is. */
static char json_escape(uint8_t c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	}
	return c < 0x20 ? 'u' : 0;
}

void out_json_chars(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t from = i;
		char letter;

		while (i < n && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\')
			i++;
		out_bytes(p + from, i - from);
		if (i == n)
			break;
		letter = json_escape(p[i]);
		if (letter == 'u') {
			out_fmt("\\u%04x", p[i]);
		} else {
			char pair[2] = { '\\', letter };

			out_bytes(pair, 2);
		}
		i++;
	}
}

void out_json_string(const void *p, size_t n)
{
	out_bytes("\"", 1);
	out_json_chars(p, n);
	out_bytes("\"", 1);
}

void out_json_key(const void *key, size_t key_len)
{
	struct utf8 u = { 0 };

	utf8_feed(&u, key, key_len);
	if (utf8_whole(&u)) {
		out_text("\"key\":");
		out_json_string(key, key_len);
		return;
	}
	out_text("\"key_b64\":\"");
	enc_put(ENC_BASE64, key, key_len);
	out_text("\"");
}

/* ---- records ------------------------------------------------------------------------------- */

static uint64_t row_number(const struct row *row, const void *field)
{
	uint32_t v32;
	uint64_t v64;
	int v;

	switch (row->kind) {
	case ROW_U32:
	case ROW_BYTES32:
		memcpy(&v32, field, sizeof(v32));
		return v32;
	case ROW_BOOL:
		memcpy(&v, field, sizeof(v));
		return v != 0;
	default:
		memcpy(&v64, field, sizeof(v64));
		return v64;
	}
}

static void put_uuid(const uint8_t *u)
{
	int i;

	for (i = 0; i < 16; i++)
		out_fmt(i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", u[i]);
}

static void put_bytes(uint64_t n)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	int unit = 0;

	out_fmt("%llu", (unsigned long long)n);
	if (n < 1024)
		return;
	while (n >= 1024 * 1024 && unit < 4) {
		n /= 1024;
		unit++;
	}
	out_fmt(" (%llu.%llu %s)", (unsigned long long)(n / 1024),
		(unsigned long long)(n % 1024 * 10 / 1024), units[unit]);
}

static void row_put(bool json, const struct row *row, const void *field)
{
	uint64_t v;

	switch (row->kind) {
	case ROW_TEXT:
		if (json) {
			/* a label from a damaged volume may be anything: what is no UTF-8 is
			 * escaped */
			char shown[1024];

			enc_show(field, strlen(field), shown, sizeof(shown));
			out_json_string(shown, strlen(shown));
		} else {
			enc_put(ENC_AUTO, field, strlen(field));
		}
		break;
	case ROW_UUID:
		out_text(json ? "\"" : "");
		put_uuid(field);
		out_text(json ? "\"" : "");
		break;
	case ROW_BOOL:
		v = row_number(row, field);
		if (json)
			out_text(v ? "true" : "false");
		else
			out_text(v ? "yes" : "no");
		break;
	case ROW_BYTES:
	case ROW_BYTES32:
		if (!json) {
			put_bytes(row_number(row, field));
			break;
		}
		/* fallthrough */
	case ROW_U32:
	case ROW_U64:
		out_fmt("%llu", (unsigned long long)row_number(row, field));
		break;
	}
}

void out_rows(bool json, const struct row *rows, size_t rows_nr, const void *record)
{
	size_t i;
	int wide = 0;

	for (i = 0; i < rows_nr; i++) {
		int n = (int)strlen(rows[i].label);

		wide = n > wide ? n : wide;
	}
	if (json)
		out_text("{");
	for (i = 0; i < rows_nr; i++) {
		if (json)
			out_fmt("%s\n  \"%s\": ", i ? "," : "", rows[i].name);
		else
			out_fmt("%s:%*s ", rows[i].label, wide - (int)strlen(rows[i].label), "");
		row_put(json, &rows[i], (const char *)record + rows[i].offset);
		if (!json)
			out_line();
	}
	if (json) {
		out_text("\n}");
		out_line();
	}
}
