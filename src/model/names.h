/* The parameters of a T5 under both of their names (spec/interop.md section 2.5, spec/t5x.md
 * section 1.12): one table, from which lists, look-ups and conversions are made. */
#ifndef SPT_MODEL_NAMES_H
#define SPT_MODEL_NAMES_H

#include "model/config.h"

enum { T5_NAME_TEXT = 112 };

struct t5_name {
    char t5x[T5_NAME_TEXT]; /* "encoder/layers_0/attention/query/kernel" */
    char hf[T5_NAME_TEXT];  /* "encoder.block.0.layer.0.SelfAttention.q.weight" */
    bool transposed;        /* Hugging Face holds the transpose */
    struct tensor_shape shape; /* under the T5X name */
};

/* Every parameter that the configuration calls for, in T5X tree order. Free with mem_free. */
spt_status t5_names_list(const struct t5_config *c, struct t5_name **out, size_t *count,
                         spt_err *err);
/* Order of T5X trees: component by component, bytewise ("layers_1" < "layers_10" < "layers_2"). */
int t5_names_compare(const char *a, const char *b);

/* What a Hugging Face tensor is that no T5 forward uses. */
enum t5_leftover {
    T5_STRANGER,       /* not in the table: an error */
    T5_IGNORED,        /* no effect whatever its values (cross-attention relative table) */
    T5_MUST_BE_ZERO,   /* norm biases of early conversions */
    T5_EMBEDDING_COPY, /* must equal the token embedding */
    T5_TABLE_COPY      /* a relative table above layer 0: must equal that of layer 0 */
};
enum t5_leftover t5_leftover_of(const char *hf_name);

/* Matches a pattern in which '#' stands for a decimal number without leading zeros. *number (may
 * be NULL) is the first one. */
bool t5_names_match(const char *pattern, const char *name, int64_t *number);

#endif
