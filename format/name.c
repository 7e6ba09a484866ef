/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* name.c - names of trees: UTF-8 (RFC 3629) without control characters. */
#include "kvf.h"

/* Bytes of the UTF-8 sequence at s, of which len bytes are there; 0: it is none. */
static u32 utf8_len(const u8 *s, u32 len)
{
	u32 c = s[0], least, n, i;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n > len)
		return 0;
	least = n == 2 ? 0x80 : n == 3 ? 0x800 : 0x10000;
	c &= 0x7fu >> n;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

int kvf_tree_name_verify(const void *name, u32 len)
{
	const u8 *s = name;
	u32 i, n;

	if (!len || len > KVF_TREE_NAME_MAX)
		return KVF_F_forest_key;
	for (i = 0; i < len; i += n) {
		n = utf8_len(s + i, len - i);
		if (!n || s[i] < 0x20 || s[i] == 0x7f)
			return KVF_F_forest_key;
	}
	return 0;
}
