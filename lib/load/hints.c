/* hints.c - see hints.h. */
#include "lib/load/hints.h"

#include "lib/load/config.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Of a training folder: the file's own config, or its model's. */
static const char *const files[] = {"config.json", "cfg.json"};
static const char *const objects[] = {"", "trainer"};
static const char *const keys[] = {"k", "top_k"};

static void look_for_k(const struct sae_facts *facts, const char *file, struct sae_hints *out)
{
    for (size_t o = 0; o < SAE_COUNTOF(objects); o++)
        for (size_t k = 0; k < SAE_COUNTOF(keys); k++) {
            char path[32];
            const struct sae_fact *v;

            snprintf(path, sizeof path, "%s%s%s", objects[o], objects[o][0] ? "." : "", keys[k]);
            v = sae_facts_find(facts, path);
            if (!v || v->kind != SAE_FACT_INT || out->k_file)
                continue;
            out->k_file = file;
            out->k_key = keys[k];
            out->k_under = objects[o];
            out->k = v->u.i;
        }
}

/* Why a config tells nothing, without the words that its own message begins with. */
static void note_unread(struct sae_hints *h, const char *file, const char *text)
{
    const char *colon = strstr(text, ": ");

    snprintf(h->unread, sizeof h->unread, "%s beside it was not read: %.120s", file,
             colon ? colon + 2 : text);
}

enum sae_status sae_hints_read(struct sae_hints *out, const char *path, struct sae_err *err)
{
    const char *slash = strrchr(path, '/');
    struct sae_hints h = {.k_file = NULL};
    size_t n = slash ? (size_t)(slash - path) + 1 : 0, n_found = 0;
    char folder[PATH_MAX];

    if (n >= sizeof folder) { /* nor can a file in it be opened */
        *out = h;
        return SAE_OK;
    }
    memcpy(folder, path, n);
    folder[n] = '\0';
    for (size_t i = 0; i < SAE_COUNTOF(files); i++) {
        struct sae_facts *facts = NULL;
        struct sae_err low = {0};
        enum sae_status st = sae_config_read(&facts, folder, files[i], &low);

        if (st == SAE_E_FORMAT)
            note_unread(&h, files[i], low.text);
        else if (st != SAE_OK)
            return sae_err_set(err, st, low.where, "%s", low.text);
        if (facts)
            h.found[n_found++] = files[i];
        look_for_k(facts, files[i], &h);
        sae_facts_free(facts);
    }
    *out = h;
    return SAE_OK;
}
