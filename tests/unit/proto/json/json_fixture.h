/* json_fixture.h - targets and short calls for the tests of the JSON codec.
 *
 * Names no dictionary in particular: activation_dim 3, dict_size 6 unless said otherwise. */
#ifndef SAE_JSON_FIXTURE_H
#define SAE_JSON_FIXTURE_H

#include "lib/num.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline struct sae_target fixture_target(enum sae_op op)
{
    return (struct sae_target){
        .op = op,
        .dictionary = "sae",
        .class_name = "AutoEncoder",
        .activation_dim = 3,
        .dict_size = 6,
        .class_options = SAE_OPT_SPARSE | SAE_OPT_TOP_K | SAE_OPT_FEATURES |
                         SAE_OPT_OUTPUT_FEATURES | SAE_OPT_GHOST_MASK,
        .max_bytes = 1u << 30,
    };
}

/* Parse a copy of the body that ends where its memory does, so that ASan sees a byte too far. */
static inline enum sae_status fixture_parse_n(struct sae_request *r, const struct sae_target *t,
                                              const char *body, size_t n, struct sae_err *err)
{
    char *copy = malloc(n ? n : 1);
    enum sae_status st;

    if (!copy)
        abort();
    memcpy(copy, body, n);
    memset(r, 0, sizeof *r);
    memset(err, 0, sizeof *err);
    st = sae_json_parse(r, t, copy, n, err);
    free(copy);
    return st;
}

static inline enum sae_status fixture_parse(struct sae_request *r, const struct sae_target *t,
                                            const char *body, struct sae_err *err)
{
    return fixture_parse_n(r, t, body, strlen(body), err);
}

/* The parse's status, with all it made thrown away. */
static inline enum sae_status fixture_status(enum sae_op op, const char *body, size_t n)
{
    struct sae_target t = fixture_target(op);
    struct sae_request r;
    struct sae_err err;
    enum sae_status st = fixture_parse_n(&r, &t, body, n, &err);

    sae_request_fini(&r);
    return st;
}

struct fixture_rng {
    uint64_t state;
};

static inline uint32_t fixture_random(struct fixture_rng *g, uint32_t below)
{
    g->state = g->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((g->state >> 33) % below);
}

#endif
