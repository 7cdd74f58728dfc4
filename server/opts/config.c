/* config.c - the JSON config file: options by key, and the list of dictionaries.
 *
 * A value is turned back into text and goes the way of a flag's or a variable's, so that ranges and
 * messages are the same. Doubled keys are refused (jansson's JSON_REJECT_DUPLICATES), so are NUL
 * bytes, which jansson 2.14 drops in some places. Called by opts.c, before threads. */
#include "lib/nearest.h"
#include "server/opts/table.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_MAX ((size_t)16 << 20)

const char *saed_opts_library(void)
{
    static char text[64];

    snprintf(text, sizeof text, "jansson %s", jansson_version_str());
    return text;
}

/* The whole file; failures are reported. */
static bool read_file(struct saed_parse *p, struct sae_buf *b)
{
    int fd = open(p->config, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = -1;
    int e = errno;

    while (fd >= 0) {
        if (sae_buf_reserve(b, 16384) != SAE_OK) {
            close(fd);
            saed_parse_fail(p, b->len + 16384 > b->max ? SAE_E_USAGE : SAE_E_NOMEM,
                            "cannot read config file %.200s: more than %zu bytes", p->config,
                            b->len);
            return false;
        }
        n = read(fd, b->data + b->len, 16384);
        e = errno;
        if (n < 0 && e == EINTR)
            continue;
        if (n <= 0)
            break;
        b->len += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    if (n == 0)
        return true;
    saed_parse_fail(p, SAE_E_IO, "cannot read config file %.200s: %s", p->config, strerror(e));
    return false;
}

static json_t *parse_json(struct saed_parse *p, const struct sae_buf *b)
{
    static const char bom[] = "\xef\xbb\xbf"; /* as some editors write one */
    const size_t mark = b->len >= 3 && memcmp(b->data, bom, 3) == 0 ? 3 : 0;
    const char *nul = b->len ? memchr(b->data, '\0', b->len) : NULL;
    json_error_t je;
    json_t *root;

    if (nul) {
        saed_parse_fail(p, SAE_E_USAGE, "cannot parse config file %.200s: NUL byte at offset %zu",
                        p->config, (size_t)(nul - b->data));
        return NULL;
    }
    root = json_loadb(b->len ? b->data + mark : "", b->len - mark, JSON_REJECT_DUPLICATES, &je);
    if (!root)
        saed_parse_fail(
            p, json_error_code(&je) == json_error_out_of_memory ? SAE_E_NOMEM : SAE_E_USAGE,
            "cannot parse config file %.200s:%d:%d: %s", p->config, je.line, je.column, je.text);
    return root;
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a fraction or power";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

/* A JSON value of a type that the option takes, as text; NULL for another type. */
static const char *value_text(const struct saed_opt_def *def, const json_t *v, char number[32])
{
    bool wants_number = def->kind == SAED_KIND_INT || def->kind == SAED_KIND_SIZE;

    if (wants_number && json_is_integer(v)) {
        snprintf(number, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        return number;
    }
    if (def->kind == SAED_KIND_BOOL)
        return json_is_true(v) ? "true" : json_is_false(v) ? "false" : NULL;
    return def->kind != SAED_KIND_INT && json_is_string(v) ? json_string_value(v) : NULL;
}

static void apply_value(struct saed_parse *p, enum saed_opt_index i, const json_t *v)
{
    const struct saed_opt_def *def = &saed_opt_defs[i];
    char number[32], want[160], what[161];
    const char *text = value_text(def, v, number);

    if (text) {
        snprintf(what, sizeof what, "%s %.40s in %.80s", def->key, text[0] ? text : "\"\"",
                 p->config);
        saed_parse_value(p, i, SAED_FROM_FILE, text, what);
    } else {
        saed_value_want(def, want, sizeof want);
        saed_parse_fail(p, SAE_E_USAGE, "cannot use %s in %.120s: want %s, found %s", def->key,
                        p->config, want, type_name(v));
    }
}

static void apply_option(struct saed_parse *p, enum saed_opt_index i, const json_t *v)
{
    if (!saed_kind_is_list(saed_opt_defs[i].kind) || !json_is_array(v)) {
        apply_value(p, i, v);
        return;
    }
    for (size_t k = 0; k < json_array_size(v); k++)
        apply_value(p, i, json_array_get(v, k));
}

static void unknown_key(struct saed_parse *p, const char *where, const char *key,
                        const char *const *names, size_t n)
{
    for (unsigned i = 0; i < SAED_N_FLAGS; i++)
        if (strcmp(key, saed_flag_defs[i].name) == 0) {
            saed_parse_fail(p, SAE_E_USAGE,
                            "cannot use key \"%s\" in %.120s%s: --%s is for the command line only",
                            key, p->config, where, key);
            return;
        }
    saed_parse_fail(p, SAE_E_USAGE,
                    "cannot use key \"%.80s\" in %.120s%s: no such key, the nearest is \"%s\"", key,
                    p->config, where, sae_nearest(key, names, n));
}

/* ---- dictionaries --------------------------------------------------------------------------- */

/* An entry on its way to a source as the command line takes it. */
struct entry {
    struct saed_parse *p;
    const char *where;   /* " /dictionaries/3" */
    bool of_readings;    /* of whatever path matches */
    struct sae_buf text; /* the source, then a cut and "key=value" for each statement */
    bool good;
};

static void SAE_PRINTF(2, 3) entry_fail(struct entry *e, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    saed_parse_fail(e->p, SAE_E_USAGE, "cannot use %.120s%s: %s", e->p->config, e->where, text);
    e->good = false;
}

static void add_text(struct entry *e, const char *text)
{
    if (!e->good || sae_buf_add(&e->text, text, strlen(text)) == SAE_OK)
        return;
    saed_parse_fail(e->p, SAE_E_NOMEM, "cannot copy the source of %.120s%s", e->p->config,
                    e->where);
    e->good = false;
}

/* The text of a value; NULL: no text means it. */
static const char *stated_text(const json_t *v, char number[32])
{
    if (json_is_integer(v))
        snprintf(number, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        snprintf(number, 32, "%.17g", json_real_value(v));
    else
        return json_is_string(v) ? json_string_value(v) : NULL;
    return number;
}

/* Values are taken as they are, whatever stands in them. */
static void add_statement(struct entry *e, const char *key, const json_t *v)
{
    char number[32];
    const char *text = stated_text(v, number);

    if (json_is_null(v))
        return;
    if (!text) {
        entry_fail(e, "\"%.40s\" wants a text or a number, found %s", key, type_name(v));
    } else if (strchr(text, SAE_SOURCE_CUT)) {
        entry_fail(e, "\"%.40s\" holds a control character", key);
    } else {
        add_text(e, (const char[]){SAE_SOURCE_CUT, '\0'});
        add_text(e, key);
        add_text(e, "=");
        add_text(e, text);
    }
}

/* What GET shows beside the fields of a reading. */
static bool is_shown_only(const char *key)
{
    return strcmp(key, "stated") == 0 || strcmp(key, "contradicts") == 0 ||
           strcmp(key, "notes") == 0;
}

#define MAX_KEYS 64

/* The keys of that kind behind the n that are there; how many there are then. */
static size_t add_keys(const char *names[MAX_KEYS], size_t n, enum sae_source_key kind)
{
    const char *name;

    for (size_t i = 0; (name = sae_source_key_name(i)) && n < MAX_KEYS; i++)
        if (sae_source_key(name) == kind)
            names[n++] = name;
    return n;
}

static void add_reading(struct entry *e, const json_t *reading)
{
    const char *names[MAX_KEYS], *key;
    json_t *v;

    if (!json_is_object(reading)) {
        entry_fail(e, "\"reading\" wants an object, found %s", type_name(reading));
        return;
    }
    json_object_foreach((json_t *)reading, key, v)
    {
        if (is_shown_only(key))
            continue;
        if (sae_source_key(key) == SAE_SOURCE_OF_READING)
            add_statement(e, key, v);
        else
            entry_fail(e, "\"reading\" has no field \"%.40s\", the nearest is \"%s\"", key,
                       sae_nearest(key, names, add_keys(names, 0, SAE_SOURCE_OF_READING)));
    }
}

/* What says of which dictionary it is. */
static bool is_own_key(const struct entry *e, const char *key)
{
    return e->of_readings ? strcmp(key, "match") == 0
                          : strcmp(key, "name") == 0 || strcmp(key, "source") == 0;
}

/* All keys but those. */
static void add_statements(struct entry *e, const json_t *object)
{
    const char *names[MAX_KEYS] = {"reading", "name", "source"}, *key;
    size_t n = 3;
    json_t *v;

    if (e->of_readings) {
        names[1] = "match";
        n = 2;
    }
    json_object_foreach((json_t *)object, key, v)
    {
        if (strcmp(key, "reading") == 0)
            add_reading(e, v);
        else if (sae_source_key(key) == SAE_SOURCE_OPTION)
            add_statement(e, key, v);
        else if (sae_source_key(key) == SAE_SOURCE_OF_READING)
            entry_fail(e, "\"%.40s\" stands in \"reading\"", key);
        else if (!is_own_key(e, key)) {
            unknown_key(e->p, e->where, key, names, add_keys(names, n, SAE_SOURCE_OPTION));
            e->good = false;
        }
    }
}

/* One {"name": ..., "source": ...}; `where` is " /dictionaries/3". */
static void apply_dictionary(struct saed_parse *p, const json_t *entry, const char *where)
{
    static const char *const names[] = {"name", "source"};
    struct entry e = {.p = p, .where = where, .good = true};
    const json_t *value[2] = {NULL, NULL};
    char in[256];

    if (!json_is_object(entry)) {
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot use %.120s%s: want {\"name\": ..., \"source\": ...}, found %s",
                        p->config, where, type_name(entry));
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        value[i] = json_object_get(entry, names[i]);
        if (!json_is_string(value[i]))
            entry_fail(&e, "\"%s\" wants a string, found %s", names[i],
                       value[i] ? type_name(value[i]) : "none");
    }
    if (e.good && strchr(json_string_value(value[1]), SAE_SOURCE_CUT))
        entry_fail(&e, "\"source\" holds a control character");
    sae_buf_init(&e.text, CONFIG_MAX);
    add_text(&e, e.good ? json_string_value(value[1]) : "");
    add_statements(&e, entry);
    snprintf(in, sizeof in, " in %.120s%s", p->config, where);
    if (e.good)
        saed_parse_source(p, json_string_value(value[0]), json_string_length(value[0]), e.text.data,
                          in);
    sae_buf_fini(&e.text);
}

/* A folder, or a list of such and of named ones. */
static void apply_dictionaries(struct saed_parse *p, const json_t *v)
{
    char where[64];

    if (!json_is_array(v) && !json_is_string(v)) {
        saed_parse_fail(
            p, SAE_E_USAGE,
            "cannot use dictionaries in %.120s: want a folder, or a list of folders and "
            "of {\"name\": ..., \"source\": ...}, found %s",
            p->config, type_name(v));
        return;
    }
    if (json_is_string(v))
        apply_value(p, SAED_OPT_dictionaries, v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *entry = json_array_get(v, i);

        snprintf(where, sizeof where, " /dictionaries/%zu", i);
        if (json_is_string(entry))
            apply_value(p, SAED_OPT_dictionaries, entry);
        else
            apply_dictionary(p, entry, where);
    }
}

static bool keep_reading(struct saed_opts *o, const char *match, const char *stated)
{
    struct saed_reading *more = sae_realloc(o->readings, o->n_readings + 1, sizeof *more), *r;

    if (!more)
        return false;
    o->readings = more;
    r = &more[o->n_readings++]; /* freed with the options, whole or not */
    *r = (struct saed_reading){sae_strdup(match), sae_strdup(stated)};
    return r->match && r->stated;
}

/* One {"match": ..., "reading": ...}. */
static void apply_reading(struct saed_parse *p, const json_t *v, const char *where)
{
    static const char path[] = "PATH"; /* stands for whatever matches */
    struct entry e = {.p = p, .where = where, .of_readings = true, .good = true};
    const json_t *match = json_object_get(v, "match");
    struct sae_err err = {0};

    if (!json_is_string(match) || json_string_length(match) == 0) {
        entry_fail(&e, "want {\"match\": ..., \"reading\": ...} with a path to match");
        return;
    }
    sae_buf_init(&e.text, CONFIG_MAX);
    add_text(&e, path);
    add_statements(&e, v);
    if (e.good && sae_source_check(e.text.data, &err) != SAE_OK)
        entry_fail(&e, "%s", err.text);
    if (e.good && !keep_reading(p->o, json_string_value(match), e.text.data + strlen(path)))
        saed_parse_fail(p, SAE_E_NOMEM, "cannot keep%s of %.120s", where, p->config);
    sae_buf_fini(&e.text);
}

static void apply_readings(struct saed_parse *p, const json_t *list)
{
    char where[64];

    if (!json_is_array(list))
        saed_parse_fail(p, SAE_E_USAGE,
                        "cannot use readings in %.120s: want a list of {\"match\": ..., "
                        "\"reading\": ...}, found %s",
                        p->config, type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        snprintf(where, sizeof where, " /readings/%zu", i);
        apply_reading(p, json_array_get(list, i), where);
    }
}

static void apply_key(struct saed_parse *p, const char *key, const json_t *v)
{
    static const char *const names[] = {
#define SAED_OPTION(key, ...) #key,
#include "server/opts/opts.def"
        "readings",
    };

    if (strcmp(key, "dictionaries") == 0) {
        apply_dictionaries(p, v);
        return;
    }
    if (strcmp(key, "readings") == 0) {
        apply_readings(p, v);
        return;
    }
    for (unsigned i = 0; i < SAED_N_OPTIONS; i++)
        if (strcmp(key, saed_opt_defs[i].key) == 0) {
            apply_option(p, (enum saed_opt_index)i, v);
            return;
        }
    unknown_key(p, "", key, names, SAE_COUNTOF(names));
}

void saed_parse_config(struct saed_parse *p)
{
    struct sae_buf b;
    json_t *root = NULL;
    const char *key;
    json_t *v;

    sae_buf_init(&b, CONFIG_MAX);
    if (read_file(p, &b))
        root = parse_json(p, &b);
    if (root && !json_is_object(root))
        saed_parse_fail(p, SAE_E_USAGE, "cannot use config file %.200s: want an object, found %s",
                        p->config, type_name(root));
    else if (root)
        json_object_foreach(root, key, v) apply_key(p, key, v);
    json_decref(root);
    sae_buf_fini(&b);
}
