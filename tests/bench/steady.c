/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * steady.c - latencies under a load that stays below the maximum, with checkpoints and GC at work.
 *
 *	steady IMAGE [SECONDS [RECORDS [uniform | zipf]]]
 *
 * One thread, half gets and half kill-safe puts of random keys among RECORDS values of 1000 bytes, each get
 * verified; keys are chosen by Zipf 0.99, as in the mix A of YCSB, or all alike, which leaves GC the most to
 * do. First as fast as it goes, long enough for GC to have what it will have from then on, which is the
 * maximum; then at 70 % of that rate, which counts for SECONDS after a while in which the backlog of the
 * maximum goes. Then each operation is due at its time, whether those before it are done or not, and its
 * latency counts from when it was due: who waits for a slow one is late as well (no coordinated omission).
 * How long each took once it had begun, as it would in a thread of its own, is told beside that.
 *
 * Machines pause: another guest, the hypervisor, an interrupt. A thread of real-time priority on each
 * processor sleeps for 250 us at a time and notes when it wakes up late, which no thread of this program can
 * make it do. Operations that overlap such a time, or the time it takes to catch up with it, are counted
 * apart. Needs the right to real-time priority.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "kvengine.h"

#define CACHE_BYTES (1ull << 30)
#define VALUE_LEN 1000u
#define SHARE 0.7 /* of the maximum */
#define WARM_SECONDS 20.0 /* until then the volume has room from its load */
#define MAX_SECONDS 60.0 /* the machine is not equally fast all the time */
#define SETTLE_SECONDS 5.0 /* at 70 % */
#define TICK_NS 250000u
#define PAUSES 16u /* between looks at the clock: what waits leaves the core to others, if they share it */
#define LATE_NS 200000u /* a probe, or an operation, that is worth a note */
#define CATCH_UP 3 /* at 70 % of the rate a backlog takes 0.7 / 0.3 of its time to go */
#define NOTES_MAX (1u << 20)
#define CPUS_MAX 64

enum kind { GET, PUT, KINDS };
static const char *const kind_names[KINDS] = { "gets", "puts" };

struct note {
	uint64_t from, to;
	enum kind kind;
};

struct notes {
	struct note *at;
	uint32_t nr, lost;
};

struct probe {
	pthread_t thread;
	int cpu;
	struct notes late;
};

static _Atomic bool stop;

static void die(const char *what, int err)
{
	fprintf(stderr, "steady: %s: %s: %s\n", what, kv_strerror(err), kv_last_error());
	exit(1);
}

static void notes_make(struct notes *n)
{
	n->at = calloc(NOTES_MAX, sizeof(*n->at));
	if (!n->at)
		die("memory", KV_E_NOMEM);
}

static void note(struct notes *n, uint64_t from, uint64_t to, enum kind kind)
{
	if (n->nr == NOTES_MAX)
		n->lost++;
	else
		n->at[n->nr++] = (struct note){ from, to, kind };
}

/* ---- the machine's own pauses ------------------------------------------------------------------- */

static void *probe_run(void *arg)
{
	struct probe *p = arg;
	uint64_t due = bench_now_ns(), now;
	struct timespec t;

	while (!atomic_load(&stop)) {
		due += TICK_NS;
		t.tv_sec = (time_t)(due / 1000000000);
		t.tv_nsec = (long)(due % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		now = bench_now_ns();
		if (now - due < LATE_NS)
			continue;
		note(&p->late, due, now, GET);
		due = now;
	}
	return NULL;
}

static void probe_start(struct probe *p, int cpu)
{
	struct sched_param prio = { .sched_priority = 10 };
	pthread_attr_t attr;
	cpu_set_t set;

	notes_make(&p->late);
	p->cpu = cpu;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &prio);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (pthread_create(&p->thread, &attr, probe_run, p)) {
		fprintf(stderr, "steady: no thread of real-time priority: run it as root\n");
		exit(1);
	}
	pthread_attr_destroy(&attr);
}

/* ---- operations --------------------------------------------------------------------------------- */

struct work {
	kv_db *db;
	uint32_t records;
	uint32_t *version;
	const uint32_t *picks; /* of keys; NULL: all alike */
	struct bench_rng rnd;
	char value[VALUE_LEN + 8];
};

static void put(struct work *w, uint32_t id)
{
	char key[BENCH_KEY_LEN];
	int err;

	bench_key(key, id, true);
	bench_value(w->value, VALUE_LEN, id, w->version[id] + 1);
	err = kv_put(w->db, NULL, key, sizeof(key), w->value, VALUE_LEN, 0);
	if (err)
		die("put", err);
	w->version[id]++;
}

static void get(struct work *w, uint32_t id)
{
	char key[BENCH_KEY_LEN];
	size_t len;
	int err;

	bench_key(key, id, true);
	err = kv_get_into(w->db, NULL, key, sizeof(key), w->value, VALUE_LEN, &len);
	if (err)
		die("get", err);
	if (len != VALUE_LEN || !bench_value_ok(w->value, VALUE_LEN, id, w->version[id]))
		die("a wrong value", KV_E_CORRUPT);
}

static enum kind any(struct work *w)
{
	uint64_t r = bench_random(&w->rnd);
	/* In one order again and again, segments would die one after the other. */
	uint32_t id = w->picks ? w->picks[(r >> 8) % BENCH_PICKS] : (uint32_t)((r >> 8) % w->records);

	if (r & 1)
		put(w, id);
	else
		get(w, id);
	return r & 1 ? PUT : GET;
}

static double maximum(struct work *w, double seconds)
{
	uint64_t begin = bench_now_ns(), ops = 0;

	while (bench_now_ns() - begin < (uint64_t)(seconds * 1e9)) {
		any(w);
		ops++;
	}
	return (double)ops * 1e9 / (double)(bench_now_ns() - begin);
}

/* Latencies of each kind: since they were due, and since they began. */
struct latencies {
	struct bench_hist due[KINDS], begun[KINDS];
	struct notes slow; /* since they were due */
};

static void steady(struct work *w, double rate, double seconds, struct latencies *l)
{
	uint64_t begin = bench_now_ns(), due, begun, now, i, nr = (uint64_t)(rate * seconds);
	enum kind kind;
	uint32_t k;

	for (i = 0; i < nr; i++) {
		due = begin + (uint64_t)((double)i * 1e9 / rate);
		while ((begun = bench_now_ns()) < due)
			for (k = 0; k < PAUSES; k++)
				__builtin_ia32_pause();
		kind = any(w);
		now = bench_now_ns();
		bench_hist_add(&l->due[kind], now - due);
		bench_hist_add(&l->begun[kind], now - begun);
		if (now - due >= LATE_NS)
			note(&l->slow, due, now, kind);
	}
}

/* ---- judgement ---------------------------------------------------------------------------------- */

static bool explained(const struct probe *probes, int cpus, const struct note *n)
{
	uint32_t lo, hi, mid;
	int c;

	for (c = 0; c < cpus; c++) {
		const struct notes *late = &probes[c].late;

		/* The last pause that began before this was done. */
		for (lo = 0, hi = late->nr; lo < hi;) {
			mid = (lo + hi) / 2;
			if (late->at[mid].from < n->to)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (!lo)
			continue;
		lo--;
		if (n->from < late->at[lo].to + (late->at[lo].to - late->at[lo].from) * CATCH_UP)
			return true;
	}
	return false;
}

/* What stays when those are taken out that a pause explains. */
static void set_apart(struct bench_hist *h, const struct notes *slow, const struct probe *probes, int cpus,
		      uint64_t *apart)
{
	uint64_t longest[KINDS] = { 0 };
	uint32_t i;

	for (i = 0; i < slow->nr; i++) {
		const struct note *n = &slow->at[i];

		if (explained(probes, cpus, n)) {
			bench_hist_sub(&h[n->kind], n->to - n->from);
			apart[n->kind]++;
		} else if (n->to - n->from > longest[n->kind]) {
			longest[n->kind] = n->to - n->from;
		}
	}
	for (i = 0; i < KINDS; i++)
		if (apart[i])
			h[i].max = longest[i];
}

static void row(const char *name, const struct bench_hist *h)
{
	printf("| %s | %llu | %.1f | %.1f | %.0f | %.0f | %.0f | %.0f |\n", name, (unsigned long long)h->nr,
	       bench_hist_us(h, 0.5), bench_hist_us(h, 0.9), bench_hist_us(h, 0.99), bench_hist_us(h, 0.999),
	       bench_hist_us(h, 0.9999), (double)h->max / 1000);
}

static void histogram(const struct bench_hist *h)
{
	uint64_t ns, above;

	printf("\n| longer than, us | gets | puts |\n|--:|--:|--:|\n");
	for (ns = 1000; ns <= 1024000000; ns *= 2) {
		above = bench_hist_above(&h[GET], ns) + bench_hist_above(&h[PUT], ns);
		printf("| %llu | %llu | %llu |\n", (unsigned long long)ns / 1000,
		       (unsigned long long)bench_hist_above(&h[GET], ns),
		       (unsigned long long)bench_hist_above(&h[PUT], ns));
		if (!above)
			break;
	}
}

static void report(struct latencies *l, const struct probe *probes, int cpus)
{
	uint64_t apart[KINDS] = { 0 }, pauses = 0, longest = 0;
	char name[64];
	uint32_t i;
	int c;

	printf("| us | operations | p50 | p90 | p99 | p99.9 | p99.99 | longest |\n"
	       "|---|--:|--:|--:|--:|--:|--:|--:|\n");
	for (i = 0; i < KINDS; i++)
		row(kind_names[i], &l->due[i]);
	for (i = 0; i < KINDS; i++) {
		snprintf(name, sizeof(name), "%s, once begun", kind_names[i]);
		row(name, &l->begun[i]);
	}
	set_apart(l->due, &l->slow, probes, cpus, apart);
	for (i = 0; i < KINDS; i++) {
		snprintf(name, sizeof(name), "%s, less %llu in pauses", kind_names[i],
			 (unsigned long long)apart[i]);
		row(name, &l->due[i]);
	}
	for (c = 0; c < cpus; c++) {
		pauses += probes[c].late.nr;
		for (i = 0; i < probes[c].late.nr; i++)
			if (probes[c].late.at[i].to - probes[c].late.at[i].from > longest)
				longest = probes[c].late.at[i].to - probes[c].late.at[i].from;
	}
	printf("\nPauses of the machine beyond %u us: %llu, the longest %.1f ms.\n", LATE_NS / 1000,
	       (unsigned long long)pauses, (double)longest / 1e6);
	if (l->slow.lost)
		printf("%u slow operations were not noted and stay where they are.\n", l->slow.lost);
	histogram(l->due);
}

/* ---- what the engine did meanwhile ---------------------------------------------------------------- */

struct meter {
	kv_stat_info st;
	uint64_t wall, process, client; /* ns; CPU time of all threads, and of the one that operates */
};

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void meter_read(struct work *w, struct meter *m)
{
	int err = kv_stat(w->db, &m->st);

	if (err)
		die("stat", err);
	m->wall = bench_now_ns();
	m->process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
	m->client = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void meter_tell(const struct meter *a, const struct meter *b)
{
	double put = (double)(b->st.puts - a->st.puts) * (BENCH_KEY_LEN + VALUE_LEN);
	double written = (double)(b->st.device_write_bytes - a->st.device_write_bytes), others;

	others = (double)(b->process - a->process) - (double)(b->client - a->client);
	printf("%llu checkpoints; %.2f bytes written for each that was put; other threads busy for %.0f %% of"
	       " the time.\n\n", (unsigned long long)(b->st.checkpoints - a->st.checkpoints), written / put,
	       others * 100 / (double)(b->wall - a->wall));
}

/* ---- main --------------------------------------------------------------------------------------- */

static void volume_make(struct work *w, const char *path)
{
	kv_options opt = KV_OPTIONS_INIT;
	uint32_t id;
	int err;

	opt.cache_bytes = CACHE_BYTES;
	err = kv_create(path, &opt);
	if (!err)
		err = kv_open(path, &opt, &w->db);
	if (err)
		die(path, err);
	for (id = 0; id < w->records; id++)
		put(w, id);
	for (id = 0; id < w->records; id++)
		get(w, id);
}

int main(int argc, char **argv)
{
	static struct probe probes[CPUS_MAX];
	static struct latencies l;
	static struct work w = { .rnd = { 1 } };
	const char *keys = argc > 4 ? argv[4] : "uniform";
	double seconds = argc > 2 ? atof(argv[2]) : 600, most;
	int c, cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	struct meter begin, before, after;

	w.records = argc > 3 ? (uint32_t)atoi(argv[3]) : 300000;
	if (argc < 2 || argc > 5 || seconds <= 0 || !w.records || cpus > CPUS_MAX ||
	    (strcmp(keys, "zipf") && strcmp(keys, "uniform"))) {
		fprintf(stderr, "usage: steady IMAGE [SECONDS [RECORDS [uniform | zipf]]]\n");
		return 2;
	}
	if (!strcmp(keys, "zipf") && !(w.picks = bench_picks_zipf(w.records, true)))
		die("memory", KV_E_NOMEM);
	w.version = calloc(w.records, sizeof(*w.version));
	if (!w.version)
		die("memory", KV_E_NOMEM);
	notes_make(&l.slow);
	volume_make(&w, argv[1]);
	maximum(&w, WARM_SECONDS);
	meter_read(&w, &begin);
	most = maximum(&w, MAX_SECONDS);
	meter_read(&w, &before);
	printf("%u values of %u bytes, keys %s; at most %.0f operations a second: ", w.records, VALUE_LEN,
	       keys, most);
	meter_tell(&begin, &before);
	for (c = 0; c < cpus; c++)
		probe_start(&probes[c], c);
	steady(&w, most * SHARE, SETTLE_SECONDS, &l);
	memset(l.due, 0, sizeof(l.due));
	memset(l.begun, 0, sizeof(l.begun));
	l.slow.nr = l.slow.lost = 0;
	meter_read(&w, &before);
	steady(&w, most * SHARE, seconds, &l);
	meter_read(&w, &after);
	atomic_store(&stop, true);
	for (c = 0; c < cpus; c++)
		pthread_join(probes[c].thread, NULL);
	printf("%.0f for %.0f s: ", most * SHARE, seconds);
	meter_tell(&before, &after);
	report(&l, probes, cpus);
	c = kv_close(w.db);
	if (c)
		die("close", c);
	return 0;
}
