/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kv_errcode.h - every error of the project. Functions return 0 or -KVE_<name>. The number never
 * changes and is never reused; number / 100 is the class, which is what the public API returns
 * (kvengine.h); errno is what the kernel and exit paths make of it. Each code but the general ones
 * is returned from one place.
 */
#ifndef KV_ERRCODE_H
#define KV_ERRCODE_H

/* clang-format off */
/* x(name, number, errno, sentence) */
#define KVE_ERRORS(x) \
	x(not_found,		101, ENOENT,	"no such key") \
	x(no_tree,		102, ENOENT,	"no such tree") \
	x(no_snapshot,		103, ENOENT,	"no such snapshot") \
	x(exists,		201, EEXIST,	"the key exists already") \
	x(tree_exists,		202, EEXIST,	"the tree exists already") \
	x(snapshot_exists,	203, EEXIST,	"the snapshot exists already") \
	x(invalid,		301, EINVAL,	"invalid argument") \
	x(bad_key,		302, EINVAL,	"a key has 1 byte or more") \
	x(bad_name,		303, EINVAL,	"not a valid tree name") \
	x(bad_geometry,		304, EINVAL,	"not a valid geometry") \
	x(forked,		305, EINVAL,	"the volume was opened by the parent process of a fork") \
	x(key_too_long,		401, ENAMETOOLONG, "the key is longer than the volume's limit") \
	x(value_too_long,	402, EFBIG,	"the value is too long for this call; stream it") \
	x(txn_too_big,		403, E2BIG,	"the batch is too large for one transaction") \
	x(buffer_too_small,	404, ERANGE,	"the buffer is smaller than the value") \
	x(not_a_number,		501, EDOM,	"the value is not an integer") \
	x(overflow,		502, ERANGE,	"the result does not fit 64 bits") \
	x(no_space,		601, ENOSPC,	"no space left on the volume") \
	x(too_small,		602, ENOSPC,	"too small for a volume") \
	x(no_memory,		701, ENOMEM,	"out of memory") \
	x(io,			801, EIO,	"input/output error") \
	x(io_read,		802, EIO,	"read error") \
	x(io_write,		803, EIO,	"write error") \
	x(io_flush,		804, EIO,	"flush failed") \
	x(io_system,		805, EIO,	"system call failed") \
	x(corrupt,		901, EUCLEAN,	"damaged") \
	x(corrupt_super,	902, EUCLEAN,	"no superblock has roots that verify") \
	x(corrupt_page,		903, EUCLEAN,	"page is damaged") \
	x(corrupt_record,	904, EUCLEAN,	"record is damaged") \
	x(corrupt_log,		905, EUCLEAN,	"the log is damaged before its attested end") \
	x(corrupt_value,	906, EUCLEAN,	"the value is damaged") \
	x(corrupt_table,	907, EUCLEAN,	"segment table is damaged") \
	x(truncated,		908, EUCLEAN,	"the volume is shorter than its superblock says") \
	x(self_check,		909, EUCLEAN,	"a page failed the check before its write (memory fault?)") \
	x(unsupported,		1001, EOPNOTSUPP, "needs a newer version") \
	x(not_volume,		1101, EINVAL,	"not a kvs volume") \
	x(foreign,		1102, ENOTEMPTY, "holds something else") \
	x(empty,		1103, ENODEV,	"empty; no volume has been created here") \
	x(no_file,		1104, ENOENT,	"no such file") \
	x(busy,			1201, EBUSY,	"in use by another process") \
	x(in_use,		1202, EBUSY,	"still in use in this process") \
	x(read_only,		1301, EROFS,	"opened read-only") \
	x(degraded,		1302, EROFS,	"read-only since an error; reopen the volume") \
	x(indeterminate,	1401, EIO,	"a flush failed: the change may or may not survive") \
	x(too_old,		1501, ESTALE,	"the read transaction is too old") \
	x(cancelled,		1601, EINTR,	"cancelled") \
	x(restart,		9901, EAGAIN,	"internal: search again") \
	x(need_page,		9902, EAGAIN,	"internal: a page must be read") \
	x(no_room,		9903, EAGAIN,	"internal: the page is full") \
	x(end,			9904, EAGAIN,	"internal: end")
/* clang-format on */

#define KVE_ENUM(name, number, errno_, sentence) KVE_##name = (number),
enum kve_error { KVE_ERRORS(KVE_ENUM) };
#undef KVE_ENUM

/* Class of a negative code as the public API returns it: -KVE_no_tree -> -1. 0 and positive: same. */
int kvf_err_class(int err);
/* Name and sentence of a code, negative or positive; "?" when unknown. Static strings. */
const char *kvf_err_name(int err);
const char *kvf_err_text(int err);

#endif
