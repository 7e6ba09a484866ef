/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * report.c - medians, the CSV file and the tables.
 *
 * Absolute figures belong to one machine on one day; so each table ends with ours against the best
 * of the others in the same run, and the first with ours against the floor. Lines of a table name the
 * best peer by that table's own measure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

double *bench_cell(const struct bench_table *t, unsigned int workload, unsigned int engine,
		   unsigned int metric)
{
	size_t i = (size_t)(workload * t->engines_nr + engine) * BENCH_METRICS_NR + metric;

	return t->values + i * t->rounds;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts in place, which is harmless: the order of rounds has no meaning. */
static double median(double *v, unsigned int rounds)
{
	qsort(v, rounds, sizeof(*v), compare);
	if (rounds % 2)
		return v[rounds / 2];
	return (v[rounds / 2 - 1] + v[rounds / 2]) / 2;
}

double bench_median(const struct bench_table *t, unsigned int workload, unsigned int engine,
		    unsigned int metric)
{
	return median(bench_cell(t, workload, engine, metric), t->rounds);
}

double bench_floor_median(const struct bench_table *t, unsigned int workload)
{
	return median(t->floors + (size_t)workload * t->rounds, t->rounds);
}

int bench_write_csv(const struct bench_table *t, const char *path)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "w") : stdout;
	unsigned int w, e, m;
	int err;

	if (!f)
		return -1;
	fputs("engine,workload,metric,value\n", f);
	for (w = 0; w < t->workloads_nr; w++)
		for (e = 0; e < t->engines_nr; e++)
			for (m = 0; m < BENCH_METRICS_NR; m++) {
				if (m >= BENCH_METRICS_ALWAYS && bench_median(t, w, e, m) <= 0)
					continue;
				fprintf(f, "%s,%s,%s,%.6g\n", t->engines[e]->name,
					t->workloads[w]->name, bench_metric_names[m],
					bench_median(t, w, e, m));
			}
	err = ferror(f);
	if (f != stdout)
		err |= fclose(f);
	return err ? -1 : 0;
}

static void print_number(enum bench_metric metric, double value)
{
	if (metric == BENCH_DISK_BYTES || metric == BENCH_RSS_BYTES)
		printf(" %.1f |", value / 1048576);
	else if (value >= 1000)
		printf(" %.0f |", value);
	else if (value >= 10)
		printf(" %.1f |", value);
	else
		printf(" %.3f |", value);
}

int bench_best_peer(const struct bench_table *t, unsigned int w, enum bench_metric metric, bool higher)
{
	double best_value = 0;
	unsigned int e;
	int best = -1;

	for (e = 0; e < t->engines_nr; e++) {
		double v = bench_median(t, w, e, metric);

		/* 0 stands for "not measured". */
		if (t->engines[e] == &bench_kvs || t->engines[e]->loses_on_kill || v <= 0)
			continue;
		if (best < 0 || (higher ? v > best_value : v < best_value)) {
			best = (int)e;
			best_value = v;
		}
	}
	return best;
}

int bench_kvs_index(const struct bench_table *t)
{
	unsigned int e;

	for (e = 0; e < t->engines_nr; e++)
		if (t->engines[e] == &bench_kvs)
			return (int)e;
	return -1;
}

static void print_ratio(double ours, double other)
{
	if (ours > 0 && other > 0)
		printf(" %.2f |", ours / other);
	else
		printf(" |");
}

static void print_table(const struct bench_table *t, enum bench_metric metric, bool higher,
			const char *title)
{
	bool floors = metric == BENCH_OPS_PER_S;
	int kvs = bench_kvs_index(t), best;
	unsigned int w, e;
	double ours;

	printf("\n### %s (%s is better)\n\n| workload |", title, higher ? "higher" : "lower");
	for (e = 0; e < t->engines_nr; e++)
		printf(" %s |", t->engines[e]->name);
	printf(" best peer | kvs : best peer |%s\n|---|", floors ? " floor | kvs : floor |" : "");
	for (e = 0; e < t->engines_nr; e++)
		printf("--:|");
	printf("---|--:|%s\n", floors ? "--:|--:|" : "");
	for (w = 0; w < t->workloads_nr; w++) {
		printf("| %s |", t->workloads[w]->name);
		for (e = 0; e < t->engines_nr; e++)
			print_number(metric, bench_median(t, w, e, metric));
		best = bench_best_peer(t, w, metric, higher);
		ours = kvs < 0 ? 0 : bench_median(t, w, (unsigned int)kvs, metric);
		printf(" %s |", best < 0 ? "" : t->engines[best]->name);
		print_ratio(ours, best < 0 ? 0 : bench_median(t, w, (unsigned int)best, metric));
		if (floors && bench_floor_median(t, w) > 0)
			print_number(metric, bench_floor_median(t, w));
		else if (floors)
			printf(" |");
		if (floors)
			print_ratio(ours, bench_floor_median(t, w));
		printf("\n");
	}
}

static void print_sizes(const struct bench_table *t)
{
	unsigned int w;

	printf("\n### Sizes\n\n| workload | entries | value, bytes | a commit | threads | seconds | "
	       "memory, MiB | what |\n|---|--:|--:|--:|--:|--:|--:|---|\n");
	for (w = 0; w < t->workloads_nr; w++) {
		const struct bench_workload *wl = t->workloads[w];

		printf("| %s | %lu | %u | %u | %u | ", wl->name, bench_entries(wl, t->scale), wl->val_len,
		       wl->batch ? wl->batch : 1, wl->threads ? wl->threads : 1);
		if (wl->seconds > 0)
			printf("%.3g", bench_seconds(wl, t->scale));
		printf(" | ");
		if (wl->tight)
			printf("%.4g", (double)bench_memory(wl, t->scale) / 1048576);
		printf(" | %s |\n", wl->what);
	}
}

static bool measured(const struct bench_table *t, enum bench_metric metric)
{
	unsigned int w, e;

	for (w = 0; w < t->workloads_nr; w++)
		for (e = 0; e < t->engines_nr; e++)
			if (bench_median(t, w, e, metric) > 0)
				return true;
	return false;
}

void bench_print_markdown(const struct bench_table *t)
{
	static const struct {
		enum bench_metric metric;
		const char *title;
		bool higher;
	} more[] = {
		{ BENCH_WRITE_AMP, "Bytes written by keys and values put", false },
		{ BENCH_GET_P50_US, "Gets beside puts, median, microseconds", false },
		{ BENCH_GET_P99_US, "Gets beside puts, 99th percentile, microseconds", false },
		{ BENCH_GET_P999_US, "Gets beside puts, 99.9th percentile, microseconds", false },
		{ BENCH_GET_MAX_US, "Gets beside puts, longest, microseconds", false },
		{ BENCH_FIRST_PER_S, "Operations per second in the first twentieth", true },
		{ BENCH_LAST_PER_S, "Operations per second in the last twentieth", true },
	};
	unsigned int e, m;

	printf("Medians of %u interleaved round%s at scale %g. Engines:\n\n", t->rounds,
	       t->rounds == 1 ? "" : "s", t->scale);
	for (e = 0; e < t->engines_nr; e++)
		printf("- %s %s: %s%s\n", t->engines[e]->name, t->engines[e]->version(),
		       t->engines[e]->config,
		       t->engines[e]->loses_on_kill ? "; loses data by kill -9: never the best peer" : "");
	print_sizes(t);
	print_table(t, BENCH_OPS_PER_S, true, "Operations per second");
	print_table(t, BENCH_CPU_US_PER_OP, false, "CPU time per operation, microseconds");
	print_table(t, BENCH_P50_US, false, "Median, microseconds");
	print_table(t, BENCH_P99_US, false, "99th percentile, microseconds");
	print_table(t, BENCH_P999_US, false, "99.9th percentile, microseconds");
	print_table(t, BENCH_MAX_US, false, "Longest, microseconds");
	print_table(t, BENCH_OPS_PER_SYNC, true, "Operations per sync");
	print_table(t, BENCH_DISK_BYTES, false, "Disk, MiB");
	print_table(t, BENCH_SPACE_AMP_PEAK, false, "Peak of the disk less 64 MiB, by keys and values");
	print_table(t, BENCH_RSS_BYTES, false, "Private memory, MiB");
	for (m = 0; m < sizeof(more) / sizeof(more[0]); m++)
		if (measured(t, more[m].metric))
			print_table(t, more[m].metric, more[m].higher, more[m].title);
	fflush(stdout);
}
