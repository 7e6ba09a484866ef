/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* fields.c - things with named fields, as lines of text or JSON objects; pages and records among them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "judge.h"

void fields_begin(struct fields *f, const char *what)
{
	f->nr = 0;
	if (f->json)
		out_fmt("%s\n    {\"what\": \"%s\"", f->things++ ? "," : "", what);
	else
		out_fmt("%-11s", what);
}

void fields_end(struct fields *f)
{
	if (f->json)
		out_text("}");
	else
		out_line();
}

/* Name of the next field: as it is in JSON, in words in text. */
static void name_put(struct fields *f, const char *name, const char *suffix)
{
	char words[64];
	size_t i;

	if (f->json) {
		out_fmt(", \"%s%s\": ", name, suffix);
		return;
	}
	snprintf(words, sizeof(words), "%s", name);
	for (i = 0; words[i]; i++)
		if (words[i] == '_')
			words[i] = ' ';
	out_fmt("%s%s ", f->nr++ ? ", " : " ", words);
}

void fields_number(struct fields *f, const char *name, uint64_t v)
{
	name_put(f, name, "");
	out_fmt("%" PRIu64, v);
}

void fields_word(struct fields *f, const char *name, const char *word)
{
	name_put(f, name, "");
	if (f->json)
		out_json_string(word, strlen(word));
	else
		out_text(word);
}

void fields_bool(struct fields *f, const char *name, bool v)
{
	name_put(f, name, "");
	out_text(f->json ? v ? "true" : "false" : v ? "yes" : "no");
}

void fields_bytes(struct fields *f, const char *name, const void *p, size_t n)
{
	struct utf8 u = { 0 };
	char shown[256];

	if (!f->json) {
		name_put(f, name, "");
		out_fmt("'%s'", enc_show(p, n, shown, sizeof(shown)));
		return;
	}
	utf8_feed(&u, p, n);
	if (utf8_whole(&u)) {
		name_put(f, name, "");
		out_json_string(p, n);
		return;
	}
	name_put(f, name, "_b64");
	out_text("\"");
	enc_put(ENC_BASE64, p, n);
	out_text("\"");
}

void fields_sum(struct fields *f, const char *name, uint64_t v)
{
	char text[20];

	snprintf(text, sizeof(text), "%016" PRIx64, v);
	fields_word(f, name, text);
}

void fields_verdict(struct fields *f, int finding)
{
	fields_word(f, "verdict", finding ? kvf_finding_name(finding) : "good");
}

void fields_place(struct fields *f, uint64_t offset, uint64_t segment_bytes)
{
	fields_number(f, "offset", offset);
	fields_number(f, "segment", offset / segment_bytes);
	fields_number(f, "segment_offset", offset % segment_bytes);
}

/* ---- records --------------------------------------------------------------------------------- */

const char *fields_record_kind(uint8_t kind)
{
	static const char *const names[] = {
		[KVF_RECORD_PUT] = "put",
		[KVF_RECORD_DELETE] = "delete",
		[KVF_RECORD_EXTENT] = "extent",
		[KVF_RECORD_TREE_CREATE] = "tree_create",
		[KVF_RECORD_TREE_DROP] = "tree_drop",
		[KVF_RECORD_RANGE_DELETE] = "range_delete",
		[KVF_RECORD_SEAL] = "seal",
		[KVF_RECORD_SNAPSHOT] = "snapshot",
		[KVF_RECORD_PAD] = "pad",
	};

	return kind && kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

void fields_record(struct fields *f, const struct kvsck_record_info *r, uint64_t segment_bytes)
{
	fields_place(f, r->segment * segment_bytes + r->offset, segment_bytes);
	fields_number(f, "generation", r->segment_gen);
	fields_number(f, "incarnation", r->incarnation);
	if (r->finding) {
		fields_verdict(f, r->finding);
		return;
	}
	fields_word(f, "kind", fields_record_kind(r->kind));
	fields_number(f, "lsn", r->lsn);
	fields_number(f, "bytes", r->bytes);
	fields_number(f, "tree", r->tree);
	fields_bytes(f, "key", r->key.p, r->key.len);
	fields_number(f, "length", r->payload_len);
	fields_number(f, "change", r->txn_index + 1);
	fields_number(f, "of", r->txn_count);
	if (r->flags & KVF_RECORD_COPY)
		fields_bool(f, "copy", true);
	if (r->elsewhere != KVSCK_HOME_ALL)
		fields_number(f, "not_at_home_from", r->elsewhere);
	fields_word(f, "header", "good");
	fields_word(f, "payload", r->payload ? kvf_finding_name(r->payload) : "good");
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void page_copies(struct fields *f, const struct kvsck_page_info *p, uint64_t segment_bytes)
{
	uint32_t i;

	for (i = 0; i < p->copies; i++) {
		fields_begin(f, "copy");
		fields_number(f, "number", i);
		fields_place(f, p->offset[i], segment_bytes);
		fields_verdict(f, p->finding[i]);
		fields_end(f);
	}
}

void fields_page(struct fields *f, const struct kvsck_page_info *p, uint64_t segment_bytes)
{
	fields_number(f, "tree", p->tree);
	if (p->tree_name[0])
		fields_bytes(f, "name", p->tree_name, strlen(p->tree_name));
	if (p->good) {
		fields_number(f, "level", p->level);
		fields_number(f, "slots", p->slots);
		fields_number(f, "lsn", p->lsn);
	}
	fields_number(f, "bytes", p->bytes);
	if (p->copies) {
		fields_number(f, "generation", p->generation);
		fields_sum(f, "sum", p->sum);
	}
	if (p->lower.p)
		fields_bytes(f, "from", p->lower.p, p->lower.len);
	if (p->upper.p)
		fields_bytes(f, "to", p->upper.p, p->upper.len);
	fields_end(f);
	page_copies(f, p, segment_bytes);
}
