/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * image.c - see image.h. Built bottom up: log, leaves, inner page, objects, forest, segment table,
 * superblocks. Faults are worked in where the structure is made, before its checksum.
 */
#include <stdlib.h>

#include "image.h"
#include "../../engine/node.h"

#define GEN 3ull /* of the checkpoint */
#define LIVE_GEN 2u /* segment generation of every segment in use */

struct build {
	struct image *im;
	enum image_fault fault;
	u8 *page, *packed, *scratch; /* frames */
	u32 next_block[2];	     /* free blocks in segments 5 and 6 */
	u64 lsn;
	struct kvf_value_ref big[2], chunk[3], seal;
	u64 live[IMAGE_SEGMENTS];
	struct kvf_footer_entry entries[8];
	u32 entries_nr, records;
	u64 value_bytes;
	struct kvf_ref leaf[2], inner, objects, forest, segtab, freed;
	u32 replay_offset;
	u64 replay_lsn;
};

static const u8 uuid[16] = "fsck test image";

static bool is(const struct build *b, enum image_fault f)
{
	return b->fault == f;
}

static u64 segment_at(u32 segment)
{
	return (u64)segment * IMAGE_SEGMENT;
}

static void identity(struct kvf_identity *id, u32 segment)
{
	memcpy(id->uuid, uuid, sizeof(uuid));
	id->segment = segment;
	id->segment_gen = LIVE_GEN;
	id->incarnation = 1;
}

/* ---- log ------------------------------------------------------------------------------------- */

struct rec {
	u8 kind;
	u32 tree;
	const void *key;
	u32 key_len;
	u32 payload_len;
	u8 fill; /* of the payload */
	u32 index, count;
	u64 attested;
};

/* At byte offset off of the segment; returns the offset behind it. */
static u32 put_record(struct build *b, u32 segment, u32 off, const struct rec *d, struct kvf_value_ref *ref)
{
	u8 *at = b->im->bytes + segment_at(segment) + off;
	struct kvf_record *r = (struct kvf_record *)at;
	u32 bytes = (u32)kvf_record_bytes(0, d->key_len, d->payload_len);
	u32 head = (u32)sizeof(*r) + d->key_len;
	struct kvf_identity id;

	memset(at, 0, bytes);
	r->kind = d->kind;
	r->key_len = cpu_to_le16((u16)d->key_len);
	r->payload_len = cpu_to_le32(d->payload_len);
	r->lsn = cpu_to_le64(b->lsn);
	r->attested = cpu_to_le64(d->attested);
	r->tree = cpu_to_le32(d->tree);
	r->txn_index = cpu_to_le32(d->index);
	r->txn_count = cpu_to_le32(d->count);
	memcpy(r + 1, d->key, d->key_len);
	memset(at + head, d->fill, d->payload_len);
	identity(&id, segment);
	kvf_record_seal(r, &id, off, 0, at + head, d->payload_len);
	b->lsn++;
	b->records++;
	if (ref) {
		memset(ref, 0, sizeof(*ref));
		ref->segment = cpu_to_le32(segment);
		ref->segment_gen = cpu_to_le32(LIVE_GEN);
		ref->offset = cpu_to_le32(off);
		ref->payload_len = cpu_to_le32(d->payload_len);
		ref->lsn = r->lsn;
		ref->sum32 = cpu_to_le32((u32)le64_to_cpu(r->payload_sum));
		ref->head_len = cpu_to_le16((u16)head);
		b->live[segment] += bytes;
		b->entries[b->entries_nr].offset = cpu_to_le32(off);
		b->entries[b->entries_nr++].bytes = cpu_to_le32(bytes);
		b->value_bytes += bytes;
	}
	return off + bytes;
}

static void put_header(struct build *b, u32 segment, u8 kind, u64 first_lsn, u32 next)
{
	struct kvf_segment_header *h = (void *)(b->im->bytes + segment_at(segment));
	struct kvf_identity id;

	h->kind = kind;
	if (kind == KVF_KIND_LOG) {
		h->first_lsn = cpu_to_le64(first_lsn);
		h->next_segment = cpu_to_le32(next);
		h->next_gen = cpu_to_le32(next == KVF_NO_SEGMENT ? 0 : LIVE_GEN);
	}
	identity(&id, segment);
	if (segment == KVF_SEG_TAIL && is(b, IMAGE_TAIL_GEN))
		id.segment_gen++;
	if (segment == 4 && is(b, IMAGE_TABLE_GEN))
		id.segment_gen++;
	kvf_segment_header_seal(h, &id);
}

static void chunk_key(u8 *key, u64 chunk)
{
	key[0] = KVF_OBJECT_CHUNK;
	kvf_put_be64(key + 1, 1);
	kvf_put_be64(key + 9, chunk);
}

static void build_sealed(struct build *b)
{
	struct rec r = { .kind = KVF_RECORD_PUT, .tree = KVF_TREE_USER, .key = "big1", .key_len = 4,
			 .payload_len = 700, .fill = 'v', .count = 1 };
	u64 base = segment_at(4);
	struct kvf_footer *f = (void *)(b->im->bytes + base + IMAGE_SEGMENT - sizeof(*f));
	struct kvf_identity id;
	u8 key[17];
	u32 off, i;

	b->lsn = 1;
	put_header(b, 4, KVF_KIND_LOG, 1, 3);
	b->im->value_record[0] = base + IMAGE_BLOCK;
	b->im->value[0] = base + IMAGE_BLOCK + sizeof(struct kvf_record) + 4;
	off = put_record(b, 4, IMAGE_BLOCK, &r, &b->big[0]);
	r.kind = KVF_RECORD_EXTENT;
	r.tree = KVF_TREE_OBJECTS;
	r.key = key;
	r.key_len = sizeof(key);
	for (i = 0; i < (is(b, IMAGE_CHUNK_MORE) ? 3u : 2u); i++) {
		chunk_key(key, i);
		r.payload_len = i ? 100 : 1024;
		r.fill = (u8)('0' + i);
		if (i < 2)
			b->im->chunk[i] = base + off + sizeof(struct kvf_record) + sizeof(key);
		off = put_record(b, 4, off, &r, &b->chunk[i]);
	}
	r = (struct rec){ .kind = KVF_RECORD_SEAL, .key = "", .count = 1 };
	b->seal = b->big[0];
	b->seal.offset = cpu_to_le32(off);
	b->seal.lsn = cpu_to_le64(b->lsn);
	off = put_record(b, 4, off, &r, NULL);
	memcpy((u8 *)f - b->entries_nr * sizeof(b->entries[0]), b->entries,
	       b->entries_nr * sizeof(b->entries[0]));
	f->entries = cpu_to_le32(b->entries_nr);
	f->end = cpu_to_le32(off);
	f->first_lsn = cpu_to_le64(1);
	f->last_lsn = cpu_to_le64(b->lsn - 1 - (is(b, IMAGE_FOOTER) ? 1 : 0));
	f->records = cpu_to_le32(b->records);
	f->value_bytes = cpu_to_le64(b->value_bytes);
	identity(&id, 4);
	kvf_footer_seal(f, &id);
	b->im->footer = (u64)((u8 *)f - b->im->bytes);
	b->entries_nr = 0;
}

/* The block of the last records is moved away from home. */
static void move_tail(struct build *b, u32 from, u32 to)
{
	u32 block = from & ~(IMAGE_BLOCK - 1);
	u8 *home = b->im->bytes + segment_at(3) + block, *tail = b->im->bytes + segment_at(1);

	if (is(b, IMAGE_LOG_TAIL0) || is(b, IMAGE_VALUE_TAIL))
		memcpy(tail + b->im->g.tail_offset, home, IMAGE_BLOCK);
	if (is(b, IMAGE_LOG_TAIL1))
		memcpy(tail + b->im->g.tail_offset + IMAGE_BLOCK, home, IMAGE_BLOCK);
	if (is(b, IMAGE_LOG_WINDOW))
		memcpy(tail + b->im->g.window_offset + (block & (b->im->g.window - 1)), home,
		       KVF_ROUND_UP(to, IMAGE_BLOCK) - block);
	if (is(b, IMAGE_LOG_TAIL0) || is(b, IMAGE_LOG_TAIL1) || is(b, IMAGE_LOG_WINDOW) ||
	    is(b, IMAGE_VALUE_TAIL))
		memset(home, 0xee, KVF_ROUND_UP(to, IMAGE_BLOCK) - block);
}

static void build_head(struct build *b)
{
	struct rec r = { .kind = KVF_RECORD_PUT, .tree = KVF_TREE_USER, .key = "big2", .key_len = 4,
			 .payload_len = 300, .fill = 'w', .count = 1 };
	u64 base = segment_at(3);
	u32 off, i, start[4];

	put_header(b, 3, KVF_KIND_LOG, b->lsn, is(b, IMAGE_LOG_SHORT) ? IMAGE_SEGMENTS : 7);
	b->im->value_record[1] = base + IMAGE_BLOCK;
	b->im->value[1] = base + IMAGE_BLOCK + sizeof(struct kvf_record) + 4;
	off = put_record(b, 3, IMAGE_BLOCK, &r, &b->big[1]);
	if (is(b, IMAGE_VALUE_RESCUE)) {
		memcpy(b->im->bytes + segment_at(1) + b->im->g.tail_offset, b->im->bytes + base + IMAGE_BLOCK,
		       IMAGE_BLOCK);
		b->im->bytes[b->im->value[1]] ^= 1;
	}
	/* the rest stands in one block, so that a tail place holds it */
	if (!is(b, IMAGE_VALUE_TAIL))
		off = (u32)KVF_ROUND_UP(off, IMAGE_BLOCK);
	b->replay_offset = off;
	b->replay_lsn = b->lsn;
	r.payload_len = is(b, IMAGE_VALUE_TAIL) ? 4 : 20;
	for (i = 0; i < (is(b, IMAGE_VALUE_TAIL) ? 2u : 3u); i++) {
		start[i] = off;
		r.key = i == 0 ? "new0" : i == 1 ? "new1" : "new2";
		r.count = i && !is(b, IMAGE_VALUE_TAIL) ? 2 : 1;
		r.index = i ? i - 1 : 0;
		r.attested = b->replay_lsn - 1;
		if (i == 1 && is(b, IMAGE_LOG_LSN))
			b->lsn++;
		if (i == 2 && is(b, IMAGE_LOG_TXN))
			r.count = 3;
		if (i == 2 && is(b, IMAGE_LOG_GAP_LATER))
			r.attested = b->lsn - 1;
		if (i == 2 && is(b, IMAGE_LOG_TORN))
			continue;
		off = put_record(b, 3, off, &r, NULL);
	}
	start[3] = off;
	if (is(b, IMAGE_VALUE_TAIL))
		start[2] = off;
	for (i = 0; i < 4; i++)
		b->im->record[i] = base + start[i];
	b->im->end_lsn = b->lsn;
	if (is(b, IMAGE_LOG_PAYLOAD))
		b->im->bytes[base + start[0] + 60] ^= 1;
	if (is(b, IMAGE_LOG_PAYLOAD_TAIL))
		b->im->bytes[base + start[2] + 60] ^= 1;
	if (is(b, IMAGE_LOG_GAP_LATER))
		b->im->bytes[base + start[1] + 20] ^= 1;
	move_tail(b, start[0], off);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void page_begin(struct build *b, u32 tree, u8 level, const char *lower, const char *upper)
{
	kve_node_init(b->page, IMAGE_FRAME, uuid, tree, level, lower, lower ? (u32)strlen(lower) : 0,
		      upper, upper ? (u32)strlen(upper) : 0);
}

static void page_add(struct build *b, const void *key, u32 key_len, u8 flags, const void *cell, u32 len)
{
	struct kve_cell c = { .flags = flags, .nr = 1 };
	bool exact;
	u32 at = kve_node_search(b->page, IMAGE_FRAME, key, key_len, &exact);

	c.part[0].data = cell;
	c.part[0].len = len;
	if (kve_node_insert(b->page, IMAGE_FRAME, at, key, key_len, &c, b->scratch))
		abort();
}

static void page_end(struct build *b, bool twin, struct kvf_ref *ref, u64 at[2])
{
	struct kvf_page *p = (struct kvf_page *)b->packed;
	u32 bytes = kve_node_pack(b->page, IMAGE_FRAME, b->packed, IMAGE_BLOCK), i;
	bool leaf = p->tree == cpu_to_le32(KVF_TREE_USER) && !p->level && p->nr != cpu_to_le16(0);
	u64 birth = leaf && is(b, IMAGE_FUTURE) ? GEN + 1 : GEN;

	memset(ref, 0, sizeof(*ref));
	ref->block0 = cpu_to_le64(segment_at(5) / IMAGE_BLOCK + b->next_block[0]);
	ref->block1 = cpu_to_le64(twin ? segment_at(6) / IMAGE_BLOCK + b->next_block[1] : 0);
	ref->blocks = cpu_to_le32(bytes / IMAGE_BLOCK);
	ref->birth = cpu_to_le64(birth);
	p->block0 = ref->block0;
	p->block1 = ref->block1;
	p->generation = ref->birth;
	p->lsn = cpu_to_le64(1);
	p->flags = twin ? KVF_PAGE_TWIN : 0;
	if (p->tree == cpu_to_le32(KVF_TREE_USER) && p->level && is(b, IMAGE_LEVEL))
		p->level = KVF_DEPTH_MAX;
	kvf_page_seal(p, bytes);
	ref->sum = p->head_sum;
	for (i = 0; i < (twin ? 2u : 1u); i++) {
		u64 off = le64_to_cpu(i ? ref->block1 : ref->block0) * IMAGE_BLOCK;

		memcpy(b->im->bytes + off, b->packed, bytes);
		b->next_block[i] += bytes / IMAGE_BLOCK;
		if (at)
			at[i] = off;
	}
}

static void break_ref(struct build *b, struct kvf_value_ref *ref)
{
	if (is(b, IMAGE_VALUE_BOUNDS))
		ref->segment = cpu_to_le32(100);
	if (is(b, IMAGE_VALUE_KIND))
		ref->segment = cpu_to_le32(5);
	if (is(b, IMAGE_VALUE_GEN))
		ref->segment_gen = cpu_to_le32(LIVE_GEN + 1);
	if (is(b, IMAGE_VALUE_KEY))
		*ref = b->big[0];
	if (is(b, IMAGE_VALUE_LSN))
		ref->lsn = cpu_to_le64(77);
	if (is(b, IMAGE_VALUE_SUM))
		ref->sum32 = cpu_to_le32(77);
	if (is(b, IMAGE_VALUE_DELETE))
		*ref = b->seal;
}

static void build_leaves(struct build *b)
{
	struct kvf_object o = { .object = cpu_to_le64(1), .length = cpu_to_le64(1124),
				.chunk_bytes = cpu_to_le32(1024) };
	bool no_head = is(b, IMAGE_CHUNK_ORPHAN) || is(b, IMAGE_CHUNK_PENDING);
	struct kvf_value_ref ref = b->big[1];
	u64 at[2];

	break_ref(b, &ref);
	if (is(b, IMAGE_CHUNK_SIZE))
		o.length = cpu_to_le64(1125);
	page_begin(b, KVF_TREE_USER, 0, NULL, "m");
	page_add(b, "a", 1, 0, "one", 3);
	page_add(b, "big1", 4, KVF_CELL_REF, &b->big[0], sizeof(ref));
	page_add(b, "big2", 4, KVF_CELL_REF, &ref, sizeof(ref));
	page_add(b, "blob", 4, no_head ? 0 : KVF_CELL_OBJECT, &o, sizeof(o));
	page_end(b, false, &b->leaf[0], at);
	b->im->leaf[0] = at[0];
	page_begin(b, KVF_TREE_USER, 0, is(b, IMAGE_FENCES) ? "ma" : "m", NULL);
	page_add(b, "mm", 2, 0, "two", 3);
	page_add(b, "n", 1, is(b, IMAGE_POISON) ? KVF_CELL_POISON : 0, "three", 5);
	page_add(b, "o", 1, is(b, IMAGE_OBJECT_TWICE) ? KVF_CELL_OBJECT : 0, &o, sizeof(o));
	page_add(b, "z", 1, 0, "", 0);
	page_end(b, false, &b->leaf[1], at);
	b->im->leaf[1] = at[0];
}

static void build_inner(struct build *b)
{
	struct kvf_ref second = b->leaf[is(b, IMAGE_SHARED) ? 0 : 1];

	if (is(b, IMAGE_REF_BOUNDS))
		second.block0 = cpu_to_le64(IMAGE_SEGMENTS * IMAGE_SEGMENT / IMAGE_BLOCK + 3);
	page_begin(b, KVF_TREE_USER, 1, NULL, NULL);
	page_add(b, "", 0, 0, &b->leaf[0], sizeof(second));
	page_add(b, "m", 1, 0, &second, sizeof(second));
	page_end(b, !is(b, IMAGE_ONE_COPY), &b->inner, b->im->inner);
}

static void build_objects(struct build *b)
{
	u8 key[17];
	u64 at[2];
	u32 i, n = is(b, IMAGE_CHUNK_MORE) ? 3 : is(b, IMAGE_CHUNK_MISSING) ? 1 : 2;

	page_begin(b, KVF_TREE_OBJECTS, 0, NULL, NULL);
	if (is(b, IMAGE_CHUNK_PENDING) || is(b, IMAGE_CHUNK_MARKED)) {
		key[0] = KVF_OBJECT_PENDING;
		kvf_put_be64(key + 1, 1);
		page_add(b, key, 9, 0, "", 0);
	}
	for (i = 0; i < n; i++) {
		chunk_key(key, i);
		page_add(b, key, 17, KVF_CELL_REF, &b->chunk[i], sizeof(b->chunk[i]));
	}
	if (is(b, IMAGE_OBJECT_KEY))
		page_add(b, "\x09", 1, 0, "", 0);
	page_end(b, false, &b->objects, at);
	b->im->objects_leaf = at[0];
}

/* A page that nothing refers to any more: named by the free batch. */
static void build_freed(struct build *b)
{
	page_begin(b, KVF_TREE_USER, 0, NULL, NULL);
	page_end(b, true, &b->freed, NULL);
}

static bool has_snapshot(const struct build *b)
{
	return b->fault >= IMAGE_SNAPSHOT && b->fault <= IMAGE_TABLE_PINNED;
}

/* From "a" to the end, or to "B", which stands before it; the cursor at "c". */
static void add_range(struct build *b)
{
	static const char *const part[] = { "a", "B", "c" };
	u32 i, len[3] = { 1, is(b, IMAGE_RANGE_ORDER) ? 1 : 0, 1 };
	struct {
		struct kvf_range_delete rd;
		char key[1];
	} row;
	u8 key[14];

	key[0] = KVF_FOREST_RANGE;
	kvf_put_be32(key + 1, is(b, IMAGE_RANGE_TREE) ? 99 : KVF_TREE_USER);
	kvf_put_be64(key + 5, is(b, IMAGE_RANGE_FUTURE) ? 1ull << 40 : 1);
	for (i = 0; i < (is(b, IMAGE_RANGE_PART) ? 2 : 3); i++) {
		key[13] = (u8)i;
		memset(&row, 0, sizeof(row));
		row.rd.from_len = cpu_to_le16((u16)len[0]);
		row.rd.to_len = cpu_to_le16((u16)len[1]);
		row.rd.cursor_len = cpu_to_le16(is(b, IMAGE_RANGE_LENGTHS) && i < 2 ? 2 : (u16)len[2]);
		row.key[0] = part[i][0];
		page_add(b, (const char *)key, sizeof(key), 0, &row, (u32)sizeof(row.rd) + len[i]);
	}
}

static void build_forest(struct build *b)
{
	struct kvf_tree_head h;
	struct kvf_snapshot s;

	page_begin(b, KVF_TREE_FOREST, 0, NULL, NULL);
	memset(&s, 0, sizeof(s));
	s.generation = cpu_to_le64(is(b, IMAGE_SNAPSHOT_OLD) ? GEN - 1 : GEN);
	s.lsn = cpu_to_le64(1);
	s.origin_part = cpu_to_le64(is(b, IMAGE_SNAPSHOT_ROW));
	if (has_snapshot(b))
		page_add(b, "Nmonday", 7, 0, &s, sizeof(s));
	if (b->fault >= IMAGE_RANGE && b->fault <= IMAGE_RANGE_FUTURE)
		add_range(b);
	memset(&h, 0, sizeof(h));
	h.id = cpu_to_le32(KVF_TREE_OBJECTS);
	h.root = b->objects;
	page_add(b, "T", 1, 0, &h, sizeof(h));
	h.id = cpu_to_le32(KVF_TREE_USER);
	h.root = b->inner;
	h.count = cpu_to_le64(is(b, IMAGE_COUNT) ? 9 : 8);
	if (is(b, IMAGE_HEAD))
		h.flags = cpu_to_le32(1);
	if (is(b, IMAGE_ROOT_LOOP)) {
		h.root.block0 = cpu_to_le64(segment_at(5) / IMAGE_BLOCK + b->next_block[0]);
		h.root.block1 = cpu_to_le64(segment_at(6) / IMAGE_BLOCK + b->next_block[1]);
	}
	page_add(b, "Tmain", 5, 0, &h, sizeof(h));
	if (is(b, IMAGE_ID_TWICE) || is(b, IMAGE_ID_NEXT)) {
		h.id = cpu_to_le32(KVF_TREE_USER + (is(b, IMAGE_ID_NEXT) ? 1 : 0));
		memset(&h.root, 0, sizeof(h.root));
		h.count = cpu_to_le64(0);
		page_add(b, "Tother", 6, 0, &h, sizeof(h));
	}
	if (is(b, IMAGE_FOREST_KEY))
		page_add(b, "?what", 5, 0, &h, sizeof(h));
	page_end(b, true, &b->forest, b->im->forest);
}

/* ---- segment table ---------------------------------------------------------------------------- */

static void add_segment(struct build *b, u32 segment)
{
	struct {
		struct kvf_segment_entry e;
		u8 map[IMAGE_SEGMENT / IMAGE_BLOCK / 8];
	} row;
	u8 key[5] = { KVF_SEGTAB_SEGMENT };
	u32 len = sizeof(row.e), i, used;

	KVP_BUILD_BUG_ON(sizeof(row.map) != 2);
	memset(&row, 0, sizeof(row));
	row.e.gen = cpu_to_le32(LIVE_GEN);
	if (segment == 3 || segment == 4) {
		row.e.kind = KVF_KIND_LOG;
		row.e.incarnation = cpu_to_le32(1);
		row.e.live = cpu_to_le64(b->live[segment]);
	}
	if (segment == 4) {
		row.e.flags = KVF_SEGMENT_SEALED | KVF_SEGMENT_FOOTER;
		row.e.last_lsn = cpu_to_le64(b->records); /* LSNs begin at 1 */
		if (is(b, IMAGE_TABLE_LIVE))
			row.e.live = cpu_to_le64(b->live[4] + 16);
		if (is(b, IMAGE_TABLE_PINNED))
			row.e.pinned = cpu_to_le64(64);
	}
	if (segment == 5 || segment == 6) {
		row.e.kind = KVF_KIND_TREE;
		row.e.bitmap_len = cpu_to_le16(2);
		len += 2;
		used = b->next_block[segment - 5];
		for (i = 0; i < used; i++)
			row.map[i / 8] |= (u8)(1u << i % 8);
		if (segment == 5 && is(b, IMAGE_TABLE_BITMAP))
			row.map[0] &= (u8)~2u;
		if (segment == 5 && is(b, IMAGE_TABLE_LEAK))
			row.map[1] |= 0x80;
		if (segment == 5 && is(b, IMAGE_BATCH_FREE))
			row.map[0] &= (u8)~(1u << le64_to_cpu(b->freed.block0) % 16);
	}
	if (segment == 6 && is(b, IMAGE_TABLE_LOG)) {
		row.e.kind = KVF_KIND_LOG;
		row.e.bitmap_len = cpu_to_le16(0);
		row.e.incarnation = cpu_to_le32(1);
		len = sizeof(row.e);
	}
	if (segment == 7 && is(b, IMAGE_TABLE_MISSING))
		return;
	if (segment == 7 && is(b, IMAGE_TABLE_ENTRY))
		row.e.kind = 9;
	kvf_put_be32(key + 1, segment);
	page_add(b, key, sizeof(key), 0, &row, len);
}

static void add_batch(struct build *b)
{
	u8 key[13] = { KVF_SEGTAB_BATCH };
	struct kvf_free f[3];
	u32 nr = 2, len;

	memset(f, 0, sizeof(f));
	f[0].segment = cpu_to_le32(5);
	f[0].block = cpu_to_le32((u32)(le64_to_cpu(b->freed.block0) % 16));
	f[0].blocks = b->freed.blocks;
	f[0].birth = b->freed.birth;
	f[1] = f[0];
	f[1].segment = cpu_to_le32(6);
	f[1].block = cpu_to_le32((u32)(le64_to_cpu(b->freed.block1) % 16));
	f[2] = f[0];
	if (is(b, IMAGE_BATCH_BOUNDS))
		f[0].blocks = cpu_to_le32(16);
	if (is(b, IMAGE_BATCH_TWICE))
		nr = 3;
	if (is(b, IMAGE_BATCH_USED)) {
		f[2].block = cpu_to_le32(1);
		nr = 3;
	}
	if (is(b, IMAGE_BATCH_WHOLE)) {
		f[2].block = cpu_to_le32(0);
		f[2].blocks = cpu_to_le32(KVF_FREE_WHOLE);
		nr = 3;
	}
	len = nr * sizeof(f[0]) - (is(b, IMAGE_BATCH_SHAPE) ? 1 : 0);
	kvf_put_be64(key + 1, GEN);
	page_add(b, key, sizeof(key), 0, f, len);
}

/* What died after a snapshot: a page in use, one that is free already, bytes of records. */
static void add_list(struct build *b)
{
	u8 key[21] = { KVF_SEGTAB_LIST };
	struct kvf_free f;

	memset(&f, 0, sizeof(f));
	f.segment = cpu_to_le32(5);
	f.block = cpu_to_le32(is(b, IMAGE_LIST_USED) ? 1 : (u32)(le64_to_cpu(b->freed.block0) % 16));
	f.blocks = b->freed.blocks;
	f.birth = b->freed.birth;
	if (is(b, IMAGE_LIST_PINNED) || is(b, IMAGE_TABLE_PINNED)) {
		memset(&f, 0, sizeof(f));
		f.segment = cpu_to_le32(4);
		f.blocks = cpu_to_le32(64);
	}
	kvf_put_be64(key + 1, GEN);
	kvf_put_be64(key + 9, GEN);
	page_add(b, key, sizeof(key), 0, &f, sizeof(f) - (is(b, IMAGE_LIST_SHAPE) ? 1 : 0));
}

/* Its own blocks, in both segments, are marked in it as used. Returns how many it takes. */
static u32 fill_segtab(struct build *b, u32 blocks)
{
	u32 i;

	b->next_block[0] += blocks;
	b->next_block[1] += blocks;
	page_begin(b, KVF_TREE_SEGTAB, 0, NULL, NULL);
	for (i = 3; i < IMAGE_SEGMENTS; i++)
		add_segment(b, i);
	add_batch(b);
	if (b->fault >= IMAGE_LIST_USED && b->fault <= IMAGE_TABLE_PINNED)
		add_list(b);
	if (is(b, IMAGE_TABLE_KEY))
		page_add(b, "?", 1, 0, "", 0);
	b->next_block[0] -= blocks;
	b->next_block[1] -= blocks;
	return kve_node_pack(b->page, IMAGE_FRAME, b->packed, IMAGE_BLOCK) / IMAGE_BLOCK;
}

static void build_segtab(struct build *b)
{
	fill_segtab(b, fill_segtab(b, 1));
	page_end(b, true, &b->segtab, b->im->segtab);
}

/* ---- superblocks ------------------------------------------------------------------------------- */

static void fill_super(struct build *b, struct kvf_super *sb, u64 seq)
{
	memset(sb, 0, sizeof(*sb));
	memcpy(sb->uuid, uuid, sizeof(uuid));
	memcpy(sb->label, "hand made", 9);
	sb->block_shift = 9;
	sb->segment_shift = 13;
	sb->frame_shift = 11;
	sb->window_shift = 12;
	sb->inline_max = cpu_to_le32(b->im->g.inline_max);
	sb->chunk_bytes = cpu_to_le32(b->im->g.chunk_bytes);
	sb->seq = cpu_to_le64(seq);
	sb->generation = cpu_to_le64(GEN);
	sb->oldest_intact = cpu_to_le64(GEN);
	sb->segments = cpu_to_le64(IMAGE_SEGMENTS);
	sb->incarnation = cpu_to_le32(is(b, IMAGE_LOG_CUT) || is(b, IMAGE_LOG_CUT_GOOD) ? 2 : 1);
	sb->replay_incarnation = cpu_to_le32(1);
	if (is(b, IMAGE_LOG_CUT))
		sb->cut_lsn = cpu_to_le64(b->im->end_lsn + 1);
	if (is(b, IMAGE_LOG_CUT_GOOD))
		sb->cut_lsn = cpu_to_le64(b->replay_lsn + 1);
	sb->replay_lsn = cpu_to_le64(b->replay_lsn);
	sb->replay_segment = cpu_to_le32(3);
	sb->replay_segment_gen = cpu_to_le32(LIVE_GEN);
	sb->replay_offset = cpu_to_le32(b->replay_offset);
	sb->tail_gen = cpu_to_le32(LIVE_GEN);
	sb->attested_lsn = cpu_to_le64(b->replay_lsn - 1);
	if (is(b, IMAGE_LOG_PAYLOAD))
		sb->attested_lsn = cpu_to_le64(b->replay_lsn);
	if (is(b, IMAGE_LOG_GAP) || is(b, IMAGE_LOG_CUT))
		sb->attested_lsn = cpu_to_le64(b->im->end_lsn);
	if (is(b, IMAGE_LOG_CLEAN))
		sb->flags = cpu_to_le32(KVF_SUPER_CLEAN);
	sb->forest = b->forest;
	sb->segtab = b->segtab;
	sb->next_tree = cpu_to_le32(KVF_TREE_USER + 1 + (is(b, IMAGE_ID_NEXT) ? 0 : 1));
	sb->next_object = cpu_to_le64(2);
	sb->created = cpu_to_le64(1700000000);
	sb->next_lsn = cpu_to_le64(b->im->end_lsn + 10);
}

static void build_supers(struct build *b)
{
	struct kvf_super sb;
	u32 i, group;
	u64 seq;

	for (i = 0; i < KVF_SLOTS; i++)
		b->im->slot[i] = kvf_super_offset(&b->im->g, i % KVF_GROUP_SLOTS, i / KVF_GROUP_SLOTS);
	b->im->copy = (u64)IMAGE_SEGMENTS * IMAGE_SEGMENT;
	for (seq = 1; seq <= 2; seq++) {
		fill_super(b, &sb, seq);
		if (seq == 2 && is(b, IMAGE_ROOT_BAD))
			sb.forest.sum = cpu_to_le64(1);
		for (group = 0; group < 2; group++) {
			u64 at = kvf_super_offset(&b->im->g, seq, group);

			kvf_super_seal(&sb, at);
			memcpy(b->im->bytes + at, &sb, sizeof(sb));
		}
	}
	kvf_super_seal(&sb, b->im->copy);
	memcpy(b->im->bytes + b->im->copy, &sb, sizeof(sb));
}

void image_build(struct image *im, enum image_fault fault)
{
	struct build b;
	u32 sealed_records;

	memset(&b, 0, sizeof(b));
	memset(im, 0, sizeof(*im));
	b.im = im;
	b.fault = fault;
	im->bytes = calloc(1, IMAGE_BYTES);
	b.page = calloc(1, IMAGE_FRAME);
	b.packed = calloc(1, IMAGE_FRAME);
	b.scratch = calloc(1, IMAGE_FRAME);
	if (!im->bytes || !b.page || !b.packed || !b.scratch ||
	    kvf_geometry_derive(&im->g, 9, 13, 11, 12, 0, 0))
		abort();
	b.next_block[0] = b.next_block[1] = 1;
	put_header(&b, 1, KVF_KIND_TAIL, 0, 0);
	build_sealed(&b);
	sealed_records = b.records; /* of segment 4, for the table */
	build_head(&b);
	b.records = sealed_records;
	put_header(&b, 5, is(&b, IMAGE_TABLE_KIND) ? KVF_KIND_LOG : KVF_KIND_TREE, 1, KVF_NO_SEGMENT);
	put_header(&b, 6, KVF_KIND_TREE, 0, 0);
	build_leaves(&b);
	build_inner(&b);
	build_objects(&b);
	build_freed(&b);
	build_forest(&b);
	build_segtab(&b);
	build_supers(&b);
	free(b.page);
	free(b.packed);
	free(b.scratch);
}

void image_free(struct image *im)
{
	free(im->bytes);
	im->bytes = NULL;
}
