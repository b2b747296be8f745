/* The float kernels once more, for x86 with AVX2, FMA and F16C. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma,f16c")
#define NAMED(name) avx2_##name
#include "attention_parts.h"
#include "choose_parts.h"
#include "layer_parts.h"
#endif
