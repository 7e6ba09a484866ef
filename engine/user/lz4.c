// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * lz4.c - LZ4 blocks by liblz4. The kernel has its own; both read what the other wrote, but need
 * not write the same bytes. The input of decompress is hostile: the safe variant checks all of it.
 */
#include "port.h"

#include <lz4.h>

u32 kvp_lz4_compress(const void *src, u32 len, void *dst, u32 cap)
{
	int n;

	if (len == 0 || len > LZ4_MAX_INPUT_SIZE)
		return 0;
	if (cap > INT32_MAX)
		cap = INT32_MAX;
	n = LZ4_compress_default(src, dst, (int)len, (int)cap);
	return n > 0 ? (u32)n : 0;
}

u32 kvp_lz4_decompress(const void *src, u32 len, void *dst, u32 cap)
{
	int n;

	if (len == 0 || len > INT32_MAX)
		return 0;
	if (cap > INT32_MAX)
		cap = INT32_MAX;
	n = LZ4_decompress_safe(src, dst, (int)len, (int)cap);
	return n > 0 ? (u32)n : 0;
}
