/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.h - what explain and map share: the image as fsck/ sees it, and lines of named fields.
 */
#ifndef KVS_JUDGE_H
#define KVS_JUDGE_H

#include "../fsck/explain.h"
#include "kvs.h"

/* ---- the image (judge.c) --------------------------------------------------------------------- */

struct judge {
	struct kvsck_file file;
	struct kvsck_io io;
	struct kvsck_options opt;
	struct kvsck_report rep;
};

/* For reading, locked against writers. EXIT_OK, or the exit code after a message. */
int judge_open(struct kvs *k, struct judge *j);
void judge_close(struct judge *j);
/* A code of fsck/ told; returns the exit code. */
int judge_fail(struct kvs *k, int err);

/* ---- fields (fields.c) ----------------------------------------------------------------------- */

/*
 * A thing with named fields: a line "what  name value, name value" of text, or a JSON object whose
 * first field is "what". Objects are separated by commas.
 */
struct fields {
	bool json;
	unsigned int things, nr;
};

void fields_begin(struct fields *f, const char *what);
void fields_end(struct fields *f);
void fields_number(struct fields *f, const char *name, uint64_t v);
/* A word of our own. */
void fields_word(struct fields *f, const char *name, const char *word);
void fields_bool(struct fields *f, const char *name, bool v);
/* Bytes of a user: in JSON name, or name_b64 where they are not UTF-8. */
void fields_bytes(struct fields *f, const char *name, const void *p, size_t n);
/* 16 hexadecimal digits. */
void fields_sum(struct fields *f, const char *name, uint64_t v);
/* "verdict": good, or the name of the finding. */
void fields_verdict(struct fields *f, int finding);
/* offset, segment, segment_offset */
void fields_place(struct fields *f, uint64_t offset, uint64_t segment_bytes);
/* The record, its place first. */
void fields_record(struct fields *f, const struct kvsck_record_info *r, uint64_t segment_bytes);
/* The page, which ends the thing; then a thing for each copy. */
void fields_page(struct fields *f, const struct kvsck_page_info *p, uint64_t segment_bytes);
const char *fields_record_kind(uint8_t kind);

/* explain_addr.c: kvs explain --addr. Exit code. */
int explain_addr(struct kvs *k, struct judge *j);

/* ---- map ------------------------------------------------------------------------------------- */

/* A segment, and how soon GC will empty it: 0 not at all, 1 next. */
struct map_cell {
	struct kvsck_segment_info info;
	uint64_t score;
	uint32_t victim;
};

struct map {
	const char *image;
	uint64_t segment_bytes, generation, replay_lsn, next_lsn, problems;
	uint8_t uuid[16];
	bool clean;
	struct map_cell *cell;
	size_t nr;
};

/* Letter and name of what a cell is. */
char map_letter(const struct map_cell *c);
const char *map_kind(const struct map_cell *c);
/* Of the segment's bytes, in percent. */
unsigned int map_fill(const struct map *m, const struct map_cell *c);
/* map_html.c: one file that needs no other. Exit code. */
int map_html(struct kvs *k, const struct map *m, const char *path);

#endif
