// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sysfs.c - /sys/fs/kvfs/<device>/: what a mounted volume says of itself, one number a file. Counts
 * are since the mount, sizes are bytes.
 */
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "kvfs_kernel.h"

static struct kset *kvfs_kset;

struct number {
	struct attribute attr;
	u64 (*get)(const kv_stat_info *info);
};

/* clang-format off */
/* x(file, what kv_stat says) */
#define NUMBERS(x) \
	x(records,		info->entries) \
	x(trees,		info->trees) \
	x(device_size,		info->volume_bytes) \
	x(disk_used,		info->volume_bytes - info->segments_free * info->segment_bytes) \
	x(disk_free,		info->segments_free * info->segment_bytes) \
	x(live_values,		info->live_bytes) \
	x(tree_pages,		info->tree_bytes) \
	x(pending_free,		info->pending_free_bytes) \
	x(cache_size,		info->cache_bytes) \
	x(cache_used,		info->cache_used_bytes) \
	x(cache_dirty,		info->dirty_bytes) \
	x(cache_hits,		info->cache_hits) \
	x(cache_misses,		info->cache_misses) \
	x(puts,			info->puts) \
	x(gets,			info->gets) \
	x(dels,			info->dels) \
	x(commits,		info->commits) \
	x(syncs,		info->syncs) \
	x(checkpoints,		info->checkpoints) \
	x(device_reads,		info->device_reads) \
	x(device_writes,	info->device_writes) \
	x(device_flushes,	info->device_flushes) \
	x(device_read_bytes,	info->device_read_bytes) \
	x(device_write_bytes,	info->device_write_bytes) \
	x(lsn,			info->lsn) \
	x(durable_lsn,		info->durable_lsn) \
	x(pages_healed,		info->pages_healed) \
	x(readers,		info->readers)
/* clang-format on */

#define DEFINE(file, value) \
	static u64 file##_get(const kv_stat_info *info) \
	{ \
		return value; \
	} \
	static struct number file##_number = { \
		.attr = { .name = #file, .mode = 0444 }, \
		.get = file##_get, \
	};
NUMBERS(DEFINE)

#define ENTRY(file, value) &file##_number.attr,
static struct attribute *kvfs_attrs[] = { NUMBERS(ENTRY) NULL };
ATTRIBUTE_GROUPS(kvfs);

static ssize_t number_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	const struct number *n = container_of(attr, struct number, attr);
	struct kvfs_super *s = container_of(kobj, struct kvfs_super, kobj);
	kv_stat_info info;
	int err = kvfs_errno(kv_stat(s->fs.db, &info));

	return err ? err : sysfs_emit(buf, "%llu\n", n->get(&info));
}

static void kobj_release(struct kobject *kobj)
{
	complete(&container_of(kobj, struct kvfs_super, kobj)->kobj_gone);
}

static const struct sysfs_ops number_ops = {
	.show = number_show,
};

static struct kobj_type kvfs_kobj_type = {
	.release = kobj_release,
	.sysfs_ops = &number_ops,
	.default_groups = kvfs_groups,
};

int kvfs_sysfs_add(struct kvfs_super *s)
{
	int err;

	init_completion(&s->kobj_gone);
	s->kobj.kset = kvfs_kset;
	err = kobject_init_and_add(&s->kobj, &kvfs_kobj_type, NULL, "%s", s->sb->s_id);
	if (err) {
		kobject_put(&s->kobj);
		wait_for_completion(&s->kobj_gone);
	}
	return err;
}

/* When it returns nobody reads a number any more. */
void kvfs_sysfs_remove(struct kvfs_super *s)
{
	kobject_del(&s->kobj);
	kobject_put(&s->kobj);
	wait_for_completion(&s->kobj_gone);
}

int kvfs_sysfs_init(void)
{
	kvfs_kset = kset_create_and_add("kvfs", NULL, fs_kobj);
	return kvfs_kset ? 0 : -ENOMEM;
}

void kvfs_sysfs_exit(void)
{
	kset_unregister(kvfs_kset);
}
