/* CRC-32C (Castagnoli), as TFRecord files, LevelDB tables and Google Cloud Storage use it. The
 * instruction of SSE 4.2 is used where the CPU has it; both ways give the same numbers. */
#ifndef SPT_CODEC_CRC_H
#define SPT_CODEC_CRC_H

#include <stddef.h>
#include <stdint.h>

/* crc32c("123456789") is 0xe3069283. */
uint32_t crc32c(const void *bytes, size_t size);
/* Continues: crc32c_extend(crc32c(a), b) == crc32c(a b); start with 0. */
uint32_t crc32c_extend(uint32_t crc, const void *bytes, size_t size);
/* The form stored in files that contain their own checksums (spec/t5x.md 3.7). */
uint32_t crc32c_mask(uint32_t crc);
uint32_t crc32c_unmask(uint32_t masked);

/* The table-driven way, for the test that both agree. */
uint32_t crc32c_extend_portable(uint32_t crc, const void *bytes, size_t size);

#endif
