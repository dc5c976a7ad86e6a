/* store/archive: ZIP and tar. No member is read beyond its declared size, a name that would leave its
 * directory is never handed out, what was read once reads the same again, and memory does not follow
 * what the archive claims. Checksums of ZIP members are repaired when the first byte is odd. */
#include "fuzz/fuzz.h"

#include <zlib.h>

#include "store/archive.h"
#include "support/memfs.h"

/* The CRC of the first member whose data is stored, into its headers. */
static void repair(uint8_t *p, size_t n)
{
    for (size_t at = 0; at + 46 < n; at++) {
        if (memcmp(p + at, "PK\1\2", 4))
            continue;
        const size_t packed = p[at + 20] | (size_t)p[at + 21] << 8;
        const size_t local = p[at + 42] | (size_t)p[at + 43] << 8;
        if (local + 30 > n)
            continue;
        const size_t data =
            local + 30 + (p[local + 26] | (size_t)p[local + 27] << 8) + (p[local + 28] | (size_t)p[local + 29] << 8);
        if (data > n || packed > n - data)
            continue;
        const uint32_t crc = (uint32_t)crc32(0, p + data, (uInt)packed);
        for (size_t i = 0; i < 4; i++)
            p[at + 16 + i] = p[local + 14 + i] = (uint8_t)(crc >> (8 * i));
    }
}

static bool leaves(const char *name)
{
    for (const char *p = name; *p; p += *p == '/') {
        const size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += len;
    }
    return *name == '/' || strchr(name, '\\');
}

/* Bytes and a checksum of a member; false when it is refused. */
static bool read_member(archive *a, size_t i, size_t piece, uint64_t *size, uint32_t *sum)
{
    archive_stream *s = NULL;
    static uint8_t block[5000];
    size_t got = 1;
    *size = 0;
    *sum = 0;
    spt_status st = archive_read(a, i, &s, NULL);
    while (!st && got) {
        st = archive_stream_read(s, block, piece, &got, NULL);
        if (st)
            break;
        FUZZ_CHECK(got <= piece);
        *size += got;
        *sum = (uint32_t)crc32(*sum, block, (uInt)got);
    }
    archive_stream_close(s);
    return !st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 1 << 20)
        return 0;
    const size_t n = size - 1;
    uint8_t *in = malloc(n ? n : 1);
    memcpy(in, data + 1, n);
    if (data[0] & 1)
        repair(in, n);
    memfs *m = memfs_new();
    memfs_use(m);
    const int fd = os_open("/a", OS_WRITE | OS_CREATE);
    FUZZ_CHECK(os_write(fd, in, n) == (int64_t)n);
    os_close(fd);

    fuzz_begin();
    archive *a = NULL;
    const spt_status st = archive_open("/a", &a, NULL);
    FUZZ_CHECK(st == SPT_OK || st == SPT_E_FORMAT);
    uint64_t all = 0;
    for (size_t i = 0; a && i < archive_count(a) && i < 20; i++) {
        uint64_t one, two;
        uint32_t x, y;
        FUZZ_CHECK(!leaves(archive_name(a, i)));
        const bool ok = read_member(a, i, 5000, &one, &x);
        if (one < 1 << 16) { /* the same in small pieces */
            FUZZ_CHECK(read_member(a, i, 1 + data[0] % 97, &two, &y) == ok);
            FUZZ_CHECK(!ok || (one == two && x == y));
        }
        all += one;
        FUZZ_CHECK(one <= (uint64_t)ARCHIVE_MAX_RATIO * n + (2 << 20));
        if (all > 4 << 20)
            break;
    }
    archive_close(a);
    fuzz_end(size, 2 * 65536 + 65536); /* windows and buffers of two decoders */
    memfs_use(NULL);
    memfs_free(m);
    free(in);
    return 0;
}
