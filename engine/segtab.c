/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * segtab.c - the segment table on the medium: a tree with a row per segment and rows for free batches.
 *
 * Writing it takes blocks and frees blocks, which changes it. So its pages get their places first, round
 * by round, until a round changes nothing; only then are they packed and written.
 */
#include "kve.h"

#define ROUNDS_MAX 64

struct table {
	struct kv_db *db;
	struct kve_free_batch *batch;
	u64 gen;
	bool changed;
};

/* ---- loading --------------------------------------------------------------------------------- */

static int table_error(struct kv_db *db, int finding, u32 segment)
{
	return kve_fail(db, KVE_corrupt_table, "segment %u: %s; run 'kvs-fsck -n %s'", segment,
			kvf_finding_text(finding), db->dev->name);
}

static int segment_row(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	struct kvf_segment_entry e;
	struct kve_segment *s;
	u32 nr, i;

	nr = key_len == 5 ? kvf_get_be32(key + 1) : 0;
	if (nr < KVF_SEG_FIRST || nr >= db->space.nr)
		return table_error(db, KVF_F_table_key, nr);
	if (kvf_segment_entry_verify(cell, len, &db->geo))
		return table_error(db, KVF_F_table_entry, nr);
	memcpy(&e, cell, sizeof(e));
	s = &db->space.seg[nr];
	s->gen = le32_to_cpu(e.gen);
	s->kind = e.kind;
	s->flags = e.flags;
	s->live = s->live_frozen = le64_to_cpu(e.live);
	s->pinned = s->pinned_frozen = le64_to_cpu(e.pinned);
	s->last_lsn = le64_to_cpu(e.last_lsn);
	s->incarnation = le32_to_cpu(e.incarnation);
	s->row_dirty = false;
	s->row_kind = e.kind;
	s->backed = e.kind == KVF_KIND_LOG && (e.flags & KVF_SEGMENT_SEALED) ? db->geo.segment : 0;
	if (e.kind != KVF_KIND_FREE)
		db->space.free_nr--;
	db->space.live_bytes += s->live;
	db->space.pinned_bytes += s->pinned;
	db->space.log_nr += e.kind == KVF_KIND_LOG;
	if (e.kind != KVF_KIND_TREE)
		return 0;
	s->bitmap = kvp_alloc(db->geo.bitmap_len, KVP_ZERO);
	if (!s->bitmap)
		return -KVE_no_memory;
	memcpy(s->bitmap, cell + sizeof(e), le16_to_cpu(e.bitmap_len));
	for (i = 0; i < db->geo.bitmap_len * 8; i++) {
		if (!(s->bitmap[i / 8] >> (i % 8) & 1))
			continue;
		s->used++;
		s->backed = (i + 1) << (db->geo.unit_shift + db->geo.block_shift);
	}
	db->space.tree_nr++;
	db->space.tree_bytes += (u64)(s->used - 1) << (db->geo.unit_shift + db->geo.block_shift);
	return 0;
}

static struct kve_free_batch *batch_find(struct kv_db *db, u64 gen)
{
	struct kve_free_batch **link = &db->space.batches, *b;

	while (*link && (*link)->gen < gen)
		link = &(*link)->next;
	if (*link && (*link)->gen == gen)
		return *link;
	b = kvp_alloc(sizeof(*b), KVP_ZERO);
	if (b) {
		b->gen = gen;
		b->split = true;
		b->next = *link;
		*link = b;
	}
	return b;
}

static int batch_row(struct kv_db *db, const u8 *key, u32 key_len, const u8 *cell, u32 len)
{
	u32 i, nr = len / (u32)sizeof(struct kvf_free), seg, blocks;
	struct kve_free_batch *b;
	struct kvf_free it;

	if (key_len != 13 || len % sizeof(it))
		return table_error(db, KVF_F_batch_entry, 0);
	b = batch_find(db, kvf_get_be64(key + 1));
	if (!b || kve_items_reserve(&b->list, nr))
		return -KVE_no_memory;
	for (i = 0; i < nr; i++) {
		memcpy(&it, cell + i * sizeof(it), sizeof(it));
		seg = le32_to_cpu(it.segment);
		blocks = le32_to_cpu(it.blocks);
		if (seg < KVF_SEG_FIRST || seg >= db->space.nr ||
		    (blocks != KVF_FREE_WHOLE &&
		     (u64)le32_to_cpu(it.block) + blocks > db->geo.seg_blocks))
			return table_error(db, KVF_F_batch_entry, seg);
		b->list.items[b->list.nr++] = it;
		db->space.pending_bytes += blocks == KVF_FREE_WHOLE ? db->geo.segment :
					   (u64)blocks << db->geo.block_shift;
	}
	b->rows++;
	b->written += nr;
	return 0;
}

static int row_load(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	struct kv_db *db = arg;

	(void)flags;
	if (key[0] == KVF_SEGTAB_SEGMENT)
		return segment_row(db, key, key_len, cell, cell_len);
	if (key[0] == KVF_SEGTAB_BATCH)
		return batch_row(db, key, key_len, cell, cell_len);
	if (key[0] == KVF_SEGTAB_LIST)
		return kve_deadlist_load(db, key, key_len, cell, cell_len);
	return kve_fail(db, KVE_unsupported, "the segment table has rows of a newer version");
}

/* Whole segments in batches are dying already. A row that is still dirty was not there. */
static int table_complete(struct kv_db *db)
{
	struct kve_free_batch *b;
	struct kve_segment *s;
	u32 i;

	for (i = KVF_SEG_FIRST; i < db->space.nr; i++)
		if (db->space.seg[i].row_dirty)
			return table_error(db, KVF_F_table_missing, i);
	for (b = db->space.batches; b; b = b->next)
		for (i = 0; i < b->list.nr; i++) {
			s = &db->space.seg[le32_to_cpu(b->list.items[i].segment)];
			if (b->list.items[i].blocks == cpu_to_le32(KVF_FREE_WHOLE)) {
				db->space.dying_nr += !s->dying;
				s->dying = true;
			} else if (s->kind != KVF_KIND_TREE) {
				return table_error(db, KVF_F_batch_entry, (u32)(s - db->space.seg));
			}
		}
	return 0;
}

/* ---- how many pages has it? --------------------------------------------------------------------- */

/*
 * The pages below the leaf's parent, it, and those above that it is the first below of. Without leaves that
 * have rows of dead lists alone: a checkpoint changes the last of these, and few others. Tree lock.
 */
static u32 pages_count(const struct kve_frame *leaf, u32 frame, u8 *key)
{
	const struct kve_frame *f = leaf->parent;
	u32 i, len, pages = !f, nr = f ? kve_node_nr(f->page) : 0;
	bool list = false, before;

	for (i = 0; i < nr; i++) {
		len = kvf_page_key(f->page, frame, i, key);
		before = list;
		list = i && len && key[0] == KVF_SEGTAB_LIST;
		pages += !(list && before);
	}
	for (; f; f = f->parent) {
		pages++;
		if (f->parent && kve_kid_index(f->parent, f))
			break;
	}
	return pages;
}

/* Reads a leaf for each page above leaves, if it is not in memory. */
static int table_count(struct kv_db *db)
{
	u8 *key = kvp_alloc(db->geo.key_max + 1, 0);
	u32 frame = db->geo.frame, len = 0, pages = 0;
	const u8 *upper = NULL;
	struct kve_frame *leaf;
	int err = key ? 0 : -KVE_no_memory;

	while (!err) {
		err = kve_tree_leaf(db->segtab, key, len, &leaf);
		if (err || !leaf)
			break;
		kvp_rwsem_down_read(&db->tree_lock);
		pages += pages_count(leaf, frame, key);
		upper = kvf_page_upper(leaf->parent ? leaf->parent->page : leaf->page, frame, &len);
		if (upper)
			memcpy(key, upper, len);
		kvp_rwsem_up_read(&db->tree_lock);
		kve_frame_unpin(leaf);
		if (!upper)
			break;
	}
	kvp_free(key);
	if (err)
		return err;
	kvp_store(&db->space.table_pages, pages);
	kvp_store(&db->space.table_rows, db->space.rowed);
	return 0;
}

u64 kve_table_bytes(const struct kv_db *db, u32 rows)
{
	u64 pages = kvp_load(&db->space.table_pages), had = kvp_load(&db->space.table_rows);

	/* All of them may change. With another number of rows they are as full; and one may be split. */
	if (had)
		pages = (pages * rows + had - 1) / had;
	return (pages + 2) * 2 * db->geo.frame;
}

int kve_segtab_load(struct kv_db *db)
{
	u64 segments = le64_to_cpu(db->sb.segments);
	u8 *page;
	int err;

	if (db->dev->size < segments << db->geo.segment_shift)
		return kve_fail(db, KVE_truncated, "%llu bytes, the superblock says %llu; restore a copy, or "
				"read what is left with 'kvs dump %s'", db->dev->size,
				segments << db->geo.segment_shift, db->dev->name);
	err = kve_space_extend(db, (u32)segments);
	db->space.rowed = (u32)segments;
	page = kvp_iobuf_alloc(db->geo.frame);
	if (!err && !page)
		err = -KVE_no_memory;
	if (!err)
		err = kve_tree_each(db->segtab, KVE_LIVE, NULL, 0, page, row_load, db);
	kvp_iobuf_free(page, db->geo.frame);
	if (!err)
		err = table_count(db);
	return err ? err : table_complete(db);
}

/* ---- writing: checkpoint ------------------------------------------------------------------------ */

static int segment_put(struct table *tb, u32 nr)
{
	u8 buf[sizeof(struct kvf_segment_entry) + KVF_BITMAP_BYTES_MAX / 4], key[5];
	struct kv_db *db = tb->db;
	struct kvf_segment_entry e = { .kind = KVF_KIND_FREE };
	struct kve_segment *s;
	u32 len = sizeof(e);
	u8 *row = buf;
	int err;

	if (db->geo.bitmap_len > sizeof(buf) - sizeof(e))
		row = kvp_alloc(sizeof(e) + db->geo.bitmap_len, 0);
	if (!row)
		return -KVE_no_memory;
	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[nr]; /* the array moves when it grows */
	e.kind = s->row_kind = s->kind;
	e.gen = cpu_to_le32(s->gen);
	e.flags = s->flags;
	if (s->kind == KVF_KIND_LOG) {
		e.live = cpu_to_le64(s->live_frozen);
		e.pinned = cpu_to_le64(s->pinned_frozen);
		e.last_lsn = cpu_to_le64(s->last_lsn);
		e.incarnation = cpu_to_le32(s->incarnation);
	} else if (s->kind == KVF_KIND_TREE) {
		e.bitmap_len = cpu_to_le16((u16)db->geo.bitmap_len);
		memcpy(row + sizeof(e), s->bitmap, db->geo.bitmap_len);
		len += db->geo.bitmap_len;
	}
	s->row_dirty = false;
	kvp_mutex_unlock(&db->space.lock);
	memcpy(row, &e, sizeof(e));
	key[0] = KVF_SEGTAB_SEGMENT;
	kvf_put_be32(key + 1, nr);
	err = kve_tree_put(db->segtab, key, sizeof(key), row, len);
	if (err) {
		kvp_mutex_lock(&db->space.lock);
		db->space.seg[nr].row_dirty = true;
		kvp_mutex_unlock(&db->space.lock);
	}
	if (row != buf)
		kvp_free(row);
	return err;
}

static void batch_key(u8 *key, u64 gen, u32 nr)
{
	key[0] = KVF_SEGTAB_BATCH;
	kvf_put_be64(key + 1, gen);
	kvf_put_be32(key + 9, nr);
}

/* All rows of a batch anew; it only grows while the table is being written. */
static int batch_put(struct table *tb, struct kve_free_batch *b)
{
	struct kv_db *db = tb->db;
	u32 per = (db->geo.item_max - 16) / (u32)sizeof(struct kvf_free), at, nr;
	u8 key[13];
	int err = 0;

	at = b->written / per * per;
	b->rows = at / per;
	for (; !err && at < b->list.nr; at += nr) {
		nr = KVF_MIN(per, b->list.nr - at);
		batch_key(key, b->gen, b->rows++);
		err = kve_tree_put(db->segtab, key, sizeof(key), b->list.items + at,
				   nr * (u32)sizeof(struct kvf_free));
	}
	if (!err)
		b->written = b->list.nr;
	tb->changed = true;
	return err;
}

/* Rows of batches that have been applied. */
static int batches_drop(struct table *tb)
{
	struct kve_free_batch *b;
	u8 key[13];
	int err;

	while ((b = tb->db->space.batches) && b != tb->batch && !b->list.nr) {
		while (b->rows) {
			batch_key(key, b->gen, b->rows - 1);
			err = kve_tree_remove(tb->db->segtab, key, sizeof(key));
			if (err)
				return err;
			b->rows--;
		}
		tb->db->space.batches = b->next;
		kvp_free(b->list.items);
		kvp_free(b);
	}
	return 0;
}

/*
 * Segments that get rows: all there are in the first round, later only as many as the table's own pages
 * need. Writers go on meanwhile; the segments that they add to the log are found by its links.
 */
static u32 listed_update(struct kve_space *sp, bool first)
{
	u32 i;

	kvp_mutex_lock(&sp->lock);
	if (first)
		sp->listed = sp->nr;
	for (i = sp->nr; i > sp->listed; i--)
		if (sp->seg[i - 1].kind == KVF_KIND_TREE)
			sp->listed = i;
	kvp_mutex_unlock(&sp->lock);
	return sp->listed;
}

/* Must the row be written in this round? had: segments that have rows. */
static bool row_due(struct kve_space *sp, u32 i, bool first, u32 had)
{
	const struct kve_segment *s;
	bool due;

	kvp_mutex_lock(&sp->lock);
	s = &sp->seg[i];
	due = s->row_dirty && (first || i >= had || s->kind == KVF_KIND_TREE ||
			       s->row_kind == KVF_KIND_TREE);
	kvp_mutex_unlock(&sp->lock);
	return due;
}

/* The volume ends earlier than it did: rows beyond its end go. */
static int rows_cut(struct table *tb)
{
	struct kve_space *sp = &tb->db->space;
	u8 key[5] = { KVF_SEGTAB_SEGMENT };
	int err;

	for (; sp->rowed > sp->listed; sp->rowed--) {
		kvf_put_be32(key + 1, sp->rowed - 1);
		err = kve_tree_remove(tb->db->segtab, key, sizeof(key));
		if (err)
			return err;
		tb->changed = true;
	}
	sp->rowed = sp->listed;
	return 0;
}

static int rows_put(struct table *tb, bool first)
{
	struct kve_space *sp = &tb->db->space;
	u32 had = first ? 0 : sp->listed, nr = listed_update(sp, first), i;
	struct kve_free_batch *b;
	int err = rows_cut(tb);

	for (i = KVF_SEG_FIRST; i < nr && !err; i++) {
		if (!row_due(sp, i, first, had))
			continue;
		err = segment_put(tb, i);
		tb->changed = true;
	}
	for (b = sp->batches; b && !err; b = b->next)
		if (b->written < b->list.nr)
			err = batch_put(tb, b);
	return err;
}

/* A place for a dirty page of the table; what it had goes to the batch. */
static int place(void *arg, struct kve_frame *f)
{
	struct table *tb = arg;
	struct kv_db *db = tb->db;
	const struct kvf_page *p = (const struct kvf_page *)f->page;
	u32 used = (u32)sizeof(*p) + le16_to_cpu(p->nr) * (u32)sizeof(struct kvf_slot) +
		   le32_to_cpu(p->heap) - le32_to_cpu(p->holes);
	u32 blocks = (u32)(KVF_ROUND_UP(used, db->geo.block) >> db->geo.block_shift);
	struct kvf_ref ref;
	int err;

	if (f->ref.block0 && le64_to_cpu(f->ref.birth) == tb->gen) {
		if (le32_to_cpu(f->ref.blocks) >= blocks)
			return 0;
		kve_ref_drop(db, &f->ref);
		memset(&f->ref, 0, sizeof(f->ref));
	}
	err = kve_ref_take(db, blocks, true, tb->gen, &ref);
	if (err)
		return err;
	err = kve_free_page(db, &tb->batch->list, &f->ref);
	if (err) {
		kve_ref_drop(db, &ref);
		return err;
	}
	f->ref = ref;
	tb->changed = true;
	return 0;
}

int kve_segtab_write(struct kv_db *db, struct kve_free_batch *batch, u64 gen)
{
	struct table tb = { .db = db, .batch = batch, .gen = gen };
	int err, round;

	err = batches_drop(&tb);
	for (round = 0; !err && round < ROUNDS_MAX; round++) {
		tb.changed = false;
		err = rows_put(&tb, round == 0);
		if (!err)
			err = kve_dirty_each(db->segtab, gen, place, &tb);
		if (err || tb.changed)
			continue;
		/* Where it fails the count of before remains. */
		(void)table_count(db);
		return 0;
	}
	return err ? err : kve_degrade(db, KVE_self_check, "the segment table does not settle");
}
