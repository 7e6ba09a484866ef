/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* cmd_scan.c - kvs scan: entries of a range in order; what is damaged is told and passed. */
#include "kvs.h"

static void put_piece(void *arg, const uint8_t *p, size_t n)
{
	enc_stream_put(arg, p, n);
}

/* 0 or KV_E_*; nothing is printed when the value cannot be read. */
static int scan_text(struct walk *w, const struct value *v)
{
	struct kvs *k = w->k;
	struct enc_stream s;
	struct utf8 u;
	int err;

	/* also when the mode is fixed: a damaged value must not be printed in part */
	err = value_utf8(v, &u);
	if (err)
		return err;
	s = (struct enc_stream){ .mode = enc_resolve(k->value_enc, &u) };
	enc_put(k->key_enc, w->key, w->key_len);
	out_bytes("\t", 1);
	err = value_each(v, put_piece, &s);
	enc_stream_end(&s);
	out_line();
	return err;
}

static int scan_one(struct walk *w)
{
	struct kvs *k = w->k;
	struct value v;
	int err;

	if (kvs_given(k, OPT_BIT(KEYS))) {
		if (k->json) {
			out_text("{");
			out_json_key(w->key, w->key_len);
			out_text("}");
		} else {
			enc_put(k->key_enc, w->key, w->key_len);
		}
		out_line();
		return EXIT_OK;
	}
	err = value_open(&v, k, w->c);
	if (!err)
		err = k->json ? ndjson_write(k->tree ? k->tree_name : NULL, w->key, w->key_len, &v)
			      : scan_text(w, &v);
	return err ? walk_failed(w, err) : EXIT_OK;
}

int cmd_scan(struct kvs *k)
{
	struct bytes from = { 0 }, to = { 0 };
	struct walk w;
	uint64_t left = k->limit;
	int rc = kvs_open(k, 0);

	if (rc)
		return rc;
	rc = walk_range(k, &from, &to);
	if (!rc)
		rc = walk_open(&w, k, k->tree, &from, &to, kvs_given(k, OPT_BIT(REVERSE)));
	if (!rc) {
		for (; left && !rc && !out_failed() && walk_next(&w, &rc) > 0; left--)
			rc = scan_one(&w);
		rc = walk_close(&w, rc);
	}
	bytes_free(&from);
	bytes_free(&to);
	return kvs_finish(k, rc);
}
