/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * name.c - keys and trees as names of files, and back; inode numbers.
 *
 * A name is the bytes of the key, but:
 *   '/', NUL and '%' are %2F %00 %25, always two upper-case digits;
 *   of "." and ".." and of the name of a control file the first byte is escaped as well, and so it is in
 *   the root when a tree other than main has the key's name, because that is the tree's directory;
 *   what is longer than KVFS_NAME_MAX then is an alias: at most ALIAS_KEEP bytes of the escaped form, cut
 *   between escapes, "%~", and the 32 digits of two hashes of the whole key.
 * A key with the name of a tree whose first byte is escaped in any case (tree "/a", key "/a") is an alias
 * of all its bytes: a tree's directory never has "%~" in its name.
 *
 * So each key has exactly one name, and two keys never have the same one. Of the many spellings that
 * unescape to a key only that one is accepted, else a key would be several files.
 */
#include "kvfs_internal.h"

#define ALIAS_KEEP 200u
#define ALIAS_TAIL 34u	       /* "%~" and the digits */
#define ALIAS_STEPS_MAX 4096u  /* keys with the same beginning that a lookup looks at */
#define SEED_SECOND 0x9e3779b97f4a7c15ull

const char *const kvfs_control_name[KVFS_CONTROLS] = { "_mk", "_del", "_inc", "_dec" };

enum kvfs_control kvfs_control_of(const void *name, u32 len)
{
	u32 i;

	for (i = 0; i < KVFS_CONTROLS; i++)
		if (len == strlen(kvfs_control_name[i]) && !memcmp(name, kvfs_control_name[i], len))
			break;
	return (enum kvfs_control)i;
}

static bool name_is(const char *a, const char *b)
{
	size_t len = strlen(b);

	return strlen(a) == len && !memcmp(a, b, len);
}

bool kvfs_is_root(const kv_tree *tree)
{
	return !tree || name_is(kv_tree_name(tree), "main");
}

/* ---- escaping ------------------------------------------------------------------------------------ */

static char digit(u32 v)
{
	return (char)(v < 10 ? '0' + v : 'A' + (v - 10));
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool escaped_always(u8 c)
{
	return !c || c == '/' || c == '%';
}

/* Names that mean something else in every directory. */
static bool reserved(const u8 *raw, u32 len)
{
	if (len <= 2 && raw[0] == '.' && raw[len - 1] == '.')
		return true;
	return kvfs_control_of(raw, len) != KVFS_CONTROLS;
}

/*
 * Escapes into name, as far as it fits. *keep: bytes of name up to the last boundary within ALIAS_KEEP.
 * Returns the length, or 0 when not all of it fitted.
 */
static u32 escape(const u8 *raw, u32 len, bool first, char *name, u32 *keep)
{
	u32 i, width, used = 0;

	*keep = 0;
	for (i = 0; i < len; i++) {
		width = escaped_always(raw[i]) || (first && !i) ? 3 : 1;
		if (used + width > KVFS_NAME_MAX)
			return 0;
		if (width == 3) {
			name[used] = '%';
			name[used + 1] = digit(raw[i] >> 4);
			name[used + 2] = digit(raw[i] & 15);
		} else {
			name[used] = (char)raw[i];
		}
		used += width;
		if (used <= ALIAS_KEEP)
			*keep = used;
	}
	return used;
}

static u32 alias_end(const u8 *key, u32 key_len, char *name, u32 keep)
{
	u64 hash[2] = { kvp_xxh64(key, key_len, 0), kvp_xxh64(key, key_len, SEED_SECOND) };
	u32 i;

	name[keep] = '%';
	name[keep + 1] = '~';
	for (i = 0; i < 32; i++)
		name[keep + 2 + i] = digit(hash[i / 16] >> (60 - i % 16 * 4) & 15);
	return keep + ALIAS_TAIL;
}

/* Does the root show a tree of this name as a directory? */
static bool tree_has_name(struct kvfs *fs, const u8 *raw, u32 len)
{
	char name[KVFS_TREE_NAME_MAX + 1];
	kv_tree *t;

	if (len > KVFS_TREE_NAME_MAX)
		return false;
	memcpy(name, raw, len);
	name[len] = 0;
	if (strlen(name) != len || name_is(name, "main"))
		return false;
	return !kv_tree_find(fs->db, name, &t);
}

u32 kvfs_name_from_key(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len, char *name)
{
	bool special = reserved(key, key_len), clash = false;
	u32 keep, len;

	if (kvfs_is_root(tree))
		clash = tree_has_name(fs, key, key_len);
	len = escape(key, key_len, special || clash, name, &keep);
	if (!len || (clash && (special || escaped_always(*(const u8 *)key))))
		len = alias_end(key, key_len, name, keep);
	name[len] = 0;
	return len;
}

/* A name of a tree has at most 64 bytes: it always fits. */
static u32 name_of_tree(const char *raw, char *name)
{
	u32 keep, len = (u32)strlen(raw);

	len = escape((const u8 *)raw, len, reserved((const u8 *)raw, len), name, &keep);
	name[len] = 0;
	return len;
}

u32 kvfs_name_from_tree(kv_tree *tree, char *name)
{
	return name_of_tree(kv_tree_name(tree), name);
}

/* ---- and back ------------------------------------------------------------------------------------- */

/* Returns the length of raw; *alias: the name is one, and raw is what its keys begin with. */
static int unescape(const char *name, u32 name_len, u8 *raw, u32 raw_max, bool *alias)
{
	u32 i, len = 0;
	int hi, lo;

	*alias = false;
	if (name_len > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	for (i = 0; i < name_len; i++) {
		if (name[i] == '%' && name_len - i == ALIAS_TAIL && name[i + 1] == '~') {
			*alias = true;
			break;
		}
		if (len == raw_max)
			return -ENAMETOOLONG;
		if (name[i] != '%') {
			raw[len++] = (u8)name[i];
			continue;
		}
		if (name_len - i < 3)
			return -ENOENT;
		hi = digit_value(name[i + 1]);
		lo = digit_value(name[i + 2]);
		if (hi < 0 || lo < 0)
			return -ENOENT;
		raw[len++] = (u8)(hi << 4 | lo);
		i += 2;
	}
	return len ? (int)len : -ENOENT;
}

static bool has_name(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len, const char *name,
		     u32 name_len)
{
	char own[KVFS_NAME_MAX + 1];

	return kvfs_name_from_key(fs, tree, key, key_len, own) == name_len && !memcmp(own, name, name_len);
}

/* The key of an alias: among those that begin with what is in key. */
static int alias_find(struct kvfs *fs, kv_tree *tree, const char *name, u32 name_len, u8 *key, u32 begin)
{
	const void *at;
	kv_cursor *c;
	size_t len;
	u32 steps;
	int err;

	err = kvfs_errno(kv_cursor_open(fs->db, NULL, tree, &c));
	if (err)
		return err;
	err = kvfs_errno(kv_cursor_seek(c, key, begin));
	for (steps = 0; !err; steps++) {
		err = kvfs_errno(kv_cursor_key(c, &at, &len));
		if (!err && (len < begin || memcmp(at, key, begin)))
			err = -ENOENT;
		if (!err && steps == ALIAS_STEPS_MAX)
			err = -ELOOP;
		if (err)
			break;
		if (has_name(fs, tree, at, (u32)len, name, name_len)) {
			memcpy(key, at, len);
			err = (int)len;
			break;
		}
		if (steps % 64 == 63)
			kvp_resched();
		err = kvfs_errno(kv_cursor_next(c));
	}
	kv_cursor_close(c);
	return err;
}

int kvfs_key_from_name(struct kvfs *fs, kv_tree *tree, const char *name, u32 name_len, void *key)
{
	bool alias;
	int len = unescape(name, name_len, key, fs->key_max, &alias);

	if (len < 0)
		return len;
	if (alias)
		return alias_find(fs, tree, name, name_len, key, (u32)len);
	return has_name(fs, tree, key, (u32)len, name, name_len) ? len : -ENOENT;
}

int kvfs_tree_name(const char *name, u32 name_len, char raw[KVFS_TREE_NAME_MAX + 1])
{
	char own[KVFS_NAME_MAX + 1];
	bool alias;
	int len = unescape(name, name_len, (u8 *)raw, KVFS_TREE_NAME_MAX, &alias);

	if (len < 0)
		return len;
	raw[len] = 0;
	if (alias || strlen(raw) != (size_t)len || name_of_tree(raw, own) != name_len ||
	    memcmp(own, name, name_len))
		return -ENOENT;
	return 0;
}

int kvfs_tree_from_name(struct kvfs *fs, const char *name, u32 name_len, kv_tree **out)
{
	char raw[KVFS_TREE_NAME_MAX + 1];
	int err = kvfs_tree_name(name, name_len, raw);

	/* Too long for a tree may still be a key. */
	if (err || name_is(raw, "main"))
		return -ENOENT;
	return kvfs_errno(kv_tree_find(fs->db, raw, out));
}

/* ---- inode numbers ---------------------------------------------------------------------------------- */

static u64 ino_of(u64 hash)
{
	return hash < KVFS_INO_FIRST ? hash + KVFS_INO_FIRST : hash;
}

static u64 tree_seed(kv_tree *tree, u64 what)
{
	const char *name = kvfs_is_root(tree) ? "" : kv_tree_name(tree);

	return kvp_xxh64(name, strlen(name), what);
}

u64 kvfs_ino(kv_tree *tree, const void *key, u32 key_len)
{
	return ino_of(kvp_xxh64(key, key_len, tree_seed(tree, 0)));
}

u64 kvfs_tree_ino(kv_tree *tree)
{
	return kvfs_is_root(tree) ? KVFS_ROOT_INO : ino_of(tree_seed(tree, 1));
}

u64 kvfs_control_ino(kv_tree *tree, enum kvfs_control which)
{
	if (kvfs_is_root(tree))
		return KVFS_ROOT_INO + 1 + (u64)which;
	return ino_of(tree_seed(tree, 2 + (u64)which));
}
