/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kv_ondisk.h - static asserts on the size and the offsets of every structure on the medium. A
 * structure that changes here changes the format: see format/README.md.
 */
#ifndef KV_ONDISK_H
#define KV_ONDISK_H

#include "kv_format.h"

#define KVF_CHECK_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "size of " #type)
#define KVF_CHECK_OFFSET(type, field, off)                                                         \
	_Static_assert(__builtin_offsetof(struct type, field) == (off), "offset of " #type "." #field)

KVF_CHECK_SIZE(kvf_ref, 0x28);
KVF_CHECK_OFFSET(kvf_ref, birth, 0x18);
KVF_CHECK_SIZE(kvf_error_entry, 0x10);
KVF_CHECK_SIZE(kvf_super, 0x200);
KVF_CHECK_OFFSET(kvf_super, uuid, 0x30);
KVF_CHECK_OFFSET(kvf_super, block_shift, 0x60);
KVF_CHECK_OFFSET(kvf_super, seq, 0x70);
KVF_CHECK_OFFSET(kvf_super, incarnation, 0xa0);
KVF_CHECK_OFFSET(kvf_super, replay_lsn, 0xb0);
KVF_CHECK_OFFSET(kvf_super, forest, 0xd0);
KVF_CHECK_OFFSET(kvf_super, prev_generation, 0x120);
KVF_CHECK_OFFSET(kvf_super, errors, 0x178);
KVF_CHECK_OFFSET(kvf_super, reserved, 0x1d8);
KVF_CHECK_SIZE(kvf_segment_header, 0x60);
KVF_CHECK_OFFSET(kvf_segment_header, first_lsn, 0x38);
KVF_CHECK_SIZE(kvf_footer_entry, 8);
KVF_CHECK_SIZE(kvf_footer, 0x60);
KVF_CHECK_OFFSET(kvf_footer, value_bytes, 0x48);
KVF_CHECK_SIZE(kvf_record, 0x38);
KVF_CHECK_OFFSET(kvf_record, lsn, 0x10);
KVF_CHECK_OFFSET(kvf_record, payload_sum, 0x30);
KVF_CHECK_SIZE(kvf_ext, 8);
KVF_CHECK_SIZE(kvf_value_ref, 0x20);
KVF_CHECK_SIZE(kvf_object, 0x18);
KVF_CHECK_SIZE(kvf_page, 0xa8);
KVF_CHECK_OFFSET(kvf_page, body_sum, 0x10);
KVF_CHECK_OFFSET(kvf_page, tree, 0x48);
KVF_CHECK_OFFSET(kvf_page, lower_off, 0x58);
KVF_CHECK_OFFSET(kvf_page, hints, 0x68);
KVF_CHECK_SIZE(kvf_slot, 8);
KVF_CHECK_SIZE(kvf_item, 4);
KVF_CHECK_SIZE(kvf_tree_head, 0x80);
KVF_CHECK_OFFSET(kvf_tree_head, origin, 0x60);
KVF_CHECK_OFFSET(kvf_tree_head, origin_tree, 0x70);
KVF_CHECK_SIZE(kvf_range_delete, 8);
KVF_CHECK_SIZE(kvf_snapshot, 0x60);
KVF_CHECK_OFFSET(kvf_snapshot, origin_uuid, 0x40);
KVF_CHECK_OFFSET(kvf_snapshot, origin_part, 0x58);
KVF_CHECK_SIZE(kvf_snapshot_op, 8);
KVF_CHECK_SIZE(kvf_segment_entry, 0x28);
KVF_CHECK_SIZE(kvf_free, 0x18);

#endif
