/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_fsck_engine.c - the judge on volumes that the engine writes (M6): whatever a random history does,
 * the bytes on the medium are judged clean at each of its instants, closed, in use, or left by a killed
 * process; and a damaged volume that the judge calls clean is read by the engine without an error. At some
 * of these instants 'explain' is asked, too: stretches tile the volume, the live records in them are the
 * live bytes of the table, and of each key it says what the engine says (S14).
 *
 * Arguments: first seed, number of seeds. KV_TEST_QUICK=1: a tenth.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../engine/user/kve_test.h"
#include "../../fsck/explain.h"
#include "../tap.h"

#define STEPS 300u
#define KEYS 150u
#define VALUE_MAX 20000u
#define CAP (24u << 20)

struct geometry {
	u32 block, segment, frame, window;
};

static const struct geometry geometries[] = {
	{ 512, 4096, 2048, 1 },		   /* no window: 1 */
	{ 512, 8192, 2048, 2048 },
	{ 512, 65536, 4096, 8192 },
	{ 4096, 65536, 16384, 16384 },
	{ 4096, 65536, 4096, 1 },
	{ 1024, 262144, 32768, 65536 },
};
#define GEOMETRIES (sizeof(geometries) / sizeof(geometries[0]))

struct world {
	u64 rng, seed;
	const struct geometry *g;
	u8 *image; /* CAP bytes: what survives */
	u64 size;
	struct kvp_dev *dev;
	kv_db *db;
	u8 value[VALUE_MAX];
	u64 judged, problems, stretches, asked;
	const char *op;
	char why[512];
};

static u32 rnd(struct world *w, u32 n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (u32)((w->rng >> 11) % n);
}

/* ---- the judge ------------------------------------------------------------------------------------ */

static int image_read(void *arg, u64 off, void *buf, u32 len)
{
	memcpy(buf, (const u8 *)arg + off, len);
	return 0;
}

static void show(void *arg, const struct kvsck_finding *f)
{
	const struct world *w = arg;
	char line[1024];

	if (f->severity != KVSCK_PROBLEM)
		return;
	kvsck_finding_to_text(line, sizeof(line), f);
	printf("# seed %llu after %s: %s\n", w->seed, w->op, line);
}

/* Problems in the bytes; -1: not to be judged. */
static long long judge(struct world *w, u8 *bytes, u64 size, bool loud)
{
	struct kvsck_io io = { .read = image_read, .arg = bytes, .size = size };
	struct kvsck_options opt = { .max_per_code = 3, .found = loud ? show : NULL, .found_arg = w };
	static struct kvsck_report rep;

	w->judged++;
	if (kvsck_run(&io, &opt, &rep))
		return -1;
	return (long long)rep.problems;
}

static void judge_now(struct world *w)
{
	if (w->dev && judge(w, kvp_mem_bytes(w->dev), w->dev->size, true))
		w->problems++;
}

/* ---- explain -------------------------------------------------------------------------------------- */

static void odd(struct world *w, const char *what, u64 at, u64 a, u64 b)
{
	printf("# seed %llu after %s: %s at %llu: %llu, %llu\n", w->seed, w->op, what, at, a, b);
	w->problems++;
}

/* A slot may be empty, a segment that was only chosen yet has no header, behind the end the log is torn. */
static bool unexpected(const struct kvsck_stretch *st)
{
	switch (st->kind) {
	case KVSCK_STRETCH_SUPER:
		return false;
	case KVSCK_STRETCH_HEADER:
		return st->finding && st->segment.live;
	case KVSCK_STRETCH_RECORD:
		return st->finding && st->fate != KVSCK_FATE_BEYOND;
	default:
		return st->finding;
	}
}

/* The stretches of a segment; what is live in them. False: no more. */
static bool look_at(struct world *w, struct kvsck_survey *s, u32 nr)
{
	u64 bytes = kvsck_survey_geometry(s)->segment, off = nr * bytes, end = off + bytes, live = 0;
	struct kvsck_segment_info info;
	struct kvsck_stretch st;

	for (; off < end; off = st.to) {
		if (kvsck_survey_at(s, off, &st) || st.from != off || st.to <= off || st.to > end) {
			odd(w, "a gap or overlap", off, st.from, st.to);
			return false;
		}
		if (unexpected(&st))
			odd(w, "a finding", off, (u64)st.finding, st.kind);
		if (st.kind == KVSCK_STRETCH_RECORD &&
		    (st.fate == KVSCK_FATE_LIVE || st.fate == KVSCK_FATE_DOOMED))
			live += st.to - off;
		if (st.kind == KVSCK_STRETCH_PAGE && st.roots & KVSCK_OF_LIVE)
			live += st.to - off;
		w->stretches++;
	}
	kvsck_survey_segment(s, nr, &info);
	if (!info.freed && (info.use == KVSCK_USE_LOG || info.use == KVSCK_USE_TREE) && live != info.live)
		odd(w, "live bytes", nr, live, info.live);
	return true;
}

/* A key, as the engine sees it and as the medium says. */
static void look_for(struct world *w, const struct kvsck_io *io, const char *tree, const char *key)
{
	struct kvsck_explain x = { .tree = tree, .tree_len = (u32)strlen(tree), .key = key,
				   .key_len = (u32)strlen(key), .chunks_max = 2 };
	static struct kvsck_report rep;
	void *value = NULL;
	kv_tree *t = NULL;
	size_t len;
	int err = kv_tree_open(w->db, tree, 0, &t);
	enum kvsck_answer want = KVSCK_ANSWER_NO_TREE;

	if (!err) {
		err = kv_get(w->db, t, key, strlen(key), &value, &len);
		kv_free(value);
		want = err ? KVSCK_ANSWER_NONE : KVSCK_ANSWER_THERE;
	}
	if ((err && err != KV_E_NOTFOUND && err != KV_E_TOOBIG) || kvsck_explain(io, NULL, &x, &rep) ||
	    x.damage || x.unknown || x.now != want) {
		printf("# tree '%s', key '%s'\n", tree, key);
		odd(w, "explain", (u64)-err, x.now, want);
	}
	w->asked++;
}

static void look(struct world *w)
{
	struct kvsck_io io = { .read = image_read, .arg = kvp_mem_bytes(w->dev), .size = w->dev->size };
	static struct kvsck_report rep;
	struct kvsck_survey *s;
	char key[32];
	u32 i;

	if (kvsck_survey_new(&io, NULL, &rep, &s)) {
		odd(w, "no survey", 0, 0, 0);
		return;
	}
	for (i = 0; i < kvsck_survey_segments(s) && look_at(w, s, i); i++)
		;
	kvsck_survey_free(s);
	for (i = 0; i < 12; i++) {
		snprintf(key, sizeof(key), "key %0*u", (int)(1 + rnd(w, 3)), rnd(w, KEYS));
		look_for(w, &io, i % 3 ? "main" : i % 2 ? "ann" : "ben", key);
	}
}

/* ---- the history ------------------------------------------------------------------------------------ */

static void quiet(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

static void options(const struct world *w, kv_options *opt)
{
	*opt = (kv_options)KV_OPTIONS_INIT;
	opt->flags = KV_OPEN_NOTHREAD;
	opt->cache_bytes = 1 << 20;
	opt->block_bytes = w->g->block;
	opt->segment_bytes = w->g->segment;
	opt->frame_bytes = w->g->frame;
	opt->window_bytes = w->g->window;
	opt->checkpoint_bytes = 32768;
	opt->uuid[0] = 1;
	opt->log = quiet;
}

/* 0, or an error: then nothing is open. */
static int open_volume(struct world *w, u8 *image, u64 size, u32 flags)
{
	kv_options opt;
	int err;

	options(w, &opt);
	opt.flags |= flags;
	err = kvp_mem_open_copy(&w->dev, image, size, CAP);
	if (err)
		return err;
	err = kve_open_dev(w->dev, &opt, &w->db);
	if (err) {
		w->db = NULL;
		w->dev = NULL;
	}
	return err;
}

/* What is on the medium now is all that is left. */
static void keep_image(struct world *w)
{
	w->size = w->dev->size;
	memcpy(w->image, kvp_mem_bytes(w->dev), w->size);
}

/* The process dies, or the volume is closed; then it is opened again. */
static int reopen(struct world *w, bool die)
{
	int err = 0;

	keep_image(w);
	if (!die) {
		/* closing writes to a device that is gone afterwards: close another copy */
		err = kv_checkpoint(w->db);
		keep_image(w);
	}
	kve_crash(w->db);
	w->db = NULL;
	w->dev = NULL;
	if (judge(w, w->image, w->size, true))
		w->problems++;
	return err ? err : open_volume(w, w->image, w->size, 0);
}

static u32 random_size(struct world *w)
{
	switch (rnd(w, 8)) {
	case 0:
		return 0;
	case 1:
		return rnd(w, VALUE_MAX);
	case 2:
	case 3:
		return rnd(w, 3000);
	}
	return rnd(w, 100);
}

static int put(struct world *w, kv_tree *t, u32 flags)
{
	char key[32];
	u32 len = random_size(w), n;

	n = (u32)snprintf(key, sizeof(key), "key %0*u", (int)(1 + rnd(w, 3)), rnd(w, KEYS));
	memset(w->value, (int)rnd(w, 256), len);
	return kv_put(w->db, t, key, n, w->value, len, flags);
}

static int stream(struct world *w)
{
	u32 i, parts = rnd(w, 4);
	kv_writer *wr;
	char key[32];
	u32 n = (u32)snprintf(key, sizeof(key), "key %u", rnd(w, KEYS));
	int err = kv_writer_open(w->db, NULL, key, n, &wr);

	if (err)
		return err;
	for (i = 0; i < parts && !err; i++) {
		err = kv_writer_write(wr, w->value, rnd(w, VALUE_MAX));
		judge_now(w);
	}
	if (err || !rnd(w, 4)) {
		kv_writer_abort(wr);
		return err;
	}
	return kv_writer_commit(wr, 0);
}

static int batch(struct world *w, kv_tree *t)
{
	u32 i, nr = 1 + rnd(w, 12), n;
	kv_batch *b;
	char key[32];
	int err = kv_batch_new(w->db, &b);

	if (err)
		return err;
	for (i = 0; i < nr && !err; i++) {
		n = (u32)snprintf(key, sizeof(key), "key %u", rnd(w, KEYS));
		err = rnd(w, 3) ? kv_batch_put(b, i & 1 ? t : NULL, key, n, w->value, rnd(w, 1024)) :
				  kv_batch_del(b, i & 1 ? t : NULL, key, n);
	}
	if (!err)
		err = kv_batch_commit(b, 0);
	kv_batch_free(b);
	return err;
}

static int step(struct world *w)
{
	static const char *const names[] = { "ann", "ben" };
	const char *name = names[rnd(w, 2)];
	kv_tree *t = NULL;
	char key[32];
	int err;
	u32 n;

	if (rnd(w, 2)) {
		w->op = "tree";
		err = kv_tree_open(w->db, name, KV_TREE_CREATE, &t);
		if (err)
			return err;
	}
	switch (rnd(w, 20)) {
	case 0:
		w->op = "stream";
		return stream(w);
	case 1:
	case 2:
		w->op = "batch";
		return batch(w, t);
	case 3:
	case 4:
	case 5:
		w->op = "delete";
		n = (u32)snprintf(key, sizeof(key), "key %u", rnd(w, KEYS));
		return kv_del(w->db, t, key, n, 0);
	case 6:
		w->op = "drop";
		return rnd(w, 4) ? 0 : kv_tree_drop(w->db, name);
	case 7:
		w->op = "checkpoint";
		return kv_checkpoint(w->db);
	case 8:
		w->op = "sync";
		return kv_sync(w->db);
	case 9:
		w->op = "close";
		return rnd(w, 4) ? 0 : reopen(w, false);
	case 10:
		w->op = "crash";
		return rnd(w, 4) ? 0 : reopen(w, true);
	}
	w->op = "put";
	return put(w, t, rnd(w, 8) ? 0 : KV_SYNCED);
}

/* ---- damage: the verdicts of judge and engine ---------------------------------------------------------- */

static void engine_found(void *arg, int finding, const char *text)
{
	struct world *w = arg;

	snprintf(w->why, sizeof(w->why), "%d %s", finding, text);
}

/* Everything can be read: 0; else why in w->why. */
static int engine_reads(struct world *w, u8 *image)
{
	uint64_t problems = 0;
	int err = open_volume(w, image, w->size, KV_OPEN_READONLY);

	if (err) {
		snprintf(w->why, sizeof(w->why), "%s", kv_last_error());
		return err;
	}
	err = kv_check(w->db, KV_CHECK_VALUES, engine_found, w, &problems);
	kv_close(w->db);
	w->db = NULL;
	w->dev = NULL;
	return err ? err : problems ? KV_E_CORRUPT : 0;
}

/* What the judge calls clean the engine must be able to read. */
static void damage(struct world *w)
{
	u8 *copy = malloc(w->size);
	u32 i, k, at, len;

	for (i = 0; copy && i < 40; i++) {
		memcpy(copy, w->image, w->size);
		len = 1 + rnd(w, rnd(w, 2) ? 8 : 600);
		at = rnd(w, (u32)w->size - len);
		for (k = 0; k < len; k++)
			copy[at + k] ^= (u8)(1u << rnd(w, 8));
		if (judge(w, copy, w->size, false) || !engine_reads(w, copy))
			continue;
		printf("# seed %llu: %u bytes at %u damaged: the engine fails (%s), the judge says clean\n",
		       w->seed, len, at, w->why);
		w->problems++;
	}
	free(copy);
}

static void run(struct world *w, u64 seed)
{
	u64 before = w->problems;
	kv_options opt;
	int err;
	u32 i;

	w->seed = seed;
	w->rng = seed * 0x9e3779b97f4a7c15ull + 1;
	w->g = &geometries[seed % GEOMETRIES];
	w->op = "create";
	options(w, &opt);
	err = kvp_mem_open(&w->dev, 0, CAP);
	if (!err)
		err = kve_create_dev(w->dev, &opt);
	if (err) {
		printf("# seed %llu: create: %s\n", seed, kv_last_error());
		w->problems++;
		return;
	}
	judge_now(w);
	keep_image(w);
	kvp_dev_close(w->dev);
	err = open_volume(w, w->image, w->size, 0);
	/* the first problem of a seed is enough; "test_fsck_engine SEED 1" repeats it */
	for (i = 0; i < STEPS && w->db && w->problems == before; i++) {
		err = step(w);
		if (err == KV_E_NOTFOUND || err == KV_E_NOSPACE)
			err = 0;
		if (err) {
			printf("# seed %llu, %s: %s\n", seed, w->op, kv_last_error());
			w->problems++;
			break;
		}
		judge_now(w);
		if (w->db && i % 25 == seed % 25)
			look(w);
	}
	if (!w->db)
		return;
	keep_image(w);
	kve_crash(w->db);
	w->db = NULL;
	w->dev = NULL;
	if (w->problems == before)
		damage(w);
}

int main(int argc, char **argv)
{
	u64 first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	u64 nr = argc > 2 ? strtoull(argv[2], NULL, 10) : tap_quick() ? 12 : 120, i;
	struct world *w = calloc(1, sizeof(*w));

	if (!w || !(w->image = malloc(CAP))) {
		puts("Bail out! out of memory");
		return 1;
	}
	for (i = first; i < first + nr && w->problems < 20; i++)
		run(w, i);
	tap_ok(w->problems == 0, "M6: %llu seeds, %llu states and damaged images judged, %llu problems", nr,
	       w->judged, w->problems);
	tap_ok(w->problems == 0 && w->stretches > nr * 100 && w->asked > nr * 50,
	       "S14: %llu stretches, %llu keys explained", w->stretches, w->asked);
	free(w->image);
	free(w);
	return tap_done();
}
