/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_internal.h - what the files of the log share. log.c has the invariants L1 to L5.
 */
#ifndef KVE_LOG_INTERNAL_H
#define KVE_LOG_INTERNAL_H

#include "kve.h"

/* Of the head segment. */
void kve_log_identity(struct kv_db *db, struct kvf_identity *id);
/* A write failed: no more writing. what: which one. */
int kve_log_write_error(struct kv_db *db, const char *what);
/* One more write, if len is not 0. */
void kve_log_io_add(struct kvp_io *io, unsigned int *n, u64 off, void *buf, u32 len);
/* The writes, two at most, of [from, to) of the head segment from the ring; whole blocks. Flush lock. */
unsigned int kve_log_ring_ios(struct kv_db *db, u32 from, u32 to, struct kvp_io *io);
/* Where offset off of the segment whose offset 0 is at base stands in the ring. */
static inline u32 kve_log_ring_at(const struct kve_log *log, u32 base, u32 off)
{
	return (base + off) & (log->ring_bytes - 1);
}

/* Bytes that the ring takes now. Append lock, or writer lock exclusive, which keeps it from getting less. */
u32 kve_log_ring_room(const struct kve_log *log);
/* The oldest bytes on their way, if they are of the segment before the head. Append lock. */
const struct kve_log_flight *kve_log_flight_before(const struct kve_log *log);

/*
 * Flights: under the flush lock. new: one that is not in use, after waiting for the oldest if need be; start:
 * with n transfers of it, up to offset to of the head. What cannot be begun is done before start is back.
 */
int kve_log_flight_new(struct kv_db *db, struct kve_log_flight **out);
int kve_log_flight_start(struct kv_db *db, struct kve_log_flight *f, unsigned int n, u32 to);
/* All whole blocks of the ring begin their way home. */
int kve_log_send(struct kv_db *db);
/* Wait for the oldest flight, if there is one; for those of the segment before the head; for all. */
int kve_log_land(struct kv_db *db);
int kve_log_land_before(struct kv_db *db);
int kve_log_land_all(struct kv_db *db);
/* All whole blocks of the ring go home. */
int kve_log_write_home(struct kv_db *db);
/* The ring gets room. */
int kve_log_room_make(struct kv_db *db);
/* Copy len bytes to offset off of the head segment, which has room in the ring. Append lock. */
void kve_log_ring_put(struct kve_log *log, u32 off, const void *data, u32 len);
/*
 * Room that must stay behind a record, so that the segment can be sealed, when more entries come into the
 * footer.
 */
u32 kve_log_seal_room(const struct kv_db *db, u32 more);
/*
 * SEAL, footer, on to the next segment; a transaction may go on there. What can be refused (space,
 * memory) is asked for first, so then nothing has happened. Writer lock.
 */
int kve_log_switch(struct kv_db *db, enum kve_share share);
/* What is complete goes to the window. Append lock. */
int kve_log_window_store(struct kv_db *db);
/* Does the window take what is not at home up to there? Append lock. */
bool kve_log_window_fits(const struct kv_db *db, u32 upto);

/* Bytes [0, upto) of a segment of the log, the head or its successor, are backed by the medium. */
int kve_log_back(struct kv_db *db, u32 segment, u32 upto);
#define KVE_LOG_STEP (64u << 10) /* so much at a time, in the foreground */
/* Wake the writer if it has something to do. Append lock. */
void kve_log_writer_poke(struct kv_db *db);

#endif
