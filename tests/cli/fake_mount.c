/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fake_mount.c - a mount of the kernel module, played by the engine, for tests of 'kvs VERB mount:DIR'
 * without a kernel: LD_PRELOADed, it answers the ioctls on KVFS_FAKE_DIR from the image KVFS_FAKE_IMAGE. (The
 * same tests run on the real thing in a guest.)
 *
 * Directories of trees are real ones in KVFS_FAKE_DIR. Values that are put are files there too, under plain
 * names only, because long ones are read as files.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/include/kvengine.h"
#include "kmod/kvfs_ioctl.h"
#include "kvfs/kvfs.h"

int ioctl(int fd, unsigned long request, ...);

static kv_db *db;

static void fatal(const char *what)
{
	fprintf(stderr, "fake_mount: %s: %s\n", what, kv_last_error());
	_exit(99);
}

__attribute__((destructor)) static void leave(void)
{
	if (db && kv_close(db))
		fatal("close");
}

/* The directory behind fd below KVFS_FAKE_DIR: "" the root, "/tree". NULL: elsewhere. */
static const char *below(int fd)
{
	static char path[4096];
	const char *top = getenv("KVFS_FAKE_DIR");
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (!top || n <= 0)
		return NULL;
	path[n] = 0;
	return strncmp(path, top, strlen(top)) ? NULL : path + strlen(top);
}

static kv_tree *tree_of(const char *where)
{
	kv_tree *tree = NULL;

	if (!db && kv_open(getenv("KVFS_FAKE_IMAGE"), NULL, &db))
		fatal("open");
	if (*where && kv_tree_open(db, where + 1, KV_TREE_CREATE, &tree))
		fatal("tree");
	return tree;
}

static const void *bytes(uint64_t p)
{
	return (const void *)(uintptr_t)p;
}

/* ---- single operations ----------------------------------------------------------------------- */

/* value NULL: deleted */
static void mirror(int dir, const void *key, size_t key_len, const void *value, size_t len)
{
	char name[256];
	int fd;

	if (key_len > 255)
		return;
	memcpy(name, key, key_len);
	name[key_len] = 0;
	if (!value) {
		unlinkat(dir, name, 0);
		return;
	}
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (write(fd, value, len) != (ssize_t)len)
		_exit(99);
	close(fd);
}

static int get(kv_tree *t, struct kvfs_kv *a)
{
	kv_reader *rd;
	uint64_t len;
	size_t got = 1, used = 0;
	int err = kv_reader_open(db, NULL, t, bytes(a->key), a->key_len, &rd, &len);

	if (err)
		return err;
	if (a->offset)
		err = kv_reader_seek(rd, a->offset);
	while (!err && got && used < a->value_len) {
		err = kv_reader_read(rd, (uint8_t *)(uintptr_t)a->value + used, a->value_len - used, &got);
		used += got;
	}
	kv_reader_close(rd);
	a->value_len = len;
	return err;
}

static int put(int fd, kv_tree *t, const struct kvfs_kv *a)
{
	uint32_t flags = 0;
	int err;

	if (a->flags & KVFS_PUT_NEW)
		flags |= KV_PUT_NEW;
	if (a->flags & KVFS_PUT_REPLACE)
		flags |= KV_PUT_REPLACE;
	err = kv_put(db, t, bytes(a->key), a->key_len, bytes(a->value), a->value_len, flags);

	if (!err)
		mirror(fd, bytes(a->key), a->key_len, a->value ? bytes(a->value) : "", a->value_len);
	return err;
}

static int del(int fd, kv_tree *t, const struct kvfs_kv *a)
{
	int err = kv_del(db, t, bytes(a->key), a->key_len, 0);

	if (!err)
		mirror(fd, bytes(a->key), a->key_len, NULL, 0);
	return err;
}

static int inc(int fd, kv_tree *t, struct kvfs_inc *a)
{
	int64_t result;
	char text[24];
	int err = kv_inc(db, t, bytes(a->key), a->key_len, a->delta, &result, 0);

	if (err)
		return err;
	a->result = result;
	snprintf(text, sizeof(text), "%lld", (long long)result);
	mirror(fd, bytes(a->key), a->key_len, text, strlen(text));
	return 0;
}

/* ---- scan and batch -------------------------------------------------------------------------- */

static int scan_begin(kv_cursor *c, const struct kvfs_scan *a)
{
	bool reverse = a->flags & KVFS_SCAN_REVERSE;
	const void *key;
	size_t len;
	int err;

	err = reverse ? kv_cursor_bounds(c, bytes(a->to), a->to_len, NULL, 0)
		      : kv_cursor_bounds(c, NULL, 0, bytes(a->to), a->to_len);
	if (err)
		return err;
	if (!a->from)
		return reverse ? kv_cursor_last(c) : kv_cursor_first(c);
	err = reverse ? kv_cursor_seek_le(c, bytes(a->from), a->from_len)
		      : kv_cursor_seek(c, bytes(a->from), a->from_len);
	if (!err && a->flags & KVFS_SCAN_AFTER) {
		err = kv_cursor_key(c, &key, &len);
		if (!err && len == a->from_len && !memcmp(key, bytes(a->from), len))
			err = reverse ? kv_cursor_prev(c) : kv_cursor_next(c);
	}
	return err;
}

/* False: no room. */
static bool scan_one(kv_cursor *c, struct kvfs_scan *a, uint64_t room)
{
	struct kvfs_rec rec = { 0 };
	const void *key, *value = NULL;
	uint64_t length = 0;
	size_t key_len, share = 0, whole;
	uint8_t *to = (uint8_t *)(uintptr_t)a->buf + a->buf_len;

	if (kv_cursor_key(c, &key, &key_len) || kv_cursor_value_len(c, &length))
		fatal("scan");
	rec.value_len = length;
	rec.key_len = (uint32_t)key_len;
	if (!(a->flags & KVFS_SCAN_KEYS)) {
		share = rec.value_len;
		if (share > 65536) {
			share = 0;
			rec.flags = KVFS_REC_LONG;
		} else if (kv_cursor_value(c, &value, &share)) {
			fatal("scan");
		}
	}
	whole = (sizeof(rec) + key_len + share + 7) & ~(size_t)7;
	if (whole > room - a->buf_len)
		return false;
	memset(to + whole - 8, 0, 8);
	memcpy(to, &rec, sizeof(rec));
	memcpy(to + sizeof(rec), key, key_len);
	if (share)
		memcpy(to + sizeof(rec) + key_len, value, share);
	a->buf_len += whole;
	a->count++;
	return true;
}

static int scan(kv_tree *t, struct kvfs_scan *a)
{
	uint64_t room = a->buf_len;
	kv_cursor *c;
	int err;

	a->buf_len = 0;
	a->count = 0;
	a->more = 0;
	err = kv_cursor_open(db, NULL, t, &c);
	if (err)
		return err;
	for (err = scan_begin(c, a); !err;
	     err = a->flags & KVFS_SCAN_REVERSE ? kv_cursor_prev(c) : kv_cursor_next(c)) {
		if ((a->limit && a->count == a->limit) || !scan_one(c, a, room)) {
			a->more = 1;
			break;
		}
	}
	kv_cursor_close(c);
	return err == KV_E_NOTFOUND ? 0 : err;
}

static int batch(int fd, kv_tree *t, const struct kvfs_batch *a)
{
	const uint8_t *p = bytes(a->buf);
	struct kvfs_rec rec;
	kv_batch *b;
	uint32_t i;
	int err = kv_batch_new(db, &b);

	for (i = 0; !err && i < a->count; i++) {
		const uint8_t *key = p + sizeof(rec);
		bool gone;

		memcpy(&rec, p, sizeof(rec));
		gone = rec.value_len == KVFS_REC_DELETE;
		err = gone ? kv_batch_del(b, t, key, rec.key_len)
			   : kv_batch_put(b, t, key, rec.key_len, key + rec.key_len, rec.value_len);
		mirror(fd, key, rec.key_len, gone ? NULL : key + rec.key_len, gone ? 0 : rec.value_len);
		p += (sizeof(rec) + rec.key_len + (gone ? 0 : rec.value_len) + 7) & ~(uint64_t)7;
	}
	if (!err && p != (const uint8_t *)bytes(a->buf) + a->buf_len)
		err = KV_E_INVALID;
	if (!err)
		err = kv_batch_commit(b, 0);
	kv_batch_free(b);
	return err;
}

static int stats(struct kvfs_stats *a)
{
	kv_stat_info s;
	int err = kv_stat(db, &s);

	if (err)
		return err;
	memset(a, 0, sizeof(*a));
	a->size = sizeof(*a);
	memcpy(a->uuid, s.uuid, sizeof(a->uuid));
	memcpy(a->label, s.label, sizeof(s.label));
	a->block_bytes = s.block_bytes;
	a->key_max = s.key_max;
	a->inline_max = s.inline_max;
	a->chunk_bytes = s.chunk_bytes;
	a->trees = s.trees;
	a->entries = s.entries;
	a->readers = s.readers;
	a->reader_generation = s.reader_generation;
	a->reader_bytes = s.reader_bytes;
	return 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int answer(int fd, kv_tree *t, unsigned long request, void *arg)
{
	switch (request) {
	case KVFS_IOC_GET:
		return get(t, arg);
	case KVFS_IOC_PUT:
		return put(fd, t, arg);
	case KVFS_IOC_DEL:
		return del(fd, t, arg);
	case KVFS_IOC_INC:
		return inc(fd, t, arg);
	case KVFS_IOC_SCAN:
		return scan(t, arg);
	case KVFS_IOC_BATCH:
		return batch(fd, t, arg);
	case KVFS_IOC_SYNC:
		return kv_sync(db);
	case KVFS_IOC_STATS:
		return stats(arg);
	default:
		return KV_E_INVALID;
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	const char *where;
	va_list args;
	void *arg;
	int err;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	where = (request >> 8 & 0xff) == KVFS_IOC ? below(fd) : NULL;
	if (!where)
		return next(fd, request, arg);
	err = answer(fd, tree_of(where), request, arg);
	if (err)
		errno = -kvfs_errno(err);
	return err ? -1 : 0;
}

int fstatfs(int fd, struct statfs *out)
{
	int (*next)(int, struct statfs *) = (int (*)(int, struct statfs *))dlsym(RTLD_NEXT, "fstatfs");
	int rc = next(fd, out);

	if (!rc && below(fd))
		out->f_type = KVFS_MAGIC;
	return rc;
}

int fstat(int fd, struct stat *st)
{
	const char *where = below(fd);
	int rc = fstatat(fd, "", st, AT_EMPTY_PATH);

	if (!rc && where && !*where)
		st->st_ino = KVFS_ROOT_INO;
	return rc;
}

int fstatfs64(int fd, struct statfs64 *out) __attribute__((alias("fstatfs")));
int fstat64(int fd, struct stat64 *st) __attribute__((alias("fstat")));
