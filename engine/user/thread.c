// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * thread.c - background threads, and the number of this process.
 *
 * The threads of the engine take no signals: those are for the threads of the application. The
 * faults that the processor raises stay open, because the window handles one of them
 * (dev_window.c).
 */
#include "port.h"

#include <sched.h>
#include <signal.h>
#include <unistd.h>

struct kvp_thread {
	pthread_t thread;
	void (*fn)(void *arg);
	void *arg;
	char name[16];
};

static void *thread_main(void *p)
{
	struct kvp_thread *t = p;

	(void)pthread_setname_np(pthread_self(), t->name); /* for ps and gdb only */
	t->fn(t->arg);
	kvp_lock_assert_none();
	return NULL;
}

int kvp_thread_start(struct kvp_thread **out, const char *name, void (*fn)(void *), void *arg)
{
	struct kvp_thread *t = kvp_alloc(sizeof(*t), KVP_ZERO);
	sigset_t all, old;
	int rc;

	if (!t)
		return -KVE_no_memory;
	t->fn = fn;
	t->arg = arg;
	kvp_snprintf(t->name, sizeof(t->name), "%s", name);

	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		kvp_free(t);
		return kvp_fail_errno(-KVE_io_system, name, "start of a thread", 0, 0, rc);
	}
	*out = t;
	return 0;
}

void kvp_thread_join(struct kvp_thread *t)
{
	if (!t)
		return;
	KVP_ASSERT(pthread_join(t->thread, NULL) == 0);
	kvp_free(t);
}

/* User space is preempted anyway; a system call at every step of a long walk would cost a fifth of it. */
void kvp_resched(void)
{
}

void kvp_yield(void)
{
	sched_yield();
}

_Thread_local unsigned int kvp_thread_slot;

unsigned int kvp_slot_take(void)
{
	static unsigned int next;

	kvp_thread_slot = 1 + (kvp_add(&next, 1u) - 1) % KVP_SLOTS;
	return kvp_thread_slot - 1;
}

/*
 * The engine asks at each call whether it lives in a forked child, so this must not cost a system
 * call. The upper half counts forks: a pid alone may be used again by a grandchild.
 */
u64 kvp_process;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void process_forked(void)
{
	u64 forks = (kvp_load(&kvp_process) >> 32) + 1;

	kvp_store(&kvp_process, forks << 32 | (u32)getpid());
	kvp_file_forked();
}

static void process_init(void)
{
	KVP_ASSERT(pthread_atfork(NULL, NULL, process_forked) == 0);
	kvp_store(&kvp_process, 1ull << 32 | (u32)getpid());
}

u64 kvp_process_id(void)
{
	u64 id = kvp_load(&kvp_process);

	if (kvp_likely(id))
		return id;
	pthread_once(&process_once, process_init);
	return kvp_load(&kvp_process);
}
