/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_send.c - kvs send: a snapshot, or what it has changed since another one, as a stream of frames.
 *
 * The same two states give the same frames each time: where one ends depends on the lengths of keys and
 * values. So a stream is resumed by walking it again from its beginning, without reading values, and leaving
 * out the frames that the target has; that they are the same is seen by the outline.
 */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"

struct sender {
	struct kvs *k;
	kv_read *from, *to;
	struct stream_head head;
	struct extent at, skip;
	struct bytes payload;
	size_t fill;   /* of the payload, which has nothing in it while frames are left out */
	bool begun;    /* HEAD is out */
	bool selected; /* the tree at hand */
	const char *tree;
	uint64_t records;
	XXH3_state_t *sum;
};

/* ---- frames ---------------------------------------------------------------------------------- */

static void put_bytes(struct sender *s, const void *p, size_t n)
{
	XXH3_64bits_update(s->sum, p, n);
	out_bytes(p, n);
}

static int put_frame(struct sender *s, enum frame_type type, const void *payload, size_t n)
{
	struct frame_head h;

	frame_seal(&h, type, s->at.frames, payload, n);
	put_bytes(s, &h, sizeof(h));
	put_bytes(s, payload, n);
	/* the one who writes it out tells why it failed */
	return kvs_interrupted() ? EXIT_INTERRUPT : out_failed() ? EXIT_SYSTEM : EXIT_OK;
}

static int put_head(struct sender *s)
{
	struct stream_head h = s->head;

	s->begun = true;
	stream_head_swap(&h);
	return put_frame(s, FRAME_HEAD, &h, sizeof(h));
}

/* Does the next frame go out? */
static bool sending(const struct sender *s)
{
	return s->begun;
}

static int other_frames(struct sender *s)
{
	return kvs_say(s->k, EXIT_NO, "the stream that was cut is not the one that would be made now; begin "
		       "anew, without --resume");
}

/* The frame in s->payload is complete. */
static int frame_end(struct sender *s, enum frame_type type)
{
	int rc = EXIT_OK;

	s->at.frames++;
	if (sending(s))
		rc = put_frame(s, type, s->payload.p, s->payload.n);
	else if (s->at.frames == s->skip.frames)
		rc = s->at.outline == s->skip.outline ? put_head(s) : other_frames(s);
	s->payload.n = 0;
	s->fill = 0;
	return rc;
}

/* Adds to the frame; seen: it counts for the outline. */
static int frame_add(struct sender *s, const void *p, size_t n, bool seen)
{
	if (seen)
		s->at.outline = outline_add(s->at.outline, p, n);
	s->fill += n;
	return !sending(s) || bytes_add(&s->payload, p, n) ? EXIT_OK : kvs_no_memory();
}

static int records_end(struct sender *s)
{
	return s->fill ? frame_end(s, FRAME_RECORDS) : EXIT_OK;
}

static int put_tree(struct sender *s, uint8_t op)
{
	int rc = records_end(s);

	if (!rc)
		rc = frame_add(s, &op, 1, true);
	if (!rc)
		rc = frame_add(s, s->tree, strlen(s->tree), true);
	s->selected = op == TREE_USE;
	return rc ? rc : frame_end(s, FRAME_TREE);
}

/* ---- entries --------------------------------------------------------------------------------- */

/* A long value in frames of its own. Left out it is only counted. */
static int put_long(struct sender *s, kv_cursor *c, const void *key, size_t key_len, uint64_t len)
{
	static uint8_t buf[FRAME_FULL];
	uint64_t le = htole64(len), left;
	kv_reader *rd = NULL;
	int rc = records_end(s), err = 0;
	size_t want, got = 0;

	if (!rc)
		rc = frame_add(s, &le, sizeof(le), true);
	if (!rc)
		rc = frame_add(s, key, key_len, true);
	if (!rc)
		rc = frame_end(s, FRAME_VALUE);
	for (left = len; left && !rc && !err; left -= want) {
		uint32_t part;

		want = left < sizeof(buf) ? (size_t)left : sizeof(buf);
		if (sending(s) && !rd)
			err = kv_cursor_reader(c, &rd, &len);
		if (!err && rd)
			err = kv_reader_read(rd, buf, want, &got);
		part = htole32((uint32_t)want);
		s->at.outline = outline_add(s->at.outline, &part, sizeof(part));
		if (!err)
			rc = frame_add(s, buf, want, false);
		if (!err && !rc)
			rc = frame_end(s, FRAME_BYTES);
	}
	if (rd)
		kv_reader_close(rd);
	return err ? kvs_fail(s->k, err) : rc;
}

static int put_record(struct sender *s, kv_cursor *c, const void *key, size_t key_len, uint32_t len)
{
	struct record_head h = { .op = htole32(c ? RECORD_PUT : RECORD_DEL),
				 .key_len = htole32((uint32_t)key_len), .value_len = htole32(len) };
	const void *value = NULL;
	size_t got;
	int rc, err = c && sending(s) ? kv_cursor_value(c, &value, &got) : 0;

	if (err)
		return kvs_fail(s->k, err);
	rc = frame_add(s, &h, sizeof(h), true);
	if (!rc)
		rc = frame_add(s, key, key_len, true);
	if (!rc && len)
		rc = frame_add(s, value, len, false);
	return !rc && s->fill >= FRAME_FULL ? records_end(s) : rc;
}

static int put_difference(struct sender *s, kv_diff *d)
{
	kv_cursor *to = kv_diff_to(d);
	uint64_t len = 0;
	const void *key;
	size_t key_len;
	int rc = s->selected ? EXIT_OK : put_tree(s, TREE_USE);
	int err = kv_cursor_key(to ? to : kv_diff_from(d), &key, &key_len);

	if (!err && to)
		err = kv_cursor_value_len(to, &len);
	if (err || rc)
		return err ? kvs_fail(s->k, err) : rc;
	s->records++;
	return len > VALUE_LONG ? put_long(s, to, key, key_len, len) :
				  put_record(s, to, key, key_len, (uint32_t)len);
}

static int send_tree(void *arg, const struct tree_pair *t)
{
	struct sender *s = arg;
	kv_diff *d;
	int err, rc = EXIT_OK;

	s->tree = t->name;
	s->selected = false;
	if (!t->to)
		return put_tree(s, TREE_DROP);
	if (!t->from)
		rc = put_tree(s, TREE_USE);
	if (rc)
		return rc;
	err = kv_diff_open(s->from, s->to, t->name, &d);
	if (err)
		return kvs_fail(s->k, err);
	while (!rc && !(err = kv_diff_next(d)))
		rc = put_difference(s, d);
	kv_diff_close(d);
	if (!rc && err != KV_E_NOTFOUND)
		rc = kvs_fail(s->k, err);
	return rc ? rc : records_end(s);
}

static int put_end(struct sender *s)
{
	struct stream_end e = { .records = htole64(s->records), .outline = htole32(s->at.outline) };

	if (!sending(s))
		return other_frames(s);
	e.sum = htole64(XXH3_64bits_digest(s->sum));
	s->at.frames++;
	return put_frame(s, FRAME_END, &e, sizeof(e));
}

/* ---- which states ---------------------------------------------------------------------------- */

static int unfinished(struct kvs *k, const char *name)
{
	return kvs_say(k, EXIT_USAGE, "'%s' is a part of a state; 'kvs receive' finishes it", name);
}

static int no_snapshot(struct kvs *k, const char *name)
{
	return kvs_say(k, EXIT_NO, "no snapshot '%s'; 'kvs snap %s' lists them", name, k->image);
}

static int choose_by_name(struct kvs *k, const struct known_list *l, const struct known **to,
			  const struct known **from)
{
	*to = known_by_name(l, k->snap);
	if (!*to)
		return no_snapshot(k, k->snap);
	*from = k->base ? known_by_name(l, k->base) : NULL;
	if (k->base && !*from)
		return no_snapshot(k, k->base);
	if ((*to)->partial || (*from && (*from)->partial))
		return unfinished(k, (*to)->partial ? k->snap : k->base);
	if (*from && (*from)->info.generation >= (*to)->info.generation)
		return kvs_say(k, EXIT_USAGE, "the base '%s' is not older than '%s'", k->base, k->snap);
	return EXIT_OK;
}

static int choose_by_token(struct kvs *k, const struct known_list *l, struct token *t,
			   const struct known **to, const struct known **from)
{
	size_t i;

	if (!token_parse(k->resume, t))
		return kvs_complain(EXIT_USAGE, "--resume '%s': not a token of 'kvs receive'", k->resume);
	*to = known_by_id(l, &t->state);
	*from = NULL;
	for (i = 0; i < l->nr && t->base_mark; i++)
		if (!l->known[i].partial && base_mark(&l->known[i].id) == t->base_mark)
			*from = &l->known[i];
	if (!*to || (t->base_mark && !*from))
		return kvs_say(k, EXIT_NO, "the snapshot%s of that token is not here; 'kvs snap %s' lists "
			       "them", *to ? " that is the base" : "", k->image);
	return EXIT_OK;
}

static void head_fill(struct stream_head *h, const kv_stat_info *st, const struct known *to,
		      const struct known *from, uint64_t part)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->guard, STREAM_GUARD, sizeof(h->guard));
	h->version = STREAM_VERSION;
	h->state = to->id;
	h->lsn = to->info.lsn;
	h->created = to->info.created;
	h->part = part;
	h->block_bytes = st->block_bytes;
	h->segment_bytes = st->segment_bytes;
	h->frame_bytes = st->frame_bytes;
	h->key_max = st->key_max;
	memcpy(h->label, st->label, sizeof(st->label));
	memcpy(h->name, to->info.name, sizeof(h->name));
	if (from) {
		h->base = from->id;
		memcpy(h->base_name, from->info.name, sizeof(h->base_name));
	}
}

/* The states are open. */
static int send_states(struct sender *s)
{
	int rc = EXIT_OK;

	s->sum = XXH3_createState();
	if (!s->sum)
		return kvs_no_memory();
	XXH3_64bits_reset(s->sum);
	if (s->head.part)
		s->skip = part_extent(s->head.part);
	if (!s->skip.frames)
		rc = put_head(s);
	if (!rc)
		rc = trees_each(s->k, s->from, s->to, send_tree, s);
	if (!rc)
		rc = put_end(s);
	XXH3_freeState(s->sum);
	bytes_free(&s->payload);
	return rc;
}

static int send_snapshot(struct kvs *k)
{
	const struct known *to = NULL, *from = NULL;
	struct sender s = { .k = k };
	struct token t = { 0 };
	struct known_list l;
	kv_stat_info st;
	int rc = known_load(k, &l), err;

	if (!rc)
		rc = k->resume ? choose_by_token(k, &l, &t, &to, &from) : choose_by_name(k, &l, &to, &from);
	if (!rc) {
		err = kv_stat(k->db, &st);
		rc = err ? kvs_fail(k, err) : EXIT_OK;
	}
	if (!rc)
		rc = kvs_snapshot(k, to->info.name, &s.to);
	if (!rc && from)
		rc = kvs_snapshot(k, from->info.name, &s.from);
	if (!rc) {
		head_fill(&s.head, &st, to, from, t.part);
		rc = send_states(&s);
	}
	kv_read_end(s.from);
	kv_read_end(s.to);
	known_free(&l);
	return rc;
}

int cmd_send(struct kvs *k)
{
	int rc;

	if (!k->snap == !k->resume || (k->base && !k->snap))
		return kvs_complain(EXIT_USAGE, "one of --snap NAME (with --base NAME) and --resume TOKEN is "
				    "needed; see 'kvs send --help'");
	if (isatty(STDOUT_FILENO))
		return kvs_complain(EXIT_USAGE,
				    "standard output is a terminal; send to a file or to 'kvs receive'");
	kvs_catch_signals();
	rc = kvs_open(k, 0);
	return rc ? rc : kvs_finish(k, send_snapshot(k));
}
