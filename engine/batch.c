/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * batch.c - several changes as one transaction. Keys and values are copied to one growing buffer; the
 * operations are made from it at the commit.
 */
#include "kve.h"

struct item {
	struct kv_tree *tree;
	u64 key, value; /* offsets in the buffer */
	u32 key_len, value_len;
	u8 kind;
};

struct kv_batch {
	struct kv_db *db;
	struct item *items;
	u32 nr, cap;
	u8 *buf;
	u64 used, room;
};

int kv_batch_new(kv_db *db, kv_batch **out)
{
	struct kv_batch *b;
	int err = kve_enter(db, true);

	if (err)
		return kve_return(db, err);
	b = kvp_alloc(sizeof(*b), KVP_ZERO);
	if (!b)
		return kve_return(db, -KVE_no_memory);
	b->db = db;
	kvp_add(&db->handles, 1u);
	*out = b;
	return 0;
}

static int grow(struct kv_batch *b, u64 bytes)
{
	u64 room;
	u8 *buf;

	if (kvp_array_room(&b->items, &b->cap, b->nr, b->nr + 1, sizeof(*b->items)))
		return -KVE_no_memory;
	if (b->room - b->used >= bytes)
		return 0;
	room = KVF_MAX(b->used + bytes, b->room * 2 + 4096);
	buf = kvp_alloc((size_t)room, 0);
	if (!buf)
		return -KVE_no_memory;
	if (b->used)
		memcpy(buf, b->buf, (size_t)b->used);
	kvp_free(b->buf);
	b->buf = buf;
	b->room = room;
	return 0;
}

static int add(struct kv_batch *b, u8 kind, kv_tree *tree, const void *key, size_t key_len,
	       const void *value, size_t value_len)
{
	u64 most = KVF_MAX(b->db->cache_bytes / 4, 1ull << 20);
	struct item *it;
	int err = kve_enter(b->db, true);

	if (!err)
		err = kve_key_check(b->db, key, key_len);
	if (!err && !value && value_len)
		err = -KVE_invalid;
	if (!err && value_len > b->db->geo.chunk_bytes)
		err = kve_fail(b->db, KVE_value_too_long, "%zu bytes in a batch, at most %u", value_len,
			       b->db->geo.chunk_bytes);
	if (!err && b->used + key_len + value_len > most)
		err = kve_fail(b->db, KVE_txn_too_big, "more than %llu bytes; commit it in parts", most);
	if (!err)
		err = grow(b, key_len + value_len);
	if (err)
		return kve_return(b->db, err);
	it = &b->items[b->nr++];
	it->kind = kind;
	it->tree = kve_tree_of(b->db, tree);
	it->key = b->used;
	it->key_len = (u32)key_len;
	memcpy(b->buf + b->used, key, key_len);
	it->value = it->key + key_len;
	it->value_len = (u32)value_len;
	if (value_len)
		memcpy(b->buf + it->value, value, value_len);
	b->used += key_len + value_len;
	return 0;
}

int kv_batch_put(kv_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
		 size_t value_len)
{
	return add(b, KVF_RECORD_PUT, tree, key, key_len, value, value_len);
}

int kv_batch_del(kv_batch *b, kv_tree *tree, const void *key, size_t key_len)
{
	return add(b, KVF_RECORD_DELETE, tree, key, key_len, NULL, 0);
}

size_t kv_batch_count(const kv_batch *b)
{
	return b->nr;
}

void kv_batch_clear(kv_batch *b)
{
	b->nr = 0;
	b->used = 0;
}

/* ticket: not waited for. */
static int commit(kv_batch *b, u32 flags, kv_ticket *ticket)
{
	struct kv_db *db = b->db;
	struct kve_op *ops;
	u32 i;
	int err = kve_enter(db, true);

	if (!err)
		err = kve_flags_check(db, flags, 0);
	if (!err && ticket) {
		*ticket = 0;
		err = kve_ticket_begin(db, &flags);
	}
	/* A PUT is checked again under the writer lock; to delete from a dropped tree is harmless. */
	for (i = 0; !err && i < b->nr; i++)
		if (kvp_load(&b->items[i].tree->dropped))
			err = -KVE_no_tree;
	if (err || !b->nr)
		return kve_return(db, err);
	ops = kvp_alloc_array(b->nr, sizeof(*ops), KVP_ZERO);
	if (!ops)
		return kve_return(db, -KVE_no_memory);
	for (i = 0; i < b->nr; i++) {
		ops[i].kind = b->items[i].kind;
		ops[i].tree = b->items[i].tree;
		ops[i].key = b->buf + b->items[i].key;
		ops[i].key_len = b->items[i].key_len;
		ops[i].value = b->buf + b->items[i].value;
		ops[i].value_len = b->items[i].value_len;
	}
	err = kve_commit_ticket(db, ops, b->nr, flags & 0xf, ticket);
	kvp_free(ops);
	if (!err)
		kv_batch_clear(b);
	return kve_return(db, err);
}

int kv_batch_commit(kv_batch *b, uint32_t flags)
{
	return commit(b, flags, NULL);
}

int kv_batch_commit_async(kv_batch *b, uint32_t flags, kv_ticket *t)
{
	kv_ticket own;

	return commit(b, flags, t ? t : &own);
}

void kv_batch_free(kv_batch *b)
{
	if (!b)
		return;
	kvp_sub(&b->db->handles, 1u);
	kvp_free(b->items);
	kvp_free(b->buf);
	kvp_free(b);
}
