/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * list.c - listing a directory: control files, trees (in the root), keys, each in order.
 *
 * A position is the number of an entry in this open directory. Listing goes on strictly behind the name of
 * the last entry, never by counting, so every key that is there all the time comes exactly once, whatever
 * else comes and goes. For going back to a position, the trail remembers the names behind which positions
 * begin: the newest ones all, older ones with gaps that are counted through. That is needed all the time:
 * FUSE asks again for what its reader had no room for.
 *
 * A cursor freezes the volume, so each call has its own.
 */
#include "kvfs_internal.h"

#define POS_CONTROL 2u
#define POS_FIRST (POS_CONTROL + KVFS_CONTROLS) /* trees and keys */
#define TRAIL_MARKS 2048u
#define TRAIL_BYTES (256u << 10)

/* The entry before a position. */
struct mark {
	u64 pos; /* of the next entry */
	u8 *name; /* key, or name of a tree */
	u32 len;  /* 0: none; the part begins */
	bool keys; /* else trees */
};

struct kvfs_dir {
	struct kvfs *fs;
	kv_tree *tree;
	struct mark at; /* name: room for the longest */
	struct mark *trail; /* ascending positions; NULL: not yet, or no memory */
	u32 trail_nr;
	u64 trail_bytes;
	/* for one call of kvfs_dir_read */
	kvfs_emit emit;
	void *arg;
	u64 want; /* entries before this position are counted through */
	bool full;
};

int kvfs_dir_open(struct kvfs *fs, kv_tree *tree, struct kvfs_dir **out)
{
	size_t room = fs->key_max > KVFS_TREE_NAME_MAX ? fs->key_max : KVFS_TREE_NAME_MAX;
	struct kvfs_dir *d = kvp_alloc(sizeof(*d), KVP_ZERO);

	if (!d)
		return -ENOMEM;
	d->at.name = kvp_alloc(room, 0);
	if (!d->at.name) {
		kvp_free(d);
		return -ENOMEM;
	}
	d->fs = fs;
	d->tree = tree;
	d->at.pos = POS_FIRST;
	d->at.keys = !kvfs_is_root(tree);
	*out = d;
	return 0;
}

/* ---- the trail ------------------------------------------------------------------------------------ */

static void trail_cut(struct kvfs_dir *d, u32 nr)
{
	while (d->trail_nr > nr) {
		d->trail_nr--;
		d->trail_bytes -= d->trail[d->trail_nr].len;
		kvp_free(d->trail[d->trail_nr].name);
	}
}

void kvfs_dir_close(struct kvfs_dir *d)
{
	if (!d)
		return;
	trail_cut(d, 0);
	kvp_free(d->trail);
	kvp_free(d->at.name);
	kvp_free(d);
}

/* Number of marks at positions <= pos. */
static u32 trail_search(const struct kvfs_dir *d, u64 pos)
{
	u32 low = 0, high = d->trail_nr, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (d->trail[mid].pos <= pos)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Drops every other mark of the older half. */
static void trail_thin(struct kvfs_dir *d)
{
	u32 i, kept = 0, old = d->trail_nr / 2;

	for (i = 0; i < d->trail_nr; i++) {
		if (i < old && i % 2) {
			d->trail_bytes -= d->trail[i].len;
			kvp_free(d->trail[i].name);
		} else {
			d->trail[kept++] = d->trail[i];
		}
	}
	d->trail_nr = kept;
}

static bool mark_is(const struct mark *m, bool keys, const void *name, u32 len)
{
	return m->keys == keys && m->len == len && !memcmp(m->name, name, len);
}

/*
 * Where an older mark has another name by now, or has been thinned out, what follows is forgotten: the
 * places near the reader matter most. Without memory there is no mark, and going back counts from an
 * earlier one.
 */
static void trail_add(struct kvfs_dir *d)
{
	u32 nr = trail_search(d, d->at.pos);
	struct mark *m;

	/* The same entry as the last time here, and what follows it, is good still. */
	if (nr && d->trail[nr - 1].pos == d->at.pos) {
		if (mark_is(&d->trail[nr - 1], d->at.keys, d->at.name, d->at.len))
			return;
		nr--;
	}
	if (nr < d->trail_nr)
		trail_cut(d, nr);
	if (!d->trail)
		d->trail = kvp_alloc_array(TRAIL_MARKS, sizeof(*d->trail), 0);
	if (!d->trail)
		return;
	if (d->trail_nr == TRAIL_MARKS || (d->trail_bytes > TRAIL_BYTES && d->trail_nr > 3))
		trail_thin(d);
	m = &d->trail[d->trail_nr];
	*m = d->at;
	m->name = kvp_alloc(d->at.len, 0);
	if (!m->name)
		return;
	memcpy(m->name, d->at.name, d->at.len);
	d->trail_nr++;
	d->trail_bytes += m->len;
}

/* To the last mark that is not behind pos, unless we stand between the two. */
static void go_to(struct kvfs_dir *d, u64 pos)
{
	u32 nr = trail_search(d, pos);
	u8 *name = d->at.name;

	if (d->at.pos <= pos && (!nr || d->trail[nr - 1].pos <= d->at.pos))
		return;
	if (!nr) {
		d->at.pos = POS_FIRST;
		d->at.keys = !kvfs_is_root(d->tree);
		d->at.len = 0;
		return;
	}
	d->at = d->trail[nr - 1];
	d->at.name = memcpy(name, d->at.name, d->at.len);
}

/* ---- reading ---------------------------------------------------------------------------------------- */

/* The entry of that name is next: emit it if it is wanted, and step over it. False: no room. */
static bool entry(struct kvfs_dir *d, const void *name, u32 len, kv_tree *sub)
{
	char text[KVFS_NAME_MAX + 1];
	u32 text_len;

	if (d->at.pos >= d->want) {
		text_len = sub ? kvfs_name_from_tree(sub, text) :
				 kvfs_name_from_key(d->fs, d->tree, name, len, text);
		if (!d->emit(d->arg, text, text_len,
			     sub ? kvfs_tree_ino(sub) : kvfs_ino(d->tree, name, len),
			     sub ? KVFS_TREE : KVFS_KEY)) {
			d->full = true;
			return false;
		}
	}
	memcpy(d->at.name, name, len);
	d->at.len = len;
	d->at.pos++;
	trail_add(d);
	if (d->at.pos % 64 == 0)
		kvp_resched();
	return true;
}

static int tree_entry(void *arg, const char *name, uint64_t count)
{
	struct kvfs_dir *d = arg;
	u32 len = (u32)strlen(name), common = (u32)kvfs_least(len, d->at.len);
	kv_tree *sub;
	int order = memcmp(name, d->at.name, common);

	(void)count;
	if (order < 0 || (!order && len <= d->at.len))
		return 0;
	/* It may be dropped just now. */
	if (kv_tree_open(d->fs->db, name, 0, &sub) || kvfs_is_root(sub))
		return 0;
	return entry(d, name, len, sub) ? 0 : 1;
}

static int trees_read(struct kvfs_dir *d)
{
	int err = kv_tree_list(d->fs->db, tree_entry, d);

	if (err < 0)
		return kvfs_errno(err);
	if (!d->full) {
		d->at.keys = true;
		d->at.len = 0;
	}
	return 0;
}

/* Strictly behind the last key. */
static int cursor_begin(struct kvfs_dir *d, kv_cursor *c)
{
	const void *key;
	size_t len;
	int err = d->at.len ? kv_cursor_seek(c, d->at.name, d->at.len) : kv_cursor_first(c);

	if (err || !d->at.len)
		return err;
	err = kv_cursor_key(c, &key, &len);
	if (!err && len == d->at.len && !memcmp(key, d->at.name, len))
		err = kv_cursor_next(c);
	return err;
}

static int keys_read(struct kvfs_dir *d)
{
	const void *key;
	kv_cursor *c;
	size_t len;
	u64 begun;
	int err;

	do {
		begun = d->at.pos;
		err = kv_cursor_open(d->fs->db, NULL, d->tree, &c);
		if (err)
			return kvfs_errno(err);
		err = cursor_begin(d, c);
		while (!err && !(err = kv_cursor_key(c, &key, &len)) && entry(d, key, (u32)len, NULL))
			err = kv_cursor_next(c);
		kv_cursor_close(c);
		/* A state that was frozen for too long: go on with a new one, as long as that helps. */
	} while (err == KV_E_TOOOLD && d->at.pos > begun);
	return err == KV_E_NOTFOUND ? 0 : kvfs_errno(err);
}

static int controls_read(struct kvfs_dir *d, u64 *pos)
{
	const char *name;
	u32 which;

	for (; *pos < POS_FIRST; (*pos)++) {
		which = (u32)(*pos - POS_CONTROL);
		name = kvfs_control_name[which];
		if (!d->emit(d->arg, name, (u32)strlen(name),
			     kvfs_control_ino(d->tree, (enum kvfs_control)which), KVFS_CONTROL)) {
			d->full = true;
			break;
		}
	}
	return 0;
}

int kvfs_dir_read(struct kvfs_dir *d, u64 *pos, kvfs_emit emit, void *arg)
{
	int err;

	if (*pos < POS_CONTROL)
		return -EINVAL;
	d->emit = emit;
	d->arg = arg;
	d->full = false;
	err = controls_read(d, pos);
	if (err || d->full)
		return err;
	go_to(d, *pos);
	d->want = *pos;
	if (!d->at.keys)
		err = trees_read(d);
	if (!err && !d->full)
		err = keys_read(d);
	/* An end that came before the position that was asked for is an end there as well. */
	if (d->at.pos > *pos)
		*pos = d->at.pos;
	return err;
}
