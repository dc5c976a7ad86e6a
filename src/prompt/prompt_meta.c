/* spt.<key> strings: docs/design/prompt-file.md. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "prompt/prompt_internal.h"
#include "text/json.h"
#include "text/number.h"

enum { MAX_LABELS = 1 << 20 };
#define MAX_LABEL_TEXT ((size_t)64 << 20)

static const char *const combine_names[] = {
    [T5_PREFIX] = "prefix", [T5_PREFIX_AFTER_BOS] = "prefix_after_bos", [T5_SUFFIX] = "suffix"};
enum { COMBINES = sizeof combine_names / sizeof *combine_names };
static const char *const side_names[] = {
    [PROMPT_ENCODER] = "encoder", [PROMPT_DECODER] = "decoder"};

#define COUNT_ONE(field, key, what) +1
enum {
    TEXTS = 0 PROMPT_TEXT_MAP(COUNT_ONE),
    NUMBERS = 0 PROMPT_NUMBER_MAP(COUNT_ONE),
    MOST = TEXTS + NUMBERS + 5
};
#undef COUNT_ONE

/* --- building ------------------------------------------------------------------------------ */

/* The composed values go into one buffer; it may move, so items hold offsets until the end. */
struct builder {
    struct prompt_meta *m;
    buf text;
    size_t offset[MOST];
    bool composed[MOST];
};

static void put(struct builder *b, const char *key, const char *value)
{
    b->m->item[b->m->count++] = (struct store_meta){key, value};
}

static void begin(struct builder *b, const char *key)
{
    b->offset[b->m->count] = b->text.len;
    b->composed[b->m->count] = true;
    put(b, key, NULL);
}

static void put_number(struct builder *b, const char *key, int64_t v)
{
    if (v < 0)
        return;
    begin(b, key);
    buf_addf(&b->text, "%lld", (long long)v);
    buf_addc(&b->text, 0);
}

static void put_labels(struct builder *b, const struct prompt_use *u)
{
    json_writer w;
    if (!u->labels)
        return;
    begin(b, PROMPT_META_PREFIX "labels");
    json_write_init(&w, &b->text, 0);
    json_begin_array(&w);
    for (size_t i = 0; i < u->label_count; i++)
        json_string(&w, u->labels[i]);
    json_end_array(&w);
    buf_addc(&b->text, 0);
}

static spt_status build(struct builder *b, const struct prompt *p, spt_err *err)
{
    const struct prompt_use *u = &p->use;
    put(b, PROMPT_META_FORMAT, PROMPT_META_VERSION);
#define PUT(field, key, what) \
    if (u->field)             \
        put(b, PROMPT_META_PREFIX key, u->field);
    PROMPT_TEXT_MAP(PUT)
#undef PUT
#define PUT(field, key, what) put_number(b, PROMPT_META_PREFIX key, u->field);
    PROMPT_NUMBER_MAP(PUT)
#undef PUT
    put_labels(b, u);
    put(b, PROMPT_META_PREFIX "combine", combine_names[u->combine]);
    put(b, PROMPT_META_PREFIX "side", side_names[u->side]);
    TRY(buf_status(&b->text, "prompt metadata", err));
    for (size_t i = 0; i < b->m->count; i++)
        if (b->composed[i])
            b->m->item[i].value = b->text.data + b->offset[i];
    b->m->storage = buf_detach(&b->text);
    return SPT_OK;
}

spt_status prompt_meta_build(const struct prompt *p, struct prompt_meta *out, spt_err *err)
{
    struct prompt_meta m = {0};
    struct builder b = {.m = &m};
    m.item = mem_zalloc(MOST, sizeof *m.item);
    if (!m.item)
        return err_nomem(err, MOST * sizeof *m.item);
    buf_init(&b.text, MAX_LABEL_TEXT);
    const spt_status st = build(&b, p, err);
    buf_release(&b.text);
    if (st)
        prompt_meta_release(&m);
    else
        *out = m;
    return st;
}

void prompt_meta_release(struct prompt_meta *m)
{
    mem_free(m->item);
    mem_free(m->storage);
    *m = (struct prompt_meta){0};
}

/* --- reading ------------------------------------------------------------------------------- */

static spt_status read_labels(const char *json, struct prompt_use *use, spt_err *err)
{
    json_reader r;
    struct json_event item;
    bool more;
    struct prompt_use got = {0};
    size_t cap = 0;
    json_open(&r, json, strlen(json), 0);
    spt_status st = json_enter_array(&r, err);
    while (!st && !(st = json_next_item(&r, &more, &item, err)) && more) {
        char *text = NULL;
        if (item.kind != JSON_STRING)
            st = json_error(&r, item.offset, err, "a label is %s", json_kind_name(item.kind));
        if (!st)
            st = mem_grow(&got.labels, &cap, got.label_count + 1, sizeof *got.labels, MAX_LABELS,
                          err);
        if (!st && !(text = mem_alloc(item.len + 1, 1)))
            st = err_nomem(err, item.len + 1);
        if (!st) {
            const size_t n = json_unescape(&item, text);
            text[n] = 0;
            got.labels[got.label_count++] = text;
            if (memchr(text, 0, n))
                st = json_error(&r, item.offset, err, "a label holds a NUL");
        }
    }
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    if (!st)
        st = prompt_set_labels(use, (const char *const *)got.labels, got.label_count, err);
    for (size_t i = 0; i < got.label_count; i++)
        mem_free(got.labels[i]);
    mem_free(got.labels);
    return st;
}

static spt_status read_number(const char *key, const char *text, int64_t *out, spt_err *err)
{
    int64_t v;
    if (!number_i64(text, strlen(text), &v) || v < 0)
        return err_set(err, SPT_E_FORMAT, "metadata %s is \"%.40s\", not a number from 0 on", key, text);
    *out = v;
    return SPT_OK;
}

static spt_status read_choice(const char *key, const char *text, const char *const *names, int n,
                              int *out, spt_err *err)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text, names[i])) {
            *out = i;
            return SPT_OK;
        }
    return err_set(err, SPT_E_FORMAT, "metadata %s is \"%.40s\", which this version does not know", key,
                   text);
}

static spt_status read_one(const char *key, const char *value, struct prompt_use *use, spt_err *err)
{
    int choice = 0;
#define READ(field, name, what) \
    if (!strcmp(key, name))     \
        return prompt_set_text(&use->field, value, err);
    PROMPT_TEXT_MAP(READ)
#undef READ
#define READ(field, name, what) \
    if (!strcmp(key, name))     \
        return read_number(key, value, &use->field, err);
    PROMPT_NUMBER_MAP(READ)
#undef READ
    if (!strcmp(key, "labels"))
        return read_labels(value, use, err);
    if (!strcmp(key, "combine")) {
        TRY(read_choice(key, value, combine_names, COMBINES, &choice, err));
        use->combine = (enum t5_combine)choice;
    }
    if (!strcmp(key, "side")) {
        TRY(read_choice(key, value, side_names, 2, &choice, err));
        use->side = (enum prompt_side)choice;
    }
    return SPT_OK;
}

spt_status prompt_meta_read(const store *s, const char *name, struct prompt_use *use, spt_err *err)
{
    const char *version = store_meta_get(s, PROMPT_META_FORMAT);
    const size_t n = sizeof PROMPT_META_PREFIX - 1;
    if (!version)
        return SPT_OK;
    if (strcmp(version, PROMPT_META_VERSION) != 0)
        log_warning("%s: prompt metadata of format %.20s, this version knows %s; what it does not "
                    "know is ignored", name, version, PROMPT_META_VERSION);
    for (size_t i = 0; i < store_meta_count(s); i++) {
        const struct store_meta *m = store_meta_at(s, i);
        if (!strncmp(m->key, PROMPT_META_PREFIX, n))
            TRY(read_one(m->key + n, m->value, use, err));
    }
    return SPT_OK;
}
