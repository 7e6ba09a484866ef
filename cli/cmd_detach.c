/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_detach.c - kvs detach: what a clone shares with its snapshot is copied. In pieces: a signal ends it
 * between two of them, and what has been done stays done.
 */
#include <inttypes.h>

#include "kvs.h"

#define PIECE (4u << 20)

static int run(struct kvs *k, const char *tree, uint64_t entries, uint64_t *copied)
{
	kv_detach_info info = { .more = 1 };
	struct progress p;
	uint64_t done;
	int err = 0;

	progress_begin(&p, "detach", entries, false);
	while (!err && info.more && !kvs_interrupted()) {
		err = kv_tree_detach(k->db, tree, PIECE, &info);
		*copied += info.copied_bytes;
		done = entries - (info.left_entries < entries ? info.left_entries : entries);
		progress_show(&p, done, done);
	}
	progress_end(&p);
	return err;
}

static int detach(struct kvs *k, const char *tree)
{
	kv_tree_origin_info origin;
	uint64_t copied = 0, entries = 0;
	kv_tree *t;
	int err = kv_tree_origin(k->db, tree, &origin);

	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no tree '%s'; 'kvs trees %s' lists them", tree, k->image);
	if (!err && !origin.snapshot[0])
		return kvs_say(k, EXIT_NO, "'%s' is no clone; 'kvs trees %s' shows which are", tree,
			       k->image);
	if (!err)
		err = kv_tree_open(k->db, tree, 0, &t);
	if (!err)
		err = kv_count(k->db, t, &entries);
	if (!err)
		err = run(k, tree, entries, &copied);
	if (err)
		return kvs_fail(k, err);
	out_fmt("copied %" PRIu64 " bytes", copied);
	out_line();
	return kvs_interrupted() ? EXIT_INTERRUPT : EXIT_OK;
}

int cmd_detach(struct kvs *k)
{
	int rc = kvs_open(k, KVS_WRITE);

	if (rc)
		return rc;
	kvs_catch_signals();
	return kvs_finish(k, detach(k, k->args[0]));
}
