/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * snapshot.c - named snapshots: the state of a checkpoint, kept by name.
 *
 * Making one is a checkpoint that leaves a row in the forest. The row cannot name the forest that it stands
 * in: there the ref is zero, and the next checkpoint fills it in. A snapshot that is deleted loses its row;
 * what it alone held is freed by the same checkpoint and, if that is much, by the next ones (deadlist.c).
 * Both are true once the checkpoint is durable, and are no records of the log.
 *
 * Its trees are read like any other, through handles of their own, which nobody can change.
 */
#include "range.h"

#define NAME_MAX_BYTES 64u
#define CREATE_TRIES 100

/* ---- the list: state lock ----------------------------------------------------------------------- */

static struct kve_snapshot *find_locked(struct kv_db *db, const char *name)
{
	size_t len = strlen(name) + 1;
	struct kve_snapshot *s;

	if (len > sizeof(s->name))
		return NULL;
	for (s = db->snaps; s; s = s->next)
		if (s->durable && !s->gone && !memcmp(s->name, name, len))
			return s;
	return NULL;
}

static void snaps_add(struct kv_db *db, struct kve_snapshot *s)
{
	struct kve_snapshot **link = &db->snaps;

	while (*link && (*link)->gen < s->gen)
		link = &(*link)->next;
	s->next = *link;
	*link = s;
}

static void snaps_remove(struct kv_db *db, struct kve_snapshot *s)
{
	struct kve_snapshot **link = &db->snaps;

	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	s->next = NULL;
}

int kve_no_snapshot(struct kv_db *db, const char *name)
{
	return kve_fail(db, KVE_no_snapshot, "'%s'; 'kvs snap %s' lists them", name, db->dev->name);
}

/* Trees of a snapshot that nobody reads. */
static void trees_free(struct kv_db *db, struct kve_snapshot *s)
{
	struct kv_tree *t;

	while ((t = s->trees)) {
		s->trees = t->next;
		kve_tree_evict(db, t);
		kvp_free(t);
	}
}

void kve_snapshots_exit(struct kv_db *db)
{
	struct kve_snapshot *s;
	struct kv_tree *t;

	/* Their frames go with the cache. */
	while ((s = db->snaps)) {
		db->snaps = s->next;
		while ((t = s->trees)) {
			s->trees = t->next;
			kvp_free(t);
		}
		kvp_free(s);
	}
}

/* ---- what is known of them where things die: checkpoint lock, writer lock closed ------------------- */

static int sights_room(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	int err;

	kvp_mutex_lock(&sp->lock);
	err = kvp_array_room(&sp->sight, &sp->sights_cap, sp->sights, sp->sights + 1, sizeof(*sp->sight));
	kvp_mutex_unlock(&sp->lock);
	return err;
}

/* In order of generations; there is room. */
static void sight_add(struct kv_db *db, const struct kve_snapshot *s)
{
	struct kve_space *sp = &db->space;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (i = sp->sights; i && sp->sight[i - 1].gen > s->gen; i--)
		sp->sight[i] = sp->sight[i - 1];
	sp->sight[i].gen = s->gen;
	sp->sight[i].lsn = s->lsn;
	kvp_store(&sp->sights, sp->sights + 1);
	sp->surveyed = false;
	kvp_mutex_unlock(&sp->lock);
}

static void sight_remove(struct kv_db *db, u64 gen)
{
	struct kve_space *sp = &db->space;
	u64 next = KVE_LIVE;
	u32 i = 0, k;

	kvp_mutex_lock(&sp->lock);
	while (sp->sight[i].gen != gen)
		i++;
	if (i + 1 < sp->sights)
		next = sp->sight[i + 1].gen;
	memmove(&sp->sight[i], &sp->sight[i + 1], (sp->sights - i - 1) * sizeof(sp->sight[0]));
	kvp_store(&sp->sights, sp->sights - 1);
	sp->surveyed = false;
	/* What died while it was the newest is to be looked at. */
	if (sp->orphans_from >= sp->orphans_to) {
		sp->orphans_from = gen;
		sp->orphans_to = next;
	} else {
		sp->orphans_from = KVF_MIN(sp->orphans_from, gen);
		sp->orphans_to = KVF_MAX(sp->orphans_to, next);
	}
	/* GC may find more to do in segments where it could do no more. */
	for (k = KVF_SEG_FIRST; k < sp->nr; k++)
		sp->seg[k].stuck = false;
	kvp_mutex_unlock(&sp->lock);
}

/* ---- in a checkpoint ------------------------------------------------------------------------------ */

void kve_snapshot_freeze(struct kv_db *db, u64 gen, u64 lsn)
{
	struct kve_snapshot *s = db->snap_new;

	if (!s)
		return;
	s->gen = gen;
	s->lsn = lsn;
	s->row_dirty = true;
	sight_add(db, s);
	kvp_mutex_lock(&db->state);
	snaps_add(db, s);
	kvp_mutex_unlock(&db->state);
}

void kve_snapshot_settle(struct kv_db *db, u64 gen, int err, const struct kvf_ref *forest)
{
	struct kve_snapshot *s = db->snap_new;

	if (!s || s->gen != gen)
		return;
	if (err)
		sight_remove(db, gen);
	kvp_mutex_lock(&db->state);
	if (err) {
		snaps_remove(db, s);
	} else {
		s->forest = *forest;
		s->durable = true;
		s->row_dirty = true;
	}
	kvp_mutex_unlock(&db->state);
}

static int row_write(struct kv_db *db, struct kve_snapshot *s, u64 gen)
{
	u8 key[KVF_TREE_NAME_MAX + 1];
	u32 len = (u32)strlen(s->name);
	struct kvf_snapshot row;
	int err;

	key[0] = KVF_FOREST_SNAPSHOT;
	memcpy(key + 1, s->name, len);
	if (s->gone)
		return s->row ? kve_tree_remove(db->forest, key, len + 1) : 0;
	memset(&row, 0, sizeof(row));
	row.generation = cpu_to_le64(s->gen);
	row.lsn = cpu_to_le64(s->lsn);
	row.created = cpu_to_le64(s->created);
	memcpy(row.origin_uuid, s->origin.uuid, sizeof(row.origin_uuid));
	row.origin_generation = cpu_to_le64(s->origin.generation);
	/* Planted: then a state that was received in part passes for the whole. */
	if (s->gen == gen || !KVP_BUG("part-forgotten"))
		row.origin_part = cpu_to_le64(s->origin.part);
	if (s->gen != gen)
		row.forest = s->forest;
	err = kve_tree_put(db->forest, key, len + 1, &row, sizeof(row));
	if (!err) {
		s->row = true;
		s->row_dirty = false;
	}
	return err;
}

/* The next one whose row has to be written; deleted ones first: a new one may have the name. */
static struct kve_snapshot *row_next(struct kv_db *db, u64 gen)
{
	struct kve_snapshot *s;

	kvp_mutex_lock(&db->state);
	for (s = db->snaps; s && !s->gone; s = s->next)
		;
	if (!s)
		for (s = db->snaps; s && !(s->row_dirty && s->gen <= gen); s = s->next)
			;
	kvp_mutex_unlock(&db->state);
	return s;
}

int kve_snapshots_write(struct kv_db *db, u64 gen)
{
	struct kve_snapshot *s;
	int err;

	while ((s = row_next(db, gen))) {
		err = row_write(db, s, gen);
		if (err)
			return err;
		if (!s->gone)
			continue;
		kvp_mutex_lock(&db->state);
		snaps_remove(db, s);
		kvp_mutex_unlock(&db->state);
		trees_free(db, s);
		kvp_free(s);
	}
	return 0;
}

/* ---- loading ------------------------------------------------------------------------------------- */

static int row_error(struct kv_db *db)
{
	return kve_fail(db, KVE_corrupt, "%s; run 'kvs-fsck -n %s'", kvf_finding_text(KVF_F_snapshot_row),
			db->dev->name);
}

int kve_snapshot_load(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	struct kvf_snapshot row;
	struct kve_snapshot *s;

	if (len != sizeof(row) || key_len > KVF_TREE_NAME_MAX + 1 ||
	    kvf_tree_name_verify(key + 1, key_len - 1))
		return row_error(db);
	memcpy(&row, cell, sizeof(row));
	s = kvp_alloc(sizeof(*s), KVP_ZERO);
	if (!s || sights_room(db)) {
		kvp_free(s);
		return -KVE_no_memory;
	}
	memcpy(s->name, key + 1, key_len - 1);
	s->gen = le64_to_cpu(row.generation);
	s->lsn = le64_to_cpu(row.lsn);
	s->created = le64_to_cpu(row.created);
	memcpy(s->origin.uuid, row.origin_uuid, sizeof(row.origin_uuid));
	s->origin.generation = le64_to_cpu(row.origin_generation);
	s->origin.part = le64_to_cpu(row.origin_part);
	s->forest = row.forest;
	s->durable = s->row = true;
	/* The row of the newest stands in its own forest. */
	if (!row.forest.block0) {
		s->forest = db->sb.forest;
		s->row_dirty = true;
	}
	snaps_add(db, s);
	sight_add(db, s);
	if (!s->gen || s->gen > le64_to_cpu(db->sb.generation) || !kvf_snapshot_origin_fits(&row) ||
	    (s->row_dirty && s->gen != le64_to_cpu(db->sb.generation)) ||
	    kvf_ref_verify(&s->forest, &db->geo, le64_to_cpu(db->sb.segments)))
		return row_error(db);
	return 0;
}

int kve_snapshots_loaded(struct kv_db *db)
{
	const struct kve_snapshot *s;

	for (s = db->snaps; s; s = s->next)
		if (s->next && (s->next->gen == s->gen || s->next->lsn < s->lsn))
			return row_error(db);
	return 0;
}

/* ---- creating, deleting ----------------------------------------------------------------------------- */

int kve_snapshot_name_check(struct kv_db *db, const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (!len || len > NAME_MAX_BYTES || kvf_tree_name_verify(name, (u32)len))
		return kve_fail(db, KVE_bad_name, "of a snapshot: 1 to %u bytes of UTF-8 without control "
				"characters", NAME_MAX_BYTES);
	return 0;
}

struct kve_snapshot *kve_snapshot_find(struct kv_db *db, const char *name)
{
	struct kve_snapshot *s;

	kvp_mutex_lock(&db->state);
	s = find_locked(db, name);
	kvp_mutex_unlock(&db->state);
	return s;
}

/* Checkpoint lock. */
static int create(struct kv_db *db, const char *name, const kv_origin *origin)
{
	struct kve_snapshot *s;
	int err;

	if (kve_snapshot_find(db, name))
		return kve_fail(db, KVE_snapshot_exists, "'%s'", name);
	err = sights_room(db);
	s = err ? NULL : kvp_alloc(sizeof(*s), KVP_ZERO);
	if (!s)
		return -KVE_no_memory;
	memcpy(s->name, name, strlen(name));
	s->created = kvp_now_ns();
	if (origin)
		s->origin = *origin;
	db->snap_new = s;
	err = kve_checkpoint_locked(db, NULL, false, true);
	db->snap_new = NULL;
	if (!err)
		return 0;
	if (err == -KVE_restart) {
		kvp_free(s);
		return err;
	}
	/* Of a checkpoint that failed a row may be left, for the next one to remove. */
	s->gone = true;
	kvp_mutex_lock(&db->state);
	snaps_add(db, s);
	kvp_mutex_unlock(&db->state);
	return err;
}

static int mark(struct kv_db *db)
{
	int err;

	kvp_gate_close(&db->writer);
	err = kve_super_mark(db);
	kvp_gate_open(&db->writer);
	return err;
}

/* -KVE_restart: a range delete is pending, whose leaves still have what it hides. */
static int create_once(struct kv_db *db, const char *name, const kv_origin *origin)
{
	struct kve_logpos now;
	int err;

	/* Those of this moment: later ones would have no end, and are found by the checkpoint. */
	kve_log_pos(db, &now);
	while (kve_ranges_left(db, now.lsn) && kve_doomed_help(db))
		;
	/* What is left of a clone would keep its origin. */
	while (kve_clones_dropped(db, NULL) && kve_doomed_help(db))
		;
	/* No round of GC goes on over it: it would move what the snapshot sees. */
	kvp_mutex_lock(&db->gc_lock);
	kvp_mutex_lock(&db->ckpt_lock);
	kve_gc_stop(db);
	err = create(db, name, origin);
	kvp_mutex_unlock(&db->ckpt_lock);
	kvp_mutex_unlock(&db->gc_lock);
	return err;
}

int kv_snapshot_create(kv_db *db, const char *name)
{
	return kv_snapshot_create_of(db, name, NULL);
}

int kv_snapshot_create_of(kv_db *db, const char *name, const kv_origin *origin)
{
	int err = kve_enter(db, true), tries;

	if (!err)
		err = kve_snapshot_name_check(db, name);
	if (!err && origin && !origin->generation)
		err = -KVE_invalid;
	if (!err)
		err = kve_credits(db, false);
	if (!err)
		err = mark(db);
	if (err)
		return kve_return(db, err);
	for (tries = 0, err = -KVE_restart; err == -KVE_restart && tries < CREATE_TRIES; tries++)
		err = create_once(db, name, origin);
	if (err == -KVE_restart)
		err = kve_fail(db, KVE_in_use, "a range delete is not worked off; try again, or run "
			       "'kvs-fsck -n %s'", db->dev->name);
	return kve_return(db, err);
}

/* From here on nothing is kept for it; the next checkpoint removes its row. Checkpoint lock. */
static int give_up(struct kv_db *db, const char *name)
{
	struct kve_snapshot *s;
	int err;

	s = kve_snapshot_find(db, name);
	err = s ? kve_clones_none(db, s) : 0;
	if (err)
		return err;
	kvp_gate_close(&db->writer);
	kvp_mutex_lock(&db->state);
	s = find_locked(db, name);
	if (s && !s->uses)
		s->gone = true;
	kvp_mutex_unlock(&db->state);
	if (!s)
		err = kve_no_snapshot(db, name);
	else if (!s->gone)
		err = kve_fail(db, KVE_in_use, "snapshot '%s' is being read", name);
	else
		sight_remove(db, s->gen);
	kvp_gate_open(&db->writer);
	return err;
}

bool kve_orphans_left(struct kv_db *db)
{
	bool left;

	kvp_mutex_lock(&db->ckpt_lock);
	left = !db->worker && db->space.orphans_from < db->space.orphans_to;
	kvp_mutex_unlock(&db->ckpt_lock);
	return left;
}

int kv_snapshot_delete(kv_db *db, const char *name)
{
	int err = kve_enter(db, true);

	if (!err)
		err = kve_snapshot_name_check(db, name);
	if (!err)
		err = mark(db);
	if (err)
		return kve_return(db, err);
	/* What is left of dropped clones does not keep it. */
	while (kve_clones_dropped(db, name) && kve_doomed_help(db))
		;
	kvp_mutex_lock(&db->ckpt_lock);
	err = give_up(db, name);
	kvp_mutex_unlock(&db->ckpt_lock);
	/* The first makes it true. Without a thread that goes on in the background the rest follows. */
	do {
		if (!err)
			err = kve_checkpoint(db, NULL, false, true);
	} while (!err && kve_orphans_left(db));
	return kve_return(db, err);
}

/* ---- rolling back: see rollback.c ------------------------------------------------------------------- */

void kve_snapshots_roll(struct kv_db *db, struct kve_snapshot *to, struct kve_snapshot *stale)
{
	struct kve_snapshot *s;

	/* In the forest that becomes the volume's they have no rows. */
	for (s = to->next; s; s = s->next) {
		sight_remove(db, s->gen);
		kvp_mutex_lock(&db->state);
		s->gone = true;
		s->row = false;
		kvp_mutex_unlock(&db->state);
	}
	/* And its own row there does not say which forest it is. */
	to->row_dirty = true;
	while ((s = stale)) {
		stale = s->next;
		kvp_mutex_lock(&db->state);
		snaps_add(db, s);
		kvp_mutex_unlock(&db->state);
	}
}

/* ---- what there is ------------------------------------------------------------------------------- */

/* A copy of what is known of the i-th. State lock. */
static bool info_at(struct kv_db *db, u32 i, kv_snapshot_info *info)
{
	struct kve_snapshot *s;

	for (s = db->snaps; s; s = s->next)
		if (s->durable && !s->gone && !i--)
			break;
	if (!s)
		return false;
	memset(info, 0, sizeof(*info));
	memcpy(info->name, s->name, KVF_MIN(strlen(s->name), sizeof(info->name) - 1));
	info->created = s->created;
	info->generation = s->gen;
	info->lsn = s->lsn;
	info->origin = s->origin;
	return true;
}

/* Of all, oldest first. */
static int infos_take(struct kv_db *db, kv_snapshot_info **out, u32 *nr)
{
	kv_snapshot_info *info;
	u64 *bytes;
	u32 n, i = 0;
	int err;

	*nr = 0;
	kvp_mutex_lock(&db->ckpt_lock);
	n = db->space.sights;
	info = kvp_alloc_array(n + 1, sizeof(*info), KVP_ZERO);
	bytes = kvp_alloc_array(n + 1, sizeof(*bytes), KVP_ZERO);
	err = info && bytes ? 0 : -KVE_no_memory;
	if (!err && n)
		err = kve_deadlist_sizes(db, bytes);
	if (!err) {
		kvp_mutex_lock(&db->state);
		for (i = 0; i < n && info_at(db, i, &info[i]); i++)
			info[i].bytes = bytes[i];
		kvp_mutex_unlock(&db->state);
	}
	kvp_mutex_unlock(&db->ckpt_lock);
	kvp_free(bytes);
	if (err)
		kvp_free(info);
	else
		*out = info;
	*nr = i;
	return err;
}

int kv_snapshot_list(kv_db *db, int (*fn)(void *arg, const kv_snapshot_info *info), void *arg)
{
	kv_snapshot_info *info = NULL;
	int err = kve_enter(db, false), res = 0;
	u32 nr = 0, i;

	if (!err)
		err = infos_take(db, &info, &nr);
	if (err)
		return kve_return(db, err);
	for (i = 0; i < nr && !res; i++)
		res = fn(arg, &info[i]);
	kvp_free(info);
	return res;
}

int kv_snapshot_stat(kv_db *db, const char *name, kv_snapshot_info *out)
{
	kv_snapshot_info *info = NULL;
	int err = kve_enter(db, false);
	u32 nr = 0, i;

	if (!err)
		err = kve_snapshot_name_check(db, name);
	if (!err)
		err = infos_take(db, &info, &nr);
	if (err)
		return kve_return(db, err);
	err = -KVE_no_snapshot;
	for (i = 0; i < nr && err; i++)
		if (!memcmp(info[i].name, name, strlen(name) + 1)) {
			*out = info[i];
			err = 0;
		}
	kvp_free(info);
	return kve_return(db, err ? kve_no_snapshot(db, name) : 0);
}

/* ---- reading --------------------------------------------------------------------------------------- */

struct load {
	struct kv_db *db;
	struct kve_snapshot *snap;
};

static int tree_load(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	const struct load *ld = arg;
	struct kve_snapshot *s = ld->snap;
	struct kvf_tree_head h;
	struct kv_tree *t;
	int err;

	(void)flags;
	if (key[0] != KVF_FOREST_TREE)
		return 0;
	err = kve_tree_row(ld->db, key, key_len, cell, cell_len, &h);
	if (err)
		return err;
	t = kvp_alloc(sizeof(*t), KVP_ZERO);
	if (!t)
		return -KVE_no_memory;
	t->db = ld->db;
	t->snap = s;
	t->id = le32_to_cpu(h.id);
	memcpy(t->name, key + 1, key_len - 1);
	t->head.ref = h.root;
	t->head.count = le64_to_cpu(h.count);
	t->created = le64_to_cpu(h.created);
	t->created_gen = le64_to_cpu(h.created_gen);
	err = kve_origin_load(ld->db, &h, &t->origin);
	/* Nobody may change it. */
	t->dropped = true;
	t->gone_gen = 1;
	t->next = s->trees;
	s->trees = t;
	return err;
}

int kve_snapshot_rows(struct kv_db *db, struct kve_snapshot *s, kve_row_fn *fn, void *arg)
{
	struct kv_tree *forest;
	u8 *page;
	int err;

	forest = kvp_alloc(sizeof(*forest), KVP_ZERO);
	page = kvp_iobuf_alloc(db->geo.frame);
	err = forest && page ? 0 : -KVE_no_memory;
	if (!err) {
		forest->db = db;
		forest->snap = s;
		forest->id = KVF_TREE_FOREST;
		forest->system = true;
		memcpy(forest->name, "forest", sizeof("forest"));
		forest->head.ref = s->forest;
		err = kve_tree_each(forest, KVE_LIVE, NULL, 0, page, fn, arg);
		kve_tree_evict(db, forest);
	}
	kvp_iobuf_free(page, db->geo.frame);
	kvp_free(forest);
	return err;
}

int kve_snapshot_trees(struct kv_db *db, struct kve_snapshot *s)
{
	struct load ld = { db, s };
	int err = s->loaded ? 0 : kve_snapshot_rows(db, s, tree_load, &ld);

	if (err)
		trees_free(db, s);
	else
		kvp_store_release(&s->loaded, true);
	return err;
}

int kv_snapshot_read(kv_db *db, const char *name, kv_read **out)
{
	struct kv_read *r = NULL;
	int err = kve_enter(db, false);

	if (!err)
		err = kve_snapshot_name_check(db, name);
	if (!err && !(r = kvp_alloc(sizeof(*r), KVP_ZERO)))
		err = -KVE_no_memory;
	if (err)
		return kve_return(db, err);
	r->db = db;
	/* Its trees are as they are: every generation is the same. */
	r->gen = KVE_LIVE;
	kvp_mutex_lock(&db->ckpt_lock);
	kvp_mutex_lock(&db->state);
	r->snap = find_locked(db, name);
	if (r->snap)
		r->snap->uses++;
	kvp_mutex_unlock(&db->state);
	err = r->snap ? kve_snapshot_trees(db, r->snap) : kve_no_snapshot(db, name);
	if (err && r->snap) {
		kvp_mutex_lock(&db->state);
		r->snap->uses--;
		kvp_mutex_unlock(&db->state);
	}
	kvp_mutex_unlock(&db->ckpt_lock);
	if (err) {
		kvp_free(r);
		return kve_return(db, err);
	}
	kvp_add(&db->handles, 1u);
	*out = r;
	return 0;
}

void kve_snapshot_read_end(struct kv_read *r)
{
	struct kv_db *db = r->db;

	kvp_mutex_lock(&db->state);
	r->snap->uses--;
	kvp_mutex_unlock(&db->state);
	kvp_sub(&db->handles, 1u);
	kvp_free(r);
}

struct kv_tree *kve_snapshot_tree(const struct kve_snapshot *s, u32 id)
{
	struct kv_tree *t;

	for (t = s->trees; t; t = t->next)
		if (t->id == id)
			return t;
	return NULL;
}

struct kv_tree *kve_read_tree(struct kv_db *db, struct kv_read *r, kv_tree *t)
{
	t = kve_tree_of(db, t);
	if (!r || !r->snap)
		return t->snap ? NULL : t;
	if (t->snap)
		return t->snap == r->snap ? t : NULL;
	return kve_snapshot_tree(r->snap, t->id);
}

int kve_read_tree_find(struct kv_read *r, const char *name, kv_tree **out)
{
	struct kv_db *db = r->db;
	struct kv_tree *t;
	int err = kve_enter(db, false);
	size_t len;

	*out = NULL;
	if (err)
		return err;
	if (!name)
		name = KVF_TREE_DEFAULT_NAME;
	len = strlen(name) + 1;
	t = r->snap ? r->snap->trees : len <= sizeof(t->name) ? kve_tree_find(db, name) : NULL;
	if (r->snap)
		while (t && (len > sizeof(t->name) || t->id < KVF_TREE_USER || memcmp(t->name, name, len)))
			t = t->next;
	*out = t;
	return 0;
}

int kv_read_tree(kv_read *r, const char *name, kv_tree **out)
{
	int err = kve_read_tree_find(r, name, out);

	if (!err && !*out)
		err = kve_fail(r->db, KVE_no_tree, "'%s'", name ? name : KVF_TREE_DEFAULT_NAME);
	return kve_return(r->db, err);
}

int kv_read_trees(kv_read *r, int (*fn)(void *arg, const char *name, uint64_t count), void *arg)
{
	struct kv_tree *t, *best = NULL, *last = NULL;
	int res = kve_enter(r->db, false);

	if (res)
		return kve_return(r->db, res);
	if (!r->snap)
		return kv_tree_list(r->db, fn, arg);
	do {
		for (best = NULL, t = r->snap->trees; t; t = t->next)
			if (t->id >= KVF_TREE_USER && (!last || kve_name_compare(t->name, last->name) > 0) &&
			    (!best || kve_name_compare(t->name, best->name) < 0))
				best = t;
		if (best)
			res = fn(arg, best->name, best->head.count);
		last = best;
	} while (best && !res);
	return res;
}
