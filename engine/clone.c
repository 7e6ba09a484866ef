/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * clone.c - writable clones of the trees of named snapshots.
 *
 * A clone begins with the root that the tree has in the snapshot, its origin. What was born up to then
 * belongs to the origin, which stays as long as a tree, or a snapshot's tree, names it: pages by their birth,
 * values by their LSN, large values by their id. Of that nothing dies in a clone, nothing comes to life, and
 * nothing is moved, as a snapshot sees it. What was born later is the clone's own, as in any tree. So the one
 * question is kve_shared_page(), kve_shared_value(), kve_shared_object(), where things die.
 *
 * Shared pages and records bear the id of the tree that they were made for. A page that is read for a clone
 * gets its id in memory, and keeps it when it is written as the clone's own.
 *
 * Chunks of shared large values are read from the objects tree of the origin: the live one may have lost
 * them.
 *
 * A clone that was dropped is pruned from its left end: a shared page goes with all below it, unread; an own
 * leaf after its values. That is not logged, as purging ranges is not. What is left of it then begins behind
 * its lower fences, and nobody but the next step looks there.
 */
#include "range.h"

#define PRUNE_STEP 16u	/* leaves of one step */
#define NAMES_BYTES 160u

/* ---- origins ----------------------------------------------------------------------------------- */

/* State lock. */
static struct kve_snapshot *origin_find(struct kv_db *db, u64 gen)
{
	struct kve_snapshot *s;

	for (s = db->snaps; s; s = s->next)
		if (s->gen == gen && s->durable && !s->gone)
			return s;
	return NULL;
}

int kve_origin_load(struct kv_db *db, const struct kvf_tree_head *h, struct kve_origin *out)
{
	const struct kve_snapshot *s;

	memset(out, 0, sizeof(*out));
	if (!le64_to_cpu(h->origin))
		return 0;
	out->gen = le64_to_cpu(h->origin);
	out->object = le64_to_cpu(h->origin_object);
	out->tree = le32_to_cpu(h->origin_tree);
	kvp_mutex_lock(&db->state);
	s = origin_find(db, out->gen);
	if (s)
		out->lsn = s->lsn;
	kvp_mutex_unlock(&db->state);
	if (s && out->tree < le32_to_cpu(h->id))
		return 0;
	return kve_fail(db, KVE_corrupt, "tree %u: %s; run 'kvs-fsck -n %s'", le32_to_cpu(h->id),
			kvf_finding_text(KVF_F_tree_origin), db->dev->name);
}

/* Keep the snapshot that a tree starts from, with its trees loaded. */
static int origin_hold(struct kv_tree *t, struct kve_snapshot **out)
{
	struct kv_db *db = t->db;
	struct kve_snapshot *s;
	int err = 0;

	kvp_mutex_lock(&db->state);
	s = origin_find(db, kvp_load(&t->origin.gen));
	if (s)
		s->uses++;
	kvp_mutex_unlock(&db->state);
	if (!s)
		return kve_fail(db, KVE_too_old, "the clone was dropped or detached, and its snapshot "
				"deleted");
	if (!kvp_load_acquire(&s->loaded)) {
		kvp_mutex_lock(&db->ckpt_lock);
		err = kve_snapshot_trees(db, s);
		kvp_mutex_unlock(&db->ckpt_lock);
	}
	*out = s;
	return err;
}

void kve_chunks_put(struct kv_db *db, struct kve_chunks *c)
{
	if (!c->held)
		return;
	kvp_mutex_lock(&db->state);
	c->held->uses--;
	kvp_mutex_unlock(&db->state);
	c->held = NULL;
}

static struct kv_tree *objects_of(const struct kv_tree *t)
{
	return t->snap ? kve_snapshot_tree(t->snap, KVF_TREE_OBJECTS) : t->db->objects;
}

/* A clone of a clone may share what its origin shares: the way leads back to the one that made it. */
int kve_chunks_get(struct kv_tree *t, const struct kvf_object *o, struct kve_chunks *c)
{
	struct kve_chunks next = { .held = NULL };
	struct kv_db *db = t->db;
	int err = 0;

	c->held = NULL;
	while (t && kve_shared_object(t, o) && !err && !KVP_BUG("clone-object-lost")) {
		next.held = NULL;
		err = origin_hold(t, &next.held);
		kve_chunks_put(db, c);
		c->held = next.held;
		t = err ? t : kve_snapshot_tree(c->held, kvp_load(&t->origin.tree));
	}
	c->tree = t && !err ? objects_of(t) : NULL;
	if (!err && !c->tree)
		err = kve_fail(db, KVE_corrupt, "the forest lacks '%s'; run 'kvs-fsck -n %s'", "objects",
			       db->dev->name);
	if (err)
		kve_chunks_put(db, c);
	return err;
}

/* ---- who has clones: checkpoint lock ------------------------------------------------------------ */

struct clones {
	struct kv_db *db;
	u64 gen;
	bool any;	/* clones of whatever snapshot */
	u32 nr, at;
	char names[NAMES_BYTES];
};

/* As far as there is room; the last ones as a number. */
static void name_add(struct clones *c, const char *name)
{
	u32 room = sizeof(c->names) - c->at;

	c->nr++;
	if (strlen(name) + 24 < room)
		c->at += (u32)kvp_snprintf(c->names + c->at, room, "%s'%s'", c->at ? ", " : "", name);
}

static int row_look(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct clones *c = arg;
	struct kvf_tree_head h;
	int err;

	(void)flags;
	if (key[0] != KVF_FOREST_TREE && key[0] != KVF_FOREST_DOOMED)
		return 0;
	err = kve_tree_row(c->db, key, key_len, cell, cell_len, &h);
	if (err)
		return err;
	c->any |= h.origin != cpu_to_le64(0);
	c->nr += le64_to_cpu(h.origin) == c->gen;
	return 0;
}

/* Of younger snapshots those that show a clone of it. */
static int snapshots_look(struct clones *c)
{
	struct clones one = { .db = c->db, .gen = c->gen };
	struct kve_snapshot *s;
	int err = 0;

	/* None comes or goes without the checkpoint lock. */
	for (s = c->db->snaps; s && !err; s = s->next) {
		if (s->gen <= c->gen || s->gone || !s->durable || s->no_clones)
			continue;
		one.nr = 0;
		one.any = false;
		err = kve_snapshot_rows(c->db, s, row_look, &one);
		s->no_clones = !err && !one.any;
		if (!err && one.nr)
			name_add(c, s->name);
	}
	return err;
}

static void trees_look(struct clones *c)
{
	const struct kv_tree *t;

	kvp_rwsem_down_read(&c->db->tree_lock);
	for (t = c->db->trees; t; t = t->next)
		if (kve_is_clone(t) && t->origin.gen == c->gen && !kvp_load(&t->gone_gen))
			name_add(c, kvp_load(&t->dropped) ? "(being dropped)" : t->name);
	kvp_rwsem_up_read(&c->db->tree_lock);
}

int kve_clones_none(struct kv_db *db, const struct kve_snapshot *s)
{
	struct clones c = { .db = db, .gen = s->gen };
	int err;

	if (KVP_BUG("clone-origin-deleted"))
		return 0;
	trees_look(&c);
	if (c.nr)
		return kve_fail(db, KVE_in_use, "snapshot '%s' has %u clone%s: %s; drop or detach %s first",
				s->name, c.nr, c.nr == 1 ? "" : "s", c.names, c.nr == 1 ? "it" : "them");
	err = snapshots_look(&c);
	if (err || !c.nr)
		return err;
	return kve_fail(db, KVE_in_use, "%u later snapshot%s show%s clones of snapshot '%s': %s; delete %s "
			"first", c.nr, c.nr == 1 ? "" : "s", c.nr == 1 ? "s" : "", s->name, c.names,
			c.nr == 1 ? "it" : "them");
}

bool kve_clones_dropped(struct kv_db *db, const char *snapshot)
{
	const struct kve_snapshot *s;
	const struct kv_tree *t;
	bool yes = false;
	u64 gen = 0;

	kvp_mutex_lock(&db->ckpt_lock);
	s = snapshot ? kve_snapshot_find(db, snapshot) : NULL;
	if (s)
		gen = s->gen;
	kvp_mutex_unlock(&db->ckpt_lock);
	kvp_rwsem_down_read(&db->tree_lock);
	for (t = !snapshot || gen ? db->trees : NULL; t && !yes; t = t->next)
		yes = kve_is_clone(t) && (!gen || t->origin.gen == gen) && kvp_load(&t->dropped) &&
		      !kvp_load(&t->gone_gen);
	kvp_rwsem_up_read(&db->tree_lock);
	return yes;
}

/* ---- making one ---------------------------------------------------------------------------------- */

/* Nobody has seen it; of a checkpoint that failed a row may be left, for the next one to remove. */
static void unmake(struct kv_db *db, struct kv_tree *t)
{
	kvp_rwsem_down_write(&db->tree_lock);
	memset(&t->head.ref, 0, sizeof(t->head.ref));
	kvp_store(&t->head.count, 0ull);
	t->dropped_gen = db->open_gen;
	kvp_store_release(&t->dropped, true);
	kvp_store(&t->gone_gen, db->open_gen);
	t->row_dirty = true;
	kvp_rwsem_up_write(&db->tree_lock);
}

/*
 * It is there once the checkpoint is. The log may name it then: no older state may be fallen back to, or
 * its records would be replayed where it is not known. Checkpoint and writer lock.
 */
static int make(struct kv_db *db, struct kve_snapshot *s, const struct kv_tree *from, const char *name)
{
	struct kv_tree *t = NULL;
	int err;

	if (kve_tree_find(db, name))
		return kve_fail(db, KVE_tree_exists, "'%s'", name);
	err = kve_tree_create(db, name, &t);
	if (err)
		return err;
	t->head.ref = from->head.ref;
	t->head.count = from->head.count;
	t->origin = (struct kve_origin){ .gen = s->gen, .lsn = s->lsn, .object = db->next_object,
					 .tree = from->id };
	kve_gen_changed(db);
	kvp_rwsem_down_write(&db->tree_lock);
	kve_tree_create_apply(db, t);
	kvp_rwsem_up_write(&db->tree_lock);
	db->rolled = true;
	err = kve_checkpoint_locked(db, NULL, false, true);
	db->rolled = false;
	if (err)
		unmake(db, t);
	return err;
}

/* Checkpoint lock. */
static int clone_tree(struct kv_db *db, const char *snapshot, const char *tree, const char *name)
{
	struct kve_snapshot *s = kve_snapshot_find(db, snapshot);
	struct kv_tree *from = NULL;
	int err = s ? kve_snapshot_trees(db, s) : kve_no_snapshot(db, snapshot);

	if (!err)
		for (from = s->trees; from; from = from->next)
			if (from->id >= KVF_TREE_USER && !kve_name_compare(from->name, tree))
				break;
	if (!err && !from)
		err = kve_fail(db, KVE_no_tree, "'%s' in snapshot '%s'", tree, snapshot);
	/* Most of what is dirty while others write; they wait for the rest. */
	if (!err)
		err = kve_checkpoint_locked(db, NULL, false, false);
	if (err)
		return err;
	kvp_gate_close(&db->writer);
	db->alone = true;
	err = make(db, s, from, name);
	db->alone = false;
	kvp_gate_open(&db->writer);
	return err;
}

int kv_tree_clone(kv_db *db, const char *snapshot, const char *tree, const char *name)
{
	int err = kve_enter(db, true);

	if (!err)
		err = kve_snapshot_name_check(db, snapshot);
	if (!err && !name)
		err = -KVE_invalid;
	if (!err)
		err = kve_tree_name_check(db, name, true);
	if (!err)
		err = kve_credits(db, false);
	if (err)
		return kve_return(db, err);
	kvp_gate_close(&db->writer);
	err = kve_super_mark(db);
	kvp_gate_open(&db->writer);
	kvp_mutex_lock(&db->ckpt_lock);
	if (!err)
		err = clone_tree(db, snapshot, tree ? tree : KVF_TREE_DEFAULT_NAME, name);
	kvp_mutex_unlock(&db->ckpt_lock);
	return kve_return(db, err);
}

int kv_tree_origin(kv_db *db, const char *name, kv_tree_origin_info *out)
{
	const struct kve_snapshot *s = NULL;
	int err = kve_enter(db, false);
	struct kv_tree *t;

	if (err)
		return kve_return(db, err);
	memset(out, 0, sizeof(*out));
	t = kve_tree_find(db, name ? name : KVF_TREE_DEFAULT_NAME);
	if (!t)
		return kve_return(db, kve_fail(db, KVE_no_tree, "'%s'", name ? name : KVF_TREE_DEFAULT_NAME));
	kvp_mutex_lock(&db->state);
	if (kve_is_clone(t))
		s = origin_find(db, kvp_load(&t->origin.gen));
	out->detaching = s && (t->detaching || t->detach);
	if (s) {
		memcpy(out->snapshot, s->name, KVF_MIN(strlen(s->name), sizeof(out->snapshot) - 1));
		out->generation = s->gen;
	}
	kvp_mutex_unlock(&db->state);
	return 0;
}

/* ---- pruning one that was dropped ------------------------------------------------------------------ */

/* As it is on the medium, and the origin's, with all below it. Tree lock. */
static bool frame_shared(const struct kve_frame *f)
{
	return !kvp_load(&f->dirty) && f->ref.block0 && kve_shared_page(f->tree, &f->ref);
}

/* The highest page above a leaf that goes as a whole: a shared one, else the leaf. */
static struct kve_frame *prune_top(struct kve_frame *leaf)
{
	struct kve_frame *f, *top = leaf;

	for (f = leaf; f; f = f->parent)
		if (frame_shared(f))
			top = f;
	return top;
}

/* All that may fail. Writer lock. */
static int prune_prepare(struct kv_db *db, struct kve_frame *top, bool own)
{
	u32 i, nr = kve_node_nr(top->page);
	struct kve_frame *f;
	int err = kve_head_prepare(db, top->tree);

	for (f = top->parent; f && !err; f = f->parent)
		err = kve_frame_prepare(db, f);
	for (i = 0; own && i < nr && !err; i++)
		err = kve_object_doom(top->tree, top->page, i);
	return err;
}

/* The first child of p is shared, and not in memory. */
static bool first_shared(const struct kve_frame *p)
{
	struct kvf_ref ref;

	if (!kve_node_nr(p->page) || p->kids[0])
		return false;
	kve_child_ref(&ref, p->page, p->tree->db->geo.frame, 0);
	return kve_shared_page(p->tree, &ref);
}

/* A page goes, and those above it that have nothing else. Tree lock exclusive. */
static void prune_apply(struct kv_db *db, struct kve_frame *top, bool own)
{
	struct kv_tree *t = top->tree;
	struct kve_frame *p = top->parent, *up;
	u32 i, nr = own ? kve_node_nr(top->page) : 0;

	t->head.gen = db->open_gen;
	for (i = 0; i < nr; i++)
		kve_cell_dead(t, top->page, i);
	t->head.count -= KVF_MIN((u64)nr, t->head.count);
	for (; p; p = up) {
		up = p->parent;
		kve_tree_prune(db, p);
		while (first_shared(p))
			kve_tree_prune(db, p);
		if (kve_node_nr(p->page))
			return;
	}
	kvp_store(&t->head.count, 0ull);
	kve_tree_uproot(db, t);
}

/* Writer lock. */
static int prune_leaf(struct kv_db *db, struct kve_frame *leaf)
{
	struct kve_frame *top;
	bool own;
	u32 nr;
	int err;

	if (leaf->zombie)
		return 0;
	kvp_rwsem_down_read(&db->tree_lock);
	top = prune_top(leaf);
	own = !frame_shared(top);
	kvp_rwsem_up_read(&db->tree_lock);
	nr = own ? kve_node_nr(top->page) : 0;
	err = kve_dead_promise(db, nr);
	if (err)
		return err;
	err = prune_prepare(db, top, own);
	if (!err) {
		kvp_rwsem_down_write(&db->tree_lock);
		prune_apply(db, top, own);
		kvp_rwsem_up_write(&db->tree_lock);
		db->changed = true;
		kve_gen_changed(db);
	}
	kve_dead_done(db, nr);
	return err;
}

/* Nothing of it is in memory: it is empty, or shared as a whole. Writer lock. */
static int prune_end(struct kv_db *db, struct kv_tree *t)
{
	int err = kve_head_prepare(db, t);

	if (err)
		return err;
	kvp_rwsem_down_write(&db->tree_lock);
	t->head.gen = db->open_gen;
	kvp_store(&t->head.count, 0ull);
	kve_tree_uproot(db, t);
	kvp_store(&t->gone_gen, db->open_gen);
	t->row_dirty = true;
	kvp_rwsem_up_write(&db->tree_lock);
	kve_detach_forget(t);
	db->changed = true;
	kve_gen_changed(db);
	return 0;
}

static bool all_shared(struct kv_db *db, const struct kv_tree *t)
{
	bool yes;

	kvp_rwsem_down_read(&db->tree_lock);
	yes = !t->head.root && (!t->head.ref.block0 || kve_shared_page(t, &t->head.ref));
	kvp_rwsem_up_read(&db->tree_lock);
	return yes;
}

int kve_clone_prune(struct kv_db *db, struct kv_tree *t)
{
	struct kve_frame *leaf;
	bool end = false;
	int err = 0;
	u32 i;

	for (i = 0; i < PRUNE_STEP && !err && !end; i++) {
		err = kve_credits(db, true);
		leaf = NULL;
		end = all_shared(db, t);
		if (!err && !end)
			err = kve_tree_leaf(t, "", 0, &leaf);
		if (err)
			return err;
		kvp_gate_close(&db->writer);
		err = kvp_load(&db->degraded) ? -KVE_degraded : kve_super_mark(db);
		if (!err && end)
			err = prune_end(db, t);
		else if (!err && leaf)
			err = prune_leaf(db, leaf);
		kvp_gate_open(&db->writer);
		if (leaf)
			kve_frame_unpin(leaf);
	}
	return err;
}
