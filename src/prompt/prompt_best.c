/* Which prompt a run directory stands for. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "text/json.h"
#include "text/number.h"

enum { MAX_BEST = 1 << 20, MAX_PATH = 1 << 16 };

char *prompt_file_name(int64_t step, char *text)
{
    snprintf(text, PROMPT_NAME_TEXT, PROMPT_FILE_PREFIX "%lld" PROMPT_FILE_SUFFIX, (long long)step);
    return text;
}

spt_status prompt_best_text(const struct prompt_best *best, buf *out, spt_err *err)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "prompt");
    json_string(&w, best->file);
    json_key(&w, "step");
    json_i64(&w, best->step);
    json_key(&w, "metric");
    if (best->metric)
        json_string(&w, best->metric);
    else
        json_null(&w);
    json_key(&w, "score");
    json_f64(&w, best->score);
    json_end_object(&w);
    buf_addc(out, '\n');
    return buf_status(out, PROMPT_BEST_FILE, err);
}

static spt_status add_path(buf *out, const char *dir, const char *name, spt_err *err)
{
    TRY(path_join(out, dir, name, err));
    return buf_status(out, "path", err);
}

spt_status prompt_best_write(const char *run_dir, const struct prompt_best *best, spt_err *err)
{
    buf path, text;
    buf_init(&path, MAX_PATH);
    buf_init(&text, MAX_BEST);
    spt_status st = add_path(&path, run_dir, PROMPT_BEST_FILE, err);
    if (!st)
        st = prompt_best_text(best, &text, err);
    if (!st)
        st = fs_write_all(buf_str(&path), text.data, text.len, err);
    buf_release(&path);
    buf_release(&text);
    return st;
}

/* Appends the file that best.json names. */
static spt_status read_best(const char *file, buf *name, spt_err *err)
{
    char *text = NULL;
    size_t size;
    json_reader r;
    struct json_event key;
    bool more;
    TRY(fs_read_all(file, MAX_BEST, &text, &size, err));
    json_open(&r, text, size, JSON_PYTHON_NAN);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more)
        st = json_is(&key, "prompt") ? json_read_text(&r, name, err) : json_skip(&r, err);
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    mem_free(text);
    if (!st)
        st = buf_status(name, PROMPT_BEST_FILE, err);
    if (!st && (!name->len || strlen(name->data) != name->len || strchr(name->data, '/') ||
                name->data[0] == '.'))
        st = err_set(err, SPT_E_FORMAT, "\"prompt\" is not a plain file name");
    return st ? err_wrap(err, st, "%s", file) : SPT_OK;
}

/* Step of "prompt-<step>.safetensors", or -1. */
static int64_t step_of(const char *name)
{
    const size_t a = sizeof PROMPT_FILE_PREFIX - 1, b = sizeof PROMPT_FILE_SUFFIX - 1;
    const size_t n = strlen(name);
    int64_t step;
    if (n <= a + b || strncmp(name, PROMPT_FILE_PREFIX, a) != 0 ||
        strcmp(name + n - b, PROMPT_FILE_SUFFIX) != 0 ||
        !number_i64(name + a, n - a - b, &step) || step < 0)
        return -1;
    return step;
}

static spt_status highest_step(const char *dir, buf *name, spt_err *err)
{
    fs_names names = {0};
    int64_t best = -1;
    char text[PROMPT_NAME_TEXT];
    TRY(fs_list(dir, &names, err));
    for (size_t i = 0; i < names.count; i++)
        if (step_of(names.name[i]) > best)
            best = step_of(names.name[i]);
    fs_names_free(&names);
    if (best >= 0)
        buf_adds(name, prompt_file_name(best, text));
    return buf_status(name, "path", err);
}

static spt_status find(const char *run_dir, buf *file, buf *name, spt_err *err)
{
    struct fs_info info;
    TRY(add_path(file, run_dir, PROMPT_BEST_FILE, err));
    const spt_status st = fs_stat(buf_str(file), &info, err);
    if (st && st != SPT_E_NOTFOUND) /* not "absent": another prompt must not be taken for it */
        return st;
    return st ? highest_step(run_dir, name, err) : read_best(buf_str(file), name, err);
}

spt_status prompt_best_path(const char *run_dir, buf *path, spt_err *err)
{
    buf file, name;
    buf_init(&file, MAX_PATH);
    buf_init(&name, MAX_PATH);
    spt_status st = find(run_dir, &file, &name, err);
    if (!st && !name.len)
        st = err_set(err, SPT_E_NOTFOUND, "%s: neither " PROMPT_BEST_FILE " nor " PROMPT_FILE_PREFIX
                     "<step>" PROMPT_FILE_SUFFIX " in this run directory", run_dir);
    if (!st)
        st = add_path(path, run_dir, name.data, err);
    buf_release(&file);
    buf_release(&name);
    return st;
}
