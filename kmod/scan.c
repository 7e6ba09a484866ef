// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * scan.c - SCAN: records in order of their keys, packed into the caller's buffer.
 *
 * One call sees one frozen state. Records are gathered in a buffer of the kernel and copied out when it
 * is full; the cursor holds no lock in between. The next call goes on behind the last key (AFTER), in the
 * state of that time.
 *
 * A value longer than VALUE_MAX, or one that not even an empty buffer has room for, is left out of its
 * record (KVFS_REC_LONG), so every call that has room for a key makes progress.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ioctl.h"

#define VALUE_MAX KVFS_PIECE
#define GATHER_BYTES (2 * KVFS_PIECE) /* holds any record: key_max is far below */

#define SCAN_FLAGS (KVFS_SCAN_AFTER | KVFS_SCAN_REVERSE | KVFS_SCAN_KEYS)

struct scan {
	struct kvfs_scan a;
	const struct ioctl_on *on;
	void *from, *to; /* NULL: no bound */
	kv_cursor *cursor;
	u8 *gather;
	u32 gathered;
	u64 written; /* to the user, and gathered */
};

/* ---- arguments ------------------------------------------------------------------------------------ */

static int bound_from_user(struct scan *s, u64 from, u32 len, void **out)
{
	if (!from)
		return len ? -EINVAL : 0;
	return kvfs_key_from_user(kvfs_of(s->on->dir), from, len, out);
}

static int scan_from_user(struct scan *s, const void __user *arg)
{
	struct kvfs_scan *a = &s->a;
	int err;

	if (copy_from_user(a, arg, sizeof(*a)))
		return -EFAULT;
	if (a->size != sizeof(*a) || a->flags & ~SCAN_FLAGS || a->reserved)
		return -EINVAL;
	a->buf_len = min_t(u64, a->buf_len, KVFS_IOC_VALUE_MAX);
	a->count = 0;
	a->more = 0;
	err = bound_from_user(s, a->from, a->from_len, &s->from);
	return err ? err : bound_from_user(s, a->to, a->to_len, &s->to);
}

static int scan_allowed(const struct scan *s)
{
	if (s->a.flags & KVFS_SCAN_KEYS)
		return inode_permission(kvfs_file_idmap(s->on->file), s->on->dir, MAY_READ | MAY_EXEC);
	return kvfs_may_read(s->on, MAY_READ | MAY_EXEC);
}

/* ---- the cursor ----------------------------------------------------------------------------------- */

static int cursor_step(struct scan *s)
{
	return s->a.flags & KVFS_SCAN_REVERSE ? kv_cursor_prev(s->cursor) : kv_cursor_next(s->cursor);
}

/* To the first record; KV_E_*. Downwards `to` is the lowest key. */
static int cursor_start(struct scan *s)
{
	bool reverse = s->a.flags & KVFS_SCAN_REVERSE;
	const void *key;
	size_t len;
	int err;

	if (reverse)
		err = kv_cursor_bounds(s->cursor, s->to, s->a.to_len, NULL, 0);
	else
		err = kv_cursor_bounds(s->cursor, NULL, 0, s->to, s->a.to_len);
	if (err)
		return err;
	if (!s->from)
		return reverse ? kv_cursor_last(s->cursor) : kv_cursor_first(s->cursor);
	err = reverse ? kv_cursor_seek_le(s->cursor, s->from, s->a.from_len) :
			kv_cursor_seek(s->cursor, s->from, s->a.from_len);
	if (err || !(s->a.flags & KVFS_SCAN_AFTER))
		return err;
	err = kv_cursor_key(s->cursor, &key, &len);
	if (!err && len == s->a.from_len && !memcmp(key, s->from, len))
		err = cursor_step(s);
	return err;
}

/* ---- records -------------------------------------------------------------------------------------- */

static int gather_out(struct scan *s)
{
	u8 __user *to = u64_to_user_ptr(s->a.buf);

	if (s->gathered && copy_to_user(to + s->written - s->gathered, s->gather, s->gathered))
		return -EFAULT;
	s->gathered = 0;
	return 0;
}

static void gather_add(struct scan *s, const struct kvfs_rec *rec, const void *key, const void *value,
		       u64 value_bytes)
{
	u32 bytes = (u32)(sizeof(*rec) + rec->key_len + value_bytes), whole = ALIGN(bytes, 8);
	u8 *to = s->gather + s->gathered;

	memcpy(to, rec, sizeof(*rec));
	memcpy(to + sizeof(*rec), key, rec->key_len);
	if (value_bytes)
		memcpy(to + sizeof(*rec) + rec->key_len, value, value_bytes);
	memset(to + bytes, 0, whole - bytes);
	s->gathered += whole;
	s->written += whole;
	s->a.count++;
}

/* Bytes of the value that go into the record at the cursor; *fits: it has room. */
static u64 value_share(const struct scan *s, struct kvfs_rec *rec, bool *fits)
{
	u64 room = s->a.buf_len - s->written, bare = ALIGN(sizeof(*rec) + rec->key_len, 8), whole;

	rec->flags = 0;
	if (s->a.flags & KVFS_SCAN_KEYS) {
		*fits = bare <= room;
		return 0;
	}
	whole = ALIGN(sizeof(*rec) + rec->key_len + min_t(u64, rec->value_len, VALUE_MAX), 8);
	if (rec->value_len > VALUE_MAX || (whole > room && !s->a.count)) {
		rec->flags = KVFS_REC_LONG;
		*fits = bare <= room;
		return 0;
	}
	*fits = whole <= room;
	return rec->value_len;
}

/* The record at the cursor. 1: there is no room for it. */
static int scan_one(struct scan *s)
{
	const void *key, *value = NULL;
	struct kvfs_rec rec = { 0 };
	size_t key_len, value_len = 0;
	uint64_t length;
	bool fits;
	u64 share;
	int err = kv_cursor_key(s->cursor, &key, &key_len);

	if (!err)
		err = kv_cursor_value_len(s->cursor, &length);
	if (err)
		return kvfs_errno(err);
	rec.key_len = (u32)key_len;
	rec.value_len = length;
	share = value_share(s, &rec, &fits);
	if (!fits)
		return 1;
	if (s->gathered + ALIGN(sizeof(rec) + key_len + share, 8) > GATHER_BYTES) {
		err = gather_out(s);
		if (err)
			return err;
	}
	if (share) {
		err = kvfs_errno(kv_cursor_value(s->cursor, &value, &value_len));
		if (!err && value_len != share)
			err = -EIO;
		if (err)
			return err;
	}
	gather_add(s, &rec, key, value, share);
	return 0;
}

static int scan_records(struct scan *s)
{
	int end = cursor_start(s), err = 0;

	while (!end) {
		if (s->a.limit && s->a.count >= s->a.limit)
			break;
		if (fatal_signal_pending(current))
			return -EINTR;
		err = scan_one(s);
		if (err)
			break;
		end = cursor_step(s);
		cond_resched();
	}
	if (end && end != KV_E_NOTFOUND)
		err = kvfs_errno(end);
	s->a.more = end != KV_E_NOTFOUND;
	if (err == -EFAULT)
		return err;
	/* What came before an error is given first; the next call meets it again. */
	if (err && !s->a.count)
		return err > 0 ? -ERANGE : err;
	return gather_out(s);
}

static int scan_run(struct scan *s)
{
	int err;

	s->gather = kvmalloc(GATHER_BYTES, GFP_KERNEL_ACCOUNT);
	if (!s->gather)
		return -ENOMEM;
	err = kvfs_errno(kv_cursor_open(kvfs_of(s->on->dir)->db, NULL, s->on->tree, &s->cursor));
	if (!err) {
		err = scan_records(s);
		kv_cursor_close(s->cursor);
	}
	kvfree(s->gather);
	return err;
}

int kvfs_ioctl_scan(const struct ioctl_on *on, void __user *arg)
{
	struct scan s = { .on = on };
	int err = scan_from_user(&s, arg);

	if (!err)
		err = scan_allowed(&s);
	if (!err)
		err = scan_run(&s);
	kfree(s.to);
	kfree(s.from);
	if (err)
		return err;
	s.a.buf_len = s.written;
	return copy_to_user(arg, &s.a, sizeof(s.a)) ? -EFAULT : 0;
}
