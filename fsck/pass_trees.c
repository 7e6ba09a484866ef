/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_trees.c - every tree that the forest names but that of the chunks: pages, cells, counts, values.
 */
#include "ck.h"

static int add_head(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvsck_head *h;
	struct kvsck_mark *mark;
	struct kvf_object o;
	u64 object;

	if (e->body_len != sizeof(o)) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "head of a large value with %u bytes",
			      e->body_len);
		return 0;
	}
	memcpy(&o, e->body, sizeof(o));
	object = le64_to_cpu(o.object);
	if (!object || object >= le64_to_cpu(ck->sb.next_object) || o.chunk_bytes == cpu_to_le32(0) ||
	    o.reserved != cpu_to_le32(0)) {
		kvsck_problem(ck, KVF_F_object_size, &at, "object %llu, %llu bytes in chunks of %u", object,
			      le64_to_cpu(o.length), le32_to_cpu(o.chunk_bytes));
		return 0;
	}
	/* Its chunks are in the objects tree of the origin. */
	if (object < le64_to_cpu(w->tree->head.origin_object))
		return 0;
	if (kvsck_hidden(ck, w, e)) {
		/* As if a row said so: its chunks are on their way. */
		mark = kvsck_array_add(&ck->marks, sizeof(*mark));
		if (mark)
			mark->object = object;
		return mark ? 0 : -KVE_no_memory;
	}
	h = kvsck_array_add(&ck->heads, sizeof(*h));
	if (!h)
		return -KVE_no_memory;
	h->object = object;
	h->length = le64_to_cpu(o.length);
	h->chunk_bytes = le32_to_cpu(o.chunk_bytes);
	h->tree = w->tree->id;
	h->leaf_block = e->leaf->addr;
	h->leaf_bytes = e->leaf->bytes;
	h->slot = e->slot;
	ck->rep->objects++;
	return 0;
}

static int tree_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at;

	if (e->flags & KVF_CELL_POISON) {
		at = kvsck_at_entry(ck, w, e);
		kvsck_problem(ck, KVF_F_value_poison, &at, "%s", "");
	}
	switch (e->flags & KVF_CELL_KIND) {
	case KVF_CELL_REF:
		return e->flags & KVF_CELL_POISON ? 0 : kvsck_value(ck, w, e);
	case KVF_CELL_OBJECT:
		return add_head(ck, w, e);
	case KVF_CELL_INLINE:
		return 0;
	}
	at = kvsck_at_entry(ck, w, e);
	kvsck_problem(ck, KVF_F_page_cell, &at, "cell of unknown kind");
	return 0;
}

int kvsck_pass_trees(struct kvsck *ck)
{
	const struct kvsck_tree *t = ck->trees.p;
	struct kvsck_walk w;
	int err = 0;
	size_t i;

	for (i = 0; i < ck->trees.nr && !err; i++) {
		if (t[i].id == KVF_TREE_OBJECTS)
			continue;
		memset(&w, 0, sizeof(w));
		w.tree = &t[i];
		w.twin_leaves = t[i].head.redundancy != 0;
		w.entry = tree_entry;
		err = kvsck_walk_tree(ck, &w, &t[i].head.root);
		if (err)
			break;
		if (!t[i].doomed) {
			kvsck_check_count(ck, &w);
			ck->rep->trees++;
			ck->rep->entries += w.entries;
		}
	}
	return err;
}
