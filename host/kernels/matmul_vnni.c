/* The fast matmul for x86 with AVX-512 VNNI. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")
#define NAMED(name) vnni_##name
#include "matmul_parts.h"
#endif
