/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * forest.c - the trees of a volume: those in memory, and the forest that holds a row for each.
 *
 * Creating and dropping are records of the log and change memory at once; the forest is changed by
 * checkpoints alone, which write the row of each tree with its new root. A dropped tree keeps a row of
 * its own kind until its last entry has been deleted in the background.
 */
#include "range.h"

struct kv_tree *kve_tree_add(struct kv_db *db, u32 id, const char *name, u32 name_len)
{
	struct kv_tree *t = kvp_alloc(sizeof(*t), KVP_ZERO);

	if (!t)
		return NULL;
	t->db = db;
	t->id = id;
	memcpy(t->name, name, KVF_MIN(name_len, (u32)KVF_TREE_NAME_MAX));
	kvp_rwsem_down_write(&db->tree_lock);
	t->next = db->trees;
	db->trees = t;
	kvp_rwsem_up_write(&db->tree_lock);
	if (id >= db->next_tree)
		db->next_tree = id + 1;
	return t;
}

struct kv_tree *kve_tree_by_id(struct kv_db *db, u32 id)
{
	struct kv_tree *t;

	for (t = db->trees; t; t = t->next)
		if (t->id == id)
			return t;
	return NULL;
}

struct kv_tree *kve_tree_find(struct kv_db *db, const char *name)
{
	size_t len = strlen(name) + 1;
	struct kv_tree *t;

	kvp_rwsem_down_read(&db->tree_lock);
	for (t = db->trees; t; t = t->next)
		if (!t->dropped && t->id >= KVF_TREE_USER && !memcmp(t->name, name, len))
			break;
	kvp_rwsem_up_read(&db->tree_lock);
	return t;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* A verified copy of the head in a tree's row. */
int kve_tree_row(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 cell_len,
		 struct kvf_tree_head *h)
{
	u32 id;

	if (cell_len != sizeof(*h) || key_len > KVF_TREE_NAME_MAX + 1)
		return kve_fail(db, KVE_corrupt, "%s; run 'kvs-fsck -n %s'",
				kvf_finding_text(KVF_F_tree_head), db->dev->name);
	memcpy(h, cell, sizeof(*h));
	id = le32_to_cpu(h->id);
	if (id < KVF_TREE_OBJECTS)
		return kve_fail(db, KVE_corrupt, "tree %u: %s; run 'kvs-fsck -n %s'", id,
				kvf_finding_text(KVF_F_tree_id), db->dev->name);
	if (key[0] == KVF_FOREST_TREE && id != KVF_TREE_OBJECTS &&
	    kvf_tree_name_verify(key + 1, key_len - 1))
		return kve_fail(db, KVE_corrupt, "name of a tree: %s; run 'kvs-fsck -n %s'",
				kvf_finding_text(KVF_F_forest_key), db->dev->name);
	return 0;
}

struct load {
	struct kv_db *db;
	struct kve_range *ranges; /* their rows come before those of their trees */
};

static int row_load(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct load *ld = arg;
	struct kv_db *db = ld->db;
	struct kvf_tree_head h;
	struct kv_tree *t;
	u32 id;
	int err;

	(void)flags;
	if (key[0] == KVF_FOREST_SNAPSHOT)
		return kve_snapshot_load(db, key, key_len, cell, cell_len);
	if (key[0] == KVF_FOREST_RANGE)
		return kve_range_row(db, &ld->ranges, key, key_len, cell, cell_len);
	if (key[0] != KVF_FOREST_TREE && key[0] != KVF_FOREST_DOOMED)
		return kve_fail(db, KVE_unsupported, "the forest has rows of a newer version");
	err = kve_tree_row(db, key, key_len, cell, cell_len, &h);
	if (err)
		return err;
	id = le32_to_cpu(h.id);
	if (kve_tree_by_id(db, id))
		return kve_fail(db, KVE_corrupt, "tree %u: %s; run 'kvs-fsck -n %s'", id,
				kvf_finding_text(KVF_F_tree_id), db->dev->name);
	t = kve_tree_add(db, id, (const char *)key + 1, key[0] == KVF_FOREST_TREE ? key_len - 1 : 0);
	if (!t)
		return -KVE_no_memory;
	t->head.ref = h.root;
	t->head.count = le64_to_cpu(h.count);
	t->created = le64_to_cpu(h.created);
	t->created_gen = le64_to_cpu(h.created_gen);
	err = kve_origin_load(db, &h, &t->origin);
	if (err)
		return err;
	t->dropped = key[0] == KVF_FOREST_DOOMED;
	if (t->dropped)
		db->doomed = true;
	return 0;
}

int kve_forest_load(struct kv_db *db)
{
	u8 *page = kvp_iobuf_alloc(db->geo.frame);
	struct load ld = { .db = db };
	struct kve_range *r;
	int err;

	if (!page)
		return -KVE_no_memory;
	err = kve_tree_each(db->forest, KVE_LIVE, NULL, 0, page, row_load, &ld);
	kvp_iobuf_free(page, db->geo.frame);
	if (!err)
		err = kve_snapshots_loaded(db);
	if (!err)
		err = kve_ranges_adopt(db, &ld.ranges);
	while ((r = ld.ranges)) {
		ld.ranges = r->next;
		kvp_free(r);
	}
	if (err)
		return err;
	db->objects = kve_tree_by_id(db, KVF_TREE_OBJECTS);
	db->main = kve_tree_find(db, KVF_TREE_DEFAULT_NAME);
	if (!db->objects || !db->main)
		return kve_fail(db, KVE_corrupt, "the forest lacks '%s'; run 'kvs-fsck -n %s'",
				db->objects ? KVF_TREE_DEFAULT_NAME : "objects", db->dev->name);
	return 0;
}

/* ---- writing: checkpoint ------------------------------------------------------------------------ */

static u32 row_key(u8 *key, const struct kv_tree *t, u8 class)
{
	u32 len = (u32)strlen(t->name);

	key[0] = class;
	if (class == KVF_FOREST_DOOMED) {
		kvf_put_be32(key + 1, t->id);
		return 5;
	}
	memcpy(key + 1, t->name, len);
	return len + 1;
}

static void row_head(struct kv_tree *t, u64 gen, struct kvf_tree_head *h)
{
	struct kve_head *head;

	memset(h, 0, sizeof(*h));
	h->id = cpu_to_le32(t->id);
	h->created = cpu_to_le64(t->created);
	h->created_gen = cpu_to_le64(t->created_gen);
	if (kve_is_clone(t)) {
		h->origin = cpu_to_le64(t->origin.gen);
		h->origin_object = cpu_to_le64(t->origin.object);
		h->origin_tree = cpu_to_le32(t->origin.tree);
	}
	kvp_rwsem_down_read(&t->db->tree_lock);
	head = kve_head_at(t, gen);
	if (head) {
		h->count = cpu_to_le64(t->id == KVF_TREE_OBJECTS ? 0 : head->count);
		h->root = head->root ? head->root->ref : head->ref;
	}
	kvp_rwsem_up_read(&t->db->tree_lock);
}

/* As of the generation: a drop during the checkpoint belongs to a later one. */
static bool dropped_at(const struct kv_tree *t, u64 gen)
{
	return kvp_load_acquire(&t->dropped) && t->dropped_gen <= gen;
}

static int row_write(struct kv_db *db, struct kv_tree *t, u64 gen)
{
	u8 key[KVF_TREE_NAME_MAX + 8];
	struct kvf_tree_head h;
	int err;

	row_head(t, gen, &h);
	if (!dropped_at(t, gen))
		return kve_tree_put(db->forest, key, row_key(key, t, KVF_FOREST_TREE), &h, sizeof(h));
	err = 0;
	if (!t->nameless && t->name[0] && t->dropped_gen)
		err = kve_tree_remove(db->forest, key, row_key(key, t, KVF_FOREST_TREE));
	if (!err && t->gone_gen && t->gone_gen <= gen)
		return kve_tree_remove(db->forest, key, row_key(key, t, KVF_FOREST_DOOMED));
	if (!err)
		err = kve_tree_put(db->forest, key, row_key(key, t, KVF_FOREST_DOOMED), &h, sizeof(h));
	return err;
}

/* Another tree of this name took over the row of a dropped one. */
static bool row_superseded(struct kv_db *db, const struct kv_tree *dropped, u64 gen)
{
	const struct kv_tree *t;

	for (t = kvp_load_acquire(&db->trees); t; t = t->next)
		if (t != dropped && !t->system && t->id > dropped->id && t->created_gen <= gen &&
		    dropped->name[0] && !memcmp(t->name, dropped->name, strlen(t->name) + 1))
			return true;
	return false;
}

/* Takes the mark before the row is written: what changes meanwhile sets it again. */
static bool row_take(struct kv_db *db, struct kv_tree *t)
{
	bool due;

	kvp_rwsem_down_write(&db->tree_lock);
	due = t->row_dirty;
	t->row_dirty = false;
	kvp_rwsem_up_write(&db->tree_lock);
	return due;
}

/* More is to come for later generations, or the row could not be written. */
static void row_return(struct kv_db *db, struct kv_tree *t, u64 gen, int err)
{
	kvp_rwsem_down_write(&db->tree_lock);
	if (err || (t->dropped && t->dropped_gen > gen) || t->gone_gen > gen)
		t->row_dirty = true;
	kvp_rwsem_up_write(&db->tree_lock);
}

int kve_forest_write(struct kv_db *db, u64 gen)
{
	struct kv_tree *t;
	int pass, err = 0;

	/* Dropped trees first: a new one may have the name by now. */
	for (pass = 0; pass < 2; pass++)
		for (t = kvp_load_acquire(&db->trees); t && !err; t = t->next) {
			if (t->system || t->created_gen > gen || dropped_at(t, gen) != !pass ||
			    !row_take(db, t))
				continue;
			if (dropped_at(t, gen) && row_superseded(db, t, gen))
				t->nameless = true;
			err = row_write(db, t, gen);
			row_return(db, t, gen, err);
		}
	for (t = kvp_load_acquire(&db->trees); t && !err; t = t->next)
		if (t->created_gen <= gen)
			err = kve_ranges_write(t, gen);
	return err ? err : kve_snapshots_write(db, gen);
}

/* ---- creating and dropping ---------------------------------------------------------------------- */

/* A tree of this name, made in memory; the caller logs it and then makes it known. */
int kve_tree_create(struct kv_db *db, const char *name, struct kv_tree **out)
{
	struct kv_tree *t = kvp_alloc(sizeof(*t), KVP_ZERO);

	if (!t)
		return -KVE_no_memory;
	t->db = db;
	t->id = db->next_tree;
	memcpy(t->name, name, strlen(name));
	*out = t;
	return 0;
}

void kve_tree_create_apply(struct kv_db *db, struct kv_tree *t)
{
	t->created_gen = db->open_gen;
	t->head.gen = db->open_gen;
	t->created = kvp_now_ns();
	t->row_dirty = true;
	t->next = db->trees;
	kvp_store_release(&db->trees, t); /* some walk the list without lock */
	db->next_tree = t->id + 1;
	db->changed = true;
}

void kve_tree_drop_apply(struct kv_db *db, struct kv_tree *t)
{
	t->dropped_gen = db->open_gen;
	kvp_store_release(&t->dropped, true);
	kve_ranges_end(t);
	t->row_dirty = true;
	kve_doom(db, 0);
	db->changed = true;
}

#define COLLAPSE_STEP 64u

/*
 * An empty tree may have several leaves still: deletes merge where they can. To delete what is not there
 * merges the first leaf with its neighbour; at the end the root is a leaf, or the step is over.
 */
static int collapse(struct kv_db *db, struct kv_tree *t, bool *done)
{
	struct kve_head *h = &t->head;
	int err = 0;
	u32 i;

	*done = false;
	for (i = 0; i < COLLAPSE_STEP && !err && !*done; i++) {
		kvp_rwsem_down_read(&db->tree_lock);
		*done = h->root ? !h->root->level : !h->ref.block0;
		kvp_rwsem_up_read(&db->tree_lock);
		if (!*done)
			err = kve_tree_remove(t, "", 1);
		db->changed = true;
		kve_gen_changed(db);
	}
	return err;
}

int kve_tree_gone(struct kv_db *db, struct kv_tree *t)
{
	bool done;
	int err;

	kvp_gate_close(&db->writer);
	err = collapse(db, t, &done);
	if (!err && done)
		err = kve_head_prepare(db, t);
	if (!err && done) {
		kvp_rwsem_down_write(&db->tree_lock);
		/* Its root may have been evicted in between. */
		if (!t->head.root)
			err = kve_page_dead(t, &db->space.open, &t->head.ref);
		if (!err) {
			kve_tree_uproot(db, t);
			kvp_store(&t->gone_gen, db->open_gen);
			t->row_dirty = true;
		}
		kvp_rwsem_up_write(&db->tree_lock);
	}
	kvp_gate_open(&db->writer);
	return err;
}
