/* daemon.h - the life of the serving process: listen, load, serve, drain.
 *
 *     listening (503 loading) --loaded--> ready --SIGTERM/SIGINT--> grace (not ready, serving)
 *         --grace over or 2nd signal--> draining (listener closed) --nothing in flight--> stopped
 *         --drain timeout or 3rd signal--> refusing (503 draining) --> stopped
 *
 * Called by main on the main thread, which waits here for signals; loading has a thread of its own.
 */
#ifndef SAED_DAEMON_H
#define SAED_DAEMON_H

#include "server/opts/opts.h"

/* Returns the exit status. *abandoned: threads still run (a signal came while loading), so that the
 * process must end without waiting for them. */
int saed_daemon_run(const struct saed_opts *opts, saed_report_fn *report, void *arg,
                    bool *abandoned);

#endif
