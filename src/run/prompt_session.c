#include "run/prompt_session.h"

#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/places.h"

spt_status prompt_open(const struct settings *s, const char *path, int64_t width,
                       struct prompt **out, spt_err *err)
{
    const struct prompt_read_opts o = {.width = width, .npy_bf16 = s->npy_bf16};
    char *place = NULL;
    TRY(place_find(s, path, HUB_ADAPTER, &place, err));
    const spt_status st = prompt_read(place, &o, out, err);
    mem_free(place);
    return st && err && !strstr(err->msg, path) ? err_wrap(err, st, "%s", path) : st;
}

static void combine_as_asked(const char *name, struct prompt *p)
{
    static const char *const names[] = {
        [T5_PREFIX] = "prefix", [T5_PREFIX_AFTER_BOS] = "after-bos", [T5_SUFFIX] = "suffix"};
    const enum t5_combine wanted = !strcmp(name, "after-bos") ? T5_PREFIX_AFTER_BOS
                                   : !strcmp(name, "suffix")  ? T5_SUFFIX
                                                              : T5_PREFIX;
    if (wanted != p->use.combine && p->use.program) /* other files do not say how it was trained */
        log_warning("the prompt was trained with --combine %s; %s is used as asked",
                    names[p->use.combine], name);
    p->use.combine = wanted;
}

spt_status prompt_fit(const struct settings *s, const struct engine *e, const char *path,
                      struct prompt **prompt, struct task_text *task, spt_err *err)
{
    struct prompt *p = NULL;
    if (path && path[0]) {
        TRY(prompt_open(s, path, e->config.width, &p, err));
        if (settings_given(s, "combine") && p->use.side == PROMPT_ENCODER)
            combine_as_asked(s->combine, p);
        if (!p->use.input_template && !(s->input && s->input[0]))
            log_info("the prompt file names no input template: texts go in as they are");
    }
    const spt_status st = task_text_open(e, s, p, task, err);
    if (st) {
        prompt_free(p);
        return st;
    }
    *prompt = p;
    return SPT_OK;
}

static spt_status open_parts(const struct settings *s, struct prompt_session *u, spt_err *err)
{
    TRY(engine_open(s, &u->engine, err));
    return prompt_fit(s, &u->engine, s->prompt, &u->prompt, &u->task, err);
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

spt_status prompt_compare(const struct settings *s, const struct engine *e,
                          const struct prompt *prompt, spt_err *err)
{
    struct prompt_want want;
    prompt_want_init(&want);
    want.base_hash = e->base_hash;
    want.base_name = e->base_name;
    want.vocab_hash = vocab_hash(e->vocab);
    want.vocab_rule = vocab_rule_name(e->vocab);
    want.compute = engine_compute_name(e);
    if (settings_given(s, "max-input"))
        want.max_input = s->max_input;
    if (settings_given(s, "max-target"))
        want.max_target = s->max_target;
    struct prompt_findings found;
    prompt_check_use(prompt, &want, &found);
    for (size_t i = 0; i < found.count; i++) {
        if (s->strict)
            return err_set(err, SPT_E_CHECK, "%s (--strict)", found.item[i].text);
        log_warning("%s", found.item[i].text);
    }
    return strict_status(s, err);
}

spt_status prompt_session_load(const struct settings *s, unsigned uses, struct prompt_session *u,
                               spt_err *err)
{
    u->engine.prompt_compute = u->prompt ? u->prompt->use.compute : NULL;
    TRY(engine_load_model(&u->engine, s, uses, err));
    return u->prompt ? prompt_compare(s, &u->engine, u->prompt, err) : strict_status(s, err);
}

void prompt_session_close(struct prompt_session *u)
{
    task_text_close(&u->task);
    prompt_free(u->prompt);
    engine_close(&u->engine);
    *u = (struct prompt_session){0};
}
