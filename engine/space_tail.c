/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * space_tail.c - the end of an image: segments there that nobody needs go back to the file system.
 *
 * The order is the reverse of growing. A checkpoint leaves the segments out of its state; when both groups
 * have its superblock, and the one after it, the file is cut: so both of the newest states fit into it.
 * What is left out is free by then, and free for the states before: nothing that anybody refers to is cut.
 *
 * A volume that has just grown must not shrink at once, or it would grow and shrink in turns: two steps of
 * growth stay, and a third must be there to be given back. One that is being resized ends where it is told.
 */
#include "kve.h"

#define SPARE 8u /* segments more: see the reserve of an image without limit */

static bool tail_lost(const struct kve_segment *s)
{
	return s->kind == KVF_KIND_LOG && !s->busy && s->flags & KVF_SEGMENT_SEALED &&
	       KVP_BUG("truncate-loses-tail");
}

/* Behind the last segment that is used. Space lock. */
static u32 used_end(const struct kve_space *sp)
{
	u32 i = sp->nr;

	while (i > KVF_SEG_FIRST + 1 && !(sp->seg[i - 1].flags & KVF_SEGMENT_QUARANTINE) &&
	       (sp->seg[i - 1].kind == KVF_KIND_FREE || tail_lost(&sp->seg[i - 1])))
		i--;
	return i;
}

u32 kve_tail_wanted(const struct kv_db *db, u32 end)
{
	u32 step = kve_space_step(db, end), nr = db->space.nr;

	return db->dev->growable && nr > end + 3 * step + SPARE ? end + 2 * step : nr;
}

/* Segments that the volume is to have. Space lock. */
static u32 wanted(const struct kv_db *db)
{
	const struct kve_space *sp = &db->space;
	u32 end = used_end(sp);

	if (sp->ceiling < sp->nr)
		return end <= sp->ceiling ? sp->ceiling : sp->nr;
	return kve_tail_wanted(db, end);
}

static u64 bytes_for(const struct kv_db *db, u64 segments)
{
	return (segments << db->geo.segment_shift) + db->geo.block;
}

static void file_cut(struct kv_db *db, u64 segments, bool *cut)
{
	u64 size = bytes_for(db, segments);

	*cut = false;
	if (!db->dev->growable || db->dev->size <= size)
		return;
	if (kvp_dev_resize(db->dev, size))
		kvp_log(&db->logger, KVP_LOG_WARN, "%s: could not be cut to %llu bytes", db->dev->name, size);
	else
		*cut = true;
}

void kve_tail_drop(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	bool cut;
	u32 nr;

	kvp_mutex_lock(&sp->lock);
	nr = wanted(db);
	if (nr < sp->nr) {
		/* Those above the ceiling do not count as free. */
		sp->free_nr -= nr < sp->ceiling ? KVF_MIN(sp->nr, sp->ceiling) - nr : 0;
		kvp_store(&sp->nr, nr);
		if (KVP_BUG("resize-cut-early"))
			file_cut(db, nr, &cut);
	}
	kvp_mutex_unlock(&sp->lock);
}

/* Segments of the longest of the states that count. Space lock. */
static u64 longest(const struct kv_db *db)
{
	u64 most = KVF_MAX(le64_to_cpu(db->sb.segments), db->segments_before);

	return KVF_MAX(most, (u64)db->space.nr);
}

bool kve_tail_due(struct kv_db *db)
{
	bool due;

	kvp_mutex_lock(&db->space.lock);
	due = db->dev->growable && longest(db) > db->space.nr && db->dev->size > bytes_for(db, db->space.nr);
	kvp_mutex_unlock(&db->space.lock);
	return due;
}

static bool droppable(struct kv_db *db)
{
	bool yes;

	kvp_mutex_lock(&db->space.lock);
	yes = db->space.ceiling == KVF_NO_SEGMENT && wanted(db) < db->space.nr;
	kvp_mutex_unlock(&db->space.lock);
	return yes;
}

int kve_tail_settle(struct kv_db *db)
{
	u32 i;
	int err = 0;

	kvp_mutex_lock(&db->ckpt_lock);
	kve_space_trim(db);
	for (i = 0; i < 2 && !err && (droppable(db) || kve_tail_due(db)); i++)
		err = kve_checkpoint_locked(db, NULL, false, true);
	kvp_mutex_unlock(&db->ckpt_lock);
	return err;
}

int kve_tail_cut(struct kv_db *db)
{
	bool cut;

	/* Taken by nobody while it is cut: the lock is held. */
	kvp_mutex_lock(&db->space.lock);
	file_cut(db, longest(db), &cut);
	kvp_mutex_unlock(&db->space.lock);
	if (cut)
		kve_space_host_full(db, false);
	if (cut && kvp_dev_flush(db->dev))
		return kve_degrade(db, KVE_indeterminate, "flush of the new size failed");
	return 0;
}
