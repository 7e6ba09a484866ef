/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * survey.c - the whole volume, for looking around in it: all passes run, and which pages they come to is
 * kept; then once more for the state before the newest, whose pages may still stand.
 */
#include <stdlib.h>

#include "survey.h"

static int on_page(struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_visit *v)
{
	struct kvsck_survey *s = ck->hooks->arg;
	u64 block[2] = { le64_to_cpu(v->ref->block0), le64_to_cpu(v->ref->block1) };
	struct kvsck_owned *o;
	u32 i;

	for (i = 0; i < 2 && block[i]; i++) {
		/* an older state may have been overwritten: what does not verify is not its any more */
		if (s->root == KVSCK_OF_PREVIOUS && (!v->page || v->finding[i]))
			continue;
		o = kvsck_array_add(&s->pages, sizeof(*o));
		if (!o)
			return -KVE_no_memory;
		o->block = block[i];
		o->blocks = le32_to_cpu(v->ref->blocks);
		o->tree = w->tree->id;
		o->roots = (u8)(ck->snap ? KVSCK_OF_SNAPSHOT : s->root);
		o->copy = (u8)i;
		o->finding = v->finding[i];
	}
	return 0;
}

static int on_logged(struct kvsck *ck, const struct kvf_identity *id, u32 off, int payload)
{
	struct kvsck_survey *s = ck->hooks->arg;

	(void)off;
	(void)payload;
	s->head = id->segment;
	s->sealed = kvsck_record(ck)->kind == KVF_RECORD_SEAL;
	return 0;
}

/* ---- pages, by block ------------------------------------------------------------------------- */

static int by_block(const void *a, const void *b)
{
	const struct kvsck_owned *x = a, *y = b;

	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	return (int)x->roots - (int)y->roots;
}

/* Pages of the older state that the newer one has too become one; those that it has overwritten go. */
static void merge_pages(struct kvsck_survey *s)
{
	struct kvsck_owned *o = s->pages.p;
	bool overlap;
	size_t i, n = 0;
	u32 k;

	if (s->pages.nr)
		qsort(o, s->pages.nr, sizeof(*o), by_block);
	for (i = 0; i < s->pages.nr; i++) {
		if (n && o[n - 1].block == o[i].block && o[n - 1].blocks == o[i].blocks) {
			o[n - 1].roots |= o[i].roots;
			continue;
		}
		if (o[i].roots == KVSCK_OF_LIVE) {
			o[n++] = o[i];
			continue;
		}
		for (overlap = false, k = 0; k < o[i].blocks && !overlap; k++)
			overlap = kvsck_bit(s->owned, o[i].block + k);
		if (!overlap)
			o[n++] = o[i];
	}
	s->pages.nr = n;
}

static u64 page_number(const void *p)
{
	return ((const struct kvsck_owned *)p)->block;
}

size_t kvsck_survey_page(const struct kvsck_survey *s, u64 block)
{
	return kvsck_array_find(&s->pages, sizeof(struct kvsck_owned), page_number, block);
}

/* ---- making it ------------------------------------------------------------------------------- */

static int newest(struct kvsck_survey *s)
{
	struct kvsck *ck = s->ck;
	int err;

	ck->hooks = &s->hooks;
	s->root = KVSCK_OF_LIVE;
	err = kvsck_passes(ck, ~0u);
	if (err)
		return err;
	if (!(ck->done & KVSCK_P(super)))
		return -KVE_corrupt_super;
	if (s->head == KVF_NO_SEGMENT)
		s->head = le32_to_cpu(ck->sb.replay_segment);
	if (s->sealed && ck->seg[s->head].hdr_next < ck->log_segments &&
	    ck->seg[ck->seg[s->head].hdr_next].state & KVSCK_SEG_LOG)
		s->head = ck->seg[s->head].hdr_next;
	s->owned = malloc((size_t)(ck->blocks / 8 + 1));
	if (!s->owned)
		return -KVE_no_memory;
	memcpy(s->owned, ck->owned, (size_t)(ck->blocks / 8 + 1));
	return 0;
}

/* What is wrong with it is no fault: its places are free to be used again. */
static int previous(struct kvsck_survey *s)
{
	struct kvsck *ck = kvsck_new(&s->io, &s->quiet, &s->scratch);
	int err;

	if (!ck)
		return -KVE_no_memory;
	ck->hooks = &s->hooks;
	ck->previous = true;
	s->root = KVSCK_OF_PREVIOUS;
	err = kvsck_passes(ck, KVSCK_P(super) | KVSCK_P(forest) | KVSCK_P(segtab) | KVSCK_P(trees) |
				       KVSCK_P(objects));
	kvsck_free(ck);
	return err;
}

int kvsck_survey_new(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_report *rep,
		     struct kvsck_survey **out)
{
	struct kvsck_survey *s = calloc(1, sizeof(*s));
	int err = -KVE_no_memory;

	memset(rep, 0, sizeof(*rep));
	*out = NULL;
	if (!s)
		return err;
	s->head = s->cached = KVF_NO_SEGMENT;
	s->hooks = (struct kvsck_hooks){ .page = on_page, .logged = on_logged, .arg = s };
	s->io = *io;
	if (opt)
		s->opt = *opt;
	s->quiet.flags = KVSCK_NO_VALUES;
	s->quiet.cancelled = s->opt.cancelled;
	s->quiet.cancelled_arg = s->opt.cancelled_arg;
	s->ck = kvsck_new(&s->io, &s->opt, rep);
	if (s->ck)
		err = newest(s);
	if (!err)
		err = previous(s);
	if (err) {
		kvsck_survey_free(s);
		return err;
	}
	merge_pages(s);
	s->ck->hooks = NULL;
	*out = s;
	return 0;
}

void kvsck_survey_free(struct kvsck_survey *s)
{
	if (!s)
		return;
	kvsck_free(s->ck);
	free(s->pages.p);
	free(s->tiles.p);
	free(s->buf.p);
	free(s->to.p);
	free(s->owned);
	free(s);
}

/* ---- looking at it --------------------------------------------------------------------------- */

const struct kvf_geometry *kvsck_survey_geometry(const struct kvsck_survey *s)
{
	return &s->ck->g;
}

const struct kvf_super *kvsck_survey_super(const struct kvsck_survey *s)
{
	return &s->ck->sb;
}

/* The log may have grown the volume behind what the superblock knows. */
u64 kvsck_survey_end(const struct kvsck_survey *s)
{
	u64 end = s->ck->log_segments;

	while (end > s->ck->segments && !(s->ck->seg[end - 1].state & KVSCK_SEG_LOG))
		end--;
	return end;
}

u64 kvsck_survey_segments(const struct kvsck_survey *s)
{
	return kvsck_survey_end(s);
}

static enum kvsck_seg_use use_of(const struct kvsck_seg *seg, u32 number)
{
	if (number == KVF_SEG_SUPER_A || number == KVF_SEG_SUPER_B)
		return KVSCK_USE_SUPER;
	if (number == KVF_SEG_TAIL)
		return KVSCK_USE_TAIL;
	if (seg->state & KVSCK_SEG_LOG)
		return KVSCK_USE_LOG;
	if (!(seg->state & KVSCK_SEG_ENTRY))
		return seg->state & KVSCK_SEG_PAGES ? KVSCK_USE_TREE : KVSCK_USE_UNKNOWN;
	switch (seg->kind) {
	case KVF_KIND_LOG:
		return KVSCK_USE_LOG;
	case KVF_KIND_TREE:
		return KVSCK_USE_TREE;
	}
	return KVSCK_USE_FREE;
}

/* Bytes of the segment's blocks that are in a map; segments behind the table have none. */
static u64 mapped_bytes(const struct kvsck_survey *s, const u8 *map, u32 segment)
{
	const struct kvsck *ck = s->ck;
	u64 first = (u64)segment * ck->g.seg_blocks, n = 0;
	u32 i;

	for (i = 0; segment < ck->segments && i < ck->g.seg_blocks; i++)
		n += kvsck_bit(map, first + i);
	return n << ck->g.block_shift;
}

static void fill_tree(const struct kvsck_survey *s, struct kvsck_segment_info *out)
{
	const struct kvsck_owned *o = s->pages.p;
	u64 end = (u64)(out->number + 1) * s->ck->g.seg_blocks;
	size_t i;

	out->live = mapped_bytes(s, s->owned, out->number);
	out->pending = mapped_bytes(s, s->ck->batched, out->number);
	for (i = kvsck_survey_page(s, end - s->ck->g.seg_blocks); i < s->pages.nr && o[i].block < end; i++)
		out->pages += o[i].roots & KVSCK_OF_LIVE;
}

void kvsck_survey_segment(struct kvsck_survey *s, u32 number, struct kvsck_segment_info *out)
{
	const struct kvsck_seg *seg = kvsck_seg_header(s->ck, number);
	bool header = !seg->hdr_finding;

	memset(out, 0, sizeof(*out));
	out->number = number;
	out->use = use_of(seg, number);
	out->replayed = seg->state & KVSCK_SEG_LOG;
	out->head = out->replayed && number == s->head;
	out->freed = seg->state & KVSCK_SEG_WHOLE && !out->replayed;
	out->gen = seg->gen;
	out->flags = seg->flags;
	out->incarnation = seg->incarnation;
	out->live = seg->live;
	out->pinned = seg->pinned;
	out->last_lsn = seg->last_lsn;
	if (header && (out->replayed || !(seg->state & KVSCK_SEG_ENTRY))) {
		if (seg->hdr_gen != seg->gen) {
			/* taken since the checkpoint */
			out->flags = 0;
			out->live = out->pinned = out->last_lsn = 0;
		}
		out->gen = seg->hdr_gen;
		out->incarnation = seg->hdr_incarnation;
	}
	if (out->use == KVSCK_USE_LOG && header && seg->hdr_gen == out->gen)
		out->first_lsn = seg->hdr_first_lsn;
	if (out->use == KVSCK_USE_TREE)
		fill_tree(s, out);
}
