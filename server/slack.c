/* slack.c - see slack.h. */
#include "server/slack.h"

#include "server/report/process.h"

#include <time.h>

static uint64_t ns_of(clockid_t id)
{
    struct timespec t;

    return clock_gettime(id, &t) == 0 ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec : 0;
}

struct saed_slack_look saed_slack_measure(void)
{
    return (struct saed_slack_look){.now_ns = ns_of(CLOCK_MONOTONIC),
                                    .cpu_ns = ns_of(CLOCK_PROCESS_CPUTIME_ID),
                                    .resident_bytes = saed_process_resident_bytes()};
}

void saed_slack_init(struct saed_slack *s, struct saed_slack_look first)
{
    *s = (struct saed_slack){
        .look_ns = first.now_ns, .cpu_ns = first.cpu_ns, .floor_bytes = first.resident_bytes};
}

bool saed_slack_is_due(struct saed_slack *s, struct saed_slack_look look)
{
    uint64_t past = look.now_ns - s->look_ns;
    bool is_quiet = (look.cpu_ns - s->cpu_ns) * SAED_SLACK_QUIET_PART <= past;

    if (past < SAED_SLACK_LOOK_NS / 2)
        return false;
    s->look_ns = look.now_ns;
    s->cpu_ns = look.cpu_ns;
    s->n_quiet = is_quiet ? s->n_quiet + 1 : 0;
    if (look.resident_bytes < s->floor_bytes) /* a dictionary has gone */
        s->floor_bytes = look.resident_bytes;
    return s->n_quiet >= 2 && look.resident_bytes > s->floor_bytes + SAED_SLACK_BYTES;
}

void saed_slack_returned(struct saed_slack *s, uint64_t resident_bytes)
{
    s->floor_bytes = resident_bytes;
}
