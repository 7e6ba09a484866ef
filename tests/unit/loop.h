/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loop.h - a loop device of a test's own. It goes with the descriptor that holds it, so a test that dies
 * leaves none behind.
 */
#ifndef TESTS_UNIT_LOOP_H
#define TESTS_UNIT_LOOP_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LOOP_PATH 32

/* A free device gets the file. Its descriptor, or -1 with errno. */
static inline int loop_set(int file, char path[LOOP_PATH])
{
	struct loop_config c = { .fd = (uint32_t)file, .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1, number, tries, error = 0;

	if (control < 0)
		return -1;
	/* Others look for one, too. */
	for (tries = 0; tries < 20 && fd < 0; tries++) {
		number = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(path, LOOP_PATH, "/dev/loop%d", number);
		fd = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !ioctl(fd, LOOP_CONFIGURE, &c))
			break;
		error = errno;
		if (fd < 0 || error != EBUSY)
			tries = 20;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	close(control);
	errno = error;
	return fd;
}

/* A device of so many bytes, which take space in /tmp once they are written. */
static inline int loop_make(uint64_t bytes, char path[LOOP_PATH])
{
	char name[] = "/tmp/kvs-loop.XXXXXX";
	int file = mkstemp(name), fd = -1;

	if (file < 0)
		return -1;
	unlink(name);
	if (!ftruncate(file, (off_t)bytes))
		fd = loop_set(file, path);
	close(file);
	return fd;
}

#endif
