/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_map.c - kvs map: a cell for each segment of the image, as of the last checkpoint: on a terminal (in
 * colour there), as JSON, or as a page for a browser (map_html.c).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../engine/gc_score.h"
#include "judge.h"

#define VICTIMS_SHOWN 9u

/* ---- what there is --------------------------------------------------------------------------- */

char map_letter(const struct map_cell *c)
{
	switch (c->info.use) {
	case KVSCK_USE_SUPER:
		return 'S';
	case KVSCK_USE_TAIL:
		return 'W';
	case KVSCK_USE_FREE:
		return '.';
	case KVSCK_USE_TREE:
		return 'T';
	case KVSCK_USE_LOG:
		if (c->info.freed)
			return 'x';
		if (c->info.replayed)
			return 'H';
		return c->info.flags & KVF_SEGMENT_COLD ? 'C' : 'L';
	case KVSCK_USE_UNKNOWN:
		break;
	}
	return '?';
}

static const struct {
	char letter;
	const char *name, *text, *colour;
} kinds[] = {
	{ 'S', "super", "superblocks", "35" },
	{ 'W', "tail", "tail places and window", "35" },
	{ 'H', "head", "log behind the checkpoint", "31" },
	{ 'L', "log", "log, for its separated values", "33" },
	{ 'C', "cold", "log, values moved by GC", "34" },
	{ 'x', "freed", "log, freed and not yet reusable", "36" },
	{ 'T', "tree", "pages of trees", "32" },
	{ '.', "free", "free", "90" },
	{ '?', "unknown", "not known, its row is damaged", "41" },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static size_t kind_index(const struct map_cell *c)
{
	size_t i;

	for (i = 0; i + 1 < KINDS && kinds[i].letter != map_letter(c); i++)
		;
	return i;
}

const char *map_kind(const struct map_cell *c)
{
	return kinds[kind_index(c)].name;
}

unsigned int map_fill(const struct map *m, const struct map_cell *c)
{
	uint64_t live = c->info.live < m->segment_bytes ? c->info.live : m->segment_bytes;

	return (unsigned int)(live * 100 / m->segment_bytes);
}

static int by_score(const void *a, const void *b)
{
	const struct map_cell *const *x = a, *const *y = b;

	if ((*x)->score != (*y)->score)
		return (*x)->score > (*y)->score ? -1 : 1;
	return (*x)->info.number < (*y)->info.number ? -1 : 1;
}

/* The order in which GC would take them, had its buffer room for all. */
static int rank(struct map *m)
{
	struct map_cell **order = calloc(m->nr ? m->nr : 1, sizeof(struct map_cell *));
	const struct kvsck_segment_info *s;
	size_t i, n = 0;

	if (!order)
		return -KVE_no_memory;
	for (i = 0; i < m->nr; i++) {
		s = &m->cell[i].info;
		if (s->use != KVSCK_USE_LOG || s->replayed || s->freed ||
		    !kve_gc_eligible(KVF_KIND_LOG, s->flags, s->live, s->last_lsn, m->replay_lsn))
			continue;
		m->cell[i].score = kve_gc_score(m->segment_bytes, s->live, s->last_lsn, m->next_lsn);
		if (m->cell[i].score)
			order[n++] = &m->cell[i];
	}
	qsort(order, n, sizeof(struct map_cell *), by_score);
	for (i = 0; i < n; i++)
		order[i]->victim = (uint32_t)(i + 1);
	free(order);
	return 0;
}

static int take(struct map *m, struct kvsck_survey *s, const struct judge *j)
{
	const struct kvf_super *sb = kvsck_survey_super(s);
	size_t i;

	m->nr = (size_t)kvsck_survey_segments(s);
	m->cell = calloc(m->nr ? m->nr : 1, sizeof(*m->cell));
	if (!m->cell)
		return -KVE_no_memory;
	m->segment_bytes = kvsck_survey_geometry(s)->segment;
	m->generation = le64_to_cpu(sb->generation);
	m->replay_lsn = le64_to_cpu(sb->replay_lsn);
	m->next_lsn = j->rep.end_lsn;
	m->problems = j->rep.problems;
	m->clean = j->rep.clean;
	memcpy(m->uuid, sb->uuid, sizeof(m->uuid));
	for (i = 0; i < m->nr; i++)
		kvsck_survey_segment(s, (uint32_t)i, &m->cell[i].info);
	return rank(m);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_json(const struct map *m)
{
	struct fields f = { .json = true };
	size_t i;

	out_fmt("{\n  \"segment_bytes\": %llu,\n  \"generation\": %llu,\n  \"replay_lsn\": %llu,\n"
		"  \"clean\": %s,\n  \"problems\": %llu,\n  \"segments\": [",
		(unsigned long long)m->segment_bytes, (unsigned long long)m->generation,
		(unsigned long long)m->replay_lsn, m->clean ? "true" : "false",
		(unsigned long long)m->problems);
	for (i = 0; i < m->nr; i++) {
		const struct map_cell *c = &m->cell[i];

		fields_begin(&f, map_kind(c));
		fields_number(&f, "number", c->info.number);
		fields_number(&f, "fill", map_fill(m, c));
		fields_number(&f, "live_bytes", c->info.live);
		fields_number(&f, "pinned_bytes", c->info.pinned);
		fields_number(&f, "pending_bytes", c->info.pending);
		fields_number(&f, "pages", c->info.pages);
		fields_number(&f, "generation", c->info.gen);
		fields_number(&f, "first_lsn", c->info.first_lsn);
		fields_number(&f, "last_lsn", c->info.last_lsn);
		fields_bool(&f, "head", c->info.head);
		fields_number(&f, "score", c->score);
		fields_number(&f, "victim", c->victim);
		fields_end(&f);
	}
	out_text("\n  ]\n}");
	out_line();
}

/* ---- a terminal ------------------------------------------------------------------------------ */

static unsigned int columns(void)
{
	const char *text = getenv("COLUMNS");
	struct winsize w;
	int64_t v;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col)
		return w.ws_col;
	return text && opts_integer(text, &v) && v > 0 && v < 10000 ? (unsigned int)v : 80;
}

/* Of ten; free and system segments have none. */
static char digit(const struct map *m, const struct map_cell *c)
{
	unsigned int tenths = map_fill(m, c) / 10;

	if (c->info.use != KVSCK_USE_LOG && c->info.use != KVSCK_USE_TREE)
		return ' ';
	return tenths > 9 ? '#' : (char)('0' + tenths);
}

static void put_cell(const struct map *m, const struct map_cell *c, bool colour)
{
	bool next = c->victim && c->victim <= VICTIMS_SHOWN;

	if (colour)
		out_fmt("\033[%s%sm", kinds[kind_index(c)].colour, next ? ";7" : "");
	out_fmt("%c%c%c", map_letter(c), digit(m, c), next ? (char)('0' + c->victim) : ' ');
	if (colour)
		out_text("\033[0m");
}

static void put_legend(const struct map *m, bool colour)
{
	size_t nr[KINDS] = { 0 }, i;

	for (i = 0; i < m->nr; i++)
		nr[kind_index(&m->cell[i])]++;
	for (i = 0; i < KINDS; i++) {
		if (!nr[i])
			continue;
		out_fmt(colour ? "  \033[%sm%c\033[0m" : "  %.0s%c", kinds[i].colour, kinds[i].letter);
		out_fmt("  %6zu  %s", nr[i], kinds[i].text);
		out_line();
	}
	out_fmt("Behind the letter: tenths that are live (# all); then 1 to %u: what GC empties next.",
		VICTIMS_SHOWN);
	out_line();
}

static void put_text(const struct map *m)
{
	bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	unsigned int wide = columns(), row = wide > 12 ? (wide - 9) / 3 : 1;
	size_t i;

	out_fmt("%zu segments of %llu bytes, generation %llu, %s", m->nr,
		(unsigned long long)m->segment_bytes, (unsigned long long)m->generation,
		m->clean ? "closed cleanly" : "not closed cleanly");
	out_line();
	for (i = 0; i < m->nr; i++) {
		if (i % row == 0)
			out_fmt("%8zu ", i);
		put_cell(m, &m->cell[i], colour);
		if (i % row == row - 1 || i + 1 == m->nr)
			out_line();
	}
	put_legend(m, colour);
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int put(struct kvs *k, const struct map *m)
{
	int rc = EXIT_OK;

	if (k->html)
		rc = map_html(k, m, k->html);
	if (k->json)
		put_json(m);
	else if (!k->html)
		put_text(m);
	if (!rc && m->problems)
		rc = kvs_say(k, EXIT_CORRUPT, "%llu problem%s; run 'kvs-fsck -n %s'",
			     (unsigned long long)m->problems, m->problems == 1 ? "" : "s", k->image);
	return rc;
}

int cmd_map(struct kvs *k)
{
	struct map m = { .image = k->image };
	struct kvsck_survey *s = NULL;
	struct judge j;
	int err, rc = judge_open(k, &j);

	if (rc)
		return rc;
	j.opt.flags |= KVSCK_NO_VALUES;
	err = kvsck_survey_new(&j.io, &j.opt, &j.rep, &s);
	if (!err)
		err = take(&m, s, &j);
	rc = err ? judge_fail(k, err) : put(k, &m);
	free(m.cell);
	kvsck_survey_free(s);
	judge_close(&j);
	return rc;
}
