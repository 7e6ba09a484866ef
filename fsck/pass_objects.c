/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_objects.c - the tree of chunks, matched with the heads of large values.
 *
 * Heads are sorted by object id, chunks come in order of (id, number): one merge. Chunks without a head
 * are allowed while a row says that the object is pending (a stream not yet committed) or doomed (being
 * deleted).
 */
#include <stdlib.h>

#include "ck.h"

#define CHUNK_KEY 17u

struct match {
	size_t head;	 /* index of the head whose chunks are due */
	u64 next;	 /* number of the chunk that is due */
	u64 orphan;	 /* id that was reported last; objects start at 1 */
	bool bad;	 /* this head was reported */
};

static u64 tree_number(const void *p)
{
	return ((const struct kvsck_tree *)p)->id;
}

static u64 head_number(const void *p)
{
	return ((const struct kvsck_head *)p)->object;
}

static u64 mark_number(const void *p)
{
	return ((const struct kvsck_mark *)p)->object;
}

const struct kvsck_tree *kvsck_tree_by_id(const struct kvsck *ck, u32 id)
{
	size_t i = kvsck_array_find(&ck->trees, sizeof(struct kvsck_tree), tree_number, id);
	const struct kvsck_tree *t = ck->trees.p;

	return i < ck->trees.nr && t[i].id == id ? &t[i] : NULL;
}

/* The key that a head stands under: read its leaf again. Into ck->from; 0: not readable any more. */
u32 kvsck_head_key(struct kvsck *ck, const struct kvsck_head *h)
{
	struct kvf_page_expect e = { .uuid = ck->sb.uuid, .ref = NULL, .tree = h->tree, .level = 0 };

	if (kvsck_buf_reserve(&ck->twin, ck->g.frame) || kvsck_buf_reserve(&ck->from, ck->g.key_max) ||
	    kvsck_read(ck, h->leaf_block << ck->g.block_shift, ck->twin.p, h->leaf_bytes) ||
	    kvf_page_verify(ck->twin.p, h->leaf_bytes, h->leaf_block, &e, &ck->g) ||
	    h->slot >= le16_to_cpu(((const struct kvf_page *)ck->twin.p)->nr))
		return 0;
	return kvf_page_key(ck->twin.p, kvsck_page_open(ck, ck->twin.p, h->leaf_bytes), h->slot, ck->from.p);
}

const struct kvsck_head *kvsck_head_of(const struct kvsck *ck, u64 object)
{
	size_t i = kvsck_array_find(&ck->heads, sizeof(struct kvsck_head), head_number, object);
	const struct kvsck_head *h = ck->heads.p;

	return i < ck->heads.nr && h[i].object == object ? &h[i] : NULL;
}

/* One finding for each large value: the first thing that is wrong with it. */
static void bad_object(struct kvsck *ck, struct match *m, int code, u64 chunk, const char *what)
{
	const struct kvsck_head *h = (struct kvsck_head *)ck->heads.p + m->head;
	struct kvsck_where at = kvsck_at(ck, h->leaf_block << ck->g.block_shift);

	if (m->bad)
		return;
	m->bad = true;
	at.tree = kvsck_tree_by_id(ck, h->tree);
	at.from_len = kvsck_head_key(ck, h);
	at.from = ck->from.p;
	at.range = at.single = at.from_len != 0;
	kvsck_problem(ck, code, &at, "object %llu of %llu bytes, chunk %llu of %llu: %s", h->object,
		      h->length, chunk, kvsck_head_chunks(h), what);
}

static bool is_marked(const struct kvsck *ck, u64 object)
{
	size_t i = kvsck_array_find(&ck->marks, sizeof(struct kvsck_mark), mark_number, object);

	return i < ck->marks.nr && ((const struct kvsck_mark *)ck->marks.p)[i].object == object;
}

/* All heads below object have got their last chunk by now. */
static void finish_heads(struct kvsck *ck, struct match *m, u64 object)
{
	const struct kvsck_head *h = ck->heads.p;

	for (; m->head < ck->heads.nr && h[m->head].object < object; m->head++) {
		if (m->next < kvsck_head_chunks(&h[m->head]))
			bad_object(ck, m, KVF_F_object_missing, m->next, "is missing");
		else if (is_marked(ck, h[m->head].object))
			bad_object(ck, m, KVF_F_object_missing, 0, "its object is to be deleted");
		m->next = 0;
		m->bad = false;
	}
}

static void match_chunk(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e, u64 len)
{
	u64 object = kvf_get_be64(e->key + 1), chunk = kvf_get_be64(e->key + 9), due;
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	const struct kvsck_head *h = ck->heads.p;
	struct match *m = w->arg;

	finish_heads(ck, m, object);
	if (m->head == ck->heads.nr || h[m->head].object != object) {
		if (is_marked(ck, object) || m->orphan == object)
			return;
		m->orphan = object;
		/* a head may have been in a page that is lost */
		kvsck_problem(ck, KVF_F_object_orphan, &at, "object %llu", object);
		return;
	}
	h += m->head;
	if (chunk != m->next) {
		bad_object(ck, m, chunk > m->next ? KVF_F_object_missing : KVF_F_object_size, m->next,
			   "is missing");
		m->next = chunk;
	}
	due = chunk + 1 < kvsck_head_chunks(h) ? h->chunk_bytes : h->length - chunk * h->chunk_bytes;
	if (chunk >= kvsck_head_chunks(h))
		bad_object(ck, m, KVF_F_object_size, chunk, "lies behind the end");
	else if (len != due)
		bad_object(ck, m, KVF_F_object_size, chunk, "has the wrong size");
	m->next = chunk + 1;
}

static int by_object(const void *a, const void *b)
{
	u64 x = ((const struct kvsck_mark *)a)->object, y = ((const struct kvsck_mark *)b)->object;

	return x < y ? -1 : x > y;
}

static int add_mark(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvsck_mark *mark;

	if (e->key_len != 9 || e->body_len || (e->flags & KVF_CELL_KIND) != KVF_CELL_INLINE) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "malformed mark of an object");
		return 0;
	}
	mark = kvsck_array_add(&ck->marks, sizeof(*mark));
	if (!mark)
		return -KVE_no_memory;
	mark->object = kvf_get_be64(e->key + 1);
	return 0;
}

/* Marks sort before all chunks, each class in order of ids: merge the two classes once. */
static void sort_marks(struct kvsck *ck, struct kvsck_walk *w)
{
	if (!w->sorted && ck->marks.nr)
		qsort(ck->marks.p, ck->marks.nr, sizeof(struct kvsck_mark), by_object);
	w->sorted = true;
}

static int object_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);
	struct kvf_value_ref ref;
	u64 len = e->body_len;

	if (e->key[0] == KVF_OBJECT_PENDING || e->key[0] == KVF_OBJECT_DOOMED)
		return add_mark(ck, w, e);
	if (e->key[0] != KVF_OBJECT_CHUNK || e->key_len != CHUNK_KEY ||
	    (e->flags & KVF_CELL_KIND) == KVF_CELL_OBJECT) {
		kvsck_problem(ck, KVF_F_page_cell, &at, "neither chunk nor mark of an object");
		return 0;
	}
	if ((e->flags & KVF_CELL_KIND) == KVF_CELL_REF && e->body_len == sizeof(ref)) {
		memcpy(&ref, e->body, sizeof(ref));
		len = le32_to_cpu(ref.payload_len);
	}
	sort_marks(ck, w);
	match_chunk(ck, w, e, len);
	if (e->flags & KVF_CELL_POISON) {
		kvsck_problem(ck, KVF_F_value_poison, &at, "a chunk of a large value");
		return 0;
	}
	return (e->flags & KVF_CELL_KIND) == KVF_CELL_REF ? kvsck_value(ck, w, e) : 0;
}

static int heads_by_object(const void *a, const void *b)
{
	u64 x = ((const struct kvsck_head *)a)->object, y = ((const struct kvsck_head *)b)->object;

	return x < y ? -1 : x > y;
}

static void check_shared(struct kvsck *ck)
{
	const struct kvsck_head *h = ck->heads.p;
	struct kvsck_where at;
	size_t i;

	for (i = 1; i < ck->heads.nr; i++) {
		if (h[i].object != h[i - 1].object)
			continue;
		at = kvsck_at(ck, h[i].leaf_block << ck->g.block_shift);
		at.tree = kvsck_tree_by_id(ck, h[i].tree);
		at.from_len = kvsck_head_key(ck, &h[i]);
		at.from = ck->from.p;
		at.range = at.single = at.from_len != 0;
		kvsck_problem(ck, KVF_F_ref_shared, &at, "two keys head object %llu", h[i].object);
	}
}

/* Each object once: of heads that share one, the first is matched. */
static void unique_heads(struct kvsck *ck)
{
	struct kvsck_head *h = ck->heads.p;
	size_t i, n = 0;

	for (i = 0; i < ck->heads.nr; i++)
		if (!n || h[n - 1].object != h[i].object)
			h[n++] = h[i];
	ck->heads.nr = n;
}

int kvsck_pass_objects(struct kvsck *ck)
{
	static const struct kvf_ref none;
	const struct kvsck_tree *t = kvsck_tree_by_id(ck, KVF_TREE_OBJECTS);
	struct match m = { .head = 0 };
	struct kvsck_walk w = { .tree = t, .entry = object_entry, .arg = &m };
	static const struct kvsck_tree absent = { .id = KVF_TREE_OBJECTS };
	int err;

	if (ck->heads.nr) {
		qsort(ck->heads.p, ck->heads.nr, sizeof(struct kvsck_head), heads_by_object);
		check_shared(ck);
		unique_heads(ck);
	}
	if (!t)
		w.tree = &absent;
	err = kvsck_walk_tree(ck, &w, t ? &t->head.root : &none);
	if (err)
		return err;
	sort_marks(ck, &w);
	finish_heads(ck, &m, ~0ull);
	kvsck_check_count(ck, &w);
	return 0;
}
