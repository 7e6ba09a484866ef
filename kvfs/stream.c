/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream.c - writing at offsets (the option write=stream), for programs that write a file in pieces.
 *
 * What an open file writes one piece after the other goes to one invisible value, so memory is bounded and
 * others see the old value until the flush. A write elsewhere commits what is there and begins a new one:
 * a copy of the old value up to the offset, with zeros beyond its end. At the commit what the old value
 * has behind the last byte written follows, unless the file was truncated.
 *
 * A staged value is bound to the key: while there is one, the node is not renamed. When staging fails, all
 * of it is given up, the value stays as it is, and the next flush says so too.
 */
#include "kvfs_internal.h"

/* The old value up to the position, then zeros. old: its length. */
static int stage_prefix(struct kvfs_stage *s, kv_reader *rd, u64 old)
{
	u64 keep = kvfs_least(old, s->pos);
	u8 *piece;
	int err;

	if (!s->pos)
		return 0;
	piece = kvp_alloc(KVFS_PIECE, 0);
	if (!piece)
		return -ENOMEM;
	err = keep ? kvfs_copy(rd, s->writer, keep, piece) : 0;
	if (!err)
		err = kvfs_zeros(s->writer, s->pos - keep, piece);
	kvp_free(piece);
	return err;
}

void kvfs_stage_drop(struct kvfs_file *f)
{
	if (!f->stage.writer)
		return;
	kv_writer_abort(f->stage.writer);
	f->stage.writer = NULL;
	kvp_mutex_lock(&f->node->lock);
	f->node->staged--;
	kvp_mutex_unlock(&f->node->lock);
}

/* Opens what is needed to write from pos on; the key stays until the stage ends. */
static int stage_open(struct kvfs_file *f, u64 pos, kv_reader **rd, u64 *old)
{
	struct kvfs_node *n = f->node;
	uint64_t length = 0;
	int err = 0;

	kvp_mutex_lock(&n->lock);
	if (kvp_load(&n->gone))
		err = -ESTALE;
	if (!err && pos && !f->cut)
		err = kvfs_errno(kv_reader_open(f->fs->db, NULL, n->tree, n->key, n->key_len, rd, &length));
	if (!err)
		err = kvfs_errno(kv_writer_open(f->fs->db, n->tree, n->key, n->key_len, &f->stage.writer));
	if (!err)
		n->staged++;
	else
		f->stage.writer = NULL;
	kvp_mutex_unlock(&n->lock);
	*old = length;
	return err == -ENOENT ? -ESTALE : err;
}

static int stage_begin(struct kvfs_file *f, u64 pos)
{
	kv_reader *rd = NULL;
	u64 old;
	int err = stage_open(f, pos, &rd, &old);

	if (!err) {
		f->stage.pos = pos;
		f->stage.cut = f->cut;
		err = stage_prefix(&f->stage, rd, old);
	}
	if (rd)
		kv_reader_close(rd);
	if (err)
		kvfs_stage_drop(f);
	else
		f->cut = false;
	return err;
}

/* What the old value has from the position on. The node is locked. */
static int stage_tail(struct kvfs_file *f)
{
	struct kvfs_node *n = f->node;
	uint64_t length;
	kv_reader *rd;
	u8 *piece;
	int err = kvfs_errno(kv_exists(f->fs->db, n->tree, n->key, n->key_len, &length));

	if (err || length <= f->stage.pos)
		return err;
	piece = kvp_alloc(KVFS_PIECE, 0);
	if (!piece)
		return -ENOMEM;
	err = kvfs_errno(kv_reader_open(f->fs->db, NULL, n->tree, n->key, n->key_len, &rd, &length));
	if (!err) {
		err = kvfs_errno(kv_reader_seek(rd, f->stage.pos));
		if (!err && length > f->stage.pos)
			err = kvfs_copy(rd, f->stage.writer, length - f->stage.pos, piece);
		kv_reader_close(rd);
	}
	kvp_free(piece);
	return err;
}

int kvfs_stage_commit(struct kvfs_file *f)
{
	struct kvfs_node *n = f->node;
	kv_writer *w = f->stage.writer;
	int err;

	if (!w)
		return 0;
	err = kvfs_change_begin(n);
	if (err) {
		kvfs_stage_drop(f);
		return err;
	}
	if (!f->stage.cut)
		err = stage_tail(f);
	if (err)
		kv_writer_abort(w);
	else
		err = kvfs_errno(kv_writer_commit(w, kvfs_durability(f->fs, f->flags) | KV_PUT_REPLACE));
	f->stage.writer = NULL;
	n->staged--;
	return kvfs_change_end(n, err);
}

/*
 * *done bytes were taken: fewer than len when the caller's memory could not be read further, which harms
 * nothing. When the engine cannot take them, what is staged is worth nothing any more: it is dropped.
 */
static int stage_feed(struct kvfs_file *f, struct kvfs_source *src, size_t len, size_t *done)
{
	size_t part = (size_t)kvfs_least(len, KVFS_PIECE);
	u8 *piece = kvp_alloc(part, 0);
	int err = piece ? 0 : -ENOMEM;

	*done = 0;
	while (!err && *done < len) {
		part = (size_t)kvfs_least(len - *done, KVFS_PIECE);
		err = src->copy(src, piece, part);
		if (err)
			break;
		err = kvfs_errno(kv_writer_write(f->stage.writer, piece, part));
		if (err) {
			f->error = err;
			*done = 0;
			kvfs_stage_drop(f);
			break;
		}
		*done += part;
		f->stage.pos += part;
		kvp_resched();
	}
	kvp_free(piece);
	return err;
}

long kvfs_stage_write(struct kvfs_file *f, u64 pos, struct kvfs_source *src, size_t len)
{
	bool fresh, cut = f->cut;
	size_t done;
	int err = 0;

	if (!len)
		return 0;
	if (f->stage.writer && f->stage.pos != pos)
		err = kvfs_stage_commit(f);
	fresh = !f->stage.writer;
	if (!err && fresh)
		err = stage_begin(f, pos);
	if (err)
		return err;
	err = stage_feed(f, src, len, &done);
	if (!done) {
		if (fresh && f->stage.writer) {
			kvfs_stage_drop(f);
			f->cut = cut;
		}
		return err;
	}
	if (f->flags & KVFS_O_SYNC) {
		err = kvfs_stage_commit(f);
		if (err)
			return err;
	}
	return (long)done;
}
