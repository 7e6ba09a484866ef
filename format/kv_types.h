/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kv_types.h - the few types and byte helpers that format/ needs.
 *
 * "kvp_arch.h" is supplied by each side of the port (engine/user/, kmod/) and gives: u8 u16 u32 u64
 * s32 s64 bool size_t, __le16 __le32 __le64 with le*_to_cpu and cpu_to_le*, memcpy memmove memset
 * memcmp strlen, kvp_xxh64(data, len, seed), kvp_xxh64_zeroed(data, len, off),
 * KVP_BUILD_BUG_ON. Nothing else may be used here.
 */
#ifndef KV_TYPES_H
#define KV_TYPES_H

#include "kvp_arch.h"

#define KVF_MIN(a, b) ((a) < (b) ? (a) : (b))
#define KVF_MAX(a, b) ((a) > (b) ? (a) : (b))
/* Round up / down to a power of two. */
#define KVF_ROUND_UP(x, a) (((x) + ((a)-1)) & ~((u64)(a)-1))
#define KVF_ROUND_DOWN(x, a) ((x) & ~((u64)(a)-1))

static inline bool kvf_is_zero(const void *p, size_t len)
{
	const u8 *b = p;
	size_t i;

	/* Each byte is like the one before it: memcmp looks at many at once. */
	if (len >= 64)
		return !b[0] && !memcmp(b, b + 1, len - 1);
	for (i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

/* Loads and stores that work at any alignment. */
static inline u16 kvf_get16(const void *p)
{
	__le16 v;

	memcpy(&v, p, sizeof(v));
	return le16_to_cpu(v);
}

static inline u32 kvf_get32(const void *p)
{
	__le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_to_cpu(v);
}

static inline u64 kvf_get64(const void *p)
{
	__le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_to_cpu(v);
}

/* Big-endian, for keys of system trees: they sort as numbers. */
static inline u32 kvf_get_be32(const void *p)
{
	const u8 *b = p;

	return (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
}

static inline void kvf_put_be32(void *p, u32 v)
{
	u8 *b = p;

	b[0] = v >> 24;
	b[1] = v >> 16;
	b[2] = v >> 8;
	b[3] = v;
}

static inline u64 kvf_get_be64(const void *p)
{
	return (u64)kvf_get_be32(p) << 32 | kvf_get_be32((const u8 *)p + 4);
}

static inline void kvf_put_be64(void *p, u64 v)
{
	kvf_put_be32(p, v >> 32);
	kvf_put_be32((u8 *)p + 4, v);
}

#endif
