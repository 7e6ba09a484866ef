/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * resize.c - kv_resize(): a volume becomes longer or shorter while it is open.
 *
 * Growing says how far the volume may grow; a device's is extended at once. To become shorter, nothing new
 * is put above the new end (the ceiling), and what stands there is moved in rounds: the log goes on below,
 * garbage collection takes the values, whatever is won by that (gc.c), checkpoints the pages (emptying.c).
 * When all above is free, a checkpoint leaves it out, the next one writes the new limit, and a file is cut
 * (space_tail.c). Until then the volume is as long as it was: a crash leaves that, and the next call begins
 * anew, with less to do. TAIL and both groups of superblocks stand in the first three segments and stay; the
 * copy behind the last segment is written when the volume is closed.
 *
 * A call does as much as its budget says. Writers go on meanwhile, in what is left of the volume.
 */
#include "gc.h"
#include "log_internal.h"

enum phase { SETTLE, SQUEEZE, SETTLE_AGAIN, LOG, VALUES, PAGES, DONE };

struct kve_resizing {
	enum phase phase;
	u32 to;	   /* segments */
	u64 bytes; /* asked for; 0: the limit stays what it is */
	u32 above; /* segments above in use when the round began */
	u32 rounds, checkpoints;
	u32 least; /* of them, so far */
	u32 tries; /* that ran out of space since then */
};

#define TRIES 6u /* writers take space as well, and what they free is free after two checkpoints */
#define COPIES 8u /* segments for what is moved that writers leave alone */
#define ROUNDS_VAIN 2u /* that win nothing: what one leaves to a checkpoint the next finds free */

/* ---- how short can it be? ---------------------------------------------------------------------------- */

static u32 segments_for(u64 bytes, u32 room)
{
	return (u32)((bytes + room - 1) / room);
}

static u32 frames_room(const struct kv_db *db)
{
	return (u32)KVF_ROUND_DOWN(db->geo.segment - db->geo.block, db->geo.frame);
}

/* What stands in segments where snapshots keep something stays there. Space lock. */
struct fixed {
	u32 nr, end; /* segments; behind the last */
	u64 live, pages, pending;
};

static u64 pages_of(const struct kv_db *db, const struct kve_batch_items *l, bool fixed)
{
	const struct kve_segment *seg = db->space.seg;
	u64 blocks = 0;
	u32 i;

	for (i = 0; i < l->nr; i++)
		if (l->items[i].blocks != cpu_to_le32(KVF_FREE_WHOLE) &&
		    seg[le32_to_cpu(l->items[i].segment)].fixed == fixed)
			blocks += le32_to_cpu(l->items[i].blocks);
	return blocks << db->geo.block_shift;
}

static void fixed_look(const struct kv_db *db, struct fixed *fx)
{
	const struct kve_space *sp = &db->space;
	const struct kve_free_batch *b;
	const struct kve_segment *s;
	u32 i;

	memset(fx, 0, sizeof(*fx));
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (!s->fixed || s->kind == KVF_KIND_FREE)
			continue;
		fx->nr++;
		fx->end = i + 1;
		fx->live += s->live;
		fx->pages += (u64)(s->used - (s->used != 0)) << (db->geo.unit_shift + db->geo.block_shift);
	}
	fx->pending = pages_of(db, &sp->open, false);
	for (b = sp->batches; b; b = b->next)
		fx->pending += pages_of(db, &b->list, false);
}

enum counting { LEAST, COMFORT, NO_SNAPSHOTS };

/*
 * Segments that what is alive takes when it is moved together, and what is needed to go on: the log's two,
 * the reserve, two checkpoints. Beyond the least an eighth more, as neither values nor pages fill segments to
 * the end. What snapshots keep where it is counts as it stands; NO_SNAPSHOTS: as if there were none.
 */
static u32 segments_min(struct kv_db *db, enum counting how)
{
	u64 need = kve_space_need(db, true), pages, live;
	struct kve_space *sp = &db->space;
	u32 room = frames_room(db), nr;
	struct fixed fx;

	kvp_mutex_lock(&sp->lock);
	fixed_look(db, &fx);
	if (how == NO_SNAPSHOTS) {
		memset(&fx, 0, sizeof(fx));
		fx.pending = (u64)sp->dying_nr * db->geo.segment;
		fx.pending = sp->pending_bytes - KVF_MIN(sp->pending_bytes, fx.pending) + sp->held_bytes;
	}
	pages = sp->tree_bytes - KVF_MIN(sp->tree_bytes, fx.pages + fx.pending);
	live = sp->live_bytes - KVF_MIN(sp->live_bytes, fx.live);
	kvp_mutex_unlock(&sp->lock);
	nr = KVF_SEG_FIRST + fx.nr + segments_for(live + live / 16, db->geo.record_max);
	nr += segments_for(pages + pages / 16, room) + 2 * segments_for(need, room);
	/* Head and successor; two streams of pages; the reserve; a segment of copies. */
	nr += 2 + 2 + KVF_MAX(3u, nr / 100) + 2;
	/* Two older states of the segment table: it counts where segments are tiny. */
	nr += 2 * segments_for(kve_table_bytes(db, nr), room);
	return KVF_MAX(how == LEAST ? nr : nr + nr / 8 + 2, fx.end);
}

static u64 bytes_of(const struct kv_db *db, u32 segments)
{
	return kve_segment_offset(db, segments) + db->geo.block;
}

/* ---- what is above: space lock taken here -------------------------------------------------------- */

struct above {
	u32 used;      /* segments that are not free */
	u32 stuck;     /* one that holds something damaged */
	bool movable;  /* a sealed one with live values */
	bool pages;
};

static void above_look(struct kv_db *db, u32 to, struct above *a)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	u32 i;

	memset(a, 0, sizeof(*a));
	kvp_mutex_lock(&sp->lock);
	for (i = to; i < sp->nr; i++) {
		s = &sp->seg[i];
		a->used += s->kind != KVF_KIND_FREE || s->flags & KVF_SEGMENT_QUARANTINE;
		if (s->stuck || s->flags & KVF_SEGMENT_QUARANTINE)
			a->stuck = i;
		a->movable |= s->kind == KVF_KIND_LOG && s->live && s->flags & KVF_SEGMENT_SEALED &&
			      !s->stuck && !s->fixed;
		a->pages |= s->kind == KVF_KIND_TREE;
	}
	kvp_mutex_unlock(&sp->lock);
}

/* Nothing new from there on; KVF_NO_SEGMENT: as usual. yields: unless somebody needs it. */
static void ceiling_set(struct kv_db *db, u32 to, bool yields)
{
	struct kve_space *sp = &db->space;
	u32 i, held = 2 * segments_for(kve_space_need(db, true), frames_room(db)) + COPIES;

	kvp_mutex_lock(&sp->lock);
	kvp_store(&sp->ceiling, to);
	kvp_store(&sp->held, to == KVF_NO_SEGMENT ? 0 : held);
	kvp_store(&sp->shut, to < sp->nr);
	kve_space_shut_count(sp);
	kvp_store(&sp->yields, yields);
	sp->free_nr = 0;
	for (i = KVF_SEG_FIRST; i < KVF_MIN(sp->nr, to); i++)
		sp->free_nr += sp->seg[i].kind == KVF_KIND_FREE && !sp->seg[i].busy;
	kvp_mutex_unlock(&sp->lock);
}

bool kve_resize_yield(struct kv_db *db)
{
	if (!kvp_load(&db->space.yields))
		return false;
	/* What it has begun goes on, or begins again. */
	ceiling_set(db, KVF_NO_SEGMENT, false);
	return true;
}

static u32 segments_used(struct kv_db *db)
{
	u32 nr;

	kvp_mutex_lock(&db->space.lock);
	nr = KVF_SEG_FIRST + db->space.log_nr + db->space.tree_nr;
	kvp_mutex_unlock(&db->space.lock);
	return nr;
}

/* ---- steps: GC lock ------------------------------------------------------------------------------ */

static void resizing_end(struct kv_db *db)
{
	kvp_free(db->resizing);
	db->resizing = NULL;
	ceiling_set(db, KVF_NO_SEGMENT, false);
}

void kve_resize_stop(struct kv_db *db)
{
	kvp_free(db->resizing);
	db->resizing = NULL;
}

/* Who wants it shorter is told what is in the way. */
static int obstacle(struct kv_db *db)
{
	u64 to = bytes_of(db, db->resizing->to);
	struct kve_pins pins = { .end = 0 };
	struct above a;
	int err;

	above_look(db, db->resizing->to, &a);
	if (kve_readers_oldest(db) != KVE_LIVE)
		return kve_fail(db, KVE_in_use, "%u segments beyond %llu bytes are held by a read "
				"transaction or a cursor; end it and try again", a.used, to);
	pins.from = db->resizing->to;
	err = kve_space_has_snapshots(db) ? kve_pins_survey(db, &pins) : 0;
	if (err)
		return err;
	if (pins.names[0])
		return kve_fail(db, KVE_in_use, "snapshots refer to what stands beyond %llu bytes: %s; "
				"delete them, or ask for %llu", to, pins.names,
				bytes_of(db, segments_min(db, COMFORT)));
	if (a.stuck)
		return kve_fail(db, KVE_corrupt_value, "segment %u, beyond %llu bytes, holds damaged values "
				"that cannot be moved; run 'kvs-fsck -n %s'", a.stuck, to, db->dev->name);
	return kve_fail(db, KVE_no_space, "%u segments beyond %llu bytes could not be emptied: there is no "
			"room below", a.used, to);
}

/* The log goes on below: its head and the successor, which has been chosen already. */
static int log_leave(struct kv_db *db, u32 to)
{
	struct kve_log *log = &db->log;
	int err = 0;
	u32 i;

	kvp_gate_close(&db->writer);
	for (i = 0; i < 2 && !err && (log->pos.segment >= to || log->next_segment >= to); i++)
		err = kve_log_switch(db, KVE_SHARE_ALL);
	kvp_mutex_lock(&log->append);
	log->filled = log->pos.offset;
	log->filled_lsn = log->pos.lsn - 1;
	kvp_mutex_unlock(&log->append);
	kvp_gate_open(&db->writer);
	return err;
}

static bool tight(struct kv_db *db, const struct kve_resizing *rs)
{
	u32 used = segments_used(db);

	return used + used / 4 + 2 * segments_for(kve_space_need(db, true), db->geo.segment) > rs->to;
}

/* What is dead is free after two checkpoints, and what is moved must be older than the replay position. */
static int step_settle(struct kv_db *db, struct kve_resizing *rs)
{
	if (!rs->checkpoints && !tight(db, rs))
		rs->checkpoints = 2;
	if (rs->checkpoints++ < 2)
		return kve_checkpoint(db, NULL, false, true);
	rs->checkpoints = 0;
	if (rs->phase == SETTLE) {
		rs->phase = SQUEEZE;
		return 0;
	}
	ceiling_set(db, rs->to, !rs->bytes);
	rs->phase = LOG;
	return 0;
}

/* The volume as it is now is packed as far as it goes; with no room for that, what follows makes some. */
static int step_squeeze(struct kv_db *db, struct kve_resizing *rs)
{
	bool more = false;
	int err = 0;

	if (tight(db, rs) || db->gc || db->emptying)
		err = kve_gc_step(db, &more);
	if (!more || err)
		rs->phase = SETTLE_AGAIN;
	return err == -KVE_no_space ? 0 : err;
}

static int step_log(struct kv_db *db, struct kve_resizing *rs)
{
	struct above a;
	int err = log_leave(db, rs->to);

	/* Behind the replay position nothing is moved. */
	if (!err)
		err = kve_checkpoint(db, NULL, false, true);
	above_look(db, rs->to, &a);
	rs->above = a.used;
	rs->phase = VALUES;
	return err;
}

static int step_values(struct kv_db *db, struct kve_resizing *rs)
{
	bool more = true;
	struct above a;
	int err = 0;

	above_look(db, rs->to, &a);
	if (a.movable || db->gc)
		err = kve_gc_log_step(db, 0, &more);
	else
		more = false;
	if (err == -KVE_no_space) {
		err = 0;
		more = false;
	}
	if (more || err)
		return err;
	rs->phase = PAGES;
	return kve_emptying_begin(db, true);
}

/* Pages with the two checkpoints that free what was moved; then: is that all? */
static int step_pages(struct kv_db *db, struct kve_resizing *rs)
{
	struct above a;
	int err = 0;

	if (db->emptying)
		err = kve_emptying_step(db);
	if (err || db->emptying)
		return err;
	above_look(db, rs->to, &a);
	if (!a.used) {
		rs->phase = DONE;
		return 0;
	}
	rs->rounds = a.used < rs->above ? 0 : rs->rounds + 1;
	rs->phase = LOG;
	return rs->rounds > ROUNDS_VAIN ? obstacle(db) : 0;
}

/* Nothing is above: the state, then the limit, then the file. */
static int step_done(struct kv_db *db, struct kve_resizing *rs)
{
	struct kve_space *sp = &db->space;
	u64 bytes = rs->bytes, before = kvp_load(&db->bytes_max);
	bool fits;
	int err = kve_checkpoint(db, NULL, false, true);

	if (err)
		return err;
	kvp_mutex_lock(&sp->lock);
	fits = sp->nr <= rs->to;
	if (fits && bytes)
		kvp_store(&db->bytes_max, bytes);
	kvp_mutex_unlock(&sp->lock);
	if (!fits)
		return kve_fail(db, KVE_no_space, "segments beyond %llu bytes are in use", bytes);
	err = kve_checkpoint(db, NULL, false, true);
	if (!err)
		resizing_end(db);
	else if (err == -KVE_no_space)
		kvp_store(&db->bytes_max, before);
	return err;
}

static int shrink_step(struct kv_db *db)
{
	struct kve_resizing *rs = db->resizing;

	switch (rs->phase) {
	case SETTLE:
	case SETTLE_AGAIN:
		return step_settle(db, rs);
	case SQUEEZE:
		return step_squeeze(db, rs);
	case LOG:
		return step_log(db, rs);
	case VALUES:
		return step_values(db, rs);
	case PAGES:
		return step_pages(db, rs);
	case DONE:
		break;
	}
	return step_done(db, rs);
}

/* ---- both ways --------------------------------------------------------------------------------- */

/* What snapshots refer to does not move: which segments have some of it. GC lock. */
static int pins_known(struct kv_db *db)
{
	bool known;

	kvp_mutex_lock(&db->space.lock);
	known = db->space.surveyed;
	kvp_mutex_unlock(&db->space.lock);
	return known ? 0 : kve_pins_survey(db, NULL);
}

/* Snapshots that hold something from there on; none: it is not where it stands that counts, but how much. */
static int pins_from(struct kv_db *db, u32 from, struct kve_pins *pins)
{
	int err;

	pins->from = from;
	err = kve_pins_survey(db, pins);
	if (err || pins->names[0])
		return err;
	pins->from = 0;
	return kve_pins_survey(db, pins);
}

/* Segments, and who makes them that many. GC lock. */
static int too_small(struct kv_db *db, u32 to, u64 bytes)
{
	u32 min = segments_min(db, COMFORT), without = segments_min(db, NO_SNAPSHOTS);
	struct kve_pins pins = { .end = 0 };
	int err = without < min ? pins_from(db, to, &pins) : 0;

	if (err)
		return err;
	if (!pins.names[0])
		return kve_fail(db, KVE_too_small, "%llu bytes; what is in the volume needs at least %llu",
				bytes, bytes_of(db, min));
	return kve_fail(db, KVE_too_small, "%llu bytes; what is in the volume needs at least %llu, or "
			"%llu without the snapshots %s", bytes, bytes_of(db, min), bytes_of(db, without),
			pins.names);
}

/* Is there room for all in so few segments? GC lock. */
static int room_check(struct kv_db *db, u32 to, u64 bytes)
{
	int err = pins_known(db);

	if (err)
		return err;
	return to < segments_min(db, LEAST) ? too_small(db, to, bytes) : 0;
}

static int shrink_begin(struct kv_db *db, u32 to, u64 bytes)
{
	struct kve_resizing *rs = db->resizing;
	int err;

	if (rs && rs->bytes == bytes && (rs->to == to || !bytes))
		return 0;
	kve_gc_stop(db);
	if (rs)
		resizing_end(db);
	err = room_check(db, to, bytes);
	if (err)
		return err;
	rs = kvp_alloc(sizeof(*rs), KVP_ZERO);
	if (!rs)
		return -KVE_no_memory;
	rs->to = to;
	rs->bytes = bytes;
	rs->least = ~0u;
	db->resizing = rs;
	return 0;
}

/* There was no room: what is dead is freed, what is sparse packed, and it begins anew. */
static int try_again(struct kv_db *db)
{
	struct kve_resizing *rs = db->resizing;
	struct above a;

	kve_gc_stop(db);
	above_look(db, rs->to, &a);
	if (a.used < rs->least) {
		rs->least = a.used;
		rs->tries = 0;
	}
	if (rs->tries++ >= TRIES)
		return obstacle(db);
	rs->phase = SETTLE;
	rs->checkpoints = 0;
	return 0;
}

static int shrink(struct kv_db *db, u32 to, u64 bytes, u64 budget, bool *more)
{
	u64 begin = kvp_load(&db->gc_moved);
	int err;

	do {
		kvp_mutex_lock(&db->gc_lock);
		err = shrink_begin(db, to, bytes);
		if (!err)
			err = shrink_step(db);
		if (err == -KVE_no_space && db->resizing)
			err = try_again(db);
		if (err && db->resizing) {
			kve_gc_stop(db);
			resizing_end(db);
		}
		*more = db->resizing;
		kvp_mutex_unlock(&db->gc_lock);
		kvp_resched();
	} while (!err && *more && kvp_load(&db->gc_moved) - begin < budget);
	return err;
}

/* Worth it: at most half as much moves as is won, and the end is what growing would make of it. */
static u32 pack_target(struct kv_db *db)
{
	u32 to, i, above = 0, min = segments_min(db, COMFORT);
	struct kve_space *sp = &db->space;

	kvp_mutex_lock(&sp->lock);
	to = KVF_MAX(min, kve_tail_wanted(db, KVF_SEG_FIRST + sp->log_nr + sp->tree_nr));
	to = KVF_MIN(to, sp->nr);
	for (i = to; i < sp->nr; i++)
		above += sp->seg[i].kind != KVF_KIND_FREE;
	if (above > (sp->nr - to) / 2)
		to = sp->nr;
	i = sp->nr;
	kvp_mutex_unlock(&sp->lock);
	return to < i ? to : KVF_NO_SEGMENT;
}

/* Once more when it is known what snapshots keep. GC lock. */
static int pack_choose(struct kv_db *db, u32 *to)
{
	int err;

	*to = pack_target(db);
	if (*to == KVF_NO_SEGMENT)
		return 0;
	err = pins_known(db);
	*to = err ? KVF_NO_SEGMENT : pack_target(db);
	return err;
}

int kve_resize_pack(struct kv_db *db, u64 budget, bool *more)
{
	u32 to = KVF_NO_SEGMENT;
	int err = 0;

	*more = false;
	kvp_mutex_lock(&db->gc_lock);
	/* Where somebody wants another size the end is where they say. */
	if (!db->resizing)
		err = pack_choose(db, &to);
	else if (!db->resizing->bytes)
		to = db->resizing->to;
	kvp_mutex_unlock(&db->gc_lock);
	if (!err && to != KVF_NO_SEGMENT && kve_readers_oldest(db) == KVE_LIVE)
		err = shrink(db, to, 0, budget, more);
	return err == -KVE_no_space || err == -KVE_in_use || err == -KVE_corrupt_value ||
	       err == -KVE_too_small ? 0 : err;
}

/* bytes 0: as far as it goes. */
static int grow(struct kv_db *db, u32 to, u64 bytes)
{
	struct kve_space *sp = &db->space;
	int err = 0;
	u32 i;

	kvp_mutex_lock(&db->gc_lock);
	if (db->resizing) {
		kve_gc_stop(db);
		resizing_end(db);
	}
	kvp_mutex_unlock(&db->gc_lock);
	kvp_mutex_lock(&sp->lock);
	i = sp->nr;
	if (!db->dev->growable && to > i)
		err = kve_space_extend(db, to);
	for (; !err && i < sp->nr; i++)
		sp->seg[i].gen = (u32)db->open_gen;
	if (!err)
		kvp_store(&db->bytes_max, bytes);
	kvp_mutex_unlock(&sp->lock);
	return err ? err : kve_checkpoint(db, NULL, false, true);
}

/* Segments of a volume of so many bytes. */
static int target(struct kv_db *db, u64 bytes, u32 *to)
{
	u64 most = KVF_SEGMENTS_MAX;

	if (!db->dev->growable)
		most = KVF_MIN(most, (db->dev->size - db->geo.block) >> db->geo.segment_shift);
	if (bytes != KV_RESIZE_MOST && bytes > db->dev->size && !db->dev->growable)
		return kve_fail(db, KVE_invalid, "%llu bytes on a device of %llu", bytes, db->dev->size);
	*to = bytes == KV_RESIZE_MOST ? (u32)most :
	      (u32)KVF_MIN((bytes - KVF_MIN(bytes, (u64)db->geo.block)) >> db->geo.segment_shift, most);
	return 0;
}

static int resize(struct kv_db *db, u64 bytes, u64 budget, bool *more)
{
	u32 to = 0, nr;
	int err = target(db, bytes, &to);

	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	nr = db->space.nr;
	kvp_mutex_unlock(&db->space.lock);
	if (to < nr)
		return shrink(db, to, bytes, budget, more);
	/* A limit comes with a reserve, also where nothing has to move. */
	kvp_mutex_lock(&db->gc_lock);
	err = room_check(db, to, bytes);
	kvp_mutex_unlock(&db->gc_lock);
	return err ? err : grow(db, to, bytes == KV_RESIZE_MOST ? 0 : bytes);
}

/* What is deleted and still stands there need not be moved, and is not counted: it goes first. */
static int deleted_first(struct kv_db *db, u64 budget, bool *more)
{
	bool begun;
	int err;

	kvp_mutex_lock(&db->gc_lock);
	begun = db->resizing;
	kvp_mutex_unlock(&db->gc_lock);
	if (begun)
		return 0;
	kvp_gate_close(&db->writer);
	err = kve_super_mark(db);
	kvp_gate_open(&db->writer);
	if (err)
		return err;
	do
		*more = kve_doomed_help(db);
	while (*more && !budget);
	if (*more || !kvp_load(&db->last_ckpt_pos))
		return 0;
	return kve_checkpoint(db, NULL, false, true);
}

/* Which snapshots make the least size as large as it is? */
static int info_pins(struct kv_db *db, kv_resize_info *info)
{
	struct kve_pins pins = { .end = 0 };
	u32 without;
	int err;

	kvp_mutex_lock(&db->gc_lock);
	err = pins_known(db);
	without = segments_min(db, NO_SNAPSHOTS);
	if (!err && without < segments_min(db, COMFORT))
		err = pins_from(db, without, &pins);
	kvp_mutex_unlock(&db->gc_lock);
	info->min_unpinned_bytes = bytes_of(db, without);
	memcpy(info->pinned_by, pins.names, sizeof(pins.names));
	return err;
}

static void info_take(struct kv_db *db, kv_resize_info *info, bool more)
{
	struct above a = { .used = 0 };
	u32 ceiling;

	info->min_bytes = bytes_of(db, segments_min(db, COMFORT));
	kvp_mutex_lock(&db->space.lock);
	info->volume_bytes = bytes_of(db, db->space.nr);
	ceiling = db->space.ceiling;
	kvp_mutex_unlock(&db->space.lock);
	if (more)
		above_look(db, ceiling, &a);
	info->left_bytes = (u64)a.used << db->geo.segment_shift;
	info->more = more;
}

int kv_resize(kv_db *db, uint64_t bytes, uint64_t budget, kv_resize_info *info)
{
	u64 moved = kvp_load(&db->gc_moved);
	int err = kve_enter(db, true);
	bool more = false;

	if (info)
		memset(info, 0, sizeof(*info));
	if (!err)
		err = deleted_first(db, budget, &more);
	if (!err && !more && bytes)
		err = resize(db, bytes, budget ? budget : ~0ull, &more);
	if (!err && !more && !bytes && info)
		err = info_pins(db, info);
	if (info) {
		info_take(db, info, !err && more);
		info->moved_bytes = kvp_load(&db->gc_moved) - moved;
	}
	return kve_return(db, err);
}
