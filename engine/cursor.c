/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cursor.c - ordered iteration over a frozen state.
 *
 * A cursor copies the leaf that it stands in, so that stepping within it needs no lock; the next leaf is
 * found through the fences. Every step is bounded by the cursor's range.
 */
#include "cursor.h"

#define LEAVES_RUN 8 /* enough to know a long scan */

int kv_cursor_open(kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out)
{
	int err = kve_enter(db, false);

	/* A frozen state may still show a tree that has been dropped since. */
	if (!err && !r && kvp_load(&kve_tree_of(db, tree)->dropped))
		err = -KVE_no_tree;
	return err ? kve_return(db, err) : kve_cursor_open(db, r, tree, out);
}

int kve_cursor_open(struct kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out)
{
	struct kv_cursor *c;
	int err = kve_enter(db, false);

	if (!err && !kve_read_tree(db, r, tree))
		err = -KVE_no_tree;
	if (err)
		return kve_return(db, err);
	c = kvp_alloc(sizeof(*c), KVP_ZERO);
	if (!c)
		return kve_return(db, -KVE_no_memory);
	c->db = db;
	c->frame = db->geo.frame;
	c->tree = kve_read_tree(db, r, tree);
	c->read = r;
	c->page = kvp_iobuf_alloc(db->geo.frame);
	c->key = kvp_alloc(3 * (size_t)db->geo.key_max + 3, 0);
	err = c->page && c->key ? 0 : -KVE_no_memory;
	if (!err && !r) {
		err = kve_read_begin(db, true, &c->read);
		c->own_read = !err;
	}
	if (err) {
		kvp_iobuf_free(c->page, db->geo.frame);
		kvp_free(c->key);
		kvp_free(c);
		return kve_return(db, err);
	}
	c->from = c->key + db->geo.key_max + 1;
	c->to = c->from + db->geo.key_max + 1;
	c->read->uses++;
	*out = c;
	return 0;
}

void kv_cursor_close(kv_cursor *c)
{
	if (!c)
		return;
	c->read->uses--;
	if (c->own_read)
		kve_read_end(c->read);
	kve_values_unpin(c->db, &c->pin);
	kvp_iobuf_free(c->page, c->frame);
	kvp_free(c->key);
	kvp_free(c->value);
	kve_ahead_free(c->scan.ahead);
	kvp_free(c);
}

int kv_cursor_bounds(kv_cursor *c, const void *from, size_t from_len, const void *to, size_t to_len)
{
	int err = kve_enter(c->db, false);

	if (!err && (from_len > c->db->geo.key_max || to_len > c->db->geo.key_max))
		err = -KVE_key_too_long;
	if (err)
		return kve_return(c->db, err);
	if (from)
		memcpy(c->from, from, from_len);
	if (to)
		memcpy(c->to, to, to_len);
	c->from_len = from ? (u32)from_len : 0;
	c->to_len = to ? (u32)to_len : 0;
	c->valid = false;
	return 0;
}

/* Leaves to be read when one is missing: more and more, once a scan has passed a few. */
static int leaves_ahead(int run)
{
	int n = run < 0 ? -run : run;

	n = n < 2 ? 1 : 1 << KVF_MIN(n - 1, 3);
	return run < 0 ? -n : n;
}

/*
 * While the entries of one leaf are handed out the next one is on its way into the processor's cache, a few
 * lines with each step. How much of that is in use nobody has looked at: as much as in this one. All this is
 * advice, for whatever the frame is by then.
 */
static void beside_begin(kv_cursor *c)
{
	u32 low = (u32)(sizeof(struct kvf_page) + c->nr * sizeof(struct kvf_slot));
	u32 heap = le32_to_cpu(((struct kvf_page *)c->page)->heap);

	c->low = KVF_ROUND_UP(low, KVE_LINE);
	c->high = KVF_MAX(KVF_ROUND_DOWN(c->frame - heap, KVE_LINE), c->low);
	c->asked = 0;
	c->pace = c->nr ? (c->low + c->frame - c->high) / c->nr / KVE_LINE + 1 : 0;
	if (c->beside)
		kvp_prefetch(c->beside);
}

static void beside_ask(kv_cursor *c)
{
	const u8 *page = kvp_load(&c->beside->page);
	u32 i;

	for (i = 0; page && i < c->pace && c->asked < c->frame; i++) {
		kvp_prefetch(page + c->asked);
		c->asked += KVE_LINE;
		if (c->asked == c->low)
			c->asked = c->high;
	}
}

/* Copy a leaf; what all of its entries have in common is found out once. */
static int leaf_copy(kv_cursor *c, enum kve_seek seek, const void *key, u32 len)
{
	int err, leaves = leaves_ahead(c->run);
	const u8 *lower, *upper;
	u32 lower_len, upper_len, i;

	if (c->down && leaves > 0)
		leaves = -leaves;
	err = kve_leaf_scan(c->tree, c->read->gen, seek, key, len, c->page, leaves, &c->beside);
	if (err)
		return err;
	kve_scan_leaf(&c->scan, KVE_NOWHERE);
	c->nr = kve_node_nr(c->page);
	beside_begin(c);
	lower = kvf_page_lower(c->page, c->frame, &lower_len);
	upper = kvf_page_upper(c->page, c->frame, &upper_len);
	c->from_inside = !c->from_len ||
			 (lower && kvf_key_compare(lower, lower_len, c->from, c->from_len) >= 0);
	c->to_inside = !c->to_len || (upper && kvf_key_compare(upper, upper_len, c->to, c->to_len) <= 0);
	c->prefix_len = le16_to_cpu(((struct kvf_page *)c->page)->prefix_len);
	if (c->prefix_len)
		memcpy(c->key, lower, c->prefix_len);
	for (i = 0; i < KVE_HASHED; i++)
		c->hashed[i].slot = ~0u;
	return 0;
}

/* Without a call for what is mostly short: two words that overlap. */
KVP_INLINE void suffix_copy(u8 *to, const u8 *from, u32 len)
{
	if (kvp_unlikely(len - 8 > 8)) {
		memcpy(to, from, len);
		return;
	}
	memcpy(to, from, 8);
	memcpy(to + len - 8, from + len - 8, 8);
}

/* The slot is the position, if it is within the bounds. */
KVP_INLINE int settle(kv_cursor *c)
{
	u32 len = le16_to_cpu(kvf_page_slots(c->page)[c->slot].suffix_len);
	const struct kvf_item *item = kvf_page_item(c->page, c->frame, c->slot);

	c->valid = false;
	suffix_copy(c->key + c->prefix_len, (const u8 *)(item + 1), len);
	c->key_len = c->prefix_len + len;
	c->cell = (const u8 *)(item + 1) + len;
	c->cell_len = le16_to_cpu(item->cell_len);
	c->cell_flags = item->flags;
	c->pinned = NULL;
	if (kvp_unlikely(!c->from_inside) && kvf_key_compare(c->key, c->key_len, c->from, c->from_len) < 0)
		return -KVE_not_found;
	if (kvp_unlikely(!c->to_inside) && kvf_key_compare(c->key, c->key_len, c->to, c->to_len) >= 0)
		return -KVE_not_found;
	c->valid = true;
	return 0;
}

/* A step to the slot beside, in the copy that the cursor has: nothing can have happened to it. */
KVP_INLINE bool step_inside(kv_cursor *c, u32 slot)
{
	if (!c->valid || slot >= c->nr || !kvp_process_is(c->db->process) || kvp_load(&c->read->expired))
		return false;
	c->slot = slot;
	if (c->beside)
		beside_ask(c);
	return !settle(c);
}

u64 kve_cursor_gen(const struct kv_cursor *c)
{
	return c->read->gen;
}

/*
 * The leaf of key, on the way upwards. When it cannot be read, the next step goes on behind it: so one
 * damaged page costs a scan its entries and one error, nothing more.
 */
static int leaf_forward(kv_cursor *c, const void *key, u32 len)
{
	int err = leaf_copy(c, KVE_SEEK_KEY, key, len);

	c->damaged = false;
	if (!err || err == -KVE_not_found || err == -KVE_no_memory)
		return err;
	c->resume_len = 0;
	/* The key stands in c->key or in the caller's hands: the end of the damage goes to c->key. */
	if (!kve_damage_end(c->tree, c->read->gen, key, len, c->key, &c->resume_len))
		c->damaged = true;
	return err;
}

/* To the first entry of the next leaf that has one. */
static int leaf_next(kv_cursor *c)
{
	const u8 *upper;
	u32 len;
	int err;

	for (;;) {
		upper = kvf_page_upper(c->page, c->frame, &len);
		if (!upper)
			return -KVE_not_found;
		memcpy(c->key, upper, len);
		c->down = false;
		c->run = c->run < 0 ? 1 : c->run + (c->run < LEAVES_RUN);
		err = leaf_forward(c, c->key, len);
		if (err)
			return err;
		kve_scan_leaf(&c->scan, -1);
		c->slot = 0;
		if (c->nr)
			return settle(c);
	}
}

static int leaf_prev(kv_cursor *c)
{
	const u8 *lower;
	u32 len;
	int err;

	for (;;) {
		lower = kvf_page_lower(c->page, c->frame, &len);
		if (!lower)
			return -KVE_not_found;
		memcpy(c->key, lower, len);
		c->down = true;
		c->run = c->run > 0 ? -1 : c->run - (c->run > -LEAVES_RUN);
		err = leaf_copy(c, KVE_SEEK_BEFORE, c->key, len);
		if (err)
			return err;
		kve_scan_leaf(&c->scan, (s32)c->nr);
		if (c->nr) {
			c->slot = c->nr - 1;
			return settle(c);
		}
	}
}

static int move_begin(kv_cursor *c)
{
	int err = kve_enter(c->db, false);

	c->valid = false;
	return err ? err : kve_read_check(c->read);
}

/* To a place of the caller's choice. */
static int seek_begin(kv_cursor *c)
{
	c->run = 0;
	return move_begin(c);
}

static int move_end(kv_cursor *c, int err)
{
	err = kve_read_done(c->read, err);
	if (err)
		c->valid = false;
	return kve_return(c->db, err);
}

static int seek_ge(kv_cursor *c, const void *key, u32 len)
{
	bool exact;
	int err;

	c->down = false;
	err = leaf_forward(c, key, len);
	if (err)
		return err;
	c->slot = kve_node_search(c->page, c->frame, key, len, &exact);
	return c->slot < c->nr ? settle(c) : leaf_next(c);
}

/* Last entry < key (or <= key). */
static int seek_below(kv_cursor *c, const void *key, u32 len, bool equal)
{
	bool exact;
	u32 i;
	int err;

	c->down = true;
	err = leaf_copy(c, equal ? KVE_SEEK_KEY : KVE_SEEK_BEFORE, key, len);
	if (err)
		return err;
	i = kve_node_search(c->page, c->frame, key, len, &exact);
	if (equal && exact)
		i++;
	if (!i)
		return leaf_prev(c);
	c->slot = i - 1;
	return settle(c);
}

int kv_cursor_first(kv_cursor *c)
{
	int err = seek_begin(c);

	if (!err)
		err = seek_ge(c, c->from, c->from_len);
	return move_end(c, err);
}

int kv_cursor_last(kv_cursor *c)
{
	int err = seek_begin(c);

	if (!err && c->to_len) {
		err = seek_below(c, c->to, c->to_len, false);
	} else if (!err) {
		c->down = true;
		err = leaf_copy(c, KVE_SEEK_LAST, NULL, 0);
		if (!err && c->nr) {
			c->slot = c->nr - 1;
			err = settle(c);
		} else if (!err) {
			err = leaf_prev(c);
		}
	}
	return move_end(c, err);
}

int kv_cursor_seek(kv_cursor *c, const void *key, size_t key_len)
{
	int err = seek_begin(c);

	if (!err && key_len > c->db->geo.key_max)
		err = -KVE_key_too_long;
	if (!err && c->from_len && kvf_key_compare(key, (u32)key_len, c->from, c->from_len) < 0)
		err = seek_ge(c, c->from, c->from_len);
	else if (!err)
		err = seek_ge(c, key, (u32)key_len);
	return move_end(c, err);
}

int kv_cursor_seek_le(kv_cursor *c, const void *key, size_t key_len)
{
	int err = seek_begin(c);

	if (!err && key_len > c->db->geo.key_max)
		err = -KVE_key_too_long;
	if (!err && c->to_len && kvf_key_compare(key, (u32)key_len, c->to, c->to_len) >= 0)
		err = seek_below(c, c->to, c->to_len, false);
	else if (!err)
		err = seek_below(c, key, (u32)key_len, true);
	return move_end(c, err);
}

/* Behind a damaged leaf. */
static int resume(kv_cursor *c)
{
	u32 len = c->resume_len;
	int err;

	c->damaged = false;
	if (!len)
		return -KVE_not_found;
	err = leaf_forward(c, c->key, len);
	if (err)
		return err;
	c->slot = 0;
	return c->nr ? settle(c) : leaf_next(c);
}

int kv_cursor_next(kv_cursor *c)
{
	bool was = c->valid;
	u32 slot = c->slot;
	int err;

	if (kvp_likely(step_inside(c, slot + 1)))
		return 0;
	err = move_begin(c);
	if (!err && c->damaged)
		err = resume(c);
	else if (!err && !was)
		err = kve_fail(c->db, KVE_invalid, "the cursor has no position");
	else if (!err && slot + 1 < c->nr)
		err = -KVE_not_found; /* the next one is behind the bound */
	else if (!err)
		err = leaf_next(c);
	return move_end(c, err);
}

int kv_cursor_prev(kv_cursor *c)
{
	bool was = c->valid;
	u32 slot = c->slot;
	int err;

	if (kvp_likely(step_inside(c, slot - 1)))
		return 0;
	err = move_begin(c);
	if (!err && !was)
		err = kve_fail(c->db, KVE_invalid, "the cursor has no position");
	else if (!err && slot)
		err = -KVE_not_found; /* the one before is below the bound */
	else if (!err)
		err = leaf_prev(c);
	return move_end(c, err);
}

/* ---- leaf by leaf: for diff.c ------------------------------------------------------------------------- */

int kve_cursor_leaf(kv_cursor *c, const void *key, u32 len, bool follows)
{
	bool exact;
	int err;

	c->valid = false;
	c->run = follows ? c->run + (c->run < LEAVES_RUN) : 0;
	err = leaf_copy(c, KVE_SEEK_KEY, key, len);
	c->slot = err ? 0 : kve_node_search(c->page, c->frame, key, len, &exact);
	if (err)
		c->nr = 0;
	return err;
}

bool kve_cursor_settle(kv_cursor *c)
{
	return c->slot < c->nr && !settle(c);
}

/* ---- what the cursor stands on ------------------------------------------------------------------- */

static int entry_at(kv_cursor *c, struct kve_entry *e, const u8 **value)
{
	int err = kve_enter(c->db, false);

	if (err)
		return err;
	if (!c->valid)
		return kve_fail(c->db, KVE_invalid, "the cursor has no position");
	kve_entry_decode(e, c->cell_flags, c->cell, c->cell_len, value);
	return 0;
}

static int poison_check(kv_cursor *c, const struct kve_entry *e)
{
	if (e->flags & KVF_CELL_POISON)
		return kve_fail(c->db, KVE_corrupt_value, "%s", kvf_finding_text(KVF_F_value_poison));
	return kve_read_check(c->read);
}

int kv_cursor_key(kv_cursor *c, const void **key, size_t *key_len)
{
	int err;

	if (kvp_likely(c->valid && kvp_process_is(c->db->process))) {
		*key = c->key;
		*key_len = c->key_len;
		return 0;
	}
	err = kve_enter(c->db, false);
	if (!err)
		err = kve_fail(c->db, KVE_invalid, "the cursor has no position");
	return kve_return(c->db, err);
}

int kv_cursor_value_len(kv_cursor *c, uint64_t *value_len)
{
	struct kve_entry e;
	const u8 *value;
	int err = entry_at(c, &e, &value);

	if (!err)
		*value_len = e.value_len;
	return kve_return(c->db, err);
}

static int value_room(kv_cursor *c, size_t bytes)
{
	if (c->value_cap >= bytes && c->value)
		return 0;
	kvp_free(c->value);
	c->value_cap = KVF_MAX(bytes, (size_t)4096);
	c->value = kvp_alloc(c->value_cap, 0);
	return c->value ? 0 : -KVE_no_memory;
}

/* Nothing to be looked at but the value. */
#define PLAIN(flags, kind) (((flags) & (KVF_CELL_KIND | KVF_CELL_EXT | KVF_CELL_POISON)) == (kind))

/* Is there a plain ref? A copy of it, as in a cell it stands anywhere. */
static bool ref_at(const kv_cursor *c, u32 slot, struct kvf_value_ref *ref)
{
	const u8 *cell;
	u8 flags;
	u32 len;

	if (slot >= c->nr)
		return false;
	cell = kvf_page_cell(c->page, c->frame, slot, &len, &flags);
	if (!PLAIN(flags, KVF_CELL_REF))
		return false;
	memcpy(ref, cell, sizeof(*ref));
	return true;
}

#define EXPECT_AHEAD 8u /* entries whose values are looked for before they are asked for */
#define NEAR_AHEAD 4u

static bool hash_known(const kv_cursor *c, u32 slot)
{
	return c->hashed[slot % KVE_HASHED].slot == slot;
}

/* Where the cache has the value of a slot; worked out once. */
static u64 hash_at(kv_cursor *c, u32 slot)
{
	u32 at = slot % KVE_HASHED;

	if (!hash_known(c, slot)) {
		c->hashed[at].slot = slot;
		c->hashed[at].hash = kve_value_hash_at(c->tree, c->page, slot);
	}
	return c->hashed[at].hash;
}

/*
 * A hit in the cache of values is two misses of the processor's, one behind the other: where the index leads,
 * and what is there. In a scan both are on their way before; those of the first entries side by side.
 */
static void values_ahead(kv_cursor *c)
{
	u32 step = c->scan.forward ? 1 : -1u, slot, i;
	bool first = !hash_known(c, c->slot + step);
	struct kvf_value_ref ref;

	for (i = first ? 1 : EXPECT_AHEAD; i <= EXPECT_AHEAD; i++) {
		slot = c->slot + step * i;
		if (ref_at(c, slot, &ref))
			kve_values_expect(c->db, hash_at(c, slot));
	}
	for (i = first ? 1 : NEAR_AHEAD; i <= NEAR_AHEAD; i++) {
		slot = c->slot + step * i;
		if (ref_at(c, slot, &ref))
			kve_values_near(c->db, hash_at(c, slot), le32_to_cpu(ref.payload_len));
	}
}

/* The value of a plain ref, read ahead or in the cache. */
static const void *value_near(kv_cursor *c, const struct kvf_value_ref *ref)
{
	const void *value = kve_ahead_value(&c->scan, c->slot);

	if (value || c->pinned)
		return value ? value : c->pinned;
	if (kve_ahead_due(&c->scan))
		values_ahead(c);
	c->pinned = kve_values_pin(c->db, hash_at(c, c->slot), ref, &c->pin);
	return c->pinned;
}

/* An inline value stands in the copy of the leaf, others mostly in the cache. */
KVP_INLINE bool value_inside(kv_cursor *c, const void **value, size_t *value_len)
{
	struct kvf_value_ref ref;

	if (!c->valid || !kvp_process_is(c->db->process) || kvp_load(&c->read->expired))
		return false;
	*value = c->cell;
	*value_len = c->cell_len;
	if (kvp_likely(PLAIN(c->cell_flags, KVF_CELL_INLINE)))
		return true;
	if (!PLAIN(c->cell_flags, KVF_CELL_REF))
		return false;
	memcpy(&ref, c->cell, sizeof(ref));
	*value_len = le32_to_cpu(ref.payload_len);
	*value = value_near(c, &ref);
	return *value != NULL;
}

/* First slot beyond the bound that the scan goes to. */
static u32 scan_end(const kv_cursor *c)
{
	u32 frame = c->frame;
	bool exact;

	if (c->scan.forward)
		return c->to_inside ? c->nr : kve_node_search(c->page, frame, c->to, c->to_len, &exact);
	return (c->from_inside ? 0 : kve_node_search(c->page, frame, c->from, c->from_len, &exact)) - 1;
}

/* A separated value: read ahead, in the cache, or to be read, with those that a scan will ask for. */
static int value_of_ref(kv_cursor *c, const struct kve_entry *e, const void **value)
{
	int err;

	*value = value_near(c, &e->ref);
	if (*value)
		return 0;
	err = value_room(c, (size_t)e->value_len);
	if (err)
		return err;
	*value = c->value;
	if (kve_values_get(c->db, hash_at(c, c->slot), &e->ref, c->value))
		return 0;
	if (kve_ahead_due(&c->scan)) {
		kve_ahead_read(c->db, c->tree, &c->scan, c->page, scan_end(c));
		*value = kve_ahead_value(&c->scan, c->slot);
		if (*value)
			return 0;
		*value = c->value;
	}
	return kve_value_get(c->db, c->tree, &e->ref, c->key, c->key_len, c->value, false);
}

int kv_cursor_value(kv_cursor *c, const void **value, size_t *value_len)
{
	struct kve_entry e;
	const u8 *bytes;
	int err;

	if (kvp_likely(value_inside(c, value, value_len)))
		return 0;
	err = entry_at(c, &e, &bytes);
	if (!err)
		err = poison_check(c, &e);
	if (err)
		return kve_return(c->db, err);
	*value_len = (size_t)e.value_len;
	*value = bytes;
	if ((e.flags & KVF_CELL_KIND) == KVF_CELL_INLINE)
		return 0;
	if (e.value_len > c->db->cache_bytes / 4)
		err = kve_fail(c->db, KVE_buffer_too_small, "a value of %llu bytes; read it as a stream",
			       e.value_len);
	if (!err && (e.flags & KVF_CELL_KIND) == KVF_CELL_REF) {
		err = value_of_ref(c, &e, value);
	} else if (!err) {
		err = value_room(c, (size_t)e.value_len);
		if (!err)
			err = kve_object_read(c->tree, c->read->gen, &e.object, 0, c->value,
					      (size_t)e.value_len);
		*value = c->value;
	}
	return kve_return(c->db, kve_read_done(c->read, err));
}

int kv_cursor_reader(kv_cursor *c, kv_reader **out, uint64_t *value_len)
{
	struct kve_entry e;
	const u8 *bytes;
	int err = entry_at(c, &e, &bytes);

	if (!err)
		err = poison_check(c, &e);
	if (!err)
		err = kve_reader_entry(c->db, c->read, c->tree, c->key, c->key_len, &e, bytes, out);
	if (!err && value_len)
		*value_len = e.value_len;
	return kve_return(c->db, err);
}
