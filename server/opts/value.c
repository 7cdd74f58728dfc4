/* value.c - text to the value of an option.
 *
 * Pure functions of their arguments; called by opts.c and opts/config.c. */
#include "server/address.h"
#include "server/origin.h"
#include "server/opts/table.h"

#include "lib/scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool parse_size(const char *s, uint64_t *out)
{
    size_t n = strlen(s);
    unsigned shift = 0;
    uint64_t v;

    switch (n ? s[n - 1] : '\0') {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (!sae_scan_whole_u64(s, shift ? n - 1 : n, &v) || v > UINT64_MAX >> shift)
        return false;
    *out = v << shift;
    return true;
}

static bool parse_bool(const char *s, bool *out)
{
    if (strcmp(s, "true") == 0 || strcmp(s, "1") == 0)
        *out = true;
    else if (strcmp(s, "false") == 0 || strcmp(s, "0") == 0)
        *out = false;
    else
        return false;
    return true;
}

/* Index of s in "a|b|c". */
static bool parse_choice(const char *choices, const char *s, unsigned *out)
{
    size_t n = strlen(s);

    for (unsigned i = 0;; i++) {
        size_t len = strcspn(choices, "|");

        if (len == n && memcmp(choices, s, n) == 0) {
            *out = i;
            return true;
        }
        if (choices[len] == '\0')
            return false;
        choices += len + 1;
    }
}

/* What may be asked as Host: a name, an address with or without brackets, or *. */
static bool is_allowed_host(const char *text)
{
    size_t n = strlen(text);
    char host[64];

    if (strcmp(text, "*") == 0 || saed_is_host(text) || saed_is_ipv6(text))
        return true;
    if (text[0] != '[' || text[n - 1] != ']' || n - 2 >= sizeof host)
        return false;
    memcpy(host, text + 1, n - 2);
    host[n - 2] = '\0';
    return saed_is_ipv6(host);
}

/* "null" is what pages of files and sandboxes say. */
static bool is_allowed_origin(const char *text)
{
    struct saed_origin o;

    return strcmp(text, "*") == 0 || strcmp(text, "null") == 0 || saed_origin_parse(&o, text);
}

bool saed_kind_is_list(enum saed_opt_kind kind)
{
    return kind == SAED_KIND_LISTEN || kind == SAED_KIND_FILES || kind == SAED_KIND_HOSTS ||
           kind == SAED_KIND_ORIGINS || kind == SAED_KIND_FOLDERS;
}

bool saed_value_check(const struct saed_opt_def *def, const char *text)
{
    struct saed_address address;

    switch (def->kind) {
    case SAED_KIND_LISTEN:
        return saed_address_parse(&address, text);
    case SAED_KIND_FILES:
        return text[0] != '\0';
    case SAED_KIND_HOSTS:
        return is_allowed_host(text);
    case SAED_KIND_ORIGINS:
        return is_allowed_origin(text);
    case SAED_KIND_FOLDERS:
        return text[0] != '\0';
    default:
        return false;
    }
}

bool saed_value_set(struct saed_opts *o, const struct saed_opt_def *def, const char *text)
{
    void *field = (char *)o + def->field;
    uint64_t v = 0; /* gcc does not see that it is set, with SAN=thread */
    unsigned choice;

    switch (def->kind) {
    case SAED_KIND_INT:
    case SAED_KIND_SIZE:
        if (def->kind == SAED_KIND_INT ? !sae_scan_whole_u64(text, strlen(text), &v)
                                       : !parse_size(text, &v))
            return false;
        if (v < def->min || v > def->max)
            return false;
        *(uint64_t *)field = v;
        return true;
    case SAED_KIND_BOOL:
        return parse_bool(text, field);
    case SAED_KIND_CHOICE:
        if (!parse_choice(def->metavar, text, &choice))
            return false;
        memcpy(field, &choice, sizeof choice); /* an enum of some kind, see opts.c */
        return true;
    case SAED_KIND_LISTEN:
    case SAED_KIND_FILES:
    case SAED_KIND_HOSTS:
    case SAED_KIND_ORIGINS:
    case SAED_KIND_FOLDERS:
        break; /* lists: saed_value_check */
    }
    return false;
}

/* 1099511627776 as "1024G": the largest suffix that leaves no rest. */
static void print_size(uint64_t v, char *out, size_t cap)
{
    static const char *const suffix[] = {"", "K", "M", "G"};
    unsigned i = 0;

    while (i < 3 && v && v % 1024 == 0) {
        v /= 1024;
        i++;
    }
    snprintf(out, cap, "%" PRIu64 "%s", v, suffix[i]);
}

void saed_value_want(const struct saed_opt_def *def, char *out, size_t cap)
{
    char lo[32], hi[32];

    switch (def->kind) {
    case SAED_KIND_INT:
        snprintf(out, cap, "a whole number from %" PRIu64 " to %" PRIu64, def->min, def->max);
        break;
    case SAED_KIND_SIZE:
        print_size(def->min, lo, sizeof lo);
        print_size(def->max, hi, sizeof hi);
        snprintf(out, cap, "bytes from %s to %s, K, M and G (1024s) allowed", lo, hi);
        break;
    case SAED_KIND_BOOL:
        snprintf(out, cap, "true or false");
        break;
    case SAED_KIND_CHOICE:
        snprintf(out, cap, "one of %s", def->metavar);
        break;
    case SAED_KIND_LISTEN:
        snprintf(out, cap,
                 "HOST:PORT with a port from 0 to 65535, and an IPv6 address in brackets; or "
                 "unix:PATH[:mode]");
        break;
    case SAED_KIND_FILES:
        snprintf(out, cap, "the path of a file");
        break;
    case SAED_KIND_HOSTS:
        snprintf(out, cap, "a host without a port, or * for any");
        break;
    case SAED_KIND_ORIGINS:
        snprintf(out, cap,
                 "a whole SCHEME://HOST[:PORT] of at most %d bytes, null, or * alone for any",
                 SAED_ORIGIN_MAX);
        break;
    case SAED_KIND_FOLDERS:
        snprintf(out, cap, "a folder");
        break;
    }
}
