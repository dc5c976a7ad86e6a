#include "run/members.h"

#include <string.h>

#include "fs/fs.h"
#include "run/commands.h"
#include "run/prompt_session.h"

enum { MEMBERS_MAX = 65536 };

static spt_status add(const struct settings *s, struct members *u, const char *path, size_t len,
                      spt_err *err)
{
    TRY(mem_grow(&u->m, &u->cap, u->count + 1, sizeof *u->m, MEMBERS_MAX, err));
    struct member m = {.name = mem_strndup(path, len)};
    if (!m.name)
        return err_nomem(err, len);
    const spt_status st = prompt_fit(s, &u->engine, m.name, &m.prompt, &m.task, err);
    if (st) {
        mem_free(m.name);
        return st;
    }
    u->m[u->count++] = m;
    return SPT_OK;
}

static spt_status open_all(const struct settings *s, const char *list, char *const *more,
                           size_t more_count, struct members *u, spt_err *err)
{
    TRY(engine_open(s, &u->engine, err));
    if (!list || !list[0])
        return add(s, u, "", 0, err);
    for (const char *p = list; *p;) {
        const size_t len = strcspn(p, ",");
        if (len)
            TRY(add(s, u, p, len, err));
        p += len;
        p += *p == ',';
    }
    for (size_t i = 0; i < more_count; i++)
        TRY(add(s, u, more[i], strlen(more[i]), err));
    return u->count ? SPT_OK : err_set(err, SPT_E_USAGE, "\"%s\" names no prompt", list);
}

spt_status members_open(const struct settings *s, const char *list, char *const *more,
                        size_t more_count, struct members *out, spt_err *err)
{
    struct members u = {0};
    const spt_status st = open_all(s, list, more, more_count, &u, err);
    if (st) {
        members_close(&u);
        return st;
    }
    *out = u;
    return SPT_OK;
}

static unsigned uses_of(const struct members *u, const struct evaluate_opts *o)
{
    for (size_t i = 0; i < u->count; i++)
        if (evaluate_absorbs(o, &u->engine.config, &u->m[i].task, prompts_of(u->m[i].prompt).P_dec))
            return T5_ABSORB;
    return 0;
}

spt_status members_load(const struct settings *s, const struct evaluate_opts *o, struct members *u,
                        spt_err *err)
{
    u->engine.prompt_compute = u->m[0].prompt ? u->m[0].prompt->use.compute : NULL;
    TRY(engine_open_ops(&u->engine, s, s->profile, err));
    TRY(engine_load_model(&u->engine, s, uses_of(u, o), err));
    for (size_t i = 0; i < u->count; i++)
        if (u->m[i].prompt) {
            const spt_status st = prompt_compare(s, &u->engine, u->m[i].prompt, err);
            if (st)
                return u->count > 1 ? err_wrap(err, st, "%s", u->m[i].name) : st;
        }
    return strict_status(s, err);
}

void members_close(struct members *u)
{
    for (size_t i = 0; i < u->count; i++) {
        task_text_close(&u->m[i].task);
        prompt_free(u->m[i].prompt);
        mem_free(u->m[i].name);
    }
    mem_free(u->m);
    engine_close(&u->engine);
    *u = (struct members){0};
}

static bool is_name(const char *have, size_t n, const char *name, size_t len)
{
    return n == len && !memcmp(have, name, len);
}

int64_t members_find(const struct members *u, const char *name, size_t len)
{
    int64_t found = -1;
    for (size_t i = 0; i < u->count; i++)
        if (is_name(u->m[i].name, strlen(u->m[i].name), name, len))
            return (int64_t)i;
    for (size_t i = 0; i < u->count; i++) {
        const char *base = path_base(u->m[i].name), *dot = strrchr(base, '.');
        const size_t n = strlen(base), stem = dot && dot > base ? (size_t)(dot - base) : n;
        if (!is_name(base, n, name, len) && !is_name(base, stem, name, len))
            continue;
        if (found >= 0)
            return -1;
        found = (int64_t)i;
    }
    return found;
}

spt_status members_evaluator(struct members *u, const struct settings *s,
                             const struct evaluate_opts *o, int64_t longest_input,
                             int64_t longest_target, struct evaluator *out, spt_err *err)
{
    struct evaluator v;
    const struct prompt *enc = NULL, *dec = NULL;
    for (size_t i = 0; i < u->count; i++) {
        const struct member *m = &u->m[i];
        const size_t *off = m->task.report.off;
        for (size_t k = 0; k < m->task.report.labels; k++)
            if ((int64_t)(off[k + 1] - off[k]) > longest_target)
                longest_target = (int64_t)(off[k + 1] - off[k]);
        const struct prompt **most =
            m->prompt && m->prompt->use.side == PROMPT_DECODER ? &dec : &enc;
        if (m->prompt && (!*most || m->prompt->P > (*most)->P))
            *most = m->prompt;
    }
    if (dec) /* room for both */
        longest_target += dec->P;
    TRY(evaluator_open(&u->engine, &u->m[0].task, longest_input, longest_target, o, enc ? enc : dec,
                       &v, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && s->calibrate && s->calibrate[0] && i < u->count; i++) {
        const struct t5_prompts p = prompts_of(u->m[i].prompt);
        st = evaluate_prior(&v, &p, &u->m[i].task, s->calibrate, err);
    }
    if (st) {
        evaluator_close(&v);
        return st;
    }
    *out = v;
    return SPT_OK;
}

spt_status members_answer(const struct members *u, struct evaluator *v, const examples *x,
                          const int32_t *of, struct answers *out, spt_err *err)
{
    if (!of) {
        const struct t5_prompts p = prompts_of(u->m[0].prompt);
        return evaluate(v, &p, x, out, err);
    }
    const struct prompt **prompt = mem_alloc(u->count, sizeof *prompt);
    const struct task_text **task = mem_alloc(u->count, sizeof *task);
    spt_status st = prompt && task ? SPT_OK : err_nomem(err, u->count * sizeof *task);
    for (size_t i = 0; !st && i < u->count; i++) {
        prompt[i] = u->m[i].prompt;
        task[i] = &u->m[i].task;
    }
    const struct prompt_mix mix = {u->count, prompt, task, of};
    if (!st)
        st = evaluate_mixed(v, &mix, x, out, err);
    mem_free(prompt);
    mem_free(task);
    return st;
}
