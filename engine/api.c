/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * api.c - trees, single operations and what concerns the whole volume. See include/kvengine.h.
 */
#include "range.h"
#include "kve_open.h"

const char *kv_version(void)
{
	return KV_VERSION_STRING;
}

const char *kv_strerror(int err)
{
	/* A class is described by its first code. */
	return err >= 0 ? "success" : kvf_err_text(-err * 100 + 1);
}

const char *kv_last_error(void)
{
	const char *text = kvp_error_text();

	return text ? text : "";
}

void kv_free(void *p)
{
	kvp_free(p);
}

struct kvp_dev *kve_device(struct kv_db *db)
{
	return db->dev;
}

struct kv_tree *kve_tree_of(struct kv_db *db, kv_tree *t)
{
	return t ? t : db->main;
}

/* ---- trees ----------------------------------------------------------------------------------- */

#define TREE_NAME_NEW 64u /* longest name of a new tree */

int kve_tree_name_check(struct kv_db *db, const char *name, bool create)
{
	size_t len = strlen(name);
	u32 most = KVF_MIN(create ? TREE_NAME_NEW : KVF_TREE_NAME_MAX,
			   db->geo.item_max - 1 - (u32)sizeof(struct kvf_tree_head));

	if (!len || len > most)
		return kve_fail(db, KVE_bad_name, "a name has 1 to %u bytes", most);
	if (kvf_tree_name_verify(name, (u32)len))
		return kve_fail(db, KVE_bad_name, "not UTF-8, or with control characters");
	return 0;
}

static int tree_make(struct kv_db *db, const char *name, bool new, kv_tree **out)
{
	struct kve_op op = { .kind = KVF_RECORD_TREE_CREATE, .key = name, .key_len = (u32)strlen(name),
			     .value = name };
	int err = kve_credits(db, false);
	u64 lsn;

	if (err)
		return err;
	kvp_gate_close(&db->writer);
	*out = kve_tree_find(db, name);
	if (*out && new) {
		err = kve_fail(db, KVE_tree_exists, "'%s'", name);
	} else if (!*out) {
		err = kve_tree_create(db, name, &op.tree);
		if (!err)
			err = kve_commit_locked(db, &op, 1, 0, &lsn);
		if (!err)
			err = kve_log_kill_safe(db);
		if (err && op.tree && !kve_tree_find(db, name))
			kvp_free(op.tree);
		*out = op.tree;
	}
	kvp_gate_open(&db->writer);
	return err;
}

int kv_tree_open(kv_db *db, const char *name, uint32_t flags, kv_tree **out)
{
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	if (!name)
		name = KVF_TREE_DEFAULT_NAME;
	err = kve_tree_name_check(db, name, flags & KV_TREE_CREATE);
	if (!err) {
		*out = kve_tree_find(db, name);
		if (*out && (flags & KV_TREE_NEW))
			err = kve_fail(db, KVE_tree_exists, "'%s'", name);
		else if (!*out && (flags & (KV_TREE_CREATE | KV_TREE_NEW)))
			err = (err = kve_enter(db, true)) ? err :
			      tree_make(db, name, flags & KV_TREE_NEW, out);
		else if (!*out)
			err = kve_fail(db, KVE_no_tree, "'%s'; 'kvs trees %s' lists them", name,
				       db->dev->name);
	}
	return kve_return(db, err);
}

int kv_tree_find(kv_db *db, const char *name, kv_tree **out)
{
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	*out = strlen(name) <= KVF_TREE_NAME_MAX ? kve_tree_find(db, name) : NULL;
	return *out ? 0 : KV_E_NOTFOUND;
}

int kv_tree_drop(kv_db *db, const char *name)
{
	struct kve_op op = { .kind = KVF_RECORD_TREE_DROP };
	int err = kve_enter(db, true);

	if (!name)
		name = KVF_TREE_DEFAULT_NAME;
	if (!err)
		err = kve_tree_name_check(db, name, false);
	if (!err && kve_tree_find(db, name) == db->main)
		err = kve_fail(db, KVE_bad_name, "'%s' always exists", name);
	if (!err) {
		op.key = op.value = name;
		op.key_len = (u32)strlen(name);
		op.tree = kve_tree_find(db, name);
		err = op.tree ? kve_commit(db, &op, 1, 0) : kve_fail(db, KVE_no_tree, "'%s'", name);
	}
	return kve_return(db, err);
}

int kve_name_compare(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (int)(u8)*a - (int)(u8)*b;
}

/* The next tree by name after *last. */
static struct kv_tree *tree_after(struct kv_db *db, const char *last)
{
	struct kv_tree *t, *best = NULL;

	kvp_rwsem_down_read(&db->tree_lock);
	for (t = db->trees; t; t = t->next)
		if (t->id >= KVF_TREE_USER && !t->dropped && (!last || kve_name_compare(t->name, last) > 0) &&
		    (!best || kve_name_compare(t->name, best->name) < 0))
			best = t;
	kvp_rwsem_up_read(&db->tree_lock);
	return best;
}

int kv_tree_list(kv_db *db, int (*fn)(void *arg, const char *name, uint64_t count), void *arg)
{
	struct kv_tree *t;
	const char *last = NULL;
	u64 n;
	int res = kve_enter(db, false);

	if (res)
		return kve_return(db, res);
	while (!res && (t = tree_after(db, last))) {
		res = kve_return(db, kve_tree_count(t, &n));
		if (!res)
			res = fn(arg, t->name, n);
		last = t->name;
	}
	return res;
}

int kv_count(kv_db *db, kv_tree *tree, uint64_t *count)
{
	struct kv_tree *t = kve_tree_of(db, tree);
	int err = kve_enter(db, false);
	u64 n = 0;

	/* A snapshot's count does not change. */
	if (!err && kvp_load(&t->dropped) && !t->snap)
		err = -KVE_no_tree;
	if (!err)
		err = kve_tree_count(t, &n);
	*count = n;
	return kve_return(db, err);
}

const char *kv_tree_name(const kv_tree *tree)
{
	return tree->name;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int put_large(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
		     size_t value_len, uint32_t flags)
{
	kv_writer *w;
	int err;

	if (flags & (KV_PUT_NEW | KV_PUT_REPLACE)) {
		err = kv_exists(db, tree, key, key_len, NULL);
		if (err && err != KV_E_NOTFOUND)
			return err;
		if (!err && (flags & KV_PUT_NEW))
			return kve_return(db, -KVE_exists);
		if (err && (flags & KV_PUT_REPLACE))
			return kve_return(db, -KVE_not_found);
	}
	err = kv_writer_open(db, tree, key, key_len, &w);
	if (err)
		return err;
	err = kv_writer_write(w, value, value_len);
	if (err) {
		kv_writer_abort(w);
		return err;
	}
	return kv_writer_commit(w, flags);
}

/* ticket: not waited for. */
static int put(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value, size_t value_len,
	       u32 flags, kv_ticket *ticket)
{
	struct kve_op op = { .kind = KVF_RECORD_PUT, .key = key, .value = value };
	int err = kve_enter(db, true);

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err)
		err = kve_flags_check(db, flags, KV_PUT_NEW | KV_PUT_REPLACE);
	if (!err && !value && value_len)
		err = -KVE_invalid;
	if (!err && ticket)
		err = kve_ticket_begin(db, &flags);
	if (err)
		return kve_return(db, err);
	if (value_len > db->geo.chunk_bytes) {
		err = put_large(db, tree, key, key_len, value, value_len, flags);
		return err || !ticket ? err : kv_sync_async(db, ticket);
	}
	if (!value)
		op.value = key; /* never read */
	op.tree = kve_tree_of(db, tree);
	op.key_len = (u32)key_len;
	op.value_len = (u32)value_len;
	err = kve_commit_ticket(db, &op, 1, flags, ticket);
	kvp_count_add(&db->puts, 1);
	return kve_return(db, err);
}

int kv_put(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value, size_t value_len,
	   uint32_t flags)
{
	return put(db, tree, key, key_len, value, value_len, flags, NULL);
}

int kv_put_async(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
		 size_t value_len, uint32_t flags, kv_ticket *t)
{
	kv_ticket own;

	return put(db, tree, key, key_len, value, value_len, flags, t ? t : &own);
}

static int del(kv_db *db, kv_tree *tree, const void *key, size_t key_len, u32 flags, kv_ticket *ticket)
{
	struct kve_op op = { .kind = KVF_RECORD_DELETE, .key = key, .value = key };
	int err = kve_enter(db, true);

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err)
		err = kve_flags_check(db, flags, 0);
	if (!err && ticket)
		err = kve_ticket_begin(db, &flags);
	if (err)
		return kve_return(db, err);
	op.tree = kve_tree_of(db, tree);
	op.key_len = (u32)key_len;
	err = op.tree->dropped ? -KVE_no_tree :
	      kve_commit_ticket(db, &op, 1, (flags & 0xf) | KV_PUT_REPLACE, ticket);
	kvp_count_add(&db->dels, 1);
	return kve_return(db, err);
}

int kv_del(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags)
{
	return del(db, tree, key, key_len, flags, NULL);
}

int kv_del_async(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags, kv_ticket *t)
{
	kv_ticket own;

	return del(db, tree, key, key_len, flags, t ? t : &own);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Value of an entry that was just found: buf has cap bytes and holds an inline value already. */
static int entry_value(struct kv_db *db, struct kv_tree *t, u64 gen, const void *key, u32 key_len,
		       const struct kve_entry *e, void *buf)
{
	if (e->flags & KVF_CELL_POISON)
		return kve_fail(db, KVE_corrupt_value, "%s", kvf_finding_text(KVF_F_value_poison));
	switch (e->flags & KVF_CELL_KIND) {
	case KVF_CELL_REF:
		return kve_value_get(db, t, &e->ref, key, key_len, buf, true);
	case KVF_CELL_OBJECT:
		return kve_object_read(t, gen, &e->object, 0, buf, (size_t)e->value_len);
	default:
		return 0;
	}
}

static bool same_entry(const struct kve_entry *a, const struct kve_entry *b)
{
	return a->flags == b->flags && a->value_len == b->value_len &&
	       !memcmp(&a->ref, &b->ref, sizeof(a->ref)) &&
	       !memcmp(&a->object, &b->object, sizeof(a->object));
}

/*
 * A separated value is read without lock. When that fails the key is looked up again: only if it still
 * says the same is the failure real.
 */
int kve_get_into(struct kv_db *db, struct kv_tree *t, u64 gen, const void *key, u32 len, void *buf,
		 size_t cap, size_t *value_len)
{
	struct kve_entry e, was = { .flags = 0xff };
	int err;

	for (;;) {
		err = kve_tree_get(t, gen, key, len, &e, buf, cap);
		if (err)
			return err;
		*value_len = (size_t)e.value_len;
		if (e.value_len > cap && !(e.flags & KVF_CELL_POISON))
			return -KVE_buffer_too_small;
		err = entry_value(db, t, gen, key, len, &e, buf);
		if (err == -KVE_restart && same_entry(&e, &was))
			err = kve_object_missing(db, &e.object);
		if (!err || err == -KVE_no_memory || gen != KVE_LIVE || same_entry(&e, &was))
			return err;
		was = e;
	}
}

static int get_alloc(struct kv_db *db, struct kv_tree *t, u64 gen, const void *key, u32 len, void **value,
		     size_t *value_len)
{
	size_t cap = db->geo.item_max;
	void *buf;
	int err;

	for (;;) {
		buf = kvp_alloc(cap + 1, 0);
		if (!buf)
			return -KVE_no_memory;
		err = kve_get_into(db, t, gen, key, len, buf, cap, value_len);
		if (!err) {
			*value = buf;
			return 0;
		}
		kvp_free(buf);
		if (err != -KVE_buffer_too_small)
			return err;
		cap = *value_len;
	}
}

static int get_begin(struct kv_db *db, struct kv_tree *t, const void *key, size_t key_len)
{
	int err = kve_enter(db, false);

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err && kvp_load(&t->dropped))
		err = -KVE_no_tree;
	kvp_count_add(&db->gets, 1);
	return err;
}

int kv_get(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void **value, size_t *value_len)
{
	struct kv_tree *t = kve_tree_of(db, tree);
	int err = get_begin(db, t, key, key_len);

	if (!err)
		err = get_alloc(db, t, KVE_LIVE, key, (u32)key_len, value, value_len);
	return kve_return(db, err);
}

int kv_get_into(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
		size_t *value_len)
{
	struct kv_tree *t = kve_tree_of(db, tree);
	int err = get_begin(db, t, key, key_len);

	if (!err)
		err = kve_get_into(db, t, KVE_LIVE, key, (u32)key_len, buf, cap, value_len);
	return kve_return(db, err);
}

int kv_exists(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint64_t *value_len)
{
	struct kv_tree *t = kve_tree_of(db, tree);
	struct kve_entry e;
	int err = get_begin(db, t, key, key_len);

	if (!err)
		err = kve_tree_get(t, KVE_LIVE, key, (u32)key_len, &e, NULL, 0);
	if (!err && value_len)
		*value_len = e.value_len;
	return kve_return(db, err);
}

int kv_read_begin(kv_db *db, kv_read **out)
{
	int err = kve_enter(db, false);

	if (!err)
		err = kve_read_begin(db, false, out);
	return kve_return(db, err);
}

void kv_read_end(kv_read *r)
{
	if (r)
		kve_read_end(r);
}

static int read_get_begin(kv_read *r, struct kv_tree *t, const void *key, size_t key_len)
{
	int err = kve_enter(r->db, false);

	if (!err && !t)
		err = -KVE_no_tree;
	if (!err)
		err = kve_key_check(r->db, key, key_len);
	return err ? err : kve_read_check(r);
}

int kv_read_get_into(kv_read *r, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
		     size_t *value_len)
{
	struct kv_tree *t = kve_read_tree(r->db, r, tree);
	int err = read_get_begin(r, t, key, key_len);

	if (!err)
		err = kve_read_done(r, kve_get_into(r->db, t, r->gen, key, (u32)key_len, buf, cap,
						    value_len));
	return kve_return(r->db, err);
}

int kv_read_get(kv_read *r, kv_tree *tree, const void *key, size_t key_len, void **value,
		size_t *value_len)
{
	struct kv_tree *t = kve_read_tree(r->db, r, tree);
	int err = read_get_begin(r, t, key, key_len);
	void *found;

	if (err)
		return kve_return(r->db, err);
	err = get_alloc(r->db, t, r->gen, key, (u32)key_len, &found, value_len);
	if (!err) {
		err = kve_read_done(r, 0);
		if (err)
			kvp_free(found);
		else
			*value = found;
	} else {
		err = kve_read_done(r, err);
	}
	return kve_return(r->db, err);
}

/* ---- the whole volume -------------------------------------------------------------------------- */

int kv_sync(kv_db *db)
{
	u64 lsn;
	int err = kve_enter(db, false);

	if (!err && !db->read_only) {
		kvp_mutex_lock(&db->log.append);
		lsn = db->log.filled_lsn;
		kvp_mutex_unlock(&db->log.append);
		err = kve_log_sync(db, lsn);
	}
	return kve_return(db, err);
}

int kv_checkpoint(kv_db *db)
{
	int err = kve_enter(db, true);

	if (!err) {
		kvp_gate_close(&db->writer);
		err = kve_super_mark(db);
		kvp_gate_open(&db->writer);
	}
	if (!err)
		err = kve_checkpoint(db, NULL, false, true);
	return kve_return(db, err);
}
