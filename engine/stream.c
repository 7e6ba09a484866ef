/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream.c - values as streams, and large values.
 *
 * A value beyond one chunk is an object: its chunks are entries of the hidden objects tree, written as
 * they come, under a "pending" row. Committing replaces that row by the entry in the user's tree, in one
 * transaction. Deleting leaves a "doomed" row, and the chunks go step by step. A crash in between finds
 * the row: pending objects become doomed ones at the next opening.
 */
#include "range.h"

#define DOOMED_STEP 64u
#define DOOMED_OBJECTS 16u /* in a step, at most */

struct kv_writer {
	struct kv_db *db;
	struct kv_tree *tree;
	u8 *key;
	u32 key_len;
	u8 *buf; /* one chunk */
	u32 used;
	u64 object, chunks, length;
	bool failed;
};

struct kv_reader {
	struct kv_db *db;
	struct kv_read *read; /* for objects */
	bool own_read;
	struct kve_chunks chunks; /* and where they are */
	struct kvf_object object;
	u8 *value; /* smaller values: all of it */
	u64 length, pos;
	u8 *chunk;
	u64 chunk_nr; /* + 1; 0: none in chunk */
};

void kve_object_key(u8 *buf, u8 class, u64 object, u64 chunk)
{
	buf[0] = class;
	kvf_put_be64(buf + 1, object);
	if (class == KVF_OBJECT_CHUNK)
		kvf_put_be64(buf + 9, chunk);
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct kv_writer *writer_new(struct kv_tree *t, const void *key, u32 key_len)
{
	struct kv_writer *w = kvp_alloc(sizeof(*w), KVP_ZERO);
	struct kv_db *db = t->db;

	if (w) {
		w->key = kvp_alloc(key_len, 0);
		w->buf = kvp_alloc(db->geo.chunk_bytes, 0);
	}
	if (!w || !w->key || !w->buf) {
		if (w) {
			kvp_free(w->key);
			kvp_free(w->buf);
		}
		kvp_free(w);
		return NULL;
	}
	w->db = db;
	w->tree = t;
	memcpy(w->key, key, key_len);
	w->key_len = key_len;
	kvp_add(&db->handles, 1u);
	return w;
}

int kv_writer_open(kv_db *db, kv_tree *tree, const void *key, size_t key_len, kv_writer **out)
{
	struct kv_writer *w = NULL;
	int err = kve_enter(db, true);

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err && kvp_load(&kve_tree_of(db, tree)->dropped))
		err = -KVE_no_tree;
	if (!err && !(w = writer_new(kve_tree_of(db, tree), key, (u32)key_len)))
		err = -KVE_no_memory;
	if (!err)
		*out = w;
	return kve_return(db, err);
}

static void writer_free(struct kv_writer *w)
{
	if (w->object) {
		kvp_gate_close(&w->db->writer);
		w->db->streaming--;
		kvp_gate_open(&w->db->writer);
	}
	kvp_sub(&w->db->handles, 1u);
	kvp_free(w->key);
	kvp_free(w->buf);
	kvp_free(w);
}

static int object_begin(struct kv_writer *w)
{
	struct kv_db *db = w->db;
	u8 key[KVE_OBJECT_KEY_BYTES];
	struct kve_op op = { .tree = db->objects, .kind = KVF_RECORD_PUT, .key = key,
			     .key_len = KVE_OBJECT_ROW_BYTES, .value = key };

	kvp_gate_close(&db->writer);
	w->object = db->next_object++;
	db->streaming++;
	kvp_gate_open(&db->writer);
	kve_object_key(key, KVF_OBJECT_PENDING, w->object, 0);
	return kve_commit(db, &op, 1, KV_MEMORY);
}

static int chunk_write(struct kv_writer *w)
{
	u8 key[KVE_OBJECT_KEY_BYTES];
	struct kve_op op = { .tree = w->db->objects, .kind = KVF_RECORD_EXTENT, .key = key,
			     .key_len = sizeof(key), .value = w->buf, .value_len = w->used };
	int err = w->object ? 0 : object_begin(w);

	if (!err) {
		kve_object_key(key, KVF_OBJECT_CHUNK, w->object, w->chunks);
		err = kve_commit(w->db, &op, 1, KV_MEMORY);
	}
	if (err) {
		w->failed = true;
		return err;
	}
	w->chunks++;
	w->used = 0;
	return 0;
}

int kv_writer_write(kv_writer *w, const void *data, size_t len)
{
	int err = kve_enter(w->db, true);
	size_t part;

	if (!err && w->failed)
		err = -KVE_invalid;
	while (!err && len) {
		if (w->used == w->db->geo.chunk_bytes)
			err = chunk_write(w);
		if (err)
			break;
		part = KVF_MIN(len, (size_t)(w->db->geo.chunk_bytes - w->used));
		memcpy(w->buf + w->used, data, part);
		w->used += (u32)part;
		w->length += part;
		data = (const u8 *)data + part;
		len -= part;
	}
	return kve_return(w->db, err);
}

/* only: while the key still holds that, or NULL. */
static int object_commit(struct kv_writer *w, const struct kve_entry *only, u32 flags)
{
	u8 pending[KVE_OBJECT_KEY_BYTES];
	struct kvf_object o = { .object = cpu_to_le64(w->object), .length = cpu_to_le64(w->length),
				.chunk_bytes = cpu_to_le32(w->db->geo.chunk_bytes) };
	struct kve_op ops[2] = {
		{ .tree = w->tree, .kind = KVF_RECORD_PUT, .flags = KVF_RECORD_OBJECT, .key = w->key,
		  .key_len = w->key_len, .value = &o, .value_len = sizeof(o), .only = only },
		{ .tree = w->db->objects, .kind = KVF_RECORD_DELETE, .key = pending,
		  .key_len = KVE_OBJECT_ROW_BYTES },
	};
	int err = w->used ? chunk_write(w) : 0;

	kve_object_key(pending, KVF_OBJECT_PENDING, w->object, 0);
	return err ? err : kve_commit(w->db, ops, 2, flags);
}

/* Chunks of a stream that was given up: as if the value had been deleted. */
static int object_abort(struct kv_db *db, u64 object, u64 bytes)
{
	u8 pending[KVE_OBJECT_KEY_BYTES], doomed[KVE_OBJECT_KEY_BYTES];
	struct kve_op ops[2] = {
		{ .tree = db->objects, .kind = KVF_RECORD_DELETE, .key = pending,
		  .key_len = KVE_OBJECT_ROW_BYTES },
		{ .tree = db->objects, .kind = KVF_RECORD_PUT, .key = doomed,
		  .key_len = KVE_OBJECT_ROW_BYTES, .value = doomed },
	};
	int err;

	kve_object_key(pending, KVF_OBJECT_PENDING, object, 0);
	kve_object_key(doomed, KVF_OBJECT_DOOMED, object, 0);
	err = kve_commit(db, ops, 2, KV_MEMORY);
	if (!err)
		kve_doom(db, bytes);
	return err;
}

int kv_writer_commit(kv_writer *w, uint32_t flags)
{
	struct kv_db *db = w->db;
	struct kve_op op = { .tree = w->tree, .kind = KVF_RECORD_PUT, .key = w->key,
			     .key_len = w->key_len, .value = w->buf, .value_len = w->used };
	int err = kve_enter(db, true);

	if (!err && w->failed)
		err = -KVE_invalid;
	if (!err)
		err = kve_flags_check(db, flags, KV_PUT_NEW | KV_PUT_REPLACE);
	if (!err)
		err = w->object ? object_commit(w, NULL, flags) : kve_commit(db, &op, 1, flags);
	if (err && w->object && !kvp_load(&db->degraded))
		object_abort(db, w->object, w->length);
	writer_free(w);
	kvp_count_add(&db->puts, 1);
	return kve_return(db, err);
}

void kv_writer_abort(kv_writer *w)
{
	if (w->object && !kve_enter(w->db, true))
		object_abort(w->db, w->object, w->length);
	writer_free(w);
}

int kve_object_copy(struct kv_tree *t, const void *key, u32 key_len, const struct kve_entry *e)
{
	struct kv_writer *w = writer_new(t, key, key_len);
	struct kv_db *db = t->db;
	int err = 0;

	if (!w)
		return -KVE_no_memory;
	do {
		if (kvp_load(&t->dropped))
			err = -KVE_no_tree;
		w->used = (u32)KVF_MIN((u64)db->geo.chunk_bytes, e->value_len - w->length);
		if (!err)
			err = kve_object_read(t, KVE_LIVE, &e->object, w->length, w->buf, w->used);
		if (err == -KVE_restart)
			err = kve_object_missing(db, &e->object);
		w->length += w->used;
		if (!err)
			err = chunk_write(w);
	} while (!err && w->length < e->value_len);
	if (!err)
		err = object_commit(w, e, KV_MEMORY);
	if (err && w->object && !kvp_load(&db->degraded))
		object_abort(db, w->object, w->length);
	writer_free(w);
	return err;
}

/* ---- deleting in steps -------------------------------------------------------------------------- */

struct collect {
	struct kv_db *db;
	u8 *keys; /* DOOMED_STEP of key_max bytes */
	u32 len[DOOMED_STEP];
	u32 nr, most;
	u64 bytes; /* of their values */
	u8 class;
	u64 object;
	bool any; /* every key */
};

static void collect_add(struct collect *c, const u8 *key, u32 key_len)
{
	memcpy(c->keys + (size_t)c->nr * c->db->geo.key_max, key, key_len);
	c->len[c->nr++] = key_len;
}

static int collect_key(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct collect *c = arg;
	struct kve_entry e;
	const u8 *value;

	if (!c->any && (key[0] != c->class || (c->object && kvf_get_be64(key + 1) != c->object)))
		return -KVE_end;
	kve_entry_decode(&e, flags, cell, cell_len, &value);
	c->bytes += e.value_len;
	collect_add(c, key, key_len);
	return c->nr == c->most ? -KVE_end : 0;
}

/* Those from this key on, to those that are there. */
static int collect_run(struct collect *c, struct kv_tree *t, const u8 *from, u32 len)
{
	u8 *page = kvp_iobuf_alloc(c->db->geo.frame);
	int err;

	if (!page)
		return -KVE_no_memory;
	err = kve_tree_each(t, KVE_LIVE, from, len, page, collect_key, c);
	kvp_iobuf_free(page, c->db->geo.frame);
	return err == -KVE_end ? 0 : err;
}

static int delete_collected(struct collect *c, struct kv_tree *t)
{
	struct kve_op *ops = kvp_alloc_array(DOOMED_STEP, sizeof(*ops), KVP_ZERO);
	u32 i;
	int err;

	if (!ops)
		return -KVE_no_memory;
	for (i = 0; i < c->nr; i++) {
		ops[i].tree = t;
		ops[i].kind = KVF_RECORD_DELETE;
		ops[i].key = c->keys + (size_t)i * c->db->geo.key_max;
		ops[i].key_len = c->len[i];
	}
	err = kve_commit(c->db, ops, c->nr, KV_MEMORY);
	kvp_free(ops);
	return err;
}

/* Ids of the first doomed objects. */
static int objects_doomed(struct collect *c, u64 *object, u32 *nr)
{
	u8 first = KVF_OBJECT_DOOMED;
	int err;

	c->class = KVF_OBJECT_DOOMED;
	c->object = 0;
	c->most = DOOMED_OBJECTS;
	err = collect_run(c, c->db->objects, &first, 1);
	for (*nr = 0; *nr < c->nr; ++*nr)
		object[*nr] = kvf_get_be64(c->keys + (size_t)*nr * c->db->geo.key_max + 1);
	c->nr = 0;
	return err;
}

/* Less waits; all: nothing, whatever was counted. */
static void undoom(struct kv_db *db, u64 bytes, bool all)
{
	struct kve_space *sp = &db->space;

	kvp_mutex_lock(&sp->lock);
	kvp_store(&sp->doomed_bytes, all ? 0 : sp->doomed_bytes - KVF_MIN(bytes, sp->doomed_bytes));
	db->spare.objects = all ? 0 : db->spare.objects - KVF_MIN(bytes, db->spare.objects);
	kvp_mutex_unlock(&sp->lock);
}

/* Chunks of the first doomed objects, and the rows of those that have no more. */
static int objects_step(struct collect *c, bool *more)
{
	u64 object[DOOMED_OBJECTS];
	u8 key[KVE_OBJECT_KEY_BYTES];
	u32 i, nr;
	int err = objects_doomed(c, object, &nr);

	if (!err && !nr)
		undoom(c->db, 0, true);
	if (err || !nr)
		return err;
	*more = true;
	c->class = KVF_OBJECT_CHUNK;
	c->most = DOOMED_STEP;
	for (i = 0; i < nr && !err && c->nr < DOOMED_STEP; i++) {
		c->object = object[i];
		kve_object_key(key, KVF_OBJECT_CHUNK, object[i], 0);
		err = collect_run(c, c->db->objects, key, sizeof(key));
		if (err || c->nr == DOOMED_STEP)
			break;
		kve_object_key(key, KVF_OBJECT_DOOMED, object[i], 0);
		collect_add(c, key, KVE_OBJECT_ROW_BYTES);
	}
	if (!err)
		err = delete_collected(c, c->db->objects);
	if (!err)
		undoom(c->db, c->bytes, false);
	return err;
}

static int tree_step(struct collect *c, struct kv_tree *t, bool *more)
{
	int err;

	c->any = true;
	c->nr = 0;
	c->most = DOOMED_STEP;
	err = collect_run(c, t, NULL, 0);
	c->any = false;
	if (err)
		return err;
	*more = true;
	if (c->nr)
		return delete_collected(c, t);
	return kve_tree_gone(c->db, t);
}

int kve_doomed_step(struct kv_db *db, bool *more)
{
	struct collect c = { .db = db };
	struct kv_tree *t;
	int err;

	*more = false;
	c.keys = kvp_alloc_array(DOOMED_STEP, db->geo.key_max, 0);
	if (!c.keys)
		return -KVE_no_memory;
	/* Before looking: what is doomed from now on is seen, or says so again. */
	kvp_store(&db->dooming, true);
	kvp_store_release(&db->doomed, false);
	err = objects_step(&c, more);
	if (!err && !*more)
		err = kve_range_step(db, more);
	for (t = kvp_load_acquire(&db->trees); t && !err && !*more; t = t->next)
		if (kvp_load(&t->dropped) && !kvp_load(&t->gone_gen)) {
			*more = kve_is_clone(t);
			err = *more ? kve_clone_prune(db, t) : tree_step(&c, t, more);
		}
	if (err || *more)
		kvp_store(&db->doomed, true);
	kvp_store_release(&db->dooming, false);
	kvp_free(c.keys);
	return err;
}

/* Streams of a process that has died: delete what they had written. */
int kve_pending_doom(struct kv_db *db, u64 below)
{
	struct collect c = { .db = db, .class = KVF_OBJECT_PENDING, .most = 1 };
	u8 first = KVF_OBJECT_PENDING;
	int err;

	c.keys = kvp_alloc_array(DOOMED_STEP, db->geo.key_max, 0);
	if (!c.keys)
		return -KVE_no_memory;
	do {
		c.nr = 0;
		err = collect_run(&c, db->objects, &first, 1);
		if (!err && c.nr && kvf_get_be64(c.keys + 1) >= below)
			break;
		if (!err && c.nr)
			err = object_abort(db, kvf_get_be64(c.keys + 1), 0);
	} while (!err && c.nr);
	c.class = first = KVF_OBJECT_DOOMED;
	c.nr = 0;
	if (!err)
		err = collect_run(&c, db->objects, &first, 1);
	if (!err && c.nr)
		kve_doom(db, 0);
	kvp_free(c.keys);
	return err;
}

/* ---- reading --------------------------------------------------------------------------------- */

int kve_object_missing(struct kv_db *db, const struct kvf_object *o)
{
	return kve_fail(db, KVE_corrupt_value, "a chunk of large value %llu is missing; run 'kvs-fsck -n %s'",
			(u64)le64_to_cpu(o->object), db->dev->name);
}

/* -KVE_restart: it is not there; in the live state because the value has been replaced meanwhile, perhaps. */
static int chunk_read(struct kv_tree *chunks, u64 gen, const struct kvf_object *o, u64 nr, u8 *buf)
{
	struct kv_db *db = chunks->db;
	u64 length = le64_to_cpu(o->length), size = le32_to_cpu(o->chunk_bytes);
	u64 want = KVF_MIN(size, length - nr * size);
	u8 key[KVE_OBJECT_KEY_BYTES];
	struct kve_entry e;
	int err;

	kve_object_key(key, KVF_OBJECT_CHUNK, le64_to_cpu(o->object), nr);
	err = kve_tree_get(chunks, gen, key, sizeof(key), &e, buf, (size_t)want);
	if (err == -KVE_not_found)
		return gen == KVE_LIVE ? -KVE_restart : kve_object_missing(db, o);
	if (err)
		return err;
	if (e.value_len != want || (e.flags & KVF_CELL_KIND) == KVF_CELL_OBJECT)
		return kve_fail(db, KVE_corrupt_value, "chunk %llu of large value %llu: %s", nr,
				(u64)le64_to_cpu(o->object), kvf_finding_text(KVF_F_object_size));
	if (e.flags & KVF_CELL_POISON)
		return kve_fail(db, KVE_corrupt_value, "chunk %llu of large value %llu: %s", nr,
				(u64)le64_to_cpu(o->object), kvf_finding_text(KVF_F_value_poison));
	if ((e.flags & KVF_CELL_KIND) != KVF_CELL_REF)
		return 0;
	return kve_value_read(db, chunks, &e.ref, key, sizeof(key), buf);
}

int kve_object_read(struct kv_tree *t, u64 gen, const struct kvf_object *o, u64 offset, void *out,
		    size_t len)
{
	struct kv_db *db = t->db;
	struct kve_chunks chunks;
	u32 size = le32_to_cpu(o->chunk_bytes);
	u64 nr = offset / KVF_MAX(size, 1u), part, skip;
	u8 *buf;
	int err = 0;

	if (!size || size > db->geo.chunk_bytes)
		return kve_fail(db, KVE_corrupt_value, "large value %llu: %s",
				(u64)le64_to_cpu(o->object), kvf_finding_text(KVF_F_object_size));
	err = kve_chunks_get(t, o, &chunks);
	if (err)
		return err;
	buf = kvp_alloc(size, 0);
	if (!buf)
		err = -KVE_no_memory;
	for (skip = offset - nr * size; len && !err; nr++, skip = 0) {
		err = chunk_read(chunks.tree, gen, o, nr, buf);
		part = KVF_MIN((u64)len, KVF_MIN((u64)size, le64_to_cpu(o->length) - nr * size) - skip);
		if (!err)
			memcpy(out, buf + skip, (size_t)part);
		out = (u8 *)out + part;
		len -= (size_t)part;
	}
	kvp_free(buf);
	kve_chunks_put(db, &chunks);
	return err;
}

int kve_reader_entry(struct kv_db *db, struct kv_read *r, struct kv_tree *t, const void *key, u32 key_len,
		     const struct kve_entry *e, const u8 *inline_value, kv_reader **out)
{
	struct kv_reader *rd = kvp_alloc(sizeof(*rd), KVP_ZERO);
	int err = 0;

	if (!rd)
		return -KVE_no_memory;
	rd->db = db;
	kvp_add(&db->handles, 1u);
	rd->length = e->value_len;
	if ((e->flags & KVF_CELL_KIND) == KVF_CELL_OBJECT) {
		rd->object = e->object;
		rd->chunk = kvp_alloc(db->geo.chunk_bytes, 0);
		if (!rd->chunk)
			err = -KVE_no_memory;
		else if (!le32_to_cpu(e->object.chunk_bytes) ||
			 le32_to_cpu(e->object.chunk_bytes) > db->geo.chunk_bytes)
			err = kve_fail(db, KVE_corrupt_value, "large value: %s",
				       kvf_finding_text(KVF_F_object_size));
		if (!err)
			err = kve_chunks_get(t, &e->object, &rd->chunks);
		rd->read = r;
		r->uses++;
	} else {
		rd->value = kvp_alloc(KVF_MAX((size_t)e->value_len, (size_t)db->geo.item_max), 0);
		if (!rd->value)
			err = -KVE_no_memory;
		else if ((e->flags & KVF_CELL_KIND) == KVF_CELL_REF)
			err = kve_value_read(db, t, &e->ref, key, key_len, rd->value);
		else
			memcpy(rd->value, inline_value, (size_t)e->value_len);
	}
	if (err) {
		kv_reader_close(rd);
		return err;
	}
	*out = rd;
	return 0;
}

int kv_reader_open(kv_db *db, kv_read *r, kv_tree *tree, const void *key, size_t key_len, kv_reader **out,
		   uint64_t *value_len)
{
	struct kv_tree *t = kve_read_tree(db, r, tree);
	struct kv_read *own = NULL;
	struct kv_reader *rd = NULL;
	struct kve_entry e;
	u8 *value = NULL;
	int err = kve_enter(db, false);

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err && (!t || (!r && kvp_load(&t->dropped))))
		err = -KVE_no_tree;
	if (!err && !r)
		err = kve_read_begin(db, true, &own);
	if (!err)
		err = kve_read_check(r ? r : own);
	if (!err && !(value = kvp_alloc(db->geo.item_max, 0)))
		err = -KVE_no_memory;
	if (!err)
		err = kve_read_done(r ? r : own, kve_tree_get(t, (r ? r : own)->gen, key, (u32)key_len, &e,
							      value, db->geo.item_max));
	if (!err && (e.flags & KVF_CELL_POISON))
		err = kve_fail(db, KVE_corrupt_value, "%s", kvf_finding_text(KVF_F_value_poison));
	if (!err)
		err = kve_reader_entry(db, r ? r : own, t, key, (u32)key_len, &e, value, &rd);
	if (!err && rd->read == own && own)
		rd->own_read = true;
	else if (own)
		kve_read_end(own);
	kvp_free(value);
	if (!err) {
		*out = rd;
		if (value_len)
			*value_len = rd->length;
	}
	return kve_return(db, err);
}

int kv_reader_read(kv_reader *rd, void *buf, size_t len, size_t *got)
{
	u64 left = rd->length - rd->pos, size = le32_to_cpu(rd->object.chunk_bytes), nr, skip;
	int err = kve_enter(rd->db, false);
	size_t part, done = 0;

	len = (size_t)KVF_MIN((u64)len, left);
	if (!err && rd->value) {
		memcpy(buf, rd->value + rd->pos, len);
		done = len;
	}
	while (!err && done < len) {
		nr = (rd->pos + done) / size;
		skip = (rd->pos + done) % size;
		err = kve_read_check(rd->read);
		if (!err && rd->chunk_nr != nr + 1) {
			rd->chunk_nr = 0;
			err = chunk_read(rd->chunks.tree, rd->read->gen, &rd->object, nr, rd->chunk);
			err = kve_read_done(rd->read, err);
			if (!err)
				rd->chunk_nr = nr + 1;
		}
		if (err)
			break;
		part = (size_t)KVF_MIN((u64)(len - done), size - skip);
		memcpy((u8 *)buf + done, rd->chunk + skip, part);
		done += part;
	}
	rd->pos += done;
	*got = done;
	return kve_return(rd->db, err);
}

int kv_reader_seek(kv_reader *rd, uint64_t offset)
{
	rd->pos = KVF_MIN((u64)offset, rd->length);
	return 0;
}

void kv_reader_close(kv_reader *rd)
{
	if (rd->read)
		rd->read->uses--;
	if (rd->own_read)
		kve_read_end(rd->read);
	kve_chunks_put(rd->db, &rd->chunks);
	kvp_sub(&rd->db->handles, 1u);
	kvp_free(rd->value);
	kvp_free(rd->chunk);
	kvp_free(rd);
}
