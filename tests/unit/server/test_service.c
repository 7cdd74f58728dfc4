/* test_service.c - dictionaries that come and go under load: the bits of each, and no memory left.
 *
 * Clients submit as requests do: they find a dictionary by name, hold it, and compare what comes
 * back with ref.c. Run it under TSan too. */
#include "lib/dict/ref.h"
#include "server/loading.h"
#include "server/service.h"
#include "tests/support/dicts.h"
#include "tests/support/sanitized.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define N_ROUNDS 1000
#define N_CLIENTS 3
#define MAX_ROWS 5
#define MAX_F 1024

static struct saed_source base = {.name = "base", .source = "init:GatedAutoEncoder:32:512:l0=20"};
static struct saed_opts opts = {.engine = SAE_ENGINE_NATIVE,
                                .threads = 3,
                                .max_batch_rows = 16,
                                .max_queue_rows = 1000,
                                .sources = &base,
                                .n_sources = 1};
static struct saed_metrics *metrics;
static struct saed_service service;
static float *numbers; /* rows of any width */

static void no_report(void *arg, const struct sae_err *err)
{
    (void)arg;
    fprintf(stderr, "%s\n", err->text);
}

static void setup(void)
{
    numbers = dicts_rows(MAX_ROWS + 1, 768, 1);
    ck_assert_int_eq(saed_metrics_create(&metrics, NULL), SAE_OK);
    ck_assert_int_eq(saed_service_open(&service, &opts, metrics, NULL, no_report, NULL), SAE_OK);
}

static void teardown(void)
{
    saed_service_close(&service);
    saed_metrics_free(metrics);
    sae_free(numbers);
}

/* ---- a request ------------------------------------------------------------------------------ */

struct request {
    struct saed_job job;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool is_over;
};

static void on_done(struct saed_job *job, void *arg)
{
    struct request *q = arg;

    (void)job;
    pthread_mutex_lock(&q->lock);
    q->is_over = true;
    pthread_cond_signal(&q->over);
    pthread_mutex_unlock(&q->lock);
}

static void check_rows(const struct sae_task *t)
{
    const struct sae_dict *d = t->dict;
    float f[MAX_F], x_hat[768];

    for (size_t r = 0; r < t->n_rows; r++) {
        sae_ref_encode(d, t->x + r * d->formula.d_in, f, NULL);
        if (t->f)
            ck_assert_int_eq(memcmp(t->f + r * d->formula.F, f, d->formula.F * sizeof *f), 0);
        if (!t->x_hat)
            continue;
        sae_ref_decode(d, f, true, x_hat);
        ck_assert_int_eq(
            memcmp(t->x_hat + r * d->formula.d_in, x_hat, d->formula.d_in * sizeof *x_hat), 0);
    }
}

/* Ask something of `d` and check the answer, unless it is for the load alone. Its reference is
 * taken. */
static void use(struct saed_dict *d, bool checked, uint64_t *random)
{
    struct request q = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
    struct sae_task *t = &q.job.task;

    t->dict = d->dict;
    t->n_rows = 1 + dicts_random(random) % MAX_ROWS;
    t->x = numbers + dicts_random(random) % 768;
    t->query.op = dicts_random(random) % 2 ? SAE_OP_ENCODE : SAE_OP_FORWARD;
    t->query.want_f = t->query.op == SAE_OP_ENCODE;
    ck_assert_int_eq(sae_task_prepare(t, NULL), SAE_OK);
    q.job.side = SAE_SIDE_ENCODE;
    q.job.done = on_done;
    q.job.done_arg = &q;
    ck_assert_int_eq(saed_sched_submit(service.sched, d, &q.job, NULL), SAE_OK);
    pthread_mutex_lock(&q.lock);
    while (!q.is_over)
        pthread_cond_wait(&q.over, &q.lock);
    pthread_mutex_unlock(&q.lock);
    ck_assert_int_eq(q.job.status, SAE_OK);
    if (checked)
        check_rows(t);
    sae_task_fini(t);
    saed_dict_release(d);
}

/* ---- under load ----------------------------------------------------------------------------- */

struct client {
    pthread_t thread;
    uint64_t random;
    size_t n_used[3];
};

static _Atomic bool stop;
static const char *const names[] = {"base", "small", "wide"};

static void *request_all_the_time(void *arg)
{
    struct client *c = arg;

    while (!atomic_load(&stop)) {
        size_t i = dicts_random(&c->random) % SAE_COUNTOF(names);
        struct saed_dict *d = saed_registry_find(service.registry, names[i]);

        if (d) {
            use(d, c->n_used[i]++ % 4 == 0, &c->random);
        }
    }
    return NULL;
}

static void scrape(void)
{
    struct saed_metrics_gauges g = {.is_screened = true};
    struct sae_buf b;

    sae_buf_init(&b, 1 << 20);
    ck_assert_int_eq(saed_metrics_print(metrics, &g, &b), SAE_OK);
    ck_assert_ptr_nonnull(strstr(b.data, "saed_dictionary_bytes{dictionary=\"base\"}"));
    ck_assert_ptr_null(strstr(b.data, "dictionary=\"small\""));
    sae_buf_fini(&b);
}

static long resident_kb(void)
{
    long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    ck_assert(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static enum sae_status add(const char *name, const char *source, struct sae_err *err)
{
    struct saed_dict *d = NULL;
    enum sae_status st = saed_dict_create(&d, name, source, err);

    if (st != SAE_OK)
        return st;
    saed_loading_one(d, service.engine, NULL);
    if (d->state == SAED_DICT_READY)
        st = saed_service_admit(&service, d, err);
    else
        st = sae_err_set(err, d->err.status, d->err.where, "%s", d->err.text);
    saed_dict_release(d);
    return st;
}

/* One comes, wider than any before now and then, is used, and goes. */
static void come_and_go(unsigned round, uint64_t *random)
{
    bool wide = round % 2;
    const char *name = wide ? "wide" : "small";
    char source[96];
    struct saed_dict *d;

    snprintf(source, sizeof source, "init:AutoEncoder:%d:%u:seed=%u:l0=8", wide ? 768 : 64,
             wide ? 16 + round / 32 : 64 + round / 8, round);
    ck_assert_int_eq(add(name, source, NULL), SAE_OK);
    if (round % 50 == 0)
        ck_assert_int_eq(add(name, source, NULL), SAE_E_USAGE);
    d = saed_registry_find(service.registry, name);
    ck_assert_ptr_nonnull(d);
    use(saed_dict_acquire(d), true, random);
    ck_assert(saed_service_drop(&service, name));
    ck_assert(!saed_service_drop(&service, name));
    use(d, true, random); /* who has found it computes on */
    if (round % 50 == 0)
        scrape();
}

START_TEST(a_thousand_dictionaries_come_and_go_under_load)
{
    struct client clients[N_CLIENTS];
    size_t n_used[3] = {0};
    uint64_t random = 5;
    long kb = 0;

    for (size_t i = 0; i < N_CLIENTS; i++) {
        clients[i] = (struct client){.random = 100 + i};
        ck_assert_int_eq(
            pthread_create(&clients[i].thread, NULL, request_all_the_time, &clients[i]), 0);
    }
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        come_and_go(round, &random);
        if (round == N_ROUNDS / 4)
            kb = resident_kb();
    }
    kb = resident_kb() - kb;
    atomic_store(&stop, true);
    for (size_t i = 0; i < N_CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        for (size_t n = 0; n < 3; n++)
            n_used[n] += clients[i].n_used[n];
    }
    for (size_t n = 0; n < 3; n++)
        ck_assert_msg(n_used[n] > 20, "%s: %zu", names[n], n_used[n]);
    ck_assert_uint_eq(saed_registry_count(service.registry), 1);
    ck_assert(saed_sched_idle(service.sched));
    if (SANITIZED)
        printf("SKIP: memory of a sanitized build says nothing\n");
    else
        ck_assert_msg(kb < 8 << 10, "%ld KB more after %d rounds", kb, 3 * N_ROUNDS / 4);
}
END_TEST

START_TEST(one_that_cannot_be_added_leaves_nothing)
{
    static const char source[] = "init:JumpAutoEncoder:100:1000:l0=8";
    struct sae_capacity was = service.capacity;
    enum sae_status st = SAE_E_NOMEM;
    uint64_t random = 1;
    struct sae_err err = {0};
    long fault = 0;

    ck_assert_int_eq(add("x", "init:none", &err), SAE_E_USAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "init:none"));
    ck_assert_int_eq(add("x", "Makefile/no", NULL), SAE_E_IO);
    for (; st != SAE_OK; fault++) {
        ck_assert_uint_eq(saed_registry_count(service.registry), 1);
        ck_assert_uint_eq(service.capacity.max_F, was.max_F);
        sae_alloc_fault(fault, false);
        st = add("x", source, NULL);
        sae_alloc_fault(-1, false);
        ck_assert(st == SAE_OK || st == SAE_E_NOMEM);
    }
    ck_assert_int_gt(fault, 50); /* the dictionary, its plane, buffers of three threads */
    ck_assert_uint_eq(service.capacity.max_F, 1000);
    use(saed_registry_find(service.registry, "x"), true, &random);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("service");
    TCase *t = tcase_create("service");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_thousand_dictionaries_come_and_go_under_load);
    tcase_add_test(t, one_that_cannot_be_added_leaves_nothing);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
