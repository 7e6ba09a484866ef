/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_exists.c - kvs exists: the answer is the exit status; nothing is printed. */
#include "kvs.h"

int cmd_exists(struct kvs *k)
{
	struct bytes key = { 0 };
	int err, rc;

	rc = kvs_key_arg(k, 0, &key);
	if (!rc)
		rc = kvs_open(k, 0);
	if (!rc) {
		err = k->ops->exists(k->db, k->tree, key.p, key.n, NULL);
		if (err)
			rc = err == KV_E_NOTFOUND ? EXIT_NO : kvs_fail(k, err);
		rc = kvs_finish(k, rc);
	}
	bytes_free(&key);
	return rc;
}
