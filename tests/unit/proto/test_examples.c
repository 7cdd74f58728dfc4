/* test_examples.c - proto/examples hold to the byte, served by an IdentityDict of width 4.
 *
 *   route                      POST /v1/dictionaries/id/OP[?QUERY]
 *   request.(json|f32|safetensors|npy)   the body
 *   response.(json|f32|safetensors|npy)  the answer in the same form; of an error its problem, of
 *                                    which only the code is compared here */
#include "tests/unit/proto/wire_fixture.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

#define ROOT "proto/examples"
#define WIDTH 4
#define MAX_ROWS 8

static char *names[64];
static int n_names;

static const char *const extensions[SAE_N_MEDIA] = {"json", "f32", "safetensors", "npy"};

static char *read_file(const char *name, const char *file, size_t *n)
{
    char path[512], *data;
    FILE *f;

    snprintf(path, sizeof path, ROOT "/%s/%s", name, file);
    f = fopen(path, "rb");
    if (!f)
        return NULL;
    data = sae_calloc(1 << 16, 1);
    ck_assert_ptr_nonnull(data);
    *n = fread(data, 1, (1 << 16) - 1, f);
    fclose(f);
    return data;
}

/* What IdentityDict makes of a request: f = x, x_hat = f. */
struct served {
    struct sae_answer answer;
    float dense[MAX_ROWS * WIDTH], f[MAX_ROWS * WIDTH];
    uint32_t ids[MAX_ROWS][WIDTH];
    float values[MAX_ROWS][WIDTH];
    struct sae_sparse_row rows[MAX_ROWS];
    struct sae_lead leads[SAE_N_WEIGHTS];
};

static void read_rows(struct served *s, const struct sae_request *r)
{
    ck_assert_uint_le(r->n_rows, MAX_ROWS);
    if (!r->is_sparse) {
        memcpy(s->dense, r->n_rows ? r->values : s->f, r->n_rows * WIDTH * sizeof(float));
        return;
    }
    for (size_t row = 0; row < r->n_rows; row++)
        for (uint64_t e = r->csr.indptr[row]; e < r->csr.indptr[row + 1]; e++)
            s->dense[row * WIDTH + r->csr.ids[e]] = r->csr.values[e];
}

/* Non-zero entries of each row; with k > 0 the k largest, values descending. */
static uint64_t make_sparse(struct served *s, size_t n_rows, uint64_t k)
{
    uint64_t nnz = 0;

    for (size_t row = 0; row < n_rows; row++) {
        const float *x = s->dense + row * WIDTH;
        bool used[WIDTH] = {false};
        size_t n = 0;

        for (;;) {
            size_t best = WIDTH;

            for (size_t j = 0; j < WIDTH; j++)
                if (!used[j] && x[j] != 0 && (best == WIDTH || (k && x[j] > x[best])))
                    best = j;
            if (best == WIDTH || (k && n == k))
                break;
            used[best] = true;
            s->ids[row][n] = (uint32_t)best;
            s->values[row][n++] = x[best];
        }
        s->rows[row] = (struct sae_sparse_row){s->ids[row], s->values[row], n};
        nnz += n;
    }
    return nnz;
}

static struct sae_out_tensor make_f(struct served *s, const struct sae_request *r)
{
    const struct sae_options *opt = &r->opt;
    struct sae_out_tensor f = {.name = "f", .width = WIDTH, .data = s->dense, .rows = s->rows};

    if (opt->asked & (SAE_OPT_SPARSE | SAE_OPT_TOP_K)) {
        f.form = opt->asked & SAE_OPT_TOP_K ? SAE_FORM_TOP : SAE_FORM_SPARSE;
        f.top_width = opt->top_k < WIDTH ? opt->top_k : WIDTH;
        f.nnz = make_sparse(s, r->n_rows, opt->top_k);
    } else if (opt->asked & SAE_OPT_FEATURES) {
        f.width = opt->n_features;
        f.data = s->f;
        for (size_t i = 0; i < r->n_rows * opt->n_features; i++)
            s->f[i] = s->dense[i / f.width * WIDTH + opt->features[i % f.width]];
    }
    return f;
}

/* Rows of the unit matrix, norms of one. */
static void serve_weights(struct served *s, const struct sae_weights *asked)
{
    float *at = s->dense;

    for (int part = 0; part < SAE_N_WEIGHTS; part++) {
        const size_t n = part < SAE_N_ROW_WEIGHTS ? asked->n_ids[part] : 1;

        if (!(asked->asked >> part & 1))
            continue;
        ck_assert_uint_le((size_t)(at - s->dense) + n * WIDTH, MAX_ROWS * WIDTH);
        s->leads[part] = (struct sae_lead){part < SAE_N_ROW_WEIGHTS, {n}};
        s->answer.tensors[s->answer.n_tensors++] =
            (struct sae_out_tensor){.name = sae_weight_defs[part].name,
                                    .width = WIDTH,
                                    .data = at,
                                    .own_lead = &s->leads[part]};
        for (size_t i = 0; i < n * WIDTH; i++)
            at[i] = part >= SAE_N_ROW_WEIGHTS || asked->ids[part][i / WIDTH] == i % WIDTH;
        at += n * WIDTH;
    }
}

static void serve(struct served *s, const struct sae_request *r, const struct sae_target *t)
{
    struct sae_answer *a = &s->answer;

    if (t->op == SAE_OP_WEIGHTS) {
        serve_weights(s, &r->weights);
        return;
    }
    read_rows(s, r);
    a->lead = r->lead;
    a->n_rows = r->n_rows;
    if (t->op != SAE_OP_ENCODE)
        a->tensors[a->n_tensors++] =
            (struct sae_out_tensor){.name = "x_hat", .width = WIDTH, .data = s->dense};
    if (t->op == SAE_OP_ENCODE || (r->opt.asked & SAE_OPT_OUTPUT_FEATURES))
        a->tensors[a->n_tensors++] = make_f(s, r);
    if (t->op == SAE_OP_FORWARD && (r->opt.asked & SAE_OPT_OUTPUT_FEATURES))
        a->f_units = "encode";
}

static enum sae_op op_of(const char *route)
{
    const char *const prefix = "POST /v1/dictionaries/id/";

    ck_assert_int_eq(strncmp(route, prefix, strlen(prefix)), 0);
    route += strlen(prefix);
    for (int op = 0; op < SAE_N_OPS; op++)
        if (strncmp(route, sae_op_defs[op].name, strlen(sae_op_defs[op].name)) == 0)
            return (enum sae_op)op;
    ck_abort_msg("%s: no operation", route);
}

static enum sae_status parse(struct sae_request *r, const struct sae_target *t, char *route,
                             enum sae_media m, const char *body, size_t n, struct sae_err *err)
{
    char *query = strchr(route, '?');
    enum sae_status st = sae_query_parse(&r->opt, query ? query + 1 : NULL, err);

    return st == SAE_OK ? sae_codecs[m].parse(r, t, body, n, err) : st;
}

START_TEST(example_holds)
{
    const char *name = names[_i];
    struct served *s = sae_calloc(1, sizeof *s);
    struct sae_request r = {0};
    struct sae_err err = {0};
    struct sae_body out = {0};
    struct sae_target t;
    enum sae_media m = SAE_N_MEDIA;
    size_t n = 0, n_want = 0, n_route = 0;
    char *route = read_file(name, "route", &n_route), *body = NULL, *want, file[32];

    ck_assert_msg(route != NULL, "%s: no route", name);
    route[strcspn(route, "\n")] = '\0';
    for (int i = 0; i < SAE_N_MEDIA && !body; i++) {
        snprintf(file, sizeof file, "request.%s", extensions[i]);
        body = read_file(name, file, &n);
        m = (enum sae_media)i;
    }
    ck_assert_msg(body != NULL, "%s: no request", name);
    t = target_of(CLASS_IDENTITY, op_of(route), WIDTH, WIDTH);
    t.dictionary = "id";
    snprintf(file, sizeof file, "response.%s", extensions[m]);
    want = read_file(name, file, &n_want);
    ck_assert_msg(want != NULL, "%s: no response", name);
    if (parse(&r, &t, route, m, body, n, &err) != SAE_OK) {
        char code[80];

        snprintf(code, sizeof code, "\"code\":\"%s\"", sae_error_info(err.status).code);
        ck_assert_msg(contains(want, code), "%s: %s", name, err.text);
    } else {
        ck_assert_msg(strncmp(name, "error", 5) != 0, "%s is no error", name);
        serve(s, &r, &t);
        ck_assert(sae_media_can(&s->answer) & 1u << m);
        ck_assert_int_eq(sae_codecs[m].print(&out, &s->answer, 1 << 20, NULL), SAE_OK);
        ck_assert_msg(out.n == n_want && memcmp(out.data, want, out.n) == 0, "%s: got %.*s", name,
                      (int)out.n, out.data);
    }
    sae_body_fini(&out);
    sae_request_fini(&r);
    sae_free(want);
    sae_free(body);
    sae_free(route);
    sae_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("examples");
    TCase *t = tcase_create("examples");
    DIR *d = opendir(ROOT);
    struct dirent *e;
    int failed;

    while (d && (e = readdir(d)) && n_names < (int)SAE_COUNTOF(names))
        if (e->d_name[0] != '.')
            names[n_names++] = strdup(e->d_name);
    if (d)
        closedir(d);
    if (n_names < 15) {
        printf("%s has only %d examples\n", ROOT, n_names);
        return 1;
    }
    tcase_add_loop_test(t, example_holds, 0, n_names);
    suite_add_tcase(s, t);
    failed = run_suite(s);
    for (int i = 0; i < n_names; i++)
        free(names[i]);
    return failed;
}
