/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * run.c - one run in a process of its own, watched by this one.
 *
 * The watcher sums up what the store's files take every SAMPLE_MS, enforces the time limit, and, when
 * it is told to end, ends the run with all processes that it started (they are one process group).
 * If kvbench itself is killed, the kernel kills the run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* A run that takes longer is stuck. */
#define LIMIT_SECONDS 600
#define LIMIT_US_PER_ENTRY 60
#define SAMPLE_MS 100
/* What a store may preallocate without being blamed for it. */
#define ALLOWANCE_BYTES ((uint64_t)64 << 20)

/* What a run may touch of memory that nobody has used before: by its data, and what it takes anyway. */
#define FRESH_FACTOR 2
#define FRESH_LEAST ((uint64_t)256 << 20)

/* What comes through the pipe. */
struct result {
	double metrics[BENCH_METRICS_NR];
	uint64_t live_bytes;
};

static volatile sig_atomic_t told_to_end;

static void on_signal(int number)
{
	told_to_end = number;
}

void bench_catch_signals(void)
{
	/* No SA_RESTART: poll() is to return. */
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	/* Who reads our output may leave; the stores are removed all the same. */
	signal(SIGPIPE, SIG_IGN);
}

static void child(struct bench_run *run, void (*fn)(struct bench_run *run), const char *group, int out)
{
	struct result result;

	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (run->data_dir[0]) {
		bench_remove_dir(run->dir);
		bench_copy_dir(run->data_dir, run->dir);
	}
	bench_memory_ready(FRESH_LEAST +
			   FRESH_FACTOR * (run->memory_bytes ? run->memory_bytes :
					   run->entries * (BENCH_KEY_LEN + run->wl->val_len)));
	if (group[0])
		bench_group_enter(group);
	bench_short_slice();
	fn(run);
	memcpy(result.metrics, run->metrics, sizeof(result.metrics));
	result.live_bytes = run->live_bytes;
	if (write(out, &result, sizeof(result)) != sizeof(result))
		bench_die("pipe: %s", strerror(errno));
	/* Not exit(): destructors of an engine's library are not part of what we measure. */
	_exit(0);
}

/* Waits until the child has written or died. Returns why it must be killed, NULL if it need not. */
static const char *watch(const struct bench_run *run, int fd, uint64_t *peak)
{
	uint64_t limit = LIMIT_SECONDS * 1000000000ull + run->entries * LIMIT_US_PER_ENTRY * 1000;
	uint64_t start = bench_now_ns(), bytes;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int ready;

	for (;;) {
		ready = poll(&p, 1, SAMPLE_MS);
		bytes = bench_disk_bytes(run->dir, false);
		if (bytes > *peak)
			*peak = bytes;
		if (told_to_end)
			return "ended by a signal";
		if (ready > 0)
			return NULL;
		if (bench_now_ns() - start > limit)
			return "not done in time";
	}
}

static void set_space(struct bench_run *run, const struct result *result, uint64_t peak)
{
	uint64_t live = result->live_bytes, disk = (uint64_t)run->metrics[BENCH_DISK_BYTES];

	if (!live)
		live = run->entries * (BENCH_KEY_LEN + run->wl->val_len);
	if (disk > peak)
		peak = disk;
	run->metrics[BENCH_SPACE_AMP_PEAK] =
		peak > ALLOWANCE_BYTES ? (double)(peak - ALLOWANCE_BYTES) / (double)live : 0;
}

/* Reads the result and reaps the child. 0, or -1 after a message. */
static int collect(struct bench_run *run, pid_t pid, int fd)
{
	struct result result;
	const char *why;
	uint64_t peak = 0;
	ssize_t got = 0;
	int status;

	why = watch(run, fd, &peak);
	if (why)
		kill(-pid, SIGKILL);
	else
		got = read(fd, &result, sizeof(result));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!why && !status && got == sizeof(result)) {
		memcpy(run->metrics, result.metrics, sizeof(run->metrics));
		set_space(run, &result, peak);
		return 0;
	}
	/* What it started itself. */
	kill(-pid, SIGKILL);
	if (!why && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		why = "killed: out of memory?";
	fprintf(stderr, "kvbench: %s, %s: the run failed (%s, status %#x)\n",
		run->ops ? run->ops->name : "floor", run->wl->name, why ? why : "see above", status);
	return -1;
}

int bench_run_child(struct bench_run *run, void (*fn)(struct bench_run *run))
{
	char group[1024] = "";
	int fds[2], err;
	pid_t pid;

	fflush(NULL);
	if (run->memory_bytes && bench_group_make(group, sizeof(group), run->memory_bytes))
		return -1;
	if (pipe(fds)) {
		fprintf(stderr, "kvbench: no pipe: %s\n", strerror(errno));
		if (group[0])
			bench_group_remove(group);
		return -1;
	}
	pid = fork();
	if (!pid) {
		close(fds[0]);
		child(run, fn, group, fds[1]);
	}
	close(fds[1]);
	if (pid < 0) {
		fprintf(stderr, "kvbench: no child: %s\n", strerror(errno));
		err = -1;
	} else {
		setpgid(pid, pid); /* the child does it too: whoever comes first */
		err = collect(run, pid, fds[0]);
	}
	close(fds[0]);
	if (group[0])
		bench_group_remove(group);
	return err;
}
