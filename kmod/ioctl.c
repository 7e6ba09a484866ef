// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ioctl.c - ioctls, on directories and files alike: they act on the tree of the directory. See
 * kvfs_ioctl.h; SCAN is in scan.c.
 *
 * Users' memory is copied before any lock is taken and after all are given up. Directories cannot be
 * opened for writing, so what changes keys asks for permission on the directory, as creat(2) and
 * unlink(2) do, and for that of all keys, as open(2) does.
 */
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "ioctl.h"

/* FS_IOC_SHUTDOWN, which has become common to file systems, and how it is asked to treat what is pending. */
#define SHUTDOWN_COMMON _IOR('X', 125, __u32)
#define SHUTDOWN_SYNC 1u    /* 0, 1: what was acknowledged is synced first */
#define SHUTDOWN_AT_ONCE 2u

/* Programs keep what they were compiled with: no field moves, no structure grows. */
#define AT(type, field, offset) static_assert(offsetof(struct type, field) == (offset))
static_assert(sizeof(struct kvfs_kv) == 56);
AT(kvfs_kv, key_len, 40);
static_assert(sizeof(struct kvfs_inc) == 40);
AT(kvfs_inc, delta, 24);
static_assert(sizeof(struct kvfs_scan) == 64);
AT(kvfs_scan, buf, 32);
static_assert(sizeof(struct kvfs_rec) == 16);
static_assert(sizeof(struct kvfs_batch) == 32);
static_assert(sizeof(struct kvfs_stats) == 352);
AT(kvfs_stats, trees, 80);
AT(kvfs_stats, device_reads, 264);
AT(kvfs_stats, inline_max, 288);
AT(kvfs_stats, chunk_bytes, 292);
AT(kvfs_stats, readers, 296);
AT(kvfs_stats, reserved, 320);

/* ---- arguments ---------------------------------------------------------------------------------- */

int kvfs_key_from_user(struct kvfs *fs, u64 from, u32 len, void **out)
{
	void *key;

	if (!len)
		return -EINVAL;
	if (len > fs->key_max)
		return -ENAMETOOLONG;
	key = memdup_user(u64_to_user_ptr(from), len);
	if (IS_ERR(key))
		return PTR_ERR(key);
	*out = key;
	return 0;
}

static int kv_from_user(struct kvfs_kv *a, const void __user *from, u32 flags)
{
	if (copy_from_user(a, from, sizeof(*a)))
		return -EFAULT;
	if (a->size != sizeof(*a) || a->flags & ~flags || memchr_inv(a->reserved, 0, sizeof(a->reserved)))
		return -EINVAL;
	return 0;
}

/* ---- changes ------------------------------------------------------------------------------------ */

/* Made in memory while names are locked; waiting for the device comes after. */
static int settle(struct kvfs *fs, u32 flags, int err)
{
	if (!err && (flags & KVFS_PUT_SYNC || READ_ONCE(fs->durability) == KV_SYNCED))
		err = kvfs_errno(kv_sync(fs->db));
	return err;
}

static int may_put(const struct ioctl_on *on)
{
	int err = kvfs_may_change(on->file, on->dir);

	return err ? err : kvfs_may_access(on->file, on->dir, MAY_WRITE);
}

static int put_value(const struct ioctl_on *on, const struct kvfs_kv *a, const void *key, const void *value)
{
	struct kvfs *fs = kvfs_of(on->dir);
	struct kvfs_alter alter;
	u32 flags = KV_MEMORY;
	int err;

	if (a->flags & KVFS_PUT_NEW)
		flags |= KV_PUT_NEW;
	if (a->flags & KVFS_PUT_REPLACE)
		flags |= KV_PUT_REPLACE;
	kvfs_alter_begin(&alter, on->dir);
	kvfs_alter_key(&alter, key, a->key_len, KVFS_CHANGED);
	err = kvfs_errno(kv_put(fs->db, on->tree, key, a->key_len, value, a->value_len, flags));
	kvfs_alter_end(&alter, err, !(a->flags & KVFS_PUT_REPLACE));
	return settle(fs, a->flags, err);
}

static int ioctl_put(const struct ioctl_on *on, void __user *arg)
{
	struct kvfs_kv a;
	void *key, *value = NULL;
	int err = kv_from_user(&a, arg, KVFS_PUT_NEW | KVFS_PUT_REPLACE | KVFS_PUT_SYNC);

	if (!err && (a.offset || (a.flags & KVFS_PUT_NEW && a.flags & KVFS_PUT_REPLACE)))
		err = -EINVAL;
	if (!err && a.value_len > KVFS_IOC_VALUE_MAX)
		err = -EFBIG;
	if (!err)
		err = may_put(on);
	if (!err)
		err = kvfs_key_from_user(kvfs_of(on->dir), a.key, a.key_len, &key);
	if (err)
		return err;
	if (a.value_len) {
		value = vmemdup_user(u64_to_user_ptr(a.value), a.value_len);
		err = PTR_ERR_OR_ZERO(value);
	}
	if (!err) {
		err = put_value(on, &a, key, value);
		kvfree(value);
	}
	kfree(key);
	return err;
}

static int ioctl_del(const struct ioctl_on *on, void __user *arg)
{
	struct kvfs *fs = kvfs_of(on->dir);
	struct kvfs_alter alter;
	struct kvfs_kv a;
	void *key;
	int err = kv_from_user(&a, arg, KVFS_PUT_SYNC);

	if (!err && (a.offset || a.value || a.value_len))
		err = -EINVAL;
	if (!err)
		err = kvfs_may_change(on->file, on->dir);
	if (!err)
		err = kvfs_key_from_user(fs, a.key, a.key_len, &key);
	if (err)
		return err;
	kvfs_alter_begin(&alter, on->dir);
	kvfs_alter_key(&alter, key, a.key_len, KVFS_DELETED);
	err = kvfs_errno(kv_del(fs->db, on->tree, key, a.key_len, KV_MEMORY));
	kvfs_alter_end(&alter, err, true);
	kfree(key);
	return settle(fs, a.flags, err);
}

static int ioctl_inc(const struct ioctl_on *on, void __user *arg)
{
	struct kvfs *fs = kvfs_of(on->dir);
	struct kvfs_alter alter;
	struct kvfs_inc a;
	int64_t result = 0;
	void *key;
	int err;

	if (copy_from_user(&a, arg, sizeof(a)))
		return -EFAULT;
	if (a.size != sizeof(a) || a.flags & ~KVFS_PUT_SYNC || a.reserved)
		return -EINVAL;
	err = may_put(on);
	if (!err)
		err = kvfs_key_from_user(fs, a.key, a.key_len, &key);
	if (err)
		return err;
	kvfs_alter_begin(&alter, on->dir);
	kvfs_alter_key(&alter, key, a.key_len, KVFS_CHANGED);
	err = kvfs_inc(fs, on->tree, key, a.key_len, a.delta, &result, KV_MEMORY);
	kvfs_alter_end(&alter, err, false);
	kfree(key);
	err = settle(fs, a.flags, err);
	if (err)
		return err;
	a.result = result;
	return copy_to_user(arg, &a, sizeof(a)) ? -EFAULT : 0;
}

/* ---- batches -------------------------------------------------------------------------------------- */

/* A record of the buffer; *off moves to the next one. */
static int record_next(struct kvfs *fs, const u8 *buf, u64 len, u64 *off, struct kvfs_rec *rec,
		       const u8 **key)
{
	u64 left = len - *off, bytes;

	if (left < sizeof(*rec))
		return -EINVAL;
	memcpy(rec, buf + *off, sizeof(*rec));
	left -= sizeof(*rec);
	if (rec->flags || !rec->key_len)
		return -EINVAL;
	if (rec->key_len > fs->key_max)
		return -ENAMETOOLONG;
	bytes = rec->value_len == KVFS_REC_DELETE ? 0 : rec->value_len;
	if (rec->key_len > left || bytes > left - rec->key_len)
		return -EINVAL;
	*key = buf + *off + sizeof(*rec);
	/* The last one need not be filled up. */
	*off = min(ALIGN(*off + sizeof(*rec) + rec->key_len + bytes, 8), len);
	return 0;
}

static int batch_fill(const struct ioctl_on *on, const struct kvfs_batch *a, const u8 *buf, kv_batch *batch)
{
	struct kvfs_rec rec;
	const u8 *key;
	u64 off = 0;
	u32 i;
	int err = 0;

	for (i = 0; !err && i < a->count; i++) {
		err = record_next(kvfs_of(on->dir), buf, a->buf_len, &off, &rec, &key);
		if (err)
			break;
		if (rec.value_len == KVFS_REC_DELETE)
			err = kvfs_errno(kv_batch_del(batch, on->tree, key, rec.key_len));
		else
			err = kvfs_errno(kv_batch_put(batch, on->tree, key, rec.key_len, key + rec.key_len,
						      rec.value_len));
		cond_resched();
	}
	return err ? err : off == a->buf_len ? 0 : -EINVAL;
}

/* The records were looked at by batch_fill(). */
static int batch_commit(const struct ioctl_on *on, const struct kvfs_batch *a, const u8 *buf, kv_batch *batch)
{
	struct kvfs *fs = kvfs_of(on->dir);
	struct kvfs_alter alter;
	struct kvfs_rec rec;
	const u8 *key;
	u64 off = 0;
	u32 i;
	int err = 0;

	kvfs_alter_begin(&alter, on->dir);
	for (i = 0; !err && i < a->count; i++) {
		err = record_next(fs, buf, a->buf_len, &off, &rec, &key);
		if (!err)
			kvfs_alter_key(&alter, key, rec.key_len,
				       rec.value_len == KVFS_REC_DELETE ? KVFS_DELETED : KVFS_CHANGED);
		cond_resched();
	}
	if (!err)
		err = kvfs_errno(kv_batch_commit(batch, KV_MEMORY));
	kvfs_alter_end(&alter, err, true);
	return settle(fs, a->flags, err);
}

static int ioctl_batch(const struct ioctl_on *on, void __user *arg)
{
	struct kvfs_batch a;
	kv_batch *batch;
	void *buf;
	int err;

	if (copy_from_user(&a, arg, sizeof(a)))
		return -EFAULT;
	if (a.size != sizeof(a) || a.flags & ~KVFS_PUT_SYNC || a.reserved)
		return -EINVAL;
	if (a.buf_len > KVFS_IOC_BATCH_MAX)
		return -E2BIG;
	if (!a.count != !a.buf_len || a.count > a.buf_len / sizeof(struct kvfs_rec))
		return -EINVAL;
	err = may_put(on);
	if (err || !a.count)
		return err;
	buf = vmemdup_user(u64_to_user_ptr(a.buf), a.buf_len);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	err = kvfs_errno(kv_batch_new(kvfs_of(on->dir)->db, &batch));
	if (!err) {
		err = batch_fill(on, &a, buf, batch);
		if (!err)
			err = batch_commit(on, &a, buf, batch);
		kv_batch_free(batch);
	}
	kvfree(buf);
	return err;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* From a->offset on, of one version; piece has KVFS_PIECE bytes or all that is wanted. */
static int get_long(const struct ioctl_on *on, const struct kvfs_kv *a, const void *key, void *piece,
		    uint64_t *length)
{
	u8 __user *to = u64_to_user_ptr(a->value);
	u64 left;
	kv_reader *rd;
	size_t got;
	int err = kvfs_errno(kv_reader_open(kvfs_of(on->dir)->db, NULL, on->tree, key, a->key_len, &rd,
					    length));

	if (err)
		return err;
	left = a->offset < *length ? min(a->value_len, *length - a->offset) : 0;
	if (left)
		err = kvfs_errno(kv_reader_seek(rd, a->offset));
	while (!err && left) {
		err = kvfs_errno(kv_reader_read(rd, piece, min_t(u64, left, KVFS_PIECE), &got));
		if (!err && !got)
			err = -EIO;
		if (!err && copy_to_user(to, piece, got))
			err = -EFAULT;
		to += got;
		left -= got;
		cond_resched();
	}
	kv_reader_close(rd);
	return err;
}

static int get_value(const struct ioctl_on *on, const struct kvfs_kv *a, const void *key, uint64_t *length)
{
	struct kvfs *fs = kvfs_of(on->dir);
	size_t len = 0, room = min_t(u64, a->value_len, KVFS_PIECE);
	void *piece;
	int err;

	if (!room)
		return kvfs_errno(kv_exists(fs->db, on->tree, key, a->key_len, length));
	piece = kvmalloc(room, GFP_KERNEL_ACCOUNT);
	if (!piece)
		return -ENOMEM;
	err = a->offset ? KV_E_TOOBIG : kv_get_into(fs->db, on->tree, key, a->key_len, piece, room, &len);
	if (err == KV_E_TOOBIG) {
		err = get_long(on, a, key, piece, length);
	} else {
		err = kvfs_errno(err);
		if (!err && copy_to_user(u64_to_user_ptr(a->value), piece, len))
			err = -EFAULT;
		*length = len;
	}
	kvfree(piece);
	return err;
}

static int ioctl_get(const struct ioctl_on *on, void __user *arg)
{
	uint64_t length = 0;
	struct kvfs_kv a;
	void *key;
	int err = kv_from_user(&a, arg, 0);

	if (!err && a.value_len > KVFS_IOC_VALUE_MAX)
		err = -EFBIG;
	if (!err)
		err = kvfs_may_read(on, MAY_EXEC);
	if (!err)
		err = kvfs_key_from_user(kvfs_of(on->dir), a.key, a.key_len, &key);
	if (err)
		return err;
	err = get_value(on, &a, key, &length);
	kfree(key);
	if (err)
		return err;
	a.value_len = length;
	return copy_to_user(arg, &a, sizeof(a)) ? -EFAULT : 0;
}

int kvfs_may_read(const struct ioctl_on *on, int dir_mask)
{
	int err = inode_permission(kvfs_file_idmap(on->file), on->dir, dir_mask);

	return err ? err : kvfs_may_access(on->file, on->dir, MAY_READ);
}

/* ---- the volume ----------------------------------------------------------------------------------- */

static void stats_fill(struct kvfs_stats *a, const kv_stat_info *i)
{
	memcpy(a->uuid, i->uuid, sizeof(a->uuid));
	memcpy(a->label, i->label, sizeof(i->label));
	a->block_bytes = i->block_bytes;
	a->segment_bytes = i->segment_bytes;
	a->frame_bytes = i->frame_bytes;
	a->key_max = i->key_max;
	a->trees = i->trees;
	a->entries = i->entries;
	a->volume_bytes = i->volume_bytes;
	a->max_bytes = i->max_bytes;
	a->segments = i->segments;
	a->segments_free = i->segments_free;
	a->segments_log = i->segments_log;
	a->segments_tree = i->segments_tree;
	a->live_bytes = i->live_bytes;
	a->tree_bytes = i->tree_bytes;
	a->pending_free_bytes = i->pending_free_bytes;
	a->generation = i->generation;
	a->lsn = i->lsn;
	a->durable_lsn = i->durable_lsn;
	a->cache_bytes = i->cache_bytes;
	a->cache_used_bytes = i->cache_used_bytes;
	a->dirty_bytes = i->dirty_bytes;
	a->puts = i->puts;
	a->gets = i->gets;
	a->dels = i->dels;
	a->commits = i->commits;
	a->syncs = i->syncs;
	a->checkpoints = i->checkpoints;
	a->device_reads = i->device_reads;
	a->device_writes = i->device_writes;
	a->device_flushes = i->device_flushes;
	a->inline_max = i->inline_max;
	a->chunk_bytes = i->chunk_bytes;
	a->readers = i->readers;
	a->reader_generation = i->reader_generation;
	a->reader_bytes = i->reader_bytes;
}

static int ioctl_stats(const struct ioctl_on *on, void __user *arg)
{
	struct kvfs_stats *a = memdup_user(arg, sizeof(*a));
	kv_stat_info *info;
	int err;

	if (IS_ERR(a))
		return PTR_ERR(a);
	info = kmalloc(sizeof(*info), GFP_KERNEL);
	err = info ? 0 : -ENOMEM;
	if (!err && (a->size != sizeof(*a) || a->flags))
		err = -EINVAL;
	if (!err)
		err = kvfs_errno(kv_stat(kvfs_of(on->dir)->db, info));
	if (!err) {
		memset(a, 0, sizeof(*a));
		a->size = sizeof(*a);
		stats_fill(a, info);
		if (copy_to_user(arg, a, sizeof(*a)))
			err = -EFAULT;
	}
	kfree(info);
	kfree(a);
	return err;
}

static int ioctl_sync(const struct ioctl_on *on)
{
	return sb_rdonly(on->dir->i_sb) ? 0 : kvfs_errno(kv_sync(kvfs_of(on->dir)->db));
}

static int ioctl_shutdown(const struct ioctl_on *on, unsigned int cmd, void __user *arg)
{
	u32 how = SHUTDOWN_AT_ONCE;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (cmd == SHUTDOWN_COMMON && get_user(how, (u32 __user *)arg))
		return -EFAULT;
	if (how > SHUTDOWN_AT_ONCE)
		return -EINVAL;
	return kvfs_shutdown(on->dir->i_sb, how <= SHUTDOWN_SYNC);
}

/* ---- all of them ---------------------------------------------------------------------------------- */

static int change(const struct ioctl_on *on, unsigned int cmd, void __user *arg)
{
	int err = mnt_want_write_file(on->file);

	if (err)
		return err;
	switch (cmd) {
	case KVFS_IOC_PUT:
		err = ioctl_put(on, arg);
		break;
	case KVFS_IOC_DEL:
		err = ioctl_del(on, arg);
		break;
	case KVFS_IOC_INC:
		err = ioctl_inc(on, arg);
		break;
	default:
		err = ioctl_batch(on, arg);
	}
	mnt_drop_write_file(on->file);
	return err;
}

static int dispatch(const struct ioctl_on *on, unsigned int cmd, void __user *arg)
{
	switch (cmd) {
	case KVFS_IOC_GET:
		return ioctl_get(on, arg);
	case KVFS_IOC_PUT:
	case KVFS_IOC_DEL:
	case KVFS_IOC_INC:
	case KVFS_IOC_BATCH:
		return change(on, cmd, arg);
	case KVFS_IOC_SCAN:
		return kvfs_ioctl_scan(on, arg);
	case KVFS_IOC_SYNC:
		return ioctl_sync(on);
	case KVFS_IOC_STATS:
		return ioctl_stats(on, arg);
	case KVFS_IOC_SHUTDOWN:
	case SHUTDOWN_COMMON:
		return ioctl_shutdown(on, cmd, arg);
	default:
		return -ENOTTY;
	}
}

long kvfs_op_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct ioctl_on on = { .file = file };
	struct dentry *parent;
	int err = kvfs_alive(file_inode(file)->i_sb);

	if (err)
		return err;
	parent = kvfs_dir_of(file);
	on.dir = d_inode(parent);
	on.tree = kvfs_inode_of(on.dir)->tree;
	err = dispatch(&on, cmd, (void __user *)arg);
	dput(parent);
	return err;
}
