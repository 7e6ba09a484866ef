/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * find.c - where a device or an image is mounted: /proc/self/mountinfo, proc(5).
 *
 * A kernel mount has the number of its device; one of 'kvs mount' names the image as its source. An image
 * below a kernel mount is the file behind a loop device. Of several mounts the first that opens counts;
 * bind mounts of a part do not.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client.h"

/* Fields of a line; the text is the line's, unescaped. */
struct entry {
	unsigned int major, minor;
	char *root, *dir, *type, *source, *options;
};

/* Blanks and backslashes are \ooo there. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

/* id parent major:minor root dir options [optional...] - type source options */
static bool entry_parse(char *line, struct entry *e)
{
	char *at = line, *end = strstr(line, " - "), *device;

	if (!end)
		return false;
	*end = 0;
	strsep(&at, " ");
	strsep(&at, " ");
	device = strsep(&at, " ");
	e->root = strsep(&at, " ");
	e->dir = strsep(&at, " ");
	at = end + 3;
	e->type = strsep(&at, " ");
	e->source = strsep(&at, " ");
	e->options = strsep(&at, " \n");
	if (!e->dir || !e->options || sscanf(device, "%u:%u", &e->major, &e->minor) != 2)
		return false;
	unescape(e->root);
	unescape(e->dir);
	unescape(e->source);
	return true;
}

/* Is the file `path` behind this loop device? */
static bool loop_of(const struct entry *e, const char *path)
{
	char sys[96], *line = NULL;
	size_t cap = 0;
	ssize_t n;
	bool same;
	FILE *f;

	snprintf(sys, sizeof(sys), "/sys/dev/block/%u:%u/loop/backing_file", e->major, e->minor);
	f = fopen(sys, "re");
	if (!f)
		return false;
	n = getline(&line, &cap, f);
	if (n > 0 && line[n - 1] == '\n')
		line[n - 1] = 0;
	same = n > 0 && !strcmp(line, path);
	free(line);
	fclose(f);
	return same;
}

static bool entry_is(const struct entry *e, const char *path, const struct stat *st)
{
	if (strcmp(e->root, "/"))
		return false;
	if (!strcmp(e->type, "fuse.kvfs"))
		return !strcmp(e->source, path);
	if (strcmp(e->type, "kvfs"))
		return false;
	if (S_ISBLK(st->st_mode))
		return e->major == major(st->st_rdev) && e->minor == minor(st->st_rdev);
	return loop_of(e, path);
}

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int find(const char *path, const struct stat *st)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct entry e;
	char *line = NULL;
	size_t cap = 0;
	int fd = -1, reason = ENODEV;

	if (!f)
		return -1;
	while (fd < 0 && getline(&line, &cap, f) > 0) {
		if (!entry_parse(line, &e) || !entry_is(&e, path, st))
			continue;
		fd = open_dir(e.dir);
		if (fd < 0)
			reason = errno;
	}
	free(line);
	fclose(f);
	if (fd < 0)
		errno = reason;
	return fd;
}

static bool has_option(char *options, const char *option)
{
	char *one;

	while ((one = strsep(&options, ",")))
		if (!strcmp(one, option))
			return true;
	return false;
}

int kvfs_client_has_option(int dir, const char *option)
{
	struct entry e;
	struct stat st;
	char *line = NULL;
	size_t cap = 0;
	int found = 0;
	FILE *f;

	if (fstat(dir, &st))
		return -1;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -1;
	while (!found && getline(&line, &cap, f) > 0)
		found = entry_parse(line, &e) && e.major == major(st.st_dev) && e.minor == minor(st.st_dev) &&
			has_option(e.options, option);
	free(line);
	fclose(f);
	return found;
}

int kvfs_client_find(const char *where)
{
	struct stat st;
	char *path;
	int fd, reason;

	if (stat(where, &st))
		return -1;
	if (S_ISDIR(st.st_mode))
		return open_dir(where);
	path = realpath(where, NULL);
	if (!path)
		return -1;
	fd = find(path, &st);
	reason = errno;
	free(path);
	errno = reason;
	return fd;
}
