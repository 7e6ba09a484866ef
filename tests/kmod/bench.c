// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bench.c - small keys as files on several mounted file systems, in a guest. Linked statically.
 *
 *	bench files ROUNDS COUNT NAME DIR DISK [NAME DIR DISK]...
 *	bench latency DIR COUNT...		(a KVFS mount, see bench_latency.c)
 *
 * files: rounds are interleaved, and each begins with another file system; one more comes first and is not
 * counted. Every step is the same loop of system calls for all, over the same names in the same order; what
 * is read is compared. Cold: frozen and thawed, caches dropped, and a second waited for those who give back
 * in the background. Prints tables in Markdown: medians of seconds, the ratio to the last file system, and
 * what DISK (/sys/block/DISK) was asked for in the last round.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "key_files.h"

#define FS_MAX 4
#define ROUNDS_MAX 32

/* clang-format off */
/* x(name, text) in the order in which they run */
#define STEPS(x) \
	x(CREATE, "create: open, write 100 B, close") \
	x(CREATE_SYNC, "create, and syncfs at the end") \
	x(LIST_COLD, "list, cold") \
	x(LIST_WARM, "list, warm") \
	x(STAT_COLD, "stat, cold") \
	x(STAT_WARM, "stat, warm") \
	x(READ_COLD, "open, read, close, cold") \
	x(READ_WARM, "open, read, close, warm") \
	x(DELETE_COLD, "delete, cold") \
	x(DELETE_SYNC, "delete, cold, and syncfs at the end")
/* clang-format on */
#define STEP_ENUM(name, text) name,
enum step { STEPS(STEP_ENUM) STEP_NR };
#define STEP_TEXT(name, text) text,
static const char *const step_text[] = { STEPS(STEP_TEXT) };

/* Of /sys/block/DISK/stat */
struct asked {
	unsigned long long reads, read_kib, writes, write_kib, flushes;
};

struct fs {
	const char *name, *path, *disk;
	int dir;
	double seconds[STEP_NR][ROUNDS_MAX];
	struct asked asked[STEP_NR]; /* in the last round */
};

static struct fs fs[FS_MAX];
static int fs_nr;
static uint64_t count;

double bench_quantile(double *values, size_t nr, double share)
{
	double v;
	size_t i, k;

	for (i = 1; i < nr; i++) {
		v = values[i];
		for (k = i; k && values[k - 1] > v; k--)
			values[k] = values[k - 1];
		values[k] = v;
	}
	k = (size_t)(share * (double)nr);
	return values[k < nr ? k : nr - 1];
}

static void asked_now(const struct fs *f, struct asked *a)
{
	unsigned long long field[17] = { 0 };
	char path[64];
	FILE *in;
	int i;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", f->disk);
	in = fopen(path, "r");
	key_need(in, "open", path);
	for (i = 0; i < 17 && fscanf(in, "%llu", &field[i]) == 1; i++)
		;
	key_need(i == 17, "fields are missing", path);
	fclose(in);
	*a = (struct asked){ field[0], field[2] / 2, field[4], field[6] / 2, field[15] };
}

/* What is dirty stays in a cache, and a sync writes logs alone: freezing leaves nothing dirty behind. */
static void drop_caches(const struct fs *f)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	key_need(!ioctl(f->dir, FIFREEZE, 0) && !ioctl(f->dir, FITHAW, 0), "freeze", f->path);
	key_need(fd >= 0 && write(fd, "3", 1) == 1 && !close(fd), "write", "drop_caches");
	sleep(1);
}

static void visit(const struct fs *f, void (*one)(int dir, uint64_t number, size_t len), bool shuffled)
{
	uint64_t i;

	for (i = 0; i < count; i++)
		one(f->dir, shuffled ? key_shuffled(i, count) : i, BENCH_VALUE_BYTES);
}

static void delete_one(int dir, uint64_t number, size_t len)
{
	(void)len;
	key_delete(dir, number);
}

static void perform(const struct fs *f, enum step step)
{
	switch (step) {
	case CREATE:
		visit(f, key_create, false);
		break;
	case LIST_COLD:
	case LIST_WARM:
		key_list(f->dir, count);
		break;
	case STAT_COLD:
	case STAT_WARM:
		visit(f, key_look_up, true);
		break;
	case READ_COLD:
	case READ_WARM:
		visit(f, key_read, true);
		break;
	case DELETE_COLD:
		visit(f, delete_one, true);
		break;
	default:
		key_need(!syncfs(f->dir), "syncfs", f->path);
	}
}

static void run_step(struct fs *f, enum step step, int round)
{
	bool ends = step == CREATE_SYNC || step == DELETE_SYNC;
	struct asked before, after;
	double begin, took;

	if (step == LIST_COLD || step == STAT_COLD || step == READ_COLD || step == DELETE_COLD)
		drop_caches(f);
	asked_now(f, &before);
	begin = key_clock();
	perform(f, step);
	took = key_clock() - begin;
	asked_now(f, &after);
	f->asked[step] = (struct asked){ after.reads - before.reads, after.read_kib - before.read_kib,
					 after.writes - before.writes, after.write_kib - before.write_kib,
					 after.flushes - before.flushes };
	/* The first round is not counted. */
	if (!round--)
		return;
	f->seconds[step][round] = took + (ends ? f->seconds[step - 1][round] : 0);
	printf("# round %d, %s, %s: %.3f s\n", round + 1, f->name, step_text[step], f->seconds[step][round]);
}

static void print_seconds(int rounds)
{
	double median[FS_MAX];
	int i, s;

	printf("| step");
	for (i = 0; i < fs_nr; i++)
		printf(" | %s, s", fs[i].name);
	for (i = 0; i < fs_nr - 1; i++)
		printf(" | %s : %s", fs[i].name, fs[fs_nr - 1].name);
	printf(" |\n|---|");
	for (i = 0; i < 2 * fs_nr - 1; i++)
		printf("--:|");
	for (s = 0; s < STEP_NR; s++) {
		printf("\n| %s |", step_text[s]);
		for (i = 0; i < fs_nr; i++) {
			median[i] = bench_quantile(fs[i].seconds[s], (size_t)rounds, 0.5);
			printf(" %.3f |", median[i]);
		}
		for (i = 0; i < fs_nr - 1; i++)
			printf(" %.2f |", median[i] / median[fs_nr - 1]);
	}
	printf("\n\n");
}

static void print_asked(void)
{
	const struct asked *a;
	int i, s;

	printf("| step: reads (KiB) / writes (KiB) / flushes of the disk");
	for (i = 0; i < fs_nr; i++)
		printf(" | %s", fs[i].name);
	printf(" |\n|---|");
	for (i = 0; i < fs_nr; i++)
		printf("---|");
	for (s = 0; s < STEP_NR; s++) {
		printf("\n| %s |", s == CREATE_SYNC || s == DELETE_SYNC ? "that syncfs alone" : step_text[s]);
		for (i = 0; i < fs_nr; i++) {
			a = &fs[i].asked[s];
			printf(" %llu (%llu) / %llu (%llu) / %llu |", a->reads, a->read_kib, a->writes,
			       a->write_kib, a->flushes);
		}
	}
	printf("\n\n");
}

static void files(int rounds)
{
	struct fs *f;
	int round, i, s;

	for (i = 0; i < fs_nr; i++) {
		fs[i].dir = open(fs[i].path, O_RDONLY | O_DIRECTORY);
		key_need(fs[i].dir >= 0, "open", fs[i].path);
	}
	for (round = 0; round <= rounds; round++)
		for (i = 0; i < fs_nr; i++) {
			f = &fs[(round + i) % fs_nr];
			for (s = 0; s < STEP_NR; s++)
				run_step(f, (enum step)s, round);
			key_list(f->dir, 0);
		}
	print_seconds(rounds);
	print_asked();
}

int main(int argc, char **argv)
{
	int i, rounds;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 3 && !strcmp(argv[1], "latency")) {
		bench_latency(argv[2], argv + 3, argc - 3);
		return 0;
	}
	rounds = argc > 2 ? atoi(argv[2]) : 0;
	fs_nr = (argc - 4) / 3;
	if (argc < 7 || strcmp(argv[1], "files") || rounds < 1 || rounds > ROUNDS_MAX || fs_nr > FS_MAX ||
	    (argc - 4) % 3) {
		fprintf(stderr, "bench files ROUNDS COUNT NAME DIR DISK..., bench latency DIR COUNT...\n");
		return 2;
	}
	count = strtoull(argv[3], NULL, 10);
	for (i = 0; i < fs_nr; i++)
		fs[i] = (struct fs){ .name = argv[4 + 3 * i], .path = argv[5 + 3 * i],
				     .disk = argv[6 + 3 * i] };
	files(rounds);
	return 0;
}
