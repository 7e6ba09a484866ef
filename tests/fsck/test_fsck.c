/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_fsck.c - the judge on a volume made by hand (image.h): clean when it is, the right finding for
 * each thing that is wrong, no crash and no write on any bytes.
 *
 * "test_fsck write FILE FAULT" writes the volume instead, for cli.sh; FAULT is a number of image_fault.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../fsck/kvsck.h"
#include "image.h"
#include "tests/unit/suite.h"

struct memory {
	const u8 *bytes;
	u64 size;
	u64 bad_from, bad_len; /* reads here fail */
};

static int memory_read(void *arg, u64 off, void *buf, u32 len)
{
	struct memory *m = arg;

	/* not ck_assert: it costs a system call each time */
	if (off > m->size || len > m->size - off)
		abort();
	if (m->bad_len && off < m->bad_from + m->bad_len && off + len > m->bad_from)
		return -KVE_io_read;
	memcpy(buf, m->bytes + off, len);
	return 0;
}

struct seen {
	struct kvsck_report rep;
	char text[16384]; /* a line for each finding */
	size_t len;
	bool repairable;
};

static void found(void *arg, const struct kvsck_finding *f)
{
	struct seen *s = arg;
	size_t room = sizeof(s->text) - s->len, n;

	n = kvsck_finding_to_text(s->text + s->len, room, f);
	s->len += n < room ? n : room - 1;
	if (s->len + 2 < sizeof(s->text)) {
		s->text[s->len++] = '\n';
		s->text[s->len] = '\0';
	}
	if (f->repairable)
		s->repairable = true;
}

static int judge(const struct memory *m, u32 flags, struct seen *s)
{
	struct memory copy = *m;
	struct kvsck_io io = { .read = memory_read, .arg = &copy, .size = m->size };
	struct kvsck_options opt = { .flags = flags, .max_per_code = 20, .found = found, .found_arg = s };

	s->len = 0;
	s->text[0] = '\0';
	s->repairable = false;
	return kvsck_run(&io, &opt, &s->rep);
}

static struct seen seen;

/* ---- faults with right checksums ---------------------------------------------------------------- */

struct expect {
	enum image_fault fault;
	int problem, also; /* codes, 0: none; no other problems */
	int note;	   /* a code, 0: any */
};

static const struct expect expects[] = {
	{ IMAGE_GOOD, 0, 0, 0 },
	{ IMAGE_COUNT, KVF_F_tree_count, 0, 0 },
	{ IMAGE_ID_TWICE, KVF_F_tree_id, 0, 0 },
	{ IMAGE_ID_NEXT, KVF_F_tree_id, 0, 0 },
	{ IMAGE_FOREST_KEY, KVF_F_forest_key, 0, 0 },
	{ IMAGE_HEAD, KVF_F_tree_head, 0, 0 },
	{ IMAGE_FENCES, KVF_F_page_fences, 0, 0 },
	{ IMAGE_LEVEL, KVF_F_page_level, KVF_F_object_orphan, 0 },
	{ IMAGE_SHARED, KVF_F_ref_shared, 0, 0 },
	{ IMAGE_FUTURE, KVF_F_page_generation, 0, 0 },
	{ IMAGE_ONE_COPY, KVF_F_page_twin, 0, 0 },
	{ IMAGE_REF_BOUNDS, KVF_F_ref_bounds, 0, 0 },
	{ IMAGE_ROOT_LOOP, KVF_F_ref_shared, KVF_F_object_orphan, 0 },
	{ IMAGE_VALUE_BOUNDS, KVF_F_value_bounds, KVF_F_table_live, 0 },
	{ IMAGE_VALUE_KIND, KVF_F_ref_kind, KVF_F_table_live, 0 },
	{ IMAGE_VALUE_GEN, KVF_F_value_mismatch, 0, 0 },
	{ IMAGE_VALUE_KEY, KVF_F_value_key, KVF_F_table_live, 0 },
	{ IMAGE_VALUE_LSN, KVF_F_value_mismatch, 0, 0 },
	{ IMAGE_VALUE_SUM, KVF_F_value_mismatch, 0, 0 },
	{ IMAGE_VALUE_DELETE, KVF_F_value_mismatch, KVF_F_table_live, 0 },
	{ IMAGE_VALUE_TAIL, 0, 0, 0 },
	{ IMAGE_VALUE_RESCUE, KVF_F_record_payload, 0, 0 },
	{ IMAGE_POISON, KVF_F_value_poison, 0, 0 },
	{ IMAGE_CHUNK_MISSING, KVF_F_object_missing, KVF_F_table_live, 0 },
	{ IMAGE_CHUNK_SIZE, KVF_F_object_size, 0, 0 },
	{ IMAGE_CHUNK_ORPHAN, KVF_F_object_orphan, 0, 0 },
	{ IMAGE_CHUNK_PENDING, 0, 0, 0 },
	{ IMAGE_CHUNK_MARKED, KVF_F_object_missing, 0, 0 },
	{ IMAGE_CHUNK_MORE, KVF_F_object_size, 0, 0 },
	{ IMAGE_OBJECT_TWICE, KVF_F_ref_shared, 0, 0 },
	{ IMAGE_OBJECT_KEY, KVF_F_page_cell, 0, 0 },
	{ IMAGE_TABLE_MISSING, KVF_F_table_missing, 0, 0 },
	{ IMAGE_TABLE_ENTRY, KVF_F_table_entry, KVF_F_table_missing, 0 },
	{ IMAGE_TABLE_KEY, KVF_F_table_key, 0, 0 },
	{ IMAGE_TABLE_BITMAP, KVF_F_table_bitmap, 0, 0 },
	{ IMAGE_TABLE_LEAK, KVF_F_table_leak, 0, 0 },
	{ IMAGE_TABLE_LIVE, KVF_F_table_live, 0, 0 },
	{ IMAGE_TABLE_KIND, KVF_F_table_kind, 0, 0 },
	{ IMAGE_TABLE_GEN, KVF_F_segment_identity, 0, 0 },
	{ IMAGE_TABLE_LOG, KVF_F_ref_kind, 0, 0 },
	{ IMAGE_BATCH_SHAPE, KVF_F_batch_entry, KVF_F_table_leak, 0 },
	{ IMAGE_BATCH_BOUNDS, KVF_F_batch_entry, KVF_F_table_leak, 0 },
	{ IMAGE_BATCH_USED, KVF_F_batch_entry, 0, 0 },
	{ IMAGE_BATCH_TWICE, KVF_F_batch_entry, 0, 0 },
	{ IMAGE_BATCH_FREE, KVF_F_batch_entry, 0, 0 },
	{ IMAGE_BATCH_WHOLE, KVF_F_batch_entry, 0, 0 },
	{ IMAGE_FOOTER, KVF_F_footer_fields, 0, 0 },
	{ IMAGE_LOG_LSN, KVF_F_record_lsn, 0, KVF_F_record_lsn },
	{ IMAGE_LOG_TXN, KVF_F_record_txn, 0, 0 },
	{ IMAGE_LOG_TORN, 0, 0, KVF_F_record_txn },
	{ IMAGE_LOG_PAYLOAD, KVF_F_record_payload, 0, 0 },
	{ IMAGE_LOG_PAYLOAD_TAIL, 0, 0, KVF_F_record_payload },
	{ IMAGE_LOG_GAP, KVF_F_log_gap, 0, 0 },
	{ IMAGE_LOG_SHORT, KVF_F_volume_short, 0, 0 },
	{ IMAGE_LOG_GAP_LATER, KVF_F_log_gap, 0, 0 },
	{ IMAGE_LOG_CUT, KVF_F_log_gap, 0, 0 },
	{ IMAGE_LOG_CUT_GOOD, 0, 0, 0 },
	{ IMAGE_LOG_TAIL0, 0, 0, 0 },
	{ IMAGE_LOG_TAIL1, 0, 0, 0 },
	{ IMAGE_LOG_WINDOW, 0, 0, 0 },
	{ IMAGE_LOG_CLEAN, KVF_F_super_fields, 0, 0 },
	{ IMAGE_TAIL_GEN, KVF_F_segment_identity, 0, 0 },
	{ IMAGE_ROOT_BAD, KVF_F_page_stale, 0, 0 },
	{ IMAGE_SNAPSHOT, 0, 0, 0 },
	{ IMAGE_SNAPSHOT_ROW, KVF_F_snapshot_row, 0, 0 },
	{ IMAGE_SNAPSHOT_OLD, KVF_F_snapshot_row, 0, 0 },
	{ IMAGE_LIST_USED, KVF_F_list_entry, 0, 0 },
	{ IMAGE_LIST_TWICE, KVF_F_list_entry, 0, 0 },
	{ IMAGE_LIST_SHAPE, KVF_F_list_entry, 0, 0 },
	{ IMAGE_LIST_PINNED, KVF_F_list_entry, 0, 0 },
	{ IMAGE_TABLE_PINNED, KVF_F_table_pinned, 0, 0 },
	{ IMAGE_RANGE, 0, 0, 0 },
	{ IMAGE_RANGE_PART, KVF_F_forest_range, 0, 0 },
	{ IMAGE_RANGE_LENGTHS, KVF_F_forest_range, 0, 0 },
	{ IMAGE_RANGE_TREE, KVF_F_forest_range, 0, 0 },
	{ IMAGE_RANGE_ORDER, KVF_F_forest_range, 0, 0 },
	{ IMAGE_RANGE_FUTURE, KVF_F_forest_range, 0, 0 },
};

static void expect_codes(const struct kvsck_report *rep, int problem, int also, const char *what)
{
	u32 i;

	for (i = 0; i < KVSCK_CODES; i++) {
		if (i && ((int)i == problem || (int)i == also))
			ck_assert_msg(rep->by_code[i] > 0, "%s: no finding %u\n%s", what, i, seen.text);
		else
			ck_assert_msg(!rep->by_code[i], "%s: finding %u (%s) is not due\n%s", what, i,
				      kvf_finding_name((int)i), seen.text);
	}
}

START_TEST(faults) /* one run for each row of the table */
{
	const struct expect *e = &expects[_i];
	struct memory m = { .size = IMAGE_BYTES };
	char what[32];
	struct image im;

	ck_assert_int_eq((int)e->fault, _i);
	snprintf(what, sizeof(what), "fault %d", _i);
	image_build(&im, e->fault);
	m.bytes = im.bytes;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	ck_assert(seen.rep.usable);
	expect_codes(&seen.rep, e->problem, e->also, what);
	if (e->note)
		ck_assert_msg(seen.rep.notes_by_code[e->note] > 0, "%s: no note %d\n%s", what, e->note,
			      seen.text);
	image_free(&im);
}
END_TEST

START_TEST(all_faults_have_a_row)
{
	ck_assert_uint_eq(sizeof(expects) / sizeof(expects[0]), IMAGE_FAULTS);
}
END_TEST

/* The totals are what image.h says, so that a pass that does not look cannot pass. */
START_TEST(totals)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	ck_assert_uint_eq(seen.rep.problems, 0);
	ck_assert_str_eq(seen.text, "");
	ck_assert_uint_eq(seen.rep.seq, 2);
	ck_assert_uint_eq(seen.rep.generation, 3);
	ck_assert_uint_eq(seen.rep.segments, IMAGE_SEGMENTS);
	ck_assert_uint_eq(seen.rep.trees, 1);
	ck_assert_uint_eq(seen.rep.entries, 8);
	ck_assert_uint_eq(seen.rep.pages, 6);
	ck_assert_uint_eq(seen.rep.values, 4);
	ck_assert_uint_eq(seen.rep.value_bytes, 700 + 300 + 1024 + 100);
	ck_assert_uint_eq(seen.rep.objects, 1);
	ck_assert_uint_eq(seen.rep.log_records, 3);
	ck_assert_uint_eq(seen.rep.end_lsn, im.end_lsn);
	ck_assert(!seen.rep.clean);
	image_free(&im);
}
END_TEST

/* ---- damaged bytes -------------------------------------------------------------------------------- */

struct damage {
	const char *what;
	u64 off[2]; /* 0: nothing; each is damaged */
	u32 len;
	u8 mask; /* XORed; 0: set to zero */
	int problem, also, note;
	bool repairable;
};

static void check_damage(const struct image *im, const struct damage *d)
{
	struct memory m = { .size = IMAGE_BYTES };
	u8 *bytes = malloc(IMAGE_BYTES);
	u32 i, k;

	ck_assert_ptr_nonnull(bytes);
	memcpy(bytes, im->bytes, IMAGE_BYTES);
	for (k = 0; k < 2; k++)
		for (i = 0; d->off[k] != KVSCK_NO_OFFSET && i < d->len; i++)
			bytes[d->off[k] + i] = d->mask ? bytes[d->off[k] + i] ^ d->mask : 0;
	m.bytes = bytes;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	expect_codes(&seen.rep, d->problem, d->also, d->what);
	if (d->note)
		ck_assert_msg(seen.rep.notes_by_code[d->note] > 0, "%s: no note %d", d->what, d->note);
	ck_assert_msg(seen.repairable == d->repairable, "%s: repairable %d\n%s", d->what, seen.repairable,
		      seen.text);
	free(bytes);
}

#define ONE(x) { x, KVSCK_NO_OFFSET }
#define B IMAGE_BLOCK

START_TEST(damage)
{
	struct image im;
	size_t i;

	image_build(&im, IMAGE_GOOD);
	{
		const struct damage table[] = {
			{ "slot of seq 1 in A", ONE(im.slot[1]), 60, 1, KVF_F_super_magic, 0, 0, false },
			{ "one bit of it", ONE(im.slot[1] + 70), 1, 1, KVF_F_super_sum, 0, 0, false },
			{ "slot of seq 1 in B", ONE(im.slot[5] + 70), 1, 1, KVF_F_super_sum, 0, 0, false },
			{ "slot of seq 2 in A", ONE(im.slot[2] + 70), 1, 1, KVF_F_super_sum, 0,
			  KVF_F_super_stale, false },
			{ "slot of seq 2 in B: as a crash leaves it", ONE(im.slot[6] + 70), 1, 1, 0, 0,
			  KVF_F_super_stale, false },
			{ "the slot that comes next: as a crash leaves it", ONE(im.slot[3] + 9), 3, 1, 0, 0,
			  KVF_F_super_magic, false },
			{ "an unused slot otherwise", ONE(im.slot[0] + 9), 3, 1, KVF_F_super_magic, 0, 0,
			  false },
			{ "group A", ONE(im.slot[0]), 4 * B, 0, KVF_F_super_magic, 0, 0, false },
			{ "group B", ONE(im.slot[4]), 4 * B, 0, KVF_F_super_magic, 0, 0, false },
			{ "both groups: the copy is used", { im.slot[0], im.slot[4] }, 4 * B, 0,
			  KVF_F_super_magic, 0, 0, false },
			{ "the copy", ONE(im.copy), B, 0, 0, 0, KVF_F_volume_copy, false },
			{ "forest, first copy", ONE(im.forest[0] + 300), 1, 4, KVF_F_page_twin, 0, 0, true },
			{ "forest, second copy", ONE(im.forest[1] + 300), 1, 4, KVF_F_page_twin, 0, 0, true },
			{ "segment table, head", ONE(im.segtab[0] + 40), 1, 4, KVF_F_page_twin, 0, 0, true },
			{ "inner page, first copy", ONE(im.inner[0]), B, 0, KVF_F_page_twin, 0, 0, true },
			{ "inner page, both copies", { im.inner[0] + 300, im.inner[1] + 300 }, 1, 4,
			  KVF_F_page_body_sum, KVF_F_object_orphan, 0, false },
			{ "forest, both copies", { im.forest[0], im.forest[1] }, B, 0, KVF_F_page_magic, 0, 0,
			  false },
			{ "a leaf", ONE(im.leaf[1] + 200), 1, 2, KVF_F_page_body_sum, 0, 0, false },
			{ "the leaf of chunks", ONE(im.objects_leaf + 200), 1, 2, KVF_F_page_body_sum,
			  KVF_F_object_missing, 0, false },
			{ "a value", ONE(im.value[0] + 5), 1, 1, KVF_F_record_payload, 0, 0, false },
			{ "a value in the head", ONE(im.value[1] + 5), 1, 1, KVF_F_record_payload, 0, 0,
			  false },
			{ "the header of a value's record", ONE(im.value_record[0] + 16), 1, 1,
			  KVF_F_record_sum, 0, 0, false },
			{ "a chunk", ONE(im.chunk[1]), 1, 1, KVF_F_record_payload, 0, 0, false },
			{ "a footer", ONE(im.footer + 8), 1, 1, KVF_F_footer_sum, 0, 0, false },
			{ "a footer's magic", ONE(im.footer), 1, 1, KVF_F_footer_magic, 0, 0, false },
			{ "header of a LOG segment", ONE(4 * IMAGE_SEGMENT + 20), 1, 1, KVF_F_segment_sum, 0,
			  0, false },
			{ "header of the head", ONE(3 * IMAGE_SEGMENT + 20), 1, 1, KVF_F_segment_sum, 0, 0,
			  false },
			{ "header of a TREE segment", ONE(5 * IMAGE_SEGMENT), 1, 1, KVF_F_segment_magic, 0, 0,
			  false },
			{ "header of TAIL", ONE(IMAGE_SEGMENT + 30), 1, 1, KVF_F_segment_sum, 0, 0, false },
			{ "a FREE segment", ONE(7 * IMAGE_SEGMENT), IMAGE_SEGMENT, 0x5a, 0, 0, 0, false },
			{ "the freed page", ONE(5 * IMAGE_SEGMENT + 15 * B), B, 0x5a, 0, 0, 0, false },
			{ "the end of the log", ONE(im.record[1] + 20), 1, 1, 0, 0, KVF_F_record_sum, false },
		};

		for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
			check_damage(&im, &table[i]);
	}
	image_free(&im);
}
END_TEST

/* --no-values: refs are followed to their segment, the log is not read for them. */
START_TEST(no_values)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;

	image_build(&im, IMAGE_GOOD);
	im.bytes[im.value[0] + 5] ^= 1;
	m.bytes = im.bytes;
	ck_assert_int_eq(judge(&m, KVSCK_NO_VALUES, &seen), 0);
	ck_assert_uint_eq(seen.rep.problems, 0);
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	ck_assert_uint_eq(seen.rep.problems, 1);
	image_free(&im);
	image_build(&im, IMAGE_VALUE_GEN);
	m.bytes = im.bytes;
	ck_assert_int_eq(judge(&m, KVSCK_NO_VALUES, &seen), 0);
	expect_codes(&seen.rep, KVF_F_value_mismatch, 0, "no_values");
	image_free(&im);
}
END_TEST

START_TEST(read_errors) /* C11 */
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	m.bad_len = 1;
	m.bad_from = im.leaf[0] + 5;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	expect_codes(&seen.rep, KVF_F_io_error, KVF_F_object_orphan, "leaf");
	m.bad_from = im.inner[0] + 5;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	expect_codes(&seen.rep, KVF_F_page_twin, 0, "inner");
	m.bad_from = im.value[0] + 5;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	expect_codes(&seen.rep, KVF_F_io_error, 0, "value");
	m.bad_from = im.slot[1];
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	expect_codes(&seen.rep, KVF_F_io_error, 0, "slot");
	image_free(&im);
}
END_TEST

/* ---- other than volumes ----------------------------------------------------------------------------- */

START_TEST(other_files)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct kvf_super *sb;
	struct image im;
	u32 i;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	/* C15: a feature that this version does not know, in the newest superblock */
	for (i = 2; i < 8; i += 4) {
		sb = (struct kvf_super *)(im.bytes + im.slot[i]);
		sb->incompat = cpu_to_le64(1);
		kvf_super_seal(sb, im.slot[i]);
	}
	ck_assert_int_eq(judge(&m, 0, &seen), -KVE_unsupported);
	ck_assert_uint_gt(seen.rep.by_code[KVF_F_super_incompat], 0);
	for (i = 2; i < 8; i += 4) {
		sb = (struct kvf_super *)(im.bytes + im.slot[i]);
		sb->incompat = cpu_to_le64(0);
		sb->ro_compat = cpu_to_le64(1);
		kvf_super_seal(sb, im.slot[i]);
	}
	ck_assert_int_eq(judge(&m, 0, &seen), -KVE_unsupported);
	ck_assert_uint_gt(seen.rep.by_code[KVF_F_super_ro_compat], 0);
	/* every superblock damaged: a volume all the same */
	for (i = 0; i < 8; i++)
		im.bytes[im.slot[i] + 200] ^= 1;
	im.bytes[im.copy + 200] ^= 1;
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	ck_assert(!seen.rep.usable);
	expect_codes(&seen.rep, KVF_F_super_sum, 0, "all superblocks");
	memset(im.bytes, 0, IMAGE_BYTES);
	ck_assert_int_eq(judge(&m, 0, &seen), -KVE_empty);
	memset(im.bytes, 'x', IMAGE_BYTES);
	ck_assert_int_eq(judge(&m, 0, &seen), -KVE_not_volume);
	m.size = 0;
	ck_assert_int_eq(judge(&m, 0, &seen), -KVE_empty);
	image_free(&im);
}
END_TEST

static bool stop(void *arg)
{
	int *left = arg;

	return (*left)-- <= 0;
}

START_TEST(cancelled)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct kvsck_io io = { .read = memory_read, .arg = &m, .size = IMAGE_BYTES };
	struct kvsck_options opt = { .cancelled = stop };
	int n, left, err;
	struct image im;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	opt.cancelled_arg = &left;
	for (n = 0, err = 1; err; n++) {
		left = n;
		err = kvsck_run(&io, &opt, &seen.rep);
		ck_assert(err == 0 || err == -KVE_cancelled);
	}
	ck_assert_int_gt(n, 5);
	image_free(&im);
}
END_TEST

/* C14, C16: cut at every 64 bytes: a verdict, no crash. */
START_TEST(truncation)
{
	struct memory m;
	struct image im;
	u64 size;
	int err;

	memset(&m, 0, sizeof(m));
	image_build(&im, IMAGE_GOOD);
	for (size = 0; size < IMAGE_BYTES; size += 64) {
		/* a copy of exactly this size, so that a sanitizer sees each byte read beyond */
		u8 *bytes = malloc(size ? size : 1);

		ck_assert_ptr_nonnull(bytes);
		memcpy(bytes, im.bytes, size);
		m.bytes = bytes;
		m.size = size;
		err = judge(&m, 0, &seen);
		ck_assert(err == 0 || err == -KVE_empty || (size < 1024 && err == -KVE_not_volume));
		if (size < IMAGE_BYTES - IMAGE_BLOCK && !err)
			ck_assert_uint_gt(seen.rep.problems, 0);
		free(bytes);
	}
	image_free(&im);
}
END_TEST

/*
 * C5, C16: each byte damaged in two ways: always a verdict. Flips inside of what is checked by a sum are
 * seen; the image is const, so nothing is written.
 */
START_TEST(every_byte)
{
	static const u8 mask[] = { 0x01, 0x80, 0xff };
	struct memory m = { .size = IMAGE_BYTES };
	u64 off, failed = 0, silent = 0;
	struct image im;
	u32 i;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	for (off = 0; off < IMAGE_BYTES; off++)
		for (i = 0; i < sizeof(mask); i++) {
			im.bytes[off] ^= mask[i];
			failed += judge(&m, 0, &seen) != 0;
			silent += !seen.rep.problems && !seen.rep.notes;
			im.bytes[off] ^= mask[i];
		}
	ck_assert_uint_eq(failed, 0);
	ck_assert_int_eq(judge(&m, 0, &seen), 0);
	ck_assert_uint_eq(seen.rep.problems, 0);
	/* used: slots, headers, pages twice, records, footer; the rest may hold anything */
	ck_assert_uint_lt(silent, 3 * (IMAGE_BYTES - 13000));
	image_free(&im);
}
END_TEST

/* C16: each block exchanged for each other one, for zeros, for 0xff. */
START_TEST(every_block)
{
	u32 blocks = IMAGE_BYTES / IMAGE_BLOCK, i, k;
	struct memory m = { .size = IMAGE_BYTES };
	u8 save[IMAGE_BLOCK], *at;
	struct image im;
	u64 failed = 0;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	for (i = 0; i < blocks; i++) {
		at = im.bytes + (u64)i * IMAGE_BLOCK;
		memcpy(save, at, IMAGE_BLOCK);
		for (k = 0; k < blocks + 2; k++) {
			if (k < blocks)
				memcpy(at, im.bytes + (u64)k * IMAGE_BLOCK, IMAGE_BLOCK);
			else
				memset(at, k == blocks ? 0 : 0xff, IMAGE_BLOCK);
			if (k == i)
				memcpy(at, save, IMAGE_BLOCK);
			failed += judge(&m, 0, &seen) != 0;
			memcpy(at, save, IMAGE_BLOCK);
		}
	}
	ck_assert_uint_eq(failed, 0);
	image_free(&im);
}
END_TEST

/* ---- output ----------------------------------------------------------------------------------------- */

START_TEST(output)
{
	struct kvsck_finding f = { .code = KVF_F_page_twin, .severity = KVSCK_PROBLEM, .repairable = true,
				   .segment = 5, .offset = 20480, .tree = 16, .tree_name = "ma\"in",
				   .range = true, .from = (const u8 *)"a\"\x01", .from_len = 3,
				   .to = (const u8 *)"b", .to_len = 1, .text = "why" };
	char buf[1024], tiny[8];
	size_t n;

	n = kvsck_finding_to_text(buf, sizeof(buf), &f);
	ck_assert_uint_eq(n, strlen(buf));
	ck_assert_str_eq(buf, "417 page_twin: segment 5, offset 20480, tree 'ma\"in', keys 'a\"\\x01'..'b': "
			      "page: one of two copies is damaged: why (an intact copy exists)");
	ck_assert_uint_eq(kvsck_finding_to_text(tiny, sizeof(tiny), &f), n);
	ck_assert_uint_eq(strlen(tiny), 7);
	n = kvsck_finding_to_json(buf, sizeof(buf), &f);
	ck_assert_uint_eq(n, strlen(buf));
	ck_assert_str_eq(buf, "{\"finding\":417,\"name\":\"page_twin\",\"severity\":\"problem\","
			      "\"repairable\":true,\"segment\":5,\"offset\":20480,\"tree_id\":16,"
			      "\"tree\":\"ma\\\"in\",\"from\":\"a\\\"\\\\x01\",\"to\":\"b\",\"sentence\":"
			      "\"page: one of two copies is damaged\",\"text\":\"why\"}");
	f = (struct kvsck_finding){ .code = KVF_F_log_gap, .segment = KVF_NO_SEGMENT,
				    .offset = KVSCK_NO_OFFSET, .text = "" };
	kvsck_finding_to_text(buf, sizeof(buf), &f);
	ck_assert_str_eq(buf, "803 log_gap: log: ends before the attested LSN");
}
END_TEST

/* Findings of one code are limited, but counted. */
START_TEST(limit)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct kvsck_io io = { .read = memory_read, .arg = &m, .size = IMAGE_BYTES };
	struct kvsck_options opt = { .max_per_code = 1, .found = found, .found_arg = &seen };
	struct image im;

	image_build(&im, IMAGE_GOOD);
	im.bytes[im.value[0]] ^= 1;
	im.bytes[im.value[1]] ^= 1;
	m.bytes = im.bytes;
	seen.len = 0;
	seen.text[0] = '\0';
	ck_assert_int_eq(kvsck_run(&io, &opt, &seen.rep), 0);
	ck_assert_uint_eq(seen.rep.by_code[KVF_F_record_payload], 2);
	ck_assert_uint_eq(seen.rep.problems, 2);
	ck_assert_ptr_nonnull(strchr(seen.text, '\n'));
	ck_assert_ptr_null(strchr(strchr(seen.text, '\n') + 1, '\n'));
	image_free(&im);
}
END_TEST

static int write_image(const char *path, int fault)
{
	struct image im;
	FILE *f;
	int ok;

	image_build(&im, (enum image_fault)fault);
	f = fopen(path, "wb");
	ok = f && fwrite(im.bytes, 1, IMAGE_BYTES, f) == IMAGE_BYTES;
	if (f && fclose(f))
		ok = 0;
	image_free(&im);
	return ok ? 0 : 1;
}

static Suite *suite(void)
{
	Suite *s = suite_create("fsck");
	TCase *tc = tcase_create("judge");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, faults, 0, (int)(sizeof(expects) / sizeof(expects[0])));
	tcase_add_test(tc, all_faults_have_a_row);
	tcase_add_test(tc, totals);
	tcase_add_test(tc, damage);
	tcase_add_test(tc, no_values);
	tcase_add_test(tc, read_errors);
	tcase_add_test(tc, other_files);
	tcase_add_test(tc, cancelled);
	tcase_add_test(tc, truncation);
	tcase_add_test(tc, every_byte);
	tcase_add_test(tc, every_block);
	tcase_add_test(tc, output);
	tcase_add_test(tc, limit);
	suite_add_tcase(s, tc);
	return s;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "write"))
		return write_image(argv[2], atoi(argv[3]));
	return suite_run(suite());
}
