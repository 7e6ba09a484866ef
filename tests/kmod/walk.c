// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * walk.c - hostile images in a guest: mounts each one on a disk of mk_mutants.c, read-only and then for
 * writing, walks all of it, changes it, and unmounts it. Linked statically.
 *
 *	walk DISK MOUNTPOINT [FIRST [COUNT]]
 *
 * Any answer of the file system is right, but it has to come: an image that takes longer than
 * IMAGE_SECONDS hangs. What the kernel itself reports is for others to judge. Prints TAP without a plan.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../kmod/kvfs_ioctl.h"

#define SLOT_BYTES (512u << 10) /* MUTANT_SLOT of mk_mutants.c */
#define IMAGE_SECONDS 120
#define ENTRIES_MAX 20000u	/* an image has far fewer, but a forged one may go round */
#define FILE_MAX (8u << 20)	/* read of one file */
#define LOOP "/dev/loop0"

/* What happened to all images, in memory that the children share. */
struct tally {
	unsigned long mounted, refused;
	unsigned long entries, read_whole, read_failed;
	unsigned long changed, change_failed;
	unsigned long unmount_failed;
	unsigned long errors[256]; /* of mount(2), by errno */
};

struct totals {
	struct tally read_only, read_write;
};

static const char *mountpoint;
static struct tally *tally;

static void need(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "walk: %s: %s\n", what, strerror(errno));
	_exit(2);
}

/* ---- reading ------------------------------------------------------------------------------------- */

static void read_file(int dir, const char *name)
{
	static char buf[65536];
	size_t total = 0;
	ssize_t n = -1;
	int fd = openat(dir, name, O_RDONLY);

	while (fd >= 0 && total < FILE_MAX) {
		n = read(fd, buf, sizeof(buf));
		if (n <= 0)
			break;
		total += (size_t)n;
	}
	if (n < 0)
		tally->read_failed++;
	else
		tally->read_whole++;
	if (fd >= 0) {
		/* also from behind, and past the end */
		(void)!pread(fd, buf, sizeof(buf), (off_t)(total / 2));
		(void)!pread(fd, buf, sizeof(buf), (off_t)total + 1);
		close(fd);
	}
}

static int control(const char *name)
{
	return !strcmp(name, "_mk") || !strcmp(name, "_del") || !strcmp(name, "_inc") ||
	       !strcmp(name, "_dec");
}

/* One directory; the first key in it goes to first. Directories below are walked when depth allows. */
static void read_directory(int at, const char *name, int depth, char *first)
{
	unsigned int entries = 0;
	struct dirent *e;
	struct stat st;
	DIR *dir;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY);

	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		tally->read_failed++;
		return;
	}
	while ((e = readdir(dir)) && entries++ < ENTRIES_MAX) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		tally->entries++;
		(void)!fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (e->d_type == DT_DIR && depth)
			read_directory(fd, e->d_name, depth - 1, NULL);
		else if (e->d_type == DT_REG && !control(e->d_name))
			read_file(fd, e->d_name);
		if (first && !*first && e->d_type == DT_REG && !control(e->d_name))
			strcpy(first, e->d_name);
	}
	closedir(dir);
}

static void scan(int root, unsigned int flags)
{
	static char buf[65536];
	struct kvfs_scan s = { .size = sizeof(s), .flags = flags, .buf = (unsigned long)buf,
			       .buf_len = sizeof(buf) };
	struct kvfs_stats stats = { .size = sizeof(stats) };
	struct statfs st;

	(void)!ioctl(root, KVFS_IOC_SCAN, &s);
	(void)!ioctl(root, KVFS_IOC_STATS, &stats);
	(void)!fstatfs(root, &st);
}

/* ---- changing ------------------------------------------------------------------------------------ */

static void count_change(int good)
{
	if (good)
		tally->changed++;
	else
		tally->change_failed++;
}

static int put(int root, const char *name, int flags, const char *data, size_t len)
{
	int fd = openat(root, name, O_WRONLY | flags, 0600);
	int good = fd >= 0 && write(fd, data, len) == (ssize_t)len;

	return (fd >= 0 && close(fd)) ? 0 : good;
}

static void change(int root, const char *first)
{
	static const char data[5000];

	count_change(put(root, "walk-new", O_CREAT, "1", 1));
	count_change(put(root, "_inc", 0, "walk-new", 8));
	count_change(put(root, "walk-large", O_CREAT, data, sizeof(data)));
	count_change(!mkdirat(root, "walk-tree", 0700));
	if (*first) {
		count_change(put(root, first, O_APPEND, "more", 4));
		count_change(!renameat(root, first, root, "walk-renamed"));
		count_change(!unlinkat(root, "walk-renamed", 0));
	}
	count_change(!ioctl(root, KVFS_IOC_SYNC));
	count_change(!unlinkat(root, "walk-new", 0));
}

/* ---- one image ----------------------------------------------------------------------------------- */

static void attach(int loop, int disk, unsigned long n)
{
	struct loop_config c = { .fd = (unsigned int)disk, .block_size = 512 };

	c.info.lo_offset = (unsigned long long)n * SLOT_BYTES;
	c.info.lo_sizelimit = SLOT_BYTES;
	need(!ioctl(loop, LOOP_CONFIGURE, &c), "LOOP_CONFIGURE");
}

static void visit(unsigned long flags)
{
	char first[NAME_MAX + 1] = "";
	int root;

	if (mount(LOOP, mountpoint, "kvfs", flags, "cache=1M")) {
		tally->refused++;
		tally->errors[errno & 255]++;
		return;
	}
	tally->mounted++;
	read_directory(AT_FDCWD, mountpoint, 1, first);
	root = open(mountpoint, O_RDONLY | O_DIRECTORY);
	if (root >= 0) {
		scan(root, 0);
		scan(root, KVFS_SCAN_REVERSE);
		if (!(flags & MS_RDONLY))
			change(root, first);
		close(root);
	}
	if (umount(mountpoint)) {
		tally->unmount_failed++;
		need(!umount2(mountpoint, MNT_DETACH), "umount");
	}
}

static void image(struct totals *t, int disk, unsigned long n)
{
	int loop = open(LOOP, O_RDWR);

	need(loop >= 0, LOOP);
	attach(loop, disk, n);
	tally = &t->read_only;
	visit(MS_RDONLY);
	tally = &t->read_write;
	visit(0);
	need(!ioctl(loop, LOOP_CLR_FD), "LOOP_CLR_FD");
	close(loop);
}

/* In a child, so that a hang can be told from an answer. 0: it ended well. */
static int watched(struct totals *t, int disk, unsigned long n)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	time_t begin = time(NULL);
	int status;
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (!pid) {
		image(t, disk, n);
		_exit(0);
	}
	while (!waitpid(pid, &status, WNOHANG)) {
		if (time(NULL) - begin > IMAGE_SECONDS) {
			printf("not ok - image %lu ends within %d s\n", n, IMAGE_SECONDS);
			return 1;
		}
		nanosleep(&pause, NULL);
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	printf("not ok - image %lu: the walk ends well (status %x)\n", n, status);
	return 1;
}

/* ---- all of them --------------------------------------------------------------------------------- */

static void tell(const char *how, const struct tally *t)
{
	unsigned int i;

	printf("# images %s: %lu mounted, %lu refused (", how, t->mounted, t->refused);
	for (i = 0; i < 256; i++)
		if (t->errors[i])
			printf(" %s %lu", strerrorname_np((int)i), t->errors[i]);
	printf(" ); %lu entries, %lu files read, %lu with an error; ", t->entries, t->read_whole,
	       t->read_failed);
	printf("%lu changes made, %lu refused; %lu times busy\n", t->changed, t->change_failed,
	       t->unmount_failed);
}

static int enough(const char *what, unsigned long got, unsigned long want)
{
	printf("%s - %s: %lu\n", got >= want ? "ok" : "not ok", what, got);
	return got < want;
}

int main(int argc, char **argv)
{
	unsigned long n, first = argc > 3 ? strtoul(argv[3], NULL, 10) : 0, count;
	struct totals *t;
	int disk, failed = 0;
	off_t size;

	if (argc < 3) {
		fprintf(stderr, "usage: walk DISK MOUNTPOINT [FIRST [COUNT]]\n");
		return 2;
	}
	mountpoint = argv[2];
	disk = open(argv[1], O_RDWR);
	size = disk >= 0 ? lseek(disk, 0, SEEK_END) : -1;
	need(size > 0, argv[1]);
	count = argc > 4 ? strtoul(argv[4], NULL, 10) : (unsigned long)size / SLOT_BYTES - first;
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(t != MAP_FAILED, "mmap");
	for (n = first; n < first + count && !failed; n++)
		failed = watched(t, disk, n);
	tell("read-only", &t->read_only);
	tell("for writing", &t->read_write);
	if (argc == 3) {
		failed |= enough("mutated images were mounted and refused, and each answered", n, 1000);
		failed |= enough("many were mounted read-only", t->read_only.mounted, count / 5);
		failed |= enough("many were mounted for writing", t->read_write.mounted, count / 5);
		failed |= enough("many were refused", t->read_only.refused, count / 20);
		failed |= enough("many could be changed", t->read_write.changed, count);
		failed |= enough("damage was met inside", t->read_only.read_failed, count / 100);
	}
	return failed;
}
