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
	kvp_mutex_unlock(&sp->lock);
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
	out->cache_used_bytes = kve_frames_bytes(db);
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

int kv_stat(kv_db *db, kv_stat_info *out)
{
	struct kv_read *r;
	struct kv_tree *t;
	int err = kve_enter(db, false);

	if (err)
		return kve_return(db, err);
	memset(out, 0, sizeof(*out));
	kvp_mutex_lock(&db->state);
	stat_volume(db, out);
	kvp_mutex_unlock(&db->state);
	if (db->space.nr)
		stat_space(db, out);
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
	kvp_mutex_lock(&db->state);
	for (r = db->readers; r; r = r->next)
		out->readers++;
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
