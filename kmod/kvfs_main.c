// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kvfs_main.c - the module, the file system type, and mount options.
 */
#include <linux/cred.h>
#include <linux/fs_parser.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "kvfs_kernel.h"

#define CACHE_LEAST (1ull << 20)

/* Set when the module is loaded, never later. */
static unsigned long long fixed_time, fixed_seed;
module_param(fixed_time, ullong, 0444);
MODULE_PARM_DESC(fixed_time, "for tests: the clock stands at this second, no background thread; 0: off");
module_param(fixed_seed, ullong, 0444);
MODULE_PARM_DESC(fixed_seed, "for tests: seed of what is chance, no background thread; 0: off");

enum { OPTION_UID, OPTION_GID, OPTION_FMODE, OPTION_DMODE, OPTION_CACHE, OPTION_DURABILITY, OPTION_WRITE,
       OPTION_STRIP_NL };

static const struct constant_table durabilities[] = {
	{ "memory", KV_MEMORY },
	{ "synced", KV_SYNCED },
	{}
};

static const struct constant_table writes[] = {
	{ "set", false },
	{ "stream", true },
	{}
};

static const struct fs_parameter_spec kvfs_parameters[] = {
	fsparam_u32("uid", OPTION_UID),
	fsparam_u32("gid", OPTION_GID),
	fsparam_u32oct("fmode", OPTION_FMODE),
	fsparam_u32oct("dmode", OPTION_DMODE),
	fsparam_string("cache", OPTION_CACHE),
	fsparam_enum("durability", OPTION_DURABILITY, durabilities),
	fsparam_enum("write", OPTION_WRITE, writes),
	fsparam_flag_no("strip_nl", OPTION_STRIP_NL),
	{}
};

static int mode_parse(struct fs_context *fc, const char *name, u32 value, u32 allowed, umode_t *out)
{
	if (value & ~allowed)
		return invalfc(fc, "%s: only the bits %03o can be set", name, allowed);
	*out = (umode_t)value;
	return 0;
}

static int cache_parse(struct fs_context *fc, char *text, u64 *out)
{
	u64 most = (u64)totalram_pages() << PAGE_SHIFT;
	char *end;
	u64 bytes = memparse(text, &end);

	if (end == text || *end)
		return invalfc(fc, "cache: '%s' is no number of bytes, with K, M or G behind it", text);
	if (bytes < CACHE_LEAST || bytes > most)
		return invalfc(fc, "cache: from 1M to the size of memory, %lluM", most >> 20);
	*out = bytes;
	return 0;
}

static int kvfs_op_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct kvfs_options *opt = fc->fs_private;
	struct fs_parse_result result;
	int which = fs_parse(fc, kvfs_parameters, param, &result);

	switch (which) {
	case OPTION_UID:
		opt->uid = make_kuid(fc->user_ns, result.uint_32);
		return uid_valid(opt->uid) ? 0 : invalfc(fc, "uid: no such user here");
	case OPTION_GID:
		opt->gid = make_kgid(fc->user_ns, result.uint_32);
		return gid_valid(opt->gid) ? 0 : invalfc(fc, "gid: no such group here");
	case OPTION_FMODE:
		return mode_parse(fc, "fmode", result.uint_32, 0666, &opt->fmode);
	case OPTION_DMODE:
		return mode_parse(fc, "dmode", result.uint_32, 0777, &opt->dmode);
	case OPTION_CACHE:
		return cache_parse(fc, param->string, &opt->cache_bytes);
	case OPTION_DURABILITY:
		opt->durability = (int)result.uint_32;
		return 0;
	case OPTION_WRITE:
		opt->stream = result.uint_32;
		return 0;
	case OPTION_STRIP_NL:
		opt->strip_nl = !result.negated;
		return 0;
	default:
		return which;
	}
}

static int kvfs_op_get_tree(struct fs_context *fc)
{
	return get_tree_bdev(fc, kvfs_fill_super);
}

static int kvfs_op_reconfigure(struct fs_context *fc)
{
	return kvfs_remount(fc->root->d_sb, fc, fc->fs_private);
}

static void kvfs_op_free(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations kvfs_context_operations = {
	.parse_param = kvfs_op_parse_param,
	.get_tree = kvfs_op_get_tree,
	.reconfigure = kvfs_op_reconfigure,
	.free = kvfs_op_free,
};

/* A remount begins with what is, and changes what it names. */
static void options_of(const struct super_block *sb, struct kvfs_options *opt)
{
	const struct kvfs_super *s = kvfs_super_of(sb);

	*opt = s->opt;
	opt->durability = s->fs.durability;
	opt->stream = s->fs.stream;
	opt->strip_nl = s->fs.strip_nl;
}

static int kvfs_op_init_fs_context(struct fs_context *fc)
{
	struct kvfs_options *opt = kzalloc(sizeof(*opt), GFP_KERNEL);

	if (!opt)
		return -ENOMEM;
	opt->uid = GLOBAL_ROOT_UID;
	opt->gid = GLOBAL_ROOT_GID;
	opt->fmode = 0660;
	opt->dmode = 0775;
	opt->durability = KV_MEMORY;
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE)
		options_of(fc->root->d_sb, opt);
	fc->fs_private = opt;
	fc->ops = &kvfs_context_operations;
	return 0;
}

static struct file_system_type kvfs_type = {
	.owner = THIS_MODULE,
	.name = "kvfs",
	.init_fs_context = kvfs_op_init_fs_context,
	.parameters = kvfs_parameters,
	.kill_sb = kvfs_kill_sb,
	.fs_flags = FS_REQUIRES_DEV,
};

static int __init kvfs_init(void)
{
	int err;

	if (fixed_time > U64_MAX / NSEC_PER_SEC)
		return -EINVAL;
	kvp_fix(fixed_time * NSEC_PER_SEC, fixed_seed);
	if (kvp_fixed())
		pr_warn("kvfs: fixed_time or fixed_seed is set: for tests, clock and chance repeat\n");
	err = kvfs_inodes_init();
	if (err)
		return err;
	err = kvfs_sysfs_init();
	if (err)
		goto fail_inodes;
	err = register_filesystem(&kvfs_type);
	if (err)
		goto fail_sysfs;
	return 0;

fail_sysfs:
	kvfs_sysfs_exit();
fail_inodes:
	kvfs_inodes_exit();
	return err;
}

static void __exit kvfs_exit(void)
{
	unregister_filesystem(&kvfs_type);
	kvfs_sysfs_exit();
	kvfs_inodes_exit();
}

module_init(kvfs_init);
module_exit(kvfs_exit);

MODULE_ALIAS_FS("kvfs");
MODULE_DESCRIPTION("KVFS: key-value volumes as a file system");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_VERSION(KV_VERSION_STRING);
