/* safetensors.c - the container of safetensors: u64 header length, JSON header, one buffer.
 *
 * What the reference's validate() checks (huggingface/safetensors, safetensors/src/tensor.rs) is
 * checked here, and what its README adds: the header begins with '{', no name twice. No tree is
 * made of the header. json_scan.c checks its grammar; a look over it counts its keys, so that one
 * allocation of known size holds all that is made of it; then it is read once. */
#include "lib/format/safetensors.h"

#include "lib/format/fd.h"
#include "lib/num.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16 /* of all rules: what skip_value keeps */

/* A key of one of the header's objects: none may stand twice in one. */
struct key {
    const char *text; /* decoded */
    uint32_t object;  /* they are numbered as they open, from 1 */
};

/* The header while it is read. Its grammar has been checked: what is looked for is there. */
struct header {
    const struct sae_st_rules *rules;
    const char *p, *end;
    struct sae_st_file *file;
    struct key *keys; /* in the file's memory, as is the text of the keys that are still to come */
    char *text;
    size_t n_keys;
    uint32_t n_objects;
    struct sae_err *err;
};

#define malformed(by, err, where, ...) sae_err_set(err, (by)->malformed, where, __VA_ARGS__)

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

static enum sae_status read_dtype(struct header *h, struct sae_st_tensor *ts)
{
    struct sae_json_fault fault;
    struct sae_json_text name;

    h->p = sae_json_scan_string(h->p + 1, h->end, &name, &fault);
    ts->dtype = name.cut ? NULL : sae_dtype_find(SAE_DTYPE_SAFETENSORS, name.s, name.n);
    if (ts->dtype)
        return SAE_OK;
    return malformed(h->rules, h->err, ts->name,
                     "cannot read tensor \"%.64s\": there is no dtype \"%.*s\"", ts->name,
                     (int)(name.n < 32 ? name.n : 32), name.s);
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
                h->rules, h->err, ts->name,
                "cannot read tensor \"%.64s\": dimension %u of its shape is no integer "
                "of 0 to %" PRId64,
                ts->name, ts->ndim, INT64_MAX);
        if (ts->ndim < SAE_MAX_DIMS)
            ts->shape[ts->ndim] = dim;
        ts->ndim++;
        if (sae_mul_u64(ts->count, dim, &ts->count))
            return malformed(
                h->rules, h->err, ts->name,
                "cannot read tensor \"%.64s\": the product of its shape passes 64 bits", ts->name);
    }
    return SAE_OK;
}

static enum sae_status read_offsets(struct header *h, struct sae_st_tensor *ts)
{
    h->p++;
    if (!take_uint(h, &ts->begin) || !take_comma(h) || !take_uint(h, &ts->end) || take_comma(h))
        return malformed(
            h->rules, h->err, ts->name,
            "cannot read tensor \"%.64s\": data_offsets are not two ascending integers", ts->name);
    if (ts->begin > ts->end)
        return malformed(h->rules, h->err, ts->name,
                         "cannot read tensor \"%.64s\": data_offsets are not ascending, %" PRIu64
                         " and %" PRIu64,
                         ts->name, ts->begin, ts->end);
    return SAE_OK;
}

static enum sae_status check_size(struct header *h, const struct sae_st_tensor *ts)
{
    uint64_t n;

    if (!sae_mul_u64(ts->count, ts->dtype->bits, &n) && n % 8 == 0 && n / 8 == ts->end - ts->begin)
        return SAE_OK;
    return malformed(h->rules, h->err, ts->name,
                     "cannot read tensor \"%.64s\": %" PRIu64
                     " values of %s do not fit its %" PRIu64 " bytes",
                     ts->name, ts->count, ts->dtype->safetensors, ts->end - ts->begin);
}

static bool is_entry_key(const char *key)
{
    return strcmp(key, "dtype") == 0 || strcmp(key, "shape") == 0 ||
           strcmp(key, "data_offsets") == 0;
}

/* Keys that we do not know are passed over, as the reference does, or refused. */
static enum sae_status read_entry(struct header *h, struct sae_st_tensor *ts)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    enum sae_status st = SAE_OK;
    unsigned seen = 0;
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
            st = read_dtype(h, ts);
            seen |= DTYPE;
        } else if (c == '[' && strcmp(key, "shape") == 0) {
            st = read_shape(h, ts);
            seen |= SHAPE;
        } else if (c == '[' && strcmp(key, "data_offsets") == 0) {
            st = read_offsets(h, ts);
            seen |= OFFSETS;
        } else if (h->rules->strict && !is_entry_key(key)) {
            st = malformed(h->rules, h->err, ts->name,
                           "cannot read tensor \"%.64s\": its entry has the unknown key \"%.64s\"",
                           ts->name, key);
        } else {
            skip_value(h);
        }
        more = st == SAE_OK && take_comma(h);
    }
    if (st != SAE_OK)
        return st;
    if (seen != ALL)
        return malformed(
            h->rules, h->err, ts->name,
            "cannot read tensor \"%.64s\": its entry is not an object with dtype, shape "
            "and data_offsets",
            ts->name);
    return check_size(h, ts);
}

/* ---- the header ------------------------------------------------------------------------------ */

/* null is none, as the reference reads it. */
static enum sae_status read_metadata(struct header *h)
{
    const uint32_t object = h->n_objects + 1;
    const char *begin;
    bool more;

    if (peek(h) == 'n') {
        skip_value(h);
        return SAE_OK;
    }
    begin = h->p;
    if (!take(h, '{'))
        return malformed(h->rules, h->err, "__metadata__",
                         "cannot read __metadata__: it is not an object");
    h->n_objects++;
    for (more = !take(h, '}'); more; more = take_comma(h)) {
        const char *key = take_key(h, object);

        if (peek(h) != '"')
            return malformed(h->rules, h->err, "__metadata__",
                             "cannot read __metadata__: the value of \"%.64s\" is not a string",
                             key);
        h->p = skip_string(h->p, h->end);
    }
    h->file->metadata = begin;
    h->file->metadata_bytes = (size_t)(h->p - begin);
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
            return sae_err_set(h->err, h->rules->twice, "header",
                               "cannot read safetensors header: duplicate key \"%.64s\"",
                               k[i].text);
    return SAE_OK;
}

/* What the header will need. */
struct sizes {
    uint64_t keys, tensors, text_bytes;
};

static enum sae_status look_over(const struct sae_st_rules *by, const char *s, size_t n,
                                 struct sizes *z, struct sae_err *err)
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
            if (++depth > by->max_depth)
                return malformed(
                    by, err, "header",
                    "cannot read safetensors header: nested deeper than %d at byte %zu",
                    by->max_depth, (size_t)(p - s) + 8);
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
    }
    if (z->tensors > by->max_entries)
        return sae_err_set(err, by->too_many, "header",
                           "cannot read safetensors header: it has %" PRIu64 " entries, %" PRIu64
                           " is the most",
                           z->tensors, by->max_entries);
    if (z->keys > by->max_keys)
        return sae_err_set(err, by->too_many, "header",
                           "cannot read safetensors header: it has %" PRIu64 " keys, %" PRIu64
                           " is the most",
                           z->keys, by->max_keys);
    return SAE_OK;
}

static enum sae_status read_header(struct sae_st_file *f, const struct sae_st_rules *by,
                                   const char *s, size_t n, struct sae_err *err)
{
    struct header h = {.rules = by, .p = s, .end = s + n, .file = f, .err = err};
    struct sae_json_fault fault;
    struct sizes z = {0};
    enum sae_status st;
    char *memory;

    if (!sae_json_check(s, n, &fault))
        return malformed(by, err, "header",
                         "cannot read safetensors header: %s, found %s at byte %zu", fault.what,
                         sae_json_found_at(&fault, s + n).s, (size_t)(fault.at - s) + 8);
    st = look_over(by, s, n, &z, err);
    if (st != SAE_OK)
        return st;
    f->held_bytes = z.tensors * sizeof *f->tensors + z.keys * sizeof *h.keys + z.text_bytes;
    st = by->hold ? by->hold(by->ctx, f->held_bytes, err) : SAE_OK;
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
static enum sae_status check_cover(struct sae_st_file *f, const struct sae_st_rules *by, uint64_t n,
                                   struct sae_err *err)
{
    uint64_t at = 0;

    qsort(f->tensors, f->n, sizeof *f->tensors, by_offset);
    for (size_t i = 0; i < f->n; i++) {
        const struct sae_st_tensor *ts = &f->tensors[i];

        if (ts->begin != at)
            return malformed(by, err, ts->name,
                             "cannot read tensor \"%.64s\": it begins at %" PRIu64
                             ", the one before ends at %" PRIu64 ": %s",
                             ts->name, ts->begin, at,
                             ts->begin < at ? "they overlap" : "a hole is between them");
        at = ts->end;
        if (at > n)
            return malformed(by, err, ts->name,
                             "cannot read tensor \"%.64s\": it ends at %" PRIu64
                             ", the buffer has %" PRIu64 " bytes",
                             ts->name, at, n);
    }
    if (at != n)
        return malformed(by, err, by->where,
                         "cannot read safetensors: %" PRIu64 " bytes of the buffer's %" PRIu64
                         " belong to a tensor",
                         at, n);
    return SAE_OK;
}

/* ---- both ends ------------------------------------------------------------------------------- */

/* The header's length, as the first 8 of n bytes say. */
static enum sae_status read_length(const struct sae_st_rules *by, const unsigned char *first,
                                   uint64_t n, uint64_t *length, struct sae_err *err)
{
    uint64_t h = n < 8 ? 0 : sae_le64(first);

    if (n < 8)
        return malformed(by, err, by->where,
                         "cannot read safetensors: %" PRIu64 " bytes are too few for a header", n);
    if (h > n - 8 || h > SAE_ST_HEADER_MAX)
        return malformed(by, err, by->where,
                         "cannot read safetensors: the header length is %" PRIu64
                         ", the %s has %" PRIu64 " bytes (%u is the most)",
                         h, by->what, n, SAE_ST_HEADER_MAX);
    if (h > by->max_header)
        return sae_err_set(err, by->too_many, "header",
                           "cannot read safetensors: the header has %" PRIu64 " bytes, at most "
                           "%" PRIu64 " are read (the format allows %u)",
                           h, by->max_header, SAE_ST_HEADER_MAX);
    *length = h;
    return SAE_OK;
}

/* The header in s, n bytes, of a container with `buffer_bytes` behind it. */
static enum sae_status read_all(struct sae_st_file *f, const struct sae_st_rules *by, const char *s,
                                size_t n, uint64_t buffer_bytes, struct sae_err *err)
{
    enum sae_status st;
    size_t tail = n;

    if (n == 0 || s[0] != '{')
        return malformed(by, err, "header",
                         "cannot read safetensors header: it does not begin with {");
    while (s[tail - 1] == ' ')
        tail--;
    if (by->strict && s[tail - 1] != '}')
        return malformed(by, err, "header",
                         "cannot read safetensors header: it does not end with }, but for spaces");
    st = read_header(f, by, s, n, err);
    return st == SAE_OK ? check_cover(f, by, buffer_bytes, err) : st;
}

enum sae_status sae_st_open(struct sae_st_file *out, const struct sae_st_rules *rules,
                            const void *body, size_t n, struct sae_err *err)
{
    const unsigned char *bytes = body;
    struct sae_st_file f = {0};
    uint64_t h = 0;
    enum sae_status st = read_length(rules, bytes, n, &h, err);

    if (st == SAE_OK)
        st = read_all(&f, rules, (const char *)bytes + 8, (size_t)h, n - 8 - h, err);
    f.buffer = 8 + h;
    for (size_t i = 0; st == SAE_OK && i < f.n; i++)
        f.tensors[i].data = bytes + f.buffer + f.tensors[i].begin;
    if (st == SAE_OK) {
        *out = f;
        f = (struct sae_st_file){0}; /* handed over */
    }
    sae_st_close(&f);
    return st;
}

enum sae_status sae_st_open_file(struct sae_st_file *out, const struct sae_st_rules *rules, int fd,
                                 uint64_t file_bytes, struct sae_err *err)
{
    unsigned char first[8] = {0};
    struct sae_st_file f = {0};
    uint64_t h = 0;
    enum sae_status st =
        file_bytes < 8 ? SAE_OK : sae_fd_read(fd, file_bytes, 0, first, sizeof first, err);

    if (st == SAE_OK)
        st = read_length(rules, first, file_bytes, &h, err);
    if (st != SAE_OK)
        return st;
    f.buffer = 8 + h;
    f.text = sae_alloc((size_t)h, 1);
    if (!f.text)
        return sae_err_set(err, SAE_E_NOMEM, "header",
                           "cannot read safetensors header: no memory for %" PRIu64 " bytes", h);
    st = sae_fd_read(fd, file_bytes, 8, f.text, (size_t)h, err);
    if (st == SAE_OK)
        st = read_all(&f, rules, f.text, (size_t)h, file_bytes - f.buffer, err);
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
    sae_free(f->text);
    *f = (struct sae_st_file){0};
}

const struct sae_st_tensor *sae_st_find(const struct sae_st_file *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

bool sae_st_metadata(const struct sae_st_file *f, const char *key, struct sae_json_text *out)
{
    const char *p = f->metadata, *end = p ? p + f->metadata_bytes : NULL;
    struct sae_json_fault fault;
    struct sae_json_text name;
    bool found;

    /* Its grammar has been checked: "key": "text", and so on. */
    while (p && (p = memchr(p, '"', (size_t)(end - p))) != NULL) {
        p = sae_json_scan_string(p + 1, end, &name, &fault);
        found = !name.cut && strlen(key) == name.n && memcmp(name.s, key, name.n) == 0;
        p = memchr(p, '"', (size_t)(end - p));
        p = sae_json_scan_string(p + 1, end, out, &fault);
        if (found)
            return true;
    }
    return false;
}
