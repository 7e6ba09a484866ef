/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - kvbench: workloads x rounds x engines, interleaved, each run in a child of its own.
 *
 * Interleaved, because machines drift: engines measured one after the other would be compared
 * across hours. The order of engines turns with each round. Data sets are loaded once per engine and
 * kept until the last workload that needs them; workloads that change them work on copies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bench.h"

#define ROUNDS_MAX 99
#define PICKS_KEPT 12
#define FLOOR_NAME "floor"
/* Of the memory cgroup: half for an engine that has the page cache besides; else all but what is no cache. */
#define TIGHT_CACHE_SHARE 2
#define TIGHT_NO_CACHE ((uint64_t)20 << 20) /* harness, and what an engine and eight threads need besides */

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
#ifdef HAVE_LEVELDB
	{ "leveldb", &bench_leveldb, "" },
#else
	{ "leveldb", NULL, "libleveldb-dev" },
#endif
#ifdef HAVE_BDB
	{ "bdb", &bench_bdb, "" },
#else
	{ "bdb", NULL, "libdb5.3-dev" },
#endif
#ifdef HAVE_SQLITE
	{ "sqlite", &bench_sqlite, "" },
#else
	{ "sqlite", NULL, "libsqlite3-dev" },
#endif
#ifdef HAVE_TKRZW
	{ "tkrzw", &bench_tkrzw, "" },
#else
	{ "tkrzw", NULL, "libtkrzw-dev" },
#endif
#ifdef HAVE_WIREDTIGER
	{ "wiredtiger", &bench_wiredtiger, "" },
#else
	{ "wiredtiger", NULL, "libwiredtiger-dev" },
#endif
#ifdef HAVE_ROCKSDB
	{ "rocksdb-blob", &bench_rocksdb_blob, "" },
#else
	{ "rocksdb-blob", NULL, "librocksdb-dev" },
#endif
#ifdef BENCH_BROKEN
	{ "broken", &bench_broken, "" },
#endif
};
/* clang-format on */
#define KNOWN_NR (sizeof(known_engines) / sizeof(known_engines[0]))

struct picks {
	uint32_t *picks;
	uint64_t entries;
	enum bench_pick pick;
};

struct job {
	struct bench_table table;
	size_t cache_bytes, map_bytes;
	uint32_t page_bytes;
	const char *csv, *svg;
	bool no_floors;
	char dir[400];
	bool made_dir;
	bool loaded[KNOWN_NR][BENCH_DATA_NR]; /* by the index in the table */
	struct picks picks[PICKS_KEPT];
};

static void usage(FILE *f)
{
	fputs("Usage: kvbench [--engines LIST] [--workloads LIST] [--rounds N] [--csv FILE]\n"
	      "               [--svg FILE] [--dir DIR] [--scale F] [--cache-mb N] [--page N] [--no-floors]\n"
	      "               [--list]\n"
	      "Measures kvs beside other stores and prints tables in markdown.\n"
	      "  --engines    names separated by commas; default: all but rocksdb-blob\n"
	      "  --workloads  names separated by commas; default: all but overwrite-*, grow-*\n"
	      "  --rounds     how often each is run; the median counts; default 3\n"
	      "  --csv        rows engine,workload,metric,value; - is standard output\n"
	      "  --svg        a chart of operations per second, by gnuplot\n"
	      "  --dir        where the stores are made and removed; default: a new one in /var/tmp\n"
	      "  --scale      factor on entries and times; default 1\n"
	      "  --cache-mb   cache of each engine that has one; default 1024\n"
	      "  --page       bytes of a page of kvs, 2048 to 65536; default: that of the engine\n"
	      "  --no-floors  do not measure what the machine could do at best\n"
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
	if (known_engines[i].ops->prepare)
		known_engines[i].ops->prepare();
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
			if (known_engines[i].ops && !known_engines[i].ops->apart)
				add_engine(job, known_engines[i].name);
	if (!job->table.workloads_nr)
		for (i = 0; i < bench_workloads_nr; i++)
			if (!bench_workloads[i].apart)
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

/* One option, and its argument in optarg. */
static void take(struct job *job, int c)
{
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
	case 'g':
		job->svg = optarg;
		break;
	case 'n':
		job->no_floors = true;
		break;
	case 'd':
		if ((size_t)snprintf(job->dir, sizeof(job->dir), "%s", optarg) >= sizeof(job->dir))
			fail("--dir: the path is too long");
		break;
	case 's':
		job->table.scale = number(optarg, 0.0001, 1000, "--scale");
		break;
	case 'm':
		job->cache_bytes = (size_t)(number(optarg, 8, 1 << 20, "--cache-mb") * 1048576);
		break;
	case 'p':
		job->page_bytes = (uint32_t)number(optarg, 2048, 65536, "--page");
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

static void parse(struct job *job, int argc, char **argv)
{
	static const struct option options[] = {
		{ "engines", required_argument, NULL, 'e' },
		{ "workloads", required_argument, NULL, 'w' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "csv", required_argument, NULL, 'c' },
		{ "svg", required_argument, NULL, 'g' },
		{ "dir", required_argument, NULL, 'd' },
		{ "scale", required_argument, NULL, 's' },
		{ "cache-mb", required_argument, NULL, 'm' },
		{ "page", required_argument, NULL, 'p' },
		{ "no-floors", no_argument, NULL, 'n' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
		take(job, c);
	if (job->svg && !bench_can_draw())
		fail("--svg needs gnuplot; install gnuplot-nox");
	if (optind < argc)
		fail("'%s' is no option; see 'kvbench --help'", argv[optind]);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Of a pick table: which numbers, among how many entries. */
static const uint32_t *picks_for(struct job *job, uint64_t entries, enum bench_pick pick)
{
	struct picks *p = job->picks;
	unsigned int i;

	for (i = 0; i < PICKS_KEPT && p[i].picks; i++)
		if (p[i].entries == entries && p[i].pick == pick)
			return p[i].picks;
	if (i == PICKS_KEPT)
		bench_die("more tables of random numbers than foreseen");
	p[i].picks = pick == BENCH_UNIFORM ? bench_picks_uniform(entries) :
					     bench_picks_zipf(entries, pick == BENCH_ZIPF);
	if (!p[i].picks)
		bench_die("out of memory");
	p[i].entries = entries;
	p[i].pick = pick;
	return p[i].picks;
}

static void store_dir(char *path, size_t size, const struct job *job, const char *engine,
		      enum bench_data data)
{
	static const char *const kinds[BENCH_DATA_NR] = { "run", "data-100", "data-1000",
							  "data-tight-1000", "data-tight-100" };

	snprintf(path, size, "%s/%s-%s", job->dir, engine, kinds[data]);
}

/* Loads what workloads find. */
static void load_data(struct bench_run *run)
{
	void *db, *ctx;

	bench_remove_dir(run->dir);
	bench_make_dir(run->dir);
	db = run->ops->open(run->dir, &run->opts);
	ctx = run->ops->ctx_open(db);
	if (run->wl->in_order)
		bench_fill_in_order(ctx, run->ops, run->entries, run->wl->val_len);
	else
		bench_fill(ctx, run->ops, 0, run->entries, run->wl->val_len);
	run->ops->sync(db);
	run->ops->ctx_close(ctx);
	run->ops->close(db);
	bench_disk_bytes(run->dir, true);
}

static void prepare_run(struct job *job, struct bench_run *run, const struct bench_workload *wl,
			const struct bench_ops *ops)
{
	*run = (struct bench_run){
		.ops = ops,
		.wl = wl,
		.opts = { .cache_bytes = job->cache_bytes, .map_bytes = job->map_bytes,
			  .page_bytes = job->page_bytes, .val_len = wl->val_len },
		.entries = bench_entries(wl, job->table.scale),
		.seconds = bench_seconds(wl, job->table.scale),
	};
	if (wl->data != BENCH_DATA_NONE)
		run->picks = picks_for(job, run->entries, wl->pick);
}

/* The data set of run->wl, for that engine, if it is not there yet. 0, or -1 after a message. */
static int need_data(struct job *job, const struct bench_run *run, unsigned int e)
{
	const struct bench_workload *wl = run->wl;
	struct bench_run load = *run;

	if (wl->data == BENCH_DATA_NONE || job->loaded[e][wl->data])
		return 0;
	store_dir(load.dir, sizeof(load.dir), job, run->ops->name, wl->data);
	fprintf(stderr, "loading     %-22s %-10s %lu x %u bytes\n", wl->name, run->ops->name,
		run->entries, wl->val_len);
	if (bench_run_child(&load, load_data))
		return -1;
	job->loaded[e][wl->data] = true;
	return 0;
}

static int run_one(struct job *job, unsigned int w, unsigned int e, unsigned int round)
{
	const struct bench_workload *wl = job->table.workloads[w];
	enum bench_data place = wl->changes ? BENCH_DATA_NONE : wl->data;
	struct bench_run run;
	unsigned int m;

	prepare_run(job, &run, wl, job->table.engines[e]);
	if (need_data(job, &run, e))
		return -1;
	store_dir(run.dir, sizeof(run.dir), job, run.ops->name, place);
	if (wl->changes)
		store_dir(run.data_dir, sizeof(run.data_dir), job, run.ops->name, wl->data);
	run.memory_bytes = bench_memory(wl, job->table.scale);
	if (run.memory_bytes) {
		run.opts.tight = true;
		run.opts.cache_bytes = run.ops->reads_direct ? run.memory_bytes - TIGHT_NO_CACHE :
							     run.memory_bytes / TIGHT_CACHE_SHARE;
	}
	if (bench_run_child(&run, wl->fn))
		return -1;
	for (m = 0; m < BENCH_METRICS_NR; m++)
		bench_cell(&job->table, w, e, m)[round] = run.metrics[m];
	fprintf(stderr, "round %2u/%-2u %-22s %-10s %12.0f ops/s %10.3f us cpu/op\n", round + 1,
		job->table.rounds, wl->name, run.ops->name, run.metrics[BENCH_OPS_PER_S],
		run.metrics[BENCH_CPU_US_PER_OP]);
	if (place == BENCH_DATA_NONE)
		bench_remove_dir(run.dir);
	return 0;
}

static int run_floor(struct job *job, unsigned int w, unsigned int round)
{
	const struct bench_workload *wl = job->table.workloads[w];
	struct bench_run run;

	if (!wl->floor || job->no_floors)
		return 0;
	prepare_run(job, &run, wl, NULL);
	store_dir(run.dir, sizeof(run.dir), job, FLOOR_NAME, BENCH_DATA_NONE);
	run.memory_bytes = 0; /* bounds of the machine: not limited */
	bench_make_dir(run.dir);
	if (bench_run_child(&run, wl->floor))
		return -1;
	job->table.floors[w * job->table.rounds + round] = run.metrics[BENCH_OPS_PER_S];
	fprintf(stderr, "round %2u/%-2u %-22s %-10s %12.0f ops/s\n", round + 1, job->table.rounds,
		wl->name, "(floor)", run.metrics[BENCH_OPS_PER_S]);
	bench_remove_dir(run.dir);
	return 0;
}

/* Removes data sets that no workload from w on needs. */
static void drop_data(struct job *job, unsigned int w)
{
	bool needed[BENCH_DATA_NR] = { false };
	char path[512];
	unsigned int e, d;

	for (; w < job->table.workloads_nr; w++)
		needed[job->table.workloads[w]->data] = true;
	for (e = 0; e < job->table.engines_nr; e++) {
		for (d = BENCH_DATA_NONE + 1; d < BENCH_DATA_NR; d++) {
			if (needed[d] || !job->loaded[e][d])
				continue;
			store_dir(path, sizeof(path), job, job->table.engines[e]->name, d);
			bench_remove_dir(path);
			job->loaded[e][d] = false;
		}
	}
}

/* Engines and floor by turns within each round, in another order each round. */
static int run_all(struct job *job)
{
	struct bench_table *t = &job->table;
	unsigned int r, w, e;

	for (w = 0; w < t->workloads_nr; w++) {
		for (r = 0; r < t->rounds; r++) {
			for (e = 0; e < t->engines_nr; e++)
				if (run_one(job, w, (e + r) % t->engines_nr, r))
					return -1;
			if (run_floor(job, w, r))
				return -1;
		}
		drop_data(job, w + 1);
	}
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
			store_dir(path, sizeof(path), job, job->table.engines[e]->name, d);
			bench_remove_dir(path);
		}
	}
	store_dir(path, sizeof(path), job, FLOOR_NAME, BENCH_DATA_NONE);
	bench_remove_dir(path);
	if (job->made_dir)
		rmdir(job->dir);
}

int main(int argc, char **argv)
{
	static const struct bench_ops *engines[KNOWN_NR];
	static struct job job = { .table = { .rounds = 3, .scale = 1 } };
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
	t->floors = calloc((size_t)t->workloads_nr * t->rounds, sizeof(double));
	if (!t->values || !t->floors)
		fail("out of memory");
	prepare_dir(&job);
	bench_catch_signals();
	err = run_all(&job);
	remove_stores(&job);
	if (err)
		return 3;
	if (job.csv && bench_write_csv(t, job.csv))
		fail("%s: %s", job.csv, strerror(errno));
	bench_print_markdown(t);
	if (job.svg && bench_draw_svg(t, job.svg))
		return 3;
	return 0;
}
