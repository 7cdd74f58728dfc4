/* statement.c - see statement.h. */
#include "lib/dict/statement.h"

#include "lib/dict/layout.h"
#include "lib/nearest.h"
#include "lib/source.h"

#include <ctype.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LINEAR "linear:"

enum kind { OPTION_K, OPTION_TEXT, OPTION_ROLE, OPTION_CHOICE };

/* Beside these each field of a reading is an option. */
static const struct option {
    const char *name;
    enum kind kind;
    enum sae_role role;
    size_t text;               /* of the statement: where the value is kept as it is */
    const char *usual, *other; /* of a choice: what it takes ... */
    size_t is_other;           /* ... and where the statement says that it is the second */
} options[] = {
    {.name = "k", .kind = OPTION_K},
    {.name = "format", .kind = OPTION_TEXT, .text = offsetof(struct sae_statement, format)},
    {.name = "encoder", .kind = OPTION_ROLE, .role = SAE_ROLE_ENCODER},
    {.name = "decoder", .kind = OPTION_ROLE, .role = SAE_ROLE_DECODER},
    {.name = "enc_bias", .kind = OPTION_ROLE, .role = SAE_ROLE_ENC_BIAS},
    {.name = "dec_bias", .kind = OPTION_ROLE, .role = SAE_ROLE_DEC_BIAS},
    {.name = "gate_bias", .kind = OPTION_ROLE, .role = SAE_ROLE_GATE_BIAS},
    {.name = "mag_bias", .kind = OPTION_ROLE, .role = SAE_ROLE_MAG_BIAS},
    {.name = "r_mag", .kind = OPTION_ROLE, .role = SAE_ROLE_R_MAG},
    {.name = "jump", .kind = OPTION_ROLE, .role = SAE_ROLE_JUMP},
    {.name = "prefix", .kind = OPTION_TEXT, .text = offsetof(struct sae_statement, prefix)},
    {.name = "parts",
     .kind = OPTION_CHOICE,
     .usual = "all",
     .other = "encoder",
     .is_other = offsetof(struct sae_statement, encodes_only)},
    {.name = "resident",
     .kind = OPTION_CHOICE,
     .usual = "stored",
     .other = "f32",
     .is_other = offsetof(struct sae_statement, widens)},
    {.name = "labels", .kind = OPTION_TEXT, .text = offsetof(struct sae_statement, labels)},
};

/* Option i of both tables: its name, NULL behind the last. */
static const char *option_name(size_t i)
{
    if (i < SAE_N_FIELDS)
        return sae_field_name((enum sae_field)i);
    i -= SAE_N_FIELDS;
    return i < SAE_COUNTOF(options) ? options[i].name : NULL;
}

enum sae_source_key sae_source_key(const char *key)
{
    size_t i = 0;

    while (option_name(i) && strcmp(option_name(i), key) != 0)
        i++;
    if (!option_name(i))
        return SAE_SOURCE_NO_KEY;
    return i < SAE_N_FIELDS || options[i - SAE_N_FIELDS].kind == OPTION_K ? SAE_SOURCE_OF_READING
                                                                          : SAE_SOURCE_OPTION;
}

const char *sae_source_key_name(size_t i)
{
    return option_name(i);
}

/* "word=" at p, behind a ':': the length of the word, 0: none stands there. */
static size_t word_at(const char *p)
{
    size_t n = 0;

    while (isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == '-')
        n++;
    return p[n] == '=' ? n : 0;
}

/* The option at p, SIZE_MAX: none. */
static size_t option_at(const char *p)
{
    size_t n = word_at(p);

    for (size_t i = 0; n && option_name(i); i++)
        if (strlen(option_name(i)) == n && memcmp(option_name(i), p, n) == 0)
            return i;
    return SIZE_MAX;
}

/* Where the next statement begins, with its ':' or SAE_SOURCE_CUT; at the end: there is none. */
static size_t next_cut(const char *text)
{
    const char *p = text;

    while (*p && *p != SAE_SOURCE_CUT && (*p != ':' || option_at(p + 1) == SIZE_MAX))
        p++;
    return (size_t)(p - text);
}

/* The same of what is taken whole. */
static size_t to_whole_cut(const char *text)
{
    return strcspn(text, (char[]){SAE_SOURCE_CUT, '\0'});
}

/* Bytes of a form in front of the path. */
static size_t form_bytes(const char *text)
{
    return strncmp(text, LINEAR, strlen(LINEAR)) == 0 ? strlen(LINEAR) : 0;
}

/* Is there a file or folder under the n bytes? */
static bool is_there(const char *text, size_t n)
{
    char path[PATH_MAX];
    struct stat st;

    if (n >= sizeof path)
        return false;
    memcpy(path, text, n);
    path[n] = '\0';
    return stat(path, &st) == 0;
}

size_t sae_statement_path(const char *text)
{
    size_t form = form_bytes(text), n = next_cut(text + form);
    size_t whole = to_whole_cut(text + form);

    return form + (n < whole && is_there(text + form, whole) ? whole : n);
}

struct sae_misspelt sae_statement_misspelt(const char *path)
{
    const char *names[SAE_N_FIELDS + SAE_COUNTOF(options)];
    struct sae_misspelt m = {.word = NULL};
    char word[40];

    for (size_t i = 0; i < SAE_COUNTOF(names); i++)
        names[i] = option_name(i);
    for (const char *p = path; (p = strchr(p, ':')) && m.n == 0; p++) {
        m.n = word_at(p + 1);
        m.word = m.n ? p + 1 : NULL;
    }
    snprintf(word, sizeof word, "%.*s", m.n < sizeof word ? (int)m.n : 0, m.word ? m.word : "");
    m.nearest = m.word ? sae_nearest(word, names, SAE_COUNTOF(names)) : NULL;
    return m;
}

/* ---- one option --------------------------------------------------------------------------- */

static enum sae_status bad(const char *name, const char *value, const char *wanted,
                           struct sae_err *err)
{
    return sae_err_set(err, SAE_E_USAGE, "", "%s is \"%.80s\", wanted %s", name, value, wanted);
}

static enum sae_status twice(const char *name, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_USAGE, "", "%s is stated twice", name);
}

static enum sae_status take_field(struct sae_statement *s, enum sae_field f, const char *value,
                                  struct sae_err *err)
{
    struct sae_value v;
    enum sae_status st;

    if (s->reading.field[f].is_set)
        return twice(sae_field_name(f), err);
    st = sae_value_parse(f, value, &v, err);
    if (st == SAE_OK)
        sae_reading_set(&s->reading, f, &v, SAE_FROM_STATED);
    return st;
}

/* k=N is select=top_k:N, k=none select=all. */
static enum sae_status take_k(struct sae_statement *s, const char *value, struct sae_err *err)
{
    struct sae_value v = {.choice = SAE_SELECT_ALL};
    char select[48];

    if (s->reading.field[SAE_FIELD_SELECT].is_set)
        return twice("k, or select,", err);
    snprintf(select, sizeof select, "top_k:%.32s", value);
    if (strcmp(value, "none") != 0 && sae_value_parse(SAE_FIELD_SELECT, select, &v, NULL) != SAE_OK)
        return bad("k", value, "none or a whole number from 1", err);
    s->has_k = true;
    sae_reading_set(&s->reading, SAE_FIELD_SELECT, &v, SAE_FROM_STATED);
    return SAE_OK;
}

static enum sae_status take_text(const char **slot, const char *name, const char *value,
                                 struct sae_err *err)
{
    if (*slot)
        return twice(name, err);
    *slot = value;
    return SAE_OK;
}

/* `seen`: the choices that were stated, by their place in the table. */
static enum sae_status take_choice(struct sae_statement *s, bool *seen, const struct option *o,
                                   const char *value, struct sae_err *err)
{
    bool *is_other = (bool *)((char *)s + o->is_other);
    char wanted[40];

    if (seen[o - options])
        return twice(o->name, err);
    seen[o - options] = true;
    *is_other = strcmp(value, o->other) == 0;
    if (*is_other || strcmp(value, o->usual) == 0)
        return SAE_OK;
    snprintf(wanted, sizeof wanted, "%s or %s", o->usual, o->other);
    return bad(o->name, value, wanted, err);
}

static enum sae_status take_option(struct sae_statement *s, bool *seen, size_t i, const char *value,
                                   struct sae_err *err)
{
    const struct option *o = &options[i < SAE_N_FIELDS ? 0 : i - SAE_N_FIELDS];

    if (*value == '\0')
        return sae_err_set(err, SAE_E_USAGE, "", "%s has no value", option_name(i));
    if (i < SAE_N_FIELDS)
        return take_field(s, (enum sae_field)i, value, err);
    switch (o->kind) {
    case OPTION_K:
        return take_k(s, value, err);
    case OPTION_TEXT:
        return take_text((const char **)((char *)s + o->text), o->name, value, err);
    case OPTION_ROLE:
        return take_text(&s->key[o->role], o->name, value, err);
    case OPTION_CHOICE:
        break;
    }
    return take_choice(s, seen, o, value, err);
}

/* ---- all of them -------------------------------------------------------------------------- */

/* Formats that are told by what stands in a folder, and not read yet. */
static const char *const later[] = {"llama_scope", "llamascopium", "lm_saes"};

static enum sae_status check_format(const struct sae_statement *s, struct sae_err *err)
{
    char wanted[200] = "one of";
    size_t at = strlen(wanted);

    for (size_t i = 0; s->format && i < SAE_COUNTOF(later); i++)
        if (strcmp(later[i], s->format) == 0)
            return sae_err_set(err, SAE_E_USAGE, "", "format=%s: saed does not read it yet",
                               s->format);
    for (size_t i = 0; s->format && i < sae_n_layouts; i++) {
        const char *format = sae_layouts[i].format;

        if (sae_layouts[i].is_identity ||
            (i > 0 && sae_layout_of_format(format) != &sae_layouts[i]))
            continue;
        if (strcmp(format, s->format) == 0)
            return SAE_OK;
        at += (size_t)snprintf(wanted + at, sizeof wanted - at, " %s", format);
        at = at < sizeof wanted ? at : sizeof wanted - 1;
    }
    return s->format ? bad("format", s->format, wanted, err) : SAE_OK;
}

/* Which tensor is what is for `custom` to say, and its encoder for `linear`. */
static enum sae_status check_roles(const struct sae_statement *s, struct sae_err *err)
{
    for (size_t i = 0; i < SAE_COUNTOF(options); i++) {
        const struct option *o = &options[i];
        const struct sae_layout *row = s->format ? sae_layout_of_format(s->format) : NULL;

        if (o->kind != OPTION_ROLE || !s->key[o->role])
            continue;
        if (!row)
            return sae_err_set(err, SAE_E_USAGE, "", "%s= wants encoder= beside it", o->name);
        if (!(row->takes_keys >> o->role & 1))
            return sae_err_set(err, SAE_E_USAGE, "", "%s= does not go with format=%s", o->name,
                               s->format);
    }
    return SAE_OK;
}

/* What custom has no default for. */
static enum sae_status check_custom(const struct sae_statement *s, struct sae_err *err)
{
    const struct sae_reading_field *field = s->reading.field;
    const struct sae_layout *row = s->format ? sae_layout_of_format(s->format) : NULL;

    if (!row || !row->is_stated)
        return SAE_OK;
    if (!s->key[SAE_ROLE_ENCODER])
        return sae_err_set(err, SAE_E_USAGE, "", "format=%s wants encoder=KEY", s->format);
    if (!field[SAE_FIELD_CENTRE].is_set)
        return sae_err_set(err, SAE_E_USAGE, "",
                           "format=%s wants to know what is subtracted from x: state centre=none "
                           "or centre=KEY",
                           s->format);
    if (!field[SAE_FIELD_ACTIVATION].is_set && !s->has_k && !sae_statement_says_threshold(s))
        return sae_err_set(err, SAE_E_USAGE, "",
                           "format=%s wants to know the activation: state activation=, k= or "
                           "threshold=",
                           s->format);
    return SAE_OK;
}

static bool is_url(const char *path)
{
    size_t n = 0;

    while (isalnum((unsigned char)path[n]) || path[n] == '+' || path[n] == '-')
        n++;
    return n > 1 && strncmp(path + n, "://", 3) == 0;
}

/* The statements of a text, one after another. */
struct cursor {
    char *at;      /* behind the next cut; NULL: there is none */
    bool is_whole; /* a SAE_SOURCE_CUT was met, and nothing else cuts from there on */
    bool is_form;  /* of no file: labels= alone is taken */
};

/* End what stands before the cut, and go behind it. */
static void step(struct cursor *c, char *cut)
{
    c->is_whole |= *cut == SAE_SOURCE_CUT;
    c->at = *cut ? cut + 1 : NULL;
    *cut = '\0';
}

static enum sae_status take_next(struct sae_statement *s, struct cursor *c, bool *seen,
                                 struct sae_err *err)
{
    size_t i = option_at(c->at);
    char *value;

    if (i == SIZE_MAX)
        return sae_err_set(err, SAE_E_USAGE, "", "\"%.60s\" is no statement", c->at);
    if (c->is_form && strcmp(option_name(i), "labels") != 0)
        return sae_err_set(err, SAE_E_USAGE, "",
                           "%s= does not go with identity: and init:, which take labels= alone",
                           option_name(i));
    value = strchr(c->at, '=') + 1;
    step(c, value + (c->is_whole ? to_whole_cut(value) : next_cut(value)));
    return take_option(s, seen, i, value, err);
}

static enum sae_status parse(struct sae_statement *s, struct sae_err *err)
{
    size_t form = form_bytes(s->text);
    struct cursor c = {.is_whole = false};
    bool seen[SAE_COUNTOF(options)] = {false};
    enum sae_status st = SAE_OK;

    step(&c, s->text + sae_statement_path(s->text));
    s->path = s->text + form;
    if (form)
        s->format = "linear";
    while (c.at && st == SAE_OK)
        st = take_next(s, &c, seen, err);
    if (st == SAE_OK && is_url(s->path))
        st = sae_err_set(err, SAE_E_USAGE, "", "it is a URL, and saed downloads nothing");
    if (st == SAE_OK && *s->path == '\0')
        st = sae_err_set(err, SAE_E_USAGE, "", "it has no path");
    if (st == SAE_OK && s->key[SAE_ROLE_ENCODER] && !s->format)
        s->format = "custom";
    return st;
}

/* By what its line says of it: what the config file states is named by its key. */
static enum sae_status refuse(struct sae_err *err, enum sae_status st, const char *text,
                              const struct sae_err *low)
{
    size_t n = to_whole_cut(text);

    return sae_err_set(err, st, "", "cannot use source %.*s: %s", n < 120 ? (int)n : 120, text,
                       low->text);
}

enum sae_status sae_statement_parse(struct sae_statement *out, const char *text,
                                    struct sae_err *err)
{
    struct sae_statement s = {.text = sae_strdup(text)};
    struct sae_err low = {0};
    enum sae_status st;

    if (!s.text)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot load %.200s: cannot copy its name", text);
    sae_reading_init(&s.reading);
    st = parse(&s, &low);
    if (st == SAE_OK)
        st = check_format(&s, &low);
    if (st == SAE_OK)
        st = check_roles(&s, &low);
    if (st == SAE_OK)
        st = check_custom(&s, &low);
    if (st == SAE_OK)
        st = sae_reading_check(&s.reading, &low);
    if (st != SAE_OK) {
        sae_statement_fini(&s);
        return refuse(err, st, text, &low);
    }
    *out = s;
    return SAE_OK;
}

enum sae_status sae_statement_parse_form(struct sae_statement *out, const char *text,
                                         struct sae_err *err)
{
    struct sae_statement s = {.text = sae_strdup(text)};
    struct cursor c = {.is_form = true};
    bool seen[SAE_COUNTOF(options)] = {false};
    struct sae_err low = {0};
    enum sae_status st = SAE_OK;

    if (!s.text)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot load %.200s: cannot copy its name", text);
    sae_reading_init(&s.reading);
    step(&c, s.text + next_cut(s.text));
    s.path = s.text;
    while (c.at && st == SAE_OK)
        st = take_next(&s, &c, seen, &low);
    if (st != SAE_OK) {
        sae_statement_fini(&s);
        return refuse(err, st, text, &low);
    }
    *out = s;
    return SAE_OK;
}

bool sae_statement_says_threshold(const struct sae_statement *s)
{
    const struct sae_reading_field *threshold = &s->reading.field[SAE_FIELD_THRESHOLD];

    return threshold->is_set && threshold->value.choice != SAE_THRESHOLD_NONE;
}

bool sae_statement_says_selection(const struct sae_statement *s)
{
    return s->reading.field[SAE_FIELD_SELECT].is_set || sae_reading_wants_threshold(&s->reading) ||
           sae_statement_says_threshold(s);
}

void sae_statement_fini(struct sae_statement *s)
{
    sae_free(s->text);
    s->text = NULL;
}
