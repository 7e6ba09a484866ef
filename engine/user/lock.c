// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * lock.c - locks of the user-space port, on top of pthreads.
 *
 * In debug builds (-DKV_DEBUG) each thread keeps the locks that it holds; taking one whose rank is
 * not above all of those is a bug and stops the process, whether or not it deadlocked this time. A
 * trylock cannot deadlock and is exempt, but counts for what is taken after it.
 */
#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#ifdef KV_DEBUG

#define HELD_MAX 32

static _Thread_local struct {
	const void *lock;
	const char *name;
	unsigned int rank;
} held[HELD_MAX];
static _Thread_local unsigned int held_nr;

static void held_check(const char *name, unsigned int rank)
{
	unsigned int i;

	for (i = 0; i < held_nr; i++) {
		if (held[i].rank < rank)
			continue;
		fprintf(stderr, "lock order: '%s' (rank %u) taken while '%s' (rank %u) is held\n",
			name, rank, held[i].name, held[i].rank);
		KVP_ASSERT(!"lock order");
	}
}

static void held_push(const void *lock, const char *name, unsigned int rank)
{
	KVP_ASSERT(held_nr < HELD_MAX);
	held[held_nr].lock = lock;
	held[held_nr].name = name;
	held[held_nr].rank = rank;
	held_nr++;
}

static bool held_by_me(const void *lock)
{
	unsigned int i;

	for (i = 0; i < held_nr; i++)
		if (held[i].lock == lock)
			return true;
	return false;
}

static void held_pop(const void *lock)
{
	unsigned int i;

	for (i = held_nr; i > 0 && held[i - 1].lock != lock; i--)
		;
	KVP_ASSERT(i > 0); /* unlocked by a thread that does not hold it */
	for (; i < held_nr; i++)
		held[i - 1] = held[i];
	held_nr--;
}

/* A wait gives the mutex up and takes it again: as if it were taken last. */
static void held_check_wait(const struct kvp_mutex *m)
{
	held_pop(m);
	held_check(m->name, m->rank);
	held_push(m, m->name, m->rank);
}

void kvp_lock_assert_none(void)
{
	KVP_ASSERT(held_nr == 0);
}

#else

static void held_check(const char *name, unsigned int rank)
{
	(void)name;
	(void)rank;
}

static void held_push(const void *lock, const char *name, unsigned int rank)
{
	(void)lock;
	(void)name;
	(void)rank;
}

static bool held_by_me(const void *lock)
{
	(void)lock;
	return true;
}

static void held_pop(const void *lock)
{
	(void)lock;
}

static void held_check_wait(const struct kvp_mutex *m)
{
	(void)m;
}

void kvp_lock_assert_none(void)
{
}

#endif

/* pthread calls fail on misuse only; then nothing below can be right. */
static void must(int rc)
{
	KVP_ASSERT(rc == 0);
}

/*
 * Adaptive: who finds it held spins for a while, as long as that has paid lately, before it sleeps. The end
 * of the log is held for a fraction of a microsecond, and waking a thread takes tens of them. The kernel's
 * own mutexes do the same.
 */
void kvp_mutex_init(struct kvp_mutex *m, const char *name, unsigned int rank)
{
	pthread_mutexattr_t attr;

	m->name = name;
	m->rank = rank;
	must(pthread_mutexattr_init(&attr));
	must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP));
	must(pthread_mutex_init(&m->m, &attr));
	pthread_mutexattr_destroy(&attr);
}

void kvp_mutex_destroy(struct kvp_mutex *m)
{
	must(pthread_mutex_destroy(&m->m));
}

KVP_NO_LOCK_ANALYSIS
void kvp_mutex_lock(struct kvp_mutex *m)
{
	held_check(m->name, m->rank);
	must(pthread_mutex_lock(&m->m));
	held_push(m, m->name, m->rank);
}

KVP_NO_LOCK_ANALYSIS
bool kvp_mutex_trylock(struct kvp_mutex *m)
{
	int rc = pthread_mutex_trylock(&m->m);

	if (rc == EBUSY)
		return false;
	must(rc);
	held_push(m, m->name, m->rank);
	return true;
}

KVP_NO_LOCK_ANALYSIS
void kvp_mutex_unlock(struct kvp_mutex *m)
{
	held_pop(m);
	must(pthread_mutex_unlock(&m->m));
}

KVP_NO_LOCK_ANALYSIS
void kvp_mutex_assert_held(struct kvp_mutex *m)
{
	KVP_ASSERT(held_by_me(m));
}

void kvp_rwsem_init(struct kvp_rwsem *s, const char *name, unsigned int rank)
{
	pthread_rwlockattr_t attr;

	s->name = name;
	s->rank = rank;
	must(pthread_rwlockattr_init(&attr));
	must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	must(pthread_rwlock_init(&s->l, &attr));
	pthread_rwlockattr_destroy(&attr);
}

void kvp_rwsem_destroy(struct kvp_rwsem *s)
{
	must(pthread_rwlock_destroy(&s->l));
}

KVP_NO_LOCK_ANALYSIS
void kvp_rwsem_down_read(struct kvp_rwsem *s)
{
	held_check(s->name, s->rank);
	must(pthread_rwlock_rdlock(&s->l));
	held_push(s, s->name, s->rank);
}

KVP_NO_LOCK_ANALYSIS
void kvp_rwsem_up_read(struct kvp_rwsem *s)
{
	held_pop(s);
	must(pthread_rwlock_unlock(&s->l));
}

KVP_NO_LOCK_ANALYSIS
void kvp_rwsem_down_write(struct kvp_rwsem *s)
{
	held_check(s->name, s->rank);
	must(pthread_rwlock_wrlock(&s->l));
	held_push(s, s->name, s->rank);
}

KVP_NO_LOCK_ANALYSIS
void kvp_rwsem_up_write(struct kvp_rwsem *s)
{
	held_pop(s);
	must(pthread_rwlock_unlock(&s->l));
}

/* Waits end by the monotonic clock: someone may set the other one. */
/*
 * Entering announces itself and then looks whether the gate is closed; closing says so and then looks who
 * is inside: sequentially consistent, so that one of the two sees the other.
 */
void kvp_gate_init(struct kvp_gate *g, const char *name, unsigned int rank)
{
	memset(g, 0, sizeof(*g));
	kvp_mutex_init(&g->m, name, rank);
}

void kvp_gate_destroy(struct kvp_gate *g)
{
	kvp_mutex_destroy(&g->m);
}

KVP_NO_LOCK_ANALYSIS
void kvp_gate_enter(struct kvp_gate *g)
{
	u32 *in = &g->slot[kvp_slot()].in;

	held_check(g->m.name, g->m.rank);
	__atomic_add_fetch(in, 1, __ATOMIC_SEQ_CST);
	if (kvp_unlikely(__atomic_load_n(&g->closed, __ATOMIC_SEQ_CST))) {
		__atomic_sub_fetch(in, 1, __ATOMIC_RELEASE);
		kvp_mutex_lock(&g->m);
		__atomic_add_fetch(in, 1, __ATOMIC_SEQ_CST);
		kvp_mutex_unlock(&g->m);
	}
	held_push(g, g->m.name, g->m.rank);
}

KVP_NO_LOCK_ANALYSIS
void kvp_gate_leave(struct kvp_gate *g)
{
	held_pop(g);
	__atomic_sub_fetch(&g->slot[kvp_slot()].in, 1, __ATOMIC_RELEASE);
}

KVP_NO_LOCK_ANALYSIS
void kvp_gate_close(struct kvp_gate *g)
{
	unsigned int i, spins;

	kvp_mutex_lock(&g->m);
	__atomic_store_n(&g->closed, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < KVP_SLOTS; i++)
		for (spins = 0; __atomic_load_n(&g->slot[i].in, __ATOMIC_SEQ_CST); spins++)
			if (spins < 100)
				kvp_relax();
			else
				kvp_yield();
}

KVP_NO_LOCK_ANALYSIS
void kvp_gate_open(struct kvp_gate *g)
{
	__atomic_store_n(&g->closed, 0, __ATOMIC_RELEASE);
	kvp_mutex_unlock(&g->m);
}

void kvp_cond_init(struct kvp_cond *c)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(&c->c, &attr));
	pthread_condattr_destroy(&attr);
}

void kvp_cond_destroy(struct kvp_cond *c)
{
	must(pthread_cond_destroy(&c->c));
}

void kvp_cond_wait(struct kvp_cond *c, struct kvp_mutex *m)
{
	held_check_wait(m);
	must(pthread_cond_wait(&c->c, &m->m));
}

bool kvp_cond_wait_us(struct kvp_cond *c, struct kvp_mutex *m, unsigned int us)
{
	struct timespec t;
	int rc;

	held_check_wait(m);
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += us / 1000000;
	t.tv_nsec += (long)(us % 1000000) * 1000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	rc = pthread_cond_timedwait(&c->c, &m->m, &t);
	if (rc == ETIMEDOUT)
		return false;
	must(rc);
	return true;
}

void kvp_cond_signal(struct kvp_cond *c)
{
	must(pthread_cond_signal(&c->c));
}

void kvp_cond_broadcast(struct kvp_cond *c)
{
	must(pthread_cond_broadcast(&c->c));
}
