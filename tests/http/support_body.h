/* support_body.h - black-box tests: make request bodies, read answers of every form alike.
 *
 * Written from the contract alone, beside the codecs that it checks: JSON through jansson, the
 * safetensors container by hand. A malformed answer fails the test (ck_abort). Memory is the
 * caller's: text_free, got_free. Used by the programs of tests/http; one thread. */
#ifndef SAED_TESTS_HTTP_SUPPORT_BODY_H
#define SAED_TESTS_HTTP_SUPPORT_BODY_H

#include "tests/http/support.h"

#include <stdint.h>

struct text {
    char *p; /* a NUL behind it */
    size_t n, cap;
};
void text_free(struct text *t);
void text_add(struct text *t, const void *p, size_t n);
void text_addf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A number by the contract's rules: -0.0, "NaN", "Infinity". */
void text_float(struct text *t, float v);
/* [[...],...] */
void text_rows(struct text *t, const float *v, size_t n_rows, size_t width);
/* {"shape":[n_rows,width],"indices":...,"values":...} of what is not zero. */
void text_sparse(struct text *t, const float *v, size_t n_rows, size_t width);

/* A safetensors body: begin with a zeroed struct, add tensors, end. */
struct st_body {
    struct text header, data;
};
/* shape as JSON: "[2,3]" */
void st_add(struct st_body *b, const char *name, const char *dtype, const char *shape,
            const void *data, size_t n);
struct text st_end(struct st_body *b); /* owned; frees what b held */

/* An .npy body of float32 in C order; shape as Python writes it: "(2, 3)". Owned. */
struct text npy_body(const char *shape, const float *v, size_t n);

/* One tensor of an answer. */
struct got {
    bool present;
    bool is_sparse; /* a sparse object, CSR, or the rectangular top form */
    unsigned n_lead;
    size_t lead[8];
    size_t n_rows, width; /* width: dict_size for sparse ones */
    float *v;             /* [n_rows][width], what is not listed is 0 */
    unsigned char
        *listed;      /* sparse: [n_rows][width], 1 where an entry that is not zero was listed */
    size_t top_width; /* columns of the rectangular form */
};
enum got_order { GOT_ASCENDING, GOT_TOP };
/* The tensor `name` of a 200 answer, whatever its form; lists must be ordered so. */
struct got got_read(const struct reply *r, const char *name, enum got_order order);
void got_free(struct got *g);
/* The string beside the tensors (f_units); "" if there is none. Static buffer. */
const char *got_string(const struct reply *r, const char *name);
/* How many tensors (and f_units) the answer has. */
size_t got_count(const struct reply *r);

/* Server-Timing is there, with its three durations in milliseconds. */
void check_timing(const struct reply *r);
/* The answer is this problem+json: every member there and right, `in_detail` in its detail (NULL:
 * any); option NULL: none may be named; it is that of a limit, but of a 403. Returns nothing; frees
 * nothing. */
void check_problem(const struct reply *r, int status, const char *code, const char *in_detail,
                   const char *option);
/* A head was refused: with 400 and saed's bad_request, or by the library; then the connection ends.
 */
void check_bad_head(const struct reply *r);
/* One member of a JSON answer as text (numbers too), by name; "" if there is none. Static buffer.
 */
const char *json_member(const struct reply *r, const char *name);

long long test_now_ms(void); /* CLOCK_MONOTONIC */
/* Poll /metrics until the series has this value; fails after 10 s. */
void wait_metric(const struct server *s, const char *series, double value);

#endif
