/* codecs.c - the table of body forms. A new one is an id in wire.h, a row here and its own file.
 *
 * Called by routes and by negotiate.c. Pure functions, any thread. */
#include "proto/wire.h"

#define RAW "application/octet-stream"
#define SAFETENSORS "application/x-safetensors"
#define NPY "application/x-npy"
/* numpy has no bfloat16. */
enum {
    NPY_DTYPES = 1 << SAE_DTYPE_F32 | 1 << SAE_DTYPE_F16 | 1 << SAE_DTYPE_F64,
    ALL_DTYPES = NPY_DTYPES | 1 << SAE_DTYPE_BF16
};

const struct sae_codec sae_codecs[SAE_N_MEDIA] = {
    [SAE_MEDIA_JSON] =
        {
            .name = "application/json",
            .short_name = "json",
            .is_text = true,
            .rank = {[SAE_RANK_NAMED] = 0, [SAE_RANK_LEFT] = 1},
            .number_bytes = 16,
            .row_bytes = 2,            /* its brackets and comma */
            .frame_bytes = 128,        /* brackets and keys */
            .parser_bytes = 32u << 10, /* the array of the first numbers */
            .grows = true,
            .parse = sae_json_parse,
            .bound = sae_json_bound,
            .print = sae_json_print,
        },
    [SAE_MEDIA_RAW] =
        {
            .name = RAW,
            .short_name = "octet-stream",
            .body_dtypes = ALL_DTYPES,
            .dtyped = {[SAE_DTYPE_F16] = RAW ";dtype=f16", [SAE_DTYPE_BF16] = RAW ";dtype=bf16"},
            .rank = {[SAE_RANK_NAMED] = 2, [SAE_RANK_LEFT] = 2},
            .number_bytes = 4,
            .parse = sae_raw_parse,
            .keep = sae_raw_keep,
            .can = sae_dense_can,
            .bound = sae_dense_bytes,
            .print = sae_raw_print,
        },
    [SAE_MEDIA_SAFETENSORS] =
        {
            .name = SAFETENSORS,
            .short_name = "safetensors",
            .body_dtypes = ALL_DTYPES,
            .dtyped = {[SAE_DTYPE_F16] = SAFETENSORS ";dtype=f16",
                       [SAE_DTYPE_BF16] = SAFETENSORS ";dtype=bf16"},
            .has_sparse_forms = true,
            .rank = {[SAE_RANK_NAMED] = 1, [SAE_RANK_LEFT] = 0},
            .number_bytes = 4,
            .frame_bytes = 128,  /* its header ... */
            .parser_bytes = 512, /* ... and that as read */
            .parse = sae_safetensors_parse,
            .bound = sae_safetensors_bound,
            .print = sae_safetensors_print,
        },
    [SAE_MEDIA_NPY] =
        {
            .name = NPY,
            .short_name = "npy",
            .body_dtypes = NPY_DTYPES,
            .dtyped = {[SAE_DTYPE_F16] = NPY ";dtype=f16"},
            .rank = {[SAE_RANK_NAMED] = 3, [SAE_RANK_LEFT] = 3},
            .number_bytes = 4,
            .frame_bytes = 128, /* its header, as numpy writes it */
            .parse = sae_npy_parse,
            .keep = sae_npy_keep,
            .can = sae_dense_can,
            .bound = sae_npy_bound,
            .print = sae_npy_print,
        },
};

bool sae_media_takes(enum sae_media m, enum sae_op op)
{
    return sae_op_defs[op].takes != SAE_TAKES_WEIGHTS || !sae_codecs[m].can;
}

unsigned sae_media_can(const struct sae_answer *a)
{
    unsigned can = 0;

    for (int m = 0; m < SAE_N_MEDIA; m++)
        if ((!sae_codecs[m].can || sae_codecs[m].can(a)) && (!a->label || sae_codecs[m].is_text))
            can |= 1u << m;
    for (unsigned i = 0; i < a->n_tensors; i++)
        can |= a->tensors[i].form == SAE_FORM_TOP      ? SAE_CAN_CSR | SAE_CAN_TOP
               : a->tensors[i].form == SAE_FORM_SPARSE ? SAE_CAN_CSR
                                                       : 0;
    return can;
}

void sae_answer_as(struct sae_answer *a, const struct sae_media_type *type)
{
    a->dtype = type->dtype;
    for (unsigned i = 0; i < a->n_tensors; i++)
        if (type->sparse == SAE_WIRE_CSR && a->tensors[i].form == SAE_FORM_TOP)
            a->tensors[i].form = SAE_FORM_SPARSE;
}

const char *sae_media_type_name(const struct sae_media_type *type)
{
    const struct sae_codec *c = &sae_codecs[type->media];

    return type->dtype == SAE_DTYPE_F32 ? c->name : c->dtyped[type->dtype];
}
