/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume_mount_scan.c - cursors on a mount: the ioctl SCAN, a buffer at a time, each from behind the last key
 * of the one before.
 *
 * Values come along once the caller has asked for one: who only walks over keys (del, scan --keys) never
 * pays for them. A value that is not in the buffer is fetched when it is asked for; then the key may be
 * gone, and the answer is KV_E_NOTFOUND.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "volume_mount.h"

#define BUFFER_BYTES (256u << 10)
/* Of the first call, before it is known whether values are wanted. */
#define FIRST_RECORDS 16

struct bound {
	void *p;
	size_t n;
};

struct mounted_cursor {
	int dir;
	struct bound from, to, last; /* p NULL: none; last: the key of the newest record */
	bool reverse, values;
	bool started, more; /* a call was made; there are more records behind it */
	uint32_t flags;	    /* of that call */
	uint8_t *buf;
	size_t used, next; /* bytes in buf; where the record behind the current one begins */
	bool valid;	   /* there is a current record: */
	struct kvfs_rec rec;
	const uint8_t *key, *value; /* value NULL: not in the buffer */
	uint8_t *fetched;
};

static struct mounted_cursor *cursor_of(kv_cursor *c)
{
	return (struct mounted_cursor *)c;
}

/* p NULL: none. False: no memory; nothing changed. */
static bool bound_set(struct bound *b, const void *p, size_t n)
{
	void *copy = NULL;

	if (p && n) {
		copy = malloc(n);
		if (!copy)
			return false;
		memcpy(copy, p, n);
	}
	free(b->p);
	b->p = copy;
	b->n = copy ? n : 0;
	return true;
}

/* ---- counting -------------------------------------------------------------------------------- */

/* The last of count records; false when they are not what the header says. */
static bool last_key(const uint8_t *buf, size_t used, uint32_t count, struct bound *last)
{
	struct kvfs_rec rec;
	size_t at = 0, key_at = 0;

	while (count--) {
		if (used - at < sizeof(rec))
			return false;
		memcpy(&rec, buf + at, sizeof(rec));
		if (rec.key_len > used - at - sizeof(rec))
			return false;
		key_at = at + sizeof(rec);
		at = (key_at + rec.key_len + 7) & ~(size_t)7;
	}
	return bound_set(last, buf + key_at, rec.key_len);
}

int mounted_count(kv_db *db, kv_tree *tree, uint64_t *count)
{
	struct kvfs_scan a = { .more = 1 };
	struct bound last = { 0 };
	uint8_t *buf = malloc(BUFFER_BYTES);
	int err = 0;

	*count = 0;
	if (!buf)
		return mounted_fail("the keys could not be counted");
	while (!err && a.more) {
		a = (struct kvfs_scan){
			.flags = KVFS_SCAN_KEYS | (last.p ? KVFS_SCAN_AFTER : 0),
			.from = mounted_pointer(last.p), .from_len = (uint32_t)last.n,
			.buf = mounted_pointer(buf), .buf_len = BUFFER_BYTES,
		};
		if (mounted_scan(mounted_dir(db, tree), &a)) {
			err = mounted_fail("the keys could not be counted");
			break;
		}
		*count += a.count;
		if (a.more && (!a.count || !last_key(buf, a.buf_len, a.count, &last))) {
			errno = a.count ? ENOMEM : EIO;
			err = mounted_fail("the keys could not be counted");
		}
	}
	free(last.p);
	free(buf);
	return err;
}

/* ---- walking --------------------------------------------------------------------------------- */

int mounted_cursor_open(kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out)
{
	struct mounted_cursor *c = calloc(1, sizeof(*c));

	(void)r;
	if (c)
		c->buf = malloc(BUFFER_BYTES);
	if (!c || !c->buf) {
		free(c);
		errno = ENOMEM;
		return mounted_fail("no cursor");
	}
	c->dir = mounted_dir(db, tree);
	*out = (kv_cursor *)c;
	return 0;
}

int mounted_cursor_bounds(kv_cursor *cursor, const void *from, size_t from_len, const void *to,
			  size_t to_len)
{
	struct mounted_cursor *c = cursor_of(cursor);

	if (!bound_set(&c->from, from, from_len) || !bound_set(&c->to, to, to_len))
		return mounted_fail("no cursor");
	c->valid = false;
	return 0;
}

/* The next buffer. */
static int fetch(struct mounted_cursor *c)
{
	struct kvfs_scan a = { .buf = mounted_pointer(c->buf), .buf_len = BUFFER_BYTES };
	/* Downwards the scan begins below `to`, and `from` is the lowest key. */
	const struct bound *begin = c->reverse ? &c->to : &c->from, *end = c->reverse ? &c->from : &c->to;

	c->flags = c->reverse ? KVFS_SCAN_REVERSE : 0;
	if (c->last.p || c->reverse)
		c->flags |= KVFS_SCAN_AFTER;
	if (!c->values) {
		c->flags |= KVFS_SCAN_KEYS;
		a.limit = c->started ? 0 : FIRST_RECORDS;
	}
	if (c->last.p)
		begin = &c->last;
	a.flags = c->flags;
	a.from = mounted_pointer(begin->p);
	a.from_len = (uint32_t)begin->n;
	a.to = mounted_pointer(end->p);
	a.to_len = (uint32_t)end->n;
	c->used = 0;
	c->next = 0;
	if (mounted_scan(c->dir, &a))
		return mounted_fail("the keys could not be listed");
	c->started = true;
	c->used = a.buf_len;
	c->more = a.more;
	return 0;
}

/* Makes the record at c->next the current one. */
static int take(struct mounted_cursor *c)
{
	size_t left = c->used - c->next, value;

	if (left < sizeof(c->rec))
		goto bad;
	memcpy(&c->rec, c->buf + c->next, sizeof(c->rec));
	left -= sizeof(c->rec);
	value = c->flags & KVFS_SCAN_KEYS || c->rec.flags & KVFS_REC_LONG ? 0 : c->rec.value_len;
	if (!c->rec.key_len || c->rec.key_len > left || value > left - c->rec.key_len)
		goto bad;
	c->key = c->buf + c->next + sizeof(c->rec);
	c->value = c->flags & KVFS_SCAN_KEYS || c->rec.flags & KVFS_REC_LONG ? NULL : c->key + c->rec.key_len;
	c->next += (sizeof(c->rec) + c->rec.key_len + value + 7) & ~(size_t)7;
	if (c->next > c->used)
		c->next = c->used;
	if (!bound_set(&c->last, c->key, c->rec.key_len))
		return mounted_fail("the keys could not be listed");
	c->valid = true;
	return 0;
bad:
	errno = EPROTO;
	return mounted_fail("the keys could not be listed");
}

static int step(struct mounted_cursor *c)
{
	int err = 0;

	c->valid = false;
	if (c->next == c->used) {
		if (c->started && !c->more)
			return KV_E_NOTFOUND;
		err = fetch(c);
		if (!err && !c->used)
			return KV_E_NOTFOUND;
	}
	return err ? err : take(c);
}

static int begin(struct mounted_cursor *c, bool reverse)
{
	c->reverse = reverse;
	c->started = false;
	c->used = 0;
	c->next = 0;
	bound_set(&c->last, NULL, 0);
	return step(c);
}

int mounted_cursor_first(kv_cursor *c)
{
	return begin(cursor_of(c), false);
}

int mounted_cursor_last(kv_cursor *c)
{
	return begin(cursor_of(c), true);
}

static int go_on(struct mounted_cursor *c, bool reverse)
{
	if (c->reverse != reverse)
		return mounted_say(KV_E_INVALID, "a cursor on a mount does not turn round");
	return step(c);
}

int mounted_cursor_next(kv_cursor *c)
{
	return go_on(cursor_of(c), false);
}

int mounted_cursor_prev(kv_cursor *c)
{
	return go_on(cursor_of(c), true);
}

void mounted_cursor_close(kv_cursor *cursor)
{
	struct mounted_cursor *c = cursor_of(cursor);

	if (!c)
		return;
	free(c->from.p);
	free(c->to.p);
	free(c->last.p);
	free(c->fetched);
	free(c->buf);
	free(c);
}

/* ---- the current record ---------------------------------------------------------------------- */

static int no_record(void)
{
	return mounted_say(KV_E_INVALID, "the cursor is at no key");
}

int mounted_cursor_key(kv_cursor *cursor, const void **key, size_t *key_len)
{
	const struct mounted_cursor *c = cursor_of(cursor);

	if (!c->valid)
		return no_record();
	*key = c->key;
	*key_len = c->rec.key_len;
	return 0;
}

int mounted_cursor_value_len(kv_cursor *cursor, uint64_t *value_len)
{
	struct mounted_cursor *c = cursor_of(cursor);

	if (!c->valid)
		return no_record();
	c->values = true;
	*value_len = c->rec.value_len;
	return 0;
}

/* It may have another length by now. */
static int fetch_value(struct mounted_cursor *c)
{
	size_t room = c->rec.value_len, len;
	uint8_t *p;

	for (;;) {
		if (room > KVFS_IOC_VALUE_MAX)
			return mounted_say(KV_E_TOOBIG, "the value is too long for one call");
		p = realloc(c->fetched, room + 1);
		if (!p)
			return mounted_fail("the value could not be read");
		c->fetched = p;
		len = room;
		if (mounted_get(c->dir, c->key, c->rec.key_len, p, &len))
			return mounted_fail("the value could not be read");
		if (len <= room)
			break;
		room = len;
	}
	c->rec.value_len = len;
	c->value = p;
	return 0;
}

int mounted_cursor_value(kv_cursor *cursor, const void **value, size_t *value_len)
{
	struct mounted_cursor *c = cursor_of(cursor);
	int err = 0;

	if (!c->valid)
		return no_record();
	c->values = true;
	if (!c->value)
		err = fetch_value(c);
	if (err)
		return err;
	*value = c->value;
	*value_len = c->rec.value_len;
	return 0;
}

int mounted_cursor_reader(kv_cursor *cursor, kv_reader **out, uint64_t *value_len)
{
	struct mounted_cursor *c = cursor_of(cursor);

	if (!c->valid)
		return no_record();
	return mounted_reader_of(c->dir, c->key, c->rec.key_len, out, value_len);
}
