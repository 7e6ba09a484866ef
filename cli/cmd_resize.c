/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_resize.c - kvs resize: a volume gets another size, or says the least that it can have. In pieces, as
 * kvs gc: a signal ends it between two of them; the volume is then as long as it was, and the next run has
 * less to do.
 */
#include <inttypes.h>

#include "kvs.h"

#define PIECE (4u << 20)
#define MIB (1u << 20)

/* What the command line asks for: 0: the least, to be printed. Exit code. */
static int asked(struct kvs *k, uint64_t *bytes)
{
	int n = (k->args_nr != 0) + kvs_given(k, OPT_BIT(MIN)) + kvs_given(k, OPT_BIT(GROW));

	*bytes = 0;
	if (n != 1)
		return kvs_complain(EXIT_USAGE,
				    "one of SIZE, --min and --grow is needed; see 'kvs resize --help'");
	if (kvs_given(k, OPT_BIT(GROW)))
		*bytes = KV_RESIZE_MOST;
	if (!k->args_nr)
		return EXIT_OK;
	if (!opts_bytes(k->args[0], bytes) || !*bytes)
		return kvs_complain(EXIT_USAGE, "'%s' is not a size; write 64M or 2G, for example",
				    k->args[0]);
	return EXIT_OK;
}

static int run(struct kvs *k, uint64_t bytes, kv_resize_info *info)
{
	struct progress p;
	uint64_t moved = 0, total = 0;
	int err = 0;

	progress_begin(&p, "resize", 0, false);
	p.unit = "MiB";
	do {
		err = kv_resize(k->db, bytes, PIECE, info);
		moved += info->moved_bytes;
		if (moved + info->left_bytes > total)
			total = moved + info->left_bytes;
		p.total = total;
		progress_show(&p, moved, moved / MIB);
	} while (!err && info->more && !kvs_interrupted());
	progress_end(&p);
	info->moved_bytes = moved;
	return err;
}

int cmd_resize(struct kvs *k)
{
	kv_stat_info before;
	kv_resize_info info = { .more = 0 };
	uint64_t bytes;
	int err, rc = asked(k, &bytes);

	if (!rc)
		rc = kvs_open(k, KVS_WRITE);
	if (rc)
		return rc;
	kvs_catch_signals();
	err = kv_stat(k->db, &before);
	if (!err)
		err = run(k, bytes, &info);
	if (err)
		return kvs_finish(k, kvs_fail(k, err));
	if (!bytes && !info.more) {
		out_fmt("%" PRIu64, info.min_bytes);
		out_line();
		if (info.pinned_by[0])
			kvs_say(k, EXIT_OK, "%" PRIu64 " bytes without the snapshots %s",
				info.min_unpinned_bytes, info.pinned_by);
		return kvs_finish(k, EXIT_OK);
	}
	if (info.more)
		return kvs_finish(k, kvs_say(k, EXIT_INTERRUPT, "not resized yet; run it again to go on"));
	out_fmt("%" PRIu64 " -> %" PRIu64 " bytes, moved %" PRIu64, before.volume_bytes, info.volume_bytes,
		info.moved_bytes);
	out_line();
	return kvs_finish(k, EXIT_OK);
}
