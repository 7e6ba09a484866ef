/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * error.c - classes of error of the engine as errno values.
 *
 * Where a class is not precise enough for a caller (a number that is none, or that would overflow; a key
 * that is too long; a node whose key is gone) the file that meets it decides before it comes here.
 */
#include "kvfs_internal.h"

int kvfs_errno(int err)
{
	switch (err) {
	case KV_E_NOTFOUND:
		return -ENOENT;
	case KV_E_EXISTS:
		return -EEXIST;
	case KV_E_INVALID:
	case KV_E_NUMBER:
	case KV_E_NOTVOLUME:
		return -EINVAL;
	case KV_E_TOOBIG:
		return -EFBIG;
	case KV_E_NOSPACE:
		return -ENOSPC;
	case KV_E_NOMEM:
		return -ENOMEM;
	case KV_E_CORRUPT:
		return -EUCLEAN;
	case KV_E_UNSUPPORTED:
		return -EOPNOTSUPP;
	case KV_E_BUSY:
		return -EBUSY;
	case KV_E_READONLY:
		return -EROFS;
	case KV_E_TOOOLD:
		return -ESTALE;
	case KV_E_CANCELLED:
		return -EINTR;
	case KV_E_IO:
	case KV_E_INDETERMINATE:
		return -EIO;
	default:
		return err >= 0 ? 0 : -EIO;
	}
}
