/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * salted.h - what the keys of a volume hold: each a value that the number of the change gives which wrote it.
 *
 *	#define KEYS 600u	how many keys
 *	#define VALUE_MAX 2000u	the longest value
 *	#include "tests/unit/salted.h"
 *	key_make(), value_make(): the test's own
 */
#ifndef TESTS_UNIT_SALTED_H
#define TESTS_UNIT_SALTED_H

#include "tests/unit/judged.h"

struct content {
	uint32_t salt[KEYS]; /* 0: nothing */
	uint32_t next, inline_share; /* of 100 values so many are small */
	u64 rnd;
};

static size_t key_make(char *key, uint32_t i);
static size_t value_make(struct volume *v, const struct content *c, uint8_t *buf, uint32_t salt);

static inline uint32_t roll(struct content *c, uint32_t n)
{
	return (uint32_t)((rnd_next(&c->rnd) >> 33) % n);
}

static inline void set(struct volume *v, struct content *c, uint32_t i)
{
	uint8_t value[VALUE_MAX];
	char key[32];
	size_t key_len = key_make(key, i), len = value_make(v, c, value, ++c->next);

	ok(kv_put(v->db, NULL, key, key_len, value, len, 0));
	c->salt[i] = c->next;
}

static inline void unset(struct volume *v, struct content *c, uint32_t i)
{
	char key[32];
	size_t key_len = key_make(key, i);

	must_be(kv_del(v->db, NULL, key, key_len, 0), c->salt[i] ? KV_OK : KV_E_NOTFOUND);
	c->salt[i] = 0;
}

/* The state of r, NULL: the live one. */
static inline void verify_in(struct volume *v, kv_read *r, const struct content *c)
{
	uint8_t want[VALUE_MAX], got[VALUE_MAX];
	size_t len, got_len, key_len;
	char key[32];
	uint32_t i;

	for (i = 0; i < KEYS; i++) {
		key_len = key_make(key, i);
		must_be(r ? kv_read_get_into(r, NULL, key, key_len, got, sizeof(got), &got_len) :
			    kv_get_into(v->db, NULL, key, key_len, got, sizeof(got), &got_len),
			c->salt[i] ? KV_OK : KV_E_NOTFOUND);
		if (!c->salt[i])
			continue;
		len = value_make(v, c, want, c->salt[i]);
		must(got_len == len && !memcmp(got, want, len));
	}
}

static inline void verify(struct volume *v, const struct content *c)
{
	verify_in(v, NULL, c);
}

#endif
