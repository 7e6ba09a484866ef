/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * value_cache.c - separated values in memory, from a key and the LSN of a record to its payload.
 *
 * Only bytes that have been verified come in, and no two records have the same LSN, but for a value and its
 * copy by GC: so an entry is never stale, and is found as before when its value has another place. A long
 * value is several entries, so that all fit slabs of one size.
 *
 * Where an entry is in the index depends on tree and key, so that a lookup can ask for it, and then for the
 * entry itself, while it is on its way down the tree. States of one key are told apart by the LSN.
 *
 * Entries are appended to slabs of the cache's own arena and never change there. Two queues of slabs are
 * emptied from their old ends (S3-FIFO: Yang et al., "FIFO Queues Are All You Need for Cache Eviction",
 * 2023): what is new goes to the small one, a tenth; what has been looked at again when its slab is emptied
 * moves to the main one, or once more to the new end of that; the rest leaves a ghost, and if it comes
 * back while there is one, it is main at once. So a pass over everything pushes out what it brought itself.
 *
 * A hit takes no lock. The index is an array of words, eight a bucket, each with a tag, a place in a slab
 * and how often the entry was looked at (changed by compare and swap, three times at most). A reader notes
 * the version of the slab, sees the word still there, so that the entry is complete and of that version,
 * copies, and believes its copy if the version is the same afterwards. Whoever empties a slab takes its
 * words away, then makes the version odd, then gives the memory away; late readers find it readable
 * (kvp_reader_enter). Descriptors and pages of the index stay while the volume is open.
 *
 * A cursor hands out an entry where it stands: it pins the slab instead of copying. A slab whose words are
 * gone is given away when nobody has it pinned; until that it waits in a list. Pins and the mark that there
 * can be none are one word, so that neither can be overlooked.
 *
 * Who overwrites or deletes a value takes its words away, by compare and swap: the dead neither fill buckets
 * nor move to the main queue. Their memory comes back with their slabs: when a queue takes a slab, and half
 * of its oldest one is dead, what is alive there moves to the new one. So overwriting the same values over
 * and over does not take all that the cache may have.
 *
 * Memory counts by slabs and pages of the index, and is bounded by what the frames leave of the cache. A
 * quarter is the values' own: frames have of it what values do not use, but for what these begin with, and go
 * when values want room, little by little. Cursors fill what is free, but push no value out. What does not
 * fit is just not cached.
 */
#include "kve.h"
#include "racy.h"

#define SLAB_BYTES 32768u /* the largest that a kernel under load still finds */
#define WAYS 8u	     /* slots of a bucket: one cache line */
#define PAGE_BUCKETS (SLAB_BYTES / (WAYS * (u32)sizeof(u64)))
#define BYTES_PER_SLOT 512u /* of the cache; the entries are mostly longer */

/* In front of the bytes of an entry; multiples of ENTRY_ALIGN. */
struct kve_value_head {
	u64 lsn;
	u64 hash; /* of tree and key */
	u32 len;  /* of the whole value */
	u32 piece;
};
#define ENTRY_ALIGN 16u
#define HEAD ((u32)sizeof(struct kve_value_head))
#define PIECE (SLAB_BYTES / 8 - HEAD) /* so that eight fill a slab */

#define NEAR_LINES 8u /* of an entry; a processor that sees them read in turn asks for the rest itself */
#define SCAN_LINES 4u /* in scans: several values are on their way, and not all are looked at as a whole */
#define PINS_NONE (1u << 31) /* of a slab: nobody can pin it */

enum { SMALL, MAIN };
#define SMALL_SHARE 10u /* one in so many slabs */
#define PATIENCE 16u	/* slabs that are emptied before more than one look is needed to stay */

/*
 * A slot: offset in the slab / ENTRY_ALIGN (11 bits), slab (24), looks (2), tag (11 of the LSN, 16 of the
 * hash). 0: empty.
 */
#define WORD_SLAB_SHIFT 11
#define WORD_SLABS (1u << 24)
#define WORD_LOOKS_SHIFT 35
#define WORD_LOOK (1ull << WORD_LOOKS_SHIFT)
#define WORD_LOOKS_MAX 3u
#define WORD_LOOKS (WORD_LOOKS_MAX * WORD_LOOK)
#define WORD_TAG_SHIFT 37
#define WORD_KEY_SHIFT 48 /* the part of the tag that the key alone decides */
#define WORD_GHOST 1ull /* slab 0: what had this tag was pushed out lately */

static u32 word_slab(u64 word)
{
	return (u32)(word >> WORD_SLAB_SHIFT) & (WORD_SLABS - 1);
}

static u32 word_offset(u64 word)
{
	return (u32)(word & ((1u << WORD_SLAB_SHIFT) - 1)) * ENTRY_ALIGN;
}

static u32 word_looks(u64 word)
{
	return (u32)((word & WORD_LOOKS) >> WORD_LOOKS_SHIFT);
}

static u64 word_tag(u64 word)
{
	return word >> WORD_TAG_SHIFT << WORD_TAG_SHIFT;
}

static bool word_is_ghost(u64 word)
{
	return word && !word_slab(word);
}

static u32 entry_bytes(u32 bytes)
{
	return (u32)KVF_ROUND_UP(HEAD + bytes, ENTRY_ALIGN);
}

static u32 head_bytes(const struct kve_value_head *h)
{
	return KVF_MIN(h->len - h->piece * PIECE, PIECE);
}

static u32 head_entry_bytes(const struct kve_value_head *h)
{
	return entry_bytes(head_bytes(h));
}

static void head_of(u64 hash, const struct kvf_value_ref *ref, struct kve_value_head *h)
{
	h->lsn = le64_to_cpu(ref->lsn);
	h->hash = hash;
	h->len = le32_to_cpu(ref->payload_len);
	h->piece = 0;
}

/* The next piece of the same value; false: there is none. */
static bool head_next(struct kve_value_head *h)
{
	u32 done = h->piece * PIECE + head_bytes(h);

	h->piece++;
	return done < h->len;
}

/* ---- where in the index -------------------------------------------------------------------------- */

#define MIX 0xd1b54a32d192ed03ull

static u64 load_64(const u8 *p)
{
	__le64 word;

	memcpy(&word, p, sizeof(word));
	return le64_to_cpu(word);
}

static u64 load_32(const u8 *p)
{
	__le32 word;

	memcpy(&word, p, sizeof(word));
	return le32_to_cpu(word);
}

/* The last 8 bytes; if they are less, zeros before them. */
static u64 load_last(const u8 *p, u32 len)
{
	u64 word;

	if (len >= 8)
		return load_64(p + len - 8);
	if (!len)
		return 0;
	if (len >= 4)
		word = load_32(p) | load_32(p + len - 4) << 8 * (len - 4);
	else
		word = p[0] | (u64)p[len / 2] << 8 * (len / 2) | (u64)p[len - 1] << 8 * (len - 1);
	return word << 8 * (8 - len);
}

static u64 mix(u64 x, u64 word)
{
	x = (x ^ word) * MIX;
	return x ^ x >> 32;
}

/*
 * Of a key in two parts, by words from its end on, so that they are the same wherever the parts meet. Last
 * comes the finalizer of MurmurHash3 (A. Appleby), but for its first shift.
 */
KVP_INLINE u64 hash_parts(const struct kv_tree *t, const u8 *a, u32 a_len, const u8 *b, u32 b_len)
{
	u64 x = mix(t->id, a_len + b_len);

	for (; b_len >= 8; b_len -= 8)
		x = mix(x, load_64(b + b_len - 8));
	if (b_len) {
		x = mix(x, load_last(b, b_len) | load_last(a, a_len) >> 8 * b_len);
		a_len -= KVF_MIN(a_len, 8 - b_len);
	}
	for (; a_len >= 8; a_len -= 8)
		x = mix(x, load_64(a + a_len - 8));
	if (a_len)
		x = mix(x, load_last(a, a_len));
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

u64 kve_value_hash(const struct kv_tree *t, const void *key, u32 len)
{
	return hash_parts(t, NULL, 0, key, len);
}

u64 kve_value_hash_at(const struct kv_tree *t, const u8 *page, u32 i)
{
	const struct kvf_page *p = (const struct kvf_page *)page;
	u32 frame = t->db->geo.frame, lower_len;

	return hash_parts(t, kvf_page_lower(page, frame, &lower_len), le16_to_cpu(p->prefix_len),
			  (const u8 *)(kvf_page_item(page, frame, i) + 1),
			  le16_to_cpu(kvf_page_slots(page)[i].suffix_len));
}

/* Pieces are anywhere. */
static u64 piece_hash(const struct kve_value_head *h)
{
	return h->hash + h->piece * MIX;
}

/* The part of a slot's tag that the key decides, in its place. */
static u64 key_tag(const struct kve_values *vc, u64 hash)
{
	return hash << vc->shift >> WORD_KEY_SHIFT << WORD_KEY_SHIFT;
}

/* The tag of a slot, in its place. */
static u64 tag_of(const struct kve_values *vc, const struct kve_value_head *h)
{
	return key_tag(vc, piece_hash(h)) |
	       h->lsn * MIX >> (WORD_TAG_SHIFT + 64 - WORD_KEY_SHIFT) << WORD_TAG_SHIFT;
}

int kve_values_init(struct kv_db *db, u64 bytes)
{
	struct kve_values *vc = &db->values;
	u64 slabs;

	vc->limit = bytes;
	vc->shift = 9;
	KVP_BUILD_BUG_ON(PAGE_BUCKETS != 1u << 9);
	while ((1ull << vc->shift) * WAYS < db->cache_bytes / BYTES_PER_SLOT && vc->shift < 32)
		vc->shift++;
	vc->index_pages = (u32)((1ull << vc->shift) / PAGE_BUCKETS);
	slabs = db->cache_bytes / SLAB_BYTES + 2; /* one that stands for none, one to move to */
	vc->slabs_max = (u32)KVF_MIN(slabs, (u64)WORD_SLABS);
	vc->slabs_nr = 1;
	vc->index = kvp_alloc_array(vc->index_pages, sizeof(*vc->index), KVP_ZERO);
	vc->place = kvp_alloc_array(vc->slabs_max, sizeof(*vc->place), KVP_ZERO);
	vc->slab = kvp_alloc_array(vc->slabs_max, sizeof(*vc->slab), KVP_ZERO);
	if (!vc->index || !vc->place || !vc->slab)
		return -KVE_no_memory;
	return kvp_arena_create(&vc->arena, SLAB_BYTES,
				((size_t)vc->slabs_max + vc->index_pages) * SLAB_BYTES);
}

void kve_values_exit(struct kv_db *db)
{
	struct kve_values *vc = &db->values;

	if (vc->arena)
		kvp_arena_destroy(vc->arena);
	kvp_free(vc->place);
	kvp_free(vc->slab);
	kvp_free(vc->index);
	kvp_mutex_destroy(&vc->lock);
}

/* ---- looking up, without a lock ------------------------------------------------------------------ */

/* NULL: nothing was ever put there. */
static u64 *bucket_of(const struct kve_values *vc, u64 hash)
{
	u64 bucket = hash >> (64 - vc->shift);
	u64 *page = kvp_load_acquire(&vc->index[bucket / PAGE_BUCKETS]);

	return page ? page + bucket % PAGE_BUCKETS * WAYS : NULL;
}

/* Copy what the slot leads to if that is the entry wanted. */
static bool entry_copy(struct kve_values *vc, const u64 *slot, u64 word, const struct kve_value_head *want,
		       void *out)
{
	const struct kve_value_place *s = &vc->place[word_slab(word)];
	u64 version = kvp_load_acquire(&s->version);
	const u8 *at = kvp_load(&s->mem);
	struct kve_value_head head;
	bool sloppy = KVP_BUG("values-no-validation");

	if (!at || (version & 1 && !sloppy) || word_offset(word) + head_entry_bytes(want) > SLAB_BYTES)
		return false;
	/* Still in the index, so in that version of the slab the entry is complete. */
	if ((kvp_load_acquire(slot) ^ word) & ~WORD_LOOKS)
		return false;
	at += word_offset(word);
	kve_racy_copy(&head, at, HEAD);
	if (memcmp(&head, want, HEAD))
		return false;
	kve_racy_copy(out, at + HEAD, head_bytes(want));
	kvp_fence_acquire();
	return kvp_load(&s->version) == version || sloppy;
}

static bool piece_get(struct kve_values *vc, const struct kve_value_head *want, void *out)
{
	u64 tag = tag_of(vc, want), word, *slot = bucket_of(vc, piece_hash(want));
	bool found = false;
	u32 i;

	kvp_reader_enter();
	for (i = 0; slot && !found && i < WAYS; i++, slot++) {
		word = kvp_load_acquire(slot);
		if (word_tag(word) != tag || !word_slab(word))
			continue;
		found = entry_copy(vc, slot, word, want, out);
		/* Written only when it changes; lost if something else changes there just now. */
		if (found && word_looks(word) < WORD_LOOKS_MAX)
			(void)kvp_cas(slot, &word, word + WORD_LOOK);
	}
	kvp_reader_exit();
	return found;
}

bool kve_values_get(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, void *out)
{
	struct kve_value_head want;

	head_of(hash, ref, &want);
	do {
		if (!piece_get(&db->values, &want, (u8 *)out + want.piece * PIECE))
			return false;
	} while (head_next(&want));
	kvp_count_add(&db->cache.hits, 1);
	return true;
}

static bool slab_pin(struct kve_value_slab *s)
{
	u32 pins = kvp_load(&s->pins);

	do {
		if (pins & PINS_NONE)
			return false;
	} while (!kvp_cas(&s->pins, &pins, pins + 1));
	return true;
}

static void slab_unpin(struct kve_value_slab *s)
{
	u32 pins = kvp_load(&s->pins);

	while (!kvp_cas(&s->pins, &pins, pins - 1))
		;
}

void kve_values_unpin(struct kv_db *db, u32 *pin)
{
	if (*pin)
		slab_unpin(&db->values.slab[*pin]);
	*pin = 0;
}

/* The bytes that the slot leads to if that is the entry wanted; *pin: the slab that is pinned. */
static const void *entry_pin(struct kve_values *vc, const u64 *slot, u64 word,
			     const struct kve_value_head *want, u32 *pin)
{
	u32 nr = word_slab(word);
	const u8 *at;

	if (nr != *pin) {
		if (!slab_pin(&vc->slab[nr]))
			return NULL;
		if (*pin)
			slab_unpin(&vc->slab[*pin]);
		*pin = nr;
	}
	/* Still in the index: so the slab that is pinned is the one that the word means. */
	if ((kvp_load_acquire(slot) ^ word) & ~WORD_LOOKS)
		return NULL;
	at = kvp_load(&vc->place[nr].mem) + word_offset(word);
	return memcmp(at, want, HEAD) ? NULL : at + HEAD;
}

const void *kve_values_pin(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, u32 *pin)
{
	struct kve_values *vc = &db->values;
	struct kve_value_head want;
	const void *bytes = NULL;
	u64 tag, word, *slot;
	u32 i;

	head_of(hash, ref, &want);
	if (want.len > PIECE)
		return NULL;
	tag = tag_of(vc, &want);
	slot = bucket_of(vc, hash);
	for (i = 0; slot && !bytes && i < WAYS; i++, slot++) {
		word = kvp_load_acquire(slot);
		if (word_tag(word) != tag || !word_slab(word))
			continue;
		bytes = entry_pin(vc, slot, word, &want, pin);
		if (bytes && word_looks(word) < WORD_LOOKS_MAX)
			(void)kvp_cas(slot, &word, word + WORD_LOOK);
	}
	if (bytes)
		kvp_count_add(&db->cache.hits, 1);
	return bytes;
}

/* ---- slabs: the lock ---------------------------------------------------------------------------- */

static u32 slab_take(struct kve_values *vc, struct kve_value_queue *q)
{
	u8 *mem = vc->spare || vc->slabs_nr < vc->slabs_max ? kvp_arena_get(vc->arena) : NULL;
	struct kve_value_slab *s;
	u32 nr;

	if (!mem)
		return 0;
	nr = vc->spare ? vc->spare : vc->slabs_nr++;
	s = &vc->slab[nr];
	if (nr == vc->spare)
		vc->spare = s->next;
	kvp_store(&vc->place[nr].mem, mem);
	if (vc->place[nr].version & 1)
		kve_even(&vc->place[nr].version);
	kvp_store_release(&s->pins, 0u);
	s->used = s->next = 0;
	s->main = q == &vc->queue[MAIN];
	kvp_store(&s->dead, 0u);
	if (q->nr++)
		vc->slab[q->newest].next = nr;
	else
		q->oldest = nr;
	q->newest = nr;
	vc->idle -= KVF_MIN(vc->idle, (u64)SLAB_BYTES);
	kvp_store(&vc->bytes, vc->bytes + SLAB_BYTES);
	return nr;
}

/* Its memory is given away, unless somebody has it pinned. Nothing in the index leads to it. */
static bool slab_give(struct kve_values *vc, u32 nr)
{
	struct kve_value_slab *s = &vc->slab[nr];
	u32 none = 0;

	if (!kvp_cas(&s->pins, &none, PINS_NONE) && !KVP_BUG("values-pin-ignored"))
		return false;
	kvp_arena_put(vc->arena, vc->place[nr].mem);
	kvp_store(&vc->place[nr].mem, NULL);
	s->next = vc->spare;
	vc->spare = nr;
	vc->idle += SLAB_BYTES;
	kvp_store(&vc->bytes, vc->bytes - SLAB_BYTES);
	return true;
}

/* Nothing in the index leads to it any more. */
static void slab_drop(struct kve_values *vc, u32 nr)
{
	struct kve_value_slab *s = &vc->slab[nr];

	kve_odd(&vc->place[nr].version);
	if (slab_give(vc, nr))
		return;
	s->next = vc->held;
	vc->held = nr;
}

/* What was pinned when it was dropped, and is no longer. */
static void held_give(struct kve_values *vc)
{
	u32 nr = vc->held, next;

	vc->held = 0;
	for (; nr; nr = next) {
		next = vc->slab[nr].next;
		if (slab_give(vc, nr))
			continue;
		vc->slab[nr].next = vc->held;
		vc->held = nr;
	}
}

static bool queue_has_room(const struct kve_values *vc, const struct kve_value_queue *q, u32 bytes)
{
	return q->nr && vc->slab[q->newest].used + bytes <= SLAB_BYTES;
}

/* Behind the others of its queue, where there is room: the word that leads there, looks and tag 0. */
static u64 entry_append(struct kve_values *vc, struct kve_value_queue *q, const struct kve_value_head *head,
			const void *bytes)
{
	struct kve_value_slab *s = &vc->slab[q->newest];
	u8 *at = vc->place[q->newest].mem + s->used;
	u64 word = (u64)q->newest << WORD_SLAB_SHIFT | s->used / ENTRY_ALIGN;

	memcpy(at, head, HEAD);
	memcpy(at + HEAD, bytes, head_bytes(head));
	s->used += head_entry_bytes(head);
	return word;
}

/* The slot that leads to this place, if it is still in the index. */
static u64 *slot_at(struct kve_values *vc, const struct kve_value_head *head, u32 nr, u32 offset)
{
	u64 word = (u64)nr << WORD_SLAB_SHIFT | offset / ENTRY_ALIGN | tag_of(vc, head);
	u64 *slot = bucket_of(vc, piece_hash(head));
	u32 i;

	for (i = 0; i < WAYS; i++)
		if (!((kvp_load(&slot[i]) ^ word) & ~WORD_LOOKS))
			return &slot[i];
	return NULL;
}

/* It leaves its slab: to the main queue if it was looked at so often (STAYS: to its own), or for good. */
#define STAYS 0u
static void entry_leave(struct kve_values *vc, const struct kve_value_head *head, u64 *slot, u32 from,
			u32 looks)
{
	struct kve_value_queue *q = &vc->queue[looks == STAYS ? from : MAIN];
	u64 word = kvp_load(slot), to = 0;

	if (word_looks(word) >= looks &&
	    (queue_has_room(vc, q, head_entry_bytes(head)) || slab_take(vc, q)))
		to = entry_append(vc, q, head, head + 1) |
		     ((word & WORD_LOOKS) - (looks == STAYS ? 0 : WORD_LOOK));
	else if (from == SMALL)
		to = WORD_GHOST;
	kvp_store_release(slot, to ? word_tag(word) | to : 0);
}

/* Empty the oldest slab of a queue. */
static void slab_retire(struct kve_values *vc, u32 from, u32 looks)
{
	struct kve_value_queue *q = &vc->queue[from];
	u32 nr = q->oldest, offset;
	struct kve_value_slab *s = &vc->slab[nr];
	const struct kve_value_head *head;
	u64 *slot;

	q->oldest = s->next;
	q->nr--;
	for (offset = 0; offset < s->used; offset += head_entry_bytes(head)) {
		head = (const struct kve_value_head *)(vc->place[nr].mem + offset);
		slot = slot_at(vc, head, nr, offset);
		if (slot)
			entry_leave(vc, head, slot, from, looks);
	}
	slab_drop(vc, nr);
}

/* The queue just took a slab. If half of its oldest one is dead, what is alive there fits the new one. */
static void slab_tidy(struct kve_values *vc, u32 from)
{
	struct kve_value_queue *q = &vc->queue[from];
	struct kve_value_slab *s = &vc->slab[q->oldest];

	if (q->nr > 2 && kvp_load(&s->dead) >= s->used / 2 && !KVP_BUG("values-dead-stay"))
		slab_retire(vc, from, STAYS);
}

/*
 * At most target bytes are left; one slab more is taken meanwhile. What is looked at all the time moves
 * from slab to slab and frees nothing: when that has gone on for a while, more looks are asked for.
 */
static void evict(struct kve_values *vc, u64 target)
{
	const struct kve_value_queue *q = vc->queue;
	u32 tries = 0, looks, from;
	u64 before;

	held_give(vc);
	while (vc->bytes > target && q[SMALL].nr + q[MAIN].nr) {
		from = !q[MAIN].nr || q[SMALL].nr * SMALL_SHARE > q[SMALL].nr + q[MAIN].nr ? SMALL : MAIN;
		looks = tries < PATIENCE ? 1 : tries - PATIENCE + 2;
		before = vc->bytes;
		slab_retire(vc, from, looks);
		tries = vc->bytes < before ? 0 : tries + 1;
	}
}

/* ---- putting in ---------------------------------------------------------------------------------- */

/* So many bytes below the limit. False: there are not, and nothing is to be pushed out. */
static bool room_make(struct kve_values *vc, u64 bytes, u64 limit, bool push)
{
	if (!push && vc->bytes + bytes > limit)
		return false;
	evict(vc, limit - KVF_MIN(bytes, limit));
	return true;
}

static u64 *bucket_make(struct kve_values *vc, u64 hash, u64 limit, bool push)
{
	u64 **page = &vc->index[(hash >> (64 - vc->shift)) / PAGE_BUCKETS], *slots;
	u32 i;

	if (!*page) {
		vc->grows = true;
		if (!room_make(vc, 3 * SLAB_BYTES, limit, push))
			return NULL;
		slots = kvp_arena_get(vc->arena);
		if (!slots)
			return NULL;
		for (i = 0; i < PAGE_BUCKETS * WAYS; i++)
			kvp_store(&slots[i], 0ull);
		kvp_store_release(page, slots);
		kvp_store(&vc->bytes, vc->bytes + SLAB_BYTES);
	}
	return bucket_of(vc, hash);
}

/* The slot of an entry that is there, or of its ghost. */
static u64 *slot_find(struct kve_values *vc, u64 *slots, u64 tag, const struct kve_value_head *head)
{
	u64 *ghost = NULL, word;
	u32 i;

	for (i = 0; i < WAYS; i++) {
		word = kvp_load(&slots[i]);
		if (!word || word_tag(word) != tag)
			continue;
		if (word_is_ghost(word))
			ghost = &slots[i];
		else if (!memcmp(vc->place[word_slab(word)].mem + word_offset(word), head, HEAD))
			return &slots[i];
	}
	return ghost;
}

/* An empty slot, else a ghost's, else that of an entry that was looked at least, of the main queue last. */
static u64 *slot_choose(const struct kve_values *vc, u64 *slots)
{
	u32 i, cost, least = ~0u;
	u64 *best = slots, word;

	for (i = 0; i < WAYS && least; i++) {
		word = kvp_load(&slots[i]);
		cost = !word		   ? 0 :
		       word_is_ghost(word) ? 1 :
					     2 + 2 * word_looks(word) + vc->slab[word_slab(word)].main;
		if (cost < least) {
			least = cost;
			best = &slots[i];
		}
	}
	return best;
}

/* False: no room. */
static bool piece_put(struct kve_values *vc, const struct kve_value_head *head, const void *bytes, u64 limit,
		      bool push)
{
	u64 tag = tag_of(vc, head), *slots, *slot, word;
	struct kve_value_queue *q;

	slots = bucket_make(vc, piece_hash(head), limit, push);
	if (!slots)
		return false;
	slot = slot_find(vc, slots, tag, head);
	if (slot && !word_is_ghost(kvp_load(slot)))
		return true;
	q = &vc->queue[slot ? MAIN : SMALL];
	if (!queue_has_room(vc, q, head_entry_bytes(head))) {
		vc->grows = true;
		/* Its own slab, and one to move to. */
		if (!room_make(vc, 2 * SLAB_BYTES, limit, push))
			return false;
		if (!queue_has_room(vc, q, head_entry_bytes(head)) && slab_take(vc, q))
			slab_tidy(vc, slot ? MAIN : SMALL);
		if (!queue_has_room(vc, q, head_entry_bytes(head)) && !slab_take(vc, q))
			return false;
	}
	word = tag | entry_append(vc, q, head, bytes);
	/* Emptying slabs has changed the bucket, perhaps. */
	slot = slot_find(vc, slots, tag, head);
	if (!slot)
		slot = slot_choose(vc, slots);
	kvp_store_release(slot, word);
	return true;
}

/* What frames have of the values' own. */
static u64 borrowed(const struct kv_db *db)
{
	u64 frames = kvp_load(&db->cache.frames), own = db->cache.limit;

	return frames > own && !KVP_BUG("values-over-frames") ? (frames - own) * db->geo.frame : 0;
}

/*
 * What frames and GC do not use; a quarter of the cache at least, or, while GC is at work, an eighth, less
 * what frames have borrowed of that.
 */
static u64 values_limit(const struct kv_db *db)
{
	u64 frames = kve_frames_bytes(db), gc = kvp_load(&db->gc_bytes), all = db->cache_bytes;
	u64 least = db->values.limit - KVF_MIN(gc, db->values.limit / 2);

	least -= KVF_MIN(borrowed(db), least - kve_values_least(db));
	return KVF_MAX(least, all > frames + gc ? all - frames - gc : 0);
}

void kve_values_put(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref, const void *bytes,
		    bool push)
{
	struct kve_values *vc = &db->values;
	struct kve_value_head head;
	u64 limit;
	bool grows;

	head_of(hash, ref, &head);
	if (head.len > vc->limit / 8)
		return;
	limit = values_limit(db);
	kvp_mutex_lock(&vc->lock);
	if (KVP_BUG("lock-order")) {
		kvp_mutex_lock(&db->space.lock);
		kvp_mutex_unlock(&db->space.lock);
	}
	while (piece_put(vc, &head, (const u8 *)bytes + head.piece * PIECE, limit, push) && head_next(&head))
		;
	grows = vc->grows;
	vc->grows = false;
	kvp_mutex_unlock(&vc->lock);
	if (grows)
		kve_frames_yield(db);
}

/*
 * Out of the index, without the lock; its memory goes with its slab. What is moving just then stays. An
 * LSN has one entry that is alive, so the tag is enough.
 */
static void piece_forget(const struct kve_values *vc, const struct kve_value_head *head)
{
	u64 tag = tag_of(vc, head), *slot = bucket_of(vc, piece_hash(head)), word;
	u32 i;

	for (i = 0; slot && i < WAYS; i++, slot++) {
		word = kvp_load(slot);
		if (word_tag(word) == tag && word_slab(word) && kvp_cas(slot, &word, 0))
			kvp_add(&vc->slab[word_slab(word)].dead, head_entry_bytes(head));
	}
}

void kve_values_forget(struct kv_db *db, u64 hash, const struct kvf_value_ref *ref)
{
	struct kve_value_head head;

	head_of(hash, ref, &head);
	do
		piece_forget(&db->values, &head);
	while (head_next(&head));
}

void kve_values_expect(const struct kv_db *db, u64 hash)
{
	const u64 *slots = bucket_of(&db->values, hash);

	if (slots)
		kvp_prefetch(slots);
}

/* Without branches that nobody could foresee: the tag is anywhere in the bucket. */
void kve_values_near(const struct kv_db *db, u64 hash, u32 len)
{
	const struct kve_values *vc = &db->values;
	const u64 *slots = bucket_of(vc, hash);
	u64 tag = key_tag(vc, hash), found = 0, word;
	const u8 *at;
	u32 i;

	for (i = 0; slots && i < WAYS; i++) {
		word = kvp_load(&slots[i]);
		found = (word ^ tag) >> WORD_KEY_SHIFT ? found : word;
	}
	at = kvp_load(&vc->place[word_slab(found)].mem) + word_offset(found);
	for (i = 0; i < (len ? SCAN_LINES : NEAR_LINES); i++)
		kvp_prefetch(at + i * KVE_LINE);
	if (len)
		kvp_prefetch(at + HEAD + len - 1);
}

/* ---- giving back ---------------------------------------------------------------------------------- */

/* Give memory to the system for so many bytes that slabs have left in the arena. */
#define IDLE_MIN (256ull << 10)
#define IDLE_MAX (4ull << 20)

static void give_back(struct kve_values *vc, u64 target, u64 idle_most)
{
	bool trim;

	kvp_mutex_lock(&vc->lock);
	evict(vc, target);
	trim = vc->idle > idle_most;
	if (trim)
		vc->idle = 0;
	kvp_mutex_unlock(&vc->lock);
	if (trim)
		kvp_arena_trim(vc->arena);
}

/* Frames have taken what values had. */
void kve_values_yield(struct kv_db *db)
{
	u64 limit = values_limit(db), idle = db->cache_bytes / 16;

	if (kvp_load(&db->values.bytes) > limit)
		give_back(&db->values, limit - SLAB_BYTES, KVF_MIN(KVF_MAX(idle, IDLE_MIN), IDLE_MAX));
}

void kve_values_shrink(struct kv_db *db, u64 bytes)
{
	u64 have = kvp_load(&db->values.bytes);

	give_back(&db->values, have > bytes ? have - bytes : 0, 0);
}
