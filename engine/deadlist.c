/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * deadlist.c - what the live state has given up and named snapshots still refer to.
 *
 * A page whose birth, or a record whose LSN, is not after the newest snapshot does not become free when it
 * dies: it goes to a dead list. The list has two generations: that of the newest snapshot at that time, and
 * that of the oldest one that refers to it. As it was alive in between, it is needed as long as any snapshot
 * from the oldest to the newest of the two exists, whatever becomes of the others: so an entry never moves,
 * and deleting a snapshot frees just those entries that have no snapshot in between any more.
 *
 * Pages are listed one by one. Of records it is enough to know how many bytes of a segment they are: its
 * pinned bytes. Rows are written by checkpoints; what died in memory waits for the next one.
 */
#include "kve.h"

#define RELEASE_ROWS 512u /* at most freed by one checkpoint; the next goes on */

/* ---- who refers to what: space lock -------------------------------------------------------------- */

/* GC moves nothing that a snapshot sees, so what is alive and that old stands where the snapshot has it. */
bool kve_snapshot_sees(const struct kve_space *sp, u64 lsn)
{
	return sp->sights && lsn <= sp->sight[sp->sights - 1].lsn;
}

u64 kve_snapshot_lsn(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	u64 lsn;

	kvp_mutex_lock(&sp->lock);
	lsn = sp->sights ? sp->sight[sp->sights - 1].lsn : 0;
	kvp_mutex_unlock(&sp->lock);
	return lsn;
}

/* The oldest snapshot that shows what was born in that generation; the caller knows of one. */
static u64 oldest_of_birth(const struct kve_space *sp, u64 birth)
{
	u32 low = 0, high = sp->sights - 1, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (sp->sight[mid].gen >= birth)
			high = mid;
		else
			low = mid + 1;
	}
	return sp->sight[low].gen;
}

static u64 oldest_of_record(const struct kve_space *sp, u64 lsn)
{
	u32 low = 0, high = sp->sights - 1, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (sp->sight[mid].lsn >= lsn)
			high = mid;
		else
			low = mid + 1;
	}
	return sp->sight[low].gen;
}

/* The newest snapshot before generation gen, 0: none. */
static u64 newest_before(const struct kve_space *sp, u64 gen)
{
	u32 i = sp->sights;

	while (i && sp->sight[i - 1].gen >= gen)
		i--;
	return i ? sp->sight[i - 1].gen : 0;
}

/* ---- records that die ------------------------------------------------------------------------------ */

/* Space lock. */
static int dead_room(struct kve_dead_items *d, u32 nr)
{
	return kvp_array_room(&d->item, &d->cap, d->nr, nr, sizeof(*d->item));
}

int kve_dead_promise(struct kv_db *db, u32 n)
{
	struct kve_space *sp = &db->space;
	int err;

	/* Neither comes nor goes while a change is under way: the writer lock is shared or closed. */
	if (!kvp_load(&sp->sights))
		return 0;
	kvp_mutex_lock(&sp->lock);
	err = dead_room(&sp->dead, sp->dead.nr + sp->dead_promised + n);
	if (!err)
		sp->dead_promised += n;
	kvp_mutex_unlock(&sp->lock);
	return err;
}

void kve_dead_done(struct kv_db *db, u32 n)
{
	struct kve_space *sp = &db->space;

	if (!kvp_load(&sp->sights))
		return;
	kvp_mutex_lock(&sp->lock);
	sp->dead_promised -= n;
	kvp_mutex_unlock(&sp->lock);
}

void kve_dead_pin(struct kv_db *db, u32 segment, u64 lsn, u32 bytes)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s = &sp->seg[segment];
	u64 oldest = oldest_of_record(sp, lsn);
	struct kve_dead *d;

	if (KVP_BUG("snap-pinned-forgotten"))
		return;
	s->pinned += bytes;
	sp->pinned_bytes += bytes;
	/* The entry of the last record that died there, most of the time. */
	if (s->dead_at < sp->dead.nr) {
		d = &sp->dead.item[s->dead_at];
		if (d->segment == segment && d->oldest == oldest) {
			d->bytes += bytes;
			return;
		}
	}
	KVP_ASSERT(sp->dead.nr < sp->dead.cap);
	s->dead_at = sp->dead.nr++;
	d = &sp->dead.item[s->dead_at];
	d->segment = segment;
	d->bytes = bytes;
	d->oldest = oldest;
}

int kve_dead_freeze(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	struct kve_dead_items tmp;
	int err = 0;

	kvp_mutex_lock(&sp->lock);
	if (!sp->dead_frozen.nr) {
		tmp = sp->dead_frozen;
		sp->dead_frozen = sp->dead;
		sp->dead = tmp;
	} else {
		/* Of a checkpoint that failed. */
		err = dead_room(&sp->dead_frozen, sp->dead_frozen.nr + sp->dead.nr);
		if (!err && sp->dead.nr) {
			memcpy(sp->dead_frozen.item + sp->dead_frozen.nr, sp->dead.item,
			       sp->dead.nr * sizeof(*sp->dead.item));
			sp->dead_frozen.nr += sp->dead.nr;
			sp->dead.nr = 0;
		}
	}
	kvp_mutex_unlock(&sp->lock);
	return err;
}

/* A number of bytes of records, as opposed to a page. */
static bool is_records(const struct kvf_free *it)
{
	return it->block == cpu_to_le32(0);
}

static u64 item_bytes(const struct kv_db *db, const struct kvf_free *it)
{
	return is_records(it) ? le32_to_cpu(it->blocks) : (u64)le32_to_cpu(it->blocks) << db->geo.block_shift;
}

/* Nobody refers to these records any more. Space lock. */
static void unpin(struct kv_db *db, u32 segment, u32 bytes)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s = &sp->seg[segment];
	u64 n = KVF_MIN((u64)bytes, s->pinned); /* the table understated: fsck reports it */

	s->pinned -= n;
	s->pinned_frozen -= KVF_MIN((u64)bytes, s->pinned_frozen);
	s->row_dirty = true;
	sp->pinned_bytes -= n;
	kvp_store(&sp->freed_total, sp->freed_total + n);
}

/* ---- gathering: checkpoint lock ------------------------------------------------------------------- */

/* Pages that died in the batch's generation: those that snapshots before it show go to lists. Space lock. */
static void batch_split(struct kv_db *db, struct kve_free_batch *b)
{
	struct kve_space *sp = &db->space;
	u64 newest = newest_before(sp, b->gen), birth, bytes;
	u32 i, kept = 0;

	for (i = 0; i < b->list.nr; i++) {
		struct kvf_free it = b->list.items[i];

		birth = le64_to_cpu(it.birth);
		if (!birth || birth > newest || KVP_BUG("snap-freed-early")) {
			b->list.items[kept++] = it;
			continue;
		}
		bytes = item_bytes(db, &it);
		sp->pending_bytes -= bytes;
		sp->held_bytes += bytes;
		sp->listing[sp->listing_nr].list = newest;
		sp->listing[sp->listing_nr].oldest = oldest_of_birth(sp, birth);
		sp->listing[sp->listing_nr++].it = it;
	}
	b->list.nr = kept;
	b->split = true;
}

/* Space lock. */
static void dead_gather(struct kv_db *db, u64 gen)
{
	struct kve_space *sp = &db->space;
	u64 newest = newest_before(sp, gen);
	struct kve_listed *l;
	u32 i;

	for (i = 0; i < sp->dead_frozen.nr; i++) {
		const struct kve_dead *d = &sp->dead_frozen.item[i];

		/* The snapshots that referred to it were deleted meanwhile. */
		if (d->oldest > newest) {
			unpin(db, d->segment, d->bytes);
			continue;
		}
		l = &sp->listing[sp->listing_nr++];
		memset(l, 0, sizeof(*l));
		l->list = newest;
		l->oldest = d->oldest;
		l->it.segment = cpu_to_le32(d->segment);
		l->it.blocks = cpu_to_le32(d->bytes);
	}
	sp->dead_frozen.nr = 0;
}

static int gather(struct kv_db *db, u64 gen)
{
	struct kve_space *sp = &db->space;
	struct kve_free_batch *b;
	u64 more = 0;
	int err;

	kvp_mutex_lock(&sp->lock);
	for (b = sp->batches; b; b = b->next)
		more += b->split || !sp->sights ? 0 : b->list.nr;
	more += sp->dead_frozen.nr;
	err = more > 0x7fffffff - sp->listing_nr ? -KVE_no_memory :
	      kvp_array_room(&sp->listing, &sp->listing_cap, sp->listing_nr, sp->listing_nr + (u32)more,
			     sizeof(*sp->listing));
	if (!err) {
		for (b = sp->batches; b; b = b->next)
			if (!b->split)
				batch_split(db, b);
		dead_gather(db, gen);
	}
	kvp_mutex_unlock(&sp->lock);
	return err;
}

static bool listed_before(const struct kve_listed *a, const struct kve_listed *b)
{
	return a->list != b->list ? a->list < b->list : a->oldest < b->oldest;
}

/* Shell's sort: there are few lists, so what is equal stays together soon. */
static void listing_sort(struct kve_space *sp)
{
	struct kve_listed *l = sp->listing, tmp;
	u32 gap, i, k;

	for (gap = sp->listing_nr / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11)
		for (i = gap; i < sp->listing_nr; i++) {
			tmp = l[i];
			for (k = i; k >= gap && listed_before(&tmp, &l[k - gap]); k -= gap)
				l[k] = l[k - gap];
			l[k] = tmp;
		}
}

/* ---- rows: checkpoint lock -------------------------------------------------------------------------- */

static void list_key(u8 *key, u64 list, u64 oldest, u32 nr)
{
	key[0] = KVF_SEGTAB_LIST;
	kvf_put_be64(key + 1, list);
	kvf_put_be64(key + 9, oldest);
	kvf_put_be32(key + 17, nr);
}

/* The slot, and the leaf, of the last key before `key`, which is changed: empty leaves may be in between. */
static int leaf_before(struct kv_db *db, u8 *key, u32 len, u8 *page, u32 *slot)
{
	const u8 *lower;
	bool exact;
	int err;

	for (;;) {
		err = kve_leaf_copy(db->segtab, KVE_LIVE, KVE_SEEK_BEFORE, key, len, page, 1);
		if (err)
			return err;
		*slot = kve_node_search(page, db->geo.frame, key, len, &exact);
		if (*slot)
			break;
		lower = kvf_page_lower(page, db->geo.frame, &len);
		if (!lower || KVP_BUG("snap-list-overwritten"))
			return -KVE_not_found;
		memcpy(key, lower, len);
	}
	--*slot;
	return 0;
}

/* The last row of the list so far: its number, and what is in it. -KVE_not_found: there is none. */
static int row_last(struct kv_db *db, u64 list, u64 oldest, u8 *page, u32 *nr, const u8 **items, u32 *len)
{
	u8 begin[KVE_LIST_KEY], *found = kvp_alloc(db->geo.key_max, 0);
	u32 i = 0, found_len = 0;
	u8 flags;
	int err;

	if (!found)
		return -KVE_no_memory;
	list_key(begin, list, oldest, 0);
	list_key(found, list, oldest, 0xffffffff);
	err = leaf_before(db, found, KVE_LIST_KEY, page, &i);
	if (!err)
		found_len = kvf_page_key(page, db->geo.frame, i, found);
	if (!err && (found_len != KVE_LIST_KEY || memcmp(found, begin, KVE_LIST_KEY - 4)))
		err = -KVE_not_found;
	if (!err) {
		*nr = kvf_get_be32(found + 17);
		*items = kvf_page_cell(page, db->geo.frame, i, len, &flags);
	}
	kvp_free(found);
	return err;
}

/* Up to per entries of one list; the last row is filled first. Returns how many, or an error. */
static int row_put(struct kv_db *db, const struct kve_listed *l, u32 n, u32 per, u8 *page,
		   struct kvf_free *row)
{
	const u8 *items = NULL;
	u32 nr = 0, len = 0, had, i;
	u8 key[KVE_LIST_KEY];
	int err;

	err = row_last(db, l->list, l->oldest, page, &nr, &items, &len);
	if (err && err != -KVE_not_found)
		return err;
	had = err ? 0 : len / (u32)sizeof(*row);
	if (had >= per) {
		nr++;
		had = 0;
	} else if (had) {
		memcpy(row, items, had * sizeof(*row));
	}
	if (err)
		nr = 0;
	n = KVF_MIN(n, per - had);
	for (i = 0; i < n; i++)
		row[had + i] = l[i].it;
	list_key(key, l->list, l->oldest, nr);
	err = kve_tree_put(db->segtab, key, sizeof(key), row, (had + n) * (u32)sizeof(*row));
	return err ? err : (int)n;
}

/* From the end of the listing, so that what has a row is done with. */
static int listing_write(struct kv_db *db, u8 *page)
{
	u32 per = (db->geo.item_max - KVE_LIST_KEY - 3) / (u32)sizeof(struct kvf_free), n;
	struct kvf_free *row = kvp_alloc_array(per, sizeof(*row), 0);
	struct kve_space *sp = &db->space;
	const struct kve_listed *last;
	int done = row ? 0 : -KVE_no_memory;

	while (done >= 0 && sp->listing_nr) {
		if (KVP_BUG("snap-dead-list-lost"))
			sp->listing_nr--;
		if (!sp->listing_nr)
			break;
		last = &sp->listing[sp->listing_nr - 1];
		for (n = 1; n < per && n < sp->listing_nr; n++)
			if (listed_before(last - n, last))
				break;
		done = row_put(db, last + 1 - n, n, per, page, row);
		if (done > 0)
			sp->listing_nr -= (u32)done;
		/* The first of the run have gone to the row: the last of it take their places. */
		if (done > 0 && (u32)done < n)
			memmove((struct kve_listed *)last + 1 - n, last + 1 - n + done,
				(n - (u32)done) * sizeof(*last));
	}
	kvp_free(row);
	return done < 0 ? done : 0;
}

/* ---- freeing what no snapshot needs, reviving what one sees: checkpoint lock ------------- */

struct release {
	struct kv_db *db;
	struct kve_free_batch *batch;
	u8 *page;
	u8 key[KVE_LIST_KEY + 1]; /* go on here */
	u32 rows;	      /* that may still be freed */
	u64 revive;	      /* instead of freeing: what the snapshot of this generation sees, 0: freeing */
	bool end;
};

/* Records that were pinned are alive, as they were when the snapshot was made. Space lock. */
static void records_revive(struct kv_db *db, u32 segment, u32 bytes)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s = &sp->seg[segment];
	u64 freed = sp->freed_total;

	unpin(db, segment, bytes);
	kvp_store(&sp->freed_total, freed);
	s->live += bytes;
	s->live_frozen += bytes;
	sp->live_bytes += bytes;
}

/* What a row named is free, or died with its segment; or it is in use again, and stays where it is. */
static int row_release(struct release *rl, const u8 *key, const u8 *items, u32 len)
{
	u32 i, n = len / (u32)sizeof(struct kvf_free);
	struct kv_db *db = rl->db;
	struct kve_space *sp = &db->space;
	struct kvf_free it;
	int err;

	/* More than are needed: pages of the table itself go to the batch, too. */
	kvp_mutex_lock(&sp->lock);
	err = kve_items_reserve(&rl->batch->list, n + 8 * KVF_DEPTH_MAX);
	kvp_mutex_unlock(&sp->lock);
	if (!err)
		err = kve_tree_remove(db->segtab, key, KVE_LIST_KEY);
	if (err)
		return err;
	kvp_mutex_lock(&sp->lock);
	KVP_ASSERT(rl->batch->list.cap - rl->batch->list.nr >= n);
	for (i = 0; i < n; i++) {
		memcpy(&it, items + i * sizeof(it), sizeof(it));
		if (is_records(&it)) {
			if (rl->revive)
				records_revive(db, le32_to_cpu(it.segment), le32_to_cpu(it.blocks));
			else
				unpin(db, le32_to_cpu(it.segment), le32_to_cpu(it.blocks));
			continue;
		}
		sp->held_bytes -= item_bytes(db, &it);
		if (!rl->revive)
			kve_free_again(db, &rl->batch->list, &it);
	}
	kvp_mutex_unlock(&sp->lock);
	return 0;
}

/* Is this a row to be worked off? Else sets where to go on, or that there is no more. */
static bool row_due(struct release *rl, u64 list, u64 oldest)
{
	u64 held;

	if (rl->revive) {
		if (oldest <= rl->revive && !KVP_BUG("rollback-list-kept"))
			return true;
		rl->end = list == KVE_LIVE;
		list_key(rl->key, list + 1, 0, 0);
		return false;
	}
	rl->end = list >= rl->db->space.orphans_to;
	/* Entries of this list that are older are held by a snapshot. */
	held = newest_before(&rl->db->space, list + 1);
	if (rl->end || oldest > held)
		return !rl->end;
	list_key(rl->key, list, held + 1, 0);
	return false;
}

/* One leaf's rows from rl->key on. Sets where to go on. */
static int leaf_release(struct release *rl, u8 *found)
{
	struct kv_db *db = rl->db;
	u32 frame = db->geo.frame, i, nr = kve_node_nr(rl->page), len, cell_len;
	u64 list, oldest;
	const u8 *cell;
	bool exact;
	u8 flags;
	int err = 0;

	for (i = kve_node_search(rl->page, frame, rl->key, KVE_LIST_KEY, &exact); i < nr; i++) {
		len = kvf_page_key(rl->page, frame, i, found);
		cell = kvf_page_cell(rl->page, frame, i, &cell_len, &flags);
		list = len == KVE_LIST_KEY ? kvf_get_be64(found + 1) : 0;
		oldest = len == KVE_LIST_KEY ? kvf_get_be64(found + 9) : 0;
		rl->end = found[0] != KVF_SEGTAB_LIST;
		if (rl->end || !row_due(rl, list, oldest))
			return 0;
		memcpy(rl->key, found, KVE_LIST_KEY);
		if (!rl->rows)
			return 0;
		rl->rows--;
		err = row_release(rl, found, cell, cell_len);
		if (err)
			return err;
	}
	cell = kvf_page_upper(rl->page, frame, &len);
	rl->end = !cell || cell[0] != KVF_SEGTAB_LIST;
	memset(rl->key, 0, sizeof(rl->key));
	if (cell && !rl->end)
		memcpy(rl->key, cell, KVF_MIN(len, KVE_LIST_KEY));
	return 0;
}

/* From the lists of that generation on. */
static int rows_release(struct release *rl, u64 from)
{
	struct kv_db *db = rl->db;
	u8 *found = kvp_alloc(db->geo.key_max, 0);
	int err = found ? 0 : -KVE_no_memory;

	list_key(rl->key, from, 0, 0);
	while (!err && !rl->end && rl->rows) {
		err = kve_leaf_copy(db->segtab, KVE_LIVE, KVE_SEEK_KEY, rl->key, KVE_LIST_KEY, rl->page, 1);
		if (!err)
			err = leaf_release(rl, found);
	}
	kvp_free(found);
	return err;
}

/* All at once: the checkpoint shows it, or none of it. What stays to be done is in the table still. */
static int revive(struct kv_db *db, struct kve_free_batch *batch, u8 *page)
{
	struct release rl = { .db = db, .batch = batch, .page = page, .rows = ~0u,
			      .revive = db->space.revive };
	int err = rows_release(&rl, rl.revive);

	if (!err)
		db->space.revive = 0;
	return err;
}

static int orphans_release(struct kv_db *db, struct kve_free_batch *batch, u8 *page)
{
	struct release rl = { .db = db, .batch = batch, .page = page, .rows = RELEASE_ROWS };
	struct kve_space *sp = &db->space;
	int err = rows_release(&rl, sp->orphans_from);

	if (err)
		return err;
	if (rl.end)
		sp->orphans_from = sp->orphans_to = 0;
	else
		sp->orphans_from = kvf_get_be64(rl.key + 1);
	return 0;
}

int kve_deadlist_write(struct kv_db *db, struct kve_free_batch *batch)
{
	struct kve_space *sp = &db->space;
	u8 *page;
	int err = gather(db, batch->gen);

	if (err || (!sp->listing_nr && sp->orphans_from >= sp->orphans_to && !sp->revive))
		return err;
	page = kvp_iobuf_alloc(db->geo.frame);
	if (!page)
		return -KVE_no_memory;
	listing_sort(sp);
	/* First: what this checkpoint itself gives up does not come back. */
	if (sp->revive)
		err = revive(db, batch, page);
	if (!err)
		err = listing_write(db, page);
	if (!err && sp->orphans_from < sp->orphans_to)
		err = orphans_release(db, batch, page);
	kvp_iobuf_free(page, db->geo.frame);
	return err;
}

/* ---- loading, and what is held ------------------------------------------------------------------------ */

static int list_error(struct kv_db *db)
{
	return kve_fail(db, KVE_corrupt_table, "%s; run 'kvs-fsck -n %s'", kvf_finding_text(KVF_F_list_entry),
			db->dev->name);
}

int kve_deadlist_load(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	struct kve_space *sp = &db->space;
	struct kvf_free it;
	u64 end;
	u32 i;

	if (key_len != KVE_LIST_KEY || !len || len % sizeof(it) ||
	    kvf_get_be64(key + 9) > kvf_get_be64(key + 1))
		return list_error(db);
	for (i = 0; i < len; i += sizeof(it)) {
		memcpy(&it, cell + i, sizeof(it));
		end = is_records(&it) ? 0 : (u64)le32_to_cpu(it.block) + le32_to_cpu(it.blocks);
		if (le32_to_cpu(it.segment) < KVF_SEG_FIRST || le32_to_cpu(it.segment) >= sp->nr ||
		    end > db->geo.seg_blocks)
			return list_error(db);
		if (!is_records(&it))
			sp->held_bytes += item_bytes(db, &it);
	}
	/* A deletion may not have come to its end. */
	sp->orphans_from = 0;
	sp->orphans_to = KVE_LIVE;
	return 0;
}

struct sizes {
	struct kv_db *db;
	u64 *bytes;
};

static int sizes_add(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct sizes *sz = arg;
	const struct kve_space *sp = &sz->db->space;
	u64 list = key_len == KVE_LIST_KEY ? kvf_get_be64(key + 1) : 0;
	u64 oldest = key_len == KVE_LIST_KEY ? kvf_get_be64(key + 9) : 0;
	struct kvf_free it;
	u32 n = 0, i;

	(void)flags;
	if (key[0] != KVF_SEGTAB_LIST)
		return 1;
	while (n < sp->sights && sp->sight[n].gen < oldest)
		n++;
	/* Held by this one, and by no newer one. */
	if (n == sp->sights || sp->sight[n].gen > list ||
	    (n + 1 < sp->sights && sp->sight[n + 1].gen <= list))
		return 0;
	for (i = 0; i + sizeof(it) <= cell_len; i += sizeof(it)) {
		memcpy(&it, cell + i, sizeof(it));
		sz->bytes[n] += item_bytes(sz->db, &it);
	}
	return 0;
}

int kve_deadlist_sizes(struct kv_db *db, u64 *bytes)
{
	struct sizes sz = { db, bytes };
	u8 first = KVF_SEGTAB_LIST;
	u8 *page = kvp_iobuf_alloc(db->geo.frame);
	int err;

	if (!page)
		return -KVE_no_memory;
	err = kve_tree_each(db->segtab, KVE_LIVE, &first, 1, page, sizes_add, &sz);
	kvp_iobuf_free(page, db->geo.frame);
	return err > 0 ? 0 : err;
}

void kve_deadlist_exit(struct kv_db *db)
{
	struct kve_space *sp = &db->space;

	kvp_free(sp->dead.item);
	kvp_free(sp->dead_frozen.item);
	kvp_free(sp->listing);
	kvp_free(sp->sight);
}
