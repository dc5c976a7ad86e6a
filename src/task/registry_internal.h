/* Between the files of the registry: task_registry.c holds it, task_builder.c fills it, task_table.c
 * knows with what. */
#ifndef SPT_TASK_REGISTRY_INTERNAL_H
#define SPT_TASK_REGISTRY_INTERNAL_H

#include "task/task.h"
#include "task/user_internal.h"

enum { TASK_MOST = 1 << 16, TASK_NAME = 160 };

struct task_registry {
    struct task_chunk {
        struct task_chunk *next;
        size_t used, size;
        char bytes[];
    } * chunk;
    struct task **task;
    size_t tasks, task_cap;
    struct mixture **mixture;
    size_t mixtures, mixture_cap;
    struct task_user **user; /* with templates to be freed */
    size_t users, user_cap;
    struct task_hook *hook;
    size_t hooks, hook_cap;
};

/* While the registry is made. A failure is remembered in st. */
struct task_builder {
    task_registry *r;
    enum task_vocabulary vocabulary;
    const char *p; /* prefix of all names: "", "mt5_", "byt5_" */
    spt_status st;
};

/* Adds a copy of the prototype under a name. */
void task_add(struct task_builder *b, const struct task *proto, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

struct task_named_rate {
    const char *name; /* without the vocabulary's prefix */
    double rate;
};
void task_mix(struct task_builder *b, enum task_module module, const struct task_named_rate *member,
              size_t n, const char *fmt, ...) PRINTF_LIKE(5, 6);

/* Member names made from patterns. */
struct task_members {
    char text[16][TASK_NAME];
    struct task_named_rate item[16];
    size_t n;
};
void task_member(struct task_members *m, double rate, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Everything of the upstream tree for the builder's vocabulary. */
void task_table_add(struct task_builder *b);

#endif
