/* pace.c - see pace.h. */
#include "server/net/pace.h"

#define N_MARKS (SAED_PACE_SECONDS + 1)

void saed_pace_begin(struct saed_pace *p, uint64_t total, uint64_t now)
{
    *p = (struct saed_pace){
        .begin_ns = now, .first = total, .total = total, .noted_ns = now, .marks = {{now, total}}};
}

void saed_pace_note(struct saed_pace *p, uint64_t total, uint64_t now)
{
    uint64_t at = now > p->noted_ns ? now : p->noted_ns;
    uint64_t missed = (at - p->begin_ns) / SAED_SECOND_NS - p->second;

    p->second += missed;
    for (uint64_t k = 0; k < missed && k < N_MARKS; k++) {
        p->marks[(p->second - k) % N_MARKS].ns = k == 0 ? at : p->noted_ns;
        p->marks[(p->second - k) % N_MARKS].total = k == 0 ? total : p->total;
    }
    p->total = total;
    p->noted_ns = at;
}

uint64_t saed_pace_rate(const struct saed_pace *p, uint64_t now)
{
    uint64_t from = p->second < SAED_PACE_SECONDS ? 0 : p->second - SAED_PACE_SECONDS;
    uint64_t ns = p->marks[from % N_MARKS].ns, ms = now > ns ? (now - ns) / 1000000 : 0;

    return (p->total - p->marks[from % N_MARKS].total) * 1000 / (ms ? ms : 1);
}
