/* store/tfrecord: the file reader and the reader in memory see the same records and refuse the same
 * inputs; accepted records are framed again to the same bytes. Checksums are repaired first when the
 * first byte is odd, since no mutation would find them. Files cost more than the parser: only every
 * eighth uncompressed input goes through the file reader, too. */
#include "fuzz/fuzz.h"

#include "codec/crc.h"
#include "store/tfrecord.h"
#include "support/memfs.h"

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void repair(uint8_t *p, size_t n)
{
    while (n >= 16) {
        uint64_t len = 0;
        for (int i = 0; i < 8; i++)
            len |= (uint64_t)p[i] << (8 * i);
        put32(p + 8, crc32c_mask(crc32c(p, 8)));
        if (len > n - 16)
            return;
        put32(p + 12 + len, crc32c_mask(crc32c(p + 12, (size_t)len)));
        p += 16 + len;
        n -= 16 + (size_t)len;
    }
}

/* What was accepted, framed again, is the same bytes. */
static void parse_memory(const uint8_t *in, size_t n, spt_status *st)
{
    const void *p;
    size_t len, offset = 0;
    buf again;
    buf_init(&again, n + 16);
    while (!(*st = tfrecord_parse(in, n, &offset, &p, &len, "mem", NULL)) && p)
        tfrecord_frame(&again, p, len);
    FUZZ_CHECK(again.st == SPT_OK && again.len == offset && !memcmp(buf_str(&again), in, offset));
    buf_release(&again);
}

static void read_file(const uint8_t *in, size_t n, bool plain, spt_status want)
{
    tfrecord_reader *r = NULL;
    FUZZ_CHECK(tfrecord_open("/r", &r, NULL) == SPT_OK || n >= 2);
    size_t offset = 0;
    for (size_t i = 0; r && i < 10000; i++) {
        const void *a, *b;
        size_t an, bn;
        const uint64_t at = tfrecord_offset(r);
        const spt_status st = tfrecord_next(r, &a, &an, NULL);
        if (plain) {
            FUZZ_CHECK(at == offset);
            FUZZ_CHECK(tfrecord_parse(in, n, &offset, &b, &bn, "mem", NULL) == st);
            FUZZ_CHECK(st || (!a == !b && an == bn && (!a || !memcmp(a, b, an))));
        }
        if (st || !a) {
            FUZZ_CHECK(!plain || st == want);
            break;
        }
    }
    tfrecord_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned turn;
    if (size < 1)
        return 0;
    const size_t n = size - 1;
    const bool plain = !(n >= 2 && data[1] == 0x1f && data[2] == 0x8b);
    uint8_t *in = malloc(n ? n : 1);
    memcpy(in, data + 1, n);
    if (data[0] & 1)
        repair(in, n);
    spt_status st = SPT_OK;
    if (plain) {
        fuzz_begin();
        parse_memory(in, n, &st);
        fuzz_end(size, 0);
    }
    if (!plain || turn++ % 8 == 0) {
        memfs *m = memfs_new();
        memfs_use(m);
        const int fd = os_open("/r", OS_WRITE | OS_CREATE);
        FUZZ_CHECK(os_write(fd, in, n) == (int64_t)n);
        os_close(fd);
        fuzz_begin();
        read_file(in, n, plain, st);
        fuzz_end(size, plain ? 0 : 1032 * n);
        memfs_use(NULL);
        memfs_free(m);
    }
    free(in);
    return 0;
}
