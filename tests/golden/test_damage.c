/* test_damage.c - dictionaries whose files are damaged: weights and configs, cut and changed.
 *
 * Prefixes and bytes of a small file of each container and config, with what belongs to it beside
 * (of longer files each n-th): it is refused with a sentence that names the file, or it is a
 * dictionary, of whose memory every value can be used. tests/unit/load has every one of them for
 * the containers alone. */
#include "lib/dict/ref.h"
#include "lib/saed.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HERE "tests/golden/formats/"

/* The files of a folder, of which the first is damaged. */
static const struct {
    const char *folder, *files[3], *options;
} sets[] = {
    {"dictionary_learning/batch", {"ae.pt", "config.json"}, ""},
    {"dictionary_learning/batch", {"config.json", "ae.pt"}, ""},
    {"dictionary_learning", {"groups.pt"}, ":features=4"},
    {"sae_lens/skip_m3", {"sae_weights.safetensors", "cfg.json"}, ""},
    {"sae_lens/v5_topk", {"cfg.json", "sae_weights.safetensors"}, ""},
    {"sae_lens/scaler", {"activation_scaler.json", "cfg.json", "sae_weights.safetensors"}, ""},
    {"gemma_scope/average_l0_71", {"params.npz"}, ""},
    {"circuit_tracer/yaml", {"config.yaml", "layer_0.safetensors"}, ""},
    {"sentence_transformers/both", {"model.safetensors", "config.json"}, ""},
    {"openai", {"topk.pt"}, ":input=none"},
    {"linear", {"probe.npy"}, ":format=linear"},
    {"custom",
     {"skip.safetensors"},
     ":encoder=W:decoder=V:enc_bias=b:dec_bias=c:centre=c+act_mean:threshold=theta:skip=S@m,d"},
};

static char folder[64];
static unsigned char *bytes; /* of the first file, open as `damaged` */
static size_t n_bytes, step;
static int damaged;

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    unsigned char *p = malloc(1 << 16);

    ck_assert_msg(f && p, "%s", path);
    *n = fread(p, 1, 1 << 16, f);
    ck_assert_uint_lt(*n, 1 << 16);
    fclose(f);
    return p;
}

static void path_of(char path[160], const char *name)
{
    snprintf(path, 160, "%s/%s", folder, name);
}

static int put(const char *name, const unsigned char *p, size_t n)
{
    char path[160];
    int fd;

    path_of(path, name);
    fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
    return fd;
}

static void make(int i)
{
    strcpy(folder, "/tmp/saed-damage-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (size_t k = 0; k < 3 && sets[i].files[k]; k++) {
        char path[160];
        size_t n;
        unsigned char *p;
        int fd;

        snprintf(path, sizeof path, HERE "%s/%s", sets[i].folder, sets[i].files[k]);
        p = slurp(path, &n);
        fd = put(sets[i].files[k], p, n);
        if (k > 0) {
            close(fd);
            free(p);
            continue;
        }
        damaged = fd;
        bytes = p;
        n_bytes = n;
        step = n / 250 + 1;
    }
}

static void unmake(int i)
{
    for (size_t k = 0; k < 3 && sets[i].files[k]; k++) {
        char path[160];

        path_of(path, sets[i].files[k]);
        unlink(path);
    }
    rmdir(folder);
    close(damaged);
    free(bytes);
}

static bool loads(int i, const char *label, size_t at)
{
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    char source[400];
    enum sae_status st;

    snprintf(source, sizeof source, "%s%s", folder, sets[i].options);
    st = dicts_load(&d, source, NULL, &err);
    if (st != SAE_OK) {
        ck_assert_msg(st == SAE_E_FORMAT || st == SAE_E_WEIGHTS, "%s %zu: %d %s", label, at,
                      (int)st, err.text);
        ck_assert_msg(strncmp(err.text, "cannot load ", 12) == 0 && strstr(err.text, folder),
                      "%s %zu: %s", label, at, err.text);
        return false;
    }
    const struct sae_formula *f = &d->formula;
    float *x = calloc(f->d_in, sizeof *x), *y = calloc(f->F + f->d_out, sizeof *y);
    float state[SAE_MAX_STATE];

    sae_ref_encode(d, x, y, NULL);
    sae_ref_state(d, x, state);
    if (!f->encodes_only) {
        sae_ref_decode(d, y, true, y + f->F);
        sae_ref_output(d, x, state, y + f->F);
    }
    free(x);
    free(y);
    sae_dict_free(d);
    return true;
}

START_TEST(every_prefix_is_refused_or_whole)
{
    const char *name = sets[_i].files[0];

    make(_i);
    ck_assert(loads(_i, "whole", n_bytes));
    for (size_t n = n_bytes; n-- > 0;) {
        if (n % step != 0)
            continue;
        ck_assert_int_eq(ftruncate(damaged, (off_t)n), 0);
        /* A config may have lost its last line, or be as if it were not there. */
        if (loads(_i, "prefix", n))
            ck_assert_msg(strstr(name, "config") != NULL, "%s: the first %zu bytes", name, n);
    }
    unmake(_i);
}
END_TEST

START_TEST(every_changed_byte_is_refused_or_read)
{
    static const unsigned char flips[] = {0x01, 0x10, 0x80, 0xff};
    size_t refused = 0;

    make(_i);
    for (size_t at = 0; at < n_bytes; at += step) {
        for (size_t k = 0; k < SAE_COUNTOF(flips); k++) {
            unsigned char c = bytes[at] ^ flips[k];

            ck_assert_int_eq(pwrite(damaged, &c, 1, (off_t)at), 1);
            refused += !loads(_i, "byte", at);
        }
        ck_assert_int_eq(pwrite(damaged, bytes + at, 1, (off_t)at), 1);
    }
    ck_assert_uint_gt(refused, 0);
    unmake(_i);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("damage");
    TCase *t = tcase_create("damage");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_prefix_is_refused_or_whole, 0, SAE_COUNTOF(sets));
    tcase_add_loop_test(t, every_changed_byte_is_refused_or_read, 0, SAE_COUNTOF(sets));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
