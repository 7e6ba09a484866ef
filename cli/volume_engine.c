/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* volume_engine.c - an image or device as a volume: the engine's functions as they are. */
#include <string.h>

#include "volume.h"

#define MOUNT_PREFIX "mount:"

const char *volume_mount_dir(const char *name)
{
	size_t n = strlen(MOUNT_PREFIX);

	return strncmp(name, MOUNT_PREFIX, n) ? NULL : name + n;
}

const struct volume_ops volume_engine = {
	.open = kv_open,
	.close = kv_close,
	.sync = kv_sync,
	.stat = kv_stat,
	.health = kv_health,
	.last_error = kv_last_error,
	.tree_open = kv_tree_open,
	.tree_drop = kv_tree_drop,
	.tree_list = kv_tree_list,
	.count = kv_count,
	.put = kv_put,
	.del = kv_del,
	.delete_range = kv_delete_range,
	.exists = kv_exists,
	.get_into = kv_get_into,
	.inc = kv_inc,
	.batch_new = kv_batch_new,
	.batch_put = kv_batch_put,
	.batch_del = kv_batch_del,
	.batch_count = kv_batch_count,
	.batch_commit = kv_batch_commit,
	.batch_clear = kv_batch_clear,
	.batch_free = kv_batch_free,
	.cursor_open = kv_cursor_open,
	.cursor_bounds = kv_cursor_bounds,
	.cursor_first = kv_cursor_first,
	.cursor_last = kv_cursor_last,
	.cursor_next = kv_cursor_next,
	.cursor_prev = kv_cursor_prev,
	.cursor_key = kv_cursor_key,
	.cursor_value_len = kv_cursor_value_len,
	.cursor_value = kv_cursor_value,
	.cursor_reader = kv_cursor_reader,
	.cursor_close = kv_cursor_close,
	.writer_open = kv_writer_open,
	.writer_write = kv_writer_write,
	.writer_commit = kv_writer_commit,
	.writer_abort = kv_writer_abort,
	.reader_open = kv_reader_open,
	.reader_read = kv_reader_read,
	.reader_close = kv_reader_close,
};
