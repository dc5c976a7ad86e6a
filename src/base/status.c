#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8_char.h"

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

/* Does the text end inside the character that begins at p? */
static bool is_cut(const char *p, const char *end)
{
    const unsigned char lead = (unsigned char)*p;
    const int wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 1;
    for (const char *q = p + 1; q < end; q++)
        if (((unsigned char)*q & 0xc0) != 0x80)
            return false;
    return end - p < wanted;
}

void text_tame(char *text)
{
    const char *p = text, *const end = text + strlen(text);
    char *to = text;
    while (p < end) {
        uint32_t c = 0;
        const size_t n = utf8_decode(p, end, &c);
        if (!n && is_cut(p, end))
            break;
        if (!n || c < 0x20 || (c >= 0x7f && c < 0xa0))
            *to++ = '?';
        else
            to = (char *)memmove(to, p, n) + n;
        p += n ? n : 1;
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
    const int left = (int)(sizeof err->msg - used) - 3; /* what is too long is cut */
    snprintf(err->msg + used, sizeof err->msg - used, ": %.*s", left > 0 ? left : 0, inner);
    text_tame(err->msg);
    err->code = st;
    return st;
}

spt_status err_nomem(spt_err *err, size_t size)
{
    return err_set(err, SPT_E_NOMEM, "out of memory (%zu bytes wanted)", size);
}
