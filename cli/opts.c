/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * opts.c - from argv to struct kvs: getopt_long over the option table, with only the options that
 * the verb takes.
 *
 * A number such as -5 is an operand of inc and dec, not an option: such words are moved behind "--"
 * before getopt sees them. (They are always the last operand.)
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "kvs.h"

#define OPTION_INFO(id, name_, letter_, arg_, help_) \
	[OPT_##id] = { .name = name_, .letter = letter_, .arg = arg_, .help = help_ },
const struct kvs_option_info kvs_option_table[OPT_NR] = { KVS_OPTIONS(OPTION_INFO) };
#undef OPTION_INFO

/* Values of getopt_long() for options without a letter. */
#define LONG_BASE 256

bool opts_bytes(const char *text, uint64_t *out)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long v;
	const char *unit;
	int shift = 0;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit)
			return false;
		shift = 10 * (int)(unit - units + 1);
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end || (shift && v >> (64 - shift)))
		return false;
	*out = (uint64_t)v << shift;
	return true;
}

bool opts_integer(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	unsigned long long v;
	int base = 10;
	char *end;

	if (*text == '-' || *text == '+')
		text++;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		base = 16;
		text += 2;
	} else if (text[0] == '0' && (text[1] == 'b' || text[1] == 'B')) {
		base = 2;
		text += 2;
	} else if (text[0] == '0' && text[1]) {
		base = 8;
	}
	if (!isxdigit((unsigned char)text[0])) /* strtoull would take blanks and signs */
		return false;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X') && base == 16)
		return false;
	errno = 0;
	v = strtoull(text, &end, base);
	if (errno || *end || v > (uint64_t)INT64_MAX + negative)
		return false;
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

static bool uuid_parse(const char *text, uint8_t *uuid)
{
	int digits = 0;

	for (; *text; text++) {
		int v;

		if (*text == '-' && digits > 0 && digits < 32)
			continue;
		v = hex_digit(*text);
		if (v < 0 || digits == 32)
			return false;
		uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | v);
		digits++;
	}
	return digits == 32;
}

static int bad_value(const struct kvs *k, int o, const char *value, const char *want)
{
	return kvs_complain(EXIT_USAGE, "--%s '%s': %s; see 'kvs %s --help'",
			    kvs_option_table[o].name, value, want, k->cmd->name);
}

static int set_bytes32(const struct kvs *k, int o, const char *value, uint32_t *out)
{
	uint64_t v;

	if (!opts_bytes(value, &v) || v > UINT32_MAX || !v)
		return bad_value(k, o, value, "not a size (64, 64K, 1M)");
	*out = (uint32_t)v;
	return -1;
}

static int set_bytes64(const struct kvs *k, int o, const char *value, uint64_t *out)
{
	if (!opts_bytes(value, out) || !*out)
		return bad_value(k, o, value, "not a size (64K, 1M, 2G)");
	return -1;
}

static int set_enc(struct kvs *k, int o, const char *value)
{
	int mode = enc_mode_parse(value);

	if (mode < 0)
		return bad_value(k, o, value, "not auto, escape, hex, base64 or raw");
	if (o == OPT_KEY_ENC || (o == OPT_ENC && !kvs_given(k, OPT_BIT(KEY_ENC))))
		k->key_enc = (enum enc_mode)mode;
	if (o == OPT_VALUE_ENC || (o == OPT_ENC && !kvs_given(k, OPT_BIT(VALUE_ENC))))
		k->value_enc = (enum enc_mode)mode;
	return -1;
}

/* "a" or "b" -> false or true */
static int set_choice(const struct kvs *k, int o, const char *value, const char *a, const char *b,
		      bool *out)
{
	if (strcmp(value, a) && strcmp(value, b))
		return bad_value(k, o, value,
				 o == OPT_FORMAT ? "not ndjson or bdb" : "not text or json");
	*out = !strcmp(value, b);
	return -1;
}

static int set_creation(struct kvs *k, int o, const char *value)
{
	switch (o) {
	case OPT_SIZE:
		return set_bytes64(k, o, value, &k->opt.max_bytes);
	case OPT_BLOCK:
		return set_bytes32(k, o, value, &k->opt.block_bytes);
	case OPT_SEGMENT:
		return set_bytes32(k, o, value, &k->opt.segment_bytes);
	case OPT_FRAME:
		return set_bytes32(k, o, value, &k->opt.frame_bytes);
	case OPT_WINDOW:
		return set_bytes32(k, o, value, &k->opt.window_bytes);
	case OPT_LABEL:
		if (strlen(value) > sizeof(k->opt.label) - 1)
			return bad_value(k, o, value, "longer than 32 bytes");
		memcpy(k->opt.label, value, strlen(value) + 1);
		return -1;
	case OPT_UUID:
		if (!uuid_parse(value, k->opt.uuid))
			return bad_value(k, o, value, "not 32 hexadecimal digits");
		return -1;
	}
	return -1;
}

static int set_limit(struct kvs *k, const char *value)
{
	int64_t v;

	if (!opts_integer(value, &v) || v < 0)
		return bad_value(k, OPT_LIMIT, value, "not a number");
	k->limit = (uint64_t)v;
	return -1;
}

/* An offset as kvs-fsck and this program print it, in hexadecimal too; or a size (64K). */
static int set_addr(struct kvs *k, const char *value)
{
	int64_t v;

	if (opts_bytes(value, &k->addr))
		return -1;
	if (!opts_integer(value, &v) || v < 0)
		return bad_value(k, OPT_ADDR, value, "not an offset (4096, 0x1000, 4K)");
	k->addr = (uint64_t)v;
	return -1;
}

/* -1: go on; else exit code. Keys are decoded at the end, when the encoding is known. */
static int set_option(struct kvs *k, int o, const char *value)
{
	switch (o) {
	case OPT_TREE:
		k->tree_name = value;
		break;
	case OPT_AT:
		k->at = value;
		break;
	case OPT_SNAP:
		k->snap = value;
		break;
	case OPT_BASE:
		k->base = value;
		break;
	case OPT_RESUME:
		k->resume = value;
		break;
	case OPT_DROP:
		k->drop = value;
		break;
	case OPT_HTML:
		k->html = value;
		break;
	case OPT_ADDR:
		return set_addr(k, value);
	case OPT_OPTIONS:
		k->mount_options = value;
		break;
	case OPT_ENC:
	case OPT_KEY_ENC:
	case OPT_VALUE_ENC:
		return set_enc(k, o, value);
	case OPT_LIMIT:
		return set_limit(k, value);
	case OPT_FORMAT:
		return set_choice(k, o, value, "ndjson", "bdb", &k->bdb);
	case OPT_OUTPUT:
		return set_choice(k, o, value, "text", "json", &k->json);
	case OPT_CACHE:
		return set_bytes64(k, o, value, &k->opt.cache_bytes);
	case OPT_HELP:
		help_command(k->cmd);
		return EXIT_OK;
	case OPT_VERSION:
		return EXIT_OK;
	default:
		return set_creation(k, o, value);
	}
	return -1;
}

struct parser {
	struct option longs[OPT_NR + 1];
	char shorts[2 * OPT_NR + 2];
	const char *values[OPT_NR]; /* of --from, --to, --prefix */
};

static void parser_init(struct parser *p, const struct kvs_command *cmd)
{
	size_t used = 0, longs = 0;
	int o;

	memset(p, 0, sizeof(*p));
	p->shorts[used++] = ':'; /* a missing argument is not an unknown option */
	for (o = 0; o < OPT_NR; o++) {
		const struct kvs_option_info *info = &kvs_option_table[o];

		if (!(cmd->options >> o & 1))
			continue;
		p->longs[longs].name = info->name;
		p->longs[longs].has_arg = info->arg ? required_argument : no_argument;
		p->longs[longs++].val = LONG_BASE + o;
		if (!info->letter)
			continue;
		p->shorts[used++] = info->letter;
		if (info->arg)
			p->shorts[used++] = ':';
	}
}

/* A letter may belong to different options of different verbs. */
static int option_of(const struct kvs_command *cmd, int c)
{
	int o;

	if (c >= LONG_BASE)
		return c - LONG_BASE;
	for (o = 0; o < OPT_NR; o++)
		if ((cmd->options >> o & 1) && kvs_option_table[o].letter == c)
			return o;
	return -1;
}

static int bad_option(const struct kvs *k, int c, char **argv)
{
	const char *name = kvs_command_find(k->cmd->name)->name;
	const char *word = argv[optind - 1];
	const struct kvs_option_info *o;

	if (c == ':') {
		o = &kvs_option_table[option_of(k->cmd, optopt)];
		return kvs_complain(EXIT_USAGE, "--%s needs its argument %s; see 'kvs %s --help'",
				    o->name, o->arg, name);
	}
	if (optopt > 0 && optopt < LONG_BASE)
		return kvs_complain(EXIT_USAGE,
				    "kvs %s takes no option '-%c'; see 'kvs %s --help' (a key "
				    "that begins with '-' goes behind '--')",
				    name, optopt, name);
	return kvs_complain(EXIT_USAGE,
			    "kvs %s takes no option '%s'; see 'kvs %s --help' (a key that "
			    "begins with '-' goes behind '--')",
			    name, word, name);
}

/* Moves words like -5 behind "--". out has room for argc + 2. Returns the new argc. */
static int move_numbers(int argc, char **argv, char **out)
{
	static char dashes[] = "--";
	int n = 0, end = 0, i;

	while (end < argc && strcmp(argv[end], "--"))
		end++;
	for (i = 0; i < end; i++)
		if (i < 2 || argv[i][0] != '-' || !isdigit((unsigned char)argv[i][1]))
			out[n++] = argv[i];
	out[n++] = dashes;
	for (i = end + 1; i < argc; i++)
		out[n++] = argv[i];
	for (i = 2; i < end; i++)
		if (argv[i][0] == '-' && isdigit((unsigned char)argv[i][1]))
			out[n++] = argv[i];
	out[n] = NULL;
	return n;
}

static int decode_range(struct kvs *k, const struct parser *p)
{
	const struct {
		int option;
		struct bytes *key;
	} keys[] = { { OPT_FROM, &k->from }, { OPT_TO, &k->to }, { OPT_PREFIX, &k->prefix } };
	size_t i;

	for (i = 0; i < 3; i++) {
		const char *value = p->values[keys[i].option], *why;

		if (!value)
			continue;
		why = enc_decode(k->key_enc, value, keys[i].key);
		if (why)
			return bad_value(k, keys[i].option, value, why);
	}
	return -1;
}

static int take_operands(struct kvs *k, int argc, char **argv)
{
	const struct kvs_command *cmd = k->cmd;
	int nr = argc - optind;

	if (nr < 1 || nr - 1 < cmd->args_min)
		return kvs_complain(EXIT_USAGE, "too few arguments; usage: kvs %s %s", cmd->name,
				    cmd->usage);
	if (cmd->args_max >= 0 && nr - 1 > cmd->args_max)
		return kvs_complain(EXIT_USAGE, "too many arguments, at '%s'; usage: kvs %s %s",
				    argv[optind + 1 + cmd->args_max], cmd->name, cmd->usage);
	k->image = argv[optind];
	k->args = argv + optind + 1;
	k->args_nr = nr - 1;
	if (!k->image[0])
		return kvs_complain(EXIT_USAGE, "the name of the image is empty; usage: kvs %s %s",
				    cmd->name, cmd->usage);
	return -1;
}

static int parse(struct kvs *k, struct parser *p, int argc, char **argv)
{
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, p->shorts, p->longs, NULL)) != -1) {
		int o;

		if (c == '?' || c == ':')
			return bad_option(k, c, argv);
		o = option_of(k->cmd, c);
		p->values[o] = optarg;
		rc = set_option(k, o, optarg);
		k->given |= 1ull << o;
		if (rc >= 0)
			return rc;
	}
	rc = decode_range(k, p);
	return rc < 0 ? take_operands(k, argc, argv) : rc;
}

int opts_parse(struct kvs *k, int argc, char **argv)
{
	/* lives as long as the process: k->args points into it */
	static char **moved;
	struct parser p;

	parser_init(&p, k->cmd);
	if (k->cmd->run == cmd_inc || k->cmd->run == cmd_dec) {
		moved = calloc((size_t)argc + 2, sizeof(*moved));
		if (!moved)
			return kvs_no_memory();
		argc = move_numbers(argc, argv, moved);
		argv = moved;
	}
	return parse(k, &p, argc, argv);
}
