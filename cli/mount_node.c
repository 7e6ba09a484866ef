/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_node.c - what the kernel knows numbers of: a table of keys, trees and control files.
 *
 * A node lives while the kernel has looked it up more often than forgotten it, or while we hold a
 * reference. A node whose key was deleted leaves the table at once, so that the same key made again is
 * another node: whoever has the old one open gets ESTALE.
 */
#include <string.h>
#include <time.h>

#include "mount.h"

#define CHAINS_FIRST 1024u

int mount_nodes_init(struct mount *m)
{
	m->chains_nr = CHAINS_FIRST;
	m->chains = kvp_alloc_array(m->chains_nr, sizeof(*m->chains), KVP_ZERO);
	if (!m->chains)
		return -ENOMEM;
	kvp_rwsem_init(&m->moves, "mount moves", MOUNT_RANK_MOVES);
	kvp_mutex_init(&m->nodes_lock, "mount nodes", MOUNT_RANK_NODES);
	clock_gettime(CLOCK_REALTIME, &m->began);
	m->root.kind = KVFS_TREE;
	m->root.ino = KVFS_ROOT_INO;
	m->root.mtime = m->began;
	m->root.refs = 1; /* for good */
	return 0;
}

static void node_free(struct mount_node *n)
{
	if (n->kind == KVFS_KEY)
		kvfs_node_exit(&n->key);
	kvp_free(n);
}

static void free_chain(struct mount_node *n)
{
	struct mount_node *next;

	for (; n; n = next) {
		next = n->next;
		node_free(n);
	}
}

/* The kernel has gone; what it knew goes too. */
void mount_nodes_exit(struct mount *m)
{
	size_t i;

	for (i = 0; i < m->chains_nr; i++)
		free_chain(m->chains[i]);
	free_chain(m->detached);
	kvp_free(m->chains);
	kvp_mutex_destroy(&m->nodes_lock);
	kvp_rwsem_destroy(&m->moves);
}

/* ---- the table; with nodes_lock held --------------------------------------------------------- */

static struct mount_node **chain_of(struct mount *m, u64 ino)
{
	return &m->chains[ino & (m->chains_nr - 1)];
}

static void chain_add(struct mount_node **chain, struct mount_node *n)
{
	n->next = *chain;
	n->at = chain;
	if (n->next)
		n->next->at = &n->next;
	*chain = n;
}

static void chain_remove(struct mount_node *n)
{
	*n->at = n->next;
	if (n->next)
		n->next->at = n->at;
}

/* Without memory the chains become longer: slower, nothing else. */
static void table_grow(struct mount *m)
{
	size_t nr = m->chains_nr * 2, i;
	struct mount_node **old = m->chains, **chains;

	chains = kvp_alloc_array(nr, sizeof(*chains), KVP_ZERO);
	if (!chains)
		return;
	m->chains = chains;
	m->chains_nr = nr;
	for (i = 0; i < nr / 2; i++) {
		while (old[i]) {
			struct mount_node *n = old[i];

			chain_remove(n);
			chain_add(chain_of(m, n->ino), n);
		}
	}
	kvp_free(old);
}

static void table_add(struct mount *m, struct mount_node *n)
{
	if (m->nodes_nr >= m->chains_nr)
		table_grow(m);
	chain_add(chain_of(m, n->ino), n);
	n->hashed = true;
	m->nodes_nr++;
}

static void table_remove(struct mount *m, struct mount_node *n)
{
	chain_remove(n);
	if (n->hashed)
		m->nodes_nr--;
	n->hashed = false;
}

/* a is complete, b may be one that we only compare with */
static bool same(const struct mount_node *a, const struct mount_node *b)
{
	if (a->ino != b->ino || a->kind != b->kind)
		return false;
	if (a->kind == KVFS_TREE)
		return a->tree == b->tree;
	if (a->kind == KVFS_CONTROL)
		return a->tree == b->tree && a->control == b->control;
	return a->key.tree == b->key.tree && a->key.key_len == b->key.key_len &&
	       !memcmp(a->key.key, b->key.key, a->key.key_len) && !kvp_load(&a->key.gone);
}

static struct mount_node *table_find(struct mount *m, const struct mount_node *like)
{
	struct mount_node *n;

	for (n = *chain_of(m, like->ino); n; n = n->next)
		if (same(n, like))
			return n;
	return NULL;
}

/* ---- references ------------------------------------------------------------------------------ */

/* Frees it if nobody has it. With nodes_lock held, which is released. */
static void unlock_and_drop(struct mount *m, struct mount_node *n) KVP_RELEASE(&m->nodes_lock)
{
	bool unused = !n->refs && !n->lookups;

	if (unused)
		table_remove(m, n);
	kvp_mutex_unlock(&m->nodes_lock);
	if (unused)
		node_free(n);
}

void mount_node_ref(struct mount *m, struct mount_node *n)
{
	kvp_mutex_lock(&m->nodes_lock);
	n->refs++;
	kvp_mutex_unlock(&m->nodes_lock);
}

void mount_node_put(struct mount *m, struct mount_node *n)
{
	kvp_mutex_lock(&m->nodes_lock);
	n->refs--;
	unlock_and_drop(m, n);
}

void mount_node_known(struct mount *m, struct mount_node *n)
{
	kvp_mutex_lock(&m->nodes_lock);
	n->lookups++;
	n->refs--;
	kvp_mutex_unlock(&m->nodes_lock);
}

void mount_node_forget(struct mount *m, struct mount_node *n, u64 lookups)
{
	kvp_mutex_lock(&m->nodes_lock);
	/* the root is known without a lookup */
	n->lookups -= n->lookups < lookups ? n->lookups : lookups;
	unlock_and_drop(m, n);
}

void mount_node_detach(struct mount *m, struct mount_node *n)
{
	kvp_mutex_lock(&m->nodes_lock);
	table_remove(m, n);
	chain_add(&m->detached, n);
	kvp_mutex_unlock(&m->nodes_lock);
}

void mount_node_moved(struct mount *m, struct mount_node *n)
{
	kvp_mutex_lock(&m->nodes_lock);
	table_remove(m, n);
	n->ino = kvfs_ino(n->key.tree, n->key.key, n->key.key_len);
	table_add(m, n);
	kvp_mutex_unlock(&m->nodes_lock);
}

/* ---- finding or making one ------------------------------------------------------------------- */

static struct mount_node *find_and_ref(struct mount *m, const struct mount_node *like)
{
	struct mount_node *n = table_find(m, like);

	if (n)
		n->refs++;
	return n;
}

/* Two may miss the same node at once; the second finds the first one's. */
static int node_of(struct mount *m, const struct mount_node *like, struct mount_node **out)
{
	struct mount_node *made, *n;
	int err;

	kvp_mutex_lock(&m->nodes_lock);
	*out = find_and_ref(m, like);
	kvp_mutex_unlock(&m->nodes_lock);
	if (*out)
		return 0;

	made = kvp_alloc(sizeof(*made), KVP_ZERO);
	if (!made)
		return -ENOMEM;
	made->kind = like->kind;
	made->control = like->control;
	made->tree = like->tree;
	made->ino = like->ino;
	made->mtime = m->began;
	made->refs = 1;
	if (like->kind == KVFS_KEY) {
		err = kvfs_node_init(&made->key, like->key.tree, like->key.key, like->key.key_len);
		if (err) {
			kvp_free(made);
			return err;
		}
	}
	kvp_mutex_lock(&m->nodes_lock);
	n = find_and_ref(m, like);
	if (!n)
		table_add(m, made);
	kvp_mutex_unlock(&m->nodes_lock);
	if (n)
		node_free(made);
	*out = n ? n : made;
	return 0;
}

int mount_node_key(struct mount *m, kv_tree *tree, const void *key, u32 key_len, struct mount_node **out)
{
	struct mount_node like = { .kind = KVFS_KEY };

	like.key.tree = tree;
	like.key.key = (u8 *)(uintptr_t)key; /* only compared and copied */
	like.key.key_len = key_len;
	like.ino = kvfs_ino(tree, key, key_len);
	return node_of(m, &like, out);
}

int mount_node_found(struct mount *m, kv_tree *dir, struct kvfs_found *found, struct mount_node **out)
{
	struct mount_node like = { .kind = found->kind };
	u64 size;
	int err;

	if (found->kind == KVFS_TREE) {
		like.tree = found->tree;
		like.ino = kvfs_tree_ino(found->tree);
		return node_of(m, &like, out);
	}
	if (found->kind == KVFS_CONTROL) {
		like.tree = dir;
		like.control = found->control;
		like.ino = kvfs_control_ino(dir, found->control);
		return node_of(m, &like, out);
	}
	err = mount_node_key(m, dir, found->key, found->key_len, out);
	kvp_free(found->key);
	found->key = NULL;
	if (err)
		return err;
	/* Deleted after it was found and before it was in the table: then nobody has marked the node. */
	err = kvfs_node_size(&m->fs, &(*out)->key, &size);
	if (err)
		mount_node_put(m, *out);
	return err == -ESTALE ? -ENOENT : err;
}

/* ---- attributes ------------------------------------------------------------------------------ */

u64 mount_node_ino(struct mount *m, struct mount_node *n)
{
	u64 ino;

	kvp_mutex_lock(&m->nodes_lock);
	ino = n->ino;
	kvp_mutex_unlock(&m->nodes_lock);
	return ino;
}

static int key_attr(struct mount *m, struct mount_node *n, struct stat *st)
{
	u64 size = 0;
	u32 opens;
	int err;

	err = kvfs_node_size(&m->fs, &n->key, &size);
	if (err == -ESTALE) {
		kvp_mutex_lock(&m->nodes_lock);
		opens = n->opens;
		kvp_mutex_unlock(&m->nodes_lock);
		/* fstat(2) works on a deleted file; a path leads elsewhere now */
		if (!opens)
			return err;
		st->st_nlink = 0;
	} else if (err) {
		return err;
	}
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
	return 0;
}

int mount_node_attr(struct mount *m, struct mount_node *n, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_uid = m->opt.uid;
	st->st_gid = m->opt.gid;
	st->st_nlink = 1;
	st->st_blksize = MOUNT_BLKSIZE;
	kvp_mutex_lock(&m->nodes_lock);
	st->st_ino = n->ino;
	st->st_mtim = st->st_ctim = st->st_atim = n->mtime;
	kvp_mutex_unlock(&m->nodes_lock);
	switch (n->kind) {
	case KVFS_TREE:
		st->st_mode = S_IFDIR | m->opt.dmode;
		st->st_nlink = 2;
		return 0;
	case KVFS_CONTROL:
		st->st_mode = S_IFREG | (m->opt.fmode & 0222);
		return 0;
	default:
		st->st_mode = S_IFREG | m->opt.fmode;
		return key_attr(m, n, st);
	}
}

void mount_node_touch(struct mount *m, struct mount_node *n, const struct timespec *mtime)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	kvp_mutex_lock(&m->nodes_lock);
	n->mtime = mtime ? *mtime : now;
	kvp_mutex_unlock(&m->nodes_lock);
}
