/* What every reader of ZIP files needs to know of their records (PKWARE APPNOTE 6.3): sizes,
 * signatures, and the two searches that must not differ between readers. */
#ifndef SPT_STORE_ZIP_FORMAT_H
#define SPT_STORE_ZIP_FORMAT_H

#include "base/cursor.h"

enum {
    END_SIZE = 22,
    END64_LOCATOR_SIZE = 20,
    END64_SIZE = 56,
    CENTRAL_SIZE = 46,
    LOCAL_SIZE = 30,
    MAX_COMMENT = 65535,
    FLAG_ENCRYPTED = 1 | 1 << 5 | 1 << 6 | 1 << 13, /* also a patch, strong, masked headers */
    FLAG_DESCRIPTOR = 8
};
#define END_SIGNATURE 0x06054b50u
#define END64_SIGNATURE 0x06064b50u
#define END64_LOCATOR_SIGNATURE 0x07064b50u
#define CENTRAL_SIGNATURE 0x02014b50u
#define LOCAL_SIGNATURE 0x04034b50u

static inline uint32_t peek32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* How many bytes of a member's name a message shows. */
int zip_shown(size_t name_len);

/* Where the end record starts in the last n bytes of a file: the one whose comment ends the file.
 */
bool zip_find_end(const unsigned char *tail, size_t n, size_t *at);

struct zip_sizes {
    uint64_t packed, plain, local;
};
/* Values that stand as 2^32 - 1 are taken from the ZIP64 extra field, in this order; false when it
 * lacks one that is needed. */
bool zip_read_zip64(cursor extra, struct zip_sizes *s, bool with_local);

#endif
