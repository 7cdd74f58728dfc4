/* parse.c - what the parts of the JSON parser share: faults, small words, growing arrays. See
 * json/parse.h. */
#include "proto/json/parse.h"

#include "proto/json/numtext.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum sae_status sae_json_fail(struct sae_json_parser *ps, enum sae_status st,
                              const struct sae_json_path *path, const char *fmt, ...)
{
    char where[sizeof ps->err.where] = "", text[sizeof ps->err.text];
    size_t n = 0;
    va_list ap;

    if (path) {
        n = (size_t)snprintf(where, sizeof where, "%s", path->base);
        for (unsigned i = 0; i < path->n && n < sizeof where; i++)
            n += (size_t)snprintf(where + n, sizeof where - n, "/%" PRIu64, path->at[i]);
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sae_err_set(&ps->err, st, where, "%s", text);
}

bool sae_json_take_word(struct sae_json_parser *ps, const char *w)
{
    size_t n = strlen(w);

    sae_json_peek(ps);
    if ((size_t)(ps->end - ps->p) < n || memcmp(ps->p, w, n) != 0)
        return false;
    ps->p += n;
    return true;
}

enum sae_status sae_json_skip(struct sae_json_parser *ps)
{
    struct sae_json_fault fault;
    const char *next = sae_json_scan_value(ps->p, ps->end, &fault);

    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    return SAE_OK;
}

bool sae_json_take_uint(struct sae_json_parser *ps, uint64_t *out)
{
    const char *next;

    sae_json_peek(ps);
    next = sae_json_scan_uint(ps->p, ps->end, out);
    if (next)
        ps->p = next;
    return next != NULL;
}

/* The string that comes next, in quotes and cut to what a message can carry. */
static void describe_string(struct sae_json_parser *ps, struct sae_json_name *name)
{
    struct sae_json_fault fault;
    struct sae_json_text text;
    size_t n;

    if (!sae_json_scan_string(ps->p + 1, ps->end, &text, &fault)) {
        snprintf(name->s, sizeof name->s, "a string");
        return;
    }
    for (n = 0; n < text.n && n < 32;) { /* whole characters only */
        unsigned len = sae_utf8_len(text.s + n, text.s + text.n);

        n += len ? len : 1;
    }
    snprintf(name->s, sizeof name->s, "\"%.*s%s\"", (int)n, text.s,
             text.cut || n < text.n ? "..." : "");
}

struct sae_json_name sae_json_describe(struct sae_json_parser *ps)
{
    struct sae_json_name name;
    int c = sae_json_peek(ps);
    const char *next = ps->p;
    float v;

    if (c == '"') {
        describe_string(ps, &name);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        sae_num_read(ps->p, ps->end, &v, &next);
        snprintf(name.s, sizeof name.s, "%.*s%s", next - ps->p > 32 ? 32 : (int)(next - ps->p),
                 ps->p, next - ps->p > 32 ? "..." : "");
    } else {
        snprintf(name.s, sizeof name.s, "%s",
                 c == 'n'   ? "null"
                 : c == 't' ? "true"
                 : c == 'f' ? "false"
                 : c == '[' ? "a list"
                 : c == '{' ? "an object"
                            : "nothing");
    }
    return name;
}

/* How many items `a` will have, going by the text so far: an eighth more than its density gives,
 * and no more than the rest of the body has room for (a byte and a comma each). */
static size_t expected_items(const struct sae_json_parser *ps, const struct sae_json_array *a)
{
    size_t left = (size_t)(ps->end - ps->p), most = a->n + left / 2 + 1;
    size_t want = a->guess > 16 ? a->guess : 16;

    if (a->n > 0) {
        double density = (double)a->n / (double)(ps->p - a->since + 1);

        want = a->n + (size_t)((double)left * density * 1.125) + 16;
        if (want < a->n + a->n / 2)
            want = a->n + a->n / 2;
    }
    return want < most ? want : most;
}

enum sae_status sae_json_grow(struct sae_json_parser *ps, struct sae_json_array *a)
{
    const size_t cap = expected_items(ps, a);
    struct sae_request *r = ps->r;
    enum sae_status st;
    void *data;

    /* While it is copied, the old array is there too. */
    st = sae_target_hold(ps->t, r->held_bytes + cap * a->size, &ps->err);
    if (st != SAE_OK)
        return st;
    data = sae_alloc(cap, a->size);
    if (!data)
        return sae_err_set(&ps->err, SAE_E_NOMEM, "", "cannot hold the request: %zu bytes",
                           cap * a->size);
    if (a->n)
        memcpy(data, a->data, a->n * a->size);
    if (a->data) {
        sae_free(a->data);
        r->held_bytes -= a->cap * a->size;
    }
    a->data = data;
    a->cap = cap;
    r->held_bytes += cap * a->size;
    return SAE_OK;
}

/* Those behind the '['. */
static enum sae_status read_ids(struct sae_json_parser *ps, const char *name, const char *pointer,
                                struct sae_json_array *a)
{
    enum sae_status st = SAE_OK;
    bool more = !sae_json_take(ps, ']');

    while (st == SAE_OK && more) {
        uint64_t id;

        if (a->n == a->cap && (st = sae_json_grow(ps, a)) != SAE_OK)
            return st;
        if (!sae_json_take_uint(ps, &id)) {
            struct sae_json_path path = {pointer, 1, {a->n}};

            return sae_json_fail(ps, SAE_E_BAD_OPTION, &path,
                                 "cannot use %s: an id is %s, no integer of 0 or more", name,
                                 sae_json_describe(ps).s);
        }
        ((uint32_t *)a->data)[a->n++] = id < UINT32_MAX ? (uint32_t)id : UINT32_MAX;
        st = sae_json_next(ps, ']', &more);
    }
    return st;
}

enum sae_status sae_json_read_ids(struct sae_json_parser *ps, const char *name, const char *pointer,
                                  struct sae_json_array *ids)
{
    const struct sae_json_path path = {pointer, 0, {0}};
    enum sae_status st;

    if (!sae_json_take(ps, '['))
        return sae_json_fail(ps, SAE_E_BAD_OPTION, &path,
                             "cannot use %s: it is %s, wanted a list of feature ids", name,
                             sae_json_describe(ps).s);
    st = sae_json_grow(ps, ids); /* an array, even when it stays empty */
    return st == SAE_OK ? read_ids(ps, name, pointer, ids) : st;
}

/* "NaN", "Infinity" and "-Infinity" stand for what JSON numbers cannot say. */
static bool special(const struct sae_json_text *text, float *out)
{
    static const struct {
        const char *name;
        float value;
    } names[] = {{"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}};

    for (size_t i = 0; i < SAE_COUNTOF(names); i++)
        if (!text->cut && strlen(names[i].name) == text->n &&
            memcmp(names[i].name, text->s, text->n) == 0) {
            *out = names[i].value;
            return true;
        }
    return false;
}

enum sae_status sae_json_odd_leaf(struct sae_json_parser *ps, float *out, bool booleans,
                                  const char *what, const struct sae_json_path *path)
{
    struct sae_json_fault fault;
    struct sae_json_text text;
    const char *next;
    int c = sae_json_peek(ps);

    if (c == '"') {
        next = sae_json_scan_string(ps->p + 1, ps->end, &text, &fault);
        if (!next)
            return SAE_E_MALFORMED_JSON;
        if (special(&text, out)) {
            ps->p = next;
            return SAE_OK;
        }
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        if (sae_num_read(ps->p, ps->end, out, &next) != SAE_NUM_OVERFLOW)
            return SAE_E_MALFORMED_JSON;
        return sae_json_fail(ps, SAE_E_BAD_NUMBER, path, "cannot read %s: %s is beyond float32",
                             what, sae_json_describe(ps).s);
    } else if (booleans && (sae_json_take_word(ps, "true") || sae_json_take_word(ps, "false"))) {
        *out = c == 't' ? 1.0f : 0.0f;
        return SAE_OK;
    }
    return sae_json_fail(ps, SAE_E_BAD_NUMBER, path, "cannot read %s: %s is not a number", what,
                         sae_json_describe(ps).s);
}
