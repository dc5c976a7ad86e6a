/* Answers as lines: text, our JSON, and the reference's JSON Lines (spec/t5x.md 9.1). */
#ifndef SPT_RUN_ANSWER_LINES_H
#define SPT_RUN_ANSWER_LINES_H

#include "run/feed.h"

enum line_style {
    LINE_TEXT,    /* the answer; several: input number, score and text, with tabs between */
    LINE_JSON,    /* ours: inputs, prediction, scores, ... */
    LINE_PREDICT, /* the reference's modes */
    LINE_PREDICT_WITH_AUX,
    LINE_SCORE
};

/* Line or lines of example i of a chunk. score: [n] log-likelihoods of targets (LINE_SCORE). ids:
 * also the ids of decoded answers. */
void answer_lines(buf *out, enum line_style style, bool ids, const struct members *u,
                  const struct feed_chunk *c, const struct answers *a, const float *score,
                  size_t i);

#endif
