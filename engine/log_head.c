/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_head.c - the head segment of the log: made, resumed, and sealed when the next one takes over.
 *
 * A segment is sealed by writing what the ring still has of it, its footer, and the header of the next
 * head, all at once, in a flight that nobody waits for. The ring keeps the old bytes until it has landed,
 * below those of the new head, and readers of values find them there.
 */
#include "log_internal.h"

/* The segment that will follow the head. */
static int take_next(struct kv_db *db, enum kve_share share, u32 *segment, u32 *gen)
{
	int err = kve_segment_take(db, KVF_KIND_LOG, share, segment);

	if (err)
		return err;
	kvp_mutex_lock(&db->space.lock); /* the array moves when it grows */
	*gen = db->space.seg[*segment].gen;
	kvp_mutex_unlock(&db->space.lock);
	return 0;
}

/* Of a segment that is to be the head, in log->out. */
static void header_make(struct kv_db *db, const struct kve_logpos *head, u32 next_segment, u32 next_gen)
{
	struct kve_log *log = &db->log;
	struct kvf_segment_header *h = (struct kvf_segment_header *)log->out;
	struct kvf_identity id;

	memset(log->out, 0, db->geo.block);
	h->kind = KVF_KIND_LOG;
	h->next_segment = cpu_to_le32(next_segment);
	h->next_gen = cpu_to_le32(next_gen);
	h->first_lsn = cpu_to_le64(head->lsn);
	kve_identity(db, head->segment, head->gen, head->incarnation, &id);
	kvf_segment_header_seal(h, &id);
}

/* Its header is at home: a killed process must leave it behind. */
static void head_set(struct kv_db *db, const struct kve_logpos *head, u32 base, u32 next_segment,
		     u32 next_gen)
{
	struct kve_log *log = &db->log;
	struct kve_segment *s;
	u32 backed;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[head->segment];
	s->incarnation = head->incarnation;
	s->row_dirty = true;
	backed = s->asked;
	kvp_mutex_unlock(&db->space.lock);
	kvp_mutex_lock(&log->append);
	log->pos = *head;
	log->pos.offset = log->filled = log->written = log->sent = log->windowed = db->geo.block;
	log->base = base;
	log->next_segment = next_segment;
	log->next_gen = next_gen;
	log->next_backed = 0;
	log->backed = backed;
	log->entries_nr = log->records = 0;
	log->first_lsn = head->lsn;
	log->value_bytes = 0;
	log->resumed = 0;
	kvp_mutex_unlock(&log->append);
}

int kve_log_start(struct kv_db *db, u64 lsn)
{
	struct kve_logpos head = { .lsn = lsn, .incarnation = le32_to_cpu(db->sb.incarnation) };
	struct kve_log *log = &db->log;
	u32 next, next_gen;
	int err;

	kvp_mutex_lock(&log->flush);
	err = take_next(db, KVE_SHARE_ALL, &head.segment, &head.gen);
	if (!err)
		err = take_next(db, KVE_SHARE_ALL, &next, &next_gen);
	if (!err)
		err = kve_log_back(db, head.segment, db->geo.block);
	if (!err) {
		header_make(db, &head, next, next_gen);
		log->unsynced = true;
		err = kvp_dev_write(db->dev, kve_segment_offset(db, head.segment), log->out, db->geo.block,
				    0);
		if (err)
			err = kve_log_write_error(db, "header: write failed");
	}
	if (!err) {
		head_set(db, &head, 0, next, next_gen);
		log->filled_lsn = lsn - 1;
		log->durable_lsn = lsn - 1;
		log->place = -1;
	}
	kvp_mutex_unlock(&log->flush);
	return err;
}

/*
 * Room that must stay behind a record: SEAL record and footer with its entries. Those of a head that was
 * resumed are read when it is sealed; until then the most that it can have count.
 */
u32 kve_log_seal_room(const struct kv_db *db, u32 more)
{
	const struct kve_log *log = &db->log;

	if (log->resumed)
		more += (log->resumed - db->geo.block) /
			(u32)kvf_record_bytes(0, 1, (u64)db->geo.inline_max + 1);
	return (u32)(kvf_record_bytes(0, 0, 0) + kvf_footer_bytes(log->entries_nr + more));
}

/* Bytes of the blocks that the footer of the head takes. */
static u32 footer_room(const struct kv_db *db)
{
	return (u32)KVF_ROUND_UP((u32)kvf_footer_bytes(db->log.entries_nr), db->geo.block);
}

/* In buf, footer_room() bytes. */
static void footer_make(struct kv_db *db, u8 *buf)
{
	struct kve_log *log = &db->log;
	u32 room = footer_room(db), start = db->geo.segment - room;
	u32 tail = (u32)KVF_ROUND_UP(log->pos.offset, db->geo.block);
	struct kvf_identity id;
	struct kvf_footer *f;

	memset(buf, 0, room);
	/* The last block of records may be the first of the footer. */
	if (tail > start)
		memcpy(buf, log->ring + kve_log_ring_at(log, log->base, start), log->pos.offset - start);
	f = (struct kvf_footer *)(buf + room - sizeof(*f));
	if (log->entries_nr)
		memcpy((u8 *)f - log->entries_nr * sizeof(*log->entries), log->entries,
		       log->entries_nr * sizeof(*log->entries));
	f->entries = cpu_to_le32(log->entries_nr);
	f->end = cpu_to_le32(log->pos.offset);
	f->first_lsn = cpu_to_le64(log->first_lsn);
	f->last_lsn = cpu_to_le64(log->pos.lsn - 1);
	f->records = cpu_to_le32(log->records);
	f->value_bytes = cpu_to_le64(log->value_bytes);
	kve_log_identity(db, &id);
	kvf_footer_seal(f, &id);
}

static void seal_record(struct kv_db *db, struct kvf_record *r)
{
	struct kve_log *log = &db->log;
	struct kvf_identity id;

	memset(r, 0, (size_t)kvf_record_bytes(0, 0, 0));
	r->kind = KVF_RECORD_SEAL;
	r->lsn = cpu_to_le64(log->pos.lsn);
	r->attested = cpu_to_le64(kvp_load_acquire(&log->durable_lsn));
	r->txn_count = cpu_to_le32(1);
	kve_log_identity(db, &id);
	kvf_record_seal(r, &id, log->pos.offset, 0, NULL, 0);
}

#define SEAL_BYTES ((u32)kvf_record_bytes(0, 0, 0))

/*
 * Everything that may run out of space or memory, before the first byte of the SEAL record: the segment
 * behind the next head, and a buffer for the footer.
 */
static int switch_prepare(struct kv_db *db, enum kve_share share, u32 *segment, u32 *gen, u8 **footer)
{
	struct kve_log *log = &db->log;
	int err = take_next(db, share, segment, gen);

	if (err)
		return err;
	err = kve_log_back(db, log->pos.segment, db->geo.segment);
	if (!err)
		err = kve_log_back(db, log->next_segment, db->geo.block);
	if (!err)
		err = kve_log_entries_complete(db);
	*footer = err ? NULL : kvp_iobuf_alloc(footer_room(db));
	if (!err && !*footer)
		err = -KVE_no_memory;
	/* What the ring still has goes with the rest, if it has room. */
	while (!err && kve_log_ring_room(log) < SEAL_BYTES + db->geo.block)
		err = kve_log_room_make(db);
	if (err) {
		kvp_iobuf_free(*footer, footer_room(db));
		kve_segment_drop(db, *segment);
	}
	return err;
}

/* SEAL record into the ring; its block is final: zeros up to its end, unless the footer is there. */
static u32 seal_append(struct kv_db *db)
{
	u8 buf[sizeof(struct kvf_record) + KVF_RECORD_ALIGN] __attribute__((aligned(8)));
	struct kve_log *log = &db->log;
	u32 pad;

	KVP_BUILD_BUG_ON(sizeof(buf) < 64);
	seal_record(db, (struct kvf_record *)buf);
	kvp_mutex_lock(&log->append);
	kve_log_ring_put(log, log->pos.offset, buf, SEAL_BYTES);
	log->pos.offset += SEAL_BYTES;
	log->pos.lsn++;
	log->records++;
	pad = (u32)KVF_ROUND_UP(log->pos.offset, db->geo.block) - log->pos.offset;
	memset(log->ring + kve_log_ring_at(log, log->base, log->pos.offset), 0, pad);
	kvp_mutex_unlock(&log->append);
	return log->pos.offset + pad;
}

/* Log bytes of the head up to end, its footer, which is given away, and the header in log->out. */
static int ending_start(struct kv_db *db, u32 end, u8 *footer, const struct kve_logpos *head)
{
	struct kve_log *log = &db->log;
	u64 base = kve_segment_offset(db, log->pos.segment);
	u32 room = footer_room(db), start = db->geo.segment - room;
	struct kve_log_flight *f;
	unsigned int n;
	int err = kve_log_flight_new(db, &f);

	if (err) {
		kvp_iobuf_free(footer, room);
		return err;
	}
	/* A block that has both is the footer's. */
	n = kve_log_ring_ios(db, log->sent, KVF_MIN(end, start), f->io);
	kve_log_io_add(f->io, &n, base + start, footer, room);
	kve_log_io_add(f->io, &n, kve_segment_offset(db, head->segment), log->out, db->geo.block);
	f->footer = footer;
	f->footer_bytes = room;
	return kve_log_flight_start(db, f, n, end);
}

/* ---- on to the next -------------------------------------------------------------------------------- */

static void sealed(struct kv_db *db, u32 segment, u64 last_lsn)
{
	struct kve_segment *s;

	kvp_mutex_lock(&db->space.lock);
	s = &db->space.seg[segment];
	s->last_lsn = last_lsn;
	s->flags |= KVF_SEGMENT_SEALED | KVF_SEGMENT_FOOTER;
	s->row_dirty = true;
	kvp_mutex_unlock(&db->space.lock);
}

int kve_log_switch(struct kv_db *db, enum kve_share share)
{
	struct kve_log *log = &db->log;
	u32 segment, gen, end;
	struct kve_logpos head;
	u8 *footer;
	int err;

	kvp_mutex_lock(&log->flush);
	/* The block of headers is that of the last one, too. */
	err = kve_log_land_before(db);
	if (!err)
		err = switch_prepare(db, share, &segment, &gen, &footer);
	if (err)
		goto out;
	end = seal_append(db);
	footer_make(db, footer);
	head = log->pos;
	head.segment = log->next_segment;
	head.gen = log->next_gen;
	header_make(db, &head, segment, gen);
	err = ending_start(db, end, footer, &head);
	if (!err) {
		sealed(db, log->pos.segment, head.lsn - 1);
		kvp_store(&log->switched, true);
		head_set(db, &head, log->base + end - db->geo.block, segment, gen);
		kve_gc_wake(db);
	}
out:
	kvp_mutex_unlock(&log->flush);
	return err;
}

int kve_log_resume(struct kv_db *db)
{
	const struct kvf_super *sb = &db->sb;
	struct kve_log *log = &db->log;
	struct kvf_segment_header *h = (struct kvf_segment_header *)log->out;
	struct kvf_identity id;
	int err;

	log->pos.segment = le32_to_cpu(sb->replay_segment);
	log->pos.gen = le32_to_cpu(sb->replay_segment_gen);
	log->pos.incarnation = le32_to_cpu(sb->replay_incarnation);
	log->pos.offset = log->filled = log->windowed = le32_to_cpu(sb->replay_offset);
	log->written = log->sent = log->pos.offset;
	log->pos.lsn = le64_to_cpu(sb->replay_lsn);
	log->resumed = log->pos.offset;
	log->filled_lsn = log->durable_lsn = log->pos.lsn - 1;
	err = kvp_dev_read(db->dev, kve_segment_offset(db, log->pos.segment), h, db->geo.block);
	if (err)
		return err;
	kve_log_identity(db, &id);
	err = kvf_segment_header_verify(h, &id, KVF_KIND_LOG);
	if (err)
		return kve_fail(db, KVE_corrupt_log, "head segment %u: %s; run 'kvs-fsck -n %s'",
				log->pos.segment, kvf_finding_text(err), db->dev->name);
	log->first_lsn = le64_to_cpu(h->first_lsn);
	log->next_segment = le32_to_cpu(h->next_segment);
	log->next_gen = le32_to_cpu(h->next_gen);
	if (log->next_segment >= db->space.nr ||
	    db->space.seg[log->next_segment].kind != KVF_KIND_LOG ||
	    db->space.seg[log->next_segment].gen != log->next_gen)
		return kve_fail(db, KVE_corrupt_log, "head segment %u: its successor %u is not free",
				log->pos.segment, log->next_segment);
	return 0;
}
