/* What a run will take, found by running it over operations that only count: the storage, the
 * ranges and the order of the batches are those of the run itself, so no formula has to follow the
 * code. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ops/count.h"
#include "ops/cpu/cpu.h"
#include "ops/profile.h"
#include "run/train_internal.h"

enum {
    STEPS = 24,     /* whose batches are looked at */
    SEEN = 64,      /* examples that an evaluation is tried with, the longest first */
    SMALL = 4096,   /* page */
    HUGE = 2 << 20, /* large page */
    LEAST_ROWS = 64
};

/* --- the system ----------------------------------------------------------------------------------
 */

static size_t read_start(const char *path, char *text, size_t cap)
{
    const int fd = os_open(path, OS_READ);
    if (fd < 0)
        return 0;
    const int64_t n = os_read_full(fd, text, cap - 1);
    os_close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Resident bytes of this process, 0 where the system does not say. */
static double resident(void)
{
    char text[256];
    const char *at = read_start("/proc/self/statm", text, sizeof text) ? strchr(text, ' ') : NULL;
    return at ? strtod(at, NULL) * SMALL : 0;
}

static size_t large_page(void)
{
    char text[64];
    const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
    return read_start(path, text, sizeof text) && !strstr(text, "[never]") ? HUGE : SMALL;
}

/* --- one count
 * ------------------------------------------------------------------------------------ */

/* What of the peak each kind of operation reaches (docs/design/cpu.md); the rest goes by bytes. */
struct speeds {
    double rate[OPS_PROFILE_KINDS], bandwidth;
};

struct counted {
    ops *count, *watch;
    t5_model *model;
    ops *real;
};

static spt_status count_open(struct trainer *t, struct counted *c, spt_err *err)
{
    *c = (struct counted){.real = t->engine.ops};
    TRY(ops_count_open(ops_profile_inner(c->real), large_page(), &c->count, err));
    const spt_status st = ops_profile_open(c->count, &c->watch, err);
    if (st) {
        ops_close(c->count);
        return st;
    }
    return engine_count_model(&t->engine, c->watch, train_uses(t), &c->model, err);
}

static void count_close(struct trainer *t, struct counted *c)
{
    train_drop_storage(t);
    t->engine.ops = c->real;
    t->engine.model = NULL;
    t5_model_free(c->model);
    ops_close(c->watch);
}

static spt_status count_steps(struct trainer *t, int64_t steps, spt_err *err)
{
    const struct batch_position at = train_order_tell(t->order);
    for (int64_t i = 0; i < steps; i++) {
        const uint32_t *which;
        size_t n;
        struct t5_loss loss;
        TRY(train_order_next(t->order, &which, &n, err));
        TRY(train_gradient(t, which, n, &loss, err));
    }
    return train_order_seek(t->order, at, err);
}

static spt_status longest_of(const examples *x, size_t size, examples *to, spt_err *err)
{
    eval_order *order;
    TRY(eval_order_new(x, size, &order, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < eval_order_batches(order) && examples_count(to) < SEEN; i++) {
        const uint32_t *which;
        size_t n;
        eval_order_at(order, i, &which, &n);
        for (size_t k = 0; !st && k < n; k++) {
            const struct example e = examples_at(x, which[k]);
            st = examples_add(to, &e, err);
        }
    }
    eval_order_free(order);
    return st;
}

static spt_status count_evaluation(struct trainer *t, spt_err *err)
{
    examples *some;
    struct answers a = {0};
    const struct t5_prompts prompts = prompts_of(t->prompt);
    TRY(examples_new(&some, err));
    spt_status st = longest_of(t->eval, (size_t)t->evaluator.opts.batch, some, err);
    if (!st)
        st = evaluate(&t->evaluator, &prompts, some, &a, err);
    answers_release(&a);
    examples_free(some);
    return st;
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

static void book_steps(struct trainer *t, const struct counted *c, int64_t steps)
{
    const struct ops_profile_line *l = ops_profile_lines(c->watch);
    t->cost.operations = t->cost.seconds = 0;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        t->cost.operations += l[i].operations / (double)steps;
        t->cost.seconds += l[i].model / (double)steps;
    }
}

static spt_status count_with(struct trainer *t, struct counted *c, double process,
                             const struct speeds *speeds, spt_err *err)
{
    struct train_cost *cost = &t->cost;
    const size_t PE = (size_t)(t->plan.P * t->plan.E) * sizeof(float);
    t->engine.model = c->model;
    t->engine.ops = c->watch;
    const struct ops_count loaded = ops_count_take(c->count);
    TRY(train_make_storage(t, err));
    const int64_t steps = t->plan.steps < 1 ? 1 : t->plan.steps < STEPS ? t->plan.steps : STEPS;
    ops_profile_reset(c->watch);
    if (speeds)
        ops_profile_model(c->watch, speeds->rate, speeds->bandwidth);
    TRY(count_steps(t, steps, err));
    book_steps(t, c, steps);
    const struct ops_count trained = ops_count_take(c->count);
    if (t->eval)
        TRY(count_evaluation(t, err));
    const struct ops_count all = ops_count_take(c->count);
    const int64_t shards = t->plan.batch < GRADIENT_SHARDS ? t->plan.batch : GRADIENT_SHARDS;

    cost->optimiser = (double)optim_bytes(t->optim);
    cost->process = most(process - cost->optimiser, 0);
    cost->weights = loaded.weights + loaded.buffers;
    cost->activations =
        trained.buffers - loaded.buffers + (double)t5_acts_host_bytes(t->gradient.acts);
    cost->gradients = (double)(shards + 1) * (double)PE;
    cost->scratch = all.scratch;
    cost->evaluation = all.buffers - trained.buffers;
    cost->total = cost->process +
                  most(loaded.loading, cost->weights + cost->activations + cost->gradients +
                                           cost->optimiser + cost->scratch + cost->evaluation);
    return SPT_OK;
}

static spt_status count_once(struct trainer *t, double process, const struct speeds *speeds,
                             spt_err *err)
{
    struct counted c;
    spt_status st = count_open(t, &c, err);
    if (!st)
        st = count_with(t, &c, process, speeds, err);
    if (c.watch)
        count_close(t, &c);
    return st;
}

/* --- --memory
 * ------------------------------------------------------------------------------------- */

/* "800M", "1.5GB", "123456": decimal units. */
static spt_status parse_bytes(const char *text, double *out, spt_err *err)
{
    char *end;
    double x = strtod(text, &end);
    static const char units[] = "KMGT";
    const char *u = *end ? strchr(units, *end & ~0x20) : NULL;
    for (const char *k = units; u && k <= u; k++)
        x *= 1000;
    end += u != NULL;
    end += (*end & ~0x20) == 'B';
    if (end == text || *end || !(x > 0))
        return err_set(err, SPT_E_USAGE, "--memory: \"%s\" is not a size such as 800M or 1.5G",
                       text);
    *out = x;
    return SPT_OK;
}

/* Rows in flight first (they cost little), then layers computed again (a third more work); neither
 * changes a bit of the result. */
static spt_status fit(struct trainer *t, double process, spt_err *err)
{
    double limit = 0;
    TRY(parse_bytes(t->s->memory, &limit, err));
    struct train_cost least = {0};
    int64_t rows = 0;
    bool remat = false;
    const bool fixed_rows = settings_given(t->s, "micro-rows") || t->s->micro_batch;
    for (int again = t->s->remat; again < 2; again++)
        for (int64_t r = t->s->micro_rows;; r /= 2) {
            t->plan.remat = again;
            train_set_rows(t, r);
            TRY(count_once(t, process, NULL, err));
            if (t->cost.total <= limit) {
                if (again != t->s->remat || r != t->s->micro_rows)
                    log_info("--memory %s: %lld encoder rows in flight%s", t->s->memory,
                             (long long)t->plan.rows_in_flight,
                             again ? ", layers computed again (--remat)" : "");
                return SPT_OK;
            }
            if (!rows || t->cost.total < least.total) {
                least = t->cost;
                rows = t->plan.micro_rows;
                remat = again;
            }
            if (fixed_rows || r / 2 < LEAST_ROWS)
                break;
        }
    char need[32], weights[32];
    return err_set(err, SPT_E_NOMEM,
                   "--memory %s is too little: the least is %s (--micro-rows %lld%s), of it %s of "
                   "%s weights%s",
                   t->s->memory, bytes_text(least.total, need), (long long)rows,
                   remat ? " --remat" : "", bytes_text(least.weights, weights),
                   engine_compute_name(&t->engine),
                   t->engine.compute == OPS_BFLOAT16 ? "" : "; --compute bfloat16 halves them");
}

spt_status train_count(struct trainer *t, spt_err *err)
{
    const double process = resident();
    TRY(engine_open_ops(&t->engine, t->s, t->s->profile, err));
    return t->s->memory && t->s->memory[0] ? fit(t, process, err)
                                           : count_once(t, process, NULL, err);
}

spt_status train_count_seconds(struct trainer *t, spt_err *err)
{
    static const struct {
        enum ops_profile_kind kind;
        double share;
        bool single; /* float32 in every mode */
    } shares[] = {
        {OPS_P_PRODUCT, 0.90, false},  {OPS_P_PRODUCT_T, 0.84, false},
        {OPS_P_HEAD, 0.90, true},      {OPS_P_HEAD_T, 0.84, true},
        {OPS_P_ATTENTION, 0.50, true}, {OPS_P_ATTENTION_BWD, 0.44, true},
    };
    ops *real = ops_profile_inner(t->engine.ops);
    const bool half = t->engine.compute == OPS_BFLOAT16 && ops_native_bfloat16();
    const double single = ops_cpu_peak(real, false, 0.1);
    const double peak = half ? ops_cpu_peak(real, true, 0.1) : single;
    struct speeds s = {.bandwidth = ops_cpu_bandwidth(real, 0.1)};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        s.rate[shares[i].kind] = shares[i].share * (shares[i].single ? single : peak);
    return count_once(t, t->cost.process + t->cost.optimiser, &s, err);
}
