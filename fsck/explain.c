/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain.c - the way to a key: superblock, forest, tree, leaf, record, and what the log behind the
 * checkpoint does to it.
 *
 * It is the walk of the passes, kept to the pages that may hold the key, with hooks that show what it comes
 * to. What is wrong is found by the walk as ever. First the forest is asked for the tree, then the log is
 * followed, as it may make, drop or change it; the tree comes last.
 */
#include <stdlib.h>

#include "show.h"

struct logged {
	bool any; /* there is a change that counts */
	bool there; /* the key is, behind it */
	struct kvsck_record_info info; /* without its key */
};

struct explain {
	struct kvsck *ck;
	struct kvsck_explain *x;
	struct kvf_tree_head head, objects;
	bool found, found_objects; /* rows of the forest */
	u32 tree; /* id, as the log leaves it; 0: none */
	bool replaced; /* the log has dropped the tree of the checkpoint */
	u32 txn_tree;
	bool txn_replaced;
	struct logged last, txn; /* that counts; of the transaction that is open */
	/* the row or slot that is looked for */
	struct kvsck_bytes want;
	struct kvf_tree_head *row;
	bool *row_found;
	u64 first_chunk;
	/* what the walk of the tree gave */
	bool seen;
	struct kvf_object object;
	bool large;
	u64 chunks_seen;
	u8 *before, *after; /* keys beside the one that is not there */
	u32 before_len, after_len;
};

static void show(struct explain *e, struct kvsck_step *s)
{
	if (e->x->step)
		e->x->step(e->x->arg, s);
}

/* ---- hooks -------------------------------------------------------------------------------------- */

static int on_page(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_visit *v)
{
	struct kvsck_step s = { .kind = KVSCK_STEP_PAGE };

	kvsck_show_visit(ck, w, v, &s.page);
	show(ck->hooks->arg, &s);
	return 0;
}

static int on_value(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *entry,
		    const struct kvf_identity *id, u32 off, int head, int payload)
{
	struct kvsck_step s = { .kind = KVSCK_STEP_RECORD };

	(void)w;
	(void)entry;
	kvsck_show_record(ck, id, off, head, payload, &s.record);
	show(ck->hooks->arg, &s);
	return 0;
}

static bool same(const struct kvsck_bytes *a, const void *b, u32 b_len)
{
	return a->len == b_len && !memcmp(a->p, b, b_len);
}

/* What a record of the log does to the tree's name, or to the key. */
static bool concerns(struct explain *e, const struct kvf_record *r)
{
	struct kvsck_bytes key = { kvf_record_key(r), le16_to_cpu(r->key_len) };
	const struct kvsck_explain *x = e->x;
	u32 to_len = le32_to_cpu(r->payload_len);
	const u8 *to = e->ck->payload.p;

	switch (r->kind) {
	case KVF_RECORD_TREE_CREATE:
	case KVF_RECORD_TREE_DROP:
		if (!same(&key, x->tree, x->tree_len))
			return false;
		e->txn_replaced = true;
		e->txn_tree = r->kind == KVF_RECORD_TREE_CREATE ? le32_to_cpu(r->tree) : 0;
		return r->kind == KVF_RECORD_TREE_DROP;
	case KVF_RECORD_PUT:
	case KVF_RECORD_DELETE:
		return le32_to_cpu(r->tree) == e->txn_tree && same(&key, x->key, x->key_len);
	case KVF_RECORD_RANGE_DELETE:
		return le32_to_cpu(r->tree) == e->txn_tree &&
		       kvf_key_compare(key.p, key.len, x->key, x->key_len) <= 0 &&
		       (!to_len || kvf_key_compare(x->key, x->key_len, to, to_len) < 0);
	}
	return false;
}

/* Only whole transactions count: what the open one has done is kept apart until its last record. */
static int on_logged(struct kvsck *ck, const struct kvf_identity *id, u32 off, int payload)
{
	const struct kvf_record *r = kvsck_record(ck);
	struct explain *e = ck->hooks->arg;
	struct kvsck_step s = { .kind = KVSCK_STEP_LOGGED };

	if (r->kind == KVF_RECORD_SEAL || r->flags & KVF_RECORD_COPY)
		return 0;
	if (r->txn_index == cpu_to_le32(0)) {
		e->txn.any = false;
		e->txn_tree = e->tree;
		e->txn_replaced = e->replaced;
	}
	if (concerns(e, r)) {
		e->txn.any = true;
		e->txn.there = r->kind == KVF_RECORD_PUT;
		e->x->logged++;
		kvsck_show_record(ck, id, off, 0, payload, &s.record);
		show(e, &s);
	}
	if (le32_to_cpu(r->txn_index) + 1 != le32_to_cpu(r->txn_count))
		return 0;
	e->tree = e->txn_tree;
	e->replaced = e->txn_replaced;
	if (e->txn.any)
		e->last = e->txn;
	e->txn.any = false;
	return 0;
}

/* ---- one key of a tree ----------------------------------------------------------------------- */

/* From key up to the last one that may stand before the next: one leaf, as a rule. */
static int walk_key(struct explain *e, struct kvsck_walk *w, const struct kvf_ref *root)
{
	struct kvsck *ck = e->ck;
	struct kvsck_buf to = { NULL, 0 };
	int err = kvsck_buf_reserve(&to, e->want.len + 1);

	if (err)
		return err;
	memcpy(to.p, e->want.p, e->want.len);
	to.p[e->want.len] = 0;
	w->arg = e;
	w->from = e->want.p;
	w->from_len = e->want.len;
	w->to = to.p;
	w->to_len = e->want.len + 1;
	kvsck_walk_again(ck);
	err = kvsck_walk_tree(ck, w, root);
	free(to.p);
	return err;
}

static int on_row(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *entry)
{
	struct explain *e = w->arg;
	struct kvsck_step s = { .kind = KVSCK_STEP_TREE, .tree = e->row };

	if (!same(&e->want, entry->key, entry->key_len))
		return 0;
	if (entry->flags != KVF_CELL_INLINE || entry->body_len != sizeof(*e->row)) {
		struct kvsck_where at = kvsck_at_entry(ck, w, entry);

		kvsck_problem(ck, KVF_F_tree_head, &at, "%u bytes", entry->body_len);
		return 0;
	}
	memcpy(e->row, entry->body, sizeof(*e->row));
	*e->row_found = true;
	show(e, &s);
	return 0;
}

/* The row of a tree: class byte and name. */
static int find_row(struct explain *e, const void *name, u32 name_len, struct kvf_tree_head *row,
		    bool *found)
{
	static const struct kvsck_tree forest = { .id = KVF_TREE_FOREST };
	struct kvsck_walk w = { .tree = &forest, .twin_leaves = true, .entry = on_row };
	u8 key[1 + KVF_TREE_NAME_MAX];
	int err;

	key[0] = KVF_FOREST_TREE;
	memcpy(key + 1, name, name_len);
	e->want = (struct kvsck_bytes){ key, 1 + name_len };
	e->row = row;
	e->row_found = found;
	err = walk_key(e, &w, &e->ck->sb.forest);
	if (!err && w.lost)
		e->x->unknown = true;
	return err;
}

static u64 value_length(const struct kvsck_entry *entry, struct kvsck_entry_info *out)
{
	switch (entry->flags & KVF_CELL_KIND) {
	case KVF_CELL_REF:
		if (entry->body_len != sizeof(out->ref))
			return 0;
		memcpy(&out->ref, entry->body, sizeof(out->ref));
		return le32_to_cpu(out->ref.payload_len);
	case KVF_CELL_OBJECT:
		if (entry->body_len != sizeof(out->object))
			return 0;
		memcpy(&out->object, entry->body, sizeof(out->object));
		return le64_to_cpu(out->object.length);
	}
	out->value = (struct kvsck_bytes){ entry->body, entry->body_len };
	return entry->body_len;
}

static void fill_entry(const struct kvsck *ck, const struct kvsck_entry *entry,
		       struct kvsck_entry_info *out)
{
	out->page = entry->leaf->addr << ck->g.block_shift;
	out->slot = entry->slot;
	out->flags = entry->flags;
	out->length = value_length(entry, out);
}

static int follow(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *entry)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, entry);

	if (entry->flags & KVF_CELL_POISON) {
		kvsck_problem(ck, KVF_F_value_poison, &at, "%s", "");
		return 0;
	}
	return (entry->flags & KVF_CELL_KIND) == KVF_CELL_REF ? kvsck_value(ck, w, entry) : 0;
}

static int keep_key(const struct kvsck *ck, u8 **buf, u32 *len, const struct kvsck_entry *entry)
{
	if (!*buf)
		*buf = malloc(ck->g.key_max);
	if (!*buf)
		return -KVE_no_memory;
	memcpy(*buf, entry->key, entry->key_len);
	*len = entry->key_len;
	return 0;
}

/* All entries of the leaf: the key, or its neighbours. */
static int on_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *entry)
{
	struct kvsck_step s = { .kind = KVSCK_STEP_ENTRY };
	struct explain *e = w->arg;
	int cmp = kvf_key_compare(entry->key, entry->key_len, e->want.p, e->want.len);

	/* deleted, by a range delete that has not come here yet */
	if (kvsck_hidden(ck, w, entry))
		return 0;
	if (cmp < 0)
		return keep_key(ck, &e->before, &e->before_len, entry);
	if (cmp > 0)
		return e->after ? 0 : keep_key(ck, &e->after, &e->after_len, entry);
	e->seen = true;
	fill_entry(ck, entry, &s.entry);
	if ((entry->flags & KVF_CELL_KIND) == KVF_CELL_OBJECT) {
		e->large = entry->body_len == sizeof(e->object) &&
			   s.entry.object.chunk_bytes != cpu_to_le32(0);
		e->object = s.entry.object;
		if (!e->large) {
			struct kvsck_where at = kvsck_at_entry(ck, w, entry);

			kvsck_problem(ck, KVF_F_page_cell, &at, "head of a large value");
		}
	}
	show(e, &s);
	return follow(ck, w, entry);
}

/* ---- large values ---------------------------------------------------------------------------- */

static u64 chunks_of(const struct kvf_object *o)
{
	u64 length = le64_to_cpu(o->length);
	u32 chunk = le32_to_cpu(o->chunk_bytes);

	return length / chunk + (length % chunk != 0);
}

static int on_chunk(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *entry)
{
	struct kvsck_step s = { .kind = KVSCK_STEP_CHUNK };
	struct explain *e = w->arg;
	struct kvsck_where at;
	u64 nr, due, len = le64_to_cpu(e->object.length);
	u32 chunk = le32_to_cpu(e->object.chunk_bytes);

	if (kvf_key_compare(entry->key, entry->key_len, w->from, w->from_len) < 0 ||
	    kvf_key_compare(entry->key, entry->key_len, w->to, w->to_len) >= 0 ||
	    entry->key_len != w->from_len)
		return 0;
	nr = kvf_get_be64(entry->key + 9);
	fill_entry(ck, entry, &s.entry);
	s.entry.chunk = nr;
	s.entry.chunks = chunks_of(&e->object);
	show(e, &s);
	at = kvsck_at_entry(ck, w, entry);
	due = nr + 1 < s.entry.chunks ? chunk : len - nr * chunk;
	if (nr != e->chunks_seen)
		kvsck_problem(ck, KVF_F_object_missing, &at, "chunk %llu is missing", e->chunks_seen);
	else if (s.entry.length != due)
		kvsck_problem(ck, KVF_F_object_size, &at, "chunk %llu has the wrong size", nr);
	e->chunks_seen = nr + 1;
	return follow(ck, w, entry);
}

static void chunk_key(u8 *key, u64 object, u64 nr)
{
	key[0] = KVF_OBJECT_CHUNK;
	kvf_put_be64(key + 1, object);
	kvf_put_be64(key + 9, nr);
}

/* The first chunks, up to the limit, all in one walk. */
static int explain_object(struct explain *e)
{
	static const struct kvsck_tree objects = { .id = KVF_TREE_OBJECTS };
	u64 object = le64_to_cpu(e->object.object), all = chunks_of(&e->object);
	u64 shown = KVF_MIN(all, e->x->chunks_max);
	struct kvsck_walk w = { .tree = &objects, .entry = on_chunk, .arg = e, .from_len = 17, .to_len = 17 };
	struct kvsck_step s = { .kind = KVSCK_STEP_MORE, .more = all - shown };
	struct kvsck_where at = KVSCK_NOWHERE;
	u8 from[17], to[17];
	int err;

	err = find_row(e, "", 0, &e->objects, &e->found_objects);
	if (err || !shown)
		return err;
	chunk_key(from, object, 0);
	chunk_key(to, object, shown);
	w.from = from;
	w.to = to;
	kvsck_walk_again(e->ck);
	if (e->found_objects)
		err = kvsck_walk_tree(e->ck, &w, &e->objects.root);
	if (err)
		return err;
	at.tree_id = KVF_TREE_OBJECTS;
	if (e->chunks_seen < shown)
		kvsck_problem(e->ck, KVF_F_object_missing, &at, "object %llu: chunk %llu is missing",
			      object, e->chunks_seen);
	if (s.more)
		show(e, &s);
	return 0;
}

/* ---- the whole way --------------------------------------------------------------------------- */

static int explain_tree(struct explain *e)
{
	struct kvsck_tree tree = { .head = e->head, .id = le32_to_cpu(e->head.id) };
	struct kvsck_walk w = { .tree = &tree, .twin_leaves = e->head.redundancy != 0, .entry = on_entry };
	struct kvsck_step s = { .kind = KVSCK_STEP_NONE };
	int err;

	kvf_key_to_text(tree.name, sizeof(tree.name), e->x->tree, e->x->tree_len);
	e->want = (struct kvsck_bytes){ e->x->key, e->x->key_len };
	err = walk_key(e, &w, &e->head.root);
	if (err)
		return err;
	if (w.lost)
		e->x->unknown = true;
	e->x->at_checkpoint = e->seen ? KVSCK_ANSWER_THERE : KVSCK_ANSWER_NONE;
	if (e->seen || w.lost)
		return e->large ? explain_object(e) : 0;
	s.before = (struct kvsck_bytes){ e->before, e->before_len };
	s.after = (struct kvsck_bytes){ e->after, e->after_len };
	show(e, &s);
	return 0;
}

static void answer(struct explain *e)
{
	struct kvsck_explain *x = e->x;

	if (e->last.any)
		x->now = e->last.there ? KVSCK_ANSWER_THERE : KVSCK_ANSWER_NONE;
	else
		x->now = e->replaced ? KVSCK_ANSWER_NONE : x->at_checkpoint;
	if (!e->tree)
		x->now = KVSCK_ANSWER_NO_TREE;
	/* what the log says last is known, whatever is lost below it */
	if (e->last.any || e->replaced)
		x->unknown = false;
}

/* Pending range deletes, by a judge of their own: the forest would count as walked twice. */
static int ranges_take(struct explain *e, const struct kvsck_io *io)
{
	struct kvsck_options quiet = { .flags = KVSCK_NO_VALUES };
	struct kvsck_report scratch = { 0 };
	struct kvsck *other = kvsck_new(io, &quiet, &scratch);
	struct kvsck_array none = e->ck->ranges;
	int err;

	if (!other)
		return -KVE_no_memory;
	err = kvsck_passes(other, KVSCK_P(super) | KVSCK_P(forest));
	e->ck->ranges = other->ranges;
	other->ranges = none;
	kvsck_free(other);
	return err;
}

static int explain(struct explain *e)
{
	struct kvsck *ck = e->ck;
	struct kvsck_step s = { .kind = KVSCK_STEP_SUPER, .super = &ck->sb };
	u64 before;
	int err = kvsck_passes(ck, KVSCK_P(super));

	if (err)
		return err;
	if (!(ck->done & KVSCK_P(super)))
		return -KVE_corrupt_super;
	if (e->x->key_len > ck->g.key_max)
		return -KVE_key_too_long;
	show(e, &s);
	before = ck->rep->problems;
	e->x->elsewhere = before;
	err = find_row(e, e->x->tree, e->x->tree_len, &e->head, &e->found);
	e->tree = e->found ? le32_to_cpu(e->head.id) : 0;
	if (!err)
		err = kvsck_passes(ck, KVSCK_P(log));
	e->x->damage = ck->rep->problems - before;
	before = ck->rep->problems;
	if (!err && e->found) {
		ck->hooks = NULL; /* its pages are not on the way */
		err = kvsck_passes(ck, KVSCK_P(segtab));
	}
	e->x->elsewhere += ck->rep->problems - before;
	return err;
}

int kvsck_explain(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_explain *x,
		  struct kvsck_report *rep)
{
	struct explain e = { .x = x };
	struct kvsck_hooks hooks = { .page = on_page, .logged = on_logged, .value = on_value, .arg = &e };
	u64 before;
	int err;

	x->at_checkpoint = x->now = KVSCK_ANSWER_NO_TREE;
	x->logged = x->damage = x->elsewhere = 0;
	x->unknown = false;
	if (!x->tree_len || x->tree_len > KVF_TREE_NAME_MAX)
		return -KVE_bad_name;
	if (!x->key_len)
		return -KVE_bad_key;
	e.ck = kvsck_new(io, opt, rep);
	if (!e.ck)
		return -KVE_no_memory;
	e.ck->hooks = &hooks;
	err = explain(&e);
	if (!err && e.found)
		err = ranges_take(&e, io);
	before = rep->problems;
	e.ck->hooks = &hooks;
	if (!err && e.found)
		err = explain_tree(&e);
	x->damage += rep->problems - before;
	answer(&e);
	kvsck_free(e.ck);
	free(e.before);
	free(e.after);
	return err;
}
