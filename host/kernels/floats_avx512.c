/* The float kernels once more, for x86 with AVX-512. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")
#define NAMED(name) avx512_##name
#include "attention_parts.h"
#include "choose_parts.h"
#include "layer_parts.h"
#endif
