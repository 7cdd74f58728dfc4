/* arch.c - the five classes of saprmarks/dictionary_learning (dictionary.py), one row each.
 *
 * Adding a class: a row here; a unit (unit.h) when its activation is new; a case in
 * tests/golden/make_golden.py. Constant data, any thread. */
#include "lib/dict/arch.h"

#include <string.h>

#define OPTIONS_ALL (SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES)

#define ENCODER                                   \
    {                                             \
        "encoder.weight", SAE_ROLE_ENCODER, "F,d" \
    }
#define DECODER                                   \
    {                                             \
        "decoder.weight", SAE_ROLE_DECODER, "d,F" \
    }
#define ENC_BIAS                               \
    {                                          \
        "encoder.bias", SAE_ROLE_ENC_BIAS, "F" \
    }

const struct sae_arch sae_archs[] = {
    {
        .name = "AutoEncoder",
        .unit = SAE_UNIT_RELU,
        .keys = {{"bias", SAE_ROLE_CENTRE, "d"}, ENCODER, ENC_BIAS, DECODER},
        .n_keys = 4,
        .options = OPTIONS_ALL | SAE_OPT_GHOST_MASK,
        .init_norm = 1.0f,
    },
    {
        .name = "IdentityDict",
        .unit = SAE_UNIT_IDENTITY,
        .options = OPTIONS_ALL | SAE_OPT_GHOST_MASK,
    },
    {
        .name = "GatedAutoEncoder",
        .unit = SAE_UNIT_GATED,
        .keys = {{"decoder_bias", SAE_ROLE_CENTRE, "d"},
                 ENCODER,
                 {"r_mag", SAE_ROLE_R_MAG, "F"},
                 {"gate_bias", SAE_ROLE_GATE_BIAS, "F"},
                 {"mag_bias", SAE_ROLE_MAG_BIAS, "F"},
                 DECODER},
        .n_keys = 6,
        .options = OPTIONS_ALL | SAE_OPT_RETURN_GATE,
        .scales_forward_f = true,
        .init_norm = 1.0f,
    },
    {
        .name = "JumpAutoEncoder",
        .unit = SAE_UNIT_JUMP,
        .keys = {{"bias", SAE_ROLE_CENTRE, "d"},
                 ENCODER,
                 ENC_BIAS,
                 {"jump", SAE_ROLE_JUMP, "F"},
                 DECODER},
        .n_keys = 5,
        .options = OPTIONS_ALL | SAE_OPT_OUTPUT_PRE_JUMP,
        .init_norm = 1.0f,
    },
    {
        .name = "AutoEncoderNew",
        .unit = SAE_UNIT_RELU,
        .keys = {ENCODER, ENC_BIAS, DECODER, {"decoder.bias", SAE_ROLE_DEC_BIAS, "d"}},
        .n_keys = 4,
        .options = OPTIONS_ALL,
        .scales_forward_f = true,
        .init_norm = 0.1f,
        .init_tied = true,
    },
};
const size_t sae_n_archs = SAE_COUNTOF(sae_archs);

const struct sae_arch *sae_arch_by_name(const char *name)
{
    for (size_t i = 0; i < sae_n_archs; i++)
        if (strcmp(sae_archs[i].name, name) == 0)
            return &sae_archs[i];
    return NULL;
}

bool sae_arch_is_matrix(const struct sae_arch_key *key)
{
    return strchr(key->shape, ',') != NULL;
}

const char *sae_arch_key_of(const struct sae_arch *a, enum sae_role role)
{
    for (unsigned i = 0; i < a->n_keys; i++)
        if (a->keys[i].role == role)
            return a->keys[i].name;
    return "";
}
