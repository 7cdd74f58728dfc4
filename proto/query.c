/* query.c - options from a query string: `top_k=32&sparse=true&features=3,7`, percent-encoded.
 *
 * Only what needs no dictionary is checked here; sae_request_check does the rest when the body is
 * there. A '+' stands for itself (this is no HTML form). Clients write their language's booleans,
 * and a list as a parameter for each item: both are taken. Called by routes; pure, any thread. */
#include "proto/wire.h"

#include "lib/scan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Decode n bytes of s into dst (room for n + 1). False: a '%' without two hex digits, or NUL. */
static bool percent_decode(char *dst, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int c;

        if (s[i] != '%') {
            *dst++ = s[i];
            continue;
        }
        c = sae_scan_percent(s + i, s + n);
        if (c <= 0)
            return false;
        *dst++ = (char)c;
        i += 2;
    }
    *dst = '\0';
    return true;
}

static enum sae_status bad_value(const char *name, const char *value, const char *wanted,
                                 struct sae_err *err)
{
    return sae_err_set(err, SAE_E_BAD_OPTION, name,
                       "cannot read query parameter %s: its value is \"%.100s\", wanted %s", name,
                       value, wanted);
}

typedef enum sae_status option_fn(struct sae_options *opt, const struct sae_option_def *def,
                                  const char *value, struct sae_err *err);

static enum sae_status read_top_k(struct sae_options *opt, const struct sae_option_def *def,
                                  const char *value, struct sae_err *err)
{
    const char *end = value + strlen(value);
    uint64_t k;
    bool fits; /* if not, it is all of them */

    if (*value == '\0' || sae_scan_u64(value, end, &k, &fits) != end || k == 0)
        return bad_value(def->name, value, "an integer of 1 or more", err);
    opt->top_k = k;
    opt->asked |= def->bit;
    return SAE_OK;
}

/* Room for n more ids behind those of `features` before it. */
static bool grow_features(struct sae_options *opt, size_t n)
{
    uint32_t *more = sae_alloc(opt->n_features + n, sizeof *more);

    if (!more)
        return false;
    if (opt->n_features)
        memcpy(more, opt->features, opt->n_features * sizeof *more);
    sae_free(opt->features);
    opt->features = more;
    return true;
}

/* "3,7", added to what stood before; "" is no feature at all, which is legal. Ids that 32 bits
 * cannot hold become UINT32_MAX, which sae_request_check refuses. */
static enum sae_status read_features(struct sae_options *opt, const struct sae_option_def *def,
                                     const char *value, struct sae_err *err)
{
    const char *p = value, *end = value + strlen(value);
    size_t n = *value ? 1 : 0;

    for (const char *c = value; *c; c++)
        n += *c == ',';
    if (!grow_features(opt, n))
        return sae_err_set(err, SAE_E_NOMEM, def->name, "cannot read %s: out of memory", def->name);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        bool fits;

        p = sae_scan_u64(p, end, &id, &fits);
        if (!p || *p != (i + 1 < n ? ',' : '\0'))
            return bad_value(def->name, value, "feature ids with commas between them", err);
        opt->features[opt->n_features++] = id < UINT32_MAX ? (uint32_t)id : UINT32_MAX;
        p++;
    }
    opt->asked |= def->bit;
    return SAE_OK;
}

static enum sae_status read_bool(struct sae_options *opt, const struct sae_option_def *def,
                                 const char *value, struct sae_err *err)
{
    static const char *const yes[] = {"true", "True", "1"}, *const no[] = {"false", "False", "0"};

    for (size_t i = 0; i < SAE_COUNTOF(yes); i++) {
        if (strcmp(value, yes[i]) == 0) {
            opt->asked |= def->bit;
            return SAE_OK;
        }
        if (strcmp(value, no[i]) == 0)
            return SAE_OK;
    }
    return bad_value(def->name, value, "true or false", err);
}

static enum sae_status read_parameter(void *options, const char *name, const char *value,
                                      struct sae_err *err)
{
    struct sae_options *opt = options;
    static const struct {
        option_fn *read;
        bool adds; /* it may come again */
    } kinds[SAE_N_OPTION_KINDS] = {
        [SAE_OPTION_BOOL] = {read_bool, false},
        [SAE_OPTION_TOP_K] = {read_top_k, false},
        [SAE_OPTION_FEATURES] = {read_features, true},
    };
    const struct sae_option_def *def = sae_option_by_name(name, strlen(name));
    enum sae_status st;

    if (!def)
        return sae_err_set(err, SAE_E_BAD_OPTION, name,
                           "cannot read query string: there is no option \"%.100s\"", name);
    if (!(def->in & SAE_IN_QUERY))
        return sae_err_set(err, SAE_E_BAD_OPTION, name,
                           "cannot use %s: it stands in the query string, its place is in the body",
                           name);
    if (!value)
        return sae_err_set(err, SAE_E_BAD_OPTION, name,
                           "cannot read query parameter %s: it has no value (write %s=VALUE)", name,
                           name);
    if (!kinds[def->kind].adds || !(opt->seen & def->bit)) {
        st = sae_option_seen(opt, def, err);
        if (st != SAE_OK)
            return st;
    }
    assert(kinds[def->kind].read); /* a place in the query string goes with a kind that it has */
    return kinds[def->kind].read(opt, def, value, err);
}

/* One NAME=VALUE of n bytes; `text` has room for it decoded, with two NULs. */
static enum sae_status read_piece(sae_parameter_fn *take, void *arg, const char *piece, size_t n,
                                  char *text, struct sae_err *err)
{
    const char *eq = memchr(piece, '=', n);
    size_t name_n = eq ? (size_t)(eq - piece) : n;
    char *value = text + name_n + 1;

    if (!percent_decode(text, piece, name_n) ||
        (eq && !percent_decode(value, eq + 1, n - name_n - 1)))
        return sae_err_set(
            err, SAE_E_BAD_OPTION, "",
            "cannot decode query parameter \"%.*s\": a %% without two hex digits, or "
            "a zero byte",
            (int)(n < 100 ? n : 100), piece);
    return take(arg, text, eq ? value : NULL, err);
}

enum sae_status sae_query_each(const char *query, sae_parameter_fn *take, void *arg,
                               struct sae_err *err)
{
    size_t n = query ? strlen(query) : 0;
    enum sae_status st = SAE_OK;
    char *text;

    if (n == 0)
        return SAE_OK;
    text = sae_calloc(n + 2, 1);
    if (!text)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot read query string: out of memory");
    for (const char *p = query; st == SAE_OK;) {
        size_t piece = strcspn(p, "&");

        if (piece)
            st = read_piece(take, arg, p, piece, text, err);
        p += piece;
        if (!*p++)
            break;
    }
    sae_free(text);
    return st;
}

enum sae_status sae_query_parse(struct sae_options *opt, const char *query, struct sae_err *err)
{
    return sae_query_each(query, read_parameter, opt, err);
}

enum sae_status sae_labels_query(void *options, const char *name, const char *value,
                                 struct sae_err *err)
{
    return strcmp(name, "features") == 0 ? read_parameter(options, name, value, err) : SAE_OK;
}
