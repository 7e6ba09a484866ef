/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bdb.c - the text format of db_dump and mdb_dump, both ways.
 *
 * A section is a header (VERSION=3, format=, database=, type=, mapsize=, ..., HEADER=END), then one
 * line per key and per value, each behind one space, then DATA=END. format=bytevalue: two
 * hexadecimal digits a byte. format=print: characters as they are, a backslash as \\, other bytes
 * as \xx. Several sections may follow each other; database=NAME is the tree NAME, none is 'main'.
 *
 * What we cannot hold is refused, not flattened: duplicate keys, record numbers, dumps without
 * keys.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kvs.h"

/* ---- load ---------------------------------------------------------------------------------- */

struct section {
	bool print; /* else bytevalue */
	char database[65];
};

/* A line without its newline. False: too long, or no newline at the end of the input. */
static bool header_line(struct input *in, char *line, size_t cap)
{
	size_t n = 0;
	int c;

	while ((c = input_get(in)) >= 0 && c != '\n') {
		if (n == cap - 1 || !c)
			return false;
		line[n++] = (char)c;
	}
	if (n && line[n - 1] == '\r')
		n--;
	line[n] = 0;
	return c == '\n';
}

static int header_field(struct input *in, struct section *s, const char *name, const char *value)
{
	if (!strcmp(name, "VERSION")) {
		if (strcmp(value, "3") && strcmp(value, "2"))
			return input_bad(in, "VERSION=%s is not known; 3 is", value);
	} else if (!strcmp(name, "format")) {
		s->print = !strcmp(value, "print");
		if (!s->print && strcmp(value, "bytevalue"))
			return input_bad(in, "format=%s is not known; bytevalue and print are",
					 value);
	} else if (!strcmp(name, "database") || !strcmp(name, "subdatabase")) {
		if (strlen(value) > 64)
			return input_bad(in, "the name of the database is longer than 64 bytes");
		snprintf(s->database, sizeof(s->database), "%.64s", value);
	} else if (!strcmp(name, "type")) {
		if (strcmp(value, "btree") && strcmp(value, "hash"))
			return input_bad(in, "type=%s has no keys of its own; btree and hash have",
					 value);
	} else if ((!strcmp(name, "duplicates") || !strcmp(name, "dupsort")) &&
		   strcmp(value, "0")) {
		return input_bad(in,
				 "%s=%s: a key with several values does not fit a key-value store",
				 name, value);
	} else if (!strcmp(name, "keys") && !strcmp(value, "0")) {
		return input_bad(in, "keys=0: a dump without keys cannot be loaded");
	}
	/* the rest describes the other store: mapsize, maxreaders, db_pagesize, ... */
	return EXIT_OK;
}

static int read_header(struct input *in, struct section *s)
{
	char line[512];
	char *equals;
	int rc;

	memset(s, 0, sizeof(*s));
	for (;;) {
		if (!header_line(in, line, sizeof(line)))
			return input_bad(
				in,
				"a line of the header is too long or cut; it ends with HEADER=END");
		if (!strcmp(line, "HEADER=END")) {
			in->line++;
			return EXIT_OK;
		}
		equals = strchr(line, '=');
		if (!equals)
			return input_bad(in, "'%.40s' is not name=value as the header has", line);
		*equals = 0;
		rc = header_field(in, s, line, equals + 1);
		if (rc)
			return rc;
		in->line++;
	}
}

typedef int (*add_fn)(struct loader *l, const uint8_t *p, size_t n);

static int hex_line(struct input *in, struct loader *l, add_fn add)
{
	uint8_t piece[4096];
	size_t n = 0;
	int hi, lo, rc;

	for (;;) {
		int c = input_get(in);

		if (c == '\r' && input_peek(in) == '\n')
			continue;
		if (c == '\n')
			return add(l, piece, n);
		hi = hex_digit(c);
		lo = hi < 0 ? -1 : hex_digit(input_get(in));
		if (lo < 0)
			return input_bad(in, c < 0 ? "the line is cut"
						   : "not pairs of hexadecimal digits");
		piece[n++] = (uint8_t)(hi << 4 | lo);
		if (n == sizeof(piece)) {
			rc = add(l, piece, n);
			if (rc)
				return rc;
			n = 0;
		}
	}
}

static int print_line(struct input *in, struct loader *l, add_fn add)
{
	uint8_t piece[4096];
	size_t n = 0;
	int hi, lo, rc;

	for (;;) {
		int c = input_get(in);

		if (c < 0)
			return input_bad(in, "the line is cut");
		if (c == '\n')
			return add(l, piece, n);
		if (c == '\\' && input_peek(in) == '\\') {
			in->pos++;
		} else if (c == '\\') {
			hi = hex_digit(input_get(in));
			lo = hi < 0 ? -1 : hex_digit(input_get(in));
			if (lo < 0)
				return input_bad(
					in,
					"a backslash needs a second one or two hexadecimal digits");
			c = hi << 4 | lo;
		}
		piece[n++] = (uint8_t)c;
		if (n == sizeof(piece)) {
			rc = add(l, piece, n);
			if (rc)
				return rc;
			n = 0;
		}
	}
}

static int data_line(struct input *in, struct loader *l, const struct section *s, add_fn add)
{
	in->pos++; /* the space */
	return s->print ? print_line(in, l, add) : hex_line(in, l, add);
}

static int data_end(struct input *in)
{
	char line[32];

	if (!header_line(in, line, sizeof(line)) || strcmp(line, "DATA=END"))
		return input_bad(
			in, "a line of data begins with a space, and DATA=END is the last one");
	in->line++;
	return EXIT_OK;
}

static int read_data(struct input *in, struct loader *l, const struct section *s)
{
	int rc = EXIT_OK;

	while (!rc) {
		if (input_peek(in) != ' ')
			return data_end(in);
		loader_begin(l);
		if (s->database[0])
			rc = loader_tree_set(l, s->database);
		if (!rc)
			rc = data_line(in, l, s, loader_key_add);
		if (rc)
			break;
		in->line++;
		l->key_done = true;
		if (input_peek(in) != ' ')
			return input_bad(in, "the value of the key in the line before is missing");
		rc = data_line(in, l, s, loader_value_add);
		if (!rc)
			rc = loader_end(l);
		in->line++;
	}
	return rc;
}

int bdb_load(struct input *in, struct loader *l)
{
	struct section s;
	int rc = EXIT_OK;

	while (!rc && input_peek(in) >= 0) {
		rc = read_header(in, &s);
		/* an empty database is a tree too */
		if (!rc && s.database[0])
			rc = loader_tree_set(l, s.database);
		if (!rc)
			rc = read_data(in, l, &s);
	}
	return rc || !in->error ? rc : input_bad(in, " ");
}

/* ---- dump ---------------------------------------------------------------------------------- */

static void put_hex(void *arg, const uint8_t *p, size_t n)
{
	enc_stream_put(arg, p, n);
}

/*
 * Address space for an LMDB file with these entries: twice what its pages need. Taken from the
 * entries alone, so that equal contents give equal dumps.
 */
static int map_size(struct kvs *k, kv_tree *tree, uint64_t *bytes)
{
	const uint64_t page = 4096, mib = 1 << 20;
	struct walk w;
	uint64_t sum = 0, len;
	int rc = walk_open(&w, k, tree, NULL, NULL, false);

	if (rc)
		return rc;
	while (walk_next(&w, &rc) > 0) {
		if (k->ops->cursor_value_len(w.c, &len))
			continue; /* the dump itself tells */
		if (w.key_len + len > page / 2)
			len = (len + 16 + page - 1) / page * page;
		sum += w.key_len + len + 16;
	}
	*bytes = (2 * sum / mib + 16) * mib;
	return walk_close(&w, rc);
}

static int dump_entry(struct walk *w)
{
	struct enc_stream s = { .mode = ENC_HEX };
	struct value v;
	struct utf8 u;
	int err;

	err = value_open(&v, w->k, w->c);
	if (!err && !v.p)
		err = value_utf8(&v, &u); /* damage must show before the key is printed */
	if (err)
		return walk_failed(w, err);
	out_text(" ");
	enc_put(ENC_HEX, w->key, w->key_len);
	out_text("\n ");
	err = value_each(&v, put_hex, &s);
	out_line();
	return err ? kvs_fail(w->k, err) : EXIT_OK;
}

int bdb_dump(struct kvs *k, const char *name, kv_tree *tree, struct progress *p, uint64_t *entries)
{
	struct walk w;
	uint64_t bytes = 0;
	bool damaged;
	int rc = map_size(k, tree, &bytes);

	damaged = rc == EXIT_CORRUPT;
	if (rc && !damaged)
		return rc;
	out_text("VERSION=3\nformat=bytevalue\n");
	if (name)
		out_fmt("database=%s\n", name);
	out_fmt("type=btree\nmapsize=%" PRIu64 "\nHEADER=END\n", bytes);
	rc = walk_open(&w, k, tree, NULL, NULL, false);
	if (rc)
		return rc;
	while (!rc && !out_failed() && walk_next(&w, &rc) > 0) {
		rc = dump_entry(&w);
		(*entries)++;
		progress_show(p, *entries, *entries);
	}
	rc = walk_close(&w, rc);
	if (!rc || rc == EXIT_CORRUPT)
		out_text("DATA=END\n");
	return !rc && damaged ? EXIT_CORRUPT : rc;
}
