// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * inode.c - inodes: one for each key, directory of a tree and control file that somebody looks at. They
 * are found in the inode cache by what they stand for, and have no other home: numbers are computed,
 * owners and modes are those of the mount, times begin with the inode.
 */
#include <linux/slab.h>

#include "kvfs_kernel.h"

static struct kmem_cache *inode_cache;

/* ---- memory ------------------------------------------------------------------------------------- */

static void inode_construct(void *p)
{
	struct kvfs_inode *ki = p;

	inode_init_once(&ki->vfs);
}

int kvfs_inodes_init(void)
{
	inode_cache = kmem_cache_create("kvfs_inode", sizeof(struct kvfs_inode), 0,
					SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, inode_construct);
	return inode_cache ? 0 : -ENOMEM;
}

void kvfs_inodes_exit(void)
{
	/* Inodes are freed behind a grace period. */
	rcu_barrier();
	kmem_cache_destroy(inode_cache);
}

struct inode *kvfs_inode_alloc(struct super_block *sb)
{
	struct kvfs_inode *ki = alloc_inode_sb(sb, inode_cache, GFP_KERNEL);

	if (!ki)
		return NULL;
	ki->kind = KVFS_TREE;
	ki->control = KVFS_CONTROLS;
	ki->tree = NULL;
	ki->node = NULL;
	ki->effect = KVFS_NOTHING;
	ki->altered_next = NULL;
	return &ki->vfs;
}

static void node_free(struct kvfs_node *node)
{
	if (!node)
		return;
	kvfs_node_exit(node);
	kfree(node);
}

void kvfs_inode_free(struct inode *inode)
{
	struct kvfs_inode *ki = kvfs_inode_of(inode);

	node_free(ki->node);
	kmem_cache_free(inode_cache, ki);
}

/* ---- the cache of inodes ---------------------------------------------------------------------------- */

struct wanted {
	enum kvfs_kind kind;
	enum kvfs_control control;
	kv_tree *tree;
	const void *key;
	u32 key_len;
	struct kvfs_node *node; /* for a new inode of a key, which takes it */
};

/* Under a spinlock. The key is looked at only when the tree is ours: then no rename is under way. */
static int wanted_test(struct inode *inode, void *data)
{
	const struct kvfs_inode *ki = kvfs_inode_of(inode);
	const struct wanted *w = data;

	if (ki->kind != w->kind)
		return 0;
	if (ki->kind == KVFS_KEY)
		return READ_ONCE(ki->node->tree) == w->tree && ki->node->key_len == w->key_len &&
		       !memcmp(ki->node->key, w->key, w->key_len);
	return ki->tree == w->tree && ki->control == w->control;
}

/* Under a spinlock. */
static int wanted_set(struct inode *inode, void *data)
{
	struct kvfs_inode *ki = kvfs_inode_of(inode);
	struct wanted *w = data;

	ki->kind = w->kind;
	ki->control = w->control;
	if (w->kind == KVFS_KEY) {
		ki->node = w->node;
		w->node = NULL;
	} else {
		ki->tree = w->tree;
	}
	return 0;
}

static u64 wanted_ino(const struct wanted *w)
{
	switch (w->kind) {
	case KVFS_KEY:
		return kvfs_ino(w->tree, w->key, w->key_len);
	case KVFS_CONTROL:
		return kvfs_control_ino(w->tree, w->control);
	default:
		return kvfs_tree_ino(w->tree);
	}
}

static void inode_fill(struct inode *inode, u64 ino)
{
	const struct kvfs_options *opt = &kvfs_super_of(inode->i_sb)->opt;
	struct kvfs_inode *ki = kvfs_inode_of(inode);

	inode->i_ino = ino;
	inode->i_uid = opt->uid;
	inode->i_gid = opt->gid;
	inode->i_op = &kvfs_file_inode_operations;
	kvfs_times_init(inode);
	set_nlink(inode, 1); /* for a directory: not counted */
	switch (ki->kind) {
	case KVFS_KEY:
		inode->i_mode = S_IFREG | opt->fmode;
		inode->i_fop = &kvfs_key_operations;
		break;
	case KVFS_CONTROL:
		inode->i_mode = S_IFREG | (opt->fmode & 0222);
		inode->i_fop = &kvfs_control_operations;
		break;
	case KVFS_TREE:
		inode->i_mode = S_IFDIR | opt->dmode;
		inode->i_op = &kvfs_dir_inode_operations;
		inode->i_fop = &kvfs_dir_operations;
	}
}

static struct inode *wanted_get(struct super_block *sb, struct wanted *w)
{
	u64 ino = wanted_ino(w);
	struct inode *inode = iget5_locked(sb, ino, wanted_test, wanted_set, w);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (kvfs_inode_is_new(inode)) {
		inode_fill(inode, ino);
		unlock_new_inode(inode);
	}
	return inode;
}

static struct inode *key_inode_get(struct inode *dir, struct wanted *w)
{
	struct inode *inode = kvfs_inode_find(dir, w->key, w->key_len);
	int err;

	if (inode)
		return inode;
	/* All that may sleep comes first. */
	w->node = kmalloc(sizeof(*w->node), GFP_KERNEL_ACCOUNT);
	if (!w->node)
		return ERR_PTR(-ENOMEM);
	err = kvfs_node_init(w->node, w->tree, w->key, w->key_len);
	if (err) {
		kfree(w->node);
		return ERR_PTR(err);
	}
	inode = wanted_get(dir->i_sb, w);
	node_free(w->node); /* still there: another lookup was first, or there is no memory */
	return inode;
}

struct inode *kvfs_inode_get(struct inode *dir, const struct kvfs_found *found)
{
	struct wanted w = { .kind = found->kind, .control = KVFS_CONTROLS,
			    .tree = kvfs_inode_of(dir)->tree };
	struct inode *inode;

	switch (found->kind) {
	case KVFS_KEY:
		w.key = found->key;
		w.key_len = found->key_len;
		inode = key_inode_get(dir, &w);
		if (!IS_ERR(inode))
			i_size_write(inode, (loff_t)found->size);
		return inode;
	case KVFS_CONTROL:
		w.control = found->control;
		break;
	case KVFS_TREE:
		w.tree = found->tree;
	}
	return wanted_get(dir->i_sb, &w);
}

struct inode *kvfs_inode_find(struct inode *dir, const void *key, u32 key_len)
{
	struct wanted w = { .kind = KVFS_KEY, .tree = kvfs_inode_of(dir)->tree, .key = key,
			    .key_len = key_len };

	return ilookup5(dir->i_sb, wanted_ino(&w), wanted_test, &w);
}

struct inode *kvfs_root(struct super_block *sb)
{
	struct wanted w = { .kind = KVFS_TREE, .control = KVFS_CONTROLS };

	return wanted_get(sb, &w);
}

void kvfs_inode_dead(struct inode *inode)
{
	clear_nlink(inode);
	/* The key may come again: as another file. */
	remove_inode_hash(inode);
}

/* ---- attributes ------------------------------------------------------------------------------------- */

void kvfs_size_refresh(struct inode *inode)
{
	u64 size;

	if (!kvfs_node_size(kvfs_of(inode), kvfs_node_of(inode), &size))
		i_size_write(inode, (loff_t)size);
}

/* Owners and modes are those of the mount: setting what is there already is fine, for tools that copy. */
static int attr_allowed(struct inode *inode, const struct iattr *attr)
{
	if (attr->ia_valid & ATTR_UID && !uid_eq(attr->ia_uid, inode->i_uid))
		return -EPERM;
	if (attr->ia_valid & ATTR_GID && !gid_eq(attr->ia_gid, inode->i_gid))
		return -EPERM;
	if (attr->ia_valid & ATTR_MODE && (attr->ia_mode & S_IALLUGO) != (inode->i_mode & S_IALLUGO))
		return -EPERM;
	return 0;
}

int kvfs_op_setattr(kvfs_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int err = kvfs_alive(inode->i_sb);

	if (!err)
		err = setattr_prepare(idmap, dentry, attr);
	if (!err)
		err = attr_allowed(inode, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE && kvfs_is_key(inode)) {
		if (attr->ia_valid & ATTR_OPEN && attr->ia_valid & ATTR_FILE && !attr->ia_size) {
			kvfs_truncate_at_open(attr->ia_file);
			return 0;
		}
		err = kvfs_node_truncate(kvfs_of(inode), kvfs_node_of(inode), (u64)attr->ia_size);
		if (err)
			return err;
		i_size_write(inode, attr->ia_size);
		kvfs_touch(inode);
	}
	setattr_copy(idmap, inode, attr);
	return 0;
}

int kvfs_op_getattr(kvfs_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		    unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	int err = kvfs_alive(inode->i_sb);
	u64 size = 0;

	if (err)
		return err;
	if (kvfs_is_key(inode)) {
		err = kvfs_node_size(kvfs_of(inode), kvfs_node_of(inode), &size);
		if (err && err != -ESTALE)
			return err;
	}
	kvfs_fillattr(idmap, mask, inode, stat);
	stat->size = (loff_t)size;
	stat->blocks = (size + 511) >> 9;
	/* cp and cat then give a value to one write(2). */
	stat->blksize = KVFS_IO_BYTES;
	return 0;
}

const struct inode_operations kvfs_file_inode_operations = {
	.setattr = kvfs_op_setattr,
	.getattr = kvfs_op_getattr,
};
