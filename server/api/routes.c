/* routes.c - which route a request is for: one table. See routes.h.
 *
 * The order of what is refused is the contract's (spec 3.3): who may not call (access.h), 404, 405
 * (OPTIONS is answered here, at any time), then loading, draining and a full house, and in api/op.c
 * 415, 413 by length, and the rest. Paths match byte by byte: a trailing or doubled slash or
 * another case is another path. */
#include "server/api/op.h"
#include "server/api/pack.h"

#include <stdio.h>
#include <string.h>

/* A body of GET or OPTIONS is nothing to it; so much of one is read for the sake of the connection.
 */
#define IGNORED_BODY_BYTES (64u << 10)

struct route {
    const char *path;        /* {} stands for a dictionary's name, at its place only */
    bool is_op, is_document; /* is_op: and is asked by GET */
    bool always;             /* also while loading, and when all else is refused */
    bool is_open;            /* to those without a key, too; or by --metrics-open */
    bool is_open_by_option;
    enum sae_op op;
    enum saed_metric_op series;
    void (*reply)(struct saed_routes *r, struct saed_exchange *x);
};

static const struct route routes[] = {
    {.path = "/v1", .reply = saed_info_root},
    {.path = "/v1/dictionaries", .reply = saed_info_dictionaries},
    {.path = "/v1/dictionaries/{}", .reply = saed_info_dictionary},
#define SAE_OPERATION(id, name, takes, gives_f, decodes, side) \
    {.path = "/v1/dictionaries/{}/" #name,                     \
     .is_op = true,                                            \
     .is_document = SAE_TAKES_##takes == SAE_TAKES_LABELS,     \
     .op = SAE_OP_##id,                                        \
     .series = SAED_MOP_##id},
#include "proto/ops.def"
#undef SAE_OPERATION
    {.path = "/openapi.json", .reply = saed_info_contract},
#define SAED_WEB_FILE(id, route, file, type) \
    {.path = route, .is_open = true, .reply = saed_web_file},
#include "server/web/files.def"
#undef SAED_WEB_FILE
    {.path = "/healthz", .always = true, .is_open = true, .reply = saed_info_health},
    {.path = "/readyz", .always = true, .is_open = true, .reply = saed_info_ready},
    {.path = "/metrics", .always = true, .is_open_by_option = true, .reply = saed_info_metrics},
};

/* Match one path; the name is copied to `name` (cap bytes, cut: a cut one is unknown anyway). */
static bool matches(const char *pattern, const char *path, char *name, size_t cap)
{
    const char *hole = strstr(pattern, "{}");
    size_t before, n;

    if (!hole)
        return strcmp(pattern, path) == 0;
    before = (size_t)(hole - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    n = strcspn(path + before, "/");
    if (n == 0 || strcmp(hole + 2, path + before + n) != 0)
        return false;
    snprintf(name, cap, "%.*s", (int)(n < cap ? n : cap), path + before);
    return true;
}

static const struct route *find_route(const char *path, char *name, size_t cap)
{
    for (size_t i = 0; i < SAE_COUNTOF(routes); i++)
        if (matches(routes[i].path, path, name, cap))
            return &routes[i];
    return NULL;
}

#define NAMES_SHOWN 100

/* "served are a, b and 3 more". */
static enum sae_status list_names(struct saed_routes *r, struct sae_buf *b)
{
    size_t n = saed_registry_count(r->registry), shown = 0;
    struct saed_dict *d = NULL;
    enum sae_status st = SAE_OK;

    if (n == 0)
        st = sae_buf_addf(b, "none is served");
    while (st == SAE_OK && shown < NAMES_SHOWN && (d = saed_registry_next(r->registry, d)))
        st = sae_buf_addf(b, "%s%s", shown++ ? ", " : "served are ", d->name);
    if (st != SAE_OK || shown == NAMES_SHOWN)
        saed_dict_release(d);
    if (st == SAE_OK && n > shown)
        st = sae_buf_addf(b, " and %zu more", n - shown);
    return st;
}

/* The reply is made here: more names than an error has room for. */
static enum sae_status unknown_dictionary(struct saed_routes *r, struct saed_exchange *x,
                                          const char *name, struct sae_err *err)
{
    struct sae_buf names;

    sae_buf_init(&names, 1 << 16);
    if (list_names(r, &names) == SAE_OK) {
        sae_err_set(err, SAE_E_UNKNOWN_DICTIONARY, "", "cannot find dictionary \"%.64s\": ", name);
        saed_http_error_more(x, err, names.data);
    } else {
        sae_err_set(err, SAE_E_NOMEM, "", "cannot list the dictionaries: memory has run out");
        saed_http_error(x, err);
    }
    sae_buf_fini(&names);
    return err->status;
}

/* /v1/dictionaries/NAME or below it: an unknown NAME is named as such whatever follows. */
static enum sae_status no_route(struct saed_routes *r, struct saed_exchange *x, bool loaded,
                                struct sae_err *err)
{
    static const char prefix[] = "/v1/dictionaries/";
    const char *path = x->path;
    struct saed_dict *d;
    char name[208];
    size_t n;

    if (loaded && strncmp(path, prefix, sizeof prefix - 1) == 0) {
        n = strcspn(path + sizeof prefix - 1, "/");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name),
                 path + sizeof prefix - 1);
        d = n > 0 ? saed_registry_find(r->registry, name) : NULL;
        if (n > 0 && !d)
            return unknown_dictionary(r, x, name, err);
        saed_dict_release(d);
    }
    return sae_err_set(err, SAE_E_NOT_FOUND, "", "cannot find path \"%.100s\"%s", path,
                       strlen(path) > 100 ? "..." : "");
}

static bool is_posted(const struct route *route)
{
    return route->is_op && !route->is_document;
}

static const char *allowed_on(const struct route *route)
{
    return is_posted(route) ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

static enum sae_status check_method(const struct route *route, struct saed_exchange *x,
                                    struct sae_err *err)
{
    const char *allow = allowed_on(route);
    bool is_post = x->method == SAED_METHOD_POST;
    bool is_get = x->method == SAED_METHOD_GET || x->method == SAED_METHOD_HEAD;

    if (is_posted(route) ? is_post : is_get)
        return SAE_OK;
    saed_http_header(x, "Allow", "%s", allow);
    return sae_err_set(err, SAE_E_METHOD_NOT_ALLOWED, "",
                       "cannot use this method on \"%.100s\": allowed is %s", x->path, allow);
}

/* A body is nothing to it. */
static void ignore_body(struct saed_exchange *x)
{
    x->max_body_bytes = IGNORED_BODY_BYTES;
    x->max_body_option = "--max-body-bytes";
}

static enum sae_status reply_options(struct saed_exchange *x, const char *allow)
{
    ignore_body(x);
    saed_http_header(x, "Allow", "%s", allow);
    saed_http_reply(x, 204, NULL, "", 0, NULL, NULL);
    return SAE_OK;
}

static enum sae_status full_house(const struct saed_exchange *x, struct sae_err *err)
{
    return sae_err_limit(err, SAE_E_OVERLOADED, "--max-connections", x->beyond, x->beyond + 1,
                         "cannot serve one more connection: %zu are open (--max-connections, or "
                         "the limit of descriptors where that is less)",
                         x->beyond);
}

/* Everybody may ask, also where there are keys. */
static bool is_open(const struct saed_routes *r, const struct route *route)
{
    return route && (route->is_open || (route->is_open_by_option && r->opts->metrics_open));
}

/* Does the server answer more than what is always answered? */
static enum sae_status check_state(struct saed_routes *r, struct saed_exchange *x, bool loaded,
                                   struct sae_err *err)
{
    if (!loaded) {
        x->op = SAED_MOP_OTHER; /* no dictionary, no series of one */
        return sae_err_set(err, SAE_E_LOADING, "",
                           "cannot serve yet: dictionaries are being loaded");
    }
    if (atomic_load(&r->state) == SAED_ROUTES_REFUSING)
        return sae_err_set(err, SAE_E_DRAINING, "", "cannot take requests: the server is stopping");
    return x->beyond ? full_house(x, err) : SAE_OK;
}

static enum sae_status on_head(void *arg, struct saed_exchange *x, struct sae_err *err)
{
    struct saed_routes *r = arg;
    bool loaded = atomic_load(&r->loaded);
    char name[208] = "";
    const struct route *route = find_route(x->path, name, sizeof name);
    enum sae_status st = saed_access_check(&r->access, x, is_open(r, route), err);

    x->route = route ? route->path : NULL;
    if (st != SAE_OK)
        return st;
    if (saed_access_is_preflight(x)) {
        saed_access_allow(x);
        return reply_options(x, "GET, HEAD, POST, OPTIONS");
    }
    if (x->method == SAED_METHOD_OPTIONS && strcmp(x->path, "*") == 0) /* the server as a whole */
        return reply_options(x, "GET, HEAD, POST, OPTIONS");
    if (!route)
        return no_route(r, x, loaded, err);
    if (name[0] && loaded) {
        x->dict = saed_registry_find(r->registry, name);
        if (!x->dict)
            return unknown_dictionary(r, x, name, err);
        x->series = x->dict->series;
        x->dictionary = x->dict->name;
    }
    if (route->is_op)
        x->op = route->series;
    if (x->method == SAED_METHOD_OPTIONS)
        return reply_options(x, allowed_on(route));
    st = check_method(route, x, err);
    if (st == SAE_OK && !route->always)
        st = check_state(r, x, loaded, err);
    if (st != SAE_OK)
        return st;
    if (is_posted(route))
        return saed_op_head(r, x, route->op, err);
    ignore_body(x);
    if (route->is_op)
        return saed_op_head(r, x, route->op, err);
    if (!saed_pack_is_late(r, x))
        route->reply(r, x);
    return SAE_OK;
}

/* An operation, or a document that is to be packed. */
static void on_request(void *arg, struct saed_exchange *x)
{
    struct saed_routes *r = arg;
    char name[208];

    if (x->user)
        saed_op_request(r, x);
    else
        find_route(x->path, name, sizeof name)->reply(r, x);
}

static void on_resumed(void *arg, struct saed_exchange *x)
{
    if (x->user) /* of a document the reply is made */
        saed_op_resumed(arg, x);
}

static void on_round_over(void *arg)
{
    struct saed_routes *r = arg;

    saed_sched_rouse(r->sched);
}

static void on_end(void *arg, struct saed_exchange *x)
{
    (void)arg;
    if (x->user)
        saed_op_end(x);
    saed_dict_release(x->dict);
}

struct saed_http_handler saed_routes_handler(struct saed_routes *r)
{
    return (struct saed_http_handler){
        .arg = r,
        .head = on_head,
        .reserve = saed_op_reserve,
        .request = on_request,
        .resumed = on_resumed,
        .round_over = on_round_over,
        .gone = saed_op_gone,
        .end = on_end,
    };
}

enum sae_status saed_routes_create(struct saed_routes **out, const struct saed_opts *opts,
                                   const _Atomic size_t *n_loaded, struct saed_metrics *metrics,
                                   struct sae_err *err)
{
    struct saed_routes *r = sae_alloc(1, sizeof *r);
    enum sae_status st;

    if (!r)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate routes");
    memset(r, 0, sizeof *r);
    r->opts = opts;
    r->n_loaded = n_loaded;
    r->metrics = metrics;
    saed_budget_init(&r->budget, opts->max_inflight_bytes);
    st = saed_access_init(&r->access, opts, err);
    if (st == SAE_OK)
        st = saed_pool_create(&r->pool, opts->http_threads, err);
    if (st != SAE_OK) {
        saed_routes_free(r);
        return st;
    }
    *out = r;
    return SAE_OK;
}

void saed_routes_ready(struct saed_routes *r, struct saed_registry *registry,
                       struct saed_offers *offers, const struct sae_engine *engine,
                       struct saed_sched *sched)
{
    int loading = SAED_ROUTES_LOADING;

    saed_budget_set_limit(&r->budget, r->opts->max_inflight_bytes);
    r->registry = registry;
    r->offers = offers;
    r->engine = engine;
    r->sched = sched;
    atomic_store(&r->loaded, true);
    /* A drain that began meanwhile stays one. */
    atomic_compare_exchange_strong(&r->state, &loading, SAED_ROUTES_READY);
}

void saed_routes_drain(struct saed_routes *r)
{
    atomic_store(&r->state, SAED_ROUTES_DRAINING);
}

void saed_routes_refuse(struct saed_routes *r)
{
    atomic_store(&r->state, SAED_ROUTES_REFUSING);
}

struct saed_keys *saed_routes_keys(struct saed_routes *r)
{
    return r->access.keys;
}

void saed_routes_free(struct saed_routes *r)
{
    if (!r)
        return;
    saed_pool_free(r->pool);
    saed_access_fini(&r->access);
    sae_free(r);
}
