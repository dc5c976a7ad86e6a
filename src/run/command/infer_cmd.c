/* `spt infer` and `spt score`: a stream of examples in, one line each out, in order. Memory does
 * not grow with the input: a chunk of examples is read, answered, written and forgotten. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "decode/score.h"
#include "fs/fs.h"
#include "run/answer_lines.h"
#include "run/commands.h"
#include "run/infer_pieces.h"
#include "run/ranks.h"
#include "text/json.h"

enum { LINE_BYTES = 1 << 30, IDENTITY_MAX = 1 << 20 };

static bool is_set(const char *text)
{
    return text && text[0];
}

/* --- where lines go --------------------------------------------------------------------------- */

struct line_sink {
    struct run_output *out;
    fs_writer *file; /* NULL: standard output */
    buf line;
};

static spt_status sink_open(struct line_sink *k, const struct settings *s, struct run_output *out,
                            spt_err *err)
{
    *k = (struct line_sink){.out = out};
    buf_init(&k->line, LINE_BYTES);
    return is_set(s->output) && comm_leads(s->comm) ? fs_create(s->output, &k->file, err) : SPT_OK;
}

static spt_status sink_flush(struct line_sink *k, spt_err *err)
{
    TRY(buf_status(&k->line, "output line", err));
    const spt_status st = k->file ? fs_write(k->file, buf_str(&k->line), k->line.len, err)
                                  : output_text(k->out, &k->line, err);
    buf_clear(&k->line);
    return st;
}

static spt_status sink_close(struct line_sink *k, spt_status st, spt_err *err)
{
    buf_release(&k->line);
    if (k->file && st)
        fs_abort(k->file);
    else if (k->file)
        st = fs_commit(k->file, err);
    return st;
}

/* --- a job
 * ------------------------------------------------------------------------------------------ */

struct infer {
    const struct settings *s;
    struct run_output *out;
    struct members u;
    struct feed *feed;
    struct generation generation;
    struct evaluate_opts opts;
    struct evaluator v;
    struct feed_chunk chunk;
    enum line_style style;
    bool targets; /* the log-likelihood of each target is asked for */
    struct answer_progress progress;
    double sum;   /* of the targets' log-likelihoods */
    uint64_t examples, tokens;
};

static enum line_style style_of(const struct settings *s)
{
    const char *mode = s->mode ? s->mode : "answers";
    return !strcmp(mode, "predict")            ? LINE_PREDICT
           : !strcmp(mode, "predict_with_aux") ? LINE_PREDICT_WITH_AUX
           : !strcmp(mode, "score")            ? LINE_SCORE
           : s->json                           ? LINE_JSON
                                               : LINE_TEXT;
}

static void infer_close(struct infer *j)
{
    answer_progress_end(&j->progress);
    evaluator_close(&j->v);
    feed_chunk_release(&j->chunk);
    feed_close(j->feed);
    generation_close(&j->generation);
    members_close(&j->u);
}

static spt_status check_ranks(const struct settings *s, spt_err *err)
{
    if (comm_size(s->comm) == 1)
        return SPT_OK;
    if (!strcmp(feed_path(s), "-"))
        return err_set(err, SPT_E_USAGE,
                       "standard input reaches one of %d ranks only: give a file",
                       comm_size(s->comm));
    return SPT_OK;
}

/* Everything that can be refused cheaply is refused before the weights are read. */
static spt_status infer_open(struct infer *j, const struct settings *s, struct run_output *out,
                             bool targets, spt_err *err)
{
    *j = (struct infer){.s = s, .out = out, .style = style_of(s), .targets = targets};
    TRY(check_ranks(s, err));
    const bool several = is_set(s->prompts);
    if (several && is_set(s->prompt))
        return err_set(err, SPT_E_USAGE, "--prompt and --prompts: give one of them");
    TRY(members_open(s, several ? s->prompts : s->prompt, NULL, 0, &j->u, err));
    j->opts = evaluate_opts_of(s, &j->u.m[0].task);
    if (several)
        for (size_t i = 0; i < j->u.count; i++)
            j->opts.generate |= !j->u.m[i].task.labels;
    j->opts.generate |= j->style == LINE_PREDICT || j->style == LINE_PREDICT_WITH_AUX;
    j->opts.generate &= !targets;
    if (targets && !s->rank_labels)
        j->opts.cross_attention = "plain"; /* labels are not ranked */
    if (is_set(s->calibrate) && (j->opts.generate || (targets && !s->rank_labels)))
        return err_set(err, SPT_E_USAGE,
                       "--calibrate is for ranking labels: with labels and "
                       "without options of decoding, or score --rank");
    if (targets && is_set(s->data) && !several)
        TRY(feed_check_targets(s, &j->u.m[0].task, err));
    TRY(feed_open(s, &j->u, targets ? DATASET_TARGETS : DATASET_INPUTS, &j->feed, err));
    if (j->opts.generate) {
        TRY(generation_open(s, &j->u.engine, &j->generation, err));
        /* Scores cost a pass over the logits: only where they are shown or needed to choose. */
        j->generation.opts.want_scores =
            (j->style != LINE_TEXT && j->style != LINE_PREDICT) || j->generation.opts.n > 1;
        j->opts.generation = &j->generation;
        log_info("answers by %s", generation_name(&j->generation));
    }
    return SPT_OK;
}

static spt_status infer_load(struct infer *j, spt_err *err)
{
    int64_t longest_input = 0, longest_target = 0;
    for (size_t i = 0; i < j->u.count; i++) {
        const struct task_text *t = &j->u.m[i].task;
        longest_input = t->max_input > longest_input ? t->max_input : longest_input;
        longest_target = t->max_target > longest_target ? t->max_target : longest_target;
    }
    TRY(members_load(j->s, &j->opts, &j->u, err));
    TRY(members_evaluator(&j->u, j->s, &j->opts, longest_input, longest_target, &j->v, err));
    answer_progress_begin(&j->progress, j->s, j->out->sink, 0);
    j->v.progress = &j->progress;
    return SPT_OK;
}

/* --- infer
 * ------------------------------------------------------------------------------------------ */

/* Lines of the chunk that was read. */
static spt_status answer_chunk(struct infer *j, buf *to, spt_err *err)
{
    struct answers a = {0};
    const size_t n = examples_count(j->chunk.x);
    float *score = NULL;
    spt_status st = SPT_OK;
    j->v.first_number = j->chunk.first;
    if (j->style == LINE_SCORE) {
        const struct t5_prompts p = prompts_of(j->u.m[0].prompt);
        if (!(score = mem_alloc(n, sizeof *score)))
            return err_nomem(err, n * sizeof *score);
        st = evaluate_targets(&j->v, &p, j->chunk.x, score, err);
    } else {
        st = members_answer(&j->u, &j->v, j->chunk.x, j->u.count > 1 ? j->chunk.of : NULL, &a, err);
    }
    for (size_t i = 0; !st && i < n; i++)
        answer_lines(to, j->style, j->s->ids, &j->u, &j->chunk, &a, score, i);
    mem_free(score);
    answers_release(&a);
    return st;
}

/* Ranks deal whole batches among themselves, so they take that many at once; the reference's
 * sampling takes one after the other. */
static size_t records_at_once(const struct infer *j)
{
    const bool one = j->generation.opts.method == DECODE_SAMPLE_T5X && j->opts.generate;
    return (size_t)j->s->batch * (one ? 1 : (size_t)comm_size(j->s->data_ranks));
}

/* Record by record as they come, `each` chunk of them through one function. */
static spt_status stream(struct infer *j, struct line_sink *k,
                         spt_status (*each)(struct infer *j, buf *line, spt_err *err), spt_err *err)
{
    for (;;) {
        TRY(feed_read(j->feed, records_at_once(j), &j->chunk, err));
        if (!examples_count(j->chunk.x))
            break;
        TRY(each(j, &k->line, err));
        TRY(sink_flush(k, err));
    }
    feed_report(j->feed);
    return SPT_OK;
}

static spt_status infer_stream(struct infer *j, spt_err *err)
{
    struct line_sink k;
    TRY(sink_open(&k, j->s, j->out, err));
    return sink_close(&k, stream(j, &k, answer_chunk, err), err);
}

/* --- infer --out ------------------------------------------------------------------------------ */

static spt_status put_file_hash(buf *out, const char *path, spt_err *err)
{
    fs_mapping m;
    char text[HASH_TEXT];
    TRY(fs_map(path, &m, err));
    buf_addf(out, "# %s\n", hash_text(hash_bytes(m.bytes, m.size), text));
    fs_unmap(&m);
    return SPT_OK;
}

/* All that decides which bytes come out. */
static spt_status identity(struct infer *j, buf *out, spt_err *err)
{
    char text[HASH_TEXT];
    TRY(settings_text(j->s, out, err));
    TRY(t5_source_hash(j->u.engine.source, j->u.engine.base_hash, err));
    buf_addf(out, "# %s\n# %s\n", j->u.engine.base_hash, vocab_hash(j->u.engine.vocab));
    for (size_t i = 0; i < j->u.count; i++) {
        const struct prompt *p = j->u.m[i].prompt;
        if (p)
            buf_addf(out, "# %s\n",
                     hash_text(hash_bytes(p->rows, (size_t)(p->P * p->E) * sizeof *p->rows), text));
    }
    TRY(put_file_hash(out, feed_path(j->s), err));
    return buf_status(out, "settings", err);
}

/* Processes that read other files would mix their answers. */
static spt_status same_everywhere(struct infer *j, spt_err *err)
{
    buf id;
    if (comm_size(j->s->comm) == 1)
        return SPT_OK;
    buf_init(&id, IDENTITY_MAX);
    buf_addf(&id, "program = spt %s\n", SPT_VERSION);
    const spt_status st = ranks_same_text(j->s->comm, &id, identity(j, &id, err), err);
    buf_release(&id);
    return st;
}

/* The first process opens and writes, all know how far it is. */
static spt_status open_pieces(struct infer *j, const char *id, struct pieces *p, spt_err *err)
{
    comm *ranks = j->s->comm;
    struct comm_bytes all = {0};
    spt_status st = SPT_OK;
    if (comm_leads(ranks)) {
        st = fs_make_dirs(j->s->out, err);
        if (!st)
            st = pieces_open(j->s, feed_path(j->s), id, p, err);
    }
    if (!ranks)
        return st;
    TRY(comm_gather(ranks, st, p, sizeof *p, &all, err));
    if (!comm_leads(ranks)) {
        memcpy(p, all.bytes, sizeof *p);
        p->dir = p->temporary = p->final = NULL;
    }
    comm_bytes_release(&all);
    return SPT_OK;
}

static spt_status add_piece(struct infer *j, struct pieces *p, const buf *lines, spt_err *err)
{
    if (comm_leads(j->s->comm))
        return pieces_add(p, buf_str(lines), lines->len, err);
    p->done++;
    return SPT_OK;
}

static spt_status one_chunk(struct infer *j, struct pieces *p, buf *lines, bool *more, spt_err *err)
{
    const int64_t chunk = j->s->chunk, size = j->s->batch;
    buf_clear(lines);
    if (j->generation.opts.method == DECODE_SAMPLE_T5X) /* chunk_rng = fold_in(PRNGKey(0), chunk) */
        j->v.chain = rng_fold_in(j->generation.opts.key, (uint32_t)p->done);
    for (int64_t b = 0; *more && b < chunk;) {
        const int64_t most = (int64_t)records_at_once(j) / size, left = chunk - b;
        const int64_t n = most < left ? most : left;
        TRY(feed_read(j->feed, (size_t)(n * size), &j->chunk, err));
        b += n;
        *more = examples_count(j->chunk.x) > 0;
        if (*more)
            TRY(answer_chunk(j, lines, err));
    }
    TRY(buf_status(lines, "chunk", err));
    return lines->len ? add_piece(j, p, lines, err) : SPT_OK;
}

static spt_status all_chunks(struct infer *j, struct pieces *p, spt_err *err)
{
    bool more = true;
    buf lines;
    const uint64_t behind = p->done * (uint64_t)j->s->chunk * (uint64_t)j->s->batch;
    TRY(feed_skip(j->feed, behind, &more, err));
    TRY(infer_load(j, err));
    buf_init(&lines, LINE_BYTES);
    spt_status st = SPT_OK;
    while (!st && more)
        st = one_chunk(j, p, &lines, &more, err);
    buf_release(&lines);
    if (st)
        return st;
    feed_report(j->feed);
    return comm_agree(j->s->comm, comm_leads(j->s->comm) ? pieces_finish(p, err) : SPT_OK, err);
}

static spt_status infer_out(struct infer *j, spt_err *err)
{
    struct pieces p = {0};
    buf id;
    if (!strcmp(feed_path(j->s), "-"))
        return err_set(err, SPT_E_USAGE, "--out needs a file to read (--data), not standard input");
    TRY(same_everywhere(j, err));
    buf_init(&id, IDENTITY_MAX);
    spt_status st = identity(j, &id, err);
    if (!st)
        st = open_pieces(j, buf_str(&id), &p, err);
    if (!st && p.complete) {
        log_info("%s is complete: nothing to do", p.final ? p.final : "");
    } else if (!st) {
        feed_shard(j->feed, p.shard, p.shards);
        st = all_chunks(j, &p, err);
        if (!st)
            log_info("%s written", p.final ? p.final : "");
    }
    if (st == SPT_E_INTERRUPTED && !j->out->closed)
        log_info("run the same command again to continue");
    pieces_close(&p);
    buf_release(&id);
    return st;
}

static spt_status check_infer(const struct settings *s, spt_err *err)
{
    uint64_t shard, shards;
    TRY(generation_check(s, err));
    TRY(pieces_shard(s, &shard, &shards, err));
    if (is_set(s->out) && is_set(s->output))
        return err_set(err, SPT_E_USAGE, "--out and --output: give one of them");
    if (!is_set(s->out) && settings_given(s, "shard"))
        return err_set(err, SPT_E_USAGE, "--shard needs --out DIR");
    if (!strcmp(s->mode, "score") && !is_set(s->data))
        return err_set(err, SPT_E_USAGE, "--mode score needs targets: give a table with --data");
    if (!strcmp(s->mode, "score") && generation_asked(s))
        return err_set(err, SPT_E_USAGE,
                       "--mode score decodes nothing: leave the options of "
                       "decoding out");
    if (is_set(s->prompts) && !strcmp(s->mode, "score"))
        return err_set(err, SPT_E_USAGE, "--mode score takes one prompt");
    if (is_set(s->out) && !is_set(s->seed) && s->search && !strcmp(s->search, "sample"))
        return err_set(err, SPT_E_USAGE,
                       "--out with --decode sample needs --seed N, so that an "
                       "interrupted run can continue");
    return SPT_OK;
}

spt_status run_infer(struct settings *s, struct run_output *out, spt_err *err)
{
    struct infer j;
    if (is_set(s->out) && !settings_given(s, "mode"))
        TRY(settings_set(s, "mode", "predict", err));
    TRY(check_infer(s, err));
    spt_status st = infer_open(&j, s, out, !strcmp(s->mode, "score"), err);
    if (!st && is_set(s->out)) {
        st = infer_out(&j, err);
    } else if (!st) {
        st = same_everywhere(&j, err);
        if (!st)
            st = infer_load(&j, err);
        if (!st)
            st = infer_stream(&j, err);
    }
    infer_close(&j);
    return st;
}

/* --- score
 * ------------------------------------------------------------------------------------------ */

static void put_labels(json_writer *w, const struct task_text *t, const struct answers *a, size_t i)
{
    json_key(w, "prediction");
    json_string(w, a->label[i] >= 0 ? label_set_text(t->labels, (size_t)a->label[i]) : "");
    json_key(w, "labels");
    json_begin_object(w);
    for (size_t k = 0; k < a->labels; k++) {
        const size_t tokens = t->report.off[k + 1] - t->report.off[k];
        json_key(w, label_set_text(t->labels, k));
        json_begin_object(w);
        json_key(w, "score");
        json_f32(w, a->score[i * a->labels + k]);
        json_key(w, "tokens");
        json_u64(w, tokens);
        json_key(w, "per_token");
        json_f32(w, (float)((double)a->score[i * a->labels + k] / (double)tokens));
        json_key(w, "probability");
        json_f32(w, a->prob[i * a->labels + k]);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_score(struct infer *j, buf *line, float score, const struct answers *a, size_t i)
{
    const struct example e = examples_at(j->chunk.x, i);
    json_writer w;
    json_write_init(&w, line, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "inputs");
    json_string_n(&w, e.input_text, e.input_text_len);
    json_key(&w, "targets");
    json_string_n(&w, e.target_text, e.target_text_len);
    json_key(&w, "score");
    json_f32(&w, score);
    json_key(&w, "tokens");
    json_u64(&w, e.target_len);
    json_key(&w, "per_token");
    json_f32(&w, (float)((double)score / (double)e.target_len));
    if (a->score)
        put_labels(&w, &j->u.m[0].task, a, i);
    json_end_object(&w);
    buf_addc(line, '\n');
}

static spt_status score_chunk(struct infer *j, buf *line, spt_err *err)
{
    const size_t n = examples_count(j->chunk.x);
    const struct t5_prompts p = prompts_of(j->u.m[0].prompt);
    struct answers a = {0};
    float *score = mem_alloc(n, sizeof *score);
    if (!score)
        return err_nomem(err, n * sizeof *score);
    spt_status st = evaluate_targets(&j->v, &p, j->chunk.x, score, err);
    if (!st && j->s->rank_labels)
        st = evaluate(&j->v, &p, j->chunk.x, &a, err);
    for (size_t i = 0; !st && i < n; i++) {
        j->sum += (double)score[i];
        j->tokens += examples_at(j->chunk.x, i).target_len;
        j->examples++;
        if (!j->s->summary)
            put_score(j, line, score[i], &a, i);
    }
    mem_free(score);
    answers_release(&a);
    return st;
}

static void put_summary(const struct infer *j, buf *out)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "examples");
    json_u64(&w, j->examples);
    json_key(&w, "tokens");
    json_u64(&w, j->tokens);
    json_key(&w, "score");
    json_f64(&w, j->sum);
    json_key(&w, "per_token");
    json_f64(&w, j->tokens ? j->sum / (double)j->tokens : NAN);
    json_key(&w, "perplexity");
    json_f64(&w, score_perplexity(j->sum, (int64_t)j->tokens));
    json_end_object(&w);
    buf_addc(out, '\n');
}

static spt_status score_stream(struct infer *j, spt_err *err)
{
    struct line_sink k;
    TRY(sink_open(&k, j->s, j->out, err));
    spt_status st = stream(j, &k, score_chunk, err);
    if (!st) {
        log_info("%llu targets of %llu tokens: log-likelihood %.6g, perplexity %.6g",
                 (unsigned long long)j->examples, (unsigned long long)j->tokens, j->sum,
                 score_perplexity(j->sum, (int64_t)j->tokens));
        if (j->s->summary)
            put_summary(j, &k.line);
        st = sink_flush(&k, err);
    }
    return sink_close(&k, st, err);
}

spt_status run_score(struct settings *s, struct run_output *out, spt_err *err)
{
    struct infer j;
    if (!is_set(s->data))
        return err_set(err, SPT_E_USAGE, "--data FILE is missing");
    spt_status st = infer_open(&j, s, out, true, err);
    if (!st && s->rank_labels && !j.u.m[0].task.labels)
        st = err_set(err, SPT_E_CONFIG, "--rank needs a label set: give --labels");
    if (!st)
        st = same_everywhere(&j, err);
    if (!st)
        st = infer_load(&j, err);
    if (!st)
        st = score_stream(&j, err);
    infer_close(&j);
    return st;
}
