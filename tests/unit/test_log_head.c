// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_log_head.c - the log goes on to the next segment while the end of the one before is on its way home:
 * what is read then, how far the ring goes, what a sync waits for, kill, a write that fails. On a device that
 * does nothing of a batch before it is waited for. Where syncs are frequent the log goes to space that was
 * written before. CONTRACT C1 C2 C9.
 */
#include "tests/unit/late.h"

#include "engine/kve.h"

#define VALUE 3000u
#define PUTS_MAX 4096u

/* No thread, and values that the cache does not keep long. */
static void small(kv_options *opt)
{
	volume_tight(opt);
	opt->segment_bytes = 256 << 10;
	opt->window_bytes = 64 << 10;
	opt->flags |= KV_OPEN_NOTHREAD;
}

/* The n-th value: other bytes in each place of each. */
static const uint8_t *value_of(uint32_t n)
{
	static uint8_t value[VALUE];
	uint32_t i, x = n * 2654435761u + 1;

	for (i = 0; i < VALUE; i++) {
		x = x * 1664525u + 1013904223u;
		value[i] = (uint8_t)(x >> 24);
	}
	return value;
}

static void put_one(struct volume *v, uint32_t n)
{
	ok(kv_put(v->db, NULL, &n, sizeof(n), value_of(n), VALUE, 0));
}

/* Values from n on until a segment is on its way home, or no longer; returns how many there are. */
static uint32_t put_until(struct volume *v, uint32_t n, bool under_way)
{
	while ((late.under_way > 0) != under_way) {
		must(n < PUTS_MAX);
		put_one(v, n++);
		/* Else the ring would be full whenever a segment is. */
		if (under_way && n % 27 == 0)
			ok(kv_sync(v->db));
	}
	return n;
}

/* The last ones last: what was read before has driven them from the cache. */
static void verify(struct volume *v, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		expect_bytes(v, NULL, &i, sizeof(i), value_of(i), VALUE);
}

START_TEST(read_on_their_way)
{
	struct volume v;
	uint32_t n = 0, turn;

	late_make(&v, small);
	for (turn = 0; turn < 6; turn++) {
		n = put_until(&v, n, true);
		verify(&v, n);
		must(late.under_way == 1);
		/* As far as the ring goes. */
		n = put_until(&v, n, false);
		verify(&v, n);
	}
	must(late.begun >= 6);
	volume_end(&v);
}
END_TEST

/* A segment has room for twice what the ring takes. */
static void long_segments(kv_options *opt)
{
	small(opt);
	opt->segment_bytes = 2 << 20;
	opt->durability = KV_MEMORY;
}

/* What nobody waits for goes as far as the ring does, behind a segment that ends, and in the midst of one. */
START_TEST(as_far_as_the_ring_goes)
{
	struct volume v;
	uint32_t n = 0, turn, i;

	late_make(&v, long_segments);
	for (turn = 0; turn < 3; turn++) {
		n = put_until(&v, n, true);
		/* More than the ring takes. */
		for (i = 0; i < 500; i++)
			put_one(&v, n++);
		must(late.under_way <= KVE_LOG_FLIGHTS);
		verify(&v, n);
		/* A file that grows is flushed as well, which says nothing of the log. */
		late.beside = 0;
		ok(kv_sync(v.db));
		must(!late.under_way && !late.beside);
		verify(&v, n);
	}
	volume_end(&v);
}
END_TEST

/* As a scan and a multi-get read them: in batches. */
START_TEST(read_together)
{
	struct volume v;
	kv_item item[64];
	uint32_t n, i, key[64];
	static uint8_t buf[64][VALUE];

	late_make(&v, small);
	n = put_until(&v, 0, true);
	verify(&v, n);
	memset(item, 0, sizeof(item));
	for (i = 0; i < 64; i++) {
		key[i] = n - 1 - i;
		item[i] = (kv_item){ .key = &key[i], .key_len = sizeof(key[i]), .buf = buf[i], .cap = VALUE };
	}
	ok(kv_get_many(v.db, NULL, 64, item));
	for (i = 0; i < 64; i++)
		must(item[i].value_len == VALUE && !memcmp(buf[i], value_of(key[i]), VALUE));
	must(late.under_way == 1);
	volume_end(&v);
}
END_TEST

START_TEST(synced)
{
	struct volume v;
	uint32_t n = 0, turn;

	late_make(&v, small);
	for (turn = 0; turn < 3; turn++) {
		n = put_until(&v, n, true);
		ok(kv_sync(v.db));
		must(!late.under_way && !late.beside);
		n = put_until(&v, n, true);
		ok(kv_put(v.db, NULL, &n, sizeof(n), value_of(n), VALUE, KV_SYNCED));
		n++;
		must(!late.under_way && !late.beside);
		n = put_until(&v, n, true);
		ok(kv_checkpoint(v.db));
		must(!late.under_way && !late.beside);
	}
	verify(&v, n);
	volume_end(&v);
}
END_TEST

/* What a killed process has begun is done, even though it has not waited. */
START_TEST(killed)
{
	struct volume v;
	uint32_t n = 0, turn;

	late_make(&v, small);
	for (turn = 0; turn < 6; turn++) {
		n = put_until(&v, n, true);
		while (late.under_way && turn % 3 && n % 7)
			put_one(&v, n++);
		volume_crash(&v);
		must(!late.under_way);
		verify(&v, n);
		if (turn == 4)
			volume_reopen(&v);
	}
	volume_end(&v);
}
END_TEST

/* Nothing more is taken, all can be read, and what was synced is there afterwards. */
START_TEST(cannot_be_written)
{
	uint32_t n, synced;
	struct volume v;

	late_make(&v, small);
	v.opt.log = volume_silent;
	volume_reopen(&v);
	synced = put_until(&v, 0, true);
	ok(kv_sync(v.db));
	n = put_until(&v, synced, true);
	late.fail = -KVE_io_write;
	must_be(kv_sync(v.db), KV_E_IO);
	must_be(kv_put(v.db, NULL, "k", 1, "v", 1, 0), KV_E_READONLY);
	must(!late.under_way);
	verify(&v, n);
	kve_crash(v.db);
	late.fail = 0;
	volume_open(&v);
	verify(&v, synced);
	volume_end(&v);
}
END_TEST

/* Where nothing can be begun the one who goes on waits, as a killed process would lose it. */
START_TEST(not_begun)
{
	struct volume v;
	uint32_t i, n = 0, turn;

	volume_make(&v, MEM_DEFAULT, small);
	/* A segment takes some 80, and a new one begins with each crash. */
	for (turn = 60; turn < 100; turn++) {
		for (i = 0; i < turn; i++) {
			put_one(&v, n++);
			/* Else the ring would be full when the segment is. */
			if (i == 30)
				ok(kv_sync(v.db));
		}
		volume_crash(&v);
		for (i = n - turn; i < n; i++)
			expect_bytes(&v, NULL, &i, sizeof(i), value_of(i), VALUE);
	}
	volume_end(&v);
}
END_TEST

/* What was asked for with KVP_WRITTEN, by blocks of 4 KiB. */
#define BLOCKS 65536u
static struct {
	const struct kvp_dev_ops *own;
	uint8_t block[BLOCKS];
	uint64_t bytes;
} zeroed;

static int allocate(struct kvp_dev *dev, u64 off, u64 len, unsigned int flags)
{
	u64 i;

	for (i = off / 4096; flags & KVP_WRITTEN && i < (off + len) / 4096; i++) {
		must(i < BLOCKS);
		zeroed.block[i] = 1;
	}
	zeroed.bytes += flags & KVP_WRITTEN ? len : 0;
	return zeroed.own->allocate(dev, off, len, flags);
}

/* Twenty puts of 400 bytes in one transaction; returns the blocks of the log that it went to, not zeroed. */
static uint32_t commit(struct volume *v, uint32_t n, uint32_t durability)
{
	struct kve_logpos from, to;
	uint32_t i, missing = 0;
	kv_batch *b;
	u64 at;

	kve_log_pos(v->db, &from);
	ok(kv_batch_new(v->db, &b));
	for (i = 0; i < 20; i++, n++)
		ok(kv_batch_put(b, NULL, &n, sizeof(n), value_of(n), 400));
	ok(kv_batch_commit(b, durability));
	kv_batch_free(b);
	kve_log_pos(v->db, &to);
	if (from.segment != to.segment)
		from.offset = v->db->geo.block;
	at = kve_segment_offset(v->db, to.segment);
	for (i = from.offset / 4096; i < (to.offset + 4095) / 4096; i++)
		missing += !zeroed.block[at / 4096 + i];
	return missing;
}

/* The size from which an image holds a reserve, backed but never written, comes early. */
START_TEST(written_before_synced)
{
	struct volume v;
	uint32_t n, missing = 0;
	uint64_t bytes;

	volume_make(&v, MEM_DEFAULT, _i ? NULL : small);
	memset(&zeroed, 0, sizeof(zeroed));
	zeroed.own = v.own;
	v.kept.allocate = allocate;
	for (n = 0; n < 30000; n += 20)
		missing += commit(&v, n, KV_SYNCED);
	/* Small volumes are not asked for more than they need, before and after opening. */
	ck_assert_uint_le(missing, 2 * v.db->geo.segment / 4096);
	/* And what nobody syncs needs none; checkpoints of the small one do, one after the other. */
	bytes = zeroed.bytes;
	for (; _i && n < 60000; n += 20)
		(void)commit(&v, n, KV_MEMORY);
	ck_assert_uint_le(zeroed.bytes - bytes, 2 * v.db->geo.segment);
	v.kept.allocate = zeroed.own->allocate;
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log_head");
	TCase *t = tcase_create("log_head");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, read_on_their_way);
	tcase_add_test(t, as_far_as_the_ring_goes);
	tcase_add_test(t, read_together);
	tcase_add_test(t, synced);
	tcase_add_test(t, killed);
	tcase_add_test(t, cannot_be_written);
	tcase_add_test(t, not_begun);
	tcase_add_loop_test(t, written_before_synced, 0, 2);
	suite_add_tcase(s, t);
	return suite_run(s);
}
