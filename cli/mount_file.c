/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_file.c - open key files: what the view does, seen through the requests that FUSE makes of it.
 *
 * Positions. The kernel moves the position of a file at every read and write and gives absolute offsets;
 * the view starts reading again at the end of a value that has changed, and a SET moves nothing. So each
 * open file has a base: the view sees offset - base. An offset below the base is the program's own seek,
 * and the base is 0 again.
 *
 * O_TRUNC waits for the first write, or for a close(2) without one. The kernel asks for a flush whenever
 * a descriptor is closed, and a shell that runs "echo value > key" opens one, copies it and closes it again
 * before it writes. So a flush looks whether the process has the file open still; if it has, the value
 * is left as it is, and the next flush or the release cuts it.
 *
 * Long writes. The kernel cuts one write(2) into requests of piece_bytes, which is a number that no
 * program writes by itself. With write=SET such a request is not stored but staged, in a second open file
 * of the view with stream set; requests that follow it without a gap are added, and the first shorter one
 * ends the write: the value changes once, atomically. A write of exactly n pieces ends when anything
 * else is done with the file, at the latest when it is closed.
 */
#include <fcntl.h>
#include <string.h>

#include "mount.h"

struct mount_file {
	struct mount_file *next, *prev; /* nodes_lock */
	struct mount_node *node;
	unsigned int flags; /* KVFS_O_* but for TRUNC */
	int open_flags;	    /* of open(2) */
	struct kvp_mutex lock; /* all below */
	struct kvfs_file *file;
	bool cut; /* opened with O_TRUNC, and nothing written yet */
	u64 base;
	u64 position; /* where the kernel is if the program only reads and writes */
	struct kvfs_file *staged;
	u64 staged_bytes;
	u64 staged_end; /* offset of the request that would go on */
	int failed;	/* a long write failed: what follows at failed_at is its rest, and fails too */
	u64 failed_at;
};

/* Bytes of a request, for the view. */
struct bytes_source {
	struct kvfs_source source;
	const u8 *p;
};

static int copy_bytes(struct kvfs_source *s, void *to, size_t len)
{
	struct bytes_source *b = (struct bytes_source *)s; /* its first member */

	memcpy(to, b->p, len);
	b->p += len;
	return 0;
}

/* ---- open and close -------------------------------------------------------------------------- */

static unsigned int view_flags(int flags)
{
	unsigned int view = 0;

	if (flags & O_APPEND)
		view |= KVFS_O_APPEND;
	if (flags & (O_SYNC | O_DSYNC))
		view |= KVFS_O_SYNC;
	return view;
}

int mount_file_open(struct mount *m, struct mount_node *n, int flags, struct mount_file **out)
{
	struct mount_file *f = kvp_alloc(sizeof(*f), KVP_ZERO);
	int err;

	if (!f)
		return -ENOMEM;
	f->node = n;
	f->flags = view_flags(flags);
	f->open_flags = flags;
	f->cut = flags & O_TRUNC;
	err = kvfs_file_open(&m->fs, &n->key, f->flags | (f->cut ? KVFS_O_TRUNC : 0), &f->file);
	if (err) {
		kvp_free(f);
		return err;
	}
	kvp_mutex_init(&f->lock, "mount file", MOUNT_RANK_FILE);
	kvp_mutex_lock(&m->nodes_lock);
	n->refs++;
	n->opens++;
	f->next = m->files;
	if (f->next)
		f->next->prev = f;
	m->files = f;
	kvp_mutex_unlock(&m->nodes_lock);
	*out = f;
	return 0;
}

void mount_file_close(struct mount *m, struct mount_file *f)
{
	/* the error, if any, was told at the flush: it is too late to tell somebody */
	if (f->cut)
		kvfs_file_flush(f->file);
	if (f->staged)
		kvfs_file_close(f->staged);
	kvfs_file_close(f->file);
	kvp_mutex_lock(&m->nodes_lock);
	if (f->next)
		f->next->prev = f->prev;
	if (f->prev)
		f->prev->next = f->next;
	else
		m->files = f->next;
	f->node->opens--;
	kvp_mutex_unlock(&m->nodes_lock);
	kvp_mutex_destroy(&f->lock);
	mount_node_put(m, f->node);
	kvp_free(f);
}

int mount_files_close(struct mount *m)
{
	int err, first = 0;

	while (m->files) {
		err = mount_file_flush(m, m->files, 0);
		/* deleted meanwhile: nothing to keep */
		if (err && err != -ESTALE && !first)
			first = err;
		mount_file_close(m, m->files);
	}
	return first;
}

/* ---- long writes; with the file's lock held -------------------------------------------------- */

/*
 * What was staged becomes the value. The old open file may still have to empty the value (O_TRUNC); that
 * is what this write has done, so begin_staging() has replaced it.
 */
static int end_staging(struct mount *m, struct mount_file *f)
{
	int err;

	if (!f->staged)
		return 0;
	err = kvfs_file_flush(f->staged);
	kvfs_file_close(f->staged);
	f->staged = NULL;
	if (!err)
		mount_node_touch(m, f->node, NULL);
	return err;
}

static int begin_staging(struct mount *m, struct mount_file *f, u64 off)
{
	struct kvfs_file *fresh, *staged;
	int err;

	err = kvfs_file_open(&m->fs, &f->node->key, f->flags, &fresh);
	if (err)
		return err;
	err = kvfs_file_open(&m->staging, &f->node->key, f->flags | KVFS_O_TRUNC, &staged);
	if (err) {
		kvfs_file_close(fresh);
		return err;
	}
	kvfs_file_close(f->file);
	f->file = fresh;
	f->cut = false;
	f->staged = staged;
	f->staged_bytes = 0;
	f->staged_end = off;
	return 0;
}

static long stage(struct mount *m, struct mount_file *f, struct bytes_source *src, size_t len)
{
	long done = kvfs_file_write(f->staged, f->staged_bytes, &src->source, len);
	int err = done < 0 ? (int)done : 0;

	if (err) {
		kvfs_file_close(f->staged);
		f->staged = NULL;
	} else if (len < m->piece_bytes) {
		err = end_staging(m, f);
	}
	if (err && f->staged_bytes) {
		/* the program learns of a short write and will try the rest */
		f->failed = err;
		f->failed_at = f->staged_end;
	}
	if (err)
		return err;
	f->staged_bytes += len;
	f->staged_end += len;
	/* the view has not read this value yet: the next read begins at its start */
	f->base = f->position = f->staged_end;
	return (long)len;
}

/* ---- reading and writing --------------------------------------------------------------------- */

static u64 view_position(struct mount_file *f, u64 off)
{
	if (off < f->base)
		f->base = 0;
	return off - f->base;
}

long mount_file_read(struct mount *m, struct mount_file *f, u64 off, void *buf, size_t len)
{
	u64 pos;
	long got;

	kvp_mutex_lock(&f->lock);
	got = end_staging(m, f);
	if (!got) {
		pos = view_position(f, off);
		got = kvfs_file_read(f->file, &pos, buf, len);
	}
	if (got >= 0) {
		f->position = off + (u64)got;
		f->base = f->position > pos ? f->position - pos : 0;
	}
	kvp_mutex_unlock(&f->lock);
	return got;
}

static long write_locked(struct mount *m, struct mount_file *f, u64 off, struct bytes_source *src, size_t len)
{
	bool set = !m->fs.stream && !(f->flags & KVFS_O_APPEND);
	long done;
	int err;

	if (f->staged && off == f->staged_end)
		return stage(m, f, src, len);
	err = end_staging(m, f);
	if (err)
		return err;
	if (f->failed && off == f->failed_at)
		return f->failed;
	f->failed = 0;
	if (set && len == m->piece_bytes) {
		err = begin_staging(m, f, off);
		return err ? err : stage(m, f, src, len);
	}
	done = kvfs_file_write(f->file, view_position(f, off), &src->source, len);
	if (done < 0)
		return done;
	f->cut = false;
	/* what follows in sequence is read from where it would have been read without the write */
	if (set && off == f->position)
		f->base += (u64)done;
	f->position = off + (u64)done;
	mount_node_touch(m, f->node, NULL);
	return done;
}

long mount_file_write(struct mount *m, struct mount_file *f, u64 off, const void *buf, size_t len)
{
	struct bytes_source src = { .source.copy = copy_bytes, .p = buf };
	long done;

	kvp_mutex_lock(&f->lock);
	done = write_locked(m, f, off, &src, len);
	kvp_mutex_unlock(&f->lock);
	return done;
}

int mount_file_flush(struct mount *m, struct mount_file *f, pid_t pid)
{
	int err = 0, staged;

	kvp_mutex_lock(&f->lock);
	staged = end_staging(m, f);
	if (!f->cut || !pid || !mount_fds_has(pid, mount_node_ino(m, f->node), f->open_flags)) {
		err = kvfs_file_flush(f->file);
		f->cut = f->cut && err;
	}
	kvp_mutex_unlock(&f->lock);
	return staged ? staged : err;
}

int mount_file_sync(struct mount *m, struct mount_file *f)
{
	int err, staged;

	kvp_mutex_lock(&f->lock);
	staged = end_staging(m, f);
	err = kvfs_file_sync(f->file);
	f->cut = f->cut && err;
	kvp_mutex_unlock(&f->lock);
	return staged ? staged : err;
}

int mount_file_truncate(struct mount *m, struct mount_file *f, u64 size)
{
	int err;

	kvp_mutex_lock(&f->lock);
	err = end_staging(m, f);
	if (!err)
		err = kvfs_file_flush(f->file);
	f->cut = f->cut && err;
	if (!err)
		err = kvfs_node_truncate(&m->fs, &f->node->key, size);
	kvp_mutex_unlock(&f->lock);
	return err;
}
