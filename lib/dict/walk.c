/* walk.c - the dictionaries below a folder: what stands there, by the rules by which a source is
 * told (locate.c), without opening a weights file. See source.h.
 *
 * A folder that a rule knows is one and is not entered; else each weights file in it is one.
 * Recursion is as deep as folders may be. */
#include "lib/dict/file.h"
#include "lib/load/folder.h"

#include <string.h>
#include <sys/stat.h>

struct walk {
    struct sae_walk *w;
    struct sae_buf path; /* where it is: the top, then what ends in '/' */
    size_t top;          /* bytes of path that are not below it */
};

static enum sae_status no_memory(struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot list dictionaries: memory has run out");
}

static enum sae_status found(struct walk *k, bool is_folder, struct sae_err *err)
{
    if (k->w->n_found == SAE_WALK_MAX_FOUND)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot offer what is below %.*s: there are more than %u dictionaries",
                           (int)k->top, k->path.data, SAE_WALK_MAX_FOUND);
    k->w->n_found++;
    return k->w->found(k->w->arg, k->path.data, k->path.data + k->top, is_folder, err);
}

enum thing { A_FILE, A_FOLDER, A_LINKED_FOLDER };

static enum thing look(const char *path)
{
    struct stat s;

    if (lstat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return A_FOLDER;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode) ? A_LINKED_FOLDER : A_FILE;
}

static enum sae_status enter(struct walk *k, unsigned level, struct sae_err *err);

/* path is that of `name`, which stands in a folder of that level. */
static enum sae_status visit(struct walk *k, const char *name, unsigned level, struct sae_err *err)
{
    enum thing thing = look(k->path.data);

    if (thing == A_FILE)
        return sae_folder_is_weights(name) ? found(k, false, err) : SAE_OK;
    if (thing == A_LINKED_FOLDER)
        return SAE_OK;
    if (level == SAE_WALK_MAX_LEVELS)
        return sae_err_set(err, SAE_E_FORMAT, "",
                           "cannot offer what is below %.*s: %.200s is more than %u levels deep",
                           (int)k->top, k->path.data, k->path.data + k->top, SAE_WALK_MAX_LEVELS);
    return sae_buf_add(&k->path, "/", 1) == SAE_OK ? enter(k, level + 1, err) : no_memory(err);
}

static void cut(struct sae_buf *path, size_t n)
{
    path->len = n;
    path->data[n] = '\0';
}

static enum sae_status visit_all(struct walk *k, const struct sae_folder *f, unsigned level,
                                 struct sae_err *err)
{
    size_t n = k->path.len;
    enum sae_status st = SAE_OK;
    const char *name;

    for (size_t i = 0; st == SAE_OK && (name = sae_folder_name(f, i)); i++) {
        if (name[0] == '.')
            continue;
        st = sae_buf_add(&k->path, name, strlen(name));
        st = st == SAE_OK ? visit(k, name, level, err) : no_memory(err);
        cut(&k->path, n);
    }
    return st;
}

/* path is a folder's, with its '/'. */
static enum sae_status enter(struct walk *k, unsigned level, struct sae_err *err)
{
    struct sae_folder *f = NULL;
    struct sae_err low = {0};
    enum sae_status st = sae_folder_open(&f, k->path.data, &low);
    bool is_known = false;

    if (st == SAE_E_IO && level > 1) { /* others can be offered all the same */
        k->w->unlisted(k->w->arg, &low);
        return SAE_OK;
    }
    if (st != SAE_OK)
        return sae_err_set(err, st, low.where, "%s", low.text);
    k->w->n_entries += sae_folder_n_names(f);
    if (k->w->n_entries > SAE_WALK_MAX_ENTRIES)
        st =
            sae_err_set(err, SAE_E_FORMAT, "",
                        "cannot offer what is below %.*s: there are more than %u files and folders",
                        (int)k->top, k->path.data, SAE_WALK_MAX_ENTRIES);
    if (st == SAE_OK)
        st = sae_file_knows(f, &is_known, err);
    if (st == SAE_OK && is_known && k->path.len > k->top)
        cut(&k->path, k->path.len - 1); /* its '/' */
    if (st == SAE_OK)
        st = is_known ? found(k, true, err) : visit_all(k, f, level, err);
    sae_folder_close(f);
    return st;
}

enum sae_status sae_walk(struct sae_walk *w, const char *dir, struct sae_err *err)
{
    struct walk k = {.w = w};
    size_t n = strlen(dir);
    enum sae_status st;

    sae_buf_init(&k.path, SIZE_MAX);
    st = sae_buf_add(&k.path, dir, n);
    if (st == SAE_OK && n > 0 && dir[n - 1] != '/')
        st = sae_buf_add(&k.path, "/", 1);
    k.top = k.path.len;
    st = st == SAE_OK ? enter(&k, 1, err) : no_memory(err);
    sae_buf_fini(&k.path);
    return st;
}
