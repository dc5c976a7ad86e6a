/* The registry: what there is by name, what users and plug-ins add, members of mixtures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "task/registry_internal.h"

enum { CHUNK_BYTES = 64 * 1024 - 64 };

/* --- storage ------------------------------------------------------------------------------ */

static void *keep(task_registry *r, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (!r->chunk || size > r->chunk->size - r->chunk->used) {
        const size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        struct task_chunk *k = mem_alloc(1, sizeof *k + room);
        if (!k)
            return NULL;
        k->next = r->chunk;
        k->used = 0;
        k->size = room;
        r->chunk = k;
    }
    void *at = r->chunk->bytes + r->chunk->used;
    r->chunk->used += size;
    return at;
}

static const char *keep_text(task_registry *r, const char *s)
{
    char *d = keep(r, strlen(s) + 1);
    if (d)
        memcpy(d, s, strlen(s) + 1);
    return d;
}

/* --- the registry ------------------------------------------------------------------------- */

static int by_task_name(const void *a, const void *b)
{
    return strcmp((*(struct task *const *)a)->name, (*(struct task *const *)b)->name);
}

static int by_mixture_name(const void *a, const void *b)
{
    return strcmp((*(struct mixture *const *)a)->name, (*(struct mixture *const *)b)->name);
}

spt_status task_registry_new(task_registry **out, spt_err *err)
{
    static const char *const prefix[] = {"", "mt5_", "byt5_"};
    task_registry *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    struct task_builder b = {.r = r};
    for (int v = 0; v < 3; v++) {
        b.vocabulary = (enum task_vocabulary)v;
        b.p = prefix[v];
        task_table_add(&b);
    }
    if (b.st) {
        task_registry_free(r);
        return err_nomem(err, 0);
    }
    qsort(r->task, r->tasks, sizeof *r->task, by_task_name);
    qsort(r->mixture, r->mixtures, sizeof *r->mixture, by_mixture_name);
    *out = r;
    return SPT_OK;
}

void task_registry_free(task_registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->users; i++)
        task_user_release(r->user[i]);
    while (r->chunk) {
        struct task_chunk *next = r->chunk->next;
        mem_free(r->chunk);
        r->chunk = next;
    }
    mem_free(r->user);
    mem_free(r->hook);
    mem_free(r->task);
    mem_free(r->mixture);
    mem_free(r);
}

/* --- additions ---------------------------------------------------------------------------- */

void *registry_keep(task_registry *r, size_t size)
{
    void *p = keep(r, size);
    if (p)
        memset(p, 0, size);
    return p;
}

const char *registry_keep_text(task_registry *r, const char *s)
{
    return s ? keep_text(r, s) : NULL;
}

static spt_status check_new(const task_registry *r, const char *name, spt_err *err)
{
    if (!name || !*name || strlen(name) >= TASK_NAME)
        return err_set(err, SPT_E_CONFIG, "a task needs a name of 1 to %d bytes", TASK_NAME - 1);
    /* The name becomes directories and files: of caches, metrics and predictions. */
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 127 || *p == '/' || *p == '\\')
            return err_set(err, SPT_E_CONFIG,
                           "'%s' cannot name a task: white space, control characters and slashes "
                           "are not allowed",
                           name);
    if (*name == '.' || strstr(name, ":.") || strstr(name, "::") || *name == ':')
        return err_set(err, SPT_E_CONFIG, "'%s' cannot name a task", name);
    if (task_find(r, name) || mixture_find(r, name))
        return err_set(err, SPT_E_CONFIG, "a task or mixture named '%s' exists already", name);
    return SPT_OK;
}

spt_status registry_add_task(task_registry *r, const struct task *t, spt_err *err)
{
    TRY(check_new(r, t->name, err));
    TRY(mem_grow(&r->task, &r->task_cap, r->tasks + 1, sizeof *r->task, TASK_MOST, err));
    TRY(mem_grow(&r->user, &r->user_cap, r->users + 1, sizeof *r->user, TASK_MOST, err));
    struct task *kept = keep(r, sizeof *kept);
    const char *name = keep_text(r, t->name);
    if (!kept || !name)
        return err_nomem(err, sizeof *kept);
    *kept = *t;
    kept->name = name;
    size_t at = r->tasks;
    for (; at > 0 && strcmp(r->task[at - 1]->name, name) > 0; at--)
        r->task[at] = r->task[at - 1];
    r->task[at] = kept;
    r->tasks++;
    if (t->user)
        r->user[r->users++] = (struct task_user *)t->user;
    return SPT_OK;
}

spt_status task_registry_add_mixture(task_registry *r, const char *name,
                                     const struct task_member *member, size_t n, spt_err *err)
{
    TRY(check_new(r, name, err));
    if (!n)
        return err_set(err, SPT_E_CONFIG, "mixture %s has no tasks", name);
    for (size_t i = 0; i < n; i++) {
        if (!(member[i].rate >= 0 && member[i].rate < HUGE_VAL))
            return err_set(err, SPT_E_CONFIG, "mixture %s: the rate of %s is not a number >= 0",
                           name, member[i].name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(member[k].name, member[i].name) == 0)
                return err_set(err, SPT_E_CONFIG, "mixture %s names %s twice", name,
                               member[i].name);
    }
    TRY(mem_grow(&r->mixture, &r->mixture_cap, r->mixtures + 1, sizeof *r->mixture, TASK_MOST,
                 err));
    struct mixture *m = keep(r, sizeof *m);
    struct task_member *list = keep(r, n * sizeof *list);
    const char *kept = keep_text(r, name);
    if (!m || !list || !kept)
        return err_nomem(err, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        list[i] = (struct task_member){keep_text(r, member[i].name), member[i].rate};
        if (!list[i].name)
            return err_nomem(err, n);
    }
    *m = (struct mixture){kept, MODULE_USER, list, n};
    size_t at = r->mixtures;
    for (; at > 0 && strcmp(r->mixture[at - 1]->name, kept) > 0; at--)
        r->mixture[at] = r->mixture[at - 1];
    r->mixture[at] = m;
    r->mixtures++;
    return SPT_OK;
}

spt_status task_registry_add_hook(task_registry *r, const struct task_hook *h, spt_err *err)
{
    if (!h->name || !*h->name || strlen(h->name) >= TASK_NAME)
        return err_set(err, SPT_E_CONFIG, "a %s needs a name", task_hook_kind(h->kind));
    if (task_hook_is_builtin(h->kind, h->name))
        return err_set(err, SPT_E_CONFIG, "%s '%s' is built in", task_hook_kind(h->kind), h->name);
    if (task_hook_find(r, h->kind, h->name))
        return err_set(err, SPT_E_CONFIG, "%s '%s' exists already", task_hook_kind(h->kind),
                       h->name);
    TRY(mem_grow(&r->hook, &r->hook_cap, r->hooks + 1, sizeof *r->hook, TASK_MOST, err));
    struct task_hook kept = *h;
    kept.name = keep_text(r, h->name);
    if (!kept.name)
        return err_nomem(err, strlen(h->name));
    r->hook[r->hooks++] = kept;
    return SPT_OK;
}

const struct task_hook *task_hook_find(const task_registry *r, enum task_hook_kind kind,
                                       const char *name)
{
    for (size_t i = 0; i < r->hooks; i++)
        if (r->hook[i].kind == kind && strcmp(r->hook[i].name, name) == 0)
            return &r->hook[i];
    return NULL;
}

const struct task_hook *registry_hook_at(const task_registry *r, size_t i)
{
    return i < r->hooks ? &r->hook[i] : NULL;
}

size_t task_count(const task_registry *r)
{
    return r->tasks;
}

const struct task *task_at(const task_registry *r, size_t i)
{
    return r->task[i];
}

size_t mixture_count(const task_registry *r)
{
    return r->mixtures;
}

const struct mixture *mixture_at(const task_registry *r, size_t i)
{
    return r->mixture[i];
}

const struct task *task_find(const task_registry *r, const char *name)
{
    size_t low = 0, high = r->tasks;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int d = strcmp(r->task[mid]->name, name);
        if (d == 0)
            return r->task[mid];
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const struct mixture *mixture_find(const task_registry *r, const char *name)
{
    for (size_t i = 0; i < r->mixtures; i++)
        if (strcmp(r->mixture[i]->name, name) == 0)
            return r->mixture[i];
    return NULL;
}

static size_t distance(const char *a, const char *b)
{
    size_t row[TASK_NAME], n = strlen(b);
    if (n >= TASK_NAME - 1)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const size_t up = row[j + 1];
            size_t best = diagonal + (a[i] != b[j]);
            best = up + 1 < best ? up + 1 : best;
            best = row[j] + 1 < best ? row[j] + 1 : best;
            diagonal = up;
            row[j + 1] = best;
        }
    }
    return row[n];
}

void task_suggest(const task_registry *r, const char *name, buf *out)
{
    const char *best[3] = {0};
    size_t at[3] = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    for (size_t i = 0; i < r->tasks + r->mixtures && strlen(name) < TASK_NAME; i++) {
        const char *n = i < r->tasks ? r->task[i]->name : r->mixture[i - r->tasks]->name;
        const size_t d = distance(name, n);
        for (int k = 0; k < 3; k++) {
            if (d >= at[k])
                continue;
            for (int m = 2; m > k; m--) {
                at[m] = at[m - 1];
                best[m] = best[m - 1];
            }
            at[k] = d;
            best[k] = n;
            break;
        }
    }
    for (int k = 0; k < 3; k++)
        if (best[k] && at[k] <= strlen(name) / 2 + 2)
            buf_addf(out, "%s%s", k ? ", " : "", best[k]);
}

/* --- mixtures ----------------------------------------------------------------------------- */

struct flat {
    struct task_rate *item;
    size_t n, cap;
};

static spt_status unknown(const task_registry *r, const char *name, spt_err *err)
{
    buf near;
    buf_init(&near, 1000);
    task_suggest(r, name, &near);
    err_set(err, SPT_E_CONFIG, "no task or mixture is named '%s'%s%s", name,
            near.len ? "; did you mean " : "", buf_str(&near));
    buf_release(&near);
    return SPT_E_CONFIG;
}

static spt_status add_member(struct flat *f, const struct task *t, double rate, spt_err *err)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->item[i].task == t) {
            f->item[i].rate += rate;
            return SPT_OK;
        }
    }
    TRY(mem_grow(&f->item, &f->cap, f->n + 1, sizeof *f->item, TASK_MOST, err));
    f->item[f->n++] = (struct task_rate){t, rate};
    return SPT_OK;
}

/* A member's rate within a sub-mixture is its share of that mixture times the mixture's rate. */
static spt_status flatten(const task_registry *r, const struct mixture *m, double scale, int depth,
                          struct flat *f, spt_err *err)
{
    if (depth > 16)
        return err_set(err, SPT_E_CONFIG, "mixture %s contains itself", m->name);
    for (size_t i = 0; i < m->members; i++) {
        const struct task_member *k = &m->member[i];
        const struct mixture *sub = mixture_find(r, k->name);
        const struct task *t = task_find(r, k->name);
        if (sub) {
            double total = 0;
            for (size_t j = 0; j < sub->members; j++)
                total += sub->member[j].rate;
            TRY(flatten(r, sub, scale * k->rate / (total > 0 ? total : 1), depth + 1, f, err));
        } else if (t) {
            TRY(add_member(f, t, scale * k->rate, err));
        } else {
            return unknown(r, k->name, err);
        }
    }
    return SPT_OK;
}

static int by_rate_name(const void *a, const void *b)
{
    return strcmp(((const struct task_rate *)a)->task->name,
                  ((const struct task_rate *)b)->task->name);
}

spt_status task_members(const task_registry *r, const char *name, struct task_rate **out, size_t *n,
                        spt_err *err)
{
    struct flat f = {0};
    const struct mixture *m = mixture_find(r, name);
    const struct task *t = m ? NULL : task_find(r, name);
    spt_status st = m   ? flatten(r, m, 1, 0, &f, err)
                    : t ? add_member(&f, t, 1, err)
                        : unknown(r, name, err);
    if (st) {
        mem_free(f.item);
        return st;
    }
    qsort(f.item, f.n, sizeof *f.item, by_rate_name);
    *out = f.item;
    *n = f.n;
    return SPT_OK;
}

double task_rate_num_examples(double examples, double maximum, double temperature, double scale)
{
    double rate = examples * scale;
    if (maximum != 0 && rate > maximum)
        rate = maximum;
    return temperature == 1 ? rate : pow(rate, 1 / temperature);
}

spt_status task_mapping(const char *const *name, const char *const *alias, size_t n,
                        int64_t *number, spt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (alias[i])
            continue;
        number[i] = 0;
        for (size_t j = 0; j < n; j++)
            number[i] += !alias[j] && strcmp(name[j], name[i]) < 0;
    }
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        while (alias[i] && j < n && (alias[j] || strcmp(name[j], alias[i]) != 0))
            j++;
        if (alias[i] && j == n)
            return err_set(err, SPT_E_CONFIG, "task alias %s: there is no task %s", name[i],
                           alias[i]);
        if (alias[i])
            number[i] = number[j];
    }
    return SPT_OK;
}
