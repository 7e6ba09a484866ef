/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_fds.c - does a process still have a file open? FUSE does not say whether the descriptor that is
 * being closed is the last one; /proc does, where it is mounted and we may look. Nothing there is a
 * request to our own mount, so it cannot wait for us. A wrong yes (the process has the file open a
 * second time) only delays what the release of the file does anyway; a wrong no is what FUSE gives by itself.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "mount.h"

/* One file of fdinfo: "flags:" in octal, "ino:" in decimal (Linux 5.14). */
static bool descriptor_is(int dir, const char *name, u64 ino, int flags)
{
	const int compared = O_ACCMODE | O_APPEND;
	unsigned long long its_ino = 0;
	unsigned int its_flags = 0;
	char line[128];
	FILE *file;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	file = fdopen(fd, "r");
	if (!file) {
		close(fd);
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "flags: %o", &its_flags);
		sscanf(line, "ino: %llu", &its_ino);
	}
	fclose(file);
	return its_ino == ino && ((int)its_flags & compared) == (flags & compared);
}

bool mount_fds_has(pid_t pid, u64 ino, int flags)
{
	char path[48];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%ld/fdinfo", (long)pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			found = descriptor_is(dirfd(dir), entry->d_name, ino, flags);
	closedir(dir);
	return found;
}
