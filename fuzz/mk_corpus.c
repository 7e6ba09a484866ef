/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mk_corpus.c - makes the fuzzer's corpus: small images, one for each thing that a volume can hold.
 * mk_corpus DIR. The same bytes each time (fixed clock and chance). Values are ASCII: fuzz_open.c
 * counts on it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../engine/user/kve_test.h"

#define IMAGE_MAX (128u << 10)

static const char *save_path;
static struct kvp_dev_ops saving_ops;
static const struct kvp_dev_ops *mem_ops;

#define MUST(call)                                                                                 \
	do {                                                                                       \
		int err_ = (call);                                                                 \
		if (err_) {                                                                        \
			fprintf(stderr, "mk_corpus: %s:%d: %s: %d: %s\n", save_path, __LINE__,     \
				#call, err_, kv_last_error());                                     \
			exit(EXIT_FAILURE);                                                        \
		}                                                                                  \
	} while (0)

/* The device closes with the volume: then its bytes become the file. */
static void save_and_close(struct kvp_dev *dev)
{
	FILE *f = fopen(save_path, "wb");
	size_t len = (size_t)dev->size;

	dev->ops = mem_ops;
	if (!f || fwrite(kvp_mem_bytes(dev), 1, len, f) != len || fclose(f)) {
		perror(save_path);
		exit(EXIT_FAILURE);
	}
	kvp_dev_close(dev);
}

static void save_at_close(struct kvp_dev *dev)
{
	mem_ops = dev->ops;
	saving_ops = *mem_ops;
	saving_ops.close = save_and_close;
	dev->ops = &saving_ops;
}

static kv_options options(u32 block, u32 segment, u32 frame, u32 window)
{
	kv_options opt = KV_OPTIONS_INIT;

	opt.flags = KV_OPEN_NOTHREAD;
	opt.cache_bytes = 1 << 20;
	opt.block_bytes = block;
	opt.segment_bytes = segment;
	opt.frame_bytes = frame;
	opt.window_bytes = window;
	memcpy(opt.uuid, "kvs-fuzz-corpus!", sizeof(opt.uuid));
	strcpy(opt.label, "corpus");
	return opt;
}

static kv_db *volume_new(const kv_options *opt)
{
	struct kvp_dev *dev;
	kv_db *db;

	kvp_fix_time(1700000000ull * 1000000000ull);
	kvp_fix_random(42);
	MUST(kvp_mem_open(&dev, 0, IMAGE_MAX));
	MUST(kve_create_dev(dev, opt));
	kvp_mem_window(dev, opt->window_bytes > 1);
	save_at_close(dev);
	MUST(kve_open_dev(dev, opt, &db));
	return db;
}

/* Open once more what was saved. */
static kv_db *volume_again(const kv_options *opt)
{
	static u8 image[IMAGE_MAX];
	FILE *f = fopen(save_path, "rb");
	struct kvp_dev *dev;
	size_t len;
	kv_db *db;

	if (!f) {
		perror(save_path);
		exit(EXIT_FAILURE);
	}
	len = fread(image, 1, sizeof(image), f);
	fclose(f);
	MUST(kvp_mem_open_copy(&dev, image, len, IMAGE_MAX));
	save_at_close(dev);
	MUST(kve_open_dev(dev, opt, &db));
	return db;
}

static void fill(kv_db *db, kv_tree *tree, const char *prefix, u32 from, u32 to, u32 len)
{
	char key[64], value[4096];
	u32 i;

	for (i = from; i < to; i++) {
		int n = snprintf(key, sizeof(key), "%s%04u", prefix, i);

		memset(value, 'a' + (int)(i % 26), len);
		MUST(kv_put(db, tree, key, (size_t)n, value, len, 0));
	}
}

static void stream(kv_db *db, const char *key, u32 len)
{
	char part[100];
	kv_writer *w;
	u32 done, n;

	memset(part, 's', sizeof(part));
	MUST(kv_writer_open(db, NULL, key, strlen(key), &w));
	for (done = 0; done < len; done += n) {
		n = len - done < sizeof(part) ? len - done : (u32)sizeof(part);
		MUST(kv_writer_write(w, part, n));
	}
	MUST(kv_writer_commit(w, 0));
}

/* ---- the images ------------------------------------------------------------------------------ */

static void empty(kv_options *opt)
{
	MUST(kv_close(volume_new(opt)));
}

static void leaf(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "key", 0, 12, 20);
	MUST(kv_put(db, NULL, "empty", 5, "", 0, 0));
	MUST(kv_close(db));
}

/* Nothing in the tree yet: all is replayed, some of it from a tail place. */
static void replay(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "key", 0, 12, 30);
	fill(db, NULL, "big", 0, 3, 300);
	MUST(kv_del(db, NULL, "key0003", 7, 0));
	MUST(kv_sync(db));
	kve_crash(db);
}

/* Two levels, separated values, a free batch, deletes. */
static void tree(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "some/longer/prefix/", 0, 90, 24);
	MUST(kv_checkpoint(db));
	fill(db, NULL, "value", 0, 6, 400);
	MUST(kv_del(db, NULL, "some/longer/prefix/0007", 23, 0));
	MUST(kv_close(db));
}

static void trees(kv_options *opt)
{
	kv_db *db = volume_new(opt);
	kv_tree *one, *two;

	MUST(kv_tree_open(db, "one", KV_TREE_CREATE, &one));
	MUST(kv_tree_open(db, "two", KV_TREE_CREATE, &two));
	fill(db, one, "k", 0, 5, 10);
	fill(db, two, "k", 0, 5, 10);
	fill(db, NULL, "k", 0, 5, 10);
	MUST(kv_checkpoint(db));
	MUST(kv_tree_drop(db, "two"));
	MUST(kv_sync(db));
	kve_crash(db);
}

static void object(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "k", 0, 3, 10);
	stream(db, "stream", 5000);
	MUST(kv_close(db));
}

/* An abandoned tail: an unclean end, opened again, another unclean end. */
static void reopened(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "first", 0, 6, 40);
	MUST(kv_sync(db));
	kve_crash(db);
	db = volume_again(opt);
	fill(db, NULL, "second", 0, 6, 100);
	MUST(kv_sync(db));
	kve_crash(db);
}

/* Sealed log segments with footers; with a window when the geometry has one. */
static void sealed(kv_options *opt)
{
	kv_db *db = volume_new(opt);

	fill(db, NULL, "v", 0, 14, 700);
	fill(db, NULL, "s", 0, 4, 16);
	kve_crash(db);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*make)(kv_options *opt);
		u32 block, segment, window;
	} images[] = {
		{ "empty", empty, 512, 4096, 1 },      { "leaf", leaf, 512, 4096, 1 },
		{ "replay", replay, 512, 4096, 1 },    { "tree", tree, 512, 4096, 1 },
		{ "trees", trees, 512, 4096, 1 },      { "object", object, 512, 4096, 1 },
		{ "reopened", reopened, 512, 4096, 1 }, { "sealed", sealed, 512, 4096, 1 },
		{ "window", sealed, 512, 8192, 2048 },  { "blocks", tree, 1024, 8192, 1 },
	};
	char path[4096];
	size_t i;

	if (argc != 2) {
		fprintf(stderr, "usage: mk_corpus DIR\n");
		return 2;
	}
	for (i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
		kv_options opt = options(images[i].block, images[i].segment, 2048, images[i].window);

		snprintf(path, sizeof(path), "%s/%s", argv[1], images[i].name);
		save_path = path;
		images[i].make(&opt);
	}
	return 0;
}
