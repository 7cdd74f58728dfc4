/* folder.c - see folder.h. */
#include "lib/load/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct sae_folder {
    char *path;
    char **names; /* sorted */
    size_t n, cap;
    const char **weights; /* of names */
    size_t n_weights;
};

bool sae_folder_is(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

size_t sae_folder_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? (size_t)(slash - path) + 1 : 0;
}

size_t sae_folder_bytes_above(const char *path)
{
    static const char checkpoints[] = "checkpoints/";
    size_t n = sae_folder_bytes(path), m = strlen(checkpoints);
    bool is_in_one =
        n >= m && strncmp(path + n - m, checkpoints, m) == 0 && (n == m || path[n - m - 1] == '/');

    return is_in_one ? n - m : n;
}

bool sae_folder_is_weights(const char *name)
{
    static const char *const endings[] = {".pt",          ".pth", ".ckpt", ".bin",
                                          ".safetensors", ".npz", ".npy"};

    for (size_t i = 0; i < SAE_COUNTOF(endings); i++)
        if (sae_ends_in_any_case(name, endings[i]))
            return true;
    return false;
}

/* ---- listing ------------------------------------------------------------------------------ */

static enum sae_status no_memory(const char *path, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "folder", "cannot allocate list of folder %s", path);
}

static enum sae_status add_name(struct sae_folder *f, const char *name, struct sae_err *err)
{
    if (f->n == SAE_FOLDER_MAX_NAMES)
        return sae_err_set(err, SAE_E_FORMAT, "folder",
                           "cannot list folder %.200s: it has more than %u names", f->path,
                           SAE_FOLDER_MAX_NAMES);
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 32;
        char **more = sae_realloc(f->names, cap, sizeof(char *));

        if (!more)
            return no_memory(f->path, err);
        f->names = more;
        f->cap = cap;
    }
    f->names[f->n] = sae_strdup(name);
    if (!f->names[f->n])
        return no_memory(f->path, err);
    f->n++;
    return SAE_OK;
}

static enum sae_status read_names(struct sae_folder *f, DIR *dir, struct sae_err *err)
{
    enum sae_status st = SAE_OK;
    const struct dirent *e;

    for (errno = 0; st == SAE_OK && (e = readdir(dir)) != NULL; errno = 0)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = add_name(f, e->d_name, err);
    if (st == SAE_OK && errno)
        st = sae_err_set(err, SAE_E_IO, "folder", "cannot list folder %.200s: %s", f->path,
                         strerror(errno));
    return st;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

static enum sae_status find_weights(struct sae_folder *f, DIR *dir, struct sae_err *err)
{
    f->weights = sae_calloc(f->n, sizeof(const char *));
    if (!f->weights)
        return no_memory(f->path, err);
    for (size_t i = 0; i < f->n; i++) {
        struct stat s;

        if (sae_folder_is_weights(f->names[i]) &&
            !(fstatat(dirfd(dir), f->names[i], &s, 0) == 0 && S_ISDIR(s.st_mode)))
            f->weights[f->n_weights++] = f->names[i];
    }
    return SAE_OK;
}

enum sae_status sae_folder_open(struct sae_folder **out, const char *path, struct sae_err *err)
{
    struct sae_folder *f = sae_calloc(1, sizeof *f);
    size_t n = strlen(path);
    bool slash = n == 0 || path[n - 1] == '/';
    enum sae_status st = SAE_OK;
    DIR *dir = NULL;

    if (f)
        f->path = sae_alloc(n + 2, 1);
    if (!f || !f->path) {
        st = no_memory(path, err);
        goto out;
    }
    memcpy(f->path, path, n);
    memcpy(f->path + n, slash ? "" : "/", slash ? 1 : 2);
    dir = opendir(n ? path : ".");
    if (!dir) {
        st = sae_err_set(err, SAE_E_IO, "folder", "cannot list folder %.200s: %s", path,
                         strerror(errno));
        goto out;
    }
    st = read_names(f, dir, err);
    if (st == SAE_OK && f->n > 0)
        qsort(f->names, f->n, sizeof(char *), compare_names);
    if (st == SAE_OK)
        st = find_weights(f, dir, err);
    if (st != SAE_OK)
        goto out;
    *out = f;
    f = NULL;
out:
    if (dir)
        closedir(dir);
    sae_folder_close(f);
    return st;
}

void sae_folder_close(struct sae_folder *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n; i++)
        sae_free(f->names[i]);
    sae_free(f->names);
    sae_free(f->weights);
    sae_free(f->path);
    sae_free(f);
}

/* ---- asking ------------------------------------------------------------------------------- */

const char *sae_folder_path(const struct sae_folder *f)
{
    return f->path;
}

bool sae_folder_has(const struct sae_folder *f, const char *name)
{
    return f->n > 0 && bsearch(&name, f->names, f->n, sizeof(char *), compare_names) != NULL;
}

size_t sae_folder_n_names(const struct sae_folder *f)
{
    return f->n;
}

const char *sae_folder_name(const struct sae_folder *f, size_t i)
{
    return i < f->n ? f->names[i] : NULL;
}

size_t sae_folder_n_weights(const struct sae_folder *f)
{
    return f->n_weights;
}

const char *sae_folder_weights(const struct sae_folder *f, size_t i)
{
    return i < f->n_weights ? f->weights[i] : NULL;
}
