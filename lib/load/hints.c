/* hints.c - see hints.h. */
#include "lib/load/hints.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a training folder: the file's own config, or its model's. */
static const char *const files[] = {"config.json", "cfg.json"};
static const char *const objects[] = {"", "trainer"};
static const char *const keys[] = {"k", "top_k"};

/* An open config, -1 when there is none. */
static enum sae_status open_config(const char *path, const char *name, int *fd, struct sae_err *err)
{
    const char *slash = strrchr(path, '/');
    int n_folder = slash ? (int)(slash - path) + 1 : 0;
    char full[PATH_MAX];
    struct stat s;

    *fd = -1;
    if (snprintf(full, sizeof full, "%.*s%s", n_folder, path, name) >= (int)sizeof full)
        return SAE_OK; /* nor can such a file be opened */
    *fd = open(full, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (*fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return SAE_OK;
    if (*fd < 0 || fstat(*fd, &s) != 0)
        return sae_err_set(err, SAE_E_IO, name, "cannot open %s beside it: %s", name,
                           strerror(errno));
    if (!S_ISREG(s.st_mode))
        return sae_err_set(err, SAE_E_IO, name, "cannot read %s beside it: it is no regular file",
                           name);
    if ((uint64_t)s.st_size > SAE_HINTS_MAX_BYTES)
        return sae_err_set(err, SAE_E_FORMAT, name,
                           "%s beside it was not read: %lld bytes, at most %llu are read", name,
                           (long long)s.st_size, (unsigned long long)SAE_HINTS_MAX_BYTES);
    return SAE_OK;
}

static void look_for_k(const json_t *root, const char *file, struct sae_hints *out)
{
    for (size_t o = 0; o < SAE_COUNTOF(objects); o++)
        for (size_t k = 0; k < SAE_COUNTOF(keys); k++) {
            const json_t *in = objects[o][0] ? json_object_get(root, objects[o]) : root;
            const json_t *v = json_object_get(in, keys[k]);

            if (!json_is_integer(v) || out->k_file)
                continue;
            out->k_file = file;
            out->k_key = keys[k];
            out->k_under = objects[o];
            out->k = json_integer_value(v);
        }
}

static enum sae_status read_config(const char *path, const char *name, struct sae_hints *out,
                                   struct sae_err *err)
{
    json_error_t why;
    json_t *root = NULL;
    int fd;
    enum sae_status st = open_config(path, name, &fd, err);

    if (st != SAE_OK || fd < 0)
        goto out;
    root = json_loadfd(fd, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (root)
        look_for_k(root, name, out);
    else
        st = sae_err_set(err, SAE_E_FORMAT, name, "%s beside it was not read: line %d: %.60s", name,
                         why.line, why.text);
out:
    json_decref(root);
    if (fd >= 0)
        close(fd);
    return st;
}

enum sae_status sae_hints_read(struct sae_hints *out, const char *path, struct sae_err *err)
{
    struct sae_hints h = {.k_file = NULL};

    for (size_t i = 0; i < SAE_COUNTOF(files); i++) {
        struct sae_err low = {0};
        enum sae_status st = read_config(path, files[i], &h, &low);

        if (st == SAE_E_FORMAT)
            snprintf(h.unread, sizeof h.unread, "%.159s", low.text);
        else if (st != SAE_OK)
            return sae_err_set(err, st, low.where, "%s", low.text);
    }
    *out = h;
    return SAE_OK;
}
