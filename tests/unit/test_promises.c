/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_promises.c - promises that need a certain moment: a write in the middle of a checkpoint, two
 * damaged copies at once, a read that fails under a lookup. Each was seen to fail with its planted bug.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "engine/user/kve_test.h"
#include "format/kvf.h"
#include "fsck/kvsck.h"
#include "tests/unit/suite.h"

#define SIZE (4u << 20)

static kv_options tiny_options(void)
{
	kv_options o = KV_OPTIONS_INIT;

	o.flags = KV_OPEN_NOTHREAD;
	o.log_level = KV_LOG_ERROR;
	o.block_bytes = 512;
	o.segment_bytes = 16384;
	o.frame_bytes = 2048;
	o.window_bytes = 1;
	return o;
}

static void silent(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

static struct kvp_dev *volume_new(const kv_options *o)
{
	struct kvp_dev *dev;

	ck_assert_int_eq(kvp_mem_open(&dev, 0, SIZE), 0);
	ck_assert_int_eq(kve_create_dev(dev, o), 0);
	return dev;
}

/* ---- the table of a checkpoint shows the counts of its freeze (DESIGN, section 5) ----------------- */

struct intruder {
	kv_db *db;
	bool armed;
	u8 value[1000];
};

/* The checkpoint takes a segment for its pages: meanwhile a user replaces a value. */
static void intrude(void *arg, struct kvp_dev *dev, enum kvp_trace_op op, u64 off, const void *buf, u32 len)
{
	struct intruder *in = arg;

	(void)dev;
	(void)op;
	(void)off;
	if (!in->armed || len < 512 || kvf_get32(buf) != KVF_SEGMENT_MAGIC ||
	    ((const struct kvf_segment_header *)buf)->kind != KVF_KIND_TREE)
		return;
	in->armed = false;
	memset(in->value, 'b', sizeof(in->value));
	ck_assert_int_eq(kv_put(in->db, NULL, "a", 1, in->value, sizeof(in->value), KV_MEMORY), 0);
}

static int mem_read(void *arg, u64 off, void *buf, u32 len)
{
	struct kvp_dev *dev = arg;

	if (off > dev->size || len > dev->size - off)
		return -KVE_truncated;
	memcpy(buf, kvp_mem_bytes(dev) + off, len);
	return 0;
}

/* CONTRACT C6, DESIGN 7: live bytes are exact */
START_TEST(live_bytes_of_the_freeze)
{
	kv_options o = tiny_options();
	struct kvp_dev *inner = volume_new(&o), *dev;
	struct intruder in = { .armed = false };
	struct kvsck_options opt = { 0 };
	struct kvsck_report rep = { 0 };
	struct kvsck_io io = { .read = mem_read };
	struct kvp_dev *copy;
	char key[16];
	kv_db *db;
	u32 i;

	ck_assert_int_eq(kvp_order_open(&dev, inner, intrude, &in), 0);
	ck_assert_int_eq(kve_open_dev(dev, &o, &db), 0);
	in.db = db;
	memset(in.value, 'a', sizeof(in.value));
	ck_assert_int_eq(kv_put(db, NULL, "a", 1, in.value, sizeof(in.value), 0), 0);
	ck_assert_int_eq(kv_put(db, NULL, "c", 1, in.value, sizeof(in.value), 0), 0);
	ck_assert_int_eq(kv_sync(db), 0);
	for (i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key%04u", i);
		ck_assert_int_eq(kv_put(db, NULL, key, 7, in.value, 40, 0), 0);
	}
	in.armed = true;
	ck_assert_int_eq(kv_checkpoint(db), 0);
	ck_assert(!in.armed);
	ck_assert_int_eq(kvp_mem_open_copy(&copy, kvp_mem_bytes(inner), inner->size, SIZE), 0);
	io.arg = copy;
	io.size = copy->size;
	ck_assert_int_eq(kvsck_run(&io, &opt, &rep), 0);
	ck_assert_uint_eq(rep.problems, 0);
	kvp_dev_close(copy);
	kve_crash(db);
}
END_TEST

/* ---- a superblock is chosen by its roots ---------------------------------------------------------- */

static void damage(u8 *bytes, const struct kvf_ref *ref)
{
	bytes[le64_to_cpu(ref->block0) * 512 + 200] ^= 0x10;
	bytes[le64_to_cpu(ref->block1) * 512 + 200] ^= 0x10;
}

/* CONTRACT C7: both copies of the newest roots are damaged; the state before is intact */
START_TEST(fallback_to_intact_roots)
{
	kv_options o = tiny_options();
	struct kvp_dev *dev = volume_new(&o), *copy;
	struct kvf_super sb, best = { .seq = cpu_to_le64(0) };
	char key[16];
	size_t len;
	kv_db *db;
	u32 i;

	o.log = silent;
	ck_assert_int_eq(kve_open_dev(dev, &o, &db), 0);
	for (i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "key%02u", i);
		ck_assert_int_eq(kv_put(db, NULL, key, 5, "value", 5, KV_SYNCED), 0);
		if (i % 5 == 4)
			ck_assert_int_eq(kv_checkpoint(db), 0);
	}
	ck_assert_int_eq(kvp_mem_open_copy(&copy, kvp_mem_bytes(dev), dev->size, SIZE), 0);
	kve_crash(db);
	for (i = 0; i < 4; i++) {
		memcpy(&sb, kvp_mem_bytes(copy) + i * 512, sizeof(sb));
		if (!kvf_super_verify(&sb, i * 512) && le64_to_cpu(sb.seq) > le64_to_cpu(best.seq))
			best = sb;
	}
	damage(kvp_mem_bytes(copy), &best.forest);
	ck_assert_int_eq(kve_open_dev(copy, &o, &db), 0);
	for (i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "key%02u", i);
		ck_assert_int_eq(kv_get_into(db, NULL, key, 5, key, sizeof(key), &len), 0);
	}
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* ---- a page is what its parent says --------------------------------------------------------------- */

/* Another page that is right in itself, in the place of a leaf: what a lost write leaves behind. */
static bool leaf_forge(u8 *bytes, u64 size)
{
	struct kvf_page *p;
	u64 off;
	u8 *at;

	for (off = 0; off + 2048 <= size; off += 512) {
		p = (struct kvf_page *)(bytes + off);
		if (le32_to_cpu(p->magic) != KVF_PAGE_MAGIC || p->level ||
		    le32_to_cpu(p->tree) != KVF_TREE_USER || le64_to_cpu(p->block0) != off / 512)
			continue;
		at = memmem(p, le32_to_cpu(p->bytes), "genuine", 7);
		if (!at)
			continue;
		memcpy(at, "forged!", 7);
		kvf_page_seal(p, le32_to_cpu(p->bytes));
		return true;
	}
	return false;
}

/* CONTRACT C7, row S9: lost and misdirected writes of pages are detected */
START_TEST(page_is_what_its_parent_says)
{
	kv_options o = tiny_options();
	struct kvp_dev *dev = volume_new(&o), *copy;
	char buf[64];
	size_t len;
	kv_db *db;
	int err;

	o.log = silent;
	ck_assert_int_eq(kve_open_dev(dev, &o, &db), 0);
	ck_assert_int_eq(kv_put(db, NULL, "key", 3, "genuine", 7, 0), 0);
	ck_assert_int_eq(kv_checkpoint(db), 0);
	ck_assert_int_eq(kvp_mem_open_copy(&copy, kvp_mem_bytes(dev), dev->size, SIZE), 0);
	kve_crash(db);
	ck_assert(leaf_forge(kvp_mem_bytes(copy), copy->size));
	o.flags |= KV_OPEN_READONLY;
	ck_assert_int_eq(kve_open_dev(copy, &o, &db), 0);
	err = kv_get_into(db, NULL, "key", 3, buf, sizeof(buf), &len);
	ck_assert_int_eq(err, KV_E_CORRUPT);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* ---- a read error is no answer -------------------------------------------------------------------- */

/* CONTRACT C4, C11: the n-th read fails, for every n: never "no such key" */
START_TEST(read_error_is_not_absence)
{
	struct kvp_fault fault = { .kinds = KVP_FAULT_READ, .error = -KVE_io_read };
	kv_options o = tiny_options();
	struct kvp_dev *dev = volume_new(&o), *copy, *faulty;
	char key[16], buf[64];
	u32 i, n, failed = 0;
	size_t len;
	kv_db *db;
	u8 *image;
	u64 size;
	int err;

	o.log = silent;
	ck_assert_int_eq(kve_open_dev(dev, &o, &db), 0);
	for (i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "key%03u", i);
		ck_assert_int_eq(kv_put(db, NULL, key, 6, "some value", 10, 0), 0);
	}
	ck_assert_int_eq(kv_checkpoint(db), 0);
	size = dev->size;
	image = malloc(size);
	ck_assert_ptr_nonnull(image);
	memcpy(image, kvp_mem_bytes(dev), size);
	kve_crash(db);
	o.flags |= KV_OPEN_READONLY;
	for (n = 1; n < 40; n++) {
		memset(&fault, 0, sizeof(fault));
		ck_assert_int_eq(kvp_mem_open_copy(&copy, image, size, SIZE), 0);
		ck_assert_int_eq(kvp_fault_open(&faulty, copy, &fault), 0);
		ck_assert_int_eq(kve_open_dev(faulty, &o, &db), 0);
		fault.kinds = KVP_FAULT_READ;
		fault.error = -KVE_io_read;
		fault.persistent = true;
		fault.calls = 0;
		fault.nth = n;
		for (i = 0; i < 300; i += 7) {
			snprintf(key, sizeof(key), "key%03u", i);
			err = kv_get_into(db, NULL, key, 6, buf, sizeof(buf), &len);
			ck_assert_msg(err == 0 || err == KV_E_IO, "read %u, %s: %d", n, key, err);
			failed += err == KV_E_IO;
		}
		fault.nth = 0;
		ck_assert_int_eq(kv_close(db), 0);
	}
	ck_assert_uint_gt(failed, 0);
	free(image);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("promises");
	TCase *t = tcase_create("promises");

	tcase_add_test(t, live_bytes_of_the_freeze);
	tcase_add_test(t, fallback_to_intact_roots);
	tcase_add_test(t, page_is_what_its_parent_says);
	tcase_add_test(t, read_error_is_not_absence);
	suite_add_tcase(s, t);
	return suite_run(s);
}
