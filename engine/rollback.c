/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rollback.c - the volume goes back to what a named snapshot shows.
 *
 * With the writer lock closed there are two checkpoints. The first leaves nothing in memory that is not on
 * the medium. Then it is found out, changing nothing, what was born after the snapshot: subtrees whose page
 * is older are the snapshot's own and not walked. In memory the trees get the roots that the snapshot has,
 * and the second checkpoint makes that the state, or nothing of it. So a rollback costs what has changed.
 *
 *  - What was born since and is alive: pages go to the batch of the second checkpoint, bytes of records are
 *    taken off their segments.
 *  - What died since and the snapshot sees is alive again: its rows of dead lists go (deadlist.c).
 *  - What died since and only later snapshots saw is freed as always when a snapshot is deleted.
 *
 * Records since then are older than the replay position of the second checkpoint, and no older superblock
 * may be fallen back to: none that is replayed leads from the one state into the other. LSNs, generations
 * and ids go on: none is used twice.
 */
#include "range.h"

/* A tree of the snapshot. */
struct target {
	struct target *next;
	struct kv_tree *tree;
	bool fresh; /* of this id none was known */
	bool doomed;
	struct kvf_tree_head head;
	struct kve_origin origin;
	char name[KVF_TREE_NAME_MAX + 1];
};

struct rollback {
	struct kv_db *db;
	struct kve_snapshot *snap;
	struct target *target;
	struct kve_snapshot *stale; /* rows that it has and are to go */
	struct kve_batch_items freed; /* pages that are not needed any more */
	u64 *dead;		      /* bytes of records likewise, of each segment */
	u32 segments;
	u8 *page[KVF_DEPTH_MAX];
};

/* ---- may it be? ----------------------------------------------------------------------------------- */

static bool is_later(const struct rollback *rb, const struct kve_snapshot *s)
{
	return s->gen > rb->snap->gen && s->durable && !s->gone;
}

/* Deleting later snapshots has to be asked for, and nobody may read them. State lock. */
static int later_check(struct rollback *rb, bool newer)
{
	const struct kve_snapshot *s, *first = NULL;
	u32 nr = 0;

	for (s = rb->db->snaps; s; s = s->next) {
		if (!is_later(rb, s))
			continue;
		if (newer && s->uses)
			return kve_fail(rb->db, KVE_in_use, "snapshot '%s' is being read", s->name);
		first = first ? first : s;
		nr++;
	}
	if (!nr || newer)
		return 0;
	return kve_fail(rb->db, KVE_in_use, "%u later snapshot%s would be deleted, the first is '%s'", nr,
			nr == 1 ? "" : "s", first->name);
}

static int allowed(struct rollback *rb, const char *name, u32 flags)
{
	struct kv_db *db = rb->db;
	int err;

	rb->snap = kve_snapshot_find(db, name);
	if (!rb->snap)
		return kve_no_snapshot(db, name);
	/* Its row would be gone, and it be committed. */
	if (db->streaming)
		return kve_fail(db, KVE_in_use, "a large value is being streamed in");
	kvp_mutex_lock(&db->state);
	err = later_check(rb, flags & KV_ROLLBACK_NEWER);
	kvp_mutex_unlock(&db->state);
	return err;
}

/* ---- what was born since ------------------------------------------------------------------------------ */

static void cell_born(struct rollback *rb, const struct kv_tree *t, u8 flags, const u8 *cell, u32 len)
{
	struct kve_entry e;
	const u8 *value;
	u32 nr;

	kve_entry_decode(&e, flags, cell, len, &value);
	nr = le32_to_cpu(e.ref.segment);
	if ((flags & KVF_CELL_KIND) == KVF_CELL_REF && le64_to_cpu(e.ref.lsn) > rb->snap->lsn &&
	    (!kve_shared_value(t, &e.ref) || KVP_BUG("rollback-frees-origin")) && nr < rb->segments)
		rb->dead[nr] += kve_value_bytes(&e.ref);
}

static void leaf_born(struct rollback *rb, const struct kv_tree *t, const u8 *page)
{
	u32 i, nr = kve_node_nr(page), len;
	const u8 *cell;
	u8 flags;

	for (i = 0; i < nr; i++) {
		cell = kvf_page_cell(page, rb->db->geo.frame, i, &len, &flags);
		cell_born(rb, t, flags, cell, len);
	}
}

static int page_note(struct rollback *rb, const struct kvf_ref *ref)
{
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	int err = kve_items_reserve(&rb->freed, 2);
	struct kvf_free *it;
	u32 i;

	for (i = 0; i < 2 && !err; i++) {
		if (!block[i])
			continue;
		it = &rb->freed.items[rb->freed.nr++];
		memset(it, 0, sizeof(*it));
		it->segment = cpu_to_le32(kve_block_segment(rb->db, block[i]));
		it->block = cpu_to_le32((u32)(block[i] & (rb->db->geo.seg_blocks - 1)));
		it->blocks = ref->blocks;
		it->birth = ref->birth;
	}
	return err;
}

/* A page that is younger than the snapshot: it is to be freed. False: all below is in it, or in an origin. */
static int page_born(struct rollback *rb, struct kv_tree *t, const struct kvf_ref *ref, int level, u32 depth,
		     bool *born)
{
	struct kv_db *db = rb->db;
	int err;

	*born = ref->block0 && le64_to_cpu(ref->birth) > rb->snap->gen && !kve_shared_page(t, ref);
	if (!*born)
		return 0;
	if (depth == KVF_DEPTH_MAX)
		return -KVE_corrupt_page;
	if (!rb->page[depth])
		rb->page[depth] = kvp_iobuf_alloc(db->geo.frame);
	if (!rb->page[depth])
		return -KVE_no_memory;
	err = kve_page_read(db, kve_page_owner(t, ref), t->name, ref, level, rb->page[depth]);
	if (err)
		return err;
	kvp_resched();
	return page_note(rb, ref);
}

static int page_level(const u8 *page)
{
	return ((const struct kvf_page *)page)->level;
}

static int tree_born(struct rollback *rb, struct kv_tree *t, const struct kvf_ref *root)
{
	u32 at[KVF_DEPTH_MAX], depth = 0, len;
	struct kvf_ref ref = *root;
	bool born;
	u8 flags;
	int err;

	err = page_born(rb, t, &ref, -1, 0, &born);
	if (err || !born)
		return err;
	at[0] = 0;
	for (;;) {
		if (!page_level(rb->page[depth]) && !t->system)
			leaf_born(rb, t, rb->page[depth]);
		if (!page_level(rb->page[depth]) || at[depth] == kve_node_nr(rb->page[depth])) {
			if (!depth)
				return 0;
			depth--;
			continue;
		}
		memcpy(&ref, kvf_page_cell(rb->page[depth], rb->db->geo.frame, at[depth]++, &len, &flags),
		       sizeof(ref));
		err = page_born(rb, t, &ref, page_level(rb->page[depth]) - 1, depth + 1, &born);
		if (err)
			return err;
		if (born)
			at[++depth] = 0;
	}
}

/* The segment table alone goes on as it is. */
static int all_born(struct rollback *rb)
{
	struct kv_db *db = rb->db;
	struct kvf_ref root;
	struct kv_tree *t;
	int err = 0;

	kvp_mutex_lock(&db->space.lock);
	rb->segments = db->space.nr;
	kvp_mutex_unlock(&db->space.lock);
	rb->dead = kvp_alloc_array(rb->segments, sizeof(*rb->dead), KVP_ZERO);
	if (!rb->dead)
		return -KVE_no_memory;
	for (t = kvp_load_acquire(&db->trees); t && !err; t = t->next) {
		if (t == db->segtab)
			continue;
		kvp_rwsem_down_read(&db->tree_lock);
		root = t->head.root ? t->head.root->ref : t->head.ref;
		kvp_rwsem_up_read(&db->tree_lock);
		err = tree_born(rb, t, &root);
	}
	return err;
}

/* ---- what the snapshot has ---------------------------------------------------------------------------- */

static int target_add(struct rollback *rb, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	struct target *g;
	int err;

	g = kvp_alloc(sizeof(*g), KVP_ZERO);
	if (!g)
		return -KVE_no_memory;
	g->next = rb->target;
	rb->target = g;
	err = kve_tree_row(rb->db, key, key_len, cell, len, &g->head);
	if (!err)
		err = kve_origin_load(rb->db, &g->head, &g->origin);
	if (err)
		return err;
	g->doomed = key[0] == KVF_FOREST_DOOMED;
	if (!g->doomed)
		memcpy(g->name, key + 1, key_len - 1);
	g->tree = kve_tree_by_id(rb->db, le32_to_cpu(g->head.id));
	if (g->tree)
		return 0;
	g->tree = kvp_alloc(sizeof(*g->tree), KVP_ZERO);
	if (!g->tree)
		return -KVE_no_memory;
	g->fresh = true;
	g->tree->db = rb->db;
	g->tree->id = le32_to_cpu(g->head.id);
	return 0;
}

/* A row of an older snapshot. If that was deleted meanwhile, the row is to go. */
static int snapshot_row(struct rollback *rb, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	struct kve_snapshot *s;
	struct kvf_snapshot row;

	if (len != sizeof(row) || key_len > KVF_TREE_NAME_MAX + 1)
		return kve_fail(rb->db, KVE_corrupt, "%s; run 'kvs-fsck -n %s'",
				kvf_finding_text(KVF_F_snapshot_row), rb->db->dev->name);
	memcpy(&row, cell, sizeof(row));
	for (s = rb->db->snaps; s; s = s->next)
		if (s->durable && !s->gone && s->gen == le64_to_cpu(row.generation))
			return 0;
	s = kvp_alloc(sizeof(*s), KVP_ZERO);
	if (!s)
		return -KVE_no_memory;
	memcpy(s->name, key + 1, key_len - 1);
	s->gen = le64_to_cpu(row.generation);
	s->gone = s->row = true;
	s->next = rb->stale;
	rb->stale = s;
	return 0;
}

/* There is no other kind: a range delete is worked off before a snapshot is made. */
static int row_look(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	(void)flags;
	if (key[0] == KVF_FOREST_SNAPSHOT)
		return snapshot_row(arg, key, key_len, cell, cell_len);
	return target_add(arg, key, key_len, cell, cell_len);
}

/* All that may fail, and changes nothing but where pages of merged leaves wait. */
static int prepare(struct rollback *rb)
{
	struct kv_db *db = rb->db;
	int err;

	kvp_rwsem_down_write(&db->tree_lock);
	err = kve_zombies_reap(db, &db->space.open);
	kvp_rwsem_up_write(&db->tree_lock);
	if (!err)
		err = kve_snapshot_rows(db, rb->snap, row_look, rb);
	if (!err)
		err = all_born(rb);
	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	err = kve_items_reserve(&db->space.open, rb->freed.nr);
	kvp_mutex_unlock(&db->space.lock);
	return err;
}

static void rollback_end(struct rollback *rb)
{
	struct kve_snapshot *s;
	struct target *g;
	u32 i;

	while ((g = rb->target)) {
		rb->target = g->next;
		if (g->fresh)
			kvp_free(g->tree);
		kvp_free(g);
	}
	while ((s = rb->stale)) {
		rb->stale = s->next;
		kvp_free(s);
	}
	for (i = 0; i < KVF_DEPTH_MAX; i++)
		kvp_iobuf_free(rb->page[i], rb->db->geo.frame);
	kvp_free(rb->freed.items);
	kvp_free(rb->dead);
	kvp_free(rb);
}

/* ---- going back: nothing of it can fail --------------------------------------------------------------- */

/* Nothing of it counts any more. Not to be found is only what does not come back: tree_leave(). */
static void tree_clear(struct kv_tree *t)
{
	t->created_gen = KVE_LIVE;
	t->row_dirty = t->dirty = false;
	memset(&t->head.ref, 0, sizeof(t->head.ref));
	t->head.gen = t->db->open_gen;
	kve_ranges_free(t);
	kvp_store(&t->range_lsn, 0ull);
}

/* Handles may be around: what they name is not there. No checkpoint looks at a tree of no generation. */
static void tree_leave(struct kv_tree *t)
{
	kvp_store_release(&t->dropped, true);
	kvp_store(&t->gone_gen, 1ull);
	kvp_store(&t->head.count, 0ull);
}

/* Some who read pages look there without lock; what they read is not the tree's any more. */
static void origin_enter(struct kv_tree *t, const struct kve_origin *o)
{
	kvp_store(&t->origin.lsn, o->lsn);
	kvp_store(&t->origin.object, o->object);
	kvp_store(&t->origin.tree, o->tree);
	kvp_store(&t->origin.gen, o->gen);
	kvp_store(&t->origin.left, false);
}

static void tree_enter(struct rollback *rb, struct target *g)
{
	struct kv_db *db = rb->db;
	struct kv_tree *t = g->tree;

	/* The same, unless it was given up half way then, or is now. */
	if (memcmp(t->name, g->name, sizeof(t->name)))
		memcpy(t->name, g->name, sizeof(t->name));
	t->created = le64_to_cpu(g->head.created);
	t->created_gen = le64_to_cpu(g->head.created_gen);
	origin_enter(t, &g->origin);
	t->dropped_gen = 0;
	t->nameless = false;
	t->head.ref = g->head.root;
	kvp_store(&t->head.count, le64_to_cpu(g->head.count));
	kvp_store(&t->gone_gen, 0ull);
	kvp_store_release(&t->dropped, g->doomed);
	if (!g->fresh)
		return;
	g->fresh = false;
	t->head.gen = db->open_gen;
	t->next = db->trees;
	kvp_store_release(&db->trees, t); /* some walk the list without lock */
}

/* Writer lock closed. */
static void trees_switch(struct rollback *rb)
{
	struct kv_db *db = rb->db;
	struct kv_tree *t;
	struct target *g;

	kvp_rwsem_down_write(&db->tree_lock);
	kve_readers_undo(db);
	kve_odd(&db->applied);
	kve_shadows_drop(db);
	for (t = db->trees; t; t = t->next) {
		if (t != db->segtab)
			kve_tree_evict_locked(db, t);
		if (!t->system)
			tree_clear(t);
	}
	for (g = rb->target; g; g = g->next)
		tree_enter(rb, g);
	for (t = db->trees; t; t = t->next)
		if (t->created_gen == KVE_LIVE && !KVP_BUG("rollback-trees-kept"))
			tree_leave(t);
	db->forest->head.ref = rb->snap->forest;
	kve_even(&db->applied);
	kvp_rwsem_up_write(&db->tree_lock);
	kve_pinned_update(db);
}

/*
 * A page of the forest that the first checkpoint merged away, and had no memory to free, is the snapshot's if
 * it is that old. Space lock.
 */
static void open_filter(struct rollback *rb)
{
	struct kve_space *sp = &rb->db->space;
	u32 i, kept = 0;
	u64 birth;

	for (i = 0; i < sp->open.nr; i++) {
		birth = le64_to_cpu(sp->open.items[i].birth);
		if (birth && birth <= rb->snap->gen)
			sp->pending_bytes -= (u64)le32_to_cpu(sp->open.items[i].blocks) <<
					     rb->db->geo.block_shift;
		else
			sp->open.items[kept++] = sp->open.items[i];
	}
	sp->open.nr = kept;
}

static void space_switch(struct rollback *rb)
{
	struct kve_space *sp = &rb->db->space;
	struct kve_segment *s;
	u64 bytes;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	open_filter(rb);
	for (i = 0; i < rb->freed.nr && !KVP_BUG("rollback-pages-kept"); i++)
		kve_free_again(rb->db, &sp->open, &rb->freed.items[i]);
	for (i = KVF_SEG_FIRST; i < rb->segments && !KVP_BUG("rollback-live-kept"); i++) {
		s = &sp->seg[i];
		bytes = KVF_MIN(rb->dead[i], s->live); /* the table understated: fsck reports it */
		s->live -= bytes;
		s->touched |= bytes != 0;
		sp->live_bytes -= bytes;
		kvp_store(&sp->freed_total, sp->freed_total + bytes);
	}
	kvp_store(&sp->doomed_bytes, 0ull); /* of values deleted since */
	sp->revive = rb->snap->gen;
	kvp_mutex_unlock(&sp->lock);
}

/* Once it is not the state on the medium any more, only a checkpoint may follow. */
static int go_back(struct rollback *rb)
{
	struct kv_db *db = rb->db;
	int err;

	kvp_add(&db->rolls, 1u);
	trees_switch(rb);
	space_switch(rb);
	kve_snapshots_roll(db, rb->snap, rb->stale);
	rb->stale = NULL;
	db->changed = true;
	kve_gen_changed(db);
	db->rolled = true;
	err = kve_checkpoint_locked(db, NULL, false, true);
	if (!err)
		db->rolled = false;
	else if (!kvp_load(&db->degraded))
		err = kve_degrade(db, -err, "rolling back to '%s' did not come to its end; open the volume "
				  "again, it is as before", rb->snap->name);
	return err;
}

/* GC, checkpoint and writer lock. */
static int roll(struct kv_db *db, const char *name, u32 flags)
{
	struct rollback *rb = kvp_alloc(sizeof(*rb), KVP_ZERO);
	int err;

	if (!rb)
		return -KVE_no_memory;
	rb->db = db;
	err = allowed(rb, name, flags);
	if (!err)
		err = kve_super_mark(db);
	if (!err)
		err = kve_checkpoint_locked(db, NULL, false, true);
	if (!err)
		err = prepare(rb);
	if (!err)
		err = go_back(rb);
	rollback_end(rb);
	return err;
}

static int alone(struct kv_db *db, const char *name, u32 flags, u64 *objects)
{
	int err;

	if (!KVP_BUG("rollback-steps-go-on"))
		kve_steps_stop(db);
	kvp_mutex_lock(&db->gc_lock);
	kvp_mutex_lock(&db->ckpt_lock);
	/* A round that goes on would move what is alive no more, and leave alone what is again. */
	kve_gc_stop(db);
	kvp_gate_close(&db->writer);
	db->alone = true;
	err = roll(db, name, flags);
	db->alone = false;
	*objects = db->next_object;
	kvp_gate_open(&db->writer);
	kvp_mutex_unlock(&db->ckpt_lock);
	kvp_mutex_unlock(&db->gc_lock);
	if (!KVP_BUG("rollback-steps-go-on"))
		kve_steps_go(db);
	return err;
}

int kv_snapshot_rollback(kv_db *db, const char *name, uint32_t flags)
{
	int err = kve_enter(db, true);
	u64 objects = 0;

	if (!err)
		err = kve_snapshot_name_check(db, name);
	if (!err && flags & ~(u32)KV_ROLLBACK_NEWER)
		err = kve_fail(db, KVE_invalid, "flags 0x%x", flags);
	if (!err)
		err = kve_credits(db, true);
	if (!err)
		err = alone(db, name, flags, &objects);
	if (err)
		return kve_return(db, err);
	/* Trees that were being dropped then, values that were being streamed in. If that fails, the next
	 * opening sees to it; as any checkpoint does to what deleted snapshots held. */
	kve_doom(db, 0);
	(void)kve_pending_doom(db, objects);
	while (kve_orphans_left(db))
		if (kve_checkpoint(db, NULL, false, true))
			break;
	return 0;
}
