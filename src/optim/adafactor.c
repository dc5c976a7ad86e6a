/* Adafactor in T5X's order of float32 operations.
 *
 * What the published implementation decides and a paper reader would not expect:
 *  - weight decay multiplies the old parameter by (1 - rate) and ignores the learning rate;
 *  - the decay of the second moments follows the step before its increment, pre-training included,
 *    and is evaluated in float32, where it is coarse at large steps (0.99998534 at 1,100,000);
 *  - epsilon1 is added to the squared gradient, not to the moment;
 *  - rank <= 2 is factored by size alone (both dimensions >= 128), whatever the axes are called: a
 *    prompt of 100 rows is not factored, one of 150 rows at width 768 is.
 * A tensor of higher rank is factored along its named axes; RMS and clipping then work per position
 * of its BATCH axes.
 *
 * Means are summed in double and rounded once: the order of XLA's float32 sums is unspecified, and
 * this result lies within rounding of each of them. Reference: spec/t5x.md sections 4.1 to 4.5. */
#include "optim/adafactor.h"

#include <math.h>
#include <string.h>

#include "optim/optim_internal.h"

struct adafactor_opts adafactor_defaults(void)
{
    return (struct adafactor_opts){.factored = true,
                                   .multiply_by_parameter_scale = true,
                                   .beta1 = -1,
                                   .decay_rate = 0.8,
                                   .clipping_threshold = 1.0,
                                   .min_dim_size_to_factor = 128,
                                   .epsilon1 = 1e-30,
                                   .epsilon2 = 1e-3};
}

struct adafactor_opts adafactor_hugging_face(double weight_decay)
{
    struct adafactor_opts a = adafactor_defaults();
    a.multiply_by_parameter_scale = false;
    a.min_dim_size_to_factor = 1;
    a.weight_decay_rate = weight_decay;
    a.weight_decay_rate_lr_exponent = weight_decay > 0 ? 1 : 0;
    return a;
}

static spt_status check(const struct optim_config *cfg, spt_err *err)
{
    const struct adafactor_opts *a = &cfg->adafactor;
    const struct {
        const char *name;
        double value;
        bool ok;
    } rules[] = {
        {"beta1", a->beta1, a->beta1 < 1},
        {"decay_rate", a->decay_rate, a->decay_rate >= 0},
        {"clipping_threshold", a->clipping_threshold, a->clipping_threshold >= 0},
        {"weight_decay_rate", a->weight_decay_rate, a->weight_decay_rate >= 0},
        {"min_dim_size_to_factor", (double)a->min_dim_size_to_factor,
         a->min_dim_size_to_factor >= 0},
        {"epsilon1", a->epsilon1, a->epsilon1 >= 0},
        {"epsilon2", a->epsilon2, a->epsilon2 >= 0},
        {"max_parameter_scale", a->max_parameter_scale, a->max_parameter_scale >= 0},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!rules[i].ok || !isfinite(rules[i].value))
            return err_set(err, SPT_E_CONFIG, "adafactor: %s = %g is out of range", rules[i].name,
                           rules[i].value);
    return SPT_OK;
}

/* --- which axes are factored ---------------------------------------------------------------- */

enum axis_rule { AXIS_NONE, AXIS_ROW, AXIS_COLUMN, AXIS_BATCH };

/* T5X's standard rules and the group that Prompt Tuning adds (spec/t5x.md section 4.4). */
static const struct {
    const char *name;
    enum axis_rule rule;
} axis_rules[] = {
    {"vocab", AXIS_COLUMN},
    {"embed", AXIS_ROW},
    {"mlp", AXIS_COLUMN},
    {"heads", AXIS_COLUMN},
    {"kv", AXIS_COLUMN},
    {"joined_kv", AXIS_COLUMN},
    {"mlp_activations", AXIS_COLUMN},
    {"q_wi_fused", AXIS_COLUMN},
    {"o_wo_fused", AXIS_COLUMN},
    {"multiquery_heads", AXIS_COLUMN},
    {"kv_fused", AXIS_COLUMN},
    {"relpos_buckets", AXIS_NONE},
    {"layer_norm_scale", AXIS_NONE},
    {"layers", AXIS_BATCH},
    {"stack", AXIS_BATCH},
    {"batch", AXIS_BATCH},
    {"prompt", AXIS_NONE},
    {"tasks", AXIS_NONE},
    {"prompt+embed", AXIS_NONE},
    {"prompt_embed", AXIS_NONE},
};

static spt_status rule_of(const char *name, size_t len, enum axis_rule *out, spt_err *err)
{
    for (size_t i = 0; i < sizeof axis_rules / sizeof *axis_rules; i++)
        if (strlen(axis_rules[i].name) == len && memcmp(axis_rules[i].name, name, len) == 0) {
            *out = axis_rules[i].rule;
            return SPT_OK;
        }
    return err_set(err, SPT_E_CONFIG, "adafactor has no rule for axis '%.*s'",
                   (int)(len < 100 ? len : 100), name);
}

/* Fills rule[] and says which rules occur. */
static spt_status parse_axes(const struct optim_info *p, enum axis_rule *rule, bool has[4],
                             spt_err *err)
{
    int n = 0;
    for (const char *s = p->axes; s;) {
        const size_t len = strcspn(s, ",");
        if (n == p->shape.rank)
            return err_set(err, SPT_E_CONFIG, "axes '%s' do not fit a tensor of rank %d", p->axes,
                           p->shape.rank);
        TRY(rule_of(s, len, &rule[n], err));
        has[rule[n++]] = true;
        s = s[len] ? s + len + 1 : NULL;
    }
    if (n && n != p->shape.rank)
        return err_set(err, SPT_E_CONFIG, "axes '%s' do not fit a tensor of rank %d", p->axes,
                       p->shape.rank);
    return SPT_OK;
}

/* The size rule for rank 2: the larger axis (the second of equals) is the column axis. */
static void factor_by_size(const struct optim_info *p, int64_t least, enum axis_rule *rule)
{
    const int64_t *dim = p->shape.dim;
    if (p->shape.rank < 2 || dim[0] < least || dim[1] < least)
        return;
    const int column = dim[1] >= dim[0];
    rule[column] = AXIS_COLUMN;
    rule[!column] = AXIS_ROW;
}

static spt_status choose_rules(const struct adafactor_opts *a, const struct optim_info *p,
                               enum axis_rule *rule, spt_err *err)
{
    bool has[4] = {false};
    if (!a->factored)
        return SPT_OK;
    TRY(parse_axes(p, rule, has, err));
    if (p->shape.rank > 2 && !p->axes)
        return err_set(err, SPT_E_CONFIG,
                       "a tensor of rank %d needs the names of its axes to be factored",
                       p->shape.rank);
    if (p->shape.rank <= 2 && !has[AXIS_BATCH]) {
        for (int i = 0; i < p->shape.rank; i++)
            rule[i] = AXIS_NONE; /* names are ignored */
        factor_by_size(p, a->min_dim_size_to_factor, rule);
        return SPT_OK;
    }
    if (has[AXIS_ROW] && has[AXIS_COLUMN] && has[AXIS_NONE])
        return err_set(err, SPT_E_CONFIG, "axes '%s' are only partly factored", p->axes);
    if (!has[AXIS_ROW] || !has[AXIS_COLUMN])
        for (int i = 0; i < p->shape.rank; i++)
            if (rule[i] != AXIS_BATCH)
                rule[i] = AXIS_NONE;
    return SPT_OK;
}

/* --- slots ---------------------------------------------------------------------------------- */

enum { SLOT_V_ROW, SLOT_V_COL, SLOT_V, SLOT_M };

/* Strides over the axes that keep() accepts, 0 over the others; returns the number of entries. */
static int64_t kept_strides(const struct tensor_shape *s, const enum axis_rule *rule,
                            const bool keep[4], int64_t *stride, struct tensor_shape *kept)
{
    int64_t n = 1;
    kept->rank = 0;
    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = keep[rule[i]] ? n : 0;
        n *= keep[rule[i]] ? s->dim[i] : 1;
    }
    for (int i = 0; i < s->rank; i++)
        if (keep[rule[i]])
            kept->dim[kept->rank++] = s->dim[i];
    return n;
}

static spt_status plan_param(optim *o, size_t i, spt_err *err)
{
    static const bool keep_row[4] = {true, true, false, true}; /* v_row: without columns */
    static const bool keep_col[4] = {true, false, true, true};
    static const bool keep_group[4] = {false, false, false, true};
    struct optim_info *p = &o->info[i];
    struct optim_factoring *f = &p->f;
    const struct adafactor_opts *a = &o->cfg.adafactor;
    const struct tensor_shape unused = shape_1d(1);
    struct tensor_shape row, col, group;
    enum axis_rule rule[TENSOR_MAX_RANK] = {AXIS_NONE};
    TRY(choose_rules(a, p, rule, err));
    for (int d = 0; d < p->shape.rank; d++)
        f->factored |= rule[d] == AXIS_ROW;
    f->rows = kept_strides(&p->shape, rule, keep_row, f->row_stride, &row);
    f->cols = kept_strides(&p->shape, rule, keep_col, f->col_stride, &col);
    f->groups = kept_strides(&p->shape, rule, keep_group, f->group_stride, &group);
    const size_t sums = 2 * (size_t)f->groups + (f->factored ? (size_t)(f->rows + f->cols) : 0);
    o->need_sums = sums > o->need_sums ? sums : o->need_sums;

    const struct {
        const char *name;
        enum dtype dtype;
        const struct tensor_shape *shape;
    } slots[] = {
        [SLOT_V_ROW] = {"/v_row", DT_F32, f->factored ? &row : &unused},
        [SLOT_V_COL] = {"/v_col", DT_F32, f->factored ? &col : &unused},
        [SLOT_V] = {"/v", DT_F32, f->factored ? &unused : &p->shape},
        [SLOT_M] = {"/m", a->beta1 >= 0 && a->momentum_bfloat16 ? DT_BF16 : DT_F32,
                    a->beta1 >= 0 ? &p->shape : &unused},
    };
    for (size_t s = 0; s < sizeof slots / sizeof *slots; s++)
        TRY(optim_add_slot(o, slots[s].dtype, slots[s].shape, "param_states/", p->path,
                           slots[s].name, err));
    return SPT_OK;
}

/* --- one update ----------------------------------------------------------------------------- */

/* A walk over the runs of a tensor along its last axis. */
struct run {
    size_t at;                  /* first element */
    int64_t length;             /* elements of the run */
    int64_t row, col, group;    /* entries of its first element */
    int64_t drow, dcol, dgroup; /* steps of the entries along the run */
};

/* Fills in run number n (0 first); the caller stops after `elements`. */
static struct run run_at(const struct optim_info *p, int64_t n)
{
    const struct optim_factoring *f = &p->f;
    const int last = p->shape.rank - 1;
    if (last < 0)
        return (struct run){.length = 1};
    struct run r = {.at = (size_t)(n * p->shape.dim[last]),
                    .length = p->shape.dim[last],
                    .drow = f->row_stride[last],
                    .dcol = f->col_stride[last],
                    .dgroup = f->group_stride[last]};
    for (int i = last - 1; i >= 0; i--) {
        const int64_t index = n % p->shape.dim[i];
        n /= p->shape.dim[i];
        r.row += index * f->row_stride[i];
        r.col += index * f->col_stride[i];
        r.group += index * f->group_stride[i];
    }
    return r;
}

static int64_t run_count(const struct optim_info *p)
{
    const int last = p->shape.rank - 1;
    if (last < 0)
        return 1;
    return p->shape.dim[last] ? (int64_t)(p->elements / (size_t)p->shape.dim[last]) : 0;
}

/* sums[group] = sum of x^2 */
static void sum_squares(const struct optim_info *p, const float *x, double *sums)
{
    memset(sums, 0, (size_t)p->f.groups * sizeof *sums);
    const int64_t runs = run_count(p);
    for (int64_t n = 0; n < runs; n++) {
        const struct run r = run_at(p, n);
        for (int64_t j = 0; j < r.length; j++) {
            const float square = x[r.at + (size_t)j] * x[r.at + (size_t)j];
            sums[r.group + j * r.dgroup] += (double)square;
        }
    }
}

/* sqrt(mean of the squares) of each group, in place. */
static void sums_to_rms(const struct optim_info *p, double *sums)
{
    const double each = (double)p->elements / (double)p->f.groups;
    for (int64_t g = 0; g < p->f.groups; g++)
        sums[g] = (double)sqrtf((float)(sums[g] / each));
}

struct rates {
    float decay, mix, epsilon1;
};

static struct rates rates_at(const struct adafactor_opts *a, int64_t step)
{
    /* T5X: step - step_offset is an int32, converted to float32 before 1 is added. */
    const float t = (float)(step - a->step_offset) + 1.0f;
    const float decay = 1.0f - powf(t, (float)-a->decay_rate);
    return (struct rates){decay, 1.0f - decay, (float)a->epsilon1};
}

/* NaNs of the new value are replaced by the old one when asked for. */
static float kept(bool skip_nan, float now, float old)
{
    return skip_nan && isnan(now) ? old : now;
}

/* y = g * v^(-1/2), v updated. */
static void precondition_full(optim *o, const struct optim_info *p, const float *grad, float scale,
                              struct rates r, float *y)
{
    const bool skip = o->cfg.adafactor.skip_nan_updates;
    float *v = o->slots[p->first_slot + SLOT_V].data;
    for (size_t i = 0; i < p->elements; i++) {
        const float g = grad[i] * scale;
        const float now = r.decay * v[i] + r.mix * (g * g + r.epsilon1);
        y[i] = g * (1.0f / sqrtf(now));
        v[i] = kept(skip, now, v[i]);
    }
}

/* slot = decay * slot + mix * mean of `each` elements; sums[] becomes the new moments. */
static void update_factor(bool skip, struct rates r, double *sums, double each, int64_t n,
                          float *slot)
{
    for (int64_t i = 0; i < n; i++) {
        const float now = r.decay * slot[i] + r.mix * (float)(sums[i] / each);
        sums[i] = (double)now;
        slot[i] = kept(skip, now, slot[i]);
    }
}

/* The statistics group of an entry of v_row, whose axes are those with a row stride. */
static int64_t group_of_row(const struct optim_info *p, int64_t entry)
{
    int64_t group = 0;
    for (int i = p->shape.rank - 1; i >= 0; i--)
        if (p->f.row_stride[i]) {
            group += entry % p->shape.dim[i] * p->f.group_stride[i];
            entry /= p->shape.dim[i];
        }
    return group;
}

/* row[] becomes (v_row / mean(v_row of the group))^(-1/2), col[] v_col^(-1/2). */
static void factors_from_moments(const struct optim_info *p, double *group, double *row,
                                 double *col)
{
    const struct optim_factoring *f = &p->f;
    memset(group, 0, (size_t)f->groups * sizeof *group);
    for (int64_t i = 0; i < f->rows; i++)
        group[group_of_row(p, i)] += row[i];
    for (int64_t i = 0; i < f->rows; i++) {
        const double mean = group[group_of_row(p, i)] / ((double)f->rows / (double)f->groups);
        row[i] = (double)(1.0f / sqrtf((float)row[i] / (float)mean));
    }
    for (int64_t i = 0; i < f->cols; i++)
        col[i] = (double)(1.0f / sqrtf((float)col[i]));
}

/* y = g * r * c, moments updated. */
static void precondition_factored(optim *o, const struct optim_info *p, const float *grad,
                                  float scale, struct rates r, float *y)
{
    const struct optim_factoring *f = &p->f;
    const bool skip = o->cfg.adafactor.skip_nan_updates;
    double *group = o->sums + f->groups, *row = group + f->groups, *col = row + f->rows;
    const int64_t runs = run_count(p);
    memset(row, 0, (size_t)(f->rows + f->cols) * sizeof *row);
    for (int64_t n = 0; n < runs; n++) {
        const struct run u = run_at(p, n);
        for (int64_t j = 0; j < u.length; j++) {
            const float g = grad[u.at + (size_t)j] * scale;
            const float q = g * g + r.epsilon1;
            row[u.row + j * u.drow] += (double)q;
            col[u.col + j * u.dcol] += (double)q;
        }
    }
    update_factor(skip, r, row, (double)p->elements / (double)f->rows, f->rows,
                  o->slots[p->first_slot + SLOT_V_ROW].data);
    update_factor(skip, r, col, (double)p->elements / (double)f->cols, f->cols,
                  o->slots[p->first_slot + SLOT_V_COL].data);
    factors_from_moments(p, group, row, col);
    for (int64_t n = 0; n < runs; n++) {
        const struct run u = run_at(p, n);
        for (int64_t j = 0; j < u.length; j++) {
            const float g = grad[u.at + (size_t)j] * scale;
            y[u.at + (size_t)j] =
                g * (float)row[u.row + j * u.drow] * (float)col[u.col + j * u.dcol];
        }
    }
}

/* jnp.maximum: NaN if either is. */
static float max_or_nan(float a, float b)
{
    return isnan(a) || a > b ? a : b;
}

/* scale[group] = lr, times the clipped RMS of the parameter when asked for. */
static void update_scales(const struct adafactor_opts *a, const struct optim_info *p,
                          const float *param, float lr, double *scale)
{
    if (a->multiply_by_parameter_scale) {
        sum_squares(p, param, scale);
        sums_to_rms(p, scale);
    }
    for (int64_t g = 0; g < p->f.groups; g++) {
        float s = 1;
        if (a->multiply_by_parameter_scale) {
            s = max_or_nan((float)scale[g], (float)a->epsilon2);
            if (a->max_parameter_scale > 0 && s > (float)a->max_parameter_scale)
                s = (float)a->max_parameter_scale;
        }
        scale[g] = (double)(lr * s);
    }
}

/* denom[group] = max(1, RMS(y) / threshold) */
static void clip_denominators(const struct adafactor_opts *a, const struct optim_info *p,
                              const float *y, double *denom)
{
    sum_squares(p, y, denom);
    sums_to_rms(p, denom);
    for (int64_t g = 0; g < p->f.groups; g++)
        denom[g] = a->clipping_threshold > 0
                       ? (double)max_or_nan((float)denom[g] / (float)a->clipping_threshold, 1.0f)
                       : 1.0;
}

/* What multiplies the old parameter. */
static float weight_kept(const struct adafactor_opts *a, float lr)
{
    if (a->weight_decay_rate_lr_exponent == 0)
        return (float)(1.0 - a->weight_decay_rate);
    const double rate = a->weight_decay_rate > 0 ? a->weight_decay_rate : 1.0;
    return 1.0f - (float)rate * powf(lr, (float)a->weight_decay_rate_lr_exponent);
}

/* m = beta1 * m + (1 - beta1) * sub; returns the new m before it is rounded for storage. */
static float momentum(const struct adafactor_opts *a, struct optim_slot *slot, size_t i, float sub)
{
    const float fresh = (float)(1.0 - a->beta1) * sub;
    if (slot->dtype == DT_BF16) { /* a Python float times bfloat16 is a bfloat16 product */
        uint16_t *m = slot->data;
        const float beta1 = bf16_to_f32(f32_to_bf16((float)a->beta1));
        const float now = bf16_to_f32(f32_to_bf16(beta1 * bf16_to_f32(m[i]))) + fresh;
        m[i] = a->skip_nan_updates && isnan(now) ? m[i] : f32_to_bf16(now);
        return now;
    }
    float *m = slot->data;
    const float now = (float)a->beta1 * m[i] + fresh;
    m[i] = kept(a->skip_nan_updates, now, m[i]);
    return now;
}

static void step_param(optim *o, size_t index, float *param, const float *grad, float grad_scale,
                       float lr)
{
    const struct adafactor_opts *a = &o->cfg.adafactor;
    const struct optim_info *p = &o->info[index];
    const struct rates r = rates_at(a, optim_get_step(o));
    const float keep = weight_kept(a, lr);
    double *scale = o->sums, *denom = o->sums + p->f.groups;
    float *y = o->scratch;
    if (p->elements == 0)
        return;
    if (p->f.factored)
        precondition_factored(o, p, grad, grad_scale, r, y);
    else
        precondition_full(o, p, grad, grad_scale, r, y);
    update_scales(a, p, param, lr, scale);
    clip_denominators(a, p, y, denom);
    const int64_t runs = run_count(p);
    for (int64_t n = 0; n < runs; n++) {
        const struct run u = run_at(p, n);
        for (int64_t j = 0; j < u.length; j++) {
            const size_t i = u.at + (size_t)j;
            const int64_t g = u.group + j * u.dgroup;
            float sub = (float)scale[g] * (y[i] / (float)denom[g]);
            if (a->beta1 >= 0)
                sub = momentum(a, &o->slots[p->first_slot + SLOT_M], i, sub);
            param[i] = kept(a->skip_nan_updates, keep * param[i] - sub, param[i]);
        }
    }
}

const struct optim_table adafactor_table = {
    .check = check,
    .plan_param = plan_param,
    .step_param = step_param,
};
