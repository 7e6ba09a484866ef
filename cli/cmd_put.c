/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_put.c - kvs put: one value from an argument or from standard input. What fits one buffer is
 * an ordinary put; longer input becomes a stream that is invisible until its commit, so an
 * interrupt or a read error leaves the old value.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvs.h"

/* Fills buf from standard input; less than cap only at its end. Exit code. */
static int read_some(uint8_t *buf, size_t cap, size_t *got)
{
	*got = 0;
	while (*got < cap) {
		ssize_t n;

		if (kvs_interrupted())
			return kvs_complain(EXIT_INTERRUPT, "interrupted; nothing was stored");
		n = read(STDIN_FILENO, buf + *got, cap - *got);
		if (!n)
			break;
		if (n > 0)
			*got += (size_t)n;
		else if (errno != EINTR)
			return kvs_complain(EXIT_SYSTEM, "standard input: %s; nothing was stored",
					    strerror(errno));
	}
	return EXIT_OK;
}

/* buf holds the first cap bytes. */
static int put_stream(struct kvs *k, const struct bytes *key, uint8_t *buf, size_t cap)
{
	kv_writer *w;
	size_t got = cap;
	int err, rc = EXIT_OK;

	err = k->ops->writer_open(k->db, k->tree, key->p, key->n, &w);
	if (err)
		return kvs_fail(k, err);
	while (got) {
		err = k->ops->writer_write(w, buf, got);
		if (err) {
			rc = kvs_fail(k, err);
			break;
		}
		rc = read_some(buf, cap, &got);
		if (rc)
			break;
	}
	if (rc) {
		k->ops->writer_abort(w);
		return rc;
	}
	err = k->ops->writer_commit(w, 0);
	return err ? kvs_fail(k, err) : EXIT_OK;
}

static int put_stdin(struct kvs *k, const struct bytes *key)
{
	size_t cap = kvs_piece_bytes(k), got;
	uint8_t *buf = malloc(cap);
	int err, rc;

	if (!buf)
		return kvs_no_memory();
	rc = read_some(buf, cap, &got);
	if (!rc && got < cap) {
		err = k->ops->put(k->db, k->tree, key->p, key->n, buf, got, 0);
		rc = err ? kvs_fail(k, err) : EXIT_OK;
	} else if (!rc) {
		rc = put_stream(k, key, buf, cap);
	}
	free(buf);
	return rc;
}

static int put_argument(struct kvs *k, const struct bytes *key, const struct bytes *value)
{
	int err = k->ops->put(k->db, k->tree, key->p, key->n, value->p, value->n, 0);

	return err ? kvs_fail(k, err) : EXIT_OK;
}

int cmd_put(struct kvs *k)
{
	struct bytes key = { 0 }, value = { 0 };
	bool from_stdin = !strcmp(k->args[1], "-");
	const char *why;
	int rc;

	rc = kvs_key_arg(k, 0, &key);
	if (!rc && !from_stdin) {
		why = enc_decode(k->value_enc, k->args[1], &value);
		if (why)
			rc = kvs_complain(EXIT_USAGE, "value: %s; see --enc in 'man kvs'", why);
	}
	if (!rc) {
		kvs_catch_signals();
		rc = kvs_open(k, KVS_WRITE | KVS_CREATE | KVS_TREE_CREATE);
		if (!rc) {
			rc = from_stdin ? put_stdin(k, &key) : put_argument(k, &key, &value);
			rc = kvs_finish(k, rc);
		}
	}
	bytes_free(&key);
	bytes_free(&value);
	return rc;
}
