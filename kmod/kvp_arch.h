/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvp_arch.h - kernel side of the port, part one: types, byte order, memory functions, atomics and the
 * complete types of locks. User space has its own with the same names (engine/user/). See kvp.h.
 */
#ifndef KVP_ARCH_H
#define KVP_ARCH_H

#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/mutex.h>
#include <linux/prefetch.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/smp.h>
#include <linux/stdarg.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/xxhash.h>
#include <asm/byteorder.h>

/* Counters of 64 bits are changed by single atomic instructions. */
#if BITS_PER_LONG != 64
#error kvfs needs a kernel of 64 bits
#endif

static inline u64 kvp_xxh64(const void *data, size_t len, u64 seed)
{
	return xxh64(data, len, seed);
}

/* Seed 0, as if the 8 bytes at off were zero. */
static inline u64 kvp_xxh64_zeroed(const void *data, size_t len, size_t off)
{
	static const u8 zeros[8];
	struct xxh64_state state;

	xxh64_reset(&state, 0);
	xxh64_update(&state, data, off);
	xxh64_update(&state, zeros, sizeof(zeros));
	xxh64_update(&state, (const u8 *)data + off + sizeof(zeros), len - off - sizeof(zeros));
	return xxh64_digest(&state);
}

#define KVP_BUILD_BUG_ON(cond) _Static_assert(!(cond), #cond)
#define kvp_likely(x) likely(x)
#define kvp_unlikely(x) unlikely(x)
#define KVP_INLINE static inline __attribute__((always_inline))
#define kvp_prefetch(p) prefetch(p)
#define KVP_PRINTF(f, a) __printf(f, a)

#ifdef __CHECKER__ /* sparse knows the built-ins for plain integers only, and compiles nothing */
#define kvp_load(p) (*(p))
#define kvp_store(p, v) ((void)(*(p) = (v)))
#define kvp_load_acquire(p) (*(p))
#define kvp_store_release(p, v) ((void)(*(p) = (v)))
#define kvp_add(p, n) (*(p) += (n))
#define kvp_sub(p, n) (*(p) -= (n))
#define kvp_cas(p, old, new) (*(p) == *(old) ? (*(p) = (new), true) : (*(old) = *(p), false))
#else
#define kvp_load(p) READ_ONCE(*(p))
#define kvp_store(p, v) WRITE_ONCE(*(p), v)
#define kvp_load_acquire(p) smp_load_acquire(p)
#define kvp_store_release(p, v) smp_store_release(p, v)
#define kvp_add(p, n) __atomic_add_fetch(p, n, __ATOMIC_RELAXED)
#define kvp_sub(p, n) __atomic_sub_fetch(p, n, __ATOMIC_RELAXED)
#define kvp_cas(p, old, new) \
	__atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#endif

#define kvp_fence_acquire() smp_rmb()
#define kvp_fence_release() smp_wmb()
#define kvp_relax() cpu_relax()

#define KVP_SLOTS 32
static inline unsigned int kvp_slot(void)
{
	return raw_smp_processor_id() % KVP_SLOTS;
}

static inline bool kvp_process_is(u64 id)
{
	return id == 1;
}

static inline void kvp_reader_enter(void)
{
	rcu_read_lock();
}

static inline void kvp_reader_exit(void)
{
	rcu_read_unlock();
}

/* Warns once and goes on: a kernel has more to lose than one volume. */
#define KVP_ASSERT(cond) ((void)WARN_ON_ONCE(!(cond)))

struct kvp_mutex {
	struct mutex m;
};

struct kvp_rwsem {
	struct rw_semaphore s;
};

/* A percpu_rw_semaphore is far cheaper to share, and waits for milliseconds when it is closed. */
struct kvp_gate {
	struct rw_semaphore s;
};

struct kvp_cond {
	wait_queue_head_t q;
};

#endif
