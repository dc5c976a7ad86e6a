#include "store/zip_format.h"

int zip_shown(size_t name_len)
{
    return name_len > 80 ? 80 : (int)name_len;
}

bool zip_find_end(const unsigned char *tail, size_t n, size_t *at)
{
    for (size_t comment = 0; comment + END_SIZE <= n && comment <= MAX_COMMENT; comment++) {
        const size_t o = n - END_SIZE - comment;
        if (peek32(tail + o) == END_SIGNATURE &&
            ((size_t)tail[o + 20] | (size_t)tail[o + 21] << 8) == comment) {
            *at = o;
            return true;
        }
    }
    return false;
}

bool zip_read_zip64(cursor extra, struct zip_sizes *s, bool with_local)
{
    uint64_t *const want[] = {&s->plain, &s->packed, with_local ? &s->local : NULL};
    bool needed = false;
    for (size_t i = 0; i < 3; i++)
        needed = needed || (want[i] && *want[i] == UINT32_MAX);
    if (!needed)
        return true;
    while (cursor_left(&extra) >= 4) {
        const uint16_t id = cursor_u16le(&extra);
        const uint16_t len = cursor_u16le(&extra);
        const unsigned char *p = cursor_take(&extra, len);
        if (!p)
            return false;
        if (id != 1)
            continue;
        cursor c = cursor_make(p, len);
        for (size_t i = 0; i < 3; i++)
            if (want[i] && *want[i] == UINT32_MAX)
                *want[i] = cursor_u64le(&c);
        return cursor_ok(&c);
    }
    return false;
}
