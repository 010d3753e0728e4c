// Attention over keys and values that lie in blocks (PagedAttention, arXiv:2309.06180 §4.2), with a running softmax
// (FlashAttention, arXiv:2205.14135 §3.1), so that no score is kept longer than its tile.
//
// A query's keys are cut at fixed places: splits of SPLIT keys, tiles of KEYS. A split's result is computed from
// nothing, and the splits' results are merged in order. So they may be computed one after the other or in parallel,
// for a lone query or for one among hundreds, and the result is the same to the last bit.
#include "simd.h"
#include "threads.h"

enum { KEYS = 64, SPLIT = 256, QUERY_ROWS = 24 };

typedef struct {
  long heads, kv_heads, dim, block_size;
  char *keys, *values;  // [blocks, kv_heads, block_size, dim]
  int half;             // keys and values are bfloat16, not float32
  long padded;          // dim rounded up to whole vectors
  float *queries;       // [num_tokens, heads, padded]: turned, scaled
} Context;

// What is known of a query's attention after some of its keys: the largest score, the sum of 2^(score - largest), and
// the sum of the values, each times 2^(score - largest). In memory: largest, sum, values [padded].
typedef struct {
  float largest, sum, values[];
} State;

INLINE long state_bytes(const Context *c) { return sizeof(State) + c->padded * 4; }
INLINE State *state_at(const Context *c, char *states, long row) { return (State *)(states + row * state_bytes(c)); }

static void clear(const Context *c, char *states, long rows) {
  memset(states, 0, rows * state_bytes(c));
  for (long r = 0; r < rows; r++) state_at(c, states, r)->largest = -INFINITY;
}

INLINE float exp2_of(float x) { return exp2_fast(splat(x))[0]; }

static void merge(const Context *c, State *into, const State *from) {
  if (from->largest == -INFINITY) return;  // it saw no key
  float largest = from->largest > into->largest ? from->largest : into->largest;
  float keep = exp2_of(into->largest - largest), add = exp2_of(from->largest - largest);
  into->largest = largest;
  into->sum = into->sum * keep + from->sum * add;
  for (long d = 0; d < c->padded; d += LANES)
    store(into->values + d, fused(load(into->values + d), splat(keep), load(from->values + d) * splat(add)));
}

// ---- New tokens ----------------------------------------------------------------------------------------------------

// RoPE: dimension i turns together with i + dim / 2.
INLINE void rotate(float *to, const float *x, const float *cosines, const float *sines, long dim, float scale) {
  long half = dim / 2;
  for (long i = 0; i < half; i++) {
    to[i] = (x[i] * cosines[i] - x[i + half] * sines[i]) * scale;
    to[i + half] = (x[i + half] * cosines[i + half] + x[i] * sines[i + half]) * scale;
  }
}

INLINE long offset(const Context *c, long block, long head, long place) {
  return ((block * c->kv_heads + head) * c->block_size + place) * c->dim * (c->half ? 2 : 4);
}

static void write_slot(const Context *c, char *to, const float *from) {
  if (c->half)
    for (long i = 0; i < c->dim; i++) ((bf16 *)to)[i] = to_bf16(from[i]);
  else
    memcpy(to, from, c->dim * 4);
}

static void take_in(const Context *c, long token, const float *q, const float *k, const float *v,
                    const float *cosines, const float *sines, long slot) {
  // 2^x is cheaper than e^x, so log2(e) goes into the scale.
  float scale = 1.44269504f / sqrtf(c->dim), turned[c->dim];
  for (long h = 0; h < c->heads; h++)
    rotate(c->queries + (token * c->heads + h) * c->padded, q + h * c->dim, cosines, sines, c->dim, scale);
  if (slot < 0) return;
  for (long h = 0; h < c->kv_heads; h++) {
    long at = offset(c, slot / c->block_size, h, slot % c->block_size);
    rotate(turned, k + h * c->dim, cosines, sines, c->dim, 1);
    write_slot(c, c->keys + at, turned);
    write_slot(c, c->values + at, v + h * c->dim);
  }
}

// ---- A tile of keys ------------------------------------------------------------------------------------------------

// The last numbers of a row whose size is no multiple of a vector's, and zeros.
static void gather_end(const Context *c, float *to, const char *from) {
  for (long d = c->dim / LANES * LANES; d < c->padded; d++) {
    uint32_t bits = d >= c->dim ? 0 : c->half ? (uint32_t)((const bf16 *)from)[d] << 16 : ((const uint32_t *)from)[d];
    memcpy(to + d, &bits, 4);
  }
}

// Copies the keys (or values) of `count` tokens from their blocks to where they lie together as float32.
INLINE void gather(const Context *c, long padded, float *to, const char *cache, const int32_t *table, long head,
                   long first, long count, long seq_len) {
  long row_bytes = c->dim * (c->half ? 2 : 4), run;
  for (long t = first; t < first + count; t += run) {
    // The processor foresees reads within a block, but not where the next block lies: so the tile after this one is
    // called for early.
    long place = t % c->block_size, ahead = t + KEYS < seq_len ? t + KEYS : t;
    const char *from = cache + offset(c, table[t / c->block_size], head, place);
    const char *next = cache + offset(c, table[ahead / c->block_size], head, place);
    run = MIN(c->block_size - place, first + count - t);
    for (long i = 0; i < run; i++, to += padded, from += row_bytes, next += row_bytes) {
      for (long line = 0; line < row_bytes; line += 64) __builtin_prefetch(next + line);
      for (long d = 0; d + LANES <= c->dim; d += LANES)
        store(to + d, c->half ? widen_bf16((const bf16 *)from + d) : load((const float *)from + d));
      if (c->dim < padded) gather_end(c, to, from);
    }
  }
  memset(to, 0, (-count & (LANES - 1)) * padded * 4);  // the rest of the last vector of scores
}

// Scores of one query with LANES keys.
INLINE vf score(long padded, const float *query, const float *keys) {
  vf dots[LANES] = {0};
  for (long d = 0; d < padded; d += LANES) {
    vf q = load(query + d);
#pragma GCC unroll 16
    for (int t = 0; t < LANES; t++) dots[t] = fused(q, load(keys + t * padded + d), dots[t]);
  }
  return sum_each(dots);
}

// acc = acc * keep + the sum of count values, weighed. Four vectors' sums are independent, so they overlap.
INLINE void add_values(long padded, float *acc, float keep, const float *weights, const float *values, long count) {
  long d = 0;
  for (; d + 4 * LANES <= padded; d += 4 * LANES) {
    vf sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sums[i] = load(acc + d + i * LANES) * keep;
    for (long t = 0; t < count; t++)
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++)
        sums[i] = fused(splat(weights[t]), load(values + t * padded + d + i * LANES), sums[i]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) store(acc + d + i * LANES, sums[i]);
  }
  for (; d < padded; d += LANES) {
    vf sum = load(acc + d) * keep;
    for (long t = 0; t < count; t++) sum = fused(splat(weights[t]), load(values + t * padded + d), sum);
    store(acc + d, sum);
  }
}

// One query and the first `count` keys of a tile.
INLINE void attend_tile(long padded, State *state, const float *query, const float *keys, const float *values,
                        long count) {
  vf scores[KEYS / LANES], top = splat(state->largest), total = {0};
  float weights[KEYS];
  long vectors = (count + LANES - 1) / LANES;
  for (long n = 0; n < vectors; n++) {
    vf found = score(padded, query, keys + n * LANES * padded);
    scores[n] = choose((vi){FIRST} < (int)(count - n * LANES), found, splat(-INFINITY));
    top = larger(top, scores[n]);
  }
  float best = largest(top), keep = exp2_of(state->largest - best);
  for (long n = 0; n < vectors; n++) {
    vf weight = choose((vi){FIRST} < (int)(count - n * LANES), exp2_fast(scores[n] - best), (vf){0});
    store(weights + n * LANES, weight);
    total += weight;
  }
  state->largest = best;
  state->sum = state->sum * keep + sum(total);
  add_values(padded, state->values, keep, weights, values, count);
}

// Queries of one sequence that stand at positions first:first + num, in all heads that share a kv head.
typedef struct {
  const int32_t *table;
  long token, first, num, kv_head;
} Queries;

// The work item's queries; the last chunk of a sequence, which has the most keys to see, comes first.
static Queries queries_of(long item, long num, long chunks, long kv_heads, const int32_t *starts, const int32_t *lens,
                          const int32_t *tables, long table_stride) {
  long seq = item / (kv_heads * chunks), skip = (chunks - 1 - item / kv_heads % chunks) * num;
  long query_len = starts[seq + 1] - starts[seq];
  return (Queries){tables + seq * table_stride, starts[seq] + skip, lens[seq] - query_len + skip,
                   MIN(num, query_len - skip), item % kv_heads};
}

// Their attention to the keys of one split. `padded` is a constant where this is inlined.
INLINE void attend_split(const Context *c, long padded, const Queries *q, char *states, long split) {
  long group = c->heads / c->kv_heads, end = MIN((split + 1) * SPLIT, q->first + q->num);
  float keys[KEYS * padded], values[KEYS * padded];
  for (long begin = split * SPLIT; begin < end; begin += KEYS) {
    long count = MIN(KEYS, end - begin);
    gather(c, padded, keys, c->keys, q->table, q->kv_head, begin, count, q->first + q->num);
    gather(c, padded, values, c->values, q->table, q->kv_head, begin, count, q->first + q->num);
    for (long i = 0; i < q->num; i++) {
      long visible = MIN(count, q->first + i - begin + 1);
      const float *query = c->queries + ((q->token + i) * c->heads + q->kv_head * group) * padded;
      for (long h = 0; h < group && visible > 0; h++)
        attend_tile(padded, state_at(c, states, i * group + h), query + h * padded, keys, values, visible);
    }
  }
}

static void attend_split_64(const Context *c, const Queries *q, char *states, long split) {
  attend_split(c, 64, q, states, split);
}
static void attend_split_any(const Context *c, const Queries *q, char *states, long split) {
  attend_split(c, c->padded, q, states, split);
}

// Splits begin:end, one after the other, merged into `states`.
static void attend(const Context *c, const Queries *q, char *states, long begin, long end) {
  long rows = q->num * (c->heads / c->kv_heads);
  float part[rows * state_bytes(c) / 4];
  clear(c, states, rows);
  for (long split = begin; split < end && split * SPLIT < q->first + q->num; split++) {
    clear(c, (char *)part, rows);
    (c->padded == 64 ? attend_split_64 : attend_split_any)(c, q, (char *)part, split);
    for (long r = 0; r < rows; r++) merge(c, state_at(c, states, r), state_at(c, (char *)part, r));
  }
}

// Merges the states that `parts` calls of attend left behind each other, and writes the result.
static void write_result(const Context *c, const Queries *q, char *states, long parts, long part_bytes, float *out) {
  long group = c->heads / c->kv_heads;
  for (long i = 0; i < q->num; i++)
    for (long h = 0; h < group; h++) {
      State *total = state_at(c, states, i * group + h);
      for (long p = 1; p < parts; p++) merge(c, total, state_at(c, states + p * part_bytes, i * group + h));
      float *to = out + ((q->token + i) * c->heads + q->kv_head * group + h) * c->dim;
      for (long d = 0; d < c->dim; d++) to[d] = total->values[d] / total->sum;
    }
}

// ---- A batch -------------------------------------------------------------------------------------------------------

// A batch, and how its work is cut. An item is a few queries of a sequence and one kv head; where items are few, as a
// decode step's are, each is done in as many parts as it has splits.
typedef struct {
  Context c;
  const float *q, *k, *v, *cosines, *sines;
  long q_stride, k_stride, v_stride, num, chunks, parts, part_splits, part_bytes, table_stride;
  const int32_t *starts, *lens, *tables;
  const int64_t *slots;
  char *states;  // [items, parts, part_bytes]
  float *out;
} Batch;

static Queries item_queries(const Batch *b, long item) {
  return queries_of(item, b->num, b->chunks, b->c.kv_heads, b->starts, b->lens, b->tables, b->table_stride);
}

static void token_piece(void *job, long t) {
  const Batch *b = job;
  take_in(&b->c, t, b->q + t * b->q_stride, b->k + t * b->k_stride, b->v + t * b->v_stride, b->cosines + t * b->c.dim,
          b->sines + t * b->c.dim, b->slots[t]);
}

static void part_piece(void *job, long unit) {
  const Batch *b = job;
  Queries some = item_queries(b, unit / b->parts);
  long split = unit % b->parts * b->part_splits;
  if (some.num > 0) attend(&b->c, &some, b->states + unit * b->part_bytes, split, split + b->part_splits);
}

static void item_piece(void *job, long item) {
  const Batch *b = job;
  Queries some = item_queries(b, item);
  if (some.num > 0)
    write_result(&b->c, &some, b->states + item * b->parts * b->part_bytes, b->parts, b->part_bytes, b->out);
}

// q: [num_tokens, heads, dim], k and v: [num_tokens, kv_heads, dim], float32, heads contiguous, tokens *_stride numbers
// apart. cosines, sines: [num_tokens, dim]. The rest: see AttentionMetadata. Returns 0, or -1 if there is no memory.
int attention(long num_tokens, long num_seqs, long heads, long kv_heads, long dim, long block_size, long table_stride,
              const float *q, long q_stride, const float *k, long k_stride, const float *v, long v_stride,
              const float *cosines, const float *sines, char *keys, char *values, int half, const int32_t *starts,
              const int32_t *lens, const int32_t *tables, const int64_t *slots, long max_query_len, long max_seq_len,
              float *out, int threads) {
  Context c = {heads, kv_heads, dim, block_size, keys, values, half, ROUND_UP(dim, LANES), NULL};
  long group = heads / kv_heads, num = QUERY_ROWS / group ? QUERY_ROWS / group : 1;
  long chunks = (max_query_len + num - 1) / num, items = num_seqs * kv_heads * chunks;
  long parts = items < 8 * threads ? (max_seq_len + SPLIT - 1) / SPLIT : 1;
  long part_bytes = MIN(num, max_query_len) * group * state_bytes(&c);
  long query_bytes = num_tokens * heads * c.padded * 4;
  char *scratch = aligned_alloc(BYTES, ROUND_UP(query_bytes + items * parts * part_bytes, BYTES) + BYTES);
  if (!scratch) return -1;
  c.queries = (float *)scratch;
  memset(scratch, 0, query_bytes);
  Batch batch = {c,        q,        k,     v,      cosines, sines,  q_stride, k_stride,
                 v_stride, num,      chunks, parts, parts == 1 ? 1L << 40 : 1, part_bytes, table_stride,
                 starts,   lens,     tables, slots, scratch + query_bytes, out};
  // To wake the other threads takes microseconds, in which one alone gets through some thousands of keys.
  if (num_tokens * heads * max_seq_len * dim < 200000) threads = 1;
  in_parallel(threads, num_tokens, token_piece, &batch);
  in_parallel(threads, items * parts, part_piece, &batch);
  in_parallel(threads, items, item_piece, &batch);
  long end = starts[num_seqs];  // what's left are padding rows
  memset(out + end * heads * dim, 0, (num_tokens - end) * heads * dim * 4);
  free(scratch);
  return 0;
}
