/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * print.c - numbers, hex and escaped bytes into a bounded buffer. See print.h.
 */
#include "print.h"

static const char hex_digits[] = "0123456789abcdef";

void kvf_print_init(struct kvf_print *p, char *buf, size_t size)
{
	p->buf = buf;
	p->size = size;
	p->len = 0;
	if (size)
		buf[0] = '\0';
}

void kvf_print_char(struct kvf_print *p, char c)
{
	if (p->len + 1 < p->size) {
		p->buf[p->len] = c;
		p->buf[p->len + 1] = '\0';
	}
	p->len++;
}

void kvf_print_str(struct kvf_print *p, const char *s)
{
	while (*s)
		kvf_print_char(p, *s++);
}

void kvf_print_dec(struct kvf_print *p, u64 v)
{
	char digits[20];
	unsigned int n = 0;

	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	while (n)
		kvf_print_char(p, digits[--n]);
}

void kvf_print_hex(struct kvf_print *p, u64 v, unsigned int digits)
{
	unsigned int n = 1;

	while (n < 16 && v >> (4 * n))
		n++;
	n = KVF_MAX(n, KVF_MIN(digits, 16u));
	while (n--)
		kvf_print_char(p, hex_digits[v >> (4 * n) & 15]);
}

void kvf_print_bytes(struct kvf_print *p, const void *bytes, size_t len)
{
	const u8 *b = bytes;
	size_t i;

	for (i = 0; i < len; i++)
		kvf_print_hex(p, b[i], 2);
}

void kvf_print_key(struct kvf_print *p, const void *key, size_t len)
{
	const u8 *b = key;
	size_t i;

	for (i = 0; i < len; i++) {
		if (b[i] < 0x20 || b[i] > 0x7e) {
			kvf_print_str(p, "\\x");
			kvf_print_hex(p, b[i], 2);
			continue;
		}
		if (b[i] == '\\')
			kvf_print_char(p, '\\');
		kvf_print_char(p, (char)b[i]);
	}
}

void kvf_print_uuid(struct kvf_print *p, const u8 uuid[16])
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			kvf_print_char(p, '-');
		kvf_print_hex(p, uuid[i], 2);
	}
}

void kvf_print_label(struct kvf_print *p, const char *name)
{
	kvf_print_str(p, name);
	kvf_print_str(p, ": ");
}

void kvf_print_field_dec(struct kvf_print *p, const char *name, u64 v)
{
	kvf_print_label(p, name);
	kvf_print_dec(p, v);
	kvf_print_char(p, '\n');
}

void kvf_print_field_hex(struct kvf_print *p, const char *name, u64 v, unsigned int digits)
{
	kvf_print_label(p, name);
	kvf_print_str(p, "0x");
	kvf_print_hex(p, v, digits);
	kvf_print_char(p, '\n');
}

void kvf_print_field_str(struct kvf_print *p, const char *name, const char *s)
{
	kvf_print_label(p, name);
	kvf_print_str(p, s);
	kvf_print_char(p, '\n');
}
