/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * page.c - read a page from every place that its ref names and verify each copy.
 *
 * Every copy is read even when the first is good: a bad twin is damage that waits for the other one to
 * follow.
 */
#include "ck.h"

static int load_copy(struct kvsck *ck, u64 block, u32 len, const struct kvf_page_expect *e,
		     struct kvsck_buf *buf)
{
	int err = kvsck_read(ck, block << ck->g.block_shift, buf->p, len);

	if (err)
		return err == -KVE_truncated ? KVF_F_volume_short : KVF_F_io_error;
	return kvf_page_verify(buf->p, len, block, e, &ck->g);
}

u32 kvsck_page_open(const struct kvsck *ck, u8 *page, u32 len)
{
	const struct kvf_page *p = (const struct kvf_page *)page;

	if (!(p->flags & KVF_PAGE_COMPACT))
		return len;
	kvf_leaf_unpack(page, ck->g.frame);
	return ck->g.frame;
}

int kvsck_page_load(struct kvsck *ck, const struct kvf_ref *ref, u32 tree, int level,
		    struct kvsck_buf *buf, struct kvsck_page *out, int findings[2])
{
	struct kvf_page_expect e = { .uuid = ck->sb.uuid, .ref = ref, .tree = tree, .level = level };
	u64 block[2] = { le64_to_cpu(ref->block0), le64_to_cpu(ref->block1) };
	u32 len = le32_to_cpu(ref->blocks) << ck->g.block_shift;
	struct kvsck_buf swap;
	int err;

	findings[0] = findings[1] = 0;
	err = kvsck_buf_reserve(buf, ck->g.frame);
	if (err)
		return err;
	findings[0] = load_copy(ck, block[0], len, &e, buf);
	out->p = buf->p;
	out->len = out->bytes = len;
	out->addr = block[0];
	if (!block[1]) {
		if (findings[0])
			return 1;
		/* Only what is stored once may be compact. */
		out->len = kvsck_page_open(ck, buf->p, len);
		return 0;
	}
	err = kvsck_buf_reserve(&ck->twin, ck->g.frame);
	if (err)
		return err;
	findings[1] = load_copy(ck, block[1], len, &e, &ck->twin);
	if (!findings[0])
		return 0;
	if (findings[1])
		return 1;
	swap = *buf;
	*buf = ck->twin;
	ck->twin = swap;
	out->p = buf->p;
	out->addr = block[1];
	return 0;
}
