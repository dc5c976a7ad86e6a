/* Can the vocabulary write this text? (field cases 17 and 18) */
#include <string.h>

#include "base/mem.h"
#include "text/utf8.h"
#include "vocab/vocab_internal.h"

static bool holds(const struct vocab_ids *ids, int32_t id)
{
    for (size_t i = 0; i < ids->count; i++)
        if (ids->id[i] == id)
            return true;
    return false;
}

static void note_character(const char *p, size_t n, buf *list)
{
    const char *s = buf_str(list);
    /* a character counts once: look for it between spaces */
    for (size_t i = 0; i + n <= list->len; i++)
        if (!memcmp(s + i, p, n) && (i == 0 || s[i - 1] == ' ') &&
            (i + n == list->len || s[i + n] == ' '))
            return;
    if (list->len)
        buf_addc(list, ' ');
    buf_add(list, p, n);
}

/* Character by character, for the list; only texts that hold unknowns get here. */
static spt_status list_unknown(const vocab *v, const char *text, size_t len, size_t *count,
                               buf *list, spt_err *err)
{
    struct vocab_ids ids = {0};
    spt_status st = SPT_OK;
    *count = 0;
    for (size_t i = 0; i < len && !st;) {
        uint32_t cp;
        size_t n = utf8_decode(text + i, text + len, &cp);
        const bool valid = n > 0;
        n = valid ? n : 1;
        ids.count = 0;
        st = vocab_encode(v, text + i, n, &ids, err);
        if (!st && (!valid || holds(&ids, v->unk))) {
            ++*count;
            if (list)
                note_character(valid ? text + i : "\xef\xbf\xbd", valid ? n : 3, list);
        }
        i += n;
    }
    vocab_ids_release(&ids);
    return st;
}

spt_status vocab_check_writable(const vocab *v, const char *text, size_t len,
                                struct vocab_writable *out, buf *unwritable, spt_err *err)
{
    struct vocab_writable w = {0};
    struct vocab_ids ids = {0};
    buf back;
    buf_init(&back, 4 * len + 1024);
    spt_status st = vocab_encode(v, text, len, &ids, err);
    if (!st) {
        w.has_special = holds(&ids, v->pad) || holds(&ids, v->eos);
        if (holds(&ids, v->unk)) {
            st = list_unknown(v, text, len, &w.unknown, unwritable, err);
            if (!st && !w.unknown)
                w.unknown = 1; /* unknown only in its context */
        }
    }
    if (!st && vocab_decode(v, ids.id, ids.count, &back, NULL) == SPT_OK)
        w.round_trip = back.len == len && (!len || !memcmp(back.data, text, len));
    if (!st && unwritable)
        st = buf_status(unwritable, "list of characters", err);
    if (!st)
        *out = w;
    vocab_ids_release(&ids);
    buf_release(&back);
    return st;
}
