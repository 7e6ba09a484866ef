/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc.c - garbage collection of the log: rounds, and which segments they empty.
 *
 * A round chooses victims, LOG segments with few live bytes, reads their live records into memory
 * (gc_read.c), writes these as copies to fewer cold segments (gc_copy.c), and lets the leaves refer to the
 * copies (gc_swap.c). It goes in small steps, with anything in between: what dies meanwhile is not swapped.
 * Then the victims have died whole, and the next checkpoint frees them as any other.
 *
 * Victims and new cold segments are busy for the time of a round: no checkpoint frees them. A victim that
 * could not be emptied, because something in it is damaged, is left alone from then on.
 */
#include "gc.h"
#include "gc_score.h"

#define TIGHT 2u	     /* segments: the volume is about full */
#define BUF_BYTES (6u << 20) /* of live records, at least a segment of them */
/* Of those that go whatever is won: copies may take twice as many segments, if values are large. */
#define ABOVE_VICTIMS ((KVE_GC_VICTIMS - 1) / 2)
#define ABREAST_BYTES (1u << 20) /* of segments in lanes */
#define LOOK_SEGMENTS 1024u /* that are looked at while others wait for the space lock */

void kve_gc_init(struct kv_db *db)
{
	kvp_mutex_init(&db->gc_lock, "gc", KVE_RANK_GC);
	db->gc_idle = true;
	db->gc_quiet_reader = KVE_LIVE;
	db->gc_vain = 0 - (4ull << 30);
	db->emptying_vain = 0 - (4ull << 30);
	db->pace_at = KVE_LIVE;
}

/* ---- a round's memory --------------------------------------------------------------------------- */

void kve_gc_memory_drop(struct kv_db *db)
{
	struct kve_gc_memory *m = &db->gc_kept;

	if (!m->buf && !m->segment)
		return;
	kvp_iobuf_free(m->segment, m->segment_bytes);
	kvp_iobuf_free(m->buf, m->room);
	memset(m, 0, sizeof(*m));
	kvp_store(&db->gc_bytes, 0ull);
}

/* The large ones stay for the next round: the system gives them page by page. */
static void round_free(struct kv_db *db, struct kve_gc *gc)
{
	u32 i;

	if (!gc)
		return;
	for (i = 0; i < gc->abreast; i++)
		(void)kve_gc_io_wait(db, &gc->lane[i]);
	db->gc_kept = gc->memory;
	if (!db->worker || !gc->memory.segment)
		kve_gc_memory_drop(db);
	kvp_free(gc->group);
	kvp_free(gc->record);
	kvp_free(gc->order);
	kvp_free(gc->io);
	kvp_free(gc);
}

/* The buffers of the last round if they have the right size, else new ones. */
static int memory_take(struct kv_db *db, u32 room, u32 segment_bytes, struct kve_gc_memory *m)
{
	if (db->gc_kept.room != room)
		kve_gc_memory_drop(db);
	*m = db->gc_kept;
	memset(&db->gc_kept, 0, sizeof(db->gc_kept));
	if (m->buf)
		return 0;
	m->room = room;
	m->segment_bytes = segment_bytes;
	m->buf = kvp_iobuf_alloc(room);
	m->segment = kvp_iobuf_alloc(segment_bytes);
	return m->buf && m->segment ? 0 : -KVE_no_memory;
}

static void lanes_make(struct kv_db *db, struct kve_gc *gc)
{
	u32 i;

	for (i = 0; i < gc->abreast; i++) {
		gc->lane[i].buf = gc->memory.segment + (size_t)i * db->geo.segment;
		gc->lane[i].io = gc->io + (size_t)i * kve_gc_ios(db);
	}
}

static int round_alloc(struct kv_db *db, u32 segments, struct kve_gc **out)
{
	struct kve_gc *gc = kvp_alloc(sizeof(*gc), KVP_ZERO);
	u32 room = KVF_MIN(segments, KVF_MAX(BUF_BYTES / db->geo.segment, 1u)) * db->geo.record_max;
	int err;

	if (!gc)
		return -KVE_no_memory;
	gc->abreast = KVF_MAX(1u, KVF_MIN(KVE_GC_ABREAST, ABREAST_BYTES / db->geo.segment));
	err = memory_take(db, room, gc->abreast * db->geo.segment, &gc->memory);
	gc->group = kvp_alloc(sizeof(*gc->group), 0);
	gc->io = kvp_alloc_array(gc->abreast * kve_gc_ios(db), sizeof(*gc->io), 0);
	if (err || !gc->group || !gc->io) {
		round_free(db, gc);
		return -KVE_no_memory;
	}
	lanes_make(db, gc);
	kvp_store(&db->gc_bytes, (u64)room + gc->memory.segment_bytes);
	kve_frames_yield(db);
	kve_values_yield(db);
	*out = gc;
	return 0;
}

/* Nothing is busy any more. A victim that was read and still has live bytes is not to be read again. */
static void round_end(struct kv_db *db, bool done)
{
	struct kve_gc *gc = db->gc;
	struct kve_segment *s;
	u32 i;

	if (!gc)
		return;
	kvp_mutex_lock(&db->space.lock);
	for (i = 0; i < gc->victims; i++) {
		s = &db->space.seg[gc->victim[i]];
		s->busy = false;
		s->stuck = done && s->live && !(gc->partial && i + 1 == gc->victims);
		if (KVP_BUG("gc-reuse-early") && done && !s->live && !s->pinned &&
		    s->kind == KVF_KIND_LOG && !s->dying) {
			s->kind = KVF_KIND_FREE;
			s->flags = 0;
			s->row_dirty = true;
			db->space.free_nr++;
			db->space.log_nr--;
		}
	}
	for (i = 0; i < gc->colds; i++)
		db->space.seg[gc->cold[i]].busy = false;
	kvp_mutex_unlock(&db->space.lock);
	round_free(db, gc);
	db->gc = NULL;
}

void kve_gc_stop(struct kv_db *db)
{
	round_end(db, false);
	kve_gc_memory_drop(db);
	kve_emptying_stop(db);
}

void kve_gc_exit(struct kv_db *db)
{
	kve_gc_stop(db);
	kve_resize_stop(db);
	kvp_mutex_destroy(&db->gc_lock);
}

/* ---- victims ------------------------------------------------------------------------------------ */

struct view {
	u64 replay_lsn, next_lsn;
	u64 spared; /* segments that end below this LSN are no victims */
};

static void view_take(struct kv_db *db, struct view *v, u64 spared)
{
	struct kve_logpos pos;

	v->spared = spared;
	kvp_mutex_lock(&db->state);
	v->replay_lsn = le64_to_cpu(db->sb.replay_lsn);
	kvp_mutex_unlock(&db->state);
	kve_log_pos(db, &pos);
	v->next_lsn = pos.lsn;
}

/* What a snapshot refers to stays where it is: then nothing is to be won in its segment. Space lock. */
static bool eligible(const struct kve_space *sp, const struct kve_segment *s, const struct view *v)
{
	return !s->dying && !s->busy && !s->stuck && !s->pinned && !kve_snapshot_sees(sp, s->last_lsn) &&
	       (s->last_lsn >= v->spared || KVP_BUG("gc-copies-doomed")) &&
	       kve_gc_eligible(s->kind, s->flags, s->live, s->last_lsn, v->replay_lsn);
}

/* Space lock. */
static u64 score(const struct kv_db *db, const struct view *v, u32 nr)
{
	const struct kve_segment *s = db->space.seg + nr;

	if (nr >= db->space.nr || !eligible(&db->space, s, v))
		return 0;
	/* What stands beyond the end of a volume that is to be shorter goes, whatever it costs. */
	return nr >= db->space.ceiling ? KVE_LIVE :
					 kve_gc_score(db->geo.segment, s->live, s->last_lsn, v->next_lsn);
}

static void candidate_add(struct kve_gc *gc, u32 nr, u64 sc)
{
	u32 at;

	if (gc->candidates == KVE_GC_VICTIMS && sc <= gc->candidate[KVE_GC_VICTIMS - 1].score)
		return;
	gc->candidates += gc->candidates < KVE_GC_VICTIMS;
	for (at = gc->candidates - 1; at && gc->candidate[at - 1].score < sc; at--)
		gc->candidate[at] = gc->candidate[at - 1];
	gc->candidate[at].score = sc;
	gc->candidate[at].nr = nr;
}

/* The best ones first. Each is looked at once, and others get the lock in between. */
static void candidates_find(struct kv_db *db, struct kve_gc *gc, const struct view *v)
{
	struct kve_space *sp = &db->space;
	u32 i = KVF_SEG_FIRST, end, nr;
	u64 sc;

	do {
		kvp_mutex_lock(&sp->lock);
		nr = sp->nr;
		end = KVF_MIN(nr, i + LOOK_SEGMENTS);
		for (; i < end; i++) {
			sc = score(db, v, i);
			if (sc)
				candidate_add(gc, i, sc);
		}
		kvp_mutex_unlock(&sp->lock);
	} while (end < nr);
}

/* Space lock. */
static void victim_add(struct kv_db *db, struct kve_gc *gc, u32 nr)
{
	db->space.seg[nr].busy = true;
	gc->victim[gc->victims++] = nr;
	gc->above |= nr >= db->space.ceiling;
}

/* Those that fit into the buffer one after the other. Live bytes of them. */
static u64 victims_choose(struct kv_db *db, struct kve_gc *gc, const struct view *v)
{
	u64 live = 0;
	u32 i, nr;

	candidates_find(db, gc, v);
	kvp_mutex_lock(&db->space.lock);
	for (i = 0; i < gc->candidates && gc->victims < (gc->above ? ABOVE_VICTIMS : KVE_GC_VICTIMS); i++) {
		nr = gc->candidate[i].nr;
		if (!score(db, v, nr) || db->space.seg[nr].live > gc->memory.room - live)
			continue;
		live += db->space.seg[nr].live;
		victim_add(db, gc, nr);
	}
	kvp_mutex_unlock(&db->space.lock);
	return live;
}

/*
 * The volume is so full that not even one segment can be won at once. But when part of one more victim goes
 * along, what is dead comes together in fewer segments: a later round wins it.
 */
static bool victim_partial(struct kv_db *db, struct kve_gc *gc, const struct view *v, u64 live)
{
	u32 i = 0;

	if (!gc->victims || gc->victims == KVE_GC_VICTIMS || live + db->geo.segment / 8 >= gc->memory.room)
		return false;
	kvp_mutex_lock(&db->space.lock);
	while (i < gc->candidates && !score(db, v, gc->candidate[i].nr))
		i++;
	gc->partial = i < gc->candidates && db->space.seg[gc->candidate[i].nr].live + db->geo.segment / 8 <=
						    db->geo.record_max;
	if (gc->partial)
		victim_add(db, gc, gc->candidate[i].nr);
	kvp_mutex_unlock(&db->space.lock);
	return gc->partial;
}

/* ---- steps: GC lock ------------------------------------------------------------------------------ */

/* *more is cleared when there is nothing to win. */
static int step_begin(struct kv_db *db, u64 spared, bool *more)
{
	u32 room = kve_space_gc_room(db, kve_space_need(db, true));
	struct view v;
	u64 live;
	int err;

	*more = false;
	if (!room)
		return -KVE_no_space;
	/* The leaves of what is moved will want to be written, too. */
	if (kve_space_scarce(db, kve_space_need(db, true)))
		room = KVF_MAX(room / 3, 1u);
	err = round_alloc(db, room, &db->gc);
	if (err)
		return err;
	view_take(db, &v, spared);
	live = victims_choose(db, db->gc, &v);
	/* A segment at least must come of it; whether it does is known when they have been read. */
	if (live + db->geo.record_max / 4 * 3 > (u64)db->gc->victims * db->geo.record_max &&
	    !db->gc->above && !(room <= TIGHT && victim_partial(db, db->gc, &v, live))) {
		round_end(db, false);
		return 0;
	}
	db->gc->phase = KVE_GC_READ;
	*more = true;
	return 0;
}

static int step_read(struct kv_db *db, struct kve_gc *gc)
{
	int err = kve_gc_read(db, gc);

	if (!err && gc->read == gc->victims)
		gc->phase = KVE_GC_WRITE;
	return err;
}

/* Copies that would take as many segments as they free are not worth it: *more says so. */
static int step_write(struct kv_db *db, struct kve_gc *gc, bool *more)
{
	u32 need;
	int err = kve_gc_plan(db, gc, &need);

	if (err)
		return err;
	if ((need >= gc->victims && !gc->above) || need > KVE_GC_VICTIMS) {
		round_end(db, false);
		*more = false;
		return 0;
	}
	err = kve_gc_write(db, gc);
	if (!err)
		gc->phase = KVE_GC_SWAP;
	return err;
}

static int step_swap(struct kv_db *db, struct kve_gc *gc)
{
	int err = 0;

	if (gc->swapped < gc->nr)
		err = kve_gc_swap(db, gc);
	if (!err && gc->swapped >= gc->nr)
		round_end(db, !gc->cut);
	return err;
}

int kve_gc_log_step(struct kv_db *db, u64 spared, bool *more)
{
	struct kve_gc *gc = db->gc;
	int err = 0;

	*more = true;
	switch (gc ? gc->phase : KVE_GC_IDLE) {
	case KVE_GC_IDLE:
		return step_begin(db, spared, more);
	case KVE_GC_READ:
		err = step_read(db, gc);
		break;
	case KVE_GC_WRITE:
		err = step_write(db, gc, more);
		break;
	case KVE_GC_SWAP:
		err = kve_credits(db, true);
		if (!err)
			err = step_swap(db, gc);
		break;
	}
	if (err)
		round_end(db, false);
	return err;
}

int kve_gc_step(struct kv_db *db, bool *more)
{
	int err;

	*more = true;
	if (db->emptying)
		return kve_emptying_step(db);
	err = kve_gc_log_step(db, 0, more);
	if (err || *more)
		return err;
	/* Nothing is to be won in the log. */
	err = kve_emptying_begin(db, false);
	*more = !err;
	return err == -KVE_end ? 0 : err;
}

/* ---- when the volume is full -------------------------------------------------------------------- */

int kve_gc_rescue(struct kv_db *db, bool wait)
{
	u64 moved = kvp_load(&db->gc_moved);
	bool more = true;
	int err = 0;

	if (wait)
		kvp_mutex_lock(&db->gc_lock);
	else if (!kvp_mutex_trylock(&db->gc_lock))
		return -KVE_no_space;
	do
		err = kve_gc_step(db, &more);
	while (!err && more && (db->gc || db->emptying));
	kvp_mutex_unlock(&db->gc_lock);
	/* Even of a round that ran out of space something is dead now. */
	if (kvp_load(&db->gc_moved) == moved)
		return err ? err : -KVE_no_space;
	return err == -KVE_no_space ? 0 : err;
}

/* ---- asked for ----------------------------------------------------------------------------------- */

static void info_take(struct kv_db *db, kv_gc_info *info)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	struct view v;
	u32 i;

	view_take(db, &v, 0);
	kvp_mutex_lock(&sp->lock);
	info->live_bytes = sp->live_bytes;
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind == KVF_KIND_LOG && !s->dying)
			info->log_bytes += db->geo.segment;
		if (s->busy || eligible(sp, s, &v))
			info->left_bytes += db->geo.segment - KVF_MIN(s->live, (u64)db->geo.segment);
	}
	kvp_mutex_unlock(&sp->lock);
}

/* What was emptied is free after the second checkpoint. */
static int settle(struct kv_db *db)
{
	int err = kve_checkpoint(db, NULL, false, true);

	return err ? err : kve_checkpoint(db, NULL, false, true);
}

/* And nothing is under way. */
static bool pending_much(struct kv_db *db)
{
	bool yes;

	kvp_mutex_lock(&db->gc_lock);
	kvp_mutex_lock(&db->space.lock);
	yes = !db->gc && !db->emptying && !db->resizing && db->space.pending_bytes >= db->geo.segment;
	kvp_mutex_unlock(&db->space.lock);
	kvp_mutex_unlock(&db->gc_lock);
	return yes;
}

/* Until budget bytes more are moved. */
static int gc_run(struct kv_db *db, u64 budget, bool *more)
{
	u64 begin = kvp_load(&db->gc_moved);
	int err = 0;

	do {
		kvp_mutex_lock(&db->gc_lock);
		/* A volume that becomes shorter collects what it needs to, below its new end. */
		*more = false;
		if (!db->resizing)
			err = kve_gc_step(db, more);
		kvp_mutex_unlock(&db->gc_lock);
		kvp_resched();
	} while (!err && *more && kvp_load(&db->gc_moved) - begin < budget);
	return err;
}

int kv_gc(kv_db *db, uint64_t budget, kv_gc_info *info)
{
	u64 moved = kvp_load(&db->gc_moved);
	bool more = true, deleted = false;
	int err = kve_enter(db, true);

	if (!err) {
		kvp_gate_close(&db->writer);
		err = kve_super_mark(db);
		kvp_gate_open(&db->writer);
	}
	/* What waits to be deleted goes first: it need not be moved. */
	do
		deleted = !err && kve_doomed_help(db);
	while (deleted && !budget);
	/* Behind the replay position nothing is moved; what waits to be free is not in use. */
	if (!err && !deleted && kvp_load(&db->last_ckpt_pos))
		err = kve_checkpoint(db, NULL, false, true);
	if (!err && !deleted && pending_much(db))
		err = settle(db);
	if (!err && !deleted)
		err = gc_run(db, budget ? budget : ~0ull, &more);
	if (!err && !more)
		err = settle(db);
	/* Then the end of an image, if little stands there. */
	if (!err && !more)
		err = kve_resize_pack(db, budget ? budget : ~0ull, &more);
	if (info) {
		memset(info, 0, sizeof(*info));
		info_take(db, info);
		info->moved_bytes = kvp_load(&db->gc_moved) - moved;
		info->more = !err && more;
	}
	return kve_return(db, err);
}
