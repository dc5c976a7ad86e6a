/* What a user's task was compiled to; used by the parts of task/ that format, read and score. */
#ifndef SPT_TASK_USER_INTERNAL_H
#define SPT_TASK_USER_INTERNAL_H

#include "data/template.h"
#include "task/user_task.h"

struct task_user {
    struct user_task spec; /* with copies */
    text_template *input, *target, *answers;
    const char **field; /* columns that the templates use */
    size_t fields;
    const struct task_hook *preprocessor, *postprocessor; /* copies */
    const struct task_hook **metric;
    size_t metrics;
    bool *told; /* [files]: the story knows how the file is read */
};

void task_user_release(struct task_user *u); /* the templates */

/* Zeroed memory, and text, that live as long as the registry; NULL when out of memory. */
void *registry_keep(task_registry *r, size_t size);
const char *registry_keep_text(task_registry *r, const char *s);
/* Takes over the templates of t->user. */
spt_status registry_add_task(task_registry *r, const struct task *t, spt_err *err);
const struct task_hook *registry_hook_at(const task_registry *r, size_t i);

const char *task_hook_kind(enum task_hook_kind kind);
bool task_hook_is_builtin(enum task_hook_kind kind, const char *name);

/* Raw example -> `inputs` and `targets` by the templates. */
spt_status user_format(const struct task *t, const record *raw, buf *text, record *out,
                       spt_err *err);
int64_t user_class(const struct task_user *u, const char *s, size_t len); /* -1: none */

/* The files of a task as raw examples: texts under their column names. */
typedef struct user_source user_source;
spt_status user_source_open(const struct task *t, const char *split, const char *dir,
                            user_source **out, spt_err *err);
spt_status user_source_next(user_source *s, record *out, bool *more, spt_err *err);
spt_status user_source_rewind(user_source *s, spt_err *err);
spt_status user_source_count(user_source *s, uint64_t *out, spt_err *err); /* then at the start */
/* Puts file and line of the last record in front of a message. */
spt_status user_source_wrap(const user_source *s, spt_status st, spt_err *err);
void user_source_close(user_source *s);

#endif
