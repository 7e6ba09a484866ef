/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_diff.c - kvs diff: what differs between two snapshots, or between one and the state now.
 * What is damaged is told and passed as far as that goes, and the exit status is 4.
 */
#include <string.h>

#include "kvs.h"

struct diff {
	struct kvs *k;
	kv_read *from, *to;
	bool damaged;
};

enum { OLD, NEW };

static void put_piece(void *arg, const uint8_t *p, size_t n)
{
	enc_stream_put(arg, p, n);
}

static int print_text(struct diff *d, const char *tree, const void *key, size_t key_len,
		      const struct value *v, const struct utf8 *u, const bool *has)
{
	int i, err = 0;

	out_text(!has[OLD] ? "+\t" : !has[NEW] ? "-\t" : "~\t");
	out_text(tree);
	out_text("\t");
	enc_put(d->k->key_enc, key, key_len);
	for (i = OLD; i <= NEW && !err && !kvs_given(d->k, OPT_BIT(KEYS)); i++) {
		struct enc_stream s = { .mode = enc_resolve(d->k->value_enc, &u[i]) };

		if (!has[i])
			continue;
		out_text("\t");
		err = value_each(&v[i], put_piece, &s);
		enc_stream_end(&s);
	}
	out_line();
	return err;
}

static int print_json(struct diff *d, const char *tree, const void *key, size_t key_len,
		      const struct value *v, const struct utf8 *u, const bool *has)
{
	bool values = !kvs_given(d->k, OPT_BIT(KEYS));
	int err = 0;

	out_text("{\"change\":");
	out_text(!has[OLD] ? "\"added\"" : !has[NEW] ? "\"removed\"" : "\"changed\"");
	out_text(",\"tree\":");
	out_json_string(tree, strlen(tree));
	out_text(",");
	out_json_key(key, key_len);
	if (has[OLD] && values)
		err = ndjson_value("old", &v[OLD], &u[OLD]);
	if (has[NEW] && values && !err)
		err = ndjson_value("value", &v[NEW], &u[NEW]);
	out_text("}");
	out_line();
	return err;
}

/* KV_E_*. Values are read before anything is printed. */
static int print(struct diff *d, kv_diff *df, const char *tree)
{
	kv_cursor *c[] = { kv_diff_from(df), kv_diff_to(df) };
	bool has[] = { c[OLD], c[NEW] }, same = false;
	const void *key;
	struct value v[2];
	struct utf8 u[2] = { 0 };
	size_t len;
	int i, err = kv_cursor_key(c[OLD] ? c[OLD] : c[NEW], &key, &len);

	for (i = OLD; i <= NEW && !err; i++) {
		if (!c[i])
			continue;
		err = value_open(&v[i], d->k, c[i]);
		if (!err && !kvs_given(d->k, OPT_BIT(KEYS)))
			err = value_utf8(&v[i], &u[i]);
	}
	/* written again as it was */
	if (!err && has[OLD] && has[NEW])
		err = value_same(&v[OLD], &v[NEW], &same);
	if (err || same)
		return err;
	return (d->k->json ? print_json : print_text)(d, tree, key, len, v, u, has);
}

/* KV_E_CORRUPT is told, and the work goes on. Exit code otherwise. */
static int told(struct diff *d, int err)
{
	int code = kvs_fail(d->k, err);

	if (code != EXIT_CORRUPT)
		return code;
	d->damaged = true;
	return EXIT_OK;
}

static int diff_tree(struct diff *d, const char *tree)
{
	kv_diff *df;
	int err = kv_diff_open(d->from, d->to, tree, &df), rc = EXIT_OK;

	/* --tree is looked for before */
	if (err)
		return err == KV_E_NOTFOUND ? EXIT_OK : told(d, err);
	while (!rc && !out_failed() && !(err = kv_diff_next(df))) {
		err = print(d, df, tree);
		if (err)
			rc = told(d, err);
	}
	if (!rc && err && err != KV_E_NOTFOUND)
		rc = told(d, err);
	kv_diff_close(df);
	return rc;
}

static int diff_all(struct diff *d)
{
	struct names t = { 0 };
	int rc, err = kv_read_trees(d->from, names_add, &t);
	size_t i;

	if (err >= 0)
		err = kv_read_trees(d->to, names_add, &t);
	rc = t.failed ? kvs_no_memory() : err < 0 ? kvs_fail(d->k, err) : diff_tree(d, "main");
	for (i = 0; i < t.nr && !rc && !out_failed(); i++)
		rc = diff_tree(d, t.name[i]);
	names_free(&t);
	return rc;
}

static int has_tree(struct diff *d)
{
	kv_tree *t;

	if (kv_read_tree(d->from, d->k->tree_name, &t) && kv_read_tree(d->to, d->k->tree_name, &t))
		return kvs_say(d->k, EXIT_NO, "no tree '%s' in either state", d->k->tree_name);
	return EXIT_OK;
}

static int diff(struct kvs *k)
{
	struct diff d = { .k = k };
	int rc = kvs_snapshot(k, k->args[0], &d.from), err;

	if (!rc && k->args_nr > 1) {
		rc = kvs_snapshot(k, k->args[1], &d.to);
	} else if (!rc) {
		err = kv_read_begin(k->db, &d.to);
		rc = err ? kvs_fail(k, err) : EXIT_OK;
	}
	if (!rc && k->tree_name)
		rc = has_tree(&d);
	if (!rc)
		rc = k->tree_name ? diff_tree(&d, k->tree_name) : diff_all(&d);
	kv_read_end(d.from);
	kv_read_end(d.to);
	return !rc && d.damaged ? EXIT_CORRUPT : rc;
}

int cmd_diff(struct kvs *k)
{
	const char *tree = k->tree_name;
	int rc;

	/* it need not be there now */
	k->tree_name = NULL;
	rc = kvs_open(k, 0);
	k->tree_name = tree;
	return rc ? rc : kvs_finish(k, diff(k));
}
