/* Log-likelihood of a target under a tiny Hugging Face T5, computed in double with plain loops from
 * the weights themselves: the yardstick of the field cases. It shares nothing with src/model. Also
 * the way from a model directory to the same figure through the library. */
#ifndef TESTS_SUPPORT_T5REF_H
#define TESTS_SUPPORT_T5REF_H

#include "model/source.h"
#include "support/tiny_t5.h"

enum { T5REF_PAIRS = 4 };

struct t5ref_opts {
    enum ops_activation act;
    bool gated;
    bool scale;       /* decoder output * width^-0.5 */
    const char *head; /* tensor that serves as output head, [V, E] */
    bool per_layer;   /* a relative table in every layer */
};

/* Scores of four fixed pairs (ids below 96). */
void t5ref_scores(const struct tiny_t5 *m, const struct t5ref_opts *o, double out[T5REF_PAIRS]);
/* The same from a directory through source, model and ops (isa: NULL for the default backend).
 * On failure err is filled. */
spt_status t5ref_scores_of_dir(const char *dir, const char *isa, enum ops_compute compute,
                               double out[T5REF_PAIRS], spt_err *err);
/* Both agree within `tol` relative, on ops/ref and the default backend, and two runs bit for bit. */
void t5ref_expect(const char *dir, const double want[T5REF_PAIRS], double tol);

#endif
