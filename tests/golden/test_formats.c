/* test_formats.c - files as each producer writes them: told by what they are, read under the
 * formula that the producer computes, and refused where two could be meant.
 *
 * tests/golden/make_formats.py wrote files and answers, from the producers' formulae; the reference
 * must give the same f and x_hat, exactly where they are exact. */
#include "lib/dict/ref.h"
#include "lib/saed.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HERE "tests/golden/formats/"
#define MAX_CASES 64
#define MAX_VALUES 256
#define LINE_MAX_BYTES 8192

struct gold {
    char name[64], source[256], class_name[64], format[32], lines[600], notes[1000];
    size_t n, d, F, m;
    bool is_near;
    double x[MAX_VALUES], f[MAX_VALUES], y[MAX_VALUES];
};
static struct gold golds[MAX_CASES];
static size_t n_golds;

static void values(const char *text, double *out)
{
    char *end;

    for (size_t i = 0; *text == ' '; i++, text = end) {
        ck_assert_uint_lt(i, MAX_VALUES);
        out[i] = strtod(text, &end);
    }
}

static void join(char *to, size_t room, const char *text)
{
    size_t n = strlen(to);

    ck_assert_uint_lt((size_t)snprintf(to + n, room - n, "%s%s", n ? " | " : "", text), room - n);
}

static void take(struct gold *g, const char *key, char *rest)
{
    char near[8] = "";

    if (strcmp(key, "class") == 0)
        snprintf(g->class_name, sizeof g->class_name, "%s", rest + 1);
    else if (strcmp(key, "format") == 0)
        snprintf(g->format, sizeof g->format, "%s", rest + 1);
    else if (strcmp(key, "line") == 0)
        join(g->lines, sizeof g->lines, rest + 1);
    else if (strcmp(key, "note") == 0)
        join(g->notes, sizeof g->notes, rest + 1);
    else if (strcmp(key, "dims") == 0) {
        ck_assert_int_ge(sscanf(rest, "%zu %zu %zu %zu %7s", &g->n, &g->d, &g->F, &g->m, near), 4);
        g->is_near = near[0] != '\0';
    } else {
        values(rest, key[0] == 'x' ? g->x : key[0] == 'f' ? g->f : g->y);
    }
}

static void read_golds(void)
{
    char line[LINE_MAX_BYTES];
    FILE *in = fopen(HERE "formats.gold", "r");
    struct gold *g = NULL;

    ck_assert_ptr_nonnull(in);
    memset(golds, 0, sizeof golds); /* of the test before, where tests do not fork */
    n_golds = 0;
    while (fgets(line, sizeof line, in)) {
        size_t n = strcspn(line, " ");
        char *source;

        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "case ", 5) != 0) {
            char key[16];

            snprintf(key, sizeof key, "%.*s", (int)n, line);
            take(g, key, line + n);
            continue;
        }
        ck_assert_uint_lt(n_golds, MAX_CASES);
        g = &golds[n_golds++];
        source = strrchr(line, ' ');
        snprintf(g->source, sizeof g->source, HERE "%s", source + 1);
        snprintf(g->name, sizeof g->name, "%.*s", (int)(source - line - 5), line + 5);
    }
    fclose(in);
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

static void compare(const struct gold *g, const char *what, const float *got, const double *want,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double room = g->is_near ? 1e-5 * (1.0 + fabs(want[i])) : 0.0;

        ck_assert_msg(fabs((double)got[i] - want[i]) <= room, "%s: %s[%zu] is %.9g, want %.9g",
                      g->name, what, i, (double)got[i], want[i]);
    }
}

START_TEST(a_file_is_read_as_its_producer_means_it)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char lines[600], notes[1000];
    const struct gold *g;

    read_golds();
    ck_assert_uint_eq(n_golds, 48);
    g = &golds[_i];
    ck_assert_msg(sae_dict_load(&d, g->source, NULL, &err) == SAE_OK, "%s: %s", g->name, err.text);
    describe(sae_dict_info(d), lines, sizeof lines, notes, sizeof notes);
    ck_assert_str_eq(lines, g->lines);
    ck_assert_str_eq(notes, g->notes);
    ck_assert_str_eq(sae_dict_info(d)->class_name, g->class_name);
    ck_assert_str_eq(sae_dict_info(d)->format, g->format);
    ck_assert_uint_eq(sae_dict_info(d)->activation_dim, g->d);
    ck_assert_uint_eq(sae_dict_info(d)->dict_size, g->F);
    ck_assert_uint_eq(sae_dict_info(d)->output_dim, g->m);
    for (size_t r = 0; r < g->n; r++) {
        float x[MAX_VALUES], f[MAX_VALUES], y[MAX_VALUES], state[SAE_MAX_STATE];

        for (size_t k = 0; k < g->d; k++)
            x[k] = (float)g->x[r * g->d + k];
        sae_ref_encode(d, x, f, NULL);
        sae_ref_state(d, x, state);
        if (g->m > 0) {
            sae_ref_decode(d, f, true, y);
            sae_ref_output(d, x, state, y);
        }
        compare(g, "f", f, g->f + r * g->F, g->F);
        compare(g, "x_hat", y, g->y + r * g->m, g->m);
    }
    sae_dict_free(d);
}
END_TEST

static const struct {
    const char *source, *said[3];
} refused[] = {
    {"batch_topk_unset", {"\"threshold\"", "-1, never set", "threshold=NUMBER"}},
    {"batch_topk_unset:activation=threshold", {"-1, never set", "threshold=NUMBER"}},
    {"topk.pt:k=8", {"k is 8", "which is 7 by encoder.weight"}},
    {"matryoshka.pt:features=3", {"features=3", "group_sizes"}},
    {"sae_lens_temporal", {"cfg.json", "\"temporal\"", "does not read"}},
    {"sae_lens_scaled", {"\"scaling_factor\"", "1.5"}},
    {"sae_lens_gap", {"\"jumprelu\"", "no tensor \"threshold\"", "state threshold="}},
    {"sae_lens_surplus", {"\"threshold\"", "does not use", "format=custom"}},
    {"sae_lens_average", {"normalize_activations", "state input=scale:C"}},
    {"sae_lens_transcoder:kind=sae", {"kind=sae is stated", "3", "5"}},
    {"bare.safetensors", {"state centre=b_dec", "activation=, k= or threshold="}},
    {"bare.safetensors:centre=none", {"state centre=b_dec"}},
    {"bare.safetensors:format=sae_lens", {"sae_lens wants cfg.json"}},
    {"bare.safetensors:format=sparsify", {"cannot name the class"}},
    {"sparsify/signed", {"signed", "magnitude"}},
    {"st/unequal", {"decoder.linear.weight", "tied"}},
    {"qwen/a.pt", {"state k=N", "format=custom"}},
    {"openai.pt", {"state input=layer_norm or input=none"}},
    {"qwen", {"cannot load"}},
    {"new_mean.pt", {"a tensor \"act_mean\"", "state centre=act_mean, or save"}},
    {"topk_mean.pt", {"state centre=b_dec+act_mean, or save"}},
    {"topk_mean.pt:centre=act_means", {"a tensor \"act_mean\""}},
    {"two.npz:format=linear", {"2 tensors that could be the matrix", "state encoder=KEY"}},
    {"ct", {"folder without a weights file"}},
    {".", {"a folder with 12 weights files", "bare.safetensors, direction.npy", "name one"}},
};

START_TEST(what_could_be_meant_in_two_ways_is_refused)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[200];
    enum sae_status st;

    snprintf(source, sizeof source, HERE "%s", refused[_i].source);
    st = sae_dict_load(&d, source, NULL, &err);
    ck_assert_msg(st == SAE_E_FORMAT || st == SAE_E_WEIGHTS, "%s: %d %s", source, (int)st,
                  err.text);
    for (size_t i = 0; i < 3 && refused[_i].said[i]; i++)
        ck_assert_msg(strstr(err.text, refused[_i].said[i]) != NULL, "\"%s\" is not in: %s",
                      refused[_i].said[i], err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("formats");
    TCase *t = tcase_create("formats");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_file_is_read_as_its_producer_means_it, 0, 48);
    tcase_add_loop_test(t, what_could_be_meant_in_two_ways_is_refused, 0, SAE_COUNTOF(refused));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
