/* store/zarr: metadata up to the first NUL, the rest is the content of the first chunk file. Accepted
 * metadata says the same when written again; a decoded array, written and read, is the same. */
#include "fuzz/fuzz.h"

#include "store/zarr.h"
#include "support/memfs.h"

enum { MAX_ARRAY = 1 << 16 };

static void put_file(const char *path, const void *p, size_t n)
{
    const int fd = os_open(path, OS_WRITE | OS_CREATE | OS_TRUNC);
    FUZZ_CHECK(fd >= 0 && os_write(fd, p, n) == (int64_t)n);
    os_close(fd);
}

static void check_metadata(const zarr_array *a)
{
    const struct tensor_view v = {a->dtype, a->shape, NULL};
    zarr_array again;
    buf b;
    buf_init(&b, 4096);
    FUZZ_CHECK(zarr_metadata(&v, &a->chunk, &b, NULL) == SPT_OK);
    FUZZ_CHECK(zarr_parse(b.data, b.len, "again", &again, NULL) == SPT_OK);
    FUZZ_CHECK(again.dtype == a->dtype && shape_equal(&again.shape, &a->shape) &&
               shape_equal(&again.chunk, &a->chunk) && again.bytes == a->bytes &&
               again.chunk_count == a->chunk_count);
    buf_release(&b);
}

static void check_round_trip(const zarr_array *a, const void *values)
{
    const struct tensor_view v = {a->dtype, a->shape, values};
    zarr_array b;
    savedir *d = NULL;
    FUZZ_CHECK(savedir_begin("/out.tmp", "/out", NULL, &d, NULL) == SPT_OK);
    FUZZ_CHECK(zarr_write(d, "x", &v, NULL) == SPT_OK);
    FUZZ_CHECK(savedir_publish(d, NULL) == SPT_OK);
    FUZZ_CHECK(zarr_open("/out/x", &b, NULL) == SPT_OK && b.bytes == a->bytes);
    char *back = malloc(b.bytes + 1);
    FUZZ_CHECK(zarr_read("/out/x", &b, ZARR_MISSING_WEIGHTS, back, NULL) == SPT_OK);
    FUZZ_CHECK(!memcmp(back, values, b.bytes));
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    const size_t n = nul ? (size_t)(nul - data) : size;
    zarr_array a;
    fuzz_begin();
    const spt_status st = zarr_parse((const char *)data, n, "input", &a, NULL);
    fuzz_end(n, 0);
    if (st) {
        FUZZ_CHECK(st == SPT_E_FORMAT);
        return 0;
    }
    check_metadata(&a);
    FUZZ_CHECK(fuzz_blocks == 0);
    if (a.bytes > MAX_ARRAY || a.chunk_bytes > MAX_ARRAY || a.chunk_count > 64)
        return 0;
    memfs *m = memfs_new();
    memfs_use(m);
    os_mkdir("/a");
    os_mkdir("/a/0");
    if (nul) {
        char name[64] = "/a/0";
        for (int i = 1; i < a.shape.rank; i++)
            strcat(name, a.slash ? "/0" : ".0");
        if (a.slash) /* only one level of directories is made here */
            snprintf(name, sizeof name, "/a/0/0");
        else if (a.shape.rank < 2)
            os_rmdir("/a/0");
        put_file(name, nul + 1, size - n - 1);
    }
    char *out = malloc(a.bytes + 1);
    fuzz_begin();
    const spt_status got = zarr_read("/a", &a, data[0] & 1 ? ZARR_MISSING_FILL : ZARR_MISSING_WEIGHTS,
                                     out, NULL);
    fuzz_end(size, MAX_ARRAY);
    if (!got)
        check_round_trip(&a, out);
    FUZZ_CHECK(fuzz_blocks == 0);
    free(out);
    memfs_use(NULL);
    memfs_free(m);
    return 0;
}
