/* A training step and an evaluation of T5 shapes with random weights, by kind of operation:
 *
 *     build/release/bench/bench_step [--size small|base|large] [--batch N] [--prompt N] [--tokens
 * N]
 *                                    [--targets N] [--threads N] [--compute float32|bfloat16]
 *                                    [--rows N] [--remat] [--absorb] [--steps N] [--isa NAME]
 *
 * --tokens is the mean input length (lengths vary from half to one and a half of it), --rows the
 * encoder rows in flight (ranges of the batch). The median step of `--steps` is printed with its
 * share of the product peak of this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/model.h"
#include "ops/cpu/cpu.h"
#include "ops/profile.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what, const spt_err *err)
{
    fprintf(stderr, "bench_step: %s: %s\n", what, err->msg);
    exit(1);
}

/* --- random weights ------------------------------------------------------------------------ */

static uint32_t state = 1;

static float noise(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

static spt_status random_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    const struct t5_config *c = ctx;
    const int64_t E = c->width, J = c->heads * c->head_dim;
    const bool is_out = strstr(name, "/out/") || strstr(name, "/wo/");
    struct tensor_shape s;
    if (strstr(name, "scale"))
        s = shape_1d(E);
    else if (strstr(name, "embedding") && !strstr(name, "rel_"))
        s = shape_2d(c->vocab, E);
    else if (strstr(name, "rel_embedding"))
        s = shape_2d(c->heads, c->buckets);
    else if (strstr(name, "logits"))
        s = shape_2d(E, c->vocab);
    else if (strstr(name, "mlp"))
        s = is_out ? shape_2d(c->ff, E) : shape_2d(E, c->ff);
    else
        s = is_out ? shape_2d(J, E) : shape_2d(E, J);
    size_t n, bytes;
    TRY(tensor_size(DT_F32, &s, &n, &bytes, err));
    float *v = mem_alloc(n, sizeof *v);
    if (!v)
        return err_nomem(err, bytes);
    for (size_t i = 0; i < n; i++)
        v[i] = s.rank == 1 ? 1 : noise() * 0.05f;
    *out = (struct t5_param){.m.view = {DT_F32, s, v}, .owned = v};
    return SPT_OK;
}

static void release_param(void *ctx, struct t5_param *p)
{
    (void)ctx;
    mem_free(p->owned);
}

/* --- one batch ------------------------------------------------------------------------------ */

struct options {
    const char *size, *isa, *compute;
    int batch, prompt, tokens, targets, threads, rows, steps;
    bool remat, absorb;
};

static struct packed_batch make_batch(const struct options *o, int64_t vocab)
{
    int64_t *enc = calloc((size_t)o->batch + 1, sizeof *enc);
    int64_t *dec = calloc((size_t)o->batch + 1, sizeof *dec);
    for (int b = 0; b < o->batch; b++) {
        enc[b + 1] =
            enc[b] + o->tokens / 2 + (int64_t)b * o->tokens / (o->batch > 1 ? o->batch - 1 : 1);
        dec[b + 1] = dec[b] + o->targets;
    }
    int32_t *ids = calloc((size_t)enc[o->batch] + 1, sizeof *ids);
    int32_t *in = calloc((size_t)dec[o->batch] + 1, sizeof *in);
    int32_t *target = calloc((size_t)dec[o->batch] + 1, sizeof *target);
    for (int64_t i = 0; i < enc[o->batch]; i++)
        ids[i] = (int32_t)(2 + i * 7919 % (vocab - 2));
    for (int64_t i = 0; i < dec[o->batch]; i++) {
        target[i] = (int32_t)(2 + i * 104729 % (vocab - 2));
        in[i] = i % o->targets ? target[i - 1] : 0;
    }
    return (struct packed_batch){.B = o->batch,
                                 .enc_off = enc,
                                 .enc_ids = ids,
                                 .dec_off = dec,
                                 .dec_in = in,
                                 .dec_target = target,
                                 .Le = 2 * o->tokens,
                                 .Ld = o->targets};
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Ranges of at most o->rows encoder rows (at least one example each). */
static int64_t range_end(const struct packed_batch *b, int64_t first, const struct options *o)
{
    int64_t last = first + 1;
    while (last < b->B &&
           b->enc_off[last + 1] - b->enc_off[first] + (last + 1 - first) * o->prompt <= o->rows)
        last++;
    return last;
}

struct bench {
    const struct options *o;
    t5_model *m;
    t5_acts *acts;
    struct packed_batch batch;
    struct t5_prompts prompts;
    float *grad;
};

static void one_step(struct bench *s, bool backward)
{
    spt_err err;
    const struct t5_loss_opts opts = {.z_loss = 1e-4f};
    struct t5_loss loss = {0};
    for (int64_t at = 0; at < s->batch.B;) {
        const int64_t end = range_end(&s->batch, at, s->o);
        if (t5_forward(s->m, &s->prompts, &s->batch, at, end - at, &opts, NULL, s->acts, &loss,
                       &err) ||
            (backward && t5_backward(s->m, &s->batch, s->acts, NULL, s->grad, NULL, &err)))
            die("step", &err);
        at = end;
    }
}

static void report(struct bench *s, const char *what, double *times, ops *watched, double peak)
{
    const struct options *o = s->o;
    qsort(times, (size_t)o->steps, sizeof *times, by_value);
    const double median = times[o->steps / 2];
    const struct ops_profile_line *l = ops_profile_lines(watched);
    double operations = 0, booked = 0;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        operations += l[i].operations / o->steps;
        booked += l[i].seconds / o->steps;
    }
    printf("\n%s: median %.1f ms (best %.1f), %.1f GFLOP useful, %.1f GFLOP/s", what, median * 1e3,
           times[0] * 1e3, operations * 1e-9, operations / median * 1e-9);
    if (peak > 0)
        printf(", %.1f %% of the peak", 100 * operations / median / peak);
    printf("\n%-24s %6s %9s %6s %10s %9s\n", "", "calls", "ms", "%", "GFLOP/s", "GB/s");
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        if (l[i].calls)
            printf("%-24s %6lld %9.2f %6.1f %10.1f %9.1f\n", l[i].name,
                   (long long)(l[i].calls / o->steps), l[i].seconds / o->steps * 1e3,
                   100 * l[i].seconds / o->steps / median, l[i].operations / l[i].seconds * 1e-9,
                   l[i].bytes / l[i].seconds * 1e-9);
    printf("%-24s %6s %9.2f %6.1f\n", "outside operations", "", (median - booked) * 1e3,
           100 * (median - booked) / median);
}

static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
    struct options o = {.size = "base",
                        .compute = "float32",
                        .batch = 32,
                        .prompt = 100,
                        .tokens = 30,
                        .targets = 3,
                        .rows = 1000,
                        .steps = 5};
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        const struct {
            const char *name;
            int *value;
        } numbers[] = {{"--batch", &o.batch},     {"--prompt", &o.prompt},
                       {"--tokens", &o.tokens},   {"--targets", &o.targets},
                       {"--threads", &o.threads}, {"--rows", &o.rows},
                       {"--steps", &o.steps}};
        bool known = true;
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (!strcmp(argv[i], numbers[k].name))
                *numbers[k].value = number(v);
        if (!strcmp(argv[i], "--remat")) {
            o.remat = true;
            continue;
        }
        if (!strcmp(argv[i], "--absorb")) {
            o.absorb = true;
            continue;
        }
        if (!strcmp(argv[i], "--size"))
            o.size = v;
        else if (!strcmp(argv[i], "--isa"))
            o.isa = v;
        else if (!strcmp(argv[i], "--compute"))
            o.compute = v;
        i += known;
    }
    const bool half = !strcmp(o.compute, "bfloat16");
    struct t5_config c = {.vocab = 32128,
                          .head_dim = 64,
                          .buckets = 32,
                          .max_distance = 128,
                          .act = OPS_GELU_TANH,
                          .gated = true,
                          .norm_eps = 1e-6f,
                          .eos_id = 1};
    if (!strcmp(o.size, "small"))
        c.width = 512, c.heads = 6, c.ff = 1024, c.enc_layers = c.dec_layers = 8;
    else if (!strcmp(o.size, "large"))
        c.width = 1024, c.heads = 16, c.ff = 2816, c.enc_layers = c.dec_layers = 24;
    else
        c.width = 768, c.heads = 12, c.ff = 2048, c.enc_layers = c.dec_layers = 12;

    spt_err err;
    ops *inner, *w = NULL;
    const struct ops_config cfg = {
        .isa = o.isa, .threads = o.threads, .compute = half ? OPS_BFLOAT16 : OPS_FLOAT32};
    if (ops_open(&cfg, &inner, &err) || ops_profile_open(inner, &w, &err))
        die("backend", &err);
    const double peak = ops_cpu_peak(inner, half, 1);
    printf(
        "%s, %s, %s shape, batch %d, prompt %d, inputs of %d, targets of %d; peak %.1f GFLOP/s\n",
        inner->t->name, o.compute, o.size, o.batch, o.prompt, o.tokens, o.targets, peak * 1e-9);

    struct bench s = {.o = &o};
    const struct t5_getter get = {
        .ctx = &c, .config = &c, .param = random_param, .release = release_param};
    double from = now();
    if (t5_model_new_from(w, &get, T5_BACKWARD | (o.absorb ? T5_ABSORB : 0), &s.m, &err))
        die("model", &err);
    printf("model: %.1f MB packed in %.2f s (random numbers included)\n",
           (double)t5_model_bytes(s.m) * 1e-6, now() - from);
    s.batch = make_batch(&o, c.vocab);
    struct t5_acts_plan plan = {.backward = true, .remat = o.remat, .absorb = o.absorb};
    for (int64_t at = 0; at < s.batch.B;) {
        const int64_t end = range_end(&s.batch, at, &o);
        const int64_t rows = s.batch.enc_off[end] - s.batch.enc_off[at] + (end - at) * o.prompt;
        const int64_t dec = s.batch.dec_off[end] - s.batch.dec_off[at];
        plan.rows = rows > plan.rows ? rows : plan.rows;
        plan.dec_rows = dec > plan.dec_rows ? dec : plan.dec_rows;
        plan.examples = end - at > plan.examples ? end - at : plan.examples;
        at = end;
    }
    const int64_t n = (int64_t)o.prompt * c.width;
    float *prompt = calloc((size_t)n + 1, sizeof *prompt);
    for (int64_t i = 0; i < n; i++)
        prompt[i] = noise();
    s.prompts = (struct t5_prompts){.enc = prompt, .count = 1, .P = o.prompt};
    s.grad = calloc((size_t)n + 1, sizeof *s.grad);
    double *times = calloc((size_t)o.steps + 1, sizeof *times);
    for (int backward = 1; backward >= 0; backward--) {
        plan.backward = backward;
        printf("\nactivations: %.1f MB for %lld rows",
               (double)t5_acts_bytes(&c, w->t->elem, w->t->wide, &plan) * 1e-6,
               (long long)plan.rows);
        if (t5_acts_new(s.m, &plan, &s.acts, &err))
            die("activations", &err);
        one_step(&s, backward);
        ops_profile_reset(w);
        for (int i = 0; i < o.steps; i++) {
            from = now();
            one_step(&s, backward);
            times[i] = now() - from;
        }
        report(&s, backward ? "training step" : "forward and loss", times, w, peak);
        t5_acts_free(s.acts);
    }
    free(times), free(prompt), free(s.grad);
    free((void *)(uintptr_t)s.batch.enc_off), free((void *)(uintptr_t)s.batch.dec_off);
    free((void *)(uintptr_t)s.batch.enc_ids), free((void *)(uintptr_t)s.batch.dec_in);
    free((void *)(uintptr_t)s.batch.dec_target);
    t5_model_free(s.m);
    ops_close(w);
    return 0;
}
