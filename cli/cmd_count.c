/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_count.c - kvs count: the number of entries of a tree, and nothing else. */
#include <inttypes.h>

#include "kvs.h"

int cmd_count(struct kvs *k)
{
	uint64_t count;
	int err, rc = kvs_open(k, 0);

	if (rc)
		return rc;
	err = k->ops->count(k->db, k->tree, &count);
	if (err) {
		rc = kvs_fail(k, err);
	} else {
		out_fmt("%" PRIu64, count);
		out_line();
	}
	return kvs_finish(k, rc);
}
