/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * replay.c - enumerate crash states; see replay.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/crash/replay.h"

#define SECTOR 512u

/* What a crash makes of a sector in flight. */
enum fate { LOST, DONE, TORN, ZEROED, GARBAGE };

struct piece {
	u64 off;
	u32 len;
	const u8 *data; /* NULL: zeros (discard) */
};

struct engine {
	const struct replay *r;
	u8 *durable, *image;
	u64 durable_size, size; /* of the file */
	struct piece *pieces;	/* in flight, in order */
	u8 *fate;		/* one for each */
	size_t nr, cap;
	size_t old;		/* pieces that were there at the boundary before */
	u64 lo, hi, acked;
	size_t boundary;
	u64 variant;
	u64 rnd;
	bool stop;
};

static void add_piece(struct engine *e, u64 off, u32 len, const u8 *data)
{
	if (e->nr == e->cap) {
		e->cap = e->cap * 2 + 64;
		e->pieces = realloc(e->pieces, e->cap * sizeof(*e->pieces));
		e->fate = realloc(e->fate, e->cap);
		if (!e->pieces || !e->fate)
			abort();
	}
	e->pieces[e->nr++] = (struct piece){ off, len, data };
}

/* Split at sectors of the medium. */
static void add_write(struct engine *e, u64 off, u64 len, const u8 *data)
{
	while (len) {
		u32 n = SECTOR - off % SECTOR;

		if (n > len)
			n = len;
		add_piece(e, off, n, data);
		off += n;
		len -= n;
		if (data)
			data += n;
	}
}

static void apply(u8 *image, u64 size, const struct piece *p, enum fate fate)
{
	u32 i, len = p->len;

	if (p->off >= size)
		return; /* beyond the end of the file: gone with it */
	if (len > size - p->off)
		len = size - p->off;
	switch (fate) {
	case LOST:
		break;
	case TORN:
		len /= 2; /* fall through */
	case DONE:
		if (p->data)
			memcpy(image + p->off, p->data, len);
		else
			memset(image + p->off, 0, len);
		break;
	case ZEROED:
		memset(image + p->off, 0, len);
		break;
	case GARBAGE:
		for (i = 0; i < len; i++)
			image[p->off + i] = (u8)(p->off / SECTOR * 37 + i * 151 + (i >> 5)) ^ 0xa5;
		break;
	}
}

/* The state that e->fate describes, with a file of size bytes. all: nothing is missing. */
static void emit(struct engine *e, u64 size, bool all)
{
	struct crash_state st = {
		.image = e->image,
		.size = size,
		.lo = all && e->acked > e->lo ? e->acked : e->lo,
		.hi = e->hi,
		.boundary = e->boundary,
		.variant = e->variant++,
	};
	u64 durable = e->durable_size < size ? e->durable_size : size;
	size_t i;

	if (e->stop || (e->r->only_boundary != REPLAY_ALL && (st.boundary != e->r->only_boundary ||
							      st.variant != e->r->only_variant)))
		return;
	memcpy(e->image, e->durable, durable);
	memset(e->image + durable, 0, size - durable);
	for (i = 0; i < e->nr; i++)
		apply(e->image, size, &e->pieces[i], e->fate[i]);
	if (!e->r->state(e->r->arg, &st))
		e->stop = true;
}

static void set_fates(struct engine *e, size_t from, size_t to, enum fate fate)
{
	if (to > from)
		memset(e->fate + from, fate, to - from);
}

static bool all_done(const struct engine *e)
{
	size_t i;

	for (i = 0; i < e->nr; i++)
		if (e->fate[i] != DONE)
			return false;
	return true;
}

/* The newest pieces torn, behind a complete past and behind nothing. */
static void emit_torn(struct engine *e)
{
	static const enum fate fates[] = { TORN, ZEROED, GARBAGE };
	size_t i, f, from = e->old;

	if (e->r->sparse && e->nr - from > 2)
		from = e->nr - 2;
	for (i = from; i < e->nr; i++) {
		for (f = 0; f < sizeof(fates) / sizeof(fates[0]); f++) {
			set_fates(e, 0, e->nr, DONE);
			e->fate[i] = fates[f];
			emit(e, e->size, false);
			if (e->r->sparse)
				continue;
			set_fates(e, 0, e->nr, LOST);
			e->fate[i] = fates[f];
			emit(e, e->size, false);
		}
	}
}

static void emit_subsets(struct engine *e, bool again)
{
	u64 mask, first = again || !e->old ? 0 : 1ull << e->old;
	size_t i;

	for (mask = first; mask < 1ull << e->nr; mask++) {
		for (i = 0; i < e->nr; i++)
			e->fate[i] = mask >> i & 1 ? DONE : LOST;
		emit(e, e->size, all_done(e));
	}
}

static void emit_random(struct engine *e, unsigned int nr)
{
	size_t i;

	while (nr--) {
		/* from nearly nothing to nearly everything */
		unsigned int chance = 1 + (rnd_next(&e->rnd) >> 40) % 15;

		for (i = 0; i < e->nr; i++)
			e->fate[i] = (rnd_next(&e->rnd) >> 40) % 16 < chance ? DONE : LOST;
		emit(e, e->size, all_done(e));
	}
}

static void emit_sample(struct engine *e)
{
	size_t i;

	for (i = e->old; i <= e->nr; i++) {
		set_fates(e, 0, i, DONE);
		set_fates(e, i, e->nr, LOST);
		emit(e, e->size, i == e->nr);
	}
	for (i = 0; i < e->nr; i++) {
		set_fates(e, 0, e->nr, DONE);
		e->fate[i] = LOST;
		emit(e, e->size, false);
	}
	for (i = e->old; i < e->nr; i++) {
		set_fates(e, 0, e->nr, LOST);
		e->fate[i] = DONE;
		emit(e, e->size, false);
	}
	emit_random(e, e->r->random);
}

/* The file may have kept any length between the durable one and the newest. */
static void emit_lengths(struct engine *e)
{
	u64 a = e->durable_size, b = e->size, sizes[3];
	unsigned int i;

	if (a == b)
		return;
	sizes[0] = a;
	sizes[1] = (a + b) / 2 / SECTOR * SECTOR;
	sizes[2] = (a + b) / 2 + 77;
	for (i = 0; i < 3; i++) {
		if (sizes[i] > e->r->cap)
			continue;
		set_fates(e, 0, e->nr, DONE);
		emit(e, sizes[i], false);
		set_fates(e, 0, e->nr, LOST);
		emit(e, sizes[i], false);
	}
}

/* again: what may be found has become less, so states of earlier boundaries count anew. */
static void boundary(struct engine *e, bool again)
{
	e->variant = 0;
	if (e->boundary < e->r->from) {
		e->old = e->nr;
		return;
	}
	e->rnd = (e->r->seed + 1) * 0x9e3779b97f4a7c15ull + e->boundary * 977;
	if (e->r->sparse) {
		size_t i;

		for (i = e->old; i <= e->nr; i++) {
			set_fates(e, 0, i, DONE);
			set_fates(e, i, e->nr, LOST);
			emit(e, e->size, i == e->nr);
		}
		if (e->nr)
			emit_random(e, e->r->random);
	} else if (e->nr <= REPLAY_SUBSETS_MAX) {
		emit_subsets(e, again);
	} else {
		emit_sample(e);
	}
	if (!again)
		emit_torn(e);
	emit_lengths(e);
	e->old = e->nr;
}

/* Everything in flight is on the medium and stays there. */
static void make_durable(struct engine *e)
{
	size_t i;

	if (e->size > e->durable_size)
		memset(e->durable + e->durable_size, 0, e->size - e->durable_size);
	for (i = 0; i < e->nr; i++)
		apply(e->durable, e->size, &e->pieces[i], DONE);
	e->durable_size = e->size;
	e->nr = e->old = 0;
}

/*
 * The pieces from first on were written with FUA: they alone are durable. Whatever was in flight to the
 * same sectors before is overtaken.
 */
static void make_fua(struct engine *e, size_t first)
{
	size_t i, j, kept = 0;

	for (i = first; i < e->nr; i++)
		apply(e->durable, e->durable_size, &e->pieces[i], DONE);
	for (i = 0; i < e->nr; i++) {
		bool gone = i >= first && e->pieces[i].off + e->pieces[i].len <= e->durable_size;

		for (j = first; i < first && !gone && j < e->nr; j++)
			gone = e->pieces[i].off / SECTOR == e->pieces[j].off / SECTOR;
		if (!gone)
			e->pieces[kept++] = e->pieces[i];
	}
	e->nr = kept;
	e->old = 0; /* the rest may now miss in new combinations */
}

static void mark(struct engine *e, u64 m)
{
	u64 n = MARK_NUMBER(m);

	switch (MARK_KIND(m)) {
	case MARK_ISSUED:
		e->hi = n;
		break;
	case MARK_ACKED:
		e->acked = n;
		set_fates(e, 0, e->nr, DONE);
		e->variant = 0;
		emit(e, e->size, true);
		break;
	case MARK_SYNCED:
		if (e->lo == n)
			break;
		e->lo = e->acked = n;
		if (e->hi < n)
			e->hi = n;
		boundary(e, true);
		break;
	}
}

static void step(struct engine *e, const struct sim_event *ev)
{
	const u8 *bytes = e->r->trace->heap + ev->at;
	size_t first = e->nr;

	switch (ev->op) {
	case KVP_TRACE_MARK:
		mark(e, ev->off);
		return;
	case KVP_TRACE_FLUSH:
		make_durable(e);
		break;
	case KVP_TRACE_WRITE:
	case KVP_TRACE_WINDOW:
		add_write(e, ev->off, ev->len, bytes);
		break;
	case KVP_TRACE_FUA:
		add_write(e, ev->off, ev->len, bytes);
		boundary(e, false);
		make_fua(e, first);
		e->boundary++; /* two boundaries: before and after it returns */
		break;
	case KVP_TRACE_DISCARD:
		add_piece(e, ev->off, ev->len, NULL);
		break;
	case KVP_TRACE_ALLOCATE:
		if (ev->off + ev->len > e->size)
			e->size = ev->off + ev->len;
		break;
	case KVP_TRACE_RESIZE:
		if (ev->off < e->size) {
			/* cut: what was beyond is gone for good once this is durable */
			if (e->durable_size > ev->off)
				add_piece(e, ev->off, e->durable_size - ev->off, NULL);
		}
		e->size = ev->off;
		break;
	}
	boundary(e, false);
}

bool replay_run(const struct replay *r)
{
	struct engine e = {
		.r = r,
		.durable_size = r->base_size,
		.size = r->base_size,
		.lo = r->lo,
		.hi = r->hi,
		.acked = r->acked,
	};
	size_t i;

	e.durable = calloc(1, r->cap);
	e.image = calloc(1, r->cap);
	if (!e.durable || !e.image)
		abort();
	memcpy(e.durable, r->base, r->base_size);
	for (i = 0; i < r->trace->nr && !e.stop; i++) {
		e.boundary = 2 * i;
		step(&e, &r->trace->events[i]);
	}
	free(e.durable);
	free(e.image);
	free(e.pieces);
	free(e.fate);
	return !e.stop;
}

/* ---- shared set of digests -------------------------------------------------------------------- */

struct seen {
	u64 count;
	size_t mask;
	u64 slot[];
};

struct seen *seen_new(size_t entries)
{
	size_t n = 1024;
	struct seen *s;

	while (n < entries * 2)
		n *= 2;
	s = mmap(NULL, sizeof(*s) + n * sizeof(u64), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	s->mask = n - 1;
	return s;
}

bool seen_add(struct seen *s, u64 digest)
{
	size_t i;

	if (!digest)
		digest = 1;
	for (i = digest & s->mask;; i = (i + 1) & s->mask) {
		u64 old = kvp_load(&s->slot[i]);

		if (old == digest)
			return false;
		if (old)
			continue;
		if (kvp_cas(&s->slot[i], &old, digest)) {
			kvp_add(&s->count, 1);
			return true;
		}
		if (old == digest)
			return false;
	}
}

u64 seen_count(const struct seen *s)
{
	return kvp_load(&s->count);
}
