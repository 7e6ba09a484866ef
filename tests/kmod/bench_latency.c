// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bench_latency.c - row K16: what one call costs as the number of keys grows, through files and ioctls.
 *
 * Each number of keys has a tree of its own, made by ioctls, so that no name is in the kernel's cache when
 * it is looked up the first time; all pages of the trees are in the engine's. Every call is timed alone. What
 * is read is compared. The tree has the same number of keys before and after.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../kmod/kvfs_ioctl.h"
#include "key_files.h"

#define SAMPLES 1000u
#define SIZES_MAX 8
#define BATCH_KEYS 256u
#define SCAN_RECORDS 100u
#define RECORD_BYTES (sizeof(struct kvfs_rec) + KEY_NAME_BYTES + BENCH_VALUE_BYTES + 8)

struct sample {
	int dir;
	uint64_t count, i; /* keys of the tree; of this sample */
};

static uint8_t buf[BATCH_KEYS * RECORD_BYTES];

/* ---- one call each ---------------------------------------------------------------------------------- */

static uint64_t present(const struct sample *s)
{
	return key_shuffled(s->i, s->count);
}

static struct kvfs_kv kv_of(const char *name, uint8_t *value, size_t len)
{
	return (struct kvfs_kv){ .size = sizeof(struct kvfs_kv), .key = (uintptr_t)name,
				 .value = (uintptr_t)value, .value_len = len,
				 .key_len = (uint32_t)strlen(name) };
}

static void nothing(const struct sample *s)
{
	key_need(ioctl(s->dir, _IO(KVFS_IOC, 255)) < 0 && errno == ENOTTY, "ioctl", "unknown");
}

static void ioctl_get(const struct sample *s)
{
	uint8_t value[BENCH_VALUE_BYTES], want[BENCH_VALUE_BYTES];
	char name[KEY_NAME_BYTES];
	struct kvfs_kv kv;

	key_name(name, present(s));
	kv = kv_of(name, value, sizeof(value));
	key_value(want, sizeof(want), present(s));
	key_need(!ioctl(s->dir, KVFS_IOC_GET, &kv), "get", name);
	key_need(kv.value_len == sizeof(want) && !memcmp(value, want, sizeof(want)), "wrong value", name);
}

static void put_number(const struct sample *s, uint64_t number, uint32_t flags)
{
	uint8_t value[BENCH_VALUE_BYTES];
	char name[KEY_NAME_BYTES];
	struct kvfs_kv kv;

	key_name(name, number);
	key_value(value, sizeof(value), number);
	kv = kv_of(name, value, sizeof(value));
	kv.flags = flags;
	key_need(!ioctl(s->dir, KVFS_IOC_PUT, &kv), "put", name);
}

static void ioctl_set(const struct sample *s)
{
	put_number(s, present(s), KVFS_PUT_REPLACE);
}

static void ioctl_insert(const struct sample *s)
{
	put_number(s, s->count + s->i, KVFS_PUT_NEW);
}

static void ioctl_delete(const struct sample *s)
{
	char name[KEY_NAME_BYTES];
	struct kvfs_kv kv;

	key_name(name, s->count + s->i);
	kv = kv_of(name, NULL, 0);
	key_need(!ioctl(s->dir, KVFS_IOC_DEL, &kv), "delete", name);
}

/* From a key on; near the end there are fewer. */
static void ioctl_scan(const struct sample *s)
{
	char name[KEY_NAME_BYTES];
	struct kvfs_scan scan = { .size = sizeof(scan), .from = (uintptr_t)name, .buf = (uintptr_t)buf,
				  .buf_len = sizeof(buf), .limit = SCAN_RECORDS };

	key_name(name, present(s));
	scan.from_len = (uint32_t)strlen(name);
	key_need(!ioctl(s->dir, KVFS_IOC_SCAN, &scan), "scan", name);
	key_need(scan.count == SCAN_RECORDS || (scan.count && !scan.more), "too few records", name);
}

static void file_look_up(const struct sample *s)
{
	key_look_up(s->dir, present(s), BENCH_VALUE_BYTES);
}

static void file_read(const struct sample *s)
{
	key_read(s->dir, present(s), BENCH_VALUE_BYTES);
}

static void file_set(const struct sample *s)
{
	uint8_t value[BENCH_VALUE_BYTES];
	char name[KEY_NAME_BYTES];
	int fd;

	key_name(name, present(s));
	key_value(value, sizeof(value), present(s));
	fd = openat(s->dir, name, O_WRONLY);
	key_need(fd >= 0, "open", name);
	key_need(write(fd, value, sizeof(value)) == (ssize_t)sizeof(value), "write", name);
	key_need(!close(fd), "close", name);
}

static void file_insert(const struct sample *s)
{
	key_create(s->dir, s->count + s->i, BENCH_VALUE_BYTES);
}

static void file_delete(const struct sample *s)
{
	key_delete(s->dir, s->count + s->i);
}

static const struct {
	const char *text;
	void (*call)(const struct sample *s);
} calls[] = {
	{ "an ioctl that does nothing", nothing },
	{ "lookup: stat, name not cached", file_look_up },
	{ "lookup: stat, name cached", file_look_up },
	{ "lookup: ioctl GET", ioctl_get },
	{ "open, read, close", file_read },
	{ "open, write (SET), close", file_set },
	{ "ioctl PUT of a key that is there", ioctl_set },
	{ "insert: create, write, close", file_insert },
	{ "delete: unlink", file_delete },
	{ "insert: ioctl PUT", ioctl_insert },
	{ "delete: ioctl DEL", ioctl_delete },
	{ "ioctl SCAN of 100 records", ioctl_scan },
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* ---- all of them ------------------------------------------------------------------------------------ */

static size_t record(uint8_t *to, uint64_t number)
{
	char name[KEY_NAME_BYTES];
	struct kvfs_rec r = { .value_len = BENCH_VALUE_BYTES };

	key_name(name, number);
	r.key_len = (uint32_t)strlen(name);
	memcpy(to, &r, sizeof(r));
	memcpy(to + sizeof(r), name, r.key_len);
	key_value(to + sizeof(r) + r.key_len, BENCH_VALUE_BYTES, number);
	return (sizeof(r) + r.key_len + BENCH_VALUE_BYTES + 7) & ~(size_t)7;
}

static void fill(int dir, uint64_t count)
{
	struct kvfs_batch b;
	uint64_t i = 0;

	while (i < count) {
		b = (struct kvfs_batch){ .size = sizeof(b), .buf = (uintptr_t)buf };
		memset(buf, 0, sizeof(buf));
		for (; i < count && b.count < BATCH_KEYS; b.count++)
			b.buf_len += record(buf + b.buf_len, i++);
		key_need(!ioctl(dir, KVFS_IOC_BATCH, &b), "batch", "fill");
	}
	key_need(!ioctl(dir, KVFS_IOC_SYNC), "sync", "fill");
}

static void measure(size_t call, struct sample *s, double quantile[2])
{
	static double us[SAMPLES];
	double begin;

	for (s->i = 0; s->i < SAMPLES; s->i++) {
		begin = key_clock();
		calls[call].call(s);
		us[s->i] = (key_clock() - begin) * 1e6;
	}
	quantile[0] = bench_quantile(us, SAMPLES, 0.5);
	quantile[1] = bench_quantile(us, SAMPLES, 0.99);
}

static int make_tree(int mount, const char *text)
{
	char name[64];
	int dir;

	snprintf(name, sizeof(name), "keys-%s", text);
	key_need(!mkdirat(mount, name, 0700), "mkdir", name);
	dir = openat(mount, name, O_RDONLY | O_DIRECTORY);
	key_need(dir >= 0, "open", name);
	return dir;
}

void bench_latency(const char *path, char *const *counts, int nr)
{
	static double quantile[SIZES_MAX][CALLS][2];
	int i, mount = open(path, O_RDONLY | O_DIRECTORY);
	struct sample s;
	size_t call;

	key_need(mount >= 0, "open", path);
	key_need(nr <= SIZES_MAX, "too many sizes", path);
	for (i = 0; i < nr; i++) {
		s = (struct sample){ .dir = make_tree(mount, counts[i]),
				     .count = strtoull(counts[i], NULL, 10) };
		key_need(s.count >= SAMPLES, "too few keys", counts[i]);
		fill(s.dir, s.count);
		for (call = 0; call < CALLS; call++)
			measure(call, &s, quantile[i][call]);
		key_list(s.dir, s.count);
	}
	printf("| call, us: median (99 %%)");
	for (i = 0; i < nr; i++)
		printf(" | %s keys", counts[i]);
	printf(" |\n|---|");
	for (i = 0; i < nr; i++)
		printf("--:|");
	for (call = 0; call < CALLS; call++) {
		printf("\n| %s |", calls[call].text);
		for (i = 0; i < nr; i++)
			printf(" %.1f (%.1f) |", quantile[i][call][0], quantile[i][call][1]);
	}
	printf("\n\n");
}
