/* The shape of a T5 encoder-decoder. */
#ifndef SPT_MODEL_CONFIG_H
#define SPT_MODEL_CONFIG_H

#include "ops/ops.h"

struct t5_config {
    int64_t vocab;       /* V: rows of the embedding */
    int64_t width;       /* E, "emb_dim", d_model */
    int64_t heads;       /* H */
    int64_t head_dim;    /* D; J = heads * head_dim is not always the width */
    int64_t ff;          /* F */
    int64_t enc_layers, dec_layers;
    int64_t buckets;      /* relative position buckets, 32 */
    int64_t max_distance; /* 128 */
    enum ops_activation act;
    bool gated;            /* wi_0 and wi_1 (T5 1.1) instead of wi (T5 1.0) */
    bool head_is_embedding; /* logits use the token embedding: no decoder/logits_dense */
    bool scale_logits;      /* decoder output * width^-0.5 before the logits */
    bool per_layer_bias;    /* umT5: a relative table in every layer */
    float norm_eps;         /* 1e-6 */
    int32_t pad_id, eos_id, start_id; /* 0, 1, 0 */
};

#endif
