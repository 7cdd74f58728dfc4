/* test_offers.c - dictionaries that are offered: loaded in order of asking, waited for, dropped for
 * others, tried again when they failed. Time is what the test says; loading runs where it steps. */
#include "server/offers/state.h"
#include "tests/support/dicts.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S 1000000000ull

static struct saed_source sources[] = {
    {"a", "init:AutoEncoder:16:64:seed=1"},        {"b", "init:AutoEncoder:16:64:seed=2"},
    {"c", "init:AutoEncoder:16:64:seed=3"},        {"d", "init:AutoEncoder:16:64:seed=4"},
    {"large", "init:GatedAutoEncoder:64:512"},     {"file", NULL},
    {"wide", "init:JumpAutoEncoder:32:64:seed=5"},
};
enum { A, B, C, D, LARGE, A_FILE, WIDE, N_SOURCES };

static char dir[64], path[100];
static _Atomic uint64_t now;
static _Atomic bool is_at_gate, is_stopping, is_told;
static struct saed_registry *registry;
static struct sae_engine *engine;
static struct saed_metrics *metrics;
static struct saed_offers *offers;
static enum sae_status admitted;

static uint64_t now_ns(void *arg)
{
    (void)arg;
    return atomic_load(&now);
}

static enum sae_status admit(void *arg, const struct sae_dict *dict, struct sae_err *err)
{
    (void)arg;
    ck_assert_ptr_nonnull(dict);
    return admitted == SAE_OK ? SAE_OK : sae_err_set(err, admitted, "", "cannot admit it");
}

static void begin(uint64_t max_resident_bytes, uint64_t named_bytes)
{
    const struct saed_offers_config cfg = {.registry = registry,
                                           .engine = engine,
                                           .metrics = metrics,
                                           .n_threads = 2,
                                           .max_resident_bytes = max_resident_bytes,
                                           .named_bytes = named_bytes,
                                           .max_wait_rows = 100,
                                           .admit = admit,
                                           .now_ns = now_ns};

    ck_assert_int_eq(saed_offers_create(&offers, &cfg, NULL), SAE_OK);
    ck_assert_int_eq(saed_offers_add(offers, sources, N_SOURCES, NULL, NULL), SAE_OK);
}

static void end(void)
{
    struct saed_dict *d;

    saed_offers_free(offers);
    offers = NULL;
    while ((d = saed_registry_next(registry, NULL))) {
        saed_dict_release(saed_registry_remove(registry, d->name));
        saed_dict_release(d);
    }
}

/* Of all, the named ones with them. */
static uint64_t resident_bytes(void)
{
    uint64_t bytes;

    pthread_mutex_lock(&offers->lock);
    bytes = offers->resident_bytes;
    pthread_mutex_unlock(&offers->lock);
    return bytes;
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", "/tmp/saed-offers-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/w.pt", dir);
    sources[A_FILE].source = path;
    atomic_store(&now, 1000 * S);
    admitted = SAE_OK;
    atomic_store(&is_at_gate, false);
    atomic_store(&is_stopping, false);
    atomic_store(&is_told, false);
    ck_assert_int_eq(saed_registry_create(&registry, NULL), SAE_OK);
    ck_assert_int_eq(sae_engine_create(&engine, SAE_ENGINE_NATIVE, NULL, NULL), SAE_OK);
    ck_assert_int_eq(saed_metrics_create(&metrics, NULL), SAE_OK);
}

static void teardown(void)
{
    char command[200];

    if (offers)
        end();
    saed_registry_free(registry);
    saed_metrics_free(metrics);
    sae_engine_free(engine);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* ---- asking -----------------------------------------------------------------------------------
 */

struct ask {
    struct saed_wait w;
    unsigned n_done;
};

static void on_done(struct saed_wait *w, void *arg)
{
    struct ask *q = arg;

    ck_assert_ptr_eq(w, &q->w);
    q->n_done++;
}

static struct saed_dict *described(int i)
{
    struct saed_dict *d = saed_registry_find(registry, sources[i].name);

    ck_assert_ptr_nonnull(d);
    return d;
}

/* True: it waits. */
static bool ask_rows(struct ask *q, int i, size_t rows, uint64_t seconds)
{
    struct saed_dict *d = described(i);
    bool waits;

    *q = (struct ask){.w = {.rows = rows, .deadline_ns = now + seconds * S, .done = on_done}};
    q->w.arg = q;
    waits = saed_offers_want(offers, d, &q->w);
    saed_dict_release(d);
    return waits;
}

static bool ask(struct ask *q, int i)
{
    return ask_rows(q, i, 1, 30);
}

static void check_state(int i, const char *want)
{
    struct saed_dict *d = described(i);
    struct saed_offer_look look = saed_offers_look(offers, d);

    ck_assert_str_eq(look.state, want);
    ck_assert((look.err.status != SAE_OK) == (strcmp(want, "unavailable") == 0));
    ck_assert((look.dict->state == SAED_DICT_READY) == (strcmp(want, "ready") == 0));
    saed_dict_release(look.dict);
    saed_dict_release(d);
}

/* It is there now, and not used any more. */
static void use(int i)
{
    struct ask q;

    ck_assert(!ask(&q, i));
    ck_assert_ptr_nonnull(q.w.dict);
    saed_dict_release(q.w.dict);
}

/* Load it and use it once. */
static void load(int i)
{
    struct ask q;

    ck_assert(ask(&q, i));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_uint_eq(q.n_done, 1);
    ck_assert_int_eq(q.w.err.status, SAE_OK);
    saed_dict_release(q.w.dict);
}

static uint64_t bytes_of(int i)
{
    struct saed_dict *d = described(i);
    uint64_t bytes = d->resident_bytes;

    saed_dict_release(d);
    return bytes;
}

static uint64_t bytes_of_a(void)
{
    uint64_t bytes;

    begin(0, 0);
    bytes = bytes_of(A);
    end();
    return bytes;
}

static double counted(const char *series, int i)
{
    struct saed_metrics_gauges g = {.is_screened = true};
    char text[200], *at;
    struct sae_buf b;
    double v = -1;

    sae_buf_init(&b, 1 << 22);
    ck_assert_int_eq(saed_metrics_print(metrics, &g, &b), SAE_OK);
    snprintf(text, sizeof text, "\n%s{dictionary=\"%s\"} ", series, sources[i].name);
    at = strstr(b.data, text);
    if (at)
        v = strtod(at + strlen(text), NULL);
    sae_buf_fini(&b);
    return v;
}

/* ---- loading ----------------------------------------------------------------------------------
 */

START_TEST(the_first_request_loads_it)
{
    struct ask first, second, third;
    struct saed_dict *d;

    begin(0, 0);
    check_state(A, "offered");
    ck_assert(counted("saed_dictionary_loads_total", A) == -1);
    ck_assert(!saed_offers_step(offers, NULL));
    ck_assert(ask(&first, A));
    ck_assert(ask(&second, A));
    check_state(A, "loading");
    ck_assert_uint_eq(first.n_done, 0);
    d = described(A);
    ck_assert_int_eq(d->state, SAED_DICT_OFFERED);
    ck_assert_uint_eq(d->info->dict_size, 64);
    saed_dict_release(d);
    ck_assert(saed_offers_step(offers, NULL));
    check_state(A, "ready");
    ck_assert_uint_eq(first.n_done, 1);
    ck_assert_uint_eq(second.n_done, 1);
    ck_assert(!ask(&third, A));
    ck_assert_ptr_eq(third.w.dict, first.w.dict);
    ck_assert_uint_eq(first.w.dict->refs, 4);
    ck_assert_int_eq(first.w.dict->state, SAED_DICT_READY);
    ck_assert_uint_eq(resident_bytes(), first.w.dict->resident_bytes);
    ck_assert(counted("saed_dictionary_loads_total", A) == 1);
    ck_assert(counted("saed_dictionary_resident_bytes", A) == (double)first.w.dict->resident_bytes);
    ck_assert(counted("saed_dictionary_load_failures_total", A) == 0);
    ck_assert(counted("saed_dictionary_loads_total", B) == -1);
    ck_assert_ptr_nonnull(third.w.series);
    saed_dict_release(first.w.dict);
    saed_dict_release(second.w.dict);
    saed_dict_release(third.w.dict);
    ck_assert(!saed_offers_step(offers, NULL));
}
END_TEST

START_TEST(one_after_the_other_in_order_of_asking)
{
    struct ask q[4];
    static const int order[4] = {C, A, C, B};

    begin(0, 0);
    for (int i = 0; i < 4; i++)
        ck_assert(ask(&q[i], order[i]));
    ck_assert(saed_offers_step(offers, NULL));
    check_state(C, "ready");
    check_state(A, "loading");
    ck_assert_uint_eq(q[0].n_done + q[2].n_done, 2);
    ck_assert(saed_offers_step(offers, NULL));
    check_state(A, "ready");
    check_state(B, "loading");
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert(!saed_offers_step(offers, NULL));
    for (int i = 0; i < 4; i++)
        saed_dict_release(q[i].w.dict);
}
END_TEST

START_TEST(who_waits_too_long_and_who_leaves)
{
    struct ask late, gone, patient, none;

    begin(0, 0);
    ck_assert(ask_rows(&patient, A, 1, 60));
    ck_assert(ask_rows(&late, A, 1, 30));
    ck_assert(ask_rows(&gone, A, 1, 10));
    ck_assert(!saed_offers_expire(offers));
    saed_offers_cancel(offers, &gone.w);
    saed_offers_cancel(offers, &gone.w);
    ck_assert_uint_eq(gone.n_done, 1);
    ck_assert_int_eq(gone.w.err.status, SAE_E_CANCELLED);
    now += 30 * S;
    ck_assert(!saed_offers_expire(offers));
    now += 1;
    ck_assert(saed_offers_expire(offers));
    ck_assert_uint_eq(late.n_done, 1);
    ck_assert_int_eq(late.w.err.status, SAE_E_LOADING);
    ck_assert_uint_eq(patient.n_done, 0);
    saed_offers_cancel(offers, &patient.w);
    check_state(A, "loading"); /* with nobody left to wait for it */
    ck_assert(saed_offers_step(offers, NULL));
    check_state(A, "ready");
    ck_assert_uint_eq(late.n_done + gone.n_done + patient.n_done, 3);
    none.w = (struct saed_wait){.rows = 1};
    saed_offers_cancel(offers, &none.w); /* it never waited */
    use(A);
}
END_TEST

START_TEST(so_many_rows_wait_for_one)
{
    struct ask q[3], late;

    begin(0, 0);
    ck_assert(ask_rows(&q[0], A, 60, 30));
    ck_assert(!ask_rows(&q[1], A, 41, 30));
    ck_assert_int_eq(q[1].w.err.status, SAE_E_OVERLOADED);
    ck_assert_str_eq(q[1].w.err.option, "--max-queue-rows");
    ck_assert_uint_eq(q[1].w.err.got, 101);
    ck_assert(ask_rows(&q[1], A, 40, 30));
    ck_assert(ask_rows(&q[2], B, 100, 30)); /* each for itself */
    ck_assert(!ask_rows(&late, A, 1, 30));
    ck_assert_int_eq(late.w.err.status, SAE_E_OVERLOADED);
    saed_offers_abort(offers);
}
END_TEST

START_TEST(a_stop_leaves_nobody_waiting)
{
    struct ask q[2], late;

    begin(0, 0);
    load(C);
    ck_assert(ask(&q[0], A));
    ck_assert(ask(&q[1], B));
    saed_offers_abort(offers);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(q[i].n_done, 1);
        ck_assert_int_eq(q[i].w.err.status, SAE_E_DRAINING);
    }
    ck_assert(!ask(&late, C));
    ck_assert_int_eq(late.w.err.status, SAE_E_DRAINING);
    ck_assert(!saed_offers_stop(offers)); /* nothing is being loaded */
    ck_assert(!saed_offers_step(offers, NULL));
}
END_TEST

/* ---- room -------------------------------------------------------------------------------------
 */

START_TEST(the_least_recently_used_makes_room)
{
    uint64_t bytes = bytes_of_a();
    struct ask q;

    begin(2 * bytes, 0);
    load(A);
    now += S;
    load(B);
    now += 10 * S;
    use(A); /* so that it is B's turn */
    load(C);
    check_state(A, "ready");
    check_state(B, "offered");
    check_state(C, "ready");
    ck_assert_uint_eq(resident_bytes(), 2 * bytes);
    ck_assert(counted("saed_dictionary_evictions_total", B) == 1);
    ck_assert(counted("saed_dictionary_resident_bytes", B) == 0);
    now += 10 * S;
    ck_assert(!ask(&q, A)); /* in use: it stays, and C goes */
    load(B);
    check_state(A, "ready");
    check_state(C, "offered");
    ck_assert(counted("saed_dictionary_loads_total", B) == 2);
    saed_dict_release(q.w.dict);
}
END_TEST

START_TEST(none_goes_in_use_or_just_after_its_first)
{
    uint64_t bytes = bytes_of_a();
    struct ask used, q;

    begin(2 * bytes, 0);
    load(A);
    now += 2 * S;
    load(B);
    now += S / 2;
    ck_assert(ask(&q, C));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_LOADING);
    ck_assert_uint_eq(q.w.err.retry_s, 3); /* A's 5 s are over in 2.5 */
    check_state(C, "offered");
    ck_assert(counted("saed_dictionary_load_failures_total", C) == 0);
    now += 5 * S / 2;
    ck_assert(!ask(&used, A)); /* not in its first 5 s, but in use; B is */
    ck_assert(ask(&q, C));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_LOADING);
    ck_assert_uint_eq(q.w.err.retry_s, 2);
    now += 10 * S;
    load(C);
    check_state(B, "offered");
    check_state(A, "ready");
    saed_dict_release(used.w.dict);
}
END_TEST

/* One that was loaded for nobody has had no first use. */
START_TEST(what_nobody_used_goes_at_once)
{
    struct ask q;

    begin(bytes_of_a(), 0);
    ck_assert(ask(&q, A));
    saed_offers_cancel(offers, &q.w);
    ck_assert(saed_offers_step(offers, NULL));
    load(B);
    check_state(A, "offered");
}
END_TEST

/* Three small ones go for a larger, if that is enough; else none does. */
START_TEST(several_make_room_for_one)
{
    uint64_t bytes = bytes_of_a(), wide;
    struct ask used, q;

    begin(0, 0);
    wide = bytes_of(WIDE);
    end();
    ck_assert_uint_gt(wide, bytes);
    ck_assert_uint_lt(wide, 2 * bytes);
    begin(2 * bytes, 0);
    load(A);
    load(B);
    now += 10 * S;
    ck_assert(!ask(&used, A));
    ck_assert(ask(&q, WIDE));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_LOADING);
    ck_assert_uint_eq(q.w.err.retry_s, 1);
    check_state(B, "ready"); /* it would not have been enough */
    saed_dict_release(used.w.dict);
    load(WIDE);
    check_state(A, "offered");
    check_state(B, "offered");
    ck_assert_uint_eq(resident_bytes(), wide);
}
END_TEST

START_TEST(one_that_never_fits)
{
    uint64_t bytes = bytes_of_a();
    struct saed_offer_look look;
    struct saed_dict *d;
    char text[40];
    struct ask q;

    begin(5 * bytes, 4 * bytes);
    ck_assert_uint_eq(resident_bytes(), 4 * bytes);
    check_state(LARGE, "unavailable");
    ck_assert(counted("saed_dictionary_load_failures_total", LARGE) == -1);
    d = described(LARGE);
    look = saed_offers_look(offers, d);
    snprintf(text, sizeof text, "%llu", (unsigned long long)d->resident_bytes);
    ck_assert_ptr_nonnull(strstr(look.err.text, text));
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    ck_assert_ptr_nonnull(strstr(look.err.text, text));
    saed_dict_release(look.dict);
    saed_dict_release(d);
    ck_assert(ask(&q, LARGE)); /* its file may be another by now */
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_UNAVAILABLE);
    ck_assert_uint_eq(q.w.err.retry_s, 10);
    load(A);
    ck_assert_uint_eq(resident_bytes(), 5 * bytes);
}
END_TEST

/* ---- failing ----------------------------------------------------------------------------------
 */

static void copy(const char *name)
{
    char command[300];

    snprintf(command, sizeof command, "cp tests/golden/data/%s %s", name, path);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_failed_load_is_tried_again_later_and_later)
{
    static const uint64_t pauses[] = {10, 20, 40, 80, 160, 320, 600, 600};
    struct ask q;

    begin(0, 0);
    check_state(A_FILE, "unavailable");
    for (size_t i = 0; i < SAE_COUNTOF(pauses); i++) {
        ck_assert(ask(&q, A_FILE));
        check_state(A_FILE, "loading");
        ck_assert(saed_offers_step(offers, NULL));
        ck_assert_uint_eq(q.n_done, 1);
        ck_assert_int_eq(q.w.err.status, SAE_E_UNAVAILABLE);
        ck_assert_ptr_nonnull(strstr(q.w.err.text, path));
        ck_assert_uint_eq(q.w.err.retry_s, pauses[i]);
        ck_assert(counted("saed_dictionary_load_failures_total", A_FILE) == (double)(i + 1));
        now += pauses[i] * S - S / 2;
        ck_assert(!ask(&q, A_FILE)); /* at once, and nothing is tried */
        ck_assert_int_eq(q.w.err.status, SAE_E_UNAVAILABLE);
        ck_assert_uint_eq(q.w.err.retry_s, 1);
        ck_assert(!saed_offers_step(offers, NULL));
        if (i == 0) /* nobody else's failure */
            load(A);
        use(A);
        now += S / 2;
    }
}
END_TEST

START_TEST(a_file_that_is_mended_is_loaded)
{
    struct ask q;
    struct saed_dict *d;

    begin(0, 0);
    d = described(A_FILE);
    ck_assert_ptr_null(d->info); /* nothing is known of it */
    saed_dict_release(d);
    ck_assert(ask(&q, A_FILE));
    ck_assert(saed_offers_step(offers, NULL));
    copy("autoencoder_33x70_f32.pt");
    now += 10 * S;
    load(A_FILE);
    d = described(A_FILE);
    ck_assert_uint_eq(d->info->dict_size, 70);
    ck_assert_ptr_nonnull(d->series);
    saed_dict_release(d);
    ck_assert(counted("saed_dictionary_loads_total", A_FILE) == 1);
    ck_assert(counted("saed_dictionary_load_failures_total", A_FILE) == 1);
}
END_TEST

/* Read again at each load: what is shown is what is loaded. */
START_TEST(a_file_that_changed_is_described_anew)
{
    struct saed_dict *before, *after;
    uint64_t most, bytes;
    struct ask q;

    copy("autoencoder_33x70_f32.pt");
    begin(0, 0);
    most = bytes_of(A_FILE);
    end();
    begin(most, 0);
    check_state(A_FILE, "offered");
    before = described(A_FILE);
    ck_assert_uint_eq(before->info->activation_dim, 33);
    copy("jump_16x48_f16.pt");
    load(A_FILE);
    after = described(A_FILE);
    ck_assert_uint_eq(after->info->activation_dim, 16);
    ck_assert_str_eq(after->info->class_name, "JumpAutoEncoder");
    ck_assert_uint_eq(before->info->activation_dim, 33); /* who holds it reads on */
    bytes = after->resident_bytes;
    ck_assert_uint_eq(resident_bytes(), bytes);
    saed_dict_release(before);
    saed_dict_release(after);
    now += 10 * S;
    load(B);
    load(C); /* it is dropped, and broken while it is away */
    check_state(A_FILE, "offered");
    ck_assert_int_eq(truncate(path, 100), 0);
    now += 10 * S;
    ck_assert(ask(&q, A_FILE));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_UNAVAILABLE);
    check_state(B, "ready"); /* it was not sent away for nothing */
    after = described(A_FILE);
    ck_assert_uint_eq(after->info->activation_dim, 16); /* as it was known last */
    saed_dict_release(after);
}
END_TEST

START_TEST(one_that_batches_have_no_room_for)
{
    struct ask q;

    begin(0, 0);
    admitted = SAE_E_NOMEM;
    ck_assert(ask(&q, A));
    ck_assert(saed_offers_step(offers, NULL));
    ck_assert_int_eq(q.w.err.status, SAE_E_UNAVAILABLE);
    ck_assert_ptr_null(q.w.dict);
    ck_assert_uint_eq(resident_bytes(), 0);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct saed_offers *o = NULL;
    struct ask q = {.w = {.rows = 0}};
    long fault = 0;

    begin(0, 0);
    ck_assert(ask(&q, A_FILE)); /* it is counted from now on, so that its load is all that fails */
    ck_assert(saed_offers_step(offers, NULL));
    copy("autoencoder_33x70_f32.pt");
    do {
        now += 600 * S;
        ck_assert(ask(&q, A_FILE));
        sae_alloc_fault(fault++, false);
        ck_assert(saed_offers_step(offers, NULL));
        sae_alloc_fault(-1, false);
        ck_assert_uint_eq(q.n_done, 1);
        ck_assert(q.w.err.status == SAE_OK || q.w.err.status == SAE_E_UNAVAILABLE);
        ck_assert((q.w.err.status == SAE_OK) == (q.w.dict != NULL));
        ck_assert(q.w.dict || resident_bytes() == 0);
    } while (!q.w.dict);
    saed_dict_release(q.w.dict);
    ck_assert_int_gt(fault, 20);
    sae_alloc_fault(0, false);
    ck_assert_int_eq(saed_offers_create(&o, &(struct saed_offers_config){.n_threads = 1}, NULL),
                     SAE_E_NOMEM);
    sae_alloc_fault(-1, false);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------
 */

#define N_CLIENTS 4
#define N_ASKS 300

struct client {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool is_told;
    uint64_t random;
    size_t n_ok, n_loading;
};

static void on_told(struct saed_wait *w, void *arg)
{
    struct client *c = arg;

    (void)w;
    pthread_mutex_lock(&c->lock);
    c->is_told = true;
    pthread_cond_signal(&c->told);
    pthread_mutex_unlock(&c->lock);
}

static void ask_once(struct client *c)
{
    int i = (int)(dicts_random(&c->random) % 4);
    struct saed_wait w = {.rows = 1, .deadline_ns = UINT64_MAX / 2, .done = on_told, .arg = c};
    struct saed_dict *d = described(i);

    c->is_told = false;
    if (saed_offers_want(offers, d, &w)) {
        if (dicts_random(&c->random) % 8 == 0)
            saed_offers_cancel(offers, &w);
        pthread_mutex_lock(&c->lock);
        while (!c->is_told)
            pthread_cond_wait(&c->told, &c->lock);
        pthread_mutex_unlock(&c->lock);
    }
    saed_dict_release(d);
    if (w.dict) {
        ck_assert_str_eq(w.dict->name, sources[i].name);
        ck_assert_uint_eq(w.dict->info->dict_size, 64);
        c->n_ok++;
    } else {
        ck_assert(w.err.status == SAE_E_LOADING || w.err.status == SAE_E_CANCELLED);
        c->n_loading++;
    }
    atomic_fetch_add(&now, S);
    saed_dict_release(w.dict);
}

static void *ask_often(void *arg)
{
    struct client *c = arg;

    for (int n = 0; n < N_ASKS; n++)
        ask_once(c);
    return NULL;
}

START_TEST(many_ask_at_once)
{
    struct client clients[N_CLIENTS];
    uint64_t bytes = bytes_of_a();
    size_t n_ok = 0;

    begin(2 * bytes, 0);
    ck_assert_int_eq(saed_offers_start(offers, NULL), SAE_OK);
    for (size_t i = 0; i < N_CLIENTS; i++) {
        clients[i] = (struct client){.random = i + 1};
        pthread_mutex_init(&clients[i].lock, NULL);
        pthread_cond_init(&clients[i].told, NULL);
        ck_assert_int_eq(pthread_create(&clients[i].thread, NULL, ask_often, &clients[i]), 0);
    }
    for (size_t i = 0; i < N_CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        n_ok += clients[i].n_ok;
    }
    ck_assert_uint_le(resident_bytes(), 2 * bytes);
    ck_assert_uint_gt(n_ok, N_CLIENTS * N_ASKS / 8);
}
END_TEST

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static enum sae_status admit_late(void *arg, const struct sae_dict *dict, struct sae_err *err)
{
    (void)arg;
    (void)dict;
    (void)err;
    atomic_store(&is_at_gate, true);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return SAE_OK;
}

/* By the real clock, which the watching thread looks at, while the loading one is at work. */
START_TEST(a_deadline_ends_a_wait_by_itself)
{
    const struct saed_offers_config cfg = {.registry = registry,
                                           .engine = engine,
                                           .n_threads = 1,
                                           .max_wait_rows = 100,
                                           .admit = admit_late};
    struct client c = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
    struct saed_wait w = {.rows = 1, .deadline_ns = 1, .done = on_told, .arg = &c};
    struct saed_dict *d;

    ck_assert_int_eq(saed_offers_create(&offers, &cfg, NULL), SAE_OK);
    ck_assert_int_eq(saed_offers_add(offers, sources, N_SOURCES, NULL, NULL), SAE_OK);
    ck_assert_int_eq(saed_offers_start(offers, NULL), SAE_OK);
    pthread_mutex_lock(&gate);
    d = described(A);
    ck_assert(saed_offers_want(offers, d, &w));
    saed_dict_release(d);
    pthread_mutex_lock(&c.lock);
    while (!c.is_told)
        pthread_cond_wait(&c.told, &c.lock);
    pthread_mutex_unlock(&c.lock);
    ck_assert_int_eq(w.err.status, SAE_E_LOADING);
    while (!atomic_load(&is_at_gate))
        sched_yield();
    ck_assert(saed_offers_stop(offers)); /* it is being loaded still */
    pthread_mutex_unlock(&gate);
}
END_TEST

static void on_told_late(struct saed_wait *w, void *arg)
{
    (void)w;
    (void)arg;
    atomic_store(&is_at_gate, true);
    while (!atomic_load(&is_stopping))
        sched_yield();
    poll(NULL, 0, 50); /* for a stop that does not wait to return */
    atomic_store(&is_told, true);
}

/* What has been loaded, and is still being told to who waited for it. */
START_TEST(a_stop_waits_for_what_is_told)
{
    struct saed_wait w = {.rows = 1, .deadline_ns = UINT64_MAX / 2, .done = on_told_late};
    struct saed_dict *d;

    begin(0, 0);
    ck_assert_int_eq(saed_offers_start(offers, NULL), SAE_OK);
    d = described(A);
    ck_assert(saed_offers_want(offers, d, &w));
    saed_dict_release(d);
    while (!atomic_load(&is_at_gate))
        sched_yield();
    atomic_store(&is_stopping, true);
    ck_assert(!saed_offers_stop(offers));
    ck_assert(atomic_load(&is_told));
    saed_dict_release(w.dict);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("offers");
    TCase *t = tcase_create("offers");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, the_first_request_loads_it);
    tcase_add_test(t, one_after_the_other_in_order_of_asking);
    tcase_add_test(t, who_waits_too_long_and_who_leaves);
    tcase_add_test(t, so_many_rows_wait_for_one);
    tcase_add_test(t, a_stop_leaves_nobody_waiting);
    tcase_add_test(t, the_least_recently_used_makes_room);
    tcase_add_test(t, none_goes_in_use_or_just_after_its_first);
    tcase_add_test(t, what_nobody_used_goes_at_once);
    tcase_add_test(t, several_make_room_for_one);
    tcase_add_test(t, one_that_never_fits);
    tcase_add_test(t, a_failed_load_is_tried_again_later_and_later);
    tcase_add_test(t, a_file_that_is_mended_is_loaded);
    tcase_add_test(t, a_file_that_changed_is_described_anew);
    tcase_add_test(t, one_that_batches_have_no_room_for);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, many_ask_at_once);
    tcase_add_test(t, a_deadline_ends_a_wait_by_itself);
    tcase_add_test(t, a_stop_waits_for_what_is_told);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
