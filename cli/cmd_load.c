/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_load.c - kvs load: recognises the format by its first bytes and feeds the loader. The input
 * is opened first, so that a wrong file name does not create a volume.
 */
#include "kvs.h"

static int load_any(struct input *in, struct loader *l)
{
	int c = input_peek(in);

	if (c < 0)
		return in->error ? input_bad(in, " ") : EXIT_OK;
	if (input_begins(in, "VERSION="))
		return bdb_load(in, l);
	if (c == '{' || c == ' ' || c == '\t' || c == '\r' || c == '\n')
		return ndjson_load(in, l);
	return input_bad(in,
			 "neither NDJSON (a line begins with '{') nor db_dump text (it begins with "
			 "'VERSION=')");
}

int cmd_load(struct kvs *k)
{
	struct input in;
	struct loader l;
	int rc;

	kvs_catch_signals();
	rc = input_open(&in, k, k->args[0]);
	if (!rc)
		rc = kvs_open(k, KVS_WRITE | KVS_CREATE | KVS_TREE_CREATE);
	if (!rc) {
		rc = loader_init(&l, k, &in);
		if (!rc)
			rc = load_any(&in, &l);
		rc = loader_finish(&l, rc);
		rc = kvs_finish(k, rc);
	}
	input_close(&in);
	return rc;
}
