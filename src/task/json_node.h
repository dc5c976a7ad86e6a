/* A JSON text as a tree, for rows whose members are needed in another order than they come. */
#ifndef SPT_TASK_JSON_NODE_H
#define SPT_TASK_JSON_NODE_H

#include "task/record.h"
#include "text/json.h"

struct json_node {
    enum json_kind kind; /* of the value: JSON_OBJECT, JSON_STRING, JSON_TRUE, ... */
    const char *key;     /* in an object, else "" */
    struct field_text text; /* JSON_STRING; JSON_NUMBER: as written */
    int64_t number;         /* JSON_NUMBER, if whole */
    bool whole;
    struct json_node *child, *next;
};

/* The whole text must be one object. Everything lies in the arena, until record_clear(). */
spt_status json_node_read(const char *text, size_t len, record *arena, struct json_node **out,
                          spt_err *err);
/* NULL when there is none (or no object). */
const struct json_node *json_node_member(const struct json_node *object, const char *key);
/* A member of that kind; numbers must be whole. SPT_E_FORMAT names it and what it is. */
spt_status json_node_need(const struct json_node *object, const char *key, enum json_kind kind,
                          const struct json_node **out, spt_err *err);
size_t json_node_children(const struct json_node *n); /* accepts NULL */

#endif
