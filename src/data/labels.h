/* The label set: texts exactly as written, never guessed into numbers or "missing".
 *
 * Spaces, tabs, line ends and U+FEFF around a label are not part of it (they vanish in the
 * vocabulary, too); what was cut is counted and named once in a warning. Labels found in data are
 * kept sorted by their bytes; labels given by the user keep the user's order. */
#ifndef SPT_DATA_LABELS_H
#define SPT_DATA_LABELS_H

#include "data/encoder.h"

#define LABELS_MAX 65536

typedef struct label_set label_set;

spt_status label_set_new(label_set **out, spt_err *err);
void label_set_free(label_set *s);
/* Adds a label if it is new (trimmed); an empty one is SPT_E_FORMAT. *trimmed (may be NULL): the
 * text was cut. */
spt_status label_set_add(label_set *s, const char *text, size_t len, bool *trimmed, spt_err *err);
/* Cuts spaces, tabs, line ends and U+FEFF at both ends. */
void label_trim(const char **text, size_t *len);
/* Sorts by bytes; for labels found in data. */
void label_set_sort(label_set *s);
/* "a,b,c" or "@FILE" (one label per line, LF or CR LF, byte order mark dropped). Doubled, empty
 * or no labels are refused (file and line where there is one). */
spt_status label_set_parse(const char *spec, label_set **out, spt_err *err);

size_t label_set_count(const label_set *s);
const char *label_set_text(const label_set *s, size_t i); /* NUL-terminated */
size_t label_set_len(const label_set *s, size_t i);
/* Index of the (trimmed) text, or -1. */
int64_t label_set_find(const label_set *s, const char *text, size_t len);
/* "billing, praise, ... (6 in all)" for messages. */
void label_set_describe(const label_set *s, buf *out);

/* True when so many different targets in so many rows read as classes rather than as free text. */
bool labels_look_like_classes(size_t distinct, uint64_t rows, size_t longest);

/* What the check found. An error means that answers would be meaningless. */
struct label_finding {
    bool error;
    char text[480]; /* names the labels and their ids */
};
struct label_report {
    struct label_finding *finding;
    size_t count, cap;
    size_t errors, warnings;
    /* Ids of every label with EOS, cut to the target length: ids[off[i] .. off[i+1]). */
    int32_t *ids;
    size_t *off; /* [count of labels + 1] */
    size_t labels;
    size_t unwritable; /* labels with characters that the vocabulary cannot write */
};
/* max_target: feature length of targets with EOS, 0: unlimited. Rules: equal ids before cutting
 * (error), equal ids after cutting (error), no ids at all (error), ids of one a prefix of
 * another's (warning), characters that the vocabulary cannot write (warning), cut (warning), equal
 * but for capitals (warning). */
spt_status label_set_check(const label_set *s, const struct data_encoder *enc, int64_t max_target,
                           struct label_report *out, spt_err *err);
void label_report_release(struct label_report *r);
/* Hands every finding to the log; the first error becomes SPT_E_CONFIG. */
spt_status label_report_log(const struct label_report *r, const char *where, spt_err *err);

#endif
