// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_port.c - the user-space port, all but files: memory, locks, threads, time, messages, LZ4,
 * and the devices in memory, recorded, faulty and order-checked. Files: test_port_file.c.
 */
#include "port.h"
#include "tests/unit/suite.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Locks are taken wrongly here on purpose. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

/* ---- memory -------------------------------------------------------------------------------- */

START_TEST(alloc_nth_fails_once_or_for_good)
{
	u64 in_use = kvp_alloc_in_use();
	void *p[4];

	kvp_alloc_fail(2, false);
	p[0] = kvp_alloc(10, 0);
	p[1] = kvp_alloc(10, 0);
	p[2] = kvp_iobuf_alloc(10);
	ck_assert_ptr_nonnull(p[0]);
	ck_assert_ptr_null(p[1]);
	ck_assert_ptr_nonnull(p[2]);
	ck_assert_uint_eq(kvp_alloc_calls(), 3);
	ck_assert_uint_eq(kvp_alloc_in_use() - in_use, 2);
	kvp_free(p[0]);
	kvp_iobuf_free(p[2], 10);

	kvp_alloc_fail(1, true);
	ck_assert_ptr_null(kvp_alloc(1, 0));
	ck_assert_ptr_null(kvp_iobuf_alloc(1));
	ck_assert_ptr_null(kvp_alloc_array(1, 1, KVP_ZERO));
	kvp_alloc_fail(0, false);
	p[3] = kvp_alloc(0, 0);
	ck_assert_ptr_nonnull(p[3]);
	kvp_free(p[3]);
	kvp_free(NULL);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);
}
END_TEST

START_TEST(alloc_zeroes_aligns_and_checks_overflow)
{
	u8 *z = kvp_alloc_array(100, 7, KVP_ZERO), *b = kvp_iobuf_alloc(4097);
	size_t i;

	for (i = 0; i < 700; i++)
		ck_assert_uint_eq(z[i], 0);
	ck_assert_uint_eq((uintptr_t)b % 4096, 0);
	memset(b, 1, 8192); /* rounded up: address sanitizer watches */
	ck_assert_ptr_null(kvp_alloc_array(SIZE_MAX / 2, 3, 0));
	ck_assert_ptr_null(kvp_iobuf_alloc(SIZE_MAX - 5));
	kvp_free(z);
	kvp_iobuf_free(b, 4097);
}
END_TEST

START_TEST(arena_frames_are_stable)
{
	u64 in_use = kvp_alloc_in_use();
	struct kvp_arena *a;
	u8 *f[9];
	int i;

	ck_assert_int_eq(kvp_arena_create(&a, 1000, 1 << 20), -KVE_invalid);
	ck_assert_int_eq(kvp_arena_create(&a, 131072, 1 << 20), -KVE_invalid);
	ck_assert_int_eq(kvp_arena_create(&a, 16384, 16383), -KVE_invalid);
	ck_assert_int_eq(kvp_arena_create(&a, 16384, 8 * 16384), 0);
	for (i = 0; i < 8; i++) {
		f[i] = kvp_arena_get(a);
		ck_assert_ptr_nonnull(f[i]);
		ck_assert_uint_eq((uintptr_t)f[i] % 4096, 0);
		memset(f[i], 'a' + i, 16384);
	}
	ck_assert_ptr_null(kvp_arena_get(a)); /* the limit */
	for (i = 0; i < 8; i++)
		ck_assert(f[i][0] == 'a' + i && f[i][16383] == 'a' + i);
	kvp_arena_put(a, f[3]);
	kvp_arena_put(a, NULL);
	ck_assert(f[3][0] == 'd' && f[3][16383] == 'd'); /* readers that lost a race */
	f[8] = kvp_arena_get(a);
	ck_assert_ptr_eq(f[8], f[3]);
	kvp_alloc_fail(1, false);
	kvp_arena_put(a, f[8]);
	ck_assert_ptr_null(kvp_arena_get(a));
	ck_assert_ptr_eq(kvp_arena_get(a), f[3]);
	kvp_alloc_fail(0, false);
	kvp_arena_destroy(a);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);

	kvp_alloc_fail(1, false);
	ck_assert_int_eq(kvp_arena_create(&a, 16384, 1 << 20), -KVE_no_memory);
	kvp_alloc_fail(0, false);
	/* A limit far beyond memory is only a range of addresses. */
	ck_assert_int_eq(kvp_arena_create(&a, 65536, (size_t)64 << 30), 0);
	f[0] = kvp_arena_get(a);
	f[0][0] = 1;
	kvp_arena_destroy(a);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);
}
END_TEST

/* ---- locks and threads --------------------------------------------------------------------- */

static struct kvp_mutex m1, m2;
static struct kvp_rwsem s1;
static struct kvp_cond c1;

static void locks_init(void)
{
	kvp_mutex_init(&m1, "one", 10);
	kvp_mutex_init(&m2, "two", 20);
	kvp_rwsem_init(&s1, "sem", 15);
	kvp_cond_init(&c1);
}

static void locks_exit(void)
{
	kvp_mutex_destroy(&m1);
	kvp_mutex_destroy(&m2);
	kvp_rwsem_destroy(&s1);
	kvp_cond_destroy(&c1);
}

START_TEST(lock_order_is_fine)
{
	int i;

	for (i = 0; i < 3; i++) {
		kvp_mutex_lock(&m1);
		kvp_rwsem_down_read(&s1);
		kvp_mutex_lock(&m2);
		kvp_mutex_assert_held(&m1);
		kvp_mutex_unlock(&m1); /* any order is fine for giving back */
		kvp_rwsem_up_read(&s1);
		kvp_mutex_unlock(&m2);
	}
	kvp_mutex_lock(&m2);
	ck_assert(kvp_mutex_trylock(&m1)); /* against the order, but it cannot wait */
	ck_assert(!kvp_mutex_trylock(&m2));
	kvp_mutex_unlock(&m1);
	kvp_mutex_unlock(&m2);
}
END_TEST

START_TEST(lock_order_violated)
{
	kvp_mutex_lock(&m2);
	kvp_mutex_lock(&m1);
}
END_TEST

START_TEST(lock_order_same_rank)
{
	kvp_rwsem_down_read(&s1);
	kvp_rwsem_down_read(&s1);
}
END_TEST

START_TEST(lock_order_after_trylock)
{
	if (!kvp_mutex_trylock(&m2))
		return;
	kvp_rwsem_down_write(&s1);
}
END_TEST

START_TEST(lock_order_wait)
{
	kvp_mutex_lock(&m1);
	kvp_mutex_lock(&m2);
	kvp_cond_wait_us(&c1, &m1, 1000);
}
END_TEST

START_TEST(lock_unlock_of_stranger)
{
	kvp_mutex_unlock(&m1);
}
END_TEST

START_TEST(lock_assert_not_held)
{
	kvp_mutex_assert_held(&m1);
}
END_TEST

START_TEST(cond_times_out)
{
	u64 t = kvp_monotonic_ns();

	kvp_mutex_lock(&m1);
	ck_assert(!kvp_cond_wait_us(&c1, &m1, 30000));
	kvp_mutex_unlock(&m1);
	ck_assert_uint_ge(kvp_monotonic_ns() - t, 30 * 1000000ull);
}
END_TEST

struct ring {
	int value;   /* under m1 */
	bool locked; /* atomic: the thread has what it wanted */
};

static void ring_thread(void *arg)
{
	struct ring *r = arg;
	int i;

	for (i = 0; i < 1000; i++) {
		kvp_mutex_lock(&m1);
		while (r->value % 2 == 0)
			kvp_cond_wait(&c1, &m1);
		r->value++;
		kvp_cond_broadcast(&c1);
		kvp_mutex_unlock(&m1);
	}
}

START_TEST(threads_take_turns)
{
	u64 in_use = kvp_alloc_in_use();
	struct ring r = { .value = 0 };
	struct kvp_thread *t;
	int i;

	ck_assert_int_eq(kvp_thread_start(&t, "a-rather-long-name", ring_thread, &r), 0);
	for (i = 0; i < 1000; i++) {
		kvp_mutex_lock(&m1);
		while (r.value % 2)
			kvp_cond_wait(&c1, &m1);
		r.value++;
		kvp_cond_signal(&c1);
		kvp_mutex_unlock(&m1);
		kvp_resched();
	}
	kvp_thread_join(t);
	ck_assert_int_eq(r.value, 2000);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);

	kvp_alloc_fail(1, false);
	ck_assert_int_eq(kvp_thread_start(&t, "x", ring_thread, &r), -KVE_no_memory);
	kvp_alloc_fail(0, false);
}
END_TEST

static void writer_thread(void *arg)
{
	struct ring *r = arg;

	kvp_rwsem_down_write(&s1);
	kvp_store(&r->locked, true);
	kvp_rwsem_up_write(&s1);
}

/* A waiting writer blocks new readers: without that, a try would succeed for ever. */
START_TEST(rwsem_prefers_writers)
{
	struct ring r = { .value = 0 };
	u64 end = kvp_monotonic_ns() + 20 * 1000000000ull;
	struct kvp_thread *t;
	bool blocked = false;

	kvp_rwsem_down_read(&s1);
	ck_assert_int_eq(kvp_thread_start(&t, "writer", writer_thread, &r), 0);
	while (!blocked && kvp_monotonic_ns() < end) {
		blocked = pthread_rwlock_tryrdlock(&s1.l) != 0;
		if (!blocked)
			pthread_rwlock_unlock(&s1.l);
		kvp_resched();
	}
	ck_assert(blocked);
	ck_assert(!kvp_load(&r.locked));
	kvp_rwsem_up_read(&s1);
	kvp_thread_join(t);
	ck_assert(r.locked);
}
END_TEST

START_TEST(process_id_differs_after_fork)
{
	u64 id = kvp_process_id();
	int status;
	pid_t pid;

	ck_assert_uint_eq(kvp_process_id(), id);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(kvp_process_id() == id);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(kvp_process_id(), id);
}
END_TEST

/* ---- time, chance, messages, LZ4, bugs ----------------------------------------------------- */

START_TEST(time_and_chance_can_be_fixed)
{
	u8 a[33], b[33], c[33];
	u64 t;

	kvp_fix_time(12345);
	ck_assert_uint_eq(kvp_now_ns(), 12345);
	t = kvp_monotonic_ns();
	while (kvp_monotonic_ns() == t)
		;
	kvp_fix_time(0);
	ck_assert_uint_gt(kvp_now_ns(), 1000000000ull * 1000000000ull);

	kvp_fix_random(7);
	kvp_random(a, sizeof(a));
	kvp_random(c, sizeof(c));
	ck_assert_mem_ne(a, c, sizeof(a));
	kvp_fix_random(7);
	kvp_random(b, sizeof(b));
	ck_assert_mem_eq(a, b, sizeof(a));
	kvp_fix_random(0);
	kvp_random(a, sizeof(a));
	kvp_random(b, sizeof(b));
	ck_assert_mem_ne(a, b, sizeof(a));
}
END_TEST

static char logged[256];
static int logged_level;

static void log_fn(void *arg, int level, const char *message)
{
	ck_assert_ptr_eq(arg, logged);
	kvp_snprintf(logged, sizeof(logged), "%s", message);
	logged_level = level;
}

static void error_thread(void *arg)
{
	(void)arg;
	ck_assert_str_eq(kvp_error_text(), "");
	kvp_fail(-KVE_io, "other");
}

START_TEST(log_levels_and_error_texts)
{
	struct kvp_log log = { .fn = log_fn, .arg = logged, .level = KVP_LOG_INFO };
	struct kvp_thread *t;
	char buf[8];

	kvp_log(&log, KVP_LOG_WARN, "page %d", 42);
	ck_assert_str_eq(logged, "page 42");
	ck_assert_int_eq(logged_level, KVP_LOG_WARN);
	kvp_log(&log, KVP_LOG_DEBUG, "no");
	ck_assert_str_eq(logged, "page 42");

	ck_assert_int_eq(kvp_fail(-KVE_io_read, "mine %d", 1), -KVE_io_read);
	ck_assert_int_eq(kvp_thread_start(&t, "t", error_thread, NULL), 0);
	kvp_thread_join(t);
	ck_assert_str_eq(kvp_error_text(), "mine 1");

	ck_assert_int_eq(kvp_snprintf(buf, sizeof(buf), "%s", "0123456789"), 10);
	ck_assert_str_eq(buf, "0123456");
}
END_TEST

START_TEST(lz4_round_trip_and_garbage)
{
	static u8 src[65536], dst[70000], back[65536];
	u32 n, i, m;

	for (i = 0; i < sizeof(src); i++)
		src[i] = (u8)(i / 100);
	n = kvp_lz4_compress(src, sizeof(src), dst, sizeof(dst));
	ck_assert_uint_gt(n, 0);
	ck_assert_uint_lt(n, sizeof(src) / 4);
	ck_assert_uint_eq(kvp_lz4_decompress(dst, n, back, sizeof(back)), sizeof(src));
	ck_assert_mem_eq(src, back, sizeof(src));
	ck_assert_uint_eq(kvp_lz4_decompress(dst, n, back, sizeof(back) - 1), 0);
	ck_assert_uint_eq(kvp_lz4_decompress(dst, 0, back, sizeof(back)), 0);
	ck_assert_uint_eq(kvp_lz4_compress(src, 0, dst, sizeof(dst)), 0);
	ck_assert_uint_eq(kvp_lz4_compress(src, sizeof(src), dst, n - 1), 0);
	for (i = 0; i < 2000; i++) { /* must not go out of bounds: the sanitizer watches */
		m = n - i % n;
		dst[(i * 7919u) % n] ^= (u8)(1 + i);
		n = n > 1 ? m : n;
		(void)kvp_lz4_decompress(dst, n, back, sizeof(back));
	}
}
END_TEST

START_TEST(bugs_are_off_until_set)
{
	ck_assert(!KVP_BUG("some"));
	kvp_bug_set("some");
	ck_assert(KVP_BUG("some"));
	ck_assert(!KVP_BUG("other"));
	kvp_bug_set(NULL);
	ck_assert(!KVP_BUG("some"));
}
END_TEST

/* ---- devices in memory --------------------------------------------------------------------- */

static u8 buf[65536] __attribute__((aligned(4096)));
static u8 got[65536] __attribute__((aligned(4096)));

static void fill(u8 *p, size_t len, u8 seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = (u8)(seed + i * 7 + (i >> 8));
}

static bool is_zero(const u8 *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

/* _i: 0 on the heap, 1 mapped. */
START_TEST(mem_device)
{
	u64 in_use = kvp_alloc_in_use(), max = _i ? 4u << 20 : 65536;
	struct kvp_dev *d;

	ck_assert_int_eq(kvp_mem_open(&d, 16384, max), 0);
	ck_assert_uint_eq(d->size, 16384);
	fill(buf, 8192, 1);
	ck_assert_int_eq(kvp_dev_write(d, 4096, buf, 8192, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_read(d, 4096, got, 8192), 0);
	ck_assert_mem_eq(buf, got, 8192);
	ck_assert_mem_eq(buf, kvp_mem_bytes(d) + 4096, 8192);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(d->reads == 1 && d->writes == 1 && d->flushes == 1 && d->read_bytes == 8192 &&
		  d->write_bytes == 8192);

	/* Misuse and ends. */
	ck_assert_int_eq(kvp_dev_read(d, 100, got, 512), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 100), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_read(d, 0, got + 1, 512), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 0), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_read(d, 16384 - 512, got, 1024), -KVE_truncated);
	ck_assert_int_eq(kvp_dev_read(d, ~511ull, got, 512), -KVE_truncated);
	ck_assert_int_eq(kvp_dev_write(d, 16384, buf, 512, 0), -KVE_io_write);
	ck_assert_int_eq(kvp_dev_allocate(d, 1, 512, 0), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_allocate(d, ~511ull, 1024, 0), -KVE_invalid);

	/* Space. */
	ck_assert_int_eq(kvp_dev_allocate(d, 16384, 16384, 0), 0);
	ck_assert_uint_eq(d->size, 32768);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, 512, 0), 0);
	ck_assert_uint_eq(d->size, 32768);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, max + 512, 0), -KVE_no_space);
	ck_assert_int_eq(kvp_dev_resize(d, max + 512), -KVE_no_space);
	ck_assert_int_eq(kvp_dev_discard(d, 4608, 7168), 0);
	ck_assert_mem_eq(kvp_mem_bytes(d) + 4096, buf, 512);
	ck_assert(is_zero(kvp_mem_bytes(d) + 4608, 7168));
	ck_assert_mem_eq(kvp_mem_bytes(d) + 11776, buf + 7680, 512);
	ck_assert_int_eq(kvp_dev_discard(d, 1ull << 40, 512), 0);
	ck_assert_int_eq(kvp_dev_resize(d, 4096), 0);
	ck_assert_int_eq(kvp_dev_resize(d, 32768), 0);
	ck_assert(is_zero(kvp_mem_bytes(d), 32768));

	/* The window is off until asked for. */
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 4096), -KVE_unsupported);
	kvp_mem_window(d, true);
	ck_assert_int_eq(kvp_dev_window_map(d, 32768, 4096), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 4096), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 4090, "abcdef", 6), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 4091, "abcdef", 6), -KVE_invalid);
	ck_assert_mem_eq(kvp_mem_bytes(d) + 8186, "abcdef", 6);
	kvp_dev_close(d);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);

	ck_assert_int_eq(kvp_mem_open_copy(&d, buf, 1024, 0), 0);
	ck_assert_mem_eq(kvp_mem_bytes(d), buf, 1024);
	ck_assert(!d->growable);
	ck_assert_int_eq(kvp_dev_allocate(d, 1024, 512, 0), -KVE_no_space);
	ck_assert_int_eq(kvp_dev_resize(d, 512), -KVE_invalid);
	d->read_only = true;
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 512, 0), -KVE_read_only);
	ck_assert_int_eq(kvp_dev_discard(d, 0, 512), -KVE_read_only);
	kvp_dev_close(d);
	kvp_alloc_fail(1, false);
	ck_assert_int_eq(kvp_mem_open(&d, 512, 0), -KVE_no_memory);
	kvp_alloc_fail(0, false);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);
}
END_TEST

static void trace_is(const struct kvp_trace *t, enum kvp_trace_op op, u64 off, u64 len,
		     const void *bytes)
{
	ck_assert_int_eq(t->op, op);
	ck_assert_uint_eq(t->off, off);
	ck_assert_uint_eq(t->len, len);
	ck_assert_int_eq(t->bytes != NULL, bytes != NULL);
	if (bytes)
		ck_assert_mem_eq(t->bytes, bytes, len);
}

START_TEST(record_trace)
{
	struct kvp_io ios[3] = { { .op = KVP_IO_WRITE, .off = 0, .buf = buf, .len = 512 },
				 { .op = KVP_IO_READ, .off = 0, .buf = got, .len = 512 },
				 { .op = KVP_IO_WRITE, .off = 1024, .buf = buf + 1024,
				   .len = 1024 } };
	u64 in_use = kvp_alloc_in_use();
	const struct kvp_trace *t;
	struct kvp_dev *d, *mem;
	size_t nr;

	fill(buf, sizeof(buf), 9);
	ck_assert_int_eq(kvp_mem_open(&mem, 8192, 65536), 0);
	ck_assert_int_eq(kvp_record_open(&d, mem, true), 0);
	ck_assert_uint_eq(d->size, 8192);
	ck_assert_int_eq(kvp_dev_write(d, 512, buf, 1024, 0), 0);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 512, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	kvp_record_mark(d, 77);
	ck_assert_int_eq(kvp_dev_allocate(d, 8192, 4096, 0), 0);
	ck_assert_uint_eq(d->size, 12288);
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 2048), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 500, buf, 1100), 0); /* over three sectors */
	ck_assert_int_eq(kvp_dev_window_store(d, 2000, buf, 49), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_batch(d, ios, 3), 0);
	ck_assert_int_eq(kvp_dev_discard(d, 8192, 512), 0);
	ck_assert_int_eq(kvp_dev_resize(d, 8192), 0);
	ck_assert_int_eq(kvp_dev_write(d, 8192, buf, 512, 0), -KVE_io_write); /* untried */
	ck_assert_int_eq(kvp_dev_read(d, 4096, got, 2048), 0);
	ck_assert_mem_eq(got + 500, buf, 1100);
	ck_assert(is_zero(got, 500) && is_zero(got + 1600, 448));

	t = kvp_record_trace(d, &nr);
	ck_assert_uint_eq(nr, 10);
	trace_is(t + 0, KVP_TRACE_WRITE, 512, 1024, buf);
	trace_is(t + 1, KVP_TRACE_FUA, 0, 512, buf);
	trace_is(t + 2, KVP_TRACE_FLUSH, 0, 0, NULL);
	trace_is(t + 3, KVP_TRACE_MARK, 77, 0, NULL);
	trace_is(t + 4, KVP_TRACE_ALLOCATE, 8192, 4096, NULL);
	trace_is(t + 5, KVP_TRACE_WINDOW, 4596, 1100, buf);
	trace_is(t + 6, KVP_TRACE_WRITE, 0, 512, buf);
	trace_is(t + 7, KVP_TRACE_WRITE, 1024, 1024, buf + 1024);
	trace_is(t + 8, KVP_TRACE_DISCARD, 8192, 512, NULL);
	trace_is(t + 9, KVP_TRACE_RESIZE, 0, 8192, NULL);
	kvp_record_reset(d);
	kvp_record_trace(d, &nr);
	ck_assert_uint_eq(nr, 0);
	kvp_dev_close(d);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);

	ck_assert_int_eq(kvp_mem_open(&mem, 8192, 0), 0);
	ck_assert_int_eq(kvp_record_open(&d, mem, false), 0);
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 2048), -KVE_unsupported);
	kvp_dev_close(d);
}
END_TEST

/* Above a faulty device: what may be on the medium is in the trace, a flush that failed is not. */
START_TEST(record_of_faults)
{
	struct kvp_fault f = { .kinds = KVP_FAULT_WRITE | KVP_FAULT_FLUSH, .nth = 1,
			       .persistent = true, .error = -KVE_io_write };
	const struct kvp_trace *t;
	struct kvp_dev *d;
	size_t nr;

	fill(buf, 512, 3);
	ck_assert_int_eq(kvp_mem_open(&d, 8192, 0), 0);
	ck_assert_int_eq(kvp_fault_open(&d, d, &f), 0);
	ck_assert_int_eq(kvp_record_open(&d, d, false), 0);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 512, KVP_FUA), -KVE_io_write);
	ck_assert_int_eq(kvp_dev_flush(d), -KVE_io_write);
	t = kvp_record_trace(d, &nr);
	ck_assert_uint_eq(nr, 1);
	trace_is(t, KVP_TRACE_WRITE, 0, 512, buf);
	kvp_dev_close(d);
}
END_TEST

/* One call of the kind, by its result. */
static int fault_call(struct kvp_dev *d, unsigned int kind)
{
	switch (kind) {
	case KVP_FAULT_READ:
		return kvp_dev_read(d, 0, got, 512);
	case KVP_FAULT_WRITE:
		return kvp_dev_write(d, 0, buf, 512, 0);
	case KVP_FAULT_FLUSH:
		return kvp_dev_flush(d);
	case KVP_FAULT_ALLOCATE:
		return kvp_dev_allocate(d, 0, 512, 0);
	default:
		return kvp_dev_window_store(d, 0, buf, 8);
	}
}

/* _i: bit of the kind. */
START_TEST(fault_each_kind)
{
	unsigned int kind = 1u << _i, other, i;
	struct kvp_fault f = { .kinds = kind, .nth = 3, .error = -KVE_io_system };
	struct kvp_dev *d, *mem;

	ck_assert_int_eq(kvp_mem_open(&mem, 8192, 16384), 0);
	kvp_mem_window(mem, true);
	ck_assert_int_eq(kvp_fault_open(&d, mem, &f), 0);
	f.kinds = 0;
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 4096), 0);
	f.kinds = kind;
	for (i = 1; i <= 5; i++) {
		ck_assert_int_eq(fault_call(d, kind), i == 3 ? -KVE_io_system : 0);
		for (other = 1; other <= 16; other *= 2)
			if (other != kind)
				ck_assert_int_eq(fault_call(d, other), 0);
	}
	ck_assert_uint_eq(f.calls, 5);
	ck_assert_uint_eq(f.failed, 1);
	f.persistent = true;
	f.nth = 7;
	for (i = 6; i <= 9; i++)
		ck_assert_int_eq(fault_call(d, kind), i >= 7 ? -KVE_io_system : 0);
	ck_assert_uint_eq(f.failed, 4);
	f.nth = 0;
	ck_assert_int_eq(fault_call(d, kind), 0);
	kvp_dev_close(d);
}
END_TEST

START_TEST(fault_short_write_and_batch)
{
	struct kvp_fault f = { .kinds = KVP_FAULT_WRITE, .nth = 1, .short_write = true,
			       .error = -KVE_io_write };
	struct kvp_io ios[5];
	struct kvp_dev *d, *mem;
	u8 *m;
	u32 i;

	fill(buf, sizeof(buf), 1);
	ck_assert_int_eq(kvp_mem_open(&mem, 32768, 0), 0);
	ck_assert_int_eq(kvp_fault_open(&d, mem, &f), 0);
	m = kvp_mem_bytes(mem);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 1536, 0), -KVE_io_write);
	ck_assert_mem_eq(m, buf, 768);
	ck_assert(is_zero(m + 768, 1024));
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 1536, 0), 0);
	ck_assert_mem_eq(m, buf, 1536);

	memset(m, 0, 32768);
	f.calls = f.failed = 0;
	f.nth = 3;
	f.short_write = false;
	for (i = 0; i < 5; i++)
		ios[i] = (struct kvp_io){ .op = KVP_IO_WRITE, .off = i * 1024, .len = 1024,
					  .buf = buf + i * 1024, .result = 1 };
	ck_assert_int_eq(kvp_dev_batch(d, ios, 5), -KVE_io_write);
	for (i = 0; i < 5; i++) {
		ck_assert_int_eq(ios[i].result, i == 2 ? -KVE_io_write : 0);
		if (i == 2)
			ck_assert(is_zero(m + i * 1024, 1024));
		else
			ck_assert_mem_eq(m + i * 1024, buf + i * 1024, 1024);
	}
	kvp_dev_close(d);
}
END_TEST

static int order_seen;

static void order_check(void *arg, struct kvp_dev *dev, enum kvp_trace_op op, u64 off,
			const void *b, u32 len)
{
	ck_assert_ptr_eq(arg, &order_seen);
	ck_assert_ptr_eq(b, buf);
	ck_assert_uint_eq(off, 1024);
	/* The sectors still hold what was there: asked before the write. */
	if (op == KVP_TRACE_WRITE && order_seen == 0)
		ck_assert(kvp_order_durable(dev, off, len));
	order_seen++;
}

START_TEST(order_shadow)
{
	struct kvp_fault f = { .kinds = KVP_FAULT_FLUSH, .nth = 1, .error = -KVE_io_flush };
	struct kvp_io io = { .op = KVP_IO_WRITE, .off = 1024, .buf = buf, .len = 512 };
	struct kvp_dev *d, *mem;

	ck_assert_int_eq(kvp_mem_open(&mem, 8192, 65536), 0);
	kvp_mem_window(mem, true);
	ck_assert_int_eq(kvp_fault_open(&d, mem, &f), 0);
	ck_assert_int_eq(kvp_order_open(&d, d, order_check, &order_seen), 0);
	ck_assert(kvp_order_durable(d, 0, 8192));
	ck_assert_int_eq(kvp_dev_write(d, 1024, buf, 1024, 0), 0);
	ck_assert(!kvp_order_durable(d, 1024, 512));
	ck_assert(!kvp_order_durable(d, 0, 1100));
	ck_assert(kvp_order_durable(d, 0, 1024) && kvp_order_durable(d, 2048, 512));
	/* FUA is durable itself, and makes nothing else so. */
	ck_assert_int_eq(kvp_dev_write(d, 1024, buf, 512, KVP_FUA), 0);
	ck_assert(kvp_order_durable(d, 1024, 512));
	ck_assert(!kvp_order_durable(d, 1536, 512));
	/* A flush that fails makes nothing durable. */
	ck_assert_int_eq(kvp_dev_flush(d), -KVE_io_flush);
	ck_assert(!kvp_order_durable(d, 1536, 512));
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(kvp_order_durable(d, 0, 8192));
	/* Batches, windows, discards. */
	ck_assert_int_eq(kvp_dev_batch(d, &io, 1), 0);
	ck_assert(!kvp_order_durable(d, 1024, 512));
	ck_assert_int_eq(kvp_dev_window_map(d, 1024, 1024), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 0, buf, 3), 0);
	ck_assert_int_eq(kvp_dev_discard(d, 4096, 512), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(!kvp_order_durable(d, 1024, 512));
	ck_assert(!kvp_order_durable(d, 4096, 512));
	ck_assert_int_eq(kvp_dev_write(d, 1024, buf, 512, 0), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(kvp_order_durable(d, 0, 4096));
	/* What is new is not durable. */
	ck_assert_int_eq(kvp_dev_allocate(d, 8192, 4096, 0), 0);
	ck_assert(!kvp_order_durable(d, 8192, 512));
	ck_assert(!kvp_order_durable(d, 1 << 20, 512));
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(kvp_order_durable(d, 8192, 4096));
	ck_assert_int_eq(kvp_dev_resize(d, 8192), 0);
	ck_assert_int_eq(kvp_dev_resize(d, 12288), 0);
	ck_assert(!kvp_order_durable(d, 8192, 512));
	ck_assert_int_eq(order_seen, 5);
	kvp_dev_close(d);
}
END_TEST

static void hammer_thread(void *arg)
{
	static u8 bytes[4096] __attribute__((aligned(4096)));
	struct kvp_dev *d = arg;
	u64 i;

	for (i = 0; i < 300; i++) {
		ck_assert_int_eq(kvp_dev_write(d, 16384 + i % 4 * 4096, bytes, 4096, 0), 0);
		ck_assert_int_eq(kvp_dev_window_store(d, (u32)i % 512, bytes, 8), 0);
	}
}

/* All wrappers from two threads: for the thread sanitizer, and that no write is lost to a flush. */
START_TEST(devices_from_threads)
{
	struct kvp_fault f = { .kinds = 0 };
	struct kvp_thread *t;
	struct kvp_dev *d;
	u64 i;

	ck_assert_int_eq(kvp_mem_open(&d, 32768, 65536), 0);
	ck_assert_int_eq(kvp_fault_open(&d, d, &f), 0);
	ck_assert_int_eq(kvp_record_open(&d, d, true), 0);
	ck_assert_int_eq(kvp_order_open(&d, d, NULL, NULL), 0);
	ck_assert_int_eq(kvp_dev_window_map(d, 4096, 1024), 0);
	ck_assert_int_eq(kvp_thread_start(&t, "hammer", hammer_thread, d), 0);
	for (i = 0; i < 300; i++) {
		ck_assert_int_eq(kvp_dev_write(d, i % 8 * 512, buf, 512, i & 1 ? KVP_FUA : 0), 0);
		ck_assert_int_eq(kvp_dev_flush(d), 0);
		ck_assert(kvp_order_durable(d, i % 8 * 512, 512));
		ck_assert_int_eq(kvp_dev_allocate(d, 32768, 512, 0), 0);
	}
	kvp_thread_join(t);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert(kvp_order_durable(d, 16384, 16384));
	kvp_dev_close(d);
}
END_TEST

/* -------------------------------------------------------------------------------------------- */

static Suite *port_suite(void)
{
	Suite *s = suite_create("port");
	TCase *t;

	t = tcase_create("memory");
	tcase_add_test(t, alloc_nth_fails_once_or_for_good);
	tcase_add_test(t, alloc_zeroes_aligns_and_checks_overflow);
	tcase_add_test(t, arena_frames_are_stable);
	suite_add_tcase(s, t);

	t = tcase_create("locks");
	tcase_add_checked_fixture(t, locks_init, locks_exit);
	tcase_add_test(t, lock_order_is_fine);
	tcase_add_test_raise_signal(t, lock_order_violated, SIGABRT);
	tcase_add_test_raise_signal(t, lock_order_same_rank, SIGABRT);
	tcase_add_test_raise_signal(t, lock_order_after_trylock, SIGABRT);
	tcase_add_test_raise_signal(t, lock_order_wait, SIGABRT);
	tcase_add_test_raise_signal(t, lock_unlock_of_stranger, SIGABRT);
	tcase_add_test_raise_signal(t, lock_assert_not_held, SIGABRT);
	tcase_add_test(t, cond_times_out);
	tcase_add_test(t, threads_take_turns);
	tcase_add_test(t, rwsem_prefers_writers);
	tcase_add_test(t, process_id_differs_after_fork);
	suite_add_tcase(s, t);

	t = tcase_create("small");
	tcase_add_test(t, time_and_chance_can_be_fixed);
	tcase_add_test(t, log_levels_and_error_texts);
	tcase_add_test(t, lz4_round_trip_and_garbage);
	tcase_add_test(t, bugs_are_off_until_set);
	suite_add_tcase(s, t);

	t = tcase_create("devices");
	tcase_add_loop_test(t, mem_device, 0, 2);
	tcase_add_test(t, record_trace);
	tcase_add_test(t, record_of_faults);
	tcase_add_loop_test(t, fault_each_kind, 0, 5);
	tcase_add_test(t, fault_short_write_and_batch);
	tcase_add_test(t, order_shadow);
	tcase_add_test(t, devices_from_threads);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(port_suite());
}
