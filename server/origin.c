/* origin.c - see origin.h. */
#include "server/origin.h"

#include "lib/scan.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

bool saed_authority_parse(struct saed_authority *out, const char *text)
{
    const char *host = text, *after;
    struct saed_authority a = {.port = 0};
    uint64_t port = 0;

    if (text[0] == '[') {
        after = strchr(text, ']');
        if (!after)
            return false;
        host = text + 1;
        a.n_host = (size_t)(after - host);
        after++;
    } else {
        a.n_host = strcspn(text, ":");
        after = text + a.n_host;
        if (a.n_host > 0 && host[a.n_host - 1] == '.')
            a.n_host--;
    }
    if (a.n_host == 0)
        return false;
    if (after[0] == ':') {
        if (!sae_scan_whole_u64(after + 1, strlen(after + 1), &port) || port < 1 || port > 65535)
            return false;
    } else if (after[0] != '\0') {
        return false;
    }
    a.host = host;
    a.port = (unsigned)port;
    *out = a;
    return true;
}

bool saed_origin_parse(struct saed_origin *out, const char *text)
{
    const char *colon = strstr(text, "://");
    struct saed_origin o = {.scheme = text};

    if (!colon || colon == text || strlen(text) > SAED_ORIGIN_MAX)
        return false;
    for (const char *p = text; *p; p++)
        if (*p < 0x21 || *p > 0x7e || strchr("@?#\\,;\"'<>*", *p) || (*p == '/' && p > colon + 2))
            return false;
    o.n_scheme = (size_t)(colon - text);
    if (!saed_authority_parse(&o.at, colon + 3))
        return false;
    *out = o;
    return true;
}

static bool same_text(const char *a, size_t n_a, const char *b, size_t n_b)
{
    return n_a == n_b && strncasecmp(a, b, n_a) == 0;
}

bool saed_authority_has_host(const struct saed_authority *a, const char *host)
{
    struct saed_authority b;
    size_t n = strlen(host);

    if (saed_authority_parse(&b, host)) /* brackets, and a dot at the end, say nothing */
        return same_text(a->host, a->n_host, b.host, b.n_host);
    return same_text(a->host, a->n_host, host, n); /* IPv6 without brackets */
}

/* The port that goes without saying; 0: none. */
static unsigned usual_port(const struct saed_origin *o)
{
    if (same_text(o->scheme, o->n_scheme, "http", 4))
        return 80;
    return same_text(o->scheme, o->n_scheme, "https", 5) ? 443 : 0;
}

bool saed_origin_is_at(const struct saed_origin *o, const struct saed_authority *a)
{
    unsigned usual = usual_port(o), mine = o->at.port ? o->at.port : usual;

    return same_text(o->at.host, o->at.n_host, a->host, a->n_host) &&
           mine == (a->port ? a->port : usual);
}

bool saed_origin_equals(const struct saed_origin *o, const struct saed_origin *p)
{
    return same_text(o->scheme, o->n_scheme, p->scheme, p->n_scheme) &&
           saed_origin_is_at(o, &p->at);
}

/* The name is `name`, or ends in it behind a dot. */
static bool is_name(const struct saed_authority *a, const char *name, bool below)
{
    size_t n = strlen(name), from = a->n_host - n;

    if (a->n_host < n || strncasecmp(a->host + from, name, n) != 0)
        return false;
    return from == 0 || (below && from > 1 && a->host[from - 1] == '.');
}

bool saed_authority_is_loopback(const struct saed_authority *a, bool below)
{
    struct in_addr a4;
    struct in6_addr a6;
    char host[64];

    if (is_name(a, "localhost", below))
        return true;
    if (a->n_host >= sizeof host)
        return false;
    memcpy(host, a->host, a->n_host);
    host[a->n_host] = '\0';
    if (inet_pton(AF_INET, host, &a4) == 1)
        return ntohl(a4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &a6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&a6) || (IN6_IS_ADDR_V4MAPPED(&a6) && a6.s6_addr[12] == 127);
}
