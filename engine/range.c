/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * range.c - pending range deletes: what they hide, and their rows in the forest.
 *
 * A range delete is one record and an entry in its tree's list. It hides the keys from `from` up to `to` in
 * leaves whose page LSN is below its own. Whatever raises a leaf's page LSN removes first what is hidden
 * there (kve_range_purge), so a leaf is either older than the range, and all that it covers is hidden, or
 * newer, and nothing is. Splits keep the page LSN, and what may hide something is not merged with anything
 * (kve_range_joins). In the background leaf after leaf is purged: range_work.c.
 *
 * Generations: a range is seen by those from its own up to, not including, the one in which it was worked
 * off; frozen states have their own images of leaves. The list is changed with the writer lock closed, the
 * tree lock exclusive, and the volume's version odd; a range is freed when no pinned state sees it.
 * Readers without a lock look at the tree's highest LSN alone, and come back under the lock when a leaf is
 * older.
 */
#include "range.h"

#define ROW_KEY_BYTES 14u
#define ROW_PARTS 3u

struct kve_range *kve_range_new(struct kv_db *db, const void *from, u32 from_len, const void *to, u32 to_len)
{
	size_t keys = (size_t)from_len + to_len + 2 * (size_t)db->geo.key_max;
	struct kve_range *r = kvp_alloc(sizeof(*r) + keys, KVP_ZERO);

	if (!r)
		return NULL;
	r->from = (u8 *)(r + 1);
	r->to = r->from + from_len;
	r->cursor = r->to + to_len;
	r->frozen = r->cursor + db->geo.key_max;
	r->from_len = from_len;
	r->to_len = to_len;
	if (from_len && from)
		memcpy(r->from, from, from_len);
	if (to_len && to)
		memcpy(r->to, to, to_len);
	return r;
}

/* ---- the rule -------------------------------------------------------------------------------------- */

static u64 page_lsn(const u8 *page)
{
	/* Planted: then what came after the range is hidden as well. */
	if (KVP_BUG("range-hides-new"))
		return 0;
	return le64_to_cpu(((const struct kvf_page *)page)->lsn);
}

/* Does a state of the generation know the range? */
static bool seen(const struct kve_range *r, u64 gen)
{
	return r->gen <= gen && (!r->done_gen || gen < r->done_gen) && gen != KVE_RAW;
}

static bool covers(const struct kve_range *r, const u8 *key, u32 len)
{
	return (!r->from_len || kvf_key_compare(key, len, r->from, r->from_len) >= 0) &&
	       (!r->to_len || kvf_key_compare(key, len, r->to, r->to_len) < 0);
}

bool kve_range_hides(const struct kv_tree *t, u64 gen, const u8 *page, const void *key, u32 len)
{
	const struct kve_range *r;
	u64 lsn = page_lsn(page);

	for (r = t->ranges; r; r = r->next)
		if (r->lsn > lsn && seen(r, gen) && covers(r, key, len))
			return true;
	return false;
}

/* Slots of the page that the range covers: [*lo, *hi). */
static void slots_of(const struct kve_range *r, const u8 *page, u32 frame, u32 *lo, u32 *hi)
{
	bool exact;

	*lo = r->from_len ? kve_node_search(page, frame, r->from, r->from_len, &exact) : 0;
	*hi = r->to_len ? kve_node_search(page, frame, r->to, r->to_len, &exact) : kve_node_nr(page);
}

const struct kve_range *kve_range_next(const struct kv_tree *t, const struct kve_range *r, u64 gen,
				       const u8 *page, u32 *lo, u32 *hi)
{
	u64 lsn = page_lsn(page);

	for (r = r ? r->next : t->ranges; r; r = r->next) {
		if (r->lsn <= lsn || !seen(r, gen))
			continue;
		slots_of(r, page, t->db->geo.frame, lo, hi);
		if (*lo < *hi)
			return r;
	}
	return NULL;
}

void kve_range_strip(const struct kv_tree *t, u64 gen, u8 *page)
{
	const struct kve_range *r = NULL;
	u32 lo, hi;

	while ((r = kve_range_next(t, r, gen, page, &lo, &hi)))
		while (hi > lo)
			kve_node_remove(page, t->db->geo.frame, --hi);
}

/* Does it cover anything from one key up to another (no bytes: to the last)? */
static bool meets(const struct kve_range *r, const void *from, u32 from_len, const void *to, u32 to_len)
{
	return (!r->to_len || !from_len || kvf_key_compare(from, from_len, r->to, r->to_len) < 0) &&
	       (!r->from_len || !to_len || kvf_key_compare(r->from, r->from_len, to, to_len) < 0);
}

bool kve_range_between(const struct kv_tree *t, u64 gen, const void *from, u32 from_len, const void *to,
		       u32 to_len)
{
	const struct kve_range *r;

	for (r = t->ranges; r; r = r->next)
		if (seen(r, gen) && meets(r, from, from_len, to, to_len))
			return true;
	return false;
}

/* Does anything between the fences of the leaf belong to a range that is newer? */
static bool stale(const struct kv_tree *t, const u8 *page)
{
	u32 frame = t->db->geo.frame, lower_len, upper_len;
	const u8 *lower = kvf_page_lower(page, frame, &lower_len);
	const u8 *upper = kvf_page_upper(page, frame, &upper_len);
	const struct kve_range *r;
	u64 lsn = page_lsn(page);

	for (r = t->ranges; r; r = r->next)
		if (r->lsn > lsn && seen(r, KVE_LIVE) &&
		    meets(r, lower, lower ? lower_len : 0, upper, upper ? upper_len : 0))
			return true;
	return false;
}

bool kve_range_joins(const struct kv_tree *t, const u8 *left, const u8 *right)
{
	if (!t->ranges)
		return true;
	/*
	 * Not even an empty page takes in what is hidden: it may have been prepared by a transaction, whose
	 * next change would make all of it newer.
	 */
	return (!kve_node_nr(left) || !stale(t, left)) && (!kve_node_nr(right) || !stale(t, right));
}

/* ---- the list -------------------------------------------------------------------------------------- */

static void lsn_renew(struct kv_tree *t)
{
	const struct kve_range *r;
	u64 lsn = 0;

	for (r = t->ranges; r; r = r->next)
		if (!r->done_gen)
			lsn = KVF_MAX(lsn, r->lsn);
	kvp_store(&t->range_lsn, lsn);
}

void kve_range_done(struct kv_tree *t, struct kve_range *r)
{
	r->done_gen = t->db->open_gen;
	lsn_renew(t);
	t->db->changed = true;
	kve_gen_changed(t->db);
}

/* Is all that old covers covered by r? */
static bool contains(const struct kve_range *r, const struct kve_range *old)
{
	if (r->from_len && (!old->from_len ||
			    kvf_key_compare(old->from, old->from_len, r->from, r->from_len) < 0))
		return false;
	return !r->to_len ||
	       (old->to_len && kvf_key_compare(old->to, old->to_len, r->to, r->to_len) <= 0);
}

void kve_range_apply(struct kv_tree *t, struct kve_range *r, u64 lsn)
{
	struct kve_range *old;

	r->lsn = lsn;
	r->gen = t->db->open_gen;
	/* What an older one hides this one hides as well. */
	for (old = t->ranges; old; old = old->next)
		if (!old->done_gen && contains(r, old))
			old->done_gen = t->db->open_gen;
	r->next = t->ranges;
	kvp_store(&t->ranges, r);
	lsn_renew(t);
	kve_doom(t->db, 0);
}

void kve_ranges_end(struct kv_tree *t)
{
	struct kve_range *r;

	for (r = t->ranges; r; r = r->next)
		if (!r->done_gen)
			r->done_gen = t->db->open_gen;
	lsn_renew(t);
}

u32 kve_ranges_pending(struct kv_tree *t)
{
	const struct kve_range *r;
	u32 nr = 0;

	if (!kvp_load(&t->range_lsn))
		return 0;
	kvp_rwsem_down_read(&t->db->tree_lock);
	for (r = t->ranges; r; r = r->next)
		nr += !r->done_gen;
	kvp_rwsem_up_read(&t->db->tree_lock);
	return nr;
}

bool kve_ranges_any(struct kv_db *db)
{
	struct kv_tree *t;

	for (t = kvp_load_acquire(&db->trees); t; t = t->next)
		if (kve_ranges_pending(t))
			return !KVP_BUG("snap-hides-nothing");
	return false;
}

bool kve_ranges_left(struct kv_db *db, u64 lsn)
{
	const struct kve_range *r;
	struct kv_tree *t;
	bool left = false;

	kvp_rwsem_down_read(&db->tree_lock);
	for (t = db->trees; t; t = t->next)
		for (r = t->ranges; r; r = r->next)
			left |= !r->done_gen && !r->stuck && r->lsn <= lsn;
	kvp_rwsem_up_read(&db->tree_lock);
	return left && !KVP_BUG("snap-hides-nothing");
}

void kve_ranges_drop(struct kv_tree *t, bool (*pinned)(struct kv_db *db, u64 from, u64 to))
{
	struct kve_range **link = &t->ranges, *r;

	while ((r = *link)) {
		if (!r->done_gen || r->rows || (pinned && pinned(t->db, r->gen, r->done_gen))) {
			link = &r->next;
			continue;
		}
		kvp_store(link, r->next);
		kvp_free(r);
	}
}

void kve_ranges_free(struct kv_tree *t)
{
	struct kve_range *r;

	while ((r = t->ranges)) {
		t->ranges = r->next;
		kvp_free(r);
	}
}

void kve_ranges_freeze(struct kv_db *db)
{
	struct kve_range *r;
	struct kv_tree *t;

	for (t = db->trees; t; t = t->next)
		for (r = t->ranges; r; r = r->next) {
			memcpy(r->frozen, r->cursor, r->cursor_len);
			r->frozen_len = r->cursor_len;
		}
}

/* ---- rows of the forest: checkpoint ------------------------------------------------------------------ */

/* The rows of a range, copied: others may change the list meanwhile. */
struct rows {
	u64 lsn;
	bool gone;
	u8 key[ROW_KEY_BYTES];
	u32 len[ROW_PARTS];
	u8 *part[ROW_PARTS]; /* in the buffer, each behind a head */
};

static void rows_copy(struct rows *rw, const struct kve_range *r, u32 tree, u8 *buf, u32 key_max)
{
	const u8 *from[ROW_PARTS] = { r->from, r->to, r->frozen };
	struct kvf_range_delete rd = { .from_len = cpu_to_le16((u16)r->from_len),
				       .to_len = cpu_to_le16((u16)r->to_len),
				       .cursor_len = cpu_to_le16((u16)r->frozen_len) };
	u32 i;

	rw->lsn = r->lsn;
	rw->key[0] = KVF_FOREST_RANGE;
	kvf_put_be32(rw->key + 1, tree);
	kvf_put_be64(rw->key + 5, r->lsn);
	rw->len[0] = r->from_len;
	rw->len[1] = r->to_len;
	rw->len[2] = r->frozen_len;
	for (i = 0; i < ROW_PARTS; i++) {
		rw->part[i] = buf + i * ((size_t)key_max + sizeof(rd));
		memcpy(rw->part[i], &rd, sizeof(rd));
		memcpy(rw->part[i] + sizeof(rd), from[i], rw->len[i]);
	}
}

/* The oldest range behind LSN after that has rows to be written or removed. */
static bool rows_next(struct kv_tree *t, u64 gen, u64 after, struct rows *rw, u8 *buf)
{
	struct kve_range *r, *best = NULL;

	kvp_rwsem_down_read(&t->db->tree_lock);
	for (r = t->ranges; r; r = r->next)
		if (r->lsn > after && r->gen <= gen && (!best || r->lsn < best->lsn) &&
		    (r->rows || !r->done_gen || r->done_gen > gen))
			best = r;
	if (best) {
		rw->gone = best->done_gen && best->done_gen <= gen;
		rows_copy(rw, best, t->id, buf, t->db->geo.key_max);
	}
	kvp_rwsem_up_read(&t->db->tree_lock);
	return best;
}

/* A range with rows is not freed. */
static void rows_mark(struct kv_tree *t, const struct rows *rw, bool there)
{
	struct kve_range *r;

	kvp_rwsem_down_write(&t->db->tree_lock);
	for (r = t->ranges; r; r = r->next)
		if (r->lsn == rw->lsn)
			r->rows = there;
	kvp_rwsem_up_write(&t->db->tree_lock);
}

int kve_ranges_write(struct kv_tree *t, u64 gen)
{
	size_t bytes = ROW_PARTS * ((size_t)t->db->geo.key_max + sizeof(struct kvf_range_delete));
	struct rows rw = { .lsn = 0 };
	u8 *buf;
	u32 i;
	int err = 0;

	if (!kvp_load(&t->ranges) || KVP_BUG("range-forgotten"))
		return 0;
	buf = kvp_alloc(bytes, 0);
	if (!buf)
		return -KVE_no_memory;
	while (!err && rows_next(t, gen, rw.lsn, &rw, buf)) {
		if (!rw.gone)
			rows_mark(t, &rw, true);
		for (i = 0; i < ROW_PARTS && !err; i++) {
			rw.key[ROW_KEY_BYTES - 1] = (u8)i;
			err = rw.gone ? kve_tree_remove(t->db->forest, rw.key, ROW_KEY_BYTES) :
					kve_tree_put(t->db->forest, rw.key, ROW_KEY_BYTES, rw.part[i],
						     rw.len[i] + (u32)sizeof(struct kvf_range_delete));
		}
		if (!err && rw.gone)
			rows_mark(t, &rw, false);
	}
	kvp_free(buf);
	return err;
}

/* ---- and at opening ---------------------------------------------------------------------------------- */

static int row_bad(struct kv_db *db)
{
	return kve_fail(db, KVE_corrupt, "%s; run 'kvs-fsck -n %s'", kvf_finding_text(KVF_F_forest_range),
			db->dev->name);
}

int kve_range_row(struct kv_db *db, struct kve_range **list, const u8 *key, u32 key_len, const u8 *value,
		  u32 value_len)
{
	u32 part = key_len == ROW_KEY_BYTES ? key[ROW_KEY_BYTES - 1] : ROW_PARTS, len[ROW_PARTS];
	struct kve_range *r = *list;
	struct kvf_range_delete rd;

	if (part >= ROW_PARTS || value_len < sizeof(rd))
		return row_bad(db);
	memcpy(&rd, value, sizeof(rd));
	len[0] = le16_to_cpu(rd.from_len);
	len[1] = le16_to_cpu(rd.to_len);
	len[2] = le16_to_cpu(rd.cursor_len);
	if (value_len != sizeof(rd) + len[part] || KVF_MAX(len[0], KVF_MAX(len[1], len[2])) > db->geo.key_max)
		return row_bad(db);
	value += sizeof(rd);
	if (!part) {
		r = kve_range_new(db, value, len[0], NULL, len[1]);
		if (!r)
			return -KVE_no_memory;
		r->tree = kvf_get_be32(key + 1);
		r->lsn = kvf_get_be64(key + 5);
		r->cursor_len = r->frozen_len = len[2];
		r->rows = true;
		r->parts = 1;
		r->next = *list;
		*list = r;
		return 0;
	}
	/* They stand one behind the other, and repeat the lengths. */
	if (!r || r->tree != kvf_get_be32(key + 1) || r->lsn != kvf_get_be64(key + 5) || r->parts != part ||
	    r->from_len != len[0] || r->to_len != len[1] || r->cursor_len != len[2])
		return row_bad(db);
	r->parts++;
	memcpy(part == 1 ? r->to : r->cursor, value, len[part]);
	return 0;
}

int kve_ranges_adopt(struct kv_db *db, struct kve_range **list)
{
	struct kve_range *r, *next;
	struct kv_tree *t;

	for (r = *list; r; r = next) {
		t = kve_tree_by_id(db, r->tree);
		if (!t || t->id < KVF_TREE_USER || t->dropped || r->parts != ROW_PARTS)
			return row_bad(db);
		next = *list = r->next;
		memcpy(r->frozen, r->cursor, r->cursor_len);
		r->next = t->ranges;
		t->ranges = r;
		lsn_renew(t);
		db->doomed = true;
	}
	return 0;
}
