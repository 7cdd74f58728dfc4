/* keys.c - see keys.h. */
#include "server/api/keys.h"

#include "lib/scan.h"
#include "lib/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 20)
#define KEYS_MAX 1024
#define KEY_MAX 512

struct key {
    unsigned char digest[SAE_SHA256_BYTES];
    char name[SAED_KEY_NAME_MAX + 1];
};

struct table {
    struct key *keys; /* [n], owned */
    size_t n;
};

struct saed_keys {
    const struct saed_list *files;
    pthread_rwlock_t lock; /* guards the table */
    struct table table;
};

/* The index of the digest, as long in coming whatever it is; t->n: it is not there. */
static size_t find(const struct table *t, const unsigned char digest[SAE_SHA256_BYTES])
{
    size_t found = t->n;

    for (size_t i = 0; i < t->n; i++) {
        unsigned differ = 0;

        for (size_t b = 0; b < SAE_SHA256_BYTES; b++)
            differ |= (unsigned)(t->keys[i].digest[b] ^ digest[b]);
        if (differ == 0)
            found = i;
    }
    return found;
}

/* ---- a file ---------------------------------------------------------------------------------- */

/* Part of a line, borrowed from the file's bytes. */
struct span {
    const char *p;
    size_t n;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span s)
{
    for (; s.n > 0 && is_blank(s.p[0]); s.n--)
        s.p++;
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool is_key_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!is_letter && !sae_is_digit(c) && (c == '\0' || !strchr("._-@", c)))
            return false;
    }
    return s.n >= 1 && s.n <= SAED_KEY_NAME_MAX;
}

/* What a header can hold, without a blank. */
static bool is_key(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x21 || s.p[i] > 0x7e)
            return false;
    return s.n >= 1 && s.n <= KEY_MAX;
}

static enum sae_status add_key(struct table *t, struct span name, struct span key,
                               const char *where, struct sae_err *err)
{
    unsigned char digest[SAE_SHA256_BYTES];
    struct key *keys;
    size_t known;

    sae_sha256_of(key.p, key.n, digest);
    known = find(t, digest);
    if (known < t->n)
        return sae_err_set(err, SAE_E_USAGE, "",
                           "cannot use keys of %s: the key of \"%.*s\" is that of \"%s\" already",
                           where, (int)name.n, name.p, t->keys[known].name);
    if (t->n == KEYS_MAX)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot use keys of %s: there are more than %d",
                           where, KEYS_MAX);
    keys = sae_realloc(t->keys, t->n + 1, sizeof *keys);
    if (!keys)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot hold keys of %s: memory has run out",
                           where);
    t->keys = keys;
    keys += t->n++;
    memset(keys, 0, sizeof *keys);
    memcpy(keys->digest, digest, sizeof digest);
    memcpy(keys->name, name.p, name.n);
    return SAE_OK;
}

static enum sae_status parse_line(struct table *t, struct span line, const char *where,
                                  struct sae_err *err)
{
    const char *colon;
    struct span name, key;

    line = trim(line);
    if (line.n == 0 || line.p[0] == '#')
        return SAE_OK;
    colon = memchr(line.p, ':', line.n);
    if (colon) {
        name = trim((struct span){line.p, (size_t)(colon - line.p)});
        key = trim((struct span){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
        if (is_key_name(name) && is_key(key))
            return add_key(t, name, key, where, err);
    }
    return sae_err_set(err, SAE_E_USAGE, "",
                       "cannot use keys of %s: want NAME:KEY, a name of 1 to %d letters, digits or "
                       "any of ._-@ and a key of 1 to %d visible ASCII characters",
                       where, SAED_KEY_NAME_MAX, KEY_MAX);
}

static enum sae_status parse_file(struct table *t, const char *path, const char *text, size_t n,
                                  struct sae_err *err)
{
    const size_t before = t->n;
    enum sae_status st = SAE_OK;
    const char *end = text + n;
    char where[240];

    for (unsigned line = 1; st == SAE_OK && text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));

        if (!stop)
            stop = end;
        snprintf(where, sizeof where, "%.200s:%u", path, line);
        st = parse_line(t, (struct span){text, (size_t)(stop - text)}, where, err);
        text = stop + 1;
    }
    if (st == SAE_OK && t->n == before)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot use keys of %.200s: there are none", path);
    return st;
}

static enum sae_status cannot_read(const char *path, const char *why, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_IO, "", "cannot read keys of %.200s: %s", path, why);
}

/* A descriptor. At the start it may be a pipe, and who starts saed waits for it; while the daemon
 * serves nobody does, and a pipe has given its keys. */
static enum sae_status open_file(const char *path, bool is_serving, int *out, struct sae_err *err)
{
    const int wait = is_serving ? O_NONBLOCK : 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | wait);
    struct stat file;

    if (fd < 0)
        return cannot_read(path, strerror(errno), err);
    *out = fd;
    if (!is_serving || (fstat(fd, &file) == 0 && S_ISREG(file.st_mode)))
        return SAE_OK;
    close(fd);
    return cannot_read(path, "it is no regular file, and no other is read anew", err);
}

/* All of it, into a buffer of FILE_MAX + 1. */
static enum sae_status read_bytes(const char *path, bool is_serving, char *buf, size_t *n,
                                  struct sae_err *err)
{
    int fd = -1, e = 0;
    ssize_t got = -1;
    enum sae_status st = open_file(path, is_serving, &fd, err);

    *n = 0;
    if (st != SAE_OK)
        return st;
    while (*n <= FILE_MAX) {
        got = read(fd, buf + *n, FILE_MAX + 1 - *n);
        e = errno;
        if (got < 0 && e == EINTR)
            continue;
        if (got <= 0)
            break;
        *n += (size_t)got;
    }
    close(fd);
    if (got < 0)
        return cannot_read(path, strerror(e), err);
    if (*n > FILE_MAX)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot use keys of %.200s: more than %zu bytes",
                           path, FILE_MAX);
    return SAE_OK;
}

static enum sae_status read_file(struct table *t, const char *path, bool is_serving,
                                 struct sae_err *err)
{
    char *buf = sae_calloc(FILE_MAX + 1, 1);
    enum sae_status st;
    size_t n;

    if (!buf)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot read keys of %.200s: memory has run out",
                           path);
    st = read_bytes(path, is_serving, buf, &n, err);
    if (st == SAE_OK)
        st = parse_file(t, path, buf, n, err);
    explicit_bzero(buf, n);
    sae_free(buf);
    return st;
}

/* ---- the keys -------------------------------------------------------------------------------- */

static enum sae_status read_all(struct saed_keys *k, bool is_serving, struct sae_err *err)
{
    struct table fresh = {NULL, 0}, old;
    enum sae_status st = SAE_OK;

    for (size_t i = 0; st == SAE_OK && i < k->files->n; i++)
        st = read_file(&fresh, k->files->items[i], is_serving, err);
    if (st != SAE_OK) {
        sae_free(fresh.keys);
        return st;
    }
    pthread_rwlock_wrlock(&k->lock);
    old = k->table;
    k->table = fresh;
    pthread_rwlock_unlock(&k->lock);
    sae_free(old.keys);
    return SAE_OK;
}

enum sae_status saed_keys_reload(struct saed_keys *k, struct sae_err *err)
{
    return read_all(k, true, err);
}

enum sae_status saed_keys_create(struct saed_keys **out, const struct saed_list *files,
                                 struct sae_err *err)
{
    struct saed_keys *k = sae_calloc(1, sizeof *k);
    enum sae_status st;

    if (!k)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot allocate keys");
    k->files = files;
    pthread_rwlock_init(&k->lock, NULL);
    st = read_all(k, false, err);
    if (st != SAE_OK) {
        saed_keys_free(k);
        return st;
    }
    *out = k;
    return SAE_OK;
}

size_t saed_keys_count(struct saed_keys *k)
{
    size_t n;

    pthread_rwlock_rdlock(&k->lock);
    n = k->table.n;
    pthread_rwlock_unlock(&k->lock);
    return n;
}

bool saed_keys_find(struct saed_keys *k, const char *key, char name[SAED_KEY_NAME_MAX + 1])
{
    unsigned char digest[SAE_SHA256_BYTES];
    size_t i;
    bool found;

    sae_sha256_of(key, strlen(key), digest);
    pthread_rwlock_rdlock(&k->lock);
    i = find(&k->table, digest);
    found = i < k->table.n;
    if (found)
        memcpy(name, k->table.keys[i].name, SAED_KEY_NAME_MAX + 1);
    pthread_rwlock_unlock(&k->lock);
    return found;
}

void saed_keys_free(struct saed_keys *k)
{
    if (!k)
        return;
    pthread_rwlock_destroy(&k->lock);
    sae_free(k->table.keys);
    sae_free(k);
}
