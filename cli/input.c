/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * input.c - what 'kvs load' reads: a file or standard input through one buffer, with the line
 * number for messages. Lines may be longer than the buffer; parsers pull bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvs.h"

int input_open(struct input *in, struct kvs *k, const char *name)
{
	struct stat st;

	memset(in, 0, sizeof(*in));
	in->k = k;
	in->line = 1;
	in->fd = -1;
	if (!strcmp(name, "-")) {
		in->name = "standard input";
		in->fd = STDIN_FILENO;
	} else {
		in->name = name;
		in->fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (in->fd < 0)
			return kvs_complain(EXIT_SYSTEM, "%s: %s; nothing was loaded", name,
					    strerror(errno));
	}
	in->buf = malloc(INPUT_BUFFER);
	if (!in->buf)
		return kvs_no_memory();
	if (fstat(in->fd, &st) || !S_ISREG(st.st_mode))
		st.st_size = 0;
	progress_begin(&in->progress, "load", (uint64_t)st.st_size, isatty(in->fd));
	return EXIT_OK;
}

void input_close(struct input *in)
{
	progress_end(&in->progress);
	free(in->buf);
	in->buf = NULL;
	if (in->fd > STDIN_FILENO)
		close(in->fd);
}

/* Adds bytes behind those that are there. */
static bool input_more(struct input *in)
{
	ssize_t n;

	while (!in->error && !in->eof && in->len < INPUT_BUFFER) {
		if (kvs_interrupted()) {
			in->error = -1;
			break;
		}
		n = read(in->fd, in->buf + in->len, INPUT_BUFFER - in->len);
		if (n > 0) {
			in->len += (size_t)n;
			in->bytes += (uint64_t)n;
			return true;
		}
		if (!n)
			in->eof = true;
		else if (errno != EINTR)
			in->error = errno;
	}
	return false;
}

bool input_fill(struct input *in)
{
	if (in->pos < in->len)
		return true;
	in->pos = 0;
	in->len = 0;
	progress_show(&in->progress, in->bytes, in->entries ? *in->entries : 0);
	return input_more(in);
}

bool input_begins(struct input *in, const char *text)
{
	size_t n = strlen(text);

	while (in->len - in->pos < n && input_more(in))
		;
	return in->len - in->pos >= n && !memcmp(in->buf + in->pos, text, n);
}

int input_bad(struct input *in, const char *fmt, ...)
{
	char text[512];
	va_list args;

	progress_end(&in->progress);
	if (in->error < 0)
		return EXIT_INTERRUPT;
	if (in->error)
		return kvs_complain(EXIT_SYSTEM, "%s: line %" PRIu64 ": %s", in->name, in->line,
				    strerror(in->error));
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return kvs_complain(EXIT_USAGE, "%s: line %" PRIu64 ": %s", in->name, in->line, text);
}
