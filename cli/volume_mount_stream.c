/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume_mount_stream.c - values of any size on a mount, in bounded memory.
 *
 * Reading: what fits SHORT_BYTES is one call; a longer value is read through the file of its key, because a
 * pass over a file sees one version.
 *
 * Writing: bytes gather in a file without a name, so that nothing shows before the commit. Then they are
 * mapped, and become the value by one call: the ioctl PUT, or beyond its limit one write(2) to the file of
 * the key, which sets the whole value. Where files are written at offsets (write=stream) the value changes
 * when the file is closed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/client.h"
#include "volume_mount.h"

#define SHORT_BYTES (64u << 10)
#define WRITE_MAX 0x7ffff000u /* of one write(2) */

/* ---- reading --------------------------------------------------------------------------------- */

struct mounted_reader {
	int fd; /* -1: the value is in buf */
	uint64_t length, pos;
	uint8_t buf[SHORT_BYTES];
};

/* Through the file. errno is left for the caller. */
static int open_file(struct mounted_reader *rd, int dir, const void *key, size_t key_len)
{
	struct stat st;

	rd->fd = kvfs_client_open(dir, key, key_len, O_RDONLY);
	if (rd->fd < 0)
		return -1;
	if (!fstat(rd->fd, &st)) {
		rd->length = (uint64_t)st.st_size;
		return 0;
	}
	close(rd->fd);
	return -1;
}

int mounted_reader_of(int dir, const void *key, size_t key_len, kv_reader **out, uint64_t *value_len)
{
	struct mounted_reader *rd = malloc(sizeof(*rd));
	size_t len = SHORT_BYTES;
	int bad;

	if (!rd)
		return mounted_fail("the value could not be read");
	rd->fd = -1;
	rd->pos = 0;
	bad = mounted_get(dir, key, key_len, rd->buf, &len);
	rd->length = len;
	if (!bad && len > SHORT_BYTES)
		bad = open_file(rd, dir, key, key_len);
	if (bad) {
		int err = mounted_fail("the value could not be read");

		free(rd);
		return err;
	}
	*out = (kv_reader *)rd;
	*value_len = rd->length;
	return 0;
}

int mounted_reader_open(kv_db *db, kv_read *r, kv_tree *tree, const void *key, size_t key_len,
			kv_reader **out, uint64_t *value_len)
{
	(void)r;
	return mounted_reader_of(mounted_dir(db, tree), key, key_len, out, value_len);
}

static int changed(void)
{
	return mounted_say(KV_E_TOOOLD, "the value was changed while it was read; try again");
}

/* At the end of a file, reading begins again if the value has changed: that must not pass for more of it. */
static int file_read(struct mounted_reader *rd, void *buf, size_t len, size_t *got)
{
	uint64_t left = rd->length - rd->pos;
	uint8_t probe;
	ssize_t n;

	do
		n = left ? read(rd->fd, buf, left < len ? left : len) : read(rd->fd, &probe, 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ESTALE ? changed() : mounted_fail("the value could not be read");
	if (left ? !n : n)
		return changed();
	*got = left ? (size_t)n : 0;
	rd->pos += *got;
	return 0;
}

int mounted_reader_read(kv_reader *reader, void *buf, size_t len, size_t *got)
{
	struct mounted_reader *rd = (struct mounted_reader *)reader;
	uint64_t left = rd->length - rd->pos;

	*got = 0;
	if (!len)
		return 0;
	if (rd->fd >= 0)
		return file_read(rd, buf, len, got);
	*got = left < len ? (size_t)left : len;
	memcpy(buf, rd->buf + rd->pos, *got);
	rd->pos += *got;
	return 0;
}

void mounted_reader_close(kv_reader *reader)
{
	struct mounted_reader *rd = (struct mounted_reader *)reader;

	if (rd->fd >= 0)
		close(rd->fd);
	free(rd);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct mounted_writer {
	int dir, fd;
	uint64_t length;
	size_t key_len;
	uint8_t key[];
};

/* A file without a name, where there is room for large ones. */
static int spool_open(void)
{
	const char *const dirs[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
	size_t i;
	int fd = -1;

	for (i = 0; fd < 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		char name[4096];

		if (!dirs[i] || !*dirs[i] || strlen(dirs[i]) > sizeof(name) - 32)
			continue;
		fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			break;
		strcpy(stpcpy(name, dirs[i]), "/kvs-value.XXXXXX");
		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			unlink(name);
	}
	return fd;
}

int mounted_writer_open(kv_db *db, kv_tree *tree, const void *key, size_t key_len, kv_writer **out)
{
	struct mounted_writer *w = malloc(sizeof(*w) + key_len);

	if (!w)
		return mounted_fail("the value could not be kept");
	w->dir = mounted_dir(db, tree);
	w->length = 0;
	w->key_len = key_len;
	memcpy(w->key, key, key_len);
	w->fd = spool_open();
	if (w->fd < 0) {
		int err = mounted_fail("no file for the value in $TMPDIR, /var/tmp or /tmp");

		free(w);
		return err;
	}
	*out = (kv_writer *)w;
	return 0;
}

/* -1 with errno. */
static int write_all(int fd, const uint8_t *p, uint64_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len < WRITE_MAX ? len : WRITE_MAX);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (uint64_t)n;
	}
	return 0;
}

int mounted_writer_write(kv_writer *writer, const void *data, size_t len)
{
	struct mounted_writer *w = (struct mounted_writer *)writer;

	if (write_all(w->fd, data, len)) {
		/* Not that of the volume. */
		if (errno == ENOSPC || errno == EDQUOT)
			return mounted_say(KV_E_IO,
					   "no room for the value in $TMPDIR, /var/tmp or /tmp; set TMPDIR");
		return mounted_fail("the value could not be kept");
	}
	w->length += len;
	return 0;
}

/* The file of the key, to write to. A long key's name is known only of a key that is there. */
static int open_to_set(const struct mounted_writer *w, int flags)
{
	int fd = kvfs_client_open(w->dir, w->key, w->key_len, O_WRONLY | O_CREAT | flags);

	if (fd >= 0 || errno != EINVAL)
		return fd;
	if (mounted_put(w->dir, w->key, w->key_len, NULL, 0, KVFS_PUT_NEW) && errno != EEXIST)
		return -1;
	return kvfs_client_open(w->dir, w->key, w->key_len, O_WRONLY | flags);
}

/*
 * -1 with errno. With write=set there is no O_TRUNC: the old value stays if this fails. With write=stream
 * there is: the value that was must not follow the new one.
 */
static int set_by_file(const struct mounted_writer *w, const uint8_t *p)
{
	int stream = kvfs_client_has_option(w->dir, "write=stream"), fd, reason = 0;

	if (stream < 0)
		return -1;
	if (!stream && w->length > WRITE_MAX) {
		errno = EFBIG;
		return -1;
	}
	fd = open_to_set(w, stream ? O_TRUNC : 0);
	if (fd < 0)
		return -1;
	if (stream) {
		if (write_all(fd, p, w->length))
			reason = errno;
	} else {
		ssize_t n = write(fd, p, w->length);

		if (n < 0 || (uint64_t)n != w->length)
			reason = n < 0 ? errno : EIO;
	}
	if (close(fd) && !reason)
		reason = errno;
	errno = reason;
	return reason ? -1 : 0;
}

static int commit(const struct mounted_writer *w, uint32_t flags)
{
	void *p;
	int bad;

	if (!w->length)
		return mounted_put(w->dir, w->key, w->key_len, NULL, 0, mounted_flags(flags));
	p = mmap(NULL, w->length, PROT_READ, MAP_SHARED, w->fd, 0);
	if (p == MAP_FAILED)
		return -1;
	if (w->length <= KVFS_IOC_VALUE_MAX)
		bad = mounted_put(w->dir, w->key, w->key_len, p, w->length, mounted_flags(flags));
	else
		bad = set_by_file(w, p);
	munmap(p, w->length);
	return bad;
}

int mounted_writer_commit(kv_writer *writer, uint32_t flags)
{
	struct mounted_writer *w = (struct mounted_writer *)writer;
	int err = 0;

	if (commit(w, flags)) {
		if (errno == EFBIG && w->length > WRITE_MAX)
			err = mounted_say(KV_E_TOOBIG,
					  "the value is longer than one write(2) takes; remount with "
					  "-o write=stream");
		else
			err = mounted_fail("the value could not be stored");
	}
	mounted_writer_abort(writer);
	return err;
}

void mounted_writer_abort(kv_writer *writer)
{
	struct mounted_writer *w = (struct mounted_writer *)writer;

	close(w->fd);
	free(w);
}
