/* Padding, shifting and weights of the reference's feature converters. */
#include "task/convert.h"

#include <string.h>

static spt_status pad(const char *name, const int32_t *id, size_t n, size_t len, int32_t *out,
                      spt_err *err)
{
    if (n > len)
        return err_set(err, SPT_E_FORMAT, "%s: %zu ids, the feature length is %zu", name, n, len);
    if (n)
        memcpy(out, id, n * sizeof *id);
    memset(out + n, 0, (len - n) * sizeof *out);
    return SPT_OK;
}

static void shift(const int32_t *target, size_t len, int32_t *out)
{
    for (size_t i = 0; i < len; i++)
        out[i] = i ? target[i - 1] : 0;
}

static void weigh(const int32_t *target, size_t len, int32_t *out)
{
    for (size_t i = 0; i < len; i++)
        out[i] = target[i] != 0;
}

spt_status convert_encdec(const int32_t *inputs, size_t n, size_t inputs_len,
                          const int32_t *targets, size_t m, size_t targets_len,
                          const struct encdec_features *out, spt_err *err)
{
    TRY(pad("inputs", inputs, n, inputs_len, out->encoder_input, err));
    TRY(pad("targets", targets, m, targets_len, out->decoder_target, err));
    shift(out->decoder_target, targets_len, out->decoder_input);
    weigh(out->decoder_target, targets_len, out->loss_weight);
    return SPT_OK;
}

spt_status convert_lm(const int32_t *targets, size_t n, size_t len,
                      const struct decoder_features *out, spt_err *err)
{
    TRY(pad("targets", targets, n, len, out->target, err));
    shift(out->target, len, out->input);
    weigh(out->target, len, out->loss_weight);
    return SPT_OK;
}

spt_status convert_prefix_lm(const int32_t *inputs, size_t n, size_t inputs_len,
                             const int32_t *targets, size_t m, size_t targets_len,
                             bool loss_on_targets_only, const struct decoder_features *out,
                             spt_err *err)
{
    static const int32_t zero = 0;
    const size_t len = inputs_len + targets_len;
    if (!m) {
        targets = &zero;
        m = 1;
    }
    if (n > inputs_len || m > targets_len)
        return err_set(err, SPT_E_FORMAT, "%zu and %zu ids, the feature lengths are %zu and %zu", n,
                       m, inputs_len, targets_len);
    TRY(pad("inputs", inputs, n, len, out->target, err));
    memcpy(out->target + n, targets, m * sizeof *targets);
    shift(out->target, len, out->input);
    for (size_t i = 0; i < len; i++) {
        const bool inside = i < n + m, real = out->target[i] != 0;
        const bool prefix = inside && i < n;
        out->causal[i] = inside && i < n + 1;
        out->loss_weight[i] = loss_on_targets_only ? prefix != real : real;
    }
    return SPT_OK;
}
