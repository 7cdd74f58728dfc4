/* negotiate.c - Content-Type and Accept: which form a request has, which its answer gets.
 *
 * RFC 9110 sections 8.3 and 12.5.1, read as servers must: a piece of Accept that does not parse is
 * passed over, an Accept in which nothing parses counts as absent. Two slips of widespread clients
 * are understood: "*" for any type and "q=.2" (Java's HttpURLConnection sends both). A type with
 * parameters, or values of them, that are not known matches nothing, so that a client which asks
 * for another element type is told so and never gets f32 by surprise. Called by routes; pure
 * functions, any thread. */
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
    bool has_dtype, has_sparse;
    enum sae_dtype dtype;
    enum sae_wire_sparse sparse;
    bool has_other; /* any other before q, or a value that is not known */
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

static const char *const sparse_forms[SAE_N_WIRE_SPARSE] = {
    [SAE_WIRE_CSR] = "csr", [SAE_WIRE_TOP] = "top"};

/* dtype and layout, each once. False: it is neither, or its value is not known. */
static bool read_ours(struct range *r, const char *name, size_t n, const char *value)
{
    if (text_is(name, n, "dtype") && !r->has_dtype)
        for (int t = 0; t <= SAE_DTYPE_F64; t++)
            if (strcasecmp(value, sae_dtype_word((enum sae_dtype)t, SAE_DTYPE_WIRE)) == 0) {
                r->dtype = (enum sae_dtype)t;
                r->has_dtype = true;
                return true;
            }
    if (text_is(name, n, "layout") && !r->has_sparse)
        for (int l = SAE_WIRE_CSR; l < SAE_N_WIRE_SPARSE; l++)
            if (strcasecmp(value, sparse_forms[l]) == 0) {
                r->sparse = (enum sae_wire_sparse)l;
                r->has_sparse = true;
                return true;
            }
    return false;
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
            r->has_other |= !read_ours(r, name, n, value);
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

static bool names(const struct range *r, enum sae_media m)
{
    const char *name = sae_codecs[m].name, *slash = strchr(name, '/');

    return r->type_n == (size_t)(slash - name) && strncasecmp(r->type, name, r->type_n) == 0 &&
           text_is(r->subtype, r->subtype_n, slash + 1);
}

static bool has_parameters(const struct range *r)
{
    return r->has_dtype || r->has_sparse;
}

/* How closely a range without parameters of ours names form m: 0 not at all, 1 by star/star, 2 by
 * type/star, 3 by name. */
static int match(const struct range *r, enum sae_media m)
{
    const char *name = sae_codecs[m].name, *slash = strchr(name, '/');

    if (has_parameters(r) || r->has_other || r->is_other_text ||
        (r->has_charset && !sae_codecs[m].is_text))
        return 0;
    if (names(r, m))
        return 3;
    if (r->has_charset || !text_is(r->subtype, r->subtype_n, "*"))
        return 0;
    if (text_is(r->type, r->type_n, "*"))
        return 1;
    return r->type_n == (size_t)(slash - name) && strncasecmp(r->type, name, r->type_n) == 0 ? 2
                                                                                             : 0;
}

/* How many of the bits there are. */
static int count(unsigned bits)
{
    return __builtin_popcount(bits);
}

/* What stands in front of the item of `bits`, of those from `bit` on: "a, b or c". */
static const char *separator(unsigned bits, int bit, const char *last)
{
    const int before = count(bits & ((1u << bit) - 1));

    return before == 0 ? "" : count(bits) == before + 1 ? last : ", ";
}

#define ALL_MEDIA ((1u << SAE_N_MEDIA) - 1)

/* "a, b or c" of the forms in `can`. */
static void list_media(char *dst, size_t cap, unsigned can, const char *last)
{
    size_t len = 0;

    dst[0] = '\0';
    for (int m = 0; m < SAE_N_MEDIA && len < cap; m++)
        if (can & 1u << m)
            len += (size_t)snprintf(dst + len, cap - len, "%s%s",
                                    separator(can & ALL_MEDIA, m, last), sae_codecs[m].name);
}

/* Append "NAME: dtype f32, f16 or bf16", `sep` before it; nothing where there is no dtype to name.
 */
static void add_dtypes(char *dst, size_t cap, const char *sep, enum sae_media m, unsigned bits)
{
    size_t len = strlen(dst);

    if (!(bits & (bits - 1)))
        return;
    len += (size_t)snprintf(dst + len, cap - len, "%s%s: dtype ", sep, sae_codecs[m].short_name);
    for (int t = 0; t <= SAE_DTYPE_F64 && len < cap; t++)
        if (bits & 1u << t)
            len += (size_t)snprintf(dst + len, cap - len, "%s%s", separator(bits, t, " or "),
                                    sae_dtype_word((enum sae_dtype)t, SAE_DTYPE_WIRE));
}

/* The dtypes that answers of form m may have. */
static unsigned answer_dtypes(enum sae_media m)
{
    unsigned bits = 1u << SAE_DTYPE_F32;

    for (int t = 0; t <= SAE_DTYPE_F64; t++)
        if (sae_codecs[m].dtyped[t])
            bits |= 1u << t;
    return bits;
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

/* Are its parameters those of a body of form m? One says nothing about text, but for a charset:
 * that must be its own. */
static bool is_form(const struct range *r, enum sae_media m)
{
    if (sae_codecs[m].is_text)
        return !r->is_other_text;
    return !r->has_q && !r->has_charset && !r->is_other_text && !r->has_other &&
           (!r->has_sparse ||
            sae_codecs[m].has_sparse_forms) && /* as an answer's; the body shows it */
           (!r->has_dtype || sae_codecs[m].body_dtypes & 1u << r->dtype);
}

static enum sae_status refuse_type(const char *value, struct sae_err *err)
{
    char all[128], dtypes[128] = "";

    list_media(all, sizeof all, ALL_MEDIA, " and ");
    for (int m = 0; m < SAE_N_MEDIA; m++)
        add_dtypes(dtypes, sizeof dtypes, "; ", (enum sae_media)m, sae_codecs[m].body_dtypes);
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "cannot read body: its Content-Type is \"%.80s\", saed reads %s (JSON in "
                       "UTF-8, the others without parameters%s)",
                       value, all, dtypes);
}

enum sae_status sae_content_type(const char *value, struct sae_media_type *out, struct sae_err *err)
{
    const char *end;
    struct range r;

    if (!value || *skip_blanks(value) == '\0') {
        *out = (struct sae_media_type){.media = SAE_MEDIA_JSON};
        return SAE_OK;
    }
    end = read_range(value, &r);
    for (int m = 0; end && *end == '\0' && m < SAE_N_MEDIA; m++)
        if (names(&r, (enum sae_media)m) && is_form(&r, (enum sae_media)m)) {
            *out = (struct sae_media_type){.media = (enum sae_media)m};
            if (!sae_codecs[m].is_text && r.has_dtype) {
                out->has_dtype = true;
                out->dtype = r.dtype;
            }
            return SAE_OK;
        }
    for (size_t i = 0; end && i < SAE_COUNTOF(unnamed); i++)
        if (text_is(r.type, r.type_n, unnamed[i].type) &&
            text_is(r.subtype, r.subtype_n, unnamed[i].subtype))
            return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                               "cannot read body: its Content-Type is \"%.80s\", %s", value,
                               unnamed[i].advice);
    return refuse_type(value, err);
}

enum sae_status sae_content_check(enum sae_media media, enum sae_op op, struct sae_err *err)
{
    unsigned takes = 0;
    char able[128];

    for (int m = 0; m < SAE_N_MEDIA; m++)
        takes |= (unsigned)sae_media_takes((enum sae_media)m, op) << m;
    if (takes >> media & 1)
        return SAE_OK;
    list_media(able, sizeof able, takes, " or ");
    return sae_err_set(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                       "cannot read body: its Content-Type is \"%s\", %s is asked in %s",
                       sae_codecs[media].name, sae_op_defs[op].name, able);
}

/* ---- Accept ---------------------------------------------------------------------------------- */

/* What an Accept says of a form: the q of the closest range that names it without parameters; and
 * the best of those that name it with some and can be had. */
struct wish {
    unsigned q;
    int closeness;
    unsigned typed_q;
    struct sae_media_type typed;
};
struct wishes {
    struct wish of[SAE_N_MEDIA];
    bool any;      /* a range parsed */
    bool specific; /* one without a star did */
    bool typed;    /* one names a dtype or a layout, as far as we know them */
};

/* Can it be had with these parameters, of what `can` has? */
static bool is_served(const struct range *r, enum sae_media m, unsigned can)
{
    static const unsigned needs[SAE_N_WIRE_SPARSE] = {
        [SAE_WIRE_CSR] = SAE_CAN_CSR, [SAE_WIRE_TOP] = SAE_CAN_TOP};

    return !r->has_other && !r->has_charset && !r->is_other_text && names(r, m) && can & 1u << m &&
           (!r->has_dtype || answer_dtypes(m) & 1u << r->dtype) &&
           (!r->has_sparse || (sae_codecs[m].has_sparse_forms && can & needs[r->sparse]));
}

static void read_wish(struct wish *w, const struct range *r, enum sae_media m, unsigned can)
{
    const int close = match(r, m);

    if (close > w->closeness || (close == w->closeness && close && r->q > w->q)) {
        w->closeness = close;
        w->q = r->q;
    }
    if (has_parameters(r) && r->q > w->typed_q && is_served(r, m, can)) {
        w->typed_q = r->q;
        w->typed = (struct sae_media_type){
            .media = m, .has_dtype = r->has_dtype, .dtype = r->dtype, .sparse = r->sparse};
    }
}

static void read_wishes(const char *value, unsigned can, struct wishes *w)
{
    for (const char *s = value; s; s = next_piece(s)) {
        struct range r;

        if (!read_range(s, &r))
            continue;
        w->any = true;
        w->specific |= !text_is(r.subtype, r.subtype_n, "*");
        w->typed |= has_parameters(&r) || r.has_other;
        for (int m = 0; m < SAE_N_MEDIA; m++)
            read_wish(&w->of[m], &r, (enum sae_media)m, can);
    }
}

/* Of a form, the better of what is wished without parameters and with: its q. */
static unsigned best_q(const struct wish *w)
{
    return w->typed_q > w->q ? w->typed_q : w->q;
}

/* Is `a` to be preferred to `b`: by its q, then as the request's form, then by rank? */
static bool is_before(const struct wishes *w, enum sae_media request, enum sae_rank rank,
                      enum sae_media a, enum sae_media b)
{
    const unsigned q_a = best_q(&w->of[a]), q_b = best_q(&w->of[b]);

    if (q_a != q_b)
        return q_a > q_b;
    if (a == request || b == request)
        return a == request;
    return sae_codecs[a].rank[rank] < sae_codecs[b].rank[rank];
}

/* The best of the forms in `can`. False: none is wanted. */
static bool choose(const struct wishes *w, enum sae_media request, enum sae_rank rank, unsigned can,
                   struct sae_media_type *out)
{
    enum sae_media best = SAE_MEDIA_JSON;
    bool any = false;

    for (int i = 0; i < SAE_N_MEDIA; i++) {
        enum sae_media m = (enum sae_media)i;

        if (!(can & 1u << m) || best_q(&w->of[m]) == 0)
            continue;
        if (!any || is_before(w, request, rank, m, best))
            best = m;
        any = true;
    }
    if (any)
        *out = w->of[best].typed_q > 0 && w->of[best].typed_q >= w->of[best].q
                   ? w->of[best].typed
                   : (struct sae_media_type){.media = best};
    return any;
}

/* "; octet-stream: dtype f32, f16 or bf16; ..." of the forms in `can`. */
static void list_parameters(char *dst, size_t cap, unsigned can)
{
    const char *sparse = can & SAE_CAN_TOP   ? ", layout csr or top"
                         : can & SAE_CAN_CSR ? ", layout csr (top with top_k)"
                                             : " (layout is for sparse tensors)";

    dst[0] = '\0';
    for (int m = 0; m < SAE_N_MEDIA; m++) {
        size_t len;

        if (!(can & 1u << m))
            continue;
        add_dtypes(dst, cap, "; ", (enum sae_media)m, answer_dtypes((enum sae_media)m));
        len = strlen(dst);
        if (sae_codecs[m].has_sparse_forms)
            snprintf(dst + len, cap - len, "%s", sparse);
    }
}

enum sae_status sae_accept(const char *value, enum sae_media request, unsigned can,
                           struct sae_media_type *out, struct sae_err *err)
{
    struct wishes w = {0};
    enum sae_rank rank;
    char able[128], parameters[160] = "";

    if (value)
        read_wishes(value, can, &w);
    if (!w.any)
        for (int m = 0; m < SAE_N_MEDIA; m++)
            w.of[m].q = 1000;
    rank = w.specific || sae_codecs[request].is_text ? SAE_RANK_NAMED : SAE_RANK_LEFT;
    if (choose(&w, request, rank, can, out))
        return SAE_OK;
    list_media(able, sizeof able, can, " or ");
    if (w.typed)
        list_parameters(parameters, sizeof parameters, can);
    return sae_err_set(err, SAE_E_NOT_ACCEPTABLE, "Accept",
                       "cannot answer as \"%.100s\": this answer can be %s%s", value ? value : "",
                       able, parameters);
}
