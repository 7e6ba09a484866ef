/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pass_super.c - find the superblocks, say what is wrong with each slot, choose one.
 *
 * A superblock counts when it verifies and its roots do; of those the one with the highest number. What
 * a crash leaves behind is a note, any other damage a problem. A crash may leave damaged:
 *   - the slot that comes next, in one group: the write that was under way;
 *   - the slot of the newest in group B when A, written first, has it;
 *   - a slot of group B whose twin in A is whole and marked clean, or is followed by a superblock of a
 *     later incarnation: the same, passed over by the opening that followed.
 * The copy at the end is written last of all and may be missing or old after any crash.
 */
#include <stdlib.h>

#include "ck.h"

#define COPY KVF_SLOTS /* index of the copy at the end, behind the slots of both groups */
#define PLACES (KVF_SLOTS + 1)
#define EMPTY (-1) /* finding of a slot of zeros */

struct place {
	struct kvf_super sb;
	u64 off;
	int finding; /* 0, EMPTY or a finding */
	bool tried;
};

struct supers {
	struct place place[PLACES];
	struct kvf_super best; /* from probing: gives the geometry */
	u64 best_seq;
	u64 newer_seq; /* of a superblock that needs a newer version */
	u64 newest;    /* number of the newest valid one */
	int newer;     /* its finding, 0: none */
	bool magic;    /* something carried our magic */
	bool data;     /* something was not zero */
};

static u64 seq_of(const struct kvf_super *sb)
{
	return le64_to_cpu(sb->seq);
}

/* ---- looking for the geometry ------------------------------------------------------------------ */

static void probe(struct kvsck *ck, struct supers *s, u64 off)
{
	struct kvf_super sb;
	int f;

	if (kvsck_read(ck, off, &sb, sizeof(sb)))
		return;
	if (!kvf_is_zero(&sb, sizeof(sb)))
		s->data = true;
	f = kvf_super_verify(&sb, off);
	if (f != KVF_F_super_magic)
		s->magic = true;
	if ((f == KVF_F_super_version || f == KVF_F_super_incompat) &&
	    (!s->newer || seq_of(&sb) > s->newer_seq)) {
		s->newer = f;
		s->newer_seq = seq_of(&sb);
	}
	if (!f && seq_of(&sb) > s->best_seq) {
		s->best = sb;
		s->best_seq = seq_of(&sb);
	}
}

/* Every place where a slot of a group that begins at base may stand. */
static void probe_group(struct kvsck *ck, struct supers *s, u64 base)
{
	static const u16 at[] = { 0, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288 };
	size_t i;

	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		probe(ck, s, base + at[i]);
}

static void probe_volume(struct kvsck *ck, struct supers *s)
{
	u64 size;

	probe_group(ck, s, 0);
	if (s->best_seq || s->newer)
		return;
	for (size = KVF_SEGMENT_MIN; size <= KVF_SEGMENT_MAX; size <<= 1)
		probe_group(ck, s, KVF_SEG_SUPER_B * size);
	if (s->best_seq || s->newer)
		return;
	for (size = KVF_BLOCK_MIN; size <= KVF_BLOCK_MAX; size <<= 1)
		if (ck->io->size >= size)
			probe(ck, s, ck->io->size - size);
}

static int unsupported(struct kvsck *ck, int finding)
{
	struct kvsck_where w = KVSCK_NOWHERE;

	kvsck_problem(ck, finding, &w, "of a newer or older format: the kvs that made it must check it");
	return -KVE_unsupported;
}

/* Not even one superblock: is this ours at all? */
static int nothing_found(struct kvsck *ck, struct supers *s)
{
	struct kvsck_where w = KVSCK_NOWHERE;

	u8 begin[sizeof(struct kvf_super)];
	u32 len = (u32)KVF_MIN((u64)sizeof(begin), ck->io->size);

	if (s->newer)
		return unsupported(ck, s->newer);
	/* too short for a superblock even */
	if (!s->data && !kvsck_read(ck, 0, begin, len))
		s->data = !kvf_is_zero(begin, len);
	if (!s->magic)
		return s->data ? -KVE_not_volume : -KVE_empty;
	kvsck_problem(ck, KVF_F_super_sum, &w,
		      "no superblock is whole, neither in the two groups nor at the end; nothing behind "
		      "them can be checked");
	ck->pass_failed = true;
	return 0;
}

/* ---- the places, once the geometry is known ------------------------------------------------------ */

static void read_place(struct kvsck *ck, struct supers *s, u32 i)
{
	struct place *p = &s->place[i];
	u64 group = i < KVF_GROUP_SLOTS ? 0 : 1;

	if (i == COPY)
		p->off = le64_to_cpu(s->best.segments) << ck->g.segment_shift;
	else
		p->off = kvf_super_offset(&ck->g, i % KVF_GROUP_SLOTS, (unsigned int)group);
	if (kvsck_read(ck, p->off, &p->sb, sizeof(p->sb))) {
		p->finding = KVF_F_io_error;
		memset(&p->sb, 0, sizeof(p->sb));
		return;
	}
	if (kvf_is_zero(&p->sb, sizeof(p->sb))) {
		p->finding = EMPTY;
		return;
	}
	p->finding = kvf_super_verify(&p->sb, p->off);
	if (p->finding == KVF_F_super_version || p->finding == KVF_F_super_incompat) {
		s->newer = p->finding;
		s->newer_seq = KVF_MAX(s->newer_seq, seq_of(&p->sb));
	}
	if (p->finding)
		return;
	if (memcmp(p->sb.uuid, s->best.uuid, sizeof(p->sb.uuid)))
		p->finding = KVF_F_super_fields;
	else if (p->sb.block_shift != s->best.block_shift ||
		 p->sb.segment_shift != s->best.segment_shift ||
		 p->sb.frame_shift != s->best.frame_shift ||
		 p->sb.window_shift != s->best.window_shift)
		p->finding = KVF_F_super_geometry;
	else if (seq_of(&p->sb) > s->newest)
		s->newest = seq_of(&p->sb);
}

static struct place *other_group(struct supers *s, u32 i)
{
	return &s->place[(i + KVF_GROUP_SLOTS) % KVF_SLOTS];
}

/* May a crash have left slot i as it is? Group A is written first, so what B lacks A has. */
static bool crash_explains(struct supers *s, u32 i)
{
	const struct place *twin = other_group(s, i), *p;
	u32 slot = i % KVF_GROUP_SLOTS, j;

	if (s->place[i].finding == KVF_F_io_error)
		return false;
	if (slot == (s->newest + 1) % KVF_GROUP_SLOTS && twin->finding <= 0)
		return true;
	if (twin->finding || i < KVF_GROUP_SLOTS)
		return false;
	if (seq_of(&twin->sb) == s->newest || le32_to_cpu(twin->sb.flags) & KVF_SUPER_CLEAN)
		return true;
	for (j = 0; j < KVF_SLOTS; j++) {
		p = &s->place[j];
		if (!p->finding && seq_of(&p->sb) == seq_of(&twin->sb) + 1 &&
		    p->sb.incarnation != twin->sb.incarnation)
			return true;
	}
	return false;
}

static void judge_slots(struct kvsck *ck, struct supers *s)
{
	u32 i, group, whole[2] = { 0, 0 };
	bool newest[2] = { false, false };
	struct kvsck_where w;

	for (i = 0; i < KVF_SLOTS; i++) {
		struct place *p = &s->place[i];

		group = i / KVF_GROUP_SLOTS;
		if (!p->finding) {
			whole[group]++;
			if (seq_of(&p->sb) == s->newest)
				newest[group] = true;
		}
		if (p->finding <= 0)
			continue;
		w = kvsck_at(ck, p->off);
		if (crash_explains(s, i))
			kvsck_note(ck, p->finding, &w, "slot %u of group %c was being written at a crash",
				   i % KVF_GROUP_SLOTS, 'A' + (int)group);
		else
			kvsck_problem(ck, p->finding, &w, "slot %u of group %c", i % KVF_GROUP_SLOTS,
				      'A' + (int)group);
	}
	for (group = 0; group < 2; group++) {
		w = kvsck_at(ck, kvf_super_offset(&ck->g, 0, group));
		if (!whole[group])
			kvsck_problem(ck, KVF_F_super_magic, &w, "group %c holds no superblock at all",
				      'A' + (int)group);
		else if (!newest[group])
			kvsck_note(ck, KVF_F_super_stale, &w, "group %c lacks number %llu",
				   'A' + (int)group, s->newest);
	}
}

/* ---- the choice ---------------------------------------------------------------------------------- */

static int root_verifies(struct kvsck *ck, const struct kvf_super *sb, const struct kvf_ref *ref,
			 u32 tree, bool *ok)
{
	struct kvsck_where w = kvsck_at(ck, le64_to_cpu(ref->block0) << ck->g.block_shift);
	struct kvsck_page page;
	int f[2], err;

	*ok = false;
	w.tree_id = tree;
	f[0] = kvf_ref_verify(ref, &ck->g, ck->segments);
	if (f[0]) {
		kvsck_problem(ck, f[0], &w, "root named by superblock %llu", seq_of(sb));
		return 0;
	}
	err = kvsck_page_load(ck, ref, tree, -1, &ck->page[0], &page, f);
	if (err < 0)
		return err;
	*ok = !err;
	if (err)
		kvsck_problem(ck, f[0], &w, "both copies of the root named by superblock %llu are bad",
			      seq_of(sb));
	return 0;
}

/* The newest valid one that was not tried; the copy comes last. NULL: none left. */
static struct place *next_choice(struct supers *s)
{
	struct place *best = NULL;
	u32 i;

	for (i = 0; i < PLACES; i++) {
		struct place *p = &s->place[i];

		if (p->finding || p->tried)
			continue;
		if (!best || (i != COPY && seq_of(&p->sb) > seq_of(&best->sb)))
			best = p;
	}
	return best;
}

/* The same number in the other group needs no second look. */
static void mark_tried(struct supers *s, const struct place *p)
{
	u32 i;

	for (i = 0; i < PLACES; i++)
		if (!s->place[i].finding && seq_of(&s->place[i].sb) == seq_of(&p->sb) &&
		    !memcmp(&s->place[i].sb.forest, &p->sb.forest, sizeof(struct kvf_ref)) &&
		    !memcmp(&s->place[i].sb.segtab, &p->sb.segtab, sizeof(struct kvf_ref)))
			s->place[i].tried = true;
}

static void limit_segments(struct kvsck *ck, const struct kvf_super *sb)
{
	u64 there = (ck->io->size + ck->g.segment - 1) >> ck->g.segment_shift;

	ck->segments = KVF_MIN(le64_to_cpu(sb->segments), there);
	ck->log_segments = KVF_MIN(there, (u64)KVF_SEGMENTS_MAX);
}

/* The state before it: what of it still stands is found by its checksums. Its log is not followed. */
static int step_back(struct kvsck *ck)
{
	struct kvf_super *sb = &ck->sb;

	sb->forest = sb->prev_forest;
	sb->segtab = sb->prev_segtab;
	sb->generation = sb->prev_generation;
	ck->pass_failed = kvf_is_zero(&sb->forest, sizeof(sb->forest));
	return 0;
}

static int choose(struct kvsck *ck, struct supers *s)
{
	struct place *p;
	bool forest, segtab;
	u64 intact = 0;
	int err;

	while ((p = next_choice(s))) {
		mark_tried(s, p);
		/* What the newest says is gone is no state to fall back to. */
		if (le64_to_cpu(p->sb.generation) < intact)
			continue;
		intact = KVF_MAX(intact, le64_to_cpu(p->sb.oldest_intact));
		limit_segments(ck, &p->sb);
		ck->sb = p->sb; /* identity for verifying pages */
		err = root_verifies(ck, &p->sb, &p->sb.forest, KVF_TREE_FOREST, &forest);
		if (!err)
			err = root_verifies(ck, &p->sb, &p->sb.segtab, KVF_TREE_SEGTAB, &segtab);
		if (err)
			return err;
		if (forest && segtab)
			return ck->previous ? step_back(ck) : 0;
	}
	ck->pass_failed = true;
	return 0;
}

/* Two superblocks of one number must say the same. */
static void compare_twins(struct kvsck *ck, struct supers *s)
{
	u32 i;

	for (i = 0; i < KVF_GROUP_SLOTS; i++) {
		struct place *a = &s->place[i], *b = other_group(s, i);
		struct kvf_super x = a->sb, y = b->sb;
		struct kvsck_where w = kvsck_at(ck, b->off);

		if (a->finding || b->finding || seq_of(&x) != seq_of(&y))
			continue;
		x.position = y.position = cpu_to_le64(0);
		x.sum = y.sum = cpu_to_le64(0);
		if (memcmp(&x, &y, sizeof(x)))
			kvsck_problem(ck, KVF_F_super_fields, &w,
				      "both groups hold number %llu with different contents", seq_of(&x));
	}
}

static void judge_volume(struct kvsck *ck, struct supers *s)
{
	const struct kvf_super *sb = &ck->sb;
	u64 end = le64_to_cpu(sb->segments) << ck->g.segment_shift;
	struct place *copy = &s->place[COPY];
	struct kvsck_where w = kvsck_at(ck, end);

	if (ck->io->size < end)
		kvsck_problem(ck, KVF_F_volume_short, &w, "%llu bytes, the superblock says %llu",
			      ck->io->size, end);
	else if (ck->io->size > end + ck->g.block)
		kvsck_note(ck, KVF_F_volume_long, &w, "%llu bytes, the superblock says %llu",
			   ck->io->size, end + ck->g.block);
	if (copy->finding)
		kvsck_note(ck, KVF_F_volume_copy, &w, "%s",
			   copy->finding > 0 ? kvf_finding_text(copy->finding) : "zeros");
}

/* Arrays by segment and by block. */
static int allocate(struct kvsck *ck)
{
	size_t bytes;

	ck->blocks = ck->segments << (ck->g.segment_shift - ck->g.block_shift);
	bytes = (size_t)(ck->blocks / 8 + 1);
	ck->seg = calloc((size_t)ck->log_segments + 1, sizeof(*ck->seg));
	ck->owned = calloc(1, bytes);
	ck->marked = calloc(1, bytes);
	ck->batched = calloc(1, bytes);
	ck->held = calloc(1, bytes);
	ck->listed = calloc(1, bytes);
	ck->page_at = calloc((size_t)ck->blocks + 1, sizeof(*ck->page_at));
	if (!ck->seg || !ck->owned || !ck->marked || !ck->batched || !ck->held || !ck->listed ||
	    !ck->page_at)
		return -KVE_no_memory;
	return 0;
}

static void fill_report(struct kvsck *ck)
{
	struct kvsck_report *rep = ck->rep;

	u32 errors = le32_to_cpu(ck->sb.errors_nr);

	rep->usable = true;
	rep->errors_nr = errors;
	if (errors)
		rep->last_error = le32_to_cpu(ck->sb.errors[(errors - 1) % KVF_ERRORS].code);
	rep->clean = le32_to_cpu(ck->sb.flags) & KVF_SUPER_CLEAN;
	memcpy(rep->uuid, ck->sb.uuid, sizeof(rep->uuid));
	rep->seq = seq_of(&ck->sb);
	rep->generation = le64_to_cpu(ck->sb.generation);
	rep->segments = ck->segments;
	rep->segment_bytes = ck->g.segment;
	rep->replay_lsn = rep->end_lsn = le64_to_cpu(ck->sb.replay_lsn);
}

static int pass_super(struct kvsck *ck, struct supers *s)
{
	u32 i;
	int err;

	probe_volume(ck, s);
	if (!s->best_seq)
		return nothing_found(ck, s);
	kvf_geometry_from_super(&ck->g, &s->best);
	for (i = 0; i < PLACES; i++)
		read_place(ck, s, i);
	if (s->newer && s->newer_seq >= s->newest)
		return unsupported(ck, s->newer);
	judge_slots(ck, s);
	compare_twins(ck, s);
	err = choose(ck, s);
	if (err || ck->pass_failed)
		return err;
	if (le64_to_cpu(ck->sb.ro_compat) & ~KVF_RO_COMPAT_KNOWN)
		return unsupported(ck, KVF_F_super_ro_compat);
	judge_volume(ck, s);
	for (i = 0; i < PLACES; i++)
		if (!s->place[i].finding)
			ck->attested = KVF_MAX(ck->attested, le64_to_cpu(s->place[i].sb.attested_lsn));
	err = allocate(ck);
	if (!err)
		fill_report(ck);
	return err;
}

int kvsck_pass_super(struct kvsck *ck)
{
	struct supers *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -KVE_no_memory;
	err = pass_super(ck, s);
	free(s);
	return err;
}
