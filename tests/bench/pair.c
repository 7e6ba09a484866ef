/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pair.c - what two threads reach on one volume, beside two processes on volumes of their own.
 *
 *	pair PREFIX [SECONDS [ROUNDS [RECORDS]]]
 *
 * Gets, kill-safe puts and half of each, of random keys. Each of the three volumes has the same RECORDS
 * values of 100 bytes, so that an operation costs the same in all; of the two threads on one volume each has
 * half of the keys, and so has each process of those of its own volume: no two writers meet in a key, and the
 * processes share nothing but the machine. Every get is verified. Rounds are interleaved; printed are medians
 * and their ratio.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "kvengine.h"

#define CACHE_BYTES (1ull << 30)
#define FRESH_BYTES (2ull << 30) /* what two processes may touch of memory */
#define VALUE_LEN 100u
#define ROUNDS_MAX 99u
#define BATCH 1000u

enum load { GETS, PUTS, MIXED, LOADS };
static const char *const load_names[LOADS] = { "get", "put", "mixed" };

/* Of one run; shared with children. */
struct shared {
	pthread_barrier_t together;
	_Atomic uint64_t ops;
	_Atomic bool stop;
};

struct worker {
	kv_db *db;
	struct shared *sh;
	enum load load;
	uint32_t first, nr; /* numbers of its keys */
	struct bench_rng rnd;
	pthread_t thread;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "pair: %s: %s: %s\n", what, kv_strerror(err), kv_last_error());
	exit(1);
}

static void get(struct worker *w, uint32_t id, char *value)
{
	char key[BENCH_KEY_LEN];
	size_t len;
	int err;

	bench_key(key, id, true);
	err = kv_get_into(w->db, NULL, key, sizeof(key), value, VALUE_LEN, &len);
	if (err)
		die("get", err);
	if (len != VALUE_LEN || !bench_entry_ok(key, value, VALUE_LEN))
		die("a wrong value", KV_E_CORRUPT);
}

static void put(struct worker *w, uint32_t id, char *value)
{
	char key[BENCH_KEY_LEN];
	int err;

	bench_key(key, id, true);
	bench_value(value, VALUE_LEN, id, 1 + (uint32_t)bench_random(&w->rnd));
	err = kv_put(w->db, NULL, key, sizeof(key), value, VALUE_LEN, 0);
	if (err)
		die("put", err);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	char value[VALUE_LEN + 8];
	uint64_t ops = 0, r;
	uint32_t id;

	for (id = 0; id < w->nr; id++)
		get(w, w->first + id, value);
	pthread_barrier_wait(&w->sh->together);
	while (!atomic_load_explicit(&w->sh->stop, memory_order_relaxed)) {
		r = bench_random(&w->rnd);
		id = w->first + (uint32_t)((r >> 8) % w->nr);
		if (w->load == PUTS || (w->load == MIXED && (r & 1)))
			put(w, id, value);
		else
			get(w, id, value);
		ops++;
	}
	atomic_fetch_add(&w->sh->ops, ops);
	return NULL;
}

static kv_db *volume_open(const char *path)
{
	kv_options opt = KV_OPTIONS_INIT;
	kv_db *db;
	int err;

	opt.flags = KV_OPEN_CREATE;
	opt.cache_bytes = CACHE_BYTES;
	err = kv_open(path, &opt, &db);
	if (err)
		die(path, err);
	return db;
}

static void volume_fill(const char *path, uint32_t nr)
{
	struct worker w = { .db = volume_open(path), .rnd = { 1 } };
	char value[VALUE_LEN + 8];
	uint32_t id;
	int err;

	for (id = 0; id < nr; id++)
		put(&w, id, value);
	err = kv_close(w.db);
	if (err)
		die(path, err);
}

/* A process with so many threads on the volume; never returns. */
static void process(const char *path, struct shared *sh, enum load load, uint32_t first, uint32_t nr,
		    unsigned int threads)
{
	kv_db *db = volume_open(path);
	struct worker w[2];
	unsigned int i;
	int err;

	for (i = 0; i < threads; i++) {
		w[i] = (struct worker){ .db = db, .sh = sh, .load = load, .nr = nr / threads };
		w[i].first = first + i * (nr / threads);
		w[i].rnd.state = w[i].first + 7;
		if (pthread_create(&w[i].thread, NULL, work, &w[i]))
			die("thread", KV_E_NOMEM);
	}
	for (i = 0; i < threads; i++)
		pthread_join(w[i].thread, NULL);
	err = kv_close(db);
	if (err)
		die("close", err);
	exit(0);
}

/* Operations a second of both together. */
static double run(char (*paths)[512], unsigned int processes, enum load load, uint32_t records,
		  double seconds)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct shared *sh = mmap(NULL, sizeof(*sh), prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t nr = records / processes;
	pthread_barrierattr_t attr;
	unsigned int i;
	uint64_t begin;
	int status;
	double took;
	pid_t pid;

	if (sh == MAP_FAILED)
		die("memory", KV_E_NOMEM);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (pthread_barrier_init(&sh->together, &attr, 3))
		die("barrier", KV_E_NOMEM);
	fflush(stdout);
	bench_memory_ready(FRESH_BYTES);
	for (i = 0; i < processes; i++) {
		pid = fork();
		if (pid < 0)
			die("fork", KV_E_NOMEM);
		if (!pid)
			process(paths[i], sh, load, i * nr, nr, 2 / processes);
	}
	pthread_barrier_wait(&sh->together);
	begin = bench_now_ns();
	usleep((useconds_t)(seconds * 1e6));
	atomic_store(&sh->stop, true);
	took = (double)(bench_now_ns() - begin) / 1e9;
	for (i = 0; i < processes; i++)
		if (wait(&status) < 0 || status)
			exit(1);
	took = (double)atomic_load(&sh->ops) / took;
	munmap(sh, sizeof(*sh));
	return took;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned int nr)
{
	qsort(v, nr, sizeof(*v), by_size);
	return nr % 2 ? v[nr / 2] : (v[nr / 2 - 1] + v[nr / 2]) / 2;
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? atof(argv[2]) : 5;
	double threads[LOADS][ROUNDS_MAX], processes[LOADS][ROUNDS_MAX];
	unsigned int rounds = argc > 3 ? (unsigned int)atoi(argv[3]) : 5, r;
	uint32_t records = argc > 4 ? (uint32_t)atoi(argv[4]) & ~1u : 1000000;
	char one[1][512], two[2][512];
	int load;

	if (argc < 2 || seconds <= 0 || !rounds || rounds > ROUNDS_MAX || !records) {
		fprintf(stderr, "usage: pair PREFIX [SECONDS [ROUNDS [RECORDS]]]\n");
		return 2;
	}
	snprintf(one[0], sizeof(one[0]), "%s.both.kv", argv[1]);
	snprintf(two[0], sizeof(two[0]), "%s.first.kv", argv[1]);
	snprintf(two[1], sizeof(two[1]), "%s.second.kv", argv[1]);
	volume_fill(one[0], records);
	volume_fill(two[0], records);
	volume_fill(two[1], records);
	for (r = 0; r < rounds; r++) {
		for (load = 0; load < LOADS; load++) {
			threads[load][r] = run(one, 1, load, records, seconds);
			processes[load][r] = run(two, 2, load, records, seconds);
		}
	}
	printf("%u values of %u bytes in each volume, medians of %u rounds of %.0f s, operations a second.\n",
	       records, VALUE_LEN, rounds, seconds);
	printf("\n| | two threads | two processes | ratio |\n|---|--:|--:|--:|\n");
	for (load = 0; load < LOADS; load++) {
		double a = median(threads[load], rounds), b = median(processes[load], rounds);

		printf("| %s | %.0f | %.0f | %.2f |\n", load_names[load], a, b, a / b);
	}
	return 0;
}
