/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * recover.c - opening after an unclean end.
 *
 *  1. Find the end of the log: the cut. Nothing is changed.
 *  2. Writable: a flush, so that what was read stays; a superblock with a new incarnation and the cut,
 *     in both groups. From here on the old timeline cannot come back, and a crash leads back to this
 *     point.
 *  3. Bring home what only tail places and window hold.
 *  4. Apply the records below the cut, with checkpoints on the way when the cache is full. Changes of
 *     entries that follow one another are applied in groups, in their order, as a batch is; whatever else
 *     the log has ends a group, and so does the end of a segment, whose bytes the group refers to.
 *  5. Start a new segment with the new incarnation, checkpoint.
 *
 * Read-only: 1, 3 and 4 in memory.
 *
 * Tail rule (CONTRACT C8): the log must reach the attested LSN; a bad header before is corruption, a bad
 * payload poisons its key. Above it, the first bad record ends the log, and a transaction that is not
 * complete is dropped. An earlier recovery that was cut short may have torn blocks that it was bringing
 * home: then the log ends before its cut, never after it, and never before the attested LSN.
 */
#include "range.h"

/* LSNs [from, to) belong to transactions that were given up. */
struct dropped {
	u64 from, to;
};

/* A segment of the log, as the first scan saw it. */
struct link {
	struct kve_logpos from; /* its first record */
	u64 attested;		/* what had been until there */
	bool elsewhere;		/* some record was not whole at home */
};

#define GROUP KVE_LEAVES

struct replay {
	struct kv_db *db;
	u64 until;     /* the log ends before this LSN; 0: where it ends */
	u64 cut;       /* found: replay records below */
	u64 attested;
	u64 first_bad; /* payload above the attested LSN that is damaged, 0: none */
	u64 bad_start; /* and where its transaction begins */
	u64 txn_start;
	u32 txn_next, txn_count;
	struct dropped *dropped;
	u32 dropped_nr, dropped_cap;
	u64 records;
	struct link *chain;
	u32 chain_nr, chain_cap;
	struct kve_op *group;
	u32 group_nr, group_most;
};

/* ---- 1: the end ---------------------------------------------------------------------------------- */

static int drop_add(struct replay *rp, u64 from, u64 to)
{
	u32 nr = rp->dropped_nr;

	if (kvp_array_room(&rp->dropped, &rp->dropped_cap, nr, nr + 1, sizeof(*rp->dropped)))
		return -KVE_no_memory;
	rp->dropped[rp->dropped_nr].from = from;
	rp->dropped[rp->dropped_nr++].to = to;
	return 0;
}

/* Follow transactions: cut is behind the last complete one. */
static int txn_track(struct replay *rp, const struct kvf_record *r)
{
	u32 index = le32_to_cpu(r->txn_index), count = le32_to_cpu(r->txn_count);
	u64 lsn = le64_to_cpu(r->lsn);
	int err = 0;

	if (r->kind == KVF_RECORD_SEAL) {
		if (!rp->txn_count)
			rp->cut = lsn + 1;
		return 0;
	}
	if (index == 0) {
		if (rp->txn_count)
			err = drop_add(rp, rp->txn_start, lsn);
		rp->txn_start = lsn;
		rp->txn_next = 0;
		rp->txn_count = count;
	}
	/* A part of a transaction whose beginning is not there. */
	if (!rp->txn_count || index != rp->txn_next || count != rp->txn_count)
		return -KVE_corrupt_record;
	if (++rp->txn_next == count) {
		rp->txn_count = 0;
		rp->cut = lsn + 1;
	} else if (KVP_BUG("txn-partial")) {
		rp->cut = lsn + 1;
	}
	return err;
}

static int chain_track(struct replay *rp, const struct kve_scan *sc, const struct kve_scan_record *rec)
{
	struct link *l = rp->chain_nr ? &rp->chain[rp->chain_nr - 1] : NULL;
	u32 nr = rp->chain_nr;

	if (!l || l->from.segment != rec->segment || l->from.gen != rec->gen) {
		if (kvp_array_room(&rp->chain, &rp->chain_cap, nr, nr + 1, sizeof(*l)))
			return -KVE_no_memory;
		l = &rp->chain[rp->chain_nr++];
		kve_scan_pos(sc, &l->from);
		l->from.segment = rec->segment;
		l->from.gen = rec->gen;
		l->from.offset = rec->offset;
		l->from.lsn = le64_to_cpu(rec->r->lsn);
		l->attested = rp->attested;
		l->elsewhere = false;
	}
	l->elsewhere |= rec->elsewhere;
	rp->attested = kve_scan_attested(sc);
	return 0;
}

static int end_find(struct replay *rp, struct kve_scan *sc)
{
	struct kve_scan_record rec;
	struct kve_logpos pos;
	u64 lsn;
	int err;

	while (!(err = kve_scan_next(sc, rp->until, &rec))) {
		lsn = le64_to_cpu(rec.r->lsn);
		err = txn_track(rp, rec.r);
		if (!err)
			err = chain_track(rp, sc, &rec);
		if (err)
			break;
		if (rec.poison && lsn > kve_scan_attested(sc) && !rp->first_bad) {
			rp->first_bad = lsn;
			/* Not lsn less index: a SEAL in the middle of a transaction takes an LSN, too. */
			rp->bad_start = rp->txn_start;
		}
		if (rp->first_bad && rp->first_bad <= kve_scan_attested(sc))
			rp->first_bad = 0;
		kvp_resched();
	}
	if (err != -KVE_end)
		return err;
	if (!rp->until) {
		err = kve_scan_beyond(sc);
		if (err != -KVE_end && err)
			return err;
	}
	rp->attested = kve_scan_attested(sc);
	kve_scan_pos(sc, &pos);
	if (rp->first_bad && rp->first_bad > rp->attested)
		rp->cut = KVF_MIN(rp->cut, rp->bad_start);
	if (pos.lsn <= rp->attested && !KVP_BUG("attested-ignored"))
		return kve_fail(rp->db, KVE_corrupt_log, "record %llu in segment %u at offset %u is damaged, "
				"and %llu was durable; run 'kvs-fsck -n %s'", pos.lsn, pos.segment,
				pos.offset, rp->attested, rp->db->dev->name);
	return 0;
}

/* from, attested so far: a segment of the chain, NULL: the first one. */
static int scan_for(struct replay *rp, const struct link *l, bool patches,
		    int (*fn)(struct replay *rp, struct kve_scan *sc))
{
	const struct kvf_super *sb = &rp->db->sb;
	struct link first = { .attested = le64_to_cpu(sb->attested_lsn) };
	struct kve_scan *sc;
	int err, end;

	first.from.lsn = le64_to_cpu(sb->replay_lsn);
	first.from.segment = le32_to_cpu(sb->replay_segment);
	first.from.gen = le32_to_cpu(sb->replay_segment_gen);
	first.from.offset = le32_to_cpu(sb->replay_offset);
	first.from.incarnation = le32_to_cpu(sb->replay_incarnation);
	l = l ? l : &first;
	err = kve_scan_open(rp->db, &l->from, l->attested, patches, &sc);
	if (err)
		return err;
	err = fn(rp, sc);
	end = kve_scan_close(sc);
	return err ? err : end;
}

/* ---- 3: bring home ------------------------------------------------------------------------------- */

/* The segment belongs to the log, whatever the table of the last checkpoint says. */
static int chain_mark(struct kv_db *db, u32 nr, u32 gen, u64 last_lsn)
{
	struct kve_segment *s;

	if (db->read_only)
		return 0;
	if (nr >= db->space.nr && kve_space_extend(db, nr + 1))
		return -KVE_no_memory;
	s = &db->space.seg[nr];
	if (s->kind == KVF_KIND_FREE) {
		s->kind = KVF_KIND_LOG;
		db->space.log_nr++;
		s->gen = gen;
		db->space.free_nr--;
	}
	if (s->kind != KVF_KIND_LOG || s->gen != gen)
		return kve_fail(db, KVE_corrupt_log, "segment %u: %s; run 'kvs-fsck -n %s'", nr,
				kvf_finding_text(KVF_F_table_kind), db->dev->name);
	s->last_lsn = KVF_MAX(s->last_lsn, last_lsn);
	s->incarnation = le32_to_cpu(db->sb.replay_incarnation);
	s->row_dirty = true;
	return 0;
}

static int collect(struct replay *rp, struct kve_scan *sc)
{
	struct kve_scan_record rec;
	int err;

	while (!(err = kve_scan_next(sc, rp->cut, &rec)))
		if ((err = chain_mark(rp->db, rec.segment, rec.gen, le64_to_cpu(rec.r->lsn))))
			break;
	return err == -KVE_end ? 0 : err;
}

/*
 * The segments of the log, and what of them has to be brought home: nothing, up to the first one with a
 * record that the first scan did not find whole at home.
 */
static int collect_all(struct replay *rp)
{
	const struct link *l = rp->chain;
	u32 i;
	int err = 0;

	for (i = 0; i + 1 < rp->chain_nr && !l->elsewhere && l[1].from.lsn < rp->cut && !err; i++, l++)
		err = chain_mark(rp->db, l->from.segment, l->from.gen, l[1].from.lsn - 1);
	return err ? err : scan_for(rp, l, true, collect);
}

static void patches_free(struct kv_db *db)
{
	struct kve_patch *p;

	while ((p = db->patches)) {
		db->patches = p->next;
		kvp_iobuf_free(p->block, db->geo.block);
		kvp_free(p);
	}
}

void kve_recover_exit(struct kv_db *db)
{
	patches_free(db);
}

static int bring_home(struct kv_db *db)
{
	struct kve_patch *p;
	int err = 0;

	for (p = db->patches; p && !err; p = p->next)
		err = kvp_dev_write(db->dev, kve_segment_offset(db, p->segment) + p->offset, p->block,
				    db->geo.block, 0);
	if (!err)
		err = kvp_dev_flush(db->dev);
	patches_free(db);
	return err;
}

/* ---- 4: apply ------------------------------------------------------------------------------------ */

static int apply_tree(struct kv_db *db, const struct kve_scan_record *rec)
{
	u32 id = le32_to_cpu(rec->r->tree), len = le16_to_cpu(rec->r->key_len);
	struct kv_tree *t = kve_tree_by_id(db, id);

	if (rec->r->kind == KVF_RECORD_TREE_DROP) {
		if (!t)
			return -KVE_corrupt_record;
		kve_tree_drop_apply(db, t);
		return 0;
	}
	if (t || id < KVF_TREE_USER || kvf_tree_name_verify(rec->key, len))
		return -KVE_corrupt_record;
	t = kve_tree_add(db, id, (const char *)rec->key, len);
	if (!t)
		return -KVE_no_memory;
	t->created_gen = t->head.gen = db->open_gen;
	t->created = kvp_now_ns();
	t->row_dirty = true;
	return 0;
}

static int apply_range(struct kv_db *db, const struct kve_scan_record *rec)
{
	struct kv_tree *t = kve_tree_by_id(db, le32_to_cpu(rec->r->tree));
	struct kve_range *r;

	if (!t || t->id < KVF_TREE_USER || t->dropped)
		return -KVE_corrupt_record;
	/* Up to where is not known, and what was deleted must not be served. */
	if (rec->poison)
		return kve_fail(db, KVE_corrupt_log, "range delete %llu: %s; run 'kvs-fsck -n %s'",
				(u64)le64_to_cpu(rec->r->lsn), kvf_finding_text(KVF_F_record_payload),
				db->dev->name);
	r = kve_range_new(db, rec->key, le16_to_cpu(rec->r->key_len), rec->payload,
			  le32_to_cpu(rec->r->payload_len));
	if (!r)
		return -KVE_no_memory;
	kve_range_apply(t, r, le64_to_cpu(rec->r->lsn));
	return 0;
}

static void object_seen(struct kv_db *db, const struct kve_op *op)
{
	u64 object = op->key_len >= KVE_OBJECT_ROW_BYTES ? kvf_get_be64((const u8 *)op->key + 1) : 0;

	if (op->tree == db->objects && object >= db->next_object)
		db->next_object = object + 1;
}

/* Some of the bytes are those of the scan, up to the next segment. */
static int entry_op(struct kv_db *db, const struct kve_scan_record *rec, struct kve_op *op)
{
	const struct kvf_record *r = rec->r;

	*op = (struct kve_op){ .kind = r->kind, .key = rec->key, .value = rec->payload, .flags = r->flags,
			       .lsn = le64_to_cpu(r->lsn), .poison = rec->poison };
	op->key_len = le16_to_cpu(r->key_len);
	op->value_len = le32_to_cpu(r->payload_len);
	op->tree = kve_tree_by_id(db, le32_to_cpu(r->tree));
	if (!op->tree || op->tree->system || !op->key_len || op->key_len > db->geo.key_max)
		return -KVE_corrupt_record;
	if ((r->flags & KVF_RECORD_OBJECT) && op->value_len != sizeof(struct kvf_object))
		return -KVE_corrupt_record;
	op->separated = r->kind != KVF_RECORD_DELETE && kve_record_separated(db, r);
	op->ref.segment = cpu_to_le32(rec->segment);
	op->ref.segment_gen = cpu_to_le32(rec->gen);
	op->ref.offset = cpu_to_le32(rec->offset);
	op->ref.payload_len = r->payload_len;
	op->ref.lsn = r->lsn;
	op->ref.sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
	op->ref.head_len = cpu_to_le16((u16)(rec->payload - (const u8 *)r));
	if (op->poison && !op->separated) {
		op->value_len = 0;
		op->flags &= (u8)~KVF_RECORD_OBJECT;
	}
	object_seen(db, op);
	return 0;
}

static int group_apply(struct replay *rp)
{
	u32 nr = rp->group_nr;

	rp->group_nr = 0;
	return nr ? kve_tree_apply(rp->db, rp->group, nr) : 0;
}

static bool on_entry(const struct kvf_record *r)
{
	return (r->kind == KVF_RECORD_PUT || r->kind == KVF_RECORD_DELETE || r->kind == KVF_RECORD_EXTENT) &&
	       !(r->flags & KVF_RECORD_COPY);
}

/* All that precedes it has been applied, but for the group, which an entry joins. */
static int apply_record(struct replay *rp, const struct kve_scan_record *rec)
{
	struct kv_db *db = rp->db;
	u8 kind = rec->r->kind;
	struct kve_op *op;
	int err;

	if (kind == KVF_RECORD_SEAL || kind == KVF_RECORD_PAD || (rec->r->flags & KVF_RECORD_COPY))
		return 0;
	if (on_entry(rec->r)) {
		op = &rp->group[rp->group_nr];
		if (KVP_BUG("group-unordered") && rp->group_nr) {
			*op = rp->group[0];
			op = &rp->group[0];
		}
		err = entry_op(db, rec, op);
		rp->group_nr += !err;
	} else if (kind == KVF_RECORD_TREE_CREATE || kind == KVF_RECORD_TREE_DROP) {
		err = apply_tree(db, rec);
	} else if (kind == KVF_RECORD_RANGE_DELETE) {
		err = apply_range(db, rec);
	} else {
		return kve_fail(db, KVE_unsupported, "record %llu is of a newer version",
				(u64)le64_to_cpu(rec->r->lsn));
	}
	if (err == -KVE_corrupt_record)
		return kve_fail(db, KVE_corrupt_record, "record %llu in segment %u at offset %u contradicts "
				"what precedes it; run 'kvs-fsck -n %s'", (u64)le64_to_cpu(rec->r->lsn),
				rec->segment, rec->offset, db->dev->name);
	return err;
}

static bool is_dropped(const struct replay *rp, u64 lsn)
{
	u32 i;

	for (i = 0; i < rp->dropped_nr; i++)
		if (lsn >= rp->dropped[i].from && lsn < rp->dropped[i].to)
			return true;
	return false;
}

/* Half of the cache is dirty: a checkpoint, if no transaction is open at the position. */
static int checkpoint_look(struct replay *rp, struct kve_scan *sc)
{
	struct kv_db *db = rp->db;
	struct kve_logpos pos;
	int err;

	kve_scan_pos(sc, &pos);
	if (db->read_only || db->cache.dirty <= db->cache.limit / 2 || is_dropped(rp, pos.lsn))
		return 0;
	err = group_apply(rp);
	return err ? err : kve_checkpoint(db, &pos, false, true);
}

static int apply_records(struct replay *rp, struct kve_scan *sc)
{
	struct kv_db *db = rp->db;
	struct kve_scan_record rec;
	bool whole, dropped;
	int err;

	while (!(err = kve_scan_next(sc, rp->cut, &rec))) {
		whole = le32_to_cpu(rec.r->txn_index) + 1 == le32_to_cpu(rec.r->txn_count);
		dropped = is_dropped(rp, le64_to_cpu(rec.r->lsn));
		if (rp->group_nr == rp->group_most || (!on_entry(rec.r) && !KVP_BUG("group-too-long")))
			err = group_apply(rp);
		if (!err && !dropped)
			err = apply_record(rp, &rec);
		if (err)
			return err;
		rp->records++;
		db->changed = true;
		kve_gen_changed(db);
		kvp_resched();
		err = whole ? checkpoint_look(rp, sc) : 0;
		if (err)
			return err;
	}
	return err == -KVE_end ? group_apply(rp) : err;
}

static int apply_all(struct replay *rp, struct kve_scan *sc)
{
	int err;

	/* Its leaves are in memory all at once. */
	rp->group_most = (u32)KVF_MIN(rp->db->cache.limit / 8, (u64)GROUP);
	rp->group = kvp_alloc_array(rp->group_most, sizeof(*rp->group), 0);
	if (!rp->group)
		return -KVE_no_memory;
	err = apply_records(rp, sc);
	kvp_free(rp->group);
	rp->group = NULL;
	return err;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static int fence(struct replay *rp)
{
	struct kv_db *db = rp->db;
	struct kvf_super *sb;
	int err;

	if (KVP_BUG("old-timeline"))
		return 0;
	sb = kvp_alloc(sizeof(*sb), 0);
	if (!sb)
		return -KVE_no_memory;
	*sb = db->sb;
	sb->cut_lsn = cpu_to_le64(KVP_BUG("no-cut") ? 0 : rp->cut);
	sb->incarnation = cpu_to_le32(le32_to_cpu(sb->incarnation) + 1);
	sb->flags = cpu_to_le32(le32_to_cpu(sb->flags) & ~KVF_SUPER_CLEAN);
	sb->next_lsn = cpu_to_le64(KVF_MAX(le64_to_cpu(sb->next_lsn), rp->cut));
	err = kve_super_write(db, sb);
	kvp_free(sb);
	return err;
}

/* LSNs that the old timeline may have used beyond the cut are skipped: 2^32 of them. */
static u64 fresh_lsn(const struct replay *rp)
{
	u64 lsn = KVF_MAX(rp->cut, le64_to_cpu(rp->db->sb.next_lsn));

	return KVP_BUG("old-timeline") ? rp->cut : ((lsn >> 32) + 1) << 32;
}

static void logs_seal(struct kv_db *db)
{
	u32 i;

	for (i = KVF_SEG_FIRST; i < db->space.nr; i++) {
		if (db->space.seg[i].kind != KVF_KIND_LOG)
			continue;
		db->space.seg[i].flags |= KVF_SEGMENT_SEALED;
		db->space.seg[i].row_dirty = true;
	}
}

static int recover_write(struct replay *rp)
{
	struct kv_db *db = rp->db;
	/* What was read may not be durable yet: the process died, its device did not. */
	int err = kvp_dev_flush(db->dev);

	if (err)
		return kve_degrade(db, KVE_indeterminate, "flush before recovery failed");
	err = fence(rp);
	if (!err)
		err = bring_home(db);
	if (err)
		return err;
	db->marked = true;
	logs_seal(db);
	err = scan_for(rp, NULL, false, apply_all);
	if (!err)
		err = kve_log_start(db, fresh_lsn(rp));
	if (!err)
		err = kve_checkpoint(db, NULL, false, true);
	return err;
}

int kve_recover(struct kv_db *db)
{
	struct replay rp = { .db = db, .cut = le64_to_cpu(db->sb.replay_lsn) };
	int err;

	if (db->sb.incarnation != db->sb.replay_incarnation)
		rp.until = le64_to_cpu(db->sb.cut_lsn);
	rp.attested = le64_to_cpu(db->sb.attested_lsn);
	err = scan_for(&rp, NULL, false, end_find);
	/* The process that died may have used again what these batches free. */
	if (!err && !db->read_only)
		kve_space_apply(db, le64_to_cpu(db->sb.oldest_intact), KVE_LIVE);
	if (!err)
		err = collect_all(&rp);
	if (!err)
		err = db->read_only ? scan_for(&rp, NULL, false, apply_all) : recover_write(&rp);
	kvp_free(rp.dropped);
	kvp_free(rp.chain);
	db->replayed = rp.records;
	if (!err && rp.records)
		kvp_log(&db->logger, KVP_LOG_INFO, "%s: not closed cleanly: %llu records replayed",
			db->dev->name, rp.records);
	return err;
}
