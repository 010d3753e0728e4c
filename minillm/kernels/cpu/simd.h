// Vectors for one processor or another, from one source.
//
// GCC and Clang know vector types: `a * b + c` on them is one instruction per register, whatever the machine has.
// A vector here is 64 bytes with AVX-512 and 32 otherwise (which the compiler splits in two where registers are
// shorter). Few instructions have to be named, mostly those that multiply and add at once (in fused, dot_bytes and
// dot_bf16); each has a plain version beside it.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include <immintrin.h>
#define BYTES 64
#else
#if defined(__FMA__)
#include <immintrin.h>
#endif
#define BYTES 32
#endif
#define LANES (BYTES / 4)  // float32 numbers in a vector

#define VECTOR(type) type __attribute__((vector_size(BYTES), may_alias))
typedef VECTOR(float) vf;
typedef VECTOR(int32_t) vi;
typedef VECTOR(uint32_t) vu;
typedef VECTOR(uint64_t) vu64;
typedef VECTOR(int16_t) vi16;
typedef VECTOR(uint16_t) vu16;
typedef VECTOR(int8_t) vi8;
typedef VECTOR(uint8_t) vu8;
typedef uint16_t bf16;  // the upper half of a float32
typedef bf16 vbf16_half __attribute__((vector_size(BYTES / 2)));

#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define ROUND_UP(n, to) (((n) + (to) - 1) / (to) * (to))

// memcpy is how C reads a vector from any address; it becomes one instruction.
INLINE vf load(const void *from) { vf v; memcpy(&v, from, BYTES); return v; }
INLINE void store(void *to, vf v) { memcpy(to, &v, BYTES); }
INLINE vf splat(float x) { return x - (vf){0}; }

// a * b + c, rounded once. By name, and with -ffp-contract=off: were it left to the compiler what to fuse, it could
// decide differently for different sizes of tiles, and a row's last bits would depend on its neighbours.
INLINE vf fused(vf a, vf b, vf c) {
#if BYTES == 64
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// The first `bytes` bytes of a vector, and zeros: for the end of a row, so that nothing past it is read.
INLINE vf load_part(const void *from, long bytes) {
  if (bytes >= BYTES) return load(from);
  vf v = {0};
  memcpy(&v, from, bytes);
  return v;
}

INLINE vf widen_bf16(const bf16 *from) {
  vbf16_half half;
  memcpy(&half, from, sizeof half);
#if BYTES == 64  // one instruction, of which GCC 12 makes five
  return (vf)((vu)_mm512_cvtepu16_epi32((__m256i)half) << 16);
#else
  return (vf)(__builtin_convertvector(half, vu) << 16);
#endif
}

INLINE bf16 to_bf16(float x) {  // to the nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Comparisons yield -1 or 0 per lane, which serves as a mask.
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
INLINE vf larger(vf a, vf b) {  // b if one isn't a number
#if BYTES == 64
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return choose(a > b, a, b);
#endif
}

// Lanes 0, 2, 4, … and 1, 3, 5, … of a and b behind each other.
#if BYTES == 64
#define FIRST 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#else
#define FIRST 0, 1, 2, 3, 4, 5, 6, 7
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#endif
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

// Sums up each of LANES vectors; lane i of the result is the sum of v[i]. Neighbouring lanes are added pairwise, all
// vectors at once: log2(LANES) rounds, each leaving half as many vectors. Every sum is taken in the same order.
INLINE vf sum_each(vf v[LANES]) {
#pragma GCC unroll 4
  for (int n = LANES / 2; n > 0; n /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
      v[i] = SHUFFLE(v[2 * i], v[2 * i + 1], EVEN) + SHUFFLE(v[2 * i], v[2 * i + 1], ODD);
  return v[0];
}

INLINE vf magnitude(vf v) { return (vf)((vi)v & 0x7fffffff); }

INLINE float sum(vf v) {
#pragma GCC unroll 4
  for (int n = 1; n < LANES; n *= 2) v = SHUFFLE(v, v, EVEN) + SHUFFLE(v, v, ODD);
  return v[0];
}

INLINE float largest(vf v) {
#pragma GCC unroll 4
  for (int n = 1; n < LANES; n *= 2) v = larger(SHUFFLE(v, v, EVEN), SHUFFLE(v, v, ODD));
  return v[0];
}

// Products of 16-bit numbers, which fit 16 bits, summed up by twos into int32 lanes.
INLINE vi dot_pairs(vi16 a, vi16 b) {
#if BYTES == 32 && defined(__AVX2__)
  return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  vi products = (vi)(a * b);
  return (products >> 16) + (products << 16 >> 16);
#endif
}

// acc + products of unsigned a and signed b, summed up by fours into int32 lanes. Exact.
INLINE vi dot_bytes(vi acc, vu8 a, vi8 b) {
#if BYTES == 64
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
#elif defined(__AVXVNNI__)
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)a, (__m256i)b);
#else
  // Of each 16-bit lane the lower bytes and the upper ones, widened. Their products fit 16 bits, and are added by twos.
  return acc + dot_pairs((vi16)a & 0xff, (vi16)b << 8 >> 8) + dot_pairs((vi16)((vu16)a >> 8), (vi16)b >> 8);
#endif
}

// acc + products of bfloat16 numbers, summed up by twos. Of x there are two numbers, the same for every lane.
#ifdef __AVX512BF16__
#define X_BYTES 2  // of an activation beside a bfloat16 weight
INLINE vf dot_bf16(vf acc, vf weights, const void *x) {
  int32_t pair;
  memcpy(&pair, x, 4);
  return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)weights, (__m512bh)(pair - (vi){0}));
}
#else
#define X_BYTES 4
// Of each pair of weights in a 32-bit lane, the first lies in the lower half, the second in the upper.
INLINE vf dot_bf16(vf acc, vf weights, const void *x) {
  acc = fused((vf)((vu)weights << 16), splat(((const float *)x)[0]), acc);
  return fused((vf)((vu)weights & 0xffff0000u), splat(((const float *)x)[1]), acc);
}
#endif

// 2^x. x = n + f with f in [-1/2, 1/2]: a polynomial for 2^f (relative error 2e-7), and n goes into the exponent bits.
INLINE vf exp2_fast(vf x) {
  x = larger(splat(-126), choose(x > 126, splat(126), x));
  const vf shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
  vf rounded = x + shift;
  vf f = x - (rounded - shift);
  vf p = splat(1.5403530e-4f);
  p = fused(p, f, splat(1.3333558e-3f));
  p = fused(p, f, splat(9.6181291e-3f));
  p = fused(p, f, splat(5.5504109e-2f));
  p = fused(p, f, splat(2.4022651e-1f));
  p = fused(p, f, splat(6.9314718e-1f));
  p = fused(p, f, splat(1.0f));
  return (vf)((vi)p + (((vi)rounded - (vi)shift) << 23));
}
