/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_format_record.c - records of the log and their extension.
 *
 * As test_format.c: round trips of all kinds, one row for each way to be wrong, flipped bits, random
 * bytes; and that a record passes at its home alone. Rows C8, C16 (docs/CONTRACT.md): what decides
 * where a log ends is the verdict on one record.
 */
#include <stdlib.h>
#include <string.h>

#include "../../format/kvf.h"
#include "tests/unit/suite.h"

#define HOME 1024u

static u64 rng = 0x853c49e6748fea9bull;

static u32 rnd(u32 n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (u32)((rng >> 11) % n);
}

static struct kvf_geometry tiny;
static const struct kvf_identity id = {
	.uuid = "0123456789abcde", .segment = 5, .segment_gen = 7, .incarnation = 3
};

static void setup(void)
{
	ck_assert_int_eq(kvf_geometry_derive(&tiny, 9, 12, 11, 0, 0, 0), 0);
}

static void assert_finding(const char *row, int got, int want)
{
	ck_assert_msg(got == want, "%s: %d (%s), expected %d (%s)", row, got, kvf_finding_name(got), want,
		      kvf_finding_name(want));
}

/* A record with extension and key in memory of its exact size, the payload apart. */
struct made {
	struct kvf_record *r;
	u32 ext_len, head; /* bytes of extension; of header, extension and key */
	u8 payload[256];
};

static struct kvf_ext *ext_of(struct made *m)
{
	return (struct kvf_ext *)(m->r + 1);
}

static void seal(struct made *m)
{
	kvf_record_seal(m->r, &id, HOME, m->ext_len, m->payload, le32_to_cpu(m->r->payload_len));
}

static int verify(const struct made *m)
{
	u32 need;

	return kvf_record_verify(m->r, m->head, &id, HOME, &tiny, &need);
}

/* fields: KVF_EXT_* of the extension, 0: none */
static void make(struct made *m, u8 kind, u8 flags, u32 fields, u32 key_len, u32 payload_len)
{
	u32 units = 1 + (u32)__builtin_popcount(fields);

	m->ext_len = fields ? 8 * units : 0;
	m->head = (u32)sizeof(*m->r) + m->ext_len + key_len;
	m->r = calloc(1, m->head);
	ck_assert_ptr_nonnull(m->r);
	memset(m->payload, 0x5a, sizeof(m->payload));
	m->r->kind = kind;
	m->r->flags = flags | (fields ? KVF_RECORD_EXT : 0);
	m->r->key_len = cpu_to_le16((u16)key_len);
	m->r->payload_len = cpu_to_le32(payload_len);
	m->r->lsn = cpu_to_le64(50);
	m->r->attested = cpu_to_le64(41);
	m->r->tree = cpu_to_le32(KVF_TREE_USER);
	m->r->txn_index = cpu_to_le32(1);
	m->r->txn_count = cpu_to_le32(3);
	if (fields) {
		ext_of(m)->units = (u8)units;
		ext_of(m)->type = KVF_TYPE_STRING;
		ext_of(m)->fields = cpu_to_le16((u16)fields);
	}
	memset((u8 *)(m->r + 1) + m->ext_len, 'k', key_len);
	seal(m);
}

static void drop(struct made *m)
{
	free(m->r);
}

/* ---- what is right ------------------------------------------------------------------------------ */

static const struct {
	u8 kind, flags;
	u32 fields, key_len, payload_len;
} kinds[] = {
	{ KVF_RECORD_PUT, 0, 0, 1, 0 },
	{ KVF_RECORD_PUT, 0, 0, 108, 256 },
	{ KVF_RECORD_PUT, KVF_RECORD_COPY, KVF_EXT_FIELDS, 108, 200 },
	{ KVF_RECORD_PUT, KVF_RECORD_OBJECT, KVF_EXT_EXPIRY, 9, sizeof(struct kvf_object) },
	{ KVF_RECORD_DELETE, 0, 0, 5, 0 },
	{ KVF_RECORD_DELETE, 0, KVF_EXT_VERSION, 5, 0 },
	{ KVF_RECORD_EXTENT, 0, 0, 17, 256 },
	{ KVF_RECORD_TREE_CREATE, 0, 0, 64, 0 },
	{ KVF_RECORD_TREE_CREATE, 0, 0, 4, 128 },
	{ KVF_RECORD_TREE_DROP, 0, 0, 4, 0 },
	{ KVF_RECORD_RANGE_DELETE, 0, 0, 0, 0 },
	{ KVF_RECORD_RANGE_DELETE, 0, 0, 108, 108 },
	{ KVF_RECORD_SEAL, 0, 0, 0, 0 },
	{ KVF_RECORD_SNAPSHOT, 0, 0, 8, sizeof(struct kvf_snapshot_op) },
};

START_TEST(record_round_trip)
{
	u8 padding[16] = { 0 };
	struct made m;
	char text[1024];
	u32 need, used;

	make(&m, kinds[_i].kind, kinds[_i].flags, kinds[_i].fields, kinds[_i].key_len,
	     kinds[_i].payload_len);
	assert_finding("head", kvf_record_verify(m.r, m.head, &id, HOME, &tiny, &need), 0);
	ck_assert_uint_eq(need, 0);
	ck_assert_int_eq(kvf_record_payload_verify(m.r, m.payload, &id, HOME), 0);
	ck_assert_uint_eq(kvf_record_ext_len(m.r), m.ext_len);
	ck_assert_ptr_eq(kvf_record_key(m.r), (u8 *)m.r + m.head - kinds[_i].key_len);
	used = m.head + kinds[_i].payload_len;
	ck_assert_uint_eq(kvf_record_bytes(m.ext_len, kinds[_i].key_len, kinds[_i].payload_len) % 16, 0);
	ck_assert_int_eq(kvf_record_padding_verify(m.r, padding), 0);
	/* FORMAT I-310 */
	if (used % 16) {
		padding[15 - used % 16] = 1;
		ck_assert_int_eq(kvf_record_padding_verify(m.r, padding), KVF_F_record_padding);
	}
	/* FORMAT I-307 */
	if (kinds[_i].payload_len) {
		m.payload[kinds[_i].payload_len - 1] ^= 0x80;
		ck_assert_int_eq(kvf_record_payload_verify(m.r, m.payload, &id, HOME),
				 KVF_F_record_payload);
	}
	ck_assert_uint_lt(kvf_record_to_text(text, sizeof(text), m.r), sizeof(text));
	drop(&m);
}
END_TEST

/* Home, segment, its generation, volume: a record passes where it was made for, and only there. */
START_TEST(record_elsewhere)
{
	struct kvf_identity other = id;
	struct made m;
	u32 need;

	make(&m, KVF_RECORD_PUT, 0, 0, 10, 20);
	assert_finding("offset", kvf_record_verify(m.r, m.head, &id, HOME + 16, &tiny, &need),
		       KVF_F_record_sum);
	ck_assert_int_eq(kvf_record_payload_verify(m.r, m.payload, &id, HOME + 16), KVF_F_record_payload);
	other.segment++;
	assert_finding("segment", kvf_record_verify(m.r, m.head, &other, HOME, &tiny, &need),
		       KVF_F_record_sum);
	other = id;
	other.segment_gen++;
	assert_finding("gen", kvf_record_verify(m.r, m.head, &other, HOME, &tiny, &need),
		       KVF_F_record_sum);
	other = id;
	other.uuid[0] ^= 1;
	assert_finding("uuid", kvf_record_verify(m.r, m.head, &other, HOME, &tiny, &need),
		       KVF_F_record_sum);
	/* FORMAT I-305: whole, but of an abandoned timeline */
	other = id;
	other.incarnation++;
	assert_finding("incarnation", kvf_record_verify(m.r, m.head, &other, HOME, &tiny, &need),
		       KVF_F_record_incarnation);
	drop(&m);
}
END_TEST

/* The answers of docs/FORMAT.md, Checksums. */
START_TEST(known_answers)
{
	struct made m;

	ck_assert(kvp_xxh64("", 0, 0) == 0xef46db3751d8e999ull);
	ck_assert(kvp_xxh64("123456789", 9, 0) == 0x8cb841db40e6ae83ull);
	ck_assert(kvp_xxh64("123456789", 9, 1) == 0x1a4cc2c9e8079790ull);
	ck_assert(kvf_record_seed(&id, HOME) == 0x580a7d4c52ab9a2eull);
	make(&m, KVF_RECORD_DELETE, 0, 0, 1, 0);
	ck_assert(le64_to_cpu(m.r->payload_sum) == kvp_xxh64("", 0, kvf_record_seed(&id, HOME)));
	drop(&m);
}
END_TEST

/* ---- what is wrong ------------------------------------------------------------------------------ */

/* x(row, seal again, finding, kind, change). FORMAT I-302 to I-309 */
#define CASES(x) \
	x(sum, 0, record_sum, PUT, r->tree = cpu_to_le32(17)) \
	x(sum_kind, 0, record_sum, PUT, r->kind = 99) \
	x(kind, 1, record_kind, PUT, r->kind = 10) \
	x(kind_0, 1, record_kind, PUT, r->kind = 0) \
	x(flags, 1, record_kind, PUT, r->flags |= 8) \
	x(put_object, 1, record_kind, PUT, r->flags |= KVF_RECORD_OBJECT) \
	x(delete_payload, 1, record_kind, DELETE, r->payload_len = cpu_to_le32(1)) \
	x(delete_copy, 1, record_kind, DELETE, r->flags |= KVF_RECORD_COPY) \
	x(extent_object, 1, record_kind, EXTENT, r->flags |= KVF_RECORD_OBJECT) \
	x(create_payload, 1, record_kind, TREE_CREATE, r->payload_len = cpu_to_le32(129)) \
	x(drop_payload, 1, record_kind, TREE_DROP, r->payload_len = cpu_to_le32(4)) \
	x(range_payload, 1, record_kind, RANGE_DELETE, r->payload_len = cpu_to_le32(109)) \
	x(seal_key, 1, record_kind, SEAL, (void)r) \
	x(snapshot_payload, 1, record_kind, SNAPSHOT, r->payload_len = cpu_to_le32(9)) \
	x(size, 1, record_size, PUT, r->payload_len = cpu_to_le32(3100)) \
	x(size_huge, 1, record_size, PUT, r->payload_len = cpu_to_le32(0xffffffffu)) \
	x(size_key, 0, record_size, PUT, r->key_len = cpu_to_le16(0xffff)) \
	x(txn_count, 1, record_txn, PUT, r->txn_count = cpu_to_le32(0)) \
	x(txn_index, 1, record_txn, PUT, r->txn_index = cpu_to_le32(3)) \
	x(lsn_0, 1, record_lsn, PUT, r->lsn = cpu_to_le64(0)) \
	x(lsn_txn, 1, record_lsn, PUT, r->lsn = cpu_to_le64(1)) \
	x(lsn_attested, 1, record_lsn, PUT, r->attested = cpu_to_le64(50)) \
	x(ext_fields, 1, record_ext, EXT, e->fields = cpu_to_le16(0x40 | KVF_EXT_EXPIRY)) \
	x(ext_none, 1, record_ext, EXT, e->fields = cpu_to_le16(0)) \
	x(ext_type, 1, record_ext, EXT, e->type = KVF_TYPES) \
	x(ext_reserved, 1, record_ext, EXT, e->reserved = cpu_to_le32(1)) \
	x(ext_units, 1, record_ext, EXT, e->fields = cpu_to_le16(KVF_EXT_VERSION)) \
	x(ext_units_0, 0, record_ext, EXT, e->units = 0)

/* "EXT" in the table: a PUT with the extension of two fields. */
enum shape { PUT, DELETE, EXTENT, TREE_CREATE, TREE_DROP, RANGE_DELETE, SEAL, SNAPSHOT, EXT };
static const struct {
	u8 kind;
	u32 fields;
} shapes[] = {
	[PUT] = { KVF_RECORD_PUT, 0 },
	[DELETE] = { KVF_RECORD_DELETE, 0 },
	[EXTENT] = { KVF_RECORD_EXTENT, 0 },
	[TREE_CREATE] = { KVF_RECORD_TREE_CREATE, 0 },
	[TREE_DROP] = { KVF_RECORD_TREE_DROP, 0 },
	[RANGE_DELETE] = { KVF_RECORD_RANGE_DELETE, 0 },
	[SEAL] = { KVF_RECORD_SEAL, 0 },
	[SNAPSHOT] = { KVF_RECORD_SNAPSHOT, 0 },
	[EXT] = { KVF_RECORD_PUT, KVF_EXT_EXPIRY | KVF_EXT_CREATED },
};

#define CASE_FN(row, again, finding, shape, change) \
	static void case_##row(struct kvf_record *r, struct kvf_ext *e) { (void)r; (void)e; change; }
CASES(CASE_FN)

static const struct {
	const char *row;
	bool again;
	int finding;
	enum shape shape;
	void (*change)(struct kvf_record *r, struct kvf_ext *e);
} cases[] = {
#define CASE_ROW(row, again, finding, shape, change) { #row, again, KVF_F_##finding, shape, case_##row },
	CASES(CASE_ROW)
};

/* The sum alone: the payload does not matter to the verdict on the header. */
static void resum(struct made *m)
{
	u64 seed = kvf_record_seed(&id, HOME);

	m->r->sum = cpu_to_le64(kvp_xxh64((u8 *)m->r + 8, m->head - 8, seed));
}

START_TEST(record_findings)
{
	struct made m;

	make(&m, shapes[cases[_i].shape].kind, 0, shapes[cases[_i].shape].fields, 12, 0);
	cases[_i].change(m.r, m.ext_len ? ext_of(&m) : NULL);
	if (cases[_i].again)
		resum(&m);
	assert_finding(cases[_i].row, verify(&m), cases[_i].finding);
	drop(&m);
}
END_TEST

START_TEST(record_none_and_key_limits)
{
	struct made m;

	/* FORMAT I-301 */
	make(&m, KVF_RECORD_PUT, 0, 0, 12, 0);
	memset(m.r, 0, sizeof(*m.r));
	assert_finding("zeros", verify(&m), KVF_F_record_none);
	drop(&m);
	make(&m, KVF_RECORD_PUT, 0, 0, 109, 0);
	assert_finding("key too long", verify(&m), KVF_F_record_kind);
	drop(&m);
	make(&m, KVF_RECORD_PUT, 0, 0, 0, 0);
	assert_finding("no key", verify(&m), KVF_F_record_kind);
	drop(&m);
	/* FORMAT I-305: sealed for this incarnation, but it says another */
	make(&m, KVF_RECORD_PUT, 0, 0, 12, 0);
	m.r->incarnation = cpu_to_le32(2);
	resum(&m);
	assert_finding("says another", verify(&m), KVF_F_record_incarnation);
	drop(&m);
	/* a copy is older than what was durable when it was made */
	make(&m, KVF_RECORD_PUT, KVF_RECORD_COPY, 0, 12, 0);
	m.r->attested = cpu_to_le64(900);
	resum(&m);
	assert_finding("copy", verify(&m), 0);
	drop(&m);
}
END_TEST

/* How much must be read is found step by step, never beyond the segment. */
START_TEST(record_needs_more)
{
	u32 need, avail, rounds = 0;
	struct made m;
	void *part;
	int finding;

	make(&m, KVF_RECORD_PUT, 0, KVF_EXT_FIELDS, 100, 10);
	for (avail = sizeof(*m.r);; avail = need) {
		part = malloc(avail);
		memcpy(part, m.r, avail);
		finding = kvf_record_verify(part, avail, &id, HOME, &tiny, &need);
		free(part);
		if (!finding)
			break;
		assert_finding("more", finding, KVF_F_record_size);
		ck_assert_uint_gt(need, avail);
		ck_assert_uint_le(need, tiny.segment - HOME);
		rounds++;
	}
	ck_assert_uint_eq(rounds, 2);
	ck_assert_int_eq(kvf_record_verify(m.r, 55, &id, HOME, &tiny, &need), KVF_F_record_size);
	/* at the end of the segment there is no room for a header, or for an extension */
	ck_assert_int_eq(kvf_record_verify(m.r, 56, &id, 4096 - 48, &tiny, &need), KVF_F_record_size);
	ck_assert_uint_eq(need, 0);
	ck_assert_int_eq(kvf_record_verify(m.r, 56, &id, 4096 - 56, &tiny, &need), KVF_F_record_size);
	ck_assert_uint_eq(need, 0);
	ck_assert_int_eq(kvf_record_verify(m.r, 56, &id, 8192, &tiny, &need), KVF_F_record_size);
	drop(&m);
}
END_TEST

START_TEST(record_flipped_bits)
{
	struct made m;
	size_t bit;

	make(&m, KVF_RECORD_PUT, 0, KVF_EXT_VERSION | KVF_EXT_DIGEST, 40, 100);
	for (bit = 0; bit < 8 * m.head; bit++) {
		((u8 *)m.r)[bit / 8] ^= (u8)(1u << bit % 8);
		ck_assert_msg(verify(&m), "bit %zu", bit);
		((u8 *)m.r)[bit / 8] ^= (u8)(1u << bit % 8);
	}
	ck_assert_int_eq(verify(&m), 0);
	for (bit = 0; bit < 8 * 100; bit++) {
		m.payload[bit / 8] ^= (u8)(1u << bit % 8);
		ck_assert(kvf_record_payload_verify(m.r, m.payload, &id, HOME));
		m.payload[bit / 8] ^= (u8)(1u << bit % 8);
	}
	drop(&m);
}
END_TEST

START_TEST(record_random)
{
	u32 i, k, need, good = 0;
	struct made m;
	char text[1024];

	for (i = 0; i < 40000; i++) {
		make(&m, (u8)rnd(10), (u8)rnd(4), rnd(2) ? rnd(KVF_EXT_FIELDS + 1) : 0, rnd(120), rnd(256));
		for (k = rnd(5); k; k--)
			((u8 *)m.r)[rnd(m.head)] = (u8)rnd(256);
		if (i % 2)
			resum(&m);
		if (i % 16 == 0)
			for (k = 0; k < m.head; k++)
				((u8 *)m.r)[k] = (u8)rnd(256);
		good += !kvf_record_verify(m.r, m.head, &id, HOME, &tiny, &need);
		ck_assert_uint_le(need, tiny.segment - HOME);
		kvf_record_to_text(text, sizeof(text), m.r);
		drop(&m);
	}
	/* it is a test of the code behind the sum too */
	ck_assert_uint_gt(good, 1000);
}
END_TEST

START_TEST(ext_random)
{
	u32 i, k, len, got;
	u8 *ext;

	for (i = 0; i < 40000; i++) {
		len = rnd(72);
		ext = malloc(len + !len);
		for (k = 0; k < len; k++)
			ext[k] = k == 0 ? (u8)rnd(9) : k == 1 ? (u8)rnd(11) : k == 2 ? (u8)rnd(72) : 0;
		if (!kvf_ext_verify(ext, len, &got)) {
			ck_assert_uint_le(got, len);
			ck_assert_uint_eq(got, 8 + 8 * (u32)__builtin_popcount(ext[2]));
		}
		free(ext);
	}
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
	Suite *s = suite_create("format_record");
	TCase *t = tcase_create("record");

	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, record_round_trip, 0, COUNT(kinds));
	tcase_add_test(t, record_elsewhere);
	tcase_add_test(t, known_answers);
	tcase_add_loop_test(t, record_findings, 0, COUNT(cases));
	tcase_add_test(t, record_none_and_key_limits);
	tcase_add_test(t, record_needs_more);
	tcase_add_test(t, record_flipped_bits);
	tcase_add_test(t, record_random);
	tcase_add_test(t, ext_random);
	suite_add_tcase(s, t);
	return suite_run(s);
}
