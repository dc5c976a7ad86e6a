/* config.json of a Hugging Face T5 (spec/interop.md section 2.2) as a plain struct. What the file
 * does not say has `has_...` false and the default of the library; nothing is interpreted here. */
#ifndef SPT_STORE_HF_CONFIG_H
#define SPT_STORE_HF_CONFIG_H

#include <stdbool.h>

#include "base/status.h"

/* name, default: non-negative integers */
#define HF_CONFIG_INTS(X)                \
    X(vocab_size, 32128)                 \
    X(d_model, 512)                      \
    X(d_kv, 64)                          \
    X(d_ff, 2048)                        \
    X(num_layers, 6)                     \
    X(num_decoder_layers, 6)             \
    X(num_heads, 8)                      \
    X(relative_attention_num_buckets, 32) \
    X(relative_attention_max_distance, 128) \
    X(pad_token_id, 0)                   \
    X(eos_token_id, 1)                   \
    X(decoder_start_token_id, 0)
#define HF_CONFIG_NUMBERS(X) \
    X(dropout_rate, 0.1)     \
    X(layer_norm_epsilon, 1e-6)
#define HF_CONFIG_BOOLS(X)       \
    X(is_gated_act, false)       \
    X(tie_word_embeddings, true) \
    X(scale_decoder_outputs, false) \
    X(is_encoder_decoder, true)
#define HF_CONFIG_STRINGS(X) \
    X(model_type, "")        \
    X(feed_forward_proj, "relu") \
    X(dense_act_fn, "")      \
    X(tokenizer_class, "")   \
    X(torch_dtype, "")

enum { HF_CONFIG_TEXT = 64 };

struct hf_config {
#define HF_INT(name, def) \
    int64_t name;         \
    bool has_##name;
#define HF_NUMBER(name, def) \
    double name;             \
    bool has_##name;
#define HF_BOOL(name, def) \
    bool name;             \
    bool has_##name;
#define HF_STRING(name, def)   \
    char name[HF_CONFIG_TEXT]; \
    bool has_##name;
    HF_CONFIG_INTS(HF_INT)
    HF_CONFIG_NUMBERS(HF_NUMBER)
    HF_CONFIG_BOOLS(HF_BOOL)
    HF_CONFIG_STRINGS(HF_STRING)
#undef HF_INT
#undef HF_NUMBER
#undef HF_BOOL
#undef HF_STRING
};

/* Integers must be whole, 0 .. 2^31; null counts as absent; duplicate keys are refused; a known key
 * of the wrong type is an error that names it. Unknown keys are ignored. */
spt_status hf_config_parse(const char *text, size_t len, struct hf_config *out, spt_err *err);
spt_status hf_config_read(const char *path, struct hf_config *out, spt_err *err);

#endif
