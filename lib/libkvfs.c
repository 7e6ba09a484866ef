/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libkvfs.c - the functions of libkvfs.h. Commands go to the control files, which stay open: one write is
 * one command. Values are read and written through the file of the key, each in one pass.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "libkvfs.h"

/* Longest that one write(2) or read(2) takes. */
#define IO_MAX 0x7ffff000u
/* How often a value is read again that was replaced while it was read. */
#define READ_AGAIN 16

enum { MK, DEL, INC, DEC };
static const char *const control_name[] = { "_mk", "_del", "_inc", "_dec" };

static int fail(int reason)
{
	errno = reason;
	return -1;
}

/* ---- the mount ------------------------------------------------------------------------------- */

/* Control files are files without content that nobody may read. */
static bool is_kvfs(int dir)
{
	struct stat st;
	size_t i;

	for (i = 0; i < 4; i++)
		if (fstatat(dir, control_name[i], &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) ||
		    st.st_mode & 0444 || st.st_size)
			return false;
	return true;
}

static void close_all(struct kv_mnt *m)
{
	size_t i;

	for (i = 0; i < 4; i++) {
		if (m->control[i] >= 0)
			close(m->control[i]);
		m->control[i] = -EBADF;
	}
	if (m->dir >= 0)
		close(m->dir);
	m->dir = -1;
}

struct kv_mnt kvfs_attach(const char *where)
{
	struct kv_mnt m = { .dir = -1, .control = { -EBADF, -EBADF, -EBADF, -EBADF } };
	size_t i;

	m.dir = kvfs_client_find(where);
	if (m.dir < 0) {
		m.error = errno;
		return m;
	}
	if (!is_kvfs(m.dir)) {
		close_all(&m);
		m.error = ENOTTY;
		return m;
	}
	for (i = 0; i < 4; i++) {
		m.control[i] = openat(m.dir, control_name[i], O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
		if (m.control[i] < 0)
			m.control[i] = -errno;
		/* No room for descriptors is no property of the mount. */
		if (m.control[i] == -EMFILE || m.control[i] == -ENFILE || m.control[i] == -ENOMEM) {
			m.error = -m.control[i];
			close_all(&m);
			return m;
		}
	}
	return m;
}

void kvfs_free(struct kv_mnt *m)
{
	close_all(m);
	if (!m->error)
		m->error = EBADF;
}

/* ---- commands -------------------------------------------------------------------------------- */

/* -1 with errno, or the length of the key. */
static ssize_t key_length(const struct kv_mnt *m, const char *key)
{
	if (m->error)
		return fail(m->error);
	if (!*key)
		return fail(EINVAL);
	return (ssize_t)strlen(key);
}

static int command(const struct kv_mnt *m, int which, const char *key, size_t len)
{
	ssize_t n;

	if (m->control[which] < 0)
		return fail(-m->control[which]);
	do
		n = write(m->control[which], key, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	return (size_t)n == len ? 0 : fail(EIO);
}

/* With strip_nl a control file would take it off. */
static bool ends_in_newline(const char *key, ssize_t len)
{
	return key[len - 1] == '\n';
}

int key_create(const struct kv_mnt *m, const char *key)
{
	ssize_t len = key_length(m, key);
	int fd;

	if (len < 0)
		return -1;
	if (!ends_in_newline(key, len))
		return command(m, MK, key, (size_t)len);
	fd = kvfs_client_open(m->dir, key, (size_t)len, O_WRONLY | O_CREAT | O_EXCL);
	return fd < 0 ? -1 : close(fd);
}

int key_delete(const struct kv_mnt *m, const char *key)
{
	ssize_t len = key_length(m, key);

	if (len < 0)
		return -1;
	if (!ends_in_newline(key, len))
		return command(m, DEL, key, (size_t)len);
	return kvfs_client_unlink(m->dir, key, (size_t)len);
}

static int add(const struct kv_mnt *m, int which, const char *key)
{
	ssize_t len = key_length(m, key);

	if (len < 0)
		return -1;
	return ends_in_newline(key, len) ? fail(EINVAL) : command(m, which, key, (size_t)len);
}

int key_inc(const struct kv_mnt *m, const char *key)
{
	return add(m, INC, key);
}

int key_dec(const struct kv_mnt *m, const char *key)
{
	return add(m, DEC, key);
}

int key_exists(const struct kv_mnt *m, const char *key)
{
	ssize_t len = key_length(m, key);
	struct stat st;

	if (len < 0)
		return -1;
	if (!kvfs_client_stat(m->dir, key, (size_t)len, &st))
		return 1;
	return errno == ENOENT ? 0 : -1;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* An alias, the name of a long key, tells the key only of one that is there: it is made first. */
static int open_to_set(const struct kv_mnt *m, const char *key, size_t len)
{
	int fd = kvfs_client_open(m->dir, key, len, O_WRONLY | O_CREAT | O_TRUNC);

	if (fd >= 0 || errno != EINVAL || (key_create(m, key) && errno != EEXIST))
		return fd;
	return kvfs_client_open(m->dir, key, len, O_WRONLY | O_TRUNC);
}

int key_set_b(const struct kv_mnt *m, const char *key, const void *bytes, size_t len)
{
	ssize_t n = key_length(m, key);
	int fd, reason = 0;

	if (n < 0)
		return -1;
	if (len > IO_MAX)
		return fail(EFBIG);
	fd = open_to_set(m, key, (size_t)n);
	if (fd < 0)
		return -1;
	if (len) {
		do
			n = write(fd, bytes, len);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			reason = errno;
		else if ((size_t)n != len)
			reason = EIO;
	}
	if (close(fd) && !reason)
		reason = errno;
	return reason ? fail(reason) : 0;
}

int key_set_s(const struct kv_mnt *m, const char *key, const char *text)
{
	return key_set_b(m, key, text, strlen(text));
}

int key_set_i(const struct kv_mnt *m, const char *key, int64_t number)
{
	char text[24];

	return key_set_b(m, key, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, number));
}

/* Up to cap bytes from the beginning: fewer only at the end of the value. */
static ssize_t read_pass(int fd, char *buf, size_t cap)
{
	size_t used = 0, want;
	ssize_t n;

	while (used < cap) {
		want = cap - used < IO_MAX ? cap - used : IO_MAX;
		n = pread(fd, buf + used, want, (off_t)used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		used += (size_t)n;
		/* Asking at the end again could give the beginning of a newer value. */
		if ((size_t)n < want)
			break;
	}
	return (ssize_t)used;
}

/*
 * A pass sees one version. It is read with room for one byte more than its size: when all room is filled the
 * value has grown since, and is read again.
 */
static char *read_value(int fd, size_t *len)
{
	char *buf = NULL, *more;
	struct stat st;
	size_t cap;
	ssize_t n;
	int again;

	for (again = 0; again < READ_AGAIN; again++) {
		if (fstat(fd, &st))
			break;
		cap = (size_t)st.st_size + 1;
		more = realloc(buf, cap);
		if (!more)
			break;
		buf = more;
		n = read_pass(fd, buf, cap);
		if (n >= 0 && (size_t)n < cap) {
			buf[n] = 0;
			*len = (size_t)n;
			return buf;
		}
		if (n < 0 && errno != ESTALE)
			break;
		errno = ESTALE;
	}
	free(buf);
	return NULL;
}

void *key_get_b(const struct kv_mnt *m, const char *key, size_t *len)
{
	ssize_t n = key_length(m, key);
	char *value;
	int fd, reason;

	if (n < 0)
		return NULL;
	fd = kvfs_client_open(m->dir, key, (size_t)n, O_RDONLY);
	if (fd < 0)
		return NULL;
	value = read_value(fd, len);
	reason = errno;
	close(fd);
	errno = reason;
	return value;
}

char *key_get_s(const struct kv_mnt *m, const char *key)
{
	size_t len;

	return key_get_b(m, key, &len);
}

/* What strtoull() calls it, with 0b besides; *text moves behind the prefix. */
static int base_of(const char **text)
{
	const char *s = *text;

	if (s[0] != '0' || !s[1])
		return 10;
	if (s[1] == 'x' || s[1] == 'X') {
		*text += 2;
		return 16;
	}
	if (s[1] == 'b' || s[1] == 'B') {
		*text += 2;
		return 2;
	}
	return 8;
}

static int number_parse(const char *text, int64_t *number)
{
	bool negative = *text == '-';
	unsigned long long v;
	char *end;
	int base;

	if (*text == '-' || *text == '+')
		text++;
	base = base_of(&text);
	/* strtoull() would take blanks, signs and a second prefix. */
	if (!*text || strspn(text, "0123456789abcdefABCDEF") != strlen(text))
		return EINVAL;
	errno = 0;
	v = strtoull(text, &end, base);
	if (*end)
		return EINVAL;
	if (errno || v > (uint64_t)INT64_MAX + negative)
		return ERANGE;
	*number = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

int key_get_i(const struct kv_mnt *m, const char *key, int64_t *number)
{
	size_t len;
	char *text = key_get_b(m, key, &len);
	int reason;

	if (!text)
		return -1;
	reason = strlen(text) == len ? number_parse(text, number) : EINVAL;
	free(text);
	return reason ? fail(reason) : 0;
}
