#include "task/json_node.h"

#include <string.h>

enum { MAX_DEPTH = 32 };

static spt_status read_node(json_reader *r, record *arena, const struct json_event *ev, int depth,
                            struct json_node **out, spt_err *err);

static spt_status unescaped(const struct json_event *ev, record *arena, struct field_text *out,
                            spt_err *err)
{
    char *s = record_alloc(arena, ev->len + 1);
    if (!s)
        return err_nomem(err, ev->len);
    const size_t n = json_unescape(ev, s);
    s[n] = 0;
    *out = (struct field_text){s, n};
    return SPT_OK;
}

static spt_status read_children(json_reader *r, record *arena, bool object, int depth,
                                struct json_node *parent, spt_err *err)
{
    struct json_node **tail = &parent->child;
    for (;;) {
        struct json_event ev;
        struct field_text key = {"", 0};
        TRY(json_next(r, &ev, err));
        if (ev.kind == JSON_OBJECT_END || ev.kind == JSON_ARRAY_END)
            return SPT_OK;
        if (object) {
            TRY(unescaped(&ev, arena, &key, err));
            TRY(json_next(r, &ev, err));
        }
        TRY(read_node(r, arena, &ev, depth + 1, tail, err));
        (*tail)->key = key.s;
        tail = &(*tail)->next;
    }
}

static spt_status read_node(json_reader *r, record *arena, const struct json_event *ev, int depth,
                            struct json_node **out, spt_err *err)
{
    struct json_node *n = record_alloc(arena, sizeof *n);
    if (!n)
        return err_nomem(err, sizeof *n);
    *n = (struct json_node){.kind = ev->kind, .key = ""};
    *out = n;
    if (depth > MAX_DEPTH)
        return err_set(err, SPT_E_FORMAT, "JSON is nested more than %d deep", MAX_DEPTH);
    if (ev->kind == JSON_STRING)
        return unescaped(ev, arena, &n->text, err);
    if (ev->kind == JSON_NUMBER) {
        n->whole = json_to_i64(ev, &n->number, NULL) == SPT_OK;
        n->text = (struct field_text){ev->text, ev->len};
        return SPT_OK;
    }
    if (ev->kind == JSON_OBJECT || ev->kind == JSON_ARRAY)
        return read_children(r, arena, ev->kind == JSON_OBJECT, depth, n, err);
    return SPT_OK;
}

spt_status json_node_read(const char *text, size_t len, record *arena, struct json_node **out,
                          spt_err *err)
{
    json_reader r;
    struct json_event ev;
    json_open(&r, text, len, 0);
    spt_status st = json_next(&r, &ev, err);
    if (!st && ev.kind != JSON_OBJECT)
        st =
            err_set(err, SPT_E_FORMAT, "the line is %s, wanted an object", json_kind_name(ev.kind));
    if (!st)
        st = read_node(&r, arena, &ev, 0, out, err);
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    return st;
}

const struct json_node *json_node_member(const struct json_node *object, const char *key)
{
    for (const struct json_node *n = object ? object->child : NULL; n; n = n->next)
        if (strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

spt_status json_node_need(const struct json_node *object, const char *key, enum json_kind kind,
                          const struct json_node **out, spt_err *err)
{
    const struct json_node *n = json_node_member(object, key);
    if (!n || n->kind != kind)
        return err_set(err, SPT_E_FORMAT, "'%s' is %s, wanted %s", key,
                       n ? json_kind_name(n->kind) : "missing", json_kind_name(kind));
    if (kind == JSON_NUMBER && !n->whole)
        return err_set(err, SPT_E_FORMAT, "'%s' is %.*s, wanted a whole number", key,
                       n->text.len > 40 ? 40 : (int)n->text.len, n->text.s);
    *out = n;
    return SPT_OK;
}

size_t json_node_children(const struct json_node *n)
{
    size_t count = 0;
    for (const struct json_node *k = n ? n->child : NULL; k; k = k->next)
        count++;
    return count;
}
