/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kvs.h - what the files of the kvs command share: the command and option tables, one run of one
 * command, and the small services (session, output, encodings, input, walking, loading).
 *
 * Decisions
 * - One process runs one verb on one volume. State that belongs to the process (output buffer,
 *   interrupt flag) is file-local behind functions; state that belongs to the run is struct kvs.
 * - Functions of the CLI return an exit code (0 is good) and have told the user already; negative
 *   classes of the engine become exit codes in kvs_exit_code() only.
 * - Nothing holds a whole value that is longer than kvs_piece_bytes().
 */
#ifndef KVS_H
#define KVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvengine.h"
#include "volume.h"

/* Exit codes. */
enum {
	EXIT_OK = 0,
	EXIT_NO = 1,	      /* no such key or tree; exists already */
	EXIT_USAGE = 2,	      /* usage or bad input */
	EXIT_SYSTEM = 3,      /* I/O, system, no space, no memory */
	EXIT_CORRUPT = 4,     /* damage; what is intact has been printed */
	EXIT_NOTVOLUME = 5,   /* not a volume, or made by a newer version */
	EXIT_BUSY = 6,	      /* another process has it */
	EXIT_INTERRUPT = 130, /* SIGINT or SIGTERM; what was committed is synced */
};

/* ---- bytes and encodings (enc.c) ----------------------------------------------------------- */

enum enc_mode { ENC_AUTO, ENC_ESCAPE, ENC_HEX, ENC_BASE64, ENC_RAW };

/* Bytes that grow. */
struct bytes {
	uint8_t *p;
	size_t n, cap;
};

/* False: out of memory, nothing changed. */
bool bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_free(struct bytes *b);

/* Checks UTF-8 in pieces; zero it to begin. */
struct utf8 {
	uint8_t need, lo, hi, lead;
	bool bad;     /* not UTF-8 */
	bool control; /* has a control character (C0, DEL, C1) */
};

void utf8_feed(struct utf8 *u, const uint8_t *p, size_t n);
/* No sequence is open: the bytes so far are whole characters. */
static inline bool utf8_whole(const struct utf8 *u)
{
	return !u->bad && !u->need;
}

/* Decodes base64 in pieces; zero it to begin. */
struct b64_dec {
	uint32_t acc;
	uint8_t n, pad;
};

/* dst has room for n / 4 * 3 + 3 bytes. Bytes written, or -1: not base64. */
ptrdiff_t b64_feed(struct b64_dec *d, const uint8_t *p, size_t n, uint8_t *dst);
static inline bool b64_whole(const struct b64_dec *d)
{
	return d->n == 0;
}

int hex_digit(int c); /* 0..15 or -1 */

/* -1: no such mode */
int enc_mode_parse(const char *name);
/* An argument to bytes, added to out. NULL, or what is wrong with it. */
const char *enc_decode(enum enc_mode mode, const char *arg, struct bytes *out);

/* Encodes a value in pieces to standard output. ENC_AUTO must be resolved first (enc_resolve). */
struct enc_stream {
	enum enc_mode mode;
	uint8_t carry[3], carry_n;
};

enum enc_mode enc_resolve(enum enc_mode mode, const struct utf8 *u);
void enc_stream_put(struct enc_stream *s, const uint8_t *p, size_t n);
void enc_stream_end(struct enc_stream *s);
/* All at once; resolves ENC_AUTO. */
void enc_put(enum enc_mode mode, const void *p, size_t n);
/* Printable form of a key for messages, cut to fit dst. Returns dst. */
const char *enc_show(const void *p, size_t n, char *dst, size_t cap);

/* ---- standard output (out.c) --------------------------------------------------------------- */

/* Buffered; an error is kept, ends further output, and is told by out_finish(). */
void out_bytes(const void *p, size_t n);
void out_text(const char *s);
void out_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Ends a line of output: flushed when standard output is a terminal. */
void out_line(void);
bool out_failed(void);
/* Flushes; returns rc, or EXIT_SYSTEM after telling why when the output did not get out. */
int out_finish(int rc);

/* The inside of a JSON string, in pieces of whole or split UTF-8 characters. */
void out_json_chars(const uint8_t *p, size_t n);
void out_json_string(const void *p, size_t n);
/* "key":"..." or "key_b64":"..." */
void out_json_key(const void *key, size_t key_len);

/* One description prints a record as text ("label: value") or as JSON ("name": value). */
enum row_kind { ROW_U64, ROW_U32, ROW_BYTES, ROW_BYTES32, ROW_BOOL, ROW_TEXT, ROW_UUID };
struct row {
	const char *name;  /* in JSON */
	const char *label; /* in text */
	enum row_kind kind;
	size_t offset; /* of the field; ROW_TEXT is an array of char */
};
void out_rows(bool json, const struct row *rows, size_t rows_nr, const void *record);

/* ---- commands and options (kvs.c, opts.c, help.c) ------------------------------------------ */

/* clang-format off */
/* x(id, long, short or 0, argument or NULL, help) */
#define KVS_OPTIONS(x) \
	x(TREE,	     "tree",	  't', "NAME",	"the tree NAME instead of 'main'") \
	x(ENC,	     "enc",	  'e', "MODE",	"keys and values are auto|escape|hex|base64|raw") \
	x(KEY_ENC,   "key-enc",	  0,   "MODE",	"the same for keys only") \
	x(VALUE_ENC, "value-enc", 0,   "MODE",	"the same for values only") \
	x(FROM,	     "from",	  0,   "KEY",	"begin at KEY (included)") \
	x(TO,	     "to",	  0,   "KEY",	"end before KEY (excluded)") \
	x(PREFIX,    "prefix",	  'p', "KEY",	"keys that begin with KEY") \
	x(REVERSE,   "reverse",	  'r', NULL,	"descending order") \
	x(LIMIT,     "limit",	  'n', "N",	"at most N entries") \
	x(KEYS,	     "keys",	  'k', NULL,	"keys without values") \
	x(FORMAT,    "format",	  0,   "FORMAT", "ndjson (default) or bdb (as db_dump, mdb_dump)") \
	x(OUTPUT,    "output",	  'o', "FORMAT", "text (default) or json") \
	x(AT,	     "at",	  0,   "SNAP",	"the state that the snapshot SNAP keeps") \
	x(SNAP,	     "snap",	  0,   "NAME",	"the snapshot that is sent") \
	x(BASE,	     "base",	  0,   "NAME",	"an older one, that the target has") \
	x(RESUME,    "resume",	  0,   "TOKEN",	"go on with a stream that was cut") \
	x(ABORT,     "abort",	  0,   NULL,	"take back what was received in part") \
	x(TOKEN,     "token",	  0,   NULL,	"print the token of what was received in part") \
	x(DROP,	     "drop",	  0,   "NAME",	"remove the tree NAME and all that is in it") \
	x(SIZE,	     "size",	  0,   "BYTES",	"the volume never grows beyond BYTES") \
	x(BLOCK,     "block",	  0,   "BYTES",	"unit of I/O, 512 to 4096") \
	x(SEGMENT,   "segment",	  0,   "BYTES",	"unit of space, 4K to 64M") \
	x(FRAME,     "frame",	  0,   "BYTES",	"largest tree page, 2K to 64K; limits the keys") \
	x(WINDOW,    "window",	  0,   "BYTES",	"mapped end of the log; 1: none") \
	x(LABEL,     "label",	  0,   "TEXT",	"name of the volume, up to 32 bytes") \
	x(UUID,	     "uuid",	  0,   "UUID",	"identity of the volume instead of a random one") \
	x(MIN,	     "min",	  0,   NULL,	"the least size that the volume can have") \
	x(GROW,	     "grow",	  0,   NULL,	"as large as it may be: no limit, or all of the device") \
	x(FORCE,     "force",	  'f', NULL,	"do not ask; overwrite what is there, or later snapshots") \
	x(NO_SYNC,   "no-sync",	  0,   NULL,	"do not sync after the changes") \
	x(ADDR,	     "addr",	  0,   "OFFSET", "the byte OFFSET of the volume instead of a key") \
	x(ALL,	     "all",	  0,   NULL,	"all chunks of a large value") \
	x(HTML,	     "html",	  0,   "FILE",	"write the map to FILE, for a browser") \
	x(OPTIONS,   "options",	  'o', "LIST",	"what to mount with, separated by commas") \
	x(FOREGROUND, "foreground", 0, NULL,	"stay; do not go into the background") \
	x(CACHE,     "cache",	  0,   "BYTES",	"memory for pages and values (default 64M)") \
	x(HELP,	     "help",	  'h', NULL,	"this text") \
	x(VERSION,   "version",	  0,   NULL,	"the version")
/* clang-format on */

#define KVS_OPTION_ENUM(id, name, letter, arg, help) OPT_##id,
enum kvs_option { KVS_OPTIONS(KVS_OPTION_ENUM) OPT_NR };
#undef KVS_OPTION_ENUM
#define OPT_BIT(id) (1ull << OPT_##id)

struct kvs_option_info {
	const char *name, *arg, *help;
	char letter;
};
extern const struct kvs_option_info kvs_option_table[OPT_NR];

struct kvs;

struct kvs_command {
	const char *name, *group, *usage;
	uint64_t options;     /* OPT_BIT()s */
	int args_min, args_max; /* operands after IMAGE; max -1: any number */
	int (*run)(struct kvs *k);
	const char *help;    /* one line */
	const char *details; /* for --help; lines */
};
extern const struct kvs_command kvs_commands[];
extern const size_t kvs_commands_nr;

/* One run of one command. */
struct kvs {
	const struct kvs_command *cmd;
	const char *image;
	char **args; /* operands after IMAGE */
	int args_nr;

	uint64_t given; /* OPT_BIT()s */
	enum enc_mode key_enc, value_enc;
	const char *tree_name; /* NULL: main */
	const char *drop;
	const char *at; /* NULL: the state now */
	const char *snap, *base, *resume; /* of send */
	const char *mount_options, *html;
	uint64_t addr;
	bool json, bdb;
	uint64_t limit;
	struct bytes from, to, prefix; /* decoded */
	kv_options opt;

	const struct volume_ops *ops; /* never NULL */
	kv_db *db;
	kv_tree *tree; /* NULL: main */
	kv_read *read; /* with --at */
	bool writing;
};

static inline bool kvs_given(const struct kvs *k, uint64_t option_bits)
{
	return k->given & option_bits;
}

const struct kvs_command *kvs_command_find(const char *name);
/* The verb that was meant, or NULL. */
const char *kvs_did_you_mean(const char *name);
void help_general(void);
void help_command(const struct kvs_command *cmd);
/* verb TAB --option, a line each: for tests and completion. */
void help_table(void);
/* Parses what follows the verb. -1: run the command; else the exit code. */
int opts_parse(struct kvs *k, int argc, char **argv);
/* "64", "64K", "1M", "2G", "1T": false if it is none of these. */
bool opts_bytes(const char *text, uint64_t *out);
/* K6 rules: sign, then decimal, 0x, 0b or 0. */
bool opts_integer(const char *text, int64_t *out);

int cmd_create(struct kvs *k);
int cmd_put(struct kvs *k);
int cmd_get(struct kvs *k);
int cmd_del(struct kvs *k);
int cmd_exists(struct kvs *k);
int cmd_inc(struct kvs *k);
int cmd_dec(struct kvs *k);
int cmd_scan(struct kvs *k);
int cmd_count(struct kvs *k);
int cmd_trees(struct kvs *k);
int cmd_stat(struct kvs *k);
int cmd_load(struct kvs *k);
int cmd_apply(struct kvs *k);
int cmd_dump(struct kvs *k);
int cmd_check(struct kvs *k);
int cmd_explain(struct kvs *k);
int cmd_gc(struct kvs *k);
int cmd_map(struct kvs *k);
int cmd_resize(struct kvs *k);
int cmd_mount(struct kvs *k);
int cmd_snap(struct kvs *k);
int cmd_clone(struct kvs *k);
int cmd_detach(struct kvs *k);
int cmd_diff(struct kvs *k);
int cmd_send(struct kvs *k);
int cmd_receive(struct kvs *k);

/* ---- the session with the volume (session.c) ----------------------------------------------- */

#define KVS_WRITE 0x1u	     /* else read-only */
#define KVS_CREATE 0x2u	     /* a missing or empty file becomes a volume, and stderr says so */
#define KVS_TREE_CREATE 0x4u /* make --tree NAME when there is none */

/* Fixed clock and chance, where a test asks for them: fixed.c. Exit code. */
int kvs_fix(struct kvs *k);
/* Opens the volume and --tree; EXIT_OK or the exit code after a message. */
int kvs_open(struct kvs *k, unsigned int flags);
/* A tree by name, and all of them, in the state that --at asks for. KV_E_*. */
int kvs_tree(struct kvs *k, const char *name, unsigned int flags, kv_tree **out);
int kvs_tree_list(struct kvs *k, int (*fn)(void *arg, const char *name, uint64_t count), void *arg);
/* Syncs (after writing, unless --no-sync), closes, flushes the output. rc or what went wrong here. */
int kvs_finish(struct kvs *k, int rc);
/* The one mapping of KV_E_* to exit codes. */
int kvs_exit_code(int err);
/* Tells "kvs: IMAGE: what; next command" of the thread's last engine error; returns the exit code. */
int kvs_fail(struct kvs *k, int err);
/* The same with a place, "line 17" say, after the image. */
int kvs_fail_at(struct kvs *k, int err, const char *place);
/* "kvs: IMAGE: text" to stderr; returns code. */
int kvs_say(struct kvs *k, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "kvs: text" to stderr; returns code. */
int kvs_complain(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Decodes argument i as a key, or says why not. */
int kvs_key_arg(struct kvs *k, int i, struct bytes *key);
/* The state that a snapshot keeps, or says that there is none. Exit code. */
int kvs_snapshot(struct kvs *k, const char *name, kv_read **out);
int kvs_no_key(struct kvs *k, const struct bytes *key);
int kvs_no_memory(void);
/* Longest value or batch held in memory; longer ones stream. A sixteenth of the cache, at most 1 MiB. */
size_t kvs_piece_bytes(const struct kvs *k);
/* From now on SIGINT and SIGTERM set a flag, and a closed pipe is an error of write(). */
void kvs_catch_signals(void);
bool kvs_interrupted(void);

/* ---- walking over entries (walk.c) --------------------------------------------------------- */

struct walk {
	struct kvs *k;
	kv_cursor *c;
	bool reverse, started, damaged;
	char last_error[256]; /* of the last damage, to see that we are stuck */
	const void *key;
	size_t key_len;
};

/* Range of --from, --to, --prefix in *from and *to (added to; empty to: none). */
int walk_range(struct kvs *k, struct bytes *from, struct bytes *to);
/* Empty from or to: none. Exit code. */
int walk_open(struct walk *w, struct kvs *k, kv_tree *tree, const struct bytes *from,
	      const struct bytes *to, bool reverse);
/*
 * 1: at an entry, w->key is valid; 0: at the end; -1: failed, *rc is the exit code. Damage is told on
 * stderr, passed where the engine can, and remembered in w->damaged.
 */
int walk_next(struct walk *w, int *rc);
/* Damage of the entry at hand: tell, remember, go on (EXIT_OK); other errors: exit code. */
int walk_failed(struct walk *w, int err);
/* Closes; EXIT_CORRUPT if there was damage and rc is EXIT_OK. */
int walk_close(struct walk *w, int rc);

/* The value at a cursor: in memory when short, else read in pieces, as often as wanted. */
struct value {
	const struct kvs *k;
	kv_cursor *c;
	const void *p; /* NULL: stream it */
	uint64_t len;
};
/* Both return 0 or KV_E_*. */
int value_open(struct value *v, const struct kvs *k, kv_cursor *c);
int value_each(const struct value *v, void (*fn)(void *arg, const uint8_t *p, size_t n), void *arg);
/* Reads it all, so that damage shows before the first byte is printed. */
int value_utf8(const struct value *v, struct utf8 *u);

/* Are the bytes equal? KV_E_*. */
int value_same(const struct value *a, const struct value *b, bool *same);

/* Names of trees, each once, in order, but for 'main' (names.c). Zero it to begin. */
struct names {
	char (*name)[65];
	size_t nr;
	bool failed; /* out of memory */
};
/* For kvs_tree_list() and kv_read_trees(). */
int names_add(void *arg, const char *name, uint64_t count);
void names_free(struct names *t);

/* ,"NAME":"..." or ,"NAME_b64":"...", as u, that of the value, tells. KV_E_*. */
int ndjson_value(const char *name, const struct value *v, const struct utf8 *u);
/* One line of NDJSON. tree NULL: main. KV_E_* when the value cannot be read; nothing printed then. */
int ndjson_write(const char *tree, const void *key, size_t key_len, const struct value *v);

/* ---- load (input.c, ndjson.c, bdb.c, loader.c) and progress -------------------------------- */

struct progress {
	bool on;
	uint64_t total, next_ns, begin_ns;
	const char *verb, *unit; /* "entries" unless set after progress_begin */
};
/* total 0: not known. quiet: never show. */
void progress_begin(struct progress *p, const char *verb, uint64_t total, bool quiet);
void progress_show(struct progress *p, uint64_t done, uint64_t entries);
/* Wipes the bar. */
void progress_end(struct progress *p);

#define INPUT_BUFFER (256u << 10)

struct input {
	struct kvs *k;
	const char *name;
	int fd, error; /* errno; -1: interrupted */
	bool eof;
	uint8_t *buf;
	size_t pos, len;
	uint64_t line;	/* of the byte at pos, from 1 */
	uint64_t bytes; /* read so far */
	uint64_t *entries;
	struct progress progress;
};

int input_open(struct input *in, struct kvs *k, const char *name);
void input_close(struct input *in);
/* Makes at least one byte available; false: end or error. */
bool input_fill(struct input *in);
/* Next byte, or -1 at the end or on error. */
static inline int input_peek(struct input *in)
{
	return in->pos < in->len || input_fill(in) ? in->buf[in->pos] : -1;
}
static inline int input_get(struct input *in)
{
	int c = input_peek(in);

	if (c >= 0)
		in->pos++;
	return c;
}
/* Does the input continue with text? Does not consume. For the beginning of the input. */
bool input_begins(struct input *in, const char *text);
/* Tells what is wrong with the line at hand (or that reading failed); exit code. */
int input_bad(struct input *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct loader_tree;

/* Puts entries in input order: batches of short ones, a stream for each long one. */
struct loader {
	struct kvs *k;
	struct input *in;
	kv_batch *batch;
	size_t batch_bytes, piece_bytes;
	size_t value_max; /* of a batch */
	uint32_t key_max;
	uint64_t entries;     /* taken */
	uint64_t last_line;   /* of the last of them */
	uint64_t kept, kept_line; /* committed, and the line of the last of these */
	struct loader_tree *trees;
	size_t trees_nr;

	/* the entry at hand */
	kv_tree *tree;
	bool tree_done, key_done, value_done;
	struct bytes key, value;
	kv_writer *writer;
};

int loader_init(struct loader *l, struct kvs *k, struct input *in);
/* Commits what is complete, drops what is not. rc or what went wrong here. */
int loader_finish(struct loader *l, int rc);
void loader_begin(struct loader *l);
int loader_tree_set(struct loader *l, const char *name);
int loader_key_add(struct loader *l, const uint8_t *p, size_t n);
int loader_value_add(struct loader *l, const uint8_t *p, size_t n);
int loader_end(struct loader *l);

int ndjson_load(struct input *in, struct loader *l);
int bdb_load(struct input *in, struct loader *l);
/* One tree as a section of the db_dump text format. */
int bdb_dump(struct kvs *k, const char *name, kv_tree *tree, struct progress *p, uint64_t *entries);

#endif
