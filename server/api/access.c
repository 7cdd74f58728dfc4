/* access.c - see access.h. */
#include "server/api/access.h"

#include "server/origin.h"

#include <string.h>
#include <strings.h>

/* What a page may send once it may call, and for how long it need not ask again. */
#define METHODS "GET, HEAD, POST, OPTIONS"
#define HEADERS                                                                            \
    "Accept, Authorization, Content-Encoding, Content-Type, Saed-Request-Id, Saed-Shape, " \
    "traceparent, tracestate"
#define MAX_AGE "600"

static enum sae_status check_host(const struct saed_access *a, const struct saed_exchange *x,
                                  struct sae_err *err)
{
    const struct saed_list *allowed = &a->opts->allow_host;
    struct saed_authority host;
    bool is_host;

    /* No browser leaves it out. */
    if (a->keys || !x->is_of_loopback || !x->host || !x->host[0])
        return SAE_OK;
    is_host = saed_authority_parse(&host, x->host);
    if (is_host && saed_authority_is_loopback(&host, true))
        return SAE_OK;
    for (size_t i = 0; i < allowed->n; i++)
        if (strcmp(allowed->items[i], "*") == 0 ||
            (is_host && saed_authority_has_host(&host, allowed->items[i])))
            return SAE_OK;
    return sae_err_option(err, SAE_E_FORBIDDEN, "--allow-host",
                          "cannot answer as host \"%.100s\": without keys saed answers on loopback "
                          "as localhost alone; a proxy's name can be added by --allow-host",
                          x->host);
}

/* The page is of the very host and port that it calls. */
static bool is_own(const struct saed_exchange *x)
{
    struct saed_origin origin;
    struct saed_authority host;

    return x->host && saed_origin_parse(&origin, x->origin) &&
           saed_authority_parse(&host, x->host) && saed_origin_is_at(&origin, &host);
}

/* What answers to it say of who may read them; NULL: it is not listed. */
static const char *listed(const struct saed_access *a, const char *origin)
{
    const struct saed_list *allowed = &a->opts->cors_allow_origin;
    struct saed_origin o, p;
    bool is_origin = saed_origin_parse(&o, origin);

    for (size_t i = 0; i < allowed->n; i++) {
        const char *item = allowed->items[i];

        if (strcmp(item, "*") == 0)
            return item;
        if (is_origin ? saed_origin_parse(&p, item) && saed_origin_equals(&o, &p)
                      : strcmp(origin, "null") == 0 && strcmp(item, origin) == 0)
            return origin;
    }
    return NULL;
}

static enum sae_status check_origin(const struct saed_access *a, struct saed_exchange *x,
                                    struct sae_err *err)
{
    if (!x->origin)
        return SAE_OK;
    x->readable_by = listed(a, x->origin);
    if (x->readable_by || is_own(x))
        return SAE_OK;
    return sae_err_option(
        err, SAE_E_FORBIDDEN, "--cors-allow-origin",
        "cannot answer a page of origin \"%.100s\": it is not of the host and port "
        "that it calls (\"%.100s\"), and not listed by --cors-allow-origin",
        x->origin, x->host ? x->host : "");
}

/* The key of "Bearer KEY"; NULL: it is another scheme's, or none. */
static const char *bearer(const char *authorization)
{
    static const char scheme[] = "Bearer";
    const size_t n = sizeof scheme - 1;

    if (!authorization || strncasecmp(authorization, scheme, n) != 0 || authorization[n] != ' ')
        return NULL;
    authorization += n;
    return authorization + strspn(authorization, " ");
}

static enum sae_status check_key(const struct saed_access *a, struct saed_exchange *x,
                                 struct sae_err *err)
{
    const char *key = bearer(x->authorization);

    _Static_assert(sizeof x->client == SAED_KEY_NAME_MAX + 1, "a key's name fits");
    if (key && saed_keys_find(a->keys, key, x->client))
        return SAE_OK;
    saed_http_header(x, "WWW-Authenticate", "Bearer");
    return sae_err_set(err, SAE_E_UNAUTHORIZED, "Authorization", "cannot answer without a key: %s",
                       key ? "the one that was sent is not known"
                           : "want \"Bearer KEY\", with one of --api-key-file");
}

enum sae_status saed_access_init(struct saed_access *a, const struct saed_opts *opts,
                                 struct sae_err *err)
{
    a->opts = opts;
    if (opts->api_key_file.n > 0)
        return saed_keys_create(&a->keys, &opts->api_key_file, err);
    return SAE_OK;
}

void saed_access_fini(struct saed_access *a)
{
    saed_keys_free(a->keys);
}

enum sae_status saed_access_check(const struct saed_access *a, struct saed_exchange *x,
                                  bool is_open, struct sae_err *err)
{
    enum sae_status st = check_host(a, x, err);

    if (st == SAE_OK)
        st = check_origin(a, x, err);
    if (st == SAE_OK && a->keys && !is_open && !saed_access_is_preflight(x))
        st = check_key(a, x, err);
    return st;
}

bool saed_access_is_preflight(const struct saed_exchange *x)
{
    return x->readable_by && x->method == SAED_METHOD_OPTIONS && x->asks_method;
}

void saed_access_allow(struct saed_exchange *x)
{
    saed_http_header(x, "Access-Control-Allow-Methods", METHODS);
    saed_http_header(x, "Access-Control-Allow-Headers", HEADERS);
    saed_http_header(x, "Access-Control-Max-Age", MAX_AGE);
}
