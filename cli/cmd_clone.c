/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_clone.c - kvs clone: a writable tree that begins as a tree of a snapshot. */
#include "kvs.h"

static int make(struct kvs *k, const char *snap, const char *tree, const char *name)
{
	int err = kv_tree_clone(k->db, snap, tree, name);
	kv_snapshot_info info;

	if (err == KV_E_EXISTS)
		return kvs_say(k, EXIT_NO, "there is a tree '%s'; 'kvs trees %s --drop %s' drops it", name,
			       k->image, name);
	if (err == KV_E_NOTFOUND && kv_snapshot_stat(k->db, snap, &info) == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no snapshot '%s'; 'kvs snap %s' lists them", snap, k->image);
	if (err == KV_E_NOTFOUND)
		return kvs_say(k, EXIT_NO, "no tree '%s' in '%s'; 'kvs trees %s --at %s' lists them", tree,
			       snap, k->image, snap);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

int cmd_clone(struct kvs *k)
{
	int rc = kvs_open(k, KVS_WRITE);

	return rc ? rc : kvs_finish(k, make(k, k->args[0], k->args[1], k->args[2]));
}
