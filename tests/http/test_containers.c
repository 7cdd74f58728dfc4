/* test_containers.c - one dictionary in every container: each is answered with the same bits as the
 * .pt that PyTorch wrote, and what is none of them ends the start with what it is. */
#include "lib/base.h"
#include "tests/http/support.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const endings[] = {"safetensors", "npz", "turned.npz"};
static const struct {
    const char *stem;
    int d;
} dicts[] = {{"gated_20x12_f16", 20}, {"autoencoder_33x70_f32", 33}};

/* Owned. */
static char *answer(const struct server *s, const char *dict, const char *op, const char *body)
{
    char path[96];
    struct reply r;

    snprintf(path, sizeof path, "/v1/dictionaries/%s/%s", dict, op);
    r = post_json(s, path, body);
    ck_assert_msg(r.status == 200, "%s: %d %s", path, r.status, r.body);
    free(r.head);
    return r.body;
}

START_TEST(every_container_gives_the_same_answer)
{
    char source[1 + SAE_COUNTOF(endings)][128], body[1024] = "{\"x\":[";
    const char *args[2 + SAE_COUNTOF(endings)] = {NULL};
    struct server s;
    size_t n = strlen(body);

    for (int k = 0; k < dicts[_i].d; k++)
        n += (size_t)snprintf(body + n, sizeof body - n, "%s%g", k ? "," : "",
                              (k * 7 % 11 - 5) / 4.0);
    snprintf(body + n, sizeof body - n, "]}");
    for (size_t i = 0; i <= SAE_COUNTOF(endings); i++) {
        snprintf(source[i], sizeof source[i], "d%zu=tests/golden/data/%s.%s", i, dicts[_i].stem,
                 i ? endings[i - 1] : "pt");
        args[i] = source[i];
    }
    s = server_start(args);
    for (int op = 0; op < 2; op++) {
        const char *name = op ? "forward" : "encode";
        char *want = answer(&s, "d0", name, body);

        for (size_t i = 1; i <= SAE_COUNTOF(endings); i++) {
            char dict[8], *got;

            snprintf(dict, sizeof dict, "d%zu", i);
            got = answer(&s, dict, name, body);
            ck_assert_msg(strcmp(got, want) == 0, "%s: %s, not %s", source[i], got, want);
            free(got);
        }
        free(want);
    }
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

static const struct {
    const char *name, *bytes;
    size_t n;
    const char *says;
} refused[] = {
    {"w.safetensors", "\x10\0\0\0\0\0\0", 7, "7 bytes are too few"},
    {"w.npy", "\x93NUMPY\x09\0\x01\0{}", 12, "its version is 9.0"},
    {"w.gguf", "GGUF\3\0\0\0", 8, "a GGUF file; save its tensors with safetensors"},
    {"w.h5", "\x89HDF\r\n\x1a\n", 8, "an HDF5 file; save its arrays with numpy.savez"},
    {"w.onnx", "\x08\x07\x12\x07pytorch", 11, "an ONNX model; save its initializers"},
    {"model.safetensors.index.json", "{\"weight_map\": {}}", 18, "an index of shards, which saed"},
    {"w.pkl", "\x80\x04\x95\0\0\0\0\0", 8, "a bare pickle (pickle.dump, joblib.dump)"},
    {"w.pt", "version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
};

START_TEST(what_is_no_weights_file_is_told_by_name)
{
    char folder[] = "/tmp/saed-containers-XXXXXX", path[96], source[128], *err;
    struct server s;
    FILE *f;

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/%s", folder, refused[_i].name);
    f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(refused[_i].bytes, 1, refused[_i].n, f), refused[_i].n);
    fclose(f);
    snprintf(source, sizeof source, "w=%s", path);
    s = server_spawn((const char *const[]){"--check", source, NULL});
    ck_assert_int_eq(server_wait(&s, 10000), 1);
    err = server_stderr(&s);
    ck_assert_msg(strstr(err, refused[_i].says) != NULL, "%s", err);
    free(err);
    unlink(path);
    rmdir(folder);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("containers");
    TCase *t = tcase_create("containers");
    SRunner *r = srunner_create(s);

    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, every_container_gives_the_same_answer, 0, SAE_COUNTOF(dicts));
    tcase_add_loop_test(t, what_is_no_weights_file_is_told_by_name, 0, SAE_COUNTOF(refused));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
