/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * run.c - runs the passes in the order of their table, and the small helpers that all of them use.
 *
 * A pass runs when every pass that it needs has succeeded. A pass that finds problems has succeeded
 * nevertheless; it fails when others could not work with what it leaves (pass_failed).
 */
#include <stdlib.h>

#include "ck.h"

int kvsck_read(struct kvsck *ck, u64 off, void *buf, u32 len)
{
	if (off > ck->io->size || len > ck->io->size - off)
		return -KVE_truncated;
	return ck->io->read(ck->io->arg, off, buf, len) ? -KVE_io_read : 0;
}

int kvsck_buf_reserve(struct kvsck_buf *b, size_t len)
{
	u8 *p;

	if (b->p && len <= b->cap)
		return 0;
	p = malloc(len ? len : 1);
	if (!p)
		return -KVE_no_memory;
	free(b->p);
	b->p = p;
	b->cap = len;
	return 0;
}

void *kvsck_array_add(struct kvsck_array *a, size_t size)
{
	size_t cap;
	u8 *p;

	if (a->nr == a->cap) {
		cap = a->cap ? a->cap + a->cap / 2 : 8;
		p = realloc(a->p, cap * size);
		if (!p)
			return NULL;
		a->p = p;
		a->cap = cap;
	}
	p = (u8 *)a->p + a->nr++ * size;
	memset(p, 0, size);
	return p;
}

size_t kvsck_array_find(const struct kvsck_array *a, size_t size, u64 (*number)(const void *), u64 nr)
{
	size_t lo = 0, hi = a->nr, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (number((const u8 *)a->p + mid * size) < nr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int kvsck_cancelled(struct kvsck *ck)
{
	if (ck->opt->cancelled && ck->opt->cancelled(ck->opt->cancelled_arg))
		return -KVE_cancelled;
	return 0;
}

struct kvsck *kvsck_new(const struct kvsck_io *io, const struct kvsck_options *opt,
			struct kvsck_report *rep)
{
	static const struct kvsck_options none;
	struct kvsck *ck = calloc(1, sizeof(*ck));

	memset(rep, 0, sizeof(*rep));
	if (!ck)
		return NULL;
	ck->io = io;
	ck->opt = opt ? opt : &none;
	ck->rep = rep;
	return ck;
}

void kvsck_free(struct kvsck *ck)
{
	u32 i;

	if (!ck)
		return;
	for (i = 0; i < KVF_DEPTH_MAX; i++)
		free(ck->page[i].p);
	free(ck->twin.p);
	free(ck->key.p);
	free(ck->from.p);
	free(ck->to.p);
	free(ck->head.p);
	free(ck->payload.p);
	free(ck->trees.p);
	kvsck_ranges_free(ck);
	free(ck->heads.p);
	free(ck->snaps.p);
	free(ck->snap_trees.p);
	free(ck->shares.p);
	free(ck->marks.p);
	free(ck->seg);
	free(ck->owned);
	free(ck->marked);
	free(ck->batched);
	free(ck->held);
	free(ck->listed);
	free(ck->page_at);
	free(ck->records);
	free(ck);
}

struct kvsck_pass {
	int (*fn)(struct kvsck *ck);
	u32 needs;
};

#define KVSCK_PASS_ROW(id, fn, needs, text) { fn, needs },
static const struct kvsck_pass passes[] = { KVSCK_PASSES(KVSCK_PASS_ROW) };
#undef KVSCK_PASS_ROW

int kvsck_passes(struct kvsck *ck, u32 which)
{
	int err = 0;
	u32 i;

	for (i = 0; i < KVSCK_PASS_NR && !err; i++) {
		if (!(which >> i & 1) || (ck->done & passes[i].needs) != passes[i].needs)
			continue;
		ck->pass_failed = false;
		err = passes[i].fn(ck);
		if (!err && !ck->pass_failed)
			ck->done |= 1u << i;
	}
	return err;
}

int kvsck_run(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_report *rep)
{
	struct kvsck *ck = kvsck_new(io, opt, rep);
	int err = ck ? kvsck_passes(ck, ~0u) : -KVE_no_memory;

	kvsck_free(ck);
	return err;
}
