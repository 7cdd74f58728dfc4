/* table.h - what the files behind opts.h share: the table's rows, one parse in progress.
 *
 * opts.c          orchestrates: environment, defaults, cross-checks
 * opts/flags.c    the command line
 * opts/value.c    text -> value of an option; HOST:PORT; the nearest name
 * opts/name.c     NAMEs
 * opts/config.c   the JSON file
 * opts/help.c     --help
 * Private to these. A parse is owned by main's thread. */
#ifndef SAED_OPTS_TABLE_H
#define SAED_OPTS_TABLE_H

#include "server/opts/opts.h"

enum saed_opt_kind {
    SAED_KIND_INT,
    SAED_KIND_SIZE,
    SAED_KIND_BOOL,
    SAED_KIND_CHOICE,
    SAED_KIND_LISTEN, /* this and what follows: lists */
    SAED_KIND_FILES,
    SAED_KIND_HOSTS,
    SAED_KIND_ORIGINS,
    SAED_KIND_FOLDERS
};

struct saed_opt_def {
    const char *key;
    enum saed_opt_kind kind;
    size_t field; /* offset in struct saed_opts */
    const char *dflt;
    uint64_t min, max;
    bool is_limit;
    const char *group, *metavar, *help;
};

struct saed_flag_def {
    const char *name, *letters, *metavar, *help;
};

enum saed_opt_index {
#define SAED_OPTION(key, ...) SAED_OPT_##key,
#include "server/opts/opts.def"
    SAED_N_OPTIONS
};

enum saed_flag_index {
#define SAED_FLAG(name, ...) SAED_FLAG_##name,
#include "server/opts/opts.def"
    SAED_N_FLAGS
};

extern const struct saed_opt_def saed_opt_defs[SAED_N_OPTIONS];
extern const struct saed_flag_def saed_flag_defs[SAED_N_FLAGS];

/* Where a value came from; a later one overrides an earlier one whatever the order of reading. */
enum saed_opt_rank { SAED_FROM_DEFAULT, SAED_FROM_FILE, SAED_FROM_ENV, SAED_FROM_FLAG };

struct saed_parse {
    struct saed_opts *o;
    saed_report_fn *report;
    void *arg;
    enum sae_status status; /* SAE_OK until something was reported; see saed_parse_fail */
    unsigned char rank[SAED_N_OPTIONS]; /* enum saed_opt_rank of what stands in *o */
    const char *config;                 /* --config's value or NULL */
    bool has_action;                    /* --check or --probe was given */
};

/* Report one failure and go on. The parse's status becomes the gravest: NOMEM, USAGE, IO. */
void saed_parse_fail(struct saed_parse *p, enum sae_status st, const char *fmt, ...)
    SAE_PRINTF(3, 4);
/* Check `text` as the option's value and store it unless a higher rank already did. `what` is how
 * the user wrote it, for the message: "--threads abc", "SAED_THREADS=abc". */
void saed_parse_value(struct saed_parse *p, enum saed_opt_index i, enum saed_opt_rank rank,
                      const char *text, const char *what);
/* Add a dictionary, checking NAME, that it is new, and the source's grammar. `in` is appended to
 * messages: "" or " in FILE". */
void saed_parse_source(struct saed_parse *p, const char *name, size_t name_len, const char *source,
                       const char *in);
/* The command line. */
void saed_parse_line(struct saed_parse *p, int argc, char *const *argv);
/* The config file p->config. */
void saed_parse_config(struct saed_parse *p);

/* True for [A-Za-z0-9][A-Za-z0-9._-]{0,199}. */
bool saed_is_name(const char *s, size_t n);
/* A NAME for a source that came without: that of its path, or of the whole of another source. As
 * saed_name_of_path. */
size_t saed_name_of(const char *source, char *out, size_t cap);

/* A copy of text behind the others; false: memory ran out. */
bool saed_list_add(struct saed_list *l, const char *text);
/* Lists grow by each value of one rank; a higher rank's takes the place of all of them. */
bool saed_kind_is_list(enum saed_opt_kind kind);
/* Of a list: is this one of its values? */
bool saed_value_check(const struct saed_opt_def *def, const char *text);
/* Store text as the option's value in *o; false (and *o untouched) when it is not one. */
bool saed_value_set(struct saed_opts *o, const struct saed_opt_def *def, const char *text);
/* What the option takes, to follow "want": "a whole number from 1 to 1024". */
void saed_value_want(const struct saed_opt_def *def, char *out, size_t cap);
/* "max_batch_rows" as "--max-batch-rows". */
void saed_flag_name(const char *key, char out[64]);

#endif
