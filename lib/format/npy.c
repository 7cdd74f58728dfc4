/* npy.c - see npy.h.
 *
 * Magic, two bytes of version, the literal's length in 2 bytes (version 1) or 4, the literal:
 * {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } and blanks up to a newline. */
#include "lib/format/npy.h"

#include "lib/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
enum { FIRST_BYTES = 12 }; /* with either length; no literal is so short that they end behind it */
enum { WORD_MAX = 32 };    /* bytes of a key or descr that are kept */

/* The literal while it is read. */
struct literal {
    const char *begin, *p, *end;
    struct sae_npy *npy;
    const char *name;
    struct sae_err *err;
    char descr[WORD_MAX];
    bool has_descr, has_order, has_shape;
};

static enum sae_status SAE_PRINTF(3, 4)
    bad(const char *name, struct sae_err *err, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sae_err_set(err, SAE_E_FORMAT, name, "cannot read .npy array %.64s: %s", name, text);
}

/* ---- words of the literal ----------------------------------------------------------------- */

static int peek(struct literal *l)
{
    while (l->p < l->end && (*l->p == ' ' || *l->p == '\n' || *l->p == '\t' || *l->p == '\r'))
        l->p++;
    return l->p < l->end ? (unsigned char)*l->p : -1;
}

static bool take(struct literal *l, char c)
{
    bool is = peek(l) == (unsigned char)c;

    l->p += is;
    return is;
}

static bool take_word(struct literal *l, const char *word)
{
    size_t n = strlen(word);

    if (peek(l) < 0 || (size_t)(l->end - l->p) < n || memcmp(l->p, word, n) != 0)
        return false;
    l->p += n;
    return true;
}

static enum sae_status no_literal(const struct literal *l, const char *wanted)
{
    return bad(l->name, l->err,
               "its header is no literal of a dict: %s is wanted at byte %zu of it", wanted,
               (size_t)(l->p - l->begin));
}

/* A string in either quotes, without escapes: none of the three keys, no descr has one. What is
 * longer than is kept is cut, and then equals nothing that is looked for. */
static enum sae_status take_string(struct literal *l, char out[WORD_MAX])
{
    int quote = peek(l);
    size_t n;
    const char *end;

    if (quote != '\'' && quote != '"')
        return no_literal(l, "a string");
    l->p++;
    end = memchr(l->p, quote, (size_t)(l->end - l->p));
    if (!end || memchr(l->p, '\\', (size_t)(end - l->p)))
        return no_literal(l, "a string without escapes");
    n = (size_t)(end - l->p) < WORD_MAX - 1 ? (size_t)(end - l->p) : WORD_MAX - 1;
    memcpy(out, l->p, n);
    out[n] = '\0';
    l->p = end + 1;
    return SAE_OK;
}

static enum sae_status take_dimension(struct literal *l, uint64_t *out)
{
    uint64_t v = 0;

    if (peek(l) < '0' || peek(l) > '9')
        return no_literal(l, "a dimension");
    for (; l->p < l->end && *l->p >= '0' && *l->p <= '9'; l->p++)
        if (sae_mul_u64(v, 10, &v) || sae_add_u64(v, (uint64_t)(*l->p - '0'), &v) || v > INT64_MAX)
            return bad(l->name, l->err, "a dimension of its shape passes 63 bits");
    *out = v;
    return SAE_OK;
}

/* ---- the three values --------------------------------------------------------------------- */

static enum sae_status read_descr(struct literal *l)
{
    if (peek(l) == '[')
        return bad(l->name, l->err,
                   "its descr is a list of fields, an array of structures; save each field as an "
                   "array of its own");
    return take_string(l, l->descr);
}

static enum sae_status read_order(struct literal *l)
{
    l->npy->is_fortran = take_word(l, "True");
    return l->npy->is_fortran || take_word(l, "False") ? SAE_OK : no_literal(l, "True or False");
}

static enum sae_status read_shape(struct literal *l)
{
    struct sae_npy *npy = l->npy;
    bool closed;

    if (!take(l, '('))
        return no_literal(l, "a tuple");
    for (closed = take(l, ')'); !closed; closed = take(l, ')')) {
        enum sae_status st;

        if (npy->ndim == SAE_MAX_DIMS)
            return bad(l->name, l->err, "its shape has more than %d dimensions", SAE_MAX_DIMS);
        st = take_dimension(l, &npy->shape[npy->ndim++]);
        if (st != SAE_OK)
            return st;
        if (!take(l, ',') && (npy->ndim == 1 || peek(l) != ')')) /* (3) is a number */
            return no_literal(l, "a comma");
    }
    return SAE_OK;
}

static enum sae_status read_item(struct literal *l)
{
    static const struct {
        const char *key;
        enum sae_status (*read)(struct literal *l);
    } values[] = {{"descr", read_descr}, {"fortran_order", read_order}, {"shape", read_shape}};
    bool *const seen[] = {&l->has_descr, &l->has_order, &l->has_shape};
    char key[WORD_MAX];
    enum sae_status st = take_string(l, key);

    if (st != SAE_OK)
        return st;
    if (!take(l, ':'))
        return no_literal(l, "':'");
    for (size_t i = 0; i < SAE_COUNTOF(values); i++)
        if (strcmp(key, values[i].key) == 0) {
            if (*seen[i])
                return bad(l->name, l->err, "its header has the key %s twice", key);
            *seen[i] = true;
            return values[i].read(l);
        }
    return bad(l->name, l->err,
               "its header has the key %s, only descr, fortran_order and shape are read", key);
}

static enum sae_status read_literal(struct literal *l)
{
    if (!take(l, '{'))
        return no_literal(l, "'{'");
    while (!take(l, '}')) {
        enum sae_status st = read_item(l);

        if (st != SAE_OK)
            return st;
        if (!take(l, ',') && peek(l) != '}')
            return no_literal(l, "',' or '}'");
    }
    if (peek(l) >= 0)
        return no_literal(l, "nothing more");
    if (!l->has_descr || !l->has_order || !l->has_shape)
        return bad(l->name, l->err, "its header lacks the key %s",
                   !l->has_descr   ? "descr"
                   : !l->has_order ? "fortran_order"
                                   : "shape");
    return SAE_OK;
}

/* ---- what it says ------------------------------------------------------------------------- */

static enum sae_status find_dtype(struct literal *l)
{
    static const struct {
        char kind;
        const char *what;
    } others[] = {
        {'O', "objects, which are pickles"},
        {'V', "structures"},
        {'S', "byte strings"},
        {'U', "strings"},
        {'M', "dates"},
        {'m', "differences of dates"},
        {'c', "complex numbers"},
    };
    char order = l->descr[0], kind = order ? l->descr[1] : '\0';

    l->npy->dtype = sae_dtype_find(SAE_DTYPE_NUMPY, l->descr + (order != '\0'),
                                   strlen(l->descr + (order != '\0')));
    for (size_t i = 0; i < SAE_COUNTOF(others); i++)
        if (kind == others[i].kind || order == others[i].kind)
            return bad(l->name, l->err, "its descr is '%s': %s are not read", l->descr,
                       others[i].what);
    if (l->npy->dtype && l->npy->dtype->dtype != SAE_DTYPE_OTHER) {
        if (order == '<' || (order == '|' && l->npy->dtype->bits == 8))
            return SAE_OK;
        if (order == '>')
            return bad(l->name, l->err,
                       "its descr is '%s', big-endian; save it with "
                       "array.astype(array.dtype.newbyteorder('<'))",
                       l->descr);
    }
    return bad(l->name, l->err,
               "its descr is '%s', wanted one of <f2 <f4 <f8 |i1 <i2 <i4 <i8 |u1 <u2 <u4 <u8 |b1",
               l->descr);
}

static enum sae_status check_size(struct literal *l, uint64_t bytes)
{
    struct sae_npy *npy = l->npy;
    uint64_t left = bytes - npy->header_bytes, size;

    npy->count = 1;
    for (unsigned i = 0; i < npy->ndim; i++)
        if (sae_mul_u64(npy->count, npy->shape[i], &npy->count))
            return bad(l->name, l->err, "the product of its shape passes 64 bits");
    if (sae_mul_u64(npy->count, npy->dtype->bits / 8, &size) || size != left)
        return bad(l->name, l->err,
                   "%" PRIu64 " values of %s do not fit the %" PRIu64 " bytes behind its header",
                   npy->count, npy->dtype->name, left);
    return SAE_OK;
}

/* ---- the header --------------------------------------------------------------------------- */

/* The literal's length, from the first bytes; *begun: how many of its bytes are among them. */
static enum sae_status read_first(const unsigned char *first, uint64_t bytes, const char *name,
                                  uint64_t *length, size_t *begun, struct sae_err *err)
{
    if (bytes < FIRST_BYTES || memcmp(first, MAGIC, sizeof MAGIC - 1) != 0)
        return bad(name, err, "it does not begin with \\x93NUMPY, a version and a length");
    if (first[6] < 1 || first[6] > 3 || first[7] != 0)
        return bad(name, err, "its version is %u.%u, 1.0 to 3.0 are read", first[6], first[7]);
    *begun = first[6] == 1 ? 2 : 0;
    *length = first[6] == 1 ? sae_le16(first + 8) : sae_le32(first + 8);
    if (*length > SAE_NPY_MAX_HEADER)
        return bad(name, err, "its header has %" PRIu64 " bytes, at most %u are read", *length,
                   SAE_NPY_MAX_HEADER);
    if (*length < *begun || *length - *begun > bytes - FIRST_BYTES)
        return bad(name, err, "its header of %" PRIu64 " bytes ends behind its %" PRIu64 " bytes",
                   *length, bytes);
    return SAE_OK;
}

enum sae_status sae_npy_open(struct sae_npy *out, const struct sae_stream *src, uint64_t bytes,
                             const char *name, struct sae_err *err)
{
    unsigned char first[FIRST_BYTES] = {0};
    struct sae_npy npy = {.dtype = NULL};
    struct literal l = {.npy = &npy, .name = name, .err = err};
    uint64_t length = 0;
    size_t begun = 0;
    char *text = NULL;
    enum sae_status st =
        bytes < FIRST_BYTES ? SAE_OK : src->next(src->ctx, first, sizeof first, err);

    if (st == SAE_OK)
        st = read_first(first, bytes, name, &length, &begun, err);
    if (st != SAE_OK)
        return st;
    text = sae_alloc((size_t)length, 1);
    if (!text)
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot allocate header: %" PRIu64 " bytes",
                           length);
    memcpy(text, first + FIRST_BYTES - begun, begun);
    npy.header_bytes = FIRST_BYTES + length - begun;
    l.begin = l.p = text;
    l.end = text + length;
    st = src->next(src->ctx, text + begun, (size_t)length - begun, err);
    if (st == SAE_OK)
        st = read_literal(&l);
    if (st == SAE_OK)
        st = find_dtype(&l);
    if (st == SAE_OK)
        st = check_size(&l, bytes);
    if (st == SAE_OK)
        *out = npy;
    sae_free(text);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------ */

size_t sae_npy_write(char dst[SAE_NPY_WRITTEN_MAX], enum sae_dtype dtype, const uint64_t *shape,
                     unsigned ndim)
{
    enum { BEGIN = 10, ALIGN = 64 };
    size_t n = BEGIN, length;

    n += (size_t)snprintf(dst + n, SAE_NPY_WRITTEN_MAX - n,
                          "{'descr': '<%s', 'fortran_order': False, 'shape': (",
                          sae_dtype_word(dtype, SAE_DTYPE_NUMPY));
    for (unsigned i = 0; i < ndim; i++)
        n += (size_t)snprintf(dst + n, SAE_NPY_WRITTEN_MAX - n, "%s%" PRIu64 "%s", i ? " " : "",
                              shape[i], i + 1 < ndim || ndim == 1 ? "," : "");
    n += (size_t)snprintf(dst + n, SAE_NPY_WRITTEN_MAX - n, "), }");
    while ((n + 1) % ALIGN)
        dst[n++] = ' ';
    dst[n++] = '\n';
    memcpy(dst, MAGIC "\1\0", BEGIN - 2);
    length = n - BEGIN;
    dst[8] = (char)(length & 0xff);
    dst[9] = (char)(length >> 8);
    return n;
}
