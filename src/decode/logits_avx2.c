#define LOGITS_KERNELS logits_kernels_avx2
#include "decode/logits_kernels.h"
