/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvs.c - the command table and main(). The table is the only list of verbs: help, did-you-mean,
 * option parsing and the test of the man page read it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kvs.h"

#define COMMON (OPT_BIT(CACHE) | OPT_BIT(HELP) | OPT_BIT(VERSION))
#define KEYED (OPT_BIT(TREE) | OPT_BIT(ENC) | OPT_BIT(KEY_ENC))
#define VALUED OPT_BIT(VALUE_ENC)
#define RANGE (OPT_BIT(FROM) | OPT_BIT(TO) | OPT_BIT(PREFIX))

/* clang-format off */
const struct kvs_command kvs_commands[] = {
	{ "put", "Keys", "IMAGE KEY VALUE|-", COMMON | KEYED | VALUED | OPT_BIT(NO_SYNC), 2, 2,
	  cmd_put, "store VALUE, or standard input, under KEY",
	  "A new IMAGE is created. Standard input is stored byte for byte, whatever --enc says, and may\n"
	  "be larger than memory.\n" },
	{ "get", "Keys", "IMAGE KEY", COMMON | KEYED | VALUED | OPT_BIT(AT), 1, 1,
	  cmd_get, "write the value of KEY to standard output",
	  "Exactly the value's bytes, unless --enc or --value-enc asks for escape, hex or base64: these\n"
	  "end in a newline.\n" },
	{ "del", "Keys", "IMAGE [KEY...]", COMMON | KEYED | RANGE | OPT_BIT(FORCE) | OPT_BIT(NO_SYNC), 0, -1,
	  cmd_del, "delete keys, or all keys of a range",
	  "A missing KEY gives exit status 1; the other keys are deleted. Deleting a range asks first\n"
	  "when a terminal is there to answer; --force skips the question. It is one change, whatever the\n"
	  "range holds; the space comes back in the background, or with 'kvs gc'.\n" },
	{ "exists", "Keys", "IMAGE KEY", COMMON | KEYED, 1, 1,
	  cmd_exists, "exit status 0 if KEY is there, 1 if not", "" },
	{ "inc", "Keys", "IMAGE KEY [N]", COMMON | KEYED | OPT_BIT(NO_SYNC), 1, 2,
	  cmd_inc, "add N (or 1) to the number under KEY and print it",
	  "The value is an integer of 64 bits: a sign, then decimal, 0x hexadecimal, 0b binary or 0 octal.\n"
	  "It is stored back in decimal.\n" },
	{ "dec", "Keys", "IMAGE KEY [N]", COMMON | KEYED | OPT_BIT(NO_SYNC), 1, 2,
	  cmd_dec, "subtract N (or 1) from the number under KEY and print it",
	  "Numbers as for 'kvs inc'.\n" },
	{ "scan", "Keys", "IMAGE", COMMON | KEYED | VALUED | RANGE | OPT_BIT(REVERSE) | OPT_BIT(LIMIT) |
	  OPT_BIT(KEYS) | OPT_BIT(OUTPUT) | OPT_BIT(AT), 0, 0,
	  cmd_scan, "print entries in order: key, tab, value",
	  "What is damaged is told on standard error and passed; the exit status is then 4. With -o json\n"
	  "the entries come as 'kvs dump' prints them.\n" },
	{ "count", "Keys", "IMAGE", COMMON | OPT_BIT(TREE) | OPT_BIT(AT), 0, 0,
	  cmd_count, "print the number of entries", "" },
	{ "load", "Whole volumes", "IMAGE FILE|-", COMMON | OPT_BIT(TREE) | OPT_BIT(NO_SYNC), 1, 1,
	  cmd_load, "store the entries of a dump",
	  "Reads what 'kvs dump', mdb_dump and db_dump write and recognises which it is. Entries are\n"
	  "committed in order; what was committed before an error is kept. --tree is for entries that\n"
	  "name no tree. A new IMAGE is created.\n" },
	{ "apply", "Whole volumes", "IMAGE FILE|-", COMMON | KEYED | VALUED | OPT_BIT(NO_SYNC), 1, 1,
	  cmd_apply, "carry out a script of changes",
	  "A line is 'put KEY VALUE', 'append KEY VALUE', 'inc KEY [N]', 'dec KEY [N]', 'del KEY',\n"
	  "'tree NAME' (made if need be; of the lines that follow), 'sync' or 'echo TEXT', with a tab\n"
	  "between words. Each change is a commit; the first that fails ends it. A new IMAGE is created.\n" },
	{ "dump", "Whole volumes", "IMAGE", COMMON | OPT_BIT(TREE) | OPT_BIT(FORMAT) | OPT_BIT(AT), 0, 0,
	  cmd_dump, "write all entries as text that 'kvs load' reads",
	  "All trees, 'main' first, or one with --tree. The content alone decides the output.\n" },
	{ "check", "Whole volumes", "IMAGE", COMMON | OPT_BIT(OUTPUT), 0, 0,
	  cmd_check, "verify every page and every value; read-only",
	  "Prints each problem, then 'clean' or their number; exit status 4 if there are any.\n" },
	{ "gc", "Whole volumes", "IMAGE", COMMON, 0, 0,
	  cmd_gc, "give back the space of values that were overwritten or deleted",
	  "Values move out of half-empty parts of the log, in order of their keys. A volume that is open\n"
	  "does this by itself as far as its promise of space asks for it; this goes on until nothing is\n"
	  "to be won. Control-C ends it at any time, and the next run goes on.\n" },
	{ "explain", "Volumes", "IMAGE KEY|--addr N", COMMON | KEYED | OPT_BIT(ADDR) | OPT_BIT(ALL) |
	  OPT_BIT(OUTPUT), 0, 1,
	  cmd_explain, "show the way to KEY, or what owns a byte of the volume",
	  "From the superblock over the pages to the value: places, generations, LSNs, and whether the\n"
	  "checksums are right. Trees are those of the last checkpoint; what the log behind it does to the\n"
	  "key is told. Exit status 4 if something on the way is damaged.\n" },
	{ "map", "Volumes", "IMAGE", COMMON | OPT_BIT(OUTPUT) | OPT_BIT(HTML), 0, 0,
	  cmd_map, "draw the segments: what they hold, and which GC empties next",
	  "A cell for each segment, as of the last checkpoint.\n" },
	{ "snap", "Whole volumes", "IMAGE [create|delete|rollback NAME]", COMMON | OPT_BIT(OUTPUT) |
	  OPT_BIT(FORCE), 0, 2, cmd_snap, "list snapshots, or create or delete one, or go back to it",
	  "A snapshot keeps the whole volume as it is, for --at of the verbs that read. It costs space only\n"
	  "for what changes afterwards. The list has, separated by tabs: name, time, generation, and the\n"
	  "bytes that deleting that one alone would free. 'rollback' undoes all that came after it; if\n"
	  "later snapshots are part of that, it needs --force.\n" },
	{ "clone", "Whole volumes", "IMAGE SNAP TREE NEW", COMMON, 3, 3,
	  cmd_clone, "make a writable tree that begins as one of a snapshot",
	  "It takes no space but for what changes in it, and is a tree like any other. SNAP cannot be\n"
	  "deleted while there is a clone of it: 'kvs trees' names them, and drops them.\n" },
	{ "detach", "Whole volumes", "IMAGE TREE", COMMON, 1, 1,
	  cmd_detach, "copy what a clone shares, so that its snapshot can go",
	  "Then TREE is a clone no more. Control-C ends it at any time: what is copied stays so, and the\n"
	  "next run goes on.\n" },
	{ "diff", "Whole volumes", "IMAGE SNAP1 [SNAP2]", COMMON | KEYED | VALUED | OPT_BIT(KEYS) |
	  OPT_BIT(OUTPUT), 1, 2,
	  cmd_diff, "print what differs between two snapshots",
	  "Without SNAP2: between SNAP1 and the state now. A line has, separated by tabs: '+' (only in the\n"
	  "second), '-' (only in the first) or '~' (in both, with other values), tree, key, value; '~' has\n"
	  "both values. The exit status is 0 whether or not anything differs.\n" },
	{ "send", "Whole volumes", "IMAGE --snap NAME [--base NAME]", COMMON | OPT_BIT(SNAP) | OPT_BIT(BASE) |
	  OPT_BIT(RESUME), 0, 0,
	  cmd_send, "write a snapshot to standard output, for 'kvs receive'",
	  "With --base only what has changed since that snapshot. The target prints a TOKEN when a stream\n"
	  "ends too early; --resume TOKEN, instead of --snap, sends the rest.\n" },
	{ "receive", "Whole volumes", "IMAGE [FILE|-]", COMMON | OPT_BIT(ABORT) | OPT_BIT(TOKEN), 0, 1,
	  cmd_receive, "make IMAGE what a stream of 'kvs send' says",
	  "Everything is checked before it is believed. At the end there is a snapshot of the same name,\n"
	  "which the next increment goes on from. A stream that was cut can be gone on with: see 'send'.\n"
	  "A new IMAGE is created.\n" },
	{ "create", "Volumes", "IMAGE", COMMON | OPT_BIT(SIZE) | OPT_BIT(BLOCK) | OPT_BIT(SEGMENT) |
	  OPT_BIT(FRAME) | OPT_BIT(WINDOW) | OPT_BIT(LABEL) | OPT_BIT(UUID) | OPT_BIT(FORCE), 0, 0,
	  cmd_create, "make an empty volume in a file or on a device",
	  "A volume or foreign data that is there is never overwritten without --force. BYTES may end in\n"
	  "K, M, G or T.\n" },
	{ "resize", "Volumes", "IMAGE [SIZE]", COMMON | OPT_BIT(MIN) | OPT_BIT(GROW), 0, 1,
	  cmd_resize, "make the volume shorter or longer, or print the least size",
	  "One of SIZE, --min (prints the least SIZE, in bytes) and --grow. What stands beyond SIZE moves,\n"
	  "then the file is cut; an image never grows beyond SIZE again. SIZE may end in K, M, G or T.\n"
	  "Control-C ends it at any time, and leaves the volume as long as it was.\n" },
	{ "trees", "Volumes", "IMAGE", COMMON | OPT_BIT(DROP) | OPT_BIT(FORCE) | OPT_BIT(NO_SYNC) |
	  OPT_BIT(OUTPUT) | OPT_BIT(AT), 0, 0,
	  cmd_trees, "list the trees with their counts, or drop one",
	  "Prints name, tab, number of entries; of a clone another tab and its snapshot. --drop asks first\n"
	  "when a terminal is there to answer.\n" },
	{ "mount", "Volumes", "IMAGE DIR", OPT_BIT(OPTIONS) | OPT_BIT(FOREGROUND) | COMMON, 1, 1,
	  cmd_mount, "show the volume as a file system (FUSE)",
	  "A file for each key, a directory for each tree. -o LIST: ro, uid=, gid=, fmode=, dmode=,\n"
	  "write=set|stream, strip_nl, durability=kill-safe|synced|memory, cache=BYTES, allow_other.\n"
	  "'fusermount3 -u DIR' or 'umount DIR' ends it. By default each write sets the whole value: a\n"
	  "program that writes in pieces keeps only the last one, unless -o write=stream.\n" },
	{ "stat", "Volumes", "IMAGE", COMMON | OPT_BIT(OUTPUT), 0, 0,
	  cmd_stat, "print geometry, space, state and health", "" },
};
/* clang-format on */

const size_t kvs_commands_nr = sizeof(kvs_commands) / sizeof(kvs_commands[0]);

const struct kvs_command *kvs_command_find(const char *name)
{
	size_t i;

	for (i = 0; i < kvs_commands_nr; i++)
		if (!strcmp(name, kvs_commands[i].name))
			return &kvs_commands[i];
	return NULL;
}

static int unknown_verb(const char *name)
{
	const char *meant = kvs_did_you_mean(name);

	if (name[0] == '-')
		return kvs_complain(EXIT_USAGE,
				    "'%s' comes before the verb; options follow it: "
				    "kvs VERB IMAGE ... ('kvs --help' lists the verbs)",
				    name);
	if (meant)
		return kvs_complain(EXIT_USAGE, "unknown verb '%s'; did you mean 'kvs %s'?", name,
				    meant);
	return kvs_complain(EXIT_USAGE, "unknown verb '%s'; 'kvs --help' lists the verbs", name);
}

/* kvs help [VERB] */
static int help_verb(int argc, char **argv)
{
	const struct kvs_command *cmd;

	if (argc < 3) {
		help_general();
		return EXIT_OK;
	}
	if (!strcmp(argv[2], "--table")) {
		help_table();
		return EXIT_OK;
	}
	cmd = kvs_command_find(argv[2]);
	if (!cmd)
		return unknown_verb(argv[2]);
	help_command(cmd);
	return EXIT_OK;
}

static void show_version(void)
{
	out_fmt("kvs %s (libkvengine %s)\n", KV_VERSION_STRING, kv_version());
}

static void free_run(struct kvs *k)
{
	bytes_free(&k->from);
	bytes_free(&k->to);
	bytes_free(&k->prefix);
}

/* What needs the image itself says so, before it takes "mount:DIR" for a file. */
static int image_only(const struct kvs *k)
{
	bool needs = k->cmd->run == cmd_check || k->cmd->run == cmd_create ||
		     k->cmd->run == cmd_clone || k->cmd->run == cmd_detach || k->cmd->run == cmd_diff ||
		     k->cmd->run == cmd_explain || k->cmd->run == cmd_gc || k->cmd->run == cmd_map ||
		     k->cmd->run == cmd_mount || k->cmd->run == cmd_resize || k->cmd->run == cmd_snap ||
		     k->cmd->run == cmd_send || k->cmd->run == cmd_receive || kvs_given(k, OPT_BIT(AT));

	if (!needs || !volume_mount_dir(k->image))
		return -1;
	return kvs_complain(EXIT_USAGE,
			    "'kvs %s' works on an image or a device that is not mounted, not on %s",
			    k->cmd->name, k->image);
}

/* Called by this name (a link), the program is 'kvs create', as mkfs(8) expects it. */
static bool is_mkfs(const char *program)
{
	const char *slash = strrchr(program, '/');

	return !strcmp(slash ? slash + 1 : program, "mkfs.kvfs");
}

/* argv begins with the verb. */
static int run_verb(struct kvs *k, const char *verb, int argc, char **argv)
{
	int rc;

	k->cmd = kvs_command_find(verb);
	if (!k->cmd)
		return unknown_verb(verb);
	rc = opts_parse(k, argc, argv);
	if (rc < 0)
		rc = image_only(k);
	if (rc < 0 && kvs_fix(k))
		rc = EXIT_USAGE;
	if (rc < 0)
		rc = k->cmd->run(k);
	else if (kvs_given(k, OPT_BIT(VERSION)))
		show_version();
	free_run(k);
	return rc;
}

int main(int argc, char **argv)
{
	struct kvs k = { .ops = &volume_engine, .limit = UINT64_MAX, .opt = KV_OPTIONS_INIT };
	int rc;

	/* a parent may have left it ignored; then 'kvs dump | head' would not end by itself */
	signal(SIGPIPE, SIG_DFL);
	if (argc && is_mkfs(argv[0])) {
		rc = run_verb(&k, "create", argc, argv);
	} else if (argc < 2) {
		rc = kvs_complain(EXIT_USAGE, "no verb; 'kvs --help' lists them");
	} else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		help_general();
		rc = EXIT_OK;
	} else if (!strcmp(argv[1], "help")) {
		rc = help_verb(argc, argv);
	} else if (!strcmp(argv[1], "--version")) {
		show_version();
		rc = EXIT_OK;
	} else {
		rc = run_verb(&k, argv[1], argc - 1, argv + 1);
	}
	return out_finish(rc);
}
