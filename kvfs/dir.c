/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dir.c - what is in a directory, and changes of that: look up, create, delete, rename, trees.
 *
 * Locks of rename: the node, then that of the victim, then the names of the node. Two nodes have the same
 * rank, so the second one is only tried. When it is taken, the first is given up and the other one waited
 * for, then the first is tried: nobody ever waits for a node while holding one, so there is no circle.
 * Listing is in list.c.
 */
#include "kvfs_internal.h"

#define RENAME_BYTES_MAX (1u << 20) /* longer values are not moved by one batch */

/* ---- look up ------------------------------------------------------------------------------------ */

/* The key of a name, in memory of its own. */
static int key_of_name(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len, u8 **key, u32 *key_len)
{
	u8 *buf = kvp_alloc(fs->key_max, 0);
	int len;

	if (!buf)
		return -ENOMEM;
	len = kvfs_key_from_name(fs, dir, name, name_len, buf);
	if (len > 0) {
		*key = kvp_alloc((size_t)len, 0);
		*key_len = (u32)len;
		if (*key)
			memcpy(*key, buf, (size_t)len);
		else
			len = -ENOMEM;
	}
	kvp_free(buf);
	return len < 0 ? len : 0;
}

/* Control files and trees; -ENOENT: it can only be a key. */
static int lookup_special(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len,
			  struct kvfs_found *out)
{
	int err = -ENOENT;

	memset(out, 0, sizeof(*out));
	if (name_len > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	out->control = kvfs_control_of(name, name_len);
	if (out->control != KVFS_CONTROLS) {
		out->kind = KVFS_CONTROL;
		return 0;
	}
	if (kvfs_is_root(dir))
		err = kvfs_tree_from_name(fs, name, name_len, &out->tree);
	out->kind = err ? KVFS_KEY : KVFS_TREE;
	return err;
}

int kvfs_lookup(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len, struct kvfs_found *out)
{
	uint64_t size = 0;
	int err = lookup_special(fs, dir, name, name_len, out);

	if (err != -ENOENT)
		return err;
	err = key_of_name(fs, dir, name, name_len, &out->key, &out->key_len);
	if (err)
		return err;
	err = kvfs_errno(kv_exists(fs->db, dir, out->key, out->key_len, &size));
	if (err) {
		kvp_free(out->key);
		out->key = NULL;
	}
	out->size = size;
	return err;
}

/* ---- create, delete ------------------------------------------------------------------------------ */

int kvfs_create(struct kvfs *fs, kv_tree *dir, const char *name, u32 name_len, struct kvfs_found *out)
{
	int err = lookup_special(fs, dir, name, name_len, out);

	if (!err)
		return -EEXIST;
	if (err == -ENOENT)
		err = key_of_name(fs, dir, name, name_len, &out->key, &out->key_len);
	if (err)
		return err == -ENOENT ? -EINVAL : err;
	err = kvfs_errno(kv_put(fs->db, dir, out->key, out->key_len, NULL, 0,
				kvfs_durability(fs, 0) | KV_PUT_NEW));
	if (err) {
		kvp_free(out->key);
		out->key = NULL;
	}
	return err;
}

int kvfs_unlink(struct kvfs *fs, struct kvfs_node *n)
{
	int err = kvfs_change_begin(n);

	if (err)
		return err;
	err = kvfs_errno(kv_del(fs->db, n->tree, n->key, n->key_len, kvfs_durability(fs, 0)));
	if (!err)
		kvp_store(&n->gone, true);
	return kvfs_change_end(n, err);
}

/* ---- rename -------------------------------------------------------------------------------------- */

KVP_NO_LOCK_ANALYSIS
static void lock_both(struct kvfs_node *n, struct kvfs_node *victim)
{
	struct kvfs_node *first = n, *second = victim, *swap;

	kvp_mutex_lock(&first->lock);
	while (second && !kvp_mutex_trylock(&second->lock)) {
		kvp_mutex_unlock(&first->lock);
		swap = first;
		first = second;
		second = swap;
		kvp_mutex_lock(&first->lock);
	}
}

KVP_NO_LOCK_ANALYSIS
static void unlock_both(struct kvfs_node *n, struct kvfs_node *victim)
{
	if (victim)
		kvp_mutex_unlock(&victim->lock);
	kvp_mutex_unlock(&n->lock);
}

/* EXDEV makes mv copy, in pieces: where each write is a SET, only the last piece would be left. */
static int too_large(const struct kvfs *fs)
{
	return fs->stream ? -EXDEV : -EFBIG;
}

/* The value of n, to be freed. It may grow while this looks: through an ioctl. */
static int value_to_move(struct kvfs *fs, struct kvfs_node *n, u8 **value, size_t *len)
{
	size_t room = 4096;
	int err;

	for (;;) {
		*value = kvp_alloc(room, 0);
		if (!*value)
			return -ENOMEM;
		err = kv_get_into(fs->db, n->tree, n->key, n->key_len, *value, room, len);
		if (!err)
			return 0;
		kvp_free(*value);
		*value = NULL;
		if (err != KV_E_TOOBIG)
			return kvfs_errno(err);
		if (*len > RENAME_BYTES_MAX)
			return too_large(fs);
		room = *len;
	}
}

static int move_batch(struct kvfs *fs, struct kvfs_node *n, kv_tree *dir, const u8 *key, u32 key_len,
		      const u8 *value, size_t len)
{
	kv_batch *b;
	int err = kv_batch_new(fs->db, &b);

	if (err)
		return kvfs_errno(err);
	err = kv_batch_put(b, dir, key, key_len, value, len);
	if (!err)
		err = kv_batch_del(b, n->tree, n->key, n->key_len);
	if (!err)
		err = kv_batch_commit(b, kvfs_durability(fs, 0));
	kv_batch_free(b);
	return err == KV_E_TOOBIG ? too_large(fs) : kvfs_errno(err);
}

/* Both nodes are locked. On success the node owns key. */
static int move(struct kvfs *fs, struct kvfs_node *n, kv_tree *dir, u8 *key, u32 key_len)
{
	u8 *value = NULL;
	size_t len = 0;
	int err = value_to_move(fs, n, &value, &len);

	if (err)
		return err == -ENOENT ? -ESTALE : err;
	/* A reader sees the key under the old name until it has the new one. */
	kvp_rwsem_down_write(&n->naming);
	err = move_batch(fs, n, dir, key, key_len, value, len);
	if (!err) {
		kvp_free(n->key);
		n->key = key;
		n->key_len = key_len;
		n->tree = dir;
	}
	kvp_rwsem_up_write(&n->naming);
	kvp_free(value);
	return err;
}

static int rename_locked(struct kvfs *fs, struct kvfs_node *n, kv_tree *dir, u8 **key, u32 key_len,
			 struct kvfs_node *victim, bool no_replace)
{
	int err;

	if (kvp_load(&n->gone))
		return -ESTALE;
	if (kvfs_node_is(n, dir, *key, key_len))
		return no_replace ? -EEXIST : 0;
	if (n->staged)
		return -EBUSY;
	if (no_replace) {
		err = kvfs_errno(kv_exists(fs->db, dir, *key, key_len, NULL));
		if (err != -ENOENT)
			return err ? err : -EEXIST;
	}
	err = move(fs, n, dir, *key, key_len);
	if (err)
		return err;
	*key = NULL;
	if (victim)
		kvfs_node_gone(victim);
	return 0;
}

int kvfs_rename(struct kvfs *fs, struct kvfs_node *n, kv_tree *dir, const char *name, u32 name_len,
		struct kvfs_node *victim, bool no_replace)
{
	struct kvfs_found found;
	u8 *key = NULL;
	u32 key_len = 0;
	int err = lookup_special(fs, dir, name, name_len, &found);

	if (!err && no_replace)
		return -EEXIST;
	if (!err)
		return found.kind == KVFS_TREE ? -EISDIR : -EPERM;
	if (err == -ENOENT)
		err = key_of_name(fs, dir, name, name_len, &key, &key_len);
	if (err)
		return err == -ENOENT ? -EINVAL : err;
	if (victim == n)
		victim = NULL;
	lock_both(n, victim);
	err = rename_locked(fs, n, dir, &key, key_len, victim, no_replace);
	unlock_both(n, victim);
	kvp_free(key);
	return err;
}

/* ---- trees ----------------------------------------------------------------------------------------- */

int kvfs_mkdir(struct kvfs *fs, const char *name, u32 name_len, kv_tree **out)
{
	char raw[KVFS_TREE_NAME_MAX + 1];
	int err;

	if (kvfs_control_of(name, name_len) != KVFS_CONTROLS)
		return -EEXIST;
	err = kvfs_tree_name(name, name_len, raw);
	if (err)
		return err == -ENOENT ? -EINVAL : err;
	err = kvfs_errno(kv_exists(fs->db, NULL, raw, strlen(raw), NULL));
	if (err != -ENOENT)
		return err ? err : -EEXIST;
	return kvfs_errno(kv_tree_open(fs->db, raw, KV_TREE_CREATE | KV_TREE_NEW, out));
}

int kvfs_rmdir(struct kvfs *fs, kv_tree *tree)
{
	uint64_t count;
	int err;

	if (kvfs_is_root(tree))
		return -EBUSY;
	err = kvfs_errno(kv_count(fs->db, tree, &count));
	if (!err && count)
		err = -ENOTEMPTY;
	/* A handle of a tree that is gone must not drop the new one of that name. */
	return err ? err : kvfs_errno(kv_tree_drop(fs->db, kv_tree_name(tree)));
}
