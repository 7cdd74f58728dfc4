/* hints.c - see hints.h. */
#include "lib/load/hints.h"

#include "lib/load/config.h"
#include "lib/load/folder.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Of a training folder: the file's own config, or its model's. */
static const char *const files[] = {"config.json", "cfg.json"};
static const char *const objects[] = {"", "trainer"};
static const char *const keys[] = {"k", "top_k"};

const char *sae_hints_place(bool is_above)
{
    return is_above ? "above it" : "beside it";
}

/* The first is kept. */
static void SAE_PRINTF(2, 3) doubt(struct sae_hints *h, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (!h->doubt[0])
        vsnprintf(h->doubt, sizeof h->doubt, fmt, ap);
    va_end(ap);
}

static void look_for_k(const struct sae_facts *facts, const char *file, bool is_above,
                       struct sae_hints *out)
{
    for (size_t o = 0; o < SAE_COUNTOF(objects); o++)
        for (size_t k = 0; k < SAE_COUNTOF(keys); k++) {
            char path[32];
            const struct sae_fact *v;

            snprintf(path, sizeof path, "%s%s%s", objects[o], objects[o][0] ? "." : "", keys[k]);
            v = sae_facts_find(facts, path);
            if (v && v->kind != SAE_FACT_INT && v->kind != SAE_FACT_NULL)
                doubt(out, "\"%s\" of %s %s is %.60s, an integer is wanted", path, file,
                      sae_hints_place(is_above), sae_fact_describe(v));
            if (!v || v->kind != SAE_FACT_INT || out->k_file)
                continue;
            out->k_file = file;
            out->k_is_above = is_above;
            out->k_key = keys[k];
            out->k_under = objects[o];
            out->k = v->u.i;
        }
}

/* Why a config tells nothing, without the words that its own message begins with. */
static void note_unread(struct sae_hints *h, const char *file, bool is_above, const char *text)
{
    const char *colon = strstr(text, ": ");

    doubt(h, "%s %s was not read: %.120s", file, sae_hints_place(is_above),
          colon ? colon + 2 : text);
}

static enum sae_status look_in(struct sae_hints *h, const char *folder, bool is_above,
                               struct sae_err *err)
{
    size_t n_found = 0;

    while (h->found[n_found].file)
        n_found++;
    for (size_t i = 0; i < SAE_COUNTOF(files); i++) {
        struct sae_facts *facts = NULL;
        struct sae_err low = {0};
        enum sae_status st = sae_config_read(&facts, folder, files[i], &low);

        if (st == SAE_E_FORMAT)
            note_unread(h, files[i], is_above, low.text);
        else if (st != SAE_OK)
            return sae_err_set(err, st, low.where, "%s", low.text);
        if (facts) {
            h->found[n_found].file = files[i];
            h->found[n_found++].is_above = is_above;
        }
        look_for_k(facts, files[i], is_above, h);
        sae_facts_free(facts);
    }
    return SAE_OK;
}

enum sae_status sae_hints_read(struct sae_hints *out, const char *path, struct sae_err *err)
{
    struct sae_hints h = {.k_file = NULL};
    size_t n = sae_folder_bytes(path), above = sae_folder_bytes_above(path);
    char folder[PATH_MAX] = "";
    enum sae_status st = SAE_OK;

    if (n < sizeof folder) { /* else no file in it can be opened */
        memcpy(folder, path, n);
        folder[n] = '\0';
        st = look_in(&h, folder, false, err);
        folder[above] = '\0';
        if (st == SAE_OK && above < n)
            st = look_in(&h, folder, true, err);
    }
    if (st == SAE_OK)
        *out = h;
    return st;
}
