/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_dir.c - open directories. Positions are those of the view: an entry's is one more than that of the
 * entry before it, and 0 and 1 are "." and "..".
 */
#include <stdlib.h>
#include <string.h>

#include "mount.h"

#define READDIR_BYTES_MAX (1u << 16)

struct mount_dir {
	struct mount_dir *next, *prev; /* nodes_lock of the mount */
	struct kvp_mutex lock;	       /* one reader at a time */
	struct kvfs_dir *dir;
};

/* What an answer is put together from. */
struct listing {
	fuse_req_t req;
	char *buf;
	size_t used, room;
	u64 next; /* position behind the entry that comes */
};

static void dir_close(struct mount *m, struct mount_dir *d)
{
	kvp_mutex_lock(&m->nodes_lock);
	if (d->next)
		d->next->prev = d->prev;
	if (d->prev)
		d->prev->next = d->next;
	else
		m->dirs = d->next;
	kvp_mutex_unlock(&m->nodes_lock);
	kvfs_dir_close(d->dir);
	kvp_mutex_destroy(&d->lock);
	kvp_free(d);
}

void mount_op_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct mount_dir *d = kvp_alloc(sizeof(*d), KVP_ZERO);
	int err;

	if (!d) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	err = kvfs_dir_open(&m->fs, mount_tree_of(mount_node_of(m, number)), &d->dir);
	if (err) {
		kvp_free(d);
		fuse_reply_err(req, -err);
		return;
	}
	kvp_mutex_init(&d->lock, "mount directory", MOUNT_RANK_FILE);
	kvp_mutex_lock(&m->nodes_lock);
	d->next = m->dirs;
	if (d->next)
		d->next->prev = d;
	m->dirs = d;
	kvp_mutex_unlock(&m->nodes_lock);
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi))
		dir_close(m, d);
}

void mount_op_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	(void)number;
	dir_close(mount_of(req), (struct mount_dir *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

void mount_dirs_close(struct mount *m)
{
	while (m->dirs)
		dir_close(m, m->dirs);
}

static bool emit(void *arg, const char *name, u32 name_len, u64 ino, enum kvfs_kind kind)
{
	struct listing *l = arg;
	struct stat st = { .st_ino = ino, .st_mode = kind == KVFS_TREE ? S_IFDIR : S_IFREG };
	char text[KVFS_NAME_MAX + 1];
	size_t bytes;

	memcpy(text, name, name_len);
	text[name_len] = 0;
	bytes = fuse_add_direntry(l->req, l->buf + l->used, l->room - l->used, text, &st, (off_t)l->next);
	if (bytes > l->room - l->used)
		return false;
	l->used += bytes;
	l->next++;
	return true;
}

void mount_op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct mount_dir *d = (struct mount_dir *)(uintptr_t)fi->fh;
	struct listing l = { .req = req, .next = (u64)off + 1 };
	u64 ino = kvfs_tree_ino(mount_tree_of(mount_node_of(m, number))), pos = (u64)off;
	int err = 0;

	l.room = size < READDIR_BYTES_MAX ? size : READDIR_BYTES_MAX;
	l.buf = malloc(l.room);
	if (!l.buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (pos == 0 && emit(&l, ".", 1, ino, KVFS_TREE))
		pos++;
	if (pos == 1 && emit(&l, "..", 2, KVFS_ROOT_INO, KVFS_TREE))
		pos++;
	if (pos >= 2) {
		kvp_mutex_lock(&d->lock);
		err = kvfs_dir_read(d->dir, &pos, emit, &l);
		kvp_mutex_unlock(&d->lock);
	}
	/* what was read before an error is given first; the error comes again */
	if (err && !l.used)
		fuse_reply_err(req, -err);
	else
		fuse_reply_buf(req, l.buf, l.used);
	free(l.buf);
}
