/* test_slack.c - after a burst the memory goes back, while a health check goes on. */
#include "tests/http/support_body.h"
#include "tests/support/load.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MB (1 << 20)
/* Three seconds where the machine has time for it; how long it waits is stepped in the unit's test.
 */
#define BACK_MS 15000

static double resident_mb(const struct server *s)
{
    return metric(s, "process_resident_memory_bytes") / MB;
}

/* Answers just small enough to be malloc's own, and not mmap's, at once on so many connections. */
static void burst(const struct server *s)
{
    enum { N_CLIENTS = 32, ROWS = 15, D = 64 };
    static float x[ROWS * D];
    struct load_client clients[N_CLIENTS] = {0};
    struct load_spec spec = {
        .port = s->port, .clients = clients, .n_clients = N_CLIENTS, .seconds = 1};
    size_t ok = 0;

    for (size_t i = 0; i < ROWS * D; i++)
        x[i] = (float)(i % 7) - 3;
    for (size_t c = 0; c < N_CLIENTS; c++)
        clients[c].request = load_post("/v1/dictionaries/a/encode", "application/octet-stream",
                                       "application/octet-stream", x, sizeof x, &clients[c].n);
    while (ok < 2 * N_CLIENTS) {
        struct load_result r;

        ck_assert_int_eq(load_run(&spec, &r), 0);
        ck_assert_uint_eq(r.failed, 0);
        ok += r.ok;
        load_result_fini(&r);
        spec.seconds *= 2; /* a busy machine may answer nothing in less */
    }
    for (size_t c = 0; c < N_CLIENTS; c++)
        free((char *)clients[c].request);
}

START_TEST(memory_goes_back_after_a_burst)
{
    struct server s = server_start((const char *const[]){"a=init:AutoEncoder:64:65536", NULL});
    double before = resident_mb(&s), after, now;
    long long end;

    if (SANITIZED) {
        printf("SKIP: memory of a sanitized build says nothing\n");
        ck_assert_int_eq(server_stop(&s), 0);
        return;
    }
    for (int round = 0; round < 2; round++) {
        burst(&s);
        end = test_now_ms() + BACK_MS;
        after = now = resident_mb(&s);
        while (now > before + 64 && test_now_ms() < end) {
            struct reply r = get(&s, "/readyz");

            ck_assert_int_eq(r.status, 200);
            reply_free(&r);
            poll(NULL, 0, 250);
            now = resident_mb(&s);
        }
        ck_assert_msg(now <= before + 64, "%.0f MB before, %.0f after the burst, %.0f at last",
                      before, after, now);
        ck_assert_msg(after > before + 64, "%.0f MB before, %.0f after: no burst", before, after);
    }
    ck_assert_int_eq(server_stop(&s), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slack");
    TCase *t = tcase_create("slack");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, memory_goes_back_after_a_burst);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
