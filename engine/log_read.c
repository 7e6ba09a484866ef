/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_read.c - reading records back: values by ref, the entries of a segment for its footer.
 *
 * A value is served only if header, key, LSN and both checksums agree with what the leaf says.
 */
#include "kve.h"

int kve_log_entry_add(struct kve_log *log, u32 offset, u32 bytes)
{
	struct kvf_footer_entry *e;
	u32 cap;

	if (log->entries_nr == log->entries_cap) {
		cap = log->entries_cap * 2 + 64;
		e = kvp_alloc_array(cap, sizeof(*e), 0);
		if (!e)
			return -KVE_no_memory;
		if (log->entries_nr)
			memcpy(e, log->entries, log->entries_nr * sizeof(*e));
		kvp_free(log->entries);
		log->entries = e;
		log->entries_cap = cap;
	}
	e = &log->entries[log->entries_nr++];
	e->offset = cpu_to_le32(offset);
	e->bytes = cpu_to_le32(bytes);
	log->value_bytes += bytes;
	return 0;
}

/*
 * A head segment that was resumed: the entries of the records before. Behind a damaged record the walk
 * goes on at the next block. Flush and writer lock.
 */
int kve_log_entries_complete(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kvf_footer_entry *later;
	u32 at = db->geo.block, need, bytes, later_nr = log->entries_nr, resumed = log->resumed, i;
	const struct kvf_record *r;
	struct kvf_identity id;
	u8 *buf;
	int err;

	if (!log->resumed)
		return 0;
	later = kvp_alloc_array(later_nr + 1, sizeof(*later), 0);
	buf = kvp_iobuf_alloc(log->resumed);
	err = later && buf ? kvp_dev_read(db->dev, kve_segment_offset(db, log->pos.segment), buf,
					  log->resumed) : -KVE_no_memory;
	if (err)
		goto out;
	if (later_nr)
		memcpy(later, log->entries, later_nr * sizeof(*later));
	log->entries_nr = 0;
	log->value_bytes = 0;
	kve_identity(db, log->pos.segment, log->pos.gen, log->pos.incarnation, &id);
	while (!err && at + sizeof(*r) <= log->resumed) {
		r = (const struct kvf_record *)(buf + at);
		if (kvf_record_verify(r, log->resumed - at, &id, at, &db->geo, &need)) {
			at = (u32)KVF_ROUND_UP(at + 1, db->geo.block);
			continue;
		}
		bytes = (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					      le32_to_cpu(r->payload_len));
		if (kve_record_separated(db, r))
			err = kve_log_entry_add(log, at, bytes);
		log->records++;
		at += bytes;
	}
	for (i = 0; !err && i < later_nr; i++)
		err = kve_log_entry_add(log, le32_to_cpu(later[i].offset), le32_to_cpu(later[i].bytes));
	if (!err)
		log->resumed = 0;
out:
	kvp_iobuf_free(buf, resumed);
	kvp_free(later);
	return err;
}

bool kve_record_separated(const struct kv_db *db, const struct kvf_record *r)
{
	if (r->kind != KVF_RECORD_PUT && r->kind != KVF_RECORD_EXTENT)
		return false;
	return !(r->flags & KVF_RECORD_OBJECT) &&
	       kve_separate(db, le16_to_cpu(r->key_len), le32_to_cpu(r->payload_len));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Bytes that are not at home yet come from the ring. False: all of it is at home. */
static bool read_ring(struct kv_db *db, const struct kvf_value_ref *ref, u32 bytes, u8 *buf, u32 *home)
{
	struct kve_log *log = &db->log;
	u32 from = le32_to_cpu(ref->offset), end = from + bytes, at, part;

	*home = bytes;
	if (!log->ring)
		return false;
	kvp_mutex_lock(&log->append);
	if (le32_to_cpu(ref->segment) == log->pos.segment &&
	    le32_to_cpu(ref->segment_gen) == log->pos.gen && end > log->written) {
		*home = from < log->written ? log->written - from : 0;
		from += *home;
		while (from < end) {
			at = from & (log->ring_bytes - 1);
			part = KVF_MIN(end - from, log->ring_bytes - at);
			memcpy(buf + (from - le32_to_cpu(ref->offset)), log->ring + at, part);
			from += part;
		}
	}
	kvp_mutex_unlock(&log->append);
	return *home < bytes;
}

/* Blocks that only the tail places or the window hold: read-only opening after a crash. */
static void patch(struct kv_db *db, u32 segment, u32 start, u8 *buf, u32 len)
{
	struct kve_patch *p;

	for (p = db->patches; p; p = p->next)
		if (p->segment == segment && p->offset >= start && p->offset < start + len)
			memcpy(buf + (p->offset - start), p->block, db->geo.block);
}

static int value_verify(struct kv_db *db, u32 tree, const struct kvf_value_ref *ref, const u8 *rec,
			u32 bytes, const void *key, u32 key_len)
{
	const struct kvf_record *r = (const struct kvf_record *)rec;
	struct kvf_identity id;
	u32 need;
	int finding;

	if (KVP_BUG("no-value-check"))
		return 0;
	kve_identity(db, le32_to_cpu(ref->segment), le32_to_cpu(ref->segment_gen),
		     le32_to_cpu(r->incarnation), &id);
	finding = kvf_record_verify(r, bytes, &id, le32_to_cpu(ref->offset), &db->geo, &need);
	if (finding)
		return finding;
	if (r->lsn != ref->lsn || le32_to_cpu(r->payload_len) != le32_to_cpu(ref->payload_len) ||
	    (u32)le64_to_cpu(r->payload_sum) != le32_to_cpu(ref->sum32) ||
	    kvf_record_ext_len(r) + le16_to_cpu(r->key_len) + sizeof(*r) != le16_to_cpu(ref->head_len))
		return KVF_F_value_mismatch;
	if (le32_to_cpu(r->tree) != tree || le16_to_cpu(r->key_len) != key_len ||
	    memcmp(kvf_record_key(r), key, key_len))
		return KVF_F_value_key;
	return kvf_record_payload_verify(r, rec + le16_to_cpu(ref->head_len), &id,
					 le32_to_cpu(ref->offset));
}

static int value_fetch(struct kv_db *db, const struct kvf_value_ref *ref, u32 bytes, u8 *buf, u32 skip)
{
	u32 segment = le32_to_cpu(ref->segment), start = le32_to_cpu(ref->offset) - skip, len, home;
	int err;

	/* The ring first: what is written home meanwhile is then read from there. */
	read_ring(db, ref, bytes, buf + skip, &home);
	if (!home)
		return 0;
	len = (u32)KVF_ROUND_UP(skip + home, db->geo.block);
	if (home == bytes) {
		err = kvp_dev_read(db->dev, kve_segment_offset(db, segment) + start, buf, len);
		if (!err)
			patch(db, segment, start, buf, len);
		return err;
	}
	/* Part of it in the ring: it begins at a block, so a read of the home blocks spares it. */
	return kvp_dev_read(db->dev, kve_segment_offset(db, segment) + start, buf,
			    (u32)KVF_ROUND_DOWN(skip + home, db->geo.block));
}

int kve_value_read(struct kv_db *db, u32 tree, const struct kvf_value_ref *ref, const void *key,
		   u32 key_len, void *out)
{
	u32 segment = le32_to_cpu(ref->segment), off = le32_to_cpu(ref->offset);
	u32 payload = le32_to_cpu(ref->payload_len), head = le16_to_cpu(ref->head_len);
	u32 skip = off & (db->geo.block - 1);
	u64 bytes = (u64)head + payload, room = KVF_ROUND_UP(skip + bytes, db->geo.block);
	int err, finding = KVF_F_value_bounds;
	char name[80];
	u8 *buf;

	if (head < sizeof(struct kvf_record) || off < db->geo.block || off % KVF_RECORD_ALIGN ||
	    off + bytes > db->geo.segment || segment < KVF_SEG_FIRST ||
	    kve_segment_offset(db, segment) >= kvp_load(&db->dev->size))
		goto bad;
	buf = kvp_iobuf_alloc((size_t)room);
	if (!buf)
		return -KVE_no_memory;
	err = value_fetch(db, ref, (u32)bytes, buf, skip);
	if (!err) {
		finding = value_verify(db, tree, ref, buf + skip, (u32)bytes, key, key_len);
		if (!finding)
			memcpy(out, buf + skip + head, payload);
	}
	kvp_iobuf_free(buf, (size_t)room);
	if (err)
		return err;
	if (!finding)
		return 0;
bad:
	kvf_key_to_text(name, sizeof(name), key, key_len);
	return kve_fail(db, KVE_corrupt_value, "key '%s': segment %u offset %u: %s; run 'kvs-fsck -n %s'",
			name, segment, off, kvf_finding_text(finding), db->dev->name);
}

int kve_value_get(struct kv_db *db, u32 tree, const struct kvf_value_ref *ref, const void *key,
		  u32 key_len, void *out, bool push)
{
	int err;

	if (kve_values_get(db, ref, out))
		return 0;
	err = kve_value_read(db, tree, ref, key, key_len, out);
	if (!err)
		kve_values_put(db, ref, out, push);
	return err;
}
