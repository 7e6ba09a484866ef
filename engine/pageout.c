/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pageout.c - pages of a frozen generation on their way to the medium.
 *
 * A page is packed under the shared tree lock, with the refs of its resident children put into its
 * slots; then it gets a place, is sealed, and passes all that a read checks, but for the sums that were
 * just made, before it may be written (a memory fault must not get a fresh checksum). Pages collect in a
 * buffer; neighbours on the medium go out as one write. While one buffer is on its way the next one fills.
 * A frame stays pinned until its write is done; when that fails it is dirty again, and so is all that
 * followed.
 */
#include "kve.h"

#define BUFFER_BYTES (1u << 20)
#define PAGES_MAX 512u

struct sheaf {
	u8 *buf;
	u32 used;
	struct kve_frame *frame[PAGES_MAX];
	u32 frames;
	struct kvp_io io[2 * PAGES_MAX];
	u32 ios;
	struct kvp_batch batch;
	bool under_way;
};

struct kve_pageout {
	struct kv_db *db;
	u64 gen;
	struct kve_batch_items *freed;
	u32 bytes; /* of each buffer */
	struct sheaf *now; /* fills; the other one may be under way */
	struct sheaf sheaf[2];
	bool placed;
};

static void memory_free(struct kve_pageout *po)
{
	kvp_iobuf_free(po->sheaf[0].buf, po->bytes);
	kvp_iobuf_free(po->sheaf[1].buf, po->bytes);
	kvp_free(po);
}

int kve_pageout_new(struct kv_db *db, u64 gen, struct kve_batch_items *freed, struct kve_pageout **out)
{
	struct kve_pageout *po = kvp_alloc(sizeof(*po), KVP_ZERO);

	if (!po)
		return -KVE_no_memory;
	po->db = db;
	po->gen = gen;
	po->freed = freed;
	po->bytes = KVF_MIN(BUFFER_BYTES, db->geo.frame * 32);
	po->now = po->sheaf;
	po->sheaf[0].buf = kvp_iobuf_alloc(po->bytes);
	po->sheaf[1].buf = kvp_iobuf_alloc(po->bytes);
	if (!po->sheaf[0].buf || !po->sheaf[1].buf) {
		memory_free(po);
		return -KVE_no_memory;
	}
	*out = po;
	return 0;
}

/* What their refs name was not written: a later checkpoint does it. */
static void dirty_again(struct kve_pageout *po, struct sheaf *sh)
{
	u32 i;

	kvp_rwsem_down_write(&po->db->tree_lock);
	for (i = 0; i < sh->frames; i++)
		if (!sh->frame[i]->zombie)
			kve_mark_dirty(po->db, sh->frame[i]);
	kvp_rwsem_up_write(&po->db->tree_lock);
}

static void sheaf_start(struct kve_pageout *po, struct sheaf *sh)
{
	if (sh->ios) {
		kvp_dev_start(po->db->dev, &sh->batch, sh->io, sh->ios);
		sh->under_way = true;
	}
}

/* Its frames stay pinned. */
static int sheaf_wait(struct kve_pageout *po, struct sheaf *sh)
{
	int err = sh->under_way ? kvp_dev_finish(po->db->dev, &sh->batch) : 0;

	sh->under_way = false;
	return err;
}

static void sheaf_empty(struct sheaf *sh)
{
	while (sh->frames)
		kve_frame_unpin(sh->frame[--sh->frames]);
	sh->ios = 0;
	sh->used = 0;
}

static int failed(struct kve_pageout *po, int err)
{
	if (err && err != -KVE_no_space && err != -KVE_no_memory)
		return kve_degrade(po->db, KVE_io_write, "pages of generation %llu could not be written",
				   po->gen);
	return err;
}

/* All that was added is written. */
int kve_pageout_flush(struct kve_pageout *po)
{
	int err, err_now;
	u32 i;

	sheaf_start(po, po->now);
	if (KVP_BUG("pageout-unawaited"))
		return 0;
	err = sheaf_wait(po, &po->sheaf[0]);
	err_now = sheaf_wait(po, &po->sheaf[1]);
	err = err ? err : err_now;
	for (i = 0; i < 2; i++) {
		if (err)
			dirty_again(po, &po->sheaf[i]);
		sheaf_empty(&po->sheaf[i]);
	}
	return failed(po, err);
}

/* The other buffer fills from here on. */
static int turn(struct kve_pageout *po)
{
	struct sheaf *other = po->now == po->sheaf ? po->sheaf + 1 : po->sheaf;
	int err = KVP_BUG("pageout-early-reuse") ? 0 : sheaf_wait(po, other);

	if (err) {
		/* What fills now may name what was not written. */
		dirty_again(po, other);
		if (!KVP_BUG("pageout-forgets-next"))
			dirty_again(po, po->now);
		sheaf_empty(po->now);
	} else {
		sheaf_start(po, po->now);
		po->now = other;
	}
	sheaf_empty(other);
	return failed(po, err);
}

void kve_pageout_free(struct kve_pageout *po)
{
	/* After an error half way: the frames count as written. */
	kve_pageout_flush(po);
	memory_free(po);
}

/* Behind the last write if it continues it on the medium and in memory. */
static void io_add(struct kve_pageout *po, u64 block, u8 *buf, u32 len)
{
	u64 off = block << po->db->geo.block_shift;
	struct sheaf *sh = po->now;
	struct kvp_io *io;
	u32 i;

	/* Two streams: the last two writes are candidates. */
	for (i = sh->ios > 2 ? sh->ios - 2 : 0; i < sh->ios; i++) {
		io = &sh->io[i];
		if (io->off + io->len == off && (u8 *)io->buf + io->len == buf) {
			io->len += len;
			return;
		}
	}
	io = &sh->io[sh->ios++];
	memset(io, 0, sizeof(*io));
	io->op = KVP_IO_WRITE;
	io->off = off;
	io->buf = buf;
	io->len = len;
}

/* The image of the generation, packed, with the refs of children that are in memory. */
static u32 pack(struct kve_pageout *po, struct kve_frame *f, u8 *dst)
{
	struct kv_db *db = po->db;
	struct kve_image im;
	u32 len, i, nr;

	kvp_rwsem_down_read(&db->tree_lock);
	if (!kve_image_hold(f, po->gen, &im)) {
		kvp_rwsem_up_read(&db->tree_lock);
		return 0;
	}
	len = kve_node_pack(im.page, db->geo.frame, dst, db->geo.block);
	nr = f->level ? kve_node_nr(dst) : 0;
	for (i = 0; i < nr; i++)
		if (im.kids[i])
			kve_node_cell_set(dst, len, i, &im.kids[i]->ref, sizeof(struct kvf_ref));
	kve_image_drop(f, &im);
	kvp_rwsem_up_read(&db->tree_lock);
	return len;
}

static int seal(struct kve_pageout *po, struct kve_frame *f, u8 *dst, u32 len, struct kvf_ref *ref)
{
	struct kvf_page_expect e = { po->db->uuid, ref, f->tree->id, f->level };
	struct kvf_page *page = (struct kvf_page *)dst;
	int finding;

	page->block0 = ref->block0;
	page->block1 = ref->block1;
	page->generation = ref->birth;
	page->flags = (page->flags & KVF_PAGE_COMPACT) | (ref->block1 ? KVF_PAGE_TWIN : 0);
	kvf_page_seal(dst, len);
	ref->sum = page->head_sum;
	finding = kvf_page_sealed_verify(dst, len, le64_to_cpu(ref->block0), &e, &po->db->geo);
	if (finding)
		return kve_degrade(po->db, KVE_self_check, "page of tree '%s', level %u: %s",
				   f->tree->name, f->level, kvf_finding_text(finding));
	return 0;
}

/* The frame is as on the medium now, unless it has changed since the freeze. */
static void written(struct kve_pageout *po, struct kve_frame *f, const struct kvf_ref *ref)
{
	struct kv_db *db = po->db;

	kvp_rwsem_down_write(&db->tree_lock);
	f->ref = *ref;
	kvp_mutex_lock(&db->marks);
	if (f->dirty_last <= po->gen) {
		kvp_store(&f->dirty, false);
		kvp_sub(&db->cache.dirty, 1u);
	} else {
		kvp_store(&f->dirty_since, po->gen + 1);
	}
	kvp_mutex_unlock(&db->marks);
	kvp_add(&f->pins, 1u);
	kvp_rwsem_up_write(&db->tree_lock);
	po->now->frame[po->now->frames++] = f;
}

static int page_add(void *arg, struct kve_frame *f)
{
	struct kve_pageout *po = arg;
	struct kv_db *db = po->db;
	struct kvf_ref ref;
	u32 len;
	u8 *dst;
	int err;

	if (po->bytes - po->now->used < db->geo.frame || po->now->frames == PAGES_MAX) {
		err = turn(po);
		if (err)
			return err;
	}
	dst = po->now->buf + po->now->used;
	len = pack(po, f, dst);
	if (!len)
		return kve_degrade(db, KVE_self_check, "no image of generation %llu", po->gen);
	if (po->placed) {
		ref = f->ref;
		KVP_ASSERT(le32_to_cpu(ref.blocks) << db->geo.block_shift >= len);
		if (le32_to_cpu(ref.blocks) << db->geo.block_shift > len)
			len = kve_node_pack_to(dst, len, le32_to_cpu(ref.blocks) << db->geo.block_shift);
	} else {
		err = kve_ref_take(db, len >> db->geo.block_shift, f->level || f->tree->twin, po->gen, &ref);
		if (err)
			return err;
		err = kve_page_dead(f->tree, po->freed, &f->ref);
		if (err) {
			kve_ref_drop(db, &ref);
			return err;
		}
	}
	err = seal(po, f, dst, len, &ref);
	if (err)
		return err;
	io_add(po, le64_to_cpu(ref.block0), dst, len);
	if (ref.block1)
		io_add(po, le64_to_cpu(ref.block1), dst, len);
	po->now->used += len;
	written(po, f, &ref);
	return 0;
}

/* ---- walking ---------------------------------------------------------------------------------- */

/* Next child from slot *i on that has something to write. */
static struct kve_frame *dirty_kid(struct kve_frame *f, u64 gen, u32 *i)
{
	struct kv_db *db = f->tree->db;
	struct kve_frame *kid = NULL;
	struct kve_image im;
	u32 nr;

	kvp_rwsem_down_read(&db->tree_lock);
	if (f->level && kve_image_at(f, gen, &im)) {
		for (nr = kve_node_nr(im.page); *i < nr && !kid; (*i)++)
			if (im.kids[*i] && kve_dirty_by(im.kids[*i], gen))
				kid = im.kids[*i];
	}
	kvp_rwsem_up_read(&db->tree_lock);
	return kid;
}

int kve_dirty_each(struct kv_tree *t, u64 gen, int (*fn)(void *arg, struct kve_frame *f), void *arg)
{
	struct kve_frame *path[KVF_DEPTH_MAX], *kid;
	u32 at[KVF_DEPTH_MAX], depth = 0;
	struct kve_head *h;
	int err = 0;

	kvp_rwsem_down_read(&t->db->tree_lock);
	h = kve_head_at(t, gen);
	path[0] = h ? h->root : NULL;
	if (path[0] && !kve_dirty_by(path[0], gen))
		path[0] = NULL;
	kvp_rwsem_up_read(&t->db->tree_lock);
	if (!path[0])
		return 0;
	at[0] = 0;
	for (;;) {
		kid = depth + 1 < KVF_DEPTH_MAX ? dirty_kid(path[depth], gen, &at[depth]) : NULL;
		if (kid) {
			path[++depth] = kid;
			at[depth] = 0;
			continue;
		}
		err = fn(arg, path[depth]);
		if (err || !depth)
			return err;
		depth--;
	}
}

int kve_pageout_tree(struct kve_pageout *po, struct kv_tree *t, bool placed, struct kvf_ref *root)
{
	struct kv_db *db = po->db;
	struct kve_head *h;
	int err;

	po->placed = placed;
	err = kve_dirty_each(t, po->gen, page_add, po);
	if (err)
		return err;
	kvp_rwsem_down_write(&db->tree_lock);
	h = kve_head_at(t, po->gen);
	memset(root, 0, sizeof(*root));
	if (h)
		*root = h->root ? h->root->ref : h->ref;
	kvp_mutex_lock(&db->marks);
	if (t->dirty && t->dirty_last <= po->gen)
		kvp_store(&t->dirty, false);
	else if (t->dirty)
		kvp_store(&t->dirty_since, po->gen + 1);
	kvp_mutex_unlock(&db->marks);
	kvp_rwsem_up_write(&db->tree_lock);
	return 0;
}
