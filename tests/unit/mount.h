/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount.h - a volume in memory as KVFS mounts it, for the tests of kvfs/.
 */
#ifndef TESTS_UNIT_MOUNT_H
#define TESTS_UNIT_MOUNT_H

#include "tests/unit/volume.h"

#include "kvfs/kvfs.h"

#define MEM_WORLDS (MEM_TINY + 1)

struct mount {
	struct volume v;
	struct kvfs fs;
};

static inline void mount_make(struct mount *m, int world)
{
	memset(m, 0, sizeof(*m));
	volume_make(&m->v, world, NULL);
	m->fs.db = m->v.db;
	m->fs.key_max = m->v.st.key_max;
}

static inline void mount_end(struct mount *m)
{
	volume_end(&m->v);
}

/* ---- short hands ----------------------------------------------------------------------------- */

struct memory_source {
	struct kvfs_source source;
	const uint8_t *bytes;
	size_t left; /* then -EFAULT */
};

static inline int memory_copy(struct kvfs_source *s, void *to, size_t len)
{
	struct memory_source *m = (struct memory_source *)s;

	if (len > m->left)
		return -EFAULT;
	memcpy(to, m->bytes, len);
	m->bytes += len;
	m->left -= len;
	return 0;
}

static inline long file_write(struct kvfs_file *f, u64 pos, const void *bytes, size_t len)
{
	struct memory_source s = { { memory_copy }, bytes, len };

	return kvfs_file_write(f, pos, &s.source, len);
}

static inline long write_text(struct kvfs_file *f, const char *text)
{
	return file_write(f, 0, text, strlen(text));
}

static inline struct kvfs_node *node_of(struct mount *m, const char *key)
{
	struct kvfs_node *n = malloc(sizeof(*n));

	(void)m;
	must_be(kvfs_node_init(n, NULL, key, (u32)strlen(key)), 0);
	return n;
}

static inline void node_end(struct kvfs_node *n)
{
	kvfs_node_exit(n);
	free(n);
}

static inline struct kvfs_file *file_of(struct mount *m, struct kvfs_node *n, unsigned int flags)
{
	struct kvfs_file *f;

	must_be(kvfs_file_open(&m->fs, n, flags, &f), 0);
	return f;
}

/* One read(2) of up to 64 bytes gives exactly this. */
static inline void expect_read(struct kvfs_file *f, u64 *pos, const char *want)
{
	char buf[64];
	long n = kvfs_file_read(f, pos, buf, sizeof(buf));

	if (n != (long)strlen(want) || memcmp(buf, want, (size_t)n))
		ck_abort_msg("read gave %ld '%.*s', not '%s'", n, n > 0 ? (int)n : 0, buf, want);
}

static inline int control(struct mount *m, enum kvfs_control which, const char *key, struct kvfs_node *n)
{
	return kvfs_control(&m->fs, NULL, which, key, (u32)strlen(key), n);
}

static inline u64 size_of(struct mount *m, struct kvfs_node *n)
{
	u64 size;

	must_be(kvfs_node_size(&m->fs, n, &size), 0);
	return size;
}

static inline void expect_value(struct mount *m, const char *key, const uint8_t *want, size_t len)
{
	expect_bytes(&m->v, NULL, key, strlen(key), want, len);
}

/* ---- listing --------------------------------------------------------------------------------- */

#define SEEN_MAX 8192

struct seen {
	char names[SEEN_MAX][24];
	u64 pos[SEEN_MAX]; /* of the entry */
	u32 nr, room;	   /* entries that fit the current call */
	u64 next;
};

static inline bool take(void *arg, const char *name, u32 len, u64 ino, enum kvfs_kind kind)
{
	struct seen *s = arg;

	must(ino > KVFS_ROOT_INO && kind <= KVFS_CONTROL && strlen(name) == len);
	if (!s->room)
		return false;
	s->room--;
	must(s->nr < SEEN_MAX && len < 24);
	strcpy(s->names[s->nr], name);
	s->pos[s->nr++] = s->next++;
	return true;
}

#endif
