/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_pageout.c - checkpoints of more pages than one buffer has room for: while one is on its way to the
 * medium the next one fills. None is lost, none is written over, none comes after the superblock that needs
 * it, and what does not fit is written by a later checkpoint. CONTRACT C3 C9.
 */
#include "tests/unit/volume.h"

#define KEYS 6000u
#define VALUE 40u

static void tweak(kv_options *opt)
{
	opt->flags |= KV_OPEN_NOTHREAD;
	opt->checkpoint_bytes = 1u << 30;
	opt->cache_bytes = 16u << 20;
}

static void value_make(uint8_t *value, uint32_t key, uint32_t salt)
{
	uint32_t i, word = key * 2654435761u ^ salt;

	for (i = 0; i < VALUE; i += 4)
		memcpy(value + i, &word, 4);
}

/* A change of every leaf. */
static void put_all(struct volume *v, uint32_t salt)
{
	uint8_t value[VALUE];
	uint32_t i;

	for (i = 0; i < KEYS; i++) {
		value_make(value, i, salt);
		ok(kv_put(v->db, NULL, &i, sizeof(i), value, VALUE, 0));
	}
}

static void verify_all(kv_db *db, uint32_t salt)
{
	uint8_t want[VALUE], got[VALUE];
	uint32_t i;
	size_t len;

	for (i = 0; i < KEYS; i++) {
		value_make(want, i, salt);
		ok(kv_get_into(db, NULL, &i, sizeof(i), got, VALUE, &len));
		must(len == VALUE && !memcmp(want, got, VALUE));
	}
}

START_TEST(each_page_as_it_was)
{
	struct volume v;
	uint32_t salt;

	volume_make(&v, _i, tweak);
	for (salt = 1; salt < 4; salt++) {
		put_all(&v, salt);
		ok(kv_checkpoint(v.db));
		volume_crash(&v);
		verify_all(v.db, salt);
		volume_check(&v);
	}
	volume_end(&v);
}
END_TEST

/* ---- holes ----------------------------------------------------------------------------------------- */

#define HOLES_ROUNDS 120u
#define HOLES_KEYS 40u /* of a round: some leaves in each segment */

/* What a checkpoint frees between pages that stay is used by those after it. */
START_TEST(holes_are_used_again)
{
	uint8_t value[VALUE];
	struct volume v;
	kv_stat_info st;
	uint32_t i, k, key;

	volume_make(&v, _i, tweak);
	put_all(&v, 1);
	for (i = 0, k = 0; i < HOLES_ROUNDS; i++) {
		for (; k < (i + 1) * HOLES_KEYS; k++) {
			key = k * 2654435761u % KEYS;
			value_make(value, key, 1);
			ok(kv_put(v.db, NULL, &key, sizeof(key), value, VALUE, 0));
		}
		ok(kv_checkpoint(v.db));
	}
	ok(kv_stat(v.db, &st));
	must(st.segments_tree * (uint64_t)st.segment_bytes <=
	     st.tree_bytes / 4 * 7 + 2ull * st.segment_bytes);
	verify_all(v.db, 1);
	volume_end(&v);
}
END_TEST

/* ---- the order ------------------------------------------------------------------------------------- */

#define FLUSHES 16u

static struct {
	struct volume *v;
	uint8_t *bytes[FLUSHES]; /* of the medium, when a flush was through */
	uint64_t size[FLUSHES];
	uint32_t nr;
} seen;

static int flush_seen(struct kvp_dev *dev)
{
	int err = seen.v->own->flush(dev);

	must(!err && seen.nr < FLUSHES);
	seen.size[seen.nr] = dev->size;
	seen.bytes[seen.nr] = malloc(dev->size);
	must(seen.bytes[seen.nr]);
	memcpy(seen.bytes[seen.nr++], volume_bytes(seen.v), dev->size);
	return 0;
}

/* After each flush all is there, by the old superblock and the log, or by the new one. */
START_TEST(no_superblock_before_its_pages)
{
	struct kvp_dev *dev;
	struct volume v;
	uint32_t i;
	kv_db *db;

	memset(&seen, 0, sizeof(seen));
	volume_make(&v, MEM_TINY, tweak);
	put_all(&v, 1);
	ok(kv_checkpoint(v.db));
	put_all(&v, 2);
	ok(kv_sync(v.db));
	seen.v = &v;
	v.kept.flush = flush_seen;
	ok(kv_checkpoint(v.db));
	v.kept.flush = v.own->flush;
	must(seen.nr >= 3);
	for (i = 0; i < seen.nr; i++) {
		must(!kvp_mem_open_copy(&dev, seen.bytes[i], seen.size[i], MEM_BYTES_MAX));
		ok(kve_open_dev(dev, &v.opt, &db));
		verify_all(db, 2);
		ok(kv_close(db));
		free(seen.bytes[i]);
	}
	volume_end(&v);
}
END_TEST

/* ---- a full medium --------------------------------------------------------------------------------- */

static struct {
	struct volume *v;
	uint32_t nth; /* write of pages that finds no room; 0: none */
	bool failed;
} full;

static int write_unless_full(struct kvp_dev *dev, u64 off, const void *buf, u32 len, unsigned int flags)
{
	if (full.nth && !memcmp(buf, "PKPG", 4) && !--full.nth) {
		full.failed = true;
		return -KVE_no_space;
	}
	return full.v->own->write(dev, off, buf, len, flags);
}

/* The next checkpoint writes what this one did not. Without a next one the log has it. */
START_TEST(what_does_not_fit)
{
	struct volume v;
	uint32_t nth;
	int err;

	memset(&full, 0, sizeof(full));
	volume_make(&v, MEM_TINY, tweak);
	full.v = &v;
	v.kept.write = write_unless_full;
	for (nth = 1, full.failed = true; full.failed; nth += 1 + nth / 8) {
		put_all(&v, nth);
		full.failed = false;
		full.nth = nth;
		err = kv_checkpoint(v.db);
		must(!err || (full.failed && err == KV_E_NOSPACE));
		full.nth = 0;
		if (nth % 4)
			ok(kv_checkpoint(v.db));
		volume_crash(&v);
		verify_all(v.db, nth);
	}
	must(nth > 100); /* so many pages, of more than two buffers */
	volume_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pageout");
	TCase *t = tcase_create("pageout");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, each_page_as_it_was, 0, worlds());
	tcase_add_loop_test(t, holes_are_used_again, 0, worlds());
	tcase_add_test(t, no_superblock_before_its_pages);
	tcase_add_test(t, what_does_not_fit);
	suite_add_tcase(s, t);
	return suite_run(s);
}
