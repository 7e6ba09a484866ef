/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_append.c - records on their way into the ring: the operations of a transaction, one after the other,
 * or a single one beside others.
 */
#include "log_internal.h"

/* Copy len bytes to the end of the log, as the ring gets room for them. */
static int put_bytes(struct kv_db *db, const void *data, u64 len)
{
	struct kve_log *log = &db->log;
	u32 part;
	int err;

	while (len) {
		kvp_mutex_lock(&log->append);
		part = (u32)KVF_MIN(len, (u64)kve_log_ring_room(log));
		kve_log_ring_put(log, log->pos.offset, data, part);
		log->pos.offset += part;
		kvp_mutex_unlock(&log->append);
		len -= part;
		data = (const u8 *)data + part;
		if (len) {
			kvp_mutex_lock(&log->flush);
			err = kve_log_room_make(db);
			kvp_mutex_unlock(&log->flush);
			if (err)
				return err;
		}
	}
	return 0;
}

/* Header and key of the next record, in r. Append lock, or writer lock exclusive. */
static void record_build(struct kv_db *db, const struct kve_op *op, u32 index, u32 count,
			 struct kvf_record *r)
{
	struct kve_log *log = &db->log;
	struct kvf_identity id;

	memset(r, 0, sizeof(*r));
	r->kind = op->kind;
	r->flags = op->flags;
	r->key_len = cpu_to_le16((u16)op->key_len);
	r->payload_len = cpu_to_le32(op->value_len);
	r->lsn = cpu_to_le64(log->pos.lsn);
	r->attested = cpu_to_le64(kvp_load_acquire(&log->durable_lsn));
	r->tree = cpu_to_le32(op->tree ? op->tree->id : 0);
	r->txn_index = cpu_to_le32(index);
	r->txn_count = cpu_to_le32(count);
	memcpy(r + 1, op->key, op->key_len);
	kve_log_identity(db, &id);
	kvf_record_seal(r, &id, log->pos.offset, 0, op->value, op->value_len);
}

/* The record stands in the ring from start on. Append lock. */
static void record_done(struct kv_db *db, struct kve_op *op, const struct kvf_record *r, u32 start, u32 bytes)
{
	struct kve_log *log = &db->log;

	op->lsn = log->pos.lsn++;
	memset(&op->ref, 0, sizeof(op->ref));
	op->ref.segment = cpu_to_le32(log->pos.segment);
	op->ref.segment_gen = cpu_to_le32(log->pos.gen);
	op->ref.offset = cpu_to_le32(start);
	op->ref.payload_len = cpu_to_le32(op->value_len);
	op->ref.lsn = r->lsn;
	op->ref.sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
	op->ref.head_len = cpu_to_le16((u16)(sizeof(*r) + op->key_len));
	log->records++;
	kvp_store(&db->last_ckpt_pos, db->last_ckpt_pos + bytes);
}

static const u8 zeros[KVF_RECORD_ALIGN];

/* All of it at once: the ring has room. Append lock. */
static void record_put(struct kv_db *db, struct kve_op *op, u32 index, u32 count, u32 bytes)
{
	struct kve_log *log = &db->log;
	u32 start = log->pos.offset, head = (u32)sizeof(struct kvf_record) + op->key_len;
	u32 at = kve_log_ring_at(log, log->base, start), rest = bytes - head - op->value_len;
	struct kvf_record *r = (struct kvf_record *)log->head;

	if (at + bytes <= log->ring_bytes) {
		r = (struct kvf_record *)(log->ring + at);
		record_build(db, op, index, count, r);
		if (op->value_len)
			memcpy((u8 *)r + head, op->value, op->value_len);
		memset((u8 *)r + bytes - rest, 0, rest);
	} else {
		record_build(db, op, index, count, r);
		kve_log_ring_put(log, start, r, head);
		kve_log_ring_put(log, start + head, op->value, op->value_len);
		kve_log_ring_put(log, start + bytes - rest, zeros, rest);
	}
	log->pos.offset = start + bytes;
	record_done(db, op, r, start, bytes);
}

/* Piece by piece, written home in between. Writer lock. */
static int record_pour(struct kv_db *db, struct kve_op *op, u32 index, u32 count, u32 bytes)
{
	struct kve_log *log = &db->log;
	struct kvf_record *r = (struct kvf_record *)log->head;
	u32 start = log->pos.offset, head = (u32)sizeof(*r) + op->key_len;
	int err;

	record_build(db, op, index, count, r);
	err = put_bytes(db, r, head);
	if (!err)
		err = put_bytes(db, op->value, op->value_len);
	if (!err)
		err = put_bytes(db, zeros, bytes - head - op->value_len);
	if (err)
		return err;
	kvp_mutex_lock(&log->append);
	record_done(db, op, r, start, bytes);
	kvp_mutex_unlock(&log->append);
	return 0;
}

/* Header and key in front of the payload; the record is complete with its last byte. */
static int append_record(struct kv_db *db, struct kve_op *op, u32 index, u32 count)
{
	u32 bytes = (u32)kvf_record_bytes(0, op->key_len, op->value_len);
	struct kve_log *log = &db->log;
	bool fits;

	kvp_mutex_lock(&log->append);
	fits = bytes <= kve_log_ring_room(log);
	if (fits)
		record_put(db, op, index, count, bytes);
	kvp_mutex_unlock(&log->append);
	return fits ? 0 : record_pour(db, op, index, count, bytes);
}

/*
 * Room that must stay behind a record, for a PAD as well: a checkpoint of a full volume, which may be all
 * that can free anything, needs no other segment then.
 */
static u32 room_behind(const struct kv_db *db, u32 more)
{
	return kve_log_seal_room(db, more) + db->geo.block + (u32)kvf_record_bytes(0, 0, 0);
}

/* Does a record of these bytes need no more than the append lock? Append lock. */
static bool fits(const struct kv_db *db, const struct kve_op *op, u32 bytes)
{
	const struct kve_log *log = &db->log;

	return log->pos.segment != KVF_NO_SEGMENT &&
	       log->pos.offset + bytes + room_behind(db, 1) <= log->backed &&
	       bytes <= kve_log_ring_room(log) && (!op->separated || log->entries_nr < log->entries_cap);
}

/* The same of a single one. Append lock. */
static bool single_fits(const struct kv_db *db, const struct kve_op *op, u32 bytes, bool kill_safe)
{
	return fits(db, op, bytes) &&
	       (!kill_safe || (db->window && kve_log_window_fits(db, db->log.pos.offset + bytes)));
}

int kve_log_append_single(struct kv_db *db, struct kve_op *op, bool kill_safe, int more)
{
	u32 bytes = (u32)kvf_record_bytes(0, op->key_len, op->value_len);
	struct kve_log *log = &db->log;
	int err = 0;

	kvp_mutex_lock(&log->append);
	if (!single_fits(db, op, bytes, kill_safe)) {
		kvp_mutex_unlock(&log->append);
		return -KVE_restart;
	}
	if (op->separated)
		err = kve_log_entry_add(log, log->pos.offset, bytes);
	if (!err) {
		record_put(db, op, 0, 1, bytes);
		log->filled = log->pos.offset;
		log->filled_lsn = op->lsn;
		if (kill_safe)
			err = kve_log_window_store(db);
	}
	/* Here, because the line is ours anyway. */
	if (!err)
		kvp_store(&op->tree->head.count, op->tree->head.count + (u64)(s64)more);
	kve_log_writer_poke(db);
	kvp_mutex_unlock(&log->append);
	return err;
}

#define RUN_MAX 64u /* others wait for the append lock */

/* Records from i on as long as it is simple; how many. Writer lock. */
static u32 append_run(struct kv_db *db, struct kve_op *ops, u32 i, u32 nr)
{
	u32 first = i, end = KVF_MIN(nr, i + RUN_MAX), bytes;
	struct kve_log *log = &db->log;

	kvp_mutex_lock(&log->append);
	for (; i < end; i++) {
		bytes = (u32)kvf_record_bytes(0, ops[i].key_len, ops[i].value_len);
		if (!fits(db, &ops[i], bytes) ||
		    (ops[i].separated && kve_log_entry_add(log, log->pos.offset, bytes)))
			break;
		record_put(db, &ops[i], i, nr, bytes);
	}
	kve_log_writer_poke(db);
	kvp_mutex_unlock(&log->append);
	return i - first;
}

/* Chunks that are deleted were given up long ago: nobody can be told that there is no space. */
static enum kve_share share_of(const struct kve_op *op, bool privileged)
{
	if (!privileged)
		return KVE_SHARE_NONE;
	return op->tree && op->tree->id == KVF_TREE_OBJECTS ? KVE_SHARE_ALL : KVE_SHARE_FREEING;
}

/* Space for a record of this size in the head segment, or a new head. */
static int make_room(struct kv_db *db, const struct kve_op *op, bool privileged)
{
	struct kve_log *log = &db->log;
	u32 bytes = (u32)kvf_record_bytes(0, op->key_len, op->value_len);
	u32 end = log->pos.offset + bytes + kve_log_seal_room(db, op->separated ? 1 : 0);
	u32 step = KVF_MIN(KVF_MAX(db->geo.segment / 8, db->geo.block), KVE_LOG_STEP);
	int err = 0;

	/* What is too long for that has a segment of its own. */
	if (end > db->geo.segment || (log->pos.offset > db->geo.block &&
	    log->pos.offset + bytes + room_behind(db, op->separated ? 1 : 0) > db->geo.segment)) {
		err = kve_log_switch(db, share_of(op, privileged));
		if (err)
			return err;
		end = log->pos.offset + bytes + kve_log_seal_room(db, 1);
	}
	if (end > kvp_load(&log->backed)) {
		end = (u32)KVF_MIN(KVF_ROUND_UP(end, step), (u64)db->geo.segment);
		err = kve_log_back(db, log->pos.segment, end);
	}
	if (!err && op->separated)
		err = kve_log_entry_add(log, log->pos.offset, bytes);
	return err;
}

/*
 * On an error the records so far stay in the log as a transaction that has no end: replay drops it when
 * the next one begins.
 */
int kve_log_append(struct kv_db *db, struct kve_op *ops, u32 nr)
{
	struct kve_log *log = &db->log;
	int err = 0;
	u32 i;

	for (i = 0; !err; i++) {
		i += append_run(db, ops, i, nr);
		if (i == nr)
			break;
		err = make_room(db, &ops[i], kve_op_frees(&ops[i]));
		if (!err)
			err = append_record(db, &ops[i], i, nr);
	}
	kvp_mutex_lock(&log->append);
	log->filled = log->pos.offset;
	log->filled_lsn = log->pos.lsn - 1;
	kve_log_writer_poke(db);
	kvp_mutex_unlock(&log->append);
	return err;
}

/*
 * The log goes on at a block, with a PAD record in front: once it is synced all of it is at home, and no
 * block that holds durable bytes is written again. So a replay position leaves nothing behind it that
 * only a tail place holds. Writer lock.
 */
int kve_log_pad(struct kv_db *db)
{
	struct kve_op op = { .kind = KVF_RECORD_PAD, .key = db->log.pad, .value = db->log.pad };
	struct kve_log *log = &db->log;
	u32 least = (u32)kvf_record_bytes(0, 0, 0), rest;
	int err;

	if (log->pos.segment == KVF_NO_SEGMENT)
		return 0;
	rest = (u32)KVF_ROUND_UP(log->pos.offset, db->geo.block) - log->pos.offset;
	if (!rest)
		return 0;
	if (rest < least)
		rest += db->geo.block;
	if (log->pos.offset + rest + kve_log_seal_room(db, 1) > db->geo.segment) {
		err = kve_log_switch(db, KVE_SHARE_ALL);
	} else {
		op.value_len = rest - (u32)sizeof(struct kvf_record);
		err = kve_log_back(db, log->pos.segment, log->pos.offset + rest);
		if (!err)
			err = append_record(db, &op, 0, 1);
	}
	kvp_mutex_lock(&log->append);
	log->filled = log->pos.offset;
	log->filled_lsn = log->pos.lsn - 1;
	kvp_mutex_unlock(&log->append);
	return err;
}
