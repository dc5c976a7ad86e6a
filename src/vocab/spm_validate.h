/* A SentencePiece ModelProto, parsed and checked completely before anything uses it: ours or the
 * library's code (reliability.md section 3; spec/interop.md sections 4.1 and 4.2).
 *
 * After spm_model_parse succeeded these hold, and nothing downstream checks them again:
 * - 1 .. SPM_MAX_PIECES pieces, each 1 .. SPM_MAX_PIECE bytes of valid UTF-8 without NUL, no two
 *   alike, scores finite, types known, exactly one UNKNOWN, at least one NORMAL;
 * - the model is a unigram model; white space is a prefix;
 * - the charsmap is empty or a graph without cycles: every unit that a walk can read lies inside the array, every
 *   key is at most SPM_MAX_KEY bytes with at most SPM_MAX_NESTED prefixes that are keys, every value
 *   is the start of a NUL-terminated valid UTF-8 string of at most SPM_MAX_REPLACEMENT bytes. */
#ifndef SPT_VOCAB_SPM_VALIDATE_H
#define SPT_VOCAB_SPM_VALIDATE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"

enum {
    SPM_MAX_PIECE = 512,
    SPM_MAX_KEY = 256,
    SPM_MAX_NESTED = 32, /* kMaxTrieResultsSize of the library, which does not check it */
    SPM_MAX_REPLACEMENT = 256,
    SPM_MAX_SURFACE = 64,
};

struct spm_piece {
    uint32_t offset, len; /* of the text in the file's bytes */
    float score;
    uint32_t type; /* enum vocab_piece_type */
};

struct spm_model {
    const unsigned char *bytes; /* the caller's; must outlive the model */
    size_t size;
    struct spm_piece *piece; /* [count] in id order */
    uint32_t *sorted;        /* [count] ids by text, bytewise */
    uint32_t count;
    uint32_t unk_id;
    float min_score; /* of NORMAL pieces */
    float max_score; /* of NORMAL pieces and FLT_MIN, as the library has it */
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    bool byte_fallback;
    int64_t eos_id, pad_id; /* of the trainer spec; -1: none */
    char unk_surface[SPM_MAX_SURFACE + 1];
    const unsigned char *units; /* [unit_count] little-endian uint32, maybe unaligned; NULL: none */
    size_t unit_count;
    const char *pool; /* NUL-terminated strings */
    size_t pool_size;
};

/* `bytes` must stay valid as long as the model. Messages carry the byte offset. */
spt_status spm_model_parse(const void *bytes, size_t size, struct spm_model *out, spt_err *err);
void spm_model_release(struct spm_model *m); /* accepts all-zero */

/* Appends the model's message for the library to `out`: the self test (which the library would
 * run) is left out, `extra_ids` user-defined sentinels are appended as seqio does. */
spt_status spm_model_for_library(const struct spm_model *m, int extra_ids, bool ascending, buf *out,
                                 spt_err *err);

static inline uint32_t spm_unit(const struct spm_model *m, size_t i)
{
    const unsigned char *p = m->units + 4 * i;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
/* Darts-clone units (spec/data.md section 3.2). */
static inline size_t spm_unit_offset(uint32_t u)
{
    return (size_t)(u >> 10) << ((u & 512) >> 6);
}
static inline uint32_t spm_unit_label(uint32_t u)
{
    return u & 0x800000ffu;
}
static inline bool spm_unit_has_leaf(uint32_t u)
{
    return (u >> 8) & 1;
}

#endif
