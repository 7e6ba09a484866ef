/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain.c - any bytes as a volume for 'kvs explain' and 'kvs map': each byte has one owner, each
 * question an answer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../fsck/explain.h"
#include "explain.h"

struct memory {
	const u8 *bytes;
	u64 size;
};

static void stop(const char *what, u64 at)
{
	fprintf(stderr, "explain: %s at byte %llu\n", what, at);
	abort();
}

static int memory_read(void *arg, u64 off, void *buf, u32 len)
{
	const struct memory *m = arg;

	if (off > m->size || len > m->size - off)
		stop("a read behind the end", off);
	memcpy(buf, m->bytes + off, len);
	return 0;
}

/* A key that a record of the log has; its way must not contradict the record. */
static void ask(const struct kvsck_io *io, const struct kvsck_stretch *st)
{
	static struct kvsck_report rep;
	struct kvsck_explain x = { .tree = "main", .tree_len = 4, .key = st->record.key.p,
				   .key_len = st->record.key.len, .chunks_max = ~0ull };

	if (!st->record.key.len || st->record.tree != KVF_TREE_USER)
		return;
	if (!kvsck_explain(io, NULL, &x, &rep) && st->fate == KVSCK_FATE_LIVE &&
	    x.at_checkpoint == KVSCK_ANSWER_NONE && !x.unknown && !x.damage && !x.elsewhere)
		stop("a live record whose key is not there", st->from);
}

void fuzz_explain(const u8 *image, size_t len)
{
	struct memory m = { .bytes = image, .size = len };
	struct kvsck_io io = { .read = memory_read, .arg = &m, .size = len };
	static struct kvsck_report rep;
	struct kvsck_segment_info info;
	struct kvsck_stretch st;
	struct kvsck_survey *s;
	u64 off = 0, nr;

	if (kvsck_survey_new(&io, NULL, &rep, &s))
		return;
	do {
		if (kvsck_survey_at(s, off, &st))
			stop("no answer", off);
		if (st.from != off || st.to <= off)
			stop("a gap or overlap", off);
		if (st.kind == KVSCK_STRETCH_RECORD)
			ask(&io, &st);
		off = st.to;
	} while (st.kind != KVSCK_STRETCH_BEYOND);
	for (nr = 0; nr < kvsck_survey_segments(s); nr++)
		kvsck_survey_segment(s, (u32)nr, &info);
	kvsck_survey_free(s);
}
