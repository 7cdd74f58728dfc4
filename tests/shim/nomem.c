/* nomem.c - a library to be preloaded (LD_PRELOAD) whose allocations fail when a test says so:
 * those of saed and of all its libraries, of any thread. See nomem.h.
 *
 * It stands before whatever malloc the process has, AddressSanitizer's as well. What is allocated
 * while that one is looked for comes from a small array and is never freed. mmap fails as well, but
 * not for what glibc maps by itself (stacks, its own heaps). */
#include "tests/shim/nomem.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct nomem *page;

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void (*free)(void *);
} next;

static atomic_bool is_looking, is_found;

static _Alignas(64) char early[1 << 16];
static atomic_size_t early_used;

static void *early_alloc(size_t bytes)
{
    size_t at = atomic_fetch_add(&early_used, (bytes + 63) & ~(size_t)63);

    return at + bytes <= sizeof early ? early + at : NULL;
}

static bool is_early(const void *p)
{
    return (uintptr_t)p - (uintptr_t)early < sizeof early;
}

/* False: another malloc is not to be had yet. The first call comes before there are threads. */
static bool look(void)
{
    if (atomic_load(&is_found))
        return true;
    if (atomic_exchange(&is_looking, true))
        return false;
    *(void **)&next.malloc = dlsym(RTLD_NEXT, "malloc");
    *(void **)&next.calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&next.realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&next.memalign = dlsym(RTLD_NEXT, "memalign");
    *(void **)&next.free = dlsym(RTLD_NEXT, "free");
    atomic_store(&is_found, true);
    return true;
}

static __attribute__((constructor)) void map_page(void)
{
    const char *fd = getenv("SAED_NOMEM_FD");
    void *p;

    look();
    if (!fd)
        return;
    p = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
    if (p != MAP_FAILED)
        page = p;
}

/* Has this allocation's turn to fail come? */
static bool fails(void)
{
    if (!page || atomic_load(&page->left) < 0)
        return false;
    if (atomic_fetch_sub(&page->left, 1) != 0)
        return false;
    if (atomic_load(&page->persistent))
        atomic_store(&page->left, 0);
    atomic_fetch_add(&page->n_failed, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes)
{
    if (fails())
        return NULL;
    return look() ? next.malloc(bytes) : early_alloc(bytes);
}

void *calloc(size_t n, size_t size)
{
    if (fails())
        return NULL;
    return look() ? next.calloc(n, size) : early_alloc(n * size);
}

void *realloc(void *p, size_t bytes)
{
    void *moved;

    if (fails())
        return NULL;
    if (!look())
        return p ? NULL : early_alloc(bytes);
    if (!is_early(p))
        return next.realloc(p, bytes);
    moved = next.malloc(bytes);
    if (moved) /* more than the old one had, but no more than the array has */
        memcpy(moved, p,
               bytes < (size_t)(early + sizeof early - (char *)p)
                   ? bytes
                   : (size_t)(early + sizeof early - (char *)p));
    return moved;
}

void *memalign(size_t alignment, size_t bytes)
{
    if (fails())
        return NULL;
    return look() ? next.memalign(alignment, bytes) : NULL;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *p = memalign(alignment, bytes);

    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    if (!is_early(p) && look())
        next.free(p);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return mmap(at, bytes, protection, flags, fd, offset);
}
