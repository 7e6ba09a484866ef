/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_snapshot_many.c - many named snapshots with random changes between them, deleted in any order. Each
 * shows what it showed until it is deleted. In the end, after garbage collection, no dead list is left, every
 * block and byte is accounted for, and the volume uses what it would use if there had never been any.
 *
 * KV_TEST_LONG=1 ('make long-snapshots'): 1,000 snapshots; 60 otherwise.
 */
#define KEYS 400u
#define SNAPS 1000u

#include "engine/kve.h"
#include "format/kvf.h"
#include "tests/unit/history.h"

static uint32_t snapshots(void)
{
	return getenv("KV_TEST_LONG") ? SNAPS : 60;
}

static int is_list(void *arg, const u8 *key, u32 key_len, u8 flags, const u8 *cell, u32 cell_len)
{
	(void)key_len;
	(void)flags;
	(void)cell;
	(void)cell_len;
	if (key[0] != KVF_SEGTAB_LIST)
		return 1;
	++*(uint32_t *)arg;
	return 0;
}

/* Rows of dead lists in the segment table. Nobody else uses the volume. */
static uint32_t dead_lists(struct history *h)
{
	u8 first = KVF_SEGTAB_LIST, *page = kvp_iobuf_alloc(h->v.db->geo.frame);
	uint32_t n = 0;

	must(page);
	must(kve_tree_each(h->v.db->segtab, KVE_LIVE, &first, 1, page, is_list, &n) >= 0);
	kvp_iobuf_free(page, h->v.db->geo.frame);
	return n;
}

static void verify_at(struct history *h, int64_t nr)
{
	if (nr >= 0 && nr < h->snaps && h->there[nr])
		verify_snap(h, (uint32_t)nr);
}

/* One that is there, looked at a last time; then those beside it, which share most with it. */
static void delete_one(struct history *h)
{
	int64_t nr = snap_any(h), before = nr - 1, after = nr + 1;

	verify_snap(h, (uint32_t)nr);
	snap_delete(h, (uint32_t)nr);
	while (before >= 0 && !h->there[before])
		before--;
	while (after < h->snaps && !h->there[after])
		after++;
	verify_at(h, before);
	verify_at(h, after);
}

/* As 'kvs gc' does it, to its end. */
static void collect(struct history *h)
{
	kv_gc_info info;

	do
		ok(kv_gc(h->v.db, 4 << 20, &info));
	while (info.more);
	judged_reopen(&h->v);
	ok(kv_checkpoint(h->v.db));
	ok(kv_checkpoint(h->v.db));
}

/* The same changes, with snapshots in between or without. */
static void history(struct history *h, int world, bool with, kv_stat_info *st)
{
	uint32_t i, n = snapshots(), lists;

	begin(h, world, no_thread, 9);
	changes(h, 2 * KEYS);
	for (i = 0; i < n; i++) {
		changes(h, 25);
		if (with)
			snap_create(h);
		else
			ok(kv_checkpoint(h->v.db));
	}
	if (with)
		judged_reopen(&h->v);
	lists = dead_lists(h);
	must(with == (lists > 0));
	for (i = 0; h->there_nr; i++) {
		delete_one(h);
		/* All that are left. */
		if (i % 100 == 50)
			for (n = 0; n < h->snaps; n++)
				verify_at(h, n);
		if (i % 40 == 20)
			judged_reopen(&h->v);
	}
	nothing_left(h);
	collect(h);
	must(!dead_lists(h));
	ok(kv_stat(h->v.db, st));
	verify_live(h);
	end(h);
	if (with)
		printf("world %d: %u snapshots, up to %u rows of dead lists\n", world, h->snaps, lists);
}

static uint64_t in_use(const kv_stat_info *st)
{
	return st->segments_log * st->segment_bytes + st->tree_bytes;
}

/*
 * The volume that had snapshots is longer. Free segments have rows in the segment table, which is stored
 * twice, with pages half full at least, and an eighth of inner ones: nothing beside segments of 512 KiB,
 * but more than 1 % of those of 4 KiB.
 */
static uint64_t rows(uint64_t segments)
{
	uint64_t row = 5 + sizeof(struct kvf_slot) + sizeof(struct kvf_item) +
		       sizeof(struct kvf_segment_entry);

	return 2 * 2 * segments * row * 9 / 8;
}

START_TEST(deleted_in_any_order) /* row S11 */
{
	static struct history h;
	kv_stat_info with, without;
	u64 a, b;

	history(&h, _i, true, &with);
	history(&h, _i, false, &without);
	a = in_use(&with);
	b = in_use(&without);
	printf("world %d: %llu bytes in use after %u snapshots, %llu without; %llu and %llu in the volume\n",
	       _i, a, snapshots(), b, (u64)with.volume_bytes, (u64)without.volume_bytes);
	fflush(stdout);
	must(with.live_bytes == without.live_bytes && with.entries == without.entries);
	must(a <= b + b / 100 + with.segment_bytes + (_i % 2 ? rows(with.segments - without.segments) : 0));
}
END_TEST

int main(void)
{
	static const char *const names[WORLDS] = { "memory", "memory-tiny", "file", "file-tiny" };
	Suite *s = suite_create("snapshots, many");
	TCase *t;
	int i;

	for (i = 0; i < WORLDS; i++) {
		t = tcase_create(names[i]);
		tcase_set_timeout(t, 3000); /* a watchdog */
		tcase_add_loop_test(t, deleted_in_any_order, i, i + 1);
		suite_add_tcase(s, t);
	}
	return suite_run(s);
}
