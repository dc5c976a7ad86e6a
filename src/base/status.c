#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *spt_status_text(spt_status st)
{
    switch (st) {
#define CASE(name, exit_code, text)                                                                \
    case SPT_##name:                                                                               \
        return text;
        SPT_STATUS_MAP(CASE)
#undef CASE
    }
    return "unknown status";
}

int spt_status_exit_code(spt_status st)
{
    switch (st) {
#define CASE(name, exit_code, text)                                                                \
    case SPT_##name:                                                                               \
        return exit_code;
        SPT_STATUS_MAP(CASE)
#undef CASE
    }
    return 70;
}

/* Bytes of the character at p: 0 when it is none, -1 when the text ends inside it. */
static int utf8_length(const unsigned char *p)
{
    const int n = p[0] < 0x80                   ? 1
                  : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                  : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                  : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                : 0;
    for (int i = 1; i < n; i++) {
        if (!p[i])
            return -1;
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    const bool odd = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
                     (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return odd ? 0 : n;
}

void text_tame(char *text)
{
    unsigned char *p = (unsigned char *)text, *to = p;
    while (*p) {
        const int n = utf8_length(p);
        if (n < 0)
            break;
        if (n == 0 || (n == 1 && (*p < 0x20 || *p == 0x7f)) || (*p == 0xc2 && p[1] < 0xa0)) {
            *to++ = '?';
            p += n ? n : 1;
            continue;
        }
        for (int i = 0; i < n; i++)
            *to++ = *p++;
    }
    *to = '\0';
}

static spt_status fill(spt_err *err, spt_status code, int sys_errno, uint64_t offset,
                       const char *fmt, va_list ap)
{
    if (!err)
        return code;
    err->code = code;
    err->sys_errno = sys_errno;
    err->offset = offset;
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    text_tame(err->msg);
    return code;
}

spt_status err_set(spt_err *err, spt_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, 0, 0, fmt, ap);
    va_end(ap);
    return code;
}

spt_status err_at(spt_err *err, spt_status code, uint64_t offset, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, 0, offset, fmt, ap);
    va_end(ap);
    return code;
}

spt_status err_sys(spt_err *err, spt_status code, int sys_errno, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, sys_errno, 0, fmt, ap);
    va_end(ap);
    if (err) {
        const size_t used = strlen(err->msg);
        snprintf(err->msg + used, sizeof err->msg - used, ": %s", strerror(sys_errno));
    }
    return code;
}

spt_status err_wrap(spt_err *err, spt_status st, const char *fmt, ...)
{
    if (!err)
        return st;
    char inner[sizeof err->msg];
    memcpy(inner, err->msg, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    const size_t used = n < 0 ? 0 : (size_t)n < sizeof err->msg ? (size_t)n : sizeof err->msg - 1;
    snprintf(err->msg + used, sizeof err->msg - used, ": %s", inner);
    text_tame(err->msg);
    err->code = st;
    return st;
}

spt_status err_nomem(spt_err *err, size_t size)
{
    return err_set(err, SPT_E_NOMEM, "out of memory (%zu bytes wanted)", size);
}
