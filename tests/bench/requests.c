/* requests.c - bodies and answers of the bench's end-to-end rows. See requests.h. */
#include "tests/bench/requests.h"

#include "proto/json/numtext.h"
#include "tests/bench/bench.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static const char *const types[] = {"application/x-safetensors", "application/json",
                                    "application/octet-stream", "application/json"};
static const char *const paths[] = {"/v1/dictionaries/bench/encode?top_k=32",
                                    "/v1/dictionaries/bench/encode?top_k=32", "/encode_raw",
                                    "/encode_json"};

static size_t put_safetensors(char *to, const float *x, size_t rows, size_t width)
{
    size_t bytes = rows * width * sizeof *x;
    uint64_t k = (uint64_t)sprintf(
        to + 8, "{\"x\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}}", rows,
        width, bytes);

    memcpy(to, &k, 8);
    memcpy(to + 8 + k, x, bytes);
    return 8 + k + bytes;
}

static size_t put_json(char *to, const float *x, size_t rows)
{
    char *p = to + sprintf(to, "{\"x\":[");

    for (size_t r = 0; r < rows; r++) {
        *p++ = r ? ',' : ' ';
        for (size_t i = 0; i < BENCH_D; i++) {
            *p++ = i ? ',' : '[';
            p += sae_num_print(p, x[r * BENCH_D + i]);
        }
        *p++ = ']';
    }
    p += sprintf(p, "]}");
    return (size_t)(p - to);
}

struct bench_ring ring_make(enum bench_dialect dialect, const float *x, size_t rows)
{
    struct bench_ring r = {.n = rows < BENCH_ROWS ? BENCH_ROWS / rows : 1};
    char *body = malloc(rows * BENCH_D * 20 + 256);
    float *zeros = x ? NULL : calloc(rows * BENCH_D, sizeof *zeros);

    r.c = calloc(r.n, sizeof *r.c);
    if (!body || !r.c || (!x && !zeros))
        bench_die("out of memory");
    for (size_t i = 0; i < r.n; i++) {
        const float *v = x ? x + i * rows * BENCH_D : zeros;
        size_t n = rows * BENCH_D * sizeof *v;

        if (dialect == PEER_RAW)
            memcpy(body, v, n);
        else if (dialect == SAED_SAFETENSORS)
            n = put_safetensors(body, v, rows, BENCH_D);
        else
            n = put_json(body, v, rows);
        r.c[i].request =
            load_post(paths[dialect], types[dialect], types[dialect], body, n, &r.c[i].n);
        r.c[i].next = &r.c[(i + 1) % r.n];
    }
    free(zeros);
    free(body);
    return r;
}

struct bench_ring ring_empty(void)
{
    struct bench_ring r = {.c = calloc(1, sizeof *r.c), .n = 1};
    float x = 1;
    char body[256];

    if (!r.c)
        bench_die("out of memory");
    r.c->request = load_post("/v1/dictionaries/empty/encode", types[0], types[0], body,
                             put_safetensors(body, &x, 1, 1), &r.c->n);
    return r;
}

void ring_free(struct bench_ring *r)
{
    for (size_t i = 0; i < r->n; i++)
        free((char *)(uintptr_t)r->c[i].request);
    free(r->c);
}

static bool read_raw(struct bench_top *t, const char *values, const char *ids, size_t rows)
{
    for (size_t i = 0; i < rows * BENCH_K; i++) {
        float v;
        int32_t id;

        memcpy(&v, values + 4 * i, 4);
        memcpy(&id, ids + 4 * i, 4);
        t->value[i / BENCH_K][i % BENCH_K] = (double)v;
        t->id[i / BENCH_K][i % BENCH_K] = id;
    }
    return true;
}

static bool read_safetensors(struct bench_top *t, const char *body, size_t n, size_t rows)
{
    uint64_t head = 0;
    size_t at[2], bytes = rows * BENCH_K * 4;
    json_t *j;
    bool ok = true;

    if (n >= 8)
        memcpy(&head, body, 8);
    if (n < 8 || head > n - 8 || !(j = json_loadb(body + 8, head, 0, NULL)))
        return false;
    for (int k = 0; k < 2; k++) {
        json_t *o = json_object_get(json_object_get(j, k ? "f.top_indices" : "f.top_values"),
                                    "data_offsets");
        size_t from = (size_t)json_integer_value(json_array_get(o, 0));

        at[k] = 8 + head + from;
        ok = ok && o && from <= n && at[k] + bytes <= n;
    }
    json_decref(j);
    return ok && read_raw(t, body + at[0], body + at[1], rows);
}

static bool read_json(struct bench_top *t, const char *body, size_t n, size_t rows)
{
    json_t *j = json_loadb(body, n, 0, NULL), *f = json_object_get(j, "f");
    json_t *ids, *values;
    bool ok;

    if (!f) /* the peer's */
        f = j;
    ids = json_object_get(f, "indices");
    values = json_object_get(f, "values");
    ok = json_array_size(ids) == rows && json_array_size(values) == rows;
    for (size_t r = 0; ok && r < rows; r++) {
        json_t *i = json_array_get(ids, r), *v = json_array_get(values, r);

        for (size_t k = 0; k < BENCH_K; k++) { /* lists are short where less is active */
            bool is_there = k < json_array_size(i);

            t->id[r][k] = is_there ? (int)json_integer_value(json_array_get(i, k)) : -1;
            t->value[r][k] = is_there ? json_number_value(json_array_get(v, k)) : 0.0;
        }
    }
    json_decref(j);
    return ok;
}

bool top_read(struct bench_top *t, enum bench_dialect dialect, const char *body, size_t n,
              size_t rows)
{
    switch (dialect) {
    case SAED_SAFETENSORS:
        return read_safetensors(t, body, n, rows);
    case PEER_RAW:
        return n == rows * BENCH_K * 8 && read_raw(t, body, body + rows * BENCH_K * 4, rows);
    default:
        return read_json(t, body, n, rows);
    }
}

bool top_agrees(const struct bench_top *a, const struct bench_top *b, size_t rows, size_t *swapped)
{
    const double slack = 1e-5;

    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < BENCH_K; k++) {
            bool found = false;

            if (!(fabs(a->value[r][k] - b->value[r][k]) < slack))
                return false;
            if (a->id[r][k] == b->id[r][k] || a->value[r][k] == 0)
                continue;
            ++*swapped;
            for (size_t i = 0; i < BENCH_K; i++)
                found |=
                    a->id[r][k] == b->id[r][i] && fabs(a->value[r][k] - b->value[r][i]) < slack;
            /* the last places may go to different ones of nearly equal features */
            if (!found && !(fabs(a->value[r][k] - a->value[r][BENCH_K - 1]) < slack))
                return false;
        }
    return true;
}

void bench_spawn(const struct bench *b, struct load_daemon *d, const char *const *args)
{
    char path[512];
    int log, err = dup(2), rc;

    snprintf(path, sizeof path, "%s/daemon.log", b->dir);
    log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0 || err < 0)
        bench_die("cannot write %s", path);
    dup2(log, 2);
    close(log);
    rc = load_spawn(d, args);
    dup2(err, 2);
    close(err);
    if (rc < 0)
        bench_die("the daemon did not start, see %s", path);
}
