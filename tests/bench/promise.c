/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * promise.c - the promise of space under overwriting and deleting, judged from outside.
 *
 *	promise MODE IMAGE [SCALE]
 *
 * A child process runs the workload; the parent reads every 100 ms what is allocated to the image (blocks of
 * the file), and what is alive, which the child keeps in shared memory: bytes of keys and values. At each
 * sample it must be at most 1.3 times what is alive, and 64 MiB; where values stand in leaves, and half of
 * the cache, which may be dirty. Each mode loads 300 MB and more, overwrites everything ten times,
 * uniformly and then by Zipf's law, with a verified get after each fourth put; then nine keys in ten are
 * deleted, and the space has to come back.
 *
 * TAP, with the figures as comments. Times are not judged.
 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvengine.h"

#define CACHE_BYTES (256ull << 20)
#define ALLOWANCE (64ull << 20)
#define KEY_LEN 16u
#define ROUNDS 10u /* times that all is overwritten, for each law */
#define SAMPLE_NS 100000000l
#define PICKS (1u << 20)
#define BACK_SECONDS 60 /* for space to come back after deletes: a watchdog */
#define SLOTS 4096u	/* of the histogram: 64 for each power of two */

static const struct mode {
	const char *name;
	uint32_t records, min, max; /* lengths of values, their logarithms spread evenly */
	bool in_leaves;
} modes[] = {
	{ "1000", 300000, 1000, 1000, false },
	{ "mix", 30000, 100, 65536, false },
	{ "100", 4000000, 100, 100, true },
};

enum phase { LOAD, UNIFORM, ZIPF, DELETE, BACK, PHASES };
static const char *const phase_names[PHASES] = { "load", "uniform", "zipf", "delete", "back" };

/* Written by the child, read by the parent. */
struct shared {
	_Atomic uint64_t live;
	_Atomic int phase;
};

struct work {
	const struct mode *m;
	struct shared *sh;
	kv_db *db;
	uint32_t records;
	uint32_t *version; /* of each record; 0: it is not there */
	uint8_t *value;
	uint64_t rnd;
};

/* ---- records ------------------------------------------------------------------------------------ */

static uint64_t mixed(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t roll(struct work *w)
{
	return mixed(w->rnd += 0x9e3779b97f4a7c15ull);
}

static void die(const char *what, int err)
{
	printf("Bail out! %s: %s: %s\n", what, kv_strerror(err), kv_last_error());
	exit(1);
}

static void key_make(char *key, uint32_t id)
{
	char text[KEY_LEN + 1];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)mixed(id + 1ull));
	memcpy(key, text, KEY_LEN);
}

static uint32_t value_len(const struct work *w, uint32_t id, uint32_t version)
{
	double share = (double)(mixed((uint64_t)version << 32 | id) >> 11) / 9007199254740992.0;

	return (uint32_t)(w->m->min * pow((double)w->m->max / w->m->min, share));
}

/* Nothing that could be compressed. */
static uint32_t value_make(const struct work *w, uint32_t id, uint32_t version, uint8_t *out)
{
	uint32_t len = value_len(w, id, version), i;
	uint64_t seed = mixed((uint64_t)id << 32 | version), word;

	for (i = 0; i < len; i += 8) {
		word = mixed(seed + i);
		memcpy(out + i, &word, len - i < 8 ? len - i : 8);
	}
	return len;
}

static void alive(struct work *w, uint32_t id, uint32_t before, uint32_t now)
{
	uint64_t was = before ? KEY_LEN + value_len(w, id, before) : 0;
	uint64_t is = now ? KEY_LEN + value_len(w, id, now) : 0;

	atomic_fetch_add(&w->sh->live, is - was);
}

/* What is alive grows before the put, and shrinks after it: the promise is for what the engine knows. */
static void put(struct work *w, uint32_t id)
{
	uint32_t before = w->version[id], len;
	char key[KEY_LEN];
	int err;

	key_make(key, id);
	len = value_make(w, id, before + 1, w->value);
	err = kv_put(w->db, NULL, key, KEY_LEN, w->value, len, 0);
	if (err)
		die("put", err);
	w->version[id]++;
	alive(w, id, before, before + 1);
}

static void verify(struct work *w, uint32_t id)
{
	uint8_t *want = w->value, *got = w->value + w->m->max + 8;
	uint32_t len = w->version[id] ? value_make(w, id, w->version[id], want) : 0;
	char key[KEY_LEN];
	size_t got_len;
	int err;

	key_make(key, id);
	err = kv_get_into(w->db, NULL, key, KEY_LEN, got, w->m->max, &got_len);
	if (!w->version[id] && err == KV_E_NOTFOUND)
		return;
	if (err)
		die("get", err);
	if (!w->version[id] || got_len != len || memcmp(want, got, len))
		die("a wrong value", KV_E_CORRUPT);
}

/* ---- latencies: 64 slots for each power of two of nanoseconds -------------------------------------- */

struct hist {
	uint64_t nr, max, slot[SLOTS];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void hist_add(struct hist *h, uint64_t ns)
{
	uint32_t bits = ns < 64 ? 0 : 57 - (uint32_t)__builtin_clzll(ns);

	h->nr++;
	h->max = ns > h->max ? ns : h->max;
	h->slot[ns < 64 ? ns : 64 + bits * 64 + (ns >> bits) % 64]++;
}

static double hist_us(const struct hist *h, double share)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i + 1 < SLOTS && (double)(sum + h->slot[i]) <= (double)h->nr * share; i++)
		sum += h->slot[i];
	return (double)(i < 64 ? i : (64ull + i % 64) << (i / 64 - 1)) / 1000;
}

static void hist_print(const char *what, const struct hist *h)
{
	printf("# %s: p50 %.1f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", what, hist_us(h, 0.5),
	       hist_us(h, 0.99), hist_us(h, 0.999), (double)h->max / 1000);
}

/* ---- the workload: the child ----------------------------------------------------------------------- */

/* YCSB's: J. Gray et al., "Quickly generating billion-record synthetic databases" (1994). */
static uint32_t *zipf_make(struct work *w)
{
	const double theta = 0.99, two = 1 + pow(0.5, theta), alpha = 1 / (1 - theta);
	uint32_t *picks = malloc(PICKS * sizeof(*picks)), i;
	double zeta = 0, eta, uz;
	uint64_t rank;

	if (!picks)
		die("memory", KV_E_NOMEM);
	for (rank = 1; rank <= w->records; rank++)
		zeta += 1 / pow((double)rank, theta);
	eta = (1 - pow(2.0 / w->records, 1 - theta)) / (1 - two / zeta);
	for (i = 0; i < PICKS; i++) {
		double u = (double)(roll(w) >> 11) / 9007199254740992.0;

		uz = u * zeta;
		rank = uz < 1 ? 0 : uz < two ? 1 : (uint64_t)(w->records * pow(eta * u - eta + 1, alpha));
		picks[i] = (uint32_t)(mixed(rank + 99) % w->records);
	}
	return picks;
}

static void overwrite(struct work *w, const uint32_t *picks)
{
	struct hist *puts = calloc(2, sizeof(*puts)), *gets = puts + 1;
	uint64_t i, n = (uint64_t)w->records * ROUNDS, begin = now_ns(), bytes = 0, t;
	kv_stat_info before, after;
	uint32_t id;

	if (!puts || kv_stat(w->db, &before))
		die("stat", KV_E_NOMEM);
	for (i = 0; i < n; i++) {
		id = picks ? picks[roll(w) % PICKS] : (uint32_t)(roll(w) % w->records);
		t = now_ns();
		put(w, id);
		hist_add(puts, now_ns() - t);
		bytes += KEY_LEN + value_len(w, id, w->version[id]);
		if (i % 4)
			continue;
		id = (uint32_t)(roll(w) % w->records);
		t = now_ns();
		verify(w, id);
		hist_add(gets, now_ns() - t);
	}
	if (kv_stat(w->db, &after))
		die("stat", KV_E_IO);
	printf("# %s: %llu puts, %.0f a second, %.2f bytes written for each of keys and values\n",
	       picks ? "zipf" : "uniform", (unsigned long long)n,
	       (double)n * 1e9 / (double)(now_ns() - begin),
	       (double)(after.device_write_bytes - before.device_write_bytes) / (double)bytes);
	hist_print("puts", puts);
	hist_print("gets", gets);
	free(puts);
}

static void delete_most(struct work *w)
{
	char key[KEY_LEN];
	uint32_t id, was;
	int err;

	for (id = 0; id < w->records; id++) {
		if (id % 10 == 0)
			continue;
		key_make(key, id);
		err = kv_del(w->db, NULL, key, KEY_LEN, 0);
		if (err)
			die("delete", err);
		was = w->version[id];
		w->version[id] = 0;
		alive(w, id, was, 0);
	}
}

static void phase_set(struct work *w, int phase)
{
	fflush(stdout);
	atomic_store(&w->sh->phase, phase);
}

static void volume_make(struct work *w, const char *path)
{
	kv_options opt = KV_OPTIONS_INIT;
	int err;

	opt.cache_bytes = CACHE_BYTES;
	err = kv_create(path, &opt);
	if (!err)
		err = kv_open(path, &opt, &w->db);
	if (err)
		die(path, err);
}

static int child(struct work *w, const char *path)
{
	uint32_t *picks, id;
	int err;

	volume_make(w, path);
	for (id = 0; id < w->records; id++)
		put(w, id);
	phase_set(w, UNIFORM);
	overwrite(w, NULL);
	phase_set(w, ZIPF);
	picks = zipf_make(w);
	overwrite(w, picks);
	free(picks);
	phase_set(w, DELETE);
	delete_most(w);
	phase_set(w, BACK);
	while (atomic_load(&w->sh->phase) == BACK)
		usleep(20000);
	for (id = 0; id < w->records; id++)
		verify(w, id);
	err = kv_close(w->db);
	if (err)
		die("close", err);
	fflush(stdout);
	return 0;
}

/* ---- the judge: the parent ------------------------------------------------------------------------- */

struct verdict {
	uint64_t samples, over, peak;
	double worst; /* what is allocated less the allowance, by what is alive */
};

static uint64_t allocated(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* True: within the promise. */
static bool sample(const struct work *w, const char *path, struct verdict *v)
{
	/* What is alive is read first: it grows, and at once, while space is taken before. */
	uint64_t live = atomic_load(&w->sh->live), bytes = allocated(path);
	uint64_t allowance = ALLOWANCE + (w->m->in_leaves ? CACHE_BYTES / 2 : 0);
	double share = bytes > allowance && live ? (double)(bytes - allowance) / (double)live : 0;
	bool good = (double)bytes <= (double)live * 1.3 + (double)allowance;

	v->samples++;
	v->over += !good;
	v->peak = bytes > v->peak ? bytes : v->peak;
	v->worst = share > v->worst ? share : v->worst;
	return good;
}

/* Returns the child's status. */
static int watch(struct work *w, pid_t pid, const char *path, struct verdict *v, double *back)
{
	const struct timespec pause = { 0, SAMPLE_NS };
	uint64_t begun = 0;
	int status, phase;

	while (!waitpid(pid, &status, WNOHANG)) {
		phase = atomic_load(&w->sh->phase);
		if (phase == BACK && !begun)
			begun = now_ns();
		if (phase < PHASES && sample(w, path, &v[phase]) && phase == BACK) {
			*back = (double)(now_ns() - begun) / 1e9;
			atomic_store(&w->sh->phase, PHASES);
		}
		if (phase == BACK && now_ns() - begun > BACK_SECONDS * 1000000000ull)
			atomic_store(&w->sh->phase, PHASES);
		nanosleep(&pause, NULL);
	}
	return status;
}

static int judge(const struct work *w, const struct verdict *v, int status, double back)
{
	int i, nr = 0, bad = 0;

	for (i = LOAD; i <= ZIPF; i++) {
		printf("# %s: %llu samples, peak %.1f MB, worst %.3f x live behind the allowance\n",
		       phase_names[i], (unsigned long long)v[i].samples, (double)v[i].peak / 1e6, v[i].worst);
		bad += v[i].over > 0;
		printf("%sok %d - %s, %s: what is allocated is within the promise at each sample\n",
		       v[i].over ? "not " : "", ++nr, w->m->name, phase_names[i]);
	}
	bad += back < 0;
	printf("%sok %d - %s: space comes back after nine of ten keys are deleted\n",
	       back < 0 ? "not " : "", ++nr, w->m->name);
	printf("# back within the promise after %.1f s, %.1f MB alive\n", back,
	       (double)atomic_load(&w->sh->live) / 1e6);
	bad += status != 0;
	printf("%sok %d - %s: every value was the last one\n", status ? "not " : "", ++nr, w->m->name);
	printf("1..%d\n", nr);
	return bad != 0;
}

int main(int argc, char **argv)
{
	struct work w = { .rnd = 1 };
	struct verdict v[PHASES] = { 0 };
	double back = -1, scale = argc > 3 ? atof(argv[3]) : 1;
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; argc > 2 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			w.m = &modes[i];
	if (!w.m || scale <= 0) {
		fprintf(stderr, "usage: promise 1000|mix|100 IMAGE [SCALE]\n");
		return 2;
	}
	w.records = (uint32_t)(w.m->records * scale);
	w.version = calloc(w.records, sizeof(*w.version));
	w.value = malloc(2 * (w.m->max + 8));
	w.sh = mmap(NULL, sizeof(*w.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!w.version || !w.value || w.sh == MAP_FAILED || (unlink(argv[2]) && errno != ENOENT))
		return 2;
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return 2;
	if (!pid)
		exit(child(&w, argv[2]));
	status = watch(&w, pid, argv[2], v, &back);
	return judge(&w, v, status, back);
}
