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
 *  - The tree's highest LSN of a pending range delete is taken with the volume's version: a new one changes
 *    that, and one is gone only after all leaves that it covers have changed.
 *  - Whatever comes from a page is clamped to it (node.h), so garbage leads astray, but not out.
 *
 * Nothing in between sleeps. What is not in memory, or changes too often, is looked up under the tree lock.
 */
#include "kve.h"
#include "racy.h"

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

/* To the root. */
KVP_INLINE int spot_root(struct kv_tree *t, struct kve_spot *s)
{
	struct kve_frame *f;

	s->db = t->db;
	s->applied = kvp_load_acquire(&t->db->applied);
	s->range_lsn = kvp_load(&t->range_lsn);
	f = kvp_load_acquire(&t->head.root);
	if (!f || s->applied & 1)
		return -KVE_need_page;
	return spot_begin(s, f) && kvp_load(&t->head.root) == f ? 0 : -KVE_restart;
}

/* The image of the page that s is at; *kids NULL: it is a leaf. */
KVP_INLINE int spot_look(struct kve_spot *s, struct kve_frame ***kids)
{
	s->page = kvp_load(&s->frame->page);
	*kids = kvp_load(&s->frame->kids);
	if (!s->page)
		return -KVE_restart;
	kve_frame_touch(s->frame);
	return !*kids && kvp_load(&s->frame->level) ? -KVE_restart : 0;
}

/* The child in slot i. Its page is on its way from here on. */
KVP_INLINE struct kve_frame *spot_kid(const struct kve_spot *s, struct kve_frame **kids, u32 i)
{
	u32 most = s->db->cache.kids_max;
	const u8 *page;

	if (i >= most)
		return NULL;
	page = kvp_load(kve_kid_page(kids, most, i));
	if (page)
		kve_node_prefetch(page, s->db->geo.frame);
	return kvp_load_acquire(&kids[i]);
}

/* On to f, which stood at the key's place in the page that s is at; NULL: nothing did. */
KVP_INLINE int spot_down(struct kve_spot *s, struct kve_frame *f)
{
	struct kve_spot kid;

	if (!f)
		return unchanged(s) ? -KVE_need_page : -KVE_restart;
	if (!spot_begin(&kid, f) || !unchanged(s))
		return -KVE_restart;
	s->frame = kid.frame;
	s->version = kid.version;
	return 0;
}

int kve_spot_find(struct kv_tree *t, const void *key, u32 len, struct kve_spot *s)
{
	u32 frame = t->db->geo.frame, depth;
	struct kve_frame **kids;
	int err = spot_root(t, s);

	for (depth = 0; !err && depth < KVF_DEPTH_MAX; depth++) {
		err = spot_look(s, &kids);
		if (err || !kids)
			return err;
		err = spot_down(s, spot_kid(s, kids, kve_node_child(s->page, frame, key, len)));
	}
	return err ? err : -KVE_restart;
}

/* Is the leaf older than a pending range delete, which may hide the key? Before validation. */
KVP_INLINE bool spot_old(const struct kve_spot *s)
{
	return kvp_unlikely(s->range_lsn) &&
	       kve_racy_64(&((const struct kvf_page *)s->page)->lsn) < s->range_lsn;
}

/* Cell and, if it is inline, value of a key that belongs to slot i. -KVE_need_page: ask under the lock. */
KVP_INLINE int spot_fetch(const struct kve_spot *s, u32 i, bool exact, struct kve_fetch *cell, void *buf,
		      size_t cap)
{
	bool old = exact && spot_old(s);

	if (exact)
		kve_node_fetch(s->page, s->db->geo.frame, i, cell, buf, cap);
	if (!kve_spot_valid(s))
		return -KVE_restart;
	if (!exact)
		return -KVE_not_found;
	return old || cell->flags & KVF_CELL_EXT ? -KVE_need_page : 0;
}

static int entry_fetch(struct kv_tree *t, const void *key, u32 len, struct kve_fetch *cell, void *buf,
		       size_t cap)
{
	bool apart = cap && kvp_load(&t->db->values.bytes), exact;
	u64 hash = apart ? kve_value_hash(t, key, len) : 0;
	struct kve_spot s;
	u32 i;
	int err;

	if (apart)
		kve_values_expect(t->db, hash);
	err = kve_spot_find(t, key, len, &s);
	if (err)
		return err;
	if (apart)
		kve_values_near(t->db, hash, 0);
	i = kve_node_search(s.page, t->db->geo.frame, key, len, &exact);
	return spot_fetch(&s, i, exact, cell, buf, cap);
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

/* ---- many keys side by side ---------------------------------------------------------------------- */

/*
 * A descent waits for memory most of the time. So several go down together, a level at a time and each level
 * in steps: what a step of one will look at is on its way while the others take theirs. Each is validated
 * as if it were alone.
 */
#define LANES 16u

struct lane {
	struct kv_tree *tree;
	const void *key;
	u32 key_len;
	bool going;
	int err; /* 0: at the leaf, where the key belongs to slot */
	struct kve_spot s;
	struct kve_frame *next; /* NULL: s is at the page to be looked at */
	struct kve_frame **kids;
	struct kve_search at;
	u32 slot;
	bool exact;
};

static void lane_end(struct lane *ln, int err)
{
	ln->err = err;
	ln->going = false;
}

/* Into the page that was found. */
static void lane_enter(struct lane *ln)
{
	int err = ln->next ? spot_down(&ln->s, ln->next) : 0;

	if (!err)
		err = spot_look(&ln->s, &ln->kids);
	if (err)
		lane_end(ln, err);
}

/* The search has come to an end: the slot, or the page below. */
static void lane_leave(struct lane *ln)
{
	u32 i = kve_node_search_end(&ln->at, ln->s.page, ln->s.db->geo.frame, &ln->exact);

	if (!ln->kids) {
		ln->slot = i;
		lane_end(ln, 0);
		return;
	}
	ln->next = spot_kid(&ln->s, ln->kids, ln->exact || !i ? i : i - 1);
	if (!ln->next)
		lane_end(ln, spot_down(&ln->s, NULL));
	else
		kvp_prefetch(ln->next);
}

/* All of them one level down. Returns how many are still on the way. */
static u32 lanes_step(struct lane *ln, u32 n, u32 frame)
{
	u32 i, left = 0;

	for (i = 0; i < n; i++)
		if (ln[i].going)
			lane_enter(&ln[i]);
	for (i = 0; i < n; i++)
		if (ln[i].going)
			kve_node_search_begin(&ln[i].at, ln[i].s.page, frame, ln[i].key, ln[i].key_len);
	for (i = 0; i < n; i++)
		if (ln[i].going)
			kve_node_search_near(&ln[i].at, ln[i].s.page, frame);
	for (i = 0; i < n; i++)
		if (ln[i].going) {
			lane_leave(&ln[i]);
			left += ln[i].going;
		}
	return left;
}

/* Those that are going, with their keys, end at their leaves or with an error. */
static void lanes_run(struct kv_db *db, struct lane *ln, u32 n)
{
	u32 i, depth, left = n;
	int err;

	for (i = 0; i < n; i++) {
		ln[i].next = NULL;
		if (!ln[i].going)
			continue;
		err = spot_root(ln[i].tree, &ln[i].s);
		if (err)
			lane_end(&ln[i], err);
	}
	for (depth = 0; left && depth < KVF_DEPTH_MAX; depth++)
		left = lanes_step(ln, n, db->geo.frame);
	for (i = 0; i < n; i++)
		if (ln[i].going)
			lane_end(&ln[i], -KVE_restart);
}

/* At its leaf: the entry. */
static int lane_fetch(const struct lane *ln, struct kve_lookup *l)
{
	struct kve_fetch cell;
	int err = spot_fetch(&ln->s, ln->slot, ln->exact, &cell, l->buf, l->cap);

	if (err == -KVE_restart && KVP_BUG("many-no-validation"))
		err = ln->exact ? 0 : -KVE_not_found;
	if (!err)
		entry_of(&l->e, &cell);
	return err;
}

static void lanes_get(struct kv_tree *t, struct lane *ln, struct kve_lookup *l, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		ln[i].tree = t;
		ln[i].key = l[i].key;
		ln[i].key_len = l[i].key_len;
		ln[i].going = l[i].err == -KVE_need_page;
		ln[i].err = l[i].err;
	}
	kvp_reader_enter();
	lanes_run(t->db, ln, n);
	for (i = 0; i < n; i++)
		if (l[i].err == -KVE_need_page)
			l[i].err = ln[i].err ? ln[i].err : lane_fetch(&ln[i], &l[i]);
	kvp_reader_exit();
}

void kve_tree_get_many(struct kv_tree *t, u64 gen, struct kve_lookup *l, u32 n)
{
	struct lane *ln = gen == KVE_LIVE && n > 1 ? kvp_alloc_array(LANES, sizeof(*ln), 0) : NULL;
	bool missing = false;
	u32 i;

	for (i = 0; ln && i < n; i += LANES)
		lanes_get(t, ln, l + i, KVF_MIN(n - i, LANES));
	for (i = 0; i < n; i++) {
		if (l[i].err == -KVE_restart)
			l[i].err = kve_tree_get(t, gen, l[i].key, l[i].key_len, &l[i].e, l[i].buf,
						l[i].cap);
		missing |= l[i].err == -KVE_need_page;
	}
	kvp_free(ln);
	if (missing)
		kve_tree_get_many_locked(t, gen, l, n);
}

/* ---- leaves of many changes ---------------------------------------------------------------------- */

/* Under the shared tree lock what is valid stays so once it is pinned. True: it was not before. */
static bool lane_pin(const struct lane *ln, struct kve_op *op)
{
	if (ln->err || !kve_spot_valid(&ln->s))
		return false;
	op->slot = ln->slot;
	op->existed = ln->exact;
	op->seen = ln->s.version + 1;
	return kve_op_pin(op, ln->s.frame);
}

/* Returns how many were not pinned before; *missing: not all of them are in memory. */
static u32 lanes_pin(struct kv_db *db, struct lane *ln, struct kve_op *ops, u32 n, bool *missing)
{
	u32 i, pinned = 0;

	for (i = 0; i < n; i++)
		ln[i] = (struct lane){ .tree = ops[i].tree, .key = ops[i].key, .key_len = ops[i].key_len,
				       .going = !ops[i].leaf && kve_op_on_entry(&ops[i]) };
	kvp_reader_enter();
	lanes_run(db, ln, n);
	kvp_reader_exit();
	kvp_rwsem_down_read(&db->tree_lock);
	for (i = 0; i < n; i++) {
		if (ops[i].leaf || !kve_op_on_entry(&ops[i]))
			continue;
		pinned += lane_pin(&ln[i], &ops[i]);
		*missing |= ln[i].err == -KVE_need_page;
	}
	kvp_rwsem_up_read(&db->tree_lock);
	return pinned;
}

u32 kve_tree_leaves(struct kv_db *db, struct kve_op *ops, u32 n)
{
	struct lane *ln = kvp_alloc_array(LANES, sizeof(*ln), 0);
	bool missing = false;
	u32 i, pinned = 0;

	n = KVF_MIN(n, KVE_LEAVES);
	for (i = 0; ln && i < n; i += LANES)
		pinned += lanes_pin(db, ln, ops + i, KVF_MIN(n - i, LANES), &missing);
	kvp_free(ln);
	return missing ? pinned + kve_tree_leaves_read(db, ops, n) : pinned;
}

/* ---- the lock of a leaf ------------------------------------------------------------------------ */

/*
 * Who shares the writer lock changes a leaf under its lock alone: slots, shadows, the generation of the live
 * image. Who looks for the image of some generation under the tree lock takes it as well. A leaf is not
 * evicted while it is locked: once locked, and then valid, it is the one for the key until it is unlocked.
 */
bool kve_leaf_trylock(struct kve_frame *leaf)
{
	u32 free = 0;

	return kvp_cas(&leaf->lock, &free, 1u);
}

void kve_leaf_lock(struct kve_frame *leaf)
{
	u32 spins;

	for (spins = 0; !kve_leaf_trylock(leaf); spins++)
		if (spins < 100)
			kvp_relax();
		else
			kvp_yield();
}

void kve_leaf_unlock(struct kve_frame *leaf)
{
	kvp_store_release(&leaf->lock, 0u);
}
