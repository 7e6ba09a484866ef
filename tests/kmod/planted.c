// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * planted.c - a module that does wrong things when it is loaded, one of each kind that the debug kernel is
 * to report: a console without their reports comes from a kernel that is blind. Its own mistakes only;
 * nothing of KVFS is in it.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static DEFINE_MUTEX(planted_a);
static DEFINE_MUTEX(planted_b);
static DEFINE_SPINLOCK(planted_spin);

static noinline void planted_lock_order(void)
{
	mutex_lock(&planted_a);
	mutex_lock(&planted_b);
	mutex_unlock(&planted_b);
	mutex_unlock(&planted_a);
	mutex_lock(&planted_b);
	mutex_lock(&planted_a);
	mutex_unlock(&planted_a);
	mutex_unlock(&planted_b);
}

static noinline void planted_sleep(void)
{
	spin_lock(&planted_spin);
	msleep(1);
	spin_unlock(&planted_spin);
}

static noinline void planted_shift(void)
{
	static volatile int by = 40, one = 1, result;

	result = one << by;
}

/* OPTIMIZER_HIDE_VAR: the compiler sees both mistakes, too. */
static noinline void planted_memory(void)
{
	char *p = kmalloc(100, GFP_KERNEL);
	size_t at = 104;

	if (!p)
		return;
	OPTIMIZER_HIDE_VAR(at);
	OPTIMIZER_HIDE_VAR(p);
	WRITE_ONCE(p[at], 1);
	kfree(p);
	OPTIMIZER_HIDE_VAR(p);
	(void)READ_ONCE(p[0]);
}

static noinline void planted_stack(void)
{
	char a[24];
	size_t at = sizeof(a);

	OPTIMIZER_HIDE_VAR(at);
	a[0] = 0;
	OPTIMIZER_HIDE_VAR(at);
	(void)READ_ONCE(((char *)&a)[at]);
}

static noinline void planted_leak(void)
{
	void *p = kmalloc(333, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(p);
}

static int __init planted_init(void)
{
	/* Lockdep gives up after the first report of anything: it goes first. */
	planted_lock_order();
	planted_sleep();
	planted_shift();
	planted_memory();
	planted_stack();
	planted_leak();
	return 0;
}

static void __exit planted_exit(void)
{
}

module_init(planted_init);
module_exit(planted_exit);

MODULE_DESCRIPTION("mistakes that a debug kernel has to report");
MODULE_LICENSE("Dual BSD/GPL");
