/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume_mount.h - what the files of the second implementation of volume.h share: a mount of the kernel
 * module, used through its ioctls (kmod/kvfs_ioctl.h).
 *
 * The handles of volume.h are these structures, cast. Errors are errno values, made classes of the engine
 * with a text in one place, mounted_fail().
 */
#ifndef KVS_VOLUME_MOUNT_H
#define KVS_VOLUME_MOUNT_H

#include <stdbool.h>

#include "kmod/kvfs_ioctl.h"
#include "volume.h"

struct mounted_tree {
	struct mounted_tree *next;
	int dir;
	char name[65];
};

struct mounted {
	int dir; /* the root: main */
	struct mounted_tree *trees;
};

static inline struct mounted *mounted_of(kv_db *db)
{
	return (struct mounted *)db;
}

/* The directory of a tree. */
static inline int mounted_dir(kv_db *db, kv_tree *tree)
{
	return tree ? ((struct mounted_tree *)tree)->dir : mounted_of(db)->dir;
}

static inline uint64_t mounted_pointer(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

/* Class of errno, with a text that begins with what could not be done. */
int mounted_fail(const char *what);
/* Of this thread, for last_error(). */
const char *mounted_last_error(void);
/* The same with a text of its own. */
int mounted_say(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* KVFS_PUT_* of KV_PUT_* and durability. */
uint32_t mounted_flags(uint32_t flags);
/* ioctl PUT, GET; 0 or -1 with errno. GET: *len is the room, then the length. */
int mounted_put(int dir, const void *key, size_t key_len, const void *value, size_t len, uint32_t flags);
int mounted_get(int dir, const void *key, size_t key_len, void *value, size_t *len);
/* ioctl SCAN into a->buf; fills in size. 0 or -1 with errno. */
int mounted_scan(int dir, struct kvfs_scan *a);

/* volume_mount_scan.c */
int mounted_count(kv_db *db, kv_tree *tree, uint64_t *count);
int mounted_cursor_open(kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out);
int mounted_cursor_bounds(kv_cursor *c, const void *from, size_t from_len, const void *to, size_t to_len);
int mounted_cursor_first(kv_cursor *c);
int mounted_cursor_last(kv_cursor *c);
int mounted_cursor_next(kv_cursor *c);
int mounted_cursor_prev(kv_cursor *c);
int mounted_cursor_key(kv_cursor *c, const void **key, size_t *key_len);
int mounted_cursor_value_len(kv_cursor *c, uint64_t *value_len);
int mounted_cursor_value(kv_cursor *c, const void **value, size_t *value_len);
int mounted_cursor_reader(kv_cursor *c, kv_reader **out, uint64_t *value_len);
void mounted_cursor_close(kv_cursor *c);

/* volume_mount_stream.c */
int mounted_reader_of(int dir, const void *key, size_t key_len, kv_reader **out, uint64_t *value_len);
int mounted_reader_open(kv_db *db, kv_read *r, kv_tree *tree, const void *key, size_t key_len,
			kv_reader **out, uint64_t *value_len);
int mounted_reader_read(kv_reader *rd, void *buf, size_t len, size_t *got);
void mounted_reader_close(kv_reader *rd);
int mounted_writer_open(kv_db *db, kv_tree *tree, const void *key, size_t key_len, kv_writer **out);
int mounted_writer_write(kv_writer *w, const void *data, size_t len);
int mounted_writer_commit(kv_writer *w, uint32_t flags);
void mounted_writer_abort(kv_writer *w);

/* volume_mount_batch.c */
int mounted_batch_new(kv_db *db, kv_batch **out);
int mounted_batch_put(kv_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
		      size_t value_len);
int mounted_batch_del(kv_batch *b, kv_tree *tree, const void *key, size_t key_len);
size_t mounted_batch_count(const kv_batch *b);
int mounted_batch_commit(kv_batch *b, uint32_t flags);
void mounted_batch_clear(kv_batch *b);
void mounted_batch_free(kv_batch *b);

/* volume_mount_trees.c */
int mounted_tree_open(kv_db *db, const char *name, uint32_t flags, kv_tree **out);
int mounted_tree_drop(kv_db *db, const char *name);
int mounted_tree_list(kv_db *db, int (*fn)(void *arg, const char *name, uint64_t count), void *arg);

#endif
