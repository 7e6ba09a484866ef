/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * super.c - the ring of superblocks: choosing one, writing the next.
 *
 * Invariants: a superblock is never chosen by its number alone, its roots must verify; it is durable
 * when both groups hold it, each behind a flush of its own; everything that it refers to was flushed
 * before (the caller's part).
 */
#include "kve.h"

#define SCAN_BYTES 16384u /* four slots of the largest block */
#define CANDIDATES_MAX 64u

struct candidates {
	struct kvf_super *sb;
	u32 nr;
	bool magic, newer, older, damaged, incompat, nonzero;
};

/* Slots may stand at every multiple of 512; each says where it belongs. */
static void candidates_scan(struct candidates *c, const u8 *buf, u32 len, u64 base)
{
	const struct kvf_super *sb;
	u32 at, i;
	int finding;

	for (at = 0; at + sizeof(*sb) <= len && c->nr < CANDIDATES_MAX; at += sizeof(*sb)) {
		sb = (const struct kvf_super *)(buf + at);
		for (i = 0; i < sizeof(*sb) && !c->nonzero; i++)
			c->nonzero = buf[at + i] != 0;
		finding = kvf_super_verify(sb, base + at);
		if (finding == KVF_F_super_magic)
			continue;
		c->magic = true;
		if (finding == KVF_F_ok)
			memcpy(&c->sb[c->nr++], sb, sizeof(*sb));
		else if (finding == KVF_F_super_version && le32_to_cpu(sb->version) < KVF_VERSION)
			c->older = true;
		else if (finding == KVF_F_super_version)
			c->newer = true;
		else if (finding == KVF_F_super_incompat)
			c->incompat = true;
		else if (finding != KVF_F_super_position)
			c->damaged = true;
	}
}

static int candidates_read(struct kv_db *db, struct candidates *c, u8 *buf, u64 off)
{
	u64 len = SCAN_BYTES;
	int err;

	if (off >= db->dev->size)
		return 0;
	len = KVF_MIN(len, db->dev->size - off);
	len = KVF_ROUND_DOWN(len, db->dev->align);
	if (!len)
		return 0;
	err = kvp_dev_read(db->dev, off, buf, (u32)len);
	/* An unreadable group is what the other one is for. */
	if (!err)
		candidates_scan(c, buf, (u32)len, off);
	else
		c->damaged = true;
	return 0;
}

static int candidates_find(struct kv_db *db, struct candidates *c)
{
	u8 *buf = kvp_iobuf_alloc(SCAN_BYTES);
	u64 segment;

	if (!buf)
		return -KVE_no_memory;
	candidates_read(db, c, buf, 0);
	if (c->nr) {
		candidates_read(db, c, buf, 2ull << c->sb[0].segment_shift);
	} else {
		for (segment = KVF_SEGMENT_MIN; segment <= KVF_SEGMENT_MAX && !c->nr; segment *= 2)
			candidates_read(db, c, buf, 2 * segment);
	}
	kvp_iobuf_free(buf, SCAN_BYTES);
	return 0;
}

static int not_found(struct kv_db *db, const struct candidates *c)
{
	if (c->newer || c->incompat)
		return kve_fail(db, KVE_unsupported, "made by a newer version of kvs; upgrade to open it");
	if (c->older)
		return kve_fail(db, KVE_unsupported, "of an older format than version %u; dump it with the "
				"kvs that made it, and load that into a new volume", KVF_VERSION);
	if (c->magic || c->damaged)
		return kve_fail(db, KVE_corrupt_super, "all superblocks are damaged; run 'kvs-fsck -n %s'",
				db->dev->name);
	/* Less than a sector cannot be looked at: it is no volume and not empty. */
	if (!c->nonzero && (!db->dev->size || db->dev->size >= sizeof(*c->sb)))
		return kve_fail(db, KVE_empty, "make a volume with 'kvs create %s'", db->dev->name);
	return kve_fail(db, KVE_not_volume, "no superblock; is this the right file?");
}

/* Both roots can be read. db->sb and db->geo are those of the candidate. */
static int roots_verify(struct kv_db *db)
{
	u8 *page;
	int err;

	if (KVP_BUG("super-by-number"))
		return 0;
	page = kvp_iobuf_alloc(db->geo.frame);
	if (!page)
		return -KVE_no_memory;
	err = kve_page_read(db, KVF_TREE_FOREST, "forest", &db->sb.forest, -1, page);
	if (!err && !db->read_only)
		err = kve_page_read(db, KVF_TREE_SEGTAB, "segment table", &db->sb.segtab, -1, page);
	kvp_iobuf_free(page, db->geo.frame);
	return err;
}

/* A superblock is too large for a kernel's stack. */
static void super_swap(struct kvf_super *a, struct kvf_super *b)
{
	u8 *x = (u8 *)a, *y = (u8 *)b, tmp[64];
	u32 i;

	KVP_BUILD_BUG_ON(sizeof(*a) % sizeof(tmp) != 0);
	for (i = 0; i < sizeof(*a); i += sizeof(tmp)) {
		memcpy(tmp, x + i, sizeof(tmp));
		memcpy(x + i, y + i, sizeof(tmp));
		memcpy(y + i, tmp, sizeof(tmp));
	}
}

/* Highest number first; n is small. */
static void candidates_sort(struct candidates *c)
{
	u32 i, k;

	for (i = 1; i < c->nr; i++)
		for (k = i; k && le64_to_cpu(c->sb[k].seq) > le64_to_cpu(c->sb[k - 1].seq); k--)
			super_swap(&c->sb[k], &c->sb[k - 1]);
}

static int candidates_choose(struct kv_db *db, struct candidates *c)
{
	u64 attested = 0, seq = 0;
	int err = -KVE_corrupt_super;
	u32 i;

	for (i = 0; i < c->nr; i++)
		attested = KVF_MAX(attested, le64_to_cpu(c->sb[i].attested_lsn));
	for (i = 0; i < c->nr; i++) {
		if (i && le64_to_cpu(c->sb[i].seq) == seq)
			continue;
		seq = le64_to_cpu(c->sb[i].seq);
		/* Its pages may be others by now, or the log may not lead from it to the newest. */
		if (le64_to_cpu(c->sb[i].generation) < le64_to_cpu(c->sb[0].oldest_intact))
			continue;
		db->sb = c->sb[i];
		kve_identity_set(db);
		if (kvf_geometry_from_super(&db->geo, &db->sb))
			continue;
		err = roots_verify(db);
		if (!err || err == -KVE_no_memory)
			break;
		kvp_log(&db->logger, KVP_LOG_WARN, "%s: superblock %llu: roots do not verify",
			db->dev->name, seq);
	}
	if (err == -KVE_no_memory)
		return err;
	if (err)
		return kve_fail(db, KVE_corrupt_super, "no superblock has roots that verify; run "
				"'kvs-fsck -n %s'", db->dev->name);
	/* A fallback must not hide what a newer one attested. */
	db->sb.attested_lsn = cpu_to_le64(attested);
	/* The next number is above all that were ever seen. */
	db->sb.seq = c->sb[0].seq;
	return 0;
}

int kve_super_load(struct kv_db *db)
{
	struct candidates c = { .nr = 0 };
	int err;

	c.sb = kvp_alloc_array(CANDIDATES_MAX, sizeof(*c.sb), KVP_ZERO);
	if (!c.sb)
		return -KVE_no_memory;
	err = candidates_find(db, &c);
	if (!err && !c.nr)
		err = not_found(db, &c);
	if (!err) {
		candidates_sort(&c);
		err = candidates_choose(db, &c);
	}
	kvp_free(c.sb);
	if (err)
		return err;
	if ((le64_to_cpu(db->sb.ro_compat) & ~KVF_RO_COMPAT_KNOWN) && !db->read_only)
		return kve_fail(db, KVE_unsupported, "features of a newer version: open it read-only");
	return 0;
}

static int write_group(struct kv_db *db, struct kvf_super *sb, unsigned int group, u8 *buf)
{
	u64 off = kvf_super_offset(&db->geo, le64_to_cpu(sb->seq), group);
	int err;

	kvf_super_seal(sb, off);
	memset(buf, 0, db->geo.block);
	memcpy(buf, sb, sizeof(*sb));
	err = kvp_dev_write(db->dev, off, buf, db->geo.block, 0);
	if (!err)
		err = kvp_dev_flush(db->dev);
	return err;
}

int kve_super_write(struct kv_db *db, struct kvf_super *sb)
{
	u8 *buf = kvp_iobuf_alloc(db->geo.block);
	int err;

	if (!buf)
		return -KVE_no_memory;
	sb->seq = cpu_to_le64(le64_to_cpu(db->sb.seq) + 1);
	err = write_group(db, sb, 0, buf);
	if (!err && !KVP_BUG("super-one-group"))
		err = write_group(db, sb, 1, buf);
	kvp_iobuf_free(buf, db->geo.block);
	if (err)
		return kve_degrade(db, KVE_indeterminate, "superblock %llu could not be written",
				   le64_to_cpu(sb->seq));
	kvp_mutex_lock(&db->state);
	db->sb = *sb;
	kvp_mutex_unlock(&db->state);
	return 0;
}

int kve_super_copy(struct kv_db *db)
{
	u8 *buf = kvp_iobuf_alloc(db->geo.block);
	u64 off = kve_segment_offset(db, (u32)le64_to_cpu(db->sb.segments));
	int err = 0;

	if (buf && off + db->geo.block <= db->dev->size) {
		memset(buf, 0, db->geo.block);
		memcpy(buf, &db->sb, sizeof(db->sb));
		kvf_super_seal((struct kvf_super *)buf, off);
		if (kvp_dev_write(db->dev, off, buf, db->geo.block, 0))
			kvp_log(&db->logger, KVP_LOG_WARN, "%s: the copy of the superblock at the end "
				"of the volume could not be written", db->dev->name);
		else if (kvp_dev_flush(db->dev))
			err = kve_degrade(db, KVE_indeterminate, "flush behind the superblock's copy failed");
	}
	kvp_iobuf_free(buf, db->geo.block);
	return err;
}

static int unclean_write(struct kv_db *db)
{
	struct kvf_super *sb;
	int err;

	if (!(le32_to_cpu(db->sb.flags) & KVF_SUPER_CLEAN))
		return 0;
	sb = kvp_alloc(sizeof(*sb), 0);
	if (!sb)
		return -KVE_no_memory;
	*sb = db->sb;
	sb->flags = cpu_to_le32(le32_to_cpu(sb->flags) & ~KVF_SUPER_CLEAN);
	err = kve_super_write(db, sb);
	kvp_free(sb);
	return err;
}

int kve_super_mark(struct kv_db *db)
{
	int err;

	if (kvp_likely(db->marked))
		return 0;
	err = unclean_write(db);
	if (err)
		return err;
	kve_space_reserve(db);
	db->marked = true;
	return 0;
}
