/* `spt infer` and `spt score`: a stream of examples in, one line each out, in order. Memory does not
 * grow with the input: a chunk of examples is read, answered, written and forgotten. */
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/commands.h"
#include "run/evaluate.h"
#include "run/predictions.h"
#include "run/prompt_session.h"
#include "text/json.h"

enum { LINE_BYTES = 1 << 24 };

/* --- where examples come from ---------------------------------------------------------------------- */

/* Lines of plain text put into the template, or rows of a table. */
struct feed {
    const struct task_text *task;
    example_stream *table;
    records *lines;
    size_t slot;
    struct line_encoder encoder;
    uint64_t cut;
};

static spt_status feed_lines(struct feed *f, const char *path, spt_err *err)
{
    const struct records_options o = {.path = path, .lines = true, .header = HEADER_NO};
    TRY(records_open(&o, &f->lines, err));
    return records_column(f->lines, "1", &f->slot, err);
}

static spt_status feed_open(struct feed *f, const struct settings *s, const struct task_text *t,
                            enum dataset_role role, spt_err *err)
{
    *f = (struct feed){.task = t};
    if (s->data && s->data[0]) {
        struct examples_options o = dataset_options(s, t, s->data, role);
        o.keep_text = true;
        spt_status st = example_stream_open(&o, &t->encoder, &f->table, err);
        if (st == SPT_E_CONFIG && t->input_is_bare && !settings_given(s, "input")) {
            o.input = NULL;
            st = example_stream_open(&o, &t->encoder, &f->table, err);
        }
        return st;
    }
    if (s->arguments > 1)
        return err_set(err, SPT_E_USAGE, "more than one input file: \"%s\", \"%s\"", s->argument[0],
                       s->argument[1]);
    return feed_lines(f, s->arguments ? s->argument[0] : "-", err);
}

static void feed_close(struct feed *f)
{
    example_stream_close(f->table);
    records_close(f->lines);
    line_encoder_release(&f->encoder);
    *f = (struct feed){0};
}

static spt_status next_line(struct feed *f, struct example *out, bool *more, spt_err *err)
{
    TRY(records_next(f->lines, more, err));
    if (!*more)
        return SPT_OK;
    const char *text;
    size_t len;
    bool cut;
    TRY(records_field(f->lines, f->slot, &text, &len, err));
    TRY(line_encode(&f->encoder, f->task, text, len, out, &cut, err));
    out->line = records_line(f->lines);
    f->cut += cut;
    return SPT_OK;
}

static spt_status feed_next(struct feed *f, struct example *out, bool *more, spt_err *err)
{
    return f->table ? example_stream_next(f->table, out, more, err) : next_line(f, out, more, err);
}

static spt_status feed_report(const struct feed *f, const struct settings *s, spt_err *err)
{
    const struct examples_counts c = f->table ? example_stream_counts(f->table)
                                              : (struct examples_counts){0};
    if (c.unwritable_targets)
        log_warning("%llu of %llu targets contain characters this vocabulary cannot write",
                    (unsigned long long)c.unwritable_targets, (unsigned long long)c.examples);
    if (c.cut_targets)
        log_warning("%llu targets were cut to --max-target %lld",
                    (unsigned long long)c.cut_targets, (long long)f->task->max_target);
    const uint64_t cut = f->table ? c.cut_inputs : f->cut;
    if (!cut)
        return SPT_OK;
    if (s->strict)
        return err_set(err, SPT_E_CHECK, "%llu inputs are longer than --max-input %lld (--strict)",
                       (unsigned long long)cut, (long long)f->task->max_input);
    log_warning("%llu inputs were cut to --max-input %lld", (unsigned long long)cut,
                (long long)f->task->max_input);
    return SPT_OK;
}

/* --- where lines go ------------------------------------------------------------------------------ */

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
    return s->output && s->output[0] ? fs_create(s->output, &k->file, err) : SPT_OK;
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

/* --- chunks ---------------------------------------------------------------------------------------- */

typedef spt_status (*chunk_fn)(struct evaluator *v, const struct t5_prompts *p, const examples *x,
                               struct line_sink *k, const struct settings *s, spt_err *err);

static spt_status read_chunk(struct feed *f, size_t want, examples **out, bool *more, spt_err *err)
{
    examples *x;
    TRY(examples_new(&x, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && *more && i < want; i++) {
        struct example e;
        st = feed_next(f, &e, more, err);
        if (!st && *more)
            st = examples_add(x, &e, err);
    }
    if (st) {
        examples_free(x);
        return st;
    }
    *out = x;
    return SPT_OK;
}

static spt_status run_chunks(const struct settings *s, struct run_output *out,
                             struct prompt_session *u, struct feed *f, chunk_fn fn, spt_err *err)
{
    struct evaluator v = {0};
    struct line_sink k;
    const struct evaluate_opts o = evaluate_opts_of(s, &u->task);
    const struct t5_prompts prompts = prompts_of(u->prompt);
    TRY(sink_open(&k, s, out, err));
    spt_status st = evaluator_open(&u->engine, &u->task, u->task.max_input, u->task.max_target, &o,
                                   u->prompt, &v, err);
    bool more = true;
    while (!st && more) {
        examples *x = NULL;
        st = read_chunk(f, (size_t)s->batch, &x, &more, err);
        if (!st && examples_count(x))
            st = fn(&v, &prompts, x, &k, s, err);
        examples_free(x);
    }
    evaluator_close(&v);
    if (!st)
        st = feed_report(f, s, err);
    return sink_close(&k, st, err);
}

static spt_status run_stream(struct settings *s, struct run_output *out, enum dataset_role role,
                             chunk_fn fn, spt_err *err)
{
    struct prompt_session u = {0};
    struct feed f = {0};
    spt_status st = prompt_session_open(s, &u, err);
    if (!st)
        st = feed_open(&f, s, &u.task, role, err);
    if (!st)
        st = prompt_session_load(s, &u, err);
    if (!st)
        st = run_chunks(s, out, &u, &f, fn, err);
    feed_close(&f);
    prompt_session_close(&u);
    return st;
}

/* --- infer ------------------------------------------------------------------------------------------ */

static void put_answer(buf *line, const struct answers *a, const struct task_text *t,
                       const struct example *e, size_t i, bool json)
{
    if (!json) {
        buf_adds(line, answer_text(a, t, i));
        buf_addc(line, '\n');
        return;
    }
    json_writer w;
    json_write_init(&w, line, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "inputs");
    json_string_n(&w, e->input_text, e->input_text_len);
    json_key(&w, "prediction");
    json_string(&w, answer_text(a, t, i));
    if (a->score) {
        json_key(&w, "scores");
        json_begin_object(&w);
        for (size_t k = 0; k < a->labels; k++) {
            json_key(&w, label_set_text(t->labels, k));
            json_f32(&w, a->score[i * a->labels + k]);
        }
        json_end_object(&w);
    }
    json_end_object(&w);
    buf_addc(line, '\n');
}

static spt_status infer_chunk(struct evaluator *v, const struct t5_prompts *p, const examples *x,
                              struct line_sink *k, const struct settings *s, spt_err *err)
{
    struct answers a = {0};
    spt_status st = evaluate(v, p, x, &a, err);
    for (size_t i = 0; !st && i < a.n; i++) {
        const struct example e = examples_at(x, i);
        put_answer(&k->line, &a, v->task, &e, i, s->json);
        st = sink_flush(k, err);
    }
    answers_release(&a);
    return st;
}

spt_status run_infer(struct settings *s, struct run_output *out, spt_err *err)
{
    return run_stream(s, out, DATASET_INPUTS, infer_chunk, err);
}

/* --- score ------------------------------------------------------------------------------------------ */

static spt_status score_chunk(struct evaluator *v, const struct t5_prompts *p, const examples *x,
                              struct line_sink *k, const struct settings *s, spt_err *err)
{
    (void)s;
    const size_t n = examples_count(x);
    float *score = mem_alloc(n, sizeof *score);
    if (!score)
        return err_nomem(err, n * sizeof *score);
    spt_status st = evaluate_targets(v, p, x, score, err);
    for (size_t i = 0; !st && i < n; i++) {
        const struct example e = examples_at(x, i);
        json_writer w;
        json_write_init(&w, &k->line, JSON_SPACED);
        json_begin_object(&w);
        json_key(&w, "inputs");
        json_string_n(&w, e.input_text, e.input_text_len);
        json_key(&w, "targets");
        json_string_n(&w, e.target_text, e.target_text_len);
        json_key(&w, "score");
        json_f32(&w, score[i]);
        json_end_object(&w);
        buf_addc(&k->line, '\n');
        st = sink_flush(k, err);
    }
    mem_free(score);
    return st;
}

spt_status run_score(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!s->data || !s->data[0])
        return err_set(err, SPT_E_USAGE, "--data FILE is missing");
    return run_stream(s, out, DATASET_TARGETS, score_chunk, err);
}
