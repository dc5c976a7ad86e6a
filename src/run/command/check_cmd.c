/* `spt check`: everything that training would verify, plus the plan, without training. */
#include "base/log.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/prompt_session.h"
#include "run/train/train_internal.h"

static bool is_set(const char *text)
{
    return text && text[0];
}

/* With a prompt: what eval and infer would check; with --train: what train would. */
static spt_status check_prompt(struct settings *s, spt_err *err)
{
    struct prompt_session u = {0};
    examples *x = NULL;
    spt_status st = prompt_session_open(s, &u, err);
    if (!st)
        st = prompt_session_load(s, 0, &u, err);
    if (!st && u.prompt)
        log_info("prompt: %lld x %lld from %s (%s)", (long long)u.prompt->P,
                 (long long)u.prompt->E, s->prompt, u.prompt->kind);
    if (!st && is_set(s->eval))
        st = dataset_load(s, &u.task, s->eval, u.task.labels ? DATASET_LABELED : DATASET_EXAMINE,
                          "eval", &x, err);
    examples_free(x);
    prompt_session_close(&u);
    return st;
}

static spt_status check_training(struct settings *s, struct run_output *out, json_writer *w,
                                 spt_err *err)
{
    struct training t = {0};
    const struct train_member one = {s, ""};
    spt_status st = train_open_plan(&t, s, &one, 1, out, err);
    if (!st)
        st = train_try_step(&t, err); /* reads every weight: values, hash */
    if (!st)
        train_tell_plan(&t);
    if (!st)
        train_plan_json(&t, w);
    train_close(&t);
    return st;
}

/* `text` becomes the answer of --json. */
static spt_status check_all(struct settings *s, struct run_output *out, buf *text, spt_err *err)
{
    json_writer w;
    json_write_init(&w, text, JSON_SPACED);
    json_begin_object(&w);
    /* All warnings are told before --strict counts them. */
    const bool strict = s->strict;
    const unsigned long before = log_warnings();
    s->strict = false;
    if (is_set(s->prompt) || !is_set(s->train))
        TRY(check_prompt(s, err));
    if (is_set(s->train))
        TRY(check_training(s, out, &w, err));
    const unsigned long n = log_warnings() - before;
    s->strict = strict;
    json_key(&w, "warnings");
    json_i64(&w, (int64_t)n);
    json_end_object(&w);
    buf_addc(text, '\n');
    if (s->json)
        TRY(output_text(out, text, err));
    TRY(strict_status(s, err));
    if (n)
        log_info("%lu warning%s, no error", n, n == 1 ? "" : "s");
    else
        log_info("fine");
    return SPT_OK;
}

spt_status run_check(struct settings *s, struct run_output *out, spt_err *err)
{
    buf text;
    buf_init(&text, 1 << 16);
    const spt_status st = check_all(s, out, &text, err);
    buf_release(&text);
    return st;
}
