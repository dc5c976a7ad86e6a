/* `spt plan`: what a training run takes, before a weight is read. */
#include "run/train/sweep_runs.h"
#include "run/train/train_internal.h"
#include "text/json.h"

struct item {
    const char *key, *name;
    double bytes;
};

enum { ITEMS = 7, TEXT_MAX = 1 << 14 };

static void items_of(const struct train_cost *c, struct item item[ITEMS])
{
    const struct item all[ITEMS] = {
        {"weights", "weights, packed", c->weights},
        {"activations", "activations", c->activations},
        {"gradients", "gradient shards", c->gradients},
        {"optimiser", "optimiser", c->optimiser},
        {"evaluation", "evaluation", c->evaluation},
        {"scratch", "scratch of the threads", c->scratch},
        {"process", "program, vocabulary, data", c->process},
    };
    for (int i = 0; i < ITEMS; i++)
        item[i] = all[i];
}

static int64_t ranks_of(const struct training *t)
{
    return t->s->ranks > t->s->partitions ? t->s->ranks : t->s->partitions;
}

/* Bytes of the first rank, exactly, in the steps that were looked at. */
static void exchange_text(const struct training *t, buf *out)
{
    char text[32];
    const struct exchanged *x = &t->cost.counted;
    const double steps = x->steps ? (double)x->steps : 1;
    if (ranks_of(t) == 1)
        return;
    buf_addf(out, "%-28s %12lld\n", "ranks", (long long)ranks_of(t));
    buf_addf(out, "%-28s %12lld\n", "parts of the model", (long long)t->s->partitions);
    buf_addf(out, "%-28s %12s\n", "a rank sends in a step",
             count_text((int64_t)((double)x->sent / steps + 0.5), text));
    buf_addf(out, "%-28s %12s\n", "and receives (bytes)",
             count_text((int64_t)((double)x->received / steps + 0.5), text));
    buf_addf(out, "%-28s %12.1f\n", "exchanges in a step",
             (double)(x->gradients + x->sums) / steps);
    if (t->cost.exchange > 0)
        buf_addf(out, "%-28s %10.3g s\n", "of a step, exchanges", t->cost.exchange);
}

static int64_t most_steps(const struct training *t)
{
    int64_t most = 0;
    for (size_t i = 0; i < t->runs; i++)
        most = t->run[i].plan.steps > most ? t->run[i].plan.steps : most;
    return most;
}

static void as_json(const struct training *t, const struct item *item, buf *out)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "bytes");
    json_begin_object(&w);
    for (int i = 0; i < ITEMS; i++) {
        json_key(&w, item[i].key);
        json_i64(&w, (int64_t)item[i].bytes);
    }
    json_key(&w, "total");
    json_i64(&w, (int64_t)t->cost.total);
    json_end_object(&w);
    json_key(&w, "rows_in_flight");
    json_i64(&w, t->rows_in_flight);
    json_key(&w, "micro_rows");
    json_i64(&w, t->micro_rows);
    json_key(&w, "remat");
    json_bool(&w, t->remat);
    json_key(&w, "compute");
    json_string(&w, engine_compute_name(&t->engine));
    json_key(&w, "steps");
    json_i64(&w, most_steps(t));
    json_key(&w, "operations_per_step");
    json_f64(&w, t->cost.operations);
    json_key(&w, "seconds_per_step");
    json_f64(&w, t->cost.seconds + t->cost.exchange);
    if (ranks_of(t) > 1)
        train_exchange_json(&t->cost.counted, ranks_of(t), t->s->partitions, "seconds_per_step",
                            t->cost.exchange, &w);
    json_end_object(&w);
    buf_addc(out, '\n');
}

static void as_text(const struct training *t, const struct item *item, buf *out)
{
    char text[32];
    for (int i = 0; i < ITEMS; i++)
        buf_addf(out, "%-28s %12s\n", item[i].name, bytes_text(item[i].bytes, text));
    buf_addf(out, "%-28s %12s\n", "peak memory", bytes_text(t->cost.total, text));
    buf_addf(out, "%-28s %12s\n", "encoder rows in flight",
             count_text(t->rows_in_flight, text));
    buf_addf(out, "%-28s %12s\n", "layers computed again", t->remat ? "yes" : "no");
    buf_addf(out, "%-28s %9.2f G\n", "useful operations a step", t->cost.operations * 1e-9);
    exchange_text(t, out);
    const double seconds = t->cost.seconds + t->cost.exchange;
    buf_addf(out, "%-28s %10.3g s\n", "a step", seconds);
    buf_addf(out, "%-28s %10.0f s\n", "all steps, no evaluation", seconds * (double)most_steps(t));
}

static spt_status tell(struct training *t, struct run_output *out, spt_err *err)
{
    struct item item[ITEMS];
    buf text;
    items_of(&t->cost, item);
    buf_init(&text, TEXT_MAX);
    (t->s->json ? as_json : as_text)(t, item, &text);
    const spt_status st = output_text(out, &text, err);
    buf_release(&text);
    return st;
}

static spt_status plan_members(struct settings *s, const struct train_member *m, size_t n,
                               struct run_output *out, spt_err *err)
{
    struct training t = {0};
    spt_status st = train_open_plan(&t, s, m, n, out, err);
    if (!st)
        st = train_count_seconds(&t, err);
    if (!st)
        st = tell(&t, out, err);
    train_close(&t);
    return st;
}

spt_status run_plan(struct settings *s, struct run_output *out, spt_err *err)
{
    struct sweep_runs r = {0};
    if (!sweep_asked(s)) {
        const struct train_member one = {s, ""};
        return plan_members(s, &one, 1, out, err);
    }
    if (s->ranks > 1 || s->partitions > 1)
        return err_set(err, SPT_E_USAGE,
                       "spt sweep runs as one process: plan it without --ranks and --num-partitions");
    TRY(sweep_runs_make(s, &r, err));
    struct train_member *m = mem_alloc(r.count, sizeof *m);
    spt_status st = m ? SPT_OK : err_nomem(err, r.count * sizeof *m);
    for (size_t i = 0; !st && i < r.count; i++)
        m[i] = (struct train_member){&r.run[i].settings, r.run[i].name};
    if (!st)
        st = plan_members(s, m, r.count, out, err);
    mem_free(m);
    sweep_runs_release(&r);
    return st;
}
