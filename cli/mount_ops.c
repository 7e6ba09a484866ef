/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_ops.c - the table of requests, and those about attributes, open files and the whole volume.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "mount.h"

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct mount *m = arg;

	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
	conn->want &= ~(unsigned int)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
				      FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_write = m->piece_bytes;
	if (!kvs_given(m->kvs, OPT_BIT(FOREGROUND)))
		mount_daemon_ready();
}

static void op_forget(fuse_req_t req, fuse_ino_t number, uint64_t lookups)
{
	struct mount *m = mount_of(req);

	mount_node_forget(m, mount_node_of(m, number), lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t nr, struct fuse_forget_data *forgets)
{
	struct mount *m = mount_of(req);
	size_t i;

	for (i = 0; i < nr; i++)
		mount_node_forget(m, mount_node_of(m, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void reply_attr(fuse_req_t req, struct mount_node *n)
{
	struct stat st;
	int err = mount_node_attr(mount_of(req), n, &st);

	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_attr(req, &st, 0);
}

static void op_getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, mount_node_of(mount_of(req), number));
}

/* Owner and mode are those of the mount: setting them to what they are is no error. */
static int set_owner_and_mode(struct mount *m, struct mount_node *n, const struct stat *to, int what)
{
	struct stat st;
	int err;

	if (!(what & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		return 0;
	err = mount_node_attr(m, n, &st);
	if (err)
		return err;
	if (((what & FUSE_SET_ATTR_MODE) && (to->st_mode & 07777) != (st.st_mode & 07777)) ||
	    ((what & FUSE_SET_ATTR_UID) && to->st_uid != st.st_uid) ||
	    ((what & FUSE_SET_ATTR_GID) && to->st_gid != st.st_gid))
		return -EPERM;
	return 0;
}

static int set_size(struct mount *m, struct mount_node *n, u64 size, struct fuse_file_info *fi)
{
	int err;

	if (n->kind == KVFS_TREE)
		return -EISDIR;
	if (n->kind == KVFS_CONTROL) /* "echo key > _mk" truncates first */
		return 0;
	if (fi && fi->fh)
		err = mount_file_truncate(m, (struct mount_file *)(uintptr_t)fi->fh, size);
	else
		err = kvfs_node_truncate(&m->fs, &n->key, size);
	if (!err)
		mount_node_touch(m, n, NULL);
	return err;
}

static void op_setattr(fuse_req_t req, fuse_ino_t number, struct stat *to, int what,
		       struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct mount_node *n = mount_node_of(m, number);
	int err;

	err = set_owner_and_mode(m, n, to, what);
	if (!err && (what & FUSE_SET_ATTR_SIZE))
		err = set_size(m, n, (u64)to->st_size, fi);
	if (!err && (what & FUSE_SET_ATTR_MTIME))
		mount_node_touch(m, n, what & FUSE_SET_ATTR_MTIME_NOW ? NULL : &to->st_mtim);
	if (err)
		fuse_reply_err(req, -err);
	else
		reply_attr(req, n);
}

/* ---- open files; fh is 0 for control files --------------------------------------------------- */

static struct mount_file *file_of(const struct fuse_file_info *fi)
{
	return (struct mount_file *)(uintptr_t)fi->fh;
}

static void op_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct mount_node *n = mount_node_of(m, number);
	struct mount_file *f = NULL;
	int err = 0;

	if (n->kind == KVFS_KEY)
		err = mount_file_open(m, n, fi->flags, &f);
	else
		fi->nonseekable = 1;
	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	if (fuse_reply_open(req, fi) && f)
		mount_file_close(m, f);
}

static void op_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	void *buf;
	long got;

	(void)number;
	if (!fi->fh) {
		fuse_reply_err(req, ENXIO);
		return;
	}
	buf = malloc(size ? size : 1);
	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	got = mount_file_read(m, file_of(fi), (u64)off, buf, size);
	if (got < 0)
		fuse_reply_err(req, (int)-got);
	else
		fuse_reply_buf(req, buf, (size_t)got);
	free(buf);
}

static void op_write(fuse_req_t req, fuse_ino_t number, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	long done;

	if (fi->fh) {
		done = mount_file_write(m, file_of(fi), (u64)off, buf, size);
	} else {
		done = mount_command(m, mount_node_of(m, number), buf, size);
		if (!done)
			done = (long)size;
	}
	if (done < 0)
		fuse_reply_err(req, (int)-done);
	else
		fuse_reply_write(req, (size_t)done);
}

static void op_flush(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	(void)number;
	if (fi->fh)
		fuse_reply_err(req, -mount_file_flush(mount_of(req), file_of(fi), fuse_req_ctx(req)->pid));
	else
		fuse_reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	(void)number;
	if (fi->fh)
		mount_file_close(mount_of(req), file_of(fi));
	fuse_reply_err(req, 0);
}

static int sync_volume(struct mount *m)
{
	return kvfs_errno(kv_sync(m->fs.db));
}

static void op_fsync(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);

	(void)number;
	(void)datasync;
	fuse_reply_err(req, fi->fh ? -mount_file_sync(m, file_of(fi)) : -sync_volume(m));
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *fi)
{
	(void)number;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, -sync_volume(mount_of(req)));
}

/*
 * The kernel would otherwise copy through a pipe, in pieces of 64 KiB that are a SET each. cp and the
 * like read and write instead.
 */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off,
			       struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_off,
			       struct fuse_file_info *to_fi, size_t len, int flags)
{
	(void)from;
	(void)from_off;
	(void)from_fi;
	(void)to;
	(void)to_off;
	(void)to_fi;
	(void)len;
	(void)flags;
	fuse_reply_err(req, EINVAL);
}

/* ---- the volume ------------------------------------------------------------------------------ */

/*
 * Room: free segments, and what the image may grow by: up to its limit, and to that of the file system
 * that it is in. What freed segments still wait for a checkpoint counts as free.
 */
static void op_statfs(fuse_req_t req, fuse_ino_t number)
{
	struct mount *m = mount_of(req);
	struct statvfs out = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = KVFS_NAME_MAX };
	struct statvfs host;
	kv_stat_info s;
	struct stat st;
	u64 grow = 0, room;
	int err = kv_stat(m->fs.db, &s);

	(void)number;
	if (err) {
		fuse_reply_err(req, -kvfs_errno(err));
		return;
	}
	if (!stat(m->image, &st) && S_ISREG(st.st_mode) && !statvfs(m->image, &host)) {
		grow = (u64)host.f_bavail * host.f_frsize;
		if (s.max_bytes) {
			room = s.max_bytes > s.volume_bytes ? s.max_bytes - s.volume_bytes : 0;
			grow = grow < room ? grow : room;
		}
	}
	room = s.segments_free * s.segment_bytes + s.pending_free_bytes + grow;
	out.f_blocks = (s.volume_bytes + grow) / 4096;
	out.f_bfree = out.f_bavail = room / 4096 < out.f_blocks ? room / 4096 : out.f_blocks;
	out.f_files = s.entries;
	out.f_flag = m->opt.readonly ? ST_RDONLY : 0;
	fuse_reply_statfs(req, &out);
}

/* ---- what there is not ----------------------------------------------------------------------- */

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t number, fuse_ino_t parent, const char *name)
{
	(void)number;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops mount_ops = {
	.init = op_init,
	.lookup = mount_op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = mount_op_mknod,
	.mkdir = mount_op_mkdir,
	.unlink = mount_op_unlink,
	.rmdir = mount_op_rmdir,
	.symlink = op_symlink,
	.rename = mount_op_rename,
	.link = op_link,
	.open = op_open,
	.create = mount_op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = mount_op_opendir,
	.readdir = mount_op_readdir,
	.releasedir = mount_op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.copy_file_range = op_copy_file_range,
};
