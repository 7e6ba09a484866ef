/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * emptying.c - TREE segments with few pages are emptied, so that they are free again.
 *
 * A round chooses victims by what their bitmaps say is in use, walks the trees, and marks the pages that
 * stand there as changed: the next checkpoint writes them elsewhere, as it would any other, and the one
 * after it finds the victims empty. Nothing is written here, and no image changes: readers and frozen states
 * see what they saw. A leaf that is not in memory is brought in; its parent says where it stands, so other
 * leaves need not be read. Pages of the system trees are marked within the checkpoint, which owns them.
 *
 * A round is made only if its victims hold at least a segment less than they take, and not while readers
 * hold older states, whose pages would stay. If no segment was won after all, because something is damaged
 * or has grown meanwhile, there is no other round before more has been freed.
 *
 * Steps are bounded, under the GC lock, with anything in between. A volume that is being resized empties
 * what stands above its new end in the same way, whatever is won by it: see resize.c.
 */
#include "gc.h"

#define VICTIMS 16u
#define PAGES 16u		/* of a step: each is pinned */
#define SLOTS 512u		/* that a step looks at */
#define BYTES_MAX (8u << 20)	/* of a round */
#define AGAIN_SEGMENTS 4u	/* freed since a round in vain, before the next */

enum phase { MARK, FIRST_CHECKPOINT, SECOND_CHECKPOINT };

struct kve_emptying {
	enum phase phase;
	u32 victim[VICTIMS], victims;
	u32 tree_nr; /* TREE segments when it began */
	bool above;  /* all that stands above the ceiling, instead of victims */
	struct kv_tree *tree;
	u8 *cursor; /* key from which to go on */
	u32 cursor_len;
	u8 *next, *keys; /* of this step: where the next one begins; PAGES keys */
	u32 next_len, len[PAGES], nr;
	bool last; /* there is no next one in this tree */
	struct kve_frame *leaf[PAGES + 1];
};

/* ---- memory -------------------------------------------------------------------------------------- */

static void emptying_free(struct kve_emptying *e)
{
	if (!e)
		return;
	kvp_free(e->cursor);
	kvp_free(e->next);
	kvp_free(e->keys);
	kvp_free(e);
}

static struct kve_emptying *emptying_alloc(struct kv_db *db)
{
	struct kve_emptying *e = kvp_alloc(sizeof(*e), KVP_ZERO);

	if (!e)
		return NULL;
	e->cursor = kvp_alloc(db->geo.key_max, 0);
	e->next = kvp_alloc(db->geo.key_max, 0);
	e->keys = kvp_alloc_array(PAGES, db->geo.key_max, 0);
	if (!e->cursor || !e->next || !e->keys) {
		emptying_free(e);
		return NULL;
	}
	return e;
}

/* ---- victims: space lock ---------------------------------------------------------------------------- */

static bool leaves(const struct kv_db *db, u64 block)
{
	u32 nr = kve_block_segment(db, block);

	return block && nr < db->space.nr && (db->space.seg[nr].leaving || nr >= db->space.ceiling);
}

/*
 * Does a copy of the page stand where it is not to stay? What a named snapshot sees would be written
 * elsewhere for the live tree alone, and nothing be free. Of the segment table no snapshot has anything.
 */
static bool ref_leaves(const struct kv_tree *t, const struct kvf_ref *ref)
{
	struct kv_db *db = t->db;
	bool yes;

	kvp_mutex_lock(&db->space.lock);
	yes = leaves(db, le64_to_cpu(ref->block0)) ||
	      (leaves(db, le64_to_cpu(ref->block1)) && !KVP_BUG("tree-move-forgets-twin"));
	yes = yes && (t == db->segtab || !kve_pins_page(&db->space, le64_to_cpu(ref->birth)) ||
		      KVP_BUG("tree-move-pinned"));
	kvp_mutex_unlock(&db->space.lock);
	return yes;
}

static bool chosen(const struct kve_emptying *e, u32 nr)
{
	u32 i;

	for (i = 0; i < e->victims; i++)
		if (e->victim[i] == nr)
			return true;
	return false;
}

/* The one with the fewest units in use of those not chosen yet. */
static u32 emptiest(const struct kve_space *sp, const struct kve_emptying *e)
{
	u32 i, found = KVF_NO_SEGMENT;

	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		if (sp->seg[i].kind != KVF_KIND_TREE || i == sp->tree_hint[0] || i == sp->tree_hint[1] ||
		    sp->seg[i].fixed || chosen(e, i))
			continue;
		if (found == KVF_NO_SEGMENT || sp->seg[i].used < sp->seg[found].used)
			found = i;
	}
	return found;
}

/* What they hold fits into a segment less, with an eighth left over: pages have lengths. */
static bool wins(const struct kv_db *db, u32 victims, u32 units)
{
	u32 room = (db->geo.seg_blocks >> db->geo.unit_shift) - 1;

	return victims > 1 && units <= (victims - 1) * (room - room / 8);
}

/* The largest set of victims that wins: none of them may be. Space lock. */
static void victims_pick(struct kv_db *db, struct kve_emptying *e)
{
	struct kve_space *sp = &db->space;
	u32 units = 0, unit = 1u << (db->geo.unit_shift + db->geo.block_shift), good = 0, nr;

	e->victims = 0;
	while (e->victims < VICTIMS && (nr = emptiest(sp, e)) != KVF_NO_SEGMENT) {
		units += sp->seg[nr].used - 1;
		if ((u64)units * unit > KVF_MAX(BYTES_MAX, db->geo.segment))
			break;
		e->victim[e->victims++] = nr;
		if (wins(db, e->victims, units))
			good = e->victims;
	}
	e->victims = good;
}

/* -KVE_end: there are none. The survey of what snapshots see is made only when it is worth it. */
static int victims_choose(struct kv_db *db, struct kve_emptying *e)
{
	struct kve_space *sp = &db->space;
	bool survey;
	int err = 0;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	victims_pick(db, e);
	survey = e->victims && !sp->surveyed;
	kvp_mutex_unlock(&sp->lock);
	if (survey)
		err = kve_pins_survey(db, NULL);
	if (err)
		return err;
	kvp_mutex_lock(&sp->lock);
	if (survey)
		victims_pick(db, e);
	e->tree_nr = sp->tree_nr;
	for (i = 0; i < e->victims; i++)
		sp->seg[e->victim[i]].leaving = true;
	kvp_store(&sp->shut, e->victims || sp->ceiling < sp->nr);
	kve_space_shut_count(sp);
	kvp_mutex_unlock(&sp->lock);
	return e->victims ? 0 : -KVE_end;
}

/* ---- one step: pages that leave are marked as changed ------------------------------------------------- */

static void want_add(struct kve_emptying *e, struct kv_db *db, const void *key, u32 len)
{
	if (len)
		memcpy(e->keys + (size_t)e->nr * db->geo.key_max, key, len);
	e->len[e->nr++] = len;
}

static void next_set(struct kve_emptying *e, const void *key, u32 len)
{
	if (len)
		memcpy(e->next, key, len);
	e->next_len = len;
	e->last = !len;
}

/* Keys of children that leave, from the cursor's on, and where to go on. Tree lock. */
static void collect(struct kv_db *db, struct kve_emptying *e, const struct kve_frame *parent)
{
	u32 frame = db->geo.frame, nr = kve_node_nr(parent->page), i, from, len;
	const struct kve_frame *kid;
	struct kvf_ref ref;
	const u8 *upper;
	u8 flags;

	from = kve_node_child(parent->page, frame, e->cursor, e->cursor_len);
	for (i = from; i < nr && i - from < SLOTS && e->nr < PAGES; i++) {
		kid = parent->kids[i];
		if (kid)
			ref = kid->ref;
		else
			memcpy(&ref, kvf_page_cell(parent->page, frame, i, &len, &flags), sizeof(ref));
		/* The leaf of the cursor is there already. */
		if (i == from || (kid && kvp_load(&kid->dirty)) || !ref_leaves(e->tree, &ref))
			continue;
		len = kvf_page_key(parent->page, frame, i, e->next);
		want_add(e, db, e->next, len);
	}
	if (i < nr) {
		e->next_len = kvf_page_key(parent->page, frame, i, e->next);
		e->last = false;
	} else {
		upper = kvf_page_upper(parent->page, frame, &len);
		next_set(e, upper, upper ? len : 0);
	}
}

/* The leaf of the cursor cannot be read: it stays, the walk goes on behind it. */
static int pass_damage(struct kv_db *db, struct kve_emptying *e)
{
	u32 len;
	int err = kve_damage_end(e->tree, KVE_LIVE, e->cursor, e->cursor_len, e->next, &len);

	(void)db;
	if (err == -KVE_no_memory)
		return err;
	e->next_len = err ? 0 : len;
	e->last = !e->next_len;
	return 0;
}

/* Leaves of the step, pinned: leaf[0] is that of the cursor. No lock held. */
static int leaves_pin(struct kv_db *db, struct kve_emptying *e)
{
	struct kve_frame *leaf = NULL;
	u32 i;
	int err;

	e->nr = 0;
	next_set(e, NULL, 0);
	err = kve_tree_leaf(e->tree, e->cursor, e->cursor_len, &leaf);
	if (err == -KVE_no_memory)
		return err;
	if (err)
		return pass_damage(db, e);
	e->leaf[0] = leaf;
	if (!leaf)
		return 0;
	kvp_rwsem_down_read(&db->tree_lock);
	if (!leaf->zombie && leaf->parent) {
		collect(db, e, leaf->parent);
	} else if (leaf->zombie) { /* merged away meanwhile: once more */
		next_set(e, e->cursor, e->cursor_len);
		e->last = false;
	}
	kvp_rwsem_up_read(&db->tree_lock);
	for (i = 0; i < e->nr; i++) {
		err = kve_tree_leaf(e->tree, e->keys + (size_t)i * db->geo.key_max, e->len[i],
				    &e->leaf[i + 1]);
		if (err == -KVE_no_memory)
			return err;
		if (err)
			e->leaf[i + 1] = NULL;
	}
	return 0;
}

static void leaves_unpin(struct kve_emptying *e)
{
	u32 i;

	for (i = 0; i <= PAGES; i++) {
		if (e->leaf[i])
			kve_frame_unpin(e->leaf[i]);
		e->leaf[i] = NULL;
	}
}

/* The page and those above it. Returns bytes that will move. Tree lock exclusive. */
static u64 path_mark(struct kv_db *db, struct kve_frame *f)
{
	u64 bytes = 0;

	for (; f && !f->zombie; f = f->parent) {
		if (f->dirty || !f->ref.block0 || !ref_leaves(f->tree, &f->ref))
			continue;
		kve_mark_dirty(db, f);
		bytes += (u64)le32_to_cpu(f->ref.blocks) << db->geo.block_shift;
	}
	return bytes;
}

/* Writer lock: a freeze must not come in between. */
static int leaves_mark(struct kv_db *db, struct kve_emptying *e)
{
	u64 bytes = 0;
	u32 i;
	int err;

	kvp_gate_close(&db->writer);
	err = kvp_load(&db->degraded) ? -KVE_degraded : kve_super_mark(db);
	if (!err) {
		kvp_rwsem_down_write(&db->tree_lock);
		for (i = 0; i <= PAGES; i++)
			if (e->leaf[i])
				bytes += path_mark(db, e->leaf[i]);
		kvp_rwsem_up_write(&db->tree_lock);
		if (bytes)
			db->changed = true;
	}
	kvp_gate_open(&db->writer);
	kvp_add(&db->gc_moved, bytes);
	return err;
}

/* The next tree that has pages; NULL: there is none. */
static void tree_next(struct kve_emptying *e, struct kv_tree *t)
{
	while (t && (t->system || kvp_load(&t->gone_gen)))
		t = t->next;
	e->tree = t;
	e->cursor_len = 0;
}

static int step_mark(struct kv_db *db, struct kve_emptying *e)
{
	u8 *swap = e->cursor;
	int err;

	if (!e->tree) {
		e->phase = FIRST_CHECKPOINT;
		return 0;
	}
	err = kve_credits(db, true);
	if (!err)
		err = leaves_pin(db, e);
	if (!err)
		err = leaves_mark(db, e);
	leaves_unpin(e);
	if (err)
		return err;
	if (e->last) {
		tree_next(e, e->tree->next);
	} else {
		e->cursor = e->next;
		e->cursor_len = e->next_len;
		e->next = swap;
	}
	return 0;
}

/* ---- pages of a system tree: within a checkpoint ------------------------------------------------------ */

int kve_emptying_system(struct kv_db *db, struct kv_tree *t)
{
	struct kve_frame *leaf;
	const u8 *upper = NULL;
	u32 len = 0;
	int err = 0;
	u8 *key;

	if (!kvp_load(&db->space.shut))
		return 0;
	key = kvp_alloc(db->geo.key_max, 0);
	if (!key)
		return -KVE_no_memory;
	while (!err) {
		err = kve_tree_leaf(t, key, len, &leaf);
		if (err || !leaf)
			break;
		kvp_rwsem_down_write(&db->tree_lock);
		(void)path_mark(db, leaf);
		upper = kvf_page_upper(leaf->page, db->geo.frame, &len);
		if (upper)
			memcpy(key, upper, len);
		kvp_rwsem_up_write(&db->tree_lock);
		kve_frame_unpin(leaf);
		if (!upper)
			break;
	}
	kvp_free(key);
	/* What cannot be read stays. */
	return err == -KVE_no_memory ? err : 0;
}

/* ---- rounds: GC lock --------------------------------------------------------------------------- */

void kve_emptying_stop(struct kv_db *db)
{
	struct kve_emptying *e = db->emptying;
	struct kve_space *sp = &db->space;
	u32 i;

	if (!e)
		return;
	kvp_mutex_lock(&sp->lock);
	for (i = 0; i < e->victims; i++)
		if (e->victim[i] < sp->nr)
			sp->seg[e->victim[i]].leaving = false;
	kvp_store(&sp->shut, sp->ceiling < sp->nr);
	kve_space_shut_count(sp);
	kvp_mutex_unlock(&sp->lock);
	emptying_free(e);
	db->emptying = NULL;
}

/* Is there room for what moves, beside the next checkpoint? */
static bool room_for(struct kv_db *db)
{
	u32 segments = (u32)((BYTES_MAX + db->geo.segment - 1) >> db->geo.segment_shift);

	if (kve_space_avail(db, true) >= kve_space_need(db, true) + KVF_MAX(BYTES_MAX, db->geo.segment))
		return true;
	return kve_space_gc_room(db, kve_space_need(db, true)) > segments;
}

int kve_emptying_begin(struct kv_db *db, bool above)
{
	struct kve_emptying *e;
	int err;

	if (!above && (kve_readers_oldest(db) != KVE_LIVE || !room_for(db) ||
		       kvp_load(&db->space.freed_total) - kvp_load(&db->emptying_vain) <
			       (u64)AGAIN_SEGMENTS * db->geo.segment))
		return -KVE_end;
	e = emptying_alloc(db);
	if (!e)
		return -KVE_no_memory;
	e->above = above;
	err = above ? 0 : victims_choose(db, e);
	if (err) {
		emptying_free(e);
		kvp_store(&db->emptying_vain, kvp_load(&db->space.freed_total));
		return err;
	}
	tree_next(e, kvp_load_acquire(&db->trees));
	db->emptying = e;
	return 0;
}

static void round_end(struct kv_db *db)
{
	struct kve_emptying *e = db->emptying;
	bool vain;

	kvp_mutex_lock(&db->space.lock);
	vain = !e->above && db->space.tree_nr >= e->tree_nr;
	kvp_mutex_unlock(&db->space.lock);
	kve_emptying_stop(db);
	if (vain)
		kvp_store(&db->emptying_vain, kvp_load(&db->space.freed_total));
}

int kve_emptying_step(struct kv_db *db)
{
	struct kve_emptying *e = db->emptying;
	int err = 0;

	switch (e->phase) {
	case MARK:
		err = step_mark(db, e);
		break;
	case FIRST_CHECKPOINT:
		err = kve_checkpoint(db, NULL, false, true);
		e->phase = SECOND_CHECKPOINT;
		break;
	case SECOND_CHECKPOINT:
		err = kve_checkpoint(db, NULL, false, true);
		if (!err)
			round_end(db);
		break;
	}
	if (err) {
		kve_emptying_stop(db);
		kvp_store(&db->emptying_vain, kvp_load(&db->space.freed_total));
	}
	return err;
}
