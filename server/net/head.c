/* head.c - see head.h. Recipe and reasons: RFC 9112 sections 2.2, 3, 5, 6.1 to 6.3. */
#include "server/net/head.h"

#include "lib/scan.h"

#include <stddef.h>

static void fault(struct saed_head *h, const char *what)
{
    if (!h->fault)
        h->fault = what;
}

/* RFC 9110 5.6.2 */
static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool alnum = sae_is_digit(s[i]) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return n > 0;
}

bool saed_path_decode(char *dst, const char *path, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)path[i];

        if (c == '%') {
            c = sae_scan_percent(path + i, path + n);
            if (c <= 0)
                return false;
            if (c == '/')
                c = '\x01';
            i += 2;
        }
        *dst++ = (char)c;
    }
    *dst = '\0';
    return true;
}

/* HOST[:PORT], of Host or of a target. */
static bool is_authority(struct saed_value v)
{
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < 0x21 || v.p[i] > 0x7e || strchr("/\\,@?#<>\"{}|^`", v.p[i]))
            return false;
    return true;
}

static void check_target(struct saed_head *h, const char *target)
{
    const char *end = target + strlen(target);

    for (const char *p = target; *p; p++) {
        if (*p < 0x21 || *p > 0x7e)
            fault(h, "the target has a byte that is not visible ASCII");
        if (p[0] == '%' && p[1] == '0' && p[2] == '0')
            fault(h, "the target has a %00");
    }
    for (const char *p = target; *p && *p != '?'; p++)
        if (*p == '%' && sae_scan_percent(p, end) < 0)
            fault(h, "the path has a '%' without two hexadecimal digits");
}

/* Past scheme and authority of an absolute-form target, which proxies' clients send. */
static const char *skip_authority(struct saed_head *h, const char *target)
{
    static const char scheme[] = "http://";
    struct saed_value authority = {target + sizeof scheme - 1, 0};

    if (strncasecmp(target, scheme, sizeof scheme - 1) != 0)
        return target;
    authority.n = strcspn(authority.p, "/?");
    if (authority.n == 0 || authority.p[0] == ':' || !is_authority(authority))
        fault(h, "the target's host is no host and port");
    h->has_authority = true;
    h->host = authority;
    return authority.p + authority.n;
}

static void take_target(struct saed_head *h, const char *target)
{
    const char *path = skip_authority(h, target);
    bool is_options = h->method == SAED_METHOD_OPTIONS;
    size_t n = strcspn(path, "?");

    h->query = path[n] == '?' ? path + n + 1 : NULL;
    h->path = (struct saed_value){path, n};
    if (h->has_authority && n == 0)
        h->path = (struct saed_value){is_options && !h->query ? "*" : "/", 1};
    else if (path[0] != '/' && !(is_options && !h->has_authority && strcmp(path, "*") == 0))
        fault(h, "the target does not begin with '/'");
}

void saed_head_begin(struct saed_head *h, const char *uri, const char *method, const char *target,
                     const char *version)
{
    size_t n = strlen(method);

    memset(h, 0, sizeof *h);
    h->by_layout = uri != NULL;
    if (!is_token(method, n))
        fault(h, "the method is no token");
    if (strcmp(method, "GET") == 0)
        h->method = SAED_METHOD_GET;
    else if (strcmp(method, "HEAD") == 0)
        h->method = SAED_METHOD_HEAD;
    else if (strcmp(method, "POST") == 0)
        h->method = SAED_METHOD_POST;
    else if (strcmp(method, "OPTIONS") == 0)
        h->method = SAED_METHOD_OPTIONS;
    else
        h->method = SAED_METHOD_OTHER;
    check_target(h, target);
    take_target(h, target);
    if (strlen(version) != 8 || memcmp(version, "HTTP/1.", 7) != 0 || !sae_is_digit(version[7]))
        fault(h, "the version is not HTTP/1.0 or HTTP/1.1");
    else
        h->is_http_1_0 = version[7] == '0';
    if (h->fault || !h->by_layout)
        return;
    if (method + n + 1 != uri || uri + strlen(target) + 1 != version)
        fault(h, "the request line is not method, blank, target, blank, version");
    h->next = version + 8 + 2;
}

static void check_host(struct saed_head *h, struct saed_value v)
{
    if (++h->n_host > 1)
        fault(h, "Host is sent twice");
    if (!is_authority(v))
        fault(h, "Host is no host and port");
    if (!h->has_authority)
        h->host = v;
}

static void check_length(struct saed_head *h, struct saed_value v)
{
    const char *end;
    bool fits;

    if (++h->n_length > 1)
        fault(h, "Content-Length is sent twice");
    end = sae_scan_u64(v.p, v.p + v.n, &h->length, &fits);
    if (!fits)
        fault(h, "Content-Length is larger than 64 bits hold");
    if (!end || end < v.p + v.n)
        fault(h, "Content-Length is no number");
    h->has_length = true;
}

static void check_transfer(struct saed_head *h, struct saed_value v)
{
    if (++h->n_transfer > 1)
        fault(h, "Transfer-Encoding is sent twice");
    if (v.n != 7 || strncasecmp(v.p, "chunked", 7) != 0)
        fault(h, "Transfer-Encoding is not chunked");
    if (h->is_http_1_0)
        fault(h, "Transfer-Encoding is not for HTTP/1.0");
    if (h->by_layout && v.p[v.n] != '\0') /* 0.9.75 takes all that comes for the body */
        fault(h, "Transfer-Encoding has blanks behind it");
    h->chunked = true;
}

/* "identity", once or more, as a list may have it. */
static bool is_identity(struct saed_value v)
{
    static const char identity[] = "identity";
    const size_t n = sizeof identity - 1;

    for (size_t i = 0; i < v.n;) {
        if (v.p[i] == ' ' || v.p[i] == '\t' || v.p[i] == ',') {
            i++;
            continue;
        }
        if (v.n - i < n || strncasecmp(v.p + i, identity, n) != 0)
            return false;
        i += n;
        if (i < v.n && v.p[i] != ' ' && v.p[i] != '\t' && v.p[i] != ',')
            return false;
    }
    return true;
}

/* The options that matter of a list. */
static void take_connection(struct saed_head *h, struct saed_value v)
{
    for (size_t i = 0; i < v.n;) {
        size_t end = i;

        while (end < v.n && v.p[end] != ',' && v.p[end] != ' ' && v.p[end] != '\t')
            end++;
        h->says_close |= end - i == 5 && strncasecmp(v.p + i, "close", 5) == 0;
        h->says_keep_alive |= end - i == 10 && strncasecmp(v.p + i, "keep-alive", 10) == 0;
        i = end + 1;
    }
}

/* True when name and value stand where the chain says, with nothing between but colon and blanks.
 */
static bool chain_holds(struct saed_head *h, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    if (!h->next || name != h->next)
        return false;
    if ((uintptr_t)value <= (uintptr_t)(name + name_len))
        return false;
    for (const char *p = name + name_len + 1; p < value; p++)
        if (*p != ' ' && *p != '\t')
            return false;
    if (value[value_len] != '\0' || value[value_len + 1] != '\0')
        return false;
    h->next = value + value_len + 2;
    return true;
}

/* Fields that are taken as they are, and may be sent once. */
static bool take_once(struct saed_head *h, const char *name, size_t n, struct saed_value v)
{
#define ONCE(text, field)                                              \
    {                                                                  \
        text, text " is sent twice", offsetof(struct saed_head, field) \
    }
    static const struct {
        const char *name, *twice;
        size_t field;
    } fields[] = {
        ONCE("Content-Type", content_type),   ONCE("Saed-Shape", shape),
        ONCE("Saed-Request-Id", request_id),  ONCE("Origin", origin),
        ONCE("Authorization", authorization), ONCE("Access-Control-Request-Method", asks_method),
    };
#undef ONCE
    for (size_t i = 0; i < SAE_COUNTOF(fields); i++) {
        struct saed_value *to = (struct saed_value *)(void *)((char *)h + fields[i].field);

        if (!saed_field_is(name, n, fields[i].name))
            continue;
        if (to->p)
            fault(h, fields[i].twice);
        *to = v;
        return true;
    }
    return false;
}

/* A field that is none of those that are looked at is passed over. */
static void take_field(struct saed_head *h, const char *name, size_t n, struct saed_value v)
{
    if (take_once(h, name, n, v))
        return;
    if (saed_field_is(name, n, "Host"))
        check_host(h, v);
    else if (saed_field_is(name, n, "Content-Length"))
        check_length(h, v);
    else if (saed_field_is(name, n, "Transfer-Encoding"))
        check_transfer(h, v);
    else if (saed_field_is(name, n, "Connection"))
        take_connection(h, v);
    else if (saed_field_is(name, n, "Content-Encoding")) {
        if (!h->content_encoding.p && !is_identity(v))
            h->content_encoding = v;
    } else if (saed_field_is(name, n, "Accept-Encoding")) {
        if (h->n_accept_encoding < SAE_COUNTOF(h->accept_encoding))
            h->accept_encoding[h->n_accept_encoding++] = v;
    } else if (saed_field_is(name, n, "traceparent"))
        h->traceparent = h->n_traceparent++ ? (struct saed_value){NULL, 0} : v;
    else if (saed_field_is(name, n, "Accept")) {
        if (h->n_accept == SAE_COUNTOF(h->accept))
            fault(h, "Accept is sent more than 4 times");
        else
            h->accept[h->n_accept++] = v;
    }
}

void saed_head_field(struct saed_head *h, const char *name, size_t name_len, const char *value,
                     size_t value_len)
{
    struct saed_value v = {value, value_len};

    if (h->fault)
        return;
    if (!value || (h->by_layout && !chain_holds(h, name, name_len, value, value_len))) {
        fault(h, "a line is not name, colon, value, CRLF");
        return;
    }
    if (!is_token(name, name_len))
        fault(h, "a field's name is no token");
    for (size_t i = 0; i < value_len; i++)
        if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
            fault(h, "a field's value has a control byte");
    while (v.n > 0 && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
        v.n--;
    take_field(h, name, name_len, v);
}

enum sae_status saed_head_end(struct saed_head *h, const char *end, struct sae_err *err)
{
    if (!h->fault) {
        if (h->by_layout && h->next + 2 != end)
            fault(h, "a line is not name, colon, value, CRLF");
        if (h->n_host == 0 && !h->has_authority && !h->is_http_1_0)
            fault(h, "Host is missing");
        if (h->chunked && h->has_length)
            fault(h, "both Content-Length and Transfer-Encoding are sent");
        for (size_t i = 0; h->request_id.p && i < h->request_id.n; i++)
            if (h->request_id.p[i] < 0x21 || h->request_id.p[i] > 0x7e)
                fault(h, "Saed-Request-Id is not 1 to 128 visible ASCII characters");
        if (h->request_id.p && (h->request_id.n < 1 || h->request_id.n > 128))
            fault(h, "Saed-Request-Id is not 1 to 128 visible ASCII characters");
    }
    h->keeps_alive = !h->says_close && (!h->is_http_1_0 || h->says_keep_alive);
    if (h->fault)
        return sae_err_set(err, SAE_E_BAD_REQUEST, "", "cannot read request head: %s", h->fault);
    return SAE_OK;
}
