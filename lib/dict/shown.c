/* shown.c - what stands beside a file's tensors, for who asks what is served: `metadata`, the whole
 * of it as JSON, and `taps`, which place of which model the rows are from (formats 5.1).
 *
 * Copied, never interpreted: no field of the reading depends on it. See file.h. */
#include "lib/dict/file.h"

#include "lib/load/folder.h"
#include "lib/num.h"
#include "lib/scan.h"

#include <string.h>

#define MAX_METADATA ((size_t)64 << 10)
#define MAX_TAPS ((size_t)16 << 10)
#define MAX_TAP_BYTES 1024 /* of a text: a longer one names no place */

static enum sae_status no_memory(struct sae_err *err)
{
    return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy what stands beside the weights");
}

/* ---- metadata ----------------------------------------------------------------------------- */

/* The row's config, else what stands in the file. */
static enum sae_status take_metadata(struct sae_file *b, struct sae_err *err)
{
    const struct sae_fact *root = sae_facts_root(b->config);
    struct sae_buf text;
    enum sae_status st;

    if (!root)
        root = sae_facts_root(sae_load_facts(b->ts));
    if (!root || (root->kind == SAE_FACT_DICT && root->n == 0))
        return SAE_OK;
    sae_buf_init(&text, MAX_METADATA);
    st = sae_buf_reserve(&text, MAX_METADATA);
    if (st != SAE_OK)
        return no_memory(err);
    if (sae_fact_print(root, &text) != SAE_OK)
        sae_dict_add_note(&b->info, "metadata is above 64 KB as JSON, and not shown");
    else if (!(b->metadata = sae_strdup(text.data)))
        st = no_memory(err);
    sae_buf_fini(&text);
    return st;
}

/* ---- taps --------------------------------------------------------------------------------- */

/* Those without `is_asked` stand only where something says them. */
static const struct {
    const char *name;
    bool is_asked;
} members[] = {
    {"model", true},       {"in", true},           {"out", true}, {"layer", true},
    {"prepend_bos", true}, {"context_size", true}, {"io", false}, {"hook_head_index", false},
};

enum from {
    FROM_CONFIG, /* the first of the keys that is there */
    FROM_NUMBER, /* the digits in the file's name behind the first key */
    FROM_BLOCK,  /* the output of the block of that number */
    FROM_FOLDER  /* the name of the file's folder */
};

static const struct tap {
    const char *format, *member;
    enum from from;
    const char *keys[3];
} taps[] = {
    {"sae_lens", "model", FROM_CONFIG, {"metadata.model_name", "model_name"}},
    {"sae_lens", "in", FROM_CONFIG, {"metadata.hook_name", "hook_name", "hook_point"}},
    {"sae_lens", "out", FROM_CONFIG, {"metadata.hook_name_out", "hook_name_out"}},
    {"sae_lens", "prepend_bos", FROM_CONFIG, {"metadata.prepend_bos", "prepend_bos"}},
    {"sae_lens", "context_size", FROM_CONFIG, {"metadata.context_size", "context_size"}},
    {"sae_lens",
     "hook_head_index",
     FROM_CONFIG,
     {"metadata.hook_head_index", "hook_head_index", "hook_point_head_index"}},
    {"dictionary_learning", "model", FROM_CONFIG, {"trainer.lm_name"}},
    {"dictionary_learning", "in", FROM_CONFIG, {"trainer.submodule_name"}},
    {"dictionary_learning", "layer", FROM_CONFIG, {"trainer.layer"}},
    {"dictionary_learning", "io", FROM_CONFIG, {"buffer.io"}},
    {"circuit_tracer", "model", FROM_CONFIG, {"model_name"}},
    {"circuit_tracer", "in", FROM_CONFIG, {"feature_input_hook"}},
    {"circuit_tracer", "out", FROM_CONFIG, {"feature_output_hook"}},
    {"circuit_tracer", "layer", FROM_NUMBER, {"layer_", "W_enc_"}},
    {"gemma_scope_2", "model", FROM_CONFIG, {"model_name"}},
    {"gemma_scope_2", "in", FROM_CONFIG, {"hf_hook_point_in"}},
    {"gemma_scope_2", "out", FROM_CONFIG, {"hf_hook_point_out"}},
    {"sparsify", "in", FROM_FOLDER, {NULL}},
    {"qwen_scope", "in", FROM_BLOCK, {"layer"}},
};

static enum sae_status add_text(const char *s, size_t n, struct sae_buf *out)
{
    char copy[MAX_TAP_BYTES + 1];
    struct sae_fact fact = {.kind = SAE_FACT_TEXT, .u.text = copy};

    if (n > MAX_TAP_BYTES)
        return sae_buf_addf(out, "null");
    memcpy(copy, s, n);
    copy[n] = '\0';
    for (size_t i = 0; i < n; i += sae_utf8_len(copy + i, copy + n)) /* a path may be any bytes */
        if (sae_utf8_len(copy + i, copy + n) == 0)
            copy[i] = '?';
    return sae_fact_print(&fact, out);
}

static enum sae_status add_fact(const struct sae_fact *fact, struct sae_buf *out)
{
    if (fact->kind == SAE_FACT_TEXT)
        return add_text(fact->u.text, fact->n, out);
    return fact->kind == SAE_FACT_INT || fact->kind == SAE_FACT_REAL || fact->kind == SAE_FACT_BOOL
               ? sae_fact_print(fact, out)
               : sae_buf_addf(out, "null");
}

/* The number behind one of the words that the file's name begins with. */
static bool number_of(const struct sae_file *b, const struct tap *tap, uint64_t *out)
{
    const char *name = b->weights + sae_folder_bytes(b->weights);

    for (size_t i = 0; i < SAE_COUNTOF(tap->keys) && tap->keys[i]; i++) {
        size_t n = strlen(tap->keys[i]), digits = 0;

        if (strncmp(name, tap->keys[i], n) != 0)
            continue;
        while (sae_is_digit(name[n + digits]))
            digits++;
        if (name[n + digits] == '.' && sae_scan_whole_u64(name + n, digits, out))
            return true;
    }
    return false;
}

/* As the path was given: of a path without a folder there is none. */
static enum sae_status add_folder(const struct sae_file *b, struct sae_buf *out)
{
    size_t end = sae_folder_bytes(b->weights), begin;

    while (end > 0 && b->weights[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && b->weights[begin - 1] != '/';)
        begin--;
    return begin < end ? add_text(b->weights + begin, end - begin, out) : sae_buf_addf(out, "null");
}

static enum sae_status add_tap(const struct sae_file *b, const struct tap *tap, struct sae_buf *out)
{
    const struct sae_fact *fact = NULL;
    uint64_t number;

    switch (tap->from) {
    case FROM_CONFIG:
        for (size_t i = 0; !fact && i < SAE_COUNTOF(tap->keys) && tap->keys[i]; i++)
            fact = sae_facts_find(b->config, tap->keys[i]);
        return fact ? add_fact(fact, out) : sae_buf_addf(out, "null");
    case FROM_FOLDER:
        return add_folder(b, out);
    case FROM_NUMBER:
    case FROM_BLOCK:
        break;
    }
    if (!number_of(b, tap, &number))
        return sae_buf_addf(out, "null");
    return sae_buf_addf(out, tap->from == FROM_BLOCK ? "\"output of block %llu\"" : "%llu",
                        (unsigned long long)number);
}

static enum sae_status add_member(const struct sae_file *b, size_t m, struct sae_buf *out)
{
    const struct tap *tap = taps;
    size_t was = out->len, value;
    enum sae_status st = sae_buf_addf(out, "%s\"%s\":", out->len > 1 ? "," : "", members[m].name);

    value = out->len;
    while (tap < taps + SAE_COUNTOF(taps) && (strcmp(tap->format, b->layout->format) != 0 ||
                                              strcmp(tap->member, members[m].name) != 0))
        tap++;
    if (st == SAE_OK)
        st = tap < taps + SAE_COUNTOF(taps) ? add_tap(b, tap, out) : sae_buf_addf(out, "null");
    if (st == SAE_OK && !members[m].is_asked && strcmp(out->data + value, "null") == 0)
        out->len = was;
    return st;
}

static enum sae_status take_taps(struct sae_file *b, struct sae_err *err)
{
    struct sae_buf text;
    enum sae_status st;

    sae_buf_init(&text, MAX_TAPS);
    st = sae_buf_addf(&text, "{");
    for (size_t m = 0; st == SAE_OK && m < SAE_COUNTOF(members); m++)
        st = add_member(b, m, &text);
    if (st == SAE_OK)
        st = sae_buf_addf(&text, "}");
    if (st != SAE_OK) {
        sae_buf_fini(&text);
        return no_memory(err);
    }
    b->taps = text.data;
    return SAE_OK;
}

enum sae_status sae_file_show(struct sae_file *b, struct sae_err *err)
{
    enum sae_status st = take_metadata(b, err);

    if (st == SAE_OK)
        st = take_taps(b, err);
    b->info.metadata = b->metadata;
    b->info.taps = b->taps;
    b->info.declared_l0 = sae_file_declared_l0(b);
    return st;
}
