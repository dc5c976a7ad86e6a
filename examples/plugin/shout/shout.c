/* A complete plug-in: what each kind of extension looks like. It needs nothing but spt/plugin.h.
 *
 * The task it is made for: upper-case messages are shouting, and the longer they shout, the worse.
 *   preprocessor    shout.pairs       one example per sentence of a row
 *   postprocessor   shout.loudness    a label out of free text: "LOUD!" is the same as "loud"
 *   metric          shout.agreement   share of equal labels, and how many answers were no label
 *   initialiser     shout.ramp        rows whose values rise from -scale to scale
 *   configurable    shout.Corpus      registers a task for a file, from gin
 *   task            shout_builtin     registered by init itself */
#include <spt/plugin.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Fields "text" and "label"; every sentence (up to '.', '!' or '?') becomes an example. */
static spt_status pairs(void *ctx, const spt_plugin_host *h, const spt_example *raw,
                        int64_t position, spt_example *out, spt_emitter *to, spt_err *err)
{
    static const char prefix[] = "shout: ";
    const char *text, *label;
    size_t len, label_len;
    (void)ctx;
    if (!h->get_text(raw, "text", &text, &len) || !h->get_text(raw, "label", &label, &label_len))
        return h->fail(err, SPT_E_FORMAT, "row %lld needs the columns text and label",
                       (long long)position + 1);
    while (len) {
        size_t n = 0;
        while (n < len && !strchr(".!?", text[n]))
            n++;
        n += n < len;
        while (n && *text == ' ') {
            text++;
            len--;
            n--;
        }
        if (n) {
            char *inputs = h->keep(out, sizeof prefix + n);
            if (!inputs)
                return h->fail(err, SPT_E_NOMEM, "out of memory");
            memcpy(inputs, prefix, sizeof prefix - 1);
            memcpy(inputs + sizeof prefix - 1, text, n);
            spt_status st = h->set_text(out, "inputs", inputs, sizeof prefix - 1 + n, err);
            if (!st)
                st = h->set_text(out, "targets", label, label_len, err);
            if (!st)
                st = h->set_int(out, "row", position, err);
            if (!st)
                st = h->emit(to, out, err);
            if (st)
                return st;
        }
        text += n;
        len -= n;
    }
    return SPT_OK;
}

/* Letters only, in lower case: "quiet" is 0, "loud" 1, everything else -1. */
static spt_status loudness(void *ctx, const spt_plugin_host *h, const char *text, size_t len,
                           const spt_example *example, int is_target, spt_example *scratch,
                           spt_value *out, spt_err *err)
{
    static const char *const words[] = {"quiet", "loud"};
    char word[8] = "";
    size_t n = 0;
    (void)ctx, (void)h, (void)example, (void)is_target, (void)scratch, (void)err;
    for (size_t i = 0; i < len && n + 1 < sizeof word; i++)
        if (isalpha((unsigned char)text[i]))
            word[n++] = (char)tolower((unsigned char)text[i]);
    word[n] = '\0';
    out->label = -1;
    for (int i = 0; i < 2; i++)
        if (strcmp(word, words[i]) == 0)
            out->label = i;
    return SPT_OK;
}

static spt_status agreement(void *ctx, const spt_plugin_host *h, const spt_value *target,
                            const spt_value *answer, size_t n, spt_scores *to, spt_err *err)
{
    size_t same = 0, strange = 0;
    (void)ctx;
    for (size_t i = 0; i < n; i++) {
        same += target[i].label == answer[i].label;
        strange += answer[i].label < 0;
    }
    const double all = n ? (double)n : 1;
    const spt_status st = h->score(to, "agreement", 100.0 * (double)same / all, err);
    return st ? st : h->score(to, "no_label", 100.0 * (double)strange / all, err);
}

/* scale: how far the values reach. The rows do not depend on the seed, so the key is not used. */
static spt_status ramp(void *ctx, const spt_plugin_host *h, const spt_args *args,
                       const uint32_t key[2], int64_t length, int64_t width, spt_embedder *table,
                       float *rows, spt_err *err)
{
    double scale;
    (void)ctx, (void)key, (void)table;
    if (!h->arg_real(args, "scale", &scale) || !(scale > 0))
        return h->fail(err, SPT_E_CONFIG, "scale must be a number above 0");
    const int64_t n = length * width;
    for (int64_t i = 0; i < n; i++)
        rows[i] = (float)(scale * (n > 1 ? 2.0 * (double)i / (double)(n - 1) - 1 : 0));
    return SPT_OK;
}

/* corpus/shout.Corpus.train = 'x.tsv' makes the task "shout_corpus". */
static spt_status corpus(void *ctx, const spt_plugin_host *h, spt_plugin_self *self,
                         const spt_args *args, const char *scope, spt_err *err)
{
    static const char *const labels[] = {"quiet", "loud"};
    static const char *const metrics[] = {"shout.agreement", "accuracy"};
    const char *split[2], *file[2];
    size_t splits = 0;
    (void)ctx;
    if (h->arg_text(args, "train", &file[splits]))
        split[splits++] = "train";
    if (h->arg_text(args, "validation", &file[splits]))
        split[splits++] = "validation";
    const size_t room = strlen(scope) + sizeof "shout_";
    char *name = malloc(room);
    if (!name)
        return h->fail(err, SPT_E_NOMEM, "out of memory");
    strcpy(name, "shout_");
    strcat(name, scope);
    const spt_plugin_task t = {
        .size = sizeof t,
        .name = name,
        .split = split,
        .file = file,
        .splits = splits,
        .label = labels,
        .labels = 2,
        .preprocessor = "shout.pairs",
        .postprocessor = "shout.loudness",
        .metric = metrics,
        .metrics = 2,
    };
    const spt_status st = h->add_task(self, &t, err);
    free(name);
    return st;
}

static spt_status add_builtin(const spt_plugin_host *h, spt_plugin_self *self, spt_err *err)
{
    static const char *const split[] = {"train", "validation"};
    static const char *const file[] = {"shout/data/train.tsv", "shout/data/validation.tsv"};
    static const char *const labels[] = {"quiet", "loud"};
    static const char *const metrics[] = {"accuracy"};
    const spt_plugin_task t = {
        .size = sizeof t,
        .name = "shout_builtin",
        .split = split,
        .file = file,
        .splits = 2,
        .input = "is this loud: {text}",
        .target = "{label}",
        .label = labels,
        .labels = 2,
        .metric = metrics,
        .metrics = 1,
    };
    return h->add_task(self, &t, err);
}

static spt_status shout_init(const spt_plugin_host *h, spt_plugin_self *self, spt_err *err)
{
    spt_status st = h->add_preprocessor(self, "shout.pairs", pairs, NULL, err);
    if (!st)
        st = h->add_postprocessor(self, "shout.loudness", loudness, NULL, err);
    if (!st)
        st = h->add_metric(self, "shout.agreement", agreement, NULL, err);
    if (!st)
        st = h->add_initializer(self, "shout.ramp", "scale=1.0", ramp, NULL, err);
    if (!st)
        st = h->add_configurable(self, "shout.Corpus", "train=None, validation=None", corpus, NULL,
                                 err);
    return st ? st : add_builtin(h, self, err);
}

SPT_PLUGIN("shout", "1.0", shout_init)
