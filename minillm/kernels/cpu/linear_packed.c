// Matrix products with weights of 16 or 8 bits: out = x · weightᵀ + bias. x is rounded to bfloat16 or to 8 bits as well.
//
// Each lane of a vector has an output of its own. A vector of weights holds, of OUTS outputs, four bytes each: two or
// four weights, those of the same inputs (`pack` in quantized.py lays them out like that). It's multiplied with these
// inputs' numbers in every lane. So nothing is ever added up across lanes, which for rows of some hundred numbers would
// take as long as the products.
//
// An output is the sum of its products in the order of the inputs, whatever the number of rows and wherever in the
// batch a row stands: so a request's result doesn't depend on its neighbours, not even in the last bit.
#include "quantize.h"
#include "threads.h"

enum kind { INT8 = 8, BF16 = 16 };
enum { OUTS = 16, UNIT = 4, VECTORS = OUTS * UNIT / BYTES };  // outputs in a group, bytes of each; vectors that makes

// A tile, groups of outputs by rows of x, has as many sums as registers hold beside what they're made of.
#if BYTES == 64
enum { ROWS = 8, GROUPS = 3 };
#else
enum { ROWS = 4, GROUPS = 1 };
#endif

typedef struct {
  // What CPUKernels.linear passes, eight bytes each and in this order.
  long n, in, out;
  const float *from;           // x: n rows of `in` numbers, from_stride numbers apart
  long from_stride;
  const char *data;            // weights [groups, units, OUTS, UNIT]: bfloat16, or 8 bits and 128 too large
  const float *scales, *bias;  // [out]; scales are for 8 bits, the bias may be NULL
  float *result;               // [n, out]
  long threads, kind;
  long units, group_bytes;
  char *x;                     // [n / ROWS, units, ROWS, x_unit]: x rounded, zeros where there's no row or no input
  float *x_scales;             // INT8: [n]
  int32_t *x_sums;             // INT8: [n], sum of the row's whole numbers
  long piece_groups;           // groups of outputs in a piece of work
} Product;

// Bytes of x beside a unit of weights.
INLINE long x_unit(enum kind kind) { return kind == BF16 ? UNIT / 2 * X_BYTES : UNIT; }

// ---- Rows of x -----------------------------------------------------------------------------------------------------

static void round_bf16(const float *x, long n, void *to) {
#if X_BYTES == 2
  for (long k = 0; k < n; k++) ((bf16 *)to)[k] = to_bf16(x[k]);
#else
  memcpy(to, x, n * 4);
#endif
}

static void pack_row(void *job, long row) {
  const Product *p = job;
  const float *x = p->from + row * p->from_stride;
  long size = x_unit(p->kind);
  char rounded[p->units * size];
  memset(rounded, 0, sizeof rounded);
  if (p->kind == INT8) {
    p->x_scales[row] = quantize(x, p->in, (int8_t *)rounded);
    int32_t sum = 0;
    for (long k = 0; k < p->in; k++) sum += ((int8_t *)rounded)[k];
    p->x_sums[row] = sum;
  } else {
    round_bf16(x, p->in, rounded);
  }
  char *to = p->x + (row / ROWS * p->units * ROWS + row % ROWS) * size;
  for (long k = 0; k < p->units; k++) memcpy(to + k * ROWS * size, rounded + k * size, size);
}

// ---- Tiles ---------------------------------------------------------------------------------------------------------

// sum + the products of a vector of weights with a unit of x.
INLINE vf add_products(enum kind kind, vf sum, vf weights, const char *x) {
  if (kind == BF16) return dot_bf16(sum, weights, x);
  int32_t unit;
  memcpy(&unit, x, UNIT);
  return (vf)dot_bytes((vi)sum, (vu8)weights, (vi8)(unit - (vi){0}));
}

// Scales and bias of one row's sums with one vector of outputs, and off they go.
INLINE void finish(const Product *p, enum kind kind, vf sum, long out, long row) {
  long left = (p->out - out) * 4;
  if (left <= 0) return;
  if (kind == INT8)
    sum = __builtin_convertvector((vi)sum, vf) * (load_part(p->scales + out, left) * p->x_scales[row]);
  if (p->bias) sum += load_part(p->bias + out, left);
  memcpy(p->result + row * p->out + out, &sum, MIN(BYTES, left));
}

// `groups` groups of outputs times `rows` rows of x. What lies at `ahead` is called into the cache meanwhile.
INLINE void tile(const Product *p, enum kind kind, int groups, int rows, long group, long row, const char *ahead) {
  const char *w = p->data + group * p->group_bytes;
  const char *x = p->x + (row / ROWS * p->units * ROWS + row % ROWS) * x_unit(kind);
  vf sums[ROWS][GROUPS * VECTORS];
  // Weights of 8 bits are 128 too large: the sum begins with what takes that off again.
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++)
      sums[j][i] = kind == INT8 ? (vf)(-128 * p->x_sums[row + j] - (vi){0}) : (vf){0};
  for (long k = 0; k < p->units; k++, w += OUTS * UNIT, x += ROWS * x_unit(kind)) {
    vf weights[GROUPS * VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++)
      weights[i] = load(w + i / VECTORS * p->group_bytes + i % VECTORS * BYTES);
    __builtin_prefetch(ahead + k * OUTS * UNIT);
#pragma GCC unroll 8
    for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
      for (int i = 0; i < groups * VECTORS; i++)
        sums[j][i] = add_products(kind, sums[j][i], weights[i], x + j * x_unit(kind));
  }
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int i = 0; i < groups * VECTORS; i++)
      finish(p, kind, sums[j][i], (group * VECTORS + i) * LANES, row + j);
}

// Some groups of outputs times all rows of x. These groups stay in a core's caches while the rows pass by, and each
// tile calls for another one of the groups that come next.
INLINE void column(const Product *p, enum kind kind, int groups, long group) {
  const char *next = p->data + (group + groups) * p->group_bytes;
  long row = 0;
  for (; row + ROWS <= p->n; row += ROWS)
    tile(p, kind, groups, ROWS, group, row, next + row / ROWS % groups * p->group_bytes);
  if (row + 4 <= p->n) tile(p, kind, groups, 4, group, row, next), row += 4;
  if (row + 2 <= p->n) tile(p, kind, groups, 2, group, row, next), row += 2;
  if (row < p->n) tile(p, kind, groups, 1, group, row, next);
}

INLINE void columns(const Product *p, enum kind kind, long group, long end) {
  for (; group + GROUPS <= end; group += GROUPS) column(p, kind, GROUPS, group);
  for (; group < end; group++) column(p, kind, 1, group);
}

static void piece(void *job, long index) {
  const Product *p = job;
  long group = index * p->piece_groups, end = MIN(group + p->piece_groups, (p->out + OUTS - 1) / OUTS);
  p->kind == INT8 ? columns(p, INT8, group, end) : columns(p, BF16, group, end);
}

enum { PIECE_BYTES = 262144 };  // of weights: enough to be worth a thread's while

// One argument that holds them all, since ctypes would take two microseconds to convert a dozen. Returns 0, or -1 if
// there is no memory.
int linear_packed(const void *arguments) {
  Product p;
  memcpy(&p, arguments, offsetof(Product, units));
  p.units = p.kind == BF16 ? (p.in + 1) / 2 : (p.in + 3) / 4;
  p.group_bytes = p.units * OUTS * UNIT;
  long x_bytes = ROUND_UP(p.n, ROWS) * p.units * x_unit(p.kind);
  p.x = aligned_alloc(BYTES, ROUND_UP(x_bytes + p.n * 8 + 1, BYTES));
  if (!p.x) return -1;
  p.x_scales = (float *)(p.x + x_bytes);
  p.x_sums = (int32_t *)(p.x_scales + p.n);
  int threads = p.n * p.in * p.out < 100000 ? 1 : p.threads;  // to wake the others takes microseconds
  in_parallel(p.n > 4 ? threads : 1, p.n, pack_row, &p);
  long groups = (p.out + OUTS - 1) / OUTS;
  p.piece_groups = ROUND_UP(MIN(PIECE_BYTES / p.group_bytes + 1, groups / (threads * 4L) + 1), GROUPS);
  in_parallel(threads, (groups + p.piece_groups - 1) / p.piece_groups, piece, &p);
  free(p.x);
  return 0;
}
