/* Hugging Face tokenizer files: tokenizer_config.json and tokenizer.json as they are written for
 * T5 (spec/interop.md sections 4.4 and 4.5). Other shapes are refused by name. */
#ifndef SPT_VOCAB_HF_TOKENIZER_H
#define SPT_VOCAB_HF_TOKENIZER_H

#include <stdbool.h>

#include "base/buf.h"

/* A token that is matched in the text before segmentation. */
struct hf_added {
    char *text;
    size_t len;
    int32_t id;
    bool lstrip, rstrip; /* swallows white space on that side */
    bool special;
};

struct hf_tokenizer {
    char class_name[64];     /* tokenizer_class, "" when absent */
    bool legacy, has_legacy; /* absent means true */
    int extra_ids;           /* -1: the file does not say */
    struct hf_added *added;
    size_t added_count, added_cap;
    /* of tokenizer.json */
    bool keep_spaces; /* no part of it collapses runs of spaces */
};

void hf_tokenizer_init(struct hf_tokenizer *t);
void hf_tokenizer_release(struct hf_tokenizer *t); /* accepts all-zero */
/* Adds a token, or replaces the flags of one that is there. */
spt_status hf_tokenizer_add(struct hf_tokenizer *t, const char *text, size_t len, int32_t id,
                            bool lstrip, bool rstrip, bool special, spt_err *err);

spt_status hf_tokenizer_config_parse(const char *json, size_t len, struct hf_tokenizer *out,
                                     spt_err *err);
/* Also appends the pieces, scores and character map as a SentencePiece ModelProto to `model`. */
spt_status hf_tokenizer_json_parse(const char *json, size_t len, struct hf_tokenizer *out,
                                   buf *model, spt_err *err);

#endif
