/* Adding tasks and mixtures to a registry that is being made. */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "task/registry_internal.h"

void task_add(struct task_builder *b, const struct task *proto, const char *fmt, ...)
{
    char name[TASK_NAME];
    va_list args;
    va_start(args, fmt);
    const int p = snprintf(name, sizeof name, "%s", b->p);
    vsnprintf(name + p, sizeof name - (size_t)p, fmt, args);
    va_end(args);
    if (b->st)
        return;
    struct task *t = registry_keep(b->r, sizeof *t);
    const char *kept = registry_keep_text(b->r, name);
    b->st = t && kept ? mem_grow(&b->r->task, &b->r->task_cap, b->r->tasks + 1, sizeof *b->r->task,
                                 TASK_MOST, NULL)
                      : SPT_E_NOMEM;
    if (b->st)
        return;
    *t = *proto;
    t->name = kept;
    t->vocabulary = b->vocabulary;
    b->r->task[b->r->tasks++] = t;
}

void task_mix(struct task_builder *b, enum task_module module, const struct task_named_rate *member,
                size_t n, const char *fmt, ...)
{
    char name[TASK_NAME];
    va_list args;
    va_start(args, fmt);
    const int p = snprintf(name, sizeof name, "%s", b->p);
    vsnprintf(name + p, sizeof name - (size_t)p, fmt, args);
    va_end(args);
    if (b->st)
        return;
    struct mixture *m = registry_keep(b->r, sizeof *m);
    struct task_member *list = registry_keep(b->r, n * sizeof *list);
    const char *kept = registry_keep_text(b->r, name);
    b->st = m && list && kept ? mem_grow(&b->r->mixture, &b->r->mixture_cap, b->r->mixtures + 1,
                                         sizeof *b->r->mixture, TASK_MOST, NULL)
                              : SPT_E_NOMEM;
    for (size_t i = 0; i < n && !b->st; i++) {
        char full[TASK_NAME];
        snprintf(full, sizeof full, "%s%s", b->p, member[i].name);
        list[i] = (struct task_member){registry_keep_text(b->r, full), member[i].rate};
        if (!list[i].name)
            b->st = SPT_E_NOMEM;
    }
    if (b->st)
        return;
    *m = (struct mixture){kept, module, list, n};
    b->r->mixture[b->r->mixtures++] = m;
}

void task_member(struct task_members *m, double rate, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(m->text[m->n], TASK_NAME, fmt, args);
    va_end(args);
    m->item[m->n] = (struct task_named_rate){m->text[m->n], rate};
    m->n++;
}
