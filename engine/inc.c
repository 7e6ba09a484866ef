/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * inc.c - increments: numbers as text in values.
 */
#include "kve.h"

/* ---- numbers: sign, then 0x, 0b, 0 or decimal ---------------------------------------------------- */

static int digit_of(u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

static int number_parse(const u8 *s, size_t len, s64 *out)
{
	bool minus = false;
	u64 v = 0, limit;
	size_t i = 0;
	u32 base = 10;
	int d;

	if (len && s[len - 1] == '\n') /* as 'echo' writes it */
		len--;
	if (i < len && (s[i] == '-' || s[i] == '+'))
		minus = s[i++] == '-';
	if (len - i > 2 && s[i] == '0' && (s[i + 1] | 0x20) == 'x') {
		base = 16;
		i += 2;
	} else if (len - i > 2 && s[i] == '0' && (s[i + 1] | 0x20) == 'b') {
		base = 2;
		i += 2;
	} else if (len - i > 1 && s[i] == '0') {
		base = 8;
		i++;
	}
	if (i >= len)
		return -KVE_not_a_number;
	limit = minus ? 1ull << 63 : (1ull << 63) - 1;
	for (; i < len; i++) {
		d = digit_of(s[i]);
		if (d >= (int)base)
			return -KVE_not_a_number;
		if (v > (limit - (u64)d) / base)
			return -KVE_overflow;
		v = v * base + (u64)d;
	}
	*out = minus ? (s64)(0 - v) : (s64)v;
	return 0;
}

#define NUMBER_BYTES 96u /* sign, 0b, 64 digits, and room for zeros in front */

struct increment {
	s64 delta, sum;
	char text[32];
};

/* The sum becomes what op stores. */
static int add(struct kve_op *op, const u8 *text, size_t len)
{
	struct increment *inc = op->arg;
	s64 v = 0;
	int err = number_parse(text, len, &v);

	if (!err && __builtin_add_overflow(v, inc->delta, &inc->sum))
		err = -KVE_overflow;
	if (err)
		return err;
	op->value = inc->text;
	op->value_len = (u32)kvp_snprintf(inc->text, sizeof(inc->text), "%lld", inc->sum);
	return 0;
}

/* In the leaf, where a number usually is. */
static int compute(struct kve_op *op, const struct kve_entry *e, const u8 *value)
{
	if (!e)
		return -KVE_not_found;
	if (e->flags & KVF_CELL_POISON || (e->flags & KVF_CELL_KIND) != KVF_CELL_INLINE)
		return -KVE_restart;
	return e->value_len > NUMBER_BYTES ? -KVE_not_a_number : add(op, value, (size_t)e->value_len);
}

/* Wherever it is. Writer lock closed. */
static int read_and_add(struct kv_db *db, struct kve_op *op)
{
	u8 text[NUMBER_BYTES];
	struct kve_entry e;
	int err = kve_tree_get(op->tree, KVE_LIVE, op->key, op->key_len, &e, text, sizeof(text));

	if (err)
		return err;
	if (e.flags & KVF_CELL_POISON)
		return kve_fail(db, KVE_corrupt_value, "%s", kvf_finding_text(KVF_F_value_poison));
	if (e.value_len > sizeof(text) || (e.flags & KVF_CELL_KIND) == KVF_CELL_OBJECT)
		return -KVE_not_a_number;
	if ((e.flags & KVF_CELL_KIND) == KVF_CELL_REF)
		err = kve_value_read(db, op->tree, &e.ref, op->key, op->key_len, text);
	return err ? err : add(op, text, (size_t)e.value_len);
}

static int alone(struct kv_db *db, struct kve_op *op, bool kill_safe, u64 *lsn)
{
	int err;

	op->compute = NULL;
	kvp_gate_close(&db->writer);
	err = op->tree->dropped ? -KVE_no_tree : read_and_add(db, op);
	if (!err)
		err = kve_commit_locked(db, op, 1, 0, lsn);
	if (!err && kill_safe)
		err = kve_log_kill_safe(db);
	kvp_gate_open(&db->writer);
	return err;
}

int kv_inc(kv_db *db, kv_tree *tree, const void *key, size_t key_len, int64_t delta, int64_t *result,
	   uint32_t flags)
{
	struct increment inc = { .delta = delta };
	struct kve_op op = { .kind = KVF_RECORD_PUT, .key = key, .compute = compute, .arg = &inc };
	int durability, err = kve_enter(db, true);
	u64 lsn = 0;

	if (!err)
		err = kve_key_check(db, key, key_len);
	if (!err)
		err = kve_flags_check(db, flags, 0);
	if (err)
		return kve_return(db, err);
	op.tree = kve_tree_of(db, tree);
	op.key_len = (u32)key_len;
	durability = kve_durability(db, flags);
	err = kve_commit_beside(db, &op, flags);
	lsn = op.lsn;
	if (err == -KVE_restart)
		err = alone(db, &op, durability == KV_KILL_SAFE, &lsn);
	if (!err && durability == KV_SYNCED)
		err = kve_log_sync(db, lsn);
	if (!err && result)
		*result = inc.sum;
	return kve_return(db, err);
}
