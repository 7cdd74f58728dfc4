/* spec.c - the grammar of sources. See dict/spec.h. */
#include "lib/dict/spec.h"

#include "lib/scan.h"

#include <stdio.h>
#include <string.h>

/* How a source that is no path begins. */
#define IDENTITY "identity:"
#define INIT "init:"

/* A part of the text between two colons; not NUL-terminated. */
struct part {
    const char *p;
    size_t n;
};

static struct part next_part(const char **rest)
{
    const char *colon = strchr(*rest, ':');
    struct part part = {*rest, colon ? (size_t)(colon - *rest) : strlen(*rest)};

    *rest = colon ? colon + 1 : NULL;
    return part;
}

static enum sae_status bad(struct sae_err *err, const char *text, const char *what,
                           struct part found, const char *wanted)
{
    return sae_err_set(err, SAE_E_USAGE, "", "cannot use source %.120s: %s is \"%.*s\", wanted %s",
                       text, what, found.n < 64 ? (int)found.n : 64, found.p, wanted);
}

/* 1 .. SAE_DICT_MAX_DIM */
static bool to_dim(struct part s, uint64_t *out)
{
    uint64_t v;

    if (!sae_scan_whole_u64(s.p, s.n, &v) || v < 1 || v > SAE_DICT_MAX_DIM)
        return false;
    *out = v;
    return true;
}

/* Digits with at most one point among or around them, at most 15 digits: both the digits and the
 * power of ten are exact doubles, so the quotient is the nearest double in any locale. */
static bool to_decimal(struct part s, double *out)
{
    double digits = 0.0, scale = 1.0;
    size_t n_digits = 0;
    bool point = false;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (!sae_is_digit(s.p[i]) || ++n_digits > 15)
            return false;
        digits = digits * 10.0 + (double)(s.p[i] - '0');
        scale = point ? scale * 10.0 : scale;
    }
    *out = digits / scale;
    return n_digits > 0;
}

static const char dim_wanted[] = "a whole number from 1 to 2147483647";

static enum sae_status parse_identity(struct sae_source *out, const char *text, const char *rest,
                                      struct sae_err *err)
{
    struct part all = {rest, strlen(rest)};

    out->kind = SAE_SOURCE_IDENTITY;
    out->layout = sae_layout_identity();
    if (!to_dim(all, &out->d))
        return bad(err, text, "D of identity:D", all, dim_wanted);
    out->F = out->d;
    return SAE_OK;
}

static enum sae_status parse_class(struct sae_source *out, const char *text, struct part s,
                                   struct sae_err *err)
{
    char wanted[200] = "one of";
    size_t at = strlen(wanted);

    for (size_t i = 0; i < sae_n_classes; i++) {
        const struct sae_layout *a = &sae_layouts[i];
        bool same = strlen(a->name) == s.n && memcmp(a->name, s.p, s.n) == 0;
        bool is_made = a->init_norm > 0;

        if (same && a->is_identity)
            return sae_err_set(err, SAE_E_USAGE, "",
                               "cannot use source %.120s: %s has no tensors to make, "
                               "use identity:D",
                               text, a->name);
        if (same && !is_made)
            return sae_err_set(
                err, SAE_E_USAGE, "",
                "cannot use source %.120s: no fresh %s is made, its k is in its file", text,
                a->name);
        if (same) {
            out->layout = a;
            return SAE_OK;
        }
        if (is_made && at < sizeof wanted)
            at += (size_t)snprintf(wanted + at, sizeof wanted - at, " %s", a->name);
    }
    if (at < sizeof wanted)
        snprintf(wanted + at, sizeof wanted - at, " (or the source identity:D)");
    return bad(err, text, "CLASS", s, wanted);
}

static enum sae_status parse_option(struct sae_source *out, const char *text, struct part s,
                                    bool *have_seed, struct sae_err *err)
{
    if (s.n >= 5 && memcmp(s.p, "seed=", 5) == 0) {
        struct part value = {s.p + 5, s.n - 5};

        if (*have_seed)
            return bad(err, text, "a second seed", value, "one seed");
        *have_seed = true;
        if (!sae_scan_whole_u64(value.p, value.n, &out->seed))
            return bad(err, text, "seed", value, "a whole number from 0 to 2^64 - 1");
        return SAE_OK;
    }
    if (s.n >= 3 && memcmp(s.p, "l0=", 3) == 0) {
        struct part value = {s.p + 3, s.n - 3};
        char wanted[120];
        double l0;

        if (out->l0 > 0.0)
            return bad(err, text, "a second l0", value, "one l0");
        snprintf(wanted, sizeof wanted,
                 "a decimal number of at most 15 digits, above 0 and at most F = %llu",
                 (unsigned long long)out->F);
        if (!to_decimal(value, &l0) || l0 <= 0.0 || l0 > (double)out->F)
            return bad(err, text, "l0", value, wanted);
        out->l0 = l0;
        return SAE_OK;
    }
    return bad(err, text, "option", s, "seed=S or l0=L");
}

static enum sae_status parse_init(struct sae_source *out, const char *text, const char *rest,
                                  struct sae_err *err)
{
    static const struct part none = {"", 0};
    struct part s = next_part(&rest);
    enum sae_status st = parse_class(out, text, s, err);
    bool have_seed = false;

    out->kind = SAE_SOURCE_INIT;
    if (st != SAE_OK)
        return st;
    s = rest ? next_part(&rest) : none;
    if (!to_dim(s, &out->d))
        return bad(err, text, "D of init:CLASS:D:F", s, dim_wanted);
    s = rest ? next_part(&rest) : none;
    if (!to_dim(s, &out->F))
        return bad(err, text, "F of init:CLASS:D:F", s, dim_wanted);
    while (rest && st == SAE_OK)
        st = parse_option(out, text, next_part(&rest), &have_seed, err);
    return st;
}

enum sae_status sae_source_parse(struct sae_source *out, const char *text, struct sae_err *err)
{
    struct sae_source src = {.kind = SAE_SOURCE_FILE};
    enum sae_status st = SAE_OK;
    bool is_identity = strncmp(text, IDENTITY, strlen(IDENTITY)) == 0;
    bool is_init = strncmp(text, INIT, strlen(INIT)) == 0;

    if (is_identity || is_init)
        st = sae_statement_parse_form(&src.stated, text, err);
    if (st != SAE_OK)
        return st;
    if (text[0] == '\0')
        st = sae_err_set(err, SAE_E_USAGE, "",
                         "cannot use source \"\": wanted a path, identity:D or init:CLASS:D:F");
    else if (is_identity)
        st = parse_identity(&src, src.stated.path, src.stated.path + strlen(IDENTITY), err);
    else if (is_init)
        st = parse_init(&src, src.stated.path, src.stated.path + strlen(INIT), err);
    else
        st = sae_statement_parse(&src.stated, text, err);
    if (st == SAE_OK)
        *out = src;
    else
        sae_source_fini(&src);
    return st;
}

void sae_source_fini(struct sae_source *src)
{
    sae_statement_fini(&src->stated);
}

enum sae_status sae_source_check(const char *source, struct sae_err *err)
{
    struct sae_source src;
    enum sae_status st = sae_source_parse(&src, source, err);

    if (st == SAE_OK)
        sae_source_fini(&src);
    return st;
}

size_t sae_source_path(const char *source)
{
    bool is_form = strncmp(source, IDENTITY, strlen(IDENTITY)) == 0 ||
                   strncmp(source, INIT, strlen(INIT)) == 0;

    return is_form ? 0 : sae_statement_path(source);
}
