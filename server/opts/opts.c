/* opts.c - the option table at work: values by rank, environment, defaults, cross-checks.
 *
 * Values may be met in any order (the command line is read first, since it names the config file);
 * each carries its rank, and a lower rank never overwrites a higher one. So every place is checked
 * whole and everything wrong is reported in one run. Called by main, before threads. */
#include "lib/scan.h"
#include "server/address.h"
#include "server/opts/cpus.h"
#include "server/opts/table.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct saed_opt_def saed_opt_defs[SAED_N_OPTIONS] = {
#define SAED_OPTION(key, kind, field, dflt, min, max, is_limit, group, metavar, help) \
    {#key,                                                                            \
     SAED_KIND_##kind,                                                                \
     offsetof(struct saed_opts, field),                                               \
     dflt,                                                                            \
     min,                                                                             \
     max,                                                                             \
     is_limit,                                                                        \
     group,                                                                           \
     metavar,                                                                         \
     help},
#include "server/opts/opts.def"
};

const struct saed_flag_def saed_flag_defs[SAED_N_FLAGS] = {
#define SAED_FLAG(name, letters, metavar, help) {#name, letters, metavar, help},
#include "server/opts/opts.def"
};

/* What --engine's choices are stored as. */
_Static_assert(SAE_ENGINE_AUTO == 0 && SAE_ENGINE_NATIVE == 1 && SAE_ENGINE_OPENBLAS == 2,
               "the order of --engine's choices in opts.def");
_Static_assert(SAED_LOG_TEXT == 0 && SAED_LOG_JSON == 1 && SAED_DEBUG == 0 && SAED_INFO == 1 &&
                   SAED_WARN == 2 && SAED_ERROR == 3,
               "the order of --log-format's and --log-level's choices in opts.def");
_Static_assert(sizeof(enum sae_engine_kind) == sizeof(unsigned) &&
                   sizeof(enum saed_log_level) == sizeof(unsigned) &&
                   sizeof(enum saed_log_format) == sizeof(unsigned),
               "a choice is stored as an unsigned");

/* ---- reporting ----------------------------------------------------------------------------- */

static int gravity(enum sae_status st)
{
    return st == SAE_OK ? 0 : st == SAE_E_IO ? 1 : st == SAE_E_USAGE ? 2 : 3;
}

void saed_parse_fail(struct saed_parse *p, enum sae_status st, const char *fmt, ...)
{
    struct sae_err err = {0};
    char text[2 * sizeof err.text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sae_err_set(&err, st, "", "%s", text);
    if (gravity(st) > gravity(p->status))
        p->status = st;
    if (p->report)
        p->report(p->arg, &err);
}

/* ---- values and dictionaries --------------------------------------------------------------- */

static void list_clear(struct saed_list *l)
{
    while (l->n > 0)
        sae_free(l->items[--l->n]);
    sae_free(l->items);
    l->items = NULL;
}

bool saed_list_add(struct saed_list *l, const char *text)
{
    char **items = sae_realloc(l->items, l->n + 1, sizeof *items), *copy = sae_strdup(text);

    if (items)
        l->items = items;
    if (!items || !copy) {
        sae_free(copy);
        return false;
    }
    l->items[l->n++] = copy;
    return true;
}

/* False: it is no value of this list. */
static bool add_to_list(struct saed_parse *p, enum saed_opt_index i, enum saed_opt_rank rank,
                        const char *text)
{
    const struct saed_opt_def *def = &saed_opt_defs[i];
    struct saed_list *l = (struct saed_list *)(void *)((char *)p->o + def->field);

    if (!saed_value_check(def, text))
        return false;
    if (rank < p->rank[i])
        return true;
    if (rank > p->rank[i])
        list_clear(l);
    if (!saed_list_add(l, text))
        saed_parse_fail(p, SAE_E_NOMEM, "cannot allocate value %zu of %s", l->n + 1, def->key);
    return true;
}

void saed_parse_value(struct saed_parse *p, enum saed_opt_index i, enum saed_opt_rank rank,
                      const char *text, const char *what)
{
    const struct saed_opt_def *def = &saed_opt_defs[i];
    struct saed_opts scratch;
    char want[160];
    bool ok = saed_kind_is_list(def->kind)
                  ? add_to_list(p, i, rank, text)
                  : saed_value_set(rank < p->rank[i] ? &scratch : p->o, def, text);

    if (!ok) {
        saed_value_want(def, want, sizeof want);
        saed_parse_fail(p, SAE_E_USAGE, "cannot use %.160s: want %s", what, want);
    } else if (rank > p->rank[i]) {
        p->rank[i] = (unsigned char)rank;
    }
}

static bool add_source(struct saed_opts *o, const char *name, size_t name_len, const char *source)
{
    struct saed_source *s = sae_realloc(o->sources, o->n_sources + 1, sizeof *s);

    if (!s)
        return false;
    o->sources = s;
    s += o->n_sources;
    s->name = sae_calloc(name_len + 1, 1);
    s->source = sae_strdup(source);
    if (!s->name || !s->source) {
        sae_free(s->name);
        sae_free(s->source);
        return false;
    }
    memcpy(s->name, name, name_len);
    o->n_sources++;
    return true;
}

void saed_parse_source(struct saed_parse *p, const char *name, size_t name_len, const char *source,
                       const char *in)
{
    struct saed_opts *o = p->o;
    struct sae_err err = {0};
    int n = name_len < 210 ? (int)name_len : 210;

    if (!saed_is_name(name, name_len)) {
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot use name \"%.*s\"%s: want a letter or digit, then up to 199 "
                        "letters, digits, '.', '_' or '-'",
                        n, name, in);
        return;
    }
    for (size_t i = 0; i < o->n_sources; i++)
        if (strlen(o->sources[i].name) == name_len &&
            memcmp(o->sources[i].name, name, name_len) == 0) {
            saed_parse_fail(p, SAE_E_USAGE,
                            "cannot use name \"%.*s\"%s twice: it already stands for %.80s; give "
                            "one of them another, NAME=SOURCE",
                            n, name, in, o->sources[i].source);
            return;
        }
    if (sae_source_check(source, &err) != SAE_OK) {
        saed_parse_fail(p, err.status == SAE_E_NOMEM ? SAE_E_NOMEM : SAE_E_USAGE,
                        "dictionary %.*s%s: %s%s%s", n, name, in, err.where,
                        err.where[0] ? ": " : "", err.text);
        /* Kept all the same, so that a second use of the name is found in this run too. */
    }
    if (!add_source(o, name, name_len, source))
        saed_parse_fail(p, SAE_E_NOMEM, "cannot allocate dictionary %zu", o->n_sources + 1);
}

/* ---- environment, defaults, cross-checks --------------------------------------------------- */

static void env_name(const char *key, char out[64])
{
    snprintf(out, 64, "SAED_%s", key);
    for (char *c = out; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

static const char *env_get(char *const *envp, const char *name)
{
    size_t n = strlen(name);

    for (; envp && *envp; envp++)
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

/* Values with ';' between them, and perhaps behind the last. */
static void parse_env_list(struct saed_parse *p, enum saed_opt_index i, const char *value,
                           const char *what)
{
    char *copy = sae_strdup(value), *rest = copy;

    if (!copy)
        saed_parse_fail(p, SAE_E_NOMEM, "cannot copy %.160s", what);
    for (const char *text; (text = strsep(&rest, ";"));)
        if (rest || text == copy || *text)
            saed_parse_value(p, i, SAED_FROM_ENV, text, what);
    sae_free(copy);
}

/* An empty variable counts as unset: that is how a pod's manifest takes one away. */
static void parse_env(struct saed_parse *p, char *const *envp)
{
    const char *isa = env_get(envp, "SAED_ISA");
    char name[64], what[160];

    for (unsigned i = 0; i < SAED_N_OPTIONS; i++) {
        const char *value;

        env_name(saed_opt_defs[i].key, name);
        value = env_get(envp, name);
        if (!value || !value[0])
            continue;
        snprintf(what, sizeof what, "%s=%.80s", name, value);
        if (saed_kind_is_list(saed_opt_defs[i].kind))
            parse_env_list(p, (enum saed_opt_index)i, value, what);
        else
            saed_parse_value(p, (enum saed_opt_index)i, SAED_FROM_ENV, value, what);
    }
    if (isa && isa[0])
        p->o->isa = isa;
}

/* Defaults as the table writes them; one it leaves empty is resolved afterwards, by hand. */
static void set_defaults(struct saed_parse *p)
{
    for (unsigned i = 0; i < SAED_N_OPTIONS; i++)
        if (saed_opt_defs[i].dflt[0])
            saed_parse_value(p, (enum saed_opt_index)i, SAED_FROM_DEFAULT, saed_opt_defs[i].dflt,
                             "the default");
}

/* Sockets that systemd, or whoever starts saed as it would, has passed (sd_listen_fds(3)). */
static void parse_passed(struct saed_parse *p, char *const *envp)
{
    const char *pid = env_get(envp, "LISTEN_PID"), *fds = env_get(envp, "LISTEN_FDS");
    uint64_t for_pid, n;

    if (!pid || !fds || !sae_scan_whole_u64(pid, strlen(pid), &for_pid) ||
        for_pid != (uint64_t)getpid())
        return;
    if (!sae_scan_whole_u64(fds, strlen(fds), &n) || n > SAED_ADDRESSES_MAX)
        saed_parse_fail(p, SAE_E_USAGE, "cannot use LISTEN_FDS=%.80s: want 0 to %d sockets", fds,
                        SAED_ADDRESSES_MAX);
    else
        p->o->n_passed = (unsigned)n;
}

static void resolve_threads(struct saed_parse *p)
{
    unsigned cpus = saed_cpus();
    uint64_t most = saed_opt_defs[SAED_OPT_threads].max;

    if (p->rank[SAED_OPT_threads] == SAED_FROM_DEFAULT)
        p->o->threads = cpus < most ? cpus : most;
    if (p->rank[SAED_OPT_http_threads] == SAED_FROM_DEFAULT)
        p->o->http_threads = cpus > 4 ? 2 : 1;
}

static void check_address(struct saed_parse *p, const char *text)
{
    struct saed_address a;

    if (saed_address_parse(&a, text) && a.host[0] && !a.is_loopback)
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot listen on %s: others could reach it and nothing would ask who they "
                        "are; give --api-key-file, or --insecure-no-auth to allow that, or a "
                        "loopback host",
                        a.host);
}

static void cross_check(struct saed_parse *p)
{
    const struct saed_opts *o = p->o;
    /* what is passed is asked for it when it is taken */
    bool is_allowed = o->insecure_no_auth || o->api_key_file.n > 0 || o->n_passed > 0;

    for (size_t i = 0; i < o->listen.n && !is_allowed; i++)
        check_address(p, o->listen.items[i]);
    if (o->listen.n > SAED_ADDRESSES_MAX)
        saed_parse_fail(p, SAE_E_USAGE, "cannot listen on %zu addresses: the limit is %d",
                        o->listen.n, SAED_ADDRESSES_MAX);
    /* A config file that cannot be read may well have named some. */
    if (o->n_sources == 0 && o->dictionaries.n == 0 && p->status == SAE_OK)
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot serve without a dictionary: give a weights file or NAME=SOURCE, "
                        "--dictionaries DIR, or \"dictionaries\" in the config file (see --help)");
}

enum sae_status saed_opts_parse(struct saed_opts *o, int argc, char *const *argv, char *const *envp,
                                saed_report_fn *report, void *arg)
{
    struct saed_parse p = {.o = o, .report = report, .arg = arg};

    set_defaults(&p);
    saed_parse_line(&p, argc, argv);
    if (o->verbose && o->action != SAED_VERSION_ACTION && o->action != SAED_HELP)
        saed_parse_fail(&p, SAE_E_USAGE, "cannot use --verbose: it goes with --version");
    if (o->sample.n > 0 && (o->action == SAED_RUN || o->action == SAED_PROBE))
        saed_parse_fail(&p, SAE_E_USAGE, "cannot use --sample: it goes with --check");
    /* These run before, or beside, a daemon whose environment and file are not theirs. */
    if (o->action == SAED_HELP || o->action == SAED_VERSION_ACTION || o->action == SAED_PROBE)
        return p.status;
    parse_env(&p, envp);
    parse_passed(&p, envp);
    if (p.config)
        saed_parse_config(&p);
    resolve_threads(&p);
    o->has_max_inflight_bytes = p.rank[SAED_OPT_max_inflight_bytes] != SAED_FROM_DEFAULT;
    cross_check(&p);
    return p.status;
}

void saed_opts_fini(struct saed_opts *o)
{
    for (size_t i = 0; i < o->n_sources; i++) {
        sae_free(o->sources[i].name);
        sae_free(o->sources[i].source);
    }
    sae_free(o->sources);
    list_clear(&o->sample);
    o->sources = NULL;
    o->n_sources = 0;
    for (unsigned i = 0; i < SAED_N_OPTIONS; i++)
        if (saed_kind_is_list(saed_opt_defs[i].kind))
            list_clear((struct saed_list *)(void *)((char *)o + saed_opt_defs[i].field));
    for (size_t i = 0; i < o->n_readings; i++) {
        sae_free(o->readings[i].match);
        sae_free(o->readings[i].stated);
    }
    sae_free(o->readings);
    o->readings = NULL;
    o->n_readings = 0;
}

bool saed_opts_limit(const struct saed_opts *o, size_t i, const char **key, uint64_t *value)
{
    for (unsigned r = 0; r < SAED_N_OPTIONS; r++) {
        const struct saed_opt_def *def = &saed_opt_defs[r];

        if (!def->is_limit || i-- != 0)
            continue;
        *key = def->key;
        memcpy(value, (const char *)o + def->field, sizeof *value);
        return true;
    }
    return false;
}
