/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_inc.c - kvs inc and kvs dec: the engine does the arithmetic, atomically. */
#include <inttypes.h>

#include "kvs.h"

static int add(struct kvs *k, int64_t delta)
{
	struct bytes key = { 0 };
	int64_t result;
	int err, rc;

	rc = kvs_key_arg(k, 0, &key);
	if (!rc)
		rc = kvs_open(k, KVS_WRITE);
	if (!rc) {
		err = k->ops->inc(k->db, k->tree, key.p, key.n, delta, &result, 0);
		if (!err) {
			out_fmt("%" PRId64, result);
			out_line();
		} else {
			rc = err == KV_E_NOTFOUND ? kvs_no_key(k, &key) : kvs_fail(k, err);
		}
		rc = kvs_finish(k, rc);
	}
	bytes_free(&key);
	return rc;
}

static int delta_arg(struct kvs *k, int64_t *delta)
{
	*delta = 1;
	if (k->args_nr < 2 || opts_integer(k->args[1], delta))
		return EXIT_OK;
	return kvs_complain(EXIT_USAGE, "'%s' is not an integer of 64 bits; see 'kvs %s --help'",
			    k->args[1], k->cmd->name);
}

int cmd_inc(struct kvs *k)
{
	int64_t delta;
	int rc = delta_arg(k, &delta);

	return rc ? rc : add(k, delta);
}

int cmd_dec(struct kvs *k)
{
	int64_t delta;
	int rc = delta_arg(k, &delta);

	if (rc)
		return rc;
	if (delta == INT64_MIN)
		return kvs_complain(EXIT_USAGE,
				    "'%s' cannot be subtracted: its negative does not fit 64 "
				    "bits; use 'kvs inc' twice",
				    k->args[1]);
	return add(k, -delta);
}
