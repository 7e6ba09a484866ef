/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.c - in which segments there is something that named snapshots refer to. It stays there: to move a page
 * or a value would make a copy for the live state, and free nothing.
 *
 * A page is seen by the snapshots from its birth on, a value by those with its LSN or a higher one; what is
 * not alive any more stands in dead lists, or is on its way there. Segments do not know the births of their
 * pages: so a survey walks the inner pages of all trees, whose refs say it, and reads the dead lists. What
 * snapshots see changes only when they come or go, so a survey is right until then (space.surveyed).
 *
 * Snapshots cannot be made meanwhile (the GC lock is held). When one has been deleted the next survey is due.
 */
#include "gc.h"

struct sight {
	u64 gen, lsn;
	bool holds; /* something from the report's first segment on */
};

struct survey {
	struct kv_db *db;
	struct kve_pins *report; /* or NULL */
	struct sight *sight;	 /* oldest first */
	u32 sights;
	u8 *key, *next; /* where the walk is; keys */
	u32 len;
	bool last;
};

bool kve_pins_page(const struct kve_space *sp, u64 birth)
{
	return sp->sights && birth && birth <= sp->sight[sp->sights - 1].gen;
}

/* ---- what is found: space lock -------------------------------------------------------------------- */

/* The snapshots of generations [oldest, newest] refer to something in the segment; there may be none. */
static void note(struct survey *sv, u32 segment, u64 oldest, u64 newest)
{
	struct kve_space *sp = &sv->db->space;
	bool above = sv->report && segment >= sv->report->from, any = false;
	u32 i;

	for (i = 0; i < sv->sights; i++) {
		if (sv->sight[i].gen < oldest || sv->sight[i].gen > newest)
			continue;
		any = true;
		sv->sight[i].holds |= above;
	}
	if (!any || segment >= sp->nr)
		return;
	sp->seg[segment].fixed = true;
	if (sv->report)
		sv->report->end = KVF_MAX(sv->report->end, segment + 1);
}

static void note_page(struct survey *sv, const struct kv_tree *t, const struct kvf_ref *ref)
{
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u64 birth = le64_to_cpu(ref->birth);
	u32 i;

	/* A clone's origin has it, and is looked at: alive in another tree, or in a dead list. */
	if (kve_shared_page(t, ref))
		return;
	for (i = 0; i < 2; i++)
		if (block[i] && birth)
			note(sv, kve_block_segment(sv->db, block[i]), birth, KVE_LIVE);
}

/* ---- pages of trees ---------------------------------------------------------------------------------- */

/* A leaf, what is above it, and what its parent names; where the next parent begins. Tree and space lock. */
static void parent_note(struct survey *sv, const struct kve_frame *leaf)
{
	const struct kve_frame *f = leaf->parent;
	u32 frame = sv->db->geo.frame, nr = f ? kve_node_nr(f->page) : 0, i, len = 0;
	const u8 *upper = NULL;
	struct kvf_ref ref;
	u8 flags;

	for (i = 0; i < nr; i++) {
		if (f->kids[i])
			ref = f->kids[i]->ref;
		else
			memcpy(&ref, kvf_page_cell(f->page, frame, i, &len, &flags), sizeof(ref));
		if (!KVP_BUG("pins-forget-pages"))
			note_page(sv, leaf->tree, &ref);
	}
	if (f)
		upper = kvf_page_upper(f->page, frame, &len);
	sv->last = !upper;
	sv->len = upper ? len : 0;
	if (upper)
		memcpy(sv->next, upper, len);
	for (f = leaf; f; f = f->parent)
		note_page(sv, f->tree, &f->ref);
}

/* Nothing held, but by a system tree the checkpoint lock. */
static int tree_step(struct survey *sv, struct kv_tree *t)
{
	struct kv_db *db = sv->db;
	struct kve_frame *leaf = NULL;
	bool gone = false;
	u8 *swap;
	int err = kve_tree_leaf(t, sv->key, sv->len, &leaf);

	sv->last = true;
	if (err == -KVE_no_memory)
		return err;
	/* What cannot be read cannot be moved either; the walk goes on behind it. */
	if (err) {
		err = kve_damage_end(t, KVE_LIVE, sv->key, sv->len, sv->next, &sv->len);
		sv->last = err || !sv->len;
		if (err == -KVE_no_memory)
			return err;
	}
	if (leaf) {
		kvp_rwsem_down_read(&db->tree_lock);
		kvp_mutex_lock(&db->space.lock);
		gone = leaf->zombie;
		if (!gone)
			parent_note(sv, leaf);
		kvp_mutex_unlock(&db->space.lock);
		kvp_rwsem_up_read(&db->tree_lock);
		kve_frame_unpin(leaf);
	}
	/* Merged away meanwhile: once more. */
	if (gone) {
		sv->last = false;
		return 0;
	}
	swap = sv->key;
	sv->key = sv->next;
	sv->next = swap;
	return 0;
}

static int tree_look(struct survey *sv, struct kv_tree *t)
{
	int err;

	sv->len = 0;
	do
		err = tree_step(sv, t);
	while (!err && !sv->last);
	return err;
}

/* Merged away, and in no list of frees yet. */
static void zombies_look(struct survey *sv)
{
	struct kv_db *db = sv->db;
	const struct kve_frame *f;

	kvp_rwsem_down_read(&db->tree_lock);
	kvp_mutex_lock(&db->space.lock);
	for (f = db->zombies; f; f = f->next)
		note_page(sv, f->tree, &f->ref);
	kvp_mutex_unlock(&db->space.lock);
	kvp_rwsem_up_read(&db->tree_lock);
}

/* ---- values ------------------------------------------------------------------------------------------ */

/* LSN of the first record of a LOG segment, 0: it cannot be read. */
static u64 first_lsn(struct kv_db *db, u32 segment)
{
	struct kvf_segment_header *h = kvp_iobuf_alloc(db->geo.block);
	u64 lsn = 0;

	if (h && !kvp_dev_read(db->dev, kve_segment_offset(db, segment), h, db->geo.block))
		lsn = le64_to_cpu(h->first_lsn);
	kvp_iobuf_free(h, db->geo.block);
	return lsn;
}

/*
 * The one segment that has records on both sides of the newest snapshot's LSN: the log's head at that time.
 * The first of those that end behind it, if it begins before it. KVF_NO_SEGMENT: there is none.
 */
static u32 segment_between(struct kv_db *db, u64 lsn)
{
	struct kve_space *sp = &db->space;
	u32 i, found = KVF_NO_SEGMENT, head;
	const struct kve_segment *s;
	u64 first;

	kvp_mutex_lock(&db->log.append);
	head = db->log.pos.segment;
	first = db->log.first_lsn;
	kvp_mutex_unlock(&db->log.append);
	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind != KVF_KIND_LOG || !(s->flags & KVF_SEGMENT_SEALED) ||
		    s->flags & KVF_SEGMENT_COLD || s->last_lsn <= lsn)
			continue;
		if (found == KVF_NO_SEGMENT || s->last_lsn < sp->seg[found].last_lsn)
			found = i;
	}
	kvp_mutex_unlock(&sp->lock);
	if (found != KVF_NO_SEGMENT)
		return first_lsn(db, found) <= lsn ? found : KVF_NO_SEGMENT;
	return first <= lsn ? head : KVF_NO_SEGMENT;
}

/* The oldest snapshot that shows all live values of a segment whose last LSN is this; else the newest. */
static u64 values_oldest(const struct survey *sv, u64 lsn)
{
	u32 i = 0;

	while (i + 1 < sv->sights && sv->sight[i].lsn < lsn)
		i++;
	return sv->sight[i].gen;
}

static void values_look(struct survey *sv)
{
	u64 lsn = sv->sight[sv->sights - 1].lsn;
	u32 between = segment_between(sv->db, lsn), i;
	struct kve_space *sp = &sv->db->space;
	const struct kve_segment *s;

	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind == KVF_KIND_LOG && s->live &&
		    (i == between || (s->flags & KVF_SEGMENT_SEALED && s->last_lsn <= lsn)))
			note(sv, i, values_oldest(sv, i == between ? KVE_LIVE : s->last_lsn), KVE_LIVE);
	}
	for (i = 0; i < sp->dead.nr; i++)
		note(sv, sp->dead.item[i].segment, sp->dead.item[i].oldest, KVE_LIVE);
	for (i = 0; i < sp->dead_frozen.nr; i++)
		note(sv, sp->dead_frozen.item[i].segment, sp->dead_frozen.item[i].oldest, KVE_LIVE);
	kvp_mutex_unlock(&sp->lock);
}

/* ---- what has died: checkpoint lock ------------------------------------------------------------------ */

/* Frees that are not split yet go to dead lists. Space lock. */
static void frees_note(struct survey *sv, const struct kve_batch_items *l)
{
	u64 birth;
	u32 i;

	for (i = 0; i < l->nr; i++) {
		birth = le64_to_cpu(l->items[i].birth);
		if (birth)
			note(sv, le32_to_cpu(l->items[i].segment), birth, KVE_LIVE);
	}
}

static void frees_look(struct survey *sv)
{
	struct kve_space *sp = &sv->db->space;
	const struct kve_free_batch *b;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	frees_note(sv, &sp->open);
	for (b = sp->batches; b; b = b->next)
		if (!b->split)
			frees_note(sv, &b->list);
	for (i = 0; i < sp->listing_nr; i++)
		note(sv, le32_to_cpu(sp->listing[i].it.segment), sp->listing[i].oldest, sp->listing[i].list);
	kvp_mutex_unlock(&sp->lock);
}

static int row_look(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct survey *sv = arg;
	u64 list = key_len == KVE_LIST_KEY ? kvf_get_be64(key + 1) : 0;
	u64 oldest = key_len == KVE_LIST_KEY ? kvf_get_be64(key + 9) : KVE_LIVE;
	struct kvf_free it;
	u32 i;

	(void)flags;
	if (key[0] != KVF_SEGTAB_LIST)
		return 1;
	kvp_mutex_lock(&sv->db->space.lock);
	for (i = 0; i + sizeof(it) <= cell_len; i += sizeof(it)) {
		memcpy(&it, cell + i, sizeof(it));
		if (!KVP_BUG("pins-forget-lists"))
			note(sv, le32_to_cpu(it.segment), oldest, list);
	}
	kvp_mutex_unlock(&sv->db->space.lock);
	return 0;
}

/* Rows of the segment table, and what has none yet; the forest, which checkpoints change. */
static int lists_look(struct survey *sv)
{
	struct kv_db *db = sv->db;
	u8 first = KVF_SEGTAB_LIST, *page = kvp_iobuf_alloc(db->geo.frame);
	int err = page ? 0 : -KVE_no_memory;

	kvp_mutex_lock(&db->ckpt_lock);
	zombies_look(sv);
	frees_look(sv);
	if (!err)
		err = tree_look(sv, db->forest);
	if (!err)
		err = kve_tree_each(db->segtab, KVE_LIVE, &first, 1, page, row_look, sv);
	kvp_mutex_unlock(&db->ckpt_lock);
	kvp_iobuf_free(page, db->geo.frame);
	return err < 0 ? err : 0;
}

/* ---- the survey: GC lock ------------------------------------------------------------------------------ */

/* As if nothing were fixed; what there is of snapshots. */
static int survey_begin(struct survey *sv)
{
	struct kv_db *db = sv->db;
	struct kve_space *sp = &db->space;
	int err = 0;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++)
		sp->seg[i].fixed = false;
	sp->surveyed = true;
	sv->sights = sp->sights;
	if (sv->sights) {
		sv->sight = kvp_alloc_array(sv->sights, sizeof(*sv->sight), KVP_ZERO);
		err = sv->sight ? 0 : -KVE_no_memory;
	}
	for (i = 0; !err && i < sv->sights; i++) {
		sv->sight[i].gen = sp->sight[i].gen;
		sv->sight[i].lsn = sp->sight[i].lsn;
	}
	kvp_mutex_unlock(&sp->lock);
	if (err || !sv->sights)
		return err;
	sv->key = kvp_alloc(db->geo.key_max, 0);
	sv->next = kvp_alloc(db->geo.key_max, 0);
	return sv->key && sv->next ? 0 : -KVE_no_memory;
}

/* As far as there is room; the last ones as a number. */
static void names_put(struct survey *sv)
{
	char *out = sv->report->names;
	u32 room = sizeof(sv->report->names), at = 0, i = 0, more = 0;
	struct kve_snapshot *s;

	kvp_mutex_lock(&sv->db->state);
	for (s = sv->db->snaps; s; s = s->next) {
		while (i < sv->sights && sv->sight[i].gen < s->gen)
			i++;
		if (i == sv->sights || sv->sight[i].gen != s->gen || !sv->sight[i].holds)
			continue;
		if (s->gone || !s->durable)
			continue;
		/* Room for the number. */
		if (more || strlen(s->name) + 24 > room - at)
			more++;
		else
			at += (u32)kvp_snprintf(out + at, room - at, "%s'%s'", at ? ", " : "", s->name);
	}
	kvp_mutex_unlock(&sv->db->state);
	if (more)
		kvp_snprintf(out + at, room - at, "%s%u more", at ? " and " : "", more);
}

static int survey(struct survey *sv)
{
	struct kv_tree *t;
	int err = survey_begin(sv);

	if (err || !sv->sights)
		return err;
	/* What dies while the trees are walked is in the lists then. */
	for (t = kvp_load_acquire(&sv->db->trees); t && !err; t = t->next)
		if (!t->system && !kvp_load(&t->gone_gen))
			err = tree_look(sv, t);
	if (!err) {
		values_look(sv);
		err = lists_look(sv);
	}
	if (!err && sv->report)
		names_put(sv);
	return err;
}

int kve_pins_survey(struct kv_db *db, struct kve_pins *report)
{
	struct survey sv = { .db = db, .report = report };
	int err;

	if (report) {
		report->end = 0;
		report->names[0] = 0;
	}
	err = survey(&sv);
	if (err) {
		kvp_mutex_lock(&db->space.lock);
		db->space.surveyed = false;
		kvp_mutex_unlock(&db->space.lock);
	}
	kvp_free(sv.sight);
	kvp_free(sv.key);
	kvp_free(sv.next);
	return err;
}
