/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * survey.h - what survey.c (who owns which pages; segments), stretch.c (how a segment is divided) and
 * owner.c (what a stretch holds) share.
 */
#ifndef KVSCK_SURVEY_H
#define KVSCK_SURVEY_H

#include "show.h"

/* A copy of a page that is reachable. */
struct kvsck_owned {
	u64 block;
	u32 blocks, tree;
	u8 roots; /* KVSCK_OF_* */
	u8 copy;
	int finding;
};

/* A stretch of a segment; more is found out when it is asked for. */
struct kvsck_tile {
	enum kvsck_stretch_kind kind;
	u32 from, to;  /* in the segment */
	u32 index;     /* as in struct kvsck_stretch */
	u32 roots;     /* PAGE */
	size_t owned;  /* PAGE that is reachable: index + 1 */
	int finding;
};

struct kvsck_survey {
	struct kvsck *ck;
	struct kvsck_io io;
	struct kvsck_hooks hooks;
	struct kvsck_options opt, quiet; /* for looking at what was reported already */
	struct kvsck_report scratch;
	u32 root;		   /* KVSCK_OF_*: whose pages are collected */
	struct kvsck_array pages;  /* struct kvsck_owned, by block */
	u8 *owned;		   /* a bit for each block that is reachable */
	u32 head;		   /* segment where the log ends */
	bool sealed;		   /* its last record there is a SEAL */
	/* the segment that was looked at last */
	u32 cached;		   /* KVF_NO_SEGMENT: none */
	struct kvsck_array tiles;  /* struct kvsck_tile */
	struct kvsck_buf buf, to;  /* of pages, footers and records; upper bound of a walk */
	struct kvf_super super;
	struct kvf_segment_header header;
	struct kvf_footer footer;
};

/* Index of the first page at or behind a block. */
size_t kvsck_survey_page(const struct kvsck_survey *s, u64 block);
/* Segments that have tiles; behind them is nothing of the volume. */
u64 kvsck_survey_end(const struct kvsck_survey *s);
/* 0, or negative: stop. */
int kvsck_survey_tiles(struct kvsck_survey *s, u32 segment);
/* How the records of this segment are sealed. */
void kvsck_survey_identity(struct kvsck_survey *s, u32 segment, struct kvf_identity *id);

#endif
