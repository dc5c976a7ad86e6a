/* Golden cases of whole models: settings from golden.json, parameters from safetensors files under
 * T5X or Hugging Face names, every backend that this machine has. */
#ifndef TESTS_SUPPORT_GOLDEN_MODEL_H
#define TESTS_SUPPORT_GOLDEN_MODEL_H

#include "support/golden.h"
#include "support/params.h"

/* A value of <folder>/golden.json (or another file) by its path: "settings/model/emb",
 * "values/loss", "values/list/0"; a slash inside a key is written as a backslash. Fails the test when
 * it is not there. null is NaN. */
double golden_number(const char *folder, const char *file, const char *path);
bool golden_has(const char *folder, const char *file, const char *path);
/* Key number i of the object at `path`, NULL behind the last. Static for 16 calls. */
const char *golden_key(const char *folder, const char *file, const char *path, int i);
/* The value's text as in the file, without quotes; NULL when absent. Static for 16 calls. */
const char *golden_value(const char *folder, const char *file, const char *path);

/* Calls run(ops, isa, ctx) for every backend: SPT_TEST_ISA (a comma-separated list) or all of ref,
 * ref64, avx2, avx512 that the machine has. Fails when none ran. */
typedef void (*golden_run)(ops *o, const char *isa, void *ctx);
void golden_every_isa(golden_run run, void *ctx);

/* The configuration that a golden.json of the T5X stack describes in settings/model. */
struct t5_config golden_config(const char *folder);
/* Parameters of <folder>/<file>.safetensors under T5X names. */
t5_model *golden_model_t5x(ops *o, const struct t5_config *c, const char *folder, const char *file,
                           unsigned uses);
/* The part of it that a rank holds. */
t5_model *golden_model_part(ops *o, const struct t5_config *c, const char *folder, const char *file,
                            unsigned uses, comm *ranks);
/* The mini models of hf/: "mini_model" (T5 1.1) or "mini_model_v1_0". */
t5_model *golden_model_hf(ops *o, const char *dir, bool v1_0, unsigned uses);

/* The arrays <prefix>.encoder_input_tokens.npy ... of a folder as a packed batch. */
void golden_batch(struct test_batch *t, const char *folder, const char *prefix);

/* Largest |got - want| over the largest |want|. */
double golden_rel(const float *got, const float *want, size_t n);

#define EXPECT_BELOW(what, value, tol)                                                             \
    do {                                                                                           \
        const double v_ = (value);                                                                 \
        if (!(v_ <= (tol)))                                                                        \
            fail_msg("%s:%d: %s: %.3g, allowed %.3g", __FILE__, __LINE__, what, v_,                \
                     (double)(tol));                                                               \
    } while (0)

#endif
