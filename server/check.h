/* check.h - --check: load everything, say what it is and how it is read, open no socket.
 *
 * With --sample also what each reading does to real rows, and what of that does not fit. Called by
 * main.c. One thread, and those that it makes for loading and computing. */
#ifndef SAED_CHECK_H
#define SAED_CHECK_H

#include "server/opts/opts.h"

/* Lines on stdout. *is_suspicious: a figure does not fit. Failures are reported; the status is that
 * of the first. */
enum sae_status saed_check(const struct saed_opts *o, saed_report_fn *report, void *arg,
                           bool *is_suspicious) SAE_MUST_USE;

#endif
