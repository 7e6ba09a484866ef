/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * walk.c - every page of one tree, top down and in order of keys.
 *
 * Levels strictly fall from parent to child and blocks are owned once, so that the walk ends on any
 * bytes. The path is kept in ck->page[], no recursion. A child's fences must be the separators left and
 * right of its slot in the parent; what a child that cannot be read held is reported as that range.
 */
#include "ck.h"

struct level {
	struct kvsck_page page;
	u32 nr, next, end; /* slots; the children that are due */
	u8 level;
};

struct fences {
	const u8 *lower, *upper; /* NULL: none */
	u32 lower_len, upper_len;
	bool loose; /* it may begin later: what came before was pruned */
};

struct path {
	struct level at[KVF_DEPTH_MAX];
	u32 depth;
};

static struct kvsck_where where_page(const struct kvsck *ck, const struct kvsck_walk *w, u64 block,
				     const struct fences *f)
{
	struct kvsck_where at = kvsck_at(ck, block << ck->g.block_shift);

	at.tree = w->tree;
	at.range = true;
	at.from = f->lower;
	at.from_len = f->lower_len;
	at.to = f->upper;
	at.to_len = f->upper_len;
	return at;
}

struct kvsck_where kvsck_at_entry(const struct kvsck *ck, const struct kvsck_walk *w,
				  const struct kvsck_entry *e)
{
	struct kvsck_where at = kvsck_at(ck, e->leaf->addr << ck->g.block_shift);

	at.tree = w->tree;
	at.range = at.single = true;
	at.from = e->key;
	at.from_len = e->key_len;
	return at;
}

u32 kvsck_digest(const struct kvf_ref *ref)
{
	u64 d = le64_to_cpu(ref->sum) ^ le64_to_cpu(ref->birth) * 0x9e3779b97f4a7c15ull;

	return (u32)(d ^ d >> 32) | 1;
}

/* A page that the live state, or an older snapshot, has as well. */
static bool is_shared(const struct kvsck *ck, const struct kvf_ref *ref)
{
	return ck->snap && !kvf_ref_verify(ref, &ck->g, ck->segments) &&
	       ck->page_at[le64_to_cpu(ref->block0)] == kvsck_digest(ref);
}

/* All blocks of a copy get this owner. False: some have one already. */
static bool claim(struct kvsck *ck, const struct kvf_ref *ref, u64 block, u32 blocks)
{
	u32 i;

	for (i = 0; i < blocks; i++)
		if (kvsck_bit(ck->owned, block + i))
			return false;
	for (i = 0; i < blocks; i++) {
		kvsck_bit_set(ck->owned, block + i);
		if (ck->snap)
			kvsck_bit_set(ck->held, block + i);
	}
	ck->page_at[block] = kvsck_digest(ref);
	ck->seg[block >> (ck->g.segment_shift - ck->g.block_shift)].state |= KVSCK_SEG_PAGES;
	return true;
}

/* Is the ref fit to be followed? */
static bool ref_fits(struct kvsck *ck, struct kvsck_walk *w, const struct kvf_ref *ref,
		     const struct fences *f, u64 parent_block)
{
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u64 gen = ck->snap ? ck->snap->generation : le64_to_cpu(ck->sb.generation);
	u32 i, blocks = le32_to_cpu(ref->blocks);
	struct kvsck_where at = where_page(ck, w, parent_block, f);
	int finding = kvf_ref_verify(ref, &ck->g, ck->segments);

	if (finding) {
		kvsck_problem(ck, finding, &at, "block %llu and %llu, %u blocks", block[0], block[1],
			      blocks);
		return false;
	}
	if (le64_to_cpu(ref->birth) > gen)
		kvsck_problem(ck, KVF_F_page_generation, &at, "born in %llu, the checkpoint is %llu",
			      le64_to_cpu(ref->birth), gen);
	for (i = 0; i < 2 && block[i]; i++) {
		if (claim(ck, ref, block[i], blocks))
			continue;
		at = where_page(ck, w, block[i], f);
		kvsck_problem(ck, KVF_F_ref_shared, &at, "%u blocks from block %llu", blocks, block[i]);
		return false;
	}
	return true;
}

/* A clone that is being dropped loses its pages from the left. */
static bool is_pruned(const struct kvsck_tree *t)
{
	return t->doomed && t->head.origin != cpu_to_le64(0);
}

static bool fence_differs(const u8 *a, u32 a_len, const u8 *b, u32 b_len)
{
	if (!a || !b)
		return a != b;
	return a_len != b_len || memcmp(a, b, a_len);
}

static bool fences_differ(const struct kvsck_page *page, const struct fences *f)
{
	u32 len = 0;
	const u8 *fence = kvf_page_lower(page->p, page->len, &len);

	if (fence_differs(fence, len, f->lower, f->lower_len) && !f->loose)
		return true;
	fence = kvf_page_upper(page->p, page->len, &len);
	return fence_differs(fence, len, f->upper, f->upper_len);
}

/* What is wrong with the copies of a page that was to be read. */
static void judge_copies(struct kvsck *ck, struct kvsck_walk *w, const struct kvf_ref *ref,
			 const struct fences *f, int err, const int finding[2])
{
	struct kvsck_where at;
	u32 bad = finding[0] ? 0 : 1;
	u64 block = le64_to_cpu(bad ? ref->block1 : ref->block0);

	if (!finding[0] && !finding[1])
		return;
	at = where_page(ck, w, block, f);
	if (!err) {
		at.repairable = true;
		kvsck_problem(ck, KVF_F_page_twin, &at, "copy %u, block %llu: %s", bad, block,
			      kvf_finding_text(finding[bad]));
	} else if (ref->block1 != cpu_to_le64(0)) {
		kvsck_problem(ck, finding[0], &at,
			      "both copies are bad, at blocks %llu and %llu (%s): the keys are lost",
			      block, le64_to_cpu(ref->block1), kvf_finding_name(finding[1]));
	} else {
		kvsck_problem(ck, finding[0], &at, "block %llu: the inline values of these keys are lost",
			      block);
	}
}

static int show_page(struct kvsck *ck, const struct kvsck_walk *w, const struct kvf_ref *ref,
		     const struct fences *f, const struct kvsck_page *page, const int finding[2])
{
	struct kvsck_visit v = { .ref = ref, .page = page, .finding = { finding[0], finding[1] },
				 .lower = f->lower, .lower_len = f->lower_len,
				 .upper = f->upper, .upper_len = f->upper_len };

	return ck->hooks && ck->hooks->page ? ck->hooks->page(ck, w, &v) : 0;
}

/* First child whose keys all are at or above key; the one before it may have some below. */
static int child_bound(struct kvsck *ck, const struct level *lv, const u8 *key, u32 key_len, u32 *bound)
{
	u32 lo = 1, hi = KVF_MAX(lv->nr, 1u), mid, len;
	int err = kvsck_buf_reserve(&ck->key, ck->g.key_max);

	while (!err && lo < hi) {
		mid = lo + (hi - lo) / 2;
		len = kvf_page_key(lv->page.p, lv->page.len, mid, ck->key.p);
		if (kvf_key_compare(ck->key.p, len, key, key_len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*bound = lo;
	return err;
}

/* Which children of the page may hold keys that the walk is about? */
static int choose_children(struct kvsck *ck, const struct kvsck_walk *w, struct level *lv)
{
	u32 len;
	int err = 0;

	lv->next = 0;
	lv->end = lv->nr;
	if (!w->from || !lv->level || !lv->nr)
		return 0;
	err = child_bound(ck, lv, w->to, w->to_len, &lv->end);
	if (!err)
		err = child_bound(ck, lv, w->from, w->from_len, &lv->next);
	if (err)
		return err;
	/* it begins at from itself, or the one before it holds from */
	len = lv->next < lv->nr ? kvf_page_key(lv->page.p, lv->page.len, lv->next, ck->key.p) : 0;
	if (!len || kvf_key_compare(ck->key.p, len, w->from, w->from_len) > 0)
		lv->next--;
	return 0;
}

/*
 * A page that a clone has from its origin, and that was not met there. Of the live state it is noted for
 * later (-KVE_end), unless the walk is about some keys: then it is followed as it is.
 */
static int foreign_fits(struct kvsck *ck, struct kvsck_walk *w, const struct kvf_ref *ref,
			const struct fences *f, u64 parent_block)
{
	struct kvsck_where at = where_page(ck, w, parent_block, f);
	int finding = kvf_ref_verify(ref, &ck->g, ck->segments), err;

	if (!finding && ck->snap)
		finding = KVF_F_clone_ref;
	if (finding) {
		kvsck_problem(ck, finding, &at, "block %llu", le64_to_cpu(ref->block0));
		return 1;
	}
	if (w->from)
		return 0;
	err = kvsck_share_page(ck, w, ref, parent_block);
	w->shared++;
	return err ? err : -KVE_end;
}

/* Go down to the page of ref. Positive: not possible, reported. */
static int descend(struct kvsck *ck, struct kvsck_walk *w, struct path *path, const struct kvf_ref *ref,
		   const struct fences *f, u64 parent_block)
{
	struct level *up = path->depth ? &path->at[path->depth - 1] : NULL;
	struct level *lv = &path->at[path->depth];
	const struct kvf_page *p;
	bool shared = is_shared(ck, ref), foreign = kvsck_shared_page(w->tree, ref);
	struct kvsck_where at;
	int err, finding[2];

	if (foreign && !shared && (err = foreign_fits(ck, w, ref, f, parent_block)))
		return err == -KVE_end ? 0 : err;
	if (!shared && !foreign && !ref_fits(ck, w, ref, f, parent_block))
		return 1;
	err = kvsck_page_load(ck, ref, foreign ? 0 : w->tree->id, up ? up->level - 1 : -1,
			      &ck->page[path->depth], &lv->page, finding);
	if (err < 0)
		return err;
	if (!shared && !foreign)
		judge_copies(ck, w, ref, f, err, finding);
	if (err) {
		err = show_page(ck, w, ref, f, NULL, finding);
		return err ? err : 1;
	}
	ck->rep->pages += !shared && !foreign;
	p = (const struct kvf_page *)lv->page.p;
	lv->nr = le16_to_cpu(p->nr);
	lv->level = p->level;
	err = choose_children(ck, w, lv);
	if (!err)
		err = show_page(ck, w, ref, f, &lv->page, finding);
	if (err)
		return err;
	at = where_page(ck, w, lv->page.addr, f);
	if (lv->level >= KVF_DEPTH_MAX) {
		kvsck_problem(ck, KVF_F_page_level, &at, "level %u", lv->level);
		return 1;
	}
	if (ref->block1 == cpu_to_le64(0) && (lv->level || w->twin_leaves))
		kvsck_problem(ck, KVF_F_page_twin, &at, "a page of this kind is stored twice, this is not");
	if (fences_differ(&lv->page, f))
		kvsck_problem(ck, KVF_F_page_fences, &at, "%s", "");
	if (lv->level && !lv->nr)
		kvsck_problem(ck, KVF_F_page_layout, &at, "an inner page without children");
	/* What is below it was walked where it was found first. */
	if (shared)
		w->shared++;
	else
		path->depth++;
	return 0;
}

/* Fences of child i by its parent's separators; they stand in ck->from and ck->to. */
static int child_fences(struct kvsck *ck, const struct level *lv, u32 i, bool pruned, struct fences *f)
{
	const u8 *page = lv->page.p;
	u32 len = lv->page.len;
	int err = kvsck_buf_reserve(&ck->from, ck->g.key_max);

	if (!err)
		err = kvsck_buf_reserve(&ck->to, ck->g.key_max);
	if (err)
		return err;
	if (i) {
		f->lower = ck->from.p;
		f->lower_len = kvf_page_key(page, len, i, ck->from.p);
	} else {
		f->lower = kvf_page_lower(page, len, &f->lower_len);
		f->loose = pruned;
	}
	if (i + 1 < lv->nr) {
		f->upper = ck->to.p;
		f->upper_len = kvf_page_key(page, len, i + 1, ck->to.p);
	} else {
		f->upper = kvf_page_upper(page, len, &f->upper_len);
	}
	return 0;
}

static int visit_leaf(struct kvsck *ck, struct kvsck_walk *w, const struct level *lv)
{
	struct kvsck_entry e = { .leaf = &lv->page };
	u32 i, ext = 0;
	int err = kvsck_buf_reserve(&ck->key, ck->g.key_max);

	for (i = 0; i < lv->nr && !err; i++) {
		w->entries++;
		if (!w->entry)
			continue;
		e.slot = i;
		e.key = ck->key.p;
		e.key_len = kvf_page_key(lv->page.p, lv->page.len, i, ck->key.p);
		e.cell = kvf_page_cell(lv->page.p, lv->page.len, i, &e.cell_len, &e.flags);
		ext = 0;
		if (e.flags & KVF_CELL_EXT && kvf_ext_verify(e.cell, e.cell_len, &ext))
			ext = 0;
		e.body = e.cell + ext;
		e.body_len = e.cell_len - ext;
		err = w->entry(ck, w, &e);
	}
	return err;
}

/* One step: a leaf's entries, one child of an inner page, or back up. */
static int step(struct kvsck *ck, struct kvsck_walk *w, struct path *path)
{
	struct level *lv = &path->at[path->depth - 1];
	struct fences f = { .loose = false };
	struct kvf_ref ref;
	const u8 *cell;
	u32 cell_len;
	u8 flags;
	int err;

	if (!lv->level) {
		path->depth--;
		return visit_leaf(ck, w, lv);
	}
	if (lv->next >= lv->end) {
		path->depth--;
		return 0;
	}
	err = kvsck_cancelled(ck);
	if (!err)
		err = child_fences(ck, lv, lv->next, is_pruned(w->tree), &f);
	if (err)
		return err;
	cell = kvf_page_cell(lv->page.p, lv->page.len, lv->next++, &cell_len, &flags);
	if (cell_len != sizeof(ref)) {
		struct kvsck_where at = where_page(ck, w, lv->page.addr, &f);

		kvsck_problem(ck, KVF_F_page_cell, &at, "slot %u of an inner page", lv->next - 1);
		w->lost++;
		return 0;
	}
	memcpy(&ref, cell, sizeof(ref));
	err = descend(ck, w, path, &ref, &f, lv->page.addr);
	if (err > 0) {
		w->lost++;
		err = 0;
	}
	return err;
}

void kvsck_walk_again(struct kvsck *ck)
{
	memset(ck->owned, 0, (size_t)(ck->blocks / 8 + 1));
}

int kvsck_walk_tree(struct kvsck *ck, struct kvsck_walk *w, const struct kvf_ref *root)
{
	struct fences f = { .loose = is_pruned(w->tree) };
	struct path path = { .depth = 0 };
	int err;

	w->entries = w->lost = w->shared = 0;
	if (kvf_is_zero(root, sizeof(*root)))
		return 0;
	err = kvsck_cancelled(ck);
	if (!err)
		err = descend(ck, w, &path, root, &f, le64_to_cpu(root->block0));
	if (err > 0) {
		w->lost++;
		err = 0;
	}
	while (!err && path.depth)
		err = step(ck, w, &path);
	if (w->lost)
		ck->leaks_unknown = true;
	return err;
}

void kvsck_check_count(struct kvsck *ck, const struct kvsck_walk *w)
{
	struct kvsck_where at = KVSCK_NOWHERE;
	/* the objects tree is not counted, its head says 0 */
	u64 entries = w->tree->id == KVF_TREE_OBJECTS ? 0 : w->entries;

	at.tree = w->tree;
	if (!w->lost && !w->shared && entries != le64_to_cpu(w->tree->head.count))
		kvsck_problem(ck, KVF_F_tree_count, &at, "%llu entries, the head says %llu", w->entries,
			      le64_to_cpu(w->tree->head.count));
}
