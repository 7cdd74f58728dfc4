/* wire_fixture.h - targets of each class, and bodies of safetensors, for the tests of proto. */
#ifndef WIRE_FIXTURE_H
#define WIRE_FIXTURE_H

#include "lib/base.h"
#include "proto/wire.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

enum { CLASS_AUTO, CLASS_IDENTITY, CLASS_GATED, CLASS_JUMP, CLASS_NEW, N_CLASSES };

/* The class's own options as lib/dict/layout.c has them, over those that every class has. */
static inline struct sae_target target_of(int class_index, enum sae_op op, uint64_t d, uint64_t F)
{
    static const struct {
        const char *name;
        unsigned options;
    } rows[N_CLASSES] = {
        {"AutoEncoder", SAE_OPT_GHOST_MASK},
        {"IdentityDict", SAE_OPT_GHOST_MASK | SAE_OPT_GHOST_UNREAD},
        {"GatedAutoEncoder", SAE_OPT_RETURN_GATE},
        {"JumpAutoEncoder", SAE_OPT_OUTPUT_PRE_JUMP},
        {"AutoEncoderNew", 0},
    };

    return (struct sae_target){
        .op = op,
        .dictionary = "test",
        .class_name = rows[class_index].name,
        .activation_dim = d,
        .dict_size = F,
        .class_options = rows[class_index].options | SAE_OPT_SPARSE | SAE_OPT_TOP_K |
                         SAE_OPT_FEATURES | SAE_OPT_OUTPUT_FEATURES,
        .max_bytes = 1 << 24,
    };
}

static inline const char *option_name(unsigned bit)
{
    for (size_t i = 0; i < SAE_N_OPTIONS; i++)
        if (sae_option_defs[i].bit == bit)
            return sae_option_defs[i].name;
    ck_abort_msg("no option has bit %u", bit);
}

/* A safetensors body, put together tensor by tensor; the header is closed by st_finish. */
struct st_body {
    struct sae_buf header, data, all;
};

static inline void st_begin(struct st_body *b)
{
    sae_buf_init(&b->header, 1 << 20);
    sae_buf_init(&b->data, 1 << 24);
    sae_buf_init(&b->all, 1 << 24);
}

static inline void st_add(struct st_body *b, const char *name, const char *dtype, const char *shape,
                          const void *data, size_t n)
{
    size_t at = b->data.len;

    ck_assert_int_eq(sae_buf_add(&b->data, data, n), SAE_OK);
    ck_assert_int_eq(
        sae_buf_addf(&b->header,
                     "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                     b->header.len ? "," : "", name, dtype, shape, at, at + n),
        SAE_OK);
}

/* The whole body in b->all; `pad` blanks end the header, so that the buffer gets any alignment. */
static inline void st_finish(struct st_body *b, int pad)
{
    uint64_t n = b->header.len + 2 + (size_t)pad;

    ck_assert_int_eq(sae_buf_add(&b->all, &n, 8), SAE_OK);
    ck_assert_int_eq(sae_buf_addf(&b->all, "{%s}%*s", b->header.len ? b->header.data : "", pad, ""),
                     SAE_OK);
    ck_assert_int_eq(sae_buf_add(&b->all, b->data.data, b->data.len), SAE_OK);
}

static inline void st_end(struct st_body *b)
{
    sae_buf_fini(&b->header);
    sae_buf_fini(&b->data);
    sae_buf_fini(&b->all);
}

static inline bool contains(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

#define assert_err(err, st, part)                                                            \
    do {                                                                                     \
        ck_assert_msg((err).status == (st), "status %d, wanted %d: %s", (int)(err).status,   \
                      (int)(st), (err).text);                                                \
        ck_assert_msg(contains((err).text, part), "\"%s\" is not in: %s", part, (err).text); \
    } while (0)

static inline int run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);
    int failed;

    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}

#endif
