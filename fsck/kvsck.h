/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvsck.h - the judge: checks a volume without changing it. For kvs-fsck, and for tests that call it
 * in process on images in memory.
 *
 * Shares only format/ with the engine, so that its verdict is independent. Keeps no global state: any
 * number of checks may run at once in different threads. Memory: three bits a block and 72 bytes a
 * segment, one frame for each level of a tree, the longest record, and 40 bytes for each large value;
 * with the arrays' growth at most 8 MiB + 2 x image.
 */
#ifndef KVSCK_H
#define KVSCK_H

#include "../format/kvf.h"

/* Where the bytes come from. read fills all len bytes and returns 0, or a negative -KVE_* code. It is
 * never called for bytes at or beyond size. */
struct kvsck_io {
	int (*read)(void *arg, u64 off, void *buf, u32 len);
	void *arg;
	u64 size;
};

/* A note is what a crash leaves behind, or merely worth knowing; the volume is good all the same. */
enum kvsck_severity { KVSCK_NOTE = 0, KVSCK_PROBLEM = 1 };

#define KVSCK_NO_OFFSET (~0ull)

/* All pointers are valid during the call of kvsck_options.found only. */
struct kvsck_finding {
	int code; /* enum kvf_finding */
	enum kvsck_severity severity;
	bool repairable;    /* an intact copy of the same bytes exists */
	u32 segment;	    /* KVF_NO_SEGMENT: none in particular */
	u64 offset;	    /* byte offset in the volume; KVSCK_NO_OFFSET: none */
	u32 tree;	    /* id, 0: none */
	const char *tree_name; /* printable, or NULL */
	bool range;	    /* keys from <= k < to are concerned; NULL: no bound on that side */
	bool single;	    /* with range: the key "from" alone */
	const u8 *from, *to;
	u32 from_len, to_len;
	const char *text;   /* what exactly; "" when the sentence of the code says it all */
};

#define KVSCK_NO_VALUES 0x1u /* do not read separated values */

struct kvsck_options {
	u32 flags;
	u32 max_per_code; /* problems (notes) of one code that are passed to found, 0: all; all count */
	void (*found)(void *arg, const struct kvsck_finding *f); /* may be NULL */
	void *found_arg;
	bool (*cancelled)(void *arg); /* may be NULL; polled */
	void *cancelled_arg;
};

#define KVSCK_CODES 1000

struct kvsck_report {
	u64 problems, notes;
	u32 by_code[KVSCK_CODES];	/* problems of each code */
	u32 notes_by_code[KVSCK_CODES]; /* notes of each code */
	bool usable;		  /* a superblock with roots was found: the passes behind it ran */
	bool clean;		  /* the superblock says that nothing is to be replayed */
	u8 uuid[16];
	u64 seq, generation, segments, segment_bytes;
	u64 replay_lsn, end_lsn;  /* the log holds replay_lsn <= lsn < end_lsn */
	u32 errors_nr, last_error; /* the superblock's ring: entered ever; code of the newest */
	u64 log_records, trees, entries, pages, values, value_bytes, objects;
};

/*
 * Check the volume. 0: the check ran to its end and *rep is the verdict. Else rep is partial:
 * -KVE_not_volume, -KVE_empty (nothing but zeros), -KVE_unsupported, -KVE_no_memory, -KVE_cancelled.
 */
int kvsck_run(const struct kvsck_io *io, const struct kvsck_options *opt, struct kvsck_report *rep);

/*
 * "417 page_twin: segment 5 offset 20480, tree 'main', keys 'a'..'b': sentence: text" without line end.
 * Returns the length it would have had, as snprintf.
 */
size_t kvsck_finding_to_text(char *buf, size_t len, const struct kvsck_finding *f);
/* The same as one JSON object without line end. */
size_t kvsck_finding_to_json(char *buf, size_t len, const struct kvsck_finding *f);

#endif
