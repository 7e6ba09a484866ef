/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - kvs-fsck: command line, output and exit codes of fsck(8).
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "explain.h"

#define MAX_PER_CODE 10

/* fsck(8) */
enum { EXIT_CLEAN = 0, EXIT_PROBLEMS = 4, EXIT_ERROR = 8, EXIT_USAGE = 16, EXIT_CANCELLED = 32 };

struct settings {
	const char *path;
	bool check_only, verbose, json, max_given;
	struct kvsck_options opt;
};

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

static bool is_cancelled(void *arg)
{
	(void)arg;
	return cancelled;
}

static const char usage_text[] =
	"Usage: kvs-fsck -n [OPTION]... VOLUME\n"
	"Check a kvs volume (an image file or a block device) and say what is wrong with it.\n"
	"Nothing is ever written: repair is not available yet, so -n is required.\n"
	"\n"
	"  -n                  check only\n"
	"  -v                  also notes (what a crash leaves behind), every finding, totals\n"
	"      --no-values     do not read the values that stand outside of the trees\n"
	"      --json          a JSON object for each finding, and one for the summary\n"
	"      --max-per-code N  findings shown of each code (default 10; 0: all)\n"
	"  -h, --help          this text\n"
	"  -V, --version       the version\n"
	"\n"
	"Exit status: 0 clean, 4 problems found, 8 cannot be checked, 16 usage, 32 cancelled.\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "kvs-fsck: %s\nTry 'kvs-fsck --help'.\n", what);
	return EXIT_USAGE;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct settings *s)
{
	static const struct option longs[] = {
		{ "no-values", no_argument, NULL, 'N' },
		{ "json", no_argument, NULL, 'j' },
		{ "max-per-code", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned long n;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "nvhV", longs, NULL)) != -1) {
		switch (c) {
		case 'n':
			s->check_only = true;
			break;
		case 'v':
			s->verbose = true;
			break;
		case 'N':
			s->opt.flags |= KVSCK_NO_VALUES;
			break;
		case 'j':
			s->json = true;
			break;
		case 'm':
			errno = 0;
			n = strtoul(optarg, &end, 10);
			if (errno || end == optarg || *end || optarg[0] == '-' || n > UINT32_MAX)
				return usage_error("--max-per-code needs a number");
			s->opt.max_per_code = (u32)n;
			s->max_given = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_CLEAN;
		case 'V':
			puts("kvs-fsck " PACKAGE_VERSION);
			return EXIT_CLEAN;
		default:
			return usage_error("unknown option");
		}
	}
	if (argc - optind != 1)
		return usage_error(argc == optind ? "which volume?" : "one volume at a time");
	s->path = argv[optind];
	if (!s->check_only)
		return usage_error("repair is not available yet; use -n to check only");
	if (!s->max_given)
		s->opt.max_per_code = s->verbose ? 0 : MAX_PER_CODE;
	return -1;
}

static int fail(const struct settings *s, const char *what)
{
	fprintf(stderr, "kvs-fsck: %s: %s\n", s->path, what);
	return EXIT_ERROR;
}

static int fail_errno(const struct settings *s, const char *what)
{
	fprintf(stderr, "kvs-fsck: %s: %s: %s\n", s->path, what, strerror(errno));
	return EXIT_ERROR;
}

/* ---- output ------------------------------------------------------------------------------------ */

static void found(void *arg, const struct kvsck_finding *f)
{
	const struct settings *s = arg;
	char line[4096];

	if (f->severity == KVSCK_NOTE && !s->verbose)
		return;
	if (s->json)
		kvsck_finding_to_json(line, sizeof(line), f);
	else
		kvsck_finding_to_text(line, sizeof(line), f);
	printf("%s%s\n", f->severity == KVSCK_NOTE && !s->json ? "note: " : "", line);
}

static void print_omitted(const struct settings *s, const struct kvsck_report *rep)
{
	u32 i, nr, max = s->opt.max_per_code;

	for (i = 0; i < KVSCK_CODES && max; i++) {
		nr = rep->by_code[i] > max ? rep->by_code[i] - max : 0;
		if (s->verbose && rep->notes_by_code[i] > max)
			nr += rep->notes_by_code[i] - max;
		if (nr)
			printf("%u %s: %u more not shown; use -v or --max-per-code 0\n", i,
			       kvf_finding_name((int)i), nr);
	}
}

static void print_totals(const struct kvsck_report *rep)
{
	printf("checkpoint %llu (superblock %llu, %s): %llu trees, %llu entries, %llu pages, "
	       "%llu separated values of %llu bytes, %llu large values\n",
	       rep->generation, rep->seq, rep->clean ? "clean" : "not closed cleanly", rep->trees,
	       rep->entries, rep->pages, rep->values, rep->value_bytes, rep->objects);
	printf("log: %llu records to replay, LSN %llu to %llu; %llu segments of %llu bytes\n",
	       rep->log_records, rep->replay_lsn, rep->end_lsn, rep->segments, rep->segment_bytes);
	if (rep->errors_nr)
		printf("errors on record: %u, the last: %s\n", rep->errors_nr,
		       kvf_err_text((int)rep->last_error));
}

static void print_summary(const struct settings *s, const struct kvsck_report *rep, const char *error)
{
	if (s->json) {
		printf("{\"summary\":{\"clean\":%s,\"problems\":%llu,\"notes\":%llu,\"error\":%s%s%s,"
		       "\"usable\":%s,\"closed_cleanly\":%s,\"generation\":%llu,\"seq\":%llu,"
		       "\"segments\":%llu,\"segment_bytes\":%llu,\"replay_lsn\":%llu,\"end_lsn\":%llu,"
		       "\"log_records\":%llu,\"trees\":%llu,\"entries\":%llu,\"pages\":%llu,"
		       "\"values\":%llu,\"value_bytes\":%llu,\"large_values\":%llu,\"errors\":%u}}\n",
		       !error && !rep->problems ? "true" : "false", rep->problems, rep->notes,
		       error ? "\"" : "", error ? error : "null", error ? "\"" : "",
		       rep->usable ? "true" : "false", rep->clean ? "true" : "false", rep->generation,
		       rep->seq, rep->segments, rep->segment_bytes, rep->replay_lsn, rep->end_lsn,
		       rep->log_records, rep->trees, rep->entries, rep->pages, rep->values,
		       rep->value_bytes, rep->objects, rep->errors_nr);
		return;
	}
	print_omitted(s, rep);
	if (s->verbose && rep->usable)
		print_totals(rep);
	if (error)
		return;
	if (!rep->problems)
		printf("%s: clean\n", s->path);
	else
		printf("%s: %llu problem%s found; nothing was changed\n", s->path, rep->problems,
		       rep->problems == 1 ? "" : "s");
}

static int finish(const struct settings *s, const struct kvsck_report *rep, int err)
{
	print_summary(s, rep, err ? kvf_err_text(err) : NULL);
	if (fflush(stdout) || ferror(stdout))
		return fail_errno(s, "standard output");
	switch (err) {
	case 0:
		return rep->problems ? EXIT_PROBLEMS : EXIT_CLEAN;
	case -KVE_cancelled:
		fail(s, "cancelled; what was found so far stands above");
		return EXIT_CANCELLED;
	case -KVE_not_volume:
		return fail(s, "not a kvs volume");
	case -KVE_empty:
		return fail(s, "empty; no volume has been created here");
	case -KVE_unsupported:
		return fail(s, "of a newer or older format; check it with the kvs that made it");
	}
	return fail(s, kvf_err_text(err));
}

int main(int argc, char **argv)
{
	struct settings s = { .path = NULL };
	static struct kvsck_report rep;
	struct kvsck_io io = { .read = kvsck_file_read };
	struct sigaction sa = { .sa_handler = on_signal };
	struct kvsck_file file;
	const char *what;
	int err, status;

	status = parse(argc, argv, &s);
	if (status >= 0)
		return status;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	err = kvsck_file_open(&file, s.path, &what);
	if (err)
		return err == -KVE_io_system ? fail_errno(&s, what) : fail(&s, what);
	s.opt.found = found;
	s.opt.found_arg = &s;
	s.opt.cancelled = is_cancelled;
	io.arg = &file;
	io.size = file.size;
	status = finish(&s, &rep, kvsck_run(&io, &s.opt, &rep));
	kvsck_file_close(&file);
	return status;
}
