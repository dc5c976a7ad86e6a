#include "run/answer_lines.h"

#include <string.h>

#include "run/predictions.h"
#include "text/json.h"

/* One line stays one line. */
static void put_plain(buf *out, const char *text)
{
    for (const char *p = text; *p; p++)
        buf_addc(out, *p == '\n' || *p == '\r' ? ' ' : *p);
}

static const struct member *member_of(const struct members *u, const struct feed_chunk *c, size_t i)
{
    return &u->m[u->count > 1 ? c->of[i] : 0];
}

static void put_text(buf *out, const struct members *u, const struct feed_chunk *c,
                     const struct answers *a, size_t i)
{
    const struct member *m = member_of(u, c, i);
    if (a->results < 2) {
        if (u->count > 1)
            buf_addf(out, "%s\t", m->name);
        put_plain(out, answer_text(a, &m->task, i));
        buf_addc(out, '\n');
        return;
    }
    for (size_t k = 0; k < a->results; k++) {
        const struct decoded *d = &a->all[i * a->results + k];
        if (u->count > 1)
            buf_addf(out, "%s\t", m->name);
        buf_addf(out, "%llu\t%.6g\t", (unsigned long long)c->record[i] + 1, (double)d->score);
        put_plain(out, d->text);
        buf_addc(out, '\n');
    }
}

/* The answer's ids, all that its score and text cover: a model may write the pad id, too.
 * before_pad: only those before the first 0, which is what output_ids of the reference's program
 * gives (spec/t5x.md 9.1). */
static void put_ids(json_writer *w, const char *key, const struct decoded *d, bool before_pad)
{
    json_key(w, key);
    json_begin_array(w);
    for (int32_t t = 0; t < d->tokens && (d->id[t] || !before_pad); t++)
        json_i64(w, d->id[t]);
    json_end_array(w);
}

static void put_labels(json_writer *w, const char *key, const struct task_text *t,
                       const float *value)
{
    json_key(w, key);
    json_begin_object(w);
    for (size_t k = 0; k < label_set_count(t->labels); k++) {
        json_key(w, label_set_text(t->labels, k));
        json_f32(w, value[k]);
    }
    json_end_object(w);
}

static void put_json(buf *out, bool ids, const struct members *u, const struct feed_chunk *c,
                     const struct answers *a, size_t i)
{
    const struct member *m = member_of(u, c, i);
    const struct example e = examples_at(c->x, i);
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "inputs");
    json_string_n(&w, e.input_text, e.input_text_len);
    if (u->count > 1) {
        json_key(&w, "prompt");
        json_string(&w, m->name);
    }
    json_key(&w, "prediction");
    json_string(&w, answer_text(a, &m->task, i));
    if (a->score && m->task.labels) {
        put_labels(&w, "scores", &m->task, a->score + i * a->labels);
        put_labels(&w, "probabilities", &m->task, a->prob + i * a->labels);
    }
    if (a->all) {
        const struct decoded *best = answers_best(a, i);
        json_key(&w, "score");
        json_f32(&w, best->score);
        if (ids)
            put_ids(&w, "prediction_tokens", best, false);
    }
    if (a->results > 1) {
        json_key(&w, "predictions");
        json_begin_array(&w);
        for (size_t k = 0; k < a->results; k++) {
            const struct decoded *d = &a->all[i * a->results + k];
            json_begin_object(&w);
            json_key(&w, "text");
            json_string(&w, d->text);
            json_key(&w, "score");
            json_f32(&w, d->score);
            json_key(&w, "tokens");
            json_i64(&w, d->tokens);
            if (ids)
                put_ids(&w, "ids", d, false);
            json_end_object(&w);
        }
        json_end_array(&w);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

/* json.dumps byte for byte; float32 values are written as the double they are. */
static void put_reference(buf *out, enum line_style style, bool ids, const struct feed_chunk *c,
                          const struct answers *a, const float *score, size_t i)
{
    const struct example e = examples_at(c->x, i);
    json_writer w;
    json_write_init(&w, out, JSON_PYTHON);
    json_begin_object(&w);
    json_key(&w, "inputs");
    json_begin_object(&w);
    json_key(&w, "inputs_pretokenized");
    json_string_n(&w, e.input_text, e.input_text_len);
    if (e.target_len) {
        json_key(&w, "targets_pretokenized");
        json_string_n(&w, e.target_text, e.target_text_len);
    }
    json_end_object(&w);
    if (style == LINE_SCORE) {
        json_key(&w, "score");
        json_f64(&w, (double)score[i]);
    } else {
        const struct decoded *best = answers_best(a, i);
        json_key(&w, "prediction");
        json_string(&w, best->text);
        if (ids)
            put_ids(&w, "prediction_tokens", best, true);
        if (style == LINE_PREDICT_WITH_AUX) {
            json_key(&w, "aux");
            json_begin_object(&w);
            json_key(&w, "scores");
            json_f64(&w, (double)best->score);
            json_end_object(&w);
        }
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

void answer_lines(buf *out, enum line_style style, bool ids, const struct members *u,
                  const struct feed_chunk *c, const struct answers *a, const float *score, size_t i)
{
    if (style == LINE_TEXT)
        put_text(out, u, c, a, i);
    else if (style == LINE_JSON)
        put_json(out, ids, u, c, a, i);
    else
        put_reference(out, style, ids, c, a, score, i);
}
