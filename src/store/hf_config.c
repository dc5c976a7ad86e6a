#include "store/hf_config.h"

#include <string.h>

#include "base/limits.h"
#include "fs/fs.h"
#include "text/json.h"


enum field_kind { FIELD_INT, FIELD_NUMBER, FIELD_BOOL, FIELD_STRING };

static const struct field {
    const char *name;
    enum field_kind kind;
    size_t value, has; /* offsets in struct hf_config */
} fields[] = {
#define FIELD(name, kind) \
    {#name, kind, offsetof(struct hf_config, name), offsetof(struct hf_config, has_##name)},
#define FIELD_I(name, def) FIELD(name, FIELD_INT)
#define FIELD_N(name, def) FIELD(name, FIELD_NUMBER)
#define FIELD_B(name, def) FIELD(name, FIELD_BOOL)
#define FIELD_S(name, def) FIELD(name, FIELD_STRING)
    HF_CONFIG_INTS(FIELD_I) HF_CONFIG_NUMBERS(FIELD_N) HF_CONFIG_BOOLS(FIELD_B)
        HF_CONFIG_STRINGS(FIELD_S)
#undef FIELD_I
#undef FIELD_N
#undef FIELD_B
#undef FIELD_S
#undef FIELD
};

static const struct hf_config defaults = {
#define DEFAULT(name, def) .name = def,
    HF_CONFIG_INTS(DEFAULT) HF_CONFIG_NUMBERS(DEFAULT) HF_CONFIG_BOOLS(DEFAULT)
        HF_CONFIG_STRINGS(DEFAULT)
#undef DEFAULT
};

static spt_status set_int(json_reader *r, const struct json_event *ev, const struct field *f,
                          int64_t *out, spt_err *err)
{
    int64_t v;
    if (ev->kind != JSON_NUMBER || json_to_i64(ev, &v, NULL) || v < 0 || v > INT32_MAX)
        return json_error(r, ev->offset, err, "%s is %.*s, not an integer in 0..2147483647",
                          f->name, ev->len > 40 ? 40 : (int)ev->len, ev->text);
    *out = v;
    return SPT_OK;
}

static spt_status set_string(json_reader *r, const struct json_event *ev, const struct field *f,
                             char *out, spt_err *err)
{
    if (ev->kind != JSON_STRING || ev->escaped || ev->len >= HF_CONFIG_TEXT)
        return json_error(r, ev->offset, err, "%s is %s, not a plain string of at most %d bytes",
                          f->name, json_kind_name(ev->kind), HF_CONFIG_TEXT - 1);
    memcpy(out, ev->text, ev->len);
    out[ev->len] = '\0';
    return SPT_OK;
}

static spt_status set_field(json_reader *r, const struct field *f, struct hf_config *c,
                            spt_err *err)
{
    struct json_event ev;
    char *base = (char *)c;
    void *value = base + f->value;
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_NULL)
        return SPT_OK;
    /* never: every kind has its case */
    switch (f->kind) {
    case FIELD_INT:
        TRY(set_int(r, &ev, f, value, err));
        break;
    case FIELD_NUMBER:
        if (ev.kind != JSON_NUMBER || json_to_f64(&ev, value, NULL) || !(*(double *)value >= 0) ||
            *(double *)value > 1e6)
            return json_error(r, ev.offset, err, "%s is not a number that makes sense", f->name);
        break;
    case FIELD_BOOL:
        if (ev.kind != JSON_TRUE && ev.kind != JSON_FALSE)
            return json_error(r, ev.offset, err, "%s is %s, not true or false", f->name,
                              json_kind_name(ev.kind));
        *(bool *)value = ev.kind == JSON_TRUE;
        break;
    case FIELD_STRING:
        TRY(set_string(r, &ev, f, value, err));
        break;
    }
    *(bool *)(base + f->has) = true;
    return SPT_OK;
}

static spt_status read_members(json_reader *r, struct hf_config *c, spt_err *err)
{
    struct json_event key;
    bool more;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return json_finish(r, err);
        size_t i = 0;
        const size_t n = sizeof fields / sizeof fields[0];
        while (i < n && !json_is(&key, fields[i].name))
            i++;
        TRY(i < n ? set_field(r, &fields[i], c, err) : json_skip(r, err));
    }
}

spt_status hf_config_parse(const char *text, size_t len, struct hf_config *out, spt_err *err)
{
    struct hf_config c = defaults;
    json_reader r;
    json_open(&r, text, len, JSON_PYTHON_NAN);
    const spt_status st = read_members(&r, &c, err);
    json_close(&r);
    if (st)
        return st;
    if (!c.has_num_decoder_layers)
        c.num_decoder_layers = c.num_layers;
    if (!c.has_decoder_start_token_id)
        c.decoder_start_token_id = c.pad_token_id;
    *out = c;
    return SPT_OK;
}

spt_status hf_config_read(const char *path, struct hf_config *out, spt_err *err)
{
    char *text = NULL;
    size_t len;
    TRY(fs_read_all(path, HF_MAX_CONFIG, &text, &len, err));
    const spt_status st = hf_config_parse(text, len, out, err);
    mem_free(text);
    return st ? err_wrap(err, st, "%s", path) : SPT_OK;
}
