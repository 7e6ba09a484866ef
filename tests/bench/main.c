/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - kvbench: rounds x workloads x engines, interleaved, each run in a child of its own.
 *
 * Interleaved, because machines drift: engines measured one after the other would be compared
 * across hours. The order of engines turns with each round. Data sets of the
 * reading workloads are loaded once per engine and kept until the end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* A run that takes longer is stuck. */
#define RUN_LIMIT_SECONDS 600
#define ROUNDS_MAX 99
#define ENTRIES_MIN 1000
#define PICKS_KEPT 8

struct known_engine {
	const char *name;
	const struct bench_ops *ops; /* NULL: not built in */
	const char *package;
};

/* clang-format off */
static const struct known_engine known_engines[] = {
	{ "kvs", &bench_kvs, "" },
#ifdef HAVE_LMDB
	{ "lmdb", &bench_lmdb, "" },
#else
	{ "lmdb", NULL, "liblmdb-dev" },
#endif
#ifdef HAVE_ROCKSDB
	{ "rocksdb", &bench_rocksdb, "" },
#else
	{ "rocksdb", NULL, "librocksdb-dev" },
#endif
#ifdef HAVE_SQLITE
	{ "sqlite", &bench_sqlite, "" },
#else
	{ "sqlite", NULL, "libsqlite3-dev" },
#endif
};
/* clang-format on */
#define KNOWN_NR (sizeof(known_engines) / sizeof(known_engines[0]))

struct job {
	struct bench_table table;
	double scale;
	size_t cache_bytes, map_bytes;
	const char *csv;
	char dir[400];
	bool made_dir;
	bool loaded[KNOWN_NR][BENCH_DATA_NR];
	struct {
		uint32_t *picks;
		uint64_t entries;
		bool zipf;
	} picks[PICKS_KEPT];
};

static void usage(FILE *f)
{
	fputs("Usage: kvbench [--engines LIST] [--workloads LIST] [--rounds N] [--csv FILE]\n"
	      "               [--dir DIR] [--scale F] [--cache-mb N] [--list]\n"
	      "Measures kvs beside other stores and prints tables in markdown.\n"
	      "  --engines    names separated by commas; default: all that were built in\n"
	      "  --workloads  names separated by commas; default: all\n"
	      "  --rounds     how often each is run; the median counts; default 3\n"
	      "  --csv        rows engine,workload,metric,value; - is standard output\n"
	      "  --dir        where the stores are made and removed; default: a new one in /var/tmp\n"
	      "  --scale      factor on entries and times; default 1\n"
	      "  --cache-mb   cache of each engine that has one; default 1024\n"
	      "  --list       names of engines and workloads\n", f);
}

/* Bad usage. */
#define fail(...) \
	do { \
		fprintf(stderr, "kvbench: " __VA_ARGS__); \
		fputc('\n', stderr); \
		exit(2); \
	} while (0)

static void list(void)
{
	unsigned int i;

	for (i = 0; i < KNOWN_NR; i++)
		printf("engine    %-22s %s\n", known_engines[i].name,
		       known_engines[i].ops ? known_engines[i].ops->version() : "(not built in)");
	for (i = 0; i < bench_workloads_nr; i++)
		printf("workload  %-22s %s\n", bench_workloads[i].name, bench_workloads[i].what);
}

/* ---- what to run ----------------------------------------------------------------------------- */

static void add_engine(struct job *job, const char *name)
{
	struct bench_table *t = &job->table;
	unsigned int i, e;

	for (i = 0; i < KNOWN_NR && strcmp(known_engines[i].name, name); i++)
		;
	if (i == KNOWN_NR)
		fail("unknown engine '%s'; 'kvbench --list' names them", name);
	if (!known_engines[i].ops)
		fail("engine '%s' was not built in; install %s and run configure again", name,
		     known_engines[i].package);
	for (e = 0; e < t->engines_nr; e++)
		if (t->engines[e] == known_engines[i].ops)
			fail("engine '%s' is named twice", name);
	t->engines[t->engines_nr++] = known_engines[i].ops;
}

static void add_workload(struct job *job, const char *name)
{
	const struct bench_workload *wl = bench_workload_find(name);
	struct bench_table *t = &job->table;
	unsigned int w;

	if (!wl)
		fail("unknown workload '%s'; 'kvbench --list' names them", name);
	for (w = 0; w < t->workloads_nr; w++)
		if (t->workloads[w] == wl)
			fail("workload '%s' is named twice", name);
	t->workloads[t->workloads_nr++] = wl;
}

static void each_name(struct job *job, char *names, void (*add)(struct job *job, const char *name))
{
	char *save = NULL, *name;

	for (name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
		add(job, name);
}

static void add_defaults(struct job *job)
{
	unsigned int i;

	if (!job->table.engines_nr)
		for (i = 0; i < KNOWN_NR; i++)
			if (known_engines[i].ops)
				add_engine(job, known_engines[i].name);
	if (!job->table.workloads_nr)
		for (i = 0; i < bench_workloads_nr; i++)
			add_workload(job, bench_workloads[i].name);
}

static double number(const char *text, double min, double max, const char *option)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= min && v <= max))
		fail("%s %s: a number from %g to %g is wanted", option, text, min, max);
	return v;
}

static void parse(struct job *job, int argc, char **argv)
{
	static const struct option options[] = {
		{ "engines", required_argument, NULL, 'e' },
		{ "workloads", required_argument, NULL, 'w' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "csv", required_argument, NULL, 'c' },
		{ "dir", required_argument, NULL, 'd' },
		{ "scale", required_argument, NULL, 's' },
		{ "cache-mb", required_argument, NULL, 'm' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'e':
			each_name(job, optarg, add_engine);
			break;
		case 'w':
			each_name(job, optarg, add_workload);
			break;
		case 'r':
			job->table.rounds = (unsigned int)number(optarg, 1, ROUNDS_MAX, "--rounds");
			break;
		case 'c':
			job->csv = optarg;
			break;
		case 'd':
			if ((size_t)snprintf(job->dir, sizeof(job->dir), "%s", optarg) >=
			    sizeof(job->dir))
				fail("--dir: the path is too long");
			break;
		case 's':
			job->scale = number(optarg, 0.0001, 1000, "--scale");
			break;
		case 'm':
			job->cache_bytes = (size_t)(number(optarg, 8, 1 << 20, "--cache-mb") * 1048576);
			break;
		case 'l':
			list();
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind < argc)
		fail("'%s' is no option; see 'kvbench --help'", argv[optind]);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static uint64_t scaled(const struct job *job, uint64_t entries)
{
	uint64_t n = (uint64_t)((double)entries * job->scale);

	return n < ENTRIES_MIN ? ENTRIES_MIN : n;
}

static const uint32_t *picks_for(struct job *job, uint64_t entries, bool zipf)
{
	unsigned int i;

	for (i = 0; i < PICKS_KEPT && job->picks[i].picks; i++)
		if (job->picks[i].entries == entries && job->picks[i].zipf == zipf)
			return job->picks[i].picks;
	if (i == PICKS_KEPT)
		bench_die("more tables of random numbers than foreseen");
	job->picks[i].picks = zipf ? bench_picks_zipf(entries) : bench_picks_uniform(entries);
	if (!job->picks[i].picks)
		bench_die("out of memory");
	job->picks[i].entries = entries;
	job->picks[i].zipf = zipf;
	return job->picks[i].picks;
}

static void store_dir(char *path, size_t size, const struct job *job, const struct bench_ops *ops,
		      enum bench_data data)
{
	static const char *const kinds[BENCH_DATA_NR] = { "run", "data-100", "data-1000" };

	snprintf(path, size, "%s/%s-%s", job->dir, ops->name, kinds[data]);
}

/* Loads what reading workloads find. */
static void load_data(struct bench_run *run)
{
	void *db, *ctx;

	bench_remove_dir(run->dir);
	bench_make_dir(run->dir);
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	bench_fill(ctx, run->ops, 0, run->entries, run->wl->val_len, true);
	run->ops->sync(db);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	bench_disk_bytes(run->dir, true);
}

/* In a child: fn, then its metrics through the pipe. */
static void child(struct bench_run *run, void (*fn)(struct bench_run *run), int out)
{
	alarm(RUN_LIMIT_SECONDS);
	bench_short_slice();
	fn(run);
	if (write(out, run->metrics, sizeof(run->metrics)) != sizeof(run->metrics))
		bench_die("pipe: %s", strerror(errno));
	/* Not exit(): destructors of an engine's library are not part of what we measure. */
	_exit(0);
}

/* 0, or -1 after a message */
static int run_child(struct bench_run *run, void (*fn)(struct bench_run *run))
{
	int fds[2], status;
	ssize_t got;
	pid_t pid;

	fflush(NULL);
	if (pipe(fds) || (pid = fork()) < 0) {
		fprintf(stderr, "kvbench: no child: %s\n", strerror(errno));
		return -1;
	}
	if (!pid) {
		close(fds[0]);
		child(run, fn, fds[1]);
	}
	close(fds[1]);
	got = read(fds[0], run->metrics, sizeof(run->metrics));
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!status && got == sizeof(run->metrics))
		return 0;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		fprintf(stderr, "kvbench: %s, %s: not done after %d s\n", run->ops->name,
			run->wl->name, RUN_LIMIT_SECONDS);
	else
		fprintf(stderr, "kvbench: %s, %s: the run failed (status %#x)\n", run->ops->name,
			run->wl->name, status);
	return -1;
}

static unsigned int known_index(const struct bench_ops *ops)
{
	unsigned int i;

	for (i = 0; known_engines[i].ops != ops; i++)
		;
	return i;
}

static int run_one(struct job *job, unsigned int w, unsigned int e, unsigned int round)
{
	const struct bench_workload *wl = job->table.workloads[w];
	struct bench_run run = {
		.ops = job->table.engines[e],
		.wl = wl,
		.opts = { .cache_bytes = job->cache_bytes, .map_bytes = job->map_bytes,
			  .val_len = wl->val_len },
		.entries = scaled(job, wl->entries),
		.seconds = wl->seconds * job->scale,
	};
	unsigned int i = known_index(run.ops), m;

	store_dir(run.dir, sizeof(run.dir), job, run.ops, wl->data);
	if (wl->data != BENCH_DATA_NONE) {
		run.picks = picks_for(job, run.entries, wl->zipf);
		if (!job->loaded[i][wl->data] && run_child(&run, load_data))
			return -1;
		job->loaded[i][wl->data] = true;
	}
	if (run_child(&run, wl->fn))
		return -1;
	for (m = 0; m < BENCH_METRICS_NR; m++)
		bench_cell(&job->table, w, e, m)[round] = run.metrics[m];
	fprintf(stderr, "round %u/%u  %-22s %-8s %12.0f ops/s %10.3f us cpu/op\n", round + 1,
		job->table.rounds, wl->name, run.ops->name, run.metrics[BENCH_OPS_PER_S],
		run.metrics[BENCH_CPU_US_PER_OP]);
	if (wl->data == BENCH_DATA_NONE)
		bench_remove_dir(run.dir);
	return 0;
}

static int run_all(struct job *job)
{
	struct bench_table *t = &job->table;
	unsigned int r, w, e;

	for (r = 0; r < t->rounds; r++)
		for (w = 0; w < t->workloads_nr; w++)
			for (e = 0; e < t->engines_nr; e++)
				if (run_one(job, w, (e + r) % t->engines_nr, r))
					return -1;
	return 0;
}

/* ---- places ---------------------------------------------------------------------------------- */

static void prepare_dir(struct job *job)
{
	struct statfs fs;

	if (!job->dir[0]) {
		strcpy(job->dir, "/var/tmp/kvbench-XXXXXX");
		if (!mkdtemp(job->dir))
			fail("%s: %s; choose another place with --dir", job->dir, strerror(errno));
		job->made_dir = true;
	} else {
		bench_make_dir(job->dir);
	}
	if (!statfs(job->dir, &fs) && fs.f_type == TMPFS_MAGIC)
		fprintf(stderr, "kvbench: %s is in memory: syncs cost nothing there, and direct I/O "
				"does not exist; figures of durable workloads mean nothing\n", job->dir);
}

static void remove_stores(struct job *job)
{
	char path[512];
	unsigned int e, d;

	for (e = 0; e < job->table.engines_nr; e++) {
		for (d = 0; d < BENCH_DATA_NR; d++) {
			store_dir(path, sizeof(path), job, job->table.engines[e], d);
			bench_remove_dir(path);
		}
	}
	if (job->made_dir)
		rmdir(job->dir);
}

int main(int argc, char **argv)
{
	static const struct bench_ops *engines[KNOWN_NR];
	struct job job = { .table = { .rounds = 3 }, .scale = 1 };
	struct bench_table *t = &job.table;
	int err;

	job.cache_bytes = (size_t)1 << 30;
	job.map_bytes = (size_t)8 << 30;
	t->engines = engines;
	t->workloads = calloc(bench_workloads_nr, sizeof(t->workloads[0]));
	if (!t->workloads)
		fail("out of memory");
	parse(&job, argc, argv);
	add_defaults(&job);
	t->values = calloc((size_t)t->workloads_nr * t->engines_nr * BENCH_METRICS_NR * t->rounds,
			   sizeof(double));
	if (!t->values)
		fail("out of memory");
	prepare_dir(&job);
	err = run_all(&job);
	remove_stores(&job);
	if (err)
		return 3;
	if (job.csv && bench_write_csv(t, job.csv))
		fail("%s: %s", job.csv, strerror(errno));
	bench_print_markdown(t);
	return 0;
}
