// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * dev_window.c - the file device: the window, a part of the file mapped shared. A store into it is
 * in the page cache when it returns and so survives the death of this process, at the cost of a
 * memcpy.
 *
 * The mapping goes through a second, buffered descriptor, so that O_DIRECT stays on for the rest.
 * Its pages are made writable before they are needed (MADV_POPULATE_WRITE): a store should not wait
 * for the file system. That is asked for as the log comes to them, so a small volume stays small.
 *
 * When somebody cuts the file, or the memory below a page fails, a store raises SIGBUS. The handler
 * finds the window that the address lies in, puts a page of zeros there and marks the window as
 * poisoned: the store runs to its end and then reports an error, as all later ones do. What is not
 * ours goes on to the handler that was there before. The handler stays for good; an application
 * that installs its own later has to call on. A store into the part of the last page behind a cut
 * end raises nothing and is lost, as is one after the file was cut and extended again: the lock
 * keeps out whoever respects it.
 */
#include "dev_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Read by the handler at any instant: entries are never freed, base is 0 when not in use. */
#define WINDOWS_MAX 256
struct window {
	bool taken;
	bool poisoned;
	u8 *base;
	u64 len; /* of the mapping */
	u32 lead; /* bytes of the mapping before the window, which may begin inside a page */
	u32 size; /* of the window */
	u64 off;  /* of the window in the file */
	u32 backed; /* bytes of it whose pages are there and writable */
};

static struct window windows[WINDOWS_MAX];
static struct sigaction previous;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;
static size_t page_bytes;

static struct window *window_at(const u8 *addr)
{
	u8 *base;
	int i;

	for (i = 0; i < WINDOWS_MAX; i++) {
		base = kvp_load_acquire(&windows[i].base);
		if (base && addr >= base && addr < base + windows[i].len)
			return &windows[i];
	}
	return NULL;
}

/* Async-signal-safe: atomics and one system call. */
static bool replace_page(void *addr)
{
	struct window *w = window_at(addr);
	u8 *page = (u8 *)((uintptr_t)addr & ~(uintptr_t)(page_bytes - 1));

	if (!w)
		return false;
	kvp_store(&w->poisoned, true);
	return mmap(page, page_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved = errno;
	bool fault = info->si_code > 0; /* else it was sent by kill() and has no address */

	if (fault && replace_page(info->si_addr)) {
		errno = saved;
		return;
	}
	errno = saved;
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
	} else if (previous.sa_handler == SIG_IGN && !fault) {
		return;
	} else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
		/* Die of it as we would have without a handler: blocked until this one returns. */
		signal(SIGBUS, SIG_DFL);
		raise(SIGBUS);
	} else {
		previous.sa_handler(sig);
	}
}

static void handler_install(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	sigemptyset(&sa.sa_mask);
	/* First learn what was there, so that a fault in between finds it. */
	KVP_ASSERT(sigaction(SIGBUS, NULL, &previous) == 0);
	KVP_ASSERT(sigaction(SIGBUS, &sa, NULL) == 0);
}

static struct window *window_new(void)
{
	bool no;
	int i;

	for (i = 0; i < WINDOWS_MAX; i++) {
		no = false;
		if (kvp_cas(&windows[i].taken, &no, true)) {
			kvp_store(&windows[i].poisoned, false);
			return &windows[i];
		}
	}
	return NULL;
}

int kvp_file_reopen(struct file_dev *f, int mode)
{
	struct stat st;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	fd = open(path, mode | O_CLOEXEC | O_NOCTTY);
	if (fd < 0) /* no /proc here */
		fd = open(f->dev.name, mode | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || (f->is_block ? st.st_rdev != f->id_dev :
					     st.st_dev != f->id_dev || st.st_ino != f->id_ino)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int no_window(struct file_dev *f, const char *why)
{
	return kvp_fail(-KVE_unsupported, "%s: no window: %s", f->dev.name, why);
}

/* Make all pages present and writable, so that what cannot be is found out now. 0 or an errno. */
static int populate(u8 *base, u64 len)
{
	volatile u8 *p;
	u64 at;

	if (madvise(base, len, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return errno == EFAULT || errno == EHWPOISON ? EIO : errno;
	/* A kernel before 5.14: touch each page; the handler is in place. */
	for (at = 0; at < len; at += page_bytes) {
		p = base + at;
		*p = *p;
	}
	return 0;
}

int kvp_file_window_map(struct kvp_dev *dev, u64 off, u32 len)
{
	struct file_dev *f = file_of(dev);
	struct window *w;
	u64 start;
	u8 *base;
	int fd, rc;

	if (dev->read_only || !kvp_load(&f->direct))
		return no_window(f, dev->read_only ? "opened read-only" : "no O_DIRECT here");
	if (f->window || len == 0 || off > dev->size || len > dev->size - off)
		return kvp_fail(-KVE_invalid,
				"%s: a window of %u bytes at offset %llu is not possible",
				dev->name, len, off);
	pthread_once(&handler_once, handler_install);
	fd = kvp_file_reopen(f, O_RDWR);
	if (fd < 0)
		return no_window(f, "the file cannot be opened a second time");
	w = window_new();
	if (!w) {
		close(fd);
		return no_window(f, "too many windows in this process");
	}
	start = off & ~(u64)(page_bytes - 1);
	w->lead = (u32)(off - start);
	w->size = len;
	w->len = w->lead + (u64)len;
	base = mmap(NULL, w->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
	rc = errno;
	close(fd); /* the mapping keeps the file */
	if (base == MAP_FAILED) {
		kvp_store_release(&w->taken, false);
		if (rc == ENODEV || rc == EACCES || rc == EPERM)
			return no_window(f, "the file system cannot map files shared");
		return kvp_fail_errno(-KVE_io_system, dev->name, "map the window", off, len, rc);
	}
	w->off = off;
	w->backed = 0;
	kvp_store_release(&w->base, base);
	f->window = w;
	return 0;
}

int kvp_file_window_back(struct kvp_dev *dev, u32 upto)
{
	struct file_dev *f = file_of(dev);
	struct window *w = f->window;
	u64 from;
	int err, rc;

	if (!w || upto > w->size)
		return kvp_fail(-KVE_invalid, "%s: a window of %u bytes is not mapped", dev->name, upto);
	if (upto <= w->backed)
		return 0;
	/* Space first: a page that finds none would kill. */
	err = kvp_file_allocate(dev, w->off + w->backed, upto - w->backed, 0);
	if (err)
		return err;
	from = (w->lead + (u64)w->backed) & ~(u64)(page_bytes - 1);
	rc = populate(w->base + from, w->lead + (u64)upto - from);
	if (rc == 0 && kvp_load(&w->poisoned))
		rc = EIO;
	if (rc)
		return kvp_file_write_error(f, "fill the window", w->off, upto, rc);
	w->backed = upto;
	return 0;
}

int kvp_file_window_store(struct kvp_dev *dev, u32 off, const void *buf, u32 len)
{
	struct window *w = file_of(dev)->window;

	if (!w || off > w->size || len > w->size - off)
		return kvp_fail(-KVE_invalid, "%s: %u bytes at %u are outside the window",
				dev->name, len, off);
	memcpy(w->base + w->lead + off, buf, len);
	/* The fault is taken by the memcpy of this thread: no store is called good that was not. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (kvp_unlikely(kvp_load(&w->poisoned)))
		return kvp_fail(-KVE_io_write,
				"%s: the window cannot be written (file cut?); close and check it",
				dev->name);
	return 0;
}

void kvp_file_window_unmap(struct file_dev *f)
{
	struct window *w = f->window;
	u8 *base;

	if (!w)
		return;
	base = w->base;
	kvp_store_release(&w->base, NULL);
	munmap(base, w->len);
	kvp_store_release(&w->taken, false);
	f->window = NULL;
}
