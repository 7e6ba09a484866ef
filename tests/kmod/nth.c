// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * nth.c - a failure at every place of every operation, in a guest whose kernel has fault injection: for
 * n = 1, 2 .. the n-th allocation (slab, pages), copy from or to the user, or request to the device fails,
 * until an operation comes to its end without meeting it. Linked statically.
 *
 *	nth DEVICE allocations|device [OPERATION]
 *
 * After each failure: the errno is one that can be explained, the operation is done or it is as if it had
 * not been tried, what was synced is read, and the volume takes changes again: at once after a failed
 * allocation, after a mount at the latest if a request to the device failed. Prints TAP without a plan and
 * ends with the number of failures.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nth.h"

#define NTH_MAX 5000
#define CANARY_SMALL 9000u
#define CANARY_LARGE 100000u

static int nth_fd;
static bool with_device; /* requests fail, too */

static struct {
	unsigned int injected, absorbed, memory, device, copies, remounts, wrong;
} total, now;

static void wrong(const struct operation *op, int n, const char *what, int err)
{
	now.wrong++;
	if (now.wrong <= 10)
		printf("#   %s, failure %d: %s (%s)\n", op->name, n, what, err ? strerrorname_np(err) : "0");
}

/* ---- the kernel's counter ------------------------------------------------------------------------ */

static void nth_set(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	/* What is left of the last counter may hit the copy of our text. */
	if (pwrite(nth_fd, text, (size_t)len, 0) != len && pwrite(nth_fd, text, (size_t)len, 0) != len) {
		perror("nth: /proc/thread-self/fail-nth");
		exit(2);
	}
}

/* 0: the failure has happened. The copy to us may be what fails: then nothing did before. */
static int nth_left(void)
{
	char text[16] = "";

	return pread(nth_fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : -1;
}

static void setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) != (ssize_t)strlen(value)) {
		fprintf(stderr, "nth: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	close(fd);
}

/* Without a word: what the kernel says of each would be taken for a report. */
static void settings(void)
{
	char path[128];

	setting("/sys/kernel/debug/failslab/verbose", "0");
	setting("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	setting("/sys/kernel/debug/fail_make_request/verbose", "0");
	setting("/sys/kernel/debug/fail_usercopy/verbose", "0");
	setting("/sys/kernel/debug/failslab/ignore-gfp-wait", with_device ? "Y" : "N");
	setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", with_device ? "Y" : "N");
	setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	setting("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", strrchr(device, '/') + 1);
	setting(path, with_device ? "1" : "0");
}

/* ---- what has to hold ---------------------------------------------------------------------------- */

static bool canaries_read(void)
{
	return value_is("canary-small", 's', CANARY_SMALL) == 1 &&
	       value_is("canary-large", 'l', CANARY_LARGE) == 1;
}

static bool takes_changes(void)
{
	int fd;

	if (value_put("probe", 'p', 100))
		return false;
	fd = open(MOUNTPOINT "/probe", O_RDONLY);
	if (fd < 0 || fsync(fd)) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	return !close(fd);
}

static bool explained(int err)
{
	switch (err) {
	case ENOMEM:
	case EAGAIN:
		return true;
	case EIO:
	case EROFS: /* what comes after the first failed write of a large operation */
		return with_device;
	case EFAULT:
		return true;
	default:
		return false;
	}
}

static void classify(int err)
{
	now.injected++;
	if (!err)
		now.absorbed++;
	else if (err == EIO || err == EROFS)
		now.device++;
	else if (err == EFAULT)
		now.copies++;
	else
		now.memory++;
}

/* What the operation left, as far as it can be seen before and after a new mount. */
static void judge_state(const struct operation *op, int n, int err)
{
	int state = op->state ? op->state() : 0;

	if (state < 0)
		wrong(op, n, "left neither what was nor what should be", err);
	else if (!err && op->state && !state)
		wrong(op, n, "said that it was done, and is not", err);
	else if (err && state && !op->half && !with_device)
		wrong(op, n, "failed, and is done", err);
}

static bool remount(const struct operation *op, int n)
{
	now.remounts++;
	if (volume_unmount() || volume_mount(NULL)) {
		wrong(op, n, "cannot be mounted again", errno);
		return false;
	}
	return true;
}

/* false: there is nothing left to go on with */
static bool judge(const struct operation *op, int n, int err)
{
	classify(err);
	if (err && !explained(err))
		wrong(op, n, "an errno that nothing explains", err);
	if (!volume_mounted() && volume_mount(NULL)) {
		wrong(op, n, "cannot be mounted afterwards", errno);
		return false;
	}
	judge_state(op, n, err);
	if (!canaries_read())
		wrong(op, n, "what was synced cannot be read", err);
	if (takes_changes())
		return true;
	if (!with_device)
		wrong(op, n, "no change is taken any more", errno);
	if (!remount(op, n))
		return false;
	if (op->state && op->state() < 0)
		wrong(op, n, "left neither what was nor what should be, after a mount", err);
	if (!canaries_read() || !takes_changes()) {
		wrong(op, n, "a mount does not heal it", errno);
		return false;
	}
	return true;
}

/* ---- the sweep ----------------------------------------------------------------------------------- */

/* One failure; 1: it was met, 0: the operation came to its end before, -1: no way to go on. */
static int one(const struct operation *op, int n)
{
	int ret, err, left;

	if (op->prepare && op->prepare()) {
		wrong(op, n, "cannot be prepared", errno);
		return -1;
	}
	nth_set(n);
	errno = 0;
	ret = op->run();
	err = ret ? errno : 0;
	left = nth_left();
	nth_set(0);
	if (op->finish)
		op->finish();
	if (left) {
		if (err)
			wrong(op, n, "fails without a failure", err);
		if (!volume_mounted())
			(void)!volume_mount(NULL);
		return 0;
	}
	return judge(op, n, err) ? 1 : -1;
}

static void sweep(const struct operation *op)
{
	int n, met = 1;

	memset(&now, 0, sizeof(now));
	for (n = 1; n < NTH_MAX && met > 0; n++)
		met = one(op, n);
	if (n == NTH_MAX)
		wrong(op, n, "has no end of places to fail", 0);
	printf("%s - %s, %s: %u failures (absorbed %u, no memory %u, device %u, copies %u; %u mounts)\n",
	       now.wrong ? "not ok" : "ok", with_device ? "device" : "allocations", op->name, now.injected,
	       now.absorbed, now.memory, now.device, now.copies, now.remounts);
	fflush(stdout);
	total.injected += now.injected;
	total.absorbed += now.absorbed;
	total.memory += now.memory;
	total.device += now.device;
	total.copies += now.copies;
	total.remounts += now.remounts;
	total.wrong += now.wrong;
}

static bool start(void)
{
	if (volume_unmount() || volume_mount("") || value_put("canary-small", 's', CANARY_SMALL) ||
	    value_put("canary-large", 'l', CANARY_LARGE))
		return false;
	return takes_changes() && canaries_read();
}

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 3) {
		fprintf(stderr, "usage: nth DEVICE allocations|device [OPERATION]\n");
		return 2;
	}
	device = argv[1];
	with_device = !strcmp(argv[2], "device");
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (nth_fd < 0) {
		perror("nth: /proc/thread-self/fail-nth");
		return 2;
	}
	/* A page fault of our own must not be what fails. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("nth: mlockall");
	settings();
	if (!start()) {
		perror("nth: the volume");
		return 2;
	}
	for (i = 0; i < operations_nr; i++)
		if (argc < 4 || !strcmp(argv[3], operations[i].name))
			sweep(&operations[i]);
	printf("%s - %s: the volume is unmounted\n", volume_unmount() ? "not ok" : "ok", argv[2]);
	printf("# %s: %u failures injected: %u absorbed, %u no memory, %u device, %u copies; %u mounts to "
	       "go on\n", argv[2], total.injected, total.absorbed, total.memory, total.device, total.copies,
	       total.remounts);
	return total.wrong != 0;
}
