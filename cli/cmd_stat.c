/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_stat.c - kvs stat: geometry, space, state and health. One table prints both text and JSON;
 * its names are documented in the man page and do not change.
 */
#include <stddef.h>
#include <stdio.h>

#include "kvs.h"

struct state {
	kv_stat_info s;
	kv_health_info h;
};

/* clang-format off */
/* x(kind, field, name, label) */
#define STAT_ROWS(x) \
	x(ROW_UUID,    s.uuid,		     "uuid",		   "uuid") \
	x(ROW_TEXT,    s.label,		     "label",		   "label") \
	x(ROW_U32,     s.format_version,     "format_version",	   "format version") \
	x(ROW_BYTES32, s.block_bytes,	     "block_bytes",	   "block") \
	x(ROW_BYTES32, s.segment_bytes,	     "segment_bytes",	   "segment") \
	x(ROW_BYTES32, s.frame_bytes,	     "frame_bytes",	   "frame") \
	x(ROW_BYTES32, s.window_bytes,	     "window_bytes",	   "window") \
	x(ROW_BYTES32, s.key_max,	     "key_max",		   "longest key") \
	x(ROW_BYTES32, s.inline_max,	     "inline_max",	   "longest inline value") \
	x(ROW_BYTES32, s.chunk_bytes,	     "chunk_bytes",	   "chunk of a large value") \
	x(ROW_U64,     s.trees,		     "trees",		   "trees") \
	x(ROW_U64,     s.entries,	     "entries",		   "entries") \
	x(ROW_BYTES,   s.volume_bytes,	     "volume_bytes",	   "volume") \
	x(ROW_BYTES,   s.allocated_bytes,    "allocated_bytes",	   "allocated on the medium") \
	x(ROW_BYTES,   s.max_bytes,	     "max_bytes",	   "largest size (0: no limit)") \
	x(ROW_U64,     s.segments,	     "segments",	   "segments") \
	x(ROW_U64,     s.segments_free,	     "segments_free",	   "segments, free") \
	x(ROW_U64,     s.segments_log,	     "segments_log",	   "segments, log") \
	x(ROW_U64,     s.segments_tree,	     "segments_tree",	   "segments, tree") \
	x(ROW_BYTES,   s.live_bytes,	     "live_bytes",	   "live values in the log") \
	x(ROW_BYTES,   s.tree_bytes,	     "tree_bytes",	   "tree pages") \
	x(ROW_BYTES,   s.pending_free_bytes, "pending_free_bytes", "freed, not yet reusable") \
	x(ROW_U64,     s.generation,	     "generation",	   "generation") \
	x(ROW_U64,     s.incarnation,	     "incarnation",	   "incarnation") \
	x(ROW_U64,     s.lsn,		     "lsn",		   "newest LSN") \
	x(ROW_U64,     s.durable_lsn,	     "durable_lsn",	   "durable LSN") \
	x(ROW_U64,     s.replay_lsn,	     "replay_lsn",	   "replay from LSN") \
	x(ROW_BOOL,    h.clean,		     "clean",		   "closed cleanly") \
	x(ROW_U64,     h.replayed,	     "replayed",	   "records replayed at opening") \
	x(ROW_U32,     h.errors_nr,	     "errors_nr",	   "errors ever noted") \
	x(ROW_TEXT,    h.reason,	     "reason",		   "trouble")
/* clang-format on */

#define STAT_ROW(kind_, field, name_, label_) \
	{ .name = name_, .label = label_, .kind = kind_, .offset = offsetof(struct state, field) },
static const struct row stat_rows[] = { STAT_ROWS(STAT_ROW) };

int cmd_stat(struct kvs *k)
{
	struct state st;
	int err, rc = kvs_open(k, 0);

	if (rc)
		return rc;
	err = kv_stat(k->db, &st.s);
	if (!err)
		err = kv_health(k->db, &st.h);
	if (err)
		rc = kvs_fail(k, err);
	else
		out_rows(k->json, stat_rows, sizeof(stat_rows) / sizeof(stat_rows[0]), &st);
	return kvs_finish(k, rc);
}
