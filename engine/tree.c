/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tree.c - looking things up under the tree lock: descent in the live state or a frozen generation.
 *
 * A descent runs under the shared tree lock and never waits for I/O: when a page is missing it says so,
 * the lock is dropped, the page is read, and the descent starts anew; the page is attached only if the
 * same place still wants it. A page that only a frozen image refers to is read into the caller's buffer
 * instead. A page that cannot be read is an error only if the tree still refers to it afterwards.
 */
#include "range.h"

#define ROUNDS_MAX 1000u /* restarts because of eviction under pressure */

bool kve_image_at(struct kve_frame *f, u64 gen, struct kve_image *im)
{
	struct kve_shadow *sh;

	im->live = f->gen <= gen;
	im->page = f->page;
	im->kids = f->kids;
	for (sh = im->live ? NULL : f->shadow; sh; sh = sh->next)
		if (sh->gen <= gen) {
			im->page = sh->page;
			im->kids = sh->kids;
			return true;
		}
	return im->live;
}

bool kve_image_hold(struct kve_frame *f, u64 gen, struct kve_image *im)
{
	bool there;

	if (f->level)
		return kve_image_at(f, gen, im);
	kve_leaf_lock(f);
	there = kve_image_at(f, gen, im);
	/* An older one does not change, nor does it go while the tree lock is held. */
	if (!there || !im->live)
		kve_leaf_unlock(f);
	return there;
}

void kve_image_drop(struct kve_frame *f, const struct kve_image *im)
{
	if (!f->level && im->live)
		kve_leaf_unlock(f);
}

struct kve_head *kve_head_at(struct kv_tree *t, u64 gen)
{
	struct kve_head *h;

	if (t->head.gen <= gen)
		return &t->head;
	for (h = t->shadow; h; h = h->next)
		if (h->gen <= gen)
			return h;
	return NULL;
}

static u32 child_index(const u8 *page, u32 frame, enum kve_seek seek, const void *key, u32 len)
{
	bool exact;
	u32 i;

	if (seek == KVE_SEEK_LAST)
		return kve_node_nr(page) - 1;
	if (seek == KVE_SEEK_KEY)
		return kve_node_child(page, frame, key, len);
	i = kve_node_search(page, frame, key, len, &exact);
	return i ? i - 1 : 0;
}

void kve_child_ref(struct kvf_ref *ref, const u8 *page, u32 frame, u32 i)
{
	u32 len;
	u8 flags;

	memcpy(ref, kvf_page_cell(page, frame, i, &len, &flags), sizeof(*ref));
}

/*
 * 0: *leaf is set. -KVE_need_page: *need says what. Both: *parent and *slot where; no parent: the
 * root. -KVE_not_found: the tree was empty. Tree lock held.
 */
static int descend(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
		   struct kve_frame **leaf, struct kve_need *need, struct kve_frame **parent, u32 *slot)
{
	struct kve_head *h = kve_head_at(t, gen);
	u32 frame = t->db->geo.frame, depth, i;
	struct kve_frame *f, *kid;
	struct kve_image im;

	if (!h)
		return -KVE_not_found;
	*parent = NULL;
	need->ref = h->ref;
	need->level = -1;
	need->live = h == &t->head;
	f = h->root;
	if (!f)
		return h->ref.block0 ? -KVE_need_page : -KVE_not_found;
	for (depth = 0; depth < KVF_DEPTH_MAX; depth++) {
		kve_frame_touch(f);
		if (!f->level) {
			*leaf = f;
			return 0;
		}
		if (!kve_image_at(f, gen, &im))
			return -KVE_not_found;
		i = child_index(im.page, frame, seek, key, len);
		*parent = f;
		*slot = i;
		kid = im.kids[i];
		if (!kid) {
			kve_child_ref(&need->ref, im.page, frame, i);
			need->level = f->level - 1;
			need->live = im.live;
			return -KVE_need_page;
		}
		f = kid;
	}
	return -KVE_corrupt_page;
}

static int misfit(struct kv_tree *t, u64 block)
{
	return kve_fail(t->db, KVE_corrupt_page, "page at block %llu (tree '%s'): %s; run 'kvs-fsck -n %s'",
			block, t->name, kvf_finding_text(KVF_F_page_fences), t->db->dev->name);
}

/* Hang f where the descent wants it, if it still does. Its checksum says nothing of where it belongs. */
static int attach(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
		   struct kve_frame *f)
{
	struct kve_frame *leaf, *parent;
	struct kve_need need;
	u64 block = 0;
	u32 slot = 0;

	kvp_rwsem_down_write(&t->db->tree_lock);
	if (descend(t, gen, seek, key, len, &leaf, &need, &parent, &slot) != -KVE_need_page ||
	    !need.live || !kve_ref_same(&need.ref, &f->ref)) {
		/* somebody else was faster, or the tree has changed */
	} else if (!(t->dropped && kve_is_clone(t)) && /* it is pruned: see clone.c */
		   !kve_node_child_fits(parent ? parent->page : NULL, t->db->geo.frame, slot, f->page)) {
		block = le64_to_cpu(f->ref.block0);
	} else {
		f->parent = parent;
		if (parent) {
			kve_kid_set(parent, slot, f);
			parent->kids_nr++;
		} else {
			kvp_store_release(&t->head.root, f);
		}
		kve_frame_insert(t->db, f);
		f = NULL;
	}
	kvp_rwsem_up_write(&t->db->tree_lock);
	if (f)
		kve_frame_free(t->db, f);
	return block ? misfit(t, block) : 0;
}

/* The page of need could not be read: does the tree still want this very page? */
static bool still_wanted(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
			 const struct kve_need *was)
{
	struct kve_frame *leaf, *parent;
	struct kve_need need;
	u32 slot;
	bool same;

	kvp_rwsem_down_read(&t->db->tree_lock);
	same = descend(t, gen, seek, key, len, &leaf, &need, &parent, &slot) == -KVE_need_page &&
	       kve_ref_same(&need.ref, &was->ref);
	kvp_rwsem_up_read(&t->db->tree_lock);
	return same;
}

int kve_tree_bring(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
		   const struct kve_need *need)
{
	struct kve_frame *f;
	int err = kve_page_load(t->db, t, &need->ref, need->level, &f);

	if (!err)
		err = attach(t, gen, seek, key, len, f);
	else if (err != -KVE_no_memory && !still_wanted(t, gen, seek, key, len, need))
		return 0;
	return err;
}

int kve_tree_leaf(struct kv_tree *t, const void *key, u32 len, struct kve_frame **leaf)
{
	struct kve_frame *parent;
	struct kve_need need;
	u32 slot, round;
	int err;

	*leaf = NULL;
	for (round = 0; round < ROUNDS_MAX; round++) {
		kvp_rwsem_down_read(&t->db->tree_lock);
		err = descend(t, KVE_LIVE, KVE_SEEK_KEY, key, len, leaf, &need, &parent, &slot);
		if (!err)
			kvp_add(&(*leaf)->pins, 1u);
		kvp_rwsem_up_read(&t->db->tree_lock);
		if (err != -KVE_need_page)
			return err == -KVE_not_found ? 0 : err;
		err = kve_tree_bring(t, KVE_LIVE, KVE_SEEK_KEY, key, len, &need);
		if (err)
			return err;
	}
	return -KVE_no_memory;
}

bool kve_leaf_fits(const u8 *page, u32 frame, enum kve_seek seek, const void *key, u32 len)
{
	u32 lower_len, upper_len;
	const u8 *lower = kvf_page_lower(page, frame, &lower_len);
	const u8 *upper = kvf_page_upper(page, frame, &upper_len);
	int low, high;

	if (seek == KVE_SEEK_LAST)
		return !upper;
	low = lower ? kvf_key_compare(lower, lower_len, key, len) : -1;
	high = upper ? kvf_key_compare(key, len, upper, upper_len) : -1;
	return seek == KVE_SEEK_KEY ? low <= 0 && high < 0 : low < 0 && high <= 0;
}

/* Walk down by refs alone, in the caller's buffer. */
static int private_descent(struct kv_tree *t, enum kve_seek seek, const void *key, u32 len,
			   const struct kve_need *need, u8 *page)
{
	struct kvf_ref ref = need->ref;
	int level = need->level, err;

	for (;;) {
		err = kve_page_read(t->db, kve_page_owner(t, &ref), t->name, &ref, level, page);
		if (err)
			return err;
		level = ((struct kvf_page *)page)->level;
		if (!level)
			return kve_leaf_fits(page, t->db->geo.frame, seek, key, len) ? 0 :
			       misfit(t, le64_to_cpu(ref.block0));
		kve_child_ref(&ref, page, t->db->geo.frame,
			      child_index(page, t->db->geo.frame, seek, key, len));
		level--;
	}
}

/* ---- entries --------------------------------------------------------------------------------- */

void kve_entry_decode(struct kve_entry *e, u8 flags, const u8 *cell, u32 len, const u8 **value)
{
	u32 ext = 0;

	memset(e, 0, sizeof(*e));
	e->flags = flags;
	if (flags & KVF_CELL_EXT)
		ext = KVF_MIN((u32)cell[0] * 8, len);
	e->len = len - ext;
	*value = cell + ext;
	switch (flags & KVF_CELL_KIND) {
	case KVF_CELL_REF:
		memcpy(&e->ref, *value, sizeof(e->ref));
		e->value_len = le32_to_cpu(e->ref.payload_len);
		break;
	case KVF_CELL_OBJECT:
		memcpy(&e->object, *value, sizeof(e->object));
		e->value_len = le64_to_cpu(e->object.length);
		break;
	default:
		e->inline_len = e->len;
		e->value_len = e->len;
	}
}

static int entry_find(const struct kv_tree *t, u64 gen, const u8 *page, const void *key, u32 len,
		      struct kve_entry *e, void *buf, size_t cap)
{
	u32 frame = t->db->geo.frame, i, cell_len;
	const u8 *cell, *value;
	bool exact;
	u8 flags;

	i = kve_node_search(page, frame, key, len, &exact);
	if (!exact || (kvp_unlikely(t->ranges != NULL) && kve_range_hides(t, gen, page, key, len)))
		return -KVE_not_found;
	cell = kvf_page_cell(page, frame, i, &cell_len, &flags);
	kve_entry_decode(e, flags, cell, cell_len, &value);
	if (e->inline_len && e->inline_len <= cap)
		memcpy(buf, value, e->inline_len);
	return 0;
}

static int get_private(struct kv_tree *t, u64 gen, const void *key, u32 len, const struct kve_need *need,
		       struct kve_entry *e, void *buf, size_t cap)
{
	u8 *page = kvp_iobuf_alloc(t->db->geo.frame);
	int err;

	if (!page)
		return -KVE_no_memory;
	err = private_descent(t, KVE_SEEK_KEY, key, len, need, page);
	if (!err) {
		kvp_rwsem_down_read(&t->db->tree_lock);
		err = entry_find(t, gen, page, key, len, e, buf, cap);
		kvp_rwsem_up_read(&t->db->tree_lock);
	}
	kvp_iobuf_free(page, t->db->geo.frame);
	return err;
}

/* Tree lock held. */
static int leaf_entry(struct kve_frame *leaf, u64 gen, const void *key, u32 len, struct kve_entry *e,
		      void *buf, size_t cap)
{
	struct kve_image im;
	int err;

	if (!kve_image_hold(leaf, gen, &im))
		return -KVE_not_found;
	err = entry_find(leaf->tree, gen, im.page, key, len, e, buf, cap);
	kve_image_drop(leaf, &im);
	return err;
}

int kve_tree_get_locked(struct kv_tree *t, u64 gen, const void *key, u32 len, struct kve_entry *e,
			void *buf, size_t cap)
{
	struct kve_frame *leaf, *parent;
	struct kve_need need;
	u32 slot, round;
	int err;

	for (round = 0; round < ROUNDS_MAX; round++) {
		kvp_rwsem_down_read(&t->db->tree_lock);
		err = descend(t, gen, KVE_SEEK_KEY, key, len, &leaf, &need, &parent, &slot);
		if (!err)
			err = leaf_entry(leaf, gen, key, len, e, buf, cap);
		kvp_rwsem_up_read(&t->db->tree_lock);
		if (err != -KVE_need_page)
			return err;
		if (!need.live)
			return get_private(t, gen, key, len, &need, e, buf, cap);
		err = kve_tree_bring(t, gen, KVE_SEEK_KEY, key, len, &need);
		if (err && KVP_BUG("eio-not-found"))
			err = -KVE_not_found;
		if (err)
			return err;
	}
	return -KVE_no_memory;
}

/* ---- many keys ----------------------------------------------------------------------------------- */

#define TOGETHER 64u	/* pages that are read at once */
#define MANY_ROUNDS 32u /* then one by one */
#define LEAVES_MAX 8u	/* of a scan */

struct many {
	struct kve_page_want want[TOGETHER];
	struct kvp_io io[TOGETHER];
	u32 nr, most;
};

/* Sorted by place, each page once. */
static void want_add(struct many *m, struct kv_tree *t, const struct kve_need *need, const void *key,
		     u32 len)
{
	u64 block = le64_to_cpu(need->ref.block0);
	u32 i = m->nr;

	while (i && le64_to_cpu(m->want[i - 1].need.ref.block0) > block)
		i--;
	if (i && le64_to_cpu(m->want[i - 1].need.ref.block0) == block)
		return;
	if (m->nr == m->most)
		return;
	memmove(&m->want[i + 1], &m->want[i], (m->nr - i) * sizeof(m->want[0]));
	m->want[i] = (struct kve_page_want){ .tree = t, .need = *need, .key = key, .key_len = len };
	m->nr++;
}

/* Whatever is in memory is answered, what the others lack is collected. */
static void look_up_all(struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n, struct many *m)
{
	struct kve_frame *leaf, *parent;
	struct kve_need need;
	u32 i, slot;

	m->nr = 0;
	kvp_rwsem_down_read(&t->db->tree_lock);
	for (i = 0; i < n; i++) {
		if (l[i].err != -KVE_need_page)
			continue;
		l[i].err = descend(t, gen, KVE_SEEK_KEY, l[i].key, l[i].key_len, &leaf, &need, &parent,
				   &slot);
		if (!l[i].err)
			l[i].err = leaf_entry(leaf, gen, l[i].key, l[i].key_len, &l[i].e, l[i].buf,
					      l[i].cap);
		else if (l[i].err == -KVE_need_page && need.live)
			want_add(m, t, &need, l[i].key, l[i].key_len);
	}
	kvp_rwsem_up_read(&t->db->tree_lock);
}

/* False: some page could not be had. */
static bool bring_all(struct kv_db *db, u64 gen, struct many *m)
{
	u32 i, good = kve_pages_load(db, m->want, m->io, m->nr);
	struct kve_page_want *w;

	for (i = 0, w = m->want; i < m->nr; i++, w++)
		if (w->frame && attach(w->tree, gen, KVE_SEEK_KEY, w->key, w->key_len, w->frame))
			good--;
	return good == m->nr;
}

void kve_tree_get_many_locked(struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n)
{
	struct many *m = kvp_alloc(sizeof(*m), 0);
	u32 i, round;

	for (round = 0; m && round < MANY_ROUNDS; round++) {
		m->most = (u32)KVF_MIN(t->db->cache.limit / 4, (u64)TOGETHER);
		look_up_all(t, gen, l, n, m);
		if (!m->nr || !bring_all(t->db, gen, m))
			break;
	}
	/* Frozen pages, and those that could not be read: what is wrong with one concerns its keys alone. */
	for (i = 0; i < n; i++)
		if (l[i].err == -KVE_need_page)
			l[i].err = kve_tree_get_locked(t, gen, l[i].key, l[i].key_len, &l[i].e, l[i].buf,
						       l[i].cap);
	kvp_free(m);
}

/* The leaves that are in memory are pinned, what the others lack is collected. */
static u32 pin_all(struct kve_op *ops, u32 n, struct many *m)
{
	struct kve_frame *leaf, *parent;
	u32 i, slot, pinned = 0;
	struct kve_need need;
	int err;

	m->nr = 0;
	for (i = 0; i < n; i++) {
		if (ops[i].leaf || !kve_op_on_entry(&ops[i]))
			continue;
		err = descend(ops[i].tree, KVE_LIVE, KVE_SEEK_KEY, ops[i].key, ops[i].key_len, &leaf, &need,
			      &parent, &slot);
		if (!err)
			pinned += kve_op_pin(&ops[i], leaf);
		else if (err == -KVE_need_page)
			want_add(m, ops[i].tree, &need, ops[i].key, ops[i].key_len);
	}
	return pinned;
}

u32 kve_tree_leaves_read(struct kv_db *db, struct kve_op *ops, u32 n)
{
	struct many *m = kvp_alloc(sizeof(*m), 0);
	u32 round, pinned = 0;

	for (round = 0; m && round < MANY_ROUNDS; round++) {
		m->most = (u32)KVF_MIN(db->cache.limit / 4, (u64)TOGETHER);
		kvp_rwsem_down_read(&db->tree_lock);
		pinned += pin_all(ops, n, m);
		kvp_rwsem_up_read(&db->tree_lock);
		if (!m->nr || !bring_all(db, KVE_LIVE, m))
			break;
	}
	kvp_free(m);
	return pinned;
}

/* ---- the leaf of a scan ------------------------------------------------------------------------ */

/* The leaf that is needed and the missing ones beside it, in the direction of leaves. Tree lock held. */
static void leaves_collect(struct kv_tree *t, struct kve_frame *parent, u32 slot, int leaves, struct many *m,
			   u8 *keys)
{
	u32 frame = t->db->geo.frame, nr = kve_node_nr(parent->page), most = t->db->geo.key_max, len;
	const u8 *lower;
	int left;

	/* Downwards slot becomes larger than any. */
	for (left = leaves < 0 ? -leaves : leaves; left && slot < nr; left--, slot += leaves < 0 ? -1u : 1) {
		struct kve_need need = { .level = parent->level - 1, .live = true };

		if (parent->kids[slot])
			continue;
		kve_child_ref(&need.ref, parent->page, frame, slot);
		/* The key of slot 0 may stand below the page. */
		lower = slot ? NULL : kvf_page_lower(parent->page, frame, &len);
		if (lower)
			memcpy(keys, lower, len);
		else
			len = slot ? kvf_page_key(parent->page, frame, slot, keys) : 0;
		want_add(m, t, &need, keys, len);
		keys += most;
	}
}

/* As kve_tree_bring() for several leaves. False: nothing came of it. What it lacks of memory, or fails to
 * read, is asked for again, alone, by whoever needs it. */
static bool bring_leaves(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
			 const struct kve_need *was, int leaves)
{
	struct kve_frame *leaf, *parent = NULL;
	struct many *m = kvp_alloc(sizeof(*m), 0);
	u8 *keys = kvp_alloc_array(LEAVES_MAX, t->db->geo.key_max, 0);
	bool good = false;
	struct kve_need need;
	u32 slot;

	if (m && keys) {
		m->nr = 0;
		m->most = (u32)KVF_MIN(t->db->cache.limit / 8, (u64)LEAVES_MAX);
		kvp_rwsem_down_read(&t->db->tree_lock);
		if (descend(t, gen, seek, key, len, &leaf, &need, &parent, &slot) == -KVE_need_page &&
		    kve_ref_same(&need.ref, &was->ref) && parent && need.live)
			leaves_collect(t, parent, slot, leaves, m, keys);
		kvp_rwsem_up_read(&t->db->tree_lock);
		good = m->nr && bring_all(t->db, gen, m);
	}
	kvp_free(keys);
	kvp_free(m);
	return good;
}

/* Tree lock held. */
static int image_copy(struct kve_frame *leaf, u64 gen, u8 *page)
{
	struct kve_image im;

	if (!kve_image_hold(leaf, gen, &im))
		return -KVE_not_found;
	kve_node_copy(page, im.page, leaf->tree->db->geo.frame);
	kve_image_drop(leaf, &im);
	return 0;
}

/* A page of a frozen image does not change, nor what its generation hides. */
static int copy_private(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len,
			const struct kve_need *need, u8 *page, bool strip)
{
	int err = private_descent(t, seek, key, len, need, page);

	kvp_rwsem_down_read(&t->db->tree_lock);
	if (!err && strip && t->ranges)
		kve_range_strip(t, gen, page);
	kvp_rwsem_up_read(&t->db->tree_lock);
	return err;
}

/* The frame beside the leaf, in the direction of leaves, if the parent's present image has one in memory. */
static struct kve_frame *leaf_beside(const struct kve_frame *parent, u32 slot, int leaves)
{
	slot += leaves < 0 ? -1u : 1;
	return parent && slot < kve_node_nr(parent->page) ? parent->kids[slot] : NULL;
}

static int leaf_copy(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		     int leaves, bool strip, struct kve_frame **beside)
{
	struct kve_frame *leaf, *parent;
	struct kve_need need;
	u32 slot, round;
	int err;

	for (round = 0; round < ROUNDS_MAX; round++) {
		kvp_rwsem_down_read(&t->db->tree_lock);
		err = descend(t, gen, seek, key, len, &leaf, &need, &parent, &slot);
		if (!err && beside)
			*beside = leaf_beside(parent, slot, leaves);
		if (!err)
			err = image_copy(leaf, gen, page);
		if (!err && strip && kvp_unlikely(t->ranges != NULL))
			kve_range_strip(t, gen, page);
		kvp_rwsem_up_read(&t->db->tree_lock);
		if (err != -KVE_need_page)
			return err;
		if (!need.live)
			return copy_private(t, gen, seek, key, len, &need, page, strip);
		if (!need.level && leaves * leaves > 1 &&
		    bring_leaves(t, gen, seek, key, len, &need, leaves)) {
			leaves = 1; /* if that did not help, the next round reads it alone */
			continue;
		}
		err = kve_tree_bring(t, gen, seek, key, len, &need);
		if (err)
			return err;
	}
	return -KVE_no_memory;
}

int kve_leaf_copy(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		  int leaves)
{
	return leaf_copy(t, gen, seek, key, len, page, leaves, true, NULL);
}

int kve_leaf_scan(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		  int leaves, struct kve_frame **beside)
{
	*beside = NULL;
	return leaf_copy(t, gen, seek, key, len, page, leaves, true, beside);
}

int kve_leaf_copy_raw(struct kv_tree *t, u64 gen, enum kve_seek seek, const void *key, u32 len, u8 *page,
		      int leaves)
{
	return leaf_copy(t, gen, seek, key, len, page, leaves, false, NULL);
}

/* ---- walking in key order ---------------------------------------------------------------------- */

static int each_in_leaf(struct kv_tree *t, const u8 *page, const u8 *from, u32 len, u8 *key,
			int (*fn)(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell,
				  u32 cell_len),
			void *arg)
{
	u32 frame = t->db->geo.frame, i, nr = kve_node_nr(page), cell_len, key_len;
	const u8 *cell;
	bool exact;
	u8 flags;
	int err = 0;

	for (i = kve_node_search(page, frame, from, len, &exact); i < nr && !err; i++) {
		key_len = kvf_page_key(page, frame, i, key);
		cell = kvf_page_cell(page, frame, i, &cell_len, &flags);
		err = fn(arg, key, key_len, flags, cell, cell_len);
	}
	return err;
}

int kve_tree_each(struct kv_tree *t, u64 gen, const void *from, u32 len, u8 *page,
		  int (*fn)(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len),
		  void *arg)
{
	u8 *next = kvp_alloc_array(2, t->db->geo.key_max + 1, 0);
	u8 *key = next + t->db->geo.key_max + 1;
	const u8 *upper;
	u32 next_len = len;
	int err;

	if (!next)
		return -KVE_no_memory;
	if (len)
		memcpy(next, from, len);
	for (;;) {
		/* One by one: opening comes here, and a process that has made a batch ends 27 ms later. */
		err = kve_leaf_copy(t, gen, KVE_SEEK_KEY, next, next_len, page, 1);
		if (err)
			break;
		err = each_in_leaf(t, page, next, next_len, key, fn, arg);
		upper = kvf_page_upper(page, t->db->geo.frame, &len);
		if (err || !upper)
			break;
		memcpy(next, upper, len);
		next_len = len;
	}
	kvp_free(next);
	return err == -KVE_not_found ? 0 : err;
}

/* ---- around damage ----------------------------------------------------------------------------- */

/* Refs on the way to key, from memory where pages are resident. Tree lock held. */
static int resident_upper(struct kv_tree *t, u64 gen, const void *key, u32 len, u8 *out, u32 *out_len,
			  struct kvf_ref *ref, int *level)
{
	u32 frame = t->db->geo.frame, depth, i;
	struct kve_head *h = kve_head_at(t, gen);
	struct kve_frame *f = h ? h->root : NULL;
	struct kve_image im;

	*level = -1;
	if (!h)
		return -KVE_not_found;
	*ref = h->ref;
	for (depth = 0; f && f->level && depth < KVF_DEPTH_MAX && kve_image_at(f, gen, &im); depth++) {
		i = kve_node_child(im.page, frame, key, len);
		if (i + 1 < kve_node_nr(im.page))
			*out_len = kvf_page_key(im.page, frame, i + 1, out);
		kve_child_ref(ref, im.page, frame, i);
		*level = f->level - 1;
		f = im.kids[i];
	}
	return f ? -KVE_restart : 0;
}

int kve_damage_end(struct kv_tree *t, u64 gen, const void *key, u32 len, u8 *out, u32 *out_len)
{
	u8 *page = kvp_iobuf_alloc(t->db->geo.frame), *upper = kvp_alloc(t->db->geo.key_max, 0);
	struct kvf_ref ref;
	u32 i, upper_len = 0;
	int level, err = page && upper ? 0 : -KVE_no_memory;

	if (!err) {
		kvp_rwsem_down_read(&t->db->tree_lock);
		err = resident_upper(t, gen, key, len, upper, &upper_len, &ref, &level);
		kvp_rwsem_up_read(&t->db->tree_lock);
	}
	while (!err && level &&
	       !kve_page_read(t->db, kve_page_owner(t, &ref), t->name, &ref, level, page)) {
		level = ((struct kvf_page *)page)->level;
		if (!level)
			break;
		i = kve_node_child(page, t->db->geo.frame, key, len);
		if (i + 1 < kve_node_nr(page))
			upper_len = kvf_page_key(page, t->db->geo.frame, i + 1, upper);
		kve_child_ref(&ref, page, t->db->geo.frame, i);
		level--;
	}
	if (!err) {
		memcpy(out, upper, upper_len);
		*out_len = upper_len;
	}
	kvp_iobuf_free(page, t->db->geo.frame);
	kvp_free(upper);
	return err;
}
