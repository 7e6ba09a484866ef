// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kvp_mem.c - memory of the kernel port: allocations, buffers for I/O, the arena of frames, and
 * reclaim.
 *
 * All of it may sleep and may fail; nothing is asked for with __GFP_NOFAIL. Reclaim must not come back
 * into a file system while the engine holds its locks, hence the NOFS scope. Memory is accounted to
 * whoever asks for it.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "port.h"

#define IOBUF_EXACT 65536u /* larger buffers need not be contiguous */

void *kvp_alloc(size_t bytes, unsigned int flags)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	unsigned int scope = memalloc_nofs_save();
	void *p;

	if (flags & KVP_ZERO)
		gfp |= __GFP_ZERO;
	p = kvmalloc(bytes ? bytes : 1, gfp);
	memalloc_nofs_restore(scope);
	return p;
}

void *kvp_alloc_array(size_t n, size_t bytes, unsigned int flags)
{
	size_t total;

	if (check_mul_overflow(n, bytes, &total))
		return NULL;
	return kvp_alloc(total, flags);
}

void kvp_free(void *p)
{
	kvfree(p);
}

void *kvp_iobuf_alloc(size_t bytes)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	unsigned int scope = memalloc_nofs_save();
	void *p;

	bytes = PAGE_ALIGN(bytes ? bytes : 1);
	if (bytes <= IOBUF_EXACT)
		p = alloc_pages_exact(bytes, gfp);
	else
		p = __vmalloc(bytes, gfp);
	memalloc_nofs_restore(scope);
	return p;
}

void kvp_iobuf_free(void *p, size_t bytes)
{
	bytes = PAGE_ALIGN(bytes ? bytes : 1);
	if (!p)
		return;
	if (bytes <= IOBUF_EXACT)
		free_pages_exact(p, bytes);
	else
		vfree(p);
}

/* ---- arena --------------------------------------------------------------------------------------- */

/*
 * Frames are pages of their own, numbered in page_private(). Those that were put stay allocated until the
 * arena is trimmed: a reader that lost a race may still look at them.
 */
struct kvp_arena {
	struct mutex lock; /* for all below */
	unsigned int order;
	size_t max;
	size_t nr, free_nr, cap;
	struct page **frames; /* all of them: they go with the arena */
	u32 *free; /* numbers, last in, first out; room for cap, so that put never allocates */
};

static struct lock_class_key arena_key;

int kvp_arena_create(struct kvp_arena **out, size_t frame_bytes, size_t limit_bytes)
{
	struct kvp_arena *a;

	if (frame_bytes < 2048 || frame_bytes > 65536 || !is_power_of_2(frame_bytes) ||
	    limit_bytes < frame_bytes || limit_bytes / frame_bytes > U32_MAX)
		return -KVE_invalid;
	a = kvp_alloc(sizeof(*a), KVP_ZERO);
	if (!a)
		return -KVE_no_memory;
	__mutex_init(&a->lock, "kvfs_arena", &arena_key);
	a->order = get_order(frame_bytes);
	a->max = limit_bytes / frame_bytes;
	*out = a;
	return 0;
}

void kvp_arena_destroy(struct kvp_arena *a)
{
	size_t i;

	if (!a)
		return;
	for (i = 0; i < a->nr; i++)
		__free_pages(a->frames[i], a->order);
	mutex_destroy(&a->lock);
	kvp_free(a->frames);
	kvp_free(a->free);
	kvp_free(a);
}

static bool arena_grow(struct kvp_arena *a)
{
	size_t cap = a->cap ? a->cap * 2 : 256;
	struct page **frames = kvp_alloc_array(cap, sizeof(*frames), 0);
	u32 *free = kvp_alloc_array(cap, sizeof(*free), 0);

	if (!frames || !free) {
		kvp_free(frames);
		kvp_free(free);
		return false;
	}
	if (a->nr)
		memcpy(frames, a->frames, a->nr * sizeof(*frames));
	if (a->free_nr)
		memcpy(free, a->free, a->free_nr * sizeof(*free));
	kvp_free(a->frames);
	kvp_free(a->free);
	a->frames = frames;
	a->free = free;
	a->cap = cap;
	return true;
}

/* Failing is cheap: the engine then evicts, which a long search for contiguous memory would not beat. */
static struct page *frame_new(struct kvp_arena *a)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_NORETRY | __GFP_COMP;
	unsigned int scope;
	struct page *page;

	if (a->nr == a->max || (a->nr == a->cap && !arena_grow(a)))
		return NULL;
	scope = memalloc_nofs_save();
	page = alloc_pages(gfp, a->order);
	memalloc_nofs_restore(scope);
	if (page) {
		set_page_private(page, a->nr);
		a->frames[a->nr++] = page;
	}
	return page;
}

void *kvp_arena_get(struct kvp_arena *a)
{
	struct page *page;

	mutex_lock(&a->lock);
	page = a->free_nr ? a->frames[a->free[--a->free_nr]] : frame_new(a);
	mutex_unlock(&a->lock);
	return page ? page_address(page) : NULL;
}

void kvp_arena_put(struct kvp_arena *a, void *frame)
{
	if (!frame)
		return;
	mutex_lock(&a->lock);
	a->free[a->free_nr++] = (u32)page_private(virt_to_page(frame));
	mutex_unlock(&a->lock);
}

void kvp_arena_trim(struct kvp_arena *a)
{
	size_t i, nr = 0;

	/* What was put back before this is in no reader's hands afterwards. */
	mutex_lock(&a->lock);
	synchronize_rcu();
	while (a->free_nr) {
		i = a->free[--a->free_nr];
		set_page_private(a->frames[i], 0);
		__free_pages(a->frames[i], a->order);
		a->frames[i] = NULL;
	}
	for (i = 0; i < a->nr; i++) {
		if (!a->frames[i])
			continue;
		set_page_private(a->frames[i], nr);
		a->frames[nr++] = a->frames[i];
	}
	a->nr = nr;
	mutex_unlock(&a->lock);
}

/* ---- reclaim ------------------------------------------------------------------------------------- */

struct kvp_reclaim {
	u64 (*count)(void *arg);
	u64 (*scan)(void *arg, u64 nr);
	void *arg;
#ifdef KV_HAVE_SHRINKER_ALLOC
	struct shrinker *shrinker;
#else
	struct shrinker own, *shrinker;
#endif
};

static struct kvp_reclaim *reclaim_of(struct shrinker *s)
{
#ifdef KV_HAVE_SHRINKER_ALLOC
	return s->private_data;
#else
	return container_of(s, struct kvp_reclaim, own);
#endif
}

static unsigned long reclaim_count(struct shrinker *s, struct shrink_control *sc)
{
	struct kvp_reclaim *r = reclaim_of(s);
	u64 nr = r->count(r->arg);

	return nr ? nr : SHRINK_EMPTY;
}

/* What the engine's thread will do soon counts as done, or reclaim would ask again and again. */
static unsigned long reclaim_scan(struct shrinker *s, struct shrink_control *sc)
{
	struct kvp_reclaim *r = reclaim_of(s);
	u64 nr = r->scan(r->arg, sc->nr_to_scan);

	return nr ? nr : SHRINK_STOP;
}

static int shrinker_start(struct kvp_reclaim *r, const char *name)
{
#ifdef KV_HAVE_SHRINKER_ALLOC
	r->shrinker = shrinker_alloc(0, "kvfs-%s", name);
	if (!r->shrinker)
		return -KVE_no_memory;
	r->shrinker->private_data = r;
#else
	r->shrinker = &r->own;
#endif
	r->shrinker->count_objects = reclaim_count;
	r->shrinker->scan_objects = reclaim_scan;
	r->shrinker->seeks = DEFAULT_SEEKS;
#ifdef KV_HAVE_SHRINKER_ALLOC
	shrinker_register(r->shrinker);
	return 0;
#else
	return register_shrinker(r->shrinker, "kvfs-%s", name) ? -KVE_no_memory : 0;
#endif
}

int kvp_reclaim_register(struct kvp_reclaim **out, const char *name, u64 (*count)(void *arg),
			 u64 (*scan)(void *arg, u64 nr), void *arg)
{
	struct kvp_reclaim *r = kvp_alloc(sizeof(*r), KVP_ZERO);
	int err;

	if (!r)
		return -KVE_no_memory;
	r->count = count;
	r->scan = scan;
	r->arg = arg;
	err = shrinker_start(r, name);
	if (err) {
		kvp_free(r);
		return err;
	}
	*out = r;
	return 0;
}

void kvp_reclaim_unregister(struct kvp_reclaim *r)
{
	if (!r)
		return;
#ifdef KV_HAVE_SHRINKER_ALLOC
	shrinker_free(r->shrinker);
#else
	unregister_shrinker(r->shrinker);
#endif
	kvp_free(r);
}
