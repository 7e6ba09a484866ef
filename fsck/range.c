/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * range.c - pending range deletes: their rows in the forest, and which entries they hide.
 *
 * What is hidden is still an entry: its value is there, and counts. Of a large value the chunks may be gone
 * already: deleting them is in the log, taking its head out of the leaf is not, so replay may have repeated
 * the one and not the other.
 */
#include <stdlib.h>

#include "ck.h"

#define ROW_KEY 14u
#define PARTS 3u

void kvsck_ranges_free(struct kvsck *ck)
{
	struct kvsck_range *r = ck->ranges.p;
	size_t i;

	for (i = 0; i < ck->ranges.nr; i++)
		free(r[i].from);
	free(r);
}

static void bad_row(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e, const char *what)
{
	struct kvsck_where at = kvsck_at_entry(ck, w, e);

	kvsck_problem(ck, KVF_F_forest_range, &at, "%s", what);
}

/* The range of a row: a new one with its first part. */
static int range_of(struct kvsck *ck, const struct kvsck_entry *e, const struct kvf_range_delete *rd,
		    struct kvsck_range **out)
{
	struct kvsck_range *r = ck->ranges.p;
	u32 tree = kvf_get_be32(e->key + 1);
	u64 lsn = kvf_get_be64(e->key + 5);

	*out = r = ck->ranges.nr ? &r[ck->ranges.nr - 1] : NULL;
	if (r && r->tree == tree && r->lsn == lsn)
		return 0;
	*out = r = kvsck_array_add(&ck->ranges, sizeof(*r));
	if (!r)
		return -KVE_no_memory;
	r->tree = tree;
	r->lsn = lsn;
	r->rd = *rd;
	r->from_len = le16_to_cpu(rd->from_len);
	r->to_len = le16_to_cpu(rd->to_len);
	r->from = calloc(2, ck->g.key_max);
	r->to = r->from ? r->from + ck->g.key_max : NULL;
	return r->from ? 0 : -KVE_no_memory;
}

int kvsck_range_row(struct kvsck *ck, struct kvsck_walk *w, const struct kvsck_entry *e)
{
	u32 part = e->key_len == ROW_KEY ? e->key[ROW_KEY - 1] : PARTS, len[PARTS];
	struct kvf_range_delete rd;
	struct kvsck_range *r;
	int err;

	if (part >= PARTS || e->body_len < sizeof(rd)) {
		bad_row(ck, w, e, "neither of the three parts");
		return 0;
	}
	memcpy(&rd, e->body, sizeof(rd));
	len[0] = le16_to_cpu(rd.from_len);
	len[1] = le16_to_cpu(rd.to_len);
	len[2] = le16_to_cpu(rd.cursor_len);
	if (sizeof(rd) + len[part] != e->body_len || rd.reserved != cpu_to_le16(0) ||
	    len[0] > ck->g.key_max || len[1] > ck->g.key_max || len[2] > ck->g.key_max) {
		bad_row(ck, w, e, "its lengths are wrong");
		return 0;
	}
	err = range_of(ck, e, &rd, &r);
	if (err)
		return err;
	if (memcmp(&r->rd, &rd, sizeof(rd)))
		bad_row(ck, w, e, "it contradicts the other parts");
	else if (part < 2)
		memcpy(part ? r->to : r->from, e->body + sizeof(rd), len[part]);
	r->parts |= 1u << part;
	return 0;
}

static bool tree_is_there(const struct kvsck *ck, u32 id)
{
	const struct kvsck_tree *t = ck->trees.p;
	size_t i;

	for (i = 0; i < ck->trees.nr; i++)
		if (t[i].id == id)
			return id >= KVF_TREE_USER && !t[i].doomed;
	return false;
}

void kvsck_ranges_check(struct kvsck *ck)
{
	const struct kvsck_range *r = ck->ranges.p;
	struct kvsck_where at = KVSCK_NOWHERE;
	size_t i;

	for (i = 0; i < ck->ranges.nr; i++) {
		at.tree_id = r[i].tree;
		if (r[i].parts != (1u << PARTS) - 1)
			kvsck_problem(ck, KVF_F_forest_range, &at, "LSN %llu: a part is missing", r[i].lsn);
		else if (!tree_is_there(ck, r[i].tree))
			kvsck_problem(ck, KVF_F_forest_range, &at, "LSN %llu: of tree %u, which is not there",
				      r[i].lsn, r[i].tree);
		else if (r[i].lsn >= le64_to_cpu(ck->sb.next_lsn))
			kvsck_problem(ck, KVF_F_forest_range, &at, "LSN %llu, the next that is free is %llu",
				      r[i].lsn, le64_to_cpu(ck->sb.next_lsn));
		else if (r[i].to_len &&
			 kvf_key_compare(r[i].from, r[i].from_len, r[i].to, r[i].to_len) >= 0)
			kvsck_problem(ck, KVF_F_forest_range, &at, "LSN %llu: it ends before it begins",
				      r[i].lsn);
	}
}

bool kvsck_hidden(const struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_entry *e)
{
	u64 lsn = le64_to_cpu(((const struct kvf_page *)e->leaf->p)->lsn);
	const struct kvsck_range *r = ck->ranges.p;
	size_t i;

	for (i = 0; i < ck->ranges.nr; i++)
		if (r[i].tree == w->tree->id && lsn < r[i].lsn &&
		    kvf_key_compare(e->key, e->key_len, r[i].from, r[i].from_len) >= 0 &&
		    (!r[i].to_len || kvf_key_compare(e->key, e->key_len, r[i].to, r[i].to_len) < 0))
			return true;
	return false;
}
