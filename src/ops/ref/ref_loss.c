/* Cross entropy with z-loss and label smoothing (spec/t5x.md section 3.1). */
#include "ops/ref/ref_internal.h"

#include <math.h>

static double log_sum_exp(const real *x, int64_t V)
{
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++)
        if (!((double)x[v] <= max)) /* a NaN becomes the maximum and stays visible */
            max = (double)x[v];
    for (int64_t v = 0; v < V; v++)
        sum += exp((double)x[v] - max);
    return max + log(sum);
}

static int32_t arg_max(const real *x, int64_t V)
{
    int64_t best = 0;
    for (int64_t v = 1; v < V; v++)
        if (x[v] > x[best])
            best = v;
    return (int32_t)best;
}

void REF(loss)(ops *o, void *logits, const struct ops_loss_args *a)
{
    (void)o;
    const double V = (double)a->V, conf = 1 - (double)a->label_smoothing, z = (double)a->z_loss;
    const double low = a->V > 1 ? (1 - conf) / (V - 1) : 1 - conf;
    /* What a perfect prediction would cost. */
    const double norm = -((conf > 0 ? conf * log(conf) : 0) + (V - 1) * low * log(low + 1e-20));
    for (int64_t i = 0; i < a->rows; i++) {
        real *x = (real *)logits + i * a->V;
        const double w = a->weight ? (double)a->weight[i] : 1;
        const double log_z = log_sum_exp(x, a->V);
        const int64_t t = a->target[i];
        double sum = 0; /* of log p over all entries, for the smoothed part */
        if (low > 0)
            for (int64_t v = 0; v < a->V; v++)
                sum += (double)x[v] - log_z;
        const double log_p = (double)x[t] - log_z;
        const double ce = -(conf - low) * log_p - low * sum;
        if (a->log_p)
            a->log_p[i] = log_p;
        if (a->log_z)
            a->log_z[i] = log_z;
        if (a->argmax)
            a->argmax[i] = arg_max(x, a->V);
        a->loss[i] = (ce + z * log_z * log_z - norm) * w;
        if (a->z)
            a->z[i] = z * log_z * log_z * w;
        if (!a->backward)
            continue;
        for (int64_t v = 0; v < a->V; v++) {
            const double soft = v == t ? conf : low;
            const double p = exp((double)x[v] - log_z);
            x[v] = (real)(w * ((1 + 2 * z * log_z) * p - soft));
        }
    }
}

void REF(loss_part)(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                    int64_t n, struct ops_loss_part *out)
{
    (void)o;
    for (int64_t i = 0; i < a->rows; i++) {
        const real *x = (const real *)logits + i * n;
        const int64_t t = a->target[i] - first;
        double sum = 0;
        for (int64_t v = 0; v < n; v++)
            sum += (double)x[v];
        const int32_t best = arg_max(x, n);
        out[i] = (struct ops_loss_part){.log_z = log_sum_exp(x, n),
                                        .sum = sum,
                                        .max = (double)x[best],
                                        .target = t >= 0 && t < n ? (double)x[t] : 0,
                                        .argmax = first + best};
    }
}

void REF(loss_part_bwd)(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                        int64_t n)
{
    (void)o;
    const double V = (double)a->V, conf = 1 - (double)a->label_smoothing, z = (double)a->z_loss;
    const double low = a->V > 1 ? (1 - conf) / (V - 1) : 1 - conf;
    for (int64_t i = 0; i < a->rows; i++) {
        real *x = (real *)logits + i * n;
        const double w = a->weight ? (double)a->weight[i] : 1, log_z = a->log_z[i];
        for (int64_t v = 0; v < n; v++) {
            const double soft = first + v == a->target[i] ? conf : low;
            x[v] = (real)(w * ((1 + 2 * z * log_z) * exp((double)x[v] - log_z) - soft));
        }
    }
}
