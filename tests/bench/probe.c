/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * probe.c - what the measuring process asks about itself: time, memory, files, syncs.
 *
 * fsync, fdatasync and msync are defined here and so take the place of libc's for every engine's
 * library: they make the system call and count it. Writes to files opened with O_DSYNC are syncs
 * that this does not see (LMDB writes its meta page so: one more per durable commit than counted).
 *
 * mmap is defined here as well: where the store is larger than memory, a mapping that nobody advised
 * makes the kernel read ahead megabytes for every page, and no engine's C interface can forbid it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

static uint64_t sync_calls;

static void count_sync(void)
{
	__atomic_add_fetch(&sync_calls, 1, __ATOMIC_RELAXED);
}

int fsync(int fd)
{
	count_sync();
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	count_sync();
	return (int)syscall(SYS_fdatasync, fd);
}

int msync(void *addr, size_t len, int flags)
{
	count_sync();
	return (int)syscall(SYS_msync, addr, len, flags);
}

static bool advise_random;

void bench_advise_random(void)
{
	advise_random = true;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *p = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);

	if (advise_random && fd >= 0 && p != MAP_FAILED)
		syscall(SYS_madvise, p, len, MADV_RANDOM);
	return p;
}

/* off_t has 64 bits here: one function, two names. */
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
	__attribute__((alias("mmap")));

uint64_t bench_sync_calls(void)
{
	return __atomic_load_n(&sync_calls, __ATOMIC_RELAXED);
}

void bench_die(const char *format, ...)
{
	va_list args;

	fputs("kvbench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(3);
}

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double bench_cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

uint64_t bench_private_bytes(void)
{
	uint64_t anon = 0, shmem = 0, kib;
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];

	if (!f)
		bench_die("/proc/self/status: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			anon = kib;
		else if (sscanf(line, "RssShmem: %lu", &kib) == 1)
			shmem = kib;
	}
	fclose(f);
	return (anon + shmem) * 1024;
}

void bench_memory_ready(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	madvise(p, bytes, MADV_HUGEPAGE);
	madvise(p, bytes, MADV_POPULATE_WRITE);
	munmap(p, bytes);
}

/* Writes that were given up, as their file was removed before, are none. */
uint64_t bench_written_bytes(void)
{
	uint64_t written = 0, cancelled = 0;
	FILE *f = fopen("/proc/self/io", "r");
	char line[256];

	if (!f)
		bench_die("/proc/self/io: %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "write_bytes: %lu", &written) != 1)
			sscanf(line, "cancelled_write_bytes: %lu", &cancelled);
	fclose(f);
	return written - cancelled;
}

uint64_t bench_disk_bytes(const char *dir, bool sync)
{
	struct dirent *entry;
	uint64_t bytes = 0;
	DIR *d = opendir(dir);
	struct stat st;
	int fd;

	if (!d)
		return 0;
	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		/* Engines delete files behind our back. */
		if (!fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			bytes += (uint64_t)st.st_blocks * 512;
		if (!sync)
			continue;
		fd = openat(dirfd(d), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (syscall(SYS_fdatasync, fd))
			bench_die("%s/%s: fdatasync: %s", dir, entry->d_name, strerror(errno));
		close(fd);
	}
	closedir(d);
	return bytes;
}

void bench_drop_cache(const char *dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	int fd;

	if (!d)
		bench_die("%s: %s", dir, strerror(errno));
	while ((entry = readdir(d))) {
		fd = openat(dirfd(d), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || entry->d_name[0] == '.') {
			close(fd);
			continue;
		}
		/* Only clean pages go. */
		if (syscall(SYS_fdatasync, fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
			bench_die("%s/%s: cannot drop its pages", dir, entry->d_name);
		close(fd);
	}
	closedir(d);
}

/* The parts of a file that hold data; then its length. Returns -1 with errno. */
static int copy_file(int from, int to)
{
	off_t size = lseek(from, 0, SEEK_END), data = 0, hole, in, out;
	ssize_t n;

	while (size > 0 && (data = lseek(from, data, SEEK_DATA)) >= 0) {
		hole = lseek(from, data, SEEK_HOLE);
		for (in = out = data; in < hole;) {
			n = copy_file_range(from, &in, to, &out, (size_t)(hole - in), 0);
			if (n < 0)
				return -1;
			if (!n)
				break;
		}
		data = hole;
	}
	if (size < 0 || (data < 0 && errno != ENXIO) || ftruncate(to, size))
		return -1;
	return (int)syscall(SYS_fdatasync, to);
}

void bench_copy_dir(const char *from, const char *to)
{
	DIR *d = opendir(from);
	struct dirent *entry;
	int in, out, to_dir;

	bench_make_dir(to);
	to_dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!d || to_dir < 0)
		bench_die("%s, %s: %s", from, to, strerror(errno));
	while ((entry = readdir(d))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		in = openat(dirfd(d), entry->d_name, O_RDONLY | O_CLOEXEC);
		out = openat(to_dir, entry->d_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (in < 0 || out < 0 || copy_file(in, out))
			bench_die("copy of %s/%s to %s: %s", from, entry->d_name, to, strerror(errno));
		close(in);
		close(out);
	}
	close(to_dir);
	closedir(d);
}

void bench_remove_dir(const char *dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);

	if (!d)
		return;
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	rmdir(dir);
}

void bench_make_dir(const char *dir)
{
	if (mkdir(dir, 0755) && errno != EEXIST)
		bench_die("%s: %s; choose another place with --dir", dir, strerror(errno));
}

/*
 * Ask for a scheduler slice of 0.1 ms: the same share of the processor, but prompt wake-ups, so
 * that the time slices of other programs on the machine do not show up as latency of the engine.
 * Linux 6.12 or newer; without it the figures are only noisier.
 */
void bench_short_slice(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} attr = { .size = sizeof(attr) };

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0))
		return;
	attr.runtime = 100000;
	syscall(SYS_sched_setattr, 0, &attr, 0);
}
