/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * diff.c - what differs between two states of a tree.
 *
 * Both states are walked side by side. At a key the ways down to it are compared, from the roots on: a page
 * to which both refer is the same page, with all that is below, and the walk goes on behind it. Nothing
 * below a page that both have is read. Where the leaves differ their entries are compared, from that key to
 * the nearer of the two fences. So it costs what differs, and its siblings' refs.
 *
 * Rules that make this right:
 *
 *  - A ref names place, birth and checksum. While both states are held no place is used again, so equal
 *    refs are one page. Which of the states is newer does not matter.
 *  - A page in memory is known by its ref if that was written in the state's generation or before, and
 *    nothing there or below has changed since. Else it has no name: the walk looks below it.
 *  - A pending range delete hides things in one of the states without changing a page: where it reaches,
 *    pages are looked into.
 *  - Records keep their LSN when GC moves them, and no LSN is given twice: refs to values are compared by
 *    that. Large values are compared by their ids, all else byte by byte.
 */
#include "cursor.h"
#include "range.h"

#define ROUNDS_MAX 1000u /* pages brought for one key: more have been evicted meanwhile */

/* Pages on the way to a key that are known by their refs. */
struct way {
	struct kv_tree *tree;
	u64 gen;
	u32 nr;
	bool missing; /* it ends at need, which is not in memory */
	struct kve_need need;
	struct kvf_ref ref[KVF_DEPTH_MAX + 1];
};

struct kv_diff {
	struct kv_db *db;
	kv_read *read[2]; /* NULL: nothing */
	kv_cursor *c[2];  /* NULL: the state has no such tree */
	struct way way[2];
	bool leaf[2];	  /* the cursor is in a leaf that reaches to at, or beyond */
	bool here[2];	  /* the difference that was told last has an entry in this state */
	bool looked;	  /* both cursors stand in the leaves of at; their entries are compared up to to */
	bool follows;	  /* and at is where they ended before */
	bool end;
	u8 *at, *to;	  /* all before at is compared; no bytes of to: no end */
	u32 at_len, to_len;
};

/* ---- what both states share ----------------------------------------------------------------------- */

/* Would they show the same there? Tree lock. */
static bool hides(const struct way *w, const struct kv_diff *d)
{
	return kvp_unlikely(w->tree->ranges != NULL) && !KVP_BUG("diff-blind-to-ranges") &&
	       kve_range_between(w->tree, w->gen, d->at, d->at_len, d->to, d->to_len);
}

/* One more page on the way. Is it on the other way, too? d->to is where it ends. Tree lock. */
static bool way_add(struct kv_diff *d, struct way *w, const struct kvf_ref *ref, const struct way *other)
{
	u32 i;

	if (!ref->block0 || (le64_to_cpu(ref->birth) > w->gen && !KVP_BUG("diff-any-birth")))
		return false;
	w->ref[w->nr++] = *ref;
	for (i = 0; other && i < other->nr; i++)
		if (kve_ref_same(ref, &other->ref[i]))
			return !hides(w, d) && !hides(other, d);
	return false;
}

/*
 * As far as it is in memory. True: it has come to a page that the other way has, too; then d->to is where
 * that page ends. Tree lock held.
 */
static bool way_look(struct kv_diff *d, struct way *w, const struct way *other)
{
	struct kve_head *h = kve_head_at(w->tree, w->gen);
	u32 frame = d->db->geo.frame, depth, i;
	struct kve_frame *f;
	struct kve_image im;
	bool same;

	w->nr = 0;
	w->missing = false;
	d->to_len = 0;
	if (!h)
		return false;
	w->need = (struct kve_need){ .ref = h->ref, .level = -1, .live = h == &w->tree->head };
	f = h->root;
	for (depth = 0; f && depth < KVF_DEPTH_MAX; depth++) {
		if (!kve_image_hold(f, w->gen, &im))
			return false;
		same = im.live && !kvp_load(&f->dirty) && way_add(d, w, &f->ref, other);
		kve_image_drop(f, &im);
		if (same || !f->level)
			return same;
		i = kve_node_child(im.page, frame, d->at, d->at_len);
		if (i + 1 < kve_node_nr(im.page))
			d->to_len = kvf_page_key(im.page, frame, i + 1, d->to);
		kve_child_ref(&w->need.ref, im.page, frame, i);
		w->need.level = f->level - 1;
		w->need.live = im.live;
		f = im.kids[i];
	}
	if (f || way_add(d, w, &w->need.ref, other))
		return !f;
	w->missing = w->need.ref.block0 != 0;
	return false;
}

/* Level of the page that could be brought for a look below it; -1: none. A root may have any. */
static int way_level(const struct way *w)
{
	/* What only an old image refers to is never kept in memory. */
	if (!w->missing || !w->need.live || !w->need.level)
		return -1;
	return w->need.level < 0 ? (int)KVF_DEPTH_MAX : w->need.level;
}

/* Bring what the ways lack, the higher page first: what is on one way only may have parts on the other. */
static int ways_deepen(struct kv_diff *d, bool *more)
{
	int level = KVF_MAX(way_level(&d->way[0]), way_level(&d->way[1])), i, err = 0;

	*more = level > 0;
	for (i = 0; i < 2 && !err && *more; i++)
		if (way_level(&d->way[i]) == level)
			err = kve_tree_bring(d->way[i].tree, d->way[i].gen, KVE_SEEK_KEY, d->at, d->at_len,
					     &d->way[i].need);
	return err;
}

/* Do they share what is at d->at? Then d->to is where that ends. */
static int shared(struct kv_diff *d, bool *yes)
{
	bool more = d->c[0] && d->c[1] && d->way[0].tree->id == d->way[1].tree->id;
	u32 round;
	int err = 0;

	*yes = false;
	for (round = 0; more && !err && round < ROUNDS_MAX; round++) {
		kvp_rwsem_down_read(&d->db->tree_lock);
		way_look(d, &d->way[0], NULL);
		*yes = way_look(d, &d->way[1], &d->way[0]);
		kvp_rwsem_up_read(&d->db->tree_lock);
		if (*yes)
			break;
		err = ways_deepen(d, &more);
	}
	return err;
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

/* On to d->to. */
static void go_on(struct kv_diff *d, bool follows)
{
	u8 *at = d->at;

	d->looked = false;
	d->follows = follows;
	d->end = !d->to_len;
	d->at = d->to;
	d->at_len = d->to_len;
	d->to = at;
}

static int skip_shared(struct kv_diff *d)
{
	bool yes = true;
	int err = 0;

	while (!err && yes && !d->end) {
		err = shared(d, &yes);
		if (!err && yes)
			go_on(d, false);
	}
	return err;
}

/* The leaf of d->at. An empty tree is one without entries or fences. */
static int leaf_take(struct kv_diff *d, int i)
{
	u32 frame = d->db->geo.frame;
	kv_cursor *c = d->c[i];
	bool exact;
	int err;

	if (d->leaf[i] && kve_leaf_fits(c->page, frame, KVE_SEEK_KEY, d->at, d->at_len)) {
		c->slot = kve_node_search(c->page, frame, d->at, d->at_len, &exact);
		return 0;
	}
	d->leaf[i] = false;
	err = kve_cursor_leaf(c, d->at, d->at_len, d->follows);
	d->leaf[i] = !err;
	return err == -KVE_not_found ? 0 : err;
}

/* Both leaves; d->to is the nearer of their ends. */
static int look(struct kv_diff *d)
{
	u32 frame = d->db->geo.frame, len;
	const u8 *upper;
	int i, err = 0;

	d->to_len = 0;
	for (i = 0; i < 2 && !err; i++) {
		if (!d->c[i])
			continue;
		err = leaf_take(d, i);
		upper = !err && d->leaf[i] ? kvf_page_upper(d->c[i]->page, frame, &len) : NULL;
		if (!upper || (d->to_len && kvf_key_compare(upper, len, d->to, d->to_len) >= 0))
			continue;
		memcpy(d->to, upper, len);
		d->to_len = len;
	}
	d->looked = !err;
	return err;
}

/* Does the cursor stand at an entry before d->to? */
static bool entry_at(struct kv_diff *d, int i)
{
	kv_cursor *c = d->c[i];

	return c && d->leaf[i] && kve_cursor_settle(c) &&
	       (!d->to_len || kvf_key_compare(c->key, c->key_len, d->to, d->to_len) < 0);
}

static bool same_value(const kv_cursor *a, const kv_cursor *b)
{
	u32 frame = a->db->geo.frame, a_len, b_len, ext;
	const u8 *a_cell, *b_cell, *value;
	struct kve_entry ae, be;
	u8 a_flags, b_flags;

	a_cell = kvf_page_cell(a->page, frame, a->slot, &a_len, &a_flags);
	b_cell = kvf_page_cell(b->page, frame, b->slot, &b_len, &b_flags);
	if (a_len != b_len || a_flags != b_flags)
		return false;
	if (!memcmp(a_cell, b_cell, a_len))
		return true;
	if ((a_flags & KVF_CELL_KIND) != KVF_CELL_REF || KVP_BUG("diff-by-place"))
		return false;
	kve_entry_decode(&ae, a_flags, a_cell, a_len, &value);
	kve_entry_decode(&be, b_flags, b_cell, b_len, &value);
	ext = a_len - ae.len;
	return ae.len == be.len && !memcmp(a_cell, b_cell, ext) && ae.ref.lsn == be.ref.lsn &&
	       ae.ref.payload_len == be.ref.payload_len;
}

/* The next difference before d->to. False: there is none. */
static bool compare(struct kv_diff *d)
{
	int order, i;

	for (;;) {
		for (i = 0; i < 2; i++) {
			if (d->here[i])
				d->c[i]->slot++;
			d->here[i] = entry_at(d, i);
		}
		if (!d->here[0] && !d->here[1])
			return false;
		if (!d->here[0] || !d->here[1])
			return true;
		order = kvf_key_compare(d->c[0]->key, d->c[0]->key_len, d->c[1]->key, d->c[1]->key_len);
		if (order) {
			d->here[order > 0 ? 0 : 1] = false;
			return true;
		}
		if (!same_value(d->c[0], d->c[1]))
			return true;
	}
}

/* Both states are still held? */
static int reads_check(struct kv_diff *d)
{
	int err = d->read[0] ? kve_read_check(d->read[0]) : 0;

	return err ? err : kve_read_check(d->read[1]);
}

/* After an error it goes on where that came up. */
static int next(struct kv_diff *d)
{
	int err;

	for (;;) {
		if (d->looked && compare(d))
			return 0;
		if (d->looked)
			go_on(d, true);
		err = skip_shared(d);
		if (err || d->end)
			return err ? err : -KVE_not_found;
		err = look(d);
		if (err)
			return err;
	}
}

int kv_diff_next(kv_diff *d)
{
	int err = kve_enter(d->db, false), late;

	if (!err)
		err = reads_check(d);
	if (!err && d->end)
		err = -KVE_not_found;
	if (!err)
		err = next(d);
	/* A reader that was expired while it looked may have seen anything. */
	late = err == -KVE_not_found || !err ? reads_check(d) : 0;
	if (late)
		d->here[0] = d->here[1] = false;
	return kve_return(d->db, late ? late : err);
}

int kv_diff_seek(kv_diff *d, const void *key, size_t key_len)
{
	int err = kve_enter(d->db, false);

	if (!err && key_len > d->db->geo.key_max)
		err = -KVE_key_too_long;
	if (err)
		return kve_return(d->db, err);
	if (key_len)
		memcpy(d->at, key, key_len);
	d->at_len = (u32)key_len;
	d->here[0] = d->here[1] = d->looked = d->follows = d->end = false;
	return 0;
}

kv_cursor *kv_diff_from(kv_diff *d)
{
	return d->here[0] ? d->c[0] : NULL;
}

kv_cursor *kv_diff_to(kv_diff *d)
{
	return d->here[1] ? d->c[1] : NULL;
}

/* ---- opening, closing ---------------------------------------------------------------------------------- */

void kv_diff_close(kv_diff *d)
{
	if (!d)
		return;
	kv_cursor_close(d->c[0]);
	kv_cursor_close(d->c[1]);
	kvp_free(d->at < d->to ? d->at : d->to);
	kvp_free(d);
}

/* The tree of one of the states, if it has one. */
static int side_open(struct kv_diff *d, int i, kv_read *r, const char *tree)
{
	kv_tree *t = NULL;
	int err = r ? kve_read_tree_find(r, tree, &t) : 0;

	d->read[i] = r;
	if (err || !t)
		return err;
	d->way[i].tree = t;
	d->way[i].gen = r->gen;
	return kve_cursor_open(d->db, r, t, &d->c[i]);
}

int kv_diff_open(kv_read *from, kv_read *to, const char *tree, kv_diff **out)
{
	struct kv_diff *d = NULL;
	struct kv_db *db = to->db;
	int err = kve_enter(db, false);

	if (!err && from && from->db != db)
		err = kve_fail(db, KVE_invalid, "two states of different volumes");
	if (!err && !(d = kvp_alloc(sizeof(*d), KVP_ZERO)))
		err = -KVE_no_memory;
	if (err)
		return kve_return(db, err);
	d->db = db;
	d->at = kvp_alloc_array(2, db->geo.key_max, 0);
	d->to = d->at ? d->at + db->geo.key_max : NULL;
	err = d->at ? side_open(d, 0, from, tree) : -KVE_no_memory;
	if (!err)
		err = side_open(d, 1, to, tree);
	if (!err && !d->c[0] && !d->c[1])
		err = kve_fail(db, KVE_no_tree, "'%s'", tree ? tree : KVF_TREE_DEFAULT_NAME);
	if (err) {
		kv_diff_close(d);
		return kve_return(db, err);
	}
	*out = d;
	return 0;
}
