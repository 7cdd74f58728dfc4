/* info.c - the GET routes: what is served, how it is, how it does. See routes.h.
 *
 * Documents are made anew for each request, on the connection's thread: a few microseconds each. */
#include "proto/json/numtext.h"
#include "server/api/fit.h"
#include "server/api/op.h"
#include "server/api/pack.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_DOCUMENT (64u << 20)
#define JSON "application/json"
#define LISTED_METADATA ((size_t)16 << 20) /* of all dictionaries in a list; then it is null */

/* The documents are written through this: the first failure stays. */
struct doc {
    struct sae_buf b;
    enum sae_status st;
    size_t metadata; /* bytes of it that may still be put */
};

static void put(struct doc *d, const char *fmt, ...) SAE_PRINTF(2, 3);
static void put(struct doc *d, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (d->st == SAE_OK)
        d->st = n < 0 || (size_t)n >= sizeof text ? SAE_E_INTERNAL
                                                  : sae_buf_add(&d->b, text, (size_t)n);
}

static void put_string(struct doc *d, const char *s)
{
    if (d->st == SAE_OK)
        d->st = sae_json_string(&d->b, s, strlen(s));
}

/* What is JSON already; NULL: null. */
static void put_json(struct doc *d, const char *text)
{
    if (!text)
        put(d, "null");
    else if (d->st == SAE_OK)
        d->st = sae_buf_add(&d->b, text, strlen(text));
}

static void put_metadata(struct doc *d, const char *text)
{
    size_t n = text ? strlen(text) : 0;

    put_json(d, n <= d->metadata ? text : NULL);
    d->metadata -= n <= d->metadata ? n : 0;
}

static void put_number(struct doc *d, float v)
{
    char text[SAE_NUM_TEXT_MAX];

    if (d->st == SAE_OK)
        d->st = sae_buf_add(&d->b, text, sae_num_print(text, v));
}

static void send(struct saed_routes *r, struct saed_exchange *x, struct doc *d,
                 const char *content_type)
{
    struct sae_err err = {0};

    if (d->st == SAE_OK) {
        saed_pack_reply(r, x, content_type, d->b.data, d->b.len, false);
        return;
    }
    sae_buf_fini(&d->b);
    sae_err_set(&err, d->st, "", "cannot print the answer: memory has run out");
    saed_http_error(x, &err);
}

void saed_info_root(struct saed_routes *r, struct saed_exchange *x)
{
    struct doc d = {.st = SAE_OK};
    const char *key;
    uint64_t value;

    sae_buf_init(&d.b, MAX_DOCUMENT);
    put(&d, "{\"version\":\"%s\",\"engine\":", SAED_VERSION);
    put_string(&d, sae_engine_name(r->engine));
    put(&d, ",\"kernel\":");
    put_string(&d, sae_engine_kernel(r->engine));
    put(&d, ",\"threads\":%" PRIu64 ",\"bitwise\":%s,\"media_types\":[", r->opts->threads,
        sae_engine_bitwise(r->engine) ? "true" : "false");
    for (int m = 0; m < SAE_N_MEDIA; m++) {
        put(&d, "%s", m ? "," : "");
        put_string(&d, sae_codecs[m].name);
    }
    put(&d, "],\"limits\":{");
    for (size_t i = 0; saed_opts_limit(r->opts, i, &key, &value); i++)
        put(&d, "%s\"%s\":%" PRIu64, i ? "," : "", key, value);
    put(&d, "}}\n");
    send(r, x, &d, JSON);
}

/* A binary body, and the answer of so many entries a row. */
#define USUAL_TOP_K 32

/* "max_rows": what a client may send at once. */
static void put_max_rows(struct doc *d, const struct saed_routes *r, const struct saed_dict *e)
{
    put(d, "\"max_rows\":{");
    for (int op = 0; op < SAE_N_ROW_OPS; op++) {
        put(d, "%s\"%s\":{", op ? "," : "", sae_op_defs[op].name);
        for (int m = 0; m < SAE_N_MEDIA; m++)
            put(d, "%s\"%s\":%" PRIu64, m ? "," : "", sae_codecs[m].short_name,
                saed_fit_most(e, (enum sae_op)op, (enum sae_media)m, 0, r->opts));
        if (sae_op_defs[op].gives_f != SAE_GIVES_NEVER)
            put(d, ",\"top_k\":%" PRIu64,
                saed_fit_most(e, (enum sae_op)op, SAE_MEDIA_RAW, USUAL_TOP_K, r->opts));
        put(d, "}");
    }
    put(d, "}");
}

/* "reading": what a source's options would state, and what to know of it. */
static void put_reading(struct doc *d, const struct sae_dict_info *info)
{
    const char *comma = "";

    put(d, "\"reading\":{");
    for (unsigned f = 0; f < SAE_N_FIELDS; f++) {
        put(d, "\"%s\":", info->reading[f].name);
        put_string(d, info->reading[f].text);
        put(d, ",");
    }
    put(d, "\"stated\":[");
    for (unsigned f = 0; f < SAE_N_FIELDS; f++)
        if (info->reading[f].from == SAE_FROM_STATED) {
            put(d, "%s", comma);
            put_string(d, info->reading[f].name);
            comma = ",";
        }
    put(d, "],\"contradicts\":{");
    comma = "";
    for (unsigned f = 0; f < SAE_N_FIELDS; f++)
        if (info->reading[f].by_file[0]) {
            put(d, "%s\"%s\":", comma, info->reading[f].name);
            put_string(d, info->reading[f].by_file);
            comma = ",";
        }
    put(d, "},\"notes\":[");
    for (unsigned k = 0; k < info->n_notes; k++) {
        put(d, "%s", k ? "," : "");
        put_string(d, info->notes[k]);
    }
    put(d, "]},");
}

/* "decoder_norm": null where the decoder was neither kept nor read through. */
static void put_norms(struct doc *d, const struct sae_dict_info *info)
{
    if (!info->has_norms) {
        put(d, "\"decoder_norm\":null,");
        return;
    }
    put(d, "\"decoder_norm\":{\"min\":");
    put_number(d, info->norm_min);
    put(d, ",\"median\":");
    put_number(d, info->norm_median);
    put(d, ",\"max\":");
    put_number(d, info->norm_max);
    put(d, "},");
}

/* Nothing is known of one whose source could not be opened. */
static void put_unknown(struct doc *d)
{
    static const char *const members[] = {
        "dict_class", "activation_dim", "dict_size",    "dtype",   "output_dim", "format",
        "parts",      "resident",       "bytes",        "options", "reading",    "metadata",
        "taps",       "weights_sha256", "decoder_norm", "max_rows"};

    for (size_t i = 0; i < SAE_COUNTOF(members); i++)
        put(d, ",\"%s\":null", members[i]);
}

static void put_state(struct doc *d, const struct saed_routes *r,
                      const struct saed_offer_look *look)
{
    const struct saed_dict *e = look->dict;

    put(d, "{\"name\":");
    put_string(d, e->name);
    put(d, ",\"state\":\"%s\",\"source\":", look->state);
    put_string(d, e->shown);
    if (look->err.status != SAE_OK) {
        put(d, ",\"reason\":");
        put_string(d, look->err.text);
    }
    put(d, ",\"resident_bytes\":%" PRIu64 ",\"engine\":",
        e->state == SAED_DICT_READY ? e->resident_bytes : 0);
    put_string(d, sae_engine_name(r->engine));
    put(d, ",\"kernel\":");
    put_string(d, sae_engine_kernel(r->engine));
}

static void put_known(struct doc *d, struct saed_routes *r, const struct saed_dict *e)
{
    const struct sae_dict_info *info = e->info;
    const char *comma = "";

    put(d, ",\"dict_class\":");
    put_string(d, info->class_name);
    put(d, ",\"activation_dim\":%" PRIu64 ",\"dict_size\":%" PRIu64 ",\"dtype\":",
        info->activation_dim, info->dict_size);
    put_string(d, info->dtype);
    put(d, ",\"output_dim\":");
    if (info->output_dim)
        put(d, "%" PRIu64, info->output_dim);
    else
        put(d, "null");
    put(d, ",\"format\":");
    put_string(d, info->format);
    put(d, ",\"parts\":\"%s\",\"resident\":\"%s\",\"bytes\":%" PRIu64 ",\"options\":[",
        info->encodes_only ? "encoder" : "all", info->resident, info->bytes);
    for (size_t i = 0; i < SAE_N_OPTIONS; i++) {
        if (!(info->options & sae_option_defs[i].bit))
            continue;
        put(d, "%s", comma);
        put_string(d, sae_option_defs[i].name);
        comma = ",";
    }
    put(d, "],");
    put_norms(d, info);
    put_reading(d, info);
    put(d, "\"metadata\":");
    put_metadata(d, info->metadata);
    put(d, ",\"taps\":");
    put_json(d, info->taps);
    put(d, ",\"weights_sha256\":");
    if (info->weights_sha256[0])
        put_string(d, info->weights_sha256);
    else
        put(d, "null");
    put(d, ",");
    put_max_rows(d, r, e);
}

/* One that is listed. */
static void put_dictionary(struct doc *d, struct saed_routes *r, struct saed_dict *listed)
{
    struct saed_offer_look look = {.state = "ready"};

    if (listed->offer)
        look = saed_offers_look(r->offers, listed);
    else
        look.dict = saed_dict_acquire(listed);
    put_state(d, r, &look);
    if (look.dict->info)
        put_known(d, r, look.dict);
    else
        put_unknown(d);
    put(d, "}");
    saed_dict_release(look.dict);
}

void saed_info_dictionaries(struct saed_routes *r, struct saed_exchange *x)
{
    struct doc d = {.st = SAE_OK, .metadata = LISTED_METADATA};
    struct saed_dict *dict = NULL;
    const char *comma = "";

    sae_buf_init(&d.b, MAX_DOCUMENT);
    put(&d, "{\"dictionaries\":[");
    while ((dict = saed_registry_next(r->registry, dict))) {
        put(&d, "%s", comma);
        put_dictionary(&d, r, dict);
        comma = ",";
    }
    put(&d, "]}\n");
    send(r, x, &d, JSON);
}

void saed_info_dictionary(struct saed_routes *r, struct saed_exchange *x)
{
    struct doc d = {.st = SAE_OK, .metadata = SIZE_MAX};

    sae_buf_init(&d.b, MAX_DOCUMENT);
    put_dictionary(&d, r, x->dict);
    put(&d, "\n");
    send(r, x, &d, JSON);
}

void saed_info_contract(struct saed_routes *r, struct saed_exchange *x)
{
    saed_pack_reply(r, x, JSON, sae_openapi_json, sae_openapi_bytes, true);
}

void saed_info_health(struct saed_routes *r, struct saed_exchange *x)
{
    (void)r;
    saed_http_reply(x, 200, "text/plain; charset=utf-8", "ok\n", 3, NULL, NULL);
}

void saed_info_ready(struct saed_routes *r, struct saed_exchange *x)
{
    struct sae_err err = {0};

    switch (atomic_load(&r->state)) {
    case SAED_ROUTES_READY:
        saed_http_reply(x, 200, "text/plain; charset=utf-8", "ready\n", 6, NULL, NULL);
        return;
    case SAED_ROUTES_LOADING:
        sae_err_set(&err, SAE_E_LOADING, "", "not ready: %zu of %zu dictionaries are loaded",
                    atomic_load(r->n_loaded), r->opts->n_sources);
        break;
    default:
        sae_err_set(&err, SAE_E_DRAINING, "", "not ready: the server is stopping");
        break;
    }
    saed_http_error(x, &err);
}

static size_t queue_rows(void *sched, const struct saed_dict *d)
{
    return saed_sched_queue_rows(sched, d);
}

/* What its series does not count by itself. */
static void measure(struct saed_routes *r, const struct saed_dict *d)
{
    struct sae_screen_stats screen;

    if (d->offer) {
        saed_offers_measure(r->offers, d, queue_rows, r->sched);
        return;
    }
    screen = sae_engine_stats(r->engine, d->dict);
    saed_series_set(d->series, saed_sched_queue_rows(r->sched, d), screen.candidates,
                    screen.dense_rows);
}

void saed_info_metrics(struct saed_routes *r, struct saed_exchange *x)
{
    struct saed_metrics_gauges g = {.inflight_bytes = saed_budget_used(&r->budget)};
    struct doc d = {.st = SAE_OK};
    struct saed_dict *dict = NULL;

    sae_buf_init(&d.b, MAX_DOCUMENT);
    if (atomic_load(&r->loaded)) {
        g.is_screened = sae_engine_screens(r->engine);
        while ((dict = saed_registry_next(r->registry, dict)))
            measure(r, dict);
    }
    d.st = saed_metrics_print(r->metrics, &g, &d.b);
    send(r, x, &d, "text/plain; version=0.0.4; charset=utf-8");
}
