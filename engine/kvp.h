/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvp.h - the porting layer: all that the core of engine/ sees of the world.
 *
 * Implemented once for user space (engine/user/) and once for the kernel (kmod/), for real on both
 * sides. Errors are -KVE_* codes of kv_errcode.h. "kvp_arch.h" of each side gives types, byte order,
 * memcpy and friends, XXH64, the inline atomics and the complete types of locks, and is included
 * first. Whoever is below the engine calls nothing of the engine back.
 */
#ifndef KVP_H
#define KVP_H

#include "kvp_arch.h"
#include "../format/kv_errcode.h"

/*
 * kvp_arch.h supplies, beside types (see kv_types.h):
 *   kvp_load(p) kvp_store(p, v)                    relaxed
 *   kvp_load_acquire(p) kvp_store_release(p, v)
 *   kvp_add(p, n) kvp_sub(p, n)                    atomic, return the new value
 *   kvp_cas(p, &old, new)                          strong, acq_rel; old is updated on failure
 *   kvp_fence_acquire() kvp_fence_release()        order relaxed accesses around them
 *   kvp_relax()                                    inside a short loop that waits for another processor
 *   kvp_slot()      number below KVP_SLOTS of this thread or processor: equal ones share a cache line
 *   kvp_reader_enter() kvp_reader_exit()           around reads without lock of memory from an arena:
 *                                                  trimming waits for them; nothing in between sleeps
 *   kvp_process_is(id)  the same process as when kvp_process_id() gave this number
 *   kvp_likely(x) kvp_unlikely(x)
 *   KVP_INLINE                                     static, and inlined wherever it is called
 *   kvp_prefetch(p)                                bring the cache line of p; any address will do
 *   KVP_ASSERT(cond)                               our own logic only, never bytes from the medium
 *   struct kvp_mutex, struct kvp_rwsem, struct kvp_gate, struct kvp_cond
 *   KVP_PRINTF(fmt, args)                          format attribute
 */

/* ---- memory: may return NULL; callers cope; sizes are bounded by the caller --------------------- */

#define KVP_ZERO 1u

void *kvp_alloc(size_t bytes, unsigned int flags);
void *kvp_alloc_array(size_t n, size_t bytes, unsigned int flags); /* overflow checked */
void kvp_free(void *p);						   /* NULL is fine */
/*
 * Room for need items of so many bytes each: in the array whose address is given, or in a longer copy of the
 * nr that are there. -KVE_no_memory, and all as it was.
 */
static inline int kvp_array_room(void *array, u32 *cap, u32 nr, u32 need, size_t bytes)
{
	u32 more = *cap + *cap / 2 + 16;
	void *old, *copy;

	if (need <= *cap)
		return 0;
	if (more < need)
		more = need;
	copy = kvp_alloc_array(more, bytes, 0);
	if (!copy)
		return -KVE_no_memory;
	memcpy(&old, array, sizeof(old));
	if (nr)
		memcpy(copy, old, nr * bytes);
	kvp_free(old);
	memcpy(array, &copy, sizeof(copy));
	*cap = more;
	return 0;
}
/* Buffers for I/O: aligned to 4096, length rounded up to 4096. */
void *kvp_iobuf_alloc(size_t bytes);
void kvp_iobuf_free(void *p, size_t bytes);
/*
 * Frames: bytes (a power of two, 2 KiB to 64 KiB) aligned for I/O, taken from one arena in user space
 * (huge pages), from alloc_pages in the kernel. limit_bytes bounds the address range only; memory is
 * taken as it is used. The memory of a frame stays readable until the arena is trimmed or destroyed.
 */
struct kvp_arena;
int kvp_arena_create(struct kvp_arena **out, size_t frame_bytes, size_t limit_bytes);
void kvp_arena_destroy(struct kvp_arena *a);
void *kvp_arena_get(struct kvp_arena *a); /* NULL: none left */
void kvp_arena_put(struct kvp_arena *a, void *frame);
/* Gives the memory of all frames that were put back to the system. The caller knows of no late reader. */
void kvp_arena_trim(struct kvp_arena *a);

/*
 * The system is short of memory. count: frames that could be given back; scan: give back up to nr of them,
 * returns how many were or will be. Both are called at any time, by a thread that may hold any lock of the
 * engine: they take none and do not wait.
 */
struct kvp_reclaim;
int kvp_reclaim_register(struct kvp_reclaim **out, const char *name, u64 (*count)(void *arg),
			 u64 (*scan)(void *arg, u64 nr), void *arg);
/* NULL is fine. No call is under way when it returns. */
void kvp_reclaim_unregister(struct kvp_reclaim *r);

/* Annotations for lock analysis, where the compiler has it. */
#ifndef KVP_ACQUIRE
#define KVP_ACQUIRE(...)
#define KVP_ACQUIRE_SHARED(...)
#define KVP_TRY_ACQUIRE(...)
#define KVP_RELEASE(...)
#define KVP_RELEASE_SHARED(...)
#define KVP_REQUIRES(...)
#define KVP_REQUIRES_SHARED(...)
#define KVP_EXCLUDES(...)
#define KVP_ASSERT_HELD(...)
#define KVP_NO_LOCK_ANALYSIS
#endif

/* ---- locks: all may sleep. rank: see the table in engine/README.md; debug builds check the order -- */

void kvp_mutex_init(struct kvp_mutex *m, const char *name, unsigned int rank);
void kvp_mutex_destroy(struct kvp_mutex *m);
void kvp_mutex_lock(struct kvp_mutex *m) KVP_ACQUIRE(m);
bool kvp_mutex_trylock(struct kvp_mutex *m) KVP_TRY_ACQUIRE(true, m);
void kvp_mutex_unlock(struct kvp_mutex *m) KVP_RELEASE(m);
void kvp_mutex_assert_held(struct kvp_mutex *m) KVP_ASSERT_HELD(m);

/* A waiting writer blocks new readers, as in the kernel; not recursive. */
void kvp_rwsem_init(struct kvp_rwsem *s, const char *name, unsigned int rank);
void kvp_rwsem_destroy(struct kvp_rwsem *s);
void kvp_rwsem_down_read(struct kvp_rwsem *s) KVP_ACQUIRE_SHARED(s);
void kvp_rwsem_up_read(struct kvp_rwsem *s) KVP_RELEASE_SHARED(s);
void kvp_rwsem_down_write(struct kvp_rwsem *s) KVP_ACQUIRE(s);
void kvp_rwsem_up_write(struct kvp_rwsem *s) KVP_RELEASE(s);

/*
 * A lock that many threads share at no cost to one another: whoever enters writes a line of its own, who
 * closes visits all. Not recursive; what is done inside must not wait for I/O, as closing waits by yielding.
 */
void kvp_gate_init(struct kvp_gate *g, const char *name, unsigned int rank);
void kvp_gate_destroy(struct kvp_gate *g);
void kvp_gate_enter(struct kvp_gate *g) KVP_ACQUIRE_SHARED(g);
void kvp_gate_leave(struct kvp_gate *g) KVP_RELEASE_SHARED(g);
void kvp_gate_close(struct kvp_gate *g) KVP_ACQUIRE(g);
void kvp_gate_open(struct kvp_gate *g) KVP_RELEASE(g);

void kvp_cond_init(struct kvp_cond *c);
void kvp_cond_destroy(struct kvp_cond *c);
void kvp_cond_wait(struct kvp_cond *c, struct kvp_mutex *m) KVP_REQUIRES(m);
/* Returns false when us microseconds have passed: not before, and no later than the system's timers are. */
bool kvp_cond_wait_us(struct kvp_cond *c, struct kvp_mutex *m, unsigned int us) KVP_REQUIRES(m);
void kvp_cond_signal(struct kvp_cond *c);
void kvp_cond_broadcast(struct kvp_cond *c);

/* ---- threads, time, chance ------------------------------------------------------------------- */

struct kvp_thread;
int kvp_thread_start(struct kvp_thread **out, const char *name, void (*fn)(void *), void *arg);
void kvp_thread_join(struct kvp_thread *t); /* the caller has told fn to return */
void kvp_resched(void);
/* Inside a loop that waits for another thread: lets it run. */
void kvp_yield(void);
u64 kvp_now_ns(void);	   /* since 1970 */
u64 kvp_monotonic_ns(void);
void kvp_random(void *buf, size_t bytes);
/* Number of this process: differs after a fork. Constant in the kernel. */
u64 kvp_process_id(void);

/* ---- messages -------------------------------------------------------------------------------- */

enum kvp_log_level { KVP_LOG_ERROR = 0, KVP_LOG_WARN = 1, KVP_LOG_INFO = 2, KVP_LOG_DEBUG = 3 };
struct kvp_log {
	void (*fn)(void *arg, int level, const char *message); /* NULL: stderr, errors and warnings */
	void *arg;
	int level; /* highest level that is passed on */
};
void kvp_log(const struct kvp_log *log, int level, const char *fmt, ...) KVP_PRINTF(3, 4);
int kvp_snprintf(char *buf, size_t len, const char *fmt, ...) KVP_PRINTF(3, 4);
int kvp_vsnprintf(char *buf, size_t len, const char *fmt, __builtin_va_list ap) KVP_PRINTF(3, 0);
/* Where this thread keeps the text of its last error (KVP_ERROR_BYTES), or NULL: then only the log. */
#define KVP_ERROR_BYTES 512
char *kvp_error_text(void);

/* ---- compression ----------------------------------------------------------------------------- */

/* LZ4 block format. Return bytes written, or 0 when it does not fit or the input is malformed. */
u32 kvp_lz4_compress(const void *src, u32 len, void *dst, u32 cap);
u32 kvp_lz4_decompress(const void *src, u32 len, void *dst, u32 cap);

/* ---- planted bugs ---------------------------------------------------------------------------- */

/*
 * In the test build (-DKV_PLANTED_BUGS) KVP_BUG(name) is true when the environment variable KV_BUG
 * has that name, or the test called kvp_bug_set(). Otherwise it is 0 at compile time.
 */
#ifdef KV_PLANTED_BUGS
bool kvp_bug(const char *name);
void kvp_bug_set(const char *name); /* NULL: none */
#define KVP_BUG(name) kvp_unlikely(kvp_bug(name))
#else
#define KVP_BUG(name) 0
#endif

/* ---- counters -------------------------------------------------------------------------------- */

/* A sum that many threads add to, each in a line of its own. */
struct kvp_count {
	struct {
		u64 n;
		u8 line[56];
	} slot[KVP_SLOTS];
};

static inline void kvp_count_add(struct kvp_count *c, u64 n)
{
	kvp_add(&c->slot[kvp_slot()].n, n);
}

static inline u64 kvp_count_sum(const struct kvp_count *c)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < KVP_SLOTS; i++)
		sum += kvp_load(&c->slot[i].n);
	return sum;
}

/* ---- block devices --------------------------------------------------------------------------- */

#define KVP_FUA 1u     /* durable when it returns, if every earlier write is */
#define KVP_WRITTEN 1u /* of allocate: no unwritten extents */

enum kvp_io_op { KVP_IO_READ = 0, KVP_IO_WRITE = 1 };
struct kvp_io {
	u8 op;
	u64 off;
	void *buf;
	u32 len;
	int result; /* 0 or -KVE_*; set by kvp_dev_batch */
};

/* Transfers under way: between kvp_dev_start() and kvp_dev_finish(). */
struct kvp_batch {
	struct kvp_io *ios;
	unsigned int n;
	void *own; /* of the device; NULL: none was begun, all are done by finish */
};

struct kvp_dev;
struct kvp_dev_ops {
	int (*read)(struct kvp_dev *dev, u64 off, void *buf, u32 len);
	int (*write)(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags);
	/* All n at once, in any order; returns when all are done: 0 or the first error. */
	int (*batch)(struct kvp_dev *dev, struct kvp_io *ios, unsigned int n);
	/*
	 * The same in two halves. start may set own and be back before they are done; until finish is back,
	 * ios and buffers are the device's. Both are NULL where finish is to do the whole batch.
	 */
	void (*start)(struct kvp_dev *dev, struct kvp_batch *b);
	int (*finish)(struct kvp_dev *dev, struct kvp_batch *b);
	/* Everything written before is durable when this returns. An error is final for the device. */
	int (*flush)(struct kvp_dev *dev);
	/*
	 * [off, off + len) is backed by the medium, zero where nothing was written, and within the size.
	 * -KVE_no_space when it cannot be. Durable at flush. KVP_WRITTEN: so that writes there need no
	 * metadata, which makes the first sync of each cheaper, and costs as many bytes written.
	 */
	int (*allocate)(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags);
	/* [off, off + len) is not needed any more: punch or discard; may do nothing. */
	int (*discard)(struct kvp_dev *dev, u64 off, u64 len);
	/* Cut or extend the size of an image file; -KVE_invalid on devices. */
	int (*resize)(struct kvp_dev *dev, u64 size);
	/*
	 * The window: kill-safe memory of the medium. map returns 0, or -KVE_unsupported: no window here.
	 * store copies into it: an un-synced write that survives the death of this process. back, NULL where
	 * it is not needed: stores to its first upto bytes need no space and no memory any more.
	 */
	int (*window_map)(struct kvp_dev *dev, u64 off, u32 len);
	int (*window_back)(struct kvp_dev *dev, u32 upto);
	int (*window_store)(struct kvp_dev *dev, u32 off, const void *buf, u32 len);
	/* Bytes of the medium that are in use by this volume, or 0 when not known. */
	u64 (*allocated)(struct kvp_dev *dev);
	void (*close)(struct kvp_dev *dev);
};

/*
 * Offsets and lengths of read and write are multiples of align; buffers come from kvp_iobuf_alloc or
 * the arena, or are aligned to 4096. A read past the end gives -KVE_truncated; a short transfer never
 * succeeds. All functions may be called from several threads at once.
 */
struct kvp_dev {
	const struct kvp_dev_ops *ops;
	u64 size;	/* bytes now */
	u32 align;	/* of offsets and lengths: 512 or 4096 */
	u32 physical;	/* sector that the medium writes at once, 512 to 4096 */
	bool read_only;
	bool growable;	/* an image file: size follows allocate and resize */
	/* counted by the port: reads, writes, flushes, bytes; for kv_stat */
	u64 reads, writes, flushes, read_bytes, write_bytes;
	char name[256]; /* for messages */
};

static inline int kvp_dev_read(struct kvp_dev *d, u64 off, void *buf, u32 len)
{
	return d->ops->read(d, off, buf, len);
}

static inline int kvp_dev_write(struct kvp_dev *d, u64 off, const void *buf, u32 len, unsigned int fl)
{
	return d->ops->write(d, off, buf, len, fl);
}

static inline int kvp_dev_batch(struct kvp_dev *d, struct kvp_io *ios, unsigned int n)
{
	return d->ops->batch(d, ios, n);
}

static inline void kvp_dev_start(struct kvp_dev *d, struct kvp_batch *b, struct kvp_io *ios, unsigned int n)
{
	b->ios = ios;
	b->n = n;
	b->own = NULL;
	if (d->ops->start)
		d->ops->start(d, b);
}

/* 0 or the first error, as of kvp_dev_batch(). */
static inline int kvp_dev_finish(struct kvp_dev *d, struct kvp_batch *b)
{
	return b->own ? d->ops->finish(d, b) : kvp_dev_batch(d, b->ios, b->n);
}

static inline int kvp_dev_flush(struct kvp_dev *d)
{
	return d->ops->flush(d);
}

static inline int kvp_dev_allocate(struct kvp_dev *d, u64 off, u64 len, unsigned int flags)
{
	return d->ops->allocate(d, off, len, flags);
}

static inline int kvp_dev_discard(struct kvp_dev *d, u64 off, u64 len)
{
	return d->ops->discard(d, off, len);
}

static inline int kvp_dev_resize(struct kvp_dev *d, u64 size)
{
	return d->ops->resize(d, size);
}

static inline int kvp_dev_window_map(struct kvp_dev *d, u64 off, u32 len)
{
	return d->ops->window_map(d, off, len);
}

static inline int kvp_dev_window_back(struct kvp_dev *d, u32 upto)
{
	return d->ops->window_back ? d->ops->window_back(d, upto) : 0;
}

static inline int kvp_dev_window_store(struct kvp_dev *d, u32 off, const void *buf, u32 len)
{
	return d->ops->window_store(d, off, buf, len);
}

static inline void kvp_dev_close(struct kvp_dev *d)
{
	d->ops->close(d);
}

#endif
