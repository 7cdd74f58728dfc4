/* test_conn.c - a connection's state, stepped: clock and byte counts are the test's. */
#include "server/net/conn.h"

#include <check.h>
#include <signal.h>
#include <stdatomic.h>

#define S SAED_SECOND_NS
#define FD 7
#define RATE 100000u
static const struct saed_conn_times times = {.keepalive_ns = 75 * S, .min_upload_rate = RATE};

static struct saed_conn n;
static struct saed_counts bytes; /* what the kernel says */
static bool is_counted;
static int exchange, owner;

static bool counts(int fd, struct saed_counts *out)
{
    ck_assert_int_eq(fd, FD);
    *out = bytes;
    return is_counted;
}

static enum saed_verdict sweep(uint64_t now)
{
    return saed_conn_sweep(&n, now, &times, counts);
}

static void start(void)
{
    bytes = (struct saed_counts){0};
    is_counted = true;
    saed_conn_init(&n, 3);
    saed_conn_open(&n, FD, &owner, SAED_PLACE_IN, 1000 * S);
}

/* To this state, all at the time `now`. */
static void go_to(enum saed_conn_state state, uint64_t now)
{
    if (n.state == SAED_CONN_IDLE && state != SAED_CONN_IDLE)
        saed_conn_line(&n, &exchange, now);
    if (state > SAED_CONN_HEAD)
        saed_conn_move(&n, SAED_CONN_BODY);
    if (state > SAED_CONN_BODY)
        saed_conn_move(&n, SAED_CONN_WORK);
    if (state > SAED_CONN_WORK && state < SAED_CONN_SEND)
        saed_conn_move(&n, SAED_CONN_AWAY);
    if (state == SAED_CONN_QUEUED || state == SAED_CONN_BACK)
        ck_assert(saed_conn_queue(&n));
    if (state == SAED_CONN_GONE)
        ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    if (state == SAED_CONN_BACK)
        ck_assert(saed_conn_back(&n));
    if (state == SAED_CONN_SEND)
        saed_conn_reply(&n, 100, now, counts);
    ck_assert_int_eq(saed_conn_state(&n), state);
}

/* One request of `length` bytes, done with at once. */
static void serve(uint64_t length, uint64_t now)
{
    bytes.received += length;
    go_to(SAED_CONN_SEND, now);
    saed_conn_finish(&n, length, now, counts);
}

/* ---- moves --------------------------------------------------------------------------------- */

START_TEST(the_way_of_a_request)
{
    ck_assert_ptr_null(saed_conn_exchange(&n));
    ck_assert_uint_eq(saed_conn_line(&n, &exchange, 1001 * S), 1001 * S);
    ck_assert_ptr_eq(saed_conn_exchange(&n), &exchange);
    saed_conn_move(&n, SAED_CONN_BODY);
    saed_conn_move(&n, SAED_CONN_WORK);
    saed_conn_move(&n, SAED_CONN_AWAY);
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_AWAY);
    ck_assert(saed_conn_queue(&n));
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_QUEUED);
    ck_assert(saed_conn_back(&n));
    saed_conn_reply(&n, 10, 1002 * S, counts);
    saed_conn_finish(&n, 80, 1002 * S, counts);
    ck_assert_ptr_null(saed_conn_exchange(&n));
    saed_conn_move(&n, SAED_CONN_FREE);
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_FREE);
}
END_TEST

enum move { OPEN, LINE, BODY, WHOLE, AWAY, QUEUE, BACK, REPLY, FINISH, CLOSE, N_MOVES };

/* Which moves are drawn; QUEUE from GONE says no. */
static const bool drawn[][N_MOVES] = {
    [SAED_CONN_FREE] = {[OPEN] = true},
    [SAED_CONN_IDLE] = {[LINE] = true, [CLOSE] = true},
    [SAED_CONN_HEAD] = {[BODY] = true, [REPLY] = true, [FINISH] = true},
    [SAED_CONN_BODY] = {[WHOLE] = true, [REPLY] = true, [FINISH] = true},
    [SAED_CONN_WORK] = {[AWAY] = true, [REPLY] = true, [FINISH] = true},
    [SAED_CONN_AWAY] = {[QUEUE] = true, [BACK] = true},
    [SAED_CONN_QUEUED] = {[BACK] = true},
    [SAED_CONN_GONE] = {[QUEUE] = true, [BACK] = true},
    [SAED_CONN_BACK] = {[REPLY] = true, [FINISH] = true},
    [SAED_CONN_SEND] = {[FINISH] = true},
};
enum { N_STATES = SAE_COUNTOF(drawn) };

static void make(enum move move)
{
    switch (move) {
    case OPEN:
        saed_conn_open(&n, FD, &owner, SAED_PLACE_IN, 1001 * S);
        break;
    case LINE:
        saed_conn_line(&n, &exchange, 1001 * S);
        break;
    case BODY:
        saed_conn_move(&n, SAED_CONN_BODY);
        break;
    case WHOLE:
        saed_conn_move(&n, SAED_CONN_WORK);
        break;
    case AWAY:
        saed_conn_move(&n, SAED_CONN_AWAY);
        break;
    case QUEUE:
        (void)!saed_conn_queue(&n);
        break;
    case BACK:
        (void)!saed_conn_back(&n);
        break;
    case REPLY:
        saed_conn_reply(&n, 10, 1001 * S, counts);
        break;
    case FINISH:
        saed_conn_finish(&n, 10, 1001 * S, counts);
        break;
    default:
        saed_conn_move(&n, SAED_CONN_FREE);
        break;
    }
}

static void enter(enum saed_conn_state state)
{
    if (state == SAED_CONN_FREE)
        saed_conn_move(&n, SAED_CONN_FREE);
    else
        go_to(state, 1001 * S);
}

START_TEST(moves_that_are_drawn)
{
    if (!drawn[_i / N_MOVES][_i % N_MOVES])
        return;
    enter((enum saed_conn_state)(_i / N_MOVES));
    make((enum move)(_i % N_MOVES));
}
END_TEST

START_TEST(no_other_move)
{
    if (drawn[_i / N_MOVES][_i % N_MOVES])
        raise(SIGABRT);
    enter((enum saed_conn_state)(_i / N_MOVES));
    make((enum move)(_i % N_MOVES));
}
END_TEST

/* ---- the clock: heads ---------------------------------------------------------------------- */

START_TEST(a_fresh_connection_has_ten_seconds)
{
    ck_assert_int_eq(sweep(1010 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1010 * S + 1), SAED_CONN_CUT);
    bytes.received = 5; /* from accept, whatever it sends */
    ck_assert_int_eq(sweep(1009 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1010 * S + 1), SAED_CONN_CUT);
    go_to(SAED_CONN_HEAD, 1009 * S);
    ck_assert_int_eq(sweep(1010 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1010 * S + 1), SAED_CONN_CUT);
}
END_TEST

START_TEST(an_idle_connection_has_its_time)
{
    serve(80, 1005 * S);
    ck_assert_int_eq(sweep(1080 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1080 * S + 1), SAED_CONN_END_READING);
    ck_assert_int_eq(sweep(1081 * S), SAED_CONN_END_READING);
    go_to(SAED_CONN_AWAY, 1082 * S); /* a last request came all the same: its end says nothing */
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    ck_assert(saed_conn_queue(&n));
}
END_TEST

START_TEST(an_idle_connection_may_have_more)
{
    static const struct saed_conn_times longer = {.keepalive_ns = 700 * S};

    serve(80, 1005 * S);
    ck_assert_int_eq(saed_conn_sweep(&n, 1705 * S, &longer, counts), SAED_CONN_WELL);
    ck_assert_int_eq(saed_conn_sweep(&n, 1705 * S + 1, &longer, counts), SAED_CONN_END_READING);
}
END_TEST

/* From its first byte, which a sweep finds, or from its line, whichever is first. */
START_TEST(a_head_on_a_kept_connection_has_ten)
{
    serve(80, 1005 * S);
    ck_assert_int_eq(sweep(1050 * S), SAED_CONN_WELL);
    bytes.received += 1;
    ck_assert_int_eq(sweep(1060 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1070 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1070 * S + 1), SAED_CONN_CUT);
    ck_assert_uint_eq(saed_conn_line(&n, &exchange, 1065 * S), 1060 * S);
    ck_assert_int_eq(sweep(1070 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1070 * S + 1), SAED_CONN_CUT);
}
END_TEST

/* What was known of one request says nothing of the next. (A sweep that met a line being read took
 * its first byte for that of the request before, or for none, and cut a healthy connection.) */
START_TEST(the_next_request_has_a_clock_of_its_own)
{
    serve(80, 1005 * S);
    bytes.received += 1;
    ck_assert_int_eq(sweep(1040 * S), SAED_CONN_WELL); /* first byte: 1040 */
    bytes.received += 79;
    go_to(SAED_CONN_SEND, 1041 * S);
    saed_conn_finish(&n, 80, 1060 * S, counts);
    ck_assert_int_eq(sweep(1060 * S + 1), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1134 * S), SAED_CONN_WELL); /* idle since 1060 */
    ck_assert_uint_eq(saed_conn_line(&n, &exchange, 1134 * S), 1134 * S);
    ck_assert_int_eq(sweep(1144 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1144 * S + 1), SAED_CONN_CUT);
}
END_TEST

START_TEST(a_kernel_that_does_not_count)
{
    is_counted = false;
    serve(80, 1005 * S);
    ck_assert(!saed_conn_begun(&n, counts));
    ck_assert(!saed_conn_has(&n, 1, counts));
    ck_assert_int_eq(sweep(1080 * S + 1), SAED_CONN_END_READING);
    go_to(SAED_CONN_BODY, 1081 * S);
    ck_assert_int_eq(sweep(1081 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1081 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1111 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1111 * S + 1), SAED_CONN_SLOW); /* as if nothing had come */
    saed_conn_reply(&n, 1 << 20, 1082 * S, counts);
    ck_assert_int_eq(sweep(2000 * S), SAED_CONN_WELL);
}
END_TEST

/* Then what has been read counts: a body that goes on is not slow, one that stops is. */
START_TEST(a_body_that_the_kernel_does_not_count)
{
    is_counted = false;
    go_to(SAED_CONN_BODY, 1001 * S);
    for (uint64_t s = 1001; s <= 1100; s++) {
        ck_assert_int_eq(sweep(s * S), SAED_CONN_WELL);
        saed_conn_read(&n, 1 << 20);
    }
    ck_assert_int_eq(sweep(1101 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1131 * S + 1), SAED_CONN_SLOW);
}
END_TEST

/* ---- the clock: bodies and work ------------------------------------------------------------ */

/* Sweeps each 250 ms: nothing for `wait` seconds, then `rate` bytes a second in drops of `drop` up
 * to `until`, of which `unread` wait to be read. */
static const struct {
    const char *what;
    uint64_t min_rate, wait, rate, drop, until, unread;
    uint64_t slow; /* quarters of a second after its begin at which it is; 0: not within 300 s */
} uploads[] = {
    {"no byte ever", RATE, 300, 0, 1, 300, 0, 121},
    {"no byte ever, at any rate", 0, 300, 0, 1, 300, 0, 121},
    {"as fast as it must be", RATE, 0, RATE, 1, 300, 0, 0},
    {"900 KB a second", RATE, 0, 900000, 1, 300, 0, 0},
    {"a little too slow", RATE, 0, RATE - 1000, 1, 300, 0, 122},
    {"one byte a second", RATE, 0, 1, 1, 300, 0, 125},
    {"one byte a second, at any rate", 0, 0, 1, 1, 300, 0, 0},
    {"ten seconds' worth every five", RATE, 0, 2 * RATE, 10 * RATE, 300, 0, 0},
    {"twenty seconds' worth every twenty", RATE, 0, RATE, 20 * RATE, 300, 0, 201},
    {"late, then fast enough", RATE, 29, RATE, 1, 300, 0, 0},
    {"late, then too slow", RATE, 29, 1, 1, 300, 0, 241},
    {"it stops early", RATE, 0, RATE, 1, 5, 0, 122},
    {"it stops later", RATE, 0, 5 * RATE, 1, 60, 0, 273},
    {"it stops, at any rate", 0, 0, RATE, 1, 60, 0, 361},
    {"it stops, and nobody reads", RATE, 0, RATE, 1, 60, 9, 0},
};

static void check_upload(int i)
{
    const struct saed_conn_times t = {75 * S, uploads[i].min_rate};
    uint64_t begin = 1001 * S, before = bytes.received, slow = 0;

    for (uint64_t q = 0; q < 1200; q++) {
        uint64_t s4 = q / 4 < uploads[i].until ? q : uploads[i].until * 4;
        enum saed_verdict v;

        s4 = s4 > uploads[i].wait * 4 ? s4 - uploads[i].wait * 4 : 0;
        bytes.received = before + s4 * uploads[i].rate / 4 / uploads[i].drop * uploads[i].drop;
        bytes.unread = uploads[i].unread;
        v = saed_conn_sweep(&n, begin + q * S / 4, &t, counts);
        ck_assert(v != SAED_CONN_CUT && v != SAED_CONN_END_READING);
        ck_assert(v != SAED_CONN_SLOW || !slow); /* said once */
        if (v == SAED_CONN_SLOW)
            slow = q;
    }
    ck_assert_msg(slow == uploads[i].slow, "%s: slow at %d/4 s, not %d/4", uploads[i].what,
                  (int)slow, (int)uploads[i].slow);
}

START_TEST(a_body_must_come)
{
    bytes.received = 500; /* the head, and what came with it */
    go_to(SAED_CONN_BODY, 1001 * S);
    check_upload(_i);
}
END_TEST

/* How the body before it came says nothing. */
START_TEST(a_body_behind_others)
{
    go_to(SAED_CONN_BODY, 900 * S);
    sweep(900 * S);
    bytes.received = 100;
    sweep(901 * S);
    ck_assert_int_eq(sweep(950 * S), SAED_CONN_SLOW);
    ck_assert_uint_eq(saed_conn_rate(&n, 950 * S), 0);
    saed_conn_reply(&n, 10, 950 * S, counts);
    saed_conn_finish(&n, 100, 950 * S, counts);
    bytes.received = 700;
    go_to(SAED_CONN_BODY, 1001 * S);
    check_upload(_i);
}
END_TEST

/* Taken is what is not waiting to be read; once for each stall. */
START_TEST(a_stall_is_told_once)
{
    bytes.received = 100;
    go_to(SAED_CONN_BODY, 1001 * S);
    ck_assert_int_eq(sweep(1001 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1002 * S), SAED_CONN_STALLED);
    ck_assert_int_eq(sweep(1003 * S), SAED_CONN_WELL);
    bytes.received = 150, bytes.unread = 50; /* more comes, nothing is taken */
    ck_assert_int_eq(sweep(1004 * S), SAED_CONN_WELL);
    bytes.unread = 20;
    ck_assert_int_eq(sweep(1005 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1006 * S), SAED_CONN_STALLED);
    saed_conn_reply(&n, 10, 1007 * S, counts);
    saed_conn_finish(&n, 150, 1007 * S, counts);
    bytes.received = 300, bytes.unread = 170; /* as much taken as before: another body */
    go_to(SAED_CONN_BODY, 1008 * S);
    ck_assert_int_eq(sweep(1008 * S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(1009 * S), SAED_CONN_STALLED);
}
END_TEST

START_TEST(work_has_no_clock_here)
{
    static const enum saed_conn_state states[] = {SAED_CONN_WORK, SAED_CONN_AWAY, SAED_CONN_QUEUED,
                                                  SAED_CONN_GONE, SAED_CONN_BACK};

    go_to(states[_i], 1001 * S);
    n.ended = true;
    ck_assert_int_eq(sweep(9000 * S), SAED_CONN_WELL);
}
END_TEST

/* MHD may have missed the edge: it is made again at each sweep while it should be reading. */
START_TEST(an_end_is_told_again_where_mhd_reads)
{
    static const enum saed_conn_state states[] = {SAED_CONN_IDLE, SAED_CONN_HEAD, SAED_CONN_BODY};

    bytes.received = 1;
    go_to(states[_i], 1001 * S);
    ck_assert_int_eq(sweep(1001 * S), SAED_CONN_WELL);
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    bytes.received = 2;
    ck_assert_int_eq(sweep(1002 * S), SAED_CONN_END_READING);
    bytes.received = 3;
    ck_assert_int_eq(sweep(1003 * S), SAED_CONN_END_READING);
    ck_assert_int_eq(sweep(1100 * S),
                     states[_i] == SAED_CONN_BODY ? SAED_CONN_SLOW : SAED_CONN_CUT);
}
END_TEST

/* ---- a full house -------------------------------------------------------------------------- */

/* Beyond the limit: a second for the head, and a second for the answer. */
START_TEST(beyond_the_limit_time_is_short)
{
    static const enum saed_conn_state states[] = {SAED_CONN_IDLE, SAED_CONN_HEAD, SAED_CONN_BODY,
                                                  SAED_CONN_SEND};
    uint64_t since = states[_i] == SAED_CONN_SEND ? 1000 * S + S / 2 : 1000 * S;

    n.place = SAED_PLACE_BEYOND;
    bytes.received = 1;
    go_to(states[_i], 1000 * S + S / 2);
    ck_assert_int_eq(sweep(since + S), SAED_CONN_WELL);
    ck_assert_int_eq(sweep(since + S + 1), SAED_CONN_CUT);
    n.place = SAED_PLACE_IN; /* admitted meanwhile */
    ck_assert_int_eq(sweep(since + S + 1), SAED_CONN_WELL);
}
END_TEST

/* Four who said nothing kept a health check waiting for a second and a sweep. */
START_TEST(beyond_the_limit_others_may_be_waiting)
{
    static const struct {
        enum saed_conn_state state;
        uint64_t may_ns;
    } cases[] = {
        {SAED_CONN_IDLE, S / 10}, {SAED_CONN_HEAD, S / 10}, {SAED_CONN_BODY, S / 10},
        {SAED_CONN_SEND, S / 2},  {SAED_CONN_WORK, 0}, /* its answer will come */
    };
    uint64_t begin = 1000 * S, since = cases[_i].state == SAED_CONN_SEND ? begin + S / 50 : begin;
    bool is_timed = cases[_i].may_ns > 0;

    n.place = SAED_PLACE_BEYOND;
    bytes.received = 1;
    go_to(cases[_i].state, begin + S / 50);
    ck_assert_uint_eq(saed_conn_beyond_since(&n, since + cases[_i].may_ns, counts), UINT64_MAX);
    ck_assert_uint_eq(saed_conn_beyond_since(&n, since + cases[_i].may_ns + 1, counts),
                      is_timed ? since : UINT64_MAX);
    bytes.unread = 1; /* we are late, not the client */
    ck_assert_uint_eq(saed_conn_beyond_since(&n, since + S, counts),
                      cases[_i].state == SAED_CONN_SEND ? since : UINT64_MAX);
    bytes.unread = 0;
    n.no_more = true; /* it is leaving */
    ck_assert_uint_eq(saed_conn_beyond_since(&n, since + S, counts), UINT64_MAX);
    n.no_more = false;
    n.place = SAED_PLACE_IN;
    ck_assert_uint_eq(saed_conn_beyond_since(&n, since + S, counts), UINT64_MAX);
}
END_TEST

START_TEST(who_is_kept_and_since_when)
{
    ck_assert_uint_eq(saed_conn_kept_since(&n), UINT64_MAX); /* its first request is to come */
    go_to(SAED_CONN_HEAD, 1001 * S);
    ck_assert_uint_eq(saed_conn_kept_since(&n), UINT64_MAX);
    saed_conn_finish(&n, 0, 1002 * S, counts);
    ck_assert_uint_eq(saed_conn_kept_since(&n), 1002 * S);
    ck_assert(saed_conn_is_kept(&n, 1003 * S, counts));
    bytes.received = 1;
    ck_assert_uint_eq(saed_conn_kept_since(&n), 1002 * S); /* not known yet */
    ck_assert(!saed_conn_is_kept(&n, 1004 * S, counts));
    ck_assert_uint_eq(saed_conn_kept_since(&n), UINT64_MAX);
    ck_assert_uint_eq(saed_conn_line(&n, &exchange, 1005 * S), 1004 * S);
    saed_conn_finish(&n, 1, 1006 * S, counts);
    ck_assert(saed_conn_retire(&n, counts));
    ck_assert_uint_eq(saed_conn_kept_since(&n), UINT64_MAX); /* it leaves already */
}
END_TEST

/* ---- the clock: answers -------------------------------------------------------------------- */

/* Bytes acknowledged: `burst` within the first second, then `rate` a second up to `until`. */
static const struct {
    const char *what;
    uint64_t answer, burst, rate, until;
    uint64_t cut; /* seconds after the reply at which it is cut; 0: not within 300 */
} sends[] = {
    {"nothing is taken", 1 << 20, 0, 0, 0, 32},
    {"nothing of a short answer", 100, 0, 0, 0, 32},
    {"it stops", 10 << 20, 0, 10000, 50, 81},
    {"fast enough", 10 << 20, 0, 4200, 300, 0},
    {"too slow", 10 << 20, 0, 4000, 300, 75},
    {"too slow, and short", 300000, 0, 1000, 300, 75},
    {"slow, but for a good begin", 10 << 20, 2 << 20, 100, 300, 0},
    {"slow for too long", 10 << 20, 400000, 100, 300, 101},
    {"short, fast begin, then slow", 200000, 190000, 10, 300, 75},
};

static void check_send(int i)
{
    uint64_t begin = 1001 * S, before = bytes.acked, cut = 0;

    saed_conn_reply(&n, sends[i].answer, begin, counts);
    for (uint64_t s = 0; s < 300 && !cut; s++) {
        uint64_t moved = s < sends[i].until ? s : sends[i].until;

        bytes.acked = before + (s > 0 ? sends[i].burst : 0) + moved * sends[i].rate;
        if (sweep(begin + s * S + 1) == SAED_CONN_DROP)
            cut = s;
    }
    ck_assert_msg(cut == sends[i].cut, "%s: cut at %d s, not %d", sends[i].what, (int)cut,
                  (int)sends[i].cut);
    if (cut) /* said once */
        ck_assert_int_eq(sweep(begin + 301 * S), SAED_CONN_CUT);
}

START_TEST(an_answer_must_be_taken)
{
    go_to(SAED_CONN_WORK, 1001 * S);
    check_send(_i);
}
END_TEST

/* Answers of before count for nothing, and neither does how they went. */
START_TEST(an_answer_behind_others)
{
    bytes.acked = 5 << 20;
    go_to(SAED_CONN_WORK, 900 * S);
    saed_conn_reply(&n, 1 << 20, 900 * S, counts);
    sweep(910 * S);
    bytes.acked += 1 << 20;
    sweep(920 * S);
    saed_conn_finish(&n, 10, 930 * S, counts);
    go_to(SAED_CONN_WORK, 1001 * S);
    check_send(_i);
}
END_TEST

/* ---- the client's end ---------------------------------------------------------------------- */

START_TEST(who_is_told_that_the_client_has_gone)
{
    go_to(SAED_CONN_QUEUED, 1001 * S);
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation - 1)); /* of the slot's last use */
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_QUEUED);
    ck_assert_ptr_eq(saed_conn_ended(&n, n.generation), &exchange);
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation)); /* once */
    ck_assert(!saed_conn_told(&n));
    ck_assert(saed_conn_back(&n));
}
END_TEST

START_TEST(who_comes_back_waits_for_who_tells)
{
    go_to(SAED_CONN_QUEUED, 1001 * S);
    ck_assert_ptr_eq(saed_conn_ended(&n, n.generation), &exchange);
    ck_assert(!saed_conn_back(&n));
    ck_assert(saed_conn_told(&n));
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_BACK);
}
END_TEST

START_TEST(who_has_gone_is_not_queued)
{
    go_to(SAED_CONN_AWAY, 1001 * S);
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation)); /* nobody to tell yet */
    ck_assert(!saed_conn_queue(&n));
    ck_assert(saed_conn_back(&n));
}
END_TEST

START_TEST(an_end_that_was_seen_before)
{
    go_to(SAED_CONN_BODY, 1001 * S);
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    saed_conn_move(&n, SAED_CONN_WORK);
    saed_conn_move(&n, SAED_CONN_AWAY);
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_GONE);
}
END_TEST

START_TEST(our_own_end_says_nothing)
{
    ck_assert(saed_conn_retire(&n, counts));
    go_to(SAED_CONN_BODY, 1001 * S); /* on its way already */
    ck_assert(!saed_conn_retire(&n, counts));
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    saed_conn_move(&n, SAED_CONN_WORK);
    saed_conn_move(&n, SAED_CONN_AWAY);
    ck_assert(saed_conn_queue(&n));
    ck_assert_ptr_null(saed_conn_ended(&n, n.generation));
    ck_assert_int_eq(saed_conn_state(&n), SAED_CONN_QUEUED);
}
END_TEST

START_TEST(a_slot_that_is_used_again_knows_nothing)
{
    uint32_t generation = n.generation;

    serve(80, 1005 * S);
    ck_assert_ptr_null(saed_conn_ended(&n, generation));
    ck_assert(saed_conn_retire(&n, counts));
    saed_conn_move(&n, SAED_CONN_FREE);
    ck_assert_ptr_null(saed_conn_ended(&n, generation));
    bytes = (struct saed_counts){0};
    saed_conn_open(&n, FD, &owner, SAED_PLACE_IN, 2000 * S);
    ck_assert_ptr_null(saed_conn_ended(&n, generation));
    ck_assert(!saed_conn_begun(&n, counts));
    ck_assert_int_eq(sweep(2010 * S), SAED_CONN_WELL);
    go_to(SAED_CONN_QUEUED, 2010 * S);
    ck_assert_ptr_eq(saed_conn_ended(&n, n.generation), &exchange);
}
END_TEST

/* ---- bytes --------------------------------------------------------------------------------- */

START_TEST(what_has_arrived)
{
    ck_assert(!saed_conn_begun(&n, counts));
    bytes.received = 1;
    ck_assert(saed_conn_begun(&n, counts));
    serve(79, 1001 * S);
    bytes.received = 79;
    ck_assert(!saed_conn_begun(&n, counts));
    bytes.received = 100;
    ck_assert(saed_conn_begun(&n, counts));
    go_to(SAED_CONN_HEAD, 1002 * S);
    ck_assert(saed_conn_has(&n, 21, counts));
    ck_assert(!saed_conn_has(&n, 22, counts));
    ck_assert(!saed_conn_has(&n, UINT64_MAX, counts));
    saed_conn_finish(&n, UINT64_MAX, 1003 * S, counts); /* length not known: all there is */
    ck_assert(!saed_conn_begun(&n, counts));
}
END_TEST

START_TEST(blank_lines_before_a_request)
{
    static const char buffer[64];

    ck_assert_uint_eq(saed_conn_leading(&n, buffer + 4), 0); /* not known better */
    ck_assert_uint_eq(saed_conn_leading(&n, buffer), 0);
    ck_assert_uint_eq(saed_conn_leading(&n, buffer + 2), 2);
}
END_TEST

/* ---- two threads --------------------------------------------------------------------------- */

static _Atomic uint64_t clock_now;
static _Atomic int n_served;

static bool no_counts(int fd, struct saed_counts *out)
{
    (void)fd, (void)out;
    return false;
}

static void *sweeping(void *arg)
{
    bool *was_cut = arg;

    while (n_served < 20000) {
        pthread_mutex_lock(&n.lock);
        *was_cut |= saed_conn_sweep(&n, clock_now, &times, no_counts) != SAED_CONN_WELL;
        pthread_mutex_unlock(&n.lock);
    }
    return NULL;
}

/* A connection that is idle for 74 s and then has a request for 9 s, again and again, is healthy at
 * whichever instant it is looked at. */
START_TEST(a_healthy_connection_is_never_cut)
{
    pthread_t other;
    bool was_cut = false;

    clock_now = 1000 * S;
    n_served = 0;
    ck_assert_int_eq(pthread_create(&other, NULL, sweeping, &was_cut), 0);
    while (n_served < 20000) {
        saed_conn_line(&n, &exchange, clock_now);
        clock_now += 9 * S;
        saed_conn_move(&n, SAED_CONN_BODY);
        clock_now += 9 * S;
        saed_conn_move(&n, SAED_CONN_WORK);
        saed_conn_reply(&n, 10, clock_now, no_counts);
        clock_now += 9 * S;
        saed_conn_finish(&n, 80, clock_now, no_counts);
        clock_now += 74 * S;
        n_served++;
    }
    pthread_join(other, NULL);
    ck_assert(!was_cut);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conn");
    TCase *t = tcase_create("conn");
    SRunner *r = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(t, start, NULL);
    tcase_add_test(t, the_way_of_a_request);
    tcase_add_loop_test(t, moves_that_are_drawn, 0, N_STATES * N_MOVES);
    if (srunner_fork_status(r) == CK_FORK)
        tcase_add_loop_test_raise_signal(t, no_other_move, SIGABRT, 0, N_STATES * N_MOVES);
    tcase_add_test(t, a_fresh_connection_has_ten_seconds);
    tcase_add_test(t, an_idle_connection_has_its_time);
    tcase_add_test(t, an_idle_connection_may_have_more);
    tcase_add_test(t, a_head_on_a_kept_connection_has_ten);
    tcase_add_test(t, the_next_request_has_a_clock_of_its_own);
    tcase_add_test(t, a_kernel_that_does_not_count);
    tcase_add_test(t, a_body_that_the_kernel_does_not_count);
    tcase_add_loop_test(t, a_body_must_come, 0, SAE_COUNTOF(uploads));
    tcase_add_loop_test(t, a_body_behind_others, 0, SAE_COUNTOF(uploads));
    tcase_add_test(t, a_stall_is_told_once);
    tcase_add_loop_test(t, work_has_no_clock_here, 0, 5);
    tcase_add_loop_test(t, an_end_is_told_again_where_mhd_reads, 0, 3);
    tcase_add_loop_test(t, beyond_the_limit_time_is_short, 0, 4);
    tcase_add_loop_test(t, beyond_the_limit_others_may_be_waiting, 0, 5);
    tcase_add_test(t, who_is_kept_and_since_when);
    tcase_add_loop_test(t, an_answer_must_be_taken, 0, SAE_COUNTOF(sends));
    tcase_add_loop_test(t, an_answer_behind_others, 0, SAE_COUNTOF(sends));
    tcase_add_test(t, who_is_told_that_the_client_has_gone);
    tcase_add_test(t, who_comes_back_waits_for_who_tells);
    tcase_add_test(t, who_has_gone_is_not_queued);
    tcase_add_test(t, an_end_that_was_seen_before);
    tcase_add_test(t, our_own_end_says_nothing);
    tcase_add_test(t, a_slot_that_is_used_again_knows_nothing);
    tcase_add_test(t, what_has_arrived);
    tcase_add_test(t, blank_lines_before_a_request);
    tcase_add_test(t, a_healthy_connection_is_never_cut);
    suite_add_tcase(suite, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
