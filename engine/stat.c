/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stat.c - what a volume says of itself.
 */
#include "kve.h"

static void stat_space(struct kv_db *db, kv_stat_info *out)
{
	struct kve_space *sp = &db->space;
	u32 i;

	kvp_mutex_lock(&sp->lock);
	for (i = KVF_SEG_FIRST; i < sp->nr; i++) {
		out->segments_log += sp->seg[i].kind == KVF_KIND_LOG;
		out->segments_tree += sp->seg[i].kind == KVF_KIND_TREE;
	}
	out->segments_free = sp->free_nr;
	out->live_bytes = sp->live_bytes;
	out->tree_bytes = sp->tree_bytes;
	out->pending_free_bytes = sp->pending_bytes;
	out->snapshot_value_bytes = sp->pinned_bytes;
	out->snapshot_page_bytes = sp->held_bytes;
	kvp_mutex_unlock(&sp->lock);
}

/* Units of a TREE segment that its bitmap calls used, but for the header's. */
static u32 units_used(const u8 *map, u32 len)
{
	u32 i, n = 0;

	for (i = 1; i < len * 8; i++)
		n += map[i / 8] >> (i % 8) & 1;
	return n;
}

struct rows {
	const struct kvf_geometry *geo;
	kv_stat_info *out;
};

static int row_add(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 len)
{
	struct rows *r = arg;
	struct kvf_segment_entry e;
	struct kvf_free it;
	u32 i, blocks;

	(void)key_len;
	(void)flags;
	for (i = 0; key[0] == KVF_SEGTAB_BATCH && i + sizeof(it) <= len; i += sizeof(it)) {
		memcpy(&it, cell + i, sizeof(it));
		blocks = le32_to_cpu(it.blocks);
		r->out->pending_free_bytes += blocks == KVF_FREE_WHOLE ? r->geo->segment :
					      (u64)blocks << r->geo->block_shift;
	}
	if (key[0] != KVF_SEGTAB_SEGMENT || kvf_segment_entry_verify(cell, len, r->geo))
		return 0;
	memcpy(&e, cell, sizeof(e));
	r->out->segments_free += e.kind == KVF_KIND_FREE;
	r->out->segments_log += e.kind == KVF_KIND_LOG;
	r->out->segments_tree += e.kind == KVF_KIND_TREE;
	r->out->live_bytes += le64_to_cpu(e.live);
	r->out->tree_bytes += (u64)units_used(cell + sizeof(e), len - sizeof(e))
			      << (r->geo->unit_shift + r->geo->block_shift);
	return 0;
}

/* A reader has no use for the table: it is looked through when somebody asks. Damaged: no figures. */
static int stat_table(struct kv_db *db, kv_stat_info *out)
{
	kv_stat_info sum = { .segments = 0 };
	struct rows r = { .geo = &db->geo, .out = &sum };
	u8 *page = kvp_iobuf_alloc(db->geo.frame);
	int err;

	if (!page)
		return -KVE_no_memory;
	err = kve_tree_each(db->segtab, KVE_LIVE, NULL, 0, page, row_add, &r);
	kvp_iobuf_free(page, db->geo.frame);
	if (err)
		return err == -KVE_no_memory ? err : 0;
	out->segments_free = sum.segments_free;
	out->segments_log = sum.segments_log;
	out->segments_tree = sum.segments_tree;
	out->live_bytes = sum.live_bytes;
	out->tree_bytes = sum.tree_bytes;
	out->pending_free_bytes = sum.pending_free_bytes;
	return 0;
}

static void stat_volume(struct kv_db *db, kv_stat_info *out)
{
	memcpy(out->uuid, db->sb.uuid, sizeof(out->uuid));
	memcpy(out->label, db->sb.label, KVF_LABEL_BYTES);
	out->format_version = le32_to_cpu(db->sb.version);
	out->block_bytes = db->geo.block;
	out->segment_bytes = db->geo.segment;
	out->frame_bytes = db->geo.frame;
	out->window_bytes = db->geo.window;
	out->key_max = db->geo.key_max;
	out->inline_max = db->geo.inline_max;
	out->chunk_bytes = db->geo.chunk_bytes;
	out->segments = db->space.nr ? db->space.nr : le64_to_cpu(db->sb.segments);
	out->volume_bytes = out->segments * db->geo.segment + db->geo.block;
	out->max_bytes = le64_to_cpu(db->sb.bytes_max);
	out->generation = le64_to_cpu(db->sb.generation);
	out->incarnation = le32_to_cpu(db->sb.incarnation);
	out->replay_lsn = le64_to_cpu(db->sb.replay_lsn);
	out->durable_lsn = kvp_load_acquire(&db->log.durable_lsn);
	if (db->dev->ops->allocated)
		out->allocated_bytes = db->dev->ops->allocated(db->dev);
}

static void stat_counters(struct kv_db *db, kv_stat_info *out)
{
	out->cache_bytes = db->cache_bytes;
	out->cache_used_bytes = kve_frames_bytes(db) + kvp_load(&db->values.bytes);
	out->dirty_bytes = kvp_load(&db->cache.dirty) * db->geo.frame;
	out->puts = kvp_count_sum(&db->puts);
	out->gets = kvp_count_sum(&db->gets);
	out->dels = kvp_count_sum(&db->dels);
	out->commits = kvp_count_sum(&db->commits);
	out->syncs = kvp_load(&db->log.syncs);
	out->checkpoints = kvp_load(&db->checkpoints);
	out->device_reads = kvp_load(&db->dev->reads);
	out->device_writes = kvp_load(&db->dev->writes);
	out->device_flushes = kvp_load(&db->dev->flushes);
	out->device_read_bytes = kvp_load(&db->dev->read_bytes);
	out->device_write_bytes = kvp_load(&db->dev->write_bytes);
	out->cache_misses = kvp_load(&db->cache.misses);
	out->cache_hits = kvp_count_sum(&db->cache.hits);
	out->pages_healed = kvp_load(&db->cache.healed);
}

/* Readers that are too old hold nothing any more. */
static void stat_readers(struct kv_db *db, kv_stat_info *out)
{
	u64 freed = kvp_load(&db->space.freed_total);
	struct kv_read *r;

	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next) {
		out->readers++;
		if (kvp_load(&r->expired))
			continue;
		if (!out->reader_generation || r->gen < out->reader_generation)
			out->reader_generation = r->gen;
		out->reader_bytes = KVF_MAX(out->reader_bytes, freed - KVF_MIN(freed, r->freed_at));
	}
	kvp_mutex_unlock(&db->state);
	if (out->reader_generation)
		out->reader_bytes += kvp_load(&db->cache.shadows) * db->geo.frame;
}

int kv_stat(kv_db *db, kv_stat_info *out)
{
	struct kve_snapshot *s;
	struct kv_tree *t;
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	memset(out, 0, sizeof(*out));
	kvp_mutex_lock(&db->state);
	stat_volume(db, out);
	kvp_mutex_unlock(&db->state);
	if (kvp_load(&db->space.nr))
		stat_space(db, out);
	else
		err = stat_table(db, out);
	if (err)
		return kve_return(db, err);
	stat_counters(db, out);
	kvp_mutex_lock(&db->log.append);
	out->lsn = db->log.filled_lsn;
	kvp_mutex_unlock(&db->log.append);
	kvp_rwsem_down_read(&db->tree_lock);
	for (t = db->trees; t; t = t->next) {
		if (t->id < KVF_TREE_USER || t->dropped)
			continue;
		out->trees++;
		out->entries += kvp_load(&t->head.count);
	}
	kvp_rwsem_up_read(&db->tree_lock);
	stat_readers(db, out);
	kvp_mutex_lock(&db->state);
	for (s = db->snaps; s; s = s->next) {
		out->snapshots += s->durable && !s->gone;
		out->readers += s->uses;
	}
	kvp_mutex_unlock(&db->state);
	return 0;
}

int kv_health(kv_db *db, kv_health_info *out)
{
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	memset(out, 0, sizeof(*out));
	kvp_mutex_lock(&db->state);
	out->writable = !db->read_only && !db->degraded;
	out->error = db->degraded ? kvf_err_class(-db->degraded) : 0;
	if (db->degraded)
		kvp_snprintf(out->reason, sizeof(out->reason), "%s", db->reason);
	out->clean = db->clean;
	out->replayed = db->replayed;
	out->errors_nr = le32_to_cpu(db->sb.errors_nr);
	kvp_mutex_unlock(&db->state);
	return 0;
}
