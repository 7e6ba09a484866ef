/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * random_stream.c - random_stream SEED BYTES: that many incompressible bytes on standard output,
 * the same for the same seed, at the speed of memory.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_WORDS 8192

int main(int argc, char **argv)
{
	static uint64_t chunk[CHUNK_WORDS];
	uint64_t state, left;
	size_t len, done, i;
	ssize_t n;

	if (argc != 3) {
		fputs("usage: random_stream SEED BYTES\n", stderr);
		return 2;
	}
	state = strtoull(argv[1], NULL, 0);
	for (left = strtoull(argv[2], NULL, 0); left; left -= len) {
		for (i = 0; i < CHUNK_WORDS; i++) {
			uint64_t z = (state += 0x9e3779b97f4a7c15ull);

			z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
			z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
			chunk[i] = z ^ (z >> 31);
		}
		len = left < sizeof(chunk) ? (size_t)left : sizeof(chunk);
		for (done = 0; done < len; done += (size_t)n) {
			n = write(1, (char *)chunk + done, len - done);
			if (n < 0) {
				fprintf(stderr, "random_stream: write: %s\n", strerror(errno));
				return 3;
			}
		}
	}
	return 0;
}
