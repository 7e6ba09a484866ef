/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * owner.c - what a stretch of the volume holds: read and verified when it is asked for.
 */
#include "survey.h"

static void fill_super(struct kvsck_survey *s, struct kvsck_stretch *out)
{
	const struct kvf_super *sb = &s->ck->sb;

	if (kvsck_read(s->ck, out->from, &s->super, sizeof(s->super))) {
		out->finding = KVF_F_io_error;
		return;
	}
	out->finding = kvf_super_verify(&s->super, out->from);
	if (out->finding)
		return;
	out->super = &s->super;
	out->chosen = s->super.seq == sb->seq && !memcmp(&s->super.forest, &sb->forest, sizeof(sb->forest));
}

static void fill_header(struct kvsck_survey *s, struct kvsck_stretch *out)
{
	const struct kvsck_seg *seg = kvsck_seg_header(s->ck, out->segment.number);

	out->finding = seg->hdr_finding;
	if (!out->finding && kvsck_read(s->ck, out->from, &s->header, sizeof(s->header)))
		out->finding = KVF_F_io_error;
	if (!out->finding)
		out->header = &s->header;
}

static void fill_footer(struct kvsck_survey *s, const struct kvsck_tile *t, struct kvsck_stretch *out)
{
	out->finding = t->finding;
	if (!out->finding && kvsck_read(s->ck, out->from, &s->footer, sizeof(s->footer)))
		out->finding = KVF_F_io_error;
	if (!out->finding)
		out->footer = &s->footer;
}

static int fill_page(struct kvsck_survey *s, const struct kvsck_tile *t, struct kvsck_stretch *out)
{
	const struct kvsck_owned *o = t->owned ? (struct kvsck_owned *)s->pages.p + t->owned - 1 : NULL;
	u32 len = (u32)(out->to - out->from);
	struct kvf_page_expect e = { .uuid = s->ck->sb.uuid, .level = -1 };
	const struct kvsck_tree *tree;
	int err;

	out->roots = t->roots;
	out->finding = t->finding;
	err = kvsck_buf_reserve(&s->buf, s->ck->g.frame);
	if (err)
		return err;
	if (!out->finding && kvsck_read(s->ck, out->from, s->buf.p, len))
		out->finding = KVF_F_io_error;
	if (!out->finding)
		out->finding =
			kvf_page_verify(s->buf.p, len, out->from >> s->ck->g.block_shift, &e, &s->ck->g);
	if (!out->finding) {
		kvsck_show_page(s->ck, s->buf.p, kvsck_page_open(s->ck, s->buf.p, len), &out->page);
		out->index = out->page.copies > 1 && out->page.offset[1] == out->from;
		return 0;
	}
	out->page.bytes = len;
	out->page.tree = o ? o->tree : 0;
	tree = kvsck_tree_by_id(s->ck, out->page.tree);
	out->page.tree_name = tree ? kvsck_tree_name(tree) : kvsck_system_tree(out->page.tree);
	if (!out->page.tree_name)
		out->page.tree_name = "";
	return 0;
}

/* ---- is a record what its key refers to? ----------------------------------------------------- */

struct seek {
	struct kvsck_bytes key;
	bool found;
	struct kvf_value_ref ref;
};

static int on_entry(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	struct seek *k = w->arg;

	(void)ck;
	if (kvf_key_compare(e->key, e->key_len, k->key.p, k->key.len) ||
	    (e->flags & KVF_CELL_KIND) != KVF_CELL_REF || e->body_len != sizeof(k->ref))
		return 0;
	memcpy(&k->ref, e->body, sizeof(k->ref));
	k->found = true;
	return 0;
}

/* Without a word about what is damaged on the way: that was said when the passes ran. */
static int seek(struct kvsck_survey *s, const struct kvsck_tree *tree, struct seek *k, bool *lost)
{
	struct kvsck_walk w = { .tree = tree,
			       .twin_leaves = tree->head.redundancy != 0,
			       .entry = on_entry,
			       .arg = k,
			       .from = k->key.p,
			       .from_len = k->key.len,
			       .to_len = k->key.len + 1 };
	const struct kvsck_options *opt = s->ck->opt;
	struct kvsck_report *rep = s->ck->rep;
	int err = kvsck_buf_reserve(&s->to, (size_t)k->key.len + 1);

	if (err)
		return err;
	memcpy(s->to.p, k->key.p, k->key.len);
	s->to.p[k->key.len] = 0;
	w.to = s->to.p;
	s->ck->opt = &s->quiet;
	s->ck->rep = &s->scratch;
	kvsck_walk_again(s->ck);
	err = kvsck_walk_tree(s->ck, &w, &tree->head.root);
	s->ck->opt = opt;
	s->ck->rep = rep;
	*lost = w.lost;
	return err;
}

static bool refers(const struct kvf_value_ref *ref, const struct kvsck_record_info *r)
{
	return le32_to_cpu(ref->segment) == r->segment && le32_to_cpu(ref->segment_gen) == r->segment_gen &&
	       le32_to_cpu(ref->offset) == r->offset && le64_to_cpu(ref->lsn) == r->lsn;
}

static int fate_of_value(struct kvsck_survey *s, const struct kvsck_tree *tree, struct kvsck_stretch *out)
{
	struct seek k = { .key = out->record.key };
	bool lost = false;
	int err;

	out->fate = KVSCK_FATE_DEAD;
	if (!tree)
		return 0;
	err = seek(s, tree, &k, &lost);
	if (k.found && refers(&k.ref, &out->record))
		out->fate = tree->doomed ? KVSCK_FATE_DOOMED : KVSCK_FATE_LIVE;
	else if (lost)
		out->fate = KVSCK_FATE_DAMAGED;
	return err;
}

static int fate_of(struct kvsck_survey *s, const struct kvsck_tree *tree, struct kvsck_stretch *out)
{
	const struct kvsck_record_info *r = &out->record;
	const struct kvf_super *sb = &s->ck->sb;

	if (r->lsn >= le64_to_cpu(sb->replay_lsn) && !(r->flags & KVF_RECORD_COPY)) {
		out->fate = out->segment.replayed && r->lsn < s->ck->rep->end_lsn ? KVSCK_FATE_LOGGED
										  : KVSCK_FATE_BEYOND;
		return 0;
	}
	switch (r->kind) {
	case KVF_RECORD_PUT:
	case KVF_RECORD_EXTENT:
		return fate_of_value(s, tree, out);
	case KVF_RECORD_DELETE:
		out->fate = KVSCK_FATE_DEAD;
		break;
	default:
		out->fate = KVSCK_FATE_NONE;
	}
	return 0;
}

/* The key whose large value a chunk is part of. */
static void find_owner(struct kvsck_survey *s, struct kvsck_stretch *out)
{
	const struct kvsck_head *h = kvsck_head_of(s->ck, kvf_get_be64(out->record.key.p + 1));
	const struct kvsck_tree *tree;

	out->chunk = true;
	if (!h)
		return;
	out->owner.len = kvsck_head_key(s->ck, h);
	out->owner.p = out->owner.len ? s->ck->from.p : NULL;
	tree = kvsck_tree_by_id(s->ck, h->tree);
	out->owner_tree = tree ? kvsck_tree_name(tree) : "";
}

static int fill_record(struct kvsck_survey *s, const struct kvsck_tile *t, struct kvsck_stretch *out)
{
	const struct kvsck_tree *tree;
	struct kvf_identity id;
	int err, payload;

	kvsck_survey_identity(s, out->segment.number, &id);
	err = kvsck_record_find(s->ck, &id, t->from, true, &payload);
	if (err < 0)
		return err;
	kvsck_show_record(s->ck, &id, t->from, err, payload, &out->record);
	out->finding = err ? err : payload;
	out->tree_name = out->owner_tree = "";
	if (err)
		return 0;
	tree = kvsck_tree_by_id(s->ck, out->record.tree);
	if (tree)
		out->tree_name = kvsck_tree_name(tree);
	err = fate_of(s, tree, out);
	if (!err && out->record.tree == KVF_TREE_OBJECTS && out->record.key.len == 17)
		find_owner(s, out);
	return err;
}

/* ---- any byte -------------------------------------------------------------------------------- */

static const struct kvsck_tile *tile_of(const struct kvsck_survey *s, u32 at)
{
	const struct kvsck_tile *t = s->tiles.p;
	size_t lo = 0, hi = s->tiles.nr, mid;

	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (t[mid].from <= at)
			lo = mid;
		else
			hi = mid;
	}
	return &t[lo];
}

/* Behind the last segment: the copy of the superblock, unless the log has grown over it, then nothing. */
static void behind(struct kvsck_survey *s, u64 end, u64 off, struct kvsck_stretch *out)
{
	bool copy = end == le64_to_cpu(s->ck->sb.segments);

	out->kind = KVSCK_STRETCH_BEYOND;
	out->from = end << s->ck->g.segment_shift;
	out->to = ~0ull;
	if (!copy)
		return;
	if (off >= out->from + s->ck->g.block) {
		out->from += s->ck->g.block;
		return;
	}
	out->kind = KVSCK_STRETCH_SUPER;
	out->to = out->from + s->ck->g.block;
	out->index = KVF_SLOTS;
	fill_super(s, out);
}

int kvsck_survey_at(struct kvsck_survey *s, u64 off, struct kvsck_stretch *out)
{
	u64 end = kvsck_survey_end(s), base;
	const struct kvsck_tile *t;
	u32 segment;
	int err;

	memset(out, 0, sizeof(*out));
	if (off >> s->ck->g.segment_shift >= end) {
		behind(s, end, off, out);
		return 0;
	}
	segment = kvsck_segment_of(s->ck, off);
	err = kvsck_survey_tiles(s, segment);
	if (err)
		return err;
	base = (u64)segment << s->ck->g.segment_shift;
	t = tile_of(s, (u32)(off - base));
	out->kind = t->kind;
	out->from = base + t->from;
	out->to = base + t->to;
	out->index = t->index;
	kvsck_survey_segment(s, segment, &out->segment);
	switch (t->kind) {
	case KVSCK_STRETCH_SUPER:
		fill_super(s, out);
		break;
	case KVSCK_STRETCH_HEADER:
		fill_header(s, out);
		break;
	case KVSCK_STRETCH_FOOTER:
		fill_footer(s, t, out);
		break;
	case KVSCK_STRETCH_PAGE:
		return fill_page(s, t, out);
	case KVSCK_STRETCH_RECORD:
		return fill_record(s, t, out);
	default:
		break;
	}
	return 0;
}
