/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * db.c - a volume from its device: creating, opening, closing.
 *
 * The device belongs to the volume from kve_open() on. What opens devices by path stands in the port.
 */
#include "range.h"
#include "kve_open.h"

#define CACHE_DEFAULT (64ull << 20)
#define CACHE_MIN (1ull << 20)
#define CHECKPOINT_DEFAULT (64ull << 20)

/* ---- the handle ------------------------------------------------------------------------------- */

static void options_apply(struct kv_db *db, const kv_options *opt)
{
	db->read_only = opt->flags & KV_OPEN_READONLY;
	db->no_thread = opt->flags & KV_OPEN_NOTHREAD;
	db->durability = opt->durability ? opt->durability : KV_KILL_SAFE;
	db->logger.fn = opt->log;
	db->logger.arg = opt->log_arg;
	db->logger.level = opt->log || opt->log_level ? opt->log_level : KV_LOG_WARN;
	db->read_pin_bytes = opt->read_pin_bytes;
	db->checkpoint_bytes = opt->checkpoint_bytes ? opt->checkpoint_bytes : CHECKPOINT_DEFAULT;
	db->cache_bytes = opt->cache_bytes ? opt->cache_bytes : CACHE_DEFAULT;
	if (db->cache_bytes < CACHE_MIN)
		db->cache_bytes = CACHE_MIN;
}

static struct kv_db *db_new(struct kvp_dev *dev, const kv_options *opt)
{
	struct kv_db *db = kvp_alloc(sizeof(*db), KVP_ZERO);

	if (!db)
		return NULL;
	db->dev = dev;
	db->process = kvp_process_id();
	options_apply(db, opt);
	kvp_mutex_init(&db->ckpt_lock, "checkpoint", KVE_RANK_CHECKPOINT);
	kvp_gate_init(&db->writer, "writer", KVE_RANK_WRITER);
	kvp_rwsem_init(&db->tree_lock, "tree", KVE_RANK_TREE);
	kvp_mutex_init(&db->marks, "marks", KVE_RANK_MARKS);
	kvp_mutex_init(&db->state, "state", KVE_RANK_STATE);
	kvp_cond_init(&db->wake);
	kvp_cond_init(&db->done);
	kve_space_init(db);
	kve_gc_init(db);
	kvp_mutex_init(&db->cache.lock, "cache", KVE_RANK_CACHE);
	kvp_mutex_init(&db->values.lock, "values", KVE_RANK_CACHE);
	kve_log_init(db);
	kve_tickets_init(db);
	db->next_tree = KVF_TREE_USER;
	db->next_object = 1;
	db->segments_before = KVE_LIVE;
	return db;
}

static void trees_free(struct kv_db *db)
{
	struct kve_head *h;
	struct kv_tree *t;

	while ((t = db->trees)) {
		db->trees = t->next;
		kve_ranges_free(t);
		kve_detach_free(t->detach);
		while ((h = t->shadow)) {
			t->shadow = h->next;
			kvp_free(h);
		}
		kvp_free(t);
	}
}

/* Nothing is written. The device is the caller's. */
static void db_free(struct kv_db *db)
{
	kve_tickets_exit(db);
	kve_worker_stop(db);
	kve_gc_exit(db);
	kve_recover_exit(db);
	trees_free(db);
	kve_snapshots_exit(db);
	kve_image_free(db, db->scratch);
	kve_cache_exit(db);
	kve_values_exit(db);
	kvp_free(db->sep);
	kve_log_exit(db);
	kve_space_exit(db);
	kvp_cond_destroy(&db->done);
	kvp_cond_destroy(&db->wake);
	kvp_mutex_destroy(&db->state);
	kvp_rwsem_destroy(&db->tree_lock);
	kvp_mutex_destroy(&db->marks);
	kvp_gate_destroy(&db->writer);
	kvp_mutex_destroy(&db->ckpt_lock);
	kvp_free(db);
}

static struct kv_tree *system_tree(struct kv_db *db, u32 id, const char *name, const struct kvf_ref *root)
{
	struct kv_tree *t = kve_tree_add(db, id, name, (u32)strlen(name));

	if (!t)
		return NULL;
	t->system = true;
	t->twin = true;
	t->head.ref = *root;
	return t;
}

/* What needs the geometry. */
static int db_prepare(struct kv_db *db)
{
	int err = kve_cache_init(db, db->cache_bytes - db->cache_bytes / 4);

	if (!err)
		err = kve_values_init(db, db->cache_bytes / 4);
	if (!err)
		err = kve_log_buffers(db);
	if (err)
		return err;
	db->scratch = kve_image_alloc(db);
	db->sep = kvp_alloc(db->geo.key_max, 0);
	db->forest = system_tree(db, KVF_TREE_FOREST, "forest", &db->sb.forest);
	db->segtab = system_tree(db, KVF_TREE_SEGTAB, "segment table", &db->sb.segtab);
	if (!db->scratch || !db->sep || !db->forest || !db->segtab)
		return -KVE_no_memory;
	return 0;
}

/* ---- opening ---------------------------------------------------------------------------------- */

static int window_open(struct kv_db *db)
{
	int err;

	if (db->read_only || !db->geo.window)
		return 0;
	err = kvp_dev_window_map(db->dev, kve_segment_offset(db, KVF_SEG_TAIL) + db->geo.window_offset,
				 db->geo.window);
	/* Without it, acknowledgements wait for the write: slower, not less safe. */
	db->window = !err;
	return err == -KVE_unsupported ? 0 : err;
}

int kve_cut_short(struct kv_db *db, u64 want)
{
	if (!db->read_only)
		return kve_fail(db, KVE_truncated,
				"%llu bytes, but it had %llu; open it read-only to save what is left: "
				"'kvs dump %s'",
				db->dev->size, want, db->dev->name);
	/* Not an error of this call, but of the volume: whoever asks for its health is told. */
	(void)kve_degrade(db, KVE_truncated, "%llu bytes, but it had %llu: salvage only, the newest changes "
			  "may be missing", db->dev->size, want);
	return 0;
}

static int size_check(struct kv_db *db)
{
	u64 want = le64_to_cpu(db->sb.segments) << db->geo.segment_shift;

	if (db->dev->align > db->geo.block)
		return kve_fail(db, KVE_unsupported, "blocks of %u bytes on a medium with sectors of %u",
				db->geo.block, db->dev->align);
	return db->dev->size < want ? kve_cut_short(db, want) : 0;
}

static int db_load(struct kv_db *db)
{
	int err = kve_super_load(db);

	if (!err)
		err = size_check(db);
	if (!err)
		err = db_prepare(db);
	if (err)
		return err;
	db->clean = le32_to_cpu(db->sb.flags) & KVF_SUPER_CLEAN;
	db->open_gen = le64_to_cpu(db->sb.generation) + 1;
	db->next_tree = le32_to_cpu(db->sb.next_tree);
	db->next_object = le64_to_cpu(db->sb.next_object);
	if (!db->read_only)
		err = kve_segtab_load(db);
	if (!err)
		err = kve_forest_load(db);
	if (!err)
		err = window_open(db);
	if (err)
		return err;
	if (!db->clean)
		return kve_recover(db);
	return db->read_only ? 0 : kve_log_resume(db);
}

int kve_open(struct kvp_dev *dev, const kv_options *opt, struct kv_db **out)
{
	struct kv_db *db = db_new(dev, opt);
	int err;

	if (!db)
		return -KVE_no_memory;
	if (dev->read_only)
		db->read_only = true;
	err = db_load(db);
	if (!err && !db->read_only)
		err = kve_pending_doom(db, KVE_LIVE);
	if (!err)
		err = kve_worker_start(db);
	if (err) {
		db_free(db);
		return err;
	}
	*out = db;
	return 0;
}

/* ---- creating --------------------------------------------------------------------------------- */

static int log2_of(u64 v)
{
	int n = 0;

	while (v > 1 && !(v & 1)) {
		v >>= 1;
		n++;
	}
	return v == 1 ? n : -1;
}

#define WINDOW_FIRST (64u << 10) /* of it, that a new file has space for */

/* Large volumes get large segments: the table stays below 64 Ki rows. */
static u32 segment_choose(u64 bytes)
{
	u32 segment = 512u << 10;

	while (segment < KVF_SEGMENT_MAX && bytes / segment > 65536)
		segment *= 2;
	return segment;
}

#define WINDOW_MAX (1024u << 10)

static int geometry_choose(struct kv_db *db, const kv_options *opt)
{
	u64 bytes = db->dev->growable ? opt->max_bytes : db->dev->size;
	u32 block = opt->block_bytes ? opt->block_bytes : 4096;
	u32 segment = opt->segment_bytes ? opt->segment_bytes : segment_choose(bytes);
	u32 frame = opt->frame_bytes ? opt->frame_bytes : 16384, window = opt->window_bytes;

	if (!opt->segment_bytes && bytes && bytes < 16ull * segment)
		segment = 65536;
	while (!opt->frame_bytes && frame > KVF_FRAME_MIN && frame > segment - 2 * block)
		frame /= 2;
	if (!window)
		window = segment >= (256u << 10) ? KVF_MIN(segment / 2, WINDOW_MAX) : 0;
	if (window == 1)
		window = 0;
	if (log2_of(block) < 0 || log2_of(segment) < 0 || log2_of(frame) < 0 ||
	    (window && log2_of(window) < 0) || block < db->dev->align ||
	    kvf_geometry_derive(&db->geo, (u8)log2_of(block), (u8)log2_of(segment), (u8)log2_of(frame),
				window ? (u8)log2_of(window) : 0, 0, 0))
		return kve_fail(db, KVE_bad_geometry, "block %u, segment %u, frame %u, window %u", block,
				segment, frame, window);
	db->sb.block_shift = db->geo.block_shift;
	db->sb.segment_shift = db->geo.segment_shift;
	db->sb.frame_shift = db->geo.frame_shift;
	db->sb.window_shift = window ? (u8)log2_of(window) : 0;
	db->sb.inline_max = cpu_to_le32(db->geo.inline_max);
	db->sb.chunk_bytes = cpu_to_le32(db->geo.chunk_bytes);
	return 0;
}

static int super_begin(struct kv_db *db, const kv_options *opt)
{
	static const u8 none[16];
	struct kvf_super *sb = &db->sb;
	size_t len = 0;

	if (memcmp(opt->uuid, none, 16)) {
		memcpy(sb->uuid, opt->uuid, 16);
	} else {
		kvp_random(sb->uuid, 16);
		sb->uuid[6] = (u8)((sb->uuid[6] & 0x0f) | 0x40);
		sb->uuid[8] = (u8)((sb->uuid[8] & 0x3f) | 0x80);
	}
	while (len < KVF_LABEL_BYTES && opt->label[len])
		len++;
	memcpy(sb->label, opt->label, len);
	sb->bytes_max = cpu_to_le64(db->dev->growable ? opt->max_bytes : 0);
	sb->incarnation = sb->replay_incarnation = cpu_to_le32(1);
	sb->tail_gen = cpu_to_le32(1);
	sb->created = cpu_to_le64(kvp_now_ns() / 1000000000);
	kve_identity_set(db);
	return geometry_choose(db, opt);
}

/* Old superblocks must not be found again; TAIL is empty. */
static int areas_write(struct kv_db *db, bool fresh)
{
	u32 i, bytes = KVF_GROUP_SLOTS * KVF_BLOCK_MAX, window = db->geo.window;
	u8 *buf = kvp_iobuf_alloc(bytes);
	int err = buf ? 0 : -KVE_no_memory;
	struct kvf_segment_header *h = (struct kvf_segment_header *)buf;
	struct kvf_identity id;

	if (err)
		return err;
	/* A new file has nothing there, and gets space for the window when it is used. */
	if (fresh)
		window = KVF_MIN(window, WINDOW_FIRST);
	window += db->geo.window_offset;
	memset(buf, 0, bytes);
	bytes = KVF_MIN(bytes, db->geo.segment);
	err = kvp_dev_write(db->dev, 0, buf, bytes, 0);
	if (!err)
		err = kvp_dev_write(db->dev, kve_segment_offset(db, KVF_SEG_SUPER_B), buf, bytes, 0);
	if (!err && db->geo.window)
		err = kvp_dev_allocate(db->dev, kve_segment_offset(db, KVF_SEG_TAIL), window, KVP_WRITTEN);
	/* A device may hold an older volume's log there. */
	for (i = db->geo.block; !err && i < (db->geo.window ? window : 3 * db->geo.block); i += db->geo.block)
		err = kvp_dev_write(db->dev, kve_segment_offset(db, KVF_SEG_TAIL) + i, buf, db->geo.block, 0);
	h->kind = KVF_KIND_TAIL;
	h->next_segment = cpu_to_le32(KVF_NO_SEGMENT);
	kve_identity(db, KVF_SEG_TAIL, 1, 0, &id);
	kvf_segment_header_seal(h, &id);
	if (!err)
		err = kvp_dev_write(db->dev, kve_segment_offset(db, KVF_SEG_TAIL), buf, db->geo.block, 0);
	kvp_iobuf_free(buf, KVF_GROUP_SLOTS * KVF_BLOCK_MAX);
	return err;
}

/* Segments at first: 2 LOG, 2 TREE, and a device at once all that it has. */
static int segments_begin(struct kv_db *db)
{
	u64 max = le64_to_cpu(db->sb.bytes_max);
	u64 least = KVF_SEG_FIRST + 4, nr = least;
	u64 have = ((db->dev->growable ? max : db->dev->size) - db->geo.block) >> db->geo.segment_shift;
	int err = 0;

	if (!db->dev->growable)
		nr = KVF_MIN(have, (u64)KVF_SEGMENTS_MAX);
	if ((!db->dev->growable || max) && have < least + 3)
		return kve_fail(db, KVE_too_small, "at least %llu bytes are needed with segments of %u",
				((least + 3) << db->geo.segment_shift) + db->geo.block, db->geo.segment);
	if (db->dev->growable)
		err = kvp_dev_resize(db->dev, (nr << db->geo.segment_shift) + db->geo.block);
	if (!err)
		err = kve_space_extend(db, (u32)nr);
	db->sb.segments = cpu_to_le64(nr);
	return err;
}

static int trees_begin(struct kv_db *db)
{
	struct kv_tree *t;

	db->objects = kve_tree_add(db, KVF_TREE_OBJECTS, "", 0);
	db->next_tree = KVF_TREE_USER;
	db->main = db->objects ? kve_tree_add(db, KVF_TREE_USER, KVF_TREE_DEFAULT_NAME, 4) : NULL;
	if (!db->main)
		return -KVE_no_memory;
	for (t = db->trees; t; t = t->next) {
		t->created_gen = t->system ? 0 : 1;
		t->created = kvp_now_ns();
		t->row_dirty = !t->system;
	}
	return 0;
}

static int db_create(struct kv_db *db, const kv_options *opt)
{
	bool fresh = db->dev->growable && !db->dev->size;
	int err = super_begin(db, opt);

	if (!err)
		err = segments_begin(db);
	if (!err)
		err = areas_write(db, fresh);
	if (!err)
		err = db_prepare(db);
	if (!err)
		err = trees_begin(db);
	if (err)
		return err;
	db->open_gen = 1;
	db->marked = true;
	err = kve_log_start(db, 1);
	if (!err)
		err = kve_checkpoint(db, NULL, true, true);
	if (!err)
		err = kve_super_copy(db);
	return err;
}

int kve_create(struct kvp_dev *dev, const kv_options *opt)
{
	struct kv_db *db = db_new(dev, opt);
	int err;

	if (!db)
		return -KVE_no_memory;
	err = db_create(db, opt);
	db_free(db);
	return err;
}

/* ---- closing ---------------------------------------------------------------------------------- */

static int db_finish(struct kv_db *db)
{
	int i, err;

	if (db->read_only || !db->marked)
		return 0;
	if (kvp_load(&db->degraded))
		return -KVE_degraded;
	err = kve_checkpoint(db, NULL, true, true);
	/*
	 * Two states have to do without what was left out, to cut it off, or replaced, to have it free; a
	 * third one is without the rows of that, which each opening would read.
	 */
	for (i = 0; i < 3 && !err && (kve_tail_due(db) || kve_space_waits(db)); i++)
		err = kve_checkpoint(db, NULL, true, true);
	if (!err)
		err = kve_super_copy(db);
	return err;
}

int kve_close(struct kv_db *db)
{
	int err;

	if (db->process != kvp_process_id())
		return -KVE_forked;
	if (db->readers || kvp_load(&db->handles))
		return kve_fail(db, KVE_in_use, "cursors, read transactions, batches or streams are open");
	kve_tickets_finish(db);
	kve_worker_stop(db);
	kve_gc_stop(db);
	err = db_finish(db);
	db_free(db);
	return err;
}

void kve_abandon(struct kv_db *db)
{
	struct kv_read *r;

	kve_worker_stop(db);
	while ((r = db->readers)) {
		db->readers = r->next;
		kvp_free(r);
	}
	db_free(db);
}
