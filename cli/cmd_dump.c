/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_dump.c - kvs dump: all entries as text, 'main' first, then the other trees in order of names.
 * What is damaged is told and left out, and the exit status is 4.
 */
#include <string.h>
#include <unistd.h>

#include "kvs.h"

static int dump_json(struct kvs *k, const char *name, kv_tree *tree, struct progress *p,
		     uint64_t *entries)
{
	struct walk w;
	struct value v;
	int err, rc = walk_open(&w, k, tree, NULL, NULL, false);

	if (rc)
		return rc;
	while (!rc && !out_failed() && walk_next(&w, &rc) > 0) {
		err = value_open(&v, k, w.c);
		if (!err)
			err = ndjson_write(name, w.key, w.key_len, &v);
		if (err)
			rc = walk_failed(&w, err);
		(*entries)++;
		progress_show(p, *entries, *entries);
	}
	return walk_close(&w, rc);
}

static int dump_tree(struct kvs *k, const char *name, kv_tree *tree, struct progress *p,
		     uint64_t *entries)
{
	if (k->bdb)
		return bdb_dump(k, name, tree, p, entries);
	return dump_json(k, name, tree, p, entries);
}

/* The worse of two, where damage does not stop the work. */
static bool go_on(int *rc, int code)
{
	if (code)
		*rc = code;
	return (!code || code == EXIT_CORRUPT) && !out_failed();
}

static int dump_all(struct kvs *k, struct progress *p)
{
	struct names t = { 0 };
	uint64_t entries = 0, count = 1;
	int rc = EXIT_OK, err = kvs_tree_list(k, names_add, &t);
	bool going = true;
	size_t i;

	if (t.failed)
		rc = kvs_no_memory();
	else if (err < 0)
		going = go_on(&rc, kvs_fail(k, err)); /* what was listed before damage is intact */
	if (t.failed)
		going = false;
	/* an empty main has no section beside others */
	if (going && k->bdb && t.nr && k->ops->count(k->db, k->tree, &count))
		count = 1;
	if (going && count)
		going = go_on(&rc, dump_tree(k, NULL, k->tree, p, &entries));
	for (i = 0; going && i < t.nr; i++) {
		kv_tree *tree;

		err = kvs_tree(k, t.name[i], 0, &tree);
		going = go_on(&rc,
			      err ? kvs_fail(k, err) : dump_tree(k, t.name[i], tree, p, &entries));
	}
	names_free(&t);
	return rc;
}

int cmd_dump(struct kvs *k)
{
	struct progress p;
	kv_stat_info st;
	uint64_t entries = 0;
	int rc = kvs_open(k, 0);

	if (rc)
		return rc;
	progress_begin(&p, "dump", k->ops->stat(k->db, &st) ? 0 : st.entries, isatty(STDOUT_FILENO));
	if (k->tree_name && strcmp(k->tree_name, "main"))
		rc = dump_tree(k, k->tree_name, k->tree, &p, &entries);
	else if (k->tree_name)
		rc = dump_tree(k, NULL, k->tree, &p, &entries);
	else
		rc = dump_all(k, &p);
	progress_end(&p);
	return kvs_finish(k, rc);
}
