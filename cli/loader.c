/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loader.c - entries into the volume, in input order: short ones in kill-safe batches, a long one
 * alone, and one beyond piece_bytes as a stream, after the batch before it was committed.
 *
 * Invariants
 * - What is committed is always a prefix of the input: nothing is committed past an entry that is
 * not.
 * - An entry is committed only when it was read to its end.
 * - Memory: one batch and one value of at most piece_bytes each, whatever the input.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

#define BATCH_ENTRIES 1000
/* A guess at what the engine keeps per operation besides key and value. */
#define ENTRY_COST 64

struct loader_tree {
	char name[65];
	kv_tree *tree;
};

int loader_init(struct loader *l, struct kvs *k, struct input *in)
{
	kv_stat_info st;
	int err;

	memset(l, 0, sizeof(*l));
	l->k = k;
	l->in = in;
	in->entries = &l->entries;
	l->piece_bytes = kvs_piece_bytes(k);
	err = k->ops->stat(k->db, &st);
	if (!err) {
		l->key_max = st.key_max;
		/* what a batch takes: a value of one chunk */
		l->value_max = st.chunk_bytes;
		err = k->ops->batch_new(k->db, &l->batch);
	}
	return err ? kvs_fail(k, err) : EXIT_OK;
}

/* An engine error about the entry at hand. */
static int fail_here(struct loader *l, int err)
{
	char place[96];

	progress_end(&l->in->progress);
	snprintf(place, sizeof(place), "line %" PRIu64 " of the input", l->in->line);
	return kvs_fail_at(l->k, err, place);
}

/* Commits the batch. The line at hand is complete or not yet part of it. */
static int flush_batch(struct loader *l)
{
	int err;

	if (!l->k->ops->batch_count(l->batch))
		return EXIT_OK;
	err = l->k->ops->batch_commit(l->batch, 0);
	if (err) {
		l->k->ops->batch_clear(l->batch);
		l->batch_bytes = 0;
		return fail_here(l, err);
	}
	l->batch_bytes = 0;
	l->kept = l->entries;
	l->kept_line = l->last_line;
	return EXIT_OK;
}

void loader_begin(struct loader *l)
{
	l->tree = l->k->tree;
	l->key.n = 0;
	l->value.n = 0;
	l->tree_done = false;
	l->key_done = false;
	l->value_done = false;
}

/* ---- trees --------------------------------------------------------------------------------- */

/* Position of name, or where it belongs. */
static size_t tree_place(const struct loader *l, const char *name, bool *found)
{
	size_t low = 0, high = l->trees_nr;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(name, l->trees[mid].name);

		if (!c) {
			*found = true;
			return mid;
		}
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

int loader_tree_set(struct loader *l, const char *name)
{
	struct loader_tree *trees;
	bool found;
	size_t at = tree_place(l, name, &found);
	int err;

	if (l->writer)
		return input_bad(l->in,
				 "the value is too long to wait for its tree; put \"tree\" before "
				 "\"value\"");
	l->tree_done = true;
	if (found) {
		l->tree = l->trees[at].tree;
		return EXIT_OK;
	}
	trees = reallocarray(l->trees, l->trees_nr + 1, sizeof(*trees));
	if (!trees)
		return kvs_no_memory();
	l->trees = trees;
	err = l->k->ops->tree_open(l->k->db, name, KV_TREE_CREATE, &l->tree);
	if (err)
		return fail_here(l, err);
	memmove(trees + at + 1, trees + at, (l->trees_nr - at) * sizeof(*trees));
	snprintf(trees[at].name, sizeof(trees[at].name), "%s", name);
	trees[at].tree = l->tree;
	l->trees_nr++;
	return EXIT_OK;
}

/* ---- entries ------------------------------------------------------------------------------- */

int loader_key_add(struct loader *l, const uint8_t *p, size_t n)
{
	if (l->key.n + n > l->key_max)
		return input_bad(l->in,
				 "the key is longer than %" PRIu32 " bytes, the limit of this "
				 "volume ('kvs create --frame' sets it)",
				 l->key_max);
	return bytes_add(&l->key, p, n) ? EXIT_OK : kvs_no_memory();
}

static int begin_stream(struct loader *l)
{
	int err, rc;

	if (!l->key_done)
		return input_bad(l->in,
				 "the value is too long to wait for its key; put \"key\" before "
				 "\"value\"");
	if (!l->key.n)
		return input_bad(l->in, "the key is empty; a key has 1 byte or more");
	rc = flush_batch(l);
	if (rc)
		return rc;
	err = l->k->ops->writer_open(l->k->db, l->tree, l->key.p, l->key.n, &l->writer);
	return err ? fail_here(l, err) : EXIT_OK;
}

/* What has gathered goes to the stream: parsers deliver escapes byte by byte. */
static int write_gathered(struct loader *l)
{
	int err = l->k->ops->writer_write(l->writer, l->value.p, l->value.n);

	l->value.n = 0;
	return err ? fail_here(l, err) : EXIT_OK;
}

int loader_value_add(struct loader *l, const uint8_t *p, size_t n)
{
	while (n) {
		size_t room = l->piece_bytes - l->value.n, now = n < room ? n : room;
		int rc = EXIT_OK;

		if (!room) {
			if (!l->writer)
				rc = begin_stream(l);
			if (!rc)
				rc = write_gathered(l);
		} else if (!bytes_add(&l->value, p, now)) {
			rc = kvs_no_memory();
		}
		if (rc)
			return rc;
		if (room) {
			p += now;
			n -= now;
		}
	}
	return EXIT_OK;
}

static int stored_alone(struct loader *l)
{
	l->entries++;
	l->kept = l->entries;
	l->last_line = l->in->line;
	l->kept_line = l->in->line;
	return EXIT_OK;
}

static int end_stream(struct loader *l)
{
	int err, rc = write_gathered(l);

	if (rc)
		return rc;
	err = l->k->ops->writer_commit(l->writer, 0);
	l->writer = NULL;
	if (err)
		return fail_here(l, err);
	return stored_alone(l);
}

/* Too long for a batch, short enough to be here. */
static int put_alone(struct loader *l)
{
	int err, rc = flush_batch(l);

	if (rc)
		return rc;
	err = l->k->ops->put(l->k->db, l->tree, l->key.p, l->key.n, l->value.p, l->value.n, 0);
	return err ? fail_here(l, err) : stored_alone(l);
}

int loader_end(struct loader *l)
{
	size_t bytes;
	int err, rc;

	if (l->writer)
		return end_stream(l);
	if (!l->key.n)
		return input_bad(l->in, "the key is empty; a key has 1 byte or more");
	if (l->value.n > l->value_max)
		return put_alone(l);
	bytes = l->key.n + l->value.n + ENTRY_COST;
	if (l->batch_bytes + bytes > l->piece_bytes || l->k->ops->batch_count(l->batch) >= BATCH_ENTRIES) {
		rc = flush_batch(l);
		if (rc)
			return rc;
	}
	err = l->k->ops->batch_put(l->batch, l->tree, l->key.p, l->key.n, l->value.p, l->value.n);
	if (err)
		return fail_here(l, err);
	l->batch_bytes += bytes;
	l->entries++;
	l->last_line = l->in->line;
	return EXIT_OK;
}

int loader_finish(struct loader *l, int rc)
{
	int code = EXIT_OK;

	if (l->writer)
		l->k->ops->writer_abort(l->writer);
	l->writer = NULL;
	if (l->batch) {
		/* complete entries before a bad line, or before an interrupt, are good */
		code = flush_batch(l);
		l->k->ops->batch_free(l->batch);
	}
	rc = rc ? rc : code;
	progress_end(&l->in->progress);
	if (rc && l->kept)
		kvs_say(l->k, 0,
			"the first %" PRIu64 " entries, up to line %" PRIu64 ", are stored",
			l->kept, l->kept_line);
	else if (rc)
		kvs_say(l->k, 0, "nothing was loaded");
	bytes_free(&l->key);
	bytes_free(&l->value);
	free(l->trees);
	return rc;
}
