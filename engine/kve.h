/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kve.h - the types of the engine and what its files offer one another. engine/README.md tells the
 * life of a put, a get, a commit, a checkpoint and a crash, and holds the table of lock ranks.
 *
 * Data flows one way: API (api.c batch.c cursor.c stream.c) -> transaction (txn.c) -> log (log.c) ->
 * tree (tree.c) -> pages (cache.c, node.c) -> I/O (kvp.h). The parts for trees and for snapshots are in files
 * of their own, kve_tree.h and kve_snapshot.h, which this one includes at its end.
 */
#ifndef KVE_H
#define KVE_H

#include "kvp.h"
#include "node.h"
#include "../format/kvf.h"
#include "include/kvengine.h"

/* Lock ranks, taken in ascending order. */
enum kve_rank {
	KVE_RANK_GC = 5,	  /* the round of garbage collection */
	KVE_RANK_CHECKPOINT = 10, /* one checkpoint at a time; owns the system trees */
	KVE_RANK_WRITER = 20,	  /* shared: single changes; exclusive: all others, freezing */
	KVE_RANK_TREE = 30,	  /* frames and what links them: shared to look, exclusive to change */
	KVE_RANK_SYNC = 35,	  /* who leads a group, who is in it */
	KVE_RANK_FLUSH = 40,	  /* the log's way to the medium */
	KVE_RANK_BACKING = 45,	  /* one at a time backs the log's segments */
	KVE_RANK_APPEND = 50,	  /* end of the log in memory */
	KVE_RANK_MARKS = 55,	  /* what is dirty; which frames have shadows */
	KVE_RANK_SPACE = 60,	  /* segments, bitmaps, batches */
	KVE_RANK_CACHE = 70,	  /* list of frames, attaching children, value cache */
	KVE_RANK_STATE = 80,	  /* health, readers, worker's wake-up */
};

#define KVE_LIVE (~0ull) /* generation: the state now */
#define KVE_RAW (KVE_LIVE - 1) /* the same, with what pending range deletes hide; under the tree lock */

/* ---- frames ---------------------------------------------------------------------------------- */

/* An older image of a frame, kept for frozen generations. */
struct kve_shadow {
	struct kve_shadow *next; /* older */
	u64 gen;		 /* generation in which this image was last changed */
	u8 *page;
	struct kve_frame **kids; /* inner: holds a reference on each */
};

/*
 * A page in memory. It never moves: the first change after a freeze copies the old image to a shadow.
 */
struct kve_frame {
	/* Read without a lock, and never reset while the volume is open: see tree_get.c. */
	u64 version;	    /* odd while the image is being changed, or the frame used anew */
	u8 *page;	    /* the live image, db->geo.frame bytes */
	struct kve_frame **kids; /* inner: frame of the child in each slot, or NULL */
	u64 ready;	    /* leaf: generation in which single changes are let in */
	u32 lock;	    /* leaf: see tree_get.c, which has the rules for it */
	u8 level;
	u8 hot;	     /* atomic: accessed since the clock passed */
	/* Under the tree lock; shadow and gen of a leaf: its own as well, or alone with the gate shared. */
	struct kve_frame *parent;
	struct kv_tree *tree;
	struct kve_shadow *shadow; /* newest first */
	struct kvf_ref ref;	   /* where it was last written; all zero: never */
	u64 gen;		   /* generation in which the live image was last changed */
	/* First and last generation with changes here or below, unwritten. Atomic; marks lock to change. */
	u64 dirty_since, dirty_last;
	u32 refs;		   /* kids[] arrays and heads that point here, those of shadows included */
	u32 pins;		   /* atomic: not to be evicted */
	u32 kids_nr;		   /* resident children of the live image */
	bool dirty; /* likewise */
	bool zombie; /* merged away, still part of a frozen state */
	bool reaped; /* zombie: its page has gone to a free batch */
	bool cut;    /* split since a change in preparation pinned it; writer lock */
	u32 wanted;  /* bytes that a transaction in preparation will add; writer lock */
	struct kve_frame *shadow_next; /* db->shadowed; marks lock, or gate closed */
	bool shadow_listed;
	struct kve_frame *prev, *next; /* cache lock: the clock */
	struct kve_frame *every;       /* cache lock: the next of all descriptors */
};

/* A tree's root at some generation. */
struct kve_head {
	struct kve_head *next; /* older */
	u64 gen;
	u64 count;
	struct kve_frame *root; /* NULL: not in memory, see ref */
	struct kvf_ref ref;	/* all zero and no root: empty */
};

struct kve_detach;
/* Of a clone: what was born up to here is the snapshot's; clone.c. */
struct kve_origin {
	u64 gen, lsn;	/* of the snapshot; 0: no clone */
	u64 object;	/* large values with ids below this are its own */
	u32 tree;	/* id of the tree there */
	bool left;	/* atomic: detached since; older readers alone see what was shared */
};

struct kv_tree {
	struct kv_db *db;
	struct kv_tree *next;
	u64 range_lsn; /* atomic: the highest of pending range deletes, 0: there is none */
	struct kve_range *ranges; /* pending range deletes: range.h; whether there are any is atomic */
	u32 id;
	bool system;  /* changed by checkpoints alone, never frozen */
	bool twin;    /* leaves are stored twice, too */
	bool dropped; /* no longer to be found by name; of a snapshot: as nobody may change it */
	struct kve_snapshot *snap; /* whose state it shows; NULL: of the volume */
	bool row_dirty; /* its row of the forest must be written */
	bool nameless;	/* dropped, and another tree has the row of its name; checkpoint */
	u64 created_gen, dropped_gen, gone_gen;
	u64 dirty_since, dirty_last; /* as those of frames */
	bool dirty;
	u64 created;
	struct kve_origin origin; /* set before the tree is known to others; going back stores atomically */
	struct kve_detach *detach; /* what it shares is being copied, NULL: not; who has set detaching */
	bool detaching;		   /* by a call that is under way; state lock */
	struct kve_head head;	  /* live */
	struct kve_head *shadow;  /* of frozen generations, newest first */
	char name[KVF_TREE_NAME_MAX + 1];
};

/* Pages, values and large values of a clone that are its origin's: they neither live nor die in it. */
static inline bool kve_shared_page(const struct kv_tree *t, const struct kvf_ref *ref)
{
	u64 gen = kvp_load(&t->origin.gen);

	return gen && le64_to_cpu(ref->birth) <= gen;
}
static inline bool kve_shared_value(const struct kv_tree *t, const struct kvf_value_ref *ref)
{
	return le64_to_cpu(ref->lsn) <= kvp_load(&t->origin.lsn);
}
static inline bool kve_shared_object(const struct kv_tree *t, const struct kvf_object *o)
{
	return le64_to_cpu(o->object) < kvp_load(&t->origin.object);
}

/* It needs the snapshot that it starts from. */
static inline bool kve_is_clone(const struct kv_tree *t)
{
	return kvp_load(&t->origin.gen) && !kvp_load(&t->origin.left);
}

/* ---- space ----------------------------------------------------------------------------------- */

/* What must be known of a snapshot to say whether it refers to something. */
struct kve_sight {
	u64 gen, lsn;
};

/* Records of a segment that died, and to which snapshots from this one on refer. */
struct kve_dead {
	u64 oldest;
	u32 segment, bytes;
};
struct kve_dead_items {
	struct kve_dead *item;
	u32 nr, cap;
};

/* One entry of a dead list that has no row yet. */
struct kve_listed {
	u64 list, oldest;
	struct kvf_free it;
};

struct kve_segment {
	u32 gen;
	u8 kind;
	u8 flags;
	bool touched;	/* changed since the last freeze */
	bool row_dirty; /* its row of the segment table must be written */
	bool dying;	/* in a free batch as a whole */
	bool busy;	/* LOG: GC reads it, or has just made it: not to be freed; FREE: is being punched */
	bool stuck;	/* LOG: GC could not empty it: something in it is damaged */
	bool leaving;	/* TREE: its pages are being moved; it gets no others */
	bool fixed;	/* a named snapshot refers to something in it: space.surveyed, pins.c */
	u8 row_kind;	/* what its row says */
	u32 incarnation;
	u64 live;	 /* LOG: bytes of records whose values are live, now */
	u64 live_frozen; /* and at the last freeze */
	u64 pinned, pinned_frozen; /* LOG: bytes of records that snapshots alone refer to; likewise */
	u32 dead_at;	 /* where its entry of the space's dead may be */
	u64 last_lsn;
	u32 used;	/* TREE: units in use */
	u32 backed;	/* bytes from the start that the medium is known to back */
	u32 asked;	/* LOG: and up to where it was asked to, perhaps for zeros as well */
	u8 *bitmap;	/* TREE */
};

struct kve_batch_items {
	struct kvf_free *items;
	u32 nr, cap;
};

/* Frees of one generation, waiting until nothing intact needs them. */
struct kve_free_batch {
	struct kve_free_batch *next; /* newer */
	u64 gen;
	u32 rows;    /* rows that it has in the segment table */
	u32 written; /* items in them */
	bool split;  /* what snapshots need has gone to dead lists */
	struct kve_batch_items list;
};

struct kve_space {
	struct kvp_mutex lock;
	struct kve_segment *seg;
	u32 nr, cap;
	/* These three may be read without the lock. */
	u32 ceiling;	/* no segment from here on is used any more; KVF_NO_SEGMENT: all are */
	u32 held;	/* segments that the reserve is larger by, while a ceiling is set */
	bool shut;	/* some segments get nothing new: ceiling, leaving */
	u32 shut_nr, shut_units; /* of these, TREE: their number, and units in use but for headers */
	bool yields;	/* the ceiling is that of an image being packed: who needs space lifts it */
	u32 rowed;	/* rows that the table has, of segments up to this one */
	u32 table_pages, table_rows; /* atomic: of the table as it was last written, without dead lists */
	bool host_full; /* an image whose file system gives no more: only what is backed counts */
	u32 listed; /* segments that have rows; the volume may grow while a checkpoint writes them */
	u32 free_nr;
	u32 tree_nr; /* TREE segments */
	u32 log_nr, dying_nr; /* LOG segments; of them in batches */
	u32 tree_hint[2];      /* where the two streams of pages look first */
	u32 tree_tight[2];     /* there is no hole for so many units or more; 0: not known */
	struct kve_batch_items open; /* frees of the open generation */
	struct kve_free_batch *batches; /* oldest first */
	u64 pending_bytes, freed_total;
	u64 live_bytes, tree_bytes;
	bool replacing;	     /* a checkpoint is under way, and what it frees is free at its end */
	u64 replaced_bytes;  /* of pages: what it has freed by now */
	u64 doomed_bytes; /* atomic: of large values deleted since opening, whose chunks are still there */
	/* deadlist.c; what is not in use before there are snapshots */
	struct kve_sight *sight; /* of the snapshots, oldest first; changed with the checkpoint lock */
	u32 sights, sights_cap;
	bool surveyed; /* fixed is right, of all segments */
	struct kve_dead_items dead, dead_frozen; /* of the open generation; of the one being written */
	u32 dead_promised;			 /* entries that changes under way may need */
	struct kve_listed *listing; /* checkpoint: on their way to rows */
	u32 listing_nr, listing_cap;
	u64 pinned_bytes, held_bytes; /* of records, and of pages in dead lists */
	u64 orphans_from, orphans_to; /* lists of these generations may have what nobody needs; checkpoint */
	u64 revive; /* what the snapshot of this generation sees is alive again, 0: nothing; checkpoint */
};

/* ---- log ------------------------------------------------------------------------------------- */

struct kve_logpos {
	u64 lsn; /* of the next record */
	u32 segment, gen, offset, incarnation;
};

/* Bytes on their way home. Flush lock; to change (A) the append lock, too. */
struct kve_log_flight {
	u32 segment, gen, base; /* (A) base: of that segment, as in the log */
	u32 from, to;		/* (A) */
	u8 *footer;		/* the segment ends with it */
	u32 footer_bytes;
	struct kvp_batch batch;
	struct kvp_io io[4];
};
#define KVE_LOG_FLIGHTS 4u

struct kve_log {
	struct kvp_mutex flush;	 /* writing, sealing, syncing */
	struct kvp_mutex append; /* the fields from here on */
	struct kve_logpos pos;	 /* where the next record goes */
	u32 filled;		 /* offset up to which records are complete */
	u64 filled_lsn;		 /* every LSN up to here is completely filled */
	u32 base;		 /* offset 0 in the ring, modulo its size */
	u32 written, sent;	 /* the segment is at home up to here (whole blocks); or on its way */
	u32 windowed;		 /* and in the window up to here */
	u32 backed;		 /* the head segment's space was asked for up to here; atomic: grows */
	u32 next_segment, next_gen, next_backed; /* likewise */
	struct kve_log_flight flight[KVE_LOG_FLIGHTS];
	u32 first_flight, flights; /* under way, those of the segment before the head first */
	bool lost;		   /* flush lock: one failed: no others will ever be at home */
	u8 *ring;
	u32 ring_bytes;
	u8 *tail; /* one block: copy of the partial tail block */
	u8 *out;  /* a block for headers */
	u8 *pad;  /* two blocks of zeros */
	u8 *head; /* header and key of the record being appended */
	struct kvf_footer_entry *entries;
	u32 entries_nr, entries_cap, records;
	u32 resumed; /* entries of records below this offset are missing: see kve_log_entries_complete */
	u64 first_lsn, value_bytes;
	/* flush lock */
	u64 durable_lsn;
	bool unsynced; /* plain writes since the last flush */
	int place;     /* tail place with the newest durable tail, -1: none */
	u64 syncs;
	/* sync lock */
	struct kvp_mutex sync;
	struct kvp_cond done[2]; /* of this group and the next one, by the last bit of the number */
	u32 group;		 /* that is open: it goes with the next sync */
	u32 joined;		 /* threads in it */
	u32 crew;		 /* threads that will be in it, if all of the last group come back */
	bool leading;		 /* a thread waits for the crew, or writes */
	u64 sync_ns;		 /* a sync takes, smoothed */
	/* log_writer.c */
	bool switched; /* since it was opened the log has gone on to another segment; atomic */
	struct kvp_thread *writer;
	struct kvp_mutex backing; /* who asks the medium for space of the log */
	struct kvp_cond wake;	  /* with state */
	u64 syncs_seen;		  /* backing lock: when space was asked for last */
	bool syncs_frequent;	  /* backing lock: more than one then, since the time before */
	bool kicked;		  /* atomic: the writer is about to look */
	bool writing;		  /* state lock */
};

/* ---- values that only the tail places or the window hold (read-only opening) -------------------- */

struct kve_patch {
	struct kve_patch *next;
	u32 segment, offset; /* block aligned */
	u8 *block;
};

/* ---- the volume ------------------------------------------------------------------------------ */

/* A pinned generation: read transactions (and cursors) and a running checkpoint. */
struct kv_read {
	struct kv_db *db;
	struct kv_read *next;
	u64 gen;
	u64 freed_at; /* space.freed_total when it began */
	u32 uses;     /* cursors and readers that live on it */
	bool expired;
	bool undone; /* expired by a rollback */
	bool implicit; /* ends with its only cursor or reader */
	struct kve_snapshot *snap; /* a named one: nothing is pinned by this */
};

struct kve_cache {
	struct kvp_mutex lock;
	struct kvp_arena *arena;
	struct kvp_arena *frames_arena; /* of descriptors */
	struct kvp_arena *kids_arena; /* of kids[]: late readers find descriptors there, or NULL */
	u32 kids_max;		      /* most children of a page */
	struct kve_frame *clock; /* circular list */
	u64 clocked;		 /* frames in it */
	struct kve_frame *spare; /* descriptors not in use, linked by next */
	struct kve_frame *every; /* all descriptors, linked by every */
	u64 frames, dirty, shadows;
	u64 limit; /* frames that there may be whatever values need */
	u64 yielded; /* atomic: frames that made room for values since memory was last given back for that */
	u64 misses, healed;
	struct kvp_count hits;
	struct kvp_reclaim *reclaim;
	u64 wanted; /* frames that the system wants back; atomic; the worker sees to it */
};

/* Values in memory: value_cache.c. Read without a lock, freed with the volume; small: all lookups need it. */
struct kve_value_place {
	u64 version; /* odd while nothing in the slab counts */
	u8 *mem;     /* NULL: given back */
};
struct kve_value_slab {
	u32 pins;    /* atomic: cursors that look at it where it stands */
	u32 dead;    /* atomic: bytes of entries that were forgotten, about */
	/* Under the lock. */
	bool main; /* of the main queue */
	u32 used;  /* bytes of entries */
	u32 next;  /* newer in its queue, or the next that is spare; 0: none */
};
struct kve_value_queue {
	u32 oldest, newest, nr;
};
struct kve_values {
	struct kvp_mutex lock; /* for all below, but what readers look at is stored as they expect it */
	struct kvp_arena *arena;
	struct kve_value_place *place; /* of slab[]; the first stands for none */
	struct kve_value_slab *slab;
	u32 slabs_max, slabs_nr;     /* descriptors, and how many were ever used */
	u32 spare;
	u32 held; /* dropped while pinned, linked by next */
	u64 **index; /* pages of buckets of slots, made as they are needed */
	u32 index_pages;
	u8 shift; /* log2 of the number of buckets */
	struct kve_value_queue queue[2];
	u64 bytes; /* memory in use: slabs and pages of the index */
	u64 idle;  /* put back to the arena, which has not given it to the system yet */
	u64 limit; /* bytes that values may have whatever frames need; these may borrow of it */
	bool grows; /* memory was wanted, and frames have not been asked for theirs */
};

/* Tickets of changes that are to become durable: sync lock; see ticket.c. */
struct kve_listener;
struct kve_tickets {
	u64 asked; /* the highest ticket ever given */
	struct kve_listener *first, *last; /* ascending by ticket; last: while there is a first */
	struct kvp_thread *thread;
	struct kvp_cond wake;
	bool idle, stop; /* of the thread */
	bool telling;	 /* a thread calls back */
};

/* The large buffers of a round: segments that are read or made, side by side; live records. */
struct kve_gc_memory {
	u8 *segment, *buf;
	u32 segment_bytes, room; /* bytes of them */
};

/* What GC leaves alone, because it is about to die: gc_spare.c; the worker's, but for what says so. */
struct kve_gc;
struct kve_spare {
	bool on;     /* it does */
	bool turn;   /* GC has its turn before it does again */
	u64 lsn;     /* space lock to change: LOG segments that end below this; 0: there are none */
	u64 gen;     /* trees dropped up to this generation are waited for, and ranges below the LSN */
	u64 objects; /* space lock: bytes of large values that are waited for */
	u64 bytes;   /* space lock: dead there; writers do not wait for that */
	u64 alive;   /* and alive, when that was a segment less than before */
	u64 until;   /* space.freed_total when nothing of that is left to GC any more */
	u32 calls, vain; /* since it was looked at; since alive was renewed */
};

struct kv_db {
	struct kvp_dev *dev;
	struct kvf_geometry geo;
	struct kvf_super sb; /* the newest that is durable; to change it: state lock */
	u8 uuid[16];	     /* of sb */
	u64 bytes_max;	     /* atomic: for the next superblock */
	u64 segments_before; /* of the state before sb; checkpoint lock */
	u64 process;
	bool read_only;
	bool no_thread;
	bool clean; /* nothing was replayed */
	bool opened_clean;
	u64 replayed;
	int durability;
	struct kvp_log logger;
	u64 read_pin_bytes, checkpoint_bytes, cache_bytes;
	bool window; /* mapped; false: acknowledgements wait for the write */

	struct kvp_mutex ckpt_lock;
	struct kvp_gate writer;
	struct kvp_rwsem tree_lock;
	struct kvp_mutex marks;
	struct kve_log log;
	struct kve_tickets tickets;
	struct kve_space space;
	struct kve_cache cache;
	struct kve_values values;

	u64 applied;  /* odd while a transaction is applied: readers without lock see all of it or nothing */
	u64 open_gen; /* writer lock to change: generation of changes made now */
	u64 ckpt_gen; /* atomic: 0, or the generation that a checkpoint is writing */
	struct kve_batch_items *ckpt_frees; /* and its free batch */
	u64 pinned;   /* highest pinned generation + 1, 0: none; gate closed to rise, state lock */
	u64 read_pinned; /* likewise, of readers alone */
	bool marked;  /* the superblock on the medium is not clean any more */
	bool changed; /* something to checkpoint */
	u64 changed_gen;   /* atomic: generation of the last change; equal states share a freeze */
	u64 last_ckpt_pos; /* bytes of log since the last checkpoint */
	u64 next_object;
	u32 next_tree;

	struct kv_tree *trees; /* writer + tree lock to change, tree lock to walk */
	struct kv_tree *main, *objects, *forest, *segtab;
	struct kve_frame *zombies;  /* linked by next; not yet reaped */
	struct kve_frame *shadowed; /* frames with shadows; marks lock, or gate closed */
	bool doomed;		   /* atomic: objects or trees wait for being deleted */
	bool dooming;		   /* atomic: a step looks for what waits, and will say so */
	bool stepping;		   /* atomic: inside such a step */
	u8 *scratch, *sep;	   /* a frame, the longest key: tree lock exclusive */

	struct kvp_mutex state; /* the fields from here on */
	struct kvp_cond wake, done;
	struct kv_read *readers;
	struct kvp_thread *worker;
	bool stop, want_ckpt, gc_wanted;
	bool paused, working; /* of the worker: it may not write; it does */
	u64 ckpt_rounds;
	int ckpt_error;
	int degraded; /* error number, 0: healthy */
	char reason[256];
	u32 handles; /* batches, writers that are open */

	struct kve_snapshot *snaps;	/* oldest first; state lock */
	struct kve_snapshot *snap_new;	/* checkpoint lock: to be made by this checkpoint */
	/* rollback.c; checkpoint lock */
	bool alone;    /* it has the writer lock closed */
	bool rolled;   /* the next superblock's log is no use to the state before: never fall back to it */
	u64 rolls;     /* atomic: times that the state went back */
	u32 streaming; /* large values that are being streamed in; writer lock */

	struct kve_patch *patches;
	struct kvp_mutex gc_lock;
	struct kve_gc *gc; /* GC lock; NULL: no round */
	struct kve_spare spare;
	struct kve_emptying *emptying; /* GC lock; NULL: no TREE segments are being emptied */
	u64 emptying_vain; /* atomic: space.freed_total when that had nothing to win */
	struct kve_resizing *resizing; /* GC lock; NULL: it is not being made shorter */
	u64 gc_moved;	   /* atomic: bytes of records and pages moved since opening */
	u64 gc_bytes;	   /* atomic: memory of a round, which values do without */
	struct kve_gc_memory gc_kept; /* between rounds that follow one another: GC lock */
	bool gc_idle;	   /* atomic: the background thread has nothing to win */
	u64 gc_idle_freed; /* and space.freed_total was this then; worker */
	bool gc_quiet;	   /* atomic: nobody writes: no more will come to what waits for a checkpoint */
	u64 gc_quiet_freed; /* space.freed_total when it was last quiet; worker */
	u64 gc_quiet_reader; /* and the generation of the oldest reader then; worker */
	u64 gc_vain;	   /* atomic: space.freed_total when a full volume had nothing to win */
	u64 gc_reader;	   /* generation of the oldest reader that holds what was freed; worker */
	u64 pace_at;	   /* atomic: bytes of log after which a writer looks whether it has to wait */
	u64 checkpoints;
	struct kvp_count puts, gets, dels, commits;
};

/* ---- err.c ----------------------------------------------------------------------------------- */

/* Keep the text for the caller (and log it when it is I/O or damage); returns -code. */
int kve_fail(struct kv_db *db, int code, const char *fmt, ...) KVP_PRINTF(3, 4);
/* No more writing until the volume is opened again; returns -code. */
int kve_degrade(struct kv_db *db, int code, const char *fmt, ...) KVP_PRINTF(3, 4);
/* At the end of an API call: err -> class; makes sure that there is a text. */
int kve_return(struct kv_db *db, int err);
/* Start of an API call: process, health (write: may it write?). */
int kve_enter(struct kv_db *db, bool write);

/* ---- super.c --------------------------------------------------------------------------------- */

/* Choose the newest superblock whose roots verify: db->sb, db->geo. */
/* The file lacks what it had up to byte want: an error, or, read-only, bad health and 0. */
int kve_cut_short(struct kv_db *db, u64 want);
int kve_super_load(struct kv_db *db);
/* Write sb as next in the ring: group A, flush, group B, flush. Sets seq; db->sb on success. */
int kve_super_write(struct kv_db *db, struct kvf_super *sb);
/* The copy at the end of the volume: a failed write is only logged, a failed flush is an error. */
int kve_super_copy(struct kv_db *db);
/* Before the first change: the volume is not clean any more. Writer lock. */
int kve_super_mark(struct kv_db *db);

/* ---- space.c, segtab.c ------------------------------------------------------------------------ */

static inline u64 kve_segment_offset(const struct kv_db *db, u32 segment)
{
	return (u64)segment << db->geo.segment_shift;
}
static inline u32 kve_block_segment(const struct kv_db *db, u64 block)
{
	return (u32)(block >> (db->geo.segment_shift - db->geo.block_shift));
}
/* What never changes of db->sb, which does: to be read without lock. */
void kve_identity_set(struct kv_db *db);
/* segtab.c: most bytes that a checkpoint may write of the segment table, if it has so many rows. */
u64 kve_table_bytes(const struct kv_db *db, u32 rows);
void kve_identity(const struct kv_db *db, u32 segment, u32 gen, u32 incarnation,
		  struct kvf_identity *id);
void kve_space_init(struct kv_db *db);
void kve_space_exit(struct kv_db *db);
/* Make room in the array for segments up to nr. */
int kve_space_extend(struct kv_db *db, u32 nr);
/* A FREE segment becomes kind with its next generation. privileged may use the reserve. */
/* How far into the reserve: not at all; but for the last segment, as what frees space may; all. */
enum kve_share { KVE_SHARE_NONE, KVE_SHARE_FREEING, KVE_SHARE_ALL };
int kve_segment_take(struct kv_db *db, u8 kind, enum kve_share share, u32 *segment);
/* Undo of kve_segment_take for a segment that was never written. */
void kve_segment_drop(struct kv_db *db, u32 segment);
/* Bytes [0, upto) of the segment are backed; flags: KVP_WRITTEN, those not asked for before. */
int kve_segment_back(struct kv_db *db, u32 segment, u32 upto, unsigned int flags);
/* blocks for a page; avoid: segment not to use (KVF_NO_SEGMENT: none). stream 0 or 1 */
int kve_blocks_take(struct kv_db *db, u32 blocks, u32 avoid, unsigned int stream, u64 *block);
/* Undo of kve_blocks_take within the same checkpoint. */
void kve_blocks_drop(struct kv_db *db, u64 block, u32 blocks);
void kve_ref_drop(struct kv_db *db, const struct kvf_ref *ref);
/* A place (two, for a page stored twice) of so many blocks. */
int kve_ref_take(struct kv_db *db, u32 blocks, bool twin, u64 gen, struct kvf_ref *ref);
/* A page of a written state is not needed from generation of list on. */
int kve_free_page(struct kv_db *db, struct kve_batch_items *list, const struct kvf_ref *ref);
/* The same of a page of t, unless that is shared: then it stays. */
static inline int kve_page_dead(const struct kv_tree *t, struct kve_batch_items *list,
				const struct kvf_ref *ref)
{
	if (kve_shared_page(t, ref) && !KVP_BUG("clone-frees-origin"))
		return 0;
	return kve_free_page(t->db, list, ref);
}
int kve_items_reserve(struct kve_batch_items *l, u32 more);
/* Bytes of log that a value's record takes. */
u64 kve_value_bytes(const struct kvf_value_ref *ref);
/* A value's record has died / has come to life. */
void kve_value_dead(struct kv_db *db, const struct kvf_value_ref *ref);
void kve_value_live(struct kv_db *db, const struct kvf_value_ref *ref);
/* Writer lock: the counts of this instant are those of the generation being frozen. */
void kve_space_freeze(struct kv_db *db);
/* LOG segments that died whole go to the batch. */
int kve_space_reap(struct kv_db *db, u64 replay_lsn, struct kve_batch_items *list);
/* Batches that nothing needs any more become free space. */
void kve_space_apply(struct kv_db *db, u64 oldest_intact, u64 oldest_reader);
/* Which segments are shut has changed. Space lock. */
void kve_space_shut_count(struct kve_space *sp);
/* What waits for another checkpoint before it is free is worth one. */
bool kve_space_waits(struct kv_db *db);
/* Give dead segments back to the file system. */
void kve_space_trim(struct kv_db *db);
/* Segments that a volume of nr grows by at once. */
u32 kve_space_step(const struct kv_db *db, u32 nr);
/* So few segments are left of a volume with a limit that GC has to begin, to have the room for it. */
bool kve_space_scarce(struct kv_db *db, u64 checkpoint);
/* Segments that GC may take now, the needs of the next checkpoint left aside. */
u32 kve_space_gc_room(struct kv_db *db, u64 checkpoint);
/* Segments run out, and a checkpoint (or the second after it) would make some free. */
bool kve_space_reclaim_due(struct kv_db *db, bool privileged);
/* Before the first change: find out whether the file system is full already. */
void kve_space_reserve(struct kv_db *db);
/* Will checkpoints free something? */
bool kve_space_reclaimable(struct kv_db *db);
void kve_space_host_full(struct kv_db *db, bool full);
bool kve_space_is_host_full(struct kv_db *db);
/* Bytes that pages could still take, growth included. */
u64 kve_space_avail(struct kv_db *db, bool privileged);
/* The same place is free again, or is held by a dead list no more. Space lock; room is reserved. */
void kve_free_again(struct kv_db *db, struct kve_batch_items *l, const struct kvf_free *it);
int kve_segtab_load(struct kv_db *db);
/* Rows for all that changed, blocks for the table's own pages: see checkpoint.c. */
int kve_segtab_write(struct kv_db *db, struct kve_free_batch *batch, u64 gen);
int kve_segment_header_write(struct kv_db *db, u32 segment, u8 kind);

/* ---- space_tail.c: checkpoint lock ------------------------------------------------------------- */

/* Segments that the volume should have when those up to end are in use. Space lock. */
u32 kve_tail_wanted(const struct kv_db *db, u32 end);
/* Before a checkpoint: segments at the end that nobody needs are no part of the state that it writes. */
void kve_tail_drop(struct kv_db *db);
/* After it: an image file ends where the newest two states do. */
int kve_tail_cut(struct kv_db *db);
/* The file is longer than the newest state. */
bool kve_tail_due(struct kv_db *db);
/* Of a volume that nobody writes to: trims it; two checkpoints at most, if the file can be cut by that. */
int kve_tail_settle(struct kv_db *db);

/* ---- log*.c ------------------------------------------------------------------------- */

struct kve_op;
void kve_log_init(struct kv_db *db);
int kve_log_buffers(struct kv_db *db);
void kve_log_exit(struct kv_db *db);
/* Begin a new head segment; records start at lsn. */
int kve_log_start(struct kv_db *db, u64 lsn);
/* Go on where a clean volume ended. */
int kve_log_resume(struct kv_db *db);
/* The log goes on at a block: before a position that replay may begin at. Writer lock. */
int kve_log_pad(struct kv_db *db);
int kve_log_entry_add(struct kve_log *log, u32 offset, u32 bytes);
int kve_log_entries_complete(struct kv_db *db);
/* Does a leaf hold a ref to this record's payload (or the payload itself)? */
bool kve_record_separated(const struct kv_db *db, const struct kvf_record *r);
/* Append all records of a transaction; fills lsn and ref of each op. Writer lock. */
int kve_log_append(struct kv_db *db, struct kve_op *ops, u32 nr);
/*
 * Append one record beside others and count more entries in its tree; kill_safe: it survives this process
 * then. Writer lock shared, the leaf's lock. -KVE_restart: it takes more than that; nothing has happened.
 */
int kve_log_append_single(struct kv_db *db, struct kve_op *op, bool kill_safe, int more);
/* The bytes appended so far survive this process. Writer lock. */
int kve_log_kill_safe(struct kv_db *db);
/* The thread that writes home and backs space ahead of need. */
int kve_log_writer_start(struct kv_db *db);
void kve_log_writer_stop(struct kv_db *db);
/* Every LSN up to lsn is durable when this returns. */
int kve_log_sync(struct kv_db *db, u64 lsn);
void kve_log_pos(struct kv_db *db, struct kve_logpos *pos);
/*
 * Read the value that ref points to, check it against key, hand it over: buf has room for
 * ref.payload_len. Takes no lock that the caller may hold but state.
 */
int kve_value_read(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref,
		   const void *key, u32 key_len, void *buf);
/* One value of many. */
struct kve_value_want {
	struct kvf_value_ref ref;
	const void *key;
	u32 key_len;
	u32 item;  /* of the caller: wants are sorted */
	u64 hash;  /* kve_values_read sets it: kve_value_hash() of the key */
	void *out; /* room for ref.payload_len */
	int err;
};
/* Many values through the cache of values: what it lacks is sorted by place and read in few transfers. */
void kve_values_read(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, u32 n, bool push);
/* One through the cache of values, which it fills; push: see kve_values_put. */
int kve_value_get(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref, const void *key,
		  u32 key_len, void *buf, bool push);

/* ---- ahead.c --------------------------------------------------------------------------------- */

/* Where a cursor asks for separated values, in its copy of a leaf. */
struct kve_ahead;
struct kve_scan_at {
	s32 slot; /* that was asked for last */
	u32 streak;
	bool forward;
	struct kve_ahead *ahead; /* values that have been read, NULL: none yet */
};
#define KVE_NOWHERE (-(1 << 20))
/* The cursor has another leaf; beside: the slot that it comes from, KVE_NOWHERE: it was sent there. */
void kve_scan_leaf(struct kve_scan_at *at, s32 beside);
/* The value of the slot, which is asked for now, if it was read ahead. Good until kve_ahead_read. */
const void *kve_ahead_value(struct kve_scan_at *at, u32 slot);
/* Would the next ones be asked for as well? */
bool kve_ahead_due(const struct kve_scan_at *at);
/* Read values from that slot on; end: the first slot, in the direction of the scan, that is not wanted. */
void kve_ahead_read(struct kv_db *db, const struct kv_tree *t, struct kve_scan_at *at, const u8 *page,
		    u32 end);
void kve_ahead_free(struct kve_ahead *a);

/* ---- value_cache.c --------------------------------------------------------------------------- */

int kve_values_init(struct kv_db *db, u64 bytes);
void kve_values_exit(struct kv_db *db);
/* Where the cache has the value of a key (of a slot): for the calls below. */
u64 kve_value_hash(const struct kv_tree *t, const void *key, u32 len);
u64 kve_value_hash_at(const struct kv_tree *t, const u8 *page, u32 i);
bool kve_values_get(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, void *out);
/*
 * The value where it stands in the cache, of which *pin keeps that part (0: none yet); good until the next
 * call with that pin. NULL: not there, or in pieces.
 */
const void *kve_values_pin(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, u32 *pin);
void kve_values_unpin(struct kv_db *db, u32 *pin);
/* push: what has not been looked at for long makes room. Frames too, so the tree lock is not held. */
void kve_values_put(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, const void *bytes,
		    bool push);
/* It is dead. No lock; whoever has it in sight still reads it from the medium. */
void kve_values_forget(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref);
/* It will be copied soon: its place in the index is asked for. */
void kve_values_expect(const struct kv_db *db, u64 hash);
/* And a little later: it is asked for itself, at both ends; len 0: not known yet. */
void kve_values_near(const struct kv_db *db, u64 hash, u32 len);
void kve_values_shrink(struct kv_db *db, u64 bytes);
void kve_values_yield(struct kv_db *db);
/* Bytes that frames do not borrow: what values come to before frames have made room. */
static inline u64 kve_values_least(const struct kv_db *db)
{
	return KVF_MIN(db->cache_bytes / 16, 1ull << 20);
}

/* ---- cache.c --------------------------------------------------------------------------------- */

int kve_cache_init(struct kv_db *db, u64 bytes);
void kve_cache_exit(struct kv_db *db);
/* A descriptor with page (and kids for level > 0); evicts when over the limit. No lock held. */
struct kve_frame *kve_frame_new(struct kv_db *db, u8 level);
/* Same, under the tree lock: evicts nothing. */
struct kve_frame *kve_frame_direct(struct kv_db *db, u8 level);
void kve_frame_free(struct kv_db *db, struct kve_frame *f);
/* Out of the clock. */
void kve_frame_unlink(struct kv_db *db, struct kve_frame *f);
/* Read and verify the page of ref into a new frame; heals a bad twin. No lock held. */
int kve_page_load(struct kv_db *db, struct kv_tree *tree, const struct kvf_ref *ref, int level,
		  struct kve_frame **out);
/* What a descent lacks. */
struct kve_need {
	struct kvf_ref ref;
	int level; /* -1: root, any */
	bool live; /* the place where it belongs is in the live state, so it can be attached */
};
/* One of many. */
struct kve_page_want {
	struct kv_tree *tree;
	struct kve_need need;
	struct kve_frame *frame; /* NULL: could not be read */
	const void *key;	 /* that leads there */
	u32 key_len;
};
/*
 * Read and verify many pages at once, ios: n of them for use. Returns how many are good. Of the others the
 * one by one reading says what is wrong; it knows second copies, too. No lock held.
 */
u32 kve_pages_load(struct kv_db *db, struct kve_page_want *w, struct kvp_io *ios, u32 n);
/* Same, into a caller's frame-sized buffer. */
int kve_page_read(struct kv_db *db, u32 tree, const char *name, const struct kvf_ref *ref, int level,
		  void *buf);
/* The id that a page of t bears; 0: any, see clone.c. */
static inline u32 kve_page_owner(const struct kv_tree *t, const struct kvf_ref *ref)
{
	return kve_shared_page(t, ref) ? 0 : t->id;
}
void kve_frame_touch(struct kve_frame *f);
void kve_frame_insert(struct kv_db *db, struct kve_frame *f);
/* Are as many frames in use as may be? */
bool kve_cache_full(const struct kv_db *db);
/* If so: evict until count fit. No lock held. */
void kve_cache_room(struct kv_db *db, u32 count);
/* Values grow into what frames have borrowed. Tree lock not held. */
void kve_frames_yield(struct kv_db *db);
/* Of a tree that nobody reads or changes. */
void kve_tree_evict(struct kv_db *db, struct kv_tree *t);
/* The same with the tree lock exclusive; all is clean. */
void kve_tree_evict_locked(struct kv_db *db, struct kv_tree *t);
/* Give back what the system wants; worker. */
void kve_cache_reclaim(struct kv_db *db);
int kve_cache_reclaim_start(struct kv_db *db);
void kve_cache_reclaim_stop(struct kv_db *db);
u8 *kve_image_alloc(struct kv_db *db);
void kve_image_free(struct kv_db *db, u8 *page);
struct kve_frame **kve_kids_alloc(struct kv_db *db);
void kve_kids_free(struct kv_db *db, struct kve_frame **kids);
/*
 * Behind the kids_max children of kids[] stand their pages: who goes down without a lock asks for the page
 * without waiting for the descriptor. A hint, to be prefetched.
 */
static inline u8 **kve_kid_page(struct kve_frame **kids, u32 kids_max, u32 i)
{
	return (u8 **)(kids + kids_max) + i;
}
static inline void kve_kid_set(struct kve_frame *f, u32 i, struct kve_frame *kid)
{
	kvp_store(kve_kid_page(f->kids, f->tree->db->cache.kids_max, i), kid ? kid->page : NULL);
	kvp_store_release(&f->kids[i], kid);
}

/* Pages in memory, older images included. */
static inline u64 kve_frames_in_use(const struct kve_cache *c)
{
	return kvp_load(&c->frames) + kvp_load(&c->shadows);
}

static inline u64 kve_frames_bytes(const struct kv_db *db)
{
	return kve_frames_in_use(&db->cache) * db->geo.frame;
}

/* Generation that a change made now belongs to: system trees are changed by the checkpoint. */
static inline u64 kve_gen_now(const struct kv_tree *t)
{
	return t->system ? t->db->ckpt_gen : t->db->open_gen;
}

/* ---- txn.c ----------------------------------------------------------------------------------- */

/* Commit: all or nothing. durability 0: the volume's. Takes the writer lock unless held. */
int kve_commit(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags);
/* The same, not waiting until it is durable: ticket says when. After kve_ticket_begin(). */
int kve_commit_ticket(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags, kv_ticket *ticket);
/* One change beside others. -KVE_restart: there are credits, nothing else has happened. No lock held. */
int kve_commit_beside(struct kv_db *db, struct kve_op *op, u32 flags);
/* The same, credits: after kve_credits; else it is tried only where it needs none. */
int kve_commit_single(struct kv_db *db, struct kve_op *op, u32 flags, bool kill_safe, bool credits);
/* What a writing call asks for: its flags, or the volume's own. */
static inline int kve_durability(const struct kv_db *db, u32 flags)
{
	return flags & 0xf ? (int)(flags & 0xf) : db->durability;
}
int kve_commit_locked(struct kv_db *db, struct kve_op *ops, u32 nr, u32 flags, u64 *lsn);
/* Room in cache, log and volume before a transaction; waits for checkpoints. No lock held. */
int kve_credits(struct kv_db *db, bool privileged);
int kve_key_check(struct kv_db *db, const void *key, size_t len);
/* Flags of a writing call: a durability, and the KV_PUT_* that it allows. */
int kve_flags_check(struct kv_db *db, u32 flags, u32 allowed);
/* Decide how a PUT is stored. */
bool kve_separate(const struct kv_db *db, u32 key_len, u32 value_len);

/* ---- ticket.c -------------------------------------------------------------------------------- */

void kve_tickets_init(struct kv_db *db);
/* Closing: what is pending becomes durable, or fails; all that listen are told. */
void kve_tickets_finish(struct kv_db *db);
/* Nobody is told any more. */
void kve_tickets_exit(struct kv_db *db);
/* Before a change that is not waited for: its durability when it returns; the thread that will sync it. */
int kve_ticket_begin(struct kv_db *db, u32 *flags);
/* There is a ticket of this number now. */
void kve_ticket_ask(struct kv_db *db, u64 lsn);

/* ---- checkpoint.c ---------------------------------------------------------------------------- */

/* at: replay position, NULL: the end of the log. clean: mark the superblock clean. */
int kve_checkpoint(struct kv_db *db, const struct kve_logpos *at, bool clean, bool force);
/* The same with the checkpoint lock held. */
int kve_checkpoint_locked(struct kv_db *db, const struct kve_logpos *at, bool clean, bool force);
/* Freeze: changes from now on belong to the next generation. Writer lock. */
u64 kve_freeze(struct kv_db *db);
int kve_worker_start(struct kv_db *db);
void kve_worker_stop(struct kv_db *db);
void kve_worker_kick(struct kv_db *db);
/* There is something for kve_doomed_step(), with so many bytes of large values. */
void kve_doom(struct kv_db *db, u64 bytes);
/* Pages on their way out: packed, sealed, checked, collected to large writes. */
struct kve_pageout;
int kve_pageout_new(struct kv_db *db, u64 gen, struct kve_batch_items *freed, struct kve_pageout **out);
/* Dirty pages of the tree as of the generation, children first. placed: refs hold their places already. */
int kve_pageout_tree(struct kve_pageout *po, struct kv_tree *t, bool placed, struct kvf_ref *root);
int kve_pageout_flush(struct kve_pageout *po);
void kve_pageout_free(struct kve_pageout *po);
/* Calls fn for each dirty frame of the generation, children first. */
int kve_dirty_each(struct kv_tree *t, u64 gen, int (*fn)(void *arg, struct kve_frame *f), void *arg);
/* Deleted large values and dropped trees: one bounded step; 0 when nothing is left. */
int kve_doomed_step(struct kv_db *db, bool *more);
/* Nobody is inside such a step from here on; until kve_steps_go(). No lock held. */
void kve_steps_stop(struct kv_db *db);
void kve_steps_go(struct kv_db *db);
/* Space is needed: some steps at once, and a checkpoint. False: nothing waits, or it fails. No lock held. */
bool kve_doomed_help(struct kv_db *db);

/* ---- gc.c ------------------------------------------------------------------------------------- */

void kve_gc_init(struct kv_db *db);
/* The round, if any, is given up: what was copied and not swapped is dead. Nobody else uses the volume. */
void kve_gc_stop(struct kv_db *db);
void kve_gc_exit(struct kv_db *db);
/* The volume is full: a round, if one would win anything; else -KVE_no_space. wait: for one under way. */
int kve_gc_rescue(struct kv_db *db, bool wait);
/* No space, in an image that is being packed: it may grow again. False: that was not the reason. */
bool kve_resize_yield(struct kv_db *db);
/* gc_pace.c: a piece of it in the background. works: deleting gets on. True: there is more to do at once. */
bool kve_gc_background(struct kv_db *db, bool works);
/* gc_spare.c: segments that end below this LSN are about to die; 0: none. The worker's. */
u64 kve_spare(struct kv_db *db, bool works);
/* GC had its turn; over: it needs no other. */
void kve_spare_turn(struct kv_db *db, bool over);
/* The worker has had nothing to do for a second. True: there is something now. */
bool kve_gc_quiet(struct kv_db *db);
/* The log has grown by a segment. */
void kve_gc_wake(struct kv_db *db);
/* Before a change that frees nothing, no lock held: wait as long as it takes to keep the promise of space. */
void kve_pace(struct kv_db *db);
/* Free segments that may stay backed by the medium. */
u32 kve_space_pool(struct kv_db *db, u32 segments);
/* So much is in use that older states are not kept. */
bool kve_space_pressed(struct kv_db *db);
/* What the next checkpoint may need to write: txn.c. */
u64 kve_space_need(const struct kv_db *db, bool privileged);

/* emptying.c: pages of a system tree that are to be moved are marked, before a checkpoint writes it. */
int kve_emptying_system(struct kv_db *db, struct kv_tree *t);

/* ---- recover.c, logscan.c ---------------------------------------------------------------------- */

int kve_recover(struct kv_db *db);
void kve_recover_exit(struct kv_db *db);

/* Reads the log record by record: home, tail places, window. */
struct kve_scan;
struct kve_scan_record {
	const struct kvf_record *r;
	const u8 *key, *payload;
	u32 segment, gen, offset;
	bool poison; /* header right, payload damaged */
	bool elsewhere; /* not whole at home */
};
/*
 * From a record on; attested: LSN that is known to be durable. patches: blocks that are not at home as the
 * log needs them go to db->patches.
 */
int kve_scan_open(struct kv_db *db, const struct kve_logpos *from, u64 attested, bool patches,
		  struct kve_scan **out);
/* 0, -KVE_end at the end of the log, or an error. until: LSN to stop before, 0: none. */
int kve_scan_next(struct kve_scan *sc, u64 until, struct kve_scan_record *out);
void kve_scan_pos(const struct kve_scan *sc, struct kve_logpos *pos);
u64 kve_scan_attested(const struct kve_scan *sc);
/* After the end: valid records beyond it may attest that it is not the end. */
int kve_scan_beyond(struct kve_scan *sc);
int kve_scan_patches(struct kve_scan *sc, u32 end);
int kve_scan_close(struct kve_scan *sc);

/* ---- read.c ---------------------------------------------------------------------------------- */

int kve_read_begin(struct kv_db *db, bool implicit, struct kv_read **out);
void kve_read_end(struct kv_read *r);
/* Before and after looking at a frozen state. */
int kve_read_check(struct kv_read *r);
int kve_read_done(struct kv_read *r, int err);
/* Lowest pinned generation, KVE_LIVE: none. */
u64 kve_readers_oldest(struct kv_db *db);
/* Recompute db->pinned. */
void kve_pinned_update(struct kv_db *db);
/* Expire readers that hold too much. Checkpoint. */
void kve_readers_expire(struct kv_db *db);
/* All of them: the state goes back. Writer lock closed, tree lock exclusive. */
void kve_readers_undo(struct kv_db *db);
/* As kv_cursor_open, of a dropped tree as well. */
int kve_cursor_open(struct kv_db *db, struct kv_read *r, kv_tree *tree, kv_cursor **out);
u64 kve_cursor_gen(const struct kv_cursor *c);
struct kv_tree *kve_tree_of(struct kv_db *db, kv_tree *t);

/* ---- stream.c -------------------------------------------------------------------------------- */

/* Objects up to the id, not including it: nobody streams them in. */
int kve_pending_doom(struct kv_db *db, u64 below);
void kve_object_key(u8 *buf, u8 class, u64 object, u64 chunk);
#define KVE_OBJECT_KEY_BYTES 17u
#define KVE_OBJECT_ROW_BYTES 9u
/* t: the tree that has the value. -KVE_restart: in the live state a chunk was missing: look the key up. */
int kve_object_read(struct kv_tree *t, u64 gen, const struct kvf_object *o, u64 offset, void *buf,
		    size_t len);
/* The error that it is if the key still says the same. */
int kve_object_missing(struct kv_db *db, const struct kvf_object *o);
struct kve_entry;
/* The large value that the key has, in chunks of its own. -KVE_restart: the key has another value by now. */
int kve_object_copy(struct kv_tree *t, const void *key, u32 key_len, const struct kve_entry *e);
int kve_reader_entry(struct kv_db *db, struct kv_read *r, struct kv_tree *t, const void *key,
		     u32 key_len, const struct kve_entry *e, const u8 *inline_value, kv_reader **out);

#include "kve_tree.h"
#include "kve_snapshot.h"

#endif
