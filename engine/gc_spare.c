/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_spare.c - what is about to die is left to die, not moved.
 *
 * Dropping a tree, a range delete, and the deletion of large values go on in the background, and kill what
 * stands in segments all over the log. Where keys are in another order than the log these are half dead for
 * a long time, and would be the best victims; but what still lives in them is to die as well. So as long as
 * that work gets on, GC spares the segments that end before it was asked for, and writers do not wait for
 * what is dead in them: it comes back when the work is done, which they would only delay.
 *
 * What is spared is fixed at an instant (an LSN, a generation, a number of bytes) and ends when all that
 * was asked for by then is done; then GC has its turn before anything is spared again. So changes that
 * never end do not keep GC away, nor does work that fails, kills nothing in the log, or has to be done where
 * space is tight. Segments that are newer than the instant are collected as ever.
 *
 * The worker calls this; without one GC runs only where it is asked for.
 */
#include "gc.h"
#include "range.h"

#define LOOK_CALLS 32u /* of kve_spare(), a step of the work each, between two looks at all segments */
#define VAIN_CALLS 1024u /* that find no segment's worth of bytes dead */
#define REST_BYTES (256ull << 20) /* freed since nothing of it counted, until all is as ever */
#define LARGE_BYTES (16u << 20) /* of large values: what is less is deleted soon */

static bool trees_left(struct kv_db *db, u64 gen)
{
	const struct kv_tree *t;

	for (t = kvp_load_acquire(&db->trees); t; t = t->next)
		if (kvp_load_acquire(&t->dropped) && !kvp_load(&t->gone_gen) && t->dropped_gen <= gen)
			return true;
	return false;
}

/* Something large waits for being deleted. */
static bool pending(struct kv_db *db)
{
	u64 live;

	if (trees_left(db, KVE_LIVE) || kve_ranges_left(db, KVE_LIVE))
		return true;
	kvp_mutex_lock(&db->space.lock);
	live = db->space.live_bytes;
	kvp_mutex_unlock(&db->space.lock);
	return kvp_load(&db->space.doomed_bytes) > LARGE_BYTES + live / 8;
}

/* Some of what waited then still does. */
static bool left(struct kv_db *db)
{
	const struct kve_spare *p = &db->spare;
	u64 objects;

	kvp_mutex_lock(&db->space.lock);
	objects = p->objects;
	kvp_mutex_unlock(&db->space.lock);
	return objects || trees_left(db, p->gen) || kve_ranges_left(db, p->lsn - 1);
}

/* What is dead in spared segments, and in those of pages, or free soon; what lives there. */
static u64 look(struct kv_db *db, u64 *alive)
{
	struct kve_space *sp = &db->space;
	u64 segment = db->geo.segment, pages, dead;
	const struct kve_segment *s;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	pages = sp->tree_bytes + sp->dying_nr * segment;
	pages -= KVF_MIN(pages, sp->pending_bytes);
	dead = sp->tree_nr * segment;
	dead -= KVF_MIN(dead, pages);
	*alive = pages;
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind != KVF_KIND_LOG || !(s->flags & KVF_SEGMENT_SEALED) ||
		    s->last_lsn >= db->spare.lsn)
			continue;
		dead += segment - KVF_MIN(s->live + s->pinned, segment);
		*alive += s->live;
	}
	kvp_mutex_unlock(&sp->lock);
	return dead;
}

static void excuse(struct kv_db *db, u64 lsn, u64 bytes, u64 objects)
{
	kvp_mutex_lock(&db->space.lock);
	db->spare.lsn = lsn;
	db->spare.bytes = bytes;
	db->spare.objects = objects;
	kvp_mutex_unlock(&db->space.lock);
}

static void dead_set(struct kv_db *db, u64 bytes)
{
	kvp_mutex_lock(&db->space.lock);
	db->spare.bytes = bytes;
	kvp_mutex_unlock(&db->space.lock);
}

/* ---- while it dies ------------------------------------------------------------------------------- */

static void spare_begin(struct kv_db *db)
{
	struct kve_spare *p = &db->spare;
	struct kve_logpos pos;

	kve_log_pos(db, &pos);
	p->on = true;
	p->gen = kvp_load(&db->open_gen);
	p->calls = p->vain = 0;
	excuse(db, pos.lsn, 0, kvp_load(&db->space.doomed_bytes));
	dead_set(db, look(db, &p->alive));
}

/* Does it still die? */
static bool gets_on(struct kv_db *db)
{
	struct kve_spare *p = &db->spare;
	u64 alive, dead;

	p->vain++;
	if (p->calls < LOOK_CALLS) {
		p->calls++;
		return true;
	}
	p->calls = 0;
	dead = look(db, &alive);
	dead_set(db, dead);
	if (alive + db->geo.segment <= p->alive) {
		p->alive = alive;
		p->vain = 0;
	}
	return p->vain <= VAIN_CALLS;
}

/* ---- and then ------------------------------------------------------------------------------------ */

/*
 * GC goes on with what has not died as a whole. Writers still do not wait for that, but the more has been
 * freed since, by whom it may be, the less of it.
 */
static void spare_end(struct kv_db *db)
{
	struct kve_spare *p = &db->spare;
	u64 alive, dead = look(db, &alive);

	p->on = false;
	p->turn = true;
	p->until = kvp_load(&db->space.freed_total) + dead;
	excuse(db, p->lsn, dead, 0);
}

static void forget(struct kv_db *db)
{
	db->spare.on = false;
	excuse(db, 0, 0, 0);
}

static void rest(struct kv_db *db)
{
	u64 freed = kvp_load(&db->space.freed_total), alive, dead = look(db, &alive);
	struct kve_spare *p = &db->spare;

	if (freed >= p->until + REST_BYTES)
		forget(db);
	else
		dead_set(db, freed < p->until ? KVF_MIN(dead, p->until - freed) : 0);
}

void kve_spare_turn(struct kv_db *db, bool over)
{
	struct kve_spare *p = &db->spare;

	p->turn = false;
	if (over && p->lsn && !p->on)
		forget(db);
}

u64 kve_spare(struct kv_db *db, bool works)
{
	struct kve_spare *p = &db->spare;
	bool tight = kve_space_scarce(db, kve_space_need(db, true));

	if (p->lsn && (tight || (p->on && !works && left(db)))) {
		forget(db);
		p->turn = true;
	} else if (p->on && (!left(db) || !gets_on(db))) {
		spare_end(db);
	} else if (!p->on && works && !tight && !p->turn && pending(db)) {
		spare_begin(db);
	} else if (!p->on && p->lsn) {
		rest(db);
	}
	return p->on ? p->lsn : 0;
}
