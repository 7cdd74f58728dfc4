/* address.c - see address.h. */
#include "server/address.h"

#include "lib/scan.h"
#include "server/origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

bool saed_is_ipv6(const char *host)
{
    size_t n = strcspn(host, "%");
    char addr[64];
    struct in6_addr a;

    if (n >= sizeof addr || (host[n] == '%' && host[n + 1] == '\0'))
        return false;
    memcpy(addr, host, n);
    addr[n] = '\0';
    return inet_pton(AF_INET6, addr, &a) == 1;
}

/* All digits and dots but no address (300.1.1.1, or 127.1 which resolvers read in their own way) is
 * refused. */
bool saed_is_host(const char *host)
{
    bool numeric = true;
    struct in_addr a;

    if (host[0] == '\0' || host[0] == '-' || host[0] == '.' || strlen(host) > 253)
        return false;
    for (const char *p = host; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
            return false;
        if (!sae_is_digit(*p) && *p != '.')
            numeric = false;
    }
    return !numeric || inet_pton(AF_INET, host, &a) == 1;
}

bool saed_host_is_loopback(const char *host)
{
    return saed_authority_is_loopback(&(struct saed_authority){host, strlen(host), 0}, false);
}

/* HOST:PORT or [IPV6]:PORT. */
static bool parse_host_port(struct saed_address *a, const char *s)
{
    const char *colon = strrchr(s, ':');
    bool brackets = s[0] == '[';
    size_t n;
    uint64_t port;

    if (!colon || !sae_scan_whole_u64(colon + 1, strlen(colon + 1), &port) || port > 65535)
        return false;
    n = (size_t)(colon - s);
    if (brackets) {
        if (n < 2 || s[n - 1] != ']')
            return false;
        s++;
        n -= 2;
    }
    if (n >= sizeof a->host)
        return false;
    memcpy(a->host, s, n);
    a->host[n] = '\0';
    a->port = (uint16_t)port;
    a->is_loopback = saed_host_is_loopback(a->host);
    return brackets ? saed_is_ipv6(a->host) : saed_is_host(a->host);
}

/* Three or four octal digits; 0: it is none. */
static unsigned parse_mode(const char *s)
{
    size_t n = strspn(s, "01234567");
    unsigned mode = 0;

    if ((n != 3 && n != 4) || s[n] != '\0')
        return 0;
    for (; *s; s++)
        mode = mode << 3 | (unsigned)(*s - '0');
    return mode <= 0777 ? mode : 0;
}

/* PATH[:mode]; a colon that no mode stands behind is the path's own. */
static bool parse_path(struct saed_address *a, const char *s)
{
    const char *colon = strrchr(s, ':');
    size_t n = strlen(s);

    if (colon && parse_mode(colon + 1)) {
        a->mode = parse_mode(colon + 1);
        a->has_mode = true;
        n = (size_t)(colon - s);
    }
    if (n == 0 || n >= sizeof a->path || s[n - 1] == '/')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    memcpy(a->path, s, n);
    return true;
}

bool saed_address_parse(struct saed_address *out, const char *text)
{
    struct saed_address a = {.passed_fd = -1};
    bool ok = strncmp(text, "unix:", 5) == 0 ? parse_path(&a, text + 5) : parse_host_port(&a, text);

    if (ok)
        *out = a;
    return ok;
}

void saed_address_print(const struct saed_address *a, char out[SAED_ADDRESS_TEXT])
{
    bool v6 = strchr(a->host, ':') != NULL;

    if (a->host[0])
        snprintf(out, SAED_ADDRESS_TEXT, "http://%s%s%s:%u", v6 ? "[" : "", a->host, v6 ? "]" : "",
                 a->port);
    else
        snprintf(out, SAED_ADDRESS_TEXT, "unix:%s", a->path);
}
