// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * flaky.c - a load on a mount whose device will fail, in a guest, and what must be left of it (CONTRACT C9
 * C12). Linked statically.
 *
 *	flaky load DIRECTORY RECORD reads|fails    until the device fails; "fails": reading fails then, too
 *	flaky judge DIRECTORY RECORD               after a new mount
 *
 * Each thread writes its own keys in turn, with values that say which write they are, and calls fsync(2)
 * after each few. RECORD says what was acknowledged: it is what judge looks for. After the first error no
 * change may be taken any more, and what was acknowledged is read as before unless the device cannot read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 3u
#define KEYS 32u
#define SYNC_EVERY 5u
#define VALUE_MAX 40000u
#define NAME_LEN 32
#define LATE_TRIES 50u

/* Of a thread, in RECORD. Writes are counted from 1. */
struct record {
	unsigned int issued; /* the last that was begun */
	unsigned int synced; /* the last that an fsync which returned 0 covers */
};

static struct record *records;
static const char *directory;
static bool device_reads;
static unsigned int wrong;

static void complain(unsigned int thread, const char *what, unsigned int n, int err)
{
	printf("#   thread %u, write %u: %s (%s)\n", thread, n, what, err ? strerrorname_np(err) : "0");
	__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
}

/* ---- values -------------------------------------------------------------------------------------- */

static void name_of(char *name, unsigned int thread, unsigned int key)
{
	snprintf(name, 4096, "%s/f%u-%u", directory, thread, key);
}

static size_t length_of(unsigned int thread, unsigned int n)
{
	return n % 7 ? 16 + (n * 31 + thread) % 3000 : VALUE_MAX - n % 1000;
}

static void fill(char *value, size_t len, unsigned int thread, unsigned int n)
{
	unsigned int head[2] = { thread, n }, x = n * 2654435761u + thread;
	size_t i;

	for (i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		value[i] = (char)(x >> 24);
	}
	memcpy(value, head, sizeof(head));
}

static int put(unsigned int thread, unsigned int n, char *value)
{
	size_t len = length_of(thread, n);
	char name[4096];
	int fd, err = 0;

	name_of(name, thread, n % KEYS);
	fill(value, len, thread, n);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return errno;
	if (write(fd, value, len) != (ssize_t)len)
		err = errno ? errno : EIO;
	if (!err && n % SYNC_EVERY == 0 && fsync(fd))
		err = errno;
	if (close(fd) && !err)
		err = errno;
	return err;
}

/* Which write a key holds: 0 none; -1: no whole value of any, or it cannot be read (*err). */
static long holds(unsigned int thread, unsigned int key, char *value, char *want, int *err)
{
	unsigned int head[2];
	char name[4096];
	ssize_t n = 1;
	size_t len = 0;
	int fd;

	name_of(name, thread, key);
	*err = 0;
	fd = open(name, O_RDONLY);
	if (fd < 0) {
		*err = errno;
		return errno == ENOENT ? 0 : -1;
	}
	while (len < VALUE_MAX + 1 && (n = read(fd, value + len, VALUE_MAX + 1 - len)) > 0)
		len += (size_t)n;
	*err = n < 0 ? errno : 0;
	close(fd);
	if (n < 0)
		return -1;
	if (len < sizeof(head))
		return len ? -1 : 0;
	memcpy(head, value, sizeof(head));
	if (head[0] != thread || head[1] % KEYS != key || len != length_of(thread, head[1]))
		return -1;
	fill(want, len, thread, head[1]);
	return memcmp(value, want, len) ? -1 : (long)head[1];
}

/* The last write of a key up to n; 0: none */
static unsigned int last_of(unsigned int key, unsigned int n)
{
	unsigned int back = (n + KEYS - key) % KEYS;

	return n > back ? n - back : 0;
}

/* Every key has what was synced, or something newer. */
static void judge_thread(unsigned int thread, char *value, char *want)
{
	const struct record *r = &records[thread];
	unsigned int key, least;
	long n;
	int err;

	for (key = 0; key < KEYS; key++) {
		least = last_of(key, r->synced);
		n = holds(thread, key, value, want, &err);
		if (n < 0)
			complain(thread, "no whole value is read", least, err);
		else if (n < (long)least)
			complain(thread, "what was synced is not there", least, 0);
		else if (n > (long)r->issued)
			complain(thread, "a value that was never written", (unsigned int)n, 0);
	}
}

/* ---- load ---------------------------------------------------------------------------------------- */

static pthread_barrier_t failed;

static bool explained(int err)
{
	return err == EIO || err == EROFS;
}

static void *load(void *arg)
{
	struct record *r = arg;
	unsigned int thread = (unsigned int)(r - records), n = 0, i;
	char *value = malloc(VALUE_MAX + 1), *want = malloc(VALUE_MAX + 1);
	int err = 0;

	if (!value || !want)
		exit(2);
	while (!err) {
		r->issued = ++n;
		err = put(thread, n, value);
		if (!err && n % SYNC_EVERY == 0)
			r->synced = n;
	}
	if (!explained(err))
		complain(thread, "an errno that nothing explains", n, err);
	pthread_barrier_wait(&failed);
	for (i = 0; i < LATE_TRIES; i++) {
		r->issued = ++n;
		err = put(thread, n, value);
		if (!explained(err))
			complain(thread, "taken, or refused without reason, after the device failed", n, err);
	}
	if (device_reads)
		judge_thread(thread, value, want);
	free(value);
	free(want);
	return NULL;
}

static void load_all(void)
{
	pthread_t id[THREADS];
	unsigned int i;

	pthread_barrier_init(&failed, NULL, THREADS);
	for (i = 0; i < THREADS; i++) {
		errno = pthread_create(&id[i], NULL, load, &records[i]);
		if (errno) {
			perror("flaky: pthread_create");
			exit(2);
		}
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
}

static void judge_all(void)
{
	static char value[VALUE_MAX + 1], want[VALUE_MAX + 1];
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		judge_thread(i, value, want);
}

static void record_map(const char *path, bool new)
{
	int fd = open(path, O_RDWR | (new ? O_CREAT | O_TRUNC : 0), 0600);

	if (fd < 0 || ftruncate(fd, THREADS * sizeof(*records))) {
		perror(path);
		exit(2);
	}
	records = mmap(NULL, THREADS * sizeof(*records), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (records == MAP_FAILED) {
		perror(path);
		exit(2);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned int i, issued = 0, synced = 0;
	bool loads = argc == 5 && !strcmp(argv[1], "load");

	if (!loads && (argc != 4 || strcmp(argv[1], "judge"))) {
		fprintf(stderr, "usage: flaky load DIRECTORY RECORD reads|fails\n"
				"       flaky judge DIRECTORY RECORD\n");
		return 2;
	}
	directory = argv[2];
	record_map(argv[3], loads);
	device_reads = loads && !strcmp(argv[4], "reads");
	if (loads)
		load_all();
	else
		judge_all();
	for (i = 0; i < THREADS; i++) {
		issued += records[i].issued;
		synced += records[i].synced;
	}
	printf("# %s: %u changes tried, %u of them synced before the device failed\n", argv[1], issued,
	       synced);
	return wrong != 0;
}
