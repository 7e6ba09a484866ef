/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fix_sum.c - the mutator's mending by hand: fix_sum IN OUT. To make images with a wrong field behind
 * right checksums, and to test mend.c: an image of ours comes out as it went in.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mend.h"

static struct mend mend;
static _Alignas(8) u8 image[MEND_BYTES_MAX + 1];

int main(int argc, char **argv)
{
	size_t len;
	FILE *f;

	if (argc != 3) {
		fprintf(stderr, "usage: fix_sum IN OUT\n");
		return 2;
	}
	f = fopen(argv[1], "rb");
	if (!f) {
		perror(argv[1]);
		return 2;
	}
	len = fread(image, 1, sizeof(image), f);
	if (ferror(f) || len > MEND_BYTES_MAX) {
		fprintf(stderr, "fix_sum: %s: cannot be read, or more than %u bytes\n", argv[1],
			MEND_BYTES_MAX);
		return 2;
	}
	fclose(f);
	mend.image = image;
	mend.len = (u32)len;
	mend_image(&mend);
	f = fopen(argv[2], "wb");
	if (!f || fwrite(image, 1, len, f) != len || fclose(f)) {
		perror(argv[2]);
		return 2;
	}
	return 0;
}
