/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * nth.h - operations on a mount, and how to tell what became of one that failed: nth_ops.c has them,
 * nth.c makes their n-th failure happen.
 */
#ifndef TESTS_KMOD_NTH_H
#define TESTS_KMOD_NTH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MOUNTPOINT "/mnt"

struct operation {
	const char *name;
	/* Make things as they are before; 0 or -1 with errno. NULL: nothing is needed. */
	int (*prepare)(void);
	/* The operation, as few system calls as can be; 0, or -1 with errno. */
	int (*run)(void);
	/* 0: as before, 1: done, -1: something else, which is wrong. NULL: it changes nothing. */
	int (*state)(void);
	/* Close what run() left open. */
	void (*finish)(void);
	/* It may be done although an error is reported: several changes, or an answer that is lost. */
	bool half;
};

extern const struct operation operations[];
extern const size_t operations_nr;

/* Of the mount, with what it was mounted with last. NULL: as before. */
extern const char *device;
int volume_mount(const char *options);
/* Also when it is not mounted. */
int volume_unmount(void);
bool volume_mounted(void);

/* Whole values of one kind of bytes, so that a mixture is seen. */
int value_put(const char *name, char kind, size_t len);
/* 1: it is that value, 0: there is none, -1: it is another, or cannot be read */
int value_is(const char *name, char kind, size_t len);

#endif
