/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * chart.c - the chart: gnuplot draws, for each workload, the operations per second of every engine as
 * a share of the best peer's, on a logarithmic scale. The line at 1 is the best peer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "bench.h"

/* A share below this is drawn here, with the others at the bottom. */
#define SHARE_MIN 0.01
#define SHARE_MAX 100.0
#define WIDTH_PER_WORKLOAD 24

bool bench_can_draw(void)
{
	int status = system("gnuplot --version > /dev/null 2>&1");

	return status >= 0 && WIFEXITED(status) && !WEXITSTATUS(status);
}

/* One block of data per engine, and one for the floors: position, share. */
static void write_block(FILE *f, const struct bench_table *t, int engine)
{
	unsigned int w;
	double best, v;
	int peer;

	fprintf(f, "$E%d << EOD\n", engine + 1);
	for (w = 0; w < t->workloads_nr; w++) {
		peer = bench_best_peer(t, w, BENCH_OPS_PER_S, true);
		best = peer < 0 ? 0 : bench_median(t, w, (unsigned int)peer, BENCH_OPS_PER_S);
		v = engine < 0 ? bench_floor_median(t, w) :
				 bench_median(t, w, (unsigned int)engine, BENCH_OPS_PER_S);
		if (best <= 0 || v <= 0)
			continue;
		v /= best;
		fprintf(f, "%u %.4g\n", w, v < SHARE_MIN ? SHARE_MIN : v > SHARE_MAX ? SHARE_MAX : v);
	}
	/* Outside of the ranges: gnuplot takes an empty block for an error. */
	fputs("-9 1\nEOD\n", f);
}

static void write_axes(FILE *f, const struct bench_table *t, const char *path)
{
	unsigned int w;

	fprintf(f, "set terminal svg size %u,620 font 'sans-serif,12' background '#ffffff'\n",
		260 + WIDTH_PER_WORKLOAD * t->workloads_nr);
	fprintf(f, "set output '%s'\n", path);
	fprintf(f, "set title 'Operations per second, best peer = 1 (median of %u, scale %g)'\n",
		t->rounds, t->scale);
	fprintf(f, "set logscale y\nset yrange [%g:%g]\nset xrange [-1:%u]\n", SHARE_MIN, SHARE_MAX,
		t->workloads_nr);
	fputs("set grid x y lc '#e0e0e0'\nset key outside right top\n"
	      "set ylabel 'times the best peer'\nset xtics rotate by -60 left noenhanced (", f);
	for (w = 0; w < t->workloads_nr; w++)
		fprintf(f, "%s'%s' %u", w ? ", " : "", t->workloads[w]->name, w);
	fputs(")\n", f);
}

static void write_plot(FILE *f, const struct bench_table *t)
{
	/* None is near the red of kvs. */
	static const char *const colours[] = { "#1b9e77", "#7570b3", "#e69f00", "#66a61e", "#1f78b4",
					       "#a6761d", "#cc79a7", "#17becf" };
	unsigned int e;

	fputs("plot 1 notitle lc '#808080' dt 2", f);
	for (e = 0; e < t->engines_nr; e++) {
		if (t->engines[e] == &bench_kvs)
			continue;
		fprintf(f, ", $E%u using 1:2 with points pt %u ps 0.7 lc '%s' title '%s' noenhanced",
			e + 1, e + 3, colours[e % (sizeof(colours) / sizeof(colours[0]))],
			t->engines[e]->name);
	}
	fputs(", $E0 using 1:2 with points pt 2 ps 0.9 lc '#000000' title 'floor'", f);
	if (bench_kvs_index(t) >= 0)
		fprintf(f, ", $E%d using 1:2 with points pt 7 ps 1.1 lc '#d00000' title 'kvs'",
			bench_kvs_index(t) + 1);
	fputc('\n', f);
}

int bench_draw_svg(const struct bench_table *t, const char *path)
{
	FILE *f;
	int e, status;

	if (strpbrk(path, "'\n\\")) {
		fprintf(stderr, "kvbench: --svg: choose a path without quotes\n");
		return -1;
	}
	f = popen("gnuplot", "w");
	if (!f) {
		fprintf(stderr, "kvbench: gnuplot: %s\n", strerror(errno));
		return -1;
	}
	write_axes(f, t, path);
	for (e = -1; e < (int)t->engines_nr; e++)
		write_block(f, t, e);
	write_plot(f, t);
	status = pclose(f);
	if (status) {
		fprintf(stderr, "kvbench: gnuplot could not draw %s (status %#x)\n", path, status);
		return -1;
	}
	return 0;
}
