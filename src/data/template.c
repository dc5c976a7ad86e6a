/* A template is kept as its source plus pieces: runs of literal text (braces already undone in a
 * pool) and field numbers, in order. */
#include "data/template.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define TEMPLATE_MAX ((size_t)1 << 20)
#define RENDERED_FIELDS_MAX 1024

struct piece {
    size_t from, len; /* literal: bytes of `pool` */
    size_t field;     /* SIZE_MAX: literal */
};

struct text_template {
    char *source;
    buf pool;
    struct piece *piece;
    size_t count, cap;
    char **field;
    size_t fields, field_cap;
};

static spt_status add_piece(text_template *t, struct piece p, spt_err *err)
{
    TRY(mem_grow(&t->piece, &t->cap, t->count + 1, sizeof *t->piece, TEMPLATE_MAX, err));
    t->piece[t->count++] = p;
    return SPT_OK;
}

static spt_status end_literal(text_template *t, size_t from, spt_err *err)
{
    if (t->pool.len == from)
        return SPT_OK;
    return add_piece(t, (struct piece){from, t->pool.len - from, SIZE_MAX}, err);
}

static spt_status add_field(text_template *t, const char *name, size_t len, spt_err *err)
{
    for (size_t i = 0; i < t->fields; i++)
        if (strlen(t->field[i]) == len && memcmp(t->field[i], name, len) == 0)
            return add_piece(t, (struct piece){.field = i}, err);
    TRY(mem_grow(&t->field, &t->field_cap, t->fields + 1, sizeof *t->field, RENDERED_FIELDS_MAX,
                 err));
    char *copy = mem_strndup(name, len);
    if (!copy)
        return err_nomem(err, len);
    t->field[t->fields++] = copy;
    return add_piece(t, (struct piece){.field = t->fields - 1}, err);
}

static spt_status complain(const char *text, size_t len, size_t at, const char *why, spt_err *err)
{
    return err_at(err, SPT_E_CONFIG, at, "template \"%.*s\": character %zu: %s",
                  (int)(len < 200 ? len : 200), text, at + 1, why);
}

static spt_status parse(text_template *t, const char *text, size_t len, spt_err *err)
{
    size_t literal = 0;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c != '{' && c != '}') {
            buf_addc(&t->pool, c);
            continue;
        }
        if (i + 1 < len && text[i + 1] == c) {
            buf_addc(&t->pool, c);
            i++;
            continue;
        }
        if (c == '}')
            return complain(text, len, i, "'}' without '{'; a brace itself is written }}", err);
        const char *close = memchr(text + i + 1, '}', len - i - 1);
        const size_t name = i + 1, stop = close ? (size_t)(close - text) : len;
        if (!close || memchr(text + name, '{', stop - name))
            return complain(text, len, i, "'{' without '}'; a brace itself is written {{", err);
        if (stop == name)
            return complain(text, len, i, "{} names no column", err);
        TRY(end_literal(t, literal, err));
        TRY(add_field(t, text + name, stop - name, err));
        literal = t->pool.len;
        i = stop;
    }
    TRY(end_literal(t, literal, err));
    return buf_status(&t->pool, "template", err);
}

static spt_status make(const char *text, size_t len, text_template **out, spt_err *err)
{
    text_template *t = mem_zalloc(1, sizeof *t);
    if (!t)
        return err_nomem(err, sizeof *t);
    buf_init(&t->pool, TEMPLATE_MAX);
    t->source = mem_strndup(text, len);
    if (!t->source) {
        mem_free(t);
        return err_nomem(err, len);
    }
    *out = t;
    return SPT_OK;
}

spt_status template_parse(const char *text, size_t len, text_template **out, spt_err *err)
{
    if (len > TEMPLATE_MAX)
        return err_set(err, SPT_E_CONFIG, "template of %zu bytes; the limit is %zu", len,
                       TEMPLATE_MAX);
    if (len && memchr(text, '\0', len))
        return err_set(err, SPT_E_CONFIG, "template with a zero byte");
    text_template *t = NULL;
    TRY(make(text, len, &t, err));
    const spt_status st = parse(t, text, len, err);
    if (st) {
        template_free(t);
        return st;
    }
    *out = t;
    return SPT_OK;
}

spt_status template_column(const char *name, text_template **out, spt_err *err)
{
    buf source;
    buf_init(&source, TEMPLATE_MAX);
    buf_addc(&source, '{');
    buf_adds(&source, name);
    buf_addc(&source, '}');
    text_template *t = NULL;
    spt_status st = buf_status(&source, "template", err);
    if (!st)
        st = make(buf_str(&source), source.len, &t, err);
    buf_release(&source);
    if (!st)
        st = add_field(t, name, strlen(name), err);
    if (st) {
        template_free(t);
        return st;
    }
    *out = t;
    return SPT_OK;
}

void template_free(text_template *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->fields; i++)
        mem_free(t->field[i]);
    mem_free(t->field);
    mem_free(t->piece);
    buf_release(&t->pool);
    mem_free(t->source);
    mem_free(t);
}

const char *template_source(const text_template *t)
{
    return t->source;
}

size_t template_fields(const text_template *t)
{
    return t->fields;
}

const char *template_field(const text_template *t, size_t i)
{
    return t->field[i];
}

static spt_status bind_fields(const text_template *t, records *r, const char *column,
                              struct template_binding *out, spt_err *err)
{
    struct template_binding b = {.t = t, .slot = mem_zalloc(t->fields + 1, sizeof *b.slot)};
    if (!b.slot)
        return err_nomem(err, t->fields * sizeof *b.slot);
    for (size_t i = 0; i < t->fields; i++) {
        const spt_status st = records_column(r, column ? column : t->field[i], &b.slot[i], err);
        if (st) {
            template_unbind(&b);
            return err_wrap(err, st, "template \"%.200s\"", t->source);
        }
    }
    *out = b;
    return SPT_OK;
}

spt_status template_bind(const text_template *t, records *r, struct template_binding *out,
                         spt_err *err)
{
    return bind_fields(t, r, NULL, out, err);
}

spt_status template_bind_to(const text_template *t, records *r, const char *column,
                            struct template_binding *out, spt_err *err)
{
    if (t->fields != 1)
        return err_set(err, SPT_E_INTERNAL, "template \"%.200s\" has %zu fields", t->source,
                       t->fields);
    return bind_fields(t, r, column, out, err);
}

void template_unbind(struct template_binding *b)
{
    mem_free(b->slot);
    *b = (struct template_binding){0};
}

spt_status template_render_with(const text_template *t, template_value_fn value, void *ctx,
                                buf *out, spt_err *err)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct piece *p = &t->piece[i];
        const char *text = buf_str(&t->pool) + p->from;
        size_t len = p->len;
        if (p->field != SIZE_MAX)
            TRY(value(ctx, p->field, &text, &len, err));
        buf_add(out, text, len);
    }
    return buf_status(out, "text of the template", err);
}

struct from_record {
    const struct template_binding *b;
    const records *r;
};

static spt_status record_value(void *ctx, size_t field, const char **text, size_t *len,
                               spt_err *err)
{
    const struct from_record *f = ctx;
    return records_field(f->r, f->b->slot[field], text, len, err);
}

spt_status template_render(const struct template_binding *b, const records *r, buf *out,
                           spt_err *err)
{
    struct from_record f = {b, r};
    return template_render_with(b->t, record_value, &f, out, err);
}
