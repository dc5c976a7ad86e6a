/* Text <-> ids. One opaque, immutable object for every vocabulary that a T5 has: SentencePiece
 * unigram files, Hugging Face directories (spiece.model, tokenizer.json) and bytes (ByT5).
 *
 *     vocab *v = NULL;
 *     struct vocab_ids ids = {0};
 *     TRY(vocab_open("path/of/model-or-file", NULL, &v, err));
 *     TRY(vocab_encode(v, text, len, &ids, err));      // ids.id[0 .. ids.count), no EOS
 *     TRY(vocab_append_eos(v, &ids, err));
 *
 * A vocab may be shared by any number of threads; a vocab_ids belongs to one thread at a time. */
#ifndef SPT_VOCAB_VOCAB_H
#define SPT_VOCAB_VOCAB_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct vocab vocab;

/* Which rule turns text into ids (spec/data.md section 3, spec/interop.md sections 4.4-4.6). */
enum vocab_rule {
    VOCAB_AUTO,      /* vocab_open decides, see there */
    VOCAB_PLAIN,     /* the pieces of the file, nothing added */
    VOCAB_SEQIO,     /* 100 user-defined pieces U+2581<extra_id_i> behind them; specials are text */
    VOCAB_HF_SLOW,   /* T5Tokenizer: </s>, <pad>, <unk>, <extra_id_i> in the text are ids */
    VOCAB_HF_FAST,   /* T5TokenizerFast */
    VOCAB_BYTES,     /* seqio ByteVocabulary: 259 ids */
    VOCAB_BYTES_HF,  /* ByT5Tokenizer: 125 <extra_id_i> from 259 on; specials in the text are ids */
};

struct vocab_opts {
    enum vocab_rule rule;
    int extra_ids;  /* sentinels to add: VOCAB_EXTRA_AUTO, or 0 .. 1000 */
    bool extra_ids_ascending; /* seqio's reverse_extra_ids = False */
    bool newer_ties; /* exact ties as SentencePiece 0.2.3 cuts them, not as up to 0.2.0 (SeqIO) */
    bool use_library; /* segment with libsentencepiece itself (slower, same ids) */
};
enum { VOCAB_EXTRA_AUTO = -1 };
/* rule AUTO, extra ids AUTO. NULL as options means the same. */
void vocab_opts_init(struct vocab_opts *o);

/* `path`: a model directory, a vocabulary file, or the word "bytes".
 * Directory: spiece.model, sentencepiece.model, tokenizer.model, spm.model, the only other *.model,
 * tokenizer.json, or (config or tokenizer_config.json naming ByT5Tokenizer) bytes; a checkpoint
 * directory without any of these is looked at one level up, too. When nothing is there the error
 * (SPT_E_NOTFOUND) lists the places.
 * Rule AUTO: Hugging Face rules when the directory holds tokenizer_config.json or tokenizer.json
 * (fast when tokenizer.json is there or the class name ends in Fast), otherwise VOCAB_SEQIO.
 * Extra ids AUTO: 100 (bytes: 0, Hugging Face bytes: 125; tokenizer_config.json may say another
 * number), none when the file holds sentinels itself (mT5). */
spt_status vocab_open(const char *path, const struct vocab_opts *opts, vocab **out, spt_err *err);
/* The same for the bytes of a SentencePiece model; `name` is for messages. */
spt_status vocab_open_memory(const void *bytes, size_t size, const char *name,
                             const struct vocab_opts *opts, vocab **out, spt_err *err);
void vocab_close(vocab *v);

/* --- encoding ------------------------------------------------------------------------------ */

/* A growing list of ids plus the working storage of the encoder, so that reuse allocates nothing.
 * Starts all-zero. */
struct vocab_ids {
    int32_t *id;
    size_t count, cap;
    void *scratch; /* private */
    size_t scratch_cap;
};
void vocab_ids_release(struct vocab_ids *ids);

/* Appends the ids of `text` (UTF-8; invalid bytes become U+FFFD as in SentencePiece) to *out, no
 * BOS, no EOS. Set out->count = 0 to reuse. On failure count is as before. */
spt_status vocab_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                        spt_err *err);
/* Appends EOS. The slow Hugging Face tokenizer does not add a second one. */
spt_status vocab_append_eos(const vocab *v, struct vocab_ids *ids, spt_err *err);

/* --- decoding ------------------------------------------------------------------------------ */

/* Appends the text of ids up to the first EOS to *out (init it with a maximum). Ids at or above
 * the size are unknown, negative ids are SPT_E_USAGE. Hugging Face rules leave special tokens out
 * (skip_special_tokens). */
spt_status vocab_decode(const vocab *v, const int32_t *ids, size_t n, buf *out, spt_err *err);

/* --- facts --------------------------------------------------------------------------------- */

/* Number of ids, sentinels included (T5: 32,100; the embedding may have more rows). */
int32_t vocab_size(const vocab *v);
/* Ids that the file itself holds, added sentinels not counted (T5: 32,000). */
int32_t vocab_base_size(const vocab *v);
int32_t vocab_pad_id(const vocab *v); /* 0 */
int32_t vocab_eos_id(const vocab *v); /* 1 */
int32_t vocab_unk_id(const vocab *v); /* 2 */
/* <extra_id_i>, or -1. */
int32_t vocab_sentinel_id(const vocab *v, int i);
/* Text of a piece, not NUL-terminated ("" for ids out of range); valid as long as v. Bytes are
 * "<0x41>". Sentinels of SeqIO read U+2581<extra_id_0>. */
const char *vocab_piece(const vocab *v, int32_t id, size_t *len);
/* Id of a piece by its exact text; -1 when there is none. */
int32_t vocab_piece_id(const vocab *v, const char *piece, size_t len);
enum vocab_piece_type {
    VOCAB_NORMAL = 1, VOCAB_UNKNOWN, VOCAB_CONTROL, VOCAB_USER_DEFINED, VOCAB_UNUSED, VOCAB_BYTE
};
enum vocab_piece_type vocab_piece_type(const vocab *v, int32_t id);
float vocab_piece_score(const vocab *v, int32_t id);

/* XXH3-128 of the vocabulary file's bytes (bytes: of a fixed text), 32 hex digits. */
const char *vocab_hash(const vocab *v);
/* The file it came from, or "bytes". */
const char *vocab_path(const vocab *v);
enum vocab_rule vocab_rule(const vocab *v);
/* The rule in one line for the story, e.g. "SeqIO rules, 100 extra ids (32000 .. 32099)". */
const char *vocab_rule_text(const vocab *v);
/* Short name for files: "plain", "seqio", "hf-slow", "hf-slow-legacy", "hf-fast", ... */
const char *vocab_rule_name(const vocab *v);

/* --- checks of labels and targets (field cases 17 and 18) ---------------------------------- */

struct vocab_writable {
    size_t unknown;  /* characters that become the unknown id */
    bool round_trip; /* decode(encode(text)) == text, byte for byte */
    bool has_special; /* the text put pad or EOS into the ids */
};
/* `unwritable` (may be NULL) receives each such character once, separated by spaces. */
spt_status vocab_check_writable(const vocab *v, const char *text, size_t len,
                                struct vocab_writable *out, buf *unwritable, spt_err *err);

#endif
