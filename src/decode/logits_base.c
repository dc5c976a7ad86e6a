#define LOGITS_KERNELS logits_kernels_base
#include "decode/logits_kernels.h"
