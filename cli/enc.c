/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * enc.c - keys and values as text, both ways: auto, escape, hex, base64, raw. And the checkers that
 * work in pieces (UTF-8, base64), because no value need fit in memory.
 *
 * Decisions
 * - escape: printable ASCII as it is, a backslash doubled, every other byte \xNN. It is reversible
 * and needs no look-ahead, so it streams.
 * - auto: an argument is taken literally. Output is raw when it is printable UTF-8 without control
 *   characters, else escaped. That is for people; for exact round trips there are the other modes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

bool bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n > b->cap - b->n || !b->p) {
		size_t cap = b->cap ? b->cap : 64;
		uint8_t *q;

		while (cap - b->n < n) {
			if (cap > SIZE_MAX / 2)
				return false;
			cap *= 2;
		}
		q = realloc(b->p, cap);
		if (!q)
			return false;
		b->p = q;
		b->cap = cap;
	}
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	return true;
}

void bytes_free(struct bytes *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

/* ---- UTF-8 ------------------------------------------------------------------------------- */

static void utf8_first(struct utf8 *u, uint8_t c)
{
	u->lo = 0x80;
	u->hi = 0xbf;
	u->lead = c;
	if (c < 0x80) {
		if (c < 0x20 || c == 0x7f)
			u->control = true;
	} else if (c >= 0xc2 && c <= 0xdf) {
		u->need = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		u->need = 2;
		if (c == 0xe0)
			u->lo = 0xa0; /* no overlong form */
		else if (c == 0xed)
			u->hi = 0x9f; /* no surrogate */
	} else if (c >= 0xf0 && c <= 0xf4) {
		u->need = 3;
		if (c == 0xf0)
			u->lo = 0x90;
		else if (c == 0xf4)
			u->hi = 0x8f; /* not above U+10FFFF */
	} else {
		u->bad = true;
	}
}

/* Eight bytes of ASCII, and (unless one was seen already) none of them a control character? */
static bool utf8_plain8(const struct utf8 *u, const uint8_t *p)
{
	const uint64_t ones = 0x0101010101010101ull, tops = ones << 7;
	uint64_t x, del;

	memcpy(&x, p, sizeof(x));
	if (x & tops)
		return false;
	if (u->control)
		return true;
	del = x ^ (ones * 0x7f);
	/* classic tests for a byte below 0x20 and a zero byte; exact when no top bit is set */
	return !((x - ones * 0x20) & tops) && !((del - ones) & ~del & tops);
}

void utf8_feed(struct utf8 *u, const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && !u->bad) {
		uint8_t c;

		if (!u->need) {
			while (n - i >= 8 && utf8_plain8(u, p + i))
				i += 8;
			if (i == n)
				break;
			utf8_first(u, p[i++]);
			continue;
		}
		c = p[i++];
		if (c < u->lo || c > u->hi) {
			u->bad = true;
			break;
		}
		if (u->lead == 0xc2 && c < 0xa0)
			u->control = true; /* U+0080 to U+009F */
		u->lo = 0x80;
		u->hi = 0xbf;
		u->need--;
	}
}

/* ---- base64 and hex ------------------------------------------------------------------------ */

static const char b64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int b64_digit(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

ptrdiff_t b64_feed(struct b64_dec *d, const uint8_t *p, size_t n, uint8_t *dst)
{
	uint8_t *to = dst;
	size_t i;

	for (i = 0; i < n; i++) {
		int v = 0;

		if (p[i] == '=') {
			if (d->n < 2)
				return -1;
			d->pad++;
		} else {
			v = b64_digit(p[i]);
			if (v < 0 || d->pad)
				return -1;
		}
		d->acc = d->acc << 6 | (uint32_t)v;
		if (++d->n < 4)
			continue;
		/* bits that belong to no byte must be zero, or two texts would mean one value */
		if (d->acc & (d->pad == 2 ? 0xffff : d->pad ? 0xff : 0))
			return -1;
		*to++ = d->acc >> 16;
		if (d->pad < 2)
			*to++ = d->acc >> 8;
		if (d->pad < 1)
			*to++ = d->acc;
		d->acc = 0;
		d->n = 0;
		/* d->pad stays: nothing may follow padding but the end */
	}
	return to - dst;
}

int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* ---- arguments ----------------------------------------------------------------------------- */

int enc_mode_parse(const char *name)
{
	static const char *const names[] = { "auto", "escape", "hex", "base64", "raw" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return (int)i;
	return -1;
}

/* One escape after the backslash at s[0]; returns its length, 0 if it is none. */
static size_t escape_one(const char *s, uint8_t *byte)
{
	int hi, lo;

	switch (s[1]) {
	case '\\':
		*byte = '\\';
		return 2;
	case 'n':
		*byte = '\n';
		return 2;
	case 'r':
		*byte = '\r';
		return 2;
	case 't':
		*byte = '\t';
		return 2;
	case 'x':
		hi = hex_digit(s[2]);
		lo = hi < 0 ? -1 : hex_digit(s[3]);
		if (lo < 0)
			return 0;
		*byte = (uint8_t)(hi << 4 | lo);
		return 4;
	}
	return 0;
}

static const char *decode_escape(const char *arg, struct bytes *out)
{
	while (*arg) {
		size_t n = strcspn(arg, "\\");
		uint8_t byte;

		if (!bytes_add(out, arg, n))
			return "out of memory";
		arg += n;
		if (!*arg)
			break;
		n = escape_one(arg, &byte);
		if (!n)
			return "a backslash must begin \\\\, \\n, \\r, \\t or \\xNN";
		if (!bytes_add(out, &byte, 1))
			return "out of memory";
		arg += n;
	}
	return NULL;
}

static const char *decode_hex(const char *arg, struct bytes *out)
{
	for (; *arg; arg += 2) {
		int hi = hex_digit(arg[0]), lo = hi < 0 ? -1 : hex_digit(arg[1]);
		uint8_t byte;

		if (lo < 0)
			return "not pairs of hexadecimal digits";
		byte = (uint8_t)(hi << 4 | lo);
		if (!bytes_add(out, &byte, 1))
			return "out of memory";
	}
	return NULL;
}

static const char *decode_base64(const char *arg, struct bytes *out)
{
	struct b64_dec d = { 0 };
	uint8_t piece[48 + 3];
	size_t left = strlen(arg);

	while (left) {
		size_t n = left < 64 ? left : 64;
		ptrdiff_t got = b64_feed(&d, (const uint8_t *)arg, n, piece);

		if (got < 0)
			return "not base64";
		if (!bytes_add(out, piece, (size_t)got))
			return "out of memory";
		arg += n;
		left -= n;
	}
	return b64_whole(&d) ? NULL : "base64 that ends early (padding with = is needed)";
}

const char *enc_decode(enum enc_mode mode, const char *arg, struct bytes *out)
{
	if (!bytes_add(out, "", 0))
		return "out of memory";
	switch (mode) {
	case ENC_ESCAPE:
		return decode_escape(arg, out);
	case ENC_HEX:
		return decode_hex(arg, out);
	case ENC_BASE64:
		return decode_base64(arg, out);
	case ENC_AUTO:
	case ENC_RAW:
		break;
	}
	return bytes_add(out, arg, strlen(arg)) ? NULL : "out of memory";
}

/* ---- output -------------------------------------------------------------------------------- */

enum enc_mode enc_resolve(enum enc_mode mode, const struct utf8 *u)
{
	if (mode != ENC_AUTO)
		return mode;
	return utf8_whole(u) && !u->control ? ENC_RAW : ENC_ESCAPE;
}

static const char hex_digits[] = "0123456789abcdef";

static bool escape_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '\\';
}

static void put_escape(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t from = i;

		while (i < n && escape_plain(p[i]))
			i++;
		out_bytes(p + from, i - from);
		if (i == n)
			break;
		if (p[i] == '\\') {
			out_bytes("\\\\", 2);
		} else {
			char hex[4] = { '\\', 'x', hex_digits[p[i] >> 4], hex_digits[p[i] & 15] };

			out_bytes(hex, 4);
		}
		i++;
	}
}

static void put_hex(const uint8_t *p, size_t n)
{
	char text[512];
	size_t i, used = 0;

	for (i = 0; i < n; i++) {
		text[used++] = hex_digits[p[i] >> 4];
		text[used++] = hex_digits[p[i] & 15];
		if (used == sizeof(text)) {
			out_bytes(text, used);
			used = 0;
		}
	}
	out_bytes(text, used);
}

static void b64_group(const uint8_t *p, char *to)
{
	to[0] = b64_digits[p[0] >> 2];
	to[1] = b64_digits[(p[0] & 3) << 4 | p[1] >> 4];
	to[2] = b64_digits[(p[1] & 15) << 2 | p[2] >> 6];
	to[3] = b64_digits[p[2] & 63];
}

static void put_base64(struct enc_stream *s, const uint8_t *p, size_t n)
{
	char text[512];
	size_t used = 0;

	while (n) {
		if (s->carry_n || n < 3) {
			s->carry[s->carry_n++] = *p++;
			n--;
			if (s->carry_n < 3)
				continue;
			s->carry_n = 0;
			b64_group(s->carry, text + used);
		} else {
			b64_group(p, text + used);
			p += 3;
			n -= 3;
		}
		used += 4;
		if (used == sizeof(text)) {
			out_bytes(text, used);
			used = 0;
		}
	}
	out_bytes(text, used);
}

void enc_stream_put(struct enc_stream *s, const uint8_t *p, size_t n)
{
	switch (s->mode) {
	case ENC_ESCAPE:
		put_escape(p, n);
		break;
	case ENC_HEX:
		put_hex(p, n);
		break;
	case ENC_BASE64:
		put_base64(s, p, n);
		break;
	case ENC_AUTO:
	case ENC_RAW:
		out_bytes(p, n);
		break;
	}
}

void enc_stream_end(struct enc_stream *s)
{
	uint8_t last[3] = { 0 };
	char text[4];

	if (s->mode != ENC_BASE64 || !s->carry_n)
		return;
	memcpy(last, s->carry, s->carry_n);
	b64_group(last, text);
	text[3] = '=';
	if (s->carry_n == 1)
		text[2] = '=';
	out_bytes(text, 4);
	s->carry_n = 0;
}

void enc_put(enum enc_mode mode, const void *p, size_t n)
{
	struct enc_stream s = { .mode = mode };

	if (mode == ENC_AUTO) {
		struct utf8 u = { 0 };

		utf8_feed(&u, p, n);
		s.mode = enc_resolve(mode, &u);
	}
	enc_stream_put(&s, p, n);
	enc_stream_end(&s);
}

const char *enc_show(const void *p, size_t n, char *dst, size_t cap)
{
	const uint8_t *b = p;
	struct utf8 u = { 0 };
	size_t i, used = 0;
	bool raw;

	utf8_feed(&u, p, n);
	raw = utf8_whole(&u) && !u.control && n < cap - 4;
	for (i = 0; i < n; i++) {
		if (used + 8 > cap) {
			memcpy(dst + used, "...", 3);
			used += 3;
			break;
		}
		if (raw || escape_plain(b[i]))
			dst[used++] = (char)b[i];
		else
			used += (size_t)snprintf(dst + used, 5, "\\x%02x", b[i]);
	}
	dst[used] = 0;
	return dst;
}
