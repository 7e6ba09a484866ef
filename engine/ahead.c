/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ahead.c - separated values that a scan is about to ask for.
 *
 * When a cursor asks for the values of one entry after the other and the cache lacks one, the next ones of
 * the leaf's copy are read with it: sorted by place, neighbours in one transfer, into a buffer of the cursor.
 * How many grows with the scan; bytes are bounded. What fails here is read alone when its turn comes, so
 * nothing is said of errors.
 */
#include "kve.h"

#define VALUES_MIN 8u
#define VALUES_MAX 64u
#define BYTES_MAX (1024u << 10)
#define STREAK 2u  /* steps in one direction that make a scan */
#define SKIP_MAX 8 /* entries that a step may pass over: inline values need no reading */

struct kve_ahead {
	u8 *buf; /* values, then keys */
	size_t cap;
	u32 nr, next; /* of the values in buf; the one that was asked for last */
	u32 window;
	struct {
		u32 slot, at;
		bool good;
	} value[VALUES_MAX];
	struct kve_value_want want[VALUES_MAX];
};

void kve_ahead_free(struct kve_ahead *a)
{
	if (a)
		kvp_free(a->buf);
	kvp_free(a);
}

/* The cursor has come to slot: is that a scan? */
static void step_to(struct kve_scan_at *at, s32 slot)
{
	s32 step = slot - at->slot;

	at->slot = slot;
	if (step > SKIP_MAX || step < -SKIP_MAX || (step && (step > 0) != at->forward)) {
		at->forward = step > 0;
		at->streak = 0;
		if (at->ahead)
			at->ahead->window = VALUES_MIN;
	} else if (step) {
		at->streak++;
	}
}

void kve_scan_leaf(struct kve_scan_at *at, s32 beside)
{
	at->slot = beside;
	if (at->ahead)
		at->ahead->nr = 0;
}

const void *kve_ahead_value(struct kve_scan_at *at, u32 slot)
{
	struct kve_ahead *a = at->ahead;
	u32 i;

	step_to(at, (s32)slot);
	for (i = 0; a && i < a->nr; i++, a->next = (a->next + 1) % a->nr)
		if (a->value[a->next].slot == slot)
			return a->value[a->next].good ? a->buf + a->value[a->next].at : NULL;
	return NULL;
}

/* A plain ref, of a value that fits? */
static bool slot_ref(const u8 *page, u32 frame, u32 slot, struct kvf_value_ref *ref)
{
	const u8 *cell, *value;
	struct kve_entry e;
	u8 flags;
	u32 len;

	cell = kvf_page_cell(page, frame, slot, &len, &flags);
	if ((flags & (KVF_CELL_KIND | KVF_CELL_POISON)) != KVF_CELL_REF)
		return false;
	kve_entry_decode(&e, flags, cell, len, &value);
	*ref = e.ref;
	return e.value_len <= BYTES_MAX;
}

/* The values from slot on that the window holds; end: first slot that is not asked for, in this direction. */
static u32 collect(struct kve_ahead *a, const u8 *page, u32 frame, u32 slot, u32 end, s32 step)
{
	struct kvf_value_ref ref;
	u32 bytes = 0;

	for (a->nr = 0; slot != end && a->nr < a->window; slot += (u32)step) {
		if (!slot_ref(page, frame, slot, &ref))
			continue;
		if (bytes + le32_to_cpu(ref.payload_len) > BYTES_MAX)
			break;
		a->want[a->nr] = (struct kve_value_want){ .ref = ref, .item = a->nr };
		a->value[a->nr].slot = slot;
		a->value[a->nr].at = bytes;
		a->value[a->nr++].good = false;
		bytes += le32_to_cpu(ref.payload_len);
	}
	return bytes;
}

static bool room(struct kve_ahead *a, size_t bytes)
{
	if (a->cap >= bytes && a->buf)
		return true;
	kvp_free(a->buf);
	a->buf = kvp_alloc(bytes, 0);
	a->cap = a->buf ? bytes : 0;
	return a->buf != NULL;
}

bool kve_ahead_due(const struct kve_scan_at *at)
{
	return at->streak >= STREAK;
}

void kve_ahead_read(struct kv_db *db, const struct kv_tree *t, struct kve_scan_at *at, const u8 *page,
		    u32 end)
{
	struct kve_ahead *a = at->ahead;
	u32 frame = db->geo.frame, i, bytes;
	u8 *key;

	if (!a) {
		a = at->ahead = kvp_alloc(sizeof(*a), KVP_ZERO);
		if (!a)
			return;
		a->window = VALUES_MIN;
	}
	bytes = collect(a, page, frame, (u32)at->slot, end, at->forward ? 1 : -1);
	if (a->nr < 2 || !room(a, bytes + (size_t)a->nr * db->geo.key_max)) {
		a->nr = 0;
		return;
	}
	for (i = 0, key = a->buf + bytes; i < a->nr; i++) {
		a->want[i].key = key;
		a->want[i].key_len = kvf_page_key(page, frame, a->value[i].slot, key);
		a->want[i].out = a->buf + a->value[i].at;
		key += a->want[i].key_len;
	}
	kve_values_read(db, t, a->want, a->nr, false);
	for (i = 0; i < a->nr; i++)
		a->value[a->want[i].item].good = !a->want[i].err;
	a->next = 0;
	a->window = KVF_MIN(a->window * 2, VALUES_MAX);
}
