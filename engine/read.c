/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * read.c - read transactions: a pinned generation.
 *
 * Beginning one freezes the state; transactions that begin while nothing was committed share a freeze. While
 * one of them goes on the others come and go under the state lock alone: its generation is pinned already,
 * and stays so. Writers keep older images for as long as a generation is pinned, and what is freed is not
 * used again.
 * A reader that holds more than the limit is expired: it gets "too old" from then on.
 */
#include "kve.h"

u64 kve_readers_oldest(struct kv_db *db)
{
	u64 oldest = KVE_LIVE;
	struct kv_read *r;

	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next)
		if (!r->expired)
			oldest = KVF_MIN(oldest, r->gen);
	kvp_mutex_unlock(&db->state);
	return oldest;
}

void kve_pinned_update(struct kv_db *db)
{
	u64 pinned = 0, ckpt_gen;
	struct kv_read *r;

	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next)
		if (!r->expired)
			pinned = KVF_MAX(pinned, r->gen + 1);
	kvp_store(&db->read_pinned, pinned);
	ckpt_gen = kvp_load(&db->ckpt_gen);
	kvp_store(&db->pinned, KVF_MAX(pinned, ckpt_gen ? ckpt_gen + 1 : 0));
	kvp_mutex_unlock(&db->state);
}

/* One that goes on and has that generation pinned. State lock. */
static struct kv_read *reader_of(struct kv_db *db, u64 gen)
{
	struct kv_read *r;

	for (r = db->readers; r && (r->expired || r->gen != gen); r = r->next)
		;
	return r;
}

/* State lock. */
static void reader_add(struct kv_db *db, struct kv_read *r)
{
	r->next = db->readers;
	db->readers = r;
}

/*
 * Beside another one, if nothing has been committed since the last freeze. What was committed before this
 * call is in changed_gen; a freeze that comes later, between the two loads, shows all of that, too.
 */
static bool reader_join(struct kv_db *db, struct kv_read *r)
{
	u64 changed = kvp_load_acquire(&db->changed_gen), open = kvp_load(&db->open_gen);
	const struct kv_read *other = NULL;

	if (changed >= open && !KVP_BUG("reader-joins-late"))
		return false;
	kvp_mutex_lock(&db->state);
	other = reader_of(db, open - 1);
	if (other) {
		r->gen = other->gen;
		r->freed_at = other->freed_at;
		reader_add(db, r);
	}
	kvp_mutex_unlock(&db->state);
	return other;
}

int kve_read_begin(struct kv_db *db, bool implicit, struct kv_read **out)
{
	struct kv_read *r = kvp_alloc(sizeof(*r), KVP_ZERO);

	if (!r)
		return -KVE_no_memory;
	r->db = db;
	r->implicit = implicit;
	*out = r;
	if (reader_join(db, r))
		return 0;
	kvp_gate_close(&db->writer);
	/* Nothing committed in this generation yet: the last freeze still shows the state. */
	if (db->changed_gen == db->open_gen || db->open_gen == 1)
		kve_freeze(db);
	r->gen = db->open_gen - 1;
	r->freed_at = kvp_load(&db->space.freed_total);
	kvp_mutex_lock(&db->state);
	reader_add(db, r);
	kvp_store(&db->pinned, KVF_MAX(db->pinned, r->gen + 1));
	kvp_store(&db->read_pinned, KVF_MAX(db->read_pinned, r->gen + 1));
	kvp_mutex_unlock(&db->state);
	kvp_gate_open(&db->writer);
	return 0;
}

/* Was it the only one that had its generation pinned? */
static bool reader_remove(struct kv_db *db, struct kv_read *r)
{
	struct kv_read **link;
	bool last;

	kvp_mutex_lock(&db->state);
	for (link = &db->readers; *link != r; link = &(*link)->next)
		;
	*link = r->next;
	last = r->expired || !reader_of(db, r->gen);
	kvp_mutex_unlock(&db->state);
	return last;
}

/*
 * Images were made for it only of what has changed since. A writer that has just found it pinned may make one
 * yet: it goes with the next reader, or checkpoint.
 */
static bool images_left(const struct kv_db *db, const struct kv_read *r)
{
	if (KVP_BUG("reader-leaves-images"))
		return false;
	return kvp_load(&r->expired) || kvp_load(&db->changed_gen) > r->gen || kvp_load(&db->shadowed);
}

void kve_read_end(struct kv_read *r)
{
	struct kv_db *db = r->db;

	if (r->snap) {
		kve_snapshot_read_end(r);
		return;
	}
	if (reader_remove(db, r)) {
		kve_pinned_update(db);
		if (images_left(db, r)) {
			kvp_gate_close(&db->writer);
			kvp_rwsem_down_write(&db->tree_lock);
			kve_shadows_drop(db);
			kvp_rwsem_up_write(&db->tree_lock);
			kvp_gate_open(&db->writer);
		}
	}
	kvp_free(r);
}

static u64 pin_limit(struct kv_db *db)
{
	u64 live;

	kvp_mutex_lock(&db->space.lock);
	live = db->space.live_bytes + db->space.tree_bytes;
	kvp_mutex_unlock(&db->space.lock);
	return db->read_pin_bytes ? db->read_pin_bytes : KVF_MAX(live / 4, 256ull << 20);
}

int kve_read_check(struct kv_read *r)
{
	if (!kvp_load_acquire(&r->expired))
		return 0;
	if (r->undone)
		return kve_fail(r->db, KVE_too_old, "the volume was rolled back; begin a new one");
	return kve_fail(r->db, KVE_too_old, "it held more than %llu bytes; begin a new one",
			pin_limit(r->db));
}

/* A reader that was expired while it looked may have seen anything. */
int kve_read_done(struct kv_read *r, int err)
{
	int late = kve_read_check(r);

	return late ? late : err;
}

/* Old images in memory count as well. Called before each checkpoint. */
void kve_readers_expire(struct kv_db *db)
{
	u64 limit = pin_limit(db), shadows = kvp_load(&db->cache.shadows) * db->geo.frame;
	struct kv_read *r;

	kvp_rwsem_down_write(&db->tree_lock);
	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next)
		if (!r->expired && kvp_load(&db->space.freed_total) - r->freed_at + shadows > limit)
			kvp_store(&r->expired, true);
	kvp_mutex_unlock(&db->state);
	kvp_rwsem_up_write(&db->tree_lock);
}

void kve_readers_undo(struct kv_db *db)
{
	struct kv_read *r;

	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next) {
		if (kvp_load(&r->expired))
			continue;
		r->undone = true;
		kvp_store_release(&r->expired, true);
	}
	kvp_mutex_unlock(&db->state);
}
