/* Tiny Hugging Face T5 directories with random weights, made of model/names.c's own list, so that
 * cases can drop, add and change tensors or the configuration. */
#ifndef TESTS_SUPPORT_TINY_T5_H
#define TESTS_SUPPORT_TINY_T5_H

#include "model/config.h"
#include "store/store.h"

enum { TINY_MAX = 256 };

struct tiny_t5 {
    struct t5_config c;
    struct store_tensor t[TINY_MAX];
    size_t count;
};

/* V 96, E 8, 2 heads of 4, F 12, 2 + 2 layers, gated GELU, untied. */
extern const struct t5_config tiny_t5_default;
/* The text of config.json for that. */
extern const char tiny_t5_config[];

/* Hugging Face names and orientation; values depend on the seed and the name only. */
void tiny_t5_make(struct tiny_t5 *m, const struct t5_config *c, unsigned seed);
void tiny_t5_free(struct tiny_t5 *m);
void tiny_t5_drop(struct tiny_t5 *m, const char *name);
/* Adds a tensor whose values are all `fill`, or random for NAN. Returns its values. */
float *tiny_t5_add(struct tiny_t5 *m, const char *name, struct tensor_shape shape, float fill);
/* Adds a copy under another name. */
void tiny_t5_copy(struct tiny_t5 *m, const char *from, const char *to);
float *tiny_t5_values(struct tiny_t5 *m, const char *name);

/* dir/file as safetensors, from tensors first .. first + n (wrapping is not done). */
void tiny_t5_write_part(const struct tiny_t5 *m, const char *dir, const char *file, size_t first,
                        size_t n);
/* config.json (unless NULL) and model.safetensors. */
void tiny_t5_write(const struct tiny_t5 *m, const char *dir, const char *config);
/* An index of two shards, the first with `first` tensors. */
void tiny_t5_write_sharded(const struct tiny_t5 *m, const char *dir, size_t first);

#endif
