/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * clone.c - what clones have from the snapshots that they start from.
 *
 * A clone of the live state is walked before the snapshots are. What it shares is not its own: it is noted,
 * not walked, and looked for when all snapshots have been. In a snapshot a clone comes after its origin.
 */
#include "ck.h"

void kvsck_origin(struct kvsck *ck, struct kvsck_tree *t)
{
	const struct kvsck_snap *s = ck->snaps.p;
	struct kvsck_where at = KVSCK_NOWHERE;
	size_t i;

	at.tree = t;
	if (t->head.origin == cpu_to_le64(0)) {
		if (t->head.origin_object != cpu_to_le64(0) || t->head.origin_tree != cpu_to_le32(0))
			kvsck_problem(ck, KVF_F_tree_head, &at, "no clone, but with parts of an origin");
		return;
	}
	for (i = 0; i < ck->snaps.nr; i++)
		if (s[i].generation == le64_to_cpu(t->head.origin))
			t->origin_lsn = s[i].lsn;
	if (!t->origin_lsn || le32_to_cpu(t->head.origin_tree) >= t->id || t->id < KVF_TREE_USER ||
	    (ck->snap && le64_to_cpu(t->head.origin) >= ck->snap->generation))
		kvsck_problem(ck, KVF_F_tree_origin, &at, "snapshot of generation %llu, tree %u",
			      le64_to_cpu(t->head.origin), le32_to_cpu(t->head.origin_tree));
}

static int share_add(struct kvsck *ck, const struct kvsck_walk *w, u64 at, u64 leaf, u32 digest)
{
	struct kvsck_share *s = kvsck_array_add(&ck->shares, sizeof(*s));

	if (!s)
		return -KVE_no_memory;
	s->at = at;
	s->leaf = leaf;
	s->digest = digest;
	s->tree = w->tree->id;
	return 0;
}

int kvsck_share_page(struct kvsck *ck, const struct kvsck_walk *w, const struct kvf_ref *ref, u64 parent)
{
	return share_add(ck, w, le64_to_cpu(ref->block0), parent, kvsck_digest(ref));
}

int kvsck_share_value(struct kvsck *ck, const struct kvsck_walk *w, u64 at, u64 leaf)
{
	return share_add(ck, w, at, leaf, 0);
}

void kvsck_shares_check(struct kvsck *ck)
{
	const struct kvsck_share *s = ck->shares.p;
	struct kvsck_where at;
	bool there;
	size_t i;

	/* Of pages that are lost it is not known what they had. */
	for (i = 0; i < ck->shares.nr && !ck->leaks_unknown; i++) {
		there = s[i].digest ? ck->page_at[s[i].at] == s[i].digest :
				      ck->records && kvsck_bit(ck->records, s[i].at);
		if (there)
			continue;
		at = kvsck_at(ck, s[i].leaf << ck->g.block_shift);
		at.tree = kvsck_tree_by_id(ck, s[i].tree);
		if (s[i].digest)
			kvsck_problem(ck, KVF_F_clone_ref, &at, "page at block %llu", s[i].at);
		else
			kvsck_problem(ck, KVF_F_clone_ref, &at, "value at byte %llu of the volume",
				      s[i].at * KVF_RECORD_ALIGN);
	}
}
