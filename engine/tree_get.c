/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tree_get.c - looking up a key of the live state without a lock, and without writing to memory that others
 * look at (optimistic lock coupling: Leis et al., "The ART of Practical Synchronization", 2016).
 *
 * Who changes a page makes its frame's version odd before and even after. A reader notes the version, reads,
 * and believes what it read only if the version is still the same. On the way down it takes the child's
 * version before it looks at its own page's again: so at that moment the child was the one for the key, and
 * it has been watched from then on. Rules that make this work:
 *
 *  - Descriptors are never freed, and their versions only grow. The memory of pages and of kids[] stays
 *    readable (kvp_reader_enter), and a kids[] holds descriptors or NULL whatever happens to it.
 *  - A split or merge makes the parent's version odd before the first change below it, so no reader comes
 *    to a page for a key that has just left it.
 *  - Eviction changes the parent's version, and the frame's own before its page may be used again.
 *  - While a transaction is applied the volume's own version is odd: its changes are seen together.
 *  - Whatever comes from a page is clamped to it (node.h), so garbage leads astray, but not out.
 *
 * Nothing in between sleeps. What is not in memory, or changes too often, is looked up under the tree lock.
 */
#include "kve.h"

#define TRIES 8u

static bool unchanged(const struct kve_spot *s)
{
	kvp_fence_acquire();
	return kvp_load(&s->frame->version) == s->version || KVP_BUG("no-validation");
}

bool kve_spot_valid(const struct kve_spot *s)
{
	return unchanged(s) &&
	       (kvp_load(&s->db->applied) == s->applied || KVP_BUG("no-validation"));
}

/* The version of a frame that is not being changed. */
static bool spot_begin(struct kve_spot *s, struct kve_frame *f)
{
	u32 spins;

	s->frame = f;
	for (spins = 0; spins < 64; spins++) {
		s->version = kvp_load_acquire(&f->version);
		if (!(s->version & 1))
			return true;
		kvp_relax();
	}
	return false;
}

int kve_spot_find(struct kv_tree *t, const void *key, u32 len, struct kve_spot *s)
{
	u32 frame = t->db->geo.frame, most = t->db->cache.kids_max, depth, i;
	struct kve_frame *f, **kids;
	struct kve_spot kid;

	s->db = t->db;
	s->applied = kvp_load_acquire(&t->db->applied);
	f = kvp_load_acquire(&t->head.root);
	if (!f || s->applied & 1)
		return -KVE_need_page;
	if (!spot_begin(s, f) || kvp_load(&t->head.root) != f)
		return -KVE_restart;
	for (depth = 0; depth < KVF_DEPTH_MAX; depth++) {
		s->page = kvp_load(&s->frame->page);
		kids = kvp_load(&s->frame->kids);
		if (!s->page)
			return -KVE_restart;
		kve_frame_touch(s->frame);
		if (!kids)
			return kvp_load(&s->frame->level) ? -KVE_restart : 0;
		i = kve_node_child(s->page, frame, key, len);
		f = i < most ? kvp_load_acquire(&kids[i]) : NULL;
		if (!f)
			return unchanged(s) ? -KVE_need_page : -KVE_restart;
		if (!spot_begin(&kid, f) || !unchanged(s))
			return -KVE_restart;
		s->frame = kid.frame;
		s->version = kid.version;
	}
	return -KVE_restart;
}

/* Cell and, if it is inline, value of the key. -KVE_need_page: ask under the lock. */
static int entry_fetch(struct kv_tree *t, const void *key, u32 len, struct kve_fetch *cell, void *buf,
		       size_t cap)
{
	struct kve_spot s;
	bool exact;
	u32 i;
	int err = kve_spot_find(t, key, len, &s);

	if (err)
		return err;
	i = kve_node_search(s.page, t->db->geo.frame, key, len, &exact);
	if (exact)
		kve_node_fetch(s.page, t->db->geo.frame, i, cell, buf, cap);
	if (!kve_spot_valid(&s))
		return -KVE_restart;
	if (!exact)
		return -KVE_not_found;
	return cell->flags & KVF_CELL_EXT ? -KVE_need_page : 0;
}

/* An inline value is in the caller's buffer already, or does not fit there. */
static void entry_of(struct kve_entry *e, const struct kve_fetch *cell)
{
	const u8 *value;

	if ((cell->flags & KVF_CELL_KIND) != KVF_CELL_INLINE) {
		kve_entry_decode(e, cell->flags, cell->cell, cell->len, &value);
		return;
	}
	memset(e, 0, sizeof(*e));
	e->flags = cell->flags;
	e->len = e->inline_len = cell->len;
	e->value_len = cell->len;
}

int kve_tree_get(struct kv_tree *t, u64 gen, const void *key, u32 len, struct kve_entry *e, void *buf,
		 size_t cap)
{
	struct kve_fetch cell;
	u32 tries;
	int err = gen == KVE_LIVE ? -KVE_restart : -KVE_need_page;

	for (tries = 0; tries < TRIES && err == -KVE_restart; tries++) {
		kvp_reader_enter();
		err = entry_fetch(t, key, len, &cell, buf, cap);
		kvp_reader_exit();
	}
	if (!err)
		entry_of(e, &cell);
	if (err == -KVE_restart || err == -KVE_need_page)
		err = kve_tree_get_locked(t, gen, key, len, e, buf, cap);
	return err;
}

/* ---- the lock of a leaf ------------------------------------------------------------------------ */

void kve_leaf_lock(struct kve_frame *leaf)
{
	u32 spins, free = 0;

	for (spins = 0; !kvp_cas(&leaf->lock, &free, 1u); spins++) {
		if (spins < 100)
			kvp_relax();
		else
			kvp_yield();
		free = 0;
	}
}

void kve_leaf_unlock(struct kve_frame *leaf)
{
	kvp_store_release(&leaf->lock, 0u);
}
