/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * value_cache.c - separated values in memory: a hash table from the place of a record to its payload.
 *
 * Only bytes that have been verified come in, and a ref names a place, a generation of its segment and an
 * LSN, so an entry is never stale: what it was made from is never written again. A clock bounds the
 * bytes to what the frames leave of the cache, a quarter at least; what does not fit memory is just not
 * cached. Cursors fill what is free, but push nothing out.
 */
#include "kve.h"

#define VALUE_AVERAGE 1024u
#define YIELD_BYTES (1u << 20)

struct kve_value {
	struct kve_value *next; /* in its bucket */
	u64 place;		/* segment and offset */
	u64 lsn;
	u32 gen, len;
	bool hot;
	u8 bytes[];
};

static u64 place_of(const struct kvf_value_ref *ref)
{
	return (u64)le32_to_cpu(ref->segment) << 32 | le32_to_cpu(ref->offset);
}

static u32 bucket_of(const struct kve_values *vc, u64 place)
{
	/* Fibonacci hashing: offsets are multiples of 16. */
	return (u32)((place >> 4) * 0x9e3779b97f4a7c15ull >> (64 - vc->shift));
}

int kve_values_init(struct kv_db *db, u64 bytes)
{
	struct kve_values *vc = &db->values;

	vc->limit = bytes;
	vc->shift = 6;
	while ((1ull << vc->shift) < db->cache_bytes / VALUE_AVERAGE && vc->shift < 24)
		vc->shift++;
	vc->bucket = kvp_alloc_array((size_t)1 << vc->shift, sizeof(*vc->bucket), KVP_ZERO);
	return vc->bucket ? 0 : -KVE_no_memory;
}

void kve_values_exit(struct kv_db *db)
{
	struct kve_values *vc = &db->values;
	struct kve_value *v;
	u32 i;

	for (i = 0; vc->bucket && i < 1u << vc->shift; i++)
		while ((v = vc->bucket[i])) {
			vc->bucket[i] = v->next;
			kvp_free(v);
		}
	kvp_free(vc->bucket);
	kvp_mutex_destroy(&vc->lock);
}

bool kve_values_get(struct kv_db *db, const struct kvf_value_ref *ref, void *out)
{
	struct kve_values *vc = &db->values;
	u64 place = place_of(ref);
	struct kve_value *v;

	kvp_mutex_lock(&vc->lock);
	for (v = vc->bucket[bucket_of(vc, place)]; v; v = v->next)
		if (v->place == place && v->gen == le32_to_cpu(ref->segment_gen) &&
		    v->lsn == le64_to_cpu(ref->lsn) && v->len == le32_to_cpu(ref->payload_len))
			break;
	if (v) {
		v->hot = true;
		memcpy(out, v->bytes, v->len);
		kvp_count_add(&db->cache.hits, 1);
	}
	kvp_mutex_unlock(&vc->lock);
	return v != NULL;
}

/* The hand goes over the buckets until at most target bytes are left. */
static void evict(struct kve_values *vc, u64 target)
{
	struct kve_value **link, *v;
	u64 steps = 2ull << vc->shift;

	while (vc->bytes > target && steps--) {
		link = &vc->bucket[vc->hand++ & ((1u << vc->shift) - 1)];
		while ((v = *link)) {
			if (v->hot) {
				v->hot = false;
				link = &v->next;
				continue;
			}
			*link = v->next;
			kvp_store(&vc->bytes, vc->bytes - sizeof(*v) - v->len);
			kvp_free(v);
		}
	}
}

/* What the frames do not use, a quarter of the cache at least. */
static u64 values_limit(const struct kv_db *db)
{
	u64 frames = kve_frames_bytes(db), all = db->cache_bytes;

	return KVF_MAX(db->values.limit, all > frames ? all - frames : 0);
}

/* Frames have taken what values had. */
void kve_values_yield(struct kv_db *db)
{
	if (kvp_load(&db->values.bytes) > values_limit(db))
		kve_values_shrink(db, YIELD_BYTES);
}

void kve_values_put(struct kv_db *db, const struct kvf_value_ref *ref, const void *bytes, bool push)
{
	struct kve_values *vc = &db->values;
	u32 len = le32_to_cpu(ref->payload_len), bucket;
	struct kve_value *v, *old;
	u64 limit;

	if (sizeof(*v) + (u64)len > vc->limit / 8)
		return;
	limit = values_limit(db);
	if (!push && kvp_load(&vc->bytes) + sizeof(*v) + len > limit)
		return;
	v = kvp_alloc(sizeof(*v) + len, 0);
	if (!v)
		return;
	v->place = place_of(ref);
	v->gen = le32_to_cpu(ref->segment_gen);
	v->lsn = le64_to_cpu(ref->lsn);
	v->len = len;
	v->hot = false;
	memcpy(v->bytes, bytes, len);
	bucket = bucket_of(vc, v->place);
	kvp_mutex_lock(&vc->lock);
	evict(vc, limit - sizeof(*v) - len);
	for (old = vc->bucket[bucket]; old; old = old->next)
		if (old->place == v->place && old->gen == v->gen)
			break;
	if (!old && vc->bytes + sizeof(*v) + len <= limit) {
		v->next = vc->bucket[bucket];
		vc->bucket[bucket] = v;
		kvp_store(&vc->bytes, vc->bytes + sizeof(*v) + len);
		v = NULL;
	}
	kvp_mutex_unlock(&vc->lock);
	kvp_free(v);
}

void kve_values_shrink(struct kv_db *db, u64 bytes)
{
	struct kve_values *vc = &db->values;

	kvp_mutex_lock(&vc->lock);
	evict(vc, vc->bytes > bytes ? vc->bytes - bytes : 0);
	kvp_mutex_unlock(&vc->lock);
}
