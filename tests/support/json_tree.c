#include "support/json_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

static struct jnode *read_value(json_reader *r, const struct json_event *ev)
{
    spt_err err;
    struct jnode *n = mem_zalloc(1, sizeof *n);
    n->kind = ev->kind;
    if (ev->kind == JSON_STRING || ev->kind == JSON_NUMBER) {
        n->text = mem_alloc(ev->len + 1, 1);
        if (ev->kind == JSON_STRING)
            n->len = json_unescape(ev, n->text);
        else
            memcpy(n->text, ev->text, n->len = ev->len);
        n->text[n->len] = 0;
    }
    if (ev->kind != JSON_OBJECT && ev->kind != JSON_ARRAY)
        return n;
    for (struct jnode **tail = &n->child;; tail = &(*tail)->next) {
        struct json_event next;
        char *key = NULL;
        EXPECT_OK(json_next(r, &next, &err), &err);
        if (next.kind == JSON_OBJECT_END || next.kind == JSON_ARRAY_END)
            return n;
        if (next.kind == JSON_KEY) {
            key = mem_alloc(next.len + 1, 1);
            key[json_unescape(&next, key)] = 0;
            EXPECT_OK(json_next(r, &next, &err), &err);
        }
        *tail = read_value(r, &next);
        (*tail)->key = key;
        n->children++;
    }
}

struct jnode *json_tree(const char *text, size_t size)
{
    json_reader r;
    struct json_event ev;
    spt_err err;
    json_open(&r, text, size, JSON_PYTHON_NAN);
    EXPECT_OK(json_next(&r, &ev, &err), &err);
    struct jnode *n = read_value(&r, &ev);
    EXPECT_OK(json_finish(&r, &err), &err);
    json_close(&r);
    return n;
}

void json_tree_free(struct jnode *n)
{
    while (n) {
        struct jnode *next = n->next;
        json_tree_free(n->child);
        mem_free(n->key);
        mem_free(n->text);
        mem_free(n);
        n = next;
    }
}

const struct jnode *json_get(const struct jnode *object, const char *key)
{
    for (const struct jnode *n = object ? object->child : NULL; n; n = n->next)
        if (n->key && strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

const struct jnode *json_item(const struct jnode *array, size_t i)
{
    const struct jnode *n = array ? array->child : NULL;
    while (n && i--)
        n = n->next;
    return n;
}

double json_number(const struct jnode *n)
{
    if (!n)
        return NAN;
    if (n->kind == JSON_TRUE || n->kind == JSON_FALSE)
        return n->kind == JSON_TRUE;
    return n->text ? strtod(n->text, NULL) : NAN;
}

int64_t json_int(const struct jnode *n)
{
    return n && n->text ? strtoll(n->text, NULL, 10) : n && n->kind == JSON_TRUE;
}
