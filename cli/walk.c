/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * walk.c - entries of a range in order, past damage; and values, whole or in pieces.
 *
 * Damage: the engine never skips silently; it answers KV_E_CORRUPT. The walk tells it on stderr and
 * asks for the next entry again, which goes on behind the damaged page when the engine can. The
 * same message twice means that it cannot: the walk ends there, and the exit code is 4 in any case.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

/* Smallest key behind all keys with this prefix: the last byte that is not 0xff goes up. */
static bool prefix_end(const struct bytes *prefix, struct bytes *end)
{
	size_t n = prefix->n;

	while (n && prefix->p[n - 1] == 0xff)
		n--;
	if (!bytes_add(end, prefix->p, n))
		return false;
	if (n)
		end->p[n - 1]++;
	return true;
}

static int compare(const struct bytes *a, const struct bytes *b)
{
	size_t n = a->n < b->n ? a->n : b->n;
	int c = n ? memcmp(a->p, b->p, n) : 0;

	return c ? c : (a->n > b->n) - (a->n < b->n);
}

int walk_range(struct kvs *k, struct bytes *from, struct bytes *to)
{
	const struct bytes *lower = &k->from;

	if (compare(&k->prefix, lower) > 0)
		lower = &k->prefix;
	if (!bytes_add(from, lower->p, lower->n) || !prefix_end(&k->prefix, to))
		return kvs_no_memory();
	if (kvs_given(k, OPT_BIT(TO)) && (!to->n || compare(&k->to, to) < 0)) {
		/* nothing is before the empty key; an empty "to" would mean no bound */
		if (!k->to.n)
			return kvs_complain(EXIT_USAGE,
					    "--to '': nothing comes before it; leave it out");
		to->n = 0;
		if (!bytes_add(to, k->to.p, k->to.n))
			return kvs_no_memory();
	}
	return EXIT_OK;
}

int walk_open(struct walk *w, struct kvs *k, kv_tree *tree, const struct bytes *from,
	      const struct bytes *to, bool reverse)
{
	bool low = from && from->n, high = to && to->n;
	int err;

	memset(w, 0, sizeof(*w));
	w->k = k;
	w->reverse = reverse;
	err = k->ops->cursor_open(k->db, k->read, tree, &w->c);
	if (!err && (low || high)) {
		err = k->ops->cursor_bounds(w->c, low ? from->p : NULL, low ? from->n : 0,
				       high ? to->p : NULL, high ? to->n : 0);
		if (err)
			k->ops->cursor_close(w->c);
	}
	if (err) {
		w->c = NULL;
		return kvs_fail(k, err);
	}
	return EXIT_OK;
}

static int step(struct walk *w)
{
	if (!w->started) {
		w->started = true;
		return w->reverse ? w->k->ops->cursor_last(w->c) : w->k->ops->cursor_first(w->c);
	}
	return w->reverse ? w->k->ops->cursor_prev(w->c) : w->k->ops->cursor_next(w->c);
}

int walk_next(struct walk *w, int *rc)
{
	bool stuck;
	int err;

	for (;;) {
		err = step(w);
		if (!err)
			err = w->k->ops->cursor_key(w->c, &w->key, &w->key_len);
		if (!err) {
			w->last_error[0] = 0;
			return 1;
		}
		if (err == KV_E_NOTFOUND)
			return 0;
		stuck = w->last_error[0] &&
			(err == KV_E_INVALID ||
			 !strncmp(w->last_error, w->k->ops->last_error(), sizeof(w->last_error) - 1));
		if (err != KV_E_CORRUPT && !stuck) {
			*rc = kvs_fail(w->k, err);
			return -1;
		}
		if (stuck) {
			kvs_say(w->k, 0,
				"the walk cannot go on behind the damage; what comes after it "
				"is not listed");
			return 0;
		}
		snprintf(w->last_error, sizeof(w->last_error), "%s", w->k->ops->last_error());
		walk_failed(w, err);
	}
}

int walk_failed(struct walk *w, int err)
{
	int code;

	/* on a mount, somebody deleted it meanwhile */
	if (err == KV_E_NOTFOUND)
		return EXIT_OK;
	if (err != KV_E_CORRUPT)
		return kvs_fail(w->k, err);
	w->damaged = true;
	code = kvs_fail(w->k, err);
	return code == EXIT_CORRUPT ? EXIT_OK : code;
}

int walk_close(struct walk *w, int rc)
{
	w->k->ops->cursor_close(w->c);
	w->c = NULL;
	return !rc && w->damaged ? EXIT_CORRUPT : rc;
}

/* ---- values -------------------------------------------------------------------------------- */

int value_open(struct value *v, const struct kvs *k, kv_cursor *c)
{
	size_t len;
	int err;

	v->k = k;
	v->c = c;
	v->p = NULL;
	err = k->ops->cursor_value_len(c, &v->len);
	if (err || v->len > kvs_piece_bytes(k))
		return err;
	err = k->ops->cursor_value(c, &v->p, &len);
	/* on a mount it may have changed since */
	if (!err)
		v->len = len;
	return err;
}

int value_each(const struct value *v, void (*fn)(void *arg, const uint8_t *p, size_t n), void *arg)
{
	static uint8_t buf[128 << 10];
	kv_reader *rd;
	uint64_t len;
	size_t got;
	int err;

	if (v->p || !v->len) {
		fn(arg, v->p, v->len);
		return 0;
	}
	err = v->k->ops->cursor_reader(v->c, &rd, &len);
	if (err)
		return err;
	do {
		err = v->k->ops->reader_read(rd, buf, sizeof(buf), &got);
		if (!err && got)
			fn(arg, buf, got);
	} while (!err && got && !out_failed());
	v->k->ops->reader_close(rd);
	return err;
}

static void feed(void *arg, const uint8_t *p, size_t n)
{
	utf8_feed(arg, p, n);
}

int value_utf8(const struct value *v, struct utf8 *u)
{
	memset(u, 0, sizeof(*u));
	return value_each(v, feed, u);
}

static void put_json(void *arg, const uint8_t *p, size_t n)
{
	(void)arg;
	out_json_chars(p, n);
}

static void put_stream(void *arg, const uint8_t *p, size_t n)
{
	enc_stream_put(arg, p, n);
}

int ndjson_value(const char *name, const struct value *v, const struct utf8 *u)
{
	struct enc_stream s = { .mode = ENC_BASE64 };
	int err;

	out_fmt(",\"%s%s\":\"", name, utf8_whole(u) ? "" : "_b64");
	if (utf8_whole(u)) {
		err = value_each(v, put_json, NULL);
	} else {
		err = value_each(v, put_stream, &s);
		enc_stream_end(&s);
	}
	out_text("\"");
	return err;
}

int ndjson_write(const char *tree, const void *key, size_t key_len, const struct value *v)
{
	struct utf8 u;
	int err = value_utf8(v, &u);

	if (err)
		return err;
	out_text("{");
	if (tree) {
		out_text("\"tree\":");
		out_json_string(tree, strlen(tree));
		out_text(",");
	}
	out_json_key(key, key_len);
	err = ndjson_value("value", v, &u);
	out_text("}");
	out_line();
	return err;
}

/* Both are streamed: from readers that are open, in pieces. */
static int streams_same(const struct value *a, kv_reader *ra, kv_reader *rb, bool *same)
{
	static uint8_t buf[2][64 << 10];
	size_t got[2];
	int err;

	do {
		err = a->k->ops->reader_read(ra, buf[0], sizeof(buf[0]), &got[0]);
		if (!err)
			err = a->k->ops->reader_read(rb, buf[1], sizeof(buf[1]), &got[1]);
		*same = !err && got[0] == got[1] && !memcmp(buf[0], buf[1], got[0]);
	} while (*same && got[0]);
	return err;
}

int value_same(const struct value *a, const struct value *b, bool *same)
{
	kv_reader *ra, *rb;
	uint64_t len;
	int err;

	*same = a->len == b->len;
	if (!*same || !a->len)
		return 0;
	if (a->p && b->p) {
		*same = !memcmp(a->p, b->p, a->len);
		return 0;
	}
	err = a->k->ops->cursor_reader(a->c, &ra, &len);
	if (err)
		return err;
	err = b->k->ops->cursor_reader(b->c, &rb, &len);
	if (!err) {
		err = streams_same(a, ra, rb, same);
		a->k->ops->reader_close(rb);
	}
	a->k->ops->reader_close(ra);
	return err;
}
