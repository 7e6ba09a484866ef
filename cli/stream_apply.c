/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream_apply.c - changes into the volume, in their order: short ones in batches, long values as streams.
 * Each sets a key to what it has to be, so it does no harm to make the same changes again.
 */
#include <string.h>

#include "stream.h"

#define BATCH_ENTRIES 1000
/* A guess at what the engine keeps per operation besides key and value. */
#define ENTRY_COST 64

int apply_begin(struct applier *a, struct kvs *k)
{
	kv_stat_info st;
	int err = kv_stat(k->db, &st);

	memset(a, 0, sizeof(*a));
	a->k = k;
	a->piece_bytes = kvs_piece_bytes(k);
	if (err)
		return err;
	/* what a batch takes: a value of one chunk */
	a->chunk_bytes = st.chunk_bytes;
	return kv_batch_new(k->db, &a->batch);
}

int apply_flush(struct applier *a)
{
	int err = kv_batch_count(a->batch) ? kv_batch_commit(a->batch, 0) : 0;

	if (!err)
		a->bytes = 0;
	return err;
}

int apply_tree(struct applier *a, const char *name)
{
	return kv_tree_open(a->k->db, name, KV_TREE_CREATE, &a->tree);
}

int apply_drop(struct applier *a, const char *name)
{
	int err = apply_flush(a);

	a->tree = NULL;
	if (!err)
		err = kv_tree_drop(a->k->db, name);
	/* it went when this was done the last time */
	return err == KV_E_NOTFOUND ? 0 : err;
}

/* Room for one more. */
static int batch_room(struct applier *a, size_t bytes)
{
	int err = 0;

	if (a->bytes + bytes > a->piece_bytes || kv_batch_count(a->batch) >= BATCH_ENTRIES)
		err = apply_flush(a);
	a->bytes += bytes;
	return err;
}

int apply_put(struct applier *a, const void *key, size_t key_len, const void *value, size_t value_len)
{
	int err;

	if (value_len > a->chunk_bytes) {
		err = apply_flush(a);
		return err ? err : kv_put(a->k->db, a->tree, key, key_len, value, value_len, 0);
	}
	err = batch_room(a, key_len + value_len + ENTRY_COST);
	return err ? err : kv_batch_put(a->batch, a->tree, key, key_len, value, value_len);
}

int apply_del(struct applier *a, const void *key, size_t key_len)
{
	int err = batch_room(a, key_len + ENTRY_COST);

	return err ? err : kv_batch_del(a->batch, a->tree, key, key_len);
}

int apply_value(struct applier *a, const void *key, size_t key_len)
{
	int err = apply_flush(a);

	return err ? err : kv_writer_open(a->k->db, a->tree, key, key_len, &a->writer);
}

int apply_bytes(struct applier *a, const void *p, size_t n)
{
	return kv_writer_write(a->writer, p, n);
}

int apply_value_end(struct applier *a)
{
	kv_writer *w = a->writer;

	a->writer = NULL;
	return kv_writer_commit(w, 0);
}

void apply_end(struct applier *a)
{
	if (a->writer)
		kv_writer_abort(a->writer);
	kv_batch_free(a->batch);
	memset(a, 0, sizeof(*a));
}

/* ---- to a state ---------------------------------------------------------------------------------- */

struct restore {
	struct applier a;
	kv_read *now, *to;
};

static int put_entry(struct applier *a, kv_cursor *c, const void *key, size_t key_len)
{
	static uint8_t buf[64 << 10];
	struct value v;
	kv_reader *rd;
	uint64_t len;
	size_t got;
	int err = value_open(&v, a->k, c);

	if (err || v.p || !v.len)
		return err ? err : apply_put(a, key, key_len, v.len ? v.p : "", v.len);
	err = kv_cursor_reader(c, &rd, &len);
	if (err)
		return err;
	err = apply_value(a, key, key_len);
	do {
		got = 0;
		if (!err)
			err = kv_reader_read(rd, buf, sizeof(buf), &got);
		if (!err && got)
			err = apply_bytes(a, buf, got);
	} while (!err && got);
	if (!err)
		err = apply_value_end(a);
	kv_reader_close(rd);
	return err;
}

static int restore_entry(struct restore *r, kv_diff *d)
{
	kv_cursor *now = kv_diff_from(d), *to = kv_diff_to(d);
	const void *key;
	size_t len;
	int err = kv_cursor_key(to ? to : now, &key, &len);

	if (err)
		return err;
	return to ? put_entry(&r->a, to, key, len) : apply_del(&r->a, key, len);
}

static int restore_tree(void *arg, const struct tree_pair *t)
{
	struct restore *r = arg;
	kv_diff *d;
	int err;

	if (!t->to) {
		err = apply_drop(&r->a, t->name);
		return err ? kvs_fail(r->a.k, err) : EXIT_OK;
	}
	err = apply_tree(&r->a, t->name);
	if (!err)
		err = kv_diff_open(r->now, r->to, t->name, &d);
	if (err)
		return kvs_fail(r->a.k, err);
	while (!err && !(err = kv_diff_next(d)))
		err = restore_entry(r, d);
	kv_diff_close(d);
	if (err == KV_E_NOTFOUND)
		err = apply_flush(&r->a);
	return err ? kvs_fail(r->a.k, err) : EXIT_OK;
}

int apply_state(struct kvs *k, kv_read *to)
{
	struct restore r = { .to = to };
	int rc, err = kv_read_begin(k->db, &r.now);

	if (err)
		return kvs_fail(k, err);
	err = apply_begin(&r.a, k);
	rc = err ? kvs_fail(k, err) : trees_each(k, r.now, to, restore_tree, &r);
	apply_end(&r.a);
	kv_read_end(r.now);
	return rc;
}
