/* config_yaml.c - the lines of a config.yaml that can be read without a YAML library. See config.h.
 *
 * Read are `key: value` in column 0 with a bare or quoted scalar, up to ` #`. Everything else is
 * skipped, and marks the key that it belongs to as UNREAD. What could make a line in column 0 mean
 * something else than it seems (a quoted or flow value that goes on in the next line, merged keys,
 * explicit keys, a second document) ends the reading. */
#include "lib/load/config.h"

#include "lib/num.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEYS 1000 /* each is compared with those before it */

struct yaml {
    struct sae_facts *facts;
    struct sae_fact *root, *last; /* last: whose value may go on in the next lines */
    const char *name;
    unsigned line;
    bool any; /* a line that says something has been met */
    struct sae_err *err;
};

/* A part of a line, blanks at its ends taken off. */
struct part {
    const char *s;
    size_t n;
};

static enum sae_status bad(const struct yaml *y, const char *what)
{
    return sae_err_set(y->err, SAE_E_FORMAT, y->name, "cannot read %s: line %u: %s", y->name,
                       y->line, what);
}

static enum sae_status no_memory(const struct yaml *y)
{
    return sae_err_set(y->err, SAE_E_NOMEM, y->name, "cannot read %s: no memory for its values",
                       y->name);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct part trim(const char *s, size_t n)
{
    while (n > 0 && is_blank(*s))
        s++, n--;
    while (n > 0 && is_blank(s[n - 1]))
        n--;
    return (struct part){s, n};
}

/* Nothing, or a comment. */
static bool is_empty(struct part p)
{
    return p.n == 0 || p.s[0] == '#';
}

static bool equals(struct part p, const char *word)
{
    return p.n == strlen(word) && memcmp(p.s, word, p.n) == 0;
}

static bool is_one_of(struct part p, const char *const *words)
{
    while (*words && !equals(p, *words))
        words++;
    return *words != NULL;
}

static void unread(struct sae_fact *fact, const char *what)
{
    fact->kind = SAE_FACT_UNREAD;
    fact->u.text = what;
    fact->n = strlen(what);
}

/* ---- quoted text -------------------------------------------------------------------------- */

/* The byte behind the closing quote of the text whose opening one is at p; NULL: it does not end in
 * this line. */
static const char *quoted_end(const char *p, const char *end)
{
    char quote = *p++;

    for (; p < end; p++) {
        if (*p == quote && quote == '\'' && p + 1 < end && p[1] == '\'')
            p++;
        else if (*p == quote)
            return p + 1;
        else if (*p == '\\' && quote == '"')
            p++;
    }
    return NULL;
}

/* The text between the quotes; *escaped: it has an escape that is not read. */
static char *unquote(const struct yaml *y, struct part p, size_t *n, bool *escaped)
{
    char quote = p.s[0];
    char *text = sae_facts_copy(y->facts, p.s + 1, p.n - 2), *to = text;

    *escaped = quote == '"' && memchr(p.s, '\\', p.n);
    for (const char *from = text; text && *from; from++) {
        *to++ = *from;
        if (quote == '\'' && from[0] == '\'' && from[1] == '\'')
            from++;
    }
    if (text)
        *to = '\0';
    *n = (size_t)(to - text);
    return text;
}

/* ---- scalars ------------------------------------------------------------------------------ */

/* Digits as YAML 1.1 and 1.2 both read them: 010 is 8 to one and 10 to the other, and stays text.
 */
static bool is_integer(const char *s)
{
    s += *s == '-' || *s == '+';
    if (s[0] == '0' && s[1])
        return false;
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* A point is wanted: 1e5 is a text to PyYAML. */
static bool is_real(const char *s)
{
    size_t whole, part;

    s += *s == '-' || *s == '+';
    whole = strspn(s, "0123456789");
    if (s[whole] != '.')
        return false;
    part = strspn(s + whole + 1, "0123456789");
    s += whole + 1 + part;
    if (whole + part == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s != '-' && *s != '+')
            return false;
        s++;
        return *s && strspn(s, "0123456789") == strlen(s);
    }
    return *s == '\0';
}

static void set_number(struct sae_fact *fact, const char *text)
{
    if (is_integer(text)) {
        errno = 0;
        long long v = strtoll(text, NULL, 10);

        fact->kind = errno ? SAE_FACT_BIG : SAE_FACT_INT;
        if (!errno)
            fact->u.i = v;
    } else if (is_real(text)) {
        double v = strtod(text, NULL);

        fact->kind = isfinite(v) ? SAE_FACT_REAL : SAE_FACT_NO_NUMBER;
        if (isfinite(v))
            fact->u.real = v;
    }
}

static enum sae_status bare(struct yaml *y, struct part p, struct sae_fact *fact)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", NULL};
    static const char *const no[] = {"false", "False", "FALSE", NULL};
    /* Booleans to YAML 1.1, texts to 1.2. */
    static const char *const either[] = {"yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON",
                                         "off", "Off", "OFF", "y",  "Y",  "n",  "N",  NULL};
    static const char *const no_numbers[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",
                                             ".INF",  "-.inf", "-.Inf", "-.INF", "+.inf",
                                             "+.Inf", "+.INF", NULL};

    if (is_one_of(p, nulls)) {
        fact->kind = SAE_FACT_NULL;
    } else if (is_one_of(p, yes) || is_one_of(p, no)) {
        fact->kind = SAE_FACT_BOOL;
        fact->u.b = is_one_of(p, yes);
    } else if (is_one_of(p, no_numbers)) {
        fact->kind = SAE_FACT_NO_NUMBER;
    } else if (is_one_of(p, either)) {
        unread(fact, "a word that is a boolean to some readers of YAML and a text to others");
    } else {
        char *text = sae_facts_copy(y->facts, p.s, p.n);

        if (!text)
            return no_memory(y);
        fact->kind = SAE_FACT_TEXT;
        fact->u.text = text;
        fact->n = strlen(text);
        set_number(fact, text);
    }
    return SAE_OK;
}

static enum sae_status quoted(struct yaml *y, struct part p, struct sae_fact *fact)
{
    const char *end = quoted_end(p.s, p.s + p.n);
    bool escaped;

    if (!end)
        return bad(y, "a quoted value that does not end in its line");
    fact->kind = SAE_FACT_TEXT;
    if (!is_empty(trim(end, (size_t)(p.s + p.n - end)))) {
        unread(fact, "a quoted value with more behind it");
        return SAE_OK;
    }
    fact->u.text = unquote(y, (struct part){p.s, (size_t)(end - p.s)}, &fact->n, &escaped);
    if (!fact->u.text)
        return no_memory(y);
    if (escaped)
        unread(fact, "a quoted value with an escape");
    return SAE_OK;
}

/* A list or dict in brackets, which must end in its line. */
static enum sae_status flow(struct yaml *y, struct part p, struct sae_fact *fact)
{
    int depth = 0;

    for (const char *s = p.s, *end = p.s + p.n; s < end; s++) {
        if (*s == '"' || *s == '\'') {
            s = quoted_end(s, end);
            if (!s)
                return bad(y, "a quoted value that does not end in its line");
            s--;
        } else if (*s == '#' && is_blank(s[-1])) {
            break;
        } else {
            depth += (*s == '[' || *s == '{') - (*s == ']' || *s == '}');
        }
    }
    if (depth != 0)
        return bad(y, "a list or map in brackets that does not end in its line");
    unread(fact, "a list or map in brackets");
    return SAE_OK;
}

static enum sae_status read_value(struct yaml *y, struct part p, struct sae_fact *fact)
{
    static const struct {
        char first;
        const char *what;
    } others[] = {
        {'!', "a value with a tag"}, {'&', "a value with an anchor"}, {'*', "an alias"},
        {'|', "a block of text"},    {'>', "a block of text"},        {'%', "a reserved value"},
        {'@', "a reserved value"},   {'`', "a reserved value"},       {'?', "a nested key"},
    };

    if (p.n > 0 && (p.s[0] == '"' || p.s[0] == '\''))
        return quoted(y, p, fact);
    if (p.n > 0 && (p.s[0] == '[' || p.s[0] == '{'))
        return flow(y, p, fact);
    for (size_t i = 0; p.n > 0 && i < SAE_COUNTOF(others); i++)
        if (p.s[0] == others[i].first) {
            unread(fact, others[i].what);
            return SAE_OK;
        }
    if (p.n > 0 && p.s[0] == '#')
        p.n = 0;
    for (size_t i = 1; i < p.n; i++)
        if (p.s[i] == '#' && is_blank(p.s[i - 1]))
            p = trim(p.s, i);
    for (size_t i = 0; i + 1 < p.n; i++)
        if (p.s[i] == ':' && is_blank(p.s[i + 1])) {
            unread(fact, "a map in its line");
            return SAE_OK;
        }
    return bare(y, p, fact);
}

/* ---- lines -------------------------------------------------------------------------------- */

/* The key of a line and what is behind its colon. False: it is no `key: value`. */
static bool split(struct part line, struct part *key, struct part *value)
{
    const char *end = line.s + line.n, *p = line.s;

    if (*p == '"' || *p == '\'') {
        p = quoted_end(p, end);
        while (p && p < end && is_blank(*p))
            p++;
        if (!p || p == end || *p != ':')
            return false;
    } else {
        while (p < end && !(*p == ':' && (p + 1 == end || is_blank(p[1]))) && *p != '#')
            p++;
        if (p == end || *p != ':')
            return false;
    }
    if (p + 1 < end && !is_blank(p[1]))
        return false;
    *key = trim(line.s, (size_t)(p - line.s));
    *value = trim(p + 1, (size_t)(end - p - 1));
    return key->n > 0;
}

static enum sae_status take_key(struct yaml *y, struct part key, char **out)
{
    bool escaped = false;
    size_t n;

    *out = key.s[0] == '"' || key.s[0] == '\'' ? unquote(y, key, &n, &escaped)
                                               : sae_facts_copy(y->facts, key.s, key.n);
    if (!*out)
        return no_memory(y);
    return escaped ? bad(y, "a key with an escape") : SAE_OK;
}

/* A line `key: value` in column 0. */
static enum sae_status take_line(struct yaml *y, struct part key, struct part value)
{
    struct sae_fact *fact, *twin = NULL;
    char *text;
    enum sae_status st = take_key(y, key, &text);

    if (st != SAE_OK)
        return st;
    if (strcmp(text, "<<") == 0)
        return bad(y, "keys merged from elsewhere (<<)");
    if (strchr("!&*[{?|>%@`", text[0]))
        return bad(y, "a key that is no plain text");
    for (const struct sae_fact *e = y->root->u.first; e; e = e->next)
        if (strcmp(e->key, text) == 0)
            twin = (struct sae_fact *)e;
    if (!twin && y->root->n == MAX_KEYS)
        return bad(y, "more than 1000 keys");
    fact = twin ? twin : sae_facts_add(y->facts, y->root, text);
    if (!fact)
        return no_memory(y);
    st = read_value(y, value, fact);
    if (twin)
        unread(twin, "a key that stands twice");
    y->last = fact;
    return st;
}

/* Indented lines and those of a list belong to the key above. */
static void goes_on(struct yaml *y, struct part line)
{
    if (y->last && y->last->kind == SAE_FACT_NULL)
        unread(y->last, line.s[0] == '-' ? "a list" : "a nested value");
    else if (y->last && y->last->kind != SAE_FACT_UNREAD)
        unread(y->last, "a value that goes on in the next line");
}

static enum sae_status read_line(struct yaml *y, const char *s, size_t n)
{
    struct part line = trim(s, n), key, value;
    bool item = line.n > 0 && line.s[0] == '-' && (line.n == 1 || is_blank(line.s[1]));

    if (is_empty(line) || s[0] == '%')
        return SAE_OK;
    if (n >= 3 && (memcmp(s, "---", 3) == 0 || memcmp(s, "...", 3) == 0)) {
        if (y->any || trim(s + 3, n - 3).n > 0)
            return bad(y, "a second document, or one that begins behind ---");
        return SAE_OK;
    }
    y->any = true;
    if (is_blank(s[0]) || item) {
        goes_on(y, line);
        return SAE_OK;
    }
    if (strchr("[{?\"'", s[0]) && !split(line, &key, &value))
        return bad(y, "no key and value on one line");
    if (!split(line, &key, &value))
        return SAE_OK;
    return take_line(y, key, value);
}

enum sae_status sae_config_yaml(struct sae_facts **out, const char *name, const char *text,
                                size_t n, struct sae_err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    const char *end = text + n, *p = n >= 3 && memcmp(text, bom, 3) == 0 ? text + 3 : text;
    struct yaml y = {.name = name, .err = err, .facts = sae_facts_create(name)};
    enum sae_status st = SAE_OK;

    y.root = y.facts ? sae_facts_add(y.facts, NULL, NULL) : NULL;
    if (!y.root) {
        sae_facts_free(y.facts);
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot read %s: no memory", name);
    }
    y.root->kind = SAE_FACT_DICT;
    while (st == SAE_OK && p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *behind = newline ? newline : end;

        y.line++;
        if (memchr(p, 0, (size_t)(behind - p)))
            st = bad(&y, "a zero byte");
        else
            st = read_line(&y, p, (size_t)(behind - p));
        p = behind + 1;
    }
    if (st != SAE_OK) {
        sae_facts_free(y.facts);
        return st;
    }
    *out = y.facts;
    return SAE_OK;
}
