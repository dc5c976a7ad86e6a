/* The entry functions with their data sets, evaluators and checkpoints; the model is in gin_model.c. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/reference/gin_read.h"

/* --- data ---------------------------------------------------------------------------------------- */

static void read_lengths(struct gs *g, const gin_value *v, struct gin_dataset *d)
{
    const gin_value map = gs_arg(g, v, "task_feature_lengths");
    if (g->st || map.kind == GIN_NONE)
        return;
    const gin_value *in = gin_dict_get(&map, "inputs"), *out = gin_dict_get(&map, "targets");
    if (map.kind != GIN_DICT || map.count != 2 || !in || !out || !gin_as_int(in, &d->inputs) ||
        !gin_as_int(out, &d->targets) || d->inputs < 1 || d->targets < 1) {
        gs_complain(g, v, "task_feature_lengths", &map,
                 "wanted {'inputs': N, 'targets': M} or None");
        return;
    }
    d->has_lengths = true;
}

static void read_dataset(struct gs *g, const gin_value *v, struct gin_dataset *d)
{
    if (g->st)
        return;
    if (!gs_is_object(v, "t5x.utils.DatasetConfig")) {
        g->st = err_set(g->err, SPT_E_CONFIG, "a data set is a %s, wanted @utils.DatasetConfig()",
                        gs_name(v));
        return;
    }
    const gin_value name = gs_arg(g, v, "mixture_or_task_name");
    d->task = gs_needed_text(g, v, "mixture_or_task_name");
    (void)name;
    d->split = gs_needed_text(g, v, "split");
    d->module = gs_text(g, v, "module");
    d->batch = gs_positive(g, v, "batch_size");
    d->shuffle = gs_boolean(g, v, "shuffle", false);
    d->use_cached = gs_boolean(g, v, "use_cached", false);
    d->trim = gs_boolean(g, v, "trim_output_features", true);
    gs_only_bool(g, v, "pack", false);
    (void)gs_arg(g, v, "use_custom_packing_ops");
    (void)gs_arg(g, v, "use_memory_cache");
    gs_only_none(g, v, "runtime_preprocessors");
    const gin_value seed = gs_arg(g, v, "seed");
    d->has_seed = seed.kind != GIN_NONE;
    d->seed = gs_integer(g, v, "seed", 0);
    read_lengths(g, v, d);
}

static void read_loggers(struct gs *g, const gin_value *ev, struct gin_evaluator *e)
{
    static const char *const caller[] = {"output_dir"};
    const gin_value list = gs_arg(g, ev, "logger_cls");
    gin_arg dir = {caller[0], {.kind = GIN_NONE}};
    for (uint32_t i = 0; !g->st && (list.kind == GIN_LIST || list.kind == GIN_TUPLE) &&
                         i < list.count; i++) {
        const gin_value *l = &list.u.items[i];
        gin_value made_one;
        e->console |= gin_is(l, "seqio.PyLoggingLogger");
        e->tensorboard |= gin_is(l, "seqio.TensorBoardLogger");
        if (!gin_is(l, "seqio.JSONLogger"))
            continue;
        e->json = true;
        g->st = gin_call_value(g->c, l, "", &dir, 1, &made_one, g->err);
        e->write_results = gs_integer(g, &made_one, "write_n_results", -1);
    }
}

static void read_evaluator(struct gs *g, const gin_value *root, struct gin_evaluator *e)
{
    static const char *const caller[] = {"mixture_or_task_name", "feature_converter"};
    *e = (struct gin_evaluator){.num_examples = -1, .write_results = -1};
    const gin_value ev = gs_make(g, root, "inference_evaluator_cls", caller, 2);
    if (g->st || ev.kind != GIN_OBJECT)
        return;
    e->num_examples = gs_integer(g, &ev, "num_examples", -1);
    (void)gs_arg(g, &ev, "use_memory_cache");
    read_loggers(g, &ev, e);
}

/* --- checkpoints --------------------------------------------------------------------------------- */

static void read_dtype(struct gs *g, const gin_value *v, bool *has, enum dtype *out)
{
    const char *name = gs_dtype_text(g, v, "dtype");
    *has = name != NULL;
    *out = DT_F32;
    if (name && (!dtype_from_name(name, strlen(name), out) ||
                 (*out != DT_F32 && *out != DT_BF16 && *out != DT_F16)) && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "%s.dtype = '%s': wanted None, 'float32', 'float16' or 'bfloat16'",
                        gs_name(v), name);
}

static void read_map(struct gs *g, const gin_value *v, struct gin_restore *r)
{
    const gin_value map = gs_arg(g, v, "assignment_map");
    if (g->st || map.kind == GIN_NONE)
        return;
    r->has_map = true;
    r->from = mem_zalloc((size_t)map.count + 1, sizeof *r->from);
    r->to = mem_zalloc((size_t)map.count + 1, sizeof *r->to);
    if (!r->from || !r->to) {
        g->st = err_nomem(g->err, map.count * sizeof *r->from);
        return;
    }
    for (uint32_t i = 0; (map.kind == GIN_TUPLE || map.kind == GIN_LIST) && i < map.count; i++) {
        const gin_value *pair = &map.u.items[i];
        const bool ok = (pair->kind == GIN_TUPLE || pair->kind == GIN_LIST) && pair->count == 2 &&
                        gin_as_str(&pair->u.items[0]) &&
                        (pair->u.items[1].kind == GIN_NONE || gin_as_str(&pair->u.items[1]));
        if (!ok) {
            gs_complain(g, v, "assignment_map", &map,
                     "wanted pairs of a regular expression and a name or None, such as "
                     "((r'^.*prompt.*$', None),)");
            return;
        }
        r->from[i] = gin_as_str(&pair->u.items[0]);
        r->to[i] = gin_as_str(&pair->u.items[1]);
        r->maps++;
    }
}

static void read_restore(struct gs *g, const gin_value *v, struct gin_restore *r)
{
    if (g->st)
        return;
    if (!gs_is_object(v, "t5x.utils.RestoreCheckpointConfig")) {
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "what restores is a %s, wanted @utils.RestoreCheckpointConfig()",
                        gs_name(v));
        return;
    }
    gs_texts(g, v, "path", &r->path);
    const char *mode = gs_needed_text(g, v, "mode");
    if (!strcmp(mode, "specific"))
        r->mode = RESTORE_SPECIFIC;
    else if (!strcmp(mode, "latest"))
        r->mode = RESTORE_LATEST;
    else if (!strcmp(mode, "all"))
        r->mode = RESTORE_ALL;
    else if (!g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.mode = '%s': wanted 'specific', 'latest' or 'all'",
                        mode);
    r->fallback = gs_boolean(g, v, "fallback_to_scratch", false);
    r->strict = gs_boolean(g, v, "strict", true);
    gs_only_bool(g, v, "restore_dataset", false);
    read_dtype(g, v, &r->has_dtype, &r->dtype);
    read_map(g, v, r);
    const gin_value fns = gs_arg(g, v, "state_transformation_fns");
    if ((fns.kind == GIN_LIST || fns.kind == GIN_TUPLE) && fns.count)
        gs_complain(g, v, "state_transformation_fns", &fns, "none are supported");
    if (!g->st && r->fallback && !r->has_map)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.fallback_to_scratch = True needs an "
                        "assignment_map (() for none)");
}

static void restore_release(struct gin_restore *r)
{
    mem_free(r->path.item);
    mem_free(r->from);
    mem_free(r->to);
    *r = (struct gin_restore){0};
}

static void read_save(struct gs *g, const gin_value *v, struct gin_save *s)
{
    static const char *const caller[] = {"train_state", "partitioner", "checkpoints_dir"};
    if (g->st || v->kind == GIN_NONE)
        return;
    bool has;
    s->period = gs_integer(g, v, "period", 0);
    s->keep = gs_integer(g, v, "keep", -1);
    s->save_dataset = gs_boolean(g, v, "save_dataset", false);
    read_dtype(g, v, &has, &s->dtype);
    gs_only_none(g, v, "keep_dataset_checkpoints");
    const gin_value steps = gs_arg(g, v, "checkpoint_steps");
    if (!g->st && (steps.kind == GIN_LIST || steps.kind == GIN_TUPLE)) {
        s->at = mem_zalloc((size_t)steps.count + 1, sizeof *s->at);
        if (!s->at)
            g->st = err_nomem(g->err, steps.count * sizeof *s->at);
        for (uint32_t i = 0; s->at && i < steps.count; i++)
            if (!gin_as_int(&steps.u.items[i], &s->at[s->at_count++]))
                gs_complain(g, v, "checkpoint_steps", &steps, "wanted a list of steps");
    }
    const gin_value cls = gs_arg(g, v, "checkpointer_cls");
    if (gin_is(&cls, "prompt_tuning.train.utils.Checkpointer")) {
        const gin_value c = gs_make(g, v, "checkpointer_cls", NULL, 0);
        s->numpy = true;
        gs_texts(g, &c, "save_paths", &s->save_paths);
    } else if (cls.kind == GIN_CALLABLE && !gin_is(&cls, "t5x.checkpoints.Checkpointer")) {
        gs_refuse(g, &cls, "the checkpointer", NULL);
    }
    (void)caller;
    if (!g->st && s->keep == 0)
        g->st = err_set(g->err, SPT_E_CONFIG, "SaveCheckpointConfig.keep = 0: wanted None or more");
}

/* --- entry functions ------------------------------------------------------------------------------ */

/* What every entry function has; its devices are ours. */
static void read_common(struct gs *g, const gin_value *root, int64_t *partitions)
{
    *partitions = 1;
    const gin_value p = gs_arg(g, root, "partitioner");
    if (p.kind == GIN_OBJECT) {
        const int64_t n = gs_integer(g, &p, "num_partitions", 1);
        *partitions = n > 1 ? n : 1;
        (void)gs_arg(g, &p, "logical_axis_rules");
        (void)gs_arg(g, &p, "model_parallel_submesh");
    }
    const gin_value summary = gs_arg(g, root, "summarize_config_fn");
    (void)summary;
    bool given = false;
    gin_value orbax;
    if (!g->st && gin_get_given(g->c, root, "use_orbax", &orbax, &given) && given) {
        bool on = false;
        if (gin_as_bool(&orbax, &on) && on)
            log_warning("use_orbax = True: checkpoints are written in the legacy T5X format, which "
                        "every T5X reads");
    }
}

static void read_schedule(struct gs *g, const gin_value *trainer, struct lr_schedule *s)
{
    const gin_value v = gs_arg(g, trainer, "learning_rate_fn");
    if (g->st)
        return;
    if (!gs_is_object(&v, "t5x.utils.create_learning_rate_scheduler")) {
        gs_refuse(g, &v, "the learning rate", "wanted @utils.create_learning_rate_scheduler()");
        return;
    }
    *s = lr_schedule_default();
    s->base_learning_rate = gs_real(g, &v, "base_learning_rate", 0.5);
    s->warmup_steps = gs_integer(g, &v, "warmup_steps", 1000);
    s->decay_factor = gs_real(g, &v, "decay_factor", 0.5);
    s->steps_per_decay = gs_integer(g, &v, "steps_per_decay", 20000);
    s->steps_per_cycle = gs_integer(g, &v, "steps_per_cycle", 100000);
    s->step_offset = gs_integer(g, &v, "step_offset", 0);
    s->min_learning_rate = gs_real(g, &v, "min_learning_rate", 1e-8);
    const char *factors = gs_needed_text(g, &v, "factors");
    if (!g->st)
        g->st = lr_schedule_parse(s, factors, g->err);
    if (!g->st)
        g->st = lr_schedule_check(s, g->err);
}

static void read_trainer(struct gs *g, const gin_value *root, struct gin_train *t)
{
    static const char *const caller[] = {"model", "train_state", "partitioner", "eval_names",
                                         "summary_dir", "train_state_axes", "rng"};
    const gin_value v = gs_make(g, root, "trainer_cls", caller, 7);
    if (g->st)
        return;
    if (!gs_is_object(&v, "t5x.trainer.Trainer")) {
        gs_refuse(g, &v, "the trainer", "wanted @trainer.Trainer");
        return;
    }
    t->microbatches = gs_integer(g, &v, "num_microbatches", 0);
    if (t->microbatches <= 1)
        t->microbatches = 0;
    gs_only_none(g, &v, "weight_metrics_computer");
    read_schedule(g, &v, &t->lr);
}

static void read_checkpoint_cfg(struct gs *g, const gin_value *root, struct gin_train *t)
{
    const gin_value cfg = gs_arg(g, root, "checkpoint_cfg");
    const gin_value restore = gs_arg(g, &cfg, "restore"), save = gs_arg(g, &cfg, "save");
    t->has_restore = restore.kind != GIN_NONE;
    t->has_save = save.kind != GIN_NONE;
    if (t->has_restore)
        read_restore(g, &restore, &t->restore);
    if (t->has_save)
        read_save(g, &save, &t->save);
    if (!g->st && t->has_restore && t->restore.mode == RESTORE_ALL)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.mode = 'all' is for evaluation");
}

static spt_status call_entry(struct gs *g, const char *name, gin_value *root)
{
    g->st = gin_call(g->c, name, NULL, 0, root, g->err);
    return g->st;
}

spt_status gin_train_read(gin_config *c, struct gin_train *t, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *t = (struct gin_train){.evaluator = {.num_examples = -1, .write_results = -1}};
    TRY(call_entry(g, "__main__.train", &root));
    t->model_dir = gs_needed_text(g, &root, "model_dir");
    gs_read_model(g, &root, &t->model);
    const gin_value train = gs_arg(g, &root, "train_dataset_cfg");
    const gin_value train_eval = gs_arg(g, &root, "train_eval_dataset_cfg");
    const gin_value infer_eval = gs_arg(g, &root, "infer_eval_dataset_cfg");
    read_dataset(g, &train, &t->train);
    t->has_train_eval = train_eval.kind != GIN_NONE;
    if (t->has_train_eval)
        read_dataset(g, &train_eval, &t->train_eval);
    t->has_infer_eval = infer_eval.kind != GIN_NONE;
    if (t->has_infer_eval)
        read_dataset(g, &infer_eval, &t->infer_eval);
    read_checkpoint_cfg(g, &root, t);
    read_common(g, &root, &t->partitions);
    read_trainer(g, &root, t);
    read_evaluator(g, &root, &t->evaluator);
    t->total_steps = gs_integer(g, &root, "total_steps", 0);
    const gin_value relative = gs_arg(g, &root, "relative_steps");
    t->has_relative = relative.kind != GIN_NONE;
    t->relative_steps = gs_integer(g, &root, "relative_steps", 0);
    t->eval_steps = gs_integer(g, &root, "eval_steps", 0);
    t->eval_period = gs_integer(g, &root, "eval_period", 0);
    t->stats_period = gs_integer(g, &root, "stats_period", 0);
    const gin_value seed = gs_arg(g, &root, "random_seed");
    t->has_seed = seed.kind != GIN_NONE;
    t->seed = gs_integer(g, &root, "random_seed", 0);
    if (gs_boolean(g, &root, "use_hardware_rng", false) && !g->st)
        log_warning("use_hardware_rng = True: threefry is used, so that runs repeat");
    t->eval_first = gs_boolean(g, &root, "run_eval_before_training", false);
    (void)gs_arg(g, &root, "concurrent_metrics");
    (void)gs_arg(g, &root, "gc_period");
    gs_only_none(g, &root, "actions");
    if (!g->st && !t->model.trains)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "EncoderDecoderModel.optimizer_def is None: nothing would be trained");
    if (!g->st && !t->model.prompt.P)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "the model has no prompt (PromptEncoder.prompt_factory): there is nothing "
                        "to train");
    return g->st;
}

void gin_train_release(struct gin_train *t)
{
    gs_model_release(&t->model);
    restore_release(&t->restore);
    mem_free(t->save.save_paths.item);
    mem_free(t->save.at);
    *t = (struct gin_train){0};
}

static void read_use(struct gs *g, const gin_value *root, struct gin_use *u)
{
    const gin_value data = gs_arg(g, root, "dataset_cfg");
    const gin_value restore = gs_arg(g, root, "restore_checkpoint_cfg");
    const gin_value rng = gs_arg(g, root, "fallback_init_rng");
    u->output_dir = gs_needed_text(g, root, "output_dir");
    gs_read_model(g, root, &u->model);
    read_dataset(g, &data, &u->data);
    read_restore(g, &restore, &u->restore);
    read_common(g, root, &u->partitions);
    u->has_fallback_rng = rng.kind != GIN_NONE;
    u->fallback_rng = gs_integer(g, root, "fallback_init_rng", 0);
}

spt_status gin_eval_read(gin_config *c, struct gin_use *u, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *u = (struct gin_use){0};
    TRY(call_entry(g, "__main__.evaluate", &root));
    read_use(g, &root, u);
    read_evaluator(g, &root, &u->evaluator);
    gs_only_none(g, &root, "training_evaluator_cls");
    return g->st;
}

spt_status gin_infer_read(gin_config *c, struct gin_use *u, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *u = (struct gin_use){0};
    TRY(call_entry(g, "__main__.infer", &root));
    read_use(g, &root, u);
    const char *mode = gs_needed_text(g, &root, "mode");
    if (!strcmp(mode, "score"))
        u->mode = INFER_SCORE;
    else if (!strcmp(mode, "predict_with_aux"))
        u->mode = INFER_PREDICT_WITH_AUX;
    else if (strcmp(mode, "predict") && !g->st)
        g->st = err_set(err, SPT_E_CONFIG,
                        "infer.mode = '%s': wanted 'predict', 'score' or 'predict_with_aux'", mode);
    u->checkpoint_period = gs_positive(g, &root, "checkpoint_period");
    u->shard_id = gs_integer(g, &root, "shard_id", 0);
    u->num_shards = gs_integer(g, &root, "num_shards", 1);
    u->merge = gs_boolean(g, &root, "merge_chunked_results", true);
    u->extension = gs_needed_text(g, &root, "file_extension");
    if (!g->st && (u->num_shards < 1 || u->shard_id < 0 || u->shard_id >= u->num_shards))
        g->st = err_set(err, SPT_E_CONFIG, "infer.shard_id = %lld of num_shards = %lld",
                        (long long)u->shard_id, (long long)u->num_shards);
    return g->st;
}

void gin_use_release(struct gin_use *u)
{
    gs_model_release(&u->model);
    restore_release(&u->restore);
    *u = (struct gin_use){0};
}
