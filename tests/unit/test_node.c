/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_node.c - engine/node.c and engine/node_split.c against a sorted array.
 *
 * A row of pages with adjoining fences, as the leaves (or one level of inner pages) of a tree have
 * them, grows by splits and shrinks by merges under random inserts, replaces and removes. The model is
 * one sorted array of all entries; every search of every kind is compared with it, and a checker that
 * knows only kv_format.h looks at the pages. Key shapes are made to hurt: shared prefixes, zeros, 0xff
 * runs, keys that are prefixes of each other, ascending numbers, the longest keys.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../engine/node.h"
#include "../../format/page.h"
#include "tests/unit/suite.h"

#define PAGES_MAX 24
#define ENTRIES_MAX 60000
#define SEEDS 24u

/* ck_assert writes to a file each time, which is too slow for what is asked a billion times. */
#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("line %d: %s", __LINE__, #cond);                              \
	} while (0)

struct entry {
	u32 len, cell_len;
	u8 flags;
	u8 *key, *cell;
};

struct world {
	u64 rng;
	u32 frame, key_max, item_max;
	u8 level, cell_flags; /* cell_flags: of the cell made last */
	int shape;
	u32 next; /* ascending keys */
	struct kvf_geometry g;
	void *scratch, *before;
	u32 pages;
	u8 *page[PAGES_MAX];
	u32 nr;
	struct entry *e;
	u32 splits, merges, compactions, compact;
};

enum shape { SHORT, LONG, PREFIX, ZEROS, ONES, ASCENDING, NESTED, MIXED, SHAPES };

static u32 rnd(struct world *w, u32 n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (u32)((w->rng >> 11) % n);
}

/* ---- model ----------------------------------------------------------------------------------- */

static int key_cmp(const void *a, u32 alen, const void *b, u32 blen)
{
	int c = memcmp(a, b, alen < blen ? alen : blen);

	return c ? c : alen < blen ? -1 : alen > blen;
}

static u32 model_search(struct world *w, const void *key, u32 len, bool *exact)
{
	u32 lo = 0, hi = w->nr;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (key_cmp(w->e[mid].key, w->e[mid].len, key, len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*exact = lo < w->nr && !key_cmp(w->e[lo].key, w->e[lo].len, key, len);
	return lo;
}

static u8 *copy_of(const void *p, u32 len)
{
	u8 *c = malloc(len ? len : 1);

	must(c);
	memcpy(c, p, len);
	return c;
}

static void model_insert(struct world *w, u32 at, const void *key, u32 len, const u8 *cell, u32 cell_len)
{
	must(w->nr < ENTRIES_MAX);
	memmove(w->e + at + 1, w->e + at, (w->nr - at) * sizeof(*w->e));
	w->e[at] = (struct entry){ len, cell_len, w->cell_flags, copy_of(key, len), copy_of(cell, cell_len) };
	w->nr++;
}

static void model_remove(struct world *w, u32 at)
{
	free(w->e[at].key);
	free(w->e[at].cell);
	memmove(w->e + at, w->e + at + 1, (w->nr - at - 1) * sizeof(*w->e));
	w->nr--;
}

/* First entry of the model that stands in page i. */
static u32 model_base(struct world *w, u32 i)
{
	u32 p, base = 0;

	for (p = 0; p < i; p++)
		base += kve_node_nr(w->page[p]);
	return base;
}

/* ---- keys and cells -------------------------------------------------------------------------- */

static u32 make_key(struct world *w, u8 *key)
{
	u32 i, len, shape = w->shape == MIXED ? rnd(w, MIXED) : (u32)w->shape;

	switch (shape) {
	case SHORT:
		len = 1 + rnd(w, 6);
		break;
	case LONG:
		len = w->key_max - rnd(w, rnd(w, 2) ? 4 : w->key_max);
		break;
	case ASCENDING:
		kvf_put_be64(key, w->next++);
		return 8;
	default:
		len = 1 + rnd(w, KVF_MIN(w->key_max, 40u));
	}
	for (i = 0; i < len; i++)
		key[i] = shape == ZEROS ? !rnd(w, 6) : shape == ONES ? 0xff - !rnd(w, 6) : rnd(w, 256);
	if (shape == PREFIX)
		for (i = 0; i < len && i < 20; i++)
			key[i] = i < 18 ? (u8)"common/prefix/of/t"[i] : 'a' + (u8)rnd(w, 3);
	if (shape == NESTED)
		memset(key, rnd(w, 2) ? 'n' : 0, len - rnd(w, KVF_MIN(len, 3u)));
	return len;
}

static u32 make_cell(struct world *w, u32 key_len, u8 *cell)
{
	struct kvf_ref ref = { .block0 = cpu_to_le64(8 * 2048 + 1 + rnd(w, 1000)), .blocks = cpu_to_le32(1),
			       .birth = cpu_to_le64(1 + rnd(w, 99)), .sum = cpu_to_le64(rnd(w, ~0u)) };
	u32 i, len, most = w->item_max - key_len;
	struct kvf_value_ref v = { .segment = cpu_to_le32(3 + rnd(w, 100)),
				   .segment_gen = cpu_to_le32(rnd(w, 2) ? rnd(w, 9) : rnd(w, ~0u)),
				   .offset = cpu_to_le32(w->g.block + 16 * rnd(w, 64)),
				   .payload_len = cpu_to_le32(rnd(w, 1000)),
				   .sum32 = cpu_to_le32(rnd(w, ~0u)),
				   .lsn = cpu_to_le64(1 + rnd(w, rnd(w, 2) ? 99 : ~0u)),
				   .head_len = cpu_to_le16(60 + rnd(w, 99)) };

	w->cell_flags = 0;
	if (w->level) {
		memcpy(cell, &ref, sizeof(ref));
		return sizeof(ref);
	}
	if (most >= sizeof(v) && !rnd(w, 3)) {
		memcpy(cell, &v, sizeof(v));
		w->cell_flags = KVF_CELL_REF;
		return sizeof(v);
	}
	most = KVF_MIN(most, w->g.inline_max);
	len = rnd(w, 4) ? rnd(w, KVF_MIN(most, 32u) + 1) : rnd(w, most + 1);
	for (i = 0; i < len; i++)
		cell[i] = rnd(w, 256);
	return len;
}

/* In one to three parts, some empty. */
static struct kve_cell cell_of(struct world *w, const u8 *cell, u32 len)
{
	struct kve_cell c = { .nr = 1 + rnd(w, 3), .flags = w->cell_flags };
	u32 i, done = 0;

	for (i = 0; i < c.nr; i++) {
		u32 n = i + 1 == c.nr ? len - done : rnd(w, len - done + 1);

		c.part[i].data = n ? cell + done : NULL;
		c.part[i].len = n;
		done += n;
	}
	must(kve_cell_len(&c) == len);
	return c;
}

/* ---- the checker ----------------------------------------------------------------------------- */

static u32 up4(u32 n)
{
	return (n + 3) / 4 * 4;
}

static const u8 *fence(const u8 *page, u32 size, bool upper, u32 *len)
{
	const struct kvf_page *p = (const void *)page;
	u32 off = le16_to_cpu(upper ? p->upper_off : p->lower_off);

	*len = le16_to_cpu(upper ? p->upper_len : p->lower_len);
	return off ? page + size - off * 4 : NULL;
}

static u32 slot_key(const u8 *page, u32 size, u32 i, u8 *key)
{
	const struct kvf_page *p = (const void *)page;
	const struct kvf_slot *s = (const struct kvf_slot *)(page + sizeof(*p)) + i;
	u32 flen, prefix = le16_to_cpu(p->prefix_len), len = le16_to_cpu(s->suffix_len);
	const u8 *suffix = page + size - le16_to_cpu(s->off) * 4 + 4;
	u8 head[4] = { 0 };

	if (prefix)
		memcpy(key, fence(page, size, false, &flen), prefix);
	memcpy(key + prefix, suffix, len);
	memcpy(head, suffix, len < 4 ? len : 4);
	must(le32_to_cpu(s->head) == kvf_get_be32(head));
	return prefix + len;
}

/* Marks [off from the end, + bytes) as used; nothing may be used twice; padding must be zero. */
static void heap_mark(const u8 *page, u32 size, u8 *map, u32 off, u32 len)
{
	u32 i, start = size - off * 4, twice = 0, pad = 0;

	for (i = 0; i < up4(len); i++) {
		twice |= map[start + i];
		map[start + i] = 1;
		if (i >= len)
			pad |= page[start + i];
	}
	must(twice == 0);
	must(pad == 0);
}

static void check_hints(const u8 *page, bool packed)
{
	const struct kvf_page *p = (const void *)page;
	const struct kvf_slot *s = (const void *)(p + 1);
	u32 h, nr = le16_to_cpu(p->nr);

	for (h = 0; h < KVF_HINTS; h++) {
		u32 want = packed || nr <= 32 ? 0 : le32_to_cpu(s[(h + 1) * (nr / 17)].head);

		must(le32_to_cpu(p->hints[h]) == want);
	}
}

/* Everything but the keys' order and contents, which check_page compares with the model. */
static void check_layout(const u8 *page, u32 size, bool packed)
{
	static u8 map[KVF_FRAME_MAX];
	const struct kvf_page *p = (const void *)page;
	const struct kvf_slot *s = (const void *)(p + 1);
	u32 nr = le16_to_cpu(p->nr), heap = le32_to_cpu(p->heap), used = 0, below = 0, gap = 0;
	u32 i, llen, ulen, common = 0;
	const u8 *lower = fence(page, size, false, &llen), *upper = fence(page, size, true, &ulen);

	memset(map, 0, size);
	must(sizeof(*p) + nr * 8 + heap <= size);
	must(le32_to_cpu(p->bytes) == size);
	if (lower)
		heap_mark(page, size, map, le16_to_cpu(p->lower_off), llen);
	if (upper)
		heap_mark(page, size, map, le16_to_cpu(p->upper_off), ulen);
	if (lower && upper)
		while (common < llen && common < ulen && lower[common] == upper[common])
			common++;
	must(le16_to_cpu(p->prefix_len) == common);
	for (i = 0; i < nr; i++) {
		const u8 *item = page + size - le16_to_cpu(s[i].off) * 4;

		must(item[3] == 0);
		heap_mark(page, size, map, le16_to_cpu(s[i].off),
			  4 + le16_to_cpu(s[i].suffix_len) + kvf_get16(item));
	}
	for (i = 0; i < size; i++) {
		used += map[i];
		below += i < size - heap && map[i];
		gap |= i >= sizeof(*p) + nr * 8 && i < size - heap ? page[i] : 0;
	}
	must(below == 0);
	must(!packed || !gap);
	must(heap - le32_to_cpu(p->holes) == used);
	if (packed)
		must(le32_to_cpu(p->holes) == 0);
	check_hints(page, packed);
}

static void check_page(struct world *w, const u8 *page, u32 size, u32 base, bool packed)
{
	u8 key[KVF_FRAME_MAX / 8];
	u32 i, llen, ulen, nr = kve_node_nr(page);
	const u8 *lower, *upper;

	check_layout(page, size, packed);
	lower = fence(page, size, false, &llen);
	upper = fence(page, size, true, &ulen);
	for (i = 0; i < nr; i++) {
		const struct entry *e = w->e + base + i;
		const struct kvf_slot *s = (const void *)(page + sizeof(struct kvf_page) + i * 8);
		const u8 *item = page + size - le16_to_cpu(s->off) * 4;
		u32 len = slot_key(page, size, i, key);

		must(key_cmp(key, len, e->key, e->len) == 0);
		must(kvf_get16(item) == e->cell_len);
		must(item[2] == e->flags);
		must(memcmp(item + 4 + le16_to_cpu(s->suffix_len), e->cell, e->cell_len) == 0);
		must(!lower || key_cmp(lower, llen, key, len) <= 0);
		must(!upper || key_cmp(key, len, upper, ulen) < 0);
	}
}

static void check_all(struct world *w)
{
	u32 i, base = 0;

	for (i = 0; i < w->pages; i++) {
		check_page(w, w->page[i], w->frame, base, false);
		base += kve_node_nr(w->page[i]);
	}
	must(base == w->nr);
}

/* ---- searches -------------------------------------------------------------------------------- */

/* The search in steps; turn, if any, happens to the page between them. */
static u32 search_steps(struct world *w, u8 *page, const void *key, u32 len, bool *exact,
			void (*turn)(struct world *w, u8 *page))
{
	struct kve_search s;

	kve_node_prefetch(page, w->frame);
	kve_node_search_begin(&s, page, w->frame, key, len);
	if (turn)
		turn(w, page);
	kve_node_search_near(&s, page, w->frame);
	if (turn)
		turn(w, page);
	return kve_node_search_end(&s, page, w->frame, exact);
}

/* Every page is asked for the key, also those whose fences exclude it. Returns the page it belongs to. */
static u32 search_all(struct world *w, const void *key, u32 len, u32 *slot, bool *exact)
{
	u32 i, flen, base = 0, home = 0, at = model_search(w, key, len, exact);

	for (i = 0; i < w->pages; i++) {
		u32 nr = kve_node_nr(w->page[i]), want = at <= base ? 0 : KVF_MIN(at - base, nr), got;
		const u8 *lower = fence(w->page[i], w->frame, false, &flen);
		bool here = *exact && at >= base && at < base + nr, is;

		got = kve_node_search(w->page[i], w->frame, key, len, &is);
		must(got == want);
		must(is == here);
		must(search_steps(w, w->page[i], key, len, &is, NULL) == want && is == here);
		must(kve_node_child(w->page[i], w->frame, key, len) == (here || !want ? want : want - 1));
		if (!lower || key_cmp(lower, flen, key, len) <= 0) {
			home = i;
			*slot = got;
		}
		base += nr;
	}
	return home;
}

/* A key close to one that exists: cut, longer, one byte changed; or any key. */
static u32 near_key(struct world *w, u8 *key)
{
	const struct entry *e;
	u32 len;

	if (!w->nr || !rnd(w, 4))
		return make_key(w, key);
	e = w->e + rnd(w, w->nr);
	len = e->len;
	memcpy(key, e->key, len);
	switch (rnd(w, 4)) {
	case 0:
		return len > 1 ? 1 + rnd(w, len - 1) : len;
	case 1:
		if (len < w->key_max)
			key[len++] = rnd(w, 2) ? 0 : rnd(w, 256);
		return len;
	case 2:
		if (len)
			key[rnd(w, len)] += rnd(w, 2) ? 1 : 255;
		return len;
	default:
		return len;
	}
}

/* ---- pages ----------------------------------------------------------------------------------- */

static u8 *page_new(struct world *w)
{
	u8 *p = malloc(w->frame); /* exactly, so that ASan sees its end */

	must(p);
	memset(p, 0xa5, w->frame); /* nobody promises a clean frame */
	return p;
}

static void split(struct world *w, u32 i, const u8 *key, u32 len)
{
	u8 sep[KVF_FRAME_MAX / 8], a[KVF_FRAME_MAX / 8], b[KVF_FRAME_MAX / 8];
	u32 alen, blen, at, sep_len, nr = kve_node_nr(w->page[i]);
	u8 *right = page_new(w);
	const struct kvf_page *l = (void *)w->page[i], *r = (void *)right;

	at = kve_node_split_point(w->page[i], w->frame, key, len);
	must(at >= 1 && at < nr);
	sep_len = kve_node_separator(w->page[i], w->frame, at, sep);
	alen = slot_key(w->page[i], w->frame, at - 1, a);
	blen = slot_key(w->page[i], w->frame, at, b);
	must(key_cmp(a, alen, sep, sep_len) < 0);
	must(key_cmp(sep, sep_len, b, blen) <= 0);
	if (w->level)
		must(key_cmp(sep, sep_len, b, blen) == 0);
	else /* one byte less would not separate */
		must(sep_len == 1 || key_cmp(a, alen, sep, sep_len - 1) >= 0);
	kve_node_split(w->page[i], right, w->frame, at, sep, sep_len, w->scratch);
	must(kve_node_nr(w->page[i]) == at);
	must(kve_node_nr(right) == nr - at);
	must(r->magic == l->magic && r->level == l->level && r->tree == l->tree && !r->block0);
	must(memcmp(r->uuid, l->uuid, 16) == 0);
	must(w->pages < PAGES_MAX);
	memmove(w->page + i + 2, w->page + i + 1, (w->pages - i - 1) * sizeof(*w->page));
	w->page[i + 1] = right;
	w->pages++;
	w->splits++;
}

/* Bytes of the merged page by the model; the first key of an inner right page becomes its fence. */
static u32 merged_bytes(struct world *w, u32 i)
{
	u32 k, llen, ulen, flen, prefix = 0, sum = sizeof(struct kvf_page), base = model_base(w, i);
	u32 nr = kve_node_nr(w->page[i]), all = nr + kve_node_nr(w->page[i + 1]);
	const u8 *lower = fence(w->page[i], w->frame, false, &llen);
	const u8 *upper = fence(w->page[i + 1], w->frame, true, &ulen);

	fence(w->page[i + 1], w->frame, false, &flen);
	if (lower)
		sum += up4(llen);
	if (upper)
		sum += up4(ulen);
	while (lower && upper && prefix < llen && prefix < ulen && lower[prefix] == upper[prefix])
		prefix++;
	for (k = 0; k < all; k++) {
		u32 len = w->level && k == nr ? flen : w->e[base + k].len;

		sum += 8 + up4(4 + len - prefix + w->e[base + k].cell_len);
	}
	return sum;
}

static void try_merge(struct world *w, u32 i)
{
	u32 flen, nr = kve_node_nr(w->page[i]), base = model_base(w, i);
	bool fits = kve_node_merge_fits(w->page[i], w->page[i + 1], w->frame);
	const u8 *f = fence(w->page[i + 1], w->frame, false, &flen);

	must(fits == (merged_bytes(w, i) <= w->frame));
	if (!fits)
		return;
	if (w->level && kve_node_nr(w->page[i + 1])) {
		free(w->e[base + nr].key);
		w->e[base + nr].key = copy_of(f, flen);
		w->e[base + nr].len = flen;
	}
	kve_node_merge(w->page[i], w->page[i + 1], w->frame, w->scratch);
	free(w->page[i + 1]);
	memmove(w->page + i + 1, w->page + i + 2, (w->pages - i - 2) * sizeof(*w->page));
	w->pages--;
	w->merges++;
	check_page(w, w->page[i], w->frame, base, false);
}

/* What was packed has slots, and would not take fewer blocks without them, if it could. */
static void check_packed(struct world *w, const u8 *old, u8 *packed, u32 len, u32 block, u32 base)
{
	u8 *other = page_new(w);

	must(len - (w->frame - kve_node_free(old, w->frame)) < block);
	check_page(w, packed, len, base, true);
	/* this row of pages may have inner pages without children, which a tree never has */
	must(!kvf_page_layout_verify(packed, len, &w->g) || (w->level && !kve_node_nr(old)));
	must(w->level || !kvf_leaf_pack(old, w->frame, other, len - block));
	free(other);
}

/* Compact: whole, shorter, zeros behind it, and made only once. */
static void check_compact(struct world *w, const u8 *old, u8 *packed, u32 len, u32 block)
{
	u32 i, room, plain = (u32)KVF_ROUND_UP(w->frame - kve_node_free(old, w->frame), block);
	u8 *other = page_new(w);

	must(!w->level && len < plain);
	must(!kvf_leaf_verify(packed, len, &w->g));
	room = (u32)sizeof(struct kvf_page) + le32_to_cpu(((struct kvf_page *)packed)->heap);
	for (i = room; i < len; i++)
		must(!packed[i]);
	must(!kvf_leaf_pack(old, w->frame, other, room - 1));
	must(kvf_leaf_pack(old, w->frame, other, room) == room);
	((struct kvf_page *)other)->bytes = ((struct kvf_page *)packed)->bytes;
	must(!memcmp(other, packed, room));
	free(other);
	w->compact++;
}

/* Pack, check, unpack into another frame, go on with that one. */
static void repack(struct world *w, u32 i)
{
	u32 block = 512, base = model_base(w, i), len, ulen, lower_len;
	u8 *p = page_new(w), *old = w->page[i], *packed = w->before;
	const u8 *unpacked, *lower = fence(old, w->frame, false, &lower_len);

	while (block < 4096 && block < w->frame && rnd(w, 2))
		block *= 2;
	((struct kvf_page *)old)->lsn = cpu_to_le64(rnd(w, ~0u));
	memset(packed, 0x5a, w->frame);
	len = kve_node_pack(old, w->frame, packed, block);
	must(len % block == 0 && len <= w->frame);
	if (((struct kvf_page *)packed)->flags & KVF_PAGE_COMPACT)
		check_compact(w, old, packed, len, block);
	else
		check_packed(w, old, packed, len, block, base);
	memcpy(p, packed, len);
	kve_node_unpack(p, w->frame, len);
	check_page(w, p, w->frame, base, false);
	must(!kvf_page_layout_verify(p, w->frame, &w->g) || (w->level && !kve_node_nr(old)));
	must(!((struct kvf_page *)p)->flags);
	must(kve_node_free(p, w->frame) == kve_node_free(old, w->frame));
	unpacked = fence(p, w->frame, false, &ulen);
	must(!lower == !unpacked && (!lower || !key_cmp(lower, lower_len, unpacked, ulen)));
	free(old);
	w->page[i] = p;
}

/* ---- operations ------------------------------------------------------------------------------ */

static void insert(struct world *w, const u8 *key, u32 len)
{
	u8 cell[KVF_FRAME_MAX / 4];
	u32 slot = 0, cell_len = make_cell(w, len, cell), need, tries, i;
	struct kve_cell c = cell_of(w, cell, cell_len);
	bool exact, fits;
	int err;

	for (tries = 0;; tries++) {
		i = search_all(w, key, len, &slot, &exact);
		if (exact)
			return;
		need = kve_node_need(w->page[i], len, cell_len);
		fits = need <= kve_node_free(w->page[i], w->frame);
		w->compactions += fits && le32_to_cpu(((struct kvf_page *)w->page[i])->holes);
		memcpy(w->before, w->page[i], w->frame);
		err = kve_node_insert(w->page[i], w->frame, slot, key, len, &c, w->scratch);
		must(err == (fits ? 0 : -KVE_no_room));
		if (fits)
			break;
		must(memcmp(w->before, w->page[i], w->frame) == 0);
		/* one split must make room */
		must(tries == 0);
		if (w->pages == PAGES_MAX)
			return;
		split(w, i, key, len);
	}
	model_insert(w, model_base(w, i) + slot, key, len, cell, cell_len);
}

static void replace(struct world *w)
{
	u8 cell[KVF_FRAME_MAX / 4];
	u32 slot = 0, at = rnd(w, w->nr), cell_len = make_cell(w, w->e[at].len, cell), i, had, want;
	struct kve_cell c = cell_of(w, cell, cell_len);
	struct entry *e = w->e + at;
	bool exact;
	int err;

	i = search_all(w, e->key, e->len, &slot, &exact);
	must(exact);
	had = kve_node_need(w->page[i], e->len, e->cell_len);
	want = kve_node_need(w->page[i], e->len, cell_len);
	memcpy(w->before, w->page[i], w->frame);
	err = kve_node_replace(w->page[i], w->frame, slot, &c, w->scratch);
	must(err == (want <= kve_node_free(w->before, w->frame) + had ? 0 : -KVE_no_room));
	if (err) {
		must(memcmp(w->before, w->page[i], w->frame) == 0);
		return;
	}
	must(kve_node_free(w->page[i], w->frame) == kve_node_free(w->before, w->frame) + had - want);
	free(e->cell);
	e->cell = copy_of(cell, cell_len);
	e->cell_len = cell_len;
	e->flags = w->cell_flags;
	for (want = 0; want < cell_len; want++)
		e->cell[want] ^= w->level || e->flags ? 0 : 0x33;
	kve_node_cell_set(w->page[i], w->frame, slot, e->cell, cell_len);
}

static void remove_one(struct world *w)
{
	u32 slot = 0, at = rnd(w, w->nr), i, had, free_before;
	bool exact;

	i = search_all(w, w->e[at].key, w->e[at].len, &slot, &exact);
	must(exact);
	had = kve_node_need(w->page[i], w->e[at].len, w->e[at].cell_len);
	free_before = kve_node_free(w->page[i], w->frame);
	kve_node_remove(w->page[i], w->frame, slot);
	must(kve_node_free(w->page[i], w->frame) == free_before + had);
	model_remove(w, at);
}

static void world_open(struct world *w, u32 seed, u8 frame_shift, int shape, u8 level)
{
	static const u8 uuid[16] = "0123456789abcde";

	memset(w, 0, sizeof(*w));
	w->rng = 0x9e3779b97f4a7c15ull * (seed + 1);
	w->frame = 1u << frame_shift;
	w->shape = shape;
	w->level = level;
	must(kvf_geometry_derive(&w->g, 9, 20, frame_shift, 0, 0, 0) == 0);
	w->key_max = w->g.key_max;
	w->item_max = w->g.item_max;
	w->e = calloc(ENTRIES_MAX, sizeof(*w->e));
	w->scratch = page_new(w);
	w->before = page_new(w);
	w->page[0] = page_new(w);
	w->pages = 1;
	kve_node_init(w->page[0], w->frame, uuid, 77, level, NULL, 0, NULL, 0);
	must(kve_node_free(w->page[0], w->frame) == w->frame - sizeof(struct kvf_page));
}

static void world_close(struct world *w)
{
	u32 i;

	while (w->nr)
		model_remove(w, w->nr - 1);
	for (i = 0; i < w->pages; i++)
		free(w->page[i]);
	free(w->e);
	free(w->scratch);
	free(w->before);
}

static void run(struct world *w, u32 ops)
{
	u8 key[KVF_FRAME_MAX / 8];
	u32 i, len, slot = 0;
	bool exact;

	for (i = 0; i < ops; i++) {
		bool grow = (i / 700) % 3 != 2;

		len = near_key(w, key);
		search_all(w, key, len, &slot, &exact);
		len = rnd(w, 3) ? make_key(w, key) : len;
		if (!w->nr || rnd(w, 10) < (grow ? 6u : 1u))
			insert(w, key, len);
		else if (rnd(w, 10) < (grow ? 6u : 2u))
			replace(w);
		else
			remove_one(w);
		if (!rnd(w, 16) && w->pages > 1)
			try_merge(w, rnd(w, w->pages - 1));
		if (!rnd(w, 64))
			repack(w, rnd(w, w->pages));
		if (!rnd(w, 64))
			check_all(w);
	}
	check_all(w);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(random_operations)
{
	u32 seed, splits = 0, merges = 0, compactions = 0, compact = 0;
	u8 shift = 11 + _i / SHAPES;
	int shape = _i % SHAPES;

	for (seed = 0; seed < KVF_MAX(1u, SEEDS >> (shift - 11)); seed++) {
		struct world w;

		world_open(&w, seed * 1000 + _i, shift, shape, seed % 3 == 2);
		run(&w, 4000);
		splits += w.splits;
		merges += w.merges;
		compactions += w.compactions;
		compact += w.compact;
		world_close(&w);
	}
	/* the test is worth something only if pages did fill and empty */
	if (shift == 11 || shape == LONG)
		ck_assert_msg(splits && merges && compactions && compact,
			      "%u splits, %u merges, %u compactions, %u compact leaves", splits, merges,
			      compactions, compact);
}
END_TEST

/* Full pages: a compact one is made into a frame in place. */
static void repack_all(struct world *w)
{
	u32 i;

	for (i = 0; i < w->pages; i++)
		repack(w, i);
}

/* Ascending loads leave pages behind that are full but for what the longer prefix saves. */
START_TEST(ascending_fill)
{
	u32 i, used = 0;
	struct world w;
	u8 key[8];

	world_open(&w, _i, 14, ASCENDING, 0);
	while (w.pages < PAGES_MAX)
		insert(&w, key, make_key(&w, key));
	for (i = 0; i + 1 < w.pages; i++)
		used += w.frame - kve_node_free(w.page[i], w.frame);
	must(used / (w.pages - 1) >= w.frame / 100 * 90);
	check_all(&w);
	repack_all(&w);
	world_close(&w);
}
END_TEST

/* The longest entries: eight of them and two fences fit; a split always makes room for one more. */
START_TEST(longest_entries)
{
	u8 key[KVF_FRAME_MAX / 8], shift = 11 + _i;
	u32 i, n = 0;
	struct world w;

	world_open(&w, _i, shift, LONG, 0);
	while (w.pages < PAGES_MAX) {
		u8 cell[256];
		struct kve_cell c = { .nr = 1, .part = { { cell, w.item_max - w.key_max } } };
		u32 slot = 0, at, tries;
		bool exact;

		for (i = 0; i < w.key_max; i++)
			key[i] = rnd(&w, 256);
		memset(key, n & 1 ? 0xff : 0, rnd(&w, w.key_max));
		memset(cell, n++, sizeof(cell));
		for (tries = 0;; tries++) {
			at = search_all(&w, key, w.key_max, &slot, &exact);
			if (exact)
				break;
			if (!kve_node_insert(w.page[at], w.frame, slot, key, w.key_max, &c, w.scratch)) {
				model_insert(&w, model_base(&w, at) + slot, key, w.key_max, cell,
					     c.part[0].len);
				break;
			}
			must(kve_node_nr(w.page[at]) >= 8);
			must(tries == 0);
			if (w.pages == PAGES_MAX)
				break;
			split(&w, at, key, w.key_max);
		}
	}
	check_all(&w);
	repack_all(&w);
	world_close(&w);
}
END_TEST

static void scribble(struct world *w, u8 *page)
{
	u32 i;

	for (i = 0; i < sizeof(struct kvf_page) + 64; i++)
		page[i] = rnd(w, 4) ? page[i] : rnd(w, 256);
	for (i = 0; i < w->frame / 64; i++)
		page[rnd(w, w->frame)] = rnd(w, 256);
}

/* What a reader that races with a writer may see: any bytes. Answers are garbage, in bounds. */
START_TEST(garbage_is_in_bounds)
{
	u32 k, round;
	struct world w;

	world_open(&w, 1, 11, MIXED, 0);
	for (round = 0; round < 20000; round++) {
		u8 key[16], *page = w.page[0];
		u32 len = rnd(&w, sizeof(key) + 1), most = (w.frame - sizeof(struct kvf_page)) / 8, got;
		bool exact;

		scribble(&w, page);
		for (k = 0; k < sizeof(key); k++)
			key[k] = page[rnd(&w, w.frame)];
		/* keys that agree with a garbage head reach the comparison of suffixes */
		if (rnd(&w, 2))
			kvf_put_be32(key, kvf_get32(page + sizeof(struct kvf_page) + 8 * rnd(&w, 8)));
		got = kve_node_search(page, w.frame, key, len, &exact);
		must(got <= most);
		must(kve_node_child(page, w.frame, key, len) <= most);
		must(search_steps(&w, page, key, len, &exact, scribble) <= most);
	}
	w.nr = 0;
	world_close(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("node");
	TCase *t = tcase_create("node");

	tcase_set_timeout(t, 600);
	tcase_add_loop_test(t, random_operations, 0, 6 * SHAPES);
	tcase_add_loop_test(t, ascending_fill, 0, 3);
	tcase_add_loop_test(t, longest_entries, 0, 6);
	tcase_add_test(t, garbage_is_in_bounds);
	suite_add_tcase(s, t);
	return suite_run(s);
}
