/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * node.c - keys that the caller has an inode of: their size, truncation, and the frame of every change.
 *
 * Who changes a value holds the lock of its node from looking at the old value to the commit. Readers do
 * not: they hold the naming lock shared over one call of the engine, so that a rename does not move the
 * key under them, and are never kept waiting by a long write.
 *
 * The version is odd while a change is under way and another even number afterwards, so that a reader
 * knows whether what it got is that of before or after.
 *
 * The size of a value is asked for far more often than it changes: the node keeps it, with the version that
 * it is of. Both are written with the lock held, the size first, and read without: the size is good when its
 * version was that of the node afterwards.
 */
#include "kvfs_internal.h"

int kvfs_node_init(struct kvfs_node *n, kv_tree *tree, const void *key, u32 key_len)
{
	memset(n, 0, sizeof(*n));
	n->key = kvp_alloc(key_len, 0);
	if (!n->key)
		return -ENOMEM;
	memcpy(n->key, key, key_len);
	n->key_len = key_len;
	n->tree = tree;
	n->size_version = 1; /* odd: not known */
	kvp_mutex_init(&n->lock, "kvfs node", KVFS_RANK_NODE);
	kvp_rwsem_init(&n->naming, "kvfs naming", KVFS_RANK_KEY);
	return 0;
}

void kvfs_node_exit(struct kvfs_node *n)
{
	kvp_rwsem_destroy(&n->naming);
	kvp_mutex_destroy(&n->lock);
	kvp_free(n->key);
	n->key = NULL;
}

void kvfs_node_changed(struct kvfs_node *n)
{
	kvp_add(&n->version, 2u);
}

void kvfs_node_gone(struct kvfs_node *n)
{
	kvp_store(&n->gone, true);
	kvfs_node_changed(n);
}

/* ---- size ------------------------------------------------------------------------------------------- */

/* Under the lock; the value of this version has this size. A reader that sees the size sees the version. */
static void size_store(struct kvfs_node *n, u64 size, u64 version)
{
	kvp_store_release(&n->size, size);
	kvp_store_release(&n->size_version, version);
}

static bool size_known(const struct kvfs_node *n, u64 *size)
{
	u64 of = kvp_load_acquire(&n->size_version);

	*size = kvp_load_acquire(&n->size);
	return kvp_load(&n->version) == of && !(of & 1);
}

void kvfs_size_becomes(struct kvfs_node *n, u64 size)
{
	size_store(n, size, kvp_load(&n->version) + 1);
}

/* Nobody waits here for a long write: while one is under way the size is asked for and not kept. */
KVP_NO_LOCK_ANALYSIS
int kvfs_node_size(struct kvfs *fs, struct kvfs_node *n, u64 *size)
{
	uint64_t len = 0;
	bool locked;
	int err;

	if (!kvp_load(&n->gone) && size_known(n, size))
		return 0;
	locked = kvp_mutex_trylock(&n->lock);
	kvp_rwsem_down_read(&n->naming);
	if (kvp_load(&n->gone))
		err = -ESTALE;
	else
		err = kvfs_errno(kv_exists(fs->db, n->tree, n->key, n->key_len, &len));
	kvp_rwsem_up_read(&n->naming);
	if (locked) {
		if (!err)
			size_store(n, len, kvp_load(&n->version));
		kvp_mutex_unlock(&n->lock);
	}
	*size = len;
	return err == -ENOENT ? -ESTALE : err;
}

bool kvfs_node_is(const struct kvfs_node *n, const kv_tree *tree, const void *key, u32 key_len)
{
	return (n->tree == tree || (kvfs_is_root(n->tree) && kvfs_is_root(tree))) &&
	       n->key_len == key_len && !memcmp(n->key, key, key_len);
}

/* ---- changes ---------------------------------------------------------------------------------------- */

KVP_NO_LOCK_ANALYSIS
int kvfs_change_begin(struct kvfs_node *n)
{
	kvp_mutex_lock(&n->lock);
	if (kvp_load(&n->gone)) {
		kvp_mutex_unlock(&n->lock);
		return -ESTALE;
	}
	kvp_add(&n->version, 1u);
	return 0;
}

KVP_NO_LOCK_ANALYSIS
int kvfs_change_end(struct kvfs_node *n, int err)
{
	if (err == -ENOENT) {
		kvp_store(&n->gone, true);
		err = -ESTALE;
	}
	/* After a failure of the medium nobody knows what the value is now. */
	if (err && err != -EIO)
		kvp_sub(&n->version, 1u);
	else
		kvp_add(&n->version, 1u);
	kvp_mutex_unlock(&n->lock);
	return err;
}

/* ---- values in pieces ------------------------------------------------------------------------------- */

int kvfs_copy(kv_reader *rd, kv_writer *w, u64 bytes, u8 *piece)
{
	size_t got;
	int err = 0;

	while (bytes && !err) {
		err = kvfs_errno(kv_reader_read(rd, piece, (size_t)kvfs_least(bytes, KVFS_PIECE), &got));
		if (!err && !got)
			err = -EIO;
		if (!err)
			err = kvfs_errno(kv_writer_write(w, piece, got));
		if (!err)
			bytes -= got;
		kvp_resched();
	}
	return err;
}

int kvfs_zeros(kv_writer *w, u64 bytes, u8 *piece)
{
	size_t part;
	int err = 0;

	memset(piece, 0, (size_t)kvfs_least(bytes, KVFS_PIECE));
	while (bytes && !err) {
		part = (size_t)kvfs_least(bytes, KVFS_PIECE);
		err = kvfs_errno(kv_writer_write(w, piece, part));
		bytes -= part;
		kvp_resched();
	}
	return err;
}

/* ---- truncate ---------------------------------------------------------------------------------------- */

/* The value of rd, old bytes, becomes size bytes. */
static int resize_streamed(struct kvfs *fs, struct kvfs_node *n, kv_reader *rd, u64 old, u64 size, u8 *piece)
{
	u64 keep = kvfs_least(old, size);
	kv_writer *w;
	int err = kvfs_errno(kv_writer_open(fs->db, n->tree, n->key, n->key_len, &w));

	if (err)
		return err;
	err = kvfs_copy(rd, w, keep, piece);
	if (!err)
		err = kvfs_zeros(w, size - keep, piece);
	if (err) {
		kv_writer_abort(w);
		return err;
	}
	return kvfs_errno(kv_writer_commit(w, kvfs_durability(fs, 0) | KV_PUT_REPLACE));
}

static int resize(struct kvfs *fs, struct kvfs_node *n, u64 size, u8 *piece)
{
	u32 flags = kvfs_durability(fs, 0) | KV_PUT_REPLACE;
	uint64_t old;
	kv_reader *rd;
	size_t got;
	int err;

	if (!size)
		return kvfs_errno(kv_put(fs->db, n->tree, n->key, n->key_len, NULL, 0, flags));
	err = kvfs_errno(kv_reader_open(fs->db, NULL, n->tree, n->key, n->key_len, &rd, &old));
	if (err)
		return err;
	if (size == old) {
		err = 0;
	} else if (size > KVFS_PIECE) {
		err = resize_streamed(fs, n, rd, old, size, piece);
	} else {
		memset(piece, 0, (size_t)size);
		err = kvfs_errno(kv_reader_read(rd, piece, (size_t)size, &got));
		if (!err)
			err = kvfs_errno(kv_put(fs->db, n->tree, n->key, n->key_len, piece,
						(size_t)size, flags));
	}
	kv_reader_close(rd);
	return err;
}

int kvfs_node_truncate(struct kvfs *fs, struct kvfs_node *n, u64 size)
{
	u8 *piece = NULL;
	int err;

	if (size > KVFS_SIZE_MAX)
		return -EFBIG;
	if (size) {
		piece = kvp_alloc(KVFS_PIECE, 0);
		if (!piece)
			return -ENOMEM;
	}
	err = kvfs_change_begin(n);
	if (!err)
		err = kvfs_change_end(n, resize(fs, n, size, piece));
	kvp_free(piece);
	return err;
}
