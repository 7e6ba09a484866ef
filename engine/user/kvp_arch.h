/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvp_arch.h - user-space side of the port, part one: types, byte order, memory functions, atomics
 * and the complete types of locks. The kernel has its own kvp_arch.h with the same names. See
 * kvp.h.
 */
#ifndef KVP_ARCH_H
#define KVP_ARCH_H

#include <endian.h>
#include <linux/types.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* for a state on the stack */
#include <xxhash.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int32_t s32;
typedef long long s64;

/* __le16 __le32 __le64 are those of linux/types.h, which the port meets anyway. */
#ifdef __CHECKER__
#define __force __attribute__((force))
#else
#define __force
#endif

static inline u16 le16_to_cpu(__le16 v) { return le16toh((__force u16)v); }
static inline u32 le32_to_cpu(__le32 v) { return le32toh((__force u32)v); }
static inline u64 le64_to_cpu(__le64 v) { return le64toh((__force u64)v); }
static inline __le16 cpu_to_le16(u16 v) { return (__force __le16)htole16(v); }
static inline __le32 cpu_to_le32(u32 v) { return (__force __le32)htole32(v); }
static inline __le64 cpu_to_le64(u64 v) { return (__force __le64)htole64(v); }

static inline u64 kvp_xxh64(const void *data, size_t len, u64 seed)
{
	return XXH64(data, len, seed);
}

/* Seed 0, as if the 8 bytes at off were zero. */
static inline u64 kvp_xxh64_zeroed(const void *data, size_t len, size_t off)
{
	static const u8 zeros[8];
	XXH64_state_t state;

	XXH64_reset(&state, 0);
	XXH64_update(&state, data, off);
	XXH64_update(&state, zeros, sizeof(zeros));
	XXH64_update(&state, (const u8 *)data + off + sizeof(zeros), len - off - sizeof(zeros));
	return XXH64_digest(&state);
}

#define KVP_BUILD_BUG_ON(cond) _Static_assert(!(cond), #cond)
#define kvp_likely(x) __builtin_expect(!!(x), 1)
#define kvp_unlikely(x) __builtin_expect(!!(x), 0)
#define KVP_INLINE static inline __attribute__((always_inline))
#define kvp_prefetch(p) __builtin_prefetch(p)
#define KVP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/*
 * Lock annotations for clang -Wthread-safety (kvp.h makes them empty where they are not defined).
 * They go on functions; for fields name the lock in a comment (clang 14 knows no sibling fields in
 * C).
 */
#ifdef __clang__
#define KVP_CAPABILITY(name) __attribute__((capability(name)))
#define KVP_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define KVP_ACQUIRE_SHARED(...) __attribute__((acquire_shared_capability(__VA_ARGS__)))
#define KVP_TRY_ACQUIRE(ret, ...) __attribute__((try_acquire_capability(ret, __VA_ARGS__)))
#define KVP_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))
#define KVP_RELEASE_SHARED(...) __attribute__((release_shared_capability(__VA_ARGS__)))
#define KVP_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define KVP_REQUIRES_SHARED(...) __attribute__((requires_shared_capability(__VA_ARGS__)))
#define KVP_EXCLUDES(...) __attribute__((locks_excluded(__VA_ARGS__)))
#define KVP_ASSERT_HELD(...) __attribute__((assert_capability(__VA_ARGS__)))
#define KVP_NO_LOCK_ANALYSIS __attribute__((no_thread_safety_analysis))
#else
#define KVP_CAPABILITY(name)
#endif

#ifdef __CHECKER__ /* sparse knows the built-ins for plain integers only, and compiles nothing */
#define kvp_load(p) (*(p))
#define kvp_store(p, v) ((void)(*(p) = (v)))
#define kvp_load_acquire(p) (*(p))
#define kvp_store_release(p, v) ((void)(*(p) = (v)))
#else
#define kvp_load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define kvp_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define kvp_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define kvp_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#endif
#ifdef __SANITIZE_THREAD__ /* knows no fences; the machines it runs on need the compiler's alone */
#define kvp_fence_acquire() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define kvp_fence_release() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#else
#define kvp_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define kvp_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif
#if defined(__x86_64__) || defined(__i386__)
#define kvp_relax() __builtin_ia32_pause()
#else
#define kvp_relax() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif
#define kvp_add(p, n) __atomic_add_fetch(p, n, __ATOMIC_RELAXED)
#define kvp_sub(p, n) __atomic_sub_fetch(p, n, __ATOMIC_RELAXED)
#define kvp_cas(p, old, new) \
	__atomic_compare_exchange_n(p, old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Threads take numbers in turn when they first ask: thread.c. */
#define KVP_SLOTS 32
extern _Thread_local unsigned int kvp_thread_slot __attribute__((tls_model("initial-exec")));
unsigned int kvp_slot_take(void);
static inline unsigned int kvp_slot(void)
{
	unsigned int slot = kvp_thread_slot;

	return kvp_likely(slot) ? slot - 1 : kvp_slot_take();
}

/* thread.c: what kvp_process_id() says; 0 before it was called for the first time. */
extern u64 kvp_process;
static inline bool kvp_process_is(u64 id)
{
	return kvp_load(&kvp_process) == id;
}

/* The memory of an arena stays mapped, so a late reader finds old bytes or zeros. */
static inline void kvp_reader_enter(void) {}
static inline void kvp_reader_exit(void) {}

/* Stops the process with file and line. */
_Noreturn void kvp_assert_failed(const char *file, int line, const char *cond);
#define KVP_ASSERT(cond) \
	do { \
		if (kvp_unlikely(!(cond))) \
			kvp_assert_failed(__FILE__, __LINE__, #cond); \
	} while (0)

/* Who holds what is kept per thread, in debug builds: lock.c. */
struct KVP_CAPABILITY("mutex") kvp_mutex {
	pthread_mutex_t m;
	const char *name;
	unsigned int rank;
};

struct KVP_CAPABILITY("rwsem") kvp_rwsem {
	pthread_rwlock_t l;
	const char *name;
	unsigned int rank;
};

struct KVP_CAPABILITY("gate") kvp_gate {
	struct kvp_mutex m; /* held while it is closed */
	u32 closed;
	struct {
		u32 in; /* threads inside that have this number */
		u8 line[60];
	} slot[KVP_SLOTS];
};

struct kvp_cond {
	pthread_cond_t c;
};

#endif
