/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_score.h - which LOG segments garbage collection may empty, and which first. Pure functions on what the
 * segment table says; for gc.c, and for 'kvs map', which shows what it will choose.
 */
#ifndef KVE_GC_SCORE_H
#define KVE_GC_SCORE_H

#include "../format/kv_format.h"

/* By the table alone; while the engine runs, a segment may also be dying, busy or stuck. */
static inline bool kve_gc_eligible(u8 kind, u8 flags, u64 live, u64 last_lsn, u64 replay_lsn)
{
	return kind == KVF_KIND_LOG && flags & KVF_SEGMENT_SEALED && live && last_lsn < replay_lsn;
}

/*
 * Free space won, times the age of what is there, by the cost of reading and writing it (Rosenblum and
 * Ousterhout, "The Design and Implementation of a Log-Structured File System", 1992). Age is log2 of LSNs.
 */
static inline u64 kve_gc_score(u64 segment_bytes, u64 live, u64 last_lsn, u64 next_lsn)
{
	u64 dead = segment_bytes - KVF_MIN(live, segment_bytes), age = next_lsn - last_lsn;
	u32 bits = 1;

	for (; age > 1; age >>= 1)
		bits++;
	return (dead << 16) * bits / (segment_bytes + live);
}

#endif
