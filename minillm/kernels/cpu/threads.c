// Threads that share the pieces of a job. Why not OpenMP's: a loop of theirs ends when every thread has arrived, also
// those that had nothing to do. With 240 loops in a step, and a core that another program wants now and then, the one
// waits for the other's turn 240 times, and the step takes ten times as long. Here nobody waits for a thread that
// hasn't taken anything: who calls takes piece after piece, and the others help if they're awake.
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_THREADS = 256, SPINS = 4000 };

#define CLOSED 0xffffffffu  // no piece to be had

// Which job it is (upper half), and the next piece that nobody has taken (lower half). In one number, so that a thread
// that read about one job can't take a piece of the next by mistake.
static _Atomic uint64_t next = CLOSED;
static struct {
  Piece piece;
  void *job;
  long num;
  int threads;
} current;  // only changed while `next` is closed
static _Atomic long num_done;

static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER;  // whose job it is
static pthread_mutex_t asleep = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static _Atomic int num_asleep;
static int num_workers;

static void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Takes and does pieces until none is left.
static void work(int self) {
  for (;;) {
    uint64_t seen = atomic_load(&next);
    uint32_t index = (uint32_t)seen;
    // What is read here is of the job in `seen` if the exchange below succeeds, and not used if it fails.
    if (index == CLOSED || index >= current.num || self >= current.threads) return;
    Piece piece = current.piece;
    void *job = current.job;
    if (!atomic_compare_exchange_weak(&next, &seen, seen + 1)) continue;
    piece(job, index);
    atomic_fetch_add(&num_done, 1);
  }
}

static void *worker(void *self) {
  for (;;) {
    work((int)(intptr_t)self);
    uint64_t idle = atomic_load(&next);
    // The next job is mostly microseconds away, and to be woken takes longer.
    for (int i = 0; i < SPINS && atomic_load(&next) == idle; i++) pause_briefly();
    if (atomic_load(&next) != idle) continue;
    pthread_mutex_lock(&asleep);
    atomic_fetch_add(&num_asleep, 1);
    while (atomic_load(&next) == idle) pthread_cond_wait(&wake, &asleep);
    atomic_fetch_sub(&num_asleep, 1);
    pthread_mutex_unlock(&asleep);
  }
  return NULL;
}

// A forked process has none of its parent's threads, and locks that they may have held.
static void forget_threads(void) {
  num_workers = 0;
  atomic_store(&num_asleep, 0);
  atomic_store(&next, CLOSED);
  pthread_mutex_init(&caller, NULL);
  pthread_mutex_init(&asleep, NULL);
  pthread_cond_init(&wake, NULL);
}

static void start_workers(int num) {
  static int prepared;
  if (!prepared) prepared = !pthread_atfork(NULL, NULL, forget_threads);
  while (num_workers < num) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker, (void *)(intptr_t)(num_workers + 1))) return;  // fewer do as well
    pthread_detach(thread);
    num_workers++;
  }
}

void in_parallel(int threads, long num, Piece piece, void *job) {
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  // One piece, one thread, or somebody else's job is running: then this thread does it all.
  if (threads < 2 || num < 2 || num >= CLOSED || pthread_mutex_trylock(&caller)) {
    for (long i = 0; i < num; i++) piece(job, i);
    return;
  }
  start_workers(threads - 1);
  current.piece = piece, current.job = job, current.num = num, current.threads = threads;
  atomic_store(&num_done, 0);
  uint64_t id = (atomic_load(&next) >> 32) + 1;
  atomic_store(&next, id << 32);
  if (atomic_load(&num_asleep)) {
    pthread_mutex_lock(&asleep);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&asleep);
  }
  work(0);
  // Whoever still has a piece may have lost its core, so after a while this one is offered.
  for (int i = 0; atomic_load(&num_done) < num; i++) i < SPINS ? pause_briefly() : (void)sched_yield();
  atomic_store(&next, (id << 32) | CLOSED);
  pthread_mutex_unlock(&caller);
}
