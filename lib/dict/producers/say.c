/* say.c - see say.h. */
#include "lib/dict/producers/say.h"

#include "lib/scan.h"

#include "lib/dict/text.h"

#include <stdio.h>
#include <string.h>

/* By itself, or by what implies it (settle.c). */
static bool is_said(const struct sae_statement *stated, enum sae_field f)
{
    const struct sae_reading_field *field = stated->reading.field;

    if (field[f].is_set)
        return true;
    if (f == SAE_FIELD_ACTIVATION)
        return sae_statement_says_threshold(stated);
    return f == SAE_FIELD_SELECT && sae_statement_says_selection(stated);
}

void sae_say_default(struct sae_file *b, enum sae_field f, const char *value, const char *producer,
                     const char *key)
{
    if (!is_said(b->stated, f))
        NOTE(b, "%s = %s is %s's default for an absent %s", sae_field_name(f), value, producer,
             key);
}

enum sae_status sae_say_need_config(const struct sae_file *b, const char *name, unsigned fields,
                                    struct sae_err *err)
{
    struct sae_text l = {.len = 0};

    for (enum sae_field f = 0; !b->config && f < SAE_N_FIELDS; f++)
        if (fields >> f & 1 && !is_said(b->stated, f))
            sae_text_add(&l, "%s%s=", l.len ? ", " : "", sae_field_name(f));
    return l.len == 0 ? SAE_OK
                      : REFUSE(err, name,
                               "%s wants %s beside the weights, and there is none; state what it "
                               "would say: %s",
                               b->layout->format, name, l.text);
}

void sae_say_other(struct sae_file *b)
{
    b->layout = sae_layout_by_name(b->layout->other);
    sae_layout_reading(b->layout, &b->reading);
}

void sae_say_k(struct sae_file *b, int64_t k, enum sae_origin from)
{
    struct sae_value v = {.choice = SAE_SELECT_TOP_K, .count = (uint64_t)k};

    sae_reading_set(&b->reading, SAE_FIELD_SELECT, &v, from);
}

enum sae_status sae_say_config_k(struct sae_file *b, const char *path, int64_t fallback,
                                 const char *producer, struct sae_err *err)
{
    char text[32];
    int64_t k = fallback;
    bool found = false;
    enum sae_status st = sae_facts_int(b->config, path, &k, &found, err);

    if (st != SAE_OK)
        return st;
    if (!found && fallback && sae_facts_find(b->config, path) && !is_stated(b, SAE_FIELD_SELECT))
        return REFUSE(err, path, "\"%s\" of %s is null, an integer is wanted; state k=N", path,
                      sae_facts_name(b->config));
    if (!found && fallback == 0)
        return is_stated(b, SAE_FIELD_SELECT) ? SAE_OK
                                              : REFUSE(err, path, "%s has no \"%s\"; state k=N",
                                                       sae_facts_name(b->config), path);
    if (k < 1)
        return REFUSE(err, path, "\"%s\" of %s is %lld, wanted 1 or more", path,
                      sae_facts_name(b->config), (long long)k);
    snprintf(text, sizeof text, "top_k:%lld", (long long)k);
    if (!found)
        sae_say_default(b, SAE_FIELD_SELECT, text, producer, path);
    sae_say_k(b, k, found ? SAE_FROM_FILE : SAE_FROM_ROW);
    return SAE_OK;
}

struct sae_component sae_say_component(const struct sae_file *b,
                                       bool (*fits)(const char *p, size_t n))
{
    const char *path = b->path;

    for (size_t end = strlen(path), at; end > 0; end = at > 0 ? at - 1 : 0) {
        for (at = end; at > 0 && path[at - 1] != '/'; at--)
            ;
        if (fits(path + at, end - at))
            return (struct sae_component){path + at, end - at};
    }
    return (struct sae_component){NULL, 0};
}

size_t sae_say_digits(const char *p, size_t n)
{
    size_t digits = 0;

    while (digits < n && sae_is_digit(p[n - digits - 1]))
        digits++;
    return digits;
}
