/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cache.c - frames in memory: new, read, evicted.
 *
 * A clock over all frames; inner pages go after their children. A frame is evicted when it is clean,
 * not pinned, has no resident children and no frozen state refers to it: then its ref goes to the slot
 * of its parent. Checksums are verified once, when a page is read; a page of two copies heals the bad
 * one from the good one (byte-identical, the one exception to "nothing is overwritten in place").
 */
#include "kve.h"

#define EVICT_BATCH 16u
#define YIELDED_MOST (1ull << 20) /* bytes */
#define HOT_MAX 3u
#define HALVES_MIN 16u /* pages to be read */
#define FRAMES_BLOCK 4096u /* bytes: so many descriptors are made at once */

int kve_cache_init(struct kv_db *db, u64 bytes)
{
	struct kve_cache *c = &db->cache;
	u64 per_frame = db->geo.frame + sizeof(struct kve_frame);
	size_t most, blocks, kids = 2048; /* the least that an arena deals in */
	int err;

	c->limit = KVF_MAX(bytes / per_frame, 48ull);
	c->kids_max = (db->geo.frame - (u32)sizeof(struct kvf_page)) /
		      (u32)(sizeof(struct kvf_slot) + sizeof(struct kvf_item) + sizeof(struct kvf_ref)) + 1;
	while (kids < c->kids_max * (sizeof(struct kve_frame *) + sizeof(u8 *)))
		kids *= 2;
	/* Address space for what may exceed the limit for a moment: shadows, a read-only replay. */
	most = (size_t)c->limit * 4 + 65536;
	blocks = most / (FRAMES_BLOCK / sizeof(struct kve_frame)) + 1;
	err = kvp_arena_create(&c->arena, db->geo.frame, most * db->geo.frame);
	if (!err)
		err = kvp_arena_create(&c->frames_arena, FRAMES_BLOCK, blocks * FRAMES_BLOCK);
	if (!err)
		err = kvp_arena_create(&c->kids_arena, kids, most * kids);
	return err;
}

static void shadows_destroy(struct kve_frame *f)
{
	struct kve_shadow *sh;

	while ((sh = f->shadow)) {
		f->shadow = sh->next;
		kvp_free(sh);
	}
}

void kve_cache_exit(struct kv_db *db)
{
	struct kve_cache *c = &db->cache;
	struct kve_frame *f;

	/* Zombies that still had shadows stand in no other list: they are all in "every". */
	for (f = c->every; f; f = f->every)
		shadows_destroy(f);
	if (c->frames_arena)
		kvp_arena_destroy(c->frames_arena);
	if (c->arena)
		kvp_arena_destroy(c->arena);
	if (c->kids_arena)
		kvp_arena_destroy(c->kids_arena);
	kvp_mutex_destroy(&c->lock);
}

struct kve_frame **kve_kids_alloc(struct kv_db *db)
{
	struct kve_frame **kids = kvp_arena_get(db->cache.kids_arena);
	u32 i;

	for (i = 0; kids && i < db->cache.kids_max; i++) {
		kvp_store(&kids[i], NULL);
		kvp_store(kve_kid_page(kids, db->cache.kids_max, i), NULL);
	}
	return kids;
}

void kve_kids_free(struct kv_db *db, struct kve_frame **kids)
{
	if (kids)
		kvp_arena_put(db->cache.kids_arena, kids);
}

u8 *kve_image_alloc(struct kv_db *db)
{
	return kvp_arena_get(db->cache.arena);
}

void kve_image_free(struct kv_db *db, u8 *page)
{
	if (page)
		kvp_arena_put(db->cache.arena, page);
}

/* More descriptors, all spare. */
static void descriptors_grow(struct kve_cache *c)
{
	struct kve_frame *f = kvp_arena_get(c->frames_arena);
	u32 i;

	KVP_BUILD_BUG_ON(sizeof(*f) % KVE_LINE);
	if (!f)
		return;
	memset(f, 0, FRAMES_BLOCK);
	kvp_mutex_lock(&c->lock);
	for (i = 0; i < FRAMES_BLOCK / sizeof(*f); i++, f++) {
		f->every = c->every;
		c->every = f;
		f->next = c->spare;
		c->spare = f;
	}
	kvp_mutex_unlock(&c->lock);
}

static struct kve_frame *descriptor_spare(struct kve_cache *c)
{
	struct kve_frame *f;

	kvp_mutex_lock(&c->lock);
	f = c->spare;
	if (f)
		c->spare = f->next;
	kvp_mutex_unlock(&c->lock);
	return f;
}

/* A descriptor: used again, freed only with the cache, so that a racing reader finds a version. */
static struct kve_frame *descriptor_get(struct kv_db *db)
{
	struct kve_cache *c = &db->cache;
	struct kve_frame *f = descriptor_spare(c), *every;

	if (!f) {
		descriptors_grow(c);
		f = descriptor_spare(c);
	}
	if (!f)
		return NULL;
	every = f->every;
	memset((u8 *)f + offsetof(struct kve_frame, parent), 0,
	       sizeof(*f) - offsetof(struct kve_frame, parent));
	f->every = every;
	return f;
}

static void descriptor_put(struct kv_db *db, struct kve_frame *f)
{
	kvp_mutex_lock(&db->cache.lock);
	f->next = db->cache.spare;
	db->cache.spare = f;
	kvp_mutex_unlock(&db->cache.lock);
}

struct kve_frame *kve_frame_direct(struct kv_db *db, u8 level)
{
	struct kve_frame *f = descriptor_get(db), **kids = NULL;
	u8 *page;

	if (!f)
		return NULL;
	page = kve_image_alloc(db);
	if (page && level)
		kids = kve_kids_alloc(db);
	if (!page || (level && !kids)) {
		kve_image_free(db, page);
		descriptor_put(db, f);
		return NULL;
	}
	kvp_store(&f->page, page);
	kvp_store(&f->kids, kids);
	kvp_store(&f->level, level);
	kvp_store(&f->hot, 1);
	f->refs = 1;
	kvp_add(&db->cache.frames, 1u);
	return f;
}

struct kve_frame *kve_frame_new(struct kv_db *db, u8 level)
{
	kve_cache_room(db, EVICT_BATCH);
	kve_values_yield(db);
	return kve_frame_direct(db, level);
}

void kve_frame_unlink(struct kv_db *db, struct kve_frame *f)
{
	struct kve_cache *c = &db->cache;

	kvp_mutex_lock(&c->lock);
	if (f->prev) {
		c->clocked--;
		if (c->clock == f)
			c->clock = f->next == f ? NULL : f->next;
		f->prev->next = f->next;
		f->next->prev = f->prev;
		f->prev = f->next = NULL;
	}
	kvp_mutex_unlock(&c->lock);
}

void kve_frame_free(struct kv_db *db, struct kve_frame *f)
{
	struct kve_cache *c = &db->cache;

	kve_frame_unlink(db, f);
	if (f->dirty)
		kvp_sub(&c->dirty, 1u);
	/* From here on no reader without lock believes what it has read of it. */
	if (!KVP_BUG("frame-reuse"))
		kve_change_begin(f);
	kve_image_free(db, f->page);
	kve_kids_free(db, f->kids);
	kvp_store(&f->page, NULL);
	kvp_store(&f->kids, NULL);
	kvp_store(&f->ready, 0ull);
	if (!KVP_BUG("frame-reuse"))
		kve_change_end(f);
	f->dirty = false;
	kvp_sub(&c->frames, 1u);
	descriptor_put(db, f);
}

void kve_frame_insert(struct kv_db *db, struct kve_frame *f)
{
	struct kve_cache *c = &db->cache;

	kvp_mutex_lock(&c->lock);
	c->clocked++;
	if (c->clock) {
		f->next = c->clock;
		f->prev = c->clock->prev;
		f->prev->next = f;
		f->next->prev = f;
	} else {
		f->next = f->prev = f;
		c->clock = f;
	}
	kvp_mutex_unlock(&c->lock);
}

void kve_frame_touch(struct kve_frame *f)
{
	u8 hot = kvp_load(&f->hot);

	/* Written only when it changes. Inner pages go last. */
	if (hot < HOT_MAX)
		kvp_store(&f->hot, (u8)(kvp_load(&f->level) ? HOT_MAX : hot + 1u));
}

/* ---- eviction: tree lock exclusive -------------------------------------------------------------- */

static bool evictable(const struct kve_frame *f)
{
	return !kvp_load(&f->dirty) && !f->zombie && !kvp_load(&f->shadow) && f->refs == 1 &&
	       !f->kids_nr && !kvp_load(&f->pins);
}

static void evict(struct kv_db *db, struct kve_frame *f)
{
	struct kve_frame *p = f->parent;
	u32 i;

	if (p) {
		i = kve_kid_index(p, f);
		kve_change_begin(p);
		kve_node_cell_set(p->page, db->geo.frame, i, &f->ref, sizeof(f->ref));
		kve_kid_set(p, i, NULL);
		kve_change_end(p);
		p->kids_nr--;
	} else {
		kvp_store_release(&f->tree->head.root, NULL);
		f->tree->head.ref = f->ref;
	}
	kve_frame_free(db, f);
}

/* Whoever has the lock of a leaf is about to change it. That inner pages have no children stays so. */
static void evict_try(struct kv_db *db, struct kve_frame *f)
{
	if (f->level) {
		evict(db, f);
	} else if (kve_leaf_trylock(f)) {
		if (evictable(f))
			evict(db, f);
		kve_leaf_unlock(f);
	}
}

/* One round at most: what was touched since the last one stays, or a descent would never see its leaf. */
static void evict_round(struct kv_db *db, u64 target)
{
	struct kve_cache *c = &db->cache;
	struct kve_frame *f, *next;
	u64 steps;
	u8 hot;

	kvp_rwsem_down_write(&db->tree_lock);
	steps = c->clocked;
	f = c->clock;
	while (f && steps-- && kve_frames_in_use(c) > target) {
		next = f->next == f ? NULL : f->next;
		if (evictable(f)) {
			hot = kvp_load(&f->hot);
			if (hot)
				kvp_store(&f->hot, (u8)(hot - 1));
			else
				evict_try(db, f);
		}
		f = next;
	}
	kvp_mutex_lock(&c->lock);
	if (f && c->clock)
		c->clock = f;
	kvp_mutex_unlock(&c->lock);
	kvp_rwsem_up_write(&db->tree_lock);
}

/* What values and GC leave of the cache, less what values can always begin with; their own share at least. */
static u64 frames_limit(const struct kv_db *db)
{
	u64 others = kvp_load(&db->values.bytes) + kvp_load(&db->gc_bytes) + kve_values_least(db);
	u64 left = db->cache_bytes > others ? db->cache_bytes - others : 0;

	return KVF_MAX(left / (db->geo.frame + sizeof(struct kve_frame)), db->cache.limit);
}

static void cache_shrink(struct kv_db *db, u32 count)
{
	u64 limit = frames_limit(db);

	evict_round(db, limit > count ? limit - count : 0);
}

bool kve_cache_full(const struct kv_db *db)
{
	return kve_frames_in_use(&db->cache) >= frames_limit(db);
}

void kve_cache_room(struct kv_db *db, u32 count)
{
	if (kve_cache_full(db))
		cache_shrink(db, count);
}

void kve_tree_evict_locked(struct kv_db *db, struct kv_tree *t)
{
	struct kve_frame *f;
	u32 i;

	while ((f = t->head.root)) {
		while (f->kids_nr) {
			for (i = 0; !f->kids[i]; i++)
				;
			f = f->kids[i];
		}
		KVP_ASSERT(!f->dirty && !f->shadow && f->refs == 1);
		evict(db, f);
	}
}

void kve_tree_evict(struct kv_db *db, struct kv_tree *t)
{
	kvp_rwsem_down_write(&db->tree_lock);
	kve_tree_evict_locked(db, t);
	kvp_rwsem_up_write(&db->tree_lock);
}

/* ---- memory that others want --------------------------------------------------------------------- */

void kve_cache_reclaim(struct kv_db *db)
{
	struct kve_cache *c = &db->cache;
	u64 wanted = kvp_load(&c->wanted), have = kve_frames_in_use(c);
	u64 target = have > wanted ? have - wanted : 0;
	int round;

	kvp_sub(&c->wanted, wanted);
	/* Inner pages go after their children, hot ones after a second look. */
	for (round = 0; round < 4 && kve_frames_in_use(c) > target; round++)
		evict_round(db, target);
	kve_values_shrink(db, wanted * db->geo.frame);
	kvp_arena_trim(c->arena);
	kvp_arena_trim(c->kids_arena);
}

static u64 reclaim_count(void *arg)
{
	const struct kv_db *db = arg;
	u64 frames = kvp_load(&db->cache.frames), dirty = kvp_load(&db->cache.dirty);

	return (frames > dirty ? frames - dirty : 0) + kvp_load(&db->values.bytes) / db->geo.frame;
}

static u64 reclaim_scan(void *arg, u64 nr)
{
	struct kv_db *db = arg;
	u64 most = reclaim_count(arg);

	if (!most)
		return 0;
	nr = KVF_MIN(nr, most);
	if (kvp_load(&db->cache.wanted) < most)
		kvp_add(&db->cache.wanted, nr);
	kvp_cond_broadcast(&db->wake);
	return nr;
}

void kve_frames_yield(struct kv_db *db)
{
	struct kve_cache *c = &db->cache;
	u64 had = kvp_load(&c->frames), have;

	/* Shadows are nobody's choice. */
	if (had <= frames_limit(db) || KVP_BUG("frames-keep-all"))
		return;
	cache_shrink(db, EVICT_BATCH);
	have = kvp_load(&c->frames);
	/* The arena still has their memory, and nobody wants it for frames. */
	if (had > have && kvp_add(&c->yielded, had - have) * db->geo.frame >= YIELDED_MOST) {
		kvp_store(&c->yielded, 0);
		reclaim_scan(db, 1);
	}
}

int kve_cache_reclaim_start(struct kv_db *db)
{
	return kvp_reclaim_register(&db->cache.reclaim, "cache", reclaim_count, reclaim_scan, db);
}

void kve_cache_reclaim_stop(struct kv_db *db)
{
	kvp_reclaim_unregister(db->cache.reclaim);
	db->cache.reclaim = NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

static u32 ref_bytes(const struct kv_db *db, const struct kvf_ref *ref)
{
	return le32_to_cpu(ref->blocks) << db->geo.block_shift;
}

static int copy_verify(struct kv_db *db, u32 tree, const struct kvf_ref *ref, int level, u64 block, u8 *buf)
{
	struct kvf_page_expect e = { db->uuid, ref, tree, level };
	int finding;

	if (KVP_BUG("no-page-check"))
		return 0;
	finding = kvf_page_verify(buf, ref_bytes(db, ref), block, &e, &db->geo);
	return KVP_BUG("no-ref-sum") && finding == KVF_F_page_stale ? 0 : finding;
}

static int copy_read(struct kv_db *db, u32 tree, const struct kvf_ref *ref, int level, u64 block, u8 *buf,
		     int *finding)
{
	int err = kvp_dev_read(db->dev, block << db->geo.block_shift, buf, ref_bytes(db, ref));

	*finding = err ? 0 : copy_verify(db, tree, ref, level, block, buf);
	return *finding ? -KVE_corrupt_page : err;
}

/* The other copy is damaged: write what was verified over it. */
static void heal(struct kv_db *db, u64 block, u8 *buf, u32 len, int finding)
{
	kvp_add(&db->cache.healed, 1u);
	kvp_log(&db->logger, KVP_LOG_WARN, "%s: page at block %llu: %s; %s from its second copy",
		db->dev->name, block, kvf_finding_text(finding), db->read_only ? "served" : "repaired");
	if (!db->read_only && !kvp_load(&db->degraded))
		kvp_dev_write(db->dev, block << db->geo.block_shift, buf, len, 0);
}

int kve_page_read(struct kv_db *db, u32 tree, const char *name, const struct kvf_ref *ref, int level,
		  void *buf)
{
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u32 len = ref_bytes(db, ref);
	int err, finding, first;

	finding = kvf_ref_verify(ref, &db->geo, kvp_load(&db->dev->size) >> db->geo.segment_shift);
	if (finding)
		return kve_fail(db, KVE_corrupt_page, "ref to block %llu (tree '%s'): %s; run "
				"'kvs-fsck -n %s'", block[0], name, kvf_finding_text(finding),
				db->dev->name);
	err = copy_read(db, tree, ref, level, block[0], buf, &finding);
	first = finding ? finding : KVF_F_io_error;
	if (err && block[1] && !KVP_BUG("no-twin")) {
		err = copy_read(db, tree, ref, level, block[1], buf, &finding);
		if (!err)
			heal(db, block[0], buf, len, first);
	}
	if (!err) {
		kve_node_unpack(buf, db->geo.frame, len);
		return 0;
	}
	if (err != -KVE_corrupt_page)
		return err;
	return kve_fail(db, KVE_corrupt_page, "page at block %llu (tree '%s'): %s; run 'kvs-fsck -n %s'",
			block[0], name, kvf_finding_text(finding), db->dev->name);
}

/* The page was read to the new frame, verified. */
static int frame_adopt(struct kv_db *db, struct kv_tree *tree, const struct kvf_ref *ref, struct kve_frame *f)
{
	kvp_store(&f->level, ((struct kvf_page *)f->page)->level);
	/* A page that the clone shares is written as its own, if it is. */
	((struct kvf_page *)f->page)->tree = cpu_to_le32(tree->id);
	f->tree = tree;
	f->ref = *ref;
	/* It was evicted without shadows: its image serves every generation that can reach it. */
	f->gen = 0;
	if (!f->level)
		return 0;
	kvp_store(&f->kids, kve_kids_alloc(db));
	return f->kids ? 0 : -KVE_no_memory;
}

int kve_page_load(struct kv_db *db, struct kv_tree *tree, const struct kvf_ref *ref, int level,
		  struct kve_frame **out)
{
	struct kve_frame *f = kve_frame_new(db, 0);
	int err;

	if (!f)
		return -KVE_no_memory;
	kvp_add(&db->cache.misses, 1u);
	err = kve_page_read(db, kve_page_owner(tree, ref), tree->name, ref, level, f->page);
	if (!err)
		err = frame_adopt(db, tree, ref, f);
	if (err) {
		kve_frame_free(db, f);
		return err;
	}
	*out = f;
	return 0;
}

static int want_verify(struct kv_db *db, struct kve_page_want *w)
{
	const struct kvf_ref *ref = &w->need.ref;
	int err = copy_verify(db, kve_page_owner(w->tree, ref), ref, w->need.level, le64_to_cpu(ref->block0),
			      w->frame->page);

	if (err)
		return err;
	kvp_add(&db->cache.misses, 1u);
	kve_node_unpack(w->frame->page, db->geo.frame, ref_bytes(db, ref));
	return frame_adopt(db, w->tree, ref, w->frame);
}

/* A frame for each, and the transfer into it. Returns how many. */
static u32 reads_prepare(struct kv_db *db, struct kve_page_want *w, struct kvp_io *ios, u32 n)
{
	u64 segments = kvp_load(&db->dev->size) >> db->geo.segment_shift;
	const struct kvf_ref *ref;
	u32 i, nr = 0;

	for (i = 0; i < n; i++) {
		ref = &w[i].need.ref;
		w[i].frame = kvf_ref_verify(ref, &db->geo, segments) ? NULL : kve_frame_new(db, 0);
		if (w[i].frame)
			ios[nr++] = (struct kvp_io){ .op = KVP_IO_READ, .buf = w[i].frame->page,
						     .off = le64_to_cpu(ref->block0) << db->geo.block_shift,
						     .len = ref_bytes(db, ref) };
	}
	return nr;
}

u32 kve_pages_load(struct kv_db *db, struct kve_page_want *w, struct kvp_io *ios, u32 n)
{
	u32 i, at = 0, good = 0, nr = reads_prepare(db, w, ios, n), half = nr / 2;
	bool halves = nr >= HALVES_MIN;
	struct kvp_batch batch[2];

	/* What one half brings is verified while the other is still on its way. */
	if (halves) {
		kvp_dev_start(db->dev, &batch[0], ios, half);
		kvp_dev_start(db->dev, &batch[1], ios + half, nr - half);
	} else if (nr) {
		kvp_dev_batch(db->dev, ios, nr);
	}
	for (i = 0; i < n; i++) {
		if (!w[i].frame)
			continue;
		if (halves && (!at || (at == half && !KVP_BUG("half-unawaited"))))
			kvp_dev_finish(db->dev, &batch[at != 0]);
		if (ios[at++].result || want_verify(db, &w[i])) {
			kve_frame_free(db, w[i].frame);
			w[i].frame = NULL;
		} else {
			good++;
		}
	}
	return good;
}
