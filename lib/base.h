/* base.h - what every part of saed stands on: status and error text, memory, a capped buffer.
 *
 * lib, proto and server all include it; it includes nothing of ours. Nothing here has state
 * of its own but the allocation fault hook, which tests set before they start threads.
 *
 * Words of ownership used in every header: "owned" (the caller frees), "borrowed" (valid until
 * the named event), "taken" (the callee frees, also on failure; the name ends in _take).
 * A `const T *` parameter is always borrowed for the call. */
#ifndef SAE_BASE_H
#define SAE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAE_MUST_USE __attribute__((warn_unused_result))
#define SAE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define SAE_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))

/* Why something could not be done. proto/errors.def gives the HTTP status, slug and title of
 * each that can be a request's answer. */
enum sae_status {
    SAE_OK = 0,
    /* lib: memory, files, weights */
    SAE_E_NOMEM,   /* memory ran out, or a cap on it was reached */
    SAE_E_IO,      /* the operating system refused; text has strerror */
    SAE_E_USAGE,   /* flags, values, names, a source's grammar: exit status 2 */
    SAE_E_FORMAT,  /* a file is not what it claims to be, or is not a dictionary */
    SAE_E_WEIGHTS, /* a dictionary's tensor has a wrong shape, dtype or value */
    /* requests: one for each code of the contract */
    SAE_E_MALFORMED_JSON,
    SAE_E_BAD_SHAPE,
    SAE_E_BAD_NUMBER,
    SAE_E_BAD_OPTION,
    SAE_E_MALFORMED_BODY,
    SAE_E_BAD_REQUEST,
    SAE_E_UNAUTHORIZED,
    SAE_E_FORBIDDEN,
    SAE_E_UNKNOWN_DICTIONARY,
    SAE_E_NOT_FOUND,
    SAE_E_METHOD_NOT_ALLOWED,
    SAE_E_NOT_LOADED,
    SAE_E_NOT_ACCEPTABLE,
    SAE_E_UPLOAD_TIMEOUT,
    SAE_E_HEAD_TOO_LARGE,
    SAE_E_BODY_TOO_LARGE,
    SAE_E_TOO_MANY_ROWS,
    SAE_E_RESPONSE_TOO_LARGE,
    SAE_E_UNSUPPORTED_MEDIA_TYPE,
    SAE_E_INTERNAL,
    SAE_E_OVERLOADED,
    SAE_E_LOADING,
    SAE_E_UNAVAILABLE,
    SAE_E_DRAINING,
    SAE_E_DEADLINE_EXCEEDED,
    SAE_E_CANCELLED, /* the client has gone: nobody reads this one */
    SAE_N_STATUS
};

/* One failure, fixed size, never allocates. Zero it (`struct sae_err err = {0}`) before use.
 * First error wins: sae_err_set on one that is set changes nothing. Owned by one thread. */
struct sae_err {
    enum sae_status status;
    char where[96];     /* file:offset, tensor name, or JSON pointer; "" if none */
    char text[400];     /* "cannot <verb> <thing>: <fact with value>" */
    const char *option; /* static: the command-line option that would allow it, or NULL */
    bool has_limit;     /* the option is a limit: */
    uint64_t limit;     /* ... it ... */
    uint64_t got;       /* ... and what was met */
    bool is_width;      /* rows are of another width than is taken: ... */
    uint64_t width;     /* ... this one, for who knows what would take them */
    uint64_t retry_s;   /* it may be tried again after so many seconds; 0: soon */
};

/* What strangers wrote (keys, configs, names of files), before it stands in a line of ours: what is
 * no UTF-8, controls, and characters that break a line or turn its direction become '?'. In place;
 * it gets no longer. */
void sae_text_tame(char *s);

/* Is `ending` the end of `name`, and something before it? The second without regard to case. */
bool sae_ends_in(const char *name, const char *ending);
bool sae_ends_in_any_case(const char *name, const char *ending);

/* FNV-1a of n bytes more. The first hash is the start, or whatever else they go on from. */
#define SAE_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t sae_hash(uint64_t hash, const void *p, size_t n);

/* Record a failure (err may be NULL) and return `st`, so that `return sae_err_set(...)` reads
 * well. Text is cut at its field's size, and tamed. */
enum sae_status sae_err_set(struct sae_err *err, enum sae_status st, const char *where,
                            const char *fmt, ...) SAE_PRINTF(4, 5);

/* The same for what an option (static) would allow. */
enum sae_status sae_err_option(struct sae_err *err, enum sae_status st, const char *option,
                               const char *fmt, ...) SAE_PRINTF(4, 5);

/* The same for a limit: also fills option, limit and got. */
enum sae_status sae_err_limit(struct sae_err *err, enum sae_status st, const char *option,
                              uint64_t limit, uint64_t got, const char *fmt, ...) SAE_PRINTF(6, 7);

/* Memory. All are freed with sae_free (NULL allowed); all return NULL when n * size overflows,
 * memory is out, or the fault hook says so. Zero bytes give a valid pointer. */
void *sae_alloc(size_t n, size_t size) SAE_MUST_USE;            /* 64-byte aligned, uninitialised */
void *sae_calloc(size_t n, size_t size) SAE_MUST_USE;           /* malloc alignment, zeroed */
void *sae_realloc(void *p, size_t n, size_t size) SAE_MUST_USE; /* of sae_calloc/sae_realloc */

/* Many arrays in one allocation: cut them once from a zeroed slab, which measures (each is NULL),
 * make it, and cut them again, in the same order. They are 64-byte aligned and uninitialised;
 * sae_free (base) frees all. */
struct sae_slab {
    char *base;
    size_t used; /* bytes cut so far */
    bool too_large;
};
void *sae_slab_cut(struct sae_slab *s, size_t n, size_t size);
bool sae_slab_make(struct sae_slab *s) SAE_MUST_USE; /* false: out of memory */
char *sae_strdup(const char *s) SAE_MUST_USE;
void sae_free(void *p);
/* What these bytes of an allocation hold is wanted no more: their pages go back to the system until
 * they are written to again. */
void sae_forget(void *p, size_t bytes);

/* Anonymous memory for weights: zeroed, MADV_HUGEPAGE, with at least SAE_OVERREAD readable bytes
 * past the end, which kernels may load but whose values never reach a result. */
#define SAE_OVERREAD 64
void *sae_huge_alloc(size_t n, size_t size) SAE_MUST_USE;
void sae_huge_free(void *p, size_t n, size_t size);

/* Threads that a caller lends, for work that can be cut: `run` calls range(arg, from, to) for
 * pieces of at most `step` that together are 0 .. n - 1, in any order, on any threads, and returns
 * when all of them have. What is made must not depend on the cut. */
typedef void sae_range_fn(void *arg, size_t from, size_t to);
struct sae_team {
    void (*run)(struct sae_team *team, size_t n, size_t step, sae_range_fn *range, void *arg);
};
/* team NULL: this thread alone, in one piece. */
void sae_team_run(struct sae_team *team, size_t n, size_t step, sae_range_fn *range, void *arg);

/* Tests: let `n` allocations through, then fail one (persistent: all that follow).
 * n < 0 switches the hook off. sae_alloc_count counts calls since the last set. */
void sae_alloc_fault(long n, bool persistent);
unsigned long sae_alloc_count(void);

/* Debug builds (SAED_COUNT_ALLOCS): after sae_hot_thread whatever the calling thread allocates, by
 * whatever function of malloc's family or by sae_huge_alloc, counts as an allocation on the hot
 * path. Compute threads call it once they are warm. */
#ifdef SAED_COUNT_ALLOCS
void sae_hot_thread(void);
unsigned long sae_hot_allocs(void);
#else
static inline void sae_hot_thread(void)
{
}
#endif

/* A growing byte buffer that cannot be made without its cap. Owned by one thread. */
struct sae_buf {
    char *data; /* owned; NUL is kept behind len */
    size_t len;
    size_t cap;
    size_t max; /* len never exceeds this */
};

void sae_buf_init(struct sae_buf *b, size_t max);
void sae_buf_fini(struct sae_buf *b);
/* Room for `more` bytes past len (and a NUL): SAE_E_NOMEM when max or memory forbids. */
enum sae_status sae_buf_reserve(struct sae_buf *b, size_t more) SAE_MUST_USE;
enum sae_status sae_buf_add(struct sae_buf *b, const void *p, size_t n) SAE_MUST_USE;
enum sae_status sae_buf_addf(struct sae_buf *b, const char *fmt, ...) SAE_PRINTF(2, 3) SAE_MUST_USE;

#endif
