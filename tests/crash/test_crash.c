/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_crash.c - M1, crash replay, with M0, the order checker, on every trace.
 *
 * Runs workloads on a simulated device, builds every crash state of their traces (replay.c) and judges
 * each once (judge.c): CONTRACT C1 C2 C3 C4 C8 C18. The workloads are all sequences of at most three
 * operations of ten kinds, shortest first, and random histories; forked workers share them.
 *
 *	test_crash [--jobs N] [--states N] [--seconds N]  the whole, until so many unique states or seconds
 *	test_crash --geo G --seq 3,0,9                    one sequence
 *	test_crash --geo G --seed S --ops N               one random history
 *	... --boundary B --variant V [--boundary2 B --variant2 V]   one state of it
 *	... --all --trace   every check on every state; print what reached the device
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash/judge.h"
#include "tests/crash/order.h"
#include "tests/tap.h"

#define BAR 200000ull /* unique states of a whole run: a slow machine takes longer for them, */
#define PATIENCE 3u   /* so many times at most */
#define SEEN_ENTRIES (4u << 20)
#define RANDOM_OPS 200u

struct shared {
	struct judge_counts counts;
	u64 next_job, done, stop;
	u64 current; /* not meaningful with several workers: for messages */
};

struct config {
	unsigned int jobs, second_every;
	u64 states, seconds;
	int geo;
	u8 seq[9];
	unsigned int seq_nr;
	u64 seed;
	unsigned int ops;
	bool one, all, trace, part; /* part: less than the whole was asked for */
	size_t boundary, boundary2;
	u64 variant, variant2;
};

static struct shared *shared;
static struct seen *seen;
static char doing[128]; /* what the watchdog interrupts */

static u64 now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void on_alarm(int sig)
{
	static const char text[] = "# violation: hang in ";

	(void)sig;
	if (write(1, text, sizeof(text) - 1) < 0 || write(1, doing, strlen(doing)) < 0 ||
	    write(1, "\n", 1) < 0)
		_exit(4);
	_exit(3);
}

/* What reached the device, boundary by boundary: for looking at a failure. */
static void print_trace(const struct sim *sim)
{
	static const char *const names[] = { "write",	 "fua",	    "flush",  "window",
					     "allocate", "discard", "resize", "mark" };
	static const char *const marks[] = { "?", "issued", "acknowledged", "synced" };
	size_t i;

	for (i = 0; i < sim->nr; i++) {
		const struct sim_event *e = &sim->events[i];

		if (e->op == KVP_TRACE_MARK)
			tap_diag("boundary %zu: %s %llu", 2 * i, marks[MARK_KIND(e->off) & 3],
				 MARK_NUMBER(e->off));
		else
			tap_diag("boundary %zu: %s %llu..%llu", 2 * i, names[e->op], e->off,
				 e->off + e->len);
	}
}

static void violation(const struct workload *w, const char *what, const char *why)
{
	kvp_add(&shared->counts.violations, 1);
	printf("# violation: %s: %s\n# repeat: test_crash %s\n", what, why, w->text);
	fflush(stdout);
}

/*
 * Of a history in which a volume shrinks only what begins a little before the file is cut, and fewer states
 * of each boundary: its images are large.
 */
static void first_cut(struct replay *r, const struct sim *trace)
{
	u64 size = r->base_size, end;
	size_t i;

	for (i = 0; i < trace->nr; i++) {
		end = trace->events[i].off + trace->events[i].len;
		if (trace->events[i].op == KVP_TRACE_ALLOCATE && end > size)
			size = end;
		if (trace->events[i].op != KVP_TRACE_RESIZE)
			continue;
		if (trace->events[i].off < size)
			break;
		size = trace->events[i].off;
	}
	r->from = i > 20 ? 2 * (i - 20) : 0;
	r->sparse = true;
	r->random = 4;
}

static void judge_crashes(const struct config *c, const struct workload *w, const struct run *run,
			  struct replay *r, struct judge *judge)
{
	u64 *hash = calloc(run->o.commit + 16, sizeof(*hash)), k;

	if (!hash)
		abort();
	for (k = 0; k <= run->o.commit; k++)
		hash[k] = oracle_hash(&run->o, k);
	r->random = w->seed ? 16 : 48;
	r->sparse = w->seed && !c->all;
	if (w->bulk && !c->all)
		first_cut(r, r->trace);
	r->seed = w->seed;
	r->only_boundary = c->boundary;
	r->only_variant = c->variant;
	r->state = judge_state;
	r->arg = judge;
	judge_workload(judge, w, hash);
	replay_run(r);
	free(hash);
}

/* One workload: run, check the order of its writes, judge its crash states. */
static void do_workload(const struct config *c, const struct workload *w, struct judge *judge)
{
	const struct workload_geometry *g = &workload_geometries[w->geo];
	struct sim *sim = sim_new(0, g->cap, g->window > 1);
	struct replay r = { .trace = sim, .cap = g->cap };
	struct run run;
	u8 *base = NULL;
	char why[512], where[64];
	u64 base_size;
	size_t event;
	bool good;

	snprintf(doing, sizeof(doing), "%s", w->text);
	good = run_create(&run, w, sim);
	base_size = sim->dev.size;
	base = malloc(base_size + 1);
	if (!base)
		abort();
	memcpy(base, sim->bytes, base_size);
	r.lo = r.hi = r.acked = run.acked;
	sim_trace(sim, true);
	good = good && run_open(&run) && run_ops(&run);
	if (good && oracle_compare(&run.o, run.acked, run.db, NULL, why)) {
		good = false;
		snprintf(run.why, sizeof(run.why), "%s", why);
	}
	sim->tracing = false;
	run_drop(&run);
	if (c->trace)
		print_trace(sim);
	if (!good) {
		violation(w, "without any crash", run.why);
		goto out;
	}
	kvp_add(&shared->counts.orders, 1);
	event = order_check(sim, base, base_size, why, sizeof(why));
	if (event) {
		snprintf(where, sizeof(where), "order: event %zu", event);
		violation(w, where, why);
		goto out;
	}
	r.base = base;
	r.base_size = base_size;
	judge_crashes(c, w, &run, &r, judge);
out:
	run_free(&run);
	sim_free(sim);
	free(base);
}

/*
 * Job n: two that shrink, one of them with a snapshot; one that detaches a clone, and deletes its snapshot;
 * sequences of 1, 2, 3 operations in each geometry, a random history in between.
 */
static bool job(struct workload *w, u64 n)
{
	static const u64 of_length[] = { 0, OP_BASIC_NR, OP_BASIC_NR * OP_BASIC_NR,
					 OP_BASIC_NR * OP_BASIC_NR * OP_BASIC_NR };
	unsigned int geo = n % WORKLOAD_GEOMETRIES, len, i;
	static const u8 detach[] = { OP_PUT_OBJECT, OP_SNAPSHOT, OP_PUT_BIG, OP_OVERWRITE, OP_SNAPSHOT,
				     OP_DELETE, OP_OVERWRITE, OP_SNAPSHOT, OP_SNAPSHOT };
	u8 kinds[3] = { OP_PUT_BIG, OP_RESIZE };

	n /= WORKLOAD_GEOMETRIES;
	if (n == 2)
		workload_sequence(w, geo, detach, sizeof(detach));
	if (n < 2) {
		if (n)
			kinds[0] = OP_SNAPSHOT;
		workload_sequence(w, geo, kinds, 2);
	}
	if (n < 3)
		return true;
	n -= 3;
	if (n % 10 == 9) {
		workload_random(w, geo, n / 10 + 1, RANDOM_OPS);
		return true;
	}
	n -= n / 10;
	for (len = 1; len <= 3 && n >= of_length[len]; len++)
		n -= of_length[len];
	if (len > 3)
		return false;
	/* a stride that shares no factor with 10: neighbours differ in all places */
	n = n * 347 % of_length[len];
	for (i = 0; i < len; i++) {
		kinds[i] = n % OP_BASIC_NR;
		n /= OP_BASIC_NR;
	}
	workload_sequence(w, geo, kinds, len);
	return true;
}

static bool enough(const struct config *c, u64 begin)
{
	return kvp_load(&shared->stop) || kvp_load(&shared->counts.violations) ||
	       (c->states && kvp_load(&shared->counts.states) >= c->states) ||
	       (c->seconds && now_s() - begin >= c->seconds &&
		(c->part || tap_quick() || kvp_load(&shared->counts.states) >= BAR ||
		 now_s() - begin >= PATIENCE * c->seconds));
}

static void worker(const struct config *c, u64 begin)
{
	struct judge *judge[WORKLOAD_GEOMETRIES];
	struct workload *w = malloc(sizeof(*w));
	unsigned int i;
	u64 n;

	if (!w)
		abort();
	signal(SIGALRM, on_alarm);
	for (i = 0; i < WORKLOAD_GEOMETRIES; i++) {
		judge[i] = judge_new(&workload_geometries[i], seen, &shared->counts, false);
		judge[i]->second_every = c->second_every;
		judge[i]->stop_s = begin + (c->part || tap_quick() ? 1 : PATIENCE) * c->seconds;
	}
	while (!enough(c, begin)) {
		n = kvp_add(&shared->next_job, 1) - 1;
		if (!job(w, n))
			break;
		do_workload(c, w, judge[w->geo]);
		kvp_add(&shared->done, 1);
	}
	for (i = 0; i < WORKLOAD_GEOMETRIES; i++)
		judge_free(judge[i]);
	free(w);
}

static void one(const struct config *c)
{
	struct judge *judge = judge_new(&workload_geometries[c->geo], NULL, &shared->counts, false);
	struct workload *w = malloc(sizeof(*w));

	if (!w)
		abort();
	signal(SIGALRM, on_alarm);
	judge->seen = judge->inner->seen = c->boundary == REPLAY_ALL ? seen : NULL;
	judge->second_every = c->second_every;
	judge->all = judge->inner->all = c->all;
	judge->inner->second_boundary = c->boundary2;
	judge->second_boundary = REPLAY_ALL;
	judge->inner->second_variant = c->variant2;
	if (c->seq_nr)
		workload_sequence(w, c->geo, c->seq, c->seq_nr);
	else
		workload_random(w, c->geo, c->seed, c->ops);
	do_workload(c, w, judge);
	judge_free(judge);
	free(w);
}

static void run_workers(const struct config *c)
{
	u64 begin = now_s();
	pid_t pids[64];
	unsigned int i;
	int status;

	fflush(stdout);
	for (i = 0; i < c->jobs; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			perror("fork");
			exit(1);
		}
		if (!pids[i]) {
			worker(c, begin);
			fflush(stdout);
			_exit(0);
		}
	}
	for (i = 0; i < c->jobs; i++) {
		if (waitpid(pids[i], &status, 0) < 0 || status) {
			kvp_add(&shared->counts.violations, 1);
			kvp_store(&shared->stop, 1);
			tap_diag("violation: a worker ended with status 0x%x (crash or hang)", status);
		}
	}
}

static bool parse_seq(struct config *c, const char *s)
{
	char *end;

	while (c->seq_nr < sizeof(c->seq)) {
		c->seq[c->seq_nr++] = strtoul(s, &end, 10);
		if (c->seq[c->seq_nr - 1] >= OP_NR || end == s)
			return false;
		if (!*end)
			return true;
		s = end + 1;
	}
	return false;
}

static bool parse(struct config *c, int argc, char **argv)
{
	static const struct option options[] = {
		{ "jobs", 1, NULL, 'j' },	{ "states", 1, NULL, 'n' },
		{ "seconds", 1, NULL, 't' },	{ "geo", 1, NULL, 'g' },
		{ "seq", 1, NULL, 'q' },	{ "seed", 1, NULL, 's' },
		{ "ops", 1, NULL, 'o' },	{ "boundary", 1, NULL, 'b' },
		{ "variant", 1, NULL, 'v' },	{ "boundary2", 1, NULL, 'B' },
		{ "variant2", 1, NULL, 'V' },	{ "second", 1, NULL, '2' },
		{ "all", 0, NULL, 'a' },	{ "trace", 0, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 10) : 0;

		switch (opt) {
		case 'j': c->jobs = n < 1 ? 1 : n > 64 ? 64 : n; break;
		case 'n': c->states = n; c->part = true; break;
		case 't': c->seconds = n; c->part = true; break;
		case 'g': c->geo = n % WORKLOAD_GEOMETRIES; break;
		case 'q': c->one = true; if (!parse_seq(c, optarg)) return false; break;
		case 's': c->one = true; c->seed = n; break;
		case 'o': c->ops = n; break;
		case 'b': c->boundary = n; break;
		case 'v': c->variant = n; break;
		case 'B': c->boundary2 = n; break;
		case 'V': c->variant2 = n; break;
		case '2': c->second_every = n; break;
		case 'a': c->all = true; break;
		case 'T': c->trace = true; break;
		default: return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	struct config c = {
		.jobs = 2,
		.states = tap_quick() ? 20000 : 0,
		.seconds = tap_quick() ? 45 : 180,
		.ops = RANDOM_OPS,
		.second_every = 64,
		.boundary = REPLAY_ALL,
		.boundary2 = REPLAY_ALL,
	};
	const struct judge_counts *n;
	u64 begin = now_s();

	if (!parse(&c, argc, argv)) {
		fprintf(stderr, "usage: see the head of tests/crash/test_crash.c\n");
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	n = &shared->counts;
	seen = seen_new(SEEN_ENTRIES);
	if (c.one)
		one(&c);
	else
		run_workers(&c);
	tap_diag("%llu workloads, %llu states generated, %llu unique judged, of these %llu in or "
		 "after recovery",
		 shared->done, n->generated, n->states, n->second);
	tap_diag("%llu traces checked for order, %llu fsck runs, %llu read-only opens, %llu s",
		 n->orders, n->fsck, n->readonly, now_s() - begin);
	tap_ok(!n->violations, "CONTRACT C1 C2 C3 C4 C8 C18: %llu unique crash states, %llu violations",
	       n->states, n->violations);
	if (!c.one && !tap_quick() && !c.part)
		tap_ok(n->states >= BAR, "bar: at least %llu unique crash states (%llu)", BAR, n->states);
	return tap_done();
}
