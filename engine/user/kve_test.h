/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kve_test.h - opening a volume on any device: for tests and tools inside this tree; not installed and
 * not exported by the shared library (link libkvengine.a).
 */
#ifndef KVE_TEST_H
#define KVE_TEST_H

#include "kvp_user.h"
#include "../include/kvengine.h"

/* dev belongs to the volume from here on, also on error: it is closed with it. */
int kve_open_dev(struct kvp_dev *dev, const kv_options *opt, kv_db **out);
/* Make a volume on dev, which stays open and belongs to the caller. */
int kve_create_dev(struct kvp_dev *dev, const kv_options *opt);
/* Drop the handle as a crash would: nothing is written, memory is freed. The device is closed. */
void kve_crash(kv_db *db);

#endif
