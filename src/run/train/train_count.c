/* What a run will take, found by running it over operations that only count: the storage, the
 * ranges and the order of the batches are those of the run itself, so no formula has to follow the
 * code. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ops/count.h"
#include "ops/cpu/cpu.h"
#include "ops/profile.h"
#include "os/os.h"
#include "run/train/train_internal.h"

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
    /* Or what a few layers took (measure_layers): 0 steps when they were not run. */
    struct ops_profile_line line[OPS_PROFILE_KINDS];
    int64_t steps;
    double outside; /* seconds of a step outside of operations */
};

struct counted {
    ops *count, *watch;
    t5_model *model;
    ops *real;
    comm *ranks; /* counts what would be exchanged */
};

/* Ranks that only count take the place of those there are, or will be. */
static spt_status count_ranks(struct training *a, struct counted *c, spt_err *err)
{
    const struct settings *s = a->s;
    const bool plans = !strcmp(s->command, "plan") || !strcmp(s->command, "check");
    const int64_t parts = s->partitions > 1 ? s->partitions : 1;
    const int64_t size = plans ? (s->ranks > parts ? s->ranks : parts) : comm_size(s->comm);
    if (size == 1)
        return SPT_OK;
    TRY(comm_count_open(comm_rank(s->comm), (int)size, &c->ranks, err));
    TRY(comm_split(c->ranks, (int)parts, &a->ranks, &a->data, err));
    a->engine.part = a->ranks;
    a->engine.data = NULL; /* of an evaluation only the memory counts */
    return SPT_OK;
}

static spt_status count_open(struct training *a, struct counted *c, spt_err *err)
{
    *c = (struct counted){.real = a->engine.ops};
    TRY(ops_count_open(ops_profile_inner(c->real), large_page(), &c->count, err));
    const spt_status st = ops_profile_open(c->count, &c->watch, err);
    if (st) {
        ops_close(c->count);
        return st;
    }
    TRY(count_ranks(a, c, err));
    return engine_count_model(&a->engine, c->watch, train_uses(a), &c->model, err);
}

static void count_close(struct training *a, struct counted *c)
{
    train_drop_storage(a);
    a->engine.ops = c->real;
    a->engine.model = NULL;
    t5_model_free(c->model);
    ops_close(c->watch);
    comm_leave(c->ranks);
    a->ranks = a->engine.part = a->s->part;
    a->data = a->engine.data = a->s->data_ranks;
    a->exchanged = (struct exchanged){0};
}

static int64_t steps_to_count(const struct training *a)
{
    int64_t steps = 1;
    for (size_t i = 0; i < a->runs; i++)
        steps = a->run[i].plan.steps > steps ? a->run[i].plan.steps : steps;
    return steps < STEPS ? steps : STEPS;
}

static spt_status count_steps(struct training *a, int64_t steps, spt_err *err)
{
    for (int64_t i = 0; i < steps; i++)
        TRY(train_gradient(a, err));
    for (size_t i = 0; i < a->runs; i++)
        TRY(train_order_seek(a->run[i].order, (struct batch_position){0}, err));
    return SPT_OK;
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

static spt_status count_evaluation(struct training *a, spt_err *err)
{
    examples *some;
    struct answers answers = {0};
    const struct t5_prompts prompts = prompts_of(a->run[0].prompt);
    TRY(examples_new(&some, err));
    spt_status st = longest_of(a->eval, (size_t)a->evaluator.opts.batch, some, err);
    if (!st)
        st = evaluate(&a->evaluator, &prompts, some, &answers, err);
    answers_release(&answers);
    examples_free(some);
    return st;
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

/* Seconds of what was counted: at the speed that was measured for its kind. */
static double seconds_of(const struct ops_profile_line *l, const struct ops_profile_line *measured)
{
    if (measured->operations > 0)
        return measured->seconds * (l->operations / measured->operations);
    return measured->bytes > 0 ? measured->seconds * (l->bytes / measured->bytes) : l->model;
}

static void book_steps(struct training *a, const struct counted *c, int64_t steps,
                       const struct speeds *speeds)
{
    const struct ops_profile_line *l = ops_profile_lines(c->watch);
    const bool measured = speeds && speeds->steps;
    a->cost.operations = 0;
    a->cost.seconds = measured ? speeds->outside : 0;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        a->cost.operations += l[i].operations / (double)steps;
        a->cost.seconds +=
            (measured ? seconds_of(&l[i], &speeds->line[i]) : l[i].model) / (double)steps;
    }
}

static spt_status count_with(struct training *a, struct counted *c, double process,
                             const struct speeds *speeds, spt_err *err)
{
    struct train_cost *cost = &a->cost;
    a->engine.model = c->model;
    a->engine.ops = c->watch;
    const struct ops_count loaded = ops_count_take(c->count);
    TRY(train_make_storage(a, err));
    const int64_t steps = steps_to_count(a);
    ops_profile_reset(c->watch);
    if (speeds)
        ops_profile_model(c->watch, speeds->rate, speeds->bandwidth);
    a->exchanged = (struct exchanged){0};
    TRY(count_steps(a, steps, err));
    cost->counted = a->exchanged;
    book_steps(a, c, steps, speeds);
    const struct ops_count trained = ops_count_take(c->count);
    if (a->eval)
        TRY(count_evaluation(a, err));
    const struct ops_count all = ops_count_take(c->count);

    cost->optimiser = 0;
    cost->gradients = (double)gradient_bytes(&a->gradient);
    for (size_t i = 0; i < a->runs; i++) {
        const struct train_plan *p = &a->run[i].plan;
        cost->optimiser += (double)optim_bytes(a->run[i].optim);
        cost->gradients += (double)(p->P * p->E) * sizeof(float);
    }
    cost->process = most(process - cost->optimiser, 0);
    cost->weights = loaded.weights + loaded.buffers;
    cost->activations =
        trained.buffers - loaded.buffers + (double)t5_acts_host_bytes(a->gradient.acts);
    cost->scratch = all.scratch;
    if (a->ranks) /* what is on its way between ranks */
        cost->scratch += (double)(t5_model_link_bytes(c->model) + comm_held_bytes(a->ranks));
    cost->evaluation = all.buffers - trained.buffers;
    cost->total = cost->process +
                  most(loaded.loading, cost->weights + cost->activations + cost->gradients +
                                           cost->optimiser + cost->scratch + cost->evaluation);
    return SPT_OK;
}

static spt_status count_once(struct training *a, double process, const struct speeds *speeds,
                             spt_err *err)
{
    struct counted c;
    spt_status st = count_open(a, &c, err);
    if (!st)
        st = count_with(a, &c, process, speeds, err);
    if (c.watch)
        count_close(a, &c);
    return st;
}

/* --- --memory
 * ------------------------------------------------------------------------------------- */

/* "800M", "1.5GB", "123456": decimal units. */
static spt_status parse_bytes(const char *option, const char *text, double *out, spt_err *err)
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
        return err_set(err, SPT_E_USAGE, "--%s: \"%s\" is not a size such as 800M or 1.5G",
                       option, text);
    *out = x;
    return SPT_OK;
}

/* Rows in flight first (they cost little), then layers computed again (a third more work); neither
 * changes a bit of the result. */
static spt_status fit(struct training *a, double process, spt_err *err)
{
    double limit = 0;
    TRY(parse_bytes("memory", a->s->memory, &limit, err));
    struct train_cost least = {0};
    int64_t rows = 0;
    bool remat = false;
    const bool fixed_rows = settings_given(a->s, "micro-rows") || a->s->micro_batch;
    for (int again = a->s->remat; again < 2; again++)
        for (int64_t r = a->s->micro_rows;; r /= 2) {
            a->remat = again;
            train_set_rows(a, r);
            TRY(count_once(a, process, NULL, err));
            if (a->cost.total <= limit) {
                if (again != a->s->remat || r != a->s->micro_rows)
                    log_info("--memory %s: %lld encoder rows in flight%s", a->s->memory,
                             (long long)a->rows_in_flight,
                             again ? ", layers computed again (--remat)" : "");
                return SPT_OK;
            }
            if (!rows || a->cost.total < least.total) {
                least = a->cost;
                rows = a->micro_rows;
                remat = again;
            }
            if (fixed_rows || r / 2 < LEAST_ROWS)
                break;
        }
    char need[32], weights[32];
    return err_set(err, SPT_E_NOMEM,
                   "--memory %s is too little: the least is %s (--micro-rows %lld%s), of it %s of "
                   "%s weights%s",
                   a->s->memory, bytes_text(least.total, need), (long long)rows,
                   remat ? " --remat" : "", bytes_text(least.weights, weights),
                   engine_compute_name(&a->engine),
                   a->engine.compute == OPS_BFLOAT16 ? "" : "; --compute bfloat16 halves them");
}

/* Ranks that hold one model must cut batches alike: they take the smallest choice. */
static spt_status same_ranges(struct training *a, spt_status st, spt_err *err)
{
    struct {
        int64_t rows, remat;
    } own = {a->micro_rows, a->remat}, at;
    struct comm_bytes all = {0};
    if (!a->ranks)
        return st;
    TRY(comm_gather(a->ranks, st, &own, sizeof own, &all, err));
    for (int r = 0; r < comm_size(a->ranks); r++) {
        memcpy(&at, all.bytes + all.off[r], sizeof at);
        own.rows = at.rows < own.rows ? at.rows : own.rows;
        own.remat |= at.remat;
    }
    comm_bytes_release(&all);
    a->remat = own.remat;
    train_set_rows(a, own.rows);
    return SPT_OK;
}

spt_status train_count(struct training *a, spt_err *err)
{
    const double process = resident();
    TRY(engine_open_ops(&a->engine, a->s, a->s->profile, err));
    if (!a->s->memory || !a->s->memory[0])
        return count_once(a, process, NULL, err);
    return same_ranges(a, fit(a, process, err), err);
}

/* --- seconds -------------------------------------------------------------------------------------
 * What share of the peak a product reaches depends on its shape, so a few layers of the model's own
 * shape, made of one number, make some steps of the run. */

enum { LAYERS = 2, MORE_LAYERS = 6, MOST_STEPS = 8 };
static const double measured_bytes = 1e9, measured_seconds = 0.5;

struct one_number {
    const t5_source *source;
    const void *numbers; /* as many as the largest parameter has */
};

static spt_status same_number(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    const struct one_number *n = ctx;
    TRY(t5_source_describe(n->source, name, out, err));
    out->m.view.data = n->numbers;
    return SPT_OK;
}

/* At least two, so that one has all of its backward, and of both stacks in the model's proportion. */
static int64_t few_layers(int64_t n, int64_t other)
{
    const int64_t share = other > 0 ? LAYERS * n / other : n;
    const int64_t few = share < LAYERS ? LAYERS : share > MORE_LAYERS ? MORE_LAYERS : share;
    return n < few ? n : few;
}

static double seconds_since(int64_t ns)
{
    return (double)(os_monotonic_ns() - ns) * 1e-9;
}

static spt_status time_steps(struct training *a, ops *watch, struct speeds *s, spt_err *err)
{
    TRY(train_make_storage(a, err));
    TRY(count_steps(a, 1, err)); /* warms up */
    ops_profile_reset(watch);
    const int64_t from = os_monotonic_ns(), steps = steps_to_count(a);
    double inside = 0;
    for (s->steps = 0; s->steps < steps && s->steps < MOST_STEPS; s->steps++) {
        if (s->steps && seconds_since(from) > measured_seconds)
            break;
        TRY(train_gradient(a, err));
    }
    s->outside = seconds_since(from);
    memcpy(s->line, ops_profile_lines(watch), sizeof s->line);
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        inside += s->line[i].seconds;
    s->outside = s->outside > inside ? (s->outside - inside) / (double)s->steps : 0;
    return count_steps(a, 0, err); /* from the start again */
}

/* Large models are left to the shares of the peak: planning them must not take much memory. */
static spt_status measure_layers(struct training *a, struct speeds *s, spt_err *err)
{
    struct t5_config c = a->engine.config;
    c.enc_layers = few_layers(a->engine.config.enc_layers, a->engine.config.dec_layers);
    c.dec_layers = few_layers(a->engine.config.dec_layers, a->engine.config.enc_layers);
    const int64_t J = c.heads * c.head_dim, widest = c.ff > J ? c.ff : J;
    const int64_t most = c.width * (c.vocab > widest ? c.vocab : widest);
    if (a->engine.part || (double)(config_parameters(&c) + most) * sizeof(float) > measured_bytes)
        return SPT_OK;
    void *numbers = mem_alloc((size_t)most, sizeof(double));
    if (!numbers)
        return SPT_OK;
    memset(numbers, 0x3c, (size_t)most * sizeof(double)); /* 0.01 in float32 and bfloat16 */
    struct one_number n = {a->engine.source, numbers};
    const struct t5_getter get = {.ctx = &n, .config = &c, .param = same_number};
    t5_model *model = NULL;
    ops *watch;
    spt_status st = ops_profile_open(a->engine.ops, &watch, err);
    if (!st) {
        a->engine.ops = watch; /* closes the other one with it */
        st = t5_model_new_from(watch, &get, train_uses(a), &model, err);
    }
    mem_free(numbers);
    if (!st) {
        a->engine.model = model;
        st = time_steps(a, watch, s, err);
        train_drop_storage(a);
        a->engine.model = NULL;
        t5_model_free(model);
    }
    return st;
}

static spt_status count_exchange(struct training *a, spt_err *err)
{
    const struct exchanged *x = &a->cost.counted;
    const char *text = a->s->bandwidth;
    double rate;
    if (!text || !text[0])
        return SPT_OK;
    TRY(parse_bytes("bandwidth", text, &rate, err));
    const int64_t bytes = x->sent > x->received ? x->sent : x->received;
    a->cost.exchange = x->steps ? (double)bytes / (double)x->steps / rate : 0;
    return SPT_OK;
}

spt_status train_count_seconds(struct training *a, spt_err *err)
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
    ops *real = ops_profile_inner(a->engine.ops);
    const bool half = a->engine.compute == OPS_BFLOAT16 && ops_native_bfloat16();
    const double single = ops_cpu_peak(real, false, 0.1);
    const double peak = half ? ops_cpu_peak(real, true, 0.1) : single;
    struct speeds s = {.bandwidth = ops_cpu_bandwidth(real, 0.1)};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        s.rate[shares[i].kind] = shares[i].share * (shares[i].single ? single : peak);
    const double process = a->cost.process + a->cost.optimiser;
    TRY(measure_layers(a, &s, err));
    TRY(count_once(a, process, &s, err));
    return count_exchange(a, err);
}
