/* slack.h - memory that requests have left in malloc goes back to the system once it is quiet.
 *
 * malloc keeps what is freed, since fresh pages cost more than what is done with them; after a
 * burst that is memory which others on the machine lack. Giving it back takes milliseconds, so a
 * thread that serves nobody does it, and only when nobody is served: the process has hardly
 * computed for two looks.
 * Owned by one thread (the main thread), which looks about once a second. Time and measures come
 * from outside. */
#ifndef SAED_SLACK_H
#define SAED_SLACK_H

#include "lib/base.h"

#define SAED_SLACK_LOOK_NS 1000000000ull
/* Quiet: so much of one CPU, in parts of the time. Health checks and scrapes are less. */
#define SAED_SLACK_QUIET_PART 20
/* Less than that beyond what it had after the last time is left as it is. */
#define SAED_SLACK_BYTES ((uint64_t)8 << 20)

struct saed_slack {
    uint64_t look_ns, cpu_ns; /* the last look: when, and what had been computed by then */
    unsigned n_quiet;         /* looks in a row */
    uint64_t floor_bytes;     /* resident after the last time */
};

struct saed_slack_look {
    uint64_t now_ns, cpu_ns; /* CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID */
    uint64_t resident_bytes;
};

/* Of this process, now. */
struct saed_slack_look saed_slack_measure(void);
void saed_slack_init(struct saed_slack *s, struct saed_slack_look first);
/* True: it is time to give memory back. A look that comes too soon after the last is passed over.
 */
bool saed_slack_is_due(struct saed_slack *s, struct saed_slack_look look);
/* It has been given back, and so much is resident now. */
void saed_slack_returned(struct saed_slack *s, uint64_t resident_bytes);

#endif
