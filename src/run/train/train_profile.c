/* --profile: where the time of a run went. */
#include "base/log.h"
#include "ops/cpu/cpu.h"
#include "run/profile_text.h"
#include "run/train/train_internal.h"

enum { TEXT_MAX = 1 << 16, PARTS = 3 };

static double seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

static struct profile_run steps_run(const struct training *a, double peak,
                                    struct profile_part part[PARTS])
{
    const struct train_times *s = &a->spent;
    part[0] = (struct profile_part){"data", seconds(s->data)};
    part[1] = (struct profile_part){"optimiser", seconds(s->optimiser)};
    part[2] = (struct profile_part){"logs", seconds(s->logs)};
    return (struct profile_run){
        .what = "training step",
        .line = a->stepped,
        .steps = s->steps,
        .total = seconds(s->data + s->gradient + s->optimiser + s->logs),
        .peak = peak,
        .part = part,
        .parts = PARTS,
    };
}

static struct profile_run evaluations_run(const struct training *a, double peak)
{
    return (struct profile_run){
        .what = "evaluation",
        .line = a->evaluated,
        .steps = a->spent.evaluations,
        .total = seconds(a->spent.evaluation),
        .peak = peak,
    };
}

/* What the first rank told the others; per step and as a share of it. */
static void exchanged_text(const struct training *a, buf *out)
{
    const struct exchanged *x = &a->exchanged;
    char sent[32], got[32];
    if (comm_size(a->s->comm) == 1 || !x->steps)
        return;
    const double n = (double)x->steps;
    buf_addf(out,
             "exchanges: %.1f a step (%lld of the gradient in %lld steps), %s sent and %s received a "
             "step, %.3g s in them or waiting\n",
             (double)(x->gradients + x->sums) / n, (long long)x->gradients, (long long)x->steps,
             bytes_text((double)x->sent / n, sent), bytes_text((double)x->received / n, got),
             seconds(x->wait_ns) / n);
}

void train_exchange_json(const struct exchanged *x, int64_t ranks, int64_t partitions,
                         const char *name, double time, json_writer *w)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"ranks", ranks},
                   {"num_partitions", partitions},
                   {"steps", x->steps},
                   {"gradient_exchanges", x->gradients},
                   {"sums", x->sums},
                   {"sent_bytes", x->sent},
                   {"received_bytes", x->received}};
    json_key(w, "exchange");
    json_begin_object(w);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_key(w, numbers[i].name);
        json_i64(w, numbers[i].value);
    }
    json_key(w, name);
    json_f64(w, time);
    json_end_object(w);
}

static spt_status write_json(struct training *a, const struct profile_run *steps,
                             const struct profile_run *evaluations, buf *out, spt_err *err)
{
    json_writer w;
    buf_clear(out);
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "event");
    json_string(&w, "profile");
    json_key(&w, "peak");
    json_f64(&w, steps->peak);
    json_key(&w, "step");
    profile_json(steps, &w);
    if (evaluations->steps) {
        json_key(&w, "evaluation");
        profile_json(evaluations, &w);
    }
    if (comm_size(a->s->comm) > 1)
        train_exchange_json(&a->exchanged, comm_size(a->s->comm), comm_size(a->ranks),
                            "wait_seconds", seconds(a->exchanged.wait_ns), &w);
    json_key(&w, "saving_seconds");
    json_f64(&w, seconds(a->spent.saving));
    json_end_object(&w);
    buf_addc(out, '\n');
    return output_text(a->out, out, err);
}

spt_status train_tell_profile(struct training *a, spt_err *err)
{
    if (!a->spent.steps) {
        log_info("--profile: no step was made");
        return SPT_OK;
    }
    ops *inner = ops_profile_inner(a->engine.ops);
    const bool half = a->engine.compute == OPS_BFLOAT16 && ops_native_bfloat16();
    const double peak = ops_cpu_peak(inner, half, 0.5);
    struct profile_part part[PARTS];
    const struct profile_run steps = steps_run(a, peak, part);
    const struct profile_run evaluations = evaluations_run(a, peak);
    buf text;
    buf_init(&text, TEXT_MAX);
    if (peak > 0)
        buf_addf(&text, "product peak of this machine now: %.1f GFLOP/s (%s, %d threads)\n",
                 peak * 1e-9, half ? "bfloat16" : "float32", ops_cpu_threads(inner));
    profile_text(&steps, &text);
    profile_text(&evaluations, &text);
    exchanged_text(a, &text);
    if (a->spent.saving)
        buf_addf(&text, "saving: %.2f s in all\n", seconds(a->spent.saving));
    spt_status st = buf_status(&text, "profile", err);
    if (!st)
        profile_log(&text);
    if (!st && a->s->json)
        st = write_json(a, &steps, &evaluations, &text, err);
    buf_release(&text);
    return st;
}
