/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR BSD-2-Clause */
/*
 * kvfs_ioctl.h - ioctls on a KVFS mount: on its root, on the directory of a tree, or on any file in
 * them. They act on the tree of the directory.
 *
 * Layouts are fixed and the same for programs of 32 and 64 bits. Pointers are u64. flags that are not
 * named here, and reserved fields, must be 0. Lengths are bytes. Errors are errno values.
 */
#ifndef KVFS_IOCTL_H
#define KVFS_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KVFS_IOC 0xBD
#define KVFS_IOC_VALUE_MAX (16u << 20) /* of one call; longer values through files */
#define KVFS_IOC_BATCH_MAX (4u << 20)

/* kvfs_kv.flags */
#define KVFS_PUT_NEW 0x1u     /* EEXIST when the key is there */
#define KVFS_PUT_REPLACE 0x2u /* ENOENT when it is not */
#define KVFS_PUT_SYNC 0x4u    /* durable when the call returns; also DEL, INC, BATCH */

/* GET: value_len is the room, then the length of the value; up to room bytes from offset are copied. */
struct kvfs_kv {
	__u32 size; /* of this structure */
	__u32 flags;
	__u64 key;
	__u64 value;
	__u64 offset; /* GET only */
	__u64 value_len;
	__u32 key_len;
	__u32 reserved[3];
};

struct kvfs_inc {
	__u32 size;
	__u32 flags;
	__u64 key;
	__u32 key_len;
	__u32 reserved;
	__s64 delta;
	__s64 result;
};

/*
 * SCAN: records from the first key >= from (> from with AFTER), below to. REVERSE: downwards from the last
 * key <= from (< from with AFTER) to `to`, which is included. At most KVFS_IOC_VALUE_MAX bytes of the buffer
 * are used. ERANGE: not even one record fits.
 */
#define KVFS_SCAN_AFTER 0x1u
#define KVFS_SCAN_REVERSE 0x2u
#define KVFS_SCAN_KEYS 0x4u /* without values */
struct kvfs_scan {
	__u32 size;
	__u32 flags;
	__u64 from, to; /* 0: no bound */
	__u32 from_len, to_len;
	__u64 buf;
	__u64 buf_len; /* in: room; out: bytes that were written */
	__u32 limit;   /* records at most, 0: what fits */
	__u32 count;   /* out: records */
	__u32 more;    /* out: 1 when there are more */
	__u32 reserved;
};
/*
 * In the buffer, each aligned to 8: header, key, value. KVFS_REC_LONG: the value is not there, because it
 * is longer than 64 KiB or than what is left of the buffer; fetch it by GET.
 */
#define KVFS_REC_LONG 0x1u
struct kvfs_rec {
	__u64 value_len;
	__u32 key_len;
	__u32 flags;
};

/* BATCH: all or nothing. buf: records as above; value_len KVFS_REC_DELETE deletes. */
#define KVFS_REC_DELETE (~0ull)
struct kvfs_batch {
	__u32 size;
	__u32 flags;
	__u64 buf;
	__u64 buf_len;
	__u32 count;
	__u32 reserved;
};

struct kvfs_stats {
	__u32 size;
	__u32 flags;
	__u8 uuid[16];
	char label[40];
	__u32 block_bytes, segment_bytes, frame_bytes, key_max;
	__u64 trees, entries, volume_bytes, max_bytes;
	__u64 segments, segments_free, segments_log, segments_tree;
	__u64 live_bytes, tree_bytes, pending_free_bytes;
	__u64 generation, lsn, durable_lsn;
	__u64 cache_bytes, cache_used_bytes, dirty_bytes;
	__u64 puts, gets, dels, commits, syncs, checkpoints;
	__u64 device_reads, device_writes, device_flushes;
	__u32 inline_max, chunk_bytes; /* 0: the module is older than these */
	__u64 readers, reader_generation, reader_bytes; /* 0: likewise, or there are none */
	__u64 reserved[4];
};

#define KVFS_IOC_GET _IOWR(KVFS_IOC, 1, struct kvfs_kv)
#define KVFS_IOC_PUT _IOW(KVFS_IOC, 2, struct kvfs_kv)
#define KVFS_IOC_DEL _IOW(KVFS_IOC, 3, struct kvfs_kv)
#define KVFS_IOC_INC _IOWR(KVFS_IOC, 4, struct kvfs_inc)
#define KVFS_IOC_SCAN _IOWR(KVFS_IOC, 5, struct kvfs_scan)
#define KVFS_IOC_BATCH _IOW(KVFS_IOC, 6, struct kvfs_batch)
#define KVFS_IOC_SYNC _IO(KVFS_IOC, 7)
#define KVFS_IOC_STATS _IOWR(KVFS_IOC, 8, struct kvfs_stats)
/* From now on every call fails with EIO; nothing more is written. CAP_SYS_ADMIN. */
#define KVFS_IOC_SHUTDOWN _IO(KVFS_IOC, 9)

#endif
