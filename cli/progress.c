/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* progress.c - one line that overwrites itself, on a terminal only, ten times a second at most. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "kvs.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void progress_begin(struct progress *p, const char *verb, uint64_t total, bool quiet)
{
	p->verb = verb;
	p->unit = "entries";
	p->total = total;
	p->on = !quiet && isatty(STDERR_FILENO);
	p->begin_ns = p->on ? now_ns() : 0;
	/* short work shows nothing */
	p->next_ns = p->begin_ns + 500000000u;
}

void progress_show(struct progress *p, uint64_t done, uint64_t entries)
{
	uint64_t now, ms, percent;
	char bar[21];
	int i;

	if (!p->on)
		return;
	now = now_ns();
	if (now < p->next_ns)
		return;
	p->next_ns = now + 100000000u;
	ms = (now - p->begin_ns) / 1000000u + 1;
	fprintf(stderr, "\r\033[K%s ", p->verb);
	if (p->total) {
		percent = done >= p->total ? 100 : done / (p->total / 100 + 1);
		for (i = 0; i < 20; i++)
			bar[i] = (uint64_t)i * 5 < percent ? '#' : '.';
		bar[20] = 0;
		fprintf(stderr, "[%s] %3" PRIu64 "%% ", bar, percent);
	}
	fprintf(stderr, "%" PRIu64 " %s, %" PRIu64 "/s", entries, p->unit, entries * 1000 / ms);
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->on && p->next_ns > p->begin_ns + 500000000u)
		fputs("\r\033[K", stderr);
	p->on = false;
}
