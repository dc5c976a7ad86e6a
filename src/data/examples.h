/* Records -> texts -> ids: the examples of one file, in memory (train, eval) or one at a time.
 *
 * ids are SeqIO's: the first L-1 ids of the text, then EOS (append_eos_after_trim); an empty text
 * is just EOS. Cut inputs and targets are counted. */
#ifndef SPT_DATA_EXAMPLES_H
#define SPT_DATA_EXAMPLES_H

#include "data/encoder.h"
#include "data/labels.h"
#include "data/records.h"
#include "data/template.h"

struct examples_options {
    struct records_options records; /* its `columns` are filled from the templates when empty */
    const text_template *input;     /* NULL: the text column found by name, or column 1 */
    const text_template *target;    /* NULL: the label column found by name, or column 2 */
    /* The templates come from a prompt, whose training file may have named its columns otherwise:
     * a template of one field takes the text (label) column, by its place in a table without
     * header, by its name where the field is missing or only a number; a line says so. Lines
     * (records.lines) always do, and in a table without header so do fields whose name stands
     * for the text ({text}, ...) or the label. */
    bool by_position;
    bool no_target;          /* targets are not read (infer) */
    bool optional_target;    /* ... if the file has no such column */
    const label_set *labels; /* targets must be among these; NULL: any text */
    bool find_labels;        /* in-memory only: collect the label set (examples_labels) */
    const char *labels_from; /* where `labels` come from, for messages ("the training data") */
    const char *labels_hint; /* what else to do about a label that is none of them, or NULL */
    int64_t max_input, max_target; /* feature lengths with EOS; 0: unlimited */
    bool keep_text;                /* input and target texts stay in memory */
};

struct example {
    const int32_t *input; /* [input_len] with EOS */
    size_t input_len;
    const int32_t *target; /* [target_len] with EOS; 0 without targets */
    size_t target_len;
    int64_t label; /* index into the labels, -1 without */
    uint64_t line;
    const char *input_text, *target_text; /* NULL unless kept; NUL-terminated */
    size_t input_text_len, target_text_len;
};

struct examples_counts {
    struct records_counts rows;
    uint64_t examples;
    uint64_t empty_inputs;            /* inputs that are just EOS */
    uint64_t cut_inputs, cut_targets; /* longer than the feature length */
    uint64_t trimmed_targets;         /* spaces around a label dropped */
    uint64_t unwritable_targets;      /* targets with ids the vocabulary cannot write (unknown) */
    uint64_t special_targets; /* targets with the id of <pad>, or of </s> before their end */
    uint64_t tokens_in, tokens_out;   /* ids kept, EOS included */
    int64_t longest_input, longest_target; /* ids kept, EOS included */
    int64_t longest_input_uncut, longest_target_uncut;
};

typedef struct examples examples;
spt_status examples_load(const struct examples_options *o, const struct data_encoder *enc,
                         examples **out, spt_err *err);
void examples_free(examples *e);
size_t examples_count(const examples *e);
struct example examples_at(const examples *e, size_t i); /* valid while e lives */
struct examples_counts examples_counts(const examples *e);
const char *examples_path(const examples *e);
/* Characters of targets that the vocabulary cannot write, separated by spaces; "" when none. */
const char *examples_unwritable(const examples *e);
/* Labels found (find_labels) or NULL; belongs to e. `label` of the examples points into it. */
const label_set *examples_labels(const examples *e);
/* Source of the templates in force ("{text}"), for the prompt file. */
const char *examples_input_template(const examples *e);
const char *examples_target_template(const examples *e); /* NULL without targets */
/* One info line (examples, blank and empty rows, cut inputs and targets, lengths), plus warnings.
 */
void examples_log(const examples *e, const char *role);
/* Examples made from arrays of ids instead of a file (tasks, tests). Copies. */
spt_status examples_new(examples **out, spt_err *err);
spt_status examples_add(examples *e, const struct example *x, spt_err *err);

/* One at a time, memory independent of the file. */
typedef struct example_stream example_stream;
spt_status example_stream_open(const struct examples_options *o, const struct data_encoder *enc,
                               example_stream **out, spt_err *err);
/* The example (with texts) is valid until the next call; *more = false at the end. */
spt_status example_stream_next(example_stream *s, struct example *out, bool *more, spt_err *err);
struct examples_counts example_stream_counts(const example_stream *s);
const char *example_stream_unwritable(const example_stream *s); /* as examples_unwritable */
const char *example_stream_input_template(const example_stream *s);
void example_stream_close(example_stream *s);

/* Cuts ids to `max` with EOS last, appends EOS: the rule above. Returns true when cut. */
spt_status ids_finish(struct id_list *ids, size_t from, int64_t max, int32_t eos_id, bool *cut,
                      spt_err *err);

#endif
