/* json_scan.c - strings and the grammar of a whole JSON text. See json_scan.h. */
#include "lib/format/json_scan.h"

#include <stdio.h>
#include <string.h>

static bool set_fault(struct sae_json_fault *fault, const char *what, const char *at)
{
    fault->what = what;
    fault->at = at;
    return false;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* Where a decoded string goes. NULL: nowhere. */
struct sink {
    char *dst;
    size_t n, cap;
    bool cut;
};

static void add_text(struct sink *text, const char *p, unsigned n)
{
    if (!text || text->cut)
        return;
    if (n > text->cap - text->n) {
        text->cut = true;
        return;
    }
    memcpy(text->dst + text->n, p, n);
    text->n += n;
}

static void add_code_point(struct sink *text, uint32_t c)
{
    char b[4];

    if (c < 0x80) {
        b[0] = (char)c;
        add_text(text, b, 1);
    } else if (c < 0x800) {
        b[0] = (char)(0xc0 | c >> 6);
        b[1] = (char)(0x80 | (c & 0x3f));
        add_text(text, b, 2);
    } else if (c < 0x10000) {
        b[0] = (char)(0xe0 | c >> 12);
        b[1] = (char)(0x80 | (c >> 6 & 0x3f));
        b[2] = (char)(0x80 | (c & 0x3f));
        add_text(text, b, 3);
    } else {
        b[0] = (char)(0xf0 | c >> 18);
        b[1] = (char)(0x80 | (c >> 12 & 0x3f));
        b[2] = (char)(0x80 | (c >> 6 & 0x3f));
        b[3] = (char)(0x80 | (c & 0x3f));
        add_text(text, b, 4);
    }
}

/* The four hex digits at p; -1: not four of them. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;

        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* \uXXXX or a surrogate pair of them; p is at the backslash. */
static const char *scan_unicode(const char *p, const char *end, struct sink *text,
                                struct sae_json_fault *fault)
{
    int32_t c = hex4(p + 2, end), low = -1;

    if (c < 0) {
        set_fault(fault, "expected four hex digits in an escape", p);
        return NULL;
    }
    if (c == 0) {
        set_fault(fault, "\\u0000 is not allowed", p);
        return NULL;
    }
    if (c >= 0xd800 && c <= 0xdbff) {
        if (end - p >= 12 && p[6] == '\\' && p[7] == 'u')
            low = hex4(p + 8, end);
        if (low < 0xdc00 || low > 0xdfff) {
            set_fault(fault, "expected the second half of a surrogate pair", p);
            return NULL;
        }
        add_code_point(text, 0x10000 + (((uint32_t)c - 0xd800) << 10) + ((uint32_t)low - 0xdc00));
        return p + 12;
    }
    if (c >= 0xdc00 && c <= 0xdfff) {
        set_fault(fault, "the second half of a surrogate pair stands alone", p);
        return NULL;
    }
    add_code_point(text, (uint32_t)c);
    return p + 6;
}

static const char *scan_escape(const char *p, const char *end, struct sink *text,
                               struct sae_json_fault *fault)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    const char *which;

    if (end - p < 2) {
        set_fault(fault, "expected the end of a string", end);
        return NULL;
    }
    if (p[1] == 'u')
        return scan_unicode(p, end, text, fault);
    which = p[1] ? strchr(names, p[1]) : NULL;
    if (!which) {
        set_fault(fault, "there is no such escape", p);
        return NULL;
    }
    add_text(text, bytes + (which - names), 1);
    return p + 2;
}

static const char *scan_string(const char *p, const char *end, struct sink *text,
                               struct sae_json_fault *fault)
{
    while (p && p < end && *p != '"') {
        unsigned n;

        if (*p == '\\') {
            p = scan_escape(p, end, text, fault);
            continue;
        }
        n = sae_utf8_len(p, end);
        if (n == 0 || (unsigned char)*p < 0x20) {
            set_fault(fault, n ? "a control byte in a string" : "a string is no valid UTF-8", p);
            return NULL;
        }
        add_text(text, p, n);
        p += n;
    }
    if (p == end) {
        set_fault(fault, "expected the end of a string", end);
        return NULL;
    }
    return p ? p + 1 : NULL;
}

const char *sae_json_scan_string(const char *p, const char *end, struct sae_json_text *text,
                                 struct sae_json_fault *fault)
{
    struct sink sink;

    if (!text)
        return scan_string(p, end, NULL, fault);
    sink = (struct sink){.dst = text->s, .cap = sizeof text->s};
    p = scan_string(p, end, &sink, fault);
    text->n = sink.n;
    text->cut = sink.cut;
    return p;
}

const char *sae_json_copy_string(const char *p, const char *end, char *dst, size_t *n,
                                 struct sae_json_fault *fault)
{
    struct sink sink = {.dst = dst, .cap = SIZE_MAX};

    p = scan_string(p, end, &sink, fault);
    *n = sink.n;
    return p;
}

/* ---- integers -------------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *sae_json_scan_uint(const char *p, const char *end, uint64_t *out)
{
    uint64_t v = 0;

    if (p == end || !is_digit(*p))
        return NULL;
    if (*p == '0')
        p++; /* 01 is no number: the next byte will not be the comma that is wanted */
    else
        for (; p < end && is_digit(*p); p++)
            if (__builtin_mul_overflow(v, 10, &v) ||
                __builtin_add_overflow(v, (unsigned)(*p - '0'), &v))
                v = UINT64_MAX;
    if (p < end && (*p == '.' || *p == 'e' || *p == 'E'))
        return NULL;
    *out = v;
    return p;
}

/* ---- values, and the whole text
 * -------------------------------------------------------------------------- */

static const struct sae_json_limits plain = {SAE_JSON_MAX_DEPTH, "nested deeper than 2048",
                                             UINT64_MAX, NULL, false};

/* Where we are: `depth` open lists and objects, a bit for each that is an object. */
struct grammar {
    const struct sae_json_limits *limits;
    const char *p, *end;
    uint64_t n_values;
    unsigned depth;
    uint64_t objects[SAE_JSON_MAX_DEPTH / 64 + 1];
    struct sae_json_fault *fault;
};

static bool in_object(const struct grammar *g)
{
    return g->objects[g->depth / 64] >> (g->depth % 64) & 1;
}

static void push(struct grammar *g, bool object)
{
    uint64_t bit;

    g->depth++;
    g->p++;
    bit = UINT64_C(1) << (g->depth % 64);
    g->objects[g->depth / 64] = (g->objects[g->depth / 64] & ~bit) | (object ? bit : 0);
}

/* The next byte that is no blank, or -1 at the end. */
static int peek(struct grammar *g)
{
    g->p = sae_json_blanks(g->p, g->end);
    return g->p < g->end ? (unsigned char)*g->p : -1;
}

static bool word(struct grammar *g, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(g->end - g->p) < n || memcmp(g->p, w, n) != 0)
        return set_fault(g->fault, "expected a value", g->p);
    g->p += n;
    return true;
}

/* The first byte at or behind p that is no digit, at least one is wanted; NULL with *fault filled.
 */
static const char *digits(const char *p, const char *end, struct sae_json_fault *fault)
{
    if (p == end || !is_digit(*p)) {
        set_fault(fault, "expected a digit", p);
        return NULL;
    }
    while (p < end && is_digit(*p))
        p++;
    return p;
}

const char *sae_json_scan_number(const char *p, const char *end, struct sae_json_fault *fault)
{
    p += p < end && *p == '-';
    p = p < end && *p == '0' ? p + 1 : digits(p, end, fault);
    if (p && p < end && *p == '.')
        p = digits(p + 1, end, fault);
    if (p && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        p = digits(p, end, fault);
    }
    return p;
}

static bool number(struct grammar *g)
{
    const char *p = sae_json_scan_number(g->p, g->end, g->fault);

    if (p)
        g->p = p;
    return p != NULL;
}

static bool string(struct grammar *g)
{
    const char *p = sae_json_scan_string(g->p + 1, g->end, NULL, g->fault);

    if (p)
        g->p = p;
    return p != NULL;
}

/* "key": up to where its value begins. */
static bool key(struct grammar *g)
{
    if (peek(g) != '"')
        return set_fault(g->fault, "expected a key in quotes", g->p);
    if (!string(g))
        return false;
    if (peek(g) != ':')
        return set_fault(g->fault, "expected ':'", g->p);
    g->p++;
    return true;
}

/* A value, or the beginning of one: a list or object that is not empty is left open, before its
 * first value. *closed tells which. */
static bool value(struct grammar *g, bool *closed)
{
    int c = peek(g);

    *closed = true;
    if (g->depth + 1 > g->limits->max_depth)
        return set_fault(g->fault, g->limits->too_deep, g->p);
    if (++g->n_values > g->limits->max_values)
        return set_fault(g->fault, g->limits->too_many, g->p);
    if (g->limits->python && (c == 'N' || c == 'I'))
        return word(g, c == 'N' ? "NaN" : "Infinity");
    if (g->limits->python && c == '-' && g->end - g->p > 1 && g->p[1] == 'I')
        return word(g, "-Infinity");
    switch (c) {
    case '"':
        return string(g);
    case 't':
        return word(g, "true");
    case 'f':
        return word(g, "false");
    case 'n':
        return word(g, "null");
    case '[':
    case '{':
        push(g, c == '{');
        if (peek(g) == (c == '{' ? '}' : ']')) {
            g->p++;
            g->depth--;
            return true;
        }
        *closed = false;
        return c == '[' || key(g);
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return number(g);
        return set_fault(g->fault, "expected a value", g->p);
    }
}

static const char *scan_value(const struct sae_json_limits *limits, const char *p, const char *end,
                              struct sae_json_fault *fault)
{
    struct grammar g = {.limits = limits, .p = p, .end = end, .fault = fault};
    bool closed;

    do {
        if (!value(&g, &closed))
            return NULL;
        /* Behind a value: close what ends here, go on to the next. */
        while (closed && g.depth > 0) {
            bool object = in_object(&g);
            int c = peek(&g);

            if (c == ',') {
                g.p++;
                if (object && !key(&g))
                    return NULL;
                break;
            }
            if (c != (object ? '}' : ']')) {
                set_fault(fault, object ? "expected ',' or '}'" : "expected ',' or ']'", g.p);
                return NULL;
            }
            g.p++;
            g.depth--;
        }
    } while (g.depth > 0);
    return g.p;
}

const char *sae_json_scan_value(const char *p, const char *end, struct sae_json_fault *fault)
{
    return scan_value(&plain, p, end, fault);
}

bool sae_json_check_by(const struct sae_json_limits *limits, const char *text, size_t n,
                       struct sae_json_fault *fault)
{
    const char *end = text + n, *p = scan_value(limits, text, end, fault);

    if (!p)
        return false;
    p = sae_json_blanks(p, end);
    return p == end || set_fault(fault, "expected the end of the text", p);
}

bool sae_json_check(const char *text, size_t n, struct sae_json_fault *fault)
{
    return sae_json_check_by(&plain, text, n, fault);
}

struct sae_json_found sae_json_found_at(const struct sae_json_fault *fault, const char *end)
{
    struct sae_json_found found = {"the end"};

    if (fault->at == end)
        return found;
    if (*fault->at > ' ' && *fault->at < 0x7f)
        snprintf(found.s, sizeof found.s, "'%c'", *fault->at);
    else if (*fault->at == '\0')
        snprintf(found.s, sizeof found.s, "a zero byte");
    else
        snprintf(found.s, sizeof found.s, "byte 0x%02x", (unsigned char)*fault->at);
    return found;
}
