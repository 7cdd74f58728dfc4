/* probe.h - `saed --probe URL`, or an address that --listen takes: the health check of a container
 * that has no curl.
 *
 * Plain sockets, called by main instead of everything else. */
#ifndef SAED_PROBE_H
#define SAED_PROBE_H

#include "lib/base.h"

/* GET http://HOST[:PORT][/PATH] (HOST a name, an IPv4 address or [IPv6]), or /healthz of HOST:PORT
 * or unix:PATH, within 5 s in all. Returns the exit status: 0 when the answer's status is 200, else
 * 1 with one line on stderr. */
int saed_probe(const char *url);

/* The same with the time given, and the reason in *err instead of on stderr. */
enum sae_status saed_probe_within(const char *url, int timeout_ms,
                                  struct sae_err *err) SAE_MUST_USE;

#endif
