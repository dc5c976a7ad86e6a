/* tokenizer.json is turned into the SentencePiece message that it was converted from, so that one
 * validated reader and one encoder serve both. Its sentinels and special tokens become CONTROL
 * pieces: they are only ever matched as added tokens, before segmentation. */
#include "vocab/hf_tokenizer.h"

#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "codec/protobuf.h"
#include "text/json.h"
#include "text/number.h"
#include "vocab/spm_validate.h"
#include "vocab/vocab.h"

enum {MAX_ADDED_TEXT = 512 };

void hf_tokenizer_init(struct hf_tokenizer *t)
{
    *t = (struct hf_tokenizer){.legacy = true, .extra_ids = -1};
}

void hf_tokenizer_release(struct hf_tokenizer *t)
{
    for (size_t i = 0; i < t->added_count; i++)
        mem_free(t->added[i].text);
    mem_free(t->added);
    *t = (struct hf_tokenizer){0};
}

static spt_status append_added(struct hf_tokenizer *t, const struct hf_added *a, spt_err *err)
{
    if (!a->len || a->len > MAX_ADDED_TEXT)
        return err_set(err, SPT_E_FORMAT, "added token %d has %zu bytes (1 to %d are allowed)", a->id,
                       a->len, MAX_ADDED_TEXT);
    TRY(mem_grow(&t->added, &t->added_cap, t->added_count + 1, sizeof *t->added,
                 TOKENIZER_MAX_ADDED, err));
    struct hf_added *to = &t->added[t->added_count];
    *to = *a;
    to->text = mem_strndup(a->text, a->len);
    if (!to->text)
        return err_nomem(err, a->len);
    t->added_count++;
    return SPT_OK;
}

spt_status hf_tokenizer_add(struct hf_tokenizer *t, const char *text, size_t len, int32_t id,
                            bool lstrip, bool rstrip, bool special, spt_err *err)
{
    for (size_t i = 0; i < t->added_count; i++) {
        struct hf_added *a = &t->added[i];
        if (a->len == len && !memcmp(a->text, text, len))
            return SPT_OK; /* what the file says wins over our defaults */
    }
    const struct hf_added a = {(char *)(uintptr_t)text, len, id, lstrip, rstrip, special};
    return append_added(t, &a, err);
}

/* --- tokenizer_config.json ----------------------------------------------------------------- */

/* "<extra_id_7>" */
static bool is_sentinel(const char *s, size_t len)
{
    static const char head[] = "<extra_id_";
    const size_t n = sizeof head - 1;
    if (len < n + 2 || memcmp(s, head, n) != 0 || s[len - 1] != '>')
        return false;
    for (size_t i = n; i < len - 1; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return true;
}

/* The members of an object with content, lstrip, rstrip, single_word, special, and maybe id. */
static spt_status read_added(json_reader *r, struct hf_added *a, buf *text, spt_err *err)
{
    bool more, single_word = false;
    struct json_event key;
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        int64_t id;
        if (json_is(&key, "content")) {
            buf_clear(text);
            TRY(json_read_text(r, text, err));
        } else if (json_is(&key, "lstrip")) {
            TRY(json_read_bool(r, &a->lstrip, err));
        } else if (json_is(&key, "rstrip")) {
            TRY(json_read_bool(r, &a->rstrip, err));
        } else if (json_is(&key, "special")) {
            TRY(json_read_bool(r, &a->special, err));
        } else if (json_is(&key, "single_word")) {
            TRY(json_read_bool(r, &single_word, err));
        } else if (json_is(&key, "id")) {
            TRY(json_read_i64(r, &id, err));
            if (id < 0 || id > INT32_MAX)
                return json_error(r, key.offset, err, "added token with id %lld", (long long)id);
            a->id = (int32_t)id;
        } else {
            TRY(json_skip(r, err));
        }
    }
    TRY(buf_status(text, "added token", err));
    if (single_word)
        return json_error(r, key.offset, err, "added token '%s' with single_word is not supported",
                          buf_str(text));
    a->text = text->data;
    a->len = text->len;
    return SPT_OK;
}

static spt_status read_added_decoder(json_reader *r, struct hf_tokenizer *t, buf *text,
                                     spt_err *err)
{
    bool more;
    struct json_event key;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return SPT_OK;
        int64_t id;
        if (!number_i64(key.text, key.len, &id) || id < 0 || id > INT32_MAX)
            return json_error(r, key.offset, err, "added token with id %.*s",
                              (int)(key.len < 20 ? key.len : 20), key.text);
        struct hf_added a = {.id = (int32_t)id};
        TRY(json_enter_object(r, err));
        TRY(read_added(r, &a, text, err));
        TRY(append_added(t, &a, err));
    }
}

/* Counts the sentinels in a list of strings (or of objects, which older files have). */
static spt_status count_sentinels(json_reader *r, int *count, buf *text, spt_err *err)
{
    bool more;
    struct json_event item;
    TRY(json_enter_array(r, err));
    for (;;) {
        TRY(json_next_item(r, &more, &item, err));
        if (!more)
            return SPT_OK;
        if (item.kind == JSON_STRING) {
            buf_clear(text);
            json_add_text(&item, text);
            TRY(buf_status(text, "special token", err));
            *count += is_sentinel(buf_str(text), text->len);
        } else if (item.kind == JSON_OBJECT || item.kind == JSON_ARRAY) {
            TRY(json_skip_rest(r, &item, err));
        }
    }
}

static spt_status read_config(json_reader *r, struct hf_tokenizer *t, buf *text, spt_err *err)
{
    bool more, said = false;
    int listed = 0;
    struct json_event key;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "tokenizer_class")) {
            buf_clear(text);
            TRY(json_read_text(r, text, err));
            TRY(buf_status(text, "tokenizer_class", err));
            if (text->len >= sizeof t->class_name)
                return json_error(r, key.offset, err, "tokenizer_class is too long");
            memcpy(t->class_name, buf_str(text), text->len + 1);
        } else if (json_is(&key, "legacy")) {
            struct json_event v;
            TRY(json_next(r, &v, err));
            if (v.kind != JSON_TRUE && v.kind != JSON_FALSE && v.kind != JSON_NULL)
                return json_error(r, v.offset, err, "legacy is %s", json_kind_name(v.kind));
            t->has_legacy = v.kind != JSON_NULL;
            t->legacy = v.kind != JSON_FALSE;
        } else if (json_is(&key, "extra_ids")) {
            int64_t n;
            TRY(json_read_i64(r, &n, err));
            if (n < 0 || n > 1000)
                return json_error(r, key.offset, err, "extra_ids is %lld (0 to 1000 are possible)",
                                  (long long)n);
            t->extra_ids = (int)n;
            said = true;
        } else if (json_is(&key, "additional_special_tokens")) {
            TRY(count_sentinels(r, &listed, text, err));
        } else if (json_is(&key, "added_tokens_decoder")) {
            TRY(read_added_decoder(r, t, text, err));
        } else {
            TRY(json_skip(r, err));
        }
    }
    if (!said && listed)
        t->extra_ids = listed;
    return json_finish(r, err);
}

spt_status hf_tokenizer_config_parse(const char *json, size_t len, struct hf_tokenizer *out,
                                     spt_err *err)
{
    json_reader r;
    buf text;
    buf_init(&text, MAX_ADDED_TEXT);
    json_open(&r, json, len, JSON_PYTHON_NAN);
    const spt_status st = read_config(&r, out, &text, err);
    json_close(&r);
    buf_release(&text);
    return st;
}

/* --- tokenizer.json ------------------------------------------------------------------------ */

struct tokenizer_parts { /* what the pieces of the pipeline amount to */
    bool squeeze;        /* Strip + Replace, or WhitespaceSplit */
    bool metaspace, metaspace_first, charsmap;
    bool unigram;
    int64_t unk;
    buf map; /* precompiled_charsmap, base64 */
};

struct component {
    char type[32], pattern[32], scheme[32];
    bool no_prefix;
};

static spt_status read_component(json_reader *r, const struct json_event *first, const char *what,
                                 const char *list, struct tokenizer_parts *p, int depth,
                                 spt_err *err);

static spt_status read_short(json_reader *r, char to[32], spt_err *err)
{
    struct json_event v;
    TRY(json_next(r, &v, err));
    if (v.kind != JSON_STRING || v.len >= 32)
        return json_error(r, v.offset, err, "unexpected value");
    to[json_unescape(&v, to)] = 0;
    return SPT_OK;
}

static spt_status read_list(json_reader *r, const char *what, const char *list,
                            struct tokenizer_parts *p, int depth, spt_err *err)
{
    bool more;
    struct json_event item;
    TRY(json_enter_array(r, err));
    for (;;) {
        TRY(json_next_item(r, &more, &item, err));
        if (!more)
            return SPT_OK;
        TRY(read_component(r, &item, what, list, p, depth, err));
    }
}

static spt_status read_member(json_reader *r, const struct json_event *key, const char *what,
                              const char *list, struct component *c, struct tokenizer_parts *p,
                              int depth, spt_err *err)
{
    struct json_event v;
    if (json_is(key, "type"))
        return read_short(r, c->type, err);
    if (json_is(key, "prepend_scheme"))
        return read_short(r, c->scheme, err);
    if (json_is(key, list))
        return read_list(r, what, list, p, depth + 1, err);
    if (json_is(key, "precompiled_charsmap")) {
        p->charsmap = true;
        buf_clear(&p->map);
        TRY(json_read_text(r, &p->map, err));
        return buf_status(&p->map, "precompiled_charsmap", err);
    }
    if (json_is(key, "add_prefix_space")) {
        bool prefix;
        TRY(json_read_bool(r, &prefix, err));
        c->no_prefix = !prefix;
        return SPT_OK;
    }
    if (json_is(key, "pattern")) { /* {"Regex": " {2,}"} */
        bool more;
        TRY(json_enter_object(r, err));
        TRY(json_next_key(r, &more, &v, err));
        while (more) {
            TRY(read_short(r, c->pattern, err));
            TRY(json_next_key(r, &more, &v, err));
        }
        return SPT_OK;
    }
    return json_skip(r, err);
}

/* One component {"type": ..., ...}, whose first event was read, or a Sequence of them in `list`. */
static spt_status read_component(json_reader *r, const struct json_event *first, const char *what,
                                 const char *list, struct tokenizer_parts *p, int depth,
                                 spt_err *err)
{
    struct component c = {0};
    struct json_event key;
    bool more;
    if (first->kind == JSON_NULL)
        return SPT_OK;
    if (first->kind != JSON_OBJECT || depth > 4)
        return json_error(r, first->offset, err, "%s is %s", what, json_kind_name(first->kind));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        TRY(read_member(r, &key, what, list, &c, p, depth, err));
    }
    static const char *const neutral[] = {"Sequence", "Precompiled", "Strip"};
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++)
        if (!strcmp(c.type, neutral[i]))
            return SPT_OK;
    if (!strcmp(c.type, "WhitespaceSplit") ||
        (!strcmp(c.type, "Replace") && !strcmp(c.pattern, " {2,}"))) {
        p->squeeze = true;
        return SPT_OK;
    }
    if (!strcmp(c.type, "Metaspace") && strcmp(c.scheme, "never") != 0 &&
        (*c.scheme || !c.no_prefix)) {
        p->metaspace = true;
        p->metaspace_first = !strcmp(c.scheme, "first");
        return SPT_OK;
    }
    return json_error(r, first->offset, err, "%s of type '%s' %s%sis not what T5 has", what, c.type,
                      c.pattern, *c.pattern ? " " : "");
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? memchr(digits, c, 64) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* In place. */
static spt_status base64_decode(buf *b, spt_err *err)
{
    size_t out = 0, len = b->len;
    uint32_t bits = 0;
    int have = 0;
    while (len && b->data[len - 1] == '=' && b->len - len < 2)
        len--;
    for (size_t i = 0; i < len; i++) {
        const int v = base64_value(b->data[i]);
        if (v < 0)
            return err_at(err, SPT_E_FORMAT, i,
                          "precompiled_charsmap: character %zu is no base64 digit", i);
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            b->data[out++] = (char)(bits >> have & 255);
        }
    }
    b->len = out;
    return SPT_OK;
}

/* [["piece", score], ...] straight into the message; types are fixed behind. */
static spt_status read_pieces(json_reader *r, buf *pieces, size_t *count, spt_err *err)
{
    bool more;
    struct json_event item, v;
    buf text;
    buf_init(&text, SPM_MAX_PIECE);
    spt_status st = json_enter_array(r, err);
    while (!st && !(st = json_next_item(r, &more, &item, err)) && more) {
        double score = 0;
        buf_clear(&text);
        if (item.kind != JSON_ARRAY || json_next(r, &v, err) || v.kind != JSON_STRING) {
            st = json_error(r, item.offset, err, "piece %zu is not [text, score]", *count);
            break;
        }
        json_add_text(&v, &text);
        st = buf_status(&text, "piece", err);
        if (!st)
            st = json_read_f64(r, &score, err);
        if (!st)
            st = json_next(r, &v, err);
        if (!st && v.kind != JSON_ARRAY_END)
            st = json_error(r, item.offset, err, "piece %zu is not [text, score]", *count);
        if (st)
            break;
        const uint32_t n = (uint32_t)text.len;
        buf_add(pieces, &n, sizeof n);
        buf_add(pieces, &(float){(float)score}, sizeof(float));
        buf_add(pieces, buf_str(&text), text.len);
        ++*count;
        st = buf_status(pieces, "pieces", err);
    }
    buf_release(&text);
    return st;
}

static spt_status read_model(json_reader *r, struct tokenizer_parts *p, buf *pieces, size_t *count,
                             spt_err *err)
{
    bool more, fallback = false;
    struct json_event key, v;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "type")) {
            TRY(json_next(r, &v, err));
            if (!json_is(&v, "Unigram"))
                return json_error(r, v.offset, err, "a model of type %.*s; T5 needs Unigram",
                                  (int)(v.len < 40 ? v.len : 40), v.text);
            p->unigram = true;
        } else if (json_is(&key, "unk_id")) {
            TRY(json_read_i64(r, &p->unk, err));
        } else if (json_is(&key, "byte_fallback")) {
            TRY(json_read_bool(r, &fallback, err));
        } else if (json_is(&key, "vocab")) {
            TRY(read_pieces(r, pieces, count, err));
        } else {
            TRY(json_skip(r, err));
        }
        if (fallback)
            return json_error(r, key.offset, err, "byte fallback is not T5's");
    }
    return SPT_OK;
}

static bool is_special(const struct hf_tokenizer *t, const char *text, size_t len)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].special && t->added[i].len == len && !memcmp(t->added[i].text, text, len))
            return true;
    return false;
}

static spt_status write_model(const struct hf_tokenizer *t, const struct tokenizer_parts *p,
                              const buf *pieces, size_t count, buf *model, spt_err *err)
{
    const char *at = buf_str(pieces);
    buf one;
    spt_status st = SPT_OK;
    buf_init(&one, SPM_MAX_PIECE + 64);
    for (size_t i = 0; i < count && !st; i++) {
        uint32_t n;
        float score;
        memcpy(&n, at, 4);
        memcpy(&score, at + 4, 4);
        at += 8;
        const bool angle = n && at[0] == '<'; /* specials all start with it: a quick no */
        const int type = (int64_t)i == p->unk              ? VOCAB_UNKNOWN
                         : angle && is_special(t, at, n) ? VOCAB_CONTROL
                                                           : VOCAB_NORMAL;
        buf_clear(&one);
        pb_put_bytes(&one, 1, at, n);
        pb_put_float(&one, 2, score);
        if (type != VOCAB_NORMAL)
            pb_put_varint(&one, 3, (uint64_t)type);
        pb_put_bytes(model, 1, buf_str(&one), one.len);
        st = buf_status(&one, "piece", err);
        at += n;
    }
    buf_release(&one);
    TRY(st);
    if (p->charsmap) {
        buf spec;
        buf_init(&spec, p->map.len + 16);
        pb_put_bytes(&spec, 2, p->map.data, p->map.len);
        pb_put_bytes(model, 3, buf_str(&spec), spec.len);
        st = buf_status(&spec, "character map", err);
        buf_release(&spec);
        TRY(st);
    }
    return buf_status(model, "tokenizer.json", err);
}

static spt_status read_added_list(json_reader *r, struct hf_tokenizer *t, spt_err *err)
{
    buf text;
    bool more;
    struct json_event item;
    buf_init(&text, MAX_ADDED_TEXT);
    spt_status st = json_enter_array(r, err);
    while (!st && !(st = json_next_item(r, &more, &item, err)) && more) {
        struct hf_added a = {.id = -1};
        st = item.kind == JSON_OBJECT ? read_added(r, &a, &text, err)
                                      : json_error(r, item.offset, err, "added token is %s",
                                                   json_kind_name(item.kind));
        if (!st && a.id < 0)
            st = json_error(r, item.offset, err, "added token without id");
        if (!st)
            st = append_added(t, &a, err);
    }
    buf_release(&text);
    return st;
}

/* The value of "normalizer" or "pre_tokenizer". */
static spt_status read_pipeline(json_reader *r, const char *what, const char *list,
                                struct tokenizer_parts *p, spt_err *err)
{
    struct json_event first;
    TRY(json_next(r, &first, err));
    return read_component(r, &first, what, list, p, 0, err);
}

static spt_status read_tokenizer(json_reader *r, struct hf_tokenizer *t, struct tokenizer_parts *p,
                                 buf *pieces, size_t *count, spt_err *err)
{
    bool more;
    struct json_event key;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "added_tokens"))
            TRY(read_added_list(r, t, err));
        else if (json_is(&key, "normalizer"))
            TRY(read_pipeline(r, "normalizer", "normalizers", p, err));
        else if (json_is(&key, "pre_tokenizer"))
            TRY(read_pipeline(r, "pre_tokenizer", "pretokenizers", p, err));
        else if (json_is(&key, "model"))
            TRY(read_model(r, p, pieces, count, err));
        else
            TRY(json_skip(r, err));
    }
    TRY(json_finish(r, err));
    if (!p->unigram || !p->metaspace || p->unk < 0 || (uint64_t)p->unk >= *count)
        return err_set(err, SPT_E_FORMAT, "tokenizer.json without %s",
                       !p->unigram     ? "a Unigram model"
                       : !p->metaspace ? "the Metaspace pre-tokenizer of T5"
                                       : "a valid unk_id");
    return SPT_OK;
}

spt_status hf_tokenizer_json_parse(const char *json, size_t len, struct hf_tokenizer *out,
                                   buf *model, spt_err *err)
{
    json_reader r;
    struct tokenizer_parts p = {.unk = -1};
    buf pieces;
    size_t count = 0;
    buf_init(&p.map, len);
    buf_init(&pieces, 4 * len + 64);
    json_open(&r, json, len, JSON_PYTHON_NAN);
    spt_status st = read_tokenizer(&r, out, &p, &pieces, &count, err);
    json_close(&r);
    if (!st)
        st = base64_decode(&p.map, err);
    if (!st)
        st = write_model(out, &p, &pieces, count, model, err);
    if (!st) {
        out->keep_spaces = !p.squeeze;
        out->has_legacy = true;
        out->legacy = !p.metaspace_first;
        out->extra_ids = 0;
    }
    buf_release(&p.map);
    buf_release(&pieces);
    return st;
}
