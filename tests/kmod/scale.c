// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * scale.c - many keys and one large value on a KVFS mount, in a guest. Linked statically.
 *
 *	scale fill|list|read|empty DIR COUNT	make, list, compare or delete so many keys
 *	scale write|compare FILE MIB		a value of so many MiB that nothing can compress
 *	scale generate MIB			the same to standard output, for who judges the disk
 *
 * Prints what it did and the seconds that it took; wrong bytes and failed calls end it with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "key_files.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define VALUE_SPREAD 200u /* lengths of small values: 1 to so many */
#define LARGE_SEED (1ull << 60) /* far from what small values use */

static uint8_t piece[PIECE_BYTES], want[PIECE_BYTES];

static size_t length_of(uint64_t number)
{
	return number % VALUE_SPREAD + 1;
}

static void visit(int dir, uint64_t count, void (*one)(int dir, uint64_t number, size_t len))
{
	uint64_t i, number;

	for (i = 0; i < count; i++) {
		number = key_shuffled(i, count);
		one(dir, number, length_of(number));
	}
}

static void delete_one(int dir, uint64_t number, size_t len)
{
	(void)len;
	key_delete(dir, number);
}

static bool on_keys(const char *verb, const char *path, uint64_t count)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		return false;
	if (!strcmp(verb, "fill"))
		visit(dir, count, key_create);
	else if (!strcmp(verb, "list"))
		key_list(dir, count);
	else if (!strcmp(verb, "read"))
		visit(dir, count, key_read);
	else if (!strcmp(verb, "empty"))
		visit(dir, count, delete_one);
	else
		return false;
	key_need(!close(dir), "close", path);
	return true;
}

static void generate(uint8_t *to, uint64_t index)
{
	uint64_t word, n = index * (PIECE_BYTES / sizeof(word));
	size_t at;

	for (at = 0; at < PIECE_BYTES; at += sizeof(word)) {
		word = key_random(LARGE_SEED + n++);
		memcpy(to + at, &word, sizeof(word));
	}
}

static void write_all(int fd, uint64_t pieces, const char *path)
{
	uint64_t i;
	size_t done;
	ssize_t n;

	for (i = 0; i < pieces; i++) {
		generate(piece, i);
		for (done = 0; done < PIECE_BYTES; done += (size_t)n) {
			n = write(fd, piece + done, PIECE_BYTES - done);
			key_need(n > 0, "write", path);
		}
	}
}

static void compare_all(int fd, uint64_t pieces, const char *path)
{
	uint64_t i;
	size_t done;
	ssize_t n;

	for (i = 0; i < pieces; i++) {
		for (done = 0; done < PIECE_BYTES; done += (size_t)n) {
			n = read(fd, piece + done, PIECE_BYTES - done);
			key_need(n >= 0, "read", path);
			errno = 0;
			key_need(n, "too short", path);
		}
		generate(want, i);
		errno = 0;
		key_need(!memcmp(piece, want, PIECE_BYTES), "wrong bytes", path);
	}
	n = read(fd, piece, 1);
	errno = 0;
	key_need(!n, "too long", path);
}

static bool on_value(const char *verb, const char *path, uint64_t mib)
{
	bool writes = !strcmp(verb, "write");
	int fd;

	if (!writes && strcmp(verb, "compare"))
		return false;
	fd = open(path, writes ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0600);
	key_need(fd >= 0, "open", path);
	if (writes)
		write_all(fd, mib, path);
	else
		compare_all(fd, mib, path);
	key_need(!writes || !fsync(fd), "fsync", path);
	key_need(!close(fd), "close", path);
	return true;
}

int main(int argc, char **argv)
{
	double begin = key_clock();

	if (argc == 3 && !strcmp(argv[1], "generate")) {
		write_all(STDOUT_FILENO, strtoull(argv[2], NULL, 10), "standard output");
		return 0;
	}
	if (argc != 4 || (!on_value(argv[1], argv[2], strtoull(argv[3], NULL, 10)) &&
			  !on_keys(argv[1], argv[2], strtoull(argv[3], NULL, 10)))) {
		fprintf(stderr, "scale fill|list|read|empty DIR COUNT, "
			"write|compare FILE MIB, generate MIB\n");
		return 2;
	}
	printf("# %s %s: %.1f s\n", argv[1], argv[3], key_clock() - begin);
	return 0;
}
