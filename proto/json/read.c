/* read.c - what the parts of the JSON reader share: faults, small words, growing arrays. See
 * json/read.h. */
#include "proto/json/read.h"

#include "proto/json/numtext.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum sae_status sae_json_fail(struct sae_json_reader *rd, enum sae_status st,
                              const struct sae_json_path *path, const char *fmt, ...)
{
    char where[sizeof rd->err.where] = "", text[sizeof rd->err.text];
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
    return sae_err_set(&rd->err, st, where, "%s", text);
}

bool sae_json_take_word(struct sae_json_reader *rd, const char *w)
{
    size_t n = strlen(w);

    sae_json_peek(rd);
    if ((size_t)(rd->end - rd->p) < n || memcmp(rd->p, w, n) != 0)
        return false;
    rd->p += n;
    return true;
}

bool sae_json_take_uint(struct sae_json_reader *rd, uint64_t *out)
{
    const char *next;

    sae_json_peek(rd);
    next = sae_json_scan_uint(rd->p, rd->end, out);
    if (next)
        rd->p = next;
    return next != NULL;
}

/* The string that comes next, in quotes and cut to what a message can carry. */
static void describe_string(struct sae_json_reader *rd, struct sae_json_name *name)
{
    struct sae_json_fault fault;
    struct sae_json_text text;
    size_t n;

    if (!sae_json_scan_string(rd->p + 1, rd->end, &text, &fault)) {
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

struct sae_json_name sae_json_describe(struct sae_json_reader *rd)
{
    struct sae_json_name name;
    int c = sae_json_peek(rd);
    const char *next = rd->p;
    float v;

    if (c == '"') {
        describe_string(rd, &name);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        sae_num_read(rd->p, rd->end, &v, &next);
        snprintf(name.s, sizeof name.s, "%.*s%s", next - rd->p > 32 ? 32 : (int)(next - rd->p),
                 rd->p, next - rd->p > 32 ? "..." : "");
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
static size_t expected_items(const struct sae_json_reader *rd, const struct sae_json_array *a)
{
    size_t left = (size_t)(rd->end - rd->p), most = a->n + left / 2 + 1;
    size_t want = a->guess > 16 ? a->guess : 16;

    if (a->n > 0) {
        double density = (double)a->n / (double)(rd->p - a->since + 1);

        want = a->n + (size_t)((double)left * density * 1.125) + 16;
        if (want < a->n + a->n / 2)
            want = a->n + a->n / 2;
    }
    return want < most ? want : most;
}

enum sae_status sae_json_grow(struct sae_json_reader *rd, struct sae_json_array *a)
{
    const size_t cap = expected_items(rd, a);
    struct sae_request *r = rd->r;
    enum sae_status st;
    void *data;

    /* While it is copied, the old array is there too. */
    st = sae_target_hold(rd->t, r->held_bytes + cap * a->size, &rd->err);
    if (st != SAE_OK)
        return st;
    data = sae_alloc(cap, a->size);
    if (!data)
        return sae_err_set(&rd->err, SAE_E_NOMEM, "", "cannot hold the request: %zu bytes",
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

enum sae_status sae_json_odd_leaf(struct sae_json_reader *rd, float *out, bool booleans,
                                  const char *what, const struct sae_json_path *path)
{
    struct sae_json_fault fault;
    struct sae_json_text text;
    const char *next;
    int c = sae_json_peek(rd);

    if (c == '"') {
        next = sae_json_scan_string(rd->p + 1, rd->end, &text, &fault);
        if (!next)
            return SAE_E_MALFORMED_JSON;
        if (special(&text, out)) {
            rd->p = next;
            return SAE_OK;
        }
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        if (sae_num_read(rd->p, rd->end, out, &next) != SAE_NUM_OVERFLOW)
            return SAE_E_MALFORMED_JSON;
        return sae_json_fail(rd, SAE_E_BAD_NUMBER, path, "cannot read %s: %s is beyond float32",
                             what, sae_json_describe(rd).s);
    } else if (booleans && (sae_json_take_word(rd, "true") || sae_json_take_word(rd, "false"))) {
        *out = c == 't' ? 1.0f : 0.0f;
        return SAE_OK;
    }
    return sae_json_fail(rd, SAE_E_BAD_NUMBER, path, "cannot read %s: %s is not a number", what,
                         sae_json_describe(rd).s);
}
