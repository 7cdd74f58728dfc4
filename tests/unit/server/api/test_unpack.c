/* test_unpack.c - bodies with a Content-Encoding: what names one, and what they unpack to, or why
 * not. */
#include "server/api/unpack.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define MAX_PLAIN ((size_t)300 << 10)

static char plain[MAX_PLAIN];

/* Text that packs, but not to nothing. */
static void setup(void)
{
    uint32_t seed = 1;

    for (size_t i = 0; i < MAX_PLAIN; i++) {
        seed = seed * 1664525 + 1013904223;
        plain[i] = (char)('a' + (seed >> 28));
    }
}

struct packed {
    unsigned char p[2 * MAX_PLAIN];
    size_t n;
};

static void add_gzip(struct packed *b, const void *src, size_t n)
{
    z_stream z = {0};

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (z_const Bytef *)(uintptr_t)src;
    z.avail_in = (uInt)n;
    z.next_out = b->p + b->n;
    z.avail_out = (uInt)(sizeof b->p - b->n);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    b->n += z.total_out;
    deflateEnd(&z);
}

static void add_zstd(struct packed *b, const void *src, size_t n, int window_log)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_inBuffer in = {src, n, 0};
    ZSTD_outBuffer out = {b->p, sizeof b->p, b->n};

    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    if (window_log) /* without a size: it is the frame's window that is told */
        ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
    else
        ZSTD_CCtx_setPledgedSrcSize(c, n);
    ck_assert_uint_eq(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush), 0);
    ck_assert_uint_eq(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
    b->n = out.pos;
    ZSTD_freeCCtx(c);
}

static const char *const names[] = {"gzip", "zstd"};

static void add(struct packed *b, int coding, const void *src, size_t n)
{
    if (coding == 0)
        add_gzip(b, src, n);
    else
        add_zstd(b, src, n, 0);
}

/* ---- who counts ---------------------------------------------------------------------------- */

static uint64_t held, most_held, may_hold;

static enum sae_status hold(void *arg, uint64_t bytes, struct sae_err *err)
{
    (void)arg;
    if (bytes > may_hold)
        return sae_err_set(err, SAE_E_OVERLOADED, "", "no room");
    held = bytes;
    most_held = bytes > most_held ? bytes : most_held;
    return SAE_OK;
}

static enum sae_status unpack(struct saed_unpacked *out, int coding, const void *p, size_t n,
                              uint64_t max_bytes, struct sae_err *err)
{
    const struct saed_unpack how = {
        .coding = sae_coding_find(names[coding], 4),
        .max_bytes = max_bytes,
        .option = "--max-body-bytes",
        .hold = hold,
    };

    held = most_held = 0;
    *out = (struct saed_unpacked){0};
    return saed_unpack_body(out, &how, p, n, err);
}

static void assert_unpacks(int coding, const struct packed *b, const void *want, size_t n)
{
    struct saed_unpacked out;
    struct sae_err err = {0};

    ck_assert_msg(unpack(&out, coding, b->p, b->n, MAX_PLAIN, &err) == SAE_OK, "%s", err.text);
    ck_assert(out.n == n && memcmp(out.body, want, n) == 0);
    ck_assert(out.n <= out.room && held == out.room && most_held > held);
    ck_assert_uint_eq((uintptr_t)out.body % 64, 0); /* it may become the rows */
    sae_free(out.body);
}

static void assert_refused(int coding, const void *p, size_t n, const char *text)
{
    struct saed_unpacked out;
    struct sae_err err = {0};

    ck_assert_int_eq(unpack(&out, coding, p, n, MAX_PLAIN, &err), SAE_E_MALFORMED_BODY);
    ck_assert_msg(strstr(err.text, text) != NULL, "%s", err.text);
    ck_assert_str_eq(err.where, "Content-Encoding");
    ck_assert_ptr_null(out.body);
}

/* ---- the tests ----------------------------------------------------------------------------- */

START_TEST(a_coding_is_named)
{
    static const struct {
        const char *value, *text; /* text: of the refusal */
        int coding;               /* -1: none */
    } cases[] = {
        {NULL, NULL, -1},
        {"", NULL, -1},
        {"identity", NULL, -1},
        {"Identity ,, identity", NULL, -1},
        {"gzip", NULL, 0},
        {"x-gzip", NULL, 0},
        {"GZip", NULL, 0},
        {" , identity,\tgzip ", NULL, 0},
        {"zstd", NULL, 1},
        {"gzip, gzip", "saed undoes one coding, of gzip, zstd and identity", 0},
        {"zstd,gzip", "saed undoes one coding", 0},
        {"br", "is \"br\", saed reads gzip, zstd and identity", 0},
        {"gzip, br", "saed reads gzip", 0},
        {"deflate", "saed reads gzip", 0},
        {"gzip;q=1", "saed reads gzip", 0},
        {"\"", "saed reads gzip", 0},
    };

    for (size_t i = 0; i < SAE_COUNTOF(cases); i++) {
        const struct sae_coding *coding = NULL;
        struct sae_err err = {0};
        enum sae_status st = saed_unpack_coding(cases[i].value, &coding, &err);

        if (cases[i].text) {
            ck_assert_int_eq(st, SAE_E_UNSUPPORTED_MEDIA_TYPE);
            ck_assert_msg(strstr(err.text, cases[i].text) != NULL, "%s", err.text);
            continue;
        }
        ck_assert_msg(st == SAE_OK, "%s: %s", cases[i].value, err.text);
        ck_assert(coding ==
                  (cases[i].coding < 0 ? NULL : sae_coding_find(names[cases[i].coding], 4)));
    }
}
END_TEST

START_TEST(one_and_several_members)
{
    static const size_t sizes[] = {0, 1, 100, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, MAX_PLAIN};
    static struct packed b;

    for (size_t i = 0; i < SAE_COUNTOF(sizes); i++) {
        b.n = 0;
        add(&b, _i, plain, sizes[i]);
        assert_unpacks(_i, &b, plain, sizes[i]);
        add(&b, _i, plain + sizes[i], 0); /* an empty one behind it, and what is left */
        add(&b, _i, plain + sizes[i], MAX_PLAIN - sizes[i]);
        assert_unpacks(_i, &b, plain, MAX_PLAIN);
    }
}
END_TEST

START_TEST(skippable_frames_are_skipped)
{
    static struct packed b;

    memcpy(b.p, "\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
    b.n = 11;
    add_zstd(&b, plain, 1000, 0);
    assert_unpacks(1, &b, plain, 1000);
}
END_TEST

/* The limit is on what comes out, and looked at while it comes. */
START_TEST(the_limit_is_on_the_unpacked_size)
{
    static const char zeros[MAX_PLAIN];
    static struct packed b;
    struct saed_unpacked out;
    struct sae_err err = {0};

    b.n = 0;
    add(&b, _i, zeros, sizeof zeros);
    ck_assert_uint_lt(b.n, 1000);
    ck_assert_int_eq(unpack(&out, _i, b.p, b.n, sizeof zeros, &err), SAE_OK);
    ck_assert_uint_eq(out.n, sizeof zeros);
    sae_free(out.body);
    for (size_t less = 1; less < sizeof zeros; less *= 3) {
        err = (struct sae_err){0};
        ck_assert_int_eq(unpack(&out, _i, b.p, b.n, sizeof zeros - less, &err),
                         SAE_E_BODY_TOO_LARGE);
        ck_assert_str_eq(err.option, "--max-body-bytes");
        ck_assert(err.limit == sizeof zeros - less && err.got == err.limit + 1);
        ck_assert(strstr(err.text, "unpacks to more than ") && out.body == NULL);
    }
}
END_TEST

START_TEST(every_prefix_is_refused)
{
    static struct packed b;

    b.n = 0;
    add(&b, _i, plain, 3000);
    assert_refused(_i, "", 0, "its 0 bytes end before its ");
    for (size_t n = 1; n < b.n; n++)
        assert_refused(_i, b.p, n, " end before its ");
    assert_unpacks(_i, &b, plain, 3000);
}
END_TEST

START_TEST(what_follows_is_refused)
{
    static const char *const behind[] = {"\n", "garbage", "\0\0\0\0"};
    static struct packed b;
    size_t whole;

    b.n = 0;
    add(&b, _i, plain, 3000);
    whole = b.n;
    for (size_t i = 0; i < SAE_COUNTOF(behind); i++) {
        struct saed_unpacked out;
        const size_t n = i == 2 ? 4 : strlen(behind[i]);

        memcpy(b.p + whole, behind[i], n);
        ck_assert_int_eq(unpack(&out, _i, b.p, whole + n, MAX_PLAIN, NULL), SAE_E_MALFORMED_BODY);
    }
    assert_refused(_i, plain, 100, "or a damaged one, at byte ");
}
END_TEST

/* Every byte changed: refused, or a field that nobody needs; never more than it is said to be. */
START_TEST(any_bytes_are_survived)
{
    static struct packed b;
    size_t refused = 0;

    b.n = 0;
    add(&b, _i, plain, 500);
    for (size_t k = 0; k < b.n; k++) {
        const unsigned char was = b.p[k];

        for (int bit = 0; bit < 8; bit++) {
            struct saed_unpacked out;

            b.p[k] = (unsigned char)(was ^ 1 << bit);
            if (unpack(&out, _i, b.p, b.n, MAX_PLAIN, NULL) != SAE_OK)
                refused++;
            sae_free(out.body);
        }
        b.p[k] = was;
    }
    ck_assert_uint_gt(refused, b.n * 7);
}
END_TEST

START_TEST(a_window_of_more_than_8_mb_is_refused)
{
    static struct packed b;

    b.n = 0;
    add_zstd(&b, plain, 1000, 23);
    assert_unpacks(1, &b, plain, 1000);
    b.n = 0;
    add_zstd(&b, plain, 1000, 24);
    assert_refused(1, b.p, b.n, "wants a window of more than 8 MB");
}
END_TEST

START_TEST(memory_is_counted_and_may_run_out)
{
    static struct packed b;
    struct saed_unpacked out;

    b.n = 0;
    add(&b, _i, plain, MAX_PLAIN);
    ck_assert_int_eq(unpack(&out, _i, b.p, b.n, MAX_PLAIN, NULL), SAE_OK);
    sae_free(out.body);
    may_hold = most_held - 1;
    ck_assert_int_eq(unpack(&out, _i, b.p, b.n, MAX_PLAIN, NULL), SAE_E_OVERLOADED);
    may_hold = UINT64_MAX;
    for (int fail = 0;; fail++) {
        enum sae_status st;

        sae_alloc_fault(fail, false);
        st = unpack(&out, _i, b.p, b.n, MAX_PLAIN, NULL);
        sae_alloc_fault(-1, false);
        sae_free(out.body);
        if (st == SAE_OK) {
            ck_assert_int_gt(fail, 2); /* the state, each array */
            break;
        }
        ck_assert_int_eq(st, SAE_E_NOMEM);
        ck_assert_int_lt(fail, 100);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unpack");
    TCase *t = tcase_create("unpack");
    SRunner *r = srunner_create(s);
    int failed;

    setup();
    may_hold = UINT64_MAX;
    tcase_add_test(t, a_coding_is_named);
    tcase_add_loop_test(t, one_and_several_members, 0, 2);
    tcase_add_test(t, skippable_frames_are_skipped);
    tcase_add_loop_test(t, the_limit_is_on_the_unpacked_size, 0, 2);
    tcase_add_loop_test(t, every_prefix_is_refused, 0, 2);
    tcase_add_loop_test(t, what_follows_is_refused, 0, 2);
    tcase_add_loop_test(t, any_bytes_are_survived, 0, 2);
    tcase_add_test(t, a_window_of_more_than_8_mb_is_refused);
    tcase_add_loop_test(t, memory_is_counted_and_may_run_out, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
