/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mend.h - make every checksum of a damaged image right again, bottom-up.
 *
 * For the mutator: a fuzzer that changes a byte changes a checksum's subject, and never gets past the
 * first check. Mending keeps the change and recomputes what covers it: records, segment headers and
 * footers, then pages from the leaves to the roots through their parents' refs, then superblocks.
 * The same bytes in, the same bytes out; an image whose sums are right is left as it is.
 */
#ifndef KV_FUZZ_MEND_H
#define KV_FUZZ_MEND_H

#include "../format/kvf.h"

#define MEND_BYTES_MAX (256u << 10)
#define MEND_BLOCKS_MAX (MEND_BYTES_MAX / KVF_BLOCK_MIN)
#define MEND_AREAS_MAX 4096u

/* Bytes that somebody reads: what is worth changing. */
struct mend_area {
	u32 off, len;
};

struct mend {
	u8 *image; /* aligned to 8 */
	u32 len;
	struct kvf_geometry g; /* of most of the superblocks */
	u8 uuid[16];
	u32 areas_nr;
	struct mend_area areas[MEND_AREAS_MAX];
	/* pages by their first block: not seen, being mended, done */
	u8 state[MEND_BLOCKS_MAX];
	_Alignas(8) u8 record[MEND_BYTES_MAX];
};

/* m->image and m->len are set. Anything may stand there; more than MEND_BYTES_MAX is left alone. */
void mend_image(struct mend *m);

#endif
