/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * name.c - names of keys' files, made on the client's side. The rules are those at the top of
 * kvfs/name.c, which has the volume at hand; here the directory answers whether a tree has a key's name.
 *
 * tests/lib/libkvfs.sh compares both sides over all kinds of keys.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "client.h"

#define ALIAS_KEEP 200u
#define ALIAS_TAIL 34u
#define SEED_SECOND 0x9e3779b97f4a7c15ull

static const char digits[] = "0123456789ABCDEF";

static bool escaped_always(uint8_t c)
{
	return !c || c == '/' || c == '%';
}

static bool reserved(const uint8_t *raw, size_t len)
{
	static const char *const control[] = { "_mk", "_del", "_inc", "_dec" };
	size_t i;

	if (len && len <= 2 && raw[0] == '.' && raw[len - 1] == '.')
		return true;
	for (i = 0; i < sizeof(control) / sizeof(control[0]); i++)
		if (len == strlen(control[i]) && !memcmp(raw, control[i], len))
			return true;
	return false;
}

/* The length, or 0 when not all of it fits. *keep: bytes up to the last boundary within ALIAS_KEEP. */
static size_t escape(const uint8_t *raw, size_t len, bool first, char *name, size_t *keep)
{
	size_t i, width, used = 0;

	*keep = 0;
	for (i = 0; i < len; i++) {
		width = escaped_always(raw[i]) || (first && !i) ? 3 : 1;
		if (used + width > KVFS_CLIENT_NAME_MAX)
			return 0;
		name[used] = (char)raw[i];
		if (width == 3) {
			name[used] = '%';
			name[used + 1] = digits[raw[i] >> 4];
			name[used + 2] = digits[raw[i] & 15];
		}
		used += width;
		if (used <= ALIAS_KEEP)
			*keep = used;
	}
	return used;
}

static size_t alias_end(const void *key, size_t len, char *name, size_t keep)
{
	uint64_t hash[2] = { XXH64(key, len, 0), XXH64(key, len, SEED_SECOND) };
	size_t i;

	name[keep] = '%';
	name[keep + 1] = '~';
	for (i = 0; i < 32; i++)
		name[keep + 2 + i] = digits[hash[i / 16] >> (60 - i % 16 * 4) & 15];
	return keep + ALIAS_TAIL;
}

void kvfs_client_name(const void *key, size_t len, int beside_tree, char *name)
{
	const uint8_t *raw = key;
	bool special = reserved(raw, len);
	size_t used, keep;

	used = escape(raw, len, special || beside_tree, name, &keep);
	if (!used || (beside_tree && (special || escaped_always(raw[0]))))
		used = alias_end(key, len, name, keep);
	name[used] = 0;
}

int kvfs_client_tree_name(const char *tree, char *name)
{
	size_t keep, used, len = strlen(tree);

	used = escape((const uint8_t *)tree, len, reserved((const uint8_t *)tree, len), name, &keep);
	if (!used) {
		errno = len ? ENAMETOOLONG : EINVAL;
		return -1;
	}
	name[used] = 0;
	return 0;
}

int kvfs_client_name_tree(const char *name, char *raw)
{
	const char *hi, *lo;

	for (; *name; name++) {
		if (*name != '%') {
			*raw++ = *name;
			continue;
		}
		hi = name[1] ? strchr(digits, name[1]) : NULL;
		lo = hi && name[2] ? strchr(digits, name[2]) : NULL;
		if (!lo) {
			errno = EINVAL;
			return -1;
		}
		*raw++ = (char)((hi - digits) << 4 | (lo - digits));
		name += 2;
	}
	*raw = 0;
	return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

int kvfs_client_stat(int dir, const void *key, size_t len, struct stat *st)
{
	char name[KVFS_CLIENT_NAME_MAX + 1];
	int beside;

	if (!len) {
		errno = EINVAL;
		return -1;
	}
	for (beside = 0; beside < 2; beside++) {
		kvfs_client_name(key, len, beside, name);
		if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW))
			return -1;
		if (!S_ISDIR(st->st_mode))
			return 0;
	}
	errno = ENOENT;
	return -1;
}

int kvfs_client_open(int dir, const void *key, size_t len, int flags)
{
	char name[KVFS_CLIENT_NAME_MAX + 1];
	struct stat st;
	int fd, beside;

	if (!len) {
		errno = EINVAL;
		return -1;
	}
	for (beside = 0; beside < 2; beside++) {
		kvfs_client_name(key, len, beside, name);
		if (!fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
			continue;
		fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0666);
		if (fd >= 0 || errno != EISDIR)
			return fd;
	}
	errno = ENOENT;
	return -1;
}

int kvfs_client_unlink(int dir, const void *key, size_t len)
{
	char name[KVFS_CLIENT_NAME_MAX + 1];
	int beside;

	if (!len) {
		errno = EINVAL;
		return -1;
	}
	for (beside = 0; beside < 2; beside++) {
		kvfs_client_name(key, len, beside, name);
		if (!unlinkat(dir, name, 0))
			return 0;
		if (errno != EISDIR)
			return -1;
	}
	errno = ENOENT;
	return -1;
}
