/* facts.c - see facts.h. */
#include "lib/load/facts.h"

#include "lib/num.h"

#include <stdio.h>
#include <string.h>

/* ---- making ------------------------------------------------------------------------------- */

/* Memory is taken in chunks and given back at once. */
struct chunk {
    struct chunk *next;
    size_t used, cap;
    max_align_t bytes[];
};
#define CHUNK_BYTES ((size_t)16 << 10)

struct sae_facts {
    char name[SAE_FACTS_NAME_MAX];
    struct chunk *chunks;
    struct sae_fact *root;
};

struct sae_facts *sae_facts_create(const char *name)
{
    struct sae_facts *f = sae_calloc(1, sizeof *f);

    if (f)
        snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

void sae_facts_free(struct sae_facts *f)
{
    while (f && f->chunks) {
        struct chunk *b = f->chunks;

        f->chunks = b->next;
        sae_free(b);
    }
    sae_free(f);
}

static void *take(struct sae_facts *f, size_t n)
{
    size_t whole = (n + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct chunk *b = f->chunks;
    void *p;

    if (!b || whole > b->cap - b->used) {
        size_t cap = whole > CHUNK_BYTES ? whole : CHUNK_BYTES;

        b = sae_calloc(1, sizeof *b + cap);
        if (!b)
            return NULL;
        b->cap = cap;
        b->next = f->chunks;
        f->chunks = b;
    }
    p = (char *)b->bytes + b->used;
    b->used += whole;
    return p;
}

struct sae_fact *sae_facts_add(struct sae_facts *f, struct sae_fact *parent, const char *key)
{
    struct sae_fact *fact = take(f, sizeof *fact);

    if (!fact)
        return NULL;
    fact->key = key;
    if (!parent) {
        f->root = fact;
        return fact;
    }
    if (parent->last)
        parent->last->next = fact;
    else
        parent->u.first = fact;
    parent->last = fact;
    parent->n++;
    return fact;
}

char *sae_facts_room(struct sae_facts *f, size_t n)
{
    return n < SIZE_MAX / 2 ? take(f, n + 1) : NULL; /* zeroed, so the NUL is there */
}

char *sae_facts_copy(struct sae_facts *f, const char *s, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const char *end = s + n;
    size_t room = 0;
    char *dst, *p;

    for (const char *q = s; q < end;) {
        unsigned len = *q ? sae_utf8_len(q, end) : 0;

        room += len ? len : sizeof replacement - 1;
        q += len ? len : 1;
    }
    dst = p = sae_facts_room(f, room);
    while (dst && s < end) {
        unsigned len = *s ? sae_utf8_len(s, end) : 0;

        memcpy(p, len ? s : replacement, len ? len : sizeof replacement - 1);
        p += len ? len : sizeof replacement - 1;
        s += len ? len : 1;
    }
    return dst;
}

/* ---- asking ------------------------------------------------------------------------------- */

const struct sae_fact *sae_facts_root(const struct sae_facts *f)
{
    return f ? f->root : NULL;
}

const char *sae_facts_name(const struct sae_facts *f)
{
    return f->name;
}

static const struct sae_fact *entry_of(const struct sae_fact *dict, const char *key, size_t n)
{
    if (!dict || dict->kind != SAE_FACT_DICT)
        return NULL;
    for (const struct sae_fact *e = dict->u.first; e; e = e->next)
        if (strncmp(e->key, key, n) == 0 && e->key[n] == '\0')
            return e;
    return NULL;
}

/* Recursion is bounded by the facts' depth. */
static const struct sae_fact *find(const struct sae_fact *dict, const char *path)
{
    const struct sae_fact *found = entry_of(dict, path, strlen(path));

    for (const char *dot = path; !found && (dot = strchr(dot, '.')); dot++) {
        const struct sae_fact *below = entry_of(dict, path, (size_t)(dot - path));

        found = below ? find(below, dot + 1) : NULL;
    }
    return found;
}

const struct sae_fact *sae_facts_find(const struct sae_facts *f, const char *path)
{
    return find(sae_facts_root(f), path);
}

const char *sae_fact_describe(const struct sae_fact *fact)
{
    switch (fact->kind) {
    case SAE_FACT_NULL:
        return "null";
    case SAE_FACT_BOOL:
        return "a boolean";
    case SAE_FACT_INT:
        return "an integer";
    case SAE_FACT_BIG:
        return "an integer beyond 64 bits";
    case SAE_FACT_REAL:
        return "a number with a fraction";
    case SAE_FACT_NO_NUMBER:
        return "NaN or an infinity";
    case SAE_FACT_TEXT:
        return "a text";
    case SAE_FACT_OPAQUE:
    case SAE_FACT_UNREAD:
        return fact->u.text;
    case SAE_FACT_LIST:
        return "a list";
    case SAE_FACT_DICT:
        break;
    }
    return "a dict";
}

/* The value under `path`; *found is false where there is none, or null. */
static const struct sae_fact *look(const struct sae_facts *f, const char *path, bool *found)
{
    const struct sae_fact *fact = sae_facts_find(f, path);

    *found = fact && fact->kind != SAE_FACT_NULL;
    return fact;
}

static enum sae_status not_wanted(const struct sae_facts *f, const char *path,
                                  const struct sae_fact *fact, const char *wanted,
                                  struct sae_err *err)
{
    return sae_err_set(err, SAE_E_FORMAT, f->name,
                       "cannot use \"%.64s\" of %s: it is %.100s, %s is wanted", path, f->name,
                       sae_fact_describe(fact), wanted);
}

enum sae_status sae_facts_int(const struct sae_facts *f, const char *path, int64_t *out,
                              bool *found, struct sae_err *err)
{
    const struct sae_fact *fact = look(f, path, found);

    if (*found && fact->kind != SAE_FACT_INT)
        return not_wanted(f, path, fact, "an integer", err);
    if (*found)
        *out = fact->u.i;
    return SAE_OK;
}

enum sae_status sae_facts_real(const struct sae_facts *f, const char *path, double *out,
                               bool *found, struct sae_err *err)
{
    const struct sae_fact *fact = look(f, path, found);

    if (*found && fact->kind != SAE_FACT_INT && fact->kind != SAE_FACT_REAL)
        return not_wanted(f, path, fact, "a number", err);
    if (*found)
        *out = fact->kind == SAE_FACT_INT ? (double)fact->u.i : fact->u.real;
    return SAE_OK;
}

enum sae_status sae_facts_bool(const struct sae_facts *f, const char *path, bool *out, bool *found,
                               struct sae_err *err)
{
    const struct sae_fact *fact = look(f, path, found);

    if (*found && fact->kind != SAE_FACT_BOOL)
        return not_wanted(f, path, fact, "a boolean", err);
    if (*found)
        *out = fact->u.b;
    return SAE_OK;
}

enum sae_status sae_facts_text(const struct sae_facts *f, const char *path, const char **out,
                               bool *found, struct sae_err *err)
{
    const struct sae_fact *fact = look(f, path, found);

    if (*found && fact->kind != SAE_FACT_TEXT)
        return not_wanted(f, path, fact, "a text", err);
    if (*found)
        *out = fact->u.text;
    return SAE_OK;
}

/* ---- printing ----------------------------------------------------------------------------- */

static enum sae_status print_text(const char *s, struct sae_buf *out)
{
    enum sae_status st = sae_buf_add(out, "\"", 1);

    while (st == SAE_OK && *s) {
        size_t plain = 0;

        while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\')
            plain++;
        st = sae_buf_add(out, s, plain);
        s += plain;
        if (st == SAE_OK && *s) {
            st = (unsigned char)*s < 0x20 ? sae_buf_addf(out, "\\u%04x", (unsigned)*s)
                                          : sae_buf_addf(out, "\\%c", *s);
            s++;
        }
    }
    return st == SAE_OK ? sae_buf_add(out, "\"", 1) : st;
}

static enum sae_status print_real(double v, struct sae_buf *out)
{
    char text[40];

    snprintf(text, sizeof text, "%.17g", v);
    for (int digits = 1; digits < 17; digits++) { /* the fewest that read back */
        char shorter[40];
        double back;

        snprintf(shorter, sizeof shorter, "%.*g", digits, v);
        if (sscanf(shorter, "%lf", &back) == 1 && back == v) {
            memcpy(text, shorter, sizeof text);
            break;
        }
    }
    return sae_buf_addf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

/* Those who make facts bound their depth, so this one's. */
static enum sae_status print_items(const struct sae_fact *fact, struct sae_buf *out)
{
    bool dict = fact->kind == SAE_FACT_DICT;
    enum sae_status st = sae_buf_add(out, dict ? "{" : "[", 1);

    for (const struct sae_fact *e = fact->u.first; st == SAE_OK && e; e = e->next) {
        if (e != fact->u.first)
            st = sae_buf_add(out, ",", 1);
        if (st == SAE_OK && dict)
            st = print_text(e->key, out);
        if (st == SAE_OK && dict)
            st = sae_buf_add(out, ":", 1);
        if (st == SAE_OK)
            st = sae_fact_print(e, out);
    }
    return st == SAE_OK ? sae_buf_add(out, dict ? "}" : "]", 1) : st;
}

enum sae_status sae_fact_print(const struct sae_fact *fact, struct sae_buf *out)
{
    switch (fact->kind) {
    case SAE_FACT_BOOL:
        return sae_buf_addf(out, "%s", fact->u.b ? "true" : "false");
    case SAE_FACT_INT:
        return sae_buf_addf(out, "%lld", (long long)fact->u.i);
    case SAE_FACT_REAL:
        return print_real(fact->u.real, out);
    case SAE_FACT_TEXT:
    case SAE_FACT_OPAQUE:
        return print_text(fact->u.text, out);
    case SAE_FACT_LIST:
    case SAE_FACT_DICT:
        return print_items(fact, out);
    case SAE_FACT_NULL:
    case SAE_FACT_BIG:
    case SAE_FACT_NO_NUMBER:
    case SAE_FACT_UNREAD:
        break;
    }
    return sae_buf_add(out, "null", 4);
}
