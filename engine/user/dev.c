// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev.c - what all devices of the port share: the check of a request, and serial batches.
 */
#include "port.h"

int kvp_dev_check(struct kvp_dev *dev, enum kvp_io_op op, u64 off, const void *buf, u32 len)
{
	const char *what = op == KVP_IO_READ ? "read" : "write";
	u64 size = kvp_load(&dev->size);

	if (op == KVP_IO_WRITE && dev->read_only)
		return kvp_fail(-KVE_read_only, "%s: write at offset %llu: opened read-only",
				dev->name, off);
	if (len == 0 || (off | len) & (dev->align - 1) || (uintptr_t)buf & (KVP_SECTOR - 1))
		return kvp_fail(-KVE_invalid,
				"%s: %s of %u bytes at offset %llu from memory at %p: not aligned",
				dev->name, what, len, off, buf);
	if (off > size || len > size - off)
		return kvp_fail(op == KVP_IO_READ ? -KVE_truncated : -KVE_io_write,
				"%s: %s of %u bytes at offset %llu is past the end (%llu bytes)",
				dev->name, what, len, off, size);
	return 0;
}

int kvp_dev_check_range(struct kvp_dev *dev, const char *what, u64 off, u64 len)
{
	if (dev->read_only)
		return kvp_fail(-KVE_read_only, "%s: %s at offset %llu: opened read-only",
				dev->name, what, off);
	if (len == 0 || (off | len) & (dev->align - 1) || off > INT64_MAX || len > INT64_MAX - off)
		return kvp_fail(-KVE_invalid,
				"%s: %s of %llu bytes at offset %llu: not aligned or no such place",
				dev->name, what, len, off);
	return 0;
}

int kvp_dev_batch_serial(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n)
{
	unsigned int i;
	int first = 0;

	for (i = 0; i < n; i++) {
		if (ios[i].op == KVP_IO_READ)
			ios[i].result = kvp_dev_read(dev, ios[i].off, ios[i].buf, ios[i].len);
		else
			ios[i].result = kvp_dev_write(dev, ios[i].off, ios[i].buf, ios[i].len, 0);
		if (ios[i].result && !first)
			first = ios[i].result;
	}
	return first;
}

void kvp_dev_copy_shape(struct kvp_dev *outer, const struct kvp_dev *inner)
{
	outer->align = inner->align;
	outer->physical = inner->physical;
	outer->read_only = inner->read_only;
	outer->growable = inner->growable;
	memcpy(outer->name, inner->name, sizeof(outer->name));
	kvp_store(&outer->size, kvp_load(&inner->size));
}
