// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * identity_cut.c - a power cut: from a disk as it was, and the record that QEMU's blklogwrites made of its
 * writes, to what the disk may hold when the power goes at the end of the record.
 *
 *	identity_cut IMAGE LOG SEED [forget]
 *
 * IMAGE is changed in place. Whatever somebody was told to be durable is so by the last FLUSH or FUA of
 * the record. The cut is at a random point behind both. Writes before the last FLUSH are there, so are those
 * with FUA; of the others up to the cut each is kept, lost or torn. "forget": flushes count for nothing,
 * and the cut is anywhere; what comes of that is no power cut, and must be noticed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kmod/load.h"
#include "tests/kmod/write_log.h"

struct cut {
	size_t durable; /* entries before it are durable */
	size_t at;	/* entries from here on were never issued */
	u64 kept, lost, torn;
	bool forget;
};

static u64 dice(u64 *rnd, u64 sides)
{
	return (load_next(rnd) >> 20) % sides;
}

static void choose(struct cut *c, const struct write_log *log, u64 *rnd, bool forget)
{
	size_t i, last = 0;

	*c = (struct cut){ .forget = forget };
	for (i = 0; i < log->nr && !forget; i++) {
		if (log->entries[i].kind == LOG_FLUSH)
			c->durable = i + 1;
		if (log->entries[i].kind == LOG_FLUSH || log->entries[i].kind == LOG_FUA)
			last = i + 1;
	}
	c->at = last + dice(rnd, log->nr - last + 1);
}

static void apply(struct cut *c, const struct write_log *log, u8 *image, u64 *rnd)
{
	const struct write_log_entry *e;
	size_t i;
	u64 fate;

	for (i = 0; i < c->at; i++) {
		e = &log->entries[i];
		if (e->kind == LOG_FLUSH)
			continue;
		fate = i < c->durable || (e->kind == LOG_FUA && !c->forget) ? 0 : dice(rnd, 4);
		if (fate < 2)
			write_log_apply(image, e);
		else if (fate == 2)
			write_log_tear(image, e, rnd);
		c->kept += fate < 2;
		c->torn += fate == 2;
		c->lost += fate == 3;
	}
}

int main(int argc, char **argv)
{
	bool forget = argc == 5 && !strcmp(argv[4], "forget");
	struct write_log log;
	struct stat st;
	struct cut c;
	char why[256];
	u8 *image;
	u64 rnd;
	int fd;

	if (argc != 4 && !forget) {
		fprintf(stderr, "usage: identity_cut IMAGE LOG SEED [forget]\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &st)) {
		perror(argv[1]);
		return 1;
	}
	if (!write_log_read(&log, argv[2], (u64)st.st_size, why, sizeof(why))) {
		fprintf(stderr, "identity_cut: %s\n", why);
		return 1;
	}
	image = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (image == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	rnd = load_seed(strtoull(argv[3], NULL, 10), 11, 1);
	choose(&c, &log, &rnd, forget);
	apply(&c, &log, image, &rnd);
	if (msync(image, (size_t)st.st_size, MS_SYNC)) {
		perror(argv[1]);
		return 1;
	}
	printf("%zu of %zu entries, durable up to %zu: %llu writes kept, %llu lost, %llu torn\n", c.at,
	       log.nr, c.durable, c.kept, c.lost, c.torn);
	free(log.entries);
	return 0;
}
