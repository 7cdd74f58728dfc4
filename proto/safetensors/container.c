/* container.c - the container of safetensors: u64 header length, JSON header, one buffer.
 *
 * What the reference's validate() checks (huggingface/safetensors, safetensors/src/tensor.rs) is
 * checked here, and what its README adds: the header begins with '{', no name twice. Memory is
 * bounded before jansson sees a byte: a look over the header counts what would become a node.
 * Called by safetensors/read.c; no state, any thread. */
#include "proto/safetensors/container.h"

#include "lib/num.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tensor's entry is an object with a list in it (3 levels); some room for keys we do not know. */
#define MAX_DEPTH 8
/* jansson 2.14: an object with its table is about 250 bytes, an entry of a table 64 and its key. */
#define NODE_BYTES 512
/* A header this small is read whatever max_bytes says. */
#define SMALL_TREE_BYTES (1u << 20)

static const struct dtype_row {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"F32", 32},        {"F16", 16},        {"BF16", 16},   {"F64", 64},    {"I32", 32},
    {"I64", 64},        {"BOOL", 8},        {"U8", 8},      {"I8", 8},      {"U16", 16},
    {"I16", 16},        {"U32", 32},        {"U64", 64},    {"C64", 64},    {"F4", 4},
    {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
};

static const struct dtype_row *dtype_by_name(const char *name)
{
    for (size_t i = 0; name && i < SAE_COUNTOF(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

#define malformed(err, where, ...) sae_err_set(err, SAE_E_MALFORMED_BODY, where, __VA_ARGS__)

/* Bound depth and memory of the tree before it is built. Whether it is JSON, jansson says. */
static enum sae_status look_over(const char *s, size_t n, uint64_t max_bytes, struct sae_err *err)
{
    uint64_t nodes = 1, limit = max_bytes > SMALL_TREE_BYTES ? max_bytes : SMALL_TREE_BYTES, bytes;
    int depth = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"') {
            for (i++; i < n && s[i] != '"'; i++)
                i += s[i] == '\\';
        } else if (s[i] == '{' || s[i] == '[') {
            nodes++;
            if (++depth > MAX_DEPTH)
                return malformed(
                    err, "header",
                    "cannot read safetensors header: nested deeper than %d at byte %zu", MAX_DEPTH,
                    i + 8);
        } else if (s[i] == '}' || s[i] == ']') {
            depth--;
        } else if (s[i] == ',') {
            nodes++;
        } else if (s[i] == '\0') {
            return malformed(err, "header",
                             "cannot read safetensors header: a zero byte at byte %zu", i + 8);
        }
    }
    bytes = nodes * NODE_BYTES + 2 * (uint64_t)n;
    if (bytes > limit)
        return sae_err_limit(err, SAE_E_BODY_TOO_LARGE, "--max-inflight-bytes", limit, bytes,
                             "cannot read safetensors header: %zu bytes with %" PRIu64
                             " items may need %" PRIu64 " bytes",
                             n, nodes, bytes);
    return SAE_OK;
}

static enum sae_status parse_header(json_t **out, const char *s, size_t n, struct sae_err *err)
{
    json_error_t je;
    json_t *root = json_loadb(s, n, JSON_REJECT_DUPLICATES, &je);

    if (root && json_is_object(root)) {
        *out = root;
        return SAE_OK;
    }
    json_decref(root);
    if (!root && json_error_code(&je) == json_error_out_of_memory)
        return sae_err_set(err, SAE_E_NOMEM, "header",
                           "cannot read safetensors header: out of memory");
    if (!root && json_error_code(&je) == json_error_duplicate_key)
        return sae_err_set(err, SAE_E_BAD_OPTION, "header", "cannot read safetensors header: %s",
                           je.text);
    return malformed(err, "header", "cannot read safetensors header: %s",
                     root ? "it is not an object" : je.text);
}

/* The i-th item of a list as an integer of 0 or more. */
static bool list_u64(const json_t *list, size_t i, uint64_t *out)
{
    const json_t *v = json_array_get(list, i);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static enum sae_status read_shape(struct sae_st_tensor *ts, const json_t *list, struct sae_err *err)
{
    size_t n = json_array_size(list);

    ts->count = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t dim;

        if (!list_u64(list, i, &dim))
            return malformed(
                err, ts->name,
                "cannot read tensor \"%.64s\": dimension %zu of its shape is no integer "
                "of 0 or more",
                ts->name, i);
        if (i < SAE_MAX_DIMS)
            ts->shape[i] = dim;
        if (sae_mul_u64(ts->count, dim, &ts->count))
            return malformed(
                err, ts->name,
                "cannot read tensor \"%.64s\": the product of its shape passes 64 bits", ts->name);
    }
    ts->ndim = (unsigned)n;
    return SAE_OK;
}

static enum sae_status read_entry(struct sae_st_tensor *ts, const char *name, const json_t *entry,
                                  struct sae_err *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    const struct dtype_row *row = dtype_by_name(json_string_value(dtype));
    enum sae_status st;
    uint64_t bits;

    *ts = (struct sae_st_tensor){.name = name};
    if (!json_is_array(shape) || !json_is_array(offsets) || !json_is_string(dtype))
        return malformed(
            err, name,
            "cannot read tensor \"%.64s\": its entry is not an object with dtype, shape "
            "and data_offsets",
            name);
    if (!row)
        return malformed(err, name, "cannot read tensor \"%.64s\": there is no dtype \"%.32s\"",
                         name, json_string_value(dtype));
    ts->dtype = row->name;
    if (json_array_size(offsets) != 2 || !list_u64(offsets, 0, &ts->begin) ||
        !list_u64(offsets, 1, &ts->end) || ts->begin > ts->end)
        return malformed(
            err, name, "cannot read tensor \"%.64s\": data_offsets are not two ascending integers",
            name);
    st = read_shape(ts, shape, err);
    if (st != SAE_OK)
        return st;
    if (sae_mul_u64(ts->count, row->bits, &bits) || bits % 8 || bits / 8 != ts->end - ts->begin)
        return malformed(err, name,
                         "cannot read tensor \"%.64s\": %" PRIu64
                         " values of %s do not fit its %" PRIu64 " bytes",
                         name, ts->count, row->name, ts->end - ts->begin);
    return SAE_OK;
}

static enum sae_status check_metadata(const json_t *meta, struct sae_err *err)
{
    const char *key;
    json_t *v;

    if (!json_is_object(meta))
        return malformed(err, "__metadata__", "cannot read __metadata__: it is not an object");
    json_object_foreach((json_t *)meta, key, v)
    {
        if (!json_is_string(v))
            return malformed(err, "__metadata__",
                             "cannot read __metadata__: the value of \"%.64s\" is not a string",
                             key);
    }
    return SAE_OK;
}

static enum sae_status read_entries(struct sae_st_file *f, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    const char *name;
    json_t *entry;

    json_object_foreach((json_t *)f->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            st = check_metadata(entry, err);
        else
            st = read_entry(&f->tensors[f->n++], name, entry, err);
        if (st != SAE_OK)
            return st;
    }
    return SAE_OK;
}

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

    if (f->n)
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

enum sae_status sae_st_open(struct sae_st_file *out, const void *body, size_t n, uint64_t max_bytes,
                            struct sae_err *err)
{
    const unsigned char *bytes = body;
    struct sae_st_file f = {0};
    enum sae_status st;
    json_t *root = NULL;
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
    st = look_over((const char *)bytes + 8, (size_t)h, max_bytes, err);
    if (st == SAE_OK)
        st = parse_header(&root, (const char *)bytes + 8, (size_t)h, err);
    if (st != SAE_OK)
        return st;
    f.header = root;
    f.tensors = sae_calloc(json_object_size(root), sizeof *f.tensors);
    if (!f.tensors) {
        st = sae_err_set(err, SAE_E_NOMEM, "header",
                         "cannot read safetensors header: out of memory");
        goto out;
    }
    st = read_entries(&f, err);
    if (st == SAE_OK)
        st = check_cover(&f, bytes + 8 + h, n - 8 - (size_t)h, err);
    if (st != SAE_OK)
        goto out;
    *out = f;
    f = (struct sae_st_file){0};
out:
    sae_st_close(&f);
    return st;
}

void sae_st_close(struct sae_st_file *f)
{
    json_decref(f->header);
    sae_free(f->tensors);
    *f = (struct sae_st_file){0};
}

const struct sae_st_tensor *sae_st_find(const struct sae_st_file *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}
