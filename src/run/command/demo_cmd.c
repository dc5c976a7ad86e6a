/* The demo that comes with the program: a small T5 learns from 480 messages to an online shop which
 * of six desks should answer. It runs the commands that a user would type, and shows them. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "os/os.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/share.h"
#include "text/json.h"

#define LABELS "billing,delivery,account,product,cancel,praise"

enum { PATH_MAX_BYTES = 65536, OUTPUT_MAX = 1 << 24, WORDS_MAX = 24 };

struct demo {
    const struct settings *s;
    struct run_output *out;
    buf model, train, eval, test, messages; /* paths of the demo's files */
    buf scratch; /* directory for what is thrown away; the run, too, without --out */
    const char *run;
    char steps[32], threads[32];
};

/* --- one command ---------------------------------------------------------------------------- */

static int capture(void *ctx, const void *bytes, size_t n)
{
    buf_add(ctx, bytes, n);
    return 0;
}

/* Runs what `word` says as the command line would: options without dashes, then "--", arguments.
 * Its answers go to `answers` (emptied first), or nowhere. */
static spt_status command(const struct demo *d,
                          spt_status (*fn)(struct settings *, struct run_output *, spt_err *),
                          const char *const *word, buf *answers, spt_err *err)
{
    struct settings s;
    const spt_sink sink = {
        .take = answers ? capture : NULL,
        .progress = d->out->sink->progress,
        .ctx = answers,
        .terminal = d->out->sink->terminal,
    };
    struct run_output out = {.sink = &sink};
    if (answers)
        buf_clear(answers);
    TRY(settings_init(&s, word[0], err));
    spt_status st = SPT_OK;
    if (strcmp(word[0], "init") != 0) /* which has none */
        st = settings_set(&s, "threads", d->threads, err);
    size_t i = 1;
    for (; !st && word[i] && strcmp(word[i], "--") != 0; i += 2)
        st = settings_set(&s, word[i], word[i + 1], err);
    for (i += word[i] != NULL; !st && word[i]; i++)
        st = settings_add_argument(&s, word[i], err);
    s.comm = d->s->comm;
    if (!st)
        st = fn(&s, &out, err);
    if (!st && answers)
        st = buf_status(answers, "answers", err);
    settings_release(&s);
    return st;
}

/* The same as a line to copy. */
static spt_status show(const struct demo *d, const char *const *word, const char *ending,
                       spt_err *err)
{
    buf line;
    buf_init(&line, PATH_MAX_BYTES);
    buf_addf(&line, "$ spt %s", word[0]);
    size_t i = 1;
    for (; word[i] && strcmp(word[i], "--") != 0; i += 2) {
        buf_addf(&line, " --%s", word[i]);
        if (word[i + 1])
            buf_addf(&line, " %s", word[i + 1]);
    }
    for (i += word[i] != NULL; word[i]; i++)
        buf_addf(&line, " %s", word[i]);
    buf_addf(&line, "%s\n", ending);
    const spt_status st = output_text(d->out, &line, err);
    buf_release(&line);
    return st;
}

static spt_status say(const struct demo *d, const char *text, spt_err *err)
{
    return output_write(d->out, text, strlen(text), err);
}

/* --- the steps ------------------------------------------------------------------------------ */

static spt_status read_accuracy(const buf *json, double *out, spt_err *err)
{
    json_reader r;
    struct json_event key;
    bool more, found = false;
    json_open(&r, buf_str(json), json->len, 0);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        const bool it = json_is(&key, "accuracy");
        st = it ? json_read_f64(&r, out, err) : json_skip(&r, err);
        found |= it;
    }
    json_close(&r);
    return st || found ? st : err_set(err, SPT_E_INTERNAL, "the evaluation has no accuracy");
}

static spt_status accuracy(const struct demo *d, const char *prompt, bool shown, double *out,
                           spt_err *err)
{
    const char *const bare[] = {
        "eval", "model", buf_str(&d->model), "data", buf_str(&d->test), "labels", LABELS, "json",
        NULL,   NULL};
    const char *const with[] = {"eval",
                                "model",
                                buf_str(&d->model),
                                "prompt",
                                prompt,
                                "data",
                                buf_str(&d->test),
                                "labels",
                                LABELS,
                                "json",
                                NULL,
                                NULL};
    const char *const trained[] = {"eval", "model", buf_str(&d->model), "prompt",
                                   prompt, "data",  buf_str(&d->test),  "json",
                                   NULL,   NULL};
    const char *const *word = shown ? trained : prompt ? with : bare;
    buf answers;
    buf_init(&answers, OUTPUT_MAX);
    spt_status st = shown || !prompt ? show(d, word, "", err) : SPT_OK;
    log_hold(LOG_HOLD_INFO);
    if (!st)
        st = command(d, run_eval, word, &answers, err);
    log_hold(LOG_HOLD_NOTHING);
    if (!st)
        st = read_accuracy(&answers, out, err);
    buf_release(&answers);
    return st;
}

static spt_status before(const struct demo *d, double *none, double *random, spt_err *err)
{
    char line[160];
    buf path;
    TRY(say(d, "== before: the frozen model without a prompt, and with a random one\n", err));
    TRY(accuracy(d, NULL, false, none, err));
    buf_init(&path, PATH_MAX_BYTES);
    spt_status st = path_join(&path, buf_str(&d->scratch), "random.safetensors", err);
    const char *const word[] = {"init", "model", buf_str(&d->model), "length",
                                "20",   "init",  "uniform",          "seed",
                                "1",    "out",   buf_str(&path),     NULL};
    log_hold(LOG_HOLD_INFO);
    if (!st)
        st = command(d, run_init, word, NULL, err);
    log_hold(LOG_HOLD_NOTHING);
    if (!st)
        st = accuracy(d, buf_str(&path), false, random, err);
    buf_release(&path);
    TRY(st);
    snprintf(line, sizeof line,
             "accuracy on test.tsv in percent: no prompt %.2f, random prompt %.2f\n", *none,
             *random);
    return say(d, line, err);
}

static spt_status training(const struct demo *d, spt_err *err)
{
    const char *const word[] = {"train",
                                "model",
                                buf_str(&d->model),
                                "train",
                                buf_str(&d->train),
                                "eval",
                                buf_str(&d->eval),
                                "out",
                                d->run,
                                "length",
                                "20",
                                "steps",
                                d->steps,
                                "eval-every",
                                "30",
                                "seed",
                                d->s->seed,
                                NULL};
    TRY(say(d, "\n== training: 20 rows of 256 numbers; the model stays as it is\n", err));
    TRY(show(d, word, "", err));
    const spt_status st = command(d, run_train, word, NULL, err);
    return st == SPT_E_INTERRUPTED && d->run != d->s->out
               ? err_set(err, st, "interrupted; the run was a temporary one and is removed")
               : st;
}

/* "  answer<TAB>message" for each message. */
static spt_status pair_lines(const struct demo *d, const buf *answers, const char *messages,
                             spt_err *err)
{
    buf text;
    buf_init(&text, OUTPUT_MAX);
    for (const char *a = buf_str(answers), *m = messages; *a && *m;) {
        const size_t an = strcspn(a, "\n"), mn = strcspn(m, "\n");
        buf_addf(&text, "  %-10.*s %.*s\n", (int)an, a, (int)mn, m);
        a += an + (a[an] == '\n');
        m += mn + (m[mn] == '\n');
    }
    const spt_status st = output_text(d->out, &text, err);
    buf_release(&text);
    return st;
}

static spt_status answers(const struct demo *d, spt_err *err)
{
    const char *const word[] = {"infer", "model", buf_str(&d->model),    "prompt",
                                d->run,  "--",    buf_str(&d->messages), NULL};
    char *messages = NULL;
    size_t size;
    buf lines;
    TRY(say(d, "\n== five new messages\n", err));
    TRY(show(d, word, "", err));
    TRY(fs_read_all(buf_str(&d->messages), OUTPUT_MAX, &messages, &size, err));
    buf_init(&lines, OUTPUT_MAX);
    log_hold(LOG_HOLD_INFO);
    spt_status st = command(d, run_infer, word, &lines, err);
    log_hold(LOG_HOLD_NOTHING);
    if (!st)
        st = pair_lines(d, &lines, messages, err);
    buf_release(&lines);
    mem_free(messages);
    return st;
}

static spt_status best_prompt(const struct demo *d, spt_err *err)
{
    buf path, line;
    struct fs_info info;
    buf_init(&path, PATH_MAX_BYTES);
    buf_init(&line, PATH_MAX_BYTES);
    spt_status st = prompt_best_path(d->run, &path, err);
    if (!st)
        st = fs_stat(buf_str(&path), &info, err);
    if (!st) {
        buf_addf(&line, "\nthe prompt: %s, %llu bytes%s\n",
                 d->s->out && *d->s->out ? buf_str(&path) : path_base(buf_str(&path)),
                 (unsigned long long)info.size,
                 d->s->out && *d->s->out ? "" : " (removed with the run; --out DIR keeps it)");
        st = output_text(d->out, &line, err);
    }
    buf_release(&path);
    buf_release(&line);
    return st;
}

static spt_status whole(const struct demo *d, spt_err *err)
{
    double none, random, after;
    char line[160];
    TRY(before(d, &none, &random, err));
    TRY(training(d, err));
    TRY(say(d, "\n== after\n", err));
    TRY(accuracy(d, d->run, true, &after, err));
    snprintf(line, sizeof line,
             "accuracy on test.tsv in percent: no prompt %.2f, random prompt %.2f, trained prompt "
             "%.2f\n",
             none, random, after);
    TRY(say(d, line, err));
    TRY(answers(d, err));
    return best_prompt(d, err);
}

/* --- files ---------------------------------------------------------------------------------- */

/* Where the demo lies: its model's config.json tells. */
static spt_status find_files(struct demo *d, spt_err *err)
{
    static const char *const name[] = {"t5-mini", "desk/train.tsv", "desk/dev.tsv", "desk/test.tsv",
                                       "desk/messages.txt"};
    buf *const path[] = {&d->model, &d->train, &d->eval, &d->test, &d->messages};
    buf dir, config, looked;
    buf_init(&dir, PATH_MAX_BYTES);
    buf_init(&config, PATH_MAX_BYTES);
    buf_init(&looked, PATH_MAX_BYTES);
    bool found = false;
    for (size_t i = 0; !found && share_candidate(i, "demo", &dir); i++) {
        buf_clear(&config);
        buf_addf(&config, "%s/t5-mini/config.json", buf_str(&dir));
        found = fs_exists(buf_str(&config));
        buf_addf(&looked, "%s%s", looked.len ? ", " : "", buf_str(&dir));
    }
    spt_status st = found ? SPT_OK
                          : err_set(err, SPT_E_NOTFOUND,
                                    "the demo's model is not installed: looked in %s "
                                    "(SPT_DATA_DIR names the directory above demo/)",
                                    buf_str(&looked));
    for (size_t i = 0; !st && i < sizeof name / sizeof *name; i++)
        st = path_join(path[i], buf_str(&dir), name[i], err);
    buf_release(&dir);
    buf_release(&config);
    buf_release(&looked);
    return st;
}

static spt_status make_scratch(struct demo *d, spt_err *err)
{
    const char *base = os_getenv("TMPDIR");
    uint32_t salt;
    const int e = os_random(&salt, sizeof salt);
    if (e < 0)
        return err_sys(err, SPT_E_IO, -e, "random numbers");
    buf_addf(&d->scratch, "%s/spt-demo-%08x", base && *base ? base : "/tmp", salt);
    TRY(buf_status(&d->scratch, "path", err));
    return fs_make_dirs(buf_str(&d->scratch), err);
}

static spt_status prepare(struct demo *d, buf *run, spt_err *err)
{
    const struct settings *s = d->s;
    snprintf(d->steps, sizeof d->steps, "%lld", (long long)s->steps);
    snprintf(d->threads, sizeof d->threads, "%lld", (long long)s->threads);
    TRY(find_files(d, err));
    TRY(make_scratch(d, err));
    TRY(path_join(run, buf_str(&d->scratch), "desk", err));
    d->run = s->out && *s->out ? s->out : buf_str(run);
    return SPT_OK;
}

spt_status run_demo(struct settings *s, struct run_output *out, spt_err *err)
{
    struct demo d = {.s = s, .out = out};
    buf *const all[] = {&d.model, &d.train, &d.eval, &d.test, &d.messages, &d.scratch};
    buf run;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_init(all[i], PATH_MAX_BYTES);
    buf_init(&run, PATH_MAX_BYTES);
    spt_status st = prepare(&d, &run, err);
    if (!st)
        st = whole(&d, err);
    if (d.scratch.len)
        fs_remove_tree(buf_str(&d.scratch), NULL);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_release(all[i]);
    buf_release(&run);
    return st;
}
