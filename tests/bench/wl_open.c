/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wl_open.c - opening: after kill -9, and by a process that is new.
 *
 * reopen: a process loads half of the entries, syncs, loads the other half without a sync and kills
 * itself. Measured is the opening and one get in another process. All entries must be there: that
 * is what "survives kill -9" means for the settings with which every engine is measured here. An engine
 * that is known not to must have what was synced.
 *
 * cold-get: kvbench-cold-ENGINE opens the store, gets one value and exits; it is linked with that
 * engine alone, since loading the libraries of the others would take longer than the rest. Measured
 * from before the spawn until after the wait.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define COLD_RUNS 15
#define COLD_RUNS_FEW 3 /* of a small data set, where nobody looks at the figure */
#define COLD_SMALL 10000

extern char **environ;

static void load_and_die(struct bench_run *run)
{
	uint64_t half = run->entries / 2;
	void *db = run->ops->open(run->dir, &run->opts), *ctx = run->ops->ctx_open(db);

	bench_fill(ctx, run->ops, 0, half, run->wl->val_len);
	run->ops->sync(db);
	bench_fill(ctx, run->ops, half, run->entries - half, run->wl->val_len);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void wait_killed(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bench_die("waitpid: %s", strerror(errno));
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		bench_die("the process to be killed ended otherwise (status %#x)", status);
}

void bench_reopen(struct bench_run *run)
{
	struct bench_scan scan = { .val_len = run->wl->val_len };
	uint64_t id = run->entries / 3, nr = run->entries;
	struct bench_hist *h = calloc(1, sizeof(*h));
	char key[BENCH_KEY_LEN], buf[BENCH_VALUE_MAX];
	struct bench_mark mark;
	void *db, *ctx;
	int64_t len;
	pid_t pid;

	bench_remove_dir(run->dir);
	bench_make_dir(run->dir);
	pid = fork();
	if (pid < 0 || !h)
		bench_die("fork: %s", strerror(errno));
	if (!pid)
		load_and_die(run);
	wait_killed(pid);

	bench_key(key, id, true);
	run->private_before = bench_private_bytes();
	bench_begin(run, NULL, &mark);
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	len = run->ops->get(ctx, key, sizeof(key), buf, sizeof(buf));
	bench_hist_add(h, bench_now_ns() - mark.ns);
	bench_finish(run, db, &mark, 1, 0, h);

	if (len != run->wl->val_len || !bench_value_ok(buf, run->wl->val_len, id, 0))
		bench_die("%s: wrong value after kill -9", run->ops->name);
	run->ops->scan(ctx, NULL, 0, UINT64_MAX, &scan);
	if (run->ops->loses_on_kill) {
		nr = scan.nr < nr / 2 ? nr / 2 : scan.nr;
		scan.id_sum = nr * (nr - 1) / 2;
	}
	if (scan.nr != nr || scan.bad || scan.id_sum != nr * (nr - 1) / 2)
		bench_die("%s: of %lu entries %lu survived kill -9, %lu of them wrong", run->ops->name,
			  nr, scan.nr, scan.bad);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	free(h);
}

static void helper_path(char *path, size_t size, const char *engine)
{
	char self[400];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		bench_die("/proc/self/exe: %s", strerror(errno));
	self[n] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	snprintf(path, size, "%s/kvbench-cold-%s", self, engine);
}

/* One new process; with out, what it says about its memory goes there. */
static void spawn(struct bench_run *run, const char *path, uint64_t id, int out)
{
	char val_len[16], cache[32], map[32], number[32];
	char *argv[] = { (char *)path, run->dir, val_len, cache, map, number,
			 out < 0 ? NULL : (char *)"memory", NULL };
	posix_spawn_file_actions_t actions;
	int err, status;
	pid_t pid;

	snprintf(val_len, sizeof(val_len), "%u", run->wl->val_len);
	snprintf(cache, sizeof(cache), "%zu", run->opts.cache_bytes);
	snprintf(map, sizeof(map), "%zu", run->opts.map_bytes);
	snprintf(number, sizeof(number), "%lu", id);
	posix_spawn_file_actions_init(&actions);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&actions, out, 1);
	err = posix_spawn(&pid, path, &actions, NULL, argv, environ);
	if (err)
		bench_die("%s: %s; it is built beside kvbench", path, strerror(err));
	if (waitpid(pid, &status, 0) < 0 || status)
		bench_die("%s failed (status %#x)", path, status);
	posix_spawn_file_actions_destroy(&actions);
}

static double helper_memory(struct bench_run *run, const char *path)
{
	char text[32] = "";
	int pipe_fds[2];

	if (pipe(pipe_fds))
		bench_die("pipe: %s", strerror(errno));
	spawn(run, path, 0, pipe_fds[1]);
	if (read(pipe_fds[0], text, sizeof(text) - 1) <= 0)
		bench_die("%s said nothing about its memory", path);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return strtod(text, NULL);
}

static double children_cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

void bench_cold_get(struct bench_run *run)
{
	struct bench_hist *h = calloc(1, sizeof(*h));
	struct bench_mark mark;
	uint64_t before;
	char path[512];
	int i, runs = run->entries < COLD_SMALL ? COLD_RUNS_FEW : COLD_RUNS;
	double cpu;

	if (!h)
		bench_die("out of memory");
	helper_path(path, sizeof(path), run->ops->name);
	cpu = children_cpu();
	bench_begin(run, NULL, &mark);
	for (i = 0; i < runs; i++) {
		before = bench_now_ns();
		spawn(run, path, run->picks[i], -1);
		bench_hist_add(h, bench_now_ns() - before);
	}
	bench_finish(run, NULL, &mark, (uint64_t)runs, 0, h);
	run->metrics[BENCH_OPS_PER_S] = 1e6 / bench_hist_us(h, 0.5);
	run->metrics[BENCH_CPU_US_PER_OP] = (children_cpu() - cpu) * 1e6 / runs;
	run->metrics[BENCH_OPS_PER_SYNC] = 0; /* in other processes: not counted */
	run->metrics[BENCH_RSS_BYTES] = helper_memory(run, path);
	free(h);
}
