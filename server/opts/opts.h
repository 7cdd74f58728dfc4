/* opts.h - one option table (opts.def) -> command line, environment, config file, --help.
 *
 * Flag beats environment beats file. Parsed once by main before any thread; immutable after. */
#ifndef SAED_OPTS_H
#define SAED_OPTS_H

#include "lib/base.h"
#include "lib/saed.h"
#include "server/report/log.h"

enum saed_action { SAED_RUN, SAED_CHECK, SAED_PROBE, SAED_VERSION_ACTION, SAED_HELP };

struct saed_source {
    char *name; /* owned by the options */
    char *source;
};

/* What may be given several times. */
struct saed_list {
    char **items; /* owned by the options, as each of them */
    size_t n;
};

/* Of "readings": what is stated of the offered dictionaries whose paths match. */
struct saed_reading {
    char *match;  /* owned by the options, as the other */
    char *stated; /* what stands behind a path: "key=value", each behind a SAE_SOURCE_CUT */
};

struct saed_opts {
    enum saed_action action;
    bool verbose;            /* of --version */
    const char *probe_url;   /* borrowed from argv */
    struct saed_list sample; /* of --check */
    const char *isa;         /* SAED_ISA or NULL; borrowed from the environment */
    struct saed_list listen; /* as saed_address_parse takes them */
    unsigned n_passed;       /* sockets that listen already take their place: 3, 4, ... */
    bool insecure_no_auth;
    bool metrics_open;
    bool compress_answers;
    struct saed_list api_key_file; /* none: nobody is asked for a key */
    struct saed_list allow_host, cors_allow_origin;
    uint64_t threads;      /* resolved: CPUs by affinity and cgroup cpu.max unless given */
    uint64_t http_threads; /* resolved: 1, and 2 above 4 CPUs, unless given */
    enum sae_engine_kind engine;
    uint64_t max_batch_rows, max_delay_us, max_queue_rows;
    uint64_t max_body_bytes, max_json_bytes, max_response_bytes, max_inflight_bytes;
    bool has_max_inflight_bytes; /* it is given: else it is less where memory is (memory.h) */
    uint64_t max_connections;
    uint64_t request_timeout_ms, keepalive_timeout_ms, drain_grace_ms, drain_timeout_ms;
    uint64_t min_upload_rate;
    bool access_log;
    enum saed_log_level log_level;
    enum saed_log_format log_format;
    struct saed_source *sources;
    size_t n_sources;
    struct saed_list dictionaries; /* folders */
    struct saed_reading *readings;
    size_t n_readings;
    uint64_t max_resident_bytes; /* 0: any */
};

/* Called for each thing that is wrong; every one is reported, not only the first. */
typedef void saed_report_fn(void *arg, const struct sae_err *err);

/* Parse flags, environment and config file into *o (zeroed by the caller) and resolve defaults.
 * SAE_E_USAGE for anything wrong in them (flags, values, unknown keys, NAMEs, a source's grammar,
 * no dictionary at all), SAE_E_IO when the config file cannot be read. *o is freed with
 * saed_opts_fini in either case. */
enum sae_status saed_opts_parse(struct saed_opts *o, int argc, char *const *argv, char *const *envp,
                                saed_report_fn *report, void *arg) SAE_MUST_USE;
void saed_opts_fini(struct saed_opts *o);

/* The library behind the config file: "jansson 2.14". */
const char *saed_opts_library(void);

/* --help's text, made from the table. */
enum sae_status saed_opts_help(struct sae_buf *out) SAE_MUST_USE;

#define SAED_NAME_MAX 200
/* A NAME made of a path: `/` as `.`, a file's last ending dropped, any other byte that no NAME has
 * as
 * `_`, and `d` before a first one that begins none. Writes up to cap bytes, no NUL; returns how
 * many there are, more than SAED_NAME_MAX (or none) where there is no NAME. */
size_t saed_name_of_path(const char *path, bool is_file, char *out, size_t cap);

/* The i-th limit of GET /v1's "limits", by its config key ("max_batch_rows"); false past the end.
 */
bool saed_opts_limit(const struct saed_opts *o, size_t i, const char **key, uint64_t *value);

#endif
