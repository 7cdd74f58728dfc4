/* json.c - a request's JSON body: its keys, and who reads their values. Spec 3.1.
 *
 *     {"x": T, options...}    encode, forward        {"f": T}    decode, which takes an answer of
 *                                                                encode as it is: gate, pre_jump
 *                                                                and f_units may stand beside f
 *
 * T goes to json/dense.c or json/sparse.c, numbers through numtext.h; no tree is built. A fault
 * ends the reading; then the whole text is checked by lib/format/json_scan.c, so that what is no
 * JSON is reported as malformed_json whatever else is wrong with it. Good bodies are passed over
 * once. A byte order mark before the text is skipped (PowerShell and .NET write one).
 *
 * Called by the server's pool threads through wire.h; no state, any thread. */
#include "proto/json/parse.h"

#include <string.h>
#include <strings.h>

/* ---- options --------------------------------------------------------------------------------- */

static struct sae_json_path option_path(unsigned bit)
{
    /* In the order of the bits; static text, as the path keeps a pointer. */
    static const char *const bases[] = {"/sparse",      "/top_k",           "/features",
                                        "/return_gate", "/output_pre_jump", "/output_features",
                                        "/ghost_mask"};

    return (struct sae_json_path){bases[__builtin_ctz(bit)], 0, {0}};
}

static enum sae_status fail_option(struct sae_json_parser *ps, unsigned bit, const char *wanted)
{
    struct sae_json_path path = option_path(bit);

    return sae_json_fail(ps, SAE_E_BAD_OPTION, &path, "cannot use %s: it is %s, wanted %s",
                         sae_option_name(bit), sae_json_describe(ps).s, wanted);
}

static enum sae_status read_boolean(struct sae_json_parser *ps, unsigned bit)
{
    if (!sae_json_take_word(ps, "true"))
        return fail_option(ps, bit, "true or false");
    ps->r->opt.asked |= bit;
    return SAE_OK;
}

static enum sae_status read_top_k(struct sae_json_parser *ps)
{
    const char *start = ps->p;
    uint64_t k;

    if (!sae_json_take_uint(ps, &k) || k == 0) {
        ps->p = start;
        return fail_option(ps, SAE_OPT_TOP_K, "an integer of 1 or more");
    }
    ps->r->opt.top_k = k;
    ps->r->opt.asked |= SAE_OPT_TOP_K;
    return SAE_OK;
}

/* The ids of `features`, behind the '['. Their range is sae_request_check's, for which an id above
 * 32 bits is UINT32_MAX. */
static enum sae_status read_ids(struct sae_json_parser *ps, struct sae_json_array *a)
{
    enum sae_status st = SAE_OK;
    bool more = !sae_json_take(ps, ']');

    while (st == SAE_OK && more) {
        uint64_t id;

        if (a->n == a->cap && (st = sae_json_grow(ps, a)) != SAE_OK)
            return st;
        if (!sae_json_take_uint(ps, &id)) {
            struct sae_json_path path = {"/features", 1, {a->n}};

            return sae_json_fail(ps, SAE_E_BAD_OPTION, &path,
                                 "cannot use features: an id is %s, no integer of 0 or more",
                                 sae_json_describe(ps).s);
        }
        ((uint32_t *)a->data)[a->n++] = id < UINT32_MAX ? (uint32_t)id : UINT32_MAX;
        st = sae_json_next(ps, ']', &more);
    }
    return st;
}

static enum sae_status read_features(struct sae_json_parser *ps)
{
    struct sae_json_array ids = {.size = sizeof(uint32_t), .since = ps->p};
    enum sae_status st;

    if (!sae_json_take(ps, '['))
        return fail_option(ps, SAE_OPT_FEATURES, "a list of feature ids");
    st = sae_json_grow(ps, &ids); /* an array, even when it stays empty */
    if (st == SAE_OK)
        st = read_ids(ps, &ids);
    ps->r->opt.features = ids.data;
    ps->r->opt.n_features = ids.n;
    ps->r->opt.asked |= SAE_OPT_FEATURES;
    return st;
}

static enum sae_status read_ghost_mask(struct sae_json_parser *ps)
{
    struct sae_json_dense d = {.base = "/ghost_mask", .width = ps->t->dict_size, .booleans = true};
    enum sae_status st;

    if (sae_json_peek(ps) != '[')
        return fail_option(ps, SAE_OPT_GHOST_MASK, "a nested list of numbers or booleans");
    st = sae_json_read_dense(ps, &d);
    ps->r->opt.ghost_mask = d.values.data;
    ps->r->opt.n_ghost_mask = d.values.n;
    ps->r->opt.ghost_shape = d.shape;
    ps->r->opt.asked |= SAE_OPT_GHOST_MASK;
    return st;
}

static enum sae_status read_option(struct sae_json_parser *ps, unsigned bit)
{
    enum sae_status st = sae_option_seen(&ps->r->opt, bit, &ps->err);

    if (st != SAE_OK)
        return st;
    if (sae_json_take_word(ps, "false") || sae_json_take_word(ps, "null"))
        return SAE_OK; /* not asked */
    switch (bit) {
    case SAE_OPT_TOP_K:
        return read_top_k(ps);
    case SAE_OPT_FEATURES:
        return read_features(ps);
    case SAE_OPT_GHOST_MASK:
        return read_ghost_mask(ps);
    default:
        return read_boolean(ps, bit);
    }
}

/* ---- the tensor ------------------------------------------------------------------------------ */

/* x, or f in decode. */
static enum sae_status read_tensor(struct sae_json_parser *ps, bool decode)
{
    struct sae_request *r = ps->r;
    const uint64_t width = decode ? ps->t->dict_size : ps->t->activation_dim;
    struct sae_json_dense d = {.base = decode ? "/f" : "/x", .width = width, .check_width = true};
    const struct sae_json_path path = {d.base, 0, {0}};
    int c = sae_json_peek(ps);
    enum sae_status st;

    if (c == '{' && decode)
        return sae_json_read_sparse(ps);
    if (c != '[')
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: it is %s, wanted a nested list of numbers%s",
                             d.base + 1, sae_json_describe(ps).s,
                             decode ? " or a sparse object" : "");
    st = sae_json_read_dense(ps, &d);
    r->values = d.values.data;
    r->lead = d.shape;
    if (d.values.n == 0) { /* [] */
        r->n_rows = 0;
        return st;
    }
    r->lead.dim[--r->lead.n] = 0;
    r->n_rows = width ? d.values.n / width : 0;
    return st;
}

/* ---- what an answer has beside f ---------------------------------------------------------------
 */

static const char *const asides[] = {"f_units", "gate", "pre_jump"};

/* The bit of this key; 0: it is none of them. */
static unsigned aside_by_name(const struct sae_json_text *key)
{
    for (unsigned i = 0; i < SAE_COUNTOF(asides); i++)
        if (!key->cut && strlen(asides[i]) == key->n && memcmp(asides[i], key->s, key->n) == 0)
            return 1u << i;
    return 0;
}

static enum sae_status read_f_units(struct sae_json_parser *ps)
{
    const struct sae_json_path path = {"/f_units", 0, {0}};
    struct sae_json_fault fault;
    struct sae_json_text units;
    const char *next;

    if (sae_json_peek(ps) != '"')
        return sae_json_fail(ps, SAE_E_BAD_OPTION, &path, "cannot use f_units: it is %s, no string",
                             sae_json_describe(ps).s);
    next = sae_json_scan_string(ps->p + 1, ps->end, &units, &fault);
    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    return sae_f_units_check(units.s, units.n, &ps->err);
}

/* gate and pre_jump are not looked at. */
static enum sae_status read_aside(struct sae_json_parser *ps, unsigned bit)
{
    struct sae_json_fault fault;
    const char *next;

    if (bit == 1)
        return read_f_units(ps);
    next = sae_json_scan_value(ps->p, ps->end, &fault);
    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    return SAE_OK;
}

/* ---- the object ------------------------------------------------------------------------------ */

/* Which keys have been read, but for options. */
struct seen {
    bool tensor;
    unsigned asides;
};

static enum sae_status fail_key(struct sae_json_parser *ps, const struct sae_json_text *key,
                                bool decode)
{
    return sae_json_fail(ps, SAE_E_BAD_OPTION, NULL,
                         "cannot use key \"%.*s%s\": unknown here (known: %s, sparse, top_k, "
                         "features, return_gate, output_pre_jump, output_features, ghost_mask)",
                         (int)key->n, key->s, key->cut ? "..." : "", decode ? "f" : "x");
}

static enum sae_status fail_twice(struct sae_json_parser *ps, const struct sae_json_text *key)
{
    return sae_json_fail(ps, SAE_E_BAD_OPTION, NULL, "cannot use key \"%.*s\": it stands twice",
                         (int)key->n, key->s);
}

/* A key and its value. */
static enum sae_status read_member(struct sae_json_parser *ps, struct seen *seen)
{
    const bool decode = ps->t->op == SAE_OP_DECODE;
    struct sae_json_fault fault;
    struct sae_json_text key;
    const char *next;
    unsigned bit;

    if (!sae_json_take(ps, '"'))
        return SAE_E_MALFORMED_JSON;
    next = sae_json_scan_string(ps->p, ps->end, &key, &fault);
    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    if (!sae_json_take(ps, ':'))
        return SAE_E_MALFORMED_JSON;
    if (key.n == 1 && !key.cut && key.s[0] == (decode ? 'f' : 'x')) {
        if (seen->tensor)
            return fail_twice(ps, &key);
        seen->tensor = true;
        return read_tensor(ps, decode);
    }
    bit = decode ? aside_by_name(&key) : 0;
    if (bit) {
        if (seen->asides & bit)
            return fail_twice(ps, &key);
        seen->asides |= bit;
        return read_aside(ps, bit);
    }
    bit = key.cut ? 0 : sae_option_by_name(key.s, key.n);
    return bit ? read_option(ps, bit) : fail_key(ps, &key, decode);
}

static enum sae_status read_request(struct sae_json_parser *ps)
{
    const char *name = ps->t->op == SAE_OP_DECODE ? "f" : "x";
    enum sae_status st = SAE_OK;
    struct seen seen = {0};
    bool more;

    if (!sae_json_take(ps, '{'))
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, NULL,
                             "cannot read the request: it is %s, wanted an object {\"%s\": ...}",
                             sae_json_describe(ps).s, name);
    more = !sae_json_take(ps, '}');
    while (st == SAE_OK && more) {
        st = read_member(ps, &seen);
        if (st == SAE_OK)
            st = sae_json_next(ps, '}', &more);
    }
    if (st != SAE_OK)
        return st;
    if (sae_json_peek(ps) != -1)
        return SAE_E_MALFORMED_JSON;
    if (!seen.tensor)
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, NULL, "cannot read the request: it has no \"%s\"",
                             name);
    return SAE_OK;
}

/* What languages write for numbers that JSON has not, and JSON's users in quotes. */
static const struct {
    const char *word, *quoted[2]; /* lower case; behind a minus */
} bare[] = {
    {"nan", {"NaN", "NaN"}},
    {"infinity", {"Infinity", "-Infinity"}},
    {"inf", {"Infinity", "-Infinity"}},
};

/* Is the fault such a word? Then the sentence to say. */
static bool fail_bare(struct sae_err *err, const struct sae_json_fault *f, const char *body,
                      size_t n)
{
    const size_t at = (size_t)(f->at - body);
    const bool minus = at > 0 && f->at[-1] == '-';

    for (size_t i = 0; i < SAE_COUNTOF(bare); i++) {
        size_t len = strlen(bare[i].word);

        if (n - at < len || strncasecmp(f->at, bare[i].word, len) != 0)
            continue;
        sae_err_set(err, SAE_E_MALFORMED_JSON, "",
                    "cannot read JSON: %s%.*s at byte %zu is no number of JSON, write it as "
                    "\"%s\", in quotes",
                    minus ? "-" : "", (int)len, f->at, at - minus, bare[i].quoted[minus]);
        return true;
    }
    return false;
}

static enum sae_status fail_grammar(struct sae_err *err, const struct sae_json_fault *f,
                                    const char *body, size_t n)
{
    if (fail_bare(err, f, body, n))
        return SAE_E_MALFORMED_JSON;
    return sae_err_set(err, SAE_E_MALFORMED_JSON, "", "cannot read JSON: %s, found %s at byte %zu",
                       f->what, sae_json_found_at(f, body + n).s, (size_t)(f->at - body));
}

/* Then the text is not looked at any further. */
static bool is_about_memory(enum sae_status st)
{
    return st == SAE_E_NOMEM || st == SAE_E_OVERLOADED || st == SAE_E_BODY_TOO_LARGE;
}

enum sae_status sae_json_parse(struct sae_request *r, const struct sae_target *t, const char *body,
                               size_t n, struct sae_err *err)
{
    const size_t mark = n >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    struct sae_json_parser ps = {.p = body + mark, .end = body + n, .t = t, .r = r};
    struct sae_json_fault fault;
    enum sae_status st = read_request(&ps);

    if (st == SAE_OK)
        return sae_request_check(r, t, err);
    if (!is_about_memory(st) && !sae_json_check(body + mark, n - mark, &fault))
        return fail_grammar(err, &fault, body, n);
    if (ps.err.status == SAE_OK)
        sae_err_set(&ps.err, SAE_E_INTERNAL, "", "cannot read JSON: its parser stopped at byte %zu",
                    (size_t)(ps.p - body));
    if (err && err->status == SAE_OK)
        *err = ps.err;
    return ps.err.status;
}
