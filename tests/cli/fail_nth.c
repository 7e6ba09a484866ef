/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fail_nth.c - preloaded into a program: the n-th call of a kind fails. For fail.sh.
 *
 *	KV_FAIL=memory|read|write|flush|space  KV_FAIL_NTH=n (0: none)  KV_FAIL_ON=1 (all later ones, too)
 *	KV_FAIL_COUNT=FILE (how many calls there were, at the end)
 *
 * Transfers to standard error do not count. There is no libaio, so that each transfer is a call.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, MEMORY, READ, WRITE, FLUSH, SPACE };

/* Of glibc: what malloc() calls. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
int io_setup(int n, void *ctx);

static enum kind kind;
static unsigned long nth;
static bool on;
static atomic_ulong calls;

static bool fails(enum kind k)
{
	unsigned long n;

	if (k != kind)
		return false;
	n = atomic_fetch_add(&calls, 1) + 1;
	return nth && (n == nth || (on && n > nth));
}

__attribute__((constructor)) static void begin(void)
{
	static const char *const names[] = { "", "memory", "read", "write", "flush", "space" };
	const char *what = getenv("KV_FAIL"), *n = getenv("KV_FAIL_NTH");
	int k;

	nth = n ? strtoul(n, NULL, 10) : 0;
	on = getenv("KV_FAIL_ON");
	for (k = MEMORY; what && k <= SPACE; k++)
		if (!strcmp(what, names[k]))
			kind = (enum kind)k;
}

__attribute__((destructor)) static void end(void)
{
	const char *name = getenv("KV_FAIL_COUNT");
	FILE *f;

	kind = NONE;
	f = name ? fopen(name, "w") : NULL;
	if (f) {
		fprintf(f, "%lu\n", (unsigned long)calls);
		fclose(f);
	}
}

/* ---- memory -------------------------------------------------------------------------------------- */

static bool no_memory(void)
{
	if (!fails(MEMORY))
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t n)
{
	return no_memory() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return no_memory() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return no_memory() ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t n)
{
	return no_memory() ? NULL : __libc_memalign(align, n);
}

/* ---- the file, and what is read and written ---------------------------------------------------------- */

/* The function of that name behind this one. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(k, error)                                                                             \
	do {                                                                                       \
		if (fails(k)) {                                                                    \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

int io_setup(int n, void *ctx)
{
	(void)n;
	(void)ctx;
	return -EAGAIN;
}

ssize_t pread(int fd, void *p, size_t n, off_t off)
{
	FAIL(READ, EIO);
	return NEXT(pread)(fd, p, n, off);
}

ssize_t read(int fd, void *p, size_t n)
{
	FAIL(READ, EIO);
	return NEXT(read)(fd, p, n);
}

ssize_t pwritev2(int fd, const struct iovec *v, int nr, off_t off, int flags)
{
	FAIL(WRITE, EIO);
	return NEXT(pwritev2)(fd, v, nr, off, flags);
}

ssize_t write(int fd, const void *p, size_t n)
{
	if (fd != STDERR_FILENO)
		FAIL(WRITE, EIO);
	return NEXT(write)(fd, p, n);
}

int fsync(int fd)
{
	FAIL(FLUSH, EIO);
	return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
	FAIL(FLUSH, EIO);
	return NEXT(fdatasync)(fd);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		FAIL(SPACE, ENOSPC);
	return NEXT(fallocate)(fd, mode, off, len);
}

int ftruncate(int fd, off_t len)
{
	FAIL(SPACE, ENOSPC);
	return NEXT(ftruncate)(fd, len);
}
