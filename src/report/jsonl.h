/* JSON Lines files that grow and survive kills: one value per line, written with text/json's writer
 * (JSON_PYTHON: byte for byte what json.dumps writes). The file is a log: its length is part of every
 * checkpoint, and opening with that length cuts what a crash left behind. */
#ifndef SPT_REPORT_JSONL_H
#define SPT_REPORT_JSONL_H

#include "fs/fs.h"
#include "text/json.h"

typedef struct jsonl jsonl;

/* Creates the file, or keeps its first `keep` bytes (UINT64_MAX: all whole lines of it). */
spt_status jsonl_open(const char *path, uint64_t keep, jsonl **out, spt_err *err);
/* The writer of the next line (style: enum json_style); valid until jsonl_end. */
json_writer *jsonl_begin(jsonl *j, unsigned style);
/* Appends the line and its '\n'; on failure the file ends where it ended before. */
spt_status jsonl_end(jsonl *j, spt_err *err);
uint64_t jsonl_size(const jsonl *j);
spt_status jsonl_sync(jsonl *j, spt_err *err);
void jsonl_close(jsonl *j); /* accepts NULL */

#endif
