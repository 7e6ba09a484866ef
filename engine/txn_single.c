/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * txn_single.c - a single change of a leaf that is ready for it, beside others in other leaves.
 *
 * A leaf is ready once it has been changed in the open generation: then nothing frozen shows its image, all
 * of its path is marked dirty, and it stays in memory. So, as long as slot and item fit, a change needs no
 * more than the leaf's lock, a place in the log, and the leaf itself. A leaf that is not ready is made so
 * under its lock (kve_leaf_first()), if there are credits, and if a transaction has changed something in the
 * tree since the freeze. Everything else (splits, large values, transactions) is done by txn.c with the gate
 * closed.
 *
 * Gate of the writer lock -> leaf found without a lock, locked, validated -> record in the log and, for
 * kill-safe, in the window -> slot. The log knows changes of a leaf in the order in which they are made. No
 * step waits for I/O, and after the record nothing can fail.
 */
#include "kve.h"

#define TRIES 8u
#define BYTES_MAX 4096u /* longer values would keep the log from others for too long */

bool kve_first_allowed(const struct kv_db *db, const struct kv_tree *t)
{
	return db->marked && db->changed && db->changed_gen == db->open_gen && t->head.gen == db->open_gen;
}

/* The leaf for the key, locked. -KVE_restart: not ready, nor to be made so; or too much happens there. */
static int leaf_take(struct kv_db *db, const struct kve_op *op, bool first, struct kve_frame **leaf)
{
	struct kve_spot s;
	u32 tries;
	int err;

	for (tries = 0; tries < TRIES; tries++) {
		kvp_reader_enter();
		err = kve_spot_find(op->tree, op->key, op->key_len, &s);
		kvp_reader_exit();
		if (err == -KVE_restart)
			continue;
		if (err || (!first && kvp_load(&s.frame->ready) != db->open_gen))
			return -KVE_restart;
		kve_leaf_lock(s.frame);
		if (kve_spot_valid(&s) && (first || s.frame->ready == db->open_gen)) {
			*leaf = s.frame;
			return 0;
		}
		kve_leaf_unlock(s.frame);
	}
	return -KVE_restart;
}

/* What the key holds now decides whether and what to store. Leaf lock. */
static int decide(struct kv_db *db, struct kve_op *op, u32 flags, const u8 *page, u32 i)
{
	const u8 *cell, *value = NULL;
	struct kve_entry e;
	u8 kind = 0;
	u32 len;

	if (op->existed) {
		cell = kvf_page_cell(page, db->geo.frame, i, &len, &kind);
		kve_entry_decode(&e, kind, cell, len, &value);
		if ((kind & KVF_CELL_KIND) == KVF_CELL_OBJECT)
			return -KVE_restart;
	}
	if ((flags & KV_PUT_NEW) && op->existed)
		return -KVE_exists;
	if ((flags & KV_PUT_REPLACE) && !op->existed)
		return -KVE_not_found;
	if (op->compute)
		return op->compute(op, op->existed ? &e : NULL, value);
	return 0;
}

/* Neither split nor merge nor compaction. */
static bool fits(struct kv_db *db, const struct kve_op *op, const u8 *page, u32 i)
{
	struct kve_cell cell;

	if (op->kind == KVF_RECORD_DELETE)
		return !kve_node_sparse(page, db->geo.frame, kve_node_entry_bytes_at(page, db->geo.frame, i));
	kve_op_cell(op, &cell);
	return kve_node_fits(page, db->geo.frame, i, op->existed, op->key_len, kve_cell_len(&cell));
}

static void apply(struct kv_db *db, struct kve_op *op, struct kve_frame *leaf, u32 i)
{
	struct kvf_page *page = (struct kvf_page *)leaf->page;
	u32 frame = db->geo.frame;
	struct kve_cell cell;
	int err = 0;

	if (op->existed)
		kve_cell_dead(leaf->tree, leaf->page, i);
	kve_change_begin(leaf);
	if (op->kind == KVF_RECORD_DELETE) {
		kve_node_remove(page, frame, i);
	} else {
		kve_op_cell(op, &cell);
		err = op->existed ? kve_node_replace(page, frame, i, &cell, NULL) :
				    kve_node_insert(page, frame, i, op->key, op->key_len, &cell, NULL);
	}
	KVP_ASSERT(!err);
	page->lsn = cpu_to_le64(op->lsn);
	kve_change_end(leaf);
	if (op->separated)
		kve_value_live(db, &op->ref);
}

/* May a range delete hide something in the leaf that has to be removed before the leaf gets a newer LSN? */
static bool hides(const struct kv_tree *t, const struct kve_frame *leaf)
{
	return kvp_unlikely(t->range_lsn) &&
	       le64_to_cpu(((const struct kvf_page *)leaf->page)->lsn) < t->range_lsn;
}

static int change(struct kv_db *db, struct kve_op *op, u32 flags, bool kill_safe, struct kve_frame *leaf)
{
	int err, more = op->kind == KVF_RECORD_DELETE ? -1 : 1;
	bool exact;
	u32 i;

	if (hides(op->tree, leaf))
		return -KVE_restart;
	i = kve_node_search(leaf->page, db->geo.frame, op->key, op->key_len, &exact);
	op->existed = exact;
	err = decide(db, op, flags, leaf->page, i);
	if (err)
		return err;
	if (op->kind == KVF_RECORD_DELETE && !exact)
		return -KVE_restart;
	op->separated = op->kind == KVF_RECORD_PUT && kve_separate(db, op->key_len, op->value_len);
	if (!fits(db, op, leaf->page, i))
		return -KVE_restart;
	if (leaf->ready != db->open_gen)
		err = kve_leaf_first(db, leaf);
	if (!err)
		err = kve_dead_promise(db, 1);
	if (err)
		return err;
	err = kve_log_append_single(db, op, kill_safe, exact == (more < 0) ? more : 0);
	if (!err)
		apply(db, op, leaf, i);
	kve_dead_done(db, 1);
	return err;
}

/*
 * Could it be a single change at all? Of a leaf that is ready it dirties nothing that was clean, so of what
 * credits see to only the length of the log counts.
 */
static bool single(struct kv_db *db, const struct kve_op *op, bool credits)
{
	return (op->kind == KVF_RECORD_PUT || op->kind == KVF_RECORD_DELETE) && !op->flags && !op->only &&
	       op->tree->id >= KVF_TREE_USER && op->value_len <= BYTES_MAX &&
	       (credits || kvp_load(&db->last_ckpt_pos) <=
			   KVF_MIN(db->checkpoint_bytes, kvp_load(&db->pace_at)));
}

int kve_commit_single(struct kv_db *db, struct kve_op *op, u32 flags, bool kill_safe, bool credits)
{
	struct kve_frame *leaf;
	int err;

	if (!single(db, op, credits))
		return -KVE_restart;
	kvp_gate_enter(&db->writer);
	err = -KVE_restart;
	if (!kvp_load(&db->degraded) && !op->tree->dropped)
		err = leaf_take(db, op, credits && kve_first_allowed(db, op->tree), &leaf);
	if (!err) {
		err = change(db, op, flags, kill_safe, leaf);
		kve_leaf_unlock(leaf);
	}
	kvp_gate_leave(&db->writer);
	if (!err) {
		kvp_count_add(&db->commits, 1);
		if (op->separated)
			kve_values_put(db, kve_value_hash(op->tree, op->key, op->key_len), &op->ref,
				       op->value, true);
	}
	return err;
}
