/* test_formats.c - files as each producer writes them: told by what they are, read under the
 * formula that the producer computes, and refused where two could be meant.
 *
 * tests/golden/make_formats.py wrote files and answers, from the producers' formulae. The reference
 * must give the same f and x_hat, exactly where they are exact; every engine and instruction set
 * gives the reference's, in every form, alone and in batches. tests/http/test_formats.c has the
 * same through a daemon. */
#include "lib/dict/ref.h"
#include "lib/saed.h"
#include "tests/support/batches.h"
#include "tests/support/dicts.h"
#include "tests/support/formats.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct formats_case *const *served, *const *refusals;
static size_t n_served, n_refusals;

#define WIDENED ":resident=f32"

static struct sae_dict *opened_as(const struct formats_case *c, const char *option)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[400];

    snprintf(source, sizeof source, "%s%s", c->source, option);
    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s: %s", c->name, err.text);
    return d;
}

static struct sae_dict *opened(const struct formats_case *c)
{
    return opened_as(c, "");
}

/* ---- what is shown ------------------------------------------------------------------------ */

static void join(char *to, size_t room, const char *text)
{
    size_t n = strlen(to);

    ck_assert_uint_lt((size_t)snprintf(to + n, room - n, "%s%s", n ? " | " : "", text), room - n);
}

/* As --check prints it. */
static void describe(const struct sae_dict_info *info, char *lines, size_t n_lines, char *notes,
                     size_t n_notes)
{
    char text[600];

    lines[0] = notes[0] = '\0';
    for (size_t f = 0; f < SAE_N_FIELDS; f++) {
        const struct sae_shown_field *shown = &info->reading[f];

        snprintf(text, sizeof text, "%s=%s%s%s%s", shown->name, shown->text,
                 shown->from == SAE_FROM_STATED ? ", stated" : "",
                 shown->by_file[0] ? ", the file says " : "", shown->by_file);
        if (!shown->is_usual || shown->by_file[0])
            join(lines, n_lines, text);
    }
    for (unsigned k = 0; k < info->n_notes; k++)
        join(notes, n_notes, info->notes[k]);
}

START_TEST(a_file_is_read_as_its_producer_means_it)
{
    const struct formats_case *c = served[_i];
    char lines[sizeof c->lines], notes[sizeof c->notes];
    struct sae_dict *d = opened(c);
    const struct sae_dict_info *info = sae_dict_info(d);

    describe(info, lines, sizeof lines, notes, sizeof notes);
    ck_assert_msg(strcmp(lines, c->lines) == 0, "%s: %s, not %s", c->name, lines, c->lines);
    ck_assert_msg(strcmp(notes, c->notes) == 0, "%s: %s, not %s", c->name, notes, c->notes);
    ck_assert_str_eq(info->class_name, c->class_name);
    ck_assert_str_eq(info->format, c->format);
    ck_assert_uint_eq(info->activation_dim, c->d);
    ck_assert_uint_eq(info->dict_size, c->F);
    ck_assert(info->encodes_only == (c->m == 0));
    if (!info->encodes_only)
        ck_assert_uint_eq(info->output_dim, c->m);
    ck_assert_uint_eq(info->state_width, c->n_state);
    sae_dict_free(d);
}
END_TEST

/* ---- what is computed --------------------------------------------------------------------- */

static void compare(const struct formats_case *c, const char *what, size_t row, const float *got,
                    const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!formats_equal(c, want[row * n + i], got[i]))
            ck_abort_msg("%s: %s[%zu] of row %zu is %.9g, want %.9g", c->name, what, i, row,
                         (double)got[i], want[row * n + i]);
}

START_TEST(the_reference_computes_what_the_producer_does)
{
    const struct formats_case *c = served[_i];
    struct sae_dict *d = opened(c);
    float *f = malloc((c->F + c->m + 1) * sizeof *f), *y = f + c->F, state[SAE_MAX_STATE];

    for (size_t r = 0; r < c->n; r++) {
        const float *x = c->x + r * c->d;

        sae_ref_encode(d, x, f, NULL);
        compare(c, "f", r, f, c->f, c->F);
        for (size_t j = 0; j < c->F; j++)
            ck_assert_msg(f[j] != 0.0f || !signbit(f[j]), "%s: f[%zu] is -0", c->name, j);
        sae_ref_state(d, x, state);
        compare(c, "input_state", r, state, c->s, c->n_state);
        if (c->m == 0)
            continue;
        sae_ref_decode(d, f, true, y);
        sae_ref_output(d, x, state, y);
        compare(c, "x_hat", r, y, c->y, c->m);
    }
    free(f);
    sae_dict_free(d);
}
END_TEST

/* The forms that are asked for: what of a query differs. */
static const struct {
    enum sae_op op;
    enum sae_form form;
    uint64_t top_k;
    bool has_features;
} asked[] = {
    {SAE_OP_ENCODE, SAE_FORM_DENSE, 0, false},  {SAE_OP_ENCODE, SAE_FORM_SPARSE, 0, false},
    {SAE_OP_ENCODE, SAE_FORM_TOP, 2, false},    {SAE_OP_ENCODE, SAE_FORM_DENSE, 0, true},
    {SAE_OP_ENCODE, SAE_FORM_SPARSE, 0, true},  {SAE_OP_ENCODE, SAE_FORM_TOP, 2, true},
    {SAE_OP_FORWARD, SAE_FORM_DENSE, 0, false}, {SAE_OP_FORWARD, SAE_FORM_SPARSE, 0, false},
};
enum { N_ASKED = SAE_COUNTOF(asked), FORWARD_DENSE = N_ASKED - 2 };

struct machine {
    const struct sae_engine *e;
    struct sae_batch *b;
    struct sae_scratch *s;
};

static struct machine machine(const struct sae_engine *e, const struct sae_dict *d)
{
    struct machine m = {.e = e};

    ck_assert_int_eq(sae_batch_create(&m.b, e, dicts_capacity(d, 64), NULL), SAE_OK);
    ck_assert_int_eq(sae_scratch_create(&m.s, e, dicts_capacity(d, 64), NULL), SAE_OK);
    return m;
}

/* decode of what forward gave, with what it wants beside f, is forward's x_hat. */
static void check_decode(const struct machine *m, const struct formats_case *c,
                         const struct sae_dict *d, const struct sae_task *forward)
{
    struct sae_task t = {.dict = d,
                         .query = {.op = SAE_OP_DECODE},
                         .n_rows = c->n,
                         .x = forward->f,
                         .f_in = forward->f_rows,
                         .state_in = forward->state,
                         .skip_x = c->x};
    struct sae_slice slice = {.task = &t, .n_rows = c->n};

    ck_assert_int_eq(sae_task_prepare(&t, NULL), SAE_OK);
    batches_run(m->b, m->s, d, SAE_SIDE_DECODE, &slice, 1);
    for (size_t r = 0; r < c->n; r++)
        compare(c, "x_hat of decode", r, t.x_hat + r * c->m, c->y, c->m);
    sae_task_fini(&t);
}

static void check_engine(const struct machine *m, const struct formats_case *c, struct sae_dict *d,
                         bool exact)
{
    static const uint32_t ids[] = {5, 2, 2};
    uint32_t features[SAE_COUNTOF(ids)];
    struct sae_task tasks[N_ASKED];
    size_t n_asked = c->m == 0 ? FORWARD_DENSE : N_ASKED;

    for (size_t i = 0; i < SAE_COUNTOF(ids); i++)
        features[i] = ids[i] % (uint32_t)c->F;
    for (size_t most = 1; most <= 64; most *= 64) { /* alone, then with others */
        for (size_t i = 0; i < n_asked; i++) {
            struct sae_query *q = &tasks[i].query;

            tasks[i] = (struct sae_task){.dict = d, .n_rows = c->n, .x = c->x};
            *q = (struct sae_query){.op = asked[i].op, .form = asked[i].form, .want_f = true};
            q->want_state = c->n_state > 0;
            q->top_k = asked[i].top_k;
            q->has_features = asked[i].has_features;
            q->features = features;
            q->n_features = q->has_features ? SAE_COUNTOF(ids) : 0;
            ck_assert_int_eq(sae_task_prepare(&tasks[i], NULL), SAE_OK);
        }
        batches_run_all(m->b, m->s, d, SAE_SIDE_ENCODE, tasks, n_asked, most, most);
        for (size_t i = 0; i < n_asked; i++) {
            batches_check(&tasks[i], exact, exact, c->name);
            for (size_t r = 0; r < (c->n_state > 0 ? c->n : 0); r++)
                compare(c, "input_state", r, tasks[i].state + r * c->n_state, c->s, c->n_state);
            if (i >= FORWARD_DENSE && !d->formula.scales_forward_f)
                check_decode(m, c, d, &tasks[i]);
            sae_task_fini(&tasks[i]);
        }
    }
}

static void check_way(const struct formats_case *c, int way, const char *option)
{
    bool is_native = way < SAE_N_ISAS;
    struct sae_dict *d = opened_as(c, is_native ? option : WIDENED);
    struct sae_engine *e =
        is_native ? batches_native((enum sae_isa)way, d) : batches_engine(BATCHES_OPENBLAS, d);
    struct machine m = machine(e, d);

    check_engine(&m, c, d, is_native || !c->is_near);
    sae_batch_free(m.b);
    sae_scratch_free(m.s);
    batches_end(e, d);
    sae_dict_free(d);
}

/* The last way is openblas, whose values are exact where no sum is rounded. */
START_TEST(every_engine_answers_as_the_reference)
{
    for (int way = 0; way <= SAE_N_ISAS; way++)
        if (way == SAE_N_ISAS || sae_cpu_has((enum sae_isa)way))
            check_way(served[_i], way, "");
        else if (_i == 0) /* said once for all files */
            printf("SKIP: this CPU has no %s\n", sae_isa_name((enum sae_isa)way));
}
END_TEST

/* Matrices of 16 bits that are kept as f32: the same bits by the reference, which the engines equal
 * with either. */
START_TEST(widened_weights_give_the_same_bits)
{
    const struct formats_case *c = served[_i];
    struct sae_dict *d = opened(c), *wide = opened_as(c, WIDENED);
    float *f = malloc(2 * (c->F + c->m) * sizeof *f), *g = f + c->F + c->m;

    ck_assert_str_eq(sae_dict_info(wide)->resident, "float32");
    ck_assert_str_eq(sae_dict_info(wide)->weights_sha256, sae_dict_info(d)->weights_sha256);
    for (size_t r = 0; r < c->n; r++) {
        sae_ref_encode(d, c->x + r * c->d, f, NULL);
        sae_ref_encode(wide, c->x + r * c->d, g, NULL);
        if (c->m > 0) {
            sae_ref_decode(d, f, true, f + c->F);
            sae_ref_decode(wide, g, true, g + c->F);
        }
        ck_assert_msg(memcmp(f, g, (c->F + c->m) * sizeof *f) == 0, "%s: row %zu", c->name, r);
    }
    for (int way = 0; way < SAE_N_ISAS; way++)
        if (d->enc.dtype != SAE_DTYPE_F32 && sae_cpu_has((enum sae_isa)way))
            check_way(c, way, WIDENED);
    free(f);
    sae_dict_free(wide);
    sae_dict_free(d);
}
END_TEST

/* The decoder is not kept, though its norms may be: f is as it was. */
START_TEST(an_encoder_alone_encodes_the_same)
{
    const struct formats_case *c = served[_i];
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[400];
    float *f;

    if (c->m == 0)
        return;
    snprintf(source, sizeof source, "%s:parts=encoder", c->source);
    ck_assert_msg(dicts_load(&d, source, NULL, &err) == SAE_OK, "%s: %s", c->name, err.text);
    ck_assert(d->formula.encodes_only);
    f = malloc(c->F * sizeof *f);
    for (size_t r = 0; r < c->n; r++) {
        sae_ref_encode(d, c->x + r * c->d, f, NULL);
        compare(c, "f", r, f, c->f, c->F);
    }
    free(f);
    sae_dict_free(d);
}
END_TEST

/* ---- what is refused ---------------------------------------------------------------------- */

START_TEST(what_could_be_meant_in_two_ways_is_refused)
{
    const struct formats_case *c = refusals[_i];
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    enum sae_status st = dicts_load(&d, c->source, NULL, &err);

    ck_assert_msg(c->refused == 2 ? st == SAE_E_USAGE : st == SAE_E_FORMAT || st == SAE_E_WEIGHTS,
                  "%s: %d %s", c->name, (int)st, err.text);
    for (unsigned i = 0; i < c->n_said; i++)
        ck_assert_msg(strstr(err.text, c->said[i]) != NULL, "%s: \"%s\" is not in: %s", c->name,
                      c->said[i], err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("formats");
    TCase *t = tcase_create("formats");
    SRunner *r = srunner_create(s);

    served = formats_which(false, &n_served);
    refusals = formats_which(true, &n_refusals);
    tcase_add_loop_test(t, a_file_is_read_as_its_producer_means_it, 0, (int)n_served);
    tcase_add_loop_test(t, the_reference_computes_what_the_producer_does, 0, (int)n_served);
    tcase_add_loop_test(t, every_engine_answers_as_the_reference, 0, (int)n_served);
    tcase_add_loop_test(t, widened_weights_give_the_same_bits, 0, (int)n_served);
    tcase_add_loop_test(t, an_encoder_alone_encodes_the_same, 0, (int)n_served);
    tcase_add_loop_test(t, what_could_be_meant_in_two_ways_is_refused, 0, (int)n_refusals);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
