/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mutate_sum.c - AFL++ custom mutator for images of volumes.
 *
 * afl_custom_post_process mends the checksums of whatever AFL++ made (mend.c), just before the target
 * sees it. afl_custom_fuzz changes fields where somebody reads them: an image is mostly zeros and dead
 * bytes, which blind changes hit most of the time. Everything follows from AFL++'s seed.
 */
#include <stdlib.h>

#include "mend.h"
#include "mutate_sum.h"

struct mutator {
	u64 rng;
	struct mend mend;
	_Alignas(8) u8 fuzzed[MEND_BYTES_MAX];
	_Alignas(8) u8 mended[MEND_BYTES_MAX];
};

static u32 rnd(struct mutator *m, u32 n)
{
	m->rng ^= m->rng << 13;
	m->rng ^= m->rng >> 7;
	m->rng ^= m->rng << 17;
	return (u32)((m->rng >> 11) % n);
}

void *afl_custom_init(void *afl, unsigned int seed)
{
	struct mutator *m = calloc(1, sizeof(*m));

	(void)afl;
	if (m)
		m->rng = 0x9e3779b97f4a7c15ull ^ ((u64)seed << 20 | 1);
	return m;
}

void afl_custom_deinit(void *data)
{
	free(data);
}

static u64 value_near(struct mutator *m, u64 v, u32 width)
{
	static const u64 edges[] = { 0, 1, 2, 7, 8, 15, 16, 64, 127, 128, 255, 256, 511, 512, 4095, 4096,
				     0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
				     0x100000000ull, ~0ull, ~0ull >> 1 };

	switch (rnd(m, 6)) {
	case 0:
		return v ^ 1ull << rnd(m, 8 * width);
	case 1:
		return v + rnd(m, 16) + 1;
	case 2:
		return v - rnd(m, 16) - 1;
	case 3:
		return edges[rnd(m, sizeof(edges) / sizeof(edges[0]))];
	case 4:
		return m->rng;
	default:
		return v << 1;
	}
}

/* A number of 1, 2, 4 or 8 bytes in an area, aligned to its width as most fields are. */
static u8 *place(struct mutator *m, u32 width)
{
	const struct mend_area *a = &m->mend.areas[rnd(m, m->mend.areas_nr)];

	if (a->len < width)
		return NULL;
	return m->fuzzed + a->off + (rnd(m, a->len - width + 1) & ~(width - 1));
}

static void change(struct mutator *m)
{
	u32 width = 1u << rnd(m, 4);
	u8 *to = place(m, width), *from = place(m, width);
	u64 v = 0;

	if (!to || !from)
		return;
	/* now and then what stands in another place */
	memcpy(&v, rnd(m, 5) ? to : from, width);
	if (rnd(m, 5))
		v = value_near(m, v, width);
	memcpy(to, &v, width);
}

size_t afl_custom_fuzz(void *data, u8 *buf, size_t len, u8 **out, u8 *add, size_t add_len, size_t max)
{
	struct mutator *m = data;
	u32 n;

	(void)add;
	(void)add_len;
	if (len > sizeof(m->fuzzed) || len > max) {
		*out = buf;
		return len;
	}
	memcpy(m->fuzzed, buf, len);
	m->mend.image = m->fuzzed;
	m->mend.len = (u32)len;
	mend_image(&m->mend);
	if (m->mend.areas_nr)
		for (n = 1u << rnd(m, 4); n; n--)
			change(m);
	*out = m->fuzzed;
	return len;
}

size_t afl_custom_post_process(void *data, u8 *buf, size_t len, u8 **out)
{
	struct mutator *m = data;

	if (len > sizeof(m->mended)) {
		*out = buf;
		return len;
	}
	memcpy(m->mended, buf, len);
	m->mend.image = m->mended;
	m->mend.len = (u32)len;
	mend_image(&m->mend);
	*out = m->mended;
	return len;
}
