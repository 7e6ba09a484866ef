/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_names.c - requests about names: lookup, create, mkdir, unlink, rmdir, rename, and the commands that
 * come through the control files.
 *
 * Who deletes a key holds its node, and who makes a node sees that its key is there once the node can be
 * found (mount_node_found); so no node outlives its key unmarked.
 */
#include <fcntl.h>
#include <string.h>

#include <linux/fs.h> /* RENAME_NOREPLACE */

#include "mount.h"

static void reply_error(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

/* Node of a name in a directory, with a reference. With moves held. */
static int node_by_name(struct mount *m, struct mount_node *dir, const char *name, struct mount_node **out)
{
	struct kvfs_found found;
	int err;

	err = kvfs_lookup(&m->fs, mount_tree_of(dir), name, (u32)strlen(name), &found);
	return err ? err : mount_node_found(m, mount_tree_of(dir), &found, out);
}

/* The entry of a node for an answer; its reference becomes the kernel's. On an error it is put. */
static int entry_of(struct mount *m, struct mount_node *n, struct fuse_entry_param *e)
{
	int err;

	memset(e, 0, sizeof(*e));
	err = mount_node_attr(m, n, &e->attr);
	if (err) {
		mount_node_put(m, n);
		return err == -ESTALE ? -ENOENT : err;
	}
	e->ino = mount_number_of(m, n);
	mount_node_known(m, n);
	return 0;
}

static void reply_entry(fuse_req_t req, struct mount_node *n)
{
	struct mount *m = mount_of(req);
	struct fuse_entry_param e;
	int err = entry_of(m, n, &e);

	if (err)
		reply_error(req, err);
	else if (fuse_reply_entry(req, &e))
		mount_node_forget(m, n, 1); /* who asked was interrupted */
}

void mount_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = mount_of(req);
	struct mount_node *n;
	int err;

	kvp_rwsem_down_read(&m->moves);
	err = node_by_name(m, mount_node_of(m, parent), name, &n);
	kvp_rwsem_up_read(&m->moves);
	if (err)
		reply_error(req, err);
	else
		reply_entry(req, n);
}

/* ---- new names ------------------------------------------------------------------------------- */

#define MAKE_TRIES 16 /* it is there, it is not there: somebody makes and deletes it all the time */

/* exclusive: -EEXIST when it is there; else it is what is there. */
static int make_key(struct mount *m, struct mount_node *dir, const char *name, bool exclusive,
		    struct mount_node **out)
{
	struct kvfs_found found;
	bool there = true;
	int err = -EAGAIN, tries;

	for (tries = 0; tries < MAKE_TRIES && err && there; tries++) {
		kvp_rwsem_down_read(&m->moves);
		err = kvfs_create(&m->fs, mount_tree_of(dir), name, (u32)strlen(name), &found);
		there = err == -EEXIST && !exclusive;
		if (!err)
			err = mount_node_found(m, mount_tree_of(dir), &found, out);
		else if (there)
			err = node_by_name(m, dir, name, out);
		kvp_rwsem_up_read(&m->moves);
	}
	if (!err)
		mount_node_touch(m, *out, NULL);
	return err;
}

void mount_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct fuse_entry_param e;
	struct mount_file *f;
	struct mount_node *n;
	int err;

	(void)mode;
	err = make_key(m, mount_node_of(m, parent), name, fi->flags & O_EXCL, &n);
	if (!err && n->kind != KVFS_KEY) {
		/* between the kernel's lookup and this a tree of that name was made */
		err = n->kind == KVFS_TREE ? -EISDIR : -EPERM;
		mount_node_put(m, n);
	} else if (!err) {
		err = mount_file_open(m, n, fi->flags, &f);
		if (err)
			mount_node_put(m, n);
	}
	if (!err) {
		err = entry_of(m, n, &e);
		if (err)
			mount_file_close(m, f);
	}
	if (err) {
		reply_error(req, err);
		return;
	}
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	if (fuse_reply_create(req, &e, fi)) {
		mount_file_close(m, f);
		mount_node_forget(m, n, 1);
	}
}

void mount_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	struct mount *m = mount_of(req);
	struct mount_node *n;
	int err;

	(void)dev;
	if (!S_ISREG(mode)) {
		reply_error(req, -EPERM);
		return;
	}
	err = make_key(m, mount_node_of(m, parent), name, true, &n);
	if (err)
		reply_error(req, err);
	else
		reply_entry(req, n);
}

void mount_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct mount *m = mount_of(req);
	struct kvfs_found found = { .kind = KVFS_TREE };
	struct mount_node *n;
	int err;

	(void)mode;
	if (parent != FUSE_ROOT_ID) {
		reply_error(req, -EPERM);
		return;
	}
	kvp_rwsem_down_read(&m->moves);
	err = kvfs_mkdir(&m->fs, name, (u32)strlen(name), &found.tree);
	if (!err)
		err = mount_node_found(m, NULL, &found, &n);
	kvp_rwsem_up_read(&m->moves);
	if (err)
		reply_error(req, err);
	else
		reply_entry(req, n);
}

/* ---- names that go --------------------------------------------------------------------------- */

void mount_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = mount_of(req);
	struct mount_node *n;
	int err;

	kvp_rwsem_down_read(&m->moves);
	err = node_by_name(m, mount_node_of(m, parent), name, &n);
	if (!err) {
		if (n->kind != KVFS_KEY)
			err = n->kind == KVFS_TREE ? -EISDIR : -EPERM;
		else
			err = kvfs_unlink(&m->fs, &n->key);
		if (!err)
			mount_node_detach(m, n);
		mount_node_put(m, n);
	}
	kvp_rwsem_up_read(&m->moves);
	reply_error(req, err == -ESTALE ? -ENOENT : err);
}

void mount_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = mount_of(req);
	struct mount_node *n;
	int err;

	kvp_rwsem_down_read(&m->moves);
	err = node_by_name(m, mount_node_of(m, parent), name, &n);
	if (!err) {
		err = n->kind == KVFS_TREE ? kvfs_rmdir(&m->fs, n->tree) : -ENOTDIR;
		if (!err)
			mount_node_detach(m, n);
		mount_node_put(m, n);
	}
	kvp_rwsem_up_read(&m->moves);
	reply_error(req, err);
}

/* A key over a key or over nothing. With moves held exclusively. */
static int rename_key(struct mount *m, struct mount_node *n, struct mount_node *dir, const char *name,
		      bool no_replace)
{
	struct mount_node *victim = NULL;
	int err;

	err = node_by_name(m, dir, name, &victim);
	if (err && err != -ENOENT)
		return err;
	if (victim && no_replace)
		err = -EEXIST;
	else if (victim && victim->kind != KVFS_KEY)
		err = victim->kind == KVFS_TREE ? -EISDIR : -EPERM;
	else if (victim == n)
		err = 0;
	else {
		err = kvfs_rename(&m->fs, &n->key, mount_tree_of(dir), name, (u32)strlen(name),
				  victim ? &victim->key : NULL, no_replace);
		if (!err) {
			if (victim)
				mount_node_detach(m, victim);
			mount_node_moved(m, n);
		}
	}
	if (victim)
		mount_node_put(m, victim);
	return err;
}

void mount_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		     const char *new_name, unsigned int flags)
{
	struct mount *m = mount_of(req);
	struct mount_node *n;
	int err;

	if (flags & ~(unsigned int)RENAME_NOREPLACE) {
		reply_error(req, -EINVAL);
		return;
	}
	kvp_rwsem_down_write(&m->moves);
	err = node_by_name(m, mount_node_of(m, parent), name, &n);
	if (!err) {
		err = -EPERM; /* of trees and control files */
		if (n->kind == KVFS_KEY)
			err = rename_key(m, n, mount_node_of(m, new_parent), new_name,
					 flags & RENAME_NOREPLACE);
		mount_node_put(m, n);
	}
	kvp_rwsem_up_write(&m->moves);
	reply_error(req, err == -ESTALE ? -ENOENT : err);
}

/* ---- control files --------------------------------------------------------------------------- */

int mount_command(struct mount *m, struct mount_node *n, const void *data, size_t len)
{
	struct mount_node *key;
	int key_len, err;

	key_len = kvfs_control_key(&m->fs, data, len);
	if (key_len < 0)
		return key_len;
	kvp_rwsem_down_read(&m->moves);
	err = mount_node_key(m, n->tree, data, (u32)key_len, &key);
	if (!err) {
		err = kvfs_control(&m->fs, n->tree, n->control, data, (u32)key_len, &key->key);
		if (!err && n->control == KVFS_DEL)
			mount_node_detach(m, key);
		if (!err)
			mount_node_touch(m, key, NULL);
		mount_node_put(m, key);
	}
	kvp_rwsem_up_read(&m->moves);
	return err;
}
