/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream.h - what 'kvs send' writes and 'kvs receive' reads: frames, their payloads, and how far a stream has
 * come. docs/STREAM.md describes it. Numbers are little-endian.
 */
#ifndef KVS_STREAM_H
#define KVS_STREAM_H

#include <xxhash.h>

#include "kvs.h"

#define STREAM_VERSION 1u
#define STREAM_GUARD "\r\n\x1a\n" /* what a copy in text mode changes */
#define FRAME_MAGIC "\x89KVS"
#define FRAME_FULL (128u << 10) /* bytes of payload with which a frame is sent */
#define FRAME_MAX (1u << 20)	/* no payload is longer */
#define VALUE_LONG (64u << 10)	/* a longer value has frames of its own */

enum frame_type {
	FRAME_HEAD = 1,
	FRAME_TREE = 2,	   /* the tree that what follows belongs to */
	FRAME_RECORDS = 3, /* short puts, and deletions */
	FRAME_VALUE = 4,   /* a long value begins */
	FRAME_BYTES = 5,   /* part of it */
	FRAME_END = 6,
};

struct frame_head {
	uint8_t magic[4];
	uint32_t type;
	uint64_t number; /* HEAD: of the frames that are left out; then one more each */
	uint32_t length; /* of the payload */
	uint32_t reserved;
	uint64_t sum; /* XXH3 of the 24 bytes before and the payload */
};

/* A state: the volume where it was made, and its generation there. 0: none. */
struct state_id {
	uint8_t uuid[16];
	uint64_t generation;
};

struct stream_head {
	uint8_t guard[4];
	uint32_t version;
	struct state_id state, base;
	uint64_t lsn, created;
	uint64_t part;	   /* what is left out, as the token says; 0: nothing */
	uint32_t block_bytes, segment_bytes, frame_bytes, key_max; /* of the sender */
	uint8_t label[40];
	uint8_t name[72], base_name[72];
};

enum { TREE_USE = 1, TREE_DROP = 2 };
enum { RECORD_PUT = 1, RECORD_DEL = 2 };

/* Before key and value. */
struct record_head {
	uint32_t op, key_len, value_len;
};

struct stream_end {
	uint64_t records;
	uint32_t outline, reserved;
	uint64_t sum; /* XXH3 of all bytes before this frame */
};

/*
 * How far a stream has come: its frames without HEAD, and a check on what they were, made of all but the
 * values; so a sender can make it without reading these.
 */
struct extent {
	uint64_t frames;
	uint32_t outline;
};

static inline uint32_t outline_add(uint32_t outline, const void *p, size_t n)
{
	return (uint32_t)XXH3_64bits_withSeed(p, n, outline);
}

/* One number, above 0; and back. */
static inline uint64_t extent_part(const struct extent *e)
{
	return (e->frames << 32 | e->outline) + 1;
}
static inline struct extent part_extent(uint64_t part)
{
	return (struct extent){ .frames = (part - 1) >> 32, .outline = (uint32_t)(part - 1) };
}

/* ---- stream.c ---------------------------------------------------------------------------------- */

/* head and payload to bytes of the stream; the head is completed. */
void frame_seal(struct frame_head *h, enum frame_type type, uint64_t number, const void *payload, size_t n);
/* Is it one that these bytes follow? */
bool frame_fits(const struct frame_head *h, const void *payload);
/* Between the processor's order and the stream's. */
void stream_head_swap(struct stream_head *h);

/* A number that stands for the base in names and tokens. */
uint64_t base_mark(const struct state_id *base);
static inline bool state_same(const struct state_id *a, const struct state_id *b)
{
	return a->generation == b->generation && !memcmp(a->uuid, b->uuid, sizeof(a->uuid));
}

/* What a target has of a stream. */
struct token {
	struct state_id state;
	uint64_t base_mark, part;
};
#define TOKEN_TEXT 96
void token_text(const struct token *t, char *text);
bool token_parse(const char *text, struct token *t);

/* ---- stream_state.c ------------------------------------------------------------------------------ */

/* Of an unfinished receive: a snapshot of this name for each extent that is kept, the first with none. */
#define PARTIAL_PREFIX "kvs:receive-"

/* A snapshot and what it is a state of. */
struct known {
	kv_snapshot_info info;
	struct state_id id;
	bool partial;
};
struct known_list {
	struct known *known;
	size_t nr;
	uint8_t uuid[16]; /* of the volume */
	bool failed;
};

/* All snapshots of the volume. Exit code. */
int known_load(struct kvs *k, struct known_list *l);
void known_free(struct known_list *l);
const struct known *known_by_name(const struct known_list *l, const char *name);
/* A whole one; NULL: none. */
const struct known *known_by_id(const struct known_list *l, const struct state_id *id);

/* Calls fn for each tree that one of the states has (from NULL: nothing), 'main' first. Exit code. */
struct tree_pair {
	const char *name;
	bool from, to;
};
int trees_each(struct kvs *k, kv_read *from, kv_read *to, int (*fn)(void *arg, const struct tree_pair *t),
	       void *arg);
/* Is there any difference? Exit code. */
int states_differ(struct kvs *k, kv_read *from, kv_read *to, bool *yes);

/* ---- stream_apply.c -------------------------------------------------------------------------------- */

/* Changes on their way into the volume: short ones in batches. All return KV_E_*. */
struct applier {
	struct kvs *k;
	kv_batch *batch;
	size_t bytes, piece_bytes;
	uint32_t chunk_bytes;
	kv_tree *tree;
	kv_writer *writer; /* of a long value */
};
int apply_begin(struct applier *a, struct kvs *k);
int apply_tree(struct applier *a, const char *name);
int apply_drop(struct applier *a, const char *name);
int apply_put(struct applier *a, const void *key, size_t key_len, const void *value, size_t value_len);
int apply_del(struct applier *a, const void *key, size_t key_len);
int apply_value(struct applier *a, const void *key, size_t key_len);
int apply_bytes(struct applier *a, const void *p, size_t n);
int apply_value_end(struct applier *a);
int apply_flush(struct applier *a);
/* What is not committed is dropped. */
void apply_end(struct applier *a);
/* Make the volume what a state is. Exit code. */
int apply_state(struct kvs *k, kv_read *to);

#endif
