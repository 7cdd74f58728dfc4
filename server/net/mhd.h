/* mhd.h - which libmicrohttpd this is, and which way it can be trusted with heads.
 *
 * Two ways are known. By layout: 0.9.75 lets through what no head may have (NUL bytes, folded
 * lines, bare LF), but hands over pointers into its read buffer, and what it dropped or cut shows
 * in where they point (head.h). By the library: 1.0 lays out heads otherwise, but can be told to
 * refuse what RFC 9112 forbids. Which of them holds is tried at the start, on heads that are good
 * and on heads that are not; a library with which neither holds is not used. Called by http.c and
 * request.c. */
#ifndef SAED_MHD_H
#define SAED_MHD_H

#include "server/net/head.h"

#include <stdarg.h>

/* A connection's memory in the library: its own default. A head must fit in, a body comes in pieces
 * of half of it. The library zeroes one and a half times as much for each request: with 64 KB that
 * was a fifth of its thread's time. */
#define SAED_MHD_MEMORY (32u << 10)
/* What of that the head of an answer may need: with less the library closes without a word. */
#define SAED_MHD_REPLY_BYTES 1536u

enum saed_heads { SAED_HEADS_BY_LAYOUT, SAED_HEADS_BY_LIBRARY };

struct MHD_Connection;

/* A request line as MHD gives it: `uri` is where it found the target, `target` a copy of that text
 * made before it was changed. */
struct saed_mhd_line {
    const char *method, *uri, *target, *version;
};

/* In the library's call with the target: hide the query from it. It would keep a record for each
 * parameter in the connection's memory, where 412 of them leave no room for an answer; saed reads
 * the query itself, from its copy of the target. (Where the `?` is, it has found before the call.)
 * NULL allowed. */
void saed_mhd_hide_query(const char *uri);

/* The head of the request that `c` has read. *n_bytes is its length on the wire; untouched on
 * failure. SAE_E_BAD_REQUEST says what is wrong; what could be read is in *head all the same.
 * SAE_E_HEAD_TOO_LARGE: it leaves the library no room for an answer. The Expect of a request
 * without a body is hidden from the library: it would take the next request, where that is there
 * already, for the body that it has told the client to send, and ask for an answer when it takes
 * none. */
enum sae_status saed_mhd_read_head(struct saed_head *head, size_t *n_bytes,
                                   struct MHD_Connection *c, const struct saed_mhd_line *line,
                                   enum saed_heads way, struct sae_err *err) SAE_MUST_USE;

/* The option for MHD_start_daemon that has the library refuse what it should: 1 for
 * SAED_HEADS_BY_LIBRARY, else 0. */
int saed_mhd_strict_option(void);

/* The library answers a head or a chunk that it cannot read by itself, and tells nobody but its
 * log: the status of such an answer, by its message; 0: a message about something else. */
int saed_mhd_own_answer(const char *message, va_list args);

/* The library refuses this request's Content-Length. 0.9.75 answers so in its log's call and
 * forgets that it has: the head of its answer goes out twice. */
bool saed_mhd_refuses_length(struct MHD_Connection *c);

/* Which way holds with the library in use. SAE_E_IO: none, or the version is not known. */
enum sae_status saed_mhd_choose(enum saed_heads *out, struct sae_err *err) SAE_MUST_USE;

/* The decision alone, for tests: `takes` says whether a request with this head is taken for a good
 * one when heads are read in this way. */
typedef bool saed_mhd_takes(void *arg, enum saed_heads way, const char *text, size_t n);
enum sae_status saed_mhd_decide(enum saed_heads *out, const char *version, saed_mhd_takes *takes,
                                void *arg, struct sae_err *err) SAE_MUST_USE;

#endif
