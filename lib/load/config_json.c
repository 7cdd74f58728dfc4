/* config_json.c - configs in JSON. See config.h.
 *
 * json_scan.c checks the whole text and counts what is in it before anything is built, so the
 * building knows that all it looks for is there. */
#include "lib/format/json_scan.h"
#include "lib/load/config.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct sae_json_limits limits = {
    .max_depth = 64,
    .too_deep = "nested deeper than 64",
    .max_values = 100000,
    .too_many = "more than 100000 values",
    .python = true,
};

struct maker {
    struct sae_facts *facts;
    const char *p, *end;
    struct sae_err *err;
};

static enum sae_status no_memory(const struct maker *m)
{
    const char *name = sae_facts_name(m->facts);

    return sae_err_set(m->err, SAE_E_NOMEM, name, "cannot read %s: no memory for its values", name);
}

static void blanks(struct maker *m)
{
    m->p = sae_json_blanks(m->p, m->end);
}

/* The string whose quote is at p. */
static char *take_text(struct maker *m, size_t *n)
{
    struct sae_json_fault fault;
    const char *behind = sae_json_scan_string(m->p + 1, m->end, NULL, &fault);
    char *text = sae_facts_room(m->facts, (size_t)(behind - m->p));

    *n = 0;
    if (text)
        sae_json_copy_string(m->p + 1, m->end, text, n, &fault);
    m->p = behind;
    return text;
}

/* Numbers have a byte behind them that is none of theirs: strtod and strtoll stop there. */
static enum sae_status take_number(struct maker *m, struct sae_fact *fact)
{
    struct sae_json_fault fault;
    const char *begin = m->p;
    size_t n;

    m->p = sae_json_scan_number(begin, m->end, &fault);
    n = (size_t)(m->p - begin);
    if (memchr(begin, '.', n) || memchr(begin, 'e', n) || memchr(begin, 'E', n)) {
        fact->u.real = strtod(begin, NULL);
        fact->kind = isfinite(fact->u.real) ? SAE_FACT_REAL : SAE_FACT_NO_NUMBER;
        return SAE_OK;
    }
    errno = 0;
    fact->u.i = strtoll(begin, NULL, 10);
    fact->kind = errno ? SAE_FACT_BIG : SAE_FACT_INT;
    if (!errno)
        return SAE_OK;
    fact->u.text = sae_facts_copy(m->facts, begin, n);
    fact->n = n;
    return fact->u.text ? SAE_OK : no_memory(m);
}

static enum sae_status take_word(struct maker *m, struct sae_fact *fact)
{
    static const struct {
        const char *word;
        enum sae_fact_kind kind;
        bool b;
    } words[] = {
        {"null", SAE_FACT_NULL, false},          {"true", SAE_FACT_BOOL, true},
        {"false", SAE_FACT_BOOL, false},         {"NaN", SAE_FACT_NO_NUMBER, false},
        {"Infinity", SAE_FACT_NO_NUMBER, false}, {"-Infinity", SAE_FACT_NO_NUMBER, false},
    };
    size_t i = 0;

    while (strncmp(m->p, words[i].word, strlen(words[i].word)) != 0)
        i++;
    m->p += strlen(words[i].word);
    fact->kind = words[i].kind;
    if (words[i].kind == SAE_FACT_BOOL)
        fact->u.b = words[i].b;
    return SAE_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct sae_fact *const *x = a, *const *y = b;

    return strcmp((*x)->key, (*y)->key);
}

static enum sae_status check_keys(const struct maker *m, const struct sae_fact *dict)
{
    const char *name = sae_facts_name(m->facts);
    const struct sae_fact **entries = sae_calloc(dict->n, sizeof(const struct sae_fact *));
    enum sae_status st = SAE_OK;
    size_t n = 0;

    if (!entries)
        return no_memory(m);
    for (const struct sae_fact *e = dict->u.first; e; e = e->next)
        entries[n++] = e;
    qsort(entries, n, sizeof(const struct sae_fact *), compare_keys);
    for (size_t i = 1; st == SAE_OK && i < n; i++)
        if (compare_keys(&entries[i - 1], &entries[i]) == 0)
            st = sae_err_set(m->err, SAE_E_FORMAT, name,
                             "cannot read %s: the key \"%.64s\" stands twice", name,
                             entries[i]->key);
    sae_free(entries);
    return st;
}

static enum sae_status take_value(struct maker *m, struct sae_fact *fact);

/* An item of a list or dict, and what is behind it. */
static enum sae_status take_item(struct maker *m, struct sae_fact *parent)
{
    struct sae_fact *fact;
    const char *key = NULL;
    enum sae_status st;
    size_t n;

    if (parent->kind == SAE_FACT_DICT) {
        key = take_text(m, &n);
        if (!key)
            return no_memory(m);
        blanks(m);
        m->p++; /* the colon */
    }
    fact = sae_facts_add(m->facts, parent, key);
    if (!fact)
        return no_memory(m);
    st = take_value(m, fact);
    blanks(m);
    if (st == SAE_OK && *m->p == ',') {
        m->p++;
        blanks(m);
    }
    return st;
}

static enum sae_status take_items(struct maker *m, struct sae_fact *fact)
{
    bool dict = *m->p == '{';
    enum sae_status st = SAE_OK;

    fact->kind = dict ? SAE_FACT_DICT : SAE_FACT_LIST;
    m->p++;
    blanks(m);
    while (st == SAE_OK && *m->p != (dict ? '}' : ']'))
        st = take_item(m, fact);
    m->p++;
    return st == SAE_OK && dict ? check_keys(m, fact) : st;
}

/* Recursion has been bounded by the limit of depth. */
static enum sae_status take_value(struct maker *m, struct sae_fact *fact)
{
    blanks(m);
    if (*m->p == '{' || *m->p == '[')
        return take_items(m, fact);
    if (*m->p == '"') {
        fact->kind = SAE_FACT_TEXT;
        fact->u.text = take_text(m, &fact->n);
        return fact->u.text ? SAE_OK : no_memory(m);
    }
    if ((*m->p >= '0' && *m->p <= '9') || (*m->p == '-' && m->p[1] != 'I'))
        return take_number(m, fact);
    return take_word(m, fact);
}

enum sae_status sae_config_json(struct sae_facts **out, const char *name, const char *text,
                                size_t n, struct sae_err *err)
{
    static const char bom[] = "\xef\xbb\xbf";
    size_t skip = n >= 3 && memcmp(text, bom, 3) == 0 ? 3 : 0;
    struct maker m = {.p = text + skip, .end = text + n, .err = err};
    struct sae_json_fault fault;
    struct sae_fact *root;
    enum sae_status st;

    if (!sae_json_check_by(&limits, text + skip, n - skip, &fault))
        return sae_err_set(err, SAE_E_FORMAT, name, "cannot read %s: %s, found %s at byte %zu",
                           name, fault.what, sae_json_found_at(&fault, text + n).s,
                           (size_t)(fault.at - text));
    m.facts = sae_facts_create(name);
    if (!m.facts)
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot read %s: no memory", name);
    root = sae_facts_add(m.facts, NULL, NULL);
    st = root ? take_value(&m, root) : no_memory(&m);
    if (st != SAE_OK) {
        sae_facts_free(m.facts);
        return st;
    }
    *out = m.facts;
    return SAE_OK;
}
