// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * mem.c - memory of the user-space port: allocations that a test can make fail, buffers for I/O,
 * and the arena of frames.
 *
 * Every allocation, buffer and frame counts as one call for kvp_alloc_fail() and as one in use
 * until it is freed. Calls are counted only once a test has asked for it: the counter would be a
 * cache line that all threads share.
 *
 * The arena is one mapping that stays where it is until it is destroyed, so a reader that lost a
 * race may still read a frame that was put back. For the same reason the list of free frames lives
 * beside the frames and not in them: put writes no byte of a frame.
 *
 * It has huge pages, but for as long as less than one of them is in use: clearing that takes longer than
 * opening a small volume. Then it is made of the small ones.
 */
#include "port.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE (2u << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static struct {
	u64 calls;
	u64 nth;
	bool counting;
	bool persistent;
} alloc_state;

static struct kvp_count in_use; /* modulo 2^64: freed by another thread than it was allocated by */

void kvp_alloc_fail(u64 nth, bool persistent)
{
	kvp_store(&alloc_state.counting, false);
	kvp_store(&alloc_state.calls, 0);
	kvp_store(&alloc_state.nth, nth);
	kvp_store(&alloc_state.persistent, persistent);
	kvp_store_release(&alloc_state.counting, true);
}

u64 kvp_alloc_calls(void)
{
	return kvp_load(&alloc_state.calls);
}

u64 kvp_alloc_in_use(void)
{
	return kvp_count_sum(&in_use);
}

/* Is this the call that a test wants to fail? */
static bool alloc_refused(void)
{
	u64 call, nth;

	if (kvp_likely(!kvp_load_acquire(&alloc_state.counting)))
		return false;
	call = kvp_add(&alloc_state.calls, 1);
	nth = kvp_load(&alloc_state.nth);
	if (nth == 0)
		return false;
	return call == nth || (call > nth && kvp_load(&alloc_state.persistent));
}

static void *alloc_done(void *p)
{
	if (p)
		kvp_count_add(&in_use, 1);
	return p;
}

static void alloc_freed(void)
{
	kvp_count_add(&in_use, (u64)-1);
}

void *kvp_alloc(size_t bytes, unsigned int flags)
{
	if (alloc_refused())
		return NULL;
	if (bytes == 0)
		bytes = 1;
	return alloc_done(flags & KVP_ZERO ? calloc(1, bytes) : malloc(bytes));
}

void *kvp_alloc_array(size_t n, size_t bytes, unsigned int flags)
{
	size_t total;

	if (__builtin_mul_overflow(n, bytes, &total))
		return NULL;
	return kvp_alloc(total, flags);
}

void kvp_free(void *p)
{
	if (!p)
		return;
	alloc_freed();
	free(p);
}

/*
 * Large buffers that come and go are mapped: malloc takes the largest that was freed for the size that it may
 * keep, and then twice as much stays with the process.
 */
#define MAP_BYTES (512u << 10)

static size_t iobuf_bytes(size_t bytes)
{
	return bytes ? (bytes + KVP_IO_ALIGN - 1) & ~(size_t)(KVP_IO_ALIGN - 1) : KVP_IO_ALIGN;
}

void *kvp_iobuf_alloc(size_t bytes)
{
	void *p;

	if (alloc_refused() || bytes > SIZE_MAX - KVP_IO_ALIGN)
		return NULL;
	bytes = iobuf_bytes(bytes);
	if (bytes < MAP_BYTES)
		return alloc_done(aligned_alloc(KVP_IO_ALIGN, bytes));
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : alloc_done(p);
}

void kvp_iobuf_free(void *p, size_t bytes)
{
	bytes = iobuf_bytes(bytes);
	if (!p || bytes < MAP_BYTES) {
		kvp_free(p);
		return;
	}
	alloc_freed();
	KVP_ASSERT(munmap(p, bytes) == 0);
}

/* ---- arena --------------------------------------------------------------------------------- */

struct kvp_arena {
	pthread_mutex_t lock; /* for all below; nothing is called with it held */
	size_t frame_bytes;
	u32 max;	/* frames that fit the range */
	u32 fresh;	/* frames handed out at least once: the rest has never been touched */
	u32 free_nr;
	u32 trimmed;	/* so many of them from the first on have no memory */
	u32 *free_list; /* numbers of frames put back, last in first out: those are warm */
	u8 *base;	/* first frame */
	void *map;
	size_t map_bytes;
};

static void *map_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int kvp_arena_create(struct kvp_arena **out, size_t frame_bytes, size_t limit_bytes)
{
	size_t max = frame_bytes ? limit_bytes / frame_bytes : 0;
	struct kvp_arena *a;

	if (frame_bytes < 2048 || frame_bytes > 65536 || (frame_bytes & (frame_bytes - 1)) ||
	    max == 0 || max > UINT32_MAX || limit_bytes > SIZE_MAX - HUGE_PAGE)
		return kvp_fail(-KVE_invalid,
				"an arena of %zu bytes in frames of %zu bytes is not possible",
				limit_bytes, frame_bytes);
	a = kvp_alloc(sizeof(*a), KVP_ZERO);
	if (!a)
		return -KVE_no_memory;
	a->frame_bytes = frame_bytes;
	a->max = max;
	a->map_bytes = max * frame_bytes + HUGE_PAGE;
	a->map = map_memory(a->map_bytes);
	a->free_list = map_memory(max * sizeof(u32));
	if (!a->map || !a->free_list)
		goto no_memory;
	/* Huge pages begin at multiples of their size. */
	a->base = (u8 *)(((uintptr_t)a->map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
	pthread_mutex_init(&a->lock, NULL);
	*out = a;
	return 0;

no_memory:
	if (a->map)
		munmap(a->map, a->map_bytes);
	if (a->free_list)
		munmap(a->free_list, max * sizeof(u32));
	kvp_free(a);
	return -KVE_no_memory;
}

void kvp_arena_destroy(struct kvp_arena *a)
{
	if (!a)
		return;
	/* Frames not put back go with the arena: the cache does not return them one by one. */
	kvp_count_add(&in_use, (u64)a->free_nr - a->fresh);
	munmap(a->map, a->map_bytes);
	munmap(a->free_list, a->max * sizeof(u32));
	pthread_mutex_destroy(&a->lock);
	kvp_free(a);
}

/* Hints; it works without. A small cache would waste memory on huge pages. Lock. */
static void grow_huge(struct kvp_arena *a)
{
	size_t bytes = a->max * a->frame_bytes;

	if (bytes < 4 * (size_t)HUGE_PAGE)
		return;
	(void)madvise(a->base, bytes, MADV_HUGEPAGE);
	(void)madvise(a->base, HUGE_PAGE, MADV_COLLAPSE);
}

void *kvp_arena_get(struct kvp_arena *a)
{
	void *frame = NULL;

	if (alloc_refused())
		return NULL;
	pthread_mutex_lock(&a->lock);
	if (a->free_nr) {
		frame = a->base + (size_t)a->free_list[--a->free_nr] * a->frame_bytes;
		a->trimmed = a->trimmed < a->free_nr ? a->trimmed : a->free_nr;
	} else if (a->fresh < a->max) {
		frame = a->base + (size_t)a->fresh++ * a->frame_bytes;
		if (a->fresh * a->frame_bytes == HUGE_PAGE)
			grow_huge(a);
	}
	pthread_mutex_unlock(&a->lock);
	return alloc_done(frame);
}

/* The range stays mapped, so what a late reader finds is zeros. */
void kvp_arena_trim(struct kvp_arena *a)
{
	u32 i;

	pthread_mutex_lock(&a->lock);
	/* One frame that is taken again must not bring back the huge page around it. */
	if (!a->trimmed && a->free_nr)
		(void)madvise(a->base, a->max * a->frame_bytes, MADV_NOHUGEPAGE);
	for (i = a->trimmed; i < a->free_nr && a->frame_bytes >= KVP_IO_ALIGN; i++)
		(void)madvise(a->base + (size_t)a->free_list[i] * a->frame_bytes, a->frame_bytes,
			      MADV_DONTNEED); /* fails for locked memory: then it stays */
	a->trimmed = a->free_nr;
	pthread_mutex_unlock(&a->lock);
}

void kvp_arena_put(struct kvp_arena *a, void *frame)
{
	size_t at;

	if (!frame)
		return;
	at = (size_t)((u8 *)frame - a->base);
	pthread_mutex_lock(&a->lock);
	KVP_ASSERT(at % a->frame_bytes == 0 && at / a->frame_bytes < a->fresh);
	KVP_ASSERT(a->free_nr < a->fresh);
	a->free_list[a->free_nr++] = at / a->frame_bytes;
	pthread_mutex_unlock(&a->lock);
	alloc_freed();
}

/* ---- reclaim ------------------------------------------------------------------------------------- */

/* Nothing asks here but kvp_reclaim_run(): a process is not told that memory is short. */
struct kvp_reclaim {
	struct kvp_reclaim *next;
	u64 (*count)(void *arg);
	u64 (*scan)(void *arg, u64 nr);
	void *arg;
};

static pthread_mutex_t reclaim_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvp_reclaim *reclaims; /* under reclaim_lock */

int kvp_reclaim_register(struct kvp_reclaim **out, const char *name, u64 (*count)(void *arg),
			 u64 (*scan)(void *arg, u64 nr), void *arg)
{
	struct kvp_reclaim *r = kvp_alloc(sizeof(*r), 0);

	(void)name; /* the kernel shows it */
	if (!r)
		return -KVE_no_memory;
	*r = (struct kvp_reclaim){ .count = count, .scan = scan, .arg = arg };
	pthread_mutex_lock(&reclaim_lock);
	r->next = reclaims;
	reclaims = r;
	pthread_mutex_unlock(&reclaim_lock);
	*out = r;
	return 0;
}

void kvp_reclaim_unregister(struct kvp_reclaim *r)
{
	struct kvp_reclaim **link = &reclaims;

	if (!r)
		return;
	pthread_mutex_lock(&reclaim_lock);
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	pthread_mutex_unlock(&reclaim_lock);
	kvp_free(r);
}

u64 kvp_reclaim_run(u64 nr)
{
	struct kvp_reclaim *r;
	u64 done = 0;

	pthread_mutex_lock(&reclaim_lock);
	for (r = reclaims; r && done < nr; r = r->next)
		if (r->count(r->arg))
			done += r->scan(r->arg, nr - done);
	pthread_mutex_unlock(&reclaim_lock);
	return done;
}
