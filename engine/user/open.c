/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * open.c - volumes by path: the user-space end of kv_open(), kv_create(), kv_close().
 */
#include <unistd.h>

#include "kve_test.h"
#include "../kve_open.h"
#include "../../format/kvf.h"

static const kv_options defaults = KV_OPTIONS_INIT;

static int result(int err)
{
	char *text = kvp_error_text();

	if (err < 0 && !text[0])
		kvp_snprintf(text, KVP_ERROR_BYTES, "%s", kvf_err_text(err));
	return kvf_err_class(err);
}

static const kv_options *options(const kv_options *opt)
{
	return opt && opt->size == sizeof(*opt) ? opt : &defaults;
}

#define OPEN_FLAGS                                                                                 \
	(KV_OPEN_READONLY | KV_OPEN_CREATE | KV_OPEN_FORCE | KV_OPEN_NOTHREAD | KV_OPEN_BUFFERED)

static bool bad_options(const kv_options *opt)
{
	const char *what = NULL;

	if (opt && opt->size != sizeof(*opt))
		what = "size is not that of this version; start with KV_OPTIONS_INIT";
	else if (opt && (opt->durability < 0 || opt->durability > KV_SYNCED))
		what = "no such durability";
	else if (opt && opt->flags & ~OPEN_FLAGS)
		what = "unknown flag";
	if (what)
		kvp_snprintf(kvp_error_text(), KVP_ERROR_BYTES, "kv_options: %s", what);
	return what;
}

static int dev_open(const char *path, const kv_options *opt, unsigned int more, struct kvp_dev **dev)
{
	unsigned int flags = more;

	if (!(opt->flags & KV_OPEN_READONLY))
		flags |= KVP_OPEN_WRITE;
	if (opt->flags & KV_OPEN_BUFFERED)
		flags |= KVP_OPEN_BUFFERED;
	return kvp_file_open(dev, path, flags);
}

/* *empty stays true if there are zeros alone. */
static int zeros_read(struct kvp_dev *dev, u64 off, u8 *buf, u32 len, bool *empty)
{
	int err = kvp_dev_read(dev, off, buf, len);
	u32 i;

	for (i = 0; !err && i < len && *empty; i++)
		*empty = buf[i] == 0;
	return err;
}

/* Nothing but zeros where a signature would be. A volume shows in its first bytes. */
static int looks_empty(struct kvp_dev *dev, bool *empty)
{
	u32 len = (u32)KVF_ROUND_DOWN(KVF_MIN(dev->size, 65536ull), dev->align);
	u8 *buf;
	int err;

	*empty = true;
	if (!len) {
		*empty = dev->size == 0;
		return 0;
	}
	buf = kvp_iobuf_alloc(len);
	if (!buf)
		return -KVE_no_memory;
	err = zeros_read(dev, 0, buf, dev->align, empty);
	if (!err && *empty && len > dev->align)
		err = zeros_read(dev, dev->align, buf, len - dev->align, empty);
	kvp_iobuf_free(buf, len);
	return err;
}

static int holds_volume(struct kvp_dev *dev, const kv_options *opt, bool *yes)
{
	kv_options ro = *opt;
	kv_db *db;
	int err;

	ro.flags |= KV_OPEN_READONLY | KV_OPEN_NOTHREAD;
	ro.log_level = KV_LOG_ERROR;
	err = kve_open(dev, &ro, &db);
	if (!err)
		kve_close(db);
	*yes = err != -KVE_not_volume && err != -KVE_empty;
	return err == -KVE_no_memory || err == -KVE_io_read ? err : 0;
}

static int create_on(struct kvp_dev *dev, const kv_options *opt)
{
	bool empty, volume = false;
	int err = looks_empty(dev, &empty);

	if (!err && !empty && !(opt->flags & KV_OPEN_FORCE)) {
		err = holds_volume(dev, opt, &volume);
		if (!err)
			err = volume ? -KVE_exists : -KVE_foreign;
		if (err == -KVE_exists || err == -KVE_foreign)
			kvp_snprintf(kvp_error_text(), KVP_ERROR_BYTES,
				     "%s: %s; nothing was changed (--force "
				     "overwrites it)",
				     dev->name,
				     volume ? "a volume is there already"
					    : "holds data that is no volume");
	}
	if (!err && dev->growable && dev->size)
		err = kvp_dev_resize(dev, 0);
	return err ? err : kve_create(dev, opt);
}

int kv_create(const char *path, const kv_options *opt)
{
	struct kvp_dev *dev;
	bool fresh = access(path, F_OK) != 0;
	int err;

	kvp_error_text()[0] = 0;
	if (bad_options(opt))
		return result(-KVE_invalid);
	opt = options(opt);
	err = dev_open(path, opt, KVP_OPEN_WRITE | KVP_OPEN_CREATE, &dev);
	if (err)
		return result(err);
	/* Smaller blocks than the medium's need the page cache. */
	if (opt->block_bytes && opt->block_bytes < dev->align && dev->growable) {
		kvp_dev_close(dev);
		err = dev_open(path, opt, KVP_OPEN_WRITE | KVP_OPEN_BUFFERED, &dev);
		if (err)
			return result(err);
	}
	err = create_on(dev, opt);
	kvp_dev_close(dev);
	/* Nothing is left of a file that did not exist before. */
	if (err && fresh)
		unlink(path);
	return result(err);
}

static int open_again(const char *path, const kv_options *opt, struct kvp_dev **dev, kv_db **out)
{
	int err;

	kvp_dev_close(*dev);
	*dev = NULL;
	kvp_error_text()[0] = 0;
	err = dev_open(path, opt, KVP_OPEN_BUFFERED, dev);
	return err ? err : kve_open(*dev, opt, out);
}

int kv_open(const char *path, const kv_options *opt, kv_db **out)
{
	bool fresh = access(path, F_OK) != 0, empty = false;
	struct kvp_dev *dev = NULL;
	int err;

	kvp_error_text()[0] = 0;
	if (bad_options(opt))
		return result(-KVE_invalid);
	opt = options(opt);
	err = dev_open(path, opt, opt->flags & KV_OPEN_CREATE ? KVP_OPEN_CREATE : 0, &dev);
	if (!err && (opt->flags & KV_OPEN_CREATE) && !(opt->flags & KV_OPEN_READONLY)) {
		err = looks_empty(dev, &empty);
		if (!err && empty)
			err = create_on(dev, opt);
	}
	if (!err)
		err = kve_open(dev, opt, out);
	/* A volume with blocks smaller than direct I/O can do. */
	if (err == -KVE_unsupported && dev->growable && dev->align > KVF_BLOCK_MIN)
		err = open_again(path, opt, &dev, out);
	/* As in kv_create(). Under its lock: nobody else has made a volume of it. */
	if (err && dev && fresh && empty)
		unlink(path);
	if (err && dev)
		kvp_dev_close(dev);
	return result(err);
}

int kv_close(kv_db *db)
{
	struct kvp_dev *dev;
	int err;

	if (!db)
		return 0;
	kvp_error_text()[0] = 0;
	dev = kve_device(db);
	err = kve_close(db);
	if (err != -KVE_in_use && err != -KVE_forked)
		kvp_dev_close(dev);
	return result(err);
}

/* ---- for tests and tools ------------------------------------------------------------------------- */

int kve_open_dev(struct kvp_dev *dev, const kv_options *opt, kv_db **out)
{
	int err;

	kvp_error_text()[0] = 0;
	err = kve_open(dev, options(opt), out);
	if (err)
		kvp_dev_close(dev);
	return result(err);
}

int kve_create_dev(struct kvp_dev *dev, const kv_options *opt)
{
	kvp_error_text()[0] = 0;
	return result(kve_create(dev, options(opt)));
}

void kve_crash(kv_db *db)
{
	struct kvp_dev *dev = kve_device(db);

	kve_abandon(db);
	kvp_dev_close(dev);
}
