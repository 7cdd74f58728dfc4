/* container.c - the container of safetensors: u64 header length, JSON header, one buffer.
 *
 * What the reference's validate() checks (huggingface/safetensors, safetensors/src/tensor.rs) is
 * checked here, and what its README adds: the header begins with '{', no name twice. No tree is
 * made of the header. json/scan.c checks its grammar; a look over it counts its keys, so that one
 * allocation of known size holds all that is made of it; then it is read once. Called by
 * safetensors/parse.c; no state, any thread. */
#include "proto/safetensors/container.h"

#include "lib/num.h"
#include "proto/json/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tensor's entry is an object with a list in it (3 levels); some room for keys we do not know. */
#define MAX_DEPTH 8
/* Keys of all the header's objects together. A tensor has four, no request has 20 tensors. */
#define MAX_KEYS 65536u

static const struct dtype_bits {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"F32", 32},        {"F16", 16},        {"BF16", 16},   {"F64", 64},    {"I32", 32},
    {"I64", 64},        {"BOOL", 8},        {"U8", 8},      {"I8", 8},      {"U16", 16},
    {"I16", 16},        {"U32", 32},        {"U64", 64},    {"C64", 64},    {"F4", 4},
    {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
};

/* A key of one of the header's objects: none may stand twice in one. */
struct key {
    const char *text; /* decoded */
    uint32_t object;  /* they are numbered as they open, from 1 */
};

/* The header while it is read. Its grammar has been checked: what is looked for is there. */
struct header {
    const char *p, *end;
    struct sae_st_file *file;
    struct key *keys; /* in the file's memory, as is the text of the keys that are still to come */
    char *text;
    size_t n_keys;
    uint32_t n_objects;
    struct sae_err *err;
};

#define malformed(err, where, ...) sae_err_set(err, SAE_E_MALFORMED_BODY, where, __VA_ARGS__)

/* ---- words of the header ----------------------------------------------------------------------
 */

static int peek(struct header *h)
{
    h->p = sae_json_blanks(h->p, h->end);
    return h->p < h->end ? (unsigned char)*h->p : -1;
}

static bool take(struct header *h, char c)
{
    bool is = peek(h) == (unsigned char)c;

    h->p += is;
    return is;
}

/* Behind an item of a list or object: reads the comma, or the end. */
static bool take_comma(struct header *h)
{
    bool is = peek(h) == ',';

    h->p++;
    return is;
}

/* An integer of 0 or more that a signed one of 64 bits can hold. */
static bool take_uint(struct header *h, uint64_t *out)
{
    const char *next;

    peek(h);
    next = sae_json_scan_uint(h->p, h->end, out);
    if (!next || *out > INT64_MAX)
        return false;
    h->p = next;
    return true;
}

/* The byte behind the string that begins with the quote at p. */
static const char *skip_string(const char *p, const char *end)
{
    struct sae_json_fault fault;

    return sae_json_scan_string(p + 1, end, NULL, &fault);
}

/* A key of `object` and its colon. */
static const char *take_key(struct header *h, uint32_t object)
{
    struct sae_json_fault fault;
    char *text = h->text;
    size_t n;

    peek(h);
    h->p = sae_json_copy_string(h->p + 1, h->end, text, &n, &fault);
    text[n] = '\0';
    h->text += n + 1;
    h->keys[h->n_keys++] = (struct key){text, object};
    take(h, ':');
    return text;
}

/* Over a value that means nothing to us; its keys are noted all the same. */
static void skip_value(struct header *h)
{
    uint32_t open[MAX_DEPTH] = {0}; /* the objects; 0: a list */
    unsigned depth = 0;

    do {
        const char *at;
        int c = peek(h);

        if (c == '{' || c == '[') {
            open[depth++] = c == '{' ? ++h->n_objects : 0;
            h->p++;
        } else if (c == '}' || c == ']') {
            depth--;
            h->p++;
        } else if (c == '"') {
            at = h->p;
            h->p = skip_string(h->p, h->end);
            if (depth > 0 && peek(h) == ':') {
                h->p = at;
                take_key(h, open[depth - 1]);
            }
        } else if (c == ',') {
            h->p++;
        } else { /* a number or a word */
            while (h->p < h->end && !strchr(",]} \t\r\n", *h->p))
                h->p++;
        }
    } while (depth > 0);
}

/* ---- a tensor's entry --------------------------------------------------------------------------
 */

static enum sae_status read_dtype(struct header *h, struct sae_st_tensor *ts, unsigned *bits)
{
    struct sae_json_fault fault;
    struct sae_json_text name;

    h->p = sae_json_scan_string(h->p + 1, h->end, &name, &fault);
    for (size_t i = 0; i < SAE_COUNTOF(dtypes); i++)
        if (!name.cut && strlen(dtypes[i].name) == name.n &&
            memcmp(dtypes[i].name, name.s, name.n) == 0) {
            ts->dtype = dtypes[i].name;
            *bits = dtypes[i].bits;
            return SAE_OK;
        }
    return malformed(h->err, ts->name, "cannot read tensor \"%.64s\": there is no dtype \"%.*s\"",
                     ts->name, (int)(name.n < 32 ? name.n : 32), name.s);
}

static enum sae_status read_shape(struct header *h, struct sae_st_tensor *ts)
{
    bool more;

    h->p++;
    ts->ndim = 0;
    ts->count = 1;
    for (more = !take(h, ']'); more; more = take_comma(h)) {
        uint64_t dim;

        if (!take_uint(h, &dim))
            return malformed(
                h->err, ts->name,
                "cannot read tensor \"%.64s\": dimension %u of its shape is no integer "
                "of 0 to %" PRId64,
                ts->name, ts->ndim, INT64_MAX);
        if (ts->ndim < SAE_MAX_DIMS)
            ts->shape[ts->ndim] = dim;
        ts->ndim++;
        if (sae_mul_u64(ts->count, dim, &ts->count))
            return malformed(
                h->err, ts->name,
                "cannot read tensor \"%.64s\": the product of its shape passes 64 bits", ts->name);
    }
    return SAE_OK;
}

static enum sae_status read_offsets(struct header *h, struct sae_st_tensor *ts)
{
    h->p++;
    if (take_uint(h, &ts->begin) && take_comma(h) && take_uint(h, &ts->end) && !take_comma(h) &&
        ts->begin <= ts->end)
        return SAE_OK;
    return malformed(h->err, ts->name,
                     "cannot read tensor \"%.64s\": data_offsets are not two ascending integers",
                     ts->name);
}

static enum sae_status check_size(struct header *h, const struct sae_st_tensor *ts, unsigned bits)
{
    uint64_t n;

    if (!sae_mul_u64(ts->count, bits, &n) && n % 8 == 0 && n / 8 == ts->end - ts->begin)
        return SAE_OK;
    return malformed(h->err, ts->name,
                     "cannot read tensor \"%.64s\": %" PRIu64
                     " values of %s do not fit its %" PRIu64 " bytes",
                     ts->name, ts->count, ts->dtype, ts->end - ts->begin);
}

/* Keys that we do not know are passed over, as the reference does. */
static enum sae_status read_entry(struct header *h, struct sae_st_tensor *ts)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    enum sae_status st = SAE_OK;
    unsigned seen = 0, bits = 0;
    const uint32_t object = h->n_objects + 1;
    bool more = false;

    if (take(h, '{')) {
        h->n_objects++;
        more = !take(h, '}');
    }
    while (st == SAE_OK && more) {
        const char *key = take_key(h, object);
        int c = peek(h);

        if (c == '"' && strcmp(key, "dtype") == 0) {
            st = read_dtype(h, ts, &bits);
            seen |= DTYPE;
        } else if (c == '[' && strcmp(key, "shape") == 0) {
            st = read_shape(h, ts);
            seen |= SHAPE;
        } else if (c == '[' && strcmp(key, "data_offsets") == 0) {
            st = read_offsets(h, ts);
            seen |= OFFSETS;
        } else {
            skip_value(h);
        }
        more = st == SAE_OK && take_comma(h);
    }
    if (st != SAE_OK)
        return st;
    if (seen != ALL)
        return malformed(
            h->err, ts->name,
            "cannot read tensor \"%.64s\": its entry is not an object with dtype, shape "
            "and data_offsets",
            ts->name);
    return check_size(h, ts, bits);
}

/* ---- the header ------------------------------------------------------------------------------ */

/* What an answer says of its f; a text that is no such word is only told, cut. */
static void take_f_units(struct header *h)
{
    struct sae_json_fault fault;
    struct sae_json_text units;

    h->p = sae_json_scan_string(h->p + 1, h->end, &units, &fault);
    snprintf(h->file->f_units, sizeof h->file->f_units, "%.*s", (int)units.n, units.s);
}

/* null is none, as the reference reads it. */
static enum sae_status read_metadata(struct header *h)
{
    const uint32_t object = h->n_objects + 1;
    bool more;

    if (peek(h) == 'n') {
        skip_value(h);
        return SAE_OK;
    }
    if (!take(h, '{'))
        return malformed(h->err, "__metadata__", "cannot read __metadata__: it is not an object");
    h->n_objects++;
    for (more = !take(h, '}'); more; more = take_comma(h)) {
        const char *key = take_key(h, object);

        if (peek(h) != '"')
            return malformed(h->err, "__metadata__",
                             "cannot read __metadata__: the value of \"%.64s\" is not a string",
                             key);
        if (strcmp(key, "f_units") == 0)
            take_f_units(h);
        else
            h->p = skip_string(h->p, h->end);
    }
    return SAE_OK;
}

static enum sae_status read_entries(struct header *h)
{
    const uint32_t object = ++h->n_objects;
    struct sae_st_file *f = h->file;
    bool more;

    take(h, '{');
    for (more = !take(h, '}'); more; more = take_comma(h)) {
        const char *name = take_key(h, object);
        enum sae_status st;

        if (strcmp(name, "__metadata__") == 0) {
            st = read_metadata(h);
        } else {
            f->tensors[f->n] = (struct sae_st_tensor){.name = name};
            st = read_entry(h, &f->tensors[f->n++]);
        }
        if (st != SAE_OK)
            return st;
    }
    return SAE_OK;
}

static int by_key(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    return strcmp(x->text, y->text);
}

static enum sae_status check_keys(struct header *h)
{
    struct key *k = h->keys;

    qsort(k, h->n_keys, sizeof *k, by_key);
    for (size_t i = 1; i < h->n_keys; i++)
        if (by_key(&k[i - 1], &k[i]) == 0)
            return sae_err_set(h->err, SAE_E_BAD_OPTION, "header",
                               "cannot read safetensors header: duplicate key \"%.64s\"",
                               k[i].text);
    return SAE_OK;
}

/* What the header will need. */
struct sizes {
    uint64_t keys, tensors, text_bytes;
};

static enum sae_status look_over(const char *s, size_t n, struct sizes *z, struct sae_err *err)
{
    const char *end = s + n, *next;
    uint64_t string_bytes = 0; /* of the last one, quotes included */
    int depth = 0;

    for (const char *p = s; p < end; p = next) {
        next = p + 1;
        if (*p == '"') {
            next = skip_string(p, end);
            string_bytes = (uint64_t)(next - p);
        } else if (*p == ':') {
            z->keys++;
            z->tensors += depth == 1;
            z->text_bytes += string_bytes;
        } else if (*p == '{' || *p == '[') {
            if (++depth > MAX_DEPTH)
                return malformed(
                    err, "header",
                    "cannot read safetensors header: nested deeper than %d at byte %zu", MAX_DEPTH,
                    (size_t)(p - s) + 8);
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
    }
    if (z->keys > MAX_KEYS)
        return sae_err_set(err, SAE_E_BODY_TOO_LARGE, "header",
                           "cannot read safetensors header: it has %" PRIu64
                           " keys, %u is the most",
                           z->keys, MAX_KEYS);
    return SAE_OK;
}

static enum sae_status read_header(struct sae_st_file *f, const struct sae_target *t, const char *s,
                                   size_t n, struct sae_err *err)
{
    struct header h = {.p = s, .end = s + n, .file = f, .err = err};
    struct sae_json_fault fault;
    struct sizes z = {0};
    enum sae_status st;
    char *memory;

    if (!sae_json_check(s, n, &fault))
        return malformed(err, "header", "cannot read safetensors header: %s, found %s at byte %zu",
                         fault.what, sae_json_found_at(&fault, s + n).s,
                         (size_t)(fault.at - s) + 8);
    st = look_over(s, n, &z, err);
    if (st != SAE_OK)
        return st;
    f->held_bytes = z.tensors * sizeof *f->tensors + z.keys * sizeof *h.keys + z.text_bytes;
    st = sae_target_hold(t, f->held_bytes, err);
    if (st != SAE_OK)
        return st;
    memory = sae_alloc((size_t)f->held_bytes, 1);
    if (!memory)
        return sae_err_set(err, SAE_E_NOMEM, "header",
                           "cannot read safetensors header: no memory for %" PRIu64 " bytes",
                           f->held_bytes);
    f->memory = memory;
    f->tensors = (struct sae_st_tensor *)(void *)memory;
    memory += z.tensors * sizeof *f->tensors;
    h.keys = (struct key *)(void *)memory;
    h.text = memory + z.keys * sizeof *h.keys;
    st = read_entries(&h);
    return st == SAE_OK ? check_keys(&h) : st;
}

/* ---- the buffer ------------------------------------------------------------------------------ */

static int by_offset(const void *a, const void *b)
{
    const struct sae_st_tensor *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Together the tensors are the buffer: each begins where the one before ended. */
static enum sae_status check_cover(struct sae_st_file *f, const unsigned char *buffer, size_t n,
                                   struct sae_err *err)
{
    uint64_t at = 0;

    qsort(f->tensors, f->n, sizeof *f->tensors, by_offset);
    for (size_t i = 0; i < f->n; i++) {
        struct sae_st_tensor *ts = &f->tensors[i];

        if (ts->begin != at)
            return malformed(err, ts->name,
                             "cannot read tensor \"%.64s\": it begins at %" PRIu64
                             ", the one before ends at %" PRIu64,
                             ts->name, ts->begin, at);
        at = ts->end;
        if (at > n)
            return malformed(err, ts->name,
                             "cannot read tensor \"%.64s\": it ends at %" PRIu64
                             ", the buffer has %zu bytes",
                             ts->name, at, n);
        ts->data = buffer + ts->begin;
    }
    if (at != n)
        return malformed(err, "",
                         "cannot read safetensors: %" PRIu64 " bytes of the buffer's %zu "
                         "belong to a tensor",
                         at, n);
    return SAE_OK;
}

enum sae_status sae_st_open(struct sae_st_file *out, const struct sae_target *t, const void *body,
                            size_t n, struct sae_err *err)
{
    const unsigned char *bytes = body;
    struct sae_st_file f = {0};
    enum sae_status st;
    uint64_t h;

    if (n < 8)
        return malformed(err, "", "cannot read safetensors: %zu bytes are too few for a header", n);
    h = sae_le64(bytes);
    if (h > SAE_ST_HEADER_MAX || h > n - 8)
        return malformed(err, "",
                         "cannot read safetensors: the header length is %" PRIu64
                         ", the body has %zu bytes (%u is the most)",
                         h, n, SAE_ST_HEADER_MAX);
    if (h == 0 || bytes[8] != '{')
        return malformed(err, "header", "cannot read safetensors header: it does not begin with {");
    st = read_header(&f, t, (const char *)bytes + 8, (size_t)h, err);
    if (st == SAE_OK)
        st = check_cover(&f, bytes + 8 + h, n - 8 - (size_t)h, err);
    if (st == SAE_OK) {
        *out = f;
        f = (struct sae_st_file){0}; /* handed over */
    }
    sae_st_close(&f);
    return st;
}

void sae_st_close(struct sae_st_file *f)
{
    sae_free(f->memory);
    *f = (struct sae_st_file){0};
}

const struct sae_st_tensor *sae_st_find(const struct sae_st_file *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}
