/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_receive.c - kvs receive: make a volume what a stream of 'kvs send' says, and keep that as a snapshot.
 *
 * Invariants
 * - A frame is applied only when its checksum and its number are right.
 * - The snapshot of the stream's name is made when the end was there and the sums of the whole are right.
 * - From before the first change until then there are snapshots that say how far it has come, the first of
 *   them the state before: nobody takes the volume for a base meanwhile, and it can be gone on with or taken
 *   back.
 * - Every change sets a key to what it has to be: beginning anew over what was applied is right.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"

#define KEEP_BYTES (64u << 20) /* after so many bytes of the stream it is noted how far it has come */

struct receiver {
	struct kvs *k;
	struct input in;
	struct stream_head head;
	struct frame_head frame;
	uint8_t *payload;
	struct extent at;   /* applied */
	struct extent safe; /* and not in the middle of a value */
	uint64_t left;	    /* bytes of the value at hand that are missing */
	uint64_t records, kept_bytes;
	XXH3_state_t *sum;
	uint64_t sum_before; /* of all before the frame at hand */
	struct applier a;
	bool marked; /* there is a snapshot that says that it has begun */
	bool ended;
};

/* ---- the stream ------------------------------------------------------------------------------ */

static int bad(struct receiver *r, const char *what)
{
	if (r->in.error < 0)
		return EXIT_INTERRUPT;
	if (r->in.error)
		return kvs_complain(EXIT_SYSTEM, "%s: %s", r->in.name, strerror(r->in.error));
	return kvs_say(r->k, EXIT_USAGE, "frame %" PRIu64 " of the stream: %s; what it says is not believed",
		       r->at.frames + 1, what);
}

static int cut(struct receiver *r)
{
	if (r->in.error)
		return bad(r, "");
	return kvs_say(r->k, EXIT_USAGE, "the stream is cut behind frame %" PRIu64, r->at.frames);
}

static bool take(struct receiver *r, void *to, size_t n)
{
	uint8_t *p = to;
	size_t part;

	while (n && input_fill(&r->in)) {
		part = r->in.len - r->in.pos;
		part = part < n ? part : n;
		memcpy(p, r->in.buf + r->in.pos, part);
		r->in.pos += part;
		p += part;
		n -= part;
	}
	return !n;
}

#define ANY_NUMBER UINT64_MAX

/* The next frame, checked: its type, and bytes of payload. */
static int frame_take(struct receiver *r, uint64_t number, uint32_t *type, size_t *n)
{
	struct frame_head *h = &r->frame;

	r->sum_before = XXH3_64bits_digest(r->sum);
	if (!take(r, h, sizeof(*h)))
		return cut(r);
	*n = le32toh(h->length);
	*type = le32toh(h->type);
	if (memcmp(h->magic, FRAME_MAGIC, sizeof(h->magic)) || *n > FRAME_MAX)
		return bad(r, "no frame begins here");
	if (!take(r, r->payload, *n))
		return cut(r);
	if (!frame_fits(h, r->payload))
		return bad(r, "its checksum is wrong");
	if (le64toh(h->number) != number && number != ANY_NUMBER)
		return bad(r, "it is another one");
	XXH3_64bits_update(r->sum, h, sizeof(*h));
	XXH3_64bits_update(r->sum, r->payload, *n);
	return EXIT_OK;
}

static int not_a_stream(struct receiver *r)
{
	return kvs_say(r->k, EXIT_USAGE, "%s is not a stream of 'kvs send'; 'kvs load' reads dumps",
		       r->in.name);
}

static bool text_fits(const uint8_t *text, size_t room)
{
	return memchr(text, 0, room);
}

static int head_take(struct receiver *r)
{
	struct stream_head *h = &r->head;
	uint32_t type;
	size_t n;
	int rc;

	if (!input_begins(&r->in, FRAME_MAGIC))
		return r->in.error ? bad(r, "") : not_a_stream(r);
	rc = frame_take(r, ANY_NUMBER, &type, &n);
	if (rc)
		return rc;
	r->at.frames = le64toh(r->frame.number);
	if (type != FRAME_HEAD || n < offsetof(struct stream_head, state))
		return not_a_stream(r);
	memset(h, 0, sizeof(*h));
	memcpy(h, r->payload, n < sizeof(*h) ? n : sizeof(*h));
	stream_head_swap(h);
	if (h->version != STREAM_VERSION)
		return kvs_say(r->k, EXIT_NOTVOLUME, "the stream has version %" PRIu32 ", this program "
			       "knows version %u; use a newer kvs", h->version, STREAM_VERSION);
	r->at.outline = h->part ? part_extent(h->part).outline : 0;
	if (n != sizeof(*h) || memcmp(h->guard, STREAM_GUARD, sizeof(h->guard)) || !h->state.generation ||
	    !h->name[0] ||
	    !text_fits(h->name, sizeof(h->name)) || !text_fits(h->base_name, sizeof(h->base_name)) ||
	    !text_fits(h->label, sizeof(r->k->opt.label)) ||
	    r->at.frames != (h->part ? part_extent(h->part).frames : 0))
		return bad(r, "its head makes no sense");
	r->safe = r->at;
	return EXIT_OK;
}

/* ---- how far it has come --------------------------------------------------------------------- */

static void partial_name(const struct receiver *r, uint64_t frames, char *name, size_t room)
{
	snprintf(name, room, PARTIAL_PREFIX "%016" PRIx64 "-%08" PRIx64, base_mark(&r->head.base), frames);
}

static bool partial_of(const struct receiver *r, const struct known *s)
{
	char name[72];

	partial_name(r, part_extent(s->info.origin.part).frames, name, sizeof(name));
	return s->partial && state_same(&s->id, &r->head.state) && !strcmp(name, s->info.name);
}

/* Notes that all up to r->safe is in the volume, durably; of older notes only the first stays. Exit code. */
static int keep(struct receiver *r)
{
	kv_origin o = { .generation = r->head.state.generation, .part = extent_part(&r->safe) };
	struct known_list l;
	const struct known *s;
	char name[72];
	int err, rc;
	size_t i;

	partial_name(r, r->safe.frames, name, sizeof(name));
	memcpy(o.uuid, r->head.state.uuid, sizeof(o.uuid));
	err = apply_flush(&r->a);
	if (!err)
		err = kv_snapshot_create_of(r->k->db, name, &o);
	if (err && err != KV_E_EXISTS)
		return kvs_fail(r->k, err);
	r->marked = true;
	r->kept_bytes = r->in.bytes;
	rc = known_load(r->k, &l);
	s = rc ? NULL : known_by_name(&l, name);
	if (s && !partial_of(r, s))
		rc = kvs_say(r->k, EXIT_NO, "'%s' is a name that receiving needs; delete that snapshot",
			     name);
	for (i = 0, err = 0; i < l.nr && !rc && !err; i++)
		if (partial_of(r, &l.known[i]) && l.known[i].info.origin.part != 1 &&
		    strcmp(l.known[i].info.name, name))
			err = kv_snapshot_delete(r->k->db, l.known[i].info.name);
	known_free(&l);
	return rc ? rc : err ? kvs_fail(r->k, err) : EXIT_OK;
}

/* All notes, or those that a death left of what is here whole. */
static int partials_drop(struct kvs *k, bool all)
{
	struct known_list l;
	int err = 0, rc = known_load(k, &l);
	size_t i;

	for (i = 0; i < l.nr && !rc && !err; i++)
		if (l.known[i].partial && (all || known_by_id(&l, &l.known[i].id)))
			err = kv_snapshot_delete(k->db, l.known[i].info.name);
	known_free(&l);
	return rc ? rc : err ? kvs_fail(k, err) : EXIT_OK;
}

static void token_print(const struct receiver *r)
{
	struct token t = { .state = r->head.state, .base_mark = base_mark(&r->head.base),
			   .part = extent_part(&r->safe) };
	char text[TOKEN_TEXT];

	token_text(&t, text);
	out_text(text);
	out_line();
	kvs_say(r->k, 0, "what came before is kept; 'kvs send --resume' with the token on standard output "
		"goes on, 'kvs receive %s --abort' takes it back", r->k->image);
}

/* ---- frames into the volume ------------------------------------------------------------------ */

static int applied(struct receiver *r, int err)
{
	return err ? kvs_fail(r->k, err) : EXIT_OK;
}

static int tree_frame(struct receiver *r, const uint8_t *p, size_t n)
{
	char name[65];

	if (n < 2 || n > sizeof(name) || (p[0] != TREE_USE && p[0] != TREE_DROP) || memchr(p + 1, 0, n - 1))
		return bad(r, "the name of a tree makes no sense");
	memcpy(name, p + 1, n - 1);
	name[n - 1] = '\0';
	/* on the way to the sums: one call for each part, as when it was sent */
	r->at.outline = outline_add(r->at.outline, p, 1);
	r->at.outline = outline_add(r->at.outline, p + 1, n - 1);
	return applied(r, p[0] == TREE_DROP ? apply_drop(&r->a, name) : apply_tree(&r->a, name));
}

static int records_frame(struct receiver *r, const uint8_t *p, size_t n)
{
	struct record_head h;
	uint32_t op, key, value;
	int rc = EXIT_OK;

	for (; n && !rc; n -= sizeof(h) + key + value) {
		if (n < sizeof(h))
			return bad(r, "a record is cut");
		memcpy(&h, p, sizeof(h));
		op = le32toh(h.op);
		key = le32toh(h.key_len);
		value = le32toh(h.value_len);
		if (key > n - sizeof(h) || value > n - sizeof(h) - key ||
		    (op != RECORD_PUT && op != RECORD_DEL))
			return bad(r, "a record makes no sense");
		r->at.outline = outline_add(r->at.outline, p, sizeof(h));
		p += sizeof(h);
		r->at.outline = outline_add(r->at.outline, p, key);
		rc = applied(r, op == RECORD_DEL ? apply_del(&r->a, p, key) :
						   apply_put(&r->a, p, key, p + key, value));
		p += (size_t)key + value;
		r->records++;
	}
	return rc;
}

static int value_frame(struct receiver *r, const uint8_t *p, size_t n)
{
	uint64_t len;

	if (n < sizeof(len))
		return bad(r, "a value makes no sense");
	memcpy(&len, p, sizeof(len));
	r->left = le64toh(len);
	if (!r->left)
		return bad(r, "a value makes no sense");
	r->at.outline = outline_add(r->at.outline, p, sizeof(len));
	r->at.outline = outline_add(r->at.outline, p + sizeof(len), n - sizeof(len));
	r->records++;
	return applied(r, apply_value(&r->a, p + sizeof(len), n - sizeof(len)));
}

static int bytes_frame(struct receiver *r, const uint8_t *p, size_t n)
{
	uint32_t len = htole32((uint32_t)n);
	int err;

	if (n > r->left || !n)
		return bad(r, "a value is longer than it should be");
	r->at.outline = outline_add(r->at.outline, &len, sizeof(len));
	err = apply_bytes(&r->a, p, n);
	r->left -= n;
	if (!err && !r->left)
		err = apply_value_end(&r->a);
	return applied(r, err);
}

static int end_frame(struct receiver *r, const uint8_t *p, size_t n)
{
	struct stream_end e;

	if (n != sizeof(e))
		return bad(r, "the end makes no sense");
	memcpy(&e, p, sizeof(e));
	if (e.reserved || le64toh(e.sum) != r->sum_before || le32toh(e.outline) != r->at.outline ||
	    (!r->head.part && le64toh(e.records) != r->records))
		return bad(r, "the sums of the whole are wrong");
	if (input_peek(&r->in) >= 0 || r->in.error)
		return bad(r, "something follows the end");
	r->ended = true;
	return EXIT_OK;
}

static int frame_apply(struct receiver *r, uint32_t type, size_t n)
{
	const uint8_t *p = r->payload;

	/* a value is followed by its bytes */
	if ((type == FRAME_BYTES) != (r->left != 0))
		return bad(r, "it is out of order");
	switch (type) {
	case FRAME_TREE:
		return tree_frame(r, p, n);
	case FRAME_RECORDS:
		return records_frame(r, p, n);
	case FRAME_VALUE:
		return value_frame(r, p, n);
	case FRAME_BYTES:
		return bytes_frame(r, p, n);
	case FRAME_END:
		return end_frame(r, p, n);
	default:
		return bad(r, "it is of no known type");
	}
}

static int frames_apply(struct receiver *r)
{
	uint32_t type;
	size_t n;
	int rc = EXIT_OK;

	while (!rc && !r->ended) {
		rc = frame_take(r, r->at.frames + 1, &type, &n);
		if (!rc)
			rc = frame_apply(r, type, n);
		if (rc)
			break;
		r->at.frames++;
		if (r->left || r->ended)
			continue;
		r->safe = r->at;
		if (r->in.bytes - r->kept_bytes >= KEEP_BYTES)
			rc = keep(r);
	}
	return rc;
}

/* ---- does it fit? ---------------------------------------------------------------------------- */

static const char *id_text(const struct state_id *id, char *text)
{
	size_t i;

	for (i = 0; i < sizeof(id->uuid); i++)
		sprintf(text + 2 * i, "%02x", id->uuid[i]);
	sprintf(text + 2 * i, ":%" PRIu64, id->generation);
	return text;
}

static int base_missing(struct receiver *r, const struct known_list *l)
{
	char want[64], have[64];
	const struct known *last = NULL;
	size_t i;

	for (i = 0; i < l->nr; i++)
		if (!l->known[i].partial)
			last = &l->known[i];
	return kvs_say(r->k, EXIT_NO, "the stream goes on from '%s' (%s), which is not here; the newest "
		       "snapshot here is %s%s%s (%s)", (char *)r->head.base_name,
		       id_text(&r->head.base, want), last ? "'" : "none", last ? last->info.name : "",
		       last ? "'" : "",
		       last ? id_text(&last->id, have) : "-");
}

static int partial_other(struct receiver *r, const struct known *s)
{
	char have[64];

	return kvs_say(r->k, EXIT_NO, "another stream (state %s) is not received to its end; finish it, or "
		       "take it back with 'kvs receive %s --abort'", id_text(&s->id, have), r->k->image);
}

/* The volume is what the stream goes on from: its base, or nothing at all. */
static int base_fits(struct receiver *r, const struct known *base)
{
	kv_read *from = NULL, *now = NULL;
	bool differ = false;
	int rc = base ? kvs_snapshot(r->k, base->info.name, &from) : EXIT_OK, err;

	if (!rc) {
		err = kv_read_begin(r->k->db, &now);
		rc = err ? kvs_fail(r->k, err) : states_differ(r->k, from, now, &differ);
	}
	kv_read_end(from);
	kv_read_end(now);
	if (!rc && differ && base)
		rc = kvs_say(r->k, EXIT_NO, "the volume has changed since its snapshot '%s'; 'kvs diff %s' "
			     "with that name tells how, 'kvs snap %s rollback' with it goes back there",
			     base->info.name, r->k->image, r->k->image);
	else if (!rc && differ)
		rc = kvs_say(r->k, EXIT_NO, "the stream has a whole volume, and this one is not empty; "
			     "receive into a new one");
	return rc;
}

/* Of a receive that has begun: does this stream go on with it? *here: it has begun. */
static int partial_fits(struct receiver *r, const struct known_list *l, bool *here)
{
	const struct known *best = NULL;
	struct extent e;
	size_t i;

	*here = false;
	for (i = 0; i < l->nr; i++) {
		if (!l->known[i].partial)
			continue;
		if (!partial_of(r, &l->known[i]))
			return partial_other(r, &l->known[i]);
		if (!best || l->known[i].info.origin.part > best->info.origin.part)
			best = &l->known[i];
	}
	*here = best;
	if (!r->head.part || (best && best->info.origin.part == r->head.part))
		return EXIT_OK;
	if (!best)
		return kvs_say(r->k, EXIT_NO, "the stream goes on from its frame %" PRIu64 ", and nothing of "
			       "it is here; send all of it", r->at.frames);
	e = part_extent(best->info.origin.part);
	return kvs_say(r->k, EXIT_NO, "the stream goes on from its frame %" PRIu64 ", but here it has come "
		       "to %" PRIu64 "; 'kvs receive %s --token' prints the token for that", r->at.frames,
		       e.frames, r->k->image);
}

static int fits(struct receiver *r)
{
	const struct known *base = NULL, *s;
	struct known_list l;
	kv_stat_info st;
	bool begun = false;
	int rc = partials_drop(r->k, false);

	if (rc)
		return rc;
	rc = known_load(r->k, &l);
	if (!rc && (s = known_by_id(&l, &r->head.state)))
		rc = kvs_say(r->k, EXIT_NO, "the state is here already, as snapshot '%s'", s->info.name);
	if (!rc && known_by_name(&l, (char *)r->head.name))
		rc = kvs_say(r->k, EXIT_NO, "there is another snapshot '%s'; 'kvs snap %s delete' with that "
			     "name deletes it", (char *)r->head.name, r->k->image);
	if (!rc && r->head.base.generation && !(base = known_by_id(&l, &r->head.base)))
		rc = base_missing(r, &l);
	if (!rc && !kv_stat(r->k->db, &st) && st.key_max < r->head.key_max)
		rc = kvs_say(r->k, EXIT_USAGE, "keys there may have %" PRIu32 " bytes, here %" PRIu32 "; "
			     "receive into a volume made with --frame %" PRIu32, r->head.key_max, st.key_max,
			     r->head.frame_bytes);
	if (!rc)
		rc = partial_fits(r, &l, &begun);
	if (!rc && !begun)
		rc = base_fits(r, base);
	r->marked = begun;
	known_free(&l);
	return rc;
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* All is there and right. Exit code. */
static int finish(struct receiver *r)
{
	kv_origin o = { .generation = r->head.state.generation };
	int err = apply_flush(&r->a);

	memcpy(o.uuid, r->head.state.uuid, sizeof(o.uuid));
	if (!err)
		err = kv_snapshot_create_of(r->k->db, (char *)r->head.name, &o);
	return err ? kvs_fail(r->k, err) : partials_drop(r->k, true);
}

static int receive_open(struct receiver *r)
{
	int err = apply_begin(&r->a, r->k), rc = EXIT_OK;

	if (err)
		return kvs_fail(r->k, err);
	/* before the first change; a stream from its beginning is noted as that */
	if (!r->marked || !r->head.part)
		rc = keep(r);
	if (!rc)
		rc = frames_apply(r);
	if (!rc)
		return finish(r);
	/* after an error of the volume there may be no way to note it */
	if (r->marked && (rc == EXIT_USAGE || rc == EXIT_INTERRUPT || r->in.error) && !keep(r))
		token_print(r);
	return rc;
}

static int receive(struct receiver *r)
{
	struct kvs *k = r->k;
	int rc = head_take(r);

	if (rc)
		return rc;
	/* of a new one */
	k->opt.block_bytes = r->head.block_bytes;
	k->opt.segment_bytes = r->head.segment_bytes;
	k->opt.frame_bytes = r->head.frame_bytes;
	memcpy(k->opt.label, r->head.label, sizeof(k->opt.label));
	rc = kvs_open(k, KVS_WRITE | (r->head.base.generation || r->head.part ? 0 : KVS_CREATE));
	if (rc)
		return rc;
	rc = fits(r);
	if (!rc)
		rc = receive_open(r);
	apply_end(&r->a);
	return kvs_finish(k, rc);
}

static int receive_input(struct kvs *k)
{
	struct receiver r = { .k = k };
	int rc = input_open(&r.in, k, k->args_nr ? k->args[0] : "-");

	r.in.progress.verb = "receive";
	r.payload = malloc(FRAME_MAX);
	r.sum = XXH3_createState();
	if (!rc && (!r.payload || !r.sum))
		rc = kvs_no_memory();
	if (!rc && isatty(r.in.fd))
		rc = kvs_complain(EXIT_USAGE, "standard input is a terminal; 'kvs send' makes a stream");
	if (!rc) {
		XXH3_64bits_reset(r.sum);
		rc = receive(&r);
	}
	XXH3_freeState(r.sum);
	free(r.payload);
	input_close(&r.in);
	return rc;
}

/* The token of a receive that has begun, or the way back from it. */
static int unfinished(struct kvs *k, bool abort)
{
	const struct known *first = NULL, *last = NULL;
	struct token t = { 0 };
	struct known_list l;
	char text[TOKEN_TEXT];
	kv_read *to = NULL;
	int rc = known_load(k, &l);
	size_t i;

	for (i = 0; i < l.nr; i++) {
		const struct known *s = &l.known[i];

		if (!s->partial || known_by_id(&l, &s->id))
			continue;
		if (!last || s->info.origin.part > last->info.origin.part)
			last = s;
		if (!first || s->info.origin.part < first->info.origin.part)
			first = s;
	}
	if (!rc && !last)
		rc = kvs_say(k, EXIT_NO, "no receive is unfinished here");
	if (!rc && !abort) {
		t.state = last->id;
		t.part = last->info.origin.part;
		sscanf(last->info.name, PARTIAL_PREFIX "%" SCNx64, &t.base_mark);
		token_text(&t, text);
		out_text(text);
		out_line();
	} else if (!rc) {
		rc = kvs_snapshot(k, first->info.name, &to);
		if (!rc)
			rc = apply_state(k, to);
		kv_read_end(to);
		if (!rc)
			rc = partials_drop(k, true);
	}
	known_free(&l);
	return rc;
}

int cmd_receive(struct kvs *k)
{
	bool abort = kvs_given(k, OPT_BIT(ABORT)), token = kvs_given(k, OPT_BIT(TOKEN));
	int rc;

	if (abort + token + k->args_nr > 1)
		return kvs_complain(EXIT_USAGE, "one of FILE, --abort and --token; see 'kvs receive --help'");
	kvs_catch_signals();
	if (!abort && !token)
		return receive_input(k);
	rc = kvs_open(k, abort ? KVS_WRITE : 0);
	return rc ? rc : kvs_finish(k, unfinished(k, abort));
}
