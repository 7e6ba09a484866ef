/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * detach.c - what a clone shares with its snapshot becomes its own, so that it needs the snapshot no more.
 *
 * A walk over the keys of the clone, in steps of a leaf, or of some values of it. A shared value is put anew
 * under its key, as a user would, while the key still refers to it: it goes to the log, counts, and is
 * replayed as any change is. A large value is streamed in anew, with chunks and an id of its own. A page that
 * is shared, and refers to nothing else that is, is marked as changed: the next checkpoint writes it, and all
 * above it, elsewhere, as pages of the clone.
 *
 * Invariant: of keys before the cursor no value is shared, and their pages are the clone's own or changed.
 * Nothing but going back makes shared again what was not, and that starts the walk anew. Every leaf has to be
 * looked at: one that is the clone's own may refer to values that are not.
 *
 * At the end one checkpoint writes the last pages, and the row of the tree without its origin, or neither.
 * Whatever ends the walk before, the tree is a clone with more of its own. In memory the origin is kept: the
 * checkpoint gives up pages that were shared, and older readers still see them.
 */
#include "range.h"

#define VALUES 64u	   /* of a step */
#define BYTES (256u << 10) /* of them, a value at least */
#define LEAVES_AHEAD 8
#define NAME_BYTES 80u

struct kve_detach {
	struct kv_db *db;
	struct kv_tree *tree;
	u64 rolls;	  /* of the volume, when the walk began */
	u64 seen, copied; /* entries before the cursor; bytes, by all calls */
	u8 *page;	  /* a leaf as it was */
	u8 *key;	  /* the cursor */
	u32 key_len;
	bool end, done; /* it is behind the last key; the tree is no clone any more */
	u32 nr, used;	/* values of the step, and bytes of them */
	u8 *keys, *values;
	u32 room; /* of values */
	struct kve_entry entry[VALUES];
	struct kve_value_want want[VALUES];
	struct kve_op op[VALUES];
};

/* ---- memory -------------------------------------------------------------------------------------- */

void kve_detach_free(struct kve_detach *d)
{
	if (!d)
		return;
	kvp_iobuf_free(d->page, d->db->geo.frame);
	kvp_free(d->key);
	kvp_free(d->keys);
	kvp_free(d->values);
	kvp_free(d);
}

static struct kve_detach *detach_new(struct kv_tree *t)
{
	struct kve_detach *d = kvp_alloc(sizeof(*d), KVP_ZERO);
	struct kv_db *db = t->db;

	if (!d)
		return NULL;
	d->db = db;
	d->tree = t;
	d->rolls = kvp_load(&db->rolls);
	d->room = KVF_MAX(BYTES, db->geo.chunk_bytes);
	d->page = kvp_iobuf_alloc(db->geo.frame);
	d->key = kvp_alloc(db->geo.key_max, 0);
	d->keys = kvp_alloc_array(VALUES, db->geo.key_max, 0);
	d->values = kvp_alloc(d->room, 0);
	if (d->page && d->key && d->keys && d->values)
		return d;
	kve_detach_free(d);
	return NULL;
}

/* ---- values: no lock held ------------------------------------------------------------------------ */

static u32 slot_at(const struct kve_detach *d, const u8 *page)
{
	bool exact;

	return d->key_len ? kve_node_search(page, d->db->geo.frame, d->key, d->key_len, &exact) : 0;
}

/* The first entry from slot i on that refers to something of the origin. */
static u32 shared_from(const struct kve_detach *d, const u8 *page, u32 i, struct kve_entry *e)
{
	u32 nr = kve_node_nr(page), len;
	const u8 *cell, *value;
	u8 flags;

	for (; i < nr; i++) {
		cell = kvf_page_cell(page, d->db->geo.frame, i, &len, &flags);
		kve_entry_decode(e, flags, cell, len, &value);
		if (kve_shared_entry(d->tree, e))
			break;
	}
	return i;
}

static int poisoned(struct kve_detach *d, const struct kve_value_want *w)
{
	char name[NAME_BYTES];

	kvf_key_to_text(name, sizeof(name), w->key, w->key_len);
	return kve_fail(d->db, KVE_corrupt_value, "key '%s' of tree '%s': %s", name, d->tree->name,
			kvf_finding_text(KVF_F_value_poison));
}

/* False: it is for another step. */
static bool value_add(struct kve_detach *d, u32 slot, const struct kve_entry *e)
{
	bool object = (e->flags & KVF_CELL_KIND) == KVF_CELL_OBJECT;
	struct kve_value_want *w = &d->want[d->nr];

	if (d->nr && (object || e->value_len > d->room - d->used))
		return false;
	w->ref = e->ref;
	w->key = d->keys + (size_t)d->nr * d->db->geo.key_max;
	w->key_len = kvf_page_key(d->page, d->db->geo.frame, slot, (u8 *)w->key);
	w->item = d->nr;
	w->out = d->values + d->used;
	d->entry[d->nr++] = *e;
	d->used += object ? d->room : (u32)e->value_len;
	return d->nr < VALUES;
}

/* Shared values of the cursor's leaf: some that are records, or a large one. */
static int collect(struct kve_detach *d)
{
	struct kve_entry e;
	u32 i;
	int err = kve_leaf_copy(d->tree, KVE_LIVE, KVE_SEEK_KEY, d->key, d->key_len, d->page, LEAVES_AHEAD);

	d->nr = d->used = 0;
	if (err)
		return err == -KVE_not_found ? 0 : err;
	for (i = slot_at(d, d->page); (i = shared_from(d, d->page, i, &e)) < kve_node_nr(d->page); i++)
		if (!value_add(d, i, &e))
			break;
	for (i = 0; i < d->nr; i++)
		if (d->entry[i].flags & KVF_CELL_POISON)
			return poisoned(d, &d->want[i]);
	return 0;
}

/* Into the log anew, those that are still there; if one is not, the step is made again. */
static int records_copy(struct kve_detach *d)
{
	struct kve_value_want *w;
	u32 i;
	int err = 0;

	kve_values_read(d->db, d->tree, d->want, d->nr, false);
	for (i = 0; i < d->nr && !err; i++) {
		w = &d->want[i];
		/* Alone it says what is wrong. */
		if (w->err)
			err = kve_value_read(d->db, d->tree, &w->ref, w->key, w->key_len, w->out);
		d->op[w->item] = (struct kve_op){
			.tree = d->tree, .kind = KVF_RECORD_PUT, .key = w->key, .key_len = w->key_len,
			.value = w->out, .value_len = le32_to_cpu(w->ref.payload_len),
			.only = &d->entry[w->item],
		};
	}
	return err ? err : kve_commit(d->db, d->op, d->nr, KV_MEMORY);
}

static int values_copy(struct kve_detach *d)
{
	bool object = (d->entry[0].flags & KVF_CELL_KIND) == KVF_CELL_OBJECT;
	const struct kve_value_want *w = d->want;
	int err = object ? kve_object_copy(d->tree, w->key, w->key_len, d->entry) : records_copy(d);

	if (!err)
		d->copied += object ? d->entry[0].value_len : d->used;
	return err == -KVE_restart ? 0 : err;
}

/* ---- pages ------------------------------------------------------------------------------------------ */

/* -KVE_restart: the volume went back since the walk began. Writer lock closed. */
static int may_go_on(const struct kve_detach *d)
{
	struct kv_db *db = d->db;

	if (kvp_load(&db->degraded))
		return kve_fail(db, KVE_degraded, "%s", db->reason);
	if (d->tree->dropped)
		return -KVE_no_tree;
	if (db->rolls != d->rolls && !KVP_BUG("detach-goes-on"))
		return -KVE_restart;
	return kve_super_mark(db);
}

/* The page, with those above it, which are no younger, and the cursor behind it. Writer lock closed. */
static void leaf_own(struct kve_detach *d, struct kve_frame *leaf)
{
	struct kv_db *db = d->db;
	const u8 *upper;
	u32 len = 0;

	kvp_rwsem_down_write(&db->tree_lock);
	if (!leaf->dirty && kve_shared_page(d->tree, &leaf->ref) && !KVP_BUG("detach-page-kept")) {
		kve_mark_dirty(db, leaf);
		db->changed = true;
		d->copied += (u64)le32_to_cpu(leaf->ref.blocks) << db->geo.block_shift;
	}
	upper = kvf_page_upper(leaf->page, db->geo.frame, &len);
	if (upper)
		memcpy(d->key, upper, len);
	d->key_len = len;
	d->end = !upper || KVP_BUG("detach-early");
	kvp_rwsem_up_write(&db->tree_lock);
}

/* Writer lock closed: nobody changes the leaf. It was in memory a moment ago. */
static int leaf_settle(struct kve_detach *d)
{
	struct kve_frame *leaf;
	struct kve_entry e;
	u32 i, from;
	int err = kve_tree_leaf(d->tree, d->key, d->key_len, &leaf);

	if (err)
		return err;
	if (!leaf) {
		d->end = true;
		return 0;
	}
	/* What a range hides would be shared on. */
	if (d->tree->ranges)
		err = kve_range_purge(d->db, d->tree, leaf);
	if (!err) {
		from = slot_at(d, leaf->page);
		i = shared_from(d, leaf->page, from, &e);
		d->seen += i - from;
		if (i < kve_node_nr(leaf->page) && !KVP_BUG("detach-value-kept"))
			d->key_len = kvf_page_key(leaf->page, d->db->geo.frame, i, d->key);
		else
			leaf_own(d, leaf);
	}
	kve_frame_unpin(leaf);
	return err;
}

/*
 * A copy frees nothing: what it replaces is the snapshot's. So it leaves room for whatever frees something,
 * such as dropping the tree. GC has made what room it can before this says no.
 */
static int room_check(struct kve_detach *d)
{
	struct kv_db *db = d->db;
	int err = kve_credits(db, false);

	if (!err && kve_space_scarce(db, kve_space_need(db, false)))
		err = kve_fail(db, KVE_no_space,
			       "there is no room for copies of what tree '%s' shares; delete something, or "
			       "enlarge the volume",
			       d->tree->name);
	return err;
}

/* Nothing held. */
static int step(struct kve_detach *d)
{
	int err = room_check(d), gone;

	if (!err)
		err = collect(d);
	if (!err && d->nr)
		err = values_copy(d);
	kvp_gate_close(&d->db->writer);
	gone = may_go_on(d);
	if (!err && !gone)
		err = leaf_settle(d);
	kvp_gate_open(&d->db->writer);
	/* Then whatever else has failed may be because of that. */
	return gone ? gone : err;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static void leave_set(struct kv_tree *t, bool left)
{
	kvp_rwsem_down_write(&t->db->tree_lock);
	kvp_store(&t->origin.left, left);
	t->row_dirty = true;
	kvp_rwsem_up_write(&t->db->tree_lock);
}

/* Checkpoint lock: as long as it is held the snapshot stays, and the state does not go back. */
static int leave_locked(struct kve_detach *d)
{
	struct kv_tree *t = d->tree;
	struct kv_db *db = d->db;
	int err;

	kvp_gate_close(&db->writer);
	err = may_go_on(d);
	if (!err) {
		leave_set(t, true);
		db->changed = true;
		kve_gen_changed(db);
	}
	kvp_gate_open(&db->writer);
	if (err)
		return err;
	err = kve_checkpoint_locked(db, NULL, false, true);
	if (err)
		leave_set(t, false);
	return err;
}

static int leave(struct kve_detach *d)
{
	int err;

	kvp_mutex_lock(&d->db->ckpt_lock);
	err = leave_locked(d);
	kvp_mutex_unlock(&d->db->ckpt_lock);
	d->done = !err;
	return err;
}

/* ---- the call ---------------------------------------------------------------------------------------- */

static void walk_begin(struct kve_detach *d)
{
	d->rolls = kvp_load(&d->db->rolls);
	d->key_len = 0;
	d->seen = 0;
	d->end = false;
}

/* Until so many bytes are copied. */
static int run(struct kve_detach *d, u64 budget)
{
	u64 before = d->copied;
	int err = 0;

	while (!err && !d->done && d->copied - before < budget) {
		err = d->end ? leave(d) : step(d);
		if (err == -KVE_restart) {
			walk_begin(d);
			err = 0;
		}
	}
	return err;
}

/* One call at a time; it goes on where the last one ended. */
static int detach_take(struct kv_tree *t, struct kve_detach **out)
{
	struct kv_db *db = t->db;
	bool mine;

	kvp_mutex_lock(&db->state);
	mine = !t->detaching;
	t->detaching = true;
	*out = t->detach;
	kvp_mutex_unlock(&db->state);
	return mine ? 0 : kve_fail(db, KVE_in_use, "tree '%s' is being detached", t->name);
}

static void detach_give(struct kv_tree *t, struct kve_detach *d)
{
	kvp_mutex_lock(&t->db->state);
	t->detach = d;
	t->detaching = false;
	kvp_mutex_unlock(&t->db->state);
}

void kve_detach_forget(struct kv_tree *t)
{
	struct kve_detach *d = NULL;

	kvp_mutex_lock(&t->db->state);
	if (!t->detaching) {
		d = t->detach;
		t->detach = NULL;
	}
	kvp_mutex_unlock(&t->db->state);
	kve_detach_free(d);
}

static int detach(struct kv_tree *t, u64 budget, kv_detach_info *info)
{
	struct kve_detach *d;
	u64 before, count;
	int err = detach_take(t, &d);

	if (err)
		return err;
	if (!d && kve_is_clone(t)) {
		d = detach_new(t);
		err = d ? 0 : -KVE_no_memory;
	}
	if (d) {
		before = d->copied;
		count = kvp_load(&t->head.count);
		err = run(d, budget);
		info->copied_bytes = d->copied - before;
		info->left_entries = d->end ? 0 : count - KVF_MIN(count, d->seen);
		info->more = !err && !d->done;
	}
	if (d && !info->more) {
		kve_detach_free(d);
		d = NULL;
	}
	detach_give(t, d);
	return err;
}

int kv_tree_detach(kv_db *db, const char *name, uint64_t budget, kv_detach_info *info)
{
	int err = kve_enter(db, true);
	struct kv_tree *t = NULL;
	kv_detach_info unused;

	info = info ? info : &unused;
	memset(info, 0, sizeof(*info));
	name = name ? name : KVF_TREE_DEFAULT_NAME;
	if (!err)
		err = kve_tree_name_check(db, name, false);
	if (!err && !(t = kve_tree_find(db, name)))
		err = kve_fail(db, KVE_no_tree, "'%s'", name);
	if (!err)
		err = detach(t, budget ? budget : ~0ull, info);
	return kve_return(db, err);
}
