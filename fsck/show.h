/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * show.h - what explain.c and survey.c share: pages and records as explain.h describes them.
 */
#ifndef KVSCK_SHOW_H
#define KVSCK_SHOW_H

#include "ck.h"
#include "explain.h"

/* Of bytes that were verified; copies and their findings are the caller's to add. */
void kvsck_show_page(const struct kvsck *ck, const u8 *page, u32 len, struct kvsck_page_info *out);
/* As the walk came to it. */
void kvsck_show_visit(const struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_visit *v,
		      struct kvsck_page_info *out);
/* The record in ck->head, unless finding says that there is none. */
void kvsck_show_record(const struct kvsck *ck, const struct kvf_identity *id, u32 off, int finding,
		       int payload, struct kvsck_record_info *out);
/* "" if it has none. */
const char *kvsck_tree_name(const struct kvsck_tree *t);

#endif
