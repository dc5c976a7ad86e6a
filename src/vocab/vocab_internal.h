/* The object behind vocab.h. */
#ifndef SPT_VOCAB_VOCAB_INTERNAL_H
#define SPT_VOCAB_VOCAB_INTERNAL_H

#include "codec/hash.h"
#include "vocab/hf_tokenizer.h"
#include "vocab/spm_shim.h"
#include "vocab/unigram.h"
#include "vocab/vocab.h"

struct vocab {
    enum vocab_rule rule;
    bool legacy; /* Hugging Face rules: a prefix in front of every piece of text */
    char *path;
    char hash[HASH_TEXT];
    char rule_text[200], rule_name[24];
    int32_t size, base_size;
    int32_t pad, eos, unk;
    int extra_ids; /* sentinels behind the base ids */
    bool extra_ascending;

    /* SentencePiece */
    buf file; /* the ModelProto; model points into it */
    struct spm_model model;
    struct unigram uni;
    enum unigram_sums sums; /* of the plain and SeqIO rules */
    spm *library;        /* encodes and decodes, when asked for or needed (byte fallback) */
    char (*extra)[40];   /* [extra_ids] texts of the sentinels */
    size_t unk_skip;     /* ids of "<unk>" without a prefix (the slow tokenizer's trick) */
    int32_t space_id;    /* of the piece U+2581, or -1 */

    struct hf_tokenizer hf; /* added tokens, Hugging Face rules only */
    bool added_first[256];  /* an added token starts with this byte */
};

static inline bool vocab_is_bytes(const vocab *v)
{
    return v->rule == VOCAB_BYTES || v->rule == VOCAB_BYTES_HF;
}
static inline bool vocab_is_hf(const vocab *v)
{
    return v->rule == VOCAB_HF_SLOW || v->rule == VOCAB_HF_FAST || v->rule == VOCAB_BYTES_HF;
}

/* Where a vocabulary is, decided before anything is parsed (vocab_find.c). */
struct vocab_place {
    enum vocab_place_kind { PLACE_SPM, PLACE_TOKENIZER_JSON, PLACE_BYTES } kind;
    char *path;       /* the file (SPM, TOKENIZER_JSON) or the directory (BYTES) */
    char *config;     /* tokenizer_config.json beside it, or NULL */
    bool has_tokenizer_json;
    bool byt5_config; /* tokenizer_config.json or config.json names ByT5Tokenizer */
};
spt_status vocab_find(const char *path, struct vocab_place *out, spt_err *err);
void vocab_place_release(struct vocab_place *p);

/* Hugging Face encoding (hf_encode.c): text cut at added tokens. */
spt_status vocab_hf_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                           spt_err *err);
/* Bytes (vocab_bytes.c). */
spt_status vocab_bytes_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                              spt_err *err);
spt_status vocab_bytes_decode(const vocab *v, const int32_t *ids, size_t n, buf *out, spt_err *err);
const char *vocab_bytes_piece(int32_t id, size_t *len);

/* The added token with this id, or NULL. */
const struct hf_added *vocab_added_by_id(const vocab *v, int32_t id);

enum { BYTE_BASE = 259, BYTE_OFFSET = 3 };

#endif
