/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_get.c - kvs get: a value to standard output, in pieces. On damage inside a long value the
 * bytes before it have been written and the exit status is 4.
 */
#include "kvs.h"

static int copy_value(struct kvs *k, kv_reader *rd)
{
	static uint8_t buf[128 << 10];
	struct enc_stream s = { .mode = k->value_enc == ENC_AUTO ? ENC_RAW : k->value_enc };
	size_t got = 1;
	int err;

	while (got && !out_failed()) {
		err = k->ops->reader_read(rd, buf, sizeof(buf), &got);
		if (err)
			return kvs_fail(k, err);
		enc_stream_put(&s, buf, got);
	}
	enc_stream_end(&s);
	if (s.mode != ENC_RAW)
		out_line();
	return EXIT_OK;
}

int cmd_get(struct kvs *k)
{
	struct bytes key = { 0 };
	kv_reader *rd;
	uint64_t len;
	int err, rc;

	rc = kvs_key_arg(k, 0, &key);
	if (!rc)
		rc = kvs_open(k, 0);
	if (!rc) {
		err = k->ops->reader_open(k->db, k->read, k->tree, key.p, key.n, &rd, &len);
		if (!err) {
			rc = copy_value(k, rd);
			k->ops->reader_close(rd);
		} else {
			rc = err == KV_E_NOTFOUND ? kvs_no_key(k, &key) : kvs_fail(k, err);
		}
		rc = kvs_finish(k, rc);
	}
	bytes_free(&key);
	return rc;
}
