/* The unigram encoder of SentencePiece in C (spec/data.md section 3.2): the same ids as
 * libsentencepiece, from tables that were validated at open, with our own memory.
 *
 * Immutable after unigram_init; threads share it. Working storage belongs to the caller. */
#ifndef SPT_VOCAB_UNIGRAM_H
#define SPT_VOCAB_UNIGRAM_H

#include "vocab/spm_validate.h"
#include "vocab/vocab.h"

/* A prefix tree as a hash table of edges: slot s holds the edge (parent slot, byte) and the piece
 * that ends there. Eight bytes per edge, so that the memory bound of hostile files holds. */
struct unigram_slot {
    uint32_t edge;  /* parent << 8 | byte; UNIGRAM_EMPTY: free */
    uint32_t piece; /* id + 1, with UNIGRAM_USER; 0: none ends here */
};
#define UNIGRAM_EMPTY 0xffffffffu
#define UNIGRAM_USER 0x80000000u

struct unigram {
    const struct spm_model *m; /* borrowed */
    struct unigram_slot *slot;
    uint32_t slots;
    uint32_t root;             /* parent number of first bytes */
    uint32_t seed;
    uint32_t first[256];       /* slot of the edge from the root, or UNIGRAM_EMPTY */
    uint32_t space;            /* slot of U+2581, or UNIGRAM_EMPTY */
    float *score;              /* [count] */
    float unk_score;
    int32_t extra_first;       /* id of the first appended sentinel */
    int extra_ids;
    bool extra_ascending;
    bool word_bound;           /* no piece holds U+2581 behind its first character */
    bool user_first[256];      /* a user-defined piece starts with this byte */
    /* ASCII: the replacement when the next byte cannot continue a longer key */
    struct { const char *text; uint32_t len; } ascii[128];
    char self[128]; /* each character as a text of its own: an initialised unigram must not move */
    uint32_t continues[128][8]; /* bits: next bytes with which a key may go on */
};

spt_status unigram_init(struct unigram *u, const struct spm_model *m, int extra_ids,
                        bool extra_ascending, spt_err *err);
void unigram_release(struct unigram *u); /* accepts all-zero */
/* Storage used, for tests of the memory bound. */
size_t unigram_bytes(const struct unigram *u);

/* How path scores are summed and compared: this decides exact ties. */
enum unigram_sums {
    UNIGRAM_REFERENCE, /* SentencePiece up to 0.2.0: double candidates against float sums */
    UNIGRAM_SINGLE,    /* SentencePiece 0.2.3: float throughout */
    UNIGRAM_DOUBLE,    /* Hugging Face tokenizers */
};

/* How text is encoded. All zero: as SentencePiece does. */
struct unigram_mode {
    enum unigram_sums sums;
    bool no_dummy_prefix;
    /* As the fast Hugging Face tokenizer: words are segmented one by one, sums in double; a prefix
     * is not doubled when the text starts with U+2581. */
    bool fast;
    bool keep_spaces; /* with fast: older files do not collapse runs of spaces */
};
/* Appends ids to *out. */
spt_status unigram_encode(const struct unigram *u, const char *text, size_t len,
                          struct unigram_mode mode, struct vocab_ids *out, spt_err *err);
/* The normalised text as SentencePiece makes it, appended to `out` (for tests). */
spt_status unigram_normalize(const struct unigram *u, const char *text, size_t len,
                             struct unigram_mode mode, buf *out, spt_err *err);

/* Makes room for `more` ids behind out->count. */
spt_status vocab_ids_reserve(struct vocab_ids *out, size_t more, spt_err *err);

#endif
