/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * help.c - everything that the tables say to people: general help, help of a verb, did-you-mean.
 */
#include <stdio.h>
#include <string.h>

#include "kvs.h"

static const char general[] =
	"\n"
	"Examples:\n"
	"  kvs put demo.kv greeting 'Hello, world!'   store (and create demo.kv)\n"
	"  kvs get demo.kv greeting                   read\n"
	"  kvs put demo.kv disk - < disk.img          a value of any size\n"
	"  kvs scan demo.kv --prefix user/            entries in order\n"
	"  kvs dump demo.kv | kvs load copy.kv -      copy as text\n"
	"  kvs check demo.kv                          verify every byte that matters\n"
	"\n"
	"IMAGE may be mount:DIR, a volume that the kernel has mounted there.\n"
	"'kvs VERB --help' shows the options of a verb. Exit status: 0 ok, 1 no such key, 2 usage "
	"or bad\n"
	"input, 3 system or no space, 4 damaged, 5 not a volume, 6 busy.\n";

void help_general(void)
{
	const char *group = "";
	size_t i;

	out_text("kvs - a crash-safe key-value store in one image file or on one block device\n\n"
		 "Usage: kvs VERB IMAGE [ARGUMENTS] [OPTIONS]\n");
	for (i = 0; i < kvs_commands_nr; i++) {
		const struct kvs_command *cmd = &kvs_commands[i];
		char left[64];

		if (strcmp(group, cmd->group)) {
			group = cmd->group;
			out_fmt("\n%s:\n", group);
		}
		snprintf(left, sizeof(left), "%s %s", cmd->name, cmd->usage);
		out_fmt("  %-24s %s\n", left, cmd->help);
	}
	out_text(general);
}

void help_command(const struct kvs_command *cmd)
{
	int i;

	out_fmt("kvs %s - %s\n\nUsage: kvs %s %s [OPTIONS]\n", cmd->name, cmd->help, cmd->name,
		cmd->usage);
	if (cmd->details[0])
		out_fmt("\n%s", cmd->details);
	out_text("\nOptions:\n");
	for (i = 0; i < OPT_NR; i++) {
		const struct kvs_option_info *o = &kvs_option_table[i];
		char left[64];

		if (!(cmd->options >> i & 1))
			continue;
		if (o->letter)
			snprintf(left, sizeof(left), "-%c, --%s%s%s", o->letter, o->name,
				 o->arg ? " " : "", o->arg ? o->arg : "");
		else
			snprintf(left, sizeof(left), "    --%s%s%s", o->name, o->arg ? " " : "",
				 o->arg ? o->arg : "");
		out_fmt("  %-24s %s\n", left, o->help);
	}
}

void help_table(void)
{
	size_t i;
	int o;

	for (i = 0; i < kvs_commands_nr; i++)
		for (o = 0; o < OPT_NR; o++)
			if (kvs_commands[i].options >> o & 1)
				out_fmt("%s\t--%s\n", kvs_commands[i].name,
					kvs_option_table[o].name);
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b; both shorter than EDIT_MAX. */
#define EDIT_MAX 16

static int edit_distance(const char *a, const char *b)
{
	int row[EDIT_MAX + 1][EDIT_MAX + 1];
	int la = (int)strlen(a), lb = (int)strlen(b), i, j;

	for (i = 0; i <= la; i++)
		row[i][0] = i;
	for (j = 0; j <= lb; j++)
		row[0][j] = j;
	for (i = 1; i <= la; i++) {
		for (j = 1; j <= lb; j++) {
			int best = row[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			if (row[i - 1][j] + 1 < best)
				best = row[i - 1][j] + 1;
			if (row[i][j - 1] + 1 < best)
				best = row[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    row[i - 2][j - 2] + 1 < best)
				best = row[i - 2][j - 2] + 1;
			row[i][j] = best;
		}
	}
	return row[la][lb];
}

/* Words of other tools. */
static const char *synonym(const char *name)
{
	static const char *const words[][2] = {
		{ "set", "put" },     { "add", "put" },	    { "insert", "put" },
		{ "write", "put" },   { "read", "get" },    { "cat", "get" },
		{ "delete", "del" },  { "rm", "del" },	    { "remove", "del" },
		{ "ls", "scan" },     { "list", "scan" },   { "keys", "scan" },
		{ "incr", "inc" },    { "decr", "dec" },    { "size", "count" },
		{ "info", "stat" },   { "import", "load" }, { "restore", "load" },
		{ "export", "dump" }, { "init", "create" }, { "new", "create" },
		{ "mkfs", "create" }, { "fsck", "check" },  { "verify", "check" },
		{ "compact", "gc" },  { "vacuum", "gc" },   { "trim", "gc" },
		{ "has", "exists" },   { "fuse", "mount" },
		{ "attach", "mount" },
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(name, words[i][0]))
			return words[i][1];
	return NULL;
}

const char *kvs_did_you_mean(const char *name)
{
	const char *best = synonym(name);
	int best_edits = 3;
	size_t i, n = strlen(name);

	if (best || n >= EDIT_MAX || n < 2)
		return best;
	for (i = 0; i < kvs_commands_nr; i++) {
		const char *verb = kvs_commands[i].name;
		int edits = edit_distance(name, verb);

		if (!strncmp(verb, name, n))
			edits = 1;
		/* a word that shares too little with the verb is a guess, not a hint */
		if (edits < best_edits && edits < (int)strlen(verb) - 1) {
			best = verb;
			best_edits = edits;
		}
	}
	return best;
}
