/* producers.h - the `settle` of layout.c's rows: what the files of a producer say of the reading
 * (formats 4.2).
 *
 * SAE_E_FORMAT: they contradict each other, say what saed does not compute, or leave two readings;
 * the message names the option that decides. A config's widths are shapes.c's to look at; an absent
 * key takes the producer's own default, with a note. Sources: the producers' loaders, defaults as
 * in their code. A file for each producer, all by the words of say.h. Called by settle.c, once for
 * a file. */
#ifndef SAE_PRODUCERS_H
#define SAE_PRODUCERS_H

#include "lib/dict/file.h"

typedef enum sae_status sae_settle_fn(struct sae_file *b, struct sae_err *err);

sae_settle_fn sae_settle_class, sae_settle_jump_relu, sae_settle_top_k, sae_settle_matryoshka,
    sae_settle_sae_lens, sae_settle_gemma_scope, sae_settle_gemma_scope_2,
    sae_settle_circuit_tracer, sae_settle_cross_layer, sae_settle_sparsify,
    sae_settle_sentence_transformers, sae_settle_qwen_scope, sae_settle_openai, sae_settle_bare;

#endif
