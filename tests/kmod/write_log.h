/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * write_log.h - reads what QEMU's filter blklogwrites wrote, in the format of the kernel's dm-log-writes:
 * a superblock, then entries, each a header of one sector with the data of a write behind it.
 */
#ifndef TESTS_WRITE_LOG_H
#define TESTS_WRITE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/user/kvp_user.h"

enum write_log_kind { LOG_WRITE, LOG_FUA, LOG_DISCARD, LOG_FLUSH };

struct write_log_entry {
	enum write_log_kind kind;
	u64 off, len;
	const u8 *data; /* WRITE, FUA; in the mapped log */
};

struct write_log {
	struct write_log_entry *entries; /* free() */
	size_t nr;
	u64 writes, flushes, discards, bytes;
};

/* False: why says what is wrong with it. size: of the disk. */
bool write_log_read(struct write_log *log, const char *path, u64 size, char *why, size_t why_len);

/* The entry reached the medium. A discard leaves zeros. */
void write_log_apply(u8 *image, const struct write_log_entry *e);
/* Some of its sectors did: any, the first, the last; a few are garbage. */
void write_log_tear(u8 *image, const struct write_log_entry *e, u64 *rnd);

#endif
