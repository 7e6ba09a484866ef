/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cmd_explain.c - kvs explain IMAGE KEY: the way from the superblock to the value, a line (or JSON
 * object) for each step. What is wrong stands between the steps where it was found.
 */
#include <string.h>

#include "judge.h"

#define CHUNKS_SHOWN 8u
#define VALUE_SHOWN 64u

struct telling {
	struct fields f;
	uint64_t segment_bytes;
};

static void tell_super(struct telling *t, const struct kvf_super *sb)
{
	t->segment_bytes = 1ull << sb->segment_shift;
	fields_begin(&t->f, "superblock");
	fields_place(&t->f, le64_to_cpu(sb->position), t->segment_bytes);
	fields_number(&t->f, "number", le64_to_cpu(sb->seq));
	fields_number(&t->f, "generation", le64_to_cpu(sb->generation));
	fields_number(&t->f, "replay_lsn", le64_to_cpu(sb->replay_lsn));
	fields_bool(&t->f, "clean", le32_to_cpu(sb->flags) & KVF_SUPER_CLEAN);
	fields_end(&t->f);
}

static void tell_tree(struct telling *t, const struct kvf_tree_head *h)
{
	fields_begin(&t->f, "tree");
	fields_number(&t->f, "id", le32_to_cpu(h->id));
	if (le32_to_cpu(h->id) >= KVF_TREE_USER)
		fields_number(&t->f, "entries", le64_to_cpu(h->count));
	fields_number(&t->f, "created_generation", le64_to_cpu(h->created_gen));
	if (kvf_is_zero(&h->root, sizeof(h->root)))
		fields_bool(&t->f, "empty", true);
	fields_end(&t->f);
}

static void tell_ref(struct telling *t, const struct kvf_value_ref *ref)
{
	fields_number(&t->f, "record_segment", le32_to_cpu(ref->segment));
	fields_number(&t->f, "record_generation", le32_to_cpu(ref->segment_gen));
	fields_number(&t->f, "record_offset", le32_to_cpu(ref->offset));
	fields_number(&t->f, "record_lsn", le64_to_cpu(ref->lsn));
}

static void tell_entry(struct telling *t, const char *what, const struct kvsck_entry_info *e)
{
	uint8_t kind = e->flags & KVF_CELL_KIND;
	size_t shown = e->value.len < VALUE_SHOWN ? e->value.len : VALUE_SHOWN;

	fields_begin(&t->f, what);
	if (e->chunks) {
		fields_number(&t->f, "number", e->chunk);
		fields_number(&t->f, "of", e->chunks);
	}
	fields_number(&t->f, "page", e->page);
	fields_number(&t->f, "slot", e->slot);
	fields_word(&t->f, "value",
		    kind == KVF_CELL_REF      ? "in the log"
		    : kind == KVF_CELL_OBJECT ? "in chunks"
					      : "in the leaf");
	fields_number(&t->f, "length", e->length);
	if (e->flags & KVF_CELL_POISON)
		fields_bool(&t->f, "poisoned", true);
	if (kind == KVF_CELL_REF)
		tell_ref(t, &e->ref);
	if (kind == KVF_CELL_OBJECT) {
		fields_number(&t->f, "object", le64_to_cpu(e->object.object));
		fields_number(&t->f, "chunk_bytes", le32_to_cpu(e->object.chunk_bytes));
	}
	if (e->value.p)
		fields_bytes(&t->f, shown < e->value.len ? "begins" : "is", e->value.p, shown);
	fields_end(&t->f);
}

static void tell_none(struct telling *t, const struct kvsck_step *s)
{
	fields_begin(&t->f, "none");
	if (s->before.p)
		fields_bytes(&t->f, "before", s->before.p, s->before.len);
	if (s->after.p)
		fields_bytes(&t->f, "behind", s->after.p, s->after.len);
	if (!s->before.p && !s->after.p)
		fields_bool(&t->f, "leaf_is_empty", true);
	fields_end(&t->f);
}

static void on_step(void *arg, const struct kvsck_step *s)
{
	struct telling *t = arg;

	switch (s->kind) {
	case KVSCK_STEP_SUPER:
		tell_super(t, s->super);
		break;
	case KVSCK_STEP_PAGE:
		fields_begin(&t->f, "page");
		fields_page(&t->f, &s->page, t->segment_bytes);
		break;
	case KVSCK_STEP_TREE:
		tell_tree(t, s->tree);
		break;
	case KVSCK_STEP_ENTRY:
	case KVSCK_STEP_CHUNK:
		tell_entry(t, s->kind == KVSCK_STEP_ENTRY ? "slot" : "chunk", &s->entry);
		break;
	case KVSCK_STEP_NONE:
		tell_none(t, s);
		break;
	case KVSCK_STEP_RECORD:
	case KVSCK_STEP_LOGGED:
		fields_begin(&t->f, s->kind == KVSCK_STEP_RECORD ? "record" : "logged");
		fields_record(&t->f, &s->record, t->segment_bytes);
		fields_end(&t->f);
		break;
	case KVSCK_STEP_MORE:
		fields_begin(&t->f, "more");
		fields_number(&t->f, "chunks", s->more);
		fields_end(&t->f);
		break;
	}
}

static void on_finding(void *arg, const struct kvsck_finding *found)
{
	struct telling *t = arg;

	if (found->severity == KVSCK_NOTE)
		return;
	fields_begin(&t->f, "problem");
	fields_number(&t->f, "code", (uint64_t)found->code);
	fields_word(&t->f, "name", kvf_finding_name(found->code));
	if (found->offset != KVSCK_NO_OFFSET)
		fields_number(&t->f, "offset", found->offset);
	fields_word(&t->f, "text", found->text[0] ? found->text : kvf_finding_text(found->code));
	fields_end(&t->f);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static const char *answer_word(enum kvsck_answer a)
{
	return a == KVSCK_ANSWER_THERE ? "there" : a == KVSCK_ANSWER_NONE ? "no_key" : "no_tree";
}

static void tell_answer(struct kvs *k, const struct kvsck_explain *x)
{
	const char *now = x->unknown ? "unknown" : answer_word(x->now);
	struct fields f = { .json = false };

	if (k->json) {
		out_fmt("\n  ],\n  \"answer\": \"%s\",\n  \"at_checkpoint\": \"%s\",\n  \"logged\": %llu,\n"
			"  \"damage\": %llu,\n  \"elsewhere\": %llu\n}",
			now, answer_word(x->at_checkpoint), x->logged, x->damage, x->elsewhere);
		out_line();
		return;
	}
	fields_begin(&f, "answer");
	fields_word(&f, "now", now);
	if (x->logged)
		fields_word(&f, "at_checkpoint", answer_word(x->at_checkpoint));
	if (x->damage)
		fields_number(&f, "problems", x->damage);
	if (x->elsewhere)
		fields_number(&f, "problems_elsewhere", x->elsewhere);
	fields_end(&f);
}

static int conclude(struct kvs *k, const struct kvsck_explain *x, const struct bytes *key)
{
	tell_answer(k, x);
	if (x->damage)
		return kvs_say(k, EXIT_CORRUPT,
			       "%llu problem%s on the way to the key; run 'kvs-fsck -n %s'", x->damage,
			       x->damage == 1 ? "" : "s", k->image);
	if (x->now == KVSCK_ANSWER_NO_TREE)
		return kvs_say(k, EXIT_NO, "no tree '%s'; 'kvs trees %s' lists them",
			       k->tree_name ? k->tree_name : "main", k->image);
	return x->now == KVSCK_ANSWER_THERE ? EXIT_OK : kvs_no_key(k, key);
}

static int explain_key(struct kvs *k, struct judge *j)
{
	struct telling t = { .f.json = k->json };
	const char *tree = k->tree_name ? k->tree_name : "main";
	struct kvsck_explain x = { .tree = tree,
				  .tree_len = (uint32_t)strlen(tree),
				  .step = on_step,
				  .arg = &t,
				  .chunks_max = kvs_given(k, OPT_BIT(ALL)) ? ~0ull : CHUNKS_SHOWN };
	struct bytes key = { 0 };
	int err, rc = kvs_key_arg(k, 0, &key);

	if (!rc) {
		x.key = key.p;
		x.key_len = key.n < UINT32_MAX ? (uint32_t)key.n : UINT32_MAX;
		j->opt.found = on_finding;
		j->opt.found_arg = &t;
		if (k->json)
			out_text("{\n  \"steps\": [");
		err = kvsck_explain(&j->io, &j->opt, &x, &j->rep);
		if (err && k->json)
			out_text("\n  ]\n}\n");
		rc = err ? judge_fail(k, err) : conclude(k, &x, &key);
	}
	bytes_free(&key);
	return rc;
}

int cmd_explain(struct kvs *k)
{
	bool addr = kvs_given(k, OPT_BIT(ADDR));
	struct judge j;
	int rc;

	if (addr == (k->args_nr == 1))
		return kvs_complain(EXIT_USAGE, "either a KEY or --addr OFFSET; usage: kvs explain %s",
				    k->cmd->usage);
	rc = judge_open(k, &j);
	if (rc)
		return rc;
	rc = addr ? explain_addr(k, &j) : explain_key(k, &j);
	judge_close(&j);
	return rc;
}
