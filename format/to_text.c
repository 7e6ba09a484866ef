/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * to_text.c - each structure as lines "name: value", for the CLI, fsck and failing tests.
 *
 * May be given arbitrary bytes: nothing is trusted, a damaged structure prints as what it holds. Field
 * names are those of kv_format.h. Values with a name are printed as "number (name)".
 */
#include "kvf.h"
#include "print.h"

#define KEY_SHOWN 64u /* bytes of a key in the listing of a page */

static void named(struct kvf_print *p, const char *field, u32 v, const char *const *names, u32 n)
{
	kvf_print_label(p, field);
	kvf_print_dec(p, v);
	kvf_print_str(p, " (");
	kvf_print_str(p, v < n && names[v] ? names[v] : "unknown");
	kvf_print_str(p, ")\n");
}

static const char *const segment_kinds[] = {"FREE", "LOG", "TREE", "TAIL", "SUPER"};
static const char *const record_kinds[] = {NULL,	   "PUT",	  "DELETE",
					   "EXTENT",	   "TREE_CREATE", "TREE_DROP",
					   "RANGE_DELETE", "SEAL",	  "SNAPSHOT",
					   "PAD"};
static const char *const value_types[] = {"bytes",  "string", "int32",	"uint32", "int64",
					  "uint64", "float",  "double", "list",	  "stream"};
static const char *const cell_kinds[] = {"inline", "ref", "object", NULL};

#define COUNT(a) ((u32)(sizeof(a) / sizeof((a)[0])))

static void print_uuid(struct kvf_print *p, const u8 *uuid)
{
	kvf_print_label(p, "uuid");
	kvf_print_uuid(p, uuid);
	kvf_print_char(p, '\n');
}

/* "block 42+3 twin 99 birth 7 sum 0123456789abcdef" or "none" */
static void print_ref(struct kvf_print *p, const struct kvf_ref *ref)
{
	if (kvf_is_zero(ref, sizeof(*ref))) {
		kvf_print_str(p, "none");
		return;
	}
	kvf_print_str(p, "block ");
	kvf_print_dec(p, le64_to_cpu(ref->block0));
	kvf_print_char(p, '+');
	kvf_print_dec(p, le32_to_cpu(ref->blocks));
	if (ref->block1 != cpu_to_le64(0)) {
		kvf_print_str(p, " twin ");
		kvf_print_dec(p, le64_to_cpu(ref->block1));
	}
	kvf_print_str(p, " birth ");
	kvf_print_dec(p, le64_to_cpu(ref->birth));
	kvf_print_str(p, " sum ");
	kvf_print_hex(p, le64_to_cpu(ref->sum), 16);
}

static void field_ref(struct kvf_print *p, const char *name, const struct kvf_ref *ref)
{
	kvf_print_label(p, name);
	print_ref(p, ref);
	kvf_print_char(p, '\n');
}

static void super_geometry(struct kvf_print *p, const struct kvf_super *sb)
{
	kvf_print_field_dec(p, "block_shift", sb->block_shift);
	kvf_print_field_dec(p, "segment_shift", sb->segment_shift);
	kvf_print_field_dec(p, "frame_shift", sb->frame_shift);
	kvf_print_field_dec(p, "window_shift", sb->window_shift);
	kvf_print_field_dec(p, "inline_max", le32_to_cpu(sb->inline_max));
	kvf_print_field_dec(p, "chunk_bytes", le32_to_cpu(sb->chunk_bytes));
}

static void super_log(struct kvf_print *p, const struct kvf_super *sb)
{
	kvf_print_field_dec(p, "incarnation", le32_to_cpu(sb->incarnation));
	kvf_print_field_dec(p, "replay_incarnation", le32_to_cpu(sb->replay_incarnation));
	kvf_print_field_dec(p, "cut_lsn", le64_to_cpu(sb->cut_lsn));
	kvf_print_field_dec(p, "replay_lsn", le64_to_cpu(sb->replay_lsn));
	kvf_print_field_dec(p, "replay_segment", le32_to_cpu(sb->replay_segment));
	kvf_print_field_dec(p, "replay_segment_gen", le32_to_cpu(sb->replay_segment_gen));
	kvf_print_field_dec(p, "replay_offset", le32_to_cpu(sb->replay_offset));
	kvf_print_field_dec(p, "tail_gen", le32_to_cpu(sb->tail_gen));
	kvf_print_field_dec(p, "attested_lsn", le64_to_cpu(sb->attested_lsn));
}

static void super_errors(struct kvf_print *p, const struct kvf_super *sb)
{
	u32 i;

	kvf_print_field_dec(p, "errors_nr", le32_to_cpu(sb->errors_nr));
	for (i = 0; i < KVF_ERRORS; i++) {
		const struct kvf_error_entry *e = &sb->errors[i];

		if (kvf_is_zero(e, sizeof(*e)))
			continue;
		kvf_print_label(p, "error");
		kvf_print_dec(p, le32_to_cpu(e->code));
		kvf_print_str(p, " (");
		kvf_print_str(p, kvf_err_name((int)(le32_to_cpu(e->code) & 0xffff)));
		kvf_print_str(p, ") time ");
		kvf_print_dec(p, le64_to_cpu(e->time));
		if (le32_to_cpu(e->segment) != KVF_NO_SEGMENT) {
			kvf_print_str(p, " segment ");
			kvf_print_dec(p, le32_to_cpu(e->segment));
		}
		kvf_print_char(p, '\n');
	}
}

size_t kvf_super_to_text(char *buf, size_t len, const struct kvf_super *sb)
{
	struct kvf_print pr, *p = &pr;
	u32 label_len = 0;

	while (label_len < KVF_LABEL_BYTES && sb->label[label_len])
		label_len++;
	kvf_print_init(p, buf, len);
	kvf_print_label(p, "magic");
	kvf_print_bytes(p, sb->magic, sizeof(sb->magic));
	kvf_print_char(p, '\n');
	kvf_print_field_hex(p, "sum", le64_to_cpu(sb->sum), 16);
	kvf_print_field_dec(p, "version", le32_to_cpu(sb->version));
	kvf_print_field_dec(p, "size", le32_to_cpu(sb->size));
	kvf_print_field_hex(p, "compat", le64_to_cpu(sb->compat), 1);
	kvf_print_field_hex(p, "ro_compat", le64_to_cpu(sb->ro_compat), 1);
	kvf_print_field_hex(p, "incompat", le64_to_cpu(sb->incompat), 1);
	print_uuid(p, sb->uuid);
	kvf_print_label(p, "label");
	kvf_print_key(p, sb->label, label_len);
	kvf_print_char(p, '\n');
	super_geometry(p, sb);
	kvf_print_field_str(p, "flags",
			    sb->flags == cpu_to_le32(0)			? "-"
			    : sb->flags == cpu_to_le32(KVF_SUPER_CLEAN) ? "clean"
									: "unknown");
	kvf_print_field_dec(p, "seq", le64_to_cpu(sb->seq));
	kvf_print_field_dec(p, "position", le64_to_cpu(sb->position));
	kvf_print_field_dec(p, "generation", le64_to_cpu(sb->generation));
	kvf_print_field_dec(p, "oldest_intact", le64_to_cpu(sb->oldest_intact));
	kvf_print_field_dec(p, "segments", le64_to_cpu(sb->segments));
	kvf_print_field_dec(p, "bytes_max", le64_to_cpu(sb->bytes_max));
	super_log(p, sb);
	field_ref(p, "forest", &sb->forest);
	field_ref(p, "segtab", &sb->segtab);
	kvf_print_field_dec(p, "prev_generation", le64_to_cpu(sb->prev_generation));
	field_ref(p, "prev_forest", &sb->prev_forest);
	field_ref(p, "prev_segtab", &sb->prev_segtab);
	super_errors(p, sb);
	kvf_print_field_dec(p, "next_tree", le32_to_cpu(sb->next_tree));
	kvf_print_field_dec(p, "next_object", le64_to_cpu(sb->next_object));
	kvf_print_field_dec(p, "created", le64_to_cpu(sb->created));
	kvf_print_field_dec(p, "next_lsn", le64_to_cpu(sb->next_lsn));
	return p->len;
}

size_t kvf_segment_header_to_text(char *buf, size_t len, const struct kvf_segment_header *h)
{
	struct kvf_print pr, *p = &pr;

	kvf_print_init(p, buf, len);
	kvf_print_field_hex(p, "magic", le32_to_cpu(h->magic), 8);
	named(p, "kind", h->kind, segment_kinds, COUNT(segment_kinds));
	kvf_print_field_hex(p, "sum", le64_to_cpu(h->sum), 16);
	print_uuid(p, h->uuid);
	kvf_print_field_dec(p, "segment", le32_to_cpu(h->segment));
	kvf_print_field_dec(p, "gen", le32_to_cpu(h->gen));
	kvf_print_field_dec(p, "incarnation", le32_to_cpu(h->incarnation));
	kvf_print_field_dec(p, "next_segment", le32_to_cpu(h->next_segment));
	kvf_print_field_dec(p, "next_gen", le32_to_cpu(h->next_gen));
	kvf_print_field_dec(p, "first_lsn", le64_to_cpu(h->first_lsn));
	return p->len;
}

size_t kvf_segment_entry_to_text(char *buf, size_t len, const void *entry, u32 entry_len)
{
	struct kvf_print pr, *p = &pr;
	struct kvf_segment_entry e;

	kvf_print_init(p, buf, len);
	if (entry_len < sizeof(e)) {
		kvf_print_str(p, "too short for an entry\n");
		return p->len;
	}
	memcpy(&e, entry, sizeof(e));
	kvf_print_field_dec(p, "gen", le32_to_cpu(e.gen));
	named(p, "kind", e.kind, segment_kinds, COUNT(segment_kinds));
	kvf_print_label(p, "flags");
	kvf_print_str(p, e.flags & KVF_SEGMENT_SEALED ? "sealed " : "");
	kvf_print_str(p, e.flags & KVF_SEGMENT_QUARANTINE ? "quarantine " : "");
	kvf_print_str(p, e.flags & KVF_SEGMENT_COLD ? "cold " : "");
	kvf_print_str(p, e.flags & KVF_SEGMENT_FOOTER ? "footer " : "");
	kvf_print_str(p, "0x");
	kvf_print_hex(p, e.flags, 2);
	kvf_print_char(p, '\n');
	kvf_print_field_dec(p, "live", le64_to_cpu(e.live));
	kvf_print_field_dec(p, "pinned", le64_to_cpu(e.pinned));
	kvf_print_field_dec(p, "last_lsn", le64_to_cpu(e.last_lsn));
	kvf_print_field_dec(p, "incarnation", le32_to_cpu(e.incarnation));
	kvf_print_field_dec(p, "bitmap_len", le16_to_cpu(e.bitmap_len));
	kvf_print_label(p, "bitmap");
	kvf_print_bytes(p, (const u8 *)entry + sizeof(e), entry_len - sizeof(e));
	kvf_print_char(p, '\n');
	return p->len;
}

size_t kvf_footer_to_text(char *buf, size_t len, const struct kvf_footer *f)
{
	struct kvf_print pr, *p = &pr;

	kvf_print_init(p, buf, len);
	kvf_print_field_hex(p, "magic", le32_to_cpu(f->magic), 8);
	kvf_print_field_dec(p, "entries", le32_to_cpu(f->entries));
	kvf_print_field_hex(p, "sum", le64_to_cpu(f->sum), 16);
	print_uuid(p, f->uuid);
	kvf_print_field_dec(p, "segment", le32_to_cpu(f->segment));
	kvf_print_field_dec(p, "gen", le32_to_cpu(f->gen));
	kvf_print_field_dec(p, "incarnation", le32_to_cpu(f->incarnation));
	kvf_print_field_dec(p, "end", le32_to_cpu(f->end));
	kvf_print_field_dec(p, "first_lsn", le64_to_cpu(f->first_lsn));
	kvf_print_field_dec(p, "last_lsn", le64_to_cpu(f->last_lsn));
	kvf_print_field_dec(p, "records", le32_to_cpu(f->records));
	kvf_print_field_dec(p, "value_bytes", le64_to_cpu(f->value_bytes));
	return p->len;
}

/* Only the header: how many bytes of extension and key are there is not known here. */
size_t kvf_record_to_text(char *buf, size_t len, const struct kvf_record *r)
{
	struct kvf_print pr, *p = &pr;

	kvf_print_init(p, buf, len);
	kvf_print_field_hex(p, "sum", le64_to_cpu(r->sum), 16);
	named(p, "kind", r->kind, record_kinds, COUNT(record_kinds));
	kvf_print_label(p, "flags");
	kvf_print_str(p, r->flags & KVF_RECORD_EXT ? "ext " : "");
	kvf_print_str(p, r->flags & KVF_RECORD_OBJECT ? "object " : "");
	kvf_print_str(p, r->flags & KVF_RECORD_COPY ? "copy " : "");
	kvf_print_str(p, "0x");
	kvf_print_hex(p, r->flags, 2);
	kvf_print_char(p, '\n');
	kvf_print_field_dec(p, "key_len", le16_to_cpu(r->key_len));
	kvf_print_field_dec(p, "payload_len", le32_to_cpu(r->payload_len));
	kvf_print_field_dec(p, "lsn", le64_to_cpu(r->lsn));
	kvf_print_field_dec(p, "attested", le64_to_cpu(r->attested));
	kvf_print_field_dec(p, "tree", le32_to_cpu(r->tree));
	kvf_print_field_dec(p, "incarnation", le32_to_cpu(r->incarnation));
	kvf_print_field_dec(p, "txn_index", le32_to_cpu(r->txn_index));
	kvf_print_field_dec(p, "txn_count", le32_to_cpu(r->txn_count));
	kvf_print_field_hex(p, "payload_sum", le64_to_cpu(r->payload_sum), 16);
	return p->len;
}

size_t kvf_ref_to_text(char *buf, size_t len, const struct kvf_ref *ref)
{
	struct kvf_print p;

	kvf_print_init(&p, buf, len);
	print_ref(&p, ref);
	return p.len;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void page_header(struct kvf_print *p, const struct kvf_page *page)
{
	kvf_print_field_hex(p, "magic", le32_to_cpu(page->magic), 8);
	kvf_print_field_dec(p, "level", page->level);
	kvf_print_field_hex(p, "flags", page->flags, 2);
	kvf_print_field_dec(p, "nr", le16_to_cpu(page->nr));
	kvf_print_field_hex(p, "head_sum", le64_to_cpu(page->head_sum), 16);
	kvf_print_field_hex(p, "body_sum", le64_to_cpu(page->body_sum), 16);
	print_uuid(p, page->uuid);
	kvf_print_field_dec(p, "block0", le64_to_cpu(page->block0));
	kvf_print_field_dec(p, "block1", le64_to_cpu(page->block1));
	kvf_print_field_dec(p, "generation", le64_to_cpu(page->generation));
	kvf_print_field_dec(p, "lsn", le64_to_cpu(page->lsn));
	kvf_print_field_dec(p, "tree", le32_to_cpu(page->tree));
	kvf_print_field_dec(p, "bytes", le32_to_cpu(page->bytes));
	kvf_print_field_dec(p, "heap", le32_to_cpu(page->heap));
	kvf_print_field_dec(p, "holes", le32_to_cpu(page->holes));
	kvf_print_field_dec(p, "lower_len", le16_to_cpu(page->lower_len));
	kvf_print_field_dec(p, "upper_len", le16_to_cpu(page->upper_len));
	kvf_print_field_dec(p, "prefix_len", le16_to_cpu(page->prefix_len));
}

/* Key bytes, cut at KEY_SHOWN. */
static void print_cut(struct kvf_print *p, const u8 *key, u32 len)
{
	kvf_print_key(p, key, KVF_MIN(len, KEY_SHOWN));
	if (len > KEY_SHOWN)
		kvf_print_str(p, "...");
}

/* len bytes at off units from the end of the page, or NULL when they are not inside. */
static const u8 *heap_bytes(const u8 *page, u32 page_len, u32 off, u32 len)
{
	u32 from_end = off * 4;

	if (from_end > page_len - sizeof(struct kvf_page) || len > from_end)
		return NULL;
	return page + page_len - from_end;
}

static void page_fence(struct kvf_print *p, const char *name, const u8 *page, u32 page_len, u32 off,
		       u32 len)
{
	const u8 *fence = heap_bytes(page, page_len, off, len);

	kvf_print_label(p, name);
	if (!off)
		kvf_print_str(p, "none");
	else if (!fence)
		kvf_print_str(p, "out of bounds");
	else
		print_cut(p, fence, len);
	kvf_print_char(p, '\n');
}

static void print_cell(struct kvf_print *p, u8 level, u8 flags, const u8 *cell, u32 len)
{
	struct kvf_value_ref v;
	struct kvf_ref ref;
	u32 ext_len = 0;

	if (level && len == sizeof(ref)) {
		memcpy(&ref, cell, sizeof(ref));
		print_ref(p, &ref);
		return;
	}
	if (flags & KVF_CELL_EXT && !kvf_ext_verify(cell, len, &ext_len)) {
		kvf_print_str(p, "type ");
		kvf_print_str(p, value_types[cell[1]]);
		kvf_print_char(p, ' ');
	}
	kvf_print_str(p, flags & KVF_CELL_POISON ? "poison " : "");
	if ((flags & KVF_CELL_KIND) == KVF_CELL_REF && len - ext_len == sizeof(v)) {
		memcpy(&v, cell + ext_len, sizeof(v));
		kvf_print_str(p, "segment ");
		kvf_print_dec(p, le32_to_cpu(v.segment));
		kvf_print_str(p, " gen ");
		kvf_print_dec(p, le32_to_cpu(v.segment_gen));
		kvf_print_str(p, " offset ");
		kvf_print_dec(p, le32_to_cpu(v.offset));
		kvf_print_str(p, " bytes ");
		kvf_print_dec(p, le32_to_cpu(v.payload_len));
		kvf_print_str(p, " lsn ");
		kvf_print_dec(p, le64_to_cpu(v.lsn));
		return;
	}
	kvf_print_str(p, cell_kinds[flags & KVF_CELL_KIND] ? cell_kinds[flags & KVF_CELL_KIND]
							   : "unknown");
	kvf_print_str(p, " of ");
	kvf_print_dec(p, len - ext_len);
	kvf_print_str(p, " bytes");
}

static void page_slot(struct kvf_print *p, const u8 *page, u32 page_len, u32 i)
{
	const struct kvf_page *head = (const struct kvf_page *)page;
	const struct kvf_slot *slot = kvf_page_slots(page) + i;
	u32 off = le16_to_cpu(slot->off), suffix_len = le16_to_cpu(slot->suffix_len);
	u32 prefix_len = le16_to_cpu(head->prefix_len), cell_len;
	const struct kvf_item *item;
	const u8 *prefix, *suffix;

	kvf_print_str(p, "slot ");
	kvf_print_dec(p, i);
	kvf_print_str(p, ": ");
	item = (const struct kvf_item *)heap_bytes(page, page_len, off, sizeof(*item) + suffix_len);
	prefix = heap_bytes(page, page_len, le16_to_cpu(head->lower_off), prefix_len);
	if (!item || !prefix) {
		kvf_print_str(p, "out of bounds\n");
		return;
	}
	suffix = (const u8 *)(item + 1);
	print_cut(p, prefix, prefix_len);
	print_cut(p, suffix, suffix_len);
	kvf_print_str(p, " -> ");
	cell_len = le16_to_cpu(item->cell_len);
	if (heap_bytes(page, page_len, off, (u32)sizeof(*item) + suffix_len + cell_len))
		print_cell(p, head->level, item->flags, suffix + suffix_len, cell_len);
	else
		kvf_print_str(p, "out of bounds");
	kvf_print_char(p, '\n');
}

/* Fences and entries of a compact leaf, as far as they are in bounds. */
static void compact_entries(struct kvf_print *p, const struct kvf_page *head, u32 page_len)
{
	u32 i, n, at = kvf_leaf_start(head), lower_len = le16_to_cpu(head->lower_len);
	u32 prefix_len = le16_to_cpu(head->prefix_len), heap = le32_to_cpu(head->heap);
	const u8 *fences = (const u8 *)(head + 1);
	struct kvf_leaf_entry e;

	if (heap > page_len - sizeof(*head) || at - sizeof(*head) > heap || prefix_len > lower_len) {
		kvf_print_str(p, "fences out of bounds\n");
		return;
	}
	kvf_print_label(p, "lower");
	print_cut(p, fences, lower_len);
	kvf_print_char(p, '\n');
	kvf_print_label(p, "upper");
	print_cut(p, fences + lower_len, le16_to_cpu(head->upper_len));
	kvf_print_char(p, '\n');
	for (i = 0; i < le16_to_cpu(head->nr); i++, at += n) {
		n = kvf_leaf_entry(head, at, (u32)sizeof(*head) + heap, &e);
		if (!n) {
			kvf_print_str(p, "entries out of bounds\n");
			return;
		}
		kvf_print_str(p, "entry ");
		kvf_print_dec(p, i);
		kvf_print_str(p, ": ");
		print_cut(p, fences, prefix_len);
		print_cut(p, e.suffix, e.suffix_len);
		kvf_print_str(p, " -> ");
		print_cell(p, 0, e.flags, e.cell, e.cell_len);
		kvf_print_char(p, '\n');
	}
}

size_t kvf_page_to_text(char *buf, size_t len, const void *page, u32 page_len)
{
	const struct kvf_page *head = page;
	struct kvf_print pr, *p = &pr;
	u32 i, nr;

	kvf_print_init(p, buf, len);
	if (page_len < sizeof(*head)) {
		kvf_print_str(p, "too short for a page\n");
		return p->len;
	}
	page_header(p, head);
	if (head->flags & KVF_PAGE_COMPACT) {
		compact_entries(p, head, page_len);
		return p->len;
	}
	page_fence(p, "lower", page, page_len, le16_to_cpu(head->lower_off),
		   le16_to_cpu(head->lower_len));
	page_fence(p, "upper", page, page_len, le16_to_cpu(head->upper_off),
		   le16_to_cpu(head->upper_len));
	nr = le16_to_cpu(head->nr);
	for (i = 0; i < nr; i++) {
		if ((i + 1) * sizeof(struct kvf_slot) > page_len - sizeof(*head)) {
			kvf_print_str(p, "slots out of bounds\n");
			break;
		}
		page_slot(p, page, page_len, i);
	}
	return p->len;
}

size_t kvf_tree_head_to_text(char *buf, size_t len, const struct kvf_tree_head *h)
{
	struct kvf_print pr, *p = &pr;

	kvf_print_init(p, buf, len);
	kvf_print_field_dec(p, "id", le32_to_cpu(h->id));
	kvf_print_field_hex(p, "flags", le32_to_cpu(h->flags), 1);
	kvf_print_field_dec(p, "count", le64_to_cpu(h->count));
	field_ref(p, "root", &h->root);
	kvf_print_field_dec(p, "created_gen", le64_to_cpu(h->created_gen));
	kvf_print_field_dec(p, "created", le64_to_cpu(h->created));
	kvf_print_field_dec(p, "inline_max", le32_to_cpu(h->inline_max));
	kvf_print_field_dec(p, "compression", h->compression);
	kvf_print_field_dec(p, "redundancy", h->redundancy);
	kvf_print_field_dec(p, "index_of", le32_to_cpu(h->index_of));
	kvf_print_field_dec(p, "index_kind", le32_to_cpu(h->index_kind));
	kvf_print_field_dec(p, "counter", le64_to_cpu(h->counter));
	kvf_print_field_dec(p, "origin", le64_to_cpu(h->origin));
	kvf_print_field_dec(p, "origin_object", le64_to_cpu(h->origin_object));
	kvf_print_field_dec(p, "origin_tree", le32_to_cpu(h->origin_tree));
	return p->len;
}

static u32 escaped_bytes(u8 b)
{
	return b < 0x20 || b > 0x7e ? 4 : b == '\\' ? 2 : 1;
}

/* Cut at a whole escape, so that what fits is readable, and marked by "...". */
size_t kvf_key_to_text(char *buf, size_t len, const void *key, u32 key_len)
{
	const u8 *b = key;
	struct kvf_print p;
	size_t total = 0;
	u32 i;

	for (i = 0; i < key_len; i++)
		total += escaped_bytes(b[i]);
	kvf_print_init(&p, buf, len);
	if (total < len) {
		kvf_print_key(&p, b, key_len);
		return total;
	}
	for (i = 0; i < key_len && p.len + escaped_bytes(b[i]) + 3 < len; i++)
		kvf_print_key(&p, b + i, 1);
	kvf_print_str(&p, "...");
	return total;
}
