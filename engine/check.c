/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check.c - kv_check(): read everything that can be reached, as a user would, and say what is wrong.
 *
 * The independent judge of the bytes on the medium is kvs-fsck; this is the engine's own view of an open
 * volume, the replayed log included. A damaged page does not end the walk: it goes on behind it.
 */
#include "range.h"

struct check {
	struct kv_db *db;
	void (*fn)(void *arg, int finding, const char *text);
	void *arg;
	u32 flags;
	u64 problems;
};

static void problem(struct check *ck, int finding, const char *text)
{
	ck->problems++;
	if (ck->fn)
		ck->fn(ck->arg, finding, text);
}

/* A stream reads every chunk of a large value. */
static int value_check(struct kv_cursor *c, u8 *buf, size_t len)
{
	kv_reader *rd;
	size_t got;
	int err = kv_cursor_reader(c, &rd, NULL);

	if (err)
		return err;
	do
		err = kv_reader_read(rd, buf, len, &got);
	while (!err && got);
	kv_reader_close(rd);
	return err;
}

static int tree_walk(struct check *ck, struct kv_tree *t, struct kv_cursor *c, u64 *count)
{
	size_t len = 65536;
	u8 *buf = kvp_alloc(len, 0);
	bool damaged = false;
	int err;

	if (!buf)
		return KV_E_NOMEM;
	for (err = kv_cursor_first(c); err != KV_E_NOTFOUND; err = kv_cursor_next(c)) {
		if (err == KV_E_CORRUPT || err == KV_E_IO) {
			problem(ck, KVF_F_page_stale, kv_last_error());
			damaged = true;
			continue;
		}
		if (err)
			break;
		(*count)++;
		if (!(ck->flags & KV_CHECK_VALUES))
			continue;
		err = value_check(c, buf, len);
		if (err == KV_E_CORRUPT || err == KV_E_IO)
			problem(ck, KVF_F_value_mismatch, kv_last_error());
		else if (err)
			break;
		kvp_resched();
	}
	kvp_free(buf);
	/* Of a damaged tree no count is to be expected. */
	if (damaged)
		*count = KVE_LIVE;
	(void)t;
	return err == KV_E_NOTFOUND ? 0 : err;
}

static int tree_check(struct check *ck, struct kv_tree *t)
{
	u64 count = 0, expect = 0, hidden = 0;
	struct kve_head *h;
	struct kv_cursor *c;
	char text[160];
	int err = kve_cursor_open(ck->db, NULL, t, &c);

	if (err)
		return err;
	kvp_rwsem_down_read(&ck->db->tree_lock);
	h = kve_head_at(t, kve_cursor_gen(c));
	expect = h ? h->count : 0;
	kvp_rwsem_up_read(&ck->db->tree_lock);
	err = tree_walk(ck, t, c, &count);
	/* What a range delete hides is counted until it is removed. */
	if (!err && count != KVE_LIVE)
		err = kve_return(ck->db, kve_ranges_hidden(t, kve_cursor_gen(c), &hidden));
	kv_cursor_close(c);
	if (err || count == KVE_LIVE || t->id < KVF_TREE_USER || count + hidden == expect)
		return err;
	kvp_snprintf(text, sizeof(text), "tree '%s': %llu entries, its head says %llu", t->name,
		     count + hidden, expect);
	problem(ck, KVF_F_tree_count, text);
	return 0;
}

int kv_check(kv_db *db, uint32_t flags, void (*fn)(void *arg, int finding, const char *text), void *arg,
	     uint64_t *problems)
{
	struct check ck = { .db = db, .fn = fn, .arg = arg, .flags = flags };
	struct kv_tree *t;
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	if (kvp_load(&db->degraded) == KVE_truncated)
		problem(&ck, KVF_F_volume_short, db->reason);
	for (t = kvp_load_acquire(&db->trees); t && !err; t = t->next)
		/* Of a clone that is being dropped parts are gone. */
		if (!t->system && !kvp_load(&t->gone_gen) && !(kve_is_clone(t) && kvp_load(&t->dropped)))
			err = tree_check(&ck, t);
	if (problems)
		*problems = ck.problems;
	return err;
}
