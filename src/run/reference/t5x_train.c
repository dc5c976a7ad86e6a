/* t5x.train for prompts: spec/t5x.md section 6, event by event.
 *
 * A run is a MODEL_DIR. Its newest checkpoint is where it continues; all periods count from the
 * first step of this process, as in the reference. What a step draws follows from the seed and the
 * optimizer's step, so a continued run takes the same steps; the order of the data does so only with
 * SaveCheckpointConfig.save_dataset = True (the reference starts its data over otherwise). Such a
 * run is exact: wherever it is killed, it ends with the same checkpoints, prompts and scores. Its
 * periods count from its first step of all, and an evaluation that may be missing is made again. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/dir_lock.h"
#include "run/reference/gin_job.h"
#include "run/gradient.h"
#include "run/ranks.h"
#include "run/reference/t5x_metrics.h"
#include "run/reference/task_eval.h"
#include "text/json.h"

enum { PATH_BYTES = 65536, RUN_NAME = 113 /* longest name of a training_eval run */ };

/* What a checkpoint remembers besides T5X's own arrays, with save_dataset. */
struct memory {
    int64_t start; /* step at which the data began */
    int64_t data_seed, seed;
    bool known;
};

struct t5x_trainer {
    struct gin_job *job;
    struct gin_train cfg;
    fs_lock *lock; /* of model_dir */
    bool made_dir; /* model_dir was not there before */
    struct t5x_base base;
    struct task_env env;
    struct task_feed feed;
    struct task_sets train_eval;
    struct task_eval infer_eval;
    struct gradient gradient;
    struct rng_key trainer_key;
    struct memory memory;
    int64_t first, total, epoch_steps, stats_period;
    int64_t origin; /* step that periods count from: first, or where a continued run's data began */
    int64_t last_saved; /* step of the last checkpoint of this process, -1 */
    events_writer *events;
    events_writer **eval_events; /* [train_eval.count] */
    int64_t created_ns, told_ns;
    bool stop; /* asked for, as all processes saw it last */
};

static double seconds_since(int64_t ns)
{
    return (double)(os_monotonic_ns() - ns) / 1e9;
}

static bool writes(const struct t5x_trainer *t)
{
    return comm_leads(t->job->s->comm);
}

/* Whether any process was asked to stop. */
static spt_status ask_stop(struct t5x_trainer *t, spt_err *err)
{
    unsigned any = stop_requested();
    TRY(comm_any(t->job->s->comm, &any, err));
    t->stop = any;
    return SPT_OK;
}

static unsigned own_stop(void *ctx)
{
    (void)ctx;
    return stop_requested();
}

static int64_t step_of(const struct t5x_trainer *t)
{
    return optim_get_step(t->base.optim);
}

/* --- the memory of a checkpoint ------------------------------------------------------------------- */

#define MEMORY_NAME "train_ds-000-of-001"

static spt_status memory_read(struct memory *m, const char *checkpoint, spt_err *err)
{
    buf path;
    char *text = NULL;
    size_t size;
    buf_init(&path, PATH_BYTES);
    spt_status st = path_join(&path, checkpoint, MEMORY_NAME, err);
    if (!st && fs_exists(buf_str(&path))) {
        long long start, data, seed;
        st = fs_read_all(buf_str(&path), 4096, &text, &size, err);
        if (!st && sscanf(text, "{\"start\": %lld, \"data_seed\": %lld, \"seed\": %lld}", &start,
                          &data, &seed) != 3)
            st = err_set(err, SPT_E_FORMAT, "%s: not a position in the data of ours",
                         buf_str(&path));
        if (!st)
            *m = (struct memory){start, data, seed, true};
    }
    mem_free(text);
    buf_release(&path);
    return st;
}

/* --- opening ----------------------------------------------------------------------------------------- */

/* Nothing left to train: fine for a finished run, a mistake for a fresh one. */
static spt_status check_steps(const struct t5x_trainer *t, bool *nothing, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const long long step = t->base.step, total = t->total;
    *nothing = false;
    if (total > step)
        return SPT_OK;
    if (t->base.resumed) {
        log_info("%s holds checkpoint_%lld and TRAIN_STEPS is %lld: the run is finished",
                 c->model_dir, step, total);
        *nothing = true;
        return SPT_OK;
    }
    return err_set(err, SPT_E_CONFIG,
                   "nothing to train: TRAIN_STEPS is %lld and the checkpoint %s is at step %lld "
                   "already. TRAIN_STEPS counts from step 0 of the pre-training: give more than "
                   "%lld, or TRAIN_STEPS_RELATIVE=N for N steps from here",
                   total, t->base.path, step, step);
}

static spt_status plan_periods(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const bool evaluates = c->has_train_eval || c->has_infer_eval;
    const int64_t period[] = {evaluates ? c->eval_period : 0, c->has_save ? c->save.period : 0};
    static const char *const name[] = {"EVAL_PERIOD", "SaveCheckpointConfig.period"};
    int64_t epoch = 0;
    for (int i = 0; i < 2; i++)
        if (period[i] > 0 && (!epoch || period[i] < epoch))
            epoch = period[i];
    for (int i = 0; i < 2; i++)
        if (period[i] > 0 && period[i] % epoch)
            return err_set(err, SPT_E_CONFIG, "%s = %lld is not a multiple of %lld, the smallest "
                                              "of the periods",
                           name[i], (long long)period[i], (long long)epoch);
    t->epoch_steps = epoch ? epoch : t->total;
    t->stats_period = c->stats_period > 0 ? c->stats_period : t->epoch_steps;
    return SPT_OK;
}

static spt_status make_seeds(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    uint32_t drawn = 0;
    if (!c->has_seed || !c->train.has_seed) {
        const int r = os_random(&drawn, sizeof drawn);
        TRY(ranks_take_u32(t->job->s->comm, &drawn,
                           r < 0 ? err_sys(err, SPT_E_IO, -r, "cannot draw a seed") : SPT_OK,
                           err));
    }
    t->memory.seed = c->has_seed ? c->seed : drawn;
    t->memory.data_seed = c->train.has_seed ? c->train.seed : drawn;
    return SPT_OK;
}

/* The seeds and the start of the data of the run that is continued. */
static spt_status recall(struct t5x_trainer *t, spt_err *err)
{
    struct memory was = {0};
    const struct gin_train *c = &t->cfg;
    if (t->base.resumed)
        TRY(memory_read(&was, t->base.path, err));
    t->origin = t->base.step;
    if (was.known && c->save.save_dataset) {
        const struct memory now = t->memory;
        t->memory = was;
        t->origin = was.start;
        if (c->has_seed)
            t->memory.seed = now.seed;
        if (c->train.has_seed)
            t->memory.data_seed = now.data_seed;
        return SPT_OK;
    }
    t->memory.start = t->base.step;
    if (t->base.resumed)
        log_warning("the order of the training data starts over (SaveCheckpointConfig."
                    "save_dataset = True continues it)");
    return SPT_OK;
}

/* What no binding says: flags that repeat the run. */
static void add_drawn(const struct t5x_trainer *t, buf *out)
{
    if (!t->cfg.has_seed)
        buf_addf(out, " --gin.RANDOM_SEED=%lld", (long long)t->memory.seed);
    if (!t->cfg.train.has_seed)
        buf_addf(out, " --gin.train/utils.DatasetConfig.seed=%lld",
                 (long long)t->memory.data_seed);
}

static spt_status open_base(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const struct gin_restore *r = c->has_restore ? &c->restore : NULL;
    char *path;
    bool resumed;
    TRY(t5x_choose(c->model_dir, r, &path, &resumed, err));
    TRY(t5x_base_open(&t->base, &c->model, r, path, resumed, true, (uint64_t)t->memory.seed, err));
    TRY(recall(t, err));
    t->first = t->base.step;
    t->total = c->has_relative ? t->first + c->relative_steps : c->total_steps;
    log_info("%s step %lld (%s); prompt of %lld rows %s", resumed ? "continued at" : "restored",
             (long long)t->first, t->base.path, (long long)c->model.prompt.P,
             t->base.prompt_restored ? "from the checkpoint" : "from its initialiser");
    buf drawn;
    buf_init(&drawn, 4096);
    add_drawn(t, &drawn);
    if (drawn.len)
        log_info("drawn at random; these flags give the same run again:%s", buf_str(&drawn));
    buf_release(&drawn);
    return SPT_OK;
}

static spt_status open_data(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const uint64_t skip = (uint64_t)(t->first - t->memory.start) * (uint64_t)c->train.batch;
    const gin_strings *caches = &t->job->flags->cache_dirs;
    task_env_open(&t->env, extensions_tasks(t->job->x), t->job->flags->tfds_data_dir,
                  t->base.engine.vocab);
    t->env.cache_dir = (const char *const *)caches->item;
    t->env.cache_dirs = caches->count;
    TRY(task_feed_open(&t->feed, &t->env, &c->train, t->memory.data_seed, skip, err));
    if (c->microbatches && c->train.batch % c->microbatches)
        return err_set(err, SPT_E_CONFIG,
                       "Trainer.num_microbatches = %lld does not divide the batch of %lld",
                       (long long)c->microbatches, (long long)c->train.batch);
    if (c->has_train_eval && c->eval_steps > 0) {
        const uint64_t most = (uint64_t)c->eval_steps * (uint64_t)c->train_eval.batch;
        TRY(task_sets_load(&t->train_eval, &t->env, &c->train_eval, most, true, false, false, 0,
                           1, err));
    }
    if (c->has_infer_eval)
        TRY(task_eval_open(&t->infer_eval, &t->env, &t->base, &c->infer_eval, &c->evaluator,
                           c->model_dir, err));
    return SPT_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static spt_status open_storage(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    struct gradient *g = &t->gradient;
    g->model = t->base.engine.model;
    g->comm = t->job->s->data_ranks;
    g->ask = own_stop;
    g->loss = c->model.loss;
    g->P = t->base.prompt->P;
    g->E = t->base.prompt->E;
    const int64_t longest = larger(c->train.inputs, t->train_eval.longest_input) + g->P;
    const int64_t target = larger(c->train.targets, t->train_eval.longest_target);
    const int64_t batch_size = larger(c->train.batch, c->has_train_eval ? c->train_eval.batch : 0);
    g->rows_in_flight = larger(t->job->s->micro_rows, longest);
    if (g->rows_in_flight > batch_size * longest)
        g->rows_in_flight = batch_size * longest;
    TRY(gradient_open(g, batch_size, target, false, c->model.dropout > 0, err));
    t->infer_eval.replaces = c->has_save && c->save.save_dataset;
    return c->has_infer_eval ? task_eval_plan(&t->infer_eval, &c->infer_eval, err) : SPT_OK;
}

static spt_status open_events_in(const char *dir, const char *below, const char *name,
                                 events_writer **out, spt_err *err)
{
    buf path;
    buf_init(&path, PATH_BYTES);
    buf_addf(&path, "%s/%s", dir, below);
    if (name)
        buf_addf(&path, "/%.*s", RUN_NAME, name);
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = events_create(buf_str(&path), out, err);
    buf_release(&path);
    return st;
}

static spt_status open_logs(struct t5x_trainer *t, spt_err *err)
{
    const char *dir = t->cfg.model_dir;
    t->eval_events = mem_zalloc(t->train_eval.count + 1, sizeof(events_writer *));
    if (!t->eval_events)
        return err_nomem(err, t->train_eval.count * sizeof(events_writer *));
    if (!writes(t))
        return SPT_OK;
    TRY(open_events_in(dir, "train", NULL, &t->events, err));
    for (size_t i = 0; i < t->train_eval.count; i++)
        TRY(open_events_in(dir, "training_eval", t->train_eval.item[i].name, &t->eval_events[i],
                           err));
    return SPT_OK;
}

static spt_status write_config(struct t5x_trainer *t, spt_err *err)
{
    buf text, markdown, drawn;
    buf_init(&text, 64 << 20);
    buf_init(&markdown, 128 << 20);
    buf_init(&drawn, 4096);
    add_drawn(t, &drawn);
    spt_status st = buf_status(&drawn, "seeds", err);
    if (!st)
        st = gin_job_write_config(t->job, t->cfg.model_dir, buf_str(&drawn), &text, err);
    if (!st) {
        gin_markdown(buf_str(&text), text.len, &markdown);
        buf_addc(&markdown, '\0');
        st = buf_status(&markdown, "config", err);
    }
    if (!st)
        st = events_text(t->events, t->first, "config", buf_str(&markdown), err);
    buf_release(&text);
    buf_release(&markdown);
    buf_release(&drawn);
    return st;
}

/* A directory that was made for the lock and got nothing else does not stay behind. */
static void leave_directory(struct t5x_trainer *t)
{
    spt_err err;
    fs_names names = {0};
    const bool empty = t->lock && t->made_dir && !fs_list(t->cfg.model_dir, &names, &err) &&
                       !names.count;
    fs_names_free(&names);
    if (empty)
        (void)fs_remove_tree(t->cfg.model_dir, &err);
    fs_lock_release(t->lock);
}

static void trainer_close(struct t5x_trainer *t)
{
    for (size_t i = 0; t->eval_events && i < t->train_eval.count; i++)
        events_close(t->eval_events[i]);
    mem_free(t->eval_events);
    events_close(t->events);
    task_eval_close(&t->infer_eval);
    task_sets_free(&t->train_eval);
    gradient_close(&t->gradient);
    task_feed_close(&t->feed);
    task_env_close(&t->env);
    t5x_base_close(&t->base);
    leave_directory(t);
    gin_train_release(&t->cfg);
}

/* --- a step ------------------------------------------------------------------------------------------ */

/* What went with the exchange of the gradient, if there was one. */
static spt_status stop_in_step(struct t5x_trainer *t, spt_err *err)
{
    const struct settings *s = t->job->s;
    unsigned any = s->data_ranks ? t->gradient.told : stop_requested();
    TRY(comm_any(s->part, &any, err));
    t->stop = any;
    return SPT_OK;
}

static spt_status step_gradient(struct t5x_trainer *t, const struct packed_batch *b,
                                struct t5x_metrics *m, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const float rate = (float)c->model.dropout;
    struct rng_key key = rng_fold_in(t->trainer_key, (uint32_t)step_of(t));
    struct t5_loss loss;
    if (!c->microbatches) {
        TRY(gradient_of(&t->gradient, t->base.prompt, b, rate, key, &loss, err));
        t5x_metrics_add(m, b, &loss, true);
        return stop_in_step(t, err);
    }
    /* The reference's micro-batches: keys split, gradients added, losses normalised one by one. */
    const size_t n = (size_t)(t->gradient.P * t->gradient.E);
    float *sum = mem_zalloc(n, sizeof *sum);
    if (!sum)
        return err_nomem(err, n * sizeof *sum);
    spt_status st = SPT_OK;
    for (int64_t j = 0; !st && j < c->microbatches; j++) {
        const struct packed_batch *micro;
        const struct rng_key sub = rng_split_at(key, 2, 1, RNG_CLASSIC);
        key = rng_split_at(key, 2, 0, RNG_CLASSIC);
        st = task_feed_micro(&t->feed, j, c->microbatches, &micro, err);
        if (!st)
            st = gradient_of(&t->gradient, t->base.prompt, micro, rate, sub, &loss, err);
        if (st)
            break;
        t5x_metrics_add(m, micro, &loss, j == 0);
        for (size_t i = 0; i < n; i++)
            sum[i] += t->gradient.sum[i];
    }
    if (!st)
        memcpy(t->gradient.sum, sum, n * sizeof *sum);
    mem_free(sum);
    return st ? st : stop_in_step(t, err);
}

static void tell_progress(struct t5x_trainer *t, const struct t5x_metrics *m)
{
    const struct spt_sink *sink = t->job->out->sink;
    const int64_t now = os_monotonic_ns();
    char line[160];
    if (t->job->s->quiet || !sink->progress || !sink->terminal || now - t->told_ns < 200000000)
        return;
    t->told_ns = now;
    snprintf(line, sizeof line, "step %lld/%lld  loss %.4f", (long long)step_of(t),
             (long long)t->total, m->loss / (double)m->steps);
    sink->progress(sink->ctx, line);
}

static spt_status train_step_of(struct t5x_trainer *t, struct t5x_metrics *m, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const struct packed_batch *b;
    bool end;
    TRY(task_feed_next(&t->feed, &b, &end, err));
    if (end)
        return err_set(err, SPT_E_CONFIG, "the training data of %s ended at step %lld",
                       c->train.task, (long long)step_of(t));
    TRY(step_gradient(t, b, m, err));
    const struct prompt *p = t->base.prompt;
    TRY(gradient_check(t->gradient.sum, p->P, p->E, "gradient of the prompt", err));
    const float lr = lr_at(&c->lr, step_of(t));
    optim_step(t->base.optim, &t->base.prompt->rows, (const float *const *)&t->gradient.sum,
               c->model.own_learning_rate ? (float)c->model.learning_rate : lr);
    TRY(gradient_check_prompt(p->rows, p->P, p->E, err));
    t5x_metrics_rate(m, lr);
    tell_progress(t, m);
    return SPT_OK;
}

/* --- checkpoints, evaluation -------------------------------------------------------------------------- */

static spt_status save(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    char text[160];
    const int n = snprintf(text, sizeof text,
                           "{\"start\": %lld, \"data_seed\": %lld, \"seed\": %lld}\n",
                           (long long)t->memory.start, (long long)t->memory.data_seed,
                           (long long)t->memory.seed);
    const struct t5x_file position = {MEMORY_NAME, text, (size_t)n};
    const spt_status st = writes(t) ? t5x_base_save(&t->base, c->model_dir, &c->save, &position,
                                                    c->save.save_dataset, err)
                                    : SPT_OK;
    TRY(comm_agree(t->job->s->comm, st, err)); /* the others wait until it is durable */
    t->last_saved = step_of(t);
    return SPT_OK;
}

/* eval_steps batches of a set, from its start over again when it is short. */
static spt_status eval_set(struct t5x_trainer *t, size_t at, int64_t step, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const struct task_set *s = &t->train_eval.item[at];
    const int64_t B = c->train_eval.batch, start = os_monotonic_ns();
    const int64_t Le = c->train_eval.has_lengths ? c->train_eval.inputs : s->longest_input;
    const int64_t Ld = c->train_eval.has_lengths ? c->train_eval.targets : s->longest_target;
    struct t5x_metrics m = {0};
    batch b = {0};
    uint32_t *which = mem_alloc((size_t)B, sizeof *which);
    spt_status st = which ? SPT_OK : err_nomem(err, (size_t)B * sizeof *which);
    for (int64_t k = 0; !st && k < c->eval_steps; k++) {
        struct t5_loss loss;
        for (int64_t i = 0; i < B; i++)
            which[i] = (uint32_t)((uint64_t)(k * B + i) % s->n);
        st = batch_make(&b, s->x, which, (size_t)B, Le, Ld, err);
        if (!st)
            st = gradient_loss(&t->gradient, t->base.prompt, &b.view, &loss, err);
        if (!st)
            t5x_metrics_add(&m, &b.view, &loss, true);
        if (!st)
            st = ask_stop(t, err);
        if (!st && t->stop)
            st = err_set(err, SPT_E_INTERRUPTED, "interrupted while evaluating");
    }
    if (!st)
        st = t5x_metrics_write(&m, t->eval_events[at], step, seconds_since(start), false, 0, err);
    if (!st)
        log_info("step %lld: %s loss %.6g, accuracy %.4f", (long long)step, s->name,
                 m.loss / (double)m.steps, (double)m.correct / (double)m.counted);
    batch_release(&b);
    mem_free(which);
    return st;
}

static spt_status evaluate_now(struct t5x_trainer *t, int64_t step, spt_err *err)
{
    for (size_t i = 0; i < t->train_eval.count; i++) {
        if (step == t->first + t->epoch_steps || (t->cfg.eval_first && step == t->first))
            TRY(events_scalar(t->eval_events[i], step, "timing/compilation_seconds", 0, err));
        TRY(eval_set(t, i, step, err));
        TRY(events_sync(t->eval_events[i], err));
    }
    return t->cfg.has_infer_eval ? task_eval_run(&t->infer_eval, step, err) : SPT_OK;
}

/* --- the loop ----------------------------------------------------------------------------------------- */

static bool listed(const struct gin_save *s, int64_t step)
{
    for (size_t i = 0; i < s->at_count; i++)
        if (s->at[i] == step)
            return true;
    return false;
}

/* Steps until `end`, with their summary; shorter when a listed checkpoint comes first. */
static spt_status run_chunk(struct t5x_trainer *t, int64_t end, spt_err *err)
{
    struct t5x_metrics m = {0};
    const int64_t start = os_monotonic_ns();
    while (step_of(t) < end) {
        const spt_status st = train_step_of(t, &m, err);
        if (st == SPT_E_NONFINITE)
            return err_wrap(err, st, "step %lld", (long long)step_of(t) + 1);
        TRY(st);
        if (t->stop || (t->cfg.has_save && listed(&t->cfg.save, step_of(t))))
            break;
    }
    const int64_t step = step_of(t);
    TRY(t5x_metrics_write(&m, t->events, step, seconds_since(start), true,
                          seconds_since(t->created_ns), err));
    log_info("step %lld: loss %.6g, accuracy %.4f, %.1f examples/s", (long long)step,
             m.loss / (double)m.steps, (double)m.correct / (double)m.counted,
             (double)m.seqs / seconds_since(start));
    if (t->cfg.has_save && listed(&t->cfg.save, step))
        TRY(save(t, err));
    return events_sync(t->events, err);
}

static spt_status interrupted(struct t5x_trainer *t, spt_err *err)
{
    if (!t->cfg.has_save || t->cfg.save.period <= 0)
        return err_set(err, SPT_E_INTERRUPTED, "interrupted at step %lld; nothing was saved "
                                               "(SaveCheckpointConfig.period)",
                       (long long)step_of(t));
    if (t->last_saved != step_of(t))
        TRY(save(t, err));
    return err_set(err, SPT_E_INTERRUPTED,
                   "interrupted after saving step %lld; the same command continues",
                   (long long)step_of(t));
}

static spt_status end_of_epoch(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    const int64_t step = step_of(t), done = step - t->origin;
    const bool last = step >= t->total;
    int64_t start = os_monotonic_ns();
    if (c->has_save && c->save.period > 0 && (done % c->save.period == 0 || last)) {
        TRY(save(t, err));
        TRY(events_scalar(t->events, step, "timing/checkpoint_seconds",
                          (float)seconds_since(start), err));
    }
    const bool evaluates = c->has_train_eval || c->has_infer_eval;
    if (evaluates && c->eval_period > 0 && (done % c->eval_period == 0 || last)) {
        start = os_monotonic_ns();
        TRY(evaluate_now(t, step, err));
        TRY(events_scalar(t->events, step, "timing/evaluate_seconds",
                          (float)seconds_since(start), err));
    }
    return events_sync(t->events, err);
}

/* The first step behind this one that is a whole number of periods from the origin. */
static int64_t next_multiple(const struct t5x_trainer *t, int64_t period)
{
    return t->origin + ((step_of(t) - t->origin) / period + 1) * period;
}

static spt_status loop(struct t5x_trainer *t, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    stop_lets_fetch();
    while (step_of(t) < t->total) {
        int64_t end = next_multiple(t, t->epoch_steps);
        if (end > t->total)
            end = t->total;
        while (step_of(t) < end) {
            const int64_t chunk = c->has_save && c->save.save_dataset
                                      ? next_multiple(t, t->stats_period)
                                      : step_of(t) + t->stats_period;
            TRY(run_chunk(t, chunk < end ? chunk : end, err));
            if (t->stop)
                return interrupted(t, err);
        }
        spt_status st = end_of_epoch(t, err);
        if (!st)
            st = ask_stop(t, err);
        if (st == SPT_E_INTERRUPTED || (!st && t->stop))
            return interrupted(t, err);
        TRY(st);
    }
    return SPT_OK;
}

/* A checkpoint is written before its step is evaluated: a kill between them loses the scores. */
static bool evaluation_may_lack(const struct t5x_trainer *t)
{
    const struct gin_train *c = &t->cfg;
    const int64_t done = t->first - t->origin;
    return done > 0 && (c->has_train_eval || c->has_infer_eval) && c->eval_period > 0 &&
           (done % c->eval_period == 0 || t->first >= t->total);
}

static spt_status take_directory(struct t5x_trainer *t, spt_err *err)
{
    t->made_dir = !fs_exists(t->cfg.model_dir);
    TRY(fs_make_dirs(t->cfg.model_dir, err));
    TRY(dir_lock(t->cfg.model_dir, "another trainer is at work there", &t->lock, err));
    return t5x_empty_trash(t->cfg.model_dir, err);
}

static spt_status compare_ranks(struct t5x_trainer *t, spt_err *err)
{
    char more[256];
    snprintf(more, sizeof more, "seed = %lld\ndata seed = %lld\nfirst step = %lld\n",
             (long long)t->memory.seed, (long long)t->memory.data_seed, (long long)t->first);
    return gin_job_same_work(t->job, &t->base, more, err);
}

static spt_status start(struct t5x_trainer *t, bool *nothing, spt_err *err)
{
    const struct gin_train *c = &t->cfg;
    /* Before anything of the run is read: what another trainer does there would make it stale. */
    TRY(comm_agree(t->job->s->comm, writes(t) ? take_directory(t, err) : SPT_OK, err));
    TRY(make_seeds(t, err));
    TRY(open_base(t, err));
    TRY(check_steps(t, nothing, err));
    if (*nothing && !evaluation_may_lack(t))
        return SPT_OK;
    t->trainer_key = rng_split_at(rng_key_of(t->memory.seed), 2, 1, RNG_CLASSIC);
    TRY(plan_periods(t, err));
    TRY(open_data(t, err));
    if (*nothing) {
        bool done;
        TRY(task_eval_done(&t->infer_eval, t->first, &done, err));
        if (done)
            return SPT_OK;
        log_info("its last evaluation is missing and is made now");
    }
    TRY(t5x_base_load(&t->base, t->job->s, c->has_restore ? &c->restore : NULL, err));
    TRY(open_storage(t, err));
    gin_warn_unused(t->job->config);
    const double restored = seconds_since(t->created_ns);
    t->infer_eval.ranks = t->job->s->comm;
    TRY(compare_ranks(t, err));
    if (writes(t))
        TRY(t5x_base_info(&t->base, c->model_dir, err));
    TRY(open_logs(t, err));
    if (writes(t))
        TRY(write_config(t, err));
    TRY(events_scalar(t->events, t->first, "timing/init_or_restore_seconds", (float)restored, err));
    if ((c->eval_first && t->first == t->origin) || evaluation_may_lack(t))
        TRY(evaluate_now(t, t->first, err));
    if (*nothing)
        return SPT_OK;
    if (c->has_save && c->save.period > 0)
        TRY(save(t, err));
    TRY(events_scalar(t->events, t->first, "timing/compilation_seconds", 0, err));
    TRY(events_scalar(t->events, t->first, "timing/train_iter_warmup", 0, err));
    return events_sync(t->events, err);
}

spt_status run_t5x_train(struct gin_job *j, spt_err *err)
{
    struct t5x_trainer t = {.job = j, .last_saved = -1};
    bool nothing = false;
    t.created_ns = os_monotonic_ns();
    spt_status st = gin_train_read(j->config, &t.cfg, err);
    if (!st)
        st = gin_job_ranks(j, t.cfg.partitions, err);
    if (!st)
        st = start(&t, &nothing, err);
    if (!st && !nothing)
        st = loop(&t, err);
    if (!st && !nothing)
        log_info("done: step %lld in %s", (long long)step_of(&t), t.cfg.model_dir);
    trainer_close(&t);
    return st;
}
