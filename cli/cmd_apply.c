/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_apply.c - kvs apply: changes from a script, one after the other in one session, each of them a
 * commit of its own. It stops at the first that fails; those before it stay.
 *
 * A line is a word and its operands, separated by tabs:
 *
 *	tree NAME	put KEY VALUE	append KEY VALUE	inc KEY [N]	dec KEY [N]
 *	del KEY		sync		echo TEXT
 *
 * "echo" goes out at once. So whoever reads it knows that all lines before it are acknowledged, and behind
 * a "sync" that they are durable.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

#define WORDS_MAX 3

struct script {
	struct kvs *k;
	struct input *in;
	kv_tree *tree;
	size_t most; /* bytes of a line, and of a value that is appended to in memory */
	uint64_t done;
	struct bytes line, key, value;
	char *words[WORDS_MAX];
	int words_nr;
};

struct word {
	const char *name;
	int words_min, words_max;
	int (*run)(struct script *s);
};

/* An error of the engine about the line at hand. */
static int fail_here(struct script *s, int err)
{
	char place[64], shown[128];

	progress_end(&s->in->progress);
	if (err == KV_E_NOTFOUND)
		return kvs_say(s->k, EXIT_NO, "line %" PRIu64 " of the script: no key '%s'", s->in->line,
			       enc_show(s->key.p, s->key.n, shown, sizeof(shown)));
	snprintf(place, sizeof(place), "line %" PRIu64 " of the script", s->in->line);
	return kvs_fail_at(s->k, err, place);
}

static int done_here(struct script *s, int err)
{
	return err ? fail_here(s, err) : EXIT_OK;
}

/* ---- what a line does ------------------------------------------------------------------------ */

static int run_tree(struct script *s)
{
	return done_here(s, s->k->ops->tree_open(s->k->db, s->words[1], KV_TREE_CREATE, &s->tree));
}

static int run_put(struct script *s)
{
	return done_here(s, s->k->ops->put(s->k->db, s->tree, s->key.p, s->key.n, s->value.p, s->value.n, 0));
}

static int copy_all(const struct volume_ops *ops, kv_reader *rd, kv_writer *w, uint8_t *buf, size_t cap)
{
	size_t got;
	int err;

	do {
		err = ops->reader_read(rd, buf, cap, &got);
		if (!err && got)
			err = ops->writer_write(w, buf, got);
	} while (!err && got);
	return err;
}

/* The old value, and behind it the new bytes, as a stream. */
static int append_stream(struct script *s)
{
	const struct volume_ops *ops = s->k->ops;
	uint8_t *buf = malloc(s->most);
	uint64_t len;
	kv_reader *rd;
	kv_writer *w;
	int err;

	if (!buf)
		return kvs_no_memory();
	err = ops->reader_open(s->k->db, NULL, s->tree, s->key.p, s->key.n, &rd, &len);
	if (err)
		goto out;
	err = ops->writer_open(s->k->db, s->tree, s->key.p, s->key.n, &w);
	if (!err) {
		err = copy_all(ops, rd, w, buf, s->most);
		if (!err)
			err = ops->writer_write(w, s->value.p, s->value.n);
		if (err)
			ops->writer_abort(w);
		else
			err = ops->writer_commit(w, 0);
	}
	ops->reader_close(rd);
out:
	free(buf);
	return done_here(s, err);
}

static int run_append(struct script *s)
{
	const struct volume_ops *ops = s->k->ops;
	uint64_t old;
	size_t got = 0;
	uint8_t *sum;
	int err = ops->exists(s->k->db, s->tree, s->key.p, s->key.n, &old);

	if (err)
		return fail_here(s, err);
	if (old > s->most - s->value.n)
		return append_stream(s);
	sum = malloc(old + s->value.n + 1);
	if (!sum)
		return kvs_no_memory();
	err = ops->get_into(s->k->db, s->tree, s->key.p, s->key.n, sum, (size_t)old, &got);
	if (!err) {
		memcpy(sum + got, s->value.p, s->value.n);
		err = ops->put(s->k->db, s->tree, s->key.p, s->key.n, sum, got + s->value.n, 0);
	}
	free(sum);
	return done_here(s, err);
}

static int add(struct script *s, bool negative)
{
	int64_t delta = 1, result;

	if (s->words_nr > 2 && !opts_integer(s->words[2], &delta))
		return input_bad(s->in, "'%s' is not an integer of 64 bits", s->words[2]);
	if (negative && delta == INT64_MIN)
		return input_bad(s->in, "'%s' cannot be subtracted", s->words[2]);
	return done_here(s, s->k->ops->inc(s->k->db, s->tree, s->key.p, s->key.n, negative ? -delta : delta,
					   &result, 0));
}

static int run_inc(struct script *s)
{
	return add(s, false);
}

static int run_dec(struct script *s)
{
	return add(s, true);
}

static int run_del(struct script *s)
{
	return done_here(s, s->k->ops->del(s->k->db, s->tree, s->key.p, s->key.n, 0));
}

static int run_sync(struct script *s)
{
	return done_here(s, s->k->ops->sync(s->k->db));
}

static int run_echo(struct script *s)
{
	out_text(s->words[1]);
	out_line();
	return out_finish(EXIT_OK);
}

static const struct word words[] = {
	{ "tree", 2, 2, run_tree }, { "put", 3, 3, run_put }, { "append", 3, 3, run_append },
	{ "inc", 2, 3, run_inc },   { "dec", 2, 3, run_dec }, { "del", 2, 2, run_del },
	{ "sync", 1, 1, run_sync }, { "echo", 2, 2, run_echo },
};

/* ---- lines ----------------------------------------------------------------------------------- */

/* 1: a line, without its end; 0: no more; -1: failed, *rc is the exit code. */
static int read_line(struct script *s, int *rc)
{
	int c;

	s->line.n = 0;
	while ((c = input_get(s->in)) >= 0 && c != '\n') {
		uint8_t byte = (uint8_t)c;

		if (!c)
			*rc = input_bad(s->in, "a zero byte; --enc escape, hex or base64 writes it as text");
		else if (s->line.n == s->most)
			*rc = input_bad(s->in, "longer than %zu bytes; 'kvs put %s KEY -' takes any value",
					s->most, s->k->image);
		else if (!bytes_add(&s->line, &byte, 1))
			*rc = kvs_no_memory();
		if (*rc)
			return -1;
	}
	/* Half a line is none. */
	if (c < 0 && (s->in->error || s->line.n))
		*rc = input_bad(s->in, "the last line has no end");
	else if (c >= 0 && !bytes_add(&s->line, "", 1))
		*rc = kvs_no_memory();
	return *rc ? -1 : c >= 0;
}

/* False: more words than there may be. */
static bool split(struct script *s)
{
	char *at = (char *)s->line.p;

	s->words_nr = 0;
	while (at && s->words_nr < WORDS_MAX) {
		s->words[s->words_nr++] = at;
		at = strchr(at, '\t');
		if (at)
			*at++ = 0;
	}
	return !at;
}

static int decode(struct script *s, enum enc_mode mode, const char *text, struct bytes *out)
{
	const char *why;

	out->n = 0;
	why = enc_decode(mode, text, out);
	return why ? input_bad(s->in, "%s; see --enc in 'man kvs'", why) : EXIT_OK;
}

static int run_line(struct script *s)
{
	const struct word *w;
	bool fits = split(s), keyed;
	int rc = EXIT_OK;

	for (w = words; w < words + sizeof(words) / sizeof(words[0]); w++)
		if (!strcmp(w->name, s->words[0]))
			break;
	if (w == words + sizeof(words) / sizeof(words[0]))
		return input_bad(s->in, "no tree, put, append, inc, dec, del, sync or echo at its beginning");
	if (!fits || s->words_nr < w->words_min || s->words_nr > w->words_max)
		return input_bad(s->in, "'%s' takes %d to %d operands, with a tab before each", w->name,
				 w->words_min - 1, w->words_max - 1);
	keyed = w->run != run_tree && w->run != run_sync && w->run != run_echo;
	if (keyed)
		rc = decode(s, s->k->key_enc, s->words[1], &s->key);
	if (!rc && keyed && !s->key.n)
		rc = input_bad(s->in, "the key is empty; a key has 1 byte or more");
	if (!rc && (w->run == run_put || w->run == run_append))
		rc = decode(s, s->k->value_enc, s->words[2], &s->value);
	return rc ? rc : w->run(s);
}

static int run_script(struct kvs *k, struct input *in)
{
	struct script s = { .k = k, .in = in, .tree = k->tree, .most = kvs_piece_bytes(k) };
	int rc = EXIT_OK;

	in->entries = &s.done;
	while (!rc && read_line(&s, &rc) > 0) {
		rc = run_line(&s);
		if (rc)
			break;
		s.done++;
		in->line++;
	}
	progress_end(&in->progress);
	in->entries = NULL;
	if (rc)
		kvs_say(k, 0, "%" PRIu64 " lines were carried out", s.done);
	bytes_free(&s.line);
	bytes_free(&s.key);
	bytes_free(&s.value);
	return rc;
}

int cmd_apply(struct kvs *k)
{
	struct input in;
	int rc;

	kvs_catch_signals();
	rc = input_open(&in, k, k->args[0]);
	if (!rc)
		rc = kvs_open(k, KVS_WRITE | KVS_CREATE | KVS_TREE_CREATE);
	if (!rc)
		rc = kvs_finish(k, run_script(k, &in));
	input_close(&in);
	return rc;
}
