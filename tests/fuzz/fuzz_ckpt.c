/* ckpt/: the first byte chooses. 0: the input is a manifest as it is; 1: a manifest whose checksum is
 * made right; otherwise: a state file, described by a right manifest, that is loaded from a run
 * directory in memory. Accepted manifests are written again to the same bytes; accepted states have
 * tensors of the size that their shapes say. */
#include "fuzz/fuzz.h"

#include "ckpt/ckpt.h"
#include "ckpt/ckpt_internal.h"
#include "support/memfs.h"

static void put_file(const char *path, const void *p, size_t n)
{
    const int fd = os_open(path, OS_WRITE | OS_CREATE | OS_TRUNC);
    FUZZ_CHECK(fd >= 0 && os_write(fd, p, n) == (int64_t)n);
    os_close(fd);
}

static void try_manifest(const void *p, size_t n)
{
    struct manifest m;
    buf again;
    if (manifest_parse(p, n, "input", &m, NULL))
        return;
    buf_init(&again, n + 1000);
    manifest_write(&m, &again);
    FUZZ_CHECK(again.st == SPT_OK && again.len == n && !memcmp(again.data, p, n));
    buf_release(&again);
    manifest_release(&m);
}

static void try_signed(const void *p, size_t n)
{
    char text[HASH_TEXT];
    buf b;
    buf_init(&b, n + 100);
    buf_add(&b, p, n);
    buf_addf(&b, "end %s\n", hash_text(hash_bytes(p, n), text));
    try_manifest(b.data, b.len);
    buf_release(&b);
}

static void try_state(const void *p, size_t n)
{
    struct manifest d = {.step = 3};
    ckpt_loaded *l;
    buf text;
    memfs *m = memfs_new();
    memfs_use(m);
    os_mkdir("/r");
    os_mkdir("/r/state-3");
    buf_init(&text, CKPT_MAX_MANIFEST);
    FUZZ_CHECK(manifest_describe_state(&d, p, n, NULL) == SPT_OK);
    manifest_write(&d, &text);
    manifest_release(&d);
    put_file("/r/state-3/MANIFEST", text.data, text.len);
    put_file("/r/state-3/state.safetensors", p, n);
    buf_release(&text);
    const spt_status st = ckpt_load_latest("/r", &l, NULL);
    FUZZ_CHECK(st == SPT_OK || st == SPT_E_FORMAT);
    size_t total = 0;
    for (size_t i = 0; !st && i < ckpt_loaded_count(l); i++) {
        const struct tensor_view *v = ckpt_loaded_tensor(l, ckpt_loaded_name(l, i));
        size_t e, bytes;
        FUZZ_CHECK(v && tensor_size(v->dtype, &v->shape, &e, &bytes, NULL) == SPT_OK);
        volatile unsigned char sum = 0;
        for (size_t k = 0; k < bytes; k++)
            sum = (unsigned char)(sum + ((const unsigned char *)v->data)[k]);
        total += bytes;
        FUZZ_CHECK(total <= n);
    }
    if (!st)
        ckpt_loaded_free(l);
    memfs_use(NULL);
    memfs_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    fuzz_begin();
    if (data[0] == 0)
        try_manifest(data + 1, size - 1);
    else if (data[0] == 1)
        try_signed(data + 1, size - 1);
    else
        try_state(data + 1, size - 1);
    fuzz_end(size, 0);
    return 0;
}
