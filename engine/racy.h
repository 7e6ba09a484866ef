/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * racy.h - named access to memory that another thread may be changing.
 *
 * Readers without a lock (node.c for pages, value_cache.c for values) read through these, and what they read
 * means nothing before the version of the frame or slab has been validated. ThreadSanitizer does not look
 * into them, as the race is meant; byte by byte, so that it does not meet it in memcmp and memcpy either.
 */
#ifndef KVE_RACY_H
#define KVE_RACY_H

#include "kvp.h"

#ifdef __SANITIZE_THREAD__
#define KVE_RACY __attribute__((noinline, no_sanitize("thread"), unused)) static

KVE_RACY u16 kve_racy_16(const __le16 *p)
{
	return le16_to_cpu(*(const volatile __le16 *)p);
}

KVE_RACY u32 kve_racy_32(const __le32 *p)
{
	return le32_to_cpu(*(const volatile __le32 *)p);
}

KVE_RACY u64 kve_racy_64(const __le64 *p)
{
	return le64_to_cpu(*(const volatile __le64 *)p);
}

KVE_RACY int kve_racy_cmp(const u8 *racy, const u8 *b, u32 len)
{
	u32 i;

	for (i = 0; i < len; i++) {
		int d = (int)((const volatile u8 *)racy)[i] - (int)b[i];

		if (d)
			return d;
	}
	return 0;
}

KVE_RACY void kve_racy_copy(void *dst, const void *racy, u32 len)
{
	u32 i;

	for (i = 0; i < len; i++)
		((volatile u8 *)dst)[i] = ((const volatile u8 *)racy)[i];
}
#else
static inline u16 kve_racy_16(const __le16 *p)
{
	return le16_to_cpu(kvp_load(p));
}

static inline u32 kve_racy_32(const __le32 *p)
{
	return le32_to_cpu(kvp_load(p));
}

static inline u64 kve_racy_64(const __le64 *p)
{
	return le64_to_cpu(kvp_load(p));
}

static inline int kve_racy_cmp(const u8 *racy, const u8 *b, u32 len)
{
	return memcmp(racy, b, len);
}

static inline void kve_racy_copy(void *dst, const void *racy, u32 len)
{
	memcpy(dst, racy, len);
}
#endif

#endif
