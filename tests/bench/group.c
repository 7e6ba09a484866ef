/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * group.c - a memory cgroup for one run, of whichever version stands here.
 *
 * The new group, kvbench-PID, is a child of the group that this process is in; with version 2 of the
 * nearest one above it that may have children with a memory limit. It is removed when the run has
 * ended. Groups that an earlier kvbench left behind because it was killed hold no process, and are
 * removed when the next one is made; a group with a process in it cannot be removed at all.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define PREFIX "kvbench-"
/* The kernel frees a group's pages in its own time. */
#define REMOVE_TRIES 100
#define REMOVE_PAUSE_US 20000

struct hierarchy {
	char mount[256];
	char root[256]; /* of the hierarchy, as seen at the mount */
	char own[512];	/* our group, from the hierarchy's root */
	bool v2;
};

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return n >= 0;
}

/* 0 or -1 with errno */
static int write_text(const char *dir, const char *file, const char *text)
{
	char path[1024];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

/* Is word one of the words of list, which commas or spaces separate? */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	const char *p;

	for (p = strstr(list, word); p; p = strstr(p + 1, word))
		if ((p == list || strchr(" ,", p[-1])) && (!p[len] || strchr(" ,\n", p[len])))
			return true;
	return false;
}

/* The mount of the memory controller: version 1 by its option, version 2 by its list of controllers. */
static bool find_mount(struct hierarchy *h)
{
	char line[1024], type[64], options[512], path[600], list[512];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	const char *dash;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %255s %255s", h->root, h->mount) != 2 ||
		    sscanf(dash, " - %63s %*s %511s", type, options) != 2)
			continue;
		h->v2 = !strcmp(type, "cgroup2");
		snprintf(path, sizeof(path), "%s/cgroup.controllers", h->mount);
		found = h->v2 ? read_text(path, list, sizeof(list)) && has_word(list, "memory") :
				!strcmp(type, "cgroup") && has_word(options, "memory");
	}
	if (f)
		fclose(f);
	return found;
}

/* Lines of /proc/self/cgroup: number:controllers:path, with no controllers for version 2. */
static bool find_own(struct hierarchy *h)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[1024], *list, *path;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		list = strchr(line, ':');
		path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		found = h->v2 ? !list[1] : has_word(list + 1, "memory");
		if (found && strlen(path) < sizeof(h->own))
			strcpy(h->own, path);
	}
	if (f)
		fclose(f);
	return found;
}

static void parent_of_group(const struct hierarchy *h, char *dir, size_t size)
{
	size_t root = strcmp(h->root, "/") ? strlen(h->root) : 0;
	const char *own = strncmp(h->own, h->root, root) ? "" : h->own + root;
	char path[1024], list[256];
	char *slash;

	snprintf(dir, size, "%s%s", h->mount, strcmp(own, "/") ? own : "");
	if (!h->v2)
		return;
	/* Only a group without processes hands its controllers down, or the root. */
	while (strcmp(dir, h->mount)) {
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
		if (read_text(path, list, sizeof(list)) && has_word(list, "memory"))
			return;
		slash = strrchr(dir, '/');
		*slash = 0;
	}
	write_text(dir, "cgroup.subtree_control", "+memory");
}

static void remove_stale(const char *parent)
{
	DIR *d = opendir(parent);
	struct dirent *entry;
	const char *number;
	char path[1024];

	while (d && (entry = readdir(d))) {
		number = entry->d_name + strlen(PREFIX);
		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) || !isdigit((unsigned char)*number))
			continue;
		if (kill((pid_t)atol(number), 0) && errno == ESRCH &&
		    (size_t)snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name) < sizeof(path))
			rmdir(path);
	}
	if (d)
		closedir(d);
}

int bench_group_make(char *path, size_t size, uint64_t bytes)
{
	struct hierarchy h = { 0 };
	char parent[800], text[32];

	if (!find_mount(&h) || !find_own(&h)) {
		fputs("kvbench: no memory cgroup is mounted here; ltm-* cannot run\n", stderr);
		return -1;
	}
	parent_of_group(&h, parent, sizeof(parent));
	remove_stale(parent);
	snprintf(path, size, "%s/" PREFIX "%d", parent, getpid());
	snprintf(text, sizeof(text), "%lu", bytes);
	if (mkdir(path, 0755) && errno != EEXIST)
		goto fail;
	if (write_text(path, h.v2 ? "memory.max" : "memory.limit_in_bytes", text)) {
		rmdir(path);
		goto fail;
	}
	/* Without swap; where it is not accounted for, there is no such file. */
	write_text(path, h.v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", h.v2 ? "0" : text);
	return 0;
fail:
	fprintf(stderr, "kvbench: %s: %s; ltm-* needs a memory cgroup, and so the right to make one\n",
		path, strerror(errno));
	path[0] = 0;
	return -1;
}

void bench_group_enter(const char *path)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", getpid());
	if (write_text(path, "cgroup.procs", text))
		bench_die("%s: %s", path, strerror(errno));
}

void bench_group_remove(const char *path)
{
	int i;

	/* Version 1: drop its page cache, which would keep it alive, unseen, until memory is short. */
	write_text(path, "memory.force_empty", "0");
	for (i = 0; i < REMOVE_TRIES; i++) {
		if (!rmdir(path) || errno == ENOENT)
			return;
		usleep(REMOVE_PAUSE_US);
	}
	fprintf(stderr, "kvbench: %s: %s; it is left\n", path, strerror(errno));
}
