// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * load.c - the mixed load of load.h on a KVFS mount, in a guest: three threads until each has done its
 * operations. Linked statically. Every operation must succeed. It ends with a sync.
 *
 *	load MOUNT SEED OPERATIONS
 *
 * The first thread also freezes and thaws the file system now and then, which makes a checkpoint.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../kmod/kvfs_ioctl.h"
#include "load.h"

#define FREEZE_EVERY 150u

struct thread {
	struct load_thread t;
	uint8_t buf[LOAD_VALUE_MAX], batch[2 * 16384];
};

static int dir; /* of the mount: names are relative to it, ioctls go to it */
static uint64_t operations;
static uint64_t returned[LOAD_THREADS]; /* operations; atomic */

static void need(bool good, const struct thread *w, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "load: thread %u, operation %llu: %s: %s\n", w->t.me,
		(unsigned long long)w->t.n - 1, what, strerror(errno));
	exit(1);
}

static void put(const struct thread *w, const char *name, int flags, const void *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | flags, 0600);

	need(fd >= 0, w, name);
	need(write(fd, data, len) == (ssize_t)len, w, name);
	need(!close(fd), w, name);
}

static void inc(const struct thread *w, const char *name)
{
	put(w, "_inc", 0, name, strlen(name));
}

static size_t record(uint8_t *to, const char *name, const void *value, size_t len)
{
	struct kvfs_rec r = { .value_len = len, .key_len = (uint32_t)strlen(name) };

	memcpy(to, &r, sizeof(r));
	memcpy(to + sizeof(r), name, r.key_len);
	memcpy(to + sizeof(r) + r.key_len, value, len);
	return (sizeof(r) + r.key_len + len + 7) & ~(size_t)7;
}

static void batch(struct thread *w, size_t len)
{
	struct kvfs_batch b = { .size = sizeof(b), .buf = (uintptr_t)w->batch, .count = 2 };
	char name[LOAD_NAME_MAX];

	memset(w->batch, 0, sizeof(w->batch));
	snprintf(name, sizeof(name), "t%u-x", w->t.me);
	b.buf_len = record(w->batch, name, w->buf, len);
	snprintf(name, sizeof(name), "t%u-y", w->t.me);
	b.buf_len += record(w->batch + b.buf_len, name, w->buf, len);
	need(!ioctl(dir, KVFS_IOC_BATCH, &b), w, "KVFS_IOC_BATCH");
}

static void put_synced(struct thread *w, const char *name, size_t len)
{
	struct kvfs_kv kv = { .size = sizeof(kv), .flags = KVFS_PUT_SYNC, .key = (uintptr_t)name,
			      .value = (uintptr_t)w->buf, .value_len = len,
			      .key_len = (uint32_t)strlen(name) };

	need(!ioctl(dir, KVFS_IOC_PUT, &kv), w, "KVFS_IOC_PUT");
}

/* Text of a clock; what had returned by now. */
static size_t clock_text(const struct thread *w, char *text, size_t room)
{
	uint64_t m[LOAD_THREADS];
	unsigned int i;

	for (i = 0; i < LOAD_THREADS; i++)
		m[i] = __atomic_load_n(&returned[i], __ATOMIC_SEQ_CST);
	return (size_t)snprintf(text, room, "%llu %llu %llu %llu", (unsigned long long)w->t.n - 1,
				(unsigned long long)m[0], (unsigned long long)m[1],
				(unsigned long long)m[2]);
}

static void sync_by(struct thread *w, const struct load_op *op)
{
	char name[LOAD_NAME_MAX];
	int fd;

	snprintf(name, sizeof(name), "t%u-p", w->t.me);
	switch (op->how) {
	case SYNC_FSYNC:
		fd = openat(dir, name, O_RDONLY);
		need(fd >= 0 && !fsync(fd) && !close(fd), w, "fsync");
		break;
	case SYNC_FSYNC_DIR:
		need(!fsync(dir), w, "fsync of the directory");
		break;
	case SYNC_SYNC:
		sync();
		break;
	case SYNC_SYNCFS:
		need(!syncfs(dir), w, "syncfs");
		break;
	case SYNC_IOCTL:
		need(!ioctl(dir, KVFS_IOC_SYNC), w, "KVFS_IOC_SYNC");
		break;
	case SYNC_PUT:
		put_synced(w, name, op->len);
		break;
	default:
		put(w, name, O_TRUNC | O_SYNC, w->buf, op->len);
	}
}

static void perform(struct thread *w, const struct load_op *op)
{
	char name[LOAD_NAME_MAX], to[LOAD_NAME_MAX], text[128];
	size_t len;

	load_key(name, w->t.me, op->key);
	load_value(w->buf, op->len, &w->t, w->t.n - 1);
	switch (op->kind) {
	case LOAD_SET:
		put(w, name, O_TRUNC | (op->creates ? O_CREAT | O_EXCL : 0), w->buf, op->len);
		break;
	case LOAD_APPEND:
		put(w, name, O_APPEND | (op->creates ? O_CREAT | O_EXCL : 0), w->buf, op->len);
		break;
	case LOAD_UNLINK:
		need(!unlinkat(dir, name, 0), w, "unlink");
		break;
	case LOAD_RENAME:
		load_key(to, w->t.me, op->to);
		need(!renameat(dir, name, dir, to), w, "rename");
		break;
	case LOAD_SUM:
		inc(w, "sum");
		/* fall through */
	case LOAD_INC:
		snprintf(name, sizeof(name), "t%u-n", w->t.me);
		inc(w, name);
		break;
	case LOAD_BATCH:
		batch(w, op->len);
		break;
	case LOAD_CLOCK:
		snprintf(name, sizeof(name), "t%u-clock", w->t.me);
		len = clock_text(w, text, sizeof(text));
		put(w, name, O_TRUNC, text, len);
		break;
	case LOAD_SYNC:
		snprintf(name, sizeof(name), "t%u-durable", w->t.me);
		len = clock_text(w, text, sizeof(text));
		sync_by(w, op);
		put(w, name, O_TRUNC, text, len);
		break;
	}
}

static void freeze(const struct thread *w)
{
	need(!ioctl(dir, FIFREEZE, 0), w, "FIFREEZE");
	need(!ioctl(dir, FITHAW, 0), w, "FITHAW");
}

static void *run(void *arg)
{
	struct thread *w = arg;
	struct load_op op;

	while (w->t.n < operations) {
		op = load_op_next(&w->t);
		perform(w, &op);
		__atomic_store_n(&returned[w->t.me], w->t.n, __ATOMIC_SEQ_CST);
		if (!w->t.me && w->t.n % FREEZE_EVERY == 0)
			freeze(w);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct thread w[LOAD_THREADS];
	pthread_t id[LOAD_THREADS];
	unsigned int i;

	if (argc != 4) {
		fprintf(stderr, "usage: load MOUNT SEED OPERATIONS\n");
		return 2;
	}
	dir = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (dir < 0) {
		perror(argv[1]);
		return 1;
	}
	operations = strtoull(argv[3], NULL, 10);
	for (i = 0; i < LOAD_THREADS; i++) {
		w[i].t = (struct load_thread){ .me = i, .seed = strtoull(argv[2], NULL, 10) };
		errno = pthread_create(&id[i], NULL, run, &w[i]);
		if (errno) {
			perror("pthread_create");
			return 1;
		}
	}
	for (i = 0; i < LOAD_THREADS; i++)
		pthread_join(id[i], NULL);
	if (syncfs(dir)) {
		perror("syncfs");
		return 1;
	}
	return 0;
}
