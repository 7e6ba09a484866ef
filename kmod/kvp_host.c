// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kvp_host.c - clocks, chance, messages, compression and error numbers of the kernel port.
 */
#define pr_fmt(fmt) "kvfs: " fmt

#include <linux/errno.h>
#include <linux/ktime.h>
#include <linux/lz4.h>
#include <linux/printk.h>
#include <linux/random.h>
#include <linux/ratelimit.h>
#include <linux/spinlock.h>

#include "port.h"
#include "../format/kvf.h"
#include "../engine/include/kvengine.h"
#include "../kvfs/kvfs.h"

static u64 fixed_ns, seeded_state;
static bool seeded;
static DEFINE_SPINLOCK(seeded_lock);

void kvp_fix(u64 time_ns, u64 seed)
{
	spin_lock(&seeded_lock);
	WRITE_ONCE(fixed_ns, time_ns);
	seeded_state = seed;
	WRITE_ONCE(seeded, seed != 0);
	spin_unlock(&seeded_lock);
}

bool kvp_fixed(void)
{
	return READ_ONCE(fixed_ns) || READ_ONCE(seeded);
}

u64 kvp_now_ns(void)
{
	u64 ns = READ_ONCE(fixed_ns);

	return ns ? ns : ktime_get_real_ns();
}

u64 kvp_monotonic_ns(void)
{
	return ktime_get_ns();
}

/* splitmix64, as in user space: the same seed gives the same image. */
static u64 next_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void kvp_random(void *buf, size_t bytes)
{
	u8 *to = buf;
	size_t part;
	u64 z;

	if (!READ_ONCE(seeded)) {
		get_random_bytes(buf, bytes);
		return;
	}
	spin_lock(&seeded_lock);
	for (; bytes; to += part, bytes -= part) {
		z = next_random(&seeded_state);
		part = bytes < sizeof(z) ? bytes : sizeof(z);
		memcpy(to, &z, part);
	}
	spin_unlock(&seeded_lock);
}

/* ---- messages ------------------------------------------------------------------------------------ */

/* The text of an error goes to the log: a system call returns a number only. */
char *kvp_error_text(void)
{
	return NULL;
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

void kvp_log(const struct kvp_log *log, int level, const char *fmt, ...)
{
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 50);
	struct va_format vaf = { .fmt = fmt };
	va_list ap;

	if (level > (log ? log->level : KVP_LOG_WARN) || !__ratelimit(&limit))
		return;
	va_start(ap, fmt);
	vaf.va = &ap;
	switch (level) {
	case KVP_LOG_ERROR:
		pr_err("%pV\n", &vaf);
		break;
	case KVP_LOG_WARN:
		pr_warn("%pV\n", &vaf);
		break;
	default:
		pr_info("%pV\n", &vaf);
	}
	va_end(ap);
}

int kvp_errno(int err)
{
	return err < 0 ? kvfs_errno(kvf_err_class(err)) : err;
}

/* ---- compression --------------------------------------------------------------------------------- */

u32 kvp_lz4_compress(const void *src, u32 len, void *dst, u32 cap)
{
	void *work;
	int n;

	if (!len || len > LZ4_MAX_INPUT_SIZE)
		return 0;
	work = kvp_alloc(LZ4_MEM_COMPRESS, 0);
	if (!work)
		return 0; /* stored as it is */
	n = LZ4_compress_default(src, dst, (int)len, (int)min_t(u32, cap, INT_MAX), work);
	kvp_free(work);
	return n > 0 ? (u32)n : 0;
}

u32 kvp_lz4_decompress(const void *src, u32 len, void *dst, u32 cap)
{
	int n;

	if (!len || len > INT_MAX)
		return 0;
	n = LZ4_decompress_safe(src, dst, (int)len, (int)min_t(u32, cap, INT_MAX));
	return n > 0 ? (u32)n : 0;
}
