/* What makes a run resumable to the same bits.
 *
 * One state holds all that the next step depends on: the prompt, the optimiser's slots, the step,
 * the position in the data, the best score and the patience spent, the seed, and the length of
 * every log. Keys of the random numbers follow from seed and step, so no generator has a state of
 * its own. A log that grew after the last state is cut back when the run continues, so that no
 * line is lost or doubled. best.json is written behind the state it speaks of and again after a
 * restore: a crash between the two cannot leave it pointing nowhere.
 *
 * The identity (settings that decide the numbers, base and data hashes) stands in the state: a
 * continuation that would differ is refused, with the line that differs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "prompt/prompt_io.h"
#include "run/ranks.h"
#include "run/reference/t5x_save.h"
#include "run/train/train_internal.h"
#include "store/t5x_checkpoint.h"

#define ITEM_PROMPT "prompt"
#define ITEM_STATE "train_state"
#define ITEM_IDENTITY "identity"
#define ITEM_OWED "evaluation_owed" /* only in a state whose evaluation a signal cut short */
#define LOG_TRAIN "train.jsonl"
#define LOG_EVAL "eval.jsonl"
#define DIR_EVENTS "train"
#define DIR_SCORES "inference_eval/eval"

enum { MAX_ITEMS = 64, STATE_WORDS = 9 };

spt_status train_identity(const struct trainer *t, buf *out, spt_err *err)
{
    const struct settings *s = t->s;
    char hex[33];
    TRY(dataset_hash(t->all->train, hex, err));
    buf_addf(out, "base model = %s\nvocabulary = %s\ntraining data = %s\n", t->all->engine.base_hash,
             vocab_hash(t->all->engine.vocab), hex);
    buf_addf(out, "prompt = %lld x %lld, %s\n", (long long)t->plan.P, (long long)t->plan.E,
             t->plan.init_text);
    buf_addf(out, "compute = %s\n", t->all->engine.compute == OPS_BFLOAT16 ? "bfloat16" : "float32");
    buf_addf(out, "batch = %lld\n", (long long)t->plan.batch);
    buf_addf(out, "optimizer = %s, lr %.17g, schedule %s, warmup %lld\n", s->optimizer, s->lr,
             s->schedule, (long long)s->warmup);
    buf_addf(out, "weight-decay = %.17g\nclip-norm = %.17g\n", s->weight_decay, s->clip_norm);
    buf_addf(out, "loss = z %.17g, smoothing %.17g, normalize %s\n", s->z_loss, s->label_smoothing,
             s->normalize);
    buf_addf(out, "dropout = %.17g\ncombine = %s\nside = %s\n", s->dropout, s->combine, s->side);
    buf_addf(out, "lengths = %lld, %lld\n", (long long)t->all->task.max_input,
             (long long)t->all->task.max_target);
    return buf_status(out, "identity", err);
}

/* Names the first line that differs. */
static spt_status check_identity(const struct trainer *t, const char *was, size_t n, spt_err *err)
{
    buf now;
    buf_init(&now, 1 << 16);
    spt_status st = train_identity(t, &now, err);
    const char *a = was, *b = buf_str(&now);
    const char *end = was + n;
    while (!st && a < end && *b) {
        const size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
        if (na != nb || memcmp(a, b, na))
            st = err_set(err, SPT_E_CONFIG,
                         "%s was started with \"%.*s\", now it is \"%.*s\": continue with the same "
                         "settings, or take another --out",
                         t->s->out, (int)na, a, (int)nb, b);
        a += na + 1;
        b += nb + (b[nb] == '\n');
    }
    buf_release(&now);
    return st;
}

static void pack_state(const struct trainer *t, int64_t w[STATE_WORDS])
{
    const struct train_state *s = &t->state;
    w[0] = s->step;
    w[1] = (int64_t)s->position.epoch;
    w[2] = (int64_t)s->position.offset;
    w[3] = s->best_step;
    memcpy(&w[4], &s->best_score, sizeof w[4]);
    w[5] = s->without_improvement;
    w[6] = s->stopped_early;
    w[7] = t->seed;
    w[8] = t->plan.steps;
}

static void unpack_state(struct trainer *t, const int64_t w[STATE_WORDS])
{
    struct train_state *s = &t->state;
    s->step = w[0];
    s->position = (struct batch_position){(uint64_t)w[1], (uint64_t)w[2]};
    s->best_step = w[3];
    memcpy(&s->best_score, &w[4], sizeof w[4]);
    s->without_improvement = w[5];
    s->stopped_early = w[6] != 0;
    t->seed = (uint32_t)w[7];
}

static struct tensor_view bytes_view(const void *p, size_t n)
{
    return (struct tensor_view){DT_U8, shape_1d((int64_t)n), p};
}

/* Path of an event file relative to the run directory. */
static const char *below_run(const struct trainer *t, const char *path)
{
    size_t n = strlen(t->s->out);
    while (n && t->s->out[n - 1] == '/')
        n--; /* "run/", and "/" itself */
    if (strncmp(path, t->s->out, n) || path[n] != '/')
        return path;
    return path + n + strspn(path + n, "/");
}

static spt_status sync_logs(struct trainer *t, struct ckpt_log *logs, size_t *count, spt_err *err)
{
    struct train_logs *l = &t->logs;
    size_t n = 0;
    if (l->train) {
        TRY(fs_log_sync(l->train, err));
        logs[n++] = (struct ckpt_log){LOG_TRAIN, fs_log_size(l->train)};
    }
    if (l->eval) {
        TRY(fs_log_sync(l->eval, err));
        logs[n++] = (struct ckpt_log){LOG_EVAL, fs_log_size(l->eval)};
    }
    if (l->events) {
        TRY(events_sync(l->events, err));
        logs[n++] = (struct ckpt_log){below_run(t, events_path(l->events)), events_size(l->events)};
    }
    if (l->scores) {
        TRY(events_sync(l->scores, err));
        logs[n++] = (struct ckpt_log){below_run(t, events_path(l->scores)), events_size(l->scores)};
    }
    *count = n;
    return SPT_OK;
}

static spt_status write_best(const struct trainer *t, spt_err *err)
{
    if (t->state.best_step < 0)
        return SPT_OK;
    char name[PROMPT_NAME_TEXT];
    const struct prompt_best best = {
        .file = prompt_file_name(t->state.best_step, name),
        .step = t->state.best_step,
        .metric = t->all->metric,
        .score = t->state.best_score,
    };
    return prompt_best_write(t->s->out, &best, err);
}

static spt_status describe_prompt(struct trainer *t, spt_err *err)
{
    t->prompt->use.step = t->state.step;
    if (t->evaluated_step != t->state.step)
        return prompt_set_text(&t->prompt->use.scores, NULL, err);
    char scores[128];
    if (isnan(t->last_score))
        snprintf(scores, sizeof scores, "{\"%s\": null}", t->all->metric);
    else
        snprintf(scores, sizeof scores, "{\"%s\": %.17g}", t->all->metric, t->last_score);
    return prompt_set_text(&t->prompt->use.scores, scores, err);
}

static spt_status save_items(struct trainer *t, const char *identity, size_t identity_len,
                             const char *export, size_t export_size, spt_err *err)
{
    int64_t words[STATE_WORDS];
    pack_state(t, words);
    struct ckpt_item items[MAX_ITEMS];
    size_t n = 0;
    items[n++] =
        (struct ckpt_item){ITEM_PROMPT, {DT_F32, shape_2d(t->plan.P, t->plan.E), t->prompt->rows}};
    items[n++] = (struct ckpt_item){ITEM_STATE, {DT_I64, shape_1d(STATE_WORDS), words}};
    items[n++] = (struct ckpt_item){ITEM_IDENTITY, bytes_view(identity, identity_len)};
    if (t->evaluation_owed)
        items[n++] = (struct ckpt_item){ITEM_OWED, bytes_view("", 1)};
    for (size_t i = 0; i < optim_slot_count(t->optim) && n < MAX_ITEMS; i++) {
        const struct optim_slot *slot = optim_slot_at(t->optim, i);
        items[n++] = (struct ckpt_item){slot->name, {slot->dtype, slot->shape, slot->data}};
    }
    struct ckpt_log logs[4];
    size_t log_count;
    TRY(sync_logs(t, logs, &log_count, err));
    char name[PROMPT_NAME_TEXT];
    const struct ckpt_export exports[1] = {
        {prompt_file_name(t->state.step, name), export, export_size}};
    const struct ckpt_state state = {
        .step = t->state.step,
        .items = items,
        .item_count = n,
        .exports = exports,
        .export_count = 1,
        .logs = logs,
        .log_count = log_count,
        .has_score = t->evaluated_step == t->state.step && isfinite(t->last_score),
        .score = t->last_score,
    };
    return ckpt_save(t->ck, &state, err);
}

static spt_status save_state(struct trainer *t, spt_err *err)
{
    buf identity;
    buf_init(&identity, 1 << 16);
    char *bytes = NULL;
    size_t size = 0;
    spt_status st = train_identity(t, &identity, err);
    if (!st)
        st = describe_prompt(t, err);
    if (!st)
        st = prompt_serialize(t->prompt, &bytes, &size, err);
    if (!st)
        st = save_items(t, buf_str(&identity), identity.len, bytes, size, err);
    if (!st)
        st = write_best(t, err);
    mem_free(bytes);
    buf_release(&identity);
    if (!st || !err || strstr(err->msg, "saving step")) /* ckpt_save says it itself */
        return st;
    return err_wrap(err, st, "saving step %lld", (long long)t->state.step);
}

spt_status train_save(struct trainer *t, spt_err *err)
{
    if (t->saved_step == t->state.step)
        return SPT_OK;
    spt_status st = comm_leads(t->s->comm) ? save_state(t, err) : SPT_OK;
    TRY(comm_agree(t->s->comm, st, err));
    t->saved_step = t->state.step;
    return SPT_OK;
}

static void put_number_hash(buf *out, const char *name, const void *bytes, size_t n)
{
    char hex[HASH_TEXT];
    buf_addf(out, "%s = %s\n", name, hash_text(hash_bytes(bytes, n), hex));
}

spt_status train_compare_ranks(const struct trainer *t, spt_err *err)
{
    if (comm_size(t->s->comm) == 1)
        return SPT_OK;
    char hex[33] = "none";
    buf text;
    buf_init(&text, 1 << 20);
    buf_addf(&text, "program = spt %s\nseed = %u\nstep = %lld\n", SPT_VERSION, t->seed,
             (long long)t->state.step);
    spt_status st = train_identity(t, &text, err);
    if (!st)
        st = settings_text(t->s, &text, err);
    if (!st && t->all->eval)
        st = dataset_hash(t->all->eval, hex, err);
    buf_addf(&text, "evaluation data = %s\n", hex);
    put_number_hash(&text, "prompt", t->prompt->rows,
                    (size_t)(t->plan.P * t->plan.E) * sizeof(float));
    if (!st)
        st = buf_status(&text, "settings", err);
    st = ranks_same_text(t->s->comm, &text, st, err);
    buf_release(&text);
    return st;
}

bool train_saved_seed(const char *dir, uint32_t *seed)
{
    ckpt_loaded *l;
    spt_err err;
    const struct tensor_shape words = shape_1d(STATE_WORDS);
    const void *p;
    if (ckpt_load_latest(dir, &l, &err))
        return false;
    const bool found = !ckpt_loaded_get(l, ITEM_STATE, DT_I64, &words, &p, &err);
    if (found) {
        int64_t w[STATE_WORDS];
        memcpy(w, p, sizeof w);
        *seed = (uint32_t)w[7];
    }
    ckpt_loaded_free(l);
    return found;
}

static spt_status restore_items(struct trainer *t, const ckpt_loaded *l, spt_err *err)
{
    const struct tensor_view *identity = ckpt_loaded_tensor(l, ITEM_IDENTITY);
    const struct tensor_shape words = shape_1d(STATE_WORDS);
    const struct tensor_shape rows = shape_2d(t->plan.P, t->plan.E);
    const void *p;
    int64_t w[STATE_WORDS];
    if (!identity || identity->dtype != DT_U8)
        return err_set(err, SPT_E_FORMAT, "the state of step %lld has no identity",
                       (long long)ckpt_loaded_step(l));
    TRY(check_identity(t, identity->data, (size_t)identity->shape.dim[0], err));
    TRY(ckpt_loaded_get(l, ITEM_STATE, DT_I64, &words, &p, err));
    memcpy(w, p, sizeof w);
    if (t->s->seed && t->s->seed[0] && (uint32_t)w[7] != t->seed)
        return err_set(err, SPT_E_CONFIG, "%s was started with seed %lld, not %u", t->s->out,
                       (long long)w[7], t->seed);
    TRY(ckpt_loaded_get(l, ITEM_PROMPT, DT_F32, &rows, &p, err));
    memcpy(t->prompt->rows, p, (size_t)(t->plan.P * t->plan.E) * sizeof(float));
    for (size_t i = 0; i < optim_slot_count(t->optim); i++) {
        const struct optim_slot *slot = optim_slot_at(t->optim, i);
        size_t elements, bytes;
        TRY(ckpt_loaded_get(l, slot->name, slot->dtype, &slot->shape, &p, err));
        TRY(tensor_size(slot->dtype, &slot->shape, &elements, &bytes, err));
        memcpy(slot->data, p, bytes);
    }
    unpack_state(t, w);
    t->evaluation_owed = t->all->eval && ckpt_loaded_tensor(l, ITEM_OWED);
    t->trainer_key = rng_split_at(rng_key_of(t->seed), 2, 1, RNG_CLASSIC);
    return train_use_settings(t, err);
}

/* The order depends on the seed, which a run without --seed learns from its state. */
static spt_status reorder(struct trainer *t, spt_err *err)
{
    const struct train_order_options o = {
        .count = examples_count(t->all->train),
        .batch = (size_t)t->plan.batch,
        .seed = t->seed,
    };
    train_order_free(t->order);
    t->order = NULL;
    TRY(train_order_new(&o, &t->order, err));
    return train_order_seek(t->order, t->state.position, err);
}

spt_status train_restore(struct trainer *t, spt_err *err)
{
    ckpt_loaded *l;
    TRY(ckpt_load_latest(t->s->out, &l, err));
    spt_status st = restore_items(t, l, err);
    ckpt_loaded_free(l);
    if (st == SPT_E_CONFIG && !t->s->resume)
        return err_wrap(err, st, "%s holds a run already", t->s->out);
    if (st)
        return err_wrap(err, st == SPT_E_NOTFOUND ? SPT_E_FORMAT : st, "cannot resume");
    TRY(reorder(t, err));
    t->saved_step = t->state.step;
    return comm_leads(t->s->comm) ? write_best(t, err) : SPT_OK;
}

/* --- logs ---------------------------------------------------------------------------------------
 */

/* Event files that no state knows were begun by a run that died before its first save. */
static spt_status drop_strangers(const char *dir, const char *keep, spt_err *err)
{
    fs_names names;
    if (!fs_is_dir(dir))
        return SPT_OK;
    TRY(fs_list(dir, &names, err));
    buf path;
    buf_init(&path, 65536);
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        if (!strstr(names.name[i], "tfevents") || (keep && !strcmp(names.name[i], keep)))
            continue;
        st = path_join(&path, dir, names.name[i], err);
        if (!st)
            st = fs_remove_tree(buf_str(&path), err);
    }
    buf_release(&path);
    fs_names_free(&names);
    return st;
}

/* Continues the event file that the state recorded below `sub`, or starts one. */
static spt_status open_events(struct trainer *t, const ckpt_loaded *l, const char *sub,
                              events_writer **out, spt_err *err)
{
    const char *recorded = NULL;
    uint64_t size = 0;
    for (size_t i = 0; l && i < ckpt_loaded_log_count(l); i++) {
        const char *name = ckpt_loaded_log_name(l, i);
        if (!strncmp(name, sub, strlen(sub)) && name[strlen(sub)] == '/') {
            recorded = name;
            ckpt_loaded_log(l, name, &size);
        }
    }
    buf dir, path;
    buf_init(&dir, 65536);
    buf_init(&path, 65536);
    spt_status st = path_join(&dir, t->s->out, sub, err);
    if (!st)
        st = drop_strangers(buf_str(&dir), recorded ? path_base(recorded) : NULL, err);
    if (!st && recorded)
        st = path_join(&path, t->s->out, recorded, err);
    if (!st)
        st = recorded ? events_resume(buf_str(&path), size, out, err)
                      : events_create(buf_str(&dir), out, err);
    buf_release(&dir);
    buf_release(&path);
    return st;
}

static spt_status open_log(struct trainer *t, const ckpt_loaded *l, const char *name, fs_log **out,
                           spt_err *err)
{
    uint64_t keep = 0;
    if (l && !ckpt_loaded_log(l, name, &keep))
        keep = 0;
    buf path;
    buf_init(&path, 65536);
    spt_status st = path_join(&path, t->s->out, name, err);
    if (!st)
        st = fs_log_open(buf_str(&path), keep, out, err);
    buf_release(&path);
    return st;
}

/* The settings that reproduce the run, as gin bindings of our own names. */
static spt_status write_config(const struct trainer *t, spt_err *err)
{
    buf text, path;
    buf_init(&text, 1 << 20);
    buf_init(&path, 65536);
    spt_status st = settings_text_seeded(t->s, t->seed, &text, err);
    if (!st)
        st = path_join(&path, t->s->out, "config.gin", err);
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
    buf_release(&text);
    buf_release(&path);
    return st;
}

spt_status train_open_logs(struct trainer *t, spt_err *err)
{
    ckpt_loaded *l = NULL;
    if (!comm_leads(t->s->comm))
        return SPT_OK;
    spt_status st = ckpt_load_latest(t->s->out, &l, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    st = l ? SPT_OK : write_config(t, err);
    if (!st)
        st = open_log(t, l, LOG_TRAIN, &t->logs.train, err);
    if (!st)
        st = open_events(t, l, DIR_EVENTS, &t->logs.events, err);
    if (!st && t->all->eval)
        st = open_log(t, l, LOG_EVAL, &t->logs.eval, err);
    if (!st && t->all->eval)
        st = open_events(t, l, DIR_SCORES, &t->logs.scores, err);
    ckpt_loaded_free(l);
    return st;
}

/* --- the end ------------------------------------------------------------------------------------
 */

static spt_status load_best(const struct trainer *t, struct prompt **out, spt_err *err)
{
    buf path;
    buf_init(&path, 65536);
    spt_status st = prompt_best_path(t->s->out, &path, err);
    if (!st)
        st = prompt_read(buf_str(&path), NULL, out, err);
    buf_release(&path);
    return st;
}

/* The base and the best prompt: what `--save-full` asks for. */
static spt_status save_full(struct trainer *t, const struct prompt *p, spt_err *err)
{
    struct t5x_saving w = {0};
    const struct tensor_view rows = {DT_F32, shape_2d(p->P, p->E), p->rows};
    const struct t5x_save how = {.step = p->use.step, .target_dtype = DT_F32};
    bool skipped;
    spt_status st = t5x_saving_open(&w, t->all->engine.source, 1, err);
    if (!st)
        st = t5x_saving_add(&w, "target/",
                            p->use.side == PROMPT_DECODER ? PROMPT_T5X_DECODER : PROMPT_T5X_ENCODER,
                            &rows, true, err);
    if (!st)
        st = t5x_saving_write(&w, &how, NULL, 0, t->s->out, &skipped, err);
    t5x_saving_close(&w);
    return st;
}

/* Has an earlier end of this run written it? Writing again would make a backup of equal content. */
static spt_status numpy_exists(const struct trainer *t, const struct prompt *p, bool *yes,
                               spt_err *err)
{
    struct prompt *old = NULL;
    buf path;
    buf_init(&path, 65536);
    buf_addf(&path, "%s/numpy_checkpoints/checkpoint_%lld", t->s->out, (long long)p->use.step);
    spt_status st = buf_status(&path, "path", err);
    *yes = false;
    if (!st && fs_is_dir(buf_str(&path))) {
        st = prompt_read(buf_str(&path), NULL, &old, err);
        *yes = !st && old->P == p->P && old->E == p->E &&
               !memcmp(old->rows, p->rows, (size_t)(p->P * p->E) * sizeof(float));
        if (st == SPT_E_FORMAT || st == SPT_E_NOTFOUND)
            st = SPT_OK; /* something else: it will be moved aside */
    }
    prompt_free(old);
    buf_release(&path);
    return st;
}

spt_status train_finish(struct trainer *t, spt_err *err)
{
    struct prompt *best;
    bool there = false;
    if (!comm_leads(t->s->comm))
        return SPT_OK;
    TRY(load_best(t, &best, err));
    spt_status st = numpy_exists(t, best, &there, err);
    if (!st && !there)
        st = prompt_write(best, t->s->out, PROMPT_T5X_NUMPY, NULL, NULL, err);
    if (!st && t->s->save_full)
        st = save_full(t, best, err);
    if (!st)
        train_tell_end(t, best);
    prompt_free(best);
    return st;
}
