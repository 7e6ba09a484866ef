// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_port_file.c - the file device of the user-space port, on real files in the working
 * directory: with O_DIRECT and buffered, locks, space, batches, the window and its accidents, full
 * media. With root also a full tmpfs, a file system without O_DIRECT, and a loop device (each in a
 * mount namespace or freed by itself, so that nothing stays behind).
 *
 * Shows CONTRACT C2 (the window outlives its process), C9 (a failed flush is final), C10, C13, C14.
 */
#include "dev_file.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], path[96];
static u8 buf[1 << 20] __attribute__((aligned(4096)));
static u8 got[1 << 20] __attribute__((aligned(4096)));
static u64 in_use;

static void fill(u8 *p, size_t len, u8 seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = (u8)(seed + i * 7 + (i >> 8));
}

static bool is_zero(const u8 *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

static void setup(void)
{
	strcpy(dir, "port-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a.kv", dir);
	in_use = kvp_alloc_in_use();
}

static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(kvp_alloc_in_use(), in_use);
}

/* _i of loop tests: with O_DIRECT where there is one, and buffered. */
static const unsigned int modes[] = { 0, KVP_OPEN_BUFFERED };

static struct kvp_dev *open_new(unsigned int mode, u64 size)
{
	struct kvp_dev *d;

	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE | KVP_OPEN_CREATE | mode), 0);
	ck_assert_uint_eq(d->size, 0);
	if (size)
		ck_assert_int_eq(kvp_dev_allocate(d, 0, size, KVP_WRITTEN), 0);
	return d;
}

static u64 size_on_disk(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (u64)st.st_size;
}

/* Run fn in a child that ends without checks of its own. */
static int in_child(int (*fn)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(fn(arg));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- transfers ----------------------------------------------------------------------------- */

START_TEST(read_write_flush)
{
	struct kvp_dev *d = open_new(modes[_i], 65536);
	u32 align = d->align;

	ck_assert(align == 512 || align == 4096);
	ck_assert(d->growable && !d->read_only && d->size == 65536);
	ck_assert_uint_eq(d->physical, 4096);
	fill(buf, 65536, 1);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 32768, 0), 0);
	ck_assert_int_eq(kvp_dev_write(d, 32768, buf + 32768, 32768, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 65536), 0);
	ck_assert_mem_eq(buf, got, 65536);
	ck_assert_int_eq(kvp_dev_write(d, align, buf, align, 0), 0);
	ck_assert_int_eq(kvp_dev_read(d, align, got, align), 0);
	ck_assert_mem_eq(buf, got, align);
	ck_assert_int_eq(kvp_dev_read(d, 1, got, align), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_read(d, 65536, got, align), -KVE_truncated);
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), path));
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), "65536"));
	ck_assert_int_eq(kvp_dev_write(d, 65536, buf, align, 0), -KVE_io_write);
	ck_assert_uint_eq(d->flushes, 1);
	ck_assert_uint_eq(d->reads, 2);
	kvp_dev_close(d);

	ck_assert_int_eq(kvp_file_open(&d, path, modes[_i]), 0);
	ck_assert(d->read_only);
	ck_assert_int_eq(kvp_dev_read(d, 32768, got, 32768), 0);
	ck_assert_mem_eq(buf + 32768, got, 32768);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, align, 0), -KVE_read_only);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, align, KVP_WRITTEN), -KVE_read_only);
	ck_assert_int_eq(kvp_dev_discard(d, 0, align), -KVE_read_only);
	ck_assert_int_eq(kvp_dev_resize(d, 0), -KVE_read_only);
	ck_assert_int_eq(kvp_dev_window_map(d, 0, align), -KVE_unsupported);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	kvp_dev_close(d);
}
END_TEST

START_TEST(file_cut_behind_our_back)
{
	struct kvp_dev *d = open_new(modes[_i], 65536);
	struct kvp_io ios[2] = { { .op = KVP_IO_READ, .off = 0, .buf = got, .len = 8192 },
				 { .op = KVP_IO_READ, .off = 32768, .buf = got + 8192,
				   .len = 8192 } };

	ck_assert_int_eq(truncate(path, 33000), 0);
	ck_assert_int_eq(kvp_dev_read(d, 32768, got, 8192), -KVE_truncated);
	ck_assert_int_eq(kvp_dev_read(d, 40960, got, 8192), -KVE_truncated);
	ck_assert_int_eq(kvp_dev_read(d, 24576, got, 8192), 0);
	ck_assert_int_eq(kvp_dev_batch(d, ios, 2), -KVE_truncated);
	ck_assert_int_eq(ios[0].result, 0);
	ck_assert_int_eq(ios[1].result, -KVE_truncated);
	kvp_dev_close(d);
	/* An odd size is taken as it is. */
	ck_assert_int_eq(kvp_file_open(&d, path, modes[_i]), 0);
	ck_assert_uint_eq(d->size, 33000);
	ck_assert_int_eq(kvp_dev_read(d, 32768, got, 4096), -KVE_truncated);
	kvp_dev_close(d);
}
END_TEST

#define BATCH 200u

START_TEST(batches)
{
	struct kvp_dev *d = open_new(modes[_i], BATCH * 4096);
	static struct kvp_io ios[BATCH];
	u32 i, n;

	fill(buf, BATCH * 4096, 5);
	for (n = 1; n <= BATCH; n = n == 1 ? 64 : n == 64 ? BATCH : n + 1) {
		for (i = 0; i < n; i++)
			ios[i] = (struct kvp_io){ .op = KVP_IO_WRITE, .off = (n - 1 - i) * 4096,
						  .buf = buf + (n - 1 - i) * 4096, .len = 4096,
						  .result = 1 };
		ck_assert_int_eq(kvp_dev_batch(d, ios, n), 0);
		memset(got, 0, sizeof(got));
		for (i = 0; i < n; i++) {
			ck_assert_int_eq(ios[i].result, 0);
			ios[i].op = KVP_IO_READ;
			ios[i].buf = got + (n - 1 - i) * 4096;
			ios[i].result = 1;
		}
		ck_assert_int_eq(kvp_dev_batch(d, ios, n), 0);
		ck_assert_mem_eq(buf, got, n * 4096);
	}
	ck_assert_uint_eq(d->reads, 1 + 64 + BATCH);
	ck_assert_uint_eq(d->read_bytes, (1 + 64 + BATCH) * 4096);

	/* Bad ones among good ones: each has its own result. */
	for (i = 0; i < 64; i++)
		ios[i].result = 1;
	ios[7].off = BATCH * 4096;
	ios[9].off = 5;
	memset(got, 0, sizeof(got));
	ck_assert_int_eq(kvp_dev_batch(d, ios, 64), -KVE_truncated);
	for (i = 0; i < 64; i++)
		ck_assert_int_eq(ios[i].result,
				 i == 7 ? -KVE_truncated : i == 9 ? -KVE_invalid : 0);
	ck_assert_mem_eq((u8 *)ios[8].buf, buf + ios[8].off, 4096);

	/* Without memory for a context it goes one by one. A context that idles needs none. */
	kvp_dev_close(d);
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE | modes[_i]), 0);
	ios[7].off = ios[9].off = 0;
	kvp_alloc_fail(1, true);
	ck_assert_int_eq(kvp_dev_batch(d, ios, 64), 0);
	kvp_alloc_fail(0, false);
	kvp_dev_close(d);
}
END_TEST

/* Two at once, of one part and of more, waited for the other way round; other transfers go on meanwhile. */
START_TEST(batches_in_two_halves)
{
	struct kvp_dev *d = open_new(modes[_i], 2 * BATCH * 4096);
	static struct kvp_io ios[2][BATCH];
	struct kvp_batch b[2];
	u32 i, k, n[2] = { 1, BATCH };
	u64 writes = d->writes;

	fill(buf, BATCH * 4096, 6);
	for (k = 0; k < 2; k++) {
		for (i = 0; i < n[k]; i++)
			ios[k][i] = (struct kvp_io){ .op = KVP_IO_WRITE, .off = (k * BATCH + i) * 4096,
						     .buf = buf + i * 4096, .len = 4096, .result = 1 };
		kvp_dev_start(d, &b[k], ios[k], n[k]);
	}
	ck_assert_int_eq(kvp_dev_write(d, 8192, buf, 4096, 0), 0);
	ck_assert_int_eq(kvp_dev_finish(d, &b[1]), 0);
	ck_assert_int_eq(kvp_dev_finish(d, &b[0]), 0);
	ck_assert_uint_eq(d->writes - writes, 2 + BATCH);
	for (i = 0; i < BATCH; i++) {
		ck_assert_int_eq(ios[1][i].result, 0);
		ios[1][i].op = KVP_IO_READ;
		ios[1][i].buf = got + i * 4096;
	}
	memset(got, 0, sizeof(got));
	/* One that fails has its own result. */
	ios[1][BATCH - 2].off = 2 * BATCH * 4096;
	kvp_dev_start(d, &b[1], ios[1], BATCH);
	ck_assert_int_eq(kvp_dev_finish(d, &b[1]), -KVE_truncated);
	for (i = 0; i < BATCH; i++)
		ck_assert_int_eq(ios[1][i].result, i == BATCH - 2 ? -KVE_truncated : 0);
	ck_assert_mem_eq(buf, got, (BATCH - 2) * 4096);
	ck_assert_mem_eq(buf + (BATCH - 1) * 4096, got + (BATCH - 1) * 4096, 4096);

	/* Without memory for a context finish does all of it. */
	kvp_dev_close(d);
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE | modes[_i]), 0);
	kvp_alloc_fail(1, true);
	kvp_dev_start(d, &b[0], ios[0], 1);
	ck_assert_ptr_null(b[0].own);
	ck_assert_int_eq(kvp_dev_finish(d, &b[0]), 0);
	kvp_alloc_fail(0, false);
	kvp_dev_close(d);
}
END_TEST

/* Of this process: what the system maps for each. */
static unsigned int contexts(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "[aio]") != NULL;
	if (f)
		fclose(f);
	return n;
}

/* Two blocks, on their way and there; the contexts that there are then. */
static int batch_of_two(void *arg)
{
	struct kvp_io ios[2];
	struct kvp_dev *d;
	u32 i;

	(void)arg;
	if (kvp_file_open(&d, path, KVP_OPEN_WRITE))
		return 0;
	for (i = 0; i < 2; i++)
		ios[i] = (struct kvp_io){ .op = KVP_IO_WRITE, .off = i * 8192, .buf = buf, .len = 4096 };
	if (kvp_dev_batch(d, ios, 2))
		return 0;
	kvp_dev_close(d);
	return (int)contexts();
}

/* What a closed device had serves the next one, and not a child, which cannot use what it sees of it. */
START_TEST(contexts_are_kept)
{
	kvp_dev_close(open_new(0, 65536));
	ck_assert_uint_eq(contexts(), 0);
	ck_assert_int_eq(batch_of_two(NULL), 1);
	ck_assert_int_eq(batch_of_two(NULL), 1);
	ck_assert_int_eq(in_child(batch_of_two, NULL), 2 << 8);
	ck_assert_int_eq(batch_of_two(NULL), 1);
}
END_TEST

static void batch_thread(void *arg)
{
	struct kvp_io ios[16];
	struct kvp_dev *d = arg;
	u8 *mine = kvp_iobuf_alloc(16 * 4096);
	u32 i, n;

	for (n = 0; n < 20; n++) {
		for (i = 0; i < 16; i++)
			ios[i] = (struct kvp_io){ .op = KVP_IO_READ, .off = i * 4096,
						  .buf = mine + i * 4096, .len = 4096 };
		memset(mine, 0, 16 * 4096);
		ck_assert_int_eq(kvp_dev_batch(d, ios, 16), 0);
		ck_assert_mem_eq(mine, buf, 16 * 4096);
	}
	kvp_iobuf_free(mine, 16 * 4096);
}

START_TEST(batches_from_threads)
{
	struct kvp_dev *d = open_new(modes[_i], 65536);
	struct kvp_thread *t[3];
	int i;

	fill(buf, 65536, 8);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 65536, 0), 0);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(kvp_thread_start(&t[i], "batch", batch_thread, d), 0);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(kvp_dev_allocate(d, 65536 + (u64)i * 4096, 4096, KVP_WRITTEN), 0);
	for (i = 0; i < 3; i++)
		kvp_thread_join(t[i]);
	kvp_dev_close(d);
}
END_TEST

/* ---- who may open -------------------------------------------------------------------------- */

static int try_open(void *arg)
{
	unsigned int flags = *(unsigned int *)arg;
	struct kvp_dev *d;
	int err = kvp_file_open(&d, path, flags);

	if (!err)
		kvp_dev_close(d);
	return err == -KVE_busy ? 1 : err ? 2 : 0;
}

/* In this process and in a child, which still knows our table: 0 opened, 1 busy. */
static void expect_open(unsigned int flags, int result)
{
	ck_assert_int_eq(try_open(&flags), result);
	ck_assert_int_eq(in_child(try_open, &flags), result << 8);
}

static int try_lock(void *arg)
{
	struct flock l = { .l_type = *(short *)arg, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR);

	return fcntl(fd, F_OFD_SETLK, &l) == 0 ? 0 : errno == EAGAIN ? 1 : 2;
}

static void expect_lock(short type, int result)
{
	ck_assert_int_eq(in_child(try_lock, &type), result << 8);
}

START_TEST(one_writer_or_readers)
{
	struct kvp_dev *d = open_new(modes[_i], 4096), *e;

	expect_open(KVP_OPEN_WRITE, 1);
	expect_open(0, 1);
	expect_lock(F_RDLCK, 1);
	kvp_dev_close(d);
	expect_open(KVP_OPEN_WRITE, 0);
	expect_lock(F_WRLCK, 0);

	ck_assert_int_eq(kvp_file_open(&d, path, modes[_i]), 0);
	ck_assert_int_eq(kvp_file_open(&e, path, modes[_i]), 0);
	expect_open(KVP_OPEN_WRITE, 1);
	expect_open(0, 0);
	expect_lock(F_WRLCK, 1);
	expect_lock(F_RDLCK, 0);
	kvp_dev_close(d);
	expect_open(KVP_OPEN_WRITE, 1);
	kvp_dev_close(e);
	expect_open(KVP_OPEN_WRITE, 0);
}
END_TEST

/* By a stranger's lock alone: nothing in our table. */
START_TEST(locked_by_another_process)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct kvp_dev *d;
	int up[2], status;
	char byte;
	pid_t pid;

	kvp_dev_close(open_new(0, 4096));
	ck_assert_int_eq(pipe(up), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int fd = open(path, O_RDWR);

		if (fd < 0 || fcntl(fd, F_OFD_SETLK, &l) || write(up[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(up[1]);
	ck_assert_int_eq(read(up[0], &byte, 1), 1);
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE), -KVE_busy);
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), "another process"));
	ck_assert_int_eq(kvp_file_open(&d, path, 0), -KVE_busy);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE), 0); /* no stale lock */
	kvp_dev_close(d);
	close(up[0]);
}
END_TEST

START_TEST(what_cannot_be_opened)
{
	struct kvp_dev *d;
	char name[128];

	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE), -KVE_no_file);
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), path));
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_CREATE), -KVE_invalid);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(kvp_file_open(&d, dir, KVP_OPEN_WRITE), -KVE_invalid);
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), "directory"));
	ck_assert_int_eq(kvp_file_open(&d, "/dev/null", KVP_OPEN_WRITE), -KVE_invalid);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(kvp_file_open(&d, path, 0), -KVE_invalid); /* and does not wait */
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), "pipe"));
	unlink(path);
	snprintf(name, sizeof(name), "%s/no/such/dir", dir);
	ck_assert_int_eq(kvp_file_open(&d, name, KVP_OPEN_WRITE | KVP_OPEN_CREATE), -KVE_io_system);
	kvp_alloc_fail(1, false);
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE | KVP_OPEN_CREATE), -KVE_no_memory);
	kvp_alloc_fail(0, false);
	ck_assert_int_eq(access(path, F_OK), -1);
	/* A link is followed, and is the same file. */
	kvp_dev_close(open_new(0, 4096));
	snprintf(name, sizeof(name), "%s/link", dir);
	ck_assert_int_eq(symlink("a.kv", name), 0);
	ck_assert_int_eq(kvp_file_open(&d, name, KVP_OPEN_WRITE), 0);
	expect_open(0, 1);
	kvp_dev_close(d);
	unlink(name);
}
END_TEST

/* A descriptor that cannot be flushed takes the place of the file for a while. */
START_TEST(failed_flush_is_final)
{
	struct kvp_dev *d = open_new(modes[_i], 65536);
	struct kvp_io ios[2] = { { .op = KVP_IO_WRITE, .off = 0, .buf = buf, .len = 4096 },
				 { .op = KVP_IO_READ, .off = 4096, .buf = got, .len = 4096 } };
	int fd = file_of(d)->fd, keep = dup(fd), p[2];

	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(dup2(p[1], fd), fd);
	ck_assert_int_eq(kvp_dev_flush(d), -KVE_io_flush);
	ck_assert_int_eq(dup2(keep, fd), fd);
	ck_assert_int_eq(kvp_dev_flush(d), -KVE_io_flush);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 4096, 0), -KVE_io_flush);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 4096, KVP_FUA), -KVE_io_flush);
	ck_assert_int_eq(kvp_dev_allocate(d, 65536, 4096, KVP_WRITTEN), -KVE_io_flush);
	ck_assert_int_eq(kvp_dev_resize(d, 4096), -KVE_io_flush);
	ck_assert_int_eq(kvp_dev_batch(d, ios, 2), -KVE_io_flush);
	ck_assert_int_eq(ios[1].result, 0);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 4096), 0);
	close(p[0]);
	close(p[1]);
	close(keep);
	kvp_dev_close(d);
}
END_TEST

/* ---- space --------------------------------------------------------------------------------- */

/* Bytes of [off, off + len) that are written data, by the file system's word. */
static u64 data_bytes(u64 off, u64 len)
{
	int fd = open(path, O_RDONLY);
	off_t at = (off_t)off, end = (off_t)(off + len), hole;
	u64 sum = 0;

	while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
		hole = lseek(fd, at, SEEK_HOLE);
		sum += (u64)((hole < end ? hole : end) - at);
		at = hole;
	}
	close(fd);
	return sum;
}

START_TEST(allocate_discard_resize)
{
	struct kvp_dev *d = open_new(modes[_i], 0);

	ck_assert_int_eq(kvp_dev_allocate(d, 0, 1 << 20, KVP_WRITTEN), 0);
	ck_assert_uint_eq(d->size, 1 << 20);
	ck_assert_uint_eq(size_on_disk(), 1 << 20);
	ck_assert_uint_eq(data_bytes(0, 1 << 20), 1 << 20); /* written, not only promised */
	ck_assert_uint_ge(d->ops->allocated(d), 1 << 20);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 1 << 20), 0);
	ck_assert(is_zero(got, 1 << 20));

	/* What has been written stays; holes are filled. */
	fill(buf, 65536, 1);
	ck_assert_int_eq(kvp_dev_write(d, 65536, buf, 65536, 0), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert_int_eq(kvp_dev_discard(d, 0, 65536), 0);
	ck_assert_int_eq(kvp_dev_discard(d, 131072, 65536), 0);
	ck_assert_uint_eq(d->size, 1 << 20);
	ck_assert_uint_le(d->ops->allocated(d), (1 << 20) - 131072 + 8192);
	ck_assert_uint_eq(data_bytes(0, 262144), 131072);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, 262144, KVP_WRITTEN), 0);
	ck_assert_uint_eq(data_bytes(0, 262144), 262144);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 262144), 0);
	ck_assert(is_zero(got, 65536) && is_zero(got + 131072, 131072));
	ck_assert_mem_eq(got + 65536, buf, 65536);

	/* Over the end, and an end beyond a hole. */
	ck_assert_int_eq(kvp_dev_allocate(d, (1 << 20) - 4096, 8192, KVP_WRITTEN), 0);
	ck_assert_uint_eq(d->size, (1 << 20) + 4096);
	ck_assert_int_eq(kvp_dev_discard(d, 1 << 20, 1 << 22), 0);
	ck_assert_uint_eq(size_on_disk(), (1 << 20) + 4096);
	ck_assert_int_eq(kvp_dev_resize(d, 65536), 0);
	ck_assert_uint_eq(size_on_disk(), 65536);
	ck_assert_uint_eq(d->size, 65536);
	ck_assert_int_eq(kvp_dev_resize(d, 131072), 0);
	ck_assert_int_eq(kvp_dev_read(d, 65536, got, 65536), 0);
	ck_assert(is_zero(got, 65536));
	ck_assert_int_eq(kvp_dev_resize(d, 100), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_allocate(d, 100, 4096, KVP_WRITTEN), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_allocate(d, ~4095ull, 4096, KVP_WRITTEN), -KVE_invalid);
	kvp_dev_close(d);
}
END_TEST

/* More than there is: the size and what was there stay, and it goes on. */
static void expect_full(struct kvp_dev *d, u64 have, u64 more)
{
	ck_assert_int_eq(kvp_dev_allocate(d, have, more, KVP_WRITTEN), -KVE_no_space);
	ck_assert_ptr_nonnull(strstr(kvp_error_text(), "a.kv"));
	ck_assert_uint_eq(d->size, have);
	ck_assert_uint_eq(size_on_disk(), have);
	fill(buf, (size_t)have, 3);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, (u32)have, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, (u32)have), 0);
	ck_assert_mem_eq(got, buf, have);
}

START_TEST(full_by_limit)
{
	struct rlimit lim = { 65536, 65536 };
	struct kvp_dev *d = open_new(modes[_i], 32768);

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	expect_full(d, 32768, 65536);
	ck_assert_int_eq(kvp_dev_resize(d, 131072), -KVE_no_space);
	file_of(d)->no_fallocate = true; /* the way of file systems that have none */
	expect_full(d, 32768, 65536);
	ck_assert_int_eq(kvp_dev_allocate(d, 32768, 32768, KVP_WRITTEN), 0);
	ck_assert_uint_eq(data_bytes(0, 65536), 65536);
	kvp_dev_close(d);
}
END_TEST

/* Mount over the test's directory, seen by this process only. False: not allowed here. */
static bool mount_private(const char *type, const char *options)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", dir, type, 0, options)) {
		printf("# skipped: cannot mount %s\n", type);
		return false;
	}
	return true;
}

START_TEST(full_tmpfs)
{
	struct kvp_dev *d;

	if (!mount_private("tmpfs", "size=64k"))
		return;
	d = open_new(modes[_i], 32768);
	expect_full(d, 32768, 65536);
	ck_assert_int_eq(kvp_dev_allocate(d, 32768, 32768, KVP_WRITTEN), 0);
	kvp_dev_close(d);
	unlink(path);
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

START_TEST(without_o_direct)
{
	struct kvp_dev *d;

	if (!mount_private("ramfs", NULL))
		return;
	d = open_new(0, 65536);
	ck_assert(!file_of(d)->direct);
	ck_assert_uint_eq(d->align, 512);
	fill(buf, 65536, 1);
	ck_assert_int_eq(kvp_dev_write(d, 512, buf, 1024, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert_int_eq(kvp_dev_read(d, 512, got, 1024), 0);
	ck_assert_mem_eq(buf, got, 1024);
	ck_assert_int_eq(kvp_dev_window_map(d, 0, 4096), -KVE_unsupported);
	kvp_dev_close(d);
	unlink(path);
	ck_assert_int_eq(umount(dir), 0);
}
END_TEST

/* A transfer that O_DIRECT refuses, on a file that was taken to have it: here by a wrong align. */
START_TEST(o_direct_refused_late)
{
	struct kvp_dev *d = open_new(0, 65536);

	if (!file_of(d)->direct) {
		printf("# skipped: no O_DIRECT here\n");
	} else {
		d->align = 1; /* lets through what the file system refuses */
		fill(buf, 4096, 2);
		ck_assert_int_eq(kvp_dev_write(d, 4097, buf, 1000, 0), 0);
		ck_assert(!file_of(d)->direct);
		ck_assert_int_eq(kvp_dev_read(d, 4097, got, 1000), 0);
		ck_assert_mem_eq(buf, got, 1000);
	}
	kvp_dev_close(d);
}
END_TEST

/* ---- the window ---------------------------------------------------------------------------- */

#define WINDOW_OFF 8192u
#define WINDOW_LEN 16384u

static struct kvp_dev *open_window(void)
{
	struct kvp_dev *d = open_new(0, 65536);
	int err = kvp_dev_window_map(d, WINDOW_OFF, WINDOW_LEN);

	if (err == -KVE_unsupported) {
		printf("# skipped: %s\n", kvp_error_text());
		kvp_dev_close(d);
		return NULL;
	}
	ck_assert_int_eq(err, 0);
	return d;
}

static int raw_direct_read(void *arg)
{
	int fd = open(path, O_RDONLY | O_DIRECT);

	(void)arg;
	if (fd < 0 || pread(fd, got, WINDOW_LEN, WINDOW_OFF) != (ssize_t)WINDOW_LEN)
		return 2;
	return memcmp(got, buf, WINDOW_LEN) != 0;
}

START_TEST(window_is_seen_by_direct_reads)
{
	struct kvp_dev *d = open_window();
	u32 i;

	if (!d)
		return;
	file_of(d)->first_reads = FIRST_READS;
	for (i = 0; i < 20; i++) {
		fill(buf, WINDOW_LEN, (u8)i);
		ck_assert_int_eq(kvp_dev_window_store(d, 0, buf, 5000), 0);
		ck_assert_int_eq(kvp_dev_window_store(d, 5000, buf + 5000, WINDOW_LEN - 5000), 0);
		if (i & 1)
			ck_assert_int_eq(in_child(raw_direct_read, NULL), 0);
		ck_assert_int_eq(kvp_dev_read(d, WINDOW_OFF, got, WINDOW_LEN), 0);
		ck_assert_mem_eq(got, buf, WINDOW_LEN);
	}
	/* A write into the place of the window wins over older stores, and stores go on. */
	fill(buf, WINDOW_LEN, 99);
	ck_assert_int_eq(kvp_dev_write(d, WINDOW_OFF, buf, WINDOW_LEN, 0), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 100, "hello", 5), 0);
	memcpy(buf + 100, "hello", 5);
	ck_assert_int_eq(kvp_dev_read(d, WINDOW_OFF, got, WINDOW_LEN), 0);
	ck_assert_mem_eq(got, buf, WINDOW_LEN);
	ck_assert_int_eq(kvp_dev_window_store(d, WINDOW_LEN - 1, "ab", 2), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_window_store(d, ~0u, "ab", 2), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_window_map(d, 0, 4096), -KVE_invalid); /* one at a time */
	kvp_dev_close(d);
}
END_TEST

static bool page_cached(u64 off)
{
	int fd = open(path, O_RDONLY);
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)off);
	unsigned char in = 0;

	ck_assert(map != MAP_FAILED && !mincore(map, 4096, &in));
	munmap(map, 4096);
	close(fd);
	return in & 1;
}

/* The next process that opens the file finds them there; what is read later does not fill it. */
START_TEST(first_reads_are_cached)
{
	struct kvp_dev *d = open_new(0, sizeof(buf));
	bool direct = file_of(d)->direct;
	u32 i;

	fill(buf, sizeof(buf), 5);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, sizeof(buf), 0), 0);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 4096), 0);
	ck_assert(page_cached(0) && page_cached(524288) == !direct);
	fill(buf, 4096, 6);
	ck_assert_int_eq(kvp_dev_write(d, 0, buf, 4096, 0), 0);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 4096), 0);
	ck_assert_mem_eq(got, buf, 4096);
	for (i = 0; i < FIRST_READS; i++)
		ck_assert_int_eq(kvp_dev_read(d, 0, got, 4096), 0);
	ck_assert_int_eq(kvp_dev_read(d, 524288, got, 4096), 0);
	ck_assert_mem_eq(got, buf + 524288, 4096);
	ck_assert(page_cached(524288) == !direct);
	kvp_dev_close(d);
}
END_TEST

/* Places of test geometries: no multiple of a page. */
START_TEST(window_at_odd_place)
{
	struct kvp_dev *d = open_new(0, 65536);
	int err = kvp_dev_window_map(d, 4096 + 1536, 1024);

	if (err == 0) {
		ck_assert_int_eq(kvp_dev_window_store(d, 1020, "abcd", 4), 0);
		ck_assert_int_eq(kvp_dev_window_store(d, 1021, "abcd", 4), -KVE_invalid);
		ck_assert_int_eq(kvp_dev_read(d, 4096, got, 4096), 0);
		ck_assert(is_zero(got, 1536 + 1020) && is_zero(got + 2560, 1536));
		ck_assert_mem_eq(got + 1536 + 1020, "abcd", 4);
	} else {
		ck_assert_int_eq(err, -KVE_unsupported);
	}
	kvp_dev_close(d);
}
END_TEST

START_TEST(window_outlives_its_process)
{
	struct kvp_dev *d = open_window();
	int round, status;
	pid_t pid;

	if (!d)
		return;
	kvp_dev_close(d);
	for (round = 0; round < 5; round++) {
		fill(buf, WINDOW_LEN, (u8)(50 + round));
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			if (kvp_file_open(&d, path, KVP_OPEN_WRITE) ||
			    kvp_dev_window_map(d, WINDOW_OFF, WINDOW_LEN) ||
			    kvp_dev_window_store(d, 0, buf, WINDOW_LEN))
				_exit(1);
			kill(getpid(), SIGKILL);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE), 0);
		ck_assert_int_eq(kvp_dev_read(d, WINDOW_OFF, got, WINDOW_LEN), 0);
		ck_assert_mem_eq(got, buf, WINDOW_LEN);
		kvp_dev_close(d);
	}
}
END_TEST

START_TEST(window_of_a_cut_file)
{
	struct kvp_dev *d = open_window(), *e;
	char other[128];

	if (!d)
		return;
	snprintf(other, sizeof(other), "%s/b.kv", dir);
	ck_assert_int_eq(kvp_file_open(&e, other, KVP_OPEN_WRITE | KVP_OPEN_CREATE), 0);
	ck_assert_int_eq(kvp_dev_allocate(e, 0, 8192, KVP_WRITTEN), 0);
	ck_assert_int_eq(kvp_dev_window_map(e, 0, 8192), 0);

	ck_assert_int_eq(kvp_dev_window_store(d, 0, buf, 100), 0);
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 4000, buf, 9000), -KVE_io_write);
	ck_assert_int_eq(kvp_dev_window_store(d, 0, buf, 1), -KVE_io_write);
	ck_assert_int_eq(kvp_dev_read(d, 0, got, 4096), -KVE_truncated);
	ck_assert_int_eq(kvp_dev_window_store(e, 0, buf, 100), 0); /* not its affair */
	kvp_dev_close(d);
	kvp_dev_close(e);
	unlink(other);
	/* The slot is clean for the next one. */
	ck_assert_int_eq(kvp_file_open(&d, path, KVP_OPEN_WRITE), 0);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, 65536, KVP_WRITTEN), 0);
	ck_assert_int_eq(kvp_dev_window_map(d, WINDOW_OFF, WINDOW_LEN), 0);
	ck_assert_int_eq(kvp_dev_window_store(d, 0, buf, 100), 0);
	kvp_dev_close(d);
}
END_TEST

/* A fault elsewhere, with our handler in place: as without it, death. */
static int fault_elsewhere(void *arg)
{
	FILE *f = tmpfile();
	volatile char *p;

	(void)arg;
	if (!f || ftruncate(fileno(f), 4096))
		return 0;
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	if (p == MAP_FAILED || ftruncate(fileno(f), 0))
		return 0;
	*p = 1;
	return 0;
}

static volatile sig_atomic_t app_signals;

static void app_handler(int sig)
{
	(void)sig;
	app_signals++;
}

START_TEST(sigbus_of_others)
{
	struct kvp_dev *d;

	signal(SIGBUS, app_handler);
	d = open_window();
	if (!d)
		return;
	raise(SIGBUS);
	ck_assert_int_eq(app_signals, 1); /* passed on */
	kvp_dev_close(d);
}
END_TEST

START_TEST(sigbus_of_others_kills)
{
	struct kvp_dev *d = open_window();

	if (!d)
		return;
	ck_assert_int_ne(in_child(fault_elsewhere, NULL), 0);
	kvp_dev_close(d);
}
END_TEST

/* ---- a block device ------------------------------------------------------------------------ */

/* A loop device on fd that goes when it is closed; -1: none to be had. */
static int loop_open(int fd, char *name, size_t len)
{
	struct loop_config c = { .fd = (u32)fd, .block_size = 512,
				 .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl = open("/dev/loop-control", O_RDWR), nr, dev, tries;

	if (ctl < 0)
		return -1;
	for (tries = 0; tries < 10; tries++) {
		nr = ioctl(ctl, LOOP_CTL_GET_FREE);
		snprintf(name, len, "/dev/loop%d", nr);
		dev = nr < 0 ? -1 : open(name, O_RDWR);
		if (dev >= 0 && ioctl(dev, LOOP_CONFIGURE, &c) == 0) {
			close(ctl);
			return dev;
		}
		if (dev >= 0)
			close(dev);
	}
	close(ctl);
	return -1;
}

START_TEST(block_device)
{
	struct kvp_dev *d, *e;
	char name[64];
	int fd, hold;

	kvp_dev_close(open_new(0, 1 << 20));
	fd = open(path, O_RDWR);
	hold = loop_open(fd, name, sizeof(name));
	close(fd);
	if (hold < 0) {
		printf("# skipped: no loop device\n");
		return;
	}
	ck_assert_int_eq(kvp_file_open(&d, name, KVP_OPEN_WRITE | modes[_i]), 0);
	ck_assert_uint_eq(d->size, 1 << 20);
	ck_assert(!d->growable);
	ck_assert_uint_eq(d->align, 512);
	ck_assert(d->physical >= 512 && d->physical <= 4096);
	ck_assert_int_eq(kvp_file_open(&e, name, KVP_OPEN_WRITE), -KVE_busy);
	ck_assert_int_eq(kvp_file_open(&e, name, 0), -KVE_busy);
	ck_assert_int_eq(open(name, O_RDWR | O_EXCL), -1);
	fill(buf, 65536, 1);
	ck_assert_int_eq(kvp_dev_write(d, 512, buf, 65536, KVP_FUA), 0);
	ck_assert_int_eq(kvp_dev_flush(d), 0);
	ck_assert_int_eq(kvp_dev_read(d, 512, got, 65536), 0);
	ck_assert_mem_eq(buf, got, 65536);
	ck_assert_int_eq(kvp_dev_allocate(d, 0, 1 << 20, KVP_WRITTEN), 0);
	ck_assert_int_eq(kvp_dev_allocate(d, 1 << 20, 512, KVP_WRITTEN), -KVE_no_space);
	ck_assert_int_eq(kvp_dev_resize(d, 1 << 19), -KVE_invalid);
	ck_assert_int_eq(kvp_dev_discard(d, 131072, 131072), 0);
	ck_assert_uint_eq(d->ops->allocated(d), 0);
	ck_assert_int_eq(kvp_dev_read(d, 512, got, 65536), 0);
	ck_assert_mem_eq(buf, got, 65536);
	if (!modes[_i]) {
		ck_assert_int_eq(kvp_dev_window_map(d, 262144, 8192), 0);
		ck_assert_int_eq(kvp_dev_window_store(d, 1000, buf, 5000), 0);
		ck_assert_int_eq(kvp_dev_read(d, 262144, got, 8192), 0);
		ck_assert_mem_eq(got + 1000, buf, 5000);
	}
	kvp_dev_close(d);
	fd = open(name, O_RDWR | O_EXCL); /* held by another program: mounted, say */
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(kvp_file_open(&d, name, KVP_OPEN_WRITE), -KVE_busy);
	ck_assert_int_eq(kvp_file_open(&d, name, 0), 0);
	kvp_dev_close(d);
	close(fd);
	close(hold);
}
END_TEST

/* -------------------------------------------------------------------------------------------- */

static Suite *file_suite(void)
{
	Suite *s = suite_create("port_file");
	TCase *t;

	t = tcase_create("file");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, read_write_flush, 0, 2);
	tcase_add_loop_test(t, file_cut_behind_our_back, 0, 2);
	tcase_add_loop_test(t, batches, 0, 2);
	tcase_add_loop_test(t, batches_in_two_halves, 0, 2);
	tcase_add_test(t, contexts_are_kept);
	tcase_add_loop_test(t, batches_from_threads, 0, 2);
	tcase_add_loop_test(t, one_writer_or_readers, 0, 2);
	tcase_add_test(t, locked_by_another_process);
	tcase_add_test(t, what_cannot_be_opened);
	tcase_add_loop_test(t, failed_flush_is_final, 0, 2);
	tcase_add_loop_test(t, allocate_discard_resize, 0, 2);
	tcase_add_loop_test(t, full_by_limit, 0, 2);
	tcase_add_loop_test(t, full_tmpfs, 0, 2);
	tcase_add_test(t, first_reads_are_cached);
	tcase_add_test(t, without_o_direct);
	tcase_add_test(t, o_direct_refused_late);
	tcase_add_loop_test(t, block_device, 0, 2);
	suite_add_tcase(s, t);

	t = tcase_create("window");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, window_is_seen_by_direct_reads);
	tcase_add_test(t, window_at_odd_place);
	tcase_add_test(t, window_outlives_its_process);
	tcase_add_test(t, window_of_a_cut_file);
	tcase_add_test(t, sigbus_of_others);
	tcase_add_test(t, sigbus_of_others_kills);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return suite_run(file_suite());
}
