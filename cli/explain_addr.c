/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain_addr.c - kvs explain IMAGE --addr OFFSET: who owns a byte of the volume.
 */
#include <string.h>

#include "judge.h"

static const char *const names[] = {
	[KVSCK_STRETCH_SUPER] = "superblock", [KVSCK_STRETCH_HEADER] = "header",
	[KVSCK_STRETCH_TAIL] = "tail_place",  [KVSCK_STRETCH_WINDOW] = "window",
	[KVSCK_STRETCH_UNUSED] = "unused",    [KVSCK_STRETCH_PAGE] = "page",
	[KVSCK_STRETCH_SLACK] = "slack",      [KVSCK_STRETCH_BATCH] = "freed",
	[KVSCK_STRETCH_USED] = "used",	      [KVSCK_STRETCH_FREE] = "free",
	[KVSCK_STRETCH_RECORD] = "record",    [KVSCK_STRETCH_LOG] = "log",
	[KVSCK_STRETCH_ENTRIES] = "entries",  [KVSCK_STRETCH_FOOTER] = "footer",
	[KVSCK_STRETCH_UNKNOWN] = "unknown",  [KVSCK_STRETCH_BEYOND] = "beyond",
};

/* A sentence for people where the name alone is not enough. */
static const char *sentence(const struct kvsck_stretch *st)
{
	switch (st->kind) {
	case KVSCK_STRETCH_TAIL:
		return "a copy of the log's last block, until it is full";
	case KVSCK_STRETCH_WINDOW:
		return "the end of the log that is not yet at home, at its offset in the segment modulo "
		       "the window";
	case KVSCK_STRETCH_UNUSED:
		return "of the segment, for nothing";
	case KVSCK_STRETCH_SLACK:
		return "the rest of the unit that the page before takes";
	case KVSCK_STRETCH_BATCH:
		return "in a free batch, not yet to be used again";
	case KVSCK_STRETCH_USED:
		return "the table calls it used, and nothing reaches it";
	case KVSCK_STRETCH_FREE:
		return st->segment.use == KVSCK_USE_FREE ? "a free segment" : "free blocks";
	case KVSCK_STRETCH_LOG:
		return "no record: behind the last one, or damaged";
	case KVSCK_STRETCH_ENTRIES:
		return "entries of the footer, one for each separated value";
	case KVSCK_STRETCH_UNKNOWN:
		return "the segment table has no row of it that can be read";
	case KVSCK_STRETCH_BEYOND:
		return "behind the volume";
	default:
		return NULL;
	}
}

static const char *use_name(enum kvsck_seg_use use)
{
	static const char *const uses[] = { "super", "tail", "free", "log", "tree", "unknown" };

	return uses[use];
}

static void tell_segment(struct fields *f, const struct kvsck_segment_info *s)
{
	fields_begin(f, "segment");
	fields_number(f, "number", s->number);
	fields_word(f, "use", use_name(s->use));
	if (s->use == KVSCK_USE_LOG || s->use == KVSCK_USE_TREE) {
		fields_number(f, "generation", s->gen);
		fields_number(f, "live_bytes", s->live);
	}
	if (s->use == KVSCK_USE_LOG) {
		fields_number(f, "first_lsn", s->first_lsn);
		fields_number(f, "last_lsn", s->last_lsn);
		fields_bool(f, "sealed", s->flags & KVF_SEGMENT_SEALED);
		fields_bool(f, "cold", s->flags & KVF_SEGMENT_COLD);
		fields_bool(f, "replayed", s->replayed);
	}
	if (s->freed)
		fields_bool(f, "freed", true);
	fields_end(f);
}

static const char *roots_name(uint32_t roots)
{
	if (roots & KVSCK_OF_LIVE)
		return roots & KVSCK_OF_PREVIOUS ? "live_and_previous" : "live";
	if (roots & KVSCK_OF_PREVIOUS)
		return "previous";
	if (roots & KVSCK_OF_SNAPSHOT)
		return "snapshot";
	return roots & KVSCK_OF_BATCH ? "freed" : roots & KVSCK_OF_TABLE ? "unreachable" : "free";
}

static const char *fate_name(enum kvsck_fate fate)
{
	static const char *const fates[] = { "none",   "live",	 "dead",   "doomed",
					     "logged", "beyond", "damaged" };

	return fates[fate];
}

static void tell_super(struct fields *f, const struct kvsck_stretch *st)
{
	if (st->index == KVF_SLOTS)
		fields_word(f, "place", "copy");
	else
		fields_word(f, "place", st->index < KVF_GROUP_SLOTS ? "group_a" : "group_b");
	if (st->index < KVF_SLOTS)
		fields_number(f, "slot", st->index % KVF_GROUP_SLOTS);
	fields_verdict(f, st->finding);
	if (!st->super)
		return;
	fields_number(f, "number", le64_to_cpu(st->super->seq));
	fields_number(f, "generation", le64_to_cpu(st->super->generation));
	fields_bool(f, "chosen", st->chosen);
}

static void tell_record(struct fields *f, const struct kvsck_stretch *st, uint64_t segment_bytes)
{
	fields_record(f, &st->record, segment_bytes);
	if (st->tree_name[0])
		fields_bytes(f, "tree_name", st->tree_name, strlen(st->tree_name));
	fields_word(f, "fate", fate_name(st->fate));
	if (!st->owner.p)
		return;
	fields_bytes(f, "chunk_of", st->owner.p, st->owner.len);
	fields_bytes(f, "in_tree", st->owner_tree, strlen(st->owner_tree));
}

static void tell(struct fields *f, const struct kvsck_stretch *st, uint64_t segment_bytes)
{
	const char *text = sentence(st);

	fields_begin(f, names[st->kind]);
	fields_number(f, "from_byte", st->from);
	fields_number(f, "to_byte", st->to);
	if (text)
		fields_word(f, f->json ? "text" : "is", text);
	switch (st->kind) {
	case KVSCK_STRETCH_SUPER:
		tell_super(f, st);
		break;
	case KVSCK_STRETCH_TAIL:
		fields_number(f, "place", st->index);
		break;
	case KVSCK_STRETCH_HEADER:
	case KVSCK_STRETCH_FOOTER:
		fields_verdict(f, st->finding);
		if (st->footer)
			fields_number(f, "records", le32_to_cpu(st->footer->records));
		break;
	case KVSCK_STRETCH_RECORD:
		tell_record(f, st, segment_bytes);
		break;
	case KVSCK_STRETCH_PAGE:
		fields_verdict(f, st->finding);
		fields_word(f, "reached", roots_name(st->roots));
		fields_number(f, "copy", st->index);
		fields_page(f, &st->page, segment_bytes);
		return;
	default:
		break;
	}
	fields_end(f);
}

/* Is something damaged that is needed? */
static bool damaged(const struct kvsck_stretch *st)
{
	/* a segment that was only chosen yet, or whose contents are gone, needs no header */
	bool used = st->segment.use == KVSCK_USE_TAIL || st->segment.live || st->segment.replayed;

	switch (st->kind) {
	case KVSCK_STRETCH_HEADER:
		return st->finding && used && !st->segment.freed;
	case KVSCK_STRETCH_FOOTER:
		return st->finding && !st->segment.freed;
	case KVSCK_STRETCH_PAGE:
		return st->finding && st->roots & KVSCK_OF_LIVE;
	case KVSCK_STRETCH_RECORD:
		return st->fate == KVSCK_FATE_DAMAGED || (st->finding && st->fate == KVSCK_FATE_LIVE);
	default:
		return false;
	}
}

static int show(struct kvs *k, struct kvsck_survey *s, const struct kvsck_report *rep)
{
	uint64_t segment_bytes = kvsck_survey_geometry(s)->segment;
	struct fields f = { .json = k->json };
	struct kvsck_stretch st;
	int err = kvsck_survey_at(s, k->addr, &st);

	if (err)
		return judge_fail(k, err);
	if (k->json)
		out_text("{\n  \"steps\": [");
	tell(&f, &st, segment_bytes);
	if (st.kind != KVSCK_STRETCH_BEYOND && !(st.kind == KVSCK_STRETCH_SUPER && st.index == KVF_SLOTS))
		tell_segment(&f, &st.segment);
	if (k->json) {
		out_fmt("\n  ],\n  \"problems\": %llu\n}", rep->problems);
		out_line();
	}
	if (damaged(&st))
		return kvs_say(k, EXIT_CORRUPT, "damaged; run 'kvs-fsck -n %s'", k->image);
	return st.kind == KVSCK_STRETCH_BEYOND ? EXIT_NO : EXIT_OK;
}

int explain_addr(struct kvs *k, struct judge *j)
{
	struct kvsck_survey *s;
	int rc, err;

	j->opt.flags |= KVSCK_NO_VALUES;
	err = kvsck_survey_new(&j->io, &j->opt, &j->rep, &s);
	if (err)
		return judge_fail(k, err);
	rc = show(k, s, &j->rep);
	kvsck_survey_free(s);
	return rc;
}
