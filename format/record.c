/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.c - records of the log and the extension that records and leaf entries share.
 *
 * The checksums of a record are seeded by its home: volume, segment, segment generation, incarnation
 * and offset. So a record verifies only at the place and in the life of the volume for which it was
 * made, wherever its bytes are read from (home, tail place or window).
 */
#include "kvf.h"

#define EXT_BYTES_MAX 64u

u64 kvf_record_seed(const struct kvf_identity *id, u32 offset)
{
	struct {
		u8 uuid[16];
		__le32 segment, segment_gen, incarnation, offset;
	} home;

	KVP_BUILD_BUG_ON(sizeof(home) != 32);
	memcpy(home.uuid, id->uuid, sizeof(home.uuid));
	home.segment = cpu_to_le32(id->segment);
	home.segment_gen = cpu_to_le32(id->segment_gen);
	home.incarnation = cpu_to_le32(id->incarnation);
	home.offset = cpu_to_le32(offset);
	return kvp_xxh64(&home, sizeof(home), 0);
}

/* From behind the sum to the end of the key. */
static u64 head_sum(const struct kvf_record *r, u32 ext_len, u64 seed)
{
	size_t skip = sizeof(r->sum);

	return kvp_xxh64((const u8 *)r + skip,
			 sizeof(*r) - skip + ext_len + le16_to_cpu(r->key_len), seed);
}

void kvf_record_seal(struct kvf_record *r, const struct kvf_identity *id, u32 offset, u32 ext_len,
		     const void *payload, u32 payload_len)
{
	u64 seed = kvf_record_seed(id, offset);

	r->incarnation = cpu_to_le32(id->incarnation);
	r->payload_sum = cpu_to_le64(kvp_xxh64(payload, payload_len, seed));
	r->sum = cpu_to_le64(head_sum(r, ext_len, seed));
}

u32 kvf_record_ext_len(const struct kvf_record *r)
{
	u32 len;

	if (!(r->flags & KVF_RECORD_EXT))
		return 0;
	len = ((const struct kvf_ext *)(r + 1))->units * 8u;
	return KVF_MIN(len, EXT_BYTES_MAX);
}

static u32 ones(u32 v)
{
	u32 n = 0;

	for (; v; v &= v - 1)
		n++;
	return n;
}

int kvf_ext_verify(const void *ext, u32 avail, u32 *len)
{
	struct kvf_ext e;
	u32 fields;

	*len = 0;
	if (avail < sizeof(e))
		return KVF_F_record_ext;
	memcpy(&e, ext, sizeof(e));
	fields = le16_to_cpu(e.fields);
	if (fields & ~KVF_EXT_FIELDS || e.type >= KVF_TYPES || e.reserved != cpu_to_le32(0))
		return KVF_F_record_ext;
	/* an extension that says nothing has no business here */
	if (e.units != 1 + ones(fields) || (!fields && e.type == KVF_TYPE_BYTES))
		return KVF_F_record_ext;
	if (e.units * 8u > avail)
		return KVF_F_record_ext;
	*len = e.units * 8u;
	return 0;
}

/* Do flags and lengths suit the kind? */
static bool kind_is_legal(const struct kvf_record *r, const struct kvf_geometry *g)
{
	u32 key = le16_to_cpu(r->key_len), payload = le32_to_cpu(r->payload_len);
	u32 flags = r->flags, legal = 0;
	bool ok;

	switch (r->kind) {
	case KVF_RECORD_PUT:
		legal = KVF_RECORD_EXT | KVF_RECORD_OBJECT | KVF_RECORD_COPY;
		ok = key && (!(flags & KVF_RECORD_OBJECT) || payload == sizeof(struct kvf_object));
		break;
	case KVF_RECORD_DELETE:
		legal = KVF_RECORD_EXT;
		ok = key && !payload;
		break;
	case KVF_RECORD_EXTENT:
		legal = KVF_RECORD_EXT | KVF_RECORD_COPY;
		ok = key;
		break;
	case KVF_RECORD_TREE_CREATE:
		ok = key && key <= KVF_TREE_NAME_MAX && payload <= sizeof(struct kvf_tree_head);
		break;
	case KVF_RECORD_TREE_DROP:
		ok = key && key <= KVF_TREE_NAME_MAX && !payload;
		break;
	case KVF_RECORD_RANGE_DELETE:
		ok = payload <= g->key_max;
		break;
	case KVF_RECORD_SEAL:
		ok = !key && !payload;
		break;
	case KVF_RECORD_PAD:
		ok = !key && payload < 2 * g->block;
		break;
	case KVF_RECORD_SNAPSHOT:
		ok = key && payload == sizeof(struct kvf_snapshot_op);
		break;
	default:
		return false;
	}
	return ok && key <= g->key_max && !(flags & ~legal);
}

/* What the fields say of each other, once the sum has shown that they are what was written. */
static int fields_verify(const struct kvf_record *r, const struct kvf_geometry *g)
{
	u64 lsn = le64_to_cpu(r->lsn);
	u32 count = le32_to_cpu(r->txn_count), index = le32_to_cpu(r->txn_index), ext_len;

	if (!kind_is_legal(r, g))
		return KVF_F_record_kind;
	if (r->flags & KVF_RECORD_EXT && kvf_ext_verify(r + 1, kvf_record_ext_len(r), &ext_len))
		return KVF_F_record_ext;
	if (!count || index >= count)
		return KVF_F_record_txn;
	/* the first of a transaction has an LSN of at least 1 too */
	if (lsn <= index)
		return KVF_F_record_lsn;
	/* a copy keeps its old LSN; what was durable when it was copied is newer */
	if (!(r->flags & KVF_RECORD_COPY) && le64_to_cpu(r->attested) >= lsn)
		return KVF_F_record_lsn;
	return 0;
}

/* The sum fails: say whether the record is whole but belongs to another incarnation. */
static int sum_finding(const struct kvf_record *r, u32 ext_len, const struct kvf_identity *id,
		       u32 offset)
{
	struct kvf_identity other = *id;

	other.incarnation = le32_to_cpu(r->incarnation);
	if (other.incarnation != id->incarnation &&
	    le64_to_cpu(r->sum) == head_sum(r, ext_len, kvf_record_seed(&other, offset)))
		return KVF_F_record_incarnation;
	return KVF_F_record_sum;
}

int kvf_record_verify(const struct kvf_record *r, u32 avail, const struct kvf_identity *id,
		      u32 offset, const struct kvf_geometry *g, u32 *need)
{
	u32 ext_len = 0, head;

	*need = 0;
	if (offset > g->segment || g->segment - offset < sizeof(*r) || avail < sizeof(*r))
		return KVF_F_record_size;
	if (kvf_is_zero(r, sizeof(*r)))
		return KVF_F_record_none;
	if (r->flags & KVF_RECORD_EXT) {
		head = sizeof(*r) + sizeof(struct kvf_ext);
		if (head > g->segment - offset)
			return KVF_F_record_size;
		if (head > avail) {
			*need = head;
			return KVF_F_record_size;
		}
		/* its length decides what the sum covers, so it comes first; the rest comes after */
		ext_len = kvf_record_ext_len(r);
		if (!ext_len)
			return KVF_F_record_ext;
	}
	if (offset + kvf_record_bytes(ext_len, le16_to_cpu(r->key_len),
				      le32_to_cpu(r->payload_len)) >
	    g->segment)
		return KVF_F_record_size;
	head = (u32)sizeof(*r) + ext_len + le16_to_cpu(r->key_len);
	if (head > avail) {
		*need = head;
		return KVF_F_record_size;
	}
	if (le64_to_cpu(r->sum) != head_sum(r, ext_len, kvf_record_seed(id, offset)))
		return sum_finding(r, ext_len, id, offset);
	if (le32_to_cpu(r->incarnation) != id->incarnation)
		return KVF_F_record_incarnation;
	return fields_verify(r, g);
}

int kvf_record_payload_verify(const struct kvf_record *r, const void *payload,
			      const struct kvf_identity *id, u32 offset)
{
	u64 sum = kvp_xxh64(payload, le32_to_cpu(r->payload_len), kvf_record_seed(id, offset));

	return sum == le64_to_cpu(r->payload_sum) ? 0 : KVF_F_record_payload;
}

int kvf_record_padding_verify(const struct kvf_record *r, const void *padding)
{
	u32 ext_len = kvf_record_ext_len(r), key_len = le16_to_cpu(r->key_len);
	u32 payload_len = le32_to_cpu(r->payload_len);
	u64 used = (u64)sizeof(*r) + ext_len + key_len + payload_len;

	if (!kvf_is_zero(padding, (size_t)(kvf_record_bytes(ext_len, key_len, payload_len) - used)))
		return KVF_F_record_padding;
	return 0;
}
