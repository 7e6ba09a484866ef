/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * space.c - segments and blocks: taking, freeing in batches, reuse.
 *
 * Frees are collected for the generation that no longer needs the place, recorded with its checkpoint,
 * and applied when no superblock that is still declared intact, and no reader, can refer to them.
 * Live bytes of LOG segments change with every put; the table of a checkpoint shows those of its
 * freeze. All under the space lock.
 */
#include "kve.h"

#define RESERVE_SEGMENTS 4u /* 2 LOG and 1 TREE, of a volume with a limit, and the last */
#define RESERVE_LAST 1u /* for checkpoints alone: to delete a snapshot, to close */
#define RESERVE_BACKED 8u   /* of an image that ends with its file system: closing takes some as well */
#define RESERVE_TRIES 64u   /* segments that are tried for it at once */
#define RESERVE_FROM 32u    /* smaller images have none but what they are created with */
#define RUN_BYTES (4u << 20)
#define WAITS_MIN 4u	    /* that are worth a checkpoint */
#define GROW_BYTES (64u << 20) /* at once, at most */

void kve_identity_set(struct kv_db *db)
{
	memcpy(db->uuid, db->sb.uuid, sizeof(db->uuid));
	db->bytes_max = le64_to_cpu(db->sb.bytes_max);
}

void kve_identity(const struct kv_db *db, u32 segment, u32 gen, u32 incarnation,
		  struct kvf_identity *id)
{
	memcpy(id->uuid, db->uuid, sizeof(id->uuid));
	id->segment = segment;
	id->segment_gen = gen;
	id->incarnation = incarnation;
}

void kve_space_init(struct kv_db *db)
{
	kvp_mutex_init(&db->space.lock, "space", KVE_RANK_SPACE);
	db->space.ceiling = KVF_NO_SEGMENT;
}

void kve_space_exit(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	struct kve_free_batch *b;
	u32 i;

	for (i = 0; i < sp->nr; i++)
		kvp_free(sp->seg[i].bitmap);
	kvp_free(sp->seg);
	kvp_free(sp->open.items);
	while ((b = sp->batches)) {
		sp->batches = b->next;
		kvp_free(b->list.items);
		kvp_free(b);
	}
	kve_deadlist_exit(db);
	kvp_mutex_destroy(&sp->lock);
}

int kve_space_extend(struct kv_db *db, u32 nr)
{
	struct kve_space *sp = &db->space;

	if (kvp_array_room(&sp->seg, &sp->cap, sp->nr, nr, sizeof(*sp->seg)))
		return -KVE_no_memory;
	while (sp->nr < nr) {
		memset(&sp->seg[sp->nr], 0, sizeof(*sp->seg));
		if (sp->nr >= KVF_SEG_FIRST) {
			sp->seg[sp->nr].row_dirty = true;
			sp->free_nr += sp->nr < sp->ceiling;
		}
		kvp_store(&sp->nr, sp->nr + 1); /* read without lock by space_need() */
	}
	return 0;
}

/* Segments that the volume could still grow by. */
static u64 growth_left(const struct kv_db *db)
{
	u64 max = kvp_load(&db->bytes_max), have = db->space.nr;

	/* A device may be larger than the volume on it: an image that was copied there, or enlarged. */
	if (!db->dev->growable)
		max = max ? KVF_MIN(max, db->dev->size) : db->dev->size;
	max = max ? (max - KVF_MIN(max, (u64)db->geo.block)) >> db->geo.segment_shift : KVF_SEGMENTS_MAX;
	max = KVF_MIN(max, (u64)db->space.ceiling);
	return max > have ? max - have : 0;
}

/* It ends with its file system alone. */
static bool unlimited(const struct kv_db *db)
{
	return db->dev->growable && !kvp_load(&db->bytes_max) &&
	       kvp_load(&db->space.ceiling) == KVF_NO_SEGMENT;
}

static u32 reserve_segments(const struct kv_db *db)
{
	if (unlimited(db))
		return 0;
	return KVF_MAX(RESERVE_SEGMENTS, kvp_load(&db->space.nr) / 100) + kvp_load(&db->space.held);
}

u32 kve_space_step(const struct kv_db *db, u32 nr)
{
	return KVF_MIN(KVF_MAX(nr / 4, 1u), KVF_MAX(GROW_BYTES >> db->geo.segment_shift, 1u));
}

/* Nothing new is put there: the volume is to end before it, or it is being emptied. */
static bool segment_shut(const struct kve_space *sp, u32 nr)
{
	return nr >= sp->ceiling || sp->seg[nr].leaving;
}

/*
 * The volume grows by a quarter of itself at most, so that growing is rare. The new size is durable before
 * anything names the new segments: a chain that leads past the end is then the mark of a file cut short.
 */
static int space_grow(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	u64 left = growth_left(db), step = kve_space_step(db, sp->nr), size;
	u32 from = sp->nr;
	int err;

	if (!left || sp->host_full)
		return kve_fail(db, KVE_no_space, "all %u segments are in use", sp->nr);
	step = KVF_MIN(step, left);
	size = kve_segment_offset(db, sp->nr + (u32)step) + db->geo.block;
	if (size > db->dev->size) {
		err = kvp_dev_resize(db->dev, size);
		if (err)
			return err;
		if (!KVP_BUG("size-unflushed") && kvp_dev_flush(db->dev))
			return kve_degrade(db, KVE_indeterminate, "flush of the new size failed");
	}
	err = kve_space_extend(db, sp->nr + (u32)step);
	/* What was cut off and is there again does not repeat the generations that it had. */
	for (; !err && from < sp->nr; from++)
		sp->seg[from].gen = (u32)kvp_load(&db->open_gen);
	return err;
}

/*
 * A FREE segment that is backed: the medium gives nothing for what it has given already. Else any, unless the
 * host has no more space.
 */
static u32 find_free(struct kve_space *sp, u32 segment_bytes)
{
	u32 i, found = KVF_NO_SEGMENT, nr = KVF_MIN(sp->nr, sp->ceiling);

	for (i = KVF_SEG_FIRST; sp->free_nr && i < nr; i++) {
		if (sp->seg[i].kind != KVF_KIND_FREE || sp->seg[i].flags & KVF_SEGMENT_QUARANTINE ||
		    sp->seg[i].busy)
			continue;
		if (sp->seg[i].backed == segment_bytes)
			return i;
		if (found == KVF_NO_SEGMENT)
			found = i;
	}
	return sp->host_full ? KVF_NO_SEGMENT : found;
}

/* Segments that are backed at once. */
static u32 space_run(const struct kv_db *db)
{
	return KVF_MIN(KVF_MAX(db->space.nr / 32, 1u), KVF_MAX(RUN_BYTES >> db->geo.segment_shift, 1u));
}

static u32 backed_free(const struct kv_db *db)
{
	u32 i, n = 0, nr = KVF_MIN(db->space.nr, db->space.ceiling);

	for (i = KVF_SEG_FIRST; i < nr; i++)
		n += db->space.seg[i].kind == KVF_KIND_FREE && db->space.seg[i].backed == db->geo.segment;
	return n;
}

static u32 unbacked_free(const struct kv_db *db, u32 i)
{
	u32 nr = KVF_MIN(db->space.nr, db->space.ceiling);

	for (; i < nr; i++)
		if (db->space.seg[i].kind == KVF_KIND_FREE && db->space.seg[i].backed < db->geo.segment &&
		    !db->space.seg[i].busy)
			return i;
	return KVF_NO_SEGMENT;
}

/*
 * Segment nr is backed, and those behind it that may be as well, the more the larger the volume is: asking
 * for space stops all that write to the file, however little it is. How many; 0: see *err.
 */
static u32 run_back(struct kv_db *db, u32 nr, int *err)
{
	struct kve_space *sp = &db->space;
	u32 i, most = space_run(db), n = 1;

	while (n < most && unbacked_free(db, nr + n) == nr + n)
		n++;
	*err = kvp_dev_allocate(db->dev, kve_segment_offset(db, nr), (u64)n << db->geo.segment_shift, 0);
	if (*err == -KVE_no_space && n > 1) {
		n = 1;
		*err = kvp_dev_allocate(db->dev, kve_segment_offset(db, nr), db->geo.segment, 0);
	}
	for (i = 0; !*err && i < n; i++)
		sp->seg[nr + i].backed = db->geo.segment;
	return *err ? 0 : n;
}

/*
 * An image without a limit of its own can meet the end of its file system at any time. From a certain
 * size on it holds segments that are backed, for deleting, checkpoints and closing. Which ones are, is not
 * known after opening: those that cannot be backed may stand before others that are.
 */
static int reserve_back(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	u32 nr, have = backed_free(db), tries, from = KVF_SEG_FIRST;
	bool full = false;
	int err = 0;

	if (sp->nr < RESERVE_FROM) {
		kvp_store(&sp->host_full, false);
		return 0;
	}
	for (tries = 0; have <= RESERVE_BACKED && tries < RESERVE_TRIES; tries++) {
		nr = unbacked_free(db, from);
		if (nr == KVF_NO_SEGMENT) {
			nr = sp->nr;
			err = full ? -KVE_no_space : space_grow(db);
		}
		if (!err || nr < sp->nr)
			have += run_back(db, nr, &err);
		full |= err == -KVE_no_space;
		if (err && (err != -KVE_no_space || nr >= sp->nr))
			break;
		from = nr + 1;
	}
	kvp_store(&sp->host_full, full);
	if (have > RESERVE_BACKED)
		return 0;
	return full ? -KVE_no_space : err;
}

/* Leave the reserve to those who free space. */
static int reserve_keep(struct kv_db *db)
{
	if (unlimited(db))
		return reserve_back(db);
	if (db->space.free_nr + growth_left(db) > reserve_segments(db))
		return 0;
	return kve_fail(db, KVE_no_space, "%u segments of %u bytes; delete something, or enlarge it",
			db->space.nr, db->geo.segment);
}

static int segment_take_locked(struct kv_db *db, u8 kind, enum kve_share share, u32 *segment)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	u8 *bitmap = NULL;
	u32 nr;
	int err;

	err = reserve_keep(db);
	if (err && !(share && err == -KVE_no_space))
		return err;
	if (share == KVE_SHARE_FREEING && reserve_segments(db) &&
	    sp->free_nr + growth_left(db) <= RESERVE_LAST)
		return kve_fail(db, KVE_no_space, "what is left of it is for checkpoints");
	nr = find_free(sp, db->geo.segment);
	if (nr == KVF_NO_SEGMENT) {
		nr = sp->nr;
		err = space_grow(db);
		if (err)
			return err;
	}
	if (kind == KVF_KIND_TREE) {
		bitmap = kvp_alloc(db->geo.bitmap_len, KVP_ZERO);
		if (!bitmap)
			return -KVE_no_memory;
		bitmap[0] = 1; /* the header */
	}
	s = &sp->seg[nr];
	s->gen++;
	s->kind = kind;
	s->flags = 0;
	s->live = s->live_frozen = 0;
	s->pinned = s->pinned_frozen = 0;
	s->last_lsn = 0;
	s->incarnation = 0;
	s->asked = 0;
	s->dying = s->busy = s->stuck = s->leaving = s->fixed = false;
	s->used = kind == KVF_KIND_TREE;
	s->bitmap = bitmap;
	s->row_dirty = true;
	sp->free_nr--;
	sp->tree_nr += kind == KVF_KIND_TREE;
	sp->log_nr += kind == KVF_KIND_LOG;
	*segment = nr;
	return 0;
}

int kve_segment_take(struct kv_db *db, u8 kind, enum kve_share share, u32 *segment)
{
	int err;

	kvp_mutex_lock(&db->space.lock);
	err = segment_take_locked(db, kind, share, segment);
	kvp_mutex_unlock(&db->space.lock);
	return err;
}

void kve_segment_drop(struct kv_db *db, u32 segment)
{
	struct kve_segment *s;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	kvp_free(s->bitmap);
	s->bitmap = NULL;
	s->used = 0;
	db->space.log_nr -= s->kind == KVF_KIND_LOG;
	s->kind = KVF_KIND_FREE;
	db->space.free_nr += segment < db->space.ceiling;
	kvp_mutex_unlock(&db->space.lock);
}

int kve_segment_back(struct kv_db *db, u32 segment, u32 upto, unsigned int flags)
{
	struct kve_segment *s;
	u32 from;
	int err = 0;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	from = s->asked;
	/* The reserve is backed, but nothing was written there. */
	if (!(flags & KVP_WRITTEN) || KVP_BUG("zeros-forgotten"))
		from = KVF_MAX(from, s->backed);
	kvp_mutex_unlock(&db->space.lock);
	if (from < upto)
		err = kvp_dev_allocate(db->dev, kve_segment_offset(db, segment) + from, upto - from, flags);
	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	s->backed = KVF_MAX(s->backed, upto);
	s->asked = KVF_MAX(s->asked, upto);
	kvp_mutex_unlock(&db->space.lock);
	return 0;
}

int kve_segment_header_write(struct kv_db *db, u32 segment, u8 kind)
{
	struct kvf_segment_header *h;
	struct kvf_identity id;
	u8 *buf = kvp_iobuf_alloc(db->geo.block);
	u32 gen;
	int err;

	if (!buf)
		return -KVE_no_memory;
	memset(buf, 0, db->geo.block);
	h = (struct kvf_segment_header *)buf;
	h->kind = kind;
	h->next_segment = cpu_to_le32(KVF_NO_SEGMENT);
	kvp_mutex_lock(&db->space.lock);
	gen = db->space.seg[segment].gen;
	kvp_mutex_unlock(&db->space.lock);
	kve_identity(db, segment, gen, 0, &id);
	kvf_segment_header_seal(h, &id);
	err = kvp_dev_write(db->dev, kve_segment_offset(db, segment), buf, db->geo.block, 0);
	kvp_iobuf_free(buf, db->geo.block);
	return err;
}

/* ---- blocks of TREE segments ------------------------------------------------------------------ */

static bool bit_get(const u8 *map, u32 i)
{
	return map[i / 8] >> (i % 8) & 1;
}

static void bits_set(struct kve_segment *s, u32 from, u32 nr, bool on)
{
	u32 i;

	for (i = from; i < from + nr; i++) {
		if (bit_get(s->bitmap, i) == on)
			continue;
		s->bitmap[i / 8] ^= (u8)(1u << (i % 8));
		s->used += on ? 1 : -1u;
	}
	s->row_dirty = true;
}

static u32 units_of(const struct kv_db *db)
{
	return db->geo.seg_blocks >> db->geo.unit_shift;
}

/* Units that can be written: when the host has no more space, those that were written before. */
static u32 units_usable(const struct kv_db *db, u32 segment)
{
	if (!db->space.host_full)
		return units_of(db);
	return db->space.seg[segment].backed >> (db->geo.unit_shift + db->geo.block_shift);
}

/* First run of nr clear bits below units, or KVF_NO_SEGMENT. */
static u32 bits_find(const struct kve_segment *s, u32 units, u32 nr)
{
	u32 i, run = 0;

	for (i = 1; i < units; i++) {
		run = bit_get(s->bitmap, i) ? 0 : run + 1;
		if (run == nr)
			return i + 1 - nr;
	}
	return KVF_NO_SEGMENT;
}

/*
 * A segment with a hole of so many units, first where the stream is. When there is none, nobody looks again
 * for as many until some are freed: a volume that grows would go through all segments for each new one.
 */
static u32 hole_find(struct kv_db *db, u32 units, u32 avoid, unsigned int stream, u32 *unit)
{
	struct kve_space *sp = &db->space;
	u32 i, nr, start = sp->tree_hint[stream], tight = sp->tree_tight[stream];
	u32 segments = tight && units >= tight ? 1 : sp->nr;

	for (i = 0; i < segments; i++) {
		nr = start + i < sp->nr ? start + i : start + i - sp->nr;
		if (nr >= sp->nr || nr == avoid || sp->seg[nr].kind != KVF_KIND_TREE || segment_shut(sp, nr))
			continue;
		/* The streams keep to segments of their own while they can. */
		if (nr == sp->tree_hint[!stream] && nr != start)
			continue;
		*unit = bits_find(&sp->seg[nr], units_usable(db, nr), units);
		if (*unit != KVF_NO_SEGMENT)
			return nr;
	}
	if (segments > 1)
		sp->tree_tight[stream] = units;
	return KVF_NO_SEGMENT;
}

/* There is no segment left: what nobody looked at again, then that of the other stream. */
static u32 hole_last(struct kv_db *db, u32 units, u32 avoid, unsigned int stream, u32 *unit)
{
	struct kve_space *sp = &db->space;
	u32 nr;

	sp->tree_tight[stream] = 0;
	nr = hole_find(db, units, avoid, stream, unit);
	if (nr != KVF_NO_SEGMENT)
		return nr;
	nr = sp->tree_hint[!stream];
	if (nr == avoid || nr >= sp->nr || sp->seg[nr].kind != KVF_KIND_TREE || segment_shut(sp, nr))
		return KVF_NO_SEGMENT;
	*unit = bits_find(&sp->seg[nr], units_usable(db, nr), units);
	return *unit == KVF_NO_SEGMENT ? KVF_NO_SEGMENT : nr;
}

static int blocks_take_locked(struct kv_db *db, u32 units, u32 avoid, unsigned int stream, u32 *segment,
			      u32 *unit, bool *fresh)
{
	struct kve_space *sp = &db->space;
	u32 nr = hole_find(db, units, avoid, stream, unit);
	struct kve_segment *s;
	int err;

	*fresh = false;
	if (nr == KVF_NO_SEGMENT) {
		err = segment_take_locked(db, KVF_KIND_TREE, KVE_SHARE_ALL, &nr);
		*fresh = !err;
		if (!err)
			*unit = bits_find(&sp->seg[nr], units_of(db), units);
		else if (err == -KVE_no_space)
			nr = hole_last(db, units, avoid, stream, unit);
		if (err && (err != -KVE_no_space || nr == KVF_NO_SEGMENT))
			return err;
	}
	KVP_ASSERT(*unit != KVF_NO_SEGMENT);
	s = &sp->seg[nr];
	bits_set(s, *unit, units, true);
	/* What is written is backed. */
	s->backed = KVF_MAX(s->backed, (*unit + units) << (db->geo.unit_shift + db->geo.block_shift));
	sp->tree_bytes += (u64)units << (db->geo.unit_shift + db->geo.block_shift);
	sp->tree_hint[stream] = nr;
	*segment = nr;
	return 0;
}

static u32 units_for(const struct kv_db *db, u32 blocks)
{
	return (blocks + (1u << db->geo.unit_shift) - 1) >> db->geo.unit_shift;
}

int kve_blocks_take(struct kv_db *db, u32 blocks, u32 avoid, unsigned int stream, u64 *block)
{
	u32 segment, unit;
	bool fresh;
	int err;

	kvp_mutex_lock(&db->space.lock);
	err = blocks_take_locked(db, units_for(db, blocks), avoid, stream, &segment, &unit, &fresh);
	kvp_mutex_unlock(&db->space.lock);
	if (err)
		return err;
	*block = ((u64)segment << (db->geo.segment_shift - db->geo.block_shift)) +
		 ((u64)unit << db->geo.unit_shift);
	if (fresh) {
		err = kve_segment_header_write(db, segment, KVF_KIND_TREE);
		if (err)
			kve_blocks_drop(db, *block, blocks);
	}
	return err;
}

void kve_space_shut_count(struct kve_space *sp)
{
	u32 i;

	sp->shut_nr = sp->shut_units = 0;
	for (i = KVF_SEG_FIRST; sp->shut && i < sp->nr; i++) {
		if (sp->seg[i].kind != KVF_KIND_TREE || !segment_shut(sp, i))
			continue;
		sp->shut_nr++;
		sp->shut_units += sp->seg[i].used - 1;
	}
}

/* Clear the units of [block, block + blocks) of a segment; an empty segment becomes FREE. */
static void units_clear(struct kv_db *db, u32 segment, u32 block, u32 blocks)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s = &sp->seg[segment];
	u32 units = units_for(db, blocks), used = s->used;
	bool shut = segment_shut(sp, segment);

	if (s->kind != KVF_KIND_TREE)
		return;
	bits_set(s, block >> db->geo.unit_shift, units, false);
	if (!KVP_BUG("hole-forgotten"))
		sp->tree_tight[0] = sp->tree_tight[1] = 0;
	sp->tree_bytes -= (u64)units << (db->geo.unit_shift + db->geo.block_shift);
	if (shut && !KVP_BUG("shut-miscounted"))
		sp->shut_units -= used - s->used;
	if (s->used > 1)
		return;
	sp->shut_nr -= shut;
	kvp_free(s->bitmap);
	s->bitmap = NULL;
	s->kind = KVF_KIND_FREE;
	s->used = 0;
	s->leaving = false;
	sp->free_nr += segment < sp->ceiling;
	sp->tree_nr--;
}

void kve_blocks_drop(struct kv_db *db, u64 block, u32 blocks)
{
	u32 segment = kve_block_segment(db, block);

	kvp_mutex_lock(&db->space.lock);
	units_clear(db, segment, (u32)(block & (db->geo.seg_blocks - 1)), blocks);
	kvp_mutex_unlock(&db->space.lock);
}

/* ---- frees ----------------------------------------------------------------------------------- */

int kve_items_reserve(struct kve_batch_items *l, u32 more)
{
	return kvp_array_room(&l->items, &l->cap, l->nr, l->nr + more, sizeof(*l->items));
}

static void item_add(struct kv_db *db, struct kve_batch_items *l, u32 segment, u32 block, u32 blocks,
		     u64 birth)
{
	struct kvf_free *it = &l->items[l->nr++];
	u64 bytes = blocks == KVF_FREE_WHOLE ? db->geo.segment : (u64)blocks << db->geo.block_shift;

	it->segment = cpu_to_le32(segment);
	it->block = cpu_to_le32(block);
	it->blocks = cpu_to_le32(blocks);
	it->reserved = cpu_to_le32(0);
	it->birth = cpu_to_le64(birth);
	db->space.pending_bytes += bytes;
	kvp_store(&db->space.freed_total, db->space.freed_total + bytes);
}

void kve_free_again(struct kv_db *db, struct kve_batch_items *l, const struct kvf_free *it)
{
	item_add(db, l, le32_to_cpu(it->segment), le32_to_cpu(it->block), le32_to_cpu(it->blocks),
		 le64_to_cpu(it->birth));
}

int kve_free_page(struct kv_db *db, struct kve_batch_items *list, const struct kvf_ref *ref)
{
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u32 blocks = le32_to_cpu(ref->blocks), i;
	int err = 0;

	if (!block[0])
		return 0;
	kvp_mutex_lock(&db->space.lock);
	/* A read-only volume has no table of segments. */
	if (!db->space.seg) {
		kvp_mutex_unlock(&db->space.lock);
		return 0;
	}
	err = kve_items_reserve(list, 2);
	for (i = 0; !err && i < 2; i++) {
		if (!block[i])
			continue;
		item_add(db, list, kve_block_segment(db, block[i]),
			 (u32)(block[i] & (db->geo.seg_blocks - 1)), blocks, le64_to_cpu(ref->birth));
		if (db->space.replacing && list == db->ckpt_frees)
			db->space.replaced_bytes += (u64)blocks << db->geo.block_shift;
	}
	kvp_mutex_unlock(&db->space.lock);
	return err;
}

u64 kve_value_bytes(const struct kvf_value_ref *ref)
{
	return KVF_ROUND_UP((u64)le16_to_cpu(ref->head_len) + le32_to_cpu(ref->payload_len),
			    KVF_RECORD_ALIGN);
}

static void value_account(struct kv_db *db, const struct kvf_value_ref *ref, bool dead)
{
	struct kve_space *sp = &db->space;
	u32 nr = le32_to_cpu(ref->segment);
	struct kve_segment *s;
	u64 bytes = kve_value_bytes(ref);
	bool pinned = false;

	kvp_mutex_lock(&sp->lock);
	if (nr < sp->nr) {
		s = &sp->seg[nr];
		if (s->kind == KVF_KIND_LOG && s->gen == le32_to_cpu(ref->segment_gen)) {
			if (dead && bytes > s->live)
				bytes = s->live; /* the table understated: fsck reports it */
			s->live += dead ? -bytes : bytes;
			sp->live_bytes += dead ? -bytes : bytes;
			s->touched = true;
			pinned = dead && kve_snapshot_sees(sp, le64_to_cpu(ref->lsn));
			if (pinned)
				kve_dead_pin(db, nr, le64_to_cpu(ref->lsn), (u32)bytes);
		}
		if (dead && !pinned)
			kvp_store(&sp->freed_total, sp->freed_total + bytes);
	}
	kvp_mutex_unlock(&sp->lock);
}

void kve_value_dead(struct kv_db *db, const struct kvf_value_ref *ref)
{
	value_account(db, ref, true);
}

void kve_value_live(struct kv_db *db, const struct kvf_value_ref *ref)
{
	value_account(db, ref, false);
}

void kve_space_freeze(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (!s->touched)
			continue;
		s->touched = false;
		s->live_frozen = s->live;
		s->pinned_frozen = s->pinned;
		s->row_dirty = true;
	}
	kvp_mutex_unlock(&sp->lock);
}

int kve_space_reap(struct kv_db *db, u64 replay_lsn, struct kve_batch_items *list)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	int err = 0;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; !err && i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind != KVF_KIND_LOG || s->dying || s->busy || !(s->flags & KVF_SEGMENT_SEALED) ||
		    s->live_frozen || s->live || s->pinned_frozen || s->pinned ||
		    s->last_lsn >= replay_lsn)
			continue;
		err = kve_items_reserve(list, 1);
		if (err)
			break;
		item_add(db, list, i, 0, KVF_FREE_WHOLE, 0);
		s->dying = true;
		sp->dying_nr++;
	}
	kvp_mutex_unlock(&sp->lock);
	return err;
}

static void item_apply(struct kv_db *db, const struct kvf_free *it)
{
	struct kve_space *sp = &db->space;
	u32 nr = le32_to_cpu(it->segment), blocks = le32_to_cpu(it->blocks);
	struct kve_segment *s = &sp->seg[nr];

	if (blocks != KVF_FREE_WHOLE) {
		sp->pending_bytes -= (u64)blocks << db->geo.block_shift;
		units_clear(db, nr, le32_to_cpu(it->block), blocks);
		return;
	}
	sp->pending_bytes -= db->geo.segment;
	sp->dying_nr -= s->dying;
	if (s->last_lsn < db->spare.lsn)
		db->spare.bytes -= KVF_MIN(db->spare.bytes, (u64)db->geo.segment);
	if (s->kind != KVF_KIND_LOG)
		return;
	sp->log_nr--;
	s->kind = KVF_KIND_FREE;
	s->flags = 0;
	s->last_lsn = 0;
	s->dying = false;
	s->row_dirty = true;
	sp->free_nr += nr < sp->ceiling;
}

void kve_space_apply(struct kv_db *db, u64 oldest_intact, u64 oldest_reader)
{
	struct kve_space *sp = &db->space;
	struct kve_free_batch *b;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (b = sp->batches; b; b = b->next) {
		if ((b->gen > oldest_intact || b->gen > oldest_reader) && !KVP_BUG("reuse-early"))
			break;
		for (i = 0; i < b->list.nr; i++)
			item_apply(db, &b->list.items[i]);
		b->list.nr = 0; /* its rows go with this checkpoint: segtab.c */
	}
	kvp_mutex_unlock(&sp->lock);
}

bool kve_space_waits(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	struct kve_free_batch *b;
	u32 rows = 0;
	bool much;

	kvp_mutex_lock(&sp->lock);
	much = sp->pending_bytes >= (u64)KVF_MAX(WAITS_MIN, sp->nr / 16) << db->geo.segment_shift;
	for (b = sp->batches; b && !b->list.nr; b = b->next)
		rows += b->rows;
	kvp_mutex_unlock(&sp->lock);
	return much || rows >= WAITS_MIN;
}

/* What a free segment has of the medium, beyond the pool. Without the lock: it may take milliseconds. */
static void segment_punch(struct kv_db *db, u32 nr, u32 *pool)
{
	struct kve_space *sp = &db->space;
	struct kve_segment *s;
	u32 backed;

	kvp_mutex_lock(&sp->lock);
	s = &sp->seg[nr];
	backed = nr < sp->nr && s->kind == KVF_KIND_FREE && !s->busy ? s->backed : 0;
	if (backed && *pool) {
		--*pool;
		backed = 0;
	}
	/* There are others, those of the pool: nobody misses it. */
	if (backed) {
		s->backed = 0;
		s->busy = true;
		sp->free_nr -= nr < sp->ceiling;
	}
	kvp_mutex_unlock(&sp->lock);
	if (!backed)
		return;
	kvp_dev_discard(db->dev, kve_segment_offset(db, nr), backed);
	kvp_mutex_lock(&sp->lock);
	sp->seg[nr].busy = false;
	sp->free_nr += nr < sp->ceiling;
	kvp_mutex_unlock(&sp->lock);
}

void kve_space_trim(struct kv_db *db)
{
	struct kve_space *sp = &db->space;
	u32 i, nr, pool;

	kvp_mutex_lock(&sp->lock);
	nr = sp->nr;
	kvp_mutex_unlock(&sp->lock);
	pool = KVF_MAX(kve_space_pool(db, nr), RESERVE_BACKED + 2 + space_run(db));
	for (i = KVF_SEG_FIRST; i < nr; i++)
		segment_punch(db, i, &pool);
}

/* A LOG segment that checkpoints alone make free. Space lock. */
static bool reclaimable(const struct kve_space *sp)
{
	const struct kve_segment *s;
	u32 i;

	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		s = &sp->seg[i];
		if (s->kind == KVF_KIND_LOG && (s->flags & KVF_SEGMENT_SEALED) && !s->live && !s->pinned &&
		    !s->busy)
			return true;
	}
	return false;
}

bool kve_space_reclaim_due(struct kv_db *db, bool privileged)
{
	struct kve_space *sp = &db->space;
	u64 want = reserve_segments(db);
	bool due;

	kvp_mutex_lock(&sp->lock);
	/* A delete may use the reserve, and begins to refill it at once. */
	due = want && sp->free_nr + growth_left(db) < want + !privileged && reclaimable(sp);
	kvp_mutex_unlock(&sp->lock);
	return due;
}

/* What is backed already. Space lock. */
static u64 avail_backed(const struct kv_db *db, bool privileged)
{
	const struct kve_space *sp = &db->space;
	u64 bytes = 0;
	u32 i;

	for (i = KVF_SEG_FIRST; i < sp->nr; i++)
		if (sp->seg[i].kind == KVF_KIND_TREE && !segment_shut(sp, i))
			bytes += sp->seg[i].backed - KVF_MIN(sp->seg[i].backed,
				 sp->seg[i].used << (db->geo.unit_shift + db->geo.block_shift));
	return privileged ? bytes + (u64)backed_free(db) * (db->geo.segment - db->geo.block) : bytes;
}

/* Bytes of whole frames that TREE segments have room for. Space lock. */
static u64 tree_room(const struct kv_db *db, u32 room)
{
	const struct kve_space *sp = &db->space;
	/* Not in those that nothing is put into. */
	u64 pages = (u64)(sp->tree_nr - sp->shut_nr) * room;
	u64 shut = (u64)sp->shut_units << (db->geo.unit_shift + db->geo.block_shift);

	return pages - KVF_MIN(pages, sp->tree_bytes - KVF_MIN(sp->tree_bytes, shut));
}

u64 kve_space_avail(struct kv_db *db, bool privileged)
{
	struct kve_space *sp = &db->space;
	/* Whole frames: what is left of a tiny segment beside a page has no room for another. */
	u32 room = (u32)KVF_ROUND_DOWN(db->geo.segment - db->geo.block, db->geo.frame), reserve;
	u64 segments, pages;

	kvp_mutex_lock(&sp->lock);
	segments = sp->free_nr + growth_left(db);
	reserve = reserve_segments(db);
	/* The last may be in use by now: what is left of it counts. */
	if (privileged && reserve) {
		pages = tree_room(db, room) + segments * room;
		pages -= KVF_MIN(pages, (u64)RESERVE_LAST * room);
	} else {
		pages = tree_room(db, room) + (segments - KVF_MIN(segments, (u64)reserve)) * room;
	}
	if (sp->host_full)
		pages = avail_backed(db, privileged);
	kvp_mutex_unlock(&sp->lock);
	return pages;
}

bool kve_space_scarce(struct kv_db *db, u64 checkpoint)
{
	u32 room = (u32)KVF_ROUND_DOWN(db->geo.segment - db->geo.block, db->geo.frame);
	u64 least = reserve_segments(db);
	bool scarce;

	if (!least)
		return false;
	/* Two checkpoints, the log, and two segments of copies. */
	least += 2 * ((checkpoint + room - 1) / room) + 4;
	kvp_mutex_lock(&db->space.lock);
	scarce = db->space.free_nr + growth_left(db) < least;
	kvp_mutex_unlock(&db->space.lock);
	return scarce;
}

u32 kve_space_gc_room(struct kv_db *db, u64 checkpoint)
{
	struct kve_space *sp = &db->space;
	u32 room = (u32)KVF_ROUND_DOWN(db->geo.segment - db->geo.block, db->geo.frame);
	u64 segments, pages;

	kvp_mutex_lock(&sp->lock);
	segments = sp->host_full ? backed_free(db) : sp->free_nr + growth_left(db);
	pages = sp->host_full ? 0 : tree_room(db, room);
	kvp_mutex_unlock(&sp->lock);
	checkpoint -= KVF_MIN(checkpoint, pages);
	/* One more: the log's next. */
	checkpoint = (checkpoint + room - 1) / room + 1;
	return segments > checkpoint ? (u32)KVF_MIN(segments - checkpoint, 1024ull) : 0;
}

void kve_space_reserve(struct kv_db *db)
{
	if (!unlimited(db))
		return;
	kvp_mutex_lock(&db->space.lock);
	reserve_back(db);
	kvp_mutex_unlock(&db->space.lock);
}

bool kve_space_reclaimable(struct kv_db *db)
{
	bool yes;

	kvp_mutex_lock(&db->space.lock);
	yes = reclaimable(&db->space);
	kvp_mutex_unlock(&db->space.lock);
	return yes;
}

void kve_space_host_full(struct kv_db *db, bool full)
{
	kvp_mutex_lock(&db->space.lock);
	kvp_store(&db->space.host_full, full);
	kvp_mutex_unlock(&db->space.lock);
}

bool kve_space_is_host_full(struct kv_db *db)
{
	bool full;

	kvp_mutex_lock(&db->space.lock);
	full = db->space.host_full;
	kvp_mutex_unlock(&db->space.lock);
	return full;
}

void kve_ref_drop(struct kv_db *db, const struct kvf_ref *ref)
{
	u32 blocks = le32_to_cpu(ref->blocks);

	if (ref->block0)
		kve_blocks_drop(db, le64_to_cpu(ref->block0), blocks);
	if (ref->block1)
		kve_blocks_drop(db, le64_to_cpu(ref->block1), blocks);
}

int kve_ref_take(struct kv_db *db, u32 blocks, bool twin, u64 gen, struct kvf_ref *ref)
{
	u64 block;
	int err;

	memset(ref, 0, sizeof(*ref));
	err = kve_blocks_take(db, blocks, KVF_NO_SEGMENT, 0, &block);
	if (err)
		return err;
	ref->block0 = cpu_to_le64(block);
	ref->blocks = cpu_to_le32(blocks);
	ref->birth = cpu_to_le64(gen);
	if (!twin)
		return 0;
	err = kve_blocks_take(db, blocks, kve_block_segment(db, block), 1, &block);
	if (err) {
		kve_ref_drop(db, ref);
		memset(ref, 0, sizeof(*ref));
		return err;
	}
	ref->block1 = cpu_to_le64(block);
	return 0;
}
