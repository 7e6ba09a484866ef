/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * leaf.c - the compact form of leaves on the medium.
 *
 * What a frame needs for searching in place (slots, heads, offsets, padding) follows from the entries
 * themselves, so a compact leaf has only these, one behind the other, with numbers in as many bytes as
 * they need. Each number has one form alone: equal entries give equal bytes, in the kernel and elsewhere.
 *
 * A compact entry is never longer than its item in a frame. So a frame is made in place, from behind: what
 * is written has been read, or is not reached yet.
 */
#include "page.h"

#define VARINT_MAX 10u
#define REF_MAX (6 * VARINT_MAX + 4)
#define FLAG_BITS 4u

/* ---- numbers: unsigned LEB128, in the shortest form --------------------------------------------- */

static u32 long_put(u8 *to, u64 v)
{
	u32 n = 0;

	for (; v > 0x7f; v >>= 7)
		to[n++] = (u8)(v | 0x80);
	to[n++] = (u8)v;
	return n;
}

/* Writes VARINT_MAX bytes at most, four at least. */
static inline u32 varint_put(u8 *to, u64 v)
{
	__le32 x;

	if (v < 0x80) {
		*to = (u8)v;
		return 1;
	}
	if (v >= 0x200000)
		return long_put(to, v);
	x = cpu_to_le32((u32)((v & 0x7f) | (v & 0x3f80) << 1 | (v & 0x1fc000) << 2) |
			(v < 0x4000 ? 0x80 : 0x8080));
	memcpy(to, &x, sizeof(x));
	return v < 0x4000 ? 2 : 3;
}

/* What stands in [at, end); bad: it was not there, not in the shortest form, or above most. */
struct reader {
	const u8 *at, *end;
	bool bad;
};

static u64 long_get(struct reader *r, u64 most)
{
	u64 v = 0;
	u32 i;
	u8 b;

	for (i = 0; i < VARINT_MAX && r->at < r->end; i++) {
		b = *r->at++;
		v |= (u64)(b & 0x7f) << 7 * i;
		if (b & 0x80)
			continue;
		if ((i && !b) || (i == VARINT_MAX - 1 && b > 1) || v > most)
			break;
		return v;
	}
	r->bad = true;
	return 0;
}

/* Up to three bytes without a loop, and each place has branches of its own: its numbers are alike. */
static inline u64 varint_get(struct reader *r, u64 most)
{
	__le32 x;
	u32 v;

	if (kvp_unlikely(r->end - r->at < (s64)sizeof(x)))
		return long_get(r, most);
	memcpy(&x, r->at, sizeof(x));
	v = le32_to_cpu(x);
	if (!(v & 0x80)) {
		r->at++;
		v &= 0x7f;
		r->bad |= v > most;
		return v;
	}
	if (!(v & 0x8000)) {
		r->at += 2;
		v = (v & 0x7f) | (v >> 1 & 0x3f80);
		r->bad |= v < 0x80 || v > most;
		return v;
	}
	if (!(v & 0x800000)) {
		r->at += 3;
		v = (v & 0x7f) | (v >> 1 & 0x3f80) | (v >> 2 & 0x1fc000);
		r->bad |= v < 0x4000 || v > most;
		return v;
	}
	return long_get(r, most);
}

static const u8 *bytes_get(struct reader *r, u32 n)
{
	const u8 *at = r->at;

	if (r->bad || n > (size_t)(r->end - at)) {
		r->bad = true;
		return NULL;
	}
	r->at += n;
	return at;
}

/* ---- entries ---------------------------------------------------------------------------------- */

static bool is_ref(u8 flags)
{
	return (flags & (KVF_CELL_KIND | KVF_CELL_EXT)) == KVF_CELL_REF;
}

static u32 item_bytes(u32 suffix_len, u32 cell_len)
{
	return (u32)KVF_ROUND_UP(sizeof(struct kvf_item) + suffix_len + cell_len, KVF_HEAP_UNIT);
}

static u32 ref_put(u8 *to, const void *cell, u64 page_lsn)
{
	struct kvf_value_ref v;
	u32 n = 0;

	memcpy(&v, cell, sizeof(v));
	memcpy(to, &v.sum32, sizeof(v.sum32));
	n += (u32)sizeof(v.sum32);
	n += varint_put(to + n, le32_to_cpu(v.segment));
	n += varint_put(to + n, le32_to_cpu(v.segment_gen));
	n += varint_put(to + n, le32_to_cpu(v.offset) / KVF_RECORD_ALIGN);
	n += varint_put(to + n, le32_to_cpu(v.payload_len));
	n += varint_put(to + n, page_lsn - le64_to_cpu(v.lsn));
	n += varint_put(to + n, le16_to_cpu(v.head_len));
	return n;
}

static void ref_get(struct reader *r, u64 page_lsn, struct kvf_value_ref *v)
{
	const u8 *sum;

	memset(v, 0, sizeof(*v));
	sum = bytes_get(r, sizeof(v->sum32));
	if (!sum)
		return;
	memcpy(&v->sum32, sum, sizeof(v->sum32));
	v->segment = cpu_to_le32((u32)varint_get(r, 0xffffffffu));
	v->segment_gen = cpu_to_le32((u32)varint_get(r, 0xffffffffu));
	v->offset = cpu_to_le32((u32)varint_get(r, 0xffffffffu / KVF_RECORD_ALIGN) * KVF_RECORD_ALIGN);
	v->payload_len = cpu_to_le32((u32)varint_get(r, 0xffffffffu));
	v->lsn = cpu_to_le64(page_lsn - varint_get(r, ~0ull));
	v->head_len = cpu_to_le16((u16)varint_get(r, 0xffffu));
}

u32 kvf_leaf_start(const struct kvf_page *p)
{
	return (u32)sizeof(*p) + le16_to_cpu(p->lower_len) + le16_to_cpu(p->upper_len);
}

u32 kvf_leaf_entry(const void *page, u32 at, u32 end, struct kvf_leaf_entry *e)
{
	struct reader r = { (const u8 *)page + at, (const u8 *)page + end, false };
	u64 lsn = le64_to_cpu(((const struct kvf_page *)page)->lsn);
	u32 n = (u32)varint_get(&r, (0xffffu << FLAG_BITS) | 0xfu);

	e->suffix_len = n >> FLAG_BITS;
	e->flags = n & ((1u << FLAG_BITS) - 1);
	e->cell_len = sizeof(e->ref);
	if (!is_ref(e->flags))
		e->cell_len = (u32)varint_get(&r, 0xffffu);
	e->suffix = bytes_get(&r, e->suffix_len);
	if (is_ref(e->flags)) {
		e->cell = (const u8 *)&e->ref;
		ref_get(&r, lsn, &e->ref);
	} else {
		e->cell = bytes_get(&r, e->cell_len);
	}
	n = (u32)(r.at - ((const u8 *)page + at));
	return r.bad || n > item_bytes(e->suffix_len, e->cell_len) ? 0 : n;
}

/* ---- pack ------------------------------------------------------------------------------------- */

/*
 * Slot i of the frame; 0: no room, or it would be longer than its item. The most that it may take exceeds
 * what it takes by less than KVF_LEAF_SLACK.
 */
static u32 entry_put(u8 *to, u32 room, const void *page, u32 frame, u32 i)
{
	u32 suffix_len = le16_to_cpu(kvf_page_slots(page)[i].suffix_len), cell_len, n;
	const struct kvf_item *it = kvf_page_item(page, frame, i);
	const u8 *suffix = (const u8 *)(it + 1), *cell = suffix + suffix_len;
	bool ref = is_ref(it->flags);

	KVP_BUILD_BUG_ON(2 * VARINT_MAX + REF_MAX > KVF_LEAF_SLACK + 11);
	cell_len = le16_to_cpu(it->cell_len);
	if (2 * VARINT_MAX + suffix_len + (ref ? REF_MAX : cell_len) > room + KVF_LEAF_SLACK)
		return 0;
	n = varint_put(to, suffix_len << FLAG_BITS | it->flags);
	if (!ref)
		n += varint_put(to + n, cell_len);
	memcpy(to + n, suffix, suffix_len);
	n += suffix_len;
	if (ref)
		n += ref_put(to + n, cell, le64_to_cpu(((const struct kvf_page *)page)->lsn));
	else if (cell_len)
		memcpy(to + n, cell, cell_len);
	n += ref ? 0 : cell_len;
	return n > KVF_MIN(room, item_bytes(suffix_len, cell_len)) ? 0 : n;
}

u32 kvf_leaf_pack(const void *page, u32 frame, void *dst, u32 room)
{
	const struct kvf_page *p = page;
	struct kvf_page *to = dst;
	u32 i, n, at, lower_len, upper_len, nr = le16_to_cpu(p->nr);
	const u8 *lower = kvf_page_lower(page, frame, &lower_len);
	const u8 *upper = kvf_page_upper(page, frame, &upper_len);

	at = kvf_leaf_start(p);
	if (at > room)
		return 0;
	memcpy(to, p, sizeof(*p));
	to->flags |= KVF_PAGE_COMPACT;
	to->lower_off = to->upper_off = cpu_to_le16(0);
	to->holes = cpu_to_le32(0);
	memset(to->hints, 0, sizeof(to->hints));
	if (lower)
		memcpy(to + 1, lower, lower_len);
	if (upper)
		memcpy((u8 *)(to + 1) + lower_len, upper, upper_len);
	for (i = 0; i < nr; i++) {
		n = entry_put((u8 *)dst + at, room - at, page, frame, i);
		if (!n)
			return 0;
		at += n;
	}
	to->heap = cpu_to_le32(at - (u32)sizeof(*to));
	return at;
}

/* ---- verify ----------------------------------------------------------------------------------- */

/* What of the page has been read: the keys so far, and the bytes that it takes in a frame. */
struct walked {
	const struct kvf_page *p;
	const u8 *lower, *upper; /* behind the prefix; NULL: none */
	u32 lower_len, upper_len;
	const u8 *last; /* suffix of the entry before, NULL: none */
	u32 last_len, last_head;
	u32 bytes;
};

static int entry_verify(struct walked *w, const struct kvf_leaf_entry *e, const struct kvf_geometry *g)
{
	u32 key_len = le16_to_cpu(w->p->prefix_len) + e->suffix_len;
	u32 head = kvf_key_head(e->suffix, e->suffix_len);

	if (!key_len || key_len > g->key_max || e->suffix_len + e->cell_len > g->item_max)
		return KVF_F_page_layout;
	w->bytes += (u32)sizeof(struct kvf_slot) + item_bytes(e->suffix_len, e->cell_len);
	/* Where heads rise, keys do. */
	if (w->last && w->last_head >= head &&
	    kvf_key_compare(w->last, w->last_len, e->suffix, e->suffix_len) >= 0)
		return KVF_F_page_order;
	/* the first is the least, and the last the greatest */
	if (!w->last && w->lower && kvf_key_compare(e->suffix, e->suffix_len, w->lower, w->lower_len) < 0)
		return KVF_F_page_fence;
	w->last = e->suffix;
	w->last_len = e->suffix_len;
	w->last_head = head;
	return kvf_cell_verify(e->flags, e->cell, e->cell_len, g);
}

/* What of a fence is left behind the prefix. */
static u32 behind(const u8 **fence, u32 len, u32 prefix_len)
{
	if (!*fence)
		return 0;
	*fence += prefix_len;
	return len - prefix_len;
}

/* The header alone; fences stand behind it. */
static int fences_take(struct walked *w, u32 len, const struct kvf_geometry *g)
{
	const struct kvf_page *p = w->p;
	u32 lower_len = le16_to_cpu(p->lower_len), upper_len = le16_to_cpu(p->upper_len);
	u32 prefix_len = le16_to_cpu(p->prefix_len), heap = le32_to_cpu(p->heap);
	const u8 *fences = (const u8 *)(p + 1);
	int finding;

	if (heap > len - sizeof(*p) || lower_len + upper_len > heap || lower_len > g->key_max ||
	    upper_len > g->key_max || p->lower_off != cpu_to_le16(0) || p->upper_off != cpu_to_le16(0))
		return KVF_F_page_layout;
	w->lower = lower_len ? fences : NULL;
	w->upper = upper_len ? fences + lower_len : NULL;
	finding = kvf_page_fences_verify(w->lower, lower_len, w->upper, upper_len, prefix_len);
	if (finding)
		return finding;
	w->bytes = (u32)(sizeof(*p) + KVF_ROUND_UP(lower_len, KVF_HEAP_UNIT) +
			 KVF_ROUND_UP(upper_len, KVF_HEAP_UNIT));
	w->lower_len = behind(&w->lower, lower_len, prefix_len);
	w->upper_len = behind(&w->upper, upper_len, prefix_len);
	return 0;
}

int kvf_leaf_verify(const void *page, u32 len, const struct kvf_geometry *g)
{
	struct walked w = { .p = page };
	u32 i, n, at, end, nr = le16_to_cpu(w.p->nr);
	struct kvf_leaf_entry e;
	int finding = KVF_F_page_reserved;

	if (kvf_is_zero(w.p->reserved, sizeof(w.p->reserved)))
		finding = fences_take(&w, len, g);
	if (finding)
		return finding;
	at = kvf_leaf_start(w.p);
	end = (u32)sizeof(*w.p) + le32_to_cpu(w.p->heap);
	for (i = 0; i < nr; i++) {
		n = kvf_leaf_entry(page, at, end, &e);
		if (!n)
			return KVF_F_page_layout;
		at += n;
		finding = entry_verify(&w, &e, g);
		if (finding)
			return finding;
	}
	if (at != end || w.bytes > g->frame)
		return KVF_F_page_layout;
	if (w.upper && w.last && kvf_key_compare(w.last, w.last_len, w.upper, w.upper_len) >= 0)
		return KVF_F_page_fence;
	return 0;
}

/* ---- unpack ----------------------------------------------------------------------------------- */

/* First pass, upwards: slots, with the place of each entry behind first as its offset. */
static void slots_make(u8 *page, u32 first, u32 end)
{
	struct kvf_slot *slots = (struct kvf_slot *)(page + sizeof(struct kvf_page));
	u32 i, at = first, nr = le16_to_cpu(((struct kvf_page *)page)->nr);
	struct kvf_leaf_entry e;

	for (i = 0; i < nr; i++) {
		slots[i].off = cpu_to_le16((u16)(at - first));
		at += kvf_leaf_entry(page, at, end, &e);
		slots[i].head = cpu_to_le32(kvf_key_head(e.suffix, e.suffix_len));
		slots[i].suffix_len = cpu_to_le16((u16)e.suffix_len);
	}
}

/* The item of an entry, at the end of room; both may overlap. Returns its offset from the end of the page. */
static u32 item_make(u8 *page, u32 frame, u32 used, const struct kvf_leaf_entry *e)
{
	u32 bytes = item_bytes(e->suffix_len, e->cell_len), data = e->suffix_len;
	u8 *to = page + frame - used - bytes;
	struct kvf_item item = { .cell_len = cpu_to_le16((u16)e->cell_len), .flags = e->flags };

	/* The cell of any other entry follows its suffix. */
	if (!is_ref(e->flags))
		data += e->cell_len;
	memmove(to + sizeof(item), e->suffix, data);
	if (is_ref(e->flags))
		memcpy(to + sizeof(item) + data, &e->ref, sizeof(e->ref));
	memcpy(to, &item, sizeof(item));
	data = (u32)sizeof(item) + e->suffix_len + e->cell_len;
	memset(to + data, 0, bytes - data);
	return used + bytes;
}

static u32 fence_make(u8 *page, u32 frame, u32 used, const u8 *from, u32 len)
{
	u32 bytes = (u32)KVF_ROUND_UP(len, KVF_HEAP_UNIT);
	u8 *to = page + frame - used - bytes;

	memmove(to, from, len);
	memset(to + len, 0, bytes - len);
	return used + bytes;
}

void kvf_leaf_unpack(void *page, u32 frame)
{
	struct kvf_page *p = page;
	u32 i, used = 0, lower_len = le16_to_cpu(p->lower_len), upper_len = le16_to_cpu(p->upper_len);
	u32 nr = le16_to_cpu(p->nr), heap = le32_to_cpu(p->heap);
	u32 fences = (u32)(sizeof(*p) + nr * sizeof(struct kvf_slot)), first = fences + lower_len + upper_len;
	struct kvf_slot *slots = (struct kvf_slot *)(p + 1);
	struct kvf_leaf_entry e;

	/* Behind the slots: as the items are no shorter, it fits there, and is not overtaken. */
	memmove((u8 *)page + fences, p + 1, heap);
	slots_make(page, first, fences + heap);
	for (i = nr; i--;) {
		kvf_leaf_entry(page, first + le16_to_cpu(slots[i].off), fences + heap, &e);
		used = item_make(page, frame, used, &e);
		slots[i].off = cpu_to_le16((u16)(used / KVF_HEAP_UNIT));
	}
	used = fence_make(page, frame, used, (u8 *)page + fences + lower_len, upper_len);
	p->upper_off = cpu_to_le16((u16)(upper_len ? used / KVF_HEAP_UNIT : 0));
	used = fence_make(page, frame, used, (u8 *)page + fences, lower_len);
	p->lower_off = cpu_to_le16((u16)(lower_len ? used / KVF_HEAP_UNIT : 0));
	p->heap = cpu_to_le32(used);
	p->flags &= (u8)~KVF_PAGE_COMPACT;
}
