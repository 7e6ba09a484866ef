/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * volume.h - a volume for tests of the public API: in memory and in real files, with the default and
 * with the tiny geometry. Loop tests run over WORLDS; on a loop device for those that ask for it.
 *
 * A device in memory keeps its bytes over closing: volume_reopen() is the same in all worlds. When a
 * test ends, nothing of what the engine had allocated may be left.
 */
#ifndef TESTS_UNIT_VOLUME_H
#define TESTS_UNIT_VOLUME_H

#include "engine/user/kve_test.h"
#include "tests/unit/loop.h"
#include "tests/unit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ck_assert writes to a file each time, which is too slow for loops. */
#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("%s:%d: %s (last error: %s)", __FILE__, __LINE__, #cond,      \
				     kv_last_error());                                             \
	} while (0)
#define must_be(call, want)                                                                        \
	do {                                                                                       \
		int got_ = (call), want_ = (want);                                                 \
		if (got_ != want_)                                                                 \
			ck_abort_msg("%s:%d: %s gave %d, not %d (last error: %s)", __FILE__,       \
				     __LINE__, #call, got_, want_, kv_last_error());               \
	} while (0)
#define ok(call) must_be(call, KV_OK)

/* A device is as long as max_bytes says. */
enum { MEM_DEFAULT, MEM_TINY, FILE_DEFAULT, FILE_TINY, WORLDS, DEVICE_DEFAULT = WORLDS };
/* Of loops over threads: ThreadSanitizer sees in two worlds what it sees in four, in half the time. */
#define RACE_FIRST (SUITE_THREADS_ONLY ? MEM_TINY : MEM_DEFAULT)
#define RACE_END (SUITE_THREADS_ONLY ? FILE_TINY : worlds())
#define MEM_BYTES_MAX (1ull << 30)

/* For loops that are long: KV_TEST_QUICK=1 leaves out the world with the most calls, and the slowest. */
static inline int worlds(void)
{
	return getenv("KV_TEST_QUICK") ? FILE_TINY : WORLDS;
}

/* Where a loop may be shorter: each of its steps takes a file many times longer. */
static inline uint32_t in_world(int world, uint32_t steps)
{
	return world >= FILE_DEFAULT ? steps / 3 : steps;
}

struct volume {
	int world;
	kv_options opt;
	char path[64];	      /* file, device */
	int loop;	      /* device: holds it */
	struct kvp_dev *dev;  /* memory */
	struct kvp_dev_ops kept;
	const struct kvp_dev_ops *own;
	uint64_t in_use;
	kv_db *db;
	kv_stat_info st; /* of the last opening */
};

static void device_stays(struct kvp_dev *dev)
{
	(void)dev;
}

static inline void volume_open(struct volume *v)
{
	if (v->dev)
		ok(kve_open_dev(v->dev, &v->opt, &v->db));
	else
		ok(kv_open(v->path, &v->opt, &v->db));
	ok(kv_stat(v->db, &v->st));
}

/* tweak, if any, changes the options before the volume is made. */
static inline void volume_make(struct volume *v, int world, void (*tweak)(kv_options *opt))
{
	int fd;

	memset(v, 0, sizeof(*v));
	v->world = world;
	v->in_use = kvp_alloc_in_use();
	v->opt = (kv_options)KV_OPTIONS_INIT;
	if (world == MEM_TINY || world == FILE_TINY) {
		v->opt.block_bytes = 512;
		v->opt.segment_bytes = 4096;
		v->opt.frame_bytes = 2048;
		v->opt.window_bytes = 1;
	}
	if (tweak)
		tweak(&v->opt);
	if (world == MEM_DEFAULT || world == MEM_TINY) {
		must(!kvp_mem_open(&v->dev, 0, MEM_BYTES_MAX));
		kvp_mem_window(v->dev, true);
		v->own = v->dev->ops;
		v->kept = *v->own;
		v->kept.close = device_stays;
		v->dev->ops = &v->kept;
		ok(kve_create_dev(v->dev, &v->opt));
	} else if (world == DEVICE_DEFAULT) {
		v->loop = loop_make(v->opt.max_bytes, v->path);
		if (v->loop < 0)
			ck_abort_msg("no loop device: %s", strerror(errno));
		v->opt.max_bytes = 0;
		ok(kv_create(v->path, &v->opt));
	} else {
		strcpy(v->path, "/tmp/kvs-api.XXXXXX");
		fd = mkstemp(v->path);
		must(fd >= 0);
		close(fd);
		ok(kv_create(v->path, &v->opt));
	}
	volume_open(v);
}

static inline void volume_close(struct volume *v)
{
	ok(kv_close(v->db));
	v->db = NULL;
}

static inline void volume_reopen(struct volume *v)
{
	volume_close(v);
	volume_open(v);
}

/* The device as it was made, for kvp_mem_*(). */
static inline uint8_t *volume_bytes(struct volume *v)
{
	uint8_t *bytes;

	v->dev->ops = v->own;
	bytes = kvp_mem_bytes(v->dev);
	v->dev->ops = &v->kept;
	return bytes;
}

/* As after kill -9. */
static inline void volume_crash(struct volume *v)
{
	kve_crash(v->db);
	v->db = NULL;
	volume_open(v);
}

static inline void no_problem(void *arg, int finding, const char *text)
{
	(void)arg;
	ck_abort_msg("check: finding %d: %s", finding, text);
}

static inline void volume_check(struct volume *v)
{
	uint64_t problems = 1;

	ok(kv_check(v->db, KV_CHECK_VALUES, no_problem, NULL, &problems));
	must(problems == 0);
}

static inline void volume_end(struct volume *v)
{
	if (v->db) {
		volume_check(v);
		volume_close(v);
	}
	if (v->dev) {
		v->dev->ops = v->own;
		kvp_dev_close(v->dev);
	} else if (v->loop) {
		close(v->loop);
	} else {
		unlink(v->path);
	}
	must(kvp_alloc_in_use() == v->in_use);
}

/* ---- short hands ------------------------------------------------------------------------------- */

static inline int put(struct volume *v, kv_tree *t, const char *key, const char *value)
{
	return kv_put(v->db, t, key, strlen(key), value, strlen(value), 0);
}

static inline int del(struct volume *v, kv_tree *t, const char *key)
{
	return kv_del(v->db, t, key, strlen(key), 0);
}

/* Does the key hold exactly this? */
static inline void expect_bytes(struct volume *v, kv_tree *t, const void *key, size_t key_len,
				const void *want, size_t want_len)
{
	void *value = NULL;
	size_t len = 0;

	ok(kv_get(v->db, t, key, key_len, &value, &len));
	must(len == want_len);
	must(!memcmp(value, want, len));
	kv_free(value);
}

static inline void expect(struct volume *v, kv_tree *t, const char *key, const char *want)
{
	expect_bytes(v, t, key, strlen(key), want, strlen(want));
}

static inline void expect_none(struct volume *v, kv_tree *t, const char *key)
{
	void *value;
	size_t len;

	must_be(kv_get(v->db, t, key, strlen(key), &value, &len), KV_E_NOTFOUND);
}

static inline uint64_t count(struct volume *v, kv_tree *t)
{
	uint64_t n = ~0ull;

	ok(kv_count(v->db, t, &n));
	return n;
}

/* Bytes that depend on seed and place; different seeds differ early. */
static inline void pattern(uint8_t *buf, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
	size_t i;

	for (i = 0; i < len; i++) {
		if (!(i % 8)) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		buf[i] = (uint8_t)(x >> (i % 8 * 8));
	}
}

/* Flip a bit wherever these bytes, len of them, 32 at least, stand on a closed device in memory. */
static inline unsigned int volume_spoil(struct volume *v, const uint8_t *want, size_t len)
{
	uint8_t *bytes = volume_bytes(v);
	unsigned int hits = 0;
	size_t i;

	for (i = 0; i + len <= v->dev->size; i++)
		if (bytes[i] == want[0] && !memcmp(bytes + i, want, len < 64 ? len : 64)) {
			bytes[i + 20] ^= 8;
			hits++;
		}
	return hits;
}

/* For volume_make: as small a cache as there is, and readers that may hold what they like. */
static inline void volume_tight(kv_options *opt)
{
	opt->cache_bytes = 1 << 20;
	opt->read_pin_bytes = 4ull << 30;
}

/* kv_options.log, where errors are meant. */
static inline void volume_silent(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

/* Below a number, the same in every run that begins with the same state. */
static inline uint32_t volume_chance(uint64_t *state, uint32_t below)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((*state >> 33) % below);
}

static inline void error_names(const char *a, const char *b)
{
	if (!strstr(kv_last_error(), a) || (b && !strstr(kv_last_error(), b)))
		ck_abort_msg("the text lacks '%s' or '%s': %s", a, b ? b : "", kv_last_error());
}

#endif
