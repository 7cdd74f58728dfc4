/* name.c - NAMEs of dictionaries: which texts are one, and the NAME of a source that came without.
 *
 * Pure functions of their arguments, but that a source's path is looked at (is it a folder?).
 * Called by opts.c and, for what is offered, by server/offers. */
#include "server/opts/table.h"

#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("._-", c));
}

bool saed_is_name(const char *s, size_t n)
{
    if (n < 1 || n > SAED_NAME_MAX || !isalnum((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_name_byte(s[i]))
            return false;
    return true;
}

/* A name as it grows: n is its length, also where that is more than `out` takes. */
struct name {
    char *out;
    size_t n, cap;
};

static void put(struct name *name, char c)
{
    if (name->n == 0 && !isalnum((unsigned char)c))
        put(name, 'd');
    if (name->n < name->cap)
        name->out[name->n] = is_name_byte(c) ? c : '_';
    name->n++;
}

/* The length of a file's name without its last ending. Dots that it begins with begin none. */
static size_t without_ending(const char *file, size_t n)
{
    const char *dot = memrchr(file, '.', n);

    return dot && dot > file + strspn(file, ".") ? (size_t)(dot - file) : n;
}

static size_t name_of(const char *path, size_t n, bool is_file, char *out, size_t cap)
{
    struct name name = {.out = out, .cap = cap};

    for (size_t at = 0, len; at < n; at += len + 1) {
        const char *part = path + at;
        const char *slash = memchr(part, '/', n - at);

        len = slash ? (size_t)(slash - part) : n - at;
        if (len == 0 || (len == 1 && part[0] == '.'))
            continue;
        if (name.n > 0)
            put(&name, '.');
        for (size_t i = 0; i < (slash || !is_file ? len : without_ending(part, len)); i++)
            put(&name, part[i]);
    }
    return name.n;
}

size_t saed_name_of_path(const char *path, bool is_file, char *out, size_t cap)
{
    return name_of(path, strlen(path), is_file, out, cap);
}

size_t saed_name_of(const char *source, char *out, size_t cap)
{
    size_t n_path = sae_source_path(source), n = n_path ? n_path : strlen(source);
    struct stat st;
    bool is_file = n_path && !(stat(source, &st) == 0 && S_ISDIR(st.st_mode));

    return name_of(source, n, is_file, out, cap);
}
