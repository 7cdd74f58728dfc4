/* negotiate.c - Content-Type and Accept: which form a request has, which its answer gets.
 *
 * RFC 9110 sections 8.3 and 12.5.1, read as servers must: a piece of Accept that does not parse is
 * passed over, an Accept in which nothing parses counts as absent. Two slips of widespread clients
 * are understood: "*" for any type and "q=.2" (Java's HttpURLConnection sends both). A type with
 * parameters that this version does not serve matches nothing, so that a client which asks for
 * another element type is told so and never gets f32 by surprise.
 * Called by routes; pure functions, any thread. */
#include "proto/wire.h"

#include "lib/scan.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One media range or media type with its parameters. Text is borrowed from the header. */
struct range {
    const char *type, *subtype;
    size_t type_n, subtype_n;
    bool has_charset;   /* charset=utf-8 */
    bool is_other_text; /* another charset */
    bool has_parameter; /* any other before q */
    bool has_q;
    unsigned q; /* 0 to 1000 */
};

static const char *skip_blanks(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* The characters of RFC 9110's token. */
static size_t token_length(const char *s)
{
    return strspn(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool text_is(const char *s, size_t n, const char *want)
{
    return strlen(want) == n && strncasecmp(s, want, n) == 0;
}

/* "1", "0.8", ".2" as thousandths, digits behind the third dropped. */
static bool read_q(const char *s, unsigned *out)
{
    unsigned q = 0, unit = 100;
    bool digits = false;

    if (*s == '0' || *s == '1') {
        q = *s++ == '1' ? 1000 : 0;
        digits = true;
    }
    if (*s == '.')
        for (s++; sae_is_digit(*s); s++, unit /= 10) {
            q += (unsigned)(*s - '0') * unit;
            digits = true;
        }
    *out = q;
    return digits && *s == '\0' && q <= 1000;
}

/* A parameter's value, token or quoted string, into dst as far as it fits (what does not fit is no
 * value that we know). NULL: neither. */
static const char *read_value(const char *s, char *dst, size_t cap)
{
    size_t n = 0;

    if (*s != '"') {
        n = token_length(s);
        snprintf(dst, cap, "%.*s", (int)(n < cap ? n : cap), s);
        return n ? s + n : NULL;
    }
    for (s++; *s != '"'; s++) {
        if (*s == '\\')
            s++;
        if (*s == '\0')
            return NULL;
        if (n + 1 < cap)
            dst[n++] = *s;
    }
    dst[n] = '\0';
    return s + 1;
}

/* `;name=value` pieces up to a comma or the end. NULL: malformed. */
static const char *read_parameters(const char *s, struct range *r)
{
    for (s = skip_blanks(s); *s == ';'; s = skip_blanks(s)) {
        const char *name = skip_blanks(s + 1);
        size_t n = token_length(name);
        char value[32];

        s = name + n;
        if (n == 0)
            continue; /* ";;" and a last ";" are allowed */
        if (*s != '=')
            return NULL;
        s = read_value(s + 1, value, sizeof value);
        if (!s)
            return NULL;
        if (text_is(name, n, "q") && !r->has_q) {
            r->has_q = true;
            if (!read_q(value, &r->q))
                return NULL;
        } else if (text_is(name, n, "charset") &&
                   (strcasecmp(value, "utf-8") == 0 || strcasecmp(value, "utf8") == 0)) {
            r->has_charset = true;
        } else if (text_is(name, n, "charset")) {
            r->is_other_text = true;
        } else if (!r->has_q) { /* behind q: extensions of old, no part of the type */
            r->has_parameter = true;
        }
    }
    return s;
}

/* One range at s; returns where it ends (',' or NUL), NULL when it does not parse. */
static const char *read_range(const char *s, struct range *r)
{
    *r = (struct range){.q = 1000};
    r->type = s = skip_blanks(s);
    r->type_n = token_length(s);
    s += r->type_n;
    if (*s == '/') {
        r->subtype = s + 1;
        r->subtype_n = token_length(r->subtype);
        s = r->subtype + r->subtype_n;
    } else if (text_is(r->type, r->type_n, "*")) {
        r->subtype = r->type;
        r->subtype_n = 1;
    }
    if (r->type_n == 0 || r->subtype_n == 0)
        return NULL;
    s = read_parameters(s, r);
    return s && (*s == ',' || *s == '\0') ? s : NULL;
}

/* Past the next comma outside quotes; NULL at the end. */
static const char *next_piece(const char *s)
{
    bool quoted = false;

    for (; *s; s++) {
        if (*s == '"')
            quoted = !quoted;
        else if (quoted && *s == '\\' && s[1])
            s++;
        else if (*s == ',' && !quoted)
            return s + 1;
    }
    return NULL;
}

/* How closely a range names form m: 0 not at all, 1 by star/star, 2 by type/star, 3 by name. */
static int match(const struct range *r, enum sae_media m)
{
    const char *name = sae_codecs[m].name, *slash = strchr(name, '/');
    bool any_type = text_is(r->type, r->type_n, "*");
    bool any_subtype = text_is(r->subtype, r->subtype_n, "*");

    if (r->has_parameter || r->is_other_text)
        return 0;
    if (any_type)
        return any_subtype && !r->has_charset ? 1 : 0;
    if (r->type_n != (size_t)(slash - name) || strncasecmp(r->type, name, r->type_n) != 0)
        return 0;
    if (any_subtype)
        return r->has_charset ? 0 : 2;
    if (!text_is(r->subtype, r->subtype_n, slash + 1) || (r->has_charset && !sae_codecs[m].is_text))
        return 0;
    return 3;
}

/* "a, b or c" of the forms in `can`. */
static void list_media(char *dst, size_t cap, unsigned can, const char *last)
{
    size_t len = 0;

    dst[0] = '\0';
    for (int m = 0; m < SAE_N_MEDIA && len < cap; m++) {
        const char *sep = len == 0 ? "" : can >> (m + 1) ? ", " : last;

        if (can & 1u << m)
            len += (size_t)snprintf(dst + len, cap - len, "%s%s", sep, sae_codecs[m].name);
    }
}

/* ---- Content-Type ---------------------------------------------------------------------------- */

/* What clients send that have not been told what the body is. */
static const struct {
    const char *type, *subtype, *advice;
} unnamed[] = {
    {"application", "x-www-form-urlencoded",
     "which curl -d sends unless told otherwise: use --json or -H 'Content-Type: "
     "application/json'"},
    {"text", "plain",
     "which many clients send with a text unless told otherwise: name what it is, for JSON with "
     "'Content-Type: application/json'"},
    {"multipart", "form-data",
     "a form: send the body by itself, and name what it is, for JSON with 'Content-Type: "
     "application/json'"},
};

/* Is it form m? A parameter says nothing about text, but for a charset: that must be its own. */
static bool is_form(const struct range *r, enum sae_media m)
{
    struct range bare = *r;

    if (sae_codecs[m].is_text)
        bare.has_parameter = false;
    else if (r->has_q)
        return false;
    return match(&bare, m) == 3;
}

enum sae_status sae_content_type(const char *value, enum sae_media *out, struct sae_err *err)
{
    char all[128];
    const char *end;
    struct range r;

    if (!value || *skip_blanks(value) == '\0') {
        *out = SAE_MEDIA_JSON;
        return SAE_OK;
    }
    end = read_range(value, &r);
    if (end && *end == '\0')
        for (int m = 0; m < SAE_N_MEDIA; m++)
            if (is_form(&r, (enum sae_media)m)) {
                *out = (enum sae_media)m;
                return SAE_OK;
            }
    for (size_t i = 0; end && i < SAE_COUNTOF(unnamed); i++)
        if (text_is(r.type, r.type_n, unnamed[i].type) &&
            text_is(r.subtype, r.subtype_n, unnamed[i].subtype))
            return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                               "cannot read body: its Content-Type is \"%.80s\", %s", value,
                               unnamed[i].advice);
    list_media(all, sizeof all, (1u << SAE_N_MEDIA) - 1, " and ");
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "cannot read body: its Content-Type is \"%.80s\", saed reads %s (JSON in "
                       "UTF-8, the others without parameters)",
                       value, all);
}

/* ---- Accept ---------------------------------------------------------------------------------- */

/* What an Accept says: for each form the q of the closest range that names it. */
struct wishes {
    unsigned q[SAE_N_MEDIA];
    int closeness[SAE_N_MEDIA];
    bool any;      /* a range parsed */
    bool specific; /* one without a star did */
};

static void read_wishes(const char *value, struct wishes *w)
{
    *w = (struct wishes){0};
    for (const char *s = value; s; s = next_piece(s)) {
        struct range r;

        if (!read_range(s, &r))
            continue;
        w->any = true;
        w->specific |= !text_is(r.subtype, r.subtype_n, "*");
        for (int m = 0; m < SAE_N_MEDIA; m++) {
            int close = match(&r, (enum sae_media)m);

            if (close > w->closeness[m] || (close == w->closeness[m] && close && r.q > w->q[m])) {
                w->closeness[m] = close;
                w->q[m] = r.q;
            }
        }
    }
}

/* Is `a` to be preferred to `b`: by its q, then as the request's form, then by rank? */
static bool is_before(const struct wishes *w, enum sae_media request, enum sae_rank rank,
                      enum sae_media a, enum sae_media b)
{
    if (w->q[a] != w->q[b])
        return w->q[a] > w->q[b];
    if (a == request || b == request)
        return a == request;
    return sae_codecs[a].rank[rank] < sae_codecs[b].rank[rank];
}

/* The best of the forms in `can`. False: none is wanted. */
static bool choose(const struct wishes *w, enum sae_media request, enum sae_rank rank, unsigned can,
                   enum sae_media *out)
{
    bool any = false;

    for (int i = 0; i < SAE_N_MEDIA; i++) {
        enum sae_media m = (enum sae_media)i;

        if (!(can & 1u << m) || w->q[m] == 0)
            continue;
        if (!any || is_before(w, request, rank, m, *out))
            *out = m;
        any = true;
    }
    return any;
}

enum sae_status sae_accept(const char *value, enum sae_media request, unsigned can,
                           enum sae_media *out, struct sae_err *err)
{
    struct wishes w = {0};
    enum sae_rank rank;
    char able[128];

    if (value)
        read_wishes(value, &w);
    if (!w.any)
        for (int m = 0; m < SAE_N_MEDIA; m++)
            w.q[m] = 1000;
    rank = w.specific || sae_codecs[request].is_text ? SAE_RANK_NAMED : SAE_RANK_LEFT;
    if (choose(&w, request, rank, can, out))
        return SAE_OK;
    list_media(able, sizeof able, can, " or ");
    return sae_err_set(err, SAE_E_NOT_ACCEPTABLE, "Accept",
                       "cannot answer as \"%.100s\": this answer can be %s", value ? value : "",
                       able);
}
