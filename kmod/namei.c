// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * namei.c - names: looking up, making, deleting and renaming. The VFS holds i_rwsem of the directories.
 */
#include <linux/namei.h>

#include "kvfs_kernel.h"

static kv_tree *tree_of(struct inode *dir)
{
	return kvfs_inode_of(dir)->tree;
}

/*
 * What is not there leaves no trace: only who is about to make the name, and holds the directory
 * exclusively, gets a negative dentry, which goes with its last user.
 */
static struct dentry *kvfs_op_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct kvfs_found found;
	struct inode *inode;
	int err = kvfs_alive(dir->i_sb);

	if (!err)
		err = kvfs_lookup(kvfs_of(dir), tree_of(dir), dentry->d_name.name, dentry->d_name.len,
				  &found);
	if (err == -ENOENT && flags & (LOOKUP_CREATE | LOOKUP_RENAME_TARGET))
		return d_splice_alias(NULL, dentry);
	if (err)
		return ERR_PTR(err);
	inode = kvfs_inode_get(dir, &found);
	if (found.kind == KVFS_KEY)
		kvp_free(found.key);
	return d_splice_alias(inode, dentry);
}

static int kvfs_op_delete_dentry(const struct dentry *dentry)
{
	return d_really_is_negative(dentry);
}

const struct dentry_operations kvfs_dentry_operations = {
	.d_delete = kvfs_op_delete_dentry,
};

static int kvfs_op_create(kvfs_idmap *idmap, struct inode *dir, struct dentry *dentry,
			  umode_t mode KVFS_CREATE_EXCL)
{
	struct kvfs *fs = kvfs_of(dir);
	struct kvfs_found found;
	struct inode *inode;
	int err = kvfs_alive(dir->i_sb);

	if (!err)
		err = kvfs_create(fs, tree_of(dir), dentry->d_name.name, dentry->d_name.len, &found);
	if (err)
		return err;
	inode = kvfs_inode_get(dir, &found);
	if (IS_ERR(inode)) {
		/* Not made: then it is not there. */
		(void)kv_del(fs->db, tree_of(dir), found.key, found.key_len, 0);
		err = PTR_ERR(inode);
	} else {
		kvfs_touch(dir);
		d_instantiate(dentry, inode);
	}
	kvp_free(found.key);
	return err;
}

static int kvfs_op_unlink(struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);
	int err = kvfs_alive(dir->i_sb);

	if (!err && !kvfs_is_key(inode))
		err = -EPERM;
	if (!err)
		err = kvfs_unlink(kvfs_of(dir), kvfs_node_of(inode));
	if (err)
		return err;
	kvfs_inode_dead(inode);
	kvfs_touch(inode);
	kvfs_touch(dir);
	return 0;
}

/* The VFS holds i_rwsem of what is renamed and of what it replaces, too. */
static int kvfs_op_rename(kvfs_idmap *idmap, struct inode *old_dir, struct dentry *old_dentry,
			  struct inode *new_dir, struct dentry *new_dentry, unsigned int flags)
{
	struct inode *inode = d_inode(old_dentry), *victim = d_inode(new_dentry);
	struct kvfs_node *node = kvfs_node_of(inode);
	int err = kvfs_alive(old_dir->i_sb);

	if (!err && flags & ~(unsigned int)RENAME_NOREPLACE)
		err = -EINVAL;
	if (!err && (!kvfs_is_key(inode) || (victim && !kvfs_is_key(victim))))
		err = -EPERM;
	if (!err)
		err = kvfs_rename(kvfs_of(old_dir), node, tree_of(new_dir), new_dentry->d_name.name,
				  new_dentry->d_name.len, victim ? kvfs_node_of(victim) : NULL,
				  flags & RENAME_NOREPLACE);
	if (err)
		return err;
	if (victim)
		kvfs_inode_dead(victim);
	/* Another key: another place in the cache, and another number. */
	remove_inode_hash(inode);
	inode->i_ino = kvfs_ino(node->tree, node->key, node->key_len);
	__insert_inode_hash(inode, inode->i_ino);
	kvfs_touch(old_dir);
	kvfs_touch(new_dir);
	return 0;
}

static int tree_make(struct inode *dir, struct dentry *dentry)
{
	struct kvfs_found found = { .kind = KVFS_TREE };
	struct inode *inode;
	int err = kvfs_alive(dir->i_sb);

	if (!err && dir != d_inode(dir->i_sb->s_root))
		err = -EPERM;
	if (!err)
		err = kvfs_mkdir(kvfs_of(dir), dentry->d_name.name, dentry->d_name.len, &found.tree);
	if (err)
		return err;
	inode = kvfs_inode_get(dir, &found);
	if (IS_ERR(inode)) {
		(void)kvfs_rmdir(kvfs_of(dir), found.tree);
		return PTR_ERR(inode);
	}
	kvfs_touch(dir);
	d_instantiate(dentry, inode);
	return 0;
}

static kvfs_mkdir_result kvfs_op_mkdir(kvfs_idmap *idmap, struct inode *dir, struct dentry *dentry,
				       umode_t mode)
{
	return kvfs_mkdir_return(tree_make(dir, dentry));
}

/* The VFS holds i_rwsem of the tree's directory too: nobody makes a key in it meanwhile. */
static int kvfs_op_rmdir(struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);
	int err = kvfs_alive(dir->i_sb);

	if (!err)
		err = kvfs_rmdir(kvfs_of(dir), tree_of(inode));
	if (err)
		return err;
	kvfs_inode_dead(inode);
	kvfs_touch(dir);
	return 0;
}

const struct inode_operations kvfs_dir_inode_operations = {
	.lookup = kvfs_op_lookup,
	.create = kvfs_op_create,
	.unlink = kvfs_op_unlink,
	.rename = kvfs_op_rename,
	.mkdir = kvfs_op_mkdir,
	.rmdir = kvfs_op_rmdir,
	.setattr = kvfs_op_setattr,
	.getattr = kvfs_op_getattr,
};
