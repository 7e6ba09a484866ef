// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * kvp_lock.c - locks, condition waits and threads of the kernel port.
 *
 * Lockdep checks the order. Its classes come from the rank, which is what orders the locks of the
 * engine; the same lock of two volumes is of one class, and nothing takes both. Two locks of one rank
 * are one class as well, so that taking both is reported.
 */
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/hrtimer.h>

#include "port.h"

#define RANKS 128

struct lock_class_of_rank {
	struct lock_class_key key;
	const char *name; /* of the first lock of this rank: lockdep wants one pointer for a class */
};

static struct lock_class_of_rank mutex_classes[RANKS], rwsem_classes[RANKS];

static const char *class_name(struct lock_class_of_rank *class, const char *name)
{
	const char *first = cmpxchg(&class->name, NULL, name);

	return first ? first : name;
}

void kvp_mutex_init(struct kvp_mutex *m, const char *name, unsigned int rank)
{
	struct lock_class_of_rank *class = &mutex_classes[rank % RANKS];

	__mutex_init(&m->m, class_name(class, name), &class->key);
}

void kvp_mutex_destroy(struct kvp_mutex *m)
{
	mutex_destroy(&m->m);
}

void kvp_mutex_lock(struct kvp_mutex *m)
{
	mutex_lock(&m->m);
}

bool kvp_mutex_trylock(struct kvp_mutex *m)
{
	return mutex_trylock(&m->m);
}

void kvp_mutex_unlock(struct kvp_mutex *m)
{
	mutex_unlock(&m->m);
}

void kvp_mutex_assert_held(struct kvp_mutex *m)
{
	lockdep_assert_held(&m->m);
}

void kvp_rwsem_init(struct kvp_rwsem *s, const char *name, unsigned int rank)
{
	struct lock_class_of_rank *class = &rwsem_classes[rank % RANKS];

	__init_rwsem(&s->s, class_name(class, name), &class->key);
}

void kvp_rwsem_destroy(struct kvp_rwsem *s)
{
	WARN_ON_ONCE(rwsem_is_locked(&s->s));
}

void kvp_rwsem_down_read(struct kvp_rwsem *s)
{
	down_read(&s->s);
}

void kvp_rwsem_up_read(struct kvp_rwsem *s)
{
	up_read(&s->s);
}

void kvp_rwsem_down_write(struct kvp_rwsem *s)
{
	down_write(&s->s);
}

void kvp_rwsem_up_write(struct kvp_rwsem *s)
{
	up_write(&s->s);
}

void kvp_gate_init(struct kvp_gate *g, const char *name, unsigned int rank)
{
	struct lock_class_of_rank *class = &rwsem_classes[rank % RANKS];

	__init_rwsem(&g->s, class_name(class, name), &class->key);
}

void kvp_gate_destroy(struct kvp_gate *g)
{
	WARN_ON_ONCE(rwsem_is_locked(&g->s));
}

void kvp_gate_enter(struct kvp_gate *g)
{
	down_read(&g->s);
}

void kvp_gate_leave(struct kvp_gate *g)
{
	up_read(&g->s);
}

void kvp_gate_close(struct kvp_gate *g)
{
	down_write(&g->s);
}

void kvp_gate_open(struct kvp_gate *g)
{
	up_write(&g->s);
}

/* ---- conditions ---------------------------------------------------------------------------------- */

void kvp_cond_init(struct kvp_cond *c)
{
	init_waitqueue_head(&c->q);
}

void kvp_cond_destroy(struct kvp_cond *c)
{
	WARN_ON_ONCE(waitqueue_active(&c->q));
}

/*
 * Idle, so that a worker without work counts neither as load nor as hung. NULL: without end. Returns 0 when
 * the time is over. Jiffies are too long for those whom pacing holds up.
 */
static int cond_wait(struct kvp_cond *c, struct kvp_mutex *m, ktime_t *timeout)
{
	DEFINE_WAIT(wait);
	int left;

	prepare_to_wait_exclusive(&c->q, &wait, TASK_IDLE);
	mutex_unlock(&m->m);
	left = schedule_hrtimeout(timeout, HRTIMER_MODE_REL);
	finish_wait(&c->q, &wait);
	mutex_lock(&m->m);
	return left;
}

void kvp_cond_wait(struct kvp_cond *c, struct kvp_mutex *m)
{
	cond_wait(c, m, NULL);
}

bool kvp_cond_wait_us(struct kvp_cond *c, struct kvp_mutex *m, unsigned int us)
{
	ktime_t timeout = ns_to_ktime((u64)us * NSEC_PER_USEC);

	return cond_wait(c, m, &timeout) != 0;
}

void kvp_cond_signal(struct kvp_cond *c)
{
	wake_up(&c->q);
}

void kvp_cond_broadcast(struct kvp_cond *c)
{
	wake_up_all(&c->q);
}

/* ---- threads ------------------------------------------------------------------------------------- */

struct kvp_thread {
	struct task_struct *task;
	void (*fn)(void *arg);
	void *arg;
};

/* The task stays until it is joined, so that none of it runs when the module goes. */
static int thread_main(void *p)
{
	struct kvp_thread *t = p;

	t->fn(t->arg);
	set_current_state(TASK_IDLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_IDLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

int kvp_thread_start(struct kvp_thread **out, const char *name, void (*fn)(void *), void *arg)
{
	struct kvp_thread *t = kvp_alloc(sizeof(*t), KVP_ZERO);

	if (!t)
		return -KVE_no_memory;
	t->fn = fn;
	t->arg = arg;
	t->task = kthread_run(thread_main, t, "kvfs/%s", name);
	if (IS_ERR(t->task)) {
		kvp_free(t);
		return -KVE_no_memory;
	}
	*out = t;
	return 0;
}

void kvp_thread_join(struct kvp_thread *t)
{
	if (!t)
		return;
	kthread_stop(t->task);
	kvp_free(t);
}

void kvp_resched(void)
{
	cond_resched();
}

void kvp_yield(void)
{
	cpu_relax();
	cond_resched();
}

u64 kvp_process_id(void)
{
	return 1;
}
