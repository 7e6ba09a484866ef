// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * nth_ops.c - the operations of nth.c: one of each way into the module.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../kmod/kvfs_ioctl.h"
#include "nth.h"

#define M MOUNTPOINT "/"
#define KEY M "key"
#define SMALL 100u
#define MIDDLE 5000u
#define LARGE 70000u
#define STREAM_PIECE 65536u
#define STREAM_PIECES 3u
#define LISTED 60u
#define BUFFER (1u << 20)

const char *device;
static char options[64];
static char buf[BUFFER], got[BUFFER];
static int fd = -1;

/* ---- the mount ----------------------------------------------------------------------------------- */

int volume_mount(const char *with)
{
	if (with)
		snprintf(options, sizeof(options), "%s", with);
	return mount(device, MOUNTPOINT, "kvfs", 0, options);
}

bool volume_mounted(void)
{
	struct stat a, b;

	return !stat(MOUNTPOINT, &a) && !stat("/", &b) && a.st_dev != b.st_dev;
}

int volume_unmount(void)
{
	return volume_mounted() ? umount(MOUNTPOINT) : 0;
}

/* ---- values -------------------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), M "%s", name);
	return path;
}

static int close_after(int file, int ret)
{
	int err = errno;

	if (close(file) && !ret)
		return -1;
	errno = err;
	return ret;
}

int value_put(const char *name, char kind, size_t len)
{
	int file = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (file < 0)
		return -1;
	memset(buf, kind, len);
	return close_after(file, write(file, buf, len) == (ssize_t)len ? 0 : -1);
}

int value_is(const char *name, char kind, size_t len)
{
	int file = open(path_of(name), O_RDONLY);
	size_t i, total = 0;
	ssize_t n = 1;

	if (file < 0)
		return errno == ENOENT ? 0 : -1;
	while (total < sizeof(got) && (n = read(file, got + total, sizeof(got) - total)) > 0)
		total += (size_t)n;
	close(file);
	if (n < 0 || total != len)
		return -1;
	for (i = 0; i < total && got[i] == kind; i++)
		;
	return i == total ? 1 : -1;
}

/* 1: the new value, 0: the old one, -1: neither */
static int one_of(const char *name, char was, size_t was_len, char is, size_t is_len)
{
	if (value_is(name, is, is_len) == 1)
		return 1;
	return value_is(name, was, was_len) == 1 ? 0 : -1;
}

static int absent(const char *name)
{
	return unlink(path_of(name)) && errno != ENOENT ? -1 : 0;
}

static int text_put(const char *name, const char *text)
{
	int file = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (file < 0)
		return -1;
	return close_after(file, write(file, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1);
}

static int text_is(const char *name, const char *text)
{
	char t[64] = "";
	int file = open(path_of(name), O_RDONLY);
	ssize_t n;

	if (file < 0)
		return -1;
	n = read(file, t, sizeof(t) - 1);
	close(file);
	return n == (ssize_t)strlen(text) && !strcmp(t, text);
}

static int open_for(const char *path, int flags)
{
	fd = open(path, flags, 0600);
	return fd < 0 ? -1 : 0;
}

static void done(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
}

static int key_old(void)
{
	return value_put("key", 'o', MIDDLE);
}

/* ---- mounts -------------------------------------------------------------------------------------- */

static int mount_prepare(void)
{
	return volume_unmount();
}

static int mount_run(void)
{
	return volume_mount("");
}

/* Something has to be written when it ends. */
static int unmount_prepare(void)
{
	if (!volume_mounted() && volume_mount(""))
		return -1;
	return value_put("key", 'u', LARGE);
}

static int unmount_run(void)
{
	return umount(MOUNTPOINT);
}

/* Nothing of it was synced: an unmount whose writes failed may have lost it, as a power cut would. */
static int unmount_state(void)
{
	int is = value_is("key", 'u', LARGE);

	return is >= 0 || value_is("key", 'o', MIDDLE) == 1 ? 1 : -1;
}

static int remount_run(void)
{
	return mount(device, MOUNTPOINT, "kvfs", MS_REMOUNT | MS_RDONLY, "");
}

static void remount_finish(void)
{
	(void)!mount(device, MOUNTPOINT, "kvfs", MS_REMOUNT, "");
}

static int freeze_prepare(void)
{
	return key_old() || open_for(MOUNTPOINT, O_RDONLY | O_DIRECTORY) ? -1 : 0;
}

static int freeze_run(void)
{
	return ioctl(fd, FIFREEZE, 0);
}

static void freeze_finish(void)
{
	(void)!ioctl(fd, FITHAW, 0);
	done();
}

/* ---- files --------------------------------------------------------------------------------------- */

static int create_prepare(void)
{
	return absent("new");
}

static int create_run(void)
{
	return open_for(M "new", O_WRONLY | O_CREAT | O_EXCL);
}

static int create_state(void)
{
	return value_is("new", 'n', 0);
}

static int lookup_prepare(void)
{
	FILE *f = fopen("/proc/sys/vm/drop_caches", "w");

	if (!f)
		return -1;
	fputs("2", f);
	fclose(f);
	return key_old();
}

static int lookup_run(void)
{
	struct stat st;

	return stat(KEY, &st);
}

static int open_run(void)
{
	return open_for(KEY, O_RDONLY);
}

static int read_prepare(void)
{
	return value_put("key", 'r', LARGE) || open_for(KEY, O_RDONLY) ? -1 : 0;
}

static int read_run(void)
{
	return read(fd, got, sizeof(got)) < 0 ? -1 : 0;
}

static int cold_read_prepare(void)
{
	return volume_unmount() || volume_mount("") || open_for(M "canary-large", O_RDONLY) ? -1 : 0;
}

static int write_prepare(void)
{
	return key_old() || open_for(KEY, O_WRONLY) ? -1 : 0;
}

static int write_of(char kind, size_t len)
{
	memset(buf, kind, len);
	return write(fd, buf, len) == (ssize_t)len ? 0 : -1;
}

static int write_small_run(void)
{
	return write_of('w', SMALL);
}

static int write_small_state(void)
{
	return one_of("key", 'o', MIDDLE, 'w', SMALL);
}

static int write_large_run(void)
{
	return write_of('w', LARGE);
}

static int write_large_state(void)
{
	return one_of("key", 'o', MIDDLE, 'w', LARGE);
}

static int write_huge_run(void)
{
	return write_of('h', sizeof(buf));
}

static int write_huge_state(void)
{
	return one_of("key", 'o', MIDDLE, 'h', sizeof(buf));
}

static int append_prepare(void)
{
	return key_old() || open_for(KEY, O_WRONLY | O_APPEND) ? -1 : 0;
}

static int append_run(void)
{
	return write_of('o', SMALL);
}

static int append_state(void)
{
	return one_of("key", 'o', MIDDLE, 'o', MIDDLE + SMALL);
}

static int truncate_run(void)
{
	return truncate(KEY, SMALL);
}

static int truncate_state(void)
{
	return one_of("key", 'o', MIDDLE, 'o', SMALL);
}

static int fsync_prepare(void)
{
	return value_put("key", 'f', LARGE) || open_for(KEY, O_RDONLY) ? -1 : 0;
}

static int fsync_run(void)
{
	return fsync(fd);
}

static int syncfs_run(void)
{
	return syncfs(fd);
}

static int osync_prepare(void)
{
	return key_old() || open_for(KEY, O_WRONLY | O_SYNC) ? -1 : 0;
}

/* A mount for streams: what is written is staged, and becomes the value when the file is closed. */
static int stream_prepare(void)
{
	if (volume_unmount() || volume_mount("write=stream"))
		return -1;
	return absent("stream");
}

static int stream_run(void)
{
	unsigned int i;

	if (open_for(M "stream", O_WRONLY | O_CREAT))
		return -1;
	memset(buf, 't', STREAM_PIECE);
	for (i = 0; i < STREAM_PIECES; i++)
		if (write(fd, buf, STREAM_PIECE) != (ssize_t)STREAM_PIECE)
			return -1;
	i = (unsigned int)fd;
	fd = -1;
	return close((int)i);
}

/* Several changes: the file may be there and empty, or hold what was written until then. */
static int stream_state(void)
{
	unsigned int i;

	for (i = 0; i <= STREAM_PIECES; i++)
		if (value_is("stream", 't', i * STREAM_PIECE) >= 0)
			return i == STREAM_PIECES && value_is("stream", 't', i * STREAM_PIECE) == 1;
	return -1;
}

static void stream_finish(void)
{
	done();
	snprintf(options, sizeof(options), "%s", "");
}

/* ---- names --------------------------------------------------------------------------------------- */

static int unlink_run(void)
{
	return unlink(KEY);
}

static int unlink_state(void)
{
	int is = value_is("key", 'o', MIDDLE);

	return is < 0 ? -1 : !is;
}

static int rename_prepare(void)
{
	return absent("to") || key_old() ? -1 : 0;
}

static int rename_over_prepare(void)
{
	return value_put("to", 'v', SMALL) || key_old() ? -1 : 0;
}

static int rename_run(void)
{
	return rename(KEY, M "to");
}

static int rename_state(void)
{
	int from = value_is("key", 'o', MIDDLE), to = value_is("to", 'o', MIDDLE);

	if (from == 1)
		return to == 1 ? -1 : 0;
	return !from && to == 1 ? 1 : -1;
}

static int tree_gone(void)
{
	return rmdir(M "tree") && errno != ENOENT ? -1 : 0;
}

static int tree_there(void)
{
	return mkdir(M "tree", 0700) && errno != EEXIST ? -1 : 0;
}

static int mkdir_run(void)
{
	return mkdir(M "tree", 0700);
}

static int mkdir_state(void)
{
	struct stat st;

	return !stat(M "tree", &st);
}

static int rmdir_run(void)
{
	return rmdir(M "tree");
}

static int rmdir_state(void)
{
	return !mkdir_state();
}

static int list_prepare(void)
{
	char name[32];
	unsigned int i;

	for (i = 0; i < LISTED; i++) {
		snprintf(name, sizeof(name), "listed-%u", i);
		if (value_put(name, 'i', SMALL))
			return -1;
	}
	return open_for(MOUNTPOINT, O_RDONLY | O_DIRECTORY);
}

/* An end that comes early would be a lie: all have to be there, or an error. */
static int list_run(void)
{
	const struct dirent64 *e;
	unsigned int seen = 0;
	long n, at;

	while ((n = syscall(SYS_getdents64, fd, got, 4096)) > 0)
		for (at = 0; at < n; at += e->d_reclen) {
			e = (const struct dirent64 *)(got + at);
			seen += !strncmp(e->d_name, "listed-", 7);
		}
	if (!n && seen != LISTED) {
		errno = ENODATA;
		return -1;
	}
	return (int)n;
}

static int statfs_run(void)
{
	struct statfs st;

	return statfs(MOUNTPOINT, &st);
}

static int sysfs_run(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/fs/kvfs/%s/records", strrchr(device, '/') + 1);
	if (open_for(path, O_RDONLY))
		return -1;
	return read(fd, got, 64) > 0 ? 0 : -1;
}

/* ---- control files ------------------------------------------------------------------------------- */

static int mk_prepare(void)
{
	return absent("new") || open_for(M "_mk", O_WRONLY) ? -1 : 0;
}

static int mk_run(void)
{
	return write(fd, "new", 3) == 3 ? 0 : -1;
}

static int del_prepare(void)
{
	return key_old() || open_for(M "_del", O_WRONLY) ? -1 : 0;
}

static int control_run(void)
{
	return write(fd, "key", 3) == 3 ? 0 : -1;
}

static int inc_prepare(void)
{
	return text_put("key", "41") || open_for(M "_inc", O_WRONLY) ? -1 : 0;
}

static int inc_state(void)
{
	if (text_is("key", "42") == 1)
		return 1;
	return text_is("key", "41") == 1 ? 0 : -1;
}

/* ---- ioctls -------------------------------------------------------------------------------------- */

static int root_open(void)
{
	return open_for(MOUNTPOINT, O_RDONLY | O_DIRECTORY);
}

static int ioctl_prepare(void)
{
	return key_old() || root_open() ? -1 : 0;
}

static int kv(unsigned long request, char *value, size_t len, unsigned int flags)
{
	struct kvfs_kv a = { .size = sizeof(a), .flags = flags, .key = (unsigned long)"key", .key_len = 3,
			     .value = (unsigned long)value, .value_len = len };

	return ioctl(fd, request, &a);
}

static int get_run(void)
{
	return kv(KVFS_IOC_GET, got, sizeof(got), 0);
}

static int put_run(void)
{
	memset(buf, 'w', LARGE);
	return kv(KVFS_IOC_PUT, buf, LARGE, 0);
}

static int put_sync_run(void)
{
	memset(buf, 'w', SMALL);
	return kv(KVFS_IOC_PUT, buf, SMALL, KVFS_PUT_SYNC);
}

static int del_run(void)
{
	return kv(KVFS_IOC_DEL, NULL, 0, 0);
}

static int ioctl_inc_prepare(void)
{
	return text_put("key", "41") || root_open() ? -1 : 0;
}

static int ioctl_inc_run(void)
{
	struct kvfs_inc a = { .size = sizeof(a), .key = (unsigned long)"key", .key_len = 3, .delta = 1 };

	return ioctl(fd, KVFS_IOC_INC, &a);
}

static int scan_run(void)
{
	struct kvfs_scan a = { .size = sizeof(a), .buf = (unsigned long)got, .buf_len = sizeof(got) };

	return ioctl(fd, KVFS_IOC_SCAN, &a);
}

static char *record(char *at, const char *key, unsigned long long len)
{
	struct kvfs_rec r = { .value_len = len, .key_len = (unsigned int)strlen(key) };

	memcpy(at, &r, sizeof(r));
	memcpy(at + sizeof(r), key, r.key_len);
	at += (sizeof(r) + r.key_len + 7) & ~7ul;
	return at;
}

static int batch_prepare(void)
{
	return absent("new") || key_old() || root_open() ? -1 : 0;
}

/* One key is made and another deleted: both, or neither. */
static int batch_run(void)
{
	struct kvfs_batch a = { .size = sizeof(a), .buf = (unsigned long)buf, .count = 2 };

	memset(buf, 0, 256);
	a.buf_len = (unsigned long)(record(record(buf, "new", 0), "key", KVFS_REC_DELETE) - buf);
	return ioctl(fd, KVFS_IOC_BATCH, &a);
}

static int batch_state(void)
{
	int made = value_is("new", 'n', 0), old = value_is("key", 'o', MIDDLE);

	if (made < 0 || old < 0)
		return -1;
	return made != old ? made : -1;
}

static int stats_run(void)
{
	struct kvfs_stats a = { .size = sizeof(a) };

	return ioctl(fd, KVFS_IOC_STATS, &a);
}

static int sync_run(void)
{
	return ioctl(fd, KVFS_IOC_SYNC);
}

/* ---- all of them --------------------------------------------------------------------------------- */

/* clang-format off */
const struct operation operations[] = {
	{ "stream", stream_prepare, stream_run, stream_state, stream_finish, true },
	/* mounts anew, without write=stream */
	{ "mount", mount_prepare, mount_run, NULL, NULL, false },
	{ "lookup", lookup_prepare, lookup_run, NULL, NULL, false },
	{ "open", key_old, open_run, NULL, done, false },
	/* To the VFS two steps: a key that was made stays when the file cannot be opened. */
	{ "create", create_prepare, create_run, create_state, done, true },
	{ "read", read_prepare, read_run, NULL, done, false },
	{ "read after a mount", cold_read_prepare, read_run, NULL, done, false },
	{ "write 100", write_prepare, write_small_run, write_small_state, done, false },
	{ "write 70,000", write_prepare, write_large_run, write_large_state, done, false },
	{ "write 1 MiB", write_prepare, write_huge_run, write_huge_state, done, false },
	{ "write O_SYNC", osync_prepare, write_large_run, write_large_state, done, true },
	{ "append", append_prepare, append_run, append_state, done, false },
	{ "truncate", key_old, truncate_run, truncate_state, NULL, false },
	{ "fsync", fsync_prepare, fsync_run, NULL, done, false },
	{ "syncfs", fsync_prepare, syncfs_run, NULL, done, false },
	{ "unlink", key_old, unlink_run, unlink_state, NULL, false },
	{ "rename", rename_prepare, rename_run, rename_state, NULL, false },
	{ "rename over", rename_over_prepare, rename_run, rename_state, NULL, false },
	{ "mkdir", tree_gone, mkdir_run, mkdir_state, NULL, false },
	{ "rmdir", tree_there, rmdir_run, rmdir_state, NULL, false },
	{ "readdir", list_prepare, list_run, NULL, done, false },
	{ "statfs", NULL, statfs_run, NULL, NULL, false },
	{ "sysfs", NULL, sysfs_run, NULL, done, false },
	{ "_mk", mk_prepare, mk_run, create_state, done, false },
	{ "_del", del_prepare, control_run, unlink_state, done, false },
	{ "_inc", inc_prepare, control_run, inc_state, done, false },
	{ "GET", ioctl_prepare, get_run, NULL, done, false },
	{ "PUT", ioctl_prepare, put_run, write_large_state, done, false },
	{ "PUT SYNC", ioctl_prepare, put_sync_run, write_small_state, done, true },
	{ "DEL", ioctl_prepare, del_run, unlink_state, done, false },
	{ "INC", ioctl_inc_prepare, ioctl_inc_run, inc_state, done, true },
	{ "SCAN", ioctl_prepare, scan_run, NULL, done, false },
	{ "BATCH", batch_prepare, batch_run, batch_state, done, false },
	{ "STATS", ioctl_prepare, stats_run, NULL, done, false },
	{ "SYNC", fsync_prepare, sync_run, NULL, done, false },
	{ "freeze", freeze_prepare, freeze_run, NULL, freeze_finish, false },
	{ "remount read-only", key_old, remount_run, NULL, remount_finish, false },
	{ "umount", unmount_prepare, unmount_run, unmount_state, NULL, true },
};
/* clang-format on */
const size_t operations_nr = sizeof(operations) / sizeof(operations[0]);
