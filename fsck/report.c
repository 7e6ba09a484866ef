/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * report.c - a finding on its way out: counted, limited per code, as a line of text, as JSON.
 */
#include <stdarg.h>
#include <stdio.h>

#include "ck.h"

#define KEY_TEXT 160 /* bytes of a key in messages, escapes included */

struct kvsck_where kvsck_at(const struct kvsck *ck, u64 off)
{
	struct kvsck_where w = KVSCK_NOWHERE;

	w.offset = off;
	if (ck->g.segment_shift && off >> ck->g.segment_shift < KVF_SEGMENTS_MAX)
		w.segment = kvsck_segment_of(ck, off);
	return w;
}

const char *kvsck_system_tree(u32 id)
{
	switch (id) {
	case KVF_TREE_FOREST:
		return "forest";
	case KVF_TREE_SEGTAB:
		return "segment table";
	case KVF_TREE_OBJECTS:
		return "objects";
	}
	return NULL;
}

void kvsck_found(struct kvsck *ck, enum kvsck_severity sev, int code, const struct kvsck_where *w,
		 const char *fmt, ...)
{
	struct kvsck_report *rep = ck->rep;
	struct kvsck_finding f = { .code = code, .severity = sev };
	u32 *by_code = sev == KVSCK_PROBLEM ? rep->by_code : rep->notes_by_code;
	char text[768];
	va_list ap;

	if (sev == KVSCK_PROBLEM)
		rep->problems++;
	else
		rep->notes++;
	if (code > 0 && code < KVSCK_CODES) {
		by_code[code]++;
		if (ck->opt->max_per_code && by_code[code] > ck->opt->max_per_code)
			return;
	}
	if (!ck->opt->found)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f.text = text;
	f.repairable = w->repairable;
	f.segment = w->segment;
	f.offset = w->offset;
	f.tree = w->tree ? w->tree->id : w->tree_id;
	f.tree_name = w->tree && w->tree->name[0] ? w->tree->name : kvsck_system_tree(f.tree);
	f.range = w->range;
	f.single = w->single;
	f.from = w->from;
	f.from_len = w->from_len;
	f.to = w->to;
	f.to_len = w->to_len;
	ck->opt->found(ck->opt->found_arg, &f);
}

/* ---- output with a bound ---------------------------------------------------------------------- */

struct out {
	char *buf;
	size_t len, pos;
};

static void out_printf(struct out *o, const char *fmt, ...) KVP_PRINTF(2, 3);
static void out_printf(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->pos < o->len ? o->buf + o->pos : NULL, o->pos < o->len ? o->len - o->pos : 0,
		      fmt, ap);
	va_end(ap);
	if (n > 0)
		o->pos += (size_t)n;
}

static void out_key(struct out *o, const u8 *key, u32 len)
{
	char text[KEY_TEXT];

	kvf_key_to_text(text, sizeof(text), key, len);
	out_printf(o, "'%s'", text);
}

size_t kvsck_finding_to_text(char *buf, size_t len, const struct kvsck_finding *f)
{
	struct out o = { buf, len, 0 };
	const char *sep = " ";

	if (len)
		buf[0] = '\0';
	out_printf(&o, "%d %s:", f->code, kvf_finding_name(f->code));
	if (f->segment != KVF_NO_SEGMENT) {
		out_printf(&o, "%ssegment %u", sep, f->segment);
		sep = ", ";
	}
	if (f->offset != KVSCK_NO_OFFSET) {
		out_printf(&o, "%soffset %llu", sep, f->offset);
		sep = ", ";
	}
	if (f->tree) {
		if (f->tree_name)
			out_printf(&o, "%stree '%s'", sep, f->tree_name);
		else
			out_printf(&o, "%stree %u", sep, f->tree);
		sep = ", ";
	}
	if (f->range && f->single) {
		out_printf(&o, "%skey ", sep);
		out_key(&o, f->from, f->from_len);
	} else if (f->range) {
		out_printf(&o, "%skeys ", sep);
		if (f->from)
			out_key(&o, f->from, f->from_len);
		out_printf(&o, "..");
		if (f->to)
			out_key(&o, f->to, f->to_len);
	}
	if (f->segment != KVF_NO_SEGMENT || f->offset != KVSCK_NO_OFFSET || f->tree || f->range)
		out_printf(&o, ":");
	out_printf(&o, " %s", kvf_finding_text(f->code));
	if (f->text[0])
		out_printf(&o, ": %s", f->text);
	if (f->repairable)
		out_printf(&o, " (an intact copy exists)");
	return o.pos;
}

static void out_json_string(struct out *o, const char *s)
{
	out_printf(o, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			out_printf(o, "\\%c", *s);
		else if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			out_printf(o, "\\u%04x", (unsigned char)*s);
		else
			out_printf(o, "%c", *s);
	}
	out_printf(o, "\"");
}

static void out_json_key(struct out *o, const char *name, const u8 *key, u32 len)
{
	char text[KEY_TEXT];

	kvf_key_to_text(text, sizeof(text), key, len);
	out_printf(o, ",\"%s\":", name);
	out_json_string(o, text);
}

size_t kvsck_finding_to_json(char *buf, size_t len, const struct kvsck_finding *f)
{
	struct out o = { buf, len, 0 };

	if (len)
		buf[0] = '\0';
	out_printf(&o, "{\"finding\":%d,\"name\":\"%s\",\"severity\":\"%s\",\"repairable\":%s", f->code,
		   kvf_finding_name(f->code), f->severity == KVSCK_PROBLEM ? "problem" : "note",
		   f->repairable ? "true" : "false");
	if (f->segment != KVF_NO_SEGMENT)
		out_printf(&o, ",\"segment\":%u", f->segment);
	if (f->offset != KVSCK_NO_OFFSET)
		out_printf(&o, ",\"offset\":%llu", f->offset);
	if (f->tree) {
		out_printf(&o, ",\"tree_id\":%u", f->tree);
		if (f->tree_name) {
			out_printf(&o, ",\"tree\":");
			out_json_string(&o, f->tree_name);
		}
	}
	if (f->range && f->single) {
		out_json_key(&o, "key", f->from, f->from_len);
	} else if (f->range) {
		if (f->from)
			out_json_key(&o, "from", f->from, f->from_len);
		if (f->to)
			out_json_key(&o, "to", f->to, f->to_len);
	}
	out_printf(&o, ",\"sentence\":");
	out_json_string(&o, kvf_finding_text(f->code));
	out_printf(&o, ",\"text\":");
	out_json_string(&o, f->text);
	out_printf(&o, "}");
	return o.pos;
}
