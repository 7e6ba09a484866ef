/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvengine.h - libkvengine: an ordered key-value store in one image file or on one block device.
 *
 * Functions return 0 (KV_OK) or a negative class of error, KV_E_*; kv_last_error() then describes it
 * (what, where, next step) for the calling thread. Keys are 1 to kv_stat.key_max bytes of anything,
 * ordered as by memcmp; values are 0 bytes to beyond the size of memory.
 *
 * Threads: a kv_db and its kv_tree handles may be used by any number of threads at once. A kv_batch,
 * kv_read, kv_cursor, kv_diff, kv_writer or kv_reader belongs to one thread at a time.
 *
 * fork: a volume is not usable in a child of fork(): every call there returns KV_E_INVALID; the child
 * must not call kv_close(). The lock stays with the parent.
 *
 * Durability, per call or per volume (kv_options.durability):
 *   KV_MEMORY     in the process: a crash of the process loses the last changes. For loads that end in
 *                 kv_sync().
 *   KV_KILL_SAFE  the default: survives the death of the process (kill -9), not that of the system.
 *   KV_SYNCED     survives a power cut, with everything that was acknowledged before.
 * After any crash the volume holds a prefix of the changes, in the order of their commits.
 */
#ifndef KVENGINE_H
#define KVENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KV_VERSION_MAJOR 0
#define KV_VERSION_MINOR 1
#define KV_VERSION_PATCH 0
#define KV_VERSION_STRING "0.1.0"
/* Version of the library that runs. */
const char *kv_version(void);

/* ---- errors ---------------------------------------------------------------------------------- */

enum {
	KV_OK = 0,
	KV_E_NOTFOUND = -1,	 /* no such key or tree: an answer, not a fault */
	KV_E_EXISTS = -2,	 /* KV_PUT_NEW and the key is there; tree exists */
	KV_E_INVALID = -3,	 /* misuse */
	KV_E_TOOBIG = -4,	 /* key, value, batch or buffer beyond a limit */
	KV_E_NUMBER = -5,	 /* not an integer, or overflow */
	KV_E_NOSPACE = -6,	 /* volume or host file system is full; nothing changed */
	KV_E_NOMEM = -7,	 /* out of memory; nothing changed */
	KV_E_IO = -8,		 /* the medium or a system call failed */
	KV_E_CORRUPT = -9,	 /* bytes on the medium are damaged; what is asked for is not served */
	KV_E_UNSUPPORTED = -10,	 /* made by a newer version */
	KV_E_NOTVOLUME = -11,	 /* no volume there, or something else is */
	KV_E_BUSY = -12,	 /* another process (or handle) has it */
	KV_E_READONLY = -13,	 /* opened read-only, or degraded: see kv_health */
	KV_E_INDETERMINATE = -14,/* a flush failed: the change may or may not survive; reopen */
	KV_E_TOOOLD = -15,	 /* the read transaction held more than its limit */
	KV_E_CANCELLED = -16,
};
const char *kv_strerror(int err);
/* Text of this thread's last error: "demo.kv: page 42 (leaf of 'main'): checksum mismatch ...". Never
 * NULL; valid until the thread's next failing call. */
const char *kv_last_error(void);

/* ---- volumes --------------------------------------------------------------------------------- */

typedef struct kv_db kv_db;
typedef struct kv_tree kv_tree;
typedef struct kv_batch kv_batch;
typedef struct kv_read kv_read;
typedef struct kv_cursor kv_cursor;
typedef struct kv_diff kv_diff;
typedef struct kv_writer kv_writer;
typedef struct kv_reader kv_reader;

enum { KV_MEMORY = 1, KV_KILL_SAFE = 2, KV_SYNCED = 3 };

/* kv_options.flags */
#define KV_OPEN_READONLY 0x1u /* replay in memory, write nothing */
#define KV_OPEN_CREATE 0x2u   /* make the volume when there is none */
#define KV_OPEN_FORCE 0x4u    /* with kv_create: overwrite a volume or foreign data */
#define KV_OPEN_NOTHREAD 0x8u /* no background thread: checkpoints run inside the calls */
#define KV_OPEN_BUFFERED 0x10u /* no O_DIRECT, no window */

enum { KV_LOG_ERROR = 0, KV_LOG_WARN = 1, KV_LOG_INFO = 2, KV_LOG_DEBUG = 3 };

/* Zero means default throughout. Start with KV_OPTIONS_INIT. */
typedef struct kv_options {
	uint32_t size; /* sizeof(kv_options), for later versions */
	uint32_t flags;
	uint64_t cache_bytes;	   /* frames and values together; default 64 MiB, at least 1 MiB */
	int durability;		   /* default KV_KILL_SAFE */
	int log_level;		   /* default KV_LOG_WARN */
	void (*log)(void *arg, int level, const char *message); /* default: stderr */
	void *log_arg;
	uint64_t read_pin_bytes;   /* what a read transaction may hold; default max(25 % live, 256 MiB) */
	uint64_t checkpoint_bytes; /* log between checkpoints; default 64 MiB */
	/* for creation */
	uint32_t block_bytes;	   /* 512..4096 */
	uint32_t segment_bytes;	   /* 4 KiB..64 MiB */
	uint32_t frame_bytes;	   /* 2 KiB..64 KiB */
	uint32_t window_bytes;	   /* 1: none */
	uint64_t max_bytes;	   /* an image never grows beyond; 0: no limit */
	char label[33];
	uint8_t uuid[16];	   /* zero: random */
	uint64_t reserved[8];
} kv_options;
#define KV_OPTIONS_INIT { .size = sizeof(kv_options) }

/*
 * Open the volume at path. opt may be NULL. With KV_OPEN_CREATE a missing or empty file, or an empty
 * device, becomes a volume; of a file that was missing nothing is left when that fails. A second opener gets
 * KV_E_BUSY at once. KV_E_NOTVOLUME: no such file, or what is there is no volume.
 */
int kv_open(const char *path, const kv_options *opt, kv_db **out);
/* Make a volume and close it. KV_E_EXISTS: a volume is there; KV_E_NOTVOLUME: other data is there;
 * both unless KV_OPEN_FORCE. */
int kv_create(const char *path, const kv_options *opt);
/*
 * Checkpoint, mark clean, close. Also frees the handle on error: then acknowledged changes are in the
 * log. Cursors, reads, batches, writers and readers must be closed before: else KV_E_BUSY and the
 * handle stays.
 */
int kv_close(kv_db *db);

/* ---- trees: named ordered maps --------------------------------------------------------------- */

#define KV_TREE_CREATE 0x1u /* make it when there is none */
#define KV_TREE_NEW 0x2u    /* with CREATE: KV_E_EXISTS when there is one */
/*
 * name: UTF-8, 1 to 64 bytes without control characters; NULL: "main", which always exists. A handle
 * lives until kv_close(). In all calls below tree NULL means "main".
 */
int kv_tree_open(kv_db *db, const char *name, uint32_t flags, kv_tree **out);
/* A tree that may well not be there: KV_E_NOTFOUND, and no text is made of it. Any name may be asked. */
int kv_tree_find(kv_db *db, const char *name, kv_tree **out);
/* The tree and all that is in it; freed in the background. Handles to it answer KV_E_NOTFOUND. */
int kv_tree_drop(kv_db *db, const char *name);
/* Calls fn for each tree in order of names until it returns non-zero, which is passed on. */
int kv_tree_list(kv_db *db, int (*fn)(void *arg, const char *name, uint64_t count), void *arg);
int kv_count(kv_db *db, kv_tree *tree, uint64_t *count);
const char *kv_tree_name(const kv_tree *tree);
/*
 * A new tree that begins as a tree (NULL: the default one) of a named snapshot, and is written like any
 * other. It shares with the snapshot all that neither changes: making it copies nothing, and takes what two
 * checkpoints do, of which changes wait for the second. It is durable when this returns. As long as the
 * clone, or a later snapshot that shows it, is there, the snapshot cannot be deleted. KV_E_NOTFOUND: no such
 * snapshot, or no such tree in it; KV_E_EXISTS: a tree has that name; KV_E_NOSPACE. Any thread, any time.
 */
int kv_tree_clone(kv_db *db, const char *snapshot, const char *tree, const char *name);
typedef struct kv_tree_origin_info {
	char snapshot[72];   /* that the tree is a clone of; "": it is none */
	uint64_t generation; /* of the snapshot */
	int detaching;	     /* kv_tree_detach() has begun */
} kv_tree_origin_info;
/* Where the tree of that name (NULL: the default one) comes from. KV_E_NOTFOUND. Any thread, any time. */
int kv_tree_origin(kv_db *db, const char *name, kv_tree_origin_info *out);
/*
 * What a clone (NULL: the default tree) shares with its snapshot is copied, about budget bytes in a call (0:
 * no limit; a large value is copied whole), until info->more is 0. Then it is a clone no more, durably, and
 * does not keep the snapshot; later snapshots that show the clone still do. Others may read and change it
 * meanwhile, from any thread. Each call goes on where the last one ended; what is copied stays the clone's
 * own, also on error, after a crash, or when no other call follows. Of a tree that is no clone there is
 * nothing to do. info may be NULL. KV_E_NOTFOUND: no such tree, or it was dropped meanwhile; KV_E_BUSY:
 * another call is at it; KV_E_NOSPACE: what would be left is needed for whatever frees space; KV_E_CORRUPT: a
 * page or a value is damaged: a value can be deleted in the clone, or written anew.
 */
typedef struct kv_detach_info {
	uint64_t copied_bytes; /* by this call: values, and pages that will be written elsewhere */
	uint64_t left_entries; /* that were not looked at yet */
	int more;	       /* 1: it is a clone still */
	uint32_t reserved;
} kv_detach_info;
int kv_tree_detach(kv_db *db, const char *name, uint64_t budget_bytes, kv_detach_info *info);

/* ---- single operations ----------------------------------------------------------------------- */

/* flags of writing calls: a durability (KV_MEMORY ...; 0: the volume's) | KV_PUT_* */
#define KV_PUT_NEW 0x10u     /* KV_E_EXISTS when the key is there */
#define KV_PUT_REPLACE 0x20u /* KV_E_NOTFOUND when it is not */

int kv_put(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
	   size_t value_len, uint32_t flags);
/* A copy, from kv_alloc(); free with kv_free(). */
int kv_get(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void **value, size_t *value_len);
/* Into the caller's buffer. *value_len = length of the value; KV_E_TOOBIG when it exceeds cap. */
int kv_get_into(kv_db *db, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
		size_t *value_len);
/* One key of many. */
typedef struct kv_item {
	const void *key;
	size_t key_len;
	void *buf; /* the value goes here: cap bytes; may be NULL when cap is 0 */
	size_t cap;
	size_t value_len; /* out: length of the value, with KV_E_TOOBIG too */
	int err;	  /* out: what kv_get_into gives for this key: 0, KV_E_NOTFOUND, KV_E_TOOBIG ... */
} kv_item;
/*
 * The values of n keys, any number, in any order, each into a buffer of its own: faster than as many
 * kv_get_into, as descents go side by side, and what has to be read from the medium is sorted and read in
 * batches. A key may come several times. Each value is one that was committed when it was looked at; items
 * are looked at one by one, not all in the same instant: kv_read_get_many does that.
 *
 * An item's own failure (no such key, buffer too small, key of an impossible length, damage, I/O error, no
 * memory) is in its err and concerns no other item; kv_last_error() then has the text of one of them. The
 * call itself returns 0, or fails without having looked: KV_E_INVALID (items NULL), KV_E_NOTFOUND (the tree
 * was dropped); then value_len and err mean nothing. Contents of a buffer whose item has failed are
 * undefined. Bounded memory whatever n is. Any number of threads may call it.
 */
int kv_get_many(kv_db *db, kv_tree *tree, size_t n, kv_item *items);
int kv_del(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags);
/*
 * Delete all keys from `from` (included; NULL or no bytes: from the first) up to `to` (excluded; NULL or no
 * bytes: to the last). Atomic, and durable as flags say (0 or a durability, as in kv_del). It takes the
 * same time and the same I/O whatever there is to delete: the range is noted, and from then on no reader
 * sees what it covers; entries and their space go in the background, step by step, and go on after a crash
 * or at the next opening. (With KV_OPEN_NOTHREAD: a step with each later change.) Until then kv_count and
 * kv_tree_list take time in proportion to what is left to remove, gets in leaves that were not visited yet
 * are slower, and kv_stat counts what is left. The call itself waits for the work in two cases: beyond 64
 * pending ranges of one tree for the oldest, and for all when an image's file system is full.
 *
 * 0 also when there was nothing to delete, or to <= from. KV_E_INVALID (a length without a key, flags),
 * KV_E_TOOBIG (a key longer than the longest), KV_E_NOTFOUND (the tree was dropped), KV_E_NOSPACE,
 * KV_E_NOMEM: nothing was deleted. KV_E_IO, KV_E_INDETERMINATE: as for any change. Any number of threads may
 * call it. What was open before, a read transaction or a cursor, keeps what it saw.
 */
int kv_delete_range(kv_db *db, kv_tree *tree, const void *from, size_t from_len, const void *to,
		    size_t to_len, uint32_t flags);
/* value_len may be NULL */
int kv_exists(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint64_t *value_len);
/*
 * value := value + delta, atomically; *result may be NULL. The value is text: optional sign, then
 * decimal, 0x hexadecimal, 0b binary or 0 octal, then one newline at most; it is stored back in decimal.
 * KV_E_NOTFOUND when there is no such key, KV_E_NUMBER when it is no integer of 64 bits or the result would
 * not be.
 */
int kv_inc(kv_db *db, kv_tree *tree, const void *key, size_t key_len, int64_t delta, int64_t *result,
	   uint32_t flags);
void kv_free(void *p);

/* ---- batches: all or nothing, across trees ---------------------------------------------------- */

int kv_batch_new(kv_db *db, kv_batch **out);
/* Key and value are copied. Later operations of a batch win over earlier ones on the same key. */
int kv_batch_put(kv_batch *b, kv_tree *tree, const void *key, size_t key_len, const void *value,
		 size_t value_len);
int kv_batch_del(kv_batch *b, kv_tree *tree, const void *key, size_t key_len); /* missing: no error */
size_t kv_batch_count(const kv_batch *b);
/* Empties the batch on success. KV_E_TOOBIG: more than fits a quarter of the cache. */
int kv_batch_commit(kv_batch *b, uint32_t flags);
void kv_batch_clear(kv_batch *b);
void kv_batch_free(kv_batch *b);

/* ---- durable without waiting ------------------------------------------------------------------ */

/*
 * A change that is applied and visible when the call returns, and becomes durable soon after: a ticket of
 * this handle names when. Any number of tickets may be in flight; all that came while the medium was busy
 * become durable together. A ticket covers every change that was made before its own, too.
 *
 * flags: as for the call without _async, but for KV_SYNCED; the durability says what the change survives when
 * the call returns (0: the volume's, at most KV_KILL_SAFE). t may be NULL.
 */
typedef uint64_t kv_ticket;
int kv_put_async(kv_db *db, kv_tree *tree, const void *key, size_t key_len, const void *value,
		 size_t value_len, uint32_t flags, kv_ticket *t);
int kv_del_async(kv_db *db, kv_tree *tree, const void *key, size_t key_len, uint32_t flags, kv_ticket *t);
int kv_batch_commit_async(kv_batch *b, uint32_t flags, kv_ticket *t);
/* A ticket for all changes that have returned, made by whatever call: kv_sync() that does not wait. */
int kv_sync_async(kv_db *db, kv_ticket *t);
/*
 * Is it durable? Does not wait, except with KV_OPEN_NOTHREAD, where it does the work. KV_E_INDETERMINATE: a
 * flush or a write of the log failed before; the change may or may not survive, and so may all later ones.
 */
int kv_durable(kv_db *db, kv_ticket t, int *durable);
/* Returns when it is durable, or with KV_E_INDETERMINATE. */
int kv_wait(kv_db *db, kv_ticket t);
/*
 * Calls fn once: err is KV_OK when t is durable, KV_E_INDETERMINATE as above. By a thread of the volume,
 * one call at a time, of those asked for in the order of tickets; with KV_OPEN_NOTHREAD by this call,
 * kv_durable() and kv_wait(). The last calls come from kv_close(). fn must not call into the volume, and
 * keeps others waiting while it runs.
 */
typedef void (*kv_durable_fn)(void *arg, kv_ticket t, int err);
int kv_on_durable(kv_db *db, kv_ticket t, kv_durable_fn fn, void *arg);

/* ---- read transactions and cursors ------------------------------------------------------------ */

/* A frozen state of the volume; does not block writers. KV_E_TOOOLD once it holds too much. */
int kv_read_begin(kv_db *db, kv_read **out);
int kv_read_get_into(kv_read *r, kv_tree *tree, const void *key, size_t key_len, void *buf, size_t cap,
		     size_t *value_len);
int kv_read_get(kv_read *r, kv_tree *tree, const void *key, size_t key_len, void **value,
		size_t *value_len);
/* As kv_get_many, all of the frozen state. KV_E_TOOOLD is the call's own error: no item counts then. */
int kv_read_get_many(kv_read *r, kv_tree *tree, size_t n, kv_item *items);
void kv_read_end(kv_read *r);

/*
 * Named snapshots of the whole volume. Each keeps the state of one moment until it is deleted, across
 * closing and crashes; making one takes no more than a checkpoint. What the volume gives up afterwards and a
 * snapshot still shows keeps its space. Names: 1 to 64 bytes of UTF-8 without control characters. All calls
 * may be made by any thread at any time; creating and deleting return when it is durable, and wait for a
 * checkpoint that is under way.
 */
/* Where a state that was received from elsewhere comes from: see 'kvs receive'. */
typedef struct kv_origin {
	uint8_t uuid[16];    /* of the volume */
	uint64_t generation; /* of the state there; 0: it was made here */
	uint64_t part;	     /* 0: all of it is here; else how far receiving has come, a number of its own */
} kv_origin;
typedef struct kv_snapshot_info {
	char name[72];
	uint64_t created;    /* ns since 1970 */
	uint64_t generation; /* checkpoint whose state it is */
	uint64_t lsn;	     /* newest change in it */
	uint64_t bytes;	     /* that deleting it, and no other, would free; as of the last checkpoint */
	kv_origin origin;
} kv_snapshot_info;
/* KV_E_EXISTS; KV_E_NOSPACE: nothing has changed. Changes made meanwhile are before it or after it. */
int kv_snapshot_create(kv_db *db, const char *name);
/* The same, of a state that was received; origin NULL: made here. KV_E_INVALID: its generation is 0. */
int kv_snapshot_create_of(kv_db *db, const char *name, const kv_origin *origin);
/*
 * KV_E_NOTFOUND; KV_E_BUSY: it is being read. What it alone held is free after this and the next
 * checkpoint; if it is much, bit by bit in the background. After another error it is deleted by the next
 * checkpoint that succeeds, or still there when the volume is opened again.
 */
int kv_snapshot_delete(kv_db *db, const char *name);
/*
 * The volume is again what it was when the snapshot was made, trees and all; the snapshot stays. Atomic:
 * after a crash it has happened or not. Snapshots made later are deleted if flags has KV_ROLLBACK_NEWER;
 * without it, and when there are any, KV_E_BUSY. KV_E_BUSY also: one of them is being read, or a large value
 * is being streamed in. KV_E_NOTFOUND. Others may use the volume meanwhile: changes wait, and come before it
 * (then nothing is left of them) or after it. Read transactions, and cursors without one, that are open
 * become KV_E_TOOOLD, but those on snapshots go on; handles of trees that the snapshot does not know,
 * KV_E_NOTFOUND. Time, and memory (24 bytes a page), grow with what has changed since. KV_E_NOSPACE,
 * KV_E_NOMEM: nothing has changed, or, if calls that write fail with KV_E_READONLY from then on, the volume
 * has to be opened again, and is as before. After KV_E_INDETERMINATE opening it tells which it is.
 */
#define KV_ROLLBACK_NEWER 0x1
int kv_snapshot_rollback(kv_db *db, const char *name, uint32_t flags);
/* fn for each, oldest first; what it returns other than 0 ends the list and is returned. */
int kv_snapshot_list(kv_db *db, int (*fn)(void *arg, const kv_snapshot_info *info), void *arg);
/* KV_E_NOTFOUND. */
int kv_snapshot_stat(kv_db *db, const char *name, kv_snapshot_info *info);
/*
 * A read transaction on the snapshot, for all calls that take one: it never becomes too old. Handles of trees
 * that exist now mean the tree of the same id then; for others, and those dropped since, kv_read_tree().
 * KV_E_NOTFOUND: no such snapshot. Ends with kv_read_end(); kv_close() is KV_E_BUSY until then.
 */
int kv_snapshot_read(kv_db *db, const char *name, kv_read **out);
/*
 * The tree of that name (NULL: the default one) in the state that r shows; the handle is good for calls with
 * r, and kv_count(), until kv_read_end(r). KV_E_NOTFOUND.
 */
int kv_read_tree(kv_read *r, const char *name, kv_tree **out);
/* As kv_tree_list, of the state that r shows. */
int kv_read_trees(kv_read *r, int (*fn)(void *arg, const char *name, uint64_t count), void *arg);

/* r NULL: the state at this moment, frozen for the life of the cursor. */
int kv_cursor_open(kv_db *db, kv_read *r, kv_tree *tree, kv_cursor **out);
/* Bounds: from <= keys < to; NULL: none. Copied. Resets the position. */
int kv_cursor_bounds(kv_cursor *c, const void *from, size_t from_len, const void *to, size_t to_len);
/* All return KV_E_NOTFOUND when there is no such entry. seek: first key >= key; seek_le: last <= key. */
int kv_cursor_first(kv_cursor *c);
int kv_cursor_last(kv_cursor *c);
int kv_cursor_seek(kv_cursor *c, const void *key, size_t key_len);
int kv_cursor_seek_le(kv_cursor *c, const void *key, size_t key_len);
int kv_cursor_next(kv_cursor *c);
int kv_cursor_prev(kv_cursor *c);
/* Valid until the cursor moves or is closed, the value too. */
int kv_cursor_key(kv_cursor *c, const void **key, size_t *key_len);
/* Length without reading it. */
int kv_cursor_value_len(kv_cursor *c, uint64_t *value_len);
/* The value if it is at most the cache limit / 4, else KV_E_TOOBIG: use kv_cursor_reader. */
int kv_cursor_value(kv_cursor *c, const void **value, size_t *value_len);
void kv_cursor_close(kv_cursor *c);

/*
 * What differs between two states of a volume, in the trees of that name (NULL: the default one), in order of
 * keys. from and to are read transactions of the same volume, on snapshots or not, in any order; they stay in
 * use until kv_diff_close(). from NULL: a state without anything. A tree that one state lacks counts as empty
 * there; KV_E_NOTFOUND: both lack it.
 * Without a snapshot a state is asked for trees by the names of this moment.
 *
 * Pages that both states have are passed without being read, so the work is in proportion to what differs:
 * the pages on the way to it, and those whose values garbage collection has moved.
 *
 * Every key is told that one state has and the other has not, and every key whose values differ. A value
 * that stands in the log (longer than kv_stat.inline_max) and was written again with the same bytes is told
 * as well.
 */
int kv_diff_open(kv_read *from, kv_read *to, const char *tree, kv_diff **out);
/*
 * The first, or the next difference. KV_E_NOTFOUND: that was all. After another error (KV_E_CORRUPT, KV_E_IO,
 * KV_E_NOMEM, KV_E_TOOOLD) it is tried again from there.
 */
int kv_diff_next(kv_diff *d);
/* The next difference will be the first at a key >= key. */
int kv_diff_seek(kv_diff *d, const void *key, size_t key_len);
/*
 * The entry at hand in each of the states, NULL: it has none. For kv_cursor_key(), kv_cursor_value(),
 * kv_cursor_value_len() and kv_cursor_reader(); not to be moved or closed. Valid until the next call on d.
 */
kv_cursor *kv_diff_from(kv_diff *d);
kv_cursor *kv_diff_to(kv_diff *d);
void kv_diff_close(kv_diff *d);

/* ---- values as streams: any size, bounded memory ----------------------------------------------- */

/* Invisible until kv_writer_commit; dropped when the process dies. */
int kv_writer_open(kv_db *db, kv_tree *tree, const void *key, size_t key_len, kv_writer **out);
int kv_writer_write(kv_writer *w, const void *data, size_t len);
int kv_writer_commit(kv_writer *w, uint32_t flags); /* also frees w, on error too */
void kv_writer_abort(kv_writer *w);		    /* also frees w */

/* The value as it is now (or in r), whatever happens to the key meanwhile. */
int kv_reader_open(kv_db *db, kv_read *r, kv_tree *tree, const void *key, size_t key_len,
		   kv_reader **out, uint64_t *value_len);
int kv_cursor_reader(kv_cursor *c, kv_reader **out, uint64_t *value_len);
/* Up to len bytes from the position; *got 0 at the end. */
int kv_reader_read(kv_reader *rd, void *buf, size_t len, size_t *got);
int kv_reader_seek(kv_reader *rd, uint64_t offset);
void kv_reader_close(kv_reader *rd);

/* ---- the whole volume ------------------------------------------------------------------------- */

/* Everything acknowledged so far is synced. */
int kv_sync(kv_db *db);
/* Sync, and write the index so that opening has nothing to replay. */
int kv_checkpoint(kv_db *db);

/*
 * Garbage collection: values that are alive move from segments with few of them to new ones, in the order
 * of keys, until about budget bytes are moved (0: no limit) or nothing is to be won. What was emptied is
 * free when the call returns with more 0, or after further checkpoints. Others may read and write meanwhile.
 * Each call goes on where the last one ended. info may be NULL.
 */
typedef struct kv_gc_info {
	uint64_t moved_bytes; /* by this call */
	uint64_t left_bytes;  /* dead bytes in segments that could be emptied yet */
	uint64_t log_bytes;   /* segments of the log, the dead and the living */
	uint64_t live_bytes;  /* records of separated values */
	int more;	      /* 1: another call would move more */
	uint32_t reserved;
} kv_gc_info;
int kv_gc(kv_db *db, uint64_t budget_bytes, kv_gc_info *info);

/*
 * The volume gets another size, in bytes of file or device, while others read and write (from any thread).
 * A shorter one: what stands beyond the new end moves, about budget bytes in a call (0: no limit), until
 * info->more is 0; only then is the volume shorter, never to grow beyond bytes again, and a file cut. Calls
 * with the same size go on where the last one ended; what was not finished is given up by another size, by
 * closing and by a crash, and leaves the volume as long as it was. A longer one: an image file may grow up to
 * bytes, a volume on a device has them at once. KV_RESIZE_MOST: without limit, or all of the device.
 * bytes 0: info only. info may be NULL. Both work off first what is deleted and still stands there (with a
 * budget in several calls). What named snapshots refer to stays where it is.
 * KV_E_NOSPACE: less than what is in the volume, and what snapshots hold, needs (the text says how much, and
 * names the snapshots), or no room to move it; KV_E_BUSY: a read transaction, a cursor, or a snapshot made
 * meanwhile holds what is to be moved; KV_E_CORRUPT: what is damaged cannot be moved; KV_E_INVALID: more than
 * the device has.
 */
#define KV_RESIZE_MOST (~(uint64_t)0)
typedef struct kv_resize_info {
	uint64_t min_bytes;    /* the shortest size that is possible now */
	uint64_t volume_bytes; /* the size now */
	uint64_t moved_bytes;  /* values and pages moved by this call */
	uint64_t left_bytes;   /* segments beyond the new end that are in use yet */
	int more;	       /* 1: call again */
	uint32_t reserved;
	/* When bytes is 0: what min_bytes would be without named snapshots, and which they are if it would be
	 * less: 'a', 'b' and 3 more. */
	uint64_t min_unpinned_bytes;
	char pinned_by[160];
} kv_resize_info;
int kv_resize(kv_db *db, uint64_t bytes, uint64_t budget_bytes, kv_resize_info *info);

typedef struct kv_stat_info {
	uint8_t uuid[16];
	char label[33];
	uint32_t format_version, block_bytes, segment_bytes, frame_bytes, window_bytes;
	uint32_t key_max, inline_max, chunk_bytes;
	uint64_t trees, entries;	      /* user trees and their entries */
	uint64_t volume_bytes;		      /* up to the last segment */
	uint64_t allocated_bytes;	      /* on the medium, 0: not known */
	/* From here on, opened read-only: those of the last checkpoint; 0 if its table is damaged. */
	uint64_t segments, segments_free, segments_log, segments_tree;
	uint64_t live_bytes;		      /* separated values in the log */
	uint64_t tree_bytes;		      /* pages in use */
	uint64_t pending_free_bytes;	      /* freed, not yet reusable */
	uint64_t max_bytes;
	uint64_t generation, incarnation, lsn, durable_lsn, replay_lsn;
	uint64_t cache_bytes, cache_used_bytes, dirty_bytes;
	uint64_t puts, gets, dels, commits, syncs, checkpoints;
	uint64_t device_reads, device_writes, device_flushes, device_read_bytes, device_write_bytes;
	uint64_t cache_hits, cache_misses, pages_healed;
	uint64_t readers;		      /* open read transactions and cursors */
	/* The oldest state that one of them shows, 0: none; what is kept for it: freed since, old pages. */
	uint64_t reader_generation, reader_bytes;
	uint64_t snapshots;
	uint64_t snapshot_value_bytes;	      /* that they alone hold, in the log; 0: opened read-only */
	uint64_t snapshot_page_bytes;	      /* pages, as of the last checkpoint */
} kv_stat_info;
int kv_stat(kv_db *db, kv_stat_info *out);

typedef struct kv_health_info {
	int writable;	    /* 0: read-only, see state */
	int error;	    /* class that degraded it, 0: none */
	char reason[512];   /* "" when healthy */
	int clean;	    /* nothing was replayed at opening */
	uint64_t replayed;  /* records replayed at opening */
	uint32_t errors_nr; /* ever entered in the superblock */
} kv_health_info;
int kv_health(kv_db *db, kv_health_info *out);

/*
 * Walk everything: each page of each tree, the segment table, and with KV_CHECK_VALUES every separated
 * value. fn gets each problem (number of docs/FORMAT.md) and a line about it. *problems counts them.
 */
#define KV_CHECK_VALUES 0x1u
int kv_check(kv_db *db, uint32_t flags, void (*fn)(void *arg, int finding, const char *text), void *arg,
	     uint64_t *problems);

#ifdef __cplusplus
}
#endif

#endif
