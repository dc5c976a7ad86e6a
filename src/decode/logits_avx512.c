#define LOGITS_KERNELS logits_kernels_avx512
#include "decode/logits_kernels.h"
