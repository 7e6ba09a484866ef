/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * emptying.c - TREE segments with few pages are emptied, so that they are free again.
 *
 * A round chooses victims by what their bitmaps say is in use, and marks the pages that stand there as
 * changed: the next checkpoint writes them elsewhere, as it would any other, and the one after it finds the
 * victims empty. Nothing is written here, and no image changes: readers and frozen states see what they saw.
 * Victims are read: a page says its tree, and its lower fence leads to it, so what a round costs does not
 * depend on how large the trees are. Pages of the system trees are marked within the checkpoint, which owns
 * them.
 *
 * A round is made only if its victims hold at least a segment less than they take, and not while readers
 * hold older states, whose pages would stay. If no segment was won after all, because something is damaged
 * or has grown meanwhile, there is no other round before more has been freed.
 *
 * Steps are bounded, under the GC lock, with anything in between. A volume that is being resized empties
 * what stands above its new end in the same way, whatever is won by it: see resize.c. There nothing may be
 * left, also of pages whose copy above is damaged, so the trees are walked: a leaf's parent says where it
 * stands, and those that stand elsewhere need not be read.
 */
#include "gc.h"

#define VICTIMS 16u
#define PAGES 16u		/* of a step: each is pinned */
#define SLOTS 512u		/* that a step looks at */
#define BYTES_MAX (8u << 20)	/* of a round */
#define WINDOW_FRAMES 8u	/* of a victim that are read at once */
#define AGAIN_SEGMENTS 4u	/* freed since a round in vain, before the next */

enum phase { MARK, FIRST_CHECKPOINT, SECOND_CHECKPOINT };

struct kve_emptying {
	enum phase phase;
	u32 victim[VICTIMS], victims;
	u32 tree_nr; /* TREE segments when it began */
	bool above;  /* all that stands above the ceiling, instead of victims */
	/* Victims: the one that is looked through, what of it was in use when that began, where to go on. */
	u32 at, unit;
	u8 *bitmap, *window, *page;
	/* Above: the tree, and the key from which to go on. */
	struct kv_tree *tree;
	u8 *cursor;
	u32 cursor_len;
	u8 *next; /* where the next step begins */
	u32 next_len;
	bool last; /* there is no next one in this tree */
	/* Of this step: keys of pages that leave. */
	struct {
		struct kv_tree *tree;
		u32 len;
	} want[PAGES];
	u8 *keys;
	u32 nr;
	struct kve_frame *leaf[PAGES + 1];
};

/* ---- memory -------------------------------------------------------------------------------------- */

static void emptying_free(struct kv_db *db, struct kve_emptying *e)
{
	if (!e)
		return;
	kvp_iobuf_free(e->window, WINDOW_FRAMES * db->geo.frame);
	kvp_iobuf_free(e->page, db->geo.frame);
	kvp_free(e->bitmap);
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
	e->window = kvp_iobuf_alloc(WINDOW_FRAMES * db->geo.frame);
	e->page = kvp_iobuf_alloc(db->geo.frame);
	e->bitmap = kvp_alloc(db->geo.bitmap_len, 0);
	e->cursor = kvp_alloc(db->geo.key_max, 0);
	e->next = kvp_alloc(db->geo.key_max, 0);
	e->keys = kvp_alloc_array(PAGES, db->geo.key_max, 0);
	if (!e->window || !e->page || !e->bitmap || !e->cursor || !e->next || !e->keys) {
		emptying_free(db, e);
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

/* ---- one step: which pages leave ----------------------------------------------------------------------- */

static bool tree_counts(const struct kv_tree *t)
{
	return !t->system && !kvp_load(&t->gone_gen);
}

static void want_add(struct kve_emptying *e, struct kv_tree *t, const void *key, u32 len)
{
	if (len)
		memcpy(e->keys + (size_t)e->nr * t->db->geo.key_max, key, len);
	e->want[e->nr].tree = t;
	e->want[e->nr++].len = len;
}

/*
 * A page of a victim, by its tree and the first key that may be in it. Returns its length, 0: there is none.
 * If it is no page of the live state any more, its key leads elsewhere.
 */
static u32 page_want(struct kv_db *db, struct kve_emptying *e, const u8 *at, u32 left, u64 block)
{
	struct kvf_page_expect expect = { .uuid = db->uuid, .level = -1 };
	const struct kvf_page *page = (const struct kvf_page *)at;
	u32 len = le32_to_cpu(page->bytes), key_len;
	struct kv_tree *t;
	const u8 *lower;

	if (len > left || kvf_page_verify(at, len, block, &expect, &db->geo))
		return 0;
	kvp_rwsem_down_read(&db->tree_lock);
	t = kve_tree_by_id(db, le32_to_cpu(page->tree));
	kvp_rwsem_up_read(&db->tree_lock);
	if (!t || !tree_counts(t) || KVP_BUG("tree-move-blind"))
		return len;
	memcpy(e->page, at, len);
	kve_node_unpack(e->page, db->geo.frame, len);
	lower = kvf_page_lower(e->page, db->geo.frame, &key_len);
	want_add(e, t, lower, lower ? key_len : 0);
	return len;
}

/* The first unit of the victim from e->unit on that was in use; units: there is none. */
static u32 unit_next(const struct kve_emptying *e, u32 units)
{
	u32 i = e->unit;

	while (i < units && !(e->bitmap[i / 8] >> (i % 8) & 1))
		i++;
	return i;
}

/* What is in use of the next victim, if it is one still: some are free before the round ends. */
static void victim_begin(struct kv_db *db, struct kve_emptying *e)
{
	u32 nr = e->victim[e->at];
	const struct kve_segment *s;

	memset(e->bitmap, 0, db->geo.bitmap_len);
	kvp_mutex_lock(&db->space.lock);
	s = nr < db->space.nr ? &db->space.seg[nr] : NULL;
	if (s && s->kind == KVF_KIND_TREE && s->leaving)
		memcpy(e->bitmap, s->bitmap, db->geo.bitmap_len);
	kvp_mutex_unlock(&db->space.lock);
	e->unit = 1; /* behind the header */
}

/* Up to PAGES pages of the victim. What cannot be read stays. */
static int look(struct kv_db *db, struct kve_emptying *e)
{
	u32 shift = db->geo.unit_shift + db->geo.block_shift, frame = db->geo.frame, from, bytes, at, len;
	u32 units = db->geo.seg_blocks >> db->geo.unit_shift;
	u64 off;
	bool more;

	if (!e->unit)
		victim_begin(db, e);
	from = e->unit = unit_next(e, units);
	if (from >= units) {
		e->at++;
		e->unit = 0;
		return 0;
	}
	bytes = db->geo.segment - (from << shift);
	more = bytes > WINDOW_FRAMES * frame;
	bytes = more ? WINDOW_FRAMES * frame : bytes;
	off = kve_segment_offset(db, e->victim[e->at]) + (from << shift);
	if (kvp_dev_read(db->dev, off, e->window, bytes)) {
		e->unit += KVF_MAX(bytes >> shift, 1u);
		return 0;
	}
	while (e->nr < PAGES) {
		e->unit = unit_next(e, units);
		at = (e->unit - from) << shift;
		/* A page that the end of the window may cut is the first one of the next. */
		if (at >= bytes || (more && bytes - at < frame))
			break;
		len = page_want(db, e, e->window + at, bytes - at, (off + at) >> db->geo.block_shift);
		e->unit += KVF_MAX((u32)(KVF_ROUND_UP(len, 1u << shift) >> shift), 1u);
	}
	return 0;
}

/* ---- the same by walking a tree ------------------------------------------------------------------------ */

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
		want_add(e, e->tree, e->next, len);
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
static int pass_damage(struct kve_emptying *e)
{
	u32 len;
	int err = kve_damage_end(e->tree, KVE_LIVE, e->cursor, e->cursor_len, e->next, &len);

	if (err == -KVE_no_memory)
		return err;
	e->next_len = err ? 0 : len;
	e->last = !e->next_len;
	return 0;
}

/* The leaf of the cursor, pinned, and those beside it that leave. */
static int walk(struct kv_db *db, struct kve_emptying *e)
{
	struct kve_frame *leaf = NULL;
	int err;

	next_set(e, NULL, 0);
	err = kve_tree_leaf(e->tree, e->cursor, e->cursor_len, &leaf);
	if (err == -KVE_no_memory)
		return err;
	if (err)
		return pass_damage(e);
	e->leaf[PAGES] = leaf;
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
	return 0;
}

/* The next tree that has pages; NULL: there is none. */
static void tree_next(struct kve_emptying *e, struct kv_tree *t)
{
	while (t && !tree_counts(t))
		t = t->next;
	e->tree = t;
	e->cursor_len = 0;
}

static void walk_on(struct kve_emptying *e)
{
	u8 *swap = e->cursor;

	if (e->last) {
		tree_next(e, e->tree->next);
	} else {
		e->cursor = e->next;
		e->cursor_len = e->next_len;
		e->next = swap;
	}
}

/* ---- one step: they are marked as changed -------------------------------------------------------------- */

/* No lock held. */
static int leaves_pin(struct kv_db *db, struct kve_emptying *e)
{
	const u8 *key = e->keys;
	int err;
	u32 i;

	for (i = 0; i < e->nr; i++, key += db->geo.key_max) {
		err = kve_tree_leaf(e->want[i].tree, key, e->want[i].len, &e->leaf[i]);
		if (err == -KVE_no_memory)
			return err;
		if (err)
			e->leaf[i] = NULL;
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

static int step_mark(struct kv_db *db, struct kve_emptying *e)
{
	int err;

	if (e->above ? !e->tree : e->at == e->victims) {
		e->phase = FIRST_CHECKPOINT;
		return 0;
	}
	e->nr = 0;
	err = kve_credits(db, true);
	if (!err)
		err = e->above ? walk(db, e) : look(db, e);
	if (!err)
		err = leaves_pin(db, e);
	if (!err && (e->nr || e->leaf[PAGES]))
		err = leaves_mark(db, e);
	leaves_unpin(e);
	if (!err && e->above)
		walk_on(e);
	return err;
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
	emptying_free(db, e);
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
		emptying_free(db, e);
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
