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
 * deleted, and the space has to come back. In the mode "reader" somebody reads the state before the first
 * overwriting until the last is over: that may cost 256 MiB or a quarter of what is alive, in the uniform
 * part, and then it is too old.
 *
 * SCALE scales the records, and in the mode "100" the cache, which has to hold all leaves.
 *
 * TAP, with the figures as comments. Times are not judged.
 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "kvengine.h"

#define ALLOWANCE (64ull << 20)
#define READER_ALLOWANCE (256ull << 20) /* or a quarter of what is alive */
#define ROUNDS 10u /* times that all is overwritten, for each law */
#define SAMPLE_NS 100000000l
#define BACK_SECONDS 60 /* for space to come back after deletes: a watchdog */

static const struct mode {
	const char *name;
	uint32_t records, min, max; /* lengths of values, their logarithms spread evenly */
	bool in_leaves, reader;
	uint64_t cache; /* that holds all leaves */
} modes[] = {
	{ "1000", 300000, 1000, 1000, false, false, 256ull << 20 },
	{ "mix", 30000, 100, 65536, false, false, 256ull << 20 },
	{ "100", 4000000, 100, 100, true, false, 1ull << 30 },
	{ "reader", 300000, 1000, 1000, false, true, 256ull << 20 },
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
	struct bench_rng rnd;
	uint64_t cache; /* in proportion where it has to hold all leaves */
};

/* ---- records ------------------------------------------------------------------------------------ */

static void die(const char *what, int err)
{
	printf("Bail out! %s: %s: %s\n", what, kv_strerror(err), kv_last_error());
	exit(1);
}

static uint32_t value_len(const struct work *w, uint32_t id, uint32_t version)
{
	struct bench_rng r = { (uint64_t)version << 32 | id };
	double share = (double)(bench_random(&r) >> 11) / 9007199254740992.0;

	return (uint32_t)(w->m->min * pow((double)w->m->max / w->m->min, share));
}

static void alive(struct work *w, uint32_t id, uint32_t before, uint32_t now)
{
	uint64_t was = before ? BENCH_KEY_LEN + value_len(w, id, before) : 0;
	uint64_t is = now ? BENCH_KEY_LEN + value_len(w, id, now) : 0;

	atomic_fetch_add(&w->sh->live, is - was);
}

/* What is alive is counted after the put: its space is taken before. */
static void put(struct work *w, uint32_t id)
{
	uint32_t before = w->version[id], len;
	char key[BENCH_KEY_LEN];
	int err;

	bench_key(key, id, true);
	len = value_len(w, id, before + 1);
	bench_value(w->value, len, id, before + 1);
	err = kv_put(w->db, NULL, key, BENCH_KEY_LEN, w->value, len, 0);
	if (err)
		die("put", err);
	w->version[id]++;
	alive(w, id, before, before + 1);
}

static void verify(struct work *w, uint32_t id)
{
	uint32_t version = w->version[id];
	char key[BENCH_KEY_LEN];
	size_t got_len;
	int err;

	bench_key(key, id, true);
	err = kv_get_into(w->db, NULL, key, BENCH_KEY_LEN, w->value, w->m->max, &got_len);
	if (!version && err == KV_E_NOTFOUND)
		return;
	if (err)
		die("get", err);
	if (!version || got_len != value_len(w, id, version) ||
	    !bench_value_ok(w->value, (uint32_t)got_len, id, version))
		die("a wrong value", KV_E_CORRUPT);
}

/* ---- the workload: the child ----------------------------------------------------------------------- */

static void hist_print(const char *what, const struct bench_hist *h)
{
	printf("# %s: p50 %.1f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", what, bench_hist_us(h, 0.5),
	       bench_hist_us(h, 0.99), bench_hist_us(h, 0.999), (double)h->max / 1000);
}

static uint32_t any(struct work *w)
{
	return (uint32_t)(bench_random(&w->rnd) % w->records);
}

static void overwrite(struct work *w, const uint32_t *picks)
{
	struct bench_hist *puts = calloc(2, sizeof(*puts)), *gets = puts + 1;
	uint64_t i, n = (uint64_t)w->records * ROUNDS, begin = bench_now_ns(), bytes = 0, t;
	kv_stat_info before, after;
	uint32_t id;

	if (!puts || kv_stat(w->db, &before))
		die("stat", KV_E_NOMEM);
	for (i = 0; i < n; i++) {
		id = picks ? picks[bench_random(&w->rnd) % BENCH_PICKS] : any(w);
		t = bench_now_ns();
		put(w, id);
		bench_hist_add(puts, bench_now_ns() - t);
		bytes += BENCH_KEY_LEN + value_len(w, id, w->version[id]);
		if (i % 4)
			continue;
		id = any(w);
		t = bench_now_ns();
		verify(w, id);
		bench_hist_add(gets, bench_now_ns() - t);
	}
	if (kv_stat(w->db, &after))
		die("stat", KV_E_IO);
	printf("# %s: %llu puts, %.0f a second, %llu checkpoints\n", picks ? "zipf" : "uniform",
	       (unsigned long long)n, (double)n * 1e9 / (double)(bench_now_ns() - begin),
	       (unsigned long long)(after.checkpoints - before.checkpoints));
	printf("# of a put: %.0f bytes read, %.0f written, %.0f of key and value\n",
	       (double)(after.device_read_bytes - before.device_read_bytes) / (double)n,
	       (double)(after.device_write_bytes - before.device_write_bytes) / (double)n,
	       (double)bytes / (double)n);
	hist_print("puts", puts);
	hist_print("gets", gets);
	free(puts);
}

static void delete_most(struct work *w)
{
	char key[BENCH_KEY_LEN];
	uint32_t id, was;
	int err;

	for (id = 0; id < w->records; id++) {
		if (id % 10 == 0)
			continue;
		bench_key(key, id, true);
		err = kv_del(w->db, NULL, key, BENCH_KEY_LEN, 0);
		if (err)
			die("delete", err);
		was = w->version[id];
		w->version[id] = 0;
		alive(w, id, was, 0);
	}
}

static void reader_end(struct work *w, kv_read *r)
{
	char key[BENCH_KEY_LEN];
	size_t len;
	int err;

	bench_key(key, 0, true);
	err = kv_read_get_into(r, NULL, key, BENCH_KEY_LEN, w->value, w->m->max, &len);
	if (err != KV_E_TOOOLD)
		die("the reader should be too old", err);
	kv_read_end(r);
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

	opt.cache_bytes = w->cache;
	err = kv_create(path, &opt);
	if (!err)
		err = kv_open(path, &opt, &w->db);
	if (err)
		die(path, err);
}

static int child(struct work *w, const char *path)
{
	uint32_t *picks, id;
	kv_read *r = NULL;
	int err;

	volume_make(w, path);
	for (id = 0; id < w->records; id++)
		put(w, id);
	err = w->m->reader ? kv_read_begin(w->db, &r) : 0;
	if (err)
		die("reader", err);
	phase_set(w, UNIFORM);
	overwrite(w, NULL);
	phase_set(w, ZIPF);
	picks = bench_picks_zipf(w->records, true);
	if (!picks)
		die("memory", KV_E_NOMEM);
	overwrite(w, picks);
	free(picks);
	if (r)
		reader_end(w, r);
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
static bool sample(const struct work *w, const char *path, int phase, struct verdict *v)
{
	uint64_t live = atomic_load(&w->sh->live), bytes = allocated(path);
	uint64_t allowance = ALLOWANCE + (w->m->in_leaves ? w->cache / 2 : 0);
	double share;
	bool good;

	if (w->m->reader && phase == UNIFORM)
		allowance += live / 4 > READER_ALLOWANCE ? live / 4 : READER_ALLOWANCE;
	share = bytes > allowance && live ? (double)(bytes - allowance) / (double)live : 0;
	good = (double)bytes <= (double)live * 1.3 + (double)allowance;
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
			begun = bench_now_ns();
		if (phase < PHASES && sample(w, path, phase, &v[phase]) && phase == BACK) {
			*back = (double)(bench_now_ns() - begun) / 1e9;
			atomic_store(&w->sh->phase, PHASES);
		}
		if (phase == BACK && bench_now_ns() - begun > BACK_SECONDS * 1000000000ull)
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
	struct work w = { .rnd = { 1 } };
	struct verdict v[PHASES] = { 0 };
	double back = -1, scale = argc > 3 ? atof(argv[3]) : 1;
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; argc > 2 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			w.m = &modes[i];
	if (!w.m || scale <= 0) {
		fprintf(stderr, "usage: promise 1000|mix|100|reader IMAGE [SCALE]\n");
		return 2;
	}
	w.records = (uint32_t)(w.m->records * scale);
	w.cache = w.m->in_leaves ? (uint64_t)((double)w.m->cache * scale) : w.m->cache;
	w.version = calloc(w.records, sizeof(*w.version));
	w.value = malloc(w.m->max + 8);
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
