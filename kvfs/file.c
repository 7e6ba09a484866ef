/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * file.c - open key files: passes over a value, SET, APPEND, deferred truncation. Writing at offsets is in
 * stream.c.
 *
 * A pass begins with a copy of a small value, or a frozen reader of a long one, and ends where the value
 * ends. Only then does a version that is newer than the one read begin at 0 again, so that a program that
 * keeps the file open sees what a counter has become, and no reader sees parts of two versions.
 *
 * Locks: the file (one read or write of it at a time), then the node for a change. No buffer of a caller
 * is touched with the node locked but in the pieces of a write that is too long to be buffered.
 */
#include "kvfs_internal.h"

#define READ_BYTES_MAX (1u << 30)
#define EXACT_TRIES 16 /* to read between two changes */

int kvfs_file_open(struct kvfs *fs, struct kvfs_node *n, unsigned int flags, struct kvfs_file **out)
{
	struct kvfs_file *f;

	if (kvp_load(&n->gone))
		return -ESTALE;
	f = kvp_alloc(sizeof(*f), KVP_ZERO);
	if (!f)
		return -ENOMEM;
	f->fs = fs;
	f->node = n;
	f->flags = flags;
	f->cut = flags & KVFS_O_TRUNC;
	f->value = f->small;
	f->value_room = KVFS_SMALL;
	kvp_mutex_init(&f->lock, "kvfs file", KVFS_RANK_FILE);
	*out = f;
	return 0;
}

void kvfs_file_truncate_later(struct kvfs_file *f)
{
	kvp_mutex_lock(&f->lock);
	kvfs_stage_drop(f);
	f->cut = true;
	kvp_mutex_unlock(&f->lock);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static void pass_end(struct kvfs_file *f)
{
	if (f->reader)
		kv_reader_close(f->reader);
	f->reader = NULL;
	f->reading = false;
}

static void value_free(struct kvfs_file *f)
{
	if (f->value != f->small)
		kvp_free(f->value);
}

static int value_room(struct kvfs_file *f, u32 bytes)
{
	u8 *value;

	if (f->value_room >= bytes)
		return 0;
	value = kvp_alloc(bytes, 0);
	if (!value)
		return -ENOMEM;
	value_free(f);
	f->value = value;
	f->value_room = bytes;
	return 0;
}

/* The value as it is now, to f->value or f->reader. */
static int fetch(struct kvfs_file *f)
{
	struct kvfs_node *n = f->node;
	uint64_t length = 0;
	size_t len = 0;
	int err;

	kvp_rwsem_down_read(&n->naming);
	err = kv_get_into(f->fs->db, n->tree, n->key, n->key_len, f->value, f->value_room, &len);
	while (err == KV_E_TOOBIG && len <= KVFS_PIECE) {
		err = value_room(f, (u32)len) ? KV_E_NOMEM :
		      kv_get_into(f->fs->db, n->tree, n->key, n->key_len, f->value, f->value_room, &len);
	}
	length = len;
	if (err == KV_E_TOOBIG)
		err = kv_reader_open(f->fs->db, NULL, n->tree, n->key, n->key_len, &f->reader, &length);
	kvp_rwsem_up_read(&n->naming);
	f->length = length;
	return err == KV_E_NOTFOUND ? -ESTALE : kvfs_errno(err);
}

/*
 * Which version it is that was fetched is only certain when none came in between. With changes one after
 * the other without end, the same value may be taken for a newer one later.
 */
static int pass_begin(struct kvfs_file *f)
{
	u64 before;
	int tries, err;

	for (tries = 0; tries < EXACT_TRIES; tries++) {
		pass_end(f);
		before = kvp_load(&f->node->version);
		err = fetch(f);
		if (err)
			return err;
		if (!(before & 1) && kvp_load(&f->node->version) == before)
			break;
		kvp_resched();
	}
	f->seen = before;
	f->reading = f->has_read = true;
	return 0;
}

/* Makes *pos one of the current pass, which begins if need be. */
static int pass_settle(struct kvfs_file *f, u64 *pos)
{
	bool newer = f->has_read && kvp_load(&f->node->version) != f->seen;

	if (newer && !f->fs->stream && *pos >= f->length && *pos == f->left) {
		/* The end of the old version first, or a reader to the end would get two as one. */
		if (!f->ended)
			return 0;
		*pos = 0;
	}
	if (newer && (!*pos || *pos >= f->length))
		pass_end(f);
	if (f->reading || (f->has_read && !newer && *pos >= f->length))
		return 0;
	return pass_begin(f);
}

static int pass_read(struct kvfs_file *f, u64 pos, void *buf, size_t len)
{
	size_t got, done = 0;
	int err;

	if (!f->reader) {
		memcpy(buf, f->value + pos, len);
		return 0;
	}
	err = kvfs_errno(kv_reader_seek(f->reader, pos));
	while (!err && done < len) {
		err = kvfs_errno(kv_reader_read(f->reader, (u8 *)buf + done, len - done, &got));
		if (!err && !got)
			err = -EIO;
		done += got;
	}
	return err;
}

static long read_locked(struct kvfs_file *f, u64 *pos, void *buf, size_t len)
{
	u64 at = *pos;
	int err = kvfs_stage_commit(f);

	if (!err && kvp_load(&f->node->gone))
		err = -ESTALE;
	if (err)
		return err;
	/* To this file the value is empty already. */
	if (f->cut)
		return 0;
	err = pass_settle(f, &at);
	if (err)
		return err;
	len = at < f->length ? (size_t)kvfs_least(kvfs_least(len, READ_BYTES_MAX), f->length - at) : 0;
	if (len) {
		err = pass_read(f, at, buf, len);
		if (err) {
			pass_end(f);
			return err;
		}
	}
	*pos = f->left = at + len;
	f->ended = !len;
	if (*pos >= f->length)
		pass_end(f);
	return (long)len;
}

long kvfs_file_read(struct kvfs_file *f, u64 *pos, void *buf, size_t len)
{
	long res;

	kvp_mutex_lock(&f->lock);
	res = read_locked(f, pos, buf, len);
	kvp_mutex_unlock(&f->lock);
	return res;
}

/* ---- SET -------------------------------------------------------------------------------------------- */

static u32 replace_flags(const struct kvfs_file *f)
{
	return kvfs_durability(f->fs, f->flags) | KV_PUT_REPLACE;
}

static int set_bytes(struct kvfs_file *f, const void *data, size_t len)
{
	struct kvfs_node *n = f->node;
	int err = kvfs_change_begin(n);

	if (err)
		return err;
	err = kvfs_errno(kv_put(f->fs->db, n->tree, n->key, n->key_len, data, len, replace_flags(f)));
	if (!err)
		kvfs_size_becomes(n, len);
	return kvfs_change_end(n, err);
}

static int feed(struct kvfs_source *src, kv_writer *w, size_t len, u8 *piece)
{
	size_t part;
	int err = 0;

	while (len && !err) {
		part = (size_t)kvfs_least(len, KVFS_PIECE);
		err = src->copy(src, piece, part);
		if (!err)
			err = kvfs_errno(kv_writer_write(w, piece, part));
		len -= part;
		kvp_resched();
	}
	return err;
}

/*
 * The node is locked. The new value: that of rd if there is one, then len bytes, which are in data or, if
 * that is NULL, come from the source.
 */
static int put_streamed(struct kvfs_file *f, kv_reader *rd, u64 old, const void *data,
			struct kvfs_source *src, size_t len, u8 *piece)
{
	struct kvfs_node *n = f->node;
	kv_writer *w;
	int err = kvfs_errno(kv_writer_open(f->fs->db, n->tree, n->key, n->key_len, &w));

	if (err)
		return err;
	if (rd)
		err = kvfs_copy(rd, w, old, piece);
	if (!err && data)
		err = kvfs_errno(kv_writer_write(w, data, len));
	else if (!err)
		err = feed(src, w, len, piece);
	if (err) {
		kv_writer_abort(w);
		return err;
	}
	return kvfs_errno(kv_writer_commit(w, replace_flags(f)));
}

static int set_streamed(struct kvfs_file *f, struct kvfs_source *src, size_t len)
{
	u8 *piece = kvp_alloc(KVFS_PIECE, 0);
	int err;

	if (!piece)
		return -ENOMEM;
	err = kvfs_change_begin(f->node);
	if (!err)
		err = kvfs_change_end(f->node, put_streamed(f, NULL, 0, NULL, src, len, piece));
	kvp_free(piece);
	return err;
}

/* ---- APPEND ----------------------------------------------------------------------------------------- */

/* -EFBIG: the sum is for put_streamed(). */
static int append_small(struct kvfs_file *f, const void *data, size_t len)
{
	struct kvfs_node *n = f->node;
	uint64_t old;
	size_t got = 0;
	u8 *sum;
	int err = kvfs_errno(kv_exists(f->fs->db, n->tree, n->key, n->key_len, &old));

	if (err)
		return err;
	if (old + len > KVFS_PIECE)
		return -EFBIG;
	sum = kvp_alloc((size_t)old + len, 0);
	if (!sum)
		return -ENOMEM;
	err = kvfs_errno(kv_get_into(f->fs->db, n->tree, n->key, n->key_len, sum, (size_t)old, &got));
	if (!err) {
		memcpy(sum + got, data, len);
		err = kvfs_errno(kv_put(f->fs->db, n->tree, n->key, n->key_len, sum, got + len,
					replace_flags(f)));
	}
	kvp_free(sum);
	return err;
}

static int append_streamed(struct kvfs_file *f, const void *data, struct kvfs_source *src, size_t len)
{
	struct kvfs_node *n = f->node;
	u8 *piece = kvp_alloc(KVFS_PIECE, 0);
	kv_reader *rd;
	uint64_t old;
	int err;

	if (!piece)
		return -ENOMEM;
	err = kvfs_errno(kv_reader_open(f->fs->db, NULL, n->tree, n->key, n->key_len, &rd, &old));
	if (!err) {
		err = put_streamed(f, rd, old, data, src, len, piece);
		kv_reader_close(rd);
	}
	kvp_free(piece);
	return err;
}

static int append(struct kvfs_file *f, const void *data, struct kvfs_source *src, size_t len)
{
	int err = kvfs_change_begin(f->node);

	if (err)
		return err;
	err = data ? append_small(f, data, len) : -EFBIG;
	if (err == -EFBIG)
		err = append_streamed(f, data, src, len);
	return kvfs_change_end(f->node, err);
}

/* ---- writing ---------------------------------------------------------------------------------------- */

/* SET or APPEND of one write. */
static int write_whole(struct kvfs_file *f, struct kvfs_source *src, size_t len)
{
	bool add = (f->flags & KVFS_O_APPEND) && !f->cut;
	u8 *data = NULL;
	int err = 0;

	/* A SET that fails leaves the value as it was, also where it was to replace it after an O_TRUNC. */
	if (!(f->flags & KVFS_O_APPEND))
		f->cut = false;
	if (len <= KVFS_PIECE) {
		data = kvp_alloc(len, 0);
		if (!data)
			return -ENOMEM;
		err = len ? src->copy(src, data, len) : 0;
	}
	if (err)
		goto out;
	if (add)
		err = append(f, data, src, len);
	else if (data)
		err = set_bytes(f, data, len);
	else
		err = set_streamed(f, src, len);
	if (!err)
		f->cut = false;
out:
	kvp_free(data);
	return err;
}

long kvfs_file_write(struct kvfs_file *f, u64 pos, struct kvfs_source *src, size_t len)
{
	long res;

	if (len > KVFS_SIZE_MAX || pos > KVFS_SIZE_MAX - len)
		return -EFBIG;
	kvp_mutex_lock(&f->lock);
	if (f->fs->stream && !(f->flags & KVFS_O_APPEND)) {
		res = kvfs_stage_write(f, pos, src, len);
		if (res > 0)
			pos += (u64)res;
	} else {
		/* Left over from before a remount. */
		res = kvfs_stage_commit(f);
		if (!res)
			res = write_whole(f, src, len);
		if (!res)
			res = (long)len;
	}
	if (res >= 0) {
		pass_end(f);
		f->left = pos;
	}
	kvp_mutex_unlock(&f->lock);
	return res;
}

static int flush_locked(struct kvfs_file *f)
{
	int err = kvfs_stage_commit(f), lost = f->error;

	if (!err && f->cut) {
		err = set_bytes(f, NULL, 0);
		f->cut = err && err != -ESTALE;
	}
	f->error = 0;
	return err ? err : lost;
}

int kvfs_file_flush(struct kvfs_file *f)
{
	int err;

	kvp_mutex_lock(&f->lock);
	err = flush_locked(f);
	kvp_mutex_unlock(&f->lock);
	return err;
}

int kvfs_file_sync(struct kvfs_file *f)
{
	int err = kvfs_file_flush(f);

	return err ? err : kvfs_errno(kv_sync(f->fs->db));
}

void kvfs_file_close(struct kvfs_file *f)
{
	if (!f)
		return;
	kvp_mutex_lock(&f->lock);
	kvfs_stage_drop(f);
	kvp_mutex_unlock(&f->lock);
	pass_end(f);
	kvp_mutex_destroy(&f->lock);
	value_free(f);
	kvp_free(f);
}
