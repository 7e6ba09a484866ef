// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * write_log.c - see write_log.h.
 *
 * A write with FLUSH is a flush that comes before the write: two entries here. Marks say nothing to us.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kmod/load.h"
#include "tests/kmod/write_log.h"

#define MAGIC 0x6a736677736872ull
#define FLAG_FLUSH 1u
#define FLAG_FUA 2u
#define FLAG_DISCARD 4u
#define FLAG_MARK 8u
#define SECTOR 512u

/* On the medium, little-endian like us. */
struct log_super {
	u64 magic, version, nr_entries;
	u32 sector_size;
};

struct log_header {
	u64 sector, nr_sectors, flags, data_len;
};

static const u8 *map(const char *path, u64 *size)
{
	struct stat st;
	const u8 *p;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || st.st_size < (off_t)(2 * SECTOR)) {
		close(fd);
		return NULL;
	}
	*size = (u64)st.st_size;
	p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static void add(struct write_log *log, enum write_log_kind kind, u64 off, u64 len, const u8 *data)
{
	log->entries[log->nr++] = (struct write_log_entry){ kind, off, len, data };
	log->flushes += kind == LOG_FLUSH;
	log->discards += kind == LOG_DISCARD;
	log->writes += kind == LOG_WRITE || kind == LOG_FUA;
	log->bytes += data ? len : 0;
}

bool write_log_read(struct write_log *log, const char *path, u64 size, char *why, size_t why_len)
{
	struct log_super super;
	struct log_header h;
	u64 bytes, at = SECTOR, i, len;
	const u8 *p = map(path, &bytes);

	*log = (struct write_log){ 0 };
	snprintf(why, why_len, "%s: no log of writes", path);
	if (!p)
		return false;
	memcpy(&super, p, sizeof(super));
	if (super.magic != MAGIC || super.version != 1 || super.sector_size != SECTOR ||
	    super.nr_entries > bytes / SECTOR)
		return false;
	log->entries = calloc(2 * super.nr_entries + 1, sizeof(*log->entries));
	if (!log->entries)
		return false;
	for (i = 0; i < super.nr_entries; i++) {
		snprintf(why, why_len, "%s: entry %llu is no entry", path, i);
		if (at > bytes - SECTOR)
			return false;
		memcpy(&h, p + at, sizeof(h));
		at += SECTOR;
		len = h.nr_sectors * SECTOR;
		if (h.sector > size / SECTOR || h.nr_sectors > size / SECTOR - h.sector ||
		    h.flags > (FLAG_FLUSH | FLAG_FUA | FLAG_DISCARD | FLAG_MARK))
			return false;
		if (h.flags & FLAG_FLUSH)
			add(log, LOG_FLUSH, 0, 0, NULL);
		if (h.flags & FLAG_DISCARD)
			add(log, LOG_DISCARD, h.sector * SECTOR, len, NULL);
		if (!len || h.flags & (FLAG_DISCARD | FLAG_MARK))
			continue;
		if (len > bytes - at)
			return false;
		add(log, h.flags & FLAG_FUA ? LOG_FUA : LOG_WRITE, h.sector * SECTOR, len, p + at);
		at += len;
	}
	why[0] = '\0';
	return true;
}

void write_log_apply(u8 *image, const struct write_log_entry *e)
{
	if (e->data)
		memcpy(image + e->off, e->data, e->len);
	else if (e->len)
		memset(image + e->off, 0, e->len);
}

void write_log_tear(u8 *image, const struct write_log_entry *e, u64 *rnd)
{
	u64 n = e->len / SECTOR, i, k, how = (load_next(rnd) >> 33) % 3, half;
	bool fresh;

	if (!n)
		return;
	half = (load_next(rnd) >> 33) % n;
	for (i = 0; i < n; i++) {
		u8 *to = image + e->off + i * SECTOR;

		fresh = how == 0 ? load_next(rnd) >> 63 : how == 1 ? i <= half : i >= half;
		if (!((load_next(rnd) >> 33) % 32))
			for (k = 0; k < SECTOR; k++)
				to[k] = (u8)(load_next(rnd) >> 33);
		else if (fresh && e->data)
			memcpy(to, e->data + i * SECTOR, SECTOR);
		else if (fresh)
			memset(to, 0, SECTOR);
	}
}
