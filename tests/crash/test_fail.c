/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_fail.c - M7, failure sweeps: CONTRACT C9 C10 C11 C12 C19, row H13.
 *
 * Each script is run once to count its device calls and allocations. Then it is run again for every n, with
 * the n-th call failing: read, write (with and without half of it done), flush, allocation of space, window
 * store, allocation of memory; once, and from then on. Where there are more than a hundred, every one of them
 * with --all, else fifty and more. Whatever happens, the script goes on. Errors must be of the documented
 * classes; nothing may crash, hang or leak. Afterwards the volume is opened without faults: it must hold a
 * prefix of the commits, no shorter than what was acknowledged, and be clean for kvs-fsck.
 *
 *	test_fail [--all] [--script N] [--fault N] [--nth N] [--persistent 0|1]   all, or a part of it
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/judge.h"
#include "tests/tap.h"

#define VIOLATIONS_MAX 8u
#define ANY (~0ull)

struct fault {
	const char *name;
	unsigned int kinds; /* 0: memory */
	int error;
	bool short_write;
};

static const struct fault faults[] = {
	{ "read error", KVP_FAULT_READ, -KVE_io_read, false },
	{ "write error", KVP_FAULT_WRITE, -KVE_io_write, false },
	{ "short write", KVP_FAULT_WRITE, -KVE_io_write, true },
	{ "no space at write", KVP_FAULT_WRITE, -KVE_no_space, false },
	{ "flush error", KVP_FAULT_FLUSH, -KVE_io_flush, false },
	{ "no space", KVP_FAULT_ALLOCATE, -KVE_no_space, false },
	{ "window error", KVP_FAULT_WINDOW, -KVE_io_write, false },
	{ "no memory", 0, 0, false },
};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

struct script {
	const char *name;
	unsigned int geo;
	u8 ops[12]; /* kind + 1, 0 ends */
};

#define O(kind) (OP_##kind + 1)
static const struct script scripts[] = {
	{"small puts and a sync",
	 0,
	 {O(PUT_SMALL), O(PUT_SYNCED), O(PUT_SMALL), O(SYNC), O(OVERWRITE)}},
	{"separated values", 0, {O(PUT_BIG), O(PUT_BIG), O(SYNC), O(OVERWRITE), O(CHECKPOINT)}},
	{"a large value", 0, {O(PUT_OBJECT), O(SYNC), O(PUT_OBJECT), O(DELETE), O(CHECKPOINT)}},
	{"batches", 0, {O(BATCH), O(TREE), O(BATCH), O(SYNC), O(BATCH), O(REOPEN)}},
	{"deletes", 0, {O(DELETE), O(CHECKPOINT), O(PUT_SMALL), O(DELETE), O(REOPEN)}},
	{"trees", 0, {O(TREE), O(TREE), O(CHECKPOINT), O(TREE_DROP), O(TREE), O(REOPEN)}},
	{"checkpoints",
	 0,
	 {O(PUT_BIG), O(CHECKPOINT), O(OVERWRITE), O(CHECKPOINT), O(PUT_SMALL), O(CHECKPOINT)}},
	{"counters", 0, {O(INC), O(INC), O(SYNC), O(INC), O(REOPEN), O(INC)}},
	{"recovery",
	 0,
	 {O(PUT_SMALL), O(PUT_BIG), O(CRASH), O(PUT_SYNCED), O(PUT_OBJECT), O(CRASH)}},
	{"window",
	 1,
	 {O(PUT_SMALL), O(PUT_SMALL), O(PUT_BIG), O(SYNC), O(OVERWRITE), O(CRASH), O(PUT_SYNCED)}},
	{"window, large",
	 1,
	 {O(PUT_OBJECT), O(BATCH), O(CHECKPOINT), O(PUT_OBJECT), O(REOPEN), O(DELETE)}},
	{"many segments",
	 0,
	 {O(PUT_OBJECT), O(PUT_OBJECT), O(OVERWRITE), O(PUT_OBJECT), O(SYNC), O(PUT_OBJECT),
	  O(CHECKPOINT), O(PUT_OBJECT)}},
	{"ranges",
	 0,
	 {O(PUT_OBJECT), O(PUT_BIG), O(RANGE), O(PUT_SMALL), O(CHECKPOINT), O(RANGE), O(CRASH),
	  O(PUT_SMALL), O(PUT_SYNCED), O(REOPEN)}},
	{"gc",
	 0,
	 {O(PUT_BIG), O(PUT_BIG), O(PUT_BIG), O(OVERWRITE), O(OVERWRITE), O(DELETE), O(CHECKPOINT), O(GC),
	  O(CHECKPOINT), O(GC), O(CRASH), O(PUT_SYNCED)}},
	{"snapshots",
	 0,
	 {O(PUT_BIG), O(SNAPSHOT), O(OVERWRITE), O(DELETE), O(SNAPSHOT), O(CHECKPOINT), O(SNAPSHOT), O(CRASH),
	  O(PUT_SMALL), O(SNAPSHOT), O(REOPEN)}},
	/* The second makes a clone, the third detaches it, the last deletes the snapshot. */
	{"clones",
	 0,
	 {O(PUT_BIG), O(SNAPSHOT), O(PUT_OBJECT), O(SNAPSHOT), O(OVERWRITE), O(DELETE), O(SNAPSHOT),
	  O(CHECKPOINT), O(CRASH), O(PUT_SYNCED), O(SNAPSHOT), O(REOPEN)}},
	/* The third goes back to the first. */
	{"rollback",
	 0,
	 {O(PUT_BIG), O(TREE), O(SNAPSHOT), O(PUT_OBJECT), O(OVERWRITE), O(SNAPSHOT), O(TREE_DROP),
	  O(SNAPSHOT), O(PUT_SYNCED), O(CRASH), O(PUT_SMALL), O(REOPEN)}},
	{"shorter and longer",
	 0,
	 {O(PUT_OBJECT), O(PUT_BIG), O(PUT_OBJECT), O(RESIZE), O(DELETE), O(RESIZE), O(REOPEN)}},
	{"shorter, with snapshots",
	 0,
	 {O(PUT_OBJECT), O(SNAPSHOT), O(PUT_BIG), O(RESIZE), O(SNAPSHOT), O(DELETE), O(RESIZE), O(REOPEN)}},
};
#define SCRIPTS (sizeof(scripts) / sizeof(scripts[0]))

struct shared {
	u64 runs, failed_calls, violations, indeterminate;
	u64 next;
	char doing[128];
};

static struct shared *shared;
static struct kvp_fault injected;
static bool all;

static int fault_device(struct run *r, struct kvp_dev **out)
{
	return kvp_fault_open(out, &r->sim->dev, &injected);
}

static void make_workload(struct workload *w, const struct script *s)
{
	unsigned int i;

	memset(w, 0, sizeof(*w));
	w->geo = s->geo;
	for (i = 0; i < sizeof(s->ops) && s->ops[i]; i++) {
		w->ops[i].kind = s->ops[i] - 1;
		w->ops[i].key = i;
		w->ops[i].size = (i + 1) % 3;
		w->nr++;
	}
}

static void arm(const struct fault *f, u64 nth, bool persistent)
{
	memset(&injected, 0, sizeof(injected));
	if (!f->kinds) {
		kvp_alloc_fail(nth, persistent);
		return;
	}
	injected.kinds = f->kinds;
	injected.nth = nth;
	injected.persistent = persistent;
	injected.short_write = f->short_write;
	injected.error = f->error;
}

static void disarm(void)
{
	injected.nth = 0;
	kvp_alloc_fail(0, false);
}

/* C19: nothing happened when memory was missing, so the volume goes on as soon as there is some. */
static bool goes_on(struct run *r)
{
	kv_health_info health;

	if (!r->db)
		return true;
	if (!kv_health(r->db, &health) && health.writable)
		return true;
	snprintf(r->why, sizeof(r->why), "C19: read-only for want of memory: %s", health.reason);
	return false;
}

/* Without faults again: what is there? */
static bool afterwards(struct run *r, u64 in_use)
{
	char text[512];
	int err;

	r->faults = false;
	if (r->db) {
		err = kv_close(r->db);
		r->db = NULL;
		if (err && err != KV_E_IO && err != KV_E_INDETERMINATE && err != KV_E_READONLY &&
		    err != KV_E_CORRUPT) {
			snprintf(r->why, sizeof(r->why), "close after the faults: %s", kv_last_error());
			return false;
		}
	}
	if (kvp_alloc_in_use() != in_use) {
		snprintf(r->why, sizeof(r->why), "%lld allocations leaked",
			 (long long)(kvp_alloc_in_use() - in_use));
		return false;
	}
	err = judge_fsck(r->sim->bytes, r->sim->dev.size, text, sizeof(text));
	if (err) {
		snprintf(r->why, sizeof(r->why), "kvs-fsck before reopening: %d problems: %s", err, text);
		return false;
	}
	if (!run_open(r))
		return false;
	if (oracle_compare(&r->o, r->acked, r->db, NULL, r->why))
		return false;
	err = kv_put(r->db, NULL, "again", 5, "y", 1, KV_SYNCED);
	if (err) {
		snprintf(r->why, sizeof(r->why), "put after reopening: %s", kv_last_error());
		return false;
	}
	err = kv_close(r->db);
	r->db = NULL;
	if (err) {
		snprintf(r->why, sizeof(r->why), "last close: %s", kv_last_error());
		return false;
	}
	err = judge_fsck(r->sim->bytes, r->sim->dev.size, text, sizeof(text));
	if (err)
		snprintf(r->why, sizeof(r->why), "kvs-fsck at the end: %d problems: %s", err, text);
	return !err;
}

/* One run. *calls: how many calls of the kind there were (before the fault ended the script, if it did). */
static bool one_run(const struct script *s, const struct fault *f, u64 nth, bool persistent, u64 *calls,
		    char *why, size_t why_len)
{
	const struct workload_geometry *g = &workload_geometries[s->geo];
	struct sim *sim = sim_new(0, g->cap, g->window > 1);
	struct workload *w = malloc(sizeof(*w));
	struct run r;
	u64 in_use;
	bool good;

	if (!w)
		abort();
	make_workload(w, s);
	disarm();
	good = run_create(&r, w, sim);
	in_use = kvp_alloc_in_use();
	r.device = fault_device;
	r.faults = nth != 0;
	arm(f, nth, persistent);
	good = good && run_open(&r) && run_ops(&r);
	*calls = f->kinds ? injected.calls : kvp_alloc_calls();
	disarm();
	kvp_add(&shared->failed_calls, r.errors);
	if (good && f->kinds == KVP_FAULT_FLUSH && injected.failed && !r.errors) {
		snprintf(r.why, sizeof(r.why), "C9: a flush failed, and every call succeeded");
		good = false;
	}
	if (good && !f->kinds)
		good = goes_on(&r);
	good = good && afterwards(&r, in_use);
	snprintf(why, why_len, "%s", r.why);
	run_free(&r);
	sim_free(sim);
	free(w);
	kvp_add(&shared->runs, 1);
	return good;
}

static bool try(unsigned int script, unsigned int fault, u64 nth, bool persistent, u64 *calls)
{
	char why[RUN_WHY];
	u64 n;

	snprintf(shared->doing, sizeof(shared->doing), "--script %u --fault %u --nth %llu --persistent %d",
		 script, fault, nth, persistent);
	alarm(20);
	if (one_run(&scripts[script], &faults[fault], nth, persistent, calls, why, sizeof(why)))
		return true;
	n = kvp_add(&shared->violations, 1);
	if (n <= VIOLATIONS_MAX)
		printf("# violation: '%s', %s %llu%s: %s\n# repeat: test_fail %s\n", scripts[script].name,
		       faults[fault].name, nth, persistent ? " and all later ones" : "", why, shared->doing);
	fflush(stdout);
	return n < VIOLATIONS_MAX;
}

static bool sweep(unsigned int script, unsigned int fault, u64 only, int only_persistent)
{
	u64 calls = 0, nth, ignored, stride = 1;
	int persistent;

	if (!try(script, fault, 0, false, &calls))
		return false;
	if (only == ANY && !all && calls > (tap_quick() ? 20 : 100))
		stride = calls / (tap_quick() ? 20 : 50);
	for (nth = 1; nth <= calls; nth += stride) {
		for (persistent = 0; persistent < 2; persistent++) {
			if ((only != ANY && nth != only) ||
			    (only_persistent >= 0 && persistent != only_persistent))
				continue;
			if (!try(script, fault, nth, persistent, &ignored))
				return false;
		}
	}
	return true;
}

static void on_alarm(int sig)
{
	(void)sig;
	_exit(3);
}

static void in_child(unsigned int script, unsigned int fault, u64 only, int persistent)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid) {
		signal(SIGALRM, on_alarm);
		sweep(script, fault, only, persistent);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) < 0 || status) {
		kvp_add(&shared->violations, 1);
		tap_diag("violation: %s: test_fail %s", WIFEXITED(status) ? "hang" : "crash",
			 shared->doing);
	}
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "script", 1, NULL, 's' }, { "fault", 1, NULL, 'f' },	    { "nth", 1, NULL, 'n' },
		{ "persistent", 1, NULL, 'p' }, { "all", 0, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	u64 script = ANY, fault = ANY, nth = ANY, before;
	int opt, persistent = -1;
	unsigned int s, f;

	while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
		u64 n = optarg ? strtoull(optarg, NULL, 10) : 0;

		if (opt == 's')
			script = n;
		else if (opt == 'f')
			fault = n;
		else if (opt == 'n')
			nth = n;
		else if (opt == 'p')
			persistent = n != 0;
		else if (opt == 'a')
			all = true;
		else
			return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (f = 0; f < FAULTS; f++) {
		if (fault != ANY && f != fault)
			continue;
		before = shared->violations;
		for (s = 0; s < SCRIPTS; s++)
			if (script == ANY || s == script)
				in_child(s, f, nth, persistent);
		tap_ok(shared->violations == before,
		       "CONTRACT C9 C10 C11 C19, row H13: %s, %s, once and from then on",
		       faults[f].name, all ? "every n" : "n in steps");
	}
	tap_diag("%llu runs, %llu calls answered with an error, %llu violations", shared->runs,
		 shared->failed_calls, shared->violations);
	return tap_done();
}
