/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * map_html.c - kvs map --html: one file with a drawing (SVG) that refers to nothing outside of itself. A cell
 * is as full as its segment; what is to be known of it shows when the pointer rests on it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "judge.h"

#define CELL 18u /* units of the drawing, a border of 1 included */

/* Fill and background of a cell, by kind; the text is readable on both. */
static const struct {
	const char *name, *full, *empty;
} colours[] = {
	{ "super", "#7c3aed", "#7c3aed" },
	{ "tail", "#a855f7", "#a855f7" },
	{ "head", "#dc2626", "#fecaca" },
	{ "log", "#d97706", "#fde68a" },
	{ "cold", "#2563eb", "#bfdbfe" },
	{ "freed", "#0891b2", "#cffafe" },
	{ "tree", "#16a34a", "#bbf7d0" },
	{ "free", "#e5e7eb", "#f3f4f6" },
	{ "unknown", "#111827", "#111827" },
};

#define COLOURS (sizeof(colours) / sizeof(colours[0]))

static void put_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			/* control characters are not allowed in either */
			fputc((unsigned char)*text < 0x20 ? '?' : *text, out);
		}
	}
}

static size_t colour_of(const struct map_cell *c)
{
	size_t i;

	for (i = 0; i + 1 < COLOURS && strcmp(colours[i].name, map_kind(c)); i++)
		;
	return i;
}

static void put_title(FILE *out, const struct map *m, const struct map_cell *c)
{
	const struct kvsck_segment_info *s = &c->info;

	fprintf(out, "<title>segment %u: %s, byte %" PRIu64, s->number, map_kind(c),
		s->number * m->segment_bytes);
	if (s->use == KVSCK_USE_LOG || s->use == KVSCK_USE_TREE)
		fprintf(out, "\nfill %u %%, %llu live bytes, generation %u", map_fill(m, c), s->live,
			s->gen);
	if (s->use == KVSCK_USE_LOG)
		fprintf(out, "\nLSN %llu to %llu", s->first_lsn, s->last_lsn);
	if (s->use == KVSCK_USE_TREE)
		fprintf(out, "\n%llu pages, %llu bytes freed, not yet reusable", s->pages, s->pending);
	if (s->pinned)
		fprintf(out, "\n%llu bytes pinned by snapshots", s->pinned);
	if (s->head)
		fprintf(out, "\nthe log ends here");
	if (c->victim)
		fprintf(out, "\nGC: number %u, score %" PRIu64, c->victim, c->score);
	fputs("</title>", out);
}

static void put_cell(FILE *out, const struct map *m, const struct map_cell *c, unsigned int x,
		     unsigned int y)
{
	size_t colour = colour_of(c);
	bool graded = c->info.use == KVSCK_USE_LOG || c->info.use == KVSCK_USE_TREE;
	unsigned int inner = CELL - 2, full = graded ? (inner * map_fill(m, c) + 99) / 100 : inner;

	fprintf(out, "<g>");
	put_title(out, m, c);
	fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"%s/>", x + 1, y + 1,
		inner, inner, colours[colour].empty, c->victim && c->victim < 10 ? " stroke=\"#000\"" : "");
	if (full)
		fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>", x + 1,
			y + 1 + inner - full, inner, full, colours[colour].full);
	if (c->victim && c->victim < 10)
		fprintf(out, "<text x=\"%u\" y=\"%u\">%u</text>", x + CELL / 2, y + CELL - 5, c->victim);
	fprintf(out, "</g>\n");
}

static void put_legend(FILE *out, const struct map *m)
{
	size_t i, k, nr;

	fputs("<p>", out);
	for (i = 0; i < COLOURS; i++) {
		for (nr = 0, k = 0; k < m->nr; k++)
			nr += colour_of(&m->cell[k]) == i;
		if (nr)
			fprintf(out,
				"<span class=\"k\"><span class=\"b\" style=\"background:%s\"></span>%s "
				"%zu</span>\n",
				colours[i].full, colours[i].name, nr);
	}
	fputs("</p>\n", out);
}

static void put_page(FILE *out, const struct map *m)
{
	unsigned int row = 16;
	size_t i;

	/* about twice as wide as high */
	while ((size_t)row * row / 2 < m->nr && row < 128)
		row += 8;
	fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>", out);
	put_escaped(out, m->image);
	fputs("</title>\n<style>\nbody{font:14px sans-serif;margin:2em;color:#111;background:#fff}\n"
	      "text{font:11px sans-serif;text-anchor:middle}\n.k{margin-right:1.5em;white-space:nowrap}\n"
	      ".b{display:inline-block;width:.9em;height:.9em;margin-right:.4em}\n</style></"
	      "head><body>\n<h1>",
	      out);
	put_escaped(out, m->image);
	fprintf(out,
		"</h1>\n<p>%zu segments of %" PRIu64 " bytes, generation %" PRIu64 ", %s, %" PRIu64
		" problems. Numbers 1 to 9: what GC empties next.</p>\n",
		m->nr, m->segment_bytes, m->generation, m->clean ? "closed cleanly" : "not closed cleanly",
		m->problems);
	put_legend(out, m);
	fprintf(out, "<svg width=\"%u\" height=\"%zu\" role=\"img\">\n", row * CELL,
		(m->nr + row - 1) / row * CELL);
	for (i = 0; i < m->nr; i++)
		put_cell(out, m, &m->cell[i], (unsigned int)(i % row) * CELL,
			 (unsigned int)(i / row) * CELL);
	fputs("</svg>\n</body></html>\n", out);
}

/* A map written over its own volume would be the last one of it. */
static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int map_html(struct kvs *k, const struct map *m, const char *path)
{
	FILE *out;
	int error = 0;

	if (same_file(path, k->image))
		return kvs_complain(EXIT_USAGE, "--html '%s': that is the image itself", path);
	out = fopen(path, "w");
	if (!out)
		return kvs_say(k, EXIT_SYSTEM, "%s cannot be written: %s", path, strerror(errno));
	put_page(out, m);
	if (ferror(out))
		error = errno ? errno : EIO;
	if (fclose(out) && !error)
		error = errno;
	return error ? kvs_say(k, EXIT_SYSTEM, "%s: %s; it is not complete", path, strerror(error))
		     : EXIT_OK;
}
