/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_create.c - kvs create: an empty volume; never over something else without --force. */
#include "kvs.h"

int cmd_create(struct kvs *k)
{
	int err;

	if (kvs_given(k, OPT_BIT(FORCE)))
		k->opt.flags |= KV_OPEN_FORCE;
	err = kv_create(k->image, &k->opt);
	return err ? kvs_fail(k, err) : EXIT_OK;
}
