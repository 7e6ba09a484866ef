/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_stat.c - kvs stat: geometry, space, state and health. One table prints both text and JSON;
 * its names are documented in the man page and do not change. A mount tells some of them.
 */
#include <stddef.h>
#include <stdio.h>

#include "kvs.h"

struct state {
	kv_stat_info s;
	kv_health_info h;
};

/* clang-format off */
/* x(where, kind, field, name, label): of an image, a mount, or BOTH */
#define STAT_ROWS(x) \
	x(BOTH,  ROW_UUID,    s.uuid,               "uuid",               "uuid") \
	x(BOTH,  ROW_TEXT,    s.label,              "label",              "label") \
	x(IMAGE, ROW_U32,     s.format_version,     "format_version",     "format version") \
	x(BOTH,  ROW_BYTES32, s.block_bytes,        "block_bytes",        "block") \
	x(BOTH,  ROW_BYTES32, s.segment_bytes,      "segment_bytes",      "segment") \
	x(BOTH,  ROW_BYTES32, s.frame_bytes,        "frame_bytes",        "frame") \
	x(IMAGE, ROW_BYTES32, s.window_bytes,       "window_bytes",       "window") \
	x(BOTH,  ROW_BYTES32, s.key_max,            "key_max",            "longest key") \
	x(BOTH,  ROW_BYTES32, s.inline_max,         "inline_max",         "longest inline value") \
	x(BOTH,  ROW_BYTES32, s.chunk_bytes,        "chunk_bytes",        "chunk of a large value") \
	x(BOTH,  ROW_U64,     s.trees,              "trees",              "trees") \
	x(BOTH,  ROW_U64,     s.entries,            "entries",            "entries") \
	x(BOTH,  ROW_BYTES,   s.volume_bytes,       "volume_bytes",       "volume") \
	x(IMAGE, ROW_BYTES,   s.allocated_bytes,    "allocated_bytes",    "allocated on the medium") \
	x(BOTH,  ROW_BYTES,   s.max_bytes,          "max_bytes",          "largest size (0: no limit)") \
	x(BOTH,  ROW_U64,     s.segments,           "segments",           "segments") \
	x(BOTH,  ROW_U64,     s.segments_free,      "segments_free",      "segments, free") \
	x(BOTH,  ROW_U64,     s.segments_log,       "segments_log",       "segments, log") \
	x(BOTH,  ROW_U64,     s.segments_tree,      "segments_tree",      "segments, tree") \
	x(BOTH,  ROW_BYTES,   s.live_bytes,         "live_bytes",         "live values in the log") \
	x(BOTH,  ROW_BYTES,   s.tree_bytes,         "tree_bytes",         "tree pages") \
	x(BOTH,  ROW_BYTES,   s.pending_free_bytes, "pending_free_bytes", "freed, not yet reusable") \
	x(IMAGE, ROW_U64,     s.snapshots,          "snapshots",          "snapshots") \
	x(BOTH,  ROW_U64,     s.generation,         "generation",         "generation") \
	x(IMAGE, ROW_U64,     s.incarnation,        "incarnation",        "incarnation") \
	x(BOTH,  ROW_U64,     s.lsn,                "lsn",                "newest LSN") \
	x(BOTH,  ROW_U64,     s.durable_lsn,        "durable_lsn",        "durable LSN") \
	x(IMAGE, ROW_U64,     s.replay_lsn,         "replay_lsn",         "replay from LSN") \
	x(MOUNT, ROW_U64,     s.readers,            "readers",            "readers") \
	x(MOUNT, ROW_U64,     s.reader_generation,  "reader_generation",  "oldest generation read") \
	x(MOUNT, ROW_BYTES,   s.reader_bytes,       "reader_bytes",       "kept for readers") \
	x(IMAGE, ROW_BOOL,    h.clean,              "clean",              "closed cleanly") \
	x(IMAGE, ROW_U64,     h.replayed,           "replayed",           "records replayed at opening") \
	x(IMAGE, ROW_U32,     h.errors_nr,          "errors_nr",          "errors ever noted") \
	x(IMAGE, ROW_TEXT,    h.reason,             "reason",             "trouble")
/* clang-format on */

enum where { IMAGE, MOUNT, BOTH };

#define STAT_ROW(where_, kind_, field, name_, label_) \
	{ .name = name_, .label = label_, .kind = kind_, .offset = offsetof(struct state, field) },
static const struct row stat_rows[] = { STAT_ROWS(STAT_ROW) };
#define STAT_WHERE(where_, kind_, field, name_, label_) where_,
static const enum where stat_where[] = { STAT_ROWS(STAT_WHERE) };
#define STAT_NR (sizeof(stat_rows) / sizeof(stat_rows[0]))

static void print(const struct kvs *k, const struct state *st)
{
	struct row rows[STAT_NR];
	enum where here = volume_mount_dir(k->image) ? MOUNT : IMAGE;
	size_t i, nr = 0;

	for (i = 0; i < STAT_NR; i++)
		if (stat_where[i] == BOTH || stat_where[i] == here)
			rows[nr++] = stat_rows[i];
	out_rows(k->json, rows, nr, st);
}

int cmd_stat(struct kvs *k)
{
	struct state st;
	int err, rc = kvs_open(k, 0);

	if (rc)
		return rc;
	err = k->ops->stat(k->db, &st.s);
	if (!err)
		err = k->ops->health(k->db, &st.h);
	if (err)
		rc = kvs_fail(k, err);
	else
		print(k, &st);
	return kvs_finish(k, rc);
}
