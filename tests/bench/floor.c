/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * floor.c - what the machine could do at best, measured beside the engines in the same rounds.
 *
 *  load     a file is appended to: by one write per entry (b1), by writes of 1 MiB (b1000)
 *  durable  a block is written with O_DIRECT|O_DSYNC into a file that is allocated and written:
 *           as many entries a block as a group commit of all threads could share
 *  get      a static 16-ary B-tree of 8-byte key heads over values that lie in one array
 *  mget     the same, 32 descents side by side
 *  scan     values that lie in one array in the order of their keys
 *  device   random reads of 4 KiB with O_DIRECT, by the share of gets that cannot be in memory
 *  update   the same, 32 at a time, each block written to the end of the file after it was read
 *
 * All set ops_per_s alone; 0 where it cannot be measured (no O_DIRECT on the file system).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define RECORD_HEAD 8 /* lengths and a checksum, at the least */
#define APPEND_BYTES ((size_t)1 << 20)
#define DURABLE_FILE_BYTES ((size_t)64 << 20)
#define BLOCK 4096
#define FANOUT 16
#define LEVELS_MAX 10
#define UPDATES 32
#define UPDATE_NS 2000000000ull

static int make_file(const struct bench_run *run, char *path, size_t size, int flags)
{
	int fd;

	snprintf(path, size, "%s/floor", run->dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | flags, 0644);
	if (fd < 0)
		bench_die("%s: %s", path, strerror(errno));
	return fd;
}

static void write_at(int fd, const void *bytes, size_t len, uint64_t offset)
{
	if (pwrite(fd, bytes, len, (off_t)offset) != (ssize_t)len)
		bench_die("floor: write: %s", strerror(errno));
}

static void *get_memory(size_t len)
{
	void *p;

	if (posix_memalign(&p, BLOCK, len))
		bench_die("out of memory");
	memset(p, 1, len);
	return p;
}

static void set_rate(struct bench_run *run, uint64_t ops, uint64_t since)
{
	run->metrics[BENCH_OPS_PER_S] = (double)ops * 1e9 / (double)(bench_now_ns() - since);
}

/* ---- writing --------------------------------------------------------------------------------- */

void bench_floor_load(struct bench_run *run)
{
	const struct bench_workload *wl = run->wl;
	size_t record = RECORD_HEAD + BENCH_KEY_LEN + wl->val_len, used = 0;
	char path[600], *buf = get_memory(APPEND_BYTES + record);
	int fd = make_file(run, path, sizeof(path), 0);
	uint64_t start = bench_now_ns(), offset = 0, i;

	for (i = 0; i < run->entries; i++) {
		bench_key(buf + used + RECORD_HEAD, i, wl->hashed);
		bench_value(buf + used + RECORD_HEAD + BENCH_KEY_LEN, wl->val_len, i, 0);
		used += record;
		if (wl->batch > 1 && used < APPEND_BYTES)
			continue;
		write_at(fd, buf, used, offset);
		offset += used;
		used = 0;
	}
	write_at(fd, buf, used, offset);
	if (fdatasync(fd))
		bench_die("%s: %s", path, strerror(errno));
	set_rate(run, run->entries, start);
	close(fd);
	unlink(path);
	free(buf);
}

void bench_floor_durable(struct bench_run *run)
{
	const struct bench_workload *wl = run->wl;
	uint64_t puts = (uint64_t)wl->batch * wl->threads, start, offset = 0, writes = 0;
	size_t len = puts * (RECORD_HEAD + BENCH_KEY_LEN + wl->val_len);
	char path[600], *buf;
	int fd;

	len = (len + BLOCK - 1) / BLOCK * BLOCK;
	fd = make_file(run, path, sizeof(path), 0);
	buf = get_memory(APPEND_BYTES);
	while (offset < DURABLE_FILE_BYTES) {
		write_at(fd, buf, APPEND_BYTES, offset);
		offset += APPEND_BYTES;
	}
	if (fdatasync(fd))
		bench_die("%s: %s", path, strerror(errno));
	close(fd);

	fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
	start = bench_now_ns();
	offset = 0;
	while (fd >= 0 && (double)(bench_now_ns() - start) < run->seconds * 1e9) {
		if (offset + len > DURABLE_FILE_BYTES)
			offset = 0;
		write_at(fd, buf, len, offset);
		offset += len;
		writes++;
	}
	set_rate(run, writes * puts, start);
	close(fd);
	unlink(path);
	free(buf);
}

/* ---- an index that never changes --------------------------------------------------------------- */

struct entry {
	char key[BENCH_KEY_LEN];
	uint32_t id;
};

static struct {
	uint64_t nr;
	uint32_t val_len;
	struct entry *sorted;
	char *values; /* [id] */
	uint64_t *levels[LEVELS_MAX]; /* from the leaves up: heads of keys */
	int levels_nr;
} tree;

static uint64_t head_of(const char *key)
{
	uint64_t head;

	memcpy(&head, key, 8);
	return __builtin_bswap64(head);
}

static int compare_entries(const void *a, const void *b)
{
	return memcmp(a, b, BENCH_KEY_LEN);
}

static void build_level(int level, uint64_t nr)
{
	uint64_t padded = (nr + FANOUT - 1) / FANOUT * FANOUT, i, *heads;

	heads = get_memory(padded * sizeof(*heads));
	for (i = 0; i < padded; i++) {
		if (i >= nr)
			heads[i] = UINT64_MAX;
		else if (level)
			heads[i] = tree.levels[level - 1][i * FANOUT];
		else
			heads[i] = head_of(tree.sorted[i].key);
	}
	tree.levels[level] = heads;
}

static void build_tree(const struct bench_run *run)
{
	uint64_t nr = run->entries, i;

	tree.nr = nr;
	tree.val_len = run->wl->val_len;
	tree.sorted = get_memory(nr * sizeof(*tree.sorted));
	tree.values = get_memory(nr * tree.val_len);
	for (i = 0; i < nr; i++) {
		bench_key(tree.sorted[i].key, i, true);
		tree.sorted[i].id = (uint32_t)i;
		bench_value(tree.values + i * tree.val_len, tree.val_len, i, 0);
	}
	qsort(tree.sorted, nr, sizeof(*tree.sorted), compare_entries);
	for (;; nr = (nr + FANOUT - 1) / FANOUT) {
		build_level(tree.levels_nr++, nr);
		if (nr <= FANOUT)
			break;
	}
}

static inline uint64_t descend(int level, uint64_t node, uint64_t head)
{
	const uint64_t *heads = tree.levels[level] + node * FANOUT;
	unsigned int i, below = 0;

	for (i = 0; i < FANOUT; i++)
		below += heads[i] <= head;
	return node * FANOUT + (below ? below - 1 : 0);
}

/* Several keys may share the first 8 bytes. */
static const char *value_at(uint64_t at, const char *key)
{
	while (at + 1 < tree.nr && memcmp(tree.sorted[at + 1].key, key, BENCH_KEY_LEN) <= 0)
		at++;
	while (at && memcmp(tree.sorted[at].key, key, BENCH_KEY_LEN) > 0)
		at--;
	return tree.values + (uint64_t)tree.sorted[at].id * tree.val_len;
}

static void expect_value(const char *val, uint64_t id)
{
	if (!bench_value_ok(val, tree.val_len, id, 0))
		bench_die("floor: wrong value");
}

static uint64_t op_get(struct bench_worker *w)
{
	uint64_t id = bench_next_pick(w), at = 0, head;
	char key[BENCH_KEY_LEN];
	int level;

	bench_key(key, id, true);
	head = head_of(key);
	for (level = tree.levels_nr - 1; level >= 0; level--)
		at = descend(level, at, head);
	memcpy(w->buf, value_at(at, key), tree.val_len);
	expect_value(w->buf, id);
	return 1;
}

static uint64_t op_mget(struct bench_worker *w)
{
	static _Thread_local char keys[BENCH_MGET_MAX][BENCH_KEY_LEN];
	uint64_t ids[BENCH_MGET_MAX], heads[BENCH_MGET_MAX], at[BENCH_MGET_MAX] = { 0 };
	const char *vals[BENCH_MGET_MAX];
	int level, i;

	for (i = 0; i < BENCH_MGET_MAX; i++) {
		ids[i] = bench_next_pick(w);
		bench_key(keys[i], ids[i], true);
		heads[i] = head_of(keys[i]);
	}
	for (level = tree.levels_nr - 1; level >= 0; level--) {
		for (i = 0; i < BENCH_MGET_MAX; i++) {
			at[i] = descend(level, at[i], heads[i]);
			if (!level) {
				__builtin_prefetch(&tree.sorted[at[i]]);
				continue;
			}
			/* A node is two cache lines. */
			__builtin_prefetch(tree.levels[level - 1] + at[i] * FANOUT);
			__builtin_prefetch(tree.levels[level - 1] + at[i] * FANOUT + FANOUT / 2);
		}
	}
	for (i = 0; i < BENCH_MGET_MAX; i++) {
		vals[i] = value_at(at[i], keys[i]);
		__builtin_prefetch(vals[i]);
		__builtin_prefetch(vals[i] + tree.val_len - 1);
	}
	for (i = 0; i < BENCH_MGET_MAX; i++) {
		memcpy(w->buf, vals[i], tree.val_len);
		expect_value(w->buf, ids[i]);
	}
	return BENCH_MGET_MAX;
}

/* ---- threads, with the means of a run: a store that does nothing -------------------------------- */

static void *no_ctx(void *db)
{
	return db;
}

static void no_close(void *ctx)
{
	(void)ctx;
}

static const struct bench_ops no_ops = {
	.name = "floor", .ctx_open = no_ctx, .ctx_close = no_close
};

static void run_threads(struct bench_run *run, void *db, uint64_t (*op)(struct bench_worker *w))
{
	run->ops = &no_ops;
	free(bench_work(run, db, op, 1u << 30, run->wl->threads, run->seconds));
}

void bench_floor_get(struct bench_run *run)
{
	build_tree(run);
	run_threads(run, NULL, op_get);
}

void bench_floor_mget(struct bench_run *run)
{
	build_tree(run);
	run_threads(run, NULL, op_mget);
}

void bench_floor_scan(struct bench_run *run)
{
	struct bench_scan scan;
	uint64_t start, ops = 0, i, at;
	char *ordered;

	build_tree(run);
	ordered = get_memory(tree.nr * tree.val_len);
	for (i = 0; i < tree.nr; i++)
		memcpy(ordered + i * tree.val_len,
		       tree.values + (uint64_t)tree.sorted[i].id * tree.val_len, tree.val_len);
	start = bench_now_ns();
	do {
		scan = (struct bench_scan){ .val_len = tree.val_len, .reverse = run->wl->reverse };
		for (i = 0; i < tree.nr; i++) {
			at = run->wl->reverse ? tree.nr - 1 - i : i;
			bench_visit(&scan, tree.sorted[at].key, BENCH_KEY_LEN,
				    ordered + at * tree.val_len, tree.val_len);
		}
		if (scan.bad || scan.nr != tree.nr)
			bench_die("floor: the scan is wrong");
		ops += tree.nr;
	} while ((double)(bench_now_ns() - start) < run->seconds * 1e9);
	set_rate(run, ops, start);
}

/* ---- the device -------------------------------------------------------------------------------- */

static int device_fd;
static uint64_t device_blocks;

static uint64_t op_read(struct bench_worker *w)
{
	static _Thread_local char block[BLOCK] __attribute__((aligned(BLOCK)));
	off_t offset = (off_t)(bench_random(&w->rng) % device_blocks * BLOCK);

	if (pread(device_fd, block, BLOCK, offset) != BLOCK)
		bench_die("floor: read: %s", strerror(errno));
	return 1;
}

/* A file of so many bytes, to be read past the page cache. */
static int device_make(struct bench_run *run, uint64_t bytes, char *path, size_t size)
{
	char *buf = get_memory(APPEND_BYTES);
	int fd = make_file(run, path, size, 0);
	uint64_t offset;

	for (offset = 0; offset < bytes; offset += APPEND_BYTES)
		write_at(fd, buf, APPEND_BYTES, offset);
	device_blocks = offset / BLOCK;
	if (fdatasync(fd))
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
	free(buf);
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

static uint64_t live_bytes(const struct bench_run *run)
{
	return run->entries * (BENCH_KEY_LEN + run->wl->val_len);
}

/* Of random accesses, those that memory cannot serve. */
static double misses(const struct bench_run *run)
{
	uint64_t memory = bench_memory(run->wl, (double)run->entries / (double)run->wl->entries);
	uint64_t live = live_bytes(run);

	return live > memory ? (double)(live - memory) / (double)live : 1;
}

void bench_floor_device(struct bench_run *run)
{
	char path[600];

	device_fd = device_make(run, live_bytes(run), path, sizeof(path));
	if (device_fd >= 0)
		run_threads(run, NULL, op_read);
	run->metrics[BENCH_OPS_PER_S] /= misses(run);
	close(device_fd);
	unlink(path);
}

static void read_blocks(io_context_t io, struct bench_rng *rng, char *buf)
{
	struct iocb cbs[UPDATES], *list[UPDATES];
	struct io_event events[UPDATES];
	int i;

	for (i = 0; i < UPDATES; i++) {
		list[i] = &cbs[i];
		io_prep_pread(&cbs[i], device_fd, buf + (size_t)i * BLOCK, BLOCK,
			      (long long)(bench_random(rng) % device_blocks * BLOCK));
	}
	if (io_submit(io, UPDATES, list) != UPDATES ||
	    io_getevents(io, UPDATES, UPDATES, events, NULL) != UPDATES)
		bench_die("floor: io_submit");
	for (i = 0; i < UPDATES; i++)
		if (events[i].res != BLOCK)
			bench_die("floor: read of a block");
}

/* Whoever must read a block for each put that memory does not serve, and write it some time. */
void bench_floor_update(struct bench_run *run)
{
	char path[600], *buf = get_memory((size_t)UPDATES * BLOCK);
	struct bench_rng rng = { 1 };
	uint64_t start, ops = 0, end;
	io_context_t io = NULL;

	device_fd = device_make(run, live_bytes(run), path, sizeof(path));
	if (device_fd >= 0) {
		if (io_setup(UPDATES, &io))
			bench_die("floor: io_setup");
		start = bench_now_ns();
		for (end = device_blocks; bench_now_ns() - start < UPDATE_NS; end += UPDATES) {
			read_blocks(io, &rng, buf);
			write_at(device_fd, buf, (size_t)UPDATES * BLOCK, end * BLOCK);
			ops += UPDATES;
		}
		set_rate(run, ops, start);
		run->metrics[BENCH_OPS_PER_S] /= misses(run);
		io_destroy(io);
		close(device_fd);
	}
	unlink(path);
	free(buf);
}
