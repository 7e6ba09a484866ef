/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.c - _mk _del _inc _dec: one write is one command on one key, all bytes of which are the key.
 *
 * Adding is the engine's, so it is exact whoever else adds; the lock of the node, if there is one, only
 * keeps it out of the middle of an append or a truncation.
 */
#include "kvfs_internal.h"

#define NUMBER_BYTES_MAX 96u /* what the engine takes for a number */

int kvfs_control_key(struct kvfs *fs, const void *data, size_t len)
{
	const u8 *bytes = data;

	if (len && len - 1 <= fs->key_max && fs->strip_nl && bytes[len - 1] == '\n')
		len--;
	if (!len)
		return -EINVAL;
	return len > fs->key_max ? -ENAMETOOLONG : (int)len;
}

static bool digit_of(u8 c, u32 base)
{
	if (c >= '0' && c <= '9')
		return (u32)(c - '0') < base;
	c |= 0x20;
	return base == 16 && c >= 'a' && c <= 'f';
}

/* Is it written as a number, whatever its size? */
static bool is_number(const u8 *s, size_t len)
{
	u32 base = 10;
	size_t i = 0;

	if (i < len && (s[i] == '-' || s[i] == '+'))
		i++;
	if (len - i > 1 && s[i] == '0') {
		i++;
		base = 8;
		if (len - i > 1 && ((s[i] | 0x20) == 'x' || (s[i] | 0x20) == 'b'))
			base = (s[i++] | 0x20) == 'x' ? 16 : 2;
	}
	if (len && s[len - 1] == '\n')
		len--;
	if (i >= len)
		return false;
	for (; i < len; i++)
		if (!digit_of(s[i], base))
			return false;
	return true;
}

/* The engine has one error for what is no number and for what does not fit: look at the value. */
static int number_error(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len)
{
	u8 text[NUMBER_BYTES_MAX];
	size_t len;

	if (kv_get_into(fs->db, tree, key, key_len, text, sizeof(text), &len))
		return -EINVAL;
	return is_number(text, len) ? -ERANGE : -EINVAL;
}

int kvfs_inc(struct kvfs *fs, kv_tree *tree, const void *key, u32 key_len, s64 delta, s64 *result, u32 flags)
{
	int64_t sum = 0;
	int err = kv_inc(fs->db, tree, key, key_len, delta, &sum, flags);

	if (!err && result)
		*result = sum;
	return err == KV_E_NUMBER ? number_error(fs, tree, key, key_len) : kvfs_errno(err);
}

static int command(struct kvfs *fs, kv_tree *tree, enum kvfs_control which, const void *key, u32 key_len)
{
	u32 flags = kvfs_durability(fs, 0);

	switch (which) {
	case KVFS_MK:
		return kvfs_errno(kv_put(fs->db, tree, key, key_len, NULL, 0, flags | KV_PUT_NEW));
	case KVFS_DEL:
		return kvfs_errno(kv_del(fs->db, tree, key, key_len, flags));
	case KVFS_INC:
		return kvfs_inc(fs, tree, key, key_len, 1, NULL, kvfs_durability(fs, 0));
	case KVFS_DEC:
		return kvfs_inc(fs, tree, key, key_len, -1, NULL, kvfs_durability(fs, 0));
	default:
		return -EINVAL;
	}
}

int kvfs_control(struct kvfs *fs, kv_tree *tree, enum kvfs_control which, const void *key, u32 key_len,
		 struct kvfs_node *node)
{
	int err;

	if (!key_len)
		return -EINVAL;
	if (key_len > fs->key_max)
		return -ENAMETOOLONG;
	if (!node || which == KVFS_MK || kvfs_change_begin(node))
		return command(fs, tree, which, key, key_len);
	/* It may have been renamed since the caller found it. */
	if (!kvfs_node_is(node, tree, key, key_len)) {
		kvfs_change_end(node, -EINVAL);
		return command(fs, tree, which, key, key_len);
	}
	err = command(fs, tree, which, key, key_len);
	if (!err && which == KVFS_DEL)
		kvp_store(&node->gone, true);
	err = kvfs_change_end(node, err);
	return err == -ESTALE ? -ENOENT : err;
}
