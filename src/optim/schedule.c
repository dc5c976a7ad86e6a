/* t5x/utils.py : create_learning_rate_scheduler. Python floats stay double until they meet an
 * array; the step is an array, so whatever touches it is float32 from there on. */
#include "optim/schedule.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

struct lr_schedule lr_schedule_default(void)
{
    return (struct lr_schedule){.factor = {LR_CONSTANT, LR_LINEAR_WARMUP, LR_RSQRT_DECAY},
                                .factors = 3,
                                .base_learning_rate = 0.5,
                                .warmup_steps = 1000,
                                .decay_factor = 0.5,
                                .steps_per_decay = 20000,
                                .steps_per_cycle = 100000,
                                .min_learning_rate = 1e-8};
}

struct lr_schedule lr_schedule_constant(double rate)
{
    struct lr_schedule s = lr_schedule_default();
    s.factors = 1;
    s.base_learning_rate = rate;
    s.min_learning_rate = 0;
    return s;
}

static const char *const names[] = {
#define LR_FACTOR_NAME(factor, name) [LR_##factor] = name,
    LR_FACTOR_MAP(LR_FACTOR_NAME)
#undef LR_FACTOR_NAME
};

enum { FACTORS = sizeof names / sizeof *names };

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static spt_status parse_factor(const char *s, size_t len, enum lr_factor *out, spt_err *err)
{
    while (len && is_space(*s))
        s++, len--;
    while (len && is_space(s[len - 1]))
        len--;
    for (int i = 0; i < FACTORS; i++)
        if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0) {
            *out = (enum lr_factor)i;
            return SPT_OK;
        }
    return err_set(err, SPT_E_CONFIG,
                   "unknown learning-rate factor '%.*s': give constant, linear_warmup, "
                   "linear_decay, rsqrt_decay, rsqrt_normalized_decay, decay_every or "
                   "cosine_decay, joined by '*'",
                   (int)(len < 60 ? len : 60), s);
}

spt_status lr_schedule_parse(struct lr_schedule *s, const char *factors, spt_err *err)
{
    enum lr_factor list[LR_MAX_FACTORS];
    int n = 0;
    for (const char *p = factors; p;) {
        const size_t len = strcspn(p, "*");
        if (n == LR_MAX_FACTORS)
            return err_set(err, SPT_E_CONFIG, "more than %d learning-rate factors", LR_MAX_FACTORS);
        TRY(parse_factor(p, len, &list[n++], err));
        p = p[len] ? p + len + 1 : NULL;
    }
    memcpy(s->factor, list, sizeof list[0] * (size_t)n);
    s->factors = n;
    return SPT_OK;
}

spt_status lr_schedule_check(const struct lr_schedule *s, spt_err *err)
{
    for (int i = 0; i < s->factors; i++) {
        const enum lr_factor f = s->factor[i];
        const struct {
            const char *name;
            int64_t value;
            bool used;
        } divisors[] = {
            {"warmup_steps", s->warmup_steps, f == LR_LINEAR_WARMUP || f == LR_LINEAR_DECAY},
            {"steps_per_decay", s->steps_per_decay, f == LR_DECAY_EVERY},
            {"steps_per_cycle", s->steps_per_cycle, f == LR_COSINE_DECAY},
        };
        for (size_t d = 0; d < sizeof divisors / sizeof *divisors; d++)
            if (divisors[d].used && divisors[d].value < 1)
                return err_set(err, SPT_E_CONFIG, "learning-rate factor %s needs %s >= 1, got %lld",
                               names[f], divisors[d].name, (long long)divisors[d].value);
        if ((f == LR_RSQRT_DECAY || f == LR_RSQRT_NORMALIZED_DECAY) && s->warmup_steps < 0)
            return err_set(err, SPT_E_CONFIG,
                           "learning-rate factor %s needs warmup_steps >= 0, got %lld", names[f],
                           (long long)s->warmup_steps);
    }
    if (!isfinite(s->base_learning_rate) || !isfinite(s->decay_factor) ||
        !isfinite(s->min_learning_rate))
        return err_set(err, SPT_E_CONFIG, "a learning-rate setting is not a finite number");
    return SPT_OK;
}

/* The running product: a double until the first array factor, float32 after it. */
struct product {
    double weak;
    float strong;
    bool is_strong;
};

static void times_number(struct product *p, double x)
{
    if (p->is_strong)
        p->strong *= (float)x;
    else
        p->weak *= x;
}

static float strong(struct product *p)
{
    if (!p->is_strong) {
        p->strong = (float)p->weak;
        p->is_strong = true;
    }
    return p->strong;
}

static void times_array(struct product *p, float x)
{
    p->strong = strong(p) * x;
}

static float min_f32(float a, float b)
{
    return a < b ? a : b;
}

static float max_f32(float a, float b)
{
    return a > b ? a : b;
}

static float linear_decay(const struct lr_schedule *s, float step, float warmup)
{
    const float line = 1.0f + (float)s->decay_factor * (warmup - step);
    return (float)s->base_learning_rate * min_f32(step / warmup, line);
}

static float cosine(const struct lr_schedule *s, float step, float warmup)
{
    const float pi = 3.14159265358979323846f;
    const float progress = max_f32(0, (step - warmup) / (float)s->steps_per_cycle);
    return max_f32(0, 0.5f * (1.0f + cosf(pi * fmodf(progress, 1.0f))));
}

float lr_at(const struct lr_schedule *s, int64_t at)
{
    const int64_t steps = at > s->step_offset ? at - s->step_offset : 0;
    const float step = (float)steps, warmup = (float)s->warmup_steps;
    const float root = sqrtf((float)(steps > s->warmup_steps ? steps : s->warmup_steps));
    struct product r = {.weak = 1};
    for (int i = 0; i < s->factors; i++)
        switch (s->factor[i]) {
        case LR_CONSTANT:
            times_number(&r, s->base_learning_rate);
            break;
        case LR_LINEAR_WARMUP:
            times_array(&r, min_f32(1, step / warmup));
            break;
        case LR_LINEAR_DECAY:
            times_array(&r, linear_decay(s, step, warmup));
            break;
        case LR_RSQRT_DECAY:
            r.strong = strong(&r) / root;
            break;
        case LR_RSQRT_NORMALIZED_DECAY:
            times_array(&r, sqrtf(warmup));
            r.strong /= root;
            break;
        case LR_DECAY_EVERY:
            times_array(&r, powf((float)s->decay_factor, (float)(steps / s->steps_per_decay)));
            break;
        case LR_COSINE_DECAY:
            times_array(&r, cosine(s, step, warmup));
            break;
        }
    return max_f32(strong(&r), (float)s->min_learning_rate);
}
