/* `spt bench`: what this machine can do, and what a training step and a forward pass make of it.
 * The weights are those of --model or random ones of a T5 1.1 shape, the ids are made up; lengths
 * vary from half to one and a half of --tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/names.h"
#include "ops/cpu/cpu.h"
#include "os/os.h"
#include "run/commands.h"
#include "run/engine.h"
#include "run/places.h"
#include "run/profile_text.h"

enum { TEXT_MAX = 1 << 16 };

/* --- random weights
 * ------------------------------------------------------------------------------- */

struct random_weights {
    struct t5_config config;
    struct t5_name *names;
    size_t count;
    uint32_t state;
};

static float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

static spt_status random_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    struct random_weights *r = ctx;
    size_t k = 0, n, bytes;
    while (k < r->count && strcmp(r->names[k].t5x, name))
        k++;
    if (k == r->count)
        return err_set(err, SPT_E_INTERNAL, "no parameter %s", name);
    const struct tensor_shape *s = &r->names[k].shape;
    TRY(tensor_size(DT_F32, s, &n, &bytes, err));
    float *v = mem_alloc_aligned(n, sizeof *v);
    if (!v)
        return err_nomem(err, bytes);
    for (size_t i = 0; i < n; i++)
        v[i] = s->rank == 1 ? 1 : noise(&r->state) * 0.05f;
    *out = (struct t5_param){.m.view = {DT_F32, *s, v}, .owned = v};
    return SPT_OK;
}

static void release_param(void *ctx, struct t5_param *p)
{
    (void)ctx;
    mem_free_aligned(p->owned);
    p->owned = NULL;
}

static struct t5_config shape_of(const char *size)
{
    static const struct {
        const char *name;
        int64_t width, heads, head_dim, ff, layers;
    } shapes[] = {{"tiny", 64, 4, 16, 128, 2},
                  {"small", 512, 6, 64, 1024, 8},
                  {"base", 768, 12, 64, 2048, 12},
                  {"large", 1024, 16, 64, 2816, 24}};
    size_t k = 0;
    while (k + 1 < sizeof shapes / sizeof *shapes && strcmp(shapes[k].name, size))
        k++;
    return (struct t5_config){.vocab = 32128,
                              .width = shapes[k].width,
                              .heads = shapes[k].heads,
                              .head_dim = shapes[k].head_dim,
                              .ff = shapes[k].ff,
                              .enc_layers = shapes[k].layers,
                              .dec_layers = shapes[k].layers,
                              .buckets = 32,
                              .max_distance = 128,
                              .act = OPS_GELU_TANH,
                              .gated = true,
                              .norm_eps = 1e-6f,
                              .eos_id = 1};
}

/* --- the bench
 * ------------------------------------------------------------------------------------ */

struct bench {
    const struct settings *s;
    ops *ops; /* watched */
    bool half;
    double peak, bandwidth;
    t5_source *source; /* --model */
    struct t5_config config;
    t5_model *model;
    bool absorb;
    int64_t *enc_off, *dec_off;
    int32_t *ids, *in, *target;
    struct packed_batch batch;
    float *prompt, *grad;
    t5_acts *acts;
    double *times;
    double load_seconds;
};

static double now(void)
{
    return (double)os_monotonic_ns() * 1e-9;
}

static spt_status open_machine(struct bench *b, spt_err *err)
{
    struct engine e = {0};
    TRY(engine_open_ops(&e, b->s, true, err));
    b->ops = e.ops;
    b->half = e.compute == OPS_BFLOAT16 && ops_native_bfloat16();
    b->peak = ops_cpu_peak(ops_profile_inner(b->ops), b->half, 1);
    if (b->half && b->peak <= 0) { /* kernels that were asked for widen bfloat16 */
        b->half = false;
        b->peak = ops_cpu_peak(ops_profile_inner(b->ops), false, 1);
    }
    b->bandwidth = ops_cpu_bandwidth(ops_profile_inner(b->ops), 0.5);
    return SPT_OK;
}

static spt_status load_random(struct bench *b, unsigned uses, spt_err *err)
{
    struct random_weights r = {.config = b->config, .state = 1};
    TRY(t5_names_list(&b->config, &r.names, &r.count, err));
    const struct t5_getter get = {
        .ctx = &r, .config = &r.config, .param = random_param, .release = release_param};
    const spt_status st = t5_model_new_from(b->ops, &get, uses, &b->model, err);
    mem_free(r.names);
    return st;
}

static spt_status load(struct bench *b, spt_err *err)
{
    const struct settings *s = b->s;
    const struct t5_source_opts opts = {.max_distance = s->max_distance};
    const bool file = s->model && s->model[0];
    b->config = shape_of(s->size);
    if (file) {
        char *path = NULL;
        TRY(place_find(s, s->model, HUB_MODEL, &path, err));
        const spt_status st = t5_source_open(path, &opts, &b->source, err);
        mem_free(path);
        TRY(st);
        b->config = *t5_source_config(b->source);
    }
    b->absorb = !strcmp(s->cross_attention, "absorbed") ||
                (!strcmp(s->cross_attention, "auto") && t5_absorb_pays(&b->config, s->targets));
    const unsigned uses = T5_BACKWARD | (b->absorb ? T5_ABSORB : 0);
    const double from = now();
    TRY(file ? t5_model_new(b->ops, b->source, uses, &b->model, err) : load_random(b, uses, err));
    b->load_seconds = now() - from;
    return SPT_OK;
}

static spt_status make_batch(struct bench *b, spt_err *err)
{
    const struct settings *s = b->s;
    const int64_t B = s->batch, S = s->targets, V = b->config.vocab - 2;
    b->enc_off = mem_zalloc((size_t)B + 1, sizeof *b->enc_off);
    b->dec_off = mem_zalloc((size_t)B + 1, sizeof *b->dec_off);
    b->ids = mem_zalloc((size_t)(B * (2 * s->tokens + 1)), sizeof *b->ids);
    b->in = mem_zalloc((size_t)(B * S), sizeof *b->in);
    b->target = mem_zalloc((size_t)(B * S), sizeof *b->target);
    if (!b->enc_off || !b->dec_off || !b->ids || !b->in || !b->target || V < 1)
        return err_nomem(err, (size_t)(B * (2 * s->tokens + S)) * sizeof *b->ids);
    for (int64_t i = 0; i < B; i++) {
        const int64_t more = B > 1 ? i * s->tokens / (B - 1) : s->tokens / 2;
        b->enc_off[i + 1] = b->enc_off[i] + s->tokens / 2 + more;
        b->dec_off[i + 1] = b->dec_off[i] + S;
    }
    for (int64_t i = 0; i < b->enc_off[B]; i++)
        b->ids[i] = (int32_t)(2 + i * 7919 % V);
    for (int64_t i = 0; i < B * S; i++) {
        b->target[i] = (int32_t)(2 + i * 104729 % V);
        b->in[i] = i % S ? b->target[i - 1] : 0;
    }
    b->batch = (struct packed_batch){.B = B,
                                     .enc_off = b->enc_off,
                                     .enc_ids = b->ids,
                                     .dec_off = b->dec_off,
                                     .dec_in = b->in,
                                     .dec_target = b->target,
                                     .Le = 2 * s->tokens,
                                     .Ld = S};
    const size_t n = (size_t)(s->length * b->config.width);
    uint32_t state = 1;
    b->prompt = mem_alloc(n, sizeof *b->prompt);
    b->grad = mem_zalloc(n, sizeof *b->grad);
    b->times = mem_alloc((size_t)s->steps, sizeof *b->times);
    if (!b->prompt || !b->grad || !b->times)
        return err_nomem(err, n * sizeof *b->prompt);
    for (size_t i = 0; i < n; i++)
        b->prompt[i] = noise(&state);
    return SPT_OK;
}

static int64_t rows_of(const struct bench *b, int64_t first, int64_t end)
{
    return b->enc_off[end] - b->enc_off[first] + (end - first) * b->s->length;
}

/* Ranges of at most --micro-rows encoder rows (at least one example each). */
static int64_t range_end(const struct bench *b, int64_t first)
{
    int64_t end = first + 1;
    while (end < b->batch.B && rows_of(b, first, end + 1) <= b->s->micro_rows)
        end++;
    return end;
}

static spt_status one_pass(struct bench *b, bool backward, spt_err *err)
{
    const struct t5_loss_opts opts = {.z_loss = 1e-4f};
    const struct t5_prompts prompts = {.enc = b->prompt, .count = 1, .P = b->s->length};
    struct t5_loss loss = {0};
    for (int64_t at = 0, end; at < b->batch.B; at = end) {
        end = range_end(b, at);
        TRY(t5_forward(b->model, &prompts, &b->batch, at, end - at, &opts, NULL, b->acts, &loss,
                       err));
        if (backward)
            TRY(t5_backward(b->model, &b->batch, b->acts, NULL, b->grad, NULL, err));
    }
    return SPT_OK;
}

static struct t5_acts_plan storage(const struct bench *b, bool backward)
{
    struct t5_acts_plan p = {.backward = backward, .remat = b->s->remat, .absorb = b->absorb};
    for (int64_t at = 0, end; at < b->batch.B; at = end) {
        end = range_end(b, at);
        const int64_t rows = rows_of(b, at, end), dec = b->dec_off[end] - b->dec_off[at];
        p.rows = rows > p.rows ? rows : p.rows;
        p.dec_rows = dec > p.dec_rows ? dec : p.dec_rows;
        p.examples = end - at > p.examples ? end - at : p.examples;
    }
    return p;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The first pass, which also pays for what is made once, is not counted. */
static spt_status measure(struct bench *b, bool backward, struct profile_run *r, double *bytes,
                          spt_err *err)
{
    const struct t5_acts_plan plan = storage(b, backward);
    t5_acts_free(b->acts);
    b->acts = NULL;
    TRY(t5_acts_new(b->model, &plan, &b->acts, err));
    *bytes = (double)t5_acts_bytes(&b->config, b->ops->t->elem, b->ops->t->wide, &plan);
    TRY(one_pass(b, backward, err));
    ops_profile_reset(b->ops);
    const int64_t n = b->s->steps;
    *r = (struct profile_run){.what = backward ? "training step" : "forward and loss",
                              .line = ops_profile_lines(b->ops),
                              .steps = n,
                              .peak = b->peak};
    for (int64_t i = 0; i < n; i++) {
        const double from = now();
        TRY(one_pass(b, backward, err));
        b->times[i] = now() - from;
        r->total += b->times[i];
        if (stop_requested())
            return err_set(err, SPT_E_INTERRUPTED, "interrupted while measuring");
    }
    qsort(b->times, (size_t)n, sizeof *b->times, by_value);
    r->median = b->times[n / 2];
    return SPT_OK;
}

static void tell_machine(const struct bench *b, buf *out)
{
    const struct settings *s = b->s;
    buf_addf(out, "%s, %s; product peak %.1f GFLOP/s, memory %.1f GB/s\n", b->ops->t->name,
             b->half ? "bfloat16" : "float32", b->peak * 1e-9, b->bandwidth * 1e-9);
    buf_addf(
        out, "%s, batch %lld, prompt %lld, inputs of %lld, targets of %lld; %s cross-attention\n",
        s->model && s->model[0] ? s->model : s->size, (long long)s->batch, (long long)s->length,
        (long long)s->tokens, (long long)s->targets, b->absorb ? "absorbed" : "plain");
    buf_addf(out, "weights: %.1f MB packed in %.2f s%s\n", (double)t5_model_bytes(b->model) * 1e-6,
             b->load_seconds, b->source ? "" : " (random numbers included)");
}

static void key_number(json_writer *w, const char *key, double value)
{
    json_key(w, key);
    json_f64(w, value);
}

static spt_status run_both(struct bench *b, buf *out, spt_err *err)
{
    json_writer w;
    const bool json = b->s->json;
    if (json) {
        json_write_init(&w, out, JSON_SPACED);
        json_begin_object(&w);
        json_key(&w, "kernels");
        json_string(&w, b->ops->t->name);
        key_number(&w, "peak", b->peak);
        key_number(&w, "bandwidth", b->bandwidth);
        key_number(&w, "weight_bytes", (double)t5_model_bytes(b->model));
        key_number(&w, "load_seconds", b->load_seconds);
    } else {
        tell_machine(b, out);
    }
    for (int backward = 1; backward >= 0; backward--) {
        struct profile_run r;
        double bytes;
        TRY(measure(b, backward, &r, &bytes, err));
        if (json) {
            json_key(&w, backward ? "step" : "forward");
            profile_json(&r, &w);
            key_number(&w, backward ? "step_activation_bytes" : "forward_activation_bytes", bytes);
        } else {
            buf_addf(out, "\nactivations: %.1f MB\n", bytes * 1e-6);
            profile_text(&r, out);
        }
    }
    if (json) {
        json_end_object(&w);
        buf_addc(out, '\n');
    }
    return SPT_OK;
}

static void bench_close(struct bench *b)
{
    t5_acts_free(b->acts);
    t5_model_free(b->model);
    t5_source_close(b->source);
    ops_close(b->ops);
    mem_free(b->enc_off);
    mem_free(b->dec_off);
    mem_free(b->ids);
    mem_free(b->in);
    mem_free(b->target);
    mem_free(b->prompt);
    mem_free(b->grad);
    mem_free(b->times);
}

spt_status run_bench(struct settings *s, struct run_output *out, spt_err *err)
{
    struct bench b = {.s = s};
    buf text;
    buf_init(&text, TEXT_MAX);
    spt_status st = open_machine(&b, err);
    if (!st)
        st = load(&b, err);
    if (!st)
        st = make_batch(&b, err);
    if (!st)
        st = run_both(&b, &text, err);
    if (!st)
        st = output_text(out, &text, err);
    buf_release(&text);
    bench_close(&b);
    return st;
}
