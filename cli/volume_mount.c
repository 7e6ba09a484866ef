/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume_mount.c - a mount of the kernel module as a volume: opening it, single operations, the whole volume,
 * errors.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/client.h"
#include "volume_mount.h"

#define KVFS_MAGIC 0x4b564653 /* of statfs(2), as in kvfs/kvfs.h */
#define ROOT_INO 1

/* ---- errors ---------------------------------------------------------------------------------- */

static __thread char error_text[512];

const char *mounted_last_error(void)
{
	return error_text;
}

int mounted_say(int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, args);
	va_end(args);
	return err;
}

static int class_of(int reason)
{
	switch (reason) {
	case ENOENT:
		return KV_E_NOTFOUND;
	case EEXIST:
		return KV_E_EXISTS;
	case EINVAL:
		return KV_E_INVALID;
	case ERANGE:
		return KV_E_NUMBER;
	case E2BIG:
	case EFBIG:
	case ENAMETOOLONG:
		return KV_E_TOOBIG;
	case ENOSPC:
	case EDQUOT:
		return KV_E_NOSPACE;
	case ENOMEM:
		return KV_E_NOMEM;
	case EUCLEAN:
	case EBADMSG:
		return KV_E_CORRUPT;
	case EOPNOTSUPP:
		return KV_E_UNSUPPORTED;
	case EROFS:
		return KV_E_READONLY;
	case EBUSY:
		return KV_E_BUSY;
	case ESTALE:
		return KV_E_TOOOLD;
	case EINTR:
		return KV_E_CANCELLED;
	default:
		return KV_E_IO;
	}
}

/* What helps on a mount; the general advice is for images. */
static const char *advice(int err)
{
	switch (err) {
	case KV_E_CORRUPT:
		return "; unmount it and run 'kvs-fsck -n' on its device";
	case KV_E_READONLY:
		return "; the mount is read-only, see 'dmesg' for why";
	case KV_E_BUSY:
	case KV_E_TOOOLD:
		return "; try again";
	case KV_E_NOMEM:
		return "; free some memory";
	default:
		return "";
	}
}

/* The words of strerror() are about files. */
static const char *words(int reason)
{
	switch (reason) {
	case ENAMETOOLONG:
		return "the key is too long for this volume";
	case EFBIG:
	case E2BIG:
		return "too long for this volume";
	case ENOENT:
		return "it is not there";
	case ENOSPC:
		return "the volume is full";
	case EUCLEAN:
	case EBADMSG:
		return "the volume is damaged there";
	default:
		return strerror(reason);
	}
}

int mounted_fail(const char *what)
{
	int reason = errno, err = class_of(reason);

	return mounted_say(err, "%s: %s%s", what, words(reason), advice(err));
}

/* ---- ioctls ---------------------------------------------------------------------------------- */

uint32_t mounted_flags(uint32_t flags)
{
	uint32_t out = 0;

	if ((flags & 3u) == KV_SYNCED)
		out |= KVFS_PUT_SYNC;
	if (flags & KV_PUT_NEW)
		out |= KVFS_PUT_NEW;
	if (flags & KV_PUT_REPLACE)
		out |= KVFS_PUT_REPLACE;
	return out;
}

static void kv_init(struct kvfs_kv *a, const void *key, size_t key_len, uint32_t flags)
{
	memset(a, 0, sizeof(*a));
	a->size = sizeof(*a);
	a->flags = flags;
	a->key = mounted_pointer(key);
	a->key_len = (uint32_t)key_len;
}

int mounted_put(int dir, const void *key, size_t key_len, const void *value, size_t len, uint32_t flags)
{
	struct kvfs_kv a;

	kv_init(&a, key, key_len, flags);
	a.value = mounted_pointer(value);
	a.value_len = len;
	return ioctl(dir, KVFS_IOC_PUT, &a);
}

int mounted_get(int dir, const void *key, size_t key_len, void *value, size_t *len)
{
	struct kvfs_kv a;

	kv_init(&a, key, key_len, 0);
	a.value = mounted_pointer(value);
	a.value_len = *len;
	if (ioctl(dir, KVFS_IOC_GET, &a))
		return -1;
	*len = a.value_len;
	return 0;
}

int mounted_scan(int dir, struct kvfs_scan *a)
{
	a->size = sizeof(*a);
	return ioctl(dir, KVFS_IOC_SCAN, a);
}

static int stats(const struct mounted *m, struct kvfs_stats *s)
{
	memset(s, 0, sizeof(*s));
	s->size = sizeof(*s);
	return ioctl(m->dir, KVFS_IOC_STATS, s);
}

/* ---- the mount ------------------------------------------------------------------------------- */

static int verify(const struct mounted *m)
{
	struct kvfs_stats s;
	struct statfs fs;
	struct stat st;

	if (fstatfs(m->dir, &fs) || fstat(m->dir, &st))
		return mounted_fail("cannot be looked at");
	if ((unsigned long)fs.f_type != KVFS_MAGIC)
		return mounted_say(KV_E_NOTVOLUME,
				   "no mount of the kernel module; what 'kvs mount' shows can be used by "
				   "its files only");
	if (st.st_ino != ROOT_INO)
		return mounted_say(KV_E_INVALID,
				   "not the root of the mount; name that, and the tree by --tree");
	return stats(m, &s) ? mounted_fail("does not answer") : 0;
}

static int op_open(const char *path, const kv_options *opt, kv_db **out)
{
	struct mounted *m = calloc(1, sizeof(*m));
	int err = 0;

	(void)opt;
	if (!m)
		return mounted_fail("cannot be opened");
	m->dir = kvfs_client_find(path);
	if (m->dir < 0 && errno == ENODEV)
		err = mounted_say(KV_E_NOTVOLUME, "is not mounted; 'mount -t kvfs' mounts it");
	else if (m->dir < 0 && (errno == ENOENT || errno == ENOTDIR))
		err = mounted_say(KV_E_NOTVOLUME,
				  "no such directory; mount:DIR is a volume that is mounted there");
	else if (m->dir < 0)
		err = mounted_fail("cannot be opened");
	else
		err = verify(m);
	if (err) {
		if (m->dir >= 0)
			close(m->dir);
		free(m);
		return err;
	}
	*out = (kv_db *)m;
	return 0;
}

static int op_close(kv_db *db)
{
	struct mounted *m = mounted_of(db);
	struct mounted_tree *t;

	while ((t = m->trees)) {
		m->trees = t->next;
		close(t->dir);
		free(t);
	}
	close(m->dir);
	free(m);
	return 0;
}

static int op_sync(kv_db *db)
{
	return ioctl(mounted_of(db)->dir, KVFS_IOC_SYNC) ? mounted_fail("could not be synced") : 0;
}

static int op_stat(kv_db *db, kv_stat_info *out)
{
	struct kvfs_stats s;

	if (stats(mounted_of(db), &s))
		return mounted_fail("gives no statistics");
	memset(out, 0, sizeof(*out));
	memcpy(out->uuid, s.uuid, sizeof(out->uuid));
	memcpy(out->label, s.label, sizeof(out->label) - 1);
	out->block_bytes = s.block_bytes;
	out->segment_bytes = s.segment_bytes;
	out->frame_bytes = s.frame_bytes;
	out->key_max = s.key_max;
	out->inline_max = s.inline_max;
	/* An older module does not tell; it is never less. */
	out->chunk_bytes = s.chunk_bytes ? s.chunk_bytes : s.block_bytes;
	out->trees = s.trees;
	out->entries = s.entries;
	out->volume_bytes = s.volume_bytes;
	out->max_bytes = s.max_bytes;
	out->segments = s.segments;
	out->segments_free = s.segments_free;
	out->segments_log = s.segments_log;
	out->segments_tree = s.segments_tree;
	out->live_bytes = s.live_bytes;
	out->tree_bytes = s.tree_bytes;
	out->pending_free_bytes = s.pending_free_bytes;
	out->generation = s.generation;
	out->lsn = s.lsn;
	out->durable_lsn = s.durable_lsn;
	out->cache_bytes = s.cache_bytes;
	out->cache_used_bytes = s.cache_used_bytes;
	out->dirty_bytes = s.dirty_bytes;
	out->puts = s.puts;
	out->gets = s.gets;
	out->dels = s.dels;
	out->commits = s.commits;
	out->syncs = s.syncs;
	out->checkpoints = s.checkpoints;
	out->device_reads = s.device_reads;
	out->device_writes = s.device_writes;
	out->device_flushes = s.device_flushes;
	out->readers = s.readers;
	out->reader_generation = s.reader_generation;
	out->reader_bytes = s.reader_bytes;
	return 0;
}

static int op_health(kv_db *db, kv_health_info *out)
{
	struct statvfs st;

	if (fstatvfs(mounted_of(db)->dir, &st))
		return mounted_fail("cannot be looked at");
	memset(out, 0, sizeof(*out));
	out->writable = !(st.f_flag & ST_RDONLY);
	return 0;
}

/* ---- single operations ----------------------------------------------------------------------- */

static int op_put(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
		  size_t value_len, uint32_t flags)
{
	if (mounted_put(mounted_dir(db, tree), key, key_len, value, value_len, mounted_flags(flags)))
		return mounted_fail("the key could not be stored");
	return 0;
}

static int op_del(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags)
{
	struct kvfs_kv a;

	kv_init(&a, key, key_len, mounted_flags(flags));
	if (ioctl(mounted_dir(db, tree), KVFS_IOC_DEL, &a))
		return mounted_fail("the key could not be deleted");
	return 0;
}

static int op_exists(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint64_t *value_len)
{
	size_t len = 0;

	if (mounted_get(mounted_dir(db, tree), key, key_len, NULL, &len))
		return mounted_fail("the key could not be looked up");
	if (value_len)
		*value_len = len;
	return 0;
}

static int op_get_into(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
		       size_t *value_len)
{
	*value_len = cap;
	if (mounted_get(mounted_dir(db, tree), key, key_len, buf, value_len))
		return mounted_fail("the key could not be read");
	return *value_len > cap ? mounted_say(KV_E_TOOBIG, "the value is longer than the buffer") : 0;
}

static int op_inc(kv_db *db, kv_tree *tree, const void *key, size_t key_len, int64_t delta, int64_t *result,
		  uint32_t flags)
{
	struct kvfs_inc a = {
		.size = sizeof(a), .flags = mounted_flags(flags), .key = mounted_pointer(key),
		.key_len = (uint32_t)key_len, .delta = delta,
	};

	if (ioctl(mounted_dir(db, tree), KVFS_IOC_INC, &a)) {
		if (errno == EINVAL || errno == ERANGE)
			return mounted_say(KV_E_NUMBER,
					   "the value is not an integer of 64 bits, or the sum would not be");
		return mounted_fail("the number could not be changed");
	}
	if (result)
		*result = a.result;
	return 0;
}

const struct volume_ops volume_mount = {
	.open = op_open,
	.close = op_close,
	.sync = op_sync,
	.stat = op_stat,
	.health = op_health,
	.last_error = mounted_last_error,
	.tree_open = mounted_tree_open,
	.tree_drop = mounted_tree_drop,
	.tree_list = mounted_tree_list,
	.count = mounted_count,
	.put = op_put,
	.del = op_del,
	.exists = op_exists,
	.get_into = op_get_into,
	.inc = op_inc,
	.batch_new = mounted_batch_new,
	.batch_put = mounted_batch_put,
	.batch_del = mounted_batch_del,
	.batch_count = mounted_batch_count,
	.batch_commit = mounted_batch_commit,
	.batch_clear = mounted_batch_clear,
	.batch_free = mounted_batch_free,
	.cursor_open = mounted_cursor_open,
	.cursor_bounds = mounted_cursor_bounds,
	.cursor_first = mounted_cursor_first,
	.cursor_last = mounted_cursor_last,
	.cursor_next = mounted_cursor_next,
	.cursor_prev = mounted_cursor_prev,
	.cursor_key = mounted_cursor_key,
	.cursor_value_len = mounted_cursor_value_len,
	.cursor_value = mounted_cursor_value,
	.cursor_reader = mounted_cursor_reader,
	.cursor_close = mounted_cursor_close,
	.writer_open = mounted_writer_open,
	.writer_write = mounted_writer_write,
	.writer_commit = mounted_writer_commit,
	.writer_abort = mounted_writer_abort,
	.reader_open = mounted_reader_open,
	.reader_read = mounted_reader_read,
	.reader_close = mounted_reader_close,
};
