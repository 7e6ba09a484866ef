/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* page.h - what both forms of a page on the medium are checked by: page.c and leaf.c alone. */
#ifndef KVF_PAGE_H
#define KVF_PAGE_H

#include "kvf.h"

/* Fences (NULL: none) and the prefix that they share. */
int kvf_page_fences_verify(const u8 *lower, u32 lower_len, const u8 *upper, u32 upper_len, u32 prefix_len);
/* Header beyond identity, fences and entries of a compact leaf of len bytes, whatever they are. */
int kvf_leaf_verify(const void *page, u32 len, const struct kvf_geometry *g);

#endif
