/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * print.h - a bounded printer for the to_text functions: format/ has no libc.
 *
 * It never writes beyond the buffer, always terminates it (if it has a byte at all) and counts what it
 * would have written, as snprintf does. Thread-safe: all state is in struct kvf_print.
 */
#ifndef KVF_PRINT_H
#define KVF_PRINT_H

#include "kv_types.h"

struct kvf_print {
	char *buf;
	size_t size; /* bytes of buf */
	size_t len; /* bytes that all the text needs, without the terminator */
};

void kvf_print_init(struct kvf_print *p, char *buf, size_t size);
void kvf_print_char(struct kvf_print *p, char c);
void kvf_print_str(struct kvf_print *p, const char *s);
void kvf_print_dec(struct kvf_print *p, u64 v);
/* Without "0x", padded with zeros to digits (0: none). */
void kvf_print_hex(struct kvf_print *p, u64 v, unsigned int digits);
/* Bytes as two hex digits each. */
void kvf_print_bytes(struct kvf_print *p, const void *bytes, size_t len);
/* Printable ASCII as is, backslash doubled, all else \xNN. */
void kvf_print_key(struct kvf_print *p, const void *key, size_t len);
/* 8-4-4-4-12 */
void kvf_print_uuid(struct kvf_print *p, const u8 uuid[16]);
/* A line "name: " and its value. */
void kvf_print_field_dec(struct kvf_print *p, const char *name, u64 v);
void kvf_print_field_hex(struct kvf_print *p, const char *name, u64 v, unsigned int digits);
void kvf_print_field_str(struct kvf_print *p, const char *name, const char *s);
/* "name: " without the value: the caller prints it and the line end. */
void kvf_print_label(struct kvf_print *p, const char *name);

#endif
