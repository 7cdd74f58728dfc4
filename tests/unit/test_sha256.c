/* test_sha256.c - the digests of FIPS 180-4's examples, whole and in parts. */
#include "lib/sha256.h"

#include <check.h>
#include <string.h>

static const struct {
    const char *text, *hex;
} known[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

START_TEST(a_text_has_its_digest)
{
    unsigned char digest[SAE_SHA256_BYTES];
    char hex[SAE_SHA256_HEX];
    struct sae_sha256 h;
    size_t n = strlen(known[_i].text);

    sae_sha256_of(known[_i].text, n, digest);
    sae_sha256_hex(digest, hex);
    ck_assert_str_eq(hex, known[_i].hex);
    sae_sha256_init(&h);
    for (int again = 0; again < 2; again++) { /* end leaves it as init does */
        for (size_t i = 0; i < n; i++)
            sae_sha256_add(&h, known[_i].text + i, 1);
        sae_sha256_end(&h, digest);
        sae_sha256_hex(digest, hex);
        ck_assert_str_eq(hex, known[_i].hex);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sha256");
    TCase *t = tcase_create("sha256");
    SRunner *r = srunner_create(s);

    tcase_add_loop_test(t, a_text_has_its_digest, 0, sizeof known / sizeof known[0]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
