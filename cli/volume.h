/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume.h - the one seam between the verbs and what they work on: an image or device that the engine
 * opens, or a mount of the kernel module, "mount:DIR".
 *
 * The table has the engine's signatures, classes of errors and rules (kvengine.h), so the engine's own
 * functions are one implementation as they are. The other one has structures of its own behind the same
 * handles; a handle is passed only to functions of the table that it came from.
 *
 * Where a mount differs:
 * - A cursor sees the state of each moment, not one frozen at its beginning.
 * - A batch is all or nothing as far as it fits one call and one tree; a longer one is committed in pieces,
 *   in order.
 * - Durability is the mount's, until sync().
 */
#ifndef KVS_VOLUME_H
#define KVS_VOLUME_H

#include "kvengine.h"

struct volume_ops {
	/* path: without "mount:" */
	int (*open)(const char *path, const kv_options *opt, kv_db **out);
	int (*close)(kv_db *db);
	int (*sync)(kv_db *db);
	int (*stat)(kv_db *db, kv_stat_info *out);
	int (*health)(kv_db *db, kv_health_info *out);
	const char *(*last_error)(void);

	int (*tree_open)(kv_db *db, const char *name, uint32_t flags, kv_tree **out);
	int (*tree_drop)(kv_db *db, const char *name);
	int (*tree_list)(kv_db *db, int (*fn)(void *arg, const char *name, uint64_t count), void *arg);
	int (*count)(kv_db *db, kv_tree *tree, uint64_t *count);

	int (*put)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
		   size_t value_len, uint32_t flags);
	int (*del)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags);
	/* NULL: not through a mount */
	int (*delete_range)(kv_db *db, kv_tree *tree, const void *from, size_t from_len, const void *to,
			    size_t to_len, uint32_t flags);
	int (*exists)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint64_t *value_len);
	int (*get_into)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
			size_t *value_len);
	int (*inc)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, int64_t delta, int64_t *result,
		   uint32_t flags);

	int (*batch_new)(kv_db *db, kv_batch **out);
	int (*batch_put)(kv_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
			 size_t value_len);
	int (*batch_del)(kv_batch *b, kv_tree *tree, const void *key, size_t key_len);
	size_t (*batch_count)(const kv_batch *b);
	int (*batch_commit)(kv_batch *b, uint32_t flags);
	void (*batch_clear)(kv_batch *b);
	void (*batch_free)(kv_batch *b);

	int (*cursor_open)(kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out);
	int (*cursor_bounds)(kv_cursor *c, const void *from, size_t from_len, const void *to, size_t to_len);
	int (*cursor_first)(kv_cursor *c);
	int (*cursor_last)(kv_cursor *c);
	int (*cursor_next)(kv_cursor *c);
	int (*cursor_prev)(kv_cursor *c);
	int (*cursor_key)(kv_cursor *c, const void **key, size_t *key_len);
	int (*cursor_value_len)(kv_cursor *c, uint64_t *value_len);
	int (*cursor_value)(kv_cursor *c, const void **value, size_t *value_len);
	int (*cursor_reader)(kv_cursor *c, kv_reader **out, uint64_t *value_len);
	void (*cursor_close)(kv_cursor *c);

	int (*writer_open)(kv_db *db, kv_tree *tree, const void *key, size_t key_len, kv_writer **out);
	int (*writer_write)(kv_writer *w, const void *data, size_t len);
	int (*writer_commit)(kv_writer *w, uint32_t flags);
	void (*writer_abort)(kv_writer *w);

	int (*reader_open)(kv_db *db, kv_read *r, kv_tree *tree, const void *key, size_t key_len,
			   kv_reader **out, uint64_t *value_len);
	int (*reader_read)(kv_reader *rd, void *buf, size_t len, size_t *got);
	void (*reader_close)(kv_reader *rd);
};

extern const struct volume_ops volume_engine; /* volume_engine.c */
extern const struct volume_ops volume_mount;  /* volume_mount.c */

/* What follows "mount:" in the name of a volume, or NULL: it is an image. */
const char *volume_mount_dir(const char *name);

#endif
