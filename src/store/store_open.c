/* Which format a path is, by its content. */
#include <stdio.h>
#include <string.h>

#include "store/hf_dir.h"
#include "store/npy.h"
#include "store/peft.h"
#include "store/safetensors.h"
#include "store/store_internal.h"
#include "store/t5x_checkpoint.h"
#include "store/torch_bin.h"

/* Directories first; the first probe that says yes decides. */
static const struct store_kind dir_kinds[] = {
    {peft_probe, peft_store_open},
    {hf_dir_probe, hf_dir_open},
    {t5x_probe, t5x_store_open},
};

static const struct store_kind file_kinds[] = {
    {npy_probe, npy_open},
    {torch_bin_probe, torch_bin_open},
    {safetensors_probe, safetensors_open},
    {t5x_probe, t5x_store_open},
};

/* Kinds that people do try. */
static const struct {
    size_t offset;
    const char *magic;
    size_t len;
    const char *what;
} refused[] = {
    {0, "GGUF", 4, "a GGUF file, which is not supported; use the safetensors or T5X weights"},
    {0, "\x89HDF\r\n\x1a\n", 8,
     "an HDF5 file (TensorFlow weights), which is not supported; use safetensors or .bin weights"},
    {0, "\x1f\x8b", 2, "compressed with gzip; decompress it first"},
    {257, "ustar", 5,
     "a tar archive (a .nemo file or a very old torch file), which is not supported"},
    {0, "SQLite format 3", 15, "an SQLite database"},
};

bool lfs_pointer_probe(const unsigned char *bytes, size_t n)
{
    static const char magic[] = "version https://git-lfs.github.com/spec/";
    return n >= sizeof magic - 1 && !memcmp(bytes, magic, sizeof magic - 1);
}

static spt_status refuse(const char *path, const unsigned char *p, size_t n, uint64_t size,
                         spt_err *err)
{
    if (size == 0)
        return err_set(err, SPT_E_FORMAT, "%s: the file is empty", path);
    if (lfs_pointer_probe(p, n))
        return err_set(err, SPT_E_FORMAT,
                       "%s: this is a Git LFS pointer, the weights were not downloaded "
                       "(run: git lfs pull)",
                       path);
    if (p[0] == '<' && (!strncmp(path, "https://", 8) || !strncmp(path, "http://", 7)))
        return err_set(err, SPT_E_FORMAT,
                       "%s: the server sent a web page: an https:// address is one file, never a "
                       "directory (a model's directory is local, gs://, or org/name of the hub)",
                       path);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (n >= refused[i].offset + refused[i].len &&
            !memcmp(p + refused[i].offset, refused[i].magic, refused[i].len))
            return err_set(err, SPT_E_FORMAT, "%s: this is %s", path, refused[i].what);
    return err_set(err, SPT_E_FORMAT,
                   "%s: not a tensor file: neither safetensors nor NumPy .npy nor torch .bin "
                   "(first bytes %02x %02x %02x %02x)",
                   path, p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0);
}

static spt_status open_named(const struct store_kind *kind, const char *path,
                             const struct store_opts *opts, store **out, spt_err *err)
{
    store *s = NULL;
    TRY(kind->open_store(path, opts, &s, err));
    const spt_status st = store_add_file(s, path, err);
    if (st) {
        store_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

spt_status store_open_file(const char *path, const struct store_opts *opts, store **out,
                           spt_err *err)
{
    unsigned char head[512];
    fs_file *f = NULL;
    TRY(fs_open(path, &f, err));
    const uint64_t size = fs_size(f);
    const size_t n = size < sizeof head ? (size_t)size : sizeof head;
    const spt_status st = n ? fs_read_at(f, 0, head, n, err) : SPT_OK;
    fs_close(f);
    TRY(st);
    for (size_t i = 0; n && i < sizeof file_kinds / sizeof file_kinds[0]; i++)
        if (file_kinds[i].probe(path, head, n, size))
            return open_named(&file_kinds[i], path, opts, out, err);
    return refuse(path, head, n, size, err);
}

static spt_status open_dir(const char *path, const struct store_opts *opts, store **out,
                           spt_err *err)
{
    for (size_t i = 0; i < sizeof dir_kinds / sizeof dir_kinds[0]; i++)
        if (dir_kinds[i].probe(path, NULL, 0, 0))
            return dir_kinds[i].open_store(path, opts, out, err);
    return err_set(err, SPT_E_FORMAT,
                   "%s: no weights in this directory: neither a Hugging Face model (config.json, "
                   "model.safetensors, pytorch_model.bin), nor a T5X checkpoint (a file named "
                   "checkpoint), nor a PEFT adapter (adapter_config.json)",
                   path);
}

spt_status store_exists_in(const char *dir, const char *name, bool *there, spt_err *err)
{
    char path[4096];
    struct fs_info info;
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(err, SPT_E_IO, "%s: the path is too long", dir);
    const spt_status st = fs_stat(path, &info, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    *there = !st;
    return SPT_OK;
}

spt_status store_open(const char *path, const struct store_opts *opts, store **out, spt_err *err)
{
    static const struct store_opts none;
    struct fs_info info;
    TRY(fs_stat(path, &info, err));
    if (info.is_dir)
        TRY(fs_expect_below(path, err));
    return (info.is_dir ? open_dir : store_open_file)(path, opts ? opts : &none, out, err);
}
