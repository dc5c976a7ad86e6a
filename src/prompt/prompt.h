/* A soft prompt: a matrix [P, E] of float32 and its *use*: what must hold when it is applied.
 *
 * A prompt is only valid with the input text, labels, vocabulary and base model it was trained
 * with. These facts travel with the matrix; what a file format cannot keep is reported by the
 * writers (prompt_io.h). Immutable once built; share freely. */
#ifndef SPT_PROMPT_PROMPT_H
#define SPT_PROMPT_PROMPT_H

#include "model/model.h"

/* Texts of the provenance: field, key in files ("spt.<key>"), what it is in messages. NULL means
 * unknown. docs/design/prompt-file.md documents each. */
#define PROMPT_TEXT_MAP(X)                                    \
    X(input_template, "input", "input template")              \
    X(target_template, "target", "target template")           \
    X(task, "task", "task name")                              \
    X(base_hash, "base_hash", "base model hash")              \
    X(base_name, "base_name", "base model name")              \
    X(vocab_hash, "vocab_hash", "vocabulary hash")            \
    X(vocab_rule, "vocab_rule", "vocabulary rule")            \
    X(compute, "compute", "compute type")                     \
    X(initialiser, "initialiser", "initialiser")              \
    X(settings, "settings", "settings")                       \
    X(scores, "scores", "scores (JSON object)")               \
    X(program, "program", "program that wrote it")
/* Numbers; -1 means unknown. */
#define PROMPT_NUMBER_MAP(X)                                  \
    X(max_input, "max_input", "input length")                 \
    X(max_target, "max_target", "target length")              \
    X(step, "step", "step")                                   \
    X(seed, "seed", "seed")

enum prompt_side { PROMPT_ENCODER, PROMPT_DECODER };

struct prompt_use {
#define PROMPT_TEXT_FIELD(field, key, what) char *field;
    PROMPT_TEXT_MAP(PROMPT_TEXT_FIELD)
#undef PROMPT_TEXT_FIELD
#define PROMPT_NUMBER_FIELD(field, key, what) int64_t field;
    PROMPT_NUMBER_MAP(PROMPT_NUMBER_FIELD)
#undef PROMPT_NUMBER_FIELD
    char **labels; /* in their order; NULL: unknown or not a classification */
    size_t label_count;
    enum t5_combine combine;
    enum prompt_side side;
};

struct prompt {
    int64_t P, E;
    float *rows; /* [P, E], from mem_alloc_aligned */
    struct prompt_use use;
    char *source; /* path it was read from, or NULL */
    char *kind;   /* "npy", "safetensors", "t5x", "peft", ... or NULL */
};

/* All-unknown. */
void prompt_use_init(struct prompt_use *u);
void prompt_use_release(struct prompt_use *u); /* accepts all-zero */
spt_status prompt_use_copy(struct prompt_use *to, const struct prompt_use *from, spt_err *err);
/* Replaces a text field: prompt_set_text(&u->task, "sst2", err). NULL makes it unknown. */
spt_status prompt_set_text(char **field, const char *text, spt_err *err);
spt_status prompt_set_labels(struct prompt_use *u, const char *const *labels, size_t count,
                             spt_err *err);

/* Copies rows [P, E]; use may be NULL. Checks P, E >= 1. Values are not checked, see
 * prompt_check_values. */
spt_status prompt_new(int64_t P, int64_t E, const float *rows, const struct prompt_use *use,
                      struct prompt **out, spt_err *err);
void prompt_free(struct prompt *p); /* accepts NULL */

/* NaN and infinities are SPT_E_FORMAT naming row and column (from 0). */
spt_status prompt_check_values(const struct prompt *p, spt_err *err);
/* The width must be E of the model; hints when the matrix looks transposed (P is the width). */
spt_status prompt_check_width(const struct prompt *p, int64_t model_width, spt_err *err);

/* --- does it fit its use? (field case 27) --------------------------------------------------- */

/* What the caller is about to do; NULL or -1: not known, not compared. */
struct prompt_want {
    const char *input_template, *target_template, *base_hash, *base_name, *vocab_hash,
        *vocab_rule, *compute;
    const char *const *labels;
    size_t label_count;
    int64_t max_input, max_target;
    enum t5_combine combine;
    bool has_combine;
};
void prompt_want_init(struct prompt_want *w);

enum prompt_finding_kind {
    PROMPT_OTHER_TEMPLATE, PROMPT_OTHER_BASE, PROMPT_OTHER_VOCAB, PROMPT_OTHER_LABELS,
    PROMPT_OTHER_LENGTHS, PROMPT_OTHER_COMPUTE, PROMPT_OTHER_COMBINE,
};
struct prompt_finding {
    enum prompt_finding_kind kind;
    char text[480]; /* one line that names both */
};
enum { PROMPT_MAX_FINDINGS = 10 };
struct prompt_findings {
    size_t count;
    struct prompt_finding item[PROMPT_MAX_FINDINGS];
};
/* Compares what both sides know. Never fails; count 0 means nothing disagrees. */
void prompt_check_use(const struct prompt *p, const struct prompt_want *want,
                      struct prompt_findings *out);

#endif
