/* test_memory.c - what the cgroups leave: limits of both versions, and what fits below them. */
#include "server/opts/memory.h"
#include "tests/support/files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MB ((uint64_t)1 << 20)
#define GB ((uint64_t)1 << 30)

static char dir[64];

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/saed-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static uint64_t limit(const char *cgroup)
{
    char proc[100], sys[100];

    put_file(dir, "cgroup", cgroup);
    snprintf(proc, sizeof proc, "%s/cgroup", dir);
    snprintf(sys, sizeof sys, "%s/sys", dir);
    return saed_memory_limit(proc, sys);
}

START_TEST(the_smallest_limit_on_the_way_up)
{
    ck_assert_uint_eq(limit("0::/a/b\n"), UINT64_MAX);
    put_file(dir, "sys/a/memory.max", "max\n");
    put_file(dir, "sys/a/b/memory.max", "max\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), UINT64_MAX);
    put_file(dir, "sys/a/memory.max", "3000000000\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), 3000000000);
    ck_assert_uint_eq(limit("0::/a/b/not/there\n"), 3000000000);
    ck_assert_uint_eq(limit("0::/\n"), UINT64_MAX);
    put_file(dir, "sys/a/b/memory.max", "4000000000\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), 3000000000);
    put_file(dir, "sys/a/b/memory.max", "0\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), 0);
    put_file(dir, "sys/a/b/memory.max", "rubbish\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), 3000000000);
    put_file(dir, "sys/a/b/memory.max", "99999999999999999999999\n");
    ck_assert_uint_eq(limit("0::/a/b\n"), 3000000000);
    put_file(dir, "sys/memory/x/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    ck_assert_uint_eq(limit("4:memory:/x\n"), UINT64_MAX);
    put_file(dir, "sys/memory/x/memory.limit_in_bytes", "2000000000\n");
    ck_assert_uint_eq(limit("5:cpu,cpuacct:/x\n4:memory:/x\n0::/a\n"), 2000000000);
    ck_assert_uint_eq(limit("4:memory:/x/y\n0::/a\n"), 2000000000);
    ck_assert_uint_eq(limit("5:cpu:/x\n"), UINT64_MAX);
    put_file(dir, "sys/memory/memory.limit_in_bytes",
             "1000000000\n"); /* a container sees its own as / */
    ck_assert_uint_eq(limit("4:memory:/docker/01234\n"), 1000000000);
    put_file(dir, "sys/memory.max", "500000000\n");
    ck_assert_uint_eq(limit("0::/../..\n"), 500000000);
    ck_assert_uint_eq(saed_memory_limit("/nowhere", "/nowhere"), UINT64_MAX);
}
END_TEST

/* stated 0: not given. got 0: refused. */
static const struct {
    uint64_t bytes, limit, stated, got;
} fits[] = {
    {0, UINT64_MAX, 0, GB},
    {0, UINT64_MAX, 100 * GB, 100 * GB},
    {5 * GB, 6 * GB + 64 * MB, 0, GB},
    {5 * GB, 6 * GB + 64 * MB - 1, 0, GB - 1},
    {5 * GB, 5 * GB + 264 * MB, 0, 200 * MB},
    {5 * GB, 5 * GB + 65 * MB, 0, 64 * MB},
    {5 * GB, 5 * GB + 64 * MB, 0, 64 * MB},
    {5 * GB, 5 * GB + 64 * MB - 1, 0, 0},
    {5 * GB, 5 * GB + 64 * MB - 1, 1, 0},
    {5 * GB, 5 * GB + 264 * MB, 200 * MB, 200 * MB},
    {5 * GB, 5 * GB + 264 * MB, 200 * MB + 1, 0},
    {5 * GB, 5 * GB + 264 * MB, 1, 1},
    {UINT64_MAX, UINT64_MAX, 0, SAED_INFLIGHT_LEAST}, /* without a limit nothing is refused */
    {UINT64_MAX, UINT64_MAX - 1, 0, 0},
    {0, 0, 0, 0},
};

START_TEST(what_fits)
{
    struct saed_opts o = {.max_inflight_bytes = fits[_i].stated ? fits[_i].stated : GB,
                          .has_max_inflight_bytes = fits[_i].stated != 0};
    struct sae_err err = {0};
    uint64_t got = 0;
    enum sae_status st = saed_memory_fit(fits[_i].bytes, fits[_i].limit, &o, &got, &err);

    ck_assert_int_eq(st, fits[_i].got ? SAE_OK : SAE_E_NOMEM);
    ck_assert_uint_eq(got, fits[_i].got);
}
END_TEST

START_TEST(what_does_not_fit_is_added_up)
{
    struct saed_opts o = {.max_inflight_bytes = 1000, .has_max_inflight_bytes = true};
    struct sae_err err = {0};
    uint64_t got = 0;

    ck_assert_int_eq(saed_memory_fit(100, 67108963, &o, &got, &err), SAE_E_NOMEM);
    ck_assert_str_eq(err.text, "cannot load the dictionaries: they need 100 bytes and saed itself "
                               "67108864, together 67108964, and the memory limit of its cgroup is "
                               "67108963");
    err = (struct sae_err){0};
    ck_assert_int_eq(saed_memory_fit(100, 67109963, &o, &got, &err), SAE_E_NOMEM);
    ck_assert_str_eq(err.text,
                     "cannot keep --max-inflight-bytes 1000: the dictionaries need 100 bytes and "
                     "saed itself 67108864, which leaves 999 of the 67109963 that its cgroup has");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_smallest_limit_on_the_way_up);
    tcase_add_loop_test(t, what_fits, 0, (int)SAE_COUNTOF(fits));
    tcase_add_test(t, what_does_not_fit_is_added_up);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
