// Threads that share the pieces of a job.
#pragma once

typedef void (*Piece)(void *job, long index);

// Calls piece(job, i) for every i from 0 to num - 1, on up to `threads` threads, in any order; returns when all are done.
void in_parallel(int threads, long num, Piece piece, void *job);
