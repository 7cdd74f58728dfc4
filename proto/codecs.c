/* codecs.c - the table of body forms: media type, printer, size.
 *
 * A new form is one row here, one bit in sae_media_can and its own file. Called by routes and by
 * negotiate.c. Pure functions, any thread. */
#include "proto/wire.h"

const struct sae_codec sae_codecs[SAE_N_MEDIA] = {
    [SAE_MEDIA_JSON] = {"application/json", sae_json_print, sae_json_bound},
    [SAE_MEDIA_RAW] = {"application/octet-stream", sae_raw_print, sae_raw_bound},
    [SAE_MEDIA_SAFETENSORS] = {"application/x-safetensors", sae_safetensors_print,
                               sae_safetensors_bound},
};

const char *sae_media_name(enum sae_media m)
{
    return sae_codecs[m].name;
}

uint64_t sae_answer_bound(enum sae_media m, const struct sae_answer *a)
{
    return sae_codecs[m].bound(a);
}

unsigned sae_media_can(const struct sae_answer *a)
{
    unsigned can = 1u << SAE_MEDIA_JSON | 1u << SAE_MEDIA_SAFETENSORS;

    /* Raw bytes carry one dense tensor and nothing that would name a second or its indices. */
    if (a->n_tensors == 1 && a->tensors[0].form == SAE_FORM_DENSE)
        can |= 1u << SAE_MEDIA_RAW;
    return can;
}
