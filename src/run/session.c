/* spt_session: one prompt over one base, answering texts one at a time. */
#include <string.h>

#include "run/evaluate.h"
#include "run/predictions.h"
#include "run/prompt_session.h"

struct spt_session {
    struct settings settings;
    struct prompt_session use;
    struct evaluator evaluator;
    struct line_encoder encoder;
};

void spt_session_opts_init(spt_session_opts *o)
{
    *o = (spt_session_opts){.size = sizeof *o};
}

static spt_status configure(struct settings *s, const char *model, const char *prompt,
                            const spt_session_opts *o, spt_err *err)
{
    TRY(settings_init(s, "infer", err));
    TRY(settings_set(s, "model", model, err));
    if (prompt)
        TRY(settings_set(s, "prompt", prompt, err));
    if (o && o->size >= offsetof(spt_session_opts, compute))
        s->threads = o->threads;
    if (o && o->size >= sizeof *o && o->compute)
        TRY(settings_set(s, "compute", o->compute, err));
    return SPT_OK;
}

static spt_status open_all(spt_session *s, const char *model, const char *prompt,
                           const spt_session_opts *opts, spt_err *err)
{
    TRY(configure(&s->settings, model, prompt, opts, err));
    TRY(prompt_session_open(&s->settings, &s->use, err));
    struct evaluate_opts o = evaluate_opts_of(&s->settings, &s->use.task);
    o.batch = 1;
    o.micro_rows = 1;
    const bool absorb = evaluate_absorbs(&o, &s->use.engine.config, &s->use.task,
                                         prompts_of(s->use.prompt).P_dec);
    TRY(prompt_session_load(&s->settings, absorb ? T5_ABSORB : 0, &s->use, err));
    return evaluator_open(&s->use.engine, &s->use.task, s->use.task.max_input,
                          s->use.task.max_target, &o, s->use.prompt, &s->evaluator, err);
}

spt_status spt_session_open(const char *model, const char *prompt, const spt_session_opts *opts,
                            spt_session **out, spt_err *err)
{
    spt_session *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    const spt_status st = open_all(s, model, prompt, opts, err);
    if (st) {
        spt_session_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

static spt_status answer_one(spt_session *s, const struct example *e, char *answer, size_t cap,
                             spt_err *err)
{
    examples *x;
    struct answers a = {0};
    const struct t5_prompts prompts = prompts_of(s->use.prompt);
    TRY(examples_new(&x, err));
    spt_status st = examples_add(x, e, err);
    if (!st)
        st = evaluate(&s->evaluator, &prompts, x, &a, err);
    if (!st) {
        const char *text = answer_text(&a, &s->use.task, 0);
        const size_t n = strlen(text);
        if (n < cap)
            memcpy(answer, text, n + 1);
        else
            st = err_set(err, SPT_E_USAGE, "the answer has %zu bytes, room is for %zu", n, cap);
    }
    answers_release(&a);
    examples_free(x);
    return st;
}

spt_status spt_session_answer(spt_session *s, const char *text, char *answer, size_t cap,
                              spt_err *err)
{
    struct example e;
    bool cut;
    TRY(line_encode(&s->encoder, &s->use.task, text, strlen(text), &e, &cut, err));
    return answer_one(s, &e, answer, cap, err);
}

void spt_session_close(spt_session *s)
{
    if (!s)
        return;
    evaluator_close(&s->evaluator);
    line_encoder_release(&s->encoder);
    prompt_session_close(&s->use);
    settings_release(&s->settings);
    mem_free(s);
}
