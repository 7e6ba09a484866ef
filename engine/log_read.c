/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log_read.c - reading records back: values by ref, one or many, the entries of a segment for its footer.
 *
 * A value is served only if header, key, LSN and both checksums agree with what the leaf says.
 */
#include "log_internal.h"

int kve_log_entry_add(struct kve_log *log, u32 offset, u32 bytes)
{
	struct kvf_footer_entry *e;
	u32 nr = log->entries_nr;

	if (kvp_array_room(&log->entries, &log->entries_cap, nr, nr + 1, sizeof(*e)))
		return -KVE_no_memory;
	e = &log->entries[log->entries_nr++];
	e->offset = cpu_to_le32(offset);
	e->bytes = cpu_to_le32(bytes);
	log->value_bytes += bytes;
	return 0;
}

/*
 * A head segment that was resumed: the entries of the records before. Behind a damaged record the walk
 * goes on at the next block. Flush and writer lock.
 */
int kve_log_entries_complete(struct kv_db *db)
{
	struct kve_log *log = &db->log;
	struct kvf_footer_entry *later;
	u32 at = db->geo.block, need, bytes, later_nr = log->entries_nr, resumed = log->resumed, i;
	const struct kvf_record *r;
	struct kvf_identity id;
	u8 *buf;
	int err;

	if (!log->resumed)
		return 0;
	later = kvp_alloc_array(later_nr + 1, sizeof(*later), 0);
	buf = kvp_iobuf_alloc(log->resumed);
	err = later && buf ? kvp_dev_read(db->dev, kve_segment_offset(db, log->pos.segment), buf,
					  log->resumed) : -KVE_no_memory;
	if (err)
		goto out;
	if (later_nr)
		memcpy(later, log->entries, later_nr * sizeof(*later));
	log->entries_nr = 0;
	log->value_bytes = 0;
	kve_identity(db, log->pos.segment, log->pos.gen, log->pos.incarnation, &id);
	while (!err && at + sizeof(*r) <= log->resumed) {
		r = (const struct kvf_record *)(buf + at);
		if (kvf_record_verify(r, log->resumed - at, &id, at, &db->geo, &need)) {
			at = (u32)KVF_ROUND_UP(at + 1, db->geo.block);
			continue;
		}
		bytes = (u32)kvf_record_bytes(kvf_record_ext_len(r), le16_to_cpu(r->key_len),
					      le32_to_cpu(r->payload_len));
		if (kve_record_separated(db, r))
			err = kve_log_entry_add(log, at, bytes);
		log->records++;
		at += bytes;
	}
	for (i = 0; !err && i < later_nr; i++)
		err = kve_log_entry_add(log, le32_to_cpu(later[i].offset), le32_to_cpu(later[i].bytes));
	if (!err)
		log->resumed = 0;
out:
	kvp_iobuf_free(buf, resumed);
	kvp_free(later);
	return err;
}

bool kve_record_separated(const struct kv_db *db, const struct kvf_record *r)
{
	if (r->kind != KVF_RECORD_PUT && r->kind != KVF_RECORD_EXTENT)
		return false;
	return !(r->flags & KVF_RECORD_OBJECT) &&
	       kve_separate(db, le16_to_cpu(r->key_len), le32_to_cpu(r->payload_len));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Of the whole record. */
static u64 ref_bytes(const struct kvf_value_ref *ref)
{
	return (u64)le16_to_cpu(ref->head_len) + le32_to_cpu(ref->payload_len);
}

/* From where on a segment's bytes are in the ring, and perhaps nowhere else. */
struct ringed {
	u32 segment, gen, from, base;
};

/* The head, and the end of the segment before it. */
static void ringed_look(const struct kve_log *log, struct ringed r[2]) KVP_REQUIRES(log->append);
static void ringed_look(const struct kve_log *log, struct ringed r[2])
{
	const struct kve_log_flight *f = kve_log_flight_before(log);

	r[0].segment = log->pos.segment;
	r[0].gen = log->pos.gen;
	r[0].from = log->ring ? log->written : ~0u;
	r[0].base = log->base;
	r[1] = r[0];
	if (f && !KVP_BUG("ending-unread")) {
		r[1].segment = f->segment;
		r[1].gen = f->gen;
		r[1].from = f->from;
		r[1].base = f->base;
	}
}

/* NULL: all of it is at home. */
static const struct ringed *ringed_part(const struct ringed r[2], const struct kvf_value_ref *ref, u32 bytes)
{
	const struct ringed *p;

	for (p = r; p < r + 2; p++)
		if (le32_to_cpu(ref->segment) == p->segment && le32_to_cpu(ref->segment_gen) == p->gen)
			return le32_to_cpu(ref->offset) + (u64)bytes > p->from ? p : NULL;
	return NULL;
}

/* Bytes that are not at home yet come from the ring. False: all of it is at home. */
static bool read_ring(struct kv_db *db, const struct kvf_value_ref *ref, u32 bytes, u8 *buf, u32 *home)
{
	struct kve_log *log = &db->log;
	u32 from = le32_to_cpu(ref->offset), end = from + bytes, at, part;
	const struct ringed *p;
	struct ringed r[2];

	*home = bytes;
	kvp_mutex_lock(&log->append);
	ringed_look(log, r);
	p = ringed_part(r, ref, bytes);
	if (p) {
		*home = from < p->from ? p->from - from : 0;
		from += *home;
		while (from < end) {
			at = kve_log_ring_at(log, p->base, from);
			part = KVF_MIN(end - from, log->ring_bytes - at);
			memcpy(buf + (from - le32_to_cpu(ref->offset)), log->ring + at, part);
			from += part;
		}
	}
	kvp_mutex_unlock(&log->append);
	return *home < bytes;
}

/* Blocks that only the tail places or the window hold: read-only opening after a crash. */
static void patch(struct kv_db *db, u32 segment, u32 start, u8 *buf, u32 len)
{
	struct kve_patch *p;

	for (p = db->patches; p; p = p->next)
		if (p->segment == segment && p->offset >= start && p->offset < start + len)
			memcpy(buf + (p->offset - start), p->block, db->geo.block);
}

static int value_verify(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref,
			const u8 *rec, u32 bytes, const void *key, u32 key_len)
{
	const struct kvf_record *r = (const struct kvf_record *)rec;
	struct kvf_identity id;
	u32 need;
	int finding;

	if (KVP_BUG("no-value-check"))
		return 0;
	kve_identity(db, le32_to_cpu(ref->segment), le32_to_cpu(ref->segment_gen),
		     le32_to_cpu(r->incarnation), &id);
	finding = kvf_record_verify(r, bytes, &id, le32_to_cpu(ref->offset), &db->geo, &need);
	if (finding)
		return finding;
	if (r->lsn != ref->lsn || le32_to_cpu(r->payload_len) != le32_to_cpu(ref->payload_len) ||
	    (u32)le64_to_cpu(r->payload_sum) != le32_to_cpu(ref->sum32) ||
	    kvf_record_ext_len(r) + le16_to_cpu(r->key_len) + sizeof(*r) != le16_to_cpu(ref->head_len))
		return KVF_F_value_mismatch;
	if ((le32_to_cpu(r->tree) != t->id && !kve_shared_value(t, ref)) ||
	    le16_to_cpu(r->key_len) != key_len || memcmp(kvf_record_key(r), key, key_len))
		return KVF_F_value_key;
	return kvf_record_payload_verify(r, rec + le16_to_cpu(ref->head_len), &id,
					 le32_to_cpu(ref->offset));
}

static int value_fetch(struct kv_db *db, const struct kvf_value_ref *ref, u32 bytes, u8 *buf, u32 skip)
{
	u32 segment = le32_to_cpu(ref->segment), start = le32_to_cpu(ref->offset) - skip, len, home;
	int err;

	/* The ring first: what is written home meanwhile is then read from there. */
	read_ring(db, ref, bytes, buf + skip, &home);
	if (!home)
		return 0;
	len = (u32)KVF_ROUND_UP(skip + home, db->geo.block);
	if (home == bytes) {
		err = kvp_dev_read(db->dev, kve_segment_offset(db, segment) + start, buf, len);
		if (!err)
			patch(db, segment, start, buf, len);
		return err;
	}
	/* Part of it in the ring: it begins at a block, so a read of the home blocks spares it. */
	return kvp_dev_read(db->dev, kve_segment_offset(db, segment) + start, buf,
			    (u32)KVF_ROUND_DOWN(skip + home, db->geo.block));
}

/* Could a record be there? */
static bool ref_possible(struct kv_db *db, const struct kvf_value_ref *ref)
{
	u32 segment = le32_to_cpu(ref->segment), off = le32_to_cpu(ref->offset);

	return le16_to_cpu(ref->head_len) >= sizeof(struct kvf_record) && off >= db->geo.block &&
	       off % KVF_RECORD_ALIGN == 0 && off + ref_bytes(ref) <= db->geo.segment &&
	       segment >= KVF_SEG_FIRST && kve_segment_offset(db, segment) < kvp_load(&db->dev->size);
}

static int value_bad(struct kv_db *db, const struct kvf_value_ref *ref, const void *key, u32 key_len,
		     int finding)
{
	char name[80];

	kvf_key_to_text(name, sizeof(name), key, key_len);
	return kve_fail(db, KVE_corrupt_value, "key '%s': segment %u offset %u: %s; run 'kvs-fsck -n %s'",
			name, le32_to_cpu(ref->segment), le32_to_cpu(ref->offset), kvf_finding_text(finding),
			db->dev->name);
}

/* The payload of the record at rec, if that is the one. */
static int value_take(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref,
		      const u8 *rec, const void *key, u32 key_len, void *out)
{
	int finding = value_verify(db, t, ref, rec, (u32)ref_bytes(ref), key, key_len);

	if (finding)
		return value_bad(db, ref, key, key_len, finding);
	memcpy(out, rec + le16_to_cpu(ref->head_len), le32_to_cpu(ref->payload_len));
	return 0;
}

int kve_value_read(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref,
		   const void *key, u32 key_len, void *out)
{
	u32 skip = le32_to_cpu(ref->offset) & (db->geo.block - 1);
	u64 bytes = ref_bytes(ref), room = KVF_ROUND_UP(skip + bytes, db->geo.block);
	u8 *buf;
	int err;

	if (!ref_possible(db, ref))
		return value_bad(db, ref, key, key_len, KVF_F_value_bounds);
	buf = kvp_iobuf_alloc((size_t)room);
	if (!buf)
		return -KVE_no_memory;
	err = value_fetch(db, ref, (u32)bytes, buf, skip);
	if (!err)
		err = value_take(db, t, ref, buf + skip, key, key_len, out);
	kvp_iobuf_free(buf, (size_t)room);
	return err;
}

int kve_value_get(struct kv_db *db, const struct kv_tree *t, const struct kvf_value_ref *ref, const void *key,
		  u32 key_len, void *out, bool push)
{
	u64 hash = kve_value_hash(t, key, key_len);
	int err;

	if (kve_values_get(db, hash, ref, out))
		return 0;
	err = kve_value_read(db, t, ref, key, key_len, out);
	if (!err)
		kve_values_put(db, hash, ref, out, push);
	return err;
}

/* ---- many values ------------------------------------------------------------------------------- */

#define GAP_MAX (16u << 10)   /* bytes between two values that are read along */
#define RUN_MAX (256u << 10)  /* of one transfer, unless a value is larger */
#define WAVE_MAX (1024u << 10) /* of all that are under way */
#define WAVE_RUNS 64u

/* Neighbours that one transfer brings. */
struct run {
	u32 first, nr; /* wants */
	u32 start, len; /* in the segment: whole blocks */
	u8 *buf;
};

struct wave {
	struct run run[WAVE_RUNS];
	struct kvp_io io[WAVE_RUNS];
	u32 nr;
};

static u64 place_of(const struct kve_value_want *w)
{
	return (u64)le32_to_cpu(w->ref.segment) << 32 | le32_to_cpu(w->ref.offset);
}

/* In place: there are few. */
static void wants_sort(struct kve_value_want *w, u32 n)
{
	struct kve_value_want one;
	u32 i, at;

	for (i = 1; i < n; i++) {
		one = w[i];
		for (at = i; at && place_of(&w[at - 1]) > place_of(&one); at--)
			w[at] = w[at - 1];
		w[at] = one;
	}
}

static void want_read(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, bool push)
{
	w->err = kve_value_read(db, t, &w->ref, w->key, w->key_len, w->out);
	if (!w->err)
		kve_values_put(db, w->hash, &w->ref, w->out, push);
}

#define NEAR_AHEAD 4u /* values that are on their way while one is copied */

/* What the cache has is done, the others go to the front. Returns how many they are. */
static u32 wants_cached(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, u32 n)
{
	struct kve_value_want one;
	u32 i, left = 0;

	for (i = 0; i < n; i++) {
		w[i].hash = kve_value_hash(t, w[i].key, w[i].key_len);
		kve_values_expect(db, w[i].hash);
	}
	for (i = 0; i < n; i++) {
		if (i + NEAR_AHEAD < n)
			kve_values_near(db, w[i + NEAR_AHEAD].hash, 0);
		w[i].err = 0;
		if (kve_values_get(db, w[i].hash, &w[i].ref, w[i].out))
			continue;
		one = w[left];
		w[left++] = w[i];
		w[i] = one;
	}
	return left;
}

/*
 * What cannot be there, or is not at home yet, is read by itself; the others, at home for good, go to the
 * front. Returns how many they are.
 */
static u32 wants_home(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, u32 n, bool push)
{
	struct kve_log *log = &db->log;
	struct kve_value_want one;
	struct ringed r[2];
	u32 i, left = 0;

	kvp_mutex_lock(&log->append);
	ringed_look(log, r);
	kvp_mutex_unlock(&log->append);
	for (i = 0; i < n; i++) {
		one = w[i];
		if (!ref_possible(db, &one.ref) || ringed_part(r, &one.ref, (u32)ref_bytes(&one.ref))) {
			want_read(db, t, &w[i], push);
			continue;
		}
		w[i] = w[left];
		w[left++] = one;
	}
	return left;
}

/* The run that begins with the first of n wants. */
static void run_collect(struct kv_db *db, const struct kve_value_want *w, u32 n, struct run *r)
{
	u32 from = le32_to_cpu(w->ref.offset), end = from + (u32)ref_bytes(&w->ref), next, next_end;

	r->start = (u32)KVF_ROUND_DOWN(from, db->geo.block);
	for (r->nr = 1; r->nr < n && w[r->nr].ref.segment == w->ref.segment; r->nr++) {
		next = le32_to_cpu(w[r->nr].ref.offset);
		next_end = next + (u32)ref_bytes(&w[r->nr].ref);
		if (next > end + GAP_MAX || next_end > r->start + RUN_MAX)
			break;
		end = KVF_MAX(end, next_end);
	}
	r->len = (u32)KVF_ROUND_UP(end, db->geo.block) - r->start;
}

/* Runs for the wants from at on, as many as may be under way at once. Returns where the next wave begins. */
static u32 wave_collect(struct kv_db *db, const struct kve_value_want *w, u32 n, u32 at, struct wave *v)
{
	u32 bytes = 0;
	struct run *r;

	for (v->nr = 0; v->nr < WAVE_RUNS && at < n; v->nr++) {
		r = &v->run[v->nr];
		run_collect(db, w + at, n - at, r);
		r->first = at;
		if (bytes && bytes + r->len > WAVE_MAX)
			break;
		bytes += r->len;
		at += r->nr;
	}
	return at;
}

static void wave_read(struct kv_db *db, const struct kve_value_want *w, struct wave *v)
{
	struct run *r;
	u32 i, nr = 0;

	for (i = 0; i < v->nr; i++) {
		r = &v->run[i];
		r->buf = kvp_iobuf_alloc(r->len);
		if (r->buf)
			v->io[nr++] = (struct kvp_io){ .op = KVP_IO_READ, .buf = r->buf, .len = r->len,
				.off = kve_segment_offset(db, le32_to_cpu(w[r->first].ref.segment)) +
				       r->start };
	}
	if (nr)
		kvp_dev_batch(db->dev, v->io, nr);
}

/* Verify what came. A transfer that failed says nothing of the single values: they are read alone. */
static void wave_take(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, struct wave *v,
		      bool push)
{
	u32 i, k, nr = 0;
	struct run *r;
	bool read;

	for (i = 0; i < v->nr; i++) {
		r = &v->run[i];
		read = r->buf && !v->io[nr++].result;
		if (read)
			patch(db, le32_to_cpu(w[r->first].ref.segment), r->start, r->buf, r->len);
		for (k = r->first; k < r->first + r->nr; k++) {
			if (!read) {
				want_read(db, t, &w[k], push);
				continue;
			}
			w[k].err = value_take(db, t, &w[k].ref,
					      r->buf + (le32_to_cpu(w[k].ref.offset) - r->start), w[k].key,
					      w[k].key_len, w[k].out);
			if (!w[k].err)
				kve_values_put(db, w[k].hash, &w[k].ref, w[k].out, push);
		}
		kvp_iobuf_free(r->buf, r->len);
	}
}

void kve_values_read(struct kv_db *db, const struct kv_tree *t, struct kve_value_want *w, u32 n, bool push)
{
	u32 at, next, left = wants_cached(db, t, w, n);
	struct wave *v = left > 1 ? kvp_alloc(sizeof(*v), 0) : NULL;

	if (v) {
		left = wants_home(db, t, w, left, push);
		wants_sort(w, left);
	}
	for (at = 0; at < left && v; at = next) {
		next = wave_collect(db, w, left, at, v);
		wave_read(db, w, v);
		wave_take(db, t, w, v, push);
	}
	for (; at < left; at++)
		want_read(db, t, &w[at], push);
	kvp_free(v);
}
