/* flags.c - the command line: flags by the table, and what stands without one, dictionaries.
 *
 * Called by opts.c, once. See table.h. */
#include "server/opts/table.h"

#include "lib/nearest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void saed_flag_name(const char *key, char out[64])
{
    snprintf(out, 64, "--%s", key);
    for (char *c = out; *c; c++)
        if (*c == '_')
            *c = '-';
}

/* An argument that begins with '-', taken apart. */
struct flag {
    const char *word;  /* as written */
    char name[64];     /* "--threads"; a longer one is cut, and unknown */
    const char *value; /* behind '=', or NULL */
};

static struct flag flag_split(const char *word)
{
    struct flag f = {.word = word};
    size_t n = strcspn(word, "=");

    if (word[n] == '=')
        f.value = word + n + 1;
    if (n >= sizeof f.name)
        n = sizeof f.name - 1;
    memcpy(f.name, word, n);
    return f;
}

static void unknown_flag(struct saed_parse *p, const struct flag *f)
{
    static const char *const names[] = {
#define SAED_OPTION(key, ...) #key,
#include "server/opts/opts.def"
#define SAED_FLAG(name, ...) #name,
#include "server/opts/opts.def"
    };
    char near[64];

    saed_flag_name(sae_nearest(f->name, names, SAE_COUNTOF(names)), near);
    saed_parse_fail(p, SAE_E_USAGE, "cannot use %s: no such option, the nearest is %s", f->name,
                    near);
}

/* The value of a flag: behind '=', or the next argument. NULL (reported) when there is none; a next
 * argument that begins with "--" is a forgotten value, not a value. */
static const char *flag_value(struct saed_parse *p, const struct flag *f, const char *metavar,
                              char *const **rest)
{
    const char *next = **rest;

    if (f->value)
        return f->value;
    if (next && strncmp(next, "--", 2) != 0) {
        ++*rest;
        return next;
    }
    saed_parse_fail(p, SAE_E_USAGE, "cannot use %s: it needs a value, %s", f->name, metavar);
    return NULL;
}

static void option_flag(struct saed_parse *p, enum saed_opt_index i, const struct flag *f,
                        char *const **rest)
{
    const struct saed_opt_def *def = &saed_opt_defs[i];
    const char *value = f->value ? f->value : "true";
    char what[160];

    if (def->kind != SAED_KIND_BOOL)
        value = flag_value(p, f, def->metavar, rest);
    if (!value)
        return;
    snprintf(what, sizeof what, "%s %.80s", f->name, value[0] ? value : "\"\"");
    saed_parse_value(p, i, SAED_FROM_FLAG, value, what);
}

static void set_action(struct saed_parse *p, enum saed_action action)
{
    if (p->has_action && p->o->action != action)
        saed_parse_fail(p, SAE_E_USAGE, "cannot use --check and --probe together");
    p->has_action = true;
    p->o->action = action;
}

/* The flag's value, of one that takes none NULL. False (reported): it has not what it takes. */
static bool action_value(struct saed_parse *p, enum saed_flag_index i, const struct flag *f,
                         char *const **rest, const char **value)
{
    const char *metavar = saed_flag_defs[i].metavar;

    *value = NULL;
    if (metavar[0]) {
        *value = flag_value(p, f, metavar, rest);
        if (*value && (*value)[0] == '\0')
            saed_parse_fail(p, SAE_E_USAGE, "cannot use %s: its value is empty", f->name);
        return *value && (*value)[0];
    }
    if (f->value)
        saed_parse_fail(p, SAE_E_USAGE, "cannot use %s: it takes no value, got \"%.80s\"", f->name,
                        f->value);
    return !f->value;
}

/* True when the line ends here: --version and --help. */
static bool action_flag(struct saed_parse *p, enum saed_flag_index i, const struct flag *f,
                        char *const **rest)
{
    const char *value;

    if (!action_value(p, i, f, rest, &value))
        return false;
    switch (i) {
    case SAED_FLAG_config:
        p->config = value;
        return false;
    case SAED_FLAG_check:
        set_action(p, SAED_CHECK);
        return false;
    case SAED_FLAG_sample:
        if (!saed_list_add(&p->o->sample, value))
            saed_parse_fail(p, SAE_E_NOMEM, "cannot allocate sample %zu", p->o->sample.n + 1);
        return false;
    case SAED_FLAG_probe:
        set_action(p, SAED_PROBE);
        p->o->probe_url = value;
        return false;
    case SAED_FLAG_version:
        p->o->action = SAED_VERSION_ACTION;
        for (char *const *arg = *rest; *arg; arg++)
            p->o->verbose = p->o->verbose || strcmp(*arg, "--verbose") == 0;
        return true;
    case SAED_FLAG_verbose:
        p->o->verbose = true;
        return false;
    case SAED_FLAG_help:
        p->o->action = SAED_HELP;
        return true;
    case SAED_N_FLAGS:
        break;
    }
    return false;
}

/* -h, one letter. */
static bool is_short(const struct flag *f, const char *letters)
{
    return f->name[0] == '-' && f->name[1] && !f->name[2] && strchr(letters, f->name[1]);
}

/* True when the line ends here. */
static bool parse_flag(struct saed_parse *p, const char *word, char *const **rest)
{
    struct flag f = flag_split(word);
    char name[64];

    for (unsigned i = 0; i < SAED_N_OPTIONS; i++) {
        saed_flag_name(saed_opt_defs[i].key, name);
        if (strcmp(f.name, name) == 0) {
            option_flag(p, (enum saed_opt_index)i, &f, rest);
            return false;
        }
    }
    for (unsigned i = 0; i < SAED_N_FLAGS; i++) {
        saed_flag_name(saed_flag_defs[i].name, name);
        if (strcmp(f.name, name) == 0 || is_short(&f, saed_flag_defs[i].letters))
            return action_flag(p, (enum saed_flag_index)i, &f, rest);
    }
    unknown_flag(p, &f);
    /* What follows is most likely its value: one mistake, one message. */
    if (!f.value && **rest && (**rest)[0] != '-' && !strchr(**rest, '='))
        ++*rest;
    return false;
}

/* Is something there under the path of a source? */
static bool is_there(const char *source)
{
    char path[PATH_MAX];
    size_t n = sae_source_path(source);

    if (n >= sizeof path)
        return false;
    snprintf(path, sizeof path, "%.*s", (int)n, source);
    return access(path, F_OK) == 0;
}

/* NAME=SOURCE, or a SOURCE alone: there is no '=', or a part of its path stands before the first.
 * A text there without '/' and ':' is meant as a NAME, unless such a file is there. */
static void parse_positional(struct saed_parse *p, const char *arg)
{
    const char *eq = strchr(arg, '=');
    char name[SAED_NAME_MAX];
    size_t n;

    if (eq && (saed_is_name(arg, (size_t)(eq - arg)) ||
               (arg + strcspn(arg, "/:=") == eq && !is_there(arg)))) {
        saed_parse_source(p, arg, (size_t)(eq - arg), eq + 1, "");
        return;
    }
    n = saed_name_of(arg, name, sizeof name);
    if (n >= 1 && n <= sizeof name)
        saed_parse_source(p, name, n, arg, "");
    else
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot use \"%.200s\": it makes a name of %zu bytes, where 1 to %d are "
                        "wanted; give it one, NAME=SOURCE",
                        arg, n, SAED_NAME_MAX);
}

void saed_parse_line(struct saed_parse *p, int argc, char *const *argv)
{
    char *const *rest = argv + (argc > 0);
    bool flags = true;

    while (*rest) {
        const char *arg = *rest++;

        if (flags && strcmp(arg, "--") == 0)
            flags = false;
        else if (!flags || arg[0] != '-')
            parse_positional(p, arg);
        else if (parse_flag(p, arg, &rest))
            return;
    }
}
