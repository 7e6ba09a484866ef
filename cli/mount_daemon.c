/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mount_daemon.c - into the background, but not before the mount works: until then the command waits, and
 * messages and the exit code reach who typed it. Afterwards messages go to the system's log.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* fopencookie */
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "mount.h"

static int ready_pipe = -1; /* of the child; one mount a process */

/* The code that the child ended with. */
static int reap(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_SYSTEM;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return kvs_complain(EXIT_SYSTEM, "the server ended by signal %d", WTERMSIG(status));
}

bool mount_daemon_fork(int *rc)
{
	int ends[2];
	ssize_t n;
	pid_t child;
	char byte;

	if (pipe2(ends, O_CLOEXEC)) {
		*rc = kvs_complain(EXIT_SYSTEM, "pipe: %s", strerror(errno));
		return false;
	}
	child = fork();
	if (child < 0) {
		*rc = kvs_complain(EXIT_SYSTEM, "fork: %s", strerror(errno));
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	if (!child) {
		close(ends[0]);
		ready_pipe = ends[1];
		return true;
	}
	close(ends[1]);
	do
		n = read(ends[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	close(ends[0]);
	*rc = n == 1 ? EXIT_OK : reap(child);
	return false;
}

/* One line of what would have gone to standard error. */
static ssize_t log_line(void *cookie, const char *text, size_t len)
{
	static const char prefix[] = "kvs: ";
	const size_t skip = sizeof(prefix) - 1;
	size_t n = len;

	(void)cookie;
	if (n && text[n - 1] == '\n')
		n--;
	if (n >= skip && !memcmp(text, prefix, skip)) {
		text += skip;
		n -= skip;
	}
	if (n)
		syslog(LOG_WARNING, "%.*s", (int)n, text);
	return (ssize_t)len;
}

void mount_daemon_ready(void)
{
	static const cookie_io_functions_t functions = { .write = log_line };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;
	FILE *log = fopencookie(NULL, "w", functions);

	openlog("kvs", LOG_PID, LOG_DAEMON);
	if (log) {
		setvbuf(log, NULL, _IOLBF, BUFSIZ);
		stderr = log;
	}
	/* a pipe that is the terminal's end must see its end */
	for (fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	setsid();
	if (chdir("/")) {
		/* then the directory that we were started in stays in use; nothing else */
	}
	if (ready_pipe >= 0 && write(ready_pipe, "", 1) != 1)
		syslog(LOG_WARNING, "who started the server has gone");
	close(ready_pipe);
	ready_pipe = -1;
}
