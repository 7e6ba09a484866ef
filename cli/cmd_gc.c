/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_gc.c - kvs gc: values move out of half-dead parts of the log, whose space is then free. In pieces: a
 * signal ends it between two of them, and what has been done stays done.
 */
#include <inttypes.h>

#include "kvs.h"

#define PIECE (4u << 20)
#define MIB (1u << 20)

static int run(struct kvs *k, uint64_t *moved)
{
	struct progress p;
	kv_gc_info info = { .more = 1 };
	uint64_t total = 0;
	int err = 0;

	progress_begin(&p, "gc", 0, false);
	p.unit = "MiB";
	while (!err && info.more && !kvs_interrupted()) {
		err = kv_gc(k->db, PIECE, &info);
		*moved += info.moved_bytes;
		/* What is left shrinks as values move: the larger of the two views is the whole. */
		if (*moved + info.left_bytes > total)
			total = *moved + info.left_bytes;
		p.total = total;
		progress_show(&p, *moved, *moved / MIB);
	}
	progress_end(&p);
	return err;
}

int cmd_gc(struct kvs *k)
{
	kv_stat_info before, after;
	uint64_t moved = 0;
	int err, rc = kvs_open(k, KVS_WRITE);

	if (rc)
		return rc;
	kvs_catch_signals();
	err = kv_stat(k->db, &before);
	if (!err)
		err = run(k, &moved);
	if (!err)
		err = kv_stat(k->db, &after);
	if (err)
		return kvs_finish(k, kvs_fail(k, err));
	out_fmt("moved %" PRIu64 " bytes; log %" PRIu64 " -> %" PRIu64 " bytes, of them live %" PRIu64, moved,
		before.segments_log * before.segment_bytes, after.segments_log * after.segment_bytes,
		after.live_bytes);
	out_line();
	return kvs_finish(k, kvs_interrupted() ? EXIT_INTERRUPT : EXIT_OK);
}
