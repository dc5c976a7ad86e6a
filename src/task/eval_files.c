/* JSON Lines of evaluation. Ids are int32 arrays in the reference and print as lists until they are
 * long; other numbers print as Python numbers. */
#include "task/eval_files.h"

#include <string.h>

#include "text/json.h"

spt_status metrics_line(int64_t step, const struct metric_entry *entry, size_t n, buf *out,
                        spt_err *err)
{
    json_writer w;
    json_write_init(&w, out, JSON_PYTHON);
    json_begin_object(&w);
    json_key(&w, "step");
    json_i64(&w, step);
    for (size_t i = 0; i < n; i++) {
        json_key(&w, entry[i].key);
        if (entry[i].text)
            json_string(&w, entry[i].text);
        else
            json_f64(&w, entry[i].number);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
    return buf_status(out, "metrics line", err);
}

spt_status inference_name(const char *task, int64_t step, buf *out, spt_err *err)
{
    buf_addf(out, "%s-%06lld.jsonl", task, (long long)step);
    return buf_status(out, "file name", err);
}

spt_status ndarray_summary(const int64_t *v, size_t n, buf *out, spt_err *err)
{
    buf_addf(out, "ndarray(shape=(%zu,), dtype=int32); summary: ", n);
    for (size_t i = 0; i < 5 && i < n; i++)
        buf_addf(out, "%s%lld", i ? ", " : "", (long long)v[i]);
    buf_adds(out, " ... ");
    for (size_t i = n < 5 ? 0 : n - 5; i < n; i++)
        buf_addf(out, "%s%lld", i + 5 > n ? ", " : "", (long long)v[i]);
    return buf_status(out, "array", err);
}

static spt_status write_field(json_writer *w, const struct record_field *f, spt_err *err)
{
    if (f->kind == FIELD_INTS && f->count > NDARRAY_SHOWN) {
        buf text;
        buf_init(&text, 1000);
        const spt_status st = ndarray_summary(f->u.ints, f->count, &text, err);
        json_string(w, buf_str(&text));
        buf_release(&text);
        return st;
    }
    record_field_json(f, w);
    return SPT_OK;
}

spt_status inference_line_write(const struct inference_line *l, buf *out, spt_err *err)
{
    json_writer w;
    json_write_init(&w, out, JSON_PYTHON);
    json_begin_object(&w);
    json_key(&w, "input");
    json_begin_object(&w);
    for (size_t i = 0; i < l->input->fields; i++) {
        json_key(&w, l->input->field[i].name);
        TRY(write_field(&w, &l->input->field[i], err));
    }
    json_end_object(&w);
    json_key(&w, "target");
    json_raw_n(&w, l->target, strlen(l->target));
    if (l->has_score) {
        json_key(&w, "score");
        json_f64(&w, l->score);
    } else {
        json_key(&w, "output");
        json_string_n(&w, l->output, l->output_len);
        json_key(&w, "prediction");
        json_raw_n(&w, l->prediction, strlen(l->prediction));
    }
    json_end_object(&w);
    buf_addc(out, '\n');
    return buf_status(out, "inference line", err);
}
