/* base.c - status and error text, memory with a fault hook, the capped buffer. See base.h. */
#include "lib/base.h"

#include "lib/num.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_long fault_after = -1;
static atomic_bool fault_persistent;
static atomic_ulong n_allocs;

/* C0, DEL and C1; U+2028 to U+202E, U+2066 to U+2069. `n` bytes of UTF-8. */
static bool is_wild(const char *s, unsigned n)
{
    const unsigned char *b = (const unsigned char *)s;

    if (n == 1)
        return b[0] < 0x20 || b[0] == 0x7f;
    if (n == 2)
        return b[0] == 0xc2 && b[1] < 0xa0;
    return n == 3 && b[0] == 0xe2 &&
           ((b[1] == 0x80 && b[2] >= 0xa8 && b[2] <= 0xae) ||
            (b[1] == 0x81 && b[2] >= 0xa6 && b[2] <= 0xa9));
}

void sae_text_tame(char *s)
{
    const char *end = s + strlen(s), *from = s;

    while (from < end) {
        unsigned n = sae_utf8_len(from, end);

        if (n == 0 || is_wild(from, n)) {
            *s++ = '?';
        } else {
            memmove(s, from, n);
            s += n;
        }
        from += n ? n : 1;
    }
    *s = '\0';
}

static void SAE_PRINTF(3, 0) set_text(char *dst, size_t cap, const char *fmt, va_list ap)
{
    vsnprintf(dst, cap, fmt, ap);
    sae_text_tame(dst);
}

enum sae_status sae_err_set(struct sae_err *err, enum sae_status st, const char *where,
                            const char *fmt, ...)
{
    if (err && err->status == SAE_OK) {
        va_list ap;

        err->status = st;
        snprintf(err->where, sizeof err->where, "%s", where ? where : "");
        sae_text_tame(err->where);
        va_start(ap, fmt);
        set_text(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return st;
}

enum sae_status sae_err_option(struct sae_err *err, enum sae_status st, const char *option,
                               const char *fmt, ...)
{
    if (err && err->status == SAE_OK) {
        va_list ap;

        err->status = st;
        err->option = option;
        va_start(ap, fmt);
        set_text(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return st;
}

enum sae_status sae_err_limit(struct sae_err *err, enum sae_status st, const char *option,
                              uint64_t limit, uint64_t got, const char *fmt, ...)
{
    if (err && err->status == SAE_OK) {
        va_list ap;

        err->status = st;
        err->option = option;
        err->has_limit = true;
        err->limit = limit;
        err->got = got;
        va_start(ap, fmt);
        set_text(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return st;
}

/* True when this allocation must fail: the hook's turn has come, or n * size overflows. */
static bool refused(size_t n, size_t size, size_t *bytes)
{
    long left = atomic_load_explicit(&fault_after, memory_order_relaxed);

    atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
    if (left >= 0) {
        left = atomic_fetch_sub(&fault_after, 1);
        if (left == 0) {
            if (atomic_load(&fault_persistent))
                atomic_store(&fault_after, 0);
            return true;
        }
    }
    return __builtin_mul_overflow(n, size, bytes) || *bytes > PTRDIFF_MAX - 4096;
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Memory of this size is backed with huge pages where the kernel has them: on a virtual machine a
 * fresh page of 4 KB was measured at 12 us and one of 2 MB at 150, so that the 12 MB of a body took
 * longer to be touched than to be sent. */
#define LARGE_BYTES ((size_t)4 << 20)

/* Best effort, for the whole huge pages of p[bytes]: plain pages are right too. */
static void *prefer_huge(void *p, size_t bytes)
{
    uintptr_t begin = ((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)p + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);

    if (p && bytes >= LARGE_BYTES && begin < end)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    return p;
}

void *sae_alloc(size_t n, size_t size)
{
    size_t bytes, rounded;
    void *p;

    if (refused(n, size, &bytes))
        return NULL;
    if (bytes < LARGE_BYTES) {
        bytes = (bytes + 63) & ~(size_t)63;
        return aligned_alloc(64, bytes ? bytes : 64);
    }
    /* The last huge page too, unless most of it would be waste. */
    rounded = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    if (rounded - bytes > bytes / 8)
        rounded = bytes;
    return posix_memalign(&p, HUGE_PAGE, rounded) == 0 ? prefer_huge(p, rounded) : NULL;
}

void *sae_slab_cut(struct sae_slab *s, size_t n, size_t size)
{
    size_t at = s->used, bytes;

    s->too_large |= __builtin_mul_overflow(n, size, &bytes) ||
                    __builtin_add_overflow(bytes, (size_t)63, &bytes) ||
                    __builtin_add_overflow(s->used, bytes & ~(size_t)63, &s->used);
    return s->base ? s->base + at : NULL;
}

bool sae_slab_make(struct sae_slab *s)
{
    s->base = s->too_large ? NULL : sae_alloc(1, s->used);
    s->used = 0;
    return s->base != NULL;
}

void *sae_calloc(size_t n, size_t size)
{
    size_t bytes;

    if (refused(n, size, &bytes))
        return NULL;
    return prefer_huge(calloc(1, bytes ? bytes : 1), bytes);
}

void *sae_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (refused(n, size, &bytes))
        return NULL;
    return prefer_huge(realloc(p, bytes ? bytes : 1), bytes);
}

char *sae_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = sae_calloc(n, 1);

    if (p)
        memcpy(p, s, n);
    return p;
}

void sae_free(void *p)
{
    free(p);
}

void sae_forget(void *p, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)p + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)p + bytes) & ~(page - 1);

    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED); /* else they stay, which is no fault */
}

/* ---- debug builds: allocations of hot threads -------------------------------------------------
 * malloc's family stands in front of glibc's, so that a library's allocations are seen as well. */
#ifdef SAED_COUNT_ALLOCS
static _Thread_local bool is_hot;
static atomic_ulong n_hot_allocs;

void sae_hot_thread(void)
{
    is_hot = true;
}

unsigned long sae_hot_allocs(void)
{
    return atomic_load_explicit(&n_hot_allocs, memory_order_relaxed);
}

static void count_hot(void)
{
    if (is_hot)
        atomic_fetch_add_explicit(&n_hot_allocs, 1, memory_order_relaxed);
}

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    count_hot();
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t size)
{
    count_hot();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t bytes)
{
    count_hot();
    return __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count_hot();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    count_hot();
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}
#else
static void count_hot(void)
{
}
#endif

/* ---- memory of weights ------------------------------------------------------------------------
 */

/* Bytes mapped for n * size of payload: rounded to huge pages once it is worth one, so that the
 * kernel can back the whole of it with them. */
static size_t huge_bytes(size_t bytes)
{
    size_t page = bytes >= ((size_t)4 << 20) ? (size_t)2 << 20 : 4096;

    return (bytes + SAE_OVERREAD + page - 1) & ~(page - 1);
}

void *sae_huge_alloc(size_t n, size_t size)
{
    const size_t huge = HUGE_PAGE;
    size_t bytes, total, slack;
    char *p, *start;

    count_hot();
    if (refused(n, size, &bytes))
        return NULL;
    total = huge_bytes(bytes);
    slack = total >= huge ? huge : 0;
    p = mmap(NULL, total + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (!slack)
        return p;
    /* Align to a huge page and give the rest back. */
    start = (char *)(((uintptr_t)p + huge - 1) & ~(uintptr_t)(huge - 1));
    if (start > p)
        munmap(p, (size_t)(start - p));
    if (p + slack > start)
        munmap(start + total, (size_t)(p + slack - start));
    madvise(start, total, MADV_HUGEPAGE); /* best effort: plain pages are right too */
    return start;
}

void sae_huge_free(void *p, size_t n, size_t size)
{
    if (p)
        munmap(p, huge_bytes(n * size));
}

void sae_team_run(struct sae_team *team, size_t n, size_t step, sae_range_fn *range, void *arg)
{
    if (team)
        team->run(team, n, step, range, arg);
    else
        range(arg, 0, n);
}

void sae_alloc_fault(long n, bool persistent)
{
    atomic_store(&fault_persistent, persistent);
    atomic_store(&n_allocs, 0);
    atomic_store(&fault_after, n);
}

unsigned long sae_alloc_count(void)
{
    return atomic_load(&n_allocs);
}

void sae_buf_init(struct sae_buf *b, size_t max)
{
    /* one byte more is kept for the NUL */
    *b = (struct sae_buf){.max = max < SIZE_MAX ? max : SIZE_MAX - 1};
}

void sae_buf_fini(struct sae_buf *b)
{
    sae_free(b->data);
    *b = (struct sae_buf){.max = b->max};
}

enum sae_status sae_buf_reserve(struct sae_buf *b, size_t more)
{
    size_t cap;
    char *p;

    if (more > b->max - b->len)
        return SAE_E_NOMEM;
    if (b->cap > b->len && more < b->cap - b->len)
        return SAE_OK;
    cap = b->cap + b->cap / 2;
    if (cap < b->len + more + 1)
        cap = b->len + more + 1;
    if (cap > b->max + 1)
        cap = b->max + 1;
    if (cap < 64)
        cap = 64;
    p = sae_realloc(b->data, cap, 1);
    if (!p)
        return SAE_E_NOMEM;
    b->data = p;
    b->cap = cap;
    p[b->len] = '\0';
    return SAE_OK;
}

enum sae_status sae_buf_add(struct sae_buf *b, const void *p, size_t n)
{
    enum sae_status st = sae_buf_reserve(b, n);

    if (st != SAE_OK)
        return st;
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
    return SAE_OK;
}

enum sae_status sae_buf_addf(struct sae_buf *b, const char *fmt, ...)
{
    enum sae_status st;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return SAE_E_INTERNAL;
    st = sae_buf_reserve(b, (size_t)n);
    if (st != SAE_OK)
        return st;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return SAE_OK;
}

/* What of `name` is as long as `ending`; "" where nothing stands before that. */
static const char *end_of(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);

    return n > m ? name + n - m : "";
}

bool sae_ends_in(const char *name, const char *ending)
{
    return strcmp(end_of(name, ending), ending) == 0;
}

bool sae_ends_in_any_case(const char *name, const char *ending)
{
    return strcasecmp(end_of(name, ending), ending) == 0;
}

uint64_t sae_hash(uint64_t hash, const void *p, size_t n)
{
    const unsigned char *bytes = p;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}
