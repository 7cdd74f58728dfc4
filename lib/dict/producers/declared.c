/* declared.c - how many features of a row are to be on, as what comes with the weights says
 * (formats 5.4, l0_declared). A figure to compare with, never part of the reading. See file.h. */
#include "lib/dict/producers/say.h"

#include "lib/scan.h"

#include <string.h>

/* average_l0_71, X-L0_50 */
static bool ends_in_l0(const char *p, size_t n)
{
    static const char *const words[] = {"average_l0_", "L0_"};
    size_t digits = sae_say_digits(p, n), before = n - digits;

    for (size_t i = 0; digits > 0 && digits < 10 && i < SAE_COUNTOF(words); i++) {
        size_t m = strlen(words[i]);

        if (before >= m && memcmp(p + before - m, words[i], m) == 0)
            return true;
    }
    return false;
}

/* A number above 0 under the path of the config, or of what else stands in the file. */
static double number_at(const struct sae_file *b, const char *path)
{
    const struct sae_facts *where[] = {b->config, sae_load_facts(b->ts)};

    for (size_t i = 0; i < SAE_COUNTOF(where); i++) {
        const struct sae_fact *fact = sae_facts_find(where[i], path);
        double v = !fact                         ? 0.0
                   : fact->kind == SAE_FACT_INT  ? (double)fact->u.i
                   : fact->kind == SAE_FACT_REAL ? fact->u.real
                                                 : 0.0;

        if (v > 0.0)
            return v;
    }
    return 0.0;
}

/* The tensor of the row that has a k. */
static double stored_k(const struct sae_file *b)
{
    const struct sae_layout_key *key = sae_layout_key_of(b->layout, SAE_ROLE_TOP_K);
    size_t i = key ? sae_file_find(b, key->name) : SIZE_MAX;
    int64_t k = 0;

    return i != SIZE_MAX && sae_load_integer(b->ts, i, &k, NULL) == SAE_OK && k > 0 ? (double)k
                                                                                    : 0.0;
}

double sae_file_declared_l0(const struct sae_file *b)
{
    static const char *const ks[] = {"trainer.k", "k", "activation_fn_kwargs.k"},
                             *const others[] = {"metadata.l0", "top_k", "trainer.target_l0"};
    const struct sae_value *select = &b->reading.field[SAE_FIELD_SELECT].value;
    struct sae_component c;
    uint64_t n = 0;
    double v = select->choice == SAE_SELECT_TOP_K ? (double)select->count : stored_k(b);

    for (size_t i = 0; v == 0.0 && i < SAE_COUNTOF(ks); i++)
        v = number_at(b, ks[i]);
    if (v == 0.0 && b->hints.k_file && b->hints.k > 0)
        v = (double)b->hints.k;
    for (size_t i = 0; v == 0.0 && i < SAE_COUNTOF(others); i++)
        v = number_at(b, others[i]);
    c = sae_say_component(b, ends_in_l0);
    if (v == 0.0 && c.n) {
        size_t digits = sae_say_digits(c.p, c.n);

        return sae_scan_whole_u64(c.p + c.n - digits, digits, &n) ? (double)n : 0.0;
    }
    return v;
}
