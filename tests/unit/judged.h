/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judged.h - a volume of a test before kvs-fsck, as tests/crash/judge.h calls it. Those in files have been
 * looked at by the engine's own check.
 */
#ifndef TESTS_UNIT_JUDGED_H
#define TESTS_UNIT_JUDGED_H

#include "tests/crash/judge.h"
#include "tests/unit/volume.h"

/* A closed one. */
static inline void judged(struct volume *v)
{
	char why[512];

	if (v->dev && judge_fsck(volume_bytes(v), v->dev->size, why, sizeof(why)))
		ck_abort_msg("kvs-fsck: %s", why);
}

static inline void judged_reopen(struct volume *v)
{
	volume_close(v);
	judged(v);
	volume_open(v);
}

static inline void judged_end(struct volume *v)
{
	judged_reopen(v);
	volume_end(v);
}

#endif
