/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* stream.c - the bytes of a backup stream: frames, their checksums, tokens. */
#include <endian.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "stream.h"

_Static_assert(sizeof(struct frame_head) == 32, "frame_head");
_Static_assert(sizeof(struct stream_head) == 280, "stream_head");
_Static_assert(sizeof(struct record_head) == 12, "record_head");
_Static_assert(sizeof(struct stream_end) == 24, "stream_end");

static uint64_t frame_sum(const struct frame_head *h, const void *payload, size_t n)
{
	return XXH3_64bits_withSeed(payload, n, XXH3_64bits(h, offsetof(struct frame_head, sum)));
}

void frame_seal(struct frame_head *h, enum frame_type type, uint64_t number, const void *payload, size_t n)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, FRAME_MAGIC, sizeof(h->magic));
	h->type = htole32(type);
	h->number = htole64(number);
	h->length = htole32((uint32_t)n);
	h->sum = htole64(frame_sum(h, payload, n));
}

bool frame_fits(const struct frame_head *h, const void *payload)
{
	return !h->reserved && le64toh(h->sum) == frame_sum(h, payload, le32toh(h->length));
}

/* Swapping is its own reverse. */
void stream_head_swap(struct stream_head *h)
{
	h->version = htole32(h->version);
	h->state.generation = htole64(h->state.generation);
	h->base.generation = htole64(h->base.generation);
	h->lsn = htole64(h->lsn);
	h->created = htole64(h->created);
	h->part = htole64(h->part);
	h->block_bytes = htole32(h->block_bytes);
	h->segment_bytes = htole32(h->segment_bytes);
	h->frame_bytes = htole32(h->frame_bytes);
	h->key_max = htole32(h->key_max);
}

uint64_t base_mark(const struct state_id *base)
{
	return base->generation ? XXH3_64bits_withSeed(base->uuid, sizeof(base->uuid), base->generation) : 0;
}

void token_text(const struct token *t, char *text)
{
	size_t i, n = 0;

	for (i = 0; i < sizeof(t->state.uuid); i++)
		n += (size_t)sprintf(text + n, "%02x", t->state.uuid[i]);
	sprintf(text + n, "-%" PRIx64 "-%" PRIx64 "-%" PRIx64, t->state.generation, t->base_mark, t->part);
}

bool token_parse(const char *text, struct token *t)
{
	char again[TOKEN_TEXT];
	size_t i;

	memset(t, 0, sizeof(*t));
	if (strlen(text) >= sizeof(again))
		return false;
	for (i = 0; i < sizeof(t->state.uuid); i++, text += 2) {
		int high = hex_digit((unsigned char)text[0]);
		int low = high < 0 ? -1 : hex_digit((unsigned char)text[1]);

		if (low < 0)
			return false;
		t->state.uuid[i] = (uint8_t)(high << 4 | low);
	}
	if (sscanf(text, "-%" SCNx64 "-%" SCNx64 "-%" SCNx64, &t->state.generation, &t->base_mark,
		   &t->part) != 3)
		return false;
	/* as it is printed, and no other way */
	token_text(t, again);
	return t->part && t->state.generation && !strcmp(again + 2 * sizeof(t->state.uuid), text);
}
