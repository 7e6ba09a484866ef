/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * gc_read.c - reading victims, and finding the records in them that live.
 *
 * A record is live if its key still refers to it: a lookup says so, of many keys side by side. What does not
 * verify stays where it is, with its key's ref, and keeps its segment from being freed; nothing else suffers.
 */
#include "gc.h"

#define NAME_BYTES 80u

void kve_gc_ref(struct kvf_value_ref *ref, const struct kvf_record *r, const struct kvf_identity *id,
		u32 offset)
{
	memset(ref, 0, sizeof(*ref));
	ref->segment = cpu_to_le32(id->segment);
	ref->segment_gen = cpu_to_le32(id->segment_gen);
	ref->offset = cpu_to_le32(offset);
	ref->payload_len = r->payload_len;
	ref->lsn = r->lsn;
	ref->sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
	ref->head_len = cpu_to_le16((u16)(sizeof(*r) + kvf_record_ext_len(r) + le16_to_cpu(r->key_len)));
}

static int payload_bad(struct kv_db *db, const struct kvf_record *r, const struct kvf_value_ref *ref)
{
	char name[NAME_BYTES];

	kvf_key_to_text(name, sizeof(name), kvf_record_key(r), le16_to_cpu(r->key_len));
	return kve_fail(db, KVE_corrupt_value, "key '%s': segment %u offset %u: %s; run 'kvs-fsck -n %s'",
			name, le32_to_cpu(ref->segment), le32_to_cpu(ref->offset),
			kvf_finding_text(KVF_F_record_payload), db->dev->name);
}

/* A live record goes to the round's buffer. */
static int record_take(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, const u8 *segment,
		       const struct kve_gc_record *live)
{
	const struct kvf_record *r = (const struct kvf_record *)(segment + live->at);
	int err;

	if (kvf_record_payload_verify(r, kvf_record_key(r) + le16_to_cpu(r->key_len), id, live->at)) {
		payload_bad(db, r, &live->old);
		return 0;
	}
	/* More than the counts said: another round's. */
	if (live->bytes > gc->memory.room - gc->used)
		return 0;
	err = kvp_array_room(&gc->record, &gc->cap, gc->nr, gc->nr + 1, sizeof(*gc->record));
	if (err)
		return err;
	memcpy(gc->memory.buf + gc->used, r, live->bytes);
	gc->record[gc->nr] = *live;
	gc->record[gc->nr++].at = gc->used;
	gc->used += live->bytes;
	return 0;
}

/* What a range delete hides is there until its leaf is purged, and its bytes count. */
static void hidden_look(struct kv_tree *t, struct kve_lookup *l, u32 nr)
{
	bool any = false;
	u32 i;

	for (i = 0; i < nr; i++) {
		if (l[i].err != -KVE_not_found)
			continue;
		l[i].err = -KVE_need_page;
		any = true;
	}
	if (any)
		kve_tree_get_many_locked(t, KVE_RAW, l, nr);
}

static bool refers(const struct kve_lookup *l, const struct kve_gc_record *gr)
{
	return !l->err && (l->e.flags & (KVF_CELL_KIND | KVF_CELL_POISON)) == KVF_CELL_REF &&
	       !memcmp(&l->e.ref, &gr->old, sizeof(gr->old));
}

/* Those of the group whose keys refer to them are taken. */
static int group_take(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, const u8 *segment)
{
	struct kve_gc_group *g = gc->group;
	u32 i, nr = g->nr;
	struct kv_tree *t;
	int err = 0;

	g->nr = 0;
	kvp_rwsem_down_read(&db->tree_lock);
	t = kve_tree_by_id(db, g->tree);
	kvp_rwsem_up_read(&db->tree_lock);
	if (!nr || !t || t->system || kvp_load(&t->dropped))
		return 0;
	kve_tree_get_many(t, KVE_LIVE, g->l, nr);
	if (kvp_load(&t->ranges))
		hidden_look(t, g->l, nr);
	for (i = 0; i < nr && !err; i++) {
		/* A leaf that cannot be read keeps what it refers to. */
		if (g->l[i].err == -KVE_no_memory)
			return -KVE_no_memory;
		g->record[i].tree = t;
		if (refers(&g->l[i], &g->record[i]))
			err = record_take(db, gc, id, segment, &g->record[i]);
	}
	return err;
}

/* A separated value stands at offset. */
static int group_add(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, const u8 *segment,
		     u32 offset, u32 bytes)
{
	const struct kvf_record *r = (const struct kvf_record *)(segment + offset);
	struct kve_gc_group *g = gc->group;
	struct kve_lookup *l;
	int err = 0;

	if (g->nr && (g->nr == KVE_GC_GROUP || g->tree != le32_to_cpu(r->tree)))
		err = group_take(db, gc, id, segment);
	if (err)
		return err;
	g->tree = le32_to_cpu(r->tree);
	l = &g->l[g->nr];
	memset(l, 0, sizeof(*l));
	l->key = kvf_record_key(r);
	l->key_len = le16_to_cpu(r->key_len);
	l->err = -KVE_need_page;
	kve_gc_ref(&g->record[g->nr].old, r, id, offset);
	g->record[g->nr].at = offset;
	g->record[g->nr++].bytes = bytes;
	return 0;
}

/* Record by record; behind a damaged one the walk goes on at the next that verifies. */
static int segment_walk(struct kv_db *db, struct kve_gc *gc, const struct kvf_identity *id, const u8 *segment)
{
	u32 at = db->geo.block, end = db->geo.segment, bytes, need;
	u64 seen = kve_snapshot_lsn(db);
	const struct kvf_record *r;
	int err = 0;

	gc->group->nr = 0;
	while (!err && at + sizeof(*r) <= end) {
		r = (const struct kvf_record *)(segment + at);
		if (le32_to_cpu(r->incarnation) != id->incarnation ||
		    kvf_record_verify(r, end - at, id, at, &db->geo, &need)) {
			at += KVF_RECORD_ALIGN;
			continue;
		}
		if (r->kind == KVF_RECORD_SEAL)
			break;
		bytes = (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					      le32_to_cpu(r->payload_len));
		/* What the newest snapshot sees stays, in a segment that has younger records as well. */
		if (kve_record_separated(db, r) &&
		    (le64_to_cpu(r->lsn) > seen || KVP_BUG("snap-gc-moves")))
			err = group_add(db, gc, id, segment, at, bytes);
		at += bytes;
	}
	return err ? err : group_take(db, gc, id, segment);
}

static int victim_take(struct kv_db *db, struct kve_gc *gc, u32 nr, const u8 *segment)
{
	struct kvf_identity id;
	u32 gen, incarnation;

	kvp_mutex_lock(&db->space.lock);
	gen = db->space.seg[nr].gen;
	incarnation = db->space.seg[nr].incarnation;
	kvp_mutex_unlock(&db->space.lock);
	kve_identity(db, nr, gen, incarnation, &id);
	return segment_walk(db, gc, &id, segment);
}

/* As many as there are lanes are on their way while one is looked at. */
static void victims_ask(struct kv_db *db, struct kve_gc *gc)
{
	struct kve_gc_lane *lane;

	for (; gc->asked < gc->victims && gc->asked - gc->read < gc->abreast; gc->asked++) {
		lane = &gc->lane[gc->asked % gc->abreast];
		kve_gc_io_add(db, lane, KVP_IO_READ, gc->victim[gc->asked], 0, db->geo.segment);
		kve_gc_io_start(db, lane);
	}
}

int kve_gc_read(struct kv_db *db, struct kve_gc *gc)
{
	struct kve_gc_lane *lane = &gc->lane[gc->read % gc->abreast];
	u32 victim = gc->victim[gc->read];
	int err;

	victims_ask(db, gc);
	err = kve_gc_io_wait(db, lane);
	if (err == -KVE_no_memory)
		return err;
	gc->read++;
	if (!err)
		return victim_take(db, gc, victim, lane->buf);
	/* What cannot be read stays, and does not keep the others. */
	kve_fail(db, KVE_io_read, "log segment %u: its values are not moved", victim);
	return 0;
}
