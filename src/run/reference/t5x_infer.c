/* t5x.infer: spec/t5x.md 9.1. Chunks of checkpoint_period batches go to a temporary directory, each
 * with its marker; a run that was killed skips the chunks that are complete. The markers stand for
 * the reference's iterator checkpoint (input.ckpt), which is TensorFlow's own. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/reference/gin_job.h"
#include "run/reference/task_answers.h"
#include "text/json.h"

enum { PATH_BYTES = 65536 };
#define CHUNK_BYTES ((size_t)4 << 30)

struct inference {
    struct gin_job *job;
    struct gin_use cfg;
    struct t5x_base base;
    struct task_env env;
    struct task_sets sets;
    struct answerer answerer;
};

static const char *mode_name(const struct inference *f)
{
    return f->cfg.mode == INFER_SCORE              ? "score"
           : f->cfg.mode == INFER_PREDICT_WITH_AUX ? "predict_with_aux"
                                                   : "predict";
}

/* "<task>-<mode>.jsonl-00000-of-00001" */
static void final_name(const struct inference *f, const struct task_set *s, buf *out)
{
    buf_addf(out, "%s-%s.%s-%05lld-of-%05lld", s->name, mode_name(f), f->cfg.extension,
             (long long)f->cfg.shard_id, (long long)f->cfg.num_shards);
}

static void tmp_dir(const struct inference *f, const struct task_set *s, buf *out)
{
    buf_addf(out, "%s/tmp-%s-%05lld-of-%05lld", f->cfg.output_dir, s->name,
             (long long)f->cfg.shard_id, (long long)f->cfg.num_shards);
}

/* --- lines --------------------------------------------------------------------------------------- */

/* Every feature whose name ends in _pretokenized. */
static void put_inputs(json_writer *w, const record *r)
{
    json_key(w, "inputs");
    json_begin_object(w);
    for (size_t i = 0; i < r->fields; i++) {
        const struct record_field *f = &r->field[i];
        if (!path_has_suffix(f->name, "_pretokenized"))
            continue;
        json_key(w, f->name);
        if (f->kind == FIELD_TEXTS)
            json_begin_array(w);
        for (size_t k = 0; k < f->count; k++)
            if (f->kind == FIELD_TEXT || f->kind == FIELD_TEXTS)
                json_string_n(w, f->u.text[k].s, f->u.text[k].len);
        if (f->kind == FIELD_TEXTS)
            json_end_array(w);
    }
    json_end_object(w);
}

static void put_line(const struct inference *f, const record *fields, const char *text, float score,
                     buf *out)
{
    json_writer w;
    json_write_init(&w, out, JSON_PYTHON);
    json_begin_object(&w);
    put_inputs(&w, fields);
    if (f->cfg.mode == INFER_SCORE) {
        json_key(&w, "score");
        json_f64(&w, (double)score);
    } else {
        json_key(&w, "prediction");
        json_string(&w, text);
    }
    if (f->cfg.mode == INFER_PREDICT_WITH_AUX) {
        json_key(&w, "aux");
        json_begin_object(&w);
        json_key(&w, "scores");
        json_f64(&w, (double)score);
        json_end_object(&w);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

static spt_status answer_chunk(struct inference *f, const struct task_set *s, size_t first,
                               size_t n, size_t chunk, buf *out, spt_err *err)
{
    char **text = mem_zalloc(n, sizeof *text);
    float *score = mem_zalloc(n, sizeof *score);
    spt_status st = text && score ? SPT_OK : err_nomem(err, n * sizeof *text);
    const struct rng_key key = rng_fold_in(rng_key_of(0), (uint32_t)chunk);
    if (!st)
        st = f->cfg.mode == INFER_SCORE
                 ? answers_score(&f->answerer, s, first, n, score, err)
                 : answers_predict(&f->answerer, s, first, n, key, text, score, err);
    for (size_t i = 0; !st && i < n; i++)
        put_line(f, &s->fields[first + i], text[i], score[i], out);
    for (size_t i = 0; text && i < n; i++)
        mem_free(text[i]);
    mem_free(text);
    mem_free(score);
    return st ? st : buf_status(out, "inferences", err);
}

/* --- files ---------------------------------------------------------------------------------------- */

static spt_status mark(const char *path, spt_err *err)
{
    buf marker;
    buf_init(&marker, PATH_BYTES);
    buf_addf(&marker, "%s.COMPLETED", path);
    spt_status st = buf_status(&marker, "path", err);
    if (!st)
        st = fs_write_all(buf_str(&marker), "", 0, err);
    buf_release(&marker);
    return st;
}

static spt_status marked(const char *path, bool *yes, spt_err *err)
{
    buf marker;
    buf_init(&marker, PATH_BYTES);
    buf_addf(&marker, "%s.COMPLETED", path);
    const spt_status st = buf_status(&marker, "path", err);
    *yes = !st && fs_exists(buf_str(&marker)) && fs_exists(path);
    buf_release(&marker);
    return st;
}

/* What the process that writes finds counts for all. */
static spt_status is_marked(const struct inference *f, const char *path, bool *yes, spt_err *err)
{
    comm *ranks = f->job->s->comm;
    bool here = false;
    TRY(comm_agree(ranks, comm_leads(ranks) ? marked(path, &here, err) : SPT_OK, err));
    unsigned bits = here;
    TRY(comm_any(ranks, &bits, err));
    *yes = bits;
    return SPT_OK;
}

static void chunk_path(const struct inference *f, const struct task_set *s, size_t chunk, buf *out)
{
    tmp_dir(f, s, out);
    buf_addc(out, '/');
    final_name(f, s, out);
    buf_addf(out, "-chunk%05zu", chunk);
}

static spt_status write_chunk(struct inference *f, const struct task_set *s, size_t chunk,
                              size_t size, spt_err *err)
{
    const size_t first = chunk * size;
    const size_t n = first + size < s->n ? size : s->n - first;
    buf path, text;
    buf_init(&path, PATH_BYTES);
    buf_init(&text, CHUNK_BYTES);
    chunk_path(f, s, chunk, &path);
    bool done = false;
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = is_marked(f, buf_str(&path), &done, err);
    if (!st && !done) {
        st = answer_chunk(f, s, first, n, chunk, &text, err);
        if (!st && comm_leads(f->job->s->comm))
            st = fs_write_all(buf_str(&path), buf_str(&text), text.len, err);
        if (!st && comm_leads(f->job->s->comm))
            st = mark(buf_str(&path), err);
    }
    buf_release(&path);
    buf_release(&text);
    return st;
}

/* The chunks one behind the other. */
static spt_status merge(struct inference *f, const struct task_set *s, size_t chunks,
                        const char *final, spt_err *err)
{
    fs_writer *w;
    TRY(fs_create(final, &w, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < chunks; i++) {
        buf path;
        char *text;
        size_t size;
        buf_init(&path, PATH_BYTES);
        chunk_path(f, s, i, &path);
        st = buf_status(&path, "path", err);
        if (!st)
            st = fs_read_all(buf_str(&path), CHUNK_BYTES, &text, &size, err);
        if (!st) {
            st = fs_write(w, text, size, err);
            mem_free(text);
        }
        buf_release(&path);
    }
    if (st) {
        fs_abort(w);
        return st;
    }
    TRY(fs_commit(w, err));
    TRY(mark(final, err));
    buf dir;
    buf_init(&dir, PATH_BYTES);
    tmp_dir(f, s, &dir);
    st = buf_status(&dir, "path", err);
    if (!st)
        st = fs_remove_tree(buf_str(&dir), err);
    buf_release(&dir);
    return st;
}

static spt_status infer_task(struct inference *f, const struct task_set *s, spt_err *err)
{
    const size_t size = (size_t)f->cfg.checkpoint_period * (size_t)f->cfg.data.batch;
    const size_t chunks = (s->n + size - 1) / size;
    buf final, dir;
    buf_init(&final, PATH_BYTES);
    buf_init(&dir, PATH_BYTES);
    buf_addf(&final, "%s/", f->cfg.output_dir);
    final_name(f, s, &final);
    tmp_dir(f, s, &dir);
    comm *ranks = f->job->s->comm;
    bool done = false;
    spt_status st = buf_status(&final, "path", err);
    if (!st)
        st = buf_status(&dir, "path", err);
    if (!st)
        st = is_marked(f, buf_str(&final), &done, err);
    if (!st && done) {
        log_info("%s is complete", buf_str(&final));
    } else {
        if (!st && comm_leads(ranks))
            st = fs_make_dirs(buf_str(&dir), err);
        for (size_t i = 0; !st && i < chunks; i++)
            st = write_chunk(f, s, i, size, err);
        if (!st && f->cfg.merge && comm_leads(ranks))
            st = merge(f, s, chunks, buf_str(&final), err);
        st = comm_agree(ranks, st, err);
        if (!st)
            log_info("%s: %zu examples", buf_str(&final), s->n);
    }
    buf_release(&final);
    buf_release(&dir);
    return st;
}

static spt_status infer(struct inference *f, spt_err *err)
{
    const struct gin_use *c = &f->cfg;
    char *path;
    bool resumed;
    const bool writes = comm_leads(f->job->s->comm);
    if (c->shard_id == 0 && writes)
        TRY(gin_job_write_config(f->job, c->output_dir, NULL, NULL, err));
    if (!c->data.has_lengths)
        return err_set(err, SPT_E_CONFIG, "inference needs TASK_FEATURE_LENGTHS");
    TRY(t5x_choose(NULL, &c->restore, &path, &resumed, err));
    TRY(t5x_base_open(&f->base, &c->model, &c->restore, path, false, false,
                      (uint64_t)c->fallback_rng, err));
    task_env_open(&f->env, extensions_tasks(f->job->x), f->job->flags->tfds_data_dir,
                  f->base.engine.vocab);
    TRY(task_sets_load(&f->sets, &f->env, &c->data, UINT64_MAX, false, false, true,
                       (uint64_t)c->shard_id, (uint64_t)c->num_shards, err));
    TRY(t5x_base_load(&f->base, f->job->s, &c->restore, err));
    TRY(answerer_open(&f->answerer, &f->base, c->data.batch, c->data.inputs, c->data.targets,
                      c->mode != INFER_SCORE, c->mode == INFER_SCORE, err));
    gin_warn_unused(f->job->config);
    TRY(gin_job_same_work(f->job, &f->base, "", err));
    if (c->shard_id == 0 && writes)
        TRY(t5x_base_info(&f->base, c->output_dir, err));
    for (size_t i = 0; i < f->sets.count; i++)
        TRY(infer_task(f, &f->sets.item[i], err));
    return SPT_OK;
}

spt_status run_t5x_infer(struct gin_job *j, spt_err *err)
{
    struct inference f = {.job = j};
    spt_status st = gin_infer_read(j->config, &f.cfg, err);
    if (!st && j->flags->has_shard_id)
        f.cfg.shard_id = j->flags->shard_id;
    if (!st && (f.cfg.shard_id < 0 || f.cfg.shard_id >= f.cfg.num_shards))
        st = err_set(err, SPT_E_USAGE, "--shard_id=%lld of %lld shards",
                     (long long)f.cfg.shard_id, (long long)f.cfg.num_shards);
    if (!st)
        st = gin_job_ranks(j, f.cfg.partitions, err);
    if (!st)
        st = infer(&f, err);
    answerer_close(&f.answerer);
    task_sets_free(&f.sets);
    task_env_close(&f.env);
    t5x_base_close(&f.base);
    gin_use_release(&f.cfg);
    return st;
}
