/* Every limit on what a file may ask for, in one place. The code reads them here and nowhere else, and
 * tools/check-limits compares SECURITY.md's table with this one. Beyond a limit an input is refused by name. */
#ifndef SPT_BASE_LIMITS_H
#define SPT_BASE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define ST_MAX_HEADER 100000000 /* bytes of a safetensors header */
#define ST_MAX_TENSORS 100000 /* tensors in a safetensors file */
#define ST_MAX_VALUE ((uint64_t)1 << 48) /* any number in a safetensors header */
#define NPY_MAX_HEADER 10000 /* bytes of a .npy header */
#define TORCH_MAX_PICKLE (64 << 20) /* bytes of the pickle in a torch file */
#define HF_MAX_INDEX (64 << 20) /* bytes of an index of shards */
#define HF_MAX_INDEX_TENSORS 100000 /* tensors in an index of shards */
#define HF_MAX_SHARDS 10000 /* shards of a model */
#define HF_MAX_CONFIG (4 << 20) /* bytes of config.json */
#define PEFT_MAX_CONFIG (4 << 20) /* bytes of adapter_config.json */
#define ZARR_MAX_METADATA (1 << 20) /* bytes of an array's .zarray */
#define ZARR_MAX_CHUNKS (1 << 22) /* chunks of one array */
#define ZARR_MAX_CHUNK ((size_t)2 << 30) /* bytes of one decoded chunk */
#define T5X_MAX_PIECES 4096 /* pieces of one array in a T5X msgpack file */
#define ARCHIVE_MAX_MEMBERS (1 << 20) /* members of an archive */
#define ARCHIVE_MAX_RATIO 200 /* how far a member of an archive may expand */
#define DEFLATE_MAX_RATIO 1032 /* how far gzip data may expand */
#define MSGPACK_MAX_DEPTH 32 /* nesting of msgpack */
#define JSON_MAX_DEPTH 64 /* nesting of JSON */
#define TABLE_MAX_RECORD ((size_t)64 << 20) /* bytes of one record of a table */
#define TABLE_MAX_FIELDS 65536 /* fields of one record of a table */
#define PATTERN_MAX ((size_t)64 << 10) /* bytes of a pattern */
#define PATTERN_MAX_STEPS 10000000u /* steps of matching a pattern */
#define GIN_MAX_DEPTH 64 /* nesting of brackets and includes in gin */
#define GIN_MAX_EVAL_DEPTH 256 /* nesting while gin is evaluated */
#define GIN_MAX_NODES (1u << 20) /* values made by one gin evaluation */
#define GIN_MAX_FILE ((size_t)32 << 20) /* bytes of one gin file */
#define GIN_MAX_TOTAL ((size_t)128 << 20) /* bytes of one gin configuration */
#define GIN_MAX_INCLUDES 10000 /* files of one gin configuration */
#define SPM_MAX_FILE ((size_t)256 << 20) /* bytes of a vocabulary (SentencePiece) */
#define SPM_MAX_PIECES (1 << 21) /* pieces of a vocabulary (SentencePiece) */
#define TOKENIZER_MAX_JSON ((size_t)256 << 20) /* bytes of tokenizer.json */
#define TOKENIZER_MAX_ADDED 100000 /* tokens added in tokenizer.json */
#define EXAMPLE_MAX_BYTES (1 << 30) /* bytes of one tf.train.Example */
#define CKPT_MAX_MANIFEST ((size_t)16 << 20) /* bytes of a checkpoint's manifest */
#define CKPT_MAX_FILE ((size_t)4 << 30) /* bytes of a checkpoint's state */
#define REMOTE_MAX_SIZE ((uint64_t)5 << 40) /* bytes of an object in a bucket or on the web */
#define LISTING_MAX_NAMES (1 << 22) /* names of one listing of a bucket */
#define LISTING_MAX_BYTES ((size_t)256 << 20) /* bytes of the names of one listing of a bucket */
#define LISTING_MAX_EMPTY 100 /* pages in a row of such a listing without a name */
#define REWRITE_MAX_CALLS 10000 /* requests of one copy inside a bucket */

#endif
