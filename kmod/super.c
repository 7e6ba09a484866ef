// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * super.c - one mount: opening and closing the volume, sync, freeze, remount, shutdown, statfs.
 *
 * Making volumes is never the kernel's: a device without one is refused with a hint.
 */
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "kvfs_kernel.h"
#include "../format/kvf.h"

/* ---- shutdown ------------------------------------------------------------------------------------- */

/* A device that is gone: what the engine does in the background ends there, too. */

static int dead_read(struct kvp_dev *dev, u64 off, void *buf, u32 len)
{
	return -KVE_io_read;
}

static int dead_write(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	return -KVE_io_write;
}

static int dead_batch(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		ios[i].result = ios[i].op == KVP_IO_READ ? -KVE_io_read : -KVE_io_write;
	return n ? ios[0].result : 0;
}

static int dead_flush(struct kvp_dev *dev)
{
	return -KVE_io_flush;
}

static int dead_allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	return -KVE_io;
}

static int dead_discard(struct kvp_dev *dev, u64 off, u64 len)
{
	return -KVE_io;
}

static int dead_resize(struct kvp_dev *dev, u64 size)
{
	return -KVE_io;
}

static int dead_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	return -KVE_io;
}

static int dead_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	return -KVE_io;
}

/* Not closed by these: the ones it was opened with are put back before. */
static const struct kvp_dev_ops dead_ops = {
	.read = dead_read,
	.write = dead_write,
	.batch = dead_batch,
	.flush = dead_flush,
	.allocate = dead_allocate,
	.discard = dead_discard,
	.resize = dead_resize,
	.window_map = dead_window_map,
	.window_store = dead_window_store,
};

int kvfs_shutdown(struct super_block *sb, bool sync)
{
	struct kvfs_super *s = kvfs_super_of(sb);
	int err = 0;

	mutex_lock(&s->down_lock);
	if (!s->down) {
		if (sync && !sb_rdonly(sb))
			err = kvfs_errno(kv_sync(s->fs.db));
		WRITE_ONCE(s->down, true);
		WRITE_ONCE(s->dev->ops, &dead_ops);
		pr_notice("kvfs: %s: shut down; nothing more is written until it is unmounted\n", sb->s_id);
	}
	mutex_unlock(&s->down_lock);
	return err;
}

/* ---- opening and closing the volume --------------------------------------------------------------- */

static int open_failed(struct super_block *sb, struct fs_context *fc, int err)
{
	switch (err) {
	case -KVE_empty:
		errorfc(fc, "%s: no kvs volume; make one with 'kvs create DEVICE'", sb->s_id);
		return -ENODEV;
	case -KVE_not_volume:
	case -KVE_foreign:
		errorfc(fc, "%s: no kvs volume, but something else; make one with 'kvs create DEVICE'",
			sb->s_id);
		return -EINVAL;
	default:
		errorfc(fc, "%s: %s", sb->s_id, kvf_err_text(err));
		return kvp_errno(err);
	}
}

/* -EROFS, and says why: an error, or a feature that is newer, does not let us write. */
static int check_writable(struct kvfs_super *s, struct fs_context *fc)
{
	kv_health_info *health = kmalloc(sizeof(*health), GFP_KERNEL);
	int err;

	if (!health)
		return -ENOMEM;
	err = kvfs_errno(kv_health(s->fs.db, health));
	if (!err && !health->writable) {
		warnfc(fc, "%s: read-only: %s", s->sb->s_id, health->reason);
		err = -EROFS;
	}
	kfree(health);
	return err;
}

static void volume_close(struct kvfs_super *s)
{
	int err = 0;

	if (s->down)
		kve_abandon(s->fs.db);
	else
		err = kve_close(s->fs.db);
	if (err)
		pr_err("kvfs: %s: closing: %s; the next mount replays what was synced\n", s->sb->s_id,
		       kvf_err_text(err));
	if (err == -KVE_in_use)
		kve_abandon(s->fs.db);
	s->dev->ops = s->dev_ops;
	kvp_dev_close(s->dev);
}

static int volume_open(struct super_block *sb, struct fs_context *fc)
{
	struct kvfs_super *s = kvfs_super_of(sb);
	kv_options opt = KV_OPTIONS_INIT;
	int err;

	opt.cache_bytes = s->opt.cache_bytes;
	opt.durability = s->opt.durability;
	if (kvp_fixed())
		opt.flags |= KV_OPEN_NOTHREAD;
	s->opened_read_only = sb_rdonly(sb);
	if (s->opened_read_only)
		opt.flags |= KV_OPEN_READONLY;
	err = kvp_bdev_open(&s->dev, sb->s_bdev, s->opened_read_only);
	if (err)
		return open_failed(sb, fc, err);
	s->dev_ops = s->dev->ops;
	err = kve_open(s->dev, &opt, &s->fs.db);
	if (err) {
		kvp_dev_close(s->dev);
		return open_failed(sb, fc, err);
	}
	if (!s->opened_read_only)
		err = check_writable(s, fc);
	if (err == -EROFS) {
		sb->s_flags |= SB_RDONLY;
		s->opened_read_only = true;
		err = 0;
	}
	if (err)
		volume_close(s);
	return err;
}

static void kvfs_op_put_super(struct super_block *sb)
{
	struct kvfs_super *s = kvfs_super_of(sb);

	kvfs_sysfs_remove(s);
	volume_close(s);
}

/* ---- all of it ------------------------------------------------------------------------------------ */

static int kvfs_op_sync_fs(struct super_block *sb, int wait)
{
	int err = kvfs_alive(sb);

	if (err || !wait || sb_rdonly(sb))
		return err;
	return kvfs_errno(kv_sync(kvfs_super_of(sb)->fs.db));
}

/* The VFS keeps changes away; what the engine deletes in the background waits, too. */
static int kvfs_op_freeze_fs(struct super_block *sb)
{
	kv_db *db = kvfs_super_of(sb)->fs.db;
	int err = kvfs_alive(sb);

	if (err)
		return err;
	kve_worker_pause(db);
	err = kvfs_errno(kv_checkpoint(db));
	if (err)
		kve_worker_resume(db);
	return err;
}

static int kvfs_op_unfreeze_fs(struct super_block *sb)
{
	kve_worker_resume(kvfs_super_of(sb)->fs.db);
	return 0;
}

static int kvfs_op_statfs(struct dentry *dentry, struct kstatfs *st)
{
	struct super_block *sb = dentry->d_sb;
	kv_stat_info info;
	u64 free;
	int err = kvfs_alive(sb);

	if (!err)
		err = kvfs_errno(kv_stat(kvfs_super_of(sb)->fs.db, &info));
	if (err)
		return err;
	free = info.segments_free * info.segment_bytes / KVFS_BLOCK;
	st->f_type = KVFS_MAGIC;
	st->f_bsize = KVFS_BLOCK;
	st->f_blocks = info.volume_bytes / KVFS_BLOCK;
	st->f_bfree = free;
	st->f_bavail = free;
	st->f_files = info.entries;
	st->f_ffree = 0; /* as many as there is room for */
	st->f_fsid = uuid_to_fsid(info.uuid);
	st->f_namelen = KVFS_NAME_MAX;
	return 0;
}

static const char *durability_name(int durability)
{
	return durability == KV_SYNCED ? "synced" : "memory";
}

static int kvfs_op_show_options(struct seq_file *m, struct dentry *root)
{
	const struct kvfs_super *s = kvfs_super_of(root->d_sb);

	seq_printf(m, ",uid=%u,gid=%u,fmode=%03o,dmode=%03o", from_kuid_munged(&init_user_ns, s->opt.uid),
		   from_kgid_munged(&init_user_ns, s->opt.gid), s->opt.fmode, s->opt.dmode);
	if (s->opt.cache_bytes)
		seq_printf(m, ",cache=%llu", s->opt.cache_bytes);
	seq_printf(m, ",durability=%s,write=%s", durability_name(s->fs.durability),
		   s->fs.stream ? "stream" : "set");
	if (s->fs.strip_nl)
		seq_puts(m, ",strip_nl");
	return 0;
}

#ifdef KV_HAVE_SB_SHUTDOWN
/* The device is gone. */
static void kvfs_op_shutdown(struct super_block *sb)
{
	(void)kvfs_shutdown(sb, false);
}
#endif

static const struct super_operations kvfs_super_operations = {
	.alloc_inode = kvfs_inode_alloc,
	.free_inode = kvfs_inode_free,
	.put_super = kvfs_op_put_super,
	.sync_fs = kvfs_op_sync_fs,
	.freeze_fs = kvfs_op_freeze_fs,
	.unfreeze_fs = kvfs_op_unfreeze_fs,
	.statfs = kvfs_op_statfs,
	.show_options = kvfs_op_show_options,
#ifdef KV_HAVE_SB_SHUTDOWN
	.shutdown = kvfs_op_shutdown,
#endif
};

/* ---- remount -------------------------------------------------------------------------------------- */

static int to_read_write(struct kvfs_super *s, struct fs_context *fc)
{
	int err;

	if (s->opened_read_only) {
		errorfc(fc, "%s: was opened read-only; unmount it and mount it again", s->sb->s_id);
		return -EROFS;
	}
	err = kvfs_alive(s->sb);
	return err ? err : check_writable(s, fc);
}

static int options_fixed(struct kvfs_super *s, struct fs_context *fc, const struct kvfs_options *opt)
{
	if (!uid_eq(opt->uid, s->opt.uid) || !gid_eq(opt->gid, s->opt.gid) || opt->fmode != s->opt.fmode ||
	    opt->dmode != s->opt.dmode)
		return invalfc(fc, "uid, gid, fmode and dmode cannot be changed by a remount");
	if (opt->cache_bytes != s->opt.cache_bytes)
		return invalfc(fc, "cache cannot be changed by a remount");
	return 0;
}

int kvfs_remount(struct super_block *sb, struct fs_context *fc, const struct kvfs_options *opt)
{
	struct kvfs_super *s = kvfs_super_of(sb);
	bool was = sb_rdonly(sb), now = fc->sb_flags_mask & SB_RDONLY ? fc->sb_flags & SB_RDONLY : was;
	int err = options_fixed(s, fc, opt);

	if (!err && was && !now)
		err = to_read_write(s, fc);
	if (!err && !was)
		err = sync_filesystem(sb);
	/* Whoever reads the device next has nothing to replay. */
	if (!err && !was && now)
		err = kvfs_errno(kv_checkpoint(s->fs.db));
	if (err)
		return err;
	WRITE_ONCE(s->fs.durability, opt->durability);
	WRITE_ONCE(s->fs.stream, opt->stream);
	WRITE_ONCE(s->fs.strip_nl, opt->strip_nl);
	return 0;
}

/* ---- mounting ------------------------------------------------------------------------------------- */

static void super_init(struct super_block *sb)
{
	sb->s_magic = KVFS_MAGIC;
	sb->s_op = &kvfs_super_operations;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_flags |= SB_NOATIME | SB_NOSUID | SB_NODEV | SB_NOEXEC;
	sb->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	kvfs_dentries_init(sb, &kvfs_dentry_operations);
}

static int limits_read(struct kvfs_super *s)
{
	kv_stat_info info;
	int err = kvfs_errno(kv_stat(s->fs.db, &info));

	s->fs.key_max = info.key_max;
	return err;
}

/* With a root the VFS calls ->put_super(). */
static int root_make(struct super_block *sb)
{
	struct inode *root = kvfs_root(sb);

	/* d_make_root() takes NULL for a missing inode, and nothing else. */
	if (IS_ERR(root))
		return PTR_ERR(root);
	sb->s_root = d_make_root(root);
	return sb->s_root ? 0 : -ENOMEM;
}

int kvfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	const struct kvfs_options *opt = fc->fs_private;
	struct kvfs_super *s = kzalloc(sizeof(*s), GFP_KERNEL);
	int err;

	if (!s)
		return -ENOMEM;
	s->sb = sb;
	s->opt = *opt;
	s->fs.stream = opt->stream;
	s->fs.strip_nl = opt->strip_nl;
	s->fs.durability = opt->durability;
	mutex_init(&s->down_lock);
	sb->s_fs_info = s; /* freed by kvfs_kill_sb() */
	if (!sb_set_blocksize(sb, KVFS_BLOCK)) {
		errorfc(fc, "%s: sectors larger than %u bytes", sb->s_id, KVFS_BLOCK);
		return -EINVAL;
	}
	super_init(sb);
	err = volume_open(sb, fc);
	if (err)
		return err;
	err = limits_read(s);
	if (!err)
		err = kvfs_sysfs_add(s);
	if (err)
		goto fail_volume;
	err = root_make(sb);
	if (err)
		goto fail_sysfs;
	return 0;

fail_sysfs:
	kvfs_sysfs_remove(s);
fail_volume:
	volume_close(s);
	return err;
}

void kvfs_kill_sb(struct super_block *sb)
{
	struct kvfs_super *s = kvfs_super_of(sb);

	kill_block_super(sb);
	kfree(s);
}
