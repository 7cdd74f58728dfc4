/* config.c - see config.h. */
#include "lib/load/config.h"

#include "lib/format/fd.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A row for each form, told by the file's ending; the last takes all others. */
static const struct {
    const char *ending;
    uint64_t max_bytes;
    enum sae_status (*read)(struct sae_facts **out, const char *name, const char *text, size_t n,
                            struct sae_err *err);
} forms[] = {
    {".yaml", (uint64_t)1 << 20, sae_config_yaml},
    {"", (uint64_t)16 << 20, sae_config_json},
};

static size_t form_of(const char *name)
{
    size_t i = 0;

    while (forms[i].ending[0] && !sae_ends_in(name, forms[i].ending))
        i++;
    return i;
}

static enum sae_status read_text(struct sae_facts **out, int fd, uint64_t bytes, const char *name,
                                 struct sae_err *err)
{
    size_t form = form_of(name);
    struct sae_err low = {0};
    enum sae_status st;
    char *text;

    if (bytes > forms[form].max_bytes)
        return sae_err_set(err, SAE_E_FORMAT, name,
                           "cannot read %s: %llu bytes, at most %llu are read", name,
                           (unsigned long long)bytes, (unsigned long long)forms[form].max_bytes);
    text = sae_calloc((size_t)bytes + 1, 1); /* a NUL behind it */
    if (!text)
        return sae_err_set(err, SAE_E_NOMEM, name, "cannot read %s: no memory for %llu bytes", name,
                           (unsigned long long)bytes);
    st = sae_fd_read(fd, bytes, 0, text, (size_t)bytes, &low);
    if (st == SAE_OK)
        st = forms[form].read(out, name, text, (size_t)bytes, err);
    else
        sae_err_set(err, st, name, "cannot read %s: %s", name, low.text);
    sae_free(text);
    return st;
}

enum sae_status sae_config_read(struct sae_facts **out, const char *folder, const char *name,
                                struct sae_err *err)
{
    struct sae_facts *facts = NULL;
    char path[PATH_MAX];
    struct sae_err low = {0};
    uint64_t bytes;
    enum sae_status st;
    int fd;

    *out = NULL;
    if (snprintf(path, sizeof path, "%s%s", folder, name) >= (int)sizeof path)
        return SAE_OK; /* nor can such a file be opened */
    st = sae_fd_open(path, name, &fd, &bytes, &low);
    if (st != SAE_OK && (errno == ENOENT || errno == ENOTDIR))
        return SAE_OK;
    if (st != SAE_OK)
        return sae_err_set(err, st, low.where, "%s", low.text);
    st = read_text(&facts, fd, bytes, name, err);
    close(fd);
    if (st == SAE_OK)
        *out = facts;
    return st;
}
