/* test_forms.c - PyTorch's answers through the wire: every class, operation and option, every form
 * of request and answer, within the numbers contract's tolerance.
 *
 * One daemon serves all state dicts of tests/golden/data; each case is a test. Answers are compared
 * with the formula in f64 (tolerance.h), which PyTorch's own answers are within as well
 * (tests/golden). Values that are not finite travel as the contract says. */
#include "tests/http/support_body.h"
#include "tests/support/golden.h"
#include "tests/support/tolerance.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON "application/json"
#define RAW "application/octet-stream"
#define ST "application/x-safetensors"
#define NPY "application/x-npy"

static struct server s;

static void start(void)
{
    static char sources[64][192];
    const char *args[66] = {0};
    size_t n = golden_count();

    ck_assert(n > 20 && n <= 64);
    for (size_t i = 0; i < n; i++) {
        struct golden *g = golden_load(i);

        if (g->pt_path[0])
            snprintf(sources[i], sizeof sources[i], "%s=%s", g->name, g->pt_path);
        else
            snprintf(sources[i], sizeof sources[i], "%s=identity:%zu", g->name, g->d);
        args[i] = sources[i];
        golden_free(g);
    }
    s = server_start(args);
}

static void stop(void)
{
    ck_assert_int_eq(server_stop(&s), 0);
}

struct fixture {
    struct golden *g;
    struct sae_dict *d;
};

static void setup(struct fixture *t, int i)
{
    t->g = golden_load((size_t)i);
    ck_assert_ptr_nonnull(t->g);
    t->d = golden_dict(t->g);
}

static void teardown(struct fixture *t)
{
    sae_dict_free(t->d);
    golden_free(t->g);
}

static struct reply post(const struct golden *g, const char *op_and_query, const char *type,
                         const char *accept, const void *body, size_t n)
{
    char path[512], type_line[128], accept_line[128];
    const char *headers[] = {type_line, accept_line, NULL};

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", g->name, op_and_query);
    snprintf(type_line, sizeof type_line, "Content-Type: %s", type);
    snprintf(accept_line, sizeof accept_line, "Accept: %s", accept);
    return request(&s, "POST", path, headers, body, n);
}

/* A dense input in this form. */
static struct text dense_body(const char *type, const char *name, const float *v, size_t rows,
                              size_t width)
{
    struct text t = {0};

    if (strcmp(type, RAW) == 0) {
        text_add(&t, v, rows * width * 4);
    } else if (strcmp(type, NPY) == 0) {
        char shape[64];

        snprintf(shape, sizeof shape, "(%zu, %zu)", rows, width);
        t = npy_body(shape, v, rows * width);
    } else if (strcmp(type, ST) == 0) {
        struct st_body b = {0};
        char shape[64];

        snprintf(shape, sizeof shape, "[%zu,%zu]", rows, width);
        st_add(&b, name, "F32", shape, v, rows * width * 4);
        t = st_end(&b);
    } else {
        text_addf(&t, "{\"%s\":", name);
        text_rows(&t, v, rows, width);
        text_addf(&t, "}");
    }
    return t;
}

static struct reply send_x(const struct golden *g, const char *op, const char *type,
                           const char *accept)
{
    struct text body = dense_body(type, "x", golden_array(g, "x")->v, g->n_rows, g->d);
    struct reply r = post(g, op, type, accept, body.p, body.n);

    text_free(&body);
    return r;
}

/* ---- comparing ----------------------------------------------------------------------------- */

enum which { OF_ENCODE, OF_FORWARD, OF_AUX };

static void truth(const struct fixture *t, size_t row, enum which which, struct tol *out)
{
    const float *x = golden_array(t->g, "x")->v + row * t->g->d;
    struct tol f, aux = {0};

    tol_encode(t->d, x, which == OF_FORWARD && t->d->info.scales_forward_f, &f,
               which == OF_AUX ? &aux : NULL);
    *out = which == OF_AUX ? aux : f;
    if (which == OF_AUX)
        tol_free(&f);
}

static void near(const struct golden *g, const struct tol *t, size_t j, float got, const char *what,
                 size_t row)
{
    if (!tol_near(t, j, got))
        ck_abort_msg("%s %s row %zu: [%zu] = %.9g, want %.17g (or %.17g) within %.3g", g->name,
                     what, row, j, (double)got, t->want[j], t->alt[j], t->tol[j]);
}

/* A feature tensor with all columns, dense or every entry that is not zero. */
static void check_all(const struct fixture *t, const struct got *g, enum which which,
                      const char *what)
{
    ck_assert_msg(g->present, "%s: no %s", t->g->name, what);
    ck_assert_uint_eq(g->n_lead, 1);
    ck_assert_uint_eq(g->n_rows, t->g->n_rows);
    ck_assert_uint_eq(g->width, t->g->F);
    for (size_t r = 0; r < g->n_rows; r++) {
        struct tol want;

        truth(t, r, which, &want);
        for (size_t j = 0; j < g->width; j++)
            near(t->g, &want, j, g->v[r * g->width + j], what, r);
        tol_free(&want);
    }
}

/* The columns of `ids`, in that order. */
static void check_columns(const struct fixture *t, const struct got *g, enum which which,
                          const size_t *ids, size_t n)
{
    ck_assert(g->present && !g->is_sparse);
    ck_assert_uint_eq(g->n_rows, t->g->n_rows);
    ck_assert_uint_eq(g->width, n);
    for (size_t r = 0; r < g->n_rows; r++) {
        struct tol want;

        truth(t, r, which, &want);
        for (size_t k = 0; k < n; k++)
            near(t->g, &want, ids[k], g->v[r * n + k], "features", r);
        tol_free(&want);
    }
}

static float entry(const struct got *g, size_t r, size_t j)
{
    return j < g->width ? g->v[r * g->width + j] : 0;
}

static bool is_listed(const struct got *g, size_t r, size_t j)
{
    return j < g->width && g->listed[r * g->width + j];
}

/* The k largest of the full answer `all`, which came for the same rows. Bits may differ a little
 * between two requests, so what is not listed may exceed what is by the tolerance. */
static void check_top(const struct fixture *t, const struct got *g, const struct got *all, size_t k,
                      enum which which)
{
    ck_assert(g->present && g->is_sparse);
    ck_assert_uint_eq(g->n_rows, t->g->n_rows);
    for (size_t r = 0; r < g->n_rows; r++) {
        size_t listed = 0, positive = 0, nans = 0;
        double least = INFINITY;
        struct tol want;

        truth(t, r, which, &want);
        for (size_t j = 0; j < t->g->F; j++) {
            float a = all->v[r * all->width + j];

            positive += a != 0;
            if (!is_listed(g, r, j))
                continue;
            listed++;
            nans += isnan(entry(g, r, j));
            near(t->g, &want, j, entry(g, r, j), "top_k", r);
            if (entry(g, r, j) < least)
                least = (double)entry(g, r, j);
        }
        ck_assert_msg(listed == (positive < k ? positive : k),
                      "%s row %zu: %zu listed, k %zu, %zu not zero", t->g->name, r, listed, k,
                      positive);
        for (size_t j = 0; j < t->g->F && listed == k; j++) {
            float a = all->v[r * all->width + j];

            if (!is_listed(g, r, j) && a != 0)
                ck_assert_msg(isnan(a) ? nans == k
                                       : nans == k || (double)a <= least + 2 * want.tol[j],
                              "%s row %zu: %zu is left out", t->g->name, r, j);
        }
        tol_free(&want);
    }
}

/* x_hat [N,d] against decode of these f. */
static void check_x_hat(const struct fixture *t, const struct got *x_hat, const float *f,
                        size_t rows)
{
    ck_assert(x_hat->present && !x_hat->is_sparse);
    ck_assert_uint_eq(x_hat->n_rows, rows);
    ck_assert_uint_eq(x_hat->width, t->g->d);
    for (size_t r = 0; r < rows; r++) {
        struct tol want;

        tol_decode(t->d, f + r * t->g->F, NULL, &want);
        for (size_t j = 0; j < t->g->d; j++)
            near(t->g, &want, j, x_hat->v[r * t->g->d + j], "x_hat", r);
        tol_free(&want);
    }
}

static const char *aux_option(const struct fixture *t, bool forward)
{
    if (strcmp(t->g->class_name, "JumpAutoEncoder") == 0)
        return "output_pre_jump";
    return !forward && strcmp(t->g->class_name, "GatedAutoEncoder") == 0 ? "return_gate" : NULL;
}

/* ---- the tests ----------------------------------------------------------------------------- */

static const char *const media[] = {JSON, RAW, ST, NPY};
enum { N_MEDIA = sizeof media / sizeof *media };

START_TEST(encode_in_every_form)
{
    struct fixture t;

    setup(&t, _i);
    for (int in = 0; in < N_MEDIA; in++)
        for (int out = 0; out < N_MEDIA; out++) {
            struct reply r = send_x(t.g, "encode", media[in], media[out]);
            struct got f = got_read(&r, "f", GOT_ASCENDING);

            ck_assert_str_eq(reply_header(&r, "Content-Type"), media[out]);
            check_all(&t, &f, OF_ENCODE, "f");
            got_free(&f);
            reply_free(&r);
        }
    teardown(&t);
}
END_TEST

START_TEST(encode_sparse_and_aux)
{
    static const char *const out[] = {JSON, ST};
    struct fixture t;

    setup(&t, _i);
    for (int in = 0; in < N_MEDIA; in++)
        for (int o = 0; o < 2; o++)
            for (int sparse = 0; sparse < 2; sparse++) {
                const char *option = aux_option(&t, false);
                char op[64];
                struct reply r;
                struct got f, aux;

                snprintf(op, sizeof op, "encode?sparse=%s%s%s%s", sparse ? "true" : "false",
                         option ? "&" : "", option ? option : "", option ? "=true" : "");
                r = send_x(t.g, op, media[in], out[o]);
                f = got_read(&r, "f", GOT_ASCENDING);
                ck_assert_int_eq(f.is_sparse, sparse);
                check_all(&t, &f, OF_ENCODE, "f");
                got_free(&f);
                if (option) {
                    aux = got_read(&r, t.d->info.aux_name, GOT_ASCENDING);
                    ck_assert_int_eq(aux.is_sparse, sparse);
                    check_all(&t, &aux, OF_AUX, "aux");
                    got_free(&aux);
                }
                if (o == 0)
                    ck_assert_uint_eq(got_count(&r), option ? 2 : 1);
                reply_free(&r);
            }
    teardown(&t);
}
END_TEST

START_TEST(encode_top_k)
{
    static const char *const out[] = {JSON, ST};
    struct fixture t;
    struct reply dense;
    struct got all;

    setup(&t, _i);
    dense = send_x(t.g, "encode", RAW, RAW);
    all = got_read(&dense, "f", GOT_ASCENDING);
    for (size_t k = 1; k <= 5; k += 2)
        for (int o = 0; o < 2; o++) {
            const char *option = aux_option(&t, false);
            char op[64];
            struct reply r;
            struct got f;

            snprintf(op, sizeof op, "encode?top_k=%zu%s%s%s", k, option ? "&" : "",
                     option ? option : "", option ? "=true" : "");
            r = send_x(t.g, op, RAW, out[o]);
            f = got_read(&r, "f", GOT_TOP);
            check_top(&t, &f, &all, k, OF_ENCODE);
            if (o == 1)
                ck_assert_uint_eq(f.top_width, k < t.g->F ? k : t.g->F);
            got_free(&f);
            reply_free(&r);
        }
    got_free(&all);
    reply_free(&dense);
    teardown(&t);
}
END_TEST

START_TEST(encode_features)
{
    struct fixture t;
    char op[128];

    setup(&t, _i);
    for (int out = 0; out < N_MEDIA; out++) {
        size_t F = t.g->F, ids[] = {F - 1, 0, F / 2, 0};
        struct reply r;
        struct got f;

        snprintf(op, sizeof op, "encode?features=%zu,%zu,%zu,%zu", ids[0], ids[1], ids[2], ids[3]);
        r = send_x(t.g, op, RAW, media[out]);
        f = got_read(&r, "f", GOT_ASCENDING);
        check_columns(&t, &f, OF_ENCODE, ids, 4);
        got_free(&f);
        reply_free(&r);
    }
    teardown(&t);
}
END_TEST

START_TEST(forward_with_everything)
{
    static const char *const out[] = {JSON, ST};
    struct fixture t;
    struct reply dense;
    struct got all;

    setup(&t, _i);
    dense = send_x(t.g, "encode", RAW, RAW);
    all = got_read(&dense, "f", GOT_ASCENDING);
    for (int in = 0; in < N_MEDIA; in++)
        for (int o = 0; o < 2; o++)
            for (int sparse = 0; sparse < 2; sparse++) {
                const char *option = aux_option(&t, true);
                char op[128];
                struct reply r;
                struct got g;

                snprintf(op, sizeof op, "forward?output_features=true&sparse=%s%s%s%s",
                         sparse ? "true" : "false", option ? "&" : "", option ? option : "",
                         option ? "=true" : "");
                r = send_x(t.g, op, media[in], out[o]);
                g = got_read(&r, "x_hat", GOT_ASCENDING);
                check_x_hat(&t, &g, all.v, t.g->n_rows);
                got_free(&g);
                g = got_read(&r, "f", GOT_ASCENDING);
                ck_assert_int_eq(g.is_sparse, sparse);
                check_all(&t, &g, OF_FORWARD, "forward's f");
                got_free(&g);
                g = got_read(&r, "pre_jump", GOT_ASCENDING);
                ck_assert_int_eq(g.present, option != NULL);
                if (option)
                    check_all(&t, &g, OF_AUX, "pre_jump");
                got_free(&g);
                ck_assert_str_eq(got_string(&r, "f_units"),
                                 t.d->info.scales_forward_f ? "decoder_norm" : "encode");
                reply_free(&r);
            }
    for (int form = 0; form < N_MEDIA; form++) { /* x_hat alone: any form */
        struct reply r = send_x(t.g, "forward", JSON, media[form]);
        struct got g = got_read(&r, "x_hat", GOT_ASCENDING);

        check_x_hat(&t, &g, all.v, t.g->n_rows);
        if (form == 0)
            ck_assert_uint_eq(got_count(&r), 1); /* no f_units without f */
        got_free(&g);
        reply_free(&r);
    }
    got_free(&all);
    reply_free(&dense);
    teardown(&t);
}
END_TEST

START_TEST(forward_shapes_its_f)
{
    struct fixture t;
    struct reply r, dense;
    struct got g, all;
    char op[128];

    setup(&t, _i);
    dense = send_x(t.g, "forward?output_features=true", RAW, ST);
    all = got_read(&dense, "f", GOT_ASCENDING);
    r = send_x(t.g, "forward?output_features=true&top_k=2", RAW, JSON);
    g = got_read(&r, "f", GOT_TOP);
    check_top(&t, &g, &all, 2, OF_FORWARD); /* ranks the values returned: the scaled ones */
    got_free(&g);
    reply_free(&r);
    size_t ids[] = {t.g->F - 1, 0};
    snprintf(op, sizeof op, "forward?output_features=true&features=%zu,%zu", ids[0], ids[1]);
    r = send_x(t.g, op, RAW, ST);
    g = got_read(&r, "f", GOT_ASCENDING);
    check_columns(&t, &g, OF_FORWARD, ids, 2);
    got_free(&g);
    reply_free(&r);
    got_free(&all);
    reply_free(&dense);
    teardown(&t);
}
END_TEST

START_TEST(decode_in_every_form)
{
    const struct golden_array *f;
    struct fixture t;

    setup(&t, _i);
    f = golden_array(t.g, "dec_f");
    for (int in = 0; in < N_MEDIA; in++)
        for (int out = 0; out < N_MEDIA; out++) {
            struct text body = dense_body(media[in], "f", f->v, f->dim[0], t.g->F);
            struct reply r = post(t.g, "decode", media[in], media[out], body.p, body.n);
            struct got g = got_read(&r, "x_hat", GOT_ASCENDING);

            check_x_hat(&t, &g, f->v, f->dim[0]);
            got_free(&g);
            reply_free(&r);
            text_free(&body);
        }
    teardown(&t);
}
END_TEST

START_TEST(decode_sparse)
{
    const struct golden_array *f;
    struct text json = {0}, csr;
    struct st_body b = {0};
    int32_t *indptr, *ids;
    float *values;
    int32_t nnz = 0;
    char shape[64];
    struct fixture t;
    struct reply r;
    struct got g;

    setup(&t, _i);
    f = golden_array(t.g, "dec_f");
    text_addf(&json, "{\"f\":");
    text_sparse(&json, f->v, f->dim[0], t.g->F);
    text_addf(&json, "}");
    r = post(t.g, "decode", JSON, ST, json.p, json.n);
    g = got_read(&r, "x_hat", GOT_ASCENDING);
    check_x_hat(&t, &g, f->v, f->dim[0]);
    got_free(&g);
    reply_free(&r);
    text_free(&json);

    indptr = calloc(f->dim[0] + 1, 4);
    ids = calloc(f->n, 4);
    values = calloc(f->n, 4);
    for (size_t i = 0; i < f->n; i++) {
        if (f->v[i] != 0) {
            ids[nnz] = (int32_t)(i % t.g->F);
            values[nnz++] = f->v[i];
        }
        if ((i + 1) % t.g->F == 0)
            indptr[(i + 1) / t.g->F] = nnz;
    }
    int64_t dims[2] = {(int64_t)f->dim[0], (int64_t)t.g->F};
    snprintf(shape, sizeof shape, "[%zu]", f->dim[0] + 1);
    st_add(&b, "f.indptr", "I32", shape, indptr, (f->dim[0] + 1) * 4);
    snprintf(shape, sizeof shape, "[%d]", nnz);
    st_add(&b, "f.indices", "I32", shape, ids, (size_t)nnz * 4);
    st_add(&b, "f.values", "F32", shape, values, (size_t)nnz * 4);
    st_add(&b, "f.shape", "I64", "[2]", dims, sizeof dims);
    csr = st_end(&b);
    r = post(t.g, "decode", ST, RAW, csr.p, csr.n);
    g = got_read(&r, "x_hat", GOT_ASCENDING);
    check_x_hat(&t, &g, f->v, f->dim[0]);
    got_free(&g);
    reply_free(&r);
    text_free(&csr);
    free(indptr), free(ids), free(values);
    teardown(&t);
}
END_TEST

static void check_ghost(const struct fixture *t, const struct reply *r, const float *mask,
                        size_t row_step)
{
    struct got g = got_read(r, "x_ghost", GOT_ASCENDING);

    ck_assert(g.present && !g.is_sparse);
    ck_assert_uint_eq(g.n_rows, t->g->n_rows);
    for (size_t i = 0; i < g.n_rows; i++) {
        struct tol want;

        tol_ghost(t->d, golden_array(t->g, "x")->v + i * t->g->d, mask + i * row_step,
                  row_step == 1 ? 0 : 1, &want);
        for (size_t j = 0; j < t->g->d; j++)
            near(t->g, &want, j, g.v[i * t->g->d + j], "x_ghost", i);
        tol_free(&want);
    }
    got_free(&g);
    g = got_read(r, "x_hat", GOT_ASCENDING);
    ck_assert(g.present);
    got_free(&g);
}

/* mask [F], [N,F] and [N,1]; JSON and safetensors. */
START_TEST(ghost_masks)
{
    struct fixture t;
    struct golden *g;

    setup(&t, _i);
    g = t.g;
    if (golden_array(g, "mask")) {
        float *column = calloc(g->n_rows, 4);
        const float *masks[3] = {golden_array(g, "mask")->v, golden_array(g, "mask2")->v, column};
        size_t rows[3] = {0, g->n_rows, g->n_rows}, width[3] = {g->F, g->F, 1};

        for (size_t i = 0; i < g->n_rows; i++)
            column[i] = i % 2 ? 0.5f : 1.0f;
        for (int m = 0; m < 3; m++) {
            struct text json = {0}, st;
            struct st_body b = {0};
            struct text flat = {0};
            char shape[64], xshape[64];
            struct reply r;

            /* F = 1 makes [N,1] and [N,F] one; [F] is told by its depth */
            text_addf(&json, "{\"x\":");
            text_rows(&json, golden_array(g, "x")->v, g->n_rows, g->d);
            text_addf(&json, ",\"ghost_mask\":");
            text_rows(&flat, masks[m], rows[m] ? rows[m] : 1, width[m]);
            if (rows[m])
                text_add(&json, flat.p, flat.n);
            else
                text_add(&json, flat.p + 1, flat.n - 2);
            text_addf(&json, "}");
            r = post(g, "forward", JSON, JSON, json.p, json.n);
            check_ghost(&t, &r, masks[m], rows[m] ? width[m] : 0);
            reply_free(&r);

            snprintf(xshape, sizeof xshape, "[%zu,%zu]", g->n_rows, g->d);
            snprintf(shape, sizeof shape, rows[m] ? "[%zu,%zu]" : "[%zu]",
                     rows[m] ? rows[m] : width[m], width[m]);
            st_add(&b, "x", "F32", xshape, golden_array(g, "x")->v, g->n_rows * g->d * 4);
            st_add(&b, "ghost_mask", "F32", shape, masks[m],
                   (rows[m] ? rows[m] : 1) * width[m] * 4);
            st = st_end(&b);
            r = post(g, "forward", ST, "*/*", st.p, st.n);
            ck_assert_str_eq(reply_header(&r, "Content-Type"), ST);
            check_ghost(&t, &r, masks[m], rows[m] ? width[m] : 0);
            reply_free(&r);
            text_free(&json), text_free(&flat), text_free(&st);
        }
        free(column);
    }
    teardown(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forms");
    TCase *t = tcase_create("golden");
    SRunner *r = srunner_create(suite);
    int n = (int)golden_count(), failed;

    tcase_add_unchecked_fixture(t, start, stop);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, encode_in_every_form, 0, n);
    tcase_add_loop_test(t, encode_sparse_and_aux, 0, n);
    tcase_add_loop_test(t, encode_top_k, 0, n);
    tcase_add_loop_test(t, encode_features, 0, n);
    tcase_add_loop_test(t, forward_with_everything, 0, n);
    tcase_add_loop_test(t, forward_shapes_its_f, 0, n);
    tcase_add_loop_test(t, decode_in_every_form, 0, n);
    tcase_add_loop_test(t, decode_sparse, 0, n);
    tcase_add_loop_test(t, ghost_masks, 0, n);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
