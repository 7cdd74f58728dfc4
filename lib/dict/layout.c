/* layout.c - the rows of layout.h: the classes of saprmarks/dictionary_learning (dictionary.py)
 * first, then those of other formats.
 *
 * Adding one: a row here; a unit (unit.h) when its activation is new; its files and what they
 * compute in a tests/golden/formats_*.py. */
#include "lib/dict/layout.h"

#include "lib/dict/producers/producers.h"

#include <string.h>
#include <strings.h>

#define OPTIONS_ALL (SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES)

/* A key that every file has. */
#define KEY(key_name, key_role, key_dims)                          \
    {                                                              \
        .name = (key_name), .role = (key_role), .dims = (key_dims) \
    }
/* One that a file may have. */
#define MAY(key_name, key_role, key_dims)                                                    \
    {                                                                                        \
        .name = (key_name), .role = (key_role), .dims = (key_dims), .need = SAE_KEY_OPTIONAL \
    }
#define SPARE(key_name, key_role, key_dims)                                               \
    {                                                                                     \
        .name = (key_name), .role = (key_role), .dims = (key_dims), .need = SAE_KEY_SPARE \
    }
#define UNREAD(key_name)                                                               \
    {                                                                                  \
        .name = (key_name), .role = SAE_ROLE_NONE, .dims = "", .need = SAE_KEY_IGNORED \
    }
#define ENCODER KEY("encoder.weight", SAE_ROLE_ENCODER, "F,d")
#define DECODER KEY("decoder.weight", SAE_ROLE_DECODER, "d,F")
/* What the rows of dictionary_learning have in common. */
#define DL                           \
    .format = "dictionary_learning", \
    .widths = {{"trainer.activation_dim", "d"}, {"trainer.dict_size", "F"}}, .k_under = "trainer"
#define NOTE_SCALED \
    "dictionary_learning of 2024-07 to 2025-01 reported these features times the decoder norm"
#define NOTE_SIGNED "circuit-tracer keeps negative values above a negative threshold"
#define ENC_BIAS KEY("encoder.bias", SAE_ROLE_ENC_BIAS, "F")

const struct sae_layout sae_layouts[] = {
    {
        DL,
        .name = "AutoEncoder",
        .settle = sae_settle_class,
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("bias", SAE_ROLE_CENTRE, "d"), ENCODER, ENC_BIAS, DECODER},
        .n_keys = 4,
        .is_top_k_too = true,
        .options = OPTIONS_ALL | SAE_OPT_GHOST_MASK,
        .note = "dictionary_learning's from_pretrained normalises the decoder unless told not to: "
                "its features are these times the decoder norm (normalize_decoder=unit)",
        .init_norm = 1.0f,
    },
    {
        .format = "identity",
        .name = "IdentityDict",
        .is_identity = true,
        .unit = SAE_UNIT_IDENTITY,
        .options = OPTIONS_ALL | SAE_OPT_GHOST_MASK | SAE_OPT_GHOST_UNREAD,
    },
    {
        DL,
        .name = "GatedAutoEncoder",
        .settle = sae_settle_class,
        .unit = SAE_UNIT_GATED,
        .keys = {KEY("decoder_bias", SAE_ROLE_CENTRE, "d"), ENCODER,
                 KEY("r_mag", SAE_ROLE_R_MAG, "F"), KEY("gate_bias", SAE_ROLE_GATE_BIAS, "F"),
                 KEY("mag_bias", SAE_ROLE_MAG_BIAS, "F"), DECODER},
        .n_keys = 6,
        .options = OPTIONS_ALL,
        .scales_forward_f = true,
        .note = NOTE_SCALED,
        .init_norm = 1.0f,
    },
    {
        DL,
        .name = "JumpAutoEncoder",
        .settle = sae_settle_class,
        .unit = SAE_UNIT_JUMP,
        .keys = {KEY("bias", SAE_ROLE_CENTRE, "d"), ENCODER, ENC_BIAS,
                 KEY("jump", SAE_ROLE_JUMP, "F"), DECODER},
        .n_keys = 5,
        .options = OPTIONS_ALL,
        .init_norm = 1.0f,
    },
    {
        DL,
        .name = "AutoEncoderNew",
        .settle = sae_settle_class,
        .unit = SAE_UNIT_RELU,
        .keys = {ENCODER, ENC_BIAS, DECODER, KEY("decoder.bias", SAE_ROLE_DEC_BIAS, "d")},
        .n_keys = 4,
        .is_top_k_too = true,
        .options = OPTIONS_ALL,
        .scales_forward_f = true,
        .init_norm = 0.1f,
        .init_tied = true,
    },
    {
        DL,
        .name = "JumpReluAutoEncoder",
        .settle = sae_settle_jump_relu,
        .other = "bare",
        .unit = SAE_UNIT_THRESHOLD,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "d,F"), KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"),
                 KEY("W_dec", SAE_ROLE_DECODER, "F,d"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "d"),
                 KEY("threshold", SAE_ROLE_THRESHOLD, "F")},
        .n_keys = 5,
        .in_torch_save = true,
        .options = OPTIONS_ALL,
        .note = NOTE_SCALED,
        .init_norm = 1.0f,
        .init_tied = true,
        .init_threshold = 0.001f,
    },
    {
        DL,
        .name = "AutoEncoderTopK",
        .unit = SAE_UNIT_RELU,
        .keys = {ENCODER, ENC_BIAS, DECODER, KEY("b_dec", SAE_ROLE_CENTRE, "d"),
                 SPARE("k", SAE_ROLE_TOP_K, ""), SPARE("threshold", SAE_ROLE_THRESHOLD, "")},
        .n_keys = 6,
        .keeps_top_k = true,
        .settle = sae_settle_top_k,
        .other = "BatchTopKSAE",
        .options = OPTIONS_ALL,
        .note = "read as AutoEncoderTopK: BatchTopKSAE has the same keys",
    },
    {
        DL,
        .name = "BatchTopKSAE", /* told from AutoEncoderTopK by its config */
        .is_told = true,
        .unit = SAE_UNIT_THRESHOLD,
        .keys = {ENCODER, ENC_BIAS, DECODER, KEY("b_dec", SAE_ROLE_CENTRE, "d"),
                 SPARE("k", SAE_ROLE_TOP_K, ""), SPARE("threshold", SAE_ROLE_THRESHOLD, "")},
        .n_keys = 6,
        .options = OPTIONS_ALL,
    },
    {
        DL,
        .name = "MatryoshkaBatchTopKSAE",
        .unit = SAE_UNIT_THRESHOLD,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "d,F"), KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"),
                 KEY("W_dec", SAE_ROLE_DECODER, "F,d"), KEY("b_dec", SAE_ROLE_CENTRE, "d"),
                 KEY("k", SAE_ROLE_TOP_K, ""), MAY("group_sizes", SAE_ROLE_NONE, ""),
                 MAY("group_indices", SAE_ROLE_NONE, ""),
                 SPARE("threshold", SAE_ROLE_THRESHOLD, "")},
        .n_keys = 8,
        .options = OPTIONS_ALL,
        .settle = sae_settle_matryoshka,
    },
    {
        .format = "sae_lens",
        .name = "sae_lens",
        .widths = {{"d_in", "d"}, {"d_sae", "F"}, {"d_out", "m"}},
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "d,F"), KEY("W_dec", SAE_ROLE_DECODER, "F,m"),
                 KEY("b_dec", SAE_ROLE_DEC_BIAS, "m"), MAY("b_enc", SAE_ROLE_ENC_BIAS, "F"),
                 MAY("b_gate", SAE_ROLE_GATE_BIAS, "F"), MAY("b_mag", SAE_ROLE_MAG_BIAS, "F"),
                 MAY("r_mag", SAE_ROLE_R_MAG, "F"), MAY("threshold", SAE_ROLE_THRESHOLD, "F"),
                 MAY("log_threshold", SAE_ROLE_NONE, "F"), MAY("W_skip", SAE_ROLE_SKIP, "m,d"),
                 MAY("topk_threshold", SAE_ROLE_THRESHOLD, "")},
        .n_keys = 11,
        .options = OPTIONS_ALL,
        .settle = sae_settle_sae_lens,
    },
    {
        .format = "gemma_scope",
        .name = "gemma_scope",
        .is_told = true,
        .any_case = true,
        .by_reading = true,
        .unit = SAE_UNIT_THRESHOLD,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "d,F"), KEY("W_dec", SAE_ROLE_DECODER, "F,m"),
                 KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "m"),
                 KEY("threshold", SAE_ROLE_THRESHOLD, "F")},
        .n_keys = 5,
        .options = OPTIONS_ALL,
        .settle = sae_settle_gemma_scope,
        .note_below_zero = NOTE_SIGNED,
    },
    {
        .format = "gemma_scope_2",
        .name = "gemma_scope_2",
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_THRESHOLD,
        .keys = {KEY("w_enc", SAE_ROLE_ENCODER, "d,F"), KEY("w_dec", SAE_ROLE_DECODER, "F,m"),
                 KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "m"),
                 KEY("threshold", SAE_ROLE_THRESHOLD, "F"),
                 MAY("affine_skip_connection", SAE_ROLE_SKIP, "d,m")},
        .n_keys = 6,
        .options = OPTIONS_ALL,
        .settle = sae_settle_gemma_scope_2,
        .note_below_zero = NOTE_SIGNED,
    },
    {
        .format = "circuit_tracer",
        .name = "circuit_tracer",
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "F,d"), KEY("W_dec", SAE_ROLE_DECODER, "F,m"),
                 KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "m"),
                 MAY("activation_function.threshold", SAE_ROLE_THRESHOLD, "F"),
                 MAY("k", SAE_ROLE_TOP_K, ""), MAY("W_skip", SAE_ROLE_SKIP, "m,d")},
        .n_keys = 7,
        .options = OPTIONS_ALL,
        .settle = sae_settle_circuit_tracer,
    },
    {
        .format = "circuit_tracer",
        .name = "circuit_tracer", /* a layer of a set that is cross-layer */
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("W_enc_#", SAE_ROLE_ENCODER, "F,d"), KEY("b_enc_#", SAE_ROLE_ENC_BIAS, "F"),
                 MAY("threshold_#", SAE_ROLE_THRESHOLD, "F"), UNREAD("b_dec_#")},
        .n_keys = 4,
        .options = OPTIONS_ALL,
        .settle = sae_settle_cross_layer,
    },
    {
        .format = "sparsify",
        .name = "sparsify",
        .widths = {{"d_in", "d"}, {"num_latents", "F"}},
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_RELU,
        .keys = {ENCODER, ENC_BIAS, KEY("b_dec", SAE_ROLE_DEC_BIAS, "d"),
                 MAY("W_dec", SAE_ROLE_DECODER, "F,d"), MAY("W_skip", SAE_ROLE_SKIP, "d,d")},
        .n_keys = 5,
        .options = OPTIONS_ALL,
        .settle = sae_settle_sparsify,
    },
    {
        .format = "sentence_transformers",
        .name = "sentence_transformers",
        .widths = {{"input_dim", "d"}, {"hidden_dim", "F"}},
        .is_told = true,
        .by_reading = true,
        .tied_key = "decoder.linear.weight",
        .unit = SAE_UNIT_RELU,
        .keys = {MAY("encoder.weight", SAE_ROLE_ENCODER, "F,d"),
                 MAY("decoder.linear.weight", SAE_ROLE_DECODER, "F,d"),
                 KEY("pre_bias", SAE_ROLE_CENTRE, "d"), KEY("latent_bias", SAE_ROLE_ENC_BIAS, "F"),
                 UNREAD("stats_last_nonzero")},
        .n_keys = 5,
        .options = OPTIONS_ALL,
        .settle = sae_settle_sentence_transformers,
    },
    {
        .format = "openai",
        .name = "openai",
        .by_reading = true,
        .tied_key = "decoder.linear.weight",
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("encoder.weight", SAE_ROLE_ENCODER, "F,d"),
                 MAY("decoder.weight", SAE_ROLE_DECODER, "d,F"),
                 MAY("decoder.linear.weight", SAE_ROLE_DECODER, "F,d"),
                 KEY("pre_bias", SAE_ROLE_CENTRE, "d"), KEY("latent_bias", SAE_ROLE_ENC_BIAS, "F"),
                 UNREAD("stats_last_nonzero"), UNREAD("latents_activation_frequency"),
                 UNREAD("latents_mean_square"), UNREAD("activation"),
                 UNREAD("activation_state_dict")},
        .n_keys = 10,
        .options = OPTIONS_ALL,
        .settle = sae_settle_openai,
    },
    {
        .format = "qwen_scope",
        .name = "qwen_scope",
        .is_told = true,
        .by_reading = true,
        .unit = SAE_UNIT_LINEAR,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "F,d"), KEY("W_dec", SAE_ROLE_DECODER, "d,F"),
                 KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "d")},
        .n_keys = 4,
        .options = OPTIONS_ALL,
        .settle = sae_settle_qwen_scope,
    },
    {
        .format = "bare",
        .name = "bare",
        .by_reading = true,
        .is_open = true,
        .unit = SAE_UNIT_RELU,
        .keys = {KEY("W_enc", SAE_ROLE_ENCODER, "d,F"), KEY("W_dec", SAE_ROLE_DECODER, "F,m"),
                 KEY("b_enc", SAE_ROLE_ENC_BIAS, "F"), KEY("b_dec", SAE_ROLE_DEC_BIAS, "m"),
                 MAY("threshold", SAE_ROLE_THRESHOLD, "F")},
        .n_keys = 5,
        .options = OPTIONS_ALL,
        .settle = sae_settle_bare,
        .other = "qwen_scope",
    },
    {
        .format = "linear",
        .name = "linear",
        .is_told = true,
        .by_reading = true,
        .is_any_tensor = true,
        .unit = SAE_UNIT_LINEAR,
        .keys = {MAY("coef_", SAE_ROLE_ENCODER, "F,d"), MAY("weight", SAE_ROLE_ENCODER, "F,d"),
                 MAY("array", SAE_ROLE_ENCODER, "F,d"), MAY("intercept_", SAE_ROLE_ENC_BIAS, "F"),
                 MAY("bias", SAE_ROLE_ENC_BIAS, "F")},
        .n_keys = 5,
        .takes_keys = 1u << SAE_ROLE_ENCODER | 1u << SAE_ROLE_ENC_BIAS,
        .options = OPTIONS_ALL,
    },
    {
        .format = "custom",
        .name = "custom",
        .is_stated = true,
        .is_open = true,
        .by_reading = true,
        .takes_keys = 1u << SAE_ROLE_ENCODER | 1u << SAE_ROLE_DECODER | 1u << SAE_ROLE_ENC_BIAS |
                      1u << SAE_ROLE_DEC_BIAS | 1u << SAE_ROLE_GATE_BIAS | 1u << SAE_ROLE_MAG_BIAS |
                      1u << SAE_ROLE_R_MAG | 1u << SAE_ROLE_JUMP,
        .options = OPTIONS_ALL,
    },
};
const size_t sae_n_layouts = SAE_COUNTOF(sae_layouts);
const size_t sae_n_classes = 7;

bool sae_layout_fits(const char *pattern, const char *name)
{
    for (; *pattern; pattern++) {
        size_t n = *pattern == '#' ? strspn(name, "0123456789") : *name == *pattern;

        if (n == 0)
            return false;
        name += n;
    }
    return *name == '\0';
}

bool sae_layout_is_key(const struct sae_layout *l, const char *key, const char *name)
{
    return l->any_case ? strcasecmp(key, name) == 0 : sae_layout_fits(key, name);
}

const struct sae_layout *sae_layout_by_name(const char *name)
{
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (strcmp(sae_layouts[i].name, name) == 0)
            return &sae_layouts[i];
    return NULL;
}

const struct sae_layout *sae_layout_of_format(const char *format)
{
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (sae_layouts[i].format && strcmp(sae_layouts[i].format, format) == 0)
            return &sae_layouts[i];
    return NULL;
}

const struct sae_layout *sae_layout_identity(void)
{
    for (size_t i = 0; i < sae_n_layouts; i++)
        if (sae_layouts[i].is_identity)
            return &sae_layouts[i];
    return NULL;
}

bool sae_layout_is_kept(const struct sae_layout_key *key)
{
    return key->need != SAE_KEY_IGNORED && key->dims[0] != '\0';
}

bool sae_layout_is_matrix(const struct sae_layout_key *key)
{
    return strchr(key->dims, ',') != NULL;
}

bool sae_layout_is_turned(const struct sae_layout_key *key)
{
    return sae_layout_is_matrix(key) && key->dims[0] != 'F';
}

const struct sae_layout_key *sae_layout_key_of(const struct sae_layout *l, enum sae_role role)
{
    for (unsigned i = 0; i < l->n_keys; i++)
        if (l->keys[i].role == role)
            return &l->keys[i];
    return NULL;
}

void sae_layout_reading(const struct sae_layout *l, struct sae_reading *r)
{
    const struct sae_layout_key *centre = sae_layout_key_of(l, SAE_ROLE_CENTRE);
    const struct sae_layout_key *threshold = sae_layout_key_of(l, SAE_ROLE_THRESHOLD);
    struct sae_value v = {.choice = l->is_identity ? SAE_UNIT_LINEAR : l->unit};

    sae_reading_init(r);
    if (l->is_open)
        return;
    sae_reading_set(r, SAE_FIELD_ACTIVATION, &v, SAE_FROM_ROW);
    sae_reading_say(r, SAE_FIELD_CENTRE, centre ? centre->name : "none", SAE_FROM_ROW);
    if (threshold && sae_reading_wants_threshold(r))
        sae_reading_say(r, SAE_FIELD_THRESHOLD, threshold->name, SAE_FROM_ROW);
}

static bool has(const struct sae_layout *l, enum sae_role role)
{
    const struct sae_layout_key *key = sae_layout_key_of(l, role);

    return key && sae_layout_is_kept(key);
}

struct sae_formula sae_layout_formula(const struct sae_layout *l, size_t d, size_t F)
{
    return (struct sae_formula){
        .d_in = d,
        .d_out = d,
        .F = F,
        .unit = l->unit,
        .has_centre = has(l, SAE_ROLE_CENTRE),
        .adds_centre = has(l, SAE_ROLE_CENTRE) && !has(l, SAE_ROLE_DEC_BIAS),
        .has_dec_bias = has(l, SAE_ROLE_DEC_BIAS),
        .is_identity = l->is_identity,
        .scales_forward_f = l->scales_forward_f,
    };
}
