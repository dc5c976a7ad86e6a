#include "base/utf8_char.h"

/* Unicode 15, table 3-7: what the second byte may be narrows the forms that are overlong,
 * surrogates, or too large. */
size_t utf8_decode(const char *p, const char *end, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)p;
    const size_t n = (size_t)(end - p);
    const unsigned lead = s[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    if (lead < 0xc2 || n < 2)
        return 0;
    if (lead < 0xe0) {
        if ((s[1] & 0xc0) != 0x80)
            return 0;
        *cp = (lead & 0x1f) << 6 | (s[1] & 0x3fu);
        return 2;
    }
    unsigned low = 0x80, high = 0xbf;
    if (lead < 0xf0) {
        low = lead == 0xe0 ? 0xa0 : low;
        high = lead == 0xed ? 0x9f : high;
        if (n < 3 || s[1] < low || s[1] > high || (s[2] & 0xc0) != 0x80)
            return 0;
        *cp = (lead & 0xf) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
        return 3;
    }
    low = lead == 0xf0 ? 0x90 : low;
    high = lead == 0xf4 ? 0x8f : high;
    if (lead > 0xf4 || n < 4 || s[1] < low || s[1] > high || (s[2] & 0xc0) != 0x80 ||
        (s[3] & 0xc0) != 0x80)
        return 0;
    *cp = (lead & 7) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
    return 4;
}
