/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_explain.c - what 'kvs explain' and 'kvs map' show, on a volume made by hand (image.h), of which is
 * known where everything stands: each byte has one owner, each key its way; and on any bytes there is an
 * answer, and no crash. S14 C16
 */
#include <stdio.h>
#include <string.h>

#include "../../fsck/explain.h"
#include "image.h"
#include "tests/unit/suite.h"

struct memory {
	const u8 *bytes;
	u64 size;
};

static int memory_read(void *arg, u64 off, void *buf, u32 len)
{
	const struct memory *m = arg;

	if (off > m->size || len > m->size - off)
		abort();
	memcpy(buf, m->bytes + off, len);
	return 0;
}

static struct kvsck_report rep;

static int survey(struct memory *m, struct kvsck_survey **s)
{
	struct kvsck_io io = { .read = memory_read, .arg = m, .size = m->size };

	return kvsck_survey_new(&io, NULL, &rep, s);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Stretch by stretch to the end; false: a gap or an overlap. */
static bool tiles(struct kvsck_survey *s, u64 size)
{
	struct kvsck_stretch st;
	u64 off, next;

	for (off = 0;; off = next) {
		if (kvsck_survey_at(s, off, &st) || st.from != off || st.to <= off)
			return false;
		next = st.to;
		if (st.kind == KVSCK_STRETCH_BEYOND)
			return next == ~0ull && off + 2 * IMAGE_SEGMENT > size;
	}
}

struct known {
	u64 at;
	enum kvsck_stretch_kind kind;
	u32 index; /* of slots; roots of pages; fates of records */
};

static void expect_at(struct kvsck_survey *s, const struct known *k)
{
	struct kvsck_stretch st;
	u64 i;

	ck_assert_int_eq(kvsck_survey_at(s, k->at, &st), 0);
	if (st.kind != k->kind || st.from != k->at)
		ck_abort_msg("byte %llu: kind %d from %llu, not %d", k->at, st.kind, st.from, k->kind);
	ck_assert_int_eq(st.finding, 0);
	if (k->kind == KVSCK_STRETCH_PAGE)
		ck_assert_uint_eq(st.roots, k->index);
	else if (k->kind == KVSCK_STRETCH_RECORD)
		ck_assert_uint_eq(st.fate, k->index);
	else
		ck_assert_uint_eq(st.index, k->index);
	for (i = st.from; i < st.to; i++) {
		struct kvsck_stretch same;

		if (kvsck_survey_at(s, i, &same) || same.from != st.from || same.to != st.to ||
		    same.kind != st.kind)
			ck_abort_msg("byte %llu belongs to something else than byte %llu", i, st.from);
	}
}

START_TEST(known_places)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct kvsck_survey *s;
	struct image im;
	size_t i;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	ck_assert_int_eq(survey(&m, &s), 0);
	{
		const u64 seg = IMAGE_SEGMENT, tail = seg + im.g.tail_offset,
			  chunk = sizeof(struct kvf_record) + 17;
		const struct known known[] = {
			{ im.slot[1], KVSCK_STRETCH_SUPER, 1 },
			{ im.slot[KVF_GROUP_SLOTS + 2], KVSCK_STRETCH_SUPER, KVF_GROUP_SLOTS + 2 },
			{ im.copy, KVSCK_STRETCH_SUPER, KVF_SLOTS },
			{ seg, KVSCK_STRETCH_HEADER, 0 },
			{ tail, KVSCK_STRETCH_TAIL, 0 },
			{ tail + IMAGE_BLOCK, KVSCK_STRETCH_TAIL, 1 },
			{ seg + im.g.window_offset, KVSCK_STRETCH_WINDOW, 0 },
			{ 3 * seg, KVSCK_STRETCH_HEADER, 0 },
			{ 5 * seg, KVSCK_STRETCH_HEADER, 0 },
			{ 7 * seg, KVSCK_STRETCH_FREE, 0 },
			{ im.footer, KVSCK_STRETCH_FOOTER, 0 },
			{ im.forest[0], KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.forest[1], KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.segtab[1], KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.inner[0], KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.leaf[1], KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.objects_leaf, KVSCK_STRETCH_PAGE, KVSCK_OF_LIVE },
			{ im.value_record[0], KVSCK_STRETCH_RECORD, KVSCK_FATE_LIVE },
			{ im.value_record[1], KVSCK_STRETCH_RECORD, KVSCK_FATE_LIVE },
			{ im.chunk[1] - chunk, KVSCK_STRETCH_RECORD, KVSCK_FATE_LIVE },
			{ im.record[0], KVSCK_STRETCH_RECORD, KVSCK_FATE_LOGGED },
			{ im.record[2], KVSCK_STRETCH_RECORD, KVSCK_FATE_LOGGED },
		};

		for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			expect_at(s, &known[i]);
	}
	ck_assert(tiles(s, m.size));
	kvsck_survey_free(s);
	image_free(&im);
}
END_TEST

/* The page that a free batch names is still whole, a chunk knows its key, a dead record that it is dead. */
START_TEST(details)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct kvsck_stretch st;
	struct kvsck_survey *s;
	struct image im;
	u64 off, freed = 0, dead = 0;

	image_build(&im, IMAGE_VALUE_KEY);
	m.bytes = im.bytes;
	ck_assert_int_eq(survey(&m, &s), 0);
	for (off = 0; off < IMAGE_BYTES - IMAGE_BLOCK; off = st.to) {
		ck_assert_int_eq(kvsck_survey_at(s, off, &st), 0);
		if (st.kind == KVSCK_STRETCH_PAGE && st.roots == KVSCK_OF_BATCH)
			freed++;
		if (st.kind == KVSCK_STRETCH_RECORD && st.fate == KVSCK_FATE_DEAD) {
			ck_assert_uint_eq(st.from, im.value_record[1]);
			dead++;
		}
	}
	ck_assert_uint_eq(dead, 1);
	ck_assert_uint_eq(freed, 2);
	ck_assert_int_eq(kvsck_survey_at(s, im.chunk[0], &st), 0);
	ck_assert(st.chunk && st.owner.len == 4 && !memcmp(st.owner.p, "blob", 4));
	ck_assert_str_eq(st.owner_tree, "main");
	ck_assert_int_eq(kvsck_survey_at(s, im.leaf[1] + 5, &st), 0);
	ck_assert(st.page.lower.len == 1 && st.page.lower.p[0] == 'm' && !st.page.upper.p);
	ck_assert_str_eq(st.page.tree_name, "main");
	kvsck_survey_free(s);
	image_free(&im);
}
END_TEST

/* ---- keys ------------------------------------------------------------------------------------ */

struct way {
	struct kvsck_explain x;
	u32 steps[KVSCK_STEP_LOGGED + 1];
	u64 leaf, record, bad_copies;
	bool odd;
};

static void on_step(void *arg, const struct kvsck_step *st)
{
	struct way *w = arg;

	w->steps[st->kind]++;
	if (st->kind == KVSCK_STEP_PAGE) {
		w->leaf = st->page.offset[0];
		w->bad_copies += st->page.finding[0] != 0;
		w->bad_copies += st->page.finding[1] != 0;
		w->odd |= st->page.tree_name[0] == '\0';
	}
	if (st->kind == KVSCK_STEP_RECORD)
		w->record = st->record.segment * (u64)IMAGE_SEGMENT + st->record.offset;
}

static int explain(const struct memory *m, const char *tree, const char *key, u64 chunks, struct way *w)
{
	struct memory copy = *m;
	struct kvsck_io io = { .read = memory_read, .arg = &copy, .size = m->size };

	memset(w, 0, sizeof(*w));
	w->x.tree = tree;
	w->x.tree_len = (u32)strlen(tree);
	w->x.key = key;
	w->x.key_len = (u32)strlen(key);
	w->x.chunks_max = chunks;
	w->x.step = on_step;
	w->x.arg = w;
	return kvsck_explain(&io, NULL, &w->x, &rep);
}

START_TEST(ways)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;
	struct way w;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	ck_assert_int_eq(explain(&m, "main", "a", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_THERE && !w.x.damage && !w.x.elsewhere && !w.x.unknown);
	ck_assert_uint_eq(w.leaf, im.leaf[0]);
	ck_assert_uint_eq(w.steps[KVSCK_STEP_PAGE], 3);
	ck_assert_uint_eq(w.steps[KVSCK_STEP_ENTRY], 1);
	ck_assert_uint_eq(w.steps[KVSCK_STEP_RECORD], 0);
	ck_assert(!w.odd);
	ck_assert_int_eq(explain(&m, "main", "big2", 1, &w), 0);
	ck_assert_uint_eq(w.record, im.value_record[1]);
	/* exactly at a fence, and the last */
	ck_assert_int_eq(explain(&m, "main", "m", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_NONE && w.leaf == im.leaf[1] && w.steps[KVSCK_STEP_NONE] == 1);
	ck_assert_int_eq(explain(&m, "main", "z", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_THERE && w.leaf == im.leaf[1]);
	ck_assert_int_eq(explain(&m, "main", "blob", 1, &w), 0);
	ck_assert(w.steps[KVSCK_STEP_CHUNK] == 1 && w.steps[KVSCK_STEP_MORE] == 1 && !w.x.damage);
	ck_assert_uint_eq(w.record, im.chunk[0] - sizeof(struct kvf_record) - 17);
	ck_assert_int_eq(explain(&m, "main", "blob", ~0ull, &w), 0);
	ck_assert(w.steps[KVSCK_STEP_CHUNK] == 2 && !w.steps[KVSCK_STEP_MORE] && !w.x.damage);
	/* in the log behind the checkpoint alone */
	ck_assert_int_eq(explain(&m, "main", "new1", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_THERE && w.x.at_checkpoint == KVSCK_ANSWER_NONE &&
		  w.x.logged == 1);
	ck_assert_int_eq(explain(&m, "none", "a", 1, &w), 0);
	ck_assert_int_eq(w.x.now, KVSCK_ANSWER_NO_TREE);
	ck_assert_int_eq(explain(&m, "main", "", 1, &w), -KVE_bad_key);
	ck_assert_int_eq(explain(&m, "", "a", 1, &w), -KVE_bad_name);
	image_free(&im);
}
END_TEST

/* A transaction that is not whole does not count; damage on the way is told, damage beside it is not. */
START_TEST(broken_ways)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;
	struct way w;

	image_build(&im, IMAGE_LOG_TORN);
	m.bytes = im.bytes;
	ck_assert_int_eq(explain(&m, "main", "new1", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_NONE && w.x.logged == 1 && !w.x.damage);
	image_free(&im);

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	im.bytes[im.leaf[0] + 300] ^= 1;
	ck_assert_int_eq(explain(&m, "main", "a", 1, &w), 0);
	ck_assert(w.x.unknown && w.x.damage == 1 && w.bad_copies == 1);
	ck_assert_int_eq(explain(&m, "main", "n", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_THERE && !w.x.damage);
	im.bytes[im.leaf[0] + 300] ^= 1;
	im.bytes[im.inner[1] + 300] ^= 1;
	ck_assert_int_eq(explain(&m, "main", "n", 1, &w), 0);
	ck_assert(w.x.now == KVSCK_ANSWER_THERE && w.x.damage == 1 && w.bad_copies == 1 && !w.x.unknown);
	im.bytes[im.inner[1] + 300] ^= 1;
	im.bytes[im.value[0] + 10] ^= 1;
	ck_assert_int_eq(explain(&m, "main", "big1", 1, &w), 0);
	ck_assert(w.x.damage == 1 && w.steps[KVSCK_STEP_RECORD] == 1);
	im.bytes[im.value[0] + 10] ^= 1;
	im.bytes[im.segtab[0] + 200] ^= 1;
	ck_assert_int_eq(explain(&m, "main", "big1", 1, &w), 0);
	ck_assert(!w.x.damage && w.x.elsewhere == 1);
	image_free(&im);
}
END_TEST

/* ---- any bytes ------------------------------------------------------------------------------- */

/* All that can be asked; stops the test if an answer makes no sense. */
static void ask_all(struct memory *m)
{
	static const char *const keys[] = { "a", "big1", "big2", "blob", "o", "new2", "zz" };
	struct kvsck_segment_info info;
	struct kvsck_survey *s;
	struct way w;
	u64 n;
	u32 i;

	if (!survey(m, &s)) {
		if (!tiles(s, m->size))
			ck_abort_msg("the stretches do not tile the volume");
		n = kvsck_survey_segments(s);
		for (i = 0; i < n; i++)
			kvsck_survey_segment(s, i, &info);
		kvsck_survey_free(s);
	}
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		explain(m, "main", keys[i], ~0ull, &w);
}

START_TEST(every_fault)
{
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;

	image_build(&im, (enum image_fault)_i);
	m.bytes = im.bytes;
	ask_all(&m);
	image_free(&im);
}
END_TEST

START_TEST(flipped_bytes)
{
	u32 step = getenv("KV_TEST_QUICK") ? 61 : 7, state = 1;
	struct memory m = { .size = IMAGE_BYTES };
	struct image im;
	u64 off;

	image_build(&im, IMAGE_GOOD);
	m.bytes = im.bytes;
	for (off = _i; off < IMAGE_BYTES; off += step) {
		state = state * 1664525 + 1013904223;
		im.bytes[off] ^= (u8)(1u << (state >> 29));
		ask_all(&m);
		im.bytes[off] ^= (u8)(1u << (state >> 29));
	}
	image_free(&im);
}
END_TEST

START_TEST(truncated)
{
	struct memory m;
	struct image im;
	u8 *bytes;
	u64 size;

	image_build(&im, IMAGE_GOOD);
	for (size = 0; size < IMAGE_BYTES; size += getenv("KV_TEST_QUICK") ? 1088 : 192) {
		/* a copy of exactly this size, so that a sanitizer sees each byte read beyond */
		bytes = malloc(size ? size : 1);
		ck_assert_ptr_nonnull(bytes);
		memcpy(bytes, im.bytes, size);
		m.bytes = bytes;
		m.size = size;
		ask_all(&m);
		free(bytes);
	}
	image_free(&im);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("explain");
	TCase *t = tcase_create("explain");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, known_places);
	tcase_add_test(t, details);
	tcase_add_test(t, ways);
	tcase_add_test(t, broken_ways);
	tcase_add_loop_test(t, every_fault, 0, IMAGE_FAULTS);
	tcase_add_loop_test(t, flipped_bytes, 0, 2);
	tcase_add_test(t, truncated);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
