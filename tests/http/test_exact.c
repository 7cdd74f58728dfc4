/* test_exact.c - an answer over HTTP is the same bits for a row alone and inside any batch, in
 * every form and codec, on every instruction set.
 *
 * A daemon on the native engine serves three classes. Each row's answers are fetched once with the
 * row alone in its batch. Then many clients at once send the same rows in requests of every
 * operation, form and codec, so that they meet in batches (the metrics say so), and every number
 * that comes back is compared bit for bit. SAED_ISA forces each instruction set in turn; answers to
 * lone rows are equal across them. */
#include "lib/cpu.h"
#include "tests/http/support_body.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON "application/json"
#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define MS 30000

enum { N_DICTS = 3, N_ROWS = 10, MAX_D = 48, N_CLIENTS = 24, N_BURSTS = 10, MOST_ROWS = 6 };

static const struct {
    const char *name, *source, *aux, *aux_option;
    size_t d, F;
    bool scales; /* forward's f is not encode's */
} dicts[N_DICTS] = {
    {"relu", "relu=init:AutoEncoder:48:3000:seed=3:l0=40", NULL, NULL, 48, 3000, false},
    {"gated", "gated=init:GatedAutoEncoder:32:2000:seed=4:l0=30", "gate", "return_gate=true", 32,
     2000, true},
    {"jump", "jump=init:JumpAutoEncoder:24:1100:seed=5:l0=25", "pre_jump", "output_pre_jump=true",
     24, 1100, false},
};

static uint32_t random_state;

static size_t below(size_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* ---- rows and their answers alone ---------------------------------------------------------- */

static float rows[N_ROWS][MAX_D];

/* What one dictionary answers to each row alone. */
struct alone {
    float *f, *aux, *forward_f, *x_hat, *decoded; /* [N_ROWS][F or d] */
};

static void make_rows(void)
{
    random_state = 5;
    for (size_t r = 0; r < N_ROWS; r++)
        for (size_t k = 0; k < MAX_D; k++) {
            double v = 0;

            for (int i = 0; i < 12; i++)
                v += (double)below(1 << 20) * 0x1p-20;
            rows[r][k] = (float)((v - 6) * (r == 6 && k % 17 == 4 ? 300 : 1));
            if (r == 7)
                rows[r][k] = 0.75f;
        }
    rows[8][3] = NAN;
    rows[9][5] = -INFINITY;
}

static struct server start(const char *isa)
{
    struct server s;
    struct reply r;

    setenv("SAED_ISA", isa, 1);
    s = server_start((const char *const[]){
        "--engine", "native", "--threads", "2", "--max-batch-rows", "64", "--max-delay-us", "2000",
        dicts[0].source, dicts[1].source, dicts[2].source, NULL});
    r = get(&s, "/v1");
    ck_assert_str_eq(json_member(&r, "kernel"), isa);
    ck_assert_str_eq(json_member(&r, "bitwise"), "true");
    reply_free(&r);
    return s;
}

/* The tensor `name` of the answer to one row, alone in its batch. */
static void fetch(const struct server *s, size_t i, const char *op, const float *v, size_t width,
                  const char *name, float *out, const char *second, float *second_out)
{
    char path[128];
    struct reply r;
    struct got g;

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", dicts[i].name, op);
    r = request(s, "POST", path, (const char *const[]){"Content-Type: " RAW, "Accept: " ST, NULL},
                v, width * 4);
    g = got_read(&r, name, GOT_ASCENDING);
    ck_assert_uint_eq(g.n_rows, 1);
    ck_assert_str_eq(reply_header(&r, "Saed-Batch-Rows"), "1");
    memcpy(out, g.v, g.width * sizeof *out);
    got_free(&g);
    if (second) {
        g = got_read(&r, second, GOT_ASCENDING);
        memcpy(second_out, g.v, g.width * sizeof *second_out);
        got_free(&g);
    }
    reply_free(&r);
}

static struct alone fetch_alone(const struct server *s, size_t i)
{
    size_t d = dicts[i].d, F = dicts[i].F;
    struct alone a = {malloc(N_ROWS * F * 4), calloc(N_ROWS * F, 4), malloc(N_ROWS * F * 4),
                      malloc(N_ROWS * d * 4), malloc(N_ROWS * d * 4)};
    char op[64];

    snprintf(op, sizeof op, "encode?%s", dicts[i].aux_option ? dicts[i].aux_option : "");
    for (size_t r = 0; r < N_ROWS; r++) {
        fetch(s, i, op, rows[r], d, "f", a.f + r * F, dicts[i].aux, a.aux + r * F);
        fetch(s, i, "forward?output_features=true", rows[r], d, "f", a.forward_f + r * F, "x_hat",
              a.x_hat + r * d);
        fetch(s, i, "decode", a.f + r * F, F, "x_hat", a.decoded + r * d, NULL, NULL);
    }
    return a;
}

static void alone_free(struct alone *a)
{
    free(a->f);
    free(a->aux);
    free(a->forward_f);
    free(a->x_hat);
    free(a->decoded);
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, 4) == 0 || (isnan(a) && isnan(b));
}

static bool all_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!same(a[i], b[i]))
            return false;
    return true;
}

static bool alone_same(const struct alone *a, const struct alone *b, size_t i)
{
    size_t d = N_ROWS * dicts[i].d, F = N_ROWS * dicts[i].F;

    return all_same(a->f, b->f, F) && all_same(a->aux, b->aux, F) &&
           all_same(a->forward_f, b->forward_f, F) && all_same(a->x_hat, b->x_hat, d) &&
           all_same(a->decoded, b->decoded, d);
}

/* ---- requests in company ------------------------------------------------------------------- */

enum op { ENCODE, FORWARD, DECODE, N_OPS };
enum form { DENSE, SPARSE, TOP, FEATURES, N_FORMS };
static const char *const op_names[] = {"encode", "forward", "decode"};
static const char *const media[] = {JSON, ST, RAW};
static const size_t some_features[] = {7, 1000, 3, 7, 0, 512};

/* One request: what it asks, of which rows, and how it travels. */
struct asked {
    size_t dict, n, row[MOST_ROWS], k;
    enum op op;
    enum form form;
    bool want_f, want_aux, is_sparse_in;
    const char *in, *out;
};

static struct asked draw(void)
{
    struct asked q = {.dict = below(N_DICTS), .n = 1 + below(MOST_ROWS), .k = 1 + below(40)};

    q.op = (enum op)below(N_OPS);
    q.form = q.op == DECODE ? DENSE : (enum form)below(N_FORMS);
    q.want_f = q.op == ENCODE || (q.op == FORWARD && (q.form != DENSE || below(2)));
    q.want_aux = q.op == ENCODE && q.form != TOP && dicts[q.dict].aux && below(2);
    q.is_sparse_in = q.op == DECODE && below(2);
    for (size_t r = 0; r < q.n; r++)
        q.row[r] = below(N_ROWS);
    q.in = media[q.is_sparse_in ? 0 : below(3)];
    /* raw floats: a single dense tensor */
    q.out = media[below(
        q.want_aux || (q.op == FORWARD && q.want_f) || q.form == SPARSE || q.form == TOP ? 2 : 3)];
    return q;
}

static void query_of(const struct asked *q, char *text, size_t cap)
{
    size_t n = (size_t)snprintf(text, cap, "?");

    if (q->op == FORWARD && q->want_f)
        n += (size_t)snprintf(text + n, cap - n, "output_features=true&");
    if (q->want_aux)
        n += (size_t)snprintf(text + n, cap - n, "%s&", dicts[q->dict].aux_option);
    if (q->form == SPARSE)
        snprintf(text + n, cap - n, "sparse=true");
    else if (q->form == TOP)
        snprintf(text + n, cap - n, "top_k=%zu", q->k);
    else if (q->form == FEATURES)
        snprintf(text + n, cap - n, "features=7,1000,3,7,0,512");
    else
        text[n - 1] = '\0'; /* the last ? or & */
}

static struct text body_of(const struct asked *q, const struct alone *a)
{
    bool decodes = q->op == DECODE;
    size_t width = decodes ? dicts[q->dict].F : dicts[q->dict].d;
    const char *name = decodes ? "f" : "x";
    float *v = malloc(q->n * width * 4);
    struct text t = {0};

    for (size_t r = 0; r < q->n; r++)
        memcpy(v + r * width, decodes ? a->f + q->row[r] * width : rows[q->row[r]], width * 4);
    if (strcmp(q->in, RAW) == 0) {
        text_add(&t, v, q->n * width * 4);
    } else if (strcmp(q->in, ST) == 0) {
        struct st_body b = {0};
        char shape[64];

        snprintf(shape, sizeof shape, "[%zu,%zu]", q->n, width);
        st_add(&b, name, "F32", shape, v, q->n * width * 4);
        t = st_end(&b);
    } else {
        text_addf(&t, "{\"%s\":", name);
        if (q->is_sparse_in)
            text_sparse(&t, v, q->n, width);
        else
            text_rows(&t, v, q->n, width);
        text_addf(&t, "}");
    }
    free(v);
    return t;
}

static void send_request(int fd, const struct asked *q, const struct alone *a)
{
    char query[160];
    struct text body = body_of(q, a), t = {0};

    query_of(q, query, sizeof query);
    text_addf(&t,
              "POST /v1/dictionaries/%s/%s%s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\n"
              "Accept: %s\r\nContent-Length: %zu\r\n\r\n",
              dicts[q->dict].name, op_names[q->op], query, q->in, q->out, body.n);
    text_add(&t, body.p, body.n);
    raw_send_bytes(fd, t.p, t.n);
    text_free(&t);
    text_free(&body);
}

/* ---- answers ------------------------------------------------------------------------------- */

/* Is feature j of want among the k largest? Value order, NaN first, ties to the lower id. */
static bool is_top(const float *want, size_t F, size_t j, size_t k)
{
    size_t before = 0;

    if (want[j] == 0)
        return false;
    for (size_t i = 0; i < F && before < k; i++) {
        if (want[i] == 0 || i == j)
            continue;
        if (isnan(want[i]) != isnan(want[j]))
            before += isnan(want[i]);
        else if (!isnan(want[i]) && want[i] != want[j])
            before += want[i] > want[j];
        else
            before += i < j;
    }
    return before < k;
}

/* Feature j of a row: what an answer of this form must hold, and whether it must be listed. */
static float expected(const struct asked *q, const float *want, size_t F, size_t j, bool *listed)
{
    *listed = q->form == TOP ? is_top(want, F, j, q->k) : want[j] != 0;
    return *listed ? want[j] : 0;
}

/* Values that are listed are few: is_top is asked for those and for all that could be. */
static void check_lists(const struct asked *q, const struct got *g, const float *all, size_t F)
{
    ck_assert(g->is_sparse);
    for (size_t r = 0; r < q->n; r++) {
        const float *want = all + q->row[r] * F;

        for (size_t j = 0; j < F; j++) {
            bool must, is = j < g->width && g->listed[r * g->width + j];
            float v;

            if (!is && want[j] == 0)
                continue;
            v = expected(q, want, F, j, &must);
            if (must != is || (is && !same(v, g->v[r * g->width + j])))
                ck_abort_msg("%s %s to %s: feature %zu is %s, %.9g alone", dicts[q->dict].name,
                             op_names[q->op], q->out, j, is ? "listed" : "not listed",
                             (double)want[j]);
        }
    }
}

/* A tensor [n][width] whose rows stand in all[row]; `ids` picks columns. */
static void check_dense(const struct asked *q, const struct got *g, const float *all, size_t width,
                        const size_t *ids, size_t n_ids)
{
    ck_assert(!g->is_sparse);
    ck_assert_uint_eq(g->width, ids ? n_ids : width);
    for (size_t r = 0; r < q->n; r++)
        for (size_t c = 0; c < g->width; c++) {
            float got = g->v[r * g->width + c], want = all[q->row[r] * width + (ids ? ids[c] : c)];

            if (!same(got, want))
                ck_abort_msg("%s %s, %s to %s, row %zu of %zu: column %zu is %a, %a alone",
                             dicts[q->dict].name, op_names[q->op], q->in, q->out, r, q->n, c,
                             (double)got, (double)want);
        }
}

static void check_tensor(const struct asked *q, const struct reply *r, const char *name,
                         const float *all)
{
    size_t F = dicts[q->dict].F;
    struct got g = got_read(r, name, q->form == TOP ? GOT_TOP : GOT_ASCENDING);

    ck_assert_msg(g.present, "no %s", name);
    ck_assert_uint_eq(g.n_rows, q->n);
    if (q->form == SPARSE || q->form == TOP)
        check_lists(q, &g, all, F);
    else
        check_dense(q, &g, all, F, q->form == FEATURES ? some_features : NULL,
                    sizeof some_features / sizeof some_features[0]);
    got_free(&g);
}

static void check_answer(const struct asked *q, const struct reply *r, const struct alone *a)
{
    size_t d = dicts[q->dict].d;

    if (q->want_f)
        check_tensor(q, r, "f", q->op == ENCODE ? a->f : a->forward_f);
    if (q->want_aux)
        check_tensor(q, r, dicts[q->dict].aux, a->aux);
    if (q->op != ENCODE) {
        struct got g = got_read(r, "x_hat", GOT_ASCENDING);

        ck_assert_uint_eq(g.n_rows, q->n);
        check_dense(q, &g, q->op == FORWARD ? a->x_hat : a->decoded, d, NULL, 0);
        got_free(&g);
    }
}

/* ---- the test ------------------------------------------------------------------------------ */

struct mean {
    double rows, batches;
};

static struct mean batch_rows(const struct server *s, size_t i, const char *gemm)
{
    char sum[128], count[128];

    snprintf(sum, sizeof sum, "saed_batch_rows_sum{dictionary=\"%s\",gemm=\"%s\"}", dicts[i].name,
             gemm);
    snprintf(count, sizeof count, "saed_batch_rows_count{dictionary=\"%s\",gemm=\"%s\"}",
             dicts[i].name, gemm);
    return (struct mean){metric(s, sum), metric(s, count)};
}

static void bursts(const struct server *s, const struct alone *a)
{
    struct asked q[N_CLIENTS];
    int fd[N_CLIENTS];

    for (size_t c = 0; c < N_CLIENTS; c++)
        fd[c] = raw_connect(s);
    for (size_t burst = 0; burst < N_BURSTS; burst++) {
        for (size_t c = 0; c < N_CLIENTS; c++) {
            q[c] = draw();
            send_request(fd[c], &q[c], &a[q[c].dict]);
        }
        for (size_t c = 0; c < N_CLIENTS; c++) {
            struct reply r = raw_reply(fd[c], true, MS);

            check_answer(&q[c], &r, &a[q[c].dict]);
            reply_free(&r);
        }
    }
    for (size_t c = 0; c < N_CLIENTS; c++)
        close(fd[c]);
}

START_TEST(answers_have_the_same_bits_alone_and_in_company)
{
    const char *isa = sae_isa_name((enum sae_isa)_i);
    struct alone a[N_DICTS], b[N_DICTS];
    struct mean before[N_DICTS][2];
    struct server s;

    if (!sae_cpu_has((enum sae_isa)_i)) {
        printf("SKIP: this CPU has no %s\n", isa);
        return;
    }
    make_rows();
    s = start("scalar"); /* every machine has it */
    for (size_t i = 0; i < N_DICTS; i++)
        a[i] = fetch_alone(&s, i);
    ck_assert_int_eq(server_stop(&s), 0);
    s = start(isa);
    for (size_t i = 0; i < N_DICTS; i++) {
        b[i] = fetch_alone(&s, i);
        ck_assert_msg(alone_same(&a[i], &b[i], i), "%s: scalar and %s differ", dicts[i].name, isa);
        ck_assert(dicts[i].scales || all_same(b[i].f, b[i].forward_f, N_ROWS * dicts[i].F));
        ck_assert(all_same(b[i].x_hat, b[i].decoded, N_ROWS * dicts[i].d));
        for (int g = 0; g < 2; g++)
            before[i][g] = batch_rows(&s, i, g ? "decode" : "encode");
    }
    random_state = 77 + (uint32_t)_i;
    bursts(&s, b);
    for (size_t i = 0; i < N_DICTS; i++) {
        for (int g = 0; g < 2; g++) {
            struct mean m = batch_rows(&s, i, g ? "decode" : "encode");
            double mean = (m.rows - before[i][g].rows) / (m.batches - before[i][g].batches);

            ck_assert_msg(mean > 4, "%s: %g rows a batch: requests did not meet", dicts[i].name,
                          mean);
        }
        alone_free(&a[i]);
        alone_free(&b[i]);
    }
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exact");
    TCase *t = tcase_create("exact");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, answers_have_the_same_bits_alone_and_in_company, 0, SAE_N_ISAS);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
