/* test_npy_rows.c - application/x-npy: rows of every dtype, order, version and shape, and back. */
#include "tests/unit/proto/wire_fixture.h"

#include <math.h>

#define MAX_BODY 2048

struct array {
    const char *descr, *shape;
    bool is_fortran;
    int version;
    struct sae_lead lead;
    size_t n_rows;
};

/* A body of this array, in memory of its exact size; its header's blanks as numpy has them. */
static unsigned char *make(const char *descr, const char *order, const char *shape, int version,
                           const void *data, size_t n_data, size_t *n)
{
    const size_t begin = version == 1 ? 10 : 12;
    char dict[256];
    size_t length;
    unsigned char *p;

    snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr, order,
             shape);
    length = (begin + strlen(dict) + 1 + 63) / 64 * 64 - begin;
    *n = begin + length + n_data;
    ck_assert_uint_le(*n, MAX_BODY);
    p = sae_alloc(*n, 1);
    memcpy(p, "\x93NUMPY", 6);
    p[6] = (unsigned char)version;
    p[7] = 0;
    memcpy(p + 8, &length, begin - 8);
    memset(p + begin, ' ', length);
    memcpy(p + begin, dict, strlen(dict));
    p[begin + length - 1] = '\n';
    memcpy(p + begin + length, data, n_data);
    return p;
}

/* Value k of the tests, in C order: 16 bits have it too. */
static float value(size_t k)
{
    return (float)k - 3.5f;
}

static uint16_t half(float v) /* of those */
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    return v == 0 ? 0
                  : (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 |
                               (bits >> 13 & 0x3ff));
}

/* The values in the order of the file. */
static size_t fill(unsigned char *data, const struct array *a)
{
    const size_t n = a->n_rows * 4;
    size_t item = (size_t)(a->descr[2] - '0');

    for (size_t k = 0; k < n; k++) {
        size_t at = k, rest = k, step = n;
        const float v = value(k);
        const uint16_t h = half(v);
        const double d = (double)v;

        if (a->is_fortran) { /* from the last index, which is the fastest of k, to the first */
            at = 0;
            for (unsigned i = a->lead.n + 1; i-- > 0;) {
                const size_t dim = i == a->lead.n ? 4 : (size_t)a->lead.dim[i];

                step /= dim;
                at += rest % dim * step;
                rest /= dim;
            }
        }
        memcpy(data + at * item,
               item == 2   ? (const void *)&h
               : item == 4 ? (const void *)&v
                           : &d,
               item);
    }
    return n * item;
}

static const struct array good[] = {
    {"<f4", "(4,)", false, 1, {0, {0}}, 1},
    {"<f4", "(2, 4)", false, 1, {1, {2}}, 2},
    {"<f4", "(2, 4)", false, 2, {1, {2}}, 2},
    {"<f4", "(2, 4)", false, 3, {1, {2}}, 2},
    {"<f4", "(2, 3, 4)", false, 1, {2, {2, 3}}, 6},
    {"<f4", "(2, 1, 1, 1, 1, 1, 1, 4)", false, 1, {7, {2, 1, 1, 1, 1, 1, 1}}, 2},
    {"<f4", "(0, 4)", false, 1, {1, {0}}, 0},
    {"<f4", "(3, 0, 4)", true, 1, {2, {3, 0}}, 0},
    {"<f2", "(4,)", false, 1, {0, {0}}, 1},
    {"<f2", "(5, 4)", false, 1, {1, {5}}, 5},
    {"<f8", "(5, 4)", false, 1, {1, {5}}, 5},
    {"<f4", "(4,)", true, 1, {0, {0}}, 1},
    {"<f4", "(1, 4)", true, 1, {1, {1}}, 1},
    {"<f4", "(5, 4)", true, 1, {1, {5}}, 5},
    {"<f2", "(5, 4)", true, 2, {1, {5}}, 5},
    {"<f8", "(5, 4)", true, 3, {1, {5}}, 5},
    {"<f4", "(20, 4)", true, 1, {1, {20}}, 20},
    {"<f4", "(2, 3, 5, 4)", true, 1, {3, {2, 3, 5}}, 30},
    {"<f2", "(3, 2, 4)", true, 1, {2, {3, 2}}, 6},
};

static void check_rows(const struct sae_request *r, const struct array *a)
{
    ck_assert_uint_eq(r->n_rows, a->n_rows);
    ck_assert_uint_eq(r->lead.n, a->lead.n);
    for (unsigned k = 0; k < r->lead.n; k++)
        ck_assert_uint_eq(r->lead.dim[k], a->lead.dim[k]);
    ck_assert(!r->is_sparse && (r->values == NULL) == (r->n_rows == 0));
    for (size_t k = 0; k < r->n_rows * 4; k++)
        ck_assert_msg(r->values[k] == value(k), "value %zu is %g", k, (double)r->values[k]);
}

START_TEST(reads_every_dtype_order_and_shape)
{
    const struct array *a = &good[_i];
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0}, kept = {0};
    unsigned char data[MAX_BODY], *body;
    struct sae_err err = {0};
    void *mine;
    size_t n;

    body = make(a->descr, a->is_fortran ? "True" : "False", a->shape, a->version, data,
                fill(data, a), &n);
    ck_assert_msg(sae_npy_parse(&r, &t, body, n, &err) == SAE_OK, "%s", err.text);
    check_rows(&r, a);
    ck_assert_uint_eq(r.held_bytes, a->n_rows * 16);
    mine = body;
    ck_assert_int_eq(sae_npy_keep(&kept, &t, &mine, n, &err), SAE_OK);
    check_rows(&kept, a);
    ck_assert(mine == NULL || mine == body);
    /* the header is moved over, nothing else is done */
    ck_assert_int_eq(mine == NULL,
                     a->n_rows > 0 && a->descr[2] == '4' && (!a->is_fortran || a->lead.n == 0));
    ck_assert(mine != NULL || (void *)kept.values == body);
    sae_request_fini(&r);
    sae_request_fini(&kept);
    sae_free(mine);
}
END_TEST

static const struct {
    const char *descr, *order, *shape;
    size_t n_data;
    enum sae_status status;
    const char *text;
} bad[] = {
    {"<f4", "False", "(2, 5)", 40, SAE_E_BAD_SHAPE, "x has width 5, AutoEncoder wants"},
    {"<f4", "True", "(4, 2)", 32, SAE_E_BAD_SHAPE, "x has width 2"},
    {"<f4", "False", "(0,)", 0, SAE_E_BAD_SHAPE, "x has width 0"},
    {"<f4", "False", "()", 4, SAE_E_BAD_SHAPE, "its shape is (), wanted 1 to 8 dimensions"},
    {"<f4", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 4)", 16, SAE_E_MALFORMED_BODY, "more than 8 dim"},
    {"<f4", "False", "(2, 4)", 31, SAE_E_MALFORMED_BODY, "do not fit the 31 bytes"},
    {"<f4", "False", "(2, 4)", 33, SAE_E_MALFORMED_BODY, "do not fit the 33 bytes"},
    {"<f4", "False", "(4611686018427387905, 4)", 16, SAE_E_MALFORMED_BODY, "passes 64 bits"},
    {"<f4", "False", "(4", 16, SAE_E_MALFORMED_BODY, "its header is no literal"},
    {"<f4", "Maybe", "(4,)", 16, SAE_E_MALFORMED_BODY, "True or False"},
    {"<i4", "False", "(4,)", 16, SAE_E_MALFORMED_BODY,
     "its dtype is int32, wanted float16, float32 or float64"},
    {"|b1", "False", "(4,)", 4, SAE_E_MALFORMED_BODY, "its dtype is bool"},
    {">f4", "False", "(4,)", 16, SAE_E_MALFORMED_BODY, "big-endian"},
    {"|V2", "False", "(4,)", 8, SAE_E_MALFORMED_BODY, "structures are not read"},
    {"|O", "False", "(4,)", 8, SAE_E_MALFORMED_BODY, "objects, which are pickles"},
};

START_TEST(what_is_no_array_of_rows_is_told)
{
    static const char data[64];
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    void *kept;
    size_t n;

    kept = make(bad[_i].descr, bad[_i].order, bad[_i].shape, 1, data, bad[_i].n_data, &n);
    ck_assert_int_eq(sae_npy_parse(&r, &t, kept, n, &err), bad[_i].status);
    assert_err(err, bad[_i].status, bad[_i].text);
    ck_assert_str_eq(err.where, "x");
    sae_request_fini(&r);
    ck_assert_int_eq(sae_npy_keep(&r, &t, &kept, n, NULL), bad[_i].status);
    ck_assert_ptr_nonnull(kept); /* the caller's still */
    sae_request_fini(&r);
    sae_free(kept);
}
END_TEST

START_TEST(a_double_beyond_f32_is_a_bad_number)
{
    const double data[8] = {1, INFINITY, -INFINITY, NAN, 3.4e38, 0, -3.5e38, 1e300};
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);

    for (int fortran = 0; fortran < 2; fortran++) {
        struct sae_request r = {0};
        struct sae_err err = {0};
        size_t n;
        unsigned char *body =
            make("<f8", fortran ? "True" : "False", "(2, 4)", 1, data, sizeof data, &n);

        ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, &err), SAE_E_BAD_NUMBER);
        assert_err(err, SAE_E_BAD_NUMBER, "value 6 is -3.5e+38, f32 cannot hold it");
        sae_request_fini(&r);
        sae_free(body);
    }
}
END_TEST

START_TEST(a_dtype_that_is_named_is_that_of_the_array)
{
    const uint16_t data[4] = {0};
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    size_t n;
    unsigned char *body = make("<f2", "False", "(4,)", 1, data, sizeof data, &n);

    t.type = (struct sae_media_type){SAE_MEDIA_NPY, true, SAE_DTYPE_F16, SAE_WIRE_USUAL};
    ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, NULL), SAE_OK);
    sae_request_fini(&r);
    t.type.dtype = SAE_DTYPE_F32;
    ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, &err), SAE_E_MALFORMED_BODY);
    assert_err(err, SAE_E_MALFORMED_BODY, "its dtype is float16, its Content-Type says float32");
    sae_request_fini(&r);
    sae_free(body);
}
END_TEST

START_TEST(memory_is_held_and_may_run_out)
{
    const uint16_t data[8] = {0};
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    struct sae_err err = {0};
    size_t n;
    unsigned char *body = make("<f2", "False", "(2, 4)", 1, data, sizeof data, &n);

    t.max_bytes = 31;
    ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, &err), SAE_E_BODY_TOO_LARGE);
    ck_assert_str_eq(err.option, "--max-inflight-bytes");
    sae_request_fini(&r);
    t.max_bytes = 32;
    for (int fail = 0; fail < 2; fail++) { /* the header's text, the rows */
        sae_alloc_fault(fail, false);
        ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, NULL), SAE_E_NOMEM);
        sae_alloc_fault(-1, false);
        sae_request_fini(&r);
    }
    sae_free(body);
}
END_TEST

/* Every prefix and every byte changed: refused or read, nothing past the end (as a sanitizer sees:
 * memory is of the exact size). */
START_TEST(any_bytes_are_survived)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    unsigned char data[MAX_BODY], *body;
    size_t n;

    body = make("<f2", "True", "(5, 4)", _i + 1, data, fill(data, &good[14]), &n);
    for (size_t k = 0; k < n; k++) {
        unsigned char *part = sae_alloc(k, 1);
        struct sae_request r = {0};

        memcpy(part, body, k);
        ck_assert_int_eq(sae_npy_parse(&r, &t, part, k, NULL), SAE_E_MALFORMED_BODY);
        sae_request_fini(&r);
        sae_free(part);
    }
    for (size_t k = 0; k < n; k++)
        for (int c = 0; c < 256; c += 5) {
            unsigned char was = body[k];
            struct sae_request r = {0};

            body[k] = (unsigned char)c;
            if (sae_npy_parse(&r, &t, body, n, NULL) == SAE_OK)
                ck_assert(r.n_rows * 4 * 2 <= n);
            sae_request_fini(&r);
            body[k] = was;
        }
    sae_free(body);
}
END_TEST

START_TEST(decode_takes_features)
{
    const float data[8] = {1, NAN, -INFINITY};
    struct sae_target t = target_of(CLASS_GATED, SAE_OP_DECODE, 4, 8);
    struct sae_request r = {0};
    size_t n;
    unsigned char *body = make("<f4", "False", "(8,)", 1, data, sizeof data, &n);

    ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, NULL), SAE_OK);
    ck_assert(r.n_rows == 1 && r.lead.n == 0 && memcmp(r.values, data, sizeof data) == 0);
    sae_request_fini(&r);
    ck_assert_int_eq(sae_query_parse(&r.opt, "top_k=2", NULL), SAE_OK);
    ck_assert_int_eq(sae_npy_parse(&r, &t, body, n, NULL), SAE_E_BAD_OPTION);
    sae_request_fini(&r);
    sae_free(body);
}
END_TEST

START_TEST(prints_what_numpy_writes)
{
    static const struct {
        struct sae_lead lead;
        size_t n_rows;
        uint64_t width;
        const char *shape;
        size_t n_header;
    } cases[] = {
        {{0, {0}}, 1, 6, "(6,)", 128},
        {{1, {2}}, 2, 6, "(2, 6)", 128},
        {{2, {2, 3}}, 6, 2, "(2, 3, 2)", 128},
        {{1, {0}}, 0, 6, "(0, 6)", 128},
        {{1, {3}}, 3, 0, "(3, 0)", 128},
        {{7, {0, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}},
         0,
         6,
         "(0, 18446744073709551615, 18446744073709551615, 18446744073709551615, "
         "18446744073709551615, 18446744073709551615, 18446744073709551615, 6)",
         256},
    };
    float data[12];

    for (size_t i = 0; i < 12; i++)
        data[i] = value(i);
    for (size_t i = 0; i < SAE_COUNTOF(cases); i++) {
        struct sae_answer a = {.lead = cases[i].lead, .n_rows = cases[i].n_rows, .n_tensors = 1};
        size_t n_data = cases[i].n_rows * cases[i].width * 4, n;
        unsigned char *want = make("<f4", "False", cases[i].shape, 1, data, n_data, &n);
        struct sae_body b = {0};
        struct sae_err err = {0};

        a.tensors[0] = (struct sae_out_tensor){.name = "f", .width = cases[i].width, .data = data};
        ck_assert_uint_eq(n, cases[i].n_header + n_data);
        ck_assert_uint_eq(sae_npy_bound(&a), n);
        ck_assert_int_eq(sae_npy_print(&b, &a, n, NULL), SAE_OK);
        ck_assert(b.n == n && memcmp(b.data, want, n) == 0);
        ck_assert_str_eq(b.shape, "");
        sae_body_fini(&b);
        ck_assert_int_eq(sae_npy_print(&b, &a, n - 1, &err), SAE_E_RESPONSE_TOO_LARGE);
        ck_assert(err.limit == n - 1 && err.got == n && b.data == NULL);
        sae_free(want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("npy_rows");
    TCase *t = tcase_create("npy_rows");

    tcase_add_loop_test(t, reads_every_dtype_order_and_shape, 0, SAE_COUNTOF(good));
    tcase_add_loop_test(t, what_is_no_array_of_rows_is_told, 0, SAE_COUNTOF(bad));
    tcase_add_test(t, a_double_beyond_f32_is_a_bad_number);
    tcase_add_test(t, a_dtype_that_is_named_is_that_of_the_array);
    tcase_add_test(t, memory_is_held_and_may_run_out);
    tcase_add_loop_test(t, any_bytes_are_survived, 0, 3);
    tcase_add_test(t, decode_takes_features);
    tcase_add_test(t, prints_what_numpy_writes);
    suite_add_tcase(s, t);
    return run_suite(s);
}
