/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_trees.c - kvs trees: names and counts, or --drop NAME. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvs.h"

struct listing {
	struct kvs *k;
	bool json;
	int nr;
};

/* The snapshot that a tree of the present state is a clone of; "": none, or nobody can tell. */
static void origin_of(const struct listing *l, const char *name, kv_tree_origin_info *info)
{
	if (l->k->at || l->k->ops != &volume_engine || kv_tree_origin(l->k->db, name, info))
		info->snapshot[0] = '\0';
}

static int list_one(void *arg, const char *name, uint64_t count)
{
	struct listing *l = arg;
	kv_tree_origin_info info;

	origin_of(l, name, &info);
	if (l->json) {
		out_text(l->nr ? ",\n  {\"tree\": " : "[\n  {\"tree\": ");
		out_json_string(name, strlen(name));
		out_fmt(", \"count\": %" PRIu64, count);
		if (info.snapshot[0]) {
			out_text(", \"origin\": ");
			out_json_string(info.snapshot, strlen(info.snapshot));
		}
		out_text("}");
	} else {
		out_fmt("%s\t%" PRIu64 "%s%s", name, count, info.snapshot[0] ? "\t" : "", info.snapshot);
		out_line();
	}
	l->nr++;
	return out_failed();
}

static int list(struct kvs *k)
{
	struct listing l = { .k = k, .json = k->json };
	int err = kvs_tree_list(k, list_one, &l);

	if (k->json) {
		out_text(l.nr ? "\n]" : "[]");
		out_line();
	}
	return err < 0 ? kvs_fail(k, err) : EXIT_OK;
}

static int drop(struct kvs *k)
{
	int c, first, err;

	if (!kvs_given(k, OPT_BIT(FORCE)) && isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
		fprintf(stderr, "Drop tree '%s' of %s and all that is in it? [y/N] ", k->drop,
			k->image);
		first = getchar();
		for (c = first; c != '\n' && c != EOF; c = getchar())
			;
		if (first != 'y' && first != 'Y')
			return kvs_say(k, EXIT_NO, "nothing was dropped");
	}
	err = k->ops->tree_drop(k->db, k->drop);
	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no tree '%s'; 'kvs trees %s' lists them", k->drop,
			       k->image);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

int cmd_trees(struct kvs *k)
{
	int rc = kvs_open(k, k->drop ? KVS_WRITE : 0);

	if (rc)
		return rc;
	return kvs_finish(k, k->drop ? drop(k) : list(k));
}
