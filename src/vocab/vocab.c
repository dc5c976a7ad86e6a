/* Opening a vocabulary under a rule, and everything that does not depend on the encoder. */
#include "vocab/vocab.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "fs/fs.h"
#include "text/utf8.h"
#include "vocab/vocab_internal.h"

static const char SPACE[] = "\xe2\x96\x81";
enum { SPACE_LEN = 3, MAX_EXTRA = 1000, SEQIO_EXTRA = 100, BYT5_EXTRA = 125 };
/* Room for "<0xE2><0x96><0x81>" style growth is not needed: decoded text is at most one piece, or
 * the unknown surface, per id. */

void vocab_opts_init(struct vocab_opts *o)
{
    *o = (struct vocab_opts){.rule = VOCAB_AUTO, .extra_ids = VOCAB_EXTRA_AUTO};
}

void vocab_close(vocab *v)
{
    if (!v)
        return;
    spm_close(v->library);
    unigram_release(&v->uni);
    spm_model_release(&v->model);
    buf_release(&v->file);
    hf_tokenizer_release(&v->hf);
    mem_free(v->extra);
    mem_free(v->path);
    mem_free(v);
}

/* --- sentinels ----------------------------------------------------------------------------- */

/* Which sentinel the k-th id behind the base is. */
static int sentinel_number(const vocab *v, int k)
{
    const bool ascending = v->extra_ascending || vocab_is_bytes(v);
    return ascending ? k : v->extra_ids - 1 - k;
}

static spt_status make_sentinels(vocab *v, spt_err *err)
{
    if (!v->extra_ids)
        return SPT_OK;
    v->extra = mem_alloc((size_t)v->extra_ids, sizeof *v->extra);
    if (!v->extra)
        return err_nomem(err, (size_t)v->extra_ids * sizeof *v->extra);
    for (int k = 0; k < v->extra_ids; k++)
        snprintf(v->extra[k], sizeof *v->extra, "%s<extra_id_%d>", vocab_is_hf(v) ? "" : SPACE,
                 sentinel_number(v, k));
    return SPT_OK;
}

/* --- opening: the pieces ------------------------------------------------------------------- */

static int32_t find_piece(const struct spm_model *m, const char *text, size_t len)
{
    uint32_t lo = 0, hi = m->count;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const struct spm_piece *p = &m->piece[m->sorted[mid]];
        const size_t n = p->len < len ? p->len : len;
        int d = memcmp(m->bytes + p->offset, text, n);
        if (!d)
            d = (p->len > len) - (p->len < len);
        if (!d)
            return (int32_t)m->sorted[mid];
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return -1;
}

static int32_t find_text(const struct spm_model *m, const char *text)
{
    return find_piece(m, text, strlen(text));
}

static bool has_own_sentinels(const struct spm_model *m)
{
    return find_text(m, "\xe2\x96\x81<extra_id_0>") >= 0 || find_text(m, "<extra_id_0>") >= 0;
}

/* Ids in front of the first sentinel that the file itself holds. */
static int32_t count_base(const struct spm_model *m)
{
    int32_t first = (int32_t)m->count;
    for (int i = 0; i < MAX_EXTRA; i++) {
        char text[40];
        snprintf(text, sizeof text, "%s<extra_id_%d>", SPACE, i);
        int32_t id = find_text(m, text);
        if (id < 0)
            id = find_text(m, text + SPACE_LEN);
        if (id < 0)
            break;
        first = id < first ? id : first;
    }
    return first;
}

static spt_status set_ids(vocab *v, spt_err *err)
{
    const struct spm_model *m = &v->model;
    v->unk = (int32_t)m->unk_id;
    v->pad = m->pad_id >= 0 && m->pad_id < (int64_t)m->count ? (int32_t)m->pad_id : 0;
    v->eos = find_text(m, "</s>");
    if (v->eos < 0 && m->eos_id >= 0 && m->eos_id < (int64_t)m->count)
        v->eos = (int32_t)m->eos_id;
    if (v->eos < 0 || v->eos == v->unk)
        return err_set(err, SPT_E_FORMAT, "no end-of-sequence piece (</s>) among %u pieces",
                       m->count);
    v->space_id = find_text(m, SPACE);
    return SPT_OK;
}

static spt_status open_library(vocab *v, spt_err *err)
{
    buf message;
    buf_init(&message, v->file.len + 65536);
    spt_status st = spm_model_for_library(&v->model, vocab_is_hf(v) ? 0 : v->extra_ids,
                                          v->extra_ascending, &message, err);
    if (!st)
        st = spm_open(message.data, message.len, &v->library, err);
    buf_release(&message);
    return st;
}

static spt_status add_defaults(vocab *v, spt_err *err)
{
    const bool slow = v->rule == VOCAB_HF_SLOW, byt5 = v->rule == VOCAB_BYTES_HF;
    const struct { const char *text; int32_t id; } basic[] = {
        {"<pad>", v->pad}, {"</s>", v->eos}, {"<unk>", v->unk}};
    for (size_t i = 0; i < 3; i++)
        TRY(hf_tokenizer_add(&v->hf, basic[i].text, strlen(basic[i].text), basic[i].id, byt5, byt5,
                             true, err));
    for (int k = 0; k < v->extra_ids; k++)
        TRY(hf_tokenizer_add(&v->hf, v->extra[k], strlen(v->extra[k]), v->base_size + k, slow, slow,
                             true, err));
    for (size_t i = 0; i < v->hf.added_count; i++) {
        const struct hf_added *a = &v->hf.added[i];
        v->added_first[(unsigned char)a->text[0]] = true;
        if (a->id >= v->size)
            v->size = a->id + 1;
    }
    return SPT_OK;
}

static spt_status count_unk_skip(vocab *v, spt_err *err)
{
    struct vocab_ids ids = {0};
    const spt_status st =
        unigram_encode(&v->uni, "<unk>", 5, (struct unigram_mode){.no_dummy_prefix = true}, &ids,
                       err);
    v->unk_skip = ids.count;
    vocab_ids_release(&ids);
    return st;
}

/* v->file holds a ModelProto; rule and hf are set. */
static spt_status open_pieces(vocab *v, const struct vocab_opts *o, spt_err *err)
{
    TRY(spm_model_parse(v->file.data, v->file.len, &v->model, err));
    TRY(set_ids(v, err));
    v->base_size = count_base(&v->model);
    v->extra_ids = o->extra_ids;
    if (v->extra_ids < 0 && v->rule == VOCAB_PLAIN)
        v->extra_ids = 0;
    if (v->extra_ids < 0)
        v->extra_ids = has_own_sentinels(&v->model) ? 0
                       : v->hf.extra_ids >= 0       ? v->hf.extra_ids
                                                    : SEQIO_EXTRA;
    if (v->extra_ids && has_own_sentinels(&v->model))
        return err_set(err, SPT_E_CONFIG,
                       "%d extra ids were asked for, but the vocabulary holds <extra_id_0> itself",
                       v->extra_ids);
    v->extra_ascending = o->extra_ids_ascending;
    v->sums = o->newer_ties ? UNIGRAM_SINGLE : UNIGRAM_REFERENCE;
    v->size = (int32_t)v->model.count + v->extra_ids;
    const int user_defined = vocab_is_hf(v) ? 0 : v->extra_ids;
    TRY(unigram_init(&v->uni, &v->model, user_defined, v->extra_ascending, err));
    TRY(make_sentinels(v, err));
    if (v->model.byte_fallback && vocab_is_hf(v))
        return err_set(err, SPT_E_FORMAT, "byte fallback under Hugging Face rules is not supported");
    if (o->use_library || v->model.byte_fallback)
        TRY(open_library(v, err));
    if (!vocab_is_hf(v))
        return SPT_OK;
    TRY(count_unk_skip(v, err));
    return add_defaults(v, err);
}

/* --- opening: the rule --------------------------------------------------------------------- */

static const char *const rule_names[] = {"auto",    "plain",   "seqio",   "hf-slow",
                                         "hf-fast", "bytes",   "bytes-hf"};

static void describe(vocab *v)
{
    static const char *const long_names[] = {
        "auto", "plain SentencePiece", "SeqIO", "Hugging Face T5Tokenizer",
        "Hugging Face T5TokenizerFast", "SeqIO bytes", "Hugging Face ByT5Tokenizer"};
    const bool flavour = v->rule == VOCAB_HF_SLOW || v->rule == VOCAB_HF_FAST;
    snprintf(v->rule_name, sizeof v->rule_name, "%s%s", rule_names[v->rule],
             flavour && v->legacy ? "-legacy" : "");
    char extra[96] = "no extra ids added";
    if (v->extra_ids)
        snprintf(extra, sizeof extra, "%d extra ids (%d .. %d)", v->extra_ids,
                 v->size - v->extra_ids, v->size - 1);
    snprintf(v->rule_text, sizeof v->rule_text, "%s rules%s, %s; specials in the text are %s",
             long_names[v->rule], flavour ? (v->legacy ? " (legacy)" : " (not legacy)") : "", extra,
             vocab_is_hf(v) ? "ids" : "text");
}

static enum vocab_rule choose_rule(const struct vocab_place *p, const struct vocab_opts *o,
                                   const struct hf_tokenizer *hf)
{
    if (o->rule != VOCAB_AUTO)
        return o->rule;
    if (p->kind == PLACE_BYTES)
        return p->byt5_config ? VOCAB_BYTES_HF : VOCAB_BYTES;
    if (p->kind == PLACE_TOKENIZER_JSON || p->has_tokenizer_json)
        return VOCAB_HF_FAST;
    if (!p->config)
        return VOCAB_SEQIO;
    const size_t n = strlen(hf->class_name);
    return n > 4 && !strcmp(hf->class_name + n - 4, "Fast") ? VOCAB_HF_FAST : VOCAB_HF_SLOW;
}

static spt_status check_rule(const vocab *v, const struct vocab_place *p, spt_err *err)
{
    const bool bytes = p->kind == PLACE_BYTES;
    if (bytes != vocab_is_bytes(v))
        return err_set(err, SPT_E_CONFIG, "%s is %s vocabulary; the rule %s does not fit", p->path,
                       bytes ? "a byte" : "a SentencePiece", rule_names[v->rule]);
    return SPT_OK;
}

static spt_status check_opts(const struct vocab_opts *o, spt_err *err)
{
    if (o->extra_ids > MAX_EXTRA || o->extra_ids < VOCAB_EXTRA_AUTO)
        return err_set(err, SPT_E_CONFIG, "%d extra ids: 0 to %d are possible", o->extra_ids,
                       MAX_EXTRA);
    return SPT_OK;
}

static spt_status open_bytes(vocab *v, const struct vocab_opts *o, spt_err *err)
{
    static const char identity[] = "spt byte vocabulary: id = byte + 3";
    hash_text(hash_bytes(identity, sizeof identity - 1), v->hash);
    v->pad = 0;
    v->eos = 1;
    v->unk = 2;
    v->base_size = BYTE_BASE;
    v->extra_ids = o->extra_ids >= 0            ? o->extra_ids
                   : v->hf.extra_ids >= 0       ? v->hf.extra_ids
                   : v->rule == VOCAB_BYTES_HF ? BYT5_EXTRA
                                                : 0;
    v->size = v->base_size + v->extra_ids;
    TRY(make_sentinels(v, err));
    return v->rule == VOCAB_BYTES_HF ? add_defaults(v, err) : SPT_OK;
}

static bool is_lfs_pointer(const char *bytes, size_t size)
{
    static const char head[] = "version https://git-lfs";
    return size >= sizeof head - 1 && !memcmp(bytes, head, sizeof head - 1);
}

static spt_status take_file(vocab *v, const struct vocab_place *p, char *bytes, size_t size,
                            spt_err *err)
{
    if (is_lfs_pointer(bytes, size))
        return err_set(err, SPT_E_FORMAT, "a Git LFS pointer: the vocabulary was not downloaded");
    hash_text(hash_bytes(bytes, size), v->hash);
    buf_init(&v->file, size + 65536);
    if (p->kind == PLACE_TOKENIZER_JSON)
        return hf_tokenizer_json_parse(bytes, size, &v->hf, &v->file, err);
    buf_add(&v->file, bytes, size);
    return buf_status(&v->file, "vocabulary", err);
}

static spt_status read_config(vocab *v, const char *path, spt_err *err)
{
    char *text = NULL;
    size_t size = 0;
    if (!path)
        return SPT_OK;
    spt_status st = fs_read_all(path, TOKENIZER_MAX_JSON, &text, &size, err);
    if (!st)
        st = hf_tokenizer_config_parse(text, size, &v->hf, err);
    mem_free(text);
    return st ? err_wrap(err, st, "%s", path) : SPT_OK;
}

static spt_status open_place(vocab *v, const struct vocab_place *p, const struct vocab_opts *o,
                             spt_err *err)
{
    v->path = mem_strdup(p->path);
    if (!v->path)
        return err_nomem(err, strlen(p->path) + 1);
    TRY(read_config(v, p->config, err));
    v->rule = choose_rule(p, o, &v->hf);
    TRY(check_rule(v, p, err));
    spt_status st;
    if (p->kind == PLACE_BYTES) {
        st = open_bytes(v, o, err);
    } else {
        char *bytes = NULL;
        size_t size = 0;
        st = fs_read_all(p->path, TOKENIZER_MAX_JSON, &bytes, &size, err);
        if (!st)
            st = take_file(v, p, bytes, size, err);
        mem_free(bytes);
        if (!st)
            st = open_pieces(v, o, err);
        if (st)
            return err_wrap(err, st, "%s", p->path);
    }
    v->legacy = v->hf.legacy;
    describe(v);
    return st;
}

static vocab *new_vocab(spt_err *err)
{
    vocab *v = mem_zalloc(1, sizeof *v);
    if (!v) {
        err_nomem(err, sizeof *v);
        return NULL;
    }
    hf_tokenizer_init(&v->hf);
    return v;
}

spt_status vocab_open(const char *path, const struct vocab_opts *opts, vocab **out, spt_err *err)
{
    struct vocab_opts o;
    struct vocab_place place = {0};
    vocab_opts_init(&o);
    if (opts)
        o = *opts;
    TRY(check_opts(&o, err));
    vocab *v = new_vocab(err);
    if (!v)
        return SPT_E_NOMEM;
    spt_status st = vocab_find(path, &place, err);
    if (!st)
        st = open_place(v, &place, &o, err);
    vocab_place_release(&place);
    if (st)
        vocab_close(v);
    else
        *out = v;
    return st;
}

spt_status vocab_open_memory(const void *bytes, size_t size, const char *name,
                             const struct vocab_opts *opts, vocab **out, spt_err *err)
{
    struct vocab_opts o;
    vocab_opts_init(&o);
    if (opts)
        o = *opts;
    TRY(check_opts(&o, err));
    vocab *v = new_vocab(err);
    if (!v)
        return SPT_E_NOMEM;
    const struct vocab_place place = {.kind = PLACE_SPM, .path = (char *)(uintptr_t)name};
    v->rule = choose_rule(&place, &o, &v->hf);
    spt_status st = check_rule(v, &place, err);
    v->path = mem_strdup(name);
    if (!v->path)
        st = err_nomem(err, strlen(name) + 1);
    hash_text(hash_bytes(bytes, size), v->hash);
    buf_init(&v->file, size + 1);
    buf_add(&v->file, bytes, size);
    if (!st)
        st = buf_status(&v->file, "vocabulary", err);
    if (!st)
        st = open_pieces(v, &o, err);
    if (st) {
        vocab_close(v);
        return err_wrap(err, st, "%s", name);
    }
    v->legacy = v->hf.legacy;
    describe(v);
    *out = v;
    return SPT_OK;
}

/* --- encoding ------------------------------------------------------------------------------ */

static spt_status take_ids(void *ctx, const int *ids, size_t n, spt_err *err)
{
    struct vocab_ids *out = ctx;
    TRY(vocab_ids_reserve(out, n, err));
    for (size_t i = 0; i < n; i++)
        out->id[out->count++] = ids[i];
    return SPT_OK;
}

spt_status vocab_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                        spt_err *err)
{
    const size_t before = out->count;
    spt_status st;
    if (vocab_is_hf(v))
        st = vocab_hf_encode(v, text, len, out, err);
    else if (vocab_is_bytes(v))
        st = vocab_bytes_encode(v, text, len, out, err);
    else if (v->library)
        st = spm_encode(v->library, text, len, take_ids, out, err);
    else
        st = unigram_encode(&v->uni, text, len, (struct unigram_mode){.sums = v->sums}, out, err);
    if (st)
        out->count = before;
    return st;
}

spt_status vocab_append_eos(const vocab *v, struct vocab_ids *ids, spt_err *err)
{
    const bool once = v->rule == VOCAB_HF_SLOW || v->rule == VOCAB_BYTES_HF;
    if (once && ids->count && ids->id[ids->count - 1] == v->eos)
        return SPT_OK;
    TRY(vocab_ids_reserve(ids, 1, err));
    ids->id[ids->count++] = v->eos;
    return SPT_OK;
}

/* --- decoding ------------------------------------------------------------------------------ */

/* spec/data.md section 3.3, step 3. *begins: a space here would be the one that encoding puts in front;
 * only the first is, unless the model removes extra spaces. */
static void add_piece_text(const vocab *v, int32_t id, bool *begins, buf *out)
{
    const enum vocab_piece_type type = vocab_piece_type(v, id);
    if (type == VOCAB_CONTROL)
        return;
    if (type == VOCAB_UNKNOWN) {
        buf_adds(out, v->model.unk_surface);
        *begins = *begins && !*v->model.unk_surface;
        return;
    }
    size_t len;
    const char *p = vocab_piece(v, id, &len);
    const bool strip = v->model.add_dummy_prefix || v->model.remove_extra_whitespaces;
    if (strip && *begins && len >= SPACE_LEN && !memcmp(p, SPACE, SPACE_LEN)) {
        p += SPACE_LEN;
        len -= SPACE_LEN;
        *begins = v->model.remove_extra_whitespaces;
    }
    *begins = *begins && !len;
    while (len) {
        const char *mark = memchr(p, SPACE[0], len);
        const size_t n = mark ? (size_t)(mark - p) : len;
        buf_add(out, p, n);
        p += n;
        len -= n;
        if (len >= SPACE_LEN && !memcmp(p, SPACE, SPACE_LEN)) {
            buf_addc(out, ' ');
            p += SPACE_LEN;
            len -= SPACE_LEN;
        } else if (len) {
            buf_addc(out, *p++);
            len--;
        }
    }
}

static spt_status take_text(void *ctx, const char *text, size_t len, spt_err *err)
{
    buf_add(ctx, text, len);
    return buf_status(ctx, "decoded text", err);
}

/* The library wants int ids in range, cut and replaced as below. */
static spt_status decode_with_library(const vocab *v, const int32_t *ids, size_t n, buf *out,
                                      spt_err *err)
{
    int *copy = mem_alloc(n, sizeof *copy);
    size_t kept = 0;
    if (!copy)
        return err_nomem(err, n * sizeof *copy);
    for (size_t i = 0; i < n && ids[i] != v->eos; i++)
        copy[kept++] = ids[i] >= v->size ? v->unk : ids[i];
    const spt_status st = spm_decode(v->library, copy, kept, take_text, out, err);
    mem_free(copy);
    return st;
}

static void trim(buf *out, size_t start)
{
    size_t a = start, b = out->len;
    while (b > a && out->data[b - 1] == ' ')
        b--;
    while (a < b && out->data[a] == ' ')
        a++;
    if (!out->data)
        return;
    memmove(out->data + start, out->data + a, b - a);
    out->len = start + b - a;
    out->data[out->len] = 0;
}

/* skip_special_tokens=True: the rest is decoded as one sequence, ends trimmed. */
static void decode_hf(const vocab *v, const int32_t *ids, size_t n, buf *out)
{
    const size_t start = out->len;
    bool begins = true;
    for (size_t i = 0; i < n; i++) {
        const struct hf_added *a = vocab_added_by_id(v, ids[i]);
        if (a && !a->special) {
            buf_add(out, a->text, a->len);
            begins = begins && !a->len;
        } else if (!a && ids[i] < v->size) {
            add_piece_text(v, ids[i], &begins, out);
        }
    }
    trim(out, start);
}

spt_status vocab_decode(const vocab *v, const int32_t *ids, size_t n, buf *out, spt_err *err)
{
    if (vocab_is_bytes(v))
        return vocab_bytes_decode(v, ids, n, out, err);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0)
            return err_set(err, SPT_E_USAGE, "id %d at position %zu is negative", ids[i], i);
    if (vocab_is_hf(v)) {
        decode_hf(v, ids, n, out);
        return buf_status(out, "decoded text", err);
    }
    if (v->library)
        return decode_with_library(v, ids, n, out, err);
    bool begins = true;
    for (size_t i = 0; i < n && ids[i] != v->eos; i++)
        add_piece_text(v, ids[i] < v->size ? ids[i] : v->unk, &begins, out);
    return buf_status(out, "decoded text", err);
}

/* --- facts --------------------------------------------------------------------------------- */

int32_t vocab_size(const vocab *v)
{
    return v->size;
}
int32_t vocab_base_size(const vocab *v)
{
    return v->base_size;
}
int32_t vocab_pad_id(const vocab *v)
{
    return v->pad;
}
int32_t vocab_eos_id(const vocab *v)
{
    return v->eos;
}
int32_t vocab_unk_id(const vocab *v)
{
    return v->unk;
}
const char *vocab_hash(const vocab *v)
{
    return v->hash;
}
const char *vocab_path(const vocab *v)
{
    return v->path;
}
enum vocab_rule vocab_rule(const vocab *v)
{
    return v->rule;
}
const char *vocab_rule_text(const vocab *v)
{
    return v->rule_text;
}
const char *vocab_rule_name(const vocab *v)
{
    return v->rule_name;
}

/* First id behind the pieces of the file. */
static int32_t file_size(const vocab *v)
{
    return vocab_is_bytes(v) ? BYTE_BASE : (int32_t)v->model.count;
}

const char *vocab_piece(const vocab *v, int32_t id, size_t *len)
{
    *len = 0;
    if (id < 0 || id >= v->size)
        return "";
    const int32_t behind = id - file_size(v);
    if (behind >= 0 && behind < v->extra_ids) {
        *len = strlen(v->extra[behind]);
        return v->extra[behind];
    }
    if (behind >= 0) {
        const struct hf_added *a = vocab_added_by_id(v, id);
        *len = a ? a->len : 0;
        return a ? a->text : "";
    }
    if (vocab_is_bytes(v))
        return vocab_bytes_piece(id, len);
    const struct spm_piece *p = &v->model.piece[id];
    *len = p->len;
    return (const char *)v->model.bytes + p->offset;
}

int32_t vocab_piece_id(const vocab *v, const char *piece, size_t len)
{
    if (!vocab_is_bytes(v)) {
        const int32_t id = find_piece(&v->model, piece, len);
        if (id >= 0)
            return id;
    }
    const int32_t from = vocab_is_bytes(v) ? 0 : file_size(v);
    for (int32_t id = from; id < v->size; id++) {
        size_t n;
        const char *text = vocab_piece(v, id, &n);
        if (n && n == len && !memcmp(text, piece, n))
            return id;
    }
    return -1;
}

int32_t vocab_sentinel_id(const vocab *v, int i)
{
    char text[40];
    if (i < 0)
        return -1;
    const int n = snprintf(text, sizeof text, "%s<extra_id_%d>", SPACE, i);
    const int32_t id = vocab_piece_id(v, text, (size_t)n);
    return id >= 0 ? id : vocab_piece_id(v, text + SPACE_LEN, (size_t)n - SPACE_LEN);
}

enum vocab_piece_type vocab_piece_type(const vocab *v, int32_t id)
{
    if (id < 0 || id >= file_size(v))
        return VOCAB_USER_DEFINED;
    if (vocab_is_bytes(v))
        return id == v->unk ? VOCAB_UNKNOWN : id < BYTE_OFFSET ? VOCAB_CONTROL : VOCAB_BYTE;
    return (enum vocab_piece_type)v->model.piece[id].type;
}

float vocab_piece_score(const vocab *v, int32_t id)
{
    return vocab_is_bytes(v) || id < 0 || id >= file_size(v) ? 0 : v->model.piece[id].score;
}
