/* test_rows.c - rows of the formats as their files come: prefixes, an encoder alone, configs that
 * contradict their tensors or are stated instead, and gaps (formats 2 and 4). What the values come
 * to is tested in tests/golden. */
#include "lib/dict/spec.h"
#include "tests/support/files.h"
#include "tests/support/st_file.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define SAE "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5"
#define SPARSIFY "encoder.weight:F32:7,5 encoder.bias:F32:7 W_dec:F32:7,5 b_dec:F32:5"
#define NEW "encoder.weight:F32:7,5 encoder.bias:F32:7 decoder.weight:F32:5,7 decoder.bias:F32:5"
#define TOP_K "encoder.weight:F32:7,5 encoder.bias:F32:7 decoder.weight:F32:5,7 b_dec:F32:5"
#define GROUPS "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 k:I32=3 threshold:F32=0.5 "
#define TIED "decoder.linear.weight:F32:7,5 pre_bias:F32:5 latent_bias:F32:7"
#define GEMMA_2 "w_enc:F32:5,7 b_enc:F32:7 b_dec:F32:5 threshold:F32:7=0.5"
#define CLT "W_enc_7:F32:7,5 b_enc_7:F32:7 b_dec_7:F32:5"
#define PRE(p)                                                                                   \
    p "encoder.weight:F32:7,5 " p "encoder.bias:F32:7 " p "decoder.weight:F32:5,7 " p "decoder." \
      "bias:F32:5"
#define ROWS_4 "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 "
#define V6 "\"metadata\": {\"sae_lens_version\": \"6.20.1\"}"

#define V5 "{\"apply_b_dec_to_input\": false, "
#define TOPK_3 "\"activation_fn\": \"topk\", \"activation_fn_kwargs\": {\"k\": 3}"

static char dir[64];

static void setup(void)
{
    make_test_folder(dir);
}

static void teardown(void)
{
    remove_test_folder(dir);
}

/* What is shown: the class, fields that are not usual ("!" behind those that are stated, the file's
 * own value in brackets), widths where they are not 5 and 7, then notes. */
static void describe(const struct sae_dict_info *info, char *text, size_t room)
{
    size_t n = (size_t)snprintf(text, room, "%s", info->class_name);

    for (size_t f = 0; f < SAE_N_FIELDS; f++) {
        const struct sae_shown_field *shown = &info->reading[f];

        if (!shown->is_usual || shown->by_file[0])
            n += (size_t)snprintf(text + n, room - n, " %s=%s%s", shown->name, shown->text,
                                  shown->from == SAE_FROM_STATED ? "!" : "");
        if (shown->by_file[0])
            n += (size_t)snprintf(text + n, room - n, "(%s)", shown->by_file);
    }
    if (info->encodes_only && info->output_dim > 0)
        n += (size_t)snprintf(text + n, room - n, " encodes");
    if (info->output_dim != 5)
        n += (size_t)snprintf(text + n, room - n, " m=%u", (unsigned)info->output_dim);
    for (unsigned k = 0; k < info->n_notes; k++)
        n += (size_t)snprintf(text + n, room - n, "; %s", info->notes[k]);
}

/* Write a weights file and a config, open the source: what is shown, or the error's text. */
static const char *open_files(const char *weights, const char *tensors, const char *config,
                              const char *text, const char *options)
{
    static char said[2000];
    struct sae_draft *t = NULL;
    struct sae_err err = {0};
    char source[400];

    put_st(dir, weights, tensors);
    if (config)
        put_file(dir, config, text);
    snprintf(source, sizeof source, "%s/%s%s", dir, weights, options);
    if (sae_draft_open(&t, source, &err) == SAE_OK)
        describe(sae_draft_info(t), said, sizeof said);
    else
        snprintf(said, sizeof said, "%s", err.text);
    sae_draft_close(t);
    return said;
}

struct row {
    const char *weights, *tensors, *config, *text, *options, *said[4];
};

#define LENS(text, tensors) "sae_weights.safetensors", tensors, "cfg.json", text
#define FILE_OF(tensors) "x.safetensors", tensors, NULL, NULL

/* said[0] is all that is shown. */
static const struct row taken[] = {
    /* prefix= */
    {FILE_OF(PRE("ae.") " lm.weight:F32:3"), ":prefix=ae.", {"AutoEncoderNew activation=relu"}},
    {FILE_OF(PRE("ae.sae.") " lm.weight:F32:3 lm.k:I64=3 act_mean:F32:5"),
     ":prefix=ae.",
     {"AutoEncoderNew activation=relu; the prefix \"sae.\" was taken off every key"}},
    {FILE_OF(PRE("module._orig_mod.sae.module.")),
     "",
     {"AutoEncoderNew activation=relu; the prefix \"module._orig_mod.sae.module.\" was taken off "
      "every key"}},
    {FILE_OF("a.W:F32:7,5 b.W:F32:9,5"),
     ":prefix=b.:format=linear",
     {"linear activation=linear m=0"}},
    {FILE_OF("a.W:F32:7,5 b.V:F32:7,5"),
     ":prefix=b.:encoder=V@F,d:centre=none:activation=relu",
     {"standard activation=relu! m=0"}},
    /* keys as the file has them, or without what all of them begin with */
    {FILE_OF("module.e:F32:7,5 module.t:F32=0.5 module.f:F32:7,5 module.b:F32:7"),
     ":encoder=module.e@F,d:decoder=module.f@F,m:enc_bias=b+module.b:centre=none:threshold=module."
     "t",
     {"jumprelu activation=threshold! threshold=module.t!; the prefix \"module.\" was taken off "
      "every key"}},
    /* one feature: its vectors tell which way round a matrix lies */
    {FILE_OF("e:F32:1,5 t:F32:5,1 b:F32:1"),
     ":encoder=e:decoder=t:enc_bias=b:centre=none:activation=relu",
     {"standard activation=relu!"}},
    {FILE_OF("e:F32:5,1 t:F32:1,5 b:F32:1"),
     ":encoder=e:decoder=t:enc_bias=b:centre=none:activation=relu",
     {"standard activation=relu!"}},
    {FILE_OF("e:F32:5,1 b:F32:1"),
     ":format=linear:encoder=e:enc_bias=b",
     {"linear activation=linear m=0"}},
    /* an encoder alone, the rest not in the file */
    {FILE_OF("encoder.weight:F32:7,5 encoder.bias:F32:7 b_dec:F32:5 k:I32=3"),
     ":parts=encoder",
     {"AutoEncoderTopK centre=b_dec activation=relu select=top_k:3 m=0; read as AutoEncoderTopK: "
      "BatchTopKSAE has the same keys"}},
    {LENS("{\"apply_b_dec_to_input\": false, " V6 "}", "W_enc:F32:5,7 b_enc:F32:7"),
     ":parts=encoder",
     {"standard activation=relu m=0; activation = relu is SAELens's default for an absent "
      "architecture; Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    {FILE_OF("W_enc:F32:5,7 b_enc:F32:7"),
     ":parts=encoder:centre=none:k=3",
     {"topk activation=relu! select=top_k:3! m=0; activation = relu is implied by k="}},
    /* ... or not kept: then it tells the width */
    {FILE_OF("W_enc:F32:5,7 b_enc:F32:7 W_dec:F32:7,3 b_dec:F32:3"),
     ":parts=encoder:centre=none:activation=relu",
     {"transcoder kind=transcoder activation=relu! encodes m=3"}},
    {FILE_OF("W:F32:7,5 b:F32:7 V:F32:3,7"),
     ":parts=encoder:encoder=W:enc_bias=b:decoder=V:centre=none:k=3",
     {"topk_transcoder kind=transcoder activation=relu! select=top_k:3! encodes m=3; activation = "
      "relu is implied by k="}},
    {FILE_OF("W:F32:7,5 V:F32:3,7 S:F32:5,5"),
     ":parts=encoder:encoder=W@F,d:centre=none:activation=relu:skip=S@m,d",
     {"transcoder kind=transcoder activation=relu! skip=S@m,d! m=0"}},
    {FILE_OF("W:F32:7,5"),
     ":parts=encoder:encoder=W@F,d:decoder=V:centre=none:activation=relu",
     {"standard activation=relu! m=0"}},
    {FILE_OF("encoder.weight:F32:7,5 pre_bias:F32:5 latent_bias:F32:7"),
     ":parts=encoder:input=none:activation=relu",
     {"standard centre=pre_bias activation=relu! m=0"}},
    /* a bias goes with the matrix that it belongs to, or is stated */
    {FILE_OF("weight:F32:5,7 bias:F32:7"),
     ":format=linear:encoder=weight@d,F",
     {"linear activation=linear m=0"}},
    {FILE_OF("bias:F32:5 encoder.weight:F32:7,5 encoder.bias:F32:7 decoder.weight:F32:5,7"),
     ":format=linear:encoder=encoder.weight:enc_bias=encoder.bias",
     {"linear activation=linear m=0; bias is not used under the stated reading"}},
    {FILE_OF("W:F32:7,5 bias:F32:7"),
     ":format=linear:encoder=W:enc_bias=bias",
     {"linear activation=linear m=0"}},
    {FILE_OF("coef_:F32:7,5 intercept_:F32:7 mean_:F32:5 tol:F32=0.1 classes_:I64:7"),
     ":format=linear:centre=mean_",
     {"linear centre=mean_! activation=linear m=0"}},
    {FILE_OF("coef_:F32:7,5 intercept_:F32:7 mean_:F32:5"),
     ":format=linear:encoder=coef_",
     {"linear activation=linear m=0"}},
    /* a number is a bias of one direction */
    {FILE_OF("coef_:F32:1,5 intercept_:F32=0.5"),
     ":format=linear",
     {"linear activation=linear m=0"}},
    {FILE_OF("coef_:F32:5 intercept_:F32=0.5 classes_:I64:2"),
     ":format=linear",
     {"linear activation=linear m=0"}},
    /* cross-layer encoders */
    {"W_enc_7.safetensors",
     CLT,
     NULL,
     NULL,
     "",
     {"transcoder kind=transcoder activation=relu m=0; encoder only: the reconstruction needs all "
      "layers; sets saved again by circuit-tracer's cache lose their activation: compare L0"}},
    {"W_enc_7.safetensors",
     CLT " threshold_7:F32:7=-0.5",
     NULL,
     NULL,
     "",
     {"jumprelu_transcoder kind=transcoder activation=threshold_signed threshold=threshold_7 m=0; "
      "encoder only: the reconstruction needs all layers"}},
    {"W_enc_7.safetensors",
     CLT,
     "config.yaml",
     "activation: topk\nk: 3\n",
     "",
     {"topk_transcoder kind=transcoder activation=linear select=top_k:3 m=0; encoder only: the "
      "reconstruction needs all layers"}},
    {"W_enc_7.safetensors",
     CLT,
     "config.yaml",
     "activation: relu\nk: 3\n",
     "",
     {"transcoder kind=transcoder activation=relu m=0; encoder only: the reconstruction needs all "
      "layers"}},
    {"W_enc_8.safetensors",
     CLT " threshold_7:F32:7=-0.5",
     NULL,
     NULL,
     ":format=circuit_tracer",
     {"jumprelu_transcoder kind=transcoder activation=threshold_signed threshold=threshold_7 m=0; "
      "encoder only: the reconstruction needs all layers"}},
    {FILE_OF(CLT),
     ":format=circuit_tracer",
     {"transcoder kind=transcoder activation=relu m=0; encoder only: the reconstruction needs all "
      "layers; sets saved again by circuit-tracer's cache lose their activation: compare L0"}},
    {"params_layer_3.safetensors",
     GEMMA_2 " w_dec:F32:7,2,5 affine_skip_connection:F32:5,5",
     NULL,
     NULL,
     "",
     {"jumprelu_transcoder kind=transcoder activation=threshold threshold=threshold m=0; encoder "
      "only: the reconstruction needs all layers"}},
    /* circuit-tracer: what is stated decides what the files leave open */
    {"layer_3.safetensors",
     "W_enc:F32:7,5 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 activation_function.threshold:F32:7=0.5",
     "config.yaml",
     "activation: relu\n",
     ":activation=relu",
     {"transcoder kind=transcoder activation=relu!; activation_function.threshold is not used "
      "under "
      "the stated reading"}},
    {"layer_3.safetensors",
     "W_enc:F32:7,5 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 activation_function.threshold:F32:7=0.5",
     "config.yaml",
     "activation: relu\n",
     ":threshold=activation_function.threshold",
     {"jumprelu_transcoder kind=transcoder activation=threshold_signed "
      "threshold=activation_function.threshold!"}},
    {"layer_3.safetensors",
     "W_enc:F32:7,5 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 k:I64=3",
     NULL,
     NULL,
     ":k=none",
     {"linear_transcoder kind=transcoder activation=linear select=all!(top_k:3); k is not used "
      "under "
      "the stated reading"}},
    /* of a checkpoint the folder above has the config too */
    {"checkpoints/ae_4.pt",
     NEW,
     "config.json",
     "{\"trainer\": {\"k\": 3}}",
     ":k=3",
     {"AutoEncoderNew activation=relu select=top_k:3!; config.json above it was looked at for a k "
      "alone"}},
    {"checkpoints/ae_4.pt",
     NEW,
     "config.json",
     "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\"}}",
     "",
     {"AutoEncoderNew activation=relu"}},
    /* units that a statement decides */
    {LENS("{\"architecture\": \"topk\", \"k\": 3, \"rescale_acts_by_decoder_norm\": true, "
          "\"apply_b_dec_to_input\": false, " V6 "}",
          ROWS_4),
     ":score=value",
     {"topk activation=relu select=top_k:3 score=value!(decoder_norm_folded)"}},
    {LENS("{\"architecture\": \"topk\", \"k\": 3, \"rescale_acts_by_decoder_norm\": false, "
          "\"apply_b_dec_to_input\": false, " V6 "}",
          ROWS_4),
     ":score=decoder_norm_folded",
     {"topk activation=relu select=top_k:3 score=decoder_norm_folded!; f is in units of the "
      "decoder norm; "
      "Neuronpedia shows these"}},
    /* fields of a config that are many */
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"k\": 3, \"transcode\": true, "
     "\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,"
     "\"j\":1,\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1,\"r\":1,\"s\":1,\"t\":1,\"u\":1,"
     "\"v\":1}",
     "",
     {"topk_transcoder kind=transcoder activation=relu select=top_k:3; activation = relu is "
      "sparsify's default for an absent activation; cfg.json has fields that "
      "are not "
      "looked at: a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q, r, s, t, u, v"}},
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"k\": 3, \"activation\": \"topk\", \"transcode\": true, "
     "\"a\\u2028b\\u0085c\\u202ed\\ne\\u00e9\": 1}",
     "",
     {"topk_transcoder kind=transcoder activation=relu select=top_k:3; cfg.json has a field that "
      "is "
      "not looked at: a?b?c?d?e\xc3\xa9"}},
    /* a skip has its '@' */
    {FILE_OF("W:F32:7,5 V:F32:7,3 S:F32:3,5 b:F32:7"),
     ":encoder=W:enc_bias=b:decoder=V:centre=none:activation=relu:skip=S",
     {"skip_transcoder kind=transcoder activation=relu! skip=S@m,d! m=3"}},
    {FILE_OF("W:F32:7,5 V:F32:7,3 S:F32:5,3 b:F32:7"),
     ":encoder=W:enc_bias=b:decoder=V:centre=none:activation=relu:skip=S",
     {"skip_transcoder kind=transcoder activation=relu! skip=S@d,m! m=3"}},
    {LENS("{\"architecture\": \"skip_transcoder\", " V6 "}",
          "W_enc:F32:5,7 W_dec:F32:7,3 b_enc:F32:7 b_dec:F32:3 W_skip:F32:3,5"),
     ":skip=W_skip",
     {"skip_transcoder kind=transcoder activation=relu skip=W_skip@m,d! m=3"}},
    /* one that is no transcoder by its config, and is stated to be */
    {LENS("{\"apply_b_dec_to_input\": false, \"architecture\": \"standard\", " V6 "}",
          "W_enc:F32:5,7 W_dec:F32:7,3 b_enc:F32:7 b_dec:F32:3"),
     ":kind=transcoder",
     {"transcoder kind=transcoder!(sae) activation=relu m=3; Neuronpedia shows f times the decoder "
      "norm (normalize_decoder=unit)"}},
    /* ... and rows that do not say */
    {"params.npz",
     "W_enc:F32:5,7 W_dec:F32:7,3 b_enc:F32:7 b_dec:F32:3 threshold:F32:7=0.5",
     NULL,
     NULL,
     "",
     {"jumprelu_transcoder kind=transcoder activation=threshold threshold=threshold m=3"}},
    /* keys that are stated and lie idle are there, unless they go with a decoder that is not wanted
     */
    {FILE_OF("W:F32:7,5 V:F32:7,5 b:F32:7"),
     ":encoder=W@F,d:decoder=V@F,m:enc_bias=b:jump=b:centre=none:activation=relu",
     {"standard activation=relu!; jump=b is not used under the stated reading"}},
    {FILE_OF("W:F32:7,5 V:F32:7,5 b:F32:7 r:F32:7"),
     ":encoder=W@F,d:decoder=V@F,m:gate_bias=b:mag_bias=b:r_mag=r:enc_bias=b:centre=none:"
     "activation=gated",
     {"gated activation=gated!; enc_bias=b is not used under the stated reading"}},
    {FILE_OF("W:F32:7,5 S:F32:5,5"),
     ":format=linear:encoder=W:skip=S@m,d",
     {"linear_transcoder kind=transcoder activation=linear skip=S@m,d! m=0; skip=S@m,d is not used "
      "under the stated reading"}},
    {FILE_OF(NEW),
     ":parts=encoder:skip=nope",
     {"AutoEncoderNew kind=transcoder activation=relu skip=nope! encodes"}},
    /* what the path says is what its components say */
    {"embeddings/params.npz",
     "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 "
     "threshold:F32:7=0.5",
     NULL,
     NULL,
     "",
     {"jumprelu activation=threshold threshold=threshold"}},
    {"My-Transcoders/12/params.npz",
     "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 "
     "threshold:F32:7=0.5",
     NULL,
     NULL,
     "",
     {"jumprelu_transcoder kind=transcoder activation=threshold threshold=threshold; kind = "
      "transcoder comes from the path component My-Transcoders"}},
    {"a-L0_50/x-L0_3/layer0.sae.pt",
     "W_enc:F32:7,5 W_dec:F32:5,7 b_enc:F32:7 b_dec:F32:5",
     NULL,
     NULL,
     "",
     {"topk activation=linear select=top_k:3; SAELens applies relu after the top-k; they differ "
      "where fewer than k values are positive; select = top_k:3 comes from the path component "
      "x-L0_3"}},
    {"L0_60x/L0_6/y.sae.pt",
     "W_enc:F32:7,5 W_dec:F32:5,7 b_enc:F32:7 b_dec:F32:5",
     NULL,
     NULL,
     "",
     {"topk activation=linear select=top_k:6; SAELens applies relu after the top-k; they differ "
      "where fewer than k values are positive; select = top_k:6 comes from the path component "
      "L0_6"}},
    /* a config that is stated instead */
    {FILE_OF(SAE),
     ":format=sae_lens:kind=sae:input=none:centre=b_dec:activation=relu:k=3:score=value",
     {"topk centre=b_dec! activation=relu! select=top_k:3!"}},
    {FILE_OF(SAE " threshold:F32:7=0.5"),
     ":format=sae_lens:kind=sae:input=rms:centre=none:threshold=threshold:score=value",
     {"jumprelu input=rms! output=follow activation=threshold! threshold=threshold!"}},
    {FILE_OF(SPARSIFY),
     ":format=sparsify:kind=sae:centre=b_dec:k=3",
     {"topk centre=b_dec! activation=relu select=top_k:3!"}},
    {FILE_OF(TIED),
     ":format=sentence_transformers:input=layer_norm:k=3",
     {"topk input=layer_norm! output=follow centre=pre_bias activation=relu select=top_k:3!"}},
    /* an absent key is the producer's default, and no saying of the file */
    {LENS("{" V6 "}", SAE),
     ":centre=none",
     {"standard activation=relu; "
      "activation = relu is SAELens's default for an absent architecture; "
      "Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": true, " V6 "}", SAE),
     ":centre=none",
     {"standard centre=none!(b_dec) activation=relu; "
      "activation = relu is SAELens's default for an absent architecture; "
      "Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"architecture\": \"topk\", "
          "\"rescale_acts_by_decoder_norm\": false, \"sae_lens_version\": \"10.0.0\", \"k\": 2}",
          SAE),
     "",
     {"topk activation=relu select=top_k:2"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"architecture\": \"topk\", "
          "\"rescale_acts_by_decoder_norm\": false, \"activation_fn\": \"topk\", "
          "\"activation_fn_kwargs\": {\"k\": 4}}",
          SAE),
     "",
     {"topk activation=relu select=top_k:4"}},
    {LENS("{\"architecture\": \"transcoder\", \"apply_b_dec_to_input\": true, " V6 "}", SAE),
     ":centre=none",
     {"transcoder kind=transcoder centre=none!(b_dec) activation=relu"}},
    /* ... which null is not */
    {LENS("{\"apply_b_dec_to_input\": null, \"architecture\": \"standard\", " V6 "}", SAE),
     ":centre=none",
     {"standard activation=relu; Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"architecture\": \"batchtopk\", "
          "\"rescale_acts_by_decoder_norm\": null, " V6 "}",
          ROWS_4 "topk_threshold:F64=0.5"),
     "",
     {"jumprelu activation=threshold threshold=topk_threshold"}},
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"k\": 3, \"transcode\": true}",
     "",
     {"topk_transcoder kind=transcoder activation=relu select=top_k:3; activation = relu is "
      "sparsify's default for an absent activation"}},
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"k\": null, \"transcode\": true}",
     ":activation=relu:k=2",
     {"topk_transcoder kind=transcoder activation=relu! select=top_k:2!"}},
    /* flat configs: two activations, an architecture and an activation, and what is stated */
    {LENS(V5 "\"activation_fn\": \"relu\", \"activation_fn_str\": \"relu\", \"architecture\": "
             "\"standard\"}",
          SAE),
     "",
     {"standard activation=relu; Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    {LENS(V5 TOPK_3 ", \"activation_fn_str\": \"relu\"}", SAE),
     ":k=none:score=value",
     {"standard activation=relu select=all!(top_k:3)"}},
    {LENS(V5 TOPK_3 ", \"architecture\": \"jumprelu\"}", SAE " threshold:F32:7=0.5"),
     ":activation=relu:k=3",
     {"topk activation=relu!(threshold) select=top_k:3! threshold=none!(threshold); Neuronpedia "
      "shows f times the decoder "
      "norm "
      "(normalize_decoder=unit); threshold is not used under the stated reading"}},
    {LENS(V5 TOPK_3 ", \"k\": 4}", SAE),
     ":k=2:score=value",
     {"topk activation=relu select=top_k:2!(top_k:3)"}},
    /* heads */
    {LENS("{\"apply_b_dec_to_input\": false, \"hook_point\": \"blocks.0.attn.hook_z\", "
          "\"architecture\": \"standard\", \"hook_point_head_index\": 3}",
          SAE),
     "",
     {"standard activation=relu; hook_z: x is head 3 of the layer; Neuronpedia shows f times the "
      "decoder norm (normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"hook_point\": \"blocks.0.attn.hook_z\", "
          "\"hook_head_index\": 3}",
          SAE),
     "",
     {"standard activation=relu; "
      "activation = relu is SAELens's default for an absent architecture; "
      "hook_z: x is head 3 of the layer; Neuronpedia shows f times the "
      "decoder norm (normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"reshape_activations\": \"hook_z\", " V6 "}", SAE),
     "",
     {"standard activation=relu; "
      "activation = relu is SAELens's default for an absent architecture; "
      "hook_z: x is the heads of the layer concatenated; Neuronpedia "
      "shows f times the decoder norm (normalize_decoder=unit)"}},
    {LENS("{\"apply_b_dec_to_input\": false, \"hook_name\": \"blocks.0.attn.hook_z\", " V6 "}",
          SAE),
     "",
     {"standard activation=relu; "
      "activation = relu is SAELens's default for an absent architecture; "
      "Neuronpedia shows f times the decoder norm "
      "(normalize_decoder=unit)"}},
    /* in any row it is nothing, if it is all ones */
    {FILE_OF(NEW " scaling_factor:F32:7=1"), "", {"AutoEncoderNew activation=relu"}},
    {FILE_OF(NEW " scaling_factor:F32=1"), "", {"AutoEncoderNew activation=relu"}},
    /* dictionary_learning */
    {"ae.pt",
     TOP_K " k:I32=3 threshold:F32=0.5",
     "config.json",
     "{\"trainer\": {\"dict_class\": \"BatchTopKSAE\", \"k\": 4, \"activation_dim\": 5, "
     "\"dict_size\": 7}}",
     "",
     {"BatchTopKSAE centre=b_dec activation=threshold threshold=threshold; SAELens (6.18) reads "
      "such "
      "files as ReLU, without the threshold; k is 3 in the file and 4 in config.json; its "
      "threshold "
      "decides"}},
    /* a config without marks */
    {"ae.pt",
     NEW,
     "config.json",
     "{\"model_type\": \"llama\"}",
     "",
     {"AutoEncoderNew activation=relu; config.json beside it was looked at for a k alone"}},
};

START_TEST(a_row_is_read)
{
    const struct row *r = &taken[_i];

    ck_assert_str_eq(open_files(r->weights, r->tensors, r->config, r->text, r->options),
                     r->said[0]);
}
END_TEST

/* All of said[] is in the error's text. */
static const struct row refused[] = {
    {"checkpoints/ae_4.pt",
     NEW,
     "config.json",
     "{\"trainer\": {\"k\": 3}}",
     "",
     {"AutoEncoderNew's, and config.json above it has \"k\": 3 in \"trainer\"", "k=3 or k=none"}},
    {"checkpoints/ae_4.pt",
     NEW,
     "config.json",
     "{\"trainer\": {\"k\": 3}",
     "",
     {"AutoEncoderNew's, and config.json above it was not read: ", "k=N or k=none for ReLU"}},
    {FILE_OF("W_enc:F32:5,7 b_enc:F32:7 W_dec:F32:7,3 b_dec:F32:3"),
     ":parts=encoder:centre=none:activation=relu:kind=sae",
     {"kind=sae is stated", "width is 3"}},
    {FILE_OF(ROWS_4 "threshold:F32:7 w_ENC:F32:5,7"),
     ":format=gemma_scope",
     {"both \"W_enc\" and \"w_ENC\""}},
    {LENS("{\"apply_b_dec_to_input\": false, \"architecture\": \"standard\", " V6 "}",
          "W_enc:F32:5,7 W_dec:F32:7,3 b_enc:F32:7 b_dec:F32:3"),
     "",
     {"kind=sae is what it is by cfg.json", "width is 3 where the input's is 5",
      "state kind=transcoder"}},
    {"sae_weights.safetensors",
     "W_enc:F32:5,7 W_dec:F32:7,3 b_enc:F32:7 b_dec:F32:3 threshold:F32:7=0.5",
     "cfg.json",
     "{\"apply_b_dec_to_input\": false, \"architecture\": \"jumprelu\", " V6 "}",
     ":parts=encoder",
     {"kind=sae is what it is by cfg.json", "state kind=transcoder"}},
    /* a key that is stated and not there, whatever it would be for */
    {FILE_OF("W:F32:7,5 V:F32:7,5 b:F32:7"),
     ":encoder=W@F,d:decoder=V@F,m:enc_bias=b:gate_bias=nope:centre=none:activation=relu",
     {"gate_bias is nope, and the file has no tensor \"nope\""}},
    {FILE_OF("W:F32:7,5 V:F32:7,5 b:F32:7 r:F32:7"),
     ":encoder=W@F,d:decoder=V@F,m:gate_bias=b:mag_bias=b:r_mag=r:enc_bias=nope:centre=none:"
     "activation=gated",
     {"enc_bias is nope, and the file has no tensor \"nope\""}},
    {FILE_OF("W:F32:7,5 b:F32:7"),
     ":encoder=W@F,d:enc_bias=b:dec_bias=nope:centre=none:activation=relu",
     {"dec_bias is nope, and the file has no tensor \"nope\""}},
    {FILE_OF("W:F32:7,5 b:F32:7"),
     ":parts=encoder:encoder=W@F,d:enc_bias=b:jump=nope:centre=none:activation=relu",
     {"jump is nope, and the file has no tensor \"nope\""}},
    {FILE_OF("W:F32:7,5"),
     ":format=linear:encoder=W:skip=nope",
     {"skip is nope, and the file has no tensor \"nope\""}},
    /* a threshold of each feature is what the row has */
    {"params.npz",
     ROWS_4 "threshold:F32=0.5",
     NULL,
     NULL,
     "",
     {"\"threshold\" has shape [], wanted [F] = [7] (gemma_scope"}},
    /* a tensor that tells of another reading */
    {LENS("{" V6 "}", ROWS_4 "topk_threshold:F64=0.5"),
     "",
     {"\"topk_threshold\", which its formula does not use"}},
    {LENS("{" V6 "}", ROWS_4 "threshold:F32:7"),
     ":parts=encoder",
     {"\"threshold\", which its formula does not use"}},
    {FILE_OF(NEW), ":activation=threshold", {"state threshold=NUMBER or threshold=KEY"}},
    {FILE_OF("W_enc:F32:5,7 b_enc:F32:7 W_dec:F32:6,5 b_dec:F32:5"),
     ":parts=encoder:centre=none:activation=relu",
     {"\"W_dec\" has shape [6, 5]"}},
    {FILE_OF(NEW), ":prefix=ae.", {"prefix=ae. is stated, and no key of the file begins so"}},
    {FILE_OF(PRE("ae.") " k:I64=3"), "", {"no class has its 5 keys"}},
    {FILE_OF(PRE("ae.sae.") " lm.weight:F32:3 k:I64=3"),
     ":prefix=ae.",
     {"an integer \"k\"", "k=N or k=none"}},
    {FILE_OF(PRE("ae.sae.") " ae.k:I64=3"),
     ":prefix=ae.sae.",
     {"an integer \"ae.k\"", "the k largest", "k=N or k=none"}},
    {FILE_OF(PRE("ae.sae.") " ae.norm_factor:F32=2"),
     ":prefix=ae.sae.",
     {"a tensor \"ae.norm_factor\" stands beside its tensors", "input=scale:C or input=none"}},
    {FILE_OF(PRE("ae.") " ae.k:I64=3"), ":prefix=ae.", {"an integer \"k\"", "k=N or k=none"}},
    {FILE_OF("encoder.weight:F32:7,5 encoder.bias:F32:7"),
     "",
     {"AutoEncoderNew's but", "\"decoder.weight\""}},
    {FILE_OF("encoder.weight:F32:7,5 encoder.bias:F32:7"),
     ":parts=encoder:score=decoder_norm",
     {"no tensor \"decoder.weight\""}},
    {LENS("{" V6 "}", "W_enc:F32:5,7 b_enc:F32:7"),
     ":parts=encoder",
     {"centre is b_dec, and the file has no tensor \"b_dec\""}},
    /* sparsify has a decoder or not; what wants its norms wants it */
    {"sae.safetensors",
     "encoder.weight:F32:7,5 encoder.bias:F32:7 b_dec:F32:5",
     "cfg.json",
     "{\"k\": 3}",
     ":score=decoder_norm",
     {"wants a tensor \"W_dec\""}},
    /* the config that a row needs, or all that it would say */
    {FILE_OF(SAE),
     ":format=sae_lens",
     {"sae_lens wants cfg.json", "kind=, input=, centre=, activation=, select=, score="}},
    {FILE_OF(SAE),
     ":format=sae_lens:kind=transcoder:centre=none:k=3:input=none",
     {"state what it would say: output=, activation=, score=, skip="}},
    {FILE_OF(SPARSIFY), ":format=sparsify", {"sparsify wants cfg.json", "kind=, centre=, select="}},
    {FILE_OF(TIED),
     ":format=sentence_transformers",
     {"sentence_transformers wants config.json", "input=, select="}},
    {FILE_OF(TIED), "", {"go with format=sentence_transformers"}},
    /* shapes are not taken from a config, and may not contradict it */
    {LENS("{\"d_in\": 6, " V6 "}", SAE), "", {"\"d_in\" of cfg.json is 6", "have 5 (by W_enc)"}},
    {LENS("{\"d_sae\": 70, " V6 "}", SAE), "", {"\"d_sae\" of cfg.json is 70", "have 7"}},
    {LENS("{\"d_out\": 4, " V6 "}", SAE), "", {"\"d_out\" of cfg.json is 4", "have 5"}},
    {LENS("{\"d_in\": \"5\", " V6 "}", SAE), "", {"\"d_in\" of cfg.json: it is a text"}},
    {"ae.pt",
     NEW,
     "config.json",
     "{\"trainer\": {\"dict_class\": \"AutoEncoderNew\", \"dict_size\": 8}}",
     "",
     {"\"trainer.dict_size\" of config.json is 8, and the tensors have 7"}},
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"k\": 3, \"num_latents\": 9}",
     "",
     {"\"num_latents\" of cfg.json is 9"}},
    {"model.safetensors",
     TIED,
     "config.json",
     "{\"input_dim\": 7, \"hidden_dim\": 5}",
     "",
     {"\"input_dim\" of config.json is 7"}},
    /* what cfg.json says and the tensors do not give */
    {LENS("{\"architecture\": \"skip_transcoder\", " V6 "}", SAE),
     "",
     {"\"skip_transcoder\"", "no tensor \"W_skip\"", "state skip="}},
    {LENS("{\"architecture\": \"gated\", " V6 "}", SAE),
     "",
     {"\"gated\"", "no tensor \"r_mag\"", "state activation="}},
    {LENS("{" V6 "}", "W_enc:F32:5,7 W_dec:F32:7,5 b_dec:F32:5"),
     "",
     {"\"standard\"", "no tensor \"b_enc\""}},
    {LENS("{\"architecture\": \"batchtopk\", " V6 "}", SAE),
     "",
     {"\"batchtopk\"", "no tensor \"topk_threshold\"", "state threshold="}},
    {LENS("{\"architecture\": \"temporal\", " V6 "}", SAE),
     "",
     {"\"temporal\"", "saed does not read", "rows before"}},
    {LENS("{\"architecture\": \"matching_pursuit\", " V6 "}", SAE),
     "",
     {"\"matching_pursuit\"", "saed does not read", "one feature after another"}},
    {LENS("{\"architecture\": \"new\", " V6 "}", SAE), "", {"\"new\"", "saed does not read"}},
    {LENS("{\"architecture\": \"transcoder\", \"apply_b_dec_to_input\": true, " V6 "}", SAE),
     "",
     {"apply_b_dec_to_input true for a transcoder", "SAELens refuses"}},
    {LENS("{\"reshape_activations\": \"other\", " V6 "}", SAE),
     "",
     {"reshape_activations \"other\"", "does not compute", "format=custom"}},
    {LENS("{\"normalize_activations\": \"constant_scalar_rescale\", " V6 "}", SAE),
     "",
     {"\"constant_scalar_rescale\"", "state input="}},
    {LENS("5", SAE), "", {"cfg.json is an integer, a dict is wanted"}},
    {"sae.safetensors", SPARSIFY, "cfg.json", "[1]", "", {"cfg.json is a list, a dict is wanted"}},
    {LENS("{\"apply_b_dec_to_input\": null, " V6 "}", SAE),
     "",
     {"apply_b_dec_to_input null", "state centre=b_dec or centre=none"}},
    {LENS("{\"architecture\": null, " V6 "}", SAE),
     "",
     {"the architecture null", "state activation="}},
    {LENS("{\"architecture\": \"topk\", \"k\": null, " V6 "}", SAE),
     "",
     {"\"k\" of cfg.json is null", "state k=N"}},
    {LENS("{\"architecture\": \"gated\", " V6 "}",
          "W_enc:F32:5,7 W_dec:F32:7,5 b_dec:F32:5 r_mag:F32:7 b_mag:F32:7"),
     "",
     {"\"gated\"", "no tensor \"b_gate\"", "state activation="}},
    /* two that contradict each other before version 6 */
    {LENS(V5 TOPK_3 ", \"activation_fn_str\": \"relu\"}", SAE),
     "",
     {"the activation_fn \"topk\" and the activation_fn_str \"relu\"", "state k=N or k=none"}},
    {LENS(V5 "\"activation_fn_str\": \"relu\", " TOPK_3 "}", SAE),
     ":activation=relu",
     {"the activation_fn \"topk\" and the activation_fn_str \"relu\"", "state k=N or k=none"}},
    {LENS(V5 TOPK_3 ", \"activation_fn_str\": \"tanh-relu\"}", SAE),
     ":k=3",
     {"the activation \"tanh-relu\"", "state activation="}},
    {LENS(V5 TOPK_3 ", \"architecture\": \"jumprelu\"}", SAE " threshold:F32:7=0.5"),
     "",
     {"the architecture \"jumprelu\" and the activation \"topk\"", "state activation="}},
    {LENS(V5 TOPK_3 ", \"architecture\": \"gated\"}",
          "W_enc:F32:5,7 W_dec:F32:7,5 b_dec:F32:5 r_mag:F32:7 b_mag:F32:7 b_gate:F32:7"),
     ":k=3",
     {"the architecture \"gated\" and the activation \"topk\"", "state activation="}},
    {LENS(V5 TOPK_3 ", \"k\": 4}", SAE),
     "",
     {"\"k\": 4 and \"activation_fn_kwargs.k\": 3", "state k=N"}},
    /* marked to come */
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"activation\": \"groupmax\"}",
     "",
     {"the activation \"groupmax\", which saed does not read yet"}},
    {"sae.safetensors",
     SPARSIFY,
     "cfg.json",
     "{\"signed\": true}",
     "",
     {"signed", "by magnitude", "does not compute"}},
    {FILE_OF("W_enc:F32:5,6 b_enc:F32:6 W_dec:F32:9,5 b_dec:F32:5"),
     ":centre=none:k=3",
     {"a Kron SAE, which saed does not read"}},
    /* one layer's, and only its */
    {"W_enc_8.safetensors",
     CLT,
     NULL,
     NULL,
     "",
     {"\"W_enc_7\" is of another layer than the file's name, W_enc_8.safetensors", "rename it"}},
    {"W_enc_70.safetensors", CLT, NULL, NULL, "", {"\"W_enc_7\" is of another layer"}},
    {"W_enc_7.safetensors",
     "W_enc_7:F32:7,5 b_enc_6:F32:7",
     NULL,
     NULL,
     "",
     {"\"b_enc_6\" is of another layer than \"W_enc_7\""}},
    {"params.safetensors",
     GEMMA_2 " w_dec:F32:7,2,5",
     NULL,
     NULL,
     ":score=decoder_norm",
     {"\"w_dec\" has shape [7, 2, 5]"}},
    {"params.safetensors",
     "w_enc:F32:2,5,7 w_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 threshold:F32:7",
     NULL,
     NULL,
     "",
     {"a crosscoder", "\"w_enc\"", "concatenate the layers and state format=custom"}},
    {"embedding/params.npz",
     "W_enc:F32:5,7 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 threshold:F32:7=0.5",
     NULL,
     NULL,
     "",
     {"below \"embedding\"", "state input=none or input=scale:C"}},
    {"layer_3.safetensors",
     "W_enc:F32:7,5 W_dec:F32:7,5 b_enc:F32:7 b_dec:F32:5 activation_function.threshold:F32:7=0.5",
     "config.yaml",
     "activation: topk\n",
     "",
     {"config.yaml says topk", "state activation="}},
    /* a decoder, unless only the encoder is wanted */
    {FILE_OF("encoder.weight:F32:7,5 pre_bias:F32:5 latent_bias:F32:7"),
     ":format=openai:input=none:k=3",
     {"no tensor \"decoder.weight\" or \"decoder.linear.weight\"", "parts=encoder"}},
    {FILE_OF(NEW " scaling_factor:F32:7=1.5"), "", {"\"scaling_factor\" of feature 0 is 1.5"}},
    {FILE_OF(NEW " scaling_factor:F32=1.5"),
     "",
     {"\"scaling_factor\" of feature 0 is 1.5", "format=custom would ignore it"}},
    {FILE_OF(NEW " extra:F32:3"), "", {"unexpected: \"extra\" [3]", "format=custom"}},
    /* what is stated excuses only what it is about */
    {LENS("{" V6 "}", SAE " threshold:F32:7=0.5"),
     ":input=scale:2",
     {"the file has \"threshold\", which its formula does not use"}},
    {FILE_OF("module.e:F32:7,5 module.b:F32:7"),
     ":encoder=module.e@F,d:enc_bias=module.c:centre=none:k=3",
     {"the file has no tensor \"module.c\""}},
    {FILE_OF("module.e:F32:7,5 module.b:F32:7"),
     ":encoder=module.d:centre=none:k=3",
     {"encoder=module.d is stated, and the file has no such tensor"}},
    {FILE_OF("e:F32:1,1 b:F32:1"),
     ":encoder=e:enc_bias=b:centre=none:activation=relu",
     {"the vectors go with both ways"}},
    /* prefix sums */
    {"ae.pt", GROUPS "group_sizes:I64:3=2", NULL, NULL, "", {"add up to 6", "has 7 features"}},
    {"ae.pt",
     GROUPS,
     NULL,
     NULL,
     "",
     {"neither \"group_sizes\" nor \"group_indices\"", "format=custom does without them"}},
    {"ae.pt", GROUPS "group_sizes:I64=7", NULL, NULL, "", {"no list of 1 to 64 group sizes"}},
    {"ae.pt", GROUPS "group_sizes:I64:1=7", NULL, NULL, ":features=3", {"features=3", ": 7"}},
    {"ae.pt", GROUPS "group_sizes:I64:7=1", NULL, NULL, ":features=9", {"1, 2, 3, 4, 5, 6, 7"}},
    {"ae.pt", GROUPS "group_indices:I64:3=7", NULL, NULL, "", {"\"group_indices\" holds 7 at [0]"}},
    {"ae.pt",
     GROUPS "group_sizes:I64:1=7 group_indices:I64:2=0",
     NULL,
     NULL,
     "",
     {"both \"group_sizes\" and \"group_indices\""}},
    /* linear */
    {FILE_OF("a:F32:7,5 intercept_:F32=0.5"), ":format=linear", {"\"intercept_\" has shape []"}},
    {FILE_OF("bias:F32:5 encoder.weight:F32:7,5 encoder.bias:F32:7 decoder.weight:F32:5,7"),
     ":format=linear:encoder=encoder.weight",
     {"the file has \"bias\", which its formula does not use"}},
    {FILE_OF("coef_:F32:7,5 intercept_:F32:7 mean_:F32:5"),
     ":format=linear",
     {"the file has \"mean_\", which its formula does not use; state encoder=KEY"}},
    {FILE_OF("a:F32:7,5"),
     ":format=linear:encoder=a@F,m",
     {"encoder is a@F,m, and the file has no tensor \"a@F,m\""}},
    /* options that are none */
    {"y.safetensors", NEW, NULL, NULL, "z:kk=3", {"\"kk\" is no option, the nearest is \"k\""}},
    {"y.safetensors", NEW, NULL, NULL, "z:K=3", {"\"K\" is no option, the nearest is \"k\""}},
    {"y.safetensors", NEW, NULL, NULL, "z:center=b", {"nearest is \"centre\""}},
    {"y.safetensors", NEW, NULL, NULL, "z:enc-bias=b", {"nearest is \"enc_bias\""}},
};

START_TEST(a_row_is_refused)
{
    const struct row *r = &refused[_i];
    const char *said = open_files(r->weights, r->tensors, r->config, r->text, r->options);

    ck_assert_msg(strncmp(said, "cannot load ", 12) == 0, "%s", said);
    for (size_t i = 0; i < 4 && r->said[i]; i++)
        ck_assert_msg(strstr(said, r->said[i]) != NULL, "\"%s\" is not in: %s", r->said[i], said);
}
END_TEST

/* A matrix that its name ties to the encoder is the encoder again, byte for byte. */
static const struct {
    const char *encoder, *decoder, *said; /* NULL: it is */
} ties[] = {
    {"F32:7,5", "F32:7,5", NULL},
    {"BF16:7,5", "BF16:7,5", NULL},
    {"F16:7,5", "F16:7,5", NULL},
    {"F64:7,5", "F64:7,5", NULL},
    {"F32:7,5", "F32:7,5=1", "\"decoder.linear.weight\" is not the encoder"},
    {"BF16:7,5", "BF16:7,5=1", "\"decoder.linear.weight\" is not the encoder"},
    {"F32:7,5=0", "F32:7,5=-0.0", "\"decoder.linear.weight\" is not the encoder"},
    {"BF16:7,5", "F32:7,5", "it has 2 dimensions of float32, \"encoder.weight\" has 2 of bfloat16"},
    {"F32:7,5", "F16:7,5", "it has 2 dimensions of float16, \"encoder.weight\" has 2 of float32"},
    {"F32:7,5", "F64:7,5", "it has 2 dimensions of float64"},
    {"F32:7,5", "F32:35", "it has 1 dimensions of float32"},
};

static const char *const tied_ways[] = {
    "",
    ":resident=f32",
    ":parts=encoder",
    ":parts=encoder:resident=f32",
    ":parts=encoder:score=decoder_norm",
    ":score=decoder_norm_folded",
};

static void load_tied(const char *encoder, const char *decoder, const char *way, bool is_widened,
                      const char *said)
{
    char tensors[200], source[200];
    struct sae_draft *t = NULL;
    struct sae_dict *d = NULL;
    struct sae_err err = {0};
    enum sae_status st;

    snprintf(tensors, sizeof tensors,
             "encoder.weight:%s decoder.linear.weight:%s pre_bias:F32:5 latent_bias:F32:7", encoder,
             decoder);
    put_st(dir, "x.safetensors", tensors);
    snprintf(source, sizeof source, "%s/x.safetensors:format=openai:input=none:k=3%s", dir, way);
    st = sae_draft_open(&t, source, &err);
    if (st == SAE_OK && is_widened)
        sae_draft_widen(t);
    if (st == SAE_OK)
        st = sae_draft_load(&d, t, NULL, &err);
    ck_assert_msg((st == SAE_OK) == !said, "%s, %s%s: %s", encoder, decoder, way, err.text);
    ck_assert_msg(!said || strstr(err.text, said), "%s", err.text);
    sae_dict_free(d);
    sae_draft_close(t);
}

START_TEST(a_tied_matrix_is_the_encoder_again)
{
    for (size_t i = 0; i < SAE_COUNTOF(tied_ways); i++) {
        load_tied(ties[_i].encoder, ties[_i].decoder, tied_ways[i], false, ties[_i].said);
        load_tied(ties[_i].encoder, ties[_i].decoder, tied_ways[i], true, ties[_i].said);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    SRunner *r = srunner_create(s);

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_row_is_read, 0, SAE_COUNTOF(taken));
    tcase_add_loop_test(t, a_tied_matrix_is_the_encoder_again, 0, (int)SAE_COUNTOF(ties));
    tcase_add_loop_test(t, a_row_is_refused, 0, SAE_COUNTOF(refused));
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
