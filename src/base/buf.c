#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(buf *b, size_t max)
{
    *b = (buf){.max = max};
}

void buf_release(buf *b)
{
    mem_free(b->data);
    *b = (buf){.max = b->max};
}

void buf_clear(buf *b)
{
    b->len = 0;
    b->st = SPT_OK;
    if (b->data)
        b->data[0] = '\0';
}

static bool reserve(buf *b, size_t extra)
{
    if (b->st)
        return false;
    if (extra > b->max - b->len) {
        b->st = SPT_E_FORMAT;
        return false;
    }
    const size_t need = b->len + extra + 1;
    if (need <= b->cap)
        return true;
    size_t want = b->cap ? b->cap : 64;
    while (want < need)
        want = want > SIZE_MAX / 2 ? need : want * 2;
    char *p = mem_realloc(b->data, want, 1);
    if (!p) {
        b->st = SPT_E_NOMEM;
        return false;
    }
    b->data = p;
    b->cap = want;
    return true;
}

void buf_add(buf *b, const void *bytes, size_t len)
{
    if (!reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_adds(buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_addc(buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addf(buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_add_name(buf *b, const char *name, size_t most)
{
    const size_t n = strlen(name), shown = n < most ? n : most;
    if (n && !strpbrk(name, ",;\"\t") && name[0] != ' ' && name[n - 1] != ' ') {
        buf_add(b, name, shown);
        return;
    }
    buf_addc(b, '"');
    for (size_t i = 0; i < shown; i++) {
        if (name[i] == '"')
            buf_addc(b, '\\');
        buf_addc(b, name[i]);
    }
    buf_addc(b, '"');
}

const char *buf_str(const buf *b)
{
    return b->data ? b->data : "";
}

spt_status buf_status(const buf *b, const char *what, spt_err *err)
{
    if (b->st == SPT_E_FORMAT)
        return err_set(err, SPT_E_FORMAT, "%s: longer than %zu bytes", what, b->max);
    if (b->st)
        return err_set(err, b->st, "%s: out of memory", what);
    return SPT_OK;
}

char *buf_detach(buf *b)
{
    char *p = b->data;
    if (b->st) { /* a part of a text is no text */
        mem_free(p);
        p = NULL;
    }
    *b = (buf){.max = b->max};
    return p;
}
