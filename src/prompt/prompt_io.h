/* Prompt files of every kind (docs/design/prompt-file.md):
 *   .npy, with or without the extension (the reference's), float64/32/16, C or Fortran order
 *   safetensors with our provenance in the metadata
 *   T5X: numpy_checkpoints/checkpoint_<step>/<dotted name>, checkpoint_<step> with
 *        target/encoder/prompt/prompt/prompt
 *   PEFT adapter directories
 *   IBM TGIS encoder.pt (a bare torch tensor), or the directory that holds it
 *   a run directory of ours, which means its best prompt */
#ifndef SPT_PROMPT_PROMPT_IO_H
#define SPT_PROMPT_PROMPT_IO_H

#include "base/buf.h"
#include "prompt/prompt.h"

/* Names below a run directory. best.json is written when an evaluation is the best so far:
 * {"prompt": "prompt-120.safetensors", "step": 120, "metric": "accuracy", "score": 0.91}. Without
 * it the prompt of the highest step counts. */
#define PROMPT_BEST_FILE "best.json"
#define PROMPT_FILE_PREFIX "prompt-"
#define PROMPT_FILE_SUFFIX ".safetensors"
/* "prompt-120.safetensors" into text[PROMPT_NAME_TEXT]; returns text. */
enum { PROMPT_NAME_TEXT = 64 };
char *prompt_file_name(int64_t step, char *text);
struct prompt_best {
    const char *file; /* plain file name below the run directory */
    int64_t step;
    const char *metric;
    double score;
};
/* The text of best.json, for atomic writing by the caller or with prompt_best_write. */
spt_status prompt_best_text(const struct prompt_best *best, buf *out, spt_err *err);
spt_status prompt_best_write(const char *run_dir, const struct prompt_best *best, spt_err *err);
/* The path of the best prompt of a run directory (a buf with a maximum, appended). SPT_E_NOTFOUND
 * when it holds none. */
spt_status prompt_best_path(const char *run_dir, buf *path, spt_err *err);

/* Where the prompt of a path really is (a buf with a maximum, appended): the best prompt of a run
 * directory, the numpy file of a T5X directory; else the path itself. */
spt_status prompt_resolve(const char *path, enum prompt_side side, buf *out, spt_err *err);

/* T5X parameter names. */
#define PROMPT_T5X_ENCODER "encoder/prompt/prompt/prompt"
#define PROMPT_T5X_DECODER "decoder/prompt/prompt/prompt"

struct prompt_read_opts {
    enum prompt_side side;   /* which of the two when a file holds both */
    const char *tensor;      /* another tensor of a checkpoint or safetensors file, or NULL */
    int64_t task;            /* PEFT multitask adapters: which task */
    bool npy_bf16;           /* accept |V2 arrays as bfloat16 */
    int64_t width;           /* E of the model: another one is refused; 0: not known */
    bool any_shape;          /* not known, and also take what looks transposed */
};
/* Values are checked for NaN and infinity, the shape for [P, E] (rank 1 counts as P = 1); rows that
 * are all zero are warned about. opts may be NULL. */
spt_status prompt_read(const char *path, const struct prompt_read_opts *opts, struct prompt **out,
                       spt_err *err);

enum prompt_format {
    PROMPT_NPY, PROMPT_SAFETENSORS, PROMPT_T5X_NUMPY, PROMPT_PEFT
};
/* By the name: *.npy, *.safetensors, numpy_checkpoints/... or checkpoint_<step> (T5X numpy), a
 * directory or a name that ends in "/" or ".peft" (PEFT). SPT_E_USAGE when it says nothing. */
spt_status prompt_format_of(const char *path, enum prompt_format *out, spt_err *err);
const char *prompt_format_name(enum prompt_format f);

struct prompt_write_opts {
    int64_t num_heads, num_layers; /* of the base, for PEFT; 0: unknown */
    int peft_submodules;           /* 1 (when 0) or 2 */
    bool force; /* PEFT: into a directory that has other files */
};
/* What the target format cannot keep: names of provenance that the prompt has and the file will
 * not carry, e.g. "input template". Static strings. */
struct prompt_dropped {
    size_t count;
    const char *what[24];
};
/* Atomic. `path`: the file (npy, safetensors), the MODEL_DIR or its
 * numpy_checkpoints/checkpoint_<step> (T5X), the directory (PEFT). `dropped` may be NULL.
 * A decoder prompt or one not combined as prefix is refused for PEFT, as is a directory that has
 * files in it and is no adapter. */
spt_status prompt_write(const struct prompt *p, const char *path, enum prompt_format format,
                        const struct prompt_write_opts *opts, struct prompt_dropped *dropped,
                        spt_err *err);
void prompt_dropped_for(const struct prompt *p, enum prompt_format format,
                        struct prompt_dropped *out);
/* "the input template, the label set and the seed" into out (one line). */
void prompt_dropped_text(const struct prompt_dropped *d, char *text, size_t cap);

/* The bytes of a safetensors prompt file, for a checkpoint's exports; free *bytes with mem_free. */
spt_status prompt_serialize(const struct prompt *p, char **bytes, size_t *size, spt_err *err);

#endif
