/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kve_open.h - volumes on devices: for whoever opens devices (the port, the kernel module, tests).
 * Errors are -KVE_* codes.
 */
#ifndef KVE_OPEN_H
#define KVE_OPEN_H

#include "kvp.h"
#include "include/kvengine.h"

/* dev stays the caller's, to be closed after kve_close or kve_abandon. */
int kve_open(struct kvp_dev *dev, const kv_options *opt, struct kv_db **out);
int kve_create(struct kvp_dev *dev, const kv_options *opt);
/* -KVE_in_use: nothing happened. Otherwise the handle is gone, also on error. */
int kve_close(struct kv_db *db);
/* Free the handle as a crash would: nothing is written. */
void kve_abandon(struct kv_db *db);
/*
 * The background thread ends what it is at, and does nothing that writes until it is resumed. Nobody may
 * change anything meanwhile: who needs a checkpoint would wait for it.
 */
void kve_worker_pause(struct kv_db *db);
void kve_worker_resume(struct kv_db *db);
struct kvp_dev *kve_device(struct kv_db *db);

#endif
