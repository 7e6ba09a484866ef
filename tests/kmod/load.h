/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * load.h - what each thread of the load does, from a seed: the same on both sides of a power cut, load.c
 * in the guest and replay_log.c, which knows from here what may be found.
 *
 * Thread T owns the keys tT-*, so that its operations alone decide what they hold:
 *
 *	tT-0 .. tT-15     values that are set, appended to, unlinked, renamed; the last four are large
 *	tT-n              a counter (_inc)
 *	tT-x, tT-y        changed by one batch, always equal
 *	tT-p              written with O_SYNC or KVFS_PUT_SYNC
 *	tT-clock          "N M0 M1 M2": N is the operation that wrote it, Mj how many operations of
 *	                  thread j had returned by then
 *	tT-durable        the same, written after a sync had returned; Mj: returned before that sync began
 *	sum               one counter of all threads
 *
 * Every value says which operation wrote it.
 */
#ifndef TESTS_KMOD_LOAD_H
#define TESTS_KMOD_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LOAD_THREADS 3u
#define LOAD_KEYS 16u
#define LOAD_SMALL 12u		    /* of these keys; the others are large */
#define LOAD_LARGE (100u * 1024)    /* and up to 1 KiB more */
#define LOAD_APPEND_MAX 6000u	    /* a longer value is set anew */
#define LOAD_VALUE_MAX (128u * 1024)
#define LOAD_NAME_MAX 32

enum load_kind { LOAD_SET, LOAD_APPEND, LOAD_UNLINK, LOAD_RENAME, LOAD_INC, LOAD_SUM, LOAD_BATCH, LOAD_CLOCK,
		 LOAD_SYNC };
enum load_sync { SYNC_FSYNC, SYNC_FSYNC_DIR, SYNC_SYNC, SYNC_SYNCFS, SYNC_IOCTL, SYNC_PUT, SYNC_WRITE,
		 SYNC_KINDS };

struct load_op {
	enum load_kind kind;
	unsigned int key, to; /* to: RENAME */
	enum load_sync how;   /* SYNC */
	size_t len;	      /* of what is written; SYNC_PUT and SYNC_WRITE as well */
	bool creates;	      /* SET, APPEND: the key is made first, a change of its own */
};

/* What a thread knows of its keys. */
struct load_thread {
	unsigned int me;
	unsigned long long seed, n; /* n: operations so far */
	bool there[LOAD_KEYS];
	size_t len[LOAD_KEYS];
};

static inline unsigned long long load_next(unsigned long long *state)
{
	unsigned long long x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 2685821657736338717ull;
}

static inline unsigned long long load_seed(unsigned long long seed, unsigned int thread, unsigned long long n)
{
	unsigned long long s = (seed * 31 + thread + 1) * 0x9e3779b97f4a7c15ull + n * 0xbf58476d1ce4e5b9ull;

	s |= !s;
	load_next(&s);
	return s;
}

/* What operation n of a thread writes: every other value can be compressed. */
static inline void load_value(uint8_t *buf, size_t len, const struct load_thread *t, unsigned long long n)
{
	unsigned long long s = load_seed(t->seed, t->me, n) ^ 0x5555, word = 0;
	char head[48];
	size_t i, h = (size_t)snprintf(head, sizeof(head), "thread %u operation %llu\n", t->me,
				       n);

	s |= !s;
	for (i = 0; i < len; i++) {
		if (!(i & 7))
			word = n & 1 && i & 504 ? word : load_next(&s);
		buf[i] = i < h ? (uint8_t)head[i] : (uint8_t)(word >> (i & 7) * 8);
	}
}

static inline void load_key(char *name, unsigned int thread, unsigned int key)
{
	snprintf(name, LOAD_NAME_MAX, "t%u-%u", thread, key);
}

static inline enum load_kind load_kind_of(unsigned int d)
{
	static const unsigned char below[] = { 34, 46, 53, 59, 67, 74, 82, 90, 100 };
	unsigned int kind = 0;

	while (d >= below[kind])
		kind++;
	return (enum load_kind)kind;
}

/* The operation t->n; t is afterwards as after it. */
static inline struct load_op load_op_next(struct load_thread *t)
{
	unsigned long long s = load_seed(t->seed, t->me, t->n++);
	struct load_op op = { .kind = load_kind_of((load_next(&s) >> 33) % 100) };

	op.key = (load_next(&s) >> 33) % LOAD_KEYS;
	op.to = (load_next(&s) >> 33) % LOAD_SMALL;
	op.how = (enum load_sync)((load_next(&s) >> 33) % SYNC_KINDS);
	op.len = 40 + (load_next(&s) >> 33) % ((load_next(&s) >> 62) ? 300 : 9000);
	/* large values are set only, and not too often */
	if (op.key >= LOAD_SMALL && (op.kind != LOAD_SET || (load_next(&s) >> 63)))
		op.key -= LOAD_SMALL;
	if (op.key >= LOAD_SMALL)
		op.len = LOAD_LARGE + op.len % 1024;
	if (op.kind == LOAD_RENAME && (!t->there[op.key] || op.key == op.to))
		op.kind = LOAD_SET;
	if (op.kind == LOAD_UNLINK && !t->there[op.key])
		op.kind = LOAD_APPEND;
	if (op.kind == LOAD_APPEND && t->there[op.key] && t->len[op.key] > LOAD_APPEND_MAX)
		op.kind = LOAD_SET;
	op.creates = (op.kind == LOAD_SET || op.kind == LOAD_APPEND) && !t->there[op.key];
	switch (op.kind) {
	case LOAD_SET:
		t->len[op.key] = op.len;
		t->there[op.key] = true;
		break;
	case LOAD_APPEND:
		t->len[op.key] = (op.creates ? 0 : t->len[op.key]) + op.len;
		t->there[op.key] = true;
		break;
	case LOAD_RENAME:
		t->there[op.to] = true;
		t->len[op.to] = t->len[op.key];
		t->there[op.key] = false;
		break;
	case LOAD_UNLINK:
		t->there[op.key] = false;
		break;
	default:
		break;
	}
	return op;
}

#endif
