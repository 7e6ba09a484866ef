/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ndjson.c - one JSON object a line into the loader:
 *
 *	{"tree":"...", "key":"..." | "key_b64":"...", "value":"..." | "value_b64":"..."}
 *
 * Decisions
 * - A pull parser of our own for exactly this grammar: strings pass through in pieces, so a value
 *may be larger than memory. (A general JSON library holds the whole line.)
 * - Strict: any other member, a member twice, a value that is no string, bytes that are no UTF-8, a
 *lone surrogate, or a newline inside of the object is an error that names the line. A member that a
 *newer version writes must not be dropped silently.
 */
#include <string.h>

#include "kvs.h"

enum member { M_TREE, M_KEY, M_VALUE };

/* A string on its way to its place. */
struct string {
	struct input *in;
	struct loader *l;
	bool name; /* of a member; else: */
	enum member member;
	bool b64;
	struct b64_dec dec;
	struct utf8 utf8;
	char text[65]; /* name or tree */
	size_t text_n;
};

static int put_text(struct string *s, const uint8_t *p, size_t n)
{
	if (n > sizeof(s->text) - 1 - s->text_n) {
		if (s->name)
			return input_bad(s->in, "unknown member '%.40s...'", s->text);
		return input_bad(s->in, "the name of the tree is longer than 64 bytes");
	}
	memcpy(s->text + s->text_n, p, n);
	s->text_n += n;
	s->text[s->text_n] = 0;
	return EXIT_OK;
}

static int put_plain(struct string *s, const uint8_t *p, size_t n)
{
	if (s->name || s->member == M_TREE)
		return put_text(s, p, n);
	return s->member == M_KEY ? loader_key_add(s->l, p, n) : loader_value_add(s->l, p, n);
}

static int put_decoded(struct string *s, const uint8_t *p, size_t n)
{
	uint8_t piece[3072 + 3];
	int rc = EXIT_OK;

	if (!s->b64)
		return put_plain(s, p, n);
	while (n && !rc) {
		size_t now = n < 4096 ? n : 4096;
		ptrdiff_t got = b64_feed(&s->dec, p, now, piece);

		if (got < 0)
			return input_bad(s->in, "not base64 in %s_b64",
					 s->member == M_KEY ? "key" : "value");
		rc = put_plain(s, piece, (size_t)got);
		p += now;
		n -= now;
	}
	return rc;
}

/* Four hexadecimal digits; -1: not. */
static long hex4(struct input *in)
{
	long v = 0;
	int i;

	for (i = 0; i < 4; i++) {
		int d = hex_digit(input_peek(in));

		if (d < 0)
			return -1;
		in->pos++;
		v = v << 4 | d;
	}
	return v;
}

static size_t utf8_encode(long c, uint8_t *to)
{
	if (c < 0x80) {
		to[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (uint8_t)(0xc0 | c >> 6);
		to[1] = (uint8_t)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (uint8_t)(0xe0 | c >> 12);
		to[1] = (uint8_t)(0x80 | (c >> 6 & 63));
		to[2] = (uint8_t)(0x80 | (c & 63));
		return 3;
	}
	to[0] = (uint8_t)(0xf0 | c >> 18);
	to[1] = (uint8_t)(0x80 | (c >> 12 & 63));
	to[2] = (uint8_t)(0x80 | (c >> 6 & 63));
	to[3] = (uint8_t)(0x80 | (c & 63));
	return 4;
}

/* After "\u". */
static int unicode_escape(struct string *s)
{
	long c = hex4(s->in), low;
	uint8_t bytes[4];

	if (c < 0)
		return input_bad(s->in, "\\u needs four hexadecimal digits");
	if (c >= 0xdc00 && c <= 0xdfff)
		return input_bad(
			s->in,
			"a lone surrogate \\u%04lx is no character; use key_b64 or value_b64", c);
	if (c >= 0xd800 && c <= 0xdbff) {
		low = -1;
		if (input_get(s->in) == '\\' && input_get(s->in) == 'u')
			low = hex4(s->in);
		if (low < 0xdc00 || low > 0xdfff)
			return input_bad(
				s->in,
				"a lone surrogate \\u%04lx is no character; use key_b64 or "
				"value_b64",
				c);
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	return put_decoded(s, bytes, utf8_encode(c, bytes));
}

/* After the backslash. */
static int escape(struct string *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	int c = input_get(s->in);
	const char *at;

	if (!utf8_whole(&s->utf8))
		return input_bad(s->in, "not UTF-8; use key_b64 or value_b64 for other bytes");
	if (c == 'u')
		return unicode_escape(s);
	at = c > 0 ? strchr(from, c) : NULL;
	if (!at)
		return input_bad(s->in, "no such escape in a JSON string");
	return put_decoded(s, (const uint8_t *)to + (at - from), 1);
}

/* Plain characters up to a quote, a backslash, a control character or the end of the buffer. */
static int span(struct string *s)
{
	struct input *in = s->in;
	const uint8_t *p = in->buf + in->pos;
	size_t n = 0, max = in->len - in->pos;

	while (n < max && p[n] >= 0x20 && p[n] != '"' && p[n] != '\\')
		n++;
	utf8_feed(&s->utf8, p, n);
	if (s->utf8.bad)
		return input_bad(in, "not UTF-8; use key_b64 or value_b64 for other bytes");
	in->pos += n;
	return put_decoded(s, p, n);
}

/* A whole string, from its opening quote. */
static int string(struct string *s, const char *what)
{
	int c, rc = EXIT_OK;

	if (input_peek(s->in) != '"')
		return input_bad(s->in, "%s must be a string in double quotes", what);
	s->in->pos++;
	while (!rc) {
		c = input_peek(s->in);
		if (c < 0 || c == '\n')
			return input_bad(s->in, "the line ends inside of %s", what);
		if (c == '"')
			break;
		if (c == '\\') {
			s->in->pos++;
			rc = escape(s);
		} else if (c < 0x20) {
			return input_bad(s->in, "a control character must be escaped in JSON");
		} else {
			rc = span(s);
		}
	}
	if (rc)
		return rc;
	s->in->pos++;
	if (!utf8_whole(&s->utf8))
		return input_bad(s->in, "not UTF-8; use key_b64 or value_b64 for other bytes");
	if (!b64_whole(&s->dec))
		return input_bad(s->in, "base64 that ends early in %s", what);
	return EXIT_OK;
}

static int skip_blanks(struct input *in)
{
	int c = input_peek(in);

	while (c == ' ' || c == '\t' || c == '\r') {
		in->pos++;
		c = input_peek(in);
	}
	return c;
}

/* Which member is it? False: none of ours. */
static bool member_of(struct string *s, const char *name)
{
	static const struct {
		const char *name;
		enum member member;
		bool b64;
	} members[] = {
		{ "tree", M_TREE, false },	{ "key", M_KEY, false },
		{ "key_b64", M_KEY, true },	{ "value", M_VALUE, false },
		{ "value_b64", M_VALUE, true },
	};
	size_t i;

	for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (strcmp(name, members[i].name))
			continue;
		s->member = members[i].member;
		s->b64 = members[i].b64;
		return true;
	}
	return false;
}

static int member_end(struct string *s)
{
	struct loader *l = s->l;

	switch (s->member) {
	case M_TREE:
		if (strlen(s->text) != s->text_n)
			return input_bad(s->in, "the name of a tree has no control characters");
		return loader_tree_set(l, s->text);
	case M_KEY:
		l->key_done = true;
		break;
	case M_VALUE:
		l->value_done = true;
		break;
	}
	return EXIT_OK;
}

/* "name": "string" */
static int member(struct input *in, struct loader *l)
{
	struct string name = { .in = in, .l = l, .name = true };
	struct string s = { .in = in, .l = l };
	int rc = string(&name, "the name of a member");

	if (rc)
		return rc;
	if (strlen(name.text) != name.text_n || !member_of(&s, name.text))
		return input_bad(
			in,
			"unknown member '%.64s'; known are tree, key, key_b64, value, value_b64",
			name.text);
	if (s.member == M_TREE ? l->tree_done : s.member == M_KEY ? l->key_done : l->value_done)
		return input_bad(in, "%s is given twice",
				 s.member == M_TREE  ? "tree"
				 : s.member == M_KEY ? "key"
						     : "value");
	if (skip_blanks(in) != ':')
		return input_bad(in, "':' is missing after \"%s\"", name.text);
	in->pos++;
	skip_blanks(in);
	rc = string(&s, name.text);
	return rc ? rc : member_end(&s);
}

/* From '{' to '}'. */
static int object(struct input *in, struct loader *l)
{
	int c, rc;

	in->pos++;
	c = skip_blanks(in);
	while (c != '}') {
		rc = member(in, l);
		if (rc)
			return rc;
		c = skip_blanks(in);
		if (c == '}')
			break;
		if (c != ',')
			return input_bad(in, c < 0 || c == '\n'
						     ? "the line ends inside of the object"
						     : "',' or '}' is missing after a member");
		in->pos++;
		c = skip_blanks(in);
		if (c == '}')
			return input_bad(in, "',' before '}'");
	}
	in->pos++;
	if (!l->key_done)
		return input_bad(in, "no \"key\" or \"key_b64\"");
	if (!l->value_done)
		return input_bad(in, "no \"value\" or \"value_b64\"");
	c = skip_blanks(in);
	if (c >= 0 && c != '\n')
		return input_bad(in, "more text behind the object");
	/* a read error is not the end of the line */
	return in->error ? input_bad(in, " ") : loader_end(l);
}

int ndjson_load(struct input *in, struct loader *l)
{
	int c, rc;

	for (;;) {
		c = skip_blanks(in);
		if (c < 0)
			return in->error ? input_bad(in, " ") : EXIT_OK;
		if (c == '{') {
			loader_begin(l);
			rc = object(in, l);
			if (rc)
				return rc;
		} else if (c == '\n') {
			in->pos++;
			in->line++;
		} else {
			return input_bad(in, "a line must be a JSON object: "
					     "{\"key\":\"...\",\"value\":\"...\"}");
		}
	}
}
