/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mk_mutants.c - mutated images beside each other on one disk, for a kernel that mounts them all:
 * mk_mutants SEED COUNT DISK BASE...
 *
 * Image N stands at N times MUTANT_SLOT; zeros follow it, so that a volume has room to grow. One in four
 * has bits flipped and its checksums left wrong; the others come from the mutator of AFL++, with
 * checksums that are right. The same bytes each time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mend.h"
#include "mutate_sum.h"

#define MUTANT_SLOT (512u << 10)
#define FLIPS_MAX 8u

static _Alignas(8) u8 image[MEND_BYTES_MAX + 1];

static u64 rng;

static u32 rnd(u32 n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (u32)((rng >> 11) % n);
}

static size_t load(const char *path)
{
	FILE *f = fopen(path, "rb");
	size_t len = f ? fread(image, 1, sizeof(image), f) : 0;

	if (!len || len > MEND_BYTES_MAX) {
		fprintf(stderr, "mk_mutants: %s: cannot be read, or more than %u bytes\n", path,
			MEND_BYTES_MAX);
		exit(2);
	}
	fclose(f);
	return len;
}

static void flip_bits(size_t len)
{
	u32 n = 1 + rnd(FLIPS_MAX);

	while (n--)
		image[rnd((u32)len)] ^= (u8)(1u << rnd(8));
}

/* Makes image N from the base in image[]. */
static const u8 *mutate(void *mutator, unsigned long n, size_t *len)
{
	u8 *changed, *mended;

	if (n % 4 == 3) {
		flip_bits(*len);
		return image;
	}
	*len = afl_custom_fuzz(mutator, image, *len, &changed, NULL, 0, MEND_BYTES_MAX);
	*len = afl_custom_post_process(mutator, changed, *len, &mended);
	return mended;
}

int main(int argc, char **argv)
{
	unsigned long n, count, bases = (unsigned long)argc - 4;
	unsigned int seed;
	void *mutator;
	int disk;

	if (argc < 5) {
		fprintf(stderr, "usage: mk_mutants SEED COUNT DISK BASE...\n");
		return 2;
	}
	seed = (unsigned int)strtoul(argv[1], NULL, 10);
	count = strtoul(argv[2], NULL, 10);
	rng = 0x9e3779b97f4a7c15ull ^ ((u64)seed << 20 | 1);
	mutator = afl_custom_init(NULL, seed);
	disk = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0666);
	if (!mutator || disk < 0 || ftruncate(disk, (off_t)(count * MUTANT_SLOT))) {
		perror(argv[3]);
		return 2;
	}
	for (n = 0; n < count; n++) {
		/* another base for each turn of kinds, so that all bases meet all kinds */
		size_t len = load(argv[4 + n / 4 % bases]);
		const u8 *made = mutate(mutator, n, &len);

		if (pwrite(disk, made, len, (off_t)(n * MUTANT_SLOT)) != (ssize_t)len) {
			perror(argv[3]);
			return 2;
		}
	}
	afl_custom_deinit(mutator);
	return close(disk) ? 2 : 0;
}
