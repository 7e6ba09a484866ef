/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* show.c - pages and records of the volume as explain.h describes them. */
#include "show.h"

const char *kvsck_tree_name(const struct kvsck_tree *t)
{
	return t->name[0] ? t->name : kvsck_system_tree(t->id) ? kvsck_system_tree(t->id) : "";
}

void kvsck_show_page(const struct kvsck *ck, const u8 *page, u32 len, struct kvsck_page_info *out)
{
	const struct kvf_page *p = (const struct kvf_page *)page;
	const struct kvsck_tree *t = kvsck_tree_by_id(ck, le32_to_cpu(p->tree));

	memset(out, 0, sizeof(*out));
	out->good = true;
	out->tree = le32_to_cpu(p->tree);
	out->tree_name = t				? kvsck_tree_name(t)
			 : kvsck_system_tree(out->tree) ? kvsck_system_tree(out->tree)
							: "";
	out->level = p->level;
	out->slots = le16_to_cpu(p->nr);
	out->bytes = le32_to_cpu(p->bytes);
	out->generation = le64_to_cpu(p->generation);
	out->lsn = le64_to_cpu(p->lsn);
	out->sum = le64_to_cpu(p->head_sum);
	out->copies = p->block1 != cpu_to_le64(0) ? 2 : 1;
	out->offset[0] = le64_to_cpu(p->block0) << ck->g.block_shift;
	out->offset[1] = le64_to_cpu(p->block1) << ck->g.block_shift;
	out->lower.p = kvf_page_lower(page, len, &out->lower.len);
	out->upper.p = kvf_page_upper(page, len, &out->upper.len);
}

void kvsck_show_visit(const struct kvsck *ck, const struct kvsck_walk *w, const struct kvsck_visit *v,
		      struct kvsck_page_info *out)
{
	const struct kvf_ref *ref = v->ref;

	if (v->page) {
		kvsck_show_page(ck, v->page->p, v->page->len, out);
	} else {
		memset(out, 0, sizeof(*out));
		out->lower = (struct kvsck_bytes){ v->lower, v->lower_len };
		out->upper = (struct kvsck_bytes){ v->upper, v->upper_len };
	}
	out->tree = w->tree->id;
	out->tree_name = kvsck_tree_name(w->tree);
	out->bytes = le32_to_cpu(ref->blocks) << ck->g.block_shift;
	out->generation = le64_to_cpu(ref->birth);
	out->sum = le64_to_cpu(ref->sum);
	out->copies = ref->block1 != cpu_to_le64(0) ? 2 : 1;
	out->offset[0] = le64_to_cpu(ref->block0) << ck->g.block_shift;
	out->offset[1] = le64_to_cpu(ref->block1) << ck->g.block_shift;
	out->finding[0] = v->finding[0];
	out->finding[1] = v->finding[1];
}

void kvsck_show_record(const struct kvsck *ck, const struct kvf_identity *id, u32 off, int finding,
		       int payload, struct kvsck_record_info *out)
{
	const struct kvf_record *r = kvsck_record(ck);

	memset(out, 0, sizeof(*out));
	out->segment = id->segment;
	out->segment_gen = id->segment_gen;
	out->incarnation = id->incarnation;
	out->offset = off;
	out->finding = finding;
	out->payload = payload;
	out->elsewhere = KVSCK_HOME_ALL;
	if (finding)
		return;
	out->elsewhere = ck->elsewhere;
	out->kind = r->kind;
	out->flags = r->flags;
	out->tree = le32_to_cpu(r->tree);
	out->lsn = le64_to_cpu(r->lsn);
	out->txn_index = le32_to_cpu(r->txn_index);
	out->txn_count = le32_to_cpu(r->txn_count);
	out->payload_len = le32_to_cpu(r->payload_len);
	out->key.len = le16_to_cpu(r->key_len);
	out->key.p = kvf_record_key(r);
	out->bytes = (u32)kvf_record_bytes(kvf_record_ext_len(r), out->key.len, out->payload_len);
}
