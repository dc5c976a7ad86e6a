/* What splitting a matrix or a vocabulary over several contexts needs, outside of any backend. */
#include <math.h>

#include "ops/ops.h"

struct ops_matrix ops_matrix_cut(const struct ops_matrix *m, int64_t k, int64_t K, int64_t n,
                                 int64_t N)
{
    const int64_t ld = ops_matrix_ld(m), row = m->transposed ? n : k;
    const int64_t column = m->transposed ? k : n;
    struct ops_matrix cut = *m;
    cut.ld = ld;
    cut.view.shape.dim[0] = m->transposed ? N : K;
    cut.view.shape.dim[1] = m->transposed ? K : N;
    cut.view.data =
        (const char *)m->view.data + (size_t)(row * ld + column) * dtype_size(m->view.dtype);
    return cut;
}

/* The same arithmetic as a whole row's (ops/ref/ref_loss.c), of sums that are made in the order of
 * the parts. */
static void join_row(const struct ops_loss_args *a, int64_t i, int nparts,
                     const struct ops_loss_part *parts)
{
    const double V = (double)a->V, conf = 1 - (double)a->label_smoothing, z = (double)a->z_loss;
    const double low = a->V > 1 ? (1 - conf) / (V - 1) : 1 - conf;
    const double norm = -((conf > 0 ? conf * log(conf) : 0) + (V - 1) * low * log(low + 1e-20));
    const double w = a->weight ? (double)a->weight[i] : 1;
    const struct ops_loss_part *best = &parts[i];
    double top = -INFINITY, exps = 0, sum = 0, target = 0;
    for (int p = 0; p < nparts; p++) {
        const struct ops_loss_part *at = &parts[(int64_t)p * a->rows + i];
        if (!(at->log_z <= top)) /* a NaN becomes the maximum and stays visible */
            top = at->log_z;
        if (at->max > best->max)
            best = at;
    }
    for (int p = 0; p < nparts; p++) {
        const struct ops_loss_part *at = &parts[(int64_t)p * a->rows + i];
        exps += exp(at->log_z - top);
        sum += at->sum;
        target += at->target;
    }
    const double log_z = top + log(exps), log_p = target - log_z;
    const double ce = -(conf - low) * log_p - (low > 0 ? low * (sum - V * log_z) : 0);
    a->log_z[i] = log_z;
    if (a->log_p)
        a->log_p[i] = log_p;
    if (a->argmax)
        a->argmax[i] = (int32_t)best->argmax;
    a->loss[i] = (ce + z * log_z * log_z - norm) * w;
    if (a->z)
        a->z[i] = z * log_z * log_z * w;
}

void ops_loss_join(const struct ops_loss_args *a, int nparts, const struct ops_loss_part *parts)
{
    for (int64_t i = 0; i < a->rows; i++)
        join_row(a, i, nparts, parts);
}
