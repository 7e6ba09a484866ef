/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * report.c - medians, the CSV file and the tables.
 *
 * Absolute figures belong to one machine on one day; so each table ends with ours against the best
 * of the others in the same run. Lines of a table name the best peer by that table's own measure.
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

static double median(const struct bench_table *t, unsigned int workload, unsigned int engine,
		     unsigned int metric)
{
	double *v = bench_cell(t, workload, engine, metric);

	/* Sorting in place is harmless: the order of rounds has no meaning. */
	qsort(v, t->rounds, sizeof(*v), compare);
	if (t->rounds % 2)
		return v[t->rounds / 2];
	return (v[t->rounds / 2 - 1] + v[t->rounds / 2]) / 2;
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
			for (m = 0; m < BENCH_METRICS_NR; m++)
				fprintf(f, "%s,%s,%s,%.6g\n", t->engines[e]->name,
					t->workloads[w]->name, bench_metric_names[m],
					median(t, w, e, m));
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

/* Index of the best engine other than kvs, -1 when there is none. 0 stands for "not measured". */
static int best_peer(const struct bench_table *t, unsigned int w, enum bench_metric metric,
		     bool higher)
{
	double best_value = 0;
	unsigned int e;
	int best = -1;

	for (e = 0; e < t->engines_nr; e++) {
		double v = median(t, w, e, metric);

		if (t->engines[e] == &bench_kvs || v <= 0)
			continue;
		if (best < 0 || (higher ? v > best_value : v < best_value)) {
			best = (int)e;
			best_value = v;
		}
	}
	return best;
}

static int kvs_index(const struct bench_table *t)
{
	unsigned int e;

	for (e = 0; e < t->engines_nr; e++)
		if (t->engines[e] == &bench_kvs)
			return (int)e;
	return -1;
}

static void print_table(const struct bench_table *t, enum bench_metric metric, bool higher,
			const char *title)
{
	int ours = kvs_index(t), best;
	unsigned int w, e;

	printf("\n### %s (%s is better)\n\n| workload |", title, higher ? "higher" : "lower");
	for (e = 0; e < t->engines_nr; e++)
		printf(" %s |", t->engines[e]->name);
	printf(" best peer | kvs : best peer |\n|---|");
	for (e = 0; e < t->engines_nr; e++)
		printf("--:|");
	printf("---|--:|\n");
	for (w = 0; w < t->workloads_nr; w++) {
		printf("| %s |", t->workloads[w]->name);
		for (e = 0; e < t->engines_nr; e++)
			print_number(metric, median(t, w, e, metric));
		best = best_peer(t, w, metric, higher);
		printf(" %s |", best < 0 ? "" : t->engines[best]->name);
		if (ours < 0 || best < 0)
			printf(" |\n");
		else
			printf(" %.2f |\n", median(t, w, (unsigned int)ours, metric) /
						    median(t, w, (unsigned int)best, metric));
	}
}

void bench_print_markdown(const struct bench_table *t)
{
	unsigned int e;

	printf("Medians of %u interleaved round%s. Engines:\n\n", t->rounds,
	       t->rounds == 1 ? "" : "s");
	for (e = 0; e < t->engines_nr; e++)
		printf("- %s %s: %s\n", t->engines[e]->name, t->engines[e]->version(),
		       t->engines[e]->config);
	print_table(t, BENCH_OPS_PER_S, true, "Operations per second");
	print_table(t, BENCH_CPU_US_PER_OP, false, "CPU time per operation, microseconds");
	print_table(t, BENCH_P99_US, false, "99th percentile, microseconds");
	print_table(t, BENCH_P999_US, false, "99.9th percentile, microseconds");
	print_table(t, BENCH_OPS_PER_SYNC, true, "Operations per sync");
	print_table(t, BENCH_DISK_BYTES, false, "Disk, MiB");
	print_table(t, BENCH_RSS_BYTES, false, "Private memory, MiB");
	fflush(stdout);
}
