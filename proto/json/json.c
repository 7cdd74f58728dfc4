/* json.c - a request's JSON body: its keys, and who reads their values. Spec 3.1.
 *
 *     {"x": T, options...}    encode, forward        {"f": T}    decode, which takes an answer of
 *                                                                encode as it is: gate, pre_jump
 *                                                                and f_units may stand beside f,
 *                                                                input_state and x where wanted
 *
 *     {"decoder": ids, "encoder": ids, "vectors": names}    weights: json/weights.c
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

typedef enum sae_status option_fn(struct sae_json_parser *ps, const struct sae_option_def *def);

static enum sae_status fail_option(struct sae_json_parser *ps, const struct sae_option_def *def,
                                   const char *wanted)
{
    struct sae_json_path path = {def->pointer, 0, {0}};

    return sae_json_fail(ps, SAE_E_BAD_OPTION, &path, "cannot use %s: it is %s, wanted %s",
                         def->name, sae_json_describe(ps).s, wanted);
}

static enum sae_status read_boolean(struct sae_json_parser *ps, const struct sae_option_def *def)
{
    return sae_json_take_word(ps, "true") ? SAE_OK : fail_option(ps, def, "true or false");
}

static enum sae_status read_top_k(struct sae_json_parser *ps, const struct sae_option_def *def)
{
    const char *start = ps->p;
    uint64_t k;

    if (!sae_json_take_uint(ps, &k) || k == 0) {
        ps->p = start;
        return fail_option(ps, def, "an integer of 1 or more");
    }
    ps->r->opt.top_k = k;
    return SAE_OK;
}

static enum sae_status read_features(struct sae_json_parser *ps, const struct sae_option_def *def)
{
    struct sae_json_array ids = {.size = sizeof(uint32_t), .since = ps->p};
    enum sae_status st = sae_json_read_ids(ps, def->name, def->pointer, &ids);

    ps->r->opt.features = ids.data;
    ps->r->opt.n_features = ids.n;
    return st;
}

static enum sae_status read_ghost_mask(struct sae_json_parser *ps, const struct sae_option_def *def)
{
    struct sae_json_dense d = {.base = def->pointer, .width = ps->t->dict_size, .booleans = true};
    enum sae_status st;

    if (sae_json_peek(ps) != '[')
        return fail_option(ps, def, "a nested list of numbers or booleans");
    st = sae_json_read_dense(ps, &d);
    ps->r->opt.ghost_mask = d.values.data;
    ps->r->opt.n_ghost_mask = d.values.n;
    ps->r->opt.ghost_shape = d.shape;
    return st;
}

static enum sae_status read_option(struct sae_json_parser *ps, const struct sae_option_def *def)
{
    static option_fn *const kinds[SAE_N_OPTION_KINDS] = {
        [SAE_OPTION_BOOL] = read_boolean,
        [SAE_OPTION_TOP_K] = read_top_k,
        [SAE_OPTION_FEATURES] = read_features,
        [SAE_OPTION_GHOST_MASK] = read_ghost_mask,
    };
    enum sae_status st = sae_option_seen(&ps->r->opt, def, &ps->err);

    if (st != SAE_OK)
        return st;
    if (sae_json_take_word(ps, "false") || sae_json_take_word(ps, "null"))
        return SAE_OK; /* not asked */
    ps->r->opt.asked |= def->bit;
    return kinds[def->kind](ps, def);
}

/* ---- the tensor ------------------------------------------------------------------------------ */

static enum sae_status read_tensor(struct sae_json_parser *ps, bool takes_f)
{
    struct sae_request *r = ps->r;
    const uint64_t width = sae_target_width(ps->t);
    struct sae_json_dense d = {
        .base = sae_op_input(ps->t->op)->pointer, .width = width, .check_width = true};
    const struct sae_json_path path = {d.base, 0, {0}};
    int c = sae_json_peek(ps);
    enum sae_status st;

    if (c == '{' && takes_f)
        return sae_json_read_sparse(ps);
    if (c != '[')
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: it is %s, wanted a nested list of numbers%s",
                             d.base + 1, sae_json_describe(ps).s,
                             takes_f ? " or a sparse object" : "");
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

static bool is_key(const struct sae_json_text *key, const char *name)
{
    return !key->cut && strlen(name) == key->n && memcmp(name, key->s, key->n) == 0;
}

#define F_UNITS (1u << SAE_N_OPTIONS)

/* The bit of this key: f_units, or an option's second tensor; 0: it is none of them. */
static unsigned aside_by_name(const struct sae_json_text *key)
{
    const int aux = key->cut ? -1 : sae_aux_by_name(key->s, key->n);

    return is_key(key, "f_units") ? F_UNITS : aux >= 0 ? 1u << aux : 0;
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

/* A second tensor of features is not looked at. */
static enum sae_status read_aside(struct sae_json_parser *ps, unsigned bit)
{
    return bit == F_UNITS ? read_f_units(ps) : sae_json_skip(ps);
}

/* input_state and x; false and null are as if they were not there. */
static enum sae_status read_beside(struct sae_json_parser *ps, int which)
{
    struct sae_json_dense d = {.base = sae_beside_pointers[which],
                               .width = which == SAE_BESIDE_STATE ? ps->t->state_width
                                                                  : ps->t->activation_dim};
    const struct sae_json_path path = {d.base, 0, {0}};
    struct sae_beside *b = &ps->r->beside[which];
    enum sae_status st;
    bool reads;

    if (sae_json_take_word(ps, "false") || sae_json_take_word(ps, "null"))
        return SAE_OK;
    st = sae_beside_given(ps->r, ps->t, which, &reads, &ps->err);
    if (st != SAE_OK || !reads)
        return st == SAE_OK ? sae_json_skip(ps) : st;
    if (sae_json_peek(ps) != '[')
        return sae_json_fail(ps, SAE_E_BAD_SHAPE, &path,
                             "cannot read %s: it is %s, wanted a nested list of numbers",
                             d.base + 1, sae_json_describe(ps).s);
    st = sae_json_read_dense(ps, &d);
    b->values = d.values.data;
    b->n = d.values.n;
    b->shape = d.shape;
    return st;
}

/* ---- the object ------------------------------------------------------------------------------ */

/* Which keys have been read, but for options. */
struct seen {
    bool tensor;
    unsigned asides;
};

static enum sae_status fail_key(struct sae_json_parser *ps, const struct sae_json_text *key)
{
    static const char options[] =
#define SAE_OPTION(id, name, kind, ops, in, of_f, aux) ", " #name
#include "proto/options.def"
#undef SAE_OPTION
        ;

    return sae_json_fail(ps, SAE_E_BAD_OPTION, NULL,
                         "cannot use key \"%.*s%s\": unknown here (known: %s%s)", (int)key->n,
                         key->s, key->cut ? "..." : "", sae_op_input(ps->t->op)->name, options);
}

static enum sae_status fail_part(struct sae_json_parser *ps, const struct sae_json_text *key)
{
    return sae_json_fail(ps, SAE_E_BAD_OPTION, NULL,
                         "cannot use key \"%.*s%s\": unknown in weights (known: decoder, encoder, "
                         "vectors)",
                         (int)key->n, key->s, key->cut ? "..." : "");
}

static enum sae_status fail_twice(struct sae_json_parser *ps, const struct sae_json_text *key)
{
    return sae_json_fail(ps, SAE_E_BAD_OPTION, NULL, "cannot use key \"%.*s\": it stands twice",
                         (int)key->n, key->s);
}

/* A key and its value. */
static enum sae_status read_member(struct sae_json_parser *ps, struct seen *seen)
{
    const enum sae_takes takes = sae_op_defs[ps->t->op].takes;
    const bool takes_f = takes == SAE_TAKES_F;
    const struct sae_option_def *option;
    struct sae_json_fault fault;
    struct sae_json_text key;
    const char *next;
    unsigned bit;
    int beside, part;

    if (!sae_json_take(ps, '"'))
        return SAE_E_MALFORMED_JSON;
    next = sae_json_scan_string(ps->p, ps->end, &key, &fault);
    if (!next)
        return SAE_E_MALFORMED_JSON;
    ps->p = next;
    if (!sae_json_take(ps, ':'))
        return SAE_E_MALFORMED_JSON;
    if (takes == SAE_TAKES_WEIGHTS) {
        part = key.cut ? -1 : sae_weights_key(key.s, key.n);
        return part >= 0 ? sae_json_read_weight(ps, part) : fail_part(ps, &key);
    }
    if (is_key(&key, sae_op_input(ps->t->op)->name)) {
        if (seen->tensor)
            return fail_twice(ps, &key);
        seen->tensor = true;
        return read_tensor(ps, takes_f);
    }
    bit = takes_f ? aside_by_name(&key) : 0;
    if (bit) {
        if (seen->asides & bit)
            return fail_twice(ps, &key);
        seen->asides |= bit;
        return read_aside(ps, bit);
    }
    beside = takes_f && !key.cut ? sae_beside_by_name(key.s, key.n) : -1;
    if (beside >= 0)
        return read_beside(ps, beside);
    option = key.cut ? NULL : sae_option_by_name(key.s, key.n);
    return option ? read_option(ps, option) : fail_key(ps, &key);
}

static enum sae_status read_request(struct sae_json_parser *ps)
{
    const char *name = sae_op_input(ps->t->op)->name;
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
    if (!seen.tensor && sae_op_defs[ps->t->op].takes != SAE_TAKES_WEIGHTS)
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

enum sae_status sae_json_parse(struct sae_request *r, const struct sae_target *t, const void *text,
                               size_t n, struct sae_err *err)
{
    const char *body = text;
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
