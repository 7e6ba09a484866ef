/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * late.h - a volume on a device in memory that does nothing of a batch before it is waited for.
 *
 *	late_make(&v, tweak): as volume_make() does; from then on late.under_way batches are not done
 */
#ifndef TESTS_UNIT_LATE_H
#define TESTS_UNIT_LATE_H

#include "tests/unit/volume.h"

/* Devices are one at a time here. */
static struct late {
	const struct kvp_dev_ops *own;
	struct kvp_dev *dev;
	uint32_t under_way, begun, beside; /* flushes beside what was under way */
	int fail;
} late;

static inline void late_start(struct kvp_dev *dev, struct kvp_batch *b)
{
	(void)dev;
	late.begun++;
	late.under_way++;
	b->own = &late;
}

static inline int late_finish(struct kvp_dev *dev, struct kvp_batch *b)
{
	late.under_way--;
	return late.fail ? late.fail : late.own->batch(dev, b->ios, b->n);
}

static inline int late_flush(struct kvp_dev *dev)
{
	late.beside += late.under_way > 0;
	return late.own->flush(dev);
}

static inline void late_make(struct volume *v, void (*tweak)(kv_options *opt))
{
	volume_make(v, MEM_DEFAULT, tweak);
	memset(&late, 0, sizeof(late));
	late.own = v->own;
	v->kept.start = late_start;
	v->kept.finish = late_finish;
	v->kept.flush = late_flush;
}

#endif
