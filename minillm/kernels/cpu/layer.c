// What a decoder layer computes per token beside matrix products and attention; all in float32, row by row.
#include "simd.h"
#include "threads.h"

enum { ROWS = 4, SMALL = 16384 };  // rows in a piece of work; numbers for which it isn't worth to wake a thread

typedef struct {
  long n, size;
  const float *x;
  long x_stride;
  float *residual;
  const float *weight;
  float eps, *out;
} Norm;

static void norm_rows(void *job, long index) {
  const Norm *p = job;
  for (long i = index * ROWS; i < MIN(index * ROWS + ROWS, p->n); i++) {
    const float *from = p->x + i * p->x_stride;
    if (p->residual) {
      float *stream = p->residual + i * p->size;
      for (long k = 0; k < p->size; k++) stream[k] += from[k];
      from = stream;
    }
    vf squares = {0};
    for (long k = 0; k < p->size; k += LANES) {
      vf v = load_part(from + k, (p->size - k) * 4);
      squares = fused(v, v, squares);
    }
    float scale = 1 / sqrtf(sum(squares) / p->size + p->eps);
    for (long k = 0; k < p->size; k++) p->out[i * p->size + k] = p->weight[k] * (from[k] * scale);
  }
}

// x: [n, size], rows x_stride numbers apart. With `residual` [n, size], x is added to it, and the sum is normed.
void rms_norm(long n, long size, const float *x, long x_stride, float *residual, const float *weight, float eps,
              float *out, int threads) {
  Norm job = {n, size, x, x_stride, residual, weight, eps, out};
  in_parallel(n * size > SMALL ? threads : 1, (n + ROWS - 1) / ROWS, norm_rows, &job);
}

typedef struct {
  long n, m;
  const float *gate_up;
  float *out;
} Gate;

static void gate_rows(void *job, long index) {
  const Gate *p = job;
  for (long i = index * ROWS; i < MIN(index * ROWS + ROWS, p->n); i++) {
    const float *gate = p->gate_up + i * 2 * p->m, *up = gate + p->m;
    for (long k = 0; k < p->m; k += LANES) {
      vf x = load_part(gate + k, (p->m - k) * 4), y = load_part(up + k, (p->m - k) * 4);
      vf found = x / (1 + exp2_fast(x * -1.44269504f)) * y;
      memcpy(p->out + i * p->m + k, &found, MIN(LANES, p->m - k) * 4);
    }
  }
}

// gate_up: [n, 2 * m] → silu(first half) * second half, [n, m], where silu(x) = x / (1 + e^-x).
void silu_and_mul(long n, long m, const float *gate_up, float *out, int threads) {
  Gate job = {n, m, gate_up, out};
  in_parallel(n * m > SMALL ? threads : 1, (n + ROWS - 1) / ROWS, gate_rows, &job);
}
