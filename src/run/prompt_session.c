#include "run/prompt_session.h"

#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"

spt_status prompt_open(const struct settings *s, const char *path, int64_t width,
                       struct prompt **out, spt_err *err)
{
    const struct prompt_read_opts o = {.width = width, .npy_bf16 = s->npy_bf16};
    const spt_status st = prompt_read(path, &o, out, err);
    return st && err && !strstr(err->msg, path) ? err_wrap(err, st, "%s", path) : st;
}

static spt_status open_parts(const struct settings *s, struct prompt_session *u, spt_err *err)
{
    TRY(engine_open(s, &u->engine, err));
    if (s->prompt && s->prompt[0]) {
        TRY(prompt_open(s, s->prompt, u->engine.config.width, &u->prompt, err));
        if (settings_given(s, "combine") && u->prompt->use.side == PROMPT_ENCODER)
            u->prompt->use.combine = !strcmp(s->combine, "after-bos") ? T5_PREFIX_AFTER_BOS
                                     : !strcmp(s->combine, "suffix")  ? T5_SUFFIX
                                                                      : T5_PREFIX;
        if (!u->prompt->use.input_template && !(s->input && s->input[0]))
            log_info("the prompt file names no input template: texts go in as they are");
    }
    return task_text_open(&u->engine, s, u->prompt, &u->task, err);
}

spt_status prompt_session_open(const struct settings *s, struct prompt_session *out, spt_err *err)
{
    struct prompt_session u = {0};
    const spt_status st = open_parts(s, &u, err);
    if (st) {
        prompt_session_close(&u);
        return st;
    }
    *out = u;
    /* The callbacks' context is on the heap, so the copy stays valid. */
    return SPT_OK;
}

spt_status prompt_session_load(const struct settings *s, struct prompt_session *u, spt_err *err)
{
    TRY(engine_load_model(&u->engine, s, 0, err));
    if (!u->prompt)
        return SPT_OK;
    struct prompt_want want;
    prompt_want_init(&want);
    want.base_hash = u->engine.base_hash;
    want.base_name = path_base(s->model);
    want.vocab_hash = vocab_hash(u->engine.vocab);
    want.vocab_rule = vocab_rule_name(u->engine.vocab);
    struct prompt_findings found;
    prompt_check_use(u->prompt, &want, &found);
    for (size_t i = 0; i < found.count; i++) {
        if (s->strict)
            return err_set(err, SPT_E_CHECK, "%s (--strict)", found.item[i].text);
        log_warning("%s", found.item[i].text);
    }
    return SPT_OK;
}

void prompt_session_close(struct prompt_session *u)
{
    task_text_close(&u->task);
    prompt_free(u->prompt);
    engine_close(&u->engine);
    *u = (struct prompt_session){0};
}
